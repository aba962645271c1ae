"""Inputs that are dictionaries of named arrays, read as one array for every input.

Named vectors become a sequence of vectors of the largest dimension D: those of dimension d are filled with zeros and
multiplied by √(D/d), which leaves ⟨ξ,ξ'⟩ = ξ·ξ'/d.  With positions, what is given at a position, its row of a matrix
included, stands side by side, and a ``Layout`` says which columns are whose.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.dsl.parts import SHAPES, Parts
from tensorprog.errors import DataError, nearest, shortly

Read = Callable[[Any, str], np.ndarray]
Grouped = tuple[dict[Any, np.ndarray], dict[Any, np.ndarray], int]


@dataclass(frozen=True)
class Layout:
    """The columns of named arrays, in order; ``None`` for as many as there are positions."""

    widths: tuple[tuple[str, int | None], ...]

    def of(self, name: str | None, data: np.ndarray) -> np.ndarray:
        """The columns of an array in (.., P, columns)."""
        start = 0
        for known, width in self.widths:
            stop = start + (data.shape[-2] if width is None else width)
            if known == name:
                return data[..., start:stop]
            start = stop
        raise DataError(f"there is no array {shortly(name)}; there are {', '.join(n for n, _ in self.widths)}")


def check_names(X: Any, name: str, parts: Parts) -> None:
    """Refuse what is no dictionary of the arrays that a network reads.

    Raises:
        DataError: something else, arrays that are missing or that are not read.
    """
    wanted = ", ".join(f"{n!r}: {SHAPES[use]}" for n, use in parts.uses.items())
    if not isinstance(X, Mapping):
        raise DataError(f"{name} must be a dictionary of named arrays, {{{wanted}}}; got {type(X).__name__}")
    for key in X:
        if key not in parts.uses:
            raise DataError(
                f"{name} has the array {shortly(key)}, which the network does not read; {nearest(key, parts.uses)}"
            )
    for key in parts.uses:
        if key not in X:
            raise DataError(f"{name} lacks the array {shortly(key)}; this network takes {{{wanted}}}")


def vectors_in_a_row(X: Mapping[str, Any], name: str, parts: Parts, read: Read) -> np.ndarray:
    """Named vectors as sequences, (N, K, D)."""
    arrays = {key: read(X[key], f"{name}[{key!r}]") for key in parts.vectors}
    for key, x in arrays.items():
        if x.ndim != 2 or 0 in x.shape:
            raise DataError(f"{name}[{shortly(key)}] must have shape {SHAPES['vector']}; got {x.shape}")
    _check_counts({f"{name}[{key!r}]": len(x) for key, x in arrays.items()})
    _check_shared(arrays, name, parts)
    most = max(x.shape[1] for x in arrays.values())
    return np.stack([_widened(x, most) for x in arrays.values()], axis=1)


def _widened(x: np.ndarray, most: int) -> np.ndarray:
    d = x.shape[-1]
    return x if d == most else np.pad(x * np.sqrt(most / d), [(0, 0)] * (x.ndim - 1) + [(0, most - d)])


def _check_counts(counts: Mapping[str, int]) -> None:
    if len(set(counts.values())) > 1:
        shown = ", ".join(f"{count} in {name}" for name, count in counts.items())
        raise DataError(f"the arrays of an input belong together, and there are {shown}")


def _check_shared(arrays: Mapping[str, Any], name: str, parts: Parts) -> None:
    for key, names in parts.embedded.items():
        first = names[0]
        for other in names[1:]:
            d, d2 = (x[0].shape[-1] for x in (arrays[first], arrays[other]))
            if d != d2:
                raise DataError(
                    f"{name}[{shortly(first)}] and {name}[{shortly(other)}] are embedded by one "
                    f"matrix, {shortly(key)}, and have "
                    f"dimensions {d} and {d2}"
                )


def at_positions(X: Mapping[str, Any], name: str, parts: Parts, read: Read) -> tuple[Grouped, Layout]:
    """Named arrays of inputs with positions, grouped by sizes, side by side."""
    read_all = {key: _items(X[key], f"{name}[{key!r}]", read) for key in parts.uses}
    _check_counts({f"{name}[{key!r}]": len(items) for key, items in read_all.items()})
    over = [key for key in parts.uses if key in parts.over]
    sizes = [x.shape[:-1] for x in read_all[over[0]]]
    for key, items in read_all.items():
        for i, x in enumerate(items):
            _check_shape(x, f"{name}[{key!r}][{i}]", parts.uses[key], sizes[i], items[0])
    _check_shared({k: x for k, x in read_all.items() if k in parts.vectors}, name, parts)
    order = sorted(parts.uses, key=lambda key: ["positions", "vector", "weights", "matrix"].index(parts.uses[key]))
    rows = [
        np.concatenate([_flat(read_all[k][i], parts.uses[k], n) for k in order], axis=1) for i, n in enumerate(sizes)
    ]
    layout = Layout(tuple((k, _width(read_all[k][0], parts.uses[k])) for k in order))
    groups = {n: np.array([i for i, other in enumerate(sizes) if other == n]) for n in sorted(set(sizes))}
    dimension = sum(read_all[k][0].shape[-1] for k in order if parts.uses[k] in ("positions", "vector"))
    return ({n: np.stack([rows[i] for i in of]) for n, of in groups.items()}, groups, dimension), layout


def _items(X: Any, name: str, read: Read) -> list[np.ndarray]:
    if hasattr(X, "toarray"):
        raise DataError(f"{name} is one sparse matrix; give a list with a matrix for every input")
    if not isinstance(X, (list, tuple)):
        return list(read(X, name))
    return [read(x.toarray() if hasattr(x, "toarray") else x, f"{name}[{i}]") for i, x in enumerate(X)]


def _check_shape(x: np.ndarray, name: str, use: str, sizes: tuple[int, ...], first: np.ndarray) -> None:
    count = int(np.prod(sizes))
    if use == "positions":
        if not 2 <= x.ndim <= 4 or 0 in x.shape:
            raise DataError(f"{name} has shape {x.shape}; wanted are {SHAPES[use]}")
        if x.shape[:-1] != sizes or x.shape[-1] != first.shape[-1]:
            raise DataError(
                f"{name} has shape {x.shape}, which does not go with sizes {sizes} and {first.shape[-1]} channels"
            )
    elif use == "vector" and (x.ndim != 1 or x.shape != first.shape or not x.size):
        raise DataError(f"{name} has shape {x.shape}; wanted is one vector for every input, all of one dimension")
    elif use == "matrix" and (x.ndim != 2 or x.shape[0] != x.shape[1]):
        raise DataError(f"{name} has shape {x.shape}; a matrix between positions is square, ({count}, {count})")
    elif use in ("matrix", "weights") and (x.shape[0] != count or (use == "weights" and x.ndim != 1)):
        wanted = (count, count) if use == "matrix" else (count,)
        raise DataError(f"{name} has shape {x.shape}, and there are {count} positions: its shape must be {wanted}")


def _flat(x: np.ndarray, use: str, sizes: tuple[int, ...]) -> np.ndarray:
    """(P, columns)."""
    count = int(np.prod(sizes))
    if use == "vector":
        return np.broadcast_to(x, (count, len(x)))
    return x.reshape(count, -1)


def _width(x: np.ndarray, use: str) -> int | None:
    return None if use == "matrix" else 1 if use == "weights" else x.shape[-1]
