"""1 - |ρ| of two Gaussian forms from the structure of a limit, where covariances have lost it.

Two pre-activations u, v are sums of independent parts: biases and embeddings of data, and Ẑ's of matrices, whose
covariance σ_W² E Z^y Z^y' is that of functions F(u'), F(v') of earlier forms.  ``Structure`` finds the parts, ``Gaps``
computes with them.  What has no such structure keeps the 1 - |c|/√(q q') of its values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
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
from tensorprog.limit.deep import Nested
from tensorprog.limit.fields import Field

Array = Any
Form = dict[Gaussian, Poly]
Valued = Callable[[Poly], Array]
Data = Callable[[sp.Symbol, sp.Symbol, sp.Symbol], tuple[Array, Array] | None]
U = variables(1)[0]
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
    ⟨x',x'⟩, ``functions`` for F(u'), F(v') and ``forms`` for affine u', v'.
    """

    aa: Poly
    ab: Poly
    bb: Poly
    same: bool = False
    data: tuple[sp.Symbol, ...] | None = None
    functions: tuple[Function, Function] | None = None
    forms: tuple[Poly, Poly] | None = None


@dataclass(frozen=True)
class Law:
    """The law of a pair of forms as arrays: variances, covariance, 1 - |ρ| and √(q1/q2) - 1."""

    q1: Array
    q2: Array
    c: Array
    gap: Array
    stretch: Array

    def at(self, shape: tuple[int, ...], rows: Any) -> tuple[Array, Array, Relation]:
        """Variances and relation of some entries."""
        q1, q2, c, t, e = (np.broadcast_to(x, shape)[rows] for x in (self.q1, self.q2, self.c, self.gap, self.stretch))
        return q1, q2, relation(t, c, e)


class Structure:
    """How pairs of forms of a limit are made, found once per pair."""

    def __init__(self, fields: Mapping[Any, Field], cov: Callable[[Gaussian, Gaussian], Poly]) -> None:
        self.fields, self._cov = fields, cov
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
            linked = [m for m in groups if any(h.block == g.block and self._linked(g, h) for h in m)]
            groups = [m for m in groups if m not in linked] + [[g, *(h for m in linked for h in m)]]
        for members in groups:
            yield tuple({g: form[g] for g in members if g in form} for form in (left, right))  # type: ignore[misc]

    def _linked(self, g: Gaussian, h: Gaussian) -> bool:
        return g.block in self.fields or bool(self._cov(g, h))

    def _part(self, left: Form, right: Form) -> Part:
        covs = (
            add_all(x * y * self._cov(a, b) for a, x in first.items() for b, y in second.items())
            for first, second in ((left, left), (left, right), (right, right))
        )
        aa, ab, bb = covs
        if left == right:
            return Part(aa, ab, bb, same=True)
        if not (left and right and ab):
            return Part(aa, ab, bb)
        block = next(iter(left)).block
        if block not in self.fields:
            return Part(aa, ab, bb, data=_data(aa, ab, bb))
        y, z = (add_all(k * self.fields[block].z[g] for g, k in form.items()) for form in (left, right))
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
    """

    def __init__(self, structure: Structure, data: Data = lambda *symbols: None) -> None:
        self.structure, self.data = structure, data
        self._laws = Nested(lambda u, v: self._make(u, v, self._value))
        self._value: Valued = lambda p: 0.0

    def __call__(self, g: Expect, value: Valued) -> Array | None:
        """1 - |ρ| of the two variables of an atom whose body has kinks or is steep at their size, else None."""
        if len(g.forms) != 2 or not (kinks(g.body, g.variables) or self._steep(g, value)):
            return None
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
        parts = self.structure.parts(u, v)
        try:
            values = [[value(p) for p in (part.aa, part.bb, part.ab)] for part in parts]
        except KeyError:  # a covariance that the evaluated quantity does not depend on
            return None
        q1, q2, c = (sum(column) for column in zip(*values, strict=True))
        gaps = gap(q1, q2, c)
        law = Law(q1, q2, c, gaps, np.copy(np.broadcast_to(stretch(q1, q2), gaps.shape)))
        found = law.gap < NEAR
        if found.any():
            self._refine(law, parts, values, np.nonzero(found) if found.ndim else found, value)
        return law

    def _refine(self, law: Law, parts: list[Part], values: list[list[Array]], rows: Any, value: Valued) -> None:
        """Replace the entries of gap and stretch that the values have lost."""
        shape = law.gap.shape
        a, b, c = ([np.broadcast_to(x, shape)[rows] for x in column] for column in zip(*values, strict=True))
        found = [self._relation(*of, shape, rows, value) for of in zip(parts, a, b, c, strict=True)]
        total = sum_relation(a, b, found)
        law.gap[rows], law.stretch[rows] = total.gap, total.stretch

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
        if part.functions and (r := self._function(*part.functions, shape, rows, value)) is not None:
            f, g = part.functions
            return r if f.scale == g.scale else r._replace(stretch=stretch(a, b))
        return self._unknown(a, b, c)

    def _unknown(self, a: Array, b: Array, c: Array) -> Relation:
        """From the values."""
        return relation(gap(a, b, c), c, stretch(a, b))

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
