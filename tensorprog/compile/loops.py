"""Running a loop over time for all pairs of sequences: a few numbers per pair, whatever the length."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, NamedTuple

import numpy as np

from tensorprog.compile.arrays import LEAST, NEAR
from tensorprog.compile.backends import run_threads, table
from tensorprog.compile.coefficients import series_of
from tensorprog.compile.program import Program, cosine_of, directions, exact_gap
from tensorprog.compile.rolling import Step
from tensorprog.compile.schedule import TILE, Code, runs_in_rows, schedule
from tensorprog.compile.tape import LEFT, PAIR, RIGHT

UNIT = ((0, 0), (1, 0))
TIMES, READ = 32, 2**21  # steps that a tile takes at once, and how many numbers of data are read for them at most
Carried = dict[int, np.ndarray]
Span = tuple[int, int]
Known = Callable[["Region", Span], tuple[dict[int, Any], Carried]]


class Region:
    """One step as a program: per-input values, and what pairs carry.

    Attributes:
        program: all that the step gives.
        pairs: the (number, operation) of what it gives per pair.
    """

    def __init__(self, step: Step, carried: Sequence[int]) -> None:
        self.program = Program(step.tape, tuple(i for _, i in step.outs))
        self.outs, self.carried = step.outs, carried
        self.pairs = [(k, i) for k, i in step.outs if k in carried]

    @cached_property
    def code(self) -> Code | None:
        """Instructions; None where the numba machine does not know an operation."""
        roots = [i for _, i in self.pairs]
        known = runs_in_rows(self.program.tape, roots)
        return schedule(self.program.tape, roots, [UNIT, *self.carried], signed=True) if known else None

    def side(self, side: int, x: np.ndarray, carried: Carried) -> tuple[dict[int, Any], Carried]:
        """Values per input of rows x at this time, and what is carried on."""
        values = self.program.per_input(x[:, None], side, carried)
        sides = self.program.tape.sides
        return values, {k: np.broadcast_to(values[i], len(x)) for k, i in self.outs if sides[i] == side}

    def on_arrays(self, left: Any, right: Any, gap: Any, carried: Mapping[int, Any], near: Any) -> list[Any]:
        """What pairs carry on, by array operations."""
        tape = self.program.tape
        known = {i: carried[tape.ops[i].data] for i in self.program.order
                 if tape.ops[i].kind == "carry" and tape.sides[i] == PAIR}  # fmt: skip
        for i in self.program.units:
            known[i] = cosine_of(gap)
            apart = tape.find("apart", (i,))
            if apart is not None:
                known[apart] = gap
        values = dict(zip(self.program.roots, self.program.on_pairs(known, left, right, near), strict=True))
        return [values[i] for _, i in self.pairs]


@dataclass(frozen=True)
class Side:
    """Sequences aligned at their ends, longest first: ``data`` (T, N, d), of which those with start ≤ t are there."""

    data: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray], count: int) -> Side:
        """Sequences (T_i, d) with T_i ≤ count, in order of their lengths, longest first."""
        data = np.zeros((count, len(sequences), sequences[0].shape[1]))
        for n, x in enumerate(sequences):
            data[count - len(x) :, n] = x
        return cls(data, np.array([count - len(x) for x in sequences]))

    def there(self, t: int) -> tuple[int, int]:
        """How many were there before time t, and are at t."""
        return int(np.searchsorted(self.starts, t, "left")), int(np.searchsorted(self.starts, t, "right"))

    def take(self, rows: Any) -> Side:
        """Some of them, in order."""
        return Side(self.data[:, rows], self.starts[rows])


class Loop:
    """A kernel of sequences.

    Args:
        first, body, last: how a pair starts, every time after, and the results.
        late: how a pair starts whose other input is under way: 0 where the first input starts, 1 the second.
    """

    def __init__(self, first: Step, body: Step, last: Step, late: Mapping[int, Step]) -> None:
        sides = body.tape.sides
        carried = [k for k, i in body.outs if sides[i] == PAIR]
        self.carried, self.results = carried, len(last.outs)
        self.first, self.body = Region(first, carried), Region(body, carried)
        self.late = {k: Region(s, carried) for k, s in late.items()}
        self.last = Region(last, carried)
        self.last.pairs = list(last.outs)

    @property
    def runs_in_rows(self) -> bool:
        """Whether the numba machine knows all of it."""
        return all(r.code is not None for r in (self.first, self.body, self.last, *self.late.values()))

    def run(self, a: Side, b: Side, triangle: bool, threads: int) -> list[np.ndarray]:
        """The kernels of all pairs, (N1, N2) each; of pairs below the diagonal for a ``triangle``.

        Args:
            a, b: the sequences.
            triangle: b is a.
            threads: of the numba machine; 0 for array operations.
        """
        count, n1, d = a.data.shape
        panel = Panel(np.zeros((1 + len(self.carried), n1, b.data.shape[1])), threads, self.regions)
        state: tuple[Carried, Carried] = {}, {}
        times = max(1, min(TIMES, READ // (max(n1, b.data.shape[1]) * d)))
        for begin in range(0, count - 1, times):
            end, parts = min(begin + times, count - 1), []
            for t in range(begin, end):
                known = self._known(LEFT, a, t, state[0]), self._known(RIGHT, b, t, state[1])
                for region, rows, columns in self._regions(a.there(t), b.there(t), triangle):
                    left, right = (know(region, span)[0] for know, span in zip(known, (rows, columns), strict=True))
                    parts.append(Part(t - begin, region, rows, columns, left, right))
                state = self._advance(a.there(t), known[0]), self._advance(b.there(t), known[1])
            panel.steps(a.data[begin:end], b.data[begin:end], parts, triangle)
        panel.gaps(a.data[-1], b.data[-1])
        left, _ = self.last.side(LEFT, a.data[-1], state[0])
        right, _ = self.last.side(RIGHT, b.data[-1], state[1])
        out = [np.empty((n1, b.data.shape[1])) for _ in range(self.results)]
        panel.run(self.last, left, right, (0, n1, 0, b.data.shape[1]), triangle, out)
        return out

    def own(self, a: Side) -> list[np.ndarray]:
        """The kernels of each sequence with itself, for the loop of one input."""
        state: Carried = {}
        for t in range(len(a.data) - 1):
            state = self._advance(a.there(t), self._known(LEFT, a, t, state))
        values = self.last.side(LEFT, a.data[-1], state)[1]
        return [values[k] for k in range(self.results)]

    @property
    def text(self) -> str:
        """What the numbers depend on."""
        return repr([(r.program.tape.ops, r.outs) for r in (self.first, self.body, self.last, *self.late.values())])

    def _regions(self, rows: Span, columns: Span, triangle: bool) -> Iterator[tuple[Region, Span, Span]]:
        """What to run on which rows and columns: ``rows[0]`` are under way, ``rows[1]`` with those that start."""
        (i0, i1), (j0, j1) = rows, columns
        if i0 and j0:
            yield self.body, (0, i0), (0, j0)
        if i1 > i0 and j0:
            yield self.late[0], (i0, i1), (0, j0)
        if i0 and j1 > j0 and not triangle:
            yield self.late[1], (0, i0), (j0, j1)
        if i1 > i0 and j1 > j0:
            yield self.first, (i0, i1), (j0, j1)

    @property
    def regions(self) -> list[Region]:
        """The programs of a step: where both are under way, where both start, where the first or the second does."""
        return [self.body, self.first, *(self.late.get(k, self.first) for k in (0, 1))]

    @staticmethod
    def _known(side: int, inputs: Side, t: int, carried: Carried) -> Known:
        """What is known per input at a time, for some of the inputs, each computed once."""
        return cache(lambda region, span: region.side(side, inputs.data[t, slice(*span)], _part(carried, *span)))

    def _advance(self, there: Span, known: Known) -> Carried:
        old, new = there
        parts = [known(self.body, (0, old))[1]] if old else []
        parts += [known(self.first, (old, new))[1]] if new > old else []
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]} if parts else {}

    def on_list(self, a: Side, b: Side) -> list[np.ndarray]:
        """The kernels of pairs (a[p], b[p]), angles of data from differences, which tell the smallest ones."""
        out = [np.empty(len(a.starts)) for _ in range(self.results)]
        begins = np.stack([a.starts, b.starts], axis=1)
        for begin in np.unique(begins, axis=0):
            rows = np.flatnonzero((begins == begin).all(axis=1))
            for result, value in zip(out, self._list(a.take(rows), b.take(rows), *begin.tolist()), strict=True):
                result[rows] = value
        return out

    def _list(self, a: Side, b: Side, start1: int, start2: int) -> list[np.ndarray]:
        near = NEAR[np.dtype(np.float64)], 0.0
        state: tuple[Carried, Carried] = {}, {}
        pairs: Carried = {}
        for t in range(min(start1, start2), len(a.data)):
            if t >= max(start1, start2):
                region = self._starting(t - start1, t - start2) if t + 1 < len(a.data) else self.last
                left, _ = region.side(LEFT, a.data[t], state[0])
                right, _ = region.side(RIGHT, b.data[t], state[1])
                gap = exact_gap(a.data[t], b.data[t])
                values = region.on_arrays(left, right, gap, pairs, near)
                pairs = {k: v for (k, _), v in zip(region.pairs, values, strict=True)}
            known = self._known(LEFT, a, t, state[0]), self._known(RIGHT, b, t, state[1])
            state = self._advance(a.there(t), known[0]), self._advance(b.there(t), known[1])
        return [np.broadcast_to(pairs[k], a.data.shape[1]) for k in range(self.results)]

    def _starting(self, age1: int, age2: int) -> Region:
        if age1 and age2:
            return self.body
        return self.first if age1 == age2 else self.late[1 if age1 else 0]


class Part(NamedTuple):
    """A step of some rows and columns, with what is known of each per input."""

    time: int
    region: Region
    rows: Span
    columns: Span
    left: Any
    right: Any


class Panel:
    """What all pairs of two sets carry: ``stack[0]`` the signed gaps of their data, ``stack[1:]`` the rest."""

    def __init__(self, stack: np.ndarray, threads: int, regions: Sequence[Region]) -> None:
        self.stack, self.threads, self.regions = stack, threads, regions
        self.near = NEAR[np.dtype(np.float64)], 0.0

    def steps(self, x: np.ndarray, y: np.ndarray, parts: Sequence[Part], triangle: bool) -> None:
        """Steps of data x (times, N1, d) and y (times, N2, d)."""
        if self.threads and not any(r.code is not None and r.code.series for r in self.regions):
            self._compiled(x, y, parts, triangle)
            return
        for p in parts:
            (r0, r1), (c0, c1) = p.rows, p.columns
            self.gaps(x[p.time, :r1], y[p.time, :c1])
            self.run(p.region, p.left, p.right, (r0, r1, c0, c1), triangle and r0 == c0, list(self.stack[1:]))

    def _compiled(self, x: np.ndarray, y: np.ndarray, parts: Sequence[Part], triangle: bool) -> None:
        from tensorprog.compile.machine import run_steps, workspace

        codes: list[Any] = [region.code for region in self.regions]
        sizes = [max(size) for size in zip(*(c.space for c in codes), strict=True)]
        L = np.zeros((len(parts), x.shape[1], max(len(c.left) for c in codes)))
        R = np.zeros((len(parts), max(len(c.right) for c in codes), y.shape[1]))
        rows = np.empty((len(parts), 6), np.int64)
        for m, p in enumerate(parts):
            code = codes[self.regions.index(p.region)]
            rows[m] = p.time, self.regions.index(p.region), *p.rows, *p.columns
            L[m, slice(*p.rows), : len(code.left)] = table(p.left, code.left, p.rows[1] - p.rows[0]).T
            R[m, : len(code.right), slice(*p.columns)] = table(p.right, code.right, p.columns[1] - p.columns[0])
        U, V = (directions(z.reshape(-1, z.shape[2])).reshape(z.shape) for z in (x, y))
        numbers = tuple(np.array(c.numbers) for c in codes)
        arguments = (tuple(c.table for c in codes), tuple(c.roots for c in codes), numbers, rows, U,
                     np.ascontiguousarray(V.transpose(0, 2, 1)), L, R, np.array(self.near),
                     *series_of((), {}, {}, (0, 0), (0, 0)), self.stack, triangle,
                     (max(8, min(TILE, -(-x.shape[1] // (4 * self.threads)))), TILE))  # fmt: skip

        def work(start: int) -> None:
            run_steps(*arguments, workspace(sizes[0], sizes[1], sizes[2] + L.shape[2], sizes[3]), start, self.threads)

        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, range(self.threads)))

    def gaps(self, x: np.ndarray, y: np.ndarray) -> None:
        """Those of the rows of x and of y; small ones, which the cosine has lost, from differences."""
        if not len(x) or not len(y):
            return
        cosine = directions(x) @ directions(y).T
        gap = 1 - np.abs(cosine)
        rows, columns = np.nonzero(gap < (self.near[0] if x.shape[1] > 1 else -1.0))  # of numbers they are exact
        gap[rows, columns] = np.abs(exact_gap(x[rows], y[columns]))
        np.copysign(np.maximum(gap, LEAST, out=gap), cosine, out=self.stack[0, : len(x), : len(y)])

    def run(self, region: Region, left: Any, right: Any, part: tuple[int, int, int, int], triangle: bool,
            out: Sequence[np.ndarray]) -> None:  # fmt: skip
        """A step for some rows and columns."""
        r0, r1, c0, c1 = part
        code = region.code if self.threads else None
        if code is None:
            known = {k: self.stack[1 + n, r0:r1, c0:c1] for n, k in enumerate(region.carried)}
            left = {i: np.reshape(v, (-1, 1)) for i, v in left.items()}
            values = region.on_arrays(left, right, self.stack[0, r0:r1, c0:c1], known, self.near)
            for result, value in zip(out, values, strict=True):
                result[r0:r1, c0:c1] = value
            return
        L, R = np.empty((r1, len(code.left))), np.empty((len(code.right), c1))
        L[r0:], R[:, c0:] = table(left, code.left, r1 - r0).T, table(right, code.right, c1 - c0)
        series = series_of(code.series, left, right, (r0, r1), (c0, c1))
        tables = self.stack, np.array(code.numbers), L, R, np.array(self.near), *series
        run_threads(code, tables, (0, 0), part, triangle, False, out, self.threads)


def _part(carried: Carried, start: int, stop: int) -> Carried:
    return {k: v[start:stop] for k, v in carried.items()}
