"""(K + α)⁻¹ y for many inputs: conjugate gradients on K in single precision, residuals of K in double precision."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import sympy as sp
from scipy import linalg

from tensorprog.errors import AccuracyError
from tensorprog.grams.compute import gram
from tensorprog.kernels.kernel import Kernel
from tensorprog.progress import Progress, telling

RANK, SHARE = 2000, 10  # of the preconditioner, at most; one in so many inputs
PIVOTS = 128  # chosen at a time
STRIP = 512  # rows of K computed at a time
ROWS = 16  # of K, made double at a time: they stay in the processor's cache
ROUNDS, STEPS = 12, 2000  # of refinement; of conjugate gradients in each
INNER = 1e-4  # by how much a round shrinks the residual
BAR = "conjugate gradients"

Strip = tuple[slice, np.ndarray, np.ndarray]
Strips = Callable[[], Iterator[Strip]]


class GramStrips:
    """The upper triangle of K(X, X) in strips of rows: (rows, K(rows, rows), K(rows, all after them))."""

    def __init__(self, kernel: Kernel, X: Any, values: Mapping[sp.Symbol, Any]) -> None:
        self.kernel, self.X, self.values = kernel, X, values

    def __call__(self) -> Iterator[Strip]:
        for start in range(0, len(self.X), STRIP):
            rows = slice(start, min(start + STRIP, len(self.X)))
            own = self._entries(self.X[rows], None)
            rest = np.zeros((len(own), 0))
            if rows.stop < len(self.X):
                rest = self._entries(self.X[rows], self.X[rows.stop :])
            yield rows, own, rest

    def _entries(self, X: Any, Y: Any) -> np.ndarray:
        return gram(self.kernel, X, Y, values=self.values, progress=False)  # type: ignore[no-any-return]


class LowRank:
    """M = L Lᵀ + D ≈ K + D, and M⁻¹ by Woodbury's identity.

    L is a Cholesky factor of K at pivots drawn, in blocks, in proportion to what of the diagonal is left.

    Args:
        K: symmetric positive semidefinite, (N, N), of any precision.
        noise: D, (N,), positive.
        rank: columns of L, at most.

    Reference: Y. Chen, E. Epperly, J. Tropp, R. Webber, *Randomly Pivoted Cholesky*, 2023, Algorithm 4.

    >>> LowRank(np.array([[2.0, 1.0], [1.0, 2.0]]), np.ones(2), 2).solve(np.array([1.0, 0.0])).round(12)
    array([ 0.375, -0.125])
    """

    def __init__(self, K: np.ndarray, noise: np.ndarray, rank: int, seed: int = 0) -> None:
        self.noise, source = noise, np.random.default_rng(seed)
        self.L, left = np.zeros((len(K), rank), order="F"), np.diag(K).astype(np.float64)
        floor, k = len(K) * float(np.finfo(K.dtype).eps) * left.max(), 0
        while k < rank and (left > 4 * floor).any():
            weights = np.where(left > 4 * floor, left, 0.0)
            most = min(PIVOTS, rank - k, int(np.count_nonzero(weights)))
            chosen = np.unique(source.choice(len(K), most, replace=False, p=weights / weights.sum()))
            part = K[:, chosen].astype(np.float64) - self.L[:, :k] @ self.L[chosen, :k].T
            square = part[chosen]
            kept = _pivoted(square, 4 * floor)
            part, chosen = part[:, kept], chosen[kept]
            root = linalg.cholesky(square[np.ix_(kept, kept)] + floor * np.eye(len(kept)), lower=True)
            self.L[:, k : k + len(kept)] = linalg.solve_triangular(root, part.T, lower=True).T
            left -= np.sum(self.L[:, k : k + len(kept)] ** 2, axis=1)
            left[chosen], k = 0.0, k + len(kept)
        self.L = self.L[:, :k]
        inner = np.eye(k) + self.L.T @ (self.L / noise[:, None])
        self.factor = linalg.cholesky(inner, lower=True)

    def solve(self, r: np.ndarray) -> np.ndarray:
        """M⁻¹ r."""
        scaled = (r.T / self.noise).T
        middle = linalg.cho_solve((self.factor, True), self.L.T @ scaled)
        return scaled - ((self.L @ middle).T / self.noise).T  # type: ignore[no-any-return]


def _pivoted(square: np.ndarray, floor: float) -> np.ndarray:
    """Rows of a positive semidefinite matrix that are independent up to ``floor``."""
    _, pivots, rank, _ = linalg.lapack.dpstrf(square, tol=floor, lower=1)
    return np.sort(pivots[: max(rank, 1)] - 1)  # type: ignore[no-any-return]


class Iterative:
    """(K + α)⁻¹ y to a relative residual ‖y − (K + α) x‖/‖y‖, in memory for K in single precision.

    Each round of refinement solves for the residual by conjugate gradients on the matrix in single precision, with
    products summed in double precision, preconditioned by ``LowRank``; the residual is then computed with entries in
    double precision, again in strips that are not kept.

    Args:
        strips: yields (rows, K(rows, rows), K(rows, all after them)) in double precision, as often as it is called.
        count: N.
        alpha: α, (N,) or a number, positive.
        tolerance: the relative residual wanted, of every column of y.
        rank: of the preconditioner; N/10, at most 2000, when None.

    Attributes:
        iterations: products with K so far.
        residual: the relative residual of the last solution, the largest of all columns.
    """

    def __init__(self, strips: Strips, count: int, alpha: float | np.ndarray, *, tolerance: float = 1e-8,
                 rank: int | None = None, progress: Progress = None) -> None:  # fmt: skip
        self.strips, self.noise = strips, np.broadcast_to(np.asarray(alpha, float), (count,)).copy()
        self.tolerance, self.progress = tolerance, progress
        self.K = np.empty((count, count), np.float32)
        with telling(progress) as tell:
            for rows, own, rest in strips():
                self.K[rows, rows], self.K[rows, rows.stop :] = own, rest
                self.K[rows.stop :, rows] = self.K[rows, rows.stop :].T
                tell(rows.stop, count, "kernel matrix")
            rank = min(count, max(PIVOTS, min(RANK, count // SHARE))) if rank is None else min(rank, count)
            self.near = LowRank(self.K, self.noise, rank)
        self.iterations, self.residual = 0, np.inf

    def solve(self, y: np.ndarray) -> np.ndarray:
        """(K + α)⁻¹ y, of the shape of y, (N,) or (N, outputs).

        Raises:
            AccuracyError: the residual stays above the tolerance.
        """
        goal = y.reshape(len(y), -1).astype(np.float64)
        size = np.linalg.norm(goal, axis=0)
        size[size == 0] = 1.0
        x, r = np.zeros_like(goal), goal
        self.residual = float((np.linalg.norm(r, axis=0) / size).max())
        with telling(self.progress) as tell:
            for _ in range(ROUNDS):
                if self.residual <= self.tolerance:
                    break
                self._steps(x, r, size, tell)
                r = goal - self._product(x)
                before, self.residual = self.residual, float((np.linalg.norm(r, axis=0) / size).max())
                if not self.residual < before / 2:
                    break
        if not self.residual <= self.tolerance:
            raise AccuracyError(f"conjugate gradients stay at a relative residual of {self.residual:.2g}, above "
                                f"{self.tolerance:.2g}: alpha = {self.noise.min():.2g} is too small for a matrix "
                                "in single precision; give a larger alpha, or solver='cholesky'")  # fmt: skip
        return x.reshape(y.shape)

    def _steps(self, x: np.ndarray, r: np.ndarray, size: np.ndarray, tell: Callable[[int, int, str], None]) -> None:
        """Add to x the solution for the residual r, with the matrix in single precision."""
        r, first = r.copy(), np.linalg.norm(r, axis=0) / size
        want = np.maximum(INNER * first, self.tolerance / 4)
        z = self.near.solve(r)
        p, rz = z, np.sum(r * z, axis=0)
        for step in range(STEPS):
            going = np.linalg.norm(r, axis=0) / size > want
            if not going.any():
                return
            Kp = self._rounded(p)
            self.iterations += 1
            pKp = np.sum(p * Kp, axis=0)
            length = np.where(going & (pKp > 0), rz / np.where(pKp > 0, pKp, 1.0), 0.0)
            x += length * p
            r -= length * Kp
            z = self.near.solve(r)
            last, rz = rz, np.sum(r * z, axis=0)
            p = z + np.where(last > 0, rz / np.where(last > 0, last, 1.0), 0.0) * p
            tell(step + 1, STEPS, f"{BAR}, residual {float((np.linalg.norm(r, axis=0) / size).max()):.1e}")

    def _rounded(self, p: np.ndarray) -> np.ndarray:
        """(K + α) p with the entries of K rounded to single precision."""
        out = (p.T * self.noise).T
        for i in range(0, len(p), ROWS):
            out[i : i + ROWS] += self.K[i : i + ROWS].astype(np.float64) @ p
        return out

    def _product(self, x: np.ndarray) -> np.ndarray:
        """(K + α) x with K in double precision."""
        out = (x.T * self.noise).T
        for rows, own, rest in self.strips():
            out[rows] += own @ x[rows] + rest @ x[rows.stop :]
            out[rows.stop :] += rest.T @ x[rows]
        return out
