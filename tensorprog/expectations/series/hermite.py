"""Hermite coefficients a_k(q) = E φ(√q x) he_k(x)/√k!, x standard normal, with what certifies their use.

The he_k/√k! times the root of the density are the normalised Hermite functions ψ_k, which satisfy the stable
recurrence √(k+1) ψ_{k+1} = x ψ_k - √k ψ_{k-1} and never overflow.  The integrals are trapezoid sums; even and
odd orders use the even and odd part of φ, on half of the nodes.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np

from tensorprog.expectations.quadrature.trapezoid import SPACING

Array = Any
Box = tuple[float, float]  # half-width and step of the nodes
LEVELS = (16, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024)
# the largest variance of each step of the rule
STEPS = ((16.0, 1 / 32), (120.0, 1 / 64), (260.0, 1 / 128), (1050.0, 1 / 256), (np.inf, 1 / 512))
RADII = (14.0, 18.0, 26.0)
ROWS = 256  # variances handled together
EPS = float(np.finfo(float).eps)
TAIL_FLOOR = 8 * EPS  # what rounding leaves of E φ² - Σ a_k², as a fraction of E φ²


@dataclass(frozen=True)
class Coefficients:
    """Coefficients of one function for D variances.

    Attributes:
        parts: for even and odd orders k = 2m and 2m + 1, (K/2, D) arrays; None where parity makes them 0.
        tails: bounds of E φ² - Σ_{k<K} a_k² at the K of ``LEVELS``, (L, D).
        square: E φ², (D,).
        energy: Σ k a_k², (D,).
        error: root of the summed squared errors of the a_k by the step width, (D,); infinite if unknown.
    """

    parts: tuple[Array | None, Array | None]
    tails: Array
    square: Array
    energy: Array
    error: Array

    @property
    def mean(self) -> Array:
        """a_0 = E φ, (D,)."""
        return np.zeros_like(self.square) if self.parts[0] is None else self.parts[0][0]


def coefficients(function: Callable[[Array], Array], parity: int, q: Array, top: float = 1.0) -> Coefficients:
    """Coefficients a_k(q) of a smooth function for many variances at once.

    a_k(q) = E φ(√q x) he_k(x)/√k! for k < K, where K is the first of ``LEVELS`` with ``top``^K below rounding, at
    most 1024.  Where a whole level of a_k is below rounding the orders beyond it are left at 0, which is counted
    in ``error``.

    Args:
        function: φ, vectorised.
        parity: +1 even, -1 odd, 0 neither.
        q: variances ≥ 0, (D,); neighbours should be of similar size.
        top: largest |ρ| that the coefficients will be used with.

    Returns:
        Coefficients for the D variances.

    Reference: F. G. Mehler, 1866; the rule's error is the difference of the two grids of double width to the
    power 3/2, since halving a trapezoid rule's step squares its error.

    >>> found = coefficients(lambda x: x**3, -1, np.array([1.0]))
    >>> np.round(found.parts[1][:3, 0], 12)
    array([3.        , 2.44948974, 0.        ])
    """
    used = (parity >= 0, parity <= 0)
    orders = LEVELS[: 1 + next((n for n, k in enumerate(LEVELS) if top**k <= EPS), len(LEVELS))]
    even, odd = (np.zeros((orders[-1] // 2, len(q))) if use else None for use in used)
    tails, (square, energy, error) = np.zeros((len(orders), len(q))), np.zeros((3, len(q)))
    for start in range(0, len(q), ROWS):
        rows = slice(start, min(start + ROWS, len(q)))
        halves, box, missed = _halves(function, q[rows], used)
        square[rows] = box[1] / 2 * sum(np.sum(f * f, axis=1) for f in halves)
        views = tuple(None if p is None else p[:, rows] for p in (even, odd))
        tails[:, rows], energy[rows], gap, cut = _fill(views, halves, box, square[rows], orders)
        size = np.sqrt(np.where(square[rows] > 0, square[rows], 1.0))
        error[rows] = np.where(missed, np.inf, cut + gap * np.sqrt(gap / size))
    return Coefficients((even, odd), tails, square, energy, error)


def _halves(function: Callable[[Array], Array], q: Array, used: tuple[bool, bool]) -> tuple[list[Array], Box, Array]:
    """Weighted even and odd part of φ at nodes x ≥ 0, the box, and the variances it is too small or coarse for."""
    step = next(h for most, h in STEPS if q.max() <= most)
    with np.errstate(all="ignore"):
        for reach in RADII:
            x, density = _nodes((reach, step))
            grid = np.sqrt(q)[:, None] * x
            plus, minus = function(grid) * density, function(-grid) * density
            size = np.maximum(np.abs(plus), np.abs(minus))
            missed = ~(size[:, -1] <= 1e-18 * np.sqrt(step * np.sum(size**2, axis=1)))
            if not missed.any():
                break
        weight = np.where(x > 0, 1.0, np.sqrt(0.5))
        parts = [(plus + sign * minus) * weight if use else 0.0 * plus for sign, use in zip((1, -1), used, strict=True)]
        missed |= ~np.isfinite(parts[0] + parts[1]).all(axis=1) | (2 * step * np.sqrt(q) > SPACING)
    return [np.where(missed[:, None], 0.0, p) for p in parts], (reach, step), missed


@cache
def _nodes(box: Box) -> tuple[Array, Array]:
    """Nodes x ≥ 0 and the root of the normal density there."""
    x = box[1] * np.arange(int(box[0] / box[1]) + 1)
    return x, np.exp(-(x**2) / 4) / (2 * np.pi) ** 0.25


@cache
def _basis(box: Box) -> Array:
    """ψ_k at the nodes, (K, M), with half weight at x = 0, which a fold of the line counts twice."""
    x, density = _nodes(box)
    psi = np.empty((LEVELS[-1], len(x)))
    psi[0], psi[1] = density, x * density
    for k in range(1, LEVELS[-1] - 1):
        psi[k + 1] = (x * psi[k] - np.sqrt(k) * psi[k - 1]) / np.sqrt(k + 1)
    psi[:, 0] *= np.sqrt(0.5)
    return psi


def _fill(
    parts: tuple[Array | None, ...], halves: list[Array], box: Box, square: Array, orders: tuple[int, ...]
) -> tuple[Array, Array, Array, Array]:
    """Write the coefficients level by level; tails, energies, gaps of the grids, sizes of what is left at 0."""
    tails, cut = np.empty((len(orders), len(square))), np.zeros(len(square))
    left, energy, gap = square.copy(), np.zeros(len(square)), np.zeros(len(square))
    low = 0
    for level, high in enumerate(orders):
        norm, largest = np.zeros(len(square)), np.zeros(len(square))
        for p, part in enumerate(parts):
            if part is not None:
                even, odd = _project(halves[p], _basis(box)[low + p : high : 2], 2 * box[1])
                found = part[low // 2 : high // 2]
                found[:] = (even + odd) / 2
                norm += np.sum(found**2, axis=0)
                largest = np.maximum(largest, np.abs(found).max(axis=0))
                energy += np.arange(low + p, high, 2) @ found**2
                gap += np.sum((even - odd) ** 2, axis=0) / 4
        left -= norm
        tails[level:] = np.maximum(left, 0.0) + TAIL_FLOOR * square
        low = high
        if high < orders[-1] and np.all(largest**2 <= EPS**2 * square):
            cut = np.sqrt(norm)
            break
    return tails, energy + orders[-1] * tails[-1], np.sqrt(gap), cut


def _project(half: Array, basis: Array, step: float) -> tuple[Array, Array]:
    """Trapezoid sums over the even and over the odd nodes, which are ``step`` apart, (k, D).

    The first orders, which hold most of E φ², are summed pairwise: a matrix product would lose a digit.
    """
    if len(basis) > LEVELS[0] // 2:
        return step * (basis[:, ::2] @ half[:, ::2].T), step * (basis[:, 1::2] @ half[:, 1::2].T)
    terms = basis[:, None, :] * half
    return step * terms[..., ::2].sum(axis=-1), step * terms[..., 1::2].sum(axis=-1)
