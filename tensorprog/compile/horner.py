"""Sums over paths from the inside out: z + a x + a b y + a b c w as z + a (x + b (y + c w)), one multiply-add a term.

Backpropagation names the products a, a b, a b c; computed outwards, none of them is needed, and what a layer gives is
used up in the next.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import reduce

from tensorprog.compile.tape import PAIR, Tape, Term

LINEAR = ("lin", "mul", "fma", "axpy")
LONGEST = 150  # operations of a sum, and terms that it has written out: of 50 layers


def factored(tape: Tape, roots: Sequence[int]) -> list[int]:
    """Operations of the same values as the roots; those that one sum alone reads are written anew."""
    return [_Sum(tape, roots, root).again() for root in roots]


class _Sum:
    def __init__(self, tape: Tape, roots: Sequence[int], root: int) -> None:
        self.tape, self.root = tape, root
        order = tape.needed(roots)
        readers: dict[int, list[int]] = {i: [] for i in order}
        for i in order:
            for a in tape.ops[i].args:
                readers[a].append(i)
        self.mine = {root}  # what no one else reads
        for i in reversed(order if self._is_linear(root) else []):
            own = i not in roots and readers[i] and self.mine.issuperset(readers[i]) and self._is_linear(i)
            if own and (self._is_product(i) or all(self._is_term(i, r) for r in readers[i])):
                self.mine.add(i)
        self.counts: dict[int, int] = {}  # of terms: of what several operations read each of them has its own
        for i in order:
            if i in self.mine and self._is_linear(i):
                kind, args, _ = tape.ops[i]
                terms = {"lin": args[1:], "axpy": (args[0], args[2]), "mul": (), "fma": args[:1]}[kind]
                self.counts[i] = (kind in ("mul", "fma")) + sum(map(self._count, terms))

    def again(self) -> int:
        """The operation of the sum, factored; of one so long that this takes time, as it is."""
        if not self._is_linear(self.root) or len(self.mine) > LONGEST or self._count(self.root) > LONGEST:
            return self.root
        return self._factored([(c, Counter(factors)) for c, factors in self._terms(self.root)])

    def _is_linear(self, i: int) -> bool:
        return self.tape.ops[i].kind in LINEAR and self.tape.sides[i] == PAIR

    def _is_product(self, i: int) -> bool:
        kind, args, _ = self.tape.ops[i]
        return kind == "mul" or (kind == "lin" and self.tape.value(args[2]) == 0.0)

    def _is_term(self, i: int, reader: int) -> bool:
        """Whether a reader adds i, and does not multiply anything that varies along a row by it."""
        kind, args, _ = self.tape.ops[reader]
        factors = {"lin": args[:1], "axpy": args[1:2], "mul": args, "fma": args[1:]}[kind]
        return i not in factors

    def _count(self, i: int) -> int:
        return self.counts.get(i, int(self.tape.value(i) != 0.0))

    def _terms(self, i: int) -> list[Term]:
        value = self.tape.value(i)
        if value is not None:
            return [(value, [])] if value else []
        kind, args, _ = self.tape.ops[i]
        if i not in self.mine or not self._is_linear(i):
            return [(1.0, [i])]
        if kind == "mul":
            return [self._product(args)]
        if kind == "lin":
            return self._scaled(args[0], args[1]) + self._terms(args[2])
        return self._terms(args[0]) + (self._scaled(*args[1:]) if kind == "axpy" else [self._product(args[1:])])

    def _scaled(self, a: int, x: int) -> list[Term]:
        return [_times(self._factor(a), term) for term in self._terms(x)]

    def _product(self, args: Sequence[int]) -> Term:
        one: Term = (1.0, [])
        return reduce(_times, map(self._factor, args), one)

    def _factor(self, i: int) -> Term:
        """A factor as a product; a sum, which is not mine then, is left whole."""
        return self._terms(i)[0] if self._count(i) == 1 else (1.0, [i])

    def _factored(self, terms: list[tuple[float, Counter[int]]]) -> int:
        """Σ c Π factors: the factor that most terms have taken out of them, with what all of these share."""
        often = Counter(f for _, factors in terms for f in factors if self.tape.sides[f] == PAIR)
        if not often or max(often.values()) < 2:
            return self.tape.sum((c, list(factors.elements())) for c, factors in terms)
        most = max(often, key=lambda f: (often[f], f))
        inside = [(c, factors) for c, factors in terms if factors[most]]
        shared = reduce(lambda a, b: a & b, (factors for _, factors in inside))
        scale = next((c for c, factors in inside if c and (factors - shared).total() == 1), 1.0)
        inner = self._factored([(c / scale, factors - shared) for c, factors in inside])
        outside = [(c, list(factors.elements())) for c, factors in terms if not factors[most]]
        return self.tape.sum([*outside, (scale, [*shared.elements(), inner])])


def _times(a: Term, b: Term) -> Term:
    return a[0] * b[0], [*a[1], *b[1]]
