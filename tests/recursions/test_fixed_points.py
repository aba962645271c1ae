"""Networks whose input enters at every layer: their recursions, and fixed points at infinite depth."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import AccuracyError, AssumptionError, FoldError, ProgramError

X = np.random.default_rng(0).standard_normal((3, 4))
G = X @ X.T / 4
W = 0.9


@tp.network
def injected(net, x, *, depth=4, fresh=True, sigma_w=W, phi=tp.relu):
    z = None
    for l in range(1, depth + 1):
        u = net.embed("U", x)
        z = phi(u if z is None else net.dense(("W", l) if fresh else "W", z, std=sigma_w) + u)
    return net.readout("V", z)


@tp.network
def injected_from_a_state(net, x, *, depth=4):
    z = net.state("z0")
    for _ in range(depth):
        z = tp.relu(net.dense("W", z, std=W) + net.embed("U", x, std=0.8))
    return net.readout("V", z)


def cosines(S):
    q = np.sqrt(np.diag(S))
    c = np.clip(S / np.outer(q, q), -1, 1)
    np.fill_diagonal(c, 1)  # arccos of rounding would be 1e-8
    return np.outer(q, q), c


def relu_moment(S):
    size, c = cosines(S)
    return size * (np.sqrt(1 - c**2) + c * (np.pi - np.arccos(c))) / (2 * np.pi)


def step_moment(S):
    return (np.pi - np.arccos(cosines(S)[1])) / (2 * np.pi)


def by_hand(depth):
    S = T = G
    for _ in range(depth - 1):
        S, T = W**2 * relu_moment(S) + G, W**2 * relu_moment(S) + G + W**2 * step_moment(S) * T
    return relu_moment(S) + step_moment(S) * T


@pytest.mark.parametrize("form", ["sum", "forward"])
def test_one_input_matrix_at_every_layer_folds(form):
    R = tp.ntk(injected()).recursion(form)
    np.testing.assert_allclose(R(X, depth=7), by_hand(7), rtol=1e-12)
    np.testing.assert_allclose(R(X, depth=3), by_hand(3), rtol=1e-12)


@pytest.mark.parametrize("net", [injected(fresh=False), injected_from_a_state()], ids=["tied", "from a state"])
def test_tied_networks_with_their_input_at_every_layer_fold(net):
    deeper = type(net)(net.fn, {**net.hyperparameters, "depth": 7}, net.name)
    np.testing.assert_allclose(tp.ntk(net).recursion()(X, depth=7), tp.ntk(deeper)(X), rtol=1e-12)


def test_the_fixed_point_solves_its_linear_equation():
    S = G
    for _ in range(600):
        S = W**2 * relu_moment(S) + G
    K, k0 = relu_moment(S), step_moment(S)
    account = tp.ntk(injected()).recursion().fixed_point_account(X)
    right = K + k0 * S / (1 - W**2 * k0)
    assert np.all(np.abs(account.value - right) <= account.error + 1e-15)
    np.testing.assert_allclose(account.value, right, rtol=1e-13)
    np.testing.assert_allclose(tp.nngp(injected()).recursion().fixed_point(X), K, rtol=1e-13)
    assert "contraction 0.4" in account.methods[0]


def test_slow_contraction_comes_with_its_error_or_is_refused():
    x, a = X[:1], 1.3**2 / 2  # increments go as l a^l, S and Θ having one rate
    S = G[0, 0] / (1 - a)
    account = tp.ntk(injected(sigma_w=1.3)).recursion().fixed_point_account(x)
    assert abs(account.value[0, 0] - (S / 2 + 0.5 * S / (1 - a))) <= account.error[0, 0]
    assert account.error[0, 0] <= 1e-9 * account.value[0, 0]
    with pytest.raises(AccuracyError, match="larger rtol"):
        tp.ntk(injected(sigma_w=1.41)).recursion().fixed_point(x)


@pytest.mark.parametrize("sigma_w", [np.sqrt(2), 1.5, 3])
def test_what_does_not_contract_has_no_fixed_point(sigma_w):
    with pytest.raises(AssumptionError, match="no fixed point"):
        tp.ntk(injected(sigma_w=float(sigma_w))).recursion().fixed_point(X)


def test_power_laws_are_not_taken_for_fixed_points():
    critical = tp.nngp(tp.programs.mlp(phi=tp.tanh, sigma_w=1, sigma_b=0)).recursion()  # q ~ 1/(2l)
    with pytest.raises((AccuracyError, AssumptionError), match="come to rest|contract"):
        critical.fixed_point([[1.0]])


def test_recursions_over_lengths_have_no_depth_to_take_to_infinity():
    with pytest.raises(ProgramError, match="over lengths only"):
        tp.nngp(tp.programs.rnn()).recursion(over="lengths").fixed_point([[[1.0]]])


def test_a_network_of_two_time_steps_has_no_lengths_to_fold_over():
    @tp.network
    def two(net, x):
        u, y = x
        return net.readout("V", tp.relu(net.dense("W", tp.relu(net.embed("U", u))) + net.embed("Y", y)))

    K = tp.ntk(two())
    assert K.lengths == (2, 2) and "T = 2" in K.text() and "x_{2}" in K.latex()
    with pytest.raises(FoldError, match="sequences of any length"):
        K.recursion()
    with pytest.raises(ProgramError, match="cannot be built with a sequence of length 3"):
        K([[[1.0], [2.0], [3.0]]])
    assert tp.draw(two()) is not None and tp.unroll(two(), steps=1).certify().passed
