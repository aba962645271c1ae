"""What newcomers write first, taken from NumPy, sympy or torch, is answered with what to write instead."""

from fractions import Fraction

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.cli import main

X = np.eye(2)


@tp.network
def mynet(net, x, depth=2):
    h = net.embed("U", x)
    for layer in range(depth):
        h = net.dense(("W", layer + 1), tp.relu(h))
    return net.readout("V", tp.relu(h))


def traced(layers):
    """The kernel of a network with these layers on a hidden vector."""
    return tp.ntk(tp.network(lambda net, x: layers(net, x, net.embed("U", x)))())


def matrix():
    program = tp.Program()
    return program.matrix("W"), program.vector("h")


def of_matrix(fn):
    return fn(*matrix())


@pytest.mark.parametrize(
    ("name", "meant"),
    [("Relu", "relu"), ("LeakyReLU", "leaky_relu"), ("NTK", "ntk"), ("swish", "silu"), ("tahn", "tanh")],
)
def test_a_name_that_is_not_there_is_answered_with_the_one_that_was_meant(name, meant):
    with pytest.raises(AttributeError, match=f"tensorprog has no '{name}'; did you mean '{meant}'"):
        getattr(tp, name)


def test_the_gallery_lists_its_networks():
    with pytest.raises(
        AttributeError,
        match="no network 'residual'; did you mean 'residual_mlp'.* known: batchnorm_mlp, bidirectional_rnn",
    ):
        tp.programs.residual  # noqa: B018
    with pytest.raises(AttributeError, match="no network 'capsule'; known: batchnorm_mlp, bidirectional_rnn"):
        tp.programs.capsule  # noqa: B018
    assert not hasattr(tp.programs, "capsule") and hasattr(tp.programs, "mlp")


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: mynet(3), r"mynet: hyperparameters are given by name, such as mynet\(depth=2\); data go to a kernel"),
        (lambda: mynet(X), r"tp.ntk\(mynet\(\)\)\(X\)"),
        (lambda: tp.network(lambda net, x: 0)(X), "it has no hyperparameters; data go to a kernel"),
        (lambda: tp.draw(mynet), r"mynet makes networks from hyperparameters: call it, mynet\(\)"),
        (lambda: tp.draw(mynet, backprop=True), r"call it, mynet\(\)"),
        (lambda: tp.network(lambda x, net: 0), r"\(x, net, ..\): the arguments of a network are \(net, x\)"),
        (lambda: tp.network(lambda net: 0), r"\(net, ..\): the arguments of a network are \(net, x\)"),
        (lambda: traced(lambda net, x, h: net.readout("V", sp.tanh(h))), r"write tp.tanh\(U\(x\)\) for tanh"),
        (lambda: of_matrix(lambda W, h: W(h)), "W is a matrix of a program, not a function; write W @ h"),
        (lambda: of_matrix(lambda W, h: W @ W.T @ h), r"W @ W.T: .* write W @ \(W.T @ h\)"),
        (lambda: of_matrix(lambda W, h: W.T @ W @ h), r"write W.T @ \(W @ h\)"),
        (lambda: of_matrix(lambda W, h: np.transpose(W) @ h), "write W.T$"),
        (lambda: of_matrix(lambda W, h: tp.nonlin(W, h)), "expected a function, got W"),
        (lambda: traced(lambda net, x, h: net.dense("W", h, sigma=2)),
         r"net.dense\(\) got an unexpected keyword argument 'sigma'.* std is the scale"),
        (lambda: traced(lambda net, x, h: net.readout("V")), r"write net.readout\(key, x, std=1"),
        (lambda: traced(lambda net, x, h: h + net.readout("V", h)),
         r"U\(x\) is a vector of a program and V·U\(x\)/√n is an output of the network: write net.readout"),
        (lambda: traced(lambda net, x, h: [net.readout("V", h)]), r"got \[V·U\(x\)/√n\]"),
        (lambda: traced(lambda net, x, h: h + x), r'x is an input of the network: write net.embed\("U", x\)'),
    ],
)  # fmt: skip
def test_what_is_written_elsewhere_is_answered_with_what_to_write_here(call, words):
    with pytest.raises(tp.ProgramError, match=words):
        call()


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: of_matrix(lambda W, h: W.transpose()), r"W.transpose\(\): W is a matrix of a program; write W.T"),
        (lambda: of_matrix(lambda W, h: h.T @ h), "h.T: h is a vector of a program; write tp.moment"),
        (
            lambda: traced(lambda net, x, h: net.linear("W", h)),
            "no layer 'linear'; did you mean 'dense'.* known: a",
        ),
        (lambda: traced(lambda net, x, h: net.Dense("W", h)), "no layer 'Dense'; did you mean 'dense'"),
    ],
)
def test_methods_that_are_not_there_are_attribute_errors_of_ours(call, words):
    with pytest.raises(tp.ProgramError, match=words) as error:
        call()
    assert isinstance(error.value, AttributeError)


def test_hasattr_asks_which_layers_there_are():
    found = []
    traced(
        lambda net, x, h: found.extend(hasattr(net, k) for k in ("dense", "linear")) or net.readout("V", h)
    )._derive()
    assert found[:2] == [True, False]


@pytest.mark.parametrize(
    ("depth", "words"),
    [
        (2.0, r"depth = 2.0 is no integer; write it as an integer, such as mynet\(depth=2\)"),
        (np.float64(2), "depth = .*2.0.* is no integer"),
        ("3", "depth = '3' is no integer"),
        (Fraction(2), "is no integer"),
        (
            sp.Symbol("d"),
            r"depth = d is no integer; for a recursion in depth, .*mynet\(depth=2\)\).recursion\(\)",
        ),
        (sp.Symbol("d") + 1, r"depth = d \+ 1 is no integer"),
    ],
)
def test_a_depth_that_is_no_integer_is_named(depth, words):
    with pytest.raises(tp.ProgramError, match=words) as error:
        tp.ntk(mynet(depth=depth))
    assert isinstance(error.value.__cause__, TypeError)


def test_other_type_errors_of_a_body_stay_as_they_are():
    with pytest.raises(TypeError, match="unsupported operand"):
        traced(lambda net, x, h: net.readout("V", h * (1 + "a")))
    with pytest.raises(TypeError, match="'float' object cannot be interpreted as an integer"):
        traced(lambda net, x, h: net.readout("V", h * len(range(2.0))))  # no hyperparameter is to blame


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ([[1.0, 2.0], [1.0]], r"X1\[1\] has shape \(1,\) and X1\[0\] has \(2,\): the rows of an array have one length"),
        ([[1.0, 2.0], 3.0], r"X1\[1\] has shape \(\) and X1\[0\] has \(2,\)"),
        ([[[1.0, 2.0], [1.0]], [[1.0, 2.0]]], r"X1\[0\]\[1\] has shape \(1,\) and X1\[0\]\[0\] has \(2,\)"),
        ([[1.0, "a"], [1.0, 2.0]], "X1 must hold real numbers"),
    ],
)
def test_rows_of_different_lengths_are_named(given, words):
    with pytest.raises(tp.DataError, match=words):
        tp.nngp(mynet())(given)


def test_a_sequence_with_uneven_rows_is_named():
    with pytest.raises(tp.DataError, match=r"X1\[1\]\[2\] has shape \(1,\) and X1\[1\]\[0\] has \(2,\)"):
        tp.nngp(tp.programs.rnn())([np.ones((2, 2)), [[1.0, 2.0], [3.0, 4.0], [5.0]]])


def test_a_folder_is_not_named_like_a_picture(tmp_path):
    report = tp.train(tp.programs.mlp(phi=tp.erf), X, [1.0, 0.0], steps=1, widths=(8, 16), seeds=2)
    for save in (report.save, lambda path: tp.verify(mynet(), X, out=path)):
        with pytest.raises(tp.DataError, match="x.PNG is the name of a file; give the name of a folder"):
            save(tmp_path / "x.PNG")
    assert not list(tmp_path.iterdir())
    assert [p.name for p in report.save(tmp_path / "run.v2")] == ["trajectories.png", "errors.png", "verdict.txt"]


OWN = """
import tensorprog as tp

@tp.network
def own(net, x, *, phi=tp.erf):
    return net.readout("V", phi(net.embed("U", x)))
"""


def test_the_gallery_examines_a_network_of_a_file(tmp_path, capsys):
    (tmp_path / "nets.py").write_text(OWN)
    assert main(["gallery", f"{tmp_path / 'nets.py'}:own", "--markdown"]) == 0
    assert "| own | yes | yes |" in capsys.readouterr().out
    assert main(["gallery", f"{tmp_path / 'nets.py'}:other"]) == 2
    assert "defines no network 'other'" in capsys.readouterr().err
