"""Quadrature and reductions against independent integrals, and against identities of Gaussian laws."""

import re
import time

import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, special

from tensorprog.errors import AccuracyError, DataError, NoRuleError
from tensorprog.expectations.bodies import kinks
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.quadrature.panels import _clipped, panels
from tensorprog.expectations.quadrature.trapezoid import Problem, trapezoid
from tensorprog.functions import (
    Abs,
    Cos,
    Delta,
    Erf,
    Exp,
    Gauss,
    Gelu,
    Relu,
    Sigmoid,
    Sign,
    Silu,
    Softplus,
    Step,
    Tanh,
    abstract,
    member,
    numeric,
)  # fmt: skip

U, V, W, S = sp.symbols("u v w s")
SMOOTH = [member(f.family, k) for f in (Tanh, Gelu, Sigmoid, Softplus, Silu) for k in (0, 1, 2)
          if not (f is Softplus and k)]  # fmt: skip
# E f(v) for v ~ N(m, s²)
NORMAL_MEANS = {
    Step(V): lambda m, s: special.ndtr(m / s),
    Relu(V): lambda m, s: m * special.ndtr(m / s) + s * _density(m / s),
    Abs(V): lambda m, s: m * (2 * special.ndtr(m / s) - 1) + 2 * s * _density(m / s),
    Sign(V): lambda m, s: 2 * special.ndtr(m / s) - 1,
    Relu(V) ** 2: lambda m, s: (m * m + s * s) * special.ndtr(m / s) + m * s * _density(m / s),
}


def _density(x):
    return np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)


def _cov(q1, q2, rho):
    return [[q1, rho * np.sqrt(q1 * q2)], [None, q2]]


def _dense(f, g, q1, q2, rho):
    """E f(u) g(v) by one fixed 500 x 500 Gauss-Legendre grid in independent normals."""
    x, w = np.polynomial.legendre.leggauss(500)
    x, w = 10 * x, 10 * w * _density(10 * x)
    z = rho * x[:, None] + np.sqrt((1 - rho) * (1 + rho)) * x
    return (w * f(np.sqrt(q1) * x)) @ g(np.sqrt(q2) * z) @ w


def _strip(f, inner, q1, q2, rho, means=(0.0, 0.0)):
    """E f(u) g(v) from E[g(v) | u], on 20000 Gauss-Legendre nodes clustered at u = 0 and v's kink."""
    c, s = rho * np.sqrt(q2), np.sqrt(q2 * (1 - rho) * (1 + rho))
    ends = [-10.0, 10.0]
    for centre in (-means[0] / np.sqrt(q1), -means[1] / c if c else 0.0):
        ends += [centre] + [centre + sign * 10.0**-k for k in np.arange(0, 6, 0.25) for sign in (-1, 1)]
    ends = np.unique(np.clip(ends, -10, 10))
    t, w = np.polynomial.legendre.leggauss(60)
    x = ((ends[1:] + ends[:-1])[:, None] + np.diff(ends)[:, None] * t) / 2
    weight = np.diff(ends)[:, None] * w / 2 * _density(x)
    return np.sum(weight * f(means[0] + np.sqrt(q1) * x) * inner(means[1] + c * x, s))


def _random(count, seed, top=0.999):
    rng = np.random.default_rng(seed)
    q1, q2 = np.exp(rng.uniform(np.log(1e-3), np.log(10), (2, count)))
    rho = rng.uniform(-top, top, count)
    rho[:2] = top, -top
    return q1, q2, rho


@pytest.mark.parametrize("first", SMOOTH)
@pytest.mark.parametrize("second", [Tanh, Gelu, member(Silu.family, 1)])
def test_smooth_pairs(first, second):
    q1, q2, rho = _random(4, seed=5)
    got = expectation(first(U) * second(V), (U, V), _cov(q1, q2, rho))
    want = [_dense(numeric(first), numeric(second), *row) for row in zip(q1, q2, rho, strict=True)]
    np.testing.assert_allclose(got.value, want, rtol=0, atol=1e-11)
    assert np.all(np.abs(got.value - want) <= got.error + 1e-13)
    assert np.all(got.error <= 1e-10)


@pytest.mark.parametrize("function", SMOOTH)
def test_smooth_means(function):
    q = np.geomspace(1e-3, 10, 7)
    got = expectation(function(U), (U,), [[q]])
    x, w = np.polynomial.legendre.leggauss(400)
    want = numeric(function)(np.sqrt(q)[:, None] * 10 * x) @ (10 * w * _density(10 * x))
    np.testing.assert_allclose(got.value, want, rtol=0, atol=1e-12)


@pytest.mark.parametrize("kinked", NORMAL_MEANS)
@pytest.mark.parametrize("other", [Tanh, Sigmoid, Step, Relu, Abs, Sign, Gelu])
@pytest.mark.parametrize("means", [(0.0, 0.0), (0.3, -0.7)])
def test_kinked_pairs(kinked, other, means):
    q1, q2, rho = _random(6, seed=11)
    got = expectation(other(U) * kinked, (U, V), _cov(q1, q2, rho), list(means))
    inner = NORMAL_MEANS[kinked]
    rows = zip(q1, q2, rho, strict=True)
    want = np.array([_strip(numeric(other), inner, *row, means) for row in rows])
    np.testing.assert_allclose(got.value, want, rtol=1e-10, atol=1e-11)
    assert np.all(np.abs(got.value - want) <= got.error + 1e-12)


@pytest.mark.parametrize("sign", [-1, 1])
@pytest.mark.parametrize("gap", [1e-3, 1e-6, 1e-9, 1e-13, 0.0])
@pytest.mark.parametrize("first, second", [(Relu, Tanh), (Step, Sigmoid), (Relu, Abs), (Step, Sign)])
def test_nearly_degenerate_kinked_pairs(first, second, gap, sign):
    near = expectation(first(U) * second(V), (U, V), [[1.0, sign * (1 - gap)], [0, 1.0]])
    at = expectation(first(U) * second(sign * U), (U,), [[1.0]])
    assert abs(near.value - at.value) <= 2 * np.sqrt(gap) + 1e-12
    assert near.error <= 1e-11


@pytest.mark.parametrize("argument", [V - 1, 2 * V + U - 1, sp.tanh(V) - sp.Rational(1, 5), V + sp.tanh(U)])
def test_kinks_away_from_zero_and_nested(argument):
    body = Step(argument) * Gauss(U)
    got = expectation(body, (U, V), [[1.0, 0.4], [0, 2.0]])
    x = np.linspace(-8, 8, 4001)
    weight = np.gradient(x) * _density(x)
    u, spread = x, np.sqrt(2 - 0.16)
    threshold = {V - 1: 1 + 0 * u, 2 * V + U - 1: (1 - u) / 2, V + sp.tanh(U): -np.tanh(u)}
    cut = threshold.get(argument, np.arctanh(0.2) + 0 * u)
    want = np.sum(weight * np.exp(-(u**2) / 2) * special.ndtr((0.4 * u - cut) / spread))
    assert got.value == pytest.approx(want, abs=1e-11)


def test_kink_on_a_curve_of_both_variables():
    x, w = np.polynomial.legendre.leggauss(200)
    want = 0.0
    for low in np.linspace(-9, 9, 721)[:-1]:
        u = low + 0.0125 * (x + 1)
        m, s = np.sin(3 * u) + 0.5 * u**2, np.abs(u) * np.sqrt(0.75)
        want += np.sum(0.0125 * w * _density(u) * NORMAL_MEANS[Relu(V)](m, s))
    for body in (Relu(sp.sin(3 * U) + V * U), Relu(sp.sin(3 * V) + V * U)):
        got = expectation(body, (U, V), [[1.0, 0.5], [0, 1.0]])
        assert got.value == pytest.approx(want, abs=1e-10)


@pytest.mark.parametrize("q", [1e2, 1e4, 1e6])
@pytest.mark.parametrize("mean", [0.0, 3.0])
def test_steep_functions_are_not_skipped(q, mean):
    """tanh' has mass 2 in a window that is only 1/√q standard deviations wide."""
    slope = member(Tanh.family, 1)
    one = expectation(slope(U), (U,), [[q]], [mean])
    assert one.value == pytest.approx(2 * _density(mean / np.sqrt(q)) / np.sqrt(q), rel=2 / q)
    two = expectation(slope(U) * Step(V), (U, V), [[q, 0.5], [0, 1.0]], [mean, 0.0])
    assert two.value == pytest.approx(one.value / 2, rel=0.05)


@pytest.mark.parametrize("body, want", [(sp.sqrt(sp.Abs(U)), special.gamma(0.75) * 2**0.25 / np.sqrt(np.pi)),
                                        (sp.log(U**2), -np.euler_gamma - np.log(2)),
                                        (1 / (1 + U**2), np.sqrt(np.pi / 2) * special.erfcx(0.5**0.5)),
                                        (sp.Max(0, sp.tanh(U)), None), (U**4, 3.0), (Exp(3 * U), np.exp(4.5)),
                                        (Abs(Abs(U) - 1), None)])  # fmt: skip
def test_opaque_functions_of_one_variable(body, want):
    if want is None:
        x = np.linspace(-9, 9, 180001)
        f = np.maximum(0, np.tanh(x)) if body.has(sp.tanh) else np.abs(np.abs(x) - 1)
        want, tolerance = integrate.trapezoid(f * _density(x), x), 1e-8
    else:
        tolerance = 1e-9
    assert expectation(body, (U,), [[1.0]]).value == pytest.approx(want, rel=tolerance)


def test_nested_smooth_body_with_scalars_and_means():
    c = np.array([[-0.5], [0.0], [0.8]])
    m = np.array([0.0, 0.4])
    got = expectation(Tanh(U + S * Tanh(V)), (U, V), [[0.5, 0.2], [0, 1.5]], [m, -0.3], {S: c})
    assert got.value.shape == (3, 2)
    x, w = np.polynomial.hermite_e.hermegauss(120)
    w = w / w.sum()
    u = m[:, None, None] + np.sqrt(0.5) * x[:, None]
    v = -0.3 + 0.2 / np.sqrt(0.5) * x[:, None] + np.sqrt(1.5 - 0.08) * x
    want = np.einsum("cmij,i,j->cm", np.tanh(u + c[..., None, None] * np.tanh(v)), w, w)
    np.testing.assert_allclose(got.value, want, atol=1e-9)


def test_shapes_and_unused_variables():
    q1, q2 = np.ones((3, 1)), np.full((1, 4), 2.0)
    c = np.zeros((3, 4)) + 0.1
    both = expectation(Tanh(U) * Gelu(V), (U, V), [[q1, c], [c, q2]])
    assert both.value.shape == both.error.shape == (3, 4)
    assert expectation(Tanh(U) ** 2, (U, V), [[q1, c], [c, q2]]).value.shape == (3, 1)
    assert expectation(sp.Integer(3), (U, V), [[q1, c], [c, q2]]).value == 3.0
    assert expectation(S * Relu(U), (U,), [[1.0]], scalars={S: np.ones(5)}).value.shape == (5,)
    assert expectation(Tanh(U) * Gelu(V), (U, V), [[q1[:0], 0.5], [0, q2]]).value.shape == (0, 4)


def test_independent_blocks_are_products():
    cov = [[1.0, 0.5, 0, 0], [0, 1.0, 0, 0], [0, 0, 2.0, 0.3], [0, 0, 0, 1.0]]
    body = Relu(U) * Relu(V) * Relu(W) * Relu(S)
    got = expectation(body, (U, V, W, S), cov)
    left = expectation(Relu(U) * Relu(V), (U, V), [[1.0, 0.5], [0, 1.0]])
    right = expectation(Relu(U) * Relu(V), (U, V), [[2.0, 0.3], [0, 1.0]])
    assert got.value == pytest.approx(left.value * right.value, rel=1e-14)
    assert got.method == "closed form"


def test_three_variables_of_rank_two():
    k = np.array([[1.0, 0.5], [0.5, 2.0]])
    a = np.array([[1.0, 0], [0, 1.0], [1.0, -1.0]])
    cov = [list(row) for row in a @ k @ a.T]
    got = expectation(Relu(U) * Relu(V) * Relu(W), (U, V, W), cov)
    want = expectation(Relu(U) * Relu(V) * Relu(U - V), (U, V), [list(row) for row in k])
    assert got.value == pytest.approx(want.value, abs=1e-12)


def test_three_and_four_smooth_variables():
    cov = np.array([[1.0, 0.5, 0.2, 0.1], [0.5, 1.2, 0.3, 0.0], [0.2, 0.3, 0.8, 0.4], [0.1, 0.0, 0.4, 1.0]])
    got = expectation(Tanh(U + V * W), (U, V, W), [list(r) for r in cov[:3, :3]])
    x, w = np.polynomial.hermite_e.hermegauss(80)
    u, v, z = np.einsum("ij,j...->i...", np.linalg.cholesky(cov[:3, :3]), np.stack(np.meshgrid(x, x, x)))
    want = np.einsum("jik,i,j,k->", np.tanh(u + v * z), w, w, w) / w.sum() ** 3
    assert got.value == pytest.approx(want, abs=1e-6)
    assert got.method == "trapezoid tensor"
    cosine = expectation(Cos(U + V + W + S), (U, V, W, S), [list(r) for r in cov])
    assert cosine.value == pytest.approx(np.exp(-cov.sum() / 2), abs=1e-12)


@settings(max_examples=30, deadline=None, derandomize=True)
@given(q1=st.floats(0.1, 4), q2=st.floats(0.1, 4), rho=st.floats(-0.95, 0.95), m=st.floats(-1, 1))
def test_delta_is_the_derivative_of_step(q1, q2, rho, m):
    cov, h = _cov(q1, q2, rho), 1e-4
    above, below = (expectation(Step(U + S) * Sigmoid(V), (U, V), cov, [m, 0.2], {S: x}).value for x in (h, -h))
    got = expectation(Delta(U) * Sigmoid(V), (U, V), cov, [m, 0.2])
    assert got.value == pytest.approx((above - below) / (2 * h), abs=2e-6)
    shifted = [expectation(Delta(2 * U + S) * Sigmoid(V + U), (U, V), cov, [m, 0.2], {S: x}).value
               for x in (h, -h)]  # fmt: skip
    prime = expectation(sp.diff(Delta(U), U).subs(U, 2 * U) * Sigmoid(V + U), (U, V), cov, [m, 0.2])
    assert prime.value == pytest.approx((shifted[0] - shifted[1]) / (2 * h), abs=1e-5)
    first = sp.diff(Delta(U), U).subs(U, U + S)
    moved = [expectation(first * Sigmoid(V + U), (U, V), cov, [m, 0.2], {S: x}).value for x in (h, -h)]
    second = expectation(sp.diff(Delta(U), U, 2) * Sigmoid(V + U), (U, V), cov, [m, 0.2])
    assert second.value == pytest.approx((moved[0] - moved[1]) / (2 * h), rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("first", [Relu, Step, Abs, Sign, Tanh, Gelu, Erf])
@pytest.mark.parametrize("second", [Tanh, Relu, Sigmoid])
@pytest.mark.parametrize("q1, q2, rho", [(1.0, 2.0, 0.5), (0.3, 4.0, -0.9)])
def test_stein(first, second, q1, q2, rho):
    """E u f(u) g(v) = q1 E f'(u) g(v) + c E f(u) g'(v), where f' may hold a delta."""
    cov = _cov(q1, q2, rho)
    c, f, g = cov[0][1], first(U), second(V)
    left = expectation(U * f * g, (U, V), cov)
    right = expectation(q1 * sp.diff(f, U) * g + c * f * sp.diff(g, V), (U, V), cov)
    assert left.value == pytest.approx(right.value, abs=1e-11)
    df = sp.diff(f, U)
    twice = expectation(U * df * g, (U, V), cov)
    parts = expectation(q1 * sp.diff(df, U) * g + c * df * sp.diff(g, V), (U, V), cov)
    assert twice.value == pytest.approx(parts.value, abs=1e-11)


def test_step_beside_a_delta_counts_one_half():
    density = 1 / np.sqrt(2 * np.pi * 2.0)
    assert expectation(Delta(U) * Step(U), (U,), [[2.0]]).value == pytest.approx(density / 2)
    assert expectation(Delta(U) * Step(V), (U, V), [[2.0, 2.0], [0, 2.0]]).value == pytest.approx(density / 2)
    assert expectation(Delta(U) * Step(V), (U, V), [[2.0, 0.0], [0, 0.0]]).value == pytest.approx(density / 2)
    assert expectation(Step(U), (U,), [[0.0]]).value == 0.0
    assert expectation(Delta(U) * Relu(V) * Exp(U), (U, V), [[2.0, 2.0], [0, 2.0]]).value == 0.0


def test_delta_of_a_difference_of_two_variables():
    cov = np.array([[1.0, 0.3], [0.3, 2.0]])
    got = expectation(Delta(U - V) * Cos(U), (U, V), [list(r) for r in cov])
    x = np.linspace(-9, 9, 4001)
    joint = np.exp(-np.linalg.inv(cov).sum() * x**2 / 2) / (2 * np.pi * np.sqrt(np.linalg.det(cov)))
    assert got.value == pytest.approx(integrate.trapezoid(np.cos(x) * joint, x), abs=1e-12)


def test_two_deltas_give_the_joint_density():
    got = expectation(Delta(U - S) * Delta(V), (U, V), [[1.0, 0.3], [0, 2.0]], scalars={S: 0.5})
    det = 2.0 - 0.09
    assert got.value == pytest.approx(np.exp(-0.25 * 2.0 / det / 2) / (2 * np.pi * np.sqrt(det)), rel=1e-12)


@pytest.mark.parametrize("body", [Tanh(U) * Relu(V), Step(U) * Tanh(V), Tanh(U) * Tanh(V), Step(U) * Abs(V)])
@pytest.mark.parametrize("q1, q2", [(0.0, 1.0), (1.0, 0.0), (0.0, 0.0)])
def test_zero_variance(body, q1, q2):
    assert expectation(body, (U, V), [[q1, 0.0], [0, q2]]).value == 0.0
    mixed = expectation(body, (U, V), [[np.array([q1, 1.0]), np.array([0.0, 0.5])], [0, np.array([q2, 1.0])]])
    assert abs(mixed.value[0]) <= 1e-16 and mixed.value[1] > 0.01


@pytest.mark.parametrize(
    "cov, name",
    [
        ([[np.nan, 0.0], [0, 1.0]], "cov[0][0]"),
        ([[1.0, np.inf], [0, 1.0]], "cov[0][1]"),
        ([[1.0, 0.0], [0, -1.0]], "cov[1][1]"),
        ([[1.0, 1.1], [0, 1.0]], "cov[0][1]"),
    ],
)
def test_bad_covariances_are_named(cov, name):
    with pytest.raises(DataError, match=re.escape(name)):
        expectation(Relu(U) * Relu(V), (U, V), cov)


def test_a_covariance_over_the_bound_by_rounding_is_clipped():
    got = expectation(Relu(U) * Relu(V), (U, V), [[1.0, 1 + 1e-12], [0, 1.0]])
    assert got.value == pytest.approx(0.5, rel=1e-15)


def test_indefinite_three_by_three_is_refused():
    cov = [[1.0, 0.9, 0.9], [0, 1.0, -0.9], [0, 0, 1.0]]
    with pytest.raises(DataError, match="positive semidefinite"):
        expectation(Cos(U + V + W), (U, V, W), cov)


def test_errors_say_what_is_not_computed():
    with pytest.raises(DataError, match="density at 0 is infinite"):
        expectation(Delta(U) * Tanh(V), (U, V), [[0.0, 0.0], [0, 1.0]])
    with pytest.raises(NoRuleError, match="affine"):
        expectation(Delta(U**2 - 1), (U,), [[1.0]])
    with pytest.raises(NoRuleError, match="Dirac"):
        expectation(Delta(U) ** 2, (U,), [[1.0]])
    with pytest.raises(NoRuleError, match="abstract"):
        expectation(abstract("phi")(U), (U,), [[1.0]])
    with pytest.raises(AccuracyError, match="cov\\[0\\]\\[0\\]"):
        expectation(1 / U**2, (U,), [[1.0]])


def test_zero_weight_axis_and_kink_list():
    assert kinks(Relu(2 * U - 1) * Tanh(V), (U, V)) == [2 * U - 1]
    rank_one = Problem(Relu(U) * Tanh(V), (U, V), np.zeros((1, 2)), np.ones((1, 2, 1)), {})
    padded = Problem(Relu(U) * Tanh(V), (U, V), np.zeros((1, 2)), np.array([[[1.0, 0], [1.0, 0]]]), {})
    assert panels(rank_one, 1e-12, 0).value == pytest.approx(panels(padded, 1e-12, 0).value, rel=1e-12)
    even = Problem(Tanh(U) ** 2, (U,), np.zeros((1, 1)), np.full((1, 1, 1), 50.0), {})
    assert abs(trapezoid(even, 1e-12, 0).value - panels(even, 1e-12, 0).value) < 1e-10


def test_ten_thousand_tanh_pairs_take_seconds():
    rng = np.random.default_rng(0)
    q1, q2 = rng.uniform(0.5, 1.5, (2, 10**4))
    start = time.process_time()
    got = expectation(Tanh(U) * Tanh(V), (U, V), _cov(q1, q2, rng.uniform(-1, 1, 10**4)))
    assert time.process_time() - start < 20  # about 1.2 s
    assert got.error.max() < 1e-11


def test_proportional_variables_among_others_are_integrated_over_one_dimension():
    """E (h² - u²)₊² = 2φ(0) (8/15) h⁵ (1 - h²/14 + ..), however narrow the kinks are."""
    h = 1e-4
    edge = sp.Rational(1, 10**8)
    c = np.array([1.0, 0.0, -1.0, 0.5])
    got = expectation(Relu(edge - U**2) * Relu(edge - V**2), (U, V), [[1.0, c], [None, 1.0]])
    want = 16 / 15 * h**5 * (1 - h**2 / 14) / np.sqrt(2 * np.pi)
    assert got.value[[0, 2]] == pytest.approx(want, rel=1e-13, abs=0)
    assert np.all(got.error[[0, 2]] <= 1e-12 * want)
    density = np.array([1.0, np.sqrt(4 / 3)]) / (2 * np.pi)  # of both at 0, where they are independent or c = 1/2
    assert got.value[[1, 3]] == pytest.approx((4 / 3 * h**3) ** 2 * density, rel=1e-7, abs=0)


def test_breakpoints_on_the_rim_make_no_cells():
    found = _clipped(np.array([[-20.0, 0.5, 30.0, np.nan], [-30.0, -9.5, 2.0, 40.0]]), 9.0)
    assert found.tolist() == [[0.5, 9.0], [-9.0, 2.0]]
    assert _clipped(np.full((3, 2, 4), np.nan), 9.0).shape == (3, 2, 0)
