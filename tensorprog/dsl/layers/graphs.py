"""Layers that read a matrix or weights that come with every input: the edges of a graph, a mask, one node."""

from __future__ import annotations

from typing import Any, get_args

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.layers.spatial import mixed
from tensorprog.dsl.program import Vec
from tensorprog.dsl.trace import Datum
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.maps import Given, Normalisation


def aggregate(net: Builder, x: Vec | Datum, A: Datum, normalise: Normalisation = "none", loops: float = 0) -> Any:
    """The sums y_i = Σ_p A_ip x_p over the neighbours of every node, with a matrix A that comes with every input.

    Args:
        x: vectors with positions, or an input that has them.
        A: ``x["A"]`` of an input that is a dictionary: (P, P) for P nodes, with weights of edges; dense or sparse.
        normalise: ``"mean"`` divides rows by their sums, ``"symmetric"`` is D^(−1/2) A D^(−1/2).
        loops: c for A + c I instead of A.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def neighbours(net, x):
    ...     return net.flatten("V", net.aggregate(net.embed("U", x["nodes"]), x["A"]))
    >>> path = np.array([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 1.0, 0.0]])
    >>> tp.nngp(neighbours())({"nodes": [np.ones((3, 1))], "A": [path]})  # (1² + 2² + 1²)/3
    array([[2.]])
    """
    if normalise not in get_args(Normalisation):
        raise ProgramError(f"normalise of aggregate(..) is 'none', 'mean' or 'symmetric', got {shortly(normalise)}")
    if isinstance(loops, bool) or not isinstance(loops, (int, float)):
        raise ProgramError(f"loops of aggregate(..) is the number c of A + c I, got {shortly(loops)}")
    name = _given(net, "aggregate(..)", A, "matrix")
    return mixed(net, "aggregate(..)", x, Given(name, normalise, float(loops)))


def weighted_pool(net: Builder, x: Vec | Datum, a: Datum, normalise: Normalisation = "none") -> Any:
    """The sum Σ_p a_p x_p with weights a that come with every input: of a mask, or of the one node that is asked for.

    >>> import numpy as np, tensorprog as tp
    >>> @tp.network
    ... def at_node(net, x):
    ...     return net.readout("V", net.weighted_pool(net.embed("U", x["nodes"]), x["a"]))
    >>> tp.nngp(at_node())({"nodes": [[[1.0], [3.0]]], "a": [[0.0, 1.0]]})
    array([[9.]])
    """
    if normalise not in ("none", "mean"):
        raise ProgramError(f"normalise of weighted_pool(..) is 'none' or 'mean', got {shortly(normalise)}")
    return mixed(
        net, "weighted_pool(..)", x, Given(_given(net, "weighted_pool(..)", a, "weights"), normalise, pooled=True)
    )


def _given(net: Builder, call: str, A: Any, use: str) -> str:
    if not isinstance(A, Datum) or A.part is None:
        raise ProgramError(
            f"{call} reads {use} that come with every input: x['A'] of inputs {{'A': .., ..}}, got {shortly(A)}"
        )
    net._trace.parts.note(A.part, use)
    return A.part
