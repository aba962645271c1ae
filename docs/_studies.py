"""Run the commands of docs/studies.md: every study in small, its files in out/studies, its picture beside the page.

``python docs/_studies.py [NAME..]`` runs those that write to out/studies/NAME, or all.
"""

import re
import shlex
import shutil
import sys
import time
from pathlib import Path

from tensorprog.cli import main

DOCS = Path(__file__).parent
COMMAND = re.compile(r"^tensorprog (study .*--out out/studies/([\w-]+))$", re.MULTILINE)


def commands(page: str) -> dict[str, list[str]]:
    """The commands of a page by the folder that they write.

    >>> commands("tensorprog study phase mlp --out out/studies/tanh")
    {'tanh': ['study', 'phase', 'mlp', '--out', 'out/studies/tanh']}
    """
    return {name: shlex.split(command) for command, name in COMMAND.findall(page.replace("\\\n", " "))}


def run(names: list[str]) -> int:
    """Run commands and copy their pictures; the highest exit status."""
    worst = 0
    found = commands((DOCS / "studies.md").read_text(encoding="utf-8"))
    for name in names or found:
        start = time.perf_counter()
        worst = max(worst, main(found[name]))
        print(f"{name}: {time.perf_counter() - start:.0f} s\n")
        picture = Path(found[name][-1]) / f"{found[name][1]}.png"
        if picture.is_file():  # of data that cannot be had there is none
            shutil.copy(picture, DOCS / "studies" / f"{name}.png")
    return worst


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
