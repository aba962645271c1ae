"""Moments of two truncated powers: opposite kinks, exponentials, laws at the edge of what numbers hold."""

from itertools import pairwise

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from scipy.special import ndtr

from tensorprog.errors import AccuracyError
from tensorprog.expectations.closed import tails
from tensorprog.expectations.closed.pieces import closed, terms
from tensorprog.expectations.closed.plane import Plane
from tensorprog.expectations.closed.quadrant import quadrant
from tensorprog.expectations.closed.truncated import Cut, truncated
from tensorprog.expectations.determinants import determinant
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Elu, HardTanh, Relu, Step, X

UNIT = 4 * 2.3e-16  # of rounding, per size
U, V = sp.symbols("u v", real=True)
SLOW = lambda value: pytest.param(value, marks=pytest.mark.slow)  # noqa: E731


def moment(m, n, law, rates=(0, 0)):
    """E exp(b1 u + b2 v) s_m(u) s_n(v) for n ≤ 1, as an integral over u of the exact conditional moment."""
    q1, q2, c, m1, m2 = (mp.mpf(float(a)) for a in law)
    (b1, b2), root, sigma = rates, mp.sqrt(q1), mp.sqrt(max(q2 - c * c / q1, mp.mpf(0)))

    def given(x):
        mean = m2 + c / q1 * (x - m1)
        z, shifted = mean / sigma + b2 * sigma, mean + b2 * sigma**2
        tail = mp.erfc(-z / mp.sqrt(2)) / 2
        return mp.exp(b2 * mean + (b2 * sigma) ** 2 / 2) * (shifted * tail + sigma * mp.npdf(z) if n else tail)

    centre, turn = m1 + b1 * q1, m1 - m2 * q1 / c if c else m1
    width = sigma * q1 / abs(c) if c else root
    points = [centre + k * root for k in range(-12, 13, 2)] + [turn + k * width for k in (-12, -6, -3, 0, 3, 6, 12)]
    points += [root * mp.mpf(2) ** -k for k in range(8)]
    ends = sorted({mp.mpf(0), *(x for x in points if 0 < x < centre + 14 * root + 4 * abs(c * b2))})
    ends.append(max(centre + abs(c * b2), 0) + 14 * root)
    ends = sorted({*ends, *((a + b) / 2 for a, b in pairwise(ends))})
    return mp.quad(lambda x: mp.exp(b1 * x) * x**m / mp.factorial(m) * mp.npdf((x - m1) / root) / root * given(x), ends)


def plane(q1, q2, c, m1, m2):
    return Plane(*(np.array(a, float) for a in (q1, q2, c, determinant(q1, q2, c), m1, m2)))


@pytest.mark.parametrize("count", [9, SLOW(80)])
def test_random_quadrants_within_their_bounds(count):
    """Kinks on the same and on opposite sides, relative to √(P(u > 0) P(v > 0))."""
    rng = np.random.default_rng(3)
    for number in range(count):
        h, k = rng.normal(0, 2.5, 2)
        rho = [rng.uniform(-1, 1), 1 - 10.0 ** rng.uniform(-6, -1), -1 + 10.0 ** rng.uniform(-6, -1)][number % 3]
        law = 1.0, 1.0, rho, -h, -k if number % 2 else np.sign(rho) * -h * (1 + 1e-3 * rng.normal())
        value, size = quadrant(plane(*law).corner())
        with mp.workdps(20):
            error = abs(mp.mpf(float(value)) - moment(0, 0, law))
        assert error <= UNIT * size + 1e-300 and error <= 1e-300 + 1e-14 * np.sqrt(ndtr(law[3]) * ndtr(law[4]))
        assert size <= 10 * (1 + law[3] ** 2 + law[4] ** 2) * np.sqrt(ndtr(law[3]) * ndtr(law[4])) + 1e-300


@pytest.mark.parametrize("orders", [(0, 0), (1, 1), (2, 1)])
@pytest.mark.parametrize("h, gap", [(0.64, 4.5e-4), (3.0, 1e-7), (-2.0, 1e-3)])
@pytest.mark.parametrize("rho", [-0.9999, SLOW(-0.41), SLOW(0.8)])
def test_kinks_that_are_nearly_opposite(orders, h, gap, rho):
    """The integrand changes within h + k of the end of the integral."""
    law = 1.0, 1.0, rho, -h, h - gap
    one = np.ones(1)
    value, size = tails.double(
        orders, (one * -h, one * (h - gap)), (one, one), (rho * one, np.sqrt(determinant(1.0, 1.0, rho)) * one)
    )
    with mp.workdps(20):
        error = abs(mp.mpf(float(value[0])) - moment(*orders, law))
        squares = [
            mp.binomial(2 * n, n) * tail
            for n, tail in zip(orders, (_tail(2 * orders[0], -h), _tail(2 * orders[1], h - gap)), strict=True)
        ]
    assert error <= UNIT * size[0]
    assert error <= 1e-14 * mp.sqrt(squares[0] * squares[1])


def _tail(n, e):
    """E s_n(e + ξ)."""
    before, value = mp.npdf(e), mp.ncdf(e)
    for k in range(1, n + 1):
        before, value = value, (e * value + before) / k
    return value


@pytest.mark.parametrize("q", [SLOW(0.3), 150.0])
@pytest.mark.parametrize("rho", [SLOW(-0.9), 0.5, SLOW(1 - 1e-4)])
@pytest.mark.parametrize("rates", [(-1, -1), (0, -1), (-2, -1)])
def test_exponentials_of_large_variance_do_not_cancel(q, rho, rates):
    """E exp(b1 u + b2 v) s_m(u) s_n(v): factors of exp(500) times tails of exp(-500) at q = 150."""
    law = q, 1.3 * q, rho * np.sqrt(1.3) * q, 0.3, -0.2
    found = truncated(Cut(0.0, 1), Cut(0.0, 1), rates, plane(*law))
    for orders in ((0, 0), (1, 1)):
        with np.errstate(over="ignore", invalid="ignore"):  # of what the integrals replace
            value, size = found(*orders)
        with mp.workdps(20):
            want = moment(*orders, law, rates)
            error = abs(mp.mpf(float(value)) - want)
        assert error <= UNIT * size
        assert error <= 1e-11 * abs(want) + 1e-15 * np.sqrt(q) ** sum(orders)


def random_laws(rng, count, decades):
    """Variances over so many decades, some 0; |ρ| up to 1 and its rounding; means up to a thousand deviations."""
    q1, q2 = 10.0 ** rng.uniform(-decades, decades, (2, count))
    q1[::50], q2[25::50] = 0.0, 0.0
    gap, sign = 10.0 ** -rng.uniform(0, 18, count), np.sign(rng.uniform(-1, 1, count))
    rho = np.choose(rng.integers(0, 3, count), [rng.uniform(-1, 1, count), sign * (1 - gap), sign])
    bound = np.sqrt(q1) * np.sqrt(q2)
    height = rng.normal(size=(2, count)) * 10.0 ** rng.uniform(-2, 3, (2, count))
    height[1, ::2] = (sign * height[0] * (1 + 1e-12 * rng.normal(size=count)))[::2]
    return q1, q2, np.clip(rho * bound, -bound, bound), height[0] * np.sqrt(q1), height[1] * np.sqrt(q2)


@pytest.mark.parametrize("decades", [0.5, 3.0, 20.0, 150.0])
def test_no_law_gives_nan_in_silence(decades, monkeypatch):
    """Not a number comes with an infinite bound only, and never from the integrals of positive terms."""
    integrals, rows = tails.double, []

    def watched(*arguments):
        rows.append(len(arguments[3][0]))
        result = integrals(*arguments)
        assert np.isfinite(result).all() and np.all(result[1] >= 0)
        return result

    monkeypatch.setattr(tails, "double", watched)
    law = plane(*random_laws(np.random.default_rng(int(decades)), 400, decades))
    with np.errstate(all="ignore"):
        for rates in ((0, 0), (1, 0), (-1, 2)):
            for sides in ((1, 1), (1, -1), (-1, 1)):
                found = truncated(Cut(0.0, sides[0]), Cut(1.0, sides[1]), rates, law)
                for orders in ((0, 0), (1, 0), (1, 1), (2, 1)):
                    value, size = found(*orders)
                    assert not np.any(np.isfinite(size) & ~np.isfinite(value)) and not np.any(size < 0)
        for f, g in ((Elu(X), Elu(X)), (Relu(X), Step(X)), (Elu(X - 1), HardTanh(X))):
            value, error = closed(terms(f, X), terms(g, X), law)
            assert np.isfinite(value).all() and np.all(error >= 0)
    assert sum(rows) > 100


@pytest.mark.parametrize("body", [Elu(U) * Elu(V), Relu(U) * Step(V - 1), Elu(U) * HardTanh(V)], ids=str)
def test_expectations_of_any_law_are_numbers_or_an_error(body):
    rng = np.random.default_rng(8)
    for q1, q2, c, m1, m2 in zip(*random_laws(rng, 60, 3.0), strict=True):
        try:
            got = expectation(body, (U, V), [[q1, c], [None, q2]], [m1, m2])
        except AccuracyError:
            continue
        assert np.isfinite(got.value) and np.isfinite(got.error)
