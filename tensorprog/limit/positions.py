"""Generators of what sums over positions give: arrays of numbers indexed by a position p of x and a position q of x'.

A quantity of a limit is a number for every pair of positions, Σ(x,x')[p,q], or for every position of one input,
Σ(x,x)[p,p].  Functions act on each; maps between positions (``ir.axes``) act on whole arrays:

    shared      (M C)[p,q] = (1/|w|) Σ_k C[m_k(p), m_k(q)]        of products with one matrix for every offset
    left        (A C)[p,q] = (1/|w|) Σ_k C[m_k(p), q]
    right       (C Aᵀ)[p,q]
    both        A C Aᵀ
"""

from __future__ import annotations

from typing import Any, Literal

from tensorprog.algebra import Gen, Poly
from tensorprog.ir.axes import Reading
from tensorprog.printing import NameSymbol

How = Literal["shared", "left", "right", "both"]


class Along(Gen):
    """A map applied to the array that a polynomial stands for.

    Args:
        by: the map.
        how: to which index it is applied.
        transpose: whether it is the transposed map.
        inner: the array.
        point: None for one indexed by two positions; of one indexed by a single position, the number of the input.
        symbol: what it prints as.
    """

    __slots__ = ("by", "how", "inner", "point", "transpose")

    def __init__(
        self, by: Reading, how: How, transpose: bool, inner: Poly, point: int | None, symbol: NameSymbol
    ) -> None:
        super().__init__(symbol)
        self.by, self.how, self.transpose, self.inner, self.point = by, how, transpose, inner, point

    def made_of(self) -> tuple[Any, ...]:
        return self.by, self.how, self.transpose, self.inner, self.point, self._symbol

    @property
    def key(self) -> tuple[Any, ...]:
        """What tells two apart, but for what they are applied to."""
        return self.by.map, self.how, self.transpose, self.point is None


class At(Gen):
    """The array of two inputs, taken for one input with itself at p = q: number ``point`` of the inputs."""

    __slots__ = ("inner", "point")

    def __init__(self, inner: Poly, point: int, symbol: NameSymbol) -> None:
        super().__init__(symbol)
        self.inner, self.point = inner, point

    def made_of(self) -> tuple[Any, ...]:
        return self.inner, self.point, self._symbol
