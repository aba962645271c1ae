"""Folded equations as loops over layers and times."""

from __future__ import annotations

from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar
from tensorprog.expectations.atoms import Expect
from tensorprog.export.integrals import Integrals
from tensorprog.export.nests import Nest, nests, ranges_of
from tensorprog.export.phrases import ATOM, Phrase, Speller, identifier, without_code
from tensorprog.recursions.folded import FoldedKernel
from tensorprog.recursions.folding import At, Case, Folded
from tensorprog.recursions.indexed import at_index, placed
from tensorprog.recursions.straight import GRAM, Family

INDICES = {"l": "l", "t": "t", "l'": "k", "t'": "s"}
Exprs = tuple[sp.Expr | None, ...]
FIRST = sp.Symbol("first", integer=True)


def looped(recursion: FoldedKernel, speller: Speller, integrals: Integrals) -> list[str]:
    """The statements of a function of x1, x2 and of sizes."""
    speller.symbols |= {s: INDICES[s.name] for s in sp.symbols("l t l' t'", integer=True)}
    parts = [(p.over.related, _Part(p.folded, p.over.larger(2), speller, integrals)) for p in recursion._parts]
    timed = recursion._over.lengths
    lines = ["T1, T2 = x1.shape[-2], x2.shape[-2]"] if timed else []
    if any("tau" in line or "first" in line for _, part in parts for line in part.lines()):
        lines.append("tau, first = T2 - T1, max(1, 1 - T2 + T1)")
    if len(parts) == 1:
        return [*lines, *parts[0][1].lines()]
    for word, (_, part) in zip(("if T1 == T2:", "else:"), parts, strict=True):
        lines += [word, *(f"    {line}" for line in part.lines())]
    return lines


def first_of(e: sp.Expr) -> sp.Expr:
    """max(n, n - τ) as first + n - 1."""
    return sp.expand(e.replace(sp.Max, lambda *args: FIRST - 1 + next(a for a in args if a.is_Integer)))


class _Part:
    """The statements of one system of indexed equations."""

    def __init__(self, folded: Folded, examples: Any, speller: Speller, integrals: Integrals) -> None:
        self.folded, self.speller, self.integrals = folded, speller, integrals
        self.nests = nests(folded, examples)

    def lines(self) -> list[str]:
        """Assignments in loops, and the return."""
        held = {f: name for c in self.folded.cases if (f := c.family) and (name := self.name(f)) and self._indexed(f)}
        names = list(dict.fromkeys(held.values()))
        found = [f"{name} = {{}}" for name in names] if len(names) == 1 else []
        if len(names) > 1:
            found = [f"{', '.join(names)} = {', '.join(['{}'] * len(names))}"]
        for nest in self.nests:
            found += self._nest(nest)
        terms = [self._term(case) for case in self.folded.terms]
        return [*found, f"return {' + '.join(terms).replace('+ -', '- ') or '0.0'}"]

    def _nest(self, nest: Nest) -> list[str]:
        lines, indent = [], ""
        for index, low, high, direction in nest.loops:
            lines.append(f"{indent}for {self._index(index)} in {self._range(low, high, direction)}:")
            indent += "    "
        return lines + [f"{indent}{self._assignment(case)}" for case in nest.cases]

    def _range(self, low: sp.Expr, high: sp.Expr, direction: int) -> str:
        if direction > 0:
            return f"range({self._index(low)}, {self._index(high + 1)})"
        return f"range({self._index(high)}, {self._index(low - 1)}, -1)"

    def _index(self, e: sp.Expr) -> str:
        return self.speller.expr(first_of(e))[0]

    def _own(self, case: Case) -> Exprs:
        """The index of a case, single values put in."""
        p = placed(case, self.folded)
        single = {i: low for i, low, high in p.ranges if low == high}
        return tuple(
            None if i is None else first_of(i).subs({k: first_of(low) for k, low in single.items()}) for i in p.index
        )

    def _assignment(self, case: Case) -> str:
        own = self._own(case)
        constant = all(type(g) is Scalar for m in case.form.terms for g, _ in m)
        right = self._poly(case.form, own)[0] + (f" + 0 * {self._data()}" if constant else "")
        return f"{self._at(case.family, own)} = {right}"

    def _data(self) -> str:
        timed = any(g.family.head == GRAM[0] and g.shift[1] is not None
                    for c in self.folded.cases for m in c.form.terms for g, _ in m if isinstance(g, At))  # fmt: skip
        return "dot(x1[..., 0, :], x2[..., 0, :])" if timed else "dot(x1, x2)"

    def _term(self, case: Case) -> str:
        own = self._own(case)
        ranges = ranges_of(case, self.folded)
        phrase = self._poly(case.form, own)
        if not ranges:
            return phrase[0]
        loops = " ".join(f"for {self._index(i)} in {self._range(a, b, 1)}" for i, a, b in ranges)
        return f"sum({phrase[0]} {loops})"

    def _poly(self, p: Poly, own: Exprs) -> Phrase:
        def phrase(q: Poly) -> Phrase:
            return self.speller.poly(q, leaf)

        def leaf(g: Gen) -> Phrase:
            if isinstance(g, At):
                return self._at(g.family, at_index(g, own)), ATOM
            if isinstance(g, Expect):
                return self.integrals.call(g, phrase, leaf)
            if isinstance(g, Apply):
                return self.speller.apply(g, leaf)
            if type(g) is Scalar:
                return self.speller.expr(g.symbol)
            raise without_code(g)

        return phrase(p)

    def _at(self, family: Family, index: Exprs) -> str:
        if family.head == GRAM[0]:
            sides = [f"x{'12'[label != 'x']}" for label in family.pair]
            if family.names is not None:  # of named arrays
                named = zip(sides, family.names, strict=True)
                return "dot({})".format(", ".join(f'{x}["{name.rstrip(chr(39))}"]' for x, name in named))
            times = [i for i in (index[1], index[3]) if i is not None]
            if not times:
                return f"dot({sides[0]}, {sides[1]})"
            return f"dot({', '.join(f'{x}[..., {self._index(t - 1)}, :]' for x, t in zip(sides, times, strict=True))})"
        free = self.folded.layouts[family].free
        key = ", ".join(self._index(index[k]) for k in free if index[k] is not None)
        return f"{self.name(family)}[{key}]" if key else self.name(family)

    def _indexed(self, family: Family) -> bool:
        return bool(self.folded.layouts[family].free)

    def name(self, family: Family) -> str:
        """Sigma12 of Σ(x,x')."""
        copy = f"_{family.copy}" if family.copy > 1 else ""
        return f"{identifier(family.head)}{''.join('12'[label != 'x'] for label in family.pair)}{copy}"
