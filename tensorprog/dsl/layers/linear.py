"""Products with a weight: of an input, as a matrix, of a vector."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Literal

import sympy as sp

from tensorprog.dsl.builder import Builder, name_of, std_of
from tensorprog.dsl.concatenated import Channels
from tensorprog.dsl.laws import WeightLaw, law_of
from tensorprog.dsl.parts import Named
from tensorprog.dsl.program import Mat, Vec
from tensorprog.dsl.trace import Datum
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Map
from tensorprog.ir.instructions import Covariances, Entries, InitVector, Mix, Var
from tensorprog.types import Key, Number


def embed(net: Builder, key: Key, x: Datum, std: Number = 1, initial: Number | None = None,
          law: WeightLaw | str | None = None) -> Vec:  # fmt: skip
    """The input layer U ξ = std · u ξ/√d, u ~ N(0, 1) of shape n×d; u starts at 0 with ``initial=0``.

    Of an input with positions, the vector at every position is embedded; see ``conv`` for patches.  With ``law`` the
    entries of u have another law of mean 0 and variance 1: ``"uniform"``, ``"rademacher"`` or ``tp.law(..)``.  U ξ is
    then not Gaussian, at infinite width neither, since d is finite; layers above are.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def uniform(net, x):  # entries between -1 and 1
    ...     h = net.embed("U", x, std=3**-0.5, law="uniform") + net.bias("b", std=3**-0.5, law="uniform")
    ...     return net.readout("V", tp.tanh(h))
    >>> tp.nngp(uniform())([[1.0], [3.0]]).round(5)
    array([[0.3375 , 0.39919],
           [0.39919, 0.66964]])
    """
    if not isinstance(x, Datum):
        if isinstance(x, Named):
            raise ProgramError(f"embed({shortly(key)}, ..) takes one of the arrays of {x}: {x}['u'] for that named u")
        if isinstance(x, tuple):
            raise ProgramError(f"embed({shortly(key)}, ..) takes one vector of the sequence: write `for x_t in x`")
        raise ProgramError(f"embed({shortly(key)}, ..) takes an input vector, got {type(x).__name__} {shortly(x)}")
    t, std, mixes, x = net._trace, std_of(key, std), x.mixes, replace(x, mixes=())
    own = law_of(key, law)
    if own is not None and (t.placed or initial is not None):
        words = "for vectors and sequences, not for inputs with positions" if t.placed else "that of a random start"
        raise ProgramError(f"law={shortly(own.name)} of {shortly(key)}: the law of an embedding is {words}")
    name = net._declare(key, "embedding", std, initial, None if x.by is None else x.by.map, own)
    if x.part is not None:
        t.parts.note_embedded(name, x.part)
    var = Var(f"{name}({x})", "vector")
    if t.embeddings.get(var) != (name, x):
        partners = (
            [] if t.parameters[name].variance == 0 else [*(v for v, (n, _) in t.embeddings.items() if n == name), var]
        )
        axes = x.axes if x.by is None else x.by.result(False)
        source = x.label if t.placed and axes is None else None
        cov = Covariances(partners, partial(t.covariance, var))
        entries = None if own is None or std == 0 else Entries(name, own, std, t.vector(x))
        t.program.append(var.name, InitVector(sp.S.Zero, cov, axes, source, entries))
        t.embeddings[var] = (name, x)
    for reading in mixes:
        var = t.program.append(None, Mix(reading, False, var))
    return Vec(t.program, var)


def weight(net: Builder, key: Key, std: Number = 1, initial: Number | Literal["identity"] | None = None) -> Mat:
    """The matrix W = W_0 + std · w/√n of shape n×n; use ``W @ h`` and ``W.T @ h``.

    Args:
        key: its name.
        std: the scale of w.
        initial: None for W_0 = 0 and w ~ N(0, 1) at first; 0 or ``"identity"`` for W_0 = 0 or I and w = 0 at
            first.  w is what trains, and what decays under weight decay.
    """
    return matrix_of(net, key, std, initial)


def matrix_of(net: Builder, key: Key, std: Number, initial: Any, by: Map | None = None) -> Mat:
    """The same, with one matrix for every offset of a map."""
    t, std = net._trace, std_of(key, std)
    name = net._declare(key, "matrix", std, initial, by)
    p = t.parameters[name]
    if p.var is None:
        p = t.parameters[name] = replace(p, var=t.program.matrix(name, p.variance).var)
    return Mat(t.program, t.program.named(name), identity=p.start or 0)


def dense(net: Builder, key: Key, h: Vec | Channels, std: Number = 1,
          initial: Number | Literal["identity"] | None = None) -> Vec:  # fmt: skip
    """The hidden layer W h; see ``weight``.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def residual_branch_at_zero(net, x):
    ...     h = net.embed("U", x)
    ...     return net.readout("V", h + net.dense("W", tp.relu(h), initial=0))
    >>> tp.nngp(residual_branch_at_zero())([[1.0]]), tp.ntk(residual_branch_at_zero())([[1.0]])
    (array([[1.]]), array([[2.5]]))
    """
    if isinstance(h, Channels):
        return h.read(key, std_of(key, std), lambda own, part, scale: dense(net, own, part, scale, initial))
    matrix = weight(net, key, std, initial)
    stem, program = f"{matrix}({net._label})", net._trace.program
    return matrix.apply(h, program.fresh(f"{stem}_") if stem in program else stem)


def low_rank(net: Builder, key: Key, x: Vec, rank: float = 1, std: Number = 1, initial: Number | None = None) -> Vec:
    """B A x with A of shape k×n, entries N(0, 1/n), and B of shape n×k, entries N(0, std²/k), of rank k = rank · n.

    In the limit A x is Gaussian with the second moments of x, and B A x with those of x times std², whatever the share
    is.  Adapters are those with ``initial=0``, at which B starts and trains: W x + B A x is W x at first, and
    ``trainable=[key]`` is the kernel of training A and B alone.

    Args:
        key: "L" names the parameters "L.A" and "L.B", and both together.
        x: a vector.
        rank: k/n, the share of the width, above 0 and at most 1; networks of finite width are run with k = n alone.
        std, initial: of B, as for ``dense``.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def adapted(net, x):
    ...     h = tp.relu(net.embed("U", x))
    ...     return net.readout("V", net.dense("W", h) + net.low_rank("L", h, rank=0.1, std=2, initial=0))
    >>> tp.ntk(adapted(), trainable=["L"])([[1.0]]), tp.nngp(adapted())([[1.0]])
    (array([[2.]]), array([[0.5]]))
    """
    number = isinstance(rank, (int, float)) and not isinstance(rank, bool)
    if not number or not 0 < rank <= 1:
        raise ProgramError(
            f"rank of low_rank({shortly(key)}, ..) is a share of the width, above 0 and at most 1, "
            f"got {shortly(rank)}: a rank that "
            "stays finite leaves B A random at infinite width, whose kernel is a mixture and is not derived"
        )
    name_of(key)
    head, rest = (key[0], key[1:]) if isinstance(key, tuple) else (key, ())
    a, b = (f"{head}.A", *rest), (f"{head}.B", *rest)
    if rank < 1:
        net._trace.narrow[name_of(b)] = rank
    return dense(net, b, dense(net, a, x), std, initial)
