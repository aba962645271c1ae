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

from tensorprog.expectations.bodies import affine, kinks
from tensorprog.expectations.quadrature.features import NARROW, arguments
from tensorprog.expectations.quadrature.graded import (
    Rule,
    gauss_legendre,
    graded,
    near_singular,
    powers,
    smallest,
    tail,
)
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.expectations.quadrature.trapezoid import (
    EPS,
    ROUNDING,
    Problem,
    Result,
    blocks,
    column,
    each_feature,
    late,
    radius,
    refine,
    steepness,
)
from tensorprog.functions import Fn

Array = Any
ORDERS = (16, 23, 32, 45, 64, 90, 128, 181, 256, 362)
STEPS = tuple(1.13 * 2 ** (-k / 2) for k in range(9))
DENSE = 0.6  # nodes of a graded rule's middle, per step and length scale
MIDDLE = 300.0  # longest one
FINER = 0.7  # of two rules across, by which outer pieces are compared
WORK = 1 << 25  # nodes in all that one level, or the bisection of one entry, may take: some seconds


def panels(problem: Problem, rtol: float, atol: float) -> Result:
    """Rules between the kinks, in one or two dimensions: Gauss-Legendre, or graded ones where a kink is singular.

    The number of nodes per segment grows until levels agree; entries that still differ are done by graded rules, and
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
    reach, beyond = radius(problem, atol)
    singular, steep, loose = powers(problem.body, problem.variables), steepness(problem), steepness(problem, True)
    centres, nested = _centres(problem)
    expressions = sorted({*kinks(problem.body, problem.variables), *centres}, key=sp.default_sort_key)
    curves = split_kinks(problem.take(slice(0, 1)), expressions, reach)[1]
    # nodes cluster quadratically at the breakpoints, where the steep features are unless nested
    spacing: Callable[[int], float] = lambda n: 14 / n if nested else 130 / n**2  # noqa: E731
    direct = partial(_segments, expressions, reach)
    orders = () if curves or singular else ORDERS
    result = refine(problem, lambda p, n: direct(p, gauss_legendre(n)), orders, spacing, rtol, atol)
    scales = np.maximum(1.0, loose)
    tame = any(f.family.kinks for f in problem.body.atoms(Fn))
    rules = partial(graded, tail=tail(singular, tame), power=smallest(singular))
    rows = late(result, 1e-10, atol)
    rows = rows[scales[rows] * DENSE * reach <= MIDDLE]
    if len(rows) and not curves:
        middle = DENSE * reach * float(scales[rows].max())
        cells, rank = len(expressions) + 1, problem.factor.shape[2]
        steps = [h for h in STEPS if (cells * len(rules(h, middle).weight)) ** rank <= WORK]
        again = refine(
            problem.take(rows), lambda p, h: direct(p, rules(h, middle)), steps, lambda h: 0.0, rtol, atol
        )  # fmt: skip
        _improve(result, rows, again)
    for i in late(result, 1e-10, atol):
        view = frame(problem.take(slice(i, i + 1)), expressions, reach)
        middle = min(MIDDLE, DENSE * reach * scales[i])
        pair = rules(STEPS[2], middle), rules(FINER * STEPS[2], middle)
        found = _bisect(view, steep[i], pair, lambda size: atol + max(rtol, 1e-13) * size)
        if curves:  # a second scan for the roots of the curves shows whether the first missed some
            again = _bisect(replace(view, scan=257), steep[i], pair, lambda size: atol + max(rtol, 1e-13) * size)
            found = again[0], max(again[1], abs(again[0] - found[0])), again[2]
        if DENSE * reach * loose[i] > MIDDLE:  # the nodes across could have skipped a curve
            found = found[0], np.inf, found[2]
        _improve(result, np.array([i]), Result(*(np.array([x]) for x in found)))
    result.error[:] += beyond
    return result


def _improve(result: Result, rows: Array, other: Result) -> None:
    better = other.error < result.error[rows]
    for own, new in zip(
        (result.value, result.error, result.scale), (other.value, other.error, other.scale), strict=True
    ):
        own[rows[better]] = new[better]


def _centres(problem: Problem) -> tuple[set[sp.Expr], bool]:
    """Arguments of smooth functions, which are steepest around 0, and whether others are nested.

    Those that are no lines count where they make features that are narrow.
    """
    inner, bases = arguments(problem.body, problem.variables)
    flat = {a for a in inner if affine(a, problem.variables)[0]}
    curved = {a for a in {*inner, *bases} - flat if _narrow(problem, a)}
    singular = {a: near_singular(a, problem.variables) for a in bases}
    curved -= {a for a, points in singular.items() if points}
    return flat.union(curved, *singular.values()), len(flat) < len(inner)


def _narrow(problem: Problem, expr: sp.Expr) -> bool:
    """Whether an expression of one variable has narrow features."""
    read = [i for i, u in enumerate(problem.variables) if u in expr.free_symbols]
    return len(read) == 1 and any(f.slope > NARROW for f in each_feature(problem, expr, read[0]))


@dataclass(frozen=True)
class Frame:
    """A problem in rotated axes: kink lines y = intercept + slope x, (N, J); outer breakpoints (N, B).

    ``heights`` are the derivatives of the kinks' expressions along the inner axis, (N, J).  The body has the symbols
    ``exact`` in place of expressions, whose values at nodes follow from the distances to the line of that number.
    """

    problem: Problem
    intercept: Array
    slope: Array
    breaks: Array
    curves: list[sp.Expr]
    reach: float
    heights: Array
    exact: dict[sp.Symbol, int]
    scan: int = 65

    def take(self, rows: slice) -> Frame:
        """The frame of some entries."""
        lines = {k: getattr(self, k)[rows] for k in ("intercept", "slope", "breaks", "heights")}
        return replace(self, problem=self.problem.take(rows), **lines)

    @property
    def blurred(self) -> bool:
        """Whether some function is singular at a point that its rounded argument does not hold."""
        return any(
            any(f.family.kinks) and powers(f, self.problem.variables + tuple(self.exact)) is not None
            for f in self.problem.body.atoms(Fn)
        )


def split_kinks(problem: Problem, expressions: list[sp.Expr], reach: float) -> tuple[Any, list[sp.Expr]]:
    """Kinks as lines normal·z = offset, (N, J, r) and (N, J), with the affine expressions that they are the zeros of
    (None for others), and the expressions that are no lines."""
    normals, offsets, curves, owners = [], [], [], list[sp.Expr | None]()
    for expr in expressions:
        read = [i for i, u in enumerate(problem.variables) if u in expr.free_symbols]
        gradient, rest = affine(expr, tuple(problem.variables[i] for i in read))
        if gradient:
            columns = np.stack([column(problem, g) for g in gradient], axis=1)
            normals.append(np.einsum("ni,nir->nr", columns, problem.factor[:, read]))
            offsets.append(-column(problem, rest) - np.einsum("ni,ni->n", columns, problem.mean[:, read]))
            owners.append(expr)
        elif len(read) == 1:
            for root in _one_variable_points(problem, expr, read[0], reach):
                normals.append(problem.factor[:, read[0]])
                offsets.append(root - problem.mean[:, read[0]])
                owners.append(None)
        else:
            curves.append(expr)
    count, _, rank = problem.factor.shape
    shape = (count, len(offsets))
    stacked = np.stack(normals, 1) if normals else np.zeros((*shape, rank))
    return (stacked, np.stack(offsets, 1) if offsets else np.zeros(shape), owners), curves


def _one_variable_points(problem: Problem, expr: sp.Expr, i: int, reach: float) -> list[Array]:
    """Values of variable i where the expression changes sign or has narrow features; NaN pads entries with fewer."""
    found = each_feature(problem, expr, i, reach)
    points = [f.roots + f.near * (f.slope > NARROW) for f in found]
    padded = np.full((len(points), max(map(len, points), default=0)), np.nan)
    for row, z in zip(padded, points, strict=True):
        row[: len(z)] = z
    return list((problem.mean[:, i, None] + np.linalg.norm(problem.factor[:, i], axis=1)[:, None] * padded).T)


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
    (normal, offset, owners), curves = split_kinks(problem, expressions, reach)
    if problem.factor.shape[2] == 1:
        height = normal[..., 0]
        intercept = _ratio(offset, height)
        problem, exact = _with_exact(problem, owners, height, intercept)
        return Frame(problem, intercept, 0 * offset, _clipped(intercept, reach), curves, reach, height, exact)
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
    rotated, exact = _with_exact(replace(problem, factor=factor), owners, height, intercept)
    return Frame(rotated, intercept, slope, _clipped(breaks, reach), curves, reach, height, exact)


def _with_exact(
    problem: Problem, owners: list[sp.Expr | None], height: Array, intercept: Array
) -> tuple[Problem, dict[sp.Symbol, int]]:
    """Symbols for the expressions that vanish on a line, which rounded variables would have lost beside it."""
    usable = np.all((height != 0) & np.isfinite(intercept), axis=0)
    exact = {sp.Dummy(f"k{j}", real=True): j for j, e in enumerate(owners) if e is not None and usable[j]}
    body = problem.body.xreplace({owners[j]: d for d, j in exact.items()})
    return replace(problem, body=body), {d: j for d, j in exact.items() if d in body.free_symbols}


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
    """Breakpoints in order, (..., B); those on the rim for all entries, which make empty cells, are left out."""
    found = np.sort(np.clip(np.where(np.isnan(points), reach, points), -reach, reach), axis=-1)
    return found[..., (np.abs(found) < reach).any(axis=tuple(range(found.ndim - 1)))]


@dataclass(frozen=True)
class Cells:
    """Nodes of a rule between breaks along the last axis, (..., G, n): positions, weights, distances to both ends."""

    node: Array
    weight: Array
    low: Array
    high: Array
    left: Array
    right: Array
    closer: Array

    def above(self, line: Array) -> Array:
        """node - line for lines (..., 1, 1), without rounding where the line is an end of the node's cell."""
        return np.where(self.closer, (self.low - line) + self.left, (self.high - line) - self.right)


def _cells(breaks: Array, reach: float, rule: Rule) -> Cells:
    """The rule with the normal density between breaks (..., B) of [-reach, reach]."""
    rim = np.full(breaks.shape[:-1] + (1,), reach)
    ends = np.concatenate([-rim, breaks, rim], axis=-1)
    low, high = ends[..., :-1, None], ends[..., 1:, None]
    width, closer = high - low, rule.left <= rule.right
    left, right = width * rule.left, width * rule.right
    node = np.where(closer, low + left, high - right)
    weight = width * rule.weight * np.exp(-(node**2) / 2) / np.sqrt(2 * np.pi)
    return Cells(node, weight, low, high, left, right, closer)


def _summed(f: Array, cells: Cells, rule: Rule) -> tuple[Array, Array, Array]:
    """Integrals of f, given at nodes (..., G, n), and of its modulus, and a bound of what lies beyond the nodes."""
    size = np.abs(f) * cells.weight
    rim = rule.beyond * (size[..., 0] + size[..., -1]).sum(-1)
    return (f * cells.weight).sum((-1, -2)), size.sum((-1, -2)), rim


def _innermost(view: Frame, lines: Array, breaks: Array, rule: Rule, *outer: Array) -> tuple[Array, Array, Array]:
    """Integral of the body along the inner axis at outer nodes; see ``_summed``."""
    cells = _cells(breaks, view.reach, rule)
    expand = lambda a: a.reshape(a.shape + (1, 1))  # noqa: E731
    height = view.heights.reshape((len(lines),) + (1,) * (lines.ndim - 2) + (-1,))
    known = {d: expand(height[..., j]) * cells.above(expand(lines[..., j])) for d, j in view.exact.items()}
    f = view.problem.of(view.problem.body, *map(expand, outer), cells.node, known=known)
    f = np.where(cells.weight > 0, f, 0.0)  # in an empty cell a singular body may be infinite
    value, size, rim = _summed(f, cells, rule)
    return value, size, rim + _blurred(view, f, cells)


def _blurred(view: Frame, f: Array, cells: Cells) -> Array:
    """Effect of the rounding of nodes beside singular points that are not exact."""
    if not view.blurred:
        return np.zeros(f.shape[:-2])
    lost = 4 * EPS * np.abs(cells.node)
    share = np.minimum(1.0, lost / np.maximum(np.minimum(cells.left, cells.right), 1e-300))
    return 4 * (np.abs(f) * cells.weight * share).sum((-1, -2))


def strip(view: Frame, x: Array, rule: Rule) -> tuple[Array, Array, Array]:
    """Integrals along the inner axis (without the outer density) at outer nodes (N, M), see ``_summed``."""
    if view.problem.factor.shape[2] == 1:
        known = {d: view.heights[:, j, None] * (x - view.intercept[:, j, None]) for d, j in view.exact.items()}
        f = view.problem.of(view.problem.body, x, known=known)
        return f, np.abs(f), np.zeros(f.shape)
    lines = breaks = view.intercept[:, None] + view.slope[:, None] * x[..., None]
    for curve in view.curves:
        along = partial(view.problem.of, curve, x[..., None])
        breaks = np.concatenate([breaks, sign_changes(along, np.full((*x.shape, 1), view.reach), view.scan)], -1)
    return _innermost(view, lines, _clipped(breaks, view.reach), rule, x)


def _segments(expressions: list[sp.Expr], reach: float, problem: Problem, rule: Rule) -> tuple[Array, Array, Array]:
    out = np.zeros((3, len(problem.mean)))
    nodes = (len(expressions) + 1) * len(rule.weight)
    flat = problem.factor.shape[2] == 1
    for rows in blocks(len(problem.mean), nodes * (1 if flat else nodes)):
        view, done = frame(problem.take(rows), expressions, reach), out[:, rows]
        if not flat:
            done[:] = _across(view, rule)
            continue
        for part in blocks(done.shape[1], (view.breaks.shape[1] + 1) * len(rule.weight)):
            some = view.take(part)  # an expression of one variable may have any number of breakpoints
            done[:, part] = _innermost(some, some.intercept, some.breaks, rule)
    return out[0], out[1], out[2]


def _across(view: Frame, rule: Rule) -> tuple[Array, Array, Array]:
    """The integrals of a frame of two axes, see ``_summed``."""
    cells = _cells(view.breaks, view.reach, rule)
    x = cells.node.reshape(len(view.breaks), -1)
    inner = np.empty((3, *x.shape))
    for part in blocks(x.shape[1], (view.intercept.shape[1] + 1) * len(rule.weight) * len(x)):
        inner[:, :, part] = strip(view, x[:, part], rule)
    value, size, rim = inner.reshape(3, *cells.node.shape)
    value, size, beyond = (_summed(value, cells, rule)[0], *_summed(size, cells, rule)[1:])
    return value, size, beyond + _summed(rim, cells, rule)[1]


def _bisect(view: Frame, steep: float, rules: tuple[Rule, Rule], tolerance: Callable[[float], float]) -> Any:
    """Value, error and scale of one entry: halve outer pieces until each agrees with its two halves.

    Pieces and their halves take two rules across, so that the inner error is part of the difference.  Where ``WORK`` is
    done the differences that are left are part of the error.
    """
    across = 16 * max(len(rule.weight) for rule in rules) * (view.intercept.shape[1] + 1)
    done = 0
    spread = view.reach * 0.5 ** np.arange(4 + np.log2(1 + steep))
    ends = [np.linspace(-view.reach, view.reach, 9)]
    ends += [np.concatenate([b - spread, [b], b + spread]) for b in view.breaks[0]]
    points = np.unique(np.clip(np.concatenate(ends), -view.reach, view.reach))
    low, high = points[:-1], points[1:]
    whole, size, _ = _pieces(view, low, high, rules[0])
    totals, allowed = np.zeros(3), tolerance(float(size.sum())) / 64
    for depth in range(48):
        middle = (low + high) / 2
        found = _pieces(view, np.concatenate([low, middle]), np.concatenate([middle, high]), rules[(depth + 1) % 2])
        halves, sizes, rims = (a.reshape(2, -1) for a in found)
        gap = np.abs(halves.sum(0) - whole) + rims.sum(0)
        done += 2 * len(low) * across
        again = (gap > allowed) & (depth < 47) & (len(low) < 512)
        again &= done + 4 * again.sum() * across <= WORK
        totals += halves[:, ~again].sum(), gap[~again].sum(), sizes[:, ~again].sum()
        low, high = np.concatenate([low[again], middle[again]]), np.concatenate([middle[again], high[again]])
        whole = halves[:, again].reshape(-1)
        if not len(low):
            break
    value, error, scale = (float(t) for t in totals)
    return value, max(4 * error, ROUNDING * scale / 2), scale


def _pieces(view: Frame, low: Array, high: Array, rule: Rule) -> tuple[Array, Array, Array]:
    """Integrals over outer pieces [low, high] of one entry, with 16 outer nodes and a rule across; see ``_summed``."""
    t, w = legendre(16)
    x = (low[:, None] + (high - low)[:, None] * t).reshape(-1)
    weight = ((high - low)[:, None] * w).reshape(-1) * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    out = np.zeros((3, len(x)))
    for part in blocks(len(x), len(rule.weight) * (view.intercept.shape[1] + 1)):
        out[:, part] = np.concatenate(strip(view, x[None, part], rule))
    value, size, rim = (out * weight).reshape(3, len(low), -1).sum(-1)
    return value, size, rim
