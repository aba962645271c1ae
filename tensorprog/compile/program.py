"""A kernel as a program on data: per-input values by arrays, pairs by a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tensorprog.compile.arrays import LEAST, NEAR, run
from tensorprog.compile.schedule import Code, runs_in_rows, schedule
from tensorprog.compile.tape import CONST, LEFT, RIGHT, Tape

Array = Any
CHUNK = 2**15  # entries of inputs that are divided together, which stay in cache


@dataclass(frozen=True)
class Program:
    """Several kernels of the same inputs in one tape.

    Attributes:
        tape: the operations.
        roots: the operation of each kernel.
    """

    tape: Tape
    roots: tuple[int, ...]

    @cached_property
    def order(self) -> list[int]:
        """The operations needed."""
        return self.tape.ordered(self.roots)

    @cached_property
    def code(self) -> Code | None:
        """Instructions for the numba machine; None where an operation per pair is unknown to it."""
        return schedule(self.tape, self.roots) if runs_in_rows(self.tape, self.roots) else None

    @property
    def closed(self) -> bool:
        """Whether all expectations per pair have closed forms: others check covariances in double precision."""
        return self.code is not None and not self.code.series

    def per_input(self, x: np.ndarray, side: int, carried: Mapping[int, Array] | None = None,
                  squares: dict[Any, Array] | None = None) -> dict[int, Array]:  # fmt: skip
        """All values per input on one side, in float64.

        Args:
            x: (N, T, d).
            side: LEFT or RIGHT.
            carried: what is carried, by number.
            squares: inner products of x with itself by times, kept here for another call.
        """
        squares = {} if squares is None else squares
        mine = [i for i in self.order if self.tape.sides[i] in (CONST, side)]
        known: dict[int, Any] = {}
        for i in mine:
            if self.tape.ops[i].kind == "carry":
                known[i] = (carried or {})[self.tape.ops[i].data]
            elif self.tape.ops[i].kind == "gram":
                (_, s), (_, t) = self.tape.ops[i].data
                if (s, t) not in squares:
                    squares[s, t] = np.einsum("nd,nd->n", x[:, s], x[:, t], dtype=np.float64) / x.shape[-1]
                known[i] = squares[s, t]
        with np.errstate(all="ignore"):
            values = run(self.tape, mine, known, mine, np, (0.0, 0.0))
        return dict(zip(mine, values, strict=True))

    @cached_property
    def units(self) -> list[int]:
        """The cosines between data that are read."""
        return [i for i in self.order if self.tape.ops[i].kind == "unit"]

    def times(self, i: int) -> tuple[int, int]:
        """The times of the data of a cosine."""
        (_, s), (_, t) = self.tape.ops[i].data
        return s, t

    def on_pairs(self, cosines: Mapping[int, Array], left: Mapping[int, Array], right: Mapping[int, Array],
                 near: tuple[float, float], xp: Any = np) -> list[Array]:  # fmt: skip
        """The kernels of all pairs by array operations.

        Args:
            cosines: of the ``units``; and values of other operations that are known.
            left, right: values per input, shaped to broadcast.
            near: see ``arrays.run``.
        """
        with np.errstate(all="ignore"):
            return run(self.tape, self.order, {**left, **right, **cosines}, self.roots, xp, near)

    @cached_property
    def exact(self) -> Program:
        """The same in operations that keep their digits for almost parallel inputs."""
        tape, roots = self.tape.rebuilt(self.roots)
        return Program(tape, tuple(roots))

    def on_list(self, a: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
        """The kernels of pairs (a[p], b[p]), angles of data from differences, which tell the smallest ones."""
        if self.tape.exact:
            return self.exact.on_list(a, b)
        known: dict[int, np.ndarray] = {}
        a, b = a.astype(np.float64, copy=False), b.astype(np.float64, copy=False)
        for i in self.units:
            s, t = self.times(i)
            gap = exact_gap(a[:, s], b[:, t])
            known[i] = cosine_of(gap)
            apart = self.tape.find("apart", (i,))
            if apart is not None:
                known[apart] = gap
        near = NEAR, 0.0
        values = self.on_pairs(known, self.per_input(a, LEFT), self.per_input(b, RIGHT), near)
        return [np.broadcast_to(v, len(a)) for v in values]


def directions(x: np.ndarray) -> np.ndarray:
    """Rows divided by their lengths; 0 stays 0.

    >>> directions(np.array([[3.0, 4.0], [0.0, 0.0]]))
    array([[0.6, 0.8],
           [0. , 0. ]])
    """
    result = np.empty(x.shape)
    height = max(1, CHUNK // max(1, x.shape[1]))
    for start in range(0, len(x), height):
        part = x[start : start + height].astype(np.float64, copy=False)
        size = np.maximum(part.max(axis=-1, keepdims=True), -part.min(axis=-1, keepdims=True))
        unit = np.divide(part, np.where(size > 0, size, 1), out=result[start : start + height])
        unit /= np.maximum(np.sqrt(np.einsum("nd,nd->n", unit, unit))[:, None], 1)
    return result


def exact_gap(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """The signed gap of rows: 1 − |ρ| with the sign of ρ, by the distance of directions; 1 where one is 0."""
    return gap_of_directions(directions(x), directions(y))


def gap_of_directions(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """``exact_gap`` of rows of length 1 or 0."""
    sign = np.where(np.einsum("nd,nd->n", u, v) < 0, -1.0, 1.0)
    both = u.any(axis=-1) & v.any(axis=-1)
    difference = u - sign[:, None] * v
    small = np.einsum("nd,nd->n", difference, difference) / 2
    return np.where(both, np.maximum(small, LEAST) * sign, 1.0)


def cosine_of(gap: np.ndarray) -> np.ndarray:
    """ρ of a signed gap."""
    return np.where(gap < 0, -gap - 1, 1 - gap)
