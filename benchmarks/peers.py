"""The interpreter of neural-tangents, and a process of it that waits to be timed."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
HINT = "make bench-peers makes its environment; or --peer PYTHON"


def find_peer(given: str | None = None, root: Path = ROOT) -> str | None:
    """The interpreter asked for, or that of ``make bench-peers``; None, and a word about it, where there is none.

    Args:
        given: an interpreter.  One that is asked for must exist.
        root: where ``make bench-peers`` puts its environment: $PEERS, as for make, or .venv-peers.

    Raises:
        SystemExit: the one asked for does not exist.
    """
    python = Path(given) if given else root / os.environ.get("PEERS", ".venv-peers") / "bin" / "python"
    if python.exists():
        return str(python)
    if given:
        raise SystemExit(f"--peer {given}: there is no such file")
    print(f"no {python}: without neural-tangents ({HINT})")
    return None


class Peer:
    """A script of another interpreter that prints "ready", and then seconds for every line it gets.

    Args:
        python: the interpreter.
        script: its text.
        arguments: of the script.
        settings: environment variables.
    """

    def __init__(self, python: str, script: str, arguments: list[str], settings: Mapping[str, str]) -> None:
        with tempfile.TemporaryFile("w+") as errors:
            self.process: Any = subprocess.Popen(
                [python, "-c", script, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors,
                text=True, env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", **settings},
            )  # fmt: skip
            if self.process.stdout.readline().strip() == "ready":
                return
            self.process.communicate()
            errors.seek(0)
            reason = (errors.read().strip().splitlines() or ["it printed nothing"])[-1]
            raise SystemExit(f"{python} cannot run neural-tangents: {reason} ({HINT})")

    def seconds(self) -> float:
        """Of one more call."""
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        return float(self.process.stdout.readline())

    def close(self) -> None:
        self.process.communicate()
