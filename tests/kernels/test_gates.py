"""Gated networks: untied ones against their recursion written in NumPy, tied ones against simulation."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.errors import ProgramError
from tests.gates import gru, lstm

X = np.random.default_rng(3).standard_normal((2, 4, 2))
W, U, B, V = 1.4, 0.9, 0.5, 1.1


@tp.network
def untied(net, x, *, layer="gru"):
    if layer == "gru":
        states = net.gru("G", x, W, U, B, tied=False, reset="before")
    else:
        states = net.lstm("L", x, W, U, B, tied=False, phi=tp.identity)
    return net.readout("V", states[-1], V)


# ---- by NumPy alone --------------------------------------------------------------------------------

GRID = np.linspace(-9, 9, 181)
WEIGHT = np.exp(-(GRID**2) / 2) * (GRID[1] - GRID[0]) / np.sqrt(2 * np.pi)
SIGMOID = lambda u: 1 / (1 + np.exp(-u))  # noqa: E731
D_SIGMOID = lambda u: SIGMOID(u) * SIGMOID(-u)  # noqa: E731
D_TANH = lambda u: 1 - np.tanh(u) ** 2  # noqa: E731


def mean(f, q):
    """E f(u) f(v) of (u, v) ~ N(0, [[q0, q1], [q1, q2]]), by sums over a grid of two independent Gaussians."""
    a, c = np.sqrt(q[0]), q[1] / np.sqrt(q[0])
    b = np.sqrt(max(q[2] - c * c, 0))
    return np.einsum("i,j,i,ij->", WEIGHT, WEIGHT, f(a * GRID), f(c * GRID[:, None] + b * GRID))


def means(f, q):
    """The same of (x, x), (x, x') and (x', x')."""
    return np.array([mean(f, (q[0], q[0], q[0])), mean(f, q), mean(f, (q[2], q[2], q[2]))])


def data(x, y):
    """⟨x_t, x_t⟩, ⟨x_t, y_t⟩, ⟨y_t, y_t⟩, scaled, with the biases."""
    return np.array([[U**2 * a @ b / len(a) + B**2 for a, b in ((p, p), (p, q), (q, q))]
                     for p, q in zip(x, y, strict=True)])  # fmt: skip


def gru_by_hand(x, y):
    """K_t = S(K_{t-1}) (T(Σ_n) + K_{t-1}), and the gradients of the four pre-activations of every time back again."""
    given, K, steps = data(x, y), np.zeros(3), []
    for c in given:
        gates = W**2 * K + c
        S = means(SIGMOID, gates)
        new = W**2 * S * K + c
        steps.append((K, gates, new))
        K = S * (means(np.tanh, new) + K)
    theta, D = V**2 * K[1], V**2
    for before, gates, new in reversed(steps):
        S, dS = (mean(f, gates) for f in (SIGMOID, D_SIGMOID))
        dz = dS * (before[1] + mean(np.tanh, new)) * D
        dn = S * mean(D_TANH, new) * D
        dr = dS * before[1] * W**2 * dn
        theta += (dz + dr) * gates[1] + dn * new[1]
        D = S * D + W**2 * (dz + dr + S * dn)
    return V**2 * K[1], theta


def lstm_by_hand(x, y):
    """C_t = S C_{t-1} + S T and K_t = S C_t, with four gates of equal law; A_t = E dc dc'."""
    given, K, C, steps = data(x, y), np.zeros(3), np.zeros(3), []
    for c in given:
        gates = W**2 * K + c
        S, new = means(SIGMOID, gates), means(np.tanh, gates)
        steps.append((C, gates))
        C = S * (C + new)
        K = S * C
    theta, D, carried = V**2 * K[1], V**2, 0.0
    for before, gates in reversed(steps):
        S, dS, new, dnew = (mean(f, gates) for f in (SIGMOID, D_SIGMOID, np.tanh, D_TANH))
        cell = S * (before[1] + new)
        A = S * D + carried
        total = dS * cell * D + (dS * (before[1] + new) + S * dnew) * A
        theta += total * gates[1]
        D, carried = W**2 * total, S * A
    return V**2 * K[1], theta


@pytest.mark.parametrize(("layer", "by_hand"), [("gru", gru_by_hand), ("lstm", lstm_by_hand)])
def test_untied_gates_have_the_kernels_of_their_recursion(layer, by_hand):
    net = untied(layer=layer)
    wanted = np.array([[by_hand(x, y) for y in X] for x in X])
    for k, kind in enumerate((tp.nngp, tp.ntk)):
        kernel = kind(net)
        found = kernel.account(X)
        assert not found.statistical
        np.testing.assert_allclose(found.value, wanted[..., k], rtol=1e-10)
        np.testing.assert_allclose(kernel.gram(X), wanted[..., k], rtol=1e-10)


@pytest.mark.parametrize("length", [12, pytest.param(20, marks=pytest.mark.slow)])
def test_many_untied_steps_are_exact_without_being_asked_to_be(length):
    x = np.random.default_rng(4).standard_normal((2, length, 2))
    found = tp.ntk(untied()).account(x)
    assert not found.statistical
    np.testing.assert_allclose(found.value[0, 1], gru_by_hand(*x)[1], rtol=1e-10)


def test_paths_and_backpropagation_agree_on_independent_gates():
    net = untied()
    np.testing.assert_allclose(tp.ntk(net, method="paths")(X[:, :3]), tp.ntk(net)(X[:, :3]), rtol=1e-10)


# ---- the layers ------------------------------------------------------------------------------------


@tp.network
def of(net, x, *, build=None):
    return net.readout("V", build(net, x))


def test_one_step_is_the_gate_by_hand():
    """At the first time there is no state: h = σ(−z) tanh(n) with z and n of variance ⟨x,x⟩ + b²."""
    one = of(build=lambda net, x: net.gru("G", x, 1, U, B, reset="before")[0])
    x = X[:1, :1]
    q = np.full(3, U**2 * x[0, 0] @ x[0, 0] / 2 + B**2)
    np.testing.assert_allclose(tp.nngp(one)(x), mean(SIGMOID, q) * mean(np.tanh, q), rtol=1e-12)


def test_a_reset_after_the_matrix_acts_on_its_bias_too():
    """At the first time n = tanh(a + σ(r) c), with c the bias behind the reset, unless there are no biases."""
    with_bias = of(build=lambda net, x: net.gru("G", x, 1, U, B)[0]).trace([1]).parameters
    without = of(build=lambda net, x: net.gru("G", x, 1, U)[0]).trace([1]).parameters
    assert "cGn" in with_bias and not any(name.startswith(("b", "c", "UGr")) for name in without)


def test_reading_backwards_is_reading_the_reversed_sequence():
    forth = of(build=lambda net, x: net.lstm("L", x, W, U, B, tied=False, phi=tp.identity)[-1])
    back = of(build=lambda net, x: net.lstm("L", x, W, U, B, tied=False, phi=tp.identity, reverse=True)[0])
    np.testing.assert_allclose(tp.ntk(back)(X[:, :2]), tp.ntk(forth)(X[:, 1::-1]), rtol=1e-12)


def test_steps_one_by_one_are_the_loop():
    def steps(net, x):
        state = net.gru("G", x[:1], reset="before")[0]
        return net.gru("G", x[1:], reset="before", start=state)[-1]

    whole = of(build=lambda net, x: net.gru("G", x, reset="before")[-1])
    np.testing.assert_allclose(tp.nngp(of(build=steps))(X[:1, :2]), tp.nngp(whole)(X[:1, :2]), rtol=1e-12)


def test_a_start_of_the_lstm_is_a_state_and_a_cell():
    started = of(build=lambda net, x: net.lstm("L", x, phi=tp.identity, start=(net.state("h"), net.state("c")))[-1])
    q = np.array([1 + X[0, 0] @ X[0, 0] / 2] * 3)  # K = S (S · 1 + S T)
    wanted = mean(SIGMOID, q) ** 2 * (1 + mean(np.tanh, q))
    np.testing.assert_allclose(tp.nngp(started)(X[:1, :1]), wanted, rtol=1e-12)


def test_a_gated_linear_unit_multiplies_kernels():
    """E φ(g)φ(g') E v v', and in the NTK each factor by the kernel of the other."""
    x = X[:, 0]
    unit = of(build=lambda net, x: net.glu("W", x, tp.tanh, std=W, std_g=U, bias=B))
    grams = [x[i] @ x[j] / 2 for i, j in ((0, 0), (0, 1), (1, 1))]
    g, v = (np.array([s**2 * q + B**2 for q in grams]) for s in (U, W))
    product = mean(np.tanh, g) * v[1]
    np.testing.assert_allclose(tp.nngp(unit)(x)[0, 1], product, rtol=1e-12)
    np.testing.assert_allclose(tp.ntk(unit)(x)[0, 1], 2 * product + mean(D_TANH, g) * g[1] * v[1], rtol=1e-12)


def test_squeeze_and_excitation_multiplies_by_the_gate_of_the_average():
    """z[p] σ(E φ(S z̄)): the gate has covariance V_φ of that of the average, and is independent of z."""

    def build(net, x):
        return net.global_pool(net.squeeze_excite("S", net.embed("U", x), tp.tanh))

    average = X.mean(axis=1)
    q = np.array([average[i] @ average[j] / 2 for i, j in ((0, 0), (0, 1), (1, 1))])
    wanted = q[1] * mean(SIGMOID, means(np.tanh, q))
    np.testing.assert_allclose(tp.nngp(of(build=build))(X)[0, 1], wanted, rtol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
def test_scores_are_normalised_over_what_is_read(causal):
    def build(net, x):
        h = net.embed("U", x)
        a = net.normalised(net.scores(h, h), causal)
        return net.global_pool(net.weighted(a, net.dense("A", h)))

    x, read = np.abs(X), []
    for one in x:
        s = one @ one.T / 2
        s = np.tril(s) if causal else s
        read.append((s / s.sum(axis=1, keepdims=True)).mean(axis=0) @ one)
    np.testing.assert_allclose(tp.nngp(of(build=build))(x), np.array(read) @ np.array(read).T / 2, rtol=1e-12)


def test_a_recurrent_layer_is_the_recurrent_network_of_the_gallery():
    layer = of(build=lambda net, x: net.rnn("R", x, tp.relu, W, U, B)[-1])
    gallery = tp.programs.rnn(phi=tp.relu, sigma_w=W, sigma_u=U, sigma_b=B)
    np.testing.assert_allclose(tp.ntk(layer)(X), tp.ntk(gallery)(X), rtol=1e-13)


def test_equations_of_gates_are_named_by_their_letters():
    names = {str(e.lhs) for e in tp.nngp(untied(), lengths=(2, 2)).equations}
    assert {"Σ_Gn^(1,1)(x,x')", "Σ_Gn^(2,2)(x,x')", "E_Gh^(1,1)(x,x')", "E_Gr^(2,2)(x,x')"} <= names
    assert not any("." in name for name in names)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda net, x: net.gru("G", x, reset="never")[-1], "reset must be 'after' the matrix or 'before' it"),
        (lambda net, x: net.gru("G", net.embed("E", x[0]))[-1], "reads a sequence"),
        (lambda net, x: net.gru("G", [])[-1], "reads a sequence"),
        (lambda net, x: net.gru("G", x, tied=1)[-1], "tied must be True or False"),
        (lambda net, x: net.lstm("L", x, reverse="yes")[-1], "reverse must be True or False"),
        (lambda net, x: net.gru("G", x, start=0)[-1], "start of 'G' is a vector"),
        (lambda net, x: net.lstm("L", x, start=net.state("h"))[-1], "start of lstm is a pair"),
        (lambda net, x: net.lstm("L", x, phi="tanh")[-1], "phi of lstm is a function"),
        (lambda net, x: net.gru("G", x, std=-1)[-1], "cannot be negative"),
        (lambda net, x: net.rnn("R", x, phi="tanh")[-1], "phi of rnn is a function"),
        (lambda net, x: net.glu("W", x[0], phi="silu"), "phi of glu is a function"),
    ],
)
def test_what_is_no_gated_layer_is_refused(build, words):
    with pytest.raises(ProgramError, match=words):
        of(build=build).trace([2])


# ---- tied weights ----------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("net", [gru(), lstm()], ids=["gru", "lstm"])
def test_tied_gates_are_those_of_simulation_at_width_4096(net):
    S = np.random.default_rng(5).standard_normal((2, 5, 3))
    limit = tp.ntk(net, rtol=1e-3).account(S)
    found = np.array([tp.empirical_ntk(net, S, width=4096, seed=s) for s in range(16)])
    error = np.hypot(found.std(axis=0, ddof=1) / 4, limit.error)
    assert (np.abs(found.mean(axis=0) - limit.value) < 4 * error + 2 / 4096 * limit.value.max()).all()
