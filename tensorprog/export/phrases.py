"""Formulas as Python: polynomials and sympy expressions in the words of NumPy, PyTorch or JAX."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly
from tensorprog.errors import NoRuleError
from tensorprog.functions import FAMILIES, Fn, X, has_deltas, is_delta, text_name

SUM, PRODUCT, POWER, ATOM = range(4)  # how tightly a phrase binds
Phrase = tuple[str, int]
WORDS = {sp.exp: "exp", sp.log: "log", sp.tanh: "tanh", sp.sinh: "sinh", sp.cosh: "cosh", sp.sin: "sin",
         sp.cos: "cos", sp.tan: "tan", sp.atan: "arctan", sp.asin: "arcsin", sp.acos: "arccos", sp.asinh: "arcsinh",
         sp.Abs: "abs", sp.sign: "sign"}  # fmt: skip
NAMED = {
    "relu": "{m}.where({x} > 0, {x}, 0 * {x})",
    "step": "{m}.where({x} > 0, 1.0, 0.0)",
    "sign": "{m}.sign({x})",
    "abs": "{m}.abs({x})",
    "exp": "{m}.exp({x})",
    "sin": "{m}.sin({x})",
    "cos": "{m}.cos({x})",
    "softplus": "{m}.where({x} > 0, {x}, 0 * {x}) + {m}.log1p({m}.exp(-{m}.abs({x})))",
}
UNSPOKEN = {"Contracted": "a mean over random scores", "Batched": "a mean over the members of a batch",
            "Lawful": "a mean over weights that are not Gaussian"}  # fmt: skip


def without_code(g: Gen) -> NoRuleError:
    """The refusal of what stands in a kernel and has no code."""
    return NoRuleError(f"{UNSPOKEN.get(type(g).__name__, type(g).__name__)} has no code")


def wrapped(phrase: Phrase, least: int) -> str:
    """A phrase, in brackets where it binds less tightly than needed."""
    return phrase[0] if phrase[1] >= least else f"({phrase[0]})"


class Speller:
    """Writes formulas with one library.

    Args:
        module: ``np``, ``torch`` or ``jnp``.
        symbols: what symbols are written as; others by ``identifier``.
    """

    def __init__(self, module: str, symbols: Mapping[sp.Symbol, str] | None = None) -> None:
        self.module, self.symbols = module, dict(symbols or {})

    # ---- polynomials -----------------------------------------------------------------------------

    def poly(self, p: Poly, leaf: Callable[[Gen], Phrase]) -> Phrase:
        """A polynomial whose generators are written by ``leaf``."""
        if not p.terms:
            return "0.0", ATOM
        found = [self._term(mono, c, leaf) for mono, c in p.terms.items()]
        if len(found) == 1:
            sign, phrase = found[0]
            return phrase if sign > 0 else (f"-{wrapped(phrase, PRODUCT)}", SUM)
        found.sort(key=lambda term: term[0] < 0)
        text = "".join(
            f"{'' if i == 0 and sign > 0 else ' + ' if sign > 0 else ' - ' if i else '-'}{wrapped(phrase, PRODUCT)}"
            for i, (sign, phrase) in enumerate(found)
        )
        return text, SUM

    def _term(self, mono: Any, c: Any, leaf: Callable[[Gen], Phrase]) -> tuple[int, Phrase]:
        number = sp.Rational(c.numerator, c.denominator) if isinstance(c, (int, Fraction)) else sp.sympify(c)
        sign = -1 if number.is_negative else 1
        number *= sign
        below = number.q if number.is_Rational else 1
        above = number * below
        factors = [self.expr(above)] if above != 1 or not mono else []
        factors += [self.power(leaf(g), e) for g, e in mono]
        if below == 1 and len(factors) == 1:
            return sign, factors[0]
        text = " * ".join(wrapped(f, POWER) for f in factors) + (f" / {below}" if below != 1 else "")
        return sign, (text, PRODUCT)

    def power(self, base: Phrase, e: int) -> Phrase:
        return base if e == 1 else (f"{wrapped(base, ATOM)}**{e}", POWER)

    # ---- sympy -----------------------------------------------------------------------------------

    def expr(self, e: sp.Expr) -> Phrase:
        """A sympy expression in symbols, numbers, elementary functions and members of the table."""
        if e.is_Symbol:
            return self.symbols.get(e) or identifier(e.name), ATOM
        if e.is_Number or e.is_NumberSymbol:
            return self._number(e)
        if e.is_Add:
            parts = [
                self.expr(a) for a in sorted(e.args, key=lambda a: (a.is_Number, a.could_extract_minus_sign(), str(a)))
            ]
            text = " + ".join(wrapped(p, PRODUCT) if not p[0].startswith("-") else p[0] for p in parts)
            return text.replace("+ -", "- "), SUM
        if e.is_Mul:
            return self._product(e)
        if e.is_Pow:
            return self._power(e)
        if isinstance(e, Fn):
            return self.member(type(e), self.expr(e.args[0]))
        if isinstance(e, sp.erf):
            return f"erf({self.expr(e.args[0])[0]})", ATOM
        if e.func in WORDS:
            return f"{self.module}.{WORDS[e.func]}({self.expr(e.args[0])[0]})", ATOM
        raise NoRuleError(f"{e.func.__name__} has no words in the exported code; write it in functions that have")

    def _number(self, e: sp.Expr) -> Phrase:
        if e.is_Integer:
            return (str(e), ATOM) if e >= 0 else (str(e), SUM)
        if e.is_Rational and abs(e.q) < 10**6:
            return f"{e.p} / {e.q}", PRODUCT if e.p >= 0 else SUM
        if e is sp.pi:
            return "pi", ATOM
        return repr(float(e)), ATOM if e >= 0 else SUM

    def _product(self, e: sp.Expr) -> Phrase:
        number, _ = e.as_coeff_Mul()
        if number.is_negative:
            return f"-{wrapped(self.expr(-e), PRODUCT)}", SUM
        above, below = sp.fraction(e, exact=True)
        if below == 1:
            factors = [wrapped(self.expr(f), POWER) for f in sp.Mul.make_args(above)]
            return " * ".join(factors), PRODUCT
        return f"{wrapped(self.expr(above), PRODUCT)} / {wrapped(self.expr(below), POWER)}", PRODUCT

    def _power(self, e: sp.Expr) -> Phrase:
        base, exponent = e.as_base_exp()
        if base is sp.E:
            return f"{self.module}.exp({self.expr(exponent)[0]})", ATOM
        if exponent.could_extract_minus_sign():
            return f"1 / {wrapped(self.expr(base**-exponent), POWER)}", PRODUCT
        return f"{wrapped(self.expr(base), ATOM)}**{wrapped(self.expr(sp.nsimplify(exponent)), ATOM)}", POWER

    def member(self, cls: type[Fn], argument: Phrase) -> Phrase:
        """A member of the table of functions at an argument."""
        family, x = cls.family, argument
        if is_delta(cls) or has_deltas(cls):
            raise NoRuleError(f"{text_name(cls)} is no function: only its expectations have code")
        if family.name in NAMED and cls.order == 0 and family.name in FAMILIES:
            text = NAMED[family.name].format(m=self.module, x=wrapped(x, ATOM))
            return text, SUM if family.name == "softplus" else ATOM
        if family.pieces:
            return self._pieces(cls, x)
        if family.definition is None:
            raise NoRuleError(
                f"{text_name(cls)} is abstract and has no numbers: build the network with a concrete function such as "
                "tp.relu"
            )
        formula = sp.diff(family.definition, X, cls.order)
        return Speller(self.module, {**self.symbols, X: wrapped(x, ATOM)}).expr(formula)

    def _pieces(self, cls: type[Fn], x: Phrase) -> Phrase:
        """Nested choices; every piece is evaluated on its own side of its kinks, where it is finite."""
        at, m = wrapped(x, ATOM), self.module
        pieces = [sp.diff(p, X, cls.order) for p in cls.family.pieces]
        bounds = [None, *cls.family.kinks, None]
        text = ""
        for i in reversed(range(len(pieces))):
            low, high = bounds[i], bounds[i + 1]
            safe = at
            if pieces[i].has(sp.exp):
                safe = f"{m}.clip({at}, {self._edge(low)}, {self._edge(high)})"
            value = Speller(m, {**self.symbols, X: safe}).expr(pieces[i])[0]
            if pieces[i].is_number:
                value = f"{value} + 0 * {at}"
            text = (
                value if not text else f"{m}.where({at} > {self.expr(sp.sympify(bounds[i + 1]))[0]}, {text}, {value})"
            )
        return text, ATOM

    def _edge(self, kink: Any) -> str:
        return "None" if kink is None else repr(float(kink))

    # ---- generators ------------------------------------------------------------------------------

    def apply(self, g: Apply, leaf: Callable[[Gen], Phrase]) -> Phrase:
        """A function of deterministic quantities."""
        args = [self.poly(a, leaf) for a in g.args]
        if not isinstance(g.fn, sp.Lambda):
            return self.member(g.fn, args[0])
        held = {v: wrapped(a, ATOM) for v, a in zip(g.fn.variables, args, strict=True)}
        return Speller(self.module, {**self.symbols, **held}).expr(g.fn.expr)


GREEK = {"Σ": "Sigma", "Π": "Pi", "Θ": "Theta", "Ψ": "Psi", "Φ": "Phi", "σ": "sigma", "φ": "phi", "α": "alpha",
         "⟨⟩": "G"}  # fmt: skip


def identifier(name: str) -> str:
    """A printed name as an identifier.

    >>> identifier("Σ"), identifier("erf'"), identifier("sigma_w")
    ('Sigma', 'erf_prime', 'sigma_w')
    """
    for letter, word in GREEK.items():
        name = name.replace(letter, word)
    name = re.sub(r"\W+", "_", name.replace("'", "_prime")).strip("_")
    return name if name and not name[0].isdigit() else f"q{name}"
