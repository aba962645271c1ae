"""A readout of the input itself: linear models, and skips from the input to the output."""

import numpy as np
import pytest

import tensorprog as tp

X = np.random.default_rng(0).standard_normal((3, 2))
G = X @ X.T / 2
SEQUENCES = np.random.default_rng(1).standard_normal((2, 3, 2))


@tp.network
def linear(net, x, *, sigma=2, bias=1):
    return net.readout("V", x, std=sigma, bias=bias)


@tp.network
def deep(net, x, *, skip=False):
    f = net.readout("V", tp.tanh(net.embed("U", x, std=1.2)))
    return f - 0.5 * net.readout("S", x, std=3) if skip else f


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
def test_a_linear_model_has_the_inner_product_as_its_kernel(kernel):
    """f = σ v·ξ/√d + β c: both kernels are σ² ξ·ξ'/d + β²."""
    K = kernel(linear())
    assert np.abs(K(X) - (4 * G + 1)).max() < 1e-14 and np.abs(K.gram(X) - (4 * G + 1)).max() < 1e-14
    assert K.text().splitlines()[-1].endswith("= 4·⟨x,x'⟩ + 1")


def test_it_is_exact_at_every_width():
    assert np.abs(tp.empirical_ntk(linear(), X, width=3) - (4 * G + 1)).max() < 1e-13
    assert np.abs(tp.empirical_ntk(linear(), X, width=3, parametrization="standard") - (G + 1)).max() < 1e-13


@pytest.mark.parametrize("method", ["backprop", "paths", "sgd", "enumeration"])
def test_a_skip_adds_its_kernel_by_every_method(method):
    assert np.abs(tp.ntk(deep(skip=True), method)(X) - tp.ntk(deep(), method)(X) - 9 / 4 * G).max() < 1e-13
    assert np.abs(tp.ntk(deep(skip=True), method, trainable=["S"])(X) - 9 / 4 * G).max() < 1e-13


@pytest.mark.slow
def test_the_nngp_kernel_of_a_skip_is_exact_and_sampled():
    K = tp.nngp(deep(skip=True))
    assert K.passes_gia_check and np.abs(K(X) - tp.nngp(deep())(X) - 9 / 4 * G).max() < 1e-13
    found = tp.nngp(deep(skip=True), method="sampling", samples=2**13).account(X)
    assert (np.abs(found.value - K(X)) < 6 * found.error).all()


@pytest.mark.slow
def test_a_skip_is_certified_and_simulated():
    assert tp.unroll(deep(skip=True), steps=2).certify().passed
    assert tp.verify(deep(skip=True), X[:2], widths=(32, 64, 128), seeds=12).passed


def test_sequences_and_positions_have_their_own():
    @tp.network
    def summed(net, x):
        return sum(net.readout("V", x_t) for x_t in x)

    @tp.network
    def placed(net, x):
        return net.readout("V", net.global_pool(x)) + net.readout("Q", net.at(x, 1))

    S = SEQUENCES.sum(axis=1)
    assert np.abs(tp.ntk(summed())(SEQUENCES) - S @ S.T / 2).max() < 1e-13
    mean, one = S / 3, SEQUENCES[:, 1]
    assert np.abs(tp.nngp(placed())(SEQUENCES) - (mean @ mean.T + one @ one.T) / 2).max() < 1e-13

    @tp.network
    def everywhere(net, x):
        return net.readout("V", x) + net.readout("W", net.global_pool(net.conv("C", x, 3)))

    with pytest.raises(tp.ProgramError, match=r"one at every position: net.at\(x, 0\)"):
        tp.ntk(everywhere())
    with pytest.raises(tp.ProgramError, match="net.readout of an input"):
        tp.unroll(deep(skip=True), 1, parametrization="mup")
