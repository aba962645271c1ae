"""A tape as instructions of the numba machine: rows in registers, per-input values in tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Tape

TILE, STRIP = 128, 16  # the width of a row, and how many rows are written and mirrored together
OPCODES = {k: i for i, k in enumerate("lin mul fma axpy gram right fill arc asin exp sinh cosh".split())}
PARTNERS = {"relu": ("arc", 0), "step": ("arc", 1), "asin": ("asin", 0), "rsq": ("asin", 1)}
WIDTH = 11


@dataclass
class Code:
    """Instructions (op, two results, operand rows x y z, numbers a b c, one more row, tolerance) and their tables.

    Attributes:
        table: (instructions, WIDTH).
        registers: how many rows they use.
        roots: the registers of the results.
        numbers: constants; the numbers of a row are these and then ``left``.
        left, right: the operations whose values per first and per second input are read.
        grams: the inner products read, as the data of their operations.
    """

    table: np.ndarray
    registers: int
    roots: np.ndarray
    numbers: list[float]
    left: list[int]
    right: list[int]
    grams: list[tuple[tuple[int, int], tuple[int, int]]]

    @property
    def angles(self) -> int:
        """How many angles are taken."""
        return int(np.isin(self.table[:, 0], [OPCODES["arc"], OPCODES["asin"]]).sum())


def runs_in_rows(tape: Tape, roots: Sequence[int]) -> bool:
    """Whether the machine knows every operation per pair."""
    known = {*OPCODES, *PARTNERS}
    return all(tape.sides[i] != PAIR or tape.ops[i].kind in known for i in tape.needed(roots))


def schedule(tape: Tape, roots: Sequence[int]) -> Code:
    """Instructions for the operations per pair that the roots need."""
    return _Scheduler(tape, roots).code()


@dataclass
class _Scheduler:
    tape: Tape
    roots: Sequence[int]
    rows: list[list[int]] = field(default_factory=list)
    at: dict[int, int] = field(default_factory=dict)  # operation -> virtual register
    made: int = 0

    def __post_init__(self) -> None:
        self.numbers: dict[float, int] = {1.0: 0}
        self.left: dict[int, int] = {}
        self.right: dict[int, int] = {}
        self.grams: dict[object, int] = {}

    def code(self) -> Code:
        for i in self.tape.needed(self.roots):
            if self.tape.sides[i] == PAIR and i not in self.at and self.tape.ops[i].kind != "gram":
                self._emit(i)
        results = [self._row(i) for i in self.roots]
        table = np.array(self.rows, np.int64).reshape(-1, WIDTH)
        shift = len(self.numbers)
        for column in (6, 7, 8):  # numbers are counted from 0, values per first input from -1 downwards
            table[:, column] = np.where(table[:, column] < 0, shift - 1 - table[:, column], table[:, column])
        registers = _allocate(table, results)
        return Code(table, registers, np.array(results), list(self.numbers), list(self.left), list(self.right),
                    list(self.grams))  # fmt: skip

    def _emit(self, i: int) -> None:
        kind, args, _ = self.tape.ops[i]
        if kind in PARTNERS:
            self._partners(i)
        elif kind == "lin" and self.tape.ops[args[1]].kind == "gram" and self.tape.sides[args[1]] == PAIR:
            self._write("gram", self._new(i), x=self._gram(args[1]), a=self._number(args[0]), b=self._number(args[2]))
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
        else:
            rows = [self._row(a) for a in args]
            self._write(kind, self._new(i), x=rows[0], y=rows[-1])

    def _partners(self, i: int) -> None:
        """Both results of one angle in one instruction."""
        kind, args, _ = self.tape.ops[i]
        x, outs, near = self._row(args[0]), [-1, -1], self._from_data(args[0])
        for partner, (name, slot) in PARTNERS.items():
            other = self.tape._known.get((partner, args, None))  # type: ignore[call-overload]
            if name == PARTNERS[kind][0]:
                outs[slot] = self._new(other)
        if len(args) == 3:
            self._write("asin", *outs, x=x, y=self._right(args[2]), a=self._number(args[1]), near=near)
            return
        s1, r1, w1, s2, r2, w2 = args[1:]
        a, b, c = map(self._number, (s1, r1, w1))
        self._write("arc", *outs, x=x, y=self._right(s2), z=self._right(r2), a=a, b=b, c=c, more=self._right(w2),
                    near=near)  # fmt: skip

    def _from_data(self, i: int) -> int:
        """1 where inner products enter operation i without an angle in between: it has their precision; else 0."""
        todo, seen = [i], set()
        while todo:
            j = todo.pop()
            kind, args, _ = self.tape.ops[j]
            if kind == "gram" and self.tape.sides[j] == PAIR:
                return 1
            if j not in seen and kind not in PARTNERS:
                todo += args
            seen.add(j)
        return 0

    def _write(self, kind: str, o1: int, o2: int = 0, x: int = 0, y: int = 0, z: int = 0, a: int = 0, b: int = 0,
               c: int = 0, more: int = 0, near: int = 0) -> None:  # fmt: skip
        self.rows.append([OPCODES[kind], o1, o2, x, y, z, a, b, c, more, near])

    def _new(self, i: int | None) -> int:
        self.made += 1
        if i is not None:
            self.at[i] = self.made - 1
        return self.made - 1

    def _row(self, i: int) -> int:
        """The register of an operation, loaded when it is not per pair or is an inner product."""
        if i not in self.at:
            side = self.tape.sides[i]
            if side in (CONST, LEFT):
                self._write("fill", self._new(i), a=self._number(i))
            elif side == RIGHT:
                self._write("right", self._new(i), x=self._right(i))
            else:
                a, b = self._number(self.tape.const(1.0)), self._number(self.tape.const(0.0))
                self._write("gram", self._new(i), x=self._gram(i), a=a, b=b)
        return self.at[i]

    def _number(self, i: int) -> int:
        value = self.tape.value(i)
        if value is not None:
            return self.numbers.setdefault(value, len(self.numbers))
        return -1 - self.left.setdefault(i, len(self.left))

    def _right(self, i: int) -> int:
        return self.right.setdefault(i, len(self.right))

    def _gram(self, i: int) -> int:
        return self.grams.setdefault(self.tape.ops[i].data, len(self.grams))


ROWS_READ = {"lin": (3,), "mul": (3, 4), "fma": (3, 4, 5), "axpy": (3, 5), "gram": (), "right": (), "fill": (),
             "arc": (3,), "asin": (3,), "exp": (3,), "sinh": (3, 4), "cosh": (3, 4)}  # fmt: skip


def _allocate(table: np.ndarray, results: list[int]) -> int:
    """Give each row a register that is free, never one that its own instruction reads."""
    reads = {OPCODES[k]: columns for k, columns in ROWS_READ.items()}
    twice = {OPCODES["arc"], OPCODES["asin"]}
    last = dict.fromkeys(results, len(table))
    for t, row in enumerate(table):
        for column in reads[row[0]]:
            last[row[column]] = max(last.get(row[column], -1), t)
    place: dict[int, int] = {}
    free: list[int] = []
    count = 0
    for t, row in enumerate(table):
        read = {int(row[column]) for column in reads[row[0]]}
        for column in reads[row[0]]:
            row[column] = place[int(row[column])]
        written = [int(row[column]) for column in ((1, 2) if row[0] in twice else (1,))]
        for column, o in enumerate(written, start=1):
            if not free:
                free.append(count)
                count += 1
            place[o] = row[column] = free.pop()
        free += [place[o] for o in {*read, *written} if last.get(o, -1) <= t]
    results[:] = [place[o] for o in results]
    return max(count, 1)
