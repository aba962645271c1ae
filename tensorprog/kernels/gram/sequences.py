"""Kernels of sequences, of equal and of different lengths, by a loop over time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.compile.backends import choose_threads
from tensorprog.compile.loops import Loop, Side
from tensorprog.compile.rolling import Step, Unrolled, roll, start
from tensorprog.errors import AccuracyError, DataError, NoRuleError
from tensorprog.kernels.data import Inputs
from tensorprog.kernels.gram.evaluator import AnyKernel, lowered
from tensorprog.kernels.methods import ntk
from tensorprog.kernels.recursions.sized import SizedKernel
from tensorprog.limit.evaluate import same

SHORT = 6  # length up to which the equations are computed one by one
PANEL = 1024  # sequences whose pairs are carried at once
LIST = 2**22  # numbers of a list of pairs that are read at once


class SequenceEvaluator:
    """Kernels of one network as a loop over time, found at small lengths.

    Args:
        kernels: kernels of networks that take the same sequences.
        hyper: numbers for hyperparameters that are symbols.
        backend: see ``compile.backends``.

    Attributes:
        ragged: whether sequences may differ in length.

    Raises:
        NoRuleError: the equations are not the same at all times.
    """

    def __init__(self, kernels: Sequence[AnyKernel], hyper: Mapping[sp.Symbol, float],
                 backend: str | None = None) -> None:  # fmt: skip
        self.kernels, self.hyper = [_forward(k) for k in kernels], hyper
        steps = self._steps(6, 2)
        if {k: s.key for k, s in self._steps(7, 3).items()} != {k: s.key for k, s in steps.items()}:
            raise NoRuleError("the steps of longer sequences differ")
        self.ragged = 0 in steps
        self.loop = Loop(steps["first"], steps["body"], steps["last"], {k: steps[k] for k in (0, 1) if self.ragged})
        self.own = Loop(*roll(self._unrolled((6,)))[:3], {})
        self.threads = choose_threads(backend, self.loop.runs_in_rows)

    @property
    def text(self) -> str:
        """What the numbers depend on."""
        return self.loop.text

    def _steps(self, count: int, more: int) -> dict[Any, Step]:
        """The steps of sequences of equal length, and of one that starts ``more`` times after the other."""
        first, body, last, carried = roll(self._unrolled((count, count)))
        steps: dict[Any, Step] = {"first": first, "body": body, "last": last}
        try:
            late = [self._unrolled((count, count + more)), self._unrolled((count + more, count))]
            return steps | {k: start(u, carried, first, body) for k, u in enumerate(late)}
        except NoRuleError:
            return steps

    def _unrolled(self, lengths: tuple[int, ...]) -> Unrolled:
        program = lowered(self.kernels, (lengths[0], lengths[-1]), self.hyper, same=len(lengths) == 1)
        return Unrolled(program.tape, program.roots, lengths)

    def fill(self, first: Inputs, second: Inputs | None, out: Sequence[np.ndarray],
             advance: Callable[[int], None] | None = None) -> None:  # fmt: skip
        """Compute every kernel between two sets of sequences, or of one with itself when ``second`` is None.

        Raises:
            DataError: a value is not finite.
            AccuracyError: an angle is too small for its accuracy.
        """
        a, b = _sorted(first), _sorted(first if second is None else second)
        for p in range(0, len(a), PANEL):
            for q in range(0, p + 1 if second is None else len(b), PANEL):
                rows, columns = a[p : p + PANEL], b[q : q + PANEL]
                self._panel(first, first if second is None else second, rows, columns, second is None, p == q, out)
                if advance is not None:
                    advance(len(rows) * len(columns))
        if second is None:
            self._diagonal(first, a, out)

    def _panel(self, first: Inputs, second: Inputs, rows: np.ndarray, columns: np.ndarray, symmetric: bool,
               same_: bool, out: Sequence[np.ndarray]) -> None:  # fmt: skip
        left, right = [first[i] for i in rows], [second[j] for j in columns]
        count = max(len(left[0]), len(right[0]))
        a, b = Side.of(left, count), Side.of(right, count)
        triangle = symmetric and same_
        values = self.loop.run(a, b, triangle, self.threads)
        below = np.tri(len(rows), len(columns), -1 if triangle else len(columns), dtype=bool)
        self._mend(a, b, below, values)
        for result, value in zip(out, values, strict=True):
            i, j = np.nonzero(below) if triangle else (slice(None), slice(None))
            if triangle:
                result[rows[i], columns[j]] = result[columns[j], rows[i]] = value[i, j]
            else:
                result[np.ix_(rows, columns)] = value
                if symmetric:
                    result[np.ix_(columns, rows)] = value.T

    def _mend(self, a: Side, b: Side, wanted: np.ndarray, values: Sequence[np.ndarray]) -> None:
        """Pairs with an angle of data too small to be had from its cosine, again from differences."""
        bad = wanted & ~np.all([np.isfinite(v) for v in values], axis=0)
        rows, columns = np.nonzero(bad)
        width = max(1, LIST // (a.data.shape[0] * a.data.shape[2]))
        for start_ in range(0, len(rows), width):
            i, j = rows[start_ : start_ + width], columns[start_ : start_ + width]
            for result, value in zip(values, self.loop.on_list(a.take(i), b.take(j)), strict=True):
                if not np.isfinite(value).all():
                    raise AccuracyError(
                        "a kernel of two almost equal sequences cannot be computed to full accuracy, or is not finite: "
                        "check the scale of inputs and hyperparameters, or drop duplicates"
                    )
                result[i, j] = value

    def _diagonal(self, inputs: Inputs, order: np.ndarray, out: Sequence[np.ndarray]) -> None:
        for p in range(0, len(order), PANEL):
            rows = order[p : p + PANEL]
            sequences = [inputs[i] for i in rows]
            for result, value in zip(out, self.own.own(Side.of(sequences, len(sequences[0]))), strict=True):
                if not np.isfinite(value).all():
                    raise DataError("a kernel is not finite on the data; check the scale of inputs and hyperparameters")
                result[rows, rows] = value


def _forward(kernel: AnyKernel) -> AnyKernel:
    """The kernel by equations that run forward in time only: the NTK by path sums, where they are equal to it."""
    if isinstance(kernel, SizedKernel):
        if not kernel.recursion.over.lengths:
            raise NoRuleError("the recursion holds at one pair of lengths only")
        return kernel
    if kernel.kind == "nngp" or kernel.method == "paths":
        return kernel
    if not kernel.passes_gia_check:
        raise NoRuleError("path sums need gradient independence")
    paths = ntk(kernel.net, method="paths")
    if not same(kernel.derive((3, 3)).poly, paths.derive((3, 3)).poly):
        raise NoRuleError("path sums give another kernel")
    return paths


def _sorted(inputs: Inputs) -> np.ndarray:
    """Positions of the inputs, longest first."""
    return np.argsort([-(t or 0) for t in inputs.lengths], kind="stable")
