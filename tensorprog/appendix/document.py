"""A derivation as a document: numbered statements in sections, each with what checks it."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from html import escape
from typing import Any

from tensorprog.errors import NoRuleError, integer
from tensorprog.formulas.typeset import for_notebooks
from tensorprog.printing import Shown, counted, to_html
from tensorprog.report.mathml import from_latex
from tensorprog.report.tikz import math

Check = Callable[["Statement", int], bool]


@dataclass
class Statement:
    """One line of a derivation.

    Attributes:
        name: what it is about.
        text: the line as text.
        tex: the line as LaTeX, in math mode.
        reason: why, in words.
        right: what it claims, as a polynomial or a number; None where it claims no equality.
        check: whether ``right`` is so, found in a way of its own, to a number of digits; None where nothing is claimed.
        others: the lines that say the same of other layers or times.
    """

    name: str
    text: str
    tex: str
    reason: str = ""
    right: Any = None
    check: Check | None = None
    others: list[Statement] = field(default_factory=list)

    def holds(self, digits: int) -> bool:
        """Whether what it claims is so."""
        return self.check is None or self.check(self, digits)


@dataclass
class Section:
    """A heading, sentences, statements, and formulas that stand for themselves (text and LaTeX)."""

    title: str
    words: list[str] = field(default_factory=list)
    statements: list[Statement] = field(default_factory=list)
    formulas: list[tuple[str, str]] = field(default_factory=list)
    silent: list[Statement] = field(default_factory=list)  # told once by the formulas, checked one by one


@dataclass(frozen=True, repr=False)
class DerivationCheck(Shown):
    """What ``D.check()`` found.

    Attributes:
        passed: whether every line that claims an equality holds.
        checked: how many do so.
        failed: the lines that do not hold, as they print.
        digits: to how many digits lines were compared.
    """

    passed: bool
    checked: int
    failed: tuple[str, ...]
    digits: int

    def text(self) -> str:
        """The verdict, and the lines that fail."""
        if self.passed:
            return f"all of {counted(self.checked, 'line')} hold to {self.digits} digits at random points"
        return "\n".join(
            [f"{len(self.failed)} of {counted(self.checked, 'line')} fail:", *(f"  {f}" for f in self.failed)]
        )


class DerivationDocument(Shown):
    """A derivation in the order in which the appendix of a paper argues: see ``tp.derivation``.

    Attributes:
        title: what is derived.
        sections: its sections.
    """

    def __init__(self, title: str, sections: list[Section]) -> None:
        self._question: tuple[Callable[[Any], DerivationDocument], Any] | None = None
        self.title, self.sections = title, [s for s in sections if s.words or s.statements or s.formulas]

    def __deepcopy__(self, memo: Any) -> DerivationDocument:
        return self  # its lines speak of the generators of one derivation

    def __reduce__(self) -> Any:
        """For pickling: the question, to be derived again."""
        if self._question is None:
            raise pickle.PicklingError("this derivation cannot be pickled: pickle what it derives")
        return self._question[0], self._question[1:]

    def _statements(self) -> Iterator[tuple[str, Statement]]:
        """All lines with their places."""
        for number, section in enumerate(self.sections, 1):
            for k, one in enumerate(section.statements, 1):
                yield from ((f"({number}.{k}) {s.text}", s) for s in (one, *one.others))
            yield from ((f"({number}) {s.text}", s) for s in section.silent)

    def check(self, digits: int = 30) -> DerivationCheck:
        """Check every line that claims an equality on its own, at random points.

        A Z is evaluated from the instruction that it stands for, a Ż from E Z^x Z^{Wᵀy} = E Z^{Wx} Z^y, a covariance
        from the Z's it is of, the kernel from path sums or from one step of SGD, the fold at sizes it was not found at,
        closed forms by quadrature (to the 12 digits that this has).

        Args:
            digits: to how many digits, at most 45.

        Returns:
            Whether all hold, and the lines that do not.
        """
        digits = integer(digits, "digits", 1, 45)
        found = [(place, s.holds(digits)) for place, s in self._statements() if s.check is not None]
        failed = tuple(place for place, holds in found if not holds)
        return DerivationCheck(not failed, len(found), failed, digits)

    # ---- printing --------------------------------------------------------------------------------

    def text(self) -> str:
        """The document as text."""
        lines = [self.title, "=" * len(self.title)]
        for number, section in enumerate(self.sections, 1):
            lines += ["", f"{number}. {section.title}", ""]
            lines += [f"  {w}" for w in section.words]
            for k, s in enumerate(section.statements, 1):
                lines.append(
                    f"  ({number}.{k}) {s.text}" + (f"   [{s.reason}]" if s.reason and s.reason not in s.text else "")
                )
                if s.others:
                    lines.append(f"        and likewise {', '.join(dict.fromkeys(o.name for o in s.others))}")
            for text, _ in section.formulas:
                lines += ["", text] if section.statements or section.words else [text]
        return "\n".join(lines)

    def latex(self) -> str:
        """The document as a complete LaTeX file, which needs amsmath alone."""
        body = [r"\documentclass{article}", r"\usepackage{amsmath}", r"\allowdisplaybreaks", r"\begin{document}",
                rf"\section*{{{prose(self.title)}}}"]  # fmt: skip
        for section in self.sections:
            body.append(rf"\section{{{prose(section.title)}}}")
            body += [rf"{prose(w)}\par" for w in section.words]
            if section.statements:
                body.append(r"\begin{enumerate}")
                for s in section.statements:
                    reason = f": {prose(s.reason)}" if s.reason else ""
                    others = ", ".join(dict.fromkeys(prose(o.name) for o in s.others))
                    body.append(rf"\item ${s.tex}${reason}{f'; likewise {others}' if others else ''}.")
                body.append(r"\end{enumerate}")
            body += [tex for _, tex in section.formulas if tex]
        found = "\n".join([*body, r"\end{document}", ""])
        for letter, command in IN_MATH.items():
            found = found.replace(letter, command)
        return found

    def html(self) -> str:
        """The document as a page that needs nothing else."""
        return (
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"/><title>{escape(self.title)}</title></head>'
            f"<body>{to_html(self)}</body></html>\n"
        )

    def _repr_latex_(self) -> str:
        return for_notebooks("\n".join(tex for s in self.sections for _, tex in s.formulas if tex))


@to_html.register
def _(d: DerivationDocument) -> str:
    parts = [f"<h1>{escape(d.title)}</h1>"]
    for number, section in enumerate(d.sections, 1):
        parts.append(f"<h2>{number}. {escape(section.title)}</h2>")
        parts += [f"<p>{escape(w)}</p>" for w in section.words]
        if section.statements:
            items = (
                f"<p>({number}.{k}) {_formula(s)}{': ' + escape(s.reason) if s.reason else ''}"
                + (f"; likewise {escape(', '.join(dict.fromkeys(o.name for o in s.others)))}" if s.others else "")
                + "</p>"
                for k, s in enumerate(section.statements, 1)
            )
            parts += items
        parts += [f"<pre>{escape(text)}</pre>" for text, _ in section.formulas]
    return f'<div class="tensorprog">{"".join(parts)}</div>'


def _formula(s: Statement) -> str:
    """A line as MathML, or as text where that has no form."""
    try:
        return f"<math>{from_latex(s.tex)}</math>"
    except NoRuleError:
        return escape(s.text)


IN_MATH = {"Ẑ": r"\hat{Z}", "Ż": r"\dot{Z}", "ᵀ": r"^{\top}", "·": r"\cdot "}  # what names have beside Greek letters
SPECIAL = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "{": r"\{",
           "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}  # fmt: skip


def prose(words: str) -> str:
    """A sentence as LaTeX: what is no ASCII stands in math mode.

    >>> prose("Σ_W is 50% of W²")
    '$\\\\Sigma$\\\\_W is 50\\\\% of W$^{2}$'
    """
    found, run = "", ""
    for ch in words + "\0":
        if ord(ch) > 127:
            run += ch
            continue
        if run:
            found += f"${math(run)}$"
            run = ""
        found += SPECIAL.get(ch, ch) if ch != "\0" else ""
    return found
