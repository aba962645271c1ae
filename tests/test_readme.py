"""What README.md shows works as shown."""

import re
import shlex
from pathlib import Path

import pytest

from tensorprog.cli import _parser
from tensorprog.commands import COMMANDS as RUN
from tensorprog.commands import load_network
from tensorprog.programs import GALLERY

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README, re.MULTILINE | re.DOTALL)
PYTHON = [code for language, code in BLOCKS if language == "python"]
COMMANDS = [re.split(r" {2,}", line)[0] for _, code in BLOCKS for line in code.splitlines()
            if line.startswith("tensorprog ")]  # fmt: skip


def test_there_is_something_to_check():
    assert len(PYTHON) >= 3 and len(COMMANDS) >= 4


def test_the_python_blocks_run_in_order(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    namespace = {"__name__": "readme"}
    for k, code in enumerate(PYTHON):
        exec(compile(code, f"README.md, python block {k + 1}", "exec"), namespace)
    assert "all claims hold" in capsys.readouterr().out


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_parse(line):
    words = shlex.split(line)[1:]
    arguments = _parser().parse_args(words)
    assert arguments.name == words[0] and words[0] in {*RUN, "list"}
    if getattr(arguments, "network", None) in GALLERY:
        load_network(arguments.network, arguments.param)
