"""What is read off the body of an expectation: its parity, where it is not smooth, whether it is affine."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import sympy as sp

from tensorprog.functions import Fn, evaluate, from_sympy, has_deltas, is_delta


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


def settled(expr: sp.Expr) -> sp.Expr:
    """The expression with functions of numbers that are 0 written as 0: relu(0) X has no slope.

    >>> from tensorprog.functions import Erf, Relu, X
    >>> settled(Erf(Relu(sp.S(0)) * X + Relu(sp.S(2))))
    erf(relu(2))
    """
    zeros = {f for f in expr.atoms(Fn) if f.is_number and not has_deltas(type(f)) and evaluate(f, {}) == 0}
    return expr.xreplace(dict.fromkeys(zeros, sp.S.Zero)) if zeros else expr
