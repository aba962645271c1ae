"""What the documentation is built from: all of it, nothing from elsewhere, and no environment is altered."""

import importlib.util
import inspect
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tensorprog.dsl.network import Net
from tensorprog.gallery import examine
from tensorprog.report.mathml import from_latex

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = [*sorted(DOCS.glob("*.md")), *sorted((ROOT / "notebooks").glob("*.py"))]


def module(name):
    spec = importlib.util.spec_from_file_location(name, DOCS / f"{name}.py")
    made = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made


def test_every_public_name_is_described_on_one_page():
    reference = module("_reference")
    found = re.findall(r"auto(?:class|function):: tensorprog\.(\w+)$", "\n".join(reference.pages().values()), re.M)
    assert sorted(found) == sorted(reference.public())
    assert reference.unlisted() == [], "give them a place in TASKS of docs/_reference.py"


def test_every_method_of_net_is_in_the_table():
    table = module("_reference").layers()
    for name, method in vars(Net).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            assert f"`net.{name}(" in table and inspect.getdoc(method)[:20].partition("``")[0] in table


def test_every_nonlinearity_is_in_a_table():
    table = module("_reference").nonlinearities()
    assert all(f"`tensorprog.{name}`" in table for name in ("relu", "erf", "sin", "selu"))


def test_the_page_of_an_architecture_has_code_formula_drawing_verdicts_and_cost():
    page = module("_gallery").page(examine("deep_linear"))
    assert 'h = net.dense(("W", l), h, std=w[l - 1])' in page
    assert r"\Theta(x,x') &= \sum_{l=1}^{L - 1}" in page and "<svg" in page
    assert "| NTK | yes | backprop = paths" in page and "| compiled | yes |" in page
    assert re.search(r"NTK of 200 inputs, compiled \| [\d.e-]+ s", page)


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.name)
def test_every_formula_of_the_pages_is_mathml(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.S)
    if page.suffix == ".py":
        text = "\n".join(line[2:] for line in text.splitlines() if line.startswith("# "))
    for formula in re.findall(r"\$\$(.+?)\$\$|\$([^$]+)\$", text, re.S):
        assert from_latex(formula[0] or formula[1])


ELSEWHERE = [
    '<script src="https://cdn.example/mathjax.js"></script>',
    '<link rel="stylesheet" href="//fonts.example/a.css">',
    '<img src="http://example/a.png">',
]


@pytest.mark.parametrize("tag", ELSEWHERE)
def test_a_page_that_loads_something_from_elsewhere_is_noticed(tag, tmp_path):
    check = module("_offline").loaded_from_elsewhere
    page = tmp_path / "a.html"
    page.write_text('<a href="https://example">x</a><link rel="canonical" href="https://x"><img src="_images/a.png">')
    assert check(tmp_path) == []
    page.write_text(tag)
    assert len(check(tmp_path)) == 1


def test_a_style_sheet_that_loads_a_font_from_elsewhere_is_noticed(tmp_path):
    (tmp_path / "a.css").write_text("@font-face { src: url(https://fonts.example/a.woff2) } b { src: url(b.woff2) }")
    (found,) = module("_offline").loaded_from_elsewhere(tmp_path)
    assert found.endswith("a.css: https://fonts.example/a.woff2")


def planned(target, **variables):
    """The commands that make would run."""
    command = ["make", "-B", "-n", target, *(f"{k}={v}" for k, v in variables.items())]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_the_docs_install_nothing_into_an_environment_of_somebody_else(tmp_path):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "python").symlink_to(sys.executable)
    (tmp_path / ".installed").write_text("/another/checkout\n")
    commands = planned("docs", VENV=tmp_path)
    assert f"{tmp_path}/bin/python -m sphinx" in commands and "-m pip" not in commands and "-m venv" not in commands
    assert "PYTHONPATH=" in commands and "ln -s" in commands
    (tmp_path / ".installed").write_text(f"{ROOT}\n")
    assert "-m pip install" in planned("docs", VENV=tmp_path)


@pytest.mark.skipif(shutil.which("make") is None, reason="needs make")
def test_a_new_environment_is_made_where_there_is_none(tmp_path):
    assert f"-m venv {tmp_path}/new" in planned("docs", VENV=tmp_path / "new")
