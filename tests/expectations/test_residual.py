"""Three variables of which two nearly coincide: what a covariance of lower rank leaves out is kept, or is an error."""

import mpmath
import numpy as np
import pytest
import sympy as sp

from tensorprog.expectations.many import structured
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Exp, Relu, Step

U = sp.symbols("u1:4", real=True)
GAPS = [1e-14, 1e-15, 3e-16]


def nearly_equal(gap):
    """u2 - u1 is √(2 gap) of u1, and correlated with u3."""
    rows = np.array([[1, 0, 0], [1 - gap, np.sqrt(gap * (2 - gap)), 0], [0.3, 0.8, np.sqrt(0.27)]])
    cov = rows @ rows.T
    np.fill_diagonal(cov, 1.0)
    return cov


def relu_relu_exp(cov, a):
    """E relu(u1)relu(u2)e^(a u3) of unit variances: the means shift by a times the covariance with u3."""
    with mpmath.workdps(30):
        m1, m2, c = (mpmath.mpf(float(x)) for x in (a * cov[0, 2], a * cov[1, 2], cov[0, 1]))
        s = mpmath.sqrt((1 - c) * (1 + c))

        def f(x):
            m = m2 + c * x
            return (m1 + x) * (m * mpmath.ncdf(m / s) + s * mpmath.npdf(m / s)) * mpmath.npdf(x)

        kink = -m2 / c
        ends = [-m1, *(kink + k * s for k in (-20, -5, 0, 5, 20)), -m1 + 1, -m1 + 2, -m1 + 4, -m1 + 8, -m1 + 16]
        return float(mpmath.quad(f, sorted(x for x in ends if x >= -m1)) * mpmath.exp(mpmath.mpf(a) ** 2 / 2))


@pytest.mark.parametrize("gap", GAPS)
@pytest.mark.parametrize("whole", [False, True])
def test_covariances_with_others_tell_nearly_equal_variables_apart(gap, whole, monkeypatch):
    """The covariances of u1 and u2 with u3 differ by √gap, and so does the expectation."""
    if whole:  # by the rules for three variables
        monkeypatch.setattr(structured, "integrated", lambda term, law: None)
    cov = nearly_equal(gap)
    want = relu_relu_exp(cov, 2)
    got = expectation(Relu(U[0]) * Relu(U[1]) * Exp(2 * U[2]), U, cov.tolist())
    assert abs(float(got.value) - want) <= float(got.error) + 1e-14
    assert float(got.error) < 1e-11


@pytest.mark.parametrize("gap", GAPS)
def test_jumps_that_nearly_coincide_have_their_distance_as_an_error(gap):
    """Orthants of three variables: 1/8 + Σ arcsin ρ/4π."""
    cov = np.array([[1, 1 - gap, 0.5], [1 - gap, 1, 0.5], [0.5, 0.5, 1]])
    angles = 2 * np.arcsin(0.5) + np.pi / 2 - 2 * np.arcsin(np.sqrt((1 - cov[0, 1]) / 2))
    want = 0.125 + angles / (4 * np.pi)
    got = expectation(Step(U[0]) * Step(U[1]) * Step(U[2]), U, cov.tolist())
    assert abs(float(got.value) - want) <= float(got.error) + 1e-15
    assert float(got.error) < 1e-6
