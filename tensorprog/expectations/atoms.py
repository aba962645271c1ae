"""Atoms: the expectations E Π φ_i(u_i) that no rule takes further, keyed so that equal ones are one name."""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator
from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gaussian, Gen, Poly, Scalar, affine, monomial, to_sympy
from tensorprog.functions import Abs, Fn, is_delta, jumps, latex_name, member, text_name
from tensorprog.printing import NameSymbol, latex, text

HIGHEST = 12  # derivative that is looked at for jumps


class Expect(Gen):
    """E body(u), u ~ N(mean, cov): ``cov`` lists the upper triangle row by row.

    Attributes:
        body: sympy expression in ``variables`` (and in names of scalars).
        variables: the Gaussian variables u1..uk.
        cov, mean: polynomials in scalars, names and other atoms.
        scalars: the scalar generators that ``body`` reads, by symbol.
        forms: affine forms in base Gaussians that have this law, one per variable.
    """

    __slots__ = ("body", "cov", "forms", "mean", "scalars", "variables")

    def __init__(self, body: sp.Expr, cov: tuple[Poly, ...], mean: tuple[Poly, ...],
                 scalars: dict[sp.Expr, Gen], forms: tuple[Poly, ...] = ()) -> None:  # fmt: skip
        super().__init__(None)
        self.body, self.cov, self.mean, self.scalars, self.forms = body, cov, mean, scalars, forms
        self.variables = variables(len(mean))

    def made_of(self) -> tuple[Any, ...]:
        return self.body, self.cov, self.mean, self.scalars, self.forms

    def printed(self) -> NameSymbol:
        """The expectation with its functions and covariances."""
        shown = [to_sympy(c) for c in (*self.cov, *(self.mean if any(self.mean) else ()))]
        head, tex = _head(self.body, self.variables, False), _head(self.body, self.variables, True)
        return NameSymbol(
            f"{head}({', '.join(map(text, shown))})", rf"{tex}\left[{', '.join(map(latex, shown))}\right]"
        )

    def entry(self, i: int, j: int) -> Poly:
        """Cov(u_i, u_j)."""
        i, j, k = min(i, j), max(i, j), len(self.mean)
        return self.cov[i * k - i * (i - 1) // 2 + j - i]


@functools.cache
def variables(k: int) -> tuple[sp.Symbol, ...]:
    """The Gaussian variables u1..uk of atoms."""
    return tuple(sp.Symbol(f"u{i + 1}", real=True) for i in range(k))


def head_of(g: Expect, tex: bool) -> str:
    """The letter of an expectation with its functions, as it prints: V[φ], E[φ]."""
    return _head(g.body, g.variables, tex)


def products(g: Expect, tex: bool = False) -> list[str] | None:
    """The functions of each variable when the body is a product of functions of single variables."""
    found = [_product(g.body, u, tex) for u in g.variables]
    return None if any(f is None for f in found) else [f for f in found if f is not None]


@functools.lru_cache(maxsize=1024)
def _head(body: sp.Expr, us: tuple[sp.Symbol, ...], tex: bool) -> str:
    """V_φ for E φ(u)φ(v) and E φ(u)²; V_{φ,ψ} for E φ(u)ψ(v); E_φ for E φ(u); else the body itself."""
    subscript = [_product(body, u, tex) for u in us]
    if any(s is None for s in subscript):
        letter, name = "E", latex(body) if tex else text(body)
    elif len(us) == 1:
        square = [f for f in sp.Mul.make_args(body) if f.as_base_exp()[1] == 2]
        if square == [body]:
            letter, name = "V", str(_product(square[0].as_base_exp()[0], us[0], tex))
        else:
            letter, name = "E", str(subscript[0])
    else:
        letter = "V"
        name = str(subscript[0]) if len(set(subscript)) == 1 else (", " if tex else ",").join(map(str, subscript))
    return rf"\mathsf{{{letter}}}_{{{name}}}" if tex else f"{letter}[{name}]"


def _product(body: sp.Expr, u: sp.Symbol, tex: bool) -> str | None:
    """The functions of u in a product of functions of single variables; None when the body is not one."""
    names = []
    for f in sp.Mul.make_args(body):
        base, e = f.as_base_exp()
        if not (isinstance(base, Fn) and base.args[0].is_Symbol):
            return None
        if base.args[0] == u:
            name = latex_name(type(base)) if tex else text_name(type(base))
            names.append(name if e == 1 else f"({name})^{{{e}}}" if tex else f"({name})^{e}")
    return (" " if tex else "·").join(sorted(names)) or None


def stein_ends(f: Apply) -> bool:
    """Whether derivatives of f bring no new Gaussian factors.

    None may stand in a product inside its arguments, nor in the derivative of its own formula: Stein turns E b φ(b c)
    into E c φ'(b c), and E b/(1 + b²) into E 1/(1 + b²) - 2 E b²/(1 + b²)², and so on for ever.  Such factors stay
    inside the atom.  |b| counts as one, since |b| sign b = b.
    """
    if isinstance(f.fn, sp.Lambda) and _brings_factors(f.fn, tuple(bool(a.support) for a in f.args)):
        return False
    for a in f.args:
        for mono in a.terms:
            random = [(g, e) for g, e in mono if g.support]
            if any(_is_factor(g) for g, _ in random) and (len(random) > 1 or random[0][1] > 1):
                return False
            if not all(stein_ends(g) for g, _ in random if isinstance(g, Apply)):
                return False
    return True


def _is_factor(g: Gen) -> bool:
    return isinstance(g, Gaussian) or (isinstance(g, Apply) and g.fn is Abs)


@functools.cache
def _brings_factors(formula: sp.Lambda, random: tuple[bool, ...]) -> bool:
    """Whether a first derivative in a random variable has a random variable as a factor of a term."""
    us = [u for u, is_random in zip(formula.variables, random, strict=True) if is_random]

    def bare(e: sp.Expr) -> bool:
        if e in us:
            return True
        inside = e.args if isinstance(e, (sp.Add, sp.Mul)) else (e.base,) if e.is_Pow and _natural(e.exp) else ()
        return any(map(bare, inside))

    return any(bare(sp.diff(formula.expr, u)) for u in us)


def smoothness(f: Apply) -> float:
    """How many derivatives of f are functions without Dirac deltas."""
    inner = [smoothness(g) for a in f.args for mono in a.terms for g, _ in mono if isinstance(g, Apply)]
    return min([_smooth_formula(f.fn) if isinstance(f.fn, sp.Lambda) else derivatives(f.fn), *inner])


@functools.cache
def derivatives(cls: type[Fn]) -> float:
    """How many derivatives of a member of the table are functions without Dirac deltas.

    >>> from tensorprog.functions import Delta, Elu, Relu, Step, Tanh
    >>> derivatives(Step), derivatives(Relu), derivatives(Elu), derivatives(Tanh), derivatives(Delta)
    (0, 1, 2, inf, -1)
    """
    if is_delta(cls):
        return -1 - cls.order
    orders = range(HIGHEST if cls.family.kinks else 0)
    return next((k for k in orders if jumps(member(cls.family, cls.order + k))), math.inf)


@functools.cache
def _smooth_formula(formula: sp.Lambda) -> float:
    classes: list[Any] = [type(g) for g in formula.expr.atoms(Fn)]
    powers = [e.exp for e in formula.expr.atoms(sp.Pow) if e.exp.is_number and not e.exp.is_Integer]
    return min([*map(derivatives, classes), *(0.0 for _ in powers)], default=math.inf)


def _natural(e: sp.Expr) -> bool:
    return bool(e.is_Integer and e > 0)


def random_arguments(factors: list[Gen]) -> list[Poly]:
    """The Gaussian variables that the factors are functions of, in order of first use.

    An affine argument is one variable; inside any other argument every base Gaussian and every affine
    argument of an inner function is.
    """
    seen: dict[Poly, None] = {}
    for f in factors:
        for a in f.args if isinstance(f, Apply) else (monomial(f),):
            seen.update(dict.fromkeys(_leaves(a)))
    return list(seen)


def _leaves(p: Poly) -> Iterator[Poly]:
    if affine(p) and p.support:
        yield p
        return
    for mono in p.terms:
        for g, _ in mono:
            if isinstance(g, Gaussian):
                yield monomial(g)
            elif isinstance(g, Apply):
                for a in g.args:
                    yield from _leaves(a)


def body_of(factors: list[tuple[Gen, int]], forms: list[Poly], scalars: dict[sp.Expr, Gen]) -> sp.Expr:
    """The product of the factors as a sympy expression in u1..uk; collects the scalars it reads."""
    places = {form: i for i, form in enumerate(forms)}
    if all(isinstance(f, Apply) and all(a in places for a in f.args) for f, _ in factors):
        return _body(tuple((f.fn, tuple(places[a] for a in f.args), e) for f, e in factors))  # type: ignore[attr-defined]
    us = dict(zip(forms, variables(len(forms)), strict=True))

    def poly(p: Poly) -> sp.Expr:
        return us[p] if p in us else to_sympy(p, generator)

    def generator(g: Gen) -> sp.Expr:
        if isinstance(g, Gaussian):
            return us[monomial(g)]
        if isinstance(g, Apply):
            return g.fn(*(poly(a) for a in g.args))
        expr: Any = g.symbol
        if expr.is_Symbol:
            scalars[expr] = g
        else:  # such as 1/c, which sympy may write into other terms
            scalars.update((c, scalars.get(c) or Scalar(c)) for c in expr.free_symbols)
        return expr

    return sp.Mul(*(generator(f) ** e for f, e in factors))


@functools.lru_cache(maxsize=4096)
def _body(factors: tuple[tuple[Any, tuple[int, ...], int], ...]) -> sp.Expr:
    """The product of functions of variables, as (function, places of its variables, power): the same for many atoms."""
    us = variables(1 + max(i for _, places, _ in factors for i in places))
    return sp.Mul(*(fn(*(us[i] for i in places)) ** e for fn, places, e in factors))
