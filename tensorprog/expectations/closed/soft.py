"""Closed forms of a + b x + (g + d x) S_t(x), with the softened sign S_t(x) = erf(x/√(2t)), under zero-mean Gaussians.

S_t(x) = E sign(x + ε) with ε ~ N(0, t), so the angle of (u, v) becomes that of (u + ε1, v + ε2).  Step, sign, relu and
|x| have t = 0, erf has t = 1/2, gelu t = 1; smooth functions with other straight ends differ from one by something
localised.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tensorprog.functions import Abs, Erf, Fn, Gelu, Relu, Sign, Step

Array = Any


@dataclass(frozen=True)
class Soft:
    """a + b x + (g + d x) S_t(x)."""

    a: float = 0.0
    b: float = 0.0
    g: float = 0.0
    d: float = 0.0
    t: Array = 0.0

    def __call__(self, x: Array) -> Array:
        """The values at t > 0."""
        return self.given(x, 0.0)

    def given(self, mean: Array, variance: Array) -> Array:
        """The expectation for N(mean, variance)."""
        spread = 2 * (self.t + variance)
        with np.errstate(under="ignore"):
            sign, bump = special.erf(mean / np.sqrt(spread)), np.exp(-(mean**2) / spread) / np.sqrt(np.pi * spread)
        return self.a + self.b * mean + (self.g + self.d * mean) * sign + 2 * self.d * variance * bump

    def size(self, q: Array) -> Array:
        """A bound of √(E f²) at variance q."""
        sign = np.minimum(1.0, np.sqrt(2 * q / (np.pi * self.t))) if self.t else 1.0  # |S_t(x)| ≤ √(2/πt) |x|
        return abs(self.a) + abs(self.g) * sign + (abs(self.b) + abs(self.d)) * np.sqrt(q)


SOFT: dict[type[Fn], Soft] = {
    Step: Soft(a=0.5, g=0.5),
    Sign: Soft(g=1.0),
    Relu: Soft(b=0.5, d=0.5),
    Abs: Soft(d=1.0),
    Erf: Soft(g=1.0, t=0.5),
    Gelu: Soft(b=0.5, d=0.5, t=1.0),
}


def soft_pair(first: Soft, second: Soft, q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """E first(u) second(v) for zero-mean (u, v).

    With D = (q1 + t1)(q2 + t2) - c² and α = asin(c/√(c² + D)): E S S = 2α/π and E uS vS = (2/π)(c α + N/√D), where
    N = q1 q2 - c² + c² (t1/(q1 + t1) + t2/(q2 + t2)).

    Args:
        first, second: the functions.
        q1, q2, c, det: variances, covariance and q1 q2 - c²; arrays that broadcast.

    Returns:
        Array of the broadcast shape.

    Reference: W. F. Sheppard, 1899, for E S S; R. Tsuchida et al., AAAI 2021, for E uS vS.

    >>> relu, gelu = Soft(b=0.5, d=0.5), Soft(b=0.5, d=0.5, t=1.0)
    >>> float(soft_pair(relu, relu, 1.0, 1.0, 1.0, 0.0))
    0.5
    """
    t1, t2 = first.t, second.t
    square = det + t1 * q2 + t2 * q1 + t1 * t2
    angle = np.arctan2(c, np.sqrt(square))
    rise = det + c * c * (_part(t1, q1) + _part(t2, q2))
    with np.errstate(divide="ignore", invalid="ignore"):
        curved = c * angle + np.where(square > 0, rise / np.sqrt(square), 0.0)
        slopes = [np.where(q + t > 0, np.sqrt(2 / np.pi) / np.sqrt(q + t), 0.0) for q, t in ((q1, t1), (q2, t2))]
    value = first.a * second.a + first.b * second.b * c + 2 / np.pi * first.g * second.g * angle
    value = value + 2 / np.pi * first.d * second.d * curved
    value = value + (first.b * second.g * c + first.a * second.d * q2) * slopes[1]
    return value + (first.g * second.b * c + first.d * second.a * q1) * slopes[0]


def _part(t: Array, q: Array) -> Array:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(np.asarray(t) > 0, t / (t + q), 0.0)


def soft_bumps(t1: Array, t2: Array, q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """E S'(u) S'(v) for zero-mean (u, v): 2/(π√D), D as in ``soft_pair``."""
    return 2 / np.pi / np.sqrt(det + t1 * q2 + t2 * q1 + t1 * t2)


def soft_slopes(t1: Array, t2: Array, q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """E f'(u) f'(v) of f(x) = x (1 + S_t(x))/2 for zero-mean (u, v), in which nothing cancels at large variances.

    [acos(-c/√(c² + D)) + c (2 s - (t1 t2 + t1 s1 q2 + t2 s2 q1 + s det)/D)/√D]/2π, s_i = t_i/(t_i + q_i), s = s1 + s2.

    Reference: the derivative of E f f in c (R. Price, 1958).

    >>> float(soft_slopes(1.0, 1.0, 0.0, 0.0, 0.0, 0.0))
    0.25
    """
    square, s1, s2 = det + t1 * q2 + t2 * q1 + t1 * t2, _part(t1, q1), _part(t2, q2)
    slope = 2 * (s1 + s2) - (t1 * t2 + t1 * s1 * q2 + t2 * s2 * q1 + (s1 + s2) * det) / square
    return (np.arctan2(np.sqrt(square), -c) + c * slope / np.sqrt(square)) / (2 * np.pi)
