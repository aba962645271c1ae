"""What stands in the gates of a picture: φ, +, ×, or a number that a list of functions below it explains."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import permutations
from typing import Any

import sympy as sp

from tensorprog.functions import Fn, text_name
from tensorprog.ir.instructions import (
    Difference,
    Mix,
    Moment,
    Nonlin,
    Place,
    Var,
    scalar_slot,
    slots_of,
    vector_slot,
)
from tensorprog.ir.listing import mixed
from tensorprog.printing import NameSymbol, text
from tensorprog.report.extents import gate_of
from tensorprog.report.labels import PRE, indexed, multiple, subscript
from tensorprog.report.subject import Head, Subject

MOST_PERMUTED = 4  # arguments of functions that are compared in every order
LETTERS = ("u", "v", "w")


def function_name(op: Nonlin | Moment | Difference) -> str:
    """φ for φ(x + y + ..), + for a sum, × for a product, ×c for a multiple, id; ψ for anything else."""
    body, slots = op.body, {*slots_of(op)}

    def sum_of_slots(e: sp.Expr) -> bool:
        return e.is_Add and set(e.args) <= slots

    if isinstance(body, Fn) and (body.args[0] in slots or sum_of_slots(body.args[0])):
        name = text_name(type(body))
    elif body in slots:
        name = "id"
    elif sum_of_slots(body):
        name = "+"
    elif body.is_Mul and set(body.args) <= slots:
        name = "×"
    elif (factor := multiple(op)) is not None:
        name = f"×{text(factor)}"
    else:
        name = "ψ"
    return f"Δ{name}" if isinstance(op, Difference) else name


def formula(s: Subject, var: Var) -> str:
    """The right side of an instruction, its operands as they are called in the picture."""
    op: Any = s.op(var)
    if isinstance(op, Head):
        return _head(s, op)
    if isinstance(op, Mix):
        return mixed(op, s.name(op.x))
    if isinstance(op, Place):
        return f"{s.name(op.x)} of its own at every position"
    raised = {e.base for e in op.body.atoms(sp.Pow)}  # (h²)³, not h²³
    names = {slot: NameSymbol(f"({s.name(v)})" if slot in raised else s.name(v)) for slot, v in slots_of(op).items()}
    body = indexed(text(op.body.xreplace(names)))
    if isinstance(op, Difference):
        theta = NameSymbol(s.name(op.theta))
        changed = {slot: names[slot] + theta * NameSymbol(s.name(d)) for slot, d in op.changes.items()}
        return f"[{text(op.body.xreplace({**names, **changed}))} − {body}]/{theta}"
    return f"mean of {body}" if isinstance(op, Moment) and op.args else body


def _head(s: Subject, f: Head) -> str:
    terms = [f"{_factor(std)}{_product(s.name(v), s.name(x), flat)}" for std, v, x, flat in f.terms]
    return " + ".join([*terms, *(f"{_factor(std)}{name}" for name, std in f.biases)])


def _product(v: str, x: str, flat: bool) -> str:
    return f"Σ_p {v}[p]·{x}[p]/√(nP)" if flat else f"{v}·{x}/√n"


def _factor(std: sp.Expr) -> str:
    return "" if std == 1 else f"({text(std)})·" if std.is_Add else f"{text(std)}·"


class Functions:
    """The names in the gates, and the functions ψ₁(u, v), ψ₂(u), .. behind those that are no common ones.

    Functions that differ in the order of their arguments only are one.
    """

    def __init__(self, s: Subject) -> None:
        self.s = s
        self.gates: dict[Var, str] = {}
        self._known: list[tuple[int, sp.Expr]] = []
        self._uses: list[list[str]] = []
        self._heads: list[str] = []
        for var in s.drawn:
            op = s.op(var)
            if isinstance(op, Head):
                self.gates[var] = "Σ/√n"
                self._heads.append(f"{s.name(var)} = {formula(s, var)}")
            elif isinstance(op, Mix):
                self.gates[var] = gate_of(op)
            elif isinstance(op, Place):
                self.gates[var] = "[p]"
            elif isinstance(op, Nonlin | Moment | Difference):
                name = function_name(op)
                self.gates[var] = name.replace("ψ", self._numbered(var, op)) if "ψ" in name else name

    def _numbered(self, var: Var, op: Nonlin | Moment | Difference) -> str:
        """ψ₁ for the first of its kind, ..; notes what it is applied to."""
        scalars = {scalar_slot(j): NameSymbol(self.s.name(v)) for j, v in enumerate(op.params)}
        body, args = op.body.xreplace(scalars), [self.s.name(v) for v in op.args]
        number, order = self._find(body, len(args))
        name = f"ψ{subscript([number + 1])}"
        applied = f"{name}({', '.join(args[k] for k in order)})" if args else name
        if isinstance(op, Moment):
            applied = f"mean of {applied}" if args else applied
        elif isinstance(op, Difference):
            applied = f"Δ{applied}"
        self._uses[number].append(f"{self.s.name(var)} = {applied}")
        return name

    def _find(self, body: sp.Expr, count: int) -> tuple[int, Sequence[int]]:
        """The number of a function and the order in which it takes these arguments."""
        own = range(count)
        for order in permutations(own) if count <= MOST_PERMUTED else [own]:
            moved = body.xreplace({vector_slot(k): vector_slot(i) for i, k in enumerate(order)})
            if (count, moved) in self._known:
                return self._known.index((count, moved)), order
        self._known.append((count, body))
        self._uses.append([])
        return len(self._known) - 1, own

    def lines(self) -> list[str]:
        """What inputs and outputs are; then the numbered functions, each with what it is applied to."""
        first = ", ".join([*self._inputs(), *self._heads])
        found = [first] if first else []
        for number, (count, body) in enumerate(self._known):
            letters = LETTERS[:count] if count <= len(LETTERS) else [f"u{subscript([k + 1])}" for k in range(count)]
            shown = text(body.xreplace({vector_slot(k): NameSymbol(u) for k, u in enumerate(letters)}))
            left = f"ψ{subscript([number + 1])}" + (f"({', '.join(letters)})" if count else "")
            found.append(indexed(f"{left} = {shown}:  {', '.join(self._uses[number])}"))
        return found

    def _inputs(self) -> Iterator[str]:
        """h¹ = U(x), and what the vector 1 is."""
        s = self.s
        if s.labels is None or s.trace is None:
            return
        for var in s.drawn:
            label = s.labels.of[var]
            if var in s.trace.embeddings and label.role == PRE:
                yield f"{s.name(var)} = {s.labels.embedded(var)}"
            elif s.name(var) == "1":
                yield "1 = (1, …, 1)"
