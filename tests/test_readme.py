"""What README.md shows works as shown: code, what it prints, the formula, the commands."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest

import tensorprog as tp
from tensorprog.cli import _parser
from tensorprog.commands import COMMANDS as RUN
from tensorprog.commands import load_network
from tensorprog.printing import latex
from tensorprog.programs import GALLERY

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
TOUR = (ROOT / "docs" / "tour.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w*)\n(.*?)^```", README + TOUR, re.MULTILINE | re.DOTALL)
COMMANDS = [re.split(r" {2,}", line)[0] for _, code in BLOCKS for line in code.splitlines()
            if line.startswith("tensorprog ")]  # fmt: skip
_spec = importlib.util.spec_from_file_location("_outputs", ROOT / "docs" / "_outputs.py")
outputs = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(outputs)


def test_the_first_screen_is_short():
    assert len(README.splitlines()) <= 120
    prose = re.sub(r"```.*?```|\$\$.*?\$\$|^\|.*?$", "", README, flags=re.S | re.M)
    assert len(re.findall(r"\w[\w'’-]*", prose)) <= 700


def test_the_python_blocks_print_what_is_shown(tmp_path):
    found = list(outputs.run(README, "README.md", tmp_path))
    assert found and all(shown is not None for _, shown in found)
    for printed, shown in found:
        assert "all claims hold" in printed
        assert outputs.same(printed, shown), f"make readme\n{printed}"


def test_the_formula_is_one_of_the_equations():
    namespace = {"tp": tp}
    exec(outputs.BLOCK.search(README)[1].partition("\nX = ")[0], namespace)
    equations = tp.ntk(namespace["autoencoder"](phi=tp.abstract("phi"))).equations
    (formula,) = re.findall(r"\$\$\n(.*?)\n\$\$", README, re.DOTALL)
    assert formula in {f"{latex(e.lhs)} = {latex(e.rhs)}" for e in equations}


def test_what_it_links_to_exists():
    links = re.findall(r"\]\(([^)#]+)\)", README)
    assert len(links) > 5 and [path for path in links if not (ROOT / path).exists()] == []


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_parse(line):
    words = shlex.split(line)[1:]
    arguments = _parser().parse_args(words)
    assert arguments.name == words[0] and words[0] in {*RUN, "list"}
    if getattr(arguments, "network", None) in GALLERY:
        load_network(arguments.network, arguments.param)
