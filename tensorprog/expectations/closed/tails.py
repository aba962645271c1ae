"""Moments of truncated powers far beyond their kinks, by formulas of positive terms, so that no digit is lost.

With I_n(x) = E s_n(x + ξ), ξ standard normal, one moment is √qⁿ I_n((E u - κ)/√q).  For two, dK(m, n)/dc = K(m-1, n-1)
(R. Price, 1958), and K = 0 at ρ = -1 where the standardised kinks have h + k > 0; hence for m ≥ n

    K(m, n) = ∫_{-√(q1 q2)}^c (c - c')ⁿ/n! K(m-n-1, -1; c') dc',   K(j, -1) = E s_j(u - κ) δ(v - λ),

a density times I_j, in the angle τ = arccos ρ'.  Its exponent is a²/2 + y²/2 with a = max(h, k), b = min(h, k) and
y = (b - a cos τ)/sin τ, at most a²/2, which stands before the integral.
"""

from __future__ import annotations

from math import comb, factorial
from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations.determinants import two_product
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.expectations.quadrature.trapezoid import blocks

Array = Any
ORDER = 28  # nodes of a panel
PEAK = np.array([-9.0, -5.0, -2.0, 2.0, 5.0, 9.0, 17.0])  # where panels end around y = 0, in units of y
RIM = 0.125  # and before τ = π, in units of a + b
RATIO = 4.0  # of panels that grow from the ends of the integral
EMPTY = 200.0  # y² beyond which a panel holds nothing
MOST = 1e30  # ratio of the largest and the smallest of them
LEFT = -1.0  # where I_n begins to be a continued fraction
FRACTIONS = 250  # of it there; their number falls like 1/x²
TINY = 1e-30  # an angle that only empty panels reach


def single(order: int, e: Array, q: Array, front: Array | None = None) -> Array:
    """E s_n(u - κ) to a relative error of some 1e-15, also where E u - κ lies far below 0.

    Args:
        order: n ≥ 0.
        e: E u - κ.
        q: variance, above 0.
        front: exp(-e²/(2q)), where the caller knows it better, or it times a factor of the result.

    Returns:
        Array of the broadcast shape.

    Reference: W. Gautschi, Computational aspects of three-term recurrence relations, SIAM Review 1967, for the minimal
    solution I_n of the recursion n I_n = x I_(n-1) + I_(n-2).

    >>> float(single(1, np.array(0.0), np.array(2 * np.pi)))
    1.0
    """
    x = e / np.sqrt(q)
    front = np.where(x < 0, bell(e, q), 1.0) if front is None else front
    return np.sqrt(q) ** order * front * _scaled(order, x)


def root_mean_square(order: int, e: Array, q: Array, rate: float = 0.0) -> Array:
    """√(E exp(2b(u - κ)) s_n(u - κ)²) for a rate b, to a few percent; E s_n² = C(2n, n) E s_2n."""
    x = (e + 2 * rate * q) / np.sqrt(q)
    square = comb(2 * order, order) * _scaled(2 * order, x, rough=True)
    exponent = np.where(x < 0, -(e**2) / (4 * q), rate * (e + rate * q))
    return np.sqrt(q) ** order * np.exp(exponent) * np.sqrt(square)


def bell(e: Array, q: Array, lift: Array = 0.0) -> Array:
    """exp(lift - e²/(2q)), where the rounding of e²/(2q) is carried."""
    exponent = e * e / q
    (square, lost), (product, more) = two_product(e, e), two_product(exponent, q)
    rest = ((square - product) + (lost - more)) / q
    return np.exp(lift - exponent / 2) * (1 - rest / 2)


def _scaled(order: int, x: Array, rough: bool = False) -> Array:
    """I_n(x) exp(min(x, 0)²/2); I_(-1) is the density."""
    left = np.minimum(x, 0.0)
    before = np.exp((left**2 - x**2) / 2) / np.sqrt(2 * np.pi)
    if order < 0:
        return before
    value = np.where(x < 0, special.erfcx(-left / np.sqrt(2)) / 2, special.ndtr(x))
    first = value
    for n in range(1, order + 1):
        before, value = value, (x * value + before) / n
    if not order or not np.any(x < LEFT):
        return value
    z = -np.minimum(x, LEFT)
    return np.where(x < LEFT, first * _fractions(order, z, 2 if rough else 20 + int(FRACTIONS / z.min() ** 2)), value)


def _fractions(order: int, z: Array, extra: int) -> Array:
    """I_n(-z)/I_0(-z), the product of the ratios I_k/I_(k-1) = 1/(z + (k + 1) I_(k+1)/I_k)."""
    count = order + extra
    ratio, product = 2 / (z + np.sqrt(z**2 + 4 * (count + 1))), np.ones_like(z)
    for k in reversed(range(1, count + 1)):
        ratio = 1 / (z + (k + 1) * ratio)
        product = product * ratio if k <= order else product
    return product


def double(
    orders: tuple[int, int],
    e: tuple[Array, Array],
    q: tuple[Array, Array],
    turn: tuple[Array, Array],
    fronts: tuple[Array, Array] | None = None,
) -> tuple[Array, Array]:
    """E s_m(u - κ) s_n(v - λ) where h + k > 0 for h = -e_1/√q_1, k = -e_2/√q_2.

    Args:
        orders: m and n.
        e: E u - κ and E v - λ, (N,) each.
        q: variances, above 0, (N,) each.
        turn: cosine and sine of the angle of the two variables, ρ and √(1 - ρ²), (N,) each.
        fronts: exp(-e²/(2q)) of both, (N,) each, where the caller knows them better, or times a factor of the result.

    Returns:
        (value, size), (N,) each; the error is a few units of rounding of the size.

    Reference: R. Price, 1958, for the derivative; Z. Drezner, G. O. Wesolowsky, 1990, for the integral of an orthant.

    >>> one = np.ones(1)
    >>> value, _ = double((1, 1), (-30 * one, -30 * one), (one, one), (one, 0 * one))
    >>> bool(abs(value / (2 * single(2, -30 * one, one)) - 1) < 1e-14)  # E f(u)² = 2 E s_2
    True
    """
    fronts = fronts or (bell(e[0], q[0]), bell(e[1], q[1]))
    if orders[0] < orders[1]:
        return double(orders[::-1], e[::-1], q[::-1], turn, fronts[::-1])
    result = np.empty((2, len(turn[0])))
    for rows in blocks(len(turn[0]), 40 * ORDER):
        result[:, rows] = _double(orders, *(a[rows] for a in (*e, *q, *turn, *fronts)))
    return result[0], result[1]


def _double(
    orders: tuple[int, int], e1: Array, e2: Array, q1: Array, q2: Array, rho: Array, r: Array, *fronts: Array
) -> Array:
    (m, n), r1, r2 = orders, np.sqrt(q1), np.sqrt(q2)
    h, k = -e1 / r1, -e2 / r2
    apart, gap = _squares(e1, q1, e2, q2)
    a, delta = np.maximum(h, k), np.abs(apart)
    theta, left = (np.maximum(np.arctan2(r, c), TINY) for c in (rho, -rho))
    end = np.maximum(_height(a, delta, gap, *_turned(theta, left)), 0.0)
    row, s, weight = _panels(a, delta, gap, theta, left, end)
    at = lambda x: x[row, None]  # noqa: E731
    half, early = _turned(np.maximum(at(theta) + s, TINY), np.maximum(at(left) - s, TINY))
    y = _height(at(a), at(delta), at(gap), half, early)
    falls = at(apart >= 0) | (y > 0) | (m == n)  # elsewhere I_j grows as a polynomial
    body = weight * np.exp(-(np.where(falls, y, 0.0) ** 2) / 2)
    if n:
        body = body * (2 * np.sin(np.where(at(rho > 0), at(theta) + s / 2, at(left) - s / 2)) * np.sin(s / 2)) ** n
    if m > n:
        sine = 2 * half / (1 + half**2)
        body = body * sine ** (m - n) * _scaled(m - n - 1, -_height(at(k), -at(apart), at(gap), half, early))
    else:
        body = body / np.sqrt(2 * np.pi)
    front = np.where(apart >= 0, *fronts) / (float(factorial(n)) * np.sqrt(2 * np.pi))
    value = r1**m * r2**n * front * np.bincount(row, body.sum(axis=1), len(a))
    near = np.minimum(theta, left)
    slope = np.where(rho > 0, delta, gap) / near + a * near  # of y, times the angle
    return np.stack([value, value * (1 + a**2 + end**2 + end * (a / near + slope))])


def _squares(e1: Array, q1: Array, e2: Array, q2: Array) -> tuple[Array, Array]:
    """h - k for e_1 e_2 > 0 and h + k for e_1 e_2 < 0, from h² - k² without cancellation; the other one directly."""
    h, k = -e1 / np.sqrt(q1), -e2 / np.sqrt(q2)
    difference, close = _minus(e1, q2, e2, q1) / (q1 * q2), e1 * e2 > 0
    apart = np.where(close, difference / np.where(close, h + k, 1.0), h - k)
    gap = np.where(close, h + k, difference / np.where(close | (h == k), 1.0, h - k))
    return apart, gap


def _minus(e1: Array, q2: Array, e2: Array, q1: Array) -> Array:
    """e_1² q_2 - e_2² q_1 with the rounding of its products."""
    (first, lost), (second, gone) = two_product(e1, e1), two_product(e2, e2)
    (left, more), (right, less) = two_product(first, q2), two_product(second, q1)
    return (left - right) + ((more + lost * q2) - (less + gone * q1))


def _turned(t: Array, back: Array) -> tuple[Array, Array]:
    """tan(t/2) or, where t is above π/2, tan((π - t)/2), and which of them."""
    return np.tan(np.minimum(t, back) / 2), t < back


def _height(a: Array, delta: Array, gap: Array, half: Array, early: Array) -> Array:
    """y = (b - a cos t)/sin t for b = a - δ and a + b = gap, by what :func:`_turned` gives."""
    return np.where(early, 1.0, -1.0) * (a * half - np.where(early, delta, gap) * (1 / half + half) / 2)


def _panels(a: Array, delta: Array, gap: Array, theta: Array, left: Array, end: Array) -> tuple[Array, Array, Array]:
    """Panels from θ to π = θ + left that resolve y, which rises from ``end``: their rows, nodes τ - θ and weights."""
    level = 2 * np.arcsin(np.sqrt(np.minimum(delta / (2 * a), 1.0)))  # where y = 0
    steep = np.where(end > 0, end * (delta / np.sin(np.minimum(theta, left)) ** 2 + np.abs(a - delta)), 0.0)
    start = np.maximum(theta, delta / 9)
    first, last = np.minimum(np.where(start > TINY, start / 3, np.inf), 1 / (a + steep)), left[:, None]
    grown = first[:, None] * (RATIO ** np.arange(1, _count(np.pi / first) + 1) - 1)
    peak = level[:, None] + PEAK / a[:, None] - theta[:, None]
    rim = last - gap[:, None] * RIM * RATIO ** np.arange(_count(left / (RIM * gap)) + 1)
    ends = np.clip(np.concatenate([0 * last, grown, peak, rim, last], axis=1), 0.0, last)
    ends.sort(axis=1)
    low, width = ends[:, :-1], np.diff(ends, axis=1)
    turned = _turned(theta[:, None] + low, np.maximum(last - low, TINY))
    y = _height(a[:, None], delta[:, None], gap[:, None], *turned)
    row, panel = np.nonzero((width > 0) & (np.maximum(y, 0.0) ** 2 < end[:, None] ** 2 + EMPTY))
    node, weight = legendre(ORDER)
    low, width = low[row, panel, None], width[row, panel, None]
    return row, low + width * node, width * weight


def _count(length: Array) -> int:
    """Panels that grow from 1 to the largest of some lengths."""
    return int(np.ceil(np.log1p(np.clip(length, 0.0, MOST).max()) / np.log(RATIO)))
