"""The straight-line equations of one derivation, in generators that derivations of all sizes share.

A quantity such as Σ^(2,3,1)(x,x') becomes a ``Ref`` with a ``Family`` (the letter, the pair of inputs) and an index
(layer, time of the first vector, layer, time of the second).  Equal formulas of different derivations are then
equal polynomials.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import sympy as sp

from tensorprog.algebra import ONE, Apply, Gen, Poly, Scalar, add_all, monomial, to_sympy
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.names import Place
from tensorprog.errors import FoldError
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.ir.axes import TOTAL, Axes, Map, Pairs, Reading
from tensorprog.limit.equations import Name, children, reachable
from tensorprog.limit.positions import Along, Positional, Weighed
from tensorprog.printing import NameSymbol, inner, reads_data

Index = tuple[int | None, ...]
TRANSPOSED = [  # what kernels are linear in: gradient covariances and tangent kernels of layers, and of sums of some
    (("Π", r"\Pi"), ("Θ", r"\Theta")),
    (("Π̂", r"\hat{\Pi}"), ("Θ̂", r"\hat{\Theta}")),
    (("D", "D"), ("Ψ", r"\Psi")),
    (("B", "B"), ("Φ", r"\Phi")),
]
LINEAR = {a[0]: b for pair in TRANSPOSED for a, b in (pair, pair[::-1])}  # with the letters of the transposed


@dataclass(frozen=True)
class Family:
    """All quantities of one letter and pair of inputs; ``copy`` tells apart those with the same index.

    ``at`` says which of the two vectors has positions, ``view`` by what map data are read, and whether side by side;
    ``names`` are what data are called where an input has several arrays.  ``single`` ones are scalars of one input.
    """

    head: str
    tex: str
    pair: tuple[str, str]
    copy: int = 1
    at: tuple[bool, bool] = (False, False)
    view: tuple[Map, bool] | None = None
    names: tuple[str, str] | None = None
    single: bool = False

    @property
    def linear(self) -> bool:
        """Whether kernels are sums over these quantities, such as Π or Θ."""
        return self.head.partition("_")[0] in LINEAR


GRAM = ("⟨⟩", r"\langle\rangle")


class Ref(Scalar):
    """A quantity of a family at an index."""

    __slots__ = ("family", "label", "where")

    def __init__(self, family: Family, where: Index) -> None:
        self.label = NameSymbol(f"{family.head}{list(where)}{family.names or family.pair}{family.copy}")
        super().__init__(self.label)
        self.family, self.where = family, where

    def made_of(self) -> tuple[Any, ...]:
        return self.family, self.where


class Store:
    """Interns references, scalars and atoms, so that equal formulas are equal polynomials."""

    def __init__(self) -> None:
        self._known: dict[Any, Poly] = {}
        self.letters: dict[tuple[str, int], Counter[str]] = {}  # of quantities with a role: what stands below them

    def intern(self, make: Callable[..., Gen], *key: Any) -> Poly:
        """The generator ``make(*key)`` as a polynomial, made once."""
        full = (make, *key)
        if full not in self._known:
            self._known[full] = monomial(make(*key))
        return self._known[full]

    def ref(self, family: Family, index: Index) -> Poly:
        """A quantity as a polynomial."""
        return self.intern(Ref, family, index)

    def rebuild(self, p: Poly, leaf: Callable[[Gen], Poly | None], seen: dict[Gen, Poly] | None = None) -> Poly:
        """p with generators replaced by ``leaf`` (kept where it gives None), also inside atoms."""
        seen = {} if seen is None else seen
        terms = []
        for mono, c in p.terms.items():
            term = Poly({(): c})
            for g, e in mono:
                if g not in seen:
                    seen[g] = self._generator(g, leaf, seen)
                term = term * seen[g] ** e
            terms.append(term)
        return add_all(terms)

    def _generator(self, g: Gen, leaf: Callable[[Gen], Poly | None], seen: dict[Gen, Poly]) -> Poly:
        found = leaf(g)
        if found is not None:
            return found
        if isinstance(g, Expect):
            cov = tuple(self.rebuild(c, leaf, seen) for c in g.cov)
            mean = tuple(self.rebuild(m, leaf, seen) for m in g.mean)
            scalars = {s: self.rebuild(monomial(h), leaf, seen) for s, h in g.scalars.items()}
            return self.atom(g.body, cov, mean, scalars)
        if isinstance(g, Apply):
            return self.intern(Apply, g.fn, tuple(self.rebuild(a, leaf, seen) for a in g.args))
        if isinstance(g, Along):
            return self.along(g, self.rebuild(g.inner, leaf, seen))
        if isinstance(g, Positional):
            fields = (getattr(g, name) for name in g.FIELDS)
            return self.intern(
                type(g), *(self.rebuild(v, leaf, seen) if isinstance(v, Poly) else _anywhere(v) for v in fields)
            )
        return monomial(g) if isinstance(g, Ref) else self.intern(Scalar, g.symbol)

    def along(self, like: Along, inner: Poly, turned: bool = False) -> Poly:
        """The map of ``like``, or with ``turned`` its transposed one, applied to an array. Constants stand outside."""
        transpose, m = like.transpose != turned, like.by.map
        if m == TOTAL and transpose:
            return inner
        if len(inner.terms) != 1:
            return self._mapped(like, transpose, inner) if inner else inner
        ((mono, c),) = inner.terms.items()
        constant = tuple(f for f in mono if type(f[0]) is Scalar and not reads_data(f[0].symbol))
        array = tuple(f for f in mono if f not in constant)
        return Poly({constant: c}) * self._mapped(like, transpose, Poly({array: 1}))

    def weighed(self, like: Weighed, inner: Poly) -> Poly:
        """The transposed sum over positions of ``like``, with the same scalars."""
        return self.intern(Weighed, like.weights, like.axes, like.how, not like.transpose, inner) if inner else inner

    def _mapped(self, like: Along, transpose: bool, inner: Poly) -> Poly:
        return self.intern(Along, Reading(like.by.map, None), like.how, transpose, inner, like.point)

    def atom(self, body: sp.Expr, cov: Any, mean: Any, scalars: dict[sp.Expr, Poly]) -> Poly:
        """E body(u) with its variables in the order that all sizes share."""
        gens = {s: _single(p) for s, p in scalars.items()}
        body = body.xreplace({s: g.symbol for s, g in gens.items()})
        key = min((_permuted(body, cov, mean, o) for o in _orders(len(mean))), key=lambda k: _sort_key(*k))
        return self.intern(_expect, *key, tuple(sorted(gens.values(), key=lambda g: g.index)))


def _anywhere(v: Any) -> Any:
    """Axes without the input that they belong to."""
    return Pairs(*(replace(a, source="") for a in (v.left, v.right))) if isinstance(v, Pairs) else v


def _single(p: Poly) -> Gen:
    ((mono, c),) = p.terms.items()
    assert c == 1 and len(mono) == 1 and mono[0][1] == 1, "a scalar inside an atom is one generator"
    return mono[0][0]  # type: ignore[no-any-return]


def _expect(body: sp.Expr, cov: tuple[Poly, ...], mean: tuple[Poly, ...], scalars: tuple[Gen, ...]) -> Expect:
    return Expect(body, cov, mean, {g.symbol: g for g in scalars})


def variables_of(derived: Derivation) -> int:
    """The most Gaussian variables of one expectation of a derivation."""
    return max((len(g.mean) for g in reachable([derived.poly]) if isinstance(g, Expect)), default=0)


def _orders(k: int) -> list[tuple[int, ...]]:
    return list(itertools.permutations(range(k))) if k <= 3 else [tuple(range(k))]


def _permuted(body: sp.Expr, cov: Any, mean: Any, order: tuple[int, ...]) -> tuple[sp.Expr, Any, Any]:
    """The same expectation with its variables in another order."""
    k, us = len(mean), variables(len(mean))
    at = {(i, j): c for (i, j), c in zip(((i, j) for i in range(k) for j in range(i, k)), cov, strict=True)}
    moved = body.xreplace({us[o]: us[i] for i, o in enumerate(order)})
    pairs = [(order[i], order[j]) for i in range(k) for j in range(i, k)]
    return moved, tuple(at[min(p), max(p)] for p in pairs), tuple(mean[o] for o in order)


def _sort_key(body: sp.Expr, cov: Any, mean: Any) -> Any:
    return [poly_key(c) for c in (*cov, *mean)], str(body)


def poly_key(p: Poly) -> Any:
    """A key that orders polynomials by what they are, in the same way at every size."""
    return sorted((sorted((gen_key(g), e) for g, e in mono), str(c)) for mono, c in p.terms.items())


def gen_key(g: Gen) -> Any:
    """A key that orders generators: quantities by family and index, others by text."""
    family = getattr(g, "family", None)
    if family is None:
        return 1, str(g.symbol), (), "", ""
    return 0, family.head, family.pair, [_index_key(i) for i in getattr(g, "where", ())], str(g.symbol)


def _index_key(i: int | None) -> int:
    return -1 if i is None else i


def refs_of(p: Poly) -> set[Ref]:
    """All references in a polynomial, also inside its atoms."""
    found: set[Ref] = set()
    todo: list[Gen] = [g for m in p.terms for g, _ in m]
    seen: set[Gen] = set()
    while todo:
        g = todo.pop()
        if g in seen:
            continue
        seen.add(g)
        if isinstance(g, Ref):
            found.add(g)
        todo.extend(h for q in children(g) for m in q.terms for h, _ in m)
    return found


@dataclass
class Straight:
    """Equations by quantity, in dependency order, and the kernel's own."""

    equations: dict[Ref, Poly] = field(default_factory=dict)
    kernel: Poly = ONE

    @property
    def linear(self) -> list[Ref]:
        """The quantities that the kernel is linear in."""
        return [r for r in self.equations if r.family.linear]

    def poly(self) -> Poly:
        """The kernel as a polynomial in names, to be compared with a derivation."""
        names: dict[Ref, Poly] = {}
        store = Store()
        for r, p in self.equations.items():
            names[r] = monomial(Name(r.label, store.rebuild(p, lambda g: leaf_name(g, names)), r.family.head))
        return store.rebuild(self.kernel, lambda g: leaf_name(g, names))


def leaf_name(g: Gen, names: dict[Ref, Poly]) -> Poly | None:
    """The name of a quantity; a Gram entry keeps its symbol of the data."""
    if isinstance(g, Ref) and g.family.head == GRAM[0]:
        return monomial(Scalar(gram_symbol(g)))
    return names[g] if isinstance(g, Ref) else None


def gram_symbol(g: Ref) -> sp.Symbol:
    """⟨x_t,x'_t'⟩ as the trace of a network calls it."""
    if g.family.names is not None:
        return inner(*g.family.names)
    (a, b), (_, t, _, t2) = g.family.pair, g.where
    by = "" if g.family.view is None else f"·{g.family.view[0]}"
    return inner(f"{a}{by or t or ''}", f"{b}{by or t2 or ''}")


def read(derivation: Any, store: Store, period: int = 0) -> Straight:
    """The equations that a derivation's kernel needs.

    Args:
        derivation: at one size.
        store: shared by all sizes.
        period: how many instructions a layer has, where roles are told apart by it.

    Raises:
        FoldError: a quantity of the derivation has no place (layer, time, input) in its network.
    """
    system = Straight()
    refs: dict[Gen, Poly] = {}
    ends, free = [data[0] for data in derivation.trace.inputs], set[Ref]()
    grams = {s: _gram(p, q) for s, (p, q) in derivation.trace.grams.items()}
    names = [g for g in reachable([derivation.poly]) if isinstance(g, Name)]
    located = {g: _located(g, derivation) for g in names}
    roles = _roles(located, derivation, period)
    for g, number in roles.items():
        count = store.letters.setdefault((located[g][0].head, number), Counter())
        count[derivation.limit.system.namer.letters(*g.about)] += 1
    used: dict[tuple[Family, Index], int] = {}

    def leaf(g: Gen) -> Poly | None:
        if isinstance(g, Name):
            return refs[g]
        return store.ref(*grams[g.symbol]) if g.symbol in grams else None

    seen: dict[Gen, Poly] = {}
    for g in names:
        family, index = located[g]
        p = store.rebuild(g.definition, leaf, seen)
        if (
            g not in roles and refs_of(p) <= free
        ):  # the same for all data, such as gradients of linear layers: about both inputs
            family = replace(family, pair=(ends[0].label, ends[-1].label))
        copy = used[family, index] = used.get((family, index), 0) + 1
        refs[g] = store.ref(replace(family, copy=roles.get(g, copy)), index)
        ref = _single(refs[g])
        assert isinstance(ref, Ref)
        system.equations[ref] = p
        if g not in roles and refs_of(p) <= free:
            free.add(ref)
    system.kernel = store.rebuild(derivation.poly, leaf, seen)
    return system


def _roles(located: Mapping[Name, tuple[Family, Index]], derivation: Derivation, period: int) -> dict[Name, int]:
    """Numbers of quantities that say where in their layer stands what they are about."""
    role = getattr(derivation.limit.system.namer, "role", None)
    found: dict[Name, int] = {}
    used: dict[Any, int] = {}
    if role is None:
        return found
    for g, place in located.items():
        key = (*place, role(*g.about, period))
        again = used[key] = used.get(key, 0) + 1
        found[g] = _number(*key[-1], again)
    return found


PARTS = 10**6


def _number(*parts: int) -> int:
    """One number for several, each less than half a million, the first above all."""
    return sum((part + PARTS // 2) * PARTS**i for i, part in enumerate(reversed(parts)))


def _gram(p: Any, q: Any) -> tuple[Family, Index]:
    at = (p.axes is not None, q.axes is not None)
    view = None if p.by is None else (p.by.map, True)
    names = None if p.part is None else (str(p), str(q))
    return Family(*GRAM, (p.label, q.label), at=at, view=view, names=names), (None, p.time, None, q.time)


def _scalar(place: Place, axes: Axes | Pairs | None, head: str) -> tuple[Family, Index]:
    """A scalar of one input: for pairs of positions, for every position, or one number."""
    at = (axes is not None, isinstance(axes, Pairs))
    family = Family(head, head, (place.owner, place.owner), at=at, single=True)
    return family, (place.layer, place.time, place.layer, place.time)


def _order(place: Place) -> tuple[bool, str, int, int]:
    """Covariances are symmetric: of two places in one input the earlier is named first."""
    return len(place.owner) > 1, place.owner, place.layer or 0, place.time or 0


def _located(g: Name, derivation: Derivation) -> tuple[Family, Index]:
    a, b = g.about
    namer: Any = derivation.limit.system.namer
    if g.kind == "value" and a is not None and (place := namer.place(a)) is not None:
        return _scalar(place, derivation.limit.program.axes(a), namer.stem(a))
    places: tuple[Place, Place] | None = namer.places(a, b) if a is not None and b is not None else None
    if places is None or a is None or b is None:
        raise FoldError(
            f"{g.symbol} = {to_sympy(g.definition)} has no place in the network: neither layer, time nor input is known"
        )
    p, q = places if g.kind == "zdot" else sorted(places, key=_order)
    axes = {namer.place(v).owner: derivation.limit.program.axes(v) is not None for v in (a, b)}
    head, tex = namer.head(g.kind, a, b)
    family = Family(head, tex, (p.owner, q.owner), at=(axes[p.owner], axes[q.owner]))
    return family, (p.layer, p.time, q.layer, q.time)
