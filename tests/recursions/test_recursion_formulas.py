"""Recursions as formulas: what folds for an abstract φ, printed, against the equations of the papers."""

import functools
import re

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.recursions.indexed import Quantity

W, B, V, U, H, A = sp.symbols("sigma_w sigma_b sigma_v sigma_u sigma_h alpha", positive=True)
PHI = tp.abstract("phi")
MLP = tp.programs.mlp(phi=PHI, sigma_w=W, sigma_b=B, sigma_v=V)
RESIDUAL = tp.programs.residual_mlp(phi=PHI, sigma_w=W, sigma_v=V, alpha=A)
TIED = tp.programs.tied_mlp(phi=PHI, sigma_w=W, sigma_b=B, sigma_v=V, sigma_u=U)
RNN = tp.programs.rnn(phi=PHI, sigma_w=W, sigma_u=U, sigma_b=B, sigma_h=H, sigma_v=V)

SIGMA = """
    Σ^(1)(x,x') = σ_w²·⟨x,x'⟩ + σ_b²
    Σ^(l)(x,x') = σ_w²·V[φ](Σ^(l-1)(x,x')) + σ_b² (2 ≤ l ≤ L)"""
RESIDUAL_SIGMA = """
    Σ^(1)(x,x') = σ_w²·⟨x,x'⟩
    Σ^(l)(x,x') = Σ^(l-1)(x,x') + α²·σ_w²·V[φ](Σ^(l-1)(x,x')) (2 ≤ l ≤ L)"""
PI = """
    Π^(L)(x,x') = σᵥ²·V[φ'](Σ^(L)(x,x'))
    Π^(l)(x,x') = σ_w²·V[φ'](Σ^(l)(x,x'))·Π^(l+1)(x,x') (1 ≤ l ≤ L-1)
    Θ(x,x') = Σ_(l=1..L) Π^(l)(x,x')·Σ^(l)(x,x') + σᵥ²·V[φ](Σ^(L)(x,x'))"""
THETA = """
    Θ^(1)(x,x') = Σ^(1)(x,x')
    Θ^(l)(x,x') = Σ^(l)(x,x') + σ_w²·V[φ'](Σ^(l-1)(x,x'))·Θ^(l-1)(x,x') (2 ≤ l ≤ L)
    Θ(x,x') = σᵥ²·V[φ](Σ^(L)(x,x')) + σᵥ²·V[φ'](Σ^(L)(x,x'))·Θ^(L)(x,x')"""
EVERY_PAIR = "\n    and the same for (x,x) and (x',x')"

RNN_SIGMA = """
    Σ^(1,1)(x,x) = σᵤ²·⟨x1,x1⟩ + σ_w²·σₕ² + σ_b²
    Σ^(t,t)(x,x) = σ_w²·V[φ](Σ^(t-1,t-1)(x,x)) + σᵤ²·⟨x_t,x_t⟩ + σ_b² (2 ≤ t ≤ T)
    Σ^(t,t+τ)(x,x') = σᵤ²·⟨x_t,x'_(t+τ)⟩ + σ_b² (t = max(1,1-τ))
    Σ^(t,t+τ)(x,x') = σ_w²·V[φ](Σ^(t-1,t+τ-1)(x,x')) + σᵤ²·⟨x_t,x'_(t+τ)⟩ + σ_b² (max(2,2-τ) ≤ t ≤ T)"""
UP_TO_LENGTH = "\n    and for (x',x') as for (x,x), up to T'"

RECURSIONS = {
    # Jacot's notes, Eq. 11-12 and 26
    "mlp forward": (tp.ntk(MLP), "forward", None, SIGMA + THETA + EVERY_PAIR),
    # finite-NTK paper, Eq. 5-9 and Lemma 5.2: q^l = Σ^l, p^l = Π^l
    "mlp sum": (tp.ntk(MLP), "sum", None, SIGMA + PI + EVERY_PAIR),
    "mlp paths": (tp.ntk(MLP, "paths"), "sum", None, SIGMA + PI + EVERY_PAIR),
    "mlp nngp": (tp.nngp(MLP), None, None, SIGMA + "\n K(x,x') = σᵥ²·V[φ](Σ^(L)(x,x'))" + EVERY_PAIR),
    "tied forward": (tp.ntk(TIED), "forward", None, SIGMA.replace("σ_w²·⟨", "σᵤ²·⟨") + THETA + EVERY_PAIR),
    "residual sum": (tp.ntk(RESIDUAL), "sum", None, RESIDUAL_SIGMA + """
        Π^(L)(x,x') = σᵥ²·V[φ'](Σ^(L)(x,x'))
        Π^(l)(x,x') = Π^(l+1)(x,x') + α²·σ_w²·V[φ'](Σ^(l)(x,x'))·Π^(l+1)(x,x') (1 ≤ l ≤ L-1)
        Θ(x,x') = Σ_(l=2..L) α²·σ_w²·V[φ](Σ^(l-1)(x,x'))·Π^(l)(x,x') + σᵥ²·V[φ](Σ^(L)(x,x'))
                  + Π^(1)(x,x')·Σ^(1)(x,x')""" + EVERY_PAIR),
    "residual forward": (tp.ntk(RESIDUAL), "forward", None, RESIDUAL_SIGMA + """
        Θ^(1)(x,x') = Σ^(1)(x,x')
        Θ^(l)(x,x') = Θ^(l-1)(x,x') + α²·σ_w²·V[φ](Σ^(l-1)(x,x'))
                      + α²·σ_w²·V[φ'](Σ^(l-1)(x,x'))·Θ^(l-1)(x,x') (2 ≤ l ≤ L)
        Θ(x,x') = σᵥ²·V[φ](Σ^(L)(x,x')) + σᵥ²·V[φ'](Σ^(L)(x,x'))·Θ^(L)(x,x')""" + EVERY_PAIR),
    # RNTK paper, Eq. 9 and 11-19
    "rnn sum": (tp.ntk(RNN), "sum", "lengths", RNN_SIGMA + """
        Π^(T,T')(x,x') = σᵥ²·V[φ'](Σ^(T,T')(x,x'))
        Π^(t,t+τ)(x,x') = σ_w²·V[φ'](Σ^(t,t+τ)(x,x'))·Π^(t+1,t+τ+1)(x,x') (max(1,1-τ) ≤ t ≤ T-1)
        Θ(x,x') = Σ_(t=max(1,1-τ)..T) Π^(t,t+τ)(x,x')·Σ^(t,t+τ)(x,x') + σᵥ²·V[φ](Σ^(T,T')(x,x'))""" + UP_TO_LENGTH),
    "rnn forward": (tp.ntk(RNN), "forward", "lengths", RNN_SIGMA + """
        Θ^(t,t+τ)(x,x') = Σ^(t,t+τ)(x,x') (t = max(1,1-τ))
        Θ^(t,t+τ)(x,x') = Σ^(t,t+τ)(x,x') + σ_w²·V[φ'](Σ^(t-1,t+τ-1)(x,x'))·Θ^(t-1,t+τ-1)(x,x')
                          (max(2,2-τ) ≤ t ≤ T)
        Θ(x,x') = σᵥ²·V[φ](Σ^(T,T')(x,x')) + σᵥ²·V[φ'](Σ^(T,T')(x,x'))·Θ^(T,T')(x,x')""" + UP_TO_LENGTH),
    # RNTK paper, App. B.3, Eq. 33-34, with the misprinted indices of its first step and its end corrected
    "rnn of several layers": (tp.ntk(RNN), "sum", None, """
        Σ^(1,1,1)(x,x) = σᵤ²·⟨x1,x1⟩ + σ_w²·σₕ² + σ_b²
        Σ^(l,1,1)(x,x) = σᵤ²·V[φ](Σ^(l-1,1,1)(x,x)) + σ_w²·σₕ² + σ_b² (2 ≤ l ≤ L)
        Σ^(1,t,t)(x,x) = σ_w²·V[φ](Σ^(1,t-1,t-1)(x,x)) + σᵤ²·⟨x_t,x_t⟩ + σ_b² (2 ≤ t ≤ T)
        Σ^(l,t,t)(x,x) = σ_w²·V[φ](Σ^(l,t-1,t-1)(x,x)) + σᵤ²·V[φ](Σ^(l-1,t,t)(x,x)) + σ_b²
                         (2 ≤ l ≤ L, 2 ≤ t ≤ T)
        Σ^(1,t,t+τ)(x,x') = σᵤ²·⟨x_t,x'_(t+τ)⟩ + σ_b² (t = max(1,1-τ))
        Σ^(l,t,t+τ)(x,x') = σᵤ²·V[φ](Σ^(l-1,t,t+τ)(x,x')) + σ_b² (2 ≤ l ≤ L, t = max(1,1-τ))
        Σ^(1,t,t+τ)(x,x') = σ_w²·V[φ](Σ^(1,t-1,t+τ-1)(x,x')) + σᵤ²·⟨x_t,x'_(t+τ)⟩ + σ_b² (max(2,2-τ) ≤ t ≤ T)
        Σ^(l,t,t+τ)(x,x') = σ_w²·V[φ](Σ^(l,t-1,t+τ-1)(x,x')) + σᵤ²·V[φ](Σ^(l-1,t,t+τ)(x,x')) + σ_b²
                            (2 ≤ l ≤ L, max(2,2-τ) ≤ t ≤ T)
        Π^(L,T,T')(x,x') = σᵥ²·V[φ'](Σ^(L,T,T')(x,x'))
        Π^(l,T,T')(x,x') = σᵤ²·V[φ'](Σ^(l,T,T')(x,x'))·Π^(l+1,T,T')(x,x') (1 ≤ l ≤ L-1)
        Π^(L,t,t+τ)(x,x') = σ_w²·V[φ'](Σ^(L,t,t+τ)(x,x'))·Π^(L,t+1,t+τ+1)(x,x') (max(1,1-τ) ≤ t ≤ T-1)
        Π^(l,t,t+τ)(x,x') = σᵤ²·V[φ'](Σ^(l,t,t+τ)(x,x'))·Π^(l+1,t,t+τ)(x,x')
                            + σ_w²·V[φ'](Σ^(l,t,t+τ)(x,x'))·Π^(l,t+1,t+τ+1)(x,x')
                            (1 ≤ l ≤ L-1, max(1,1-τ) ≤ t ≤ T-1)
        Θ(x,x') = Σ_(l=1..L) Σ_(t=max(1,1-τ)..T) Π^(l,t,t+τ)(x,x')·Σ^(l,t,t+τ)(x,x')
                  + σᵥ²·V[φ](Σ^(L,T,T')(x,x'))""" + UP_TO_LENGTH),
}  # fmt: skip


def tidied(text):
    """Equations, one a line, sorted, each with its terms sorted."""
    unbroken = re.sub(r"\n\s+(?=[(+])", " ", "\n".join(line.strip() and line for line in text.splitlines()))
    result = []
    for line in filter(None, map(str.strip, unbroken.splitlines())):
        left, _, right = line.partition(" = ")
        right, _, where = re.sub(r"\s+", " ", right).partition(" (")
        terms = sorted("·".join(sorted(term.split("·"))) for term in right.split(" + "))
        result.append((left.strip(), terms, where))
    return sorted(result)


@functools.cache
def recursion(name):
    kernel, form, over, _ = RECURSIONS[name]
    return kernel.recursion(form, over=over)


@pytest.mark.parametrize("name", RECURSIONS)
def test_the_recursions_of_the_papers_come_out(name):
    found = recursion(name).text().partition("\n\n")[2]
    assert tidied(found) == tidied(RECURSIONS[name][-1])


def test_equations_are_sympy_with_indices_that_can_be_replaced():
    R = recursion("mlp forward")
    assert len(R.equations) == len(R.rules) == 9
    step, ranges = next((e, r) for e, r in R.rules if str(e.lhs) == "Θ^(l)(x,x')")
    ((l, low, high),) = ranges
    assert (str(l), low, high) == ("l", 2, sp.Symbol("L", integer=True))
    at_seven = step.subs(l, 7)
    assert {str(q) for q in at_seven.atoms(Quantity)} >= {"Θ^(7)(x,x')", "Σ^(7)(x,x')", "Θ^(6)(x,x')"}
    assert R.equations[-1].lhs == tp.ntk(MLP).symbol


def test_sums_are_sympy_sums():
    (total,) = [a for a in recursion("mlp sum").equations[-1].rhs.args if isinstance(a, sp.Sum)]
    assert str(total.function) == "Π^(l)(x,x')*Σ^(l)(x,x')" and str(total.limits[0]) == "(l, 1, L)"


def test_the_text_names_network_sizes_and_the_meaning_of_v():
    text = recursion("rnn sum").text()
    assert text.startswith("NTK of rnn(") and "lengths T and T', τ = T' - T" in text and "⟨x,x'⟩ = x·x'/d" in text
    assert "V[φ](Σ(x,x')) = E φ(u) φ(v), (u,v) ~ N(0, [[Σ(x,x), Σ(x,x')], [Σ(x,x'), Σ(x',x')]])" in text
    assert max(map(len, text.partition("\n\n")[2].splitlines())) <= 100


@pytest.mark.parametrize("closed", [False, True])
def test_latex_is_an_align_environment(closed):
    tex = tp.ntk(tp.programs.mlp()).recursion().latex(closed)
    assert tex.startswith("\\begin{align*}\n") and tex.isascii()
    assert tex.count(r"\begin{align*}") == tex.count(r"\end{align*}") == 1 + closed
    system, _, said = tex.partition("\\end{align*}\n")
    start = "{\\raggedright\\noindent\nThe same equations hold for $(x,x)$ and $(x',x')$.\nHere $"
    assert said.startswith(start) and r"\text" not in system
    assert r"\Pi^{(l)}(x,x') &= 2 \, \mathsf{V}_{\operatorname{step}}\bigl[\Sigma^{(l)}(x,x')\bigr]" in tex
    assert (r"\arccos" in tex) == closed
    assert tex.count("{") == tex.count("}")


def test_notebooks_show_recursions():
    R = recursion("rnn of several layers")
    assert r"\displaybreak" in R.latex() and r"\displaybreak" not in R._repr_latex_()
    assert repr(R) == "<recursion of the NTK of rnn, sum form: 16 equations>"


def test_times_that_are_not_aligned_fold_over_a_grid():
    @tp.network
    def every_step(net, x, *, phi=PHI):
        s, f = None, 0
        for x_t in x:
            h = net.embed("U", x_t, std=U)
            s = phi(h if s is None else net.dense("W", s, std=W) + h)
            f = f + net.readout("V", s)
        return f

    text = tp.ntk(every_step()).recursion().text()
    assert "Σ^(t,t')(x,x') = σ_w²·V[φ](Σ^(t-1,t'-1)(x,x')) + σᵤ²·⟨x_t,x'_t'⟩" in text
    assert "Σ_(t=1..T) Σ_(t'=1..T') Π^(t,t')(x,x')·Σ^(t,t')(x,x')" in text


def test_without_gradient_independence_the_corrections_fold_too():
    text = tp.ntk(tp.programs.mean_readout(phi=PHI, sigma_w=W)).recursion().text()
    assert "a^(l,l-1)(x,x) " in text and "V[φ·φ'](Σ^(l)(x,x'))·a^(l+1,l)(x',x')·a^(l+1,l)(x,x)" in text
