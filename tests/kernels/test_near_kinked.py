"""Kernels of functions with several kinks at nearly equal inputs, against 40-digit recursions.

E F(z1)F(z2) = E F(z1) m(z1) with m(x) = E F(z2 | z1 = x) in closed form; the outer integral is taken by tanh-sinh
quadrature on pieces that end where m turns, however fast.
"""

import functools
import math

import mpmath as mp
import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.expectations.angles.gaps import Relation
from tensorprog.expectations.angles.kinked import kinked_relation
from tensorprog.functions import HardTanh, Relu

DIGITS = 34
X, Z, OTHER = np.random.default_rng(11).standard_normal((3, 7))
SECOND = np.array([X, *(X + d * Z for d in (1e-6, 1e-9, 1e-12)), X * (1 + 1e-6), X * (1 + 1e-9), 3 * X, OTHER])
SIGMA_W, SIGMA_B = 1.3, 0.5


def tail(k, a, m, t):
    """E (u - a)^k 1[u > a] for u ~ N(m, t²)."""
    if not t:
        return (m - a) ** k if m > a else mp.mpf(0)
    z = (m - a) / t
    cdf, pdf = mp.ncdf(z), mp.npdf(z)
    moments = [cdf, t * (z * cdf + pdf), t**2 * ((z**2 + 1) * cdf + z * pdf)]
    return moments[k]


def below(m, t):
    """E exp(u) 1[u < 0]."""
    return mp.exp(m + t**2 / 2) * mp.ncdf(-(m + t**2) / t) if t else (mp.exp(m) if m < 0 else mp.mpf(0))


def elu(m, t):
    return tail(1, 0, m, t) + below(m, t) - 1 + tail(0, 0, m, t)


SCALE, ALPHA = mp.mpf("1.0507009873554804934193349852946"), mp.mpf("1.6732632423543772848170429916717")
# F and F' of N(m, t²) in the mean, and their kinks
FUNCTIONS = {
    "hard_tanh": (tp.hard_tanh, lambda m, t: tail(1, -1, m, t) - tail(1, 1, m, t) - 1,
                  lambda m, t: tail(0, -1, m, t) - tail(0, 1, m, t), (-1, 1)),
    "relu6": (tp.relu6, lambda m, t: tail(1, 0, m, t) - tail(1, 6, m, t),
              lambda m, t: tail(0, 0, m, t) - tail(0, 6, m, t), (0, 6)),
    "elu": (tp.elu, elu, lambda m, t: tail(0, 0, m, t) + below(m, t), (0,)),
    "selu": (tp.selu, lambda m, t: SCALE * (tail(1, 0, m, t) + ALPHA * (below(m, t) - 1 + tail(0, 0, m, t))),
             lambda m, t: SCALE * (tail(0, 0, m, t) + ALPHA * below(m, t)), (0,)),
    "relu2": (lambda x: tp.relu(x) ** 2, lambda m, t: tail(2, 0, m, t), lambda m, t: 2 * tail(1, 0, m, t), (0,)),
}  # fmt: skip


def expected(mean, kinks, q, c, r):
    """E F(z1)F(z2) of covariance [[q, c], [c, r]]."""
    slope, t = c / q, mp.sqrt(max(r - c**2 / q, mp.mpf(0)) if q * r - c**2 > mp.mpf(10) ** (5 - DIGITS) else mp.mpf(0))
    turns = [(k + d * t) / (slope or 1) for k in kinks for d in (-12, -4, 0, 4, 12)]
    edges = sorted({-14 * mp.sqrt(q), 14 * mp.sqrt(q), *map(mp.mpf, kinks), *turns})
    edges = [x for x in edges if abs(x) <= 14 * mp.sqrt(q)]
    edges = sorted({*edges, *(sign * k * mp.sqrt(q) for k in (0, 3, 8) for sign in (1, -1))})
    return mp.quad(lambda x: mean(x, mp.mpf(0)) * mean(slope * x, t) * mp.npdf(x, 0, mp.sqrt(q)), edges, maxdegree=6)


@functools.cache
def reference(name, depth, row):
    """NNGP and NTK of X and a row of SECOND."""
    _, mean, slope, kinks = FUNCTIONS[name]
    w, b = mp.mpf(SIGMA_W) ** 2, mp.mpf(SIGMA_B) ** 2
    x, y = ([mp.mpf(float(v)) for v in data] for data in (X, SECOND[row]))
    q, c, r = (w * mp.fdot(s, t) / len(x) + b for s, t in ((x, x), (x, y), (y, y)))
    theta = c
    for layer in range(depth):
        scale, shift = (w, b) if layer < depth - 1 else (mp.mpf(1), mp.mpf(0))
        value, change = expected(mean, kinks, q, c, r), expected(slope, kinks, q, c, r)
        q, r = (scale * expected(mean, kinks, s, s, s) + shift for s in (q, r))
        theta, c = scale * (value + change * theta) + shift, scale * value + shift
    return float(c), float(theta)


def check(name, depth, rows):
    net = tp.programs.mlp(depth=depth, phi=FUNCTIONS[name][0], sigma_w=SIGMA_W, sigma_b=SIGMA_B, sigma_v=1)
    with mp.workdps(DIGITS):
        values = np.array([reference(name, depth, row) for row in rows])
    for k, kernel in enumerate((tp.nngp(net), tp.ntk(net))):
        np.testing.assert_allclose(kernel(X[None], SECOND[rows])[0], values[:, k], rtol=1e-11)
        np.testing.assert_allclose(kernel(SECOND[rows], X[None])[:, 0], values[:, k], rtol=1e-11)


@pytest.mark.parametrize("name", ["hard_tanh", "elu", "relu2"])
def test_nearly_equal_inputs(name):
    check(name, 2, [1, 3])


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, 2, 3])
@pytest.mark.parametrize("name", FUNCTIONS)
def test_nearly_equal_inputs_of_every_function(name, depth):
    check(name, depth, range(len(SECOND)))


def test_an_input_of_variance_0_makes_a_constant_and_leaves_others_their_digits():
    u, (q1, q2) = sp.Symbol("u"), np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    near = Relation(*np.array([[1e-20, 1.0, 1.0], [2.0, 1.0, 1.0], [0.0, -1.0, np.nan]]))
    shifted, through_0 = (kinked_relation(body, u, q1, q2, near) for body in (Relu(u) + 1, HardTanh(u)))
    half = 1 / math.sqrt(2 * math.pi)
    angle = 1 - (1 + half) / math.sqrt(1.5 + 2 * half)  # of F(0) = 1 and 1 + relu(u)
    np.testing.assert_allclose(shifted.minus, [0.5 / (1.5 + 2 * half) * 1e-20, angle, 0.0], rtol=1e-9, atol=1e-30)
    np.testing.assert_array_equal(through_0.minus[1:], [1.0, 1.0])  # no angle: ρ' = 0
    assert 0 < through_0.minus[0] < 2e-20


def test_sign_of_a_constant_layer_at_input_0():
    @tp.network
    def net(n, x):
        return n.readout("V", tp.sign(n.dense("M", tp.relu(n.embed("U", x)) + 1)))

    correlation = (1 + 1 / math.sqrt(2 * math.pi)) / math.sqrt(1.5 + 2 / math.sqrt(2 * math.pi))
    off = 2 / math.pi * math.asin(correlation)
    np.testing.assert_allclose(tp.nngp(net())([[0.0], [1.0]]), [[1.0, off], [off, 1.0]], rtol=1e-12)
