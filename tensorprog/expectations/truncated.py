"""E s_m(u - κ) s_n(v - λ) for truncated powers s_n(x) = x₊ⁿ/n!, by Stein's identity, with a bound of the rounding.

Since x s_{m-1}(x) = m s_m(x) and s_m' = s_{m-1}, Stein's identity is a recursion in the orders,

    m K(m, n) = (E u - κ) K(m-1, n) + q1 K(m-2, n) + c K(m-1, n-1),

whose order -1 is a Dirac delta: the density times a conditional expectation, a recursion of the same kind.  Its start
is the probability of a quadrant, by Owen's T.  Where kinks are far out the terms cancel, and :mod:`tails` takes over.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations import tails

Array = Any
FAR = 38.0  # standard deviations beyond which a normal density underflows
NEAR = 0.5  # standard deviations within which no kink makes terms cancel
LOSS = 8.0  # size of the recursion's terms, in units of √(E s_m² E s_n²), that costs too many digits
SMALL = 1e-250  # product of variances below which products of squares underflow


@dataclass(frozen=True)
class Plane:
    """The law of (u, v): variances, covariance, q1 q2 - c² and means, arrays that broadcast.

    A law that has been shifted knows from which one, by which rates, and the exponent.
    """

    q1: Array
    q2: Array
    c: Array
    det: Array
    m1: Array
    m2: Array
    origin: tuple[Plane, Any, Any, Array] | None = None

    def tilted(self, t1: float, t2: float) -> tuple[Plane, Array]:
        """The law with density factors exp(-t1 u²/2 - t2 v²/2), and the factor E exp(..) that it is divided by."""
        first, factor = self._damped(t1)
        second, other = first.swapped()._damped(t2)
        return second.swapped(), factor * other

    def _damped(self, t: float) -> tuple[Plane, Array]:
        if not t:
            return self, 1.0
        w = 1 + t * self.q1
        q2, det = (self.q2 + t * self.det) / w, self.det / w
        plane = Plane(self.q1 / w, q2, self.c / w, det, self.m1 / w, self.m2 - t * self.c * self.m1 / w)
        return plane, np.exp(-t * self.m1**2 / (2 * w)) / np.sqrt(w)

    def shifted(self, b1: Any, b2: Any) -> tuple[Plane, Array]:
        """The law with density factor exp(b1 u + b2 v) (Cameron-Martin), and the exponent of E exp(b1 u + b2 v)."""
        s1, s2 = b1 * self.q1 + b2 * self.c, b1 * self.c + b2 * self.q2
        exponent = b1 * self.m1 + b2 * self.m2 + (b1 * s1 + b2 * s2) / 2
        origin = (self, b1, b2, exponent) if b1 or b2 else None
        return Plane(self.q1, self.q2, self.c, self.det, self.m1 + s1, self.m2 + s2, origin), exponent

    def swapped(self) -> Plane:
        """The law of (v, u)."""
        return Plane(self.q2, self.q1, self.c, self.det, self.m2, self.m1)

    def flipped(self, first: int, second: int) -> Plane:
        """The law of (first u, second v), each sign ±1."""
        origin = self.origin
        if origin is not None:
            origin = origin[0].flipped(first, second), first * origin[1], second * origin[2], origin[3]
        return Plane(self.q1, self.q2, first * second * self.c, self.det, first * self.m1, second * self.m2, origin)


@dataclass(frozen=True)
class Power:
    """(side (x - kink))₊ⁿ/n! of side ±1, or (x - kink)ⁿ/n! on the whole line at side 0."""

    order: int
    kink: float = 0.0
    side: int = 0


def truncated(first: Power, second: Power, plane: Plane) -> tuple[Array, Array]:
    """E first(u) second(v) and a size whose rounding bounds the error.

    Args:
        first, second: the two powers.
        plane: law of (u, v); a variable of zero variance is allowed where it is not at its kink.

    Returns:
        (value, size), arrays of the broadcast shape; the error is a few units of rounding of the size.

    Reference: D. B. Owen, Tables for computing bivariate normal probabilities, 1956; the recursion in this form is
    ours.

    >>> half = Power(1, 0.0, 1)
    >>> float(truncated(half, half, Plane(1.0, 1.0, 1.0, 0.0, 0.0, 0.0))[0])
    0.5
    """
    one, two = first.side or 1, second.side or 1
    law = plane.flipped(one, two)
    corner = _Corner(law, (one * first.kink, two * second.kink), (bool(first.side), bool(second.side)))
    value, size = corner.moment(first.order, second.order)
    if np.iscomplexobj(value):
        return value, size
    if corner.cut == (True, True):  # in a shifted law √(E f² E g²) is not what the caller measures by
        return (value, size) if law.origin else corner.both_far(first.order, second.order, value, size)
    for axis, (own, other) in enumerate(((first, second), (second, first))):
        if corner.cut[axis] and not other.order:
            return corner.far(axis, own.order, value, size)
    return value, size


class _Corner:
    """K(m, n) = E s_m(u - κ) s_n(v - λ), with e = mean - kink; whole powers where not ``cut``."""

    def __init__(self, law: Plane, kinks: tuple[float, float], cut: tuple[bool, bool]) -> None:
        self.law, self.kinks, self.cut = law, kinks, cut
        self.e = law.m1 - kinks[0], law.m2 - kinks[1]
        self.q = law.q1, law.q2
        self.memo: dict[tuple[int, int], tuple[Array, Array]] = {}
        if any(cut):
            self._geometry()

    def _geometry(self) -> None:
        """Standardised kinks h, k; p = k - ρh and its mirror image without cancellation; r = √(1 - ρ²)."""
        law, (e1, e2) = self.law, self.e
        r1, r2 = np.sqrt(law.q1), np.sqrt(law.q2)
        size = r1 * r2
        both = size > 0
        safe = np.where(both, size, 1.0)
        self.rho, self.r = np.where(both, law.c / safe, 0.0), np.where(both, np.sqrt(law.det) / safe, 1.0)
        self.h, self.k = _ratio(-e1, r1), _ratio(-e2, r2)
        up, down = law.det / (safe * (safe + np.abs(law.c))), law.det
        near = (law.q1 - law.q2) / np.where(both, r1 + r2, 1.0)
        sign = np.where(law.c < 0, -1.0, 1.0)
        down = (sign * e1 - e2) * r1 - sign * e1 * near  # (k - sign h) √(q1 q2)
        p = np.where(both, down / safe + sign * self.h * up, self.k)
        q = np.where(both, -sign * down / safe + sign * self.k * up, self.h)
        self.p = p, q

    def moment(self, m: int, n: int) -> tuple[Array, Array]:
        """K(m, n) and its size."""
        if (m, n) not in self.memo:
            self.memo[m, n] = self._stein(m, n, 0) if m else self._stein(n, m, 1) if n else self._start()
        return self.memo[m, n]

    def far(self, axis: int, n: int, value: Array, size: Array) -> tuple[Array, Array]:
        """The moment of order n of one variable, with the entries below its kink as an integral."""
        height, e, q = np.broadcast_arrays((self.h, self.k)[axis], self.e[axis], self.q[axis])
        rows = (height > 0) & (height < FAR) & (q > 0)
        if not rows.any():
            return value, size
        front, cost = (np.broadcast_to(a, rows.shape)[rows] for a in self._front(axis))
        tail, far = np.zeros(rows.shape), np.zeros(rows.shape)
        tail[rows] = tails.single(n, e[rows], q[rows], front)
        far[rows] = tail[rows] * cost
        return np.where(rows, tail, value), np.where(rows, far, size)

    def both_far(self, m: int, n: int, value: Array, size: Array) -> tuple[Array, Array]:
        """The moment of two truncated variables, with the entries whose terms cancel as integrals."""
        flat = value, size, *self.e, *self.q, np.arctan2(self.r, self.rho), self.h, self.k
        shape = np.broadcast_shapes(*(np.shape(a) for a in flat))
        value, size, *flat = (np.array(np.broadcast_to(a, shape)).reshape(-1) for a in flat)
        e1, e2, q1, q2, angle, h, k = flat
        most = np.maximum(h, k)
        rows = np.flatnonzero((h + k > 0) & (most > NEAR) & (most < FAR) & (q1 * q2 > SMALL))
        scale = tails.root_mean_square(m, e1[rows], q1[rows]) * tails.root_mean_square(n, e2[rows], q2[rows])
        rows = rows[size[rows] > LOSS * scale]
        if len(rows):
            value[rows], size[rows] = tails.double((m, n), (e1[rows], e2[rows]), (q1[rows], q2[rows]), angle[rows])
        return value.reshape(shape), size.reshape(shape)

    def _front(self, axis: int) -> tuple[Array, Array]:
        """exp(-e²/(2q)) of a variable, and the units of rounding that it costs.

        In a law shifted by b from means m, exp(-e²/(2q) + exponent) is what stands in the original one at u = κ:
        exp(-(κ - m)²/(2q) + b u + b' E[v | u] + b'² Var[v | u]/2), of which nothing cancels.
        """
        e, q = self.e[axis], self.q[axis]
        if self.law.origin is None:
            return tails.bell(e, q), 1 + e**2 / q
        plane, *rates, exponent = self.law.origin
        b, rate = rates[axis], rates[1 - axis]
        mean, other = (plane.m1, plane.m2)[axis], (plane.m1, plane.m2)[1 - axis]
        kink = self.kinks[axis]
        away = kink - mean
        lift = b * kink + rate * (other + plane.c * away / q) + rate**2 * plane.det / (2 * q)
        return tails.bell(away, q) * np.exp(lift) * np.exp(-exponent), 1 + away**2 / q + np.abs(lift)

    def _at(self, axis: int, m: int, n: int) -> tuple[Array, Array]:
        return self.moment(m, n) if axis == 0 else self.moment(n, m)

    def _stein(self, m: int, n: int, axis: int) -> tuple[Array, Array]:
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
            root = self.rho * np.sqrt(self.q[axis])
            value, size = value + root * edge, size + np.abs(root) * far
        return value / m, size / m

    def _edge(self, axis: int, n: int) -> tuple[Array, Array]:
        """σ_u E δ(u - κ) s_n(v - λ) for the variable u = ``axis``, density times E[s_n | u = κ], and its size."""
        height, other = (self.h, self.k)[axis], 1 - axis
        sigma, shift = np.sqrt(self.q[other]) * self.r, self.p[axis]
        x = _ratio(-shift, self.r)
        previous = sigma * _density(x) if self.cut[other] else 0.0 * x
        power = special.ndtr(x) if self.cut[other] else np.ones_like(x)
        mu = -np.sqrt(self.q[other]) * shift
        for order in range(1, n + 1):
            previous, power = sigma**2 * power, (mu * power + previous) / order
        value = _density(height) * power
        tail = np.minimum(x, 0) ** 2 if self.cut[other] else 0.0
        return value, np.abs(value) * (1 + height**2 + tail)

    def _start(self) -> tuple[Array, Array]:
        """Probability that the truncated variables are beyond their kinks."""
        if not (self.cut[0] or self.cut[1]):
            one = np.ones(np.broadcast_shapes(*(np.shape(a) for a in (*self.q, self.law.c, *self.e))))
            return one, one
        if not (self.cut[0] and self.cut[1]):
            height = self.h if self.cut[0] else self.k
            value = special.ndtr(-height)
            return value, value * (1 + height**2)
        return _quadrant(self.h, self.k, self.rho, self.r, *self.p)


def _quadrant(h: Array, k: Array, rho: Array, r: Array, p: Array, q: Array) -> tuple[Array, Array]:
    """P(z1 > h, z2 > k) and its size, where p = k - ρh and q = h - ρk."""
    s1, s2 = np.where(h < 0, -1.0, 1.0), np.where(k < 0, -1.0, 1.0)
    tails = special.ndtr(-np.abs(h)), special.ndtr(-np.abs(k))
    wedges = tails[0] / 2 - special.owens_t(np.abs(h), _ratio(s2 * p, np.abs(h) * r, np.inf))
    wedges = wedges + tails[1] / 2 - special.owens_t(np.abs(k), _ratio(s1 * q, np.abs(k) * r, np.inf))
    centre = (h == 0) & (k == 0)
    wedges = np.where(centre, np.arctan2(r, -s1 * s2 * rho) / (2 * np.pi), wedges)
    start = np.where(s1 > 0, np.where(s2 > 0, 0.0, tails[0]), np.where(s2 > 0, tails[1], 1 - tails[0] - tails[1]))
    value = np.maximum(start + s1 * s2 * wedges, 0.0)
    first, second = special.ndtr(-h) * (1 + h**2), special.ndtr(-k) * (1 + k**2)
    return value, np.where((s1 > 0) & (s2 > 0), np.maximum(first, second), np.minimum(first, second))


def _ratio(a: Array, b: Array, most: float = FAR) -> Array:
    """a/b within ±most, 0 for 0/0: a kink farther out than FAR changes nothing."""
    with np.errstate(all="ignore"):
        return np.clip(np.where((a == 0) & (b == 0), 0.0, a / b), -most, most)


def _density(x: Array) -> Array:
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
