"""The named nonlinearities: each takes a vector or scalar of a program, or a sympy expression."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, overload

import numpy as np
import sympy as sp

from tensorprog import functions
from tensorprog.dsl.concatenated import Channels
from tensorprog.dsl.decimals import exact
from tensorprog.dsl.program import Scal, Vec, moment, nonlin
from tensorprog.errors import ProgramError, listed, nearest, shortly
from tensorprog.functions import Fn
from tensorprog.given import flag
from tensorprog.members import BUILT_IN, declared_family, family_of
from tensorprog.types import Number


class Nonlinearity:
    """A named function φ; ``phi(x)`` works on vectors and scalars of a program and on sympy expressions.

    Args:
        name: how it prints.
        formula: φ, of a sympy expression.
        doc: its docstring.
        made: the function and the arguments that make it again, in another process too; None for one that is named.

    >>> relu(sp.Symbol("x"))
    relu(x)
    """

    def __init__(self, name: str, formula: Any, doc: str = "", made: tuple[Any, ...] | None = None) -> None:
        self.name, self.formula, self._made = name, formula, made
        self.__doc__ = doc or f"The nonlinearity {name}."

    @overload
    def __call__(self, x: Vec) -> Vec: ...
    @overload
    def __call__(self, x: Channels) -> Channels: ...
    @overload
    def __call__(self, x: Scal) -> Scal: ...
    @overload
    def __call__(self, x: Number) -> sp.Expr: ...
    def __call__(self, x: Any) -> Any:
        if isinstance(x, Vec):
            return nonlin(self.formula, x)
        if isinstance(x, Channels):
            return x.map(self)
        if isinstance(x, Scal):
            return moment(self.formula, params=[x])
        return self.formula(exact(x, f"the argument of {self.name}"))

    def __repr__(self) -> str:
        return self.name

    def __deepcopy__(self, memo: Any) -> Nonlinearity:
        return self

    def __reduce__(self) -> Any:
        if self._made is not None:
            return self._made[0], self._made[1:]
        if NONLINEARITIES.get(self.name) is not self:
            return Nonlinearity, (self.name, self.formula, self.__doc__)
        return _named, (self.name,)


def _named(name: str) -> Nonlinearity:
    return NONLINEARITIES[name]


def _of(cls: type[Fn], doc: str) -> Nonlinearity:
    return Nonlinearity(cls.family.name, cls, doc)


identity = Nonlinearity("identity", lambda x: x, "φ(x) = x.")
relu = _of(functions.Relu, "φ(x) = max(x, 0); φ' = step.")
step = _of(functions.Step, "φ(x) = 1 for x > 0, else 0; φ' = δ.")
sign = _of(functions.Sign, "φ(x) = sign of x; φ' = 2δ.")
abs_ = _of(functions.Abs, "φ(x) = |x|; φ' = sign.")
erf = _of(functions.Erf, "φ(x) = 2/√π ∫₀ˣ exp(−t²) dt.")
tanh = _of(functions.Tanh, "φ(x) = tanh x.")
sigmoid = _of(functions.Sigmoid, "φ(x) = 1/(1 + exp(−x)).")
gelu = _of(functions.Gelu, "φ(x) = x (1 + erf(x/√2))/2, the exact form.")
silu = _of(functions.Silu, "φ(x) = x/(1 + exp(−x)).")
softplus = _of(functions.Softplus, "φ(x) = log(1 + exp x); φ' = sigmoid.")
exp = _of(functions.Exp, "φ(x) = exp x.")
sin = _of(functions.Sin, "φ(x) = sin x.")
cos = _of(functions.Cos, "φ(x) = cos x.")
gauss = _of(functions.Gauss, "φ(x) = exp(−x²/2), the Gaussian bump.")
hard_tanh = _of(functions.HardTanh, "φ(x) = min(max(x, −1), 1).")
relu6 = _of(functions.Relu6, "φ(x) = min(max(x, 0), 6).")
elu = _of(functions.Elu, "φ(x) = x for x > 0, else exp(x) − 1.")
selu = _of(functions.Selu, "φ(x) = λ x for x > 0, else λ α (exp(x) − 1); λ = 1.0507.., α = 1.6732...")


def leaky_relu(slope: Number = 0.01) -> Nonlinearity:
    """The leaky ReLU φ(x) = a x + (1 − a) max(x, 0) of slope a on the negative side.

    >>> leaky_relu(0.5)(sp.Symbol("x"))
    x/2 + relu(x)/2
    """
    a = exact(slope, "slope")
    return Nonlinearity(f"leaky_relu({a})", lambda x: a * x + (1 - a) * functions.Relu(x), made=(leaky_relu, a))


HIGHEST = 250  # degree of monomials and Hermite polynomials


def polynomial(*coefficients: Number) -> Nonlinearity:
    """φ(x) = c₀ + c₁ x + c₂ x² + ...

    >>> polynomial(0, 1, 2)(sp.Symbol("x"))
    2*x**2 + x
    """
    c = [exact(value, "a coefficient") for value in coefficients]
    name = f"polynomial{tuple(c)}"
    return Nonlinearity(name, lambda x: sum((a * x**k for k, a in enumerate(c)), sp.S.Zero), made=(polynomial, *c))


def monomial(degree: int) -> Nonlinearity:
    """φ(x) = x^k.

    >>> monomial(3)(sp.Symbol("x"))
    x**3
    """
    k = _degree(degree, "monomial")
    return Nonlinearity(f"monomial({k})", lambda x: x**k, made=(monomial, k))


def hermite(degree: int, normalised: bool = False) -> Nonlinearity:
    """The probabilists' Hermite polynomial φ(x) = He_k(x); E He_j(u) He_k(v) = k! ρ^k δ_jk at unit variances.

    Args:
        degree: 0 ≤ k ≤ 250.
        normalised: divide by √k!, so that E φ(u)² = 1 at unit variance.

    >>> hermite(3)(sp.Symbol("x"))
    x**3 - 3*x
    """
    k = _degree(degree, "hermite")
    factor = 1 / sp.sqrt(sp.factorial(k)) if flag(normalised, "normalised") else sp.S.One
    t = sp.Dummy("t")
    coefficients = sp.Poly(sp.hermite_prob(k, t), t).all_coeffs()[::-1]
    name = f"hermite({k}, normalised)" if normalised else f"hermite({k})"
    made = hermite, k, normalised
    return Nonlinearity(
        name, lambda x: sum((factor * a * x**n for n, a in enumerate(coefficients)), sp.S.Zero), made=made
    )


def _degree(degree: int, what: str) -> int:
    if isinstance(degree, bool) or not isinstance(degree, int) or degree < 0:
        raise ProgramError(f"{what}({shortly(degree)}): the degree must be an integer ≥ 0")
    if degree > HIGHEST:
        raise ProgramError(
            f"{what}({shortly(degree)}): the degree must be at most {HIGHEST}; beyond it "
            "coefficients and moments such as "
            "E u^k = (k−1)!! leave the range of floats"
        )
    return degree


def declare(
    name: str,
    formula: Callable[[sp.Symbol], Number] | None = None,
    *,
    kinks: Sequence[Number] = (),
    pieces: Sequence[Callable[[sp.Symbol], Number]] = (),
    parity: int = 0,
    ends: Sequence[Callable[[sp.Symbol], Number]] = (),
) -> Nonlinearity:
    """A new nonlinearity, usable at once in programs, limits and expectations.

    Either a smooth one by a formula of sympy's elementary functions, or one with kinks by its pieces, which then also
    has expectations in closed form where they are polynomials times exponentials.

    Args:
        name: an identifier that is not taken, the printed name; declaring the same again is allowed.
        formula: φ(x), smooth.
        kinks: where some derivative jumps, ascending.
        pieces: φ left of, between and right of the kinks; one more than kinks.
        parity: +1 even, -1 odd, 0 neither.
        ends: two lines that a smooth φ approaches exponentially fast at -∞ and ∞, which makes large variances quick.

    Raises:
        ProgramError: the name is taken or no identifier, the declaration is incomplete, or the parity is wrong.

    >>> half = sp.Rational(1, 2)
    >>> hard_sigmoid = declare(
    ...     "hard_sigmoid", kinks=(-3, 3), pieces=(lambda x: 0, lambda x: x / 6 + half, lambda x: 1)
    ... )
    >>> from tensorprog.expectations.numeric import expectation
    >>> u, v = sp.symbols("u v")
    >>> found = expectation(hard_sigmoid(u) * hard_sigmoid(v), (u, v), [[1.0, 0.5], [None, 2.0]])
    >>> found.method, round(float(found.value), 12)
    ('closed form', 0.263383348956)
    """
    if not isinstance(name, str) or not name.isidentifier() or name in BUILT_IN:
        raise ProgramError(f"declare({shortly(name)}): the name must be an identifier that is not taken")
    pieces, ends = listed(pieces, "pieces", "functions"), listed(ends, "ends", "functions")
    if not all(callable(f) for f in (*pieces, *ends, *(() if formula is None else (formula,)))):
        raise ProgramError(
            f"declare({shortly(name)}): formula, pieces and ends are functions of x, such as lambda x: x**2"
        )
    x = functions.X
    wholly = tuple(_at_x(f, f"a piece of {name}") for f in pieces)
    lines = tuple(_at_x(f, f"an end of {name}") for f in ends)
    corners = tuple(exact(k, f"a kink of {name}") for k in listed(kinks, "kinks", "numbers"))
    smooth = None if formula is None else _at_x(formula, f"the formula of {name}")
    if (smooth is None) != bool(pieces) or (pieces and len(wholly) != len(corners) + 1) or len(lines) not in (0, 2):
        raise ProgramError(
            f"declare({shortly(name)}): give a formula, or one piece more than kinks; and no or two ends"
        )
    if list(corners) != sorted(corners) or any(e.free_symbols - {x} for e in (*wholly, *lines, smooth or x)):
        raise ProgramError(f"declare({shortly(name)}): kinks must ascend, and x must be the only symbol")
    made = name, smooth, corners, parity, wholly, lines
    _check_parity(family_of(*made))
    return _declared(*made)


def _at_x(f: Callable[[sp.Symbol], Number], what: str) -> sp.Expr:
    """A function of x as an expression."""
    try:
        return exact(f(functions.X), what)
    except TypeError as error:
        raise ProgramError(f"{what} must be a function of x, such as lambda x: x**2: {error}") from error


def _declared(*made: Any) -> Nonlinearity:
    """What was declared, here or in another process."""
    known = declared_family(*made)
    return Nonlinearity(
        known.name, functions.member(known, 0), f"The declared nonlinearity {known.name}.", (_declared, *made)
    )


def _check_parity(family: functions.Family) -> None:
    points = np.linspace(0.03, 5, 50)
    formula = functions.member(family, 0)(functions.X)
    right, left = (functions.evaluate(formula, {functions.X: sign * points}) for sign in (1, -1))
    if family.parity not in (-1, 0, 1) or (family.parity and not np.allclose(left, family.parity * right, rtol=1e-9)):
        raise ProgramError(f"declare({shortly(family.name)}): parity {family.parity} does not hold; 0 is always safe")


def abstract(name: str = "phi") -> Nonlinearity:
    """An unspecified smooth φ, carried symbolically through everything.

    >>> abstract("phi")(sp.Symbol("x")).diff()
    phi'(x)
    """
    if not isinstance(name, str):
        raise ProgramError(f"abstract takes the name of a function, such as 'phi', got {shortly(name)}")
    return Nonlinearity(name, functions.abstract(name), f"The unspecified function {name}.", (abstract, name))


NONLINEARITIES: dict[str, Nonlinearity] = {
    f.name: f
    for f in (identity, relu, step, sign, abs_, leaky_relu(), erf, tanh, sigmoid, gelu, silu, softplus,
              exp, sin, cos, gauss, hard_tanh, relu6, elu, selu)
}  # fmt: skip
NONLINEARITIES["leaky_relu"] = NONLINEARITIES.pop(leaky_relu().name)


def by_name(name: str) -> Nonlinearity:
    """The nonlinearity registered as ``name``; ``"phi"`` is the abstract one.

    Raises:
        ProgramError: there is none; the nearest name is suggested.
    """
    if name == "phi":
        return abstract("phi")
    if name not in NONLINEARITIES:
        raise ProgramError(f"unknown nonlinearity {shortly(name)}; {nearest(name, [*NONLINEARITIES, 'phi'])}")
    return NONLINEARITIES[name]
