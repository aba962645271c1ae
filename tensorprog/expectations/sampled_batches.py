"""Expectations of functions of a normalised batch by random draws of it, where no integral of closed forms is known."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.batch_norms import centred
from tensorprog.functions import evaluate, numeric

Array = np.ndarray
AT_ONCE = 2**22  # numbers that are held at a time


@dataclass(frozen=True)
class Draws:
    """How many random batches, and which."""

    samples: int
    seed: tuple[int, ...] = (0,)


def drawn(one: Array, cross: Array, two: Array, eps: float, first: Any, second: Any, draws: Draws) -> Array:
    """E f(y_i) g(y'_j) of batches with the covariances Σ, Cov(h,h') and Σ' of members, (B, B')."""

    def term(y: Array, y2: Array, r: Array, r2: Array) -> Array:
        return _of(first, y).T @ _of(second, y2)  # type: ignore[no-any-return]

    return _mean(one, cross, two, eps, draws, term)


def drawn_pushed(one: Array, cross: Array, two: Array, eps: float, first: Any, second: Any, theta: Array,
                 draws: Draws) -> Array:  # fmt: skip
    """E Σ_kl ∂_k f(y_i) Θ_kl ∂_l g(y'_j), (B, B'): ``first`` and ``second`` are f' and g'."""
    g, n, n2 = centred(centred(theta).T).T, len(one), len(two)

    def term(y: Array, y2: Array, r: Array, r2: Array) -> Array:
        a, b = _slope(first, y) / r, _slope(second, y2) / r2
        left, right = y @ g / n, y2 @ g.T / n2
        both = np.einsum("mj,mj->m", left, y2)[:, None] / n2
        return (a.T @ b) * g - (a * y).T @ (b * left) - (a * right).T @ (b * y2) + (a * y * both).T @ (b * y2)  # type: ignore[no-any-return]

    return _mean(one, cross, two, eps, draws, term)


def _of(fn: Any, y: Array) -> Array:
    """A function of the table, or a formula, at numbers; the identity where it is None."""
    if fn is None:
        return y
    if isinstance(fn, sp.Lambda):
        return evaluate(fn.expr, {fn.variables[0]: y})
    return numeric(fn)(y)


def _slope(fn: Any, y: Array) -> Array:
    return np.ones_like(y) if fn is None else _of(fn, y)


def _mean(one: Array, cross: Array, two: Array, eps: float, draws: Draws, term: Any) -> Array:
    """The mean of a term in y, y' and the standard deviations r, r' of what they are normalised from."""
    values, vectors = np.linalg.eigh(np.block([[one, cross], [cross.T, two]]))
    root = vectors * np.sqrt(np.maximum(values, 0.0))
    rng = np.random.default_rng(draws.seed)
    total, step = np.zeros(cross.shape), max(1, AT_ONCE // len(root))
    for start in range(0, draws.samples, step):
        count = min(step, draws.samples - start)
        h = rng.standard_normal((count, len(root))) @ root.T
        (y, r), (y2, r2) = (_normalised(x, eps) for x in (h[:, : len(one)], h[:, len(one) :]))
        total += term(y, y2, r, r2)
    return total / draws.samples


def _normalised(h: Array, eps: float) -> tuple[Array, Array]:
    u = h - h.mean(axis=1, keepdims=True)
    r = np.sqrt((u**2).mean(axis=1, keepdims=True) + eps)
    return u / r, r
