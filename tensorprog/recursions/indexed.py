"""Printing folded equations: indices l, t, t + τ, their ranges, and one line for all pairs of inputs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar, to_sympy
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.formulas.in_words import said as at_positions
from tensorprog.formulas.legend import legend, said
from tensorprog.formulas.summing import Spot, Summing, in_sympy
from tensorprog.formulas.typeset import (
    ATOM,
    LINEAR,
    QUANTITY,
    SCALAR,
    TEX,
    TEXT,
    Line,
    Style,
    Term,
    as_latex,
    as_text,
    terms,
)
from tensorprog.formulas.typeset import GRAM as GRAM_RANK
from tensorprog.limit.equations import reachable
from tensorprog.printing import NameSymbol, inner, latex, text
from tensorprog.recursions.folding import At, Case, Folded
from tensorprog.recursions.merged import merged
from tensorprog.recursions.positioned import Positioned, forms_of, has_positions
from tensorprog.recursions.ranges import T2, TAU, Bound, L, T
from tensorprog.recursions.straight import GRAM, Family

INDEX = sp.symbols("l t l' t'", integer=True)  # of the four places
SIZE = {"L": L, "T": T, "T'": T2}
Exprs = tuple[sp.Expr | None, ...]


class Quantity(sp.Expr):  # type: ignore[misc]
    """A quantity at an index: args are its letter, the labels of its inputs, and its indices."""

    is_commutative = True
    is_real = True

    def __new__(cls, head: sp.Symbol, pair: sp.Tuple, layers: sp.Tuple, times: sp.Tuple) -> Quantity:
        return sp.Expr.__new__(cls, head, pair, layers, times)  # type: ignore[no-any-return]

    def _sympystr(self, printer: Any) -> str:
        return self._written(text, "⟨{}{},{}{}⟩")

    def _latex(self, printer: Any) -> str:
        return self._written(latex, r"\langle {}_{{{}}},{}_{{{}}}\rangle").replace("_{}", "")

    def _written(self, show: Any, gram: str) -> str:
        head, (a, *others), layers, times = self.args
        b = others[0] if others else a
        shown = [show(i).replace(" ", "") for i in (*layers, *times)]
        if head.name == GRAM[0]:
            t, t2 = (_subscript(i) for i in shown) if show is text and shown else shown or ("", "")
            return gram.format(a, t, b, t2)
        index = ",".join(shown)
        power = f"^({index})" if show is text else f"^{{({index})}}"
        return f"{show(head)}{power if index else ''}({','.join(map(str, self.args[1]))})"


def _subscript(i: str) -> str:
    """1, _t or _(t+τ)."""
    return i if i.isdecimal() else f"_{i}" if i.strip("'").isalpha() else f"_({i})"


def quantity(family: Family, index: Exprs) -> sp.Expr:
    """A family at an index; equal layers are written once, data of several arrays by their names."""
    if family.names is not None:
        return inner(*family.names)
    copy = "" if family.copy == 1 else f"_{{[{family.copy}]}}"
    head = NameSymbol(f"{family.head}{'' if family.copy == 1 else f'.{family.copy}'}", family.tex + copy)
    l, t, l2, t2 = index
    layers = [i for i in ([l] if l == l2 else [l, l2]) if i is not None]
    times = [] if t is None and t2 is None else [t, t2]
    pair = family.pair[:1] if family.single else family.pair
    return Quantity(head, sp.Tuple(*map(sp.Symbol, pair)), sp.Tuple(*layers), sp.Tuple(*times))


# ---- indices ---------------------------------------------------------------------------------------


def written(b: Bound, coordinates: Exprs = ()) -> sp.Expr:
    """A bound as a formula."""
    if b.at >= 0:
        value = coordinates[b.at]
        return (value if value is not None else 0) + b.shift
    base = {"": sp.S.Zero, "tau": TAU, "-tau": -TAU, **SIZE}.get(b.base)
    return sp.Max(b.shift, b.shift - TAU) if base is None else base + b.shift


def _neat(e: sp.Expr | None) -> sp.Expr | None:
    """T + τ is T'."""
    if e is None:
        return None
    e = sp.expand(e)
    return e - T - TAU + T2 if e.coeff(TAU) == 1 and e.coeff(T) == 1 else e


@dataclass(frozen=True)
class Placed:
    """The index of an equation as formulas, and the ranges of what stays free."""

    index: Exprs
    ranges: tuple[tuple[sp.Symbol, sp.Expr, sp.Expr], ...]


def placed(case: Case, folded: Folded, end: bool = False) -> Placed:
    """Index and ranges of a case; a coordinate with one value is replaced by it."""
    layout = folded.layouts.get(case.family)
    if layout is None:
        return Placed((None,) * 4, ())
    index: list[sp.Expr | None] = [None] * 4
    ranges: list[tuple[sp.Symbol, sp.Expr, sp.Expr]] = []
    free: list[sp.Expr | None] = []
    for k, lower, upper in zip(layout.free, case.box.lower, case.box.upper, strict=True):
        low, high = (written(b, tuple(free)) for b in (lower, upper))
        single = lower == upper and lower.base != "start"
        index[k] = low if single else INDEX[k if k != 3 or 1 in layout.free else 1]
        free.append(index[k])
        if not single:
            ranges.append((index[k], low, high))
    for k, bound in layout.fixed:
        index[k] = (index[bound.at] or 0) + written(Bound(bound.base, bound.shift))
    return Placed(tuple(map(_neat, index)), tuple(ranges))


def at_index(g: At, own: Exprs) -> Exprs:
    """The index of a reference in an equation with index ``own``."""
    return tuple(None if b is None else _neat(written(b, own)) for b in g.shift)


# ---- the printer -----------------------------------------------------------------------------------


class Printer:
    """Equations of a recursion as sympy, text and LaTeX.

    Args:
        parts: folded equations, each with how T and T' are related there ("" when any, else "=" or "≠").
        kernel: what was folded.
        depth: the hyperparameter L.
    """

    def __init__(self, parts: Sequence[tuple[str, Folded]], kernel: Any, depth: str | None = None) -> None:
        self.parts, self.kernel, self.depth = parts, kernel, depth
        forms, labels = forms_of([folded for _, folded in parts]), labels_of(parts)
        self.positions = Positioned(forms, labels) if has_positions(forms) else None

    def rules(self) -> Iterator[tuple[sp.Eq, tuple[Any, ...]]]:
        """Equations with the ranges (index, lowest, highest) where they hold; the kernel last, part by part."""
        for _, folded in self.parts:
            yield from self._rules(folded)

    def _rules(self, folded: Folded) -> Iterator[tuple[sp.Eq, tuple[Any, ...]]]:
        for case in folded.cases:
            p = placed(case, folded)
            right = self._sympy(case.form, p.index, case.family)
            yield sp.Eq(self._left(case.family, p.index), right, evaluate=False), p.ranges
        total = []
        for case in folded.terms:
            p = placed(case, folded)
            term = self._sympy(case.form, p.index, None)
            total.append(sp.Sum(term, *p.ranges) if p.ranges else term)
        yield sp.Eq(self._total, sp.Add(*total), evaluate=False), ()

    def text(self) -> str:
        """The recursion as text."""
        lines, notes = self._lines(TEXT)
        atoms, grams = self._atoms()
        head = [self._title(), *legend(atoms, short=True, grams=grams), *self._said(TEXT), *self._steps(TEXT)]
        return "\n".join([*head, "", as_text(lines), *(["", *notes] if notes else [])])

    def latex(self, closed: bool = False) -> str:
        """The recursion as LaTeX."""
        lines, notes = self._lines(TEX)
        atoms, grams = self._atoms()
        long = [g for g in atoms if not self._short(g)]
        return as_latex(lines, said(atoms, long, closed, grams, [*self._steps(TEX), *notes], self._said(TEX)))

    def _title(self) -> str:
        net, depth = self.kernel.net, self.depth
        given = ", ".join(f"{k}={v}" for k, v in net.hyperparameters.items() if k != depth)
        sizes = {"L": f"{depth} L", "T": "lengths T and T', τ = T' - T"}
        over = ", ".join(sizes[s] for s in self.parts[0][1].sizes if s in sizes)
        return f"{self.kernel.kind.upper()} of {net.name}({given}), {over}{self.kernel._training}"

    def _atoms(self) -> tuple[list[Expect], bool]:
        """The expectations that occur, and whether inner products of data do."""
        gens = reachable([c.form for _, folded in self.parts for c in (*folded.cases, *folded.terms)])
        grams = any(isinstance(g, At) and g.family.head == GRAM[0] for g in gens)
        return [g for g in gens if isinstance(g, Expect)], grams

    def _steps(self, style: Style) -> list[str]:
        """What the letters of moments taken step by step mean."""
        letters = {c.family.head for _, folded in self.parts for c in folded.cases}
        return [words[style.tex] for letter, words in STEPS.items() if letter in letters]

    def _short(self, g: Expect) -> bool:
        """Whether an expectation is written by one entry of its covariance, wherever it occurs."""
        return all(
            short_covariance(g, placed(case, folded).index) is not None
            for _, folded in self.parts
            for case in (*folded.cases, *folded.terms)
            if g in reachable([case.form])
        )

    def _lines(self, style: Style) -> tuple[list[Line], list[str]]:
        found: list[Line] = []
        notes: dict[str, None] = {}
        for related, folded in self.parts:
            kept, said = merged([(case.family, self._line(case, folded, style)) for case in folded.cases], style)
            heading = [Line(RELATED[related][style.tex], [])] if related else []
            found += [*heading, *kept, self._kernel_line(folded, style)]
            notes |= dict.fromkeys(said)
        return found, list(notes)

    def _kernel_line(self, folded: Folded, style: Style) -> Line:
        found: list[tuple[bool, list[Term]]] = []
        for case in folded.terms:
            p = placed(case, folded)
            parts = self._terms(case.form, p.index, None, style)
            if p.ranges:
                sign, factors = parts[0]
                parts = [(sign, (f"{_sum_sign(p, style)} {factors[0]}", *factors[1:]))]
            found.append((not p.ranges, parts))
        found.sort(key=lambda f: f[0])
        return Line(style.expr(self._total), [t for _, parts in found for t in parts] or [("+", ("0",))])

    def _line(self, case: Case, folded: Folded, style: Style) -> Line:
        p = placed(case, folded)
        left = style.expr(self._left(case.family, p.index))
        return Line(left, self._terms(case.form, p.index, case.family, style), _ranges(p, style))

    # ---- at positions --------------------------------------------------------------------------------

    def _terms(self, form: Poly, own: Exprs, family: Family | None, style: Style) -> list[Term]:
        """A right side, of a quantity of a family or of the kernel."""
        if self.positions is None:
            return terms(form, style, partial(_show, own=own, style=style))
        summing, spot = self._at(own, family, style)
        return summing.terms(form, spot)

    def _sympy(self, form: Poly, own: Exprs, family: Family | None) -> sp.Expr:
        if self.positions is None:
            return _sympy(form, own)
        (text_, spot), (tex, _) = (self._at(own, family, style) for style in (TEXT, TEX))
        return in_sympy(form, text_, tex, spot)

    @property
    def _total(self) -> sp.Symbol:
        """The kernel's value; between members of batches at p and q."""
        symbol = self.kernel.symbol
        if not self.kernel.net.takes_batches:
            return symbol
        return NameSymbol(f"{text(symbol)}[p,q]", f"{latex(symbol)}[p,q]")

    def _left(self, family: Family, own: Exprs) -> sp.Expr:
        left = quantity(family, own)
        if self.positions is None or not any(family.at):
            return left
        summing, spot = self._at(own, family, TEXT)
        index = summing.index(self.positions.sides(family), spot)
        return NameSymbol(text(left) + index, latex(left) + index)

    def _at(self, own: Exprs, family: Family | None, style: Style) -> tuple[Summing, Spot]:
        """How the generators of an equation print, and where it stands."""
        assert self.positions is not None

        def named(g: At, pair: tuple[str, str]) -> tuple[int, str]:
            rank = LINEAR if g.family.linear else QUANTITY
            return rank, style.expr(quantity(replace(g.family, pair=pair), at_index(g, own)))

        def short(g: Expect) -> Poly | None:
            return None if short_covariance(g, own) is None else g.cov[len(g.cov) // 2]

        summing = self.positions.summing(style, named, short)
        return summing, summing.spot((None, None) if family is None else self.positions.sides(family))

    def _said(self, style: Style) -> list[str]:
        """What the indices of positions mean."""
        if self.positions is None:
            return []
        summing, _ = self._at((), None, style)
        return at_positions(summing, self.positions.gens)


def labels_of(parts: Sequence[tuple[str, Folded]]) -> tuple[str, str]:
    """The labels of the two inputs."""
    pairs = [case.family.pair for _, folded in parts for case in folded.cases]
    return next((pair for pair in pairs if pair[0] != pair[1]), ("x", "x'"))


def _sum_sign(p: Placed, style: Style) -> str:
    if style.tex:
        return " ".join(rf"\sum_{{{latex(i)}={latex(a)}}}^{{{latex(b)}}}" for i, a, b in p.ranges)
    return " ".join(f"Σ_({text(i)}={_bound(a)}..{_bound(b)})" for i, a, b in p.ranges)


def _ranges(p: Placed, style: Style) -> str:
    show, le, comma = (latex, r" \le ", r",\ ") if style.tex else (_bound, " ≤ ", ", ")
    shown = ((show(a), show(i), show(b)) for i, a, b in p.ranges)
    return comma.join(f"{i} = {a}" if a == b else le.join((a, i, b)) for a, i, b in shown)


def _bound(e: sp.Expr) -> str:
    return text(e).replace(" ", "").replace("Max", "max")


RELATED = {
    "=": ("for T = T':", r"\text{for } T = T'\colon"),
    "≠": ("for T ≠ T':", r"\text{for } T \ne T'\colon"),
}
STEPS = {  # the letters of equations that take moments step by step
    "C": ("z^(l) = z^(l-1) + r^(l): E = E z z', C = E z r' with z at the smaller index",
          r"Of $z^{(l)} = z^{(l-1)} + r^{(l)}$, $\mathsf{E} = \mathsf{E}\, z z'$ and $C = \mathsf{E}\, z r'$ "
          "with $z$ at the smaller index."),
    "D": ("D = E dz dz', of gradients", r"$D = \mathsf{E}\, dz\, dz'$, of gradients."),
    "B": ("B = E (Wᵀ dh) dz', of gradients", r"$B = \mathsf{E}\, (W^\top dh)\, dz'$, of gradients."),
    "Ψ": ("Ψ is the coefficient of E dz dz' in the kernel",
          r"$\Psi$ is the coefficient of $\mathsf{E}\, dz\, dz'$ in the kernel."),
    "Φ": ("Φ is that of E (Wᵀ dh) dz'", r"$\Phi$ is that of $\mathsf{E}\, (W^\top dh)\, dz'$."),
}  # fmt: skip


def _show(g: Gen, own: Exprs, style: Style) -> tuple[int, str]:
    if isinstance(g, At):
        rank = LINEAR if g.family.linear else GRAM_RANK if g.family.head == GRAM[0] else QUANTITY
        return rank, style.expr(quantity(g.family, at_index(g, own)))
    if isinstance(g, Expect):
        return ATOM, _atom(g, own, style)
    return SCALAR, ""


def _atom(g: Expect, own: Exprs, style: Style) -> str:
    """V_φ[Σ^(i,j)(x,x')] where the covariance is that of one family, else V_φ[q, c, q']."""
    head = head_of(g, style.tex)
    short = short_covariance(g, own)
    if short is not None:
        inside = [style.expr(short)]
    else:
        given = [*g.cov, *(g.mean if any(g.mean) else ())]
        inside = [style.expr(_sympy(c, own)) for c in given]
    joined = ", ".join(inside)
    return rf"{head}\bigl[{joined}\bigr]" if style.tex else f"{head}({joined})"


def short_covariance(g: Expect, own: Exprs) -> sp.Expr | None:
    """Σ^(i,j)(x,x') when the covariance is Σ^(i,i)(x,x), Σ^(i,j)(x,x'), Σ^(j,j)(x',x')."""
    if any(g.mean) or len(g.mean) > 2:
        return None
    ats = [next(iter(c.terms))[0][0] for c in g.cov if list(c.terms.values()) == [1] and len(next(iter(c.terms))) == 1]
    if len(ats) != len(g.cov) or not all(isinstance(a, At) and a.family.head == ats[0].family.head for a in ats):
        return None
    index = [at_index(a, own) for a in ats]
    pairs = [a.family.pair for a in ats]
    if len(ats) == 1:
        return (
            quantity(ats[0].family, index[0]) if pairs[0][0] == pairs[0][1] and index[0][:2] == index[0][2:] else None
        )
    first, second = index[1][:2], index[1][2:]
    a, b = pairs[1]
    fits = (index[0], index[2]) == ((*first, *first), (*second, *second)) and (pairs[0], pairs[2]) == ((a, a), (b, b))
    return quantity(ats[1].family, index[1]) if fits else None


def _sympy(p: Poly, own: Exprs) -> sp.Expr:
    def rename(g: Gen) -> sp.Expr | None:
        if isinstance(g, At):
            return quantity(g.family, at_index(g, own))
        if isinstance(g, Expect):
            return NameSymbol(_atom(g, own, TEXT), _atom(g, own, TEX))
        return g.symbol if isinstance(g, Scalar) else None

    return to_sympy(p, rename)
