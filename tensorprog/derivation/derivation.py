"""What deriving a kernel gives: a value in the equations of a limit, for inputs of given lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.limit.master import Limit

Length = int | None


@dataclass(frozen=True)
class Derivation:
    """A kernel between inputs of given lengths: the value ``poly`` in the equations of ``limit``."""

    trace: Trace
    limit: Limit
    poly: Poly


Derive = Callable[[Network, Sequence[Length]], Derivation]


class Trains(Protocol):
    """What is trained: the factors of the parameters of a trace, None where all are 1, and words for it."""

    @property
    def words(self) -> str: ...

    def of(self, trace: Trace) -> dict[str, sp.Expr] | None: ...
