"""``tp.check_formula`` finds the misprints of docs/errata.md where they stand, and names the repair where it is simple.

Not about a kernel, and so no claims: the order of mask and transpose in RNTK B.2 (both orders have one covariance), the
shared bias of NOTE (20) (E f h¹, which no kernel reads), κ₁/κ₂ at the edge of chaos.
"""

from functools import cache

import numpy as np
import pytest

import tensorprog as tp
from tests.errata.test_rntk import v_relu, v_step

MLP = {"depth": 2, "phi": tp.relu, "sigma_w": 1.3, "sigma_b": 0.6}


@cache
def mlp(kind="ntk", depth=2, phi="relu", **std):
    given = {**MLP, "depth": depth, "phi": getattr(tp, phi), **std}
    return getattr(tp, kind)(tp.programs.mlp(**given))


@cache
def rnn(layers=1, kind="ntk"):
    net = tp.programs.rnn(layers=layers, phi=tp.relu, sigma_w=0.7, sigma_u=1.2, sigma_b=0.6, sigma_v=1.1)
    return getattr(tp, kind)(net)


FIRST = r"t = \max(1, 1 - \tau)"
AFTER = r"\max(2, 2 - \tau) \le t \le T"
ERF = "V[erf](q, c, p) = 2/π·arcsin(2 c/sqrt((1 + 2 q)(1 + 2 {})))"
LATEX = {  # where: kernel, claim as printed in the paper, the quantity that differs, a repair
    "RNTK (13)": (
        lambda: rnn(),
        rf"\Sigma^{{(t,t+\tau)}}(x,x') = \sigma_u^2 d \langle x_t,x'_{{t+\tau}}\rangle + \sigma_b^2,\quad {FIRST}",
        "Σ^(1,2)(x,x')",
        "no factor d",
    ),
    "RNTK B.2, V": (
        lambda: rnn(),
        r"\Sigma^{(t,t+\tau)}(x,x') = V_{\phi}[\Sigma^{(t-1,t+\tau-1)}(x,x')]"
        rf" + \sigma_u^2 \langle x_t,x'_{{t+\tau}}\rangle + \sigma_b^2,\quad {AFTER}",
        "Σ^(2,3)(x,x')",
        "a factor σ_w² in V[φ]",
    ),
    "RNTK (32)": (
        lambda: rnn(),
        r"\Theta(x,x') = \sum_{t=\max(1,1-\tau)}^{T} \Pi^{(t,t+\tau)}(x,x') \Sigma^{(t+\tau,t+\tau)}(x',x') "
        r"+ \sigma_v^2 V_{\phi}[\Sigma^{(T,T')}(x,x')]",
        "Θ(x,x')",
        None,
    ),
    "RNTK (34)": (
        lambda: rnn(2),
        r"\Pi^{(l,t,t+\tau)}(x,x') = V_{\phi'}[\Sigma^{(l,t,t+\tau)}(x,x')] (\sigma_w^2 \Pi^{(l,t+1,t+\tau+1)}(x,x') "
        r"+ \sigma_u^2 \Pi^{(l+1,t+1,t+\tau+1)}(x,x')),\quad 1 \le l \le L-1, \max(1,1-\tau) \le t \le T-1",
        "Π^(1,1,2)(x,x')",
        "Π^(l+1,t,t+τ)(x,x') for Π^(l+1,t+1,t+τ+1)(x,x')",
    ),
    "RNTK B.3, t = 1": (
        lambda: rnn(2),
        r"\Sigma^{(l,1,1)}(x,x) = \sigma_u^2 \Sigma^{(l,1,1)}(x,x)/2 + \sigma_b^2,\quad 2 \le l \le L",
        "Σ^(2,1,1)(x,x)",
        "Σ^(l-1,1,1)(x,x) for Σ^(l,1,1)(x,x)",
    ),
    "RNTK B.4": (
        lambda: rnn(),
        r"\Pi^{(t,t+\tau)}(x,x') = \sigma_v^2 V_{\phi'}[\Sigma^{(t,t+\tau)}(x,x')],\quad \max(1,1-\tau) \le t \le T",
        "Π^(1,2)(x,x')",
        None,
    ),
    "RNTK B.5": (lambda: mlp("nngp", phi="erf"), ERF.format("c"), "V[erf](q, c, p)", "p for c in one place"),
    "RNTK A.1": (
        lambda: mlp(),
        r"\Theta(x,x') = \sigma_w^2 V_{\phi'}[\Sigma^{(2)}(x,x')] \Theta^{(2)}(x,x') "
        r"+ \sigma_v^2 V_{\phi}[\Sigma^{(2)}(x,x')]",
        "Θ(x,x')",
        "σ_v for σ_w",
    ),
    "FIN (8)": (
        lambda: mlp(depth=3),
        r"\Pi^{(l)}(x,x') = 2 \sigma_w^2 V_{\phi'}[\Sigma^{(l)}(x,x')] \Pi^{(l+1)}(x,x'),\quad 1 \le l \le L-1",
        "Π^(1)(x,x')",
        "a factor 1/2",
    ),
    "FIN Lemma 5.2": (
        lambda: mlp("nngp", depth=1, sigma_b=0),
        r"K(x,x') = \sigma_v^2 \Sigma^{(1)}(x,x')",
        "K(x,x')",
        None,
    ),
    "FIN 1.2": (
        lambda: mlp("nngp", depth=4, sigma_w=2, sigma_b=0),
        r"\Sigma^{(l)}(x,x) = \Sigma^{(l-1)}(x,x),\quad 2 \le l \le L",
        "Σ^(2)(x,x)",
        "a factor 2",
    ),
    "FIN E, q⁰": (
        lambda: mlp("nngp"),
        r"\Sigma^{(1)}(x,x) = \frac{\sigma_w^2}{2} \langle x,x\rangle + \sigma_b^2",
        "Σ^(1)(x,x)",
        "a factor 2",
    ),
    "FIN E.1": (
        lambda: mlp(),
        "V[relu](q, c, p) = sqrt(sqrt(q p))/(2 π)·(sqrt(1 - c^2/(q p)) + c/sqrt(q p)·(π/2 + asin(c/sqrt(q p))))",
        "V[relu](q, c, p)",
        None,
    ),
    "FIN E.2": (
        lambda: mlp("nngp", phi="erf"),
        "V[erf](q, c, p) = 2/π·atan(2 c/sqrt(sqrt(q p))/sqrt((1 + 2 sqrt(q))(1 + 2 sqrt(p)) - 4 c^2/sqrt(q p)))",
        "V[erf](q, c, p)",
        None,
    ),
    "FIN E.2, V'": (
        lambda: mlp(phi="erf"),
        "V[erf'](q, c, p) = 4/π/sqrt((1 + 2 sqrt(q))(1 + 2 sqrt(p)) - 4 c^2/sqrt(q p))",
        "V[erf'](q, c, p)",
        None,
    ),
    "FIN E, p_sr": (
        lambda: mlp(depth=3),
        r"\Pi^{(l)}(x,x') = \sigma_w^2 V_{\phi'}[\Sigma^{(l)}(x,x')] \Sigma^{(l+1)}(x,x),\quad 1 \le l \le L-1",
        "Π^(1)(x,x')",
        None,
    ),
    "FIN 5": (
        lambda: mlp("nngp", depth=4, sigma_w=3**0.5, sigma_b=1),
        r"\Sigma^{(L)}(x,x') = 0",
        "Σ^(4)(x,x')",
        None,
    ),
    "NOTE (11)": (
        lambda: mlp("nngp"),
        r"\Sigma^{(l)}(x,x') = \Sigma^{(l-1)}(x,x') + \sigma_b^2,\quad 2 \le l \le L",
        "Σ^(2)(x,x')",
        None,
    ),
    "NOTE (16)": (
        lambda: mlp(),
        r"\Theta^{(l)}(x,x') = \sigma_w^2 V_{\phi}[\Sigma^{(l-1)}(x,x')] + \sigma_b + "
        r"\sigma_w^2 V_{\phi'}[\Sigma^{(l-1)}(x,x')] \Theta^{(l-1)}(x,x'),\quad 2 \le l \le L",
        "Θ^(2)(x,x')",
        "σ_b² for σ_b",
    ),
    "NOTE (25)": (lambda: mlp("nngp"), r"\Sigma^{(2)}(x,x') = \sigma_b^2", "Σ^(2)(x,x')", None),
    "TP2b B.6": (
        lambda: tp.ntk(tp.programs.tied_autoencoder(sigma_w=1.3)),
        r"\Sigma^{(3)}(x,x') = \sigma_w^2 V_{erf}[\sigma_w^2 \sigma_u^2 \langle x,x'\rangle] + \sigma_w^8 \sigma_u^2 "
        r"E_{erf'}[\sigma_w^2 \sigma_u^2 \langle x,x\rangle] E_{erf'}[\sigma_w^2 \sigma_u^2 \langle x',x'\rangle] "
        r"\langle x,x'\rangle",
        "Σ^(3)(x,x')",
        "no factor σ_w⁴",
    ),
}  # fmt: skip


QUICK = (
    "RNTK B.5",
    "RNTK B.2, V",
    "FIN E, q⁰",
    "FIN E.1",
    "FIN Lemma 5.2",
    "NOTE (16)",
    "TP2b B.6",
)  # the others fold first


@pytest.mark.parametrize("where", [pytest.param(w, marks=[pytest.mark.slow] * (w not in QUICK)) for w in LATEX])
def test_a_misprint_is_found(where):
    kernel, claim, quantity, repair = LATEX[where]
    found = tp.check_formula(kernel(), claim)
    print(where, found.text())
    assert not found.equal and found.quantity == quantity
    assert abs(found.claimed - found.derived) > 1e-6 * abs(found.derived)
    if repair is not None:
        assert any(repair in words for words in found.repairs), found.repairs


def one_hidden(q, c, p, sigma_w, sigma_b, first=1.0):
    """The NNGP kernel of one hidden layer, its first covariance multiplied by ``first``."""
    return v_relu(*(sigma_w**2 * first * g + sigma_b**2 for g in (q, c, p)))


def test_misprints_of_widths_are_found_in_functions_of_gram_entries():
    """FIN (1): σ_w²/M_l for σ_w²/M_(l-1), with 5 inputs and 1000 units; NOTE (3): the input passes through σ."""
    K = mlp("nngp", depth=1)
    assert tp.check_formula(K, one_hidden).equal
    wrong = tp.check_formula(K, lambda q, c, p, sigma_w, sigma_b: one_hidden(q, c, p, sigma_w, sigma_b, 5 / 1000))
    assert not wrong.equal and wrong.quantity == "K(x,x')"
    doubled = tp.check_formula(K, lambda q, c, p, sigma_w, sigma_b: one_hidden(q, c, p, sigma_w, sigma_b, 2.0))
    assert doubled.repairs == ("a factor 1/2 on inner products",)
    passed = tp.check_formula(
        K, lambda q, c, p, sigma_w, sigma_b: one_hidden(q / 2, v_relu(q, c, p), p / 2, sigma_w, sigma_b)
    )
    assert not passed.equal


def test_a_wrong_power_in_a_function_is_named():
    def ntk(q, c, p, sigma_w, sigma_b, sigma_v, depth):
        s, theta = [sigma_w * g + sigma_b**2 for g in (q, c, p)], None
        theta = s[1]
        for _ in range(depth - 1):
            slope = v_step(*s)
            s = [sigma_w * v_relu(*e) + sigma_b**2 for e in ((s[0],) * 3, s, (s[2],) * 3)]
            theta = s[1] + sigma_w * slope * theta
        return sigma_v**2 * (v_relu(*s) + v_step(*s) * theta)

    K = mlp(depth=3)
    assert tp.check_formula(K, ntk).repairs == ("σ_w² for σ_w",)
    right = tp.check_formula(
        K, lambda q, c, p, sigma_w, sigma_b, sigma_v, depth: ntk(q, c, p, sigma_w**2, sigma_b, sigma_v, depth)
    )
    assert right.equal and right.digits >= 11
    deeper = tp.check_formula(
        K, lambda q, c, p, sigma_w, sigma_b, sigma_v, depth: ntk(q, c, p, sigma_w**2, sigma_b, sigma_v, depth + 1)
    )
    assert deeper.repairs == ("an index shifted by one: depth -1",)
    assert np.isfinite(deeper.claimed)
