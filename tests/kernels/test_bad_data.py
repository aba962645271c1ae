"""Bad data and bad questions: the right error, naming what is wrong, before any number comes out."""

import re

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.errors import DataError, NoRuleError, ProgramError
from tensorprog.ir.hyper import symbol_values

S = sp.Symbol("sigma_w", positive=True)
PHI = tp.abstract("phi")


def vectors(**hyperparameters):
    return tp.programs.mlp(depth=2, phi=tp.relu, **hyperparameters)


def sequences(**hyperparameters):
    return tp.programs.rnn(phi=tp.relu, **hyperparameters)


def gram(net, *args, **kwargs):
    return tp.ntk(net)(*args, **kwargs)


def empirical(net, *args, **kwargs):
    return tp.empirical_ntk(net, *args, width=8, **kwargs)


WAYS = pytest.mark.parametrize("compute", [gram, lambda net, *a, **k: tp.nngp(net)(*a, **k), empirical],
                               ids=["ntk", "nngp", "empirical"])  # fmt: skip
GOOD = np.ones((2, 3))
GOOD_SEQUENCES = np.ones((2, 4, 3))


def bad(x, at, value):
    x = np.array(x, dtype=float)
    x[at] = value
    return x


BAD_VECTORS = {
    "NaN": (bad(GOOD, (1, 2), np.nan), r"X1 has the value nan at index \(1, 2\)"),
    "infinite": (bad(GOOD, (0, 1), -np.inf), r"X1 has the value -inf at index \(0, 1\)"),
    "one vector": (np.ones(3), r"X1 must have shape \(N, d\), got \(3,\)"),
    "a number": (1.0, r"X1 must have shape \(N, d\), got \(\)"),
    "sequences": (GOOD_SEQUENCES, r"X1 must have shape \(N, d\), got \(2, 4, 3\).*single vectors"),
    "no inputs": (np.ones((0, 3)), r"X1 holds no inputs \(shape \(0, 3\)\)"),
    "an empty list": ([], r"X1 must have shape \(N, d\), got \(0,\)"),
    "no features": (np.ones((2, 0)), "X1 has feature dimension 0"),
    "text": ("data", "X1 must hold real numbers, got dtype <U4"),
    "a masked array": (np.ma.array(GOOD, mask=GOOD * [0, 0, 1]), r"X1 is a masked array whose entry \(0, 2\)"),
    "a masked row": ([np.ones(3), np.ma.array(np.ones(3), mask=[0, 1, 0])], r"X1 is a masked array .* \(1, 1\)"),
    "a list of text": ([["1", "2"]], "X1 must hold real numbers"),
    "objects": (np.array([[1, None]], dtype=object), "X1 must hold real numbers, got dtype object"),
    "numbers as objects": (np.array([[1, 2]], dtype=object), "X1 must hold real numbers, got dtype object"),
    "None": (None, "X1 must hold real numbers"),
    "a dict": ({"a": 1}, "X1 must hold real numbers"),
    "symbols": ([[S, 1]], "X1 must hold real numbers"),
    "complex": (np.ones((2, 3)) * 1j, "X1 must hold real numbers, got dtype complex128"),
    "dates": (np.array([["2020-01-01"]], dtype="datetime64[D]"), "X1 must hold real numbers"),
    "ragged": ([[1.0, 2.0], [3.0]], "the rows of an array have one length"),
}  # fmt: skip
BAD_SEQUENCES = {
    "NaN": (bad(GOOD_SEQUENCES, (1, 2, 0), np.nan), r"X1 has the value nan at index \(1, 2, 0\)"),
    "NaN in a list": ([GOOD, bad(GOOD, (1, 2), np.nan)], r"X1\[1\] has the value nan at index \(1, 2\)"),
    "infinite": (bad(GOOD_SEQUENCES, (0, 0, 0), np.inf), "X1 has the value inf"),
    "vectors": (GOOD, r"X1 must have shape \(N, T, d\) or be a list.*got \(2, 3\).*takes sequences"),
    "a list of vectors": ([[1.0, 2.0]], r"X1\[0\] must have shape \(T, d\), got \(2,\)"),
    "a number": (1.0, r"X1 must have shape \(N, T, d\)"),
    "no inputs": (np.ones((0, 4, 3)), "X1 holds no inputs"),
    "an empty list": ([], "X1 holds no inputs"),
    "empty sequences": (np.ones((2, 0, 3)), "X1 is an empty sequence"),
    "one empty sequence": ([GOOD, np.ones((0, 3))], r"X1\[1\] is an empty sequence"),
    "no features": (np.ones((2, 4, 0)), "X1 has feature dimension 0"),
    "features differ": ([GOOD, np.ones((2, 4))], r"X1\[1\] has feature dimension 4, X1\[0\] has 3"),
    "text": ("data", r"X1 must hold real numbers, got dtype <U4"),
    "a masked array": (np.ma.array(GOOD, mask=GOOD * [0, 0, 1]), r"X1 is a masked array whose entry \(0, 2\)"),
    "a masked sequence": ([GOOD, np.ma.array(GOOD, mask=GOOD * [0, 1, 0])], r"X1\[1\] is a masked array .* \(0, 1\)"),
    "a list of text": (["data"], r"X1\[0\] must hold real numbers"),
    "objects": ([np.array([[None]], dtype=object)], r"X1\[0\] must hold real numbers"),
    "ragged inside": ([[[1.0, 2.0], [3.0]]], "the rows of an array have one length"),
}  # fmt: skip


@WAYS
@pytest.mark.parametrize("case", BAD_VECTORS)
def test_bad_vectors_are_refused(compute, case):
    x, message = BAD_VECTORS[case]
    with pytest.raises(DataError, match=message):
        compute(vectors(), x)


@WAYS
@pytest.mark.parametrize("case", BAD_SEQUENCES)
def test_bad_sequences_are_refused(compute, case):
    x, message = BAD_SEQUENCES[case]
    with pytest.raises(DataError, match=message):
        compute(sequences(), x)


@WAYS
def test_the_second_argument_is_checked_by_its_own_name(compute):
    with pytest.raises(DataError, match=r"X2 has the value nan at index \(1, 2\)"):
        compute(vectors(), GOOD, bad(GOOD, (1, 2), np.nan))
    with pytest.raises(DataError, match="X2 holds no inputs"):
        compute(sequences(), GOOD_SEQUENCES, [])


@WAYS
@pytest.mark.parametrize("net, x1, x2", [
    (vectors(), GOOD, np.ones((2, 4))), (sequences(), GOOD_SEQUENCES, np.ones((2, 4, 5))),
    (sequences(), [GOOD], [np.ones((2, 4))]),
], ids=["vectors", "sequences", "lists"])  # fmt: skip
def test_feature_dimensions_must_agree(compute, net, x1, x2):
    with pytest.raises(DataError, match=f"X1 has feature dimension 3 and X2 {np.shape(x2)[-1]}"):
        compute(net, x1, x2)


@pytest.mark.parametrize("x", [*(GOOD.astype(t) for t in (int, bool, np.float32)), GOOD.tolist(), ((1, 1, 1),)])
def test_whole_numbers_flags_and_nested_lists_are_numbers(x):
    K = tp.ntk(vectors())(x)
    assert K.dtype == np.float64
    np.testing.assert_allclose(K, tp.ntk(vectors())(np.ones((len(x), 3))), rtol=1e-15)


def test_inputs_keep_their_order_when_grouped_by_length():
    x = [np.full((t, 2), i, float) for i, t in enumerate([3, 1, 3, 2])]
    inputs = read_inputs(x, "X", "sequences")
    assert inputs.lengths == [3, 1, 3, 2] and len(inputs) == 4
    assert all(np.array_equal(inputs[i], x[i]) for i in range(4))
    with pytest.raises(IndexError):
        inputs[4]


def test_the_data_are_left_alone():
    x = np.array([[1.0, 2.0], [3.0, 4.0]])
    before = x.copy()
    tp.ntk(vectors())(x)
    assert np.array_equal(x, before)


# ---- hyperparameter values -----------------------------------------------------------------------------


@WAYS
def test_a_symbol_without_a_value_is_named(compute):
    with pytest.raises((DataError, NoRuleError), match=r"no value .*sigma_w.*values=\{sigma_w"):
        compute(vectors(sigma_w=S), GOOD)


def test_a_symbol_of_other_assumptions_is_another_symbol():
    with pytest.raises(DataError, match="no value for sigma_w"):
        gram(vectors(sigma_w=S), GOOD, values={sp.Symbol("sigma_w"): 1.0})


@WAYS
@pytest.mark.parametrize("values, message", [
    ({"sigma_v": 1.0}, "'sigma_v', which is no hyperparameter .* 'sigma_w'"),
    ({1: 1.0}, "by sympy symbol, got the key 1"),
    ({2 * S: 1.0}, r"got the key 2\*sigma_w"), ({S: "1.5 m"}, "value of sigma_w must be a number, got '1.5 m'"),
    ({S: None}, "value of sigma_w must be a number, got None"), ({S: [1.0, 2.0]}, "value of sigma_w must be a number"),
    ({S: np.nan}, "value of sigma_w is nan"), ({S: np.inf}, "value of sigma_w is inf"),
    ({S: 1j}, "value of sigma_w must be a number"),
])  # fmt: skip
def test_values_are_finite_numbers_by_symbol(compute, values, message):
    with pytest.raises(DataError, match=message):
        compute(vectors(sigma_w=S), GOOD, values=values)


def test_values_may_be_any_real_number():
    assert symbol_values({S: 2}) == symbol_values({S: np.float32(2)}) == symbol_values({S: sp.Integer(2)}) == {S: 2.0}
    assert symbol_values(None) == symbol_values({}) == {}


# ---- questions that cannot be answered -----------------------------------------------------------------


@pytest.mark.parametrize("method, near", [("backprob", "backprop"), ("path", "paths"), ("Enumeration", "enumeration")])
def test_an_unknown_method_suggests_the_nearest(method, near):
    with pytest.raises(ProgramError, match=f"unknown method '{method}'.*did you mean '{near}'"):
        tp.ntk(vectors(), method=method)


@pytest.mark.parametrize("method", [None, 3, ["paths"]])
def test_a_method_is_a_name(method):
    with pytest.raises(ProgramError, match=f"unknown method {re.escape(repr(method))}"):
        tp.ntk(vectors(), method=method)


@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
def test_lengths_are_for_sequences(kernel):
    with pytest.raises(ProgramError, match=r"mlp takes single vectors; leave out lengths=\(2, 3\)"):
        kernel(vectors(), lengths=(2, 3))


@pytest.mark.parametrize("lengths", [(0, 1), (1, -1), (2,), (1, 2, 3), (1.5, 2), ("2", 2), (None, 2)])
@pytest.mark.parametrize("kernel", [tp.ntk, tp.nngp])
def test_lengths_are_two_positive_integers(kernel, lengths):
    message = f"lengths must be two positive integers (T, T'), got {lengths!r}"
    with pytest.raises(ProgramError, match=re.escape(message)):
        kernel(sequences(), lengths=lengths)


@WAYS
def test_an_abstract_function_has_no_numbers(compute):
    with pytest.raises(NoRuleError, match=r"(phi|φ).*abstract.*tp\.relu"):
        compute(tp.programs.mlp(depth=2, phi=PHI), GOOD)


def test_an_abstract_function_has_formulas():
    assert re.search("phi|φ", str(tp.ntk(tp.programs.mlp(depth=2, phi=PHI)).equations))


def test_a_kernel_too_large_for_floats_is_no_number():
    with np.errstate(over="ignore"), pytest.raises(DataError, match="not finite"):
        gram(tp.programs.deep_linear(depth=2, sigma_w=S), 1e150 * GOOD, values={S: 1e10})


@pytest.mark.parametrize("width", [0, -1, 2.5, "8", True, None])
def test_a_width_is_a_positive_integer(width):
    p = tp.Program()
    p.vector("v")
    with pytest.raises(DataError, match="width must be .*integer"):
        tp.sample(p, width=width)


@tp.network
def relu_derivative(net, x):
    """The derivative in direction e, at a, of a relu network: x = (a, e)."""
    a, e = x
    h, dh = net.embed("U", a), net.embed("U", e)
    z, dz = tp.relu(h), tp.nonlin(lambda u, v: tp.step(u) * v, h, dh)
    return net.readout("V", tp.nonlin(lambda u, v: tp.step(u) * v, net.dense("W", z), net.dense("W", dz)))


def test_the_ntk_of_the_derivative_of_a_relu_network_is_said_to_be_infinite_at_equal_inputs():
    X = np.random.default_rng(1).standard_normal((2, 2, 2))
    with pytest.raises(tp.DataError, match="the derivative of one with relu, is infinite at two inputs that are equal"):
        tp.ntk(relu_derivative(), lengths=(2, 2))(X)
