"""Second moments of products of independent factors, such as gates: E (r h)(r' h') = E r r' · E h h'.

Expanded, a state h_t = σ(−z) n + σ(z) h_{t−1} has a term for every time before it, and its gradient the square of
their number.  Where gates of different times are independent, its moment is made of the named one of h_{t−1} instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import mul
from typing import Any

import sympy as sp

from tensorprog.algebra import ONE, Apply, Gaussian, Poly, add_all, constant
from tensorprog.ir.instructions import Nonlin, Var, slots_of

MANY = 64  # terms of a body beyond which it is


@dataclass(frozen=True)
class Factor:
    """What a term of a vector is multiplied by: a polynomial, the vector that it is, and the side it stands on."""

    z: Poly
    side: int
    var: Var | None = None


Terms = list[tuple[Poly, list[Factor]]]  # coefficients and factors


def factored(limit: Any, x: Var, y: Var) -> Poly | None:
    """E Z^x Z^y by moments of independent factors; None where that is no shorter than expanding both.

    Args:
        limit: the interpreter of a program without positions.
        x, y: vectors.
    """
    if hasattr(limit.system.namer, "identity"):
        return None  # equations that are to be folded are written out
    left, right = terms_of(limit, x, 0), terms_of(limit, y, 1)
    if not any(_is_gated(limit, factors) for _, factors in (*left, *right)) or len(left) * len(right) > MANY:
        return None
    parts = []
    for c, factors in left:
        for d, others in right:
            groups = independent(limit, [*factors, *others])
            if len(groups) == 1 and len(factors) + len(others) > 2:
                return None  # correlated gates: nothing is gained
            parts.append(c * d * _product(limit, groups))
    return add_all(parts)


def _is_gated(limit: Any, factors: Sequence[Factor]) -> bool:
    """Whether a term multiplies a vector that is made of products of functions."""
    made = (f.var for f in factors if f.var is not None and len(factors) > 1)
    return any(
        isinstance(limit.program.op(v), Nonlin)
        and any(sum(isinstance(g, Apply) for g, _ in mono) > 1 for mono in limit.z[v].terms)
        for v in made
    )


def _product(limit: Any, groups: Sequence[Sequence[Factor]]) -> Poly:
    """The product of the expectations of groups, the short ones first: 0 ends the matter."""
    result = ONE
    for group in sorted(groups, key=len):
        result = result * _expected(limit, group)
        if not result:
            break
    return result


def _expected(limit: Any, group: Sequence[Factor]) -> Poly:
    sides = [reduce(mul, (f.z for f in group if f.side == side), ONE) for side in (0, 1)]
    if len(group) == 2 and group[0].side != group[1].side:
        x, y = (f.var for f in sorted(group, key=lambda f: f.side))
        if x is not None and y is not None:
            return limit._moment(limit.z[x], limit.z[y], x, y)  # type: ignore[no-any-return]
    return limit.expect.product(*sides)  # type: ignore[no-any-return]


def terms_of(limit: Any, var: Var, side: int) -> Terms:
    """The terms of a vector as its instruction writes them; one with one factor where it is no sum of products."""
    op, whole = limit.program.op(var), [(ONE, [Factor(limit.z[var], side, var)])]
    if not isinstance(op, Nonlin):
        return whole
    slots = slots_of(op)
    env = {s: limit.z[v] for s, v in slots.items()}
    vectors = {s for s, v in slots.items() if v.kind == "vector"}
    found: Terms = []
    for term in sp.Add.make_args(sp.expand(op.body)):
        c, factors = constant(1), []
        for base, e in (f.as_base_exp() for f in sp.Mul.make_args(term)):
            if not base.free_symbols & vectors:
                c = c * limit.algebra.from_sympy(base**e, env)
            elif base in vectors and e.is_Integer and e > 0:
                factors += [Factor(env[base], side, slots[base])] * int(e)
            else:
                factors.append(Factor(limit.algebra.from_sympy(base**e, env), side))
        found.append((c, factors))
    return found if len(found) > 1 or len(found[0][1]) > 1 else whole


def independent(limit: Any, factors: Iterable[Factor]) -> list[list[Factor]]:
    """Factors by independence: those of different groups have uncorrelated Gaussians."""
    groups: list[tuple[set[Gaussian], list[Factor]]] = []
    for factor in factors:
        support, members, rest = set(factor.z.support), [factor], []
        for others, known in groups:
            if limit.expect.linked(support, others):
                support, members = support | others, [*known, *members]
            else:
                rest.append((others, known))
        groups = [*rest, (support, members)]
    return [members for _, members in groups]
