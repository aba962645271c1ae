"""Smooth functions along rows of pairs: against independent quadrature, the reference evaluator, and at the edges."""

import numpy as np
import pytest
import sympy as sp
from scipy.integrate import quad
from scipy.special import expit

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile.coefficients import GROUP, series_of
from tensorprog.functions import Tanh, X
from tensorprog.grams.evaluator import Evaluator

RNG = np.random.default_rng(0)
SMOOTH = ["tanh", "sigmoid", "silu", "softplus"]
PHI = {"tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x))}
PHI["silu"], PHI["softplus"] = (lambda x: x * PHI["sigmoid"](x)), (lambda x: np.logaddexp(0, x))
SLOPE = {
    "tanh": lambda x: 1 - np.tanh(x) ** 2,
    "sigmoid": lambda x: PHI["sigmoid"](x) * PHI["sigmoid"](-x),
    "silu": lambda x: PHI["sigmoid"](x) * (1 + x * PHI["sigmoid"](-x)),
    "softplus": lambda x: PHI["sigmoid"](x),
}


def net(phi, depth=3, **kw):
    return programs.mlp(phi=tp.NONLINEARITIES[phi], depth=depth, **{"sigma_w": 1.3, "sigma_b": 0.2, **kw})


def both(phi, depth=3, **kw):
    return [tp.nngp(net(phi, depth, **kw)), tp.ntk(net(phi, depth, **kw))]


def mean(f, q1, q2, c):
    """E f(u)f(v) by a dense trapezoidal rule."""
    z = np.linspace(-9.5, 9.5, 301 if max(q1, q2) < 16 else 3001)
    w = np.exp(-(z**2) / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)
    rho = c / np.sqrt(q1 * q2) if q1 * q2 > 0 else 0.0
    second = np.sqrt(q2) * (rho * z[:, None] + np.sqrt(max(1 - rho * rho, 0.0)) * z)
    return float(w * f(np.sqrt(q1) * z) @ f(second) @ w)


def by_hand(phi, x, y, depth, w2, b2):
    """NNGP and NTK of one pair (Jacot et al. 2018, section 4; Lee et al. 2018, section 2)."""
    f, slope = PHI[phi], SLOPE[phi]
    q1, q2, c = (w2 * float(np.mean(a * b)) + b2 for a, b in ((x, x), (y, y), (x, y)))
    theta = c
    for last in [False] * (depth - 1) + [True]:
        scale, shift = (1.0, 0.0) if last else (w2, b2)
        v, d = mean(f, q1, q2, c), mean(slope, q1, q2, c)
        q1, q2, c = scale * mean(f, q1, q1, q1) + shift, scale * mean(f, q2, q2, q2) + shift, scale * v + shift
        theta = c + scale * d * theta
    return c, theta


@pytest.mark.parametrize("phi", SMOOTH)
def test_pairs_by_hand(phi):
    x = np.vstack([RNG.normal(size=(5, 6)), np.zeros((1, 6))])
    x[1] = x[0] + 1e-5 * x[2]
    ours = tp.gram(both(phi), x)
    for i, j in [(0, 0), (1, 0), (2, 1), (3, 2), (4, 0), (5, 3), (5, 5)]:
        for K, exact in zip(ours, by_hand(phi, x[i], x[j], 3, 1.69, 0.04), strict=True):
            assert abs(K[i, j] / exact - 1) < 1e-12


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("phi", SMOOTH)
def test_both_kernels_equal_the_reference(phi, backend):
    X, Y = RNG.normal(size=(60, 5)), RNG.normal(size=(23, 5))
    X[7], X[8], X[9], Y[3] = X[6], X[6] * (1 + 1e-9), -X[6], X[6]
    kernels = both(phi)
    for a, b in ((X, None), (X, Y)):
        for ours, kernel in zip(tp.gram(kernels, a, b, backend=backend), kernels, strict=True):
            want = kernel(a, b)
            assert np.abs(ours - want).max() < 3e-14 * np.abs(want).max()


@pytest.mark.parametrize("phi", ["tanh", "softplus"])
def test_inputs_of_all_scales(phi):
    X = RNG.normal(size=(40, 5)) * 10 ** RNG.uniform(-3, 1.4, size=(40, 1))
    kernels = both(phi, 2, sigma_b=0.1)
    size = [np.sqrt(np.outer(np.diag(K), np.diag(K))) for K in (k.gram(X) for k in kernels)]
    for ours, kernel, s in zip(tp.gram(kernels, X), kernels, size, strict=True):
        assert np.abs((ours - kernel(X)) / s).max() < 1e-12


@pytest.mark.parametrize("phi", ["tanh", "silu"])
def test_large_variances_by_hand(phi):
    """Where the series is too long for some pairs, which are computed otherwise."""
    x = np.random.default_rng(26).normal(size=(30, 6))
    x[1], x[2] = x[0] + 0.05 * x[3], -x[0] + 0.2 * x[4]
    ours = tp.gram(both(phi, 1, sigma_w=20.0), x)
    for i, j in [(1, 0), (2, 0), (5, 4), (9, 1)]:
        for K, exact in zip(ours, by_hand(phi, x[i], x[j], 1, 400.0, 0.04), strict=True):
            assert abs(K[i, j] - exact) < 1e-12 * np.sqrt(K[i, i] * K[j, j])


def test_blocks_and_threads_change_nothing_beyond_rounding(monkeypatch):
    X, kernels = RNG.normal(size=(400, 8)), both("tanh")
    whole = tp.gram(kernels, X)
    for other, bound in ((tp.gram(kernels, X, block=130), 5e-15), (tp.gram(kernels, X, X), 2e-14)):
        for a, b in zip(whole, other, strict=True):  # the diagonal of X with X is a sum of the series
            assert np.abs(a - b).max() <= bound * np.abs(a).max()
    numba = pytest.importorskip("numba")
    monkeypatch.setattr(numba, "get_num_threads", lambda: 3)
    for a, b in zip(whole, tp.gram(kernels, X), strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, a.T)


def test_single_precision():
    K, X = tp.ntk(net("tanh")), RNG.normal(size=(50, 20)).astype(np.float32)
    ours = K.gram(X, dtype=np.float32)
    assert ours.dtype == np.float32 and np.abs(ours - K(X)).max() < 1e-6 * np.abs(ours).max()


def test_the_machine_runs_them_and_shares_equal_tables():
    evaluator = Evaluator(both("tanh"), (None, None), {})
    assert evaluator.program.code is not None and len(evaluator.program.code.series) == 6
    q = RNG.uniform(1, 2, 33)
    found = series_of([(Tanh(X), Tanh(X), 0, 1), (Tanh(X), X * Tanh(X), 0, 1)], {0: q}, {1: q}, (0, 33), (0, 33))
    assert found.places[0, 0] == found.places[0, 1] and found.values.shape[1] == GROUP
    assert found.places[1, 0] != found.places[1, 1]


def test_user_declared_smooth_functions():
    bump = tp.declare("bump_for_rows", lambda x: sp.tanh(x) / 2 + x * sp.exp(-(x**2)), parity=-1)
    K, x = tp.nngp(programs.mlp(phi=bump, depth=2)), RNG.normal(size=(20, 4))
    assert np.abs(K.gram(x) - K(x)).max() < 1e-13


def test_sequences():
    K, x = tp.ntk(programs.rnn(phi=tp.tanh, sigma_b=0.3)), RNG.normal(size=(18, 9, 3))
    x[3], x[7] = x[4] + 1e-9, x[8]
    assert np.abs(K.gram(x) / K.gram(x, backend="numpy") - 1).max() < 1e-12
    ragged = [s[:t] for s, t in zip(x, RNG.integers(3, 10, size=18), strict=True)]
    assert np.abs(K.gram(ragged) - K(ragged)).max() < 1e-13 * K.gram(ragged).max()


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_large_variances_of_parallel_inputs(backend):
    """Θ(x, 2x) = E σ(u) σ(2u) + 2 q E σ'(u) σ'(2u), u ~ N(0, q): at q = 1e12 the angle that rounding leaves is felt."""
    x = np.array([0.16, -2.11])
    q = 1e12 * (x @ x) / 2
    slope = quad(lambda u: (expit(u) * expit(-u)) * (expit(2 * u) * expit(-2 * u)), -40, 40, points=[0], epsrel=1e-12)[
        0
    ]
    expected = 0.5 + 2 * q * slope / np.sqrt(2 * np.pi * q)  # E σ σ = 1/2 − O(q^(−1/2))
    K = tp.ntk(tp.programs.mlp(depth=1, phi=tp.sigmoid, sigma_w=1e6))
    assert K.gram(np.array([x, 2 * x]), backend=backend)[0, 1] == pytest.approx(expected, rel=1e-6)
