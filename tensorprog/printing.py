"""How things print: symbols with their own LaTeX, one-line text, LaTeX; results as short texts and in notebooks."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from functools import cache, singledispatch
from html import escape
from itertools import islice
from textwrap import wrap
from typing import Any

import sympy as sp
from sympy.printing.latex import LatexPrinter
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.pretty.pretty_symbology import pretty_symbol, pretty_use_unicode
from sympy.printing.str import StrPrinter

from tensorprog.lazy import import_forms

_SUPERSCRIPT = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
LINES, COLUMNS, TITLE = 12, 150, 3  # lines of a short text, their length, and those of its title
GREEK = {
    "α": "alpha", "β": "beta", "γ": "gamma", "δ": "delta", "ε": "varepsilon", "ζ": "zeta", "η": "eta", "θ": "theta",
    "ι": "iota", "κ": "kappa", "λ": "lambda", "μ": "mu", "ν": "nu", "ξ": "xi", "π": "pi", "ρ": "rho", "σ": "sigma",
    "τ": "tau", "υ": "upsilon", "φ": "varphi", "χ": "chi", "ψ": "psi", "ω": "omega", "Γ": "Gamma", "Δ": "Delta",
    "Θ": "Theta", "Λ": "Lambda", "Ξ": "Xi", "Π": "Pi", "Σ": "Sigma", "Φ": "Phi", "Ψ": "Psi", "Ω": "Omega",
}  # fmt: skip
_LONG = 1000  # rational numbers with a larger denominator print as decimals
_LARGE = 10**30  # and so do larger integers


class NameSymbol(sp.Symbol):  # type: ignore[misc]
    """A symbol with its own LaTeX; two of them are equal when their texts are."""

    __slots__ = ("_tex",)

    def __new__(cls, name: str, tex: str | None = None) -> NameSymbol:
        self = sp.Symbol.__xnew__(cls, name, real=True)
        self._tex = greek(tex if tex is not None else sp.latex(sp.Symbol(name)))
        return self  # type: ignore[no-any-return]

    def __getnewargs_ex__(self) -> tuple[Any, Any]:
        return (self.name, self._tex), {}

    @property
    def is_inner(self) -> bool:
        """Whether it is the inner product ⟨x,x'⟩ of two data."""
        return self.name.startswith("⟨")

    @property
    def is_norm(self) -> bool:
        """Whether it is the inner product ⟨x,x⟩ of a datum with itself, which is not negative."""
        first, comma, second = self.name.removeprefix("⟨").removesuffix("⟩").partition(",")
        return bool(comma) and self.name == inner(first, second).name and first == second

    def _latex(self, printer: Any) -> str:
        return self._tex


def greek(tex: str) -> str:
    r"""LaTeX in which Greek letters are commands, and numbers behind them indices.

    >>> greek("χ_{0} ξ1x")
    '\\chi_{0} \\xi_{1}x'
    """
    tex = re.sub(r"([Α-ω])(\d+)", r"\1_{\2}", tex)
    return re.sub(
        "([Α-ω])(?=([A-Za-z])?)", lambda m: f"\\{GREEK[m[1]]}{' ' * bool(m[2])}" if m[1] in GREEK else m[1], tex
    )


def reads_data(e: sp.Expr) -> bool:
    """Whether inner products of data stand in a formula."""
    return any(isinstance(s, NameSymbol) and s.is_inner for s in e.free_symbols)


def inner(a: str, b: str) -> NameSymbol:
    """The symbol ⟨a,b⟩ of a normalised inner product of two data vectors such as ``x`` and ``x'2``."""
    return NameSymbol(f"⟨{a},{b}⟩", rf"\langle {_indexed(a)},{_indexed(b)}\rangle")


@cache
def _indexed(label: str) -> str:
    match = re.fullmatch(r"(.*?)(\d+)", label)
    return rf"{match[1]}_{{{match[2]}}}" if match else label


def pretty(name: str) -> str:
    """A name with Greek letters, whatever it is written to.

    >>> pretty("sigma_w"), pretty("phi")
    ('σ_w', 'φ')
    """
    unicode = pretty_use_unicode(True)
    try:
        return str(pretty_symbol(name))
    finally:
        pretty_use_unicode(unicode)


class _Text(StrPrinter):  # type: ignore[misc]
    def _print_Symbol(self, expr: sp.Symbol) -> str:
        name = expr.name
        if type(expr) is not sp.Symbol or not name.replace("_", "").isalnum():
            return str(name)
        shown = pretty(name)
        return name if " " in shown else shown

    def _print_Function(self, expr: sp.Function) -> str:
        if not hasattr(type(expr), "family"):
            return str(super()._print_Function(expr))
        stem, prime, order = type(expr).__name__.partition("'")
        return f"{pretty(stem)}{prime}{order}({', '.join(map(self._print, expr.args))})"

    def _print_Pow(self, expr: sp.Pow, rational: bool = False) -> str:
        if expr.exp.is_Integer and expr.exp > 1:
            base = self.parenthesize(expr.base, PRECEDENCE["Pow"], strict=False)
            return base + str(expr.exp).translate(_SUPERSCRIPT)
        return str(super()._print_Pow(expr, rational))

    def _print_Mul(self, expr: sp.Mul) -> str:
        return str(super()._print_Mul(expr)).replace("*", "·")

    def _print_Rational(self, expr: sp.Rational) -> str:
        return decimal(expr) if expr.q > _LONG else str(super()._print_Rational(expr))

    def _print_Integer(self, expr: sp.Integer) -> str:
        return decimal(expr) if abs(expr) > _LARGE else str(expr.p)


class _Latex(LatexPrinter):  # type: ignore[misc]
    def _print_Rational(self, expr: sp.Rational) -> str:
        return decimal(expr) if expr.q > _LONG else str(super()._print_Rational(expr))

    def _print_Integer(self, expr: sp.Integer) -> str:
        return decimal(expr) if abs(expr) > _LARGE else str(expr.p)


def decimal(number: sp.Rational) -> str:
    """Twelve digits of a rational number of any size, as ``format`` writes a float.

    >>> decimal(sp.Rational(1, 3)), decimal(sp.Integer(10) ** 600), decimal(sp.Rational(5, 2) / 10**600)
    ('0.333333333333', '1e+600', '2.5e-600')
    """
    value = sp.Float(number, 30)
    if value == 0 or 1e-300 < abs(value) < 1e300:
        return f"{float(value):.12g}"
    exponent = int(sp.floor(sp.log(abs(value), 10).evalf(30)))
    return f"{float(value / sp.Float(10, 30) ** exponent):.12g}e{exponent:+d}"


def text(expr: Any) -> str:
    """An expression as one line of text.

    >>> text(sp.Symbol("sigma_w") ** 2 * sp.Symbol("x") + sp.Rational(1, 3))
    'σ_w²·x + 1/3'
    """
    return str(_Text().doprint(expr))


def latex(expr: Any, dots: bool = False) -> str:
    r"""An expression as LaTeX; with ``dots`` between the factors of products.

    >>> print(latex(inner("x1", "x'2")), latex(2 * inner("x", "x"), dots=True))
    \langle x_{1},x'_{2}\rangle 2 \cdot \langle x,x\rangle
    """
    return greek(str(_Latex({"mul_symbol": "dot"} if dots else {}).doprint(expr)))


def counted(number: int, what: str) -> str:
    """A number of things.

    >>> counted(1, "vector"), counted(3, "vector")
    ('1 vector', '3 vectors')
    """
    return f"{number} {what}{'' if number == 1 else 's'}"


# ---- results -------------------------------------------------------------------------------------------


def shortened(lines: Iterable[str]) -> str:
    """A text that fits on a screen: its first lines, long ones cut but for the first, the title, which is broken.

    >>> print(shortened(f"line {i}" for i in range(1000)).splitlines()[-1])
    .. .text() gives the rest
    """
    title, *rest = list(islice(lines, LINES + 1)) or [""]
    first = wrap(title, COLUMNS, subsequent_indent="    ", max_lines=TITLE, placeholder=" ..") + rest
    if len(first) > LINES:
        first[LINES - 1 :] = [".. .text() gives the rest"]
    return "\n".join(line if len(line) <= COLUMNS else line[: COLUMNS - 3] + " .." for line in first)


class Shown:
    """What a question returns: ``repr`` is its ``text()``, shortened, and notebooks show ``to_html`` of it."""

    __slots__ = ()
    text: Callable[..., str]

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return shortened(self.text().splitlines())

    def _repr_html_(self) -> str:
        return in_notebook(self)


def in_notebook(result: Any) -> str:
    """``to_html`` of a result, once all classes have registered their forms."""
    import_forms()
    return to_html(result)


@singledispatch
def to_html(result: Any) -> str:
    """A result as a piece of HTML that needs nothing else: its text, unless a class has registered a richer form.

    >>> to_html(sp.Symbol("x") < 1)
    '<pre>x &lt; 1</pre>'
    """
    return f"<pre>{escape(result.text() if hasattr(result, 'text') else repr(result))}</pre>"
