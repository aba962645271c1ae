"""Sines, cosines and exponentials of pre-activations of variance 1e12, of inputs that are nearly or exactly equal."""

import mpmath as mp
import numpy as np
import pytest

import tensorprog as tp

RNG = np.random.default_rng(4)
BASE, OTHER = RNG.standard_normal((2, 3))
X = np.array([BASE, BASE, *(BASE + d * OTHER for d in (1e-9, 1e-6, 2e-6)), -BASE - 1e-6 * OTHER, 0 * BASE])
STD = 1e6


def wave(phi, q, c, p):
    """E φ(u)φ(v), and E φ'(u)φ'(v)."""
    even, odd = (mp.exp(-(q + p) / 2) * f(c) for f in (mp.cosh, mp.sinh))
    return (odd, even) if phi is tp.sin else (even, odd)


def recursion(phi, x, y, depth):
    """(NNGP, NTK) of layers of standard deviation STD, whose first is an embedding."""
    q, c, p = (STD**2 * mp.fdot(list(map(mp.mpf, a)), list(map(mp.mpf, b))) / len(x)
               for a, b in ((x, x), (x, y), (y, y)))  # fmt: skip
    theta = c
    for layer in range(depth):
        value, slope = wave(phi, q, c, p)
        if layer == depth - 1:
            return value, value + slope * theta
        q, p, theta = (STD**2 * wave(phi, a, a, a)[0] for a in (q, p)), None, STD**2 * (value + slope * theta)
        (q, p), c = q, STD**2 * value


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("phi", [tp.sin, tp.cos], ids=["sin", "cos"])
def test_waves_of_large_variances_follow_the_angle(phi, depth):
    @tp.network
    def net(net, x):
        h = phi(net.embed("U", x, std=STD))
        for k in range(depth - 1):
            h = phi(net.dense(("W", k), h, std=STD))
        return net.readout("V", h)

    with mp.workdps(80):
        want = np.array([[[float(k) for k in recursion(phi, x, y, depth)] for y in X] for x in X])
    for k, kernel in enumerate((tp.nngp, tp.ntk)):
        size = np.sqrt(np.outer(*[np.diag(want[..., k])] * 2))
        for way in (kernel(net()), kernel(net()).gram):
            found = way(X)
            assert (np.abs(found - want[..., k]) <= 1e-11 * size).all(), np.abs(found - want[..., k]) / size
