"""The code blocks of the documentation pages run in order, and print what stands below them."""

import importlib.util
import pkgutil
import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [p for p in sorted(DOCS.glob("*.md")) if "```python" in p.read_text(encoding="utf-8")]
_spec = importlib.util.spec_from_file_location("_outputs", DOCS / "_outputs.py")
outputs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(outputs)


def test_there_is_something_to_check():
    assert {p.stem for p in PAGES} >= {"tutorial", "tour", "howto", "faq", "neural_tangents", "paper_to_code"}


def marked(page):
    slow = [pytest.mark.slow] if "<!-- slow -->" in page.read_text(encoding="utf-8") else []
    return pytest.param(page, id=page.stem, marks=slow)


@pytest.mark.parametrize("page", [marked(p) for p in PAGES])
def test_the_python_blocks_run_in_order_and_print_what_is_shown(page, tmp_path):
    for printed, shown in outputs.run(page.read_text(encoding="utf-8"), page.name, tmp_path):
        assert shown is None or outputs.same(printed, shown), f"python docs/_outputs.py docs/{page.name}\n{printed}"


def test_a_page_that_shows_something_else_is_noticed(tmp_path):
    page = tmp_path / "page.md"
    page.write_text("```python\nprint(2 + 2, 'apples')\n```\n\n```text\n5 apples\n```\n", encoding="utf-8")
    ((printed, shown),) = outputs.run(page.read_text(encoding="utf-8"), "page.md", tmp_path)
    assert not outputs.same(printed, shown)
    outputs.rewrite(page)
    assert page.read_text(encoding="utf-8") == "```python\nprint(2 + 2, 'apples')\n```\n\n```text\n4 apples\n```\n"


def test_every_page_is_in_the_table_of_contents():
    index = (DOCS / "index.md").read_text(encoding="utf-8")
    listed = " ".join(re.findall(r"```\{toctree\}(.*?)```", index, re.S)).split()
    assert {p.stem for p in DOCS.glob("*.md")} - {"index"} <= set(listed)


def cells(page, column):
    """The code in one column of the tables of a page."""
    rows = [re.split(r"(?<!\\)\|", line) for line in page.splitlines() if line.startswith("| ")]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row[column])]


def test_our_side_of_the_table_runs(capsys):
    page = (DOCS / "neural_tangents.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", page, re.M | re.S)
    namespace = {}
    exec(code, namespace)
    calls = [c for c in cells(page, 3) if re.search(r"tp\.|Dynamics|^d\.", c) and ".." not in c]
    assert len(calls) > 15
    for call in calls:
        exec(call, namespace)


def test_every_name_beside_a_theorem_exists():
    page = (DOCS / "paper_to_code.md").read_text(encoding="utf-8")
    names = [c for c in cells(page, 3) if c.startswith(("tp.", "tensorprog."))]
    assert len(names) > 30
    for name in names:
        assert pkgutil.resolve_name(re.sub(r"^tp\.", "tensorprog.", name)) is not None
