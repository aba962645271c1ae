"""The law of the Gaussian variables of an expectation, and the value of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.determinants import determinant
from tensorprog.functions import evaluate

Array = Any
SLACK = 1e-9  # how far a covariance may exceed its bound, relative to it
NOTICED = 1e-10  # relative error of an expectation from which on its effect on what is made of it is computed
LEAST = 1e-290  # whose inverse is a number
SMALL = 1e-3  # variances below it make functions that are 0 at 0 small beside an absolute tolerance


@dataclass(frozen=True)
class Value:
    """An expectation: ``value``, absolute ``error`` bound or estimate of the same shape, and ``method``.

    Where the method names Sobol points the error is statistical: four standard errors.
    """

    value: Array
    error: Array
    method: str

    @property
    def unsure(self) -> bool:
        """Whether some entry has a relative error above 1e-10, beside entries of its size."""
        size = np.abs(self.value)
        with np.errstate(invalid="ignore"):
            return bool(np.any(self.error > NOTICED * np.maximum(size, 1e-3 * size.max(initial=0.0))))


@dataclass(frozen=True)
class Law:
    """Law of the Gaussian variables and values of the other symbols; arrays that broadcast.

    ``gap`` is 1 - ρ of the two variables, where it is known better than the covariance tells it; ``slack`` is how far
    covariances may be from positive semidefinite, relative to the variances; ``given`` what was set to 0.
    """

    variables: tuple[sp.Symbol, ...]
    cov: Mapping[tuple[int, int], Array]
    mean: tuple[Array, ...]
    scalars: Mapping[sp.Symbol, Array]
    rtol: float
    atol: float
    samples: int = 2**16
    seed: int = 0
    gap: Array | None = None
    slack: float = SLACK
    given: sp.Expr | None = None

    def restrict(self, keep: Sequence[int]) -> Law:
        """The law of some of the variables."""
        cov = {(a, b): self.get(i, j) for a, i in enumerate(keep) for b, j in enumerate(keep) if a <= b}
        variables, mean = zip(*((self.variables[i], self.mean[i]) for i in keep), strict=True)
        return replace(self, variables=variables, cov=cov, mean=mean, gap=self.gap if len(keep) == 2 else None)

    def get(self, i: int, j: int) -> Array:
        """Covariance of variables i and j."""
        return self.cov[min(i, j), max(i, j)]

    def det(self, i: int, j: int) -> Array:
        """q_i q_j - c² of variables i and j, (√(q_i q_j))² (1 - ρ)(1 + ρ) where the gap is known."""
        q1, q2, c = self.get(i, i), self.get(j, j), self.get(i, j)
        if self.gap is None:
            return determinant(q1, q2, c)
        return q1 * q2 * self.gap * (2 - self.gap)

    def read(self, body: sp.Expr) -> list[int]:
        """Indices of the variables a body reads."""
        return [i for i, u in enumerate(self.variables) if u in body.free_symbols]

    def columns(self, body: sp.Expr) -> list[Array]:
        """Everything the value of a body depends on."""
        read = self.read(body)
        used = [a for s, a in self.scalars.items() if s in body.free_symbols]
        cov = [self.get(i, j) for i in read for j in read if i <= j]
        gap = [] if self.gap is None or len(read) < 2 else [self.gap]
        return cov + gap + [self.mean[i] for i in read] + used

    def shape(self, body: sp.Expr) -> tuple[int, ...]:
        """Shape of the value of a body."""
        return np.broadcast_shapes((), *(np.shape(a) for a in self.columns(body)))

    def centred(self, body: sp.Expr) -> bool:
        """Whether all the variables a body reads have mean 0 everywhere."""
        return not any(np.any(self.mean[i]) for i in self.read(body))

    def amplitude(self, body: sp.Expr) -> Array:
        """What an absolute tolerance is meant for: |body| one standard deviation from the mean, at most 1.

        It is 1 where the body is 0 or not finite there, and wherever no variance is small.
        """
        read, used = self.read(body), self.scalars.keys() & body.free_symbols
        if not any(np.any(self.get(i, i) < SMALL) for i in read):
            return np.ones(())
        largest = np.zeros(())
        for signs in product((1, -1), repeat=len(read)):
            point = {
                self.variables[i]: self.mean[i] + s * np.sqrt(self.get(i, i)) for i, s in zip(read, signs, strict=True)
            }
            with np.errstate(all="ignore"):
                largest = np.fmax(largest, np.abs(evaluate(body, point | {s: self.scalars[s] for s in used})))
        return np.where((largest > LEAST) & (largest < 1), largest, 1.0)

    def flat(self, read: Sequence[int], shape: tuple[int, ...], rows: Array) -> Law:
        """The law of some of the variables at the entries ``rows`` of the flattened shape, without scalars."""
        cov = {
            (a, b): np.broadcast_to(self.get(i, j), shape).reshape(-1)[rows]
            for a, i in enumerate(read)
            for b, j in enumerate(read)
            if a <= b
        }
        mean = tuple(np.broadcast_to(self.mean[i], shape).reshape(-1)[rows] for i in read)
        gap = None if self.gap is None else np.broadcast_to(self.gap, shape).reshape(-1)[rows]
        return replace(self, variables=tuple(self.variables[i] for i in read), cov=cov, mean=mean, scalars={}, gap=gap)


def most(q1: Array, q2: Array) -> Array:
    """√(q1 q2), exactly q for q1 = q2 = q, and free of over- and underflow."""
    with np.errstate(over="ignore"):
        whole = q1 * q2
    parts = np.sqrt(q1) * np.sqrt(q2)
    return np.where((whole > 1e-290) & (whole < np.inf), np.maximum(np.sqrt(whole), parts), parts)


def plus(a: Value, b: Value) -> Value:
    methods = dict.fromkeys(m for v in (a, b) for m in v.method.split(" + ") if m)
    return Value(a.value + b.value, a.error + b.error, " + ".join(methods))


def times(a: Value, b: Value) -> Value:
    error = np.abs(a.value) * b.error + np.abs(b.value) * a.error + a.error * b.error
    methods = dict.fromkeys(m for v in (a, b) for m in v.method.split(" + ") if m)
    return Value(a.value * b.value, error, " + ".join(methods))
