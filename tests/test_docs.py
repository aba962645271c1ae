"""The code blocks of the documentation pages run in order."""

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[1] / "docs"
PAGES = [p for p in sorted(DOCS.glob("*.md")) if "```python" in p.read_text(encoding="utf-8")]


def test_there_is_something_to_check():
    assert {p.stem for p in PAGES} >= {"tutorial", "howto"}


@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_the_python_blocks_run_in_order(page, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": page.stem}
    for k, code in enumerate(re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S)):
        exec(compile(code, f"{page.name}, python block {k + 1}", "exec"), namespace)
