"""Formulas as MathML, which browsers typeset without a script.

Every expression of the package has LaTeX of its own (``printing.latex``), in a small part of the language: that part
is read here and written as presentation MathML.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from html import escape
from itertools import pairwise
from typing import Any

from sympy.printing.pretty.pretty_symbology import greek_unicode

from tensorprog.errors import NoRuleError
from tensorprog.formulas.typeset import Line, for_notebooks
from tensorprog.printing import latex

_TOKEN = re.compile(r"\\text\{[^{}]*\}|\\[A-Za-z]+|\\.|\d+(?:\.\d+)?|\s+|.", re.DOTALL)
_SYSTEM = re.compile(r"(\\begin\{align\*\}.*?\\end\{align\*\})", re.DOTALL)
_BREAK = re.compile(r"\\displaybreak\[\d\]")  # between pages of an article
_SYMBOLS = {
    "top": "⊤", "infty": "∞", "pi": "π", "ell": "ℓ", "partial": "∂", "varsigma": "ς", "varphi": "φ", "dagger": "†",
    "varepsilon": "ε", "hbar": "ℏ", "prime": "′", **{k: v for k, v in greek_unicode.items() if k.isalpha()},
    "phi": "ϕ", "epsilon": "ϵ",
}  # fmt: skip
_OPERATORS = {
    "cdot": "⋅", "times": "×", "pm": "±", "langle": "⟨", "rangle": "⟩", "leq": "≤", "le": "≤", "geq": "≥", "ge": "≥",
    "neq": "≠", "ne": "≠", "approx": "≈", "sim": "∼", "to": "→", "sum": "∑", "prod": "∏", "int": "∫", "ldots": "…",
    "dots": "…", "cdots": "⋯", "mid": "|", "vert": "|", "circ": "∘", "odot": "⊙", "in": "∈", "cong": "≅",
    "lbrace": "{", "rbrace": "}", "lfloor": "⌊", "rfloor": "⌋", "lceil": "⌈", "rceil": "⌉", "{": "{", "}": "}",
    "|": "‖", "ast": "∗", "downarrow": "↓",
}  # fmt: skip
_FUNCTIONS = {"exp", "log", "ln", "sin", "cos", "tan", "tanh", "sinh", "cosh", "arcsin", "arccos", "arctan",
              "operatorname", "min", "max", "lim", "asin", "acos", "atan", "det"}  # fmt: skip
_SPACES = {",": "0.17em", ":": "0.22em", ";": "0.28em", " ": "0.3em", "quad": "1em", "qquad": "2em", "!": "-0.17em"}
_ACCENTS = {"hat": "^", "tilde": "~", "bar": "¯", "mathring": "˚", "widehat": "^", "overline": "¯"}
_VARIANTS = {
    "mathbb": {"E": "𝔼", "R": "ℝ", "P": "ℙ", "N": "ℕ", "V": "𝕍"}, "mathcal": {"N": "𝒩", "L": "ℒ"},
    "mathsf": {"E": "𝖤", "V": "𝖵"},
}  # fmt: skip
_UPRIGHT = {"operatorname", "mathrm", "mathbb", "mathsf", "mathcal", "mathit", "mathbf"}
_FENCES = {
    "matrix": ("", ""),
    "smallmatrix": ("", ""),
    "pmatrix": ("(", ")"),
    "bmatrix": ("[", "]"),
    "cases": ("{", ""),
}  # of environments
_LINES = {"align", "align*", "aligned", "gather*", "split"}
_OPENING = {"{", "(", "[", r"\left", r"\langle", r"\bigl", r"\begin"}
_CLOSING = {"}", ")", "]", r"\right", r"\rangle", r"\bigr", r"\end"}
_BREAKS = {"=", "+", "-", r"\cdot", r"\sim"}
_IGNORED = {"&", r"\displaystyle", r"\limits", r"\nolimits"}
_BIG = {"∑", "∏", "∫"}


def formula(*parts: Any, display: bool = True, wraps: bool = False) -> str:
    """A formula of expressions and LaTeX strings, as a ``math`` element; as LaTeX text where it cannot be read.

    Args:
        parts: sympy expressions, and strings of LaTeX, put side by side.
        display: set as a line of its own.
        wraps: as several elements, between which a line may break: before relations, signs and dots.

    >>> import sympy as sp
    >>> formula("a =", sp.Symbol("sigma_w") ** 2, display=False)
    '<math><mi>a</mi><mo>=</mo><msubsup><mi>σ</mi><mi>w</mi><mn>2</mn></msubsup></math>'
    """
    tex = " ".join(part if isinstance(part, str) else latex(part) for part in parts)
    try:
        if wraps:
            bodies = [from_latex(piece) for piece in pieces(tex)]
            bodies[1:] = [re.sub("^<mo", '<mo form="infix"', body) for body in bodies[1:]]
            return " ".join(f'<math displaystyle="true">{body}</math>' for body in bodies)
        body = from_latex(tex)
    except NoRuleError:
        return f'<code class="tex">{escape(tex)}</code>'
    opening = '<math display="block">' if display else "<math>"
    return f"{opening}{body}</math>"


def pieces(tex: str) -> list[str]:
    r"""A formula cut before its outermost relations, signs and dots.

    >>> pieces(r"a = b + \left[c + d\right] \cdot e - f")
    ['a', '= b', '+ \\left[c + d\\right]', '\\cdot e', '- f']
    """
    found, depth = [""], 0
    for token in _TOKEN.findall(tex):
        depth += (token in _OPENING) - (token in _CLOSING)
        if depth == 0 and token in _BREAKS and found[-1].strip() not in ("", *_BREAKS):
            found.append("")
        found[-1] += token
    return [piece.strip() for piece in found]


def equation(line: Line) -> str:
    """One LaTeX string of an equation; a dot stands between factors unless the first is a number or a letter."""
    found = line.left
    for n, (sign, factors) in enumerate(line.terms):
        found += (" = " if n == 0 else "") + (f" {sign} " if n or sign == "-" else "")
        for before, factor in pairwise(("", *factors)):
            dot = any(bracket in before for bracket in ("[", "(", r"\langle"))
            found += (r" \cdot " if dot else r" \, " if before else "") + factor
    return found + (rf",\quad {line.where}" if line.where else "")


def prose(text: str) -> str:
    """A sentence with formulas between dollars, as HTML."""
    parts = text.split("$")
    return "".join(formula(part, display=False) if k % 2 else escape(part) for k, part in enumerate(parts))


def systems_and_prose(tex: str) -> list[str]:
    r"""What ``latex()`` of a kernel gives, as HTML: a ``math`` element for each system, a ``p`` for what is said below.

    Raises:
        NoRuleError: as ``from_latex``.

    >>> [found[:18] for found in systems_and_prose("\\begin{align*} q &= c \\end{align*} Here $q = 1$.")]
    ['<math display="blo', '<p>Here <math><mi>']
    """
    found = []
    for part in map(str.strip, _SYSTEM.split(for_notebooks(tex))):
        if _SYSTEM.fullmatch(part):
            found.append(f'<math display="block">{from_latex(part)}</math>')
        elif part:
            dollars = re.sub(r"\\[()]", "$", part)
            found.append(f"<p>{prose(dollars)}</p>")
    return found


def from_latex(tex: str) -> str:
    """The MathML of a formula in the LaTeX that this package writes.

    Raises:
        NoRuleError: a command or environment that it does not write, or braces that do not match.
    """
    return _Reader(_TOKEN.findall(_BREAK.sub("", tex))).row(None)


class _Reader:
    """Recursive descent over tokens."""

    def __init__(self, tokens: list[str]) -> None:
        self.tokens = [t for t in tokens if not t.isspace()]
        self.at = 0

    def peek(self) -> str | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def next(self) -> str:
        if self.at >= len(self.tokens):
            raise NoRuleError("the formula ends too early")
        self.at += 1
        return self.tokens[self.at - 1]

    def row(self, end: str | None) -> str:
        """Everything up to a closing token, which is consumed."""
        body = self.until((end,))
        if end is not None:
            self.next()
        return body

    def until(self, ends: tuple[str | None, ...]) -> str:
        """Everything up to one of the closing tokens, which stays."""
        parts: list[str] = []
        while (token := self.peek()) not in ends:
            if token is None or token in ("}", r"\right", r"\end"):
                raise NoRuleError(f"unmatched {token or ends[0]} in a formula")
            if token in _IGNORED:
                self.next()
                continue
            if token.removeprefix("\\") in _FUNCTIONS and token[0] == "\\" and parts and not _is_operator(parts[-1]):
                parts.append('<mspace width="0.17em"/>')
            parts.append(self.scripted())
        return "".join(parts)

    def group(self) -> str:
        """The argument of a command or script: braces, or a single atom."""
        if self.peek() == "{":
            self.next()
            return _row(self.row("}"))
        return self.atom()

    def scripted(self) -> str:
        """An atom with its primes and scripts."""
        base = "<mrow></mrow>" if self.peek() in ("^", "_") else self.atom()
        scripts: dict[str, str] = {}
        primes = 0
        while self.peek() in ("'", "^", "_"):
            token = self.next()
            if token == "'":
                primes += 1
            elif token in scripts:
                raise NoRuleError("a formula with two scripts at one place")
            else:
                scripts[token] = self.group()
        prime = f"<mo>{'′″‴'[primes - 1] if primes <= 3 else '′' * primes}</mo>" if primes else ""
        above = scripts.get("^", "")
        return _with_scripts(base, scripts.get("_", ""), _row(prime + above) if prime and above else prime + above)

    def atom(self) -> str:
        token = self.next()
        if token == "{":
            return _row(self.row("}"))
        if token.startswith(r"\text{"):
            return f"<mtext>{escape(token[6:-1]).replace(' ', chr(160))}</mtext>"
        if token[0] == "\\" and len(token) > 1:
            return self.command(token[1:])
        if token[0].isdigit():
            return f"<mn>{token}</mn>"
        if token.isalpha() or token in "⊤ᵀ":
            return f"<mi>{escape(token)}</mi>"
        if token == "~":
            return '<mspace width="0.3em"/>'
        stretchy = ' stretchy="false"' if token in "()[]|" else ""
        return f"<mo{stretchy}>{escape({'-': '−', '*': '∗'}.get(token, token))}</mo>"

    def command(self, name: str) -> str:
        rule = _COMMANDS.get(name)
        if rule is not None:
            return rule(self)
        if name in _SPACES:
            return f'<mspace width="{_SPACES[name]}"/>'
        if name in _ACCENTS:
            return f'<mover accent="true">{self.group()}<mo stretchy="false">{_ACCENTS[name]}</mo></mover>'
        if name == "dot":  # as a limit: set as an accent, browsers put it into the letter
            return f"<mover>{self.group()}<mo>˙</mo></mover>"
        if name in _UPRIGHT:
            return self.upright(name)
        if name in _FUNCTIONS:
            return f"<mi>{name}</mi>"
        if name in _SYMBOLS:
            return f"<mi>{_SYMBOLS[name]}</mi>"
        if name in _OPERATORS:
            return f'<mo stretchy="false">{escape(_OPERATORS[name])}</mo>'
        if name in ("_", "%", "$", "#", "&"):
            return f"<mi>{escape(name)}</mi>"
        raise NoRuleError(f"no MathML for \\{name}")

    def upright(self, name: str) -> str:
        """The letters of \\operatorname{..}, \\mathsf{..}, .. as one upright identifier."""
        letters = self.name(name)
        known = _VARIANTS.get(name, {})
        if letters in known:
            return f"<mi>{known[letters]}</mi>"
        return (
            f'<mi mathvariant="normal">{escape(letters)}</mi>' if len(letters) == 1 else f"<mi>{escape(letters)}</mi>"
        )

    def name(self, command: str) -> str:
        """The letters between the braces that follow a command."""
        if self.next() != "{":
            raise NoRuleError(f"\\{command} needs braces")
        letters = ""
        while (token := self.next()) != "}":
            letters += token.removeprefix("\\")
        return letters

    def environment(self) -> str:
        """Rows and cells: lines aligned at their &, or a matrix in its fences."""
        name = self.name("begin")
        if name not in _FENCES and name not in _LINES:
            raise NoRuleError(f"no MathML for the environment {name}")
        rows: list[list[str]] = [[]]
        while True:
            rows[-1].append(self.until(("&", r"\\", r"\end")))
            token = self.next()
            if token == r"\\":
                rows.append([])
            elif token == r"\end":
                break
        if (end := self.name("end")) != name:
            raise NoRuleError(f"{name} ends as {end}")
        body = "".join("<mtr>" + "".join(f"<mtd>{cell}</mtd>" for cell in row) + "</mtr>" for row in rows)
        if name in _LINES:
            return f'<mtable class="lines" displaystyle="true">{body}</mtable>'
        left, right = (f"<mo>{fence}</mo>" if fence else "" for fence in _FENCES[name])
        return f"<mrow>{left}<mtable>{body}</mtable>{right}</mrow>" if left or right else f"<mtable>{body}</mtable>"

    def fenced(self) -> str:
        left = self.fence()
        body = self.row(r"\right")
        return f"<mrow>{left}{body}{self.fence()}</mrow>"

    def fence(self) -> str:
        token = self.next()
        name = _OPERATORS.get(token.removeprefix("\\"), token) if token[0] == "\\" else token
        return "" if name == "." else f"<mo>{escape(name)}</mo>"

    def fraction(self) -> str:
        return f"<mfrac>{self.group()}{self.group()}</mfrac>"

    def root(self) -> str:
        if self.peek() != "[":
            return f"<msqrt>{self.group()}</msqrt>"
        self.next()
        index = _row(self.row("]"))
        return f"<mroot>{self.group()}{index}</mroot>"


_COMMANDS: dict[str, Callable[[_Reader], str]] = {
    "frac": _Reader.fraction,
    "sqrt": _Reader.root,
    "left": _Reader.fenced,
    "begin": _Reader.environment,
    "bigl": _Reader.fence,
    "bigr": _Reader.fence,
}


def _row(body: str) -> str:
    """One element: the body itself when it is one."""
    single = re.fullmatch(r"<(m[ino])(?: [^<>]*)?>[^<>]*</\1>", body)
    return body if single else f"<mrow>{body}</mrow>"


def _with_scripts(base: str, below: str, above: str) -> str:
    if any(f">{sign}<" in base for sign in _BIG) and below:
        return f"<munderover>{base}{below}{above}</munderover>" if above else f"<munder>{base}{below}</munder>"
    if below and above:
        return f"<msubsup>{base}{below}{above}</msubsup>"
    if below or above:
        tag = "msub" if below else "msup"
        return f"<{tag}>{base}{below}{above}</{tag}>"
    return base


def _is_operator(element: str) -> bool:
    return element.startswith(("<mo", "<mspace")) and not element.startswith("<mover")
