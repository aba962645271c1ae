"""Expectations of functions of embedded inputs whose weights are not Gaussian: σ Σ_i w_i ξ_i/√d with w_i of a law.

With a finite number d of inputs a coordinate of the first layer is not Gaussian at infinite width, and its expectations
depend on more than the inner products of inputs.  They are integrals over w ∈ R^d, and over Gaussians such as a bias
beside it: sums for laws of few values, Gauss–Legendre quadrature in up to three dimensions, scrambled Sobol points in
more.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp
from scipy import special

from tensorprog.algebra import Gen, Poly, monomial
from tensorprog.dsl.laws import WeightLaw
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.law import Value
from tensorprog.expectations.many.points import sobol_points
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.functions import evaluate
from tensorprog.printing import NameSymbol

Array = Any
Valued = Callable[[Poly], Any]
DIMENSIONS = 3  # of quadrature
NODES = {1: (40, 60), 2: (20, 30), 3: (9, 14)}  # in each half of every dimension: the check, and the value
SUMMED = 2**15  # terms of a sum over the values of discrete laws
RANDOMISATIONS, LOG2 = 16, 11
ERRORS = 4.0  # standard errors reported as the error
CHUNK = 2**22  # numbers that are held at a time
Polys = tuple[Poly, ...]
Nodes = tuple[Array, Array, Array]  # weights w (nodes, dimensions), Gaussians z (nodes, r), and what each node counts


@dataclass(frozen=True)
class Part:
    """coefficient · std · w·ξ/√d of one variable: an embedding of the datum ``data``, or a bias, for which it is 1."""

    coefficient: Poly
    parameter: str
    law: WeightLaw
    std: sp.Expr
    data: sp.Symbol | None


class Lawful(Expect):
    """E body(u) where the u are sums of ``parts``, weights of other laws than the Gaussian, and of Gaussians.

    ``law`` are the covariance of all and the mean, ``rest`` is the covariance of the Gaussians.
    """

    __slots__ = ("parts", "rest")

    def __init__(self, body: sp.Expr, law: tuple[Polys, Polys], scalars: dict[sp.Expr, Gen], forms: Polys,
                 parts: tuple[tuple[Part, ...], ...], rest: Polys) -> None:  # fmt: skip
        super().__init__(body, *law, scalars, forms)
        self.parts, self.rest = parts, rest

    def made_of(self) -> tuple[Any, ...]:
        return self.body, (self.cov, self.mean), self.scalars, self.forms, self.parts, self.rest

    @property
    def laws(self) -> dict[str, WeightLaw]:
        """The law of every parameter."""
        return {p.parameter: p.law for parts in self.parts for p in parts}

    def printed(self) -> NameSymbol:
        """The expectation with its functions and covariances, and the laws of weights."""
        found, names = super().printed(), ", ".join(f"{n} {law.name}" for n, law in self.laws.items())
        return NameSymbol(f"{found}{{{names}}}", rf"{sp.latex(found)}_{{\text{{{names}}}}}")


def lawful(g: Lawful, value: Valued) -> Value:
    """The value of such an expectation, with its error."""
    laws, k = g.laws, len(g.mean)
    mean = [np.asarray(value(m), float) for m in g.mean]
    read = g.body.free_symbols
    scalars = {s: np.asarray(value(monomial(h)), float)[..., None] for s, h in g.scalars.items() if s in read}
    linear: list[dict[str, Array]] = [{} for _ in range(k)]
    for i, parts in enumerate(g.parts):
        for p in parts:
            xi = np.ones(1) if p.data is None else np.asarray(value(monomial(g.scalars[p.data])), float)
            hyper = {s: value(monomial(g.scalars[s])) for s in p.std.free_symbols}
            scale = np.asarray(value(p.coefficient), float) * float(evaluate(p.std, hyper)) / np.sqrt(xi.shape[-1])
            linear[i][p.parameter] = linear[i].get(p.parameter, 0.0) + scale[..., None] * xi
    sizes = {name: a.shape[-1] for row in linear for name, a in row.items()}
    rows = [_side_by_side(row, sizes) for row in linear]
    root = _root([value(c) for c in g.rest], k)
    rank = 0 if root is None else root.shape[-1]

    def integral(nodes: Iterator[Nodes]) -> Array:
        total: Array = 0.0
        for w, z, weight in nodes:
            us = [m[..., None] + a @ w.T for m, a in zip(mean, rows, strict=True)]
            if root is not None:
                us = [u + root[..., i, :] @ z.T for i, u in enumerate(us)]
            point = dict(zip(g.variables, us, strict=True))
            with np.errstate(over="ignore", invalid="ignore"):
                total = total + np.asarray(evaluate(g.body, {**scalars, **point})) @ weight
        return total

    size = int(np.prod(np.broadcast_shapes(*(m.shape for m in mean), *(a.shape[:-1] for a in rows))))
    own = [laws[name] for name, d in sizes.items() for _ in range(d)]
    return _integrated(integral, own, rank, max(1, CHUNK // max(1, size)))


def _side_by_side(row: dict[str, Array], sizes: dict[str, int]) -> Array:
    """What multiplies the weights of all parameters, (.., dimensions)."""
    shape = np.broadcast_shapes(*(a.shape[:-1] for a in row.values())) if row else ()
    given = ((row.get(name, np.zeros(d)), d) for name, d in sizes.items())
    return np.concatenate([np.broadcast_to(a, (*shape, d)) for a, d in given], axis=-1)


def _root(rest: list[Any], k: int) -> Array | None:
    """A root of the covariance of the Gaussians, (.., k, rank); None where there are none."""
    if not any(np.any(c) for c in rest):
        return None
    entries = np.broadcast_arrays(*(np.asarray(c, float) for c in rest))
    cov = np.empty((*entries[0].shape, k, k))
    for (i, j), c in zip(itertools.combinations_with_replacement(range(k), 2), entries, strict=True):
        cov[..., i, j] = cov[..., j, i] = c
    values, vectors = np.linalg.eigh(cov)
    kept = np.flatnonzero((values > 1e-13 * values.max(axis=-1, keepdims=True)).reshape(-1, k).any(axis=0))
    return vectors[..., kept] * np.sqrt(np.maximum(values[..., None, kept], 0.0))


def _integrated(integral: Callable[[Iterator[Nodes]], Array], own: list[WeightLaw], rank: int, step: int) -> Value:
    discrete = float(np.prod([float(len(law.values) or np.inf) for law in own]))
    if discrete <= SUMMED and rank <= DIMENSIONS - 1:
        sizes = (0, 0) if rank == 0 else NODES[min(rank + 1, DIMENSIONS)]
        found, check = (integral(_grid(own, rank, n, step)) for n in reversed(sizes))
        return Value(found, np.abs(found - check) + 1e-15 * np.abs(found), "sum over the values of a law")
    if len(own) + rank <= DIMENSIONS and not any(law.values for law in own):
        sizes = NODES[len(own) + rank]
        found, check = (integral(_grid(own, rank, n, step)) for n in reversed(sizes))
        return Value(found, np.abs(found - check) + 1e-15 * np.abs(found), "quadrature over weights")
    each = []
    for r in range(RANDOMISATIONS):
        points = sobol_points(len(own) + rank, LOG2, np.random.default_rng((7, r)))
        w = np.stack([law.entries(p) for law, p in zip(own, points.T, strict=False)], axis=1)
        z, weight = special.ndtri(points[:, len(own) :]), np.full(len(w), 1 / len(w))
        each.append(integral((w[s : s + step], z[s : s + step], weight[s : s + step]) for s in range(0, len(w), step)))
    error = ERRORS * np.std(each, axis=0, ddof=1) / np.sqrt(RANDOMISATIONS)
    return Value(np.mean(each, axis=0), error, "Sobol points of weights")


def _grid(laws: list[WeightLaw], rank: int, count: int, step: int) -> Iterator[Nodes]:
    """A product of rules, some nodes at a time: Gauss–Legendre in both halves of the quantiles, Gauss–Hermite."""
    axes = [(np.asarray(law.values), np.asarray(law.weights)) if law.values else _halves(law, count) for law in laws]
    if rank:
        nodes, weights = np.polynomial.hermite_e.hermegauss(2 * count)
        axes += [(nodes, weights / np.sqrt(2 * np.pi))] * rank
    shape = tuple(len(nodes) for nodes, _ in axes)
    for start in range(0, int(np.prod(shape)), step):
        places = np.unravel_index(np.arange(start, min(start + step, int(np.prod(shape)))), shape)
        found = np.stack([nodes[p] for (nodes, _), p in zip(axes, places, strict=True)], axis=1)
        weight = np.prod([weights[p] for (_, weights), p in zip(axes, places, strict=True)], axis=0)
        yield found[:, : len(laws)], found[:, len(laws) :], weight


def _halves(law: WeightLaw, count: int) -> tuple[Array, Array]:
    nodes, weights = legendre(count)
    return law.entries(np.concatenate([nodes, 1 + nodes]) / 2), np.concatenate([weights, weights]) / 2
