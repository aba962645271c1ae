"""Products of two functions of one variable that are one function again, as relu step = relu."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.functions import Abs, Array, Fn, Relu, X, evaluate, has_deltas, member


@cache
def product(f: type[Fn], g: type[Fn]) -> sp.Expr | None:
    """f(x) g(x) as one function or as x; None where the kinks and pieces give none.

    The pieces decide, and the values at the kinks must agree too, so that it holds everywhere.

    >>> from tensorprog.functions import Sign, Step
    >>> product(Relu, Step), product(Abs, Sign), product(Abs, Step), product(Sign, Sign)
    (relu(x), x, relu(x), None)
    """
    kinks = f.family.kinks
    if any(not h.family.pieces or h.family.kinks != kinks or has_deltas(h) for h in (f, g)):
        return None
    (pieces, at_kinks), (others, at_kinks_too) = (_shape(h(X), h, kinks) for h in (f, g))
    found = [sp.expand(p * q) for p, q in zip(pieces, others, strict=True)], at_kinks * at_kinks_too
    families = [f.family, g.family, Relu.family, Abs.family]
    known = [h for family in families for h in (member(family, 0), member(family, 1))]
    same = [h for h in known if h.family.pieces and h.family.kinks == kinks and not has_deltas(h)]
    for formula, cls in [*((h(X), h) for h in same), (X, None)]:
        shape = _shape(formula, cls, kinks)
        if shape[0] == found[0] and np.array_equal(shape[1], found[1]):
            return formula
    return None


def _shape(formula: sp.Expr, cls: type[Fn] | None, kinks: tuple[sp.Expr, ...]) -> tuple[list[sp.Expr], Array]:
    """What a function is between its kinks, and its values at them."""
    pieces = [X] * (len(kinks) + 1) if cls is None else [sp.diff(p, X, cls.order) for p in cls.family.pieces]
    return [sp.expand(p) for p in pieces], evaluate(formula, {X: np.array(kinks, float)})


@cache
def absorbs(f: Any, g: Any) -> bool:
    """Whether f g = f, as relu step = relu.

    >>> from tensorprog.functions import Sign, Step
    >>> absorbs(Relu, Step), absorbs(Step, Relu), absorbs(Step, Sign)
    (True, False, True)
    """
    kinked = all(isinstance(h, type) and issubclass(h, Fn) and h.family.pieces for h in (f, g))
    return kinked and f is not g and product(f, g) == f(X)


def has_kinks(fn: Any) -> bool:
    """Whether a member of the table, or a formula, has kinks."""
    if isinstance(fn, sp.Lambda):
        return any(map(has_kinks, (type(f) for f in fn.expr.atoms(Fn)))) or any(
            not e.exp.is_Integer for e in fn.expr.atoms(sp.Pow)
        )
    return bool(fn.family.kinks)
