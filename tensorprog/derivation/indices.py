"""How the equations of a derivation over positions print: what indices its quantities have, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable

import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar, to_sympy
from tensorprog.derivation.derivation import Derivation
from tensorprog.dsl.trace import Datum
from tensorprog.expectations.atoms import Expect
from tensorprog.formulas.spelling import Windows
from tensorprog.formulas.summing import FREE, NOWHERE, SIZES, Sides, Spot, Summing, spread
from tensorprog.formulas.typeset import TEX, Line, Quotient, Style
from tensorprog.ir.axes import Everywhere, Map, Window
from tensorprog.ir.instructions import Var
from tensorprog.limit.equations import Name, children, reachable
from tensorprog.limit.positions import Along, At
from tensorprog.printing import NameSymbol

DELTA = ("δ[p,q] = 1 where p = q, else 0", r"$\delta_{pq} = 1$ where $p = q$, else 0")
WHOLE = "terms at positions that are no whole numbers are left out"
Leaf = Callable[[Gen], tuple[int, str]]


def maps_of(gens: Iterable[Gen]) -> list[Map]:
    """The maps whose offsets are summed over."""
    return [g.by.map for g in gens if isinstance(g, Along) and not isinstance(g.by.map, Everywhere)]


def views_of(d: Derivation) -> list[Map]:
    """The maps that embeddings read the inputs by."""
    return [p.by.map for p, _ in d.trace.grams.values() if p.by is not None]


class Indices:
    """What the quantities of a derivation are indexed by.

    Args:
        d: the derivation, over positions.
        leaf: rank and name of a quantity, without indices.
        short: the one entry by which an expectation's covariance is written, where there is one.
        style: text or LaTeX.
    """

    def __init__(self, d: Derivation, leaf: Leaf, short: Callable[[Expect], Poly | None], style: Style) -> None:
        assert d.limit.spatial is not None
        self.d, self.twins, self._leaf, self._known = d, d.limit.spatial.twins, leaf, dict[Gen, Sides]()
        first, second = (data[0].label for data in d.trace.inputs)
        self.labels = (first, second)
        self.gens = reachable([d.poly])
        windows = Windows.of([*views_of(d), *maps_of(self.gens)])
        self.summing = Summing(style, self.named, self.sides, self._data, short, windows, self.labels)

    def line(self, left: str, g: Gen | None, p: Poly) -> Line:
        """One equation; of the kernel itself, which has no positions, g is None."""
        spot = self._spot(g)
        return Line(left + self._index(g, spot), self.summing.terms(p, spot))

    def equation(self, symbol: NameSymbol, g: Gen | None, p: Poly, tex: Indices) -> sp.Eq:
        """One equation in sympy, whose quantities at positions are symbols."""
        spot = self._spot(g)
        left = NameSymbol(symbol.name + self._index(g, spot), TEX.expr(symbol) + tex._index(g, spot))

        def rename(h: Gen) -> sp.Expr | None:
            if type(h) is Scalar and self._data(h) is None:
                return None
            (_, name), (_, latex) = self.summing.show(spot)(h), tex.summing.show(spot)(h)
            return NameSymbol(name, latex) if not isinstance(name, Quotient) else name.symbol(latex)

        return sp.Eq(left, to_sympy(spread(p), rename), evaluate=False)

    def _spot(self, g: Gen | None) -> Spot:
        """p and q; of one input with itself both are p, or q."""
        sides = (None, None) if g is None else self.sides(g)
        one = {side for side in sides if side is not None}
        return NOWHERE if not one else Spot((FREE[min(one)],) * 2) if sides[0] == sides[1] else Spot()

    def _index(self, g: Gen | None, spot: Spot) -> str:
        return "" if g is None else self.summing.index(self.sides(g), spot)

    def named(self, g: Gen, both: int | None) -> tuple[int, str]:
        """A quantity of two inputs, or of one with itself."""
        rank, name = self._leaf(g)
        return rank, name if both is None else name.replace(_pair(self.labels), _pair((self.labels[both],) * 2))

    def sides(self, g: Gen) -> Sides:
        """Of which inputs the indices of a quantity are positions."""
        if g not in self._known:
            self._known[g] = self._sides(g)
        return self._known[g]

    def _sides(self, g: Gen) -> Sides:
        if isinstance(g, Name) and None not in g.about:
            first, second = sorted((self._side(v) for v in g.about if v is not None), key=lambda s: (s is None, s))
            return (second, first) if first is None else (first, second)
        inside = [side for p in children(g) for mono in p.terms for h, _ in mono for side in self.sides(h)]
        found = sorted({side for side in inside if side is not None})
        return (found[0], found[-1]) if found else (None, None)

    def _side(self, var: Var) -> int | None:
        return self.twins.input[var] if self.d.limit.program.axes(var) is not None else None

    def _data(self, g: Gen) -> tuple[Datum, Datum] | None:
        return self.d.trace.grams.get(g.symbol) if isinstance(g, Scalar) else None

    def said(self) -> list[str]:
        """What the indices are, and what the sums run over."""
        return said(self.summing, self.gens)


def _pair(labels: tuple[str, str]) -> str:
    return f"({labels[0]},{labels[1]})"


def said(summing: Summing, gens: Collection[Gen]) -> list[str]:
    """What the indices of formulas over positions are, and what sums run over: sentences."""
    along = [g for g in gens if isinstance(g, Along)]
    p, q, P, Q, x, y = (_math(t, summing.style) for t in (*FREE, *SIZES, *summing.labels))
    sizes = any(isinstance(g.by.map, Everywhere) and g.by.map.is_mean for g in along)
    of = (f" {P}", f" {Q}") if sizes else ("", "")
    layers = ", in every layer its own" if any(map(_resizes, summing.windows.maps)) else ""
    found = [f"{p} is one of the{of[0]} positions of {x}, {q} one of the{of[1]} of {y}{layers}"]
    found += [DELTA[summing.style.tex]] * any(map(_equal, along))
    found += [f"at two positions of {x} quantities are those of {x} and {y} for {y} = {x}"] * any(
        isinstance(g, At) for g in gens
    )
    found += summing.windows.said(summing.style)
    found += [WHOLE] * any(g.transpose and getattr(g.by.map, "stride", 1) != 1 for g in along)
    return found


def _math(text: str, style: Style) -> str:
    return f"${text}$" if style.tex else text


def _resizes(m: Map) -> bool:
    return not isinstance(m, Window) or m.stride != 1 or m.padding == "valid"


def _equal(g: Along) -> bool:
    """Whether p = q is asked for."""
    return g.how == "shared" and (g.transpose if isinstance(g.by.map, Everywhere) else not g.by.map.is_tied)
