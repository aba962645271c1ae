"""Further maps between positions: transposed windows, margins, families side by side, and matrices given as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from tensorprog.errors import DataError, shortly
from tensorprog.ir.axes import Everywhere, Map, Sizes, Window

Normalisation = Literal["none", "mean", "symmetric"]


@dataclass(frozen=True)
class Spread(Map):
    """The transpose of a window: position p reads the q with s q + d k = p, so that a stride makes sizes grow.

    >>> Spread(Window(3, stride=2)).reads((2,))
    array([[-1,  1, -1, -1],
           [ 0, -1,  1, -1],
           [-1,  0, -1,  1]])
    """

    window: Window

    def sizes_of(self, sizes: Sizes) -> Sizes:
        along = self.window.along(len(sizes))
        if self.window.padding == "valid":
            return tuple((n - 1) * s + (k - 1) * d + 1 for n, (k, s, d) in zip(sizes, along, strict=True))
        return tuple(n * s for n, (_, s, _) in zip(sizes, along, strict=True))

    def reads(self, sizes: Sizes) -> np.ndarray:
        read = self.window.reads(self.sizes_of(sizes))
        rows = np.full((len(read), np.prod(self.sizes_of(sizes))), -1)
        for row, m in zip(rows, read, strict=True):
            row[m[m >= 0]] = np.flatnonzero(m >= 0)
        return rows


class View(Map):
    """A map by which every position reads one position or none, with the factor 1."""

    @property
    def is_mean(self) -> bool:
        return False

    def shift(self, sizes: Sizes) -> tuple[Sizes, Sizes]:
        """The sizes of the result, and by how much p is ahead of what it reads, along each axis."""
        raise NotImplementedError

    def sizes_of(self, sizes: Sizes) -> Sizes:
        return self.shift(sizes)[0]

    def reads(self, sizes: Sizes) -> np.ndarray:
        result, ahead = self.shift(sizes)
        flat, absent = np.zeros((), int), np.zeros((), bool)
        for size, start, n in zip(result, ahead, sizes, strict=True):
            read = np.arange(size) - start
            flat = flat[..., None] * n + read
            absent = absent[..., None] | (read < 0) | (read >= n)
        return np.where(absent, -1, flat).reshape(1, -1)


@dataclass(frozen=True)
class Margins(View):
    """Positions added (0 there), or for negative numbers cut off, before and after those that there are.

    >>> Margins(1, -1).reads((3,))
    array([[-1,  0,  1]])
    """

    before: int | Sizes = 0
    after: int | Sizes = 0

    def shift(self, sizes: Sizes) -> tuple[Sizes, Sizes]:
        before, after = (self._along(v, len(sizes)) for v in (self.before, self.after))
        result = tuple(n + b + a for n, b, a in zip(sizes, before, after, strict=True))
        if min(result) < 1:
            raise DataError(f"of sizes {sizes} nothing is left with {before} positions before and {after} after")
        return result, before

    def _along(self, value: int | Sizes, ndim: int) -> Sizes:
        if isinstance(value, tuple) and len(value) != ndim:
            raise DataError(f"{self} has margins of {len(value)} axes, and its input has {ndim}")
        return value if isinstance(value, tuple) else (value,) * ndim


@dataclass(frozen=True)
class Beside(View):
    """Families of equal sizes one after the other along an axis: where number ``part`` of ``of`` comes to lie.

    >>> Beside(0, 1, 2).reads((2,))
    array([[-1, -1,  0,  1]])
    """

    axis: int
    part: int
    of: int

    def shift(self, sizes: Sizes) -> tuple[Sizes, Sizes]:
        if self.axis >= len(sizes):
            raise DataError(f"there is no axis {self.axis} of positions of sizes {sizes}")
        along = [i == self.axis for i in range(len(sizes))]
        result = tuple(n * self.of if here else n for n, here in zip(sizes, along, strict=True))
        return result, tuple(n * self.part if here else 0 for n, here in zip(sizes, along, strict=True))


@dataclass(frozen=True)
class Position(View):
    """One position, read by a vector without axes; counted from the end where it is negative.

    >>> Position((1, -1)).reads((2, 3))
    array([[5]])
    """

    place: int | Sizes

    def __str__(self) -> str:
        return f"position {self.place}"

    @property
    def is_whole(self) -> bool:
        return True

    def sizes_of(self, sizes: Sizes) -> Sizes:
        return ()

    def reads(self, sizes: Sizes) -> np.ndarray:
        place = self.place if isinstance(self.place, tuple) else (self.place,)
        if len(place) != len(sizes) or any(not -n <= p < n for p, n in zip(place, sizes, strict=True)):
            raise DataError(f"there is no position {self.place} among positions of sizes {sizes}")
        return np.array([[np.ravel_multi_index([p % n for p, n in zip(place, sizes, strict=True)], sizes)]])


@dataclass(frozen=True)
class Given(Map):
    """Weighted sums y[i] = Σ_p A[i,p] x[p] with a matrix A, or with ``pooled`` a vector, that comes with every input.

    ``name`` is its name among the arrays of an input.  With ``loops`` c it is A + c I; normalised by ``"mean"`` its
    rows sum to 1; ``"symmetric"`` divides by the roots of the sums of row and column; what sums to 0 stays 0.
    """

    name: str
    normalise: Normalisation = "none"
    loops: float = 0.0
    pooled: bool = False

    @property
    def is_mean(self) -> bool:
        return False

    @property
    def is_whole(self) -> bool:
        return self.pooled

    def sizes_of(self, sizes: Sizes) -> Sizes:
        return () if self.pooled else sizes

    def reads(self, sizes: Sizes) -> np.ndarray:
        raise DataError(f"{shortly(self.name)} is given with every input and is no map between sizes alone")

    def matrix(self, given: np.ndarray) -> np.ndarray:
        """What multiplies, (.., 1 or P, P), from what is given, (.., P) if pooled, (.., P, P) otherwise.

        Raises:
            DataError: a negative sum of a row or column, where roots are taken.

        >>> Given("A", "symmetric", loops=1).matrix(np.array([[0.0, 1.0], [1.0, 0.0]]))
        array([[0.5, 0.5],
               [0.5, 0.5]])
        """
        a = given[..., None, :] if self.pooled else given + self.loops * np.eye(given.shape[-1])
        if self.normalise == "none":
            return a
        rows, columns = a.sum(axis=-1, keepdims=True), a.sum(axis=-2, keepdims=True)
        if self.normalise == "mean":
            return a * _inverse(rows)
        if min(rows.min(), columns.min()) < 0:
            raise DataError(
                f"{shortly(self.name)} has rows or columns of negative sum: normalise='symmetric' takes their roots"
            )
        return a * _inverse(np.sqrt(rows)) * _inverse(np.sqrt(columns))


def _inverse(x: np.ndarray) -> np.ndarray:
    return np.divide(1.0, x, out=np.zeros_like(x), where=x != 0)


MAPS: dict[str, type[Map]] = {c.__name__: c for c in (Window, Everywhere, Spread, Margins, Beside, Position, Given)}
