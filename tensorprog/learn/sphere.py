"""The spectrum of a kernel on the sphere: eigenvalues by degree, effective dimension, learning curves.

A kernel of angles, K(x, x') = k(cos θ) for |x| = |x'| = r, has the spherical harmonics of degree k as eigenfunctions
under uniform inputs on S^(d−1) (Funk, Hecke), with N(d, k) equal eigenvalues

    λ_k = Γ(d/2)/(√π Γ((d−1)/2)) ∫_{−1}^{1} k(t) P_k(t) (1 − t²)^((d−3)/2) dt,

with Legendre's polynomials P_k of dimension d.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import optimize, special

from tensorprog.errors import AccuracyError, DataError, ProgramError, shortly
from tensorprog.given import count, number
from tensorprog.kernels.kernel import Kernel
from tensorprog.learn.gaussian import noise_variance
from tensorprog.learn.networks import values_by_symbol
from tensorprog.printing import Shown
from tensorprog.types import HyperValues

NODES = 400  # of the rule, at least; twice as many tell its error
MARGIN = 64  # nodes for each degree, at least, so that the polynomials are resolved


@dataclass(frozen=True, repr=False)
class SphereSpectrum(Shown):
    """Eigenvalues of a kernel by degree, for uniform inputs on the sphere.

    Attributes:
        dim: d, of the space around the sphere.
        radius: of the sphere.
        values: λ_0, .., λ_degrees.
        multiplicities: N(d, k), the number of eigenfunctions of each degree, as floats.
        errors: of the values, from a rule of half the size.
        total: K(x, x), the sum of all eigenvalues with multiplicity, those beyond the degrees too.
    """

    dim: int
    radius: float
    values: np.ndarray
    multiplicities: np.ndarray
    errors: np.ndarray
    total: float

    def text(self) -> str:
        """The eigenvalues that are not zero."""
        rows = [f"spectrum on the sphere S^{self.dim - 1} of radius {self.radius:.6g}, degrees 0 to "
                f"{len(self.values) - 1}, {self.kept.sum() / self.total:.2%} of K(x, x)",
                "  degree  multiplicity  eigenvalue"]  # fmt: skip
        shown = [k for k in range(len(self.values)) if not self.null[k]][:12]
        rows += [f"  {k:6d}  {self.multiplicities[k]:12.0f}  {self.values[k]:.8g}" for k in shown]
        return "\n".join(rows)

    @property
    def null(self) -> np.ndarray:
        """Which eigenvalues are 0 up to the error of the rule, (degrees + 1,) of booleans."""
        return np.abs(self.values) <= np.maximum(10 * self.errors, 1e-14 * self.total)

    @property
    def kept(self) -> np.ndarray:
        """λ_k N(d, k), what each degree has of K(x, x)."""
        return self.values * self.multiplicities

    def decay(self, parity: int | None = None, first: int | None = None) -> float:
        """The exponent p of λ_k ≈ c (k + d/2 − 1)^(−p), by least squares on logarithms.

        (k + d/2 − 1)² is the eigenvalue k(k + d − 2) of the sphere's Laplacian, up to a constant: k^(−p) shows sooner.

        Args:
            parity: 0 for even degrees, 1 for odd ones; None for both.
            first: the smallest degree fitted; half of the largest when None.
        """
        if not (parity is None or (isinstance(parity, int) and parity in (0, 1))):
            raise DataError(f"parity is 0 (even degrees), 1 (odd ones) or None, got {shortly(parity)}")
        k = np.arange(len(self.values))
        least = len(k) // 2 if first is None else count(first, "first")
        used = (k >= max(least, 1)) & ~self.null & (self.values > 0)
        used &= True if parity is None else k % 2 == parity
        if used.sum() < 3:
            raise DataError(f"a decay needs at least three eigenvalues that are not 0, there are {used.sum()}")
        return -float(np.polyfit(np.log(k[used] + self.dim / 2 - 1), np.log(self.values[used]), 1)[0])

    def effective_dimension(self, alpha: float) -> float:
        """Σ_k N(d, k) λ_k/(λ_k + α), with what is left of K(x, x) as infinitely many small eigenvalues."""
        ridge = _positive(alpha, "alpha")
        values = np.where(self.null, 0.0, self.values)
        return float(np.sum(self.multiplicities * values / (values + ridge)) + self._tail / ridge)

    @property
    def _tail(self) -> float:
        """What the degrees leave of K(x, x)."""
        return max(self.total - float(np.sum(np.where(self.null, 0.0, self.kept))), 0.0)

    def learning_curve(self, powers: Any, counts: Any, alpha: float = 0.0, noise: float = 0.0) -> np.ndarray:
        """The expected squared error of kernel ridge regression on P uniform inputs, for each P of ``counts``.

        With κ = α + Σ λ/(1 + Pλ/κ) and γ = Σ Pλ²/(Pλ + κ)² over eigenvalues with multiplicity,

            E = Σ_k w_k κ²/(Pλ_k + κ)²/(1 − γ) + σ² γ/(1 − γ).

        Degrees beyond those computed are taken as infinitely many small eigenvalues, which add their sum to α.

        Args:
            powers: w_k, the mean square of the target's part of degree k, (at most degrees + 1,).
            counts: numbers P of training inputs.
            alpha: the ridge: f = K_*(K + α)⁻¹ y.
            noise: the variance σ² of the targets' noise.

        Reference: A. Canatar, B. Bordelon, C. Pehlevan, *Spectral bias and task-model alignment explain generalization
        in kernel regression and infinitely wide neural networks*, 2021, Eq. 4 and 5.
        """
        weights, ridge, noise = _numbers(powers), noise_variance(alpha, 1), number(noise, "noise", 0)
        if weights.ndim != 1 or len(weights) > len(self.values) or not (weights >= 0).all():
            most = len(self.values) - 1
            raise DataError(f"powers are mean squares >= 0 of degrees 0 to at most {most}, got {shortly(powers)}")
        w = np.concatenate([weights, np.zeros(len(self.values) - len(weights))])
        several = (
            counts
            if isinstance(counts, (list, tuple)) or (isinstance(counts, np.ndarray) and counts.ndim)
            else [counts]
        )
        return np.array([self._error(w, count(P, "counts"), float(ridge) + self._tail, noise) for P in several])

    def _error(self, w: np.ndarray, P: int, ridge: float, noise: float) -> float:
        λ, n = np.where(self.null, 0.0, self.values), self.multiplicities

        def excess(log_kappa: float) -> float:
            κ = np.exp(log_kappa)
            return float(κ - ridge - np.sum(n * λ / (1 + P * λ / κ)))

        high = ridge + float(np.sum(n * λ))
        low = max(ridge, 1e-14 * high)
        if excess(np.log(low)) > 0:
            κ = low
        else:
            κ = float(np.exp(optimize.brentq(excess, np.log(low), np.log(high) + 1e-9, xtol=1e-13)))
        γ = float(np.sum(n * P * (λ / (P * λ + κ)) ** 2))
        if not γ < 1:
            raise AccuracyError(f"the learning curve has no finite error at P = {P} without a ridge: give alpha > 0")
        return (float(np.sum(w / (P * λ / κ + 1) ** 2)) + noise * γ) / (1 - γ)


def spectrum(K: Any, dim: int, degrees: int = 20, *, radius: float | None = None,
             values: HyperValues | None = None) -> SphereSpectrum:  # fmt: skip
    """The eigenvalues of a network's kernel by degree, for uniform inputs on the sphere S^(dim−1).

    The integral over cos θ is by Gauss–Legendre's rule in θ, which sees the poles (1 ∓ cos θ)^(n + 1/2) of relu's
    kernels at parallel and opposite inputs as smooth functions.

    Args:
        K: a kernel of a network over vectors, such as ``tp.ntk(net)``, or a function of an array of cosines.
        dim: d, at least 2.
        degrees: the largest degree k.
        radius: of the sphere; √d when None, so that ⟨x, x⟩ = x·x/d is 1.  A function of cosines has none.
        values: numbers for hyperparameter symbols, by symbol or by name.

    Raises:
        DataError: a dimension below 2, a kernel that depends on more than the angle, values that are not finite.
        ProgramError: neither a kernel nor a function.

    Reference: F. Bach, *Breaking the Curse of Dimensionality with Convex Neural Networks*, 2017, appendix D;
    A. Bietti, J. Mairal, *On the Inductive Bias of Neural Tangent Kernels*, 2019, section 3.2.

    >>> import tensorprog as tp
    >>> s = spectrum(lambda t: 1 + 3 * t, dim=3, degrees=2)
    >>> s.values.round(12) + 0.0, s.multiplicities
    (array([1., 1., 0.]), array([1., 3., 5.]))
    """
    dim, degrees = count(dim, "dim"), count(degrees, "degrees", least=0)
    if dim < 2:
        raise DataError(f"dim is that of the space around the sphere, at least 2; got {dim}")
    size = np.sqrt(dim) if radius is None else _positive(radius, "radius")
    n = max(NODES, MARGIN * degrees // 4)
    fine, coarse = (_by_degree(K, dim, degrees, size, m, values) for m in (2 * n, n))
    one = float(_row(K, dim, np.zeros(1), size, values)[0])
    many = np.array([multiplicity(dim, k) for k in range(degrees + 1)])
    return SphereSpectrum(dim, float(size), fine, many, np.abs(fine - coarse), one)


def multiplicity(dim: int, degree: int) -> float:
    """N(d, k) = (2k + d − 2)/k · C(k + d − 3, d − 2), the number of spherical harmonics of degree k on S^(d−1).

    >>> [multiplicity(3, k) for k in range(4)], multiplicity(2, 5)
    ([1.0, 3.0, 5.0, 7.0], 2.0)
    """
    if degree == 0:
        return 1.0
    return float(special.comb(degree + dim - 1, degree, exact=True)
                 - (special.comb(degree + dim - 3, degree - 2, exact=True) if degree > 1 else 0))  # fmt: skip


def _by_degree(K: Any, dim: int, degrees: int, radius: float, nodes: int, values: Any) -> np.ndarray:
    """λ_k for all degrees, by a rule of so many nodes in θ."""
    x, w = special.roots_legendre(nodes)
    θ = np.pi * (x + 1) / 2
    row = _row(K, dim, θ, radius, values)
    density = w * np.pi / 2 * np.sin(θ) ** (dim - 2)
    polynomials, t = [np.ones_like(θ), np.cos(θ)], np.cos(θ)
    for k in range(1, degrees):  # (k + d − 2) P_{k+1} = (2k + d − 2) t P_k − k P_{k−1}
        polynomials.append(((2 * k + dim - 2) * t * polynomials[k] - k * polynomials[k - 1]) / (k + dim - 2))
    scale = np.exp(special.gammaln(dim / 2) - special.gammaln((dim - 1) / 2)) / np.sqrt(np.pi)
    return np.array([scale * np.sum(density * row * P) for P in polynomials[: degrees + 1]])


def _row(K: Any, dim: int, θ: np.ndarray, radius: float, values: Any) -> np.ndarray:
    """K between one point of the sphere and points at angles θ from it."""
    if isinstance(K, Kernel):
        found = _angles(K, dim, θ, radius, values)
    elif callable(K) and values is None:
        found = _of_cosines(K, np.cos(θ))
    else:
        raise ProgramError(f"spectrum takes a kernel such as tp.ntk(net), or a function of cosines, got {shortly(K)}")
    if found.shape != θ.shape or not np.isfinite(found).all():
        raise DataError(f"the kernel must give a finite number for each of {len(θ)} cosines")
    return found


def _of_cosines(K: Any, cosines: np.ndarray) -> np.ndarray:
    try:
        return np.asarray(K(cosines), float)
    except (TypeError, ValueError, OverflowError) as error:
        raise ProgramError(
            f"spectrum takes a function of an array of cosines, and {K!r} takes none: {error}"
        ) from error


def _numbers(powers: Any) -> np.ndarray:
    try:
        return np.asarray(powers, float)
    except (TypeError, ValueError, OverflowError):
        raise DataError(f"powers are mean squares by degree, got {shortly(powers)}") from None


def _angles(K: Kernel, dim: int, θ: np.ndarray, radius: float, values: Mapping[Any, Any] | None) -> np.ndarray:
    if K.net.form != "vectors":
        raise DataError(f"the sphere is one of vectors, and {K.net.name} takes {K.net.form}")
    numbers = values_by_symbol(K, values)
    points = np.zeros((len(θ), dim))
    points[:, 0], points[:, 1] = radius * np.cos(θ), radius * np.sin(θ)
    first, turned = np.zeros((1, dim)), np.zeros((len(θ), dim))
    first[0, 0] = radius
    found = K(first, points, values=numbers)[0]
    other = np.zeros((1, dim))  # the same angles from another point
    other[0, :2] = radius * np.array([0.6, 0.8])
    turned[:, 0], turned[:, 1] = points[:, :2] @ [0.6, -0.8], points[:, :2] @ [0.8, 0.6]
    again = K(other, turned, values=numbers)[0]
    if not np.allclose(found, again, rtol=1e-6, atol=1e-6 * np.abs(found).max()):
        raise DataError(f"{K!r} depends on more than the angle of two inputs of one length")
    return found  # type: ignore[no-any-return]


def _positive(value: Any, name: str) -> float:
    """A positive number.

    Raises:
        DataError: it is not one.
    """
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        number = -1.0
    if not (np.isfinite(number) and number > 0):
        raise DataError(f"{name} must be a positive number, got {shortly(value)}")
    return number
