"""Functions of one variable as sums of truncated powers times exponentials, and their expectations in closed form.

Every piecewise polynomial, times exponentials, sines, cosines and Gaussians, is such a sum: relu(x) = x₊,
hard_tanh(x) = -1 + (x + 1)₊ - (x - 1)₊, elu(x) = x₊ + (eˣ - 1) 1[x < 0].  A Gaussian factor changes the law, an
exponential one shifts its mean, and what is left is the recursion of :mod:`truncated`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache, partial
from itertools import product
from math import factorial
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.law import Law, Value
from tensorprog.expectations.truncated import Plane, Power, truncated
from tensorprog.functions import Cos, Exp, Fn, Sin, X, evaluate, has_deltas, is_delta

Array = Any
EPS = float(np.finfo(float).eps)
UNITS = 4.0  # of rounding, that the recursion costs at most


@dataclass(frozen=True)
class Term:
    """coefficient · exp(rate x - damping x²/2) · power(x)."""

    coefficient: complex
    rate: complex
    damping: float
    power: Power


Pieces = tuple[tuple[sp.Expr, ...], tuple[sp.Expr, ...]]  # breaks, and the expressions between them


@lru_cache(maxsize=4096)
def terms(factor: sp.Expr, u: sp.Symbol) -> tuple[Term, ...] | None:
    """A function of one variable as a sum of terms, or None if it is not one.

    >>> from tensorprog.functions import Elu, Tanh
    >>> [(t.coefficient.real, t.rate.real, t.power.order, t.power.side) for t in terms(Elu(X), X)]
    [(-1.0, 0.0, 0, 0), (1.0, 0.0, 0, 1), (1.0, 0.0, 1, 1), (1.0, 1.0, 0, -1)]
    >>> terms(Tanh(X), X) is None
    True
    """
    found = _pieces(factor.subs(u, X))
    if found is None:
        return None
    breaks, split = found[0], [parts for parts in map(_by_rate, found[1]) if parts is not None]
    if len(split) < len(found[1]):
        return None
    out: list[Term] = []
    for rate, damping in sorted({key for parts in split for key in parts}, key=lambda k: (sp.re(k[0]), sp.im(k[0]))):
        polynomials = [parts.get((rate, damping), sp.S.Zero) for parts in split]
        if breaks and sp.im(rate) != 0:
            return None
        for coefficient, power in _powers(breaks, polynomials, rate, damping):
            out.append(Term(complex(coefficient), complex(rate), float(damping), power))
    return tuple(out)


def _pieces(factor: sp.Expr) -> Pieces | None:
    """Breaks and elementary expressions in X between them, of a product of functions of affine arguments."""
    if factor.is_number or factor == X:
        return (), (factor,)
    if factor.is_Mul or factor.is_Add:
        parts = [_pieces(f) for f in factor.args]
        return None if None in parts else _merged(parts, factor.func)  # type: ignore[arg-type]
    if factor.is_Pow and factor.exp.is_Integer and factor.exp > 0:
        base = _pieces(factor.base)
        return None if base is None else (base[0], tuple(p**factor.exp for p in base[1]))
    if not isinstance(factor, Fn) or is_delta(type(factor)) or has_deltas(type(factor)):
        return None
    own = _own_pieces(type(factor))
    argument = sp.expand(factor.args[0])
    slope, offset = argument.coeff(X, 1), argument.coeff(X, 0)
    if own is None or sp.expand(slope * X + offset - argument) != 0 or not (slope.is_real and offset.is_real):
        return None
    breaks, pieces = [(k - offset) / slope for k in own[0]], [p.subs(X, argument) for p in own[1]]
    return (tuple(breaks), tuple(pieces)) if slope > 0 else (tuple(breaks[::-1]), tuple(pieces[::-1]))


def _own_pieces(cls: type[Fn]) -> Pieces | None:
    family = cls.family
    if family.pieces:
        return family.kinks, tuple(sp.diff(p, X, cls.order) for p in family.pieces)
    imaginary = sp.exp(sp.I * X)
    waves = {Exp: sp.exp(X), Sin: (imaginary - 1 / imaginary) / (2 * sp.I), Cos: (imaginary + 1 / imaginary) / 2}
    formula = waves.get(cls)
    if formula is None and family.definition is not None:
        formula = sp.expand(sp.diff(family.definition, X, cls.order))
    return None if formula is None else ((), (formula,))


def _merged(parts: list[Pieces], combine: Any) -> Pieces:
    breaks = sorted({b for part in parts for b in part[0]})
    pieces = []
    for low in [None, *breaks]:  # the interval right of ``low``
        chosen = [part[1][0 if low is None else sum(bool(b <= low) for b in part[0])] for part in parts]
        pieces.append(combine(*chosen))
    return tuple(breaks), tuple(pieces)


def _by_rate(expr: sp.Expr) -> dict[tuple[sp.Expr, sp.Expr], sp.Expr] | None:
    """Polynomials in X by (rate, damping) of the exponential exp(rate X - damping X²/2) they stand with."""
    out: dict[tuple[sp.Expr, sp.Expr], sp.Expr] = defaultdict(lambda: sp.S.Zero)
    for term in sp.Add.make_args(sp.powsimp(sp.expand(expr))):
        polynomial, exponent = sp.S.One, sp.S.Zero
        for f in sp.Mul.make_args(sp.expand(term)):
            if isinstance(f, sp.exp):
                exponent += f.args[0]
            else:
                polynomial *= f
        exponent = sp.expand(exponent)
        if not (exponent.is_polynomial(X) and polynomial.is_polynomial(X)) or sp.degree(exponent, X) > 2:
            return None
        damping, rate = -2 * exponent.coeff(X, 2), exponent.coeff(X, 1)
        if not (damping.is_real and damping >= 0):
            return None
        out[rate, damping] += polynomial * sp.exp(exponent.coeff(X, 0))
    return dict(out)


def _powers(
    breaks: tuple[sp.Expr, ...], polynomials: list[sp.Expr], rate: sp.Expr, damping: sp.Expr
) -> list[tuple[sp.Expr, Power]]:
    """Σ coefficient · power: the polynomial of one end on the whole line, and its jumps beyond each break.

    The end is where exp(rate x) is small, so that no two large terms cancel; without one, an end where it is 0.
    """
    growing = sp.re(rate) > 0 or (rate == 0 and polynomials[0] != 0 and polynomials[-1] == 0)
    side = -1 if growing else 1
    out = _taylor(polynomials[-1 if growing else 0], sp.S.Zero, 0)
    for i, kink in enumerate(breaks):
        out += _taylor((polynomials[i + 1] - polynomials[i]) * side, kink, side)
    return out


def _taylor(polynomial: sp.Expr, kink: sp.Expr, side: int) -> list[tuple[sp.Expr, Power]]:
    """Coefficients of the polynomial in powers of side (x - kink), with the factorials of :class:`Power`."""
    coefficients = sp.Poly(sp.expand(polynomial.subs(X, X + kink)), X).all_coeffs()[::-1]
    return [
        (a * factorial(n) * (side or 1) ** n, Power(n, float(kink), side)) for n, a in enumerate(coefficients) if a != 0
    ]


def closed(first: tuple[Term, ...], second: tuple[Term, ...], plane: Plane) -> tuple[Array, Array]:
    """E of a product of two sums of terms, with a bound of its rounding.

    Args:
        first, second: functions of u and v, by :func:`terms`.
        plane: law of (u, v).

    Returns:
        (value, error), arrays; the error is large, or infinite, where terms cancel.

    Reference: R. H. Cameron, W. T. Martin, 1944, for the shift; see :mod:`truncated` for the rest.

    >>> from tensorprog.functions import Step
    >>> half = terms(Step(X), X)
    >>> float(closed(half, half, Plane(1.0, 1.0, 0.0, 1.0, 0.0, 0.0))[0])
    0.25
    """
    value, error = np.zeros(()), np.zeros(())
    memo: dict[Any, Any] = {}
    for a, b in product(first, second):
        key = a.rate, a.damping, b.rate, b.damping
        if key not in memo:
            law, factor = plane.tilted(a.damping, b.damping)
            rates = (a.rate, b.rate) if a.rate.imag or b.rate.imag else (a.rate.real, b.rate.real)
            memo[key] = *law.shifted(*rates), factor
        law, exponent, factor = memo[key]
        weight = a.coefficient * b.coefficient * factor * np.exp(exponent)
        moment, size = truncated(a.power, b.power, law)
        value = value + np.real(weight * moment)
        error = error + UNITS * EPS * np.abs(weight) * size * (1 + np.abs(exponent))
    error = np.where(np.isfinite(value + error), error, np.inf)
    return np.where(np.isfinite(value), value, 0.0), error


def piecewise(body: sp.Expr, law: Law) -> tuple[Value, Callable[[], Array]] | None:
    """E f(u) or E f(u) g(v) in closed form and what gives its scale, or None where a factor is no sum of terms.

    The scale is √(E f² E g²) of a pair, and |E f| of a single function.  A variable of zero variance is its mean, at
    which the functions are evaluated as they are.
    """
    read = law.read(body)
    if len(read) > 2 or body.free_symbols - set(law.variables):
        return None
    factors = dict.fromkeys(read, sp.S.One)
    for f in sp.Mul.make_args(body):
        if len(f.free_symbols) > 1:
            return None
        factors[law.read(f)[0] if f.free_symbols else read[0]] *= f
    sums = [s for s in (terms(f, law.variables[i]) for i, f in factors.items()) if s is not None]
    if len(sums) < len(read):
        return None
    singles = [_single(s, f, law, i) for s, (i, f) in zip(sums, factors.items(), strict=True)]
    if len(read) == 1:
        return Value(*singles[0], "closed form"), lambda: np.abs(singles[0][0])
    (i, j), shape = read, law.shape(body)
    q1, q2 = law.get(i, i), law.get(j, j)
    with np.errstate(all="ignore"):
        plane = Plane(q1, q2, law.get(i, j), law.det(i, j), law.mean[i], law.mean[j])
        value, error = closed(sums[0], sums[1], plane)
    (a, da), (b, db) = singles
    still = (q1 == 0) | (q2 == 0)
    with np.errstate(all="ignore"):
        value = np.where(still, a * b, value)
        error = np.where(still, np.abs(a) * db + np.abs(b) * da, error)
    value, error = (np.array(np.broadcast_to(x, shape)) for x in (value, error))
    first, second = (partial(_square, s, law.get(n, n), law.mean[n]) for s, n in zip(sums, read, strict=True))
    return Value(value, error, "closed form"), lambda: np.broadcast_to(np.sqrt(first() * second()), shape)


def _square(sum_: tuple[Term, ...], q: Array, mean: Array) -> Array:
    """E f(u)², as far as its terms do not cancel; else 0."""
    with np.errstate(all="ignore"):
        value, error = closed(sum_, sum_, Plane(q, q, q, np.zeros(()), mean, mean))
    return np.where(error < value, value, 0.0)


def _single(sum_: tuple[Term, ...], factor: sp.Expr, law: Law, i: int) -> tuple[Array, Array]:
    """E f(u) and its bound."""
    q, mean = law.get(i, i), law.mean[i]
    with np.errstate(all="ignore"):
        zero = np.zeros(())
        value, error = closed(sum_, terms(sp.S.One, X) or (), Plane(q, zero, zero, zero, mean, zero))
        if np.any(q == 0):
            at = evaluate(factor, {law.variables[i]: mean})
            value, error = np.where(q == 0, at, value), np.where(q == 0, 4 * EPS * np.abs(at), error)
    shape = np.broadcast_shapes(q.shape, mean.shape)
    return np.array(np.broadcast_to(value, shape)), np.array(np.broadcast_to(error, shape))
