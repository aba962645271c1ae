"""The kernels that learning asks of a network: derived once, compiled, with values for symbols by name."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog import programs
from tensorprog.algebra import Scalar
from tensorprog.compile.arrays import host
from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError, nearest
from tensorprog.kernels.gram.compute import gram
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.limit.equations import reachable

KINDS: dict[str, Callable[[Network], Kernel]] = {"ntk": ntk, "nngp": nngp}


@functools.cache
def default_network() -> Network:
    """The network of an estimator that was given none: a ReLU MLP with two hidden layers and biases."""
    return programs.mlp(depth=2, sigma_b=0.1)


def kernel_of(network: Network | None, kind: str) -> Kernel:
    """The kernel of a network with one output, derived once.

    Raises:
        ProgramError: not a network, several outputs, or an unknown kind.
    """
    if network is not None and not isinstance(network, Network):
        raise ProgramError(f"network must be an architecture such as tp.programs.mlp(), got {network!r}")
    if not isinstance(kind, str) or kind not in KINDS:
        raise ProgramError(f"unknown kind of kernel {kind!r}; {nearest(str(kind), KINDS)}")
    return _derived(network or default_network(), kind)


@functools.lru_cache(maxsize=64)
def _derived(network: Network, kind: str) -> Kernel:
    kernel = KINDS[kind](network)
    outputs = len(kernel.derive().trace.heads[0])
    if outputs > 1:
        raise ProgramError(
            f"{network.name} has {outputs} outputs, each with a kernel of its own; give a network with one, whose "
            "copies with independent readouts learn the columns of y"
        )
    return kernel


@functools.lru_cache(maxsize=64)
def symbols_of(kernel: Kernel) -> list[sp.Symbol]:
    """The symbols among a network's hyperparameters and in its equations, by name."""
    given = kernel.net.hyperparameters.values()
    items = [e for v in given for e in (v if isinstance(v, (list, tuple)) else [v])]
    d = kernel.derive()
    read = [g.symbol for g in reachable([d.poly]) if isinstance(g, Scalar) and g.symbol not in d.trace.grams]
    symbols = {s for e in [*items, *read] if isinstance(e, sp.Expr) for s in e.free_symbols}
    return sorted(symbols, key=lambda s: s.name)  # type: ignore[no-any-return]


def values_by_symbol(kernel: Kernel, values: Mapping[Any, Any] | None) -> dict[sp.Symbol, Any]:
    """Hyperparameter values by symbol, also from the names of symbols.

    Raises:
        DataError: a name that is no symbol of the network.
    """
    symbols = {s.name: s for s in symbols_of(kernel)}
    result: dict[sp.Symbol, Any] = {}
    for key, value in (values or {}).items():
        name = key.name if isinstance(key, sp.Symbol) else key
        if name not in symbols:
            known = nearest(str(name), symbols) if symbols else "it has none: all of its hyperparameters are numbers"
            raise DataError(f"the network has no hyperparameter symbol {name!r}; {known}")
        result[symbols[name]] = value
    return result


def matrices(kernels: Sequence[Kernel], X1: Any, X2: Any, values: Mapping[sp.Symbol, Any]) -> tuple[np.ndarray, ...]:
    """Gram matrices of compiled kernels in one pass, as NumPy arrays whatever library the inputs are of."""
    first, second = (x if x is None or isinstance(x, (list, tuple)) else host(x) for x in (X1, X2))
    return gram(list(kernels), first, second, values=values)  # type: ignore[no-any-return]
