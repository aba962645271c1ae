"""``tp.limit``: one question, several ways to answer it."""

from __future__ import annotations

import inspect
from typing import Any, Literal, overload

from tensorprog.errors import NoRuleError, nearest, shortly, unknown_keywords
from tensorprog.ir.graph import ProgramGraph, check_program
from tensorprog.limit.answers import Limit
from tensorprog.limit.auto import AutoLimit
from tensorprog.limit.grid import GridLimit
from tensorprog.limit.linear_programs import LinearLimit
from tensorprog.limit.sampling import SampledLimit

METHODS: dict[str, Any] = {"exact": Limit, "sampling": SampledLimit, "quadrature": GridLimit,
                           "linear": LinearLimit, "auto": AutoLimit}  # fmt: skip


@overload
def limit(program: ProgramGraph, method: Literal["exact"] = "exact") -> Limit: ...
@overload
def limit(program: ProgramGraph, method: Literal["sampling"], **options: Any) -> SampledLimit: ...
@overload
def limit(program: ProgramGraph, method: Literal["quadrature"], **options: Any) -> GridLimit: ...
@overload
def limit(program: ProgramGraph, method: Literal["linear"], **options: Any) -> LinearLimit: ...
@overload
def limit(program: ProgramGraph, method: Literal["auto"], **options: Any) -> AutoLimit: ...
@overload
def limit(program: ProgramGraph, method: str, **options: Any) -> Any: ...
def limit(program: ProgramGraph, method: str = "exact", **options: Any) -> Any:
    """The infinite-width limit of a program (TP2b Thm B.4).

    Args:
        program: any program.
        method: ``"exact"``, named equations evaluated by closed forms and quadrature (a ``Limit``);
            ``"sampling"``, numbers with standard errors for any program (a ``SampledLimit``, options
            ``samples, seed, values, memory``); ``"quadrature"``, for programs without matrix products (a
            ``GridLimit``, options ``values, nodes``); ``"linear"``, exact numbers for programs that are linear
            in their vectors (a ``LinearLimit``, option ``values``); ``"auto"``, exact numbers where they can be
            computed and sampled ones elsewhere (an ``AutoLimit``).
        options: of the method.

    Raises:
        NoRuleError: there is no such method.
        ProgramError: not a program, or an option that the method does not have.

    >>> import tensorprog as tp
    >>> p = tp.Program()
    >>> W, x = p.matrix("W"), p.vector("x")
    >>> y = W.T @ tp.step(W @ x)
    >>> lim = tp.limit(p)
    >>> print(round(lim.evaluate(lim.E(lambda a, b: a * b, x, y)), 12))
    0.398942280401
    """
    check_program(program, "tp.limit")
    if not isinstance(method, str) or method not in METHODS:
        raise NoRuleError(f"method={shortly(method)} is not available; {nearest(method, METHODS)}")
    sampled = list(inspect.signature(SampledLimit).parameters)[1:]
    known = sampled if method == "auto" else list(inspect.signature(METHODS[method]).parameters)[1:]
    if options.keys() - set(known):
        raise unknown_keywords(f"tp.limit(.., {shortly(method)})", options.keys() - set(known), known)
    return METHODS[method](program, **options)
