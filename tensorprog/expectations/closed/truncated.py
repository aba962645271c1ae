"""E exp(b1 u + b2 v) s_m(u - κ) s_n(v - λ) for s_n(x) = x₊ⁿ/n!, by Stein's identity, with a bound of the rounding.

Since x s_{m-1}(x) = m s_m(x) and s_m' = s_{m-1}, Stein's identity is a recursion in the orders,

    m K(m, n) = (E u - κ) K(m-1, n) + q1 K(m-2, n) + c K(m-1, n-1),

with the means that the exponentials shift; its order -1 is a Dirac delta: the density times a conditional expectation,
a recursion of the same kind.  Its start is the probability of a quadrant.  Where kinks are far out the terms cancel,
and :mod:`tails` takes over.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations.closed import tails
from tensorprog.expectations.closed.plane import OUT, Plane, ratio
from tensorprog.expectations.closed.quadrant import quadrant

Array = Any
Sized = tuple[Array, Array]  # a value, and a size whose rounding bounds its error
NEAR = 0.5  # standard deviations within which no kink makes terms cancel
FAR = 1e6  # and beyond which no digit of a density is left
CLOSE = 1e-12  # fraction of a kink by which it must be farther out than an opposite one
LOSS = 100.0  # size of the recursion's terms, in units of √(E f² E g²), that costs too many digits
SMALL = 1e-250  # product of variances below which products of squares underflow


@dataclass(frozen=True)
class Cut:
    """Where and how a power is cut: at a kink, beyond it on one side (0: nowhere), by a step of a width."""

    kink: float = 0.0
    side: int = 0
    width: float = 0.0


def truncated(first: Cut, second: Cut, rates: tuple[float, float], plane: Plane) -> Callable[[int, int], Sized]:
    """The moments of two truncated powers and exponentials, as a function of the orders of the powers.

    Args:
        first, second: the cuts, of width 0, of the powers (side (x - kink))ⁿ/n! of u and v.
        rates: b1 and b2.
        plane: law of (u, v); a variable of zero variance is allowed where it is not at its kink.

    Returns:
        Function of (m, n) that gives (value, size), arrays of the broadcast shape; the error is a few units of
        rounding of the size, which is NaN or infinite where numbers overflow.

    Reference: C. Stein, 1981, for the identity; the recursion in this form is ours.

    >>> relu = Cut(0.0, 1)
    >>> moment = truncated(relu, relu, (0.0, 0.0), Plane(1.0, 1.0, 1.0, 0.0, 0.0, 0.0))
    >>> float(moment(1, 1)[0])
    0.5
    """
    one, two = first.side or 1, second.side or 1
    law = plane.seen((one, two), (first.kink, second.kink))
    constant = rates[0] * first.kink + rates[1] * second.kink
    moments = _Moments(law, (one * rates[0], two * rates[1]), constant, (bool(first.side), bool(second.side)))
    return moments.weighted


class _Moments:
    """K(m, n) of powers cut at 0 from below, of whole powers where not ``cut``, times exp(b1 u + b2 v + constant)."""

    def __init__(self, law: Plane, rates: tuple[float, float], constant: float, cut: tuple[bool, bool]) -> None:
        self.law, self.rates, self.constant, self.cut = law, rates, constant, cut
        shifted, self.exponent = law.shifted(*rates)
        self.e, self.q = (shifted.m1, shifted.m2), (law.q1, law.q2)
        self.memo: dict[tuple[int, int], Sized] = {}
        if any(cut):
            self.corner = shifted.corner()
            self.heights = self.corner.h, self.corner.k

    def weighted(self, m: int, n: int) -> Sized:
        """The moment and its size, by the recursion or by integrals of positive terms."""
        value, size = self._moment(m, n)
        if any(self.rates):
            weight = np.exp(self.exponent + self.constant)
            value, size = weight * value, weight * size * (1 + np.abs(self.exponent) + abs(self.constant))
        if all(self.cut):
            return self._both_far(m, n, value, size)
        for axis, order, other in ((0, m, n), (1, n, m)):
            if self.cut[axis] and not other:
                return self._far(axis, order, value, size)
        return value, size

    def _far(self, axis: int, n: int, value: Array, size: Array) -> Sized:
        """The moment of order n of one variable, with the entries below its kink as an integral."""
        height, e, q, front, cost = np.broadcast_arrays(
            self.heights[axis], self.e[axis], self.q[axis], *self._front(axis)
        )
        rows = (height > 0) & (height < OUT) & (q > 0)
        if not rows.any():
            return value, size
        tail, far = np.zeros(rows.shape), np.zeros(rows.shape)
        tail[rows] = tails.single(n, e[rows], q[rows], front[rows])
        far[rows] = tail[rows] * cost[rows]
        return np.where(rows, tail, value), np.where(rows, far, size)

    def _both_far(self, m: int, n: int, value: Array, size: Array) -> Sized:
        """The moment of two truncated variables, with the entries whose terms cancel as integrals."""
        h, k, q1, q2 = *self.heights, *self.q
        most = np.maximum(h, k)
        rows = (h + k > CLOSE * most) & (most > NEAR) & (most < FAR) & (q1 * q2 > SMALL) & (q1 * q2 < 1 / SMALL)
        scale = np.exp(self.constant)
        for order, e, q, rate in zip((m, n), (self.law.m1, self.law.m2), self.q, self.rates, strict=True):
            scale = scale * tails.root_mean_square(order, e, q, rate)
        (front1, cost1), (front2, cost2) = self._front(0), self._front(1)
        rows = rows & ~(size <= LOSS * scale) & np.isfinite(front1 + front2)
        if not rows.any():
            return value, size
        shape = np.broadcast_shapes(rows.shape, np.shape(value))
        rows = np.broadcast_to(rows, shape)
        flat = *self.e, *self.q, self.corner.rho, self.corner.r, front1, front2, cost1 + cost2
        e1, e2, q1, q2, rho, r, front1, front2, cost = (np.broadcast_to(a, shape)[rows] for a in flat)
        value, size = (np.array(np.broadcast_to(a, shape)) for a in (value, size))
        value[rows], own = tails.double((m, n), (e1, e2), (q1, q2), (rho, r), (front1, front2))
        size[rows] = own + value[rows] * cost
        return value, size

    def _front(self, axis: int) -> Sized:
        """exp(-e²/(2q)) of a variable times E exp(b1 u + b2 v + constant), and the units of rounding that it costs.

        It is what stands before exponentials at u = κ: exp(-(κ - m)²/(2q) + b u + b' E[v | u] + b'² Var[v | u]/2), of
        which nothing cancels.
        """
        e, q, other = (self.law.m1, self.law.m2)[axis], self.q[axis], (self.law.m1, self.law.m2)[1 - axis]
        rate = self.rates[1 - axis]
        if not any(self.rates):
            return tails.bell(e, q), 1 + e**2 / q
        far = self.law.c * e / q
        lift = rate * (other - far) + rate**2 * self.law.det / (2 * q) + self.constant
        return tails.bell(e, q, lift), 1 + e**2 / q + np.abs(rate) * (np.abs(other) + np.abs(far)) + np.abs(lift)

    def _moment(self, m: int, n: int) -> Sized:
        """K(m, n) of the shifted law and its size, by the recursion."""
        if (m, n) not in self.memo:
            self.memo[m, n] = self._stein(m, n, 0) if m else self._stein(n, m, 1) if n else self._start()
        return self.memo[m, n]

    def _at(self, axis: int, m: int, n: int) -> Sized:
        return self._moment(m, n) if axis == 0 else self._moment(n, m)

    def _stein(self, m: int, n: int, axis: int) -> Sized:
        """The recursion that lowers the order m of the variable ``axis``."""
        value, size = self._at(axis, m - 1, n)
        value, size = self.e[axis] * value, np.abs(self.e[axis]) * size
        if m > 1:
            lower, lower_size = self._at(axis, m - 2, n)
            value, size = value + self.q[axis] * lower, size + self.q[axis] * lower_size
        elif self.cut[axis]:
            edge, far = self._edge(axis, n)
            value, size = value + np.sqrt(self.q[axis]) * edge, size + np.sqrt(self.q[axis]) * far
        if n:
            lower, lower_size = self._at(axis, m - 1, n - 1)
            value, size = value + self.law.c * lower, size + np.abs(self.law.c) * lower_size
        elif self.cut[1 - axis]:
            edge, far = self._edge(1 - axis, m - 1)
            root = self.corner.rho * np.sqrt(self.q[axis])
            value, size = value + root * edge, size + np.abs(root) * far
        return value / m, size / m

    def _edge(self, axis: int, n: int) -> Sized:
        """σ_u E δ(u - κ) s_n(v - λ) for the variable u = ``axis``, density times E[s_n | u = κ], and its size."""
        height, root = self.heights[axis], np.sqrt(self.q[1 - axis])
        shift, sigma = (self.corner.p, self.corner.q)[axis], root * self.corner.r
        mu, rough = -root * shift, root * self.corner.spread[axis]
        x = ratio(-shift, self.corner.r)
        before, value, cost = 0.0 * x, np.ones_like(x), 1.0
        if self.cut[1 - axis]:
            before, value, cost = sigma * _density(x), special.ndtr(x), 1 + np.minimum(x, 0) ** 2
        last, size = before * cost, value * cost
        for order in range(1, n + 1):
            before, value = sigma**2 * value, (mu * value + before) / order
            last, size = sigma**2 * size, (rough * size + last) / order
        density = _density(height)
        return density * value, density * size * (1 + height**2)

    def _start(self) -> Sized:
        """Probability that the truncated variables are beyond their kinks."""
        if not any(self.cut):
            one = np.ones(np.broadcast_shapes(*(np.shape(a) for a in (*self.q, self.law.c, *self.e))))
            return one, one
        if all(self.cut):
            return quadrant(self.corner)
        height = self.heights[0 if self.cut[0] else 1]
        value = special.ndtr(-height)
        return value, value * (1 + height**2)


def _density(x: Array) -> Array:
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
