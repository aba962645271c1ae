"""One eigendecomposition of a kernel matrix, and what it says about rank and conditioning."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from numbers import Real
from typing import Any

import numpy as np

from tensorprog.derivation.data import refuse_masked
from tensorprog.errors import DataError, shortly
from tensorprog.printing import Shown, counted, to_html
from tensorprog.report.shown import spectrum
from tensorprog.types import Data

SHOWN = 5  # groups of equal inputs named in a message
INDEFINITE = 1e-6  # of the largest eigenvalue, that rounding may make the smallest one negative
EPS = float(np.finfo(np.float64).eps)


def real_array(x: Any, name: str, what: str) -> np.ndarray:
    """A float64 array.

    Raises:
        DataError: not real numbers, or masked ones.
    """
    refuse_masked(x, name)
    try:
        array = np.asarray(x)
        if array.dtype.kind not in "biufO":
            raise TypeError(f"its entries are of type {array.dtype}")
        return array.astype(np.float64, copy=False)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} is not {what} of real numbers: {error}") from error


def kernel_matrix(K: Any, name: str, shape: tuple[int | None, int | None] = (None, None)) -> np.ndarray:
    """A finite float64 matrix.

    Raises:
        DataError: not numbers, not two-dimensional, of another shape than ``shape`` where that is given, not finite.
    """
    matrix = real_array(K, name, "a matrix")
    if matrix.ndim != 2 or any(want not in (None, got) for want, got in zip(shape, matrix.shape, strict=True)):
        wanted = ", ".join("any" if want is None else str(want) for want in shape)
        raise DataError(f"{name} must be a matrix of shape ({wanted}), got shape {matrix.shape}")
    if matrix.size == 0:
        raise DataError(f"{name} holds no inputs (shape {matrix.shape})")
    if not np.isfinite(matrix).all():
        i, j = (int(k) for k in np.argwhere(~np.isfinite(matrix))[0])
        raise DataError(f"{name}[{i}, {j}] is {matrix[i, j]}; a kernel matrix must be finite")
    return matrix


def symmetric_matrix(K: Any, name: str, shape: tuple[int | None, int | None] = (None, None)) -> np.ndarray:
    """The same, equal to its transpose up to rounding.

    Raises:
        DataError: as for ``kernel_matrix``, not square, or not symmetric.
    """
    matrix = kernel_matrix(K, name, shape)
    if matrix.shape[0] != matrix.shape[1]:
        raise DataError(f"{name} must be square, the kernel of inputs with themselves; got shape {matrix.shape}")
    gap, scale = np.abs(matrix - matrix.T).max(), np.abs(matrix).max()
    if gap > 1e-6 * scale:
        raise DataError(f"{name} is not symmetric: entries differ by up to {gap:.3g} from their mirror images")
    return matrix


def rounding_of(K: Any) -> float:
    """The relative rounding of the entries of a matrix."""
    return float(np.finfo(np.float32).eps) if np.asarray(K).dtype == np.float32 else EPS


@dataclass(frozen=True, repr=False)
class Spectrum(Shown):
    """K = Q Λ Qᵀ.

    Attributes:
        matrix: K, (N, N).
        values: its eigenvalues in ascending order, (N,).
        vectors: Q, (N, N).
        eps: relative rounding of the entries: 2⁻⁵², 2⁻²³ of a matrix in single precision.
        tolerance: eigenvalues up to here cannot be told from 0: N·2⁻⁵² and eps times the largest, and the most
            negative one.
    """

    matrix: np.ndarray
    values: np.ndarray
    vectors: np.ndarray
    eps: float
    tolerance: float

    @classmethod
    def of(cls, K: Data, name: str = "K", eps: float | None = None) -> Spectrum:
        """The eigendecomposition of a kernel matrix.

        Args:
            K: symmetric positive semidefinite, (N, N).
            name: how errors call it.
            eps: relative rounding of its entries, that of its precision when None.

        Raises:
            DataError: not a finite square matrix, not symmetric, or not positive semidefinite.

        >>> Spectrum.of([[2.0, 1.0], [1.0, 2.0]]).describe()
        'numerical rank 2 of 2, condition number 3'
        """
        if eps is not None and (not isinstance(eps, Real) or not eps >= 0):
            raise DataError(f"eps must be a number of at least 0, got {shortly(eps)}")
        matrix = symmetric_matrix(K, name)
        eps = rounding_of(K) if eps is None else eps
        values, vectors = np.linalg.eigh((matrix + matrix.T) / 2)
        if values[0] < -INDEFINITE * max(values[-1], 0.0) or values[-1] < 0:
            raise DataError(f"{name} is not positive semidefinite: its smallest eigenvalue is {values[0]:.3g}, its "
                            f"largest {values[-1]:.3g}; is it a kernel matrix?")  # fmt: skip
        tolerance = max(len(values) * EPS * values[-1], eps * values[-1], -values[0])
        return cls(matrix, np.maximum(values, 0.0), vectors, eps, float(tolerance))

    def text(self) -> str:
        """Rank and condition, and the largest and smallest eigenvalues."""
        ends = f"eigenvalues from {self.largest:.6g} down to {float(self.values[0]):.6g}"
        title = f"spectrum of {counted(len(self.values), 'input')}: {self.describe()}"
        return f"{title}\n  {ends}, rounding {self.tolerance:.2g}"

    @property
    def largest(self) -> float:
        """The largest eigenvalue."""
        return float(self.values[-1])

    @cached_property
    def null(self) -> np.ndarray:
        """Which eigenvalues are numerically zero, (N,) of booleans."""
        return self.values <= self.tolerance

    @property
    def rank(self) -> int:
        """The numerical rank."""
        return int(np.sum(~self.null))

    @property
    def condition(self) -> float:
        """λ_max/λ_min; infinite when the rank is not full."""
        return float("inf") if self.null[0] else self.largest / float(self.values[0])

    @cached_property
    def duplicates(self) -> list[list[int]]:
        """Groups of inputs that the kernel cannot tell apart: K_ii + K_jj − 2 K_ij is 0 to rounding."""
        d = np.diag(self.matrix)
        near = d[:, None] + d[None, :] - 2 * self.matrix <= 16 * self.eps * (d[:, None] + d[None, :])
        groups: dict[int, list[int]] = {}
        for i, first in enumerate(near.argmax(axis=1)):
            groups.setdefault(int(first), []).append(i)
        return [g for g in groups.values() if len(g) > 1]

    def describe(self) -> str:
        """Rank, condition number and equal inputs in words."""
        n = len(self.values)
        text = f"numerical rank {self.rank} of {n}"
        text += f", condition number {self.condition:.3g}" if self.rank == n else ""
        if self.duplicates:
            shown = "; ".join(", ".join(map(str, g[:SHOWN])) for g in self.duplicates[:SHOWN])
            more = " and more" if len(self.duplicates) > SHOWN else ""
            text += f"; inputs that the kernel cannot tell apart: {shown}{more}"
        zero = np.flatnonzero(np.diag(self.matrix) <= self.tolerance)
        return text + (f"; inputs of zero kernel: {', '.join(map(str, zero[:SHOWN]))}" if len(zero) else "")

    def require_full_rank(self, what: str) -> None:
        """Refuse to invert a singular matrix.

        Raises:
            DataError: naming the rank and the inputs that are equal, and what to do.
        """
        if self.null.any():
            least = max(self.tolerance, np.finfo(float).tiny)
            raise DataError(f"{what} needs the inverse of a singular kernel matrix ({self.describe()}): give a ridge "
                            f"alpha > {2 * least:.1g}, remove repeated inputs, or add biases")  # fmt: skip


to_html.register(Spectrum, spectrum)
