"""What is known of a kernel matrix: its values, an error for each entry, and the methods behind them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorprog.algebra import Poly, monomial
from tensorprog.errors import AccuracyWarning, DataError
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.law import NOTICED, Value
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import Atom, expected
from tensorprog.printing import Shown

Array = Any
TOLERANCE = 1e-9  # relative error above which a matrix comes with a warning
SIGNS = 2  # joint changes of all expectations, each by its error up or down
ROUNDING = 4e-15  # of sums and products of expectations
SAMPLING = "sampling"


@dataclass(frozen=True, repr=False)
class KernelAccount(Shown):
    """A kernel matrix, and how well it is known.

    Attributes:
        value: (N1, N2); (N1, N2, B1, B2) between the members of batches.
        error: of each entry: a standard error where it is ``statistical``, else an estimate of how far the
            errors of all expectations, propagated together, can move it.
        statistical: whether random points are behind it.
        methods: how its expectations were computed, most frequent first; ``"sampling"`` for the whole kernel.
        samples: how many were drawn, 0 where none were.

    >>> import tensorprog as tp
    >>> account = tp.nngp(tp.programs.mlp(depth=2, phi=tp.relu)).account([[1.0, 0.5], [0.2, -1.0]])
    >>> account.methods, account.statistical, bool(account.relative.max() < 1e-12)
    (('closed form',), False, True)
    """

    value: np.ndarray
    error: np.ndarray
    statistical: bool
    methods: tuple[str, ...]
    samples: int = 0

    @property
    def relative(self) -> np.ndarray:
        """Errors relative to √(largest of the row · largest of the column), (N1, N2)."""
        return relative(self.value, self.error)

    @property
    def worst(self) -> tuple[int, ...]:
        """The entry of the largest relative error."""
        return tuple(map(int, np.unravel_index(int(np.argmax(self.relative)), self.value.shape)))

    def shown(self) -> str:
        """The worst entry with its error, in words."""
        at, digits = self.worst, self.relative[self.worst]
        kind = "standard error" if self.statistical else "error"
        entry = f"{self.value[at]:.6g} ± {self.error[at]:.2g}"
        return f"entry {list(at)} = {entry} ({kind}, {digits:.1e} of the largest entries of its row and column)"

    def text(self) -> str:
        """Shape, methods, and the entry that is least known."""
        drawn = f", {self.samples} samples" if self.samples else ""
        return f"{self.value.shape} by {', '.join(self.methods)}{drawn}; least known: {self.shown()}"


def scale_of(value: np.ndarray) -> np.ndarray:
    """√(largest of the row · largest of the column) of each entry, at most √(K_ii K_jj) of a Gram matrix."""
    size = np.abs(value)  # between members of batches, a row is one of them
    odd, even = (tuple(range(start, size.ndim, 2)) for start in (1, 0))
    rows, columns = np.sqrt(size.max(axis=odd, keepdims=True)), np.sqrt(size.max(axis=even, keepdims=True))
    return np.asarray(rows * columns)


def relative(value: np.ndarray, error: np.ndarray) -> np.ndarray:
    """Errors relative to ``scale_of`` the values."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(error > 0, error / scale_of(value), 0.0)  # type: ignore[no-any-return]


def warn(account: KernelAccount, kernel: str, advice: str) -> None:
    """Warn when the relative error of some entry is above 1e-9."""
    if account.relative.max(initial=0.0) > TOLERANCE:
        message = f"{kernel} by {', '.join(account.methods)}: {account.shown()}; {advice}; account(X) gives all errors"
        warnings.warn(message, AccuracyWarning, stacklevel=outside())


def outside() -> int:
    """How many frames above the caller the first one lies that is not of this package."""
    frame, level = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == __name__.split(".")[0]:
        frame, level = frame.f_back, level + 1
    return level


@dataclass
class Recorder:
    """The expectations behind the numbers of one evaluation, and whether their errors matter.

    One that stands for several quantities, as over positions for two inputs and each with itself, is found once for
    each ``of``.
    """

    found: dict[tuple[Expect, int | None], Value] = field(default_factory=dict)
    methods: dict[str, int] = field(default_factory=dict)
    noticed: bool = False
    statistical: bool = False

    def atom(self, g: Expect, value: Callable[[Poly], Any], gap: Array | None, of: int | None = None) -> Array:
        """The value of an atom, noted."""
        v = self.found[g, of] = expected(g, value, gap)
        for method in filter(None, v.method.split(" + ")):
            self.methods[method] = self.methods.get(method, 0) + 1
        self.noticed |= v.unsure
        self.statistical |= is_statistical(v.method)
        return v.value

    def cancels(self, total: Array) -> bool:
        """Whether some expectation has an error that is not small beside what is made of them, as E (√(1+u²) − 1)²."""
        size = scale_of(total) if np.ndim(total) == 2 else np.abs(total)
        limit = np.where(size > 0, NOTICED * size, np.inf)
        return any(bool(np.any(_largest(v.error, limit.ndim) > limit)) for v in self.found.values())


def _largest(error: Array, ndim: int) -> Array:
    """The largest error over positions, the last axes beyond those of what is made of them."""
    return np.max(error, axis=tuple(range(ndim, np.ndim(error)))) if np.ndim(error) > ndim else error


def is_statistical(method: str) -> bool:
    """Whether the error of an expectation is a multiple of a standard error, and no bound."""
    return "Sobol" in method


def spread(evaluate: Callable[[Atom], Array], total: Array, recorder: Recorder) -> Array:
    """How far the errors of all expectations move a number when they move together.

    Every expectation is moved by its error, up or down at random, those that depend on it are computed again, and the
    largest change of ``SIGNS`` such runs, times √(number of expectations that have an error), is the estimate: the
    sum of all effects is at most that multiple of their root mean square.
    """
    rng = np.random.default_rng(0)
    noticed = sum(bool(np.any(v.error > NOTICED * np.abs(v.value))) for v in recorder.found.values())
    largest = np.zeros(np.shape(total))
    for k in range(SIGNS if recorder.found else 0):
        signs = {g: 1.0 if k == 0 else rng.choice([-1.0, 1.0]) for g in recorder.found}
        largest = np.maximum(largest, _change(evaluate, total, recorder.found, signs))
    return np.sqrt(noticed or len(recorder.found)) * largest + ROUNDING * np.abs(total)


def _of_data(g: Expect) -> bool:
    """Whether an expectation depends on no other one, so that it does not move with them."""
    read = reachable([*g.cov, *g.mean, *map(monomial, g.scalars.values())])
    return not any(isinstance(h, Expect) for h in read)


def _change(evaluate: Callable[[Atom], Array], total: Array, found: Mapping[tuple[Expect, int | None], Value],
            signs: Mapping[tuple[Expect, int | None], float]) -> Array:  # fmt: skip
    for turn in (1.0, -1.0):

        def atom(g: Expect, value: Callable[[Poly], Any], gap: Array | None, of: int | None = None,
                 turn: float = turn) -> Array:  # fmt: skip
            known = found[g, of]
            moved = known if _of_data(g) else expected(g, value, gap)
            return moved.value + turn * signs[g, of] * known.error

        try:
            return np.abs(evaluate(atom) - total)
        except DataError:  # a covariance that is none: the other way
            continue
    return np.full(np.shape(total), np.inf)
