"""Variables that are integrated in closed form before anything else: against sums over many nodes."""

import itertools

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.expectations.many.integrated import SMOOTH
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Erf, Exp, Relu, Step, Tanh, evaluate

a, b, c, d = sp.symbols("a b c d", real=True)
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(180)
WEIGHTS = WEIGHTS / np.sqrt(2 * np.pi)
CELLS = np.polynomial.legendre.leggauss(16)


def panels(kinks, reach=12.0):
    """Nodes and normal weights between the kinks."""
    cuts = sorted({-reach, reach, *(k for k in kinks if abs(k) < reach), *np.linspace(-reach, reach, 25)})
    x = [(hi - lo) / 2 * CELLS[0] + (hi + lo) / 2 for lo, hi in itertools.pairwise(cuts)]
    w = [(hi - lo) / 2 * CELLS[1] for lo, hi in itertools.pairwise(cuts)]
    x, w = np.concatenate(x), np.concatenate(w)
    return x, w * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


@pytest.mark.parametrize("key", SMOOTH, ids=lambda key: f"{key[0].__name__}^{key[1]}")
@pytest.mark.parametrize("slope, mean", [(1, 0.0), (-sp.Rational(3, 2), 0.7)])
def test_noise_of_its_own_smooths_a_function(key, slope, mean):
    """E φ(relu(a) + k c + ¼)^p tanh(b) with c ~ N(mean, 2) independent of a and b."""
    cls, power = key
    body = cls(Relu(a) + slope * c + sp.Rational(1, 4)) ** power * Tanh(b + 1)
    cov = [[1.5, 0.6, 0], [0.6, 1.0, 0], [0, 0, 2.0]]
    found = expectation(body, (a, b, c), cov, [0.2, -0.1, mean])
    x, wx = panels([-0.2 / np.sqrt(1.5)])
    u = np.sqrt(1.5) * x + 0.2
    center, size = np.maximum(u, 0) + float(slope) * mean + 0.25, float(abs(slope)) * np.sqrt(2)
    inner = np.array([np.dot(w, evaluate(cls(a) ** power, {a: m + size * z})) for m, (z, w) in
                      ((m, panels([-m / size])) for m in center)])  # fmt: skip
    outer = evaluate(Tanh(b + 1), {b: -0.1 + 0.4 * (u - 0.2)[:, None] + np.sqrt(1 - 0.24) * NODES}) @ WEIGHTS
    want = np.dot(wx, inner * outer)
    assert abs(float(found.value) - want) < 1e-11
    assert abs(float(found.value) - want) <= float(found.error) + 1e-13
    assert "Sobol" not in found.method


@pytest.mark.parametrize("gap", [1e-15, 1e-9, 1e-3, 0.3, 1.9])
def test_exponents_shift_the_mean(gap):
    """E relu(a) relu(b) e^(2c) = e² E relu(a + 2 Cov(a, c)) relu(b + 2 Cov(b, c)), whatever ρ of a and b."""
    rho = 1 - gap
    cov = [[1.0, rho, 0.3], [rho, 1.0, 0.3 * rho], [0.3, 0.3 * rho, 1.0]]
    found = expectation(Relu(a) * Relu(b) * Exp(2 * c), (a, b, c), cov)
    shifted = expectation(Relu(a) * Relu(b), (a, b), [r[:2] for r in cov[:2]], [0.6, 0.6 * rho])
    assert abs(float(found.value) / (np.e**2 * float(shifted.value)) - 1) < 1e-13


def test_sums_arrays_and_symbols_pass_through():
    k = sp.Symbol("k")
    body = Step(Relu(a) + c) * Step(Relu(b) + d) + k * Erf(a * b) * Exp(k * c - d)
    variances, ks = np.array([[0.5], [2.0]]), np.array([0.0, 0.5, -1.0])
    cov = [[1.0, 0.5, 0, 0], [0.5, variances, 0, 0], [0, 0, 1.0, 0], [0, 0, 0, 1.0]]
    found = expectation(body, (a, b, c, d), cov, scalars={k: ks})
    assert found.value.shape == (2, 3)
    for i, q in enumerate(variances[:, 0]):
        for j, number in enumerate(ks):
            one = [[float(np.broadcast_to(e, (2, 1))[i, 0]) for e in row] for row in cov]
            single = expectation(body.subs(k, sp.Float(number)), (a, b, c, d), one).value
            assert abs(found.value[i, j] - float(single)) < 1e-12
        assert q > 0


def test_exponents_beyond_floating_point_numbers_are_left_alone():
    found = expectation(Step(a) * Step(b) * Exp(-(30**2) + 30 * c), (a, b, c), np.eye(3) + 0.1 - 0.1 * np.eye(3))
    assert np.isfinite(found.value)


@pytest.mark.slow
def test_a_state_added_behind_a_kink_is_exact_in_kernels():
    """relu(relu(u) + m): E over each input's own m is r(u) = relu(u) Φ(relu(u)) + φ(relu(u))."""

    @tp.network
    def net(net, x):
        return net.readout("V", tp.relu(tp.relu(net.embed("U", x)) + net.state("m")))

    X = np.random.default_rng(0).standard_normal((3, 4))
    K = tp.nngp(net())
    S = X @ X.T / 4
    r = Relu(a) * (1 + Erf(Relu(a) / sp.sqrt(2))) / 2 + Exp(-(Relu(a) ** 2) / 2) / sp.sqrt(2 * sp.pi)
    want = np.array([[float(expectation(r * r.subs(a, b), (a, b), [[S[i, i], S[i, j]], [S[i, j], S[j, j]]]).value)
                      for j in range(3)] for i in range(3)])  # fmt: skip
    off = ~np.eye(3, dtype=bool)
    for found in (K(X), K.gram(X), K.gram(X, backend="numpy")):
        assert np.abs(found - want)[off].max() < 1e-11
    assert K.account(X).error.max() < 1e-10
