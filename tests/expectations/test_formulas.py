"""The printed closed forms are those that are computed."""

import numpy as np
import pytest
import sympy as sp

from tensorprog.expectations.closed.pairs import MEANS, find_pair
from tensorprog.expectations.closed.printed import MEAN_FORMULAS, PAIR_FORMULAS, Q2, C, Q, closed_form
from tensorprog.functions import Relu, Step, Tanh

POINTS = [(1.3, 0.4, 0.8), (0.7, -0.6, 1.9), (2.0, 0.0, 0.5)]
u, v = sp.symbols("u v")


@pytest.mark.parametrize("pair", PAIR_FORMULAS, ids=str)
def test_pairs(pair):
    for q, c, q2 in POINTS:
        printed = float(PAIR_FORMULAS[pair].subs({Q: q, C: c, Q2: q2}))
        assert np.isclose(printed, find_pair(*pair)(q, q2, c), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("phi", MEAN_FORMULAS, ids=str)
def test_means(phi):
    for q, *_ in POINTS:
        assert np.isclose(float(MEAN_FORMULAS[phi].subs(Q, q)), MEANS[phi].formula(q), rtol=1e-12)


def test_the_order_of_the_functions_is_that_of_the_variables():
    assert closed_form(Relu(u) * Step(v), (u, v)) == PAIR_FORMULAS[Step, Relu].subs({Q: Q2, Q2: Q}, simultaneous=True)
    assert closed_form(Step(u) * Relu(v), (u, v)) == PAIR_FORMULAS[Step, Relu]


def test_squares_are_pairs_at_full_correlation():
    for q in (0.3, 2.0):
        assert np.isclose(float(closed_form(Relu(u) ** 2, (u,)).subs(Q, q)), q / 2)


def test_what_is_not_in_the_table_has_no_formula():
    assert closed_form(Tanh(u) * Tanh(v), (u, v)) is None
    assert closed_form(Relu(u + v), (u, v)) is None
    assert closed_form(Relu(u) ** 3, (u,)) is None
