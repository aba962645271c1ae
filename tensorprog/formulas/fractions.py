"""What stands below the line: 1/√v of a scalar v as a factor of a term, E[p,q]/√(v[p] v[q])."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, monomial, to_sympy

SIGN = re.compile(r"Σ_(?:\w |\()|\\sum")  # of a sum Σ_k, which Σ_N is not


@dataclass(frozen=True)
class Below:
    """A base, as a formula of other generators, with the power in which a term is divided by it."""

    base: sp.Expr
    args: dict[sp.Symbol, Poly]
    power: sp.Rational


def below(g: Gen, e: int) -> Below | None:
    """What the factor g^e divides by, where g is a negative power.

    >>> below(Scalar(1 / sp.sqrt(sp.Symbol("v"))), 2)
    Below(base=v, args={}, power=1)
    """
    if type(g) is Scalar:
        base, q = g.symbol.as_base_exp()
        return Below(base, {}, -q * e) if q.is_Rational and q.is_negative else None
    if isinstance(g, Apply) and isinstance(g.fn, sp.Lambda):
        base, q = g.fn.expr.as_base_exp()
        if q.is_Rational and q.is_negative:
            return Below(base, dict(zip(g.fn.variables, g.args, strict=True)), -q * e)
    return None


def split(mono: Any) -> tuple[list[tuple[Gen, int]], list[Below]]:
    """The factors of a monomial, and what it is divided by: of v²/v only v."""
    above, under = dict[Gen, int](), list[Below]()
    for g, e in mono:
        b = below(g, e)
        if b is None:
            above[g] = e
        else:
            under.append(b)
    kept = []
    for b in under:
        same = next((g for g in above if _is(b, g)), None)
        n = 0 if same is None else min(above[same], int(sp.floor(b.power)))
        if same is not None:
            above[same] -= n
        kept.append(replace(b, power=b.power - n))
    return [(g, e) for g, e in above.items() if e], [b for b in kept if b.power]


def _is(b: Below, g: Gen) -> bool:
    """Whether a base is one generator."""
    return b.args.get(b.base) == monomial(g) if b.args else type(g) is Scalar and b.base == g.symbol


def written(parts: Iterable[tuple[str, bool, sp.Rational]], tex: bool) -> list[str]:
    """Denominators by name, whether compound, and power: whole powers, then the root of what has half of one.

    >>> written([("v", False, sp.Rational(1, 2)), ("w", False, sp.Rational(3, 2)), ("z + 1", True, 1)], tex=False)
    ['w', '(z + 1)', 'sqrt(v·w)']
    """
    powers: dict[tuple[str, bool], Any] = {}
    for name, compound, power in parts:
        powers[name, compound] = powers.get((name, compound), 0) + power
    if len(powers) == 1 and set(powers.values()) == {1} and (tex or SIGN.match(next(iter(powers))[0])):
        return [next(iter(powers))[0]]  # a sum as the whole denominator
    whole, halves, others = [], [], []
    for (name, compound), power in sorted(powers.items(), key=lambda item: item[0][0].replace("'", "~")):  # x before x'
        n, rest = int(sp.floor(power)), power - sp.floor(power)
        if rest not in (0, sp.Rational(1, 2)):
            above = f"{{{power}}}" if tex else f"({power})"
            others.append(f"{_bracket(name, True, tex)}^{above}")
            continue
        if n:
            whole.append(_power(name, compound, n, tex))
        if rest:
            halves.append((name, compound))
    inside = [name if len(halves) == 1 else _bracket(name, c, tex) for name, c in halves]
    root = _root(inside, tex) if halves else []
    return [*whole, *others, *root]


def _root(names: Sequence[str], tex: bool) -> list[str]:
    inside = r" \, ".join(names) if tex else "·".join(names)
    return [rf"\sqrt{{{inside}}}" if tex else f"sqrt({inside})"]


def _power(name: str, compound: bool, n: int, tex: bool) -> str:
    base = _bracket(name, compound, tex)
    if n == 1:
        return base
    return f"{base}^{{{n}}}" if tex else base + str(n).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _bracket(name: str, compound: bool, tex: bool) -> str:
    return name if not compound else rf"\left({name}\right)" if tex else f"({name})"


def base_of(b: Below, rename: Any) -> sp.Expr:
    """The base in sympy, with the names of its generators."""
    return b.base.xreplace({s: to_sympy(p, rename) for s, p in b.args.items()})
