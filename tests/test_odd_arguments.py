"""What is no program, no optimizer, no batch: refused by name, never computed with."""

import re
from pathlib import Path

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp

X, Y = [[1.0, 0.0], [0.6, 0.8]], [1.0, -1.0]
NO_PROGRAMS = [None, 0, "mlp", [], tp.programs.mlp, tp.programs.mlp()]


@pytest.mark.parametrize("given", NO_PROGRAMS, ids=lambda v: type(v).__name__)
@pytest.mark.parametrize(
    "call",
    [tp.limit, lambda p: tp.limit(p, "sampling"), lambda p: tp.sample(p, width=4), tp.canonicalize],
    ids=["limit", "sampling", "sample", "canonicalize"],
)
def test_what_is_no_program_is_refused(call, given):
    with pytest.raises(tp.ProgramError, match=f"takes a program .*, got {type(given).__name__}"):
        call(given)


def test_a_limit_names_options_that_its_method_does_not_have():
    p = tp.Program()
    p.vector("x")
    for method, option in (("exact", {"samples": 10}), ("sampling", {"sample": 10}), ("linear", {"nodes": 3})):
        with pytest.raises(tp.ProgramError, match=f"has no argument '{next(iter(option))}'"):
            tp.limit(p, method, **option)
    with pytest.raises(tp.NoRuleError, match="not available"):
        tp.limit(p, ["exact"])


def check(**changed):
    given = {"X": X, "y": Y, "parametrizations": [tp.mup()], "widths": (8, 16), "seeds": 2, "steps": 1} | changed
    return tp.coordinate_check(tp.programs.mlp(depth=1, phi=tp.tanh), **given)


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"optimizer": "sgd"}, "only plain SGD"),
        ({"optimizer": 0}, "only plain SGD"),
        ({"optimizer": tp.SGD}, "only plain SGD"),
        ({"optimizer": tp.SGD(0.1, momentum=0.5)}, "only plain SGD"),
        ({"batch": 0}, "batch must be a positive integer, got 0"),
        ({"batch": -1}, "batch must be a positive integer"),
        ({"batch": None}, "batch must be a positive integer"),
        ({"batch": 1.0}, "batch must be a positive integer"),
        ({"batch": 3}, "a batch of 3 needs as many samples, there are 2"),
        ({"y": [1.0]}, "X has 2 inputs and y 1 labels"),
        ({"y": [[1.0, 2.0], [3.0, 4.0]]}, "one output, but y has 2 columns"),
    ],
    ids=str,
)
def test_a_coordinate_check_refuses_what_it_would_have_to_guess(changed, words):
    with pytest.raises((tp.ProgramError, tp.DataError), match=words):
        check(**changed)


def test_tied_is_true_or_false():
    with pytest.raises(tp.ProgramError, match="tied must be True or False, got 'no'"):
        tp.ntk(tp.programs.rnn(tied="no"))(np.ones((1, 2, 2)))


def test_a_hyperparameter_in_an_array_without_axes_is_a_number():
    K = tp.ntk(tp.programs.mlp(depth=2, sigma_w=np.array(2.0)))(X)
    assert pytest.approx(tp.ntk(tp.programs.mlp(depth=2, sigma_w=2))(X), abs=0) == K


ODD = [0, 3.5, True, [], np.ones(2)]


@pytest.mark.parametrize("given", ODD, ids=str)
def test_names_are_strings(given):
    p = tp.Program()
    for call in (p.vector, lambda v: p.gaussian(v, [[1]]), lambda v: p.gaussian([v], [[1]])):
        with pytest.raises(tp.ProgramError, match="vectors are named by non-empty strings"):
            call(given)
    with pytest.raises(tp.ProgramError, match="abstract takes the name of a function"):
        tp.abstract(given)
    with pytest.raises(tp.ProgramError, match="tp.network takes a function"):
        tp.network(given)


def test_parameters_of_a_nonlinearity_are_a_list():
    p = tp.Program()
    x, s = p.vector("x"), p.scalar("s", 1)
    for given in (None, 0, s, "s"):
        with pytest.raises(tp.ProgramError, match="params must be a list of scalars"):
            tp.nonlin(lambda a, b: a * b, x, params=given)


def test_sampling_takes_bytes_and_two_dtypes():
    p = tp.Program()
    p.vector("x")
    for memory in (None, "1 XB", [1]):
        with pytest.raises(tp.DataError, match="memory must be a positive number of bytes"):
            tp.sample(p, 4, memory=memory)
    for dtype in (None, "float16", int, np.ones(3), "abc"):
        with pytest.raises(tp.DataError, match="dtype must be float64 or float32"):
            tp.sample(p, 4, dtype=dtype)


NET = tp.programs.mlp(depth=1)
ODD = {
    "train optimizer 0": (lambda: tp.train(NET, X, Y, optimizer=0), "unsupported optimizer 0"),
    "features optimizer 0": (lambda: tp.feature_limit(NET, X, Y, optimizer=0), "unsupported optimizer 0"),
    "train width 0": (lambda: tp.train(NET, X, Y, widths=[0, 8]), "integer of at least 1, got 0"),
    "train width 8.5": (lambda: tp.train(NET, X, Y, widths=[8.5, 16]), "integer of at least 1, got 8.5"),
    "train width '16'": (lambda: tp.train(NET, X, Y, widths=(8, "16")), "integer of at least 1, got '16'"),
    "train seeds None": (lambda: tp.train(NET, X, Y, seeds=None), "seeds must be an integer, got None"),
    "train seeds 2.0": (lambda: tp.train(NET, X, Y, seeds=2.0), "seeds must be an integer, got 2.0"),
    "train 'mpu'": (lambda: tp.train(NET, X, Y, parametrization="mpu"), "'mpu'; did you mean 'mup'"),
    "train tp.mup": (lambda: tp.train(NET, X, Y, parametrization=tp.mup), r"tp.mup\(\).*, got <function mup"),
    "verify widths 0": (lambda: tp.verify(NET, X, widths=0), "widths must be a sequence .*, got 0"),
    "verify widths None": (lambda: tp.verify(NET, X, widths=None), "widths must be a sequence .*, got None"),
    "unroll None": (lambda: tp.unroll(None, steps=1), "expected a network .*, got NoneType"),
    "unroll a kernel": (lambda: tp.unroll(tp.ntk(NET), steps=1), "expected a network .*, got Kernel"),
    "gram memory 'a'": (lambda: tp.ntk(NET).gram(X, memory="a"), "positive number of bytes, .* got 'a'"),
    "gram memory -1": (lambda: tp.ntk(NET).gram(X, memory=-1), "positive number of bytes, .* got -1"),
    "source 'a'": (lambda: tp.ntk(NET).source("a"), "unknown language 'a' .*; known: jax, numpy, torch"),
    "evaluate 'a'": (lambda: tp.limit(tp.Program()).evaluate(1, "a"), "values must map .*, got 'a'"),
    "sampling 'a'": (lambda: tp.limit(tp.Program(), "sampling", values="a"), "values must map .*, got 'a'"),
    "phi None": (lambda: tp.programs.mlp(phi=None), "phi of mlp is a function such as tp.relu, not None"),
    "phi 3": (lambda: tp.programs.rnn(phi=3), "phi of rnn is a function such as tp.relu, not 3"),
    "empirical NTK of sign": (lambda: tp.empirical_ntk(tp.programs.mlp(phi=tp.sign), X, width=8), "sign jumps"),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_settings_are_refused_by_name(name):
    call, words = ODD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()


def test_a_coordinate_check_is_drawn_where_it_can_be(tmp_path):
    check = tp.coordinate_check(NET, X, Y, [tp.mup()], widths=(8, 16), steps=1, seeds=2)
    with pytest.raises(tp.DataError, match="saved to a path"):
        check.plot(0)
    with pytest.raises(tp.DataError, match="cannot write"):
        check.plot(str(tmp_path / "nowhere" / "a.png"))
    assert check.plot(str(tmp_path / "a.png")).exists()


LONG = 10**5000  # Python prints no more than 4300 digits


@pytest.mark.parametrize(
    "call",
    [
        lambda: tp.sample(LONG, width=4),
        lambda: tp.Program().scalar(LONG, 1),
        lambda: tp.Program().vector(LONG, 1),
        lambda: tp.nngp(tp.programs.mlp(sigma_w=sp.Symbol("s", positive=True)))(X, values={"s": LONG}),
        lambda: tp.nngp(tp.programs.rnn()).source(values={LONG: 1}),
        lambda: tp.abc([LONG, 0, 1], [0, 0, LONG], LONG),
        lambda: tp.check_formula(LONG, tp.programs.mlp()),
        lambda: tp.learn.NTKRegressor(tp.programs.mlp(depth=1)).fit(X, Y).predict([[LONG, 1]]),
        lambda: tp.learn.NTKRegressor(tp.programs.mlp(depth=1)).fit([[LONG, 1], [0, 1]], Y),
        lambda: tp.ntk(tp.programs.mlp(), method=LONG),
        lambda: tp.draw(tp.programs.mlp(), path=LONG),
        lambda: tp.draw(tp.programs.mlp(), highlight=[LONG]),
    ],
    ids=[
        "program",
        "name of a scalar",
        "name of a vector",
        "value",
        "name",
        "exponents",
        "claim",
        "data",
        "training",
        "method",
        "path",
        "highlight",
    ],
)
def test_whole_numbers_without_a_text_are_refused_in_words(call):
    with pytest.raises(tp.TensorProgramError, match=r"digits|too large|numbers up to"):
        call()


def test_messages_cut_what_was_given():
    """An integer of thousands of digits has no repr, and an array of thousands of rows a long one."""
    for path in Path(tp.__file__).parent.rglob("*.py"):
        for line in path.read_text().splitlines():
            assert not re.search(r"got \{[^}]*!r\}", line), f"{path.name}: {line.strip()} (use errors.shortly)"


def test_no_sequences_of_tokens_are_refused_as_no_vectors_are():
    with pytest.raises(tp.DataError, match="X1 holds no inputs"):
        tp.ntk(tp.programs.rnn()).gram(np.zeros((0, 3), int))


def test_targets_of_several_lengths_are_refused():
    with pytest.raises(tp.DataError, match="y must be one array"):
        tp.learn.NTKRegressor(tp.programs.rnn()).fit(np.ones((2, 1, 2)), [np.ones(2), np.ones(3)])
