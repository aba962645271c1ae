"""Finding the fold: equations of equal form up to an index shift become one, with a range of indices.

Every equation is written relative to its own index; equal ones form a ``Case`` of their family, whose indices are
described by boxes with bounds 1, L, T, .. that hold at all sizes the equations were derived at.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

from tensorprog.algebra import Gen, Poly, Scalar, add_all, to_sympy
from tensorprog.errors import FoldError
from tensorprog.expectations.atoms import Expect
from tensorprog.printing import NameSymbol
from tensorprog.recursions.ranges import Bound, Box, Point, Sizes, cover, cover_sides, shift_between
from tensorprog.recursions.rewrite import terms_of
from tensorprog.recursions.scales import at_size, unified
from tensorprog.recursions.straight import GRAM, Family, Index, Ref, Store, Straight, refs_of

Shift = tuple[Bound | None, ...]
Forms = dict[Poly, dict[Sizes, set[Index]]]  # where each form of equation was found


class At(Scalar):
    """A quantity at an index relative to the equation it stands in.

    ``shift`` has four places like an index; a bound counts from coordinate ``at`` of the equation's own index.
    """

    __slots__ = ("family", "shift")

    def __init__(self, family: Family, shift: Shift) -> None:
        super().__init__(NameSymbol(f"{family.head}{family.pair}{family.copy}{[_code(s) for s in shift]}"))
        self.family, self.shift = family, shift

    def made_of(self) -> tuple[Any, ...]:
        return self.family, self.shift

    def locate(self, own: Index, sizes: Mapping[str, int]) -> Index:
        """The absolute index."""
        return tuple(None if b is None else b(sizes, own) for b in self.shift)  # type: ignore[arg-type]


def _code(b: Bound | None) -> Any:
    return None if b is None else (b.base, b.shift, b.at)


@dataclass(frozen=True)
class Layout:
    """Which of a family's four index places are free, and how the others follow from one of them."""

    free: tuple[int, ...]
    fixed: tuple[tuple[int, Bound], ...]

    def root(self, place: int) -> tuple[int, Bound]:
        """The free place that an index place follows, and by how much."""
        return next(((b.at, Bound(b.base, b.shift)) for k, b in self.fixed if k == place), (place, Bound()))

    def index(self, point: Point, sizes: Mapping[str, int]) -> Index:
        """The full index of a point of free coordinates."""
        full: list[int | None] = [None] * 4
        for k, value in zip(self.free, point, strict=True):
            full[k] = value
        for k, bound in self.fixed:
            base = 0 if bound.at < 0 else full[bound.at] or 0
            full[k] = base + Bound(bound.base, bound.shift)(sizes)
        return tuple(full)


@dataclass(frozen=True)
class Case:
    """One equation: ``family`` at every point of ``box`` is ``form``, a polynomial in ``At``."""

    family: Family
    box: Box
    form: Poly


@dataclass
class Folded:
    """Equations with index ranges; the kernel is the sum of ``terms`` over their boxes.

    To evaluate or compile: for every size, each case gives one assignment per point, in an order in which what
    ``At.locate`` refers to comes first; a ``⟨⟩`` reference is an inner product of data.
    """

    sizes: tuple[str, ...]
    layouts: dict[Family, Layout] = field(default_factory=dict)
    cases: list[Case] = field(default_factory=list)
    terms: list[Case] = field(default_factory=list)


# ---- relative indices ------------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """Where an equation stands: the inputs it is about and its index.

    With ``anchored``, what stands at the start (index 0 or 1) is counted from there by equations that are two or more
    further on, such as the input that enters at every layer; else everything is counted from the equation. With
    ``ends``, sizes, what is about other inputs is counted from the ends of those.
    """

    pair: tuple[str, str]
    own: Index
    anchored: bool = False
    ends: Mapping[str, int] = field(default_factory=dict)
    layouts: Mapping[Family, Layout] = field(default_factory=dict)

    def at(self, value: int, i: int, place: int) -> Bound:
        """Index i, seen from coordinate ``place`` of the equation, which is ``value``."""
        return Bound("", i) if self.anchored and i <= 1 < value - i else Bound("", i - value, place)

    def from_end(self, r: Ref, k: int, i: int) -> Bound | None:
        """Index i at place k of r, which is about another input: a time, or the layer of weights of a time."""
        end = "T" if r.family.pair[k // 2] == "x" else "T'"
        layout = self.layouts.get(r.family)
        timed = k % 2 == 1 or (layout is not None and layout.root(k) == layout.root(k + 1))
        return Bound(end, i - self.ends[end]) if timed and end in self.ends else None


def relative(r: Ref, view: View) -> Shift:
    """The index of r as an equation sees it."""
    return tuple(_seen(r, k, i, view) for k, i in enumerate(r.where))


def _seen(r: Ref, k: int, i: int | None, view: View) -> Bound | None:
    if i is None:
        return None
    (pair, own), kind, owner = (view.pair, view.own), k % 2, r.family.pair[k // 2]
    if owner not in pair and (end := view.from_end(r, k, i)) is not None:
        return end
    places = [k // 2] if r.family.pair == pair else [0, 1]
    for place in sorted(places, key=lambda place: pair[place] != owner):  # of the same input first
        value = own[2 * place + kind]
        if value is not None and (pair[place] == owner or kind == 0):
            return view.at(value, i, 2 * place + kind)
    return Bound("", i)


def template(p: Poly, view: View, store: Store) -> Poly:
    """An equation with its references relative to its own index."""

    def leaf(g: Gen) -> Poly | None:
        if isinstance(g, Expect):
            return _pair_atom(g, view, store)
        return store.intern(At, g.family, relative(g, view)) if isinstance(g, Ref) else None

    return store.rebuild(p, leaf)


def _pair_atom(g: Expect, view: View, store: Store) -> Poly | None:
    """An atom of Σ^(s,s), Σ^(s,t), Σ^(t,t) of one input: the variances are counted from where s and t are."""
    pair = view.pair
    refs = [_only_ref(c) for c in g.cov]
    if len(g.mean) != 2 or any(g.mean) or None in refs or pair[0] != pair[1]:
        return None
    first, cross, second = (r for r in refs if r is not None)
    a, b = cross.where[:2], cross.where[2:]
    if not (first.family.pair == cross.family.pair == second.family.pair == pair):
        return None
    if (first.where, second.where) == ((*b, *b), (*a, *a)):
        first, second, swapped = second, first, True
    elif (first.where, second.where) == ((*a, *a), (*b, *b)):
        swapped = False
    else:
        return None
    shift = relative(cross, view)
    shifts = [(*shift[:2], *shift[:2]), shift, (*shift[2:], *shift[2:])]
    cov = [store.intern(At, r.family, s) for r, s in zip((first, cross, second), shifts, strict=True)]
    return store.atom(
        g.body, tuple(cov[::-1] if swapped else cov), g.mean, {s: store.intern(Scalar, s) for s in g.scalars}
    )


def _only_ref(p: Poly) -> Ref | None:
    gens = [g for m in p.terms for g, e in m if e == 1]
    return gens[0] if list(p.terms.values()) == [1] and len(gens) == 1 and isinstance(gens[0], Ref) else None


# ---- the fold --------------------------------------------------------------------------------------


def fold(systems: Mapping[Sizes, Straight], store: Store, anchored: bool = False, sided: bool = False) -> Folded:
    """One indexed system that gives all of these.

    Args:
        systems: straight-line systems in the same store, by size.
        anchored: whether far equations count what stands at the start from there; see ``View``.
        sided: whether equations may differ on, above and below the diagonal of two layers.

    Raises:
        FoldError: equations do not repeat; names the first that differ.
    """
    result = Folded(tuple(k for k, _ in next(iter(systems))))
    found: dict[Family, Forms] = defaultdict(lambda: defaultdict(lambda: defaultdict(set)))
    boxes_of = cover_sides if sided else cover
    for sizes, system in systems.items():
        for r, p in system.equations.items():
            found[r.family][template(p, View(r.family.pair, r.where, anchored), store)][sizes].add(r.where)
    for family, exact in found.items():
        forms = unified(exact, store)
        indices = {s: {i for by_size in forms.values() for i in by_size.get(s, ())} for s in systems}
        layout = result.layouts[family] = _layout(indices)
        for form, by_size in forms.items():
            points = {s: frozenset(tuple(i[k] or 0 for k in layout.free) for i in by_size.get(s, ())) for s in systems}
            boxes = boxes_of(points)
            if boxes is None:
                raise _unfolded(family, forms, form, systems, store)
            result.cases += [Case(family, box, form) for box in boxes]
    result.terms = _kernel_terms(systems, result, store, anchored)
    return result


def _layout(indices: Mapping[Sizes, set[Index]]) -> Layout:
    free: list[int] = []
    fixed: list[tuple[int, Bound]] = []
    present = [k for k in range(4) if any(i[k] is not None for s in indices.values() for i in s)]
    for k in present:
        for j in free:
            bound = shift_between({s: {(i[j] or 0, i[k] or 0) for i in found} for s, found in indices.items()})
            if bound is not None:
                fixed.append((k, Bound(bound.base, bound.shift, j)))
                break
        else:
            free.append(k)
    return Layout(tuple(free), tuple(fixed))


def _unfolded(family: Family, forms: Any, bad: Poly, systems: Mapping[Sizes, Straight], store: Store) -> FoldError:
    """The first two equations that should be alike and are not: neighbours, or one equation at two sizes."""
    largest = max(systems, key=lambda s: len(systems[s].equations))
    at = {r.where: (r, p) for r, p in systems[largest].equations.items() if r.family == family}
    own = {i: form for form, by_size in forms.items() for i in by_size.get(largest, ())}
    order = sorted(at, key=str)
    pairs = [(i, j) for i, j in pairwise(order) if own[i] != own[j] and bad in (own[i], own[j])]
    shown = [(largest, *at[i]) for i in (pairs[-1] if pairs else order[:1])]
    other = next((s for s in systems if s != largest and not forms[bad].get(s)), None)
    without = next((s for s in systems if not any(by_size.get(s) for by_size in forms.values())), None)
    if without is not None:
        with_it = next(s for s in systems if any(by_size.get(s) for by_size in forms.values()))
        return FoldError(
            f"{family.head}({family.pair[0]},{family.pair[1]}) occurs at {_size(with_it)} and not at {_size(without)}: "
            f"the kernel is {describe_poly(systems[with_it].kernel)} at the first and "
            f"{describe_poly(systems[without].kernel)} at the second"
        )
    if not forms[bad].get(largest) or (other and not pairs):
        size = next(s for s, found in forms[bad].items() if found)
        where = min(forms[bad][size], key=str)
        shown = [(s, r, p) for s in systems for r, p in systems[s].equations.items()
                 if r.family == family and r.where == where and (s == size or not forms[bad].get(s))][:2]  # fmt: skip
    lines = "\n".join(f"  at {_size(s)}: {describe(r)} = {describe_poly(p)}"
                      for s, r, p in shown)  # fmt: skip
    return FoldError(
        f"the equations of {family.head}({family.pair[0]},{family.pair[1]}) do not repeat with an index shift; "
        f"these differ, and no index range says where each form holds:\n{lines}"
    )


def _size(s: Sizes) -> str:
    return ", ".join(f"{k} = {v}" for k, v in s)


def describe(r: Ref) -> str:
    """Σ^(2,3)(x,x') of a reference."""
    (a, b), (l, t, l2, t2) = r.family.pair, r.where
    if r.family.head == GRAM[0]:
        return f"⟨{a}{t or ''},{b}{t2 or ''}⟩"
    layers = [] if l is None else [l] if l == l2 else [l, l2]
    index = ",".join(str(i) for i in [*layers, *([] if t is None else [t, t2])])
    copy = f".{r.family.copy}" if r.family.copy > 1 else ""
    return f"{r.family.head}{copy}^({index})({a},{b})"


def describe_poly(p: Poly) -> str:
    """A polynomial with its references as they would be printed."""
    text = str(to_sympy(p))
    for r in sorted(refs_of(p), key=lambda r: -len(str(r.symbol))):
        text = text.replace(str(r.symbol), describe(r))
    return text


# ---- the kernel ------------------------------------------------------------------------------------


def _kernel_terms(systems: Mapping[Sizes, Straight], folded: Folded, store: Store, anchored: bool) -> list[Case]:
    """The kernel as sums of terms anchored at one of their quantities, over index ranges."""
    found: dict[tuple[Family | None, Poly], dict[Sizes, set[Index]]] = defaultdict(lambda: defaultdict(set))
    for sizes, system in systems.items():
        for term in terms_of(system.kernel):
            anchor = _anchor(term)
            own = anchor.where if anchor else ()
            view = View(anchor.family.pair if anchor else ("", ""), own, anchored, dict(sizes), folded.layouts)
            found[anchor.family if anchor else None, template(term, view, store)][sizes].add(own)
    result = []
    for family, form, by_size in _unified(found, store):
        if family is None:
            boxes: list[Box] | None = [Box()] if all(by_size.get(s) for s in systems) else None
        else:
            layout = folded.layouts.get(family) or _layout({s: by_size.get(s, set()) for s in systems})
            folded.layouts.setdefault(family, layout)
            points = {s: frozenset(tuple(i[k] or 0 for k in layout.free) for i in by_size.get(s, ())) for s in systems}
            boxes = cover(points)
        if boxes is None:
            raise _unfolded_kernel(family, form, systems)
        result += [Case(family or Family(*GRAM, ("", "")), box, form) for box in boxes]
    return result


def _unified(found: Mapping[tuple[Family | None, Poly], dict[Sizes, set[Index]]],
             store: Store) -> Iterator[tuple[Family | None, Poly, dict[Sizes, set[Index]]]]:  # fmt: skip
    by_family: dict[Family | None, dict[Poly, dict[Sizes, set[Index]]]] = defaultdict(dict)
    for (family, form), by_size in found.items():
        by_family[family][form] = by_size
    for family, forms in by_family.items():
        yield from ((family, form, by_size) for form, by_size in unified(forms, store).items())


def _anchor(term: Poly) -> Ref | None:
    """The quantity whose index a term of the kernel is counted by: Π or Θ, else one about both inputs."""
    return max((r for r in refs_of(term) if any(i is not None for i in r.where)), key=_weight, default=None)


def _weight(r: Ref) -> tuple[bool, bool, bool, bool, tuple[str, str], str]:
    a, b = r.family.pair
    return r.family.linear, a != b, r.where[:2] != r.where[2:], r.family.head != GRAM[0], (a, b), str(r)


def _unfolded_kernel(family: Family | None, form: Poly, systems: Mapping[Sizes, Straight]) -> FoldError:
    (s1, k1), (s2, k2) = sorted(systems.items(), key=lambda e: [v for _, v in e[0]])[:2]
    lines = "\n".join(f"  at {_size(s)}: {describe_poly(p.kernel)}" for s, p in ((s1, k1), (s2, k2)))
    return FoldError(f"the terms of the kernel do not repeat with its size:\n{lines}")


# ---- and back --------------------------------------------------------------------------------------


def unroll(folded: Folded, sizes: Mapping[str, int], store: Store) -> Straight:
    """The straight-line equations at any size, those that the kernel needs, in dependency order."""
    definitions: dict[Ref, Poly] = {}
    for case in folded.cases:
        layout = folded.layouts[case.family]
        for point in case.box.points(sizes):
            own = layout.index(point, sizes)
            definitions[_ref(store, case.family, own)] = place(case.form, own, sizes, store)
    terms = []
    for case in folded.terms:
        anchor = folded.layouts.get(case.family)
        for point in case.box.points(sizes):
            own = anchor.index(point, sizes) if anchor else ()
            terms.append(place(case.form, own, sizes, store))
    kernel = add_all(terms)
    return Straight({r: definitions[r] for r in _ordered(kernel, definitions)}, kernel)


def place(form: Poly, own: Index, sizes: Mapping[str, int], store: Store) -> Poly:
    """A template at an index."""

    def leaf(g: Gen) -> Poly | None:
        return store.ref(g.family, g.locate(own, sizes)) if isinstance(g, At) else at_size(g, sizes)

    return store.rebuild(form, leaf)


def _ref(store: Store, family: Family, index: Index) -> Ref:
    return next(iter(store.ref(family, index).terms))[0][0]  # type: ignore[no-any-return]


def _ordered(kernel: Poly, definitions: dict[Ref, Poly]) -> list[Ref]:
    """What the kernel needs, every quantity after those it reads; without recursion."""
    done: dict[Ref, None] = {}
    opened: set[Ref] = set()
    todo = [(r, False) for r in sorted(_defined(kernel), key=str)]
    while todo:
        r, ready = todo.pop()
        if r in done:
            continue
        if ready:
            done[r] = None
            continue
        if r not in definitions or r in opened:
            wrong = "is made of itself" if r in opened else "none of them is about"
            raise FoldError(
                f"the equations found at small sizes do not carry over to larger ones: they read {describe(r)}, which "
                f"{wrong}"
            )
        opened.add(r)
        todo.append((r, True))
        todo += [(s, False) for s in sorted(_defined(definitions[r]), key=str) if s not in done]
    return list(done)


def _defined(p: Poly) -> list[Ref]:
    return [r for r in refs_of(p) if r.family.head != GRAM[0]]
