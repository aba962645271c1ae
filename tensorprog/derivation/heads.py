"""The NTK between any two outputs of a network, of chosen parameters: in a trace, and as numbers on data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping
from itertools import chain

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.derivation.data import Inputs, by_lengths
from tensorprog.derivation.derivation import Derivation, Length
from tensorprog.derivation.exact import values
from tensorprog.derivation.names import NetworkNames
from tensorprog.derivation.ntk import body_terms, output_terms, sum_terms
from tensorprog.derivation.over_members import members_account
from tensorprog.derivation.over_positions import matrix_over_positions
from tensorprog.derivation.paths import PathSum
from tensorprog.derivation.route import How
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.errors import ProgramError
from tensorprog.ir.graph import ProgramGraph
from tensorprog.limit.master import Interpreter
from tensorprog.passes.backprop import Gradients, Tape

KernelOfHeads = Callable[[int, int, int, int], Poly]


class PathKernels:
    """(i, j, k, l) ↦ the kernel of output k of input i and output l of input j, by path sums."""

    def __init__(self, trace: Trace, limit: Interpreter, trained: Container[str] | None) -> None:
        self.trace, self.limit, self.sum = trace, limit, PathSum(trace, limit, trained)

    def __call__(self, i: int, j: int, k: int, l: int) -> Poly:
        a, b = self.trace.heads[i], self.trace.heads[j]
        if k >= len(a) or l >= len(b):
            raise ProgramError(f"the network to compare with has {len(a)} outputs, not {max(k, l) + 1}")
        return self.sum.heads(a[k], b[l])


class BackpropKernels:
    """The same by backpropagation, where path sums do not apply."""

    def __init__(self, trace: Trace, trained: Container[str] | None) -> None:
        self.trace, self.trained = trace, trained
        program: ProgramGraph = trace.program.copy()
        self.gradients: dict[tuple[int, int], Gradients] = {}
        for i, heads in enumerate(trace.heads):
            for k, output in enumerate(heads):
                tape = Tape(program, f"d{k or ''}{trace.inputs[i][0].label}_")
                self.gradients[i, k] = tape.backward(trace.program, output, f".{k}" if k else "")
        self.limit = Interpreter(program, NetworkNames(trace, [self.gradients[i, 0] for i in range(len(trace.heads))]))

    def __call__(self, i: int, j: int, k: int, l: int) -> Poly:
        a, b = self.gradients[i, k], self.gradients[j, l]
        body = body_terms(self.trace, a, b, self.trained, self.limit.correlated)
        outputs = output_terms(self.trace.heads[i][k], self.trace.heads[j][l], self.trained)
        return sum_terms(chain(body, outputs), self.limit)


def kernels_of(
    trace: Trace, trained: Container[str] | None, limit: Interpreter | None = None
) -> PathKernels | BackpropKernels:
    """The kernels between the outputs of a trace by the way that applies; ``limit`` is one of its forward program."""
    if not trace.passes_gia_check or trace.program.has_axes:
        return BackpropKernels(trace, trained)
    return PathKernels(trace, limit or Interpreter(trace.program, NetworkNames(trace, [])), trained)


DeriveHeads = Callable[[tuple[Length, ...], int, int], Derivation]


def ntk_of_heads(
    net: Network, inputs: Inputs, trained: Container[str] | None, hyper: Mapping[sp.Symbol, float]
) -> np.ndarray:  # fmt: skip
    """The limiting NTK of all outputs on data, (N, heads, N, heads)."""
    if net.takes_batches:
        trace = net.trace([None, None])
        limit = Interpreter(trace.program, NetworkNames(trace, []))
        d = Derivation(trace, limit, PathSum(trace, limit, trained).kernel(0, 1))
        return members_account(d, inputs, None, hyper, How()).value.swapaxes(1, 2)

    @functools.cache
    def source(lengths: tuple[Length, ...]) -> PathKernels | BackpropKernels:
        return kernels_of(net.trace(lengths), trained)

    def derive(lengths: tuple[Length, ...], k: int, l: int) -> Derivation:
        found = source(lengths)
        return Derivation(found.trace, found.limit, found(0, len(lengths) - 1, k, l))

    return matrix_of_heads(inputs, derive, hyper)


def matrix_of_heads(
    inputs: Inputs, derive: DeriveHeads, hyper: Mapping[sp.Symbol, float], symmetric: bool = True
) -> np.ndarray:
    """Kernels between all outputs of all inputs, (N, heads, N, heads).

    Args:
        inputs: N inputs.
        derive: gives the kernel of outputs k and l of the first and the last of inputs of some lengths, of one input
            with itself for a single length.
        hyper: numbers for hyperparameter symbols.
        symmetric: whether the kernel of k and l is the transpose of that of l and k.
    """

    length = inputs.lengths[0]
    heads = len(derive((None, None) if isinstance(length, tuple) else (length,), 0, 0).trace.heads[0])
    result = np.empty((len(inputs), heads, len(inputs), heads))
    for k in range(heads):
        for l in range(k if symmetric else 0, heads):
            result[:, k, :, l] = cross_matrix(inputs, None, lambda t, k=k, l=l: derive(t, k, l), hyper)  # type: ignore[misc]
            if symmetric:
                result[:, l, :, k] = result[:, k, :, l].T
    return result


def cross_matrix(
    first: Inputs, other: Inputs | None, derive: Callable[[tuple[Length, ...]], Derivation],
    hyper: Mapping[sp.Symbol, float],
) -> np.ndarray:  # fmt: skip
    """A kernel that need not be symmetric, (N1, N2); each input with itself on the diagonal if ``other`` is None."""

    def block(lengths: tuple[Length, ...], *sides: np.ndarray) -> np.ndarray:
        if isinstance(lengths[0], tuple):  # of positions, each input is one of two
            left, right = sides[0][:, 0], sides[1][0]
            return matrix_over_positions(derive((None, None)), left, right, (lengths[0], lengths[1]), hyper)
        shape = np.broadcast_shapes(*(s.shape[:-2] for s in sides))
        return np.broadcast_to(values(derive(lengths), sides, hyper), shape)

    second = first if other is None else other
    result = by_lengths(first, second, lambda t1, t2: block((t1, t2), first.data[t1][:, None], second.data[t2][None]))
    if other is None:
        for t, rows in first.groups.items():
            if not isinstance(t, tuple):
                result[rows, rows] = block((t,), first.data[t])
    return result
