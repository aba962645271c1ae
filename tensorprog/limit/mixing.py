"""Maps between positions applied to arrays (.., P, Q): the p of x before the q of x'; (.., P, 1) and (.., 1, Q) too."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tensorprog.errors import DataError
from tensorprog.ir.axes import Axes, Map, Sizes, table
from tensorprog.limit.positions import Along

Array = Any


def applied(g: Along, c: Array, sizes: tuple[Sizes, Sizes]) -> Array:
    """The value of a map applied to an array.

    Args:
        g: what is applied.
        c: the array, or one that broadcasts to it.
        sizes: of the two inputs.
    """
    axes, of = g.by.axes or Axes(""), g.by.map
    read = (axes.at(sizes[0]), axes.at(sizes[1]))
    given = (of.sizes_of(read[0]), of.sizes_of(read[1])) if g.transpose else read
    c = np.asarray(c, float)
    c = c.reshape(c.shape[:-2] + (1,) * max(0, 2 - c.ndim) + c.shape[-2:]) if c.ndim < 2 else c
    sides = {"left": (0,), "right": (1,), "both": (0, 1)}.get(g.how)
    if sides is not None:
        for axis in sides:
            c = linear(of, g.transpose, _spread(c, axis, given[axis]), axis, read[axis])
        return c
    if g.point is not None:
        return one_point(of, g.transpose, _spread(c, g.point, given[g.point]), g.point, read[g.point])
    return shared(of, g.transpose, _spread(_spread(c, 0, given[0]), 1, given[1]), read)


def _spread(c: Array, axis: int, sizes: Sizes) -> Array:
    """What does not depend on a position, at all of them."""
    shape = list(c.shape)
    shape[axis - 2] = math.prod(sizes)
    return np.broadcast_to(c, shape)


def linear(of: Map, transpose: bool, c: Array, axis: int, read: Sizes) -> Array:
    """A C or C Aᵀ, or with Aᵀ for A."""
    rows = table(of, read)
    c = np.moveaxis(c, axis - 2, 0)
    if transpose:
        out = np.zeros((math.prod(read), *c.shape[1:]))
        for row in rows:
            np.add.at(out, row[row >= 0], c[row >= 0])
    else:
        out = np.zeros((rows.shape[1], *c.shape[1:]))
        for row in rows:
            out[row >= 0] += c[row[row >= 0]]
    return np.moveaxis(out, 0, axis - 2) * of.weight(read)


def one_point(of: Map, transpose: bool, c: Array, axis: int, read: Sizes) -> Array:
    """(1/|w|) Σ_k c[m_k(p)]: the diagonal of the same for pairs."""
    return linear(of, transpose, c, axis, read)


def shared(of: Map, transpose: bool, c: Array, read: tuple[Sizes, Sizes]) -> Array:
    """(1/|w|) Σ_k C[m_k(p), m_k(q)], where p = q only if positions share no weights.

    Raises:
        DataError: the inputs have different sizes, and weights belong to positions.
    """
    left, right = table(of, read[0]), table(of, read[1])
    if len(left) != len(right) or (not of.is_tied and left.shape != right.shape):
        raise DataError(f"{of} has weights for every position, and its inputs have sizes {read[0]} and {read[1]}")
    shape = tuple(math.prod(n) for n in read) if transpose else (left.shape[1], right.shape[1])
    out = np.zeros(c.shape[:-2] + shape)
    for a, b in zip(left, right, strict=True):
        if not of.is_tied:
            both = (a >= 0) & (b >= 0)
            target: Any = (a[both], b[both])
            source: Any = (np.flatnonzero(both),) * 2
        else:
            target, source = np.ix_(a[a >= 0], b[b >= 0]), np.ix_(np.flatnonzero(a >= 0), np.flatnonzero(b >= 0))
        to, of_ = (target, source) if transpose else (source, target)
        out[(..., *to)] += c[(..., *of_)]
    return out * of.weight(read[0])
