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
from tensorprog.compile.compiled import Program
from tensorprog.compile.rolling import Step
from tensorprog.compile.schedule import Code, runs_in_rows, schedule
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT
from tensorprog.compile.vectors import Vectors, cosine_of, directions, exact_gap, gap_of_directions

UNIT = ((0, 0), (1, 0))
WIDTH = 128  # height, at most, and width of a tile, whose carried values stay in cache
TIMES, READ = 32, 2**21  # steps that a tile takes at once, and how many numbers of data are read for them at most
LIST = 2**18  # numbers of a list of pairs that are compared at once
Carried = dict[int, np.ndarray]
Span = tuple[int, int]
Known = Callable[["Region", Span], tuple[dict[int, Any], Carried]]
UnderWay = tuple[bool, bool]  # whether the first and the second input have been there before
KINDS = BOTH, FIRST, SECOND, NEITHER = (True, True), (True, False), (False, True), (False, False)


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
        """Values per input of rows x at this time, and what is carried on or given that reads no other input."""
        values = self.program.per_input(Vectors(x[:, None]), side, carried)
        sides = self.program.tape.sides
        return values, {k: np.broadcast_to(values[i], len(x)) for k, i in self.outs if sides[i] in (CONST, side)}

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
    """Sequences aligned at their ends, longest first, which takes no room for the times before they start.

    Attributes:
        rows: (Σ T_i, d), time by time; those of time t are rows[begins[t] : begins[t + 1]].
        begins: (T + 1,).
        starts: the first time of each sequence, ascending.
    """

    rows: np.ndarray
    begins: np.ndarray
    starts: np.ndarray

    @classmethod
    def of(cls, sequences: Sequence[np.ndarray], count: int, dtype: Any = np.float64) -> Side:
        """Sequences (T_i, d) with T_i ≤ count, in order of their lengths, longest first, converted to ``dtype``."""
        side = cls._empty(np.array([count - len(x) for x in sequences]), count, sequences[0].shape[1], dtype)
        for n, x in enumerate(sequences):
            side.rows[side.begins[count - len(x) : count] + n] = x
        return side

    @classmethod
    def _empty(cls, starts: np.ndarray, count: int, d: int, dtype: Any) -> Side:
        begins = np.zeros(count + 1, int)
        np.cumsum(np.searchsorted(starts, np.arange(count), "right"), out=begins[1:])
        return cls(np.empty((begins[-1], d), dtype), begins, starts)

    @property
    def count(self) -> int:
        """The number of times."""
        return len(self.begins) - 1

    def at(self, t: int) -> np.ndarray:
        """The data of time t, (N_t, d)."""
        return self.rows[self.begins[t] : self.begins[t + 1]]

    def there(self, t: int) -> Span:
        """How many were there before time t, and are at t."""
        before, begin, end = (int(self.begins[max(s, 0)]) for s in (t - 1, t, t + 1))
        return begin - before, end - begin

    def directions(self, begin: int, end: int) -> np.ndarray:
        """The directions of those times, (times, N, d) for the N that are there in the end."""
        found = directions(self.rows[self.begins[begin] : self.begins[end]])
        result = np.zeros((end - begin, self.there(end - 1)[1], found.shape[1]))
        if len(found) == result.shape[0] * result.shape[1]:
            return found.reshape(result.shape)
        places = self.begins[begin : end + 1] - self.begins[begin]
        for into, first, last in zip(result, places, places[1:], strict=False):
            into[: last - first] = found[first:last]
        return result

    def take(self, chosen: np.ndarray) -> Side:
        """Some of them, which must start together, in any order."""
        side = self._empty(self.starts[chosen], self.count, self.rows.shape[1], self.rows.dtype)
        np.take(self.rows, (self.begins[side.starts[0] : -1, None] + chosen).reshape(-1), axis=0, out=side.rows)
        return side

    def sequences(self) -> np.ndarray:
        """Those that start together, (N, T, d)."""
        return self.rows.reshape(-1, len(self.starts), self.rows.shape[1]).swapaxes(0, 1)


class Loop:
    """A kernel of sequences.

    Args:
        first, body, last: how a pair starts, every time after, and the results.
        late: how a pair starts whose other input is under way: by whether the first and the second are.
        single: the results of pairs with a sequence that starts at the last time, in the same way.
    """

    def __init__(self, first: Step, body: Step, last: Step, late: Mapping[UnderWay, Step],
                 single: Mapping[UnderWay, Step]) -> None:  # fmt: skip
        sides = body.tape.sides
        carried = [k for k, i in body.outs if sides[i] == PAIR]
        self.carried, self.results = carried, len(last.outs)
        between = {BOTH: body, NEITHER: first, **late}
        self.between = {k: Region(s, carried) for k, s in between.items()}
        self.ends = {k: Region(s, carried) for k, s in {BOTH: last, **single}.items()}
        for region in self.ends.values():
            region.pairs = list(region.outs)

    @property
    def runs_in_rows(self) -> bool:
        """Whether the numba machine knows all of it."""
        return all(r.code is not None for r in self.regions)

    @property
    def first(self) -> Region:
        """How a pair starts."""
        return self.between[NEITHER]

    @property
    def body(self) -> Region:
        """Every time between."""
        return self.between[BOTH]

    @property
    def last(self) -> Region:
        """The results."""
        return self.ends[BOTH]

    @property
    def late(self) -> dict[int, Region]:
        """How a pair starts where the first input starts (0) or the second (1), the other being under way."""
        return {k: self.between[key] for k, key in enumerate((SECOND, FIRST)) if key in self.between}

    @property
    def regions(self) -> list[Region]:
        """All programs."""
        return [*self.between.values(), *self.ends.values()]

    def run(self, a: Side, b: Side, triangle: bool, threads: int) -> list[np.ndarray]:
        """The kernels of all pairs, (N1, N2) each; of pairs below the diagonal for a ``triangle``.

        Args:
            a, b: the sequences.
            triangle: b is a.
            threads: of the numba machine; 0 for array operations.
        """
        end, n1, n2 = a.count - 1, len(a.starts), len(b.starts)
        regions = [self.between.get(k, self.between[NEITHER]) for k in KINDS]  # as many each time, so compiled once
        panel = Panel(np.zeros((1 + len(self.carried), n1, n2)), threads, regions)
        state: tuple[Carried, Carried] = {}, {}
        for times in self._spans(a, b):
            parts: list[Part] = []
            for t in range(*times):
                known = self._known(LEFT, a, t, state[0]), self._known(RIGHT, b, t, state[1])
                parts += self._parts(self.between, t, (a, b), known, triangle)
                state = self._advance(a.there(t), known[0]), self._advance(b.there(t), known[1])
            if self.carried:
                panel.steps(a, b, times, parts, triangle)
        out = [np.empty((n1, n2)) for _ in range(self.results)]
        known = self._known(LEFT, a, end, state[0]), self._known(RIGHT, b, end, state[1])
        for part in self._parts(self.ends, end, (a, b), known, triangle):
            panel.run(part, a, b, triangle, out)
        return out

    @staticmethod
    def _spans(a: Side, b: Side) -> Iterator[Span]:
        """Times before the last that are taken at once."""
        begin, last = 0, a.count - 1
        while begin < last:
            end = min(begin + TIMES, last)
            most = max(side.there(end - 1)[1] for side in (a, b))
            end = min(end, begin + max(1, READ // (most * a.rows.shape[1])))
            yield begin, end
            begin = end

    def own(self, a: Side) -> list[np.ndarray]:
        """The kernels of each sequence with itself, for the loop of one input."""
        state: Carried = {}
        for t in range(a.count - 1):
            state = self._advance(a.there(t), self._known(LEFT, a, t, state))
        values = self._joined(self.ends, a.there(a.count - 1), self._known(LEFT, a, a.count - 1, state))
        return [values[k] for k in range(self.results)]

    @property
    def text(self) -> str:
        """What the numbers depend on."""
        return repr([(r.program.tape.ops, r.outs) for r in self.regions])

    @staticmethod
    def _parts(regions: Mapping[UnderWay, Region], t: int, data: tuple[Side, Side], known: tuple[Known, Known],
               triangle: bool) -> Iterator[Part]:  # fmt: skip
        """What to run at a time on which rows and columns: those that were under way come before those that start."""
        (i0, i1), (j0, j1) = (side.there(t) for side in data)
        for key, rows, columns in ((BOTH, (0, i0), (0, j0)), (SECOND, (i0, i1), (0, j0)),
                                   (FIRST, (0, i0), (j0, j1)), (NEITHER, (i0, i1), (j0, j1))):  # fmt: skip
            if rows[0] < rows[1] and columns[0] < columns[1] and not (triangle and key == FIRST):
                left, right = (know(regions[key], span)[0] for know, span in zip(known, (rows, columns), strict=True))
                yield Part(t, regions[key], rows, columns, left, right)

    @staticmethod
    def _known(side: int, inputs: Side, t: int, carried: Carried) -> Known:
        """What is known per input at a time, for some of the inputs, each computed once."""
        return cache(lambda region, span: region.side(side, inputs.at(t)[slice(*span)], _part(carried, *span)))

    def _advance(self, there: Span, known: Known) -> Carried:
        return self._joined(self.between, there, known)

    @staticmethod
    def _joined(regions: Mapping[UnderWay, Region], there: Span, known: Known) -> Carried:
        """What is carried on of all that are there: of those that were under way, and of those that start."""
        old, new = there
        parts = [known(regions[BOTH], (0, old))[1]] if old else []
        parts += [known(regions[NEITHER], (old, new))[1]] if new > old else []
        return {k: np.concatenate([p[k] for p in parts]) for k in parts[0]} if parts else {}

    def on_list(self, a: Side, b: Side) -> list[np.ndarray]:
        """The kernels of pairs (a[p], b[p]), angles of data from differences, which tell the smallest ones.

        Args:
            a, b: as many sequences as there are pairs, which start together on each side.
        """
        start1, start2, last = int(a.starts[0]), int(b.starts[0]), a.count - 1
        near = NEAR, 0.0
        state: tuple[Carried, Carried] = {}, {}
        pairs: Carried = {}
        for t in range(min(start1, start2), a.count):
            if t >= max(start1, start2):
                region = (self.between if t < last else self.ends)[t > start1, t > start2]
                left, _ = region.side(LEFT, a.at(t), state[0])
                right, _ = region.side(RIGHT, b.at(t), state[1])
                values = region.on_arrays(left, right, exact_gap(a.at(t), b.at(t)), pairs, near)
                pairs = {k: v for (k, _), v in zip(region.pairs, values, strict=True)}
            if t < last:
                known = self._known(LEFT, a, t, state[0]), self._known(RIGHT, b, t, state[1])
                state = self._advance(a.there(t), known[0]), self._advance(b.there(t), known[1])
        return [np.array(np.broadcast_to(pairs[k], len(a.starts))) for k in range(self.results)]


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
        self.near = NEAR, 0.0

    def steps(self, a: Side, b: Side, times: Span, parts: Sequence[Part], triangle: bool) -> None:
        """Steps of some times."""
        if self.threads and not any(r.code is not None and r.code.series for r in self.regions):
            self._compiled(a, b, times, parts, triangle)
            return
        for p in parts:
            self.run(p, a, b, triangle, list(self.stack[1:]))

    def _compiled(self, a: Side, b: Side, times: Span, parts: Sequence[Part], triangle: bool) -> None:
        from tensorprog.compile.machine import run_steps, workspace

        codes: list[Any] = [region.code for region in self.regions]
        sizes = [max(size) for size in zip(*(c.space for c in codes), strict=True)]
        U = a.directions(*times)
        V = np.ascontiguousarray((U if b is a else b.directions(*times)).transpose(0, 2, 1))
        L = np.zeros((len(parts), U.shape[1], max(len(c.left) for c in codes)))
        R = np.zeros((len(parts), max(len(c.right) for c in codes), V.shape[2]))
        rows = np.empty((len(parts), 6), np.int64)
        for m, p in enumerate(parts):
            code = codes[self.regions.index(p.region)]
            rows[m] = p.time - times[0], self.regions.index(p.region), *p.rows, *p.columns
            L[m, slice(*p.rows), : len(code.left)] = table(p.left, code.left, p.rows[1] - p.rows[0]).T
            R[m, : len(code.right), slice(*p.columns)] = table(p.right, code.right, p.columns[1] - p.columns[0])
        numbers = tuple(np.array(c.numbers) for c in codes)
        arguments = (tuple(c.table for c in codes), tuple(c.roots for c in codes), numbers, rows, U, V, L, R,
                     np.array(self.near), *series_of((), {}, {}, (0, 0), (0, 0)), self.stack, triangle,
                     (max(8, min(WIDTH, -(-self.stack.shape[1] // (4 * self.threads)))), WIDTH))  # fmt: skip

        def work(start: int) -> None:
            run_steps(*arguments, workspace(sizes[0], sizes[1], sizes[2] + L.shape[2]), start, self.threads)

        if self.threads < 2:
            work(0)
            return
        with ThreadPoolExecutor(self.threads) as pool:
            list(pool.map(work, range(self.threads)))

    def run(self, part: Part, a: Side, b: Side, triangle: bool, out: Sequence[np.ndarray]) -> None:
        """One step."""
        region, (r0, r1), (c0, c1) = part.region, part.rows, part.columns
        gaps = self.stack[0, r0:r1, c0:c1]
        signed_gaps(a.at(part.time)[r0:r1], b.at(part.time)[c0:c1], self.near[0], gaps)
        code = region.code if self.threads else None
        if code is None:
            known = {k: self.stack[1 + n, r0:r1, c0:c1] for n, k in enumerate(region.carried)}
            left = {i: np.reshape(v, (-1, 1)) for i, v in part.left.items()}
            values = region.on_arrays(left, part.right, gaps, known, self.near)
            for result, value in zip(out, [self._own(v) for v in values], strict=True):
                result[r0:r1, c0:c1] = value
            return
        L, R = np.empty((r1, len(code.left))), np.empty((len(code.right), c1))
        L[r0:], R[:, c0:] = table(part.left, code.left, r1 - r0).T, table(part.right, code.right, c1 - c0)
        series = series_of(code.series, part.left, part.right, (r0, r1), (c0, c1))
        tables = self.stack, np.array(code.numbers), L, R, np.array(self.near), *series
        run_threads(code, tables, (0, 0), (r0, r1, c0, c1), triangle and r0 == c0, False, out, self.threads)

    def _own(self, value: Any) -> Any:
        """A value that writing to the stack does not change: what is carried on as it is may go to another place."""
        return value.copy() if isinstance(value, np.ndarray) and np.may_share_memory(value, self.stack) else value


def signed_gaps(x: np.ndarray, y: np.ndarray, near: float, out: np.ndarray) -> None:
    """Those of the rows of x and of y; ones below ``near``, which the cosine has lost, from differences."""
    u = directions(x)
    v = directions(y)
    cosine = u @ v.T
    gap = 1 - np.abs(cosine)
    rows, columns = np.nonzero(gap < (near if x.shape[1] > 1 else -1.0))  # of numbers they are exact
    width = max(1, LIST // x.shape[1])
    for part in (slice(start, start + width) for start in range(0, len(rows), width)):
        gap[rows[part], columns[part]] = np.abs(gap_of_directions(u[rows[part]], v[columns[part]]))
    np.copysign(np.maximum(gap, LEAST, out=gap), cosine, out=out)


def _part(carried: Carried, start: int, stop: int) -> Carried:
    return {k: v[start:stop] for k, v in carried.items()}
