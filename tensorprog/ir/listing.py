"""Instructions as lines that read like formulas: what a program shows of itself."""

from __future__ import annotations

from functools import singledispatch
from typing import Any

from tensorprog.ir.axes import Everywhere, Map
from tensorprog.ir.instructions import (
    Difference,
    InitMatrix,
    InitScalar,
    InitVector,
    MatMul,
    Mix,
    Moment,
    Nonlin,
    Place,
    slots_of,
)
from tensorprog.printing import NameSymbol, text

FEW = 4  # correlated vectors that are named


@singledispatch
def definition(op: Any) -> str:
    """What an instruction computes, as text; of one without a rule here the call that makes it.

    >>> from tensorprog.ir.instructions import Var
    >>> definition(MatMul(Var("W", "matrix"), True, Var("x", "vector")))
    'Wᵀ x'
    """
    fields = ", ".join(f"{k}={getattr(op, k)}" for k in op.__dataclass_fields__)
    return f"{type(op).__name__}({fields})"


@definition.register
def _(op: InitMatrix) -> str:
    return f"n×n matrix, entries N(0, {text(op.variance)}/n)"


@definition.register
def _(op: InitScalar) -> str:
    return text(op.value)


@definition.register
def _(op: InitVector) -> str:
    *others, last = [*op.cov] or [(None, 0)]
    said = ", ".join(f"{text(c)} with {v}" for v, c in others[:FEW]) + (" .." if len(others) > FEW else "")
    return f"rows N({text(op.mean)}, {text(last[1])})" + (f", covariance {said}" if said else "")


@definition.register
def _(op: MatMul) -> str:
    over = "" if op.by is None else f" {'back from' if op.transpose else 'over'} {op.by.map}"
    return f"{op.matrix}{'ᵀ' if op.transpose else ''} {op.x}{over}"


@definition.register
def _(op: Mix) -> str:
    return mixed(op, op.x.name)


@definition.register
def _(op: Place) -> str:
    return f"{op.x} of its own at {op.by.map}"


def mixed(op: Mix, x: str) -> str:
    """A weighted sum over positions of what is called x.

    >>> from tensorprog.ir.axes import TOTAL, Reading, Window
    >>> from tensorprog.ir.instructions import Var
    >>> x = Var("x", "vector")
    >>> mixed(Mix(Reading(Window(2, stride=2), None), False, x), "x"), mixed(Mix(Reading(TOTAL, None), True, x), "dx")
    ('mean of x over windows of 2, stride 2', 'dx given to all positions')
    """
    if op.transpose:
        return f"{x} given to {_where(op.by.map)}"
    return f"{'mean' if op.by.map.is_mean else 'sum'} of {x} over {_where(op.by.map)}"


def _where(m: Map) -> str:
    return "all positions" if isinstance(m, Everywhere) else str(m)


@definition.register
def _(op: Nonlin) -> str:
    return text(op.body.xreplace({s: NameSymbol(v.name) for s, v in slots_of(op).items()}))


@definition.register
def _(op: Moment) -> str:
    body = text(op.body.xreplace({s: NameSymbol(v.name) for s, v in slots_of(op).items()}))
    return f"mean of {body}" if op.args else body


@definition.register
def _(op: Difference) -> str:
    names = {s: NameSymbol(v.name) for s, v in slots_of(op).items()}
    theta = NameSymbol(op.theta.name)
    moved = {s: names[s] + theta * NameSymbol(d.name) for s, d in op.changes.items()}
    return f"[{text(op.body.xreplace({**names, **moved}))} − {text(op.body.xreplace(names))}]/{theta.name}"
