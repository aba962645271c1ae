"""Printed names of a network's limit: Σ, Π with layer, time and input indices."""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

import sympy as sp

from tensorprog.algebra import Apply, Poly
from tensorprog.dsl.trace import Trace
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.instructions import InitVector, MatMul, Mix, Nonlin, Var, Weigh
from tensorprog.limit.equations import HEADS, simple, summed
from tensorprog.limit.positions import At, Batched, Causal, Rows
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
    so that the input may enter at every layer. Its time is that of the last datum it depends on.  Where a layer has
    several matrices, theirs have indices below: Σ_i^(l), Σ_f^(l) of Wi and Wf; so have vectors and scalars that layers
    gave names to.
    """

    def __init__(self, trace: Trace, gradients: list[Gradients]) -> None:
        self.trace = trace
        self.primal: dict[Var, Var] = {}
        self._time: dict[Var, int | None] = {}
        self._owner: dict[Var, str] = {}
        self._depth: dict[Var, int | None] = {}
        self._reach: dict[Var, int] = {}  # the most matrices on a path to a vector
        self._labels = [data[0].label for data in trace.inputs]
        self._apart = _by_their_own_matrices(trace)
        self._timed = not self._apart and any(d.time is not None for data in trace.inputs for d in data)
        matrices = [p for p in trace.parameters.values() if p.kind == "matrix"]
        self._layers = {p.var: next(iter(p.indices), None) for p in matrices}
        self._stems = {p.var: stem_of(p.key) for p in trace.parameters.values()}
        self._embedded = {name: stem_of(p.key) for name, p in trace.parameters.items() if p.kind == "embedding"}
        sharing = defaultdict(set)
        first = 1 if any(p.indices for p in trace.parameters.values()) or not self._timed else None
        for p in trace.parameters.values():
            if p.kind in ("matrix", "embedding"):
                sharing[next(iter(p.indices), None if p.kind == "matrix" else first)].add(stem_of(p.key))
        self._crowded = {layer for layer, stems in sharing.items() if len(stems) > 1}
        self._below: dict[Var, str] = {}  # the letters of a pre-activation, or of a vector that a layer named
        for label, g in zip(self._labels, gradients, strict=False):
            for var, ds in g.of.items():  # the pre-activation comes before the G-vars and biases it sums
                for d in ds:
                    self.primal.setdefault(d, var)
                    self._owner.setdefault(d, label)
        self._scan()

    def __call__(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, str] | None:
        if kind == "value" and a is not None:
            return a.name, self._called(a)
        if a is None or b is None:
            return None
        head, tex = self.head(kind, a, b)
        places = self.places(a, b)
        if places is None or (a in self.primal) != (b in self.primal):
            return f"{head}({a},{b})", rf"{tex}({_tex(a)},{_tex(b)})"
        if head == "Π":
            head, tex = self._with_letters(head, tex, a, b)
        own = self._own_index(a)
        return self._indexed(head, tex, *places, own if own == self._own_index(b) else None)

    def _called(self, a: Var) -> str:
        """A scalar in LaTeX."""
        known = self.trace.called.get(a.name)
        if known is None:
            return rf"\mathring{{{a.name}}}".replace("_", r"\_")
        stem, index = known
        above = f"^{{({','.join(map(str, index))})}}" if index else ""
        return f"{stem}{above}({self._owner[a]})"

    def _letters(self, a: Var) -> str:
        """What stands below the letter of a quantity: '' where its layer has one matrix."""
        a = self.primal.get(a, a)
        return self._below.get(a, "") if a.name in self.trace.called or self._depth.get(a) in self._crowded else ""

    def _own_index(self, a: Var) -> tuple[int, ...] | None:
        """The index of what a layer named."""
        known = self.trace.called.get(self.primal.get(a, a).name)
        return None if known is None else known[1]

    def head(self, kind: str, a: Var, b: Var) -> tuple[str, str]:
        """The letter of a quantity about two vectors, as text and LaTeX; Π when both are gradients."""
        if kind == "moment" and a in self.primal and b in self.primal:
            return "Π", r"\Pi"
        return self._with_letters(*HEADS[kind], a, b) if kind in ("cov", "moment", "sums") else HEADS[kind]

    def _with_letters(self, head: str, tex: str, a: Var, b: Var) -> tuple[str, str]:
        """Σ_i of two vectors of one gate."""
        below = self._letters(a)
        if not below or below != self._letters(b):
            return head, tex
        return f"{head}_{below}", f"{tex}_{{{below if len(below) == 1 else upright(below)}}}"

    def places(self, a: Var, b: Var) -> tuple[Place, Place] | None:
        """Where two vectors, or what they are gradients of, stand; in the order of the inputs."""
        found = [self.place(v) for v in (a, b)]
        if found[0] is None or found[1] is None:
            return None
        p, q = sorted((p for p in found if p), key=lambda p: self._labels.index(p.owner))
        return p, q

    def _indexed(self, head: str, tex: str, p: Place, q: Place, own: tuple[int, ...] | None = None) -> tuple[str, str]:
        layers = [] if p.layer is None else [p.layer] if p.layer == q.layer else [p.layer, q.layer]
        layers = layers if own is None else [*own]
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
            if var.name in self.trace.called:
                self._owner[var], self._below[var] = label, self.trace.called[var.name][0]
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
                self._depth[var], self._below[var] = self._matmul_depth(var, op, uses), self._stems[op.matrix]
            elif isinstance(op, (Nonlin, Mix, Weigh)):
                placed = [v for v in operands if v in self._depth and v in self._owner]
                if placed:
                    latest = max(reversed(placed), key=self._computed)
                    self._depth[var] = self._depth[latest]
                    self._below.setdefault(var, self._below.get(latest, ""))

    def _computed(self, var: Var) -> tuple[int, bool]:
        """How far from the start a vector is: matrices, and whether anything was done to it at all."""
        return self._reach[var], not isinstance(self.trace.program.op(var), InitVector)

    def _place_embedding(self, var: Var, has_layers: bool) -> None:
        name, datum = self.trace.embeddings[var]
        self._time[var], self._owner[var] = None if self._apart else datum.time, self._labels[datum.owner]
        self._below[var] = self._embedded[name]
        indices = self.trace.parameters[name].indices
        self._depth[var] = indices[0] if indices else 1 if has_layers or self._time[var] is None else None

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

    def bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        """Whether p needs no name: what is simple, and functions of single scalars and their sums, as in softmax."""
        if kind == "cov":  # of u and -v is -Σ
            return simple(p, atoms=False) or simple(p.scale(-1), atoms=False)
        return simple(p, atoms=True) or (kind == "value" and _plain(p))


def _by_their_own_matrices(trace: Trace) -> bool:
    """Whether the inputs are named arrays, each embedded by matrices of its own, whose letters tell them apart."""
    read: dict[str, set[str | None]] = {}
    for name, datum in trace.embeddings.values():
        read.setdefault(name, set()).add(datum.part)
    return all(len(parts) == 1 and None not in parts for parts in read.values()) and bool(read)


def _plain(p: Poly) -> bool:
    """A product of functions of one name each, of masks, and a sum of such over positions."""
    if len(p.terms) != 1:
        return False
    (mono, c), *_ = p.terms.items()
    return c == 1 and all(e == 1 and _is_plain(g) for g, e in mono)


def _is_plain(g: object) -> bool:
    if isinstance(g, Rows | At):
        return _plain(g.inner) or simple(g.inner, atoms=False)
    return isinstance(g, Causal) or (isinstance(g, Apply) and g.level == 1 and all(simple(a, False) for a in g.args))


def stem_of(key: object) -> str:
    """The letters of a parameter's key without a leading W or U, and without a time: i of "Wi" and "Ui_3", '' of "W".

    >>> stem_of("Wi"), stem_of(("W_u", 2)), stem_of(("W", 2)), stem_of("Aq"), stem_of("UGr_3")
    ('i', 'u', '', 'Aq', 'Gr')
    """
    stem = re.sub(r"_\d+$", "", str(key[0] if isinstance(key, tuple) else key))
    return stem[1:].lstrip("_") if stem[:1] in ("W", "U") else stem


class EveryName(NetworkNames):
    """The same names, also for what is too short to need one: every layer then has its own Π and E."""

    def bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        """Whether p stays as it is: what has no place, and forward moments that are one atom."""
        identity = self.identity(kind, a, b)
        if kind == "theta" and self.trace.batched and identity is not None:
            return False
        if kind not in ("cov", "moment") or identity is None or {a, b} <= self.trace.states.keys():
            return super().bare(p, kind, a, b)
        gens = [g for m in p.terms for g, _ in m]
        atom = list(p.terms.values()) == [1] and (all(isinstance(g, (Expect, Batched)) for g in gens) or summed(p))
        return not p or (identity[0].partition("_")[0] == HEADS["moment"][0] and atom)

    def identity(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, Place, Place] | None:
        """What tells apart quantities of equal definition: letter and places."""
        places = None if a is None or b is None else self.places(a, b)
        return None if places is None or a is None or b is None else (self.head(kind, a, b)[0], *places)


def upright(letters: str) -> str:
    """Several letters that are one index, in LaTeX."""
    return rf"\mathrm{{{letters}}}"


def _tex(var: Var) -> str:
    return sp.latex(sp.Symbol(var.name)) if var.name.isidentifier() else var.name.replace("_", r"\_")
