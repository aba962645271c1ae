"""The limit with moments taken one step of the program at a time, so that running sums have names.

In z_l = z_{l-1} + r_l the moment E z_l z'_l is E z_{l-1} z'_{l-1} + E z_{l-1} r'_l + E r_l z'_{l-1} + E r_l r'_l, and
E z_{l-1} r'_l is E z_{l-2} r'_l + E r_{l-1} r'_l; of gradients d f that are products with an independent factor it is
E (d f)(d' f') = E d d' · E f f'.  ``Limit`` expands all of them, and the sums grow with l.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from tensorprog.algebra import Poly, add_all
from tensorprog.derivation.names import EveryName
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitVector, MatMul, Nonlin, Var, slots_of
from tensorprog.limit.equations import HEADS
from tensorprog.limit.master import Interpreter


@dataclass(frozen=True)
class Part:
    """A vector, or its product with a function of other vectors."""

    vector: Var
    factor: Poly | None = None


Sum = tuple[tuple[sp.Expr, Part], ...]  # with coefficients


class Stepwise(Interpreter):
    """A limit whose moments of sums, and of products with an independent factor, are made of named moments.

    Args:
        program: a network's program, with its backward pass or without.
        namer: names by place, which tell apart moments of equal definition.
    """

    def __init__(self, program: ProgramGraph, namer: EveryName) -> None:
        self.names = namer
        self._far: dict[Var, int] = {}
        self._sums: dict[Var, Sum] = {}
        self._steps: dict[tuple[Part, Part], Poly] = {}
        self._carried: set[Var] = set()
        self._into: dict[Var, Var] = {}
        for var, op in program:
            self._far[var] = 1 + max((self._far[v] for v in op.operands), default=0)
        super().__init__(program, namer)
        for var, op in program:
            if isinstance(op, Nonlin) and not self._is_source(var):
                self._note(var)

    # ---- what vectors are made of --------------------------------------------------------------------

    def sum_of(self, var: Var) -> Sum:
        """The terms of a vector, each a vector or a gradient times a factor; nothing where it is no such sum."""
        if var not in self._sums:
            op = self.program.op(var)
            self._sums[var] = self._read(op) if isinstance(op, Nonlin) else ()
        return self._sums[var]

    def _read(self, op: Nonlin) -> Sum:
        slots = slots_of(op)
        env = {s: self.z[v] for s, v in slots.items()}
        found: list[tuple[sp.Expr, Part]] = []
        for term in sp.Add.make_args(sp.expand(op.body)):
            c, rest = term.as_independent(*slots, as_Add=False)
            if rest in slots and slots[rest].kind == "vector":
                found.append((c, Part(slots[rest])))
                continue
            base = next((s for s in sp.Mul.make_args(rest) if s in slots and self._is_gradient(slots[s])), None)
            if base is None or base in (rest / base).free_symbols:
                return ()
            found.append((c, Part(slots[base], self.algebra.from_sympy(rest / base, env))))
        return tuple(found)

    def _note(self, var: Var) -> None:
        """Remember what a sum carries on, and which sum a product with a matrix enters."""
        terms = self.sum_of(var)
        self._into |= {p.vector: var for _, p in terms if isinstance(self.program.op(p.vector), MatMul)}
        if len(terms) > 1:
            self._carried |= {var, min((p.vector for _, p in terms), key=self._far.__getitem__)}

    def _is_gradient(self, var: Var) -> bool:
        return var in self.names.primal

    def _whole(self, part: Part) -> Part:
        """A gradient that is one product, as that product."""
        terms = self.sum_of(part.vector) if part.factor is None else ()
        return terms[0][1] if len(terms) == 1 and terms[0][0] == 1 and terms[0][1].factor is not None else part

    def _is_source(self, var: Var) -> bool:
        """Whether a vector is the gradient of what may enter every layer: an initial vector or a sum of some."""
        primal = self.names.primal.get(var)
        if primal is None:
            return False
        op = self.program.op(primal)
        terms = self.sum_of(primal)
        return isinstance(op, InitVector) or (
            bool(terms) and all(isinstance(self.program.op(p.vector), InitVector) for _, p in terms)
        )

    def known(self, p: Poly) -> Poly:
        """p itself: which covariance equals it depends on the size."""
        return p

    # ---- moments -------------------------------------------------------------------------------------

    def _moment(self, zx: Poly, zy: Poly, x: Var, y: Var) -> Poly:
        return self._of_parts(Part(x), Part(y))

    def _of_parts(self, a: Part, b: Part) -> Poly:
        key = (b, a) if (b, a) in self._steps else (a, b)
        if key not in self._steps:
            self._steps[key] = self._step(*key)
        return self._steps[key]

    def _step(self, a: Part, b: Part) -> Poly:
        x, y = a.vector, b.vector
        if all(p.factor is None and isinstance(self.program.op(p.vector), MatMul) for p in (a, b)):
            return self.expect.product(self.z[x], self.z[y])
        split = self._split(a, b, self._whole(a), self._whole(b))
        if split is not None:
            return split
        sums = [p.factor is None and len(self.sum_of(p.vector)) > 1 for p in (a, b)]
        if not any(sums):
            return self._plain(a, b)
        first = not sums[1] or (sums[0] and self._far[x] >= self._far[y])
        own, other = (a, b) if first else (b, a)
        total = add_all(
            self.algebra.from_sympy(c, {}) * (self._of_parts(p, other) if first else self._of_parts(other, p))
            for c, p in self.sum_of(own.vector)
        )
        return total if self._is_source(own.vector) else self._named(total, a, b)

    def _split(self, a: Part, b: Part, v: Part, w: Part) -> Poly | None:
        """E (d f)(d' f') = E d d' · E f f' where d and d' are independent of f and f'."""
        if v.factor is None or w.factor is None:
            return None
        outer = self.z[v.vector].support | self.z[w.vector].support
        inner = v.factor.support | w.factor.support
        if not outer.isdisjoint(inner) or self.expect.correlated(outer, inner):
            return None
        gradients = self._of_parts(Part(v.vector), Part(w.vector))
        return self._named(gradients * self.expect.product(v.factor, w.factor), a, b)

    def _plain(self, a: Part, b: Part) -> Poly:
        zs = [self.z[p.vector] if p.factor is None else self.z[p.vector] * p.factor for p in (a, b)]
        return self._named(self.expect.product(*zs), a, b)

    def _named(self, value: Poly, a: Part, b: Part) -> Poly:
        """A name for a moment."""
        if not value:
            return value
        x, y = (self._into.get(p.vector, p.vector) for p in (a, b))
        return self.system.define(value, self._kind(a, b), x, y)

    def _kind(self, a: Part, b: Part) -> str:
        if not {a.vector, b.vector} & self.names.primal.keys():
            return ("moment", "cross", "sums")[sum(p.vector in self._carried for p in (a, b))]
        if {a.vector, b.vector} & self._into.keys():
            return "mixed"
        return "moment" if self._whole(a).factor is not None or self._whole(b).factor is not None else "stream"


STEPS = ("sums", "cross", "stream", "mixed")


class StepNames(EveryName):
    """The same names, where all moments but those of branches have one."""

    def bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        return not p or (kind in HEADS and kind not in STEPS and super().bare(p, kind, a, b))
