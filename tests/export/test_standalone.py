"""Standalone files give the numbers of their kernels where tensorprog cannot be imported."""

import ast
import pickle
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tests.gallery import BUILT, PLAIN, inputs_of
from tests.random_cases.generate import network

SHORT = ("deep_linear", "layer_norm_mlp", "mean_readout", "mlp", "residual_mlp", "rnn", "tied_autoencoder", "tied_mlp")
WITHOUT = ("batchnorm_mlp", "gru", "lstm")  # a batch; expectations over five and six variables
RUN = Path(__file__).with_name("run_files.py")


def one(X, i):
    return {k: v[i] for k, v in X.items()} if isinstance(X, dict) else X[i]


def data(net, count=3, lengths=(3, 5, 2)):
    """Inputs of a network, sequences of several lengths."""
    rng = np.random.default_rng(5)
    if net.form == "vectors":
        return rng.standard_normal((count, 4))
    if net.form == "sequences":
        return [rng.standard_normal((t, 4)) for t in lengths[:count]]
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


def gradient(f, x, step=1e-6):
    """Central differences."""
    found = np.zeros_like(x)
    for i in np.ndindex(x.shape):
        e = np.zeros_like(x)
        e[i] = step
        found[i] = (f(x + e) - f(x - e)) / (2 * step)
    return found


def defined(text, function):
    names = {}
    exec(compile(text, "<exported>", "exec"), names)
    return names[function]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "rnn", "tied_autoencoder", "cnn"])
def test_torch_is_differentiable_everywhere(name):
    torch = pytest.importorskip("torch")
    K = tp.ntk(BUILT[name])
    f, g = defined(K.source("numpy"), "ntk"), defined(K.source("torch"), "ntk")
    x, y = (np.array(one(data(BUILT[name], 2), i)) for i in (0, 1))
    at = torch.tensor(x, requires_grad=True)
    g(at, torch.tensor(y)).backward()
    np.testing.assert_allclose(at.grad.numpy(), gradient(lambda z: f(z, y), x), rtol=1e-6, atol=1e-8)
    for a, b in ((x, x), (x, -x), (0 * x, x), (0 * x, 0 * x)):  # equal, opposite and zero inputs
        at = torch.tensor(a, requires_grad=True)
        g(at, torch.tensor(b)).backward()
        assert torch.isfinite(at.grad).all()
    std = torch.tensor(1.0, dtype=torch.float64, requires_grad=True)
    value = g(torch.tensor(x), torch.tensor(y), sigma_v=std)
    value.backward()
    assert float(std.grad) == pytest.approx(2 * float(value.detach()), rel=1e-12)
    single = float(g(torch.tensor(x, dtype=torch.float32), torch.tensor(y, dtype=torch.float32)))
    assert single == pytest.approx(f(x, y), rel=5e-6)


@pytest.mark.slow
def test_jax_compiles_maps_and_differentiates():
    jax = pytest.importorskip("jax")
    K = tp.ntk(tp.programs.mlp(phi=tp.tanh, sigma_b=0.2))
    f = defined(K.source("numpy"), "ntk")
    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        g = defined(K.source("jax"), "ntk")
        X = np.random.default_rng(0).standard_normal((3, 4))
        rows = jax.jit(jax.vmap(g, (None, 0)))(jax.numpy.array(X[0]), jax.numpy.array(X))
        np.testing.assert_allclose(rows, [f(X[0], x) for x in X], rtol=1e-11)
        slope = jax.grad(g)(jax.numpy.array(X[0]), jax.numpy.array(X[1]))
        np.testing.assert_allclose(slope, gradient(lambda z: f(z, X[1]), X[0]), rtol=1e-6, atol=1e-8)
        assert np.isfinite(jax.grad(g)(jax.numpy.array(X[0]), jax.numpy.array(X[0]))).all()
    finally:
        jax.config.update("jax_enable_x64", before)


@pytest.mark.slow
@pytest.mark.parametrize("phi", sorted(set(tp.NONLINEARITIES) - {"exp", "step", "sign"}))
def test_every_nonlinearity(phi):
    K = tp.ntk(tp.programs.mlp(depth=2, phi=tp.NONLINEARITIES[phi], sigma_w=1, sigma_b=0.2))
    X = data(K.net)
    f = defined(K.source("numpy"), "ntk")
    np.testing.assert_allclose([[f(x, y) for y in X] for x in X], K(X), rtol=1e-12, atol=1e-14)


def test_hyperparameters_and_depth_are_arguments():
    sigma = sp.Symbol("sigma", positive=True)
    K = tp.ntk(tp.programs.mlp(sigma_w=sigma, sigma_b=0.3))
    f = defined(K.source("numpy"), "ntk")
    x, y = data(K.net, 2)
    deeper = tp.ntk(tp.programs.mlp(sigma_w=1.2, sigma_b=0.5, depth=6))
    assert f(x, y, sigma=1.2, sigma_b=0.5, depth=6) == pytest.approx(deeper(x[None], y[None])[0, 0], rel=1e-12)
    assert "sigma=2.0" in K.source("numpy", values={"sigma": 2})


@pytest.mark.parametrize("language", ["numpy", "torch", "jax"])
def test_variances_that_a_quadrature_cannot_do_are_refused(language):
    library = pytest.importorskip(language)
    array = {"numpy": np.asarray, "torch": getattr(library, "tensor", None)}.get(language)
    array = array or library.numpy.asarray
    K = tp.ntk(tp.programs.mlp(depth=1, phi=tp.tanh, sigma_w=1))
    f = defined(K.source(language), "ntk")
    x, y = data(K.net, 2)
    x, y = x * np.sqrt(15.9 / np.mean(x**2)), y * np.sqrt(3 / np.mean(y**2))
    rel = 2e-5 if language == "jax" else 1e-12
    assert float(f(array(x), array(y))) == pytest.approx(K(x[None], y[None])[0, 0], rel=rel)
    for a, b in ((1.1 * x, y), (y, 1.1 * x)):
        with pytest.raises(ValueError, match="a variance is above 16.0, where this quadrature has no digits"):
            f(array(a), array(b))
    if language == "jax":
        assert np.isnan(library.jit(f)(array(1.1 * x), array(y)))


def test_quadratures_between_kinks_take_any_variance():
    K = tp.ntk(tp.programs.mlp(depth=1, phi=tp.hard_tanh, sigma_w=1))
    f = defined(K.source("numpy"), "ntk")
    for scale in (1.0, 1e3):
        x, y = scale * data(K.net, 2)
        assert f(x, y) == pytest.approx(K(x[None], y[None])[0, 0], rel=1e-12)


def test_what_grows_has_the_digits_of_its_mass():
    @tp.network
    def grown(net, x):
        u = net.embed("U", x)
        return net.readout("R", tp.exp(u) * tp.tanh(u))

    K = tp.nngp(grown())
    f = defined(K.source("numpy"), "nngp")
    x, y = data(K.net, 2)
    x, y = x / np.sqrt(np.mean(x**2)), y / np.sqrt(np.mean(y**2))
    wanted = K(0.99 * x[None], 0.5 * y[None])[0, 0]
    assert f(0.99 * x, 0.5 * y) == pytest.approx(wanted, rel=1e-11)  # exp(u + v): twice the rate of one
    with pytest.raises(ValueError, match="a variance is above 1, "):
        f(1.01 * x, 0.5 * y)


def test_what_has_no_code_says_what_of_it():
    with pytest.raises(tp.NoRuleError, match="abstract and has no numbers"):
        tp.ntk(tp.programs.mlp(phi=tp.abstract("phi"))).source("numpy")
    with pytest.raises(tp.NoRuleError, match="computed by sampling"):
        tp.ntk(tp.programs.mlp(), method="sampling").source("numpy")
    with pytest.raises(tp.DataError, match="unknown language 'fortran'"):
        tp.ntk(tp.programs.mlp()).source("fortran")
    with pytest.raises(tp.DataError, match="leave out lengths"):
        tp.ntk(tp.programs.rnn()).source("numpy", lengths=(3, 3))

    @tp.network
    def three(net, x):
        u, v, w = (net.embed(k, x) for k in "UVW")
        return net.readout("R", tp.erf(u + tp.tanh(v + tp.tanh(w))))

    with pytest.raises(tp.NoRuleError, match="over . Gaussian variables"):
        tp.ntk(three()).source("numpy")


def compare(folder, language, nets):
    """Every pair of inputs of every network."""
    files, wanted = {}, {}
    for net in nets:
        for K in kernels_of(net):
            name = f"{net.name}_{K.kind}"
            if net.name in WITHOUT:
                with pytest.raises(tp.NoRuleError, match=f"{net.name} has no standalone code: "):
                    K.source(language)
                continue
            text = K.source(language)
            X = data(net, lengths=K.lengths[:1] * 3) if "this code is for sequences of" in text else data(net)
            pairs = [(one(X, i), one(X, j)) for i in range(len(pairs_of(X))) for j in range(len(pairs_of(X)))]
            files[name] = text, K.kind, pairs
            wanted[name] = K(X).ravel()
    for name, found in run(folder, language, files).items():
        np.testing.assert_allclose(found, wanted[name], rtol=1e-12, atol=1e-12 * abs(wanted[name]).max(), err_msg=name)


def pairs_of(X):
    return next(iter(X.values())) if isinstance(X, dict) else X


def kernels_of(net):
    return [tp.ntk(net)] + ([tp.nngp(net)] if net.name != "mean_readout" else [])


def test_networks_without_positions(tmp_path):
    compare(tmp_path, "numpy", [BUILT[n] for n in ("mlp", "tied_autoencoder", "two_branch")])


@pytest.mark.slow
@pytest.mark.parametrize("language", ["numpy", "torch", "jax"])
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


@pytest.mark.slow
def test_files_of_vectors_and_sequences_are_short_and_parse():
    for name in SHORT:
        text = tp.ntk(BUILT[name]).source("numpy")
        ast.parse(text)
        assert "tensorprog" not in text
        assert len(text.splitlines()) <= 95, name
        assert max(map(len, text.splitlines())) <= 140


def random_files(seeds):
    """The files of random networks and the numbers of their kernels, and what had no code."""
    files, wanted, refused = {}, {}, {}
    for seed in seeds:
        case = network(seed)
        net, X = case.network(), case.X
        if case.wild or len(X) < 2:
            continue
        K = tp.ntk(net, lengths=(len(X[0]), len(X[1]))) if net.form == "sequences" else tp.ntk(net)
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
    results = run(folder, "numpy", files)
    too_wide = {name for name, [found] in results.items() if isinstance(found, str) and "variance is above" in found}
    assert len(results) - len(too_wide) >= least
    for name, [found] in results.items():
        assert name in too_wide or abs(found - wanted[name]) <= 1e-11 * abs(wanted[name]) + 1e-13, (
            name,
            found,
            wanted[name],
        )
    assert all("has no standalone code:" in words for words in refused.values())


@pytest.mark.slow
def test_some_random_networks(tmp_path):
    check_random(tmp_path, range(15), 5)


@pytest.mark.slow
def test_many_random_networks(tmp_path):
    check_random(tmp_path, range(1000, 1300), 100)


def test_a_quadrature_at_a_constant_variance(tmp_path):
    """Θ of a network whose hidden layer reads only a bias holds E gelu'(u) at a number."""
    net = tp.network(
        lambda net, x: net.readout("V", tp.tanh(net.dense("W", tp.gelu(net.bias("b", std=1.3))) + net.embed("U", x)))
    )()
    X, K = np.random.default_rng(0).normal(size=(2, 3)), tp.ntk(net)
    [found] = run(tmp_path, "numpy", {"constant": (K.source("numpy"), "ntk", [(X[0], X[1])])})["constant"]
    assert found == pytest.approx(K(X[:1], X[1:]).item(), rel=1e-11)
