"""The key below a picture: the signs that occur, the paths, the outputs and the numbered functions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tensorprog.ir.instructions import Difference, MatMul, Mix, Moment, Nonlin, Place
from tensorprog.report.extents import meanings
from tensorprog.report.formulas import Functions
from tensorprog.report.glyphs import POINTWISE
from tensorprog.report.marks import ProgramPath
from tensorprog.report.scene import ASCENT, DESCENT, Circle, Path, Shape, Style, Text, move, rectangle, text_width
from tensorprog.report.subject import Head, Subject

SMALL, LINE = 9.5, 1.5


def key(
    ops: Sequence[Any], functions: Functions, paths: Sequence[ProgramPath], width: float
) -> tuple[list[Shape], float]:
    """Shapes from (0, 0) downwards, not wider than the picture, and their height.

    Args:
        ops: the instructions that are drawn.
        functions: what stands in their gates.
        paths: the highlighted paths.
        width: of the picture.
    """
    shapes, y = _signs(ops, functions.s, width)
    lines = [(f"{name}: {path}", name) for name, path in zip("pq", paths, strict=False)]
    if len(paths) == 2:
        lines.append((_relation(*paths), "ink"))
    lines += [(line, "faint") for line in functions.lines()]
    for line, colour in lines:
        for k, part in enumerate(_wrapped(line, width)):
            shapes.append(Text(18 * (k > 0), y + ASCENT * SMALL, part, SMALL, "start", colour))
            y += LINE * SMALL
    return shapes, y


def _relation(p: ProgramPath, q: ProgramPath) -> str:
    if p.isomorphic(q):
        return "p ≅ q: the same matrices in the same order"
    start, other = (" ".join(dict.fromkeys((r.start, *(m for m in r.labels if m not in ("", "Ż"))))) for r in (p, q))
    return f"p ≇ q: {start} against {other}"


def _wrapped(line: str, width: float) -> Iterator[str]:
    """A line in parts that are not wider than the picture, broken outside brackets, or anywhere if it must be."""
    part = ""
    for word in _words(line):
        longer = f"{part} {word}" if part else word
        if part and text_width(longer, SMALL) > width - 18:
            yield part
            longer = word
        part = longer
        while text_width(part, SMALL) > width - 18:
            cut = next(k for k in range(len(part), 0, -1) if k == 1 or text_width(part[:k], SMALL) <= width - 18)
            yield part[:cut]
            part = part[cut:]
    yield part


def _words(line: str) -> Iterator[str]:
    """The parts between spaces that stand in no brackets and not beside =."""
    word, depth = "", 0
    for c, after in zip(line, [*line[1:], ""], strict=True):
        depth += (c in "([") - (c in ")]")
        if c == " " and depth <= 0 and word[-1:] != "=" and after != "=":
            yield word
            word = ""
        else:
            word += c
    yield word


def _signs(ops: Sequence[Any], s: Subject, width: float) -> tuple[list[Shape], float]:
    """One sample of every sign that occurs, with its meaning, in as many rows as it takes."""
    shapes: list[Shape] = []
    x, y = 0.0, 0.0
    for sample, meaning in _rows(ops, s):
        wide = 26 + text_width(meaning, SMALL) if sample else text_width(meaning, SMALL)
        if x and x + wide > width:
            x, y = 0.0, y + 20
        if sample:
            shapes.extend(move(shape, x, y + 7) for shape in sample())
        start, base = x + (26 if sample else 0), y + 7 + (ASCENT - DESCENT) / 2 * SMALL
        shapes.append(Text(start, base, meaning, SMALL, "start", "faint"))
        x += wide + 18
    return shapes, y + 26


def _rows(ops: Sequence[Any], s: Subject) -> Iterator[tuple[Callable[[], list[Shape]] | None, str]]:
    vectors = [s.op(v) for v in s.drawn if v.kind == "vector"]
    if any(not isinstance(op, POINTWISE) for op in vectors):
        yield _circle, "G-var"
    if any(isinstance(op, POINTWISE) for op in vectors):
        yield _dot, "X-var"
    if len(vectors) < len(s.drawn) or any(getattr(op, "params", ()) for op in ops):
        yield _square, "scalar"
    if any(isinstance(op, MatMul) for op in ops):
        yield _dashes, "matrix product"
    maps = [op.by.map for op in ops if isinstance(op, MatMul | Mix) and op.by is not None]
    tied = [op.by.map for op in ops if isinstance(op, MatMul) and op.by is not None]
    yield from ((None, meaning) for meaning in meanings([*tied, *maps], bool(tied)))
    if any(isinstance(op, Nonlin) for op in ops):
        yield _gate, "Nonlin"
    if any(isinstance(op, Mix) for op in ops):
        yield _gate, "mean or sum over positions"
    if any(isinstance(op, Place) for op in ops):
        yield _gate, "[p]: one at every position"
    if any(isinstance(op, Moment) for op in ops):
        yield _bar_gate, "Moment"
    if any(isinstance(op, Head) for op in ops):
        yield _bar_gate, "readout"
    if any(isinstance(op, Difference) for op in ops):
        yield None, "Δφ = (φ(x + θδx) − φ(x))/θ"
    if s.labels is not None and s.labels.indices is not None:
        yield None, _naming(s.labels.indices)


def _naming(at: tuple[str, ...]) -> str:
    """What h² and x² are."""
    where = {(): "", ("l",): "in layer l", ("t",): "at time t", ("l", "t"): "in layer l at time t"}
    upper = {("l",): "ˡ", ("t",): "ᵗ", ("l", "t"): "ˡʼᵗ", (): ""}
    return f"h{upper[at]}, x{upper[at]}: before and after φ {where[at]}".rstrip()


_PLAIN = Style("faint", "paper")


def _circle() -> list[Shape]:
    return [Circle(10, 0, 5, _PLAIN)]


def _dot() -> list[Shape]:
    return [Circle(10, 0, 5, Style("faint", "faint"))]


def _square() -> list[Shape]:
    return [rectangle(5, -5, 10, 10, _PLAIN)]


def _dashes() -> list[Shape]:
    return [Path((("M", (0, 0)), ("L", (20, 0))), Style("faint", dash=True))]


def _gate() -> list[Shape]:
    curve = ("C", (22.0, -6.0), (22.0, 6.0), (12.0, 6.0))
    return [Path((("M", (3, -6)), ("L", (12, -6)), curve, ("L", (3, 6)), ("Z",)), _PLAIN)]


def _bar_gate() -> list[Shape]:
    return [*_gate(), Path((("M", (6.5, -6)), ("L", (6.5, 6))), Style("faint"))]
