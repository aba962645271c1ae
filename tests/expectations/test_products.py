"""Products of functions of one variable: relu step = relu, |u| sign(u) = u, and what users declare."""

import itertools

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

import tensorprog as tp
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import FAMILIES, Abs, Relu, Sign, Step, X, evaluate, has_deltas, member
from tensorprog.products import absorbs, product

KINKED = [member(FAMILIES[n], k) for n in ("relu", "step", "sign", "abs", "hard_tanh", "relu6", "elu", "selu")
          for k in (0, 1) if not has_deltas(member(FAMILIES[n], k))]  # fmt: skip
PAIRS = list(itertools.combinations_with_replacement(KINKED, 2))
POINTS = np.array([-7.5, -1.0, -0.5, -1e-300, 0.0, 1e-300, 0.5, 1.0, 2.0, 6.0, 7.0])  # with every kink


@pytest.mark.parametrize(("f", "g"), PAIRS, ids=str)
def test_a_product_has_the_values_of_its_formula_at_the_kinks_too(f, g):
    formula = product(f, g)
    if formula is not None:
        expected = evaluate(f(X), {X: POINTS}) * evaluate(g(X), {X: POINTS})
        assert np.array_equal(evaluate(formula, {X: POINTS}), expected)


def test_the_rules_that_are_known():
    elu = member(FAMILIES["elu"], 0)
    named = {
        (Relu, Step): Relu(X), (Relu, Sign): Relu(X), (Step, Sign): Step(X), (Abs, Sign): X, (Abs, Step): Relu(X),
        (elu, Step): Relu(X), (Step, Step): Step(X),
    }  # fmt: skip
    assert {key: product(*key) for key in named} == named
    assert product(Sign, Sign) is None  # sign(0)² is 0 and not 1
    assert not absorbs(Relu, Relu)


def test_what_a_user_declares_has_its_rules_from_its_pieces():
    shifted = tp.declare("shifted_relu", kinks=(1,), pieces=(lambda x: 0, lambda x: x - 1))
    cls = type(shifted(X))
    assert absorbs(cls, member(cls.family, 1))
    p = tp.Program()
    u = p.vector("u")
    limit = tp.limit(p)
    found = limit.E(lambda a: shifted(a) * cls(a).diff(a), u)
    assert found == limit.E(shifted, u)


def moment(fn, q, c, r):
    """E fn(u, v) of a covariance, by the limit of a program."""
    p = tp.Program()
    u, v = p.gaussian("u v", cov=[[q, c], [c, r]])
    limit = tp.limit(p)
    return limit.evaluate(limit.E(fn, u, v))


FUNCTIONS = {tp.relu: 1, tp.step: 0, tp.sign: 0, tp.abs: 1, tp.leaky_relu(0.3): 1}  # with their degrees


@settings(max_examples=25, deadline=None, derandomize=True)
@given(f=st.sampled_from([*FUNCTIONS]), g=st.sampled_from([*FUNCTIONS]), h=st.sampled_from([*FUNCTIONS]),
       q=st.floats(0.2, 3), r=st.floats(0.2, 3), rho=st.floats(-0.95, 0.95))  # fmt: skip
def test_expectations_of_products_are_those_by_quadrature(f, g, h, q, r, rho):
    def fn(a, b):
        return f(a) * g(a) * h(b)

    c = rho * np.sqrt(q * r)
    found = moment(fn, sp.Float(q), sp.Float(c), sp.Float(r))
    assert found == pytest.approx(by_quadrature(fn, FUNCTIONS[f] + FUNCTIONS[g] + FUNCTIONS[h], q, c, r), rel=1e-9)


def by_quadrature(fn, degree, q, c, r):
    """Of a homogeneous function: E R^degree times its mean over the angle, smooth between the zeros of u and v."""
    u, v = sp.symbols("u v", real=True)
    root = np.linalg.cholesky([[q, c], [c, r]])
    jumps = sorted(np.arctan2(-root[i, 0] * s, root[i, 1] * s) % (2 * np.pi) for i in (0, 1) for s in (1, -1))
    nodes, weights = np.polynomial.legendre.leggauss(40)
    total = 0.0
    for a, b in itertools.pairwise([*jumps, jumps[0] + 2 * np.pi]):
        angle = a + (b - a) * (nodes + 1) / 2
        x = root @ np.stack([np.cos(angle), np.sin(angle)])
        total += (b - a) / 2 * weights @ np.broadcast_to(evaluate(fn(u, v), {u: x[0], v: x[1]}), 40)
    return total / (2 * np.pi) * 2 ** (degree / 2) * special.gamma(1 + degree / 2)


def test_a_variable_that_is_0():
    for f, g in itertools.product(FUNCTIONS, FUNCTIONS):
        assert moment(lambda a, b, f=f, g=g: f(a) * g(a) * b * b, sp.S.Zero, sp.S.Zero, sp.S.One) == 0
    assert moment(lambda a, b: tp.relu(a) * b, sp.S.Zero, sp.S.Zero, sp.S.One) == 0


def test_a_centred_relu_times_a_gaussian_is_half_their_covariance():
    p = tp.Program()
    q, c = sp.symbols("q c", positive=True)
    u, v = p.gaussian("u v", cov=[[q, c], [c, 1]])
    assert tp.limit(p).E(lambda a, b: tp.relu(a) * b, u, v) == c / 2
    shifted = moment(lambda a, b: tp.relu(a - 1) * b, sp.S.One, sp.Rational(1, 2), sp.S.One)
    y = sp.Symbol("y", real=True)
    assert shifted == pytest.approx(0.5 * float(expectation(Step(y), (y,), [[1.0]], mean=[-1.0]).value), rel=1e-12)


@pytest.mark.parametrize(("phi", "gone"), [(tp.relu, "relu·step"), (tp.abs, "abs·sign"), (tp.leaky_relu(0.1), "·step")])
def test_the_mean_readout_prints_no_product_that_is_one_function(phi, gone):
    net = tp.programs.mean_readout(phi=phi)
    assert gone not in tp.ntk(net).text()


def test_a_leaky_relu_is_a_relu_and_a_line():
    text = tp.nngp(tp.programs.mlp(depth=2, phi=tp.leaky_relu(sp.Rational(1, 10)))).text()
    assert "E[step]" not in text
    assert "E^(1)(x,x)   = 81/100·V[relu](Σ^(1)(x,x)) + 1/5·⟨x,x⟩" in text
