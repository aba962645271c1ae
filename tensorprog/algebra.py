"""Sparse polynomials in interned generators: the working form of every Z and every limit equation.

Users and results speak sympy; this leaner form carries the inner loop of products, derivatives and expectations.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Hashable, Iterable, Mapping
from fractions import Fraction
from typing import Any, Self

import sympy as sp

from tensorprog.ceilings import check_ceiling
from tensorprog.errors import DataError
from tensorprog.functions import POWERS, Fn, Sign, Step
from tensorprog.products import absorbs, has_kinks
from tensorprog.rationals import Coefficient, coefficient, rational_value, times

_counter = itertools.count()


class Gen:
    """A generator; ``support`` is the set of base Gaussians it depends on (empty for a scalar)."""

    __slots__ = ("_symbol", "index", "support")

    def __init__(self, symbol: sp.Expr | None, support: frozenset[Gaussian] | None = None) -> None:
        self.index = next(_counter)
        self._symbol = symbol
        self.support = frozenset() if support is None else support

    @property
    def symbol(self) -> Any:
        """What it prints as: given, or made when it is first asked for, since most expectations are never printed."""
        if self._symbol is None:
            self._symbol = self.printed()
        return self._symbol

    def printed(self) -> sp.Expr | None:
        """The symbol of a generator that is given none."""
        return None

    def __repr__(self) -> str:
        return str(self.symbol)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # nothing in it changes, and it is known by its identity

    def __reduce__(self) -> Any:
        """Made again, younger than everything that is: arguments are made before what depends on them."""
        return type(self), self.made_of()

    def made_of(self) -> tuple[Any, ...]:
        """The arguments that it was made with."""
        return (self._symbol, self.support)


class Scalar(Gen):
    """A deterministic quantity: a hyperparameter, or a sympy expression of some."""

    __slots__ = ()


class Gaussian(Gen):
    """A centred base Gaussian: the Ẑ of a MatMul or the random part of an initial vector.

    Only Gaussians with the same ``block`` can be correlated.
    """

    __slots__ = ("block", "source")

    def __init__(self, symbol: sp.Symbol, block: Hashable, source: Any) -> None:
        super().__init__(symbol)
        self.support = frozenset([self])
        self.block, self.source = block, source

    def made_of(self) -> tuple[Any, ...]:
        return self._symbol, self.block, self.source


class Blend(Gen):
    """A weighted sum over positions of a vector that is not Gaussian: only its second moments are known."""

    __slots__ = ("source",)

    def __init__(self, symbol: sp.Symbol, support: frozenset[Gaussian], source: Any) -> None:
        super().__init__(symbol, support)
        self.source = source

    def made_of(self) -> tuple[Any, ...]:
        return self._symbol, self.support, self.source


class Apply(Gen):
    """A function of random variables: a table member of one argument, or an opaque formula of several."""

    __slots__ = ("args", "fn", "kinked", "level", "powers")

    def __init__(self, fn: Any, args: tuple[Poly, ...]) -> None:
        super().__init__(None, frozenset().union(*(a.support for a in args)))
        self.fn, self.args = fn, args
        self.level: int = 1 + max((getattr(g, "level", 0) for a in args for m in a.terms for g, _ in m), default=0)
        check_ceiling("functions", self.level, "a function of functions")
        self.powers = POWERS.get(fn)
        self.kinked = isinstance(fn, type) and issubclass(fn, Fn) and bool(fn.family.kinks)

    def made_of(self) -> tuple[Any, ...]:
        return self.fn, self.args

    def __repr__(self) -> str:
        return f"{self.fn}{self.args}"


class Poly:
    """An immutable polynomial {monomial: coefficient}; a monomial is a sorted tuple of (Gen, exponent)."""

    __slots__ = ("_hash", "_linear", "_support", "terms")

    def __init__(self, terms: dict[Any, Coefficient]) -> None:
        self.terms = terms
        self._hash: int | None = None
        self._support: frozenset[Gaussian] | None = None
        self._linear: tuple[Poly, dict[Gaussian, Poly]] | None = None

    @property
    def support(self) -> frozenset[Gaussian]:
        if self._support is None:
            self._support = frozenset().union(*(g.support for m in self.terms for g, _ in m))
        return self._support

    def __hash__(self) -> int:
        if self._hash is None:
            self._hash = hash(frozenset(self.terms.items()))
        return self._hash

    def __eq__(self, other: object) -> bool:
        return self is other or (isinstance(other, Poly) and self.terms == other.terms)

    def __bool__(self) -> bool:
        return bool(self.terms)

    def __add__(self, other: Poly) -> Poly:
        if not other.terms:
            return self
        if not self.terms:
            return other
        terms = dict(self.terms)
        for mono, c in other.terms.items():
            _accumulate(terms, mono, c)
        return Poly(terms)

    def __mul__(self, other: Poly) -> Poly:
        if other is ONE or not self.terms:
            return self
        if self is ONE or not other.terms:
            return other
        check_ceiling("products", len(self.terms) * len(other.terms), "a product of polynomials")
        terms: dict[Any, Coefficient] = {}
        for m1, c1 in self.terms.items():
            for m2, c2 in other.terms.items():
                _accumulate(terms, merge(m1, m2), times(c1, c2))
        return Poly(terms)

    def scale(self, c: Coefficient) -> Poly:
        return Poly({m: times(c, k) for m, k in self.terms.items()}) if c else ZERO

    def __pow__(self, n: int) -> Poly:
        check_ceiling("power", n, "a power")
        check_ceiling("products", n * _terms_of_power(self, n), f"the power {n} of {len(self.terms)} terms")
        result = self
        for _ in range(n - 1):
            result = result * self
        return result

    def __repr__(self) -> str:
        return f"Poly({to_sympy(self)})"

    def __deepcopy__(self, memo: Any) -> Poly:
        return self

    def __reduce__(self) -> Any:
        return _of_terms, tuple(self.terms.items())


def _terms_of_power(p: Poly, n: int) -> int:
    """The most terms of p^n: as many as monomials of degree n in the terms of p, or as its generators allow."""
    degrees: dict[Gen, int] = {}
    for g, e in itertools.chain.from_iterable(p.terms):
        degrees[g] = max(degrees.get(g, 0), e)
    return min(math.comb(n + len(p.terms) - 1, n), math.prod(n * d + 1 for d in degrees.values())) if p.terms else 0


def _of_terms(*terms: tuple[Any, Coefficient]) -> Poly:
    """A polynomial of generators that may have another order of age than they had where it was written."""
    return Poly({tuple(sorted(mono, key=_index)): c for mono, c in terms})


ZERO, ONE = Poly({}), Poly({(): 1})


def _accumulate(terms: dict[Any, Coefficient], mono: Any, c: Coefficient) -> None:
    old = terms.get(mono)
    if old is not None:
        c = old + c if isinstance(c, (int, Fraction)) and isinstance(old, (int, Fraction)) else coefficient(old + c)
    if c:
        terms[mono] = c
    elif old is not None:
        del terms[mono]


def add_all(polys: Iterable[Poly]) -> Poly:
    """The sum of many polynomials."""
    terms: dict[Any, Coefficient] = {}
    for p in polys:
        for mono, c in p.terms.items():
            _accumulate(terms, mono, c)
    return Poly(terms)


def merge(a: Any, b: Any) -> Any:
    """The product of two monomials, in which relu step is relu, and the like."""
    if not a:
        return b
    if not b:
        return a
    exponents = dict(a)
    for g, e in b:
        e += exponents.pop(g, 0)
        if e > 1 and isinstance(g, Apply) and g.powers is not None:
            e = g.powers(e)
        if e:
            exponents[g] = e
    kinked = [g for g in exponents if isinstance(g, Apply) and g.kinked]
    if len(kinked) > 1:
        for g in kinked:
            if any(f.args == g.args and absorbs(f.fn, g.fn) for f in kinked if f in exponents):
                del exponents[g]
    return tuple(sorted(exponents.items(), key=_index))


def _index(factor: tuple[Gen, int]) -> int:
    return factor[0].index


def drop(mono: Any, gen: Gen) -> Any:
    """The monomial with one factor ``gen`` removed."""
    return tuple((g, e - (g is gen)) for g, e in mono if not (g is gen and e == 1))


def monomial(gen: Gen) -> Poly:
    """A generator as a polynomial."""
    return Poly({((gen, 1),): 1})


def constant(c: Any) -> Poly:
    """A number as a polynomial."""
    c = coefficient(sp.sympify(c) if not isinstance(c, (int, Fraction)) else c)
    return Poly({(): c}) if c else ZERO


def _scalar_of(p: Poly) -> Scalar | None:
    """The hyperparameter, or expression of some, that p is."""
    gens: list[Gen] = [g for mono in p.terms for g, _ in mono]
    return gens[0] if len(gens) == 1 and type(gens[0]) is Scalar and p == monomial(gens[0]) else None


def _set(p: Poly, gen: Gen, value: int) -> Poly:
    """The polynomial with a number for one generator."""
    return add_all(
        Poly({tuple(f for f in mono if f[0] is not gen): c}).scale(value ** dict(mono).get(gen, 0))
        for mono, c in p.terms.items()
    )


def affine(p: Poly) -> bool:
    """Whether p is affine in base Gaussians with deterministic coefficients."""
    for mono in p.terms:
        random = [(g, e) for g, e in mono if g.support]
        if random and (len(random) > 1 or random[0][1] > 1 or not isinstance(random[0][0], Gaussian)):
            return False
    return True


def linear_parts(p: Poly) -> tuple[Poly, dict[Gaussian, Poly]]:
    """Constant term and coefficients of an affine polynomial, kept with it: one is asked for with every other."""
    if p._linear is not None:
        return p._linear
    mean: dict[Any, Coefficient] = {}
    parts: dict[Gaussian, dict[Any, Coefficient]] = {}
    for mono, c in p.terms.items():
        random = [g for g, _ in mono if g.support]
        target = parts.setdefault(random[0], {}) if random else mean  # type: ignore[arg-type]
        target[drop(mono, random[0]) if random else mono] = c
    p._linear = Poly(mean), {g: Poly(t) for g, t in parts.items()}
    return p._linear


def nonzero(factor: tuple[Gen, int]) -> bool:
    """Whether a factor is sign(u)², which is 1 almost surely, or 0 almost surely where u is 0 almost surely.

    So its derivative is 0, and it is independent of everything.  No u of a ``Sign`` sticks at 0.
    """
    g, e = factor
    return e == 2 and isinstance(g, Apply) and g.fn is Sign


def _sticks(p: Poly) -> bool:
    """Whether p holds a function with kinks, so that it may be 0 with a probability that is neither 0 nor 1."""
    applied = [g for m in p.terms for g, _ in m if isinstance(g, Apply) and g.support]
    return any(has_kinks(g.fn) or any(map(_sticks, g.args)) for g in applied)


class Algebra:
    """Interns scalars and function applications, so that equal things are one object."""

    def __init__(self) -> None:
        self._scalars: dict[sp.Expr, Poly] = {}
        self._applies: dict[Any, Poly] = {}
        self._derivatives: dict[Any, Poly] = {}

    def scalar(self, expr: sp.Expr) -> Poly:
        """A sympy expression without random variables."""
        if expr not in self._scalars:
            self._scalars[expr] = monomial(Scalar(expr))
        return self._scalars[expr]

    def apply(self, fn: Any, args: tuple[Poly, ...]) -> Poly:
        """fn(args) for a member of the function table, or an opaque formula (sympy Lambda)."""
        key = (fn, args)
        if key not in self._applies:
            rules = (self._number, self._at_0, self._split_jump)
            found = next((p for rule in rules if (p := rule(fn, args)) is not None), None)
            self._applies[key] = monomial(Apply(fn, args)) if found is None else found
        return self._applies[key] if (fn not in POWERS or args[0]) else ZERO

    def _number(self, fn: Any, args: tuple[Poly, ...]) -> Poly | None:
        """A function at numbers alone: a formula, or a member of the table where it is a rational number there."""
        if any(a.terms.keys() - {()} for a in args):
            return None
        if not isinstance(fn, sp.Lambda):
            return constant(known) if (known := rational_value(fn, to_sympy(args[0]))) is not None else None
        point = [to_sympy(a) for a in args]
        value = fn(*point)
        if value.has(sp.nan, sp.oo, sp.zoo) or value.is_extended_real is False:
            at = ", ".join(f"{s} = {a}" for s, a in zip(fn.variables, point, strict=True))
            raise DataError(
                f"{fn.expr} at the constant {at} is {sp.N(value, 6)}; it must be a finite real number there"
            )
        return None if value.has(Fn) else constant(value)

    def _at_0(self, fn: Any, args: tuple[Poly, ...]) -> Poly | None:
        """sign(u) = step(u) − step(−u) where u may be 0 with a probability between 0 and 1."""
        if fn is not Sign or not _sticks(args[0]):
            return None
        return self.apply(Step, args) + self.apply(Step, (args[0].scale(-1),)).scale(-1)

    def _split_jump(self, fn: Any, args: tuple[Poly, ...]) -> Poly | None:
        """f(A(s)) with a jump s = step or sign inside, written as a polynomial in s; None without a jump.

        With s = step that is f(A(0)) + (f(A(1)) − f(A(0))) s, and with s = sign, which may be 0 too,
        f(A(0)) (1 − s²) + f(A(1)) (s² + s)/2 + f(A(−1)) (s² − s)/2.
        With the jump inside f the chain rule would give f' at the jump, where it has two values.
        """
        for i, a in enumerate(args):
            jump = next((g for m in a.terms for g, _ in m if isinstance(g, Apply) and g.powers), None)
            if jump is not None:
                s, half = monomial(jump), Fraction(1, 2)

                def at(value: int, i: int = i, a: Poly = a, jump: Gen = jump) -> Poly:
                    return self.apply(fn, (*args[:i], _set(a, jump, value), *args[i + 1 :]))

                if jump.fn is Step:
                    return at(0) + (at(1) + at(0).scale(-1)) * s
                up, down = (at(1) + at(-1)).scale(half), (at(1) + at(-1).scale(-1)).scale(half)
                return at(0) + (up + at(0).scale(-1)) * s**2 + down * s
        return None

    def from_sympy(self, expr: sp.Expr, env: Mapping[sp.Symbol, Poly]) -> Poly:
        """A sympy expression with polynomials for its symbols; what is no polynomial becomes an Apply."""
        if expr in env:
            return env[expr]
        if expr.is_Symbol:
            return self.scalar(expr)
        if expr.is_number and not isinstance(expr, Fn) and not expr.has(Fn):
            return constant(expr)
        if isinstance(expr, sp.Add):
            return add_all(self.from_sympy(a, env) for a in expr.args)
        if isinstance(expr, sp.Mul):
            result = ONE
            for a in expr.args:
                result = result * self.from_sympy(a, env)
            return result
        if isinstance(expr, sp.Pow) and expr.exp.is_Integer and expr.exp > 0:
            return self.from_sympy(expr.base, env) ** int(expr.exp)
        if isinstance(expr, Fn):
            return self.apply(type(expr), (self.from_sympy(expr.args[0], env),))
        symbols = sorted(expr.free_symbols, key=str)  # hyperparameters are arguments of a formula as vectors are
        args = tuple(env[s] if s in env else self.scalar(s) for s in symbols)
        known = {s: g.symbol for s, p in zip(symbols, args, strict=True) if (g := _scalar_of(p)) is not None}
        if len(known) == len(symbols) and not expr.has(Fn):
            return self.scalar(expr.xreplace(known))
        dummies = sp.symbols(f"a0:{len(symbols)}", real=True)
        return self.apply(sp.Lambda(dummies, expr.xreplace(dict(zip(symbols, dummies, strict=True)))), args)

    def derivative(self, p: Poly, g: Gaussian) -> Poly:
        """∂p/∂g."""
        return add_all(
            self._factor_derivative(f, g) * Poly({drop(mono, f): times(c, e)})
            for mono, c in p.terms.items()
            for f, e in mono
            if g in f.support and not nonzero((f, e))
        )

    def _factor_derivative(self, f: Gen, g: Gaussian) -> Poly:
        if f is g:
            return ONE
        assert isinstance(f, Apply)
        key = (f, g)
        if key not in self._derivatives:
            self._derivatives[key] = add_all(
                self._partial(f, i) * self.derivative(a, g) for i, a in enumerate(f.args) if g in a.support
            )
        return self._derivatives[key]

    def _partial(self, f: Apply, i: int) -> Poly:
        if isinstance(f.fn, sp.Lambda):
            env = dict(zip(f.fn.variables, f.args, strict=True))
            return self.from_sympy(sp.diff(f.fn.expr, f.fn.variables[i]), env)
        factor, cls = f.fn.derived()
        return self.apply(cls, f.args).scale(factor)


def to_sympy(p: Poly, rename: Callable[[Gen], sp.Expr] | None = None) -> sp.Expr:
    """A polynomial as a sympy expression; ``rename`` overrides the symbol of a generator."""

    def of(g: Gen) -> sp.Expr:
        if rename is not None and (s := rename(g)) is not None:
            return s
        return g.fn(*(to_sympy(a, rename) for a in g.args)) if isinstance(g, Apply) else g.symbol

    def term(m: Any, c: Any) -> sp.Expr:
        factors = [of(g) if e == 1 else of(g) ** e for g, e in m]
        return factors[0] if c == 1 and len(factors) == 1 else sp.Mul(sp.sympify(c), *factors)

    terms = [term(m, c) for m, c in p.terms.items()]
    return terms[0] if len(terms) == 1 else sp.Add(*terms)
