"""Chebyshev interpolation in the angle against the quadrature that builds it."""

import numpy as np
import pytest
import sympy as sp

from tensorprog.errors import AccuracyError
from tensorprog.expectations.closed.pairs import find_pair
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.series import chebyshev as module
from tensorprog.expectations.series.chebyshev import SIZES, chebyshev
from tensorprog.functions import Gauss, Gelu, Sin, Tanh

U, V = sp.symbols("u v")


def _closed(function):
    form = find_pair(function, function)
    return lambda q1, q2, c: (form(q1, q2, c), 4e-15 * np.abs(form(q1, q2, c)))


def _angles(count, q1, q2, seed=0):
    rng = np.random.default_rng(seed)
    rho = rng.uniform(0.9, 1, count)
    rho[: count // 4] = 1 - 10.0 ** -rng.uniform(2, 15, count // 4)
    rho[:3] = 1.0, 1 - 1e-15, 0.9
    return rho * rng.choice([-1, 1], count) * np.sqrt(q1) * np.sqrt(q2)


@pytest.mark.parametrize("function", [Gauss, Gelu, Sin])
@pytest.mark.parametrize("q1, q2", [(30.0, 30.0), (100.0, 20.0), (2.0, 0.5)])
def test_constant_variances_against_closed_forms(function, q1, q2):
    q1, q2, c = np.full(900, q1), np.full(900, q2), _angles(900, q1, q2)
    value, error = chebyshev(_closed(function), ("constant", function), q1, q2, c)
    used = np.isfinite(error)
    want = find_pair(function, function)(q1, q2, c)
    assert np.all(np.abs(value - want)[used] <= error[used])
    assert used.all() and error.max() <= 1e-11 * max(1.0, np.abs(want).max())


def test_varying_variances_against_closed_forms():
    rng = np.random.default_rng(1)
    q1, q2 = np.exp(rng.uniform(np.log(10), np.log(20), (2, 50000)))
    c = _angles(50000, q1, q2)
    value, error = chebyshev(_closed(Gelu), "varying", q1, q2, c)
    want = find_pair(Gelu, Gelu)(q1, q2, c)
    assert np.all(np.abs(value - want) <= error) and error.max() <= 1e-10


def test_tables_are_kept_and_few():
    calls = []

    def rule(q1, q2, c):
        calls.append(len(c))
        return _closed(Gauss)(q1, q2, c)

    q = np.full(500, 3.0)
    first = chebyshev(rule, "kept", q, q, np.linspace(1, 2.9, 500))
    built = len(calls)
    again = chebyshev(rule, "kept", q, q, np.linspace(1.01, 2.89, 500))
    assert len(calls) == built and np.all(np.isfinite(first[1])) and np.all(np.isfinite(again[1]))
    for n in range(module.KEPT + 3):
        chebyshev(_closed(Gauss), ("few", n), q, q, np.linspace(1, 2.9, 500))
    assert len(module._TABLES) <= module.KEPT


def test_what_does_not_pay_off_or_does_not_converge_has_no_bound():
    q = np.full(500, 3.0)
    few = slice(0, SIZES[0][0])
    c = np.linspace(1, 3, 500)
    assert np.all(np.isinf(chebyshev(_closed(Gauss), "short", q[few], q[few], c[few])[1]))
    jump = lambda q1, q2, c: (np.where(c > 2, 1.0, 0.0), 0.0 * c)  # noqa: E731
    assert np.all(np.isinf(chebyshev(jump, "jump", q, q, c)[1]))


def test_many_pairs_of_large_variance_are_interpolated():
    q = np.full(400, 30.0)
    rho = 1 - np.concatenate([np.geomspace(1e-15, 1e-2, 200), np.linspace(1e-2, 0.02, 200)])
    got = expectation(Tanh(U) * Tanh(V), (U, V), [[q, rho * q], [None, q]])
    assert "Chebyshev interpolation" in got.method
    module._TABLES.clear()
    few = slice(None, None, 13)
    want = expectation(Tanh(U) * Tanh(V), (U, V), [[q[few], (rho * q)[few]], [None, q[few]]])
    assert want.method == "localised trapezoid"
    assert np.all(np.abs(got.value[few] - want.value) <= got.error[few] + want.error)
    assert got.error.max() <= 1e-11


def test_a_quadrature_that_fails_outside_the_range_is_no_failure(monkeypatch):
    def fail(*_):
        raise AccuracyError("outside")

    monkeypatch.setattr("tensorprog.expectations.smooth.chebyshev", fail)
    q = np.full(70, 30.0)
    got = expectation(Tanh(U) * Tanh(V), (U, V), [[q, q * (1 - 1e-6)], [None, q]])
    assert got.method == "localised trapezoid"
