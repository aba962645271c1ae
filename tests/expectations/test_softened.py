"""Closed forms with means of erf, gelu and of sines beside kinks: references, identities, degenerate laws."""

import importlib.util
from pathlib import Path

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from scipy.special import ndtr

import tensorprog as tp
from tensorprog.expectations import numeric as module
from tensorprog.expectations.closed.pieces import piecewise, terms
from tensorprog.expectations.closed.plane import Plane
from tensorprog.expectations.closed.quadrant import quadrant
from tensorprog.expectations.law import Law
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import (
    FAMILIES,
    Cos,
    Elu,
    Erf,
    Exp,
    Gauss,
    Gelu,
    HardTanh,
    Relu,
    Relu6,
    Sin,
    Step,
    Tanh,
    evaluate,
    member,
)  # fmt: skip

U, V, X = sp.symbols("u v x", real=True)
HERE = Path(__file__).parent
DATA = dict(np.load(HERE / "references_means.npz"))
LAW = {key: DATA.pop(key) for key in ("q1", "q2", "c", "m1", "m2")}
GeluPrime = member(Gelu.family, 1)


def function(name):
    """The function of a name such as gelu'', relu^2, He3, erf(2x-1) or sin*relu."""
    if "*" in name:
        return sp.Mul(*map(function, name.split("*")))
    if "^" in name:
        return function(name.split("^")[0]) ** int(name.split("^")[1])
    if name.endswith("(2x-1)"):
        return function(name[:-6]).subs(X, 2 * X - 1)
    known = {"x": X, "He3": tp.hermite(3)(X), "leaky": tp.leaky_relu(sp.Rational(1, 10))(X)}
    order = name.count("'")
    return known[name] if name in known else sp.diff(member(FAMILIES[name.rstrip("'")], 0)(X), X, order)


def square(f, q, mean):
    """E f(u)² by a fine midpoint rule, to a few digits."""
    z = (np.arange(4000) + 0.5) / 200 - 10
    weight = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) / 200
    return np.broadcast_to(evaluate(f, {X: mean[:, None] + np.sqrt(q)[:, None] * z}) ** 2, (len(q), 4000)) @ weight


@pytest.mark.parametrize("name", DATA)
def test_closed_forms_with_means_to_14_digits(name):
    f, g = map(function, name.split(" "))
    q1, q2, c, m1, m2 = LAW.values()
    got = expectation(f.subs(X, U) * g.subs(X, V), (U, V), [[q1, c], [None, q2]], [m1, m2])
    error, scale = np.abs(got.value - DATA[name]), np.sqrt(square(f, q1, m1) * square(g, q2, m2))
    assert np.max(error / scale) <= 1e-14
    assert np.all(error <= got.error + 2.3e-16 * np.abs(DATA[name]) + 2e-24)
    assert got.method.startswith("closed form")


@pytest.mark.slow
def test_the_references_are_what_the_script_computes():
    pytest.importorskip("flint")
    spec = importlib.util.spec_from_file_location("make_mean_references", HERE / "make_mean_references.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert all(np.array_equal(a, LAW[key]) for key, a in script.laws().items())
    again = script.references(slice(3, 6))
    assert again.keys() == DATA.keys()
    assert all(np.array_equal(value, DATA[key][3:6]) for key, value in again.items())


BODIES = [
    Gelu(2 * U - 1) * Relu(1 - 3 * V),
    Erf(U / 3 + 1) * Gelu(-V) * V**2,
    Sin(3 * U - 1) * HardTanh(2 * V + 1),
    Cos(U) * Relu(U) * Gauss(V),
    Exp(U / 2) * Gelu(U) * Elu(V),
    Sin(2 * U) * Erf(U) * V,
    Gauss(U) * GeluPrime(U) * Relu6(V),
    sp.erf(U) * sp.sin(V) ** 2,
]


@pytest.mark.parametrize("body", BODIES, ids=str)
def test_closed_forms_are_what_quadrature_gives(body):
    rng = np.random.default_rng(len(str(body)))
    q1, q2 = np.exp(rng.uniform(-3, 2, (2, 24)))
    rho = np.where(np.arange(24) % 3, rng.uniform(-1, 1, 24), 1 - 10.0 ** -rng.uniform(2, 14, 24))
    cov = {(0, 0): q1, (1, 1): q2, (0, 1): rho * np.sqrt(q1 * q2)}
    law, body = Law((U, V), cov, tuple(rng.uniform(-2, 2, (2, 24))), {}, 1e-12, 1e-14), module.from_sympy(body)
    found, scale = piecewise(body, law)
    want = module._quadrature(body, law)
    assert np.all(np.abs(found.value - want.value) <= found.error + want.error)
    assert np.median(found.error / (scale() + np.abs(found.value))) <= 1e-12 and np.isfinite(found.error).all()


@pytest.mark.parametrize("f", [Erf, Gelu, GeluPrime, Sin], ids=str)
@pytest.mark.parametrize("g", [Gelu, Relu, Elu], ids=str)
def test_derivatives_in_means_and_covariance(f, g):
    """∂E/∂m1 = E f'g and ∂E/∂c = E f'g'."""
    cov, mean, h = [[1.3, 0.7], [None, 2.1]], [0.2, -0.4], 1e-4
    at = lambda m, c: float(expectation(f(U) * g(V), (U, V), [[1.3, c], [None, 2.1]], [m, -0.4]).value)  # noqa: E731
    slope, lift = sp.diff(f(U), U) * g(V), sp.diff(f(U), U) * sp.diff(g(V), V)
    got = [float(expectation(body, (U, V), cov, mean).value) for body in (slope, lift)]
    assert got[0] == pytest.approx((at(0.2 + h, 0.7) - at(0.2 - h, 0.7)) / (2 * h), abs=2e-8)
    assert got[1] == pytest.approx((at(0.2, 0.7 + h) - at(0.2, 0.7 - h)) / (2 * h), abs=2e-8)


@pytest.mark.parametrize("f, g", [(Gelu, Gelu), (Erf, Gelu), (Gelu, Relu), (Erf, HardTanh), (Sin, Relu), (Sin, Gelu)])
def test_equal_proportional_and_constant_variables(f, g):
    """E f(u)g(u), at correlation ±1, and at variance 0."""
    once = expectation(f(U) * g(U), (U,), [[1.44]], [0.3])
    twice = expectation(f(U) * g(V), (U, V), [[1.44, 1.44], [None, 1.44]], [0.3, 0.3])
    assert once.method == "closed form" and twice.value == pytest.approx(float(once.value), rel=4e-15)
    flipped = expectation(f(U) * g(V), (U, V), [[1.44, -2.88], [None, 5.76]], [0.3, -0.1])
    alone = expectation(f(U) * g(sp.Rational(1, 2) - 2 * U), (U,), [[1.44]], [0.3])
    assert flipped.value == pytest.approx(float(alone.value), rel=1e-14)
    z = (np.arange(200001) + 0.5) / 10000 - 10
    values = evaluate(f(X) * g(X), {X: 0.3 + 1.2 * z})
    assert once.value == pytest.approx(np.sum(values * np.exp(-(z**2) / 2)) / np.sqrt(2 * np.pi) / 10000, abs=1e-8)
    still = expectation(f(U) * g(V), (U, V), [[0.0, 0.0], [None, 1.44]], [0.3, 0.1])
    mean = expectation(g(V), (V,), [[1.44]], [0.1])
    assert still.value == pytest.approx(float(evaluate(f(X), {X: 0.3}) * mean.value), rel=1e-14)
    assert expectation(f(U) * g(U), (U,), [[0.0]], [0.3]).value == evaluate(f(X) * g(X), {X: 0.3})


def test_arrays_broadcast_and_few_entries_may_be_degenerate():
    q = np.array([0.0, 1.0, 2.0])
    got = expectation(Gelu(U) * Erf(V), (U, V), [[q[:, None], 0.0], [None, q]], [np.zeros((3, 1)), 0.5])
    ones = [[expectation(f(U), (U,), [[s]], [m]).value for s in q] for f, m in ((Gelu, 0.0), (Erf, 0.5))]
    np.testing.assert_allclose(got.value, np.outer(*ones), rtol=1e-14, atol=1e-16)


@pytest.mark.parametrize("q", [1e-3, 1e3, 1e6])
def test_small_and_large_variances(q):
    """Sine times relu decays like 1/q; gelu becomes relu, or x/2 + x²/√(2π)."""
    cov = [[q, q / 2], [None, q]]
    wave = expectation(Sin(U) * Relu(V), (U, V), cov, [0.3, 0.2])
    ramp = expectation(Gelu(U) * Gelu(V), (U, V), cov, [0.3, 0.2])
    sharp = expectation(Relu(U) * Relu(V), (U, V), cov, [0.3, 0.2])
    assert np.isfinite(wave.value) and wave.error <= 1e-12 * np.sqrt(q) and ramp.error <= 1e-12 * (q + 0.1)
    assert abs(wave.value) <= np.sqrt(q + 0.04)
    if q > 1:
        assert ramp.value == pytest.approx(float(sharp.value), rel=3 / np.sqrt(q))


@pytest.mark.parametrize("rho", [-0.999, -0.6, 0.0, 0.3, 0.99])
def test_quadrants_have_an_error_small_beside_their_edges(rho):
    """P(z1 > h, z2 > k) = ∫_h^∞ φ(x) Q((k - ρx)/r) dx, within its bound and 1e-14 √(Q(h) Q(k))."""
    with mp.workdps(30):
        for h, k in ((3.3, 2.9), (4.2, -0.6), (-1.0, 5.0), (2.0, 2.0), (0.0, 3.0), (0.0, 0.0), (-2.0, -4.0)):
            exact = mp.mpf(rho), mp.sqrt(1 - mp.mpf(rho) ** 2)
            f = lambda x, k=k, exact=exact: mp.npdf(x) * mp.ncdf((exact[0] * x - k) / exact[1])  # noqa: E731
            ends = [h, *sorted(x for x in (0.0, k, k / rho if rho else 0.0, h + 1, h + 4) if h < x < 14), 14]
            want = float(mp.quad(f, ends))
            value, size = quadrant(Plane(1.0, 1.0, rho, float(exact[1] ** 2), -h, -k).corner())
            assert abs(value - want) <= 9e-16 * size + 1e-25
            assert abs(value - want) <= 1e-14 * np.sqrt(ndtr(-h) * ndtr(-k))


def test_what_is_beyond_closed_forms():
    for body in (Sin(X) * Tanh(X), Erf(X) * Step(X), Gelu(X) ** 2, Erf(X**2)):
        assert terms(body, X) is None
    waves = expectation(Sin(U) * Relu(U) * Relu(V), (U, V), [[1.0, 0.5], [None, 1.0]], [0.3, 0.2])
    assert "panels" in waves.method  # the normal probability of a quadrant at complex arguments
    soft = expectation(Gelu(U) ** 2 * Relu(V), (U, V), [[1.0, 0.5], [None, 1.0]], [0.3, 0.2])
    assert "panels" in soft.method
