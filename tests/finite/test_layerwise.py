"""The layerwise empirical NTK: against the sum over pairs of uses, and whatever the blocks it is computed in."""

import importlib
import tracemalloc

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.layerwise import Layerwise, gram, layerwise_ntk

GALLERY = tp.programs.GALLERY
RAGGED = (3, 1, 4, 3, 1, 2)


def inputs(net, count=len(RAGGED), seed=1):
    rng = np.random.default_rng(seed)
    own = getattr(importlib.import_module(net.fn.__module__), "inputs", None)
    if net.form not in ("vectors", "sequences"):
        return read_inputs(own(rng, count), "X", net.form)
    X = [rng.normal(size=(t, 2)) for t in RAGGED[:count]] if net.takes_sequences else rng.normal(size=(count, 2))
    return read_inputs(X, "X", net.form)


@tp.network
def shared(net, x, *, phi=tp.tanh):
    """One matrix three times, once transposed; one readout of two layers; one bias twice; an output bias."""
    W = net.weight("W", std=1.3)
    a = net.embed("U", x, std=0.8) + net.bias("b", std=0.5)
    h = W @ phi(a)
    g = W.T @ phi(h) + net.bias("b", std=0.5)
    last = W @ phi(g)
    return net.readout("V", last, std=1.1, bias=0.4) + net.readout("V", h, std=1.1, bias=0.2)


NETS = {name: build() for name, build in GALLERY.items()} | {
    "rnn2": GALLERY["rnn"](layers=2, sigma_b=0.3, sigma_h=0.7),
    "untied": GALLERY["rnn"](tied=False, sigma_b=0.3, sigma_h=0.7),
    "shared": shared(),
}


@pytest.fixture(params=NETS)
def net(request):
    return NETS[request.param]


def reference(net, data, width, seeds, dtype=np.float64):
    finite = FiniteNetwork.of(net, data)
    return finite.ntk(finite.run(finite.draw(width, seeds, dtype)))


def test_it_is_the_sum_over_pairs_of_uses(net):
    data = inputs(net)
    theta = layerwise_ntk(net, data, None, 24, [3, 4], {}, np.float64)
    np.testing.assert_allclose(theta, reference(net, data, 24, [3, 4]), rtol=0, atol=1e-12 * np.abs(theta).max())
    assert np.array_equal(theta, np.swapaxes(theta, 1, 2))


@pytest.mark.parametrize("memory", [1, 20_000, 60_000])
def test_blocks_change_nothing(net, memory):
    data, other = inputs(net), inputs(net, 3, seed=2)
    for second in (None, other):
        whole = layerwise_ntk(net, data, second, 16, [0, 1, 2], {}, np.float64)
        blocks = layerwise_ntk(net, data, second, 16, [0, 1, 2], {}, np.float64, memory)
        np.testing.assert_allclose(blocks, whole, rtol=0, atol=1e-13 * np.abs(whole).max())


def test_float32_is_single_precision_of_the_same_draws(net):
    data = inputs(net)
    kernel = Layerwise(net, data, None, {})
    single, states = kernel.draw(32, [0], np.float32), kernel.states(32, [0], np.float32)
    double = {n: w.astype(float) for n, w in single.items()}
    expected = kernel(double, {n: s.astype(float) for n, s in states.items()})
    np.testing.assert_allclose(kernel(single, states), expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_no_jacobian_is_held():
    data = read_inputs(np.random.default_rng(0).normal(size=(64, 4)), "X", "vectors")
    kernel = Layerwise(GALLERY["mlp"](depth=3), data, None, {})
    parameters = kernel.draw(256, [0])
    tracemalloc.start()
    kernel(parameters, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    jacobian = 8 * 64 * sum(w[0].size for w in parameters.values())
    assert peak < jacobian / 10


def test_repeated_inputs_give_equal_rows():
    X = np.random.default_rng(0).normal(size=(3, 4))
    theta = tp.empirical_ntk(tp.programs.mlp(sigma_b=0.2), X[[0, 1, 0, 2]], width=32)
    np.testing.assert_allclose(theta[0], theta[2], rtol=1e-12)


def test_gram_of_uses_equals_the_gram_of_the_outer_products():
    rng = np.random.default_rng(5)
    uses = [(rng.normal(size=(2, 3, 4)), rng.normal(size=(2, 3, 5))) for _ in range(3)]
    uses.append((rng.normal(size=(2, 3, 4)), rng.normal(size=(1, 3, 5))))  # rows shared by seeds
    total = sum(_outer(u) for u in uses)
    expected = np.einsum("snij,smij->snm", total, total)
    np.testing.assert_allclose(gram(uses, uses, True), expected, rtol=1e-12)
    np.testing.assert_allclose(gram(uses, uses[:2], False), np.einsum(
        "snij,smij->snm", total, sum(_outer(u) for u in uses[:2])), rtol=1e-12, atol=1e-12)  # fmt: skip


def _outer(use):
    left, right = (np.broadcast_to(a, (2, 3, a.shape[-1])) for a in use)
    return np.einsum("sni,snj->snij", left, right)


def test_what_overflows_is_refused():
    with pytest.raises(tp.DataError, match="float32; scale the inputs"):
        tp.empirical_ntk(tp.programs.mlp(depth=1), [[1e20, 1.0], [1.0, 1.0]], width=32, dtype="float32")
    with pytest.raises(tp.DataError, match="not finite on the data"), np.errstate(all="ignore"):
        tp.empirical_ntk(tp.programs.mlp(depth=3, phi=tp.polynomial(0, 0, 0, 1)), [[1e40, 1.0]], width=32)
    with pytest.raises(tp.ProgramError, match=r"call it, mlp\(\)"):
        tp.empirical_ntk(tp.programs.mlp, [[1.0]], width=8)


@pytest.mark.parametrize("read", ["average", "readout"])
def test_an_output_that_is_0_has_the_kernel_0(read):
    @tp.network
    def zero(net, x):
        h = net.embed("U", x)
        return net.average(h - h) if read == "average" else net.readout("V", h - h)

    X = [[1.0, 0.5], [0.3, -1.0]]
    assert np.array_equal(tp.empirical_ntk(zero(), X, width=8, seeds=3), np.zeros((3, 2, 2)))
    assert np.array_equal(tp.empirical_ntk(zero(), X[:1], X, width=8), np.zeros((1, 2)))
    assert np.array_equal(tp.ntk(zero())(X), np.zeros((2, 2)))


def test_products_that_cancel_are_0_at_every_width():
    @tp.network
    def cancels(net, x):
        W, h, b = net.weight("W"), net.embed("U", x), net.state("b")
        return net.readout("V", tp.relu(h) * (1 + tp.relu(tp.tanh(1e20 * (W @ (h + b) - W @ h - W @ b)))))

    @tp.network
    def plain(net, x):
        return net.readout("V", tp.relu(net.embed("U", x)))

    X = [[1.0, 0.5], [0.3, -1.0]]
    runs = [FiniteNetwork.of(net(), read_inputs(X, "X", "vectors")) for net in (cancels, plain)]
    f = []
    for finite in runs:
        parameters = finite.draw(16, [0, 1])
        f.append(finite.outputs(finite.run(parameters), parameters))
    assert np.allclose(f[0], f[1], rtol=1e-12)
    with pytest.warns(tp.AccuracyWarning):
        sampled = tp.nngp(cancels(), method="sampling", samples=2**14)(X)
    assert np.allclose(sampled, tp.nngp(plain())(X), rtol=0.02)


@pytest.mark.filterwarnings("error")
def test_a_branch_that_nothing_reads_may_overflow():
    def net(net, x, dead):
        h = net.embed("U", x) + net.bias("b")
        g = h
        for k in range(4 if dead else 0):
            g = net.dense(("W", k), tp.exp(g))
        return net.readout("V", tp.tanh(h))

    X = [[1.0, 0.5], [0.3, -1.0]]
    runs = [FiniteNetwork.of(tp.network(net)(dead=d), read_inputs(X, "X", "vectors")) for d in (True, False)]
    found = []
    for finite in runs:
        parameters = finite.draw(16, [0, 1])
        values = finite.run(parameters, finite.used)
        found.append((finite.ntk(values), finite.outputs(values, parameters)))
    assert np.allclose(found[0][0], found[1][0], rtol=1e-14) and np.allclose(found[0][1], found[1][1], rtol=1e-14)
    layers = [tp.empirical_ntk(tp.network(net)(dead=d), X, width=16, seeds=2) for d in (True, False)]
    assert np.allclose(layers[0], layers[1], rtol=1e-14)


def test_without_parameters_nothing_trains():
    @tp.network
    def constant(net, x):
        return net.average(net.state("n") + 1)

    assert not tp.empirical_ntk(constant(), [[1.0], [2.0]], [[0.0]], width=8, seed=0).any()
    assert tp.empirical_ntk(constant(), [[1.0], [2.0]], [[0.0]], width=8, seed=0).shape == (2, 1)
