"""Benchmarks use what the package has: a name that went away fails here, not when they are run."""

import importlib
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("name", sorted(p.stem for p in BENCHMARKS.glob("*.py")))
def test_every_benchmark_can_be_imported(monkeypatch, name):
    monkeypatch.syspath_prepend(BENCHMARKS)
    before = set(sys.modules)
    assert importlib.import_module(name).__doc__
    for made in set(sys.modules) - before:
        if str(getattr(sys.modules[made], "__file__", None)).startswith(str(BENCHMARKS)):
            del sys.modules[made]


def test_runs_are_timed_beside_their_products(monkeypatch, capsys):
    monkeypatch.syspath_prepend(BENCHMARKS)
    importlib.import_module("training").finite_run(width=32, steps=2)
    assert "2 SGD steps at width 32, 4 inputs" in capsys.readouterr().out
