"""Functions that change in a narrow place far from the mean: found, or the claimed error says what is missing."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import AccuracyError
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.quadrature.features import arguments, features
from tensorprog.functions import Exp, Gauss, Relu, Sigmoid, Sin, Softplus, Tanh, evaluate

U = sp.Symbol("u", real=True)
NODES, WEIGHTS = np.polynomial.legendre.leggauss(40)


def _sech2(a):
    return 1 / sp.cosh(a) ** 2


# the function, and places and half-widths outside which it is 0
NARROW = [
    (_sech2(U - 3000), [(3000, 40)]),
    (_sech2(U - 3000) * Relu(U), [(3000, 40)]),
    (_sech2(Relu(U) - 3000), [(3000, 40)]),
    (_sech2(Softplus(U) - 300), [(300, 40)]),
    (_sech2(U**3 - U - 100), [(4.713, 2)]),
    (Gauss(U**2 - 9 * 10**6), [(3000, 0.01), (-3000, 0.01)]),
    (_sech2(1000 * U**2 - 10**6), [(1000**0.5, 1e-3), (-(1000**0.5), 1e-3)]),
    (Gauss(1000 * Tanh(U) - 500), [(np.arctanh(0.5), 0.05)]),
    (_sech2(1000 * Sigmoid(U - 3000) - 500), [(3000, 1)]),
    (1 / (1 + sp.cosh(U - 3000)), [(3000, 60)]),
    (Exp(-sp.Abs(U - 3000)), [(2950, 50), (3050, 50)]),
]


def _local(body, places, q):
    """E body(u) by Gauss-Legendre sums over the places, in 200 pieces each."""
    total = 0.0
    for place, width in places:
        ends = np.linspace(place - width, place + width, 201)
        x = (ends[:-1, None] + np.diff(ends)[:, None] * (NODES + 1) / 2).ravel()
        weight = np.repeat(np.diff(ends), 40) * np.tile(WEIGHTS, 200) / 2
        total += np.sum(weight * evaluate(body, {U: x}) * np.exp(-(x**2) / (2 * q))) / np.sqrt(2 * np.pi * q)
    return total


@pytest.mark.parametrize("q", [1e3, 1e6, 1e9, 1e12])
@pytest.mark.parametrize(("body", "places"), NARROW, ids=[str(b) for b, _ in NARROW])
def test_a_narrow_feature_far_out_is_found_or_its_absence_is_part_of_the_error(body, places, q):
    want = _local(body, places, q)
    try:
        got = expectation(body, (U,), [[q]])
    except AccuracyError:  # rounding of the argument, which is counted
        return
    assert abs(float(got.value) - want) <= float(got.error) + 1e-12 * want


@pytest.mark.parametrize("q", [1e9, 1e12])
def test_a_hyperbolic_secant_at_three_thousand_is_not_zero(q):
    """∫ sech² = 2, and the density hardly changes across it."""
    got = expectation(_sech2(U - 3000), (U,), [[q]])
    density = np.exp(-(3000.0**2) / (2 * q)) / np.sqrt(2 * np.pi * q)
    assert abs(float(got.value) / (2 * density) - 1) < 2e-9


def test_a_declared_function_shows_its_own_scale():
    """E gauss(1000 u - 500) = exp(-125000/(1 + 10⁶))/√(1 + 10⁶) at variance 1."""
    narrow = tp.declare("narrow_feature", lambda a: tp.gauss(1000 * a - 500))
    got = expectation(narrow(U), (U,), [[1.0]])
    want = np.exp(-125000 / (1 + 1e6)) / np.sqrt(1 + 1e6)
    assert abs(float(got.value) - want) <= float(got.error) + 1e-15 * want
    assert float(got.error) < 1e-9 * want


def test_levels_that_agree_by_chance_are_not_believed():
    """Two levels agree to 1e-15 while both are 1e-14 off: digits do not double and more from level to level."""
    got = expectation(Gauss(U**2 - 9 * 10**6), (U,), [[1e6]])
    assert abs(float(got.value) - 3.702998846081351711e-9) <= float(got.error)


def test_rounding_is_looked_for_where_the_feature_is():
    """u² - 6000u + 9·10⁶ has lost its digits at u = 3000."""
    body = _sech2(sp.expand((U - 3000) ** 2))
    try:
        got = expectation(body, (U,), [[1e9]])
    except AccuracyError:
        return
    want = _local(_sech2((U - 3000) ** 2), [(3000, 7)], 1e9)
    assert abs(float(got.value) - want) <= float(got.error) + 1e-13 * want


def test_the_slope_of_an_argument_is_that_beside_its_root():
    found = features(1000 * Tanh(U) - 500, False, U, 0.0, 100.0, {}, 9.0)
    assert found.slope == pytest.approx(1000 * 0.75 * 100, rel=0.05)
    assert found.roots == pytest.approx((np.arctanh(0.5) / 100,), rel=1e-12)


def test_a_feature_is_found_beside_arguments_beyond_all_numbers():
    """cosh(u) for u = 3·10⁵ + 10⁶ z overflows but for |z + 0.3| < 10⁻³; as a base it is steep where it is least."""
    found = features(sp.cosh(U), True, U, 3e5, 1e6, {}, 9.0)
    assert found.near == pytest.approx((-0.3,), abs=1e-6) and 0.5e6 < found.slope < 2e6


def test_an_argument_with_more_features_than_can_be_told_has_no_bound():
    assert features(1000 * Sin(U) - 700, False, U, 0.0, 1e6, {}, 9.0).slope == np.inf


def test_arguments_of_kinked_functions_are_none_and_bases_are_their_own_kind():
    inner, bases = arguments(Relu(U - 7) * Tanh(U / 2) * sp.sqrt(U**2 + 1), (U,))
    assert (list(inner), list(bases)) == ([U / 2], [U**2 + 1])


def _around(body, centre, half):
    """E body(u, v) of independent u, v, by a fine trapezoid rule around a point outside which the body is 0."""
    x = np.linspace(-half, half, 2001)
    a, b = np.meshgrid(centre[0] + x, centre[1] + x, indexing="ij")
    values = evaluate(body, {U: a, V: b}) * np.exp(-(a**2 + b**2) / 2) / (2 * np.pi)
    return float(values.sum() * (2 * half / 2000) ** 2)


def _ring(body, radius, half):
    """E body of u² + v² by a fine trapezoid rule across the ring outside which it is 0."""
    r = np.linspace(radius - half, radius + half, 20001)
    return float((evaluate(body, {U: r, V: 0 * r}) * r * np.exp(-(r**2) / 2)).sum() * 2 * half / 20000)


V = sp.Symbol("v", real=True)
CURVED = {
    "a wide ring": (Gauss(3 * (U**2 + V**2 - 9)), lambda f: _ring(f, 3, 1)),
    "a ring": (Gauss(300 * (U**2 + V**2 - 9)), lambda f: _ring(f, 3, 0.01)),
    "a narrow ring": (Gauss(3000 * (U**2 + V**2 - 1)), lambda f: _ring(f, 1, 0.003)),
    "a wide peak": (_sech2(5 * ((U - 1) ** 2 + (V - 2) ** 2)), lambda f: _around(f, (1, 2), 3)),
    "a peak": (_sech2(10**4 * ((U - 1.3) ** 2 + (V - 2.1) ** 2)), lambda f: _around(f, (1.3, 2.1), 0.1)),
    "a narrow peak": (Exp(-(10**10) * ((U - 1.3) ** 2 + (V - 2.1) ** 2) ** 2), lambda f: _around(f, (1.3, 2.1), 0.02)),
}


DEAR = {"a ring", "a narrow ring", "a wide peak"}


@pytest.mark.parametrize(
    "body, exact", [pytest.param(*c, id=k, marks=[pytest.mark.slow] * (k in DEAR)) for k, c in CURVED.items()]
)
def test_curves_and_points_in_two_variables_are_found_or_refused(body, exact):
    try:
        found = expectation(body, (U, V), [[1.0, 0.0], [0.0, 1.0]])
    except AccuracyError:
        assert body not in (CURVED["a wide ring"][0], CURVED["a wide peak"][0])
        return
    assert abs(found.value - exact(body)) <= found.error + 1e-12 * abs(exact(body))
