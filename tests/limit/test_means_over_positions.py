"""Weighted sums over positions of vectors with means: those of x go by its positions, those of x' by its own."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp


@tp.network
def pooled(net, x, *, phi=tp.relu):
    h = net.avg_pool(phi(net.conv("U", x, (3,))), 2)
    z = net.conv("W", tp.nonlin(lambda u: u + 1, h), (3,))
    return net.readout("V", net.global_pool(phi(z)))


@tp.network
def unrolled(net, x, *, phi=tp.relu):
    def conv(layer, size):
        return [sum((layer(k, p + k) for k in (-1, 0, 1) if 0 < p + k + 1 <= size), start=0) for p in range(size)]

    xs, std = list(x), 1 / sp.sqrt(3)
    h = [phi(v) for v in conv(lambda k, p: net.embed(("U", k + 1), xs[p], std=std), len(xs))]
    h = [(a + b) * sp.Rational(1, 2) + 1 for a, b in zip(h[::2], h[1::2], strict=True)]
    z = [phi(v) for v in conv(lambda k, p: net.dense(("W", k + 1), h[p], std=std), len(h))]
    return net.readout("V", sum(z[1:], z[0]) * sp.Rational(1, len(z)))


@pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])
def test_averages_of_what_has_a_mean_are_those_of_the_unrolled_network(kernel):
    X = np.random.default_rng(0).normal(size=(2, 4, 3))
    assert np.allclose(kernel(pooled())(X), kernel(unrolled())(X), rtol=1e-13, atol=0)


def test_their_formulas_stand_at_the_positions_of_their_own_input():
    text = tp.nngp(pooled()).text()
    assert "1/2 Σ_(k∈w2) E[relu](1/3 Σ_(j∈w1) ⟨x'[2q+k+j],x'[2q+k+j]⟩)" in text
    assert "1/2 Σ_(k∈w2) E[relu](1/3 Σ_(j∈w1) ⟨x[2p+k+j],x[2p+k+j]⟩)" in text
