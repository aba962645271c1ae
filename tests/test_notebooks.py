"""Every notebook runs from its source."""

import runpy
from pathlib import Path

import pytest

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.py"))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebook_runs_and_shows_something(path, capsys):
    runpy.run_path(str(path))
    assert len(capsys.readouterr().out.splitlines()) > 10
