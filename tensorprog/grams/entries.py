"""Kernels over positions as whole arrays (B, P, Q) of blocks of pairs of inputs, where offsets are mixed.

What belongs to one input, such as the weights of attention or the variances at its positions, is found once per input
and read by all of its pairs.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import isqrt
from queue import SimpleQueue
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.compile.arrays import NEAR, RULES, UNSURE, Machine
from tensorprog.compile.backends import tiles
from tensorprog.compile.blas import one_thread
from tensorprog.compile.entrywise import Whole
from tensorprog.compile.tape import LEFT, PAIR, RIGHT
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.named import Layout
from tensorprog.derivation.over_positions import Pair, taken
from tensorprog.expectations.angles import gaps as exact
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.numeric import expectation
from tensorprog.grams.blocks import fingerprint
from tensorprog.grams.mixed import angle, angles, mixed, per_side, windows
from tensorprog.ir.axes import Sizes
from tensorprog.limit.attended import contracted
from tensorprog.limit.evaluate import expected
from tensorprog.limit.gap import Gaps
from tensorprog.limit.positions import Contracted

Array = Any
Own = dict[int, Array]  # what is known per input, by operation
ENTRIES = 2**16  # of an array of a block, about
HELD = 2**24  # numbers in all arrays of a block, about
OWN = 2**25  # numbers known of the inputs of one side that are held at once, about
KEPT = 4  # sets of inputs whose own values are remembered: where inputs have many sizes, each meets all others


class Entries:
    """Kernels on whole arrays.

    Args:
        derivations: the kernels.
        hyper: numbers for hyperparameters.
    """

    def __init__(self, derivations: Sequence[Derivation], hyper: Mapping[sp.Symbol, float]) -> None:
        self.derivations, self.whole = tuple(derivations), Whole()
        for d in derivations:
            self.whole.add(d.poly, d.trace.grams, hyper)
        pair, self.read, own = self.whole.orders()
        self.named = {i for of in self.whole.places for i in of.values()} | {*self.read, *self.whole.roots}
        self.pair, self.own = (self._with_ends(order) for order in (pair, own))
        atoms = [i for i in (*own, *pair) if self.whole.tape.ops[i].kind == "atom"]
        plain = all(i in self.whole.arcs or len(self.whole.gens[i][0].forms) < 2 for i in atoms)
        self.near = NEAR if plain else exact.NEAR
        self._known: dict[tuple[str, Sizes, Layout | None], Own] = {}

    def _with_ends(self, order: Sequence[int]) -> list[tuple[int, list[int]]]:
        """Operations, each with those that nobody asks for after it."""
        last = {a: i for i in order for a in self.whole.tape.ops[i].args}
        ends: dict[int, list[int]] = {}
        for a, i in last.items():
            if a not in self.named:
                ends.setdefault(i, []).append(a)
        return [(i, ends.get(i, [])) for i in order]

    def fill(self, a: np.ndarray, b: np.ndarray | None, sizes: tuple[Sizes, Sizes], layout: Layout | None,
             out: Sequence[np.ndarray], threads: int, told: Callable[[float], None]) -> None:  # fmt: skip
        """Compute every kernel between a and b, or of a with itself, in panels whose own values fit into memory."""
        second = a if b is None else b
        high, wide = (self._height(x, n, layout) for x, n in zip((a, second), sizes, strict=True))
        for i in range(0, len(a), high):
            for j in range(0, i + 1 if b is None else len(second), wide):
                x, y = (z if step == len(z) else z[k : k + step] for z, k, step in ((a, i, high), (second, j, wide)))
                known = self._of(x, sizes[0], layout), self._of(y, sizes[1], layout)
                panel = [result[i : i + high, j : j + wide] for result in out]
                mirror = [result[j : j + wide, i : i + high].T for result in out] if b is None else []
                work = self._worker((x, y), sizes, layout, known, panel, mirror, b is None and i == j)
                self._run(work, threads, lambda n: told(n / (len(a) * len(second))))

    def _height(self, x: np.ndarray, sizes: Sizes, layout: Layout | None) -> int:
        """How many inputs a panel has."""
        one_sided = sum(self.whole.tape.sides[i] in (LEFT, RIGHT) for i in self.named)
        if len(x) * one_sided * x.shape[1] ** 2 <= OWN:
            return len(x)
        return max(1, min(len(x), OWN // sum(v.size for v in self._found(x[:1], sizes, layout).values())))

    def _worker(self, sides: tuple[np.ndarray, np.ndarray], sizes: tuple[Sizes, Sizes], layout: Layout | None,
                known: tuple[Own, Own], out: Sequence[np.ndarray], mirror: Sequence[np.ndarray],
                triangle: bool) -> Callable[[], Iterator[float]]:  # fmt: skip
        """What fills a panel, on one thread or several, and tells how many entries each block has filled."""
        x, y = sides
        width = self._width(x.shape[1] * y.shape[1])
        high = min(len(x), max(1, isqrt(width)))
        todo = iter([t for t in tiles((0, len(x), 0, len(y)), high, max(1, width // high))
                     if not triangle or t[2] < t[1]])  # fmt: skip

        def work() -> Iterator[float]:
            for i0, i1, j0, j1 in todo:
                i, j = (k.ravel() for k in np.mgrid[i0:i1, j0:j1])
                i, j = (i[i >= j], j[i >= j]) if triangle else (i, j)
                own = Values(known, (i, j), self.whole.tape.sides)
                values = Block(self, (x[i], y[j]), sizes, layout, own).run(self.pair, self.whole.roots)
                for results in (out, mirror):
                    _write(results, values, i, j)
                yield float((2 if mirror else 1) * len(i) - (np.count_nonzero(i == j) if triangle else 0))

        return work

    @staticmethod
    def _run(work: Callable[[], Iterator[float]], threads: int, told: Callable[[float], None]) -> None:
        """Work on threads, of which this one tells what they have done."""
        done: SimpleQueue[float | None] = SimpleQueue()

        def all_of_it() -> None:
            try:
                for count in work():
                    done.put(count)
            finally:
                done.put(None)

        with ThreadPoolExecutor(threads) as pool, one_thread:
            running = [pool.submit(all_of_it) for _ in range(threads)]
            for _ in running:
                while (count := done.get()) is not None:
                    told(count)
        for one in running:
            one.result()

    def _width(self, pairs: int) -> int:
        """How many pairs of inputs a block has, given how many pairs of positions they have."""
        arrays = 1 + sum(self.whole.tape.sides[i] == PAIR for i in self.named)
        return max(1, min(ENTRIES, HELD // arrays) // pairs)

    def _of(self, x: np.ndarray, sizes: Sizes, layout: Layout | None) -> Own:
        """What is known of every input, on both sides."""
        key = fingerprint(x), sizes, layout
        found = self._known.get(key)
        if found is None:
            with one_thread:
                found = self._found(x, sizes, layout)
            while len(self._known) >= KEPT:
                self._known.pop(next(iter(self._known)), None)
            self._known[key] = found
        return found

    def _found(self, x: np.ndarray, sizes: Sizes, layout: Layout | None) -> Own:
        width, parts = self._width(x.shape[1] ** 2), list[Own]()
        wanted = {i for i in self.named if self.whole.tape.sides[i] in (LEFT, RIGHT)}
        for start in range(0, len(x), width):
            some = x[start : start + width]
            block = Block(self, (some, some), (sizes, sizes), layout, {})
            block.run(self.own, [])
            values = {i: np.asarray(v) for i, v in block.values.items() if i in wanted}
            parts.append({i: v for i, v in values.items() if i in self.read or 1 in v.shape[-2:]})
        return {i: np.concatenate([part[i] for part in parts]) if v.ndim == 3 and len(v) == len(x[:width]) else v
                for i, v in parts[0].items()}  # fmt: skip


def _expected(g: Expect, value: Callable[[Poly], Any], gap: Array | None) -> Array:
    return UNSURE.value(expected(g, value, gap))


class Values(dict[int, Array]):
    """Values by operation, of which those known per input are read when asked for.

    Args:
        known: what is known of all first and of all second inputs.
        rows: which of them the pairs are of.
        sides: of operations.
    """

    def __init__(self, known: tuple[Own, Own], rows: tuple[np.ndarray, np.ndarray], sides: Sequence[int]) -> None:
        super().__init__()
        self._known, self.rows, self._sides_of = known, rows, sides

    def __missing__(self, i: int) -> Array:
        which = self._sides_of[i] >> 1
        found = self._known[which][i]
        self[i] = found[self.rows[which]] if found.ndim == 3 and len(found) > 1 else found
        return self[i]


def _write(out: Sequence[np.ndarray], values: Sequence[Array], i: np.ndarray, j: np.ndarray) -> None:
    with np.errstate(over="ignore"):
        for result, value in zip(out, values, strict=False):
            result[i, j] = np.broadcast_to(value, (len(i), 1, 1))[:, 0, 0]


class Block:
    """Some pairs of inputs, or some inputs each with itself, and the values of operations so far.

    Args:
        program: the kernels.
        sides: (B, P, C) and (B, Q, C).
        sizes, layout: see ``Pair``.
        values: those that are known.
    """

    def __init__(self, program: Entries, sides: tuple[np.ndarray, np.ndarray], sizes: tuple[Sizes, Sizes],
                 layout: Layout | None, values: dict[int, Array]) -> None:  # fmt: skip
        self.whole, self.sizes, self.count = program.whole, sizes, len(sides[0])
        self.pairs = [
            Pair(d, *sides, sizes, layout, functools.partial(
                Gaps, near=program.near, angle=angle, entries=functools.partial(self._some, k)))
            for k, d in enumerate(program.derivations)
        ]  # fmt: skip
        self.values = values
        self.machine, self._arcs = Machine(np, (0.0, 0.0)), dict[tuple[int, ...], tuple[Array, Array]]()

    def run(self, order: Sequence[tuple[int, list[int]]], roots: Sequence[int]) -> list[Array]:
        """Run operations; the values of the roots."""
        with np.errstate(all="ignore"):
            for i, ends in order:
                if i not in self.values:
                    self.values[i] = self._value(i)
                for a in ends:
                    self.values.pop(a, None)
        return [self.values[i] for i in roots]

    def _value(self, i: int) -> Array:
        op = self.whole.tape.ops[i]
        args = [self.values[a] for a in op.args]
        if op.kind == "data":
            p, q = op.data
            return self.pairs[0].gram(p, q, windows)
        if op.kind == "at":
            return taken(self.whole.gens[i][0], args[0])
        if op.kind == "positions":
            g, k = self.whole.gens[i]
            if isinstance(g, Contracted):
                return contracted(g, functools.partial(self._poly, k), self.sizes, _expected)
            return mixed(g, args, self.sizes, self.pairs[0].matrix)
        if op.kind == "atom":
            return self._expectation(i, op.args, args)
        return RULES[op.kind](self.machine, op, *args)

    def _expectation(self, i: int, at: tuple[int, ...], args: Sequence[Array]) -> Array:
        (g, k), which = self.whole.gens[i], self.whole.arcs.get(i)
        if which is not None and at in self._arcs:
            return self._arcs[at][which]
        gap = self.pairs[k].gap(g, functools.partial(self._poly, k))
        if which is not None and gap is not None and (found := angles(gap, args[0], args[2], args[1])) is not None:
            self._arcs[at] = found
            return found[which]
        if i in self.whole.smooth and gap is None and (given := per_side(args[0], args[2], args[1])) is not None:
            return self._series(i, *given)
        return _expected(g, functools.partial(self._poly, k), gap)

    def _series(self, i: int, q1: Array, q2: Array, c: Array) -> Array:
        """The expectation of a product of smooth functions, one by one where no series serves."""
        from tensorprog.compile.termwise import summed

        every = np.arange(self.count)
        rows = self.values.rows if isinstance(self.values, Values) else (every, every)
        (one, first), (two, second) = (np.unique(of, return_index=True, return_inverse=True)[1:] for of in rows)
        found = summed(self.whole.smooth[i], q1[one], q2[two], first, second, c)
        left_open = np.isnan(found)
        if left_open.any():
            g, _ = self.whole.gens[i]
            a, d = (np.broadcast_to(q, c.shape)[left_open] for q in (q1[:, :, None], q2[:, None]))
            cov = [[a, c[left_open]], [c[left_open], d]]
            found[left_open] = UNSURE.value(expectation(g.body, g.variables, cov))
        return found

    def _poly(self, k: int, p: Poly, on: Callable[[Array], Array] = lambda x: x) -> Array:
        """The value of a polynomial of a derivation, or of what is taken of all values ``on`` the way.

        Raises:
            KeyError: it has a generator that no kernel depends on.
        """
        at, known = self.whole.places[k], self.whole.polys[k].get(p)
        if known in self.values:
            return on(self.values[known])
        terms = (
            [float(c), *(on(self.values[at[g]]) for g, e in mono for _ in range(e))] for mono, c in p.terms.items()
        )
        return functools.reduce(operator.add, (functools.reduce(operator.mul, of) for of in terms), 0.0)

    def _some(self, k: int, p: Poly, shape: tuple[int, ...], rows: Any) -> Array:
        """Some entries of it, as an array of this shape."""
        found = self._poly(k, p, lambda x: np.broadcast_to(x, shape)[rows])
        return found if np.ndim(found) else np.broadcast_to(found, shape)[rows]
