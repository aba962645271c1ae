"""What is known of input vectors alone: directions and inner products; and the gaps of their angles."""

from __future__ import annotations

from threading import RLock
from typing import Any

import numpy as np

from tensorprog.compile.arrays import LEAST

CHUNK = 2**15  # entries of inputs that are read together, which stay in cache
SAFE = {"float32": (1e-25, 1e25), "float64": (1e-200, 1e200)}  # squared lengths whose products keep their digits


class Vectors:
    """Inputs on one side of a matrix; what is known of each alone is computed once.

    Args:
        x: (N, T, d), single or double.
    """

    def __init__(self, x: np.ndarray) -> None:
        self.x = x
        self._lock = RLock()
        self._squares: dict[tuple[int, int], np.ndarray] = {}
        self._rows: dict[tuple[int, str], tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        return len(self.x)

    def squares(self, s: int, t: int) -> np.ndarray:
        """Inner products of each input at time s with itself at time t, (N,), in double."""
        with self._lock:
            if (s, t) not in self._squares:
                found = np.empty(len(self.x))
                height = max(1, CHUNK // max(1, self.x.shape[-1]))
                for start in range(0, len(found), height):
                    part = self.x[start : start + height].astype(np.float64, copy=False)
                    products = np.multiply(part[:, s], part[:, t], order="C")  # which are then summed in pairs
                    np.sum(products, axis=-1, out=found[start : start + height])
                self._squares[s, t] = found
            return self._squares[s, t]

    def rows(self, t: int, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        """Rows (N, d) in a precision, and numbers (N,) that make them the directions of the inputs at time t."""
        key = t, np.dtype(dtype).name
        with self._lock:
            if key not in self._rows:
                self._rows[key] = self._scaled(self.x[:, t], self.squares(t, t), dtype)
            return self._rows[key]

    def _scaled(self, x: np.ndarray, squares: np.ndarray, dtype: Any) -> tuple[np.ndarray, np.ndarray]:
        low, high = SAFE[np.dtype(dtype).name]
        outside = (squares < low) | (squares > high)
        if x.shape[1] > 1 and not x[outside].any():
            scale = np.sqrt(squares)
            return np.ascontiguousarray(x, dtype), np.divide(1, scale, out=scale, where=scale > 0)
        return directions(x).astype(dtype, copy=False), np.ones(len(x))


def directions(x: np.ndarray) -> np.ndarray:
    """Rows divided by their lengths, in double; 0 stays 0.

    >>> directions(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    result = np.empty(x.shape)
    height = max(1, CHUNK // max(1, x.shape[1]))
    for start in range(0, len(x), height):
        part = x[start : start + height].astype(np.float64, copy=False)
        size = np.maximum(part.max(axis=-1, keepdims=True), -part.min(axis=-1, keepdims=True))
        unit = np.divide(part, np.where(size > 0, size, 1), out=result[start : start + height])
        unit /= np.maximum(np.sqrt(np.einsum("nd,nd->n", unit, unit))[:, None], 1)
    return result


def exact_gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The signed gap of rows: 1 − |ρ| with the sign of ρ, by the distance of directions; 1 where one is 0."""
    return gap_of_directions(directions(x), directions(y))


def gap_of_directions(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``exact_gap`` of rows of length 1 or 0."""
    sign = np.where(np.einsum("nd,nd->n", u, v) < 0, -1.0, 1.0)
    both = u.any(axis=-1) & v.any(axis=-1)
    difference = u - sign[:, None] * v
    small = np.einsum("nd,nd->n", difference, difference) / 2
    return np.where(both, np.maximum(small, LEAST) * sign, 1.0)


def cosine_of(gap: np.ndarray) -> np.ndarray:
    """ρ of a signed gap."""
    return np.where(gap < 0, -gap - 1, 1 - gap)
