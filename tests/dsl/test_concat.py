"""Concatenation of channels: kernels by hand, as a sum of layers, and at finite width as one wide layer."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import ProgramError

X = np.random.default_rng(0).normal(size=(3, 4, 2))
V = X[:, 0]


def test_a_layer_of_all_averages_the_covariances_of_the_parts():
    @tp.network
    def net(net, x):
        a, b = net.embed("A", x), net.embed("B", x, std=2)
        return net.readout("V", tp.erf(net.dense("W", net.concat(tp.relu(a), b), std=1.5)))

    @tp.network
    def written(net, x):
        a, b = net.embed("A", x), net.embed("B", x, std=2)
        half = 1 / sp.sqrt(2)
        h = net.dense("W1", tp.relu(a), std=1.5 * half) + net.dense("W2", b, std=1.5 * half)
        return net.readout("V", tp.erf(h))

    for kind in (tp.nngp, tp.ntk):
        np.testing.assert_allclose(kind(net())(V), kind(written())(V), rtol=1e-14)


def test_functions_and_poolings_act_on_each_part_and_convolutions_read_all():
    @tp.network
    def dense_block(net, x):
        h = net.conv("U", x)
        z = tp.relu(net.concat(h, net.conv("W", tp.relu(h))))
        return net.flatten("V", net.avg_pool(tp.relu(net.concat(h, net.conv("Y", z))), kernel=2))

    @tp.network
    def written(net, x):
        h = net.conv("U", x)
        g, half = net.conv("W", tp.relu(h)), 1 / sp.sqrt(2)
        y = net.conv("Y1", tp.relu(h), std=half) + net.conv("Y2", tp.relu(g), std=half)
        parts = [net.avg_pool(tp.relu(v), kernel=2) for v in (h, y)]
        return net.flatten("V1", parts[0], std=half) + net.flatten("V2", parts[1], std=half)

    for kind in (tp.nngp, tp.ntk):
        np.testing.assert_allclose(kind(dense_block())(X), kind(written())(X), rtol=1e-13)


def test_more_than_two_parts_and_nested_ones_weigh_alike():
    @tp.network
    def net(net, x):
        h = net.embed("U", x)
        return net.readout("V", net.concat(net.concat(h, 2 * h), 3 * h))

    np.testing.assert_allclose(tp.nngp(net())([[1.0]]), [[14 / 3]], rtol=1e-14)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda net, h: net.concat(h), "two vectors or more, got 1"),
        (lambda net, h: net.concat(h, 2), "takes vectors of the network, got int 2"),
        (lambda net, h: net.concat(h, h) + h, "arithmetic with"),
        (lambda net, h: net.concat(h, net.bias("b")), "over the same positions"),
    ],
)
def test_what_it_refuses(build, words):
    @tp.network
    def wrong(net, x):
        return net.flatten("V", build(net, net.conv("U", x)))

    with pytest.raises(ProgramError, match=words):
        tp.nngp(wrong())
