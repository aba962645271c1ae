"""Jets: arrays with their Taylor coefficients in a few small numbers, passed on through named equations.

A function F of jets y + δ is Σ_α ∂^α F(y) δ^α/α!, a finite sum.  That of an expectation V = E f(u), u ~ N(m, Σ), has

    ∂V/∂m_i = E ∂_i f,    ∂V/∂Σ_ii = ½ E ∂_i² f,    ∂V/∂Σ_ij = E ∂_i ∂_j f

(Price's theorem), so that every coefficient is an expectation over the same variables.  Where f has kinks its closed
form is differentiated instead.
"""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, monomial
from tensorprog.errors import DataError, NoRuleError
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.expectations.bodies import kinks
from tensorprog.expectations.closed.printed import Q2, C, Q, closed_form
from tensorprog.expectations.lawful import Lawful
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import evaluate, no_value
from tensorprog.limit.evaluate import evaluate_all

Array = Any
Exponents = tuple[int, ...]


class Jet:
    """A polynomial in small numbers, of the powers ``kept``: coefficients by exponents.

    >>> e = Jet({(0,): 2.0, (1,): 1.0}, {(0,), (1,), (2,)})
    >>> (e**3).terms  # (2 + ε)³ to second order
    {(0,): 8.0, (1,): 12.0, (2,): 6.0}
    """

    __slots__ = ("kept", "terms")

    def __init__(self, terms: Mapping[Exponents, Array], kept: Collection[Exponents]) -> None:
        self.terms, self.kept = dict(terms), kept

    @property
    def value(self) -> Array:
        """At 0."""
        return next((a for e, a in self.terms.items() if not any(e)), 0.0)

    @property
    def change(self) -> Jet:
        """What vanishes at 0."""
        return Jet({e: a for e, a in self.terms.items() if any(e)}, self.kept)

    def __add__(self, other: Jet) -> Jet:
        terms = dict(self.terms)
        for e, a in other.terms.items():
            terms[e] = terms[e] + a if e in terms else a
        return Jet(terms, self.kept)

    def __mul__(self, other: Jet) -> Jet:
        terms: dict[Exponents, Array] = {}
        for (e, a), (g, b) in itertools.product(self.terms.items(), other.terms.items()):
            total = tuple(map(sum, zip(e, g, strict=True)))
            if total in self.kept:
                terms[total] = terms[total] + a * b if total in terms else a * b
        return Jet(terms, self.kept)

    def scaled(self, by: Array) -> Jet:
        """Times an array."""
        return Jet({e: a * by for e, a in self.terms.items()}, self.kept)

    def __pow__(self, n: int) -> Jet:
        return functools.reduce(lambda x, _: x * self, range(n - 1), self)


def composed(arguments: Sequence[Jet], slope: Callable[[Exponents], Array], number: Callable[[Any], Jet]) -> Jet:
    """A function of jets, given its partial derivatives at their values by how often each argument is taken."""
    total = number(0.0)
    for orders, power in _powers([a.change for a in arguments], number(1.0)):
        total = total + power.scaled(slope(orders) / math.prod(map(math.factorial, orders)))
    return total


def _powers(changes: Sequence[Jet], start: Jet) -> Iterator[tuple[Exponents, Jet]]:
    """The products of powers of changes that are kept."""
    if not changes:
        yield (), start
        return
    power, k = start, 0
    while power.terms:
        for orders, found in _powers(changes[1:], power):
            yield (k, *orders), found
        power, k = power * changes[0], k + 1


def jets(polys: Sequence[Poly], values: Mapping[sp.Symbol, Any], kept: Collection[Exponents]) -> list[Jet]:
    """Values of polynomials of named equations with their Taylor coefficients.

    Args:
        polys: polynomials in scalars, names and expectations.
        values: by symbol, ``Jet`` or numbers.
        kept: the exponents that are kept, with every smaller one.

    Raises:
        NoRuleError: an expectation whose derivatives are not known.
        DataError: a symbol without a value; a derivative that is infinite or lost.
    """
    zero = (0,) * len(next(iter(kept)))

    def number(c: Any) -> Jet:
        return Jet({zero: float(c)}, kept)

    def leaf(g: Gen, value: Callable[[Poly], Jet]) -> Jet:
        if isinstance(g, Scalar):
            given = values.get(g.symbol)
            if isinstance(given, Jet):
                return given
            if missing := g.symbol.free_symbols - values.keys():
                raise no_value(missing, values)
            return Jet({zero: evaluate(g.symbol, values)}, kept)
        if isinstance(g, Expect) and not isinstance(g, Lawful):
            return _expected(g, value, number)
        if isinstance(g, Apply):
            return _applied(g, [value(a) for a in g.args], number)
        raise NoRuleError(f"derivatives of {g} by inputs are not derived")

    found: list[Jet] = evaluate_all(polys, leaf, number)
    return found


def _applied(g: Apply, arguments: list[Jet], number: Callable[[Any], Jet]) -> Jet:
    """A function of deterministic arguments."""
    us = g.fn.variables if isinstance(g.fn, sp.Lambda) else variables(1)
    body = g.fn.expr if isinstance(g.fn, sp.Lambda) else g.fn(us[0])
    return composed(arguments, _of_formula(body, us, arguments, str(g)), number)


def _of_formula(body: sp.Expr, us: Sequence[sp.Symbol], arguments: Sequence[Jet], what: str) -> Any:
    """The partial derivatives of a formula at the values of jets."""
    at = dict(zip(us, (a.value for a in arguments), strict=True))

    def slope(orders: Exponents) -> Array:
        formula = _differentiated(body, tuple(us), orders)
        with np.errstate(all="ignore"):  # what is not finite is refused
            found = evaluate(formula, at)
        if not np.all(np.isfinite(found)):
            raise DataError(
                f"a derivative of order {sum(orders)} of {what} is infinite or not known, as where a function has "
                "kinks and inputs are equal, parallel or 0; leave out such pairs, or use a smooth nonlinearity"
            )
        return found

    return slope


@functools.lru_cache(maxsize=4096)
def _differentiated(body: sp.Expr, us: tuple[sp.Symbol, ...], orders: Exponents) -> sp.Expr:
    """∂^orders of an expression."""
    for u, k in zip(us, orders, strict=True):
        body = sp.diff(body, u, k) if k else body
    return body


def _expected(g: Expect, value: Callable[[Poly], Jet], number: Callable[[Any], Jet]) -> Jet:
    k = len(g.mean)
    pairs = [(i, j) for i in range(k) for j in range(i, k)]
    cov = {pair: value(g.entry(*pair)) for pair in pairs}
    mean = [value(m) for m in g.mean] if any(g.mean) else []
    scalars = {s: value(monomial(h)) for s, h in g.scalars.items()}
    arguments = [*cov.values(), *mean, *scalars.values()]
    if kinks(g.body, g.variables) and any(a.change.terms for a in arguments):
        return _by_closed_form(g, arguments, number)
    numbers = [[cov[min(i, j), max(i, j)].value for j in range(k)] for i in range(k)]
    centre = [m.value for m in mean] or None
    at = {s: j.value for s, j in scalars.items()}
    us = g.variables

    def slope(orders: Exponents) -> Array:
        times = dict.fromkeys([*us, *scalars], 0)
        for (i, j), n in zip(pairs, orders, strict=False):
            times[us[i]] += n
            times[us[j]] += n
        for s, n in zip([*us[: len(mean)], *scalars], orders[len(pairs) :], strict=True):
            times[s] += n
        body = _differentiated(g.body, tuple(times), tuple(times.values()))
        half = 0.5 ** sum(n for (i, j), n in zip(pairs, orders, strict=False) if i == j)
        if body == 0:
            return 0.0
        try:
            return half * expectation(body, us, numbers, centre, at).value
        except NoRuleError as error:
            raise NoRuleError(f"a derivative of the kernel needs E {body}: {error}") from error

    return composed(arguments, slope, number)


def _by_closed_form(g: Expect, arguments: list[Jet], number: Callable[[Any], Jet]) -> Jet:
    """The expectation of a function with kinks, whose derivatives would be integrals over Dirac masses."""
    formula = None if any(g.mean) or g.scalars else closed_form(g.body, g.variables)
    if formula is None:
        raise NoRuleError(f"E {g.body} has kinks and no closed form here: its derivatives by inputs are not derived")
    return composed(arguments, _of_formula(formula, (Q, C, Q2)[: len(arguments)], arguments, f"E {g.body}"), number)
