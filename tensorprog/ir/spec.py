"""What makes a program well formed: one list of rules for any program, one for canonical programs."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from functools import singledispatch
from typing import Any, Protocol

import numpy as np
import sympy as sp

from tensorprog.errors import NoRuleError, shortly
from tensorprog.ir.axes import Axes, Pairs
from tensorprog.ir.instructions import (
    Copied,
    Covariances,
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
    Slot,
    Softmax,
    Var,
    Weigh,
    slots_of,
)


class Earlier(Protocol):
    """The instructions before: what the rules ask of a program."""

    def __contains__(self, var: Any) -> bool: ...

    def __iter__(self) -> Iterator[tuple[Var, Any]]: ...

    def op(self, var: Var) -> Any: ...

    def axes(self, var: Var) -> Any: ...


@singledispatch
def violations(op: Any, name: str, program: Earlier) -> Iterator[str]:
    """Every reason why ``name := op`` cannot follow the program, as sentences."""
    raise NoRuleError(f"unknown instruction {type(op).__name__}: register a rule in tensorprog.ir.spec.violations")


def _reads(name: str, operands: tuple[Var, ...], kind: str, program: Earlier) -> Iterator[str]:
    for v in operands:
        if v.kind != kind:
            yield f"`{name}` reads the {v.kind} `{v}` where a {kind} is needed"
        elif v not in program:
            yield f"`{name}` reads `{v}`, which no earlier instruction of this program defines"


def _number(name: str, what: str, value: sp.Expr, *, nonnegative: bool = False) -> Iterator[str]:
    if not isinstance(value, sp.Expr):
        yield f"the {what} of `{name}` must be a number or a sympy expression, got {shortly(value)}"
    elif value.is_finite is False or value is sp.nan:
        yield f"the {what} of `{name}` is {value}; it must be finite"
    elif value.is_number and not value.is_real:
        yield f"the {what} of `{name}` is {value}; it must be real"
    elif nonnegative and value.is_negative:
        yield f"the {what} of `{name}` is {value}; a variance cannot be negative"


def _matrix(op: InitMatrix, name: str, program: Earlier) -> Iterator[str]:
    yield from _number(name, "variance", op.variance, nonnegative=True)


def _vector(op: InitVector, name: str, program: Earlier) -> Iterator[str]:
    yield from _number(name, "mean", op.mean)
    if isinstance(op.cov, Covariances):  # a network lists the data that it embedded before
        return
    for k, (v, c) in enumerate(op.cov):
        if any(v == w for w, _ in op.cov[:k]):
            yield f"`{name}` lists its covariance with `{v}` twice"
        if v.name == name:
            yield from _number(name, "variance", c, nonnegative=True)
        else:
            yield from _reads(name, (v,), "vector", program)
            yield from _number(name, f"covariance with {v}", c)
            if v in program and not isinstance(program.op(v), InitVector):
                yield f"`{name}` has a covariance with `{v}`, which is not an initial vector"


def _scalar(op: InitScalar, name: str, program: Earlier) -> Iterator[str]:
    yield from _number(name, "value", op.value)


def _matmul(op: MatMul, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.matrix,), "matrix", program)
    yield from _reads(name, (op.x,), "vector", program)
    if op.by is not None:
        yield from _along(op, name, program)


def _mix(op: Mix, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.x,), "vector", program)
    yield from _along(op, name, program)


def _outer(op: Outer | Score, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.x, op.y), "vector", program)
    yield from (f"`{name}` reads pairs of positions, and `{v}` has none" for v in op.operands
                if v in program and not isinstance(program.axes(v), Axes))  # fmt: skip


def _score(op: Score, name: str, program: Earlier) -> Iterator[str]:
    yield from _outer(op, name, program)
    if op.gradient not in (None, op.x, op.y):
        yield f"`{name}` reads `{op.x}` and `{op.y}`, and says that `{op.gradient}` is a gradient"


def _head(op: Copied | Gathered, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.x,), "vector", program)


def _kept(op: Kept, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.x,), "vector", program)
    yield from _number(name, "rate", op.rate, nonnegative=True)
    if op.x in program and not (isinstance(program.op(op.x), InitVector) and program.op(op.x).covariance(op.x) == 1):
        yield f"`{name}` is made of `{op.x}`, which is no initial vector with entries N(0, 1)"


def _row_sum(op: RowSum | Softmax, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.s,), "scalar", program)
    if op.s in program and not isinstance(program.axes(op.s), Pairs):
        yield f"`{name}` sums over positions, and `{op.s}` is no scalar for pairs of them"


def _mask(op: Mask, name: str, program: Earlier) -> Iterator[str]:
    if not isinstance(op.axes, Pairs):
        yield f"the axes of `{name}` must be those of pairs of positions, got {shortly(op.axes)}"


def _weigh(op: Weigh, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.weights,), "scalar", program)
    yield from _reads(name, (op.x,), "vector", program)
    pairs = program.axes(op.weights) if op.weights in program else None
    read = (pairs.left if op.transpose else pairs.right) if isinstance(pairs, Pairs) else None
    if op.x in program and (read is None or program.axes(op.x) != read):
        yield f"`{name}` weighs `{op.x}` by `{op.weights}`, which belongs to other positions"


def _place(op: Place, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, (op.x,), "vector", program)
    if op.x in program and not isinstance(program.op(op.x), InitVector):
        yield f"`{name}` places `{op.x}`, which is not an initial vector"


def _along(op: Any, name: str, program: Earlier) -> Iterator[str]:
    if op.x not in program:
        return
    wanted, given = op.by.result(not op.transpose), program.axes(op.x)
    if given != wanted:
        yield f"`{name}` reads {_axes(wanted)} by {op.by.map}, and `{op.x}` has {_axes(given)}"


def _axes(axes: Axes | None) -> str:
    return "a vector without axes" if axes is None else f"the axes of {axes.source} after {[*axes.maps] or 'nothing'}"


def _function(op: Nonlin | Moment, name: str, program: Earlier) -> Iterator[str]:
    yield from _reads(name, op.args, "vector", program)
    yield from _reads(name, op.params, "scalar", program)
    if not isinstance(op.body, sp.Expr):
        yield f"the body of `{name}` must be a sympy expression, got {shortly(op.body)}"
        return
    if op.body.has(sp.nan, sp.zoo, sp.oo):
        yield f"the body of `{name}` is {op.body}; it must be finite"
    elif (number := _unreal(op.body)) is not None:
        yield f"the body of `{name}` holds {number}; every number in it must be real"
    found = {a for v in op.operands if v in program and (a := program.axes(v)) is not None}
    if len(found) > 1:
        said = ", ".join(f"`{v}` has {_axes(program.axes(v))}" for v in op.operands)
        yield f"`{name}` reads vectors over different axes: {said}"
    known = slots_of(op)
    for s in sorted(op.body.atoms(Slot), key=str):
        if s not in known:
            yield (
                f"the body {op.body} of `{name}` reads {s}, but there are {len(op.args)} vectors"
                f" and {len(op.params)} scalars"
            )


@functools.lru_cache(maxsize=4096)
def _unreal(body: sp.Expr) -> sp.Expr | None:
    """A constant in an expression that is not real, such as √−1 or asin(2)."""
    if body.is_number:
        return body if body.is_extended_real is False else None
    return next((found for a in body.args if (found := _unreal(a)) is not None), None)


def _difference(op: Difference, name: str, program: Earlier) -> Iterator[str]:
    yield from _function(Nonlin(op.body, op.args, op.params), name, program)
    for what, values, deltas, kind in (
        ("vectors", op.args, op.arg_deltas, "vector"),
        ("scalars", op.params, op.param_deltas, "scalar"),
    ):
        if len(values) != len(deltas):
            yield f"`{name}` has {len(values)} {what} and {len(deltas)} changes of them"
        yield from _reads(name, tuple(d for d in deltas if d is not None), kind, program)
    yield from _reads(name, (op.theta,), "scalar", program)


for _type, _rule in {InitMatrix: _matrix, InitVector: _vector, InitScalar: _scalar, MatMul: _matmul,
                     Mix: _mix, Place: _place, Outer: _outer, RowSum: _row_sum, Mask: _mask, Weigh: _weigh,
                     Score: _score, Softmax: _row_sum, Copied: _head, Gathered: _head, Kept: _kept,
                     Nonlin: _function, Moment: _function,
                     Difference: _difference}.items():  # fmt: skip
    violations.register(_type)(_rule)  # type: ignore[arg-type]


def axes_of(op: Any, program: Earlier) -> Axes | Pairs | None:
    """The axes of what an instruction defines."""
    if isinstance(op, InitVector):
        return op.axes
    if isinstance(op, (Mix, Place)) or (isinstance(op, MatMul) and op.by is not None):
        return op.by.result(op.transpose)  # type: ignore[union-attr]
    if isinstance(op, (Outer, Score)):
        return Pairs(program.axes(op.x), program.axes(op.y))  # type: ignore[arg-type]
    if isinstance(op, Mask):
        return op.axes
    if isinstance(op, Weigh):
        pairs = program.axes(op.weights)
        return pairs.right if op.transpose else pairs.left  # type: ignore[union-attr]
    return next((a for v in op.operands if (a := program.axes(v)) is not None), None)


def canonical_violations(program: Earlier) -> Iterator[str]:
    """Every reason why a program is not canonical (TP2b Def. 5.4, "reduced").

    Nonlins and Moments read G-vars only, MatMuls read X-vars only, no two instructions are equal.
    """
    seen: dict[Any, Var] = {}
    for var, op in program:
        if isinstance(op, (Nonlin, Moment)):
            yield from (f"`{var}` reads the X-var `{v}`" for v in op.args if isinstance(program.op(v), Nonlin))
        if isinstance(op, MatMul) and isinstance(program.op(op.x), (InitVector, MatMul, Place)):
            yield f"the MatMul `{var}` reads the G-var `{op.x}`"
        if isinstance(op, (MatMul, Nonlin, Moment)):
            if op in seen:
                yield f"`{var}` repeats `{seen[op]}`"
            seen[op] = var


def covariance_violations(names: list[str], cov: list[list[sp.Expr]]) -> Iterator[str]:
    """Every reason why a matrix is not the covariance of vectors with these names.

    Symbolic entries are not judged; a matrix of numbers must be symmetric positive semidefinite.
    """
    k = len(names)
    if len(cov) != k or any(len(row) != k for row in cov):
        rows = ", ".join(str(len(row)) for row in cov)
        yield f"the covariance of {', '.join(names)} must be {k}×{k}, got {len(cov)} rows of length {rows}"
        return
    for i in range(k):
        for j in range(i):
            if cov[i][j] != cov[j][i]:
                pair = f"({names[i]}, {names[j]})"
                yield f"the covariance is not symmetric: entry {pair} is {cov[i][j]}, its mirror {cov[j][i]}"
                return
    unreal = next((c for row in cov for c in row if c.is_number and c.is_extended_real is False), None)
    if unreal is not None:
        yield f"the covariance of {', '.join(names)} holds {unreal}; it must be real"
    elif all(c.is_number and c.is_finite for row in cov for c in row):
        entries = np.array(cov, dtype=float)
        if not np.isfinite(entries).all():
            yield f"the covariance of {', '.join(names)} holds a number beyond 1e308"
            return
        eigenvalues = np.linalg.eigvalsh(entries)
        if eigenvalues[0] < -1e-12 * max(1.0, eigenvalues[-1]):
            yield f"the covariance of {', '.join(names)} is not positive semidefinite: eigenvalue {eigenvalues[0]:.3g}"
