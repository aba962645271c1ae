"""What a matrix makes of all the vectors that it multiplies: Gaussians with the second moments of those vectors.

The vectors H (K, m) that one orientation of a matrix has multiplied have second moments C = H Hᵀ/m = L Lᵀ, and
Ẑ = L ε for fresh standard Gaussians ε.  A new block of vectors adds rows to L: with A the solution of A L = h Hᵀ/m,
its residual h hᵀ/m − A Aᵀ = L' L'ᵀ brings as many fresh Gaussians as it has rank, Ẑ = A ε + L' ε'.  Where only second
moments of what follows count, ε may be any independent variables of variance 1, such as signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import numpy as np
from scipy.linalg import lapack, solve_triangular

DEPENDENT = 1e-10


Choice = tuple[np.ndarray, int]  # an order of vectors, and how many of them are new


class Choices:
    """Which vectors are taken for new ones, block by block: in an order that rounding decides, or as ``given``."""

    def __init__(self, given: Iterable[Choice] = ()) -> None:
        self.made: list[Choice] = []
        self._given = iter(given)

    def of(self, residual: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, int]:
        """L (N, r) with residual[order][:, order] = L Lᵀ, the order, and r."""
        known = next(self._given, None)
        root, order, rank = _pivoted(residual, least) if known is None else _repeated(residual, *known)
        self.made.append((order, rank))
        return root, order, rank


class Span:
    """Vectors that one matrix after the other multiplies, in turn, and what of the last of them is new.

    Matrices that have multiplied the same vectors, such as those of the gates of a layer, are at the same span: second
    moments are taken once for all of them.

    Attributes:
        vectors: independent vectors of variance 1, block by block.
        root: L, their second moments are L Lᵀ.
        step: of the last block.
        choices: which vectors of each block were taken for new ones, by whatever matrix.
    """

    def __init__(self, vectors: tuple[np.ndarray, ...] = (), root: np.ndarray | None = None,
                 step: Step | None = None, choices: Choices | None = None) -> None:  # fmt: skip
        self.choices = Choices() if choices is None else choices
        self.vectors, self.root, self.step = vectors, np.zeros((0, 0)) if root is None else root, step
        self._after: WeakValueDictionary[Any, Span] = WeakValueDictionary()  # kept by the matrices that are there

    def after(self, h: np.ndarray, key: Any = None) -> Span:
        """The span with another block of vectors (N, m), which a ``key`` stands for."""
        found = self._after.get(key) if key is not None else None
        if found is None:
            found = self._longer(h)
            if key is not None:
                self._after[key] = found
        return found

    def _longer(self, h: np.ndarray) -> Span:
        count, known = h.shape[1], len(self.root)
        size = np.sqrt(np.einsum("im,im->i", h, h) / count)[:, None]
        if not np.isfinite(size).all():
            raise OverflowError(f"a vector leaves the range of {h.dtype}")
        h = h / np.where(size > 0, size, 1.0).astype(h.dtype)
        before = np.concatenate([np.zeros((len(h), 0)), *(h @ v.T for v in self.vectors)], axis=1) / count
        left = solve_triangular(self.root, before.T, lower=True).T if known else before
        residual = (h @ h.T).astype(float) / count - left @ left.T
        root, order, rank = self.choices.of(residual, dependent(h.dtype))
        step = Step(size, left, root, order, rank)
        if not rank:
            return Span(self.vectors, self.root, step, self.choices)
        chosen = order[:rank]
        whole = np.block([[self.root, np.zeros((known, rank))], [left[chosen], root[:rank]]])
        return Span((*self.vectors, h[chosen]), whole, step, self.choices)


@dataclass(frozen=True)
class Step:
    """A block of vectors h by those before it: h = size (A, L') in the basis of old and new ones."""

    size: np.ndarray
    left: np.ndarray
    root: np.ndarray
    order: np.ndarray
    rank: int


class Field:
    """One orientation of a matrix with entries N(0, 1/n).

    Args:
        fresh: makes that many rows of independent samples of variance 1, (k, m).
        span: of no vectors, the same for matrices that may multiply the same ones.

    >>> rng = np.random.default_rng(0)
    >>> field = Field(lambda k: rng.standard_normal((k, 50000)))
    >>> h = rng.standard_normal((2, 50000))
    >>> z = np.concatenate([field.product(h), field.product(h[:1] + h[1:])])
    >>> bool(np.allclose(z[2], z[0] + z[1]))
    True
    """

    def __init__(self, fresh: Callable[[int], np.ndarray], span: Span | None = None) -> None:
        self.fresh, self.span = fresh, Span() if span is None else span
        self._gaussians: list[np.ndarray] = []

    def product(self, h: np.ndarray, key: Any = None) -> np.ndarray:
        """Ẑ of W h for a block of vectors (N, m), which a ``key`` stands for in all spans."""
        self.span = self.span.after(h, key)
        step = self.span.step
        assert step is not None
        result, start = np.zeros_like(h), 0
        for gaussians in self._gaussians:
            result += step.left[:, start : start + len(gaussians)].astype(h.dtype) @ gaussians
            start += len(gaussians)
        if step.rank:
            new = self.fresh(step.rank)
            result[step.order] += step.root.astype(h.dtype) @ new
            self._gaussians.append(new)
        return np.asarray(result * step.size.astype(h.dtype))


def dependent(dtype: Any) -> float:
    """What of a vector's second moment, relative to the whole, may be new without bringing a Gaussian."""
    return max(DEPENDENT, 10 * float(np.finfo(dtype).eps))


def _pivoted(residual: np.ndarray, least: float) -> tuple[np.ndarray, np.ndarray, int]:
    """L (N, r) with residual[order][:, order] = L Lᵀ, the order, and r."""
    if not residual.diagonal().max(initial=0.0) > least:
        return np.zeros((len(residual), 0)), np.arange(len(residual)), 0
    lower, pivot, rank, _ = lapack.dpstrf(residual, tol=least, lower=1)
    return np.tril(lower)[:, :rank], pivot - 1, int(rank)


def _repeated(residual: np.ndarray, order: np.ndarray, rank: int) -> tuple[np.ndarray, np.ndarray, int]:
    """The same for a given order and rank.

    Raises:
        LinAlgError: they are none of this matrix.
    """
    ordered = residual[np.ix_(order, order[:rank])]
    top = np.linalg.cholesky(ordered[:rank])
    return solve_triangular(top, ordered.T, lower=True).T if rank else ordered, order, rank


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
