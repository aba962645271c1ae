"""Sets of indices described for every size: boxes whose bounds are sizes, found from examples."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import sympy as sp

Point = tuple[int, ...]
Sizes = tuple[tuple[str, int], ...]  # by printed symbol: L, T, T'; hashable

L, T, T2, TAU = (sp.Symbol(s, integer=True) for s in ("L", "T", "T'", "tau"))


@dataclass(frozen=True, order=True)
class Bound:
    """base + shift, the base being 0, a size, max(0, −τ), τ = T' − T, or an earlier coordinate (``at``)."""

    base: str = ""
    shift: int = 0
    at: int = -1

    def __call__(self, sizes: Mapping[str, int], point: Sequence[int] = ()) -> int:
        if self.at >= 0:
            return point[self.at] + self.shift
        return base_value(self.base, sizes) + self.shift

    def plus(self, shift: int) -> Bound:
        """The same bound moved by ``shift``."""
        return Bound(self.base, self.shift + shift, self.at)


def base_value(base: str, sizes: Mapping[str, int]) -> int:
    """The number that a base stands for."""
    if base == "":
        return 0
    if base in ("tau", "-tau"):
        return (sizes["T'"] - sizes["T"]) * (1 if base == "tau" else -1)
    if base == "start":
        return max(0, sizes["T"] - sizes["T'"])
    return sizes[base]


@dataclass(frozen=True, order=True)
class Box:
    """All points with lower ≤ coordinate ≤ upper."""

    lower: tuple[Bound, ...] = ()
    upper: tuple[Bound, ...] = ()

    def points(self, sizes: Mapping[str, int], prefix: Point = ()) -> Iterator[Point]:
        """The points of the box at these sizes."""
        k = len(prefix)
        if k == len(self.lower):
            yield prefix
            return
        for i in range(self.lower[k](sizes, prefix), self.upper[k](sizes, prefix) + 1):
            yield from self.points(sizes, (*prefix, i))


Examples = Mapping[Sizes, frozenset[Point]]


def shift_between(values: Mapping[Sizes, set[tuple[int, int]]]) -> Bound | None:
    """b − a as 0, ±τ or a constant plus those, from pairs (a, b) at several sizes; None when it varies."""
    found = [(dict(s), b - a) for s, pairs in values.items() for a, b in pairs]
    for base in ("", "tau", "-tau") if found and "T'" in found[0][0] else ("",):
        shifts = {d - base_value(base, s) for s, d in found}
        if len(shifts) == 1:
            return Bound(base, shifts.pop())
    return None


def cover(examples: Examples, depth: int = 2) -> list[Box] | None:
    """Disjoint boxes whose union is the example at every size; None when there are none.

    Args:
        examples: at every size, a set of points; empty sets count.
        depth: how many faces may be split off.
    """
    box = _box(examples)
    if box is not None:
        return [box]
    if depth == 0:
        return None
    found: list[list[Box]] = []
    dimensions = {len(p) for points in examples.values() for p in points}
    for k, upper in itertools.product(range(dimensions.pop() if dimensions else 0), (False, True)):
        faces, rest = {}, {}
        for s, points in examples.items():
            edge = (max if upper else min)((p[k] for p in points), default=0)
            faces[s] = frozenset(p for p in points if p[k] == edge)
            rest[s] = points - faces[s]
        first, second = cover(faces, 0), cover(rest, depth - 1)
        if first is not None and second is not None:
            found.append([*first, *second])
    return min(found, key=len, default=None)


def cover_sides(examples: Examples) -> list[Box] | None:
    """``cover`` of what lies on, above and below the diagonal of the first two coordinates, apart where need be."""
    whole = cover(examples)
    if whole is not None or {len(p) for points in examples.values() for p in points} != {2}:
        return whole
    found: list[Box] = []
    for side in (-1, 0, 1):
        part = {s: frozenset(p for p in points if np.sign(p[1] - p[0]) == side) for s, points in examples.items()}
        boxes = cover(part) if any(part.values()) else []
        if boxes is None:
            return None
        found += boxes
    return found


def _box(examples: Examples) -> Box | None:
    filled = {s: points for s, points in examples.items() if points}
    if not filled:
        return None
    dimension = len(next(iter(next(iter(filled.values())))))
    for box in _candidates(filled, dimension, Box()):
        if all(frozenset(box.points(dict(s))) == points for s, points in examples.items()):
            return box
    return None


def _candidates(filled: Examples, dimension: int, box: Box) -> Iterator[Box]:
    k = len(box.lower)
    if k == dimension:
        yield box
        return
    for lower, upper in itertools.product(_bounds(filled, k, min), _bounds(filled, k, max)):
        yield from _candidates(filled, dimension, Box((*box.lower, lower), (*box.upper, upper)))


def _bounds(filled: Examples, k: int, extreme: object) -> list[Bound]:
    """Bounds that agree with the extreme value of coordinate k at every size: constants first, then sizes."""
    values = [(dict(s), extreme(p[k] for p in points)) for s, points in filled.items()]  # type: ignore[operator]
    found = []
    for base in ("", *values[0][0], *(("start",) if "T'" in values[0][0] else ())):
        shifts = {v - base_value(base, s) for s, v in values}
        if len(shifts) == 1 and (base == "" or abs(next(iter(shifts))) <= 3):
            found.append(Bound(base, shifts.pop()))
    for j in range(k):
        slices = [
            extreme(p[k] for p in points if p[:k] == q[:k]) - q[j]  # type: ignore[operator]
            for points in filled.values()
            for q in points
        ]
        if len(set(slices)) == 1:
            found.append(Bound("", slices[0], j))
    return found
