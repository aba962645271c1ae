"""Gram matrices of rows, those of the same vectors taken once: the gates of a layer read the same ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tensorprog.derivation.outer import Pair, gram

KEPT = 2**22  # entries of a Gram matrix over all uses, beyond which it is made in parts and not kept
Array = np.ndarray


class Grams:
    """Sums over uses u, v of (L_u L_vᵀ) ∘ (R_u R_vᵀ), in double precision.

    The Gram matrix of rows of single precision is positive semidefinite to the rounding of double precision.

    >>> rows = np.random.default_rng(0).normal(size=(3, 1, 2, 5))
    >>> uses = [(rows[0], rows[1]), (rows[2], rows[1])]
    >>> bool(np.allclose(Grams().of(uses, uses), gram(uses, uses, True)[0]))
    True
    """

    def __init__(self) -> None:
        self._kept: list[tuple[list[Any], list[Any], Array]] = []

    def of(self, left: list[Pair], right: list[Pair]) -> Array:
        """The sum over all uses, (N, N'); the arrays must live as long as this object does."""
        size = len(left) * left[0][0].shape[1] * len(right) * right[0][0].shape[1]
        if size > KEPT or any(len(a) > 1 for uses in (left, right) for pair in uses for a in pair if a is not None):
            return gram(_double(left), _double(right), left is right)[0]  # type: ignore[no-any-return]
        product = self._between([pair[0] for pair in left], [pair[0] for pair in right])
        inner, inner2 = ([pair[1] for pair in uses] for uses in (left, right))
        if inner[0] is not None and inner2[0] is not None:
            product = product * self._between(inner, inner2)
        return product.sum(axis=(0, 2))  # type: ignore[no-any-return]

    def _between(self, left: Sequence[Any], right: Sequence[Any]) -> Array:
        """A_u B_vᵀ of all uses, (u, N, v, N')."""
        rows, columns = [_key(a) for a in left], [_key(b) for b in right]
        for i, j, whole in self._kept:
            if set(rows) <= set(i) and set(columns) <= set(j):
                return whole[[i.index(r) for r in rows]][:, :, [j.index(c) for c in columns]]
        a = _stacked(left)
        whole = a @ (a if rows == columns else _stacked(right)).T
        whole = whole.reshape(len(rows), left[0].shape[1], len(columns), right[0].shape[1])
        self._kept.append((rows, columns, whole))
        while sum(kept.size for _, _, kept in self._kept) > 4 * KEPT:
            self._kept.pop(0)
        return whole


def _stacked(arrays: Sequence[Any]) -> Array:
    return np.concatenate([np.asarray(a[0], float) for a in arrays])


def _key(a: Array) -> Any:
    """What an array reads, while it lives."""
    return a.__array_interface__["data"][0], a.shape, a.strides, a.dtype.str


def _double(uses: list[Pair]) -> list[Pair]:
    return [(l.astype(float, copy=False), None if r is None else r.astype(float, copy=False)) for l, r in uses]
