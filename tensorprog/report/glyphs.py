"""The signs of the graphical notation (TP2b Fig. 1, 4–7): one for each instruction, with its extents.

Empty circle: G-var; filled circle: X-var; square: scalar; dashed line labelled by a matrix: MatMul; gate: Nonlin, or
a mean or sum over positions; gate with a bar: Moment, or the mean √n times which is an output.  Initial scalars stand
as small squares at every gate that reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from tensorprog.ir.instructions import Difference, InitScalar, MatMul, Mix, Moment, Nonlin, Var
from tensorprog.report.formulas import Functions
from tensorprog.report.layout import Node
from tensorprog.report.scene import ASCENT, DESCENT, Circle, Path, Shape, Style, Text, rectangle, text_width
from tensorprog.report.subject import Head

R, LABEL, SMALL = 5.5, 11.0, 9.5
POINTWISE = Nonlin | Difference | Mix  # what gives X-vars


@dataclass
class Glyph:
    """The sign of one variable: its place in the layout and its shapes once it has one."""

    var: Var
    op: Any
    node: Node
    name: str = ""
    label: str = ""  # of the gate or the dashed line
    inputs: tuple[Var, ...] = ()
    scalars: dict[Var, str] = field(default_factory=dict)
    gate: tuple[float, float] = (0.0, 0.0)
    stub: float = 0.0
    colour: str = "ink"
    ports: dict[Var, float] = field(default_factory=dict)

    @property
    def dashed(self) -> bool:
        """Whether its incoming edge is a MatMul."""
        return isinstance(self.op, MatMul)

    def spread(self, last: dict[Var, Node], turns: dict[Var, bool]) -> None:
        """Give every input its own port on the gate, in an order in which their curves do not cross.

        Args:
            last: the last stop of each input's curve.
            turns: whether it arrives by a turn; such curves are nested, the nearest one inside.
        """

        def order_of(v: Var) -> tuple[int, float]:
            y = last[v].y
            return (0 if y < self.node.y else 2, -y) if turns[v] else (1, y)

        order = sorted(self.inputs, key=order_of)
        step = (self.gate[1] - 10) / max(1, len(order) - 1)
        for k, v in enumerate(order):
            self.ports[v] = self.node.y + (0.0 if len(order) == 1 else (k - (len(order) - 1) / 2) * min(step, 10.0))

    def shapes(self) -> Iterator[Shape]:
        """Everything but the edges."""
        style = Style(self.colour, width=1.2 if self.colour == "ink" else 2.4)
        if isinstance(self.op, MatMul):
            yield from self._matmul(style)
        elif self.gate[0]:
            yield from self._gate(style)
        yield self._body(style)
        n, grey = self.node, self.colour == "ink" and isinstance(self.op, POINTWISE)
        colour = "faint" if grey else self.colour
        yield Text(n.x, n.y + R + 2 + ASCENT * SMALL, self.name, SMALL, colour=colour)

    def _body(self, style: Style) -> Shape:
        n = self.node
        if self.var.kind == "scalar":
            return rectangle(n.x - R, n.y - R, 2 * R, 2 * R, Style(style.stroke, "paper", style.width))
        filled = isinstance(self.op, POINTWISE)
        return Circle(n.x, n.y, R, Style(style.stroke, self.colour if filled else "paper", style.width))

    def _matmul(self, style: Style) -> Iterator[Shape]:
        n = self.node
        d = n.direction
        start, end = n.x - d * n.inlet, n.x - d * R
        line = (
            Style("faint", None, 1.0, dash=True) if self.colour == "ink" else Style(self.colour, None, 2.4, dash=True)
        )
        yield Path((("M", (start, n.y)), ("L", (end, n.y))), line)
        yield Text((start + end) / 2, n.y - 5, self.label, LABEL, colour=self.colour)

    def _gate(self, style: Style) -> Iterator[Shape]:
        n, (width, height) = self.node, self.gate
        d = n.direction
        flat, tip = n.x - d * n.inlet, n.x - d * (R + self.stub)
        yield Path((("M", (tip, n.y)), ("L", (n.x - d * R, n.y))), style)
        top, bottom = n.y - height / 2, n.y + height / 2
        round_ = d * min(width / 2, 12.0)
        yield Path(
            (("M", (flat, top)), ("L", (tip - round_, top)),
             ("C", (tip + round_ / 3, top), (tip + round_ / 3, bottom), (tip - round_, bottom)),
             ("L", (flat, bottom)), ("Z",)),
            Style(style.stroke, "paper", style.width),
        )  # fmt: skip
        inside = flat
        if isinstance(self.op, Moment | Head):
            inside = flat + d * 4
            yield Path((("M", (inside, top)), ("L", (inside, bottom))), style)
        middle = (inside + tip) / 2 - d
        yield Text(middle, n.y + (ASCENT - DESCENT) / 2 * LABEL - 0.5, self.label, LABEL, colour=self.colour)
        yield from self._attached((flat + tip) / 2, top, style)

    def _attached(self, middle: float, top: float, style: Style) -> Iterator[Shape]:
        x = middle - sum(map(_cell, self.scalars.values())) / 2
        for name in self.scalars.values():
            centre = x + _cell(name) / 2
            yield Path((("M", (centre, top - 7)), ("L", (centre, top))), style)
            yield rectangle(centre - 3.5, top - 14, 7, 7, Style(style.stroke, "paper", style.width))
            yield Text(centre, top - 16 - DESCENT * SMALL, name, SMALL, colour=self.colour)
            x += _cell(name)


def _cell(name: str) -> float:
    return max(text_width(name, SMALL), 8.0) + 5


def glyph(var: Var, functions: Functions) -> Glyph:
    """The sign of a drawn variable, with room for its labels."""
    s = functions.s
    op, name = s.op(var), s.name(var)
    half = max(text_width(name, SMALL) / 2, R)
    low = R + 2 + (ASCENT + DESCENT) * SMALL
    node = Node(var, s.band.get(var, 0), half, half, R + 1, low, R, R, anchored=bool(op.operands))
    g = Glyph(var, op, node, name, inputs=s.inputs(var))
    if isinstance(op, MatMul):
        g.label = s.matrix(op)
        node.inlet = R + max(28.0, text_width(g.label, LABEL) + 14)
        node.before, node.up = max(half, node.inlet), 6 + ASCENT * LABEL
    elif var in functions.gates:
        g.label = functions.gates[var]
        g.scalars = {v: s.name(v) for v in op.operands if v not in s.heads and isinstance(s.op(v), InitScalar)}
        _size_gate(g, half)
    return g


def _size_gate(g: Glyph, half: float) -> None:
    width = max(22.0, text_width(g.label, LABEL) + 14, sum(map(_cell, g.scalars.values())))
    height = max(22.0, 9.0 * (len(g.inputs) - 1) + 14)
    g.gate, g.stub = (width + 4 * isinstance(g.op, Moment | Head), height), max(8.0, half - R + 4)
    g.node.inlet = R + g.stub + g.gate[0]
    g.node.before = max(half, g.node.inlet)
    g.node.up = height / 2 + (18 + (ASCENT + DESCENT) * SMALL if g.scalars else 1)
    g.node.down = max(height / 2 + 1, g.node.down)
