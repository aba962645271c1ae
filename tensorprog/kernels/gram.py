"""Inner products of data for recursions, by labels and times."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tensorprog.kernels.data import gram

Array = Any
Times = tuple[int | None, int | None]
Gram = Callable[[tuple[str, str], Times], Array]


def gram_of(x: np.ndarray, y: np.ndarray) -> Gram:
    """ξ·ξ'/d between inputs x (N, T, d), labelled x, and y (N', T', d), labelled x'."""
    return _gram_of((x[:, None], y[None]))


def own_gram_of(x: np.ndarray) -> Gram:
    """ξ·ξ'/d of each input with itself, (N,)."""
    return _gram_of((x, x))


def _gram_of(sides: Sequence[np.ndarray]) -> Gram:
    def value(pair: tuple[str, str], times: Times) -> Array:
        a, b = (sides[label != "x"][..., 0 if t is None else t - 1, :] for label, t in zip(pair, times, strict=True))
        product = gram(a, b)
        return product if a.shape == b.shape else _repeated(product, a[:, 0], b[0])

    return value


def _repeated(cross: np.ndarray, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Equal vectors have their own product to the last digit, since angles near 0 amplify rounding."""
    own = gram(a, a)
    for i, j in np.argwhere(np.abs(cross - own[:, None]) <= 1e-10 * own[:, None]):
        if np.array_equal(a[i], b[j]):
            cross[i, j] = own[i]
    return cross
