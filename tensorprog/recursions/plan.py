"""Running folded equations at any size: as late as possible, and every value dropped after its last use."""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.algebra import Poly
from tensorprog.errors import FoldError
from tensorprog.limit.equations import reachable
from tensorprog.recursions.folding import At, Folded
from tensorprog.recursions.straight import GRAM, Family, Index

Array = Any
Key = tuple[Family, Index]


@dataclass(frozen=True)
class Step:
    """One assignment: the quantity ``key`` (None for a term of the kernel) is ``form``, reading ``reads``."""

    key: Key | None
    form: Poly
    reads: tuple[tuple[At, Key], ...]


@dataclass(frozen=True)
class Plan:
    """Steps in order, what may be dropped after each, and how many values are held at most."""

    steps: list[Step]
    drops: list[list[Key]]
    width: int


def plan(folded: Folded, sizes: Mapping[str, int]) -> Plan:
    """The order of all assignments at a size.

    What is needed far from the end comes first and nothing earlier than needed, so a chain through layers or time
    steps holds a few values at a time, whatever its length.
    """
    steps = _steps(folded, sizes)
    by_key = {s.key: n for n, s in enumerate(steps) if s.key is not None}
    reads = [[by_key[key] for _, key in s.reads if key[0].head != GRAM[0]] for s in steps if _check(s, by_key)]
    order = _as_late_as_possible(steps, reads)
    last: dict[int, int] = {}
    for position, n in enumerate(order):
        last.update(dict.fromkeys(reads[n], position))
    drops: list[list[Key]] = [[] for _ in order]
    for n, position in last.items():
        drops[position].append(steps[n].key)  # type: ignore[arg-type]
    held = np.cumsum([1 - len(d) for d in drops])
    return Plan([steps[n] for n in order], drops, int(held.max(initial=1)) + 1)


def _steps(folded: Folded, sizes: Mapping[str, int]) -> list[Step]:
    found = []
    for is_term, cases in ((False, folded.cases), (True, folded.terms)):
        for case in cases:
            ats = [g for g in reachable([case.form]) if isinstance(g, At)]
            layout = folded.layouts.get(case.family)
            for point in case.box.points(sizes):
                own: Index = layout.index(point, sizes) if layout else ()
                reads = tuple((g, (g.family, g.locate(own, sizes))) for g in ats)
                found.append(Step(None if is_term else (case.family, own), case.form, reads))
    return found


def _check(step: Step, known: Mapping[Key, int]) -> bool:
    for _, key in step.reads:
        if key[0].head != GRAM[0] and key not in known:
            raise FoldError(
                f"{key[0].head}{key[1]} is read but not defined at this size; the recursion starts above it"
            )
    return True


def _as_late_as_possible(steps: list[Step], reads: list[list[int]]) -> list[int]:
    """A topological order, by decreasing distance to the end; quantities that no term needs are left out."""
    users: list[int] = [0] * len(steps)
    needed = _needed(steps, reads)
    for n in needed:
        for m in reads[n]:
            users[m] += 1
    ready = [(0, n) for n in needed if users[n] == 0]
    heapq.heapify(ready)
    distance = dict(ready_pair[::-1] for ready_pair in ready)
    backward = []
    while ready:  # from the end: the nearest to it first, a quantity after all that read it
        d, n = heapq.heappop(ready)
        backward.append(n)
        for m in reads[n]:
            distance[m] = max(distance.get(m, 0), d + 1)
            users[m] -= 1
            if users[m] == 0:
                heapq.heappush(ready, (distance[m], m))
    return _terms_early(steps, reads, backward[::-1])


def _terms_early(steps: list[Step], reads: list[list[int]], order: list[int]) -> list[int]:
    """Every term of the kernel right after the last thing it reads, so that nothing waits for the end."""
    position = {n: p for p, n in enumerate(order)}
    when = {n: max((position[m] for m in reads[n]), default=-1) + 0.5 if steps[n].key is None else p
            for n, p in position.items()}  # fmt: skip
    return sorted(order, key=lambda n: when[n])


def _needed(steps: list[Step], reads: list[list[int]]) -> list[int]:
    seen: set[int] = set()
    todo = [n for n, s in enumerate(steps) if s.key is None]
    while todo:
        n = todo.pop()
        if n not in seen:
            seen.add(n)
            todo += reads[n]
    return sorted(seen)
