"""Lowering of kernels over positions onto a tape of whole arrays, indexed by a pair of inputs, p and q.

Sums are factored and share their beginnings, as those of a residual stream do.  What is found from whole arrays
(``positions``), of one input with itself (``at``) and expectations (``atom``) are operations that are run by name: the
generators that they stand for, of the first derivation that asked, are kept beside the tape.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

import sympy as sp

from tensorprog.algebra import Gen, Poly
from tensorprog.compile.lower import Lowering, function_factors
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Tape
from tensorprog.dsl.trace import Datum
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.closed.pairs import find_pair
from tensorprog.expectations.series.mehler import split
from tensorprog.functions import Fn, Relu, Step, X
from tensorprog.ir.maps import Given
from tensorprog.limit.positions import Along, At, Positional, Weighed

Grams = Mapping[sp.Symbol, tuple[Datum, Datum]]
ARCS = {((Relu, 0), (Relu, 1)): 0, ((Step, 0), (Step, 1)): 1}  # which result of an angle
ONE_SIDED = (LEFT, RIGHT)


@dataclass
class Whole:
    """Kernels in one tape, and what its operations stand for.

    Attributes:
        tape: the operations.
        roots: of each kernel.
        places: of each derivation the operation of every generator.
        polys: and of every polynomial that an operation reads.
        gens: the generator behind an operation that is run by name, and the number of its derivation.
        arcs: of expectations of relu and of step which of the two they are.
        smooth: of expectations of two smooth functions without a closed form these, of X.
    """

    tape: Tape = field(default_factory=Tape)
    roots: list[int] = field(default_factory=list)
    places: list[dict[Gen, int]] = field(default_factory=list)
    polys: list[dict[Poly, int]] = field(default_factory=list)
    gens: dict[int, tuple[Any, int]] = field(default_factory=dict)
    arcs: dict[int, int] = field(default_factory=dict)
    smooth: dict[int, tuple[sp.Expr, sp.Expr]] = field(default_factory=dict)

    def add(self, poly: Poly, grams: Grams, hyper: Mapping[sp.Symbol, float]) -> None:
        """Append a kernel.

        Raises:
            DataError: a symbol has no number.
        """
        lowering = _Lowering(self, grams, hyper)
        self.roots += lowering.run([poly])
        self.places.append(lowering.at)
        self.polys.append(lowering.polys)

    def orders(self) -> tuple[list[int], list[int], list[int]]:
        """The operations to run for a pair of inputs; those known per input that they read; those to run for each
        input with itself, which give the latter."""
        sides, pair, read, todo = self.tape.sides, set[int](), set[int](), list(self.roots)
        while todo:
            i = todo.pop()
            if sides[i] in ONE_SIDED:
                read.add(i)
            elif i not in pair:
                pair.add(i)
                todo += self.tape.ops[i].args
        return sorted(pair), sorted(read), self.tape.needed(read)


class _Lowering(Lowering):
    def __init__(self, whole: Whole, grams: Grams, hyper: Mapping[sp.Symbol, float]) -> None:
        super().__init__(whole.tape, {}, hyper)
        self.whole, self.data = whole, grams
        self.polys: dict[Poly, int] = {}

    def poly(self, p: Poly) -> int:
        """Σ c Π g with the factors of all terms taken out, and terms in the order in which they were made."""
        terms = [(float(c), Counter({self.at[g]: e for g, e in mono})) for mono, c in self._by_age(p)]
        shared = reduce(Counter.__and__, (of for _, of in terms)) if len(terms) > 1 else Counter[int]()
        inner = self.tape.sum((c, list((of - shared).elements())) for c, of in terms)
        self.polys[p] = self.tape.product([inner, *shared.elements()]) if shared else inner
        return self.polys[p]

    @staticmethod
    def _by_age(p: Poly) -> list[Any]:
        return sorted(p.terms.items(), key=lambda term: max((g.index for g, _ in term[0]), default=-1))

    def _folded(self, i: int) -> int:
        known = all(self.tape.ops[k].kind in FOLDED for k in self.tape.needed([i]))
        return super()._folded(i) if known and self.tape.sides[i] == CONST else i

    def _leaf(self, g: Gen) -> int:
        if isinstance(g, At):
            return self._named("at", g, [g.inner], LEFT << g.point, only=True)
        if isinstance(g, Positional):
            return self._named("positions", g, g.reads, _side(g))
        return super()._leaf(g)

    def _named(self, kind: str, g: Positional, reads: Sequence[Poly], side: int, only: bool = False) -> int:
        fields = tuple(v for name in g.FIELDS if not isinstance(v := getattr(g, name), Poly))
        i = self.tape.add(kind, *map(self.poly, reads), data=(type(g).__name__, *fields), side=side)
        if only:
            self.tape.sides[i] = side
        self.whole.gens.setdefault(i, (g, len(self.whole.places)))
        return i

    def _scalar(self, expr: sp.Expr) -> int:
        if expr not in self.data:
            if inside := sorted(expr.free_symbols & self.data.keys(), key=str):
                known = expr.xreplace({s: sp.Float(v) for s, v in self.hyper.items()})
                return self.tape.add("formula", *map(self._scalar, inside), data=(known, tuple(inside)))
            return super()._scalar(expr)
        p, q = self.data[expr]
        return self.tape.add("data", data=(p, q), side=PAIR if p.owner != q.owner else LEFT << p.owner)

    def _expect(self, g: Expect) -> int:
        k = len(g.mean)
        args = [self.poly(g.entry(i, j)) for i in range(k) for j in range(i, k)] + [self.poly(m) for m in g.mean]
        args += [self.at[s] for s in g.scalars.values()]
        i = self.tape.add("atom", *args, data=(g.body, g.variables, tuple(g.scalars)))
        self.whole.gens.setdefault(i, (g, len(self.whole.places)))
        factors = None if any(g.mean) or g.scalars else function_factors(g.body, g.variables)
        if factors in ARCS:
            self.whole.arcs[i] = ARCS[factors]  # type: ignore[index]
        elif k == 2 and not any(g.mean) and not g.scalars and not _is_closed(factors):
            self._note_smooth(i, g)
        return i

    def _note_smooth(self, i: int, g: Expect) -> None:
        if (parts := split(g.body, g.variables)) is not None:
            of = {parts.u: parts.first.subs(parts.u, X), parts.v: parts.second.subs(parts.v, X)}
            self.whole.smooth[i] = of[g.variables[0]], of[g.variables[1]]


def _is_closed(factors: tuple[tuple[type[Fn], int], ...] | None) -> bool:
    return factors is not None and len(factors) == 2 and find_pair(factors[0][0], factors[1][0]) is not None


FOLDED = ("const", "lin", "mul", "fma", "axpy", "formula")


def _side(g: Positional) -> int:
    """What a map reads of inputs beside its array: sizes, and matrices."""
    if (point := getattr(g, "point", None)) is not None:
        return LEFT << int(point)
    if isinstance(g, Weighed):
        return LEFT if g.how == "left" else RIGHT
    if isinstance(g, Along) and g.how in ("left", "right") and (g.transpose or isinstance(g.by.map, Given)):
        return LEFT if g.how == "left" else RIGHT
    return PAIR
