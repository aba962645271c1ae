r"""How expectations over normalised batches print: N[φ](Σ(x,x'))[p,q], and in words what that is."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import sympy as sp

from tensorprog.algebra import Gen, Poly
from tensorprog.expectations.batch_norms import forms_of
from tensorprog.formulas.typeset import Style
from tensorprog.functions import latex_name, text_name
from tensorprog.limit.positions import Batched

MEMBERS = "p is a member of the batch x, q one of the batch x'", "$p$ is a member of the batch $x$, $q$ one of $x'$"
NORMALISED = (
    "y = u/√(mean of u² + ε), u = h - mean of h over the members, (h,h') ~ N(0, Σ); ε is 0 where it is left out",
    r"$y = u/\sqrt{\langle u^{2}\rangle + \varepsilon}$, $u = h - \langle h\rangle$ with means $\langle\cdot\rangle$ "
    r"over the members, $(h,h') \sim \mathcal{N}(0, \Sigma)$; $\varepsilon$ is 0 where it is left out",
)
VALUE = (
    "N[φ](Σ, ε)[p,q] = E φ(y[p]) φ(y'[q])",
    (r"$\mathsf{N}_{\varphi}\bigl[\Sigma, \varepsilon\bigr][p,q] = \mathsf{E}\, \varphi(y[p]) \varphi(y'[q])$"),
)
PUSHED = (
    "N[φ](Σ, ε; Θ)[p,q] = E φ(y[p]) φ(y'[q]) Σ_(i,j) ∂y[p]/∂h[i] Θ[i,j] ∂y'[q]/∂h'[j]",
    (
        r"$\mathsf{N}_{\varphi}\bigl[\Sigma, \varepsilon; \Theta\bigr][p,q] = \mathsf{E}\, \varphi(y[p]) "
        r"\varphi(y'[q]) \sum_{i,j} \frac{\partial y[p]}{\partial h[i]} \Theta[i,j] "
        r"\frac{\partial y'[q]}{\partial h'[j]}$"
    ),
)
INTEGRAL = (
    "of a batch with itself N[φ](Σ, ε)[p,q] = B ∫_0^∞ exp(-sBε) det(1 + 2sΓ)^(-1/2) V[φ](Γ_s)[p,q] ds",
    r"of a batch with itself $\mathsf{N}_{\varphi}\bigl[\Sigma, \varepsilon\bigr][p,q] = B \int_{0}^{\infty} "
    r"e^{-s B \varepsilon} \det(1 + 2 s \Gamma)^{-1/2} \mathsf{V}_{\varphi}\bigl[\Gamma_{s}\bigr][p,q] \, ds$",
)
GAMMA = (
    "Γ_s = Γ(1 + 2sΓ)^(-1), Γ = PΣP, P = 1 - 11ᵀ/B",
    r"$\Gamma_{s} = \Gamma (1 + 2 s \Gamma)^{-1}$, $\Gamma = P \Sigma P$, $P = 1 - 1 1^{\top}/B$",
)


def batched(g: Batched, style: Style, whole: Callable[[Poly], str], index: str) -> str:
    """N[relu](Σ(x,x'))[p,q], with ε where there is one, and Θ where it is a derivative.

    Args:
        g: the expectation.
        style: text or LaTeX.
        whole: how the array that a polynomial stands for prints.
        index: the positions.
    """
    names = [_name(fn, style, g.theta is not None) for fn in (g.first, g.second)]
    name = names[0] if names[0] == names[1] else ",".join(names)
    inside = ", ".join(whole(p) for p in (g.cross, *([g.eps] if g.eps else [])))
    inside += "" if g.theta is None else f"; {whole(g.theta)}"
    return (rf"\mathsf{{N}}_{{{name}}}\bigl[{inside}\bigr]" if style.tex else f"N[{name}]({inside})") + index


def _name(fn: object, style: Style, slope: bool) -> str:
    if fn is None:
        return "1" if slope else r"\operatorname{id}" if style.tex else "id"
    if isinstance(fn, sp.Lambda):
        return style.expr(fn.expr)
    return latex_name(fn) if style.tex else text_name(fn)  # type: ignore[arg-type]


def said(gens: Iterable[Gen], style: Style) -> list[str]:
    """What N stands for, and the integral that it is where functions are relu and the like: sentences."""
    found = [g for g in gens if isinstance(g, Batched)]
    if not found:
        return []
    sentences = [MEMBERS, *([VALUE] * any(g.theta is None for g in found)),
                 *([PUSHED] * any(g.theta is not None for g in found)), NORMALISED]  # fmt: skip
    sentences += [INTEGRAL, GAMMA] * any(
        g.theta is None and forms_of(g.first, g.second, False) is not None for g in found
    )
    return [s[style.tex] for s in sentences]
