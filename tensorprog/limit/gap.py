"""1 - |ρ| of two Gaussian forms from the structure of a limit, where covariances have lost it.

Two pre-activations u, v are sums of independent parts: biases and embeddings of data, and Ẑ's of matrices, whose
covariance σ_W² E Z^y Z^y' is that of functions F(u'), F(v') of earlier forms.  ``Structure`` finds the parts, ``Gaps``
computes with them.  What has no such structure keeps the 1 - |c|/√(q q') of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import (
    ONE,
    Apply,
    Gaussian,
    Gen,
    Poly,
    Scalar,
    add_all,
    affine,
    linear_parts,
    monomial,
    to_sympy,
)
from tensorprog.expectations.angles.gaps import NEAR, Relation, function_relation, gap, relation, stretch, sum_relation
from tensorprog.expectations.angles.kinked import kinked_relation
from tensorprog.expectations.atoms import Expect, random_arguments, variables
from tensorprog.expectations.bodies import kinks
from tensorprog.ir.axes import Reading, Sizes, table
from tensorprog.limit.deep import Nested
from tensorprog.limit.fields import Field
from tensorprog.limit.positions import Along

Array = Any
Form = dict[Gaussian, Poly]
Valued = Callable[[Poly], Array]
Data = Callable[[sp.Symbol, sp.Symbol, sp.Symbol], tuple[Array, Array] | None]
Angle = Callable[[Array, Array, Array], Array]
Some = Callable[[Poly, tuple[int, ...], Any], Array]
Shared = Callable[[Gaussian], tuple[Reading | None, Poly] | None]
U = variables(1)[0]
LOST = 2e-15  # 1 - |ρ| of values that is nothing but rounding: that of equal tokens, nodes or patches
STEEP = 1e4  # variances from which on a smooth function's own width is a small part of a standard deviation


@dataclass(frozen=True)
class Function:
    """scale · F(form): ``body`` in u1, and the scalar generators that it reads by symbol."""

    scale: Poly
    body: sp.Expr
    form: Poly
    scalars: Mapping[sp.Symbol, Gen]


@dataclass(frozen=True)
class Part:
    """An independent part of two forms: variances and covariance, and what its gap follows from.

    At most one of the sources is set: ``same`` for proportional parts, ``data`` for the symbols of ⟨x,x⟩, ⟨x,x'⟩,
    ⟨x',x'⟩, ``functions`` for F(u'), F(v'), ``forms`` for affine u', v' and ``inner`` for what a window reads ``by``
    positions.
    """

    aa: Poly
    ab: Poly
    bb: Poly
    same: bool = False
    data: tuple[sp.Symbol, ...] | None = None
    functions: tuple[Function, Function] | None = None
    forms: tuple[Poly, Poly] | None = None
    inner: Part | None = None
    by: Reading | None = None


@dataclass
class Law:
    """The law of a pair of forms as arrays: variances, covariance, 1 - |ρ|; √(q1/q2) - 1 where it is known better."""

    q1: Array
    q2: Array
    c: Array
    gap: Array
    stretch: Array | None = None

    def at(self, shape: tuple[int, ...], rows: Any) -> tuple[Array, Array, Relation]:
        """Variances and relation of some entries."""
        q1, q2, c, t = (np.broadcast_to(x, shape)[rows] for x in (self.q1, self.q2, self.c, self.gap))
        e = stretch(q1, q2) if self.stretch is None else np.broadcast_to(self.stretch, shape)[rows]
        return q1, q2, relation(t, c, e)

    def refine(self, rows: Any, found: Relation) -> None:
        """Replace what the values have lost."""
        if self.stretch is None:
            self.stretch = np.copy(np.broadcast_to(stretch(self.q1, self.q2), self.gap.shape))
        self.gap[rows], self.stretch[rows] = found.gap, found.stretch


class Structure:
    """How pairs of forms of a limit are made, found once per pair.

    Args:
        fields: of matrices.
        cov: of two Gaussians.
        related: whether two Gaussians may be correlated.
        shared: of a Gaussian that is a product shared by positions the map, if any, and what it multiplies; else None.
    """

    def __init__(self, fields: Mapping[Any, Field], cov: Callable[[Gaussian, Gaussian], Poly],
                 shared: Shared = lambda g: None,
                 related: Callable[[Gaussian, Gaussian], bool] = lambda g, h: g.block == h.block) -> None:  # fmt: skip
        self.fields, self._cov, self._shared, self._related = fields, cov, shared, related
        self._parts: dict[tuple[Poly, Poly], list[Part]] = {}
        self._functions: dict[Poly, Function | None] = {}

    def parts(self, u: Poly, v: Poly) -> list[Part]:
        """The independent parts of two forms."""
        if (u, v) not in self._parts:
            left, right = linear_parts(u)[1], linear_parts(v)[1]
            self._parts[u, v] = [self._part(a, b) for a, b in self._split(left, right)]
        return self._parts[u, v]

    def _split(self, left: Form, right: Form) -> Iterator[tuple[Form, Form]]:
        """Both forms restricted to each set of Gaussians that is independent of all others."""
        groups: list[list[Gaussian]] = []
        for g in dict.fromkeys([*left, *right]):
            linked = [m for m in groups if any(self._related(g, h) and self._linked(g, h) for h in m)]
            groups = [m for m in groups if m not in linked] + [[g, *(h for m in linked for h in m)]]
        for members in groups:
            yield tuple({g: form[g] for g in members if g in form} for form in (left, right))  # type: ignore[misc]

    def _linked(self, g: Gaussian, h: Gaussian) -> bool:
        return g.block in self.fields or bool(self._cov(g, h))

    def _part(self, left: Form, right: Form) -> Part:
        aa, ab, bb = (
            add_all(x * y * self._cov(a, b) for a, x in first.items() for b, y in second.items())
            for first, second in ((left, left), (left, right), (right, right))
        )
        covs = aa, ab, bb
        if left == right:
            return Part(aa, ab, bb, same=True)
        if not (left and right and ab):
            return Part(aa, ab, bb)
        block = next(iter(left)).block
        if block not in self.fields:
            return self._over_positions(left, right, covs) or Part(aa, ab, bb, data=_data(aa, ab, bb))
        y, z = (add_all(k * self.fields[block].z[g] for g, k in form.items()) for form in (left, right))
        return self._source(y, z, covs)

    def _over_positions(self, left: Form, right: Form, covs: tuple[Poly, Poly, Poly]) -> Part | None:
        """The part of products shared by positions, and of what they read there."""
        read = {g: self._shared(g) for g in (*left, *right)}
        if None in read.values():
            return None
        y, z = (add_all(k * read[g][1] for g, k in form.items()) for form in (left, right))  # type: ignore[index]
        by = next(iter(read.values()))[0]  # type: ignore[index]
        if by is None:
            return self._source(y, z, covs)
        inner = [_along(p) for p in covs]
        if not by.map.is_tied or None in inner:
            return None
        return Part(*covs, inner=self._source(y, z, tuple(inner)), by=by)  # type: ignore[arg-type]

    def _source(self, y: Poly, z: Poly, covs: tuple[Poly, Poly, Poly]) -> Part:
        """The part whose covariances are proportional to E yy, E yz and E zz."""
        aa, ab, bb = covs
        y, z = self._without_gates(y, z)
        if affine(y) and affine(z):
            return Part(aa, ab, bb, forms=(y, z))
        f, g = self._function(y), self._function(z)
        matched = f is not None and g is not None and (f.body, f.scalars) == (g.body, g.scalars)
        return Part(aa, ab, bb, functions=(f, g) if matched else None)  # type: ignore[arg-type]

    def _without_gates(self, y: Poly, z: Poly) -> tuple[Poly, Poly]:
        """Both without the factors of all of their terms that are independent of the rest: ρ is that of the rest."""
        first, *others = [dict(mono) for p in (y, z) for mono in p.terms]
        shared = {g: e for g, e in first.items() if g.support and all(m.get(g) == e for m in others)}
        rests = [Poly({tuple(f for f in mono if f[0] not in shared): c for mono, c in p.terms.items()}) for p in (y, z)]
        pairs = ((a, b) for g in shared for a in g.support for p in rests for b in p.support if a.block == b.block)
        if not all(p.support for p in rests) or any(self._linked(a, b) for a, b in pairs):
            return y, z
        return rests[0], rests[1]

    def _function(self, z: Poly) -> Function | None:
        if z not in self._functions:
            self._functions[z] = _function_of(z)
        return self._functions[z]


def _along(p: Poly) -> Poly | None:
    """What a map is applied to in a multiple of it."""
    found = [g for mono in p.terms for g, _ in mono if isinstance(g, Along)]
    return found[0].inner if len(p.terms) == len(found) == 1 else None


def _data(aa: Poly, ab: Poly, bb: Poly) -> tuple[sp.Symbol, ...] | None:
    """The symbols s of three covariances κ s with one κ."""
    if not all(len(p.terms) == 1 for p in (aa, ab, bb)):
        return None
    monos, numbers = zip(*(next(iter(p.terms.items())) for p in (aa, ab, bb)), strict=True)
    shared = set(monos[0]) & set(monos[1]) & set(monos[2])
    rest = [[f for f in mono if f not in shared] for mono in monos]
    single = all(len(r) == 1 and r[0][1] == 1 and isinstance(r[0][0], Scalar) for r in rest)
    return tuple(r[0][0].symbol for r in rest) if single and len(set(numbers)) == 1 else None


def _function_of(z: Poly) -> Function | None:
    """z as a function of one centred form, or None."""
    scale = ONE
    if len(z.terms) == 1:
        scale = Poly({tuple(f for f in mono if not f[0].support): k for mono, k in z.terms.items()})
        z = Poly({tuple(f for f in mono if f[0].support): 1 for mono in z.terms})
    factors = list(dict.fromkeys(g for mono in z.terms for g, _ in mono if g.support))
    forms = random_arguments([f for f in factors if isinstance(f, Apply)] or factors)
    if len(forms) != 1 or linear_parts(forms[0])[0]:
        return None
    form, scalars = forms[0], dict[sp.Symbol, Gen]()
    bare = {g: sp.Dummy() for g in form.support}

    def generator(g: Gen) -> sp.Expr:
        if isinstance(g, Apply):
            return g.fn(*(U if a == form else to_sympy(a, generator) for a in g.args))
        if isinstance(g, Gaussian):
            return bare.setdefault(g, sp.Dummy())
        scalars[g.symbol] = g
        return g.symbol

    body = to_sympy(z, generator)
    if body.free_symbols & set(bare.values()):
        pivot = next(iter(bare.values()))
        line = to_sympy(form, generator)
        slope = sp.diff(line, pivot)
        body = sp.expand(body.subs(pivot, (U - line + slope * pivot) / slope))
    return None if body.free_symbols & set(bare.values()) else Function(scale, body, form, scalars)


def _shifted(centred: tuple[Array, Array, Relation], m1: Array, m2: Array) -> Relation:
    """The relation of z1 + m1 and z2 + m2, whose "covariance" is E of their product, from that of centred z1, z2."""
    q1, q2, r = centred
    a, b, c = m1 * m1, m2 * m2, m1 * m2
    return sum_relation([q1, a], [q2, b], [r, relation(np.zeros_like(c), c, stretch(a, b))])


class Gaps:
    """1 - |ρ| of the variables of atoms during one evaluation.

    Args:
        structure: of the limit that the atoms belong to.
        data: 1 - |ρ| and |x|/|x'| - 1 of two inputs, given the symbols of ⟨x,x⟩, ⟨x,x'⟩ and ⟨x',x'⟩, or None.
        sizes: of the positions of two inputs.
        near: gaps from which on those of the values will do.
        angle: what finds these.
        entries: the value of a polynomial at some entries of arrays of a shape; of all of them by default.
    """

    def __init__(self, structure: Structure, data: Data = lambda *symbols: None,
                 sizes: tuple[Sizes, Sizes] | None = None, near: float = NEAR,
                 angle: Angle = gap, entries: Some | None = None) -> None:  # fmt: skip
        self.structure, self.data, self.sizes, self.near, self._angle = structure, data, sizes, near, angle
        self._some = entries or (lambda p, shape, rows: np.broadcast_to(self._value(p), shape)[rows])
        self._entries: dict[tuple[Poly, Poly], list[Array]] = {}
        self._laws = Nested(lambda u, v: self._make(u, v, self._value))
        self._value: Valued = lambda p: 0.0

    def __call__(self, g: Expect, value: Valued) -> Array | None:
        """1 - |ρ| of the two variables of an atom whose body has kinks or is steep at their size, else None."""
        if len(g.forms) != 2 or not (kinks(g.body, g.variables) or self._steep(g, value)):
            return None
        self._entries[g.forms[0], g.forms[1]] = [value(g.entry(i, j)) for i, j in ((0, 0), (1, 1), (0, 1))]
        law = self._law(*g.forms, value)
        return None if law is None else law.gap

    @staticmethod
    def _steep(g: Expect, value: Valued) -> bool:
        """Whether a variance is so large that a smooth body is as good as kinked: c has lost digits of E φ'φ'."""
        try:
            return any(np.any(value(g.entry(i, i)) > STEEP) for i in range(2))
        except KeyError:
            return False

    def _law(self, u: Poly, v: Poly, value: Valued) -> Law | None:
        self._value = value
        return self._laws(u, v)

    def _make(self, u: Poly, v: Poly, value: Valued) -> Law | None:
        entries, parts = self._entries.get((u, v)), self.structure.parts(u, v)
        if entries is None and not parts:  # two constants
            return None
        try:
            if entries is None:
                values = [[value(p) for p in (part.aa, part.bb, part.ab)] for part in parts]
                entries = [sum(column) for column in zip(*values, strict=True)]
            q1, q2, c = entries
            law = Law(q1, q2, c, self._angle(q1, q2, c))
            found = law.gap < self.near
            if found.any():
                self._refine(law, parts, np.nonzero(found) if found.ndim else found, value)
        except KeyError:  # a covariance that the evaluated quantity does not depend on
            return None
        return law

    def _refine(self, law: Law, parts: list[Part], rows: Any, value: Valued) -> None:
        """Replace the entries of gap and stretch that the values have lost."""
        shape = law.gap.shape
        a, b, c = ([self._some(p, shape, rows) for p in of]
                   for of in zip(*((p.aa, p.bb, p.ab) for p in parts), strict=True))  # fmt: skip
        found = [self._relation(*of, shape, rows, value) for of in zip(parts, a, b, c, strict=True)]
        law.refine(rows, sum_relation(a, b, found))

    def _relation(self, part: Part, a: Array, b: Array, c: Array, shape: Any, rows: Any, value: Valued) -> Relation:
        """The relation of a part at some entries."""
        if part.same:
            return relation(np.zeros_like(c), c, np.zeros_like(c))
        if part.data and (known := self.data(*part.data)) is not None:
            t, e = (np.broadcast_to(x, shape)[rows] for x in known)
            return relation(t, c, e)
        if part.forms and (law := self._law(*part.forms, value)) is not None:
            centred, shifts = law.at(shape, rows), [linear_parts(f)[0] for f in part.forms]
            if not any(shifts):
                return centred[2]
            return _shifted(centred, *(np.broadcast_to(value(m), shape)[rows] for m in shifts))
        if part.inner is not None and self.sizes is not None and len(shape) == 3:
            return self._window(part.by, part.inner, shape, rows, value)
        if part.functions and (r := self._function(*part.functions, shape, rows, value)) is not None:
            f, g = part.functions
            return r if f.scale == g.scale else r._replace(stretch=stretch(a, b))
        return self._unknown(a, b, c)

    def _window(self, by: Any, inner: Part, shape: Any, rows: Any, value: Valued) -> Relation:
        """The relation of two window sums: of one side a position may be absent."""
        read = [by.axes.at(n) for n in self.sizes or ()]
        shape = (shape[0], *map(prod, read))
        values = [np.broadcast_to(value(p), shape) for p in (inner.aa, inner.bb, inner.ab)]
        parts: list[tuple[Array, Array, Relation]] = []
        for left, right in zip(*(table(by.map, n) for n in read), strict=True):
            p, q = left[rows[1]], right[rows[2]]
            at = rows[0], np.maximum(p, 0), np.maximum(q, 0)
            a, b, c = (x[at] for x in values)
            a, b, both = np.where(p >= 0, a, 0.0), np.where(q >= 0, b, 0.0), np.nonzero((p >= 0) & (q >= 0))
            found = Relation(np.ones_like(a), np.ones_like(a), np.where((a > 0) | (b > 0), stretch(a, b), 0.0))
            for whole, part in zip(found, self._relation(inner, a[both], b[both], c[both], shape,
                                                         tuple(x[both] for x in at), value), strict=True):  # fmt: skip
                whole[both] = part
            parts.append((a, b, found))
        return sum_relation(*map(list, zip(*parts, strict=True)))  # type: ignore[arg-type]

    def _unknown(self, a: Array, b: Array, c: Array) -> Relation:
        """From the values: what rounding cannot tell from equal variables is taken for such."""
        found = gap(a, b, c)
        return relation(np.where(found < LOST, 0.0, found), c, stretch(a, b))

    def _function(self, f: Function, g: Function, shape: Any, rows: Any, value: Valued) -> Relation | None:
        law = self._law(f.form, g.form, value)
        scalars = {s: value(monomial(h)) for s, h in f.scalars.items()}
        if law is None or any(np.ndim(x) for x in scalars.values()):
            return None
        return self._of_function(f.body, scalars, *law.at(shape, rows))

    def _of_function(
        self, body: sp.Expr, scalars: Mapping[sp.Symbol, Array], q1: Array, q2: Array, r: Relation
    ) -> Relation | None:
        body = body.xreplace({s: sp.Float(float(x)) for s, x in scalars.items()})
        found = function_relation(body, U, q1, q2, r)
        return kinked_relation(body, U, q1, q2, r) if found is None else found
