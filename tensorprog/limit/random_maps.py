"""Positions and maps between them drawn at random, to decide whether quantities with positions are the same.

Every family has ``COUNT`` positions, an array over positions of x and of x' as many rows and columns (or one, where it
does not depend on them), and a map reads random positions with random weights: what holds for these holds for all
maps, ⟨A u, v⟩ = ⟨u, Aᵀ v⟩ included.  What is taken of one input with itself is evaluated with x' = x.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from typing import Any

import mpmath
import numpy as np

from tensorprog.ir.axes import Everywhere, Map
from tensorprog.ir.maps import Given
from tensorprog.limit.positions import Along, At, Batched, Causal, Positional, Rows, Weighed, Whole

COUNT = 3
SIDES = {"left": (0,), "right": (1,), "both": (0, 1)}
Draw = Callable[..., Any]  # a random number for a key


def data(name: str, owners: tuple[int, int], draw: Draw) -> Any:
    """The inner products ⟨x,x'⟩ at positions of inputs number ``owners``; ⟨x,x⟩ at equal ones."""
    labels = name[1:-1].split(",")
    sides = [int("'" in label) for label in labels]
    vectors = [(label.replace("'", ""), owners[side]) for label, side in zip(labels, sides, strict=True)]

    def entry(p: int, q: int) -> Any:
        return draw(*sorted([(*vectors[0], p), (*vectors[1], q)]))

    if sides[0] != sides[1]:
        found = _array(entry, COUNT, COUNT)
        return found.T if sides[0] else found
    diagonal = _array(lambda p, q: entry(p, p), COUNT, 1)
    return diagonal.T if sides[0] else diagonal


def positional(g: Positional, values: Sequence[Any], owners: tuple[int, int], draw: Draw) -> Any:
    """The value of what is found from whole arrays, given these."""
    if isinstance(g, Causal):
        return np.tri(COUNT, dtype=int).astype(object)
    if isinstance(g, Rows):
        return _spread(_spread(values[0], 0), 1).sum(axis=1, keepdims=True)
    if isinstance(g, Weighed):
        weights, side = _spread(_spread(values[0], 0), 1), 0 if g.how == "left" else 1
        return _multiplied(weights.T if g.transpose else weights, _spread(values[1], side), side)
    if isinstance(g, Batched):  # a random function of all entries
        arrays = [_spread(_spread(c, 0), 1) for c in values]
        entries = [mpmath.nstr(c, 40) for array in arrays for c in array.ravel()]
        return _array(lambda p, q: draw(g.key, p, q, *entries), COUNT, COUNT)
    assert isinstance(g, Along)
    sides = (g.point,) if g.point is not None else SIDES.get(g.how)
    if sides is None:
        return _shared(g.by.map, g.transpose, values[0], draw)
    found = values[0]
    for side in sides:
        matrix = _matrix(g.by.map, owners[side], draw)
        found = _multiplied(
            matrix.T if g.transpose else matrix, _spread(found, side, matrix.shape[not g.transpose]), side
        )
    return found


def taken(g: At, c: Any) -> Any:
    """What is asked of an array of an input with itself: all of it, or p = q."""
    if isinstance(g, Whole):
        return c
    diagonal = np.diagonal(_spread(_spread(c, 0), 1))
    return diagonal[:, None] if g.point == 0 else diagonal[None, :]


def entrywise(value: Callable[[Any], Any], inputs: list[Any], of: Callable[[Callable[[Any], Any]], Any]) -> Any:
    """A function of the values of some inputs, entry by entry where one of them is an array."""
    arrays = {p: v for p in inputs if isinstance(v := value(p), np.ndarray)}
    if not arrays:
        return of(value)
    shape = np.broadcast_shapes(*(v.shape for v in arrays.values()))
    spread = {p: np.broadcast_to(v, shape) for p, v in arrays.items()}
    return _array(lambda i, j: of(lambda p: spread[p][i, j] if p in spread else value(p)), *shape)


def _array(entry: Callable[[int, int], Any], rows: int, columns: int) -> Any:
    found = np.empty((rows, columns), dtype=object)
    for i, j in itertools.product(range(rows), range(columns)):
        found[i, j] = entry(i, j)
    return found


def _spread(c: Any, axis: int, count: int = COUNT) -> Any:
    """What does not depend on a position, at all of them."""
    c = c if isinstance(c, np.ndarray) else _array(lambda i, j: c, 1, 1)
    shape = list(c.shape)
    shape[axis] = count
    return np.broadcast_to(c, shape)


def _multiplied(matrix: Any, c: Any, side: int) -> Any:
    return matrix.dot(c) if side == 0 else c.dot(matrix.T)


def _rows(m: Map, draw: Draw) -> list[tuple[Any, list[int]]]:
    """Two offsets: the weight of each, and the position that every position reads."""
    return [(draw(m, k), [int((draw(m, k, p) - 1) * COUNT) for p in range(COUNT)]) for k in (0, 1)]


def _matrix(m: Map, owner: int, draw: Draw) -> Any:
    if isinstance(m, Given):
        return _array(lambda i, j: draw(m, owner, i, j), 1 if m.pooled else COUNT, COUNT)
    if isinstance(m, Everywhere):
        weight = draw(m) if m.is_mean else 1
        return _array(lambda i, j: weight, 1, COUNT)
    identity = np.eye(COUNT, dtype=int).astype(object)
    return sum(w * identity[row] for w, row in _rows(m, draw))


def _shared(m: Map, transpose: bool, c: Any, draw: Draw) -> Any:
    """Σ_k w_k C[m_k(p), m_k(q)]; where all are read, or positions share no weights, at p = q only."""
    identity, c = np.eye(COUNT, dtype=int).astype(object), c if transpose else _spread(_spread(c, 0), 1)
    if isinstance(m, Everywhere):
        weight = draw(m) if m.is_mean else 1
        return c * weight * identity if transpose else _array(lambda i, j: np.trace(c) * weight, 1, 1)
    c, mask = _spread(_spread(c, 0), 1), 1 if m.is_tied else identity
    total = 0
    for w, row in _rows(m, draw):
        read = identity[row]
        total = total + w * (read.T.dot(mask * c).dot(read) if transpose else mask * read.dot(c).dot(read.T))
    return total
