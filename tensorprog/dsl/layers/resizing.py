"""Positions cut off, added and put side by side.

Where every position reads one position, functions of coordinates commute with it: crop(φ(h)) is φ(crop(h)), so that
what is cropped is Gaussian in the limit, and what a function makes of it is known.
"""

from __future__ import annotations

from typing import Any

import sympy as sp

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.layers.spatial import Extent, axes_of, extent, mixed
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import Datum
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Axes, Reading
from tensorprog.ir.instructions import InitVector, Mix, Nonlin, Var, vector_slot
from tensorprog.ir.maps import Beside, Margins, Position, View


def crop(net: Builder, x: Vec | Datum, before: Extent = 0, after: Extent = 0) -> Any:
    """The positions of x without the first ``before`` and the last ``after`` along each axis.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def inner(net, x):
    ...     return net.flatten("V", net.crop(tp.relu(net.embed("U", x)), before=1))
    >>> tp.nngp(inner())([[[7.0], [1.0], [1.0]]])
    array([[0.5]])
    """
    first, last = (_margin("crop", name, v) for name, v in (("before", before), ("after", after)))
    return _viewed(net, "crop(..)", x, Margins(_negative(first), _negative(last)))


def pad(net: Builder, x: Vec | Datum, before: Extent = 0, after: Extent = 0) -> Any:
    """x with ``before`` further positions in front and ``after`` at the end of each axis, where it is 0.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def longer(net, x):
    ...     return net.flatten("V", net.pad(tp.relu(net.embed("U", x)), after=1))
    >>> tp.nngp(longer())([[[1.0], [1.0], [1.0]]])
    array([[0.375]])
    """
    first, last = (_margin("pad", name, v) for name, v in (("before", before), ("after", after)))
    return _viewed(net, "pad(..)", x, Margins(first, last))


def beside(net: Builder, *families: Vec, axis: int = 0) -> Vec:
    """Families over the same axes one after the other along ``axis``, whose size is multiplied by their number.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def twice(net, x):
    ...     h = net.embed("U", x)
    ...     return net.flatten("V", net.beside(h, 2 * h))
    >>> tp.nngp(twice())([[[1.0], [1.0]]])  # (1 + 1 + 4 + 4)/4
    array([[2.5]])
    """
    if isinstance(axis, bool) or not isinstance(axis, int) or axis < 0:
        raise ProgramError(f"axis of beside(..) counts the axes of positions from 0, got {shortly(axis)}")
    if not families:
        raise ProgramError("beside(..) takes families of vectors")
    found = [axes_of(net, x, "beside(..)") for x in families]
    for x, axes in zip(families, found, strict=True):
        if axes != found[0]:
            raise ProgramError(f"beside(..) takes families over the same axes; those of {families[0]} and {x} differ")
    parts = [_viewed(net, "beside(..)", x, Beside(axis, k, len(families))) for k, x in enumerate(families)]
    return sum(parts[1:], parts[0])


def at(net: Builder, x: Vec | Datum, place: Extent) -> Any:
    """The vector of x at one position, such as 2, (0, -1), or -1 for the last; without positions itself.

    Outputs at several positions, from one readout or several, have a kernel between any two: from token to token.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def tokens(net, x):
    ...     h = tp.relu(net.embed("U", x))
    ...     return tuple(net.readout("V", net.at(h, p)) for p in (0, 1))
    >>> tp.nngp(tokens())([[[1.0], [2.0]]])[0, 0]
    array([[0.5, 1. ],
           [1. , 2. ]])
    """
    place = extent("place of at(..)", place, lambda n: True, "an integer")
    return _viewed(net, "at(..)", x, Position(place))


def _margin(name: str, what: str, value: Any) -> Extent:
    return extent(f"{what} of {name}(..)", value, lambda n: n >= 0, "a nonnegative integer")


def _negative(value: Extent) -> Extent:
    return tuple(-v for v in value) if isinstance(value, tuple) else -value


def _viewed(net: Builder, call: str, x: Any, by: View) -> Any:
    if isinstance(x, Datum):
        return mixed(net, call, x, by)
    axes_of(net, x, call)
    program = net._trace.program
    return Vec(program, _pushed(net, x.var, by))


def _pushed(net: Builder, x: Var, by: View) -> Var:
    """x read by a view: of a function of vectors, the function of what is read of them."""
    program = net._trace.program
    op, axes = program.op(x), program.axes(x)
    assert axes is not None
    if not isinstance(op, Nonlin) or any(program.axes(s) is not None for s in op.params):
        return program.append(None, Mix(Reading(by, axes), False, x))
    moved = tuple(v if program.axes(v) is None else _pushed(net, v, by) for v in op.args)
    body, slots = op.body, [vector_slot(i) for i, v in enumerate(op.args) if program.axes(v) is not None]
    if (
        not by.is_whole and body.xreplace(dict.fromkeys(slots, sp.S.Zero)) != 0
    ):  # absent positions are 0, not what the function makes of it
        body, moved = body * vector_slot(len(moved)), (*moved, _inside(net, axes, by))
    return program.append(None, Nonlin(body, moved, op.params), "x")


def _inside(net: Builder, axes: Axes, by: View) -> Var:
    """1 where a view reads something, 0 elsewhere."""
    program, t = net._trace.program, net._trace
    ones = t.ones.get(axes)
    if ones is None:
        ones = t.ones[axes] = program.append(program.fresh("ones"), InitVector(sp.S.One, (), axes))
    return program.append(None, Mix(Reading(by, axes), False, ones))
