"""Attention: sums over positions whose weights are made of scores between positions."""

from __future__ import annotations

from typing import Literal

import sympy as sp

from tensorprog.dsl.builder import Builder, index_of, part_of
from tensorprog.dsl.layers.linear import dense
from tensorprog.dsl.layers.spatial import axes_of
from tensorprog.dsl.nonlinearities import exp
from tensorprog.dsl.program import Scal, Vec, exact, moment
from tensorprog.errors import ProgramError
from tensorprog.given import flag
from tensorprog.ir.axes import Pairs
from tensorprog.ir.instructions import Mask, Outer, RowSum, Weigh
from tensorprog.types import Key, Number


def scores(net: Builder, x: Vec, y: Vec) -> Scal:
    """s[p,q] = (1/n) Σ_α x_α[p] y_α[q] between all positions of an input."""
    return _scores(net, x, y, net._called("s", net._again("scores")))


def _scores(net: Builder, x: Vec, y: Vec, name: str) -> Scal:
    axes_of(net, x, "scores(..)")
    axes_of(net, y, "scores(..)")
    return Scal(net._trace.program, net._trace.program.append(name, Outer(x.var, y.var)))


def softmax(net: Builder, s: Scal, causal: bool = False) -> Scal:
    """exp s[p,q] / Σ_q exp s[p,q], over the positions q, or those not after p if ``causal``."""
    return _normalised(net, exp(_between_positions(net, s, "softmax")), causal, net._called("a", net._again("weights")))


def normalised(net: Builder, s: Scal, causal: bool = False) -> Scal:
    """s[p,q] / Σ_q s[p,q], over the positions q, or those not after p if ``causal``: weights of linear attention."""
    return _normalised(net, _between_positions(net, s, "normalised"), causal, net._called("a", net._again("weights")))


def _between_positions(net: Builder, s: Scal, call: str) -> Scal:
    if not isinstance(s, Scal) or not isinstance(net._trace.program.axes(s.var), Pairs):
        raise ProgramError(f"{call}({s}) takes scores between positions, as net.scores(..) makes them")
    return s


def _normalised(net: Builder, weights: Scal, causal: bool, name: str) -> Scal:
    program = net._trace.program
    if flag(causal, "causal"):
        axes = program.axes(weights.var)
        weights = weights * Scal(program, program.append(None, Mask(axes), "mask"))
    total = Scal(program, program.append(None, RowSum(weights.var), "sum"))
    return moment(lambda w, z: w / z, params=[weights, total], name=name)


def weighted(net: Builder, a: Scal, x: Vec) -> Vec:
    """y[p] = Σ_q a[p,q] x[q]."""
    return _weighted(net, a, x, None)


def _weighted(net: Builder, a: Scal, x: Vec, name: str | None) -> Vec:
    return Vec(net._trace.program, net._trace.program.append(name, Weigh(a.var, False, x.var)))


def attention(net: Builder, key: Key, x: Vec, heads: int = 1, scale: Literal["1/n"] = "1/n", tied: bool = False,
              causal: bool = False, std: Number = 1, std_q: Number = 1, std_v: Number = 1) -> Vec:  # fmt: skip
    """Attention: std/√H Σ_h O_h y_h with y_h[p] = Σ_q softmax_q(s_h[p,q]) V_h x[q], s_h[p,q] = ⟨Q_h x[p], K_h x[q]⟩/n.

    In the limit s is std_q² E x[p] x[q] where K = Q, and 0, so that all positions weigh the same, where they are
    independent.

    Args:
        key: the names of the weights: key + "q", "k", "v", "o", and the number of the head: ("Aq", 3, 1) of ("A", 3).
        x: vectors with positions.
        heads: how many.
        scale: of the scores; those divided by √n are random in the limit and are not derived.
        tied: whether K = Q.
        causal: whether position p reads those up to p only, in the order of positions.
        std, std_q, std_v: scales of O, of Q and K, and of V.
    """
    if scale != "1/n":
        raise ProgramError(
            f"scale={scale!r}: scores divided by n are derived, scale='1/n'; others are random in the limit"
        )
    if not isinstance(heads, int) or heads < 1:
        raise ProgramError(f"heads must be a positive integer, got {heads!r}")
    total = None
    for h in range(1, heads + 1):
        at = (*index_of(key), h) if heads > 1 else index_of(key)
        q = dense(net, part_of(key, "q", h), x, std_q)
        k = q if tied else dense(net, part_of(key, "k", h), x, std_q)
        s = _scores(net, q, k, net._called("s", *at))
        a = _normalised(net, exp(s), causal, net._called("a", *at))
        y = _weighted(net, a, dense(net, part_of(key, "v", h), x, std_v), net._called("y", *at))
        out = dense(net, part_of(key, "o", h), y, exact(std, "std") / sp.sqrt(heads))
        total = out if total is None else total + out
    assert total is not None
    return total
