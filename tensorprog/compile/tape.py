"""Straight-line programs in single assignment: equal operations once, each known to be per input or per pair."""

from __future__ import annotations

import heapq
from collections.abc import Container, Iterable, Mapping, Sequence
from math import prod
from typing import Any, NamedTuple

CONST, LEFT, RIGHT, PAIR = 0, 1, 2, 3  # bits: what depends on a first and on a second input is per pair
Term = tuple[float, list[int]]


class Op(NamedTuple):
    """One operation: ``kind`` is a key of ``arrays.RULES``; ``args`` are numbers of earlier operations."""

    kind: str
    args: tuple[int, ...]
    data: Any = None


class Tape:
    """Operations in order, hash-consed.

    Attributes:
        ops: the operations; an operation is known by its number.
        sides: of each operation CONST, LEFT (per first input), RIGHT (per second input) or PAIR.
        variances: operations that are E φ(u)².
        gaps: of basic covariances c their variances q1, q2 and 1 − c/√(q1 q2).
        exact: for some operations per pair others of the same value that keep its digits for almost parallel inputs.
    """

    def __init__(self) -> None:
        self.ops: list[Op] = []
        self.sides: list[int] = []
        self.gaps: dict[int, tuple[int, int, int]] = {}
        self.variances: set[int] = set()
        self.exact: dict[int, int] = {}
        self._known: dict[Op, int] = {}
        self._scaled: dict[int, tuple[float, int]] = {}
        self._multiple: dict[int, int] = {}
        self._sums: dict[tuple[tuple[float, tuple[int, ...]], ...], int] = {}

    def add(self, kind: str, *args: int, data: Any = None, side: int = CONST) -> int:
        """The number of an operation, a new one only where there is no equal one."""
        op = Op(kind, args, data)
        if op not in self._known:
            for a in args:
                side |= self.sides[a]
            self._known[op] = len(self.ops)
            self.ops.append(op)
            self.sides.append(side)
        return self._known[op]

    def find(self, kind: str, args: tuple[int, ...]) -> int | None:
        """The number of an operation, None where there is none."""
        return self._known.get(Op(kind, args))

    def const(self, value: float) -> int:
        """A number."""
        return self.add("const", data=float(value))

    def gram(self, a: tuple[int, int], b: tuple[int, int]) -> int:
        """⟨ξ,ξ'⟩ of two data, each an (owner, time); that of two inputs by the cosine of their angle."""
        if a[0] == b[0]:
            return self.add("gram", data=(a, b), side=LEFT << a[0])
        if a[0]:
            a, b = b, a
        unit, q1, q2 = self.add("unit", data=(a, b), side=PAIR), self.gram(a, a), self.gram(b, b)
        value = self.product([self.add("sqrt", q1), self.add("sqrt", q2), unit])
        self.gaps[value] = q1, q2, self.add("apart", unit)
        return value

    def value(self, i: int) -> float | None:
        """The number that operation i is, None when it is not one."""
        return self.ops[i].data if self.ops[i].kind == "const" else None  # type: ignore[no-any-return]

    def scaled(self, i: int) -> tuple[float, int]:
        """A number and an operation whose product operation i is."""
        chain = []
        while i not in self._scaled and (op := self.ops[i]).kind == "lin":
            a = self.value(op.args[0])
            if a is None or self.value(op.args[2]) != 0.0:
                break
            chain.append((i, a))
            i = op.args[1]
        scale, i = self._scaled.get(i, (1.0, i))
        for k, a in reversed(chain):  # kept, since every layer asks for what the one before asked for
            scale *= a
            self._scaled[k] = scale, i
        return scale, i

    def multiple(self, i: int) -> int:
        """The operation that operation i is a positive multiple of, itself where it is none."""
        chain = []
        while i not in self._multiple and (op := self.ops[i]).kind == "lin":
            if self.value(op.args[2]) != 0.0 or not (self.value(op.args[0]) or 0.0) > 0:
                break
            chain.append(i)
            i = op.args[1]
        i = self._multiple.get(i, i)
        self._multiple |= dict.fromkeys(chain, i)
        return i

    def product(self, factors: Iterable[int], scale: float = 1.0) -> int:
        """scale · Π factors."""
        return self.sum([(scale, list(factors))])

    def sum(self, terms: Iterable[Term]) -> int:
        """Σ c Π factors as a chain of multiply-adds; most are asked for again and again.

        Per pair, what depends on the first input alone is gathered in the scale of each term: a machine that
        works row by row holds it as one number.
        """
        key = tuple((c, tuple(factors)) for c, factors in terms)
        if len(key) == 1 and key[0][0] == 1.0 and len(key[0][1]) == 1:
            return key[0][1][0]
        found = self._sums.get(key)
        if found is None:
            found = self._sums[key] = self._sum([self._gathered(c, factors) for c, factors in key])
        return found

    def _sum(self, whole: list[Term]) -> int:
        sides = {self.sides[f] for _, factors in whole for f in factors} - {CONST}
        pair = PAIR in sides or len(sides) > 1
        split = [self._split(c, factors) if pair else (self.const(c), factors) for c, factors in whole]
        bias = self._bias([a for a, rows in split if not rows])
        split = sorted(((a, rows) for a, rows in split if rows), key=lambda term: len(term[1]) != 1)
        return self._chain(split, bias)

    def _gathered(self, c: float, factors: Sequence[int]) -> Term:
        """The term with its numbers multiplied into the coefficient."""
        numbers = [v for f in factors if (v := self.value(f)) is not None]
        return (c * prod(numbers), [f for f in factors if self.value(f) is None]) if numbers else (c, list(factors))

    def _split(self, c: float, factors: list[int]) -> tuple[int, list[int]]:
        """The scale, a number or an operation that does not vary along a row, and the factors that do."""
        left = [f for f in factors if self.sides[f] in (CONST, LEFT)]
        right = [f for f in factors if self.sides[f] == RIGHT]
        scale = self.product(left, c) if left else self.const(c)
        return scale, [f for f in factors if self.sides[f] == PAIR] + ([self.product(right)] if right else [])

    def _bias(self, scales: list[int]) -> int:
        number = sum(v for s in scales if (v := self.value(s)) is not None)
        left = [s for s in scales if self.value(s) is None]
        return self.sum([(1.0, [s]) for s in left] + ([(number, [])] if number else [])) if left else self.const(number)

    def _chain(self, terms: list[tuple[int, list[int]]], bias: int) -> int:
        if not terms:
            return bias
        (a, rows), *rest = [(a, self._at_most_two(rows)) for a, rows in terms]
        plain = self.value(bias) == 0.0
        if len(rows) == 1:
            total = rows[0] if plain and self.value(a) == 1.0 else self.add("lin", a, rows[0], bias)
        else:
            total = self.add("mul", a, *rows)
            total = total if plain else self.add("lin", self.const(1.0), total, bias)
        for a, rows in rest:
            total = self.add("axpy" if len(rows) == 1 else "fma", total, a, *rows)
        return total

    def _at_most_two(self, rows: list[int]) -> list[int]:
        while len(rows) > 2:
            rows = [self.add("mul", self.const(1.0), rows[0], rows[1]), *rows[2:]]
        return rows

    def rebuilt(self, roots: Sequence[int]) -> tuple[Tape, list[int]]:
        """Another tape of the same values, made of the operations that are ``exact``, and its roots."""
        new, at = Tape(), dict[int, int]()
        replaced = {e: [i for i in self.exact if self.exact[i] == e] for e in self.exact.values()}
        for i in self.needed([*roots, *replaced]):
            kind, args, data = self.ops[i]
            at[i] = new.add(kind, *(at[a] for a in args), data=data, side=self.sides[i])
            at.update(dict.fromkeys(replaced.get(i, ()), at[i]))  # before anything reads them
        return new, [at[i] for i in roots]

    def needed(self, roots: Iterable[int]) -> list[int]:
        """The operations that the roots depend on, in order."""
        seen: set[int] = set()
        todo = list(roots)
        while todo:
            i = todo.pop()
            if i not in seen:
                seen.add(i)
                todo.extend(self.ops[i].args)
        return sorted(seen)

    def ordered(self, roots: Iterable[int]) -> list[int]:
        """The same, those per input first; of those per pair always one that is the last to read most of its operands.

        So few values wait to be read, and results of one angle stand beside each other.
        """
        order, keep = self.needed(roots), set(roots)
        reads = {i: {a for a in self.ops[i].args if self.sides[a] == PAIR} for i in order if self.sides[i] == PAIR}
        queue, done = _Queue(self.ops, reads, keep), [i for i in order if i not in reads]
        while (i := queue.take(self.ops[done[-1]].args if done else ())) is not None:
            done.append(i)
        return done


class _Queue:
    """Operations that nothing is waited for, by how many operands each ``ends``: those that it is the last to read.

    Args:
        ops: all operations.
        reads: of each that is to be ordered the operands that are ordered too.
        keep: what is read afterwards.
    """

    def __init__(self, ops: Sequence[Op], reads: Mapping[int, set[int]], keep: Container[int]) -> None:
        self.ops, self.reads, self.keep = ops, reads, keep
        self.readers: dict[int, set[int]] = {i: set() for i in reads}
        for i, args in reads.items():
            for a in args:
                self.readers[a].add(i)
        self.waits = {i: len(args) for i, args in reads.items()}
        self.ends = {i: sum(self._ends(a) for a in args) for i, args in reads.items()}
        self.heap: list[tuple[int, int]] = []
        self.alike: dict[tuple[int, ...], list[tuple[int, int]]] = {}
        for i in reads:
            if not self.waits[i]:
                self._ready(i)

    def take(self, args: tuple[int, ...]) -> int | None:
        """The next operation: one of the same operands if there is one, and of these one that ends most of them."""
        i = self._first(self.alike.get(args, [])) if args else None
        i = self._first(self.heap) if i is None else i
        if i is not None:
            self._taken(i)
        return i

    def _first(self, heap: list[tuple[int, int]]) -> int | None:
        while heap:
            ends, i = heapq.heappop(heap)
            if i in self.waits and -ends == self.ends[i]:  # not taken, and no more ends since
                return i
        return None

    def _ends(self, a: int) -> bool:
        return len(self.readers[a]) == 1 and a not in self.keep

    def _ready(self, i: int) -> None:
        for heap in (self.heap, self.alike.setdefault(self.ops[i].args, [])):
            heapq.heappush(heap, (-self.ends[i], i))

    def _taken(self, i: int) -> None:
        del self.waits[i]
        for a in self.reads[i]:
            self.readers[a].discard(i)
            if self._ends(a):
                [last] = self.readers[a]
                self.ends[last] += 1
                if not self.waits[last]:
                    self._ready(last)
        for r in self.readers[i]:
            self.waits[r] -= 1
            if not self.waits[r]:
                self._ready(r)
