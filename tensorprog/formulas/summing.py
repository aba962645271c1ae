"""Formulas of quantities with positions: Σ^(2)(x,x')[p,q] = σ_w²/9 Σ_k V[relu](Σ^(1)(x,x')[p+k,q+k]) + σ_b².

Every quantity is an array over positions p of x and q of x'.  An equation is written for generic p and q: a map
between positions is a sum over the offsets k of its window, in which everything stands at p + k and q + k.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import sympy as sp

from tensorprog.algebra import ONE, Apply, Gen, Poly, Scalar, add_all, monomial, to_sympy
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.formulas.batches import batched
from tensorprog.formulas.fractions import split
from tensorprog.formulas.softmaxes import head
from tensorprog.formulas.spelling import Windows, read_by, reads
from tensorprog.formulas.typeset import (
    ATOM,
    GRAM,
    SCALAR,
    SUM,
    Quotient,
    Show,
    Style,
    Term,
    apart,
    bottom,
    divided,
    shown,
    terms,
)
from tensorprog.ir.axes import Everywhere, Map
from tensorprog.ir.maps import Given, Position, View
from tensorprog.limit.positions import (
    Along,
    At,
    Batched,
    Causal,
    Contracted,
    Drawn,
    How,
    Mean,
    Positional,
    Rows,
    Soft,
    Weighed,
    Whole,
)
from tensorprog.printing import NameSymbol

Sides = tuple[int | None, int | None]  # of which input each index of a quantity is a position; None where it has none
OFFSETS, PLACES, SIZES = "kjimnabc", ("pq", "rs", "tu", "vw", "yz", "ef", "gh"), ("P", "P'")
PRIMES = ("", "'")
FREE = ("p", "q")


@dataclass(frozen=True)
class Data:
    """What is said of the inner product ⟨ξ,ξ'⟩ of two data.

    Attributes:
        sides: the numbers of their inputs.
        at: whether they have positions.
        view: the map that reads them, and whether what it reads stands side by side; None where nothing does.
    """

    sides: tuple[int, int]
    at: tuple[bool, bool]
    view: tuple[Map, bool] | None = None


@dataclass(frozen=True)
class Spot:
    """Where a formula is read: at a position of x and one of x'.

    Attributes:
        at: the positions, as formulas.
        bound: how many letters for offsets, and pairs of letters for positions, are taken.
        both: the input that both positions belong to, where an array of two inputs is taken for one.
    """

    at: tuple[str, str] = FREE
    bound: tuple[int, int] = (0, 1)
    both: int | None = None


@dataclass(frozen=True)
class Body:
    """What a sum runs over: the ranks of its factors, how these print, and what stands below them."""

    ranks: list[int]
    parts: Sequence[str]
    over: Sequence[str] = ()


NOWHERE = Spot(bound=(0, 0))  # of a quantity without positions


@dataclass(frozen=True)
class Summing:
    """How generators print at positions.

    Args:
        style: text or LaTeX.
        leaf: rank and name of a quantity, of two inputs or of one with itself.
        sides: what its indices are positions of.
        data: what is said of an inner product.
        short: the one entry by which the covariance of an expectation is written, where there is one.
        windows: the labels of windows.
        labels: of the inputs.
    """

    style: Style
    leaf: Callable[[Gen, int | None], tuple[int, str]]
    sides: Callable[[Gen], Sides]
    data: Callable[[Gen], Data | None]
    short: Callable[[Expect], Poly | None]
    windows: Windows
    labels: tuple[str, str]

    def show(self, spot: Spot) -> Show:
        """How generators print at a spot."""
        return partial(self._show, spot=spot)

    def spot(self, sides: Sides) -> Spot:
        """Where the equation of a quantity stands: p and q; of one input with itself both are p, or q."""
        one = {side for side in sides if side is not None}
        return NOWHERE if not one else Spot((FREE[min(one)],) * 2) if sides[0] == sides[1] else Spot()

    def terms(self, p: Poly, spot: Spot) -> list[Term]:
        """The terms of a right side."""
        alone = next((g for mono in p.terms for g, _ in mono), None)
        if isinstance(alone, At) and p == monomial(alone):  # an equation about one input
            here = spot.at if isinstance(alone, Whole) else (spot.at[alone.point],) * 2
            return self.terms(alone.inner, replace(spot, at=here, both=alone.point))
        return terms(self.spread(p), self.style, self.show(spot))

    def spread(self, p: Poly) -> Poly:
        """A polynomial whose lines can be broken: sums over all positions are taken term by term, and what does not
        depend on positions stands outside of them."""
        parts = []
        for mono, c in p.terms.items():
            term = Poly({tuple(f for f in mono if not (isinstance(f[0], Along) and f[1] == 1)): c})
            for g, e in mono:
                term = term * self._opened(g) if isinstance(g, Along) and e == 1 else term
            parts.append(term)
        return add_all(parts)

    def _opened(self, g: Along) -> Poly:
        inner, everywhere = self.spread(g.inner), isinstance(g.by.map, Everywhere)
        if everywhere and g.transpose:
            return inner * monomial(Along(g.by, g.how, True, ONE, g.point))
        if len(inner.terms) == 1 or everywhere:
            return add_all(self._outside(g, mono, c) for mono, c in inner.terms.items())
        return monomial(Along(g.by, g.how, g.transpose, inner, g.point))

    def _outside(self, g: Along, mono: Any, c: Any) -> Poly:
        """Constants before a sum."""
        constant = tuple(f for f in mono if type(f[0]) is Scalar and not self.data_in(f[0]))
        array = Poly({tuple(f for f in mono if f not in constant): 1})
        return Poly({constant: c}) * monomial(Along(g.by, g.how, g.transpose, array, g.point))

    def data_in(self, g: Gen) -> list[sp.Symbol]:
        """The inner products of data that a scalar is made of."""
        read = g.symbol.free_symbols if type(g) is Scalar else ()
        return sorted((s for s in read if self.data(Scalar(s)) is not None), key=str)

    def index(self, sides: Sides, spot: Spot) -> str:
        """[p,q]"""
        found = [spot.at[side] for side in sides if side is not None]
        return f"[{','.join(found)}]" if found else ""

    def _show(self, g: Gen, spot: Spot) -> tuple[int, str]:
        if isinstance(g, Along):
            return SUM, self._along(g, spot)
        if isinstance(g, Whole):
            return self._factor(g.inner, replace(spot, both=g.point))
        if isinstance(g, Weighed | Rows):
            return SUM, self._scored(g, spot)
        if isinstance(g, Causal):
            p, q = spot.at
            return SCALAR, rf"\mathbf{{1}}[{q} \le {p}]" if self.style.tex else f"1[{q}≤{p}]"
        if isinstance(g, Contracted):
            return SUM, self._attended(g, spot)
        if isinstance(g, Drawn | Soft | Mean):
            return ATOM, self._drawn(g, spot)
        if isinstance(g, At):
            here = spot.at[g.point]
            return self._factor(g.inner, replace(spot, at=(here, here), both=g.point))
        if isinstance(g, Batched):
            return ATOM, batched(g, self.style, partial(self._whole, spot=spot), f"[{','.join(spot.at)}]")
        if isinstance(g, Expect):
            return ATOM, self._atom(g, spot)
        if isinstance(g, Apply):
            return shown(g, self.style, self.show(spot))
        if (data := self.data(g)) is not None:
            return self._inner(data, spot)
        if found := self.data_in(g):
            names = {s: NameSymbol(name, name) for s in found if (name := self._show(Scalar(s), spot)[1])}
            return SCALAR, self.style.expr(g.symbol.xreplace(names))
        rank, name = self.leaf(g, spot.both)
        return rank, name + self.index(self.sides(g), spot)

    def _whole(self, p: Poly, spot: Spot) -> str:
        """The array that a polynomial stands for: the letter of a quantity, or a formula with dots for positions."""
        ((mono, c), *more) = p.terms.items()
        if not more and c == 1 and len(mono) == 1 and mono[0][1] == 1 and not isinstance(mono[0][0], Positional):
            g = mono[0][0]
            if self.data(g) is None and not self.data_in(g) and (name := self.leaf(g, spot.both)[1]):
                return name
        return self._sum(p, replace(spot, at=("·", "·") if not self.style.tex else (r"\cdot", r"\cdot")))

    # ---- expectations and data ---------------------------------------------------------------------------

    def _atom(self, g: Expect, spot: Spot) -> str:
        short = self.short(g)
        given = [short] if short is not None else [*g.cov, *(g.mean if any(g.mean) else ())]
        inside = ", ".join(self._sum(p, spot) for p in given)
        head = head_of(g, self.style.tex)
        return rf"{head}\bigl[{inside}\bigr]" if self.style.tex else f"{head}({inside})"

    def _inner(self, data: Data, spot: Spot) -> tuple[int, str]:
        """⟨x[p],x'[q]⟩, summed over the windows that an embedding of patches reads."""
        labels = [self.labels[side if spot.both is None else spot.both] for side in data.sides]
        here = (spot.at[data.sides[0]], spot.at[data.sides[1]])
        if data.view is None:
            return GRAM, self._bracket(labels, [p if at else None for p, at in zip(here, data.at, strict=True)])
        m, stacked = data.view
        return SUM, self._window(m, "shared" if stacked else "both", False, here, spot,
                                 lambda there, _: Body([GRAM], [self._bracket(labels, there)]))  # fmt: skip

    def _bracket(self, labels: list[str], at: Sequence[str | None]) -> str:
        shown = [x if p is None else f"{x}[{p}]" for x, p in zip(labels, at, strict=True)]
        return rf"\langle {shown[0]},{shown[1]}\rangle" if self.style.tex else f"⟨{shown[0]},{shown[1]}⟩"

    # ---- sums over positions -----------------------------------------------------------------------------

    def _along(self, g: Along, spot: Spot) -> Quotient:
        if isinstance(g.by.map, Everywhere):
            return self._back(g, spot) if g.transpose else self._everywhere(g, spot)
        if isinstance(g.by.map, Position) and g.transpose:
            return self._at_one(g, g.by.map, spot)
        return self._window(g.by.map, g.how, g.transpose, spot.at, spot,
                            lambda there, bound: self._body(g.inner, replace(spot, at=there, bound=bound)),
                            apart=g.point is None)  # fmt: skip

    def _window(self, m: Map, how: How, transpose: bool, at: tuple[str, str], spot: Spot,
                body: Callable[[tuple[str, str], tuple[int, int]], Body],
                apart: bool = True) -> Quotient:  # fmt: skip
        """Σ_k of what stands at the positions that are read, over |w|."""
        if isinstance(m, Given):
            return self._given(m, how, transpose, at, spot, body)
        letters = OFFSETS[spot.bound[0] :][: 2 if how == "both" else 1]
        step = read_by if transpose else reads
        k, j = letters[0], letters[-1]
        there = (at[0] if how == "right" else step(m, at[0], k), at[1] if how == "left" else step(m, at[1], j))
        summed = body(there, (spot.bound[0] + len(letters), spot.bound[1]))
        sums = self._sign(self.windows.domain(",".join(letters), m, self.style))
        over = [self.windows.size(m, self.style)] * len(letters) if m.is_mean else []
        untied = how == "shared" and not m.is_tied and apart and at[0] != at[1]
        first = summed.parts[0] if isinstance(m, View) else f"{sums} {summed.parts[0]}"
        parts = [*([self._delta(at)] if untied else []), first, *summed.parts[1:]]
        return Quotient(parts, [*over, *summed.over], summed.ranks, self.style)

    def _given(self, m: Given, how: How, transpose: bool, at: tuple[str, str], spot: Spot,
               body: Callable[[tuple[str, str], tuple[int, int]], Body]) -> Quotient:  # fmt: skip
        """Σ_(r,s) A[p,r] A'[q,s] C[r,s], with a matrix that comes with each input."""
        used = [i for i in (0, 1) if how == "both" or how == ("left", "right")[i]]
        primes = [PRIMES[i if spot.both is None else spot.both] for i in (0, 1)]
        if m.pooled and transpose:  # what has no positions, given to all of them
            summed = body(at, spot.bound)
            parts = [f"{m.name}{primes[i]}[{at[i]}]" for i in used] + [part for part in summed.parts if part != "1"]
            return Quotient(parts, summed.over, summed.ranks, self.style)
        letters = {i: PLACES[spot.bound[1]][i] for i in used}
        entries = []
        for i, r in letters.items():
            indices = [r] if m.pooled else [r, at[i]] if transpose else [at[i], r]
            entries.append(f"{m.name}{primes[i]}[{','.join(indices)}]")
        there = (letters.get(0, at[0]), letters.get(1, at[1]))
        summed = body(there, (spot.bound[0], spot.bound[1] + 1))
        first = f"{self._sign(','.join(letters.values()))} {entries[0]}"
        return Quotient([first, *entries[1:], *summed.parts], summed.over, summed.ranks, self.style)

    def _scored(self, g: Weighed | Rows, spot: Spot) -> Quotient:
        """Σ_(r,s) a[p,r] a'[q,s] C[r,s] with scalars a, a' of pairs of positions of one input, and Σ_r a[p,r]."""
        bound = (spot.bound[0], spot.bound[1] + 1)
        sums = {0: g} if isinstance(g, Rows) else _sides_of(g)
        letters = {i: PLACES[spot.bound[1]][i] for i in sorted(sums)}
        parts: list[str] = []
        over: list[str] = []
        ranks: list[int] = []
        for i, r in letters.items():
            h = sums[i]
            both = h.point if isinstance(h, Rows) else i if spot.both is None else spot.both
            pair = (r, spot.at[i]) if isinstance(h, Weighed) and h.transpose else (spot.at[i], r)
            weights = self._body(h.inner if isinstance(h, Rows) else h.weights, Spot(pair, bound, both))
            parts, over, ranks = [*parts, *weights.parts], [*over, *weights.over], weights.ranks
        if isinstance(g, Weighed):
            inner = sums[max(sums, key=lambda i: sums[i] is not g)].inner
            there = (letters.get(0, spot.at[0]), letters.get(1, spot.at[1]))
            summed = self._body(inner, replace(spot, at=there, bound=bound))
            parts, over, ranks = [*parts, *summed.parts], [*over, *summed.over], summed.ranks
        parts = [f"{self._sign(','.join(letters.values()))} {parts[0]}", *parts[1:]]
        return Quotient(parts, over, ranks, self.style)

    def _attended(self, g: Contracted, spot: Spot) -> Quotient:
        """Σ_(r,s) S(A[p,q]; B[r,s])·C[r,s], or of what stands at [p,q] in B and is summed over the positions of A."""
        there = (PLACES[spot.bound[1]][0], PLACES[spot.bound[1]][1])
        within = replace(spot, at=there, bound=(spot.bound[0], spot.bound[1] + 1))
        rows, columns = (within, spot) if g.transpose else (spot, within)
        read = [(g.rows, rows), (g.columns, columns), (g.slope_rows, rows), (g.slope_columns, columns)]
        inside = "; ".join(self._sum(p, at) for p, at in read if p is not None)
        body = self._body(g.inner, within)
        first = f"{self._sign(','.join(there))} {head(g, self.style.tex)}({inside})"
        return Quotient([first, *(part for part in body.parts if part != "1")], body.over, body.ranks, self.style)

    def _drawn(self, g: Drawn | Soft | Mean, spot: Spot) -> str:
        """Random scores, their softmax, and what is averaged over them."""
        tex = self.style.tex
        if isinstance(g, Mean):
            found = self._sum(g.inner, spot)
            return rf"\mathsf{{E}}\bigl[{found}\bigr]" if tex else f"E[{found}]"
        own = replace(spot, both=g.point)
        if isinstance(g, Soft):
            upto = (r"q \le p" if tex else "q≤p") if g.causal else "q"
            found = self._sum(g.inner, own)
            return rf"\mathrm{{softmax}}_{{{upto}}}\bigl({found}\bigr)" if tex else f"softmax_{upto}({found})"
        rows, columns = (self._sum(p, own) for p in (g.rows, g.columns))
        return rf"\mathcal{{N}}({rows}; {columns})" if tex else f"N({rows}; {columns})"

    def _everywhere(self, g: Along, spot: Spot) -> Quotient:
        """Σ_p C[p,p]/P, Σ_{p,q} C[p,q]/(P P'), and the same without weights."""
        p, q = tuple(PLACES[spot.bound[1]])
        at = {"shared": (p, p), "both": (p, q), "left": (p, spot.at[1]), "right": (spot.at[0], q)}[g.how]
        letters = {"shared": p, "both": f"{p},{q}", "left": p, "right": q}[g.how]
        body = self._body(g.inner, Spot(at, (spot.bound[0], spot.bound[1] + 1), spot.both))
        parts = [f"{self._sign(letters)} {body.parts[0]}", *body.parts[1:]]
        return Quotient(parts, [*body.over, *self._sizes(g, spot)], body.ranks, self.style)

    def _back(self, g: Along, spot: Spot) -> Quotient:
        """The transposed map: what has no positions, at all of them."""
        same = g.how == "shared" and g.point is None and spot.at[0] != spot.at[1]
        body = self._body(g.inner, replace(NOWHERE, both=spot.both))
        factors = [*([self._delta(spot.at)] if same else []), *(part for part in body.parts if part != "1")]
        return Quotient(factors, [*body.over, *self._sizes(g, spot)], body.ranks, self.style)

    def _at_one(self, g: Along, m: Position, spot: Spot) -> Quotient:
        """What has no positions, at the one position that read it."""
        body, place = self._body(g.inner, spot), reads(m, "p", "k")
        used = {"both": [0, 1], "left": [0], "right": [1], "shared": [0, 1]}[g.how]
        one, equal = (r"\mathbf{1}", " = ") if self.style.tex else ("1", "=")
        here = dict.fromkeys(f"{one}[{spot.at[i]}{equal}{place}]" for i in used)
        parts = [*here, *(part for part in body.parts if part != "1")]
        return Quotient(parts, body.over, body.ranks, self.style)

    def _sizes(self, g: Along, spot: Spot) -> list[str]:
        if not g.by.map.is_mean:
            return []
        sides = {"shared": [0 if g.point is None else g.point], "both": [0, 1], "left": [0], "right": [1]}[g.how]
        return [SIZES[side if spot.both is None else spot.both] for side in sides]

    def _delta(self, at: tuple[str, str]) -> str:
        simple = all(len(p) == 1 for p in at)
        between = "" if simple else ","
        return rf"\delta_{{{at[0]}{between}{at[1]}}}" if self.style.tex else f"δ[{at[0]},{at[1]}]"

    def _sign(self, letters: str) -> str:
        if self.style.tex:
            return rf"\sum_{{{letters}}}"
        return f"Σ_{letters}" if len(letters) == 1 else f"Σ_({letters.replace(' ', '')})"

    # ---- polynomials in one line -------------------------------------------------------------------------

    def _body(self, p: Poly, spot: Spot) -> Body:
        """What is summed: in brackets where it is a sum; of one term the numbers below it are handed on."""
        above, powers = split(next(iter(p.terms), ()))
        under = bottom(powers, self.style, self.show(spot)) if len(p.terms) == 1 else []
        shown = [(*self._show(g, spot), e) for mono in p.terms for g, e in mono if not under or (g, e) in above]
        ranks = [k for rank, name, _ in shown for k in (name.ranks if isinstance(name, Quotient) else [rank])]
        alone = list(p.terms.values()) == [1] and all(e == 1 for *_, e in shown)
        if not alone:
            found = self._sum(p, spot)
            return Body(ranks, [f"({found})" if len(p.terms) > 1 or found.startswith("-") else found])
        ordered = [name for _, name, _ in sorted(shown, key=lambda f: f[:2]) if name]
        over = [o for name in ordered if isinstance(name, Quotient) for o in name.over]
        return Body(ranks, divided(apart(ordered, self.style), under, self.style) or ["1"], over)

    def _factor(self, p: Poly, spot: Spot) -> tuple[int, str]:
        """A polynomial as one factor."""
        ((mono, c), *more) = p.terms.items()
        if not more and c == 1 and len(mono) == 1 and mono[0][1] == 1:
            return self._show(mono[0][0], spot)
        body = self._body(p, spot)
        shown = body.parts[0] if more else f"({self._sum(p, spot)})"
        return max(body.ranks, default=SCALAR), shown

    def _sum(self, p: Poly, spot: Spot) -> str:
        found = ""
        for n, (sign, factors) in enumerate(terms(p, self.style, self.show(spot))):
            lead = ("-" if sign == "-" else "") if n == 0 else f" {sign} "
            found += lead + self.style.times.join(factors)
        return found


def _sides_of(g: Weighed) -> dict[int, Weighed]:
    """The weighted sums over the positions of each input, of what may be one over those of both."""
    inner = next((h for mono in g.inner.terms for h, _ in mono), None)
    nested = isinstance(inner, Weighed) and g.inner == monomial(inner) and inner.how != g.how
    return {("left", "right").index(h.how): h for h in ([g, inner] if nested else [g])}  # type: ignore[misc, union-attr]


# ---- in sympy --------------------------------------------------------------------------------------------


def in_sympy(p: Poly, text: Summing, tex: Summing, spot: Spot) -> sp.Expr:
    """A right side whose quantities at positions are symbols, with their texts and their LaTeX."""

    def rename(g: Gen) -> sp.Expr | None:
        if isinstance(g, Apply) or (type(g) is Scalar and not text.data_in(g)):
            return None
        if type(g) is Scalar and text.data(g) is None:
            return g.symbol.xreplace({s: rename(Scalar(s)) for s in text.data_in(g)})
        (_, name), (_, latex) = text.show(spot)(g), tex.show(spot)(g)
        return NameSymbol(name, latex) if not isinstance(name, Quotient) else name.symbol(latex)

    return to_sympy(text.spread(p), rename)
