"""Outputs: sums over the coordinates of a vector, by a trained vector or by the constant 1."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import sympy as sp

from tensorprog.dsl.builder import Builder, name_of, std_of
from tensorprog.dsl.concatenated import Channels
from tensorprog.dsl.decimals import exact
from tensorprog.dsl.layers.linear import embed
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import Datum, NeedsAxes, Output, Readout
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Everywhere, Reading
from tensorprog.ir.instructions import InitVector
from tensorprog.types import Key, Number


def readout(net: Builder, key: Key, x: Vec | Channels | Datum, std: Number = 1, bias: Number = 0,
            initial: Number | None = None) -> Output:  # fmt: skip
    """The output std · v·x/√n, v ~ N(0, 1), plus ``bias`` · c with a trained scalar c ~ N(0, 1).

    With ``initial=0``, v starts at 0.  Of a batch (``net.batch_norm``) every member has its output, by one v.  Of an
    input ξ it is std · v·ξ/√d: a linear model, or a skip from the input to the output; its parameter is an embedding,
    whose coordinates are averaged.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def linear(net, x):
    ...     return net.readout("V", x, std=2, bias=1)
    >>> tp.ntk(linear())([[1.0, 3.0]])  # 4 (1 + 9)/2 + 1
    array([[21.]])
    """
    if isinstance(x, Datum):
        return _of_input(net, key, x, std, bias, initial)
    if isinstance(x, Channels):
        return x.read(key, std_of(key, std), lambda own, part, scale: readout(net, own, part, scale, bias, initial))
    check_vector(key, x)
    axes = net._trace.program.axes(x.var)
    if axes is not None and axes not in net._trace.batched:
        raise ProgramError(
            f"the readout {shortly(key)} takes one vector, and {x} has one at every position: "
            f"net.global_pool({x}) averages "
            f"them, net.flatten({shortly(key)}, {x}) reads each with weights of its own"
        )
    return _read(net, key, x, std, bias, initial, None)


def flatten(net: Builder, key: Key, x: Vec | Channels, std: Number = 1, bias: Number = 0,
            initial: Number | None = None) -> Output:  # fmt: skip
    """The output std · Σ_p v_p·x_p/√(nP) with a vector v_p of its own for each of the P positions; see ``readout``."""
    if isinstance(x, Channels):
        return x.read(key, std_of(key, std), lambda own, part, scale: flatten(net, own, part, scale, bias, initial))
    check_vector(key, x)
    axes = net._trace.program.axes(x.var)
    if axes is None:
        words = f"flatten({key!r}, {x}) takes vectors with positions, and {x} has none: use net.readout"
        raise NeedsAxes(words, net._trace.parts_behind(x.var))
    return _read(net, key, x, std, bias, initial, Reading(Everywhere(), axes))


def _read(net: Builder, key: Key, x: Vec, std: Number, bias: Number, initial: Number | None,
          by: Reading | None) -> Output:  # fmt: skip
    t, std, bias = net._trace, std_of(key, std), exact(bias, f"bias of {shortly(key)}")
    name = net._declare(key, "readout", std, initial, None if by is None else by.map)
    p = t.parameters[name]
    if p.var is None:
        t.parameters[name] = replace(p, var=t.program.vector(name, 1 if p.start is None else 0).var)
    biases = ((f"{name}.bias", bias),) if bias != 0 else ()
    t.bias_stds |= dict(biases)
    return Output((Readout(name, t.program.named(name), x.var, std, by=by),), biases)


def _of_input(net: Builder, key: Key, x: Datum, std: Number, bias: Number, initial: Number | None) -> Output:
    """std · v·ξ/√d as the average over the coordinates of an embedding, which has the same law at every width."""
    name, found = name_of(key), embed(net, key, x, std, initial)
    if net._trace.program.axes(found.var) is not None:
        raise ProgramError(
            f"the readout {shortly(key)} takes one vector, and {x} has one at every position: "
            f"net.at({x}, 0) is one of them, "
            f"net.global_pool({x}) their mean"
        )
    bias = exact(bias, f"bias of {shortly(key)}")
    biases = ((f"{name}.bias", bias),) if bias != 0 else ()
    net._trace.bias_stds |= dict(biases)
    (r,) = average(net, found).readouts
    return Output((replace(r, of_input=True),), biases)


def average(net: Builder, x: Vec, scale: Number = 1) -> Output:
    """The output scale · Σ_α x_α/√n, i.e. √n times the mean coordinate: a readout by the constant vector 1.

    No random readout vector stands between output and body, so gradient independence fails.
    """
    check_vector("average", x)
    t = net._trace
    if "ones" not in t.program:
        t.program.append("ones", InitVector(sp.S.One, ()))
    return Output((Readout("ones", t.program.named("ones"), x.var, exact(scale, "scale"), trained=False),))


def check_vector(key: Any, x: Any) -> None:
    """Refuse what is no vector of the network."""
    if not isinstance(x, Vec):
        raise ProgramError(
            f"the readout {shortly(key)} takes a vector of the network, got {type(x).__name__} {shortly(x)}"
        )
