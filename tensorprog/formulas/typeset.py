r"""Setting equations as text for a terminal and as LaTeX for a paper: order of factors and terms, breaking of lines."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, to_sympy
from tensorprog.expectations.atoms import Expect
from tensorprog.formulas.fractions import SIGN, Below, base_of, split, written
from tensorprog.printing import NameSymbol, latex, text

TEX_WIDTH = 62  # characters that fit on a line of an article in 10pt
TEXT_WIDTH = 100
SHORT = 50  # a fraction that is one factor
PAGE = 16  # rows from which a system may break over pages

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

    @property
    def dot(self) -> str:
        """What stands between numbers."""
        return r" \cdot " if self.tex else "·"

    @property
    def times(self) -> str:
        """What stands between factors."""
        return r" \, " if self.tex else "·"


TEXT, TEX = Style(False), Style(True)
Term = tuple[str, tuple[str, ...]]  # sign and factors


@dataclass
class Line:
    """One equation: its left side, the terms of its right side, and where it holds; without terms a heading."""

    left: str
    terms: list[Term]
    where: str = ""


RAGGED, PAR = r"{\raggedright\noindent", r"\par}"  # around prose, whose formulas break at relations only


@dataclass
class Said:
    """What is said below a system of equations in LaTeX: sentences, meanings of signs, closed forms."""

    notes: list[str] = field(default_factory=list)
    meanings: list[str] = field(default_factory=list)
    forms: list[Line] = field(default_factory=list)

    def text(self) -> str:
        """Notes and meanings as a paragraph."""
        listed = ";\nand ".join(part for part in (";\n".join(self.meanings[:-1]), *self.meanings[-1:]) if part)
        found = [*self.notes, *([f"Here {listed}."] if listed else []), *(["In closed form"] if self.forms else [])]
        return "\n".join(found)


class Quotient(str):
    """A factor such as Σ_k C[p+k,q+k], with what stands below the line, such as |w|.

    Attributes:
        parts: its factors, between which lines may break; the sign of a sum stands before the first that it sums.
        over: numbers and formulas to divide by.
        ranks: of what is summed.
    """

    parts: Sequence[str]
    over: Sequence[str]
    ranks: list[int]

    def __new__(cls, parts: Sequence[str], over: Sequence[str], ranks: list[int], style: Style) -> Quotient:
        self = str.__new__(cls, style.times.join(parts))
        self.parts, self.over, self.ranks = parts, over, ranks
        return self

    def symbol(self, tex: str) -> sp.Expr:
        """Sum and what it is divided by, in sympy."""
        over = [sp.Integer(int(o)) if o.isdecimal() else NameSymbol(o, o) for o in self.over]
        return sp.Mul(NameSymbol(str(self), tex) if self else 1, *(1 / o for o in over))


def terms(p: Poly, style: Style, show: Show) -> list[Term]:
    """The terms of a polynomial: quantities, expectations, data, constants, what multiplies a tangent kernel."""
    if not p.terms:
        return [("+", ("0",))]
    found = []
    for mono, c in p.terms.items():
        above, powers = split(mono)
        printed = [(*shown(g, style, show), g, e) for g, e in above]
        ordered = sorted(printed, key=lambda f: (f[0], f[1]))
        named = [(r, style.power(name, e, _compound(g, name, style))) for r, name, g, e in ordered]
        below = [(name, e) for _, name, _, e in ordered if isinstance(name, Quotient)]
        under = bottom(powers, style, show)
        sign, factors = _divided(c, named, below, under, style) if below else _multiplied(c, named, under, style)
        ranks = [k for r, name, *_ in printed for k in (name.ranks if isinstance(name, Quotient) else [r])]
        found.append((_rank(ranks), (sign, tuple(factors or ["1"]))))
    found.sort(key=lambda t: (t[0], [_natural(f) for f in t[1][1]]))
    return [term for _, term in found]


def _multiplied(c: Any, named: list[tuple[int, str]], under: list[str], style: Style) -> tuple[str, list[str]]:
    """A number, then factors, over what divides them."""
    sign, number = _number(c, style)
    names = [name for _, name in named]
    if number.isdecimal() and not names and under:
        return sign, divided([number], under, style)
    return sign, [*([number] if number else []), *divided(names, under, style)]


def _divided(
    c: Any, named: list[tuple[int, str]], below: list[tuple[Quotient, int]], under: list[str], style: Style
) -> tuple[str, list[str]]:
    """Numbers and hyperparameters over what sums are divided by, then the other factors, sums last."""
    value = sp.sympify(c)
    sign = "-" if value.could_extract_minus_sign() else "+"
    above, number = (value * (-1 if sign == "-" else 1)).as_numer_denom()
    powers = Counter(o for q, e in below for o in [*q.over] * e)
    if powers[str(above)]:  # 2/2
        powers, above = powers - Counter([str(above)]), sp.S.One
    top = [*([] if above == 1 else [style.expr(above)]), *(name for r, name in named if r == SCALAR)]
    down = [*([] if number == 1 else [style.expr(number)]), *(style.power(o, e, False) for o, e in powers.items())]
    rest = apart([name for r, name in named if r != SCALAR and name], style)
    if down and not any(map(_no_sum, rest)):
        down += under
    else:
        rest = divided(rest, under, style)
    if not down:
        return sign, [*top, *rest]
    lead = fraction(style.times.join(top) or "1", down, style)
    if rest and SIGN.match(rest[0]):  # σ_w²/9 Σ_k ..
        return sign, [f"{lead} {rest[0]}", *rest[1:]]
    return sign, [lead, *rest]


def bottom(powers: Sequence[Below], style: Style, show: Show) -> list[str]:
    """What a term is divided by: (z + 1), w, sqrt(v·w)."""
    return written([(*_base(b, style, show), b.power) for b in powers], style.tex)


def _base(b: Below, style: Style, show: Show) -> tuple[str, bool]:
    """The base of a power, and whether it is compound."""
    if not b.args:
        return shown(Scalar(b.base), style, show)[1], isinstance(b.base, sp.Add | sp.Mul)
    base = base_of(b, _renaming(show))
    name = style.expr(base)
    return name, isinstance(base, sp.Add | sp.Mul) or bool(SIGN.match(name))


def fraction(up: str, down: Sequence[str], style: Style) -> str:
    """up/(down)."""
    if style.tex:
        return rf"\frac{{{up}}}{{{style.dot.join(down)}}}"
    return f"{up}/{down[0]}" if len(down) == 1 else f"{up}/({style.dot.join(down)})"


def divided(factors: Sequence[str], down: Sequence[str], style: Style) -> list[str]:
    """Factors over what they are divided by, which stands below the last one that is no sum.

    >>> divided(["2", "E[p,q]", "Σ_k C[k]"], ["sqrt(v)"], TEXT), divided(["Σ_k C[k]"], ["v", "w"], TEXT)
    (['2', 'E[p,q]/sqrt(v)', 'Σ_k C[k]'], ['1/(v·w)', 'Σ_k C[k]'])
    """
    if not down:
        return list(factors)
    last = next((i for i in range(len(factors))[::-1] if all(map(_no_sum, factors[: i + 1]))), None)
    if last is None:
        return [fraction("1", down, style), *factors]
    above, under = style.times.join(factors[: last + 1]), sum(map(visible, down))
    if style.tex and visible(above) + under < SHORT:
        return [fraction(above, down, style), *factors[last + 1 :]]
    if style.tex and visible(factors[last]) + under > SHORT:  # lines break between the two
        return [*factors[: last + 1], fraction("1", down, style), *factors[last + 1 :]]
    return [*factors[:last], fraction(factors[last], down, style), *factors[last + 1 :]]


def _no_sum(factor: str) -> bool:
    """Whether a factor is no sum, nor begins one."""
    return not SIGN.search(factor)


def apart(names: Sequence[str], style: Style) -> list[str]:
    """Factors, sums last, all but the last sum in brackets and that in its parts."""
    sums = [name for name in names if isinstance(name, Quotient) and SIGN.search(name)]
    others = [name for name in names if name not in sums]
    last = [part for s in sums[-1:] for part in s.parts]
    return [*others, *(rf"\left({s}\right)" if style.tex else f"({s})" for s in sums[:-1]), *last]


def _natural(name: str) -> list[Any]:
    """A key that counts numbers in a name as numbers."""
    return [(1, int(part), "") if part.isdecimal() else (0, 0, part) for part in re.split(r"(\d+)", name)]


SCALAR, ATOM, LINEAR, QUANTITY, GRAM, SUM = range(6)


def _rank(ranks: list[int]) -> int:
    """Quantities first, then expectations, data, constants, and what multiplies a tangent kernel last."""
    if ATOM in ranks:
        return 4 if LINEAR in ranks else 1
    if LINEAR in ranks or QUANTITY in ranks:
        return 0
    return 2 if GRAM in ranks else 3


def shown(g: Gen, style: Style, show: Show) -> tuple[int, str]:
    """The rank of a factor and how it prints; of a function, what it is taken of as ``show`` says."""
    if isinstance(g, Expect) or not isinstance(g, (Scalar, Apply)) or hasattr(g, "family"):
        return show(g)
    if isinstance(g, Apply):
        return SCALAR, style.expr(to_sympy(Poly({((g, 1),): 1}), _renaming(show)))
    found = show(g)
    return found if found[1] else (SCALAR, style.expr(g.symbol))


def _renaming(show: Show) -> Callable[[Gen], sp.Expr | None]:
    """The names of generators in formulas of sympy."""

    def rename(h: Gen) -> sp.Expr | None:
        name = "" if isinstance(h, Apply) else show(h)[1]
        return NameSymbol(name, name) if name else None

    return rename


def _compound(g: Gen, name: str, style: Style) -> bool:
    return (
        isinstance(g, Apply)
        or isinstance(name, Quotient)
        or (name == style.expr(g.symbol) and not isinstance(g.symbol, sp.Symbol))
    )


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
    column = min(max((len(line.left) for line in lines if line.terms), default=0), 24)
    found = []
    for line in lines:
        if not line.terms:
            found.append(line.left)
            continue
        head = f"  {line.left:<{column}} = "
        rows = _filled(line, TEXT, width - len(head), len)
        where = f"({line.where})" if line.where else ""
        if where and len(head) + len(rows[-1]) + 3 + len(where) > width:
            rows.append(where)
        elif where:
            rows[-1] += f"   {where}"
        found.append(head + rows[0])
        found += [" " * len(head) + row for row in rows[1:]]
    return "\n".join(found)


def as_latex(lines: list[Line], said: Said | None = None, width: int = TEX_WIDTH) -> str:
    r"""Equations as ``align*``, broken before signs where too long, and a paragraph about them.

    A long system may break over pages.
    """
    said = said or Said()
    about = said.text()
    paragraph = f"{RAGGED}\n{about}\n{PAR}" if about else ""
    parts = [_system(lines, width), paragraph, _system(said.forms, width) if said.forms else ""]
    return "\n".join(part for part in parts if part)


def _system(lines: list[Line], width: int) -> str:
    rows = []
    left = max((visible(line.left) for line in lines if line.terms), default=0)
    for line in lines:
        if not line.terms:
            rows.append(f"&{line.left}")
            continue
        broken = _filled(line, TEX, width - left, visible)
        where = rf",\quad {line.where}" if line.where else ""
        if where and left + visible(broken[-1]) + visible(where) > width:
            broken.append(rf"({line.where})")
        else:
            broken[-1] += where
        rows.append(f"{line.left} &= {broken[0]}")
        rows += [rf"&\qquad {row}" for row in broken[1:]]
    end = " \\displaybreak[0] \\\\\n" if len(rows) > PAGE else " \\\\\n"
    return "\\begin{align*}\n" + end.join(rows) + "\n\\end{align*}"


def for_notebooks(tex: str) -> str:
    r"""LaTeX without what MathJax does not know, its formulas in the brackets \( \) that it looks for everywhere.

    >>> print(for_notebooks(r"x \displaybreak[0] \\ Here $x = 1$."))
    x \\ Here \(x = 1\).
    """
    for unknown in (r" \displaybreak[0]", RAGGED + "\n", "\n" + PAR):
        tex = tex.replace(unknown, "")
    return re.sub(r"\$([^$]*)\$", r"\\(\1\\)", tex)


def _filled(line: Line, style: Style, width: int, length: Callable[[str], int]) -> list[str]:
    """Rows of a right side: whole terms as long as they fit; one that is too long has rows of its own."""
    rows: list[str] = []
    fresh = True  # whether the next term starts a row
    for n, (sign, factors) in enumerate(line.terms):
        lead = ("-" if sign == "-" else "") if n == 0 else f"{sign} "
        whole = lead + style.times.join(factors)
        if length(whole) > width:
            rows += _broken(lead, factors, style, width, length)
            fresh = True
        elif fresh or length(rows[-1]) + 1 + length(whole) > width:
            rows.append(whole)
            fresh = False
        else:
            rows[-1] += f" {whole}"
    return rows


def _broken(lead: str, factors: Sequence[str], style: Style, width: int, length: Callable[[str], int]) -> list[str]:
    """Rows of one term, broken between factors."""
    rows = [lead + factors[0]]
    for factor in factors[1:]:
        if length(rows[-1]) + length(style.times) + length(factor) <= width:
            rows[-1] += style.times + factor
        else:
            rows.append((r"\cdot " if style.tex else "·") + factor)
    return rows if style.tex else [part for row in rows for part in _listed(row, width)]


def _listed(row: str, width: int) -> list[str]:
    """A row of text that is too long, broken behind the commas between arguments."""
    found = [""]
    for part in re.split(r"(?<=, )", row):
        if found[-1] and len(found[-1]) + len(part.rstrip()) > width:
            found[-1] = found[-1].rstrip()
            found.append("")
        found[-1] += part
    return found


_SILENT = re.compile(r"\\(?:mathsf|left|right|operatorname|text|mathrm|mathcal|begin|end|bigl|bigr|!)(?![a-z])")
_WIDE = re.compile(r"(?<![_^{,\w])[+=-]|\\le(?![a-z])|\\sim|\\quad|\\sum")


def visible(tex: str) -> int:
    """Roughly how many characters wide a formula is set: indices count less, relations and signs more."""
    small = sum(len(_plain(m)) for m in re.findall(r"[\^_]\{([^{}]*)\}", tex))
    return round(len(_plain(tex)) - 0.3 * small + 1.5 * len(_WIDE.findall(tex)))


def _plain(tex: str) -> str:
    return re.sub(r"[{}^_\s&]", "", re.sub(r"\\[a-zA-Z]+|\\.", "x", _SILENT.sub("", tex)))
