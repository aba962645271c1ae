"""Expectations by scrambled Sobol points, with a standard error from independent randomisations.

Products of kinked functions are first made smooth (Genz): the points are mapped, one variable after the other, to
each side of its kinks, weighted by the probability of that side given the variables before it.  Where a pilot run
shows a gain, half of the Gaussians are drawn around another mean, and all are weighted by the mixture of the two laws;
such weights are at most 2, so that the standard error stays honest.
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

from tensorprog.expectations.many.factors import SCAN, Factor, Found, Product
from tensorprog.expectations.many.points import sobol_points

Array = Any
RANDOMISATIONS = 16
ERRORS = 4.0  # standard errors reported as the error
SIDES = 16  # combinations of sides that are integrated apart
PROBES = 257
PILOT = 7  # log2 of the points of each net of the pilot
TRIALS = ((1.0, 1.0), (0.0, 1.4), (0.5, 1.0), (1.0, 1.0), (0.5, 1.0), (1.0, 1.0))  # fraction of the latest mean, scale
CLEAR = 0.5  # gain from which on a shift is worth it
RANK_CUT = 1e-14
LINE = (-np.inf, np.inf)
Side = tuple[float, float]
Proposal = tuple[Array, float]  # means and common standard deviation
# points of the cube, the laws, the index of the one to draw from ↦ z, f(z), and φ(z)/p_s(z) for each law
Sampler = Callable[[Array, list[Proposal], int], tuple[Array, Array, Array]]


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
    return sobol_points(dimensions, log2, np.random.default_rng(seed))


def _mixed(sample: Sampler, laws: list[Proposal], points: Array) -> tuple[Array, Array]:
    """Points z (S, n, d) from each law p_s and f(z)/Σ_s (p_s/p)(z), (S, n); E f is the mean of the sum over S."""
    z, values = [], []
    for own in range(len(laws)):
        with np.errstate(all="ignore"):  # where a law cannot be, its ratio is 0 and 1/0 weighs the point by 0
            drawn, f, ratios = sample(points, laws, own)
            values.append(f / np.sum(1 / ratios, axis=0))
        z.append(drawn)
    return np.array(z), np.array(values)


def _laws(sample: Sampler, dimensions: int, pilot: Array) -> list[Proposal]:
    """The standard law and, if that makes the standard error on the nets of a pilot clearly smaller, a second one.

    Tried are a wider law, and laws around fractions of the mean of z under |f|.
    """
    standard = np.zeros(dimensions), 1.0
    best, mean, smallest = [standard], standard[0], np.inf
    for fraction, scale in TRIALS:
        laws = [standard, (fraction * mean, scale)] if mean.any() else [standard]
        z, values = _mixed(sample, laws, pilot)
        spread = values.sum(axis=0).reshape(RANDOMISATIONS, -1).mean(axis=1).std()
        if spread < smallest:
            best, smallest = laws, spread * (CLEAR if len(laws) == 1 else 1.0)
        size = np.abs(values)
        if fraction == 1 and 0 < size.sum() < np.inf:
            mean = np.einsum("sn,snd->d", size, z) / size.sum()
    return best


def _pilot(dimensions: int, seed: int) -> Array:
    return np.concatenate([_net(dimensions, PILOT, seed, RANDOMISATIONS + r) for r in range(RANDOMISATIONS)])


def plain(f: Callable[[Array], Array], dimensions: int, samples: int, seed: int) -> Estimate:
    """E f(z), z standard normal (n, dimensions).

    >>> found = plain(lambda z: np.exp(z.sum(axis=1)), 3, 2**10, seed=0)
    >>> bool(abs(found.value - np.exp(1.5)) < 5 * found.stderr < 0.1)
    True
    """

    def sample(points: Array, laws: list[Proposal], own: int) -> tuple[Array, Array, Array]:
        y, (mean, scale) = special.ndtri(points), laws[own]
        z = mean + scale * y
        return z, f(z), np.array([np.prod(_ratio(z, m, s), axis=1) for m, s in laws])

    laws = _laws(sample, dimensions, _pilot(dimensions, seed))
    return estimate(lambda points: _mixed(sample, laws, points)[1].sum(axis=0), dimensions, samples, seed)


def _ratio(z: Array, mean: Array, scale: float) -> Array:
    """The standard normal density over that of another mean and scale."""
    return scale * np.exp(((z - mean) ** 2 / scale**2 - z**2) / 2)


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
    laws = [_laws(piece, rank, pilot) for piece in pieces]

    def integrand(points: Array) -> Array:
        parts = (_mixed(p, s, points)[1].sum(axis=0) for p, s in zip(pieces, laws, strict=True))
        return sum(parts, np.zeros(len(points)))

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
    factors: list[Factor], triangle: Array, chosen: tuple[Side, ...], points: Array, laws: list[Proposal], own: int
) -> tuple[Array, Array, Array]:
    """z on one side of the kinks, Π φ_i(x_i), and the ratio of the normal density to that of each law at z."""
    z = np.zeros_like(points)
    total, ratios = np.ones(len(points)), np.ones((len(laws), len(points)))
    for i, (f, side) in enumerate(zip(factors, chosen, strict=True)):
        x = z @ triangle[i]
        if i < points.shape[1]:
            bounds = np.array([end - x for end in side]) / triangle[i, i]
            mean, scale = laws[own][0][i], laws[own][1]
            low, high = (bounds - mean) / scale
            z[:, i] = mean + scale * truncated(low, high, points[:, i])
            for ratio, (m, s) in zip(ratios, laws, strict=True):
                inside = between(*((bounds - m[i]) / s))
                ratio *= np.where(inside > 0, inside * _ratio(z[:, i], m[i], s), 0.0)
            x = x + triangle[i, i] * z[:, i]
        total *= np.where(ratios[own] > 0, f.phi(x), 0.0)
    return z, total, ratios


def between(low: Array, high: Array) -> Array:
    """The probability that a standard normal is between two bounds, relatively accurate in both tails."""
    flip = low > 0
    return np.where(flip, special.ndtr(-low) - special.ndtr(-high), special.ndtr(high) - special.ndtr(low))


def truncated(low: Array, high: Array, point: Array) -> Array:
    """A standard normal between two bounds from a uniform point.

    >>> z = truncated(np.array([30.0, 0.0]), np.array([np.inf, 1.0]), np.array([0.5, 0.0]))
    >>> np.round(z, 3).tolist()
    [30.023, 0.0]
    """
    flip = low > 0  # work in the lower tail, where probabilities are relatively accurate
    low, high = np.where(flip, -high, low), np.where(flip, -low, high)
    a, b = special.ndtr(low), special.ndtr(high)
    z = np.clip(special.ndtri(np.clip(a + point * (b - a), 1e-300, 1 - 2.0**-53)), low, high)
    z = np.where(np.isfinite(z), z, 0.0)
    return np.where(flip, -z, z)
