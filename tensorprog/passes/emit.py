"""Extending a program by expressions in references to its own variables."""

from __future__ import annotations

from typing import Any

import sympy as sp

from tensorprog.ir.axes import Reading
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import MatMul, Moment, Nonlin, Slot, Var, scalar_slot, vector_slot


class Emitter:
    """Appends instructions to a program; expressions name their operands by ``ref``."""

    def __init__(self, program: ProgramGraph, prefix: str) -> None:
        self.program, self.prefix = program, prefix
        self._refs: dict[Slot, Var] = {}
        self._slots: dict[Var, Slot] = {}

    def ref(self, var: Var) -> Slot:
        """A placeholder for a variable of the program."""
        if var not in self._slots:
            self._slots[var] = Slot(f"@{var.name}")
            self._refs[self._slots[var]] = var
        return self._slots[var]

    def emit(self, cls: Any, expr: sp.Expr, name: str | None = None) -> Var:
        """Append the Nonlin or Moment of an expression in refs; a bare reference is the variable itself."""
        if isinstance(expr, Slot) and self._refs[expr].kind == ("vector" if cls is Nonlin else "scalar"):
            return self._refs[expr]
        operands = sorted((self._refs[s] for s in expr.atoms(Slot)), key=lambda v: v.name)
        args = tuple(v for v in operands if v.kind == "vector")
        params = tuple(v for v in operands if v.kind == "scalar")
        slots = {self.ref(v): vector_slot(i) for i, v in enumerate(args)}
        slots |= {self.ref(v): scalar_slot(j) for j, v in enumerate(params)}
        return self._append(name, cls(expr.xreplace(slots), args, params))

    def mean(self, expr: sp.Expr) -> sp.Expr:
        """The Moment of an expression; the expression itself when it has no vectors in it."""
        if any(self._refs[s].kind == "vector" for s in expr.atoms(Slot)):
            return self.ref(self.emit(Moment, expr))
        return expr

    def product(self, matrix: Var, transpose: bool, x: Var, by: Reading | None = None) -> Var:
        """Append the MatMul of x."""
        return self._append(None, MatMul(matrix, transpose, x, by))

    def _append(self, name: str | None, op: Any) -> Var:
        name = name if name and name not in self.program else None
        return self.program.append(name, op, self.prefix)
