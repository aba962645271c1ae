"""Arguments of a wrong type are refused by name, whatever the function."""

import re
import subprocess
import sys

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog.cli import main
from tensorprog.errors import DataError
from tensorprog.learn import Dynamics

X, Y = np.array([[1.0, 0.5], [0.2, -1.0]]), np.array([1.0, -1.0])
MLP = tp.programs.mlp(depth=1, phi=tp.tanh)
SIGMA = sp.Symbol("sigma_w", positive=True)
SYMBOLIC = tp.programs.mlp(depth=1, sigma_w=SIGMA)
SMALL = {"widths": (8, 16), "steps": 1, "seeds": 2}

CALLS = {
    "lengths must be positive integers, one for each input, got 4": lambda: tp.draw(tp.programs.rnn(), lengths=4),
    "leave out lengths=3": lambda: tp.draw(MLP, lengths=3),
    "two positive integers (T, T'), got 3": lambda: tp.ntk(tp.programs.rnn(), lengths=3),
    "leave out lengths=2": lambda: tp.ntk(MLP, lengths=2),
    "saved under a file name, got None": lambda: tp.draw(MLP).save(None),
    "gram takes a kernel or a list of kernels": lambda: tp.gram(MLP, X),
    "path must be a file name, got 3": lambda: tp.ntk(MLP).gram(X, path=3),
    "hidden is the number of hidden matrices": lambda: tp.mup().classify(MLP),
    "X1[1] has entries of size 1e+200": lambda: tp.ntk(MLP).gram([[1.0, 2.0], [1e200, 0.0]]),
    "X2[0] has entries of size 1e+200": lambda: tp.ntk(MLP)(X, [[1e200, 0.0]]),
    "X1[0] has entries of size 1e+30": lambda: tp.ntk(MLP).gram([[1e30, 0.0]], dtype="float32"),
    "X1[1][0] has entries of size 2e+200": lambda: tp.nngp(tp.programs.rnn()).gram([[[1.0]], [[-2e200]]]),
    "Dynamics has no argument 'tets'": lambda: Dynamics([[1.0]], [1.0], tets=3),
    "Dynamics.of has no argument 'x_test'; did you mean 'X_test'": lambda: Dynamics.of(MLP, X, Y, x_test=X),
    "the degree must be at most 250": lambda: tp.hermite(10**6),
    "at most 250; beyond it": lambda: tp.monomial(10**6),
    "Symbol('sigma_w', positive=True)": lambda: tp.ntk(SYMBOLIC)(X, values={sp.Symbol("sigma_w"): 1.0}),
    "pass values={Symbol('sigma_w', positive=True)": lambda: tp.ntk(SYMBOLIC).gram(X, values={sp.Symbol("sigma_w"): 1}),
    "cannot write /proc/no.svg": lambda: tp.draw(MLP).save("/proc/no.svg"),
    "expected a network such as": lambda: tp.feature_limit(None, X, Y),
    "mlp', 'given'": lambda: tp.train(["mlp", "given"], X, Y),
    "got str 'mlp'": lambda: tp.coordinate_check("mlp", X, Y, [tp.mup()]),
    "(64, 128, 256), got 32": lambda: tp.train(MLP, X, Y, widths=32),
    "(64, 128, 256), got 64": lambda: tp.coordinate_check(MLP, X, Y, [tp.mup()], widths=64),
    "a list such as [tp.mup()], got mup()": lambda: tp.coordinate_check(MLP, X, Y, tp.mup(), **SMALL),
    "a list such as [tp.mup()], got []": lambda: tp.coordinate_check(MLP, X, Y, [], **SMALL),
    "or one of 'ntk', 'standard', 'mup', got 'mu'": lambda: tp.coordinate_check(MLP, X, Y, ["mu"], **SMALL),
    "are functions of x": lambda: tp.declare("constant_pieces", kinks=(0,), pieces=(0, 1)),
    "such as lambda x: x**2": lambda: tp.declare("written_as_text", "x**2"),
    "declare(3)": lambda: tp.declare(3, lambda x: x),
    "a time must be at least 0, got 'soon'": lambda: tp.learn.Dynamics.of(MLP, X, Y, X).test_mean("soon"),
    "must be a number, got '1.5'": lambda: tp.ntk(SYMBOLIC)(X, values={SIGMA: "1.5"}),
    "sigma_w was declared not negative, got -1.0": lambda: tp.ntk(SYMBOLIC)(X, values={SIGMA: -1}),
    "a coefficient is beyond 1e308": lambda: _square(tp.hermite(200)),
    "φ has no numbers: it is abstract": lambda: tp.ntk(tp.programs.mlp(phi=tp.abstract("phi"))).recursion(
        form="forward"
    )(X, depth=2),
}


def _square(phi):
    p = tp.Program()
    x, lim = p.vector("x"), tp.limit(p)
    return lim.evaluate(lim.E(lambda a: phi(a) ** 2, x))


@pytest.mark.parametrize("message", CALLS)
def test_wrong_arguments_are_named(message):
    with pytest.raises(tp.TensorProgramError, match=re.escape(message)):
        CALLS[message]()


def test_accounts_print_their_numbers_only():
    p = tp.Program()
    x = p.vector("x")
    y, lim = tp.relu(x), tp.limit(p)
    assert "<function" not in repr(lim.account(lim.cov(y, x)))


def test_import_leaves_out_the_statistics_of_scipy():
    code = "import sys, tensorprog; sys.exit('scipy.stats' in sys.modules)"
    assert subprocess.run([sys.executable, "-W", "error", "-c", code], check=False).returncode == 0


def test_dynamics_say_what_they_are_of():
    assert repr(Dynamics([[2.0]], [1.0])) == "<training dynamics of 1 training input, loss averaged, steps below 1>"
    two = Dynamics(np.eye(2), np.ones((2, 3)), theta_test=np.ones((4, 2)), average=False)
    assert "2 training inputs, 3 outputs, 4 test inputs, loss summed" in repr(two)


@pytest.mark.parametrize("arguments", [
    ["verify", "mlp", "-p", "depth=1", "--widths", "8,16", "--seeds", "2"],
    ["train", "mlp", "-p", "depth=1", "--widths", "8,16", "--seeds", "2", "--steps", "1"],
    ["draw", "mlp", "-p", "depth=1"],
], ids=lambda a: a[0])  # fmt: skip
def test_a_path_that_cannot_be_written_is_an_error_with_advice(arguments, tmp_path, capsys):
    (tmp_path / "file").write_text("not a folder")
    out = tmp_path / "file" / ("picture.svg" if arguments[0] == "draw" else "folder")
    assert main([*arguments, "--out", str(out)]) == 2
    message = capsys.readouterr().err
    assert (
        "cannot write" in message
        and str(tmp_path / "file") in message
        and "give a path in an existing folder" in message
    )
    assert "Errno" not in message


def test_a_report_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("not a folder")
    report = tp.train(MLP, X, Y, **SMALL)
    with pytest.raises(DataError, match="cannot write .*give a path in an existing folder"):
        report.save(tmp_path / "file" / "folder")
