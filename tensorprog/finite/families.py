"""Families of vectors at width n: arrays (S, .., P, n), all positions of all inputs in one product.

In a program with axes every vector has positions before its coordinates, P = 1 for one without axes, so that functions
of both broadcast.  h[p] = (1/√|w|) Σ_k W_k x[m_k(p)] gathers x at all m_k(p) and multiplies by [W_1 .. W_|w|] at once;
the transpose multiplies by all W_kᵀ and adds up where the m_k(p) are.

Weights by name: (S, |w|, n, n) of a window, (S, P, |w|, n, n) where positions have weights of their own; an embedding
of patches is (S, n, |w| d), or (S, P, n, |w| d), its columns sorted by offset; a readout of all positions (S, P, n).
So torch's ``Conv2d.weight`` of shape (n, n, a, b) is ``weight.reshape(n, n, a b).transpose(2, 0, 1)`` here, up to the
scale, and one of shape (n, d, a, b) is ``weight.transpose(0, 2, 3, 1).reshape(n, a b d)``.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np

from tensorprog.derivation.data import Inputs
from tensorprog.derivation.named import Layout
from tensorprog.derivation.outer import gram as gram_of_rows
from tensorprog.dsl.trace import Datum, Trace
from tensorprog.errors import DataError, NoRuleError
from tensorprog.ir.axes import Reading, Sizes, table
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import MatMul, Place
from tensorprog.ir.maps import Given

CHUNK = 2**24  # inner products of positions that are held at a time
LOOPED = 8  # what one of them costs in a sum over a window, beside a multiplication in a product of matrices
Array = Any


class Grid(dict[str, Sizes]):
    """The sizes of inputs with positions, by label, and the matrices that are given with them, (.., R, P)."""

    def __init__(self, sizes: Mapping[str, Sizes], matrix: Callable[[Given, str], Array] | None = None) -> None:
        super().__init__(sizes)
        self.matrix = matrix


NONE = Grid({})


class At(NamedTuple):
    """A map at given sizes: which positions are read, (|w|, P), of how many, 1/|w|, and whether weights are shared."""

    rows: np.ndarray
    read: int
    weight: float
    tied: bool

    @classmethod
    def of(cls, by: Reading, sizes: Grid) -> At:
        """The map of a reading, for inputs of these sizes."""
        read = () if by.axes is None else by.axes.at(sizes[by.axes.source])
        return cls(table(by.map, read), math.prod(read), by.map.weight(read), by.map.is_tied)

    @property
    def family(self) -> tuple[int, ...]:
        """How many matrices it takes: one for each offset, and for each position where they are its own."""
        return (len(self.rows),) if self.tied else self.rows.shape[::-1]


def gathered(x: Array, rows: np.ndarray) -> Array:
    """x[m_k(p)] of all p and k, (.., P, |w|, n) from (.., P', n); absent ones are 0."""
    found = np.take(x, rows.T, axis=-2, mode="clip")
    absent = rows.T < 0
    if absent.any():
        found[..., absent, :] = 0
    return found


def scattered(y: Array, rows: np.ndarray, count: int) -> Array:
    """Σ y[p, k] over the p and k with m_k(p) = q, (.., P', n) from (.., P, |w|, n)."""
    out = np.zeros((*y.shape[:-3], count, y.shape[-1]), y.dtype)
    offsets, places = np.nonzero(rows >= 0)
    to = rows[offsets, places]
    if len(np.unique(to)) == len(to):
        out[..., to, :] = y[..., places, offsets, :]
        return out
    for k, row in enumerate(rows):
        places = np.flatnonzero(row >= 0)
        if len(np.unique(row[places])) == len(places):
            out[..., row[places], :] += y[..., places, k, :]
        else:
            np.add.at(out, (..., row[places], slice(None)), y[..., places, k, :])  # type: ignore[arg-type]
    return out


def mixed(x: Array, by: Reading, transpose: bool, sizes: Grid) -> Array:
    """(1/|w|) Σ_k x[m_k(p)], or its transpose; A x of a matrix A that is given with every input."""
    if isinstance(by.map, Given):
        assert sizes.matrix is not None and by.axes is not None
        a = sizes.matrix(by.map, by.axes.source).astype(x.dtype)
        return (np.swapaxes(a, -1, -2) if transpose else a) @ x
    at = At.of(by, sizes)
    if transpose:
        spread = np.broadcast_to(x[..., None, :], (*x.shape[:-1], len(at.rows), x.shape[-1]))
        found = scattered(spread, at.rows, at.read)
    else:
        found = gathered(x, at.rows).sum(axis=-2)
    return found * np.asarray(at.weight, x.dtype)


def placed(v: Array, at: At, transpose: bool) -> Array:
    """(1/√|w|) Σ_k v_k at every position that reads by k, or that is read; v has k in the place of positions."""
    if transpose:
        spread = np.broadcast_to(v[..., None, :, :], (*v.shape[:-2], at.rows.shape[1], *v.shape[-2:]))
        found = scattered(spread, at.rows, at.read)
    else:
        found = (at.rows.T >= 0).astype(v.dtype) @ v
    return found * np.asarray(np.sqrt(at.weight), v.dtype)


def side_by_side(x: Array, at: At | None) -> Array:
    """What a readout multiplies by v/√(|w| n), (.., |w| n) from (.., P, n): x[m_k], times √|w| where it is a sum."""
    if at is not None:
        x = gathered(x, at.rows)[..., 0, :, :] * np.asarray(np.sqrt(at.weight * len(at.rows)), x.dtype)
    return x.reshape(*x.shape[:-2], -1)


def unplaced(d: Array, at: At, transpose: bool) -> Array:
    """The transpose of ``placed``: what gradients d at positions are for the v_k, (.., |w|, n)."""
    found = gathered(d, at.rows).sum(axis=-3) if transpose else (at.rows >= 0).astype(d.dtype) @ d
    return found * np.asarray(np.sqrt(at.weight), d.dtype)


def product(w: Array, x: Array, at: At, transpose: bool) -> Array:
    """(1/√|w|) Σ_k W_k x[m_k(p)], or its transpose; w as above, x (S, .., P, n)."""
    middle = x.shape[1:-2]
    x = x.reshape(len(x), -1, *x.shape[-2:])
    found = (_tied if at.tied else _untied)(w, x, at, transpose)
    found *= np.asarray(np.sqrt(at.weight), found.dtype)
    return found.reshape(len(found), *middle, *found.shape[-2:])


def _tied(w: Array, x: Array, at: At, transpose: bool) -> Array:
    s, k, n, m = w.shape
    if transpose:
        wide = x.reshape(len(x), -1, n) @ np.swapaxes(w, 1, 2).reshape(s, n, k * m)
        return scattered(wide.reshape(s, *x.shape[1:3], k, m), at.rows, at.read)
    side = gathered(x, at.rows).reshape(len(x), -1, k * m)
    found = side @ np.swapaxes(w, 2, 3).reshape(s, k * m, n)
    return found.reshape(s, x.shape[1], -1, n)


def _untied(w: Array, x: Array, at: At, transpose: bool) -> Array:
    if transpose:
        x = np.swapaxes(x, 1, 2)
        wide = np.stack([np.swapaxes(x @ w[:, :, k], 1, 2) for k in range(w.shape[2])], axis=-2)
        return scattered(wide, at.rows, at.read)
    side = np.swapaxes(gathered(x, at.rows), 1, 2)
    total = side[..., 0, :] @ np.swapaxes(w[:, :, 0], 2, 3)
    for k in range(1, w.shape[2]):
        total += side[..., k, :] @ np.swapaxes(w[:, :, k], 2, 3)
    return np.swapaxes(total, 1, 2)


# ---- data and parameters ---------------------------------------------------------------------------------


def read(datum: Datum, data: Array, sizes: Grid, layout: Layout | None = None) -> Array:
    """What is embedded of inputs (.., P, d): themselves, or their patches (.., P', |w| d) side by side."""
    if layout is not None:
        data = layout.of(datum.part, data)
        data = data if datum.axes is not None else data[..., :1, :]
    if datum.by is None:
        return data
    found = gathered(data, At.of(datum.by, sizes).rows)
    return found.reshape(*found.shape[:-2], -1)


def embedded(u: Array, xi: Array, datum: Datum) -> Array:
    """U ξ at all positions, (S, .., P, n) from patches (.., P, |w| d)."""
    if is_untied(datum):
        return np.einsum("spnc,...pc->s...pn", u, xi, optimize=True)
    found = u @ np.swapaxes(xi.reshape(-1, xi.shape[-1]), 0, 1)
    return np.ascontiguousarray(np.swapaxes(found, 1, 2)).reshape(len(u), *xi.shape[:-1], -1)


def is_untied(datum: Datum) -> bool:
    """Whether positions are embedded by matrices of their own."""
    return datum.by is not None and not datum.by.map.is_tied


def shapes(trace: Trace, width: int, inputs: Inputs, sizes: Grid) -> dict[str, tuple[int, ...]]:
    """The shape of every parameter of the program, but for the seeds.

    Raises:
        DataError: a parameter has weights for every position, and inputs of different sizes.
        NoRuleError: see ``check_has_rule``.
    """
    check_has_rule(trace)
    found: dict[str, tuple[int, ...]] = {}
    base = {"matrix": (width, width), "embedding": (width, inputs.dimension)}

    def note(name: str, shape: tuple[int, ...]) -> None:
        if found.setdefault(name, shape) != shape:
            raise unequal(name, sizes.values())

    names = {p.var: n for n, p in trace.parameters.items()}
    for _, op in trace.program:
        if isinstance(op, MatMul):
            note(names[op.matrix], (*(At.of(op.by, sizes).family if op.by else ()), width, width))
        if isinstance(op, Place):
            note(names[op.x], (*At.of(op.by, sizes).family, width))
    for name, datum in trace.embeddings.values():
        at = At.of(datum.by, sizes) if datum.by is not None else None
        own = () if at is None or at.tied else at.family[:1]
        dimension = inputs.dimension if inputs.layout is None else _dimension(inputs.layout, datum.part)
        note(name, (*own, width, dimension * (1 if at is None else len(at.rows))))
    for r in (r for heads in trace.heads for f in heads for r in f.readouts if r.trained):
        note(r.name, (*(At.of(r.by, sizes).family if r.by else ()), width))
    return {n: found.get(n, base.get(p.kind, (width,))) for n, p in trace.parameters.items()}


def check_has_rule(trace: Trace) -> None:
    """Refuse what has kernels but no arrays at width n.

    Raises:
        NoRuleError: positions added where a function is not 0 at 0; layers whose rank is a share of the width.
    """
    if trace.narrow:
        shown = ", ".join(f"{name} (rank = {share:g})" for name, share in trace.narrow.items())
        raise NoRuleError(
            f"layers of a rank below the width are not run at finite width: {shown}; their limiting kernels, K(X), do "
            "not depend on the share, which may be 1 here"
        )
    if trace.ones:
        raise NoRuleError(
            "a network that adds positions to what a function makes of vectors is not run at finite width; its "
            "limiting kernels, K(X), are known"
        )


def _dimension(layout: Layout, part: str | None) -> int:
    found = dict(layout.widths).get(part or "")
    assert found is not None  # as many columns as positions are matrices, which are not embedded
    return found


def unequal(name: str, sizes: Iterable[Sizes]) -> DataError:
    """The error of a parameter that has weights for every position, and inputs of different sizes."""
    shown = " and ".join("×".join(map(str, n)) for n in sorted(set(sizes)))
    return DataError(
        f"{name} has weights for every position, and the inputs have sizes {shown}; give inputs of one size, or "
        "average over positions (net.global_pool)"
    )


def volume(program: ProgramGraph, sizes: Grid) -> int:
    """Vectors of a program, those of families counted at every position."""
    if not sizes:
        return len(program)
    found = (program.axes(v) for v, _ in program)
    return sum(1 if a is None else math.prod(a.at(sizes[a.source])) for a in found)


# ---- gradients of shared weights -------------------------------------------------------------------------


class Shared(NamedTuple):
    """The gradients of one use of weights over positions: Σ_p L[p] ⊗ R[m_k(p)] for every k, times 1/√|w|.

    Attributes:
        left: (S, N, P, n).
        right: (S, N, P', m).
        at: the map; None where L[p] meets R[p].
        own: whether every position has weights of its own.
    """

    left: Array
    right: Array
    at: At | None = None
    own: bool = False

    @property
    def offsets(self) -> int:
        """|w|."""
        return 1 if self.at is None else len(self.at.rows)

    def rows(self, count: int) -> Shared:
        """One row for each of ``count`` inputs, also of what is the same for all of them."""
        left, right = (a if a.shape[1] == count else np.repeat(a, count, axis=1) for a in (self.left, self.right))
        return self._replace(left=left, right=right)

    def _side(self) -> Array:
        """R[m_k(p)]/√|w|, (S, N, P, |w| m)."""
        if self.at is None:
            return self.right
        found = gathered(self.right, self.at.rows)
        return found.reshape(*found.shape[:-2], -1) * np.asarray(np.sqrt(self.at.weight), found.dtype)

    def each(self) -> Array:
        """The gradient of every input, (S, N, entries)."""
        side = self._side()
        outer = self.left[..., :, None] * side[..., None, :] if self.own else np.swapaxes(self.left, -1, -2) @ side
        return outer.reshape(*outer.shape[:2], -1)

    def summed(self, weights: Array) -> Array:
        """Σ_i weight_i times the gradient of input i, in the shape of the parameter; weights (S, N, 1)."""
        left, side = self.left * weights[..., None], self._side()
        if self.own:
            found = np.moveaxis(left, 1, -1) @ np.swapaxes(side, 1, 2)
        else:
            found = np.swapaxes(left.reshape(len(left), -1, left.shape[-1]), 1, 2) @ side.reshape(
                len(side), -1, side.shape[-1]
            )
        if self.at is None:
            return found
        parts = found.reshape(*found.shape[:-1], self.offsets, -1)
        return np.ascontiguousarray(np.swapaxes(parts, -3, -2))

    def against(self, other: Shared) -> Array:
        """The Gram matrix with those of another use by the same map, from products of positions, (S, N, N')."""
        g, c = (_pairs(a, b) for a, b in ((self.left, other.left), (self.right, other.right)))
        if self.at is not None and other.at is not None:
            c = _along(c, self.at, other.at)
        if self.own:
            return np.einsum("spij,spij->sij", *(_diagonal(a) for a in (g, c)))
        return np.einsum("sipjq,sipjq->sij", g, c)


def _pairs(a: Array, b: Array) -> Array:
    """a[i,p]·b[j,q], (S, N, P, N', P')."""
    flat = (v.reshape(len(v), -1, v.shape[-1]) for v in (a, b))
    first, second = flat
    return (first @ np.swapaxes(second, 1, 2)).reshape(-1, *a.shape[1:3], *b.shape[1:3])


def _diagonal(a: Array) -> Array:
    """p = q, with the axes in the same place."""
    return np.einsum("sipjp->spij", a)


def _along(c: Array, at: At, at2: At) -> Array:
    """(1/|w|) Σ_k C[m_k(p), m_k(q)] of C (S, N, P, N', P')."""
    shape = (*c.shape[:2], at.rows.shape[1], c.shape[3], at2.rows.shape[1])
    out = np.zeros(shape, c.dtype)
    for a, b in zip(at.rows, at2.rows, strict=True):
        p, q = np.flatnonzero(a >= 0), np.flatnonzero(b >= 0)
        out[:, :, p[:, None, None], np.arange(shape[3])[:, None], q] += c[:, :, a[p]][..., b[q]]
    return out * np.asarray(np.sqrt(at.weight * at2.weight), c.dtype)


def gram(left: list[Any], right: list[Any], symmetric: bool) -> Array:
    """The Gram matrix of gradients (S, N, N') from the uses of one parameter, as in ``derivation.outer``.

    Over positions, either the gradients are made, |w| n² numbers for each input, or inner products of all positions.
    """
    if not isinstance(left[0], Shared):
        return gram_of_rows(left, right, symmetric)
    (n, p, d), (n2, p2, _) = left[0].left.shape[1:], right[0].left.shape[1:]
    m, k = left[0].right.shape[-1], left[0].offsets
    made = (len(left) * n * p + (0 if symmetric else len(right) * n2 * p2) + n * n2) * d * m * k
    between = len(left) * len(right) * n * p * n2 * p2 * (d + m + LOOPED * k)
    if made <= between:
        step = max(1, CHUNK // (len(left[0].left) * (n + n2) * m * k))
        return sum(_made(left, right, symmetric, slice(i, i + step)) for i in range(0, d, step))
    step = max(1, CHUNK // (len(left[0].left) * p * n2 * p2))
    parts = [
        sum(
            u._replace(left=u.left[:, i : i + step], right=u.right[:, i : i + step]).against(v)
            for u in left
            for v in right
        )
        for i in range(0, n, step)
    ]
    return np.concatenate(parts, axis=1)


def _made(left: list[Shared], right: list[Shared], symmetric: bool, part: slice) -> Array:
    """The Gram matrix of the gradients of some coordinates."""

    def gradients(uses: list[Shared]) -> Array:
        return functools.reduce(np.add, (u._replace(left=u.left[..., part]).each() for u in uses))

    a = gradients(left)
    return a @ np.swapaxes(a if symmetric else gradients(right), 1, 2)
