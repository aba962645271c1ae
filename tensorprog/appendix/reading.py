"""Reading claimed formulas: a documented subset of LaTeX, and the text that kernels print; nothing is evaluated.

A claim is lines ``quantity = formula``, with ``2 ≤ l ≤ L`` behind them where they hold for several indices:

    \\Sigma^{(l)}(x,x') = \\sigma_w^2 V_{\\phi}[\\Sigma^{(l-1)}(x,x')] + \\sigma_b^2, \\quad 2 \\le l \\le L
    Σ^(l)(x,x') = σ_w²·V[φ](Σ^(l-1)(x,x')) + σ_b²   (2 ≤ l ≤ L)

Known are numbers, + - · / ^, \\frac, \\sqrt, \\sum, brackets, quantities such as \\Sigma^{(l)}(x,x'), inner products
\\langle x_t, x'_t \\rangle, expectations V_{\\phi}[..] and E_{\\phi}[..], hyperparameters, and functions:
exp, log, arcsin, arccos, arctan, max.
"""

from __future__ import annotations

import re
from fractions import Fraction
from typing import Any

import sympy as sp

from tensorprog.appendix.plain_words import plain
from tensorprog.appendix.terms import Gram, Mean, Node, Num, Op, Quantity, Rule, Sum, Sym
from tensorprog.errors import DataError, shortly
from tensorprog.printing import text

LONGEST, DEEPEST = 100_000, 200  # characters, and brackets within brackets
FUNCTIONS = (
    "sqrt",
    "exp",
    "log",
    "sin",
    "cos",
    "tanh",
    "erf",
    "acos",
    "asin",
    "atan",
    "max",
    "Max",
    "abs",
    "Sum",
    "arccos",
    "arcsin",
    "arctan",
)
TOKEN = re.compile(r"\s*(\d+\.\d+(?:e[+-]?\d+)?|\d+(?:e[+-]\d+)?|[^\W\d_][\u0302\u0307]?'*|\.\.|[^\s])")
WORD = re.compile(r"\s*([^\W\d_]+\u0307?'*)")
PAIR = re.compile(r"\s*\(\s*([a-z]'*)\s*,\s*([a-z]'*)\s*\)")


def read(claimed: Any) -> list[Rule]:
    """A claim as rules.

    Args:
        claimed: text or LaTeX, a sympy equation, or a list of these.

    Raises:
        DataError: what cannot be read, and where.
    """
    if isinstance(claimed, (str, sp.Eq)):
        claimed = [claimed]
    if not isinstance(claimed, (list, tuple)):
        raise DataError(f"a claim is equations as text, LaTeX or sympy, or a function; got {shortly(claimed)}")
    found = [rule for one in claimed for rule in _rules(one)]
    if not found:
        raise DataError("the claim has no equation: write lines such as \\Theta(x,x') = ..")
    return found


def _rules(one: Any) -> list[Rule]:
    if isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], sp.Eq):  # with ranges, as a recursion gives them
        ranges = ", ".join(f"{text(low)} ≤ {text(i)} ≤ {text(high)}" for i, low, high in one[1])
        return [_rule(plain(f"{text(one[0].lhs)} = {text(one[0].rhs)}, {ranges}"))]
    if isinstance(one, sp.Eq):
        return [_rule(plain(f"{text(one.lhs)} = {text(one.rhs)}"))]
    if not isinstance(one, str):
        raise DataError(f"a claimed equation is text, LaTeX or a sympy equation, got {shortly(one)}")
    if len(one) > LONGEST:
        raise DataError(f"a claim of {len(one)} characters is not read; at most {LONGEST} are")
    return [_rule(line) for line in _lines(plain(one))]


def _lines(claim: str) -> list[str]:
    """One text for each equation: lines that start none belong to the one before."""
    if re.match(r"\s*(NTK|NNGP|K) of ", claim):
        claim = claim.split("\n\n", 1)[-1]
    found: list[str] = []
    for line in claim.splitlines():
        stripped = line.strip()
        if not stripped or stripped.startswith(("and ", "for T")) or "~" in stripped:
            continue
        if re.match(r"[^\W\d_][^=≤]*=", stripped) and not stripped.startswith(("max", "∑")):
            if not stripped.startswith("⟨"):
                found.append(stripped)
        elif found:
            found[-1] += f" {stripped}"
        else:
            raise DataError(
                f"a claim starts with {shortly(stripped[:60])}, where an equation such as Θ(x,x') = .. was expected"
            )
    return found


def _rule(line: str) -> Rule:
    reader = Reader(line)
    left = reader.factor()
    if not isinstance(left, (Quantity, Mean)):
        raise reader.error("the left side is no quantity such as Σ^(l)(x,x')")
    reader.expect("=")
    right = reader.sum()
    return Rule(left, right, tuple(reader.ranges()), line)


class Reader:
    """Reads one line."""

    def __init__(self, line: str) -> None:
        self.line, self.at, self.depth = line.rstrip(" .,;"), 0, 0

    # ---- tokens ----------------------------------------------------------------------------------

    def peek(self) -> str:
        found = TOKEN.match(self.line, self.at)
        return found[1] if found else ""

    def take(self) -> str:
        found = TOKEN.match(self.line, self.at)
        if found is None:
            raise self.error("it ends here")
        self.at = found.end()
        return found[1]

    def accept(self, *tokens: str) -> str | None:
        return self.take() if self.peek() in tokens else None

    def expect(self, token: str) -> None:
        if self.accept(token) is None:
            raise self.error(f"{shortly(token)} was expected")

    def word(self) -> str | None:
        """A word of several letters, where one stands here."""
        found = WORD.match(self.line, self.at)
        return found[1] if found else None

    def error(self, why: str) -> DataError:
        return DataError(f"cannot read the claim {shortly(self.line)} at character {self.at}: {why}")

    # ---- grammar ---------------------------------------------------------------------------------

    def sum(self) -> Node:
        self.depth += 1
        if self.depth > DEEPEST:
            raise self.error(f"brackets within brackets are read to a depth of {DEEPEST}")
        sign = self.accept("+", "-")
        parts = [self.product() if sign != "-" else Op("neg", (self.product(),))]
        while (sign := self.accept("+", "-")) is not None:
            term = self.product()
            parts.append(term if sign == "+" else Op("neg", (term,)))
        self.depth -= 1
        return parts[0] if len(parts) == 1 else Op("add", tuple(parts))

    def product(self) -> Node:
        if self.accept("-"):
            return Op("neg", (self.product(),))
        parts = [self.power()]
        while True:
            if self.accept("·", "*"):
                if self.peek() == "*":
                    self.take()
                    parts[-1] = Op("pow", (parts[-1], self.power()))
                else:
                    parts.append(self.power())
            elif self.accept("/"):
                left = parts[0] if len(parts) == 1 else Op("mul", tuple(parts))
                parts = [Op("div", (left, self.power()))]
            elif self._starts_factor():
                parts.append(self.power())
            else:
                return parts[0] if len(parts) == 1 else Op("mul", tuple(parts))

    def _starts_factor(self) -> bool:
        token = self.peek()
        if token == "(" and self._is_range():
            return False
        return bool(token) and (token in "(⟨∑" or token[0].isalnum())

    def _is_range(self) -> bool:
        """Whether a bracket at the end holds ranges."""
        rest = self.line[self.at :]
        return bool(re.match(r"\s*\((?=[^=]*(≤|=))(.*)\)\s*$", rest)) and (
            "≤" in rest or re.match(r"\s*\(\w+ = ", rest) is not None
        )

    def power(self) -> Node:
        base = self.factor()
        while self.peek() == "^":
            self.take()
            base = Op("pow", (base, self._group(lambda: self.factor())))
        return base

    def _group(self, bare: Any) -> Node:
        if self.accept("{"):
            found = self.sum()
            self.expect("}")
            return found
        if self.accept("-"):
            return Op("neg", (self._group(bare),))
        return bare()

    def factor(self) -> Node:
        token = self.peek()
        if token in ("(", "{", "["):
            self.take()
            found = self.sum()
            self.expect({"(": ")", "{": "}", "[": "]"}[token])
            return found
        if token == "⟨":
            return self._gram()
        if token == "∑":
            self.take()
            return self._sum_over()
        if token and token[0].isdecimal():
            return Num(Fraction(self.take()))
        word = self.word()
        if word is not None and (word in FUNCTIONS or word == "frac"):
            self.at = WORD.match(self.line, self.at).end()  # type: ignore[union-attr]
            return self._call(word)
        if not token or not token[0].isalpha():
            raise self.error(f"a formula was expected, not {shortly(token)}")
        return self._named(self.take())

    def _call(self, word: str) -> Node:
        word = word.replace("arc", "a")
        if word == "frac":
            above, below = self._group(self.factor), self._group(self.factor)
            return Op("div", (above, below))
        close = {"(": ")", "{": "}", "[": "]"}.get(self.peek())
        if close is None:
            return Op(word.lower(), (self.power(),))
        self.take()
        if word == "Sum":
            return self._sympy_sum()
        parts = [self.sum()]
        while self.accept(","):
            parts.append(self.sum())
        self.expect(close)
        return Op(word.lower(), tuple(parts))

    def _sympy_sum(self) -> Node:
        body = self.sum()
        while self.accept(","):
            self.expect("(")
            index = self.take()
            self.expect(",")
            low = self.sum()
            self.expect(",")
            body = Sum(index, low, self.sum(), body)
            self.expect(")")
        self.expect(")")
        return body

    def _named(self, name: str) -> Node:
        """A quantity, an expectation, a sum, or a symbol."""
        here = self.at
        if name == "Σ" and self.line[here : here + 2] == "_(":
            return self._sum_over()
        if name in ("V", "E") and self.peek() in ("[", "_"):
            return self._mean(name)
        letters = re.match(r"_\{?([A-Za-z]+)\}?(?=\s*\^\s*\{?\s*\()", self.line[self.at :])
        if letters and name[0].isupper():  # Σ_LN^(1)
            name, self.at = f"{name}_{letters[1]}", self.at + letters.end()
        copy = self._copy()
        if self.peek() == "^":
            self.take()
            index = self._index()
            if index is not None:
                return Quantity(name, index, self._pair(), max(copy, self._copy()))
            self.at = here
        elif PAIR.match(self.line, self.at):
            return Quantity(name, (), self._pair(), max(copy, self._copy()))
        else:
            self.at = here
        while self.at < len(self.line) and (m := re.match(r"[^\W\d_]+|\d+", self.line[self.at :])):
            if len(name) == 1 and not name.isascii():
                break
            name += m[0]
            self.at += len(m[0])
        if self.peek() == "_":
            name += self._subscript()
        return Sym(name)

    def _copy(self) -> int:
        m = re.match(r"\s*(?:_\{\[(\d+)\]\}|\.(\d+))", self.line[self.at :])
        if m is None:
            return 1
        self.at += m.end()
        return int(m[1] or m[2])

    def _subscript(self) -> str:
        self.take()
        m = re.match(r"\s*(?:\{([^{}]*)\}|(\w+?)(?=[^\w]|$))", self.line[self.at :])
        if m is None:
            raise self.error("a subscript was expected")
        self.at += m.end()
        return "_" + (m[1] or m[2]).strip()

    def _index(self) -> tuple[Node, ...] | None:
        """(l,t,t') or {(l,t,t')}; None for an exponent."""
        start = self.at
        braced = self.accept("{")
        if self.accept("(") is None:
            self.at = start
            return None
        parts = [self.sum()]
        while self.accept(","):
            parts.append(self.sum())
        self.expect(")")
        if braced:
            self.expect("}")
        if PAIR.match(self.line, self.at):
            return tuple(parts)
        self.at = start
        return None

    def _pair(self) -> tuple[str, str]:
        m = PAIR.match(self.line, self.at)
        if m is None:
            raise self.error("a pair of inputs such as (x,x') was expected")
        self.at = m.end()
        return m[1], m[2]

    def _gram(self) -> Node:
        self.take()
        a = self._datum()
        self.expect(",")
        b = self._datum()
        self.expect("⟩")
        return Gram((a[0], b[0]), (a[1], b[1]))

    def _datum(self) -> tuple[str, Node | None]:
        m = re.match(r"\s*([^\W\d_]+'*)(\d+)?", self.line[self.at :])
        if m is None:
            raise self.error("a datum such as x or x_t was expected")
        self.at += m.end()
        if m[2]:
            return m[1], Num(Fraction(m[2]))
        if self.accept("_"):
            label = m[1]
            time = self._group(self.factor)
            if self.peek() and self.peek()[0] == "'":
                self.take()
                label += "'"
            return label, time
        return m[1], None

    def _mean(self, letter: str) -> Node:
        close = "]"
        if self.take() == "_":
            close = "}" if self.accept("{") else ""
        if close:
            end = self.line.find(close, self.at)
            names, self.at = self.line[self.at : end], end + 1
        else:
            names = self.take()
        opening = self.take()
        if opening not in ("(", "["):
            raise self.error("the covariance of an expectation was expected in brackets")
        parts = [self.sum()]
        while self.accept(","):
            parts.append(self.sum())
        self.expect({"(": ")", "[": "]"}[opening])
        return Mean(letter, re.sub(r"\s+", "·", names.strip().replace(" ,", ",").replace(", ", ",")), tuple(parts))

    def _sum_over(self) -> Node:
        self.expect("_")
        opening = self.take()
        index = self.take()
        self.expect("=")
        low = self.sum()
        if opening == "(":
            self.expect("..")
            high = self.sum()
            self.expect(")")
        else:
            self.expect("}")
            self.expect("^")
            high = self._group(self.factor)
        return Sum(index, low, high, self.product())

    def ranges(self) -> list[tuple[str, Node, Node]]:
        """2 ≤ l ≤ L, t = max(1,1-τ), .. to the end."""
        found = []
        self.accept(",")
        bracket = self.accept("(")
        while self.peek() and self.peek() != ")":
            first = self.sum()
            if self.accept("="):
                value = self.sum()
                found.append((_index_name(first, self), value, value))
            else:
                self.expect("≤")
                index = _index_name(self.sum(), self)
                self.expect("≤")
                found.append((index, first, self.sum()))
            if not self.accept(","):
                break
        if bracket:
            self.expect(")")
        if self.peek():
            raise self.error(f"{shortly(self.peek())} was not expected")
        return found


def _index_name(n: Node, reader: Reader) -> str:
    if not isinstance(n, Sym):
        raise reader.error("an index such as l was expected in a range")
    return n.name
