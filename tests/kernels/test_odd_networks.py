"""Small networks with known numbers or words: parallel inputs behind elu, a wave in a bell, attention, two readings."""

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp


@pytest.mark.parametrize("other", [[2.0, 1.0], [1.0, 0.5], [1.0, 0.5 + 1e-12]], ids=["parallel", "equal", "near"])
def test_elu_after_relu_has_a_gram_matrix_at_parallel_inputs(other):
    @tp.network
    def net(n, x):
        return n.readout("V", tp.elu(n.dense("W", tp.relu(n.embed("U", x)))))

    K, x = tp.nngp(net()), [[1.0, 0.5], other]
    np.testing.assert_allclose(K.gram(x), K(x), rtol=1e-11)
    if other == [2.0, 1.0]:
        assert abs(K.gram(x)[0, 1] - 0.420351230856) < 1e-11


def test_a_wave_in_a_bell_has_its_expectation():
    p = tp.Program()
    vectors = p.gaussian("a b", [[1.3, -0.3], [-0.3, 2.1]])
    f, g = (tp.nonlin(lambda t: sp.exp(-(t**2)) * sp.sin(t), v) for v in vectors)
    lim = tp.limit(p)
    assert abs(lim.evaluate(lim.E(lambda s, t: s * t, f, g)) / -0.0026074979014706953 - 1) < 1e-10


def test_the_square_of_a_moment_is_printed():
    @tp.network
    def net(n, x):
        h = n.embed("U", x)
        s = tp.moment(lambda a: a * a, h)
        return n.readout("V", tp.nonlin(lambda a, t: t**2 * a, h, params=[s]))

    for K in (tp.nngp(net()), tp.ntk(net())):
        assert K.text() and K.latex()
    np.testing.assert_allclose(tp.nngp(net())([[2.0]]), [[4.0**5]])


def test_a_network_that_reads_two_times_is_printed_drawn_and_unrolled_at_that_length():
    @tp.network
    def net(n, x):
        u, y = x
        return n.readout("V", tp.relu(n.dense("W", tp.relu(n.embed("U", u))) + n.embed("Y", y)))

    K = tp.ntk(net())
    assert K.text() == tp.ntk(net(), lengths=(2, 2)).text()
    assert tp.draw(net()) is not None and tp.unroll(net(), steps=1).certify().passed
