"""What indices of formulas over positions are, and what their sums run over, in words."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tensorprog.algebra import Gen
from tensorprog.formulas.batches import said as said_of_batches
from tensorprog.formulas.softmaxes import said as random_said
from tensorprog.formulas.summing import FREE, SIZES, Summing
from tensorprog.formulas.typeset import Style
from tensorprog.ir.axes import Everywhere, Map, Window
from tensorprog.ir.maps import Given, Position
from tensorprog.limit.positions import Along, At

DELTA = ("δ[p,q] = 1 where p = q, else 0", r"$\delta_{pq} = 1$ where $p = q$, else 0")
WHOLE = "terms at positions that are no whole numbers are left out"


def said(summing: Summing, gens: Collection[Gen]) -> list[str]:
    """What the indices of formulas over positions are, and what sums run over: sentences."""
    along = [g for g in gens if isinstance(g, Along)]
    if found := said_of_batches(gens, summing.style):
        return found
    p, q, P, Q, x, y = (_math(t, summing.style) for t in (*FREE, *SIZES, *summing.labels))
    sizes = any(isinstance(g.by.map, Everywhere) and g.by.map.is_mean for g in along)
    of = (f" {P}", f" {Q}") if sizes else ("", "")
    layers = ", in every layer its own" if any(map(_resizes, summing.windows.maps)) else ""
    found = [f"{p} is one of the{of[0]} positions of {x}, {q} one of the{of[1]} of {y}{layers}"]
    found += [DELTA[summing.style.tex]] * any(map(_equal, along))
    found += [f"at two positions of {x} quantities are those of {x} and {y} for {y} = {x}"] * any(
        isinstance(g, At) for g in gens
    )
    found += summing.windows.said(summing.style)
    found += random_said(gens, summing.style.tex)
    found += [WHOLE] * any(g.transpose and getattr(g.by.map, "stride", 1) != 1 for g in along)
    return found


def maps_of(gens: Iterable[Gen]) -> list[Map]:
    """The maps whose offsets are summed over."""
    return [g.by.map for g in gens if isinstance(g, Along) and not isinstance(g.by.map, Everywhere | Position)]


def _math(text: str, style: Style) -> str:
    return f"${text}$" if style.tex else text


def _resizes(m: Map) -> bool:
    return m.stride != 1 or m.padding == "valid" if isinstance(m, Window) else not isinstance(m, Given)


def _equal(g: Along) -> bool:
    """Whether p = q is asked for."""
    return g.how == "shared" and (g.transpose if isinstance(g.by.map, Everywhere) else not g.by.map.is_tied)
