"""Chebyshev interpolation of E φ(u)ψ(v) in θ = arccos ρ, log q1 and log q2, for very many pairs of large variance.

As a function of the angle the expectation has no singularity at |ρ| = 1, so a few dozen nodes replace any
number of quadratures.  A table is verified at random points before it is used.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.expectations.determinants import determinant

Array = Any
Rule = Callable[[Array, Array, Array], tuple[Array, Array]]
SIZES = ((24, 8), (32, 12), (54, 14), (80, 20))  # nodes in θ, and in each log q that is not constant
CHECKS = 48
SAFETY = 4.0  # the bound is this multiple of the largest deviation at the checks
BLOCK = 4096
KEPT = 32  # tables held
ROUNDING = 1e-15  # of an interpolated value, relative to the largest


@dataclass(frozen=True)
class Table:
    """Chebyshev coefficients (n, m1, m2) over a box [low, high] in (θ, log q1, log q2), and a bound."""

    low: tuple[float, ...]
    high: tuple[float, ...]
    values: Array
    error: float

    def __call__(self, theta: Array, log1: Array, log2: Array) -> Array:
        """Interpolated values of flat arrays of points inside the box."""
        out, (n, m1, m2) = np.empty(len(theta)), self.values.shape
        for start in range(0, len(out), BLOCK):
            rows = slice(start, start + BLOCK)
            first, second, third = (
                np.polynomial.chebyshev.chebvander(_unit(x[rows], a, b), m - 1)
                for x, a, b, m in zip((theta, log1, log2), self.low, self.high, (n, m1, m2), strict=True)
            )
            inner = (first @ self.values.reshape(n, m1 * m2)).reshape(-1, m1, m2)
            out[rows] = np.einsum("rab,ra,rb->r", inner, second, third)
        return out


_TABLES: OrderedDict[Hashable, Table | None] = OrderedDict()


def chebyshev(rule: Rule, key: Hashable, q1: Array, q2: Array, c: Array, rtol: float = 1e-12) -> tuple[Array, Array]:
    """Values of a function of many covariances by interpolation of few of them.

    E(θ, log q1, log q2) = Σ c_{nab} T_n T_a T_b with θ = arccos(c/√(q1 q2)), separately for c ≥ 0 and c < 0.

    Args:
        rule: flat (q1, q2, c) ↦ (values, errors), the quadrature that builds and verifies a table.
        key: what the rule computes; tables are kept by it and by the range.
        q1, q2: variances > 0, (N,).
        c: covariance, (N,).
        rtol: worst deviation of a table, relative to its largest value; the rule's own error if that is larger.

    Returns:
        (value, error) of shape (N,): the error is a multiple of the largest deviation at random points of the
        range, plus the rule's, and infinite where no table is good enough or where it would not pay off.

    Reference: L. N. Trefethen, Approximation Theory and Approximation Practice, 2013, chapters 3 and 8.

    >>> one = np.ones(500)
    >>> rule = lambda q1, q2, c: (np.arcsin(c / np.sqrt(q1 * q2)), 1e-16 + 0 * c)
    >>> value, error = chebyshev(rule, "arcsin", one, one, np.linspace(0.0, 1.0, 500))
    >>> bool(np.all(abs(value - np.arcsin(np.linspace(0.0, 1.0, 500))) <= error) and error.max() < 1e-12)
    True
    """
    theta = np.arctan2(np.sqrt(determinant(q1, q2, c)), c)
    points = np.stack([theta, np.log(q1), np.log(q2)])
    value, error = np.zeros(len(theta)), np.full(len(theta), np.inf)
    for side in (c >= 0, c < 0):
        rows = np.flatnonzero(side)
        table = _table(rule, key, points[:, rows], rtol) if len(rows) else None
        if table is not None:
            value[rows], error[rows] = table(*points[:, rows]), table.error
    return value, error


def _table(rule: Rule, key: Hashable, points: Array, rtol: float) -> Table | None:
    """A table for the range of the points, kept or new, or None if there is none that pays off."""
    low, high = _box(points)
    flat = [a == b for a, b in zip(low[1:], high[1:], strict=True)]
    for n, m in SIZES:
        shape = n, *(1 if single else m for single in flat)
        name = key, low, high, shape, rtol
        if name not in _TABLES:
            if 2 * np.prod(shape) + CHECKS > points.shape[1]:
                return None
            _TABLES[name] = _verified(rule, low, high, shape, rtol)
            if len(_TABLES) > KEPT:
                _TABLES.popitem(last=False)
        table = _TABLES[name]
        if table is not None:
            return table
    return None


def _box(points: Array) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Range of the points, rounded outwards so that similar requests share a table; constants stay so."""
    least, most = points.min(axis=1), points.max(axis=1)
    unit = np.array([np.pi / 32, 0.5, 0.5])
    low, high = unit * np.floor(least / unit), unit * np.ceil(most / unit)
    single = least == most
    single[0] = False
    low, high = np.where(single, least, low), np.where(single, most, high)
    high[0] = min(max(high[0], low[0] + unit[0]), np.pi)
    low[0] = min(low[0], high[0] - unit[0])
    return tuple(map(float, low)), tuple(map(float, high))


def _verified(
    rule: Rule, low: tuple[float, ...], high: tuple[float, ...], shape: tuple[int, ...], rtol: float
) -> Table | None:
    """The table of a box, if it agrees with the rule at random points and at the corners of the range of θ."""
    axes = [a + (b - a) * (1 + _gauss(m)) / 2 for a, b, m in zip(low, high, shape, strict=True)]
    nodes = [x.reshape(-1) for x in np.meshgrid(*axes, indexing="ij")]
    values, errors = _at(rule, *nodes)
    coefficients = values.reshape(shape)
    for axis, m in enumerate(shape):
        transform = np.polynomial.chebyshev.chebvander(_gauss(m), m - 1).T * np.where(np.arange(m) > 0, 2, 1)[:, None]
        coefficients = np.moveaxis(np.tensordot(transform / m, coefficients, (1, axis)), 0, axis)
    table = Table(low, high, coefficients, 0.0)
    rng = np.random.default_rng(0)
    checks = [a + (b - a) * rng.uniform(0, 1, CHECKS) for a, b in zip(low, high, strict=True)]
    checks[0][:4] = low[0], high[0], low[0], high[0]
    want, spread = _at(rule, *checks)
    noise, largest = float(max(spread.max(), errors.max())), float(np.abs(values).max())
    gap = SAFETY * (float(np.abs(table(*checks) - want).max()) + ROUNDING * largest)
    return Table(low, high, coefficients, gap + noise) if gap <= max(rtol * largest, noise) else None


def _at(rule: Rule, theta: Array, log1: Array, log2: Array) -> tuple[Array, Array]:
    q1, q2 = np.exp(log1), np.exp(log2)
    bound = np.sqrt(q1) * np.sqrt(q2)
    return rule(q1, q2, np.cos(theta) * bound)


def _gauss(count: int) -> Array:
    return np.cos(np.pi * (np.arange(count) + 0.5) / count)


def _unit(x: Array, low: float, high: float) -> Array:
    """Position in [-1, 1]; 0 in a range of width 0."""
    return np.clip((2 * x - low - high) / (high - low), -1, 1) if high > low else np.zeros_like(x)
