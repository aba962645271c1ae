"""Running a program at width n: the same program object whose limit is taken, to float rounding."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from functools import singledispatch
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError, NoRuleError
from tensorprog.finite.families import NONE, At, Grid, mixed, placed, product
from tensorprog.functions import evaluate
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    Copied,
    Difference,
    Gathered,
    InitMatrix,
    InitScalar,
    InitVector,
    Kept,
    Mask,
    MatMul,
    Mix,
    Moment,
    Nonlin,
    Outer,
    Place,
    RowSum,
    Score,
    Softmax,
    Var,
    Weigh,
    slots_of,
)
from tensorprog.limit.mixing import softmax
from tensorprog.limit.sampling import kept

Array = Any
Values = dict[Var, Array]
Groups = list[list[tuple[Var, Any]]]


def execute(
    program: ProgramGraph,
    initial: Mapping[Var, Array],
    hyper: Mapping[sp.Symbol, float],
    only: Collection[Var] | None = None,
    scales: Mapping[Var, float] | None = None,
    groups: Groups | None = None,
    sizes: Grid = NONE,
) -> Values:
    """Values of all variables.

    Args:
        program: the program.
        initial: for every initial matrix an array (S, n, n), vector (S, n), scalar (S, 1); S counts seeds.
            Vectors (S, N, n) and scalars (S, N, 1) run N programs with the same matrices; 1 stands for N.
        hyper: numbers for hyperparameter symbols.
        only: the variables to compute, with all that they depend on; all when None.
        scales: factors by which matrices are to be multiplied, which costs less on their products.
        groups: the ``schedule`` of these variables, for a program that runs often.
        sizes: of inputs with positions, by label: all vectors have one axis more then, before the last, and scalars too
            (``finite.families``), those of pairs of positions two.

    Returns:
        The value of every variable, with the same leading axes.
    """
    values: Values = dict(initial)
    dtype = np.result_type(*initial.values()) if initial else np.dtype(float)
    for group in schedule(program, values, only) if groups is None else groups:
        if isinstance(group[0][1], MatMul):
            _matmuls(group, values, (scales or {}).get(group[0][1].matrix), sizes)
        else:
            for var, op in group:
                values[var] = np.asarray(run(op, values, hyper, sizes), dtype)
    return values


def ancestors(program: ProgramGraph, ends: Iterable[Var]) -> set[Var]:
    """The variables that ``ends`` depend on, themselves included."""
    seen: set[Var] = set()
    todo = list(ends)
    while todo:
        var = todo.pop()
        if var not in seen:
            seen.add(var)
            todo.extend(program.op(var).operands)
    return seen


def schedule(program: ProgramGraph, known: Collection[Var], only: Collection[Var] | None = None) -> Groups:
    """Groups that can run in this order; MatMuls by one matrix that are ready together form one group."""
    wanted = None if only is None else ancestors(program, only)
    level: dict[Var, int] = {}
    groups: dict[Any, list[tuple[Var, Any]]] = defaultdict(list)
    for var, op in program:
        level[var] = max((level[v] for v in op.operands), default=0) + isinstance(op, MatMul)
        key = (level[var], 0, op.matrix.name, op.transpose) if isinstance(op, MatMul) else (level[var], 1, "", False)
        if var not in known and (wanted is None or var in wanted):
            groups[key].append((var, op))
    return [groups[key] for key in sorted(groups)]


def _matmuls(group: list[tuple[Var, MatMul]], values: Values, scale: float | None, sizes: Grid) -> None:
    matrix, transpose = values[group[0][1].matrix], group[0][1].transpose
    for var, op in group:
        if op.by is not None:
            values[var] = product(matrix, values[op.x], At.of(op.by, sizes), transpose)
            if scale is not None:
                values[var] *= np.asarray(scale, matrix.dtype)
    group = [(var, op) for var, op in group if op.by is None]
    if group:
        _stacked(group, matrix, transpose, values, scale)


def _stacked(group: list[tuple[Var, MatMul]], matrix: Array, transpose: bool, values: Values,
             scale: float | None) -> None:  # fmt: skip
    operands = [values[op.x] for _, op in group]
    rows = [x.reshape(len(x), -1, x.shape[-1]) for x in operands]
    stacked = rows[0] if len(rows) == 1 else np.concatenate(rows, axis=1)
    # the matrix on the left: with it on the right BLAS can take up to three times as long for few rows
    columns = np.ascontiguousarray(np.swapaxes(stacked, 1, 2))
    product = np.swapaxes((np.swapaxes(matrix, -1, -2) if transpose else matrix) @ columns, 1, 2)
    if scale is not None:
        product *= np.asarray(scale, product.dtype)
    start = 0
    for (var, _), x, r in zip(group, operands, rows, strict=True):
        part = product[:, start : start + r.shape[1]]
        values[var] = part if x.ndim == 3 else np.ascontiguousarray(part).reshape(len(part), *x.shape[1:])
        start += r.shape[1]


@singledispatch
def run(op: Any, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    """The value of an instruction; register a rule for a new one."""
    raise NoRuleError(f"no rule to run {type(op).__name__}: register one with tensorprog.finite.execute.run")


@run.register(InitMatrix)
@run.register(InitVector)
def _(op: Any, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    raise DataError("an initial matrix or vector was given no value")


@run.register(InitScalar)
def _(op: InitScalar, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    return np.reshape(evaluate(op.value, hyper), (1, 1))


@run.register(Nonlin)
def _(op: Nonlin, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    slots = slots_of(op)
    if op.body in slots and slots[op.body].kind == "vector":
        return values[slots[op.body]]
    result = evaluate(op.body, {**hyper, **{s: values[v] for s, v in slots.items()}})
    like = values[op.args[0] if op.args else next(v for v in values if v.kind == "vector")]
    if np.shape(result) == like.shape and not sizes:
        return result
    shapes = (values[v].shape for v in op.args) if sizes else (like.shape,)
    return np.broadcast_to(result, np.broadcast_shapes(np.shape(result), *shapes))


@run.register(Mix)
def _(op: Mix, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    return mixed(values[op.x], op.by, op.transpose, sizes)


@run.register(Place)
def _(op: Place, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    return placed(values[op.x], At.of(op.by, sizes), op.transpose)


@run.register(Outer)
def _(op: Outer, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    x, y = values[op.x], values[op.y]
    return (x @ np.swapaxes(y, -1, -2) / x.shape[-1])[..., None]


@run.register(Score)
def _(op: Score, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    x, y = values[op.x], values[op.y]
    return (x @ np.swapaxes(y, -1, -2) / np.asarray(np.sqrt(x.shape[-1]), x.dtype))[..., None]


@run.register(Softmax)
def _(op: Softmax, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    return softmax(values[op.s][..., 0], op.causal)[..., None]


@run.register(Copied)
@run.register(Gathered)
def _(op: Any, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    raise NoRuleError("infinitely many heads are a limit; a network of finite width has heads=64, or another number")


@run.register(Kept)
def _(op: Kept, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    return kept(values[op.x], float(evaluate(op.rate, hyper)))


@run.register(RowSum)
def _(op: RowSum, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    s = values[op.s]
    return np.broadcast_to(s.sum(axis=-2, keepdims=True), s.shape)


@run.register(Mask)
def _(op: Mask, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    rows, columns = (math.prod(a.at(sizes[a.source])) for a in (op.axes.left, op.axes.right))
    return np.tri(rows, columns)[..., None]


@run.register(Weigh)
def _(op: Weigh, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    a = values[op.weights][..., 0]
    return (np.swapaxes(a, -1, -2) if op.transpose else a) @ values[op.x]


@run.register(Difference)
def _(op: Difference, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    theta = values[op.theta]
    before: dict[sp.Symbol, Array] = {s: values[v] for s, v in slots_of(op).items()}
    after = before | {s: before[s] + theta * values[d] for s, d in op.changes.items()}
    return (evaluate(op.body, {**hyper, **after}) - evaluate(op.body, {**hyper, **before})) / theta


@run.register(Moment)
def _(op: Moment, values: Values, hyper: Mapping[sp.Symbol, float], sizes: Grid) -> Array:
    result = evaluate(op.body, {**hyper, **{s: values[v] for s, v in slots_of(op).items()}})
    shape = np.broadcast_shapes((1, 1), *(values[v].shape for v in op.operands))
    return np.mean(np.broadcast_to(result, shape), axis=-1, keepdims=True)
