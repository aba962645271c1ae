"""A kernel as a program on data: per-input values by arrays, pairs by a machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from tensorprog.compile.arrays import NEAR, run
from tensorprog.compile.schedule import Code, runs_in_rows, schedule
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Tape

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
        return self.tape.needed(self.roots)

    @cached_property
    def code(self) -> Code | None:
        """Instructions for the numba machine; None where an operation per pair is unknown to it."""
        return schedule(self.tape, self.roots) if runs_in_rows(self.tape, self.roots) else None

    def per_input(self, x: np.ndarray, side: int) -> dict[int, np.ndarray]:
        """All values per input on one side, in float64.

        Args:
            x: (N, T, d).
            side: LEFT or RIGHT.
        """
        mine = [i for i in self.order if self.tape.sides[i] in (CONST, side)]
        known: dict[int, Any] = {}
        for i in mine:
            if self.tape.ops[i].kind == "gram":
                (_, s), (_, t) = self.tape.ops[i].data
                known[i] = np.einsum("nd,nd->n", x[:, s], x[:, t], dtype=np.float64) / x.shape[-1]
        with np.errstate(all="ignore"):
            values = run(self.tape, mine, known, mine, np, 0.0)
        return dict(zip(mine, values, strict=True))

    def on_pairs(self, a: np.ndarray, b: np.ndarray, left: Mapping[int, Array], right: Mapping[int, Array],
                 xp: Any = np) -> list[Array]:  # fmt: skip
        """The kernels of all pairs by array operations.

        Args:
            a, b: (N1, T, d) and (N2, T', d).
            left, right: their values per input, shaped to broadcast: (N1, 1) and (1, N2).
        """
        known = {**left, **right}
        single = str(a.dtype).endswith("float32")
        if single and self.code is None:  # quadrature checks covariances in double precision
            a, b, single = xp.asarray(a, dtype=xp.float64), xp.asarray(b, dtype=xp.float64), False
        for i in self.order:
            if self.tape.sides[i] == PAIR and self.tape.ops[i].kind == "gram":
                (_, s), (_, t) = self.tape.ops[i].data
                known[i] = xp.asarray(a[:, s] @ b[:, t].T, dtype=xp.float64) / a.shape[-1]
        return run(self.tape, self.order, known, self.roots, xp, NEAR[np.dtype(np.float32 if single else np.float64)])
