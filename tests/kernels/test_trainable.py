"""Kernels of networks some of whose parameters train: every way of deriving them, and one network at width n."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import ProgramError

X = np.sqrt(2) * np.array([[1.0, 0.0], [0.6, 0.8]])
G = X @ X.T / 2
ERF = tp.programs.mlp(depth=1, phi=tp.erf, sigma_w=1, sigma_b=0)
DEEP = tp.programs.mlp(depth=3, phi=tp.relu, sigma_w=1.3, sigma_b=0.4)


@pytest.mark.parametrize("method", ["backprop", "paths", "sgd", "enumeration"])
def test_the_first_layer_alone_has_its_closed_form_by_every_method(method):
    q = np.diag(G)
    right = 4 / np.pi * G / np.sqrt(np.outer(1 + 2 * q, 1 + 2 * q) - 4 * G**2)
    K = tp.ntk(ERF, method=method, trainable=["U"])
    np.testing.assert_allclose(K(X), right, rtol=1e-12)
    np.testing.assert_allclose(K.gram(X), right, rtol=1e-12)


def test_the_readout_alone_gives_the_nngp_kernel():
    np.testing.assert_allclose(tp.ntk(DEEP, trainable=["V"])(X), tp.nngp(DEEP)(X), rtol=1e-14)


def test_kernels_of_single_parameters_add_up_to_that_of_all():
    names = DEEP.trace([None]).trainable
    np.testing.assert_allclose(sum(tp.ntk(DEEP, trainable=[n])(X) for n in names), tp.ntk(DEEP)(X), rtol=1e-13)


def test_recursions_fold_what_trains():
    R = tp.ntk(tp.programs.mlp(phi=tp.relu, sigma_b=0.4), trainable=["matrix"]).recursion(form="forward")
    np.testing.assert_allclose(
        R(X, depth=6), tp.ntk(tp.programs.mlp(depth=6, phi=tp.relu, sigma_b=0.4), trainable=["matrix"])(X), rtol=1e-13
    )


def test_an_empirical_kernel_leaves_out_what_does_not_train():
    parts = [tp.empirical_ntk(DEEP, X, width=32, trainable=[n]) for n in DEEP.trace([None]).trainable]
    np.testing.assert_allclose(sum(parts), tp.empirical_ntk(DEEP, X, width=32), rtol=1e-12)
    assert not tp.empirical_ntk(DEEP, X, width=8, trainable=[]).any()


def test_sampling_leaves_out_what_does_not_train():
    found = tp.ntk(ERF, method="sampling", trainable=["U"], samples=2**14).account(X)
    assert np.all(np.abs(found.value - tp.ntk(ERF, trainable=["U"])(X)) < 6 * found.error + 1e-12)


def test_unknown_parameters_are_refused_with_those_there_are():
    with pytest.raises(ProgramError, match=r"unknown parameter 'W9'.*W2"):
        tp.ntk(DEEP, trainable=["W9"])
    with pytest.raises(ProgramError, match="unknown parameter"):
        tp.empirical_ntk(DEEP, X, width=8, trainable=["Q"])
    assert "trained: V" in tp.ntk(DEEP, trainable=["V"]).text()


def test_a_bias_that_does_not_train_is_an_initial_state_shared_by_all_inputs():
    @tp.network
    def rnn(net, x, shared):
        s = net.bias("h0") if shared else net.state("h0")
        for x_t in x:
            s = tp.relu(net.dense("W", s, std=2**0.5) + net.embed("U", x_t))
        return net.readout("V", s)

    rng = np.random.default_rng(0)
    x = rng.standard_normal((3, 2, 2))[[0, 1, 2, 0]]
    K, own = (tp.ntk(rnn(shared=shared), trainable=["W", "U", "V"]) for shared in (True, False))
    np.testing.assert_array_equal(K(x)[0], K(x)[3])  # equal inputs are one
    np.testing.assert_allclose(K(x).diagonal(), own(x).diagonal(), rtol=1e-13)
    assert own(x)[0, 3] < own(x)[0, 0]
    np.testing.assert_allclose(K.gram(x), K(x), rtol=1e-13)
    # by hand for one step: h = sqrt(2) w s_0/sqrt(n) + u x, with E s_0 s_0' = 1 for the same and for two inputs
    S = 2 + x[:, 0] @ x[:, 0].T / 2
    d = np.sqrt(np.outer(S.diagonal(), S.diagonal()))
    c = np.clip(S / d, -1, 1)
    step = (np.pi - np.arccos(c)) / (2 * np.pi)
    relu = d * (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / (2 * np.pi)
    np.testing.assert_allclose(K(x[:, :1]), relu + S * step, rtol=1e-7)
