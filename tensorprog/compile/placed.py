"""Lowering over positions: named equations with maps between positions as a tape of arrays indexed by pairs of them.

Operations are those of single vectors, at every pair (p, q) of positions; what mixes positions is an operation
``along``, with a ``Shift`` as its data.  A kernel is a number and a sum of arrays over all pairs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Gen, Poly
from tensorprog.compile.arrays import RULES, Machine
from tensorprog.compile.lower import Lowering
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Tape, Term
from tensorprog.dsl.trace import Datum
from tensorprog.errors import DataError, NoRuleError
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.axes import Everywhere, Map, Sizes, Window
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.mixing import linear
from tensorprog.limit.positions import Along, At, Positional

Pair = tuple[Sizes, Sizes]
Part = tuple[float, Map | None, int]  # a number, a window, and an operation: α M(operation)


@dataclass(frozen=True)
class Shift:
    """A map between positions, as it is applied: ``read`` are the sizes of the families that the map reads."""

    map: Map
    transpose: bool
    read: Pair

    @property
    def made(self) -> Pair:
        """The sizes of what comes out."""
        return self.read if self.transpose else self._after

    @property
    def given(self) -> Pair:
        """The sizes of what it is applied to."""
        return self._after if self.transpose else self.read

    @property
    def _after(self) -> Pair:
        return self.map.sizes_of(self.read[0]), self.map.sizes_of(self.read[1])


@dataclass(frozen=True)
class Total:
    """A sum over all pairs of positions of an array."""

    array: int
    sizes: Pair


@dataclass(frozen=True)
class Placed:
    """A kernel: ``number`` and the sum of ``totals``."""

    number: float
    totals: tuple[Total, ...]


def lower_placed(tape: Tape, poly: Poly, grams: Mapping[sp.Symbol, tuple[Datum, Datum]],
                 hyper: Mapping[sp.Symbol, float], sizes: Pair) -> Placed:  # fmt: skip
    """Append a kernel between inputs of these sizes to a tape.

    Raises:
        NoRuleError: it is no sum over pairs of positions, or has operations that are not derived here.
        DataError: weights belong to positions, and the sizes differ.
    """
    return _Placing(tape, grams, hyper, sizes).kernel(poly)


class _Placing(Lowering):
    def __init__(self, tape: Tape, grams: Mapping[sp.Symbol, tuple[Datum, Datum]], hyper: Mapping[sp.Symbol, float],
                 sizes: Pair) -> None:  # fmt: skip
        super().__init__(tape, {}, hyper)
        self.data, self.sizes = grams, sizes

    def kernel(self, poly: Poly) -> Placed:
        """The kernel as totals."""
        weights: dict[Along, float] = {}
        number = self._collect(poly, 1.0, weights)
        self.run([g.inner for g in weights])
        terms: dict[Pair, list[Term]] = {}
        for g, scale in weights.items():
            read = self._read(g)
            same = [] if g.how == "both" else [self._same(read)]
            scale *= prod(g.by.map.weight(n) for n in (read if g.how == "both" else read[:1]))
            terms.setdefault(read, []).extend(
                (scale * float(c), [*(self.at[h] for h, e in mono for _ in range(e)), *same])
                for mono, c in g.inner.terms.items()
            )
        return Placed(number, tuple(Total(self._spread(self._bracketed(of), n), n) for n, of in terms.items()))

    def _bracketed(self, terms: list[Term]) -> int:
        """Σ c Π factors with factors that several terms have taken out, as in Π (1.7 M + 0.1): of a layer's
        gradients what remains is its covariance."""
        while True:
            often = Counter(f for _, factors in terms for f in {*factors} if self.tape.sides[f] == PAIR)
            most = max(often, key=lambda f: (often[f], f), default=0)
            if often[most] < 2:
                return self.tape.sum(terms)
            inside, outside = list[Term](), list[Term]()
            for c, factors in terms:
                if most in factors:
                    factors = list(factors)
                    factors.remove(most)
                    inside.append((c, factors))
                else:
                    outside.append((c, factors))
            terms = [*outside, (1.0, [most, self._bracketed(inside)])]

    def _collect(self, p: Poly, scale: float, weights: dict[Along, float]) -> float:
        """Read a polynomial as a number and Σ scale · total."""
        number = 0.0
        for mono, c in p.terms.items():
            factor, total = scale * float(c), []
            for g, e in mono:
                if any(isinstance(h, Along | At) for h in reachable([Poly({((g, 1),): 1})])):
                    total += [g] * e
                else:
                    [at] = self.run([Poly({((g, 1),): 1})])
                    factor *= self._number(at) ** e
            if not total:
                number += factor
                continue
            if len(total) > 1:
                raise NoRuleError("the kernel is no linear function of sums over positions")
            [g] = total
            if isinstance(g, Name):
                number += self._collect(g.definition, factor, weights)
            elif (
                isinstance(g, Along) and isinstance(g.by.map, Everywhere) and not g.transpose and g.by.axes is not None
            ):
                if g.how not in ("both", "shared") or g.point is not None:
                    raise NoRuleError("the kernel sums over positions of one input")
                weights[g] = weights.get(g, 0.0) + factor
            else:
                raise NoRuleError(f"the kernel reads {type(g).__name__} beside sums over positions")
        return number

    def _number(self, i: int) -> float:
        value = self.tape.value(i)
        if value is None:
            raise NoRuleError("the kernel is no linear function of sums over positions")
        return value

    def _leaf(self, g: Gen) -> int:
        if isinstance(g, Along):
            return self._along(g)
        if isinstance(g, At):
            raise NoRuleError("variances are sums over pairs of positions of one input")
        if isinstance(g, Positional):
            raise NoRuleError(f"no rule for {type(g).__name__} over positions")
        return super()._leaf(g)

    def _scalar(self, expr: sp.Expr) -> int:
        if expr not in self.data:
            if expr.free_symbols & self.data.keys():
                raise NoRuleError("a formula reads inner products over positions")
            return super()._scalar(expr)
        p, q = self.data[expr]
        side = PAIR if p.owner != q.owner else LEFT << p.owner
        raw = self.tape.add("data", data=side, side=side)
        if side != PAIR:
            self.tape.variances.add(raw)
        if any(d.mixes or d.part is not None or d.axes is None for d in (p, q)):
            raise NoRuleError("inputs that are averaged, or arrays by name")
        if p.by is None:
            return raw
        if not isinstance(p.by.map, Window):
            raise NoRuleError("a map of inputs that is not a window of patches")
        read = tuple(p.by.axes.at(n) for n in self.sizes)  # type: ignore[union-attr]
        return self._shifted(raw, Shift(p.by.map, False, read), side)  # type: ignore[arg-type]

    def _read(self, g: Along) -> Pair:
        first, second = (g.by.axes.at(n) if g.by.axes is not None else () for n in self.sizes)
        return first, second

    def _along(self, g: Along) -> int:
        shift, inner = Shift(g.by.map, g.transpose, self._read(g)), self.poly(g.inner)
        if isinstance(g.by.map, Everywhere) and g.transpose:
            value, weights = self._number(inner), [g.by.map.weight(n) for n in shift.read]
            if g.point is None and g.how == "both":
                return self.tape.const(value * weights[0] * weights[1])
            if g.point is None and g.how == "shared":
                return self.tape.product([self._same(shift.read)], value * weights[0])
        if not isinstance(g.by.map, Window) or g.how != "shared":
            raise NoRuleError("sums over positions of one input")
        side = PAIR if g.point is None else LEFT << g.point
        return self._shifted(self._spread(inner, shift.given, side), shift, side)

    def _shifted(self, i: int, shift: Shift, side: int) -> int:
        found = self.tape.add("along", i, data=shift, side=side)
        if side != PAIR and i in self.tape.variances and not shift.transpose:
            self.tape.variances.add(found)
        if side == PAIR and not shift.map.is_tied:  # other positions have other weights
            return self.tape.product([found, self._same(shift.made)])
        return found

    def _same(self, sizes: Pair) -> int:
        """1 where p = q, 0 elsewhere."""
        if sizes[0] != sizes[1]:
            raise DataError(
                f"the network has weights for every position, and positions of sizes {sizes[0]} and {sizes[1]} are "
                "compared; give inputs of one size, or use net.global_pool"
            )
        return self.tape.add("same", data=sizes, side=PAIR)

    def _spread(self, i: int, sizes: Pair, side: int = PAIR) -> int:
        """What does not depend on positions, or on those of one input alone, at all of them."""
        if self.tape.sides[i] == side:
            return i
        return self.tape.add("mul", self.tape.const(1.0), i, self.tape.add("ones", data=(side, sizes), side=side))

    def _expect(self, g: Expect) -> int:
        if len(g.forms) == 2:
            self._carry(*(self.poly(g.entry(*at)) for at in ((0, 0), (1, 1), (0, 1))))
        return super()._expect(g)

    def _carry(self, q1: int, q2: int, c: int) -> None:
        """Let the 1 − ρ of a covariance follow from what it is a sum of, where c itself has lost it."""
        t = self.tape
        sides = t.sides[q1], t.sides[q2], t.sides[c]
        if sides[2] != PAIR or PAIR in sides[:2] or sides[0] == RIGHT or sides[1] == LEFT or c in t.gaps:
            return
        parts = self._parts(c)
        if parts is None:
            return
        args, data = [c, t.add("rsqrt", q1), t.add("rsqrt", q2)], []
        for scale, window, i in parts:
            value = t.value(i)
            kind = "const" if value is not None else "data" if t.ops[i].kind == "data" else "known"
            scale *= 1.0 if value is None else value
            data.append((scale, window, kind))
            if kind == "known":
                p1, p2, gap = t.gaps[i]
                args += [t.add("sqrt", p1), t.add("sqrt", p2), gap]
            elif kind == "data":
                args.append(i)
        t.gaps[c] = q1, q2, t.add("near gap", *args, data=tuple(data))

    def _parts(self, c: int) -> list[Part] | None:
        """c as a sum of positive parts of known angles, windows of them, and numbers; else None."""
        t, parts = self.tape, list[Part]()
        todo: list[tuple[int, float, Any]] = [(c, 1.0, None)]
        while todo:
            i, scale, window = todo.pop()
            kind, args, data = t.ops[i]
            if scale < 0:
                return None
            if (value := t.value(i)) is not None:
                parts += [(scale, window, i)] if value else []
            elif (i in t.gaps and t.ops[t.gaps[i][2]].kind != "gap") or kind == "data":
                parts.append((scale, window, i))
            elif kind == "lin" and (a := t.value(args[0])) is not None:
                todo += [(args[2], scale, window), (args[1], scale * a, window)]
            elif kind == "axpy" and (a := t.value(args[1])) is not None:
                todo += [(args[2], scale * a, window), (args[0], scale, window)]
            elif kind == "along" and window is None and not data.transpose and data.map.is_tied:
                todo.append((args[0], scale, data))
            else:
                return None
        return parts


def per_input(tape: Tape, order: Sequence[int], side: int, x: np.ndarray) -> dict[int, np.ndarray]:
    """All values per input of one side.

    Args:
        tape, order: the operations.
        side: LEFT or RIGHT.
        x: inputs (N, P, C).

    Returns:
        By operation arrays (N, P') or numbers.
    """
    machine, values, which = Machine(np, (0.0, 0.0)), dict[int, Any](), side >> 1
    with np.errstate(all="ignore"):
        for i in order:
            kind, args, data = tape.ops[i]
            if tape.sides[i] not in (CONST, side):
                continue
            if kind == "data":
                values[i] = np.einsum("npc,npc->np", x, x) / x.shape[-1]
            elif kind == "ones":
                values[i] = np.ones((1, prod(data[1][which])))
            elif kind == "along":
                given = values[args[0]]
                values[i] = linear(data.map, data.transpose, given[:, :, None], 0, data.read[which])[:, :, 0]
            else:
                values[i] = RULES[kind](machine, tape.ops[i], *(values[a] for a in args))
    return values
