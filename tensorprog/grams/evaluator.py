"""Gram matrices by compiled kernels: several kernels in one pass, in memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.compile.backends import Panel, choose
from tensorprog.compile.compiled import Program
from tensorprog.compile.horner import factored
from tensorprog.compile.tape import LEFT, Tape
from tensorprog.compile.vectors import Vectors
from tensorprog.derivation.compiling import COMPILING
from tensorprog.derivation.derivation import Length
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.named import Layout
from tensorprog.errors import DataError
from tensorprog.recursions.sized import SizedKernel

HEIGHT, WIDTH = 4096, 8192  # of the panels after which progress is told
PAIRS, NUMBERS = 2**15, 2**19  # mended at once, and how many numbers of data they have
AnyKernel = DerivedKernel | SizedKernel


class Evaluator:
    """Kernels of one network made ready for inputs of given lengths.

    Args:
        kernels: kernels of networks with the same inputs.
        lengths: of first and second inputs; None for vectors.
        hyper: numbers for hyperparameters that are symbols.
        backend: see ``compile.backends.choose``.
    """

    def __init__(self, kernels: Sequence[AnyKernel], lengths: tuple[Length, Length], hyper: Mapping[sp.Symbol, float],
                 backend: str | None = None) -> None:  # fmt: skip
        self.kernels, self.lengths, self.hyper = tuple(kernels), lengths, dict(hyper)
        program = lowered(kernels, lengths, hyper)
        self.program = Program(program.tape, tuple(factored(program.tape, program.roots)))
        self.machine = choose(backend, self.program)
        self._own: Program | None = None

    @property
    def text(self) -> str:
        """What the numbers depend on."""
        return repr((self.program.tape.ops, self.program.roots))

    @property
    def own(self) -> Program:
        """The kernels of one input with itself."""
        with COMPILING:
            if self._own is None:
                self._own = lowered(self.kernels, self.lengths, self.hyper, same=True)
            return self._own

    def fill(self, a: np.ndarray, b: np.ndarray | None, out: Sequence[np.ndarray], advance: Any = None) -> None:
        """Compute every kernel between a and b, or of a with itself, symmetric and with an exact diagonal.

        Args:
            a, b: (N1, T, d) and (N2, T', d) of the precision to compute in; b is None for a with itself.
            out: one (N1, N2) array for each kernel.
            advance: called with the number of pairs done.

        Raises:
            DataError: a value is not finite.
        """
        first = Vectors(a)
        machine = self.machine(self.program, first, first if b is None else Vectors(b))
        count = len(a if b is None else b)
        for i0 in range(0, len(a), HEIGHT):
            i1 = min(i0 + HEIGHT, len(a))
            reach = i1 if b is None else count
            for j0 in range(0, reach, WIDTH):
                panel = (i0, i1, j0, min(j0 + WIDTH, reach))
                self._mend(machine.run(panel, b is None, out), a, b, out)
                if advance is not None:
                    advance((i1 - i0) * (panel[3] - j0))
        if b is None:
            for kernel, result, diagonal in zip(self.kernels, out, self.own_values(first), strict=True):
                np.fill_diagonal(result, finite(kernel, diagonal, result.dtype))

    def own_values(self, a: Vectors) -> list[np.ndarray]:
        """Every kernel of each input with itself.

        Raises:
            DataError: a value is not finite.
        """
        values = self.own.per_input(a, LEFT)
        found = [np.array(np.broadcast_to(values[root], len(a))) for root in self.own.roots]
        return [finite(kernel, diagonal, np.float64) for kernel, diagonal in zip(self.kernels, found, strict=True)]

    def _mend(self, tiles: list[Panel], a: np.ndarray, b: np.ndarray | None, out: Sequence[np.ndarray]) -> None:
        """Compute what the machine left open."""
        most = max(1, min(PAIRS, NUMBERS // max(x[0].size for x in (a, a if b is None else b))))
        for i, j in _left_open(tiles, b is None, out):
            for part in (slice(start, start + most) for start in range(0, len(i), most)):
                self.mend_list(a[i[part]], (a if b is None else b)[j[part]], (i[part], j[part]), out)
                if b is None:
                    for result in out:
                        result[j[part], i[part]] = result[i[part], j[part]]

    def mend_list(self, x: np.ndarray, y: np.ndarray, at: tuple[np.ndarray, np.ndarray],
                  out: Sequence[np.ndarray]) -> None:  # fmt: skip
        """Pairs (x[p], y[p]) of almost parallel inputs, from differences or by the reference, to out[at]."""
        x, y = x.astype(np.float64, copy=False), y.astype(np.float64, copy=False)
        try:
            values = self.program.on_list(x, y)
        except DataError as error:
            raise infinite(self.kernels[0], np.float64, error) from error
        for kernel, value, result in zip(self.kernels, values, out, strict=True):
            rest = ~np.isfinite(value)
            if rest.any():
                value = value.copy()
                value[rest] = by_reference(kernel, x[rest], y[rest], self.lengths, self.hyper)
            result[at] = finite(kernel, value, result.dtype)


def _left_open(tiles: Sequence[Panel], triangle: bool,
               out: Sequence[np.ndarray]) -> Iterator[tuple[np.ndarray, np.ndarray]]:  # fmt: skip
    """Where results of tiles are not finite, below the diagonal for a ``triangle``: lists of rows and of columns."""
    found: list[tuple[np.ndarray, np.ndarray]] = []
    for n, (i0, i1, j0, j1) in enumerate(tiles):
        left_open = ~np.all([np.isfinite(result[i0:i1, j0:j1]) for result in out], axis=0)
        if triangle:
            left_open &= np.arange(i0, i1)[:, None] > np.arange(j0, j1)
        rows, columns = np.nonzero(left_open)
        found.append((i0 + rows, j0 + columns))
        if n + 1 == len(tiles) or sum(len(rows) for rows, _ in found) >= PAIRS:
            yield np.concatenate([rows for rows, _ in found]), np.concatenate([columns for _, columns in found])
            found = []


def finite(kernel: AnyKernel, value: np.ndarray, dtype: Any) -> np.ndarray:
    """Values of a kernel in the precision of results.

    Raises:
        DataError: one is not finite.
    """
    with np.errstate(over="ignore"):
        value = value.astype(dtype, copy=False)
    if not np.isfinite(value).all():
        raise infinite(kernel, dtype)
    return value


def by_reference(kernel: AnyKernel, x: np.ndarray, y: np.ndarray, lengths: tuple[Any, Any],
                 hyper: Mapping[sp.Symbol, float], layout: Layout | None = None) -> np.ndarray:  # fmt: skip
    """K(x[p], y[p]) by the reference evaluator; ``layout`` is that of named arrays over positions.

    Raises:
        DataError: a value is not finite.
    """
    with COMPILING:
        reference = kernel if isinstance(kernel, DerivedKernel) else kernel._derived
        reference._derive(lengths)
    try:
        return reference._on_pairs(x, y, lengths, hyper, layout=layout)  # type: ignore[no-any-return]
    except DataError as error:
        raise infinite(kernel, np.float64, error) from error


def infinite(kernel: AnyKernel, dtype: Any, cause: Exception | None = None) -> DataError:
    """The error of a kernel whose values leave the range of a precision; ``cause`` says which value is the first."""
    why = "; check the scale of inputs and hyperparameters" if cause is None else f": {cause}"
    return DataError(f"{kernel!r} is not finite in {np.dtype(dtype)} on the data{why}")


def lowered(kernels: Sequence[AnyKernel], lengths: tuple[Length, Length], hyper: Mapping[sp.Symbol, float],
            same: bool = False) -> Program:  # fmt: skip
    """Several kernels between inputs of these lengths, or of one input with itself, in one tape."""
    tape = Tape()
    return Program(tape, tuple(k._lower(tape, lengths, hyper, same) for k in kernels))
