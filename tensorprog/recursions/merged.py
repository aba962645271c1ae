"""Equations of two inputs, and of one with itself, in one line where they are the same."""

from __future__ import annotations

import re

from tensorprog.formulas.arguments import POSITION
from tensorprog.formulas.typeset import Line, Style
from tensorprog.recursions.straight import Family

ROOT = re.compile(r"sqrt\((.+)·\1\)"), re.compile(r"\\sqrt\{(.+) \\, \1\}")  # √(v v)
RATIO = re.compile(r"([^ ·]+)/\1(?![^ ·])|\\frac\{(.+)\}\{\2\}")  # v/v
NOTES = {
    "both": ("and the same for (x,x) and (x',x')", "The same equations hold for $(x,x)$ and $(x',x')$."),
    "some": (
        "what is written for (x,x') only holds for (x,x) and (x',x') too, and (x',x') is as (x,x)",
        "What is written for $(x,x')$ only holds for $(x,x)$ and $(x',x')$ too, and $(x',x')$ is as $(x,x)$.",
    ),
    "scalars": ("and for x' as for x", "What is written for $x$ holds for $x'$."),
    "other": ("and for (x',x') as for (x,x)", "Those for $(x',x')$ are as for $(x,x)$."),
    "lengths": (
        "and for (x',x') as for (x,x), up to T'",
        "Those for $(x',x')$ are as for $(x,x)$, up to $T'$.",
    ),
}


def merged(lines: list[tuple[Family, Line]], style: Style) -> tuple[list[Line], list[str]]:
    """Without the lines for (x,x) and (x',x') that are those for (x,x') with x' = x, or those for each other."""
    by_pair: dict[tuple[str, int, bool], dict[bool, dict[str, list[Line]]]] = {}
    for family, line in lines:
        kinds = by_pair.setdefault((family.head, family.copy, family.single), {True: {}, False: {}})
        kinds[family.pair[0] == family.pair[1]].setdefault(family.pair[0], []).append(line)
    dropped: list[Line] = []
    notes: list[str] = []
    for (*_, single), kinds in by_pair.items():
        own, cross = kinds[True], kinds[False]
        first = next(iter(own.values()), [])
        if own and all(_same(found, first) for found in own.values()):
            with_cross = bool(cross) and _same(first, next(iter(cross.values())))
            dropped += [line for k, found in enumerate(own.values()) if k or with_cross for line in found]
            if len(own) > 1:
                timed = any("T" in line.where for line in first)
                notes.append("scalars" if single else "both" if with_cross else "lengths" if timed else "other")
    if {"both", "other"} <= {*notes}:
        notes = ["some" if note == "both" else note for note in notes if note != "other"]
    kept = [line for _, line in lines if not any(line is d for d in dropped)]
    return kept, [NOTES[note][style.tex] for note in dict.fromkeys(notes)]


def _same(a: list[Line], b: list[Line]) -> bool:
    return sorted(map(_unprimed, a)) == sorted(map(_unprimed, b))


def _unprimed(line: Line) -> str:
    """A line with x' = x, so T' = T and τ = 0."""
    return " ".join(map(_alike, [line.left, *("·".join([sign, *factors]) for sign, factors in line.terms), line.where]))


def _alike(shown: str) -> str:
    shown = POSITION.sub(lambda m: re.sub(r"(?<![A-Za-z\\])q", "p", m[0]), shown)
    shown = shown.replace("'", "").replace("+τ", "").replace(r"+\tau", "")
    for root in ROOT:
        shown = root.sub(r"\1", shown)
    shown = RATIO.sub("1", shown.replace(r"\left(", "").replace(r"\right)", ""))
    return re.sub(r"·1(?=$|·)", "", shown)
