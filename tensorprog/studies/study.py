"""What every study gives: numbers, verdicts, a table, a picture and one page, in memory and on disk."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import folder as folder_of
from tensorprog.errors import writing
from tensorprog.printing import Shown, to_html
from tensorprog.report.markup import MOST, badge, box, chart, note, table, verdicts
from tensorprog.report.style import STYLE
from tensorprog.verify import Claim

HOLDS = {True: "all claims hold", False: "SOME CLAIM FAILED", None: "nothing was claimed"}
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(repr=False)
class Study(Shown):
    """A measurement with its verdicts.

    Attributes:
        name: of the study, such as "phase".
        title: the network and the settings.
        numbers: what was measured, by name: numbers, lists and arrays.
        claims: what should hold, with tolerances and figures.
        notes: what the numbers mean, and what the source says.
        head, rows: a table of the numbers.
    """

    name: str
    title: str
    numbers: dict[str, Any]
    claims: list[Claim] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    head: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()

    @property
    def passed(self) -> bool | None:
        """Whether no claim failed; None where none could be checked."""
        told = [c.passed for c in self.claims if c.passed is not None]
        return all(told) if told else None

    def text(self) -> str:
        """The claims, the table and the notes."""
        return "\n".join(self._lines())

    def _lines(self) -> Iterator[str]:
        yield self.title
        yield from (f"  {c.text()}" for c in self.claims)
        cells = [list(self.head), *map(list, self.rows)] if self.head else []
        wide = [max(len(row[k]) for row in cells) for k in range(len(self.head))]
        yield from ("  " + "  ".join(c.rjust(w) for c, w in zip(row, wide, strict=True)) for row in cells)
        yield from (f"  {n}" for n in self.notes)

    def figure(self) -> Any:
        """The picture, as a figure of matplotlib."""
        from tensorprog.studies.pictures import PICTURES

        return PICTURES[self.name](self.title, self.numbers)

    def json(self) -> str:
        """Title, verdicts and numbers as JSON; what is not finite is a text, "inf" or "nan"."""
        said = [{"claim": c.name, "verdict": c.verdict, "detail": c.detail} for c in self.claims]
        found = {"study": self.name, "title": self.title, "claims": said, "notes": self.notes, "numbers": self.numbers}
        return json.dumps(plain(found), ensure_ascii=False, indent=1)

    def html(self) -> str:
        """One page that needs no network and no script."""
        return (
            '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
            f"<title>{escape(self.name)}: {escape(HOLDS[self.passed])}</title><style>{STYLE}</style></head><body><main>"
            f'<header><p class="kind">Study</p><h1>{escape(self.name)}</h1></header>{shown(self)}'
            "</main></body></html>\n"
        )

    def save(self, folder: str | Path) -> list[Path]:
        """Write NAME.json, NAME.png, NAME.svg and NAME.html into a folder, NAME being that of the study.

        Raises:
            DataError: the folder cannot be made or written, or its name ends as a file's does.
        """
        from matplotlib import rc_context

        folder = folder_of(folder)
        paths = [folder / f"{self.name}.{end}" for end in ("json", "png", "svg", "html")]
        with writing(folder), rc_context({"svg.fonttype": "none", "svg.hashsalt": "tensorprog"}):
            folder.mkdir(parents=True, exist_ok=True)
            paths[0].write_text(self.json() + "\n", encoding="utf-8")
            for path in paths[1:3]:
                self.figure().savefig(path)
            paths[3].write_text(self.html(), encoding="utf-8")
        return paths


def shown(study: Study) -> str:
    """A study in a notebook, and on its page."""
    return box(
        study.title,
        verdicts((c.passed, c.name, c.detail) for c in study.claims),
        chart(study.figure()),
        table(study.head, study.rows, MOST) if study.head else "",
        *map(note, study.notes),
        verdict=badge(study.passed, HOLDS),
    )


to_html.register(Study, shown)


def plain(value: Any) -> Any:
    """A value as JSON has them.

    >>> plain({"a": np.array([1.0, np.inf])})
    {'a': [1.0, 'inf']}
    """
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(v) for v in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else str(float(value))
    return value.item() if isinstance(value, np.generic) else value


def measured(value: float, error: float) -> str:
    """A number with its standard error, to the digits that this leaves.

    >>> measured(1.23456, 0.0321)
    '1.235 ± 0.032'
    """
    if not (math.isfinite(error) and error > 0):
        return f"{value:.6g}"
    digits = max(0, 1 - math.floor(math.log10(error)))
    return f"{value:.{digits}f} ± {error:.{digits}f}"
