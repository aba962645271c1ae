"""Public functions and methods with values of the wrong kind."""

import inspect
import os
import traceback

import numpy as np

import tensorprog as tp
from tests.fuzz.files import tried
from tests.fuzz.odd import anything

NET, RNN = tp.programs.mlp(depth=1), tp.programs.rnn()
X, Y = np.array([[1.0, 2.0], [0.5, -1.0]]), np.array([1.0, -1.0])


def program():
    """A program with a matrix and vectors."""
    p = tp.Program()
    x, W = p.vector("x"), p.matrix("W")
    tp.relu(W @ x)
    return p


SUBJECTS = {  # and their documented methods
    "kernel": (lambda: tp.ntk(NET), "__call__ gram account recursion text latex source"),
    "kernel of sequences": (lambda: tp.nngp(RNN), "__call__ gram recursion source"),
    "limit": (lambda: tp.limit(program()), "Z zhat zdot mean cov E value evaluate account text"),
    "program": (program, "matrix vector gaussian scalar from_json to_json"),
    "recursion": (lambda: tp.ntk(NET).recursion(), "__call__ gram text latex source fixed_point"),
    "vector": (lambda: program().vector("v"), "__add__ __mul__ __pow__ __rsub__ __matmul__ __truediv__"),
    "training": (lambda: tp.unroll(NET, 2), "certify f"),
    "regressor": (lambda: tp.learn.NTKRegressor(NET), "fit predict score set_params"),
    "fitted": (lambda: tp.learn.NTKRegressor(NET).fit(X, Y), "predict score sample_y"),
    "classifier": (lambda: tp.learn.NTKClassifier(NET), "fit predict"),
}
FUNCTIONS = {name: getattr(tp, name) for name in sorted(dir(tp)) if callable(getattr(tp, name)) and name[0].islower()}
FUNCTIONS |= {
    f"learn.{n}": getattr(tp.learn, n)
    for n in sorted(dir(tp.learn))
    if callable(getattr(tp.learn, n)) and (n[0].islower() or n.startswith("NTK"))
}
FUNCTIONS |= {f"programs.{n}": f for n, f in sorted(tp.programs.GALLERY.items())}
GOOD = [NET, X, Y, RNN, 1, 2, "ntk", (8, 16)]
LARGE = ("steps", "samples", "seeds", "width", "widths", "tests", "batch", "dimension", "epochs", "depth")


def value(c, name):
    """An odd value or a good one; numbers that are only large, where they say how much work is wanted, are good."""
    given = c.among(GOOD) if c.below(2) else anything(c)
    huge = isinstance(given, (int, float)) and not isinstance(given, bool) and given > 100
    return 2 if huge and any(word in name for word in LARGE) else given


def call(c, name, function, leading=()):
    """A call with some positional arguments and keywords."""
    try:
        known = [p for p in inspect.signature(function).parameters.values() if p.kind is not p.VAR_KEYWORD]
    except (TypeError, ValueError):
        known = []
    positional = [value(c, known[i].name if i < len(known) else "") for i in range(c.below(4))]
    keywords = {}
    for _ in range(c.below(3)):
        key = c.among([p.name for p in known] or ["x"])
        if key not in [p.name for p in known[: len(positional)]] and key != "self":
            keywords[key] = value(c, key)
    text = f"{name}(*{positional!r}, **{keywords!r})" if no_long(positional, keywords) else f"{name} of long numbers"
    return text, lambda: bound(function, positional, keywords)


def bound(function, positional, keywords):
    """The call, where Python itself accepts the number and names of its arguments."""
    try:
        inspect.signature(function).bind(*positional, **keywords)
    except (TypeError, ValueError):
        return
    result = function(*positional, **keywords)
    if no_long(positional, keywords):  # scikit-learn's estimators print what they were given
        tried(lambda: repr(result))


def of_sklearn(run):
    """What scikit-learn checks of data and options before an estimator sees them, it refuses in its own words."""
    try:
        run()
    except (ValueError, TypeError, RuntimeError) as error:
        frames = [f.filename for f in traceback.extract_tb(error.__traceback__)]
        if not any(f"{os.sep}sklearn{os.sep}" in f for f in frames):
            raise


def no_long(*values):
    """Whether Python prints them."""
    try:
        repr(values)
    except ValueError:
        return False
    return True


def case(c):
    if c.below(2):
        name = c.among(sorted(FUNCTIONS))
        return call(c, name, FUNCTIONS[name])
    name = c.among(sorted(SUBJECTS))
    make, methods = SUBJECTS[name]
    subject, method = make(), c.among(methods.split())
    if not callable(getattr(subject, method, None)):
        method = "__repr__"
    text, run = call(c, f"{name}.{method}", getattr(subject, method))
    return text, (lambda: of_sklearn(run)) if name in ("regressor", "fitted", "classifier") else run
