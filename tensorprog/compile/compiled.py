"""A kernel as a program on data: per-input values by arrays, pairs by a machine."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np

from tensorprog.compile.arrays import NEAR, run
from tensorprog.compile.schedule import Code, runs_in_rows, schedule
from tensorprog.compile.tape import CONST, LEFT, RIGHT, Tape
from tensorprog.compile.vectors import Vectors, cosine_of, directions, gap_of_directions

Array = Any


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
        known = runs_in_rows(self.tape, self.roots)
        return schedule(self.tape, self.roots, order=self.order) if known else None

    @property
    def closed(self) -> bool:
        """Whether all expectations per pair have closed forms: others check covariances in double precision."""
        return self.code is not None and not self.code.series

    def per_input(self, x: Vectors, side: int, carried: Mapping[int, Array] | None = None) -> dict[int, Array]:
        """All values per input on one side, in float64.

        Args:
            x: the inputs.
            side: LEFT or RIGHT.
            carried: what is carried, by number.
        """
        mine = [i for i in self.order if self.tape.sides[i] in (CONST, side)]
        known: dict[int, Any] = {}
        for i in mine:
            if self.tape.ops[i].kind == "carry":
                known[i] = (carried or {})[self.tape.ops[i].data]
            elif self.tape.ops[i].kind == "gram":
                (_, s), (_, t) = self.tape.ops[i].data
                known[i] = x.squares(s, t) / x.x.shape[-1]
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
        first, second = (cache(lambda t, x=x: directions(x[:, t])) for x in (a, b))
        for i in self.units:
            s, t = self.times(i)
            gap = gap_of_directions(first(s), second(t))
            known[i] = cosine_of(gap)
            apart = self.tape.find("apart", (i,))
            if apart is not None:
                known[apart] = gap
        near = NEAR, 0.0
        left, right = self.per_input(Vectors(a), LEFT), self.per_input(Vectors(b), RIGHT)
        values = self.on_pairs(known, left, right, near)
        return [np.broadcast_to(v, len(a)) for v in values]
