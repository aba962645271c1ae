"""Products Π φ_i(u_i) of functions of one Gaussian variable each, and the lines of nodes they are integrated on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import affine, kinks
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.expectations.quadrature.panels import sign_changes
from tensorprog.expectations.quadrature.trapezoid import ROUNDING, SPACING, Problem, blocks, steepness
from tensorprog.functions import evaluate

Array = Any
LEVELS = ((0.5, 9.0), (0.36, 10.0), (0.26, 12.0), (0.18, 14.0), (0.13, 17.0))  # step and half-width of the box
EPS = float(np.finfo(float).eps)
SCAN = 17.0  # standard deviations searched for the kinks of a function of a function
WIDTH = 4.0  # of a Legendre panel, in the length scale that it resolves


@dataclass(frozen=True)
class Factor:
    """φ(mean + deviation x), x standard normal.

    Attributes:
        phi: the function of x.
        kinks: the points x where it is not smooth.
        steep: how many length scales of φ fit into one standard deviation; 0 if it has none.
    """

    phi: Callable[[Array], Array]
    kinks: Array
    steep: float

    @property
    def kinked(self) -> bool:
        """Whether φ has a kink."""
        return len(self.kinks) > 0


@dataclass(frozen=True)
class Product:
    """E Π_i φ_i with standard normal x of a given correlation matrix (k, k)."""

    factors: tuple[Factor, ...]
    correlation: Array


@dataclass(frozen=True)
class Found:
    """Value, error and E |body| of one expectation."""

    value: float
    error: float
    scale: float


def factor(
    body: sp.Expr, variable: sp.Symbol, mean: float, deviation: float, scalars: Mapping[sp.Symbol, float]
) -> Factor:
    """The factor of a body in one variable."""

    def at(expr: sp.Expr, x: Array) -> Array:
        return np.broadcast_to(evaluate(expr, {**scalars, variable: mean + deviation * x}), np.shape(x))

    points: list[float] = []
    for expr in kinks(body, (variable,)):
        gradient, rest = affine(expr, (variable,))
        if gradient:
            root = -float(evaluate(rest, scalars)) / float(evaluate(gradient[0], scalars))
            points.append((root - mean) / deviation)
        else:
            points += list(sign_changes(partial(at, expr), np.array([SCAN])))
    one = {s: np.array([v]) for s, v in scalars.items()}
    problem = Problem(body, (variable,), np.array([[mean]]), np.array([[[deviation]]]), one)
    return Factor(lambda x: at(body, x), np.unique(points), float(steepness(problem)[0]))


def refine(rule: Callable[[float, float], Array | None], rounding: float, rtol: float, atol: float) -> Found | None:
    """Go through ``LEVELS`` until two agree; a rule gives E f and E |f|, or None where it has too many nodes."""
    best: Found | None = None
    last = np.nan
    for step, reach in LEVELS:
        sums = rule(step, reach)
        if sums is None:
            break
        value, scale = (float(s) for s in sums)
        if np.isfinite(last):
            error = max(abs(value - last), rounding * scale)
            best = Found(value, error, scale)
            if error <= atol + max(rtol, rounding) * scale:
                break
        last = value
    return best


def rounding(product: Product, deviations: Array, residual: float) -> float:
    """Relative error by rounding, and by correlations that are off by ``residual``.

    The derivative of E Π φ in a correlation is E ∂_i ∂_j Π φ, where each ∂_i costs the steepness of φ_i, or for a
    kinked one that of the Gaussian of the given deviation which smooths it.
    """
    slopes = [1 / max(s, 1e-9) if f.kinked else 1 + f.steep for f, s in zip(product.factors, deviations, strict=True)]
    return ROUNDING * len(slopes) + min((residual + EPS) * max(slopes) ** 2, 1.0)


def line(breaks: Array, scale: float, step: float, reach: float) -> tuple[Array, Array]:
    """Nodes and weights on [-reach, reach] for functions of a length scale, smooth between the breaks.

    A trapezoid rule where there is no break, Gauss-Legendre panels elsewhere.
    """
    inside = np.unique(breaks[np.abs(breaks) < reach])
    if not len(inside):
        count = int(np.ceil(reach / (step * scale)))
        return step * scale * np.arange(-count, count + 1), np.full(2 * count + 1, step * scale)
    ends = np.concatenate([[-reach], inside, [reach]])
    pieces = np.ceil(np.diff(ends) / (WIDTH * scale)).astype(int)
    ends = np.concatenate([np.linspace(a, b, n + 1)[:-1] for a, b, n in zip(ends, ends[1:], pieces, strict=False)])
    ends = np.append(ends, reach)
    x, w = legendre(round(8 / step))
    width = np.diff(ends)[:, None]
    return (ends[:-1, None] + width * x).ravel(), (width * w).ravel()


def graded(centre: float, width: float, reach: float) -> Iterator[float]:
    """Breaks around a feature of the given width, at distances that double."""
    yield centre
    distance = WIDTH * width
    while 0 < distance < 2 * reach:
        yield from (centre - distance, centre + distance)
        distance *= 2


def density(x: Array) -> Array:
    """The standard normal density."""
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def smoothed(f: Factor, t: Array, s: float, step: float, reach: float) -> Array:
    """E φ(t + s ξ) and E |φ(t + s ξ)| for points t (P,), (P, 2)."""
    t = np.asarray(t, float)
    if s == 0:
        values = f.phi(t)
        return np.stack([values, np.abs(values)], axis=-1)
    fine = step * min(1.0, SPACING / max(f.steep * s, 1e-300))
    order = round(24 / fine)
    result = np.empty((len(t), 2))
    for rows in blocks(len(t), (len(f.kinks) + 1) * order):
        x, weight = _moving(f.kinks, t[rows], s, fine, order, reach)
        values = f.phi(t[rows, None] + s * x)
        result[rows] = np.stack([(values * weight).sum(-1), (np.abs(values) * weight).sum(-1)], axis=-1)
    return result


def _moving(kinks: Array, t: Array, s: float, step: float, order: int, reach: float) -> tuple[Array, Array]:
    """Nodes ξ and weights of E f(t + s ξ), split where t + s ξ is a kink."""
    if not len(kinks):
        x, weight = line(kinks, 1.0, step, reach)
        return x, weight * density(x)
    inner = np.clip((kinks - t[:, None]) / s, -reach, reach)
    rim = np.full((len(t), 1), reach)
    ends = np.concatenate([-rim, inner, rim], axis=1)
    x, w = legendre(order)
    width = np.diff(ends, axis=1)[..., None]
    nodes = (ends[:, :-1, None] + width * x).reshape(len(t), -1)
    return nodes, (width * w).reshape(nodes.shape) * density(nodes)
