"""E Π φ_i(x_i) where the correlations are of low rank plus diagonal: the variables are independent given few others."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from scipy.optimize import least_squares

from tensorprog.expectations.many.factors import (
    Factor,
    Found,
    Product,
    density,
    graded,
    line,
    refine,
    rounding,
    smoothed,
)
from tensorprog.expectations.many.markov import WIDE
from tensorprog.expectations.quadrature.trapezoid import SPACING

Array = Any
RANK = 3
NODES = {1: 1 << 13, 2: 1 << 17, 3: 1 << 20}  # in all, by rank
CHEBYSHEV = 16  # points per panel of a table
RESIDUAL = 2e-15  # of the correlations, times the number of variables


def splittings(correlation: Array) -> Iterator[tuple[Array, Array]]:
    """Ways to write R = L Lᵀ + diag(d), d ≥ 0, with L (k, r) of rank r ≤ 3, the lowest ranks first.

    Subtracting the smallest eigenvalue from the diagonal gives one (an equicorrelated R has rank 1, three and four
    variables have rank 2 and 3); a least-squares fit to the entries off the diagonal finds others.

    >>> loadings, d = next(splittings(np.full((5, 5), 0.25) + 0.75 * np.eye(5)))
    >>> np.round(np.abs(loadings[:, 0]), 12), np.round(d, 12)
    (array([0.5, 0.5, 0.5, 0.5, 0.5]), array([0.75, 0.75, 0.75, 0.75, 0.75]))
    """
    count = len(correlation)
    values, vectors = np.linalg.eigh(correlation)
    rank = int(np.sum(values - values[0] > RESIDUAL * count * values[-1]))
    for r in range(1, RANK + 1):
        if r == rank:
            # every other eigenvalue equals the smallest; at most one splitting is the better one
            root = vectors[:, count - r :] * np.sqrt(values[count - r :] - values[0])
            yield root, np.maximum(1 - np.sum(root**2, axis=1), 0.0)
        elif r < rank and r <= count - 2:
            start = vectors[:, count - r :] * np.sqrt(np.maximum(values[count - r :] - values[0], 0.0))
            fitted = _fit(correlation, start)
            if fitted is not None:
                yield fitted


def _fit(correlation: Array, start: Array) -> tuple[Array, Array] | None:
    """Loadings L with (L Lᵀ)_ij = R_ij off the diagonal and |L_i|² ≤ 1, by least squares; None if there are none."""
    count, rank = start.shape
    rows, columns = np.triu_indices(count, 1)
    diagonal = np.arange(count)

    def residuals(flat: Array) -> Array:
        L = flat.reshape(count, rank)
        gap = np.einsum("ir,ir->i", L[rows], L[columns]) - correlation[rows, columns]
        return np.concatenate([gap, np.maximum(np.sum(L**2, axis=1) - 1, 0.0), np.zeros(count * rank)])

    def jacobian(flat: Array) -> Array:
        L = flat.reshape(count, rank)
        slope = np.zeros((len(rows) + count + count * rank, count, rank))
        pair = np.arange(len(rows))
        slope[pair, rows], slope[pair, columns] = L[columns], L[rows]
        over = np.sum(L**2, axis=1) > 1
        slope[len(rows) + diagonal, diagonal] = 2 * L * over[:, None]
        return slope.reshape(len(slope), -1)

    with np.errstate(over="ignore"):  # a step along a flat direction may be huge, and is then taken back
        options = {"method": "lm", "xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15}
        flat = least_squares(residuals, start.ravel(), jac=jacobian, **options).x
    L = flat.reshape(count, rank)
    d = 1 - np.sum(L**2, axis=1)
    if not np.abs(residuals(flat)).max() <= RESIDUAL * count:
        return None
    return L, np.maximum(d, 0.0)


def lowrank_expectation(product: Product, loadings: Array, diagonal: Array, rtol: float, atol: float) -> Found | None:
    """E_z Π_i h_i((L z)_i), h_i(t) = E φ_i(t + √d_i ξ), by a trapezoid rule in z; None where the nodes are too many.

    The h_i are smooth even where the φ_i are not; in one dimension panels resolve those with small d_i.

    Reference: C. W. Dunnett, M. Sobel, Biometrika 1955, for orthants.

    >>> from tensorprog.expectations.many.factors import Factor
    >>> step = Factor(lambda x: (x > 0).astype(float), np.zeros(1), 0.0)
    >>> half = Product((step,) * 5, 0.5 * (np.ones((5, 5)) + np.eye(5)))
    >>> found = lowrank_expectation(half, *next(splittings(half.correlation)), 1e-12, 0.0)
    >>> round(found.value, 14) == round(1 / 6, 14)  # 1/(k + 1) at ρ = 1/2
    True
    """
    rest = product.correlation - loadings @ loadings.T
    residual = float(np.abs(rest - np.diag(np.diag(rest))).sum())
    noise = rounding(product, np.sqrt(diagonal), residual)
    return refine(lambda step, reach: _sum(product, loadings, np.sqrt(diagonal), step, reach), noise, rtol, atol)


def _sum(product: Product, loadings: Array, deviation: Array, step: float, reach: float) -> Array | None:
    rank = loadings.shape[1]
    breaks, scale = _resolution(product, loadings, deviation, reach)
    if scale == 0 or (2 * reach / (step * scale)) ** rank > NODES[rank]:
        return None
    x, weight = line(breaks, scale, step, reach)
    if len(x) ** rank > NODES[rank]:
        return None
    weight = weight * density(x)
    grid = np.stack(np.meshgrid(*[x] * rank, indexing="ij"), -1).reshape(-1, rank)
    weights = weight
    for _ in range(rank - 1):
        weights = np.multiply.outer(weights, weight)
    inside = np.sum(grid**2, axis=1) <= reach**2  # the corners hold less than the rest of a smaller box
    grid, total = grid[inside], weights.reshape(-1, 1)[inside]
    for f, row, s in zip(product.factors, loadings, deviation, strict=True):
        total = total * _tabulated(f, grid @ row, s, step, reach)
    sums = np.ascontiguousarray(total.T).sum(axis=1)  # numpy sums pairwise, without loss, along the last axis only
    return np.broadcast_to(sums, 2)  # one column where no factor is negative


def _tabulated(f: Factor, t: Array, s: float, step: float, reach: float) -> Array:
    """``smoothed`` at very many points, by Chebyshev interpolation on panels shorter than the scale of the result."""
    width = s if f.kinked else max(s, 0.5 / max(f.steep, 0.5))
    low, high = t.min(), t.max()
    panels = 1 + int((high - low) / width) if width else len(t)
    if panels * CHEBYSHEV >= len(t):
        return smoothed(f, t, s, step, reach)
    where = np.clip(((t - low) / width).astype(int), 0, panels - 1)
    local = 2 * ((t - low) / width - where) - 1
    node = np.polynomial.chebyshev.chebpts1(CHEBYSHEV)
    table = smoothed(f, (low + width * (np.arange(panels)[:, None] + (node + 1) / 2)).ravel(), s, step, reach)
    series = np.linalg.solve(
        np.polynomial.chebyshev.chebvander(node, CHEBYSHEV - 1), table.reshape(panels, CHEBYSHEV, 2)
    )
    series = series[..., :1] if np.array_equal(table[:, 0], table[:, 1]) else series
    value = before = np.zeros((len(t), series.shape[-1]))
    for n in range(CHEBYSHEV - 1, 0, -1):  # Clenshaw
        value, before = series[where, n] + 2 * local[:, None] * value - before, value
    result: Array = series[where, 0] + local[:, None] * value - before
    return result


def _resolution(product: Product, loadings: Array, deviation: Array, reach: float) -> tuple[Array, float]:
    """Breaks (one dimension only) and length scale of the integrand over z; 0 where it has kinks."""
    breaks: list[float] = []
    scale = 1.0
    for f, row, s in zip(product.factors, loadings, deviation, strict=True):
        size = float(np.linalg.norm(row))
        if size == 0:
            continue
        width = s / size
        if f.kinked and len(row) == 1 and width < WIDE:
            breaks += [b for k in f.kinks for b in graded(k / row[0], width, reach)]
        elif f.kinked:
            scale = min(scale, width)
        if f.steep:
            scale = min(scale, max(SPACING / (size * f.steep), width))
    return np.array(breaks), scale
