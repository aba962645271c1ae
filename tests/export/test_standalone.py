"""Standalone files give the numbers of their kernels where tensorprog cannot be imported."""

import ast
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import tensorprog as tp
from tests.gallery import BUILT, PLAIN, inputs_of
from tests.random_cases.generate import network

RUN = Path(__file__).with_name("run_files.py")


def one(X, i):
    return {k: v[i] for k, v in X.items()} if isinstance(X, dict) else X[i]


def data(net, count=3):
    """Inputs of a network, sequences of several lengths."""
    rng = np.random.default_rng(5)
    if net.form == "vectors":
        return rng.standard_normal((count, 4))
    if net.form == "sequences":
        return [rng.standard_normal((t, 4)) for t in (3, 5, 2)[:count]]
    return inputs_of(net, count)


def run(folder, language, files):
    """The numbers of {name: (text, function, pairs)}."""
    for name, (text, _, _) in files.items():
        (folder / f"{name}.py").write_text(text)
    given = {name: (function, pairs) for name, (_, function, pairs) in files.items()}
    (folder / "inputs.pickle").write_bytes(pickle.dumps(given))
    done = subprocess.run(
        [sys.executable, str(RUN), str(folder), language], capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return pickle.loads((folder / "results.pickle").read_bytes())


def compare(folder, language, nets):
    """Every pair of inputs of every network."""
    files, wanted = {}, {}
    for net in nets:
        X = data(net)
        for K in kernels_of(net):
            name = f"{net.name}_{K.kind}"
            pairs = [(one(X, i), one(X, j)) for i in range(len(pairs_of(X))) for j in range(len(pairs_of(X)))]
            files[name] = K.source(language), K.kind, pairs
            wanted[name] = K(X).ravel()
    for name, found in run(folder, language, files).items():
        np.testing.assert_allclose(found, wanted[name], rtol=1e-12, atol=1e-12 * abs(wanted[name]).max(), err_msg=name)


def pairs_of(X):
    return next(iter(X.values())) if isinstance(X, dict) else X


def kernels_of(net):
    return [tp.ntk(net)] + ([tp.nngp(net)] if net.name != "mean_readout" else [])


@pytest.mark.parametrize("language", ["numpy", pytest.param("torch"), pytest.param("jax", marks=pytest.mark.slow)])
def test_plain_networks_of_the_gallery(language, tmp_path):
    if language != "numpy":
        pytest.importorskip(language)
    compare(tmp_path, language, [BUILT[name] for name in PLAIN])


@pytest.mark.slow
@pytest.mark.parametrize("language", ["numpy", "torch", "jax"])
def test_networks_of_the_gallery_over_positions(language, tmp_path):
    if language != "numpy":
        pytest.importorskip(language)
    compare(tmp_path, language, [net for name, net in BUILT.items() if name not in PLAIN])


def test_a_network_over_positions(tmp_path):
    compare(tmp_path, "numpy", [BUILT["cnn"]])


def test_files_of_vectors_and_sequences_are_short_and_parse():
    for name in PLAIN:
        text = tp.ntk(BUILT[name]).source("numpy")
        ast.parse(text)
        assert "tensorprog" not in text
        assert len(text.splitlines()) <= 90, name
        assert max(map(len, text.splitlines())) <= 140


def random_files(seeds):
    """The files of random networks and the numbers of their kernels, and what had no code."""
    files, wanted, refused = {}, {}, {}
    for seed in seeds:
        case = network(seed)
        net, X = case.network(), case.X
        if case.wild or len(X) < 2:
            continue
        K = tp.ntk(net)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                number = K(X[:1], X[1:2], values=case.symbols)[0, 0]
        except (tp.AccuracyWarning, tp.TensorProgramError):
            continue  # an estimate, or infinite
        try:
            text = K.source("numpy", values=case.symbols)
        except tp.NoRuleError as error:
            refused[seed] = str(error)
            continue
        files[f"case{seed}"], wanted[f"case{seed}"] = (text, "ntk", [(X[0], X[1])]), number
    return files, wanted, refused


def check_random(folder, seeds, least):
    files, wanted, refused = random_files(seeds)
    assert len(files) >= least, refused
    for name, [found] in run(folder, "numpy", files).items():
        assert abs(found - wanted[name]) <= 1e-11 * abs(wanted[name]) + 1e-13, (name, found, wanted[name])
    assert all("has no standalone code:" in words for words in refused.values())


def test_random_networks(tmp_path):
    check_random(tmp_path, range(15), 5)


@pytest.mark.slow
def test_many_random_networks(tmp_path):
    check_random(tmp_path, range(1000, 1300), 100)
