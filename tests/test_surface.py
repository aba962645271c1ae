"""What users find on the objects they hold: what the reference documents, and nothing that only the package uses."""

import inspect
import re
import sys

import pytest

import tensorprog as tp
from tensorprog import learn
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Var
from tensorprog.passes.unroll import Plan
from tests.results import NET, RESULTS, X, Y, made

NO_RESULTS = {"SGD": tp.SGD(0.1), "relu": tp.relu, "NTKRegressor": learn.NTKRegressor(NET).fit(X, Y)}
OBJECTS = [*RESULTS, *NO_RESULTS]
PARTS = {ProgramGraph, Var, Plan}  # of programs and of training, which print themselves


def held(name):
    return made(name) if name in RESULTS else NO_RESULTS[name]


def ours(kind):
    return [c for c in kind.__mro__ if c.__module__.startswith("tensorprog")]


def public(thing):
    """The public names of an object that the package gives it, not a library below."""
    theirs = {n for c in type(thing).__mro__ if not c.__module__.startswith("tensorprog") for n in vars(c)}
    return {n for n in dir(thing) if not n.startswith("_")} - theirs


def described(kind):
    """The names that docstrings describe: members in their own, arguments and attributes in that of the class."""
    found = {n for c in ours(kind) for n, m in vars(c).items() if inspect.getdoc(m) and not isinstance(m, (str, bool))}
    for c in ours(kind):
        for names in re.findall(r"^ +((?:\w+, )*\w+): ", inspect.getdoc(c) or "", re.M):
            found |= set(names.split(", "))
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_name_is_described(name):
    thing = held(name)
    assert public(thing) - described(type(thing)) == set()


def internal(kind):
    """The classes that a public method of a class takes or gives and that users cannot know, by method."""
    known = {type(held(name)) for name in OBJECTS} | {v for v in vars(tp).values() if inspect.isclass(v)} | PARTS
    found = {}
    for name, member in ((n, m) for c in ours(kind) for n, m in vars(c).items() if not n.startswith("_")):
        function = getattr(member, "fget", None) or getattr(member, "func", None) or getattr(member, "__func__", member)
        if inspect.isfunction(function):
            words = set(re.findall(r"\w+", " ".join(map(str, function.__annotations__.values()))))
            there = (getattr(sys.modules[function.__module__], w, None) for w in words)
            classes = {c for c in there if inspect.isclass(c) and c.__module__.startswith("tensorprog")}
            found |= {name: names} if (names := {c.__name__ for c in classes - known}) else {}
    return found


@pytest.mark.parametrize("name", OBJECTS)
def test_methods_take_and_give_what_users_know(name):
    """What speaks of polynomials, tapes or interpreters is for the package alone, and has a leading underscore."""
    for public_name in dir(tp):
        getattr(tp, public_name)  # they are imported when asked for
    assert internal(type(held(name))) == {}
