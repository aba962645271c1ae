"""Names of drawn vectors as papers write them: h² before φ and x² = φ(h²) in layer 2, W²x¹, dh², δx²₁, f(x)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import sympy as sp

from tensorprog.derivation.names import NetworkNames
from tensorprog.dsl.trace import Trace
from tensorprog.ir.instructions import Difference, MatMul, Mix, Moment, Nonlin, Slot, Var
from tensorprog.passes.backprop import Gradients
from tensorprog.printing import text
from tensorprog.report.extents import extent

_SUPER = str.maketrans("0123456789,", "⁰¹²³⁴⁵⁶⁷⁸⁹ʼ")
_SUB = str.maketrans("0123456789,", "₀₁₂₃₄₅₆₇₈₉‚")
PRE, POST, PRODUCT, OTHER = range(4)  # roles; of several vectors with one gradient the first names it


def superscript(indices: Iterable[int]) -> str:
    """Indices above, as in h^{2,3}.

    >>> superscript([2, 13])
    '²ʼ¹³'
    """
    return ",".join(map(str, indices)).translate(_SUPER)


def subscript(indices: Iterable[int]) -> str:
    """Indices below.

    >>> subscript([12])
    '₁₂'
    """
    return ",".join(map(str, indices)).translate(_SUB)


def shown(name: str) -> str:
    """A variable's name where it has no other: running numbers become indices, θ of training loses its own.

    >>> shown("W(x)_12"), shown("t_33"), shown("W2(x)"), shown("θ21"), shown("ξ0"), shown("U(x12)")
    ('W(x)₁₂', 't₃₃', 'W2(x)', 'θ', 'ξ₀', 'U(x₁₂)')
    """
    name = re.sub(r"^θ\d+$", "θ", name)
    name = re.sub(r"(?<![^\W\d_])([ξχ]|f̂|(?<=\()[xξ]'*)(\d+)(?!\w)", lambda m: m[1] + m[2].translate(_SUB), name)
    return re.sub(r"_(\d+)(?=$|@)", lambda m: m[1].translate(_SUB), name)


def indexed(line: str) -> str:
    """Inner products of data with indices below.

    >>> indexed("2·⟨x1,x'12⟩")
    "2·⟨x₁,x'₁₂⟩"
    """
    return re.sub(r"⟨[^⟩]*⟩", lambda m: re.sub(r"\d+", lambda d: d[0].translate(_SUB), m[0]), line)


@dataclass(frozen=True)
class Label:
    """A name in parts: prefix, stem, indices above and below, and the input it belongs to."""

    stem: str
    upper: tuple[int, ...] = ()
    lower: tuple[int, ...] = ()
    owner: str = ""
    prefix: str = ""
    role: int = OTHER

    def __str__(self) -> str:
        stem = f"({self.stem})" if self.prefix and self.role == PRODUCT else self.stem
        return f"{self.prefix}{stem}{superscript(self.upper)}{subscript(self.lower)}{self.owner}"


class Labels:
    """The labels of the variables of a network, of its gradients and of its training.

    Args:
        trace: the network.
        gradients: those of its outputs that are drawn.
    """

    def __init__(self, trace: Trace, gradients: Sequence[Gradients] = ()) -> None:
        self.trace = trace
        self.of: dict[Var, Label] = {}
        self._names = NetworkNames(trace, list(gradients))
        self._single = len(trace.inputs) == 1
        self._parameter = {
            p.var: Label(self.parameter(name)) for name, p in trace.parameters.items() if p.var is not None
        }
        self._copied: dict[Var, Var] = {}
        self._read()
        for var, op in trace.program:
            self.of[var] = self._forward(var, op)
        for g in gradients:
            self.gradient(g)

    # ---- forward -----------------------------------------------------------------------------------

    def _read(self) -> None:
        """What a φ reads alone, and what is read by sums or together with others."""
        self._pre: set[Var] = set()
        self._parts: set[Var] = set()
        for var, op in self.trace.program:
            if not isinstance(op, Nonlin):
                continue
            read = {self._copied.get(v, v) for v in op.args}
            if isinstance(op.body, Slot) and not op.params:
                self._copied[var] = next(iter(read))
            elif len(read) == 1 and not _linear(op.body):
                self._pre |= read
            else:
                self._parts |= read

    def _forward(self, var: Var, op: object) -> Label:
        if var in self._copied:
            return self.of[self._copied[var]]
        if var in self._parameter:
            return self._parameter[var]
        if var in self.trace.states:
            return self._state(var)
        if var in self.trace.embeddings or isinstance(op, MatMul):
            if var in self._pre or var not in self._parts:
                return self._placed("h", var, PRE)
            return self.product(op) if isinstance(op, MatMul) else self.embedded(var)
        if isinstance(op, Nonlin):
            factor = multiple(op)
            if factor is not None and var not in self._pre:
                return Label(f"{_bracketed(text(factor))}·{self.of[op.args[0]]}", role=PRODUCT)
            before = var in self._pre and _linear(op.body)
            return self._placed("h" if before else "x", var, PRE if before else POST)
        if isinstance(op, Mix):
            return self._placed("x\u0304", var, POST)
        return Label("1" if var.name == "ones" else shown(var.name))

    def _placed(self, stem: str, var: Var, role: int) -> Label:
        place = self._names.place(var)
        if place is None:
            return Label(stem, role=role)
        indices = tuple(i for i in (place.layer, place.time) if i is not None)
        return Label(stem, indices, (), self.owner(place.owner), role=role)

    def _state(self, var: Var) -> Label:
        """x^{l,0}: an initial state, in the layer of the first matrix that reads it."""
        readers = (self._names.place(v) for v, op in self.trace.program if isinstance(op, MatMul) and op.x == var)
        place = next((p for p in readers if p is not None), None)
        layer = () if place is None or place.layer is None else (place.layer,)
        return Label("x", (*layer, 0), (), "" if place is None else self.owner(place.owner), role=POST)

    def owner(self, label: str) -> str:
        """(x') behind what belongs to one of several inputs."""
        return "" if self._single else f"({shown(label)})"

    def embedded(self, var: Var) -> Label:
        """U(x), U(x₃)."""
        name, datum = self.trace.embeddings[var]
        of_part = datum.part is not None
        time = "" if of_part or datum.time is None else subscript([datum.time])
        who = str(replace(datum, by=None, mixes=())) if of_part else datum.label
        by = "" if datum.by is None else f" ∗ {extent(datum.by.map)} "
        return Label(f"{self.parameter(name)}{by}({shown(who)}{time})", role=PRODUCT)

    def parameter(self, name: str) -> str:
        """W² for the parameter ("W", 2)."""
        key = self.trace.parameters[name].key
        return key if isinstance(key, str) else key[0] + superscript(key[1:])

    def matrix(self, op: MatMul) -> str:
        """W², W²ᵀ."""
        return str(self._parameter.get(op.matrix, shown(op.matrix.name))) + ("ᵀ" if op.transpose else "")

    def product(self, op: MatMul) -> Label:
        """W²x¹; W²(..) where it is a product again."""
        x = self.of.get(op.x, Label(shown(op.x.name)))
        return Label(f"{self.matrix(op)}{'(..)' if x.role == PRODUCT and not x.prefix else x}", role=PRODUCT)

    @property
    def indices(self) -> tuple[str, ...] | None:
        """Which of layer l and time t stand above the names of vectors; None where no φ makes any."""
        if not any(v.role == POST for v in self.of.values()):
            return None
        count = max((len(v.upper) for v in self.of.values() if v.role in (PRE, POST)), default=0)
        timed = any(d.time is not None and d.part is None for data in self.trace.inputs for d in data)
        return ((), ("t",) if timed else ("l",), ("l", "t"))[count]

    # ---- backward and in time ------------------------------------------------------------------------

    def gradient(self, g: Gradients, time: tuple[int, ...] = ()) -> None:
        """Name the gradients of one output dh², dx²: a vector with one of its own names it."""
        best: dict[Var, Label] = {}
        for v, ds in g.of.items():
            for d in ds:
                if d not in self.of and (d not in best or self.of[v].role < best[d].role):
                    best[d] = self.of[v]
        self.of |= {d: replace(label, prefix="d", lower=(*label.lower, *time)) for d, label in best.items()}

    def moved(self, changes: Mapping[tuple[int, Var], Var | None], prefix: str) -> None:
        """Name changes δx²₁, or values x²₁, of variables at a step of training."""
        for (t, var), value in changes.items():
            if value is not None and value not in self.of:
                self.of[value] = replace(self.of[var], prefix=prefix, lower=(t,))

    def outputs(self, known: Mapping[Var, tuple[int, str]]) -> None:
        """Name outputs f₁(x) at a step of training."""
        self.of |= {v: Label("f", (), (t,), f"({shown(label)})") for v, (t, label) in known.items()}

    # ---- all that is drawn ---------------------------------------------------------------------------

    def drawn(self, ops: Mapping[Var, object], original: Mapping[Var, Var]) -> dict[Var, str]:
        """A name for each variable, no two the same: equal ones are numbered below, gradients as their vectors.

        Args:
            ops: the drawn variables with their instructions, in order.
            original: of those that a pass made from a variable of the network, that variable.
        """
        found: dict[Var, Label] = {}
        for var, op in ops.items():
            old = original.get(var, var)
            label = self.of.get(old)
            if label is None and isinstance(op, MatMul):
                label = self.product(op)
            found[var] = self.of[var] = label or Label(shown(var.name))
        counts = Counter(map(str, found.values()))
        seen: Counter[str] = Counter()
        for var, label in found.items():
            if counts[name := str(label)] > 1:
                seen[name] += 1
                backwards = name.startswith("d") and counts[name[1:]] == counts[name]  # gradients come last first
                number = counts[name] + 1 - seen[name] if backwards else seen[name]
                numbered = replace(label, lower=(number, *label.lower))
                while str(numbered) in counts:  # the name of a value after as many steps of training
                    number += counts[name]
                    numbered = replace(label, lower=(number, *label.lower))
                found[var] = numbered
        return {var: str(label) for var, label in found.items()}


def multiple(op: Nonlin | Moment | Difference) -> sp.Expr | None:
    """c where an instruction is c·x for a vector x and a c that reads none."""
    factors = sp.Mul.make_args(op.body)
    fixed = [f for f in factors if not f.atoms(Slot)]
    return (
        sp.Mul(*fixed) if len(op.args) == 1 and len(fixed) == len(factors) - 1 and fixed and _linear(op.body) else None
    )


def _bracketed(factor: str) -> str:
    return factor if re.fullmatch(r"\w+", factor) else f"({factor})"


def _linear(e: sp.Expr) -> bool:
    """Whether a body is linear in its vectors."""
    if not _vectors(e):
        return True
    if e.is_Add:
        return all(_linear(a) for a in e.args)
    if e.is_Mul:
        dependent = [a for a in e.args if _vectors(a)]
        return len(dependent) == 1 and _linear(dependent[0])
    return isinstance(e, Slot)


def _vectors(e: sp.Expr) -> set[Slot]:
    return {s for s in e.atoms(Slot) if s.name.startswith("x")}
