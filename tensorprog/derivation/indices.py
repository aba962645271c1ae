"""How the equations of a derivation over positions print: the indices of its quantities, and what they mean."""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar
from tensorprog.derivation.derivation import Derivation
from tensorprog.expectations.atoms import Expect
from tensorprog.formulas.in_words import maps_of, said
from tensorprog.formulas.spelling import Windows
from tensorprog.formulas.summing import Data, Sides, Spot, Summing, in_sympy
from tensorprog.formulas.typeset import TEX, Line, Style
from tensorprog.ir.axes import Axes, Map, Pairs
from tensorprog.ir.instructions import Var
from tensorprog.limit.equations import Name, children, reachable
from tensorprog.limit.positions import At, Whole
from tensorprog.printing import NameSymbol

Leaf = Callable[[Gen], tuple[int, str]]


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
        """One equation; of the kernel itself, which has no positions unless they are members of a batch, g is None."""
        sides, spot = self._spot(g)
        return Line(left + self.summing.index(sides, spot), self.summing.terms(p, spot))

    def equation(self, symbol: NameSymbol, g: Gen | None, p: Poly, tex: Indices) -> sp.Eq:
        """One equation in sympy, whose quantities at positions are symbols; ``tex`` is the same in LaTeX."""
        sides, spot = self._spot(g)
        index = self.summing.index(sides, spot)
        left = NameSymbol(symbol.name + index, TEX.expr(symbol) + index)
        return sp.Eq(left, in_sympy(p, self.summing, tex.summing, spot), evaluate=False)

    def _spot(self, g: Gen | None) -> tuple[Sides, Spot]:
        own: Sides = (0, 1) if self.d.trace.batched else (None, None)  # of the kernel itself
        sides = own if g is None else self.sides(g)
        return sides, self.summing.spot(sides)

    def named(self, g: Gen, both: int | None) -> tuple[int, str]:
        """A quantity of two inputs, or of one with itself."""
        rank, name = self._leaf(g)
        if both is not None:
            for pair in (self.labels, self.labels[:1] * 2, self.labels[1:] * 2):
                name = name.replace(_pair(pair), "()")
            name = name.replace("()", _pair((self.labels[both],) * 2))
            if isinstance(g, Name) and g.kind == "value":
                name = name.replace(f"({self.labels[1 - both]})", f"({self.labels[both]})")
        return rank, name

    def sides(self, g: Gen) -> Sides:
        """Of which inputs the indices of a quantity are positions."""
        if g not in self._known:
            self._known[g] = self._sides(g)
        return self._known[g]

    def _sides(self, g: Gen) -> Sides:
        if isinstance(g, Name) and g.kind == "value" and isinstance(self._axes(g.about[0]), Pairs):
            return 0, 1  # two positions of one input
        if isinstance(g, Name) and g.kind == "value" and g.about[0] is not None:
            return self._side(g.about[0]), None
        if isinstance(g, Name) and None not in g.about:
            first, second = sorted((self._side(v) for v in g.about if v is not None), key=lambda s: (s is None, s))
            return (second, first) if first is None else (first, second)
        if (data := self._data(g)) is not None:
            return tuple(side if at else None for side, at in zip(data.sides, data.at, strict=True))  # type: ignore[return-value]
        inside = [side for p in children(g) for mono in p.terms for h, _ in mono for side in self.sides(h)]
        found = sorted({side for side in inside if side is not None})
        if found and isinstance(g, At) and not isinstance(g, Whole):
            return g.point, g.point
        return (found[0], found[-1]) if found else (None, None)

    def _axes(self, var: Var | None) -> Axes | Pairs | None:
        return None if var is None else self.d.limit.program.axes(var)

    def _side(self, var: Var) -> int | None:
        return self.twins.input[var] if self.d.limit.program.axes(var) is not None else None

    def _data(self, g: Gen) -> Data | None:
        found = self.d.trace.grams.get(g.symbol) if isinstance(g, Scalar) else None
        if found is None:
            return None
        a, b = found
        if a.mixes:
            return None
        view = None if a.by is None else (a.by.map, True)
        return Data((a.owner, b.owner), (a.axes is not None, b.axes is not None), view)

    def said(self) -> list[str]:
        """What the indices are, and what the sums run over."""
        return said(self.summing, self.gens)


def _pair(labels: tuple[str, str]) -> str:
    return f"({labels[0]},{labels[1]})"
