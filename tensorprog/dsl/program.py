"""Writing a program in Python: matrices, vectors and scalars with operator sugar."""

from __future__ import annotations

import inspect
import numbers
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NoReturn, Protocol, Self, TypeAlias, overload

import numpy as np
import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.dsl.refusals import NotAnArray
from tensorprog.errors import ProgramError, shortly
from tensorprog.functions import FAMILIES, Abs, from_sympy, no_numbers, without_rule
from tensorprog.ir import serial
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    InitMatrix,
    InitScalar,
    InitVector,
    MatMul,
    Moment,
    Nonlin,
    Slot,
    Var,
    scalar_slot,
    vector_slot,
)
from tensorprog.ir.spec import covariance_violations
from tensorprog.printing import in_notebook
from tensorprog.types import Number

Covariance: TypeAlias = "Sequence[Sequence[Number]] | np.ndarray | sp.MatrixBase"


class Program(ProgramGraph):
    """A NETSOR⊤⁺ program (TP2b Def. B.1).

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W.T @ tp.relu(W @ x)
    >>> len(p)
    5
    """

    def matrix(self, name: str | None = None, variance: Number = 1) -> Mat:
        """An n×n matrix with entries iid N(0, variance/n)."""
        op = InitMatrix(exact(variance, f"the variance of matrix {shortly(name)}"))
        return Mat(self, self.append(name, op, "W"))

    def vector(self, name: str | None = None, variance: Number = 1, mean: Number = 0) -> Vec:
        """A vector with rows iid N(mean, variance), independent of everything else."""
        name = self.fresh("v") if name is None else name
        return self._vectors(_named([name]), [[variance]], [mean])[0]

    def gaussian(self, names: str | Sequence[str], cov: Covariance, mean: Number | Sequence[Number] = 0) -> list[Vec]:
        """Vectors whose rows are iid draws of one joint Gaussian.

        Args:
            names: names separated by spaces, or a list of them.
            cov: k×k covariance, numbers or sympy expressions; numbers must be symmetric PSD.
            mean: one mean for all, or a list of k.

        Raises:
            ProgramError: wrong shape, asymmetric, not positive semidefinite, NaN or infinite.
        """
        names = names.split() if isinstance(names, str) else _named(names)
        given: Any = mean
        several = isinstance(given, (list, tuple, sp.MatrixBase)) or (isinstance(given, np.ndarray) and given.ndim > 0)
        means = list(given) if several else [given] * len(names)
        if len(means) != len(names):
            raise ProgramError(f"{len(names)} vectors need {len(names)} means, got {len(means)}")
        rows = _rows(cov)
        if rows is None:
            raise ProgramError(f"the covariance of {', '.join(names)} must be a square matrix, got {shortly(cov)}")
        return self._vectors(names, rows, means)

    def _vectors(self, names: list[str], cov: list[list[Any]], means: list[Any]) -> list[Vec]:
        cov = [[exact(c, f"the covariance of {', '.join(names)}") for c in row] for row in cov]
        problem = next(covariance_violations(names, cov), None)
        if problem:
            raise ProgramError(problem)
        handles: list[Vec] = []
        variables = [Var(n, "vector") for n in names]
        for i, name in enumerate(names):
            entries = tuple((variables[j], cov[i][j]) for j in range(i + 1) if j == i or cov[i][j] != 0)
            op = InitVector(exact(means[i], f"the mean of vector {shortly(name)}"), entries)
            handles.append(Vec(self, self.append(name, op)))
        return handles

    def scalar(self, name: str | None = None, value: Number = 0) -> Scal:
        """An initial scalar and its limit."""
        return Scal(self, self.append(name, InitScalar(exact(value, f"the value of scalar {shortly(name)}")), "s"))

    def to_json(self) -> str:
        """The program as JSON text."""
        return serial.to_json(self)

    @classmethod
    def from_json(cls, text: str) -> Self:
        """Read a program that ``to_json`` wrote; nothing in the text is evaluated.

        Raises:
            ProgramError: the text is not a well-formed program.
        """
        program = cls()
        serial.load_json(text, program)
        return program


def _named(names: Any) -> list[str]:
    """Names of vectors as a list."""
    found = list(names) if isinstance(names, (list, tuple)) else []
    if not found or not all(isinstance(n, str) and n for n in found):
        raise ProgramError(f"vectors are named by non-empty strings, such as 'a b' or ['a', 'b'], got {shortly(names)}")
    return found


def _rows(cov: Any) -> list[list[Any]] | None:
    """A matrix as a list of rows; None when it is not one."""
    try:
        rows = [list(row) for row in (cov.tolist() if isinstance(cov, (np.ndarray, sp.MatrixBase)) else cov)]
    except TypeError:
        return None
    return rows if rows else None


class Handle(NotAnArray):
    """A variable together with its program.

    Attributes:
        program: the program.
        var: the variable.
    """

    def _repr_html_(self) -> str:
        return in_notebook(self)

    def __init__(self, program: Program, var: Var) -> None:
        self.program, self.var = program, var

    def __repr__(self) -> str:
        return self.var.name


class Mat(Handle):
    """A matrix, or its transpose; ``identity`` is a multiple of the identity that is added to it.

    Attributes:
        program: the program.
        var: the variable.
        transposed: whether this is the transpose.
        identity: a multiple of the identity that is added to it.
    """

    _WHAT = "a matrix of a program"

    def _instead(self, name: str) -> str:
        if name == "transpose":
            return f"{self}.T"
        return f"{self} @ x or {self}.T @ x with a vector x; its scale is its std= or variance="

    def __call__(self, *vectors: Any) -> NoReturn:
        given = ", ".join(map(str, vectors))
        raise ProgramError(f"{self}({given}): {self} is {self._WHAT}, not a function; write {self} @ {given or 'x'}")

    def _no_operator(self, *other: Any) -> NoReturn:
        raise ProgramError(f"{self} is {self._WHAT} and can only multiply a vector: write {self._instead('')}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_operator
    __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = __rmatmul__ = _no_operator

    def __init__(self, program: Program, var: Var, transpose: bool = False, identity: Number = 0) -> None:
        super().__init__(program, var)
        self.transposed, self.identity = transpose, identity

    @property
    def T(self) -> Mat:
        """The transpose."""
        return Mat(self.program, self.var, not self.transposed, self.identity)

    def __matmul__(self, x: Vec) -> Vec:
        return self.apply(x)

    def apply(self, x: Vec, name: str | None = None) -> Vec:
        """``self @ x`` with a name."""
        if isinstance(x, Mat):
            first, second = (f"{m}.T" if m.transposed else f"{m}" for m in (self, x))
            raise ProgramError(f"{first} @ {second}: a matrix multiplies a vector; write {first} @ ({second} @ h)")
        if not isinstance(x, Vec):
            raise ProgramError(f"a matrix multiplies a vector of a program, got {type(x).__name__} {shortly(x)}")
        same_program(self, x)
        product = Vec(self.program, self.program.append(name, MatMul(self.var, self.transposed, x.var), "g"))
        return product if self.identity == 0 else product + self.identity * x  # type: ignore[no-any-return]


class _OfScalar(Protocol):
    """An operator whose first operand is a scalar."""

    @overload
    def __call__(self, other: Vec, /) -> Vec: ...
    @overload
    def __call__(self, other: Scal | Number, /) -> Scal: ...


class _Operator:
    """An operator of vectors, scalars and numbers, as a Nonlin; without a vector, as a Moment."""

    def __init__(self, fn: Callable[[Any, Any], Any]) -> None:
        self.fn = fn

    @overload
    def __get__(self, a: None, owner: type) -> Self: ...
    @overload
    def __get__(self, a: Vec, owner: type) -> Callable[[Vec | Scal | Number], Vec]: ...
    @overload
    def __get__(self, a: Scal, owner: type) -> _OfScalar: ...
    def __get__(self, a: Any, owner: type) -> Any:
        return self if a is None else partial(self, a)

    def __call__(self, a: Handle, other: Any) -> Any:
        return _combine(self.fn, a, other)


class _Arithmetic(Handle):
    """+ - * / ** and unary minus."""

    def _function_instead(self) -> str:
        return f"tp.tanh({self}) for tanh, so for every function that tp has, and {self._instead('')}"

    __add__, __radd__ = _Operator(lambda a, b: a + b), _Operator(lambda a, b: b + a)
    __sub__, __rsub__ = _Operator(lambda a, b: a - b), _Operator(lambda a, b: b - a)
    __mul__, __rmul__ = _Operator(lambda a, b: a * b), _Operator(lambda a, b: b * a)
    __truediv__, __rtruediv__ = _Operator(lambda a, b: a / b), _Operator(lambda a, b: b / a)
    __pow__, __rpow__ = _Operator(lambda a, b: a**b), _Operator(lambda a, b: b**a)

    def __neg__(self) -> Self:
        return _combine(lambda a, b: a * b, self, -1)

    def __pos__(self) -> Self:
        return self

    def __abs__(self) -> Self:
        return _combine(lambda a, b: Abs(a) + b, self, 0)


class Vec(_Arithmetic):
    """A vector of a program."""

    _WHAT = "a vector of a program"

    def __matmul__(self, other: Any) -> NoReturn:
        self._refuse(f"{self} @ {other}", "inner")


class Scal(_Arithmetic):
    """A scalar of a program."""

    _WHAT = "a scalar of a program"

    def _instead(self, name: str) -> str:
        if name in FAMILIES:
            return f"tp.{name}({self})"
        return f"tp.moment(lambda s: .., params=[{self}]), with a function that sympy can trace"


def _combine(fn: Callable[[Any, Any], Any], a: Handle, other: Any) -> Any:
    operands = [a, other] if isinstance(other, Handle) else [a]
    vectors = [h for h in operands if isinstance(h, Vec)]
    if any(isinstance(h, Mat) for h in operands):
        raise ProgramError(f"a matrix can only multiply a vector, with @; got {operands}")
    if isinstance(other, NotAnArray) and not isinstance(other, Handle):
        raise ProgramError(f"{a} is {a._WHAT} and {other} is {other._WHAT}: write {other._instead('')}")
    if not isinstance(other, Handle):
        other = exact(other, "an operand")
    scalars = [h for h in operands if isinstance(h, Scal)]
    slots = {id(h): vector_slot(i) for i, h in enumerate(vectors)}
    slots |= {id(h): scalar_slot(j) for j, h in enumerate(scalars)}
    body = fn(slots[id(a)], slots.get(id(other), other))
    return _append(Nonlin if vectors else Moment, body, vectors, scalars, None)


def same_program(*handles: Handle) -> Program:
    """The program that all handles belong to.

    Raises:
        ProgramError: they belong to different programs.
    """
    first = handles[0]
    for h in handles[1:]:
        if h.program is not first.program:
            raise ProgramError(f"{first} and {h} belong to different programs; build them in one")
    return first.program


def nonlin(fn: Callable[..., Any], *vectors: Vec, params: Sequence[Scal] = (), name: str | None = None) -> Vec:
    """Apply a function coordinatewise: z_α = ψ(x¹_α, .., x^k_α; θ₁, .., θ_l).

    Args:
        fn: a function of k + l arguments that sympy can trace, e.g. ``lambda a, b, s: a*sp.tanh(b) + s``.
        vectors: the k vectors.
        params: the l scalars.
        name: name of the result; a fresh one when None.

    Returns:
        The vector z.

    Raises:
        ProgramError: wrong number of arguments, mixed programs, or ``fn`` returns no sympy expression.

    >>> import tensorprog as tp, sympy as sp
    >>> p = tp.Program()
    >>> tp.nonlin(lambda a, s: sp.tanh(a) + s, p.vector("a"), params=[p.scalar("s", 2)], name="z")
    z
    """
    if not vectors:
        raise ProgramError("nonlin needs at least one vector")
    return _append(Nonlin, _trace(fn, vectors, params), vectors, params, name)  # type: ignore[no-any-return]


def moment(fn: Callable[..., Any], *vectors: Vec, params: Sequence[Scal] = (), name: str | None = None) -> Scal:
    """The scalar (1/n) Σ_α ψ(x¹_α, .., x^k_α; θ), whose limit is E ψ(Z^{x¹}, .., Z^{x^k}; θ̊).

    Arguments and errors are those of ``nonlin``.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> m = tp.moment(lambda a: a**2, p.vector("a", variance=3))
    >>> tp.limit(p).value(m)
    3
    """
    return _append(Moment, _trace(fn, vectors, params), vectors, params, name)  # type: ignore[no-any-return]


def _trace(fn: Any, vectors: Sequence[Any], params: Sequence[Any]) -> sp.Expr:
    if not isinstance(params, (list, tuple)):
        given = f"{type(params).__name__} {shortly(params)}"
        raise ProgramError(f"params must be a list of scalars of a program, got {given}")
    for v, cls in [*((v, Vec) for v in vectors), *((s, Scal) for s in params)]:
        if not isinstance(v, cls):
            raise ProgramError(f"expected a {cls.__name__} of a program, got {type(v).__name__} {shortly(v)}")
    return trace(fn, len(vectors), len(params))


def trace(fn: Any, vectors: int, scalars: int = 0) -> sp.Expr:
    """The body of a Python function of so many vectors' coordinates and scalars."""
    slots: list[Slot] = [vector_slot(i) for i in range(vectors)]
    slots += [scalar_slot(j) for j in range(scalars)]
    _check_arity(fn, len(slots))
    try:
        result = fn(*slots)
    except TypeError as error:
        raise ProgramError(
            f"{shortly(fn)} cannot be applied to a symbol ({error}); write tp.tanh(a) or sp.tanh(a) "
            "instead of functions of "
            "NumPy or math, tp.step(a) or sp.Max(a, 0) instead of if and max"
        ) from error
    except ValueError as error:  # of sympy, as for Max(a, I)
        raise ProgramError(
            f"{shortly(fn)} of a symbol: {error} Its value must be a finite real number everywhere"
        ) from error
    if not isinstance(result, (sp.Expr, numbers.Real)):
        raise ProgramError(f"{shortly(fn)} must return a sympy expression of its arguments, got {shortly(result)}")
    body = from_sympy(exact(result, "the function"))
    unknown = next((e for e in sp.postorder_traversal(body) if isinstance(e, sp.Piecewise)), without_rule(body))
    if isinstance(unknown, sp.Piecewise):
        raise ProgramError(f"the function is given by cases, {unknown}: {CASES}")
    if unknown is not None:
        raise ProgramError(f"{body}: {no_numbers(unknown)}")
    return body


CASES = (
    "write it with tp.relu, tp.step, sp.Max and sp.Min, or declare it, which makes its kinks known: tp.declare('name', "
    "kinks=(0,), pieces=(lambda x: 0, lambda x: x))"
)


def _check_arity(fn: Any, count: int) -> None:
    if not callable(fn) or isinstance(fn, Handle):
        raise ProgramError(f"expected a function, got {shortly(fn)}")
    try:
        inspect.signature(fn).bind(*range(count))
    except TypeError as error:
        raise ProgramError(f"the function takes other arguments than the {count} operands given: {error}") from None
    except ValueError:
        return  # a builtin without a signature


def _append(cls: Any, body: sp.Expr, vectors: Sequence[Vec], params: Sequence[Scal], name: str | None) -> Any:
    handles = [*vectors, *params]
    if not handles:
        raise ProgramError("a Moment needs at least one operand")
    program = same_program(*handles)
    op = cls(body, tuple(v.var for v in vectors), tuple(s.var for s in params))
    var = program.append(name, op, "x" if cls is Nonlin else "m")
    return (Vec if cls is Nonlin else Scal)(program, var)
