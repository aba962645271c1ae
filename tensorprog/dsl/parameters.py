"""Parameters of a network: their trained scale, and how they start."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.dsl.laws import WeightLaw
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Map
from tensorprog.ir.instructions import Var

LAYERS = {"matrix": "dense", "embedding": "embed", "readout": "readout"}


@dataclass(frozen=True)
class Parameter:
    """A trainable parameter shared by name: ``kind`` is matrix, embedding, bias or readout.

    W = W_0 + std · w/√n with a trained w.  ``start`` is None when W_0 = 0 and w ~ N(0, 1) at first; otherwise
    w = 0 at first and W_0 is ``start``: a number, in all coordinates of a bias, times the identity for a matrix.
    ``by`` is the map whose offsets have a w each: of a convolution, of a flattening, of biases at positions.
    ``law`` is that of the entries of w where they are not N(0, 1).
    """

    key: Any
    kind: str
    std: sp.Expr
    var: Var | None = None
    start: sp.Expr | None = None
    by: Map | None = None
    law: WeightLaw | None = None

    @property
    def indices(self) -> tuple[int, ...]:
        """The integers of a key such as ("W", 2)."""
        return tuple(k for k in self.key if isinstance(k, int)) if isinstance(self.key, tuple) else ()

    @property
    def variance(self) -> sp.Expr:
        """Of the entries at first, times n for a matrix: std², or 0 where the start is given."""
        return self.std**2 if self.start is None else sp.S.Zero


def start_of(key: Any, kind: str, initial: Any) -> sp.Expr | None:
    """What ``initial=`` means for a kind of parameter.

    Raises:
        ProgramError: a start that this kind of parameter cannot have.
    """
    if initial is None:
        return None
    if kind == "bias":
        return exact(initial, f"initial of {shortly(key)}")
    if isinstance(initial, str):
        if kind == "matrix" and initial == "identity":
            return sp.S.One
    elif exact(initial, f"initial of {shortly(key)}") == 0:
        return sp.S.Zero
    known = '0 or "identity" (c·h + net.dense(.., h, initial=0) for c times the identity)' if kind == "matrix" else "0"
    raise ProgramError(
        f"initial of {shortly(key)} must be None, for random entries of standard deviation std, or "
        f"{known}; got {shortly(initial)}"
    )


def frozen_words(parameters: Iterable[tuple[str, Parameter]]) -> str | None:
    """A sentence on the layers that are 0 and stay 0, since their std is 0; None where there are none."""
    names = [f"{LAYERS[p.kind]} {name!r}" for name, p in parameters if p.kind in LAYERS and p.std == 0]
    if not names:
        return None
    return (
        f"{', '.join(names)}: std = 0, so that it is 0 and its gradient, which has the factor std, is 0 too: it is "
        "frozen. For a layer that starts at 0 and trains, give the std of its updates and initial=0"
    )
