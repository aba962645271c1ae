"""Coordinatewise functions: sympy classes closed under differentiation, each with its numbers.

A *family* is a nonlinearity with all of its derivatives; ``member(family, k)`` is the sympy class of
the k-th one.  Where a derivative is another named function it is that function: relu' = step,
step' = delta, |x|' = sign, sin' = cos.  Everything else in the package reads this table.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache, partial, reduce
from typing import Any

import numpy as np
import sympy as sp
from scipy import special
from sympy.functions.elementary.piecewise import ExprCondPair

from tensorprog.at_numbers import AtNumbers, X
from tensorprog.errors import DataError, NoRuleError, shortly
from tensorprog.printing import pretty

Array = Any


@dataclass(frozen=True, eq=False)
class Family:
    """A nonlinearity and its derivatives.

    Attributes:
        name: registered name, also the printed one.
        latex: LaTeX of the function itself.
        definition: sympy expression in ``X`` made of elementary functions; None for an abstract φ.
        numeric: numerically safe value of orders that need one; other orders use ``definition``.
        kinks: points where some derivative jumps, ascending.
        parity: +1 even, -1 odd, 0 neither.
        derivative: order k ↦ (coefficient, family, order) where it is another named function.
        pieces: elementary expressions in ``X`` left of, between and right of the kinks; they define the function,
            its derivatives and their jumps, and their expectations in closed form.
        ends: lines in ``X`` that a smooth function approaches exponentially fast at -∞ and ∞.
    """

    name: str
    latex: str
    definition: sp.Expr | None = None
    numeric: Callable[[int], Callable[[Array], Array] | None] = lambda order: None
    kinks: tuple[float, ...] = ()
    parity: int = 0
    derivative: Callable[[int], tuple[int, str, int]] | None = None
    pieces: tuple[sp.Expr, ...] = ()
    ends: tuple[sp.Expr, ...] = ()

    def jump(self, order: int, at: int) -> sp.Expr:
        """Jump of the derivative of an order at the kink of a number."""
        low, high = (sp.diff(p, X, order).subs(X, self.kinks[at]) for p in self.pieces[at : at + 2])
        return high - low


FAMILIES: dict[str, Family] = {}


class _Class(type(sp.Function)):  # type: ignore[misc]
    """The type of the members' classes, by which they are pickled."""


class Fn(AtNumbers, metaclass=_Class):
    """Base of the sympy classes of all members; ``family`` and ``order`` are set on each."""

    nargs = 1
    family: Family
    order: int

    @classmethod
    def derived(cls) -> tuple[int, type[Fn]]:
        """The derivative as (coefficient, class)."""
        if cls.family.derivative is None:
            return 1, member(cls.family, cls.order + 1)
        coefficient, name, order = cls.family.derivative(cls.order)
        return coefficient, member(FAMILIES[name], order)

    def fdiff(self, argindex: int = 1) -> sp.Expr:
        coefficient, cls = self.derived()
        return coefficient * cls(self.args[0])

    def _eval_power(self, exponent: sp.Expr) -> sp.Expr | None:
        """step^e = step, sign^e = sign or sign²: with step' = δ, the derivative of step³ would be 3 step² δ."""
        rule = POWERS.get(type(self))
        reduced = rule(int(exponent)) if rule and exponent.is_Integer and exponent > 0 else exponent
        return None if reduced == exponent else self**reduced

    def _latex(self, printer: Any, exp: Any = None) -> str:
        head = latex_name(type(self))
        if exp is not None:
            head = f"{head}^{{{exp}}}" if not self.order else f"\\left({head}\\right)^{{{exp}}}"
        return f"{head}\\left({printer._print(self.args[0])}\\right)"


def latex_name(cls: type[Fn]) -> str:
    """LaTeX name of a member, with primes: φ, φ', φ'', φ^{(3)}."""
    return cls.family.latex + _primes(cls.order, "^{(%d)}")


def text_name(cls: type[Fn]) -> str:
    """Text name of a member: φ, φ', φ'', φ^(3)."""
    name = cls.family.name
    return (name if name in FAMILIES else pretty(name)) + _primes(cls.order, "^(%d)")


def _primes(order: int, many: str) -> str:
    return "'" * order if order < 3 else many % order


@cache
def member(family: Family, order: int) -> type[Fn]:
    """The sympy class of the ``order``-th derivative of ``family``."""
    name = family.name + "'" * order
    fields = {"family": family, "order": order, "nargs": 1, "__module__": "tensorprog.members"}
    fields["__qualname__"] = f"member:{name}"
    return type(name, (Fn,), fields)


def is_delta(cls: Any) -> bool:
    """Whether the class is a derivative of the Dirac delta."""
    return isinstance(cls, type) and issubclass(cls, Fn) and cls.family.name == "delta"


def jumps(cls: type[Fn]) -> bool:
    """Whether the function itself jumps at a kink, so that its derivative holds Dirac deltas.

    >>> jumps(Relu), jumps(Step), jumps(member(HardTanh.family, 1))
    (False, True, True)
    """
    return _jumps(cls.family, cls.order)


@cache
def _jumps(family: Family, order: int) -> bool:
    return any(sp.simplify(family.jump(order, i)) != 0 for i in range(len(family.pieces[1:])))


def vanishes_at_0(cls: Any) -> bool:
    """Whether a function is continuous and 0 at 0.

    >>> vanishes_at_0(Relu), vanishes_at_0(Step), vanishes_at_0(member(FAMILIES["cos"], 0)), vanishes_at_0(Delta)
    (True, False, False, False)
    """
    if not (isinstance(cls, type) and issubclass(cls, Fn)) or is_delta(cls) or jumps(cls):
        return False
    known = cls.family.definition is not None or cls.family.pieces or cls.family.numeric(cls.order)
    return bool(known) and float(evaluate(cls(X), {X: 0.0})) == 0


def has_deltas(cls: type[Fn]) -> bool:
    """Whether a member of a family with pieces is a generalized function.

    >>> has_deltas(member(HardTanh.family, 1)), has_deltas(member(HardTanh.family, 2))
    (False, True)
    """
    return bool(cls.family.pieces) and any(_jumps(cls.family, k) for k in range(cls.order))


def in_steps(cls: type[Fn]) -> sp.Expr:
    """A member of a family with pieces as a sum of its pieces times steps, and of Dirac deltas.

    >>> in_steps(member(HardTanh.family, 2))
    -delta(x - 1) + delta(x + 1)
    """
    return _in_steps(cls.family, cls.order)


@cache
def _in_steps(family: Family, order: int) -> sp.Expr:
    total, kinks = sp.S.Zero, family.kinks
    for i, piece in enumerate(family.pieces):
        inside = [Step(X - k) for k in kinks[max(i - 1, 0) : i]] + [Step(k - X) for k in kinks[i : i + 1]]
        total += sp.diff(piece, X, order) * sp.Mul(*inside)
    for i, k in enumerate(kinks):
        for lower in range(order):
            total += family.jump(lower, i) * member(Delta.family, order - 1 - lower)(X - k)
    return from_sympy(total)


def _register(name: str, **fields: Any) -> type[Fn]:
    FAMILIES[name] = Family(name, **{"latex": rf"\operatorname{{{name}}}", **fields})
    return member(FAMILIES[name], 0)


def abstract(name: str) -> type[Fn]:
    """An unspecified smooth function φ, carried symbolically: φ' = φ', φ'' = φ'', and no numbers.

    Args:
        name: its printed name; a Greek name (``"phi"``) becomes a Greek letter in LaTeX.

    >>> phi = abstract("phi")
    >>> phi(X).diff(X)
    phi'(x)
    """
    if not name.isidentifier():
        raise NoRuleError(f"abstract({shortly(name)}): the name must be an identifier such as 'phi'")
    return member(_abstract_family(name), 0)


@cache
def _abstract_family(name: str) -> Family:
    return Family(name, latex=sp.latex(sp.Symbol(name)))


def _only(*values: Callable[[Array], Array]) -> Callable[[int], Callable[[Array], Array] | None]:
    return lambda order: values[order] if order < len(values) else None


def _cycle(name: str, *numpy_functions: Callable[[Array], Array]) -> Any:
    return lambda order: numpy_functions[order % len(numpy_functions)]


def _step(x: Array) -> Array:
    x = np.asarray(x)
    if x.dtype.kind != "f" or np.isnan(x).any():
        return np.heaviside(x, np.zeros((), x.dtype))
    return (x > 0).astype(x.dtype)[()]  # ten times as fast


def _cases(*pairs: tuple[Array, Array]) -> Array:
    """The value of the first condition that holds; NaN where none does."""
    result: Array = np.nan
    for value, condition in reversed(pairs):
        result = np.where(condition, value, result)
    return result


def _elu(x: Array, alpha: float = 1.0) -> Array:
    return np.where(x > 0, x, alpha * np.expm1(np.minimum(x, 0)))


_AT_0: dict[str, Any] = {"kinks": (sp.S.Zero,)}
Relu = _register("relu", **_AT_0, pieces=(sp.S.Zero, X), numeric=_only(lambda x: np.maximum(x, 0)),
                 derivative=lambda k: (1, "step", 0))  # fmt: skip
Step = _register("step", **_AT_0, pieces=(sp.S.Zero, sp.S.One), numeric=_only(_step),
                 derivative=lambda k: (1, "delta", 0))  # fmt: skip
Sign = _register("sign", **_AT_0, pieces=(-sp.S.One, sp.S.One), parity=-1, numeric=_only(np.sign),
                 derivative=lambda k: (2, "delta", 0))  # fmt: skip
Abs = _register("abs", **_AT_0, pieces=(-X, X), parity=1, numeric=_only(np.abs), derivative=lambda k: (1, "sign", 0))
Delta = _register("delta", latex=r"\delta", **_AT_0, parity=1)
HardTanh = _register("hard_tanh", latex=r"\operatorname{hardtanh}", kinks=(-sp.S.One, sp.S.One), parity=-1,
                     pieces=(-sp.S.One, X, sp.S.One), numeric=_only(lambda x: np.clip(x, -1, 1)))  # fmt: skip
Relu6 = _register("relu6", kinks=(sp.S.Zero, sp.Integer(6)), pieces=(sp.S.Zero, X, sp.Integer(6)),
                  numeric=_only(lambda x: np.clip(x, 0, 6)))  # fmt: skip
Elu = _register("elu", **_AT_0, pieces=(sp.exp(X) - 1, X), numeric=_only(lambda x: _elu(x)))
SELU = sp.Rational("1.0507009873554804934193349852946"), sp.Rational("1.6732632423543772848170429916717")
Selu = _register("selu", **_AT_0, pieces=(SELU[0] * SELU[1] * (sp.exp(X) - 1), SELU[0] * X),
                 numeric=_only(lambda x: float(SELU[0]) * _elu(x, float(SELU[1]))))  # fmt: skip
Exp = _register("exp", latex=r"\exp", numeric=_cycle("exp", np.exp), derivative=lambda k: (1, "exp", 0))
Sin = _register("sin", latex=r"\sin", parity=-1, numeric=_only(np.sin), derivative=lambda k: (1, "cos", 0))
Cos = _register("cos", latex=r"\cos", parity=1, numeric=_only(np.cos), derivative=lambda k: (-1, "sin", 0))
Erf = _register("erf", definition=sp.erf(X), parity=-1, numeric=_only(special.erf), ends=(-sp.S.One, sp.S.One))
Tanh = _register("tanh", latex=r"\tanh", definition=sp.tanh(X), parity=-1, numeric=_only(np.tanh),
                 ends=(-sp.S.One, sp.S.One))  # fmt: skip
Sigmoid = _register("sigmoid", latex=r"\varsigma", definition=(1 + sp.tanh(X / 2)) / 2, numeric=_only(special.expit),
                    ends=(sp.S.Zero, sp.S.One))  # fmt: skip
Softplus = _register("softplus", numeric=_only(lambda x: np.logaddexp(0, x)), derivative=lambda k: (1, "sigmoid", 0),
                     ends=(sp.S.Zero, X))  # fmt: skip
Silu = _register("silu", definition=X * (1 + sp.tanh(X / 2)) / 2, numeric=_only(lambda x: x * special.expit(x)),
                 ends=(sp.S.Zero, X))  # fmt: skip
Gelu = _register("gelu", definition=X * (1 + sp.erf(X / sp.sqrt(2))) / 2, numeric=_only(lambda x: x * special.ndtr(x)),
                 ends=(sp.S.Zero, X))  # fmt: skip
Gauss = _register("gauss", latex=r"\operatorname{gauss}", definition=sp.exp(-(X**2) / 2), parity=1,
                  ends=(sp.S.Zero, sp.S.Zero))  # fmt: skip
BUILT_IN = frozenset(FAMILIES)  # all of them change on a scale of 1

# Which power of a function a power of it is, also where its argument is 0: sign³ = sign, but sign² is 0 there.
POWERS: dict[Any, Callable[[int], int]] = {Step: lambda e: 1, Sign: lambda e: 2 - e % 2}

_ELEMENTARY: dict[Any, Callable[..., Array]] = {
    sp.exp: np.exp, sp.log: np.log, sp.tanh: np.tanh, sp.sinh: np.sinh, sp.cosh: np.cosh,
    sp.sin: np.sin, sp.cos: np.cos, sp.tan: np.tan, sp.atan: np.arctan, sp.asin: np.arcsin,
    sp.acos: np.arccos, sp.asinh: np.arcsinh, sp.erf: special.erf, sp.erfc: special.erfc,
    sp.Abs: np.abs, sp.sign: np.sign, sp.Heaviside: lambda x, *_: _step(x),
    sp.Lt: np.less, sp.Le: np.less_equal, sp.Gt: np.greater, sp.Ge: np.greater_equal,
    sp.Eq: np.equal, sp.Ne: np.not_equal, sp.Not: np.logical_not,
    sp.And: lambda *c: np.logical_and.reduce(c), sp.Or: lambda *c: np.logical_or.reduce(c),
    ExprCondPair: lambda value, condition: (value, condition), sp.Piecewise: lambda *pairs: _cases(*pairs),
}  # fmt: skip
_FROM_SYMPY: dict[Any, type[Fn]] = {
    sp.exp: Exp, sp.tanh: Tanh, sp.sin: Sin, sp.cos: Cos, sp.erf: Erf, sp.Abs: Abs, sp.sign: Sign,
    sp.Heaviside: Step, sp.DiracDelta: Delta,
}  # fmt: skip


@lru_cache(maxsize=1024)
def from_sympy(expr: sp.Expr) -> sp.Expr:
    """Rewrite sympy's own functions as members of the table, so that their rules apply.

    >>> from_sympy(sp.Max(0, X) + sp.tanh(X))
    tanh(x) + relu(x)
    """
    expr = expr.replace(sp.Max, _fold(1)).replace(sp.Min, _fold(-1))
    for theirs, ours in _FROM_SYMPY.items():
        expr = expr.replace(theirs, lambda *args, ours=ours: ours(args[0]))
    return expr


def _fold(sign: int) -> Callable[..., sp.Expr]:
    """Max (sign 1) and Min (sign -1) of several arguments by relu."""

    def fold(*args: sp.Expr) -> sp.Expr:
        numbers = [a for a in args if a.is_number]
        result, *rest = numbers + [a for a in args if not a.is_number]
        for a in rest:
            result = result + sign * Relu(sign * (a - result))
        return result

    return fold


def evaluate(expr: sp.Expr, values: Mapping[sp.Symbol, Array]) -> Array:
    """Value of a sympy expression on arrays, by walking its tree (nothing is compiled or evaluated as text).

    Args:
        expr: an expression in symbols, numbers, ``+ * **``, elementary functions and table members.
        values: an array or float for every free symbol; arrays broadcast.

    Raises:
        DataError: a symbol has no value.
        NoRuleError: a function has no numbers (an abstract φ).

    >>> evaluate(Relu(X) + X**2, {X: np.array([-2.0, 3.0])})
    array([ 4., 12.])
    """
    memo: dict[int, Array] = {}
    with np.errstate(over="ignore", under="ignore"):
        try:
            return _walk(sp.sympify(expr), values, memo)
        except ZeroDivisionError as error:
            raise DataError("a formula divides by a constant 0; check the values of hyperparameters") from error


def no_value(missing: Iterable[sp.Symbol], given: Iterable[Any]) -> DataError:
    """The error for symbols without a value; one of the same name with other assumptions is another symbol.

    >>> print(no_value([sp.Symbol("c", positive=True)], [sp.Symbol("c")]))  # doctest: +ELLIPSIS
    no value for c: values has another symbol of that name, which differs for sympy; pass values={Symbol('c', ...
    """
    missing = sorted(missing, key=str)
    first = missing[0]
    if any(str(s) == str(first) for s in given):
        return DataError(
            f"no value for {first}: values has another symbol of that name, which differs for sympy; "
            f"pass values={{{sp.srepr(first)}: ...}}"
        )
    return DataError(f"no value for {', '.join(map(str, missing))}: pass values={{{first}: ...}}")


def _walk(expr: sp.Basic, values: Mapping[sp.Symbol, Array], memo: dict[int, Array]) -> Array:
    if id(expr) in memo:  # sympy shares equal subexpressions; comparing them would cost more than it saves
        return memo[id(expr)]
    result: Array
    if expr.is_Symbol:
        if expr not in values:
            raise no_value([expr], values)
        result = values[expr]
    elif not expr.args:
        result = bool(expr) if expr.is_Boolean else float(expr)
    elif isinstance(expr, sp.log) and expr.args[0].is_Add and expr.args[0].args[:-1] == (1,):
        result = np.log1p(_walk(expr.args[0].args[-1], values, memo))
    else:
        result = _apply(expr, [_walk(a, values, memo) for a in expr.args])
        if isinstance(result, np.floating):  # a number, not an array: it must not widen float32 arrays
            result = float(result)
    memo[id(expr)] = result
    return result


def _apply(expr: sp.Basic, args: list[Array]) -> Array:
    if isinstance(expr, sp.Add):
        return reduce(operator.add, args)
    if isinstance(expr, sp.Mul):
        return reduce(operator.mul, args)
    if isinstance(expr, sp.Pow):
        return _power(args[0], expr.exp, args[1])
    if isinstance(expr, Fn):
        return numeric(type(expr))(args[0])  # type: ignore[arg-type]
    rule = _ELEMENTARY.get(expr.func)
    if rule is None:
        raise no_numbers(expr)
    return rule(*args)


def no_numbers(expr: sp.Basic) -> NoRuleError:
    """The error for a function without a numeric rule."""
    return NoRuleError(f"{expr.func.__name__} has no numeric rule; use functions of {', '.join(sorted(FAMILIES))}")


def without_rule(expr: sp.Basic) -> sp.Basic | None:
    """The first part of an expression that is a function without a numeric rule.

    >>> without_rule(sp.tanh(X) + sp.gamma(X)), without_rule(abstract("phi")(X))
    (gamma(x), None)
    """
    known = (sp.Add, sp.Mul, sp.Pow, Fn)
    parts = (e for e in sp.postorder_traversal(expr) if e.args and not isinstance(e, known))
    return next((e for e in parts if e.func not in _ELEMENTARY), None)


def _power(base: Array, exponent: sp.Expr, value: Array) -> Array:
    if exponent.is_Integer:
        return base ** int(exponent) if exponent > 0 else 1 / base ** int(-exponent)
    return np.sqrt(base) if exponent == sp.Rational(1, 2) else base**value


def _select(kinks: tuple[sp.Expr, ...], pieces: list[sp.Expr], x: Array) -> Array:
    """The piece in whose interval x lies; at a kink, the left one, as in step(0) = 0."""
    number = np.searchsorted([float(k) for k in kinks], x, side="left")
    values = [np.broadcast_to(evaluate(p, {X: x}), np.shape(x)) for p in pieces]
    return np.choose(number, values)


@cache
def numeric(cls: type[Fn]) -> Callable[[Array], Array]:
    """The numpy function of a table member.

    Raises:
        NoRuleError: the member is abstract, or a Dirac delta (which has no values, only expectations).
    """
    direct = cls.family.numeric(cls.order)
    if direct is not None:
        return direct
    if cls.family.pieces and not has_deltas(cls):
        return partial(_select, cls.family.kinks, [sp.diff(p, X, cls.order) for p in cls.family.pieces])
    if cls.family.definition is None:
        raise NoRuleError(
            f"{text_name(cls)} has no numbers: "
            + (
                "a Dirac delta has expectations only"
                if is_delta(cls) or cls.family.pieces
                else "it is abstract; build the network with a concrete function such as tp.relu"
            )
        )
    formula = sp.diff(cls.family.definition, X, cls.order)
    return lambda x: evaluate(formula, {X: x})
