"""Programs as pictures in the graphical notation of Tensor Programs (TP2b Fig. 1–7)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import TypeAlias

from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError, nearest, writing
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Difference, Moment, Nonlin, Var
from tensorprog.report.glyphs import LABEL, SMALL, Glyph, formula, function_name, glyph
from tensorprog.report.layout import Edge, Layout
from tensorprog.report.marks import ProgramPath, choose
from tensorprog.report.scene import ASCENT, DESCENT, Circle, Path, Scene, Shape, Style, Text, rectangle, text_width
from tensorprog.report.subject import Subject, subject
from tensorprog.sgd.training import Training

MARGIN, LINE = 14.0, 1.5
Pair = tuple[Var, Var]


class Drawing:
    """A picture of a program: ``.svg`` is its text, ``.save`` writes SVG or PNG, and Jupyter shows it.

    Attributes:
        scene: its shapes.
        paths: the highlighted paths, p and perhaps q.
        variables: the names of the drawn variables, as in the program.
    """

    def __init__(self, scene: Scene, paths: Sequence[ProgramPath], variables: Sequence[Var]) -> None:
        self.scene, self.paths, self.variables = scene, tuple(paths), [v.name for v in variables]

    @property
    def svg(self) -> str:
        """The picture as a self-contained SVG document."""
        return self.scene.svg()

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<drawing of {self.scene.title.partition('(')[0]}: {len(self.variables)} vectors and scalars>"

    def save(self, path: str | FilePath) -> FilePath:
        """Write the picture to a file ending in .svg or .png.

        Raises:
            DataError: another ending, or the file cannot be written.
        """
        if not isinstance(path, str | FilePath):
            raise DataError(f"a drawing is saved under a file name, got {path!r}")
        path = FilePath(path)
        if path.suffix not in (".svg", ".png"):
            raise DataError(f"cannot save a drawing as {path.name!r}; use a name ending in .svg or .png")
        with writing(path):
            if path.suffix == ".svg":
                path.write_text(self.svg + "\n", encoding="utf-8")
            else:
                path.write_bytes(self.scene.png())
        return path


PathChoice: TypeAlias = "str | tuple[str, int] | Sequence[str | tuple[str, int]] | None"


def draw(
    what: ProgramGraph | Network | Training,
    path: PathChoice = None,
    highlight: str | Iterable[str] = (),
    *,
    backprop: bool = False,
    lengths: Sequence[int] | None = None,
    inputs: int = 1,
    reduced: bool | None = None,
) -> Drawing:
    """A program as a picture (TP2b Fig. 1–7).

    Empty circles are G-vars, filled ones X-vars, squares scalars; a dashed edge is the MatMul by its label, a gate a
    Nonlin of its inputs, a gate with a bar a Moment.  A backward pass runs from right to left below its forward
    pass, a training run continues below that.  Functions that are more than φ of a sum are ψ in the picture and
    listed below it.

    Args:
        what: a program, drawn as written; a network; or ``tp.unroll(..)``.
        path: the name of a parameter: highlights the longest path p from a use of it to the output, and, where two
            inputs are drawn, an isomorphic path q ≅ p of the second one; ("W", k) is path number k, longest first;
            a list of two gives p and q, isomorphic or not, q to the output of the last input.
        highlight: names of variables.
        backprop: with the backward pass, for a network.
        lengths: for sequences, the length of each input; (4,) when None.
        inputs: how many inputs of a network to draw.
        reduced: draw a network in reduced form (TP2b Def. 5.4), in which Nonlins in a row are one, or as written;
            None: reduced where there are no skip connections.

    Raises:
        ProgramError: a program that is too large, an unknown name, options that do not apply.
        AssumptionError: paths were asked for where gradient independence fails.

    >>> import tensorprog as tp
    >>> tp.draw(tp.programs.rnn(), lengths=[3], path="W")
    <drawing of rnn: 8 vectors and scalars>
    """
    s = subject(what, backprop=backprop, lengths=lengths, inputs=inputs, reduced=reduced)
    paths = choose(s, path)
    return Drawing(_Picture(s, paths, _named(s, highlight)).scene, paths, s.drawn)


def _named(s: Subject, names: str | Iterable[str]) -> list[Var]:
    found = []
    known = {v.name: v for v in s.drawn} | {v.name: w for v, w in s.kept.items() if w in s.drawn}
    for name in [names] if isinstance(names, str) else names:
        if name not in known:
            raise ProgramError(f"the drawing has no variable {name!r} to highlight; {nearest(str(name), known)}")
        found.append(known[name])
    return found


class _Picture:
    """Glyphs, laid out and drawn into a scene."""

    def __init__(self, s: Subject, paths: Sequence[ProgramPath], highlight: list[Var]) -> None:
        self.s, self.paths = s, paths
        self.glyphs = {v: glyph(v, s.program, s.band.get(v, 0), s.inputs(v)) for v in s.drawn}
        self.edges: dict[Pair, Edge] = {
            (u, g.var): Edge(self.glyphs[u].node, g.node, g.dashed) for g in self.glyphs.values() for u in g.inputs
        }
        captions = max((text_width(c, LABEL) + 16 for c in s.captions.values()), default=0.0)
        self.layout = Layout([g.node for g in self.glyphs.values()], list(self.edges.values()), margin=captions)
        self.marked: dict[Pair, str] = {}
        self._mark(highlight)
        self.scene = Scene(0.0, 0.0, title=s.title)
        self._compose()

    def _mark(self, highlight: list[Var]) -> None:
        for v in highlight:
            self.glyphs[v].colour = "p"
        for name, path in zip("pq", self.paths, strict=False):
            for v in path.vectors:
                self.glyphs[v].colour = _both(self.glyphs[v].colour, name)
            for pair in pairwise(path.vectors):
                if pair in self.edges:
                    self.marked[pair] = _both(self.marked.get(pair, "ink"), name)

    def _compose(self) -> None:
        """Edges below glyphs, marked ones above plain ones; the legend below everything."""
        shapes: list[Shape] = []
        for g in self.glyphs.values():
            arriving = {u: self.edges[u, g.var] for u in g.inputs}
            g.spread({u: e.stops[-2] for u, e in arriving.items()}, {u: e.turns for u, e in arriving.items()})
        for pair in sorted(self.edges, key=lambda pair: pair in self.marked):
            shapes.append(self._edge(pair))
        for g in self.glyphs.values():
            shapes.extend(g.shapes())
        for band, caption in self.s.captions.items():
            if band in self.layout.tops:
                shapes.append(Text(0, self.layout.tops[band] + ASCENT * LABEL, caption, LABEL, "start", "faint"))
        width = max(self.layout.width, 420.0)
        legend, height = _legend(self.s, self.glyphs.values(), self.paths, width)
        shapes.extend(move(shape, 0, self.layout.height + 26) for shape in legend)
        self.scene.width = width + 2 * MARGIN
        self.scene.height = self.layout.height + 26 + height + 2 * MARGIN
        self.scene.add(move(shape, MARGIN, MARGIN) for shape in shapes)

    def _edge(self, pair: Pair) -> Path:
        edge, g = self.edges[pair], self.glyphs[pair[1]]
        colour = self.marked.get(pair, "faint")
        end = None if g.dashed else g.ports[pair[0]]
        return Path(self.layout.curve(edge, end), Style(colour, None, 2.4 if pair in self.marked else 1.0, g.dashed))


def _both(old: str, new: str) -> str:
    return "pq" if old not in ("ink", new) else new


def move(shape: Shape, dx: float, dy: float) -> Shape:
    """A shape somewhere else."""
    if isinstance(shape, Path):
        moves = tuple((m[0], *((x + dx, y + dy) for x, y in m[1:])) for m in shape.moves)
        return Path(moves, shape.style)
    return type(shape)(shape.x + dx, shape.y + dy, *list(vars(shape).values())[2:])


# ---- the legend ----------------------------------------------------------------------------------------


def _legend(
    s: Subject, glyphs: Iterable[Glyph], paths: Sequence[ProgramPath], width: float
) -> tuple[list[Shape], float]:
    """The signs, the paths and the functions ψ; and its height."""
    shapes, y = _signs(s, list(glyphs), width)
    lines = [(f"{name}: {path}", name) for name, path in zip("pq", paths, strict=False)]
    if len(paths) == 2:
        lines.append((_relation(*paths), "ink"))
    lines += [(line, "faint") for line in _functions(glyphs, s.alias)]
    for line, colour in lines:
        for k, part in enumerate(_wrapped(line, width)):
            shapes.append(Text(18 * (k > 0), y + ASCENT * SMALL, part, SMALL, "start", colour))
            y += LINE * SMALL
    return shapes, y


def _relation(p: ProgramPath, q: ProgramPath) -> str:
    if p.isomorphic(q):
        return "p ≅ q: the same matrices in the same order"
    start, other = (" ".join(dict.fromkeys((r.parameter, *r.matrices))) for r in (p, q))
    return f"p ≇ q: {start} against {other}"


def _functions(glyphs: Iterable[Glyph], alias: Mapping[Var, Var]) -> Iterator[str]:
    for g in glyphs:
        if isinstance(g.op, Nonlin | Moment | Difference) and "ψ" in function_name(g.op):
            yield f"ψ: {formula(g.var, g.op, alias)}"


def _wrapped(line: str, width: float) -> Iterator[str]:
    """A line in parts that are not wider than the picture, broken at spaces, or anywhere if it must be."""
    part = ""
    for word in line.split(" "):
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


def _signs(s: Subject, glyphs: list[Glyph], width: float) -> tuple[list[Shape], float]:
    """One sample of every sign that occurs, with its meaning, in as many rows as it takes."""
    ops = [g.op for g in glyphs]
    samples = [
        (any(g.var.kind == "vector" and not isinstance(g.op, Nonlin | Difference) for g in glyphs), _circle, "G-var"),
        (any(isinstance(op, Nonlin | Difference) for op in ops), _dot, "X-var"),
        (any(g.var.kind == "scalar" or g.scalars for g in glyphs), _square, "scalar"),
        (any(g.dashed for g in glyphs), _dashes, "matrix product"),
        (any(isinstance(op, Nonlin) for op in ops), _gate, "Nonlin"),
        (any(isinstance(op, Moment) for op in ops), _bar_gate, "Moment"),
        (any(isinstance(op, Difference) for op in ops), None, "Δφ = (φ(x + θδx) − φ(x))/θ"),
    ]
    shapes: list[Shape] = []
    x, y = 0.0, 0.0
    for _, sample, meaning in (row for row in samples if row[0]):
        wide = 26 + text_width(meaning, SMALL) if sample else text_width(meaning, SMALL)
        if x and x + wide > width:
            x, y = 0.0, y + 20
        if sample:
            shapes.extend(move(shape, x, y + 7) for shape in sample())
        shapes.append(
            Text(x + (26 if sample else 0), y + 7 + (ASCENT - DESCENT) / 2 * SMALL, meaning, SMALL, "start", "faint")
        )
        x += wide + 18
    return shapes, y + 26


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
