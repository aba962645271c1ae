"""Arguments of a wrong type are refused in the package's own words, with what was given."""

import numpy as np
import pytest

import tensorprog as tp

NET = tp.programs.mlp(depth=1)
RUN = tp.unroll(NET, steps=2)
X = np.eye(2)


def declared(**given):
    return tp.declare("never_declared", **given)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tp.verify(3, X), "expected a network such as .*, got int 3"),
        (lambda: tp.ntk(NET, trainable=3), "trainable must be a list of names, got the int 3"),
        (lambda: tp.ntk(NET, trainable=[["V"]]), r"trainable names the unknown parameter \['V'\]"),
        (lambda: tp.verify(NET, X, out=3), "out must be the path of a folder, got the int 3"),
        (lambda: tp.train(NET, X, [1, 0], out=[]), "out must be the path of a folder, got the list"),
        (lambda: tp.train(NET, X, [1, 0], times=3), "times must be a list of steps, got the int 3"),
        (lambda: tp.train(NET, X, [1, 0], times=["a"]), "times must lie between 1 and 10, got"),
        (lambda: tp.draw(NET, highlight=3), "highlight must be a list of names, got the int 3"),
        (lambda: declared(kinks=3, pieces=[abs, abs]), "kinks must be a list of numbers, got the int 3"),
        (lambda: declared(pieces=abs), "pieces must be a list of functions, got the builtin"),
        (lambda: declared(formula=lambda: 0), "the formula of never_declared must be a function of x"),
        (lambda: tp.ntk(NET).recursion(over=3), "over must be a list of sizes, got the int 3"),
        (lambda: tp.ntk(NET).recursion().fixed_point(X, rtol="a"), "rtol must be a number between 0 and 1, got 'a'"),
        (lambda: tp.limit(tp.Program()).account(1, values=3), "values must map hyperparameters to numbers"),
        (lambda: tp.learn.Dynamics.of(NET, X, [1, 0], values=3), "values must map hyperparameters to numbers"),
        (lambda: tp.learn.Spectrum.of(X, eps="a"), "eps must be a number of at least 0, got 'a'"),
        (lambda: RUN.delta_f(2), "t must be an integer from 0 to 1, got 2"),
        (lambda: RUN.delta_f(0, test="a"), "test must be an integer from 0 to 0, got 'a'"),
        (lambda: RUN.delta_f(0, head=1), "head must be an integer from 0 to 0, got 1"),
        (lambda: RUN.zdelta([], "V"), r"t must be an integer from 0 to 2, got \[\]"),
        (lambda: tp.Program().named([]), "this program defines no"),
    ],
)
def test_an_argument_is_named_with_what_was_given(call, words):
    with pytest.raises((tp.ProgramError, tp.DataError), match=words):
        call()


@tp.network
def twice(net, x):
    return net.readout("U", net.embed("U", x))


def test_kinds_have_the_right_article():
    with pytest.raises(tp.ProgramError, match="'U' is an embedding and cannot be used as a readout"):
        tp.ntk(twice())


def test_arrays_and_lists_where_names_belong_are_refused_in_words(tmp_path):
    net, X, wrong = tp.programs.mlp(depth=1), [[1.0, 0.5]], np.ones(2)
    K = tp.ntk(net)
    for call, words in (
        (lambda: K.gram(X, backend=["numba"]), "backend is a name"),
        (lambda: K.gram(X, path=tmp_path / "k.npy", resume=wrong), "resume is True or False"),
        (lambda: tp.ntk(net, rates=wrong), "rates must be a mapping"),
        (lambda: tp.ntk(net, parametrization=wrong), "parametrization must be"),
    ):
        with pytest.raises(tp.TensorProgramError, match=words):
            call()
