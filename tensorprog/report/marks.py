"""Paths through a drawn program (TP2b Def. 5.5): found by ``kernels.paths``, named by their vectors and matrices."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from tensorprog.errors import ProgramError, nearest
from tensorprog.ir.instructions import MatMul, Nonlin, Var
from tensorprog.kernels.names import NetworkNames
from tensorprog.kernels.paths import PathSum, paths
from tensorprog.limit.master import Limit
from tensorprog.report.glyphs import matrix_name, shown
from tensorprog.report.subject import Subject

MOST = 2000


@dataclass(frozen=True)
class ProgramPath:
    """A path to the output: X-var → G-var → X-var → ..; ``links[k]`` says how vector k + 1 comes from vector k.

    Links are the matrices of MatMuls, "" for gates, and "Ż" where the tangent runs along a correction Ż.
    ``parameter`` is what the path starts with.
    """

    parameter: str
    vectors: tuple[Var, ...]
    links: tuple[str, ...]

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
        steps = (f" —{link}→ {shown(v.name)}" if link else f" → {shown(v.name)}"
                 for link, v in zip(self.links, self.vectors[1:], strict=True))  # fmt: skip
        return shown(self.vectors[0].name) + "".join(steps)


def choose(s: Subject, path: Any) -> list[ProgramPath]:
    """The path that ``tp.draw`` was asked for, and its isomorphic partner where a second input is drawn.

    Raises:
        ProgramError: no network, an unknown parameter, or no such path.
    """
    if path is None:
        return []
    name, number = path if isinstance(path, tuple) and len(path) == 2 else (path, None)
    if s.trace is None:
        raise ProgramError("paths are drawn through networks, from a parameter to the output; use highlight=[names]")
    parameters = [n for n, kind in s.trace.trainable.items() if kind in ("matrix", "embedding", "bias")]
    if name not in parameters:
        raise ProgramError(f"no paths start at {name!r}: they start at a matrix, embedding or bias; "
                           f"{nearest(str(name), parameters)}")  # fmt: skip
    first, *others = (_all(s, name, i) for i in range(len(s.trace.outputs)))
    pairs = ([p, q] for p in first for other in others for q in other if p.isomorphic(q))
    if number is None:
        return next(pairs, first[:1])
    if isinstance(number, bool) or not isinstance(number, int) or not 0 <= number < len(first):
        raise ProgramError(f"there is no path {number!r} from {name}: there are {len(first)}, from 0, longest first")
    return next((pair for pair in pairs if pair[0] == first[number]), [first[number]])


def _all(s: Subject, parameter: str, i: int) -> list[ProgramPath]:
    """The paths from a parameter to output i, the longest first."""
    trace = s.trace
    assert trace is not None
    sums = PathSum(trace, Limit(trace.program, NetworkNames(trace, [])))
    listed = ((r.x, p) for r in trace.outputs[i].readouts for p in paths(sums, r.x))
    result = []
    for count, (end, p) in enumerate(listed):
        if count == MOST:
            raise ProgramError(f"more than {MOST} paths lead to an output; draw fewer layers or a shorter sequence")
        gvars = [g for g, _ in p]
        if _starts(s, gvars[0]) == parameter:
            result.append(_path(s, parameter, [s.kept[g] for g in gvars], s.kept[end]))
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
            _extend(s, vectors, op.x)
        vectors.append(g)
    _extend(s, vectors, end)
    return ProgramPath(parameter, tuple(vectors), tuple(_links(s, vectors)))


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


def _links(s: Subject, vectors: list[Var]) -> Iterator[str]:
    for a, b in pairwise(vectors):
        op = s.program.op(b)
        yield matrix_name(op) if isinstance(op, MatMul) else "" if a in s.inputs(b) else "Ż"
