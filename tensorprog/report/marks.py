"""Paths through a drawn program (TP2b Def. 5.5): found by ``kernels.paths``, named by their vectors and matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tensorprog.derivation.names import NetworkNames
from tensorprog.derivation.paths import PathSum, paths
from tensorprog.errors import ProgramError, nearest, shortly
from tensorprog.ir.instructions import MatMul, Nonlin, Var
from tensorprog.limit.master import Interpreter
from tensorprog.report.subject import Subject

MOST = 2000


@dataclass(frozen=True)
class ProgramPath:
    """A path to the output: X-var → G-var → X-var → ..; ``links[k]`` says how vector k + 1 comes from vector k.

    Links are the matrices of MatMuls, "" for gates, and "Ż" where the tangent runs along a correction Ż.
    ``parameter`` is what the path starts with; ``start``, ``names`` and ``labels`` are how the picture calls it, the
    vectors and the links.
    """

    parameter: str
    vectors: tuple[Var, ...]
    links: tuple[str, ...]
    start: str
    names: tuple[str, ...]
    labels: tuple[str, ...]

    @property
    def matrices(self) -> tuple[str, ...]:
        """The matrices along it."""
        return tuple(link for link in self.links if link not in ("", "Ż"))

    def isomorphic(self, other: ProgramPath) -> bool:
        """p ≅ q: equally long, with the same parameter at the start and the same matrices."""
        return (self.parameter, self.matrices) == (other.parameter, other.matrices)

    def __len__(self) -> int:
        return len(self.vectors)

    def __str__(self) -> str:
        steps = (f" —{link}→ {name}" if link else f" → {name}"
                 for link, name in zip(self.labels, self.names[1:], strict=True))  # fmt: skip
        return self.names[0] + "".join(steps)


def choose(s: Subject, path: Any) -> list[ProgramPath]:
    """The paths that ``tp.draw`` was asked for: p, and q where there is one.

    Raises:
        ProgramError: no network, an unknown parameter, or no such path.
    """
    if path is None:
        return []
    if s.trace is None:
        raise ProgramError("paths are drawn through networks, from a parameter to the output; use highlight=[names]")
    if s.trace.program.has_axes:
        raise ProgramError("paths are drawn through vectors without positions; use highlight=[names] for this network")
    last = len(s.trace.outputs) - 1
    if isinstance(path, list):
        if len(path) != 2:
            raise ProgramError(f"a pair of paths is a list of two, such as ['W2', ('W3', 1)]; got {shortly(path)}")
        return [_number(_found(s, wanted, i), wanted) for wanted, i in zip(path, (0, last), strict=True)]
    first = _found(s, path, 0)
    chosen = [_number(first, path)] if isinstance(path, tuple) else first
    others = [q for i in range(1, last + 1) for q in _found(s, path, i)]
    return next(([p, q] for p in chosen for q in others if p.isomorphic(q)), chosen[:1])


def _found(s: Subject, wanted: Any, i: int) -> list[ProgramPath]:
    """All paths from the parameter that is wanted, "W2" or ("W2", number), to output i."""
    assert s.trace is not None
    if isinstance(wanted, tuple) and len(wanted) != 2:
        raise ProgramError(f"a path is asked for as 'W2' or ('W2', number), got {shortly(wanted)}")
    name = wanted[0] if isinstance(wanted, tuple) else wanted
    parameters = [n for n, kind in s.trace.trainable.items() if kind in ("matrix", "embedding", "bias")]
    if not isinstance(name, str) or name not in parameters:
        raise ProgramError(f"no paths start at {shortly(name)}: they start at a matrix, embedding or bias; "
                           f"{nearest(name, parameters)}")  # fmt: skip
    found = _all(s, name, i)
    if not found:
        raise ProgramError(f"no path from {name} is drawn: nothing that is drawn depends on it by a derivative")
    return found


def _number(found: list[ProgramPath], wanted: Any) -> ProgramPath:
    name, number = wanted if isinstance(wanted, tuple) else (wanted, 0)
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(found):
        raise ProgramError(
            f"there is no path {shortly(number)} from {name}: there are {len(found)}, from 0, longest first"
        )
    return found[number]


def _all(s: Subject, parameter: str, i: int) -> list[ProgramPath]:
    """The paths from a parameter to output i, the longest first."""
    trace = s.trace
    assert trace is not None
    sums = PathSum(trace, Interpreter(trace.program, NetworkNames(trace, [])))
    listed = ((r.x, p) for r in trace.outputs[i].readouts for p in paths(sums, r.x))
    result, drawn = list[ProgramPath](), set(s.drawn)
    for count, (end, p) in enumerate(listed):
        if count == MOST:
            raise ProgramError(f"more than {MOST} paths lead to an output; draw fewer layers or a shorter sequence")
        gvars = [g for g, _ in p]
        if _starts(s, gvars[0]) == parameter:
            path = _path(s, parameter, [s.kept[g] for g in gvars], s.kept[end])
            result += [path] if drawn.issuperset(path.vectors) else []
    return sorted(result, key=len, reverse=True)


def _starts(s: Subject, g: Var) -> str | None:
    """The name of the parameter that a G-var reads."""
    trace = s.trace
    assert trace is not None
    op = trace.program.op(g)
    if g in trace.embeddings:
        return trace.embeddings[g][0]
    read = op.matrix if isinstance(op, MatMul) else g
    return next((n for n, p in trace.parameters.items() if p.var == read), None)


def _path(s: Subject, parameter: str, gvars: list[Var], end: Var) -> ProgramPath:
    vectors: list[Var] = []
    for g in gvars:
        op = s.program.op(g)
        if isinstance(op, MatMul):
            _extend(s, vectors, s.alias.get(op.x, op.x))
        if vectors[-1:] != [g]:
            vectors.append(g)
    _extend(s, vectors, s.alias.get(end, end))
    links, labels = zip(*_links(s, vectors), strict=True) if len(vectors) > 1 else ((), ())
    start = s.labels.parameter(parameter) if s.labels else parameter
    return ProgramPath(parameter, tuple(vectors), links, start, tuple(map(s.name, vectors)), labels)


def _extend(s: Subject, vectors: list[Var], x: Var) -> None:
    """Go on to x, through the Nonlins between where the program is not reduced."""
    if not vectors:
        vectors.append(x)
    elif vectors[-1] != x:
        vectors.extend(_chain(s, vectors[-1], x))


def _chain(s: Subject, g: Var, x: Var) -> list[Var]:
    """The fewest vectors after g up to x, each a Nonlin of the one before; x alone where there is no such chain."""
    onward: dict[Var, list[Var]] = {x: [x]}
    todo = [x]
    for v in todo:
        for u in s.inputs(v) if isinstance(s.program.op(v), Nonlin) else ():
            if u == g:
                return onward[v]
            if u not in onward:
                onward[u] = [u, *onward[v]]
                todo.append(u)
    return [x]


def _links(s: Subject, vectors: list[Var]) -> Iterator[tuple[str, str]]:
    """What leads from each vector to the next: in the names of the program and in those of the picture."""
    for a, b in pairwise(vectors):
        op = s.program.op(b)
        if isinstance(op, MatMul):
            yield op.matrix.name + ("ᵀ" if op.transpose else ""), s.matrix(op)
        else:
            yield ("", "") if a in s.inputs(b) else ("Ż", "Ż")
