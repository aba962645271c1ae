"""E exp(b1 u + b2 v) f(u) g(v) for powers cut by a soft step, by Stein's identity; complex rates where one is cut.

A power cut with width t is f_m(x) = xᵐ/m! Φ(x/√t): a truncated power at t = 0, and xᵐ/m! where nothing is cut.  As
Φ(x/√t) = P(x + ε > 0) with ε ~ N(0, t), probabilities are those of (u + ε, v + ε').  With f_m' = f_{m-1} + xᵐ/m! φ_t(x)
with the density φ_t of ε, and with e the mean that the exponentials shift,

    m K(m, n) = e1 K(m-1, n) + q1 [K(m-2, n) + D1(m-1, n)] + c [K(m-1, n-1) + D2(m-1, n)].

D has φ_t(x) for the step, which conditions the law on x + ε = 0: a problem of the same kind with one cut less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations.closed.plane import Plane
from tensorprog.expectations.closed.quadrant import quadrant
from tensorprog.expectations.closed.truncated import Cut, Sized, truncated

Array = Any


def softened(first: Cut, second: Cut, rates: tuple[Any, Any], plane: Plane) -> Callable[[int, int], Sized]:
    """The moments of two cut powers and exponentials, as a function of the orders of the powers.

    Args:
        first, second: the cuts of the powers (side (x - kink))ⁿ/n! of u and v.
        rates: b1 and b2; complex only if at most one power is cut.
        plane: law of (u, v) with real means.

    Returns:
        Function of (m, n) that gives (value, size); the error is a few units of rounding of the size.

    Reference: C. Stein, 1981, for the identity; G. P. M. Poppe, C. M. J. Wijers, 1990, for w(z) of complex arguments;
    the recursion in this form is ours.

    >>> gelu = softened(Cut(0.0, 1, 1.0), Cut(), (0.0, 0.0), Plane(1.0, 0.0, 0.0, 0.0, 0.0, 0.0))
    >>> round(float(gelu(1, 0)[0] * np.sqrt(4 * np.pi)), 12)
    1.0
    """
    one, two = first.side or 1, second.side or 1
    law = plane.seen((one, two), (first.kink, second.kink))
    widths = tuple(cut.width if cut.side else None for cut in (first, second))
    moments = _Moments(law, (one * rates[0], two * rates[1]), widths)
    exponent = rates[0] * first.kink + rates[1] * second.kink
    factor = np.exp(exponent)

    def moment(m: int, n: int) -> Sized:
        value, size = moments.moment(m, n)
        return factor * value, abs(factor) * (1 + abs(exponent)) * size

    return moment


class _Moments:
    """K(m, n) of powers cut at 0 from below by steps of the given widths, None for a whole power."""

    def __init__(
        self, law: Plane, rates: tuple[Any, Any], widths: tuple[float | None, ...], cancelled: Array = 0.0
    ) -> None:
        self.law, self.rates, self.widths = law, rates, widths
        self.cancelled = 0.0, cancelled  # size of the terms of the means that cancelled
        self.tilted, self.exponent = law.shifted(*rates)
        self.e, self.q = (self.tilted.m1, self.tilted.m2), (law.q1, law.q2)
        self.memo: dict[Any, Sized] = {}
        self.inner: dict[int, tuple[_Moments, Array, Array]] = {}

    def moment(self, m: int, n: int) -> Sized:
        """K(m, n) and its size."""
        if (m, n) not in self.memo:
            lower, orders = isinstance(self.rates[0], complex) or None not in self.widths, (m, n)
            axis = next((a for a in (0, 1) if orders[a] and (lower or self.widths[a])), None)
            self.memo[m, n] = self._start(m, n) if axis is None else self._stein(axis, orders[axis], orders[1 - axis])
        return self.memo[m, n]

    def _at(self, axis: int, m: int, n: int) -> Sized:
        return self.moment(m, n) if axis == 0 else self.moment(n, m)

    def _stein(self, axis: int, m: int, n: int) -> Sized:
        """The recursion that lowers the order m of the variable ``axis``; the other variable has order n."""
        parts = [(self.e[axis], self._at(axis, m - 1, n))]
        if m > 1:
            parts.append((self.q[axis], self._at(axis, m - 2, n)))
        if n:
            parts.append((self.law.c, self._at(axis, m - 1, n - 1)))
        for factor, where, own, other in ((self.q[axis], axis, m - 1, n), (self.law.c, 1 - axis, n, m - 1)):
            if self.widths[where] is not None and (self.widths[where] or not own):
                parts.append((factor, self._edge(where, own, other)))
        value = sum(factor * part for factor, (part, _) in parts)
        size = sum(np.abs(factor) * size for factor, (_, size) in parts) + self.cancelled[axis] * parts[0][1][1]
        return value / m, size / m

    def _edge(self, axis: int, own: int, other: int) -> Sized:
        """D: the moment with the density φ_t for the step of the variable ``axis``."""
        inner, density, height = self._conditioned(axis)
        value, size = inner.moment(own, other)
        return density * value, density * (1 + height) * size

    def _conditioned(self, axis: int) -> tuple[_Moments, Array, Array]:
        """The problem under x + ε = 0, with the variable ``axis`` first; the density there and minus its exponent."""
        if axis not in self.inner:
            law = self.law if axis == 0 else self.law.swapped()
            t = self.widths[axis] or 0.0
            w, height = law.q1 + t, law.m1**2 / (2 * (law.q1 + t))
            part, turn = t / w, law.c / w * law.m1
            mean, lost = law.m2 - turn, np.abs(turn)
            given = Plane(law.q1 * part, (law.det + t * law.q2) / w, law.c * part, law.det * part, law.m1 * part, mean)
            inner = _Moments(given, (self.rates[axis], self.rates[1 - axis]), (None, self.widths[1 - axis]), lost)
            self.inner[axis] = inner, np.exp(-height) / np.sqrt(2 * np.pi * w), height
        return self.inner[axis]

    def _start(self, m: int, n: int) -> Sized:
        """Probabilities of u + ε and v + ε' times exponentials; at real rates and one cut also truncated powers."""
        weight = np.exp(self.exponent)
        size = np.abs(weight) * (1 + np.abs(self.exponent))
        cut = [axis for axis in (0, 1) if self.widths[axis] is not None]
        if isinstance(self.rates[0], complex):
            return self._tail(cut[0]) if cut else (weight, size)
        law, (t1, t2) = self.tilted, (width or 0.0 for width in self.widths)
        det = law.det + t1 * law.q2 + t2 * law.q1 + t1 * t2
        wide = Plane(law.q1 + t1, law.q2 + t2, law.c, det, law.m1, law.m2)
        if len(cut) == 2:
            moment, scale = quadrant(wide.corner())
        else:
            moment, scale = truncated(Cut(side=int(0 in cut)), Cut(side=int(1 in cut)), (0.0, 0.0), wide)(m, n)
        return weight * moment, size * scale

    def _tail(self, axis: int) -> Sized:
        """exp(E) Φ(z) = exp(E - z²/2) w(-iz/√2)/2 for Re z < 0, whose exponent is that of the law under x + ε = 0."""
        inner, density, height = self._conditioned(axis)
        root = np.sqrt(self.q[axis] + (self.widths[axis] or 0.0))
        z = self.e[axis] / root
        right = np.real(z) > 0
        outward = np.where(right, z, -z) / np.sqrt(2)
        near = np.exp(inner.exponent) * density * root * np.sqrt(np.pi / 2) * special.wofz(1j * outward)
        whole = np.where(right, np.exp(self.exponent), 0.0)
        size = np.abs(near) * (1 + np.abs(inner.exponent) + height) + np.abs(whole) * (1 + np.abs(self.exponent))
        return np.where(right, whole - near, near), size
