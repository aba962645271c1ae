"""Layers that normalise: a vector by its own moments, at every position where it has some; a batch by its members."""

from __future__ import annotations

import sympy as sp

from tensorprog.dsl.builder import Builder
from tensorprog.dsl.layers.member_outputs import axes_of_members
from tensorprog.dsl.layers.spatial import global_pool
from tensorprog.dsl.program import Vec, exact, moment, nonlin
from tensorprog.errors import ProgramError, shortly
from tensorprog.types import Number


def layer_norm(net: Builder, h: Vec, eps: Number = 0) -> Vec:
    """(h − m)/√(v + eps) with the mean m and the variance v of the coordinates of h (Ba et al. 2016), without weights.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def normed(net, x):
    ...     return net.readout("V", tp.relu(net.layer_norm(net.embed("U", x))))
    >>> tp.nngp(normed())([[3.0, 4.0], [0.3, 0.4]]).round(12)
    array([[0.5, 0.5],
           [0.5, 0.5]])
    """
    eps = _size(h, eps, "layer_norm")
    k = net._again("norm")
    m = moment(lambda a: a, h, name=net._called("μ", k))
    v = moment(lambda a, s: (a - s) ** 2, h, params=[m], name=net._called("v", k))
    return nonlin(lambda a, s, t: (a - s) / sp.sqrt(t + eps), h, params=[m, v], name=net._called("LN", k))


def rms_norm(net: Builder, h: Vec, eps: Number = 0) -> Vec:
    """h/√(q + eps) with the mean square q of the coordinates of h (Zhang and Sennrich 2019), without weights."""
    eps = _size(h, eps, "rms_norm")
    k = net._again("norm")
    q = moment(lambda a: a**2, h, name=net._called("q", k))
    return nonlin(lambda a, t: a / sp.sqrt(t + eps), h, params=[q], name=net._called("RMS", k))


def batch_norm(net: Builder, h: Vec, eps: Number = 0) -> Vec:
    """(h[i] − m)/√(v + eps) with the mean m and the variance v over the members i of a batch (Ioffe and Szegedy 2015).

    An input is then a batch of vectors, (B, d), and ``net.readout`` gives one output for every member.  There are no
    affine weights: their scale and shift at first are the ``std`` and the bias of the next layer.  In every coordinate

        y = √B u/√(‖u‖² + B eps),   u = P h,   P = I − 11ᵀ/B.

    Args:
        h: vectors with one for each member.
        eps: added to the variance.

    >>> import tensorprog as tp
    >>> @tp.network
    ... def normed(net, x):
    ...     return net.readout("V", net.batch_norm(net.embed("U", x)))
    >>> tp.nngp(normed())([[[3.0, 4.0], [0.3, 0.4]]]).round(12)  # of two members one is 1, the other -1
    array([[[[ 1., -1.],
             [-1.,  1.]]]])
    """
    eps = _size(h, eps, "batch_norm")
    net._trace.batched.add(axes_of_members(net, h))
    u = h - global_pool(net, h)
    return nonlin(lambda a, v: a / sp.sqrt(v + eps), u, global_pool(net, u**2))


def _size(h: Vec, eps: Number, call: str) -> sp.Expr:
    if not isinstance(h, Vec):
        raise ProgramError(f"{call}(..) takes a vector of the network, got {type(h).__name__} {shortly(h)}")
    eps = exact(eps, f"eps of {call}")
    if eps.is_negative:
        raise ProgramError(f"eps of {call} is {eps}; it must not be negative")
    return eps
