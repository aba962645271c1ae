"""Vectors that no input enters: biases that train, states that do not."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from tensorprog.dsl.builder import Builder, name_of, std_of
from tensorprog.dsl.laws import WeightLaw, law_of
from tensorprog.dsl.layers.spatial import axes_of
from tensorprog.dsl.parameters import start_of
from tensorprog.dsl.program import Vec, exact, nonlin
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import TOTAL, Reading
from tensorprog.ir.instructions import Entries, InitVector, Kept, Place, Var
from tensorprog.types import Key, Number


def bias(net: Builder, key: Key, std: Number = 1, initial: Number | None = None, *,
         like: Vec | None = None, law: WeightLaw | str | None = None) -> Vec | sp.Expr:  # fmt: skip
    """The bias vector std · b, b ~ N(0, 1), or a number ``initial`` in all coordinates at first, plus std · b.

    It is the number 0, or ``initial``, when std is 0.  One vector b is added at all positions; with ``like=h`` it is
    std · b_p with a vector of its own for each position p of h.  With ``law`` the entries of b have another law of
    mean 0 and variance 1, as for ``embed``.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def offsets(net, x, *, own=True):
    ...     h = net.embed("U", x)
    ...     return net.readout("V", net.global_pool(h + net.bias("b", like=h if own else None)))
    >>> X = [[[0.0], [0.0]]]  # two positions: the mean of two vectors, or of one
    >>> tp.nngp(offsets())(X).item(), tp.nngp(offsets(own=False))(X).item()
    (0.5, 1.0)
    """
    t, std = net._trace, std_of(key, std)
    if std == 0:
        return start_of(key, "bias", initial) or sp.S.Zero
    axes = None if like is None else axes_of(net, like, f"bias({key!r}, like=..)")
    own = law_of(key, law)
    if own is not None and (t.placed or initial is not None):
        words = "for vectors and sequences, not for inputs with positions" if t.placed else "that of a random start"
        raise ProgramError(f"law={shortly(own.name)} of {shortly(key)}: the law of a bias is {words}")
    name = net._declare(key, "bias", std, initial, None if axes is None else TOTAL, own)
    if axes is not None and t.parameters[name].start:
        raise ProgramError(f"initial of {shortly(key)} must be None or 0 for a bias at positions; add the number to it")
    p = t.parameters[name]
    if p.var is None:
        if own is None:
            var = t.program.vector(name, p.variance, p.start or 0).var
        else:
            var = Var(name, "vector")
            t.program.append(name, InitVector(sp.S.Zero, ((var, std**2),), law=Entries(name, own, std, None)))
        t.parameters[name] = replace(p, var=var)
    var = t.program.named(name)
    return Vec(t.program, var if axes is None else t.program.append(None, Place(Reading(TOTAL, axes), True, var)))


def state(net: Builder, key: Key, std: Number = 1) -> Vec:
    """An untrained initial vector with rows N(0, std²): its own copy for each input.

    One that all inputs share is a bias left out of ``trainable``.

    Raises:
        ProgramError: inputs have positions, where limits do not tell an input with itself from two inputs.
    """
    t, name, var = net._trace, name_of(key), Var(f"{name_of(key)}({net._label})", "vector")
    if t.placed:
        raise ProgramError(
            f"state({shortly(key)}) is derived for vectors and sequences, and inputs have positions "
            "here; for one vector that "
            "all inputs share use net.bias and leave it out of trainable"
        )
    t.program.append(var.name, InitVector(sp.S.Zero, ((var, std_of(key, std) ** 2),)))
    t.states[var] = name
    return Vec(t.program, var)


def dropout(net: Builder, h: Vec, rate: Number) -> Vec:
    """Every coordinate of h times 1/(1 − rate), or with probability ``rate`` times 0 (Srivastava et al. 2014).

    Each input and each layer have one mask, the same in all steps of training.  In the limit E x x' of two inputs is
    that without dropout; of an input with itself it is multiplied by 1/(1 − rate).

    >>> import tensorprog as tp
    >>> @tp.network
    ... def dropped(net, x, *, rate=0.2):
    ...     return net.readout("V", net.dropout(net.embed("U", x), rate))
    >>> tp.nngp(dropped())([[1.0, 0.0], [1.0, 1.0]])
    array([[0.625, 0.5  ],
           [0.5  , 1.25 ]])
    """
    if not isinstance(h, Vec):
        raise ProgramError(f"dropout(..) takes a vector of the network, got {type(h).__name__} {shortly(h)}")
    rate = exact(rate, "rate of dropout")
    if not rate.free_symbols and not 0 <= rate < 1:
        raise ProgramError(f"rate of dropout is {rate}; it must be at least 0 and less than 1")
    program = net._trace.program
    if net._trace.placed:
        raise ProgramError("dropout(..) takes vectors without positions: masks of positions are not derived")
    if rate == 0:
        return h
    known = [v for v in net._trace.states if v.name.startswith("dropout") and v.name.endswith(f"({net._label})")]
    mask = state(net, ("dropout", len(known) + 1))
    return nonlin(lambda a, m: a * m, h, Vec(program, program.append(None, Kept(mask.var, rate))))
