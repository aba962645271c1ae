"""Piecewise functions in closed form: against panels, at degenerate laws, and the declaration of new ones."""

import numpy as np
import pytest
import sympy as sp
from scipy import special
from scipy.integrate import trapezoid

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.expectations import numeric as module
from tensorprog.expectations.closed.pieces import piecewise, terms
from tensorprog.expectations.closed.plane import Plane
from tensorprog.expectations.closed.truncated import Cut, truncated
from tensorprog.expectations.law import Law
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import FAMILIES, Elu, Erf, Exp, Gauss, HardTanh, Relu, Relu6, Selu, Step, Tanh, member

U, V, X = sp.symbols("u v x", real=True)
NEW = (HardTanh, Relu6, Elu, Selu)
BODIES = [
    Relu(U) ** 2 * Relu(1 - V) * V,
    HardTanh(2 * U - 1) * Relu6(3 * V + 2),
    Elu(U) * Selu(-V),
    member(Selu.family, 1)(U) * member(HardTanh.family, 1)(V / 2),
    Gauss(U) * Exp(V / 2) * Relu(V - 1),
    U**3 * tp.abs(V) * Step(V + sp.Rational(1, 3)),
    Elu(U) ** 2 * Relu6(U),
    sp.cos(U) * V**2 * Gauss(V),
]


def _law(seed, count=24, means=True):
    rng = np.random.default_rng(seed)
    q1, q2 = np.exp(rng.uniform(np.log(0.05), np.log(6), (2, count)))
    rho = np.where(np.arange(count) % 3, rng.uniform(-1, 1, count), 1 - 10.0 ** -rng.uniform(2, 14, count))
    mean = tuple(rng.uniform(-2, 2, (2, count))) if means else (np.zeros(()), np.zeros(()))
    return Law((U, V), {(0, 0): q1, (1, 1): q2, (0, 1): rho * np.sqrt(q1 * q2)}, mean, {}, 1e-12, 1e-14)


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_closed_forms_are_what_panels_give(body):
    law = _law(seed=len(str(body)))
    body = module.from_sympy(body)
    found, scale = piecewise(body, law)
    want = module._quadrature(body, law)
    assert np.all(np.abs(found.value - want.value) <= found.error + want.error)
    assert np.median(found.error / scale()) <= 1e-12 and np.isfinite(found.error).all()


@pytest.mark.parametrize("function", NEW)
@pytest.mark.parametrize("order", range(4))
def test_derivatives_in_the_mean(function, order):
    cov, h = [[1.3, 0.7], [None, 2.1]], 1e-4
    lower, upper = (member(function.family, k)(U) * Selu(V) for k in (order, order + 1))
    ends = [expectation(lower, (U, V), cov, [0.2 + s, -0.4]).value for s in (h, -h)]
    got = expectation(upper, (U, V), cov, [0.2, -0.4])
    assert got.value == pytest.approx((ends[0] - ends[1]) / (2 * h), abs=2e-8)
    assert got.error <= 1e-11


@pytest.mark.parametrize("function", NEW)
def test_proportional_constant_and_repeated_variables(function):
    one = expectation(function(U) ** 2, (U,), [[1.44]])
    same = expectation(function(U) * function(V), (U, V), [[1.44, 1.44], [None, 1.44]])
    assert same.value == pytest.approx(float(one.value), abs=4e-15)
    flipped = expectation(function(U) * function(V), (U, V), [[1.44, -2.88], [None, 5.76]])
    alone = expectation(function(U) * function(-2 * U), (U,), [[1.44]])
    assert flipped.value == pytest.approx(float(alone.value), abs=1e-14)
    still = expectation(function(U) * function(V), (U, V), [[0.0, 0.0], [None, 1.44]], [0.3, 0.1])
    mean = expectation(function(V), (V,), [[1.44]], [0.1])
    assert still.value == pytest.approx(0.3 * float(mean.value) * (1.0507009873554805 if function is Selu else 1))
    assert expectation(function(U) * function(V), (U, V), [[0.0, 0.0], [None, 0.0]]).value == 0.0


def test_a_jump_at_a_constant_has_the_value_of_the_function():
    cov = [[0.0, 0.0], [None, 1.0]]
    assert expectation(tp.sign(U) * HardTanh(V), (U, V), cov, [0.0, 0.3]).value == 0.0
    assert expectation(Step(U - 1) * HardTanh(V), (U, V), cov, [1.0, 0.3]).value == 0.0
    both = expectation(member(Relu6.family, 1)(U) * Step(V), (U, V), cov, [6.0, 0.0])
    assert both.value == pytest.approx(0.5)


def test_a_delta_at_a_jump_sees_one_half():
    body = member(HardTanh.family, 1)(U) * member(HardTanh.family, 2)(U) * U
    assert expectation(body, (U,), [[1.0]]).value == pytest.approx(-np.exp(-0.5) / np.sqrt(2 * np.pi), rel=1e-14)


def test_two_deltas_of_higher_order_end():
    body = member(FAMILIES["delta"], 1)(U) * member(FAMILIES["delta"], 1)(V)
    got = expectation(body, (U, V), [[1.0, 0.6], [None, 1.0]])
    det = 1 - 0.36  # the mixed derivative of the joint density at 0 is -∂∂ exp(-zΣ⁻¹z/2) = Σ⁻¹_12 up to its sign
    assert got.value == pytest.approx(0.6 / det / (2 * np.pi * np.sqrt(det)), rel=1e-12)


def test_many_terms_that_cancel_are_left_to_the_panels():
    q = np.array([1.0, 200.0, 2000.0])
    got = expectation(Elu(U) * Elu(V), (U, V), [[q, q / 2], [None, q]])
    relu = expectation(Relu(U) * Relu(V), (U, V), [[q, q / 2], [None, q]])
    assert np.all(got.error <= 1e-9 * q) and "panels" in got.method
    assert np.all(np.abs(got.value - relu.value) <= 1 + np.sqrt(q))


def test_quadrant_far_out_keeps_its_digits():
    """P(u > h, v > h) at ρ = 1/2 against a one-dimensional integral, relative."""
    for h in (2.0, 5.0, 8.0):
        x = h + np.linspace(0, 12 / h, 20001)
        f = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi) * special.ndtr(-(h - x / 2) / np.sqrt(0.75))
        got, _ = truncated(Cut(h, 1), Cut(h, 1), (0.0, 0.0), Plane(1.0, 1.0, 0.5, 0.75, 0.0, 0.0))(0, 0)
        assert float(got) == pytest.approx(trapezoid(f, x), rel=1e-6)


@pytest.mark.parametrize("body", [Tanh(X), Erf(X) * Step(X), Relu(X**2), 1 / X, Exp(X**2), Relu(X + sp.Symbol("s"))])
def test_what_has_no_terms(body):
    assert terms(body, X) is None


def test_a_declared_function_is_usable_at_once():
    try:
        ramp = tp.declare("ramp", kinks=(-1, 2), pieces=(lambda x: -1, lambda x: x, lambda x: 2))
        cube = tp.declare("cubic_root", lambda x: sp.atan(x) ** 3, parity=-1)
        p = tp.Program()
        y = ramp(p.vector("v", variance=2))
        lim = tp.limit(p)
        got = lim.evaluate(lim.cov(y, y))
        x = np.linspace(-12, 12, 400001)
        weight = np.exp(-(x**2) / 4) / np.sqrt(4 * np.pi) * (x[1] - x[0])
        mean, square = (np.sum(weight * np.clip(x, -1, 2) ** k) for k in (1, 2))
        assert float(got) == pytest.approx(square - mean**2, abs=1e-8)
        assert expectation(cube(U), (U,), [[1.0]]).method == "odd"
        assert sp.diff(ramp(X), X, 2).func is member(FAMILIES["ramp"], 2)
    finally:
        FAMILIES.pop("ramp", None), FAMILIES.pop("cubic_root", None)


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"name": "relu", "formula": sp.tanh}, "taken"),
        ({"name": "a b", "formula": sp.tanh}, "identifier"),
        ({"name": "f"}, "formula"),
        ({"name": "f", "kinks": (0,), "pieces": (lambda x: x,)}, "one piece more"),
        ({"name": "f", "kinks": (1, 0), "pieces": (lambda x: x,) * 3}, "ascend"),
        ({"name": "f", "formula": lambda x: x * sp.Symbol("y")}, "only symbol"),
        ({"name": "f", "formula": lambda x: x**2, "parity": -1}, "parity"),
    ],
)
def test_declarations_that_are_refused(arguments, match):
    with pytest.raises(ProgramError, match=match):
        tp.declare(**arguments)
    assert "f" not in FAMILIES


def test_a_slope_that_is_a_function_of_a_number_may_be_0():
    u, zero = sp.Symbol("u", real=True), Relu(sp.Integer(-1))
    body = Erf(zero * u + 2 * zero) + Erf(Relu(sp.Integer(2)) * u) ** 2
    found, known = (expectation(b, [u], [[0.7]]) for b in (body, Erf(Relu(sp.Integer(2)) * u) ** 2))
    assert float(found.value) == pytest.approx(float(known.value), rel=1e-14) and float(found.value) > 0.1
    assert terms(Erf(zero * X + 2 * zero) * X, X) == ()


def test_long_powers_of_sums_have_no_closed_form_that_is_worth_it():
    gauss = tp.gauss(X)
    assert terms(gauss.diff(X, 5) ** 3, X) is not None
    assert terms(gauss.diff(X, 5) ** 300, X) is None
    assert terms(tp.relu(X) ** 300, X) is not None
