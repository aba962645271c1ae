"""The pieces that results in notebooks are made of: a box with a title, tables, verdicts, formulas and pictures."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from tensorprog.errors import ProgramError
from tensorprog.report.draw import draw
from tensorprog.report.mathml import formula
from tensorprog.report.style import SHOWN

MOST = 30  # rows of a table; .text() has all of them
DRAWN = 40  # instructions of a program that is drawn unasked
BADGES = {True: ("ok", "ok"), False: ("failed", "FAILED"), None: ("na", "n/a")}


class Markup(str):
    """Text that is HTML already; all other text is escaped."""

    __slots__ = ()


def markup(text: Any) -> str:
    """A text as HTML.

    >>> markup("a < b"), markup(Markup("<i>a</i>"))
    ('a &lt; b', '<i>a</i>')
    """
    return text if isinstance(text, Markup) else escape(str(text))


def box(title: Any, *parts: str, verdict: str = "") -> str:
    """A result: its title, a verdict perhaps, and what belongs to it."""
    head = f"<style>{SHOWN}</style><header>{markup(title)}{verdict}</header>"
    return f'<div class="tensorprog tp">{head}{"".join(parts)}</div>'


def badge(passed: bool | None, words: dict[bool | None, str] | None = None) -> str:
    """A verdict in a word."""
    kind, word = BADGES[passed]
    return f' <b class="{kind}">{escape(word if words is None else words[passed])}</b>'


def verdicts(rows: Iterable[tuple[bool | None, Any, Any]]) -> str:
    """Claims as a list: whether each holds, its name, and the figures."""
    items = (
        f'<li class="{BADGES[passed][0]}"><b>{BADGES[passed][1]}</b>'
        f"<div>{markup(name)}<br/><span>{markup(detail)}</span></div></li>"
        for passed, name, detail in rows
    )
    return f"<ul>{''.join(items)}</ul>"


def table(head: Sequence[Any], rows: Iterable[Sequence[Any]], most: int | None = None) -> str:
    """A table; of more than ``most`` rows the first ones, and how many are left out."""
    rows = list(rows)
    shown = rows if most is None else rows[:most]
    top = f"<thead><tr>{''.join(f'<th>{markup(h)}</th>' for h in head)}</tr></thead>" if head else ""
    body = "".join(
        f"<tr><th>{markup(first)}</th>{''.join(f'<td>{markup(cell)}</td>' for cell in rest)}</tr>"
        for first, *rest in shown
    )
    return f'<div class="scroll"><table>{top}<tbody>{body}</tbody></table></div>{more(len(rows) - len(shown))}'


def more(count: int) -> str:
    """That so many are left out, if any are."""
    return note(f"and {count} more: .text() has all") if count > 0 else ""


def note(text: Any) -> str:
    """A remark."""
    return f'<p class="soft">{markup(text)}</p>'


def folded(summary: str, inside: str) -> str:
    """What opens at a click."""
    return f"<details><summary>{escape(summary)}</summary>{inside}</details>"


def maths(*parts: Any) -> Markup:
    """A formula inside a line; see ``mathml.formula``."""
    return Markup(formula(*parts, display=False))


def picture(svg: str) -> str:
    """An SVG document as a figure."""
    return f"<figure>{svg[svg.index('<svg') :]}</figure>"


def pictures(svgs: Iterable[str]) -> str:
    """Several of them, side by side where there is room."""
    return f'<div class="row">{"".join(map(picture, svgs))}</div>'


def chart(figure: Any) -> str:
    """A figure of matplotlib as a picture that needs no font file and no network."""
    from matplotlib import rc_context

    buffer = io.StringIO()
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": "tensorprog"}):
        figure.savefig(buffer, format="svg")
    svg = re.sub(r"<metadata>.*?</metadata>", "", buffer.getvalue(), flags=re.DOTALL)
    return picture(re.sub(r' xmlns(:xlink)?="[^"]*"', "", svg).replace("xlink:href", "href"))


def drawing(what: Any, count: int, **options: Any) -> str:
    """The picture of a program, network or training run, where it is small enough to be seen at a glance."""
    if count > DRAWN:
        return note(f"{count} instructions; tp.draw(..) draws them")
    try:
        return picture(draw(what, **options).svg)
    except ProgramError as error:
        return note(error)
