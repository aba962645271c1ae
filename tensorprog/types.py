"""What public functions are given, as types.

sympy, and most libraries of arrays beside NumPy, have no types of their own: where their objects may stand, a type
checker lets anything pass, and it is looked at when the function runs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from fractions import Fraction
from typing import Any, Protocol, TypeAlias

import numpy as np
import sympy as sp


class HasArray(Protocol):
    """An array of NumPy, or of a library whose arrays become NumPy's."""

    def __array__(self) -> np.ndarray: ...


Number: TypeAlias = "int | float | np.number | sp.Expr"
"""A hyperparameter: a number, or a sympy expression such as √2 or a symbol."""

Key: TypeAlias = "str | tuple[str, *tuple[int, ...]]"
"""The name of a parameter: ``"V"``, or ``("W", 2)`` for W²."""

Data: TypeAlias = "HasArray | Sequence[float | Data]"
"""Inputs: (N, d) vectors, (N, T, d) sequences or a list of (T_i, d) sequences; numbers of these shapes."""

HyperValues: TypeAlias = Mapping[str, Number] | Mapping[sp.Symbol, Number]
"""Numbers for hyperparameters that are symbols, by symbol or by name."""

Rate: TypeAlias = "Number | Sequence[Number] | Callable[[int], Number] | Mapping[Any, Number]"
"""A learning rate: one for all steps, one for each, a function of the step, or one for every parameter by name."""

Exponent: TypeAlias = "Number | Fraction | str"
"""A rational exponent of the width: 1/2 as a number, or as the text ``"1/2"``."""

Pattern: TypeAlias = "str | tuple[str | int, ...]"
"""Parameters: a name, the key of one, the first part of keys for a family, or a kind."""

LossChoice: TypeAlias = str | Callable[..., Any]
"""``"mse"``, ``"logistic"``, or a function (f, y) that sympy can trace."""
