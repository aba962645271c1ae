"""What is built from a checkout holds the whole package, and works where nothing else is."""

import ast
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

import tensorprog

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "tensorprog"
GALLERY = ROOT / "programs"


def shipped():
    """Every file of the package, by its place in a wheel."""
    files = [p for p in PACKAGE.rglob("*") if p.suffix in (".py", ".pyi") or p.name == "py.typed"]
    names = {str(p.relative_to(ROOT)) for p in files}
    return names | {f"tensorprog/programs/{p.name}" for p in GALLERY.glob("*.py*") if p.suffix in (".py", ".pyi")}


def test_every_directory_of_the_package_is_found_as_one():
    folders = {p.parent for p in PACKAGE.rglob("*.py")}
    assert len(folders) > 10 and [f for f in folders if not (f / "__init__.py").exists()] == []


def test_the_stub_of_the_gallery_names_every_architecture():
    stub = ast.parse((GALLERY / "__init__.pyi").read_text())
    named = {a.asname for node in stub.body if isinstance(node, ast.ImportFrom) for a in node.names if a.asname}
    assert named == set(tensorprog.programs.GALLERY)


# ---- built and installed; pip needs a network ------------------------------------------------------


def run(*words, cwd, **env):
    """The standard output of a command that must succeed."""
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "MYPY"))}
    done = subprocess.run([str(w) for w in words], cwd=cwd, env={**clean, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def environment(folder):
    """The Python of a new virtual environment."""
    run(sys.executable, "-m", "venv", folder, cwd=folder.parent)
    return folder / ("Scripts" if os.name == "nt" else "bin") / "python"


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """The sdist, and the wheel that is made of it."""
    folder = tmp_path_factory.mktemp("built")
    python = environment(folder / "builder")
    run(python, "-m", "pip", "install", "-q", "build", cwd=folder)
    run(python, "-m", "build", "--outdir", folder / "dist", ROOT, cwd=folder)
    return {p.suffix: p for p in (folder / "dist").iterdir()}


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    """The Python of an environment that holds the wheel and what it depends on."""
    folder = tmp_path_factory.mktemp("installed")
    python = environment(folder / "user")
    run(python, "-m", "pip", "install", "-q", built[".whl"], cwd=folder)
    return python


@pytest.mark.slow
def test_the_wheel_and_the_sdist_hold_every_file(built):
    names = set(zipfile.ZipFile(built[".whl"]).namelist())
    assert {n for n in names if ".dist-info/" not in n} == shipped()
    with tarfile.open(built[".gz"]) as archive:
        held = {n.partition("/")[2] for n in archive.getnames()}
    assert {n.replace("tensorprog/programs/", "programs/") for n in shipped()} <= held
    assert {"pyproject.toml", "setup.py", "README.md", "LICENSE"} <= held


@pytest.mark.slow
def test_the_installed_package_derives_a_kernel_and_has_every_public_name(installed, tmp_path):
    command = installed.with_name("tensorprog")
    assert run(command, "--version", cwd=tmp_path) == f"tensorprog {tensorprog.__version__}\n"
    assert "mlp: The multilayer perceptron" in run(command, "list", cwd=tmp_path)
    assert run(command, "derive", "mlp", cwd=tmp_path).startswith("NTK of mlp(")
    code = """
import tensorprog as tp
names = [getattr(tp, n) for n in dir(tp)]
assert "site-packages" in tp.__file__
print(tp.nngp(tp.programs.mlp(depth=1, sigma_w=1))([[1.0, 1.0]]), tp.learn.Dynamics.__name__)
tp.learn.NTKRegressor
"""
    done = subprocess.run([installed, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "[[0.5]] Dynamics\n"
    assert "ImportError: NTKRegressor needs scikit-learn: pip install 'tensorprog[learn]'" in done.stderr


@pytest.mark.slow
def test_a_users_file_passes_a_strict_type_checker(installed, tmp_path):
    user = ROOT / "tests" / "typing" / "user.py"
    strict = ["--strict", "--config-file=", f"--cache-dir={tmp_path / 'cache'}", "--python-executable", installed]
    run(sys.executable, "-m", "mypy", *strict, user, cwd=tmp_path)
