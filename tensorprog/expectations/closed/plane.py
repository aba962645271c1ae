"""The law of two variables: damped and shifted by exponentials, and where it sees a corner."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.expectations.determinants import sine

Array = Any
OUT = 1e60  # standard deviations that stand for infinity
FLAT = 0.5  # correlation below which k - ρh is as exact as its terms


@dataclass(frozen=True)
class Corner:
    """The quadrant u > 0, v > 0 in standard deviations, seen from the mean.

    Its edges are at heights h and k and see the corner at p = k - ρh and q = h - ρk, times r; r = √(1 - ρ²).
    ``spread`` are the sizes of the terms of p and q.
    """

    h: Array
    k: Array
    rho: Array
    r: Array
    p: Array
    q: Array
    spread: tuple[Array, Array]


@dataclass(frozen=True)
class Plane:
    """The law of (u, v): variances, covariance, q1 q2 - c² and means, arrays that broadcast."""

    q1: Array
    q2: Array
    c: Array
    det: Array
    m1: Array
    m2: Array

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
        return Plane(self.q1, self.q2, self.c, self.det, self.m1 + s1, self.m2 + s2), exponent

    def swapped(self) -> Plane:
        """The law of (v, u)."""
        return Plane(self.q2, self.q1, self.c, self.det, self.m2, self.m1)

    def seen(self, signs: tuple[int, int], kinks: tuple[float, float]) -> Plane:
        """The law of (s (u - κ), t (v - λ)) for signs s, t and kinks κ, λ."""
        (s, t), (kink, other) = signs, kinks
        return Plane(self.q1, self.q2, s * t * self.c, self.det, s * (self.m1 - kink), t * (self.m2 - other))

    def corner(self) -> Corner:
        """The quadrant u > 0, v > 0; p and q without the cancellation of h and k near |ρ| = 1."""
        r1, r2 = np.sqrt(self.q1), np.sqrt(self.q2)
        both = r1 * r2 > 0
        size = np.where(both, r1 * r2, 1.0)
        rho, r = np.where(both, self.c / size, 0.0), sine(self.q1, self.q2, self.c, self.det)
        h, k = ratio(-self.m1, r1), ratio(-self.m2, r2)
        sign = np.where(self.c < 0, -1.0, 1.0)
        up = r**2 / (1 + np.abs(rho))  # 1 - |ρ|
        near = sign * self.m1 * (self.q1 - self.q2) / np.where(both, r1 + r2, 1.0)
        apart = ((sign * self.m1 - self.m2) * r1 - near) / size  # k - sign h
        flat = np.abs(rho) < FLAT
        p = np.where(flat, k - rho * h, apart + sign * h * up)
        q = np.where(flat, h - rho * k, -sign * apart + sign * k * up)
        turns = np.where(flat, np.abs(rho), up)
        spread = tuple(np.abs(np.where(flat, a, apart)) + np.abs(b) * turns for a, b in ((k, h), (h, k)))
        return Corner(h, k, rho, r, p, q, spread)


def ratio(a: Array, b: Array, most: float = OUT) -> Array:
    """a/b within ±most, 0 for 0/0."""
    with np.errstate(all="ignore"):
        return np.clip(np.where((a == 0) & (b == 0), 0.0, a / b), -most, most)
