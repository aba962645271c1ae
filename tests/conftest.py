"""Tests that ``dear.txt`` lists are slow ones: dear kinds of tests with quick kinds (``dear.py`` makes the list)."""

from pathlib import Path

import pytest

DEAR = Path(__file__).with_name("dear.txt")


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config, items):
    listed = set(DEAR.read_text().splitlines())
    found = {item.nodeid: item for item in items}
    for name in listed & found.keys():
        found[name].add_marker(pytest.mark.slow)
    whole = not any("::" in a or a.endswith(".py") for a in config.args) and {"tests"} & set(config.args)
    if whole and (unknown := sorted(listed - found.keys())):
        raise pytest.UsageError(f"{DEAR.name} lists what is no test: {', '.join(unknown[:5])}; take it out")
