"""Variables of three and more that are integrated in closed form: exponents by a shift, noise of its own by smoothing.

    E e^(a·u) G(u) = e^(a·m + aCa/2) E G(u + Ca),    E φ(a + s z) = φ_s(a) of a standard normal z independent of a,

so that gates by exponentials, and vectors of their own inside a function, leave an expectation of fewer variables.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import affine
from tensorprog.expectations.law import Law
from tensorprog.functions import Abs, Cos, Erf, Exp, Fn, Relu, Sign, Sin, Step, evaluate

STEEP = 300.0  # the largest exponent that is taken out: factors beyond over- and underflow
A, S = sp.symbols("a s", positive=True)
BELOW = (1 + Erf(A / (sp.sqrt(2) * S))) / 2  # Φ(a/s)
DENSITY = Exp(-(A**2) / (2 * S**2)) / sp.sqrt(2 * sp.pi)
SMOOTH: dict[tuple[type[Fn], int], sp.Expr] = {
    (Relu, 1): A * BELOW + S * DENSITY,
    (Relu, 2): (A**2 + S**2) * BELOW + A * S * DENSITY,
    (Step, 1): BELOW,
    (Abs, 1): A * (2 * BELOW - 1) + 2 * S * DENSITY,
    (Sign, 1): 2 * BELOW - 1,
    (Erf, 1): Erf(A / sp.sqrt(1 + 2 * S**2)),
    (Sin, 1): Exp(-(S**2) / 2) * Sin(A),
    (Cos, 1): Exp(-(S**2) / 2) * Cos(A),
}
Reduced = tuple[sp.Expr, Law] | None


def integrated(term: sp.Expr, law: Law) -> Reduced:
    """A product and a law with the same expectation, simpler by one function or one variable; None if there is none.

    >>> u, v, w = sp.symbols("u v w", real=True)
    >>> one, zero = np.array(1.0), np.array(0.0)
    >>> cov = {(i, j): one if i == j else zero for i in range(3) for j in range(i, 3)}
    >>> law = Law((u, v, w), cov, (zero,) * 3, {}, 0.0, 0.0)
    >>> body, shifted = integrated(Relu(u) * Relu(v) * Exp(u / 2), law)
    >>> body.free_symbols & {w}, [float(m) for m in shifted.mean]
    (set(), [0.5, 0.0, 0.0])
    """
    return _shifted(term, law) or _smoothed(term, law)


def _shifted(term: sp.Expr, law: Law) -> Reduced:
    """Without its exponentials of affine functions."""
    rest: list[sp.Expr] = []
    slopes: list[Any] = [0.0] * len(law.variables)
    offset: Any = 0.0
    for f in sp.Mul.make_args(term):
        base, power = f.as_base_exp()
        exponent = base.args[0] * power if isinstance(base, Exp) and not law.read(power) else None
        gradient, constant = affine(exponent, law.variables) if exponent is not None else ((), sp.S.Zero)
        if not gradient:
            rest.append(f)
            continue
        slopes = [s + _number(g, law) for s, g in zip(slopes, gradient, strict=True)]
        offset = offset + _number(constant, law)
    if len(rest) == len(sp.Mul.make_args(term)) or not law.read(sp.Mul(*rest)):
        return None
    count = range(len(slopes))
    shift = [sum(slopes[j] * law.get(i, j) for j in count) for i in count]
    exponent = offset + sum(s * (m + d / 2) for s, m, d in zip(slopes, law.mean, shift, strict=True))
    if np.any(np.abs(exponent) > STEEP):
        return None
    factor = sp.Dummy("factor", positive=True)
    mean = tuple(np.asarray(m + d) for m, d in zip(law.mean, shift, strict=True))
    return factor * sp.Mul(*rest), replace(law, mean=mean, scalars={**law.scalars, factor: np.exp(exponent)})


def _smoothed(term: sp.Expr, law: Law) -> Reduced:
    """Without a variable that is independent of all others and stands in the argument of one function."""
    factors, read = sp.Mul.make_args(term), law.read(term)
    for k in read:
        u = law.variables[k]
        holding = [f for f in factors if u in f.free_symbols]
        if len(holding) > 1 or any(np.any(law.get(k, j)) for j in read if j != k) or np.any(law.get(k, k) <= 0):
            continue
        base, power = holding[0].as_base_exp()
        formula = SMOOTH.get((type(base), int(power))) if power.is_Integer else None
        slope = sp.expand(sp.diff(base.args[0], u)) if formula is not None else sp.S.Zero
        if slope == 0 or law.read(slope) or slope.has(sp.Derivative):
            continue
        return _replaced(sp.Mul(*(f for f in factors if f is not holding[0])), base.args[0], slope, formula, law, k)
    return None


def _replaced(rest: sp.Expr, argument: sp.Expr, slope: sp.Expr, formula: Any, law: Law, k: int) -> Reduced:
    size = np.abs(_number(slope, law)) * np.sqrt(law.get(k, k))
    if not np.all(size > 0):
        return None
    s, m = sp.Dummy("s", positive=True), sp.Dummy("m", real=True)
    keep = [i for i in range(len(law.variables)) if i != k]
    values = {**law.scalars, s: size, m: law.mean[k]}
    body = rest * formula.xreplace({A: argument.xreplace({law.variables[k]: m}), S: s})
    return body, replace(law.restrict(keep), scalars=values)


def _number(expr: sp.Expr, law: Law) -> Any:
    return np.asarray(evaluate(expr, law.scalars), float)
