r"""What V_φ, V_{φ,ψ} and E_φ stand for: expectations over a Gaussian, or their closed forms."""

from __future__ import annotations

import sympy as sp

from tensorprog.expectations.atoms import Expect, head_of, products
from tensorprog.expectations.formulas import closed_form
from tensorprog.kernels.typeset import Style

LAW = r"\mathcal{N}\left(0, \begin{pmatrix} q & c \\ c & q' \end{pmatrix}\right)"


def legend(atoms: list[Expect], style: Style, closed: bool = False) -> list[str]:
    """One line for every kind of expectation that occurs; of E φ(u)² and E φ(u)φ(v) only the latter."""
    found: dict[str, Expect] = {}
    for g in atoms:
        head = head_of(g, style.tex)
        if head not in found or len(found[head].mean) < len(g.mean):
            found[head] = g
    known = [(head, g) for head, g in found.items() if products(g) is not None]
    if closed:
        return [_closed(head, g, style) or _defined(head, g, style) for head, g in known]
    short: dict[tuple[bool, bool], str] = {}
    for head, g in known:
        functions = products(g)
        short.setdefault((len(g.mean) == 1, len(set(functions or ())) > 1), _defined(head, g, style))
    return list(short.values())


def _arguments(g: Expect, style: Style) -> str:
    inside = "q" if _single(g) else "q, c, q'"
    return rf"\!\left[{inside}\right]" if style.tex else f"({inside})"


def _single(g: Expect) -> bool:
    return len(g.mean) == 1 and not _square(g)


def _square(g: Expect) -> bool:
    return len(g.mean) == 1 and sp.Mul.make_args(g.body)[0].as_base_exp()[1] == 2 and len(g.body.args) == 2


def _defined(head: str, g: Expect, style: Style) -> str:
    """V_φ[q, c, q'] = E φ(u)φ(v), (u, v) ~ N(0, [[q, c], [c, q']])."""
    names = [str(n) for n in products(g, style.tex) or ()]
    left = head + _arguments(g, style)
    if _single(g):
        body = _applied(names[0], "u", style)
        return (
            rf"{left} = \mathbb{{E}}\,{body}, \quad u \sim \mathcal{{N}}(0, q)" if style.tex else
            f"{left} = E {body}, u ~ N(0, q)"
        )  # fmt: skip
    first, second = names[0], names[-1]
    if len(g.mean) == 1:
        first = second = head_of(g, style.tex).split("_{", 1)[-1][:-1] if style.tex else head_of(g, False)[2:-1]
    body = _applied(first, "u", style) + ("" if style.tex else " ") + _applied(second, "v", style)
    if style.tex:
        return rf"{left} = \mathbb{{E}}\,{body}, \quad (u,v) \sim {LAW}"
    return f"{left} = E {body}, (u,v) ~ N(0, [[q,c],[c,q']])"


def _applied(name: str, u: str, style: Style) -> str:
    parts = name.split(" ") if style.tex else name.split("·")
    return ("" if style.tex else " ").join(f"{p}({u})" for p in parts)


def _closed(head: str, g: Expect, style: Style) -> str | None:
    formula = closed_form(g.body, g.variables)
    if formula is None:
        return None
    return f"{head}{_arguments(g, style) if len(g.mean) == 2 else _one(style)} = {style.expr(formula)}"


def _one(style: Style) -> str:
    return r"\!\left[q\right]" if style.tex else "(q)"
