"""Inputs that are batches: the members of one, and the output of each."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import NeedsAxes, Output, Trace
from tensorprog.errors import DataError, ProgramError
from tensorprog.ir.axes import Axes, Reading, Sizes
from tensorprog.ir.instructions import Mix
from tensorprog.ir.maps import Position


def axes_of_members(net: Builder, h: Vec) -> Axes:
    """The axes of vectors with one for each member of a batch."""
    axes = net._trace.program.axes(h.var)
    if axes is None:
        words = f"batch_norm(..) reads the members of a batch, and {h} has none: give batches, (N, B, d)"
        raise NeedsAxes(words, net._trace.parts_behind(h.var))
    return axes  # type: ignore[no-any-return]


def axes_of_outputs(t: Trace, heads: tuple[Any, ...]) -> Axes | None:
    """The axes of a batch whose members have an output each; None where an input has as many outputs as there are.

    Raises:
        ProgramError: several such outputs.
    """
    found = {axes for f in heads for r in f.readouts if (r.by is None and (axes := t.program.axes(r.x)) is not None)}
    if found and len(heads) > 1:
        raise ProgramError("a network of batches has one output, which every member of a batch has; got several")
    return next(iter(found), None)


def outputs_of_members(t: Trace, f: Output, axes: Axes, sizes: Sizes) -> tuple[Output, ...]:
    """The outputs of the members of a batch of these sizes, one after the other.

    Raises:
        DataError: a batch of one member, which has no variance.
    """
    count = math.prod(axes.at(sizes))
    if count < 2:
        raise DataError("a batch of 1 member has no variance to be normalised by: give batches of 2 members or more")
    return tuple(_output(t, f, axes, k) for k in range(count))


def member_output(net: Builder, f: Output, k: int) -> Output:
    """The output of member number k alone."""
    axes = axes_of_outputs(net._trace, (f,))
    return f if axes is None else _output(net._trace, f, axes, k)


def _output(t: Trace, f: Output, axes: Axes, k: int) -> Output:
    return replace(
        f,
        readouts=tuple(
            replace(r, x=t.program.append(None, Mix(Reading(Position(k), axes), False, r.x)))
            if t.program.axes(r.x) == axes
            else r
            for r in f.readouts
        ),
    )
