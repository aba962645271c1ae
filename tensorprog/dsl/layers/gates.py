"""Layers whose output is multiplied by a gate."""

from __future__ import annotations

from typing import Any

from tensorprog.dsl.builder import Builder, part_of
from tensorprog.dsl.layers.constants import bias as bias_of
from tensorprog.dsl.layers.linear import dense, embed
from tensorprog.dsl.layers.spatial import mixed
from tensorprog.dsl.nonlinearities import relu, sigmoid
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import Datum
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Everywhere
from tensorprog.types import Key, Number


def glu(net: Builder, key: Key, x: Datum | Vec, phi: Any = sigmoid, std: Number = 1, std_g: Number | None = None,
        bias: Number = 0) -> Vec:  # fmt: skip
    """The gated linear unit φ(G x + b_g) ⊙ (H x + b_v) (Dauphin et al. 2017); SwiGLU with φ = ``tp.silu``.

    Args:
        key: of the weights "Wg", "Wv", "bWg" and "bWv" of "W".
        x: a vector, or an input, which is embedded.
        phi: φ of the gate.
        std, std_g: scales of H and of G; one for both where ``std_g`` is None.
        bias: scale of the biases; 0 for none.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def gated(net, x):
    ...     return net.readout("V", net.glu("W", x, tp.relu))
    >>> tp.nngp(gated())([[2.0]])  # E relu(u)² E v²
    array([[8.]])
    """
    if not callable(phi):
        raise ProgramError(f"phi of glu is a function such as tp.silu, got {shortly(phi)}")
    layer: Any = embed if isinstance(x, Datum) else dense
    sides = []
    for part, scale in (("g", std if std_g is None else std_g), ("v", std)):
        stem, *index = part_of(key, part)
        sides.append(layer(net, (stem, *index), x, scale) + bias_of(net, (f"b{stem}", *index), bias))
    return phi(sides[0]) * sides[1]  # type: ignore[no-any-return]


def squeeze_excite(net: Builder, key: Key, x: Vec, phi: Any = relu, std: Number = 1) -> Vec:
    """x ⊙ σ(E φ(S x̄)) at every position, with x̄ the average of x over positions (Hu et al. 2018).

    Args:
        key: of the weights "Ss" and "Se" of "S".
        x: vectors with positions.
        phi: φ between the two.
        std: scale of both.
    """
    if not callable(phi):
        raise ProgramError(f"phi of squeeze_excite is a function such as tp.relu, got {shortly(phi)}")
    squeezed = dense(net, part_of(key, "s"), mixed(net, "squeeze_excite(..)", x, Everywhere()), std)
    return x * sigmoid(dense(net, part_of(key, "e"), phi(squeezed), std))
