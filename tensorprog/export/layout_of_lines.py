"""Long lines of code, broken between terms and arguments."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

WIDTH = 110


def broken(lines: Iterable[str]) -> Iterator[str]:
    """Lines of code of at most ``WIDTH`` columns, where they can be broken.

    >>> print(*broken(["x = " + " + ".join(["a" * 30] * 4)]), sep="\\n")
    x = (aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa + aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa + aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa
        + aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa)
    """
    for line in lines:
        head = next((h for h in (" = ", "return ") if h in line), None)
        if len(line) <= WIDTH or head is None or '"""' in line:
            yield line
            continue
        left, right = line.split(head, 1)
        indent = " " * (len(line) - len(line.lstrip()) + 4)
        yield from _filled(f"{left}{head}(", _pieces(right), indent)


def _pieces(text: str) -> list[str]:
    """A text cut before its outermost signs, and long parts after commas and before products."""
    found, depth, start = [], 0, 0
    for i, ch in enumerate(text):
        depth += (ch in "([{") - (ch in ")]}")
        if depth == 0 and i > start and text[i : i + 3] in (" + ", " - "):
            found.append(text[start:i])
            start = i + 1
    found.append(text[start:])
    return [q for p in found for q in (_cut(p) if len(p) > WIDTH - 20 else [p])]


def _cut(text: str) -> list[str]:
    return [q for p in text.replace(", ", ",\0").replace(" * ", "\0* ").split("\0") for q in [p]]


def _filled(start: str, pieces: list[str], indent: str) -> Iterator[str]:
    line = start
    for n, piece in enumerate(pieces):
        gap = "" if n == 0 else " "
        if n and len(line) + len(piece) + 2 > WIDTH:
            yield line.rstrip()
            line, gap = indent, ""
        line += gap + piece.strip()
    yield line + ")"
