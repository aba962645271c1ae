"""What is drawn: the reduced program of a network, of its backward pass or of a training run, in bands."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import sympy as sp

from tensorprog.ceilings import check_ceiling
from tensorprog.dsl.network import Network, check_called, refuse_lengths
from tensorprog.dsl.trace import Output, Trace
from tensorprog.errors import ProgramError, shortly
from tensorprog.given import MANY, flag
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitMatrix, InitScalar, InitVector, MatMul, Nonlin, Var
from tensorprog.passes.backprop import backprop as with_backprop
from tensorprog.passes.canonicalize import canonicalize
from tensorprog.report.extents import convolved
from tensorprog.report.labels import Labels, shown, subscript
from tensorprog.sgd.training import Training


@dataclass(frozen=True)
class Head:
    """A drawn output f = Σ std·v·x/√n + Σ std·c: no instruction, since f has no deterministic limit."""

    terms: tuple[tuple[sp.Expr, Var, Var, bool], ...]  # std, v, x, and whether every position has its own v
    biases: tuple[tuple[str, sp.Expr], ...] = ()

    @property
    def operands(self) -> tuple[Var, ...]:
        return tuple(dict.fromkeys(u for _, v, x, _ in self.terms for u in (v, x)))


@dataclass
class Subject:
    """A program to draw.

    Attributes:
        title: what it is.
        program: the program.
        drawn: its vectors and scalars that are drawn, in order; initial scalars stand at their readers.
        band: of each variable: even numbers run forward, odd ones backward.
        captions: of the bands.
        kept: the drawn variable of each variable of the program that it was made from.
        trace: of a network.
        alias: of the identities of a network, which are not drawn, what they are copies of.
        heads: the outputs of a network, which are drawn but are no instructions.
        names: how the drawn variables are called in the picture.
        labels: of a network, the names of all its variables.
    """

    title: str
    program: ProgramGraph
    drawn: list[Var] = field(default_factory=list)
    band: dict[Var, int] = field(default_factory=dict)
    captions: dict[int, str] = field(default_factory=dict)
    kept: dict[Var, Var] = field(default_factory=dict)
    trace: Trace | None = None
    alias: dict[Var, Var] = field(default_factory=dict)
    heads: dict[Var, Head] = field(default_factory=dict)
    names: dict[Var, str] = field(default_factory=dict)
    labels: Labels | None = None

    def op(self, var: Var) -> Any:
        """The instruction of a variable, or the head of an output."""
        return self.heads[var] if var in self.heads else self.program.op(var)

    def name(self, var: Var) -> str:
        """How a variable is called in the picture; copies as what they are copies of."""
        var = self.alias.get(var, var)
        return self.names.get(var) or shown(var.name)

    def matrix(self, op: MatMul) -> str:
        """W², Wᵀ."""
        name = self.labels.matrix(op) if self.labels else shown(op.matrix.name) + ("ᵀ" if op.transpose else "")
        return convolved(name, op)

    def inputs(self, var: Var) -> tuple[Var, ...]:
        """The drawn variables that edges to ``var`` come from, each once."""
        read = [self.alias.get(v, v) for v in self.op(var).operands]
        return tuple(dict.fromkeys(v for v in read if not isinstance(self.program.op(v), InitMatrix | InitScalar)))


def subject(
    what: Any,
    *,
    backprop: bool = False,
    lengths: Sequence[int] | None = None,
    inputs: int = 1,
    reduced: bool | None = None,
) -> Subject:
    """The program of what ``tp.draw`` was given.

    Args:
        what: a program, drawn as it is written; a network or ``tp.unroll(..)``.
        reduced: in reduced form (TP2b Def. 5.4) or as written; None: reduced where there are no skip connections.
        backprop: with the backward pass, for a network.
        lengths: of sequences, one for each input.
        inputs: number of inputs of a network that takes single vectors.

    Raises:
        ProgramError: something else, or options that do not apply to it.
    """
    check_called(what)
    backprop = flag(backprop, "backprop")
    reduced = None if reduced is None else flag(reduced, "reduced")
    if isinstance(what, Network):
        return _of_network(what, backprop, lengths, inputs, reduced)
    if backprop or lengths is not None or not (isinstance(inputs, int) and inputs == 1):
        raise ProgramError("backprop, lengths and inputs are for drawings of a network; programs are drawn as they are")
    if isinstance(what, Training):
        return _of_training(what, reduced)
    if isinstance(what, ProgramGraph) and not reduced:
        s = Subject("program", what, kept={v: v for v, _ in what})
        return _finish(s, [v for v, _ in what])
    if isinstance(what, ProgramGraph):
        raise ProgramError("programs are drawn as they are; draw tp.canonicalize(program)[0] for the reduced form")
    raise ProgramError(f"draw takes a program, a network or tp.unroll(..), got {type(what).__name__} {shortly(what)}")


def _of_network(
    net: Network, backprop: bool, lengths: Sequence[int] | None, inputs: int, reduced: bool | None
) -> Subject:
    if isinstance(inputs, bool) or not isinstance(inputs, int) or not 1 <= inputs <= MANY:
        raise ProgramError(f"inputs must be a positive integer, got {shortly(inputs)}")
    if net.takes_sequences:
        given = lengths if isinstance(lengths, Sequence | None) else ()
        chosen: Sequence[int | None] = [net.fitting_length(4)] * inputs if given is None else list(given)
        if not chosen or not all(isinstance(t, int) and t >= 1 for t in chosen):
            raise ProgramError(f"lengths must be positive integers, one for each input, got {shortly(lengths)}")
    elif lengths is not None:
        refuse_lengths(net, f"lengths={lengths!r}")
    else:
        chosen = [None] * inputs
    check_ceiling(
        "drawn", sum(t or 1 for t in chosen), f"{net!r} on inputs of {sum(t or 1 for t in chosen)} vectors in all"
    )
    trace = net.trace(chosen)
    program, gradients = with_backprop(trace) if backprop else (trace.program, [])
    backward = [d for g in gradients for ds in g.of.values() for d in ds]
    s = _of_trace(f"{net!r}" + (", forward and backward" if backprop else ""), program, trace, reduced)
    _bands(s, [[s.kept[v] for v in backward]] if backprop else [], {})
    if backprop:
        s.captions = {0: "forward", 1: "backward"}
    s.labels = Labels(trace, gradients)
    roots = [s.kept[v] for v in backward]
    for data, heads in zip(trace.inputs, trace.heads, strict=True):
        roots += [_head(s, f, data[0].label, () if len(heads) == 1 else (k,)) for k, f in enumerate(heads, 1)]
    return _finish(s, roots)


def _head(s: Subject, f: Output, label: str, number: tuple[int, ...]) -> Var:
    """Add an output to what is drawn."""
    name = f"f{subscript(number)}({shown(label)})"
    while name in s.program:
        name += "'"
    var = Var(name, "scalar")
    terms = ((r.std, s.kept[r.v], s.kept[r.x], r.by is not None) for r in f.readouts)
    s.heads[var] = Head(tuple((std, s.alias.get(v, v), s.alias.get(x, x), by) for std, v, x, by in terms), f.biases)
    s.band[var] = 0
    return var


def _of_training(run: Training, reduced: bool | None) -> Subject:
    u = run._unrolled
    steps = run.plan.steps
    s = _of_trace(f"{steps} step{'s' * (steps > 1)} of SGD of {run.net!r}", u.program, u.trace, reduced)
    backward = [[s.kept[d] for (t, *_), g in u.gradients.items() if t == step for ds in g.of.values() for d in ds]
                for step in range(steps)]  # fmt: skip
    moved = [(t, v) for (t, _), v in (*u.delta.items(), *u.state.items(), *u.base.items()) if v is not None]
    _bands(s, backward, {s.kept[v]: 2 * t for t, v in moved if v not in u.trace.program})
    s.captions = {2 * t: f"forward, t = {t}" for t in range(steps + 1)}
    s.captions |= {2 * t + 1: f"backward, t = {t}" for t in range(steps)}
    s.labels = Labels(u.trace)
    for (t, *_), g in u.gradients.items():
        s.labels.gradient(g, (t,))
    s.labels.moved(u.delta, "δ")
    s.labels.moved(u.state, "")
    s.labels.outputs({v: (t, u.trace.inputs[i][0].label) for (t, i, _), v in u.f.items()})
    return _finish(s, [s.kept[v] for v in u.f.values() if not isinstance(u.program.op(v), InitScalar)])


def _of_trace(title: str, program: ProgramGraph, trace: Trace, reduced: bool | None) -> Subject:
    if reduced is None:
        reduced = not _has_skips(trace.program)
    chosen, kept = canonicalize(program) if reduced else (program, {v: v for v, _ in program})
    s = Subject(title, chosen, kept=kept, trace=trace)
    for var, op in chosen:
        if isinstance(op, Nonlin) and len(op.args) == 1 and op.body.is_Symbol and not op.params:
            s.alias[var] = s.alias.get(op.args[0], op.args[0])  # what reads an identity reads what it copies
    return s


def _has_skips(program: ProgramGraph) -> bool:
    """Whether a sum, say, is read by several Nonlins: reduced, each of them would read all that is summed."""
    readers: Counter[Var] = Counter()
    for _, op in program:
        if isinstance(op, Nonlin):
            readers.update(v for v in set(op.args) if isinstance(program.op(v), Nonlin))
    return any(count > 1 for count in readers.values())


def _bands(s: Subject, backward: list[list[Var]], least: dict[Var, int]) -> None:
    """Band 2t + 1 is the backward pass at time t: its gradients and what lies between them.

    What reads it is at a later time; ``least`` gives the times of what moves without reading it.
    """
    graph = s.program.graph
    own: dict[Var, int] = {}
    for t, gradients in enumerate(backward):
        before, after = _closure(graph.reverse(copy=False), gradients), _closure(graph, gradients)
        own |= dict.fromkeys(set(gradients) | (before & after), 2 * t + 1)
    for var, op in s.program:
        reached = max((s.band.get(v, 0) for v in op.operands), default=0)
        s.band[var] = own.get(var, max(reached + reached % 2, least.get(var, 0)))


def _closure(graph: nx.MultiDiGraph, starts: Iterable[Var]) -> set[Var]:
    """All that is reached from the starts by at least one edge."""
    found: set[Var] = set()
    todo = list(starts)
    while todo:
        new = [v for v in graph.successors(todo.pop()) if v not in found]
        found.update(new)
        todo.extend(new)
    return found


def _finish(s: Subject, roots: Iterable[Var]) -> Subject:
    """Keep what the roots depend on; initial vectors go where they are read first."""
    needed: set[Var] = set()
    todo = list(roots)
    while todo:
        var = todo.pop()
        if var not in needed:
            needed.add(var)
            todo.extend(s.inputs(var))
    readers: dict[Var, list[int]] = {}
    read = {v for u in needed for v in s.op(u).operands}
    for var, op in [*s.program, *s.heads.items()]:
        hidden = isinstance(op, InitMatrix) or (isinstance(op, InitScalar) and var in read)
        if var in needed and not hidden:
            s.drawn.append(var)
            for v in s.inputs(var):
                readers.setdefault(v, []).append(s.band.get(var, 0))
    for var in s.drawn:
        if isinstance(s.op(var), InitVector):
            s.band[var] = min(readers.get(var, [0]))
    check_ceiling("drawn", len(s.drawn), f"{s.title} has {len(s.drawn)} vectors and scalars")
    if not s.drawn:
        raise ProgramError(f"{s.title} has no vectors or scalars to draw")
    _name(s)
    return s


def _name(s: Subject) -> None:
    """The names in the picture: those of papers for a network, their own for a program."""
    if s.labels is None:
        s.names = {v: shown(v.name) for v in s.drawn}
        return
    original: dict[Var, Var] = {}
    for var, kept in s.kept.items():
        original.setdefault(kept, var)
    s.names = s.labels.drawn({v: s.op(v) for v in s.drawn}, original)
