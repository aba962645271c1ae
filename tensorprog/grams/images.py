"""Gram matrices of inputs with positions: offset by offset by the numba machine, by whole arrays where offsets are
mixed, or by the reference evaluator."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from math import prod
from queue import SimpleQueue
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Gen
from tensorprog.compile.backends import choose_threads
from tensorprog.compile.coefficients import Series, series_of
from tensorprog.compile.offsets import Layout
from tensorprog.compile.placed import Pair, lower_placed, per_input
from tensorprog.compile.steps import LANES, Code, Scheduler, level_shapes, sizes_of
from tensorprog.compile.tape import LEFT, PAIR, RIGHT, Tape
from tensorprog.derivation.compiling import COMPILING
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.named import Layout as NamedLayout
from tensorprog.errors import NoRuleError
from tensorprog.expectations.atoms import Expect
from tensorprog.grams.entries import Entries
from tensorprog.grams.evaluator import HEIGHT, AnyKernel, by_reference, finite
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.positions import Along

TABLE = 2**24  # numbers per input that are held at once for one side
TERMS = 128  # of a series, about
WORK = 2**23  # entries of registers that a call of the machine works on, about
REFERENCE = 2**20  # pairs of positions that the reference takes at once


class PositionsEvaluator:
    """Kernels of one network made ready for inputs of given sizes.

    Args:
        kernels: kernels of networks with the same inputs.
        sizes: of the positions of first and second inputs.
        hyper: numbers for hyperparameters that are symbols.
        backend: see ``compile.backends.choose_threads``.
        layout: of named arrays.

    Raises:
        NoRuleError: the backend cannot compute the kernels.
        DataError: weights belong to positions, and the sizes differ.
    """

    def __init__(self, kernels: Sequence[AnyKernel], sizes: Pair, hyper: Mapping[sp.Symbol, float],
                 backend: str | None = None, layout: NamedLayout | None = None) -> None:  # fmt: skip
        self.kernels, self.sizes, self.hyper, self.layout = tuple(kernels), sizes, dict(hyper), layout
        self.program: Offset | Entries
        self.threads = choose_threads(backend, True)
        try:
            self.program = Offset([_derived(k) for k in self.kernels], sizes, self.hyper)
        except NoRuleError:
            self.program = _entries(self.kernels, self.hyper)

    @property
    def text(self) -> str:
        """What the numbers depend on."""
        given = sorted(map(str, self.hyper.items()))
        equations = ([d.poly, *map(_said, reachable([d.poly]))] for d in map(_derived, self.kernels))
        return repr([self.sizes, self.layout, given, *equations])

    def fill(self, a: np.ndarray, b: np.ndarray | None, out: Sequence[np.ndarray],
             advance: Callable[[int], None] | None = None) -> None:  # fmt: skip
        """Compute every kernel between a and b, or of a with itself when b is None: see ``Evaluator.fill``.

        Raises:
            DataError: a value is not finite.
        """
        own, second = b is None, a if b is None else b
        a, second = (x.astype(np.float64, copy=False) for x in (a, second))
        told, left_open = _Told(advance, len(a), len(second), own), np.ones((len(a), len(second)), bool)
        if not self.threads:
            self._mend(a, second, own, left_open, out)
            told(1.0)
            return
        if isinstance(self.program, Entries):
            self.program.fill(a, None if own else second, self.sizes, self.layout, out, self.threads, told)
        elif not own and len(second) < LANES < len(a) and self.sizes[0] == self.sizes[1]:
            self.fill(second, a, [result.T for result in out], advance)
            return
        else:
            self.program.fill(a, None if own else second, out, self.threads, told)
        left_open = ~np.all([np.isfinite(result) for result in out], axis=0)
        self._mend(a, second, own, left_open, out)

    def _mend(self, a: np.ndarray, b: np.ndarray, own: bool, left_open: np.ndarray, out: Sequence[np.ndarray]) -> None:
        """Pairs that the machine left open, by the reference."""
        rows, columns = np.nonzero(np.tril(left_open) if own else left_open)
        width = max(1, REFERENCE // (a.shape[1] * b.shape[1]))
        for start in range(0, len(rows), width):
            i, j = rows[start : start + width], columns[start : start + width]
            for kernel, result in zip(self.kernels, out, strict=True):
                value = by_reference(kernel, a[i], b[j], self.sizes, self.hyper, self.layout)
                value = finite(kernel, value, result.dtype)
                result[i, j] = value
                if own:
                    result[j, i] = value


def _entries(kernels: tuple[AnyKernel, ...], hyper: Mapping[sp.Symbol, float]) -> Entries:
    """Kernels on whole arrays, which serve all sizes, kept with the first kernel."""
    cache, key = kernels[0]._compiled, ("entries", kernels[1:], tuple(hyper.items()))
    with COMPILING:
        if key not in cache:
            cache[key] = Entries([_derived(k) for k in kernels], hyper)
        return cache[key]  # type: ignore[no-any-return]


def _derived(kernel: AnyKernel) -> Derivation:
    """The equations of a kernel.

    Raises:
        NoRuleError: it is a recursion.
    """
    if not isinstance(kernel, DerivedKernel):
        raise NoRuleError(f"{kernel!r} is a recursion, and its network reads positions; use the kernel itself")
    return kernel._derive()


def _said(g: Gen) -> str:
    """All that a generator is."""
    if isinstance(g, Name):
        return f"{g} = {g.definition}"
    if isinstance(g, Along):
        return f"{g} = {g.key} {g.inner}"
    return f"{g} = {g.body} {g.cov} {g.mean} {g.scalars}" if isinstance(g, Expect) else f"{g} {getattr(g, 'inner', '')}"


@dataclass
class _Told:
    """Tells of work done in pairs, as ``Evaluator.fill`` counts them."""

    advance: Callable[[int], None] | None
    rows: int
    columns: int
    own: bool
    done: float = 0.0
    said: int = 0

    def __call__(self, fraction: float) -> None:
        """A fraction of all is done, beside what was before."""
        self.done += fraction
        ends = [(i, min(i + HEIGHT, self.rows)) for i in range(0, self.rows, HEIGHT)]
        whole = sum((j - i) * j for i, j in ends) if self.own else self.rows * self.columns
        now = min(whole, round(self.done * whole))
        if self.advance is not None and now > self.said:
            self.advance(now - self.said)
        self.said = max(now, self.said)


@dataclass(frozen=True)
class _Call:
    """A call of the machine: rows start..stop with a group of columns over some offsets."""

    start: int
    stop: int
    group: int
    which: str


class Offset:
    """Kernels as instructions that run through all layers for one offset at a time.

    Raises:
        NoRuleError: they are not of that kind.
    """

    def __init__(self, derivations: Sequence[Derivation], sizes: Pair, hyper: Mapping[sp.Symbol, float]) -> None:
        self.tape, self.sizes = Tape(), sizes
        self.kernels = [lower_placed(self.tape, d.poly, d.trace.grams, hyper, sizes) for d in derivations]
        self.layout = Layout(self.tape, self.kernels, sizes)
        self.code: Code = Scheduler(self.layout, self.kernels).code()
        half, own = self.layout.halves() if sizes[0] == sizes[1] else (np.empty(0, int),) * 2
        self.offsets = {"all": np.arange(len(self.layout.offsets)), "half": half, "own": own}

    @cached_property
    def cost(self) -> dict[str, int]:
        """How many entries all registers have over all offsets."""
        pairs = self.layout.boxes[:, :, 3:6].prod(axis=2).max(axis=1)
        return {k: 1 + int(pairs[of].sum()) * LANES * len(self.code.table) for k, of in self.offsets.items()}

    def fill(self, a: np.ndarray, b: np.ndarray | None, out: Sequence[np.ndarray], threads: int, told: _Told) -> None:
        """Compute every kernel between a and b, or of a with itself; what is not known well enough is not finite."""
        channels = a.shape[2]
        totals = [sum(sizes_of(self.tape, self.layout, known, channels, side))
                  for known, side in ((self.code.left, LEFT), (self.code.right, RIGHT))]  # fmt: skip
        terms = TERMS * len(self.code.series) * max(map(prod, self.sizes))
        height = max(1, TABLE // (max(totals) + terms) // LANES) * LANES
        second = a if b is None else b
        for j in range(0, len(second), height):
            columns = slice(j, min(j + height, len(second)))
            right = self._right(second[columns])
            for i in range(j if b is None else 0, len(a), height):
                rows = slice(i, min(i + height, len(a)))
                left = self._table(a[rows], LEFT)
                tables = left[0], right[0], self._series(left[1], right[1])
                self._panel(tables, (rows, columns), b is None, channels, out, threads, told, len(a) * len(second))

    def _table(self, x: np.ndarray, side: int) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """What is known per input, (N, ·), and the variances that series read, (N, P)."""
        known = self.code.left if side == LEFT else self.code.right
        values = per_input(self.tape, [i for i in self._order if self.tape.sides[i] != PAIR], side, x)
        data = np.ascontiguousarray(x.swapaxes(1, 2)).reshape(len(x), -1)
        counts = sizes_of(self.tape, self.layout, known, x.shape[2], side)[1:]
        arrays = [np.broadcast_to(values[i], (len(x), n)) for i, n in zip(known, counts, strict=True)]
        read = {s[2 + (side == RIGHT)] for s in self.code.series}
        variances = {i: np.broadcast_to(values[i], (len(x), self.layout.positions(i))) for i in read}
        return np.concatenate([data, *arrays], axis=1), variances

    @cached_property
    def _order(self) -> list[int]:
        return self.tape.needed([*self.code.left, *self.code.right, *(i for s in self.code.series for i in s[2:])])

    def _right(self, x: np.ndarray) -> tuple[np.ndarray, dict[int, np.ndarray]]:
        """The same in groups of LANES, (groups, ·, LANES)."""
        found, variances = self._table(x, RIGHT)
        groups = -(-len(x) // LANES)
        padded = np.minimum(np.arange(groups * LANES), len(x) - 1)

        def grouped(of: np.ndarray) -> np.ndarray:
            return np.ascontiguousarray(of[padded].reshape(groups, LANES, -1).swapaxes(1, 2))

        return grouped(found), {i: grouped(v) for i, v in variances.items()}

    def _series(self, left: dict[int, np.ndarray], right: dict[int, np.ndarray]) -> Series:
        """The tables of smooth functions: every position of every input is an input of theirs."""
        sides = [{i: v.ravel() for i, v in of.items()} for of in (left, right)]
        counts = [max((v.size for v in of.values()), default=0) for of in sides]
        first, second = ({i: np.pad(v, (0, n - v.size)) for i, v in of.items()}
                         for of, n in zip(sides, counts, strict=True))  # fmt: skip
        return series_of(self.code.series, first, second, (0, counts[0]), (0, counts[1]))

    def _bases(self, channels: int) -> np.ndarray:
        """Where each array of what is known begins, on both sides."""
        counts = [sizes_of(self.tape, self.layout, known, channels, side)
                  for known, side in ((self.code.left, LEFT), (self.code.right, RIGHT))]  # fmt: skip
        begins = np.zeros((max(map(len, counts)), 2), np.int64)
        for k, count in enumerate(counts):
            begins[: len(count), k] = np.cumsum([0, *count[:-1]])
        return begins

    def _calls(self, rows: slice, columns: slice, own: bool) -> Iterator[_Call]:
        """All calls for a panel, of which a symmetric one needs those below the diagonal."""
        count = columns.stop - columns.start
        step = max(1, WORK // self.cost["all"])
        for g in range(-(-count // LANES)):
            first = columns.start + g * LANES
            begin = rows.start
            if own and first >= rows.start:
                begin = min(rows.stop, first + LANES)
                if first < rows.stop:
                    yield _Call(first - rows.start, begin - rows.start, g, "own")
            for i in range(begin, rows.stop, step):
                yield _Call(i - rows.start, min(i + step, rows.stop) - rows.start, g, "all")

    def _panel(self, tables: tuple[np.ndarray, np.ndarray, Series], panel: tuple[slice, slice], own: bool,
               channels: int, out: Sequence[np.ndarray], threads: int, told: _Told, pairs: int) -> None:  # fmt: skip
        from tensorprog.compile.diagonals import workspace

        (left, right, series), (rows, columns) = tables, panel
        count = columns.stop - columns.start
        code = self.code
        fixed = (code.table, code.numbers, code.parts, code.scales, code.windows, level_shapes(self.layout),
                 self.layout.boxes)  # fmt: skip
        data = self._bases(channels), channels, self.layout.wraps, left
        todo = iter(list(self._calls(rows, columns, own)))

        done: SimpleQueue[float | None] = SimpleQueue()

        def work() -> None:
            try:
                space = workspace(self.code.registers, self.layout.largest, len(self.kernels))
                for call in todo:
                    lanes = min(LANES, count - call.group * LANES)
                    more = right[call.group], lanes, call.group, *series, call.start, call.stop, *space
                    found = self._run(call, fixed, (*data, *more))
                    self._write(call, found, lanes, rows, columns, own, out)
                    done.put((2 if own and call.which == "all" else 1) * (call.stop - call.start) * lanes / pairs)
            finally:
                done.put(None)

        with ThreadPoolExecutor(threads) as pool:
            running = [pool.submit(work) for _ in range(threads)]
            for _ in running:
                while (fraction := done.get()) is not None:
                    told(fraction)
        for one in running:
            one.result()

    def _run(self, call: _Call, fixed: tuple[Any, ...], more: tuple[Any, ...]) -> np.ndarray:
        """The kernels of a call, (rows, kernels, LANES)."""
        from tensorprog.compile.diagonals import run_rows

        def over(which: str) -> np.ndarray:
            out = np.empty((call.stop - call.start, len(self.kernels), LANES))
            run_rows(*fixed, self.offsets[which], *more, out)
            return out

        if call.which == "all":
            return over("all")
        found, n = over("own"), call.stop - call.start
        if len(self.offsets["half"]):
            half = over("half")
            found[:, :, :n] += half[:, :, :n] + half[:, :, :n].transpose(2, 1, 0)
        return found

    def _write(self, call: _Call, found: np.ndarray, lanes: int, rows: slice, columns: slice, own: bool,
               out: Sequence[np.ndarray]) -> None:  # fmt: skip
        i = slice(rows.start + call.start, rows.start + call.stop)
        first = columns.start + call.group * LANES
        j = slice(first, first + lanes)
        for k, (kernel, result) in enumerate(zip(self.kernels, out, strict=True)):
            value = kernel.number + found[:, k, :lanes]
            if call.which == "own":
                value = np.tril(value) + np.tril(value, -1).T
            with np.errstate(over="ignore"):
                result[i, j] = value
            if own and call.which == "all":
                result[j, i] = result[i, j].T
