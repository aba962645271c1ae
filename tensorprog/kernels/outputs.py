"""Kernels of networks with several outputs: of one output, and between all of them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NoReturn
from weakref import WeakKeyDictionary

import numpy as np
import sympy as sp

from tensorprog.algebra import ZERO
from tensorprog.derivation.data import read_pair
from tensorprog.derivation.derivation import Derivation, Length
from tensorprog.derivation.heads import cross_matrix
from tensorprog.dsl.layers.member_outputs import member_output
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Output
from tensorprog.errors import ProgramError, shortly
from tensorprog.kernels.kernel import Kernel
from tensorprog.limit.evaluate import same
from tensorprog.progress import Progress
from tensorprog.types import Data, HyperValues

_COUNTS: WeakKeyDictionary[Network, dict[Length, int]] = WeakKeyDictionary()
Cross = Callable[[Network, Sequence[Length], int, int], Derivation]


class _Pick:
    """An architecture that returns one of the outputs of another, or that of one member of a batch."""

    def __init__(self, fn: Callable[..., Any], k: int) -> None:
        self.fn, self.k = fn, k

    def __call__(self, net: Any, x: Any, **hyperparameters: Any) -> Any:
        found = self.fn(net, x, **hyperparameters)
        return member_output(net, found, self.k) if isinstance(found, Output) else found[self.k]


class OneOutput(Network):
    """A network of several outputs, of which one is looked at."""

    def __init__(self, net: Network, k: int) -> None:
        super().__init__(_Pick(net.fn, k), net.hyperparameters, f"output {k} of {net.name}")
        self.whole, self.k = net, k

    def __reduce__(self) -> Any:
        return OneOutput, (self.whole, self.k)


def output_count(net: Network, length: Length = None) -> int:
    """How many outputs a network has, for sequences of a length: 3, or the nearest that it takes, when None."""
    known = _COUNTS.setdefault(net, {})
    if length not in known:
        fitting = net.fitting_length() if net.takes_sequences and length is None else length
        known[length] = len(net.trace([fitting]).heads[0])
    return known[length]


def chosen_outputs(net: Network, outputs: Any, lengths: Iterable[Length] = (None,)) -> list[int]:
    """The outputs that ``outputs`` names: a number, a sequence of numbers, or None or "all" for all.

    Args:
        net: an architecture.
        outputs: as above.
        lengths: of the inputs, for which a network may have different numbers of outputs.

    Raises:
        ProgramError: an output that the network does not have; all, where their number depends on the length.
    """
    counts = {t: output_count(net, t) for t in dict.fromkeys(lengths)}
    count = min(counts.values())
    if outputs is None or (isinstance(outputs, str) and outputs == "all"):
        if len(set(counts.values())) > 1:
            shown = ", ".join(f"{n} for length {t}" for t, n in counts.items())
            raise ProgramError(f"{net.name} has different numbers of outputs, {shown}: choose some, outputs=0")
        return list(range(count))
    listed = outputs if isinstance(outputs, (list, tuple)) else [outputs]
    for k in listed:
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or not 0 <= k < count:
            has = "one output, number 0" if count == 1 else f"{count} outputs, numbers 0 to {count - 1}"
            raise ProgramError(f"{net.name} has {has}; outputs={shortly(outputs)} names none of them")
    if not listed or len(set(listed)) != len(listed):
        raise ProgramError(f"outputs must name different outputs, got {shortly(outputs)}")
    return [int(k) for k in listed]


def refuse_members(net: Network, outputs: Any) -> None:
    """Refuse to choose among the outputs of the members of a batch, as many as there are members.

    Raises:
        ProgramError: how to choose among the entries of the kernel.
    """
    if outputs is not None and net.takes_batches:
        raise ProgramError(
            f"every member of a batch has an output of {net.name}, and their kernel is K(X), (N1, N2, B1, B2), in "
            f"which [.., k, l] are members k and l: leave out outputs={shortly(outputs)}"
        )


def printed_lengths(net: Network, lengths: Any) -> list[Length]:
    """The lengths to count outputs at before there are data: those that are printed."""
    given = isinstance(lengths, (list, tuple)) and all(isinstance(t, int) and t > 0 for t in lengths)
    return list(lengths) if net.takes_sequences and given and lengths else [None]


def one_output(net: Network, k: int) -> Network:
    """The network with one of its outputs alone."""
    return OneOutput(net, k) if output_count(net) > 1 or k else net


class OutputKernels(Kernel):
    """The kernels between the outputs of a network: K(X) is (N1, N2, outputs, outputs), K[k] the kernel of one.

    Outputs with readouts of their own are independent: their kernel is 0.

    Args:
        net: a network of several outputs.
        kind, method: as of a ``Kernel``.
        which: the outputs.
        make: gives the kernel of a network with one output.
        cross: derives the kernel between two outputs.
    """

    def __init__(self, net: Network, kind: str, method: str, lengths: Sequence[int] | None, which: Sequence[int],
                 make: Callable[[Network], Kernel], cross: Cross) -> None:  # fmt: skip
        super().__init__(net, kind, method, self._refuse, lengths)
        self.which, self._make, self._cross = list(which), make, cross
        self._one: dict[int, Kernel] = {}

    def recursion(self, form: str | None = None, over: str | Sequence[str] | None = None) -> NoReturn:
        """Refused: a recursion is that of one output.

        Raises:
            ProgramError: how to choose it.
        """
        self._refuse(self.net, ())

    def _refuse(self, net: Network, lengths: Sequence[Length]) -> NoReturn:
        call = f"tp.{self.kind}(net, outputs={self.which[0]})"
        raise ProgramError(
            f"{net.name} has several outputs, and this is for one: choose it, K[{self.which[0]}] or {call}; "
            "K(X) gives the kernels between all of them"
        )

    def __getitem__(self, k: int) -> Kernel:
        """The kernel of output k."""
        if isinstance(k, bool) or not isinstance(k, (int, np.integer)) or k not in self.which:
            raise ProgramError(f"this kernel is about the outputs {self.which} of {self.net.name}, not {shortly(k)}")
        if k not in self._one:
            self._one[k] = self._make(one_output(self.net, k))
        return self._one[k]

    def __iter__(self) -> Iterator[Kernel]:
        return (self[k] for k in self.which)

    def _between(self, k: int, l: int, lengths: Sequence[Length] | None = None) -> Derivation:
        """The kernel between outputs k and l for two inputs of these lengths, for one with itself given one length."""
        return self._cross(self.net, self.lengths if lengths is None else lengths, k, l)

    def __call__(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None, *,
                 progress: Progress = None) -> np.ndarray:  # fmt: skip
        """K(X1[i], X2[j]) of outputs k and l, (N1, N2, outputs, outputs)."""
        first, other = read_pair(X1, X2, self.net.form)
        hyper = self._hyper(values)
        self._check_count([*first.groups, *(other.groups if other else ())])
        result = np.zeros((len(first), len(other or first), len(self.which), len(self.which)))
        for a, k in enumerate(self.which):
            result[:, :, a, a] = self[k](X1, X2, values=values, progress=progress)
            for b, l in enumerate(self.which):
                if a < b or (a > b and other is not None):
                    derive = functools.cache(functools.partial(self._derive_between, k, l))
                    result[:, :, a, b] = cross_matrix(first, other, derive, hyper)
                    if other is None:
                        result[:, :, b, a] = result[:, :, a, b].T
        return result

    def trace(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None, *,
              progress: Progress = None) -> np.ndarray:  # fmt: skip
        """Σ_k K(X1[i], X2[j]) of output k with itself, (N1, N2): the trace over outputs, without the others' kernels.

        >>> import tensorprog as tp
        >>> @tp.network
        ... def two(net, x):
        ...     h = tp.relu(net.embed("U", x))
        ...     return net.readout("V", h), 2 * net.readout("V", h)
        >>> tp.nngp(two()).trace([[1.0]])  # (1 + 4)/2
        array([[2.5]])
        """
        self._check_count(read_pair(X1, X2, self.net.form)[0].groups)
        return np.sum([self[k](X1, X2, values=values, progress=progress) for k in self.which], axis=0)  # type: ignore[no-any-return]

    def _check_count(self, lengths: Iterable[Length]) -> None:
        """Refuse inputs for which the network has other outputs than those that this kernel lists."""
        known = output_count(self.net, self.lengths[0])
        for t in dict.fromkeys(lengths):
            if (count := output_count(self.net, t)) != known:
                raise ProgramError(
                    f"{self.net.name} has {count} outputs for length {t} and {known} for length {self.lengths[0]}: "
                    f"give lengths=({t}, {t}), or choose some, outputs=0"
                )

    def _derive_between(self, k: int, l: int, lengths: tuple[Length, ...]) -> Derivation:
        return self._between(k, l, lengths)

    @property
    def equations(self) -> list[sp.Eq]:
        """The equations of every output, one after the other."""
        return [e for K in self for e in K.equations]

    def text(self) -> str:
        """The equations of every output, and which outputs are independent."""
        return "\n\n".join([*(K.text() for K in self), *self._relations()])

    def latex(self, closed: bool = False) -> str:
        r"""The equations of every output as ``align*`` environments."""
        return "\n".join(K.latex(closed) for K in self)

    def _relations(self) -> list[str]:
        pairs = [(k, l) for a, k in enumerate(self.which) for l in self.which[a + 1 :]]
        zero = [f"{k} and {l}" for k, l in pairs if same(self._between(k, l).poly, ZERO)]
        rest = [f"{k} and {l}" for k, l in pairs if f"{k} and {l}" not in zero]
        lines = [f"the kernel between outputs {', '.join(zero)} is 0"] if zero else []
        return lines + ([f"the kernel between outputs {', '.join(rest)} is not 0: see K(X)"] if rest else [])
