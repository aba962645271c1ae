"""Jumps of piecewise linear arguments that stand exactly at the jump in a whole region, as step(relu(u) − u) for u > 0.

There the value is that at the jump, and rounding, which makes relu(u/3 + 1) − u/3 − 1 any of three signs, has no say.
"""

from __future__ import annotations

from functools import lru_cache

import sympy as sp

from tensorprog.expectations.bodies import affine
from tensorprog.functions import Fn, Step, X, evaluate, is_delta, jumps

MOST = 64  # regions of an argument, beyond which it is left as it is
Region = tuple[sp.Expr, sp.Expr]  # 1 in it and 0 elsewhere; an argument there


@lru_cache(maxsize=1024)
def resolved(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> sp.Expr:
    """The body with such functions written region by region.

    >>> from tensorprog.functions import Relu
    >>> resolved(Step(Relu(X) - X), (X,))
    (1 - step(x))*step(-x)
    """
    found = {}
    for f in body.atoms(Fn):
        (argument,) = f.args
        if argument.is_Add and _jumps(f) and not affine(argument, variables)[0] and variables:
            regions = _regions(argument, variables)
            if any(_stands_at(f, value, variables) is not None for _, value in regions):
                found[f] = sp.Add(*(inside * _value(f, value, variables) for inside, value in regions))
    return body.xreplace(found) if found else body


def _jumps(f: Fn) -> bool:
    return not is_delta(type(f)) and jumps(type(f))


def _regions(argument: sp.Expr, variables: tuple[sp.Symbol, ...]) -> list[Region]:
    """The regions in which an argument is affine; none where it has others, or very many."""
    regions: list[Region] = [(sp.S.One, argument)]
    while regions:
        which = next((i for i, (_, value) in enumerate(regions) if _functions(value, variables)), None)
        if which is None:
            return regions
        inside, value = regions.pop(which)
        inner = next((f for f in _functions(value, variables) if affine(f.args[0], variables)[0]), None)
        pieces = None if inner is None else _linear_pieces(inner)
        if pieces is None or len(regions) + len(pieces) > MOST:
            return []
        regions += [(inside * here, sp.expand(value.xreplace({inner: line}))) for here, line in pieces]
    return []


def _functions(value: sp.Expr, variables: tuple[sp.Symbol, ...]) -> list[sp.Expr]:
    """What is no polynomial in the variables, in a fixed order."""
    kinds = value.atoms(sp.Function) | {p for p in value.atoms(sp.Pow) if not (p.exp.is_Integer and p.exp > 0)}
    return sorted((f for f in kinds if f.free_symbols & set(variables)), key=sp.default_sort_key)


def _linear_pieces(f: sp.Expr) -> list[Region] | None:
    """The pieces of a continuous piecewise linear function and where they hold."""
    if not isinstance(f, Fn) or is_delta(type(f)) or jumps(type(f)) or not f.family.pieces:
        return None
    lines = [sp.expand(sp.diff(p, X, f.order)) for p in f.family.pieces]
    if any(not line.is_polynomial(X) or sp.degree(line, X) > 1 for line in lines):
        return None
    (w,) = f.args
    above = [sp.S.One, *(Step(w - k) for k in f.family.kinks), sp.S.Zero]
    return [(above[i] - above[i + 1], sp.expand(line.subs(X, w))) for i, line in enumerate(lines)]


def _stands_at(f: Fn, value: sp.Expr, variables: tuple[sp.Symbol, ...]) -> sp.Expr | None:
    """The kink of a function at which its argument stands throughout a region."""
    if value.free_symbols & set(variables):
        return None
    return next((k for k in map(sp.nsimplify, f.family.kinks) if sp.expand(value - k) == 0), None)


def _value(f: Fn, value: sp.Expr, variables: tuple[sp.Symbol, ...]) -> sp.Expr:
    kink = _stands_at(f, value, variables)
    if kink is None:
        return f.func(value)
    return sp.nsimplify(float(evaluate(f.func(X), {X: float(kink)})), rational=True)
