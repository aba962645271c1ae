"""The house: imports point downward only, every public name exists, files stay small."""

import ast
import importlib
from pathlib import Path

import networkx as nx
import pytest

import tensorprog

ROOT = Path(tensorprog.__file__).parent
ROOMS = ["errors", "locks", "printing", "functions", "products", "algebra", "ir", "dsl", "expectations", "limit",
         "passes", "compile", "formulas", "derivation", "sgd", "recursions", "grams", "kernels", "finite", "report",
         "coordinates", "verify", "train", "programs", "learn", "cli", "demo"]  # fmt: skip
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
        if name.split(".")[0] == "tensorprog":
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


def test_every_public_name_is_exported_under_its_own_name_and_importable():
    tree = ast.parse((ROOT / "__init__.py").read_text())
    aliases = [(node.module, a) for node in tree.body if isinstance(node, ast.ImportFrom) for a in node.names]
    assert len(aliases) > 30 and len({a.asname for _, a in aliases}) == len(aliases)
    for module, alias in aliases:
        assert alias.asname in (alias.name, alias.name.rstrip("_")), f"{alias.name} must be re-exported explicitly"
        found = getattr(importlib.import_module(module), alias.name, None)
        assert found is not None and getattr(tensorprog, alias.asname) is found
    assert all(isinstance(node, (ast.ImportFrom, ast.Expr)) for node in tree.body), "__init__ holds names only"


@pytest.mark.parametrize("file", FILES, ids=str)
def test_files_are_short(file):
    assert len((ROOT / file).read_text().splitlines()) < 450
