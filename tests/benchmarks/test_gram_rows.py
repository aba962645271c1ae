"""The benchmark of Gram matrices runs from end to end, at sizes that take seconds."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "gram.py"


@pytest.mark.slow
def test_every_row_is_measured_in_one_run(tmp_path):
    results = tmp_path / "gram.json"
    command = [sys.executable, str(BENCHMARK), "--tiny", "--results", str(results)]
    alone = {**os.environ, "PEERS": str(tmp_path)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    found = json.loads(results.read_text())
    rows = [r for r in found.values() if isinstance(r, dict) and "dtype" in r]
    assert len(rows) == 8 and "[8/8" in done.stdout
    assert all({"compiled", "into out", "floor", "NumPy"} == set(r["seconds"]) for r in rows)
    assert {"tanh", "sequences", "latency", "memory"} < set(found)
    assert found["tanh"]["errors"]["compiled"] < 1e-12
