"""Moments and Hermite coefficients of smooth functions of very many variances, by Chebyshev interpolation in log q.

E φ(√q x) ψ(x) is analytic in log q, for tanh and its like in a strip of half-width π: on a panel of width log 4 a few
nodes interpolate to rounding, and what N variances cost is one matrix product.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import parity
from tensorprog.expectations.series.hermite import EPS, LEVELS, Coefficients, coefficients
from tensorprog.functions import X, evaluate

Array = Any
WIDTH = float(np.log(4.0))  # of a panel in log q
NODES, CHECKS = 24, 9
SAFETY = 2.0  # errors are this multiple of the largest deviation at the checks
ROUNDING = 4 * EPS  # of an interpolated coefficient, relative to (E φ²)^½
GOOD = 2e-14  # worst error of a panel that is used, relative to (E φ²)^½
MOMENT = 0.0  # largest |ρ| of a table whose first coefficients alone are read


@dataclass(frozen=True)
class Panel:
    """Interpolants on a panel 4^n ≤ q < 4^(n+1), in s = log(q/4^n).

    Attributes:
        terms: Chebyshev coefficients in s of every a_k, (K, NODES); of one parity only where φ has one.
        points, tails: sorted s and ½ log of the largest (E φ² − Σ_{k<K} a_k²)/E φ² up to there, (S,) and (S, L).
        good: whether the error is below GOOD.
    """

    terms: Array
    points: Array
    tails: Array
    good: bool


class Tabulated:
    """A smooth function of X whose coefficients are tabulated where they are asked for.

    Attributes:
        parity: +1 even, -1 odd, 0 neither; of an even or odd φ every second coefficient is held.
    """

    def __init__(self, function: sp.Expr, top: float) -> None:
        self.function, self.top = function, top
        self.parity = parity(function, (X,))
        self.at_zero = float(self(np.zeros(1))[0])
        self.panels: dict[int, Panel] = {}

    def __call__(self, x: Array) -> Array:
        """φ(x)."""
        return np.broadcast_to(evaluate(self.function, {X: x}), np.shape(x))

    def tails(self, q: Array) -> Array:
        """½ log of (E φ² − Σ_{k<K} a_k²)/E φ² at the K of ``LEVELS``, (N, L); inf where the table is not good enough.

        Args:
            q: variances ≥ 0, (N,).

        >>> from tensorprog.functions import Tanh
        >>> tabulated(Tanh(X)).tails(np.array([0.1, 1.0]))[:, 0].round(1)
        array([-13.3,  -5.1])
        """
        tails = np.full((len(q), len(LEVELS) if self.top else 1), np.inf)
        for rows, s, panel in self._panels(q):
            if panel.good:
                tails[rows] = panel.tails[np.minimum(np.searchsorted(panel.points, s[rows]), len(panel.points) - 1)]
        tails[q == 0] = -np.inf
        return tails

    def coefficients(self, q: Array, out: Array) -> None:
        """Write the first coefficients a_k(q) of groups of variances, of one parity only where φ has one.

        Args:
            q: variances ≥ 0, (G, W).
            out: array (G, K, W) for those of k < K; 0 where the table is not good enough.

        >>> from tensorprog.functions import Tanh
        >>> tabulated(Tanh(X)).coefficients(np.array([[1.0]]), out := np.empty((1, 64, 1)))
        >>> bool(abs(np.sum(out**2) - 0.39429449039784) < 1e-12)
        True
        """
        out[:] = 0.0
        for rows, s, panel in self._panels(q):
            if panel.good:
                groups = np.flatnonzero(rows.any(axis=1))
                place = np.where(rows[groups], 2 * s[groups] / WIDTH - 1, 0.0)
                base = np.polynomial.chebyshev.chebvander(place, NODES - 1) * rows[groups, :, None]
                out[groups, : len(panel.terms)] += panel.terms[: out.shape[1]] @ base.swapaxes(1, 2)
        out[:, 0][q == 0] = self.at_zero if self.parity >= 0 else 0.0

    def moment(self, q: Array) -> Array:
        """E φ(√q x), (N,), NaN where the table is not good enough."""
        if self.parity < 0:
            return np.zeros(len(q))
        self.coefficients(q[None], value := np.empty((1, 1, len(q))))
        return np.where(self.tails(q)[:, 0] < np.inf, value[0, 0], np.nan)

    def _panels(self, q: Array) -> Iterator[tuple[Array, Array, Panel]]:
        """Which variances are on each panel, and s there."""
        proper = np.isfinite(q) & (q > 0)
        q = np.where(proper, q, 1.0)
        number = np.floor(np.log2(q) / 2).astype(int)
        s = np.log(np.ldexp(q, -2 * number))
        for n in np.unique(number[proper]).tolist():
            if n not in self.panels:
                self.panels[n] = self._tabulated(n)
            yield proper & (number == n), s, self.panels[n]

    def _tabulated(self, number: int) -> Panel:
        order = np.outer(np.arange(NODES), np.pi * (np.arange(NODES) + 0.5) / NODES)
        node = np.cos(order[1])
        checks = np.linspace(-1, 1, CHECKS)
        with np.errstate(all="ignore"):
            at, there = (self._direct(np.ldexp(np.exp(WIDTH * (1 + x) / 2), 2 * number)) for x in (node, checks))
            transform = np.cos(order) * np.where(np.arange(NODES) > 0, 2, 1)[:, None] / NODES
            own, other = _held(at), _held(there)
            count = 1 + max(np.flatnonzero(own.any(axis=1) | other.any(axis=1)), default=0)
            terms = own[:count] @ transform.T
            missed = other[:count] - terms @ np.polynomial.chebyshev.chebvander(checks, NODES - 1).T
            square, error, tails = (np.concatenate(both, axis=-1) for both in (
                (at.square, there.square), (at.error, there.error), (at.tails, there.tails)))  # fmt: skip
            size = np.sqrt(np.maximum(square, np.finfo(float).tiny))
            gap = np.sqrt(np.sum(missed**2, axis=0)) / size[NODES:]
            worst = np.max(error / size) + SAFETY * np.max(gap) + ROUNDING
            points = WIDTH * (1 + np.concatenate([node, checks])) / 2
            increasing = np.argsort(points)
            tails = 0.5 * np.log(np.maximum.accumulate((tails / size**2)[:, increasing], axis=1)).T
        return Panel(terms, points[increasing], tails, bool(worst <= GOOD))

    def _direct(self, q: Array) -> Coefficients:
        return coefficients(self, self.parity, q, self.top)


def _held(found: Coefficients) -> Array:
    """The coefficients of both parities in turn, or of the one there is, (K, D)."""
    even, odd = found.parts
    if even is not None and odd is not None:
        return np.stack([even, odd], axis=1).reshape(-1, even.shape[1])
    return odd if even is None else even


@lru_cache(maxsize=256)
def tabulated(function: sp.Expr, top: float = 1.0) -> Tabulated:
    """The tables of a function of X, kept; ``top`` is the largest |ρ| they are used with, MOMENT for moments."""
    return Tabulated(function, top)
