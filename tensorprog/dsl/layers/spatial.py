"""Layers that read positions: convolutions, and averages over windows and whole images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

from tensorprog.dsl.builder import Builder, std_of
from tensorprog.dsl.concatenated import Channels
from tensorprog.dsl.layers.linear import embed, matrix_of
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import Datum, NeedsAxes
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Axes, Everywhere, Map, Padding, Reading, Window
from tensorprog.ir.instructions import MatMul, Mix
from tensorprog.ir.maps import Spread
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

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def sums(net, x):
    ...     return net.readout("V", net.global_pool(net.conv("U", x, kernel=2, padding="valid")))
    >>> x = np.array([[[1.0], [2.0], [5.0]]])  # one signal of three positions and one channel
    >>> tp.nngp(sums())(x)  # of the means over positions that the two weights see, (1.5² + 3.5²)/2
    array([[7.25]])
    """
    window = _window("conv", key, kernel, stride, dilation, padding)
    return _windowed(net, "conv", key, x, window, std, initial)


def local(net: Builder, key: Key, x: Vec | Datum, kernel: Extent = 3, std: Number = 1, *, stride: Extent = 1,
          dilation: Extent = 1, padding: Padding = "same", initial: Number | None = None) -> Vec:  # fmt: skip
    """A convolution whose positions have weights of their own, h[p] = std/√|w| Σ_k W_{p,k} x[s p + d k]; see ``conv``.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def sums(net, x):
    ...     return net.readout("V", net.global_pool(net.local("U", x, kernel=2, padding="valid")))
    >>> tp.nngp(sums())(np.array([[[1.0], [2.0], [5.0]]]))  # ((1 + 4)/2 + (4 + 25)/2)/4: positions are independent
    array([[4.25]])
    """
    window = _window("local", key, kernel, stride, dilation, padding)
    return _windowed(net, "local", key, x, replace(window, tied=False), std, initial)


def conv_transpose(net: Builder, key: Key, x: Vec | Datum, kernel: Extent = 3, std: Number = 1, *, stride: Extent = 1,
                   dilation: Extent = 1, padding: Padding = "same",
                   initial: Number | None = None) -> Vec:  # fmt: skip
    """The transpose of a convolution, h[p] = std/√|w| Σ_k Σ_{q: s q + d k = p} W_k x[q]; see ``conv``.

    Positions become more by the factor of the stride, or with ``padding="valid"`` those of a window more.  The scale
    is that of the convolution: with stride s about one in s of the offsets reads something.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def up(net, x):
    ...     return net.flatten("V", net.conv_transpose("U", x, kernel=2, stride=2, padding="valid"))
    >>> tp.nngp(up())(np.array([[[1.0], [3.0]]]))  # (1 + 1 + 9 + 9)/2, over 4 positions
    array([[2.5]])
    """
    window = _window("conv_transpose", key, kernel, stride, dilation, padding)
    return _windowed(net, "conv_transpose", key, x, Spread(window), std, initial)


def _windowed(net: Builder, name: str, key: Key, x: Any, by: Map, std: Number, initial: Any) -> Vec:
    if initial == "identity":
        raise ProgramError(
            f"initial of {shortly(key)} must be None or 0 for a convolution; for c·h beside it add c * h"
        )
    if isinstance(x, Datum):
        return embed(net, key, patches(x, by), std, initial)
    if isinstance(x, Channels):
        return x.read(
            key, std_of(key, std), lambda own, part, scale: _windowed(net, name, own, part, by, scale, initial)
        )
    reading = Reading(by, axes_of(net, x, f"{name}({key!r}, ..)"))
    matrix = matrix_of(net, key, std, initial, by)
    stem, program = f"{matrix}({net._label})", net._trace.program
    var = program.fresh(f"{stem}_") if stem in program else stem
    return Vec(program, program.append(var, MatMul(matrix.var, False, x.var, reading)))


def patches(x: Datum, by: Map) -> Datum:
    """What a map reads of an input, its patches side by side."""
    axes = axes_of_input(x)
    if x.by is not None or x.mixes:
        raise ProgramError(f"{x} is an average or a part of the input: embed it first, then convolve")
    return replace(x, by=Reading(by, axes))


def axes_of_input(x: Datum) -> Axes:
    """The axes of an input that has positions."""
    if x.axes is None:
        words = f"the network reads positions of its input {x}: give images, (N, H, W, C), or (N, L, C)"
        raise NeedsAxes(words, frozenset([x.part]))
    return x.axes if not x.mixes else _axes_after(x)


def _axes_after(x: Datum) -> Axes:
    axes = x.mixes[-1].result(False)
    if axes is None:
        raise ProgramError(f"{x} has no positions any more")
    return axes


def axes_of(net: Builder, x: Any, call: str) -> Axes:
    """The axes of a family of vectors."""
    if not isinstance(x, Vec):
        raise ProgramError(f"{call} takes vectors of the network, got {type(x).__name__} {shortly(x)}")
    axes = net._trace.program.axes(x.var)
    if axes is None:
        words = f"{call} reads positions, and {x} has none: give images, (N, H, W, C), or signals, (N, L, C)"
        raise NeedsAxes(words, net._trace.parts_behind(x.var))
    return axes


def avg_pool(net: Builder, x: Vec | Datum, kernel: Extent = 2, *, stride: Extent | None = None,
             padding: Padding = "valid") -> Any:  # fmt: skip
    """The average y[p] = Σ_k x[s p + k]/w over windows of w positions, by default side by side.

    Under ``padding="same"`` what is beyond the border counts as 0.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def halves(net, x):
    ...     return net.flatten("V", net.avg_pool(net.embed("U", x), kernel=2))
    >>> tp.nngp(halves())(np.array([[[1.0], [3.0], [5.0], [5.0]]]))  # of the averages 2 and 5, (4 + 25)/2
    array([[14.5]])
    """
    window = _window("avg_pool", None, kernel, kernel if stride is None else stride, 1, padding)
    return mixed(net, "avg_pool(..)", x, window)


def global_pool(net: Builder, x: Vec | Datum) -> Any:
    """The average over all positions, a vector without positions.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def mean(net, x):
    ...     return net.readout("V", net.global_pool(net.embed("U", x)))
    >>> tp.nngp(mean())([[[1.0], [3.0]]]).item()
    4.0
    """
    return mixed(net, "global_pool(..)", x, Everywhere())


def mixed(net: Builder, call: str, x: Any, by: Map) -> Any:
    """A weighted sum over positions of vectors, or of an input."""
    if isinstance(x, Datum):
        if x.by is not None:
            raise ProgramError(f"{call} takes an input or vectors, got the patches {x}")
        return replace(x, mixes=(*x.mixes, Reading(by, axes_of_input(x))))
    if isinstance(x, Channels):
        return x.map(lambda part: mixed(net, call, part, by))
    program = net._trace.program
    return Vec(program, program.append(None, Mix(Reading(by, axes_of(net, x, call)), False, x.var)))


def _window(name: str, key: Any, kernel: Any, stride: Any, dilation: Any, padding: Any) -> Window:
    call = f"{name}(..)" if key is None else f"{name}({key!r}, ..)"
    if padding not in get_args(Padding):
        raise ProgramError(f"padding of {call} is 'same', 'valid' or 'circular', got {shortly(padding)}")
    kernel, stride, dilation = (
        extent(f"{what} of {call}", v) for what, v in (("kernel", kernel), ("stride", stride), ("dilation", dilation))
    )
    lengths = {len(v) for v in (kernel, stride, dilation) if isinstance(v, tuple)}
    if len(lengths) > 1:
        raise ProgramError(
            f"kernel, stride and dilation of {call} have {sorted(lengths)} axes: one number, or one each"
        )
    return Window(kernel, stride, dilation, padding)


def extent(what: str, value: Any, accepts: Callable[[int], bool] = lambda n: n >= 1,
           wanted: str = "a positive integer") -> Extent:  # fmt: skip
    """An integer for all axes, or a tuple with one for each.

    Raises:
        ProgramError: anything else.
    """
    parts = tuple(value) if isinstance(value, (tuple, list)) else (value,)
    known = [_integer(v) for v in parts]
    if not parts or not all(n is not None and accepts(n) for n in known):
        raise ProgramError(f"{what} must be {wanted}, or a tuple with one for each axis; got {shortly(value)}")
    return tuple(n for n in known if n is not None) if isinstance(value, (tuple, list)) else known[0]  # type: ignore[return-value]


def _integer(value: Any) -> int | None:
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        return None
    return int(value.__index__())
