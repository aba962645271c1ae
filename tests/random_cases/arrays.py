"""What ``tp`` and ``sp`` mean on arrays, in NumPy and, for derivatives, in PyTorch: nothing of the package is used."""

from __future__ import annotations

import math
from functools import reduce
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from tests.random_cases.pieces import SYMBOLS

Array = Any
SELU = 1.0507009873554805, 1.6732632423543772

NUMPY = SimpleNamespace(
    where=np.where, exp=np.exp, expm1=np.expm1, log=np.log, tanh=np.tanh, sin=np.sin, cos=np.cos, atan=np.arctan,
    sqrt=np.sqrt, abs=np.abs, erf=special.erf, ndtr=special.ndtr, sigmoid=special.expit, mean=np.mean,
    softplus=lambda x: np.logaddexp(0, x), array=np.asarray,
)  # fmt: skip


def torch() -> SimpleNamespace:
    """The same functions of tensors."""
    import torch

    def array(x: Any) -> Array:
        return x if isinstance(x, torch.Tensor) else torch.tensor(x, dtype=torch.float64)

    return SimpleNamespace(
        where=lambda c, a, b: torch.where(c, array(a), array(b)), exp=torch.exp, expm1=torch.expm1, log=torch.log,
        tanh=torch.tanh, sin=torch.sin, cos=torch.cos, atan=torch.atan, sqrt=lambda x: torch.sqrt(array(x)),
        abs=torch.abs, erf=torch.erf, ndtr=torch.special.ndtr, sigmoid=torch.sigmoid, mean=torch.mean,
        softplus=lambda x: torch.nn.functional.softplus(x, threshold=50), array=array,
    )  # fmt: skip


def tensorprog(xp: Any) -> dict[str, Any]:
    """The names of ``tp`` that the pieces use."""

    def nonlin(fn: Any, *vectors: Array, params: Any = ()) -> Array:
        return 0 * vectors[0] + fn(*vectors, *params)

    def elu(x: Array) -> Array:
        return xp.where(x > 0, x, xp.expm1(xp.where(x > 0, 0.0, x)))

    def hermite(k: int, normalised: bool = False) -> Any:
        powers = np.polynomial.hermite_e.herme2poly([0] * k + [1])
        norm = math.sqrt(math.factorial(k)) if normalised else 1
        return lambda x: sum(a * x**i for i, a in enumerate(powers)) / norm

    def declare(name: str, formula: Any = None, *, kinks: Any = (), pieces: Any = (), parity: int = 0) -> Any:
        def kinked(x: Array) -> Array:
            result = 0 * x + pieces[0](x)
            for kink, piece in zip(kinks, pieces[1:], strict=True):
                result = xp.where(x > kink, 0 * x + piece(x), result)
            return result

        return formula or kinked

    plain = {name: getattr(xp, name) for name in ("abs", "erf", "tanh", "sigmoid", "softplus", "exp", "sin", "cos")}
    return plain | {
        "network": lambda fn: fn,
        "nonlin": nonlin,
        "moment": lambda fn, *vectors, params=(): xp.mean(nonlin(fn, *vectors, params=params)),
        "identity": lambda x: x,
        "relu": lambda x: xp.where(x > 0, x, 0.0),
        "step": lambda x: _step(xp, x),
        "sign": lambda x: _step(xp, x) - _step(xp, -x),
        "gelu": lambda x: x * xp.ndtr(x),
        "silu": lambda x: x * xp.sigmoid(x),
        "gauss": lambda x: xp.exp(-(x**2) / 2),
        "hard_tanh": lambda x: _between(xp, x, -1.0, 1.0),
        "relu6": lambda x: _between(xp, x, 0.0, 6.0),
        "elu": elu,
        "selu": lambda x: SELU[0] * xp.where(x > 0, x, SELU[1] * elu(x)),
        "leaky_relu": lambda a=0.01: lambda x: xp.where(x > 0, x, a * x),
        "polynomial": lambda *c: lambda x: sum(a * x**k for k, a in enumerate(c)),
        "monomial": lambda k: lambda x: x**k,
        "hermite": hermite,
        "declare": declare,
    }


def sympy(xp: Any) -> dict[str, Any]:
    """The names of ``sp`` that the pieces use."""

    def larger(*args: Array) -> Array:
        return reduce(lambda a, b: xp.where(xp.array(a) > b, a, b), args)

    plain = {name: getattr(xp, name) for name in ("exp", "log", "tanh", "sin", "cos", "atan", "erf")}
    return plain | {
        "Symbol": lambda name, positive: SYMBOLS[name],
        "Rational": lambda p, q: p / q,
        "sqrt": lambda x: x**0.5,
        "Abs": xp.abs,
        "sign": lambda x: _step(xp, x) - _step(xp, -x),
        "Heaviside": lambda x, at_zero: _step(xp, x),
        "Max": larger,
        "Min": lambda *args: -larger(*(-a for a in args)),
    }


def _step(xp: Any, x: Array) -> Array:
    return xp.where(x > 0, 0 * x + 1.0, 0 * x)


def _between(xp: Any, x: Array, low: float, high: float) -> Array:
    return xp.where(x > high, 0 * x + high, xp.where(x > low, x, 0 * x + low))
