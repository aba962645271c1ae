"""E Σ a[p,q] a'[r,t] C[q,t] over random scores where every position attends to one or two.

Of two scores a softmax knows the difference u: a[p,:] = b + tanh(u/2)/2 · e with b = (1,1)/2, e = (1,−1), and its
gradient is σ'(u) e (e·da), σ' = (1 − tanh²(u/2))/4.  So two expectations of two Gaussian variables are all it takes.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.errors import NoRuleError
from tensorprog.expectations.atoms import variables
from tensorprog.expectations.law import Value
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Tanh
from tensorprog.ir.axes import Sizes
from tensorprog.limit.mixing import spread
from tensorprog.limit.positions import Contracted

Array = Any
FEW = 2  # positions that one attends to, up to which averages are exact
U, V = variables(2)
WEIGHTS = Tanh(U / 2) * Tanh(V / 2) / 4
SLOPES = sp.expand((1 - Tanh(U / 2) ** 2) * (1 - Tanh(V / 2) ** 2) / 16)


def few(g: Contracted, sizes: tuple[Sizes, Sizes]) -> bool:
    """Whether all positions of both inputs attend to few."""
    return all(math.prod(g.axes.right.at(n)) <= FEW for n in sizes)


def contracted(g: Contracted, value: Callable[[Poly], Any], sizes: tuple[Sizes, Sizes]) -> Array:
    """The average at all positions of both inputs.

    Raises:
        NoRuleError: more than two positions.
    """
    if not few(g, sizes):
        raise NoRuleError(
            "averages over random scores of more than two positions are sampled: leave method= at 'auto', and ask K(X)"
        )
    shape = tuple((math.prod(g.axes.left.at(n)), math.prod(g.axes.right.at(n))) for n in sizes)
    (base, e), (base2, e2) = (_of_two(*of, g.causal) for of in shape)

    def full(p: Poly, first: int, second: int) -> Array:
        return spread(spread(np.asarray(value(p), float), 0, (first,)), 1, (second,))

    (P, Q), (R, T) = shape
    rows, columns = full(g.rows, P, R), full(g.columns, Q, T)
    own = (
        spread(np.asarray(value(g.rows0), float), 0, (P,))[..., :1],
        spread(np.asarray(value(g.rows1), float), 1, (R,)),
    )
    u = own[0] * _form(e, full(g.columns0, Q, Q), e)
    v = own[1][..., :1, :] * np.swapaxes(_form(e2, full(g.columns1, T, T), e2), -1, -2)
    between = rows * (e @ columns @ e2.T)
    inner = full(g.inner, *((P, R) if g.transpose else (Q, T)))
    if g.slope_rows is None or g.slope_columns is None:
        c = known(expectation(WEIGHTS, (U, V), [[u, between], [between, v]])).value
        steady = (base.T, base2) if g.transpose else (base, base2.T)
        fixed = steady[0] @ inner @ steady[1]
    else:
        c = known(expectation(SLOPES, (U, V), [[u, between], [between, v]])).value
        c = c * full(g.slope_rows, P, R) * (e @ full(g.slope_columns, Q, T) @ e2.T)
        fixed = 0.0
    return fixed + (e.T @ (c * inner) @ e2 if g.transpose else c * (e @ inner @ e2.T))


def known(v: Value) -> Value:
    """A value that is as good as exact.

    Raises:
        NoRuleError: it is not.
    """
    if v.unsure:
        raise NoRuleError(
            "an average over random scores is known to few digits; check the scale of std_q and of the inputs"
        )
    return v


def _of_two(positions: int, read: int, causal: bool) -> tuple[Array, Array]:
    """b and e of every position: those of a position that reads one are 1 and 0."""
    base, e = np.zeros((positions, read)), np.zeros((positions, read))
    for p in range(positions):
        count = min(p + 1, read) if causal else read
        base[p, :count] = 1 / count
        e[p, :count] = (1.0, -1.0)[:count] if count == FEW else 0.0
    return base, e


def _form(e: Array, c: Array, e2: Array) -> Array:
    """e[p]·C e2[p] of every p, (.., P, 1)."""
    return np.einsum("pq,...qt,pt->...p", e, c, e2)[..., None]
