"""The closed forms of ``closed_forms`` as formulas to print: E φ(u)ψ(v) in q = Var u, c = Cov(u, v), q' = Var v."""

from __future__ import annotations

import sympy as sp

from tensorprog.expectations.closed.pairs import ErfPrime
from tensorprog.functions import Abs, Cos, Erf, Exp, Fn, Gauss, Gelu, Relu, Sign, Sin, Step

Q, C, Q2 = sp.symbols("q c q'", real=True)

_RHO = C / sp.sqrt(Q * Q2)
_ROOT = sp.sqrt(Q * Q2 - C**2)
_ANGLE = sp.pi - sp.acos(_RHO)

PAIR_FORMULAS: dict[tuple[type[Fn], type[Fn]], sp.Expr] = {
    (Relu, Relu): (_ROOT + C * _ANGLE) / (2 * sp.pi),
    (Step, Step): _ANGLE / (2 * sp.pi),
    (Step, Relu): (sp.sqrt(Q2) + C / sp.sqrt(Q)) / (2 * sp.sqrt(2 * sp.pi)),
    (Abs, Abs): 2 * (_ROOT + C * sp.asin(_RHO)) / sp.pi,
    (Sign, Sign): 2 * sp.asin(_RHO) / sp.pi,
    (Erf, Erf): 2 * sp.asin(2 * C / sp.sqrt((1 + 2 * Q) * (1 + 2 * Q2))) / sp.pi,
    (ErfPrime, ErfPrime): 4 / (sp.pi * sp.sqrt((1 + 2 * Q) * (1 + 2 * Q2) - 4 * C**2)),
    (Exp, Exp): sp.exp((Q + Q2) / 2 + C),
    (Sin, Sin): sp.exp(-(Q + Q2) / 2) * sp.sinh(C),
    (Cos, Cos): sp.exp(-(Q + Q2) / 2) * sp.cosh(C),
    (Gauss, Gauss): 1 / sp.sqrt((1 + Q) * (1 + Q2) - C**2),
    (Gelu, Gelu): C / 4
    + C * sp.asin(C / sp.sqrt((1 + Q) * (1 + Q2))) / (2 * sp.pi)
    + (Q * Q2 + C**2 * (1 / (1 + Q) + 1 / (1 + Q2) - 1)) / (2 * sp.pi * sp.sqrt((1 + Q) * (1 + Q2) - C**2)),
}

MEAN_FORMULAS: dict[type[Fn], sp.Expr] = {
    Relu: sp.sqrt(Q / (2 * sp.pi)),
    Step: sp.Rational(1, 2),
    Abs: sp.sqrt(2 * Q / sp.pi),
    ErfPrime: 2 / sp.sqrt(sp.pi * (1 + 2 * Q)),
    Exp: sp.exp(Q / 2),
    Cos: sp.exp(-Q / 2),
    Gauss: 1 / sp.sqrt(1 + Q),
    Gelu: Q / sp.sqrt(2 * sp.pi * (1 + Q)),
}


def closed_form(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> sp.Expr | None:
    """E body in closed form, in the symbols q, c, q'; None where the table has none.

    >>> from tensorprog.functions import Relu
    >>> u, v = sp.symbols("u v")
    >>> closed_form(Relu(u) * Relu(v), (u, v))
    (c*(pi - acos(c/sqrt(q*q'))) + sqrt(-c**2 + q*q'))/(2*pi)
    """
    factors = [f.as_base_exp() for f in sp.Mul.make_args(body)]
    if not all(isinstance(f, Fn) and f.args[0] in variables for f, _ in factors):
        return None
    functions = [(type(f), variables.index(f.args[0])) for f, e in factors for _ in range(int(e))]
    functions.sort(key=lambda f: f[1])
    if len(functions) == 1:
        return MEAN_FORMULAS.get(functions[0][0])
    if len(functions) != 2:
        return None
    (a, i), (b, j) = functions
    found = PAIR_FORMULAS.get((a, b))
    if found is None and (b, a) in PAIR_FORMULAS:
        found = PAIR_FORMULAS[b, a].subs({Q: Q2, Q2: Q}, simultaneous=True)
    if found is None or i != j:
        return found
    return sp.simplify(found.subs({Q2: Q, C: Q}))
