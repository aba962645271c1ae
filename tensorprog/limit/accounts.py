"""Where a number comes from: the expectations behind it, each with its error and method, and their effect on it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.errors import DataError
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.law import Value
from tensorprog.limit.evaluate import Atom, expected, numbers
from tensorprog.limit.gap import Gaps
from tensorprog.printing import Shown, counted, text

Array = Any
FEW = 32  # expectations, up to which the error is computed to be shown


@dataclass(frozen=True, repr=False)
class AtomValue(Shown):
    """An expectation: its symbol, value, absolute error and method.

    Attributes:
        atom: the expectation as a symbol.
        value, error, method: of it; the error is absolute.
    """

    atom: sp.Expr
    value: Array
    error: Array
    method: str

    def text(self) -> str:
        """The expectation with its value, error and method."""
        return f"{text(self.atom)} = {measured(self.value, self.error)} ({self.method})"

    @property
    def statistical(self) -> bool:
        """Whether the error is a multiple of a standard error, and no bound."""
        return "Sobol" in self.method


@dataclass(frozen=True, repr=False)
class Account(Shown):
    """A number and the expectations it is made of, in the order in which they were computed.

    Attributes:
        value: the number, or an array of numbers.
        atoms: the expectations.
    """

    value: Array
    atoms: tuple[AtomValue, ...]
    _changed: Callable[[int], Array] | None = field(repr=False)

    def __deepcopy__(self, memo: Any) -> Account:
        return replace(self, value=deepcopy(self.value, memo), atoms=deepcopy(self.atoms, memo))

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: the error is computed, since what it is computed with stays here."""
        return {**vars(self), "error": self.error, "_changed": None}

    def text(self) -> str:
        """The number, its error where few expectations have one or it is known already, and the expectations."""
        known = len(self.atoms) <= FEW or "error" in vars(self)
        shown = measured(self.value, self.error) if known else f"{measured(self.value)}, see .error"
        return "\n".join([f"{shown}, from {counted(len(self.atoms), 'expectation')}", *(f"  {a}" for a in self.atoms)])

    @property
    def statistical(self) -> bool:
        """Whether some expectation has a statistical error."""
        return any(a.statistical for a in self.atoms)

    @cached_property
    def error(self) -> Array:
        """Σ over the expectations of how far the number moves when one of them moves by its error.

        Expectations of expectations are computed again, so that errors are carried through covariances; infinite
        where a covariance that is off by the error is none.
        """
        assert self._changed is not None, "an account that was pickled has its error"
        return sum((np.abs(self._changed(i) - self.value) for i in range(len(self.atoms))), np.zeros(()))


def measured(value: Array, error: Array = None) -> str:
    """A number with its error; of an array its shape, and the largest error.

    >>> measured(0.5, 1e-16), measured(np.ones((2, 3)))
    ('0.5 ± 1e-16', 'array (2, 3)')
    """
    shown = f"array {np.shape(value)}" if np.ndim(value) else f"{float(value):.12g}"
    return shown if error is None else f"{shown} ± {float(np.max(error, initial=0.0)):.2g}"


def account(p: Poly, values: Mapping[sp.Symbol, Array], gaps: Callable[[], Gaps]) -> Account:
    """The account of a polynomial in scalars, names and atoms.

    Args:
        p: the quantity.
        values: of the hyperparameters, by symbol.
        gaps: makes what knows the angles of nearly equal variables, for one evaluation.

    Returns:
        Account; its ``error`` costs one more evaluation per expectation, when it is asked for.
    """
    found: dict[Expect, Value] = {}

    def record(g: Expect, value: Callable[[Poly], Any], gap: Array | None) -> Array:
        found[g] = expected(g, value, gap)
        return found[g].value

    total = numbers([p], values, gaps(), record)[0]
    order = list(found)

    def changed(i: int) -> Array:
        for sign in (1, -1):
            moved = replace(found[order[i]], value=found[order[i]].value + sign * found[order[i]].error)
            try:
                return numbers([p], values, gaps(), _with(order[i], moved, found, set(order[:i])))[0]
            except DataError:
                continue
        return np.full(np.shape(total), np.inf)

    atoms = tuple(AtomValue(g.symbol, v.value, v.error, v.method) for g, v in found.items())
    return Account(total, atoms, changed)


def _with(g: Expect, moved: Value, found: Mapping[Expect, Value], before: set[Expect]) -> Atom:
    """The atoms again where one has moved: those computed before it are the same."""

    def atom(h: Expect, value: Callable[[Poly], Any], gap: Array | None) -> Array:
        if h is g:
            return moved.value
        return found[h].value if h in before else expected(h, value, gap).value

    return atom
