"""Writing programs: operator sugar, mixtures of kinds, and errors at the line that is wrong."""

import operator
import re

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.dsl.decimals import exact
from tensorprog.dsl.program import Scal, Vec
from tensorprog.errors import ProgramError
from tensorprog.ir.instructions import MatMul, Moment, Nonlin

C = sp.Symbol("c")


@pytest.fixture
def program():
    p = tp.Program()
    return p, p.matrix("W"), p.vector("x"), p.vector("y", variance=2), p.scalar("s", 2), p.scalar("t", 3)


OPERATORS = [operator.add, operator.sub, operator.mul, operator.truediv]


@pytest.mark.parametrize("op", OPERATORS, ids=lambda op: op.__name__)
@pytest.mark.parametrize("left, right", [
    ("x", "y"), ("x", "x"), ("x", "s"), ("s", "x"), ("x", 3), (3, "x"), ("x", 0.5), (0.5, "x"),
    ("x", sp.Rational(1, 3)),
    (sp.Rational(1, 3), "x"), ("x", np.float64(1.5)), (np.float64(1.5), "x"), (np.int64(2), "x"), ("x", C), (C, "x"),
    ("s", "t"), ("s", 3), (3, "s"), ("s", C), (C, "s"),
])  # fmt: skip
def test_operators_compute_what_they_say_on_either_side(program, op, left, right):
    p, _, x, y, s, t = program
    handles = {"x": x, "y": y, "s": s, "t": t}
    result = op(*(handles.get(a, a) if isinstance(a, str) else a for a in (left, right)))
    assert type(result) is (Vec if {"x", "y"} & {a for a in (left, right) if isinstance(a, str)} else Scal)
    run = tp.sample(p, width=30, seed=0, values={C: 0.7} if C in p.symbols else None)
    numbers = [run[handles[a]] if isinstance(a, str) else 0.7 if a == C else float(a) for a in (left, right)]
    np.testing.assert_allclose(run[result], op(*numbers), rtol=1e-14)


def test_powers_and_minus(program):
    p, _, x, y, s, _ = program
    results = {x**3: lambda r: r[x] ** 3, x**s: lambda r: r[x] ** 2, (x**2) ** 0.5: lambda r: abs(r[x]),
               2**x: lambda r: 2 ** r[x], s**x: lambda r: 2 ** r[x], s**2: lambda r: 4.0, -x: lambda r: -r[x],
               -s: lambda r: -2.0, (-x + y) * s - y / 2: lambda r: (r[y] - r[x]) * 2 - r[y] / 2}  # fmt: skip
    run = tp.sample(p, width=30, seed=0)
    for handle, expected in results.items():
        np.testing.assert_allclose(run[handle], expected(run), rtol=1e-13)


def test_sugar_of_scalars_is_a_moment_and_of_vectors_a_nonlin(program):
    p, _, x, _, s, t = program
    assert isinstance(p.op((s * t).var), Moment) and p.op((s * t).var).args == ()
    assert isinstance(p.op((x * t).var), Nonlin) and p.op((t * x).var).params == (t.var,)


def test_sum_starts_from_zero(program):
    p, _, x, y, _, _ = program
    total = sum([x, y, x])
    run = tp.sample(p, width=10)
    np.testing.assert_allclose(run[total], 2 * run[x] + run[y], rtol=1e-14)


def test_matrices_multiply_vectors_by_themselves_and_transposed(program):
    p, W, x, _, _, _ = program
    y, z, u = W @ x, W.T @ x, W.T.T @ x
    assert [p.op(v.var) for v in (y, z, u)] == [
        MatMul(W.var, False, x.var), MatMul(W.var, True, x.var), MatMul(W.var, False, x.var)]  # fmt: skip


def test_params_come_after_vectors(program):
    p, _, x, y, s, t = program
    z = tp.nonlin(lambda a, b, u, v: a * u - b / v, x, y, params=[s, t], name="z")
    m = tp.moment(lambda a, u: a**2 + u, x, params=[t])
    only = tp.moment(lambda u, v: u * v, params=[s, t])
    run = tp.sample(p, width=20)
    np.testing.assert_allclose(run[z], run[x] * 2 - run[y] / 3, rtol=1e-14)
    assert run[m] == pytest.approx(np.mean(run[x] ** 2) + 3, rel=1e-14) and run[only] == 6
    assert repr(z) == "z"


@pytest.mark.parametrize("fn", [sp.tanh, tp.relu, lambda a, *rest: a, lambda a, b=2: a * b, lambda a: 3, lambda a: 0.5])
def test_any_traceable_function_is_taken(program, fn):
    tp.nonlin(fn, program[2])


WRONG = {
    "too few arguments": (lambda W, x, y, s: tp.nonlin(lambda a: a, x, y), "2 operands"),
    "too many arguments": (lambda W, x, y, s: tp.nonlin(lambda a, b: a, x), "1 operands.*'b'"),
    "no room for params": (lambda W, x, y, s: tp.moment(lambda a: a, x, params=[s]), "2 operands"),
    "no function": (lambda W, x, y, s: tp.nonlin("tanh", x), "expected a function, got 'tanh'"),
    "no expression": (lambda W, x, y, s: tp.nonlin(lambda a: "a", x), "must return a sympy expression.*got 'a'"),
    "returns nothing": (lambda W, x, y, s: tp.moment(lambda a: None, x), "got None"),
    "returns infinity": (lambda W, x, y, s: tp.nonlin(lambda a: a / 0, x), "finite"),
    "returns NaN": (lambda W, x, y, s: tp.nonlin(lambda a: float("nan"), x), "finite"),
    "returns a relation": (lambda W, x, y, s: tp.nonlin(lambda a: a > 0, x), "sympy expression"),
    "no vector": (lambda W, x, y, s: tp.nonlin(lambda: 1), "at least one vector"),
    "only a scalar": (lambda W, x, y, s: tp.nonlin(lambda a: a, params=[s]), "at least one vector"),
    "no operand": (lambda W, x, y, s: tp.moment(lambda: 1), "at least one operand"),
    "scalar as vector": (lambda W, x, y, s: tp.nonlin(lambda a: a, s), "expected a Vec.*got Scal s"),
    "vector as scalar": (lambda W, x, y, s: tp.moment(lambda a, b: a, x, params=[y]), "expected a Scal.*got Vec y"),
    "matrix as vector": (lambda W, x, y, s: tp.nonlin(lambda a: a, W), "expected a Vec.*got Mat W"),
    "number as vector": (lambda W, x, y, s: tp.nonlin(lambda a: a, 3), "expected a Vec.*got int 3"),
    "matrix times matrix": (lambda W, x, y, s: W @ W, "multiplies a vector; write W @ .W @ h"),
    "matrix times scalar": (lambda W, x, y, s: W @ s, "multiplies a vector.*got Scal s"),
    "matrix times number": (lambda W, x, y, s: W @ 2, "multiplies a vector.*got int 2"),
    "matrix times array": (lambda W, x, y, s: W @ np.ones(3), "multiplies a vector.*got ndarray"),
    "vector plus matrix": (lambda W, x, y, s: x + W, "only multiply a vector, with @.*W"),
    "vector plus text": (lambda W, x, y, s: x + "1", "operand must be a number.*str '1'"),
    "vector plus None": (lambda W, x, y, s: x + None, "operand must be a number.*None"),
    "vector plus array": (lambda W, x, y, s: x + np.ones(3), "operand must be a number.*ndarray"),
    "array plus vector": (lambda W, x, y, s: np.ones(3) + x, "np.add: x is a vector .* shape .3,. is no number"),
    "vector plus NaN": (lambda W, x, y, s: x + float("nan"), "nan; it must be finite"),
    "vector plus infinity": (lambda W, x, y, s: x * sp.oo, "oo; it must be finite"),
    "vector over zero": (lambda W, x, y, s: x / 0, "finite"),
    "vector plus truth": (lambda W, x, y, s: x + True, "bool True"),
}  # fmt: skip


@pytest.mark.parametrize("case", WRONG)
def test_mistakes_are_refused_and_leave_no_trace(program, case):
    p, W, x, y, s, _ = program
    attempt, message = WRONG[case]
    before = list(p)
    with pytest.raises(ProgramError) as caught:
        attempt(W, x, y, s)
    assert re.search(message, str(caught.value).replace("\n", " "))
    assert list(p) == before


@pytest.mark.parametrize("mix", [
    lambda a, b, W, t: a + b, lambda a, b, W, t: b * a, lambda a, b, W, t: W @ a, lambda a, b, W, t: W.T @ a,
    lambda a, b, W, t: a * t, lambda a, b, W, t: tp.nonlin(lambda u, v: u * v, a, b),
    lambda a, b, W, t: tp.moment(lambda u, v: u * v, a, params=[t]),
])  # fmt: skip
def test_vectors_of_two_programs_do_not_mix(mix):
    p, q = tp.Program(), tp.Program()
    a, b, W, t = p.vector("a"), q.vector("b"), q.matrix("W"), q.scalar("t", 1)
    before = list(p), list(q)
    with pytest.raises(ProgramError, match="different programs"):
        mix(a, b, W, t)
    assert (list(p), list(q)) == before


NOT_A_COVARIANCE = {
    "not PSD": ([[1, 2], [2, 1]], "a, b is not positive semidefinite: eigenvalue -1"),
    "slightly not PSD": ([[1, 1.001], [1.001, 1]], "positive semidefinite"),
    "asymmetric": ([[1, 0.5], [0.25, 1]], r"not symmetric: entry \(b, a\) is 1/4, its mirror 1/2"),
    "asymmetric symbols": ([[1, C], [0, 1]], "not symmetric"),
    "negative variance": ([[-1, 0], [0, 1]], "positive semidefinite"),
    "NaN": ([[1, float("nan")], [float("nan"), 1]], "covariance of a, b is nan"),
    "infinite": ([[float("inf"), 0], [0, 1]], "covariance of a, b is inf"),
    "text": ([[1, "c"], ["c", 1]], "covariance of a, b must be a number.*'c'"),
    "a number": (1, "must be a square matrix, got 1"),
    "a vector": ([1, 1], "must be a square matrix"),
    "empty": ([], "must be a square matrix"),
    "too small": ([[1]], "must be 2×2"),
    "too large": (np.eye(3), "must be 2×2"),
    "not square": ([[1, 0, 0], [0, 1, 0]], "must be 2×2"),
    "ragged": ([[1, 0], [0]], "must be 2×2, got 2 rows of length 2, 1"),
}  # fmt: skip


@pytest.mark.parametrize("case", NOT_A_COVARIANCE)
def test_what_is_no_covariance_is_refused(case):
    cov, message = NOT_A_COVARIANCE[case]
    p = tp.Program()
    with pytest.raises(ProgramError, match=message):
        p.gaussian("a b", cov=cov)
    assert len(p) == 0


@pytest.mark.parametrize("cov", [
    [[1, 0.5], [0.5, 1]], ((1, 0), (0, 2)), np.array([[1, 1], [1, 1]]), sp.Matrix([[1, C], [C, 1]]), [[0, 0], [0, 0]],
    [[sp.Symbol("q"), C], [C, 3]],
])  # fmt: skip
def test_covariances_are_taken_as_lists_arrays_or_matrices(cov):
    p = tp.Program()
    a, b = p.gaussian(["a", "b"], cov=cov)
    lim, c = tp.limit(p), exact(np.asarray(cov, dtype=object)[0][1])
    assert lim.cov(a, b) == c and lim.mean(a) == 0


def test_means_are_one_for_all_or_one_each():
    p = tp.Program()
    a, b = p.gaussian("a b", np.eye(2), mean=[1, 2])
    d, e = p.gaussian("d e", np.eye(2), mean=3)
    lim = tp.limit(p)
    assert [lim.mean(v) for v in (a, b, d, e)] == [1, 2, 3, 3]
    with pytest.raises(ProgramError, match="2 vectors need 2 means, got 3"):
        p.gaussian("f g", np.eye(2), mean=[1, 2, 3])
    with pytest.raises(ProgramError, match="mean of vector 'f' is nan"):
        p.gaussian("f g", np.eye(2), mean=[float("nan"), 0])


def test_names_may_not_repeat():
    p = tp.Program()
    p.vector("a")
    for again in (lambda: p.vector("a"), lambda: p.gaussian("b a", np.eye(2)), lambda: p.matrix("a")):
        with pytest.raises(ProgramError, match="'a' is already defined"):
            again()


@pytest.mark.parametrize("make, message", [
    (lambda p: p.matrix("W", -1), "variance of `W` is -1"), (lambda p: p.matrix("W", "1"), "matrix 'W'.*str '1'"),
    (lambda p: p.matrix("W", float("inf")), "matrix 'W' is inf"), (lambda p: p.matrix("W", sp.I), "real"),
    (lambda p: p.matrix("W", None), "matrix 'W'.*None"), (lambda p: p.vector("v", -0.5), "v is not positive"),
    (lambda p: p.vector("v", mean=float("nan")), "vector 'v' is nan"),
    (lambda p: p.vector("v", [1, 2]), "covariance of v"),
    (lambda p: p.scalar("s", float("nan")), "scalar 's' is nan"), (lambda p: p.scalar("s", "0.5"), "scalar 's'.*'0.5'"),
])  # fmt: skip
def test_variances_means_and_values_are_finite_numbers(make, message):
    p = tp.Program()
    with pytest.raises(ProgramError, match=message):
        make(p)
    assert len(p) == 0


def test_degenerate_variances_are_allowed():
    p = tp.Program()
    W, v, u = p.matrix("W", 0), p.vector("v", 0, mean=2), p.vector("u", sp.Symbol("q"))
    y = W @ u
    lim = tp.limit(p)
    assert lim.cov(v, v) == 0 and lim.mean(v) == 2 and lim.cov(y, y) == 0 and lim.cov(u, u) == sp.Symbol("q")


@pytest.mark.parametrize("value, expected", [
    (0.1, sp.Rational(1, 10)), (2.0, sp.Integer(2)), (np.float32(0.5), sp.Rational(1, 2)), (np.int64(3), sp.Integer(3)),
    (sp.Float(0.25), sp.Rational(1, 4)), (0.5 * C, C / 2), (sp.pi, sp.pi), (1e300, sp.Integer(int(1e300))),
])  # fmt: skip
def test_floats_become_the_decimals_they_print_as(value, expected):
    assert exact(value) == expected and not exact(value).has(sp.Float)


def test_two_programs_of_the_same_text_are_equal():
    def build():
        p = tp.Program()
        W, x = p.matrix("W"), p.vector("x")
        tp.moment(lambda a: a**2, W.T @ tp.tanh(W @ x) + x)
        return p

    assert list(build()) == list(build())
