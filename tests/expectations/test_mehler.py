"""The Mehler series against extended-precision integrals, mpmath, closed forms and its own bound."""

import time

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorprog.expectations.closed.pairs import find_pair
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.series.hermite import LEVELS, coefficients
from tensorprog.expectations.series.mehler import mehler, split
from tensorprog.functions import (
    Cos,
    Erf,
    Exp,
    Gauss,
    Gelu,
    Relu,
    Sigmoid,
    Silu,
    Sin,
    Softplus,
    Tanh,
    abstract,
    member,
    numeric,
)  # fmt: skip

U, V = sp.symbols("u v")
LONG = np.longdouble
TanhPrime, SigmoidPrime, SiluPrime = (member(f.family, 1) for f in (Tanh, Sigmoid, Silu))
GaussPrime, ErfPrime, GeluPrime = (member(f.family, 1) for f in (Gauss, Erf, Gelu))


def _logistic(x):
    return 1 / (1 + np.exp(-x))


# each function a second time, in formulas that work in extended precision
FORMULAS = {
    Tanh: np.tanh,
    TanhPrime: lambda x: 1 / np.cosh(x) ** 2,
    Sigmoid: _logistic,
    SigmoidPrime: lambda x: _logistic(x) * _logistic(-x),
    Silu: lambda x: x * _logistic(x),
    SiluPrime: lambda x: _logistic(x) * (1 + x * _logistic(-x)),
    Softplus: lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))),
    Sin: np.sin,
    Cos: np.cos,
    Gauss: lambda x: np.exp(-x * x / 2),
    GaussPrime: lambda x: -x * np.exp(-x * x / 2),
}
PAIRS = [(f, f) for f in FORMULAS] + [(Tanh, Silu), (Sigmoid, TanhPrime), (Softplus, Tanh), (SiluPrime, Gauss)]
MEDIUM = 8.0  # variances up to which 1024 terms leave nothing of any function here


def _reference(f, g, q1, q2, c, step=1 / 24, reach=11.5):
    """E f(u) g(v) on a grid of independent normals in extended precision."""
    q1, q2, c = LONG(q1), LONG(q2), LONG(c)
    x = LONG(step) * np.arange(-int(reach / step), int(reach / step) + 1)
    weight = np.exp(-x * x / 2)
    weight /= weight.sum()
    slope = c / np.sqrt(q1)
    rest = np.sqrt(max(q2 - slope * slope, LONG(0)))
    return (weight * f(np.sqrt(q1) * x)) @ g(slope * x[:, None] + rest * x) @ weight


def _cases(count, seed, top=10.0):
    """(q1, q2, c) with correlations uniform, at ±(1 - 10^-u), and at ±1."""
    rng = np.random.default_rng(seed)
    q1, q2 = np.exp(rng.uniform(np.log(0.1), np.log(top), (2, count)))
    near = 1 - 10.0 ** -rng.uniform(1, 15, count)
    rho = np.choose(np.arange(count) % 6, [rng.uniform(-1, 1, count), near, -near, near, 1.0, -1.0])
    rho[0] = 1 - 1e-15
    q1[1] = q2[1] = top
    bound = np.maximum(np.sqrt(q1) * np.sqrt(q2), np.sqrt(q1 * q2))
    return q1, q2, np.clip(rho * bound, -bound, bound)


@pytest.mark.parametrize("first, second", PAIRS)
def test_against_extended_precision(first, second):
    q1, q2, c = _cases(12, seed=3)
    value, error = mehler(first(U) * second(V), (U, V), q1, q2, c)
    want = [_reference(FORMULAS[first], FORMULAS[second], *row) for row in zip(q1, q2, c, strict=True)]
    difference = np.abs(value - np.array(want)).astype(float)
    assert np.all(difference <= error + 2e-16)
    assert difference.max() <= 1e-12 and error.max() <= 1e-12


@pytest.mark.parametrize("function", [Erf, ErfPrime, Gelu, GeluPrime, Sin, Cos, Gauss])
def test_against_closed_forms(function):
    q1, q2, c = (np.concatenate(rows) for rows in zip(_cases(300, 5), _cases(300, 6, 2.0), strict=True))
    value, error = mehler(function(U) * function(V), (U, V), q1, q2, c)
    want = find_pair(function, function)(q1, q2, c)
    assert np.all(np.abs(value - want) <= error + 4e-15 * np.abs(want))
    assert np.abs(value - want).max() <= 1e-12


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("name", ["tanh", "sigmoid", "gelu", "erf'"])
def test_full_correlation_against_mpmath(name, sign):
    cls = {"tanh": Tanh, "sigmoid": Sigmoid, "gelu": Gelu, "erf'": ErfPrime}[name]
    f = {
        "tanh": mp.tanh,
        "sigmoid": lambda x: 1 / (1 + mp.exp(-x)),
        "gelu": lambda x: x * mp.ncdf(x),
        "erf'": lambda x: 2 * mp.exp(-x * x) / mp.sqrt(mp.pi),
    }[name]
    q1, q2 = 4.0, 6.25  # their roots are exact
    value, error = mehler(cls(U) * cls(V), (U, V), q1, q2, sign * 5.0)
    with mp.workdps(25):
        ends = [-12, -4, -1, 0, 1, 4, 12]
        want = mp.quad(lambda x: f(2 * x) * f(sign * mp.mpf("2.5") * x) * mp.npdf(x), ends)
    assert abs(value - float(want)) <= error <= 1e-13


@pytest.mark.parametrize("rho", ["0.3", "-0.875", "0.99609375"])
def test_nested_mpmath_quadrature(rho):
    """E tanh(u) tanh(v), the inner integral by mpmath on a trapezoid grid of 25 digits."""
    with mp.workdps(25):
        r, step = mp.mpf(rho), mp.mpf("0.125")
        rest = mp.sqrt(1 - r * r)
        grid = [step * n for n in range(-80, 81)]
        weight = [step * mp.npdf(x) for x in grid]
        inner = [mp.fsum(w * mp.tanh((r * x + rest * y) / 2) for w, y in zip(weight, grid, strict=True)) for x in grid]
        want = mp.fsum(w * mp.tanh(x / 2) * y for w, x, y in zip(weight, grid, inner, strict=True))
    value, error = mehler(Tanh(U) * Tanh(V), (U, V), 0.25, 0.25, 0.25 * float(r))
    assert abs(value - float(want)) <= error <= 1e-14


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    which=st.sampled_from(PAIRS),
    q1=st.floats(0.0, 60.0),
    q2=st.floats(0.01, 60.0),
    gap=st.floats(0, 15) | st.just(np.inf),
    sign=st.sampled_from([-1, 1]),
)
def test_every_bound_holds(which, q1, q2, gap, sign):
    first, second = which
    bound = max(np.sqrt(q1) * np.sqrt(q2), np.sqrt(q1 * q2))
    c = sign * (1 - 10.0**-gap) * bound
    value, error = mehler(first(U) * second(V), (U, V), q1, q2, c)
    if q1 == 0:
        want = numeric(first)(np.zeros(1))[0] * _reference(lambda x: 1 + 0 * x, FORMULAS[second], 1.0, q2, 0.0)
    else:
        want = _reference(FORMULAS[first], FORMULAS[second], q1, q2, c, step=1 / 48)
    assert abs(float(value - want)) <= error + 1e-15


@pytest.mark.parametrize("q1, q2", [((7, 1), (1, 5)), ((1, 5), (7, 1)), ((), (7, 5)), ((5,), (7, 1)), ((7, 5), (7, 5))])
def test_broadcasting_is_entry_by_entry(q1, q2):
    rng = np.random.default_rng(8)
    a, b = rng.uniform(0.1, MEDIUM, q1), rng.uniform(0.1, MEDIUM, q2)
    c = rng.uniform(-1, 1, (7, 5)) * np.sqrt(a * b)
    value, error = mehler(Silu(U) * Tanh(V), (U, V), a, b, c)
    assert value.shape == error.shape == (7, 5)
    rows = zip(*(np.broadcast_to(x, (7, 5)).ravel() for x in (a, b, c)), strict=True)
    one = [mehler(Silu(U) * Tanh(V), (U, V), *row)[0] for row in rows]
    np.testing.assert_allclose(value.ravel(), one, rtol=0, atol=2e-14)


def test_many_distinct_variances_are_cut_into_parts(monkeypatch):
    rng = np.random.default_rng(9)
    for shape1, shape2 in [((300,), (300,)), ((40, 1), (1, 30)), ((1, 300), (4, 300))]:
        a, b = rng.uniform(0.1, 3, shape1), rng.uniform(0.1, 3, shape2)
        c = rng.uniform(-1, 1, np.broadcast_shapes(shape1, shape2)) * np.sqrt(a * b)
        whole = mehler(Tanh(U) * Sigmoid(V) ** 2, (U, V), a, b, c)
        with monkeypatch.context() as patch:
            patch.setattr("tensorprog.expectations.series.mehler.DISTINCT", 16)
            parts = mehler(Tanh(U) * Sigmoid(V) ** 2, (U, V), a, b, c)
        np.testing.assert_allclose(parts[0], whole[0], rtol=0, atol=5e-15)


def test_coefficients_of_polynomials_and_exponentials():
    q = np.array([0.0, 0.25, 4.0])
    cubic = coefficients(lambda x: x**3, -1, q)
    assert cubic.parts[0] is None
    np.testing.assert_allclose(cubic.parts[1][:2], [3 * q**1.5, np.sqrt(6) * q**1.5], rtol=1e-14, atol=0)
    np.testing.assert_allclose(cubic.square, 15 * q**3, rtol=1e-14)
    exponential = coefficients(np.exp, 0, q)
    np.testing.assert_allclose(exponential.mean, np.exp(q / 2), rtol=1e-14)
    np.testing.assert_allclose(exponential.parts[1][1], np.exp(q / 2) * q**1.5 / np.sqrt(6), rtol=1e-14, atol=1e-15)
    assert np.all(exponential.tails[-1] <= 1e-14 * exponential.square) and exponential.tails.shape == (len(LEVELS), 3)


def test_what_cannot_be_computed_has_no_small_bound():
    assert not mehler(Tanh(U) * Tanh(V), (U, V), 100.0, 100.0, 100.0)[1] <= 1e-9
    assert not mehler(TanhPrime(U) * TanhPrime(V), (U, V), 1e6, 1e6, 1e6)[1] <= 1e-9
    assert not mehler(Exp(U) * Tanh(V), (U, V), 900.0, 1.0, 1.0)[1] <= 1e-9


def test_split():
    assert split(3 * Tanh(U) * U**2 * Sin(V), (U, V)).second == Sin(V)
    phi = abstract("phi")
    others = [Relu(U) * Tanh(V), Tanh(U + V), Tanh(U), Tanh(2 * U) * Tanh(V), Tanh(U) / V, sp.sqrt(U) * Tanh(V)]
    assert [split(body, (U, V)) for body in others] == [None] * len(others)
    assert split(Tanh(U) * Tanh(V) * sp.Symbol("s"), (U, V)) is None
    with pytest.raises(ValueError, match="not a product"):
        mehler(phi(U + V), (U, V), 1.0, 1.0, 0.5)


def test_many_pairs_use_the_series_and_agree_with_quadrature():
    q1, q2, c = _cases(90, seed=11, top=MEDIUM)
    got = expectation(Tanh(U) * Silu(V), (U, V), [[q1, c], [None, q2]])
    assert got.method == "Mehler series"
    few = [expectation(Tanh(U) * Silu(V), (U, V), [[q1[s], c[s]], [None, q2[s]]]) for s in (slice(60), slice(60, 90))]
    assert few[0].method == "trapezoid"
    want, error = (np.concatenate([getattr(f, name) for f in few]) for name in ("value", "error"))
    assert np.all(np.abs(got.value - want) <= got.error + error + 1e-15)


def test_entries_that_the_series_misses_go_to_localised_sums():
    q = np.geomspace(0.1, 60, 30)
    got = expectation(Tanh(U) * Tanh(V), (U, V), [[q[:, None], np.minimum(q[:, None], q)], [None, q]])
    assert got.method == "Mehler series + localised trapezoid" and got.value.shape == (30, 30)
    assert got.error.max() <= 1e-9
    want = [_reference(np.tanh, np.tanh, x, x, x, step=1 / 48) for x in q[::7]]
    np.testing.assert_allclose(np.diagonal(got.value)[::7], np.array(want, float), atol=1e-11)
    large = expectation(Tanh(U) * Tanh(V), (U, V), [[np.full(65, 1e3), np.full(65, 1e3)], [None, 1e3]])
    assert large.method == "localised trapezoid"


def test_sums_zero_means_and_abstract_functions():
    q1, q2, c = (a.reshape(10, 7) for a in _cases(70, seed=12, top=2.0))
    got = expectation(
        Tanh(U) * Silu(V) + 2 * U**2 * Sigmoid(V), (U, V), [[q1, c], [None, q2]], [np.zeros((3, 10, 7)), 0]
    )
    assert got.method == "Mehler series" and got.value.shape == (3, 10, 7)
    parts = [expectation(body, (U, V), [[q1, c], [None, q2]]).value for body in (Tanh(U) * Silu(V), U**2 * Sigmoid(V))]
    np.testing.assert_allclose(got.value[1], parts[0] + 2 * parts[1], rtol=1e-13)


def test_a_million_pairs_take_a_second():
    """0.3 to 0.5 s on one core; the limit is generous because machines are shared."""
    rng = np.random.default_rng(0)
    q1, q2 = np.exp(rng.uniform(np.log(0.1), np.log(10), (2, 1000)))
    q1, q2 = q1[:, None], q2[None]
    c = rng.uniform(-1, 1, (1000, 1000)) * np.sqrt(q1 * q2)
    mehler(Tanh(U) * Tanh(V), (U, V), q1[:2], q2, c[:2])
    start = time.process_time()
    _, error = mehler(Tanh(U) * Tanh(V), (U, V), q1, q2, c)
    assert time.process_time() - start < 6 and error.max() < 1e-13
