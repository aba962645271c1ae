"""Code blocks of pages with what they print: a ``python`` block, followed by a ``text`` block, prints that text.

``python docs/_outputs.py PAGE..`` runs the blocks of pages in order and writes what they print into them.
"""

import contextlib
import io
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

BLOCK = re.compile(r"^```python\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+−]?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
ROUNDING, DIGITS = 1e-12, 0.02  # what is smaller is rounding; how far figures of simulations may move between machines


def run(page: str, name: str, folder: Path) -> Iterator[tuple[str, str | None]]:
    """What each block prints when they run in order in a folder, and the text that follows it, if any."""
    namespace: dict[str, object] = {"__name__": Path(name).stem}
    with contextlib.chdir(folder):
        for k, found in enumerate(BLOCK.finditer(page), start=1):
            out = io.StringIO()
            with contextlib.redirect_stdout(out):
                exec(compile(found[1], f"{name}, python block {k}", "exec"), namespace)
            yield "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n", found[2]


def same(printed: str, shown: str) -> bool:
    """Whether two texts have the same words, and numbers that differ by what machines may.

    >>> same("error 3.1e-16 of 12.50", "error 7e-17 of 12.51"), same("12.5 ok", "13.5 ok"), same("1 ok", "1 no")
    (True, False, False)
    """
    if NUMBER.sub("#", printed).split() != NUMBER.sub("#", shown).split():
        return False
    pairs = zip(*([float(n.replace("−", "-")) for n in NUMBER.findall(t)] for t in (printed, shown)), strict=True)
    return all(abs(a - b) <= max(ROUNDING, DIGITS * max(abs(a), abs(b))) for a, b in pairs)


def rewrite(path: Path) -> None:
    """Write what the blocks of a page print into the text blocks that follow them."""
    page = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as folder:
        printed = [out for out, _ in run(page, path.name, Path(folder))]
    outputs = iter(printed)

    def filled(found: re.Match[str]) -> str:
        out = next(outputs)
        return found[0] if found[2] is None else f"```python\n{found[1]}```\n\n```text\n{out}```\n"

    path.write_text(BLOCK.sub(filled, page), encoding="utf-8")


if __name__ == "__main__":
    os.environ.setdefault("COLUMNS", "100")
    warnings.simplefilter("error")
    for argument in sys.argv[1:]:
        rewrite(Path(argument))
