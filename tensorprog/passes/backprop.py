"""Backpropagation as a program transformation, exact at finite width.

With dx = √n ∂f/∂x: y = Wx adds Wᵀdy to dx; z = ψ(x..; θ) adds ∂_iψ·dz to dx_i; a scalar's
m_θ = Σ Moment(dz ∂_θψ) adds m_θ ∂_iψ to the dx_i of θ = Moment(ψ(x..)), and m_θ Moment(∂_θ'ψ) to m_θ'.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import sympy as sp

from tensorprog.dsl.network import Output, Trace
from tensorprog.errors import NoRuleError
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    InitMatrix,
    InitScalar,
    InitVector,
    MatMul,
    Moment,
    Nonlin,
    Slot,
    Var,
    scalar_slot,
    slots_of,
    vector_slot,
)


@dataclass
class Gradients:
    """The gradient of one output: ``of[x]`` are vectors whose sum is dx.

    The terms are kept apart for initial vectors, one per use of the parameter; a single one otherwise.
    """

    of: dict[Var, tuple[Var, ...]] = field(default_factory=dict)


class _Tape:
    """The program being extended, and the contributions collected so far, as expressions in operand slots."""

    def __init__(self, program: ProgramGraph, label: str) -> None:
        self.program, self.label = program, label
        self.terms: dict[Var, list[sp.Expr]] = defaultdict(list)
        self._refs: dict[Slot, Var] = {}

    def ref(self, var: Var) -> Slot:
        """A placeholder for a variable of the program."""
        slot = Slot(f"@{var.name}")
        self._refs[slot] = var
        return slot

    def emit(self, cls: Any, expr: sp.Expr, name: str | None = None) -> Var:
        """Append Nonlin or Moment of an expression in refs; a bare reference is the variable itself."""
        if isinstance(expr, Slot) and self._refs[expr].kind == ("vector" if cls is Nonlin else "scalar"):
            return self._refs[expr]
        operands = sorted((self._refs[s] for s in expr.atoms(Slot)), key=lambda v: v.name)
        args = tuple(v for v in operands if v.kind == "vector")
        params = tuple(v for v in operands if v.kind == "scalar")
        slots = {self.ref(v): vector_slot(i) for i, v in enumerate(args)}
        slots |= {self.ref(v): scalar_slot(j) for j, v in enumerate(params)}
        name = name if name and name not in self.program._names else None
        return self.program.append(name, cls(expr.xreplace(slots), args, params), f"d{self.label}_")

    def mean(self, expr: sp.Expr) -> sp.Expr:
        """The Moment of an expression; the expression itself when it has no vectors in it."""
        if any(self._refs[s].kind == "vector" for s in expr.atoms(Slot)):
            return self.ref(self.emit(Moment, expr))
        return expr


def backprop(trace: Trace) -> tuple[ProgramGraph, list[Gradients]]:
    """The program extended by the backward pass of every output.

    Args:
        trace: a traced network; its program is not changed.

    Returns:
        The extended program, in which old variables keep their names, and one ``Gradients`` per output.

    >>> import tensorprog as tp
    >>> program, (g,) = backprop(tp.programs.mlp(depth=2).trace([None]))
    >>> [v.name for v in g.of]
    ['x6', 'x5', 'W2(x)', 'x2', 'x1', 'U(x)']
    """
    program: ProgramGraph = trace.program.copy()
    forward = list(trace.program)
    gradients = []
    for data, output in zip(trace.inputs, trace.outputs, strict=True):
        gradients.append(_backward(program, forward, output, data[0].label))
    return program, gradients


def _backward(program: ProgramGraph, forward: list[Any], output: Output, label: str) -> Gradients:
    tape, gradients = _Tape(program, label), Gradients()
    for r in output.readouts:
        tape.terms[r.x].append(r.std * tape.ref(r.v))
    for var, op in reversed(forward):
        terms = tape.terms.pop(var, [])
        if not terms or var.kind == "matrix":
            continue
        if var.kind == "scalar":
            pull(op, sp.Add(*terms), tape)
        elif isinstance(op, InitVector):
            gradients.of[var] = tuple(tape.emit(Nonlin, e, f"d{var}") for e in terms)
        else:
            gradient = tape.emit(Nonlin, sp.Add(*terms), f"d{var}")
            gradients.of[var] = (gradient,)
            pull(op, tape.ref(gradient), tape)
    return gradients


@singledispatch
def pull(op: Any, d: sp.Expr, tape: _Tape) -> None:
    """Add what the gradient ``d`` of an instruction's result contributes to its operands."""
    raise NoRuleError(f"no gradient rule for {type(op).__name__}: register one with tensorprog.passes.backprop.pull")


@pull.register(InitMatrix)
@pull.register(InitVector)
@pull.register(InitScalar)
def _(op: Any, d: sp.Expr, tape: _Tape) -> None:
    return


@pull.register(MatMul)
def _(op: MatMul, d: sp.Expr, tape: _Tape) -> None:
    back = tape.program.append(None, MatMul(op.matrix, not op.transpose, tape._refs[d]), f"d{tape.label}_")  # type: ignore[index]
    tape.terms[op.x].append(tape.ref(back))


@pull.register(Nonlin)
def _(op: Nonlin, d: sp.Expr, tape: _Tape) -> None:
    refs = {s: tape.ref(v) for s, v in slots_of(op).items()}
    for slot, var in slots_of(op).items():
        partial = sp.diff(op.body, slot).xreplace(refs)
        if partial == 0:
            continue
        if var.kind == "vector":
            tape.terms[var].append(d * partial)
        else:
            tape.terms[var].append(tape.mean(d * partial))


@pull.register(Moment)
def _(op: Moment, d: sp.Expr, tape: _Tape) -> None:
    refs = {s: tape.ref(v) for s, v in slots_of(op).items()}
    for slot, var in slots_of(op).items():
        partial = sp.diff(op.body, slot).xreplace(refs)
        if partial != 0:
            term = d * partial if var.kind == "vector" else d * tape.mean(partial)
            tape.terms[var].append(term)
