"""The same text with other meanings of ``tp``, ``sp`` and ``np``: plain arrays of one random network of width n.

Nothing of the package is used here, so that what it derives is compared with what the text says.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np

from tests.random_cases.arrays import NUMPY, sympy, tensorprog, torch
from tests.random_cases.case import Case

Array = Any
NORMAL = NormalDist()
Draws = Callable[..., Array]  # name and shape ↦ standard normal array


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


def _world(xp: Any = NUMPY, **more: Any) -> dict[str, Any]:
    numpy = SimpleNamespace(float64=float)
    return {"tp": SimpleNamespace(**tensorprog(xp), **more), "sp": SimpleNamespace(**sympy(xp)), "np": numpy}


# ---- networks ---------------------------------------------------------------------------------------


def fresh(rng: np.random.Generator) -> Draws:
    """Standard normal arrays of one network, by name."""
    arrays: dict[str, Array] = {}

    def draw(name: str, *shape: int, start: Any = None) -> Array:
        if name not in arrays:
            number = start if isinstance(start, float) else 0.0
            arrays[name] = rng.standard_normal(shape) if start is None else np.full(shape, number)
        return arrays[name]

    return draw


class _Output(list[Any]):
    """A sum of readouts and biases, each (name, std, x, what it starts at)."""

    def __add__(self, other: Any) -> Any:
        return _Output([*self, *(other or ())])

    __radd__ = __add__

    def __mul__(self, c: Any) -> Any:
        return _Output([(name, c * std, x, initial) for name, std, x, initial in self])

    __rmul__ = __mul__

    def __truediv__(self, c: Any) -> Any:
        return self * (1 / c)

    def __neg__(self) -> Any:
        return self * -1

    def __sub__(self, other: Any) -> Any:
        return self + -other

    def __rsub__(self, other: Any) -> Any:
        return -self + other


class _Net:
    """``net`` in NTK parametrization; the parameters are looked up by name."""

    def __init__(self, draws: Draws, label: str, width: int, array: Any) -> None:
        self.draws, self.label, self.width, self.array, self.masks = draws, label, width, array, 0

    def embed(self, key: Any, x: Array, std: float = 1, initial: Any = None) -> Array:
        return std * (self.draws(_name(key), self.width, len(x), start=initial) @ self.array(x)) / math.sqrt(len(x))

    def weight(self, key: Any, std: float = 1, initial: Any = None) -> _Matrix:
        w = self.draws(_name(key), self.width, self.width, start=initial) * (std / math.sqrt(self.width))
        return _Matrix(w + self.array(np.eye(self.width)) if initial == "identity" else w)

    def dense(self, key: Any, h: Array, std: float = 1, initial: Any = None) -> Array:
        return self.weight(key, std, initial) @ h

    def low_rank(self, key: Any, h: Array, rank: float = 1, std: float = 1, initial: Any = None) -> Array:
        head, rest = (key, ()) if isinstance(key, str) else (key[0], key[1:])
        return self.dense((f"{head}.B", *rest), self.dense((f"{head}.A", *rest), h), std, initial)

    def bias(self, key: Any, std: float = 1, initial: Any = None) -> Array:
        if not std:
            return initial or 0
        return std * self.draws(_name(key), self.width, start=None if initial is None else initial / std)

    def state(self, key: Any, std: float = 1, mean: float = 0) -> Array:
        return mean + std * self.draws(f"{_name(key)}({self.label})", self.width)

    def dropout(self, h: Array, rate: float) -> Array:
        self.masks += 1
        return h * (self.draws(f"dropout{self.masks}({self.label})", self.width) > NORMAL.inv_cdf(rate)) / (1 - rate)

    def readout(self, key: Any, x: Array, std: float = 1, bias: float = 0, initial: Any = None) -> _Output:
        constant = [(f"{_name(key)}.bias", bias, None, None)] if bias else []
        return _Output([(_name(key), std, x, initial), *constant])

    def average(self, x: Array, scale: float = 1) -> _Output:
        return _Output([("", scale, x, None)])


def _name(key: Any) -> str:
    return key if isinstance(key, str) else key[0] + "_".join(map(str, key[1:]))


def _outputs(case: Case, draws: Draws, width: int, xp: Any = NUMPY) -> list[list[Any]]:
    fn = case.run(_world(xp))["net"]
    return [fn(_Net(draws, f"x[{i}]", width, xp.array), x) for i, x in enumerate(case.X)]


def kernel(case: Case, width: int, seed: int) -> Array:
    """E f f' of one network given everything but its readouts, (N, N): its mean over networks is the NNGP kernel."""
    outputs = _outputs(case, fresh(np.random.default_rng([3, seed, width])), width)
    return np.array([[_product(f, g) for g in outputs] for f in outputs])


def _product(f: list[Any], g: list[Any]) -> float:
    same = ((a, b) for a in f for b in g if a[0] == b[0] and a[3] is None)
    return float(sum(a[1] * b[1] * (1.0 if a[2] is None else np.mean(a[2] * b[2])) for a, b in same))


def outputs_and_ntk(case: Case, arrays: Mapping[str, Array], width: int, states: set[str]) -> tuple[Array, ...]:
    """Outputs (N,) of a network with these arrays by name, and products of their gradients, (N, N), by autograd.

    Also the sizes of both before the terms of an output cancel, to which all of them are rounded.
    """
    xp = torch()
    leaves = {name: xp.array(a).requires_grad_(name not in states) for name, a in arrays.items()}
    outputs = []
    for terms in _outputs(case, lambda name, *shape, start=None: leaves[name], width, xp):
        parts = [xp.array(0.0)]
        for name, std, x, _ in terms:
            v = leaves[name] if name else xp.array(1.0)
            parts.append(std * (v.sum() if x is None else (v * x).sum() / math.sqrt(width)))
        outputs.append(parts)
    trained = [a for name, a in leaves.items() if name not in states]
    gradients = [_gradient(sum(parts), trained) for parts in outputs]
    each = [[_gradient(part, trained) for part in parts] for parts in outputs]
    theta = [[_products(g, h) for h in gradients] for g in gradients]
    sizes = [[sum(abs(_products(g, h)) for g in a for h in b) for b in each] for a in each]
    f = np.array([float(sum(parts).detach()) for parts in outputs])
    return (
        f,
        np.array(theta),
        np.array([sum(abs(float(p.detach())) for p in parts) for parts in outputs]),
        np.array(sizes),
    )


def _products(g: list[Any], h: list[Any]) -> float:
    return sum(float((a * b).sum()) for a, b in zip(g, h, strict=True))


def _gradient(f: Any, trained: list[Any]) -> list[Any]:
    import torch

    if not f.requires_grad:
        return [torch.zeros_like(a) for a in trained]
    found = torch.autograd.grad(f, trained, allow_unused=True, retain_graph=True)
    return [torch.zeros_like(a) if g is None else g for g, a in zip(found, trained, strict=True)]


# ---- programs ---------------------------------------------------------------------------------------


class _Program:
    """``p``: initial variables of one program of width n."""

    def __init__(self, rng: np.random.Generator, width: int) -> None:
        self.rng, self.width = rng, width

    def matrix(self, name: str = "", variance: float = 1) -> _Matrix:
        return _Matrix(self.rng.standard_normal((self.width, self.width)) * math.sqrt(variance / self.width))

    def vector(self, name: str = "", variance: float = 1, mean: float = 0) -> Array:
        return mean + math.sqrt(variance) * self.rng.standard_normal(self.width)

    def gaussian(self, names: str, cov: Any, mean: Any = 0) -> list[Array]:
        cov = np.array(cov, float)
        means = np.broadcast_to(np.array(mean, float), len(cov))[:, None]
        if np.isclose(np.linalg.det(cov), 0, atol=1e-12):  # what is singular is so exactly
            return list(_singular(cov, self.rng.standard_normal(self.width)) + means)
        return list(np.linalg.cholesky(cov) @ self.rng.standard_normal((len(cov), self.width)) + means)

    def scalar(self, name: str, value: float) -> float:
        return float(value)


def _singular(cov: Array, noise: Array) -> Array:
    """Two variables of rank one."""
    size = np.sqrt(np.diag(cov))
    sign = np.array([1.0, np.sign(cov[0, 1]) if size.all() else 1.0])
    return (size * sign)[:, None] * noise


def variables(case: Case, width: int, seed: int) -> dict[str, Any]:
    """The vectors and scalars of a program of width n, by name."""
    rng = np.random.default_rng([4, seed, width])
    names = case.run(_world(Program=lambda: _Program(rng, width)))
    return {t: names[t] for t, kind in case.kinds().items() if kind != "m"}


def on_draws(case: Case, draws: Mapping[str, Any]) -> dict[str, Any]:
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
