"""Programs as pictures in the graphical notation of Tensor Programs (TP2b Fig. 1–7)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path as FilePath
from typing import TypeAlias

from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, ProgramError, listed, nearest, shortly, writing
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Var
from tensorprog.report.formulas import Functions
from tensorprog.report.glyphs import LABEL, glyph
from tensorprog.report.key import key
from tensorprog.report.layout import Edge, Layout
from tensorprog.report.marks import ProgramPath, choose
from tensorprog.report.scene import ASCENT, Path, Scene, Shape, Style, Text, move, text_width
from tensorprog.report.subject import Subject, subject
from tensorprog.report.tikz import tikz
from tensorprog.sgd.training import Training

MARGIN = 14.0
SUFFIXES = (".svg", ".pdf", ".png", ".tex")
Pair = tuple[Var, Var]


class Drawing:
    """A picture of a program: ``.svg`` and ``.tikz()`` are its text, ``.save`` writes a file, and Jupyter shows it.

    Attributes:
        scene: its shapes.
        paths: the highlighted paths, p and perhaps q.
        variables: the names of the drawn variables, as in the program.
        names: the same, as in the picture.
    """

    def __init__(
        self, scene: Scene, paths: Sequence[ProgramPath], variables: Sequence[Var], names: Sequence[str]
    ) -> None:
        self.scene, self.paths = scene, tuple(paths)
        self.variables, self.names = [v.name for v in variables], list(names)

    @property
    def svg(self) -> str:
        """The picture as a self-contained SVG document."""
        return self.scene.svg()

    def _repr_svg_(self) -> str:
        return self.svg

    def __repr__(self) -> str:
        return f"<drawing of {self.scene.title.partition('(')[0]}: {len(self.variables)} vectors and scalars>"

    def tikz(self) -> str:
        r"""The picture as a ``tikzpicture``, its texts in math mode.

        It needs ``\usepackage{tikz}`` and nothing else, and is as large as the SVG; ``\resizebox`` fits it to a column.

        >>> import tensorprog as tp
        >>> tp.draw(tp.programs.mlp()).tikz().count("{$h^{2}$}")
        1
        """
        return tikz(self.scene)

    def save(self, path: str | FilePath) -> FilePath:
        """Write the picture to a file ending in .svg, .pdf, .png or .tex (TikZ, for ``\\input``).

        Raises:
            DataError: another ending, or the file cannot be written.
        """
        if not isinstance(path, str | FilePath):
            raise DataError(f"a drawing is saved under a file name, got {shortly(path)}")
        path = FilePath(path)
        if path.suffix not in SUFFIXES:
            known = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
            raise DataError(f"cannot save a drawing as {shortly(path.name)}; use a name ending in {known}")
        with writing(path):
            if path.suffix in (".svg", ".tex"):
                text = self.svg if path.suffix == ".svg" else self.tikz()
                path.write_text(text + "\n", encoding="utf-8")
            else:
                path.write_bytes(self.scene.png() if path.suffix == ".png" else self.scene.pdf())
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
    Nonlin of its inputs, a gate with a bar a Moment, or the readout f = V·x/√n.  A backward pass runs from right to
    left below its forward pass, a training run continues below that.  In a network h² and x² stand before and after φ
    in layer 2 (at time 2 of a sequence), dh² is a gradient and δh² a change.  Functions that are more than φ of a sum
    are ψ₁, ψ₂, .. in the picture and written out below it.

    Args:
        what: a program, drawn as written; a network; or ``tp.unroll(..)``.
        path: the name of a parameter: highlights the longest path p from a use of it to the output, and, where two
            inputs are drawn, an isomorphic path q ≅ p of the second one; ("W", k) is path number k, longest first;
            a list of two gives p and q, isomorphic or not, q to the output of the last input.
        highlight: names of variables, of the program or of the picture.
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
    <drawing of rnn: 10 vectors and scalars>
    """
    s = subject(what, backprop=backprop, lengths=lengths, inputs=inputs, reduced=reduced)
    paths = choose(s, path)
    return Drawing(_Picture(s, paths, _named(s, highlight)).scene, paths, s.drawn, [s.name(v) for v in s.drawn])


def _named(s: Subject, names: str | Iterable[str]) -> list[Var]:
    found = []
    known = {s.name(v): v for v in s.drawn} | {v.name: v for v in s.drawn}
    known |= {v.name: w for v, w in s.kept.items() if w in s.drawn}
    for name in [names] if isinstance(names, str) else listed(names, "highlight", "names"):
        if not isinstance(name, str) or name not in known:
            raise ProgramError(f"the drawing has no variable {shortly(name)} to highlight; {nearest(name, known)}")
        found.append(known[name])
    return found


class _Picture:
    """Glyphs, laid out and drawn into a scene."""

    def __init__(self, s: Subject, paths: Sequence[ProgramPath], highlight: list[Var]) -> None:
        self.s, self.paths = s, paths
        self.functions = Functions(s)
        self.glyphs = {v: glyph(v, self.functions) for v in s.drawn}
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
        """Edges below glyphs, marked ones above plain ones; the key below everything."""
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
        width = max(self.layout.width, 560.0)
        below, height = key([g.op for g in self.glyphs.values()], self.functions, self.paths, width)
        shapes.extend(move(shape, 0, self.layout.height + 26) for shape in below)
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
