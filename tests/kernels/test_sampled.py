"""Kernels by sampling: right within their standard errors, symmetric, positive semidefinite, of any order of inputs."""

import warnings

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.sampled.grams import Grams
from tensorprog.derivation.sampled.matrices import Field, Span
from tests.gates import gru, lstm, shared

RNG = np.random.default_rng(5)
X, S = RNG.standard_normal((5, 3)), RNG.standard_normal((4, 3, 2))
REPEATED = X[[0, 1, 0, 2, 1]]


@tp.network
def gated(net, x):
    h = net.embed("U", x) + net.bias("b", std=0.3)
    return net.readout("V", tp.tanh(net.dense("W", tp.relu(h))) * tp.sigmoid(h), bias=0.2)


EXACT = {
    "mlp": (tp.programs.mlp(depth=3), X),
    "tanh": (tp.programs.mlp(depth=2, phi=tp.tanh, sigma_b=0.3), X),
    "residual": (tp.programs.residual_mlp(depth=2), X),
    "tied": (tp.programs.tied_mlp(depth=3), X),
    "transposed": (tp.programs.tied_autoencoder(), X),
    "rnn": (tp.programs.rnn(), S),
    "gated": (gated(), X),
    "repeated": (tp.programs.mlp(depth=2), REPEATED),
}


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("name", EXACT)
def test_sampling_agrees_with_the_exact_kernel_within_its_errors(name, kind):
    net, data = EXACT[name]
    found = kind(net, method="sampling", samples=2**15).account(data)
    exact = kind(net)(data)
    z = (found.value - exact) / found.error
    assert found.statistical and found.samples == 2**15
    assert (np.abs(z) < 5.5).all()  # 15 degrees of freedom: 1e-4 of t beyond
    assert found.relative.max() < 0.03


def test_gradients_of_a_mean_need_no_gradient_independence():
    net = tp.programs.mean_readout(depth=2)
    found = tp.ntk(net, method="sampling", samples=2**15).account(X)
    exact = tp.ntk(net)(X)
    assert (np.abs(found.value - exact) < 5.5 * found.error).all()
    assert np.abs(tp.ntk(net).under_gia(X) - exact).max() > 20 * found.error.max()


def test_the_errors_cover_what_they_claim():
    net = tp.programs.rnn(phi=tp.erf)
    exact = tp.ntk(net)(S)
    z = []
    for seed in range(20):
        found = tp.ntk(net, method="sampling", samples=2**13, seed=seed).account(S)
        z.append(((found.value - exact) / found.error)[np.triu_indices(4)])
    z = np.abs(z)  # of Student's t with 15 degrees of freedom: 33 %, 6.4 % and 0.12 % are beyond 1, 2 and 4
    assert 0.2 < (z > 1).mean() < 0.45
    assert (z > 2).mean() < 0.14
    assert (z > 4).mean() < 0.02


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize(("net", "data"), [(lstm(), S), (gru(), S), (shared(), X)], ids=["lstm", "gru", "shared"])
def test_matrices_are_symmetric_positive_semidefinite_and_do_not_depend_on_order_or_blocks(net, data, kind):
    K = kind(net, samples=2**14)
    order = np.array([2, 0, 3, 1])
    data = data[:4]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        value = K(data)
        assert [w.category for w in caught] == [tp.AccuracyWarning]
        turned, whole, blocks = K(data[order]), K.gram(data), K.gram(data, block=2)
        cross = K(data, data)
    np.testing.assert_array_equal(value, value.T)
    assert np.linalg.eigvalsh(value)[0] > -1e-14 * np.trace(value)
    np.testing.assert_array_equal(turned, value[np.ix_(order, order)])
    np.testing.assert_array_equal(whole, value)
    np.testing.assert_array_equal(blocks, value)
    np.testing.assert_array_equal(cross, value)


def test_equal_inputs_have_equal_rows_and_states_are_of_each_input():
    net = tp.programs.rnn(sigma_h=1)
    data = S[[0, 1, 0]]
    found = tp.nngp(net, method="sampling", samples=2**14).account(data)
    exact = tp.nngp(net)(data)
    assert (np.abs(found.value - exact) < 5.5 * found.error).all()
    assert found.value[0, 2] < found.value[0, 0] == found.value[2, 2]
    assert found.value[0, 1] == found.value[2, 1]


def test_sequences_of_several_lengths():
    data = [S[0], S[1][:2], S[2][:1], S[3]]
    net = tp.programs.rnn()
    for kind in (tp.nngp, tp.ntk):
        found = kind(net, method="sampling", samples=2**14).account(data)
        assert (np.abs(found.value - kind(net)(data)) <= 5.5 * found.error).all()


def test_a_tolerance_is_reached():
    found = tp.nngp(tp.programs.mlp(depth=2, phi=tp.tanh), method="sampling", rtol=5e-4).account(X)
    assert found.relative.max() <= 5e-4
    assert found.samples > 2**13


def test_the_scale_of_inputs_beyond_single_precision():
    net = tp.programs.mlp(depth=2)
    found = tp.nngp(net, method="sampling", samples=2**13).account(1e25 * X)
    assert (np.abs(found.value - tp.nngp(net)(1e25 * X)) < 5.5 * found.error).all()


@pytest.mark.parametrize(("options", "named"), [
    ({"samples": 0}, "samples must be an integer"), ({"rtol": 2.0}, "rtol must be a number between 0 and 1"),
    ({"rtol": "1"}, "rtol"), ({"seed": -1}, "seed must be"),
])  # fmt: skip
def test_options_that_make_no_sense_are_named(options, named):
    with pytest.raises(tp.DataError, match=named):
        tp.ntk(tp.programs.mlp(), method="sampling", **options)


@pytest.mark.slow
@pytest.mark.parametrize("net", [lstm(), gru()], ids=["lstm", "gru"])
def test_gated_kernels_of_ten_steps_agree_with_longer_runs(net):
    data = np.random.default_rng(0).standard_normal((20, 10, 5))
    for kind in (tp.nngp, tp.ntk):
        short, long = kind(net).account(data), kind(net, samples=2**21, seed=1).account(data)
        z = (short.value - long.value) / np.hypot(short.error, long.error)
        assert (np.abs(z) > 2).mean() < 0.12
        assert np.abs(z).max() < 6.5
        assert np.sqrt((short.relative**2).mean()) < 2e-3


@pytest.mark.slow
@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("net", [lstm(), gru()], ids=["lstm", "gru"])
def test_the_standard_errors_of_gated_networks_are_those_of_many_seeds(net, kind):
    """Squared distances from a long run, over squared claims: 1 on average.

    The entries of one matrix move together, so that one seed says little (its ratio is above 1.8² now and then), and
    the mean of 24 seeds is 1 ± 0.3.
    """
    data, upper = np.random.default_rng(5).standard_normal((5, 6, 3)), np.triu_indices(5)
    long = kind(net, method="sampling", samples=2**19, seed=1000).account(data)
    ratios = []
    for seed in range(24):
        short = kind(net, method="sampling", samples=2**14, seed=seed).account(data)
        claimed = short.error[upper] ** 2 + long.error[upper] ** 2
        ratios.append(((short.value - long.value)[upper] ** 2).mean() / claimed.mean())
    assert 0.5 < np.mean(ratios) < 2


def test_matrices_that_multiply_the_same_vectors_share_second_moments_and_draw_what_they_draw_alone():
    rng = np.random.default_rng(0)
    blocks = [rng.standard_normal((n, 64)) for n in (3, 2, 1)]
    blocks.append(blocks[0][:1] - blocks[1][:1])  # nothing new in it

    def field(seed, span=None):
        draws = np.random.default_rng(seed)
        return Field(lambda k: draws.standard_normal((k, 64)), span)

    start = Span()
    together, alone = [field(k, start) for k in range(3)], [field(k) for k in range(3)]
    for key, h in enumerate(blocks):
        for one, other in zip(together, alone, strict=True):
            np.testing.assert_array_equal(one.product(h, key), other.product(h))
        assert together[0].span is together[1].span is together[2].span
    assert len(together[0].span.root) == 6
    assert together[0].product(blocks[0], "first") is not None
    assert together[0].span is not together[1].span


@pytest.mark.parametrize("uses", [2, 3])
def test_gram_matrices_of_shared_rows_are_those_of_each_parameter(uses):
    rng = np.random.default_rng(1)
    d, h, other = (list(rng.standard_normal((3, 1, 4, 50)).astype(np.float32)) for _ in range(3))
    data = list(rng.standard_normal((3, 1, 4, 5)))
    parameters = [
        list(zip(d, data, strict=True)),
        list(zip(d[:uses], h[:uses], strict=True)),
        list(zip(other[:uses], h[:uses], strict=True)),
        list(zip(d[::-1], h, strict=True)),
        [(d[1], None)],
    ]
    grams = Grams()
    for pairs in parameters:
        expected = 0.0
        for l, r in pairs:
            for l2, r2 in pairs:
                inner = 1.0 if r is None else r[0].astype(float) @ r2[0].astype(float).T
                expected = expected + l[0].astype(float) @ l2[0].astype(float).T * inner
        np.testing.assert_allclose(grams.of(pairs, pairs), expected, rtol=1e-12, atol=1e-12)


def test_vectors_beyond_single_precision_are_drawn_in_double():
    """A state times 1e18, whose fourth powers no float32 holds."""

    @tp.network
    def net(net, x):
        h = net.state("m")
        for _ in x:
            h = tp.abs(net.low_rank("C", 1e6 * h, rank=1))
        h = h + net.bias("b")
        return net.average(tp.nonlin(lambda u, v: sp.sin(u + v), h, h))

    with pytest.warns(tp.AccuracyWarning):
        value = tp.ntk(net())(np.zeros((1, 3, 2)))
    assert np.isfinite(value).all() and value > 0
