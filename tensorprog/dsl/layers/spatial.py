"""Layers that read positions: convolutions and averages over windows, whole images and graphs."""

from __future__ import annotations

from typing import Any

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.layers.linear import embed, weight
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import Datum, NeedsAxes
from tensorprog.errors import ProgramError
from tensorprog.ir.axes import Axes, Everywhere, Padding, Reading, Window
from tensorprog.ir.instructions import MatMul, Mix
from tensorprog.types import Key, Number

Extent = int | tuple[int, ...]


def conv(net: Builder, key: Key, x: Vec | Datum, kernel: Extent = 3, std: Number = 1, *, stride: Extent = 1,
         dilation: Extent = 1, padding: Padding = "same", initial: Number | None = None) -> Vec:  # fmt: skip
    """The convolution h[p] = std/√|w| Σ_k W_k x[s p + d k] over the offsets k of a window, W_k ~ N(0, 1/n).

    Windows are centred; beyond the border x is 0 (``"same"``), or its other side (``"circular"``); ``"valid"``
    windows lie inside.  The scale at borders is that of the interior.

    Args:
        key: the name of the weights.
        x: an input, or vectors with positions.
        kernel, stride, dilation: one number for all axes, or one each.
        std: the scale of the layer; by 1/√|w| smaller for every offset.
        padding: ``"same"``, ``"valid"`` or ``"circular"``.
        initial: 0 for weights that are 0 at first.
    """
    return _windowed(net, key, x, Window(kernel, stride, dilation, padding), std, initial)


def local(net: Builder, key: Key, x: Vec | Datum, kernel: Extent = 3, std: Number = 1, *, stride: Extent = 1,
          dilation: Extent = 1, padding: Padding = "same", initial: Number | None = None) -> Vec:  # fmt: skip
    """A ``conv`` whose positions have weights of their own: h[p] = std/√|w| Σ_k W_{p,k} x[s p + d k]."""
    return _windowed(net, key, x, Window(kernel, stride, dilation, padding, tied=False), std, initial)


def _windowed(net: Builder, key: Key, x: Any, window: Window, std: Number, initial: Number | None) -> Vec:
    if isinstance(x, Datum):
        return embed(net, key, view(x, window, stacked=True), std, initial)
    by = Reading(window, axes_of(net, x, f"conv({key!r}, ..)"))
    matrix = weight(net, key, std, initial)
    stem, program = f"{matrix}({net._label})", net._trace.program
    name = program.fresh(f"{stem}_") if stem in program else stem
    return Vec(program, program.append(name, MatMul(matrix.var, False, x.var, by)))


def view(x: Datum, window: Any, stacked: bool) -> Datum:
    """The patches that a map reads of an input, side by side, or their average."""
    if x.axes is None:
        raise NeedsAxes(f"the network reads positions of its input {x.label}: give images, (N, H, W, C), or (N, L, C)")
    if x.by is not None:
        raise ProgramError(f"{x} was read by {x.by.map} before; embed it first")
    return Datum(x.owner, x.label, x.time, x.axes, Reading(window, x.axes), stacked)


def axes_of(net: Builder, x: Any, call: str) -> Axes:
    """The axes of a family of vectors."""
    if not isinstance(x, Vec):
        raise ProgramError(f"{call} takes vectors of the network, got {type(x).__name__} {x!r}")
    axes = net._trace.program.axes(x.var)
    if axes is None:
        raise NeedsAxes(f"{call} reads positions, and {x} has none: give images, (N, H, W, C), or signals, (N, L, C)")
    return axes


def avg_pool(net: Builder, x: Vec, kernel: Extent = 2, *, stride: Extent | None = None,
             padding: Padding = "valid") -> Vec:  # fmt: skip
    """The average y[p] = (1/|w|) Σ_k x[s p + k] over windows, by default side by side."""
    window = Window(kernel, kernel if stride is None else stride, 1, padding)
    return _mixed(net, x, Reading(window, axes_of(net, x, "avg_pool(..)")))


def global_pool(net: Builder, x: Vec) -> Vec:
    """The average over all positions."""
    return _mixed(net, x, Reading(Everywhere(), axes_of(net, x, "global_pool(..)")))


def _mixed(net: Builder, x: Vec, by: Reading) -> Vec:
    return Vec(net._trace.program, net._trace.program.append(None, Mix(by, False, x.var)))
