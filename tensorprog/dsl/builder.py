"""What every layer is made with: the program of a trace, and its parameters by name."""

from __future__ import annotations

from typing import Any

import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.dsl.laws import WeightLaw
from tensorprog.dsl.parameters import Parameter, start_of
from tensorprog.dsl.trace import Trace
from tensorprog.errors import ProgramError, a, shortly
from tensorprog.ir.axes import Map
from tensorprog.types import Key


class Builder:
    """The program of a trace as it grows by the layers of one input."""

    def __init__(self, trace: Trace, label: str) -> None:
        self._trace, self._label = trace, label

    def _declare(self, key: Any, kind: str, std: sp.Expr, initial: Any, by: Map | None = None,
                 law: WeightLaw | None = None) -> str:  # fmt: skip
        name, start = name_of(key), start_of(key, kind, initial)
        known = self._trace.parameters.setdefault(name, Parameter(key, kind, std, start=start, by=by, law=law))
        if known.kind != kind:
            raise ProgramError(f"parameter {shortly(name)} is {a(known.kind)} and cannot be used as {a(kind)}")
        for what, first, now in (("std", known.std, std), ("initial", known.start, start), ("law", known.law, law)):
            if first != now:
                raise ProgramError(
                    f"parameter {shortly(name)} is shared, but its {what} is {first} here and {now} there"
                )
        if known.by != by:
            raise ProgramError(f"parameter {shortly(name)} is used in two ways: {_way(known.by)}, and {_way(by)}")
        return name

    def _called(self, stem: str, *index: int, time: int | None = None) -> str:
        """The name of what a layer computes, such as a^(2,1)(x), for programs and equations, which know its time."""
        shown = [*index, *(() if time is None else (time,))]
        of = f"{stem}^({','.join(map(str, shown))})" if shown else stem
        name = f"{of}({self._label})"
        if name in self._trace.program:
            name = self._trace.program.fresh(f"{name}_")
        self._trace.called[name] = stem, index
        return name

    def _again(self, what: str) -> int:
        """How many times an input has met this, with this time."""
        met = self._trace.met
        met[what, self._label] = met.get((what, self._label), 0) + 1
        return met[what, self._label]


def _way(by: Map | None) -> str:
    return "once for all positions" if by is None else f"with weights for every offset of {by}"


def std_of(key: Any, std: Any) -> sp.Expr:
    """The scale of a layer as an exact expression, refused if negative."""
    std = exact(std, f"std of {shortly(key)}")
    if std.is_negative:
        raise ProgramError(f"std of {shortly(key)} is {std}; a standard deviation cannot be negative")
    return std


def part_of(key: Key, part: str, *index: int) -> tuple[Any, ...]:
    """The key of a weight of a layer.

    >>> part_of("A", "q", 1), part_of(("A", 3), "q", 1)
    (('Aq', 1), ('Aq', 3, 1))
    """
    name_of(key)
    stem, *own = (key,) if isinstance(key, str) else key
    return (f"{stem}{part}", *own, *index)


def index_of(key: Key) -> tuple[int, ...]:
    """The integers of a key: () of "A", (3,) of ("A", 3)."""
    return () if isinstance(key, str) else tuple(k for k in key if isinstance(k, int))


def name_of(key: Any) -> str:
    """("W", 2) ↦ "W2", ("W", 1, 3) ↦ "W1_3", "U" ↦ "U"."""
    if isinstance(key, str) and key:
        return key
    if isinstance(key, tuple) and key and isinstance(key[0], str) and all(isinstance(k, int) for k in key[1:]):
        return key[0] + "_".join(map(str, key[1:]))
    raise ProgramError(f"a parameter is named by a string or by (string, int, ..), got {shortly(key)}")
