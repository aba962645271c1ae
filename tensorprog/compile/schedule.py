"""A tape as instructions of the numba machine: rows in registers, per-input values in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorprog.compile.tape import PAIR, RIGHT, Tape

TILE, STRIP = 256, 128  # the width of a row, and how many rows are written and mirrored together
NAMES = ("lin", "mul", "fma", "axpy", "unit", "fill", "arc", "asin", "gap", "apart", "spread", "plain",
         "cosine", "exp", "sinh", "cosh", "smooth")  # fmt: skip
OPCODES = {name: code for code, name in enumerate(NAMES)}
PARTNERS = {"relu": ("arc", 0), "step": ("arc", 1), "relu gap": ("arc", 2), "asin": ("asin", 0), "rsq": ("asin", 1)}
RESULTS = (1, 2, 9)  # the columns of up to three results
WIDTH = 10


@dataclass
class Code:
    """Instructions (op, two results, operand rows x y z, numbers a b c, one more result) and their tables.

    Attributes:
        table: (instructions, WIDTH).
        registers: how many rows they use; the first of them are the values per second input.
        roots: the registers of the results.
        numbers: constants; the numbers of a row are these and then ``left``.
        left, right: the operations whose values per first and per second input are read.
        grams: the values per pair that are read: cosines, or what is carried, as the data of their operations.
        series: the (φ, ψ, q1, q2) of smooth functions and of the operations that are their variances.
    """

    table: np.ndarray
    registers: int
    roots: np.ndarray
    numbers: list[float]
    left: list[int]
    right: list[int]
    grams: list[Any]
    series: list[tuple[Any, Any, int, int]]

    @property
    def space(self) -> tuple[int, int, int]:
        """How many results, registers and numbers of a row there are."""
        return len(self.roots), self.registers, len(self.numbers) + len(self.left)


def runs_in_rows(tape: Tape, roots: Sequence[int]) -> bool:
    """Whether the machine knows every operation per pair."""
    known = {*OPCODES, *PARTNERS, "carry"}
    return all(tape.sides[i] != PAIR or tape.ops[i].kind in known for i in tape.needed(roots))


def schedule(tape: Tape, roots: Sequence[int], read: Sequence[object] = (), signed: bool = False,
             order: Sequence[int] | None = None) -> Code:  # fmt: skip
    """Instructions for the operations per pair that the roots need.

    Args:
        order: the operations in the order of ``Tape.ordered``, where it is known.
        read: values per pair that are read, in their order, before others.
        signed: read signed gaps of data instead of their cosines.
    """
    return _Scheduler(tape, roots, read, signed).code(tape.ordered(roots) if order is None else order)


@dataclass
class _Scheduler:
    tape: Tape
    roots: Sequence[int]
    read: Sequence[object] = ()
    signed: bool = False
    rows: list[list[int]] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)  # operation -> virtual register
    made: int = 0

    def __post_init__(self) -> None:
        self.numbers: dict[float, int] = {1.0: 0}
        self.left: dict[int, int] = {}
        self.right: dict[int, int] = {}
        self.grams: dict[object, int] = {data: k for k, data in enumerate(self.read)}
        self.series: dict[tuple[Any, Any, int, int], int] = {}

    def code(self, order: Sequence[int]) -> Code:
        for i in order:
            if self.tape.sides[i] == PAIR and i not in self.at:
                self._emit(i)
        results = [self._row(i) for i in self.roots]
        table = np.array(self.rows, np.int64).reshape(-1, WIDTH)
        shift = len(self.numbers)
        for column in (6, 7, 8):  # numbers are counted from 0, values per first input from -1 downwards
            table[:, column] = np.where(table[:, column] < 0, shift - 1 - table[:, column], table[:, column])
        registers = _allocate(table, results, len(self.right))
        return Code(table, registers, np.array(results), list(self.numbers), list(self.left), list(self.right),
                    list(self.grams), list(self.series))  # fmt: skip

    def _emit(self, i: int) -> None:
        kind, args, _ = self.tape.ops[i]
        if kind in PARTNERS:
            self._partners(i)
        elif kind == "carry" or (kind == "unit" and not self.signed):
            self._write("unit", self._new(i), x=self._read(i))
        elif kind == "unit":
            gap = self._new(None)
            self._write("unit", gap, x=self._read(i))
            self._write("cosine", self._new(i), x=gap)
        elif kind == "apart" and self.signed:
            self._write("unit", self._new(i), x=self._read(args[0]))
        elif kind == "lin":
            x = self._row(args[1])
            self._write("lin", self._new(i), x=x, a=self._number(args[0]), b=self._number(args[2]))
        elif kind == "mul":
            x, y = self._row(args[1]), self._row(args[2])
            self._write("mul", self._new(i), x=x, y=y, a=self._number(args[0]))
        elif kind in ("fma", "axpy"):
            z, x = self._row(args[0]), self._row(args[2])
            y = self._row(args[3]) if kind == "fma" else 0
            self._write(kind, self._new(i), x=x, y=y, z=z, a=self._number(args[1]))
        elif kind == "gap":
            x = self._row(args[0])
            self._write("gap", self._new(i), x=x, y=self._right(args[2]), a=self._number(args[1]))
        elif kind == "smooth":
            x, number = self._row(args[0]), (*self.tape.ops[i].data, *args[3:])
            self._write("smooth", self._new(i), x=x, y=self._right(args[2]), a=self._number(args[1]),
                        more=self.series.setdefault(number, len(self.series)))  # fmt: skip
        elif kind == "spread":
            z = self._row(args[0])
            self._write("spread", self._new(i), y=self._right(args[2]), z=z, a=self._number(args[1]))
        else:
            rows = [self._row(a) for a in args]
            self._write(kind, self._new(i), x=rows[0], y=rows[-1])

    def _partners(self, i: int) -> None:
        """All results of one angle in one instruction."""
        kind, args, _ = self.tape.ops[i]
        x, outs = self._row(args[0]), [-1, -1, -1]
        for partner, (name, slot) in PARTNERS.items():
            if name == PARTNERS[kind][0]:
                outs[slot] = self._new(self.tape.find(partner, args))
        o1, o2, o3 = outs
        if PARTNERS[kind][0] == "asin":
            a, b, y = self._number(args[1]), self._number(args[3]), self._right(args[2])
            self._write("asin", o1, o2, x=x, y=y, a=a, b=b)
        else:
            a, b, y, z = self._number(args[1]), self._number(args[2]), self._right(args[3]), self._right(args[4])
            self._write("arc", o1, o2, x=x, y=y, z=z, a=a, b=b, more=o3)

    def _write(self, kind: str, o1: int, o2: int = 0, x: int = 0, y: int = 0, z: int = 0, a: int = 0, b: int = 0,
               c: int = 0, more: int = 0) -> None:  # fmt: skip
        self.rows.append([OPCODES[kind], o1, o2, x, y, z, a, b, c, more])

    def _new(self, i: int | None) -> int:
        self.made += 1
        if i is not None:
            self.at[i] = self.made - 1
        return self.made - 1

    def _row(self, i: int) -> int:
        """The register of an operation, filled where it is known of the first input alone."""
        if self.tape.sides[i] == RIGHT:
            return self._right(i)
        if i not in self.at:
            self._write("fill", self._new(i), a=self._number(i))
        return self.at[i]

    def _number(self, i: int) -> int:
        value = self.tape.value(i)
        if value is not None:
            return self.numbers.setdefault(value, len(self.numbers))
        return -1 - self.left.setdefault(i, len(self.left))

    def _read(self, i: int) -> int:
        return self.grams.setdefault(self.tape.ops[i].data, len(self.grams))

    def _right(self, i: int) -> int:
        """Counted from −1 downwards, as virtual registers."""
        return -1 - self.right.setdefault(i, len(self.right))


ROWS_READ = {"lin": (3,), "mul": (3, 4), "fma": (3, 4, 5), "axpy": (3, 5), "unit": (), "fill": (), "arc": (3, 4, 5),
             "asin": (3, 4), "gap": (3, 4), "apart": (3,), "spread": (4, 5), "plain": (3,), "cosine": (3,),
             "exp": (3, 4), "sinh": (3, 4), "cosh": (3, 4), "smooth": (3, 4)}  # fmt: skip


def _allocate(table: np.ndarray, results: list[int], count: int) -> int:
    """Give each row a register that is free, never one that its own instruction reads; the first ``count`` stay."""
    reads = {OPCODES[k]: columns for k, columns in ROWS_READ.items()}
    results_of = {OPCODES["arc"]: RESULTS, OPCODES["asin"]: RESULTS[:2]}
    last = dict.fromkeys(results, len(table))
    for t, row in enumerate(table):
        for column in reads[row[0]]:
            last[row[column]] = max(last.get(row[column], -1), t)
    place = {-1 - k: k for k in range(count)}
    last |= dict.fromkeys(place, len(table))
    free: list[int] = []
    for t, row in enumerate(table):
        read = {int(row[column]) for column in reads[row[0]]}
        for column in reads[row[0]]:
            row[column] = place[int(row[column])]
        columns = results_of.get(int(row[0]), RESULTS[:1])
        written = [int(row[column]) for column in columns]
        for column, o in zip(columns, written, strict=True):
            if not free:
                free.append(count)
                count += 1
            place[o] = row[column] = free.pop()
        free += [place[o] for o in sorted({*read, *written}) if last.get(o, -1) <= t]
    results[:] = [place[o] for o in results]
    return max(count, 1)
