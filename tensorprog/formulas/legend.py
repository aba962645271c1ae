r"""What V_φ, V_{φ,ψ} and E_φ stand for: expectations over a Gaussian, or their closed forms."""

from __future__ import annotations

import sympy as sp

from tensorprog.expectations.atoms import Expect, head_of, products
from tensorprog.expectations.closed.printed import closed_form
from tensorprog.formulas.typeset import Style

Entries = tuple[str, str, str]  # how Var u, Cov(u, v), Var v are called
PLAIN: dict[bool, Entries] = {False: ("q", "c", "q'"), True: ("q", "c", "q'")}
SHORT: dict[bool, Entries] = {
    False: ("Σ(x,x)", "Σ(x,x')", "Σ(x',x')"),
    True: (r"\Sigma(x,x)", r"\Sigma(x,x')", r"\Sigma(x',x')"),
}


ROW = ",\\quad "  # in LaTeX the law stands on a row of its own


def legend(atoms: list[Expect], style: Style, closed: bool = False, short: bool = False,
           grams: bool = False) -> list[str]:  # fmt: skip
    """One line for every kind of expectation that occurs; of E φ(u)² and E φ(u)φ(v) only the latter.

    Args:
        atoms: the expectations.
        style: text or LaTeX.
        closed: closed forms, of every function where there is one.
        short: whether V_φ[Σ(x,x')] stands for V_φ[Σ(x,x), Σ(x,x'), Σ(x',x')].
        grams: whether inner products of data occur.
    """
    found: dict[str, Expect] = {}
    for g in atoms:
        head = head_of(g, style.tex)
        if head not in found or len(found[head].mean) < len(g.mean):
            found[head] = g
    known = [(head, g) for head, g in found.items() if products(g) is not None]
    entries = (SHORT if short else PLAIN)[style.tex]
    kinds: dict[tuple[bool, bool], str] = {}
    for head, g in known:
        kinds.setdefault((_single(g), len(set(products(g) or ())) > 1), _defined(head, g, style, entries))
    forms = [f for head, g in known if closed and (f := _closed(head, g, style))]
    data = [r"\langle x,x'\rangle = x \cdot x'/d" if style.tex else "⟨x,x'⟩ = x·x'/d"] if grams else []
    return [*(row for kind in kinds.values() for row in kind.split(ROW)), *forms, *data]


def _bracketed(head: str, inside: str, style: Style) -> str:
    return rf"{head}\bigl[{inside}\bigr]" if style.tex else f"{head}({inside})"


def _single(g: Expect) -> bool:
    return len(g.mean) == 1 and not _square(g)


def _square(g: Expect) -> bool:
    return len(g.mean) == 1 and sp.Mul.make_args(g.body)[0].as_base_exp()[1] == 2 and len(g.body.args) == 2


def _defined(head: str, g: Expect, style: Style, entries: Entries) -> str:
    """V_φ[q, c, q'] = E φ(u)φ(v), (u, v) ~ N(0, [[q, c], [c, q']])."""
    q, c, q2 = entries
    names = [str(n) for n in products(g, style.tex) or ()]
    if _single(g):
        left, body = _bracketed(head, "q", style), _applied(names[0], "u", style)
        tex = rf"{left} = \mathsf{{E}}\,{body},\ u \sim \mathcal{{N}}(0, q)"
        return tex if style.tex else f"{left} = E {body}, u ~ N(0, q)"
    if len(g.mean) == 1:
        names = [head.split("_{", 1)[1][:-1] if style.tex else head[2:-1]]
    left = _bracketed(head, f"{q}, {c}, {q2}" if entries in PLAIN.values() else c, style)
    body = f"{_applied(names[0], 'u', style)}{'' if style.tex else ' '}{_applied(names[-1], 'v', style)}"
    if style.tex:
        law = rf"\begin{{pmatrix}} {q} & {c} \\ {c} & {q2} \end{{pmatrix}}"
        return rf"{left} = \mathsf{{E}}\,{body},\quad (u,v) \sim \mathcal{{N}}\left(0, {law}\right)"
    return f"{left} = E {body}, (u,v) ~ N(0, [[{q}, {c}], [{c}, {q2}]])"


def _applied(name: str, u: str, style: Style) -> str:
    parts = name.split(" ") if style.tex else name.split("·")
    return ("" if style.tex else " ").join(f"{p}({u})" for p in parts)


def _closed(head: str, g: Expect, style: Style) -> str | None:
    formula = closed_form(g.body, g.variables)
    if formula is None:
        return None
    arguments = "q" if len(g.mean) == 1 else ", ".join(PLAIN[style.tex])
    return f"{_bracketed(head, arguments, style)} = {_formula(formula, style)}"


def _formula(e: sp.Expr, style: Style) -> str:
    return str(sp.latex(e, inv_trig_style="full")) if style.tex else style.expr(e)
