"""E exp(b1 u + b2 v) f(u) g(v) for powers cut at a softened step, by Stein's identity, complex rates where one is cut.

A power cut with width t is f_m(x) = xᵐ/m! Φ(x/√t), a truncated power at t = 0 and xᵐ/m! where nothing is cut.  Since
Φ(x/√t) = P(x + ε > 0) with ε ~ N(0, t), probabilities are those of (u + ε, v + ε'); and since f_m' = f_{m-1} + xᵐ/m! φ_t(x),
with e the tilted mean,

    m K(m, n) = e1 K(m-1, n) + q1 [K(m-2, n) + D1(m-1, n)] + c [K(m-1, n-1) + D2(m-1, n)].

D has the density φ_t(x) for the step, which conditions the law on x + ε = 0: a problem of the same kind, with one cut less.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations.truncated import Plane, Power, truncated

Array = Any
Sized = tuple[Array, Array]  # a value, and a size whose rounding bounds its error


@dataclass(frozen=True)
class Cut:
    """Where and how a power is cut: at a kink, beyond it on one side (0: nowhere), by a step of a width."""

    kink: float = 0.0
    side: int = 0
    width: float = 0.0


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
    law = plane.flipped(one, two)
    law = Plane(law.q1, law.q2, law.c, law.det, law.m1 - one * first.kink, law.m2 - two * second.kink)
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

    def __init__(self, law: Plane, rates: tuple[Any, Any], widths: tuple[float | None, ...]) -> None:
        self.law, self.rates, self.widths = law, rates, widths
        self.tilted, self.exponent = law.shifted(*rates)
        self.e, self.q, self.means = (self.tilted.m1, self.tilted.m2), (law.q1, law.q2), (law.m1, law.m2)
        self.memo: dict[Any, Sized] = {}
        self.inner: dict[int, tuple[_Moments, Array, Array]] = {}

    def moment(self, m: int, n: int) -> Sized:
        """K(m, n) and its size."""
        if (m, n) not in self.memo:
            both, orders = None not in self.widths, (m, n)
            axis = next((a for a in (0, 1) if orders[a] and not (both and self.widths[a] == 0)), None)
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
        return value / m, sum(np.abs(factor) * size for factor, (_, size) in parts) / m

    def _edge(self, axis: int, own: int, other: int) -> Sized:
        """D: the moment with the density φ_t for the step of the variable ``axis``."""
        if axis not in self.inner:
            self.inner[axis] = self._conditioned(axis)
        moments, density, height = self.inner[axis]
        value, size = moments.moment(own, other)
        return density * value, density * (1 + height) * size

    def _conditioned(self, axis: int) -> tuple[_Moments, Array, Array]:
        """The problem under x + ε = 0, with the variable ``axis`` first; the density there and its exponent."""
        law = self.law if axis == 0 else self.law.swapped()
        t = self.widths[axis] or 0.0
        w = law.q1 + t
        mean, cov = law.m2 - law.c / w * law.m1, law.c * (t / w)
        given = Plane(law.q1 * (t / w), (law.det + t * law.q2) / w, cov, law.det * (t / w), law.m1 * (t / w), mean)
        height = law.m1**2 / (2 * w)
        inner = _Moments(given, (self.rates[axis], self.rates[1 - axis]), (None, self.widths[1 - axis]))
        return inner, np.exp(-height) / np.sqrt(2 * np.pi * w), height

    def _start(self, m: int, n: int) -> Sized:
        """Probabilities beyond the steps, times the exponentials; beside two cuts, m and n of truncated powers."""
        cut = [i for i in (0, 1) if self.widths[i] is not None]
        if len(cut) == 1:
            return self._tail(cut[0])
        value, size = np.exp(self.exponent), 1.0
        if cut:
            t1, t2 = self.widths[0] or 0.0, self.widths[1] or 0.0
            law = self.tilted
            det = law.det + t1 * law.q2 + t2 * law.q1 + t1 * t2
            wide = Plane(law.q1 + t1, law.q2 + t2, law.c, det, law.m1, law.m2)
            moment, size = truncated(Power(m, 0.0, 1), Power(n, 0.0, 1), wide)
            value, size = value * moment, size * value
            return value, np.abs(size) * (1 + np.abs(self.exponent))
        return value, np.abs(value) * (1 + np.abs(self.exponent))

    def _tail(self, axis: int) -> Sized:
        """exp(E) Φ(z) = exp(E - z²/2) w(-iz/√2)/2 for Re z < 0, whose exponent is that of the law under x + ε = 0."""
        inner, density, height = self.inner.setdefault(axis, self._conditioned(axis))
        root = np.sqrt(self.q[axis] + (self.widths[axis] or 0.0))
        z = self.e[axis] / root
        right = np.real(z) > 0
        flipped = np.where(right, z, -z)
        near = np.exp(inner.exponent) * density * root * np.sqrt(np.pi / 2)
        near = near * (special.wofz(1j * flipped / np.sqrt(2)) if np.iscomplexobj(z) else _mills(flipped))
        size = np.abs(near) * (1 + np.abs(inner.exponent) + height)
        whole = np.where(right, np.exp(self.exponent), 0.0)
        return np.where(right, whole - near, near), size + np.abs(whole) * (1 + np.abs(self.exponent))


def _mills(x: Array) -> Array:
    return special.erfcx(x / np.sqrt(2))
