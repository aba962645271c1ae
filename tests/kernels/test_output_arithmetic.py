"""Outputs made of outputs: sums, differences, multiples, averages, at one position or several; traces over outputs."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.trajectories import FiniteTraining
from tests.finite.forward_in_torch import Torch

X = np.random.default_rng(0).standard_normal((3, 2))
SIGNALS = np.random.default_rng(1).standard_normal((2, 4, 2))


@tp.network
def mixture(net, x, *, random=True):
    a = tp.tanh(net.embed("U", x, std=1.3))
    b = tp.erf(net.dense("W", a, std=0.8) + net.bias("b", std=0.3))
    f, g, h = net.readout("V", a, std=0.7, bias=0.5), net.readout("V", b, std=0.7), net.readout("Q", b)
    return (0.5 * f - g / 2 + h, f - h, -f * 2 + (0 if random else net.average(b)))


@tp.network
def plain(net, x, *, which="f"):
    """The three readouts that ``mixture`` combines, as outputs of their own."""
    a = tp.tanh(net.embed("U", x, std=1.3))
    b = tp.erf(net.dense("W", a, std=0.8) + net.bias("b", std=0.3))
    return net.readout("V", a, std=0.7, bias=0.5), net.readout("V", b, std=0.7), net.readout("Q", b)


COEFFICIENTS = np.array([[0.5, -0.5, 1.0], [1.0, 0.0, -1.0], [-2.0, 0.0, 0.0]])


@tp.network
def tokens(net, x, *, mix="attention"):
    h = net.embed("U", x, std=1.3)
    h = h + net.attention("A", h, tied=True) if mix == "attention" else tp.relu(net.conv("C", h, 3))
    h = tp.relu(net.dense("W", tp.tanh(h), std=0.9) + net.bias("b", std=0.4))
    each = [net.readout("V", net.at(h, p)) for p in (0, 1, -1)]
    return *each, each[0] - 0.5 * net.readout("Q", net.at(h, 2))


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
def test_kernels_of_combinations_are_bilinear(kernel):
    found, parts = kernel(mixture())(X), kernel(plain())(X)
    expected = np.einsum("ka,ijab,lb->ijkl", COEFFICIENTS, parts, COEFFICIENTS)
    assert np.abs(found - expected).max() < 1e-12
    for k in range(3):
        assert np.abs(kernel(mixture(), outputs=k)(X) - expected[..., k, k]).max() < 1e-12


@pytest.mark.slow
def test_every_way_to_the_kernel_of_a_difference_agrees():
    net = mixture()
    right = tp.ntk(net, outputs=0)
    for method in ("paths", "sgd", "enumeration"):
        assert np.abs(tp.ntk(net, method, outputs=0)(X) - right(X)).max() < 1e-12
    assert np.abs(right.gram(X) - right(X)).max() < 1e-12
    found = tp.ntk(net, "sampling", outputs=0, samples=2**13).account(X)
    assert (np.abs(found.value - right(X)) < 6 * found.error).all()


def empirical(net, X, **options):
    return tp.empirical_ntk(net, X, width=6, seed=3, **options)


@pytest.mark.parametrize(
    ("net", "X"),
    [(mixture(), X), (mixture(random=False), X), (tokens(), SIGNALS), (tokens(mix="conv"), SIGNALS)],
    ids=["sums", "averages", "attention", "convolution"],
)
def test_outputs_at_finite_width_are_those_of_autograd(net, X):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        run = Torch(net, read_inputs(X, "X", net.form), 6)
        found, own = empirical(net, X), empirical(net, X, parametrization="standard")
        for k in range(found.shape[-1]):
            for l in range(found.shape[-1]):
                parts = run.kernels(k, l)
                ntk = sum(run.stds[n] ** 2 / run.fans[n] * part for n, part in parts.items())
                assert np.abs(found[..., k, l] - ntk).max() < 1e-9 * np.abs(found).max()
                weights = sum(part / run.fans[n] for n, part in parts.items())
                assert np.abs(own[..., k, l] - weights).max() < 1e-9 * np.abs(own).max()
    finally:
        torch.set_default_dtype(before)


def test_traces_are_sums_over_outputs():
    net = mixture()
    for kernel in (tp.ntk(net), tp.nngp(net)):
        assert np.abs(kernel.trace(X) - np.einsum("ijkk->ij", kernel(X))).max() < 1e-12
    assert np.abs(empirical(net, X, trace=True) - np.einsum("ijkk->ij", empirical(net, X))).max() < 1e-12
    some = tp.ntk(net, outputs=[0, 2])
    assert np.abs(some.trace(X, X[:1]) - sum(some[k](X, X[:1]) for k in (0, 2))).max() < 1e-12


def test_training_differences_of_outputs_moves_weights_as_the_program_says():
    data = read_inputs(X, "X", "vectors")
    run = FiniteTraining(mixture(), data, np.ones((3, 3)), 2, tp.SGD(0.1), 3)
    f = run.outputs(run.execute(run.finite.draw(12, [0])))
    assert np.abs(run.run(12, [0])[0].f - f[0]).max() < 1e-10
    assert tp.unroll(mixture(), steps=1).certify().passed


def test_kernels_from_token_to_token_are_those_of_one_output_at_a_time():
    """The kernel between positions 0 and 1 of one readout, by the kernel of their sum."""
    K = tp.ntk(tokens())(SIGNALS)
    assert K.shape == (2, 2, 4, 4) and np.allclose(K, np.einsum("ijkl->jilk", K), atol=1e-12)

    @tp.network
    def both(net, x):
        h = net.embed("U", x, std=1.3)
        h = h + net.attention("A", h, tied=True)
        h = tp.relu(net.dense("W", tp.tanh(h), std=0.9) + net.bias("b", std=0.4))
        return net.readout("V", net.at(h, 0)) + net.readout("V", net.at(h, 1))

    whole = K[..., 0, 0] + K[..., 1, 1] + K[..., 0, 1] + K[..., 1, 0]
    assert np.abs(tp.ntk(both())(SIGNALS) - whole).max() < 1e-12 * np.abs(whole).max()


def test_a_convolution_read_at_one_position_is_a_dense_layer_of_its_window():
    """Position 0 of a window of 3 with zero padding sees x_0 and x_1: Σ = (x_0·x_0' + x_1·x_1')/(3 d)."""

    @tp.network
    def net(net, x):
        return net.readout("V", net.at(tp.relu(net.conv("U", x, 3)), 0))

    G = np.einsum("ipc,jpc->ij", SIGNALS[:, :2], SIGNALS[:, :2]) / 6
    r = np.sqrt(np.outer(np.diag(G), np.diag(G)))
    angle = np.arccos(np.clip(G / r, -1, 1))
    assert np.allclose(tp.nngp(net())(SIGNALS), r * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi))
    assert "1[p=0]" in tp.ntk(net()).text() or "[0,0]" in tp.ntk(net()).text()


@tp.network
def states(net, x):
    """An output after every time step."""
    h, found = None, []
    for x_t in x:
        z = net.embed("U", x_t)
        h = tp.tanh(z if h is None else z + net.dense("W", h))
        found.append(net.readout("V", h))
    return tuple(found)


@pytest.mark.slow
def test_outputs_at_every_time_step_have_kernels_between_any_two():
    K = tp.ntk(states())(SIGNALS[:, :3])
    assert K.shape == (2, 2, 3, 3)
    assert np.allclose(K[..., 1, 1], tp.ntk(states(), outputs=1)(SIGNALS[:, :3]), rtol=1e-12)
    shorter = tp.ntk(states(), lengths=(2, 2))(SIGNALS[:, :2])
    assert np.allclose(K[..., :2, :2], shorter, rtol=1e-12)  # an output does not know of what comes after it
    found = np.mean(tp.empirical_ntk(states(), SIGNALS[:, :3], width=256, seeds=8), axis=0)
    assert np.abs(found - K).max() < 0.1 * np.abs(K).max()


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda f, h: f + 1, "outputs can be added to outputs only, got 1"),
        (lambda f, h: f - h, "outputs can be added to outputs only"),
        (lambda f, h: f * f, "is an output of the network"),
        (lambda f, h: f / 0, "cannot be divided by 0"),
        (lambda f, h: f * "2", "the factor of the output"),
        (lambda f, h: 1 / f, "arithmetic with"),
        (lambda f, h: f**2, "outputs are returned, added, subtracted, and multiplied by numbers"),
    ],
)
def test_what_is_no_output_is_refused(make, words):
    @tp.network
    def net(net, x):
        h = net.embed("U", x)
        return make(net.readout("V", h), h)

    with pytest.raises(tp.ProgramError, match=words):
        tp.ntk(net())


@pytest.mark.parametrize(
    ("place", "words"),
    [(7, "there is no position 7"), ((0, 0), r"no position \(0, 0\)"), ("x", "an integer"), (1.5, "an integer")],
)
def test_positions_that_are_none_are_refused(place, words):
    @tp.network
    def net(net, x):
        return net.readout("V", net.at(net.embed("U", x), place))

    with pytest.raises(tp.TensorProgramError, match=words):
        tp.ntk(net())(SIGNALS)
