"""Closed forms against 60-digit arithmetic, against quadrature, and against the identities they obey."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from tensorprog.errors import DataError
from tensorprog.expectations.bodies import parity
from tensorprog.expectations.closed.pairs import MEANS, PAIRS, find_pair
from tensorprog.expectations.determinants import determinant
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import (
    FAMILIES,
    Abs,
    Cos,
    Erf,
    Exp,
    Gauss,
    Gelu,
    Relu,
    Sign,
    Sin,
    Step,
    Tanh,
    member,
    text_name,
)  # fmt: skip

U, V, S = sp.symbols("u v s")
PAIR_IDS = [f"{text_name(a)}-{text_name(b)}" for a, b in PAIRS]
VARIANCE = st.floats(0.05, 6.0)
CORRELATION = st.floats(-0.999, 0.999) | st.sampled_from([-1.0, 0.0, 1.0, 1 - 1e-9, -1 + 1e-9])


def _theta(q1, q2, c):
    return mp.acos(max(min(c / mp.sqrt(q1 * q2), mp.mpf(1)), mp.mpf(-1)))


def _gelu(q1, q2, c):
    p = (1 + q1) * (1 + q2)
    top = q1 * q2 + c * c * (1 / (1 + q1) + 1 / (1 + q2) - 1)
    return c / 4 + c * mp.asin(c / mp.sqrt(p)) / (2 * mp.pi) + top / (2 * mp.pi * mp.sqrt(p - c * c))


def _relu(q1, q2, c):
    t = _theta(q1, q2, c)
    return mp.sqrt(q1 * q2) * (mp.sin(t) + (mp.pi - t) * mp.cos(t)) / (2 * mp.pi)


def _abs(q1, q2, c):
    a = mp.pi / 2 - _theta(q1, q2, c)
    return 2 * mp.sqrt(q1 * q2) * (mp.cos(a) + a * mp.sin(a)) / mp.pi


TEXTBOOK = {
    (Relu, Relu): _relu,
    (Step, Step): lambda a, b, c: (mp.pi - _theta(a, b, c)) / (2 * mp.pi),
    (Relu, Step): lambda a, b, c: mp.sqrt(a) * (1 + mp.cos(_theta(a, b, c))) / (2 * mp.sqrt(2 * mp.pi)),
    (Sign, Sign): lambda a, b, c: 1 - 2 * _theta(a, b, c) / mp.pi,
    (Abs, Abs): _abs,
    (Erf, Erf): lambda a, b, c: 2 * mp.asin(2 * c / mp.sqrt((1 + 2 * a) * (1 + 2 * b))) / mp.pi,
    (member(Erf.family, 1),) * 2: lambda a, b, c: (
        4 / mp.pi / mp.sqrt((1 + 2 * a) * (1 + 2 * b) - 4 * c * c)
    ),
    (Exp, Exp): lambda a, b, c: mp.exp((a + b + 2 * c) / 2),
    (Sin, Sin): lambda a, b, c: mp.exp(-(a + b) / 2) * mp.sinh(c),
    (Cos, Cos): lambda a, b, c: mp.exp(-(a + b) / 2) * mp.cosh(c),
    (Sin, Cos): lambda a, b, c: mp.mpf(0),
    (Gauss, Gauss): lambda a, b, c: 1 / mp.sqrt((1 + a) * (1 + b) - c * c),
    (Gelu, Gelu): _gelu,
    (member(Gelu.family, 1),) * 2: lambda a, b, c: mp.diff(lambda x: _gelu(a, b, x), c),
}  # fmt: skip


def _covariances(count, seed):
    """Random ones, of which a part with |rho| = 1 - 10^-k and a part with rho = ±1 exactly representable."""
    rng = np.random.default_rng(seed)
    q1, q2 = np.exp(rng.uniform(np.log(1e-3), np.log(10), (2, count)))
    near = rng.choice([-1, 1], count) * (1 - 10.0 ** -rng.integers(3, 13, count))
    rho = np.where(rng.random(count) < 0.4, near, rng.uniform(-1, 1, count))
    rho[:2] = 1 - 1e-10, -1 + 1e-10
    q2[2:8] = q1[2:8] * [1, 4, 0.25, 1, 4, 0.25]
    rho[2:8] = 1, 1, 1, -1, -1, -1
    return q1, q2, rho * np.sqrt(q1 * q2)


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_pair_against_many_digits(pair):
    q1, q2, c = _covariances(150, seed=len(text_name(pair[0])))
    got = PAIRS[pair].formula(q1, q2, c)
    with mp.workdps(60):
        want = np.array([float(TEXTBOOK[pair](*map(mp.mpf, row))) for row in zip(q1, q2, c, strict=True)])
    np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-30)


@pytest.mark.parametrize("pair", [(Exp, Exp), (Sin, Sin), (Cos, Cos)], ids=lambda pair: text_name(pair[0]))
@pytest.mark.parametrize("scale", [1.0, 1e4, 2e11, 1e15])
def test_exponentials_of_large_variances_follow_the_gap(pair, scale):
    """c tells (q + q')/2 - |c| to q ε only; 1 - |ρ| is exact."""
    sign = -1 if pair[0] is Exp else 1  # where the exponent cancels
    gaps, factor = np.array([0.0, 0.1, 0.5, 0.9])[:, None] / scale, np.array([1.0, 1 + 1e-13, 1 + 1e-9])
    q, p = scale, scale * factor
    with mp.workdps(60):
        rows = [[mp.sqrt(mp.mpf(q) * mp.mpf(b)) * (1 - mp.mpf(t)) for b in p] for t in gaps[:, 0]]
        want = np.array([[float(TEXTBOOK[pair](mp.mpf(q), mp.mpf(b), sign * c)) for b, c in zip(p, row, strict=True)]
                         for row in rows])  # fmt: skip
    c = sign * np.array([[float(c) for c in row] for row in rows])
    found = expectation(pair[0](U) * pair[1](V), (U, V), [[q, c], [c, p]], gap=gaps)
    np.testing.assert_allclose(found.value, want, rtol=4e-15)
    assert found.method == "closed form"


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
@settings(max_examples=25, deadline=None, derandomize=True)
@given(q1=VARIANCE, q2=VARIANCE, rho=CORRELATION)
def test_pair_is_its_quadrature(pair, q1, q2, rho):
    # B(v + s) with s = 0 has no entry in the table, so it goes through quadrature
    cov = [[q1, rho * np.sqrt(q1 * q2)], [0, q2]]
    table = expectation(pair[0](U) * pair[1](V), (U, V), cov)
    numeric = expectation(pair[0](U) * pair[1](V + S), (U, V), cov, scalars={S: 0.0})
    if pair != (Sin, Cos):
        assert table.method in ("closed form", "odd")
    assert abs(table.value - numeric.value) <= 1e-11 * (1 + abs(table.value)) + numeric.error


@pytest.mark.parametrize("function", MEANS, ids=[text_name(f) for f in MEANS])
@settings(max_examples=15, deadline=None, derandomize=True)
@given(q=VARIANCE)
def test_mean_is_its_quadrature(function, q):
    numeric = expectation(function(U + S), (U,), [[q]], scalars={S: 0.0})
    assert abs(MEANS[function].formula(np.array(q)) - numeric.value) <= 1e-12 * (1 + np.exp(q / 2))


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
@settings(max_examples=20, deadline=None, derandomize=True)
@given(q1=VARIANCE, q2=VARIANCE, rho=st.floats(-0.9, 0.9))
def test_derivative_in_covariance_is_expectation_of_derivatives(pair, q1, q2, rho):
    c, h, size = rho * np.sqrt(q1 * q2), 1e-3 * np.sqrt(q1 * q2), 1 + np.exp(2 * (q1 + q2))
    f = [float(PAIRS[pair].formula(q1, q2, c + k * h)) for k in (-2, -1, 1, 2)]
    slope = (f[0] - 8 * f[1] + 8 * f[2] - f[3]) / (12 * h)
    body = sp.diff(pair[0](U), U) * sp.diff(pair[1](V), V)
    got = expectation(body, (U, V), [[q1, c], [0, q2]])
    tolerance = 1e-7 * (size if Exp in pair else 1 + 1 / np.sqrt(q1 * q2))
    assert abs(got.value - slope) <= tolerance


@pytest.mark.parametrize("function", [a for a, b in PAIRS if a is b], ids=text_name)
def test_gram_matrix_is_positive_semidefinite(function):
    x = np.random.default_rng(3).normal(size=(12, 4))
    x[5] = x[4]
    k = x @ x.T / 4
    q = np.diag(k)
    gram = expectation(function(U) * function(V), (U, V), [[q[:, None], k], [k, q]]).value
    assert gram.shape == (12, 12)
    values = np.linalg.eigvalsh(gram)
    assert values[0] >= -1e-12 * values[-1]


@pytest.mark.parametrize("pair", PAIRS, ids=PAIR_IDS)
def test_zero_variance_is_the_value_at_the_point(pair):
    at_zero = {Exp: 1.0, Cos: 1.0, Gauss: 1.0, member(Erf.family, 1): 2 / np.sqrt(np.pi),
               member(Gelu.family, 1): 0.5}  # fmt: skip
    first, second = (at_zero.get(f, 0.0) for f in pair)
    assert PAIRS[pair].formula(0.0, 0.0, 0.0) == pytest.approx(first * second, rel=1e-15, abs=1e-16)
    if pair[1] in MEANS and pair[0] in at_zero | dict.fromkeys((Relu, Step, Abs, Sign, Erf, Sin, Gelu)):
        mean = float(MEANS[pair[1]].formula(np.array(2.0)))
        assert PAIRS[pair].formula(0.0, 2.0, 0.0) == pytest.approx(first * mean, rel=1e-14, abs=1e-16)


def test_order_of_the_pair_does_not_matter():
    assert find_pair(Step, Relu)(2.0, 3.0, 0.5) == find_pair(Relu, Step)(3.0, 2.0, 0.5)
    assert find_pair(Tanh, Relu) is None
    swapped = expectation(Step(U) * Relu(V), (U, V), [[2.0, 0.5], [0.5, 3.0]])
    assert swapped.value == find_pair(Relu, Step)(3.0, 2.0, 0.5)


@pytest.mark.parametrize("scale", [1e-250, 1e-30, 1.0, 1e200])
def test_determinant_is_exact_to_the_last_digits(scale):
    q1, q2, c = _covariances(60, seed=1)
    with mp.workdps(60):
        want = [max(mp.mpf(a) * mp.mpf(b) - mp.mpf(d) ** 2, 0) for a, b, d in zip(q1, q2, c, strict=True)]
    got = determinant(q1 * scale, q2 / scale, c)
    exact = determinant(q1, q2, c)
    np.testing.assert_allclose(exact, np.array([float(w) for w in want]), rtol=1e-15, atol=0)
    if scale == 1.0:
        np.testing.assert_array_equal(got, exact)
    assert np.all(np.isfinite(got))


@pytest.mark.parametrize(
    "body, sign",
    [
        (Tanh(U) * Tanh(V), 1),
        (U * Tanh(U) * Tanh(V), -1),
        (member(Tanh.family, 1)(U) * Sin(V), -1),
        (Relu(U) * V, 0),
        (Tanh(U + Tanh(V)), -1),
        (Tanh(U + 1), 0),
        (Abs(Sin(U)) * sp.sinh(V) ** 3, -1),
        (Relu(U**2), 1),
    ],
)
def test_parity(body, sign):
    assert parity(body, (U, V)) == sign


@pytest.mark.parametrize("distance", [1e-3, 1e-9, 1e-15, 1e-18, 1e-30, 0.0])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_gap_gives_the_angle_that_the_covariance_has_lost(distance, sign):
    q1, q2 = 2.0, 3.0
    gap = distance if sign > 0 else 2 - distance
    cov = [[q1, np.sqrt(6.0) * (1 - gap)], [None, q2]]
    got = {f: expectation(f(U) * f(V), (U, V), cov, gap=gap).value for f in (Relu, Step, Sign, Abs, Gelu)}
    with mp.workdps(60):
        theta = 2 * mp.asin(mp.sqrt(mp.mpf(gap) / 2))
        assert float(got[Step] * 2 * np.pi) == pytest.approx(float(mp.pi - theta), rel=1e-14)
        assert abs((0.5 - got[Step]) * 2 * np.pi - float(theta)) <= 1e-12 * float(theta) + 2e-16 * np.pi
        want = mp.sqrt(6) * (mp.sin(theta) + (mp.pi - theta) * mp.cos(theta)) / (2 * mp.pi)
        assert float(got[Relu]) == pytest.approx(float(want), rel=4e-15, abs=1e-40)
    if not distance:
        assert got[Step] == (0.5 if sign > 0 else 0.0)


def test_a_gap_is_used_by_quadrature_series_and_delta():
    gap = np.concatenate([[0.0], np.geomspace(1e-25, 1.9, 99)])
    cov = [[2.0, 2.0 * (1 - gap)], [None, 2.0]]
    delta = member(FAMILIES["delta"], 0)
    for body in (Tanh(U) * Tanh(V), Relu(U) * Tanh(V), Relu(U) * Step(V)):
        near, plain = expectation(body, (U, V), cov, gap=gap), expectation(body, (U, V), cov)
        np.testing.assert_allclose(near.value, plain.value, rtol=0, atol=1e-7)
    density = expectation(delta(U) * delta(V), (U, V), [[2.0, 2.0 * (1 - gap[1:])], [None, 2.0]], gap=gap[1:])
    np.testing.assert_allclose(density.value, 1 / (4 * np.pi * np.sqrt(gap[1:] * (2 - gap[1:]))), rtol=1e-14)


@pytest.mark.parametrize("gap", [0.1, -1e-3, np.nan])
def test_a_gap_that_contradicts_the_covariance_is_refused(gap):
    with pytest.raises(DataError, match="gap = .* is not 1 - cov"):
        expectation(Relu(U) * Relu(V), (U, V), [[1.0, 1.0], [None, 1.0]], gap=gap)
    with pytest.raises(DataError, match="there are 1"):
        expectation(Relu(U), (U,), [[1.0]], gap=0.0)
