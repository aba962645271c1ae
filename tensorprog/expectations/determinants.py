"""Covariances of two and more variables: q1 q2 - c² with all digits, sines and angles, and their factors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tensorprog.errors import DataError

Array = Any
RANGE = 1e150  # variances within it and its inverse have products that are floating point numbers
ROUNDED = 1e-15  # of a correlation
RANK_CUT = 1e-14  # a residual variance below this fraction is rounding, not a further dimension


def determinant(q1: Array, q2: Array, c: Array) -> Array:
    """q1 q2 - c² with a relative error of a few ulp, negative values clipped to 0.

    Each product is split exactly into a rounded value and its rounding error (T. J. Dekker, 1971), so
    the cancellation near |c| = √(q1 q2) costs nothing; it is 0 at |ρ| = 1 and at zero variance.

    Args:
        q1, q2: variances; arrays that broadcast.
        c: covariance.

    Returns:
        Array of the broadcast shape, ≥ 0.

    >>> float(determinant(1.0, 1.0, 1 - 1e-15)) / 1.998401444325281e-15 - 1 < 1e-15
    True
    """
    q1, q2, c, e1, e2 = balanced(q1, q2, c)
    product, product_error = two_product(q1, q2)
    square, square_error = two_product(c, c)
    return np.ldexp(np.maximum((product - square) + (product_error - square_error), 0.0), 2 * (e1 + e2))


def extreme(q1: Array, q2: Array) -> Array:
    """Where the product of two positive variances, and hence q1 q2 - c², may over- or underflow."""
    big, small = np.maximum(q1, q2), np.minimum(q1, q2)
    return (small > 0) & ((big > RANGE) | (small < 1 / RANGE))


def sine(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """√(1 - ρ²) = √det/√(q1 q2), also where det is beyond the floating point numbers; 1 at zero variance.

    >>> round(float(sine(1e-200, 1e-200, 6e-201, 0.0)), 12)
    0.8
    """
    scale = magnitude(q1, q2)
    found = np.where(scale > 0, np.sqrt(det) / np.where(scale > 0, scale, 1.0), 1.0)
    beyond = extreme(q1, q2)
    if np.any(beyond):
        a, b, d, *_ = balanced(q1, q2, c)
        found = np.where(beyond, np.sqrt(determinant(a, b, d)) / np.where(beyond, magnitude(a, b), 1.0), found)
    return found


def balanced(q1: Array, q2: Array, c: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Scale u and v by powers of two (exactly), so that no product over- or underflows."""
    e1, e2 = np.frexp(q1)[1] // 2, np.frexp(q2)[1] // 2
    return np.ldexp(q1, -2 * e1), np.ldexp(q2, -2 * e2), np.ldexp(c, -e1 - e2), e1, e2


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a b as a rounded value and its rounding error, exactly."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(a: Array) -> tuple[Array, Array]:
    big = 134217729.0 * a  # 2^27 + 1
    high = big - (big - a)
    return high, a - high


def magnitude(q1: Array, q2: Array) -> Array:
    """√q1 √q2, which neither over- nor underflows."""
    return np.sqrt(q1) * np.sqrt(q2)


def supplement(c: Array, det: Array) -> Array:
    """π - θ where cos θ = ρ, accurate to its last digits for all ρ; 0 at ρ = -1, π at ρ = 1.

    >>> supplement(np.array([-1.0, 1.0]), 0.0) / np.pi
    array([0., 1.])
    """
    return np.arctan2(np.sqrt(det), -c)


def pair_factor(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """Cholesky factor (N, 2, 2) of 2x2 covariances; (N, 2, 1) if all of them have rank one."""
    root = np.sqrt(q1)
    slope = np.where(q1 > 0, c / root, 0.0)
    rest = np.sqrt(q2) * sine(q1, q2, c, det)
    columns = [np.stack([root, slope], axis=1), np.stack([np.zeros_like(rest), rest], axis=1)]
    return np.stack(columns if rest.any() else columns[:1], axis=2)


def pivoted_factor(cov: Mapping[tuple[int, int], Array], count: int) -> Array:
    """Factor (N, k, r) with pivoting, r the largest rank among the entries (at least 1)."""
    flat = [cov[min(i, j), max(i, j)] for i in range(count) for j in range(count)]
    rest = np.stack(flat, axis=-1).reshape(-1, count, count)
    diagonal = np.einsum("nii->ni", rest).copy()
    rows, columns = np.arange(len(rest)), []
    for step in range(count):
        left = np.einsum("nii->ni", rest)
        if np.any(left < -1e-9 * diagonal):
            raise DataError(f"the {count}x{count} covariance is not positive semidefinite")
        left = np.where(left > (RANK_CUT * count if step else 0.0) * diagonal, left, 0.0)
        pivot = np.argmax(left, axis=1)
        size = left[rows, pivot]
        if not size.any() and step:
            break
        column = np.where(size[:, None] > 0, rest[rows, :, pivot] / np.sqrt(size)[:, None], 0.0)
        # a small residual variance may be a large covariance, of up to its square root: only rounding is 0
        noise = ROUNDED * np.sqrt(diagonal * diagonal[rows, pivot][:, None])
        column = np.where((left > 0) | (np.abs(rest[rows, :, pivot]) > noise), column, 0.0)
        columns.append(column)
        rest = rest - column[:, :, None] * column[:, None, :]
    return np.stack(columns, axis=2)
