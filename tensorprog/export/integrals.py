"""Expectations as functions of a standalone file: closed forms, and quadrature where there is none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import sympy as sp

from tensorprog.algebra import Gen
from tensorprog.errors import NoRuleError
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.expectations.bodies import affine, kinks
from tensorprog.expectations.closed.pairs import ErfPrime
from tensorprog.export.phrases import ATOM, Phrase, Speller, identifier
from tensorprog.functions import Abs, Cos, Delta, Erf, Exp, Fn, Gauss, Gelu, Relu, Sign, Sin, Step

CHO_SAUL = "Cho and Saul, NeurIPS 2009, Eq. (3)-(6)"
WILLIAMS = "Williams, NeurIPS 1996, Eq. (11)"
PAIRS: dict[tuple[type[Fn], type[Fn]], tuple[str, str, tuple[str, ...]]] = {
    (Relu, Relu): (
        f"E relu(u) relu(v): {CHO_SAUL}.",
        "(sine(q, c, p) + c * (pi - angle(q, c, p))) / (2 * pi)",
        ("angle", "sine", "root"),
    ),
    (Step, Step): (
        f"E step(u) step(v) = P(u > 0, v > 0): {CHO_SAUL}.",
        "{m}.where(q * p > 0, pi - angle(q, c, p), 0 * c) / (2 * pi)",
        ("angle", "sine", "root"),
    ),
    (Step, Relu): (
        "E step(u) relu(v), u ~ N(0, q), v ~ N(0, p).",
        "{m}.where(q > 0, root(p) + c / root({m}.where(q > 0, q, 1 + 0 * q)), 0 * c) / (8 * pi)**0.5",
        ("root",),
    ),
    (Abs, Abs): (
        f"E |u| |v|: {CHO_SAUL}.",
        "2 * (sine(q, c, p) + c * (pi / 2 - angle(q, c, p))) / pi",
        ("angle", "sine", "root"),
    ),
    (Sign, Sign): (
        "E sign(u) sign(v) = 2 arcsin(c / sqrt(q p)) / pi.",
        "{m}.where(q * p > 0, 1 - 2 * angle(q, c, p) / pi, 0 * c)",
        ("angle", "sine", "root"),
    ),
    (Erf, Erf): (
        f"E erf(u) erf(v) = 2/pi arcsin(2c / sqrt((1 + 2q)(1 + 2p))): {WILLIAMS}.",
        "2 * {m}.arctan2(2 * c, ((1 + 2 * q) * (1 + 2 * p) - 4 * c**2)**0.5) / pi",
        (),
    ),
    (ErfPrime, ErfPrime): (
        f"E erf'(u) erf'(v): derivative of {WILLIAMS}, in c.",
        "4 / (pi * ((1 + 2 * q) * (1 + 2 * p) - 4 * c**2)**0.5)",
        (),
    ),
    (Delta, Delta): (
        "E delta(u) delta(v), the density of (u, v) at 0; infinite at parallel inputs.",
        "1 / (2 * pi * sine(q, c, p))",
        ("sine", "root"),
    ),
    (Exp, Exp): ("E exp(u) exp(v).", "{m}.exp((q + p) / 2 + c)", ()),
    (Sin, Sin): ("E sin(u) sin(v).", "{m}.exp(-(q + p) / 2) * {m}.sinh(c)", ()),
    (Cos, Cos): ("E cos(u) cos(v).", "{m}.exp(-(q + p) / 2) * {m}.cosh(c)", ()),
    (Gauss, Gauss): ("E gauss(u) gauss(v): Williams, NeurIPS 1996, Eq. (13).", "((1 + q) * (1 + p) - c**2)**-0.5", ()),
    (Gelu, Gelu): (
        "E gelu(u) gelu(v): Tsuchida et al., AAAI 2021.",
        "c * {m}.arctan2(((1 + q) * (1 + p) - c**2)**0.5, -c) / (2 * pi)"
        " + (q * p + c**2 * (1 / (1 + q) + 1 / (1 + p) - 1)) / (2 * pi * ((1 + q) * (1 + p) - c**2)**0.5)",
        (),
    ),
}
MEANS: dict[type[Fn], tuple[str, tuple[str, ...]]] = {
    Relu: ("root(q / (2 * pi))", ("root",)),
    Step: ("{m}.where(q > 0, 0.5 + 0 * q, 0 * q)", ()),
    Abs: ("root(2 * q / pi)", ("root",)),
    ErfPrime: ("2 / (pi * (1 + 2 * q))**0.5", ()),
    Exp: ("{m}.exp(q / 2)", ()),
    Cos: ("{m}.exp(-q / 2)", ()),
    Gauss: ("(1 + q)**-0.5", ()),
    Gelu: ("q / (2 * pi * (1 + q))**0.5", ()),
    Delta: ("(2 * pi * q)**-0.5", ()),
}
ODD = (Sign, Erf, Sin)
WIDEST, SHIFT = 16.0, 2.0  # variances, and standard deviations by which the mass of an integrand may move


class Integrals:
    """The functions that a file needs for its expectations, by name, in order of first use.

    Attributes:
        functions: the text of each.
        helpers: names of the helpers that they call.
    """

    def __init__(self, speller: Speller) -> None:
        self.speller, self.functions, self.helpers = speller, dict[str, str](), set[str]()
        self._named: dict[Any, str] = {}

    def forget(self) -> None:
        """Start again."""
        self._named.clear()

    def call(self, g: Expect, phrase: Callable[[Any], Phrase], leaf: Callable[[Gen], Phrase]) -> Phrase:
        """The call that gives an expectation."""
        k = len(g.mean)
        if k > 2:
            raise NoRuleError(
                f"{head_of(g, False)} is an expectation over {k} Gaussian variables, for which the exported code has "
                "no formula and no quadrature; use the kernel itself, K(X)"
            )
        plain = not any(g.mean) and not g.scalars
        factors = factors_of(g.body, g.variables) if plain else None
        if factors is not None and len(factors) <= 2:
            found = self._closed(factors, g, phrase)
            if found is not None:
                return found
        return self._quadrature(g, phrase, leaf)

    def _closed(self, factors: list[tuple[type[Fn], int]], g: Expect, phrase: Any) -> Phrase | None:
        if len(factors) == 1:
            [(cls, i)] = factors
            if cls in ODD:
                return "0.0", ATOM
            if cls not in MEANS:
                return None
            body, helpers = MEANS[cls]
            name = self._add(
                ("mean", cls), "E_" + identifier(str(cls.__name__)), "q", f"E {cls.__name__}(u), u ~ N(0, q).", body
            )
            self.helpers.update(helpers)
            return f"{name}({phrase(g.entry(i, i))[0]})", ATOM
        (first, i), (second, j) = factors
        if (first, second) not in PAIRS:
            (first, i), (second, j) = (second, j), (first, i)
        if (first, second) not in PAIRS:
            return None
        said, body, helpers = PAIRS[first, second]
        names = [identifier(c.__name__) for c in dict.fromkeys((first, second))]
        name = self._add(("pair", first, second), "V_" + "_".join(names), "q, c, p", said, body)
        self.helpers.update(helpers)
        return f"{name}({', '.join(phrase(g.entry(*e))[0] for e in ((i, i), (i, j), (j, j)))})", ATOM

    def _quadrature(self, g: Expect, phrase: Any, leaf: Any) -> Phrase:
        us, k = g.variables, len(g.mean)
        features = [self._features(g, u) for u in us]
        shifted = any(g.mean)
        scalars = [f"s{i + 1}" for i in range(len(g.scalars))]
        held = dict(zip(us, ("u", "v"), strict=False))
        held |= dict(zip(g.scalars, scalars, strict=True))
        speller = Speller(self.speller.module, {**self.speller.symbols, **held})
        body = speller.expr(g.body)[0]
        law = ["q"] if k == 1 else ["q", "c", "p"]
        most = largest(g.body)
        widths = law if most is None else [a if a == "c" else f"narrow({a}{_other(most)})" for a in law]
        means = [f"m{i + 1}" for i in range(k)] if shifted else []
        head = head_of(g, False)
        simple = all(ch.isalnum() or ch in "[],'_" for ch in head)
        stem = identifier(head) if simple else f"E_{len(self.functions) + 1}"
        stem += "_same" * (k == 1 and stem.startswith("V_"))
        smooth = not any(features)
        helper = f"{'smooth' if smooth else 'kinked'}_mean{k}"
        edges = [] if smooth else [str(f) for f in features]
        given = ", ".join([f"lambda {', '.join(['u', 'v'][:k])}: {body}", *edges, *widths, *means])
        lines = f"{helper}({given})"
        said = f"E {_words(g)}, by quadrature."
        name = self._add(("quadrature", g.body, shifted), stem, ", ".join([*law, *means, *scalars]), said, lines)
        self.helpers.update({helper, "root", *(["sine"] if k == 2 else []), *([] if smooth else ["panels"])})
        self.helpers.update([] if most is None else ["narrow"])
        entries = [g.entry(i, j) for i in range(k) for j in range(i, k)] + (list(g.mean) if shifted else [])
        args = [phrase(p)[0] for p in entries] + [leaf(s)[0] for s in g.scalars.values()]
        return f"{name}({', '.join(args)})", ATOM

    def _features(self, g: Expect, u: sp.Symbol) -> list[float]:
        """Where the body has kinks in a variable."""
        found = set()
        for e in kinks(g.body, g.variables):
            slopes, at = affine(sp.expand(e), g.variables)
            mine = [v for v, s in zip(g.variables, slopes, strict=False) if s != 0]
            if len(mine) != 1 or not at.is_number:
                raise NoRuleError(
                    f"{head_of(g, False)} has a kink where {e} = 0, across which the quadrature of the exported code "
                    "has no digits; use the kernel itself, K(X)"
                )
            if mine[0] == u:
                found.add(float(-at / slopes[g.variables.index(u)]))
        if any(f for f in g.body.atoms(Fn) if f.family.name == "delta"):
            raise NoRuleError(f"{head_of(g, False)} holds a Dirac delta, for which the exported code has no quadrature")
        return sorted(found)

    def _add(self, key: Any, stem: str, args: str, said: str, body: str) -> str:
        if key not in self._named:
            name = stem
            while name in self.functions:
                name += "_"
            self._named[key] = name
            text = body.format(m=self.speller.module) if "{m}" in body else body
            self.functions[name] = f'def {name}({args}):\n    """{said}"""\n    return {text}\n'
        return self._named[key]


def _other(most: float) -> str:
    return "" if most == WIDEST else f", {most:.6g}"


def largest(body: sp.Expr) -> float | None:
    """The largest variance for which quadrature has its digits; None where a body is polynomial between its kinks.

    A body that grows like exp(k|u|) moves the mass by k times the variance, where all of it must still lie within
    the nodes.

    >>> from tensorprog.functions import Exp, Relu, Tanh
    >>> u = sp.Symbol("u")
    >>> largest(Relu(u) ** 3), largest(Tanh(u)), largest(Exp(u) * Tanh(u)), largest(Exp(2 * u) * Tanh(u))
    (None, 16.0, 4.0, 1.0)
    """
    if all(_polynomial(f) for f in body.atoms(sp.Function)):
        return None
    rate = growth(body)
    return min(WIDEST, (SHIFT / rate) ** 2) if rate else WIDEST


def _polynomial(f: sp.Expr) -> bool:
    return isinstance(f, Fn) and bool(f.family.pieces) and not any(p.has(sp.exp) for p in f.family.pieces)


def growth(e: sp.Expr, sides: tuple[int, ...] = (-1, 1)) -> float:
    """A bound k of the growth exp(k|u|) of an expression, to the left, to the right or to both sides of 0."""
    if e.is_Add:
        return max(growth(a, sides) for a in e.args)
    if e.is_Mul:
        return sum(growth(a, sides) for a in e.args)
    if isinstance(e, (Exp, sp.exp, sp.sinh, sp.cosh)):
        return _exponential(e, () if isinstance(e, (sp.sinh, sp.cosh)) else sides)
    if e.is_Pow:
        return float(e.exp) * growth(e.base, sides) if e.exp.is_number and e.exp > 0 else 0.0
    if not isinstance(e, Fn) or e.family.ends or not (e.family.pieces or e.family.definition):
        return 0.0
    if e.family.pieces:
        rate = max(growth(e.family.pieces[0], (-1,)), growth(e.family.pieces[-1], (1,)))
    else:
        rate = growth(e.family.definition)
    slopes = [sp.diff(e.args[0], v) for v in e.args[0].free_symbols] if rate else []
    if not all(s.is_number for s in slopes):
        raise _too_fast(e)
    return rate * sum(abs(float(s)) for s in slopes)


def _exponential(e: sp.Expr, sides: tuple[int, ...]) -> float:
    """Of exp at an affine argument, or at one that is bounded above; of cosh and sinh where no side is named."""
    inside = e.args[0]
    given = sorted(inside.free_symbols, key=str)
    slopes = [sp.diff(inside, v) for v in given]
    if all(s.is_number for s in slopes):
        if len(slopes) == 1 and sides:
            return max(0.0, *(float(slopes[0]) * side for side in sides))
        return float(sum(abs(s) for s in slopes))
    if sides and len(given) == 1 and inside.is_polynomial(*given):
        of = sp.Poly(inside, *given)
        if of.degree() % 2 == 0 and of.LC() < 0:
            return 0.0
    raise _too_fast(e)


def _too_fast(e: sp.Expr) -> NoRuleError:
    return NoRuleError(f"{e} grows too fast for the quadrature of the exported code; use the kernel itself, K(X)")


def _words(g: Expect) -> str:
    text = str(g.body).replace("u1", "u").replace("u2", "v")
    return text if len(text) < 60 else "of the body below"


def factors_of(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> list[tuple[type[Fn], int]] | None:
    """The functions of single variables whose product a body is, with their variables; None when it is none."""
    found: list[tuple[type[Fn], int]] = []
    for f in sp.Mul.make_args(body):
        base, power = f.as_base_exp()
        if not (isinstance(base, Fn) and base.args[0] in variables and power.is_Integer and power > 0):
            return None
        found += [(type(base), variables.index(base.args[0]))] * min(int(power), 3)
    return found
