"""Reading data: vectors, sequences, ragged lists; every problem named."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError


@dataclass(frozen=True)
class Inputs:
    """Inputs grouped by length: ``data[T]`` is (N_T, T, d), ``groups[T]`` their positions; T is None for vectors."""

    data: dict[int | None, np.ndarray]
    groups: dict[int | None, np.ndarray]
    dimension: int

    def __len__(self) -> int:
        return sum(map(len, self.groups.values()))

    @property
    def lengths(self) -> list[int | None]:
        """The length of each input, in order."""
        result: list[int | None] = [None] * len(self)
        for t, rows in self.groups.items():
            for r in rows:
                result[r] = t
        return result

    def take(self, start: int, stop: int) -> Inputs:
        """Inputs start..stop, in order."""
        inside = {t: (rows >= start) & (rows < stop) for t, rows in self.groups.items()}
        groups = {t: rows[inside[t]] - start for t, rows in self.groups.items() if inside[t].any()}
        return Inputs({t: self.data[t][inside[t]] for t in groups}, groups, self.dimension)

    def __getitem__(self, i: int) -> np.ndarray:
        """Input number i as (T, d)."""
        for t, rows in self.groups.items():
            where = int(np.searchsorted(rows, i))
            if where < len(rows) and rows[where] == i:
                return self.data[t][where]  # type: ignore[no-any-return]
        raise IndexError(i)


def read_inputs(X: Any, name: str, sequences: bool) -> Inputs:
    """Check data and group it by length.

    Args:
        X: (N, d) when not ``sequences``; (N, T, d) or a list of (T_i, d) otherwise.
        name: how errors call it.
        sequences: whether the network takes sequences.

    Raises:
        DataError: wrong number of axes, no inputs, empty sequences, NaN or infinite entries, not numbers.
    """
    if sequences and isinstance(X, (list, tuple)):
        return _ragged([_array(x, f"{name}[{i}]") for i, x in enumerate(X)], name)
    x = _array(X, name)
    if not sequences:
        if x.ndim != 2:
            raise DataError(f"{name} must have shape (N, d), got {x.shape}; this network takes single vectors")
        _nonempty(x, name)
        return Inputs({None: x[:, None, :]}, {None: np.arange(len(x))}, x.shape[1])
    if x.ndim != 3:
        raise DataError(
            f"{name} must have shape (N, T, d) or be a list of (T_i, d) arrays, got {x.shape}; "
            "this network takes sequences"
        )
    _nonempty(x, name)
    return Inputs({x.shape[1]: x}, {x.shape[1]: np.arange(len(x))}, x.shape[2])


def _ragged(items: list[np.ndarray], name: str) -> Inputs:
    if not items:
        raise DataError(f"{name} holds no inputs")
    for i, x in enumerate(items):
        if x.ndim != 2:
            raise DataError(f"{name}[{i}] must have shape (T, d), got {x.shape}")
        _nonempty(x[None], f"{name}[{i}]")
        if x.shape[1] != items[0].shape[1]:
            raise DataError(f"{name}[{i}] has feature dimension {x.shape[1]}, {name}[0] has {items[0].shape[1]}")
    lengths = np.array([len(x) for x in items])
    groups: dict[int | None, np.ndarray] = {int(t): np.flatnonzero(lengths == t) for t in np.unique(lengths)}
    return Inputs({t: np.stack([items[i] for i in rows]) for t, rows in groups.items()}, groups, items[0].shape[1])


def _array(X: Any, name: str) -> np.ndarray:
    try:
        x = np.asarray(X)
        if x.dtype.kind not in "fiub":
            raise DataError(f"{name} must hold real numbers, got dtype {x.dtype}")
        x = x.astype(np.float64)
    except (TypeError, ValueError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"{name} is not an array of numbers: {error}") from error
    if not np.isfinite(x).all():
        where = tuple(int(k) for k in np.argwhere(~np.isfinite(x))[0])
        raise DataError(f"{name} has the value {x[where]} at index {where}; clean the data first")
    return x


def _nonempty(x: np.ndarray, name: str) -> None:
    if x.shape[0] == 0:
        raise DataError(f"{name} holds no inputs (shape {x.shape})")
    if x.ndim == 3 and x.shape[1] == 0:
        raise DataError(f"{name} is an empty sequence; its length must be at least 1")
    if x.shape[-1] == 0:
        raise DataError(f"{name} has feature dimension 0 (shape {x.shape})")


def symbol_values(values: Mapping[Any, Any] | None) -> dict[sp.Symbol, float]:
    """Hyperparameter values by symbol.

    Raises:
        DataError: a key is neither, or a value is not a finite number.
    """
    result: dict[sp.Symbol, float] = {}
    for key, value in (values or {}).items():
        if not isinstance(key, sp.Symbol):
            raise DataError(f"values must be given by sympy symbol, got the key {key!r}")
        try:
            number = float(value)
        except (TypeError, ValueError):
            raise DataError(f"the value of {key} must be a number, got {value!r}") from None
        if not np.isfinite(number):
            raise DataError(f"the value of {key} is {number}; it must be finite")
        result[key] = number
    return result
