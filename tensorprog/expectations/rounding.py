"""What rounding inside a body costs its expectation: log(1 + u²) at small u has lost the digits that 1 + u² dropped.

Every node of the expression tree carries a bound of its error beside its value; a function of one argument is
evaluated at both ends of the argument's interval.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import affine
from tensorprog.expectations.quadrature.features import NARROW, arguments
from tensorprog.expectations.quadrature.trapezoid import EPS, Problem, blocks, each_feature, steepness
from tensorprog.functions import X, evaluate

Array = Any
Known = tuple[Array, Array]  # a value and a bound of its error
STEP, REACH, SHIFT = 0.25, 8.5, 0.137  # of the nodes: none of them is a kink that is a round number
SAFETY = 2.0


def rounding(problem: Problem) -> Array:
    """E of the error that rounding inside the body makes, (N,); 0 where no sum can cancel.

    >>> u = sp.Symbol("u", real=True)
    >>> small = Problem(sp.cos(u) - 1, (u,), np.zeros((1, 1)), np.full((1, 1, 1), 1e-6), {})
    >>> bool(1e-16 < rounding(small)[0] < 4e-15), rounding(Problem(u**2, *[*vars(small).values()][1:]))
    (True, array([0.]))
    """
    rank, count = problem.factor.shape[2], len(problem.mean)
    found = np.zeros(count)
    if rank > 2 or not cancels(problem.body, problem.variables):
        return found
    x = STEP * (np.arange(np.ceil(-REACH / STEP), REACH / STEP) + SHIFT)
    weight = STEP * np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    if rank == 2:
        x, weight = np.stack([np.repeat(x, len(x)), np.tile(x, len(x))]), np.outer(weight, weight).ravel()
    for rows in blocks(count, len(weight)):
        found[rows] = _mean_error(problem.take(rows), np.atleast_2d(x), weight)
    if rank == 1:
        for i in np.flatnonzero(steepness(problem) > NARROW):
            one = problem.take(slice(i, i + 1))
            found[i] = max(found[i], _mean_error(one, *_beside(one, x)).item())
    return found


def _mean_error(problem: Problem, z: Array, weight: Array) -> Array:
    """E of the body's error by nodes z (r, M) and their weights, (N,)."""
    with np.errstate(all="ignore"):
        error = np.broadcast_to(_walk(problem.body, _nodes(problem, z))[1], (len(problem.mean), len(weight)))
        return SAFETY * (np.where(np.isfinite(error), error, 0.0) * weight).sum(1)


def _beside(problem: Problem, x: Array) -> tuple[Array, Array]:
    """Nodes of one entry of one dimension that are dense beside its features, and weights."""
    deviation = problem.factor[0, :, 0]
    spread = np.geomspace(0.1 / steepness(problem)[0], 2 * REACH, 60)
    points = []
    for expr in (a for found in arguments(problem.body, problem.variables) for a in found):
        (i, *more) = [i for i, u in enumerate(problem.variables) if u in expr.free_symbols]
        if not more and deviation[i]:
            (known,) = each_feature(problem, expr, i)
            points += [*known.roots, *known.near]
    z = np.unique(np.concatenate([x, *(p + d for p in points for d in (-spread, np.zeros(1), spread))]))
    z = z[np.abs(z) < REACH]
    gaps = np.diff(z)
    weight = (np.append(gaps, 0.0) + np.insert(gaps, 0, 0.0)) / 2
    return z[None], weight * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)


def cancels(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> bool:
    """Whether some sum is curved in the variables, and may be smaller than its terms."""
    return any(not affine(a, variables)[0] for a in body.atoms(sp.Add) if a.free_symbols & set(variables))


def _nodes(problem: Problem, z: Array) -> dict[sp.Symbol, Known]:
    """The symbols of the body at nodes z (r, M), (N, M) or (N, 1) each."""
    point = {s: (a[:, None], EPS * np.abs(a[:, None])) for s, a in problem.scalars.items()}
    for j, symbol in enumerate(problem.variables):
        value = problem.mean[:, j, None] + problem.factor[:, j] @ z
        point[symbol] = value, EPS * np.abs(value)
    return point


def _walk(expr: sp.Basic, point: dict[sp.Symbol, Known]) -> Known:
    if expr.is_Symbol:
        return point[expr]  # type: ignore[index]
    if not expr.args:
        value = float(expr)
        return value, 0.0 if expr.is_Integer else EPS * abs(value)
    if isinstance(expr, sp.log) and expr.args[0].is_Add and expr.args[0].args[:-1] == (1,):  # as ``evaluate`` does
        return _function(sp.log(1 + X), [_walk(expr.args[0].args[-1], point)], X)
    parts = [_walk(a, point) for a in expr.args]
    if expr.is_Add:
        value, size = sum(v for v, _ in parts), sum(np.abs(v) for v, _ in parts)
        return value, sum(e for _, e in parts) + EPS * size
    if expr.is_Mul:
        value, most = 1.0, 1.0
        for v, e in parts:
            value, most = value * v, most * (np.abs(v) + e)
        return value, most - np.abs(value) + EPS * len(parts) * np.abs(value)
    slots = [sp.Dummy(real=True) if a.free_symbols else a for a in expr.args]
    return _function(expr.func(*slots), parts, *slots)


def _function(own: sp.Expr, parts: list[Known], *slots: sp.Expr) -> Known:
    """A function of slots at its arguments, and at the ends of their intervals one by one."""
    values = {s: v for s, (v, _) in zip(slots, parts, strict=True) if s.is_Symbol}
    value = np.asarray(evaluate(own, values), float)
    error = EPS * np.abs(value)
    for s, (v, e) in zip(slots, parts, strict=True):
        if s.is_Symbol:
            ends = [np.abs(evaluate(own, values | {s: v + t * e}) - value) for t in (-1, 1)]
            error = error + np.fmax(*ends)
    return value, error
