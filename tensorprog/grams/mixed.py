"""What mixes positions, and angles, on whole arrays (B, P, Q): loops where there are any, else ``limit.mixing``."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from tensorprog.expectations.angles import gaps as exact
from tensorprog.ir.axes import Axes, Everywhere, Map, Sizes, table
from tensorprog.ir.maps import Given
from tensorprog.limit.mixing import SIDES, shared, value_of
from tensorprog.limit.positions import Along, Positional

Array = Any
Matrix = Callable[[Given, int], Array]


def mixed(g: Positional, values: Sequence[Array], sizes: tuple[Sizes, Sizes], matrix: Matrix) -> Array:
    """See ``mixing.value_of``; what is the same at all positions may come as one number."""
    if isinstance(g, Along) and g.point is None and not isinstance(g.by.map, Given):
        of, axes, c = g.by.map, g.by.axes or Axes(""), np.asarray(values[0], float)
        read = axes.at(sizes[0]), axes.at(sizes[1])
        if isinstance(of, Everywhere) and g.how == "both":
            return _total(of, g.transpose, c, read)
        if g.how == "shared":
            return windows(of, g.transpose, c, read)
        for axis in SIDES[g.how]:
            c = _linear(of, g.transpose, c, axis, read[axis])
        return c
    return value_of(g, values, sizes, matrix)


def _total(of: Map, transpose: bool, c: Array, read: tuple[Sizes, Sizes]) -> Array:
    scale = of.weight(read[0]) * of.weight(read[1])
    if transpose:
        return c * scale
    c = _whole(c, (None, None))
    return c.sum(axis=(1, 2), keepdims=True) * (scale * prod(read[0]) / c.shape[1] * (prod(read[1]) / c.shape[2]))


def windows(of: Map, transpose: bool, c: Array, read: tuple[Sizes, Sizes]) -> Array:
    """See ``mixing.shared``."""
    from tensorprog.compile import arcs

    left, right = table(of, read[0]), table(of, read[1])
    whole, part = (prod(read[0]), prod(read[1])), (left.shape[1], right.shape[1])
    given, made = (part, whole) if transpose else (whole, part)
    c = _whole(c, given)
    if not of.is_tied or len(left) != len(right):
        return shared(of, transpose, c, read)
    out = np.zeros((len(c), *made))
    arcs.windows(c, out, left, right, of.weight(read[0]), transpose)
    return out


def _linear(of: Map, transpose: bool, c: Array, axis: int, read: Sizes) -> Array:
    """See ``mixing.linear``."""
    from tensorprog.compile import arcs

    reads = table(of, read)
    given, made = (reads.shape[1], prod(read)) if transpose else (prod(read), reads.shape[1])
    c = _whole(c, (given, None) if axis == 0 else (None, given))
    out = np.zeros((len(c), made, c.shape[2]) if axis == 0 else (*c.shape[:2], made))
    (arcs.along_last if axis else arcs.along_first)(c, out, reads, of.weight(read), transpose)
    return out


def _whole(c: Array, sizes: tuple[int | None, int | None]) -> Array:
    """An array (B, P, Q), with what does not depend on positions at all of them."""
    c = c.reshape((1,) * max(0, 3 - c.ndim) + c.shape)
    p, q = (n or m for n, m in zip(sizes, c.shape[1:], strict=True))
    return np.ascontiguousarray(np.broadcast_to(c, (len(c), p, q)))


def angle(q1: Array, q2: Array, c: Array) -> Array:
    """1 − |c|/√(q1 q2), see ``gaps.gap``."""
    from tensorprog.compile.arcs import gaps

    if (given := per_side(q1, q2, c)) is None:
        return exact.gap(q1, q2, c)
    first, second, c = given
    out = np.empty(c.shape)
    with np.errstate(divide="ignore"):
        gaps(c, *(np.where(q > 0, 1 / np.sqrt(q), 0.0) for q in (first, second)), out, 0.0)
    return out


def angles(gap: Array, q1: Array, q2: Array, c: Array) -> tuple[Array, Array] | None:
    """E relu(u) relu(v) and E step(u) step(v); None for variances that are no numbers per position of one input."""
    from tensorprog.compile.arcs import arcs

    if (given := per_side(q1, q2, c)) is None:
        return None
    first, second, c = given
    relu, step = np.empty(c.shape), np.empty(c.shape)
    arcs(np.ascontiguousarray(np.broadcast_to(gap, c.shape)), c, np.sqrt(first), np.sqrt(second), relu, step)
    return relu, step


def per_side(q1: Array, q2: Array, c: Array) -> tuple[Array, Array, Array] | None:
    """Variances as (B, P) and (B, Q), covariances as (B, P, Q); None for others."""
    q1, q2, c = (np.asarray(x, float) for x in (q1, q2, c))
    if c.ndim != 3 or (q1.ndim == 3 and q1.shape[2] > 1) or (q2.ndim == 3 and q2.shape[1] > 1):
        return None
    shape = np.broadcast_shapes(q1.shape, q2.shape, c.shape)
    first, second = (np.ascontiguousarray(np.broadcast_to(q, s)[at]) for q, s, at in (
        (q1, (*shape[:2], 1), (..., 0)), (q2, (shape[0], 1, shape[2]), (slice(None), 0))))  # fmt: skip
    return first, second, np.ascontiguousarray(np.broadcast_to(c, shape))
