"""Recursions at one depth, compiled: folded equations as a tape, at any size, without deriving there."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import sympy as sp

from tensorprog.compile.lower import Lowering
from tensorprog.compile.tape import Tape
from tensorprog.dsl.network import Network
from tensorprog.printing import Shown
from tensorprog.recursions.folding import Folded
from tensorprog.recursions.plan import Key, plan
from tensorprog.recursions.scales import with_depth
from tensorprog.recursions.sizes import Over
from tensorprog.recursions.straight import GRAM

Length = int | None


class Folds(Protocol):
    """What is asked of a folded kernel: its equations at sizes, and the kernel that it was folded from."""

    kernel: Any
    net: Network
    form: str | None
    _over: Over

    def _system(self, sizes: dict[str, int], inputs: int) -> tuple[Folded, dict[str, int]]: ...

    def _kernel_at(self, layers: Mapping[str, int]) -> Any: ...


class SizedKernel(Shown):
    """A recursion at one depth, which compiles like a kernel derived there.

    Attributes:
        net: the network, at its own depth.
        kind: "ntk" or "nngp".

    Args:
        recursion: what it was taken from.
        layers: {"L": depth}, or nothing.
    """

    def __init__(self, recursion: Folds, layers: dict[str, int]) -> None:
        self._recursion, self._layers = recursion, layers
        self.kind, self.net = recursion.kernel.kind, recursion.net
        self._compiled: dict[Any, Any] = {}

    def __reduce__(self) -> Any:
        """For pickling: what was compiled is left behind."""
        return SizedKernel, (self._recursion, self._layers)

    def __repr__(self) -> str:
        depth = "".join(f" at {k} = {v}" for k, v in self._layers.items())
        return f"<{self.kind.upper()} of {self.net!r} by its recursion{depth}>"

    def text(self) -> str:
        """The kernel, and the depth."""
        return repr(self)[1:-1]

    @property
    def lengths(self) -> tuple[Length, Length]:
        """The lengths that are printed."""
        return self._recursion.kernel.lengths  # type: ignore[no-any-return]

    def _lower(self, tape: Tape, lengths: tuple[Length, Length], hyper: Mapping[sp.Symbol, float],
              same: bool = False) -> int:  # fmt: skip
        """The kernel between inputs of these lengths, or of one with itself, as an operation of a tape."""
        times = [] if lengths[0] is None else list(zip(("T", "T'"), lengths, strict=True))
        sizes = {**self._layers, **dict(times[:1] if same else times)}
        return append(tape, *self._recursion._system(sizes, 1 if same else 2), hyper)  # type: ignore[arg-type]

    @cached_property
    def _derived(self) -> Any:
        """The kernel derived at this depth."""
        return self._recursion._kernel_at(self._layers)

    def _on_pairs(self, a: np.ndarray, b: np.ndarray, lengths: tuple[Length, Length], hyper: Any) -> np.ndarray:
        """K(a[p], b[p]) of pairs whose angle the compiled equations have lost: by the kernel derived at this size."""
        return self._derived._on_pairs(a, b, lengths, hyper)  # type: ignore[no-any-return]


def append(tape: Tape, folded: Folded, sizes: Mapping[str, int], hyper: Mapping[sp.Symbol, float]) -> int:
    """Append the kernel of folded equations to a tape.

    Args:
        tape: grows.
        folded: the equations.
        sizes: L, T, T', as far as they have them.
        hyper: numbers for hyperparameters that are symbols.

    Returns:
        The operation of the kernel.

    Raises:
        DataError: a symbol has no number.
        FoldError: the equations do not reach down to these sizes.
    """
    lowering, held, total = Lowering(tape, {}, with_depth(hyper, sizes)), dict[Key, int](), tape.const(0.0)
    for step in plan(folded, sizes).steps:
        known = {g: _gram(tape, key) if key[0].head == GRAM[0] else held[key] for g, key in step.reads}
        [value] = lowering.run([step.form], known)
        if step.key is None:
            total = tape.sum([(1.0, [total]), (1.0, [value])])
        else:
            held[step.key] = value
    return total


def _gram(tape: Tape, key: Key) -> int:
    (a, b), (_, s, _, t) = key[0].pair, key[1]
    return tape.gram((int(a != "x"), (s or 1) - 1), (int(b != "x"), (t or 1) - 1))
