"""Canonical ("reduced") form of a program (TP2b Def. 5.4), by one pass over its instructions.

Nonlins and Moments read G-vars only: the Nonlins between are substituted into their bodies.  A MatMul
reads an X-var: where it read a G-var, an identity Nonlin is put between.  Equal instructions are one.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import sympy as sp

from tensorprog.errors import NoRuleError
from tensorprog.functions import from_sympy
from tensorprog.ir.axes import Axes
from tensorprog.ir.graph import ProgramGraph, check_program
from tensorprog.ir.instructions import (
    Copied,
    Difference,
    Gathered,
    InitMatrix,
    InitScalar,
    InitVector,
    Instruction,
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
    scalar_slot,
    slots_of,
    vector_slot,
)


def canonicalize(program: ProgramGraph) -> tuple[ProgramGraph, dict[Var, Var]]:
    """The canonical program that computes the same vectors and scalars, at every width and in the limit.

    Args:
        program: any program; it is not changed.

    Returns:
        The canonical program, and the variable in it that equals each variable of ``program``: itself,
        or the one that it was merged with.

    Raises:
        ProgramError: not a program.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W @ x
    >>> reduced, of = canonicalize(p)
    >>> print(reduced)
    W := InitMatrix(variance=1)
    x := InitVector(mean=0, cov=((x, 1),))
    id(x) := Nonlin(body=x0, args=(x,), params=())
    g2 := MatMul(matrix=W, transpose=False, x=id(x))
    """
    check_program(program, "canonicalize")
    build = _Build(program)
    for var, op in program:
        build.kept[var] = rewrite(op, var, build)
    return build.program, build.kept


class _Build:
    """The canonical program so far, and the bodies of its X-vars in placeholders that name their operands."""

    def __init__(self, old: ProgramGraph) -> None:
        self.old, self.program = old, type(old)()
        self.kept: dict[Var, Var] = {}
        self._reserved = {v.name for v, _ in old}
        self._bodies: dict[Var, sp.Expr] = {}
        self._operand: dict[Slot, Var] = {}
        self._position: dict[Var, int] = {}
        self._defined: dict[Instruction, Var] = {}

    def append(self, name: str, op: Instruction) -> Var:
        """Add an instruction and note its place."""
        var = self.program.append(name, op)
        self._position[var] = len(self._position)
        return var

    def merged(self, name: str, op: Instruction) -> Var:
        """The variable that an equal instruction defined; a new one called ``name`` when there is none."""
        if op not in self._defined:
            self._defined[op] = self.append(name, op)
        return self._defined[op]

    def ref(self, var: Var) -> Slot:
        """The placeholder that names an operand."""
        slot = Slot(f"@{var.name}")
        self._operand[slot] = var
        return slot

    def body(self, op: Nonlin | Moment) -> sp.Expr:
        """The body of an old instruction as an expression in the placeholders of G-vars and scalars."""
        new = {s: self.kept[v] for s, v in slots_of(op).items()}
        operands = {s: self._bodies[v] if v in self._bodies else self.ref(v) for s, v in new.items()}
        return from_sympy(op.body.xreplace(operands))

    def function(self, cls: Any, name: str, body: sp.Expr, axes: Axes | None = None) -> Var:
        """The Nonlin or Moment of an expression in placeholders, with the operands it reads in order."""
        read = sorted((self._operand[s] for s in body.atoms(Slot)), key=self._position.__getitem__)
        args = tuple(v for v in read if v.kind == "vector")
        params = tuple(v for v in read if v.kind == "scalar")
        slots = {self.ref(v): vector_slot(i) for i, v in enumerate(args)}
        slots |= {self.ref(v): scalar_slot(j) for j, v in enumerate(params)}
        if not args and (cls is Nonlin or not params):
            args = self._any_vector(None)
        if axes is not None and not any(map(self.program.axes, args)):  # a constant at every position
            args = (*args, *self._any_vector(axes))
        var = self.merged(name, cls(body.xreplace(slots), args, params))
        if cls is Nonlin:
            self._bodies[var] = body
        return var

    def _any_vector(self, axes: Axes | None) -> tuple[Var, ...]:
        """A constant has the length of some vector: the first G-var (with these axes), as far as there is one."""
        vectors = (
            v for v in self._position
            if v.kind == "vector" and v not in self._bodies and (axes is None or self.program.axes(v) == axes)
        )  # fmt: skip
        return tuple(v for v, _ in zip(vectors, range(1), strict=False))

    def identity(self, var: Var) -> Var:
        """The X-var with the values of a vector: itself, or the identity Nonlin of a G-var."""
        if var in self._bodies:
            return var
        name = f"id({var})"
        while name in self._reserved:
            name += "'"
        self._reserved.add(name)
        return self.function(Nonlin, name, self.ref(var), self.program.axes(var))


@singledispatch
def rewrite(op: Any, var: Var, build: _Build) -> Var:
    """Add the canonical form of ``var := op`` and return the variable that stands for ``var``."""
    raise NoRuleError(
        f"no canonical form for {type(op).__name__}: register one with tensorprog.passes.canonicalize.rewrite"
    )


@rewrite.register(InitMatrix)
@rewrite.register(InitVector)
@rewrite.register(InitScalar)
def _(op: Any, var: Var, build: _Build) -> Var:
    return build.append(var.name, op)


@rewrite.register(Difference)
def _(op: Difference, var: Var, build: _Build) -> Var:
    def new(variables: tuple[Any, ...]) -> tuple[Any, ...]:
        return tuple(v if v is None else build.kept[v] for v in variables)

    changed = Difference(
        op.body, new(op.args), new(op.arg_deltas), new(op.params), new(op.param_deltas), build.kept[op.theta]
    )
    result = build.merged(var.name, changed)
    build._bodies[result] = build.ref(result)  # an X-var that cannot be fused into what reads it
    return result


@rewrite.register(MatMul)
def _(op: MatMul, var: Var, build: _Build) -> Var:
    x = build.identity(build.kept[op.x])
    return build.merged(var.name, MatMul(build.kept[op.matrix], op.transpose, x, op.by))


@rewrite.register(Mix)
def _(op: Mix, var: Var, build: _Build) -> Var:
    result = build.merged(var.name, Mix(op.by, op.transpose, build.kept[op.x]))
    build._bodies[result] = build.ref(result)  # an X-var that cannot be fused into what reads it
    return result


@rewrite.register(Place)
def _(op: Place, var: Var, build: _Build) -> Var:
    return build.merged(var.name, Place(op.by, op.transpose, build.kept[op.x]))


@rewrite.register(Outer)
def _(op: Outer, var: Var, build: _Build) -> Var:
    return build.merged(var.name, Outer(build.kept[op.x], build.kept[op.y]))


@rewrite.register(Score)
def _(op: Score, var: Var, build: _Build) -> Var:
    gradient = None if op.gradient is None else build.kept[op.gradient]
    return build.merged(var.name, Score(build.kept[op.x], build.kept[op.y], gradient))


@rewrite.register(Softmax)
def _(op: Softmax, var: Var, build: _Build) -> Var:
    return build.merged(var.name, Softmax(build.kept[op.s], op.causal))


@rewrite.register(Copied)
@rewrite.register(Gathered)
def _(op: Copied | Gathered, var: Var, build: _Build) -> Var:
    result = build.merged(var.name, type(op)(build.kept[op.x]))
    build._bodies[result] = build.ref(result)  # an X-var that cannot be fused into what reads it
    return result


@rewrite.register(Kept)
def _(op: Kept, var: Var, build: _Build) -> Var:
    result = build.merged(var.name, Kept(build.kept[op.x], op.rate))
    build._bodies[result] = build.ref(result)  # an X-var whose gradient is not that of its formula
    return result


@rewrite.register(RowSum)
def _(op: RowSum, var: Var, build: _Build) -> Var:
    return build.merged(var.name, RowSum(build.kept[op.s]))


@rewrite.register(Mask)
def _(op: Mask, var: Var, build: _Build) -> Var:
    return build.merged(var.name, op)


@rewrite.register(Weigh)
def _(op: Weigh, var: Var, build: _Build) -> Var:
    result = build.merged(var.name, Weigh(build.kept[op.weights], op.transpose, build.kept[op.x]))
    build._bodies[result] = build.ref(result)  # an X-var that cannot be fused into what reads it
    return result


@rewrite.register(Nonlin)
@rewrite.register(Moment)
def _(op: Nonlin | Moment, var: Var, build: _Build) -> Var:
    return build.function(type(op), var.name, build.body(op), build.old.axes(var))
