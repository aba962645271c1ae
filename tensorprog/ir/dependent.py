"""Products by one matrix of linearly dependent vectors, as the sums that they are.

W(x + q) = W x + W q at every width, but numbers for the three products differ by rounding, and sign and step would
read it.  Every vector is a linear form in vectors that no sum made; a product W x whose form depends on those of
earlier products is written in them.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from tensorprog.ir.axes import Reading
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import MatMul, Moment, Nonlin, Var, scalar_slot, slots_of, vector_slot

Form = dict[Any, sp.Expr]  # coefficients by vector; by None, of the constant vector 1


@dataclass
class _Row:
    """One independent vector that a matrix has multiplied, 1 at its pivot, and its product."""

    pivot: Any
    form: Form
    product: Form


class _Forms:
    """Linear forms of the vectors of a program, and those of its products that depend on earlier ones."""

    def __init__(self) -> None:
        self.of: dict[Var, Form] = {}
        self.scalars: dict[Var, sp.Symbol] = {}
        self.written: set[Var] = set()  # vectors to be written anew
        self._rows: dict[tuple[Var, bool, Reading | None], list[_Row]] = defaultdict(list)

    def add(self, var: Var, op: Any) -> None:
        """Read one instruction."""
        if isinstance(op, MatMul):
            self.of[var] = self._product(var, op)
        elif isinstance(op, Nonlin) and (found := self._sum(op)) is not None:
            self.of[var] = found
            if self.written & set(op.args):
                self.written.add(var)
        elif var.kind == "vector":
            self.of[var] = {var: sp.S.One}

    def linear(self, form: Form) -> sp.Expr:
        """A form as an expression in the vectors themselves, of which each has a placeholder."""
        return sp.Add(*(c if v is None else c * _symbol(v) for v, c in form.items()))

    def _sum(self, op: Nonlin) -> Form | None:
        body = op.body.xreplace({s: self.scalar(v) for s, v in slots_of(op).items() if v.kind == "scalar"})
        slots = {vector_slot(i): v for i, v in enumerate(op.args)}
        parts = {s: body.diff(s) for s in slots if s in body.free_symbols}
        if any(slots.keys() & c.free_symbols for c in parts.values()):
            return None
        constant = body.xreplace(dict.fromkeys(slots, sp.S.Zero))
        total: Form = {None: constant} if constant != 0 else {}
        for s, c in parts.items():
            total = _plus(total, c, self.of[slots[s]])
        return total

    def scalar(self, v: Var) -> sp.Symbol:
        """The placeholder of a scalar."""
        return self.scalars.setdefault(v, sp.Dummy(v.name, real=True))

    def _product(self, var: Var, op: MatMul) -> Form:
        rows = self._rows[op.matrix, op.transpose, op.by]
        rest, known = dict(self.of[op.x]), Form()
        for row in rows:
            c = rest.get(row.pivot, sp.S.Zero)
            rest, known = _plus(rest, -c, row.form), _plus(known, c, row.product)
        if not rest and (known or op.by is None):  # 0 has positions too
            self.written.add(var)
            return known
        pivot = next((v for v, c in rest.items() if c.is_number), None)
        if pivot in rest and rest[pivot].is_number:
            scale = 1 / rest[pivot]
            own = _plus({}, scale, _plus({var: sp.S.One}, sp.S.NegativeOne, known))
            rows.append(_Row(pivot, _plus({}, scale, rest), own))
        return {var: sp.S.One}


def _symbol(v: Var) -> sp.Symbol:
    return sp.Symbol(f"{v.name}\0", real=True)


def _plus(a: Form, c: sp.Expr, b: Form) -> Form:
    """a + c · b."""
    if c == 0:
        return a
    total = dict(a)
    for v, x in b.items():
        total[v] = sp.expand(total.get(v, sp.S.Zero) + c * x)
    return {v: x for v, x in total.items() if x != 0}


def dependent_products(program: ProgramGraph) -> ProgramGraph:
    """The same program, with the same variables, where products of dependent vectors are sums of products.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x, q = p.matrix("W"), p.vector("x"), p.vector("q")
    >>> a, b, c = W @ x, W @ q, W @ (x - 2 * q)
    >>> dependent_products(p).op(c.var)
    Nonlin(body=x0 - 2*x1, args=(g3, g4), params=())
    """
    forms = _Forms()
    for var, op in program:
        forms.add(var, op)
    if not forms.written:
        return program
    result = type(program)()
    for var, op in program:
        result.append(var.name, _rewritten(var, op, forms))
    return result


def _rewritten(var: Var, op: Any, forms: _Forms) -> Any:
    if var in forms.written:
        return _function(Nonlin(sp.S.Zero, ()), forms.linear(forms.of[var]), forms)
    if isinstance(op, Nonlin | Moment) and forms.written & set(op.args):
        read = slots_of(op).items()
        point = {s: forms.linear(forms.of[v]) if v.kind == "vector" else forms.scalar(v) for s, v in read}
        return _function(op, op.body.xreplace(point), forms)
    return op


def _function(op: Any, body: sp.Expr, forms: _Forms) -> Any:
    """An instruction of the kind of ``op`` with a body in the vectors' and scalars' own placeholders."""
    read = body.free_symbols
    args = tuple(v for v in forms.of if _symbol(v) in read)
    params = tuple(v for v, s in forms.scalars.items() if s in read)
    slots = {_symbol(v): vector_slot(i) for i, v in enumerate(args)}
    slots |= {forms.scalars[v]: scalar_slot(j) for j, v in enumerate(params)}
    return replace(op, body=body.xreplace(slots), args=args, params=params)
