"""The exact limit of a program as users hold it: questions in sympy and numbers."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Self, overload

import numpy as np
import sympy as sp

from tensorprog.ir.graph import ProgramGraph, Variable
from tensorprog.limit.accounts import Account
from tensorprog.limit.master import Interpreter
from tensorprog.printing import Shown
from tensorprog.types import Number


class Limit(Shown):
    """The infinite-width limit of a program: what its vectors' coordinates and its scalars converge to.

    Args:
        program: the program.
    """

    def __init__(self, program: ProgramGraph) -> None:
        self._interpreter = Interpreter(program)

    @classmethod
    def _of(cls, interpreter: Interpreter) -> Self:
        """The questions to an interpreter that is there already, with its names."""
        made = cls.__new__(cls)
        made._interpreter = interpreter
        return made

    def __copy__(self) -> Limit:
        return self  # it answers the same questions in the same way for ever

    def __deepcopy__(self, memo: Any) -> Limit:
        return self

    @property
    def program(self) -> ProgramGraph:
        """The program."""
        return self._interpreter.program

    def text(self) -> str:
        """Z of every vector, the limits of scalars, and the named equations."""
        return self._interpreter.text()

    def __repr__(self) -> str:
        return repr(self._interpreter)

    def Z(self, x: Variable) -> sp.Expr:
        """Z^x as a sympy expression in base Gaussians and names."""
        return self._interpreter.Z(x)

    def zhat(self, x: Variable) -> sp.Expr:
        """Ẑ^{Wy} of a MatMul x = W y."""
        return self._interpreter.zhat(x)

    def zdot(self, x: Variable) -> sp.Expr:
        """Ż^{Wy} of a MatMul x = W y."""
        return self._interpreter.zdot(x)

    def mean(self, x: Variable) -> sp.Expr:
        """E Z^x."""
        return self._interpreter.mean(x)

    def cov(self, x: Variable, y: Variable) -> sp.Expr:
        """Cov(Z^x, Z^y) = E Z^x Z^y − E Z^x E Z^y."""
        return self._interpreter.cov(x, y)

    def E(self, fn: Callable[..., Any], *vectors: Variable) -> sp.Expr:
        """E ψ(Z^{x¹}, .., Z^{x^k}) for a sympy-traceable ψ."""
        return self._interpreter.E(fn, *vectors)

    def value(self, scalar: Variable) -> sp.Expr:
        """The limit θ̊ of a scalar of the program."""
        return self._interpreter.value(scalar)

    @property
    def equations(self) -> list[sp.Eq]:
        """All named equations defined so far, in dependency order."""
        return self._interpreter.equations

    @overload
    def evaluate(self, expr: Number, values: None = None) -> float: ...
    @overload
    def evaluate(self, expr: Number, values: Mapping[sp.Symbol, float] | Mapping[str, float]) -> float: ...
    @overload
    def evaluate(self, expr: Number, values: Mapping[Any, float | np.ndarray]) -> float | np.ndarray: ...
    def evaluate(self, expr: Number, values: Mapping[Any, Any] | None = None) -> float | np.ndarray:
        """The number that an expression in names, atoms and hyperparameters stands for; see ``account`` for its error.

        Args:
            expr: what ``cov``, ``mean``, ``E`` or ``value`` returned, or any formula in those.
            values: hyperparameters by symbol or by name, floats or arrays.

        Raises:
            DataError: a hyperparameter has no value.
            NoRuleError: an atom holds an abstract function.
        """
        return self._interpreter.evaluate(expr, values)

    def account(self, expr: Number, values: Mapping[Any, Any] | None = None) -> Account:
        """The number with the value, error and method of every expectation it is made of, as ``evaluate`` takes it.

        >>> import tensorprog as tp
        >>> p = tp.Program()
        >>> x = p.vector("x")
        >>> account = (lim := tp.limit(p)).account(lim.E(lambda a: tp.tanh(a) ** 2, x))
        >>> account.atoms[0].method, account.statistical, bool(account.error < 1e-12)
        ('trapezoid', False, True)
        """
        return self._interpreter.account(expr, values)
