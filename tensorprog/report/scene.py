"""A picture as a list of shapes, with two renderings: SVG text, and pixels or PDF by matplotlib.

matplotlib is imported where something is measured or painted: not every use of the package draws.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from html import escape
from typing import Any

FONT = "DejaVu Sans"
ASCENT, DESCENT = 0.78, 0.24  # of the font size, above and below the baseline
COLOURS = {"ink": "#1b1f24", "faint": "#77808c", "paper": "#ffffff", "p": "#2563eb", "q": "#d9480f", "pq": "#7c3aed"}
Box = tuple[float, float, float, float]
Point = tuple[float, float]


@dataclass(frozen=True)
class Style:
    """How a shape is drawn; colours are keys of ``COLOURS`` (ink follows the page's text colour)."""

    stroke: str | None = "ink"
    fill: str | None = None
    width: float = 1.2
    dash: bool = False


@dataclass(frozen=True)
class Circle:
    """A circle around (x, y)."""

    x: float
    y: float
    r: float
    style: Style = Style()

    def box(self) -> Box:
        """(left, top, right, bottom)."""
        return self.x - self.r, self.y - self.r, self.x + self.r, self.y + self.r


@dataclass(frozen=True)
class Path:
    """A curve of moves: ("M", point), ("L", point), ("C", control, control, point), ("Z",)."""

    moves: tuple[Any, ...]
    style: Style = Style()

    def points(self) -> list[Point]:
        """All points, control points included."""
        return [p for move in self.moves for p in move[1:]]

    def box(self) -> Box:
        """(left, top, right, bottom) of its points."""
        xs, ys = zip(*self.points(), strict=True)
        return min(xs), min(ys), max(xs), max(ys)


@dataclass(frozen=True)
class Text:
    """A line of text: ``x`` is its start, middle or end, ``y`` its baseline."""

    x: float
    y: float
    string: str
    size: float = 11
    anchor: str = "middle"
    colour: str = "ink"

    def box(self) -> Box:
        """(left, top, right, bottom)."""
        width = text_width(self.string, self.size)
        left = self.x - {"start": 0, "middle": width / 2, "end": width}[self.anchor]
        return left, self.y - ASCENT * self.size, left + width, self.y + DESCENT * self.size


Shape = Circle | Path | Text


@cache
def text_width(string: str, size: float) -> float:
    """The width of a line of text, measured in ``FONT``."""
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import text_to_path

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # glyphs that the font lacks
        return float(text_to_path.get_text_width_height_descent(string, FontProperties(FONT, size=size), False)[0])


def rectangle(x: float, y: float, width: float, height: float, style: Style) -> Path:
    """A rectangle by its top left corner."""
    corners = (x, y), (x + width, y), (x + width, y + height), (x, y + height)
    return Path((("M", corners[0]), *(("L", c) for c in corners[1:]), ("Z",)), style)


def move(shape: Shape, dx: float, dy: float) -> Shape:
    """A shape somewhere else."""
    if isinstance(shape, Path):
        moves = tuple((m[0], *((x + dx, y + dy) for x, y in m[1:])) for m in shape.moves)
        return Path(moves, shape.style)
    return type(shape)(shape.x + dx, shape.y + dy, *list(vars(shape).values())[2:])


@dataclass
class Scene:
    """Shapes in a frame ``width`` × ``height``, drawn in order."""

    width: float
    height: float
    shapes: list[Shape] = field(default_factory=list)
    title: str = ""

    def add(self, shapes: Iterable[Shape]) -> None:
        """Draw more shapes on top."""
        self.shapes.extend(shapes)

    @property
    def texts(self) -> list[Text]:
        """The lines of text in it."""
        return [s for s in self.shapes if isinstance(s, Text)]

    def svg(self) -> str:
        """The scene as SVG; texts keep the width they were measured with, whatever font a viewer has."""
        w, h = _number(self.width), _number(self.height)
        head = (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{w}" height="{h}" viewBox="0 0 {w} {h}" role="img"'
            f' color="{COLOURS["ink"]}" font-family="{FONT}, Verdana, sans-serif" fill="none">'
        )
        paper = f'<rect width="{w}" height="{h}" fill="{COLOURS["paper"]}"/>'
        return "\n".join([head, f"<title>{escape(self.title)}</title>", paper, *map(_svg, self.shapes), "</svg>"])

    def png(self, scale: float = 2) -> bytes:
        """The scene as a PNG of ``scale`` pixels per unit."""
        return self._painted("png", dpi=72 * scale)

    def pdf(self) -> bytes:
        """The scene as a PDF of one page, 1/72 inch per unit, with text that can be selected."""
        return self._painted("pdf", metadata={"CreationDate": None, "Title": self.title})

    def _painted(self, kind: str, **options: Any) -> bytes:
        from matplotlib import rc_context
        from matplotlib.figure import Figure

        figure = Figure(figsize=(self.width / 72, self.height / 72))
        axes: Any = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, self.width), ylim=(self.height, 0))
        axes.set_axis_off()
        for shape in self.shapes:
            _paint(axes, shape)
        buffer = io.BytesIO()
        with warnings.catch_warnings(), rc_context({"pdf.fonttype": 42}):
            warnings.simplefilter("ignore")
            figure.savefig(buffer, format=kind, facecolor=COLOURS["paper"], **options)
        return buffer.getvalue()


def _number(x: float) -> str:
    return f"{x:.2f}".rstrip("0").rstrip(".")


def _colour(name: str | None) -> str:
    return "none" if name is None else "currentColor" if name == "ink" else COLOURS[name]


def _attributes(style: Style) -> str:
    if style.stroke is None:
        return f'fill="{_colour(style.fill)}"'
    fill = "" if style.fill is None else f' fill="{_colour(style.fill)}"'
    dash = ' stroke-dasharray="5 3.5"' if style.dash else ""
    return f'stroke="{_colour(style.stroke)}" stroke-width="{_number(style.width)}"{fill}{dash}'


def _svg(shape: Shape) -> str:
    if isinstance(shape, Circle):
        x, y, r = map(_number, (shape.x, shape.y, shape.r))
        return f'<circle cx="{x}" cy="{y}" r="{r}" {_attributes(shape.style)}/>'
    if isinstance(shape, Path):
        moves = " ".join(m[0] + " ".join(f"{_number(x)},{_number(y)}" for x, y in m[1:]) for m in shape.moves)
        return f'<path d="{moves}" {_attributes(shape.style)}/>'
    left, _, right, _ = shape.box()
    return (
        f'<text x="{_number(left)}" y="{_number(shape.y)}" font-size="{_number(shape.size)}"'
        f' textLength="{_number(right - left)}" lengthAdjust="spacingAndGlyphs"'
        f' fill="{_colour(shape.colour)}">{escape(shape.string)}</text>'
    )


def _paint(axes: Any, shape: Shape) -> None:
    if isinstance(shape, Text):
        axes.text(shape.box()[0], shape.y, shape.string, fontsize=shape.size, family=FONT, parse_math=False,
                  color=COLOURS[shape.colour], ha="left", va="baseline")  # fmt: skip
        return
    from matplotlib.patches import Circle as CirclePatch
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path as Curve

    style = {
        "edgecolor": "none" if shape.style.stroke is None else COLOURS[shape.style.stroke],
        "facecolor": "none" if shape.style.fill is None else COLOURS[shape.style.fill],
        "linewidth": shape.style.width,
        "linestyle": (0, (4, 3)) if shape.style.dash else "-",
    }
    if isinstance(shape, Circle):
        axes.add_patch(CirclePatch((shape.x, shape.y), shape.r, **style))
        return
    codes_of = {"M": [Curve.MOVETO], "L": [Curve.LINETO], "C": [Curve.CURVE4] * 3, "Z": [Curve.CLOSEPOLY]}
    codes = [code for move in shape.moves for code in codes_of[move[0]]]
    points = [p for move in shape.moves for p in (move[1:] or [(0.0, 0.0)])]
    axes.add_patch(PathPatch(Curve(points, codes), capstyle="butt", **style))
