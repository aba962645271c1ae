"""What public calls are given: an answer or an error in the package's words, for every argument of every method.

Methods are found by looking at the classes, so that a new one is tested as soon as it exists; an argument that nothing
had so far needs a value in ``GOOD``.
"""

import inspect
import warnings
from functools import cache

import numpy as np
import pytest
import sympy as sp

import tensorprog as tp
from tensorprog import learn
from tests.results import NET, RESULTS, X, Y, made, program


class Odd:
    """An object that nothing knows."""


P, W, V, S = program()[0], *program()[1:4]
BAD = {
    "None": None, "a text": "a", "no text": "", "bytes": b"a", "-1": -1, "0": 0, "1.5": 1.5, "-0.5": -0.5,
    "nan": np.nan, "inf": np.inf, "1e308": 1e308, "True": True, "10^40": 10**40, "a list": ["a"], "no list": [],
    "a list of None": [None], "a ragged list": [[1, 2], [3]], "no tuple": (), "a dict": {"a": 1}, "no dict": {},
    "numbers by number": {1: 2}, "no numbers": np.array([]), "an array of text": np.array("a"),
    "an array": np.ones((2, 2, 2)), "an array of nan": np.array([np.nan]), "complex": np.eye(2) * 1j,
    "a symbol": sp.Symbol("q"), "a null byte": "é\0", "a class": object, "an object": Odd(), "a function": len,
    "a nonlinearity": tp.relu, "a network": NET, "a kernel": tp.nngp(NET), "a program": P, "a vector": V,
    "a matrix": W,
}  # fmt: skip
T = made("Trace")
GOOD = {
    "K": np.eye(3), "K_test": np.ones((1, 3)), "K_test_test": np.ones((1, 1)), "X": X, "X1": X, "a": V, "b": V, "c": 0,
    "answer": tp.Estimate(1.0), "cov": [[1]], "degree": 2, "expected": -0.5, "expr": 1, "f0": Y, "fn": lambda *a: 1,
    "i": 0, "index": 0, "inputs": X, "k": 0, "kernels": tp.ntk(NET), "l": 1, "lengths": [None], "lr": 0.1, "names": "u",
    "name": "never_declared", "net": NET, "op": P.op(V.var), "other": V, "parametrization": "mup()", "prefix": "q",
    "parametrizations": [tp.mup()], "program": P, "quantity": "f", "s": 0, "scalar": S, "seeds": 2, "start": 0,
    "steps": 1, "stop": 1, "t": 1, "text": "{}", "theta": np.eye(3), "tolerance": 0.1, "value": 0.5, "var": V.var,
    "variables": [V.var], "vector": "V", "what": NET, "width": 8, "widths": (8, 16), "x": V, "y": Y, "y_test": Y[:2],
}  # fmt: skip
OWN = {  # arguments that mean something else here
    "E": {"vectors": V}, "cov": {"y": V}, "require_full_rank": {"what": "it"}, "shift": {"theta": 1},
    "Trace.covariance": dict.fromkeys("ab", next(iter(T.embeddings))),
    "Trace.gram": dict.fromkeys("ab", T.inputs[0][0]),
    "tp.abc": {"a": (0, 0, 0), "b": (0, 0, 0)},
    "tp.check_formula": {"K": tp.nngp(NET), "claimed": "K(x,x') = 2"}, "tp.compare": dict.fromkeys("ab", NET),
    "tp.derivative": {"kernel": tp.nngp(NET), "order": (0,), "other": ()}, "tp.draw": {"inputs": 1},
    "tp.moment": {"vectors": V}, "SphereSpectrum.learning_curve": {"powers": [1.0], "counts": [4]},
    "tp.nonlin": {"vectors": V}, "tp.polynomial": {"coefficients": 1},
    "tp.spectrum": {"K": tp.nngp(NET), "dim": 3}, "tp.unroll": {"seeds": None, "widths": None},
}  # fmt: skip
ALWAYS = {"widths", "seeds", "steps"}  # given even where they have a default, which takes long
CALLS = ("__call__", "__getitem__", "__contains__", "__matmul__", "__add__", "__mul__", "__pow__")
LIBRARY = (ValueError, TypeError)  # what scikit-learn says of inputs and targets, in words that its users know


def subjects():
    """An object of every public class that has methods."""
    yield from (made(name) for name in RESULTS)
    yield from (tp.SGD(0.1), tp.relu, learn.NTKClassifier(NET).fit(X, [0, 1, 0]))
    yield learn.NTKRegressor(NET, kind="nngp").fit(X, Y)


def ours(thing):
    """Whether it is a function that the package defines."""
    function = getattr(thing, "__func__", thing)
    return inspect.isfunction(function) and function.__module__.startswith("tensorprog")


@cache
def methods():
    """The methods of every public class, bound to an object of it, by name."""
    found = {}
    for thing in subjects():
        kind = type(thing)
        names = [n for n in dir(kind) if n in CALLS or not n.startswith("_")]
        for name in names:
            if ours(inspect.getattr_static(kind, name)):
                found.setdefault(f"{kind.__name__}.{name}", getattr(thing, name))
    return found


MADE_BY_HAND = ("SGD", "Estimate", "Dynamics", "GaussianProcess", "NetworkKernel")  # classes that users call


@cache
def functions():
    """The public functions, and the classes that users make objects of."""
    spaces = [(f"tp.{n}", getattr(space, n)) for space in (tp, learn) for n in dir(space) if n != "nn"]
    return {n: f for n, f in spaces if inspect.isfunction(f) or n.removeprefix("tp.") in MADE_BY_HAND}


def arguments(name, call, chosen, value):
    """The arguments of a call of which one is replaced; a keyword of ``**options`` by ``depth`` and by its own name."""
    own = {**OWN.get(name.rpartition(".")[2], {}), **OWN.get(name, {})}
    given, keywords = [], {}
    for p in inspect.signature(call).parameters.values():
        if p.kind is p.VAR_KEYWORD:
            keywords |= {("depth" if p.name in ("depth", "options") else p.name): value} if p.name == chosen else {}
        elif p.name == chosen or p.name in own or p.default is p.empty or (p.name in ALWAYS and p.name in GOOD):
            this = value if p.name == chosen else own[p.name] if p.name in own else GOOD.get(p.name, p)
            if this is p and p.kind is p.VAR_POSITIONAL:
                continue
            assert this is not p, f"{name} has the argument {p.name}: give it a value in GOOD or in OWN"
            named = p.kind is p.KEYWORD_ONLY or p.default is not p.empty
            keywords |= {p.name: this} if named else {}
            given += [] if named else [this]
    return given, keywords


def foreign(name, call, chosen, value):
    """The error that is not the package's; None where there is an answer or an error in its words."""
    given, keywords = arguments(name, call, chosen, value)
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            call(*given, **keywords)
    except tp.TensorProgramError as error:
        assert str(error), f"{name} says nothing"
    except IndexError as error:
        return None if name.endswith("__getitem__") else error  # it ends loops
    except LIBRARY as error:
        return None if name.startswith("NTK") and chosen in ("X", "y") else error
    except Exception as error:
        return error
    return None


def every_argument(name, call, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    parameters = list(inspect.signature(call).parameters)
    for chosen in parameters:
        for what, value in BAD.items():
            if chosen == "progress" and callable(value):
                continue  # a function that is called, and says itself what it does not take
            error = foreign(name, call, chosen, value)
            assert error is None, f"{name} with {what} as {chosen}: {type(error).__name__}: {error}"


LONG = ("Recursion.fixed_point", "Recursion.fixed_point_account", "CoordinateCheck.plot", "TrainingReport.save")
LONG_FUNCTIONS = ("tp.train", "tp.verify", "tp.feature_limit", "tp.coordinate_check")


def marked(names, long):
    return [pytest.param(n, marks=pytest.mark.slow) if n in long else n for n in names]


@pytest.mark.parametrize("name", marked(methods(), LONG))
def test_methods_answer_or_say_what_is_wrong(name, tmp_path, monkeypatch):
    every_argument(name, methods()[name], tmp_path, monkeypatch)


@pytest.mark.parametrize("name", marked(functions(), LONG_FUNCTIONS))
def test_functions_answer_or_say_what_is_wrong(name, tmp_path, monkeypatch):
    every_argument(name, functions()[name], tmp_path, monkeypatch)


@pytest.mark.parametrize("name", RESULTS)
def test_what_a_result_holds_can_be_looked_at(name):
    thing = made(name)
    for attribute in (n for n in dir(thing) if not n.startswith("_")):
        try:
            getattr(thing, attribute)
        except tp.TensorProgramError as error:
            assert str(error)


def test_an_estimator_refuses_weights_and_takes_none():
    model = learn.NTKRegressor(NET)
    with pytest.raises(tp.ProgramError, match="give alpha as an array, one for each sample"):
        model.fit(X, Y, sample_weight=[1, 2, 1])
    plain = model.fit(X, Y).dual_coef_
    assert np.array_equal(model.fit(X, Y, sample_weight=None).dual_coef_, plain)
    with pytest.raises(tp.ProgramError, match="has no argument 'sample_weights'"):
        learn.NTKClassifier(NET).fit(X, [0, 1, 0], sample_weights=[1, 1, 1])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"values": [1]}, "values must map"),
        ({"values": "a"}, "values must map"),
        ({"values": {"sigma_q": 1.0}}, "no hyperparameter symbol"),
        ({"normalize_y": "no"}, "normalize_y must be True or False, got 'no'"),
        ({"match_equal": None}, "match_equal must be True or False, got None"),
        ({"network": "mlp"}, "expected a network"),
        ({"kind": 1}, "unknown kind of kernel 1"),
        ({"alpha": [1]}, "alpha has 1 noise variances for 3 training inputs"),
        ({"alpha": "a"}, "alpha is a noise variance"),
    ],
)
def test_options_of_estimators_are_looked_at_when_they_are_fitted(change, words):
    with pytest.raises(tp.TensorProgramError, match=words):
        learn.NTKRegressor(**change).fit(X, Y)


@pytest.mark.parametrize("size", [-1, 0, 1.5, None, True])
def test_draws_are_counted(size):
    model = learn.NTKRegressor(NET, kind="nngp").fit(X, Y)
    with pytest.raises(tp.DataError, match="the number of draws must be an integer"):
        model.sample_y(X, n_samples=size)


def test_old_and_new_generators_draw():
    model = learn.NTKRegressor(NET, kind="nngp").fit(X, Y)
    draws = [model.sample_y(X, 1, g) for g in (0, np.random.default_rng(0), np.random.RandomState(0), None)]
    assert np.array_equal(draws[0], draws[1]) and all(d.shape == (3, 1) for d in draws)
