"""Kernels of inputs that are repeated, proportional, zero, opposite, or nearly so, against 60-digit recursions.

The recursions take the floats as the exact rational numbers they are, so that nothing is lost on their side.
"""

import functools

import mpmath as mp
import numpy as np
import pytest

import tensorprog as tp

RNG = np.random.default_rng(11)
X, Z, OTHER = RNG.standard_normal((3, 7))
DISTANCES = [1e-3, 1e-6, 1e-9, 1e-12]
NEAR = np.array([X, *(X + d * Z for d in DISTANCES), *(X * (1 + d) for d in DISTANCES), 2 * X, 3 * X, 0 * X, OTHER])
OPPOSITE = np.array([-X, *(d * Z - X for d in DISTANCES), -3 * X])
SIGMA_W, SIGMA_V = 1.3, 0.8


# ---- the reference -------------------------------------------------------------------------------


def angle(q, c, r):
    """√(q r), cos θ, θ."""
    root = mp.sqrt(q * r)
    cosine = max(mp.mpf(-1), min(mp.mpf(1), c / root)) if root else mp.mpf(0)
    return root, cosine, mp.acos(cosine)


def relu(q, c, r):
    """(E φ(u)φ(v), E φ'(u)φ'(v)), with φ'(0) = 0."""
    root, cosine, theta = angle(q, c, r)
    step = (mp.pi - theta) / (2 * mp.pi) if root else mp.mpf(0)
    return root * (mp.sin(theta) + (mp.pi - theta) * cosine) / (2 * mp.pi), step


def absolute(q, c, r):
    root, cosine, theta = angle(q, c, r)
    sign = 1 - 2 * theta / mp.pi if root else mp.mpf(0)
    return root * (2 * mp.sin(theta) / mp.pi + sign * cosine), sign


def erf(q, c, r):
    outer = (1 + 2 * q) * (1 + 2 * r)
    return 2 * mp.asin(2 * c / mp.sqrt(outer)) / mp.pi, 4 / (mp.pi * mp.sqrt(outer - 4 * c**2))


def sign(q, c, r):
    root, _, theta = angle(q, c, r)
    return 1 - 2 * theta / mp.pi, 2 / (mp.pi * root * mp.sin(theta)) if theta else mp.inf


def leaky(q, c, r, slope=mp.mpf(1) / 4):
    """a u + (1 - a) relu(u) = (1 + a) u/2 + (1 - a)|u|/2; products of odd and even parts vanish."""
    value, sign = absolute(q, c, r)
    odd, even = ((1 + slope) / 2) ** 2, ((1 - slope) / 2) ** 2
    return odd * c + even * value, (odd + even * sign if q * r else slope**2)


PAIRS = {"relu": (tp.relu, relu), "abs": (tp.abs, absolute), "sign": (tp.sign, sign), "erf": (tp.erf, erf),
         "leaky": (tp.leaky_relu(0.25), leaky)}  # fmt: skip


def dot(x, y):
    return mp.fdot(map(mp.mpf, x), map(mp.mpf, y)) / len(x)


def mlp(pairs, x, y, sigma_b):
    """NNGP and NTK of one hidden layer per pair function, Σ and Θ starting from the data."""
    w, b, v = mp.mpf(SIGMA_W) ** 2, mp.mpf(sigma_b) ** 2, mp.mpf(SIGMA_V) ** 2
    q, c, r = (w * s + b for s in (dot(x, x), dot(x, y), dot(y, y)))
    theta = c
    for pair in pairs[:-1]:
        value, slope = pair(q, c, r)
        q, c, r = w * pair(q, q, q)[0] + b, w * value + b, w * pair(r, r, r)[0] + b
        theta = c + w * slope * theta
    value, slope = pairs[-1](q, c, r)
    return v * value, v * (value + slope * theta)


def mixed(net, x, *, phis, sigma_b):
    h = net.embed("U", x, std=SIGMA_W) + net.bias(("b", 1), std=sigma_b)
    for l, phi in enumerate(phis[:-1], 2):
        h = net.dense(("W", l), phi(h), std=SIGMA_W) + net.bias(("b", l), std=sigma_b)
    return net.readout("V", phis[-1](h), std=SIGMA_V)


def check(names, sigma_b, first, second):
    """Both kernels by both methods; what is exactly 0 in the limit may be anything below 1e-40 in the reference."""
    net = tp.network(mixed)(phis=[PAIRS[n][0] for n in names], sigma_b=sigma_b)
    pairs = [PAIRS[n][1] for n in names]
    with mp.workdps(60):
        expected = np.array([[list(map(float, mlp(pairs, x, y, sigma_b))) for y in second] for x in first])
    for k, kernel in ((0, tp.nngp(net)), (1, tp.ntk(net)), (1, tp.ntk(net, "paths"))):
        np.testing.assert_allclose(kernel(first, second), expected[:, :, k], rtol=1e-12, atol=1e-40)


# ---- multilayer perceptrons ----------------------------------------------------------------------


@pytest.mark.parametrize("sigma_b", [0, 0.5])
@pytest.mark.parametrize("depth", [1, 3, 10])
@pytest.mark.parametrize("name", ["relu", "abs", "leaky"])
def test_nearly_repeated_inputs(name, depth, sigma_b):
    check([name] * depth, sigma_b, NEAR[[0, 3, 5]], NEAR)


@pytest.mark.parametrize("sigma_b", [0, 0.5])
@pytest.mark.parametrize("depth", [1, 3, 10])
@pytest.mark.parametrize("name", ["relu", "abs", "leaky"])
def test_nearly_opposite_inputs(name, depth, sigma_b):
    check([name] * depth, sigma_b, NEAR[[0, 3]], OPPOSITE[1:-1])


@pytest.mark.parametrize("names", [["erf", "relu"], ["relu", "erf", "relu"], ["leaky", "erf", "abs", "relu"]])
@pytest.mark.parametrize("sigma_b", [0, 0.5])
def test_layers_of_different_functions(names, sigma_b):
    check(names, sigma_b, NEAR[[0, 3]], np.vstack([NEAR, OPPOSITE[1:-1]]))


@pytest.mark.parametrize("name", ["relu", "abs", "erf", "leaky"])
def test_zero_inputs_that_meet_a_bias_later(name):
    """Without a bias in the first layer a zero input has variance 0 there, and only its later layers have an angle."""
    phi, pair = PAIRS[name]
    first, second = np.vstack([0 * X, X]), np.vstack([0 * X, 1e-9 * X, X])

    @tp.network
    def net(net, x):
        h = net.dense("W2", phi(net.embed("U", x))) + net.bias("b2", std=0.5)
        return net.readout("V", tp.relu(h))

    with mp.workdps(60):
        for row, x in zip(tp.nngp(net())(first, second), first, strict=True):
            for value, y in zip(row, second, strict=True):
                laws = [dot(x, x), dot(x, y), dot(y, y)]
                q, c, r = (pair(*law)[0] + 0.25 for law in ([laws[0]] * 3, laws, [laws[2]] * 3))
                assert value == pytest.approx(float(relu(q, c, r)[0]), rel=1e-13)


def test_inputs_that_hardly_differ_beside_their_biases():
    """Small inputs are nearly parallel pre-activations, whatever their angle."""
    check(["relu"] * 3, 1.0, 1e-7 * NEAR[[0, 3]], 1e-7 * np.vstack([NEAR, OPPOSITE]))


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
def test_what_is_repeated_equals_the_diagonal(kind):
    kernel = kind(tp.programs.mlp(depth=3, sigma_b=0.5))
    rows = np.vstack([X, OTHER, X, OTHER, X])
    K, diagonal = kernel(rows), kernel(rows[:2]).diagonal()
    np.testing.assert_allclose(K[::2, ::2], diagonal[0], rtol=4e-16)
    np.testing.assert_allclose(K[1::2, 1::2], diagonal[1], rtol=4e-16)
    np.testing.assert_allclose(kernel(rows, rows), K, rtol=4e-16)


@pytest.mark.parametrize("sigma_b", [0, 0.5])
@pytest.mark.parametrize("names", [["sign"], ["relu", "sign"], ["sign", "relu", "sign"], ["relu"] * 9 + ["sign"]])
def test_angles_keep_their_digits(names, sigma_b):
    """The NTK of a sign network is of size 1/θ: its relative error is that of the angle itself."""
    check(names, sigma_b, NEAR[[0]], NEAR[1:5])
    if sigma_b:
        check(names, sigma_b, NEAR[[0]], NEAR[5:11])


@pytest.mark.parametrize("alpha", [1, 0.5])
def test_residual_networks(alpha):
    second = np.vstack([NEAR, OPPOSITE])
    w, a = mp.mpf(SIGMA_W) ** 2, mp.mpf(alpha) ** 2
    with mp.workdps(60):
        expected = []
        for x in second:
            q, c, r = (w * s for s in (dot(X, X), dot(X, x), dot(x, x)))
            for _ in range(3):
                q, c, r = q + a * w * relu(q, q, q)[0], c + a * w * relu(q, c, r)[0], r + a * w * relu(r, r, r)[0]
            expected.append(float(relu(q, c, r)[0]))
    kernel = tp.nngp(tp.programs.residual_mlp(depth=4, alpha=alpha, sigma_w=SIGMA_W))
    np.testing.assert_allclose(kernel(X[None], second)[0], expected, rtol=1e-12)


def test_asking_for_numbers_leaves_the_equations_alone():
    kernel = tp.ntk(tp.programs.rnn(sigma_b=1, sigma_h=1), lengths=(3, 2))
    before = kernel.text(), len(kernel._derive().limit.equations)
    kernel([RNG.standard_normal((3, 4))] * 2, [RNG.standard_normal((2, 4))])
    kernel([np.ones((3, 4))], [np.ones((2, 4))])
    assert (kernel.text(), len(kernel._derive().limit.equations)) == before


# ---- sequences -----------------------------------------------------------------------------------


class Recurrent:
    """The one-layer RNN of two different inputs, in 60 digits (Alemohammad et al. 2021, Eq. 9-19)."""

    w, u, b, h, v = map(mp.mpf, (1.2, 0.8, 0.3, 0.7, 1.1))

    def __init__(self, x, y):
        self.x, self.y = x, y
        self.sigma = functools.cache(self._sigma)

    def network(self):
        numbers = {f"sigma_{k}": float(getattr(self, k)) for k in "wubhv"}
        return tp.programs.rnn(phi=tp.relu, **numbers)

    def covariance(self, a, b, s, t):
        own = self.sigma(a, a, s, s), self.sigma(b, b, t, t)
        return own[0], self.sigma(a, b, s, t), own[1]

    def _sigma(self, a, b, s, t):
        """Σ^{(s,t)}(a,b) with a, b among 0 and 1."""
        xs = (self.x, self.y)
        value = self.u**2 * dot(xs[a][s - 1], xs[b][t - 1]) + self.b**2
        if s > 1 and t > 1:
            value += self.w**2 * relu(*self.covariance(a, b, s - 1, t - 1))[0]
        elif s == t == 1 and a == b:
            value += self.w**2 * self.h**2
        return value

    def kernels(self):
        s, t = len(self.x), len(self.y)
        value, slope = relu(*self.covariance(0, 1, s, t))
        nngp = theta = self.v**2 * value
        pi = self.v**2 * slope
        while s and t:
            theta += pi * self.sigma(0, 1, s, t)
            s, t = s - 1, t - 1
            if s and t:
                pi *= self.w**2 * relu(*self.covariance(0, 1, s, t))[1]
        return nngp, theta


@pytest.mark.parametrize("lengths", [(4, 4), (4, 2)])
def test_nearly_repeated_sequences(lengths):
    base, noise = RNG.standard_normal((2, 4, 5))
    first = [base[: lengths[0]]]
    second = [(base + d * noise)[-lengths[1] :] for d in (0, *DISTANCES)] + [2 * base[-lengths[1] :]]
    second += [np.repeat(base[:1], lengths[1], axis=0), 0 * base[: lengths[1]]]
    with mp.workdps(60):
        cases = [Recurrent(first[0], y) for y in second]
        expected = np.array([list(map(float, case.kernels())) for case in cases])
    net = cases[0].network()
    for k, kernel in ((0, tp.nngp(net)), (1, tp.ntk(net)), (1, tp.ntk(net, "paths"))):
        np.testing.assert_allclose(kernel(first, second)[0], expected[:, k], rtol=1e-12)
