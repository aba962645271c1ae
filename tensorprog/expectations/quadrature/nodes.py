"""Gauss-Legendre nodes and weights whose every digit holds."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np

Array = Any


@cache
def legendre(order: int) -> tuple[Array, Array]:
    """Gauss-Legendre nodes and weights on [0, 1], by Newton's method in extended precision.

    ∫_0^1 f ≈ Σ w_i f(x_i), exact for polynomials of degree 2·order - 1.  Weights from eigenvectors or from one step of
    Newton's method in double precision (NumPy, SciPy) lose digits towards the ends: 1e-11 at 362 nodes.

    Args:
        order: number of nodes.

    Returns:
        Descending nodes and their weights, (order,), read-only.

    Reference: P. J. Davis, P. Rabinowitz, Methods of Numerical Integration, 1984, section 2.7.

    >>> x, w = legendre(2)
    >>> round(float(w.sum()), 15), round(float(w @ x**3), 15)
    (1.0, 0.25)
    """
    x = np.cos(np.pi * (np.arange(1, order + 1, dtype=np.longdouble) - 0.25) / (order + 0.5))
    for _ in range(6):
        before, value = np.ones_like(x), x
        for k in range(2, order + 1):
            before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
        slope = order * (x * value - before) / (x * x - 1)
        x = x - value / slope
    weight = 1 / ((1 - x * x) * slope**2)
    result = np.asarray((1 + x) / 2, float), np.asarray(weight / weight.sum(), float)
    for a in result:
        a.flags.writeable = False
    return result
