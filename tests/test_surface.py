"""What users find on the objects they hold: what the reference documents, and nothing that only the package uses."""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

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
    theirs -= {n for c in ours(type(thing)) for n in vars(c)}
    return {n for n in dir(thing) if not n.startswith("_") and not n.endswith("_request")} - theirs


def described(kind):
    """The names that docstrings describe: members in their own, arguments and attributes in that of the class."""
    found = {n for c in ours(kind) for n, m in vars(c).items() if inspect.getdoc(m) and not isinstance(m, (str, bool))}
    for c in ours(kind):
        for names in re.findall(r"^ +((?:\w+, )*\w+): ", inspect.getdoc(c) or "", re.M):
            found |= set(names.split(", "))
    return found


def pages():
    """The pages of the reference."""
    path = Path(__file__).parents[1] / "docs" / "_reference.py"
    spec = importlib.util.spec_from_file_location("_reference", path)
    reference = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(reference)
    return "\n".join(reference.pages().values())


@pytest.mark.parametrize("name", OBJECTS)
def test_every_public_name_is_described(name):
    thing = held(name)
    assert public(thing) - described(type(thing)) == set()


def test_the_reference_lists_what_objects_show():
    text, met = pages(), set()
    for name in OBJECTS:
        kind = type(held(name))
        directive = rf"^\.\. autoclass:: tensorprog\.([\w.]+\.)?{kind.__name__}$(?:\n   :members: (.*))?"
        entry = re.search(directive, text, re.M)
        if kind.__name__ in ("ProgramGraph", "Derivation"):  # of the rooms: no public call gives them
            continue
        assert entry is not None, f"{kind.__name__} has no place: add it to RESULTS of docs/_reference.py"
        listed = set((entry[2] or "").split(", ")) - {""}
        assert public(held(name)) == listed | (described(kind) & public(held(name))), name
        assert listed <= public(held(name)), name
        met.add(kind.__name__)
    assert {"Kernel", "Recursion", "Limit", "Run", "Training", "Verification"} <= met


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
