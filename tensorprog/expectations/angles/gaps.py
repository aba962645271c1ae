"""The angle of two Gaussian or random variables, carried along so that |ρ| near 1 keeps all digits.

A covariance c alone has lost the angle θ between two nearly equal variables: 1 - ρ is a difference of rounded
numbers.  The ``Relation`` of two sums and of two functions follows from the relations of what they are made of by
sums of nonnegative terms, so that nothing cancels.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import parity
from tensorprog.expectations.closed.pairs import DEGREES
from tensorprog.expectations.series.hermite import coefficients
from tensorprog.expectations.series.mehler import split
from tensorprog.functions import evaluate

Array = Any
NEAR = 1e-2  # gaps below this are worth more than the values hold: 1 - |ρ| has an error of some 1e-16
CHUNK = 2048  # pairs whose series are summed together
TAIL = 1e-12  # largest fraction of E φ² that a truncated series may miss
CLOSE = 3e-4  # stretches below this are worth a Taylor series
TERMS = 4  # of it
SMALL = 1e-10  # coefficients below this fraction of the root of E φ² are left out


def gap(q1: Array, q2: Array, c: Array) -> Array:
    """1 - |c|/√(q1 q2) from the values; 1 at zero variance, where there is no angle.

    >>> gap(4.0, 1.0, -1.0)
    array(0.5)
    """
    size = np.sqrt(q1) * np.sqrt(q2)
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(size > 0, np.maximum(1 - np.abs(c) / size, 0.0), 1.0)


def near(q1: Array, q2: Array, c: Array) -> Array:
    """Where a pair is so near |ρ| = 1 that its angle must not be taken from c; false at zero variance.

    Args:
        q1, q2: variances, arrays that broadcast.
        c: covariance.

    Returns:
        Boolean array of the broadcast shape.

    >>> near(1.0, 1.0, np.array([1.0, 0.5, -1.0, 0.0]))
    array([ True, False,  True, False])
    """
    return gap(q1, q2, c) < NEAR


class Relation(NamedTuple):
    """1 - ρ, 1 + ρ and √(q1/q2) - 1 of two variables, each to its own last digits."""

    minus: Array
    plus: Array
    stretch: Array

    @property
    def gap(self) -> Array:
        """1 - |ρ|."""
        return np.minimum(self.minus, self.plus)

    @property
    def angle(self) -> Array:
        """θ with cos θ = ρ, accurate relative to itself and to π - θ."""
        small = _angle(self.gap)
        return np.where(self.minus <= self.plus, small, np.pi - small)


def relation(gap: Array, c: Array, stretch: Array) -> Relation:
    """From 1 - |ρ| and the sign of ρ."""
    positive = np.greater_equal(c, 0)
    return Relation(np.where(positive, gap, 2 - gap), np.where(positive, 2 - gap, gap), stretch)


def stretch(q1: Array, q2: Array) -> Array:
    """√(q1/q2) - 1 from the values; not finite where q2 = 0."""
    with np.errstate(divide="ignore", invalid="ignore"):
        return (np.sqrt(q1) - np.sqrt(q2)) / np.sqrt(q2)


def _angle(gap: Array) -> Array:
    return 2 * np.arcsin(np.sqrt(gap / 2))


def sum_relation(a: Sequence[Array], b: Sequence[Array], parts: Sequence[Relation]) -> Relation:
    """The relation of two sums of independent parts of variances a_i and b_i.

    With α_i = a_i/Σa, β_i = b_i/Σb, w_i = √(α_i β_i), W = Σ w_i and 1 + e_i = √(a_i/b_i):
    1 ∓ ρ = Σ_{i<j} (√(α_i β_j) - √(α_j β_i))² / (1 + W) + Σ w_i (1 ∓ ρ_i), where the difference is
    √(β_i β_j Σb/Σa) (e_i - e_j), and Σa/Σb - 1 = Σ β_i (2 e_i + e_i²).

    Args:
        a, b: variances of the parts of the first and of the second sum.
        parts: the relation of each part.

    Returns:
        The relation of the sums.

    Reference: Lagrange's identity, for 1 - W².

    >>> equal, right = Relation(0.0, 2.0, 0.0), Relation(1.0, 1.0, 0.0)
    >>> [round(float(x), 15) for x in sum_relation([1.0, 3.0], [1.0, 3.0], [equal, right])]
    [0.75, 1.25, 0.0]
    """
    first, second = np.positive(sum(a)), np.positive(sum(b))
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = [(np.sqrt(np.where(first > 0, x / first, 0.0)), np.sqrt(np.where(second > 0, y / second, 0.0)))
                 for x, y in zip(a, b, strict=True)]  # fmt: skip
        shrink = np.sqrt(second / first)
        spread = sum(
            _mixed(x, y, p.stretch, q.stretch, shrink) ** 2
            for (x, p), (y, q) in combinations(zip(roots, parts, strict=True), 2)
        )
        growth = sum(
            np.where(v > 0, y**2 * p.stretch * (2 + p.stretch), u / second)  # β_i (2 e_i + e_i²) = (a_i - b_i)/Σb
            for u, v, (_, y), p in zip(a, b, roots, parts, strict=True)
        )
        stretched = growth / (1 + np.sqrt(1 + growth))
    weights = [x * y for x, y in roots]
    spread = spread / (1 + sum(weights))
    minus = spread + sum(np.where(w > 0, w * p.minus, 0.0) for w, p in zip(weights, parts, strict=True))
    plus = spread + sum(np.where(w > 0, w * p.plus, 0.0) for w, p in zip(weights, parts, strict=True))
    return Relation(minus, plus, np.where(np.isfinite(stretched), stretched, stretch(first, second)))


def _mixed(x: tuple[Array, Array], y: tuple[Array, Array], e: Array, f: Array, shrink: Array) -> Array:
    """√(α_i β_j) - √(α_j β_i), through the stretches where those are small."""
    close = np.maximum(np.abs(e), np.abs(f)) < 0.5
    return np.where(close, x[1] * y[1] * (e - f) * shrink, x[0] * y[1] - y[0] * x[1])


def function_relation(body: sp.Expr, u: sp.Symbol, q1: Array, q2: Array, r: Relation) -> Relation | None:
    """The relation of F(z1) and F(z2) from that of centred Gaussians z1 and z2; "variance" is E F².

    Args:
        body: F as an expression in u.
        u: its variable.
        q1, q2: variances of z1 and z2, (N,).
        r: the relation of z1 and z2, of (N,).

    Returns:
        The relation with ρ' = E F(z1)F(z2) / √(E F(z1)² E F(z2)²), or None where there is no rule, because F is
        neither smooth nor piecewise linear with one kink at 0.

    >>> from tensorprog.functions import Relu
    >>> u, one = sp.Symbol("u"), np.ones(1)
    >>> found = function_relation(Relu(u), u, one, one, Relation(1e-20 * one, 2 * one, 0 * one))
    >>> bool(abs(found.minus[0] - 1e-20) < 1e-30)
    True
    """
    degree = kink_degree(body, u)
    if degree is None:
        return _smooth(body, u, q1, q2, r)
    right, left = (float(evaluate(body, {u: x})) for x in (1.0, -1.0))
    return _linear(right, left, r) if degree else _jump(right, left, r)


def kink_degree(body: sp.Expr, u: sp.Symbol) -> int | None:
    """1 for F = a u + b |u|, 0 for F = a + b sign(u), else None."""
    degrees = {_term_degree(term.as_independent(u, as_Add=False)[1], u) for term in sp.Add.make_args(sp.expand(body))}
    return degrees.pop() if len(degrees) == 1 else None


def _term_degree(factor: sp.Expr, u: sp.Symbol) -> int | None:
    if factor.is_number:
        return 0
    return 1 if factor == u else DEGREES.get(type(factor)) if factor.args and factor.args[0] in (u, -u) else None


def _linear(right: float, left: float, r: Relation) -> Relation:
    """F = a u + b|u|: 1 ∓ ρ' = [a² (1 ∓ ρ) + b² (1 ∓ κ)]/(a² + b²), κ the normalised E |z1||z2|."""
    odd, even = ((right - left) / 2) ** 2, ((right + left) / 2) ** 2
    folded = _folded(r.gap)
    minus, plus = ((odd * t + even * e) / (odd + even) for t, e in ((r.minus, folded), (r.plus, 2 - folded)))
    return Relation(minus, plus, r.stretch)


def _folded(gap: Array) -> Array:
    """1 - κ = 1 - cos θ - (2/π)(sin θ - θ cos θ) where 1 - cos θ = 1 - |ρ|."""
    return gap - 2 / np.pi * _sine_minus(_angle(gap))


def _sine_minus(x: Array) -> Array:
    """sin x - x cos x = Σ (-1)^(k+1) 2k x^(2k+1)/(2k+1)! for 0 ≤ x ≤ π/2."""
    total, square = np.zeros_like(x), x * x
    for k in reversed(range(1, 13)):
        total = 1 - total * square * (k + 1) / (k * (2 * k + 2) * (2 * k + 3))
    return total * x**3 / 3


def _jump(right: float, left: float, r: Relation) -> Relation:
    """F = a + b sign(u), from E sign(z1) sign(z2) = 1 - 2θ/π."""
    mean, half = ((right + left) / 2) ** 2, ((right - left) / 2) ** 2
    near, far = r.angle / np.pi, Relation(r.plus, r.minus, 0.0).angle / np.pi
    return Relation(2 * half * near / (mean + half), 2 * (mean + half * far) / (mean + half), np.zeros_like(near))


def _smooth(body: sp.Expr, u: sp.Symbol, q1: Array, q2: Array, r: Relation) -> Relation | None:
    """By the Hermite coefficients a_k, b_k of F(z1) and F(z2), see ``_series``."""
    v = sp.Dummy(real=True)
    if not body.has(u) or split(body * body.subs(u, v), (u, v)) is None:
        return None
    sign = parity(body, (u,))
    found = Relation(np.zeros_like(r.minus), np.full_like(r.minus, 2.0), np.zeros_like(r.minus))
    todo = np.flatnonzero((r.minus > 0) | (q1 != q2))  # not what is simply repeated
    if not len(todo):
        return found
    q, index = np.unique(np.stack([q1[todo], q2[todo]]), return_inverse=True)
    index = index.reshape(2, -1)  # flat before NumPy 2
    tables = _tables(body, u, sign, q)
    if tables is None:
        return None
    for start in range(0, len(todo), CHUNK):
        rows, (i, j) = todo[start : start + CHUNK], index[:, start : start + CHUNK]
        pair = _expanded(tables, i, j, r.stretch[rows])
        minus, stretched = _series(*pair, r.minus[rows], r.plus[rows])
        plus = _series(*pair, r.plus[rows], r.minus[rows])[0] if sign == -1 else 2 - minus
        for whole, part in zip(found, (minus, plus, stretched), strict=True):
            whole[rows] = part
    return found


def _tables(body: sp.Expr, u: sp.Symbol, sign: int, q: Array) -> list[Array] | None:
    """Orders k (K, 1), and coefficients (K, N) of Dⁿf/n!, n ≤ TERMS, D = x d/dx; None where K would be too large."""
    found = coefficients(lambda x: np.broadcast_to(evaluate(body, {u: x}), x.shape), sign, q)
    if not np.all((found.tails[-1] <= TAIL * found.square) & (found.error <= TAIL * np.sqrt(found.square))):
        return None
    table = np.zeros((2 * max(len(p) for p in found.parts if p is not None), len(q)))
    for p, part in enumerate(found.parts):
        if part is not None:
            table[p::2] = part
    last = np.max(np.flatnonzero(np.any(np.abs(table) > SMALL * np.sqrt(found.square), axis=1)), initial=0)
    orders, tables = np.arange(last + 1)[:, None], [table[: last + 1]]
    for n in range(1, TERMS + 1):
        tables.append(_stretching(orders, tables[-1]) / n)
    used = slice(1 if sign < 0 else 0, None, 1 if sign == 0 else 2)
    return [orders[used], *(t[used] for t in tables)]


def _expanded(tables: list[Array], i: Array, j: Array, e: Array) -> tuple[Array, Array, Array]:
    """Orders k, (a_k + b_k)/2 and a_k - b_k of columns i and j, (K, N).

    Where e = √(q1/q2) - 1 is small a - b is Taylor's series in λ = log(1 + e), Σ λⁿ/n! Dⁿb.
    """
    orders, first, *derivatives = tables
    b = first[:, j]
    close = np.abs(e) < CLOSE
    shift = np.log1p(np.where(close, e, 0.0))
    series = np.zeros_like(b)
    for table in reversed(derivatives):
        series = (series + table[:, j]) * shift
    difference = np.where(close, series, first[:, i] - b)
    return orders, b + difference / 2, difference


def _stretching(k: Array, table: Array) -> Array:
    """The coefficients k a_k + √((k + 1)(k + 2)) a_{k+2} of x f'(x), since x he_k' = k he_k + k (k - 1) he_{k-2}."""
    result = k * table
    result[:-2] += np.sqrt((k[:-2] + 1) * (k[:-2] + 2)) * table[2:]
    return result


def _series(k: Array, mean: Array, difference: Array, minus: Array, plus: Array) -> tuple[Array, Array]:
    """1 - ρ' = Σ (a_k/|a| - b_k/|b|)²/2 + Σ a_k b_k (1 - ρ^k)/(|a||b|), and |a|/|b| - 1.

    Where a or b is 0 there is no angle: ρ' is 0 then, and the stretch not finite where b = 0.
    """
    first, second = mean + difference / 2, mean - difference / 2
    norms = [np.sqrt(np.sum(f**2, axis=0)) for f in (first, second)]
    product, total = norms[0] * norms[1], norms[0] + norms[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        longer = 2 * np.sum(mean * difference, axis=0) / total  # |a| - |b|
        apart = (difference * total / 2 - mean * longer) / product
        stretched = longer / norms[1]
        power = np.expm1(k * np.log1p(-np.minimum(minus, plus)))  # |ρ|^k - 1
    power = np.where(k == 0, 0.0, power)
    drop = np.where((minus > plus) & (k % 2 == 1), 2 + power, -power)  # 1 - ρ^k
    with np.errstate(divide="ignore", invalid="ignore"):
        minus_ = np.sum(apart**2 / 2 + first * second / product * drop, axis=0)
    return np.where(product > 0, minus_, 1.0), stretched
