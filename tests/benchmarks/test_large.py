"""The folder of the out-of-memory benchmark."""

from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def large(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import large

    return large


def test_a_missing_folder_is_made(large, tmp_path):
    large.prepare(tmp_path / "a" / "b", 1)
    large.prepare(tmp_path / "a" / "b", 1)
    assert (tmp_path / "a" / "b").is_dir()


def test_a_folder_that_cannot_hold_the_matrix_is_named(large, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(SystemExit, match=r"--folder .*file/x cannot be made: Not a directory"):
        large.prepare(tmp_path / "file" / "x", 1)
    with pytest.raises(SystemExit, match=r"GiB left, the matrix takes 1048576.0"):
        large.prepare(tmp_path, 2**50)
