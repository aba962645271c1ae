"""Pairs of positions by their offset δ = q − p: which offsets a kernel needs, and where the arrays of one lie.

A window that moves by s reads of the pair (p, p + δ) only pairs (s p + k, s (p + δ) + k) of offset s δ, so every
offset runs through all layers alone, as an array over the box of the p for which both positions are inside.  With
circular borders offsets are taken modulo the size, and the box is the whole grid.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from tensorprog.compile.placed import Pair, Placed, Shift
from tensorprog.compile.tape import CONST, PAIR, Tape
from tensorprog.errors import NoRuleError
from tensorprog.ir.axes import Sizes, Window

Steps = tuple[int, ...]
NDIM = 3


@dataclass(frozen=True)
class Level:
    """Families of one size: of both inputs, and how far apart in the input neighbours are."""

    sizes: Pair
    steps: Steps


@dataclass(frozen=True)
class Support:
    """Which offsets an array has that are not 0: all that are multiples of ``steps``, or 0 only."""

    steps: Steps
    same: bool = False


class Layout:
    """Where the arrays of a tape lie.

    Args:
        tape: operations of ``placed``.
        kernels: the kernels.
        sizes: of both inputs.

    Attributes:
        level: of each operation its number in ``levels``, for those that have positions.
        levels: all levels.
        wraps: whether positions are counted modulo the sizes.
        offsets: (O, ndim), in units of the coarsest totals' steps; opposite ones are o and −o.
        boxes: (O, levels, 3 · NDIM): begin and size of the box and the offset along every axis.

    Raises:
        NoRuleError: offsets are mixed.
    """

    def __init__(self, tape: Tape, kernels: Sequence[Placed], sizes: Pair) -> None:
        self.tape, self.sizes, self.ndim = tape, sizes, len(sizes[0])
        self.totals = [t for k in kernels for t in k.totals]
        self.order = tape.ordered([t.array for t in self.totals])
        self.wraps = self._wraps()
        self.levels: list[Level] = []
        self.level: dict[int, int] = {}
        self.supports: dict[int, Support] = {}
        for i in self.order:
            self._place(i)
        self.offsets = self._offsets()
        self.boxes = np.array([[self._box(o, level) for level in self.levels] for o in self.offsets], np.int64)

    def _wraps(self) -> bool:
        shifts = [op.data for i in self.order if (op := self.tape.ops[i]).kind == "along"]
        windows = [s.map for s in shifts if isinstance(s.map, Window)]
        circular = {w.padding == "circular" for w in windows}
        strides = {n for w in windows for _, n, _ in w.along(self.ndim)}
        if len(circular) > 1 or (True in circular and (strides != {1} or self.sizes[0] != self.sizes[1])):
            raise NoRuleError("circular borders beside others, of strided windows or of inputs of different sizes")
        return True in circular

    def _place(self, i: int) -> None:
        """Find level and support of an operation; that of numbers at all positions is where they are read."""
        kind, args, data = self.tape.ops[i]
        if self.tape.sides[i] == CONST:
            return
        if kind == "along":
            self._shift(i, args[0], data)
            return
        if kind == "data":
            self.level[i] = self._number(Level(self.sizes, (1,) * self.ndim))
        elif found := {self.level[a] for a in (args[:1] if kind == "near gap" else args) if a in self.level}:
            if len(found) > 1:
                raise NoRuleError("arrays of different sizes in one operation")
            self.level[i] = found.pop()
            for a in args:
                self._settle(a, self.level[i])
        else:
            return
        if self.tape.sides[i] == PAIR:
            self.supports[i] = self._support(i)

    def _settle(self, i: int, level: int) -> None:
        """Place an operation of numbers where it is read."""
        if i in self.level or self.tape.sides[i] == CONST:
            return
        self.level[i] = level
        for a in self.tape.ops[i].args:
            self._settle(a, level)
        if self.tape.sides[i] == PAIR:
            self.supports[i] = self._support(i)

    def _number(self, level: Level) -> int:
        if level not in self.levels:
            self.levels.append(level)
        return self.levels.index(level)

    def _shift(self, i: int, inner: int, shift: Shift) -> None:
        assert isinstance(shift.map, Window)
        strides = [s for _, s, _ in shift.map.along(self.ndim)]
        if inner not in self.level:
            found = {k for k, level in enumerate(self.levels) if level.sizes == shift.given}
            if len(found) != 1:
                raise NoRuleError("a window of numbers")
            self._settle(inner, found.pop())
        steps = self.levels[self.level[inner]].steps
        if shift.transpose:
            made = tuple(n // s for n, s in zip(steps, strides, strict=True))
        else:
            made = tuple(n * s for n, s in zip(steps, strides, strict=True))
        self.level[i] = self._number(Level(shift.made, made))
        if self.tape.sides[i] == PAIR:
            given = self.supports[inner]
            self.supports[i] = given if shift.transpose or given.same else Support(made)

    def _support(self, i: int) -> Support:
        """Products are 0 where a factor is, sums where all terms are."""
        kind, args, _ = self.tape.ops[i]
        full = Support(self.levels[self.level[i]].steps)

        if kind == "same":
            return Support(full.steps, same=True)
        one = [self.supports.get(a, full) for a in args]
        if kind == "mul":
            return _product(one)
        if kind == "lin":
            return _product(one[:2]) if self.tape.value(args[2]) == 0.0 else full
        if kind in ("axpy", "fma"):
            return _sum(one[0], _product(one[1:]))
        return full

    def _offsets(self) -> np.ndarray:
        """The offsets of the totals."""
        found = [
            (self.supports[t.array], self.levels[self.level[t.array]]) for t in self.totals if t.array in self.level
        ]
        if len(found) < len(self.totals):
            raise NoRuleError("a sum over positions of numbers")
        spread = {s.steps for s, _ in found if not s.same}
        if len(spread) > 1:
            raise NoRuleError("sums over positions whose offsets have different steps")
        self.units = next(iter(spread), (1,) * self.ndim)
        if not spread:
            return np.zeros((1, self.ndim), int)
        if any(u % n for level in self.levels for u, n in zip(self.units, level.steps, strict=True)):
            raise NoRuleError("sums over positions that a strided layer leaves out")
        ranges = [range(-max(self._reach(0, k, l) for _, l in found), max(self._reach(1, k, l) for _, l in found) + 1)
                  for k in range(self.ndim)]  # fmt: skip
        if self.wraps:
            ranges = [range(n) for n in self.sizes[0]]
        return np.array(list(itertools.product(*ranges)), int).reshape(-1, self.ndim)

    def _reach(self, side: int, axis: int, level: Level) -> int:
        """The largest offset at which a total has a pair, along an axis."""
        scale = self.units[axis] // level.steps[axis]
        return (level.sizes[side][axis] - 1) // scale

    def _box(self, offset: np.ndarray, level: Level) -> list[int]:
        begins, counts, shifts = [0] * NDIM, [1] * NDIM, [0] * NDIM
        lead = NDIM - self.ndim
        for k in range(self.ndim):
            n1, n2 = level.sizes[0][k], level.sizes[1][k]
            d = int(offset[k]) * self.units[k] // level.steps[k]
            begin, end = (0, n1) if self.wraps else (max(0, -d), min(n1, n2 - d))
            begins[lead + k], counts[lead + k], shifts[lead + k] = begin, max(0, end - begin), d
        return [*begins, *counts, *shifts]

    def halves(self) -> tuple[np.ndarray, np.ndarray]:
        """The numbers of offsets of which no two are opposite, and of those that are opposite to themselves."""
        sizes = np.array(self.sizes[0])
        opposite = -self.offsets % sizes if self.wraps else -self.offsets
        order = [tuple(o) < tuple(p) for o, p in zip(self.offsets, opposite, strict=True)]
        own = (self.offsets == opposite).all(axis=1)
        return np.flatnonzero(order), np.flatnonzero(own)

    @property
    def largest(self) -> int:
        """The most positions of a box, and of what windows make on their way from one to another."""
        return max(1, int(self.boxes[:, :, NDIM : 2 * NDIM].max(axis=1).prod(axis=1).max()))

    @property
    def pairs(self) -> int:
        """Pairs of positions of the largest level, over all offsets."""
        return int(self.boxes[:, :, NDIM : 2 * NDIM].prod(axis=2).sum(axis=0).max())

    def positions(self, i: int) -> int:
        """Of an operation per input."""
        which = self.tape.sides[i] >> 1
        return prod(self.levels[self.level[i]].sizes[which])


def _product(factors: Sequence[Support]) -> Support:
    steps = tuple(max(n) for n in zip(*(f.steps for f in factors), strict=True))
    return Support(steps, any(f.same for f in factors))


def _sum(a: Support, b: Support) -> Support:
    if a.same != b.same:
        return b if a.same else a
    return Support(tuple(min(n) for n in zip(a.steps, b.steps, strict=True)), a.same)


def axis_table(window: Window, ndim: int) -> list[int]:
    """Kernel, stride, dilation and first position of a window along NDIM axes."""
    rows = [(1, 1, 1, 0)] * (NDIM - ndim)
    for kernel, stride, dilation in window.along(ndim):
        rows.append((kernel, stride, dilation, 0 if window.padding == "valid" else -((kernel - 1) // 2) * dilation))
    return [v for row in rows for v in row]


def flat(sizes: Sizes) -> list[int]:
    """NDIM sizes, of which the first may be 1."""
    return [1] * (NDIM - len(sizes)) + list(sizes)
