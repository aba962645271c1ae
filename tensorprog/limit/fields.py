"""The Gaussian field y ↦ Ẑ^{Wy} of one matrix orientation, kept in linearly independent members."""

from __future__ import annotations

from collections.abc import Hashable
from fractions import Fraction
from typing import Any

from tensorprog.algebra import Gaussian, Poly, monomial
from tensorprog.ir.instructions import Var
from tensorprog.printing import NameSymbol


class Field:
    """Ẑ^{W·} is linear: a Ẑ^{Wy} whose Z^y is a numeric combination of earlier ones is that combination.

    Args:
        block: the key that its Gaussians share.
        variance: σ_W².
    """

    def __init__(self, block: Hashable, variance: Poly) -> None:
        self.block, self.variance = block, variance
        self.z: dict[Gaussian, Poly] = {}
        self._rows: dict[Any, tuple[Poly, Poly]] = {}  # pivot monomial -> (reduced Z^y, same combination of Ẑ)

    def gaussian(self, zy: Poly, source: Var, name: str) -> Poly:
        """Ẑ^{Wy} as a linear form, with a new base Gaussian where it is independent of the earlier ones."""
        rest, known = self._reduce(zy)
        if not rest:
            return known
        g = Gaussian(NameSymbol(f"Ẑ({name})", rf"\hat Z^{{{_latex(name)}}}"), self.block, source)
        self.z[g] = zy
        pivot = max(rest.terms, key=_age)
        factor = _inverse(rest.terms[pivot])
        row = rest.scale(factor)
        combination = (monomial(g) + known.scale(-1)).scale(factor)
        self._rows[pivot] = (row, combination)
        return monomial(g)

    def _reduce(self, zy: Poly) -> tuple[Poly, Poly]:
        """What is left of Z^y after eliminating the pivots, latest first, and the Ẑ of what was taken away."""
        rest, known = zy, Poly({})
        while pending := [m for m in rest.terms if m in self._rows]:
            pivot = max(pending, key=_age)
            row, combination = self._rows[pivot]
            c = rest.terms[pivot]
            rest, known = rest + row.scale(-c), known + combination.scale(c)
        return rest, known


def _age(mono: Any) -> tuple[int, ...]:
    """Latest generators first: new vectors almost always bring a new monomial, found at once."""
    return tuple(sorted((g.index for g, _ in mono), reverse=True))


def _inverse(c: Any) -> Any:
    return Fraction(1) / c if isinstance(c, (int, Fraction)) else 1 / c


def _latex(name: str) -> str:
    return name.replace("ᵀ", r"^\top").replace(" ", r"\,").replace("_", r"\_")
