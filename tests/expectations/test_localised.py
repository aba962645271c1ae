"""Localised sums against closed forms at any variance, and what they do not apply to."""

import numpy as np
import pytest
import sympy as sp

from tensorprog.expectations.closed.pairs import find_pair
from tensorprog.expectations.closed.soft import SOFT, soft_pair
from tensorprog.expectations.determinants import determinant
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.series.heat import PANELS, flow
from tensorprog.expectations.series.localised import local_pair, localised
from tensorprog.expectations.series.mehler import split
from tensorprog.functions import Erf, Gauss, Gelu, Relu, Sin, Softplus, Step, Tanh, X, member, text_name

U, V = sp.symbols("u v", real=True)
GaussPrime, ErfPrime, GeluPrime = (member(f.family, 1) for f in (Gauss, Erf, Gelu))


def _law(count, seed, low=0.5, high=3000.0):
    rng = np.random.default_rng(seed)
    q1, q2 = np.exp(rng.uniform(np.log(low), np.log(high), (2, count)))
    near = 1 - 10.0 ** -rng.uniform(0.3, 15, count)
    rho = np.choose(np.arange(count) % 4, [rng.uniform(-1, 1, count), near, -near, 1.0])
    q2[3::8] = q1[3::8]
    bound = np.maximum(np.sqrt(q1) * np.sqrt(q2), np.sqrt(q1 * q2))
    c = np.clip(rho * bound, -bound, bound)
    return q1, q2, c, determinant(q1, q2, c)


@pytest.mark.parametrize("function", [Erf, Gelu, Gauss, ErfPrime, GeluPrime], ids=text_name)
@pytest.mark.parametrize("count", [24, 240])
def test_against_closed_forms(function, count):
    q1, q2, c, det = _law(count, seed=count)
    value, error = local_pair(split(function(U) * function(V), (U, V)), q1, q2, c, det, 1e-12)
    want = find_pair(function, function)(q1, q2, c, det)
    size = np.sqrt(find_pair(function, function)(q1, q1, q1, 0.0) * find_pair(function, function)(q2, q2, q2, 0.0))
    assert np.all(np.abs(value - want) <= error + 4e-15 * size)
    assert np.max(error / size) <= 1e-11


@pytest.mark.parametrize("first", SOFT)
@pytest.mark.parametrize("second", SOFT)
def test_soft_forms_are_the_tabled_ones(first, second):
    form = find_pair(first, second)
    if form is None:
        return
    q1, q2, c, det = _law(200, seed=5)
    got = soft_pair(SOFT[first], SOFT[second], q1, q2, c, det)
    size = SOFT[first].size(q1) * SOFT[second].size(q2)
    assert np.max(np.abs(got - form(q1, q2, c, det)) / size) <= 4e-16


@pytest.mark.parametrize("variance", [1e-6, 0.003, 0.05, 0.6, 3.0, 9.0, 40.0])
def test_the_heat_flow_of_a_bump(variance):
    local = localised(Gauss(X), X)
    panel = int(np.searchsorted(PANELS, variance, side="right")) - 1
    value, error = flow(local, 0.2, panel, np.array([variance]), 40)
    m = 0.2 * (np.arange(value.shape[1]) - value.shape[1] // 2)
    want = np.exp(-(m**2) / (2 * (1 + variance))) / np.sqrt(1 + variance)
    assert np.max(np.abs(value[0] - want)) <= error <= 1e-11


def test_what_has_no_straight_ends():
    assert localised(Sin(U), U) is None and localised(U**2, U) is None and localised(Softplus(U) ** 2, U) is None
    assert local_pair(split(Sin(U) * Tanh(V), (U, V)), *_law(4, 1), 1e-12) is None
    assert localised(U * Tanh(U), U).soft.d == 1.0


def test_zero_variance_and_wide_variance_together():
    q = np.array([0.0, 400.0] * 40)
    got = expectation(Softplus(U) * Tanh(V), (U, V), [[q, 0.5 * q], [None, q]])
    alone = expectation(Softplus(U) * Tanh(V), (U, V), [[400.0, 200.0], [None, 400.0]])
    assert np.all(got.value[::2] == 0.0) and np.all(got.error <= 1e-10)
    np.testing.assert_allclose(got.value[1::2], alone.value, rtol=1e-13)


def test_mixed_soft_pairs_at_zero_variance():
    for f, g in ((Gelu, Step), (Erf, Relu)):
        assert expectation(f(U) * g(V), (U, V), [[2.0, 0.0], [None, 0.0]]).value == 0.0
