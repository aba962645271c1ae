r"""What V_φ, V_{φ,ψ} and E_φ stand for: expectations over a Gaussian, or their closed forms."""

from __future__ import annotations

from collections.abc import Iterable

import sympy as sp

from tensorprog.expectations.atoms import Expect, head_of, products
from tensorprog.expectations.closed.printed import closed_form
from tensorprog.expectations.lawful import Lawful
from tensorprog.formulas.typeset import TEX, TEXT, Line, Said, Style

PLAIN, SHORT = ("q", "c", "q'"), ("Σ(x,x)", "Σ(x,x')", "Σ(x',x')")  # Var u, Cov(u, v), Var v
INNER = {False: "⟨x,x'⟩ = x·x'/d", True: r"$\langle x,x'\rangle = x \cdot x'/d$"}
SIGN = "C(x,x')"
LAW = r"\mathcal{N}\bigl(0, \bigl(\begin{smallmatrix} q & c \\ c & q' \end{smallmatrix}\bigr)\bigr)"


def legend(atoms: list[Expect], short: bool = False, grams: bool = False) -> list[str]:
    """A line of text for every kind of expectation that occurs; of E φ(u)² and E φ(u)φ(v) only the latter.

    Args:
        atoms: the expectations.
        short: whether V_φ[Σ(x,x')] stands for V_φ[Σ(x,x), Σ(x,x'), Σ(x',x')].
        grams: whether inner products of data occur.
    """
    kinds = _kinds(_by_head([g for g in atoms if not isinstance(g, Lawful)], TEXT))
    lines = [_text(head, g, SHORT if short else PLAIN) for head, g in kinds.values()]
    return [*lines, *_of_laws(atoms), *([INNER[False]] if grams else [])]


def said(
    atoms: list[Expect], long: list[Expect], closed: bool = False, grams: bool = False, notes: Iterable[str] = (),
    about: Iterable[str] = (),
) -> Said:  # fmt: skip
    """The same for LaTeX, as a paragraph.

    Args:
        atoms: the expectations.
        long: those that are printed with all entries of their covariance, the others as V_φ[C(x,x')].
        closed: whether to add closed forms, of every function where there is one.
        grams: whether inner products of data occur.
        notes: sentences that come first.
        about: what indices mean.
    """
    plain = [g for g in atoms if not isinstance(g, Lawful)]
    found = _by_head(plain, TEX)
    meanings = []
    for kind, (head, g) in _kinds(found).items():
        own = [h for h in plain if products(h) is not None and (_kind(h) == kind or (_square(h) and not kind[0]))]
        meanings.append(_meaning(head, g))
        if not kind[0] and any(h not in long for h in own):
            full = _bracketed(head, "C(x,x), C(x,x'), C(x',x')")
            meanings.append(f"${_bracketed(head, SIGN)} = {full}$ for a covariance $C$")
        elif not kind[0] and any(map(_square, own)):
            meanings.append(f"${_bracketed(head, 'q')} = {_bracketed(head, 'q, q, q')}$")
    forms = [f for head, g in found.items() if closed and (f := _closed(head, g))]
    return Said(list(notes), [*meanings, *_of_laws(atoms), *([INNER[True]] if grams else []), *about], forms)


def _by_head(atoms: list[Expect], style: Style) -> dict[str, Expect]:
    """One expectation for each letter with its functions, one of two variables where there is one."""
    found: dict[str, Expect] = {}
    for g in atoms:
        head = head_of(g, style.tex)
        if products(g) is not None and (head not in found or len(found[head].mean) < len(g.mean)):
            found[head] = g
    return found


def _of_laws(atoms: list[Expect]) -> list[str]:
    """What expectations over weights that are not Gaussian are."""
    laws = {name: law.name for g in atoms if isinstance(g, Lawful) for name, law in g.laws.items()}
    shown = ", ".join(f"{name} {law}" for name, law in laws.items())
    words = "entries of this law and variance 1: variables have the covariance that is shown, and are not Gaussian"
    return [f"{shown}: {words}"] if laws else []


def _kinds(found: dict[str, Expect]) -> dict[tuple[bool, bool], tuple[str, Expect]]:
    """The first of every kind."""
    kinds: dict[tuple[bool, bool], tuple[str, Expect]] = {}
    for head, g in found.items():
        kinds.setdefault(_kind(g), (head, g))
    return kinds


def _kind(g: Expect) -> tuple[bool, bool]:
    """Whether E φ(u), and whether of different functions."""
    return _single(g), len(set(products(g) or ())) > 1


def _single(g: Expect) -> bool:
    return len(g.mean) == 1 and not _square(g)


def _square(g: Expect) -> bool:
    return len(g.mean) == 1 and sp.Mul.make_args(g.body)[0].as_base_exp()[1] == 2 and len(g.body.args) == 2


def _functions(head: str, g: Expect, style: Style) -> list[str]:
    """φ and ψ of E φ(u)ψ(v)."""
    names = [str(n) for n in products(g, style.tex) or ()]
    if len(g.mean) == 1 and not _single(g):
        return [head.split("_{", 1)[1][:-1] if style.tex else head[2:-1]]
    return names


def _text(head: str, g: Expect, entries: tuple[str, str, str]) -> str:
    """V[φ](q, c, q') = E φ(u) φ(v), (u,v) ~ N(0, [[q, c], [c, q']])."""
    q, c, q2 = entries
    names = _functions(head, g, TEXT)
    if _single(g):
        return f"{head}(q) = E {_applied(names[0], 'u', TEXT)}, u ~ N(0, q)"
    body = f"{_applied(names[0], 'u', TEXT)} {_applied(names[-1], 'v', TEXT)}"
    return f"{head}({c if entries is SHORT else ', '.join(PLAIN)}) = E {body}, (u,v) ~ N(0, [[{q}, {c}], [{c}, {q2}]])"


def _bracketed(head: str, inside: str) -> str:
    return rf"{head}\bigl[{inside}\bigr]"


def _meaning(head: str, g: Expect) -> str:
    """V_φ[..] = E φ(u) φ(v) with (u,v) ~ N(..)."""
    names = _functions(head, g, TEX)
    left = _bracketed(head, "q" if _single(g) else ", ".join(PLAIN))
    if _single(g):
        return rf"${left} = \mathsf{{E}}\,{_applied(names[0], 'u', TEX)}$ with $u \sim \mathcal{{N}}(0, q)$"
    body = f"{_applied(names[0], 'u', TEX)}{_applied(names[-1], 'v', TEX)}"
    return rf"${left} = \mathsf{{E}}\,{body}$ with $(u,v) \sim {LAW}$"


def _applied(name: str, u: str, style: Style) -> str:
    parts = name.split(" ") if style.tex else name.split("·")
    return ("" if style.tex else " ").join(f"{p}({u})" for p in parts)


def _closed(head: str, g: Expect) -> Line | None:
    formula = closed_form(g.body, g.variables)
    if formula is None:
        return None
    left = _bracketed(head, "q" if len(g.mean) == 1 else ", ".join(PLAIN))
    return Line(left, [("+", (str(sp.latex(formula, inv_trig_style="full")),))])
