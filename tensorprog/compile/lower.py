"""Lowering: the named equations of a derivation as a tape, hyperparameters substituted."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar
from tensorprog.compile.arrays import run
from tensorprog.compile.closed import INLINE, SQUARES, acute
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Tape
from tensorprog.errors import DataError
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.expectations.closed.pairs import MEANS, find_pair
from tensorprog.expectations.series.mehler import split, tame
from tensorprog.functions import Fn, X, no_value
from tensorprog.functions import evaluate as evaluate_expr
from tensorprog.limit.equations import Name, reachable

Grams = Mapping[sp.Symbol, tuple[tuple[int, int], tuple[int, int]]]


def lower(tape: Tape, polys: list[Poly], grams: Grams, hyper: Mapping[sp.Symbol, float]) -> list[int]:
    """Append the values of polynomials to a tape.

    Args:
        tape: grows; what it holds already is used again.
        polys: quantities of a limit.
        grams: the inner products of the data by symbol, each as two (owner, time).
        hyper: numbers for all other symbols.

    Returns:
        The operation of each polynomial.

    Raises:
        DataError: a symbol has no number.
    """
    return Lowering(tape, grams, hyper).run(polys)


class Lowering:
    """What appends the values of polynomials to a tape: see ``lower``."""

    def __init__(self, tape: Tape, grams: Grams, hyper: Mapping[sp.Symbol, float]) -> None:
        self.tape, self.grams, self.hyper = tape, grams, hyper
        self.at: dict[Gen, int] = {}
        self._scalars: dict[sp.Expr, int] = {}
        self._reached: dict[tuple[Poly, ...], list[Gen]] = {}

    def run(self, polys: list[Poly], known: Mapping[Any, int] | None = None) -> list[int]:
        """The operations of polynomials, those of some generators being ``known``."""
        self.at, key = dict(known or {}), tuple(polys)
        if key not in self._reached:  # the layers of a recursion have one form
            self._reached[key] = reachable(polys)
        for g in self._reached[key]:
            if g not in self.at:
                self.at[g] = self._folded(self.poly(g.definition) if isinstance(g, Name) else self._leaf(g))
        return [self.poly(p) for p in polys]

    def poly(self, p: Poly) -> int:
        return self.tape.sum(
            (_float(c), [self.at[g] for g, e in mono for _ in range(e)]) for mono, c in p.terms.items()
        )

    def _folded(self, i: int) -> int:
        """An operation of numbers alone as the number that it is: what is made of parts is then known by its parts."""
        if self.tape.sides[i] != CONST or self.tape.value(i) is not None:
            return i
        with np.errstate(all="ignore"):
            [value] = run(self.tape, self.tape.needed([i]), {}, [i], np, (0.0, 0.0))
        return self.tape.const(float(value)) if np.isfinite(value) else i

    def _leaf(self, g: Gen) -> int:
        if isinstance(g, Scalar):
            if g.symbol not in self._scalars:
                self._scalars[g.symbol] = self._scalar(g.symbol)
            return self._scalars[g.symbol]
        if isinstance(g, Expect):
            return self._expect(g)
        fn, args = (g.fn, g.args)  # type: ignore[attr-defined]
        expr = fn.expr if isinstance(fn, sp.Lambda) else fn(*variables(1))
        symbols = fn.variables if isinstance(fn, sp.Lambda) else variables(1)
        return self.tape.add("formula", *map(self.poly, args), data=(expr, tuple(symbols)))

    def _scalar(self, expr: sp.Expr) -> int:
        if expr in self.grams:
            return self.tape.gram(*self.grams[expr])
        data = sorted(expr.free_symbols & self.grams.keys(), key=str)
        if missing := expr.free_symbols - self.hyper.keys() - self.grams.keys():
            raise no_value(missing, self.hyper)
        if not data:
            return self.tape.const(float(evaluate_expr(expr, self.hyper)))
        known = {s: sp.Float(v) for s, v in self.hyper.items()}
        args = [self.tape.gram(*self.grams[s]) for s in data]
        return self.tape.add("formula", *args, data=(expr.xreplace(known), tuple(data)))

    def _expect(self, g: Expect) -> int:
        factors = None if any(g.mean) or g.scalars else function_factors(g.body, g.variables)
        if factors is not None:
            found = self._closed(factors, g)
            if found is not None:
                return found
        if not any(g.mean) and not g.scalars:
            found = self._smooth(g)
            if found is not None:
                return found
        k = len(g.mean)
        args = [self.poly(g.entry(i, j)) for i in range(k) for j in range(i, k)] + [self.poly(m) for m in g.mean]
        args += [self.at[s] for s in g.scalars.values()]
        return self.tape.add("expect", *args, data=(g.body, g.variables, tuple(g.scalars)))

    def _closed(self, factors: tuple[tuple[type[Fn], int], ...], g: Expect) -> int | None:
        """The closed form of φ(u) or φ(u)ψ(v): operations per pair, a call of the tabled formula otherwise."""
        if len(factors) == 1:
            cls, i = factors[0]
            return self.tape.add("form", self.poly(g.entry(i, i)), data=(function_name(cls),)) if cls in MEANS else None
        (first, i), (second, j) = factors
        q1, q2, c = (self.poly(g.entry(a, b)) for a, b in ((i, i), (j, j), (i, j)))
        sides = self.tape.sides[q1], self.tape.sides[q2], self.tape.sides[c]
        rule = INLINE.get((first, second))
        if rule is not None and sides[2] == PAIR and PAIR not in (sides[0], sides[1]):
            if sides[0] in (CONST, LEFT) and sides[1] in (CONST, RIGHT):
                return rule(self.tape, q1, q2, c)
            if sides[0] in (CONST, RIGHT) and sides[1] in (CONST, LEFT):
                return INLINE[second, first](self.tape, q2, q1, c)
        if q1 == q2 == c and (first, second) in SQUARES:
            return SQUARES[first, second](self.tape, q1)
        known = find_pair(first, second) is not None
        return self.tape.add("form", q1, q2, c, data=(function_name(first), function_name(second))) if known else None

    def _smooth(self, g: Expect) -> int | None:
        """E φ(u) and E φ(u)ψ(v) of smooth functions and zero means: what a series in the correlation serves."""
        if len(g.variables) == 1 and tame(g.body):
            return self.tape.add("moment", self.poly(g.entry(0, 0)), data=g.body.subs(g.variables[0], X))
        parts = split(g.body, g.variables)
        if parts is None:
            return None
        i, j = g.variables.index(parts.u), g.variables.index(parts.v)
        q1, q2, c = (self.poly(g.entry(a, b)) for a, b in ((i, i), (j, j), (i, j)))
        first, second = parts.first.subs(parts.u, X), parts.second.subs(parts.v, X)
        near = acute(self.tape, q1, q2, c)
        sides = [self.tape.sides[q] for q in (q1, q2, c)]
        if sides[0] in (CONST, RIGHT) and sides[1] in (CONST, LEFT):
            q1, q2, first, second = q2, q1, second, first
        elif not (sides[0] in (CONST, LEFT) and sides[1] in (CONST, RIGHT)):
            return None
        if sides[2] != PAIR:
            return None
        roots, data = (self.tape.add("rsqrt", q1), self.tape.add("rsqrt", q2)), (first, second)
        value = self.tape.add("smooth", c, *roots, q1, q2, data=data)
        if near is not None:
            self.tape.exact[value] = self.tape.add("near smooth", c, *roots, q1, q2, near, data=data)
        return value


@functools.lru_cache(1024)  # every layer asks the same
def function_factors(body: sp.Expr, over: tuple[sp.Symbol, ...]) -> tuple[tuple[type[Fn], int], ...] | None:
    """One or two functions of single variables whose product the body is, as (function, variable); else None."""
    found: list[tuple[type[Fn], int]] = []
    for f in sp.Mul.make_args(body):
        base, power = f.as_base_exp()
        if not (isinstance(base, Fn) and base.args[0] in over and power.is_Integer and power > 0):
            return None
        found += [(type(base), over.index(base.args[0]))] * min(int(power), 3)
    return tuple(found) if len(found) <= 2 else None


def function_name(cls: type[Fn]) -> tuple[str, int]:
    """A member of the table of functions by its family's name and its order."""
    return cls.family.name, cls.order


def _float(c: Any) -> float:
    """A coefficient as a float.

    Raises:
        DataError: it is beyond the range of floats.
    """
    try:
        return float(c)
    except OverflowError as error:
        size = np.finfo(float).max
        raise DataError(
            f"a coefficient of the formula is beyond {size:.2g}: make the hyperparameters smaller"
        ) from error
