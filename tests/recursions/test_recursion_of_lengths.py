"""Recursions whose equations depend on whether two lengths are equal: one part for T = T', one for T ≠ T'."""

import numpy as np
import pytest

import tensorprog as tp

UNTIED = {"tied": False, "sigma_b": 0.3, "sigma_h": 0.5, "sigma_w": 1.2}


@pytest.fixture
def sequences():
    rng = np.random.default_rng(0)
    return [rng.standard_normal((t, 2)) for t in (1, 2, 3, 5, 5, 7)]


def variance(x, t, *, sigma_b=0.3, sigma_h=0.5, sigma_w=1.2):
    """Σ^(t)(x,x) = σ_w² Σ^(t−1)(x,x)/2 + ⟨x_t,x_t⟩ + σ_b² of relu, from σ_w² σ_h² at the start."""
    q = sigma_h**2
    for s in range(t):
        q = sigma_w**2 * (q if s == 0 else q / 2) + x[s] @ x[s] / 2 + sigma_b**2
    return q


def test_lengths_1_and_2_without_shared_weights_are_a_product_of_means():
    x, y = np.array([[0.4, -1.0]]), np.array([[1.0, 0.2], [-0.5, 0.7]])
    expected = np.sqrt(variance(x, 1) * variance(y, 2)) / (2 * np.pi)  # E relu(u) = √(q/2π) of each
    R = tp.ntk(tp.programs.rnn(**UNTIED)).recursion(over="lengths")
    assert np.allclose(R([x], [y]), expected, rtol=1e-12, atol=0)
    assert np.allclose(R([y], [x]), expected, rtol=1e-12, atol=0)


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
@pytest.mark.parametrize("options", [{}, {"phi": tp.erf}, {"layers": 2}], ids=str)
def test_untied_recursions_are_the_kernel_at_equal_and_different_lengths(kernel, options, sequences):
    K = kernel(tp.programs.rnn(**UNTIED, **options))
    R = K.recursion(over="lengths")
    for values in (R(sequences), R.gram(sequences)):
        assert np.allclose(values, K(sequences), rtol=1e-12, atol=1e-15)


def test_the_forward_form_has_the_same_two_parts(sequences):
    K = tp.ntk(tp.programs.rnn(**UNTIED))
    R = K.recursion(form="forward", over="lengths")
    assert [p.over.related for p in R._parts] == ["=", "≠"]
    assert np.allclose(R(sequences), K(sequences), rtol=1e-12, atol=0)


def test_both_parts_are_printed():
    R = tp.ntk(tp.programs.rnn(**UNTIED)).recursion(over="lengths")
    first, second = R.text().split("for T ≠ T':\n")
    assert "for T = T':\n" in first and "Π^(T,T,T)(x,x') = V[step](Σ^(T,T,T)(x,x'))" in first
    product = "  Θ(x,x')         = E[relu](Σ^(T',T',T')(x',x'))·E[relu](Σ^(T,T,T)(x,x))"
    assert product in second.splitlines() and "Π" not in second
    assert r"&\text{for } T \ne T'\colon" in R.latex()
    assert [str(eq.lhs) for eq in R.equations].count("Θ(x,x')") == 2


def test_a_kernel_that_is_0_between_different_lengths_says_so():
    R = tp.ntk(tp.programs.rnn(tied=False, phi=tp.erf)).recursion(over="lengths")
    assert R.text().split("for T ≠ T':\n")[1].splitlines()[0] == "  Θ(x,x')         = 0"
    x, y = np.ones((1, 2)), np.ones((3, 2))
    assert R([x], [y]) == 0


def test_shared_weights_have_one_part_for_all_lengths():
    R = tp.ntk(tp.programs.rnn()).recursion(over="lengths")
    assert len(R._parts) == 1 and "for T" not in R.text()
