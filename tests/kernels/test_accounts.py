"""Kernels state their error: accounts, warnings, and the route to the numbers."""

import time
import warnings

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.derivation.route import TERMS, terms
from tests.gates import gru, lstm, shared

RNG = np.random.default_rng(7)
X, S = RNG.standard_normal((3, 3)), RNG.standard_normal((2, 2, 3))


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("net", [tp.programs.mlp(), tp.programs.mlp(phi=tp.tanh), tp.programs.residual_mlp()], ids=repr)
def test_exact_kernels_account_for_small_errors_and_do_not_warn(net, kind):
    K = kind(net)
    found = K.account(X)
    np.testing.assert_array_equal(found.value, K(X))
    assert not found.statistical and not found.samples
    assert (found.error > 0).all() and found.relative.max() < 1e-10
    assert found.methods and "sampling" not in found.methods


def test_the_error_of_an_exact_kernel_covers_it():
    """E tanh(a)² by the trapezoidal rule, whose error at step h is of the order of e^(−π²/h)."""
    found = tp.nngp(tp.programs.mlp(depth=1, phi=tp.tanh, sigma_w=1, sigma_b=0)).account([[1.0], [2.0]])
    x, step = np.linspace(-12, 12, 2401, retstep=True)
    for i, deviation in enumerate((1.0, 2.0)):
        mean = np.sum(np.tanh(deviation * x) ** 2 * np.exp(-(x**2) / 2)) * step / np.sqrt(2 * np.pi)
        assert abs(found.value[i, i] - mean) <= found.error[i, i] + 1e-15


@pytest.mark.parametrize("call", [lambda K, x: K(x), lambda K, x: K.gram(x), lambda K, x: tp.gram([K], x)])
def test_estimates_come_with_one_warning_that_names_the_worst_entry_and_the_remedy(call):
    K = tp.nngp(lstm(), samples=2**13)
    with pytest.warns(tp.AccuracyWarning) as caught:
        call(K, S)
    (warning,) = caught
    message, (i, j) = str(warning.message), K.account(S).worst
    assert f"entry [{i}, {j}]" in message and "standard error" in message
    assert "rtol=" in message and "account(X)" in message
    assert warning.filename == __file__


def test_the_account_of_an_estimate_does_not_warn_and_holds_the_value():
    K = tp.nngp(lstm(), samples=2**13)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = K.account(S)
    with pytest.warns(tp.AccuracyWarning):
        np.testing.assert_array_equal(K(S), found.value)
    assert found.methods == ("sampling",) and found.statistical
    assert "sampling" in str(found) and "standard error" in str(found)


def test_two_steps_of_an_lstm_are_right_within_their_errors():
    data = np.random.default_rng(1).standard_normal((2, 2, 3))
    want, spread = _lstm_of_two_steps(data)
    found = tp.nngp(lstm()).account(data)
    assert (np.abs(found.value - want) < 5 * np.hypot(found.error, spread)).all()
    assert found.relative.max() < 3e-3


def _lstm_of_two_steps(data, samples=400_000, runs=6):
    """Independent sampling of the limit: the law of the gates, step by step."""
    flat = data.reshape(4, 3)
    root = np.linalg.cholesky(flat @ flat.T / 3 + 0.25 + 1e-14 * np.eye(4))
    sigmoid = lambda z: 1 / (1 + np.exp(-z))  # noqa: E731
    found = []
    for run in range(runs):
        draw = np.random.default_rng(run).standard_normal
        first = {k: np.einsum("ij,jm->im", root, draw((4, samples))).reshape(2, 2, samples) for k in "ifog"}
        cell = sigmoid(first["i"][:, 0]) * np.tanh(first["g"][:, 0])
        state = sigmoid(first["o"][:, 0]) * np.tanh(cell)
        again = np.linalg.cholesky(state @ state.T / samples)
        h = {k: first[k][:, 1] + again @ draw((2, samples)) for k in "ifog"}
        cell = sigmoid(h["f"]) * cell + sigmoid(h["i"]) * np.tanh(h["g"])
        state = sigmoid(h["o"]) * np.tanh(cell)
        found.append(state @ state.T / samples)
    return np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / np.sqrt(runs)


def test_estimates_of_a_kernel_that_must_be_exact_are_marked():
    K, pair = tp.nngp(shared(), method="forward"), (X[:1], X[1:2])
    with pytest.warns(tp.AccuracyWarning, match="method='sampling'"):
        value = K(*pair)
    found, better = K.account(*pair), tp.nngp(shared(), samples=2**18).account(*pair)
    np.testing.assert_array_equal(found.value, value)
    assert found.statistical
    assert (np.abs(value - better.value) < 5 * np.hypot(found.error, better.error)).all()


def test_the_way_is_chosen_before_time_is_spent():
    """Expanding the products of four steps takes minutes."""
    K = tp.ntk(gru(), samples=2**13)
    start = time.process_time()
    found = K.account(RNG.standard_normal((2, 8, 3)))
    assert found.methods == ("sampling",)
    assert time.process_time() - start < 20


@tp.network
def doubling(net, x):
    """A gate u and 1 − u, expanded."""
    state = None
    for x_t in x:
        u, new = tp.sigmoid(net.embed("Uu", x_t)), tp.tanh(net.embed("Un", x_t))
        state = u * new if state is None else (1 - u) * state + u * new
    return net.readout("V", state)


def test_terms_are_counted_without_expanding():
    assert [terms(gru(), t, False) for t in (2, 3, 4, 20)] == [2, 3, 4, 20]
    assert [terms(doubling(), t, False) for t in (2, 3, 4, 20)] == [3, 7, 15, 2**20 - 1]
    assert terms(tp.programs.rnn(), 12, True) == 0
    assert terms(tp.programs.residual_mlp(depth=20), None, True) == 0
    assert terms(gru(), 12, True) > TERMS


def test_networks_that_read_fixed_positions_are_tried_on_their_own_lengths():
    @tp.network
    def ends(net, x):
        return net.readout("V", tp.tanh(net.embed("U", x[0]) + net.embed("W", x[4])))

    data = RNG.standard_normal((2, 5, 2))
    assert tp.nngp(ends()).account(data).methods != ("sampling",)


def test_unknown_methods_are_named():
    for kind in (tp.ntk, tp.nngp):
        with pytest.raises(tp.ProgramError, match="sampling"):
            kind(tp.programs.mlp(), method="sampled")


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
def test_recursions_of_gated_networks_are_refused_before_they_expand(kind):
    start = time.process_time()
    with pytest.raises(tp.FoldError, match=r"gru does not fold.*T = 6"):
        kind(gru()).recursion()
    assert time.process_time() - start < 10
