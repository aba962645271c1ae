"""Inner products of data for recursions, by labels and times."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tensorprog.dsl.network import Datum
from tensorprog.kernels.kernel import _gram, _own

Array = Any
Times = tuple[int | None, int | None]


def gram_of(x: np.ndarray, y: np.ndarray) -> Callable[[tuple[str, str], Times], Array]:
    """ξ·ξ'/d between inputs x (N, T, d), labelled x, and y (N', T', d), labelled x'."""

    def gram(pair: tuple[str, str], times: Times) -> Array:
        p, q = (Datum(int(label != "x"), label, t) for label, t in zip(pair, times, strict=True))
        return _gram((x, y), p, q)

    return gram


def own_gram_of(x: np.ndarray) -> Callable[[tuple[str, str], Times], Array]:
    """ξ·ξ'/d of each input with itself, (N,)."""

    def gram(pair: tuple[str, str], times: Times) -> Array:
        p, q = (Datum(0, label, t) for label, t in zip(pair, times, strict=True))
        return _own(x, p, q)

    return gram
