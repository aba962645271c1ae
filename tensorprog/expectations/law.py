"""The law of the Gaussian variables of an expectation, and the value of one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import sympy as sp

Array = Any


@dataclass(frozen=True)
class Value:
    """An expectation: ``value``, absolute ``error`` bound or estimate of the same shape, and ``method``.

    Where the method names Sobol points the error is statistical: four standard errors.
    """

    value: Array
    error: Array
    method: str


@dataclass(frozen=True)
class Law:
    """Law of the Gaussian variables and values of the other symbols; arrays that broadcast."""

    variables: tuple[sp.Symbol, ...]
    cov: Mapping[tuple[int, int], Array]
    mean: tuple[Array, ...]
    scalars: Mapping[sp.Symbol, Array]
    rtol: float
    atol: float
    samples: int = 2**16
    seed: int = 0

    def restrict(self, keep: Sequence[int]) -> Law:
        """The law of some of the variables."""
        cov = {(a, b): self.get(i, j) for a, i in enumerate(keep) for b, j in enumerate(keep) if a <= b}
        variables, mean = zip(*((self.variables[i], self.mean[i]) for i in keep), strict=True)
        return replace(self, variables=variables, cov=cov, mean=mean)

    def get(self, i: int, j: int) -> Array:
        """Covariance of variables i and j."""
        return self.cov[min(i, j), max(i, j)]

    def read(self, body: sp.Expr) -> list[int]:
        """Indices of the variables a body reads."""
        return [i for i, u in enumerate(self.variables) if u in body.free_symbols]

    def columns(self, body: sp.Expr) -> list[Array]:
        """Everything the value of a body depends on."""
        read = self.read(body)
        used = [a for s, a in self.scalars.items() if s in body.free_symbols]
        return [self.get(i, j) for i in read for j in read if i <= j] + [self.mean[i] for i in read] + used

    def shape(self, body: sp.Expr) -> tuple[int, ...]:
        """Shape of the value of a body."""
        return np.broadcast_shapes((), *(np.shape(a) for a in self.columns(body)))

    def centred(self, body: sp.Expr) -> bool:
        """Whether all the variables a body reads have mean 0 everywhere."""
        return not any(np.any(self.mean[i]) for i in self.read(body))

    def flat(self, read: Sequence[int], shape: tuple[int, ...], rows: Array) -> Law:
        """The law of some of the variables at the entries ``rows`` of the flattened shape, without scalars."""
        cov = {
            (a, b): np.broadcast_to(self.get(i, j), shape).reshape(-1)[rows]
            for a, i in enumerate(read)
            for b, j in enumerate(read)
            if a <= b
        }
        mean = tuple(np.broadcast_to(self.mean[i], shape).reshape(-1)[rows] for i in read)
        return replace(self, variables=tuple(self.variables[i] for i in read), cov=cov, mean=mean, scalars={})
