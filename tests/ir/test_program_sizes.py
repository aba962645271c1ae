"""Programs as files: what is too large to be read, or to be expanded, is refused by name before the work."""

import json
import time
from dataclasses import replace

import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.ceilings import CEILINGS
from tensorprog.passes.backprop import backprop

X0 = ["slot", "x0"]


def text(*bodies):
    """A vector and a chain of functions of it."""
    p = tp.Program()
    p.vector("v0")
    data = json.loads(p.to_json())
    for i, body in enumerate(bodies):
        data["instructions"].append(
            {"name": f"v{i + 1}", "op": "Nonlin", "body": body, "args": [f"v{i}"], "params": []}
        )
    return json.dumps(data)


def within(levels):
    body = X0
    for _ in range(levels):
        body = ["fn", "tanh", 0, body]
    return body


def last(program):
    return list(program)[-1][0]


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (text(within(200)), "`v1` is nested too deeply: at most 100 expressions"),
        (text(["+", *[["*", i, X0] for i in range(2, 40000)]]), "`v1` has .* parts: at most 100000 parts"),
        (text(["*", 7, X0]).replace("7", "7" * 5000), "at most 4300 digits in an integer of a program"),
        (text(["*", ["rational", 7, 2], X0]).replace("7", "7" * 5000), "at most 4300 digits"),
    ],
    ids=["nested", "long", "integer", "rational"],
)
def test_a_file_that_is_too_large_is_refused_when_it_is_read(source, words):
    with pytest.raises(tp.ProgramError, match=words):
        tp.Program.from_json(source)


@pytest.mark.parametrize(
    ("source", "words"),
    [
        (text(*[["^", ["+", 1, X0], 2]] * 12), "at most 1000000 products of terms"),
        (text(["^", ["+", 1, X0, ["^", X0, 2]], 900]), "the power 900 of 3 terms: at most 1000000 products of terms"),
        (text(*[["*", X0, X0]] * 40), "at most 2000 in an exponent"),
        (text(*[["*", 3, X0, X0]] * 40), "`v14`: at most 4300 digits in an exact number"),
        (text(within(90)), "at most 80 functions within each other"),
        (text(*[["fn", "tanh", 0, X0]] * 200), "at most 80 functions within each other"),
    ],
    ids=["doublings", "power", "squares", "digits", "functions", "chain"],
)
def test_a_limit_that_would_not_end_is_refused_soon(source, words):
    p = tp.Program.from_json(source)
    began = time.process_time()
    with pytest.raises(tp.ProgramError, match=words):
        tp.limit(p).cov(last(p), last(p))
    assert time.process_time() - began < 20


@pytest.mark.parametrize("body", [["^", X0, 1000], ["^", ["+", 1, X0], 300]], ids=["power", "power of a sum"])
def test_large_powers_have_their_value(body):
    p = tp.Program.from_json(text(body))
    assert tp.limit(p).mean(last(p)).is_Integer  # such as 999!!


@pytest.mark.parametrize(
    ("net", "lengths"),
    [
        (tp.programs.mlp(depth=150, phi=tp.tanh), [None, None]),
        (tp.programs.residual_mlp(depth=40, phi=tp.tanh), [None, None]),
        (tp.programs.rnn(phi=tp.tanh), [60, 50]),
    ],
    ids=str,
)
def test_networks_stay_far_below_the_ceilings(net, lengths, monkeypatch):
    for name, part in {"functions": 40, "power": 500, "products": 1000, "pairs": 1000, "result": 10}.items():
        monkeypatch.setitem(CEILINGS, name, replace(CEILINGS[name], most=CEILINGS[name].most // part))
    program = tp.Program.from_json(backprop(net.trace(lengths))[0].to_json())
    v = last(program)
    assert tp.limit(program).cov(v, v) != 0
    assert tp.ntk(net, lengths=lengths[:2] if lengths[0] else None).text()


def test_a_long_program_is_read_and_written():
    p = tp.Program()
    W, h = p.matrix("W"), p.vector("x")
    for _ in range(1000):
        h = tp.tanh(W @ h)
    lim = tp.limit(tp.Program.from_json(p.to_json()))
    assert lim.cov(h, h) != 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.gaussian("x y", [[1, sp.I], [sp.I, 1]]), "the covariance of x, y is I; it must be real"),
        (
            lambda p: p.gaussian("x y", [[10**5000, 0], [0, 1]]),
            "an integer of some 5001 digits; it must be below 1e308",
        ),
        (lambda p: p.gaussian("x y", [[sp.Integer(10) ** 400, 0], [0, 1]]), "holds a number beyond 1e308"),
        (
            lambda p: tp.nonlin(lambda a: a + sp.asin(2), p.vector("x")),
            r"holds asin\(2\); every number in it must be real",
        ),
        (lambda p: p.matrix("W", sp.sqrt(-2)), r"is sqrt\(2\)\*I; it must be real"),
        (lambda p: p.vector("\ud800"), "cannot be printed"),
    ],
    ids=["imaginary", "integer", "large", "complex", "scale", "name"],
)
def test_numbers_and_names_that_a_program_cannot_have_are_refused(make, words):
    with pytest.raises(tp.ProgramError, match=words):
        make(tp.Program())


@pytest.mark.parametrize(
    "call", [lambda n: tp.verify(n, [[1.0]]), tp.ntk, lambda n: tp.unroll(tp.programs.mlp(), 2).certify(gia=n)]
)
def test_numbers_that_python_does_not_print_are_named_shortly(call):
    with pytest.raises(tp.ProgramError, match="an integer of some 5001 digits"):
        call(10**5000)


def test_integers_keep_their_digits():
    assert tp.Program().vector("x", 10**30 + 1).program.to_json().count(str(10**30 + 1)) == 1


def test_what_is_written_can_be_read_again():
    p = tp.Program()
    x = p.vector("x")
    tp.nonlin(lambda a: 10**3990 * a, x)
    assert str(tp.Program.from_json(p.to_json())) == str(p)
    tp.nonlin(lambda a: 10**5000 * a, x)
    with pytest.raises(tp.ProgramError, match="cannot be written to JSON: at most 4300 digits"):
        p.to_json()
