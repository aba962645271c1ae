"""E φ(u)ψ(v) of smooth functions for many covariances at once, by the certified Mehler series.

The coefficients are computed once per distinct variance; each pair costs a Horner sum only, with as many
terms as its correlation and the tails of its two functions ask for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import parity
from tensorprog.expectations.series.hermite import EPS, LEVELS, TAIL_FLOOR, Coefficients, coefficients
from tensorprog.functions import Fn, evaluate

Array = Any
CHUNK = 8192  # pairs summed together: their accumulators stay in cache
DISTINCT = 1 << 14  # variances whose coefficients are held together, 64 MB for an odd function
ROUNDING = 4 * EPS  # of the sum, as a fraction of |a_0 b_0| + |ρ| (Σ k a_k² Σ k b_k²)^½


@dataclass(frozen=True)
class Split:
    """A body φ(u)ψ(v) taken apart: the two factors and the variables they read."""

    first: sp.Expr
    second: sp.Expr
    u: sp.Symbol
    v: sp.Symbol


def split(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> Split | None:
    """φ and ψ of a product of smooth table functions of one variable each, or None if it is something else.

    >>> from tensorprog.functions import Tanh
    >>> u, v = sp.symbols("u v")
    >>> split(u * Tanh(u) ** 2 * Tanh(v), (u, v)).first
    u*tanh(u)**2
    >>> split(Tanh(u + v), (u, v)) is None
    True
    """
    read = [u for u in variables if u in body.free_symbols]
    if len(read) != 2 or body.free_symbols != set(read):
        return None
    factors: dict[sp.Symbol, sp.Expr] = dict.fromkeys(read, sp.S.One)
    for f in sp.Mul.make_args(body):
        if len(f.free_symbols) > 1 or not tame(f):
            return None
        factors[next(iter(f.free_symbols), read[0])] *= f
    return Split(factors[read[0]], factors[read[1]], *read)


def tame(factor: sp.Expr) -> bool:
    """Whether a product is of numbers and positive powers of variables and of smooth table functions of one."""
    if factor.is_Mul:
        return all(tame(f) for f in factor.args)
    base, power = factor.as_base_exp()
    if factor.is_number:
        return True
    if not (power.is_Integer and power > 0):
        return False
    return base.is_Symbol or (isinstance(base, Fn) and not base.family.kinks and base.args[0].is_Symbol)


def mehler(
    body: sp.Expr, variables: tuple[sp.Symbol, sp.Symbol], q1: Array, q2: Array, c: Array, atol: float = 1e-14
) -> tuple[Array, Array]:
    """E φ(u)ψ(v) for zero-mean (u, v), by its Mehler series, with an error bound.

    Σ_{k<K} a_k(q1) b_k(q2) ρ^k, a_k(q) = E φ(√q x) he_k(x)/√k!, ρ = c/√(q1 q2).  The remainder is at most
    |ρ|^K (τ1 τ2)^½ with τ = E φ² - Σ_{k<K} a_k²; the first K ≤ 1024 is taken whose remainder is rounding.  The
    bound adds the coefficients' errors and the rounding of the sum.

    Args:
        body: φ(u)ψ(v) that :func:`split` takes apart.
        variables: u and v.
        q1, q2: variances, arrays that broadcast with c; (N1, 1) and (1, N2) cost N1 + N2 sets of coefficients.
        c: covariance, |c| ≤ √(q1 q2).
        atol: remainder that is not worth further terms.

    Returns:
        (value, error), arrays of the broadcast shape; the error is large where 1024 terms do not suffice.

    Reference: F. G. Mehler, 1866; the remainder by the Cauchy-Schwarz inequality and Parseval's identity.

    >>> from tensorprog.functions import Sin
    >>> u, v = sp.symbols("u v")
    >>> value, error = mehler(Sin(u) * Sin(v), (u, v), 1.0, 2.0, 0.5)
    >>> bool(abs(value - np.exp(-1.5) * np.sinh(0.5)) <= error <= 1e-14)
    True
    """
    parts = split(body, variables)
    if parts is None:
        raise ValueError(f"{body} is not a product of smooth functions of one variable each")
    q1, q2, c = (np.asarray(a, float) for a in (q1, q2, c))
    shape = np.broadcast_shapes(q1.shape, q2.shape, c.shape)
    value, error = np.empty(shape), np.empty(shape)
    for part in _parts(shape, q1, q2):
        first, second, both = (_cut(a, part, shape) for a in (q1, q2, c))
        with np.errstate(all="ignore"):  # what overflows has an infinite bound or NaN, which certifies nothing
            value[part], error[part] = _sum(parts, first, second, both, atol)
    return value, error


def _parts(shape: tuple[int, ...], q1: Array, q2: Array) -> Iterator[tuple[slice, ...]]:
    """Slices along the longest axis, such that few variances are held together."""
    many = max(_compact(q1).size, _compact(q2).size)
    if not shape or many <= DISTINCT:
        yield (slice(None),) * len(shape)
        return
    axis = int(np.argmax(shape))
    width = max(1, shape[axis] * DISTINCT // many)
    for start in range(0, shape[axis], width):
        yield tuple(slice(start, start + width) if i == axis else slice(None) for i in range(len(shape)))


def _cut(a: Array, part: tuple[slice, ...], shape: tuple[int, ...]) -> Array:
    """The part of an array that broadcasts to ``shape``."""
    kept = part[len(shape) - a.ndim :]
    return a[tuple(s if n > 1 else slice(None) for s, n in zip(kept, a.shape, strict=True))]


def _compact(a: Array) -> Array:
    """The array without the axes along which it only repeats its memory."""
    return a[tuple(slice(0, 1) if step == 0 else slice(None) for step in a.strides)]


def _sum(parts: Split, q1: Array, q2: Array, c: Array, atol: float) -> tuple[Array, Array]:
    shape = np.broadcast_shapes(q1.shape, q2.shape, c.shape)
    size = np.sqrt(q1) * np.sqrt(q2)
    rho = np.clip(np.where(size > 0, c / np.where(size > 0, np.maximum(size, np.sqrt(q1 * q2)), 1.0), 0.0), -1, 1)
    top = float(np.abs(rho).max(initial=0.0))
    (d1, i), (d2, j) = _distinct(q1), _distinct(q2)
    second = parts.second.subs(parts.v, parts.u)
    if second == parts.first:
        both, index = np.unique(np.concatenate([d1, d2]), return_inverse=True)
        a = b = _of(parts.first, parts.u, both, top)
        i, j = index[: len(d1)][i], index[len(d1) :][j]
    else:
        a, b = _of(parts.first, parts.u, d1, top), _of(second, parts.u, d2, top)
    i, j, rho = (np.broadcast_to(x, shape).reshape(-1) for x in (i, j, rho))
    value, error = _series(a, b, i, j, rho, atol)
    return value.reshape(shape), error.reshape(shape)


def _distinct(q: Array) -> tuple[Array, Array]:
    """Sorted distinct variances, and an index array that broadcasts like q."""
    small = _compact(q)
    values, index = np.unique(small, return_inverse=True)
    return values, np.broadcast_to(index.reshape(small.shape), q.shape)


def _of(function: sp.Expr, u: sp.Symbol, q: Array, top: float) -> Coefficients:
    return coefficients(lambda x: np.broadcast_to(evaluate(function, {u: x}), x.shape), parity(function, (u,)), q, top)


def _series(a: Coefficients, b: Coefficients, i: Array, j: Array, rho: Array, atol: float) -> tuple[Array, Array]:
    """Values and bounds of flat arrays of pairs, grouped by the number of terms they need."""
    size = np.abs(rho)
    odd = not (a.parts[0] is not None and b.parts[0] is not None)
    n1, n2 = np.sqrt(a.square), np.sqrt(b.square)
    lead = size if odd else np.ones_like(size)
    rounding = ROUNDING * (np.abs(a.mean)[i] * np.abs(b.mean)[j] + size * (np.sqrt(a.energy)[i] * np.sqrt(b.energy)[j]))
    error = rounding + lead * (a.error[i] * (n2 + b.error)[j] + n1[i] * b.error[j])
    floor = np.maximum(atol / 8, 2 * TAIL_FLOOR * lead * (n1[i] * n2[j]))
    level, rest = _levels(a, b, i, j, size, np.maximum(rounding / 4, floor))
    value = np.empty_like(size)
    for number in np.unique(level):
        group = np.flatnonzero(level == number)
        for start in range(0, len(group), CHUNK):
            rows = group[start : start + CHUNK]
            value[rows] = _horner(a, b, i[rows], j[rows], rho[rows], LEVELS[number] // 2)
    return value, error + rest


def _levels(a: Coefficients, b: Coefficients, i: Array, j: Array, size: Array, target: Array) -> tuple[Array, Array]:
    """For each pair the first level whose remainder is below the target, or the last, and the remainder."""
    level, rest = np.full(len(size), len(a.tails) - 1), np.empty_like(size)
    roots = np.sqrt(a.tails), np.sqrt(b.tails)
    open_ = np.arange(len(size))
    for number, order in enumerate(LEVELS[: len(a.tails)]):
        remainder = size[open_] ** order * roots[0][number][i[open_]] * roots[1][number][j[open_]]
        rest[open_] = remainder
        done = remainder <= target[open_]
        level[open_[done]] = number
        open_ = open_[~done]
        if not len(open_):
            break
    return level, rest


def _horner(a: Coefficients, b: Coefficients, i: Array, j: Array, rho: Array, terms: int) -> Array:
    """Σ_p ρ^p Σ_{m<terms} a_{2m+p} b_{2m+p} ρ^{2m}."""
    total, square = np.zeros_like(rho), rho * rho
    left, right = np.empty_like(rho), np.empty_like(rho)
    for p, (first, second) in enumerate(zip(a.parts, b.parts, strict=True)):
        if first is None or second is None:
            continue
        inner = np.zeros_like(rho)
        for m in reversed(range(terms)):
            np.take(first[m], i, out=left, mode="clip")
            np.take(second[m], j, out=right, mode="clip")
            left *= right
            inner *= square
            inner += left
        total += inner * rho**p
    return total
