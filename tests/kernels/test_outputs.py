"""Kernels of networks with several outputs, and of chosen parameters: all of them, or refused by name."""

import pickle

import numpy as np
import pytest

import tensorprog as tp

X = np.array([[1.0, 0.0], [0.6, 0.8], [-0.3, 1.1]]) * 2**0.5
SEQUENCES = np.random.default_rng(0).standard_normal((3, 2, 2))


@tp.network
def pair(net, x, *, shared=False):
    """Two outputs, with readouts of their own or one in common."""
    h = net.embed("U", x)
    return net.readout("V", tp.relu(h)), net.readout("V" if shared else "V2", tp.tanh(h))


@tp.network
def every_time(net, x):
    """One output for each time, from a random initial state of each input."""
    h, outputs = net.state("h0"), []
    for x_t in x:
        h = tp.tanh(net.dense("W", h) + net.embed("U", x_t))
        outputs.append(net.readout("V", h))
    return tuple(outputs)


def alone(net, k):
    def one(n, x):
        return net.fn(n, x, **net.hyperparameters)[k]

    return tp.network(one)()


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp], ids=["ntk", "nngp"])
def test_outputs_with_their_own_readouts_have_kernels_of_their_own_and_zero_between(kernel):
    found = kernel(pair())(X)
    assert found.shape == (3, 3, 2, 2)
    for k in (0, 1):
        assert np.array_equal(found[:, :, k, k], kernel(alone(pair(), k))(X))
    assert not found[:, :, 0, 1].any() and not found[:, :, 1, 0].any()


def test_the_nngp_between_outputs_of_one_readout_is_the_covariance_of_what_it_reads():
    found = tp.nngp(pair(shared=True))(X)
    n, rng = 2**21, np.random.default_rng(0)
    u = rng.standard_normal((n, 2)) @ X.T / 2**0.5
    expected = np.maximum(u, 0).T @ np.tanh(u) / n
    assert np.abs(found[:, :, 0, 1] - expected).max() < 5e-3
    assert np.array_equal(found[:, :, 1, 0], found[:, :, 0, 1].T)


@pytest.mark.parametrize("net", [pair(), pair(shared=True), every_time()], ids=["own", "shared", "times"])
def test_finite_networks_have_the_kernel_between_their_outputs(net):
    inputs = SEQUENCES if net.takes_sequences else X
    K = tp.ntk(net, lengths=(2, 2) if net.takes_sequences else None)(inputs)
    runs = tp.empirical_ntk(net, inputs, width=2048, seeds=12)
    assert K.shape == runs.shape[1:] == (3, 3, 2, 2)
    error = runs.std(axis=0, ddof=1) / 12**0.5
    assert (np.abs(runs.mean(axis=0) - K) <= 5 * error + 3 / 2048).all()
    two = tp.empirical_ntk(net, inputs, inputs, width=64, seed=3)
    one = tp.empirical_ntk(net, inputs, width=64, seed=3)
    if not net.takes_sequences:  # inputs given twice have two initial states
        assert np.allclose(two, one, rtol=1e-12, atol=1e-12)
    assert np.allclose(one, one.transpose(1, 0, 3, 2), rtol=1e-12)


def test_a_second_set_of_inputs_gives_the_same_entries():
    net = pair(shared=True)
    K = tp.ntk(net)
    assert np.allclose(K(X, X[:2]), K(X)[:, :2], rtol=1e-7, atol=1e-12)


def test_outputs_whose_number_depends_on_the_length_are_not_mixed_up():
    net, ragged = every_time(), [SEQUENCES[0], SEQUENCES[1][:1]]
    with pytest.raises(tp.ProgramError, match=r"has 2 outputs for length 2 and 3 for length 3: give lengths=\(2, 2\)"):
        tp.ntk(net)(SEQUENCES)
    for call in (lambda: tp.empirical_ntk(net, ragged, width=8), lambda: tp.verify(net, ragged, (8, 16), 2)):
        with pytest.raises(tp.ProgramError, match="1 for length 1, 2 for length 2: choose some, outputs=0"):
            call()
    assert tp.ntk(net, outputs=0)(ragged).shape == tp.empirical_ntk(net, ragged, width=8, outputs=0).shape == (2, 2)


def test_one_output_is_chosen_by_number():
    net = pair()
    for k in (0, 1):
        expected = tp.ntk(alone(net, k))(X)
        assert np.array_equal(tp.ntk(net, outputs=k)(X), expected)
        assert np.array_equal(tp.ntk(net)[k](X), expected)
        assert tp.ntk(net, outputs=k).gram(X) == pytest.approx(expected, rel=1e-12)
        assert np.array_equal(tp.nngp(net, outputs=k)(X), tp.nngp(alone(net, k))(X))
        assert tp.empirical_ntk(net, X, width=16, outputs=k).shape == (3, 3)
    copy = pickle.loads(pickle.dumps(tp.ntk(net, outputs=1).net))
    assert repr(copy) == "output 1 of pair(shared=False)"


def test_what_is_for_one_output_says_how_to_choose_it():
    K = tp.ntk(pair())
    for call in (lambda: K.gram(X), K.recursion, K._derive):
        with pytest.raises(tp.ProgramError, match=r"several outputs.*tp\.ntk\(net, outputs=0\)"):
            call()
    for wrong in (2, -1, True, "x", [0, 5]):
        with pytest.raises(tp.ProgramError, match="pair has 2 outputs, numbers 0 to 1"):
            tp.ntk(pair(), outputs=wrong)
    with pytest.raises(tp.ProgramError, match="different outputs"):
        tp.nngp(pair(), outputs=[0, 0])
    with pytest.raises(tp.ProgramError, match="has one output, number 0"):
        tp.ntk(tp.programs.mlp(), outputs=1)


def test_the_text_holds_every_output_and_says_which_are_independent():
    text = tp.ntk(pair()).text()
    assert "output 0 of pair" in text and "output 1 of pair" in text
    assert "the kernel between outputs 0 and 1 is 0" in text
    assert "is not 0" in tp.ntk(pair(shared=True)).text()


# ---- chosen parameters ---------------------------------------------------------------------------

METHODS = ["backprop", "paths", "sgd", "enumeration"]
BIASED = tp.programs.mlp(depth=2, phi=tp.erf, sigma_w=1.3, sigma_b=0.7, sigma_v=0.9)
PARTS = {"U": ["U"], "W": ["matrix"], "b": ["bias"], "V": ["readout"]}


def test_the_kernel_of_the_embedding_alone_has_a_closed_form():
    """⟨x,x'⟩ E φ'φ' = 4/π ⟨x,x'⟩/√((1 + 2q)(1 + 2q') − 4c²) for one layer of erf."""
    net, G = tp.programs.mlp(depth=1, phi=tp.erf, sigma_w=1, sigma_b=0), X @ X.T / 2
    q = 1 + 2 * np.diag(G)
    expected = 4 / np.pi * G / np.sqrt(np.outer(q, q) - 4 * G**2)
    for method in METHODS:
        assert tp.ntk(net, method, trainable=["U"])(X) == pytest.approx(expected, rel=1e-12)
    assert tp.ntk(net, trainable=["U"]).gram(X) == pytest.approx(expected, rel=1e-12)
    assert np.allclose(tp.ntk(net, trainable=["V"])(X), tp.nngp(net)(X), rtol=1e-14)


@pytest.mark.parametrize("method", METHODS)
def test_the_ntk_is_the_sum_over_parameters_with_their_rates(method):
    parts = {name: tp.ntk(BIASED, method, trainable=kinds)(X) for name, kinds in PARTS.items()}
    assert tp.ntk(BIASED, method)(X) == pytest.approx(sum(parts.values()), rel=1e-12)
    rates = {"U": 3, "matrix": 0.5, "bias": 0, "V": 2}
    expected = 3 * parts["U"] + 0.5 * parts["W"] + 2 * parts["V"]
    assert tp.ntk(BIASED, method, rates=rates)(X) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_standard_parametrization_names_whether_w_or_its_multiple_is_trained(method):
    parts = {name: tp.ntk(BIASED, method, trainable=kinds)(X) for name, kinds in PARTS.items()}
    small, large = (tp.ntk(BIASED, method, parametrization=tp.standard(1, t))(X) for t in ("w", "W"))
    assert small == pytest.approx(parts["W"] + parts["V"], rel=1e-12)  # at the rate η/n the others stand still
    assert large == pytest.approx(parts["W"] / 1.3**2 + parts["V"] / 0.9**2, rel=1e-12)


def test_unknown_parameters_and_parametrizations_without_a_kernel_are_refused():
    for options in ({"trainable": ["W9"]}, {"rates": {"W9": 2}}):
        with pytest.raises(tp.ProgramError, match=f"{next(iter(options))} names the unknown parameter 'W9'"):
            tp.ntk(BIASED, **options)
    with pytest.raises(tp.ProgramError, match="rates must be a mapping"):
        tp.ntk(BIASED, rates=[1, 2])
    with pytest.raises(tp.ProgramError, match="the rate of 'V' must not be negative"):
        tp.ntk(BIASED, rates={"V": -1})
    with pytest.raises(tp.AssumptionError, match="learns features, which no fixed kernel describes"):
        tp.ntk(BIASED, parametrization=tp.mup())
    with pytest.raises(tp.ProgramError, match="trained is 'w'"):
        tp.standard(1, trained="x")


def test_sampling_knows_what_is_trained_and_which_output_is_meant():
    options = {"method": "sampling", "samples": 2**15}
    for chosen in ({"trainable": ["matrix", "V"]}, {"rates": {"U": 3, "bias": 0}}):
        found = tp.ntk(BIASED, **options, **chosen).account(X)
        assert (np.abs(found.value - tp.ntk(BIASED, **chosen)(X)) <= 5 * found.error).all()
    found = tp.ntk(pair(), outputs=1, **options).account(X)
    assert (np.abs(found.value - tp.ntk(alone(pair(), 1))(X)) <= 5 * found.error).all()
