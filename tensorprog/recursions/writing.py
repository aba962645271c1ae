"""Ways of writing the equations of one size, which are tried in turn until those of all sizes repeat."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from tensorprog.recursions.rewrite import (
    forward,
    inline,
    needed,
    spread,
    tidy,
    transpose,
    used_once,
    without_aliases,
)
from tensorprog.recursions.straight import Store, Straight


@dataclass(frozen=True)
class Way:
    """How equations are written.

    Attributes:
        anchored: whether far equations count what stands at the start from there; see ``folding.View``.
        least: terms that an equation has which stands in later ones: Σ^(1) may stand in those of all Σ^(l) or not.
        by: the derivation: "straight"; "layered", where sums and rescaled vectors have equations of their own, see
            ``layered``; "stepwise", where moments are taken step by step, so that running sums have, see ``stepwise``.
    """

    anchored: bool = False
    least: int = 1
    by: str = "straight"


WAYS = tuple(Way(anchored, least) for anchored, least in product((False, True), (1, 2, 3)))
LAYERED = (Way(by="layered"), Way(anchored=True, by="layered"))
STEPWISE = (Way(by="stepwise"), Way(anchored=True, by="stepwise"))


def straight(system: Straight, store: Store, form: str | None, way: Way) -> Straight:
    """The equations of a kernel at one size, as they are folded.

    Args:
        system: as they were read.
        store: shared by all sizes.
        form: "sum" or "forward" of an NTK, None of an NNGP kernel.
        way: how they are written.
    """
    if way.by == "layered":
        system = layered(system, store)
        return needed(transpose(system, store)) if form == "forward" else system
    if way.by == "stepwise":
        system = _without_single(system, store)
        return needed(transpose(system, store)) if form == "forward" else system
    if form is None:
        return tidy(without_aliases(system, store), store, way.least)
    system = forward(system, store, way.least)
    return system if form == "forward" else tidy(transpose(system, store), store, way.least)


def layered(system: Straight, store: Store) -> Straight:
    """Without products that stand in one sum only, whatever their inputs and their index."""
    system = needed(spread(system, store))
    once = used_once(system)
    kept = {(r.family.head, r.family.copy) for r in system.equations if r not in once}
    return inline(system, store, {r for r in once if (r.family.head, r.family.copy) not in kept})


def _without_single(system: Straight, store: Store) -> Straight:
    """Without the sums E (Wᵀdh) dz' where all of them are one term, as with a matrix of its own in every layer."""
    mixed = {r: p for r, p in system.equations.items() if r.family.head == "B"}
    return inline(system, store, set(mixed)) if all(len(p.terms) == 1 for p in mixed.values()) else needed(system)
