"""Quadrature of kinked bodies by Gauss-Legendre segments between the kinks, in one or two dimensions.

In two dimensions the axes are first rotated so that the inner axis is far from parallel to every kink line;
the inner breakpoints then move slowly along the outer axis, and nothing becomes singular as |ρ| → 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.closed_forms import affine, kinks
from tensorprog.expectations.nodes import legendre
from tensorprog.expectations.quadrature import (
    ROUNDING,
    Problem,
    Result,
    blocks,
    column,
    late,
    radius,
    refine,
    steepness,
)
from tensorprog.functions import Fn

Array = Any
ORDERS = (16, 23, 32, 45, 64, 90, 128, 181, 256, 362)


def panels(problem: Problem, rtol: float, atol: float) -> Result:
    """Gauss-Legendre segments between the kinks, in one or two dimensions.

    The number of nodes per segment grows until two levels agree; entries that still differ are finished
    by bisection of the outer axis.  |ρ| = 1 and zero variance need no special treatment: coinciding kink
    lines leave an empty segment, and a kink of a constant argument lies outside the box.

    Args:
        problem: N expectations with r ≤ 2.
        rtol: tolerance relative to E |body|.
        atol: absolute tolerance.

    Returns:
        Result with (N,) arrays; the caller judges the error.

    Reference: the rotation that keeps the breakpoints' slopes bounded is ours; P. J. Davis, P. Rabinowitz,
    Methods of Numerical Integration, 1984, section 2.12, for splitting at breakpoints.

    >>> from tensorprog.functions import Step, X
    >>> p = Problem(Step(X - 1), (X,), np.zeros((1, 1)), np.ones((1, 1, 1)), {})
    >>> round(float(panels(p, 1e-12, 0.0).value[0]), 12)
    0.158655253931
    """
    reach = radius(problem, atol)
    centres, nested = _centres(problem)
    expressions = sorted({*kinks(problem.body, problem.variables), *centres}, key=sp.default_sort_key)
    curves = split_kinks(problem.take(slice(0, 1)), expressions, reach)[1]
    # nodes cluster quadratically at the breakpoints, where the steep features are unless nested
    spacing: Callable[[int], float] = lambda n: 14 / n if nested else 130 / n**2  # noqa: E731
    rule, orders = partial(_segments, expressions, reach), () if curves else ORDERS
    result, steep = refine(problem, rule, orders, spacing, rtol, atol), steepness(problem)
    for i in late(result, 1e-10, atol):
        view = frame(problem.take(slice(i, i + 1)), expressions, reach)
        found = _bisect(view, steep[i], lambda size: atol + max(rtol, 1e-13) * size)
        if curves:  # a second scan for the roots of the curves shows whether the first missed some
            again = _bisect(replace(view, scan=257), steep[i], lambda size: atol + max(rtol, 1e-13) * size)
            found = again[0], max(again[1], abs(again[0] - found[0])), again[2]
        if found[1] < result.error[i]:
            result.value[i], result.error[i], result.scale[i] = found
    return result


def _centres(problem: Problem) -> tuple[set[sp.Expr], bool]:
    """Affine arguments of smooth functions, which are steepest around 0, and whether others are nested."""
    arguments = {f.args[0] for f in problem.body.atoms(Fn) if not f.family.kinks}
    flat = {a for a in arguments if affine(a, problem.variables)[0]}
    return {a for a in flat if a.free_symbols & set(problem.variables)}, flat != arguments


@dataclass(frozen=True)
class Frame:
    """A problem in rotated axes: kink lines y = intercept + slope x, (N, J); outer breakpoints (N, B)."""

    problem: Problem
    intercept: Array
    slope: Array
    breaks: Array
    curves: list[sp.Expr]
    reach: float
    scan: int = 65


def split_kinks(problem: Problem, expressions: list[sp.Expr], reach: float) -> tuple[Any, list[sp.Expr]]:
    """Kinks as lines normal·z = offset, (N, J, r) and (N, J), and the expressions that are no lines."""
    normals, offsets, curves = [], [], []
    for expr in expressions:
        read = [i for i, u in enumerate(problem.variables) if u in expr.free_symbols]
        gradient, rest = affine(expr, tuple(problem.variables[i] for i in read))
        if gradient:
            columns = np.stack([column(problem, g) for g in gradient], axis=1)
            normals.append(np.einsum("ni,nir->nr", columns, problem.factor[:, read]))
            offsets.append(-column(problem, rest) - np.einsum("ni,ni->n", columns, problem.mean[:, read]))
        elif len(read) == 1:
            for root in _one_variable_roots(problem, expr, read[0], reach):
                normals.append(problem.factor[:, read[0]])
                offsets.append(root - problem.mean[:, read[0]])
        else:
            curves.append(expr)
    count, _, rank = problem.factor.shape
    shape = (count, len(offsets))
    stacked = np.stack(normals, 1) if normals else np.zeros((*shape, rank))
    return (stacked, np.stack(offsets, 1) if offsets else np.zeros(shape)), curves


def _one_variable_roots(problem: Problem, expr: sp.Expr, i: int, reach: float) -> list[Array]:
    """Values of variable i where the expression changes sign; NaN pads entries with fewer."""
    width = reach * np.linalg.norm(problem.factor[:, i], axis=1)
    one = replace(problem, factor=width[:, None, None] * (np.arange(len(problem.variables)) == i)[:, None])
    roots = sign_changes(lambda t: one.of(expr, t), np.ones((len(width), 1)))
    return list((problem.mean[:, i, None] + width[:, None] * roots).T)


def sign_changes(f: Callable[[Array], Array], reach: Array, count: int = 129) -> Array:
    """Zeros of f along its last axis within ±reach, (..., 1) → (..., R), by scanning and bisection."""
    grid = reach * np.linspace(-1, 1, count)
    negative = f(grid) < 0
    change = negative[..., 1:] != negative[..., :-1]
    most = int(change.sum(axis=-1).max(initial=0))
    order = np.argsort(~change, axis=-1, kind="stable")[..., :most]
    low, high = np.take_along_axis(grid, order, -1), np.take_along_axis(grid, order + 1, -1)
    start = np.take_along_axis(negative, order, -1)
    for _ in range(52):
        middle = (low + high) / 2
        left = (f(middle) < 0) == start
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return np.where(np.take_along_axis(change, order, -1), (low + high) / 2, np.nan)


def frame(problem: Problem, expressions: list[sp.Expr], reach: float) -> Frame:
    """Rotate the axes so that the inner one is as far from parallel to every kink line as possible."""
    (normal, offset), curves = split_kinks(problem, expressions, reach)
    if problem.factor.shape[2] == 1:
        breaks = _clipped(_ratio(offset, normal[..., 0]), reach)
        return Frame(problem, offset, offset, breaks, curves, reach)
    beta = _angle_along(problem, curves)
    beta = _inner_angle(normal) if beta is None else beta
    outer, inner = np.stack([np.sin(beta), -np.cos(beta)], -1), np.stack([np.cos(beta), np.sin(beta)], -1)
    factor = np.stack([problem.factor @ outer[:, :, None], problem.factor @ inner[:, :, None]], -1)[:, :, 0]
    height, run = np.einsum("njr,nr->nj", normal, inner), np.einsum("njr,nr->nj", normal, outer)
    upright = np.abs(height) < 1e-12 * np.abs(run)  # beside curves only: a breakpoint of the outer axis
    height = np.where(upright, 0.0, height)
    intercept, slope = _ratio(offset, height), np.nan_to_num(_ratio(-run, height))
    j, k = np.triu_indices(offset.shape[1], 1)
    crossing = _ratio(intercept[:, k] - intercept[:, j], slope[:, j] - slope[:, k])
    breaks = np.concatenate([crossing, np.where(upright, _ratio(offset, run), np.nan)], axis=1)
    rotated = replace(problem, factor=factor)
    return Frame(rotated, intercept, slope, _clipped(breaks, reach), curves, reach)


def _angle_along(problem: Problem, curves: list[sp.Expr]) -> Array | None:
    """Inner axis along which only a variable changes that a curve is affine in, so that it has one root."""
    for curve in curves if len(problem.variables) == 2 else ():
        for u, other in zip(problem.variables, (problem.factor[:, 1], problem.factor[:, 0]), strict=True):
            if u not in sp.diff(curve, u).free_symbols:
                return np.arctan2(other[:, 1], other[:, 0]) + np.pi / 2
    return None


def _inner_angle(normal: Array) -> Array:
    """Middle of the largest gap between the directions of the kink lines, modulo π; (N,)."""
    count, lines = normal.shape[:2]
    if not lines:
        return np.full(count, np.pi / 2)
    direction = np.mod(np.arctan2(normal[..., 1], normal[..., 0]) + np.pi / 2, np.pi)
    empty = ~normal.any(axis=-1)
    some = np.take_along_axis(direction, np.argmin(empty, axis=1)[:, None], 1)
    direction = np.sort(np.where(empty, some, direction), axis=1)
    gaps = np.diff(np.concatenate([direction, direction[:, :1] + np.pi], axis=1), axis=1)
    best = np.argmax(gaps, axis=1)[:, None]
    return (np.take_along_axis(direction, best, 1) + np.take_along_axis(gaps, best, 1) / 2)[:, 0]


def _ratio(a: Array, b: Array) -> Array:
    """a / b; NaN, which means no breakpoint, where b is 0."""
    return np.divide(a, b, out=np.full(np.broadcast(a, b).shape, np.nan), where=b != 0)


def _clipped(points: Array, reach: float) -> Array:
    return np.sort(np.clip(np.where(np.isnan(points), reach, points), -reach, reach), axis=-1)


def _nodes(breaks: Array, reach: float, order: int) -> tuple[Array, Array]:
    """Nodes and density-weighted weights of the segments between breaks (..., B) of [-reach, reach]."""
    rim = np.full(breaks.shape[:-1] + (1,), reach)
    ends = np.concatenate([-rim, breaks, rim], axis=-1)
    low, width = ends[..., :-1, None], np.diff(ends, axis=-1)[..., None]
    x, w = legendre(order)
    node = (low + width * x).reshape(breaks.shape[:-1] + (-1,))
    weight = (width * w).reshape(node.shape)
    return node, weight * np.exp(-(node**2) / 2) / np.sqrt(2 * np.pi)


def strip(view: Frame, x: Array, order: int) -> tuple[Array, Array]:
    """Inner integral (without the outer density) of the body and of its modulus at outer nodes (N, M)."""
    if view.problem.factor.shape[2] == 1:
        f = view.problem.values(x)
        return f, np.abs(f)
    breaks = view.intercept[:, None] + view.slope[:, None] * x[..., None]
    for curve in view.curves:
        along = partial(view.problem.of, curve, x[..., None])
        breaks = np.concatenate([breaks, sign_changes(along, np.full((*x.shape, 1), view.reach), view.scan)], -1)
    y, weight = _nodes(_clipped(breaks, view.reach), view.reach, order)
    f = view.problem.values(x[..., None], y)
    return (f * weight).sum(-1), (np.abs(f) * weight).sum(-1)


def _segments(expressions: list[sp.Expr], reach: float, problem: Problem, order: int) -> tuple[Array, Array]:
    count = len(problem.mean)
    value, scale = np.zeros(count), np.zeros(count)
    lines = len(expressions) + 1
    for rows in blocks(count, (lines * order) * (lines * order if problem.factor.shape[2] == 2 else 1)):
        view = frame(problem.take(rows), expressions, reach)
        x, weight = _nodes(view.breaks, reach, order)
        for part in blocks(x.shape[1], lines * order * len(x)):
            inside, size = strip(view, x[:, part], order)
            value[rows] += (inside * weight[:, part]).sum(-1)
            scale[rows] += (size * weight[:, part]).sum(-1)
    return value, scale


def _bisect(view: Frame, steep: float, tolerance: Callable[[float], float]) -> tuple[float, float, float]:
    """Value, error and scale of one entry: halve outer pieces until each agrees with its two halves."""
    graded = view.reach * 0.5 ** np.arange(4 + np.log2(1 + steep))
    ends = [np.linspace(-view.reach, view.reach, 9)]
    ends += [np.concatenate([b - graded, [b], b + graded]) for b in view.breaks[0]]
    points = np.unique(np.clip(np.concatenate(ends), -view.reach, view.reach))
    order = 16 * int(np.clip(1.25 * np.sqrt(steep), 3, 32))
    low, high = points[:-1], points[1:]
    whole, size = _pieces(view, low, high, order)
    totals, allowed = np.zeros(3), tolerance(float(size.sum())) / 16
    for depth in range(48):
        middle = (low + high) / 2
        halves, sizes = _pieces(view, np.concatenate([low, middle]), np.concatenate([middle, high]), order)
        halves, sizes = halves.reshape(2, -1), sizes.reshape(2, -1)
        gap = np.abs(halves.sum(0) - whole)
        again = (gap > allowed) & (depth < 47) & (len(low) < 512)
        totals += halves[:, ~again].sum(), gap[~again].sum(), sizes[:, ~again].sum()
        low, high = np.concatenate([low[again], middle[again]]), np.concatenate([middle[again], high[again]])
        whole = halves[:, again].reshape(-1)
        if not len(low):
            break
    value, error, scale = (float(t) for t in totals)
    return value, max(error, ROUNDING * scale / 2), scale


def _pieces(view: Frame, low: Array, high: Array, order: int) -> tuple[Array, Array]:
    """Integrals over outer pieces [low, high] of one entry, with 16 outer and ``order`` inner nodes."""
    t, w = legendre(16)
    x = (low[:, None] + (high - low)[:, None] * t).reshape(-1)
    weight = ((high - low)[:, None] * w).reshape(-1) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    out = np.zeros((2, len(x)))
    for part in blocks(len(x), order * 8):
        out[:, part] = np.concatenate(strip(view, x[None, part], order))
    value, size = (out * weight).reshape(2, len(low), -1).sum(-1)
    return value, size
