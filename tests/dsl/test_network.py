"""Networks: hyperparameters, parameters shared by name, vectors and sequences, outputs."""

import re

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.ir.instructions import InitMatrix, InitVector


@tp.network
def mlp(net, x, *, depth=2, phi=tp.tanh, sigma_w=1, sigma_b=0, sigma_v=1):
    h = net.embed("U", x, std=sigma_w) + net.bias(("b", 1), std=sigma_b)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), phi(h), std=sigma_w) + net.bias(("b", l), std=sigma_b)
    return net.readout("V", phi(h), std=sigma_v)


@tp.network
def rnn(net, x, *, sigma_h=1):
    h = net.state("h0", std=sigma_h)
    for x_t in x:
        h = tp.tanh(net.dense("W", h) + net.embed("U", x_t))
    return net.readout("V", h)


def build(body):
    """The network whose body is this function of (net, x)."""
    return tp.network(lambda net, x: body(net, x))()


# ---- hyperparameters -----------------------------------------------------------------------------------


def test_hyperparameters_have_defaults_and_are_shown():
    assert repr(mlp(depth=3)) == "mlp(depth=3, phi=tanh, sigma_w=1, sigma_b=0, sigma_v=1)"
    assert mlp().hyperparameters["depth"] == 2


@pytest.mark.parametrize("wrong, near", [("sigma_q", "sigma_"), ("dpeth", "depth"), ("Phi", "phi")])
def test_an_unknown_hyperparameter_suggests_the_nearest(wrong, near):
    with pytest.raises(ProgramError, match=rf"mlp has no hyperparameter '{wrong}'; did you mean '{near}"):
        mlp(**{wrong: 1})


def test_a_missing_hyperparameter_is_named():
    @tp.network
    def needy(net, x, *, width_ratio, phi=tp.relu):
        return net.readout("V", phi(net.embed("U", x)))

    with pytest.raises(ProgramError, match="needy needs a value for width_ratio"):
        needy()


def test_symbols_are_hyperparameters():
    s = sp.Symbol("sigma_w", positive=True)
    t = mlp(sigma_w=s).trace([None])
    assert t.parameters["W2"].std == s
    assert t.program.op(t.program.named("W2")) == InitMatrix(s**2)


# ---- tracing -------------------------------------------------------------------------------------------


def test_parameters_are_shared_by_name_between_inputs():
    t = mlp(sigma_b=1, depth=3).trace([None] * 3)
    assert {k: p.kind for k, p in t.parameters.items()} == {
        "U": "embedding", "b1": "bias", "W2": "matrix", "b2": "bias", "W3": "matrix", "b3": "bias", "V": "readout",
    }  # fmt: skip
    assert sum(isinstance(op, InitMatrix) for _, op in t.program) == 2
    assert len(t.embeddings) == 3 and len(t.outputs) == 3


def test_embeddings_of_two_inputs_have_the_covariance_of_their_inner_product():
    t = mlp(sigma_w=2).trace([None, None])
    first, second = t.embeddings
    lim = tp.limit(t.program)
    assert lim.cov(first, second) == 4 * t.gram(t.inputs[0][0], t.inputs[1][0])
    assert lim.cov(second, second) == 4 * t.gram(t.inputs[1][0], t.inputs[1][0])


def test_inner_products_of_the_data_are_made_when_they_are_asked_for():
    t = rnn(sigma_h=1).trace([30, 30])
    assert not t.grams
    derived = [len(tp.ntk(rnn(sigma_h=1), lengths=(T, T))._derive().trace.grams) for T in (5, 10, 20)]
    assert derived[2] - derived[1] == 2 * (derived[1] - derived[0])


def test_the_covariances_of_embedded_data_are_pairs_like_those_written_by_hand():
    t = mlp(sigma_w=2).trace([None, None])
    (first, second), (a, b) = t.embeddings, (data[0] for data in t.inputs)
    op = t.program.op(second)
    pairs = ((first, 4 * t.gram(a, b)), (second, 4 * t.gram(b, b)))
    assert op == InitVector(sp.S.Zero, pairs) and hash(op) == hash(InitVector(sp.S.Zero, pairs))
    assert op.covariance(first) == t.covariance(first, second) == pairs[0][1]
    assert op.covariance(t.program.named("V")) == 0 and len(op.cov) == 2
    assert str(pairs) in str(t.program)
    assert tp.Program.from_json(t.program.to_json()).op(second) == op


def test_the_same_embedding_twice_is_one_vector():
    t = build(lambda net, x: net.readout("V", net.embed("U", x) + net.embed("U", x))).trace([None])
    assert len(t.embeddings) == 1


def test_a_matrix_can_be_used_transposed():
    def tied(net, x):
        W = net.weight("W", std=2)
        return net.readout("V", W.T @ tp.relu(W @ net.embed("U", x)))

    t = build(tied).trace([None])
    assert t.parameters["W"].std == 2 and sum(isinstance(op, InitMatrix) for _, op in t.program) == 1


@pytest.mark.parametrize("std", [0, 0.0, sp.S.Zero])
def test_a_bias_of_std_zero_is_no_parameter(std):
    t = mlp(sigma_b=std).trace([None, None])
    assert not [k for k, p in t.parameters.items() if p.kind == "bias"]
    assert list(t.program) == list(mlp().trace([None, None]).program)


def test_a_state_is_one_vector_per_input_and_untrained():
    t = rnn(sigma_h=2).trace([2, 3])
    assert set(t.states.values()) == {"h0"} and len(t.states) == 2
    a, b = t.states
    lim = tp.limit(t.program)
    assert lim.cov(a, a) == 4 and lim.cov(a, b) == 0 and "h0" not in t.parameters


def test_outputs_add_up():
    t = build(lambda net, x: sum(net.readout(("V", i), net.embed(("U", i), x), bias=1) for i in (1, 2))).trace([None])
    assert [r.name for r in t.outputs[0].readouts] == ["V1", "V2"]
    assert [name for name, _ in t.outputs[0].biases] == ["V1.bias", "V2.bias"]


def test_an_average_reads_the_constant_vector():
    t = build(lambda net, x: net.average(net.embed("U", x), scale=3)).trace([None, None])
    (readout,) = t.outputs[0].readouts
    assert not readout.trained and readout.std == 3 and not t.passes_gia_check
    assert t.program.op(readout.v) == InitVector(sp.S.One, ())
    assert mlp().trace([None]).passes_gia_check


def test_reading_the_readout_vector_in_the_body_fails_the_gia_check():
    def weird(net, x):
        h = net.embed("U", x)
        out = net.readout("V", h)
        v = tp.dsl.program.Vec(net._trace.program, out.readouts[0].v)
        return net.readout("V", h + v)

    assert not build(weird).trace([None]).passes_gia_check


@pytest.mark.parametrize("key, name", [("W", "W"), (("W", 2), "W2"), (("W", 1, 3), "W1_3")])
def test_keys_are_strings_or_a_string_and_integers(key, name):
    t = build(lambda net, x: net.readout(key, net.embed("U", x))).trace([None])
    assert name in t.parameters


# ---- vectors and sequences -----------------------------------------------------------------------------


def test_sequences_are_found_by_tracing():
    assert rnn().takes_sequences and not mlp().takes_sequences


@pytest.mark.parametrize("read", [
    lambda x: list(x), lambda x: x[0], lambda x: x[-1], lambda x: len(x), lambda x: list(enumerate(x)),
    lambda x: list(zip(x, x, strict=True)), lambda x: x[1:],
])  # fmt: skip
def test_every_way_to_read_a_sequence_is_one(read):
    def body(net, x):
        read(x)
        return net.readout("V", net.embed("U", x[0]))

    assert build(body).takes_sequences


def test_inputs_of_different_lengths_share_parameters():
    t = rnn().trace([1, 3])
    assert [len(data) for data in t.inputs] == [1, 3] and len(t.embeddings) == 4
    assert [str(d) for d in t.inputs[1]] == ["x'1", "x'2", "x'3"]


def test_an_empty_sequence_is_refused():
    with pytest.raises(ProgramError, match="input x' is an empty sequence"):
        rnn().trace([1, 0])
    with pytest.raises(ProgramError, match="at least 1"):
        rnn().trace([-1])


def test_a_vector_given_to_a_sequence_network_is_refused():
    with pytest.raises(ProgramError, match=r"iterates over its input x: give sequences, of shape \(T, d\)"):
        rnn().trace([None])


def test_a_sequence_given_to_a_vector_network_is_refused():
    with pytest.raises(ProgramError, match="for x_t in x"):
        mlp().trace([3])


# ---- mistakes in an architecture -----------------------------------------------------------------------

MISTAKES = {
    "returns nothing": (lambda net, x: None, "must return net.readout.*got None"),
    "returns a vector": (lambda net, x: net.embed("U", x), r"must return net.readout.*got U\(x\)"),
    "returns a number": (lambda net, x: 1.0, "must return net.readout.*got 1.0"),
    "returns a list": (lambda net, x: [net.readout("V", net.embed("U", x))], "must return net.readout"),
    "returns the class": (lambda net, x: net.readout, "must return net.readout"),
    "reads out a number": (lambda net, x: net.readout("V", 3), "readout 'V' takes a vector.*int 3"),
    "averages a number": (lambda net, x: net.average(3), "'average' takes a vector"),
    "embeds a vector": (lambda net, x: net.embed("U", net.embed("U", x)), "embed.'U'.*input vector, got Vec"),
    "embeds a number": (lambda net, x: net.embed("U", 1.0), "input vector, got float 1.0"),
    "dense of the input": (lambda net, x: net.dense("W", x), "multiplies a vector.*Datum"),
    "another std": (
        lambda net, x: net.dense("W", net.dense("W", net.embed("U", x), std=1), std=2),
        "'W' is shared, but its std is 1 .* and 2 "),
    "another kind": (lambda net, x: net.dense("U", net.embed("U", x)), "'U' is an? embedding and cannot .* a matrix"),
    "bias as readout": (lambda net, x: net.readout("b", net.embed("U", x) + net.bias("b")), "'b' is a bias.*readout"),
    "two keys of one name": (
        lambda net, x: net.dense("W1", net.embed(("W", 1), x)), "'W1' is an? embedding and cannot be .* a matrix"),
    "negative std": (lambda net, x: net.embed("U", x, std=-1), "std of 'U' is -1; .*cannot be negative"),
    "infinite std": (lambda net, x: net.embed("U", x, std=float("inf")), "std of 'U' is inf"),
    "NaN std": (lambda net, x: net.bias("b", std=float("nan")), "std of 'b' is nan"),
    "text as std": (lambda net, x: net.weight("W", std="1"), "std of 'W' must be a number"),
    "a key of another type": (lambda net, x: net.embed(3, x), "named by a string or by .*got 3"),
    "an empty key": (lambda net, x: net.embed("", x), "named by a string"),
    "a key without name": (lambda net, x: net.embed((1, "U"), x), "named by a string"),
    "output plus vector": (
        lambda net, x: net.readout("V", net.embed("U", x)) + net.embed("U", x), "outputs can be added to outputs only"),
}  # fmt: skip


@pytest.mark.parametrize("case", MISTAKES)
def test_mistakes_are_named_when_the_network_is_traced(case):
    body, message = MISTAKES[case]
    with pytest.raises(ProgramError) as caught:
        build(body).trace([None])
    assert re.search(message, str(caught.value))


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
def test_mistakes_surface_through_kernels(kernel):
    with pytest.raises(ProgramError, match=r"must return net\.readout"):
        kernel(build(lambda net, x: None))(np.ones((2, 3)))


def test_errors_of_the_user_s_own_code_pass_through():
    def broken(net, x):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        build(broken).trace([None])
