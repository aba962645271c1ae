"""What deriving a kernel gives: a value in the equations of a limit, for inputs of given lengths."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import sympy as sp

from tensorprog.algebra import Poly, to_sympy
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.limit.master import Limit
from tensorprog.printing import Shown, counted, text

Length = int | None


@dataclass(frozen=True, repr=False)
class Derivation(Shown):
    """A kernel between inputs of given lengths: the value ``poly`` in the equations of ``limit``."""

    trace: Trace
    limit: Limit
    poly: Poly

    def text(self) -> str:
        """The kernel's value, in named quantities."""
        return f"derived from {counted(len(self.trace.program), 'instruction')}: {text(to_sympy(self.poly))}"


Derive = Callable[[Network, Sequence[Length]], Derivation]


class Trains(Protocol):
    """What is trained: the factors of the parameters of a trace, None where all are 1, and words for it."""

    @property
    def words(self) -> str: ...

    def of(self, trace: Trace) -> dict[str, sp.Expr] | None: ...
