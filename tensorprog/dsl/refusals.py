"""What Python and NumPy would do with a vector, a scalar or a datum as if it were an array: refused by name."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import numpy as np
import sympy as sp

from tensorprog.errors import ProgramError, shortly
from tensorprog.functions import FAMILIES

OPERATORS: dict[str, Callable[..., Any]] = {
    "add": operator.add, "subtract": operator.sub, "multiply": operator.mul, "divide": operator.truediv,
    "true_divide": operator.truediv, "power": operator.pow, "float_power": operator.pow, "negative": operator.neg,
    "positive": operator.pos, "absolute": operator.abs, "square": lambda a: a**2,
    "sqrt": lambda a: a ** sp.Rational(1, 2), "reciprocal": lambda a: 1 / a,
}  # fmt: skip
MEAN = "tp.moment(lambda a: a, {0}) for the mean of its coordinates"
INNER = "tp.moment(lambda a, b: a*b, x, y) for an inner product over n"
NO_LIMIT = "nothing of the kind: over n coordinates it has no limit"
REDUCTIONS = {
    "mean": MEAN, "average": MEAN, "nanmean": MEAN,
    "sum": "tp.moment(lambda a: a, {0}) for the sum of its coordinates over n",
    "var": "tp.moment(lambda a: a**2, {0}) - tp.moment(lambda a: a, {0})**2",
    "std": "(tp.moment(lambda a: a**2, {0}) - tp.moment(lambda a: a, {0})**2) ** sp.Rational(1, 2)",
    "norm": "tp.moment(lambda a: a**2, {0}) for its square over n",
    "dot": INNER,
    "inner": INNER,
    "vdot": INNER,
    "max": NO_LIMIT, "amax": NO_LIMIT,
    "min": NO_LIMIT, "amin": NO_LIMIT,
    "prod": NO_LIMIT,
    "clip": "tp.nonlin(lambda a: sp.Min(sp.Max(a, low), high), {0})",
    "transpose": INNER, "T": INNER,
    "comparison": "tp.step(x - y), which is 1 where x > y",
    "where": "tp.step(h) * a + (1 - tp.step(h)) * b for a where h > 0 and b elsewhere",
}  # fmt: skip
OF_ONE = "tp.nonlin(lambda a: .., {0}), with a function that sympy can trace"


class NoExpression(ProgramError, sp.SympifyError):  # type: ignore[misc]
    """Something of a program where sympy wants an expression; sympy's own operators then ask the other operand."""

    def __init__(self, message: str) -> None:
        sp.SympifyError.__init__(self, message)
        self.message = message

    def __str__(self) -> str:
        return self.message


class NoAttribute(ProgramError, AttributeError):
    """A method of arrays that vectors of a program do not have."""


def instead(name: str) -> str:
    """What to write instead of a function of NumPy, math or sympy, with {0} for the vector."""
    if name in REDUCTIONS:
        return REDUCTIONS[name]
    if name in ("maximum", "minimum", "fmax", "fmin"):
        return f"tp.nonlin(lambda a, b: sp.{'Max' if 'max' in name else 'Min'}(a, b), ..)"
    return f"tp.{name}({{0}})" if name in FAMILIES else OF_ONE


class NotAnArray:
    """Words where an array, a list or a number is expected; NumPy numbers on the left of an operator are numbers."""

    _WHAT = "a variable of a program"

    def _instead(self, name: str) -> str:
        """What to write instead of a function, "" for something else than a function."""
        return instead(name).format(self)

    def _function_instead(self) -> str:
        """What to write instead of a function whose name Python does not tell, such as math.tanh."""
        return self._instead("")

    def _refuse(self, call: str, name: str = "", instead: str = "") -> NoReturn:
        raise ProgramError(f"{call}: {self} is {self._WHAT}, not numbers; write {instead or self._instead(name)}")

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        name = ufunc.__name__
        fn = OPERATORS.get(name)
        if fn is None or method != "__call__" or options:
            self._refuse(f"np.{name}({self})" if method == "__call__" else f"np.{name}.{method}({self})", name)
        for x in inputs:
            if isinstance(x, np.ndarray) and x.ndim:
                raise ProgramError(f"np.{name}: {self} is {self._WHAT}; an array of shape {x.shape} is no number")
        return fn(*(x.item() if isinstance(x, (np.generic, np.ndarray)) else x for x in inputs))

    def __array_function__(self, func: Any, types: Any, args: Any, kwargs: Any) -> NoReturn:
        self._refuse(f"np.{func.__name__}({self})", func.__name__)

    def __getattr__(self, name: str) -> NoReturn:
        if name in REDUCTIONS:
            call = "" if name == "T" else "()"
            raise NoAttribute(f"{self}.{name}{call}: {self} is {self._WHAT}; write {self._instead(name)}")
        raise AttributeError(f"{shortly(type(self).__name__)} object has no attribute {shortly(name)}")

    def _sympy_(self) -> NoReturn:
        raise NoExpression(f"{self} is {self._WHAT}, not an expression of sympy; write {self._function_instead()}")

    def __float__(self) -> NoReturn:
        self._refuse(f"float({self})", instead=self._function_instead())

    def __int__(self) -> NoReturn:
        self._refuse(f"int({self})")

    def __complex__(self) -> NoReturn:
        self._refuse(f"complex({self})")

    def __bool__(self) -> NoReturn:
        self._refuse(f"bool({self})")

    def __len__(self) -> int:
        self._refuse(f"len({self})")

    def __iter__(self) -> Iterator[Any]:
        self._refuse(f"iteration over {self}", "mean")

    def __getitem__(self, index: Any) -> Any:
        self._refuse(f"{self}[{index!r}]")

    def _compare(self, other: Any) -> NoReturn:
        self._refuse(f"comparison of {self} with {other}", "comparison")

    __lt__ = __le__ = __gt__ = __ge__ = _compare
