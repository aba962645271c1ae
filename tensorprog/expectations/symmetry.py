"""One naming of the symbols of an expectation, whatever they were called: its value does not depend on their names.

K(x, x') and K(x', x) are the same expectations with the variables of x and x' exchanged.  Points drawn for one naming
give another estimate than for the other, and a Gram matrix would depend on the order of its rows; so every expectation
is renamed: first to the body that comes first, then, among the namings that give it, to the first covariance.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Sequence
from dataclasses import replace
from math import factorial, prod
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.atoms import variables as numbered
from tensorprog.expectations.law import Law

MOST = 720  # namings of a body that are tried
DIGITS = 9  # in which entries are compared: what rounding tells apart is equal here, and so is the estimate
Symbols = tuple[sp.Symbol, ...]
Orders = tuple[tuple[int, ...], ...]


@functools.lru_cache(maxsize=1024)
def namings(body: sp.Expr, variables: Symbols, scalars: Symbols = ()) -> tuple[sp.Expr, Orders]:
    """The body in numbered symbols, and the orders of its own that give it, variables before scalars.

    >>> a, b, c = sp.symbols("a b c", real=True)
    >>> namings(sp.sin(a) * sp.sin(b) + c, (a, b, c))
    (u3 + sin(u1)*sin(u2), ((0, 1, 2), (1, 0, 2)))
    >>> namings(sp.sin(c) * sp.sin(a) + b, (a, b, c))
    (u3 + sin(u1)*sin(u2), ((0, 2, 1), (2, 0, 1)))
    """
    symbols, names = variables + scalars, numbered(len(variables)) + _scalars(len(scalars))
    kinds: dict[tuple[bool, str], list[int]] = {}
    own, other = sp.Symbol("own", real=True), sp.Symbol("other", real=True)
    for i, u in enumerate(symbols):
        seen = sp.srepr(body.xreplace({v: own if v is u else other for v in symbols}))
        kinds.setdefault((i >= len(variables), seen), []).append(i)
    alike = [kinds[k] for k in sorted(kinds)]
    many = prod(factorial(len(k)) for k in alike) > MOST
    found: dict[sp.Expr, list[tuple[int, ...]]] = {}
    for choice in itertools.islice(itertools.product(*map(itertools.permutations, alike)), 1 if many else None):
        order = tuple(i for part in choice for i in part)
        named = body.xreplace({symbols[i]: name for i, name in zip(order, names, strict=True)})
        found.setdefault(named, []).append(order)
    first = min(found, key=sp.srepr)
    return first, tuple(found[first])


def renamed(body: sp.Expr, law: Law) -> tuple[sp.Expr, Law]:
    """A body and the law of one entry under the one naming."""
    k, scalars = len(law.variables), tuple(s for s in law.scalars if s in body.free_symbols)
    body, found = namings(body, law.variables, scalars)
    order = _first(np.array(found), law, [law.scalars[s] for s in scalars])
    cov = {(i, j): law.get(order[i], order[j]) for i in range(k) for j in range(i, k)}
    values = [law.scalars[scalars[i - k]] for i in order[k:]]
    return body, replace(law, variables=numbered(k), cov=cov, mean=tuple(law.mean[i] for i in order[:k]),
                         scalars=dict(zip(_scalars(len(values)), values, strict=True)))  # fmt: skip


def _first(orders: np.ndarray, law: Law, scalars: Sequence[Any]) -> list[int]:
    """The order in which means, scalars and covariances come first."""
    if len(orders) > 1:
        k = len(law.variables)
        cov = _rounded([[law.get(i, j) for j in range(k)] for i in range(k)])
        rows, columns = np.triu_indices(k)
        entries = [_rounded([*law.mean, *scalars])[orders], cov[orders[:, rows], orders[:, columns]]]
        orders = orders[np.lexsort(np.concatenate(entries, axis=1).T[::-1])]
    return [int(i) for i in orders[0]]


def _scalars(count: int) -> Symbols:
    return tuple(sp.Symbol(f"s{i + 1}", real=True) for i in range(count))


def _rounded(values: Any) -> np.ndarray:
    """Numbers to ``DIGITS`` digits."""
    return np.vectorize(lambda x: float(f"{x:.{DIGITS}g}"), otypes=[float])(np.array(values, float))
