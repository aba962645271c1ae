"""Families of vectors over positions, and the maps between them.

A family x[p] has a vector at every position p of a grid (H, W), or of the nodes of a graph.  A map says what the
positions of one family read of another: position p reads m_k(p) for the offsets k of a window.  It is used in two
ways, by instructions that hold a ``Reading``:

    shared  h[p] = (1/√|w|) Σ_k W_k x[m_k(p)]      a convolution (one W_k per offset: ``MatMul``)
    linear  y[p] = (1/|w|) Σ_k x[m_k(p)]           an average (``Mix``)

Absent positions are 0.  Maps know no sizes: what they read of a grid is a table, made when data come.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tensorprog.errors import DataError

Sizes = tuple[int, ...]
Padding = Literal["same", "valid", "circular"]
PROBES = (61, 64, 90, 113)  # sizes at which maps that give equal sizes there are taken to do so always


@dataclass(frozen=True)
class Map:
    """What every position of a family reads of another one.

    ``reads(sizes)`` is a table (|w|, P) of flat positions, -1 for absent ones; ``sizes_of(sizes)`` those of the result.
    ``is_mean`` is False for sums, which have no factor 1/|w|; ``is_tied`` where positions have weights of their own.
    """

    @property
    def is_mean(self) -> bool:
        """Whether what is read is multiplied by 1/|w|."""
        return True

    @property
    def is_tied(self) -> bool:
        """Whether all positions share their weights."""
        return True

    @property
    def is_whole(self) -> bool:
        """Whether one vector without axes reads all positions."""
        return False

    def sizes_of(self, sizes: Sizes) -> Sizes:
        """The sizes of the family that reads, given those of the family that is read."""
        raise NotImplementedError

    def reads(self, sizes: Sizes) -> np.ndarray:
        """The table of flat positions."""
        raise NotImplementedError

    def weight(self, sizes: Sizes) -> float:
        """1/|w|, or 1 for a sum."""
        return 1 / len(table(self, sizes)) if self.is_mean else 1.0


@functools.lru_cache(maxsize=256)
def table(of: Map, sizes: Sizes) -> np.ndarray:
    """``of.reads(sizes)``, kept."""
    found = of.reads(sizes)
    found.setflags(write=False)
    return found


@dataclass(frozen=True)
class Window(Map):
    """Position p reads s p + d k for offsets k of a centred window; ``kernel``, ``stride`` and ``dilation`` are one
    number for all axes, or one for each.  With ``tied`` false every position has weights of its own.

    >>> Window(3).reads((4,))
    array([[-1,  0,  1,  2],
           [ 0,  1,  2,  3],
           [ 1,  2,  3, -1]])
    >>> Window(2, stride=2, padding="valid").sizes_of((7, 6))
    (3, 3)
    """

    kernel: int | Sizes = 3
    stride: int | Sizes = 1
    dilation: int | Sizes = 1
    padding: Padding = "same"
    tied: bool = True

    def __str__(self) -> str:
        """How it is called in listings and messages.

        >>> print(Window((3, 5), stride=2), Window(2, padding="valid"), sep="; ")
        windows of 3×5, stride 2; windows of 2, valid
        """
        said = [f"windows of {_across(self.kernel)}"]
        said += [f"{what} {_across(value)}" for what, value in (("stride", self.stride), ("dilation", self.dilation))
                 if value != 1]  # fmt: skip
        said += [self.padding] * (self.padding != "same") + ["untied"] * (not self.tied)
        return ", ".join(said)

    @property
    def is_tied(self) -> bool:
        return self.tied

    def sizes_of(self, sizes: Sizes) -> Sizes:
        return tuple(self._size(n, *along) for n, along in zip(sizes, self._axes(len(sizes)), strict=True))

    def reads(self, sizes: Sizes) -> np.ndarray:
        axes = [self._axis(n, *along) for n, along in zip(sizes, self._axes(len(sizes)), strict=True)]
        windows = [range(len(a)) for a in axes]
        rows = []
        for offsets in itertools.product(*windows):
            flat, absent = np.zeros((), int), np.zeros((), bool)
            for a, k, n in zip(axes, offsets, sizes, strict=True):
                flat = flat[..., None] * n + a[k]
                absent = absent[..., None] | (a[k] < 0)
            rows.append(np.where(absent, -1, flat).ravel())
        return np.array(rows)

    def along(self, ndim: int) -> list[tuple[int, int, int]]:
        """Kernel, stride and dilation of each axis."""
        return self._axes(ndim)

    def _axes(self, ndim: int) -> list[tuple[int, int, int]]:
        columns = []
        for what in ("kernel", "stride", "dilation"):
            value = getattr(self, what)
            if isinstance(value, tuple) and len(value) != ndim:
                raise DataError(f"{self} has a {what} of {len(value)} axes, and its input has {ndim}")
            columns.append(value if isinstance(value, tuple) else (value,) * ndim)
        return list(zip(*columns, strict=True))

    def _size(self, n: int, kernel: int, stride: int, dilation: int) -> int:
        if self.padding != "valid":
            return -(-n // stride)
        span = (kernel - 1) * dilation + 1
        if span > n:
            raise DataError(
                f"a window of {span} positions does not fit into {n} with padding='valid'; use 'same' or larger inputs"
            )
        return (n - span) // stride + 1

    def _axis(self, n: int, kernel: int, stride: int, dilation: int) -> np.ndarray:
        """Positions read along one axis, (kernel, size)."""
        start = 0 if self.padding == "valid" else -((kernel - 1) // 2) * dilation
        read = (
            start + dilation * np.arange(kernel)[:, None] + stride * np.arange(self._size(n, kernel, stride, dilation))
        )
        return read % n if self.padding == "circular" else np.where((read < 0) | (read >= n), -1, read)


def _across(extent: int | Sizes) -> str:
    """3, or 3×5."""
    return "×".join(map(str, extent)) if isinstance(extent, tuple) else str(extent)


@dataclass(frozen=True)
class Everywhere(Map):
    """One position, the only one of a vector without axes, reads all: shared it is a flattening, linear the mean, or
    the sum where it is not ``weighted``."""

    weighted: bool = True

    def __str__(self) -> str:
        return "all positions" + " (sum)" * (not self.weighted)

    @property
    def is_mean(self) -> bool:
        return self.weighted

    @property
    def is_whole(self) -> bool:
        return True

    def sizes_of(self, sizes: Sizes) -> Sizes:
        return ()

    def reads(self, sizes: Sizes) -> np.ndarray:
        return np.arange(math.prod(sizes))[:, None]


TOTAL = Everywhere(weighted=False)


@dataclass(frozen=True)
class Axes:
    """The axes of a family: those of an input, after some maps; compared by the sizes that they give."""

    source: str
    maps: tuple[Map, ...] = ()

    def at(self, sizes: Sizes) -> Sizes:
        """Their sizes, given those of the input."""
        return functools.reduce(lambda n, m: m.sizes_of(n), self.maps, sizes)

    def after(self, m: Map) -> Axes | None:
        """The axes of what reads a family with these by a map; None for a vector without axes."""
        if m.is_whole:
            return None
        found = Axes(self.source, (*self.maps, m))
        return self if found == self else found

    def _key(self, ndim: int) -> tuple[Sizes | None, ...]:
        return tuple(_probe(self.maps, n, ndim) for n in PROBES)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Axes) or self.source != other.source:
            return False
        if self.maps == other.maps:
            return True
        known = ndims_of(self.maps) | ndims_of(other.maps)
        return len(known) < 2 and all(self._key(n) == other._key(n) for n in known or {1, 2})

    def __hash__(self) -> int:
        return hash(self.source)


@functools.lru_cache(maxsize=4096)
def _probe(maps: tuple[Map, ...], n: int, ndim: int) -> Sizes | None:
    try:
        return functools.reduce(lambda sizes, m: m.sizes_of(sizes), maps, (n,) * ndim)
    except DataError:
        return None


def ndims_of(maps: tuple[Map, ...]) -> set[int]:
    """How many axes there are, as far as maps say so."""
    return {len(v) for m in maps if isinstance(m, Window) for v in (m.kernel, m.stride, m.dilation)
            if isinstance(v, tuple)}  # fmt: skip


@dataclass(frozen=True)
class Pairs:
    """The axes of scalars for every position p of one family and q of another, such as scores of attention."""

    left: Axes
    right: Axes

    @property
    def source(self) -> str:
        """The input that both belong to."""
        return self.left.source

    def at(self, sizes: Sizes) -> Sizes:
        """The sizes of both, given those of the input."""
        return (*self.left.at(sizes), *self.right.at(sizes))


@dataclass(frozen=True)
class Reading:
    """A map, and the axes of the family that it reads."""

    map: Map
    axes: Axes | None

    def result(self, transpose: bool) -> Axes | None:
        """The axes of what comes out."""
        if transpose:
            return self.axes
        return None if self.axes is None else self.axes.after(self.map)
