"""The signs of the graphical notation (TP2b Fig. 1, 4–7): one for each instruction, with its extents.

Empty circle: G-var; filled circle: X-var; square: scalar; dashed line labelled by a matrix: MatMul; gate: Nonlin;
gate with a bar: Moment.  Initial scalars stand as small squares at every gate that reads them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import sympy as sp

from tensorprog.functions import Fn, text_name
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import Difference, InitScalar, MatMul, Moment, Nonlin, Var, slots_of
from tensorprog.printing import NameSymbol, text
from tensorprog.report.layout import Node
from tensorprog.report.scene import ASCENT, DESCENT, Circle, Path, Shape, Style, Text, rectangle, text_width

R, LABEL, SMALL = 5.5, 11.0, 9.5
_SUBSCRIPT = str.maketrans("0123456789", "₀₁₂₃₄₅₆₇₈₉")


def shown(name: str) -> str:
    """A variable's name as it is drawn: running numbers become indices, and the step θ of training loses its own.

    >>> shown("W(x)_12"), shown("t_33"), shown("W2(x)"), shown("θ21")
    ('W(x)₁₂', 't₃₃', 'W2(x)', 'θ')
    """
    name = re.sub(r"^θ\d+$", "θ", name)
    return re.sub(r"_(\d+)(?=$|@)", lambda m: m[1].translate(_SUBSCRIPT), name)


def matrix_name(op: MatMul) -> str:
    """W or Wᵀ."""
    return shown(op.matrix.name) + ("ᵀ" if op.transpose else "")


def function_name(op: Nonlin | Moment | Difference) -> str:
    """What stands in a gate: φ for φ(x + y + ..), + for a sum, × for a product, id; ψ for anything else."""
    body, slots = op.body, {*slots_of(op)}

    def sum_of_slots(e: sp.Expr) -> bool:
        return e.is_Add and set(e.args) <= slots

    if isinstance(body, Fn) and (body.args[0] in slots or sum_of_slots(body.args[0])):
        name = text_name(type(body))
    elif body in slots:
        name = "id"
    elif sum_of_slots(body):
        name = "+"
    elif body.is_Mul and set(body.args) <= slots:
        name = "×"
    else:
        name = "ψ"
    return f"Δ{name}" if isinstance(op, Difference) else name


def formula(var: Var, op: Nonlin | Moment | Difference, alias: Mapping[Var, Var]) -> str:
    """An instruction as a line of text, its operands by name; copies by the name of what they are copies of."""
    names = {s: NameSymbol(shown(alias.get(v, v).name)) for s, v in slots_of(op).items()}
    body = text(op.body.xreplace(names))
    if isinstance(op, Difference):
        changed = {s: names[s] + NameSymbol(shown(op.theta.name)) * NameSymbol(shown(d.name))
                   for s, d in op.changes.items()}  # fmt: skip
        return f"{shown(var.name)} = [{text(op.body.xreplace({**names, **changed}))} − {body}]/{shown(op.theta.name)}"
    return f"{shown(var.name)} = " + (f"mean of {body}" if isinstance(op, Moment) and op.args else body)


@dataclass
class Glyph:
    """The sign of one variable: its place in the layout and its shapes once it has one."""

    var: Var
    op: Any
    node: Node
    inputs: tuple[Var, ...] = ()
    scalars: tuple[Var, ...] = ()
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
        n, grey = self.node, self.colour == "ink" and isinstance(self.op, Nonlin | Difference)
        colour = "faint" if grey else self.colour
        yield Text(n.x, n.y + R + 2 + ASCENT * SMALL, shown(self.var.name), SMALL, colour=colour)

    def _body(self, style: Style) -> Shape:
        n = self.node
        if self.var.kind == "scalar":
            return rectangle(n.x - R, n.y - R, 2 * R, 2 * R, Style(style.stroke, "paper", style.width))
        filled = isinstance(self.op, Nonlin | Difference)
        return Circle(n.x, n.y, R, Style(style.stroke, self.colour if filled else "paper", style.width))

    def _matmul(self, style: Style) -> Iterator[Shape]:
        n = self.node
        d = n.direction
        start, end = n.x - d * n.inlet, n.x - d * R
        line = (
            Style("faint", None, 1.0, dash=True) if self.colour == "ink" else Style(self.colour, None, 2.4, dash=True)
        )
        yield Path((("M", (start, n.y)), ("L", (end, n.y))), line)
        yield Text((start + end) / 2, n.y - 5, matrix_name(self.op), LABEL, colour=self.colour)

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
        if isinstance(self.op, Moment):
            inside = flat + d * 4
            yield Path((("M", (inside, top)), ("L", (inside, bottom))), style)
        middle = (inside + tip) / 2 - d
        yield Text(
            middle, n.y + (ASCENT - DESCENT) / 2 * LABEL - 0.5, function_name(self.op), LABEL, colour=self.colour
        )
        yield from self._attached((flat + tip) / 2, top, style)

    def _attached(self, middle: float, top: float, style: Style) -> Iterator[Shape]:
        x = middle - sum(map(_cell, self.scalars)) / 2
        for v in self.scalars:
            centre = x + _cell(v) / 2
            yield Path((("M", (centre, top - 7)), ("L", (centre, top))), style)
            yield rectangle(centre - 3.5, top - 14, 7, 7, Style(style.stroke, "paper", style.width))
            yield Text(centre, top - 16 - DESCENT * SMALL, shown(v.name), SMALL, colour=self.colour)
            x += _cell(v)


def _cell(v: Var) -> float:
    return max(text_width(shown(v.name), SMALL), 8.0) + 5


def glyph(var: Var, program: ProgramGraph, band: int, inputs: tuple[Var, ...]) -> Glyph:
    """The sign of a variable, with room for its labels.

    Args:
        var: the variable.
        program: where it is defined.
        band: where it is drawn.
        inputs: the variables that edges come from.
    """
    op = program.op(var)
    half = max(text_width(shown(var.name), SMALL) / 2, R)
    low = R + 2 + (ASCENT + DESCENT) * SMALL
    node = Node(var, band, half, half, R + 1, low, R, R, anchored=bool(op.operands))
    g = Glyph(var, op, node, inputs)
    if isinstance(op, MatMul):
        node.inlet = R + max(28.0, text_width(matrix_name(op), LABEL) + 14)
        node.before, node.up = max(half, node.inlet), 6 + ASCENT * LABEL
    elif isinstance(op, Nonlin | Moment | Difference):
        _size_gate(g, program, half)
    return g


def _size_gate(g: Glyph, program: ProgramGraph, half: float) -> None:
    g.scalars = tuple(dict.fromkeys(v for v in g.op.operands if isinstance(program.op(v), InitScalar)))
    width = max(22.0, text_width(function_name(g.op), LABEL) + 14, sum(map(_cell, g.scalars)))
    height = max(22.0, 9.0 * (len(g.inputs) - 1) + 14)
    g.gate, g.stub = (width + 4 * isinstance(g.op, Moment), height), max(8.0, half - R + 4)
    g.node.inlet = R + g.stub + g.gate[0]
    g.node.before = max(half, g.node.inlet)
    g.node.up = height / 2 + (18 + (ASCENT + DESCENT) * SMALL if g.scalars else 1)
    g.node.down = max(height / 2 + 1, g.node.down)
