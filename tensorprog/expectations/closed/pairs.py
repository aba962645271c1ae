"""Table of E φ(u)ψ(v) and E φ(u) in closed form for a zero-mean Gaussian (u, v).

Also what the other methods share: factors of covariances, and the parity, kinks and affine arguments of
a body.

Every formula takes the variances ``q1``, ``q2``, the covariance ``c`` and ``det`` = q1 q2 - c² as arrays.  Near
|ρ| = 1 they need ``det`` to full relative accuracy; where the caller has nothing better :func:`determinant`
computes it from the rest, without any threshold.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import wraps
from math import factorial, pi
from typing import Any

import numpy as np

from tensorprog.expectations.closed.soft import soft_slopes
from tensorprog.expectations.determinants import determinant, magnitude, supplement
from tensorprog.functions import (
    Abs,
    Cos,
    Erf,
    Exp,
    Fn,
    Gauss,
    Gelu,
    Relu,
    Sigmoid,
    Sign,
    Sin,
    Step,
    member,
)

Array = Any
PairFormula = Callable[..., Array]
ErfPrime = member(Erf.family, 1)
GeluPrime = member(Gelu.family, 1)


@dataclass(frozen=True)
class Form:
    """A closed form and where it comes from."""

    formula: Callable[..., Array]
    reference: str


CANCELLING = (Gelu, GeluPrime)  # forms whose terms cancel at negative c: their rounding is that of their size
DEGREES: dict[type[Fn], int] = {Relu: 1, Abs: 1, Step: 0, Sign: 0}  # f(a x) = a^degree f(x) for a > 0, one kink, at 0
PAIRS: dict[tuple[type[Fn], type[Fn]], Form] = {}
MEANS: dict[type[Fn], Form] = {}


CHO_SAUL = "Y. Cho, L. Saul, Kernel methods for deep learning, NeurIPS 2009, eq. (3)-(6)"
SHEPPARD = "W. F. Sheppard, 1899: orthant probability P(u > 0, v > 0) = 1/4 + asin(rho)/(2 pi)"
WILLIAMS = "C. Williams, Computing with infinite networks, NeurIPS 1996, eq. (11) for erf, (13) for Gaussians"
CHARACTERISTIC = "characteristic function E exp(i t.u) = exp(-t.K t/2), or its value at imaginary t"
TSUCHIDA = "R. Tsuchida et al., Avoiding kernel fixed points: computing with ELU and GELU, AAAI 2021"
PRICE = "R. Price, A useful theorem for nonlinear devices, 1958: dE phi psi/dc = E phi' psi'"
DIRECT = "one-dimensional Gaussian integral"
SYMMETRY = "odd symmetry about the value at 0"


def pair(first: type[Fn], second: type[Fn], reference: str) -> Callable[[PairFormula], PairFormula]:
    """Register the decorated ``formula(q1, q2, c, det)`` as E first(u) second(v); ``det`` becomes optional."""

    def add(formula: PairFormula) -> PairFormula:
        @wraps(formula)
        def complete(q1: Array, q2: Array, c: Array, det: Array | None = None) -> Array:
            return formula(q1, q2, c, determinant(q1, q2, c) if det is None else det)

        PAIRS[first, second] = Form(complete, reference)
        return complete

    return add


def find_pair(first: type[Fn], second: type[Fn]) -> PairFormula | None:
    """The tabled ``formula(q1, q2, c, det)`` of E first(u) second(v), in whichever order it is stored.

    >>> round(float(find_pair(Step, Relu)(1.0, 1.0, 1.0)), 6)
    0.398942
    """
    if (first, second) in PAIRS:
        return PAIRS[first, second].formula
    if (second, first) in PAIRS:
        swapped = PAIRS[second, first].formula
        return lambda q1, q2, c, det=None: swapped(q2, q1, c, det)
    return None


@pair(Relu, Relu, CHO_SAUL)
def relu_relu(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """√(q1 q2) (sin θ + (π - θ) cos θ) / 2π."""
    return magnitude(q1, q2) * _sine_minus(supplement(c, det)) / (2 * pi)


def _sine_minus(x: Array) -> Array:
    """sin x - x cos x, by its series below 1, where the difference would cancel."""
    series = sum((-1) ** (k + 1) * 2 * k * x ** (2 * k + 1) / float(factorial(2 * k + 1)) for k in range(1, 11))
    return np.where(x < 1, series, np.sin(x) - x * np.cos(x))


@pair(Step, Step, SHEPPARD)
def step_step(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """(π - θ) / 2π; 0 where a variance is 0, since step(0) = 0."""
    return np.where(magnitude(q1, q2) > 0, supplement(c, det) / (2 * pi), 0.0)


@pair(Relu, Step, CHO_SAUL)
def relu_step(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """√q1 (1 + ρ) / (2 √(2π)); 0 where q2 = 0."""
    size = magnitude(q1, q2)
    with np.errstate(divide="ignore", invalid="ignore"):
        one_plus = np.where(c < 0, det / size / (size - c), 1 + c / size)
    return np.where(size > 0, np.sqrt(q1) * one_plus / np.sqrt(8 * pi), 0.0)


@pair(Sign, Sign, SHEPPARD)
def sign_sign(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """2 asin(ρ) / π; 0 at zero variance."""
    return 2 * np.arctan2(c, np.sqrt(det)) / pi


@pair(Abs, Abs, CHO_SAUL)
def abs_abs(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """2 √(q1 q2) (cos α + α sin α) / π with α = asin ρ."""
    root = np.sqrt(det)
    return 2 * (root + c * np.arctan2(c, root)) / pi


def _erf_det(q1: Array, q2: Array, det: Array) -> Array:
    """(1 + 2 q1)(1 + 2 q2) - 4 c², a sum of positive terms."""
    return 1 + 2 * (q1 + q2) + 4 * det


@pair(Erf, Erf, WILLIAMS)
def erf_erf(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """(2/π) asin(2c / √((1 + 2 q1)(1 + 2 q2)))."""
    return 2 * np.arctan2(2 * c, np.sqrt(_erf_det(q1, q2, det))) / pi


@pair(ErfPrime, ErfPrime, WILLIAMS + "; " + PRICE)
def erf_prime(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """(4/π) / √((1 + 2 q1)(1 + 2 q2) - 4 c²)."""
    return 4 / (pi * np.sqrt(_erf_det(q1, q2, det)))


def apart(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """(q1 + q2)/2 - |c|, a sum of positive terms: |c| may differ from a q of 1e11 by 1e-9 only, which det knows."""
    first, second = np.sqrt(q1), np.sqrt(q2)
    both, size = first * second, np.abs(c)
    with np.errstate(divide="ignore", invalid="ignore"):
        rest = np.where(np.isfinite(det), det / (both + size), np.maximum(both - size, 0.0))
        longer = (q1 - q2) / (first + second)
    return np.where(both > 0, longer * longer / 2 + rest, (q1 + q2) / 2)


@pair(Exp, Exp, CHARACTERISTIC)
def exp_exp(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """exp((q1 + q2 + 2 c)/2)."""
    return np.exp(np.where(c < 0, apart(q1, q2, c, det), (q1 + q2) / 2 + c))


@pair(Sin, Sin, CHARACTERISTIC)
def sin_sin(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """exp(-(q1 + q2)/2) sinh c, written so that neither factor over- or underflows alone."""
    return -np.copysign(0.5, c) * np.exp(-apart(q1, q2, c, det)) * np.expm1(-2 * np.abs(c))


@pair(Cos, Cos, CHARACTERISTIC)
def cos_cos(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """exp(-(q1 + q2)/2) cosh c."""
    return np.exp(-apart(q1, q2, c, det)) * (1 + np.exp(-2 * np.abs(c))) / 2


@pair(Sin, Cos, CHARACTERISTIC)
def sin_cos(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """0, because the product is odd."""
    return 0.0 * (q1 + q2 + c)


@pair(Gauss, Gauss, WILLIAMS)
def gauss_gauss(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """1 / √((1 + q1)(1 + q2) - c²)."""
    return 1 / np.sqrt(_gauss_det(q1, q2, det))


def _gauss_det(q1: Array, q2: Array, det: Array) -> Array:
    return 1 + q1 + q2 + det


def _gelu_numerator(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    return det + c * (c / (1 + q1) + c / (1 + q2))


@pair(Gelu, Gelu, TSUCHIDA)
def gelu_gelu(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """c/4 + c asin(c/√P)/2π + [q1 q2 + c²(1/(1+q1) + 1/(1+q2) - 1)] / (2π √(P - c²)), P = (1+q1)(1+q2)."""
    root = np.sqrt(_gauss_det(q1, q2, det))
    return (c * np.arctan2(root, -c) + _gelu_numerator(q1, q2, c, det) / root) / (2 * pi)


@pair(GeluPrime, GeluPrime, TSUCHIDA + "; " + PRICE)
def gelu_prime(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """The derivative of the gelu form in c."""
    return soft_slopes(1.0, 1.0, q1, q2, c, det)


def _constant(value: float) -> Callable[[Array], Array]:
    return lambda q: value + 0.0 * q


MEANS.update(
    {
        Relu: Form(lambda q: np.sqrt(q / (2 * pi)), DIRECT),
        Step: Form(lambda q: np.where(q > 0, 0.5, 0.0), DIRECT + "; step(0) = 0 at zero variance"),
        Abs: Form(lambda q: np.sqrt(2 * q / pi), DIRECT),
        Sign: Form(_constant(0.0), SYMMETRY),
        Erf: Form(_constant(0.0), SYMMETRY),
        ErfPrime: Form(lambda q: 2 / np.sqrt(pi * (1 + 2 * q)), DIRECT),
        Exp: Form(lambda q: np.exp(q / 2), CHARACTERISTIC),
        Sin: Form(_constant(0.0), SYMMETRY),
        Cos: Form(lambda q: np.exp(-q / 2), CHARACTERISTIC),
        Gauss: Form(lambda q: 1 / np.sqrt(1 + q), DIRECT),
        Gelu: Form(lambda q: q / np.sqrt(2 * pi * (1 + q)), "Stein's identity on x Phi(x)"),
        GeluPrime: Form(_constant(0.5), SYMMETRY),
        Sigmoid: Form(_constant(0.5), SYMMETRY),
    }
)
