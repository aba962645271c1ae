"""Stein's lemma where it ends, and where it would bring what no expectation has."""

import numpy as np
import pytest
import sympy as sp
from scipy import special
from scipy.integrate import quad

import tensorprog as tp
from tensorprog.learn.derivatives import gram_with_gradient


def network(fn):
    return tp.network(lambda net, x: net.readout("V", fn(net, net.embed("U", x))))()


def mean(f):
    """E f(u), u standard normal."""
    return quad(lambda a: f(a) * np.exp(-a * a / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-14, epsrel=1e-12)[0]


@pytest.mark.parametrize(
    "f",
    [lambda a: a**2 / (a**2 + 1) ** 4, lambda a: a / (1 + a**2) ** 2 + a**3 / (2 + a**2),
     lambda a: (1 + a**2) ** sp.Rational(1, 3) * a**2, lambda a: a**2 * sp.atan(a) ** 2,
     lambda a: a**2 / (1 + sp.exp(-a))],
    ids=range(5),
)  # fmt: skip
def test_powers_beside_functions_whose_derivatives_bring_powers(f):
    program = tp.Program()
    x = program.vector("x")
    limit = tp.limit(program)
    u = sp.Symbol("u")
    assert limit.evaluate(limit.E(f, x)) == pytest.approx(mean(sp.lambdify(u, f(u))), rel=1e-9)


def test_the_ntk_of_a_rational_function():
    """Θ = ⟨x,x⟩ E f'² + E f² with f = 1/(1 + u²)."""
    K = tp.ntk(network(lambda net, h: 1 / (1 + h**2)))
    expected = mean(lambda a: 4 * a**2 / (1 + a**2) ** 4) + mean(lambda a: 1 / (1 + a**2) ** 2)
    assert K([[1.0]])[0, 0] == pytest.approx(expected, rel=1e-9)
    assert tp.ntk(network(lambda net, h: tp.nonlin(lambda u: 1 / (1 + u**2), h)))([[0.0]])[0, 0] == 1


@pytest.mark.parametrize(
    ("f", "slope"),
    [
        (lambda a: a * sp.exp(-(a**2)), lambda a: (1 - 2 * a**2) * np.exp(-(a**2))),
        (lambda a: tp.sigmoid(tp.erf(a) * a), None),
    ],
    ids=["gauss", "sigmoid"],
)
def test_products_of_moduli_inside_functions(f, slope):
    """Θ(x,x) = E f(|u|)² + E f'(|u|)²: |u| sign u = u, which Stein would bring back for ever."""
    K = tp.ntk(network(lambda net, h: tp.nonlin(f, tp.abs(h)) if slope else f(tp.abs(h))))
    if slope is None:
        inner = lambda a: 1 / (1 + np.exp(-a * special.erf(a)))  # noqa: E731
        slope = lambda a: (  # noqa: E731
            inner(a) * (1 - inner(a)) * (special.erf(a) + 2 * a * np.exp(-(a**2)) / np.sqrt(np.pi))
        )
    else:
        inner = lambda a: a * np.exp(-(a**2))  # noqa: E731
    expected = mean(lambda a: inner(abs(a)) ** 2) + mean(lambda a: slope(abs(a)) ** 2)
    assert K([[1.0]])[0, 0] == pytest.approx(expected, rel=1e-9)
    assert np.isfinite(K([[0.0]])).all()


def test_powers_beside_jumps_have_no_deltas():
    """E (u² step u)² = 3 q²/2, also where two inputs are equal."""
    K = tp.nngp(network(lambda net, h: tp.nonlin(lambda u: sp.Heaviside(u, 0) * u**2, h)))
    assert K([[0.5], [0.5]]) == pytest.approx(np.full((2, 2), 1.5 * 0.25**2), rel=1e-12)


def test_the_ntk_of_kinks_beside_powers_at_equal_inputs():
    """f = Σ F(h)/√n with F = u cos 1.5u − u relu u: Θ(x,x) = q E F'²."""
    net = tp.network(
        lambda net, x: net.average(
            (lambda h: h * (tp.nonlin(lambda u: sp.cos(1.5 * u), h) - tp.relu(h)))(net.embed("U", x))
        )
    )()
    slope = lambda a: (np.cos(1.5 * a) - 1.5 * a * np.sin(1.5 * a) - 2 * max(a, 0)) ** 2  # noqa: E731
    assert tp.ntk(net)([[1.0]])[0, 0] == pytest.approx(mean(slope), rel=1e-8)


def test_a_hyperparameter_below_the_line_of_a_fraction():
    """sin(h − h/c) with h = Wᵀ W u has the kernel of sin(h (1 − 1/c)); numbers reach composite coefficients."""
    c = sp.Symbol("c", positive=True)

    def with_factor(factor):
        def body(net, h):
            W = net.weight("W")
            return tp.sin(factor(W.T @ (W @ h**2)))

        return tp.nngp(network(body))

    one, other = with_factor(lambda g: g - g / c), with_factor(lambda g: g * sp.Rational(-3, 7))
    X = [[1.0, 0.3], [0.2, -0.5]]
    assert one(X, values={c: 0.7}) == pytest.approx(other(X), rel=1e-9)
    assert one.gram(X, values={c: 0.7}) == pytest.approx(other(X), rel=1e-9)


def test_a_hyperparameter_to_the_power_of_a_vector():
    """E c^(2u) = exp(2 log² c), and Θ = log² c ⟨x,x⟩ E c^(2u) + E c^(2u)."""
    c = sp.Symbol("c", positive=True)
    net = network(lambda net, h: c**h)
    expected = np.exp(2 * np.log(0.7) ** 2)
    assert tp.nngp(net)([[1.0]], values={c: 0.7})[0, 0] == pytest.approx(expected, rel=1e-9)
    for K in (tp.ntk(net)([[1.0]], values={c: 0.7}), tp.ntk(net).gram([[1.0]], values={"c": 0.7})):
        assert K[0, 0] == pytest.approx((1 + np.log(0.7) ** 2) * expected, rel=1e-9)


def test_a_hyperparameter_to_the_power_of_a_scalar():
    c, program = sp.Symbol("c", positive=True), tp.Program()
    s = c ** (1 / (1 + program.scalar("t", value=1) ** 2))
    limit = tp.limit(program)
    assert limit.evaluate(limit.value(s), {c: 0.49}) == pytest.approx(0.7, rel=1e-14)


def test_gradients_by_a_hyperparameter_inside_a_formula():
    """∂/∂c of E c^(2u) = exp(2 log² c) is 4 log c/c times it; the second factor is a formula of a scalar."""
    c = sp.Symbol("c", positive=True)

    def body(net, h):
        return c**h * c ** (1 / (1 + tp.moment(lambda a: a**2, h)))

    value, gradient = gram_with_gradient(tp.nngp(network(body)), np.array([[1.0]]), [c], {c: 0.7})
    expected = 0.7 * np.exp(2 * np.log(0.7) ** 2)
    assert value[0, 0] == pytest.approx(expected, rel=1e-9)
    assert gradient[0, 0, 0] == pytest.approx(expected * (1 + 4 * np.log(0.7)) / 0.7, rel=1e-8)


def test_powers_beside_a_kink_on_a_curve_stay_in_the_expectation():
    def conditional(v):  # E relu(sigmoid(v) + u)(u² + v) given v, with u ~ N(v/3, 5/6)
        m, s = v / 3, np.sqrt(5 / 6)
        f = lambda t: max(1 / (1 + np.exp(-v)) + m + s * t, 0) * ((m + s * t) ** 2 + v)  # noqa: E731
        kink = -(1 / (1 + np.exp(-v)) + m) / s
        parts = [quad(lambda t: f(t) * np.exp(-t * t / 2), a, b, epsabs=1e-13)[0] for a, b in ((-10, kink), (kink, 10))]
        return sum(parts) / np.sqrt(2 * np.pi)

    expected = quad(lambda v: conditional(v) * np.exp(-v * v / 3) / np.sqrt(3 * np.pi), -12, 12, epsabs=1e-12)[0]
    p = tp.Program()
    u, v = p.gaussian("u v", cov=[[1, 0.5], [0.5, 1.5]])
    limit = tp.limit(p)
    found = limit.evaluate(limit.E(lambda a, b: tp.relu(tp.sigmoid(b) + a) * (a**2 + b), u, v))
    assert found == pytest.approx(expected, rel=1e-9)


def test_a_function_of_one_variable_has_one_value_in_steps_and_in_one_formula():
    p = tp.Program()
    a = p.vector("a", variance=1.5, mean=-0.5)
    at_once = tp.nonlin(lambda b: sp.Max(-tp.sigmoid(b), b) ** 3, a)
    in_steps = tp.nonlin(sp.Max, -tp.sigmoid(a), a) ** 3
    limit = tp.limit(p)
    reference = mean(lambda t: max(-1 / (1 + np.exp(-(b := -0.5 + np.sqrt(1.5) * t))), b) ** 3)
    for y in (at_once, in_steps):
        assert limit.evaluate(limit.mean(y)) == pytest.approx(reference, rel=1e-7)


def test_a_function_that_jumps_on_a_curve_has_no_derivative_with_a_rule():
    p = tp.Program()
    u, v = p.gaussian("u v", cov=[[1, 0.5], [0.5, 1.5]])
    limit = tp.limit(p)
    jump = limit.E(lambda a, b: sp.DiracDelta(tp.tanh(a) + b), u, v)
    with pytest.raises(tp.NoRuleError, match=r"along the curve u2 \+ tanh\(u1\) = 0"):
        limit.evaluate(jump)
