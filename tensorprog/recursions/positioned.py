"""Folded equations of networks over positions, as ``formulas.summing`` writes them."""

from __future__ import annotations

from collections.abc import Callable

from tensorprog.algebra import Gen, Poly
from tensorprog.expectations.atoms import Expect
from tensorprog.formulas.in_words import maps_of
from tensorprog.formulas.spelling import Windows
from tensorprog.formulas.summing import Data, Sides, Summing
from tensorprog.formulas.typeset import SCALAR, Style
from tensorprog.limit.equations import reachable
from tensorprog.limit.positions import Along, Batched
from tensorprog.recursions.folding import At, Folded
from tensorprog.recursions.straight import GRAM, Family

Named = Callable[[At, tuple[str, str]], tuple[int, str]]  # rank and name of a quantity about two inputs


def forms_of(parts: list[Folded]) -> list[Poly]:
    """The right sides of folded equations."""
    return [case.form for folded in parts for case in (*folded.cases, *folded.terms)]


def has_positions(forms: list[Poly]) -> bool:
    """Whether quantities have positions."""
    return any(isinstance(g, (Along, Batched)) or (isinstance(g, At) and any(g.family.at)) for g in reachable(forms))


class Positioned:
    """How quantities of folded equations are indexed.

    Args:
        forms: the right sides.
        labels: of the inputs.
    """

    def __init__(self, forms: list[Poly], labels: tuple[str, str]) -> None:
        self.gens, self.labels = reachable(forms), labels
        views = [g.family.view[0] for g in self.gens if isinstance(g, At) and g.family.view is not None]
        self.windows = Windows.of([*views, *maps_of(self.gens)])

    def summing(self, style: Style, named: Named, short: Callable[[Expect], Poly | None]) -> Summing:
        """How the generators of one equation print.

        Args:
            style: text or LaTeX.
            named: rank and name of a quantity.
            short: the entry by which an expectation's covariance is written, where there is one.
        """

        def leaf(g: Gen, both: int | None) -> tuple[int, str]:
            if not isinstance(g, At):  # a hyperparameter, which prints as it is
                return SCALAR, ""
            return named(g, g.family.pair if both is None else (self.labels[both],) * 2)

        def sides(g: Gen) -> Sides:
            return self.sides(g.family) if isinstance(g, At) else (None, None)

        return Summing(style, leaf, sides, self._data, short, self.windows, self.labels)

    def sides(self, family: Family) -> Sides:
        """Of which inputs the indices of a quantity are positions; of scalars of pairs of them, two of one input."""
        if family.single:
            return (0, 1) if all(family.at) else (self.labels.index(family.pair[0]) if family.at[0] else None, None)
        first, second = (self.labels.index(x) if at else None for x, at in zip(family.pair, family.at, strict=True))
        return first, second

    def _data(self, g: Gen) -> Data | None:
        if not isinstance(g, At) or g.family.head != GRAM[0]:
            return None
        first, second = map(self.labels.index, g.family.pair)
        return Data((first, second), g.family.at, g.family.view)
