"""Gaussian-process regression with a kernel matrix: posterior, samples, marginal likelihood."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import numpy as np

from tensorprog.errors import DataError, shortly
from tensorprog.given import count, generator
from tensorprog.learn.ridge import Eigen, Factor, factor
from tensorprog.learn.spectrum import Spectrum, kernel_matrix, real_array, rounding_of, symmetric_matrix
from tensorprog.printing import Shown, counted, to_html
from tensorprog.report.shown import facts
from tensorprog.types import Data

SLACK = 1e-6  # of the prior's variance, that rounding may make a variance negative


def targets(y: Any, count: int, name: str = "y", outputs: tuple[int, ...] | None = None) -> np.ndarray:
    """Targets as a finite float64 array (N,) or (N, outputs); of the shape (N, *outputs) where that is given.

    Raises:
        DataError: not numbers, not one row per input, of another shape, not finite.
    """
    array = real_array(y, name, "an array")
    if array.ndim not in (1, 2) or len(array) != count or array.size == 0:
        raise DataError(f"{name} must have shape ({count},) or ({count}, outputs), got {array.shape}")
    if outputs is not None and array.shape[1:] != outputs:
        raise DataError(f"{name} must have shape {(count, *outputs)} to go with y, got {array.shape}")
    if not np.isfinite(array).all():
        raise DataError(f"{name} has values that are not finite")
    return array


def noise_variance(alpha: Any, count: int) -> float | np.ndarray:
    """A number α ≥ 0, or one for each of ``count`` inputs, (count,).

    Raises:
        DataError: it is not one.
    """
    try:
        value = np.asarray(alpha, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        value = np.array(-1.0)
    if not (np.isfinite(value).all() and (value >= 0).all() and value.ndim < 2):
        raise DataError(
            f"alpha is a noise variance (a ridge), one number >= 0 or one for each training input; got {shortly(alpha)}"
        )
    if value.ndim and len(value) != count:
        raise DataError(f"alpha has {len(value)} noise variances for {count} training inputs")
    return value if value.ndim else float(value)


class GaussianProcess(Shown):
    """f ~ GP(0, K), y = f(X) + noise of variance α: mean K_*ᵀ(K + α)⁻¹y, covariance K_** − K_*ᵀ(K + α)⁻¹K_*.

    Args:
        K: kernel of the training inputs, (N, N), or its ``Spectrum``, which serves many ridges.
        y: targets (N,) or (N, outputs).
        alpha: noise variance (the ridge of kernel regression), or one for each input, (N,): α is then diag(alpha).

    Raises:
        DataError: bad matrices or targets, a negative ``alpha``, or one that is 0 to rounding with a singular kernel
            (the message gives the rank and names equal inputs).

    Reference: C. Rasmussen, C. Williams, *Gaussian Processes for Machine Learning*, 2006, Eq. 2.25, 2.30, 5.12.

    >>> gp = GaussianProcess([[1.0, 0.5], [0.5, 1.0]], [1.0, -1.0], alpha=0.5)
    >>> gp.mean([[1.0, 0.5]])
    array([0.5])
    """

    def __init__(self, K: Data, y: Data, alpha: float | Data = 0.0) -> None:
        self._given = K if isinstance(K, Spectrum) else None
        matrix = symmetric_matrix(K, "K") if self._given is None else self._given.matrix
        self._matrix, self._eps = (matrix + matrix.T) / 2, rounding_of(K) if self._given is None else self._given.eps
        self.y, self.alpha = targets(y, len(matrix)), noise_variance(alpha, len(matrix))
        found = factor(self._matrix, self.alpha, self._eps) if self._given is None else None
        self._factor: Factor = found or self._eigen()

    def text(self) -> str:
        """How well the targets fit."""
        left = float(np.sqrt(np.mean((self.weights.T * self.alpha) ** 2)))  # y − K (K + α)⁻¹ y = α (K + α)⁻¹ y
        outputs = "" if self.y.ndim == 1 else f" and {counted(self.y.shape[1], 'output')}"
        rows = [f"Gaussian process of {counted(len(self.y), 'input')}{outputs}, {self._noise}",
                f"  log marginal likelihood: {self.log_marginal_likelihood:.6g}",
                f"  root mean square of y − mean at the inputs: {left:.6g}"]  # fmt: skip
        return "\n".join(rows)

    @property
    def _noise(self) -> str:
        least, most = float(np.min(self.alpha)), float(np.max(self.alpha))
        return f"noise variance {least:.6g}" if least == most else f"noise variances from {least:.6g} to {most:.6g}"

    def _eigen(self) -> Eigen:
        if isinstance(self.alpha, np.ndarray):
            ridged = Spectrum.of(self._matrix + np.diag(self.alpha), "K", self._eps)
            ridged.require_full_rank("regression with these alpha")
            return Eigen(ridged, 0.0)
        if self.alpha <= max(self.spectrum.tolerance, np.finfo(float).tiny):  # too small to count
            self.spectrum.require_full_rank(f"regression with alpha = {self.alpha:.3g}")
        return Eigen(self.spectrum, self.alpha)

    @cached_property
    def spectrum(self) -> Spectrum:
        """The eigendecomposition of K."""
        return self._given or Spectrum.of(self._matrix, "K", self._eps)

    @cached_property
    def _slack(self) -> float:
        """By how much of the prior's a variance may be negative: what rounding of K does to the smallest K + α."""
        return max(SLACK, 4 * self._factor.loss)

    @cached_property
    def weights(self) -> np.ndarray:
        """(K + α)⁻¹ y, of the shape of y."""
        return self._factor.solve(self.y)

    def mean(self, K_test: Data) -> np.ndarray:
        """The posterior mean (M,) or (M, outputs) at test inputs, whose kernel with the training ones is (M, N)."""
        return kernel_matrix(K_test, "K_test", (None, len(self.y))) @ self.weights  # type: ignore[no-any-return]

    def cov(self, K_test: Data, K_test_test: Data) -> np.ndarray:
        """The posterior covariance (M, M), the same for all outputs; with the (M,) diagonal given, its diagonal."""
        white = self._factor.whiten(kernel_matrix(K_test, "K_test", (None, len(self.y))))
        prior = real_array(K_test_test, "K_test_test", "an array")
        if prior.ndim == 1:
            if len(prior) != len(white) or not np.isfinite(prior).all():
                raise DataError(f"K_test_test must be finite, ({len(white)}, {len(white)}) or its diagonal "
                                f"({len(white)},); got {prior}")  # fmt: skip
            return variances(prior - np.sum(white**2, axis=1), prior, "K_test_test", self._slack)
        prior = symmetric_matrix(prior, "K_test_test", (len(white), len(white)))
        return covariance(prior - white @ white.T, prior, "K_test_test", self._slack)

    def sample(self, K_test: Data, K_test_test: Data, size: int = 1, seed: int | np.random.Generator = 0) -> np.ndarray:
        """Draws of f at test inputs from the posterior, (size, M) or (size, M, outputs)."""
        mean = self.mean(K_test)
        return draw(mean, self.cov(K_test, kernel_matrix(K_test_test, "K_test_test")), size, seed)

    @property
    def log_marginal_likelihood(self) -> float:
        """log p(y) = −½ yᵀ(K + α)⁻¹y − ½ log det(K + α) − N/2 log 2π, summed over outputs."""
        outputs = 1 if self.y.ndim == 1 else self.y.shape[1]
        fit = float(np.sum(self.y * self.weights))
        each = self._factor.log_determinant + len(self.y) * np.log(2 * np.pi)
        return -0.5 * (fit + outputs * each)

    @property
    def leave_one_out(self) -> np.ndarray:
        """The prediction of each target from all others, of the shape of y, without fitting again."""
        return self.y - (self.weights.T / self._factor.inverse_diagonal).T  # type: ignore[no-any-return]


def variances(found: np.ndarray, prior: np.ndarray, name: str, slack: float) -> np.ndarray:
    """Posterior variances, those that rounding left below 0 as 0.

    Raises:
        DataError: one is negative beyond ``slack`` of the prior's, so that the matrices are not those of one network.
    """
    if found.min() < -slack * max(float(prior.max()), 0.0):
        raise DataError(f"a variance is {found.min():.3g}: {name} and the other matrices are not of one network")
    return np.maximum(found, 0.0)


def covariance(found: np.ndarray, prior: np.ndarray, name: str, slack: float) -> np.ndarray:
    """A posterior covariance with the diagonal of ``variances``."""
    np.fill_diagonal(found, variances(np.diag(found), np.diag(prior), name, slack))
    return found


def draw(mean: np.ndarray, cov: np.ndarray, size: int, seed: int | np.random.Generator) -> np.ndarray:
    """``size`` draws from N(mean, cov), (size, *mean.shape): one covariance for all outputs, singular ones included."""
    size, source = count(size, "the number of draws"), generator(seed)
    values, vectors = np.linalg.eigh((cov + cov.T) / 2)
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    noise = source.standard_normal((size, *mean.shape))
    return mean + np.einsum("ij,sj...->si...", root, noise)


to_html.register(GaussianProcess, facts)
