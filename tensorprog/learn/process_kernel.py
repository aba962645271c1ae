"""The kernel of a network inside scikit-learn's Gaussian processes, with exact gradients by its hyperparameters."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

import numpy as np
import sympy as sp
from sklearn.gaussian_process.kernels import GenericKernelMixin, Hyperparameter
from sklearn.gaussian_process.kernels import Kernel as ProcessKernel

from tensorprog import programs
from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, TensorProgramError, shortly
from tensorprog.given import flag
from tensorprog.kernels.kernel import Kernel
from tensorprog.learn.derivatives import diagonal, gram_with_gradient
from tensorprog.learn.networks import kernel_of, symbols_of, values_by_symbol
from tensorprog.printing import in_notebook
from tensorprog.types import Data, HyperValues


@functools.cache
def symbolic_network() -> Network:
    """The network of a kernel that was given none: a ReLU MLP with two hidden layers and symbols sigma_b, sigma_w."""
    sigma_b, sigma_w = sp.symbols("sigma_b sigma_w", positive=True)
    return programs.mlp(depth=2, sigma_w=sigma_w, sigma_b=sigma_b)


Range: TypeAlias = "tuple[float, float] | Literal['fixed']"


class NetworkKernel(GenericKernelMixin, ProcessKernel):  # type: ignore[misc]
    """The NNGP kernel or NTK of a network as a kernel of ``GaussianProcessRegressor``; ``+`` and ``*`` combine it.

    The symbols among the network's hyperparameters are the kernel's; they are searched on a logarithmic scale with
    exact gradients.  Sequences pass through scikit-learn as a one-dimensional object array of nested lists,
    ``x.tolist()`` for each (T_i, d).

    Args:
        network: an architecture with symbols for the hyperparameters to be learned; a ReLU MLP when None.
        kind: ``"nngp"`` or ``"ntk"``.
        values: starting values by name or symbol; 1 for those not given.
        ranges: (low, high) for all symbols, or a mapping from names to such pairs; ``"fixed"`` keeps a value.

    >>> from sklearn.gaussian_process import GaussianProcessRegressor
    >>> from tensorprog.learn import NetworkKernel
    >>> gp = GaussianProcessRegressor(NetworkKernel(values={"sigma_b": 0.1}), alpha=0.01)
    >>> gp.fit([[0.0], [1.0], [2.0]], [1.0, 0.0, 1.0]).kernel_.theta.shape
    (2,)
    """

    def __init__(self, network: Network | None = None, kind: str = "nngp", values: HyperValues | None = None,
                 ranges: Range | Mapping[str, Range] = (1e-3, 1e3)) -> None:  # fmt: skip
        self.network, self.kind, self.values, self.ranges = network, kind, values, ranges

    # ---- hyperparameters -------------------------------------------------------------------------

    @property
    def _kernel(self) -> Kernel:
        return kernel_of(symbolic_network() if self.network is None else self.network, self.kind)

    def _numbers(self) -> dict[sp.Symbol, float]:
        """A number for every symbol of the network."""
        numbers = dict.fromkeys(symbols_of(self._kernel), 1.0)
        for symbol, value in values_by_symbol(self._kernel, self.values).items():
            if not (np.isscalar(value) and np.isreal(value) and 0 < float(value) < np.inf):  # type: ignore[arg-type]
                raise DataError(
                    f"{symbol} is searched on a logarithmic scale and must be positive, got {shortly(value)}"
                )
            numbers[symbol] = float(value)  # type: ignore[arg-type]
        return numbers

    @property
    def hyperparameters(self) -> list[Hyperparameter]:
        """One for each symbol of the network, by name."""
        given = self.ranges if isinstance(self.ranges, Mapping) else {}
        unknown = values_by_symbol(self._kernel, given)
        common = (1e-3, 1e3) if isinstance(self.ranges, Mapping) else self.ranges
        return [Hyperparameter(s.name, "numeric", unknown.get(s, common)) for s in symbols_of(self._kernel)]

    def _free(self) -> list[sp.Symbol]:
        return [s for s, h in zip(symbols_of(self._kernel), self.hyperparameters, strict=True) if not h.fixed]

    @property
    def theta(self) -> np.ndarray:
        """Logarithms of the values that are not fixed, by name."""
        numbers = self._numbers()
        return np.log([numbers[s] for s in self._free()])  # type: ignore[no-any-return]

    @theta.setter
    def theta(self, theta: Any) -> None:
        free = self._free()
        if len(theta) != len(free):
            raise ValueError(f"theta has {len(theta)} entries for {len(free)} free hyperparameters")
        found = {s: float(np.exp(t)) for s, t in zip(free, theta, strict=True)}
        self.values = {s.name: v for s, v in (self._numbers() | found).items()}

    # ---- values ----------------------------------------------------------------------------------

    def __call__(self, X: Data, Y: Data | None = None, eval_gradient: bool = False) -> Any:
        """K(X, Y); with ``eval_gradient`` and no Y also its derivatives by ``theta``, (N, N, free symbols)."""
        kernel, numbers = self._kernel, self._numbers()
        if not flag(eval_gradient, "eval_gradient"):
            return kernel(_inputs(X), None if Y is None else _inputs(Y), values=numbers)
        if Y is not None:
            raise ValueError("Gradient can only be evaluated when Y is None.")
        free = self._free()
        K, gradient = gram_with_gradient(kernel, _inputs(X), free, numbers)
        return K, gradient * [numbers[s] for s in free]

    def diag(self, X: Data) -> np.ndarray:
        """K(x, x) of every input, (N,)."""
        return diagonal(self._kernel, _inputs(X), self._numbers())

    def is_stationary(self) -> bool:
        """False: it depends on the lengths of inputs."""
        return False

    def _repr_html_(self) -> str:
        return in_notebook(self)

    def __repr__(self) -> str:
        try:
            shown = ", ".join(f"{s}={v:.3g}" for s, v in self._numbers().items())
        except TensorProgramError:  # shown in a message about it
            return f"NetworkKernel({self.network!r}, {self.kind!r}, {self.values!r})"
        return f"{self.kind.upper()}[{self._kernel.net.name}]({shown})"


def _inputs(X: Data) -> Any:
    """Sequences as the list that kernels take, from the one-dimensional object array that scikit-learn takes."""
    return list(X) if isinstance(X, np.ndarray) and X.dtype == object and X.ndim == 1 else X
