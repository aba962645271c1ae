"""The machines that run a program on panels of a Gram matrix, behind one interface."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

import numpy as np

from tensorprog.compile.arrays import NEAR
from tensorprog.compile.blas import one_thread
from tensorprog.compile.coefficients import series_of
from tensorprog.compile.compiled import Program
from tensorprog.compile.schedule import TILE, Code
from tensorprog.compile.tape import LEFT, RIGHT
from tensorprog.compile.vectors import Vectors
from tensorprog.errors import NoRuleError, nearest, shortly

Panel = tuple[int, int, int, int]  # rows i0..i1, columns j0..j1
BLOCK = 512  # height and width of the pairs whose products a thread takes at once, half as high where there are few
FEW = 2**23
# blocks whose cosines are all at most SMALL are single: partial sums then err by 1e-7; where half of those of SOME
# inputs are TYPICAL or more, few blocks would be, and all are double
SMALL, TYPICAL, SOME = 0.25, 0.04, 128
CACHED = 2**22  # bytes of a result up to which it is left in the cache
UNKNOWN = "the numba machine has closed forms and smooth functions only; leave out backend or pass 'numpy'"


class Machine(Protocol):
    """A program made ready for two sets of inputs."""

    def run(self, panel: Panel, triangle: bool, out: Sequence[np.ndarray]) -> list[Panel]:
        """Fill a panel of every result (below the diagonal, and mirrored, for a ``triangle``).

        Returns:
            The tiles with results that are not finite: angles not had to full accuracy, or overflow.
        """


class NumPyMachine:
    """Tiles whose temporaries stay in cache.

    Args:
        program: what to compute.
        a, b: inputs, of the precision of results.
    """

    def __init__(self, program: Program, a: Vectors, b: Vectors) -> None:
        self.program = program
        self.cosines = _Cosines(program, a, b, _scale)
        self.left = {i: np.reshape(v, (-1, 1)) for i, v in program.per_input(a, LEFT).items()}
        self.right = {i: np.reshape(v, (1, -1)) for i, v in program.per_input(b, RIGHT).items()}
        self.shape = (128, 256) if program.closed else (512, 512)

    def run(self, panel: Panel, triangle: bool, out: Sequence[np.ndarray]) -> list[Panel]:
        flagged = []
        for i0, i1, j0, j1 in tiles(panel, *self.shape):
            if triangle and j0 >= i1:
                continue
            left = {i: v[i0:i1] if v.size > 1 else v for i, v in self.left.items()}
            right = {i: v[:, j0:j1] if v.size > 1 else v for i, v in self.right.items()}
            found = self.cosines((i0, i1, j0, j1), triangle, [self.program.times(i) for i in self.program.units])
            cosines = dict(zip(self.program.units, found.astype(np.float64, copy=False), strict=True))
            values = self.program.on_pairs(cosines, left, right, self.cosines.near)
            for result, value in zip(out, values, strict=True):
                with np.errstate(over="ignore"):
                    value = np.asarray(value).astype(result.dtype, copy=False)
                if not np.isfinite(value).all():
                    flagged.append((i0, i1, j0, j1))
                _place(result, value, (i0, i1, j0, j1), triangle)
        return list(dict.fromkeys(flagged))


class NumbaMachine:
    """The compiled interpreter of ``machine`` on threads, each of which takes its own input products by BLAS."""

    def __init__(self, program: Program, a: Vectors, b: Vectors) -> None:
        import numba

        from tensorprog.compile.machine import scale

        if program.code is None:
            raise NoRuleError(UNKNOWN)
        self.code, self.threads = program.code, numba.get_num_threads()
        self.cosines = _Cosines(program, a, b, scale)
        self.numbers = np.array(self.code.numbers)
        left, right = program.per_input(a, LEFT), program.per_input(b, RIGHT)
        self.left = np.ascontiguousarray(table(left, self.code.left, len(a)).T)
        self.right = table(right, self.code.right, len(b))
        self.near = np.array(self.cosines.near)
        self.series = series_of(self.code.series, left, right, (0, len(a)), (0, len(b)))

    def run(self, panel: Panel, triangle: bool, out: Sequence[np.ndarray]) -> list[Panel]:
        height = BLOCK if _pairs(panel) > FEW else BLOCK // 2
        cut = [(i0, i1, j0, min(j1, i1) if triangle else j1) for i0, i1, j0, j1 in tiles(panel, height, BLOCK)
               if not triangle or j0 < i1]  # fmt: skip
        cut.sort(key=_pairs, reverse=True)  # small ones last, to finish together
        largest = _pairs(cut[0]) if cut else 0
        threads = min(self.threads, len(cut))
        todo = iter(cut)
        if threads < 2:
            return self._work(todo, largest, triangle, out)
        with ThreadPoolExecutor(threads) as pool, one_thread:
            work = [pool.submit(self._work, todo, largest, triangle, out) for _ in range(threads)]
            return [tile for w in work for tile in w.result()]

    def _work(self, todo: Iterator[Panel], largest: int, triangle: bool, out: Sequence[np.ndarray]) -> list[Panel]:
        """Blocks of at most ``largest`` pairs, until there are no more: their products are read while in cache."""
        from tensorprog.compile.machine import workspace

        times = [(s, t) for (_, s), (_, t) in self.code.grams]
        space = np.empty(len(times) * largest)
        rows = workspace(*self.code.space)
        flagged = []
        for block in todo:
            products = self.cosines(block, triangle, times, space)
            tables = products, self.numbers, self.left, self.right, self.near, *self.series
            flagged += run_threads(self.code, tables, (block[0], block[2]), block, triangle, triangle, out, 1, rows)
        return flagged


MACHINES: dict[str, Any] = {"numba": NumbaMachine, "numpy": NumPyMachine}


def choose(backend: str | None, program: Program) -> Any:
    """The machine asked for; numba where it is installed and knows the program, else NumPy.

    Raises:
        NoRuleError: unknown backend, or one that is not installed.
    """
    return MACHINES[_named(backend, program.code is not None)]


def _named(backend: str | None, known: bool) -> str:
    installed = importlib.util.find_spec("numba") is not None
    if backend is None:
        return "numba" if installed and known else "numpy"
    if backend not in MACHINES:
        raise NoRuleError(f"unknown backend {shortly(backend)}; {nearest(backend, MACHINES)}")
    if backend == "numba" and not installed:
        raise NoRuleError("backend='numba' needs numba: pip install 'tensorprog[fast]'")
    return backend


def choose_threads(backend: str | None, known: bool) -> int:
    """Threads of the numba machine for a loop, 0 for array operations; ``known``: whether it knows all of it.

    Raises:
        NoRuleError: unknown backend, one that is not installed, or one that does not know all of it.
    """
    if _named(backend, known) == "numpy":
        return 0
    if not known:
        raise NoRuleError(UNKNOWN)
    import numba

    return int(numba.get_num_threads())


def tiles(panel: Panel, height: int, width: int) -> Iterator[Panel]:
    """The panel cut into tiles."""
    i0, i1, j0, j1 = panel
    for i in range(i0, i1, height):
        for j in range(j0, j1, width):
            yield i, min(i + height, i1), j, min(j + width, j1)


def _pairs(panel: Panel) -> int:
    return (panel[1] - panel[0]) * (panel[3] - panel[2])


def _place(result: np.ndarray, value: np.ndarray, tile: Panel, triangle: bool) -> None:
    i0, i1, j0, j1 = tile
    if not triangle or j1 <= i0:
        result[i0:i1, j0:j1] = value
        if triangle:
            result[j0:j1, i0:i1] = np.broadcast_to(value, (i1 - i0, j1 - j0)).T
        return
    rows, columns = np.nonzero(np.arange(i0, i1)[:, None] > np.arange(j0, j1))
    below = np.broadcast_to(value, (i1 - i0, j1 - j0))[rows, columns]
    result[i0 + rows, j0 + columns] = below
    result[j0 + columns, i0 + rows] = below


class _Cosines:
    """Cosines between data by blocks, in the precision of the data where all of a block are ``SMALL``, else double.

    Args:
        scale: see ``_scale``.

    Attributes:
        near: the least gaps, see ``arrays.run``.
    """

    def __init__(self, program: Program, a: Vectors, b: Vectors, scale: Callable[..., int]) -> None:
        self.sides, self.scale = (a, b), scale
        self.dtype = np.dtype(np.float64)  # in which quadrature checks covariances
        sampled = (_typical_cosine(a, b, *program.times(i)) for i in program.units)
        if program.closed and a.x.dtype != self.dtype and all(typical < TYPICAL for typical in sampled):
            self.dtype = a.x.dtype
        self.near = NEAR, 0.0 if a.x.shape[-1] == 1 else NEAR  # numbers have the exact cosines ±1 and 0

    def __call__(self, block: Panel, triangle: bool, times: Sequence[tuple[int, int]],
                 space: np.ndarray | None = None) -> np.ndarray:  # fmt: skip
        """Those of pairs of times, (times, rows, columns).

        Args:
            triangle: entries of one input with itself are not needed.
            space: numbers to write over.
        """
        found, large = self._products(block, triangle, times, self.dtype, space)
        if self.dtype != np.float64 and large:
            found, _ = self._products(block, triangle, times, np.dtype(np.float64), space)
        return found

    def _products(self, block: Panel, triangle: bool, times: Sequence[tuple[int, int]], dtype: Any,
                  space: np.ndarray | None) -> tuple[np.ndarray, int]:  # fmt: skip
        """The cosines in a precision, and how many are not ``SMALL``."""
        i0, i1, j0, j1 = block
        shape = len(times), i1 - i0, j1 - j0
        space = np.empty(np.prod(shape)) if space is None else space
        found = space.view(dtype)[: np.prod(shape)].reshape(shape)
        own, large = np.arange(max(i0, j0), min(i1, j1)) if triangle else np.empty(0, int), 0
        for cosines, (s, t) in zip(found, times, strict=True):
            (u, left), (v, right) = self.sides[0].rows(s, dtype), self.sides[1].rows(t, dtype)
            np.matmul(u[i0:i1], v[j0:j1].T, out=cosines)
            cosines[own - i0, own - j0] = 0.0
            large += self.scale(cosines, left[i0:i1], right[j0:j1], SMALL)
        return found, large


def _typical_cosine(a: Vectors, b: Vectors, s: int, t: int) -> float:
    """The median size of those of some inputs, evenly spaced."""
    (u, left), (v, right) = ([part[:: -(-len(part) // SOME)] for part in side.rows(k, side.x.dtype)]
                             for side, k in ((a, s), (b, t)))  # fmt: skip
    with one_thread:
        return float(np.median(np.abs(u @ v.T * np.outer(left, right))))


def _scale(products: np.ndarray, left: np.ndarray, right: np.ndarray, limit: float) -> int:
    """Multiply by a number for each row and for each column; how many are then larger than the limit."""
    products *= left[:, None]
    products *= right
    return int(np.count_nonzero(products > limit) + np.count_nonzero(products < -limit))


def table(values: Mapping[int, Any], rows: Sequence[int], count: int) -> np.ndarray:
    """The values per input that are read, one row for each."""
    result = np.empty((len(rows), count))
    for k, i in enumerate(rows):
        result[k] = values[i]
    return result


def run_threads(code: Code, tables: Any, origin: tuple[int, int], panel: Panel, triangle: bool, mirror: bool,
                out: Sequence[np.ndarray], threads: int, space: Any = None) -> list[Panel]:  # fmt: skip
    """Run instructions on the tiles of a panel, on threads where there are enough; the tiles that stay open."""
    from tensorprog.compile.machine import run_tiles, workspace

    cut = list(tiles(panel, TILE, TILE))
    flags = np.zeros(len(cut), np.bool_)
    offsets = np.array([_offset(a) if mirror else -1 for a in out])
    arguments = (code.roots, *tables, *origin, *panel, triangle, mirror, offsets, tuple(out), flags)

    def work(start: int, step: int) -> None:
        run_tiles(code.table, space or workspace(*code.space), *arguments, start, step)

    if len(cut) < 2 * threads or threads < 2:
        work(0, 1)
    else:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(work, range(threads), [threads] * threads))
    return [cut[k] for k in np.flatnonzero(flags)]


def _offset(result: np.ndarray) -> int:
    """Where a result begins in its line of cache, in entries; −1 for one that the cache should keep."""
    if result.nbytes <= CACHED or result.ctypes.data % result.itemsize:
        return -1
    return result.ctypes.data % 64 // result.itemsize
