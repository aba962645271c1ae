"""Rules on an interval, and which of them a function asks for: smooth inside, or singular at the ends.

A graded rule has nodes whose distances to both ends shrink geometrically, so that powers |x|^a with a > -1 and
logarithms at an end, or as near to it as may be, cost no digits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.bodies import kinks
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.functions import Cos, Fn, Sin, X

Array = Any
DIGITS = 38.0  # natural logarithm of what the outermost node of a graded rule leaves out
WORST = -0.95  # exponent from which on nothing is integrated
DEGREE = 12  # of the polynomials whose roots are looked for


@dataclass(frozen=True)
class Rule:
    """Nodes on [0, 1] by their distances from both ends, each to its own last digits, and weights, (n,).

    ``beyond`` is what multiplies the outermost terms of a sum to bound what lies beyond them.
    """

    left: Array
    right: Array
    weight: Array
    beyond: float = 0.0


@cache
def gauss_legendre(order: int) -> Rule:
    """The Gauss-Legendre rule."""
    x, w = legendre(order)
    return Rule(x, 1 - x, w)


@cache
def graded(step: float, middle: float, tail: float, power: float = 0.0) -> Rule:
    """A rule for functions with algebraic or logarithmic singularities at, or anywhere beyond, the ends.

    The trapezoid rule in s for x = log[(1 + e^(s+A))/(1 + e^(s-A))]/2A, |s| ≤ A + tail.  A singularity on the real axis
    outside the interval is π away from it in s, however near to an end it is: the error is e^(-2π²/step).

    Args:
        step: of the rule.
        middle: A; the interval is 2A long in units of s.
        tail: the outermost nodes are e^(-tail) of a unit from the ends.
        power: the smallest exponent at the ends, > -1.

    Reference: L. N. Trefethen, J. A. C. Weideman, The exponentially convergent trapezoidal rule, SIAM Review 2014.

    >>> rule = graded(0.4, 2.0, 80.0, -0.5)
    >>> bool(abs(rule.weight @ rule.left**-0.5 - 2) < 1e-14), bool(abs(rule.weight @ np.log(rule.right) + 1) < 1e-14)
    (True, True)
    """
    s = step * np.arange(np.ceil((middle + tail) / step) + 1)
    s = np.concatenate([-s[:0:-1], s])
    left = (np.logaddexp(0, s + middle) - np.logaddexp(0, s - middle)) / (2 * middle)
    weight = step * np.sinh(middle) / (np.cosh(s) + np.cosh(middle)) / (2 * middle)
    low = s < -middle  # there both logarithms are small
    left[low] = (np.log1p(np.exp(s[low] + middle)) - np.log1p(np.exp(s[low] - middle))) / (2 * middle)
    return Rule(left, left[::-1].copy(), weight, 2 / (step * (1 + power)))


def powers(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> list[float] | None:
    """Exponents at the singular points of a body; None where all kinks and jumps are tame.

    They are 0 for a logarithm, and for powers of what is positive, whose singular points are complex.

    >>> from tensorprog.functions import Abs, Relu
    >>> x = sp.Symbol("x")
    >>> powers(sp.sqrt(Relu(x)) * sp.log(Abs(x)), (x,)), powers(Relu(x), (x,))
    ([0.0, 0.5], None)
    """
    own = [f for f in _singular(body) if f.free_symbols & set(variables)]
    for f in body.atoms(Fn):
        for piece in f.family.pieces if f.free_symbols & set(variables) else ():
            own += [g for g in _singular(sp.diff(piece, X, f.order)) if kinks(g, (X,)) or g.is_Pow]
    found = sorted({float(f.exp) if f.is_Pow and not f.base.is_positive else 0.0 for f in own})
    return found or None


def _singular(expr: sp.Expr) -> Iterator[sp.Expr]:
    """Logarithms, and powers that are neither whole and positive nor exponentials."""
    yield from expr.atoms(sp.log)
    yield from (p for p in expr.atoms(sp.Pow) if p.exp.is_number and not (p.exp.is_Integer and p.exp > 0))


def smallest(found: list[float] | None) -> float:
    """The exponent to expect where singular points meet."""
    return max(WORST, sum(p for p in found or [] if p < 0))


def tail(found: list[float] | None, tame: bool) -> float:
    """How far a graded rule has to reach, in s."""
    least = min([0.0] * tame + (found or [0.0]))
    return DIGITS / (1 + min(max(least, 0.0), 1.0) + smallest(found))


def near_singular(base: sp.Expr, variables: tuple[sp.Symbol, ...]) -> set[sp.Expr]:
    """Affine expressions that vanish beside the complex roots of the base of a power or of a logarithm.

    >>> x = sp.Symbol("x")
    >>> near_singular(x**2 - 2 * x + 2, (x,)), near_singular(sp.exp(x) + 1, (x,))
    ({x - 1.0}, set())
    """
    read = base.free_symbols & set(variables)
    if len(read) != 1 or base.free_symbols != read or not base.is_polynomial(*read):
        return set()
    (u,) = read
    poly = sp.Poly(base, u)
    if not 1 < poly.degree() <= DEGREE:
        return set()
    roots = np.roots([float(c) for c in poly.all_coeffs()])
    return {u - sp.Float(r) if r else u for r in sorted({round(float(r.real), 14) for r in roots})}


def waves(body: sp.Expr) -> bool:
    """Whether a body oscillates, or nests functions: then nodes that are dense near some points do not suffice."""
    return any(isinstance(f, (Sin, Cos)) or any(isinstance(a, Fn) for a in f.args[0].atoms(Fn)) for f in body.atoms(Fn))
