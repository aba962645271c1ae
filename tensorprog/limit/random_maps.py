"""Maps between positions as random matrices, to decide whether quantities with positions are the same.

An array over positions is a vector of ``COUNT`` numbers, multiplied entry by entry, and a map a random matrix: what
holds for these holds for all maps, ⟨A u, v⟩ = ⟨u, Aᵀ v⟩ included.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorprog.ir.axes import TOTAL, Everywhere
from tensorprog.limit.positions import Along

COUNT = 3


def mapped(g: Along, c: Any, draw: Callable[..., Any]) -> Any:
    """The value of a map applied to an array.

    Args:
        g: what is applied.
        c: the array, or a number that is the same everywhere.
        draw: a random number for a key.
    """
    whole = isinstance(g.by.map, Everywhere) and g.how in ("both", "shared")
    if whole and g.by.map == TOTAL:
        return np.broadcast_to(c, COUNT) if g.transpose else sum(np.broadcast_to(c, COUNT))
    key = (g.by.map, g.how, g.point is None)
    if whole:
        row = np.array([draw(*key, i) for i in range(COUNT)])
        return row * c if g.transpose else sum(row * c)
    matrix = np.array([[draw(*key, i, j) for j in range(COUNT)] for i in range(COUNT)])
    return (matrix.T if g.transpose else matrix) @ np.broadcast_to(c, COUNT)


def entrywise(value: Callable[[Any], Any], inputs: list[Any], of: Callable[[Callable[[Any], Any]], Any]) -> Any:
    """A function of the values of some inputs, entry by entry where one of them is an array."""
    values = [value(p) for p in inputs]
    if not any(isinstance(v, np.ndarray) for v in values):
        return of(value)

    def entry(i: int) -> Callable[[Any], Any]:
        return lambda p: v[i] if isinstance(v := value(p), np.ndarray) else v

    return np.array([of(entry(i)) for i in range(COUNT)], dtype=object)
