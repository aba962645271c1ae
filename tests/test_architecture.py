"""The house: imports point downward only, every public name exists, files stay small."""

import ast
import builtins
import importlib
import inspect
from pathlib import Path

import networkx as nx
import pytest

import tensorprog
from tensorprog.dsl.nonlinearities import Nonlinearity

ROOT = Path(tensorprog.__file__).parent
ROOMS = [
    *(
        "errors",
        "ceilings",
        "given",
        "lazy",
        "types",
        "files",
        "locks",
        "progress",
        "printing",
        "at_numbers",
        "functions",
    ),
    *("members", "rationals", "products", "algebra"),
    *("ir", "dsl", "nn", "expectations", "limit", "passes", "compile"),
    *("formulas", "derivation", "sgd", "recursions", "grams", "export", "kernels"),
    *("finite", "report", "appendix", "coordinates", "verify_members", "verify", "train"),
    *("programs", "learn", "studies"),
    *("lookup", "gallery", "commands", "cli", "demo", "__main__"),
]
INNER = {"expectations": ["quadrature", "closed", "series", "many", "angles"]}  # rooms within a room, lowest first
FILES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py"))
MODULES = [f for f in FILES if f != Path("__init__.py")]


def imports(tree):
    """The modules of this package that a file names in its import statements, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{a.name}" for a in node.names)
            assert node.level == 0, "imports are absolute"
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


def imported_modules(file):
    """The files of this package that a file imports, whether at its top, in a function or for types only."""
    for name in imports(ast.parse((ROOT / file).read_text())):
        parts = name.split(".")[1:] if name.split(".")[0] == "tensorprog" else []
        found = [Path(*parts[:k]).with_suffix(".py") for k in range(len(parts), 0, -1)]
        yield from [f for f in found if f in MODULES][:1]


def room_of(file):
    return file.parts[0].removesuffix(".py")


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_imports_point_downward(file):
    assert room_of(file) in ROOMS, f"{file} is in no room: add it to ROOMS"
    own = ROOMS.index(room_of(file))
    for name in imports(ast.parse((ROOT / file).read_text())):
        if name.split(".")[0] == "tensorprog" and name != "tensorprog.__version__":
            room = (name.split(".") + [""])[1]
            assert room in ROOMS[: own + 1], f"{file} imports {name}, which is above {ROOMS[own]}"


@pytest.mark.parametrize("room", INNER)
def test_rooms_within_a_room_are_on_a_ladder_too(room):
    ladder = INNER[room]
    assert {f.parts[1] for f in FILES if f.parts[0] == room and len(f.parts) == 3} == set(ladder)
    inner = [f for f in MODULES if f.parts[0] == room and len(f.parts) == 3]
    for file, other in ((f, m) for f in inner for m in imported_modules(f) if m in inner):
        assert ladder.index(other.parts[1]) <= ladder.index(file.parts[1]), f"{file} imports {other}, which is above it"


def circles(arrows):
    """The sets of files that import each other."""
    return [sorted(map(str, c)) for c in nx.strongly_connected_components(nx.DiGraph(arrows)) if len(c) > 1]


def test_there_is_no_circle_of_files_not_even_by_late_imports_or_for_types():
    found = circles((f, other) for f in MODULES if f.name != "__init__.py" for other in imported_modules(f))
    assert not found, f"files that import each other: {found}"
    assert circles([("a", "b"), ("b", "c"), ("c", "a"), ("c", "d")]) == [["a", "b", "c"]]


def test_a_name_means_one_thing():
    names = [f.stem for f in MODULES if f.stem != "__init__"]
    assert len(names) == len({*names}), f"{sorted({n for n in names if names.count(n) > 1})} stand in several rooms"


def exports(stub):
    """(module, name there, public name) of every line of a stub."""
    nodes = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    return [(node.module, a.name, a.asname) for node in nodes for a in node.names]


@pytest.mark.parametrize("package", [tensorprog, tensorprog.learn, tensorprog.studies], ids=lambda p: p.__name__)
def test_every_public_name_is_exported_under_its_own_name_and_importable(package):
    lines = exports(Path(package.__file__).with_name("__init__.pyi"))
    assert len({public for _, _, public in lines}) == len(lines) > 5
    for module, name, public in lines:
        assert public in (name, name.rstrip("_")), f"{name} must be re-exported explicitly"
        home = importlib.import_module(module)
        found = getattr(home, name)
        assert getattr(package, public) is found, f"a room covers {public}"
    assert dir(package) == sorted(public for _, _, public in lines)


@pytest.mark.parametrize("package", [tensorprog, tensorprog.learn, tensorprog.studies], ids=lambda p: p.__name__)
def test_import_star_brings_every_public_name_and_covers_no_builtin(package):
    found = {}
    exec(f"from {package.__name__} import *", found)
    brought = set(found) - {"__builtins__"}
    assert brought == set(package.__all__) == set(dir(package)) - {n for n in dir(package) if hasattr(builtins, n)}


def test_public_names_win_over_rooms_of_the_same_name():
    for room in ("limit", "train", "verify"):
        assert inspect.ismodule(importlib.import_module(f"tensorprog.{room}"))
        assert inspect.isfunction(getattr(tensorprog, room))
    assert inspect.ismodule(tensorprog.learn) and inspect.ismodule(tensorprog.programs)


def test_a_name_that_is_not_public_is_refused_with_the_nearest():
    with pytest.raises(AttributeError, match=r"tensorprog has no 'rellu'; did you mean 'relu'\?"):
        tensorprog.rellu  # noqa: B018
    with pytest.raises(AttributeError, match=r"dir\(tensorprog\.learn\) lists"):
        tensorprog.learn.qqqq  # noqa: B018


def test_nn_holds_every_nonlinearity():
    names = {n for n in dir(tensorprog) if isinstance(getattr(tensorprog, n), Nonlinearity)}
    names |= {n for module, _, n in exports(ROOT / "__init__.pyi") if module == Nonlinearity.__module__}
    assert names == {n for n in dir(tensorprog.nn) if not n.startswith("_") and n != "builtins"}
    assert all(getattr(tensorprog.nn, n) is getattr(tensorprog, n) for n in names)
    assert set(tensorprog.nn.__all__) == names - {"abs"}


@pytest.mark.parametrize("file", FILES, ids=str)
def test_files_are_short(file):
    assert len((ROOT / file).read_text().splitlines()) < 450
