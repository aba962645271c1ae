"""Functions of one variable as sums of cut powers times exponentials, and their expectations in closed form.

Every piecewise polynomial, times exponentials, sines, cosines and Gaussians, is such a sum: relu(x) = x₊,
hard_tanh(x) = -1 + (x + 1)₊ - (x - 1)₊, elu(x) = x₊ + (eˣ - 1) 1[x < 0].  So are erf and gelu, whose step is soft:
gelu(x) = x Φ(x).  A Gaussian factor changes the law, an exponential one shifts its mean, and what is left is the
recursion of :mod:`truncated`, or of :mod:`softened` where a step is soft or a rate imaginary.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from math import comb, factorial
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import settled
from tensorprog.expectations.closed.plane import Plane
from tensorprog.expectations.closed.softened import softened
from tensorprog.expectations.closed.truncated import Cut, truncated
from tensorprog.expectations.law import Law, Value
from tensorprog.functions import Cos, Exp, Fn, Sin, X, evaluate, has_deltas, is_delta

Array = Any
EPS, TINY = float(np.finfo(float).eps), float(np.finfo(float).tiny)
UNITS = 4.0  # of rounding, that the recursion costs at most
MOST = 200  # terms of a power; beyond, the closed form is slower than quadrature, and cancels


@dataclass(frozen=True)
class Power:
    """(side (x - kink))₊ⁿ/n! of side ±1, or (x - kink)ⁿ/n! on the whole line at side 0."""

    order: int
    kink: float = 0.0
    side: int = 0


@dataclass(frozen=True)
class Term:
    """coefficient · exp(rate x - damping x²/2) · power(x), its step the normal distribution function of a variance."""

    coefficient: complex
    rate: complex
    damping: float
    power: Power
    width: float = 0.0

    @property
    def cut(self) -> Cut:
        """Where the power is cut."""
        return Cut(self.power.kink, self.power.side, self.width)


ONE = (Term(1.0, 0.0, 0.0, Power(0)),)
Break = tuple[sp.Expr, sp.Expr]  # a kink and the variance of its step, 0 where it is sharp
Pieces = tuple[tuple[Break, ...], tuple[sp.Expr, ...]]  # breaks, and the expressions between them


@lru_cache(maxsize=4096)
def terms(factor: sp.Expr, u: sp.Symbol) -> tuple[Term, ...] | None:
    """A function of one variable as a sum of terms, or None if it is not one.

    >>> from tensorprog.functions import Elu, Tanh
    >>> [(t.coefficient.real, t.rate.real, t.power.order, t.power.side) for t in terms(Elu(X), X)]
    [(-1.0, 0.0, 0, 0), (1.0, 0.0, 0, 1), (1.0, 0.0, 1, 1), (1.0, 1.0, 0, -1)]
    >>> terms(Tanh(X), X) is None
    True
    """
    found = _pieces(settled(factor.subs(u, X)))
    if found is None:
        return None
    breaks, split = found[0], [parts for parts in map(_by_rate, found[1]) if parts is not None]
    if len(split) < len(found[1]):
        return None
    out: list[Term] = []
    for rate, damping in sorted({key for parts in split for key in parts}, key=lambda k: (sp.re(k[0]), sp.im(k[0]))):
        polynomials = [parts.get((rate, damping), sp.S.Zero) for parts in split]
        for coefficient, power, width in _powers(breaks, polynomials, rate):
            out.append(Term(complex(coefficient), complex(rate), float(damping), power, width))
    return tuple(out)


def _pieces(factor: sp.Expr) -> Pieces | None:
    """Breaks and elementary expressions in X between them, of a product of functions of affine arguments."""
    if factor.is_number or factor == X:
        return (), (factor,)
    if factor.is_Mul or factor.is_Add:
        return _merged([_pieces(f) for f in factor.args], factor.func)
    if factor.is_Pow and factor.exp.is_Integer and factor.exp > 0:
        base, power = _pieces(factor.base), int(factor.exp)
        if base is None or any(_multiplied(p, power) > MOST for p in base[1]):
            return None
        return _merged([base] * power, sp.Mul)
    if not isinstance(factor, Fn) or is_delta(type(factor)) or has_deltas(type(factor)):
        return None
    own = _own_pieces(type(factor))
    argument = sp.expand(factor.args[0])
    if isinstance(factor, Exp) and argument.is_polynomial(X) and sp.degree(argument, X) == 2:
        return (), (sp.exp(argument),)
    slope, offset = argument.coeff(X, 1), argument.coeff(X, 0)
    if own is None or sp.expand(slope * X + offset - argument) != 0 or not (slope.is_real and offset.is_real):
        return None
    breaks = [((kink - offset) / slope, width / slope**2) for kink, width in own[0]]
    pieces = [p.subs(X, argument) for p in own[1]]
    return (tuple(breaks), tuple(pieces)) if slope > 0 else (tuple(breaks[::-1]), tuple(pieces[::-1]))


def _multiplied(piece: sp.Expr, power: int) -> int:
    """How many terms a power of a sum has at most."""
    terms = len(sp.Add.make_args(sp.expand(piece)))
    return comb(power + terms - 1, terms - 1)


def _own_pieces(cls: type[Fn]) -> Pieces | None:
    family = cls.family
    if family.pieces:
        return tuple((k, sp.S.Zero) for k in family.kinks), tuple(sp.diff(p, X, cls.order) for p in family.pieces)
    imaginary = sp.exp(sp.I * X)
    waves = {Exp: sp.exp(X), Sin: (imaginary - 1 / imaginary) / (2 * sp.I), Cos: (imaginary + 1 / imaginary) / 2}
    formula = waves.get(cls)
    if formula is None and family.definition is not None:
        formula = sp.expand(sp.diff(family.definition, X, cls.order))
    return None if formula is None else _softly(formula)


def _softly(formula: sp.Expr) -> Pieces:
    """An expression linear in one erf(a X + b) as two pieces and the soft break between them."""
    argument = next((e.args[0] for e in formula.atoms(sp.erf)), X)
    slope, offset = argument.coeff(X, 1), argument.coeff(X, 0)
    if not formula.has(sp.erf) or slope.is_positive is not True or sp.expand(slope * X + offset - argument) != 0:
        return (), (formula,)
    left, right = (formula.subs(sp.erf(argument), sign) for sign in (-1, 1))
    if sp.expand((left + right) / 2 + (right - left) / 2 * sp.erf(argument) - formula) != 0:
        return (), (formula,)
    return ((-offset / slope, 1 / (2 * slope**2)),), (left, right)


def _merged(parts: list[Pieces | None], combine: Any) -> Pieces | None:
    """The sum or product of functions; None for a product of a soft step with another step."""
    known = [part for part in parts if part is not None]
    breaks = sorted({b for part in known for b in part[0]})
    soft = any(width for _, width in breaks)
    if len(known) < len(parts) or (combine is sp.Mul and soft and sum(bool(part[0]) for part in known) > 1):
        return None
    pieces = []
    for count in range(len(breaks) + 1):
        passed = breaks[:count]
        pieces.append(combine(*(part[1][sum(b in passed for b in part[0])] for part in known)))
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


def _powers(breaks: tuple[Break, ...], polynomials: list[sp.Expr], rate: sp.Expr) -> list[tuple[sp.Expr, Power, float]]:
    """Σ coefficient · power, with widths: the polynomial of one end on the whole line, and its jumps beyond each break.

    The end is where exp(rate x) is small, so that no two large terms cancel; without one, an end where it is 0.
    """
    flat = sp.re(rate) == 0
    growing = sp.re(rate) > 0 or (flat and polynomials[0] != 0 and polynomials[-1] == 0)
    side = -1 if growing else 1
    out = [(a, power, 0.0) for a, power in _taylor(polynomials[-1 if growing else 0], sp.S.Zero, 0)]
    for i, (kink, width) in enumerate(breaks):
        jumps = _taylor((polynomials[i + 1] - polynomials[i]) * side, kink, side)
        out += [(a, power, float(width)) for a, power in jumps]
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
        turning = a.rate.imag or b.rate.imag
        if turning < 0:  # the conjugate of another product
            continue
        moment, size = _moment(a, b, plane, memo)
        weight = (2 if turning else 1) * a.coefficient * b.coefficient
        value = value + np.real(weight * moment)
        error = error + UNITS * EPS * abs(weight) * size
    error = np.where(np.isfinite(value + error), error, np.inf)
    return np.where(np.isfinite(value), value, 0.0), error


def _moment(a: Term, b: Term, plane: Plane, memo: dict[Any, Any]) -> tuple[Array, Array]:
    """E of a product of two terms without their coefficients, and its size; ``memo`` holds what they share."""
    damped = a.damping, b.damping
    if damped not in memo:
        law, factor = plane.tilted(*damped)
        memo[damped] = law, factor, factor * (1 + np.abs(np.log(np.maximum(factor, TINY))))
    law, factor, rough = memo[damped]
    key: Any = damped, a.cut, b.cut, a.rate, b.rate
    if key not in memo:
        turning, real = a.rate.imag or b.rate.imag, (a.rate.real, b.rate.real)
        if turning or a.width or b.width:
            memo[key] = softened(a.cut, b.cut, (a.rate, b.rate) if turning else real, law)
        else:
            memo[key] = truncated(a.cut, b.cut, real, law)
    moment, size = memo[key](a.power.order, b.power.order)
    return factor * moment, rough * size


def piecewise(body: sp.Expr, law: Law) -> tuple[Value, Callable[[], Array]] | None:
    """E f(u) or E f(u) g(v) in closed form and what gives its scale, or None where a factor is no sum of terms.

    The scale is √(E f² E g²) of a pair, and |E f| of a single function that is a sum of terms.  A variable of zero
    variance is its mean, at which the functions are evaluated as they are.
    """
    read = law.read(body)
    if not 0 < len(read) < 3 or body.free_symbols - set(law.variables):
        return None
    factors = dict.fromkeys(read, sp.S.One)
    for f in sp.Mul.make_args(body):
        if len(f.free_symbols) > 1:
            return None
        factors[law.read(f)[0] if f.free_symbols else read[0]] *= f
    own = [factors[i].subs(law.variables[i], X) for i in read]
    sums = [terms(f, X) for f in own]
    if len(read) == 1:
        return _repeated(own[0], law, read[0]) if sums[0] is None else _alone(sums[0], own[0], law, read[0])
    first, second = sums
    if first is None or second is None or not joint(first, second):
        return None
    (i, j), shape = read, law.shape(body)
    q1, q2 = law.get(i, i), law.get(j, j)
    with np.errstate(all="ignore"):
        plane = Plane(q1, q2, law.get(i, j), law.det(i, j), law.mean[i], law.mean[j])
        value, error = closed(first, second, plane)
        (a, da), (b, db) = _single(first, own[0], law, i), _single(second, own[1], law, j)
        still = (q1 == 0) | (q2 == 0)
        value = np.where(still, a * b, value)
        error = np.where(still, np.abs(a) * db + np.abs(b) * da, error)
    return _sized(value, error, shape, [(f, law.get(n, n), law.mean[n]) for f, n in zip(own, read, strict=True)])


def joint(first: tuple[Term, ...], second: tuple[Term, ...]) -> bool:
    """Whether the products of two sums have closed forms: an imaginary rate leaves one cut at most.

    >>> from tensorprog.functions import Relu
    >>> wave, ramp = terms(Cos(X), X), terms(Relu(X), X)
    >>> joint(wave, ramp), joint(terms(Cos(X) * Relu(X), X), ramp)
    (True, False)
    """
    return not any((a.rate.imag or b.rate.imag) and a.power.side and b.power.side for a, b in product(first, second))


def _sized(
    value: Array, error: Array, shape: tuple[int, ...], of: list[tuple[sp.Expr, Array, Array]]
) -> tuple[Value, Callable[[], Array]]:
    """A value of a product, and what gives the square root of the product of the second moments of its factors."""
    value, error = (np.array(np.broadcast_to(x, shape)) for x in (value, error))

    def scale() -> Array:
        (f, q1, m1), (g, q2, m2) = of
        return np.broadcast_to(np.sqrt(_square(f, q1, m1) * _square(g, q2, m2)), shape)

    return Value(value, error, "closed form"), scale


def _alone(sum_: tuple[Term, ...], factor: sp.Expr, law: Law, i: int) -> tuple[Value, Callable[[], Array]]:
    value, error = _single(sum_, factor, law, i)
    return Value(value, error, "closed form"), lambda: np.abs(value)


def _repeated(body: sp.Expr, law: Law, i: int) -> tuple[Value, Callable[[], Array]] | None:
    """E f(u) g(u) as that of a pair of correlation 1, where f and g are sums of terms and their product is not."""
    powers = body.as_powers_dict().items()
    factors = [f for base, n in powers for f in ([base] * int(n) if n.is_Integer and n > 0 else [base**n])]
    for k, f in enumerate(factors):
        g = sp.Mul(*factors[:k], *factors[k + 1 :])
        first, second = terms(f, X), terms(g, X)
        if first is not None and second is not None and joint(first, second):
            break
    else:
        return None
    q, mean = law.get(i, i), law.mean[i]
    with np.errstate(all="ignore"):
        value, error = closed(first, second, Plane(q, q, q, np.zeros(()), mean, mean))
        at = evaluate(body, {X: mean})
        value, error = np.where(q == 0, at, value), np.where(q == 0, 4 * EPS * np.abs(at), error)
    return _sized(value, error, np.broadcast_shapes(q.shape, mean.shape), [(f, q, mean), (g, q, mean)])


def _square(factor: sp.Expr, q: Array, mean: Array) -> Array:
    """E f(u)², as far as its terms do not cancel; else 0."""
    sum_, zero = terms(factor, X) or (), np.zeros(())
    with np.errstate(all="ignore"):
        if joint(sum_, sum_):
            value, error = closed(sum_, sum_, Plane(q, q, q, zero, mean, mean))
        else:
            value, error = closed(terms(factor**2, X) or (), ONE, Plane(q, zero, zero, zero, mean, zero))
    return np.where(error < value, value, 0.0)


def _single(sum_: tuple[Term, ...], factor: sp.Expr, law: Law, i: int) -> tuple[Array, Array]:
    """E f(u) and its bound."""
    q, mean = law.get(i, i), law.mean[i]
    with np.errstate(all="ignore"):
        zero = np.zeros(())
        value, error = closed(sum_, ONE, Plane(q, zero, zero, zero, mean, zero))
        if np.any(q == 0):
            at = evaluate(factor, {X: mean})
            value, error = np.where(q == 0, at, value), np.where(q == 0, 4 * EPS * np.abs(at), error)
    shape = np.broadcast_shapes(q.shape, mean.shape)
    return np.array(np.broadcast_to(value, shape)), np.array(np.broadcast_to(error, shape))
