"""Numbers of any kind as exact expressions: hyperparameters are written as floats and meant as decimals."""

from __future__ import annotations

import math
import numbers
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.refusals import NotAnArray
from tensorprog.errors import ProgramError, shortly


def exact(value: Any, what: str = "value") -> sp.Expr:
    """A hyperparameter as an exact sympy expression.

    A float becomes the decimal fraction it prints as, or a root such as √2 when it is one to the last digit.

    Args:
        value: int, float, numpy number or sympy expression.
        what: how to call it in an error.

    Raises:
        ProgramError: not a finite number and not a sympy expression.

    >>> exact(0.1), exact(2**0.5)
    (1/10, sqrt(2))
    """
    if type(value) is np.ndarray and not value.ndim:
        value = value.item()
    if isinstance(value, NotAnArray):
        raise ProgramError(f"{what} must be a number or a sympy expression, and {value} is {value._WHAT}")
    if isinstance(value, sp.Expr) and not value.is_Float:
        infinite = value.has(sp.nan, sp.oo, sp.zoo, -sp.oo)
        if infinite or (value.is_number and value.is_extended_real is False):
            raise ProgramError(f"{what} is {value}; it must be {'finite' if infinite else 'real'}")
        return value.xreplace({f: exact(f) for f in value.atoms(sp.Float)})
    if isinstance(value, (bool, str)) or not isinstance(value, (numbers.Real, sp.Float, np.number)):
        raise ProgramError(
            f"{what} must be a number or a sympy expression, got {type(value).__name__} {shortly(value)}"
        )
    try:
        number = float(value)
    except OverflowError:
        raise ProgramError(f"{what} is {shortly(value)}; it must be below 1e308 in size") from None
    if not math.isfinite(number):
        raise ProgramError(f"{what} is {shortly(value)}; it must be finite")
    return sp.Integer(int(value)) if isinstance(value, numbers.Integral) else _rational(number)


def _rational(value: float) -> sp.Expr:
    """The simplest exact number that a float stands for: √r when its square is a short fraction, else its decimal."""
    if value == int(value):
        return sp.Integer(int(value))
    square = Fraction(value * value).limit_denominator(1000)
    if len(repr(value)) > 15 and abs(math.sqrt(square) - abs(value)) <= math.ulp(value):
        return sp.sqrt(sp.Rational(square)) * (1 if value > 0 else -1)
    return sp.Rational(repr(value))
