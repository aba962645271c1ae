"""All inputs of a kernel matrix in one canonical order, and the way back."""

from __future__ import annotations

import numpy as np

from tensorprog.derivation.data import Inputs
from tensorprog.dsl.network import Network


class Order:
    """All inputs in canonical order, equal ones once, and the way back.

    Where a network has states, each input has its own, so that equal ones are kept apart and averaged in the end.
    """

    def __init__(self, net: Network, first: Inputs, second: Inputs | None) -> None:
        lengths = sorted({*first.groups, *(second.groups if second else ())}, key=lambda t: t or 0)
        self.size = (len(first), len(second or first))
        self.symmetric, self.apart = second is None, bool(net.trace(lengths[:1]).states)
        self.data: dict[int | None, np.ndarray] = {}
        classes = np.empty(len(first) + (len(second) if second else 0), int)
        row_of = classes.copy()
        start = group = 0
        for t in lengths:
            parts = [(x, offset) for x, offset in ((first, 0), (second, len(first))) if x is not None and t in x.groups]
            data = np.concatenate([np.asarray(x.data[t], float) for x, _ in parts]) + 0.0
            rows = np.concatenate([x.groups[t] + offset for x, offset in parts])
            flat, inverse = np.unique(data.reshape(len(data), -1), axis=0, return_inverse=True)
            inverse = inverse.reshape(-1)
            classes[rows] = group + inverse
            group += len(flat)
            if self.apart:
                sort = np.argsort(inverse, kind="stable")
                row_of[rows[sort]] = start + np.arange(len(rows))
                self.data[t] = data[sort]
            else:
                row_of[rows] = start + inverse
                self.data[t] = flat.reshape(-1, *data.shape[1:])
            start += len(self.data[t])
        self.classes, self.row_of = classes, row_of

    def __len__(self) -> int:
        return sum(map(len, self.data.values()))

    @property
    def basis(self) -> np.ndarray:
        """Orthonormal rows that span all data vectors, the directions that they share first."""
        rows = np.concatenate([x.reshape(-1, x.shape[-1]) for x in self.data.values()])
        size = np.abs(rows).max(axis=1, keepdims=True)
        rows = rows / np.where(size > 0, size, 1.0)
        _, values, directions = np.linalg.svd(rows, full_matrices=False)
        return directions[values > 1e-13 * max(values.max(initial=0.0), 1e-300)]  # type: ignore[no-any-return]

    def restore(self, K: np.ndarray) -> np.ndarray:
        """From canonical order to that of the inputs."""
        full = K[np.ix_(self.row_of, self.row_of)]
        if self.apart:
            full = self._averaged(full)
        return full if self.symmetric else full[: self.size[0], self.size[0] :]

    def _averaged(self, K: np.ndarray) -> np.ndarray:
        """The mean over permutations of equal inputs: a mean of positive semidefinite matrices."""
        of = self.classes
        chosen = (of[:, None] == np.arange(of.max() + 1)).astype(float)
        count = chosen.sum(axis=0)
        if count.max() == 1:
            return K
        sums, own = chosen.T @ K @ chosen, chosen.T @ K.diagonal()
        pairs = np.outer(count, count) - np.diag(count)
        means = (sums - np.diag(own)) / np.where(pairs > 0, pairs, 1.0)
        result = means[np.ix_(of, of)]
        np.fill_diagonal(result, (own / count)[of])
        return result  # type: ignore[no-any-return]
