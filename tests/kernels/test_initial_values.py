"""Parameters that start at 0, at the identity or at a number, and train with the scale std."""

import warnings

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.direct import DirectTraining
from tensorprog.finite.trajectories import FiniteTraining

X = np.array([[1.0, 0.0], [0.6, 0.8], [-0.3, 0.5]])
S = X @ X.T / 2
NORM = np.sqrt(np.diag(S))
COSINE = S / np.outer(NORM, NORM)
np.fill_diagonal(COSINE, 1.0)  # where arccos would lose half of the digits
ANGLE = np.arccos(COSINE)
STEP = (np.pi - ANGLE) / (2 * np.pi)  # E step(u) step(v)
RELU = np.outer(NORM, NORM) * (np.sin(ANGLE) + (np.pi - ANGLE) * np.cos(ANGLE)) / (2 * np.pi)  # E relu(u) relu(v)


@tp.network
def readout_from_zero(net, x, *, sigma_v=3):
    return net.readout("V", tp.relu(net.embed("U", x)), std=sigma_v, initial=0)


@tp.network
def branch_from_zero(net, x, *, sigma_w=2):
    h = net.embed("U", x)
    return net.readout("V", tp.relu(h + net.dense("W", tp.relu(h), std=sigma_w, initial=0)))


@tp.network
def identity_layer(net, x, *, sigma_w=2):
    h = tp.tanh(net.embed("U", x))
    return net.readout("V", tp.tanh(net.dense("W", h, std=sigma_w, initial="identity")))


@tp.network
def identity_written_out(net, x, *, sigma_w=2):
    h = tp.tanh(net.embed("U", x))
    return net.readout("V", tp.tanh(h + net.dense("W", h, std=sigma_w, initial=0)))


@tp.network
def transposed_identity(net, x):
    W = net.weight("W", initial="identity")
    return net.readout("V", W.T @ tp.erf(W @ net.embed("U", x)))


@tp.network
def second_input_layer_from_zero(net, x):
    return net.readout("V", tp.erf(net.embed("U", x) + net.embed("A", x, std=2, initial=0)))


@tp.network
def biases_from_numbers(net, x):
    h = net.embed("U", x) + net.bias("b", std=2, initial=sp.Rational(1, 3))
    return net.readout("V", tp.relu(net.dense("W", tp.relu(h)) + net.bias("c", initial=0)))


@tp.network
def two_readouts(net, x):
    h = tp.erf(net.embed("U", x))
    return net.readout("V", h, initial=0) + net.readout("A", net.dense("W", h, initial=0)) + net.readout("B", h)


NETWORKS = [
    readout_from_zero,
    branch_from_zero,
    identity_layer,
    transposed_identity,
    second_input_layer_from_zero,
    biases_from_numbers,
    two_readouts,
]


def ids(make):
    return make.__name__


def test_a_readout_from_zero_leaves_its_own_term_of_the_ntk_and_no_nngp():
    assert tp.ntk(readout_from_zero())(X) == pytest.approx(9 * RELU, abs=1e-13)
    assert tp.nngp(readout_from_zero())(X) == pytest.approx(np.zeros((3, 3)), abs=0)
    assert tp.nngp(readout_from_zero()).gram(X) == pytest.approx(np.zeros((3, 3)), abs=0)


def test_a_branch_from_zero_adds_its_update_alone():
    """f = v·relu(h + W relu(h))/√n at W = 0: Θ = E relu relu + E step step (⟨x,x'⟩ + σ_w² E relu relu)."""
    want = RELU + STEP * (S + 4 * RELU)
    assert tp.ntk(branch_from_zero())(X) == pytest.approx(want, abs=1e-13)
    assert tp.nngp(branch_from_zero())(X) == pytest.approx(RELU, abs=1e-13)


def test_an_input_layer_from_zero_adds_to_the_ntk_only():
    """Θ = V_erf + V_erf' (1 + σ²) ⟨x,x'⟩ where both layers would give 1 + σ² inside V as well."""

    @tp.network
    def one_layer(net, x):
        return net.readout("V", tp.erf(net.embed("U", x)))

    nngp, ntk = tp.nngp(one_layer())(X), tp.ntk(one_layer())(X)
    assert tp.nngp(second_input_layer_from_zero())(X) == pytest.approx(nngp, abs=1e-13)
    assert tp.ntk(second_input_layer_from_zero())(X) == pytest.approx(nngp + 5 * (ntk - nngp), abs=1e-13)


def test_a_layer_from_the_identity_is_a_skip_and_a_branch_from_zero():
    for kernel in (tp.ntk, tp.nngp):
        assert kernel(identity_layer())(X) == pytest.approx(kernel(identity_written_out())(X), abs=1e-13)


@pytest.mark.parametrize("make", NETWORKS, ids=ids)
def test_ways_to_the_kernel_agree(make):
    K = tp.ntk(make())(X[:2])
    assert tp.ntk(make()).gram(X[:2]) == pytest.approx(K, abs=1e-9)
    assert tp.ntk(make(), method="sgd")(X[:2]) == pytest.approx(K, abs=1e-12)
    if make is not transposed_identity:  # W and Wᵀ: paths along Ż count too, and are enumerated nowhere
        assert tp.ntk(make(), method="enumeration")(X[:2]) == pytest.approx(K, abs=1e-12)
    assert tp.ntk(make(), method="paths")(X[:2]) == pytest.approx(K, abs=1e-12)


@pytest.mark.parametrize("make", NETWORKS, ids=ids)
def test_sgd_follows_the_kernel(make):
    assert tp.unroll(make(), steps=2).certify().passed


@pytest.mark.parametrize("make", NETWORKS, ids=ids)
def test_the_empirical_ntk_tends_to_the_kernel(make):
    width, seeds = 256, 40
    found = tp.empirical_ntk(make(), X, width=width, seeds=seeds)
    error = found.std(axis=0, ddof=1) / np.sqrt(seeds)
    bias = 8 / width
    assert (np.abs(found.mean(axis=0) - tp.ntk(make())(X)) <= 4 * error + bias).all()


@pytest.mark.parametrize("make", NETWORKS, ids=ids)
def test_the_unrolled_program_trains_like_the_weights_themselves(make):
    inputs, y = read_inputs(X, "X", "vectors"), [1.0, -1.0, 0.5]
    direct = DirectTraining(make(), inputs, y, tp.ntk_parametrization(), tp.SGD(0.5), batch=2)
    unrolled = FiniteTraining(make(), inputs, y, 3, tp.SGD(0.5), batch=2)
    expected = np.stack([f for _, f in direct.run(12, [0, 1], 3)], axis=1)
    found = unrolled.outputs(unrolled.execute(unrolled.finite.draw(12, [0, 1])))[..., 0]
    assert found == pytest.approx(expected, abs=1e-10)
    assert np.ptp(expected, axis=1).max() > 0.1


def test_mup_learns_features_from_a_readout_at_zero():
    """v_1 = −η χ σ_v x, f_1 = −η χ σ_v² E x x' at χ = f − y = −1."""
    limit = tp.feature_limit(readout_from_zero(sigma_v=1), X[:1], [1.0], steps=1, X_test=X[1:], optimizer=tp.SGD(0.5))
    assert limit.f[0, :, 0] == pytest.approx(np.zeros(3), abs=0)
    assert limit.f[1, :, 0] == pytest.approx(0.5 * RELU[0], abs=max(1e-6, 5 * limit.stderr.max()))


def rnn(start):
    @tp.network
    def identity_rnn(net, x):
        s = None
        for x_t in x:
            h = net.embed("U", x_t)
            if s is not None:
                h = h + (s if start is None else net.dense("W", s, initial=start))
            s = tp.relu(h)
        return net.readout("V", s)

    return identity_rnn()


def added_by_w(X, count=200_000, repeats=8):
    """Σ_{t,t'} E δ_t δ'_t' E s_{t−1} s'_{t'−1} of the identity RNN with its standard error, in NumPy alone."""
    found = []
    for r in range(repeats):
        u = np.random.default_rng(r).standard_normal((X.shape[2], count))
        states, gates = [], []
        for x in X:
            s, own, open_ = np.zeros(count), [], []
            for x_t in x:
                h = x_t @ u / np.sqrt(len(x_t)) + s
                s = np.maximum(h, 0)
                own.append(s)
                open_.append((h > 0) * 1.0)
            states.append(own)
            gates.append([np.prod(open_[t:], axis=0) for t in range(len(x))])
        steps = range(1, X.shape[1])
        found.append(sum((gates[0][t] * gates[1][k]).mean() * (states[0][t - 1] * states[1][k - 1]).mean()
                         for t in steps for k in steps))  # fmt: skip
    return np.mean(found), np.std(found, ddof=1) / np.sqrt(repeats)


@pytest.mark.slow
@pytest.mark.parametrize("length", [2, 3])
def test_training_the_recurrent_matrix_of_an_identity_rnn_adds_its_term(length):
    X = np.random.default_rng(0).standard_normal((2, 3, 2))[:, :length]
    plain, trained = (tp.ntk(rnn(start), lengths=(length, length))(X[:1], X[1:])[0, 0] for start in (None, "identity"))
    want, error = added_by_w(X)
    assert abs(trained - plain - want) <= 4 * error and error < 0.01 * want
    if length == 3:
        assert plain == pytest.approx(0.20574, abs=2e-5) and trained - plain == pytest.approx(0.1563, abs=1e-3)


def test_a_start_is_printed_with_no_trace_of_a_random_matrix():
    text = tp.ntk(branch_from_zero()).text()
    assert "4·V[relu]" in text and "Σ" not in text.split("=")[0]


@pytest.mark.parametrize("start", ["orthogonal", 1, "0", sp.Symbol("s"), [0], np.eye(2)], ids=str)
def test_starts_that_a_matrix_cannot_have_are_refused_in_words(start):
    @tp.network
    def net(net, x):
        return net.readout("V", net.dense("W", net.embed("U", x), initial=start))

    with pytest.raises(tp.ProgramError, match="initial of 'W'"):
        tp.ntk(net())(X)


def test_a_shared_parameter_has_one_start():
    @tp.network
    def net(net, x):
        h = net.embed("U", x)
        return net.readout("V", net.dense("W", h) + net.dense("W", tp.relu(h), initial=0))

    with pytest.raises(tp.ProgramError, match="'W' is shared, but its initial is None here and 0 there"):
        tp.ntk(net())(X)


def test_a_bias_that_cannot_train_is_its_number():
    @tp.network
    def net(net, x, *, b=0):
        return net.readout("V", tp.relu(net.embed("U", x) + net.bias("b", std=b, initial=2)))

    assert "b" not in net().trace([None]).parameters
    with pytest.raises(tp.DataError, match="b starts at 2 and has std 0"):
        tp.empirical_ntk(
            net(b=sp.Symbol("b", nonnegative=True)), X, width=8, values={sp.Symbol("b", nonnegative=True): 0}
        )


# ---- frozen layers are named -----------------------------------------------------------------------


def test_a_layer_of_std_0_is_said_to_be_frozen_once():
    net = tp.programs.mlp(depth=2, sigma_v=0)
    with pytest.warns(tp.FrozenWarning, match=r"mlp: readout 'V': std = 0.*initial=0"):
        K = tp.ntk(net)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert K(X) == pytest.approx(np.zeros((3, 3)), abs=0)


def test_a_layer_that_starts_at_0_is_not_called_frozen():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        tp.ntk(branch_from_zero())(X)


def test_the_coordinate_check_of_frozen_and_starting_layers_has_words_for_what_is_0():
    settings = {"widths": (16, 32), "steps": 2, "seeds": 4}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", tp.FrozenWarning)
        frozen = tp.coordinate_check(tp.programs.mlp(depth=1, sigma_v=0), X[:1], [1.0], [tp.mup()], **settings)
    text = frozen.text()
    assert "nan" not in text and "p = none (it is 0 at every width)" in text and "readout 'V': std = 0" in text
    with pytest.raises(tp.DataError, match=r"Δf of mup\(\) has no exponent: it is 0 at every width"):
        frozen.exponent(tp.mup(), "Δf")
    check = tp.coordinate_check(readout_from_zero(), X[:1], [1.0], [tp.mup()], **settings)
    assert "nan" not in check.text() and "frozen" not in check.text()
    assert (check.sizes["mup()", "f"][:, 0] == 0).all() and (check.sizes["mup()", "f"][:, 1] > 0).all()
    with pytest.raises(tp.DataError, match="has no exponent: it is 0 at every width"):
        check.exponent(tp.mup(), "f", 0)
    for t in (3, -1, "1"):
        with pytest.raises(tp.DataError, match="t must be a time between 0 and 2"):
            check.exponent(tp.mup(), "f", t)


@pytest.mark.parametrize("make", NETWORKS, ids=ids)
def test_kernels_by_sampling_know_the_start(make):
    for kernel in (tp.nngp, tp.ntk):
        exact, sampled = kernel(make())(X[:2]), kernel(make(), method="sampling", samples=2**14)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", tp.AccuracyWarning)
            account = sampled.account(X[:2])
        assert (np.abs(account.value - exact) <= 6 * account.error + 1e-9).all()
