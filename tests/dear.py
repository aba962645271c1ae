"""Lists the tests that are slow because they are dear: ``pytest --durations=0 > FILE``, ``python tests/dear.py FILE``.

A test of several kinds keeps its cheapest kind, whatever that costs, and those that cost less than ``LIMIT`` seconds;
what is listed already stays so. A test of one kind is marked where it stands.
"""

import re
import sys
from collections import defaultdict
from pathlib import Path

LIMIT = 1.3
DEAR = Path(__file__).with_name("dear.txt")
LINE = re.compile(r"([\d.]+)s (?:call|setup) +(tests/\S+?::\w+)(\[.*\])$")


def dear(text: str) -> set[str]:
    """The names of the tests over the limit, but for the cheapest of its kinds each."""
    kinds: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for match in map(LINE.match, text.splitlines()):
        if match:
            kinds[match[2]][match[2] + match[3]] += float(match[1])
    cheapest = {min(of, key=of.__getitem__) for of in kinds.values()}
    return {name for of in kinds.values() for name, cost in of.items() if cost > LIMIT} - cheapest


if __name__ == "__main__":
    listed = set(DEAR.read_text().splitlines()) | dear(Path(sys.argv[1]).read_text())
    DEAR.write_text("".join(f"{name}\n" for name in sorted(listed)))
