"""Maxout of three: E max² is known, and its kernel is not blamed on the data."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp


@tp.network
def maxout(net, x, depth=1):
    z = tp.nonlin(sp.Max, *(net.embed(k, x) for k in "ABC"))
    for layer in range(2, depth + 1):
        z = tp.nonlin(sp.Max, *(net.dense((k, layer), z) for k in "ABC"))
    return net.readout("V", z)


@pytest.mark.slow
@pytest.mark.parametrize("depth", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_the_second_moment_of_a_maximum_of_three_is_known(depth):
    x = [[2**0.5, 0.0]]
    right = (1 + 3**0.5 / (2 * np.pi)) ** depth
    K = tp.nngp(maxout(depth=depth))
    np.testing.assert_allclose([K(x)[0, 0], K.gram(x)[0, 0]], right, rtol=1e-9)
