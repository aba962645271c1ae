"""Inner products of data, where equal vectors have their own product to the last digit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorprog.kernels.data import gram

Array = Any
Times = tuple[int | None, int | None]
Gram = Callable[[tuple[str, str], Times], Array]


def gram_of(x: np.ndarray, y: np.ndarray) -> Gram:
    """ξ·ξ'/d of data of the inputs x (N, T, d) and x' (N', T', d), by labels and times: (N, N'), (N, 1) or (1, N')."""
    sides = x[:, None], y[None]
    return lambda pair, times: _product(sides, [int(label != "x") for label in pair], times)


def own_gram_of(x: np.ndarray) -> Gram:
    """ξ·ξ'/d of data of one input (N, T, d), by labels and times: (N,)."""
    return lambda pair, times: _product((x, x), (0, 0), times)


def _product(sides: Sequence[np.ndarray], owners: Sequence[int], times: Times) -> np.ndarray:
    a, b = (sides[o][..., 0 if t is None else t - 1, :] for o, t in zip(owners, times, strict=True))
    product = gram(a, b)
    return product if a.shape == b.shape else _repeated(product, a.reshape(-1, a.shape[-1]), b.reshape(-1, b.shape[-1]))


def _repeated(cross: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Angles near 0 amplify rounding: the products of equal rows are set to their squares."""
    square = gram(a, a)
    for i, j in np.argwhere(np.abs(cross - square[:, None]) <= 1e-10 * square[:, None]):
        if np.array_equal(a[i], b[j]):
            cross[i, j] = square[i]
    return cross
