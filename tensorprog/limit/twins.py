"""What is the same of two inputs: in a program of both, the vector of one that is made as a vector of the other."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import sympy as sp

from tensorprog.errors import AssumptionError
from tensorprog.ir.axes import Axes, Pairs, Reading
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    InitMatrix,
    InitScalar,
    InitVector,
    Moment,
    Nonlin,
    Var,
    scalar_slot,
    vector_slot,
)


class Twins:
    """Which input a vector belongs to, and the same vector of the other input."""

    def __init__(self, program: ProgramGraph) -> None:
        self.program = program
        self.input: dict[Var, int | None] = {}
        self._sources: list[str] = []
        self._shape: dict[Var, int] = {}  # number of what a vector is, whatever its input
        self._shapes: dict[Any, int] = {}
        self._known: dict[tuple[int, int], Var] = {}
        self._embedded: dict[int, int] = {}
        for var, op in program:
            self._add(var, op)

    def in_turn(self) -> Iterator[tuple[Var, Any]]:
        """The program with both inputs side by side: a vector of the first is followed by the same of the second."""
        order = {var: i for i, (var, _) in enumerate(self.program)}
        second = iter([var for var in order if self.input[var] == 1])
        done: dict[Var, Any] = {}

        def until(var: Var) -> Iterator[tuple[Var, Any]]:
            for v in (*self.program.op(var).operands, var):
                if v not in done:
                    done[v] = self.program.op(v)
                    yield from until(v) if v is not var else ()
                    yield v, done[v]

        for var in order:
            yield from until(var)
            twin = self._known.get((self._shape[var], 1)) if self.input[var] == 0 else None
            while twin is not None and twin not in done:
                yield from until(next(second))

    def _add(self, var: Var, op: Any) -> None:
        """Read one instruction."""
        axes = self.program.axes(var)
        source = axes.source if axes is not None else op.source if isinstance(op, InitVector) else None
        if source is not None:
            if source not in self._sources:
                self._sources.append(source)
            point: int | None = self._sources.index(source)
        else:
            inputs = [self.input[v] for v in op.operands if self.input.get(v) is not None]
            point = inputs[0] if inputs else None
        self.input[var] = point
        if isinstance(op, (Nonlin, Moment)):
            key: Any = self._function(op)
        elif not isinstance(op, (InitMatrix, InitVector, InitScalar)):
            key = (type(op), *map(self._blank, (getattr(op, f.name) for f in fields(op))))
        elif point is not None:
            count = self._embedded[point] = self._embedded.get(point, 0) + 1
            key = ("data", count, axes and axes.maps)
        else:
            key = var
        shape = self._shape[var] = self._shapes.setdefault(key, len(self._shapes))
        if point is not None:
            self._known.setdefault((shape, point), var)

    def _function(self, op: Nonlin | Moment) -> Any:
        """What a function of vectors and scalars is, in whatever order it reads them."""
        order: list[tuple[Any, ...]] = []
        moved: dict[sp.Symbol, sp.Symbol] = {}
        for operands, slot in ((op.args, vector_slot), (op.params, scalar_slot)):
            found = sorted(range(len(operands)), key=lambda i: self._shape[operands[i]])
            order.append(tuple(self._shape[operands[i]] for i in found))
            moved |= {slot(i): slot(k) for k, i in enumerate(found)}
        return type(op), op.body if all(a == b for a, b in moved.items()) else op.body.xreplace(moved), *order

    def _blank(self, field: Any) -> Any:
        if isinstance(field, Var):
            return self._shape[field]
        if isinstance(field, tuple):
            return tuple(map(self._blank, field))
        if isinstance(field, Pairs):
            return field.left.maps, field.right.maps
        return field.map if isinstance(field, Reading) else field.maps if isinstance(field, Axes) else field

    def shape(self, var: Var) -> int:
        """The number of what a vector or scalar is, whatever its input."""
        return self._shape[var]

    def of(self, var: Var, point: int) -> Var:
        """The vector of input number ``point`` that is what ``var`` is of its own."""
        if self.input[var] in (None, point):
            return var
        found = self._known.get((self._shape[var], point))
        if found is None:
            raise AssumptionError(f"`{var}` has no counterpart for the other input; sums over positions need one")
        return found


def alike(r: Reading, s: Reading) -> bool:
    """Whether two maps are the same, on the same axes of whatever input."""
    if r.map != s.map or r.axes is None or s.axes is None:
        return r == s
    return r.axes == replace(s.axes, source=r.axes.source)
