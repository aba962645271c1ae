"""Numbers for hyperparameters, given by symbol or by name."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError, nearest
from tensorprog.functions import no_value


def symbol_values(
    values: Mapping[Any, Any] | None, known: Callable[[], Collection[sp.Symbol] | None] = lambda: None
) -> dict[sp.Symbol, float]:
    """Hyperparameter values by symbol.

    Args:
        values: numbers by symbol, or by the name of a known symbol.
        known: finds the symbols that may have a value, where there are values; None for any.

    Raises:
        DataError: a key is no known symbol, or a value is not a finite number.

    >>> sigma = sp.Symbol("sigma", positive=True)
    >>> symbol_values({"sigma": 2}, lambda: [sigma])
    {sigma: 2.0}
    """
    check_values(values)
    result: dict[sp.Symbol, float] = {}
    symbols = known() if values else None
    for given, value in (values or {}).items():
        key = _symbol(given, symbols)
        if key in result:
            raise DataError(f"values has two numbers for {key}")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise DataError(f"the value of {key} must be a number, got {value!r}") from None
        if isinstance(value, str):
            raise DataError(f"the value of {key} must be a number, got {value!r}")
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
        raise DataError(f"values must map hyperparameters to numbers, such as {{sigma: 1.5}}, got {values!r}")


def _symbol(key: Any, known: Collection[sp.Symbol] | None) -> sp.Symbol:
    """The symbol of a key of ``values``."""
    if not isinstance(key, (str, sp.Symbol)) or (known is None and isinstance(key, str)):
        raise DataError(f"values must be given by sympy symbol, got the key {key!r}")
    if known is None or key in known:
        return key
    same = [s for s in known if s.name == str(key)]
    if isinstance(key, str) and len(same) == 1:
        return same[0]
    if same:
        raise no_value(same, [key])
    names = nearest(str(key), {s.name for s in known}) if known else "there is none: all hyperparameters are numbers"
    raise DataError(f"values has {str(key)!r}, which is no hyperparameter symbol here; {names}")
