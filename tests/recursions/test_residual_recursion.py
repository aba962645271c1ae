"""Residual networks: the recursions of a textbook, whatever number the branch is scaled by."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

ALPHA = sp.Symbol("alpha", positive=True)
X = np.array([[1.0, 0.3], [-0.4, 0.8], [0.5, 0.5]])


@tp.network
def with_biases(net, x, *, depth=3, phi=tp.relu, alpha=1):
    """h¹ = U ξ + b¹, h^l = h^{l−1} + α (W^l φ(h^{l−1}) + b^l)."""
    h = net.embed("U", x) + net.bias(("b", 1))
    for l in range(2, depth + 1):
        h = h + alpha * (net.dense(("W", l), phi(h)) + net.bias(("b", l)))
    return net.readout("V", phi(h))


@tp.network
def injected(net, x, *, depth=3):
    """h¹ = U ξ + b¹, h^l = W^l φ(h^{l−1}) + U ξ + b^l: the input enters every layer."""
    u = net.embed("U", x)
    h = u + net.bias(("b", 1))
    for l in range(2, depth + 1):
        h = net.dense(("W", l), tp.relu(h)) + u + net.bias(("b", l))
    return net.readout("V", tp.relu(h))


def relu_moments(q):
    """E relu(u)relu(v) and E step(u)step(v) of a covariance matrix of all inputs (Cho & Saul 2009)."""
    s = np.sqrt(np.outer(np.diag(q), np.diag(q)))
    angle = np.arccos(np.clip(q / s, -1, 1))
    return s * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi), (np.pi - angle) / (2 * np.pi)


def by_hand(depth, alpha, bias):
    """Θ^l = Θ^{l−1} + α² (V_φ(Σ^{l−1}) + σ_b²) + α² V_φ'(Σ^{l−1}) Θ^{l−1}."""
    sigma = X @ X.T / X.shape[1] + bias
    theta = sigma
    for _ in range(2, depth + 1):
        v, dv = relu_moments(sigma)
        sigma, theta = sigma + alpha**2 * (v + bias), theta + alpha**2 * (v + bias + dv * theta)
    v, dv = relu_moments(sigma)
    return v + dv * theta


def rules_at(R, alpha):
    return {(eq.lhs, sp.expand(eq.rhs.xreplace({ALPHA: sp.sympify(alpha)})), where) for eq, where in R.rules}


@pytest.mark.parametrize("form", ["sum", "forward"])
@pytest.mark.parametrize("net", [tp.programs.residual_mlp, with_biases])
@pytest.mark.parametrize("alpha", [1, sp.Rational(1, 2)])
def test_a_number_for_alpha_gives_the_equations_of_the_symbol_with_the_number_put_in(net, form, alpha):
    symbolic = tp.ntk(net(alpha=ALPHA)).recursion(form=form)
    assert rules_at(tp.ntk(net(alpha=alpha)).recursion(form=form), alpha) == rules_at(symbolic, alpha)


def test_the_text_at_alpha_1_is_the_textbook_form():
    lines = tp.ntk(tp.programs.residual_mlp()).recursion().text().splitlines()
    assert "  Σ^(l)(x,x') = Σ^(l-1)(x,x') + V[relu](Σ^(l-1)(x,x'))   (2 ≤ l ≤ L)" in lines
    assert "  Π^(L)(x,x') = V[step](Σ^(L)(x,x'))" in lines
    assert "  Π^(l)(x,x') = Π^(l+1)(x,x') + V[step](Σ^(l)(x,x'))·Π^(l+1)(x,x')   (1 ≤ l ≤ L-1)" in lines
    assert "  Θ(x,x')     = Σ_(l=2..L) V[relu](Σ^(l-1)(x,x'))·Π^(l)(x,x') + V[relu](Σ^(L)(x,x'))" in lines


def test_every_gradient_covariance_is_named_once_and_is_that_of_the_whole_pre_activation():
    K = tp.ntk(tp.programs.residual_mlp(depth=3, alpha=ALPHA))
    assert ".2" not in K.text()
    limit, values = K._derive().limit, {"⟨x,x⟩": 0.9, "⟨x,x'⟩": 0.2, "⟨x',x'⟩": 1.1}
    values = {s: values[str(s)] for s in K._derive().trace.grams if str(s) in values} | {ALPHA: 0.7}
    named = {str(eq.lhs): limit.evaluate(eq.lhs, values) for eq in K.equations[:-1]}
    steps = [relu_moments(np.array([[0.9, 0.2], [0.2, 1.1]]))[1][0, 1]]
    for l in (2, 3):
        a, b, c = (named[f"Σ^({l}){pair}"] for pair in ("(x,x)", "(x,x')", "(x',x')"))
        steps.append(relu_moments(np.array([[a, b], [b, c]]))[1][0, 1])
    expected = (1 + 0.49 * steps[0]) * (1 + 0.49 * steps[1]) * steps[2]
    assert named["Π^(1)(x,x')"] == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(("net", "bias"), [(tp.programs.residual_mlp, 0), (with_biases, 1)])
@pytest.mark.parametrize(("depth", "alpha"), [(1, 1), (2, 1), (17, 1), (40, 0.3)])
def test_numbers_at_depths_never_derived_are_those_of_the_hand_written_recursion(net, bias, depth, alpha):
    expected = by_hand(depth, alpha, bias)
    for form in ("sum", "forward"):
        R = tp.ntk(net(alpha=alpha)).recursion(form=form)
        assert np.allclose(R(X, depth=depth), expected, rtol=1e-12, atol=0)


def test_an_input_that_enters_every_layer_folds():
    K = tp.ntk(injected(depth=7))
    assert np.allclose(tp.ntk(injected()).recursion()(X, depth=7), K(X), rtol=1e-12, atol=0)
