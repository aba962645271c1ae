"""Derivatives of kernels by their hyperparameters: against formulas and Richardson extrapolation of differences."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.functions import Abs, Erf, Relu, Step
from tensorprog.learn.derivatives import degree, diagonal, gram_with_gradient

W, B, V = BY = sp.symbols("w b v", positive=True)
VALUES = {W: 1.3, B: 0.4, V: 1.1}
X = np.random.default_rng(0).normal(size=(4, 3))
SPECIAL = np.concatenate([X, X[:1], -X[1:2], 2 * X[2:3], np.zeros((1, 3))])  # |ρ| = 1 and zero variance at sigma_b = 0
SEQUENCES = [np.random.default_rng(t).normal(size=(t, 2)) for t in (2, 3, 3, 1)]
GALLERY = tp.programs.GALLERY


def differences(K, X, values, by):
    """Central differences at three steps, extrapolated to error h⁶."""

    def at(s, h):
        return (K(X, values=values | {s: values[s] + h}) - K(X, values=values | {s: values[s] - h})) / (2 * h)

    def extrapolated(s):
        a, b, c = (at(s, values[s] * h) for h in (1e-3, 5e-4, 2.5e-4))
        first, second = (4 * b - a) / 3, (4 * c - b) / 3
        return (16 * second - first) / 15

    return np.stack([extrapolated(s) for s in by], axis=-1)


def compare(K, X, values=VALUES, by=BY, tolerance=1e-9):
    value, gradient = gram_with_gradient(K, X, by, values)
    assert np.array_equal(value, K(X, values=values))
    expected = differences(K, X, values, by)
    assert np.abs(gradient).max() > 0.1
    np.testing.assert_allclose(gradient, expected, rtol=0, atol=tolerance * np.abs(expected).max())
    assert np.array_equal(gradient, np.swapaxes(gradient, 0, 1))


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
@pytest.mark.parametrize("phi", ["relu", "abs", "leaky_relu", "erf", "gelu", "sin"])
def test_gradients_equal_differences(phi, kernel):
    net = GALLERY["mlp"](depth=2, phi=tp.NONLINEARITIES[phi], sigma_w=W, sigma_b=B, sigma_v=V)
    compare(kernel(net), SPECIAL)


def test_gradients_by_quadrature():
    compare(tp.nngp(GALLERY["mlp"](depth=1, phi=tp.tanh, sigma_w=W, sigma_b=B, sigma_v=V)), X)


@pytest.mark.parametrize("phi", [tp.step, tp.sign])
def test_gradients_of_jumps(phi):
    compare(tp.nngp(GALLERY["mlp"](depth=2, phi=phi, sigma_w=W, sigma_b=B, sigma_v=V)), SPECIAL)


def test_gradients_without_biases_where_a_variance_is_zero():
    net = GALLERY["mlp"](depth=3, sigma_w=W, sigma_v=V)
    compare(tp.ntk(net), SPECIAL, {W: 1.3, V: 1.1}, (W, V))
    _, gradient = gram_with_gradient(tp.ntk(net), SPECIAL, (W, V), {W: VALUES[W], V: VALUES[V]})
    assert not gradient[-1].any() and not gradient[:, -1].any()


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
@pytest.mark.parametrize("phi", [tp.relu, tp.erf])
def test_gradients_for_ragged_sequences(phi, kernel):
    h = sp.Symbol("h", positive=True)
    net = GALLERY["rnn"](phi=phi, sigma_w=W, sigma_u=1.2, sigma_b=B, sigma_h=h, sigma_v=V)
    compare(kernel(net), SEQUENCES, VALUES | {h: 0.7}, (*BY, h))


def test_gradients_where_scalars_and_nested_functions_occur():
    compare(tp.ntk(GALLERY["tied_autoencoder"](phi=tp.relu, sigma_w=W, sigma_u=B, sigma_v=V)), X[:2])
    compare(tp.ntk(GALLERY["residual_mlp"](sigma_w=W, alpha=B, sigma_v=V)), X)
    compare(tp.ntk(GALLERY["mean_readout"](phi=tp.tanh, sigma_w=W)), X[:2], {W: 1.3}, (W,))


@tp.network
def normalised(net, x, *, sigma_w, sigma_b):
    """A function of a scalar of the limit, and a kink away from 0."""
    h = net.embed("U", x, std=sigma_w) + net.bias("b", std=sigma_b)
    s = tp.moment(lambda a: a**2, h)
    y = tp.nonlin(lambda a, m: a / sp.sqrt(m + 1), h, params=[s])
    g = net.dense("W", tp.nonlin(lambda a: sp.Max(a - 1, 0), y), std=sigma_w)
    return net.readout("V", tp.erf(g))


def test_gradients_through_moments_and_shifted_kinks():
    compare(tp.nngp(normalised(sigma_w=W, sigma_b=B)), X, {W: VALUES[W], B: VALUES[B]}, (W, B), 1e-8)


def test_the_arccosine_kernel_by_hand():
    """K = w²/(2π) √(q q') (sin θ + (π − θ) cos θ) with q = w²|x|²/d: K ∝ w², without biases."""
    K = tp.nngp(GALLERY["mlp"](depth=1, sigma_w=W))
    value, gradient = gram_with_gradient(K, X, [W], {W: 1.7})
    np.testing.assert_allclose(gradient[..., 0], 2 * value / 1.7, rtol=1e-12)


def test_the_diagonal():
    K = tp.ntk(GALLERY["rnn"](sigma_w=W, sigma_h=1))
    np.testing.assert_allclose(diagonal(K, SEQUENCES, {W: 0.9}), np.diag(K(SEQUENCES, values={W: 0.9})), rtol=1e-13)


def test_degrees_of_homogeneity():
    u, v = sp.symbols("u v")
    assert [degree(f, u) for f in (Relu(u), Step(u), u**2 * Abs(u), Relu(v), Relu(u) * Relu(v))] == [1, 0, 3, 0, 1]
    assert [degree(f, u) for f in (Erf(u), Relu(u - 1), Relu(u) + 1, sp.exp(u), u * Erf(u))] == [None] * 5


def test_missing_values_are_named():
    with pytest.raises(tp.DataError, match="w"):
        gram_with_gradient(tp.ntk(GALLERY["mlp"](sigma_w=W)), X, [W], {})
