"""Exact numbers: the coefficients of polynomials, and values of functions that are among them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from typing import Any

import sympy as sp

from tensorprog.at_numbers import X
from tensorprog.ceilings import check_ceiling
from tensorprog.functions import POWERS, Fn, has_deltas, jumps

Coefficient = Any  # int, Fraction, or an irrational sympy number


def times(a: Coefficient, b: Coefficient) -> Coefficient:
    """Product of two coefficients, rational whenever it can be."""
    if a == 1 or b == 1:
        return b if a == 1 else a
    return a * b if isinstance(a, (int, Fraction)) and isinstance(b, (int, Fraction)) else coefficient(a * b)


def coefficient(c: Any) -> Coefficient:
    """A sympy number as int or Fraction where it is rational."""
    if isinstance(c, (int, Fraction)):
        return c
    if c.is_Rational:
        return Fraction(int(c.p), int(c.q)) if c.q != 1 else int(c.p)
    return sp.expand(c)


def check_digits(numbers: Iterable[Coefficient], what: str) -> None:
    """Refuse numbers that Python does not print.

    Raises:
        ProgramError: the most digits there are, and what to do instead.
    """
    for c in numbers:
        if isinstance(c, (int, Fraction)):
            bits = max(abs(c.numerator).bit_length(), c.denominator.bit_length())
            check_ceiling("result", bits * 30103 // 100000, what)


def rational_value(fn: type[Fn], x: sp.Expr) -> sp.Rational | None:
    """A member of the table where it is a rational number at one; None also at a jump, where two values meet.

    >>> from tensorprog.functions import FAMILIES, member
    >>> [rational_value(member(FAMILIES[f], 0), sp.S.Zero) for f in ("relu", "cos", "sigmoid", "step")]
    [0, 1, 1/2, None]
    """
    if fn in POWERS or not x.is_Rational or (fn.family.pieces and (jumps(fn) or has_deltas(fn))):
        return None
    formula = fn(x).formula_at(x)
    value = None if formula is None else formula.subs(X, x)
    return value if value is not None and value.is_Rational else None
