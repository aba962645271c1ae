"""Truncated powers whose kinks lie far out: against 40 digits of mpmath, relative to √(E f² E g²)."""

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

from tensorprog.expectations.closed.tails import bell, double, single
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Exp, Relu, Step

U, V = sp.symbols("u v", real=True)
ONE = np.ones(1)


def moment(n, e, q):
    """E s_n(u - κ), e = E u - κ, by the forward recursion with digits to spare."""
    x = e / mp.sqrt(q)
    before, value = mp.npdf(x), mp.erfc(-x / mp.sqrt(2)) / 2
    for k in range(1, n + 1):
        before, value = value, (x * value + before) / k
    return mp.sqrt(q) ** n * value


def pair(m, n, e1, e2, q1, q2, c):
    """E s_m(u - κ) s_n(v - λ): an integral over the variable with the farther kink of the exact conditional moment."""
    if -e1 / mp.sqrt(q1) < -e2 / mp.sqrt(q2):
        return pair(n, m, e2, e1, q2, q1, c)
    slope, rest, root = c / q1, q2 - c * c / q1, mp.sqrt(q1)
    width = root / (1 + abs(e1) / root)
    transition = [e1 - e2 / slope + d * mp.sqrt(max(rest, 0)) / abs(slope) for d in (-12, -6, -3, 0, 3, 6, 12)]
    ends = [width * mp.mpf(2) ** j for j in range(-2, 8)] + [t for t in transition if t > 0]
    ends = sorted(t for t in ends if t < max(e1, 0) + 14 * root)

    def integrand(t):
        mean = e2 + slope * (t - e1)
        sharp = mean**n / mp.factorial(n) if mean > 0 else mp.mpf(0)
        given = moment(n, mean, rest) if rest > 1e-45 * q2 else sharp
        return t**m / mp.factorial(m) * mp.npdf((t - e1) / root) / root * given

    size = max(abs(integrand(t)) for t in ends) * width
    return size * mp.quad(lambda t: integrand(t) / size, [0, *ends, max(e1, 0) + 14 * root]) if size else mp.mpf(0)


def square(n, e, q):
    """E s_n(u - κ)²."""
    return mp.binomial(2 * n, n) * moment(2 * n, e, q)


FUNCTIONS = {0: Step, 1: Relu}
CASES = [  # orders, slopes and offsets of the arguments, kinks in standard deviations, 1 - |ρ|, sign of ρ, means
    ((1, 1), (1, -1), (1, -1), (h, h), gap, sign, (0.0, 0.0))
    for h, gap, sign in [
        (0.1, 1e-15, 1), (0.5, 0.3, -1), (1.5, 1e-8, 1), (3.16, 1e-15, 1), (3.16, 0.1, 1), (3.16, 0.9, -1),
        (8.0, 1e-3, 1), (8.0, 0.999, 1), (30.0, 1e-15, 1), (30.0, 0.0, 1), (30.0, 1e-5, 1),
    ]
]  # fmt: skip
CASES += [
    ((1, 1), (1, -1), (1, 2), (3.16, -6.32), 1e-6, 1, (0.0, 0.0)),  # relu(x - 1) relu(x + 2)
    ((1, 1), (1, -1), (1, 2), (10.0, -20.0), 0.4, -1, (0.0, 0.0)),
    ((1, 1), (-1, -1), (1, -1), (4.0, 4.0), 1e-10, -1, (0.0, 0.0)),  # relu(-x - 1) relu(x - 1)
    ((1, 1), (1, -1), (1, -3), (5.0, 5.0), 1e-12, 1, (0.3, -0.7)),
    ((1, 1), (1, -1), (1, -3), (5.0, 4.999999), 1e-12, 1, (-0.3, 0.7)),
    ((1, 1), (1, -1), (1, -1), (12.0, 0.7), 0.05, 1, (0.0, -2.0)),
    ((0, 1), (1, -1), (1, -1), (6.0, 6.5), 1e-2, 1, (0.0, 0.0)),
    ((1, 0), (1, -1), (1, -1), (6.0, 6.5), 1e-7, 1, (0.0, 0.2)),
    ((0, 0), (1, -1), (1, -1), (20.0, 20.0), 1e-13, 1, (0.0, 0.1)),
]


@pytest.mark.parametrize("orders, signs, shifts, kinks, gap, sign, means", CASES)
def test_far_kinks_keep_14_digits(orders, signs, shifts, kinks, gap, sign, means):
    """f(u) = s_m(±(u - 1)) or with another kink, of a law whose kinks lie the given number of deviations out."""
    first = signs[0]
    at = (first * shifts[0], -shifts[1])  # kinks of f and g
    q1, q2 = (((k - m) / h) ** 2 for k, m, h in zip(at, means, kinks, strict=True))
    c = sign * (1 - gap) * np.sqrt(q1 * q2)
    c = float(np.clip(c, -np.sqrt(q1) * np.sqrt(q2), np.sqrt(q1) * np.sqrt(q2)))
    body = FUNCTIONS[orders[0]](first * U - shifts[0]) * FUNCTIONS[orders[1]](V + shifts[1])
    got = expectation(body, (U, V), [[q1, c], [None, q2]], means)
    with mp.workdps(40):
        Q1, Q2, C = mp.mpf(float(q1)), mp.mpf(float(q2)), mp.mpf(c)
        C = min(max(C, -mp.sqrt(Q1 * Q2)), mp.sqrt(Q1 * Q2))
        e1, e2 = first * (mp.mpf(means[0]) - at[0]), mp.mpf(means[1]) - at[1]
        want = pair(*orders, e1, e2, Q1, Q2, first * C)
        scale = mp.sqrt(square(orders[0], e1, Q1) * square(orders[1], e2, Q2))
        error = abs(mp.mpf(float(got.value)) - want)
        assert error <= 1e-14 * scale
        assert error <= float(got.error) + 1e-300
        assert got.method == "closed form"


@pytest.mark.parametrize("order", range(5))
def test_one_variable_to_15_digits(order):
    e = np.array([-30.0, -9.0, -2.0, -1.01, -0.99, -0.1, 0.0, 2.5])
    with mp.workdps(60):
        for x in e:
            q = 1.0 + x * x / 100
            want = moment(order, mp.mpf(float(x)), mp.mpf(float(q)))
            assert abs(mp.mpf(float(single(order, np.array(x), np.array(q)))) / want - 1) <= 4e-15


def test_the_exponential_of_a_rounded_square():
    with mp.workdps(40):
        for e, q in [(37.123456789, 0.987654321), (-3.3, 0.01), (1e-3, 7.7), (0.0, 1.0)]:
            want = mp.exp(-(mp.mpf(e) ** 2) / (2 * mp.mpf(q)))
            assert abs(mp.mpf(float(bell(np.array(e), np.array(q)))) / want - 1) <= 3e-16


@pytest.mark.parametrize(
    "orders, kinks, rho",
    [
        ((2, 1), (2.0, 2.0000001), 1 - 1e-9),
        ((1, 2), (4.0, 1.0), 0.9),
        ((3, 3), (0.3, 0.6), -0.3),
        ((0, 2), (9, -3), 0.4),
    ],
)
def test_higher_orders_relative_to_their_own_value(orders, kinks, rho):
    got, size = double(
        orders, (-kinks[0] * ONE, -kinks[1] * ONE), (ONE, ONE), (rho * ONE, float(mp.sqrt(1 - mp.mpf(rho) ** 2)) * ONE)
    )
    with mp.workdps(40):
        want = pair(*orders, -mp.mpf(kinks[0]), -mp.mpf(kinks[1]), mp.mpf(1), mp.mpf(1), mp.mpf(rho))
        assert abs(mp.mpf(float(got[0])) - want) <= 4 * 2.3e-16 * float(size[0])
        assert abs(float(got[0]) / want - 1) <= (3e-14 if rho > 0 else 1e-13)


def test_a_tail_beside_an_exponential_does_not_cancel():
    """E exp(2u) 1[u < -1] = exp(2q) P(u + 2q < -1), with factors of 1e39 and 1e-40."""
    q = 45.0
    got = expectation(Exp(2 * U) * Step(-U - 1), (U,), [[q]])
    with mp.workdps(40):
        want = mp.exp(2 * q) * mp.erfc((1 + 2 * mp.mpf(q)) / mp.sqrt(2 * mp.mpf(q))) / 2
        error = abs(mp.mpf(float(got.value)) - want)
    assert error <= 1e-15 * want and error <= float(got.error)
