r"""Equations of (x,x), (x,x') and (x',x') that differ in their arguments only, written once in LaTeX.

The equation at (x,x') becomes that at (x,x) where x' is replaced by x: a line is left out when it is what the
replacement gives, letter by letter, up to the order of terms and factors.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tensorprog.algebra import Poly, to_sympy
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.expectations.lawful import Lawful
from tensorprog.formulas.typeset import Line
from tensorprog.printing import NameSymbol

_QUANTITY = re.compile(
    r"(\\?[A-Za-z]+(?:\{[A-Za-z]+\})?(?:_\{\w\}|_\{\\mathrm\{\w+\}\})?)(?:\^\{\(([^()]*)\)\})?"
    r"\(([^,()]+)(?:,([^,()]+))?\)(?:\[[pq](?:,[pq])?\])?"
)
POSITION = re.compile(r"\[[^\[\]]*\]")
_INNER = re.compile(r"\\langle ([^,]+),([^,]+)\\rangle")
_ROOT = re.compile(r"\\sqrt\{(.+) \\, \1\}")
_POWER = re.compile(r"(.+)\^\{(\d+)\}")
Place = tuple[str, tuple[str, ...], str, str]  # letter, indices, and the two arguments
BOTH = "What is written for neither $({a},{a})$ nor $({b},{b})$ holds for them as for $({a},{b})$."
OTHER = "What is written for $({a},{a})$ and not for $({b},{b})$ holds for both."


def _place(tex: str) -> Place | None:
    inner = _INNER.fullmatch(tex)
    if inner:
        return "", (), inner[1], inner[2]
    found = _QUANTITY.fullmatch(tex)
    return (found[1], tuple((found[2] or "").split(",")), found[3], found[4] or found[3]) if found else None


def short(g: Expect, timed: bool) -> str | None:
    r"""V_φ[Σ(x,x')] for V_φ[Σ(x,x), Σ(x,x'), Σ(x',x')]; None where the covariance is something else.

    Args:
        g: an expectation.
        timed: whether the last two indices are times.
    """
    if any(g.mean) or len(g.mean) > 2 or isinstance(g, Lawful):
        return None
    places = [_named(c) for c in g.cov]
    last = places[len(places) // 2]
    if last is None:
        return None
    letter, index, a, b = last
    tail = 2 if timed and len(index) >= 2 else len(index)
    common, own = index[: len(index) - tail], index[len(index) - tail :] or ("",)
    ends = [(letter, common, own[0], a), (letter, common, own[-1], b)]
    if len(places) == 1:
        return _written(g) if ends[0] == ends[1] else None
    given = [None if p is None else _end(p, tail) for p in (places[0], places[2])]
    return _written(g) if given == ends else None


def _end(p: Place, tail: int) -> tuple[str, tuple[str, ...], str, str] | None:
    """A variance by its letter, common indices, own index and argument."""
    letter, index, a, b = p
    common, own = index[: len(index) - tail], set(index[len(index) - tail :] or ("",))
    return (letter, common, own.pop(), a) if a == b and len(own) == 1 else None


def _named(c: Poly) -> Place | None:
    symbol = to_sympy(c)
    return _place(str(symbol._latex(None))) if isinstance(symbol, NameSymbol) else None


def _written(g: Expect) -> str:
    symbol = to_sympy(g.cov[len(g.cov) // 2])
    return rf"{head_of(g, True)}\left[{symbol._latex(None)}\right]"


def once(lines: Sequence[Line], a: str, b: str) -> tuple[list[Line], list[str]]:
    """The lines without those that others say with other arguments, and sentences about them.

    Args:
        lines: equations in LaTeX.
        a, b: the labels of the two inputs.
    """
    written = {place: _normal(line, a, b) for line in lines if (place := _place(line.left)) is not None}
    kept: list[Line] = []
    notes: dict[str, None] = {}
    for line in lines:
        place = _place(line.left)
        said = None if place is None else _said(place, written, a, b)
        if said is None:
            kept.append(line)
        else:
            notes[said] = None
    return kept, [note.format(a=a, b=b) for note in (BOTH, OTHER) if note in notes]


def _said(place: Place, written: dict[Place, tuple[str, ...]], a: str, b: str) -> str | None:
    """The note that makes a line for (x,x) or (x',x') superfluous."""
    letter, index, *arguments = place
    first, other, cross = (written.get((letter, index, *pair)) for pair in ((a, a), (b, b), (a, b)))
    if arguments not in ([a, a], [b, b]):
        return None
    if {first, other} - {None} == {cross}:
        return BOTH
    return OTHER if arguments == [b, b] and first == other else None


def _normal(line: Line, a: str, b: str) -> tuple[str, ...]:
    """A line with both arguments a and both positions p, its terms and factors in alphabetical order."""

    def alike(tex: str) -> str:
        tex = re.sub(rf"(?<![A-Za-z\\])({re.escape(b)}|P')", lambda m: a if m[0] == b else "P", tex)
        tex = POSITION.sub(lambda m: re.sub(r"(?<![A-Za-z\\])q", "p", m[0]), tex.replace(r"P \cdot P", "P^{2}"))
        return _ROOT.sub(r"\1", tex)

    terms = []
    for sign, factors in line.terms:
        terms.append(sign + " ".join(sorted(single for f in factors for single in _singles(alike(f)))))
    return (alike(line.left), *sorted(terms))


def _singles(factor: str) -> list[str]:
    power = _POWER.fullmatch(factor)
    return [power[1]] * int(power[2]) if power else [factor]
