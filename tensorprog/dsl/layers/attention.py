"""Attention: sums over positions whose weights are made of scores between positions."""

from __future__ import annotations

import functools
import operator
from typing import Any, Literal

import sympy as sp

from tensorprog.dsl.builder import Builder, index_of, part_of
from tensorprog.dsl.layers.linear import dense
from tensorprog.dsl.layers.spatial import axes_of
from tensorprog.dsl.program import Scal, Vec, exact, moment
from tensorprog.errors import ProgramError, shortly
from tensorprog.given import flag
from tensorprog.ir.axes import Pairs
from tensorprog.ir.instructions import Copied, Gathered, Mask, Outer, RowSum, Score, Softmax, Weigh
from tensorprog.ir.random_scores import drawn_from
from tensorprog.types import Key, Number

Scale = Literal["1/n", "1/sqrt(n)"]
SCALES = ("1/n", "1/sqrt(n)")
INFINITE = "infinite"


def scores(net: Builder, x: Vec, y: Vec, scale: Scale = "1/n") -> Scal:
    """s[p,q] = (1/n) Σ_α x_α[p] y_α[q] between all positions of an input, or with 1/√n.

    With 1/√n they stay random in the limit: Gaussian, with Cov(s[p,q], s'[r,t]) = E x[p] x'[r] · E y[q] y'[t], where x
    is a product with a matrix that nothing else reads.
    """
    return _scores(net, x, y, scale, net._called("s", net._again("scores")))


def _scores(net: Builder, x: Vec, y: Vec, scale: Scale, name: str) -> Scal:
    axes_of(net, x, "scores(..)")
    axes_of(net, y, "scores(..)")
    made = Score(x.var, y.var) if _is_root(scale) else Outer(x.var, y.var)
    return Scal(net._trace.program, net._trace.program.append(name, made))


def _is_root(scale: Any) -> bool:
    if scale not in SCALES:
        raise ProgramError(f"the scale of scores is {shortly(SCALES[0])} or {shortly(SCALES[1])}, got {shortly(scale)}")
    return bool(scale == SCALES[1])


def softmax(net: Builder, s: Scal, causal: bool = False) -> Scal:
    """exp s[p,q] / Σ_q exp s[p,q], over the positions q, or those not after p if ``causal``."""
    return _softmax(net, _between_positions(net, s, "softmax"), causal, net._called("a", net._again("weights")))


def _softmax(net: Builder, s: Scal, causal: bool, name: str) -> Scal:
    program = net._trace.program
    if drawn_from(program, s.var):
        return Scal(program, program.append(name, Softmax(s.var, flag(causal, "causal"))))
    _, index = net._trace.called[name]
    return _normalised(net, moment(sp.exp, params=[s], name=net._called("e", *index)), causal, name)


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


def attention(net: Builder, key: Key, x: Vec, heads: int | Literal["infinite"] = 1, scale: Scale = "1/n",
              tied: bool = False, causal: bool = False, std: Number = 1, std_q: Number = 1,
              std_v: Number = 1) -> Vec:  # fmt: skip
    """Attention: std/√H Σ_h O_h y_h with y_h[p] = Σ_q softmax_q(s_h[p,q]) V_h x[q], s_h[p,q] = ⟨Q_h x[p], K_h x[q]⟩/n.

    In the limit s is std_q² E x[p] x[q] where K = Q, and 0, so that all positions weigh the same, where they are
    independent.  Divided by √n instead, s stays random: a Gaussian of variance std_q⁴ E x[p]² E x[q]².

    Args:
        key: the names of the weights: key + "q", "k", "v", "o", and the number of the head: ("Aq", 3, 1) of ("A", 3).
        x: vectors with positions.
        heads: how many; ``"infinite"`` for the limit of many heads, whose output is Gaussian.  With finitely many heads
            and scores over √n it is a mixture of Gaussians.
        scale: of the scores, ``"1/n"`` or ``"1/sqrt(n)"``.
        tied: whether K = Q.
        causal: whether position p reads those up to p only, in the order of positions.
        std, std_q, std_v: scales of O, of Q and K, and of V.

    Raises:
        ProgramError: a number of heads or a scale that there is not; K = Q with scores over √n, which diverge.

    Reference:
        Hron et al. 2020, "Infinite attention", for 1/√n and infinitely many heads.
    """
    if _is_root(scale) and tied:
        raise ProgramError(
            "tied=True has no limit with scale='1/sqrt(n)': ⟨Q x, Q x⟩/√n grows like √n; use scale='1/n'"
        )
    program = net._trace.program
    if isinstance(heads, str) and heads == INFINITE:
        inside, at = Vec(program, program.append(None, Copied(x.var))), index_of(key)
        out = _head(net, key, 1, at, inside, scale, tied, causal, exact(std, "std"), std_q, std_v)
        return Vec(program, program.append(None, Gathered(out.var)))
    if not isinstance(heads, int) or heads < 1:
        raise ProgramError(f"heads must be a positive integer or {shortly(INFINITE)}, got {shortly(heads)}")
    scaled = exact(std, "std") / sp.sqrt(heads)
    outs = []
    for h in range(1, heads + 1):
        at = (*index_of(key), h) if heads > 1 else index_of(key)
        outs.append(_head(net, key, h, at, x, scale, tied, causal, scaled, std_q, std_v))
    return functools.reduce(operator.add, outs)


def _head(net: Builder, key: Key, h: int, at: tuple[int, ...], x: Vec, scale: Scale, tied: bool, causal: bool,
          std: sp.Expr, std_q: Number, std_v: Number) -> Vec:  # fmt: skip
    """O_h y_h."""
    q = dense(net, part_of(key, "q", h), x, std_q)
    k = q if tied else dense(net, part_of(key, "k", h), x, std_q)
    s = _scores(net, q, k, scale, net._called("s", *at))
    a = _softmax(net, s, causal, net._called("a", *at))
    y = _weighted(net, a, dense(net, part_of(key, "v", h), x, std_v), net._called("y", *at))
    return dense(net, part_of(key, "o", h), y, std)
