"""How maps between positions are written: what p reads at offset k, what reads p, and what k runs over."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import singledispatch
from typing import Any

from tensorprog.formulas.typeset import Style
from tensorprog.ir.axes import Map, Window, ndims_of
from tensorprog.ir.maps import Given, Position, Spread, View

OUTSIDE = "terms outside are left out"
BORDERS = {  # what is said of positions beyond the border
    "same": OUTSIDE,
    "circular": "positions count modulo the sizes",
    "valid": f"windows lie inside, and {OUTSIDE}",
}


@singledispatch
def reads(m: Map, p: str, k: str) -> str:
    """The position that p reads at offset k.

    >>> reads(Window(3, stride=2, dilation=2), "p", "k"), reads(Window(3), "2p+k", "j")
    ('2p+2k', '2p+k+j')
    """
    return f"m_{k}({p})"


@reads.register
def _(m: Window, p: str, k: str) -> str:
    return f"{_times(m.stride, p)}+{_times(m.dilation, k)}"


@reads.register
def _(m: Spread, p: str, k: str) -> str:
    return read_by(m.window, p, k)


@reads.register
def _(m: View, p: str, k: str) -> str:
    return f"m({p})"


@reads.register
def _(m: Position, p: str, k: str) -> str:
    return f"({','.join(map(str, m.place))})" if isinstance(m.place, tuple) else str(m.place)


@singledispatch
def read_by(m: Map, p: str, k: str) -> str:
    """The position that reads p at offset k.

    >>> read_by(Window(3), "p", "k"), read_by(Window(2, stride=2), "p", "k")
    ('p-k', '(p-k)/2')
    """
    return f"m_{k}^-1({p})"


@read_by.register
def _(m: Window, p: str, k: str) -> str:
    back, stride = f"{p}-{_times(m.dilation, k)}", _single(m.stride)
    over = f"({','.join(map(str, m.stride))})" if isinstance(m.stride, tuple) and stride is None else str(stride)
    return back if stride == 1 else f"({back})/{over}"


@read_by.register
def _(m: Spread, p: str, k: str) -> str:
    return reads(m.window, p, k)


@read_by.register
def _(m: View, p: str, k: str) -> str:
    return f"m^-1({p})"


@singledispatch
def count(m: Map, ndim: int | None) -> int | None:
    """The number of offsets, None where it depends on sizes, or on a number of axes that is not known.

    >>> count(Window((3, 3)), None), count(Window(3), 2), count(Window(3), None)
    (9, 9, None)
    """
    return None


@count.register
def _(m: Window, ndim: int | None) -> int | None:
    kernel = _kernel(m, ndim)
    return None if kernel is None else math.prod(kernel)


@count.register
def _(m: Spread, ndim: int | None) -> int | None:
    return count(m.window, ndim)


@count.register
def _(m: View, ndim: int | None) -> int | None:
    return 1


def _kernel(m: Window, ndim: int | None) -> tuple[int, ...] | None:
    """The kernel along all axes."""
    if isinstance(m.kernel, tuple):
        return m.kernel
    return (1,) if m.kernel == 1 else None if ndim is None else (m.kernel,) * ndim


@singledispatch
def offsets(m: Map, ndim: int | None, label: str, style: Style) -> str:
    """What offsets run over.

    Args:
        m: the map.
        ndim: the number of axes, where it is known.
        label: of its window, where there are several.
        style: text or LaTeX.

    >>> from tensorprog.formulas.typeset import TEXT
    >>> offsets(Window(3), 2, "", TEXT), offsets(Window((2, 5)), 2, "w2", TEXT)
    ('k in {-1,0,1}²', 'k in w2 = {0,1}×{-2,..,2}')
    """
    return _math(f"m_k(p): what p reads by {m}", style)


@offsets.register
def _(m: Window, ndim: int | None, label: str, style: Style) -> str:
    kernel, within = _kernel(m, ndim), r" \in " if style.tex else " in "
    sets = [_span(0 if m.padding == "valid" else -((n - 1) // 2), n, style) for n in kernel or (_one(m),)]
    if kernel is not None:
        same = len(set(sets)) == 1 and len(sets) > 1
        product = style.power(sets[0], len(sets), False) if same else (r" \times " if style.tex else "×").join(sets)
        return _math(f"k{within}{label}{' = ' if label else ''}{product}", style)
    n, size = _one(m), _math(f"|{label or 'w'}|", style)
    along = _math(f"k{within}{label or 'w'} = {sets[0]}", style)
    return f"{along} along each axis ({size} = {n} in one dimension, {n**2} in two)"


@offsets.register
def _(m: Spread, ndim: int | None, label: str, style: Style) -> str:
    return offsets(m.window, ndim, label, style)


@offsets.register
def _(m: View, ndim: int | None, label: str, style: Style) -> str:
    return f"{_math('m(p)', style)} is what {_math('p', style)} reads by {m}"


@offsets.register
def _(m: Given, ndim: int | None, label: str, style: Style) -> str:
    a, other = _math(m.name, style), _math(f"{m.name}'", style)
    said = [f"normalised ({m.normalise})"] * (m.normalise != "none")
    said += [f"with {m.loops:g} added to its diagonal"] * bool(m.loops)
    return ", ".join([f"{a} comes with x, {other} with x'", *said])


def _one(m: Window) -> int:
    return m.kernel[0] if isinstance(m.kernel, tuple) else m.kernel


def _span(low: int, n: int, style: Style) -> str:
    shown = [low, low + 1, low + 2][:n] if n < 4 else [low, r"\dots" if style.tex else "..", low + n - 1]
    inside = ",".join(map(str, shown))
    return rf"\{{{inside}\}}" if style.tex else f"{{{inside}}}"


def _math(text: str, style: Style) -> str:
    return f"${text}$" if style.tex else text


def _single(extent: int | tuple[int, ...]) -> int | None:
    """The number that all axes have, if they do."""
    values = set(extent) if isinstance(extent, tuple) else {extent}
    return values.pop() if len(values) == 1 else None


def _times(extent: int | tuple[int, ...], p: str) -> str:
    """2p, or (1,2)p with a factor for each axis."""
    n = _single(extent)
    if n == 1:
        return p
    inner = p if p.isalpha() else f"({p})"
    return f"({','.join(map(str, extent))}){inner}" if isinstance(extent, tuple) and n is None else f"{n}{inner}"


@dataclass(frozen=True)
class Windows:
    """The maps of a kernel whose offsets are summed over, with a label for each kind of window.

    Attributes:
        maps: one of each kind.
        ndim: the number of axes, where a map says it.
    """

    maps: tuple[Map, ...]
    ndim: int | None = None

    @classmethod
    def of(cls, maps: Iterable[Map]) -> Windows:
        """Windows by what their offsets are, in the order in which they are met."""
        given, found = tuple(maps), dict[Any, Map]()
        ndim = min(ndims_of(given), default=None)
        for m in given:
            found.setdefault(_kind(m, ndim), m)
        return cls(tuple(found.values()), ndim)

    @property
    def windows(self) -> list[Map]:
        """Those with offsets."""
        return [m for m in self.maps if not isinstance(m, Given | View)]

    def label(self, m: Map) -> str:
        """w, or w1, w2, .. where there are several."""
        kinds = [_kind(other, self.ndim) for other in self.windows]
        return "w" if len(kinds) < 2 else f"w{kinds.index(_kind(m, self.ndim)) + 1}"

    def domain(self, k: str, m: Map, style: Style) -> str:
        """k, or k ∈ w2 where there are several windows."""
        if len(self.windows) < 2:
            return k
        return rf"{k} \in {self.written(m, style)}" if style.tex else f"{k}∈{self.label(m)}"

    def written(self, m: Map, style: Style) -> str:
        """The label of a window as a formula."""
        label = self.label(m)
        return f"w_{{{label[1:]}}}" if style.tex and label[1:] else label

    def size(self, m: Map, style: Style) -> str:
        """|w|, or the number that it is."""
        number = count(m, self.ndim)
        return f"|{self.written(m, style)}|" if number is None else str(number)

    def said(self, style: Style) -> list[str]:
        """What their offsets are, and what stands outside: once where it is the same for all."""
        several = len(self.windows) > 1
        lines = [offsets(m, self.ndim, self.written(m, style) if several else "", style) for m in self.maps]
        borders = [BORDERS[m.padding] if isinstance(m, Window) else "" for m in self.maps]
        if not any(borders):
            return lines
        if len(set(borders)) == 1:
            return [*lines, *([borders[0]] if borders[0] else [])]
        return [f"{line}, where {border}" if border else line for line, border in zip(lines, borders, strict=True)]


def _kind(m: Map, ndim: int | None) -> Any:
    return (_kernel(m, ndim) or m.kernel, m.padding) if isinstance(m, Window) else m
