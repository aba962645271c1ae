"""Numbers of a kernel of inputs with positions: arrays over pairs of positions of blocks of pairs of inputs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Gaussian, Poly, linear_parts
from tensorprog.derivation.data import input_relation
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.named import Layout
from tensorprog.dsl.trace import Datum
from tensorprog.errors import NoRuleError
from tensorprog.expectations.angles.gaps import gap
from tensorprog.expectations.atoms import Expect
from tensorprog.expectations.bodies import kinks
from tensorprog.ir.axes import Axes, Sizes, Window, table
from tensorprog.ir.instructions import Var
from tensorprog.ir.maps import Given
from tensorprog.limit.attended import contracted
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import Atom, expected, numbers
from tensorprog.limit.gap import Gaps
from tensorprog.limit.mixing import linear, shared, value_of
from tensorprog.limit.positions import At, Batched, Contracted, Positional, Whole

NO_MEMBERS = (
    "kernels of networks that normalise batches are known between the outputs of their members; return "
    "net.readout(..) of vectors with members"
)
BLOCK = 2**24  # numbers that are held at a time
Array = Any


class Pair:
    """Two batches of inputs whose pairs are taken, as the arrays that a limit reads.

    Args:
        d: the kernel.
        a, b: (B, P, C) and (B, Q, C); the pairs are a[i], b[i].
        sizes: of the positions of both.
        layout: the columns of named arrays.
        gaps: makes what knows the angles of nearly equal variables.
    """

    def __init__(self, d: Derivation, a: np.ndarray, b: np.ndarray, sizes: tuple[Sizes, Sizes],
                 layout: Layout | None = None, gaps: Callable[..., Gaps] = Gaps) -> None:  # fmt: skip
        if d.trace.parts.over and layout is None:
            raise NoRuleError("named arrays over positions are read by K(X1, X2) and K.gram; this question has no rule")
        self.d, self.sides, self.sizes, self.layout = d, (a, b), sizes, layout
        self._matrices: dict[tuple[Given, int], np.ndarray] = {}
        self._gaps = gaps(d.limit.structure, self.relation, sizes)
        self.equal = (a == b).reshape(len(a), -1).all(axis=1) if sizes[0] == sizes[1] else np.zeros(len(a), bool)

    def grams(self) -> dict[sp.Symbol, np.ndarray]:
        """The inner products of what is embedded, (B, P, Q), (B, P, 1) or (B, 1, Q)."""
        return {s: self.gram(*pair) for s, pair in self.d.trace.grams.items()}

    def gram(self, p: Datum, q: Datum, windows: Callable[..., Array] = shared) -> np.ndarray:
        """One of them, ``windows`` being what sums over patches."""
        one = p.owner == q.owner
        x, y = self._vectors(p), self._vectors(q)
        if one:
            c = np.einsum("bpc,bpc->bp", x, y) / x.shape[-1]
            c = c[:, :, None] if p.owner == 0 else c[:, None, :]
        else:
            c = np.matmul(x, y.swapaxes(1, 2)) / x.shape[-1]
        if p.by is None or p.by.axes is None:
            return c
        axes = p.by.axes or Axes("")
        read = (axes.at(self.sizes[0]), axes.at(self.sizes[1]))
        return linear(p.by.map, False, c, p.owner, read[p.owner]) if one else windows(p.by.map, False, c, read)

    def _vectors(self, p: Datum) -> np.ndarray:
        """What is embedded, (B, P, C); (B, 1, C) of a vector for the whole input."""
        x = self.sides[p.owner]
        if self.layout is None:
            return x
        return self.layout.of(p.part, x) if p.axes is not None else self.layout.of(p.part, x)[:, :1]

    def matrix(self, of: Given, side: int) -> np.ndarray:
        """A matrix that is given with the inputs of one side, (B, R, P)."""
        if (of, side) not in self._matrices:
            assert self.layout is not None
            given = self.layout.of(of.name, self.sides[side])
            self._matrices[of, side] = of.matrix(given[..., 0] if of.pooled else given)
        return self._matrices[of, side]

    def relation(self, aa: sp.Symbol, ab: sp.Symbol, bb: sp.Symbol) -> tuple[np.ndarray, np.ndarray] | None:
        """See ``input_relation``, of what is read at every pair of positions."""
        known = self.d.trace.grams
        if not {aa, ab, bb} <= known.keys() or {known[aa], known[bb]} != {(datum, datum) for datum in known[ab]}:
            return None
        if any(d.mixes or (d.by is not None and not isinstance(d.by.map, Window)) for d in known[ab]):
            return None
        a, b = map(self._patches, known[ab])
        return input_relation(a, b, *(self.gram(*known[s]) for s in (aa, bb, ab)))

    def _patches(self, datum: Datum) -> np.ndarray:
        """The vectors that are read at every position, (B, P, 1, ·) or (B, 1, Q, ·)."""
        x = self._vectors(datum)
        if datum.by is not None and datum.by.axes is not None:
            rows = table(datum.by.map, datum.by.axes.at(self.sizes[datum.owner]))
            x = np.concatenate([np.where(row[:, None] >= 0, x[:, row], 0.0) for row in rows], axis=-1)
        return x[:, :, None] if datum.owner == 0 else x[:, None]

    def with_itself(self, point: int) -> Pair:
        """Each input of one side with itself."""
        return Pair(self.d, self.sides[point], self.sides[point], (self.sizes[point],) * 2, self.layout)

    def values(self, polys: list[Poly], hyper: Mapping[sp.Symbol, float], atom: Atom | None,
               at: Callable[[At, Callable[[Poly], Any]], Array]) -> list[Array]:  # fmt: skip
        """The values of polynomials."""

        def positions(g: Positional, value: Callable[[Poly], Any]) -> Array:
            return self.positional(g, value, at, atom or _expected)

        return numbers(polys, {**hyper, **self.grams()}, self.gap, atom, positions)

    def positional(self, g: Positional, value: Callable[[Poly], Any],
                   at: Callable[[At, Callable[[Poly], Any]], Array], atom: Atom) -> Array:  # fmt: skip
        """The value of what is found from whole arrays."""
        if isinstance(g, At):
            return at(g, value)
        if isinstance(g, Contracted):
            return contracted(g, value, self.sizes, atom)
        read = [value(p) for p in g.reads]
        return self.batched(g, read) if isinstance(g, Batched) else value_of(g, read, self.sizes, self.matrix)

    def batched(self, g: Batched, values: Sequence[Array]) -> Array:
        """Expectations over normalised batches, of outputs that have no members.

        Raises:
            NoRuleError: always.
        """
        raise NoRuleError(f"{g}: {NO_MEMBERS}")

    def gap(self, g: Expect, value: Callable[[Poly], Any]) -> Array | None:
        """1 − |ρ| of the variables of an atom, 0 where they are one quantity of equal inputs at one position."""
        known = self._gaps(g, value)
        if known is None and (len(g.forms) != 2 or not kinks(g.body, g.variables)):
            return None
        twins = self._twins(*g.forms)
        if twins is None:
            return known
        entries = (np.asarray(value(g.entry(i, j)), float) for i, j in ((0, 0), (1, 1), (0, 1)))
        found = gap(*entries) if known is None else np.asarray(known)
        if found.ndim == 3 and found.shape[-1] == found.shape[-2] and self.equal.any():
            shape, places = (len(self.equal), *found.shape[1:]), np.arange(found.shape[-1])
            found, here = np.array(np.broadcast_to(found, shape)), np.ix_(self.equal, places, places)
            weights = [[np.broadcast_to(value(c), shape)[here] for c in pair] for pair in twins]
            alike = np.all([np.isclose(c, d, rtol=1e-12, atol=0) for c, d in weights], axis=0)
            found[here] = np.where(alike & np.eye(len(places), dtype=bool), 0.0, found[here])
        return found

    def _twins(self, u: Poly, v: Poly) -> list[tuple[Poly, Poly]] | None:
        """The coefficients of two forms in what is the same of the two inputs; None where they are in other things."""
        first, second = ({self._origin(g): c for g, c in linear_parts(p)[1].items()} for p in (u, v))
        spatial = self.d.limit.spatial
        assert spatial is not None
        turned = {(block, spatial.twin(x)): c for (block, x), c in first.items()}
        return [(c, second[x]) for x, c in turned.items()] if turned.keys() == second.keys() else None

    def _origin(self, g: Gaussian) -> tuple[Any, Var | None]:
        """The variable that a Gaussian belongs to; of a product with one vector, the matrix and the vector."""
        assert self.d.limit.spatial is not None
        made = self.d.limit.spatial.made_by.get(g)
        return (g.block, g.source) if made is None else (None, made)


def over_positions(d: Derivation, a: np.ndarray, b: np.ndarray, sizes: tuple[Sizes, Sizes],
                   hyper: Mapping[sp.Symbol, float], atom: Callable[..., Array] | None = None,
                   layout: Layout | None = None) -> np.ndarray:  # fmt: skip
    """The kernel of pairs of inputs (B, P, C) and (B, Q, C) with these sizes.

    An expectation is one quantity of two inputs and another one of each with itself: ``atom`` is also told which, as
    its last argument, the number of the input or None.
    """
    pair = Pair(d, a, b, sizes, layout)
    known = known_at(pair, d.poly, hyper, lambda point: _told(atom, point))
    value = pair.values([d.poly], hyper, _told(atom, None), lambda g, value: known[g])[0]
    return np.broadcast_to(value, (len(a), 1, 1))[:, 0, 0]


def known_at(pair: Pair, poly: Poly, hyper: Mapping[sp.Symbol, float],
             atom: Callable[[int], Atom | None]) -> dict[At, Array]:  # fmt: skip
    """The values of what a polynomial reads of one input with itself."""
    found = sorted((g for g in reachable([poly]) if isinstance(g, At)), key=lambda g: g.index)
    known: dict[At, Array] = {}
    for point in {g.point for g in found}:
        of = [g for g in found if g.point == point]
        arrays = pair.with_itself(point).values([g.inner for g in of], hyper, atom(point), _diagonal)
        known.update((g, taken(g, c)) for g, c in zip(of, arrays, strict=True))
    return known


def _expected(g: Expect, value: Callable[[Poly], Any], gap: Array | None) -> Array:
    return expected(g, value, gap).value


def _told(atom: Callable[..., Array] | None, point: int | None) -> Atom | None:
    return None if atom is None else lambda g, value, gap: atom(g, value, gap, point)


def _diagonal(g: At, value: Callable[[Poly], Any]) -> Array:
    return taken(g, value(g.inner))


def taken(g: At, c: Array) -> Array:
    """What is asked of an array of an input with itself: all of it, or p = q."""
    c = np.asarray(c, float)
    if c.ndim < 2 or isinstance(g, Whole):
        return c
    size = max(c.shape[-2:])
    c = np.broadcast_to(c, (*c.shape[:-2], size, size))
    found = np.einsum("...pp->...p", c)
    return found[..., :, None] if g.point == 0 else found[..., None, :]


def matrix_over_positions(d: Derivation, a: np.ndarray, b: np.ndarray, sizes: tuple[Sizes, Sizes],
                          hyper: Mapping[sp.Symbol, float]) -> np.ndarray:  # fmt: skip
    """The kernel of all inputs (N, P, C) with all (M, Q, C), (N, M)."""
    i, j = (k.ravel() for k in np.indices((len(a), len(b))))
    step = max(1, BLOCK // (a.shape[1] * b.shape[1] * (1 + len(reachable([d.poly])))))
    parts = [over_positions(d, a[i[s : s + step]], b[j[s : s + step]], sizes, hyper) for s in range(0, len(i), step)]
    return np.concatenate(parts).reshape(len(a), len(b))
