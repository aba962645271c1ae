"""Networks over positions, taken apart at given sizes: the same kernels, certificates, and what is refused."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import as_sequences, read_inputs
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.passes.separate import Separated, small, taken_apart
from tests.convolutions import CASES, flattened, pooled, untied

CHEAP = ["conv1d", "conv1d, circular", "conv2d, valid", "flatten, 1 axis", "flatten, 2 axes", "strides, 1 axis"]


@tp.network
def placed(net, x):
    """Biases of every position, a transposed convolution, a moment at every position."""
    h = net.conv("U", x)
    h = tp.erf(h + net.bias("b", std=0.7, like=h))
    return net.flatten("V", tp.tanh(net.conv_transpose("W", h, 2, stride=2)))


@tp.network
def skipping(net, x):
    """Vectors and their averages added up inside a nonlinearity, whose covariances are not symmetric in positions."""
    h = net.embed("U", x)
    h = h + net.avg_pool(h, 2, stride=1, padding="same")
    z = tp.relu(net.dense("W", tp.relu(h)))
    return net.readout("V", net.global_pool(tp.relu(net.conv("C", z + net.avg_pool(z, 2, stride=1, padding="same")))))


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("name", CHEAP)
@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
def test_kernels_over_positions_are_those_of_the_program_with_a_vector_for_each(name, kind):
    net, _, sizes = CASES[name]
    X = np.random.default_rng(4).standard_normal((2, *sizes, 2))
    assert relative(kind(net)(X), kind(Separated(net, [sizes]))(X.reshape(2, -1, 2))) < 1e-12


def test_so_are_those_with_biases_of_positions_and_transposed_windows():
    X = np.random.default_rng(4).standard_normal((2, 3, 2))
    for kind in (tp.nngp, tp.ntk):
        assert relative(kind(placed())(X), kind(Separated(placed(), [(3,)]))(X)) < 1e-12


def test_so_are_those_of_vectors_beside_their_averages():
    X = np.random.default_rng(4).standard_normal((2, 4, 2))
    for kind in (tp.nngp, tp.ntk):
        assert relative(kind(skipping())(X), kind(Separated(skipping(), [(4,)]))(X)) < 1e-12


def test_signals_of_two_lengths_are_taken_apart_together():
    rng = np.random.default_rng(2)
    X = [rng.standard_normal((t, 2)) for t in (4, 3, 4)]
    assert relative(tp.ntk(pooled())(X), tp.ntk(Separated(pooled(), [(3,), (4,)]))(X)) < 1e-12


@pytest.mark.parametrize("net", [pooled(), flattened(), untied(), placed()], ids=lambda net: net.name)
def test_at_the_same_weights_it_is_the_same_network(net):
    sizes = (3,) if net.name == "placed" else (3, 4)
    inputs = read_inputs(np.random.default_rng(5).standard_normal((2, *sizes, 2)), "X", net.form)
    finite = FiniteNetwork.of(net, inputs)
    trace, _ = taken_apart(finite.trace, finite.sizes)
    width, w = 8, finite.draw(8, [3])
    single = {n: a for n, a in w.items() if n in trace.trainable}
    for name in trace.trainable.keys() - single.keys():
        key, *index = name.split(".")
        place = tuple(int(k) - 1 for k in index)
        if trace.parameters[name].kind == "embedding":
            own, k, d = w[key][(slice(None), *place[:-1])], place[-1], inputs.dimension
            single[name] = own[..., k * d : (k + 1) * d]
        else:
            single[name] = w[key][(slice(None), *place)]
    apart = FiniteNetwork.of(Separated(net, [sizes]), as_sequences(inputs))
    assert {n: a.shape[1:] for n, a in apart.draw(width, [3]).items()} == {n: a.shape[1:] for n, a in single.items()}
    found, expected = apart.run(single), finite.run(w)
    assert relative(apart.outputs(found, single), finite.outputs(expected, w)) < 1e-12
    assert relative(apart.ntk(found), finite.ntk(expected)) < 1e-12
    assert (
        relative(tp.empirical_ntk(net, inputs_of(inputs, sizes), width=width, seed=3), finite.ntk(expected)[0]) < 1e-12
    )


def inputs_of(inputs, sizes):
    return next(iter(inputs.data.values())).reshape(len(inputs), *sizes, -1)


# ---- certificates ------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", [pooled(phi=tp.abstract("phi")), flattened(), untied()], ids=lambda net: net.name)
def test_training_is_certified_at_small_sizes(net):
    certificate = tp.unroll(net, steps=1).certify()
    assert certificate.passed and " on 3" in str(certificate)


def test_two_steps_are_certified_at_given_sizes():
    run = tp.unroll(pooled(phi=tp.tanh), steps=2, lengths=[(2, 2), (2, 3), (2, 2)])
    assert run.certify().passed


def test_another_network_is_not_the_kernel_of_this_one():
    run = tp.unroll(pooled(), steps=1, lengths=[(3,), (3,)])
    assert run.certify(Separated(pooled(padding="circular"), [(3,)])).passed is False


# ---- what is refused ----------------------------------------------------------------------------------


def test_sizes_with_equally_many_positions_are_told_apart_by_refusal():
    with pytest.raises(tp.DataError, match="equally many positions"):
        Separated(pooled(), [(2, 3), (3, 2)])


@pytest.mark.parametrize("lengths", [[3, 3], [(3,)], [(0,), (3,)], "33"], ids=str)
def test_unroll_asks_for_sizes_of_every_input(lengths):
    with pytest.raises(tp.ProgramError, match="sizes such as"):
        tp.unroll(pooled(), steps=1, lengths=lengths)


def test_networks_without_positions_are_not_taken_apart():
    with pytest.raises(tp.ProgramError, match="does not take one array with positions"):
        Separated(tp.programs.mlp(), [(3,)])


def test_a_window_larger_than_all_small_sizes_is_said():
    with pytest.raises(tp.ProgramError, match="does not fit"):
        small(pooled(kernel=9, padding="valid"))


@pytest.mark.parametrize("method, words", [("paths", "backprop"), ("sgd", "tp.unroll")])
def test_ways_that_are_not_derived_over_positions_say_so(method, words):
    with pytest.raises(tp.AssumptionError, match=words):
        tp.ntk(pooled(), method)(np.ones((1, 3, 1)))


def test_limits_by_sampling_are_refused_over_positions():
    with pytest.raises(tp.AssumptionError, match="sampling"):
        tp.limit(pooled().trace([None]).program, method="sampling")
