"""Derivatives by hyperparameters of nearly parallel inputs, against recursions of 100 digits by complex steps."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.learn.derivatives import gram_with_gradient

W, B, V = BY = sp.symbols("w b v", positive=True)
VALUES = {W: 1.3, B: 0.4, V: 1.1}
STEP = mp.mpf(10) ** -40
x, shift, other = np.random.default_rng(0).normal(size=(3, 4))
X = np.stack([x, *(x + e * shift for e in (1e-3, 1e-6, 1e-9, 1e-12)), x, 2 * x, -x, 0 * x, other])


# ---- the recursion -------------------------------------------------------------------------------


def angle(q1, q2, c):
    """θ; 0 and π where ρ is ±1 to all digits, None at zero variance."""
    if not (q1 and q2):
        return None
    rho = c / mp.sqrt(q1 * q2)
    if abs(1 - abs(mp.re(rho))) < mp.mpf(10) ** -80:
        return mp.mpf(0) if mp.re(rho) > 0 else +mp.pi
    return 2 * mp.asin(mp.sqrt((1 - rho) / 2)) if mp.re(rho) > 0 else mp.acos(rho)


def relu(q1, q2, c):
    """E φ(u)φ(v) and E φ'(u)φ'(v)."""
    t = angle(q1, q2, c)
    if t is None:
        return mp.mpf(0), mp.mpf(0)
    return mp.sqrt(q1 * q2) * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi), (mp.pi - t) / (2 * mp.pi)


def erf(q1, q2, c):
    d = (1 + 2 * q1) * (1 + 2 * q2)
    return 2 / mp.pi * mp.asin(2 * c / mp.sqrt(d)), 4 / mp.pi / mp.sqrt(d - 4 * c * c)


def step(q1, q2, c):
    t = angle(q1, q2, c)
    return (mp.mpf(0) if t is None else (mp.pi - t) / (2 * mp.pi)), mp.nan


FUNCTIONS = {"relu": (tp.relu, relu), "erf": (tp.erf, erf), "step": (tp.step, step)}


def kernels(layers, x, y, w, b, v):
    """NNGP and NTK of h¹ = U ξ + b, h^l = W φ(h^{l−1}) + b, f = V·φ(h^L)."""
    xx, xy, yy = (sum(mp.mpf(float(s)) * mp.mpf(float(t)) for s, t in zip(p, q, strict=True)) / len(x)
                  for p, q in ((x, x), (x, y), (y, y)))  # fmt: skip
    q1, c, q2 = (w * w * k + b * b for k in (xx, xy, yy))
    ntk = c
    for l, name in enumerate(layers, 1):
        phi, (std, bias) = FUNCTIONS[name][1], (v, 0) if l == len(layers) else (w, b)
        (e, slope), own1, own2 = phi(q1, q2, c), phi(q1, q1, q1)[0], phi(q2, q2, q2)[0]
        q1, c, q2 = (std * std * k + bias * bias for k in (own1, e, own2))
        ntk = c + std * std * slope * ntk
    return c, ntk


def reference(layers, kind, x, y, values):
    """The derivatives of a kernel."""
    found = []
    for k in range(len(values)):
        moved = [mp.mpc(a, STEP) if i == k else mp.mpf(a) for i, a in enumerate(values)]
        found.append(mp.im(kernels(layers, x, y, *moved)[kind == "ntk"]) / STEP)
    return found


@tp.network
def layered(net, x, *, layers, w, b, v):
    h = net.embed("U", x, std=w) + net.bias(("b", 1), std=b)
    for l, phi in enumerate(layers[:-1], 2):
        h = net.dense(("W", l), phi(h), std=w) + net.bias(("b", l), std=b)
    return net.readout("V", layers[-1](h), std=v)


def check(layers, kind, biases, tolerance):
    """Every derivative of K(x, ·), relative to itself; values equal K(X) to the last bit."""
    by = BY if biases else (W, V)
    values = VALUES if biases else {W: 1.3, V: 1.1}
    net = layered(layers=tuple(FUNCTIONS[name][0] for name in layers), w=W, b=B if biases else 0, v=V)
    K = getattr(tp, kind)(net)
    value, gradient = gram_with_gradient(K, X, by, values)
    assert np.array_equal(value, K(X, values=values))
    with mp.workdps(100):
        for y, row in zip(X, gradient[0], strict=True):
            expected = reference(layers, kind, X[0], y, [values.get(s, 0.0) for s in BY])
            for s, mine in zip(by, row, strict=True):
                right = expected[BY.index(s)]
                assert abs(mp.mpf(float(mine)) - right) <= tolerance * abs(right) + mp.mpf(10) ** -60, (s, y)


@pytest.mark.parametrize("biases", [True, False])
@pytest.mark.parametrize("depth", [1, 3, 10])
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
@pytest.mark.parametrize("phi", ["relu", "erf"])
def test_gradients_of_nearly_parallel_inputs(phi, kind, depth, biases):
    check([phi] * depth, kind, biases, 1e-13)


@pytest.mark.parametrize("layers", [["step"] * 3, ["relu", "step"], ["step", "step", "relu"], ["erf", "erf", "step"]])
def test_gradients_of_nearly_parallel_inputs_through_jumps(layers):
    check(layers, "nngp", True, 2e-11)


def test_gradients_through_smooth_and_kinked_layers():
    check(["erf", "relu", "erf", "relu"], "ntk", True, 1e-13)


def test_gradients_of_repeated_inputs_without_known_structure():
    """Two matrices, one the transpose of the other: angles come from covariances, and noise has no derivative."""
    K = tp.ntk(tp.programs.GALLERY["tied_autoencoder"](phi=tp.relu, sigma_w=W, sigma_u=B, sigma_v=V))
    _, gradient = gram_with_gradient(K, X[:6], BY, VALUES)
    np.testing.assert_allclose(gradient[0, 4:6], gradient[[0, 0], 0], rtol=1e-11)


def test_gradients_of_repeated_inputs_between_jumps():
    """φ' of hard tanh jumps at ±1, and so do both variables, together; K(x, x') − K(x, x) is of order |x − x'|."""
    K = tp.ntk(tp.programs.mlp(depth=2, phi=tp.NONLINEARITIES["hard_tanh"], sigma_w=W, sigma_b=B, sigma_v=V))
    _, gradient = gram_with_gradient(K, 3 * X[:6], BY, VALUES)
    np.testing.assert_allclose(gradient[0, 3:6], gradient[[0, 0, 0], 0], rtol=3e-8)
    np.testing.assert_allclose(gradient[0, 4:6], gradient[[0, 0], 0], rtol=1e-9)


@pytest.mark.parametrize("phi", [tp.relu, tp.step, tp.erf])
def test_a_bias_of_zero_is_an_extreme(phi):
    K = tp.nngp(tp.programs.mlp(depth=2, phi=phi, sigma_w=W, sigma_b=B, sigma_v=V))
    _, gradient = gram_with_gradient(K, X, BY, VALUES | {B: 0.0})
    assert np.isfinite(gradient).all() and not gradient[..., 1].any()


def test_the_ntk_of_a_jump_is_refused():
    with pytest.raises(tp.DataError, match="infinite"):
        gram_with_gradient(tp.ntk(tp.programs.mlp(depth=2, phi=tp.step, sigma_w=W)), X, [W], {W: VALUES[W]})
