"""Probability of a quadrant under a Gaussian law, to an error that is small beside √(P(u > 0) P(v > 0)).

Seen from the mean, a quadrant is two sectors, each beyond one of its edges.  The sector beyond an edge at distance h,
from the corner at distance x along the edge on, has the probability U(h, x) = Q(h)/2 - T(h, x/h) with the normal tail Q
and Owen's T.  Where x > h the two nearly cancel, and U(h, x) = Q(h) Q(x) - U(x, h) is used, whose terms are small.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations.closed.plane import Corner, ratio

Array = Any


def quadrant(corner: Corner) -> tuple[Array, Array]:
    """P(u > 0, v > 0) and a size whose rounding bounds its error.

    Args:
        corner: of the law of (u, v), which may be degenerate.

    Returns:
        (value, size), arrays of the broadcast shape.

    Reference: D. B. Owen, Tables for computing bivariate normal probabilities, 1956, eq. (2.1) and (2.3).

    >>> from tensorprog.expectations.closed.plane import Plane
    >>> value, _ = quadrant(Plane(1.0, 1.0, 0.5, 0.75, 0.0, 0.0).corner())
    >>> round(float(value), 12)
    0.333333333333
    """
    h, k, r = corner.h, corner.k, corner.r
    x, y = ratio(corner.p, r), ratio(corner.q, r)
    s1, s2 = np.where(h < 0, -1.0, 1.0), np.where(k < 0, -1.0, 1.0)
    (first, size1), (second, size2) = _sector(np.abs(h), s2 * x), _sector(np.abs(k), s1 * y)
    both = np.where((h == 0) & (k == 0), np.arctan2(r, -s1 * s2 * corner.rho) / (2 * np.pi), first + second)
    tail1, tail2 = special.ndtr(-np.abs(h)), special.ndtr(-np.abs(k))
    whole, beyond1, beyond2 = (s1 < 0) & (s2 < 0), tail1 * ((s1 > 0) & (s2 < 0)), tail2 * ((s1 < 0) & (s2 > 0))
    rest = beyond1 + beyond2 + whole * (1 - tail1 - tail2)
    value = np.maximum(rest + s1 * s2 * both, 0.0)
    turned = np.exp(-(h**2 + x**2) / 2) * (np.abs(h) + np.abs(k) + np.abs(x) + np.abs(y))  # by rounding x, y
    return value, size1 + size2 + beyond1 * (1 + h**2) + beyond2 * (1 + k**2) + whole + turned


def _sector(h: Array, x: Array) -> tuple[Array, Array]:
    """U(h, x) for h ≥ 0, and its size."""
    near, along = np.maximum(h, x), np.minimum(h, x)
    tail = special.ndtr(-near)
    slope = np.where(near > 0, ratio(along, near), np.where(along < 0, -np.inf, 0.0))
    inner = tail / 2 - special.owens_t(near, slope)
    value = np.where(x > h, special.ndtr(-h) * tail - inner, inner)
    return value, 2 * tail * (1 + near**2)
