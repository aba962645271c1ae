"""Printed names of a network's limit: Σ, Π with layer, time and input indices."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.dsl.network import Trace
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.instructions import InitVector, MatMul, Nonlin, Var
from tensorprog.limit.equations import HEADS, simple
from tensorprog.passes.backprop import Gradients


@dataclass(frozen=True)
class Place:
    """Where a vector stands in its network."""

    layer: int | None
    time: int | None
    owner: str


class NetworkNames:
    """Names Σ^(l,t,t')(x,x') of covariances and Π^(l,t,t')(x,x') of gradient covariances.

    A pre-activation's layer is the first integer in the key of its matrix (or embedding), or the number
    of earlier uses of a matrix that has none; its time is that of the last datum it depends on.
    """

    def __init__(self, trace: Trace, gradients: list[Gradients]) -> None:
        self.trace = trace
        self.primal: dict[Var, Var] = {}
        for g in gradients:
            for var, ds in g.of.items():  # the pre-activation comes before the G-vars and biases it sums
                for d in ds:
                    self.primal.setdefault(d, var)
        self._time: dict[Var, int | None] = {}
        self._owner: dict[Var, str] = {}
        self._depth: dict[Var, int | None] = {}
        self._scan()

    def __call__(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, str] | None:
        if kind == "value" and a is not None:
            return a.name, rf"\mathring{{{a.name}}}".replace("_", r"\_")
        if a is None or b is None:
            return None
        head, tex = self.head(kind, a, b)
        places = self.places(a, b)
        if places is None or (a in self.primal) != (b in self.primal):
            return f"{head}({a},{b})", rf"{tex}({_tex(a)},{_tex(b)})"
        return self._indexed(head, tex, *places)

    def head(self, kind: str, a: Var, b: Var) -> tuple[str, str]:
        """The letter of a quantity about two vectors, as text and LaTeX; Π when both are gradients."""
        return ("Π", r"\Pi") if kind == "moment" and a in self.primal and b in self.primal else HEADS[kind]

    def places(self, a: Var, b: Var) -> tuple[Place, Place] | None:
        """Where two vectors, or what they are gradients of, stand; in the order of the inputs."""
        found = [self._place(self.primal.get(v, v)) for v in (a, b)]
        order = [data[0].label for data in self.trace.inputs]
        if found[0] is None or found[1] is None:
            return None
        p, q = sorted((p for p in found if p), key=lambda p: order.index(p.owner))
        return p, q

    def _indexed(self, head: str, tex: str, p: Place, q: Place) -> tuple[str, str]:
        layers = [] if p.layer is None else [p.layer] if p.layer == q.layer else [p.layer, q.layer]
        times = [] if p.time is None else [p.time, q.time]
        index = ",".join(map(str, [*layers, *times]))
        pair = f"({p.owner},{q.owner})"
        return (f"{head}^({index}){pair}", rf"{tex}^{{({index})}}{pair}") if index else (head + pair, tex + pair)

    def _scan(self) -> None:
        """Time, owner and layer of every forward vector, in one pass."""
        uses: dict[tuple[Var, str], int] = {}
        has_layers = any(p.indices for p in self.trace.parameters.values())
        embedded = self.trace.embeddings
        for var, op in self.trace.program:
            operands = [v for v in op.operands if v.kind == "vector"]
            times = [t for v in operands if (t := self._time.get(v)) is not None]
            self._time[var] = max(times, default=None)
            owners = [o for v in operands if (o := self._owner.get(v))]
            if owners:
                self._owner[var] = owners[-1]
            if var in embedded:
                name, datum = embedded[var]
                self._time[var], self._owner[var] = datum.time, self.trace.inputs[datum.owner][0].label
                indices = self.trace.parameters[name].indices
                self._depth[var] = indices[0] if indices else 1 if has_layers or datum.time is None else None
            elif isinstance(op, MatMul):
                self._depth[var] = self._matmul_depth(var, op, uses)
            elif isinstance(op, Nonlin):
                placed = [v for v in operands if v in self._depth]
                computed = [v for v in placed if not isinstance(self.trace.program.op(v), InitVector)]
                if placed:
                    self._depth[var] = self._depth[(computed or placed)[-1]]

    def _matmul_depth(self, var: Var, op: MatMul, uses: dict[tuple[Var, str], int]) -> int | None:
        parameter = next((p for p in self.trace.parameters.values() if p.var == op.matrix), None)
        if parameter is not None and parameter.indices:
            return parameter.indices[0]
        if self._time[var] is not None:
            return None
        key = (op.matrix, self._owner.get(var, ""))
        uses[key] = uses.get(key, 1) + 1
        return uses[key]

    def _place(self, var: Var) -> Place | None:
        if var not in self._owner or (var not in self._depth):
            return None
        return Place(self._depth[var], self._time[var], self._owner[var])


class EveryName(NetworkNames):
    """The same names, also for what is too short to need one: every layer then has its own Π and E."""

    def bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        """Whether p stays as it is: what has no place, and forward moments that are one atom."""
        identity = self.identity(kind, a, b)
        if kind not in ("cov", "moment") or identity is None:
            return simple(p, atoms=kind != "cov")
        atom = list(p.terms.values()) == [1] and all(isinstance(g, Expect) for m in p.terms for g, _ in m)
        return not p or (identity[0] == HEADS["moment"][0] and atom)

    def identity(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, Place, Place] | None:
        """What tells apart quantities of equal definition: letter and places."""
        places = None if a is None or b is None else self.places(a, b)
        return None if places is None or a is None or b is None else (self.head(kind, a, b)[0], *places)


def _tex(var: Var) -> str:
    return sp.latex(sp.Symbol(var.name)) if var.name.isidentifier() else var.name.replace("_", r"\_")
