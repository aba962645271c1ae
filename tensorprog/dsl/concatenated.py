"""Vectors side by side: what a concatenation of channels is until a layer reads it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn, TypeVar

import sympy as sp

from tensorprog.dsl.program import Vec
from tensorprog.dsl.refusals import NotAnArray

T = TypeVar("T")


@dataclass(frozen=True)
class Channels(NotAnArray):
    """k vectors of n coordinates side by side, one of k n; functions act on each, layers read all."""

    WHAT = "a concatenation of vectors"

    parts: tuple[Vec, ...]

    def __repr__(self) -> str:
        return f"[{', '.join(map(str, self.parts))}]"

    def map(self, layer: Callable[[Vec], Vec]) -> Channels:
        """The concatenation of what a layer makes of each."""
        return Channels(tuple(map(layer, self.parts)))

    def read(self, key: Any, std: Any, layer: Callable[[Any, Vec, sp.Expr], T]) -> T:
        """W [x¹, .., x^k] = Σ W^i x^i, whose fan-in k n makes the scale of each std/√k."""
        scale = sp.sympify(std) / sp.sqrt(len(self.parts))
        first, *others = [layer(_own(key, i), x, scale) for i, x in enumerate(self.parts, 1)]
        for other in others:
            first = first + other  # type: ignore[operator]  # vectors, or outputs
        return first

    def _instead(self, name: str) -> str:
        return f'tp.relu({self}) for a function of each, net.dense("W", ..), net.conv or net.readout for a layer of all'

    def _no_operator(self, *other: Any) -> NoReturn:
        self._refuse(f"arithmetic with {self}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_operator
    __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = __matmul__ = __rmatmul__ = _no_operator


def _own(key: Any, i: int) -> Any:
    """The key of the weights of part i, in the same layer."""
    return (f"{key[0]}.{i}", *key[1:]) if isinstance(key, tuple) and key else f"{key}.{i}"
