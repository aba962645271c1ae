"""The quadrature and the linear interpreter: exact where they apply, refused by name elsewhere."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp


def test_the_linear_interpreter_equals_the_symbolic_limit():
    """W, Wᵀ, tied matrices and scalars, all linear in the vectors."""
    p, values = tp.Program(), {sp.Symbol("q"): 0.7}
    W, Q = p.matrix("W", variance=1.3), p.matrix("Q", variance=sp.Symbol("q"))
    x, y = p.gaussian("x y", [[1, 0.4], [0.4, 2]])
    s = tp.moment(lambda a, b: a * b, x, y)
    g = W @ (x + y)
    h = W.T @ (s * g - Q @ g) + x
    k = Q.T @ (W @ h) - g
    m = tp.moment(lambda a, b, c: a * b * c**2, h, k, params=[s])
    numbers, exact = tp.limit(p, method="linear", values=values), tp.limit(p)
    for a in (x, y, g, h, k):
        for b in (x, y, g, h, k):
            assert abs(numbers.cov(a, b) - exact.evaluate(exact.cov(a, b), values)) < 1e-12
            assert numbers.mean(a) == 0 and numbers.cov(a, b).stderr == 0
    for scalar in (s, m, s * s + 1):
        exact = tp.limit(p)
        numbers = tp.limit(p, method="linear", values=values)
        assert abs(numbers.value(scalar) - exact.evaluate(exact.value(scalar), values)) < 1e-12


def test_what_is_not_linear_is_named():
    p = tp.Program()
    x = p.vector("x")
    lim = tp.limit(p, method="linear")
    with pytest.raises(tp.NoRuleError, match="quadratic form"):
        lim.E(lambda a: a**4, x)
    tp.moment(lambda a: a + 1, x, name="m")
    with pytest.raises(tp.NoRuleError, match="`m` .*quadratic form"):
        tp.limit(p, method="linear")
    p = tp.Program()
    tp.nonlin(lambda a: tp.tanh(a), p.vector("x"), name="z")
    with pytest.raises(tp.NoRuleError, match="`z` .*not linear"):
        tp.limit(p, method="linear")
    p = tp.Program()
    p.vector("x", mean=1)
    with pytest.raises(tp.NoRuleError, match="`x` has the mean 1"):
        tp.limit(p, method="linear")


def test_quadrature_equals_the_exact_limit():
    p = tp.Program()
    a, b, c = p.gaussian("a b c", [[1, 0.4, 1.4], [0.4, 2, 2.4], [1.4, 2.4, 3.8]], mean=[0.3, 0, 0])  # c = a − 0.3 + b
    m = tp.moment(lambda x, y: tp.tanh(x) * tp.erf(y), a, c)
    grid, exact = tp.limit(p, method="quadrature"), tp.limit(p)
    assert len(grid._active) == 2
    assert abs(grid.value(m) - exact.evaluate(exact.value(m))) < 1e-9 and grid.value(m).stderr < 1e-8
    assert abs(grid.cov(a, b) - 0.4) < 1e-13 and abs(grid.mean(a) - 0.3) < 1e-13
    assert abs(grid.E(lambda x: x**4, b) - 12) < 1e-9 and grid.mean(a).method == "quadrature"


def test_the_error_of_a_kink_is_estimated():
    p = tp.Program()
    a, b = p.gaussian("a b", [[1, 0.4], [0.4, 2]])
    m = tp.moment(lambda x, y: tp.relu(x) * tp.relu(y - x / 3), a, b)
    exact = tp.limit(p)
    value = exact.evaluate(exact.value(m))
    for nodes in (20, 40, 80):
        answer = tp.limit(p, method="quadrature", nodes=nodes).value(m)
        assert abs(answer - value) < 10 * answer.stderr < 0.2


def test_programs_beyond_quadrature_are_refused():
    p = tp.Program()
    x = p.vector("x")
    for k in range(5):
        p.vector(f"y{k}")
    with pytest.raises(tp.NoRuleError, match="up to 5 Gaussians, this program has 6"):
        tp.limit(p, method="quadrature")
    p = tp.Program()
    x = p.vector("x")
    y = p.matrix("W") @ x
    with pytest.raises(tp.NoRuleError, match=f"this one has {y}"):
        tp.limit(p, method="quadrature")
    assert np.isfinite(tp.limit(p, method="sampling", samples=64).cov(y, y))
