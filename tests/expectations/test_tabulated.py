"""Tabulated moments and Hermite coefficients against mpmath and against the sums they interpolate."""

import mpmath as mp
import numpy as np
import pytest

from tensorprog.expectations.bodies import parity
from tensorprog.expectations.series.hermite import LEVELS, coefficients
from tensorprog.expectations.series.tabulated import MOMENT, tabulated
from tensorprog.functions import FAMILIES as F
from tensorprog.functions import Erf, Tanh, X, evaluate, member

FUNCTIONS = [Tanh(X), Tanh(X).diff(X), member(F["sigmoid"], 0)(X), member(F["silu"], 1)(X), member(F["softplus"], 0)(X),
             X * Tanh(X), Erf(X)]  # fmt: skip
Q = np.concatenate([10.0 ** np.arange(-30, 3, 3), [0.3, 3.9999, 4.0, 4.0001, 17.0, 250.0]])


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_coefficients_are_those_of_the_sums(function):
    table = tabulated(function)
    direct = coefficients(lambda x: np.broadcast_to(evaluate(function, {X: x}), x.shape), parity(function, (X,)), Q)
    parts = [p for p in direct.parts if p is not None]
    want = np.stack(parts, axis=1).reshape(-1, len(Q))
    table.coefficients(Q[None], out := np.empty((1, len(want), len(Q))))
    assert np.all(np.sqrt(np.sum((out[0] - want) ** 2, axis=0)) < 2e-14 * np.sqrt(direct.square))


@pytest.mark.parametrize("function", FUNCTIONS, ids=str)
def test_tails_bound_what_is_left(function):
    tails = np.exp(2 * tabulated(function).tails(Q))
    table = tabulated(function)
    count = LEVELS[-1] // (2 if table.parity else 1)
    table.coefficients(Q[None], out := np.empty((1, count, len(Q))))
    square = tabulated(function**2, MOMENT).moment(Q)
    for level, order in enumerate(LEVELS):
        used = order * count // LEVELS[-1]
        left = np.sum(out[0, used:] ** 2, axis=0) / square
        assert np.all(left <= tails[:, level])


def test_moments_against_mpmath():
    q = np.array([1e-12, 0.01, 1.0, 7.3, 100.0, 900.0])
    ours = tabulated(Tanh(X) ** 2, MOMENT).moment(q)
    with mp.workdps(30):
        for value, v in zip(ours, q, strict=True):
            s = mp.sqrt(mp.mpf(float(v)))
            breaks = sorted({mp.mpf(0), *(mp.mpf(b) / s for b in (1, 3, 8) if b / s < 14), mp.mpf(14)})
            exact = 2 * mp.quad(lambda x, s=s: mp.tanh(s * x) ** 2 * mp.npdf(x), breaks)
            assert abs(value / float(exact) - 1) < 1e-14


def test_zero_variance_and_what_is_no_variance():
    table = tabulated(member(F["sigmoid"], 0)(X))
    table.coefficients(np.array([[0.0, np.nan, np.inf]]), out := np.empty((1, 4, 3)))
    assert np.array_equal(out[0, :, 0], [0.5, 0, 0, 0])
    tails = table.tails(np.array([0.0, np.nan, np.inf]))
    assert np.all(tails[0] == -np.inf) and np.all(tails[1:] == np.inf)
    assert np.isnan(tabulated(Tanh(X) ** 2, MOMENT).moment(np.array([np.nan]))).all()
