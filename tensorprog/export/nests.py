"""The order of folded equations as loops over layers and times."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import networkx as nx
import sympy as sp

from tensorprog.errors import NoRuleError
from tensorprog.limit.equations import reachable
from tensorprog.recursions.folding import At, Case, Folded
from tensorprog.recursions.indexed import placed
from tensorprog.recursions.ranges import Sizes
from tensorprog.recursions.straight import GRAM

Range = tuple[sp.Symbol, sp.Expr, sp.Expr, int]  # index, lowest, highest, direction


@dataclass
class Nest:
    """Loops, outermost first, and the cases that are computed in them, in order."""

    loops: tuple[Range, ...]
    cases: list[Case] = field(default_factory=list)


def nests(folded: Folded, examples: Sequence[Sizes]) -> list[Nest]:
    """The equations in an order in which what is read was computed before, in as few loops as that allows.

    Raises:
        NoRuleError: equations of different ranges read each other in a circle.
    """
    reads = _reads(folded, examples)
    graph: Any = nx.DiGraph()
    graph.add_nodes_from(range(len(folded.cases)))
    graph.add_edges_from((m, n) for n, m in reads if m != n)
    if not nx.is_directed_acyclic_graph(graph):
        raise NoRuleError("equations of different layers read each other in a circle: they have no order as loops")
    found: list[Nest] = []
    home: dict[int, int] = {}
    waiting = list(nx.lexicographical_topological_sort(graph))
    while waiting:
        n = next((n for n in waiting if _joins(n, graph, home, found, folded, reads)), waiting[0])
        waiting = [m for m in waiting if m != n]
        _place(n, folded, reads, graph, home, found)
        waiting = _ready_first(waiting, graph, home)
    return found


def _ready_first(waiting: list[int], graph: Any, home: dict[int, int]) -> list[int]:
    """Those whose reads are all placed come first."""
    return sorted(waiting, key=lambda n: any(m not in home for m in graph.predecessors(n)))


def _joins(n: int, graph: Any, home: dict[int, int], found: list[Nest], folded: Folded, reads: Any) -> bool:
    if any(m not in home for m in graph.predecessors(n)) or not found:
        return False
    return _fits(n, len(found) - 1, folded, reads, graph, home, found) is not None


def _place(n: int, folded: Folded, reads: Any, graph: Any, home: dict[int, int], found: list[Nest]) -> None:
    for k in range(len(found) - 1, -1, -1):
        if _fits(n, k, folded, reads, graph, home, found) is not None:
            found[k].cases.append(folded.cases[n])
            home[n] = k
            return
    found.append(Nest(_loops(n, folded, reads), [folded.cases[n]]))
    home[n] = len(found) - 1


def _fits(n: int, k: int, folded: Folded, reads: Any, graph: Any, home: dict[int, int],
          found: list[Nest]) -> Nest | None:  # fmt: skip
    """Nest k, if the case can be computed in it."""
    before = [home[m] for m in graph.predecessors(n)]
    if any(b > k for b in before):
        return None
    own = ranges_of(folded.cases[n], folded)
    loops = found[k].loops
    if [r[:3] for r in loops] != list(own):
        return None
    signs = [r[3] for r in loops]
    inside = [m for m in (*graph.predecessors(n), n) if home.get(m) == k or m == n]
    steps = {d for m in inside for d in reads.get((n, m), ())}
    return found[k] if all(_earlier(d, signs, range(len(signs))) or (not any(d)) for d in steps) else None


def ranges_of(case: Case, folded: Folded) -> tuple[tuple[sp.Symbol, sp.Expr, sp.Expr], ...]:
    """The ranges of the indices of a case that has several points along them."""
    return tuple(r for r in placed(case, folded).ranges if r[1] != r[2])


def _loops(n: int, folded: Folded, reads: Any) -> tuple[Range, ...]:
    own = ranges_of(folded.cases[n], folded)
    steps = {d for d in reads.get((n, n), ()) if any(d)}
    for signs in itertools.product((1, -1), repeat=len(own)):
        if all(_earlier(d, signs, range(len(own))) for d in steps):
            return tuple((*r, s) for r, s in zip(own, signs, strict=True))
    raise NoRuleError("an equation reads itself in several directions: it has no order as a loop")


def _earlier(step: tuple[int, ...], signs: Sequence[int], order: Any) -> bool:
    """Whether what is read, by so many steps along each loop, was computed before."""
    first = next(((step[k], signs[k]) for k in order if step[k]), None)
    return first is not None and first[0] * first[1] < 0


def _reads(folded: Folded, examples: Sequence[Sizes]) -> dict[tuple[int, int], set[tuple[int, ...]]]:
    """(case, case it reads) ↦ the steps along its loops from one to the other, at example sizes."""
    found: dict[tuple[int, int], set[tuple[int, ...]]] = {}
    for example in examples:
        sizes = dict(example)
        owner: dict[Any, tuple[int, tuple[int, ...]]] = {}
        for n, case in enumerate(folded.cases):
            for point in case.box.points(sizes):
                owner[case.family, folded.layouts[case.family].index(point, sizes)] = n, point
        for n, case in enumerate(folded.cases):
            several = _several(case, folded)
            ats = [g for g in reachable([case.form]) if isinstance(g, At) and g.family.head != GRAM[0]]
            for point in case.box.points(sizes):
                own = folded.layouts[case.family].index(point, sizes)
                for g in ats:
                    m, other = owner[g.family, g.locate(own, sizes)]
                    same = len(other) == len(point)
                    step = tuple(other[k] - point[k] if same else 0 for k in several)
                    found.setdefault((n, m), set()).add(step)
    return found


def _several(case: Case, folded: Folded) -> list[int]:
    """The coordinates that have loops."""
    kept = ranges_of(case, folded)
    symbols = [r[0] for r in kept]
    index = placed(case, folded).index
    return [k for k, place in enumerate(folded.layouts[case.family].free) if index[place] in symbols]
