"""Printed names of a network's limit: Σ, Π with layer, time and input indices."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.dsl.trace import Trace
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.instructions import InitVector, MatMul, Mix, Nonlin, Var, Weigh
from tensorprog.limit.equations import HEADS, simple, summed
from tensorprog.limit.positions import Batched
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
    of earlier uses of a matrix that has none; that of a sum is the layer of the vector with most matrices before it,
    so that the input may enter at every layer. Its time is that of the last datum it depends on.
    """

    def __init__(self, trace: Trace, gradients: list[Gradients]) -> None:
        self.trace = trace
        self.primal: dict[Var, Var] = {}
        self._time: dict[Var, int | None] = {}
        self._owner: dict[Var, str] = {}
        self._depth: dict[Var, int | None] = {}
        self._reach: dict[Var, int] = {}  # the most matrices on a path to a vector
        self._layers = {p.var: next(iter(p.indices), None) for p in trace.parameters.values() if p.kind == "matrix"}
        self._labels = [data[0].label for data in trace.inputs]
        self._timed = any(d.time is not None for data in trace.inputs for d in data)
        for label, g in zip(self._labels, gradients, strict=False):
            for var, ds in g.of.items():  # the pre-activation comes before the G-vars and biases it sums
                for d in ds:
                    self.primal.setdefault(d, var)
                    self._owner.setdefault(d, label)
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
        found = [self.place(v) for v in (a, b)]
        if found[0] is None or found[1] is None:
            return None
        p, q = sorted((p for p in found if p), key=lambda p: self._labels.index(p.owner))
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
        biases = {p.var: p for p in self.trace.parameters.values() if p.kind == "bias"}
        tracing = iter(zip(self.trace.ends, self._labels, strict=True))
        end, label = next(tracing)
        for n, (var, op) in enumerate(self.trace.program):
            while n >= end:
                end, label = next(tracing)
            operands = [v for v in op.operands if v.kind == "vector"]
            times = [t for v in operands if (t := self._time.get(v)) is not None]
            self._time[var] = max(times, default=None)
            self._reach[var] = max((self._reach[v] for v in operands), default=0) + isinstance(op, MatMul)
            if operands:
                owners = [o for v in operands if (o := self._owner.get(v))]
                self._owner[var] = owners[-1] if owners else label
            if var in self.trace.embeddings:
                self._place_embedding(var, has_layers)
            elif var in self.trace.states:
                self._owner[var], self._depth[var] = label, None if self._timed else 0
            elif var in biases:
                self._depth[var] = next(iter(biases[var].indices), None if self._timed else 0)
            elif isinstance(op, MatMul):
                self._depth[var] = self._matmul_depth(var, op, uses)
            elif isinstance(op, (Nonlin, Mix, Weigh)):
                placed = [v for v in operands if v in self._depth and v in self._owner]
                if placed:
                    self._depth[var] = self._depth[max(reversed(placed), key=self._computed)]

    def _computed(self, var: Var) -> tuple[int, bool]:
        """How far from the start a vector is: matrices, and whether anything was done to it at all."""
        return self._reach[var], not isinstance(self.trace.program.op(var), InitVector)

    def _place_embedding(self, var: Var, has_layers: bool) -> None:
        name, datum = self.trace.embeddings[var]
        self._time[var], self._owner[var] = datum.time, self._labels[datum.owner]
        indices = self.trace.parameters[name].indices
        self._depth[var] = indices[0] if indices else 1 if has_layers or datum.time is None else None

    def _matmul_depth(self, var: Var, op: MatMul, uses: dict[tuple[Var, str], int]) -> int | None:
        if self._layers.get(op.matrix) is not None:
            return self._layers[op.matrix]
        if self._timed:
            return None
        key = (op.matrix, self._owner.get(var, ""))
        uses[key] = uses.get(key, 1) + 1
        return uses[key]

    def place(self, var: Var) -> Place | None:
        """Where a vector stands, or what it is the gradient of; a bias is shared, its gradients are not."""
        primal = self.primal.get(var, var)
        owner = self._owner.get(primal, self._owner.get(var))
        if owner is None or primal not in self._depth:
            return None
        return Place(self._depth[primal], self._time[primal], owner)


class EveryName(NetworkNames):
    """The same names, also for what is too short to need one: every layer then has its own Π and E."""

    def bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        """Whether p stays as it is: what has no place, and forward moments that are one atom."""
        identity = self.identity(kind, a, b)
        if kind == "theta" and self.trace.batched and identity is not None:
            return False
        if kind not in ("cov", "moment") or identity is None or {a, b} <= self.trace.states.keys():
            return simple(p, atoms=kind != "cov")
        gens = [g for m in p.terms for g, _ in m]
        atom = list(p.terms.values()) == [1] and (all(isinstance(g, (Expect, Batched)) for g in gens) or summed(p))
        return not p or (identity[0] == HEADS["moment"][0] and atom)

    def identity(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, Place, Place] | None:
        """What tells apart quantities of equal definition: letter and places."""
        places = None if a is None or b is None else self.places(a, b)
        return None if places is None or a is None or b is None else (self.head(kind, a, b)[0], *places)


def _tex(var: Var) -> str:
    return sp.latex(sp.Symbol(var.name)) if var.name.isidentifier() else var.name.replace("_", r"\_")
