"""Concatenation of channels."""

from __future__ import annotations

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.concatenated import Channels
from tensorprog.dsl.program import Vec
from tensorprog.errors import ProgramError, shortly


def concat(net: Builder, *parts: Vec | Channels) -> Channels:
    """Vectors side by side: k of them, of n coordinates each, are read as one of k n.

    A layer of all has W [x¹, .., x^k] = std/√k Σ W^i x^i, so that E h h' = std² times the mean of the E x^i x^i'.
    Functions of tp and poolings act on each.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def two(net, x):
    ...     h = net.embed("U", x)
    ...     return net.readout("V", net.concat(h, 3 * h))
    >>> tp.nngp(two())([[1.0]])  # (1 + 9)/2
    array([[5.]])
    """
    for x in parts:
        if not isinstance(x, (Vec, Channels)):
            raise ProgramError(f"concat(..) takes vectors of the network, got {type(x).__name__} {shortly(x)}")
    found = tuple(v for x in parts for v in (x.parts if isinstance(x, Channels) else (x,)))
    if len(found) < 2:
        raise ProgramError(f"concat(..) takes two vectors or more, got {len(found)}")
    if len({net._trace.program.axes(v.var) for v in found}) > 1:
        raise ProgramError(f"concat(..) takes vectors over the same positions; those of {Channels(found)} differ")
    return Channels(found)
