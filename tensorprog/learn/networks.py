"""The kernels that learning asks of a network: made once, compiled, with values for symbols by name."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog import programs
from tensorprog.compile.arrays import host
from tensorprog.derivation.data import Form, read_inputs, read_pair
from tensorprog.derivation.kernel_account import KernelAccount, outside, warn
from tensorprog.derivation.route import is_sampled
from tensorprog.dsl.network import Network, check_network
from tensorprog.dsl.trace import Trace
from tensorprog.errors import DataError, MixtureWarning, ProgramError, nearest, shortly
from tensorprog.grams.compute import gram
from tensorprog.ir.hyper import check_values, symbol_values
from tensorprog.ir.instructions import Moment, Nonlin, Slot
from tensorprog.kernels.kernel import MIXTURE, Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.passes.rates import ALL, Rates

KINDS: dict[str, Callable[..., Kernel]] = {"ntk": ntk, "nngp": nngp}


@functools.cache
def default_network() -> Network:
    """The network of an estimator that was given none: a ReLU MLP with two hidden layers and biases."""
    return programs.mlp(depth=2, sigma_b=0.1)


def kernel_of(network: Network | None, kind: str, chosen: Rates = ALL) -> Kernel:
    """The kernel of a network, made once.

    Raises:
        ProgramError: not a network, an unknown kind, or parameters chosen for a kernel without training.
    """
    if network is not None:
        check_network(network)
    if not isinstance(kind, str) or kind not in KINDS:
        raise ProgramError(f"unknown kind of kernel {shortly(kind)}; {nearest(kind, KINDS)}")
    if kind == "nngp" and chosen != ALL:
        raise ProgramError(f"the NNGP kernel is that of networks before training; leave out{chosen.words[1:]}")
    try:
        kernel = _made(network or default_network(), kind, chosen)
    except TypeError:  # names that are lists, which `ntk` refuses in words
        return ntk(network or default_network(), **chosen.given)
    if network is not None and network.trace(kernel.lengths[:1]).is_mixture:
        message = f"{network!r}: {MIXTURE[kind]}; take heads='infinite' for a Gaussian process"
        warnings.warn(message, MixtureWarning, stacklevel=outside())
    return kernel


@functools.lru_cache(maxsize=64)
def _made(network: Network, kind: str, chosen: Rates) -> Kernel:
    return KINDS[kind](network, **({} if chosen == ALL else chosen.given))


@functools.lru_cache(maxsize=64)
def trace_of(network: Network, length: int | None) -> Trace:
    """The program of one input of this length; None for a vector.

    Raises:
        ProgramError: several outputs.
    """
    trace = network.trace([length])
    outputs = len(trace.heads[0])
    if outputs > 1:
        raise ProgramError(
            f"{network.name} has {outputs} outputs, each with a kernel of its own; give a network with one, whose "
            "copies with independent readouts learn the columns of y"
        )
    return trace


def symbols_of(kernel: Kernel, length: int | None = None) -> list[sp.Symbol]:
    """The symbols among a network's hyperparameters and inside its functions, by name.

    Args:
        kernel: of the network.
        length: at which it is traced; that of the kernel's formulas when None.
    """
    trace = trace_of(kernel.net, length or kernel.lengths[0])
    given = kernel.net.hyperparameters.values()
    items = [e for v in given for e in (v if isinstance(v, (list, tuple)) else [v])]
    items += [e for p in trace.parameters.values() for e in (p.std, p.start)] + [
        std for _, std in trace.outputs[0].biases
    ]
    items += [op.body for _, op in trace.program if isinstance(op, Nonlin | Moment)]
    symbols = {s for e in items if isinstance(e, sp.Expr) for s in e.free_symbols if not isinstance(s, Slot)}
    return sorted(symbols, key=lambda s: s.name)  # type: ignore[no-any-return]


def values_by_symbol(kernel: Kernel, values: Mapping[Any, Any] | None,
                     length: int | None = None) -> dict[sp.Symbol, Any]:  # fmt: skip
    """Hyperparameter values by symbol, also from the names of symbols.

    Raises:
        DataError: a name that is no symbol of the network.
    """
    symbols = {s.name: s for s in symbols_of(kernel, length)}
    result: dict[sp.Symbol, Any] = {}
    check_values(values)
    for key, value in (values or {}).items():
        name = key.name if isinstance(key, sp.Symbol) else key
        if name not in symbols:
            known = nearest(name, symbols) if symbols else "it has none: all of its hyperparameters are numbers"
            raise DataError(f"the network has no hyperparameter symbol {shortly(name)}; {known}")
        result[symbols[name]] = value
    return result


def equal_inputs(X: Any, Y: Any, form: Form) -> tuple[np.ndarray, np.ndarray]:
    """The pairs (i, j) with X[i] = Y[j], number by number, as two arrays.

    >>> equal_inputs([[0.0], [1.0], [-0.0]], [[0.0], [2.0]], "vectors")
    (array([0, 2]), array([0, 0]))
    """
    first, second = read_inputs(X, "X", form), read_inputs(Y, "X", form)
    places: dict[bytes, list[int]] = {}
    for j in range(len(second)):
        places.setdefault(_numbers_of(second[j]), []).append(j)
    pairs = [(i, j) for i in range(len(first)) for j in places.get(_numbers_of(first[i]), ())]
    rows, columns = np.array(pairs, int).reshape(-1, 2).T
    return rows, columns


def _numbers_of(x: np.ndarray) -> bytes:
    return (x + 0.0).tobytes()  # −0 is 0


def on_host(x: Any) -> Any:
    """Arrays of any library as NumPy's; lists as they are."""
    return x if x is None or isinstance(x, (list, tuple)) else host(x)


def matrices(kernels: Sequence[Kernel], X1: Any, X2: Any, values: Mapping[sp.Symbol, Any]) -> tuple[np.ndarray, ...]:
    """Gram matrices of compiled kernels in one pass, as NumPy arrays whatever library the inputs are of."""
    return gram(list(kernels), on_host(X1), on_host(X2), values=values)  # type: ignore[no-any-return]


def sampled_together(kernel: Kernel, X: Any, Y: Any, values: Mapping[sp.Symbol, Any]) -> KernelAccount | None:
    """K of X and Y together where the kernel is sampled; None where it is exact, so that parts can be computed apart.

    Parts that are sampled apart differ by their errors, which (K(Y, Y) + α)⁻¹ would magnify.
    """
    form, hyper = kernel.net.form, symbol_values(values, lambda: kernel.net.symbols)
    X, Y = on_host(X), on_host(Y)
    if not is_sampled(kernel, *read_pair(X, Y, form), hyper):
        return None
    both = np.concatenate([X, Y]) if form == "vectors" else [*X, *Y]
    return kernel._found(read_inputs(both, "X", form), None, hyper)


def parts(kernel: Kernel, X: Any, Y: Any, values: Mapping[sp.Symbol, Any]) -> tuple[np.ndarray, ...]:
    """K(Y, Y), K(X, Y) and K(X, X), which belong together."""
    found = sampled_together(kernel, X, Y, values)
    if found is None:
        return tuple(matrices([kernel], a, b, values)[0] for a, b in ((Y, None), (X, Y), (X, None)))
    warn(found, repr(kernel), kernel._advice(found))
    m = len(read_inputs(on_host(X), "X", kernel.net.form))
    return found.value[m:, m:], found.value[:m, m:], found.value[:m, :m]
