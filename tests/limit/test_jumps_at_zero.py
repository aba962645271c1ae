"""sign and step where their argument is 0 almost surely: sign(0) = step(0) = 0, and no derivative there."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import TensorProgramError

X0 = np.array([[0.0, 0.0], [1.0, 1.0], [0.3, -1.0]])
NAMES = {"sign": tp.sign, "step": tp.step}
phis = pytest.mark.parametrize("phi", NAMES.values(), ids=NAMES)


def second_moment(fn, cov=((1, -1), (-1, 1))):
    p = tp.Program()
    lim = tp.limit(p)
    z = fn(*p.gaussian("a b", cov))
    lim = tp.limit(p)
    return lim.evaluate(lim.E(lambda u: u * u, z))


SUMS = {
    "sign": (lambda a, b: tp.sign(a + b), 0, 1),
    "b sign": (lambda a, b: b * tp.sign(a + b), 0, 1),
    "sign³": (lambda a, b: tp.sign(a + b) ** 3, 0, 1),
    "step²": (lambda a, b: tp.step(a + b) ** 2, 0, 0.5),
    "tanh of 2 sign": (lambda a, b: tp.tanh(2 * tp.sign(a + b)), 0, np.tanh(2) ** 2),
    "cos of sign": (lambda a, b: tp.cos(tp.sign(a + b)), 1, np.cos(1) ** 2),
    "1 − sign²": (lambda a, b: 1 - tp.sign(a + b) ** 2, 1, 0),
    "|b| sign": (lambda a, b: tp.abs(b) * tp.sign(a + b), 0, 1),
}


@pytest.mark.parametrize("case", SUMS)
def test_functions_of_a_sum_that_is_zero_and_of_one_that_is_not(case):
    fn, at_zero, otherwise = SUMS[case]
    assert second_moment(fn) == pytest.approx(at_zero, abs=1e-15)
    assert second_moment(fn, ((1, 0), (0, 1))) == pytest.approx(otherwise, rel=1e-14, abs=1e-15)


@pytest.mark.parametrize("c, value", [(-1, 0), (-0.5, 1), (0, 1)])
def test_a_symbolic_covariance_decides_by_its_value(c, value):
    p, rho = tp.Program(), sp.Symbol("rho", real=True)
    a, b = p.gaussian("a b", [[1, rho], [rho, 1]])
    lim = tp.limit(p)
    z = tp.sign(a + b)
    lim = tp.limit(p)
    assert lim.evaluate(lim.E(lambda u: u * u, z), {rho: c}) == value


def test_one_expectation_of_several_factors():
    p = tp.Program()
    a, b = p.gaussian("a b", [[1, -1], [-1, 1]])
    z = tp.sign(a + b)
    lim = tp.limit(p)
    assert lim.evaluate(lim.E(lambda u, v: u * u * v * v, b, z)) == 0


@phis
@pytest.mark.parametrize("depth", [1, 2])
def test_nngp_at_a_zero_input(phi, depth):
    K = tp.nngp(tp.programs.mlp(depth=depth, phi=phi, sigma_b=0))
    for found in (K(X0), K.gram(X0), K.recursion()(X0)):
        assert (found[0] == 0).all() and (found[:, 0] == 0).all()
        assert np.allclose(np.diag(found)[1:], 1 if phi is tp.sign else 0.5, rtol=1e-14)


@phis
def test_ntk_at_a_zero_input_says_what_has_no_derivative(phi):
    K = tp.ntk(tp.programs.mlp(depth=1, phi=phi, sigma_b=0))
    for X1, X2 in ((X0[:1], X0[1:]), (X0[1:], X0[:1]), (X0[:1], None)):
        for way in (K, K.gram, K.recursion()):
            with pytest.raises(TensorProgramError, match=r"sign or step, has no derivative at a constant 0"):
                way(X1, X2)


@phis
def test_ntk_of_equal_inputs_names_the_jumps_that_meet(phi):
    with pytest.raises(TensorProgramError, match="where two functions jump at once"):
        tp.ntk(tp.programs.mlp(depth=1, phi=phi, sigma_b=0))(X0[1:])


@phis
def test_ntk_of_inputs_apart_from_each_other(phi):
    """Θ = K + ⟨x,x'⟩ E φ'φ', E δ(u) δ(v) = 1/(2π √det)."""
    K = tp.ntk(tp.programs.mlp(depth=1, phi=phi, sigma_w=1, sigma_b=0))
    q, c, r = (X0[1] @ X0[1]) / 2, (X0[1] @ X0[2]) / 2, (X0[2] @ X0[2]) / 2
    angle = np.arcsin(c / np.sqrt(q * r))
    nngp, factor = (2 * angle / np.pi, 4) if phi is tp.sign else (0.25 + angle / (2 * np.pi), 1)
    right = nngp + c * factor / (2 * np.pi * np.sqrt(q * r - c * c))
    assert K(X0[1:2], X0[2:])[0, 0] == pytest.approx(right, rel=1e-13)
    assert K.gram(X0[1:2], X0[2:])[0, 0] == pytest.approx(right, rel=1e-13)


def test_a_delta_of_a_constant_that_is_not_zero_is_zero():
    p = tp.Program()
    a, _ = p.gaussian("a b", [[0, 0], [0, 1]], mean=[1, 0])
    W = p.matrix("W")
    y = W.T @ tp.step(W @ p.vector("x") + 3 * a)
    lim = tp.limit(p)
    assert np.isfinite(lim.evaluate(lim.cov(y, y)))


def test_sampling_gives_the_same_product_twice():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    m = tp.moment(lambda a: a * a, tp.sign(W @ (2 * x) - W @ (x + x)))
    assert float(tp.limit(p, method="sampling", samples=10**4, seed=0).value(m)) == 0
