"""Expectations by scrambled Sobol points, with a standard error from independent randomisations.

Products of kinked functions are first made smooth (Genz): the points are mapped, one variable after the other, to
each side of its kinks, weighted by the probability of that side given the variables before it.  The Gaussians are
drawn around the mean that they have under |f|, which a pilot run finds (Cameron and Martin's shift).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import islice, product
from typing import Any

import numpy as np
from scipy import special
from scipy.linalg import lapack
from scipy.stats import qmc

from tensorprog.expectations.factors import SCAN, Factor, Found, Product

Array = Any
RANDOMISATIONS = 16
ERRORS = 4.0  # standard errors reported as the error
SIDES = 64  # combinations of sides that are integrated apart
PROBES = 257
PILOT = 7  # log2 of the points of each net of the pilot
FRACTIONS = (1.0, 0.25, 0.5, 0.75, 1.0, 0.5, 1.0)  # of the latest mean, which each 1.0 renews
CLEAR = 0.7  # gain from which on a shift is worth it
RANK_CUT = 1e-14
LINE = (-np.inf, np.inf)
Side = tuple[float, float]


@dataclass(frozen=True)
class Estimate:
    """Mean over the randomisations, its standard error, and the mean of |f|."""

    value: float
    stderr: float
    scale: float

    def found(self) -> Found:
        """The estimate with ``ERRORS`` standard errors as its error."""
        return Found(self.value, ERRORS * self.stderr, self.scale)


def estimate(f: Callable[[Array], Array], dimensions: int, samples: int, seed: int) -> Estimate:
    """∫ f over the unit cube by ``RANDOMISATIONS`` scrambled Sobol sequences.

    Args:
        f: function of points (n, dimensions).
        dimensions: of the cube.
        samples: points in all, rounded up to ``RANDOMISATIONS`` powers of two.
        seed: of the scramblings.

    Returns:
        Estimate with standard error s/√R for the standard deviation s over R randomisations.

    Reference: A. B. Owen, Randomly permuted (t,m,s)-nets and (t,s)-sequences, 1995.

    >>> found = estimate(lambda u: u[:, 0] * u[:, 1], 2, 2**10, seed=0)
    >>> abs(found.value - 0.25) < 5 * found.stderr < 0.01
    True
    """
    each = max(0, (-(-samples // RANDOMISATIONS) - 1).bit_length())
    means = np.zeros((RANDOMISATIONS, 2))
    for r in range(RANDOMISATIONS):
        values = f(_net(dimensions, each, seed, r))
        means[r] = values.mean(), np.abs(values).mean()
    stderr = means[:, 0].std(ddof=1) / np.sqrt(RANDOMISATIONS)
    return Estimate(float(means[:, 0].mean()), float(stderr), float(means[:, 1].mean()))


def _net(dimensions: int, log2: int, *seed: int) -> Array:
    points = qmc.Sobol(dimensions, scramble=True, rng=np.random.default_rng(seed)).random_base2(log2)
    return np.clip(points, 2.0**-54, 1 - 2.0**-53)


def shifted(f: Callable[[Array, Array], tuple[Array, Array]], dimensions: int, pilot: Array) -> Array:
    """The shift of z with the smallest standard error on the nets of a pilot, for f(points, shift) = (z, values).

    Tried are fractions of the mean of z under |f|.
    """
    best = shift = np.zeros(dimensions)
    smallest = np.inf
    for fraction in FRACTIONS:
        candidate = fraction * shift
        z, values = f(pilot, candidate)
        spread = values.reshape(RANDOMISATIONS, -1).mean(axis=1).std()
        if spread < smallest:
            best, smallest = candidate, spread * (1.0 if shift.any() else CLEAR)
        total = np.abs(values).sum()
        if fraction != 1 or not 0 < total < np.inf:
            continue
        shift = np.abs(values) @ z / total
    return best


def _pilot(dimensions: int, seed: int) -> Array:
    return np.concatenate([_net(dimensions, PILOT, seed, RANDOMISATIONS + r) for r in range(RANDOMISATIONS)])


def plain(f: Callable[[Array], Array], dimensions: int, samples: int, seed: int) -> Estimate:
    """E f(z), z standard normal (n, dimensions).

    >>> found = plain(lambda z: np.exp(z.sum(axis=1)), 3, 2**10, seed=0)
    >>> bool(abs(found.value - np.exp(1.5)) < 5 * found.stderr < 0.1)
    True
    """

    def weighted(points: Array, shift: Array) -> tuple[Array, Array]:
        z = shift + special.ndtri(points)
        return z, f(z) * np.exp(-z @ shift + shift @ shift / 2)

    shift = shifted(weighted, dimensions, _pilot(dimensions, seed))
    return estimate(lambda points: weighted(points, shift)[1], dimensions, samples, seed)


def conditioned(problem: Product, samples: int, seed: int) -> Estimate:
    """E Π φ_i(x_i) by Genz's separation of variables.

    With x = L z the integral over z_i runs over one side a ≤ x_i ≤ b of the kinks of φ_i at a time, so that the
    integrand Π φ_i(x_i) [Φ(b_i) - Φ(a_i)] is smooth in the points of the cube.  Sides on which φ_i is 0 (probed on
    a grid) drop out; beyond ``SIDES`` combinations the last variables keep their kinks.

    Args:
        problem: the factors and the correlations of their variables.
        samples: points in all.
        seed: of the scramblings.

    Returns:
        Estimate.

    Reference: A. Genz, Numerical computation of multivariate normal probabilities, 1992.

    >>> step = Factor(lambda x: (x > 0).astype(float), np.zeros(1), 0.0)
    >>> half = Product((step,) * 4, 0.5 * (np.ones((4, 4)) + np.eye(4)))
    >>> found = conditioned(half, 2**12, seed=0)
    >>> abs(found.value - 0.2) < 5 * found.stderr < 1e-3
    True
    """
    triangle, order, rank = pivoted(problem.correlation)
    factors = [problem.factors[i] for i in order]
    choices, combinations = [], 1
    for i, f in enumerate(factors):
        own = sides(f) if i < rank else [LINE]
        own = own if combinations * len(own) <= SIDES else [LINE]
        combinations *= len(own)
        choices.append(own)
    pieces = [partial(_one_side, factors, triangle, chosen) for chosen in product(*choices)]
    pilot = _pilot(rank, seed)
    shifts = [shifted(piece, rank, pilot) for piece in pieces]

    def integrand(points: Array) -> Array:
        return sum((p(points, s)[1] for p, s in zip(pieces, shifts, strict=True)), np.zeros(len(points)))

    return estimate(integrand, rank, samples, seed)


def pivoted(correlation: Array) -> tuple[Array, Array, int]:
    """Lower triangle L (k, r), the order of its rows and the rank: R[order][:, order] = L Lᵀ."""
    lower, pivot, rank, _ = lapack.dpstrf(correlation, tol=RANK_CUT * len(correlation), lower=1)
    return np.tril(lower)[:, :rank], pivot - 1, int(rank)


def sides(f: Factor) -> list[Side]:
    """The intervals between the kinks on which the function is not 0."""
    ends = [-np.inf, *f.kinks, np.inf]
    return [side for side in zip(ends, islice(ends, 1, None), strict=False) if np.any(f.phi(_probes(side)))]


def _probes(side: Side) -> Array:
    """Points inside a side: spread evenly, and towards infinity if it is unbounded."""
    low, high = side
    if not np.isfinite(low) and not np.isfinite(high):
        return np.linspace(-SCAN, SCAN, PROBES)
    low, high = max(low, min(high, SCAN) - 2 * SCAN), min(high, max(low, -SCAN) + 2 * SCAN)
    return low + (high - low) * (np.arange(PROBES) + 0.5) / PROBES


def _one_side(
    factors: list[Factor], triangle: Array, chosen: tuple[Side, ...], points: Array, shift: Array
) -> tuple[Array, Array]:
    """z, and Π φ_i(x_i) on one side of the kinks times the density of z at points of the cube."""
    z = np.zeros_like(points)
    total = np.ones(len(points))
    for i, (f, (low, high)) in enumerate(zip(factors, chosen, strict=True)):
        x = z @ triangle[i]
        if i < len(shift):
            size, m = triangle[i, i], shift[i]
            y, weight = truncated((low - x) / size - m, (high - x) / size - m, points[:, i])
            z[:, i] = m + y
            x = x + size * z[:, i]
            total *= weight * np.exp(-m * y - m * m / 2)
        total *= np.where(total != 0, f.phi(x), 0.0)
    return z, total


def truncated(low: Array, high: Array, point: Array) -> tuple[Array, Array]:
    """A standard normal between two bounds from a uniform point, and the probability between them.

    >>> z, weight = truncated(np.array([30.0]), np.array([np.inf]), np.array([0.5]))
    >>> float(z[0]).__round__(3), bool(0 < weight[0] < 1e-190)
    (30.023, True)
    """
    flip = low > 0  # work in the lower tail, where probabilities are relatively accurate
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    a, b = special.ndtr(low), special.ndtr(high)
    between = np.clip(a + point * (b - a), 1e-300, 1 - 2.0**-53)
    z = np.clip(special.ndtri(between), low, high)
    z = np.where(np.isfinite(z), z, 0.0)
    return np.where(flip, -z, z), b - a
