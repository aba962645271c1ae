"""One writer a file: two real processes, one of which waits or dies, never leave a file that claims what it lacks."""

import json
import os
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.runs import collect
from tensorprog.ir.instructions import MatMul
from tensorprog.locks import alone

X = np.random.default_rng(0).normal(size=(40, 6))
BEGIN = """
import sys, numpy as np, tensorprog as tp
from tensorprog import programs
from tensorprog.finite import runs
from tensorprog.ir.instructions import MatMul
from tensorprog.derivation.data import read_inputs
from tensorprog.grams import blocks, compute

def wait():
    print("there", flush=True)
    sys.stdin.readline()

X = np.random.default_rng(0).normal(size=(40, 6))
K, path = tp.ntk(programs.mlp(depth=2, sigma_b=0.1)), sys.argv[1]
"""
GRAM = """
original = {where}
def slow(*args, **kw):
    wait()
    return original(*args, **kw)
{where} = slow
K.gram(X, block=16, path=path, backend="numpy")
"""
# before the journal is begun, before the file is created, before the first block is noted
PLACES = ["blocks.Journal.begin", "compute.store_at", "blocks.Journal.add"]
RUNS = """
from pathlib import Path
net = runs.FiniteNetwork.of(programs.mlp(depth=2), read_inputs([[1.0, 0.5]], "X", "vectors"))
gvars = [v for v, op in net.program if isinstance(op, MatMul)]
original = runs._run
def slow(*args):
    wait()
    return original(*args)
runs._run = slow
runs.collect(net, gvars, [8, 16], 4, {"network": "mlp"}, Path(path))
"""


def started(code, path):
    """A process that has come to the place where it waits."""
    process = subprocess.Popen([sys.executable, "-c", BEGIN + textwrap.dedent(code), str(path)], text=True,
                               stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)  # fmt: skip
    assert process.stdout.readline() == "there\n", process.stderr.read()
    return process


def killed(process):
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize("place", PLACES)
def test_a_gram_matrix_that_another_process_writes_is_refused_until_that_dies(tmp_path, place):
    path, kernel = tmp_path / "k.npy", tp.ntk(programs.mlp(depth=2, sigma_b=0.1))
    call = lambda **kw: kernel.gram(X, block=16, backend="numpy", **kw)  # noqa: E731
    other = started(GRAM.format(where=place), path)
    try:
        with pytest.raises(tp.ComputeError, match=r"another computation is writing .*k\.npy\.journal: wait"):
            call(path=path)
    finally:
        killed(other)
    found = call(path=path)  # what a dead process held is free
    assert np.array_equal(found, call())
    rows = (tmp_path / "k.npy.journal").read_text().splitlines()[1:]
    assert len(rows) == 6 and np.array_equal(np.load(path), found)
    assert {p.name for p in tmp_path.iterdir()} == {"k.npy", "k.npy.journal"}


def test_a_process_that_finishes_leaves_the_file_to_the_next(tmp_path):
    path = tmp_path / "k.npy"
    other = started(GRAM.format(where="compute.store_at"), path)
    other.communicate("\n")
    assert other.returncode == 0
    kernel = tp.ntk(programs.mlp(depth=2, sigma_b=0.1))
    assert np.array_equal(kernel.gram(X, block=16, path=path, backend="numpy"), np.load(path))


def test_runs_that_another_process_writes_are_refused_until_that_dies(tmp_path):
    path = tmp_path / "runs.jsonl"
    net = FiniteNetwork.of(programs.mlp(depth=2), read_inputs([[1.0, 0.5]], "X", "vectors"))
    gvars = [v for v, op in net.program if isinstance(op, MatMul)]
    other = started(RUNS, path)
    call = lambda: collect(net, gvars, [8, 16], 4, {"network": "mlp"}, path)  # noqa: E731
    try:
        with pytest.raises(tp.ComputeError, match=r"another computation is writing .*runs\.jsonl: wait"):
            call()
    finally:
        killed(other)
    call()
    rows = [json.loads(line) for line in path.read_text().splitlines()[1:]]
    assert len({(r["width"], r["seed"]) for r in rows}) == len(rows) == 8


def test_a_lock_is_held_against_the_same_process_and_leaves_no_empty_file(tmp_path):
    path = tmp_path / "here"
    with alone(path):
        with pytest.raises(tp.ComputeError, match="another computation"), alone(path):
            pass
        assert path.exists()
    assert not path.exists()
    with alone(path):
        path.write_text("kept")
    assert path.read_text() == "kept"


def test_a_file_removed_while_it_was_opened_is_made_again(tmp_path, monkeypatch):
    import fcntl

    path, lock, calls = tmp_path / "here", fcntl.flock, []

    def removed(handle, how):
        lock(handle, how)
        if not calls:
            os.unlink(path)
        calls.append(how)

    monkeypatch.setattr(fcntl, "flock", removed)
    with alone(path):
        assert path.exists() and len(calls) == 2


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    import fcntl

    def refused(handle, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refused)
    with pytest.warns(UserWarning, match="cannot be locked on this file system"), alone(tmp_path / "here"):
        pass
