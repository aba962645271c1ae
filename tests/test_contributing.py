"""What CONTRIBUTING.md, CHANGELOG.md and CITATION.cff say is there."""

import re
from pathlib import Path

import pytest

import tensorprog

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = sorted(set(re.findall(r"`((?:tensorprog|tests|programs|docs)/[\w/.]+)`", TEXT)) - {"programs/name.py"})
RULES = re.findall(r"^\| `(\w+)`, `([\w/.]+)` \|", TEXT, re.MULTILINE)


@pytest.mark.parametrize("path", FILES)
def test_every_file_that_is_named_exists(path):
    assert (ROOT / path).exists()


def test_every_rule_is_registered_where_the_table_says():
    assert len(RULES) > 5
    for name, path in RULES:
        assert f"\n@singledispatch\ndef {name}(" in (ROOT / path).read_text(encoding="utf-8"), name


def test_it_is_short():
    assert len(FILES) > 20 and len(TEXT.splitlines()) < 120


def test_the_version_is_the_same_everywhere():
    changes = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(encoding="utf-8"), re.MULTILINE)
    cited = re.findall(r"^version: (\S+)", (ROOT / "CITATION.cff").read_text(encoding="utf-8"), re.MULTILINE)
    assert cited == [tensorprog.__version__] and changes[0] in (tensorprog.__version__, "Unreleased")
