"""Rewriting straight-line equations so that layers and time steps look alike.

``transpose`` turns the sum Σ_a Π_a Σ_a into a recursion for Θ and back; ``brackets`` names the sums that share a
factor; ``shorten`` writes an equation as an earlier one plus a rest; ``inline`` removes what is used but once.
None of them changes a value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import replace
from fractions import Fraction
from typing import Any

from tensorprog.algebra import ONE, ZERO, Gen, Poly, Scalar, add_all, merge, monomial
from tensorprog.errors import FoldError
from tensorprog.expectations.atoms import Expect
from tensorprog.limit.positions import Along, Weighed
from tensorprog.recursions.adjoint import adjoint, gathered, is_linear
from tensorprog.recursions.straight import GRAM, LINEAR, Family, Index, Ref, Store, Straight, refs_of

Mono = Any


def forward(system: Straight, store: Store, least: int = 1) -> Straight:
    """The forward recursion Θ^(l+1) = Θ^(l) Σ̇^(l+1) + Σ^(l+1) of a sum Σ_l Π^(l) Σ^(l)."""
    return tidy(brackets(transpose(without_aliases(system, store), store), store, least), store, least)


def tidy(system: Straight, store: Store, least: int = 1) -> Straight:
    """Shorten the equations, drop what nothing reads, and number copies of an index anew."""
    return renumber(shorten(needed(shorten(system, least)), least), store)


def without_aliases(system: Straight, store: Store) -> Straight:
    """Without quantities that are another one of the same place, such as the moment of a linear layer."""
    aliases = {r for r, p in system.equations.items() if not r.family.linear and _alias(r, p)}
    return inline(system, store, aliases)


def _alias(r: Ref, p: Poly) -> bool:
    gens = [g for m in p.terms for g, e in m if e == 1]
    one = list(p.terms.values()) == [1] and len(gens) == len(next(iter(p.terms))) == 1
    return one and isinstance(gens[0], Ref) and gens[0].where == r.where and gens[0].family.head != GRAM[0]


# ---- the linear part ---------------------------------------------------------------------------------


def transpose(system: Straight, store: Store) -> Straight:
    """Reverse the linear part: Π_a = Σ_b A_ab Π_b + e_a, Θ = Σ_a Π_a c_a + K becomes

    Θ_b = Σ_a A_abᵀ Θ_a + c_b, Θ = Σ_a e_a Θ_a + K, and back; over positions A_ab are maps, and products sums.
    """
    linear = system.linear
    new = {r: store.ref(_transposed(r.family), r.where) for r in linear}
    sums: dict[Ref, list[Poly]] = {r: [] for r in linear}
    total = []
    for p, paired, spatial in [(system.kernel, ONE, False),
                               *((system.equations[r], new[r], any(r.family.at)) for r in linear)]:  # fmt: skip
        rest, parts = adjoint(p, paired, spatial, store)
        total.append(rest)
        for s, a in parts:
            if s not in sums:
                raise FoldError(f"the gradients read {s}, which no equation at the sizes derived gives")
            sums[s].append(a)
    result = Straight({r: p for r, p in system.equations.items() if not r.family.linear}, add_all(total))
    for r in reversed(linear):
        result.equations[_ref(new[r])] = add_all(sums[r])
    return result


def _transposed(family: Family) -> Family:
    head, tex = LINEAR[family.head]
    return replace(family, head=head, tex=tex)


def _ref(p: Poly) -> Ref:
    ((mono, _),) = p.terms.items()
    return mono[0][0]  # type: ignore[no-any-return]


# ---- brackets --------------------------------------------------------------------------------------


def brackets(system: Straight, store: Store, least: int = 1) -> Straight:
    """Name the sums in brackets of V·(Θ + Θ' + ..): tangent kernels of whole pre-activations.

    What is then neither in brackets nor read by the kernel itself is written out where it is used.
    """
    result = Straight()
    known: dict[Poly, Poly] = {}
    kept: set[Ref] = set()
    system = _merged(system)
    for r, p in [*system.equations.items(), (None, system.kernel)]:
        if r is None or r.family.linear:
            p = _bracketed(p, store, result, known, kept)
        if r is None:
            result.kernel = p
        else:
            result.equations[r] = p
    kept |= {r for r in refs_of(result.kernel) if r.family.linear}
    return inline(shorten(result, least), store, {r for r in result.linear if r not in kept})


def _merged(system: Straight) -> Straight:
    """One quantity for linear ones with equal definitions."""
    first: dict[Poly, Ref] = {}
    same: dict[Gen, Poly] = {}
    result = Straight()
    for r, p in system.equations.items():
        p = _substituted(p, same)
        if r.family.linear and p in first:
            same[r] = monomial(first[p])
            continue
        if r.family.linear:
            first[p] = r
        result.equations[r] = p
    result.kernel = _substituted(system.kernel, same)
    return result


def _bracketed(p: Poly, store: Store, result: Straight, known: dict[Poly, Poly], kept: set[Ref]) -> Poly:
    p = gathered(p, store)
    p = _substituted(p, {g: store.along(g, _bracketed(g.inner, store, result, known, kept))
                         for m in p.terms for g, _ in m if isinstance(g, Along)})  # fmt: skip
    kept |= {g for m in p.terms if not any(isinstance(f, Expect) for f, _ in m) for g, _ in m if is_linear(g)}
    for weight in _weights(p):
        inside = {rest: c for mono, c in p.terms.items() if (rest := _quotient(mono, weight)) is not None}
        total = Poly(inside)
        content, primitive = _content(total, result)
        outside = Poly({m: c for m, c in p.terms.items() if _quotient(m, weight) is None})
        name = known.get(primitive)
        if name is None:
            name = known[primitive] = _named(primitive, weight, store, result)
        kept.add(_ref(name))
        p = outside + Poly({weight: 1}) * content * name
    return p


def _named(primitive: Poly, weight: Mono, store: Store, result: Straight) -> Poly:
    if len(primitive.terms) == 1:
        return primitive
    anchor = max(refs_of(Poly({weight: 1})), key=lambda r: (r.family.pair[0] != r.family.pair[1], r.where))
    family, copy = Family("Θ", r"\Theta", anchor.family.pair, at=anchor.family.at), 1
    while _ref(store.ref(replace(family, copy=copy), anchor.where)) in result.equations:
        copy += 1
    name = store.ref(replace(family, copy=copy), anchor.where)
    result.equations[_ref(name)] = primitive
    return name


def _weights(p: Poly) -> list[Mono]:
    """The atoms that multiply a linear quantity, once each."""
    found: dict[Mono, None] = {}
    for mono in p.terms:
        if any(is_linear(g) for g, _ in mono):
            weight = tuple((g, e) for g, e in mono if isinstance(g, Expect))
            if weight:
                found[weight] = None
    return list(found)


def _quotient(mono: Mono, weight: Mono) -> Mono | None:
    """mono / weight when what is left has no atoms."""
    if tuple((g, e) for g, e in mono if isinstance(g, Expect)) != weight:
        return None
    return tuple((g, e) for g, e in mono if not isinstance(g, Expect))


def _is_hyper(g: Gen) -> bool:
    return isinstance(g, Scalar) and not isinstance(g, Ref)


def _is_constant(mono: Mono) -> bool:
    return all(_is_hyper(g) for g, _ in mono)


def _content(p: Poly, system: Straight) -> tuple[Poly, Poly]:
    """p = content · primitive: the common hyperparameters, and the number that leaves the simplest term alone."""
    common: dict[Gen, int] | None = None
    for mono in p.terms:
        powers = {g: e for g, e in mono if _is_hyper(g)}
        common = powers if common is None else {g: min(e, powers[g]) for g, e in common.items() if g in powers}
    factor = tuple(sorted((common or {}).items(), key=lambda f: f[0].index))
    lead = min(p.terms, key=lambda m: sum(_cost(system.equations.get(g, ZERO)) for g, _ in m))  # type: ignore[call-overload]
    c = p.terms[lead]
    return Poly({factor: c}), Poly({_divide(m, common or {}): _over(d, c) for m, d in p.terms.items()})


def _divide(mono: Mono, common: dict[Gen, int]) -> Mono:
    return tuple((g, e - common.get(g, 0)) for g, e in mono if e > common.get(g, 0))


def _over(a: Any, b: Any) -> Any:
    if isinstance(a, int) and isinstance(b, int):
        return a // b if a % b == 0 else Fraction(a, b)
    result = a / b
    return int(result) if isinstance(result, Fraction) and result.denominator == 1 else result


# ---- shorter equations -----------------------------------------------------------------------------


def shorten(system: Straight, least: int = 1) -> Straight:
    """Write every equation as a multiple of an earlier one, of ``least`` terms or more, plus a rest, where shorter."""
    result = Straight()
    by_part: dict[Mono, list[Ref]] = {}
    for r, p in system.equations.items():
        best = p
        for s in dict.fromkeys(s for m in p.terms for s in by_part.get(_unscaled(m), ())):
            q = system.equations[s]
            found = _as_multiple(p, q, s) if len(q.terms) >= least else None
            if found is None:
                continue
            equal = (r.family, s.family) == (s.family, r.family) and len(q.terms) == 1
            if (_cost(found), not _mentions(found, r.family)) < (_cost(best) + equal, not _mentions(best, r.family)):
                best = found
        result.equations[r] = best
        for m in p.terms:
            by_part.setdefault(_unscaled(m), []).append(r)
    result.kernel = system.kernel
    return result


def shortened(equations: Iterable[tuple[Gen, Poly]]) -> Iterator[tuple[Gen, Poly]]:
    """Equations in order, each as an earlier one plus a rest where that is shorter: Σ^3 = Σ^2 + V(Σ^2)."""
    earlier: dict[Mono, list[tuple[Gen, Poly]]] = {}
    for name, p in equations:
        own = [m for m in p.terms if not _is_constant(m)]  # all layers share a constant such as σ_b²
        known = dict.fromkeys(s for m in own for s in earlier.get(m, ()))
        found = [_as_multiple(p, q, s) for s, q in known if len(q.terms) > 1]
        yield name, min((p, *(f for f in found if f is not None)), key=_cost)
        for m in own:
            earlier.setdefault(m, []).append((name, p))


def _mentions(p: Poly, family: Family) -> bool:
    return any(_mentions(g.inner, family) if isinstance(g, Along) else isinstance(g, Ref) and g.family == family
               for m in p.terms for g, _ in m)  # fmt: skip


def _unscaled(mono: Mono) -> Mono:
    return tuple((g, e) for g, e in mono if not _is_hyper(g))


def _as_multiple(p: Poly, q: Poly, name: Gen) -> Poly | None:
    """p = s·name + rest when every term of s·q is a term of p; for s = 1 constants may leave their difference."""
    lead, c = next(iter(q.terms.items()))
    for mono, d in p.terms.items():
        if _unscaled(mono) != _unscaled(lead):
            continue
        scale = _ratio(mono, lead)
        if scale is None:
            continue
        factor = Poly({scale: _over(d, c)})
        taken = factor * q
        if all(
            p.terms.get(m) == k or (factor == ONE and m in p.terms and _is_constant(m)) for m, k in taken.terms.items()
        ):
            return p + taken.scale(-1) + factor * monomial(name)
    return None


def _ratio(a: Mono, b: Mono) -> Mono | None:
    """a / b as a product of hyperparameters."""
    powers = {g: e for g, e in a if _is_hyper(g)}
    for g, e in b:
        if _is_hyper(g):
            if powers.get(g, 0) < e:
                return None
            powers[g] -= e
    return merge((), tuple(sorted(((g, e) for g, e in powers.items() if e), key=lambda f: f[0].index)))


def _cost(p: Poly) -> float:
    return sum(2 + sum(_weight(g) * e for g, e in mono) for mono in p.terms)


def _weight(g: Gen) -> float:
    return 1 + _cost(g.inner) if isinstance(g, Along) else {Expect: 3.0, Ref: 1.0}.get(type(g), 0.25)


# ---- inlining --------------------------------------------------------------------------------------


def inline(system: Straight, store: Store, removable: set[Ref]) -> Straight:
    """Write out the ``removable`` quantities; those that nothing reads disappear."""
    removed: dict[Gen, Poly] = {}
    result = Straight()

    def leaf(g: Gen) -> Poly | None:
        return removed.get(g)

    for r, p in system.equations.items():
        p = store.rebuild(p, leaf) if removed else p
        if r in removable:
            removed[r] = p
        else:
            result.equations[r] = p
    result.kernel = store.rebuild(system.kernel, leaf)
    return needed(result)


def _substituted(p: Poly, values: dict[Gen, Poly]) -> Poly:
    if not any(g in values for m in p.terms for g, _ in m):
        return p
    return add_all(_product(c, (values.get(g, monomial(g)) ** e for g, e in m)) for m, c in p.terms.items())


def _product(c: Any, factors: Iterable[Poly]) -> Poly:
    result = ONE.scale(c) if c else ZERO
    for f in factors:
        result = result * f
    return result


def needed(system: Straight) -> Straight:
    """Without what nothing reads."""
    needed: set[Ref] = refs_of(system.kernel)
    for r in reversed(system.equations):
        if r in needed:
            needed |= refs_of(system.equations[r])
    return Straight({r: p for r, p in system.equations.items() if r in needed}, system.kernel)


def spread(system: Straight, store: Store) -> Straight:
    """With the sums over positions in the kernel taken term by term."""

    def opened(g: Gen) -> Poly:
        if isinstance(g, Along):
            return add_all(store.along(g, term) for term in terms_of(g.inner))
        return monomial(g)

    parts = [_product(c, (opened(g) ** e for g, e in mono)) for mono, c in system.kernel.terms.items()]
    return Straight(system.equations, add_all(parts))


def used_once(system: Straight) -> set[Ref]:
    """The products that are a factor of one term of one equation, and read by nothing else."""
    readers: dict[Ref, int] = defaultdict(int)
    factors: dict[Ref, int] = defaultdict(int)
    for p in [*system.equations.values(), system.kernel]:
        for r in refs_of(p):
            readers[r] += 1
        for r in _factors(p):
            factors[r] += 1
    products = {r for r, p in system.equations.items() if len(p.terms) == 1}
    return {r for r in products if readers[r] == factors[r] == 1}


def _factors(p: Poly) -> Iterator[Ref]:
    """The quantities that terms are linear in, below sums over positions."""
    for g, e in (f for mono in p.terms for f in mono):
        if isinstance(g, Along | Weighed):
            yield from _factors(g.inner)
        elif isinstance(g, Ref) and e == 1:
            yield g


def renumber(system: Straight, store: Store) -> Straight:
    """Number the copies of each index 1, 2, .. again."""
    used: dict[tuple[Family, Index], int] = {}
    new: dict[Ref, Poly] = {}
    for r in system.equations:
        family = replace(r.family, copy=1)
        used[family, r.where] = used.get((family, r.where), 0) + 1
        new[r] = store.ref(replace(family, copy=used[family, r.where]), r.where)
    if all(_ref(p) is r for r, p in new.items()):
        return system

    def leaf(g: Gen) -> Poly | None:
        return new.get(g) if isinstance(g, Ref) else None

    equations = {_ref(new[r]): store.rebuild(p, leaf) for r, p in system.equations.items()}
    return Straight(equations, store.rebuild(system.kernel, leaf))


def terms_of(p: Poly) -> Iterator[Poly]:
    """The terms of a polynomial."""
    for mono, c in p.terms.items():
        yield Poly({mono: c})
