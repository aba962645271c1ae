"""What rounding costs a quantity whose terms cancel: every value is carried with a bound of its rounding."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar
from tensorprog.errors import DataError
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.law import NOTICED, Value
from tensorprog.expectations.lawful import Lawful
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.evaluate import applied, evaluate_all, expected, numbers
from tensorprog.limit.positions import Positional

Array = Any
EPS = float(np.finfo(float).eps)
GIVEN = 4 * EPS  # of inner products and hyperparameters


@dataclass(frozen=True)
class Rounded:
    """A value and a bound of what rounding has changed it by.

    >>> one = Rounded(1.0, 1e-16)
    >>> found = one + one * Rounded(-1.0, 0.0)
    >>> found.value, bool(2e-16 <= found.error < 6e-16)
    (0.0, True)
    """

    value: Array
    error: Array

    def __add__(self, other: Rounded) -> Rounded:
        value = self.value + other.value
        return Rounded(value, self.error + other.error + EPS * np.abs(value))

    def __mul__(self, other: Rounded) -> Rounded:
        value = self.value * other.value
        moved = np.abs(self.value) * other.error + np.abs(other.value) * self.error + self.error * other.error
        return Rounded(value, moved + EPS * np.abs(value))

    def __pow__(self, power: int) -> Rounded:
        result = self
        for _ in range(power - 1):
            result = result * self
        return result


def subtracts(p: Poly) -> bool:
    """Whether something that a quantity is made of has a negative coefficient; not known over positions."""
    found = reachable([p])
    if any(isinstance(g, Positional) for g in found):
        return False
    polys = [p, *(g.definition for g in found if isinstance(g, Name))]
    polys += [q for g in found if isinstance(g, Expect) for q in (*g.cov, *g.mean)]
    return any(float(c) < 0 for q in polys for c in q.terms.values())


def rounding(p: Poly, values: Mapping[sp.Symbol, Array], atoms: Mapping[Expect, Value]) -> Array:
    """A bound of the rounding of a quantity, from the sizes of its terms and of what they are made of.

    Args:
        p: a polynomial in scalars, names and atoms, not over positions.
        values: of the hyperparameters, by symbol.
        atoms: what is known of its atoms, whose own errors are not counted.
    """

    def leaf(g: Gen, value: Callable[[Poly], Rounded]) -> Rounded:
        if isinstance(g, Expect):
            found = atoms[g].value
            return Rounded(found, EPS * np.abs(found) + _carried(g, value, found))
        if isinstance(g, Scalar):
            (found,) = numbers([Poly({((g, 1),): 1})], values)
            return Rounded(found, GIVEN * np.abs(found))
        assert isinstance(g, Apply)
        return _applied(g, [value(a) for a in g.args])

    def number(c: Any) -> Rounded:
        return Rounded(float(c), 0.0 if float(c).is_integer() else EPS * abs(float(c)))

    with np.errstate(all="ignore"):
        return evaluate_all([p], leaf, number)[0].error


def _carried(g: Expect, value: Callable[[Poly], Rounded], found: Array) -> Array:
    """How far an expectation moves with the rounding of its covariance, where that is more than its last digits."""
    if isinstance(g, Lawful):
        return 0.0
    read = [value(g.entry(i, i)) for i in range(len(g.mean))]
    if not any(np.any(r.error > NOTICED * np.abs(r.value)) for r in read):
        return 0.0
    for sign in (1, -1):
        try:
            moved = expected(g, lambda p, sign=sign: (r := value(p)).value + sign * r.error)  # type: ignore[misc]
            return np.abs(moved.value - found)
        except DataError:  # a covariance that is none: the other way
            continue
    return np.abs(found)


def _applied(g: Apply, args: list[Rounded]) -> Rounded:
    """A function of scalars at both ends of their intervals, one by one."""
    at = [a.value for a in args]
    value = applied(g, at)
    error = EPS * np.abs(value)
    for i, a in enumerate(args):
        ends = [applied(g, [*at[:i], a.value + sign * a.error, *at[i + 1 :]]) for sign in (-1, 1)]
        error = error + np.fmax(*(np.abs(end - value) for end in ends))
    return Rounded(value, error)
