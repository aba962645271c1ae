"""Covariances that are estimates themselves: what random points got wrong is no fault of the data."""

import numpy as np
import pytest
import sympy as sp

from tensorprog.errors import DataError
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Relu, Step

U = sp.symbols("u1:4", real=True)


def test_a_pair_beyond_its_bound_by_the_error_of_an_estimate():
    cov = [[1.0, 1.0005], [None, 1.0]]
    with pytest.raises(DataError, match="not positive semidefinite"):
        expectation(Relu(U[0]) * Relu(U[1]), U[:2], cov)
    assert float(expectation(Relu(U[0]) * Relu(U[1]), U[:2], cov, slack=1e-2).value) == pytest.approx(0.5)


def test_three_variables_whose_estimated_covariance_has_a_negative_eigenvalue():
    exact = np.array([[1, 0.6, 0.8], [0.6, 1, 0.0], [0.8, 0.0, 1]])  # u1 = .6 u2 + .8 u3
    off = exact + 1e-4 * np.array([[0, 1, 1], [1, 0, 0], [1, 0, 0]])
    body = Step(U[0]) * Relu(U[1]) * Relu(U[2])
    with pytest.raises(DataError, match="negative|not positive semidefinite"):
        expectation(body, U, off.tolist())
    want = expectation(body, U, exact.tolist())
    got = expectation(body, U, off.tolist(), slack=1e-2)
    assert float(got.value) == pytest.approx(float(want.value), abs=2e-4)
