"""Letters of quantities that are told apart by their role in a layer: Σ^(l), Σ_N^(l), Π_N^(l)."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import replace

from tensorprog.algebra import Gen, Poly
from tensorprog.recursions.folding import At, Case, Folded
from tensorprog.recursions.layered import HAT
from tensorprog.recursions.straight import GRAM, LINEAR, PARTS, Family, Store

Kind = tuple[str, int]  # letter and role


def lettered(folded: Folded, store: Store) -> Folded:
    """The same equations with letters for roles.

    Of the quantities of one letter, the one that begins first, such as the stream of a residual network, has nothing
    below it; others have the matrix that made them.
    """
    kinds = _kinds(folded, store)
    if not kinds:
        return folded
    shown = {family: _shown(family, kinds) for family in _families(folded)}

    def leaf(g: Gen) -> Poly | None:
        return store.intern(At, shown.get(g.family, g.family), g.shift) if isinstance(g, At) else None

    def renamed(p: Poly) -> Poly:
        return store.rebuild(p, leaf)

    def case(c: Case) -> Case:
        return Case(shown.get(c.family, c.family), c.box, renamed(c.form))

    cases = sorted(folded.cases, key=lambda c: _turn(c, kinds))
    layouts = {shown.get(family, family): layout for family, layout in folded.layouts.items()}
    return Folded(folded.sizes, layouts, [case(c) for c in cases], [case(c) for c in folded.terms])


def _turn(c: Case, kinds: dict[Kind, str]) -> tuple[int, int]:
    """In which order equations are read: a network begins, its norm, a layer and what the next reads, gradients."""
    if c.family.linear:
        return 4, 0
    begins = all(low.base == "" and low == high for low, high in zip(c.box.lower, c.box.upper, strict=True))
    main = not kinds[c.family.head, c.family.copy] and not c.family.single
    place = c.family.copy
    while place >= PARTS:
        place //= PARTS
    return 0 if begins else 2 if not main else 1 if HAT in c.family.head else 3, place


def _families(folded: Folded) -> list[Family]:
    return list(dict.fromkeys(c.family for c in folded.cases if c.family.head != GRAM[0]))


def _kinds(folded: Folded, store: Store) -> dict[Kind, str]:
    """What stands below each letter."""
    first: dict[str, dict[int, int]] = defaultdict(dict)  # the lowest layer of each role, by letter
    for c in folded.cases:
        known = store.letters.get((c.family.head, c.family.copy)) or store.letters.get(_transposed(c.family))
        if known is None:
            return {}
        lowest = min((b.shift for b in c.box.lower if b.base == "" and b.at < 0), default=10**6)
        roles = first[c.family.head]
        roles[c.family.copy] = min(lowest, roles.get(c.family.copy, lowest))
    found: dict[Kind, str] = {}
    for head, roles in first.items():
        starts = Counter(roles.values())
        used: Counter[str] = Counter()
        for copy, lowest in sorted(roles.items(), key=lambda item: -item[0]):
            main = lowest == min(roles.values()) and starts[lowest] == 1
            letters = "" if main or len(roles) == 1 else _letters(head, copy, store)
            again = used[letters] = used[letters] + 1
            found[head, copy] = letters if again == 1 else f"{letters}{again}"
    return found


def _letters(head: str, copy: int, store: Store) -> str:
    count = store.letters.get((head, copy)) or store.letters[LINEAR[head][0], copy]
    return count.most_common(1)[0][0]


def _transposed(family: Family) -> Kind:
    return LINEAR.get(family.head, ("", ""))[0], family.copy


def _shown(family: Family, kinds: dict[Kind, str]) -> Family:
    letters = kinds[family.head, family.copy]
    if not letters:
        return replace(family, copy=1)
    upright = letters if len(letters) == 1 else rf"\mathrm{{{letters}}}"
    return replace(family, copy=1, head=f"{family.head}_{letters}", tex=f"{family.tex}_{{{upright}}}")
