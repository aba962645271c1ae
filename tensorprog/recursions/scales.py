"""Coefficients that depend on the depth, such as α² = 1/(L − 1) of a residual network with a stable depth."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar, add_all, constant
from tensorprog.recursions.ranges import L, Sizes
from tensorprog.recursions.straight import Index, Store

Found = dict[Sizes, set[Index]]  # the indices that an equation holds for, at every size
POWERS = [sp.Rational(k, 2) * sign for k in (2, 4, 1) for sign in (-1, 1)]
SHIFTS = (0, -1, 1, -2, 2)
FEWEST = 3  # depths that a power of the depth is read off


def unified(forms: Mapping[Poly, Found], store: Store) -> dict[Poly, Found]:
    """Equations that differ by a power of L + s between depths as one."""
    groups: dict[Poly, list[Poly]] = defaultdict(list)
    for form in forms:
        groups[Poly(dict.fromkeys(form.terms, 1))].append(form)
    found: dict[Poly, Found] = {}
    for group in groups.values():
        one = _one({form: forms[form] for form in group}, store) if len(group) > 1 else None
        if one is None:
            found |= {form: forms[form] for form in group}
        else:
            joined: Found = found.setdefault(one, {})
            for form in group:
                joined.update(forms[form])
    return found


def _one(forms: Mapping[Poly, Found], store: Store) -> Poly | None:
    """The form that all are at their depths; None where some depth has several, or coefficients are no power."""
    by_depth: dict[int, Poly] = {}
    for form, found in forms.items():
        for sizes in (s for s, indices in found.items() if indices):
            depth = dict(sizes).get("L")
            if depth is None or by_depth.setdefault(depth, form) is not form:
                return None
    if len(by_depth) < FEWEST:
        return None
    terms = []
    for mono in next(iter(forms)).terms:
        scale = _power({depth: sp.sympify(form.terms[mono]) for depth, form in by_depth.items()})
        if scale is None:
            return None
        factor = constant(scale) if scale.is_number else store.intern(Scalar, scale)
        terms.append(Poly({mono: 1}) * factor)
    return add_all(terms)


def _power(values: Mapping[int, sp.Expr]) -> sp.Expr | None:
    """r (L + s)^k from its values.

    >>> from sympy import Rational
    >>> _power({3: Rational(1, 4), 4: Rational(1, 6), 5: Rational(1, 8)})
    1/(2*(L - 1))
    """
    if len(set(values.values())) == 1:
        return next(iter(values.values()))
    for shift, power in itertools.product(SHIFTS, POWERS):
        if all(depth + shift > 0 for depth in values):
            ratios = {sp.nsimplify(v / sp.Integer(depth + shift) ** power) for depth, v in values.items()}
            if len(ratios) == 1:
                return ratios.pop() * (L + shift) ** power
    return None


def at_size(g: Gen, sizes: Mapping[str, int]) -> Poly | None:
    """The number of a power of the depth; None for anything else."""
    if type(g) is not Scalar or "L" not in sizes or L not in g.symbol.free_symbols:
        return None
    return constant(g.symbol.subs(L, sizes["L"]))


def with_depth(hyper: Mapping[Any, float], sizes: Mapping[str, int]) -> dict[Any, float]:
    """The values of hyperparameters, and of the depth."""
    return {**hyper, **({L: float(sizes["L"])} if "L" in sizes else {})}
