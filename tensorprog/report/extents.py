"""Maps between positions as they stand in pictures: 3×3, and 2×2 ↓2 with a stride of 2."""

from __future__ import annotations

from collections.abc import Collection
from functools import singledispatch

from tensorprog.ir.axes import Everywhere, Map, Window
from tensorprog.ir.instructions import MatMul, Mix
from tensorprog.ir.maps import Given


@singledispatch
def extent(m: Map) -> str:
    """How far a map reaches.

    >>> extent(Window((3, 3))), extent(Window(2, stride=2)), extent(Window(3, dilation=2, padding="valid"))
    ('3×3', '2 ↓2', '3 ‥2')
    """
    return str(m)


@extent.register
def _(m: Window) -> str:
    return f"{_across(m.kernel)}{_unless(m.stride, ' ↓')}{_unless(m.dilation, ' ‥')}"


@extent.register
def _(m: Everywhere) -> str:
    return ""


@extent.register
def _(m: Given) -> str:
    return m.name


def _across(n: int | tuple[int, ...]) -> str:
    return "×".join(map(str, n)) if isinstance(n, tuple) else str(n)


def _unless(n: int | tuple[int, ...], sign: str) -> str:
    return "" if n == 1 else sign + _across(n)


def convolved(matrix: str, op: MatMul) -> str:
    """W² ∗ 3×3, the label of a convolution; W²[p] where every position has weights of its own."""
    if op.by is None:
        return matrix
    return f"{matrix}{'' if op.by.map.is_tied else '[p]'} ∗ {extent(op.by.map)}"


def meanings(maps: Collection[Map], tied: bool) -> list[str]:
    """What the signs of these maps say.

    >>> meanings([Window(3, stride=2)], True)
    ['W ∗ 3: convolution over windows of 3', '↓2: stride 2']
    """
    windows = [m for m in maps if isinstance(m, Window)]
    first = next((m.kernel for m in windows), None)
    found = [f"W ∗ {_across(first)}: convolution over windows of {_across(first)}"] if first and tied else []
    found += [f"↓{_across(n)}: stride {_across(n)}" for n in dict.fromkeys(m.stride for m in windows) if n != 1]
    return found + [
        f"‥{_across(n)}: dilation {_across(n)}" for n in dict.fromkeys(m.dilation for m in windows) if n != 1
    ]


def gate_of(op: Mix) -> str:
    """mean 2×2 ↓2, the label of a weighted sum over positions; with ᵀ of what it gives back."""
    name = ("mean" if op.by.map.is_mean else "Σ") + "ᵀ" * op.transpose
    return f"{name} {extent(op.by.map)}".rstrip()
