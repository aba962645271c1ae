"""Maps between positions applied to arrays (.., P, Q): the p of x before the q of x'; (.., P, 1) and (.., 1, Q) too."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorprog.errors import DataError, NoRuleError
from tensorprog.ir.axes import Axes, Map, Sizes, table
from tensorprog.ir.maps import Given
from tensorprog.limit.positions import Along, Causal, Positional, Rows, Weighed

Array = Any
SIDES = {"left": (0,), "right": (1,), "both": (0, 1)}


def applied(g: Along, c: Array, sizes: tuple[Sizes, Sizes],
            matrix: Callable[[Given, int], Array] | None = None) -> Array:  # fmt: skip
    """The value of a map applied to an array.

    Args:
        g: what is applied.
        c: the array, or one that broadcasts to it.
        sizes: of the two inputs.
        matrix: what a matrix given with the inputs is of the first (0) or second (1), (.., R, P).
    """
    axes, of = g.by.axes or Axes(""), g.by.map
    read = (axes.at(sizes[0]), axes.at(sizes[1]))
    given = (of.sizes_of(read[0]), of.sizes_of(read[1])) if g.transpose else read
    c = np.asarray(c, float)
    sides = (g.point,) if g.point is not None else SIDES.get(g.how)
    if sides is not None:
        for axis in sides:
            c = spread(c, axis, given[axis])
            if isinstance(g.by.map, Given):
                c = _multiplied(g.by.map, g.transpose, c, axis, matrix)
            else:
                c = linear(g.by.map, g.transpose, c, axis, read[axis])
        return c
    return shared(g.by.map, g.transpose, spread(spread(c, 0, given[0]), 1, given[1]), read)


def _multiplied(of: Given, transpose: bool, c: Array, axis: int,
                matrix: Callable[[Given, int], Array] | None) -> Array:  # fmt: skip
    if matrix is None:
        raise NoRuleError(f"{of} needs a matrix of the input, which is not known here")
    a = matrix(of, axis)
    a = np.swapaxes(a, -1, -2) if transpose else a
    return a @ c if axis == 0 else c @ np.swapaxes(a, -1, -2)


def value_of(g: Positional, values: Sequence[Array], sizes: tuple[Sizes, Sizes],
             matrix: Callable[[Given, int], Array] | None = None) -> Array:  # fmt: skip
    """The value of what is found from whole arrays, given these; what is taken of one input with itself is not."""
    if isinstance(g, Along):
        return applied(g, values[0], sizes, matrix)
    if isinstance(g, Rows):
        n = sizes[g.point]
        return spread(spread(np.asarray(values[0], float), 0, g.axes.left.at(n)), 1, g.axes.right.at(n)).sum(
            axis=-1, keepdims=True
        )
    if isinstance(g, Causal):
        rows, columns = (math.prod(a.at(sizes[g.point])) for a in (g.axes.left, g.axes.right))
        return np.tri(rows, columns)
    assert isinstance(g, Weighed)
    side = 0 if g.how == "left" else 1
    weights = np.asarray(values[0], float)
    for axis, axes in enumerate((g.axes.left, g.axes.right)):
        weights = spread(weights, axis, axes.at(sizes[side]))
    weights = np.swapaxes(weights, -1, -2) if g.transpose else weights
    read = (g.axes.left if g.transpose else g.axes.right).at(sizes[side])
    c = spread(np.asarray(values[1], float), side, read)
    return weights @ c if side == 0 else c @ np.swapaxes(weights, -1, -2)


def softmax(s: Array, causal: bool) -> Array:
    """exp s[p,q] / Σ_q exp s[p,q] along the last axis, over the q up to p where ``causal``."""
    s = np.where(np.tri(*s.shape[-2:]) > 0, s, -np.inf) if causal else s
    e = np.exp(s - s.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def spread(c: Array, axis: int, sizes: Sizes) -> Array:
    """What does not depend on a position, at all of them."""
    shape = [1] * max(0, 2 - c.ndim) + list(c.shape)
    shape[axis - 2] = math.prod(sizes)
    return np.broadcast_to(c, shape)


def linear(of: Map, transpose: bool, c: Array, axis: int, read: Sizes) -> Array:
    """A C or C Aᵀ, or with Aᵀ for A; of one input (1/|w|) Σ_k c[m_k(p)], the diagonal of ``shared``."""
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


INSTEAD = "crop them, or use net.global_pool or net.conv, which take any"


def shared(of: Map, transpose: bool, c: Array, read: tuple[Sizes, Sizes]) -> Array:
    """(1/|w|) Σ_k C[m_k(p), m_k(q)], where p = q only if positions share no weights.

    Raises:
        DataError: the inputs have different sizes, and weights belong to positions.
    """
    left, right = table(of, read[0]), table(of, read[1])
    if len(left) != len(right) or (not of.is_tied and left.shape != right.shape):
        layer = "a layer with weights of its own for every position (flatten, local, biases at positions)"
        raise DataError(f"{layer} takes inputs of equal sizes, and reads {read[0]} and {read[1]}; {INSTEAD}")
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
