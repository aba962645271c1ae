"""``K.gram`` and ``tp.gram``: Gram matrices of any size, in memory, on disk or on a cluster."""

from __future__ import annotations

import contextlib
import inspect
import pickle
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.compile import text
from tensorprog.compile.arrays import UNSURE
from tensorprog.compile.schedule import TILE
from tensorprog.derivation.compiling import COMPILING
from tensorprog.derivation.data import Inputs, read_pair
from tensorprog.derivation.named import Layout
from tensorprog.derivation.underflow import warn_of_underflow
from tensorprog.errors import DataError, NoRuleError, shortly, unknown_keywords
from tensorprog.files import read_memory
from tensorprog.functions import FAMILIES
from tensorprog.grams.blocks import (
    ArrayStore,
    Block,
    Journal,
    Store,
    cut,
    fingerprint,  # fmt: skip
    mirrored,
    on_disk,
    store_at,
    version,
)
from tensorprog.grams.cluster import pack, results
from tensorprog.grams.devices import gram_on_device, namespace
from tensorprog.grams.doubt import warn_of_errors
from tensorprog.grams.evaluator import HEIGHT, AnyKernel, Evaluator
from tensorprog.grams.images import PositionsEvaluator
from tensorprog.grams.places import arrays_for, check_room, journal_of, outputs, paths_of
from tensorprog.grams.sequences import PANEL, SHORT, SequenceEvaluator
from tensorprog.grams.whole import any_sampled, of_inputs, wholes
from tensorprog.ir.hyper import symbol_values
from tensorprog.locks import alone
from tensorprog.progress import Progress, counting, telling
from tensorprog.recursions.folded import FoldedKernel
from tensorprog.types import Data, HyperValues

MEMORY = 2**31
KEPT = 256  # compiled kernels: pairs of lengths, and values of hyperparameters
BAR = "Gram matrix"
SENT = 8  # lists of kernels that a worker of a cluster keeps, with what it derived and compiled


@dataclass
class Job:
    """Kernels between two sets of inputs, any block of them; ``second`` is None for the first set with itself."""

    kernels: tuple[AnyKernel, ...]
    first: Inputs
    second: Inputs | None
    hyper: dict[Any, float]
    dtype: Any
    backend: str | None
    known: tuple[np.ndarray, ...] | None = None  # all pairs, where blocks are cut out of one whole

    @property
    def shape(self) -> tuple[int, int]:
        """Of the result."""
        return len(self.first), len(self.first if self.second is None else self.second)

    @property
    def data(self) -> list[np.ndarray]:
        """The arrays of all inputs."""
        return [x for inputs in (self.first, self.second) if inputs is not None for x in inputs.data.values()]

    def evaluator(self, lengths: tuple[Any, Any]) -> Evaluator | PositionsEvaluator:
        """The compiled kernels for a pair of lengths, kept with the first kernel."""
        return evaluator(self.kernels, lengths, self.hyper, self.backend, self.first.layout)

    def loop(self) -> SequenceEvaluator | None:
        """The kernels as a loop over time, where some sequences are long; None where their equations have none."""
        if self.kernels[0].net.takes_axes:
            return None
        lengths = [t or 0 for x in (self.first, self.second or self.first) for t in x.groups]
        if max(lengths) <= SHORT:
            return None
        found = _kept(self.kernels, "loop", self.hyper, self.backend, self._rolled)
        return found if found is not None and found.takes(lengths) else None

    def _rolled(self) -> SequenceEvaluator | None:
        try:
            return SequenceEvaluator(self.kernels, self.hyper, self.backend)
        except NoRuleError:
            return None

    def fill(self, out: Sequence[np.ndarray], advance: Callable[[int], None] | None = None) -> None:
        """Compute all pairs into arrays."""
        if self.known is not None:
            for result, matrix in zip(out, self.known, strict=True):
                result[:] = matrix
            return
        loop = self.loop()
        if loop is not None:
            loop.fill(self.first, self.second, out, advance)
            return
        second = self.first if self.second is None else self.second
        for t1, rows in self.first.groups.items():
            for t2, columns in second.groups.items():
                if self.second is None and (t1 or 0) > (t2 or 0):
                    continue
                own = self.second is None and t1 == t2
                a = self.first.data[t1].astype(self.dtype, copy=False)
                b = None if own else second.data[t2].astype(self.dtype, copy=False)
                whole = len(rows) == len(self.first) and len(columns) == len(second)
                part = out if whole else [np.empty((len(rows), len(columns)), self.dtype) for _ in out]
                self.evaluator((t1, t2)).fill(a, b, part, advance)
                if not whole:
                    for result, block in zip(out, part, strict=True):
                        result[np.ix_(rows, columns)] = block
                        if self.second is None and not own:
                            result[np.ix_(columns, rows)] = block.T

    @property
    def told(self) -> int:
        """How many pairs ``fill`` tells of in all: those of panels on the diagonal twice."""
        if self.second is not None:
            return int(np.prod(self.shape))
        groups = [len(self.first)] if self.loop() else [len(rows) for rows in self.first.groups.values()]
        height = PANEL if self.loop() else HEIGHT
        squares = sum(min(height, n - i) ** 2 for n in groups for i in range(0, n, height))
        return (len(self.first) ** 2 + squares) // 2

    def sides(self, block: Block) -> tuple[Inputs, Inputs | None]:
        """The inputs of one block."""
        i0, i1, j0, j1 = block
        own = self.second is None and (i0, i1) == (j0, j1)
        second = None if own else (self.first if self.second is None else self.second).take(j0, j1)
        return self.first.take(i0, i1), second

    def part(self, block: Block) -> Job:
        """The same kernels on the inputs of one block."""
        i0, i1, j0, j1 = block
        known = None if self.known is None else tuple(matrix[i0:i1, j0:j1] for matrix in self.known)
        return Job(self.kernels, *self.sides(block), self.hyper, self.dtype, self.backend, known)

    def note(self, found: Sequence[np.ndarray], block: Block | None = None) -> None:
        """Warn where numbers, of all pairs or of a block, have lost digits below the normal ones."""
        sides = (self.first, self.second) if block is None else self.sides(block)
        for kernel, value in zip(self.kernels, found, strict=True):
            warn_of_underflow(np.asarray(value), kernel, *sides, self.hyper)

    def arrays(self) -> list[np.ndarray]:
        """All pairs, in new arrays."""
        out = arrays_for(self.shape, self.dtype, len(self.kernels))
        self.fill(out)
        return out

    def identity(self, block: int) -> dict[str, Any]:
        """What the numbers depend on."""
        lengths = [self.first.lengths, None if self.second is None else self.second.lengths]
        second = [] if self.second is None else list(self.second.data.values())
        return {
            "version": version(),
            "kernel": fingerprint(*self._texts()),
            "inputs": fingerprint(repr(lengths), *self.first.data.values(), *second),
            "shape": list(self.shape),
            "dtype": str(np.dtype(self.dtype)),
            "block": block,
        }

    def _texts(self) -> list[str]:
        """What is computed: the formulas and the functions in them, or the numbers themselves."""
        if self.known is not None:
            return [fingerprint(*self.known)]
        loop = self.loop()
        groups = self.first.groups, (self.second or self.first).groups
        texts = [loop.text] if loop else [self.evaluator((t1, t2)).text for t1 in groups[0] for t2 in groups[1]]
        return [*texts, functions_in(" ".join(texts))]


def functions_in(formulas: str) -> str:
    """The definitions of the nonlinearities a text names: a declared one may be another under the same name."""
    used = sorted(set(re.findall(r"\w+", formulas)) & FAMILIES.keys())
    return repr([(n, f.definition, f.pieces, f.kinks, f.ends) for n in used for f in [FAMILIES[n]]])


def gram(kernels: AnyKernel | Sequence[AnyKernel], X1: Data, X2: Data | None = None, *, out: Any = None,
         values: HyperValues | None = None, dtype: np.typing.DTypeLike = np.float64, backend: str | None = None,
         block: int | None = None, memory: float | str = MEMORY, progress: Progress = None,
         path: str | Path | None = None, resume: bool = True, client: Any = None) -> Any:  # fmt: skip
    """Gram matrices K(X1[i], X2[j]) by compiled kernels; several kernels, such as NNGP and NTK, share one pass.

    Args:
        kernels: a kernel, or several of networks that take the same inputs; also recursions, at a depth by
            ``Recursion.at``.
        X1: inputs, as for a kernel: (N, d), (N, T, d) or a list of (T_i, d); NumPy arrays or anything they can be
            made of, or arrays of torch, CuPy or JAX, computed where they are, or by the processor if over positions.
        X2: like X1; None for X1 with itself: symmetric, its diagonal compares each input with itself.
        values: numbers for hyperparameters that are symbols, by symbol or by name.
        dtype: float64, or float32: inputs and results are rounded to it, and so are inner products in blocks
            without large cosines; all else is computed in float64.
        out: arrays (N1, N2) to write to, one for each kernel, which share no memory with each other or the inputs.
        backend: ``"numba"``, ``"numpy"``, or None for the fastest there is.
        block: compute in blocks of this size; chosen from ``memory`` when None.
        memory: bytes that a block and its temporaries may take, as a number or such as "4GB", beside inputs and
            results in memory; on a cluster, in each thread of a worker.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.
        path: a .npy or .zarr file to write to instead of memory, one for each kernel.  What is finished is noted in
            a journal beside each, so that the same call goes on after a crash; one process at a time writes a file.
        resume: go on from a journal; False starts again.
        client: a Dask client, whose workers compute the blocks.

    Warns:
        AccuracyWarning: the relative error of an entry is above 1e-9.

    Returns:
        (N1, N2) array of ``dtype``, a memory map or a zarr array; a tuple of them for several kernels.

    Raises:
        DataError: data, dtype, ``out``, file or journal that do not fit; a value that is not finite.
        NoRuleError: an unknown backend, or one that cannot compute the kernel.
        ComputeError: a full disk, a file that another process is writing, lost workers, a kernel that cannot be sent to
            them, a missing optional package.

    >>> import tensorprog as tp
    >>> net = tp.programs.mlp(depth=2)
    >>> K, Θ = tp.gram([tp.nngp(net), tp.ntk(net)], [[1.0, 0.0], [0.6, 0.8]])
    >>> Θ.round(3)
    array([[1.5  , 0.772],
           [0.772, 1.5  ]])
    """
    if backend is not None and not isinstance(backend, str):
        raise NoRuleError(f"backend is a name such as 'numba', got {shortly(backend)}")
    if not isinstance(resume, bool):
        raise DataError(f"resume is True or False, got {shortly(resume)}")
    memory, several, xp = read_memory(memory), isinstance(kernels, Sequence), namespace(X1)
    chosen = _kernels(kernels if isinstance(kernels, Sequence) else [kernels])
    if xp is not None:
        if any(given is not None for given in (path, client, out, block)) or backend not in (None, "numpy"):
            raise DataError("arrays on a device are computed there, whole: leave out out, backend, block, path, client")
        again = partial(gram, chosen, values=values, dtype=dtype, memory=memory, progress=progress)
        arrays = gram_on_device(evaluator, chosen, _hyper(values, chosen), xp, X1, X2, _dtype(dtype), again)
        return tuple(arrays) if several else arrays[0]
    job = _job(chosen, X1, X2, values, dtype, backend)
    if any_sampled(job):
        with telling(progress):
            job.known, client = wholes(job), None
    noted = UNSURE.count
    if path is None and client is None and block is None:
        found = outputs(out, job.shape, job.dtype, len(job.kernels), several, job.data)
        with counting(progress, job.told, BAR) as advance:
            job.fill(found, advance)
        job.note(found)
    else:
        size = _block_size(job, block, memory)
        with contextlib.ExitStack() as held:
            stores, journals = _stores(job, size, out, path, resume, several, held)
            _in_blocks(job, size, stores, journals, client, progress)
            found = [s.open() for s in stores]
    warn_of_errors(job, noted)
    return tuple(found) if several else found[0]


def known_options(call: str, options: dict[str, Any], others: Iterable[str] = ()) -> dict[str, Any]:
    """The options of ``gram``.

    Raises:
        ProgramError: one that it does not have.
    """
    known = [p.name for p in inspect.signature(gram).parameters.values() if p.kind is p.KEYWORD_ONLY]
    if options.keys() - set(known):
        raise unknown_keywords(call, options.keys() - set(known), [*known, *others])
    return options


def _in_blocks(job: Job, size: int, stores: list[Store], journals: list[Journal], client: Any,
               progress: Progress) -> None:  # fmt: skip
    """Compute the blocks that no journal has finished."""
    finished = set[Block].intersection(*(j.done for j in journals)) if journals else set()
    todo = [b for b in cut(job.shape, size, job.second is None) if b not in finished]
    with counting(progress, len(todo), BAR) as advance:
        for done, arrays in _computed(job, todo, client):
            _write(job, stores, done, arrays)
            job.note(arrays, done)
            for journal in journals:
                journal.add(done)
            advance(1)


def evaluator(kernels: tuple[AnyKernel, ...], lengths: tuple[Any, Any], hyper: dict[Any, float],
              backend: str | None, layout: Layout | None = None) -> Any:  # fmt: skip
    """The compiled kernels for a pair of lengths, or of sizes, of named arrays with a layout."""
    kind: Any = partial(PositionsEvaluator, layout=layout) if kernels[0].net.takes_axes else Evaluator
    return _kept(kernels, (lengths, layout), hyper, backend, partial(kind, kernels, lengths, hyper, backend))


def _kept(kernels: tuple[AnyKernel, ...], what: Any, hyper: dict[Any, float], backend: str | None,
          make: Callable[[], Any]) -> Any:  # fmt: skip
    """What was compiled last time, with the first kernel; the oldest goes where there is much."""
    cache, key = kernels[0]._compiled, (kernels[1:], what, tuple(hyper.items()), backend)
    with COMPILING:
        if key not in cache:
            made = make()
            while len(cache) >= KEPT:
                cache.pop(next(iter(cache)))
            cache[key] = made
        return cache[key]


def source(kernel: AnyKernel, lengths: Sequence[int] | None = None, values: HyperValues | None = None) -> str:
    """The compiled kernel as text, for sequences of given lengths: see ``Kernel.source``.

    Raises:
        DataError: lengths of no sequences, or a symbol without a value.
    """
    hyper = _hyper(values, [kernel])
    if kernel.net.takes_axes:
        raise NoRuleError(
            f"what is compiled for {kernel.net.name} depends on the sizes of its inputs, and has no text; print the "
            "kernel"
        )
    if lengths is None or not kernel.net.takes_sequences:
        if lengths is not None:
            raise DataError(f"{kernel.net.name} takes single vectors; leave out lengths={shortly(lengths)}")
        return text.source(Evaluator([kernel], kernel.lengths, hyper).program)
    fits = isinstance(lengths, Sequence) and len(lengths) == 2 and all(type(t) is int and t > 0 for t in lengths)
    if not fits:
        raise DataError(f"lengths must be two positive integers (T, T'), got {shortly(lengths)}")
    if max(lengths) > SHORT and min(lengths) > 1:
        with contextlib.suppress(NoRuleError):
            found = SequenceEvaluator([kernel], hyper)
            if found.takes(lengths):
                return text.loop_source(found.loop)
    return text.source(Evaluator([kernel], (lengths[0], lengths[1]), hyper).program)


def _kernels(kernels: Any) -> tuple[AnyKernel, ...]:
    chosen = tuple(k.at() if isinstance(k, FoldedKernel) else k for k in kernels)
    if not chosen or not all(isinstance(k, AnyKernel) for k in chosen):
        raise DataError(f"gram takes a kernel or a list of kernels, got {shortly(kernels)}")
    if len({k.net.takes_sequences for k in chosen}) > 1:
        raise DataError("one pass serves kernels of the same inputs: some of these take vectors, some sequences")
    return of_inputs(chosen)


def _job(kernels: tuple[AnyKernel, ...], X1: Data, X2: Any, values: Any, dtype: Any, backend: str | None) -> Job:
    dtype = _dtype(dtype)
    first, second = read_pair(X1, X2, kernels[0].net.form, dtype, copy=False)
    return Job(kernels, first, second, _hyper(values, kernels), dtype, backend)


def _hyper(values: Any, kernels: Sequence[AnyKernel]) -> dict[sp.Symbol, float]:
    """Values for the symbols of any of the kernels."""

    def known() -> set[sp.Symbol] | None:
        found = [k.net.symbols for k in kernels]
        return None if None in found else {s for symbols in found for s in symbols or ()}

    return symbol_values(values, known)


def _dtype(dtype: Any) -> Any:
    try:
        found = np.dtype(dtype)
    except TypeError as error:
        raise DataError(f"dtype must be float64 or float32, got {shortly(dtype)}") from error
    if found not in (np.dtype(np.float64), np.dtype(np.float32)):
        raise DataError(f"dtype must be float64 or float32, got {found}")
    return found


def _block_size(job: Job, block: int | None, memory: int) -> int:
    """A multiple of the tile, where it is larger: what a block reads and writes fits into memory.

    That is its results, their mirror image and what a store makes of it, 4 k n² numbers; inner products of all pairs
    of times and strips of results, 8 T² n² and 4 (k + 1) n² bytes at most, however many threads there are; and of the
    inputs of both sides a copy and those of other precisions, 56 bytes for each of n d.
    """
    if block is None:
        over = [t for inputs in (job.first, job.second or job.first) for t in inputs.groups]
        longest = max(1 if t is None or isinstance(t, tuple) else t for t in over)
        times = longest**2 if longest <= SHORT else 1
        numbers = 4 * len(job.kernels) * np.dtype(job.dtype).itemsize + 8 * times + 4 * (len(job.kernels) + 1)
        per_input = 56 * max(x[0].size for x in job.data)
        block = int(2 * memory / (per_input + (per_input**2 + 4 * numbers * memory) ** 0.5))
        block = max(1, min(block, -(-max(job.shape) // TILE) * TILE))
        block -= block % TILE if block > TILE else 0
    if isinstance(block, bool) or not isinstance(block, (int, np.integer)) or block < 1:
        raise DataError(f"block must be a positive integer, got {shortly(block)}")
    return int(block)


def _stores(job: Job, size: int, out: Any, path: Any, resume: bool, several: bool,
            held: contextlib.ExitStack) -> tuple[list[Store], list[Journal]]:  # fmt: skip
    if path is None:
        return [ArrayStore(a) for a in outputs(out, job.shape, job.dtype, len(job.kernels), several, job.data)], []
    if out is not None:
        raise DataError("give out or path, not both")
    paths = paths_of(path, len(job.kernels), several, job.data)
    check_room(paths, job.shape, job.dtype)
    identity = job.identity(size)
    which = [{**identity, "kernel": fingerprint(identity["kernel"], str(k))} for k in range(len(paths))]
    places = [journal_of(p) for p in paths]
    for place in sorted(places, key=lambda p: str(p.resolve())):  # in one order: of two calls one holds all
        with on_disk(place):
            held.enter_context(alone(place))
    journals = [Journal(place, w, resume) for place, w in zip(places, which, strict=True)]
    stores = []
    for p, journal in zip(paths, journals, strict=True):  # all journals fit: files may be made
        journal.begin()
        done = mirrored(journal.done) if job.second is None else journal.done
        stores.append(store_at(p, job.shape, job.dtype, done, size))
    return stores, journals


def _write(job: Job, stores: Sequence[Store], block: Block, arrays: Sequence[np.ndarray]) -> None:
    i0, i1, j0, j1 = block
    for store, value in zip(stores, arrays, strict=True):
        store.write(block, value)
        if job.second is None and (i0, i1) != (j0, j1):
            store.write((j0, j1, i0, i1), value.T)
        store.flush()


def _computed(job: Job, todo: list[Block], client: Any) -> Iterator[tuple[Block, list[np.ndarray]]]:
    """Finished blocks, in order here and as they come from a cluster."""
    if client is None:
        return ((b, job.part(b).arrays()) for b in todo)
    packed = pack((job.kernels, job.hyper, job.dtype, job.backend))
    return results(client, _on_worker, ((b, (packed, part.first, part.second)) for b in todo for part in [job.part(b)]))


def _on_worker(packed: bytes, first: Inputs, second: Inputs | None) -> list[np.ndarray]:
    """The results of a block, by kernels that keep what they derived for the next one."""
    with COMPILING:  # so that threads of a worker share them
        kernels, *options = _unpacked(packed)
    return Job(kernels, first, second, *options).arrays()


@lru_cache(SENT)
def _unpacked(packed: bytes) -> Any:
    return pickle.loads(packed)
