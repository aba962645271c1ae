"""Nodes of quadrature: against 40 digits of mpmath."""

import mpmath as mp
import numpy as np
import pytest

from tensorprog.expectations.quadrature.nodes import legendre

LONG_DOUBLE = np.finfo(np.longdouble).eps < 1e-18


def polynomials(order, x):
    """P_n(x) and P_(n-1)(x)."""
    before, value = mp.mpf(1), x
    for k in range(2, order + 1):
        before, value = value, ((2 * k - 1) * x * value - (k - 1) * before) / k
    return value, before


@pytest.mark.parametrize("order", [1, 2, 6, 16, 45, 133, 362])
def test_nodes_and_weights_to_the_last_digits(order):
    """At a root x, with the Newton step there, w = (1 - x²)/(n P_(n-1))² on [0, 1]."""
    x, w = legendre(order)
    with mp.workdps(40):
        for i in sorted({*range(0, order, max(1, order // 7)), order - 1}):
            t = 2 * mp.mpf(float(x[i])) - 1
            for _ in range(4):
                value, before = polynomials(order, t)
                t -= value * (t * t - 1) / (order * (t * value - before))
            _, before = polynomials(order, t)
            want = (1 - t * t) / (order * before) ** 2
            assert abs((1 + t) / 2 - mp.mpf(float(x[i]))) <= 1.2e-16
            assert abs(w[i] / want - 1) <= (1e-15 if LONG_DOUBLE else 1e-12)


@pytest.mark.parametrize("order", [6, 45, 362])
def test_polynomials_are_integrated_exactly(order):
    x, w = legendre(order)
    for degree in (0, 1, order, 2 * order - 1):
        assert np.sum(w * x**degree) == pytest.approx(1 / (degree + 1), rel=degree * 3e-16 + 3e-16)


def test_what_is_shared_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        legendre(6)[0][0] = 1.0
