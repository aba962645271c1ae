"""Values of named equations: one walk over the generators, two interpretations of an atom.

``numbers`` computes atoms by closed form or quadrature on arrays.  ``same`` decides whether two
quantities are equal with all names unfolded: every independent quantity gets a random 60-digit number,
an atom one that depends on its functions and covariance only.
"""

from __future__ import annotations

import functools
import itertools
import operator
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from typing import Any

import mpmath
import numpy as np
import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, monomial
from tensorprog.errors import DataError, NoRuleError
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.expectations.law import Value
from tensorprog.expectations.lawful import Lawful, lawful
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Fn, Step, no_value
from tensorprog.functions import evaluate as evaluate_expr
from tensorprog.limit.equations import Name, children, reachable
from tensorprog.limit.positions import At, Positional
from tensorprog.limit.random_maps import data, entrywise, positional, taken
from tensorprog.printing import reads_data

Array = Any
ESTIMATED = 0.02  # how far covariances made of estimates may be from positive semidefinite, relative to the variances
ROUNDING = 1e-13  # of a sum, relative to its terms
Atom = Callable[[Expect, Callable[[Poly], Any], Array | None], Array]


def evaluate_all(
    polys: Iterable[Poly], leaf: Callable[[Gen, Callable[[Poly], Any]], Any], number: Callable[[Any], Any]
) -> list[Any]:
    """Values of polynomials, given a rule for every generator that is not a name."""
    polys = list(polys)
    values: dict[Gen, Any] = {}

    def value(p: Poly) -> Any:
        return functools.reduce(operator.add, (term(*t) for t in p.terms.items())) if p else number(0)

    def term(mono: Any, c: Any) -> Any:
        factors = [values[g] ** e if e > 1 else values[g] for g, e in mono]
        return functools.reduce(operator.mul, factors if c == 1 and factors else [number(c), *factors])

    for g in reachable(polys):
        values[g] = value(g.definition) if isinstance(g, Name) else leaf(g, value)
    return [value(p) for p in polys]


def numbers(
    polys: Iterable[Poly],
    values: Mapping[sp.Symbol, Array],
    gaps: Callable[[Expect, Callable[[Poly], Any]], Array | None] | None = None,
    atom: Atom | None = None,
    positions: Callable[[Positional, Callable[[Poly], Any]], Array] | None = None,
) -> list[Array]:
    """Numeric values; those of the hyperparameters are given by symbol, as floats or arrays.

    Args:
        polys: polynomials in scalars, names and atoms.
        values: of the hyperparameters.
        gaps: knows the angles of nearly equal variables, which their covariances have lost.
        atom: the value of an atom, given that of polynomials and its gap; that of ``expected`` if absent.
        positions: the value of what runs over positions, given that of polynomials.

    Raises:
        DataError: a symbol has no value, or some value is not finite.
    """

    def leaf(g: Gen, value: Callable[[Poly], Any]) -> Array:
        if isinstance(g, Scalar):
            return _scalar(g.symbol, values)
        if isinstance(g, Positional):
            if positions is None:
                raise NoRuleError(f"{g} runs over positions, whose sizes are not known here")
            return positions(g, value)
        if isinstance(g, Expect):
            gap = gaps(g, value) if gaps and not isinstance(g, Lawful) else None
            return atom(g, value, gap) if atom else expected(g, value, gap).value
        assert isinstance(g, Apply)
        return applied(g, [value(a) for a in g.args])

    with np.errstate(over="ignore", invalid="ignore"):  # a value that is not finite is refused below
        try:
            results = evaluate_all(polys, leaf, float)
        except OverflowError as error:
            raise DataError("a coefficient is beyond 1e308; check the scale of hyperparameters and degrees") from error
        except ZeroDivisionError as error:
            raise DataError("a formula divides by a constant 0; check the values of hyperparameters") from error
    for p, r in zip(polys, results, strict=True):
        if not np.all(np.isfinite(r)):
            names = [g for g in reachable([p]) if isinstance(g, Name)]
            with np.errstate(over="ignore", invalid="ignore"):
                found = evaluate_all([monomial(g) for g in names], leaf, float)
            raise _not_finite(g.symbol for g, x in zip(names, found, strict=True) if not np.all(np.isfinite(x)))
    return results


def applied(g: Apply, args: Sequence[Array]) -> Array:
    """A function of scalars at some values of them."""
    if isinstance(g.fn, sp.Lambda):
        return evaluate_expr(g.fn.expr, dict(zip(g.fn.variables, args, strict=True)))
    u = variables(1)[0]
    return evaluate_expr(g.fn(u), {u: args[0]})


def _not_finite(symbols: Iterable[Any]) -> DataError:
    """The error for quantities that leave the range of numbers, which names the first of them, with its layer."""
    what = next((f"{s}, the first that leaves the range of float64," for s in symbols), "a sum of finite quantities")
    return DataError(f"the value of {what} is not finite; check the scale of inputs and hyperparameters")


def _scalar(expr: sp.Expr, values: Mapping[sp.Symbol, Array]) -> Array:
    if missing := expr.free_symbols - values.keys():
        raise no_value(missing, values)
    return evaluate_expr(expr, values)


def _variance(p: Poly, found: Array, value: Callable[[Poly], Any]) -> Array:
    """The value of a variance; 0 where its terms cancel up to rounding and leave something negative."""
    if not np.any(np.less(found, 0)):
        return found
    factor: Any = 1.0
    while len(p.terms) == 1:  # a multiple of what has a name
        (mono, c), *_ = p.terms.items()
        names = [h for h, e in mono if isinstance(h, Name) and e == 1]
        if not names:
            break
        rest = [(h, e) for h, e in mono if h is not names[0]]
        factor = factor * value(Poly({tuple(rest): c}))
        p = names[0].definition
    size = sum(np.abs(value(Poly({mono: c}))) for mono, c in p.terms.items())
    return np.where((found < 0) & (found >= -ROUNDING * np.abs(factor) * size), 0.0, found)


def expected(g: Expect, value: Callable[[Poly], Any], gap: Array | None = None) -> Value:
    """The expectation of an atom, given the values of polynomials.

    Covariances that are made of estimates by random points may be off by their errors: no fault of the data.
    """
    if isinstance(g, Lawful):
        return lawful(g, value)
    k = len(g.mean)
    cov = [[value(g.entry(i, j)) for j in range(k)] for i in range(k)]
    for i in range(k):
        found = _variance(g.entry(i, i), cov[i][i], value)
        if found is not cov[i][i]:  # what has no variance has no covariance
            none = found != cov[i][i]
            for j in range(k):
                cov[i][j] = cov[j][i] = found if i == j else np.where(none, 0.0, cov[i][j])
    mean = [value(m) for m in g.mean] if any(g.mean) else None
    scalars = {s: value(Poly({((h, 1),): 1})) for s, h in g.scalars.items()}
    try:
        return expectation(g.body, g.variables, cov, mean, scalars, gap=gap)
    except DataError as error:
        read = {h for p in (*g.cov, *g.mean) for m in p.terms for h, _ in m if isinstance(h, Name)}
        lost = [h for h in read if not np.all(np.isfinite(value(monomial(h))))]
        if lost:
            raise _not_finite(h.symbol for h in sorted(lost, key=lambda h: h.index)) from error
        if not _estimated(g):
            raise
        return expectation(g.body, g.variables, cov, mean, scalars, slack=ESTIMATED)
    except NoRuleError as error:
        raise NoRuleError(f"E {g.body}: {error}") from error


def _estimated(g: Expect) -> bool:
    """Whether the covariance of an atom is made of expectations that may have been estimated."""
    return any(isinstance(h, Expect) and len(h.mean) > 2 for h in reachable([*g.cov, *g.mean]))


SAME = 45  # digits to which quantities that are the same agree at a random point
DIGITS = f"to {SAME} digits at a random point"


def same(p: Poly, q: Poly, seed: int = 0) -> bool:
    """Whether two quantities are equal with all names unfolded.

    A polynomial identity that holds at random points to 50 digits holds identically, up to a
    probability far below that of a hardware error (Schwartz–Zippel).
    """
    a, b = fingerprint([p, q], seed)
    with mpmath.workdps(60):
        return bool(np.all(abs(a - b) <= mpmath.mpf(10) ** -SAME * (abs(a) + abs(b))))


def fingerprint(polys: Iterable[Poly], seed: int = 0) -> list[Any]:
    """The values of polynomials at one random point, equal exactly when the quantities are (see ``same``).

    Expectations are random functions of their covariance, but for E step(u) = 1/2, where u is centred and not 0;
    positions, and maps between them, are those of ``random_maps``.
    """
    polys = list(polys)
    gens = reachable(polys)
    found = [g for g in gens if isinstance(g, At)]
    over = any(isinstance(g, Positional) for g in gens)
    known: dict[Gen, Any] = {}
    with mpmath.workdps(60):
        for point in sorted({g.point for g in found}):
            of = [g for g in found if g.point == point]
            leaf = _random(seed, (point, point), over, lambda g, value: taken(g, value(g.inner)))
            known.update(
                (g, taken(g, c)) for g, c in zip(of, evaluate_all([g.inner for g in of], leaf, _mp), strict=True)
            )
        return evaluate_all(polys, _random(seed, (0, 1), over, lambda g, value: known[g]), _mp)


def _random(seed: int, owners: tuple[int, int], over: bool, at: Callable[[At, Any], Any]) -> Callable[..., Any]:
    """Random values of generators, for inputs number ``owners``, ``over`` positions or not."""

    def draw(*key: Any) -> Any:
        return mpmath.mpf(random.Random(repr((seed, key))).getrandbits(200)) / 2**200 + 1

    def symbol(s: sp.Symbol) -> Any:
        return data(s.name, owners, draw) if over and reads_data(s) else draw(str(s))

    def leaf(g: Gen, value: Callable[[Poly], Any]) -> Any:
        if isinstance(g, Scalar):
            return entrywise(symbol, sorted(g.symbol.free_symbols, key=str), lambda one: _mp_scalar(g.symbol, one))
        if isinstance(g, At):
            return at(g, value)
        if isinstance(g, Positional):
            return positional(g, [value(p) for p in g.reads], owners, draw)
        return entrywise(value, list(children(g)), lambda one: of_entries(g, one))

    def of_entries(g: Gen, value: Callable[[Poly], Any]) -> Any:
        if isinstance(g, Expect):
            half = g.body == Step(*g.variables[:1]) and not any(g.mean) and value(g.cov[0])
            laws = [f"{law.name}" for law in g.laws.values()] if isinstance(g, Lawful) else []
            return mpmath.mpf(0.5) if half else draw(_canonical_atom(g, value), *sorted(laws))
        assert isinstance(g, Apply)
        if isinstance(g.fn, sp.Lambda) and not g.fn.expr.has(Fn):  # 1/√v, as where v is a number of the data
            return _in_digits(g.fn)(*(value(a) for a in g.args))
        return draw(str(g.fn(*(sp.Symbol(_digits(value(a))) for a in g.args))))  # in whatever order it names them

    return leaf


def _mp(c: Any) -> Any:
    if isinstance(c, (int, Fraction)):
        return mpmath.mpf(c.numerator) / c.denominator
    return mpmath.mpf(str(sp.N(c, 60)))


def _mp_scalar(expr: sp.Expr, value: Callable[[sp.Symbol], Any]) -> Any:
    point = {s: sp.Float(str(value(s)), 60) for s in expr.free_symbols}
    return _mp(sp.N(expr.subs(point), 60))


@functools.cache
def _in_digits(formula: sp.Lambda) -> Callable[..., Any]:
    return sp.lambdify(formula.variables, formula.expr, "mpmath")  # type: ignore[no-any-return]


def _digits(x: Any) -> str:
    return str(mpmath.nstr(x, 40))


def _canonical_atom(g: Expect, value: Callable[[Poly], Any]) -> str:
    """A text that is the same for atoms that differ by the order of their variables, or by two that are equal."""
    us, count = g.variables, range(len(g.mean))
    scalars = {s: sp.Symbol(_digits(value(Poly({((h, 1),): 1})))) for s, h in g.scalars.items()}
    mean = [_digits(value(m)) for m in g.mean]
    cov = [[_digits(value(g.entry(i, j))) for j in count] for i in count]
    first = [next(i for i in count if mean[i] == mean[j] and cov[i][i] == cov[i][j] == cov[j][j]) for j in count]
    body = g.body.xreplace(scalars | {us[j]: us[i] for j, i in enumerate(first)})
    kept = [i for i in count if first[i] == i]
    orders = itertools.permutations(kept) if len(kept) <= 4 else [tuple(kept)]
    return min(
        repr((str(body.xreplace({us[o]: us[i] for i, o in enumerate(order)})), [mean[o] for o in order],
              [cov[a][b] for a in order for b in order]))
        for order in orders
    )  # fmt: skip
