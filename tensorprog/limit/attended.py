"""E Σ a[p,q] a'[r,t] C[q,t] over random scores where every position attends to one or two.

Of two scores a softmax knows the difference u: a[p,:] = b + tanh(u/2)/2 · e with b = (1,1)/2, e = (1,−1), and its
gradient is σ'(u) e (e·da), σ' = (1 − tanh²(u/2))/4.  So two expectations of two Gaussian variables are all it takes.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import ZERO, Poly, Scalar, monomial
from tensorprog.errors import NoRuleError
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.functions import Tanh
from tensorprog.ir.axes import Sizes
from tensorprog.limit.evaluate import Atom
from tensorprog.limit.mixing import spread
from tensorprog.limit.positions import Contracted

Array = Any
FEW = 2  # positions that one attends to, up to which averages are exact
U, V = variables(2)
ENTRIES = tuple(monomial(Scalar(sp.Dummy(name))) for name in ("var u", "cov", "var v"))
WEIGHTS = Tanh(U / 2) * Tanh(V / 2) / 4
SLOPES = sp.expand((1 - Tanh(U / 2) ** 2) * (1 - Tanh(V / 2) ** 2) / 16)


def few(g: Contracted, sizes: tuple[Sizes, Sizes]) -> bool:
    """Whether all positions of both inputs attend to few."""
    return all(math.prod(g.axes.right.at(n)) <= FEW for n in sizes)


def contracted(g: Contracted, value: Callable[[Poly], Any], sizes: tuple[Sizes, Sizes], atom: Atom) -> Array:
    """The average at all positions of both inputs.

    Args:
        g: the average.
        value: of polynomials.
        sizes: of the inputs.
        atom: the value of an expectation, as in ``limit.evaluate.numbers``.

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
    entries = dict(zip(ENTRIES, (u, between, v), strict=True))
    c = atom(_expectation(g), lambda p: entries[p], None)
    if g.slope_rows is None or g.slope_columns is None:
        steady = (base.T, base2) if g.transpose else (base, base2.T)
        fixed = steady[0] @ inner @ steady[1]
    else:
        c = c * full(g.slope_rows, P, R) * (e @ full(g.slope_columns, Q, T) @ e2.T)
        fixed = 0.0
    return fixed + (e.T @ (c * inner) @ e2 if g.transpose else c * (e @ inner @ e2.T))


@functools.lru_cache(maxsize=4096)
def _expectation(g: Contracted) -> Expect:
    """What is unknown of an average, as one expectation of it alone; its covariance is given with its value."""
    return Expect(WEIGHTS if g.slope_rows is None else SLOPES, ENTRIES, (ZERO, ZERO), {}, (ZERO, ZERO))


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
