"""What a matrix makes of all the vectors that it multiplies: Gaussians with the second moments of those vectors.

The vectors H (K, m) that one orientation of a matrix has multiplied have second moments C = H Hᵀ/m = L Lᵀ, and
Ẑ = L ε for fresh standard Gaussians ε.  A new block of vectors adds rows to L: with A the solution of A L = h Hᵀ/m,
its residual h hᵀ/m − A Aᵀ = L' L'ᵀ brings as many fresh Gaussians as it has rank, Ẑ = A ε + L' ε'.  Where only second
moments of what follows count, ε may be any independent variables of variance 1, such as signs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.linalg import lapack, solve_triangular

DEPENDENT = 1e-10


class Field:
    """One orientation of a matrix with entries N(0, 1/n).

    Args:
        fresh: makes that many rows of independent samples of variance 1, (k, m).

    >>> rng = np.random.default_rng(0)
    >>> field = Field(lambda k: rng.standard_normal((k, 50000)))
    >>> h = rng.standard_normal((2, 50000))
    >>> z = np.concatenate([field.product(h), field.product(h[:1] + h[1:])])
    >>> bool(np.allclose(z[2], z[0] + z[1]))
    True
    """

    def __init__(self, fresh: Callable[[int], np.ndarray]) -> None:
        self.fresh = fresh
        self._blocks: list[tuple[np.ndarray, np.ndarray]] = []  # independent vectors and their Gaussians
        self._root = np.zeros((0, 0))

    def product(self, h: np.ndarray) -> np.ndarray:
        """Ẑ of W h for a block of vectors (N, m)."""
        count, known = h.shape[1], len(self._root)
        size = np.sqrt(np.einsum("im,im->i", h, h) / count)[:, None]
        h = h / np.where(size > 0, size, 1.0).astype(h.dtype)
        before = np.concatenate([np.zeros((len(h), 0)), *(h @ v.T for v, _ in self._blocks)], axis=1) / count
        left = solve_triangular(self._root, before.T, lower=True).T if known else before
        root, order, rank = _pivoted((h @ h.T).astype(float) / count - left @ left.T, dependent(h.dtype))
        result, start = np.zeros_like(h), 0
        for vectors, gaussians in self._blocks:
            result += left[:, start : start + len(vectors)].astype(h.dtype) @ gaussians
            start += len(vectors)
        if rank:
            new, chosen = self.fresh(rank), order[:rank]
            result[order] += root.astype(h.dtype) @ new
            self._blocks.append((h[chosen], new))
            self._root = np.block([[self._root, np.zeros((known, rank))], [left[chosen], root[:rank]]])
        return np.asarray(result * size.astype(h.dtype))


def dependent(dtype: Any) -> float:
    """What of a vector's second moment, relative to the whole, may be new without bringing a Gaussian."""
    return max(DEPENDENT, 10 * float(np.finfo(dtype).eps))


def _pivoted(residual: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, int]:
    """L (N, r) with residual[order][:, order] = L Lᵀ, the order, and r."""
    if not residual.diagonal().max(initial=0.0) > least:
        return np.zeros((len(residual), 0)), np.arange(len(residual)), 0
    lower, pivot, rank, _ = lapack.dpstrf(residual, tol=least, lower=1)
    return np.tril(lower)[:, :rank], pivot - 1, int(rank)


def correction(x: np.ndarray, uses: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Ż of W x, input by input: Σ_j (C⁺ b)_j y_j over the products Wᵀy_j of the same input made before.

    C_ij = E y_i y_j and b_j = E Ẑ^{Wᵀy_j} x are means over the samples (TP2b Remark B.6).

    Args:
        x: (N, m).
        uses: pairs of y_j and Ẑ^{Wᵀy_j}, (N, m) each.
    """
    y = np.stack([np.broadcast_to(v, x.shape) for v, _ in uses], axis=1)
    z = np.stack([np.broadcast_to(v, x.shape) for _, v in uses], axis=1)
    moments = (y @ y.swapaxes(1, 2)).astype(float) / x.shape[1]
    b = (z @ x[:, :, None]).astype(float) / x.shape[1]
    coefficients = np.linalg.pinv(moments, rcond=dependent(x.dtype), hermitian=True) @ b
    return np.sum(coefficients.astype(x.dtype) * y, axis=1)  # type: ignore[no-any-return]
