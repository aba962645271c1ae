"""Quadrature of Gaussian expectations, vectorised over many covariances at once.

Smooth bodies use the trapezoid rule on a box of standard normals, whose error falls like exp(-2πd/h).
Bodies with kinks: see :mod:`tensorprog.expectations.quadrature.panels`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import affine
from tensorprog.expectations.quadrature.features import SPACING, Features, arguments, features
from tensorprog.expectations.quadrature.graded import waves
from tensorprog.expectations.quadrature.widths import slope
from tensorprog.functions import Cos, Sin, evaluate

Array = Any
BLOCK = 1 << 15  # nodes evaluated together: 256 kB per temporary array, which stays in the cache
RADII = (9.0, 12.0, 17.0, 24.0, 34.0)
STEPS = tuple(0.5 * 2 ** (-k / 2) for k in range(28))
NODE_LIMIT = {1: 1 << 17, 2: 1 << 20, 3: 1 << 24, 4: 1 << 26}
STRETCHED = tuple(0.25 * 2 ** (-k / 2) for k in range(9))
CENTRED = 8.0  # arguments of functions at the mean, beyond which nodes that are dense at 0 are not dense at a feature
EPS = float(np.finfo(float).eps)
BEYOND = 4.0  # of the largest |body| exp(-R²/2) at a rim, in one and two dimensions at least the integral beyond it
SHELLS = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0)  # distances from a rim: a body may be 0 at it
OFF_GRID = 0.137  # a shift after which no node is a round number
CLEAR = 1.2  # by how much digits of agreement grow from level to level where a rule converges exponentially
DOUBLE = 1.7  # by how much they grow at most: √2 is usual, 2 the law of entire functions
ROUNDING = 4e-14  # half of it bounds the rounding of a sum of weights, values and their product


@dataclass(frozen=True)
class Problem:
    """N expectations E body(u), u = mean + factor z with z standard normal.

    The k Gaussian ``variables`` have ``mean`` (N, k) and covariance ``factor @ factor.T``, (N, k, r); the
    other symbols of the body have the (N,) values ``scalars``.
    """

    body: sp.Expr
    variables: tuple[sp.Symbol, ...]
    mean: Array
    factor: Array
    scalars: Mapping[sp.Symbol, Array]

    def take(self, rows: Array) -> Problem:
        """The entries ``rows`` only."""
        scalars = {s: a[rows] for s, a in self.scalars.items()}
        return replace(self, mean=self.mean[rows], factor=self.factor[rows], scalars=scalars)

    def values(self, *z: Array) -> Array:
        """The body at nodes; each z has shape (N, ...) and they broadcast to the result's shape."""
        return self.of(self.body, *z)

    def of(self, expr: sp.Expr, *z: Array, known: Mapping[sp.Symbol, Array] | None = None) -> Array:
        """Any expression in the same symbols at nodes, or in others whose values there are known."""
        trail = (-1,) + (1,) * (z[0].ndim - 1)
        point: dict[sp.Symbol, Array] = {s: a.reshape(trail) for s, a in self.scalars.items()}
        for i, symbol in enumerate(self.variables):
            point[symbol] = self.mean[:, i].reshape(trail)
            for axis, coordinate in zip(range(self.factor.shape[2]), z, strict=True):
                if self.factor[:, i, axis].any():
                    point[symbol] = point[symbol] + self.factor[:, i, axis].reshape(trail) * coordinate
        shape = np.broadcast_shapes((len(self.mean),) + trail[1:], *(a.shape for a in z))
        return np.broadcast_to(evaluate(expr, point | dict(known or {})), shape)


@dataclass(frozen=True)
class Result:
    """(N,) values, error estimates and scales E |body|."""

    value: Array
    error: Array
    scale: Array

    def take(self, rows: Array) -> Result:
        """The entries ``rows`` only."""
        return Result(self.value[rows], self.error[rows], self.scale[rows])


def late(result: Result, rtol: float, atol: float) -> Array:
    """Indices of the entries whose error is above a tolerance or not finite."""
    return np.flatnonzero(~((result.error <= atol + rtol * result.scale) & np.isfinite(result.error)))


Rule = Callable[[Problem, Any], tuple[Array, Array, Array]]


def refine(
    problem: Problem,
    rule: Rule,
    levels: Sequence[Any],
    spacing: Callable[[Any], float],
    rtol: float,
    atol: float,
) -> Result:
    """Go through the levels of a rule, each entry until two successive levels agree.

    A rule gives values, scales E |body|, and errors that it knows of.  The tolerance is ``atol`` + ``rtol`` E |body|.
    The error is the last difference where the digits in which levels agree grow geometrically, as those of a rule
    that converges exponentially do, but by no more than a factor ``DOUBLE``, which would be chance, unless all agree;
    elsewhere the larger of the last two differences, twice.  It is at least the rounding, and infinite where the nodes,
    ``spacing`` standard deviations apart, could have skipped a steep feature.
    """
    count, steep = len(problem.mean), steepness(problem)
    value, error, scale = np.full(count, np.nan), np.full(count, np.inf), np.zeros(count)
    before, clear = np.full(count, np.nan), np.ones(count, bool)
    active = np.arange(count)
    for level in levels:
        gap = spacing(level) * steep[active]
        if np.all(gap > 2 * SPACING):
            continue
        new, size, known = rule(problem.take(active), level)
        floor, last = ROUNDING * size / 2, _digits(before[active], size)
        difference = np.maximum(np.abs(new - value[active]), floor)
        larger = np.fmax(difference, before[active])
        quick = _digits(difference, size) >= CLEAR * last
        likely = np.where(difference > floor, np.maximum(difference, size * np.exp(-DOUBLE * last)), difference)
        bound = np.where(quick & clear[active], likely, 2 * larger) + known
        before[active], clear[active] = np.where(np.isfinite(difference), difference, np.nan), quick
        value[active], scale[active] = new, size
        error[active] = np.where(np.isfinite(difference) & (gap <= SPACING), bound, np.inf)
        judged = (difference <= floor) | (last > 0)  # one difference says nothing of how fast they fall
        active = active[~((error[active] <= atol + max(rtol, ROUNDING) * size) & np.isfinite(size) & judged)]
        if not len(active):
            break
    return Result(value, error, scale)


def _digits(difference: Array, size: Array) -> Array:
    """-log(difference/size) up to that of the rounding, at least 0; 0 where there is no difference yet."""
    with np.errstate(all="ignore"):
        found = -np.log(difference / size)
    return np.where(np.isfinite(found), np.clip(found, 0.0, -np.log(ROUNDING / 2) / CLEAR), 0.0)


def steepness(problem: Problem, loose: bool = False) -> Array:
    """Largest standard deviation among the arguments of functions that have a length scale, (N,).

    Where an argument is no line it is the steepest slope near its features.  With ``loose``, of those alone whose
    features are not at known points: of waves, and of curves in several variables.
    """
    steep = np.zeros(len(problem.mean))
    inner, bases = arguments(problem.body, problem.variables)
    waves = {f.args[0] for f in problem.body.atoms(Sin, Cos)}
    for expr in (*inner, *bases):
        read = [i for i, u in enumerate(problem.variables) if u in expr.free_symbols]
        gradient, _ = affine(expr, tuple(problem.variables[i] for i in read))
        if gradient:
            slopes = np.stack([column(problem, g) for g in gradient], axis=1)
            found = np.linalg.norm(np.einsum("ni,nir->nr", slopes, problem.factor[:, read]), axis=-1)
        elif len(read) == 1:
            found = np.array([f.slope for f in each_feature(problem, expr, read[0])])
        else:
            found = np.linalg.norm(np.abs(problem.factor[:, read]).sum(axis=1), axis=-1)
            if problem.factor.shape[2] > 1:
                of = partial(problem.of, expr)
                found = np.maximum(found, slope(of, len(found), problem.factor.shape[2], expr in bases))
        known = expr not in waves and (len(read) == 1 or bool(gradient))
        if not loose or not known:
            steep = np.maximum(steep, found)
        elif not gradient:
            steep = np.where(np.isfinite(found), steep, np.inf)
    return steep


def each_feature(problem: Problem, expr: sp.Expr, i: int, reach: float = RADII[0]) -> list[Features]:
    """The features of an expression of variable i, one for each entry."""
    base = expr in arguments(problem.body, problem.variables)[1]
    width = np.linalg.norm(problem.factor[:, i], axis=1)
    used = [s for s in problem.scalars if s in expr.free_symbols]
    rows = np.stack([problem.mean[:, i], width, *(problem.scalars[s] for s in used)], axis=1)
    return [
        features(expr, base, problem.variables[i], mean, sd, dict(zip(used, values, strict=True)), reach)
        for mean, sd, *values in rows.tolist()
    ]


def column(problem: Problem, expr: sp.Expr) -> Array:
    """Value of an expression in the scalars, (N,)."""
    return np.broadcast_to(np.asarray(evaluate(expr, problem.scalars), float), (len(problem.mean),))


def blocks(count: int, nodes: int) -> Iterator[slice]:
    """Slices of ``count`` entries whose ``nodes`` each stay below the block size together."""
    width = max(1, BLOCK // max(nodes, 1))
    return (slice(start, min(start + width, count)) for start in range(0, count, width))


def radius(problem: Problem, atol: float) -> tuple[float, Array]:
    """Half-width of the box: the first at whose rim |body|·density is negligible against E |body|.

    Also a bound of what lies beyond it, (N,), infinite for the entries for which there is none.
    """
    rank = problem.factor.shape[2]
    coarse = (0.5 if rank < 3 else 1.0, RADII[0])
    _, scale, _ = _trapezoid(problem, coarse)
    if not np.isfinite(scale).all():  # some node is a singular point
        shifted = replace(problem, mean=problem.mean + OFF_GRID * problem.factor.sum(axis=2))
        scale = np.where(np.isfinite(scale), scale, _trapezoid(shifted, coarse)[1])
    for candidate in RADII:
        rim = [np.broadcast_to(candidate * d, (len(problem.mean), d.size)) for d in _directions(rank)]
        tail = np.abs(problem.values(*rim)).max(axis=1) * np.exp(-(candidate**2) / 2)
        missed = ~(tail <= 1e-15 * scale + atol / 10)
        if not missed.any():
            break
    return candidate, np.where(missed, np.inf, BEYOND * _outside(problem, candidate))


def _outside(problem: Problem, reach: float) -> Array:
    """The largest max(|body(R)|, |body(R')|) exp(-R²/2) over the shells from R to R' around a box, (N,)."""
    directions = _directions(problem.factor.shape[2])
    radii = reach + np.array(SHELLS)
    nodes = [np.broadcast_to(np.outer(radii, d), (len(problem.mean), len(radii), d.size)) for d in directions]
    size = np.abs(problem.values(*nodes)).max(axis=2)
    shells = np.fmax(size[:, 1:], size[:, :-1]) * np.exp(-(radii[:-1] ** 2) / 2)
    return np.asarray(np.fmax.reduce(shells, axis=1))


@cache
def _directions(rank: int) -> tuple[Array, ...]:
    """Unit vectors, one array per axis: a circle, or all sign patterns of {-1, 0, 1}."""
    if rank == 2:
        angle = np.arange(32) * np.pi / 16
        return np.cos(angle), np.sin(angle)
    signs = np.stack(np.meshgrid(*[[-1.0, 0.0, 1.0]] * rank, indexing="ij")).reshape(rank, -1)
    signs = signs[:, np.abs(signs).sum(axis=0) > 0]
    return tuple(signs / np.linalg.norm(signs, axis=0))


def trapezoid(problem: Problem, rtol: float, atol: float) -> Result:
    """Nested trapezoid rule in r ≤ 4 dimensions, for bodies analytic near the real axis.

    h^r Σ body(mean + factor z) density(z), with h divided by √2 until two levels agree.  A column of zeros
    in the factor (|ρ| = 1) and a row of zeros (zero variance) are exact.

    Args:
        problem: N expectations of r dimensions.
        rtol: tolerance relative to E |body|.
        atol: absolute tolerance.

    Returns:
        Result with (N,) arrays; the caller judges the error.

    Reference: L. N. Trefethen, J. A. C. Weideman, The exponentially convergent trapezoidal rule, SIAM
    Review 2014.

    >>> x = sp.Symbol("x")
    >>> p = Problem(x**2, (x,), np.zeros((1, 1)), np.ones((1, 1, 1)), {})
    >>> round(float(trapezoid(p, 1e-12, 0.0).value[0]), 12)
    1.0
    """
    rank, (reach, beyond) = problem.factor.shape[2], radius(problem, atol)
    levels = tuple((h, reach) for h in STEPS if (2 * reach / h) ** rank <= NODE_LIMIT[rank])
    result = refine(problem, _trapezoid, levels, lambda level: level[0], rtol, atol)
    result.error[:] += beyond
    return result


def _trapezoid(problem: Problem, level: tuple[float, float]) -> tuple[Array, Array, Array]:
    x, weight = _grid(*level)
    rank, nodes = problem.factor.shape[2], len(x)
    value, scale = np.zeros(len(problem.mean)), np.zeros(len(problem.mean))
    for rows in blocks(len(value), nodes**rank):
        part = problem.take(rows)
        for first in blocks(nodes, nodes ** (rank - 1)):
            grid = [x[first] if i == 0 else x for i in range(rank)]
            f = part.values(*(_along(g, i, rank) for i, g in enumerate(grid)))
            sums = [f, np.abs(f)]
            for i in reversed(range(rank)):
                sums = [s @ (weight[first] if i == 0 else weight) for s in sums]
            value[rows] += sums[0]
            scale[rows] += sums[1]
    return value, scale, np.zeros(len(value))


def stretched(problem: Problem, rtol: float, atol: float) -> Result:
    """The trapezoid rule in s for z = sinh(s)/L, in one dimension: bodies with a feature at 0 that is 1/L ≪ 1 wide.

    L is the steepness: ∫ f(z) φ(z) dz for f of width 1/L, and for straight ends beside it, takes some log L nodes.

    >>> u = sp.Symbol("u")
    >>> p = Problem(1 / sp.cosh(u) ** 2, (u,), np.zeros((1, 1)), np.full((1, 1, 1), 1e50), {})
    >>> round(float(stretched(p, 1e-12, 0.0).value[0] * np.sqrt(2 * np.pi) * 1e50), 12)
    2.0
    """
    steep = np.maximum(steepness(problem), 1.0)

    def rule(part: Problem, level: tuple[float, Array]) -> tuple[Array, Array, Array]:
        scale = np.maximum(steepness(part), 1.0)[:, None]
        s = level[0] * np.arange(-(count := int(np.ceil(level[1] / level[0]))), count + 1)
        z = np.sinh(s) / scale
        weight = np.exp(-(z**2) / 2) * (level[0] * np.cosh(s) / scale / np.sqrt(2 * np.pi))
        terms = np.where(weight > 0, part.values(z) * weight, 0.0)
        return terms.sum(axis=1), np.abs(terms).sum(axis=1), np.zeros(len(scale))

    reach = float(np.arcsinh(RADII[-1] * steep.max()))
    return refine(problem, rule, [(h, reach) for h in STRETCHED], lambda level: 0.0, rtol, atol)


def one_feature(problem: Problem) -> bool:
    """Whether a body of one dimension has its features within a few of its widths of 0, and does not oscillate."""
    if problem.factor.shape[2] > 1 or waves(problem.body):
        return False
    atoms = [f.args[0] for f in problem.body.atoms(sp.Function)]
    powers = [p.base for p in problem.body.atoms(sp.Pow) if not (p.exp.is_Integer and p.exp > 0)]
    atoms += [base for base in powers if not base.has(sp.Function)]
    at_mean = dict(zip(problem.variables, problem.mean.T, strict=True)) | dict(problem.scalars)
    return not any(np.any(np.abs(evaluate(a, at_mean)) > CENTRED) for a in atoms if a.free_symbols <= at_mean.keys())


def _along(x: Array, axis: int, rank: int) -> Array:
    return x.reshape((1,) * (axis + 1) + (-1,) + (1,) * (rank - axis - 1))


@cache
def _grid(step: float, reach: float) -> tuple[Array, Array]:
    count = int(np.ceil(reach / step))
    x = step * np.arange(-count, count + 1)
    weight = np.exp(-(x**2) / 2)
    return x, weight / weight.sum()
