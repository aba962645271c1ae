"""The same text with other meanings of ``tp``, ``sp`` and ``np``: plain NumPy arrays of one random network of width n.

Nothing of the package is used here, so that what it derives is compared with what the text says.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
from scipy import special

from tests.random_cases.case import Case
from tests.random_cases.pieces import SYMBOLS

Array = Any
SELU = 1.0507009873554805, 1.6732632423543772


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


def _step(x: Array, at_zero: float = 0) -> Array:
    return np.heaviside(x, at_zero)


def _hermite(k: int, normalised: bool = False) -> Any:
    polynomial = np.polynomial.hermite_e.HermiteE.basis(k)
    return lambda x: polynomial(x) / (math.sqrt(math.factorial(k)) if normalised else 1)


def _declare(name: str, formula: Any = None, *, kinks: Any = (), pieces: Any = (), parity: int = 0) -> Any:
    def kinked(x: Array) -> Array:
        values = [np.broadcast_to(f(x), np.shape(x)) for f in pieces]
        return np.choose(np.searchsorted(kinks, x), values)

    return formula or kinked


TENSORPROG = {
    "network": lambda fn: fn,
    "nonlin": lambda fn, *vectors, params=(): np.zeros(np.shape(vectors[0])) + fn(*vectors, *params),
    "moment": lambda fn, *vectors, params=(): float(np.mean(fn(*vectors, *params))),
    "identity": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
    "step": _step,
    "sign": np.sign,
    "abs": np.abs,
    "erf": special.erf,
    "tanh": np.tanh,
    "sigmoid": special.expit,
    "gelu": lambda x: x * special.ndtr(x),
    "silu": lambda x: x * special.expit(x),
    "softplus": lambda x: np.logaddexp(0, x),
    "exp": np.exp,
    "sin": np.sin,
    "cos": np.cos,
    "gauss": lambda x: np.exp(-(x**2) / 2),
    "hard_tanh": lambda x: np.clip(x, -1, 1),
    "relu6": lambda x: np.clip(x, 0, 6),
    "elu": _elu,
    "selu": lambda x: SELU[0] * _elu(x, SELU[1]),
    "leaky_relu": lambda a=0.01: lambda x: np.where(x > 0, x, a * x),
    "polynomial": lambda *c: lambda x: sum(a * x**k for k, a in enumerate(c)),
    "monomial": lambda k: lambda x: x**k,
    "hermite": _hermite,
    "declare": _declare,
}
SYMPY = {
    "Symbol": lambda name, positive: SYMBOLS[name],
    "Rational": lambda p, q: p / q,
    "sqrt": np.sqrt,
    "exp": np.exp,
    "log": np.log,
    "tanh": np.tanh,
    "sin": np.sin,
    "cos": np.cos,
    "atan": np.arctan,
    "erf": special.erf,
    "Abs": np.abs,
    "sign": np.sign,
    "Heaviside": _step,
    "Max": lambda *args: _fold(np.maximum, args),
    "Min": lambda *args: _fold(np.minimum, args),
}


def _fold(op: Any, args: Any) -> Array:
    result = args[0]
    for a in args[1:]:
        result = op(result, a)
    return result


class _Matrix:
    """An n×n array that knows ``apply``."""

    def __init__(self, entries: Array) -> None:
        self.entries = entries

    @property
    def T(self) -> _Matrix:
        return _Matrix(self.entries.T)

    def __matmul__(self, x: Array) -> Array:
        return self.entries @ x

    apply = __matmul__


class _Draws:
    """Standard normal arrays of one network, by name."""

    def __init__(self, rng: np.random.Generator, width: int) -> None:
        self.rng, self.width = rng, width
        self.arrays: dict[Any, Array] = {}

    def __call__(self, name: Any, *shape: int) -> Array:
        if name not in self.arrays:
            self.arrays[name] = self.rng.standard_normal(shape)
        return self.arrays[name]


class _Net:
    """``net`` in NTK parametrization; an output is the list of its readouts (name, std, x) and biases."""

    def __init__(self, draws: _Draws, label: int) -> None:
        self.draws, self.label, self.width = draws, label, draws.width

    def embed(self, key: Any, x: Array, std: float = 1) -> Array:
        return std * (self.draws(key, self.width, len(x)) @ x) / math.sqrt(len(x))

    def weight(self, key: Any, std: float = 1) -> _Matrix:
        return _Matrix(self.draws(key, self.width, self.width) * (std / math.sqrt(self.width)))

    def dense(self, key: Any, h: Array, std: float = 1) -> Array:
        return self.weight(key, std) @ h

    def bias(self, key: Any, std: float = 1) -> Array:
        return std * self.draws(key, self.width)

    def state(self, key: Any, std: float = 1) -> Array:
        return std * self.draws((key, self.label), self.width)

    def readout(self, key: Any, x: Array, std: float = 1, bias: float = 0) -> list[Any]:
        return [(key, std, x), *([((key, "bias"), bias, None)] if bias else [])]


class _Program:
    """``p``: initial variables of one program of width n."""

    def __init__(self, rng: np.random.Generator, width: int) -> None:
        self.rng, self.width = rng, width

    def matrix(self, name: str = "", variance: float = 1) -> _Matrix:
        return _Matrix(self.rng.standard_normal((self.width, self.width)) * math.sqrt(variance / self.width))

    def vector(self, name: str = "", variance: float = 1, mean: float = 0) -> Array:
        return mean + math.sqrt(variance) * self.rng.standard_normal(self.width)

    def gaussian(self, names: str, cov: Any, mean: Any = 0) -> list[Array]:
        values, vectors = np.linalg.eigh(np.array(cov, float))
        root = vectors * np.sqrt(np.maximum(values, 0))
        exact = root @ self.rng.standard_normal((len(values), self.width))
        if np.isclose(np.linalg.det(np.array(cov, float)), 0, atol=1e-12):  # what is singular is so exactly
            exact = _singular(np.array(cov, float), self.rng.standard_normal(self.width))
        return list(exact + np.broadcast_to(np.array(mean, float), len(values))[:, None])

    def scalar(self, name: str, value: float) -> float:
        return float(value)


def _singular(cov: Array, noise: Array) -> Array:
    """Two variables of rank one."""
    size = np.sqrt(np.diag(cov))
    sign = np.array([1.0, np.sign(cov[0, 1]) if size.all() else 1.0])
    return (size * sign)[:, None] * noise


def _world(**more: Any) -> dict[str, Any]:
    return {"tp": SimpleNamespace(**TENSORPROG, **more), "sp": SimpleNamespace(**SYMPY), "np": np}


def kernel(case: Case, width: int, seed: int) -> Array:
    """E f f' of one network given everything but its readouts, (N, N): its mean over networks is the NNGP kernel."""
    draws = _Draws(np.random.default_rng([3, seed, width]), width)
    fn = case.run(_world())["net"]
    outputs = [fn(_Net(draws, i), x) for i, x in enumerate(case.X)]
    return np.array([[_product(f, g) for g in outputs] for f in outputs])


def _product(f: list[Any], g: list[Any]) -> float:
    same = ((a, b) for a in f for b in g if a[0] == b[0])
    return float(sum(a[1] * b[1] * (1.0 if a[2] is None else np.mean(a[2] * b[2])) for a, b in same))


def variables(case: Case, width: int, seed: int) -> dict[str, Any]:
    """The vectors and scalars of a program of width n, by name."""
    rng = np.random.default_rng([4, seed, width])
    names = case.run(_world(Program=lambda: _Program(rng, width)))
    return {t: names[t] for t, kind in case.kinds().items() if kind != "m"}


def on_draws(case: Case, draws: dict[str, Any]) -> dict[str, Any]:
    """All variables of a program whose initial variables, by name of the line, are given arrays."""
    given = iter([draws[t] for line in case.before if line.piece.place == "program" for t in line.targets])
    names = case.run(_world(Program=lambda: _Given(given)))
    return {t: names[t] for t in case.kinds()}


class _Given:
    """``p`` whose variables are drawn already, in the order of the lines."""

    def __init__(self, given: Iterator[Any]) -> None:
        self.given = given

    def matrix(self, *_: Any, **__: Any) -> _Matrix:
        return _Matrix(next(self.given))

    def vector(self, *_: Any, **__: Any) -> Array:
        return next(self.given)

    def gaussian(self, *_: Any, **__: Any) -> list[Array]:
        return [next(self.given), next(self.given)]

    scalar = vector
