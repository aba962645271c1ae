"""The house: imports point downward only, every public name exists, files stay small."""

import ast
import importlib
from pathlib import Path

import pytest

import tensorprog

ROOT = Path(tensorprog.__file__).parent
ROOMS = ["errors", "locks", "printing", "functions", "products", "algebra", "ir", "dsl", "expectations", "limit",
         "passes", "compile", "kernels", "finite", "report", "coordinates", "verify", "train", "programs", "learn",
         "cli", "demo"]  # fmt: skip
FILES = sorted(p.relative_to(ROOT) for p in ROOT.rglob("*.py"))
MODULES = [f for f in FILES if f != Path("__init__.py")]


def imports(tree):
    """The modules of this package that a file names in its import statements, wherever they stand."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{a.name}" for a in node.names] if node.module == "tensorprog" else [node.module]
            yield from (n or "" for n in names)
            assert node.level == 0, "imports are absolute"
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


@pytest.mark.parametrize("file", MODULES, ids=str)
def test_imports_point_downward(file):
    assert file.parts[0].removesuffix(".py") in ROOMS, f"{file} is in no room: add it to ROOMS"
    own = ROOMS.index(file.parts[0].removesuffix(".py"))
    for name in imports(ast.parse((ROOT / file).read_text())):
        if name.split(".")[0] == "tensorprog":
            room = (name.split(".") + [""])[1]
            assert room in ROOMS[: own + 1], f"{file} imports {name}, which is above {ROOMS[own]}"


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
