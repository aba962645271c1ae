"""What deriving a kernel gives: a value in the equations of a limit, for inputs of given lengths."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tensorprog.algebra import Poly, to_sympy
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.limit.master import Interpreter
from tensorprog.printing import Shown, counted, text

Length = int | None


@dataclass(frozen=True, repr=False)
class Derivation(Shown):
    """A kernel between inputs of given lengths: the value ``poly`` in the equations of ``limit``.

    One made by ``derived`` travels to another process as the question, and is derived there again: its polynomial
    and its limit speak of the same generators.

    Attributes:
        trace: the network, traced on the inputs.
        limit: of its program.
        poly: the value.
        question: what was derived, where it can be asked again.
    """

    trace: Trace
    limit: Interpreter
    poly: Poly
    question: tuple[Derive, Network, tuple[Length, ...]] | None = field(default=None, compare=False)

    def __deepcopy__(self, memo: Any) -> Derivation:
        return self  # it answers the same questions in the same way for ever

    def __reduce__(self) -> Any:
        if self.question is None:
            raise pickle.PicklingError("this derivation cannot be pickled: pickle the kernel that derived it")
        return derived, self.question

    def text(self) -> str:
        """The kernel's value, in named quantities."""
        return f"derived from {counted(len(self.trace.program), 'instruction')}: {text(to_sympy(self.poly))}"


Derive = Callable[[Network, Sequence[Length]], Derivation]


def derived(derive: Derive, net: Network, lengths: Sequence[Length]) -> Derivation:
    """A derivation that can be pickled, where ``derive`` and the network can."""
    return replace(derive(net, lengths), question=(derive, net, tuple(lengths)))
