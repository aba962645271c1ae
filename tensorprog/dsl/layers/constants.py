"""Vectors that no input enters: biases that train, states that do not."""

from __future__ import annotations

from dataclasses import replace

import sympy as sp

from tensorprog.dsl.builder import Builder, name_of, std_of
from tensorprog.dsl.parameters import start_of
from tensorprog.dsl.program import Vec
from tensorprog.types import Key, Number


def bias(net: Builder, key: Key, std: Number = 1, initial: Number | None = None) -> Vec | sp.Expr:
    """The bias vector std · b, b ~ N(0, 1), or a number ``initial`` in all coordinates at first, plus std · b.

    It is the number 0, or ``initial``, when std is 0.
    """
    t, std = net._trace, std_of(key, std)
    if std == 0:
        return start_of(key, "bias", initial) or sp.S.Zero
    name = net._declare(key, "bias", std, initial)
    p = t.parameters[name]
    if p.var is None:
        vector = t.program.vector(name, p.variance, p.start or 0)
        t.parameters[name] = replace(p, var=vector.var)
    return Vec(t.program, t.program.named(name))


def state(net: Builder, key: Key, std: Number = 1) -> Vec:
    """An untrained initial vector with rows N(0, std²): its own copy for each input.

    One that all inputs share is a bias left out of ``trainable``.
    """
    t, name = net._trace, name_of(key)
    vec = t.program.vector(f"{name}({net._label})", std_of(key, std) ** 2)
    t.states[vec.var] = name
    return vec
