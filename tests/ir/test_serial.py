"""JSON: what is written is read back equal; what is not a program is refused, and never evaluated."""

import builtins
import json
import math
import re
import string
import time

import pytest
import sympy as sp
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sympy.parsing import sympy_parser

import tensorprog as tp
from tensorprog.errors import ProgramError
from tensorprog.functions import FAMILIES, member
from tensorprog.ir.instructions import InitMatrix, InitScalar, Moment, Nonlin, vector_slot
from tensorprog.ir.serial import decode, encode
from tensorprog.passes.backprop import backprop
from tensorprog.printing import inner
from tests.random_cases.positions import over_axes, random_stack

PROPERTY = settings(
    derandomize=True, deadline=None, max_examples=100, database=None, suppress_health_check=list(HealthCheck)
)
X = vector_slot(0)


def assert_round_trip(p):
    q = tp.Program.from_json(p.to_json())
    assert list(q) == list(p)
    assert list(q.graph.nodes(data=True)) == list(p.graph.nodes(data=True))
    assert list(q.graph.edges(keys=True)) == list(p.graph.edges(keys=True))
    assert q.to_json() == p.to_json() and type(q) is tp.Program


# ---- what is written is read back ----------------------------------------------------------------------


def test_a_program_with_every_instruction_round_trips():
    p = tp.Program()
    c = sp.Symbol("c", positive=True)
    W, (a, b) = p.matrix("W", c**2), p.gaussian("a b", [[1, c], [c, 2]], mean=[0, sp.Rational(1, 3)])
    s = p.scalar("s", sp.pi / 4)
    z = tp.nonlin(lambda u, v, t: sp.tanh(u) * v + t, W @ a, W.T @ b, params=[s])
    tp.moment(lambda u: sp.Max(u, 0) ** sp.Rational(3, 2), z, name="m")
    assert_round_trip(p)


@pytest.mark.parametrize("name", sorted(tp.programs.GALLERY))
def test_traces_and_gradients_of_the_gallery_round_trip(name):
    net = tp.programs.GALLERY[name]()
    trace = net.trace([net.fitting_length(2), net.fitting_length(1)] if net.takes_sequences else [None] * 5)
    assert_round_trip(trace.program)
    assert_round_trip(backprop(trace)[0])


@pytest.mark.parametrize("seed", range(12))
def test_programs_over_positions_round_trip(seed):
    assert_round_trip(backprop(over_axes(random_stack(seed)).trace([None, None]))[0])


def test_matrices_of_inputs_round_trip():
    @tp.network
    def graph(net, x):
        h = net.aggregate(net.embed("U", x["nodes"]), x["A"], normalise="symmetric", loops=0.5)
        return net.readout("V", net.weighted_pool(tp.relu(h), x["a"], normalise="mean"))

    assert_round_trip(backprop(graph().trace([None, None]))[0])


def test_programs_without_positions_are_written_as_before():
    text = tp.programs.mlp(depth=2).trace([None]).program.to_json()
    assert '"axes"' not in text and '"by"' not in text
    assert '"source"' not in text


@pytest.mark.parametrize(
    "map_, words",
    [
        (["Windows", {}], "unknown map 'Windows'; did you mean 'Window'"),
        (["Everywhere", {}], "needs the fields weighted"),
        (["Everywhere", {"weighted": 1}], "weighted of the map Everywhere cannot be 1"),
        (["Margins", {"before": 0.5, "after": 0}], "before of the map Margins cannot be 0.5"),
        (["Given", {"name": "A;B", "normalise": "none", "loops": 0.0, "pooled": False}], "cannot be 'A;B'"),
        (["Given", {"name": "A", "normalise": "none", "loops": math.inf, "pooled": False}], "not a number"),
        (["Spread", {"window": ["Everywhere", {"weighted": True}]}], "window of the map Spread cannot be"),
        ("Everywhere", "expected a map such as"),
    ],
)
def test_what_is_no_map_is_refused(map_, words):
    @tp.network
    def pooled(net, x):
        return net.readout("V", net.global_pool(net.embed("U", x)))

    data = json.loads(pooled().trace([None]).program.to_json())
    row = next(row for row in data["instructions"] if row["op"] == "Mix")
    row["by"][0] = map_
    with pytest.raises(ProgramError, match=re.escape(words)):
        tp.Program.from_json(json.dumps(data))


def test_the_empty_program_and_a_program_without_vectors_round_trip():
    p = tp.Program()
    assert_round_trip(p)
    p.matrix("W")
    p.scalar("s", 1)
    assert_round_trip(p)


@pytest.mark.parametrize("order", range(5))
@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_function_round_trips_with_its_derivatives(name, order):
    body = 2 * member(FAMILIES[name], order)(X + 1) * X
    assert decode(json.loads(json.dumps(encode(body)))) == body


@pytest.mark.parametrize("order", range(5))
def test_abstract_functions_round_trip_with_their_derivatives(order):
    body = tp.abstract("psi")(X**2).diff(X, order)
    assert decode(json.loads(json.dumps(encode(body)))) == body


EXPRESSIONS = [
    sp.Integer(0), sp.Integer(-(10**60)), sp.Rational(-22, 7), sp.pi, sp.E, sp.sqrt(2) / 3, sp.Float(0.1),
    0.1 * sp.Symbol("y"), sp.Float(2.5e-7) * X, sp.Symbol("c"), sp.Symbol("c", real=True),
    sp.Symbol("c", positive=True), sp.Symbol("c", nonnegative=True), sp.Symbol("σ_w'"), inner("x'", "x[3]"),
    1 / (1 + X**2), X**-3,
    sp.log(1 + X**2), sp.sinh(X), sp.cosh(X), sp.tan(X), sp.atan(X), sp.asin(X), sp.acos(X), sp.asinh(X), sp.erfc(X),
    2**X, X**X, sp.exp(2),
    sp.exp(X), sp.Rational(1, 3) ** X, (1 + X) ** sp.Rational(-3, 2), tp.relu(tp.tanh(X) - sp.Rational(1, 2)),
]  # fmt: skip


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=str)
def test_expressions_round_trip(expr):
    again = decode(json.loads(json.dumps(encode(expr))))
    assert again == expr and hash(again) == hash(expr)


def test_a_symbol_comes_back_with_its_assumptions_only():
    assert decode(["symbol", "c"]) != decode(["symbol", "c", "real"]) != decode(["symbol", "c", "positive"])
    assert decode(["symbol", "c", "positive"]).is_positive and decode(["symbol", "x0"]) != X


UNWRITABLE = {
    "other assumptions": (sp.Symbol("c", negative=True), "symbol c"),
    "an integer symbol": (sp.Symbol("k", integer=True), "symbol k"),
    "a dummy": (sp.Dummy("d"), "d"),
    "a name with a space": (sp.Symbol("a b"), "'a b'"),
    "another function": (sp.gamma(X), "gamma"),
    "a huge exponent": (X**100000, "x0"),
    "a long float": (sp.Float("0.1", 40), "0.1"),
    "infinity": (sp.oo, "oo"),
    "the imaginary unit": (sp.I, "I"),
}


@pytest.mark.parametrize("case", UNWRITABLE)
def test_what_could_not_be_read_back_is_not_written(case):
    expr, culprit = UNWRITABLE[case]
    with pytest.raises(ProgramError, match=re.escape(culprit)):
        encode(expr)


def expressions(depth):
    leaves = st.sampled_from(EXPRESSIONS[:16])
    if depth == 0:
        return leaves | st.just(X) | st.just(vector_slot(1))
    sub = expressions(depth - 1)
    functions = st.builds(
        lambda f, k, e: member(FAMILIES[f], k)(e), st.sampled_from(sorted(FAMILIES)), st.integers(0, 3), sub
    )
    sums, products = st.builds(lambda a, b: a + b, sub, sub), st.builds(lambda a, b: a * b, sub, sub)
    return sub | functions | sums | products | st.builds(lambda a, k: a**k, sub, st.integers(1, 4))


@st.composite
def programs(draw):
    p = tp.Program()
    W, vectors = p.matrix("W", 2), p.gaussian("a b", [[1, sp.Symbol("c")], [sp.Symbol("c"), 2]])
    for _ in range(draw(st.integers(1, 5))):
        x, y = draw(st.sampled_from(vectors)), draw(st.sampled_from(vectors))
        body, kind = draw(expressions(2)), draw(st.integers(0, 2))
        if kind == 0:
            vectors.append((W.T if draw(st.booleans()) else W) @ x)
        else:
            p.append(None, (Nonlin if kind == 1 else Moment)(body, (x.var, y.var)))
    return p


@given(programs())
@PROPERTY
def test_random_programs_round_trip(p):
    assert_round_trip(p)


# ---- what is not a program is refused ------------------------------------------------------------------

VECTOR = {"name": "v", "op": "InitVector", "mean": 0, "cov": [["v", 1]]}
MATRIX = {"name": "W", "op": "InitMatrix", "variance": 1}


def text(*rows, **header):
    return json.dumps({"format": "tensorprog-program", "version": 1, "instructions": list(rows), **header})


def vector(name, *cov, **fields):
    return {"name": name, "op": "InitVector", "mean": 0, "cov": list(cov), **fields}


def nonlin(body, args=("v",), **fields):
    return {"name": "z", "op": "Nonlin", "body": body, "args": list(args), "params": [], **fields}


def matmul(name="y", x="v", **fields):
    return {"name": name, "op": "MatMul", "matrix": "W", "transpose": False, "x": x, **fields}


def nested(depth, opening, closing):
    """z := a function of v, written directly as text, nested so deeply."""
    return text(VECTOR, nonlin("here")).replace('"here"', opening * depth + '["slot", "x0"]' + closing * depth)


SYSTEM = "__import__('os').system('true')"
MALFORMED = {
    "not JSON": ("print('hello')", ["not a JSON program", "line 1"]),
    "empty": ("", ["not a JSON program"]),
    "truncated": (text(VECTOR)[:-5], ["not a JSON program"]),
    "not text": (None, ["not a JSON program", "NoneType"]),
    "a list": ("[]", ["tensorprog-program"]),
    "wrong format": (text(format="netlist"), ["tensorprog-program"]),
    "wrong version": (text(version=2), ["version 2"]),
    "instructions are no list": (text().replace("[]", "3"), ["instructions", "must be a list"]),
    "a row is no object": (text(VECTOR, 7), ["instruction 1", "7"]),
    "a row without name": (text({"op": "InitMatrix", "variance": 1}), ["instruction 0", "name"]),
    "empty name": (text({**MATRIX, "name": ""}), ["non-empty string"]),
    "unknown instruction": (text({**MATRIX, "op": "InitMatrx"}), ["`W`", "'InitMatrx'", "did you mean 'InitMatrix'"]),
    "instruction is no name": (text({**MATRIX, "op": ["InitMatrix"]}), ["`W`", "unknown instruction"]),
    "a dunder instruction": (text({**MATRIX, "op": "__class__"}), ["`W`", "'__class__'"]),
    "unknown field": (text({**MATRIX, "sigma": 1}), ["`W`", "sigma", "needs the fields variance"]),
    "missing field": (text({"name": "W", "op": "InitMatrix"}), ["`W`", "needs the fields variance"]),
    "duplicate name": (text(VECTOR, VECTOR), ["'v' is already defined"]),
    "use before definition": (text(MATRIX, matmul()), ["`y` reads `v`", "no earlier instruction"]),
    "a cycle of one": (text(MATRIX, matmul("y", "y")), ["`y` reads `y`", "a cycle"]),
    "a cycle of two": (
        text(VECTOR, MATRIX, matmul("y", "z"), {**nonlin(["slot", "x0"], ["y"])}), ["`y` reads `z`", "a cycle"]),
    "a cycle through a moment": (
        text(VECTOR, {**nonlin(["slot", "s0"]), "params": ["m"]},
             {"name": "m", "op": "Moment", "body": ["slot", "x0"], "args": ["z"], "params": []}),
        ["`z` reads `m`", "a cycle"]),
    "later covariance": (text(vector("a", ["a", 1], ["b", 0]), vector("b", ["b", 1])), ["`a` reads `b`"]),
    "operand is a number": (text(VECTOR, MATRIX, matmul(x=0)), ["`y`", "string, got 0"]),
    "operand of another kind": (text(VECTOR, MATRIX, matmul(x="W")), ["`y`", "matrix `W` where a vector"]),
    "args are no list": (text(VECTOR, {**nonlin(1), "args": "v"}), ["`z`", "list of operand names, got 'v'"]),
    "transpose is no flag": (text(VECTOR, MATRIX, matmul(transpose=1)), ["`y`", "true or false, got 1"]),
    "slot out of range": (text(VECTOR, nonlin(["slot", "x7"])), ["`z`", "reads x7"]),
    "slot with code": (text(VECTOR, nonlin(["slot", SYSTEM])), ["`z`", "system"]),
    "unknown function": (
        text(VECTOR, nonlin(["fn", "rellu", 0, ["slot", "x0"]])), ["`z`", "'rellu'", "did you mean 'relu'"]),
    "unknown head": (text(VECTOR, nonlin(["eval", "1+1"])), ["`z`", "unknown expression head 'eval'"]),
    "unknown call": (text(VECTOR, nonlin(["call", "system", 1])), ["`z`", "system"]),
    "unknown constant": (text(VECTOR, nonlin(["constant", "tau"])), ["`z`", "tau"]),
    "unknown assumption": (text(VECTOR, nonlin(["symbol", "c", "evil"])), ["`z`", "evil"]),
    "wrong number of arguments": (text(VECTOR, nonlin(["fn", "relu"])), ["`z`", "['fn', 'relu']"]),
    "order is negative": (text(VECTOR, nonlin(["fn", "tanh", -1, 1])), ["`z`", "got -1"]),
    "order is huge": (text(VECTOR, nonlin(["fn", "tanh", 10**9, 1])), ["`z`", "got 1000000000"]),
    "order is a flag": (text(VECTOR, nonlin(["fn", "tanh", True, 1])), ["`z`", "got True"]),
    "division by zero": (text(VECTOR, nonlin(["rational", 1, 0])), ["`z`", "1 and 0"]),
    "reciprocal of zero": (text(VECTOR, nonlin(["^", 0, -1])), ["`z`", "finite"]),
    "a flag as an expression": (text(VECTOR, nonlin(True)), ["`z`", "True"]),
    "null as an expression": (text(VECTOR, nonlin(None)), ["`z`", "None"]),
    "an object as an expression": (text(VECTOR, nonlin({"eval": "1"})), ["`z`", "never evaluated"]),
    "code as a body": (text(VECTOR, nonlin(SYSTEM)), ["`z`", "system", "never evaluated"]),
    "code as a head": (text(VECTOR, nonlin([SYSTEM, 1])), ["`z`", "system"]),
    "code as a variance": (text({**MATRIX, "variance": SYSTEM}), ["`W`", "system"]),
    "code as a symbol": (text({**MATRIX, "variance": ["symbol", SYSTEM]}), ["`W`", "system", "not a symbol name"]),
    "code as a function": (text(VECTOR, nonlin(["fn", SYSTEM, 0, 1])), ["`z`", "system"]),
    "code as an abstract function": (text(VECTOR, nonlin(["abstract", SYSTEM, 0, 1])), ["`z`", "system"]),
    "a number as an abstract function": (text(VECTOR, nonlin(["abstract", 5, 0, 1])), ["`z`", "5"]),
    "a list as a function": (text(VECTOR, nonlin(["fn", ["relu"], 0, 1])), ["`z`", "relu"]),
    "NaN": (text({**MATRIX, "variance": float("nan")}), ["NaN"]),
    "Infinity": (text({**MATRIX, "variance": float("inf")}), ["Infinity"]),
    "-Infinity": (text({**MATRIX, "variance": -float("inf")}), ["-Infinity"]),
    "an overflowing float": (text(MATRIX).replace('"variance": 1', '"variance": 1e999'), ["`W`", "inf"]),
    "infinity beside a symbol": (
        text({**MATRIX, "variance": ["*", ["symbol", "c"], 2]}).replace(", 2]", ", 1e999]"), ["`W`", "inf"]),
    "negative variance": (text({**MATRIX, "variance": -1}), ["variance of `W` is -1"]),
    "negative vector variance": (text(vector("v", ["v", ["rational", -1, 2]])), ["variance of `v` is -1/2"]),
    "imaginary variance": (text({**MATRIX, "variance": ["^", -1, ["rational", 1, 2]]}), ["variance of `W`", "real"]),
    "covariance is no list": (text({**VECTOR, "cov": 1}), ["`v`", "pairs, got 1"]),
    "covariance is no pair": (text({**VECTOR, "cov": [["v"]]}), ["`v`", "pairs"]),
    "covariance given twice": (text(vector("v", ["v", 1], ["v", 2])), ["`v`", "twice"]),
    "covariance of a MatMul": (
        text(VECTOR, MATRIX, matmul(), vector("u", ["y", 1], ["u", 1])), ["`u`", "`y`", "not an initial vector"]),
    "not PSD": (text(VECTOR, vector("u", ["v", 2], ["u", 1])), ["v, u", "not positive semidefinite"]),
    "a vector without variance": (text(vector("v"), vector("u", ["v", 1], ["u", 1])), ["v, u", "semidefinite"]),
    "not PSD beside symbols": (
        text(VECTOR, vector("s", ["s", ["symbol", "c"]]), vector("u", ["v", 2], ["u", 1])), ["v, u", "semidefinite"]),
    "not PSD among three": (
        text(VECTOR, vector("u", ["v", -0.9], ["u", 1]), vector("w", ["v", -0.9], ["u", -0.9], ["w", 1])),
        ["v, u, w", "semidefinite"]),
    "deep nesting of lists": ("[" * 100_000, ["not a JSON program", "recursion"]),
    "deep nesting of functions": (nested(900, '["fn", "tanh", 0, ', "]"), ["`z`", "nested too deeply"]),
    "deep nesting of sums": (nested(450, '["+", 1, ["fn", "relu", 0, ', "]]"), ["`z`", "nested too deeply"]),
    "tower of powers": (text(VECTOR, nonlin(["^", 10, ["^", 10, 10]])), ["`z`", "exponent 10000000000"]),
    "tower to the left": (
        nested(20, '["^", ', ", 999]").replace('["slot", "x0"]', "10"), ["`z`", "bits"]),
    "huge rational exponent": (text(VECTOR, nonlin(["^", 10, ["rational", 10**30, 7]])), ["`z`", "exponent"]),
    "huge negative exponent": (text({**MATRIX, "variance": ["^", 3, -(10**12)]}), ["`W`", "exponent -1000000000000"]),
    "huge float exponent": (text({**MATRIX, "variance": ["^", 3.5, 1e300]}), ["`W`", "exponent"]),
    "huge exponent of a slot": (text(VECTOR, nonlin(["^", ["slot", "x0"], 10**10])), ["`z`", "exponent"]),
    "huge power of a fraction": (text({**MATRIX, "variance": ["^", ["rational", 1, 10**4000], 999]}), ["`W`", "bits"]),
    "a number of 5000 digits": (text(MATRIX).replace('"variance": 1', '"variance": 1' + "0" * 5000), ["4300 digits"]),
}  # fmt: skip


@pytest.fixture
def nothing_is_evaluated(monkeypatch):
    """Every way from text to code raises."""

    def refuse(*args, **kwargs):
        raise AssertionError(f"text was evaluated: {args!r}")

    original = sp.sympify

    def no_text(value, *args, **kwargs):
        return refuse(value) if isinstance(value, str) else original(value, *args, **kwargs)

    def guarded(builtin):
        """Refuse text that our caller hands over; imports and the test runner execute code objects of their own."""
        return lambda source, *args, **kwargs: (
            refuse(source) if isinstance(source, str) else builtin(source, *args, **kwargs)
        )

    tp.Program.from_json(text(MATRIX))  # whatever is imported late is imported now
    for name in ("eval", "exec", "compile"):
        monkeypatch.setattr(builtins, name, guarded(getattr(builtins, name)))
    for name in ("parse_expr", "eval_expr"):
        monkeypatch.setattr(sympy_parser, name, refuse)
    monkeypatch.setattr(sp, "sympify", no_text)


@pytest.mark.parametrize("case", MALFORMED)
def test_malformed_text_is_refused_by_name_and_never_evaluated(case, nothing_is_evaluated):
    source, culprits = MALFORMED[case]
    start = time.process_time()
    with pytest.raises(ProgramError) as caught:
        tp.Program.from_json(source)
    for culprit in culprits:
        assert culprit in str(caught.value)
    assert time.process_time() - start < 10


def test_the_guard_against_evaluation_works(nothing_is_evaluated):
    for attempt in (eval, exec, sympy_parser.parse_expr, sp.sympify):
        with pytest.raises(AssertionError, match="text was evaluated"):
            attempt("1")


def test_a_good_program_is_read_without_evaluation(nothing_is_evaluated):
    source = text(VECTOR, MATRIX, matmul(), nonlin(["fn", "tanh", 2, ["*", ["symbol", "c"], ["slot", "x0"]]], ["y"]))
    assert [v.name for v, _ in tp.Program.from_json(source)] == ["v", "W", "y", "z"]


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(string.printable, max_size=8)
    | st.sampled_from(["+", "*", "^", "fn", "relu", "slot", "x0", "symbol", "call", "log", "rational", "constant"]),
    lambda e: st.lists(e, max_size=4), max_leaves=12))  # fmt: skip
@settings(PROPERTY, max_examples=300)
def test_any_data_is_an_expression_or_a_program_error(data):
    try:
        result = decode(data)
    except ProgramError:
        return
    assert isinstance(result, sp.Expr)


@pytest.mark.parametrize("op", [InitMatrix(sp.Integer(2)), InitScalar(sp.Rational(1, 3))])
def test_fields_are_written_under_their_own_names(op):
    p = tp.Program()
    p.append("s", op)
    row = json.loads(p.to_json())["instructions"][0]
    assert set(row) == {"name", "op", *op.__dataclass_fields__} and row["op"] == type(op).__name__
