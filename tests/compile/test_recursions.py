"""Compiled recursions: against kernels derived at the same size, and by hand in 40 digits where none was derived."""

import functools
import pickle
import re

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog import programs
from tensorprog.dsl.network import Network

RNG = np.random.default_rng(5)
X = RNG.normal(size=(12, 4))
X[1], X[3], X[5], X[7] = X[0], X[2] + 1e-9 * X[8], 2 * X[4], 0.5 * X[6] + 1e-4 * X[9]
NETS = {
    "relu": programs.mlp(),
    "bias": programs.mlp(sigma_w=1.3, sigma_b=0.2, sigma_v=0.7),
    "erf": programs.mlp(phi=tp.erf, sigma_w=1.3, sigma_b=0.2),
    "tanh": programs.mlp(phi=tp.tanh, sigma_b=0.2),
    "leaky": programs.mlp(phi=tp.leaky_relu(0.1), sigma_b=0.2),
    "residual": programs.residual_mlp(alpha=0.5),
    "tied": programs.tied_mlp(sigma_b=0.3, sigma_u=1.2),
    "without gradient independence": programs.mean_readout(phi=tp.erf),
}


def off(a, b):
    return np.abs(a / b - 1).max()


@functools.cache
def recursion(name):
    return tp.ntk(NETS[name]).recursion()


def at_depth(net, depth):
    return Network(net.fn, {**net.hyperparameters, "depth": depth}, net.name)


# ---- depth ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("depth", [3, 10])
@pytest.mark.parametrize("name", NETS)
def test_the_kernel_derived_at_this_depth(name, depth):
    R, K, x = recursion(name), tp.ntk(at_depth(NETS[name], depth)), X[:4] if name == "tanh" else X
    assert off(R.gram(x, depth=depth), K.gram(x)) < 1e-13
    assert off(R.gram(x[:3], x, L=depth), K.gram(x[:3], x)) < 1e-13


def test_several_recursions_in_one_pass():
    recursions = [tp.nngp(NETS["bias"]).recursion(), recursion("bias")]
    deep = tp.gram([r.at(depth=7) for r in recursions], X)
    own = tp.gram(recursions, X, X[:2])
    for k, kernel in enumerate((tp.nngp, tp.ntk)):
        assert off(deep[k], kernel(at_depth(NETS["bias"], 7)).gram(X)) < 1e-13
        assert off(own[k], kernel(NETS["bias"]).gram(X, X[:2])) < 1e-13


def relu_forms(q, r, c):
    root = mp.sqrt(q * r)
    angle = mp.acos(min(mp.mpf(1), c / root))
    return root * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi), (mp.pi - angle) / (2 * mp.pi)


def erf_forms(q, r, c):
    outer = (1 + 2 * q) * (1 + 2 * r)
    return 2 * mp.asin(2 * c / mp.sqrt(outer)) / mp.pi, 4 / (mp.pi * mp.sqrt(outer - 4 * c**2))


def by_hand(forms, x, y, depths, w2, b2, residual=None):
    """NNGP and NTK after each of ``depths`` layers; a ``residual`` branch has σ_w² α² = residual."""
    x, y = ([mp.mpf(float(s)) for s in z] for z in (x, y))
    q, r, c = (w2 * mp.fdot(s, t) / len(s) + b2 for s, t in ((x, x), (y, y), (x, y)))
    theta, found = c, {}
    for depth in range(1, max(depths) + 1):
        value, slope = forms(q, r, c)
        if depth in depths:
            found[depth] = float(value), float(value + slope * theta)
        scale, kept = (w2, 0) if residual is None else (residual, 1)
        theta = (kept + scale * slope) * theta + scale * value + b2
        q, r = (kept * s + scale * forms(s, s, s)[0] + b2 for s in (q, r))
        c = kept * c + scale * value + b2
    return found


@pytest.mark.parametrize("name, forms, w, b", [("relu", relu_forms, "1.4", "0.1"), ("erf", erf_forms, "1.3", "0.4")])
def test_mlps_of_200_and_1000_layers(name, forms, w, b):
    net = programs.mlp(phi=tp.NONLINEARITIES[name], sigma_w=float(w), sigma_b=float(b))
    nngp, ntk = tp.nngp(net).recursion(), tp.ntk(net).recursion()
    pairs = [(2, 3), (0, 8)]
    ours = {d: (nngp.gram(X, depth=d), ntk.gram(X, depth=d)) for d in (200, 1000)}
    with mp.workdps(40):
        for i, j in pairs:
            hand = by_hand(forms, X[i], X[j], ours, mp.mpf(w) ** 2, mp.mpf(b) ** 2)
            for depth, kernels in ours.items():
                for k, values in enumerate(kernels):
                    assert abs(values[i, j] / hand[depth][k] - 1) < 1e-10


def test_residual_networks_of_200_layers_keep_nearly_repeated_inputs():
    R = tp.ntk(programs.residual_mlp(sigma_w=1.1, alpha=0.3)).recursion()
    ours = R.gram(X, depth=200)
    with mp.workdps(40):
        for i, j in ((2, 3), (0, 8)):
            w2 = mp.mpf("1.21")
            hand = by_hand(relu_forms, X[i], X[j], [200], w2, 0, w2 * mp.mpf("0.09"))
            assert abs(ours[i, j] / hand[200][1] - 1) < 1e-12


def test_the_operations_grow_with_the_depth_only():
    R = recursion("residual")
    counts = [len(R.source(depth=depth).splitlines()) for depth in (10, 20, 30)]
    assert counts[2] - counts[1] == counts[1] - counts[0]


def test_nothing_is_derived_at_the_size_asked_for(monkeypatch):
    R = recursion("bias")
    traced = set()
    trace = Network.trace
    monkeypatch.setattr(Network, "trace", lambda net, *a: traced.add(net.hyperparameters["depth"]) or trace(net, *a))
    R.gram(X, depth=50)
    assert max(traced, default=0) < 10


# ---- the options of tp.gram ----------------------------------------------------------------------


def test_options_go_through(tmp_path):
    R = recursion("erf")
    whole = R.gram(X, depth=9)
    for options in ({"backend": "numpy"}, {"block": 5}, {"path": tmp_path / "k.npy", "block": 5}):
        assert off(R.gram(X, depth=9, **options), whole) < 1e-13
    single = R.gram(X, depth=9, dtype="float32")
    assert single.dtype == np.float32 and np.abs(single - whole).max() < 1e-6 * whole.max()
    out = np.empty((12, 12))
    assert R.gram(X, depth=9, out=out) is out and np.array_equal(out, whole)
    with pytest.raises(tp.DataError, match="journal"):
        R.gram(X, depth=8, path=tmp_path / "k.npy", block=5)


def test_symbols_get_values():
    w = sp.Symbol("w", positive=True)
    R = tp.ntk(programs.mlp(phi=tp.erf, sigma_w=w)).recursion()
    K = tp.ntk(programs.mlp(depth=6, phi=tp.erf, sigma_w=1.3))
    assert off(R.gram(X, depth=6, values={w: 1.3}), K.gram(X)) < 1e-13
    with pytest.raises(tp.DataError, match="no value for w"):
        R.gram(X, depth=6)


def test_torch_arrays():
    torch = pytest.importorskip("torch")
    R = recursion("bias")
    ours = R.gram(torch.tensor(X), depth=20)
    assert isinstance(ours, torch.Tensor) and off(ours.numpy(), R.gram(X, depth=20)) < 1e-13


def test_workers_fold_again():
    kernel = recursion("bias").at(depth=12)
    assert off(tp.gram(pickle.loads(pickle.dumps(kernel)), X), tp.gram(kernel, X)) < 1e-15


def test_a_lost_angle_is_computed_by_the_derived_kernel():
    R, K = (tp.nngp(programs.mlp(depth=depth, phi=tp.sign, sigma_b=0.1)) for depth in (3, 6))
    assert off(R.recursion().gram(X, depth=6), K.gram(X)) < 1e-13


# ---- sequences -----------------------------------------------------------------------------------

RNNS = [{}, {"sigma_b": 0.1, "sigma_w": 1.2}, {"phi": tp.erf}, {"sigma_h": 1}]
RNNS += [pytest.param({"layers": 2}, marks=pytest.mark.slow)]


def sequences(d, *lengths):
    return [RNG.normal(size=(t, d)) for t in lengths]


@pytest.mark.parametrize("kw", RNNS, ids=str)
def test_rnns_of_equal_and_different_lengths(kw):
    S = sequences(3, 5, 9, 9, 2, 12)
    S[2][:4] = S[1][:4] * (1 + 1e-9)
    K = tp.ntk(programs.rnn(**kw))
    R = K.recursion(over="lengths")
    for first, second in ((S[1:3], None), (S, None), (S[1:3], S[3:])):
        assert off(R.gram(first, second), K.gram(first, second)) < 1e-13


@pytest.mark.slow
def test_layers_and_lengths():
    S = sequences(3, 7, 9)
    R = tp.ntk(programs.rnn(phi=tp.erf)).recursion()
    for layers in (1, 3):
        assert off(R.gram(S, layers=layers), tp.ntk(programs.rnn(layers=layers, phi=tp.erf)).gram(S)) < 1e-13


def rnn_by_hand(x, y):
    """The RNTK of one relu layer for numbers (Alemohammad et al. 2021), T ≥ T'."""
    q = r = c = theta = mp.mpf(0)
    x, y = ([mp.mpf(float(s)) for s in z] for z in (x, y))
    for s in x[: len(x) - len(y)]:
        q = q / 2 + s * s
    for s, t in zip(x[len(x) - len(y) :], y, strict=True):
        value, slope = relu_forms(q, r, c) if q * r else (mp.mpf(0), mp.mpf(0))
        q, r, c = q / 2 + s * s, r / 2 + t * t, value + s * t
        theta = c + slope * theta
    value, slope = relu_forms(q, r, c)
    return float(value + slope * theta)


def test_series_of_1000_numbers():
    S = sequences(1, 1000, 1000, 970)
    S[1][:500] = S[0][:500] * 2
    ours = tp.ntk(programs.rnn()).recursion(over="lengths").gram(S)
    with mp.workdps(40):
        for i, j in ((0, 1), (0, 2)):
            assert abs(ours[i, j] / rnn_by_hand(S[i][:, 0], S[j][:, 0]) - 1) < 1e-10


def test_a_recursion_over_layers_keeps_its_lengths():
    R = tp.ntk(programs.rnn(phi=tp.erf)).recursion(over="layers")
    x = RNG.normal(size=(3, 3, 2))
    assert off(R.gram(x, layers=4), tp.ntk(programs.rnn(layers=4, phi=tp.erf)).gram(x)) < 1e-13
    with pytest.raises(tp.ProgramError, match=re.escape("the data have (9, 9)")):
        R.gram(RNG.normal(size=(3, 9, 2)))


# ---- text and errors -----------------------------------------------------------------------------


def test_the_source_of_a_depth_and_of_a_loop():
    assert recursion("relu").source(depth=40).count("relu_gap(") > 40
    loop = tp.nngp(programs.rnn()).recursion(over="lengths").source(lengths=(1000, 900))
    assert loop.count("## ") == 5 and "cosine(x[t], y[t])" in loop and "c0, c1" in loop
    assert len(loop.splitlines()) < 250 and loop.splitlines()[-1].startswith("return v")


def test_errors():
    R = recursion("relu")
    for given, message in (({"layers": 3}, "no size 'layers'"), ({"depth": 0}, "positive integer"),
                           ({"L": 2.5}, "positive integer")):  # fmt: skip
        with pytest.raises(tp.ProgramError, match=message):
            R.gram(X, **given)
    with pytest.raises(tp.DataError, match="shape"):
        R.gram(X[None, None])
    with pytest.raises(tp.DataError, match="feature dimension 4 and X2 3"):
        R.gram(X, X[:, :3])
    with pytest.raises(tp.DataError, match="leave out lengths"):
        R.source(lengths=(3, 3))
    with pytest.raises(tp.DataError, match="two positive integers"):
        tp.nngp(programs.rnn()).recursion(over="lengths").source(lengths=(3, 0))


def test_one_layer_is_the_first_of_many():
    """sign of a variance of its own: the fold holds from L = 1 on."""
    K = tp.nngp(programs.mlp(phi=tp.sign))
    np.testing.assert_allclose(
        K.recursion().gram(X, depth=1), tp.nngp(programs.mlp(phi=tp.sign, depth=1))(X), rtol=1e-13
    )
