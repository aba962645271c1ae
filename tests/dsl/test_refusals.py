"""What is no operation on vectors is refused by name, with what to write instead."""

import math
import operator

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.functions import Tanh

VECTOR = {
    "np.mean(h)": (np.mean, "np.mean", "tp.moment(lambda a: a, h)"),
    "np.sum(h)": (np.sum, "np.sum", "tp.moment(lambda a: a, h)"),
    "np.std(h)": (np.std, "np.std", "tp.moment(lambda a: a**2, h)"),
    "np.var(h)": (np.var, "np.var", "tp.moment(lambda a: a**2, h)"),
    "np.max(h)": (np.max, "np.max", "no limit"),
    "np.linalg.norm(h)": (np.linalg.norm, "np.norm", "tp.moment(lambda a: a**2, h)"),
    "np.dot(h, h)": (lambda h: np.dot(h, h), "np.dot", "tp.moment(lambda a, b: a*b"),
    "h @ h": (lambda h: h @ h, "h @ h", "tp.moment(lambda a, b: a*b"),
    "np.tanh(h)": (np.tanh, "np.tanh", "tp.tanh(h)"),
    "np.exp(h)": (np.exp, "np.exp", "tp.exp(h)"),
    "np.log(h)": (np.log, "np.log", "tp.nonlin"),
    "np.maximum(h, 0)": (lambda h: np.maximum(h, 0), "np.maximum", "sp.Max"),
    "np.where(h, 1, 0)": (lambda h: np.where(h, 1, 0), "np.where", "tp.step(h)"),
    "np.add.reduce(h)": (np.add.reduce, "np.add.reduce", "tp.nonlin"),
    "sp.tanh(h)": (sp.tanh, "h is a vector", "tp.nonlin"),
    "math.tanh(h)": (math.tanh, "float(h)", "tp.nonlin"),
    "sum(h)": (sum, "iteration over h", "tp.moment(lambda a: a, h)"),
    "len(h)": (len, "len(h)", "tp.nonlin"),
    "bool(h)": (bool, "bool(h)", "tp.nonlin"),
    "h[0]": (lambda h: h[0], "h[0]", "tp.nonlin"),
    "h > 0": (lambda h: h > 0, "comparison of h with 0", "tp.step"),
    "h.mean()": (lambda h: h.mean(), "h.mean()", "tp.moment(lambda a: a, h)"),
    "h * array": (lambda h: h * np.ones(3), "ndarray", "number"),
    "array * h": (lambda h: np.ones(3) * h, "(3,)", "no number"),
}


@pytest.mark.parametrize("call", VECTOR)
def test_arrays_are_not_vectors(call):
    fn, *said = VECTOR[call]
    with pytest.raises(ProgramError) as error:
        fn(tp.Program().vector("h"))
    assert all(words in str(error.value) for words in said)


FUNCTIONS = {
    "np.tanh": np.tanh, "math.tanh": math.tanh, "np.maximum": lambda a: np.maximum(a, 0), "max": lambda a: max(a, 0),
    "if": lambda a: a if a > 0 else 0,
}  # fmt: skip


@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions_that_sympy_cannot_trace(name):
    with pytest.raises(ProgramError, match=r"cannot be applied to a symbol .* write tp.tanh\(a\)"):
        tp.nonlin(FUNCTIONS[name], tp.Program().vector("h"))


@pytest.mark.parametrize("value", [2, np.float64(2), np.array(2.0), sp.Integer(2), sp.Rational(2)])
@pytest.mark.parametrize("op", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
def test_numbers_of_any_kind_on_either_side(op, value):
    """E of the result is that of the plain function: E φ(h) with h ~ N(3/2, 1), where it is finite for a / h."""
    program = tp.Program()
    h = program.vector("h", variance=0, mean=sp.Rational(3, 2))
    for z, expected in ((op(h, value), op(1.5, 2.0)), (op(value, h), op(2.0, 1.5))):
        assert float(tp.limit(program).E(lambda a: a, z)) == pytest.approx(expected, rel=1e-14)


def test_unary_operators():
    program = tp.Program()
    h = program.vector("h", variance=2)
    negative, same, by_numpy, size = -h, +h, np.negative(h), abs(h)
    limit = tp.limit(program)
    assert [limit.E(lambda a, b: a * b, h, z) for z in (negative, same, by_numpy, size)] == [-2, 2, -2, 0]
    assert limit.evaluate(limit.E(lambda a: a**2, size)) == pytest.approx(2, rel=1e-15)


def test_matrices_only_multiply_vectors():
    W = tp.Program().matrix("W")
    for call in (lambda: 2 * W, lambda: W * 2, lambda: W + W, lambda: -W, lambda: np.float64(2) * W, lambda: sp.pi * W):
        with pytest.raises(ProgramError, match="W is a matrix of a program and can only multiply a vector"):
            call()


def test_named_functions_of_scalars():
    """exp(s) h has the second moment e^(2s) Var h."""
    program = tp.Program()
    z = tp.exp(program.scalar("s", sp.Rational(1, 2))) * program.vector("h", variance=3)
    limit = tp.limit(program)
    assert limit.evaluate(limit.E(lambda a: a**2, z)) == pytest.approx(3 * np.e, rel=1e-15)
    with pytest.raises(ProgramError, match=r"np.tanh\(s\): s is a scalar of a program.* write tp.tanh\(s\)"):
        np.tanh(tp.Program().scalar("s"))


def traced(fn, length=None):
    return tp.network(lambda net, x: net.readout("V", fn(net, x)))().trace([length])


@pytest.mark.parametrize(
    "fn",
    [lambda net, x: net.embed("U", x + x), lambda net, x: net.embed("U", 2 * x), lambda net, x: tp.tanh(x),
     lambda net, x: net.embed("U", np.tanh(x)), lambda net, x: net.embed("U", np.float64(2) * x)],
)  # fmt: skip
def test_data_are_embedded_before_anything_else(fn):
    with pytest.raises(ProgramError, match="x is an input of the network"):
        traced(fn)


@pytest.mark.parametrize("fn", [lambda x: sum(x), lambda x: x[0] + x[1], lambda x: np.mean(x)])
def test_sums_of_sequences_of_data(fn):
    with pytest.raises(ProgramError, match=r'x1 is an input of the network.* net.embed\("U", x\)'):
        traced(lambda net, x: net.embed("U", fn(x)), 2)


def test_a_function_is_no_string():
    with pytest.raises(ProgramError, match="phi of mlp is a function such as tp.relu, not the string 'relu'"):
        tp.programs.mlp(phi="relu")


def test_long_numbers_where_scalars_belong_are_named():
    p = tp.Program()
    x = p.vector("x")
    for params in ({10**5000: 1}, [[10**5000]]):
        with pytest.raises(tp.ProgramError, match="that is too large to be shown"):
            tp.nonlin(lambda a, s: a * s, x, params=params)


def test_numbers_beyond_all_digits_are_refused():
    with pytest.raises(tp.ProgramError, match="tanh at .* has no digits; use smaller numbers"):
        Tanh(sp.sinh(sp.Float("1e308"))).evalf()
    with pytest.raises(tp.ProgramError, match="must be finite"):
        tp.tanh(sp.sinh(sp.Float("1e308")))
