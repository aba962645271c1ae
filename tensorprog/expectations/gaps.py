"""The gap 1 - |ρ| of two Gaussian or random variables, carried along so that |ρ| near 1 keeps all digits.

A covariance c alone has lost the angle θ between two nearly equal variables: 1 - ρ is a difference of rounded
numbers.  The gap of a sum and of a function of two variables follow from the gaps of what they are made of by sums
of nonnegative terms, so that nothing cancels.  ``Sides`` are the pair (1 - ρ, 1 + ρ).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.closed_forms import parity
from tensorprog.expectations.hermite import coefficients
from tensorprog.expectations.mehler import split
from tensorprog.functions import Abs, Relu, Sign, Step, evaluate

Array = Any
Sides = tuple[Array, Array]
NEAR = 1e-2  # gaps below this are worth more than the values hold: 1 - |ρ| has an error of some 1e-16
CHUNK = 2048  # pairs whose series are summed together
TAIL = 1e-12  # largest fraction of E φ² that a truncated series may miss
SMALL = 1e-10  # coefficients below this fraction of the root of E φ² are left out
DEGREES: dict[Any, int] = {Relu: 1, Abs: 1, Step: 0, Sign: 0}  # piecewise linear with one kink, at 0


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


def sides(gap: Array, c: Array) -> Sides:
    """1 - ρ and 1 + ρ from 1 - |ρ| and the sign of ρ."""
    positive = np.asarray(c) >= 0
    return np.where(positive, gap, 2 - gap), np.where(positive, 2 - gap, gap)


def angle(s: Sides) -> Array:
    """θ with cos θ = ρ, accurate relative to itself and to π - θ.

    >>> float(angle((np.array(1e-30), np.array(2.0))))
    1.4142135623730952e-15
    """
    minus, plus = s
    small = 2 * np.arcsin(np.sqrt(np.minimum(minus, plus) / 2))
    return np.where(minus <= plus, small, np.pi - small)


def sum_sides(a: Sequence[Array], b: Sequence[Array], parts: Sequence[Sides]) -> Sides:
    """1 ∓ ρ of two sums of independent parts.

    For variances a_i, b_i that add up to 1 each, w_i = √(a_i b_i), W = Σ w_i:
    1 ∓ ρ = Σ_{i<j} (√(a_i b_j) - √(a_j b_i))² / (1 + W) + Σ w_i (1 ∓ ρ_i).

    Args:
        a, b: variances of the parts of the first and of the second sum.
        parts: 1 ∓ ρ_i.

    Returns:
        The pair 1 ∓ ρ.

    Reference: Lagrange's identity, for 1 - W².

    >>> half = np.array(0.5)
    >>> [float(s) for s in sum_sides([half, half], [half, half], [(0 * half, 0 * half + 2), (half, 3 * half)])]
    [0.25, 1.75]
    """
    total = sum(a), sum(b)
    with np.errstate(divide="ignore", invalid="ignore"):
        roots = [[np.sqrt(np.where(t > 0, x / t, 0.0)) for x in xs] for xs, t in zip((a, b), total, strict=True)]
    weights = [x * y for x, y in zip(*roots, strict=True)]
    pairs = combinations(range(len(a)), 2)
    spread = sum((roots[0][i] * roots[1][j] - roots[0][j] * roots[1][i]) ** 2 for i, j in pairs)
    spread = spread / (1 + sum(weights))
    minus, plus = (spread + sum(w * p[k] for w, p in zip(weights, parts, strict=True)) for k in (0, 1))
    return minus, plus


def function_sides(body: sp.Expr, u: sp.Symbol, q1: Array, q2: Array, s: Sides) -> Sides | None:
    """1 ∓ ρ' of F(z1), F(z2), ρ' = E F(z1)F(z2) / √(E F(z1)² E F(z2)²), from 1 ∓ ρ of centred Gaussians z1, z2.

    Args:
        body: F as an expression in u.
        u: its variable.
        q1, q2: variances of z1 and z2, (N,).
        s: 1 ∓ ρ, each (N,).

    Returns:
        The pair 1 ∓ ρ', or None where there is no rule: F is neither smooth nor piecewise linear with one kink.

    >>> u = sp.Symbol("u")
    >>> one = np.ones(1)
    >>> minus, plus = function_sides(Relu(u), u, one, one, (1e-20 * one, 2 * one))
    >>> float(minus[0])
    5e-21
    """
    degree = _degree(body, u)
    if degree is not None:
        right, left = (float(evaluate(body, {u: x})) for x in (1.0, -1.0))
        return _linear(right, -left, s) if degree else _jump(right, left, s)
    return _smooth(body, u, q1, q2, s)


def _degree(body: sp.Expr, u: sp.Symbol) -> int | None:
    """1 for F = a u + b |u|, 0 for F = a + b sign(u), else None."""
    degrees = {_term_degree(term.as_independent(u, as_Add=False)[1], u) for term in sp.Add.make_args(sp.expand(body))}
    return degrees.pop() if len(degrees) == 1 else None


def _term_degree(factor: sp.Expr, u: sp.Symbol) -> int | None:
    if factor.is_number:
        return 0
    return 1 if factor == u else DEGREES.get(type(factor)) if factor.args and factor.args[0] in (u, -u) else None


def _linear(right: float, left: float, s: Sides) -> Sides:
    """F = a u + b|u|: 1 ∓ ρ' = [a² (1 ∓ ρ) + b² (1 ∓ κ(ρ))]/(a² + b²), κ the normalised kernel of |u|."""
    odd, even = ((right + left) / 2) ** 2, ((right - left) / 2) ** 2
    folded = _folded(np.minimum(*s))
    minus, plus = ((odd * t + even * e) / (odd + even) for t, e in zip(s, (folded, 2 - folded), strict=True))
    return minus, plus


def _folded(t: Array) -> Array:
    """1 - E|u||v|/√(E u² E v²) = t - (2/π)(sin θ - θ cos θ) for t = 1 - |ρ| = 1 - cos θ."""
    theta = 2 * np.arcsin(np.sqrt(t / 2))
    return t - 2 / np.pi * _sine_minus(theta)


def _sine_minus(x: Array) -> Array:
    """sin x - x cos x = Σ (-1)^(k+1) 2k x^(2k+1)/(2k+1)! for 0 ≤ x ≤ π/2."""
    total, square = np.zeros_like(x), x * x
    for k in reversed(range(1, 13)):
        total = 1 - total * square * (k + 1) / (k * (2 * k + 2) * (2 * k + 3))
    return total * x**3 / 3


def _jump(right: float, left: float, s: Sides) -> Sides:
    """F = a + b sign(u): 1 ∓ ρ' from E sign(u)sign(v) = 1 - 2θ/π."""
    mean, half = ((right + left) / 2) ** 2, ((right - left) / 2) ** 2
    theta, supplement = angle(s), angle((s[1], s[0]))
    return 2 * half * theta / np.pi / (mean + half), 2 * (mean + half * supplement / np.pi) / (mean + half)


def _smooth(body: sp.Expr, u: sp.Symbol, q1: Array, q2: Array, s: Sides) -> Sides | None:
    """By the Hermite coefficients u_k, w_k of F(z1) and F(z2), normalised: Σ (u_k - w_k)²/2 + Σ u_k w_k (1 - ρ^k)."""
    v = sp.Dummy(real=True)
    if not body.has(u) or split(body * body.subs(u, v), (u, v)) is None:
        return None
    sign = parity(body, (u,))
    minus, plus = np.empty_like(s[0]), np.empty_like(s[0])
    for start in range(0, len(minus), CHUNK):
        rows = slice(start, start + CHUNK)
        pair = _normalised(body, u, sign, q1[rows], q2[rows])
        if pair is None:
            return None
        minus[rows] = _series(pair, s[0][rows], s[1][rows])
        plus[rows] = _series(pair, s[1][rows], s[0][rows]) if sign == -1 else 2 - minus[rows]
    return minus, plus


def _normalised(body: sp.Expr, u: sp.Symbol, sign: int, q1: Array, q2: Array) -> tuple[Array, Array, Array] | None:
    """Orders k ≥ 0 that count and the coefficients of both functions as unit vectors, (K, N)."""
    q, index = np.unique(np.concatenate([q1, q2]), return_inverse=True)
    found = coefficients(lambda x: np.broadcast_to(evaluate(body, {u: x}), x.shape), sign, q)
    if not np.all((found.tails[-1] <= TAIL * found.square) & (found.error <= TAIL * np.sqrt(found.square))):
        return None
    table = np.zeros((2 * max(len(p) for p in found.parts if p is not None), len(q)))
    for p, part in enumerate(found.parts):
        if part is not None:
            table[p::2] = part
    table = table / np.sqrt(np.sum(table**2, axis=0))
    orders = np.flatnonzero(np.abs(table).max(axis=1) > SMALL)
    return orders, table[orders][:, index[: len(q1)]], table[orders][:, index[len(q1) :]]


def _series(pair: tuple[Array, Array, Array], minus: Array, plus: Array) -> Array:
    orders, first, second = pair
    k = orders[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        power = np.expm1(k * np.log1p(-np.minimum(minus, plus)))  # |ρ|^k - 1
    power = np.where(k == 0, 0.0, power)
    drop = np.where((minus > plus) & (k % 2 == 1), 2 + power, -power)  # 1 - ρ^k
    return np.sum((first - second) ** 2 / 2 + first * second * drop, axis=0)
