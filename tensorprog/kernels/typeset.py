r"""Setting equations as text for a terminal and as LaTeX for a paper: order of factors and terms, breaking of lines."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, to_sympy
from tensorprog.expectations.atoms import Expect
from tensorprog.printing import latex, text

TEX_WIDTH = 66  # characters that fit on a line of an article in 10pt
TEXT_WIDTH = 100

Show = Callable[[Gen], tuple[int, str]]  # of a generator: its rank among the factors, and how it prints


@dataclass(frozen=True)
class Style:
    """Text or LaTeX: how numbers, powers and products are written."""

    tex: bool

    def expr(self, e: Any) -> str:
        """A sympy expression."""
        return latex(e) if self.tex else text(e)

    def power(self, base: str, e: int, compound: bool) -> str:
        """base^e, in brackets where the base is compound."""
        if e == 1:
            return base
        if compound:
            base = rf"\left({base}\right)" if self.tex else f"({base})"
        return f"{base}^{{{e}}}" if self.tex else base + str(e).translate(str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹"))

    def product(self, factors: list[str]) -> str:
        """Factors side by side."""
        return (r" \, " if self.tex else "·").join(factors)


TEXT, TEX = Style(False), Style(True)


@dataclass
class Line:
    """One equation: its left side, the signed terms of its right side, and where it holds."""

    left: str
    terms: list[tuple[str, str]]
    where: str = ""
    notes: list[str] = field(default_factory=list)

    @property
    def right(self) -> str:
        """The right side on one line."""
        first = "".join(("-" if self.terms[0][0] == "-" else "", self.terms[0][1]))
        return " ".join([first, *(f"{sign} {term}" for sign, term in self.terms[1:])])


def terms(p: Poly, style: Style, show: Show) -> list[tuple[str, str]]:
    """The terms of a polynomial as (sign, text): quantities, expectations, data, constants."""
    if not p.terms:
        return [("+", "0")]
    found = []
    for mono, c in p.terms.items():
        shown = [(*_shown(g, style, show), g, e) for g, e in mono]
        sign, number = _number(c, style)
        factors = [number] if number else []
        ordered = sorted(shown, key=lambda f: (f[0], f[1]))
        factors += [style.power(name, e, _compound(g, name, style)) for _, name, g, e in ordered]
        found.append((_rank([r for r, *_ in shown]), sign, style.product(factors) if factors else "1"))
    found.sort(key=lambda t: t[0])
    return [(sign, term) for _, sign, term in found]


SCALAR, ATOM, LINEAR, QUANTITY, GRAM = range(5)


def _rank(ranks: list[int]) -> int:
    """Quantities first, then expectations, data, constants, and what multiplies a tangent kernel last."""
    if ATOM in ranks:
        return 4 if LINEAR in ranks else 1
    if LINEAR in ranks or QUANTITY in ranks:
        return 0
    return 2 if GRAM in ranks else 3


def _shown(g: Gen, style: Style, show: Show) -> tuple[int, str]:
    if isinstance(g, Expect) or not isinstance(g, (Scalar, Apply)) or hasattr(g, "family"):
        return show(g)
    if isinstance(g, Apply):
        return SCALAR, style.expr(to_sympy(Poly({((g, 1),): 1})))
    found = show(g)
    symbol = style.expr(g.symbol)
    return found if found[1] else (SCALAR, rf"\left({symbol}\right)" if _is_sum(g) and style.tex else symbol)


def _is_sum(g: Gen) -> bool:
    return isinstance(g.symbol, sp.Add)


def _compound(g: Gen, name: str, style: Style) -> bool:
    return not (isinstance(g, Scalar) and isinstance(g.symbol, sp.Symbol) and name == style.expr(g.symbol))


def _number(c: Any, style: Style) -> tuple[str, str]:
    value = sp.sympify(c)
    sign = "-" if value.could_extract_minus_sign() else "+"
    value = -value if sign == "-" else value
    if value == 1:
        return sign, ""
    shown = style.expr(value)
    return sign, f"({shown})" if isinstance(value, sp.Add) else shown


# ---- lines -----------------------------------------------------------------------------------------


def as_text(lines: list[Line], width: int = TEXT_WIDTH) -> str:
    """Equations one below the other, aligned at =, broken before signs where too long."""
    column = min(max((len(line.left) for line in lines), default=0), 24)
    found = []
    for line in lines:
        head = f"  {line.left:<{column}} = "
        rows = _filled(line, len(head), width, len)
        where = f"   ({line.where})" if line.where else ""
        if where and len(head) + len(rows[-1]) + len(where) > width:
            rows.append(where.strip())
        else:
            rows[-1] += where
        found.append(head + rows[0])
        found += [" " * len(head) + row for row in rows[1:]]
    return "\n".join(found)


def as_latex(lines: list[Line], notes: list[str] | None = None, width: int = TEX_WIDTH) -> str:
    r"""Equations as ``align*``, broken before signs where too long; notes follow as rows of their own."""
    rows = []
    for line in lines:
        broken = _filled(line, min(visible(line.left) + 2, width // 3), width, visible)
        where = rf",\quad {line.where}" if line.where else ""
        if where and visible(line.left) + visible(broken[-1]) + visible(where) > width + 6:
            broken.append(rf"\qquad ({line.where})")
        else:
            broken[-1] += where
        rows.append(f"{line.left} &= {broken[0]}")
        rows += [rf"&\qquad {row}" for row in broken[1:]]
    rows += [f"&{note}" for note in notes or ()]
    return "\\begin{align*}\n" + " \\\\\n".join(rows) + "\n\\end{align*}"


def _filled(line: Line, used: int, width: int, length: Callable[[str], int]) -> list[str]:
    rows: list[str] = []
    current = ""
    for n, (sign, term) in enumerate(line.terms):
        piece = term if n == 0 and sign == "+" else f"{sign}{term}" if n == 0 else f"{sign} {term}"
        if current and used + length(current) + 1 + length(piece) > width:
            rows.append(current)
            current = piece
        else:
            current = f"{current} {piece}" if current else piece
    return [*rows, current]


_COMMAND = re.compile(r"\\(?:mathsf|left|right|operatorname|text|mathbb|mathcal|begin|end|,|quad|qquad)(?![a-z])")


def visible(tex: str) -> int:
    """Roughly how many characters wide a formula is set; indices count less."""
    small = sum(len(_plain(m)) for m in re.findall(r"[\^_]\{([^{}]*)\}", tex))
    return len(_plain(tex)) - int(0.35 * small)


def _plain(tex: str) -> str:
    return re.sub(r"[{}^_\s&]", "", re.sub(r"\\[a-zA-Z]+|\\.", "x", _COMMAND.sub("", tex)))
