"""What arguments are looked at with: each check gives the value in the type to compute with, or says what it got."""

from __future__ import annotations

import math
from numbers import Real
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import DataError, ProgramError, shortly

MANY = 10**6  # steps, layers and seeds: beyond it no machine ends


def flag(value: Any, what: str) -> bool:
    """True or False, NumPy's too.

    Raises:
        ProgramError: anything else, which Python would take for one of them.

    >>> flag(np.True_, "closed")
    True
    """
    if not isinstance(value, (bool, np.bool_)):
        raise ProgramError(f"{what} must be True or False, got {shortly(value)}")
    return bool(value)


def number(value: Any, what: str, least: float = -math.inf) -> float:
    """A finite number as a float.

    Raises:
        DataError: no number, True and False among them; not finite, or below ``least``.

    >>> number(2, "tolerance")
    2.0
    """
    try:
        found = float(value) if isinstance(value, Real) and not isinstance(value, bool) else math.nan
    except OverflowError:
        found = math.inf
    if not math.isfinite(found) or found < least:
        bound = "" if least == -math.inf else f" of at least {least:g}"
        raise DataError(f"{what} must be a finite number{bound}, got {shortly(value)}")
    return found


def is_array(value: Any) -> bool:
    """Whether a value has rows: a list, a tuple, an array with axes.

    >>> is_array([[1], [2, 3]]), is_array(np.float64(1)), is_array("ab")
    (True, False, False)
    """
    return isinstance(value, (list, tuple)) or np.ndim(value) > 0


def count(value: Any, what: str, least: int = 1, most: float = MANY) -> int:
    """How many of something: an integer of an interval.

    Raises:
        DataError: anything else, True and False among it.
    """
    whole = isinstance(value, (int, np.integer)) and not isinstance(value, bool)
    if not whole or not least <= value <= most:
        bound = f"of at least {least}" if most == math.inf else f"from {least} to {most}"
        raise DataError(f"{what} must be an integer {bound}, got {shortly(value)}")
    return int(value)


def file_path(value: Any, what: str) -> Path:
    """The path of a file.

    Raises:
        DataError: no text and no path.
    """
    if not isinstance(value, (str, PathLike)) or isinstance(value, bytes):
        raise DataError(f"{what} must be a file name, got the {type(value).__name__} {shortly(value)}")
    return Path(value)


def generator(seed: Any, what: str = "seed") -> np.random.Generator:
    """The random numbers that a seed, a generator of NumPy, old or new, or None stands for.

    Raises:
        DataError: something else.

    >>> bool(generator(0).random() == generator(np.random.default_rng(0)).random())
    True
    """
    if isinstance(seed, np.random.RandomState):
        return np.random.Generator(seed._bit_generator)  # type: ignore[attr-defined]
    whole = isinstance(seed, (int, np.integer)) and not isinstance(seed, bool) and seed >= 0
    if seed is None or whole or isinstance(seed, np.random.Generator):
        return np.random.default_rng(seed)
    raise DataError(f"{what} must be an integer of at least 0 or a generator of NumPy, got {shortly(seed)}")
