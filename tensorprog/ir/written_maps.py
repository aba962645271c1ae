"""Maps between positions, axes and readings as JSON: a map is a list of its kind and its fields."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import fields
from typing import Any, get_args

from tensorprog.errors import ProgramError, nearest, shortly
from tensorprog.ir.axes import Axes, Map, Padding, Pairs, Reading
from tensorprog.ir.maps import MAPS, Normalisation


def map_out(m: Map) -> list[Any]:
    """A map, e.g. ``["Window", {"kernel": 3, ..}]``.

    >>> from tensorprog.ir.axes import Everywhere
    >>> map_out(Everywhere())
    ['Everywhere', {'weighted': True}]
    """
    return [type(m).__name__, {f.name: _out(getattr(m, f.name)) for f in fields(m)}]


def _out(value: Any) -> Any:
    if isinstance(value, Map):
        return map_out(value)
    return list(value) if isinstance(value, tuple) else value


def axes_out(axes: Axes | Pairs | None) -> Any:
    """Axes, as the input that they are of and the maps since, two of them for pairs of positions; None for none."""
    if isinstance(axes, Pairs):
        return ["pairs", axes_out(axes.left), axes_out(axes.right)]
    return None if axes is None else [axes.source, [map_out(m) for m in axes.maps]]


def reading_out(r: Reading | None) -> Any:
    """A reading, as its map and its axes."""
    return None if r is None else [map_out(r.map), axes_out(r.axes)]


def map_in(data: Any) -> Map:
    """The inverse of ``map_out``.

    Raises:
        ProgramError: anything but what it writes.
    """
    if not isinstance(data, list) or len(data) != 2 or not isinstance(data[1], dict):
        raise ProgramError(f"expected a map such as ['Window', {{'kernel': 3, ..}}], got {shortly(data)}")
    cls = MAPS.get(data[0]) if isinstance(data[0], str) else None
    if cls is None:
        raise ProgramError(f"unknown map {shortly(data[0])}; {nearest(data[0], MAPS)}")
    names = [f.name for f in fields(cls)]
    if set(data[1]) != set(names):
        raise ProgramError(f"the map {data[0]} needs the fields {', '.join(names)}; got {', '.join(data[1])}")
    return cls(**{name: _in(data[0], name, data[1][name]) for name in names})


def _in(kind: str, name: str, value: Any) -> Any:
    rule, convert = _FIELDS[name]
    if not rule(value):
        raise ProgramError(f"{name} of the map {kind} cannot be {shortly(value)}")
    return convert(value)


def axes_in(data: Any) -> Axes | Pairs | None:
    """The inverse of ``axes_out``."""
    if data is None:
        return None
    if isinstance(data, list) and len(data) == 3 and data[0] == "pairs":
        left, right = axes_in(data[1]), axes_in(data[2])
        if isinstance(left, Axes) and isinstance(right, Axes):
            return Pairs(left, right)
    if not (isinstance(data, list) and len(data) == 2 and isinstance(data[0], str) and isinstance(data[1], list)):
        raise ProgramError(f"expected axes such as ['x', []], got {shortly(data)}")
    return Axes(data[0], tuple(map_in(m) for m in data[1]))


def reading_in(data: Any) -> Reading | None:
    """The inverse of ``reading_out``."""
    if data is None:
        return None
    if not isinstance(data, list) or len(data) != 2:
        raise ProgramError(f"expected a map and its axes, got {shortly(data)}")
    axes = axes_in(data[1])
    if isinstance(axes, Pairs):
        raise ProgramError(f"a map reads positions, not pairs of them: {shortly(data)}")
    return Reading(map_in(data[0]), axes)


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _extent(least: float) -> tuple[Callable[[Any], bool], Callable[[Any], Any]]:
    def rule(value: Any) -> bool:
        parts = value if isinstance(value, list) else [value]
        return bool(parts) and all(_is_integer(v) and v >= least for v in parts)

    return rule, lambda value: tuple(value) if isinstance(value, list) else value


def _one_of(*known: Any) -> tuple[Callable[[Any], bool], Callable[[Any], Any]]:
    return lambda value: isinstance(value, (str, bool)) and value in known, lambda value: value


def _count(value: Any) -> bool:
    return _is_integer(value) and value >= 0


def _number(value: Any) -> bool:
    return (_is_integer(value) or isinstance(value, float)) and math.isfinite(value)


_FIELDS: dict[str, tuple[Callable[[Any], bool], Callable[[Any], Any]]] = {
    "kernel": _extent(1), "stride": _extent(1), "dilation": _extent(1), "before": _extent(-math.inf),
    "after": _extent(-math.inf), "padding": _one_of(*get_args(Padding)), "tied": _one_of(True, False),
    "weighted": _one_of(True, False), "pooled": _one_of(True, False), "normalise": _one_of(*get_args(Normalisation)),
    "place": _extent(-math.inf), "axis": (_count, int), "part": (_count, int), "of": (_count, int),
    "loops": (_number, float),
    "name": (lambda value: isinstance(value, str) and value.isidentifier(), str),
    "window": (lambda value: isinstance(value, list) and value[:1] == ["Window"], map_in),
}  # fmt: skip
