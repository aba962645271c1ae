"""Claims are read as they are written, and what cannot be read is refused with its place."""

import pytest

import tensorprog as tp
from tensorprog.appendix.reading import read
from tensorprog.appendix.terms import written

SAME = {
    r"\Sigma^{(l)}(x,x') &= \sigma_{w}^{2} \, \mathsf{V}_{\phi'}\left[\Sigma^{(l-1)}(x,x')\right] + \frac{1}{2}":
        "Σ^(l)(x,x') = σ_w²·V[φ'](Σ^(l-1)(x,x')) + 1/2",
    r"\Theta(x,x') = \sum_{l=1}^{L} \Pi^{(l)}(x,x') \Sigma^{(l)}(x,x')":
        "Θ(x,x') = Σ_(l=1..L) Π^(l)(x,x')·Σ^(l)(x,x')",
    r"\Pi^{(t,t+\tau)}(x,x') = 2 \langle x_t, x'_{t+\tau} \rangle": "Π^(t,t+τ)(x,x') = 2·⟨x_t,x'_(t+τ)⟩",
    r"V_{\phi}[q, c, p] = \sqrt{q p} \arccos(c)": "V[φ](q, c, p) = sqrt(q·p)·acos(c)",
}  # fmt: skip


@pytest.mark.parametrize("tex", SAME)
def test_latex_and_text_are_one_claim(tex):
    [rule], [other] = read(tex), read(SAME[tex])
    assert (rule.left, rule.right) == (other.left, other.right)
    assert written(rule.right) == SAME[tex].split(" = ")[1]


@pytest.mark.parametrize(
    ("claim", "words"),
    [
        (r"\Theta(x,x') = \input{secret}", r"\\input is not in the LaTeX"),
        ("Θ(x,x') = __import__('os')", "cannot read the claim"),
        ("Θ(x,x') = 2 +", "a formula was expected"),
        ("Θ(x,x') = (2 + 3", "'\\)' was expected"),
        ("Θ(x,x') = ..", "a formula was expected"),
        ("2 = 3", "an equation such as"),
        ("", "no equation"),
        (3, "a claim is equations"),
        ([3], "text, LaTeX or a sympy equation"),
        ("Θ(x,x') = " + "(" * 300 + "1" + ")" * 300, "brackets within brackets"),
        ("Θ(x,x') = σ_z", "the claim has a symbol σ_z"),
        ("Θ(x,x') = Σ^(7)(x,x')", "none of its equations gives"),
        ("Θ(x,x') = V[nothing](⟨x,x'⟩)", "a function 'nothing'"),
        ("Z^(1)(x,x') = 2", "none of the claimed quantities"),
        (lambda q: q, "three Gram entries"),
        (lambda q, c, p, size: q, "takes size"),
        (lambda q, c, p: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_what_cannot_be_read_is_refused(claim, words):
    with pytest.raises(tp.DataError, match=words):
        tp.check_formula(tp.ntk(tp.programs.mlp(depth=2)), claim)


DEAR = ["residual_mlp", "mean_readout", "tied_autoencoder"]


@pytest.mark.parametrize("name", ["mlp", "layer_norm_mlp", *(pytest.param(n, marks=pytest.mark.slow) for n in DEAR)])
def test_what_a_kernel_prints_is_a_claim_that_holds(name):
    K = tp.ntk(getattr(tp.programs, name)())
    for claim in (K.text(), K.latex(), K.equations):
        found = tp.check_formula(K, claim, settings=2)
        assert found.equal and found.digits >= 11, found.text()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mlp", "residual_mlp"])
def test_what_a_recursion_prints_is_a_claim_that_holds(name):
    K = tp.ntk(getattr(tp.programs, name)(sigma_w=1.1))
    R, F = K.recursion(), K.recursion(form="forward")
    for claim in (R.latex(), F.text(), R.equations):
        assert tp.check_formula(K, claim, settings=2).equal


@pytest.mark.slow
def test_recursions_over_time_hold():
    K = tp.ntk(tp.programs.rnn(sigma_b=0.3))
    R = K.recursion(over="lengths")
    for claim in (R.latex(), R.rules):
        assert tp.check_formula(K, claim, settings=2).equal


def test_an_abstract_function_and_the_nngp_kernel_can_be_claimed_about():
    K = tp.nngp(tp.programs.mlp(depth=2, phi=tp.abstract("phi"), sigma_w=1))
    found = tp.check_formula(K, r"\Sigma^{(2)}(x,x') = V_{\phi}[\langle x,x' \rangle]", settings=2)
    assert found.equal and found.compared == ("Σ^(2)(x,x')",)
    wrong = tp.check_formula(K, r"\Sigma^{(2)}(x,x') = V_{\phi'}[\langle x,x' \rangle]", settings=2)
    assert "φ for φ' in V[φ'](⟨x,x'⟩)" in wrong.repairs


def test_a_forgotten_zdot_term_and_a_missing_bias_are_named():
    K = tp.ntk(tp.programs.tied_autoencoder())
    found = tp.check_formula(K, "Σ^(3)(x,x') = V[erf](⟨x,x'⟩)", settings=2)
    assert found.repairs[0].startswith("the term of Ż") and len(found.missing) == 1 and not found.extra
    K = tp.ntk(tp.programs.mlp(depth=2, sigma_b=0.4, sigma_w=1.2))
    found = tp.check_formula(K, "Σ^(2)(x,x') = σ_w²·V[φ](Σ^(1)(x,x'))", settings=2)
    assert "a missing σ_b², of a bias" in found.repairs
