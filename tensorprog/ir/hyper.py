"""Numbers for hyperparameters, given by symbol or by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError, nearest, shortly
from tensorprog.functions import no_value
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Covariances, InitVector

Known = Callable[[], Collection[sp.Symbol] | None]


def symbol_values(
    values: Mapping[Any, Any] | None, known: Known = lambda: None, more: bool = False
) -> dict[sp.Symbol, float]:
    """Hyperparameter values by symbol.

    Args:
        values: numbers by symbol, or by the name of a known symbol.
        known: finds the symbols that may have a value, where there are values; None for any.
        more: whether other symbols may have one too, such as those in functions that will be asked about.

    Raises:
        DataError: a key is no known symbol, or a value is not a finite number.

    >>> sigma = sp.Symbol("sigma", positive=True)
    >>> symbol_values({"sigma": 2}, lambda: [sigma])
    {sigma: 2.0}
    """
    result: dict[sp.Symbol, float] = {}
    for key, value in by_symbol(values, known, more).items():
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            raise DataError(f"the value of {key} must be a number, got {shortly(value)}") from None
        if isinstance(value, str):
            raise DataError(f"the value of {key} must be a number, got {shortly(value)}")
        if not np.isfinite(number):
            raise DataError(f"the value of {key} is {number}; it must be finite")
        if number < 0 and key.is_nonnegative:
            raise DataError(f"{key} was declared not negative, got {number}")
        result[key] = number
    return result


def check_values(values: Any) -> None:
    """Refuse what is no mapping of hyperparameters to numbers.

    Raises:
        DataError: saying what was given.
    """
    if values is not None and not isinstance(values, Mapping):
        raise DataError(f"values must map hyperparameters to numbers, such as {{sigma: 1.5}}, got {shortly(values)}")


def by_symbol(
    values: Mapping[Any, Any] | None, known: Known = lambda: None, more: bool = False
) -> dict[sp.Symbol, Any]:
    """What ``values`` gives, numbers or arrays, by symbol; arguments and errors about keys as for ``symbol_values``.

    >>> sigma = sp.Symbol("sigma", positive=True)
    >>> by_symbol({"sigma": [1.0, 2.0]}, lambda: [sigma])
    {sigma: [1.0, 2.0]}
    """
    check_values(values)
    result: dict[sp.Symbol, Any] = {}
    symbols = known() if values else None
    for given, value in (values or {}).items():
        key = _symbol(given, symbols, more)
        if key in result:
            raise DataError(f"values has two numbers for {key}")
        result[key] = value
    return result


def program_symbols(program: ProgramGraph) -> set[sp.Symbol]:
    """The symbols of a program, inner products of embedded data among them."""
    lists = [op.cov for _, op in program if isinstance(op, InitVector) and isinstance(op.cov, Covariances)]
    return program.symbols.union(*(c.free_symbols for cov in lists for _, c in cov))


def _symbol(key: Any, known: Collection[sp.Symbol] | None, more: bool) -> sp.Symbol:
    """The symbol of a key of ``values``."""
    if not isinstance(key, (str, sp.Symbol)) or (known is None and isinstance(key, str)):
        raise DataError(f"values must be given by sympy symbol, got the key {shortly(key)}")
    if known is None or key in known:
        return key
    same = [s for s in known if s.name == str(key)]
    if isinstance(key, str) and len(same) == 1:
        return same[0]
    if same:
        raise no_value(same, [key])
    if more and isinstance(key, sp.Symbol):
        return key
    names = nearest(key, {s.name for s in known}) if known else "there is none: all hyperparameters are numbers"
    raise DataError(f"values has {shortly(str(key))}, which is no hyperparameter symbol here; {names}")
