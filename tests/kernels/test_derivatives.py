"""Kernels of derivatives by inputs: closed forms differentiated by sympy, integrals, jets written by hand, refusals."""

import functools

import mpmath
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

W, B, V = sp.Rational(13, 10), sp.Rational(1, 5), sp.Rational(3, 2)  # of weights, biases and the readout
LAPLACE = {1: {(0, 0): 1}, 2: {(0, 0): 1, (1, 1): 1}}
xs, ys = sp.symbols("x0:2", real=True), sp.symbols("y0:2", real=True)


def pair(phi, q, c, r):
    """E φ(u)φ(v) and E φ'(u)φ'(v)."""
    if phi == "erf":
        det = (1 + 2 * q) * (1 + 2 * r)
        return 2 / sp.pi * sp.asin(2 * c / sp.sqrt(det)), 4 / (sp.pi * sp.sqrt(det - 4 * c**2))
    if phi == "relu":
        angle = sp.pi - sp.acos(c / sp.sqrt(q * r))
        return (sp.sqrt(q * r - c**2) + c * angle) / (2 * sp.pi), angle / (2 * sp.pi)
    damp = sp.exp(-(q + r) / 2)
    return damp * sp.sinh(c), damp * sp.cosh(c)


@functools.cache
def kernel(phi, kind, d):
    """K of one hidden layer with a bias: by TP2b Eq. (100), written out."""
    x, y = xs[:d], ys[:d]

    def dot(a, b):
        return sum(i * j for i, j in zip(a, b, strict=True)) / d

    q, c, r = (W**2 * dot(*p) + B**2 for p in ((x, x), (x, y), (y, y)))
    value, slope = pair(phi, q, c, r)
    return V**2 * value + (V**2 * slope * c if kind == "ntk" else 0)


def applied(operator, expr, by):
    return sum(f * (sp.diff(expr, *(by[k] for k in o)) if o else expr) for o, f in operator.items())


def numbers(expr, d, X, Y=None):
    formula = sp.lambdify((*xs[:d], *ys[:d]), expr, "mpmath", cse=True)
    with mpmath.workdps(40):
        return np.array([[float(formula(*map(mpmath.mpf, (*a, *b)))) for b in (X if Y is None else Y)] for a in X])


def net(phi, depth=1):
    return tp.programs.mlp(depth=depth, phi=getattr(tp, phi), sigma_w=W, sigma_b=B, sigma_v=V)


@pytest.mark.parametrize("d", [1, 2])
@pytest.mark.parametrize("kind", ["nngp", "ntk"])
@pytest.mark.parametrize("phi", ["erf", "sin"])
def test_residuals_of_a_poisson_problem_are_the_differentiated_closed_form(phi, kind, d):
    X = np.array([[0.25, -0.5], [1.125, 0.75]])[:, :d]
    K, L = getattr(tp, kind)(net(phi)), LAPLACE[d]
    for left, right in ((L, L), (L, {(): 1})):
        wanted = numbers(applied(right, applied(left, kernel(phi, kind, d), xs), ys), d, X)
        found = tp.derivative(K, left, right)(X)
        assert np.max(np.abs(found - wanted)) <= 1e-12 * np.max(np.abs(wanted))


def test_a_list_of_derivatives_is_all_pairs_of_them():
    K, X, Y = tp.ntk(net("erf")), [[0.5, 1.0], [0.25, -1.0]], [[0.125, 1.0]]
    orders = [(), (0,), (1, 0)]
    every = tp.derivative(K, orders)(X, Y)
    assert every.shape == (2, 1, 3, 3)
    for k, first in enumerate(orders):
        for l, second in enumerate(orders):
            np.testing.assert_allclose(every[:, :, k, l], tp.derivative(K, first, second)(X, Y), rtol=1e-13)
    np.testing.assert_allclose(every[:, :, 0, 0], K(X, Y), rtol=1e-13)


def test_grad_is_the_derivative_by_the_first_input():
    X = np.array([[0.25, -0.5], [1.125, 0.75]])
    found = tp.ntk(net("sin")).grad(X)
    for k in range(2):
        wanted = numbers(sp.diff(kernel("sin", "ntk", 2), xs[k]), 2, X)
        np.testing.assert_allclose(found[:, :, k], wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_the_tangent_program_of_a_deep_network_has_the_same_kernel(kind):
    @tp.network
    def jet(net, x):
        h, h1 = net.embed("U", x["x"]), net.embed("U", x["e"])
        a, a1, a2 = tp.sin(h), tp.cos(h) * h1, -tp.sin(h) * h1 * h1
        h, h1, h2 = (net.dense("W", u) for u in (a, a1, a2))
        return net.readout("V", tp.cos(h) * h2 - tp.sin(h) * h1 * h1)

    X = np.array([[0.5], [-1.25]])
    by_hand = getattr(tp, kind)(jet(), method="auto")({"x": X, "e": np.ones_like(X)})
    K = getattr(tp, kind)(tp.programs.mlp(depth=2, phi=tp.sin, sigma_w=1, sigma_b=0, sigma_v=1))
    np.testing.assert_allclose(tp.derivative(K, (0, 0))(X), by_hand, rtol=1e-10)


def test_curvatures_of_a_tanh_layer_are_integrals_over_its_weights():
    x, y, sw, sb, sv = 0.5, -1.25, float(W), float(B), float(V)
    w, b = np.meshgrid(*[np.arange(-9, 9, 0.03)] * 2, indexing="ij")
    weight = np.exp(-(w**2 + b**2) / 2) / (2 * np.pi) * 0.03**2

    def slopes(z):  # of f'' = σ_v v (σ_w w)² φ''(u) by v, w and b, without the random v of the last two
        t = np.tanh(sw * w * z + sb * b)
        second, third = -2 * t * (1 - t**2), (1 - t**2) * (6 * t**2 - 2)
        square = (sw * w) ** 2
        return square * second, 2 * sw**2 * w * second + square * sw * z * third, square * sb * third

    terms = [sv**2 * np.sum(weight * s * r) for s, r in zip(slopes(x), slopes(y), strict=True)]
    for K, wanted in ((tp.nngp(net("tanh")), terms[0]), (tp.ntk(net("tanh")), sum(terms))):
        np.testing.assert_allclose(tp.derivative(K, (0, 0))([[x]], [[y]]), wanted, rtol=1e-10)


@pytest.mark.parametrize("phi", ["tanh", "gelu"])
def test_each_derivative_of_a_deep_network_is_the_slope_of_the_one_before(phi):
    K, x, h = tp.ntk(net(phi, depth=3)), 0.5, 0.01
    stencil = {1: 3 / 4, 2: -3 / 20, 3: 1 / 60}  # of sixth order
    for left, right in (((), ()), ((0,), ()), ((0,), (0,)), ((0,), (0, 0))):
        before = tp.derivative(K, left, right)([[x + k * h] for k in range(-3, 4)], [[0.25]])[:, 0]
        wanted = sum(c * (before[3 + k] - before[3 - k]) for k, c in stencil.items()) / h
        np.testing.assert_allclose(tp.derivative(K, (0, *left), right)([[x]], [[0.25]]), wanted, rtol=1e-7)


@pytest.mark.parametrize("kind", ["nngp", "ntk"])
def test_relu_has_derivatives_where_they_are_finite(kind):
    X = np.array([[0.25, -0.5], [1.125, 0.75]])
    K = getattr(tp, kind)(net("relu"))
    for left, right in (((0,), (1,)), ((0, 0), ())):
        formula = applied({right: 1}, applied({left: 1}, kernel("relu", kind, 2), xs), ys)
        wanted = numbers(formula, 2, X[:1], X[1:])
        np.testing.assert_allclose(tp.derivative(K, left, right)(X[:1], X[1:]), wanted, rtol=1e-12)
    with pytest.raises(tp.DataError, match="kinks and inputs are equal"):
        tp.derivative(tp.ntk(net("relu")), (0,))(X)


def test_hyperparameters_are_given_by_name():
    s = sp.Symbol("s", positive=True)
    K = tp.nngp(tp.programs.mlp(depth=1, phi=tp.sin, sigma_w=s, sigma_b=0, sigma_v=1))
    fixed = tp.nngp(tp.programs.mlp(depth=1, phi=tp.sin, sigma_w=2, sigma_b=0, sigma_v=1))
    X = [[0.5], [0.25]]
    np.testing.assert_allclose(tp.derivative(K, (0,))(X, values={"s": 2}), tp.derivative(fixed, (0,))(X), rtol=1e-14)


@pytest.mark.parametrize(
    ("order", "words"),
    [
        (2, "is a tuple of input coordinates"),
        ((-1,), "is a tuple of input coordinates"),
        (("x",), "is a tuple of input coordinates"),
        ((0,) * 7, "up to order 6"),
        ({}, "an operator needs a derivative"),
        ({(0,): "a"}, "must be a finite number"),
        ({(0,): float("nan")}, "must be a finite number"),
        ([], "is empty"),
    ],
)
def test_wrong_orders_are_refused_in_words(order, words):
    with pytest.raises(tp.ProgramError, match=words):
        tp.derivative(tp.ntk(net("sin")), order)


def test_what_has_no_derivatives_by_inputs_is_refused_in_words():
    with pytest.raises(tp.DataError, match="no derivative by 1"):
        tp.derivative(tp.ntk(net("sin")), (1,))([[0.5]])
    with pytest.raises(tp.ProgramError, match="takes a kernel"):
        tp.derivative(net("sin"), (0,))
    with pytest.raises(tp.ProgramError, match="single vectors"):
        tp.derivative(tp.ntk(tp.programs.rnn()), (0,))
    with pytest.raises(tp.NoRuleError, match="sampled"):
        tp.derivative(tp.ntk(net("sin"), method="sampling"), (0,))([[0.5]])
    with pytest.raises(tp.NoRuleError):
        tp.derivative(tp.ntk(tp.programs.mlp(depth=1, phi=tp.abstract("phi"))), (0,))([[0.5]])
    with pytest.raises(tp.NoRuleError, match="no closed form"):
        tp.derivative(tp.ntk(tp.programs.mlp(depth=1, phi=tp.hard_tanh)), (0,))([[0.5]], [[0.25]])


def test_vectors_of_each_input_are_refused():
    """E ff' jumps at x = x', by the mask that an input shares with itself."""
    net = tp.network(lambda net, x: net.readout("V", tp.sin(net.dropout(net.embed("U", x), 0.3))))
    with pytest.raises(tp.NoRuleError, match="shares with itself"):
        tp.derivative(tp.nngp(net()), (0,))(np.eye(2))
