"""The named nonlinearities: each takes a vector of a program, or a sympy expression."""

from __future__ import annotations

import pickle
from typing import Any

import sympy as sp

from tensorprog import functions
from tensorprog.dsl.program import Scal, Vec, exact, nonlin
from tensorprog.errors import ProgramError, nearest
from tensorprog.functions import Fn


class Nonlinearity:
    """A named function φ; ``phi(x)`` works on vectors of a program and on sympy expressions.

    >>> relu(sp.Symbol("x"))
    relu(x)
    """

    def __init__(self, name: str, formula: Any, doc: str = "") -> None:
        self.name, self.formula = name, formula
        self.__doc__ = doc or f"The nonlinearity {name}."

    def __call__(self, x: Any) -> Any:
        if isinstance(x, Vec):
            return nonlin(self.formula, x)
        if isinstance(x, Scal):
            raise ProgramError(f"{self.name}({x}): apply it inside tp.nonlin or tp.moment with params=[{x}]")
        return self.formula(exact(x, f"the argument of {self.name}"))

    def __repr__(self) -> str:
        return self.name

    def __deepcopy__(self, memo: Any) -> Nonlinearity:
        return self

    def __reduce__(self) -> Any:
        if NONLINEARITIES.get(self.name) is not self:
            raise pickle.PicklingError(f"only the named nonlinearities can be pickled, not {self.name}")
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


def leaky_relu(slope: Any = 0.01) -> Nonlinearity:
    """The leaky ReLU φ(x) = a x + (1 − a) max(x, 0) of slope a on the negative side.

    >>> leaky_relu(0.5)(sp.Symbol("x"))
    x/2 + relu(x)/2
    """
    a = exact(slope, "slope")
    return Nonlinearity(f"leaky_relu({a})", lambda x: a * x + (1 - a) * functions.Relu(x))


def polynomial(*coefficients: Any) -> Nonlinearity:
    """φ(x) = c₀ + c₁ x + c₂ x² + ...

    >>> polynomial(0, 1, 2)(sp.Symbol("x"))
    2*x**2 + x
    """
    c = [exact(value, "a coefficient") for value in coefficients]
    return Nonlinearity(f"polynomial{tuple(c)}", lambda x: sum((a * x**k for k, a in enumerate(c)), sp.S.Zero))


def abstract(name: str = "phi") -> Nonlinearity:
    """An unspecified smooth φ, carried symbolically through everything.

    >>> abstract("phi")(sp.Symbol("x")).diff()
    phi'(x)
    """
    return Nonlinearity(name, functions.abstract(name), f"The unspecified function {name}.")


NONLINEARITIES: dict[str, Nonlinearity] = {
    f.name: f
    for f in (identity, relu, step, sign, abs_, leaky_relu(), erf, tanh, sigmoid, gelu, silu, softplus,
              exp, sin, cos, gauss)
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
        raise ProgramError(f"unknown nonlinearity {name!r}; {nearest(name, [*NONLINEARITIES, 'phi'])}")
    return NONLINEARITIES[name]
