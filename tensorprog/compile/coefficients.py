"""Hermite coefficients per input for the numba machine, in the order in which a row of pairs reads them.

E φ(u)ψ(v) = Σ a_k b_k ρ^k is cut off where |ρ|^K (τ τ')^½, τ = E φ² − Σ_{k<K} a_k², is below rounding; the tails are
held beside the coefficients, for every input and for every group of ``GROUP`` neighbours, whose sums end together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tensorprog.expectations.series.hermite import EPS, LEVELS, TAIL_FLOOR
from tensorprog.expectations.series.tabulated import Tabulated, tabulated

GROUP = 16  # pairs summed together; a divisor of the width of a tile
CUT = float(np.log(EPS))  # log of a remainder not worth further terms, relative to (E φ² E ψ²)^½
WHOLE = float(np.log(2 * TAIL_FLOOR))  # log of one that no more terms are known to reduce
COLUMNS = 12


class Series(NamedTuple):
    """What the machine reads.

    Attributes:
        places: for every series the rows of ``values`` where left and right coefficients begin, how many there are
            of each per group, where left and right tails begin, where ``peaks`` begin, the first left and right
            input, the number of levels, whether the sum begins with ρ, and whether it goes on in powers of ρ².
        values: coefficients and tails, (rows, GROUP): row b + g K + m is coefficient m of the inputs of group g.
        peaks: the largest tails of groups, (rows,).
    """

    places: np.ndarray
    values: np.ndarray
    peaks: np.ndarray


def series_of(series: Sequence[tuple[Any, Any, int, int]], left: Mapping[int, Any], right: Mapping[int, Any],
              rows: tuple[int, int], columns: tuple[int, int]) -> Series:  # fmt: skip
    """Tables of smooth functions.

    Args:
        series: see ``schedule.Code``.
        left, right: values per first and second input, by operation.
        rows, columns: the first input that the values belong to, and the one after the last.
    """
    tables = _Tables()
    index = np.zeros((len(series), COLUMNS), np.int64)
    for n, (f, g, p, q) in enumerate(series):
        one, two = tables.side(f, left[p], rows), tables.side(g, right[q], columns)
        want = one.function.parity or two.function.parity
        levels = max(one.levels, two.levels)
        index[n] = (tables.coefficients(one, want, levels), tables.coefficients(two, want, levels),
                    _terms(levels, want), tables.tails(one), tables.tails(two), tables.peaks(two),
                    rows[0], columns[0], levels, want < 0, want != 0, 0)  # fmt: skip
    return Series(index, *tables.arrays())


@dataclass
class _Side:
    """A function at some variances, padded to whole groups."""

    function: Tabulated
    q: np.ndarray
    logs: np.ndarray

    @property
    def groups(self) -> np.ndarray:
        """The variances by groups."""
        return self.q.reshape(-1, GROUP)

    @property
    def levels(self) -> int:
        """Of ``LEVELS`` how many are worth having, whatever the correlation."""
        worst = np.where(self.logs < np.inf, self.logs, -np.inf).max(axis=0)
        done = np.flatnonzero(2 * worst <= WHOLE)
        return int(done[0]) + 1 if len(done) else len(LEVELS)


def _terms(levels: int, parity: int) -> int:
    return LEVELS[levels - 1] // (2 if parity else 1)


@dataclass
class _Tables:
    """Tables one below the other, equal ones once."""

    sides: list[_Side] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)
    size: int = 0
    fills: list[tuple[slice, Callable[[np.ndarray], None]]] = field(default_factory=list)
    highest: list[np.ndarray] = field(default_factory=list)

    def side(self, function: Any, q: Any, span: tuple[int, int]) -> _Side:
        """A function at the variances of some inputs."""
        count = span[1] - span[0]
        padded = np.zeros(-(-count // GROUP) * GROUP)
        padded[:count] = q
        table = tabulated(function)
        for known in self.sides:
            if known.function is table and np.array_equal(known.q, padded, equal_nan=True):
                return known
        self.sides.append(_Side(table, padded, table.tails(padded)))
        return self.sides[-1]

    def coefficients(self, side: _Side, want: int, levels: int) -> int:
        """Those of the wanted parity."""
        count, table = _terms(levels, want), side.function

        def fill(out: np.ndarray) -> None:
            out = out.reshape(-1, count, GROUP)
            if want == table.parity:
                table.coefficients(side.groups, out)
            else:
                table.coefficients(side.groups, both := np.empty((len(out), 2 * count, GROUP)))
                out[:] = both[:, want < 0 :: 2]

        return self._add((id(side), want, count), count * len(side.groups), fill)

    def tails(self, side: _Side) -> int:
        """Those of every input."""

        def fill(out: np.ndarray) -> None:
            out.reshape(-1, len(LEVELS), GROUP)[:] = side.logs.reshape(-1, GROUP, len(LEVELS)).swapaxes(1, 2)

        return self._add(id(side), len(LEVELS) * len(side.groups), fill)

    def peaks(self, side: _Side) -> int:
        """The largest of each group."""
        key = "peaks", id(side)
        if key not in self.places:
            self.places[key] = sum(map(len, self.highest))
            self.highest.append(side.logs.reshape(-1, GROUP, len(LEVELS)).max(axis=1).reshape(-1))
        return self.places[key]

    def _add(self, key: Any, rows: int, fill: Callable[[np.ndarray], None]) -> int:
        if key not in self.places:
            self.places[key] = self.size
            self.fills.append((slice(self.size, self.size + rows), fill))
            self.size += rows
        return self.places[key]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        """``Series.values`` and ``peaks``."""
        values = np.empty((self.size, GROUP))
        for rows, fill in self.fills:
            fill(values[rows])
        return values, np.concatenate([np.empty(0), *self.highest])
