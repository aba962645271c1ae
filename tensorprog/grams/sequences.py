"""Kernels of sequences, of equal and of different lengths, by a loop over time."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.compile.backends import choose_threads
from tensorprog.compile.loops import FIRST, KINDS, NEITHER, SECOND, Loop, Side
from tensorprog.compile.rolling import Step, Unrolled, finish, roll, start
from tensorprog.derivation.data import Inputs
from tensorprog.errors import AccuracyError, DataError, NoRuleError
from tensorprog.grams.evaluator import NUMBERS, AnyKernel, by_reference, finite, infinite, lowered
from tensorprog.limit.evaluate import same
from tensorprog.recursions.sized import SizedKernel

SHORT = 6  # length up to which the equations are computed one by one
PANEL = 1024  # sequences whose pairs are carried at once
LIST = 2**22  # numbers of a list of pairs that are read at once
LONGEST = 1024  # length up to which pairs whose angle is lost on the way are computed by the reference
Sorted = list[tuple[int, np.ndarray]]


class SequenceEvaluator:
    """Kernels of one network as a loop over time, found at small lengths.

    Args:
        kernels: kernels of networks that take the same sequences.
        hyper: numbers for hyperparameters that are symbols.
        backend: see ``compile.backends``.

    Attributes:
        ragged: whether sequences may differ in length.
        single: whether sequences of length 1 may be among them.

    Raises:
        NoRuleError: the equations are not the same at all times.
    """

    def __init__(self, kernels: Sequence[AnyKernel], hyper: Mapping[sp.Symbol, float],
                 backend: str | None = None) -> None:  # fmt: skip
        self.kernels, self.hyper, self.backend = [_forward(k) for k in kernels], hyper, backend
        steps = self._steps(6, 2)
        proved, pattern = self.kernels[0]._compiled, ("steps", *self.kernels, _signs(hyper))
        if pattern not in proved:  # whether steps repeat is a matter of what is 0, not of how large the rest is
            if {k: s.key for k, s in self._steps(7, 3).items()} != {k: s.key for k, s in steps.items()}:
                raise NoRuleError("the steps of longer sequences differ")
            proved[pattern] = True
        late, single = ({k: steps[name, k] for k in KINDS if (name, k) in steps} for name in ("late", "single"))
        self.ragged, self.single = bool(late), bool(single)
        self.loop = Loop(steps["first"], steps["body"], steps["last"], late, single)
        alone = roll(self._unrolled((6,)))
        self.own = Loop(*alone[:3], {}, {NEITHER: finish(self._unrolled((1,)), *alone[:2])} if single else {})

    @property
    def text(self) -> str:
        """What the numbers depend on."""
        return self.loop.text

    def takes(self, lengths: Sequence[int]) -> bool:
        """Whether the loop holds for sequences of these lengths."""
        return (self.ragged or len(set(lengths)) == 1) and (self.single or min(lengths) > 1)

    def _steps(self, count: int, more: int) -> dict[Any, Step]:
        """The steps of sequences of equal length, and of one that starts ``more`` times after the other."""
        first, body, last, carried = roll(self._unrolled((count, count)))
        steps: dict[Any, Step] = {"first": first, "body": body, "last": last}
        with contextlib.suppress(NoRuleError):
            late = {k: self._unrolled(_started(k, count, more)) for k in (FIRST, SECOND)}
            steps |= {("late", k): start(u, carried, first, body) for k, u in late.items()}
            single = {k: self._unrolled(_started(k, 1, more)) for k in (FIRST, SECOND, NEITHER)}
            steps |= {("single", k): finish(u, first, body) for k, u in single.items()}
        return steps

    def _unrolled(self, lengths: tuple[int, ...]) -> Unrolled:
        program = lowered(self.kernels, (lengths[0], lengths[-1]), self.hyper, same=len(lengths) == 1)
        return Unrolled(program.tape, program.roots, lengths)

    def fill(self, first: Inputs, second: Inputs | None, out: Sequence[np.ndarray],
             advance: Callable[[int], None] | None = None) -> None:  # fmt: skip
        """Compute every kernel between two sets of sequences, or of one with itself when ``second`` is None.

        Inputs are converted to the precision of ``out``; all else is computed in float64.

        Raises:
            DataError: a value is not finite.
            NoRuleError: the backend cannot compute the kernels.
            AccuracyError: sequences too long for the equations one by one have an angle too small for its accuracy.
        """
        threads = choose_threads(self.backend, self.loop.runs_in_rows)
        a = _sorted(first)
        b = a if second is None else _sorted(second)
        for p in range(0, len(a), PANEL):
            for q in range(0, p + 1 if second is None else len(b), PANEL):
                rows, columns = a[p : p + PANEL], b[q : q + PANEL]
                self._panel(rows, rows if second is None and p == q else columns, second is None, threads, out)
                if advance is not None:
                    advance(len(rows) * len(columns))
        if second is None:
            for p in range(0, len(a), PANEL):
                self._diagonal(a[p : p + PANEL], out)

    def _panel(self, left: Sorted, right: Sorted, symmetric: bool, threads: int,
               out: Sequence[np.ndarray]) -> None:  # fmt: skip
        count, triangle = max(len(left[0][1]), len(right[0][1])), left is right
        a = Side.of([x for _, x in left], count, out[0].dtype)
        b = a if triangle else Side.of([x for _, x in right], count, out[0].dtype)
        values = self.loop.run(a, b, triangle, threads)
        below = np.ones((len(left), len(right)), dtype=bool)
        below = np.tril(below, -1) if triangle else below
        self._mend(a, b, below, values)
        rows, columns = (np.array([i for i, _ in side]) for side in (left, right))
        i, j = np.nonzero(below) if triangle else (slice(None), slice(None))
        for kernel, result, value in zip(self.kernels, out, values, strict=True):
            if triangle:
                value = finite(kernel, value[i, j], result.dtype)
                result[rows[i], columns[j]] = result[columns[j], rows[i]] = value
                continue
            value = finite(kernel, value, result.dtype)
            result[np.ix_(rows, columns)] = value
            if symmetric:
                result[np.ix_(columns, rows)] = value.T

    def _mend(self, a: Side, b: Side, wanted: np.ndarray, values: Sequence[np.ndarray]) -> None:
        """Pairs with an angle of data too small to be had from its cosine, again from differences."""
        rows, columns = np.nonzero(wanted & ~np.all([np.isfinite(v) for v in values], axis=0))
        starts = a.starts[rows] * a.count + b.starts[columns]
        order = np.argsort(starts, kind="stable")
        for group in np.split(order, np.flatnonzero(np.diff(starts[order])) + 1) if len(rows) else ():
            longest = a.count - min(a.starts[rows[group[0]]], b.starts[columns[group[0]]])
            width = max(1, LIST // (longest * a.rows.shape[1]))
            for start_ in range(0, len(group), width):
                at = tuple(where[group[start_ : start_ + width]] for where in (rows, columns))
                for value, found in zip(values, self._again(a.take(at[0]), b.take(at[1])), strict=True):
                    value[at] = found

    def _again(self, a: Side, b: Side) -> list[np.ndarray]:
        """Pairs (a[p], b[p]) that start together by the loop, those whose angle it loses by the reference."""
        try:
            values = self.loop.on_list(a, b)
        except DataError as error:
            raise infinite(self.kernels[0], np.float64, error) from error
        lengths = a.count - int(a.starts[0]), b.count - int(b.starts[0])
        for kernel, value in zip(self.kernels, values, strict=True):
            rest = np.flatnonzero(np.isnan(value))
            if len(rest) and max(lengths) > LONGEST:
                raise AccuracyError(
                    f"{kernel!r} of two almost equal sequences of lengths {lengths} cannot be computed to full "
                    "accuracy, or is not finite: check the scale of inputs and hyperparameters, or drop duplicates"
                )
            x, y = (side.sequences().astype(np.float64, copy=False) for side in (a, b))
            for part in np.array_split(rest, -(-len(rest) * max(lengths) // NUMBERS)) if len(rest) else ():
                value[part] = by_reference(kernel, x[part], y[part], lengths, self.hyper)
        return values

    def _diagonal(self, inputs: Sorted, out: Sequence[np.ndarray]) -> None:
        rows = np.array([i for i, _ in inputs])
        side = Side.of([x for _, x in inputs], len(inputs[0][1]), out[0].dtype)
        for kernel, result, value in zip(self.kernels, out, self.own.own(side), strict=True):
            result[rows, rows] = finite(kernel, value, result.dtype)


def _started(under_way: tuple[bool, bool], count: int, more: int) -> tuple[int, int]:
    """Lengths of which the shorter is ``count``, and ``more`` longer that of an input that is under way before."""
    first, second = (count + more * under for under in under_way)
    return first, second


def _signs(hyper: Mapping[sp.Symbol, float]) -> Any:
    return tuple((s, int(np.sign(v))) for s, v in hyper.items())


def _forward(kernel: AnyKernel) -> AnyKernel:
    """The forward equations of a kernel, found once: what they derive serves all values of hyperparameters."""
    if "forward" not in kernel._compiled:
        kernel._compiled["forward"] = _found_forward(kernel)
    return kernel._compiled["forward"]  # type: ignore[no-any-return]


def _found_forward(kernel: AnyKernel) -> AnyKernel:
    """The kernel by equations that run forward in time only: the NTK by path sums, where they are equal to it."""
    if isinstance(kernel, SizedKernel):
        if not kernel._recursion._over.lengths:
            raise NoRuleError("the recursion holds at one pair of lengths only")
        return kernel
    if kernel.kind == "nngp" or kernel.method == "paths":
        return kernel
    paths = kernel._by_paths()
    if paths is None:
        raise NoRuleError("path sums need gradient independence")
    if not same(kernel._derive().poly, paths._derive(kernel.lengths).poly):
        raise NoRuleError("path sums give another kernel")
    return paths


def _sorted(inputs: Inputs) -> Sorted:
    """The inputs with their positions, longest first."""
    lengths = sorted(inputs.groups, key=lambda t: -(t or 0))
    return [(int(i), x) for t in lengths for i, x in zip(inputs.groups[t], inputs.data[t], strict=True)]
