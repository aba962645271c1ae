"""Table of E φ(u)ψ(v) and E φ(u) in closed form for a zero-mean Gaussian (u, v).

Also what the other methods share: factors of covariances, and the parity, kinks and affine arguments of
a body.

Every formula takes the variances ``q1``, ``q2``, the covariance ``c`` and ``det`` = q1 q2 - c² as arrays.  Near
|ρ| = 1 they need ``det`` to full relative accuracy; where the caller has nothing better :func:`determinant`
computes it from the rest, without any threshold.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache, wraps
from math import factorial, pi
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError
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
    from_sympy,
    is_delta,
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

RANGE = 1e150  # variances within it and its inverse have products that are floating point numbers
ROUNDED = 1e-15  # of a correlation
RANK_CUT = 1e-14  # a residual variance below this fraction is rounding, not a further dimension

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


def determinant(q1: Array, q2: Array, c: Array) -> Array:
    """q1 q2 - c² with a relative error of a few ulp, negative values clipped to 0.

    Each product is split exactly into a rounded value and its rounding error (T. J. Dekker, 1971), so
    the cancellation near |c| = √(q1 q2) costs nothing; it is 0 at |ρ| = 1 and at zero variance.

    Args:
        q1, q2: variances; arrays that broadcast.
        c: covariance.

    Returns:
        Array of the broadcast shape, ≥ 0.

    >>> float(determinant(1.0, 1.0, 1 - 1e-15)) / 1.998401444325281e-15 - 1 < 1e-15
    True
    """
    q1, q2, c, e1, e2 = _balanced(q1, q2, c)
    product, product_error = two_product(q1, q2)
    square, square_error = two_product(c, c)
    return np.ldexp(np.maximum((product - square) + (product_error - square_error), 0.0), 2 * (e1 + e2))


def extreme(q1: Array, q2: Array) -> Array:
    """Where the product of two positive variances, and hence q1 q2 - c², may over- or underflow."""
    big, small = np.maximum(q1, q2), np.minimum(q1, q2)
    return (small > 0) & ((big > RANGE) | (small < 1 / RANGE))


def sine(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """√(1 - ρ²) = √det/√(q1 q2), also where det is beyond the floating point numbers; 1 at zero variance.

    >>> round(float(sine(1e-200, 1e-200, 6e-201, 0.0)), 12)
    0.8
    """
    size = _size(q1, q2)
    found = np.where(size > 0, np.sqrt(det) / np.where(size > 0, size, 1.0), 1.0)
    beyond = extreme(q1, q2)
    if np.any(beyond):
        a, b, d, *_ = _balanced(q1, q2, c)
        found = np.where(beyond, np.sqrt(determinant(a, b, d)) / np.where(beyond, _size(a, b), 1.0), found)
    return found


def _balanced(q1: Array, q2: Array, c: Array) -> tuple[Array, Array, Array, Array, Array]:
    """Scale u and v by powers of two (exactly), so that no product over- or underflows."""
    e1, e2 = np.frexp(q1)[1] // 2, np.frexp(q2)[1] // 2
    return np.ldexp(q1, -2 * e1), np.ldexp(q2, -2 * e2), np.ldexp(c, -e1 - e2), e1, e2


def two_product(a: Array, b: Array) -> tuple[Array, Array]:
    """a b as a rounded value and its rounding error, exactly."""
    product = a * b
    (a1, a2), (b1, b2) = _halves(a), _halves(b)
    return product, ((a1 * b1 - product) + a1 * b2 + a2 * b1) + a2 * b2


def _halves(a: Array) -> tuple[Array, Array]:
    big = 134217729.0 * a  # 2^27 + 1
    high = big - (big - a)
    return high, a - high


def _size(q1: Array, q2: Array) -> Array:
    return np.sqrt(q1) * np.sqrt(q2)


def supplement(c: Array, det: Array) -> Array:
    """π - θ where cos θ = ρ, accurate to its last digits for all ρ; 0 at ρ = -1, π at ρ = 1.

    >>> supplement(np.array([-1.0, 1.0]), 0.0) / np.pi
    array([0., 1.])
    """
    return np.arctan2(np.sqrt(det), -c)


@pair(Relu, Relu, CHO_SAUL)
def relu_relu(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """√(q1 q2) (sin θ + (π - θ) cos θ) / 2π."""
    return _size(q1, q2) * _sine_minus(supplement(c, det)) / (2 * pi)


def _sine_minus(x: Array) -> Array:
    """sin x - x cos x, by its series below 1, where the difference would cancel."""
    series = sum((-1) ** (k + 1) * 2 * k * x ** (2 * k + 1) / float(factorial(2 * k + 1)) for k in range(1, 11))
    return np.where(x < 1, series, np.sin(x) - x * np.cos(x))


@pair(Step, Step, SHEPPARD)
def step_step(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """(π - θ) / 2π; 0 where a variance is 0, since step(0) = 0."""
    return np.where(_size(q1, q2) > 0, supplement(c, det) / (2 * pi), 0.0)


@pair(Relu, Step, CHO_SAUL)
def relu_step(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """√q1 (1 + ρ) / (2 √(2π)); 0 where q2 = 0."""
    size = _size(q1, q2)
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
    whole = _erf_det(q1, q2, det)
    if np.all(np.isfinite(whole)):
        return 2 * np.arctan2(2 * c, np.sqrt(whole)) / pi
    a, b, d, e1, e2 = _balanced(q1, q2, c)  # beyond the floating point numbers: all over 2^(e1 + e2)
    rest = np.ldexp(1 + 2 * q1, -2 * (e1 + e2)) + np.ldexp(2 * q2, -2 * (e1 + e2))
    large = np.arctan2(2 * d, np.sqrt(4 * determinant(a, b, d) + rest))
    return 2 * np.where(np.isfinite(whole), np.arctan2(2 * c, np.sqrt(whole)), large) / pi


@pair(ErfPrime, ErfPrime, WILLIAMS + "; " + PRICE)
def erf_prime(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """(4/π) / √((1 + 2 q1)(1 + 2 q2) - 4 c²)."""
    return 4 / (pi * np.sqrt(_erf_det(q1, q2, det)))


@pair(Exp, Exp, CHARACTERISTIC)
def exp_exp(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """exp((q1 + q2 + 2 c)/2)."""
    return np.exp((q1 + q2) / 2 + c)


@pair(Sin, Sin, CHARACTERISTIC)
def sin_sin(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """exp(-(q1 + q2)/2) sinh c, written so that neither factor over- or underflows alone."""
    size = np.abs(c)
    return -np.copysign(0.5, c) * np.exp(size - (q1 + q2) / 2) * np.expm1(-2 * size)


@pair(Cos, Cos, CHARACTERISTIC)
def cos_cos(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """exp(-(q1 + q2)/2) cosh c."""
    return (np.exp(c - (q1 + q2) / 2) + np.exp(-c - (q1 + q2) / 2)) / 2


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
    return det + c * c * (1 / (1 + q1) + 1 / (1 + q2))


@pair(Gelu, Gelu, TSUCHIDA)
def gelu_gelu(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """c/4 + c asin(c/√P)/2π + [q1 q2 + c²(1/(1+q1) + 1/(1+q2) - 1)] / (2π √(P - c²)), P = (1+q1)(1+q2)."""
    root = np.sqrt(_gauss_det(q1, q2, det))
    return (c * np.arctan2(root, -c) + _gelu_numerator(q1, q2, c, det) / root) / (2 * pi)


@pair(GeluPrime, GeluPrime, TSUCHIDA + "; " + PRICE)
def gelu_prime(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """The derivative of the gelu form in c."""
    square = _gauss_det(q1, q2, det)
    slope = 2 * (1 / (1 + q1) + 1 / (1 + q2)) - 1 + _gelu_numerator(q1, q2, c, det) / square
    return (np.arctan2(np.sqrt(square), -c) + c * slope / np.sqrt(square)) / (2 * pi)


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


def pair_factor(q1: Array, q2: Array, c: Array, det: Array) -> Array:
    """Cholesky factor (N, 2, 2) of 2x2 covariances; (N, 2, 1) if all of them have rank one."""
    root = np.sqrt(q1)
    slope = np.where(q1 > 0, c / root, 0.0)
    rest = np.sqrt(q2) * sine(q1, q2, c, det)
    columns = [np.stack([root, slope], axis=1), np.stack([np.zeros_like(rest), rest], axis=1)]
    return np.stack(columns if rest.any() else columns[:1], axis=2)


def pivoted_factor(cov: Mapping[tuple[int, int], Array], count: int) -> Array:
    """Factor (N, k, r) with pivoting, r the largest rank among the entries (at least 1)."""
    flat = [cov[min(i, j), max(i, j)] for i in range(count) for j in range(count)]
    rest = np.stack(flat, axis=-1).reshape(-1, count, count)
    diagonal = np.einsum("nii->ni", rest).copy()
    rows, columns = np.arange(len(rest)), []
    for step in range(count):
        left = np.einsum("nii->ni", rest)
        if np.any(left < -1e-9 * diagonal):
            raise DataError(f"the {count}x{count} covariance is not positive semidefinite")
        left = np.where(left > (RANK_CUT * count if step else 0.0) * diagonal, left, 0.0)
        pivot = np.argmax(left, axis=1)
        size = left[rows, pivot]
        if not size.any() and step:
            break
        column = np.where(size[:, None] > 0, rest[rows, :, pivot] / np.sqrt(size)[:, None], 0.0)
        # a small residual variance may be a large covariance, of up to its square root: only rounding is 0
        noise = ROUNDED * np.sqrt(diagonal * diagonal[rows, pivot][:, None])
        column = np.where((left > 0) | (np.abs(rest[rows, :, pivot]) > noise), column, 0.0)
        columns.append(column)
        rest = rest - column[:, :, None] * column[:, None, :]
    return np.stack(columns, axis=2)


def parity(expr: sp.Expr, variables: tuple[sp.Symbol, ...]) -> int:
    """+1 or -1 if the expression is even or odd under a joint change of sign of the variables, else 0.

    >>> from tensorprog.functions import Cos, Tanh
    >>> x, y = sp.symbols("x y")
    >>> parity(Tanh(x) * Cos(y), (x, y)), parity(Tanh(x) + 1, (x, y))
    (-1, 0)
    """
    if not expr.free_symbols & set(variables):
        return 1
    if expr.is_Symbol:
        return -1
    parts = [parity(a, variables) for a in expr.args]
    if expr.is_Add:
        return parts[0] if len(set(parts)) == 1 else 0
    if expr.is_Mul:
        return int(np.prod(parts))
    if expr.is_Pow and expr.exp.is_Integer:
        return int(parts[0] ** int(abs(expr.exp)))
    inner = parts[0] if len(parts) == 1 else 0
    return _own_parity(expr) if inner == -1 else inner


def _own_parity(expr: sp.Expr) -> int:
    if isinstance(expr, Fn):
        own = 1 if is_delta(type(expr)) else expr.family.parity
        return int(own * (-1) ** expr.order)
    cls = type(from_sympy(expr))
    return {sp.sinh: -1, sp.tan: -1, sp.atan: -1, sp.asin: -1, sp.asinh: -1, sp.cosh: 1}.get(cls, 0)


def kinks(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> list[sp.Expr]:
    """Expressions that vanish where the body is not smooth.

    They are argument - kink for every kinked member of the table, and the bases of fractional powers
    and arguments of logarithms.

    >>> from tensorprog.functions import Relu, X
    >>> kinks(Relu(X - 1) + X**2, (X,))
    [x - 1]
    """
    found = {f.args[0] - sp.nsimplify(k) for f in body.atoms(Fn) for k in f.family.kinks}
    zeros = [p.base for p in body.atoms(sp.Pow) if not p.exp.is_Integer and p.exp.is_number]
    zeros += [p.args[0] for p in body.atoms(sp.log)]
    found |= {f.as_base_exp()[0] for z in zeros for f in sp.Mul.make_args(z)}
    return sorted((e for e in found if e.free_symbols & set(variables)), key=sp.default_sort_key)


@lru_cache(maxsize=1024)
def affine(expr: sp.Expr, variables: tuple[sp.Symbol, ...]) -> tuple[tuple[sp.Expr, ...], sp.Expr]:
    """Coefficients a and b of expr = Σ a_i u_i + b, without coefficients if it is not affine.

    >>> x, y = sp.symbols("x y")
    >>> affine(2 * x - y + 1, (x, y)), affine(x * y, (x, y))
    (((2, -1), 1), ((), 0))
    """
    gradient = tuple(sp.expand(sp.diff(expr, u)) for u in variables)
    if any(g.free_symbols & set(variables) or g.has(sp.Derivative) for g in gradient):
        return (), sp.S.Zero
    return gradient, expr.subs(dict.fromkeys(variables, 0))
