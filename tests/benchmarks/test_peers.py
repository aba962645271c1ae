"""How the benchmarks find the other side, and what they say where there is none."""

import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.fixture
def peers(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    monkeypatch.delenv("PEERS", raising=False)
    import peers

    return peers


def interpreter(folder):
    python = folder / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to(sys.executable)
    return str(python)


def test_the_environment_of_make_is_found(peers, tmp_path, monkeypatch, capsys):
    ours, other = interpreter(tmp_path / ".venv-peers"), interpreter(tmp_path / "elsewhere")
    assert peers.find_peer(None, tmp_path) == ours
    monkeypatch.setenv("PEERS", "elsewhere")  # relative to the checkout, as for make
    assert peers.find_peer(None, tmp_path) == other
    monkeypatch.setenv("PEERS", str(tmp_path / "elsewhere"))
    assert peers.find_peer(None, tmp_path) == other
    assert peers.find_peer(ours, tmp_path) == ours and capsys.readouterr().out == ""
    assert BENCHMARKS.parent == peers.ROOT  # where make runs


def test_a_missing_environment_is_told_and_a_missing_request_is_an_error(peers, tmp_path, capsys):
    assert peers.find_peer(None, tmp_path) is None
    assert ".venv-peers/bin/python: without neural-tangents (make bench-peers" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="--peer /no/python: there is no such file"):
        peers.find_peer("/no/python", tmp_path)


def test_an_interpreter_that_cannot_run_the_script_says_why(peers):
    with pytest.raises(SystemExit, match=r"cannot run neural-tangents: ModuleNotFoundError.*no_such.*make bench-peers"):
        peers.Peer(sys.executable, "import no_such_package", [], {})
    with pytest.raises(SystemExit, match="cannot run neural-tangents: it printed nothing"):
        peers.Peer(sys.executable, "", [], {})


def test_a_peer_answers_call_by_call(peers):
    answer = "print(os.getenv('A') + sys.argv[1], flush=True)"
    script = f"import os, sys\nprint('ready', flush=True)\nfor _ in sys.stdin: {answer}"
    peer = peers.Peer(sys.executable, script, ["5"], {"A": "0."})
    assert [peer.seconds(), peer.seconds()] == [0.5, 0.5]
    peer.close()
    assert peer.process.returncode == 0
