"""Backpropagation as a program transformation, exact at finite width.

With dx = √n ∂f/∂x: y = Wx adds Wᵀdy to dx; z = ψ(x..; θ) adds ∂_iψ·dz to dx_i; a scalar's
m_θ = Σ Moment(dz ∂_θψ) adds m_θ ∂_iψ to the dx_i of θ = Moment(ψ(x..)), and m_θ Moment(∂_θ'ψ) to m_θ'.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import sympy as sp

from tensorprog.dsl.trace import Output, Readout, Trace
from tensorprog.errors import NoRuleError
from tensorprog.ir.axes import TOTAL, Reading
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    Copied,
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
from tensorprog.ir.random_scores import check_drawn, drawn_from
from tensorprog.passes.emit import Emitter


@dataclass
class Gradients:
    """The gradient of one output: ``of[x]`` are vectors whose sum is dx.

    The terms are kept apart for initial vectors that enter several sums, one per use of the parameter; a single
    one otherwise.  ``places`` has the uses of an initial vector that is drawn for every offset, and the
    gradients there.
    """

    of: dict[Var, tuple[Var, ...]] = field(default_factory=dict)
    places: dict[Var, tuple[tuple[Place, Var], ...]] = field(default_factory=dict)


class Tape(Emitter):
    """The program being extended, and the gradient contributions collected so far, as expressions in refs.

    ``now`` and ``matmul`` say what a variable and a product with a matrix are at the time of the
    backward pass: themselves, unless the weights have moved since the program was traced.
    """

    def __init__(self, program: ProgramGraph, prefix: str) -> None:
        super().__init__(program, prefix)
        self.terms: dict[Var, list[sp.Expr]] = defaultdict(list)
        self.places: dict[Var, list[tuple[Place, Var]]] = defaultdict(list)

    def now(self, var: Var) -> Var:
        """The value of a forward variable."""
        return var

    def matmul(self, matrix: Var, transpose: bool, x: Var, name: str | None = None, by: Reading | None = None) -> Var:
        """The product of a vector with a matrix."""
        return self.product(matrix, transpose, x, by)

    def readout(self, r: Readout) -> Var:
        """The vector of a readout, at every position that it reads."""
        v = self.now(r.v)
        return v if r.by is None else self._append(None, Place(r.by, True, v))

    def operands(self, op: Any) -> dict[sp.Symbol, Slot]:
        """References to the operands of a Nonlin or Moment, by placeholder."""
        return {s: self.ref(self.now(v)) for s, v in slots_of(op).items()}

    def backward(self, forward: Iterable[tuple[Var, Any]], output: Output, suffix: str = "") -> Gradients:
        """The gradient of one output with respect to everything it depends on."""
        gradients = Gradients()
        for r in output.readouts:
            self.terms[r.x].append(r.std * self.ref(self.readout(r)))
        for var, op in reversed(list(forward)):
            terms = self.terms.pop(var, [])
            if not terms or var.kind == "matrix":
                continue
            if var.kind == "scalar":
                pull(op, sp.Add(*terms), self)
            elif isinstance(op, InitVector) and not self._is_stream(terms, gradients):
                gradients.of[var] = tuple(self.emit(Nonlin, e, f"d{var}{suffix}") for e in terms)
            else:
                gradient = self.emit(Nonlin, sp.Add(*terms), f"d{var}{suffix}")
                gradients.of[var] = (gradient,)
                pull(op, self.ref(gradient), self)
        gradients.places = {v: tuple(uses) for v, uses in self.places.items()}
        self.places.clear()
        return gradients

    def _is_stream(self, terms: list[sp.Expr], gradients: Gradients) -> bool:
        """Whether an initial vector is itself what a layer reads: besides at most one sum it has other uses."""
        known = {self.ref(d) for ds in gradients.of.values() for d in ds}
        sums = sum(len(refs := e.atoms(Slot)) == 1 and refs <= known for e in terms)
        return sums <= 1 < len(terms)


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
    gradients = [
        Tape(program, f"d{data[0].label}_").backward(trace.program, output)
        for data, output in zip(trace.inputs, trace.outputs, strict=True)
    ]
    return program, gradients


@singledispatch
def pull(op: Any, d: sp.Expr, tape: Tape) -> None:
    """Add what the gradient ``d`` of an instruction's result contributes to its operands."""
    raise NoRuleError(f"no gradient rule for {type(op).__name__}: register one with tensorprog.passes.backprop.pull")


@pull.register(InitMatrix)
@pull.register(InitVector)
@pull.register(InitScalar)
def _(op: Any, d: sp.Expr, tape: Tape) -> None:
    return


@pull.register(MatMul)
def _(op: MatMul, d: sp.Expr, tape: Tape) -> None:
    tape.terms[op.x].append(tape.ref(tape.matmul(op.matrix, not op.transpose, tape.emit(Nonlin, d), by=op.by)))


@pull.register(Mix)
def _(op: Mix, d: sp.Expr, tape: Tape) -> None:
    mixed = Mix(op.by, not op.transpose, tape.emit(Nonlin, d))
    tape.terms[op.x].append(tape.ref(tape._append(None, mixed)))


@pull.register(Weigh)
def _(op: Weigh, d: sp.Expr, tape: Tape) -> None:
    gradient, weights, x = tape.emit(Nonlin, d), tape.now(op.weights), tape.now(op.x)
    tape.terms[op.x].append(tape.ref(tape._append(None, Weigh(weights, not op.transpose, gradient))))
    left, right = (x, gradient) if op.transpose else (gradient, x)
    made = Score(left, right, gradient) if drawn_from(tape.program, weights) else Outer(left, right)
    tape.terms[op.weights].append(tape.ref(tape._append(None, made)))


@pull.register(Softmax)
def _(op: Softmax, d: sp.Expr, tape: Tape) -> None:
    """ds[p,q] = a[p,q] (da[p,q] − Σ_t a[p,t] da[p,t])."""
    a = tape.ref(tape.now(next(v for v, other in tape.program if other is op)))
    d = tape.ref(tape.emit(Moment, d))
    rows = tape.ref(tape._append(None, RowSum(tape.emit(Moment, a * d))))
    tape.terms[op.s].append(a * (d - rows))


@pull.register(Copied)
def _(op: Copied, d: sp.Expr, tape: Tape) -> None:
    tape.terms[op.x].append(tape.ref(tape._append(None, Gathered(tape.emit(Nonlin, d)))))


@pull.register(Gathered)
def _(op: Gathered, d: sp.Expr, tape: Tape) -> None:
    tape.terms[op.x].append(tape.ref(tape._append(None, Copied(tape.emit(Nonlin, d)))))


@pull.register(Outer)
@pull.register(Score)
def _(op: Outer | Score, d: sp.Expr, tape: Tape) -> None:
    weights = tape.emit(Moment, d)
    for var, other, transpose in ((op.x, op.y, False), (op.y, op.x, True)):
        tape.terms[var].append(tape.ref(tape._append(None, Weigh(weights, transpose, tape.now(other)))))


@pull.register(RowSum)
def _(op: RowSum, d: sp.Expr, tape: Tape) -> None:
    tape.terms[op.s].append(tape.ref(tape._append(None, RowSum(tape.emit(Moment, d)))))


@pull.register(Mask)
@pull.register(Kept)
def _(op: Mask | Kept, d: sp.Expr, tape: Tape) -> None:
    return


@pull.register(Place)
def _(op: Place, d: sp.Expr, tape: Tape) -> None:
    tape.places[op.x].append((op, tape.emit(Nonlin, d)))


@pull.register(Nonlin)
def _(op: Nonlin, d: sp.Expr, tape: Tape) -> None:
    refs = tape.operands(op)
    axes = next((a for v in op.operands if (a := tape.program.axes(v)) is not None), None)
    for slot, var in slots_of(op).items():
        partial = sp.diff(op.body, slot).xreplace(refs)
        if partial == 0:
            continue
        if axes is not None and tape.program.axes(var) is None:  # one vector is read at all positions
            total = tape.ref(tape._append(None, Mix(Reading(TOTAL, axes), False, tape.emit(Nonlin, d * partial))))
            tape.terms[var].append(total if var.kind == "vector" else tape.mean(total))
        else:
            tape.terms[var].append(d * partial if var.kind == "vector" else tape.mean(d * partial))


@pull.register(Moment)
def _(op: Moment, d: sp.Expr, tape: Tape) -> None:
    refs = tape.operands(op)
    axes = {tape.program.axes(v) for v in op.operands}
    if len(axes) > 1:
        raise NoRuleError("the gradient of a mean over coordinates whose operands have positions and have none")
    check_drawn(op, tape.program)
    for slot, var in slots_of(op).items():
        partial = sp.diff(op.body, slot).xreplace(refs)
        if partial != 0:
            tape.terms[var].append(d * partial if var.kind == "vector" else d * tape.mean(partial))
