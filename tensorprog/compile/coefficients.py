"""Hermite coefficients per input for the numba machine, in the order in which a row of pairs reads them.

E φ(u)ψ(v) = Σ a_k b_k ρ^k is cut off where |ρ|^K (τ τ')^½, τ = E φ² − Σ_{k<K} a_k², is below rounding; the tails are
held beside the coefficients, for every input and for every group of ``GROUP`` neighbours, whose sums end together.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from tensorprog.expectations.hermite import LEVELS, TAIL_FLOOR
from tensorprog.expectations.tabulated import Tabulated, tabulated

GROUP = 16  # pairs summed together; a divisor of the width of a tile
CUT = float(np.log(2 * TAIL_FLOOR))  # log of a remainder not worth further terms, relative to (E φ² E ψ²)^½
COLUMNS = 12


class Series(NamedTuple):
    """What the machine reads.

    Attributes:
        index: for every series the rows of ``values`` where left and right coefficients begin, how many there are
            of each per group, where left and right tails begin, where ``peaks`` begin, the first left and right
            input, the number of levels, whether the sum begins with ρ, and whether it goes on in powers of ρ².
        values: coefficients and tails, (rows, GROUP): row b + g K + m is coefficient m of the inputs of group g.
        peaks: the largest tails of groups, (rows,).
    """

    index: np.ndarray
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
    def levels(self) -> int:
        """Of ``LEVELS`` how many are worth having, whatever the correlation."""
        worst = np.where(self.logs < np.inf, self.logs, -np.inf).max(axis=0)
        done = np.flatnonzero(2 * worst <= CUT)
        return int(done[0]) + 1 if len(done) else len(LEVELS)


def _terms(levels: int, parity: int) -> int:
    return LEVELS[levels - 1] // (2 if parity else 1)


@dataclass
class _Tables:
    """Tables one below the other, equal ones once."""

    blocks: list[np.ndarray] = field(default_factory=list)
    highest: list[np.ndarray] = field(default_factory=list)
    sides: list[_Side] = field(default_factory=list)
    places: dict[Any, int] = field(default_factory=dict)

    def side(self, function: Any, q: Any, span: tuple[int, int]) -> _Side:
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
        count = _terms(levels, want)
        skipped = want != side.function.parity
        values = side.function.coefficients(side.q, 2 * count if skipped else count)
        return self._add(("a", id(side), want, count), values[:, want < 0 :: 2] if skipped else values)

    def tails(self, side: _Side) -> int:
        return self._add(("t", id(side)), side.logs)

    def peaks(self, side: _Side) -> int:
        key = "p", id(side)
        if key not in self.places:
            self.places[key] = sum(map(len, self.highest))
            self.highest.append(side.logs.reshape(-1, GROUP, len(LEVELS)).max(axis=1).reshape(-1))
        return self.places[key]

    def _add(self, key: Any, values: np.ndarray) -> int:
        if key not in self.places:
            self.places[key] = sum(map(len, self.blocks))
            self.blocks.append(values.reshape(-1, GROUP, values.shape[1]).swapaxes(1, 2).reshape(-1, GROUP))
        return self.places[key]

    def arrays(self) -> tuple[np.ndarray, np.ndarray]:
        if not self.blocks:
            return np.zeros((0, GROUP)), np.zeros(0)
        return np.ascontiguousarray(np.concatenate(self.blocks)), np.concatenate(self.highest)
