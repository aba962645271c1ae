"""A tape over positions as instructions of the numba machine: arrays over boxes in registers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import prod
from typing import Any

import numpy as np

from tensorprog.compile.offsets import NDIM, Layout, axis_table, flat
from tensorprog.compile.placed import Placed, Shift
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Tape
from tensorprog.errors import NoRuleError
from tensorprog.ir.axes import Window

LANES = 8  # second inputs beside each other
NAMES = ("lin", "mul", "fma", "axpy", "fill", "same", "data", "first", "second", "outer", "window", "near gap", "gap",
         "arc", "asin", "exp", "sinh", "cosh", "smooth", "sum")  # fmt: skip
OPCODES = {name: code for code, name in enumerate(NAMES)}
WINDOWED, CONSTANT, DATA_PART = 1, 2, 4  # bits of the kind of a part
PARTNERS = {"relu": ("arc", 0), "step": ("arc", 1), "relu gap": ("arc", 2), "asin": ("asin", 0), "rsq": ("asin", 1)}
ONES = "ones"


@dataclass
class Row:
    """An instruction: the registers it writes and reads, in the places of a table's row, and numbers in others."""

    op: str
    writes: list[int]
    reads: list[int] = field(default_factory=list)
    also: list[int] = field(default_factory=list)  # read by its parts
    a: float = 1.0
    b: float = 0.0
    level: int = 0
    more: tuple[int, int] = (0, 0)
    roots: tuple[int, int] | None = None  # what is known per input of a near gap
    parts: Sequence[Part] = ()


@dataclass
class Part:
    """A part of a covariance, see ``diagonals.apart``."""

    kind: int
    scale: float
    row: int = -1
    left: int = 0
    right: int = 0
    window: int = 0
    level: int = 0


@dataclass
class Code:
    """Instructions (op, three results, operands x y z, numbers a b, level, two more) and what they read.

    Attributes:
        table: (instructions, 12).
        numbers: constants.
        parts, scales: of covariances, see ``diagonals.apart``.
        windows: (windows, 15): levels before and after, whether transposed, and ``axis_table``.
        left, right: the operations whose values per input are read; None for the data, which are first.
        series: the (φ, ψ, q1, q2) of smooth functions, see ``coefficients``.
        registers: how many there are; the last is 1 everywhere.
    """

    table: np.ndarray
    numbers: np.ndarray
    parts: np.ndarray
    scales: np.ndarray
    windows: np.ndarray
    left: list[int]
    right: list[int]
    series: list[tuple[Any, Any, int, int]]
    registers: int


class Scheduler:
    """Instructions for a layout.

    Raises:
        NoRuleError: an operation is unknown to the machine.
    """

    def __init__(self, layout: Layout, kernels: Sequence[Placed]) -> None:
        self.layout, self.tape, self.kernels = layout, layout.tape, kernels
        self.rows: list[Row] = []
        self.at: dict[Any, int] = {}
        self.made = 0
        self.left: list[int] = []
        self.right: list[int] = []
        self.windows: dict[tuple[Shift, int, int], int] = {}
        self.series: dict[tuple[Any, Any, int, int], int] = {}
        self.readers = Counter(a for i in layout.order for a in self.tape.ops[i].args if self.tape.sides[i] == PAIR)

    def code(self) -> Code:
        for i in self.layout.order:
            if self.tape.sides[i] == PAIR and i not in self.at and not self._is_late(i):
                self._emit(i)
        for k, kernel in enumerate(self.kernels):
            for total in kernel.totals:
                scale, i = self.tape.scaled(total.array)
                self._write(
                    "sum", 0, [self._row(i, total.array)], a=scale, level=self.layout.level[total.array], more=(k, 0)
                )
        return self._finished()

    def _is_late(self, i: int) -> bool:
        """What is written where it is read: 1 at all positions, and windows that are scaled at once."""
        kind = self.tape.ops[i].kind
        return kind in ("ones", "same") or (kind == "along" and self.readers[i] == 1)

    # ---- operations -----------------------------------------------------------------------------------

    def _emit(self, i: int) -> None:
        kind, args, data = self.tape.ops[i]
        level = self.layout.level[i]
        if kind in PARTNERS:
            self._partners(i)
        elif kind == "data":
            self._write("data", i, level=level)
        elif kind == "along":
            self._window(i, i, 1.0, 0.0)
        elif kind == "lin":
            self._lin(i, args)
        elif kind in ("mul", "fma", "axpy"):
            self._linear(i, kind, args)
        elif kind == "gap":
            self._write("gap", i, [self._row(args[0], i), self._outer(args[1], args[2], i)], level=level)
        elif kind == "near gap":
            self._near(i, args, data)
        elif kind in ("exp", "sinh", "cosh"):
            self._write(kind, i, [self._row(args[0], i), self._row(args[1], i)], level=level)
        elif kind == "smooth":
            key = (*data, args[3], args[4])
            rows = [self._row(args[0], i), self._outer(args[1], args[2], i)]
            self._write(kind, i, rows, level=level, more=(self.series.setdefault(key, len(self.series)), 0))
        else:
            raise NoRuleError(f"the machine over positions has no {kind}")

    def _lin(self, i: int, args: Sequence[int]) -> None:
        a, b = self.tape.value(args[0]), self.tape.value(args[2])
        level, inner = self.layout.level[i], args[1]
        late = self.tape.sides[inner] == PAIR and self._is_late(inner) and inner not in self.at
        if a is not None and b is not None and late and self.tape.ops[inner].kind == "along":
            self._window(i, inner, a, b)
            return
        if self.tape.sides[args[0]] == LEFT and self.tape.sides[inner] == RIGHT and b == 0.0:
            self.at[i] = self._outer(args[0], inner, i)
        elif a is not None and b is not None:
            self._write("lin", i, [self._row(inner, i)], a=a, b=b, level=level)
        elif a is not None:
            self._write("axpy", i, [x := self._row(inner, i), x, self._row(args[2], i)], a=a, level=level)
        else:
            self._write("fma", i, [self._row(inner, i), self._row(args[0], i), self._row(args[2], i)], level=level)

    def _linear(self, i: int, kind: str, args: Sequence[int]) -> None:
        """a x y, z + a x y or z + a x, of which a may vary along positions."""
        z, factors = (None, args) if kind == "mul" else (args[0], args[1:])
        a, level = self.tape.value(factors[0]), self.layout.level[i]
        rows = [self._row(f, i) for f in (factors[1:] if a is not None else factors)]
        if len(rows) == 3:
            product = self._new(None)
            self._put(Row("mul", [product], rows[:2], level=level))
            rows = [product, rows[2]]
        if z is None:
            self._write("mul", i, rows, a=1.0 if a is None else a, level=level)
        elif len(rows) == 2:
            self._write("fma", i, [*rows, self._row(z, i)], a=1.0 if a is None else a, level=level)
        else:
            self._write("axpy", i, [rows[0], rows[0], self._row(z, i)], a=1.0 if a is None else a, level=level)

    def _partners(self, i: int) -> None:
        """All results of one angle in one instruction."""
        kind, args, _ = self.tape.ops[i]
        name, level, outs = PARTNERS[kind][0], self.layout.level[i], [-1, -1, -1]
        rows = [self._row(args[0], i), self._outer(args[1], args[3 if name == "arc" else 2], i)]
        a = b = 1.0
        if name == "arc":
            second, third = self.tape.value(args[2]), self.tape.value(args[4])
            if second is not None and third is not None:
                rows.append(self._ones())
                b = second * third
            else:
                rows.append(self._outer(args[2], args[4], i))
        else:
            b = self.tape.value(args[3]) or 0.0
        for partner, (which, slot) in PARTNERS.items():
            if which == name:
                outs[slot] = self._new(self.tape.find(partner, args))
        self._put(Row(name, outs[: 3 if name == "arc" else 2], rows, a=a, b=b, level=level))

    def _window(self, i: int, along: int, a: float, b: float) -> None:
        """A map, and a · + b of what it gives."""
        _, (inner,), shift = self.tape.ops[along]
        row = self._row(inner, inner)
        which, level = self._which(along), self.layout.level[along]
        self._write("window", i, [row], a=a * shift.map.weight(shift.read[0]), b=b, level=level, more=(which, 0))

    def _which(self, along: int) -> int:
        (inner,), shift = self.tape.ops[along].args, self.tape.ops[along].data
        key = shift, self.layout.level[inner], self.layout.level[along]
        return self.windows.setdefault(key, len(self.windows))

    def _near(self, i: int, args: Sequence[int], data: Any) -> None:
        """1 − ρ, and what it follows from."""
        c, r1, r2, *known = args
        level, rest, parts = self.layout.level[i], iter(known), list[Part]()
        for scale, shift, kind in data:
            if not scale:
                continue
            part = Part(WINDOWED * (shift is not None), scale, level=level)
            if shift is not None:
                part.scale *= shift.map.weight(shift.read[0])
            if kind == "const":
                part.kind |= CONSTANT
            elif kind == "data":
                part.kind |= DATA_PART
                next(rest)
            else:
                s1, s2, gap = (next(rest) for _ in range(3))
                part.left, part.right = self._known(s1), self._known(s2)
                part.row = self._row(gap, i) if self.tape.sides[gap] != CONST else -1
            if shift is not None:
                part.window, part.level = self._find_window(shift, level)
            parts.append(part)
        rows = [self._row(c, i), self._outer(r1, r2, i)]
        self._put(Row("near gap", [self._new(i)], rows, [p.row for p in parts if p.row >= 0], level=level,
                      roots=(self._known(r1), self._known(r2)), parts=parts))  # fmt: skip

    def _find_window(self, shift: Shift, level: int) -> tuple[int, int]:
        """The number of a window that is used before, and the level that it reads."""
        for j in self.layout.order:
            op = self.tape.ops[j]
            if op.kind == "along" and op.data == shift and self.layout.level[j] == level:
                return self._which(j), self.layout.level[op.args[0]]
        raise NoRuleError("a part of a covariance that is not summed")

    # ---- registers ------------------------------------------------------------------------------------

    def _row(self, i: int, reader: int) -> int:
        """The register of an operation, filled where it is known of one input, or a number."""
        if i in self.at:
            return self.at[i]
        side, kind = self.tape.sides[i], self.tape.ops[i].kind
        level = self.layout.level.get(i, self.layout.level.get(reader, 0))
        if (value := self.tape.value(i)) is not None:
            key: Any = ("fill", value, level)
            if key not in self.at:
                self._write("fill", key, a=value, level=level)
            return self.at[key]
        if kind == "ones":
            return self._ones()
        if kind == "same":
            key = ("same", level)
            if key not in self.at:
                self._write("same", key, level=level)
            return self.at[key]
        if side == PAIR:
            self._emit(i)
        elif side == CONST:
            raise NoRuleError(f"the machine over positions has no {kind}")
        else:
            self._write("first" if side == LEFT else "second", i, level=level, more=(self._known(i), 0))
        return self.at[i]

    def _ones(self) -> int:
        return self.at.setdefault(ONES, -1)

    def _outer(self, i: int, j: int, reader: int) -> int:
        """The product of what is known per first and per second input."""
        tape = self.tape
        if {tape.sides[i], tape.sides[j]} != {LEFT, RIGHT}:
            if tape.sides[i] == CONST and tape.sides[j] == CONST:
                return self._row(tape.const((tape.value(i) or 0.0) * (tape.value(j) or 0.0)), reader)
            made = self._new(None)
            self._put(Row("mul", [made], [self._row(i, reader), self._row(j, reader)], level=self.layout.level[reader]))
            return made
        i, j = (i, j) if tape.sides[i] == LEFT else (j, i)
        scale = 1.0
        for side in (i, j):
            factor, inner = tape.scaled(side)
            if factor != 1.0 and tape.sides[inner] != CONST:
                scale *= factor
        i, j = tape.scaled(i)[1], tape.scaled(j)[1]
        key = ("outer", i, j, scale)
        if key not in self.at:
            self._write("outer", key, a=scale, level=self.layout.level[reader], more=(self._known(i), self._known(j)))
        return self.at[key]

    def _known(self, i: int) -> int:
        """The number of what is known per input, 0 being the data; what is known of neither is filled in by both."""
        of = self.left if self.tape.sides[i] == LEFT else self.right
        if self.tape.sides[i] not in (LEFT, RIGHT):
            raise NoRuleError("a number where what is known per input is asked for")
        if i not in of:
            of.append(i)
        return 1 + of.index(i)

    def _new(self, i: Any) -> int:
        self.made += 1
        if i is not None:
            self.at[i] = self.made - 1
        return self.made - 1

    def _write(self, op: str, i: Any, reads: Sequence[int] = (), **more: Any) -> None:
        self._put(Row(op, [] if op == "sum" else [self._new(i)], list(reads), **more))

    def _put(self, row: Row) -> None:
        self.rows.append(row)

    # ---- tables ---------------------------------------------------------------------------------------

    def _finished(self) -> Code:
        registers = _allocated(self.rows)
        numbers: dict[float, int] = {}
        table, parts, scales = [], list[list[int]](), list[float]()
        for row in self.rows:
            first = len(parts)
            for p in row.parts:
                parts.append([p.kind, p.row, p.left, p.right, p.window, p.level, row.level])
                scales.append(p.scale)
            more = (first, len(parts)) if row.parts else row.more
            outs = [*row.writes, *(row.roots or ())]
            at = [numbers.setdefault(v, len(numbers)) for v in (row.a, row.b)]
            table.append([OPCODES[row.op], *_padded(outs), *_padded(row.reads), *at, row.level, *more])
        windows = [[given, made, int(shift.transpose), *axis_table(shift.map, self.layout.ndim)]
                   for shift, given, made in self.windows if isinstance(shift.map, Window)]  # fmt: skip
        return Code(np.array(table, np.int64), np.array(list(numbers)), np.array(parts, np.int64).reshape(-1, 7),
                    np.array(scales), np.array(windows, np.int64).reshape(-1, 3 + 4 * NDIM), self.left, self.right,
                    list(self.series), registers)  # fmt: skip


def _padded(values: Sequence[int]) -> list[int]:
    return [*values, *[0] * (3 - len(values))]


def _allocated(rows: list[Row]) -> int:
    """Give each register a place that is free, never one that its own instruction reads; 1 at all positions is last.

    Returns:
        How many places there are.
    """
    last: dict[int, int] = {}
    for t, row in enumerate(rows):
        for r in (*row.reads, *row.also, *row.writes):
            last[r] = max(last.get(r, -1), t)
    place, free, count = dict[int, int](), list[int](), 0
    for t, row in enumerate(rows):
        written = []
        for r in row.writes:
            if not free:
                free.append(count)
                count += 1
            place[r] = free.pop()
            written.append(r)
        ended = {r for r in (*row.reads, *row.also, *written) if r >= 0 and last[r] <= t}
        row.reads = [r if r < 0 else place[r] for r in row.reads]
        row.writes = [place[r] for r in row.writes]
        for p in row.parts:
            p.row = place[p.row] if p.row >= 0 else -1
        free += [place[r] for r in sorted(ended)]
    for row in rows:
        row.reads = [count if r < 0 else r for r in row.reads]
    return count + 1


def level_shapes(layout: Layout) -> np.ndarray:
    """(levels, 2, NDIM) sizes."""
    return np.array([[flat(n) for n in level.sizes] for level in layout.levels], np.int64)


def sizes_of(tape: Tape, layout: Layout, known: Sequence[int], channels: int, side: int) -> list[int]:
    """How many numbers the data and what else is known per input of one side are."""
    first = prod(layout.sizes[side >> 1]) * channels
    return [first, *(layout.positions(i) for i in known)]
