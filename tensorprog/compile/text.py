"""A program as text to read: one line an operation, names generated, numbers as they are."""

from __future__ import annotations

from collections.abc import Callable

from tensorprog.compile.compiled import Program
from tensorprog.compile.loops import Loop
from tensorprog.compile.tape import CONST, LEFT, PAIR, RIGHT, Op

NOTE = "# relu_gap(g) = g - (sin t - t + t g)/pi with 1 - cos t = g"
HEADS = {CONST: "numbers", LEFT: "per first input x", RIGHT: "per second input y", PAIR: "per pair"}


def _call(name: str) -> Callable[..., str]:
    return lambda op, *args: f"{name}({', '.join(args)})"


def _datum(datum: tuple[int, int]) -> str:
    return f"{'xy'[datum[0]]}[{datum[1]}]"


def _product(*factors: str) -> str:
    return " * ".join(f for f in factors if f != "1.0") or "1.0"


def _plus(a: str, b: str) -> str:
    return a if b == "0.0" else f"{a} + {b}"


LINES: dict[str, Callable[..., str]] = {
    "lin": lambda op, a, x, b: _plus(_product(a, x), b),
    "mul": lambda op, a, x, y: _product(a, x, y),
    "fma": lambda op, z, a, x, y: f"{z} + {_product(a, x, y)}",
    "axpy": lambda op, z, a, x: f"{z} + {_product(a, x)}",
    "rsqrt": lambda op, x: f"1 / sqrt({x})",
    "carry": lambda op: f"c{op.data}",
    "recip": lambda op, x: f"1 / {x}",
    "positive": lambda op, x: f"({x} > 0)",
    "gram": lambda op: f"dot({', '.join(map(_datum, op.data))}) / d",
    "unit": lambda op: f"cosine({', '.join(map(_datum, op.data))})",
    "apart": lambda op, x: f"1 - {x}",
    "plain": lambda op, g: g,
    "gap": lambda op, c, r1, r2: f"1 - {c} * {r1} * {r2}",
    "spread": lambda op, z, u, v: f"{z} + ({u} - {v})**2 / 2",
    "relu": lambda op, gap, s1, w1, s2, w2: f"{s1} * {s2} * (1 - relu_gap({gap}))",
    "step": lambda op, gap, s1, w1, s2, w2: f"{w1} * {w2} * (pi - arccos(1 - {gap}))",
    "relu gap": lambda op, gap, *scales: f"relu_gap({gap})",
    "asin": lambda op, c, r1, r2, steep: f"arcsin({c} * {r1} * {r2})",
    "rsq": lambda op, c, r1, r2, steep: f"1 / sqrt(1 - ({c} * {r1} * {r2})**2)",
    "smooth": lambda op, c, r1, r2, q1, q2: f"expectation({q1}, {c}, {q2})",
    "exp": lambda op, c, h: f"exp({c} + {h})",
    "sinh": lambda op, c, h: f"exp(-{h}) * sinh({c})",
    "cosh": lambda op, c, h: f"exp(-{h}) * cosh({c})",
    "erf square": lambda op, q: f"2 / pi * arcsin(2 * {q} / (1 + 2 * {q}))",
}


def source(program: Program) -> str:
    """The operations of a program, those per input before those per pair."""
    return "\n".join([NOTE, "", *_lines(program), f"return {', '.join(_name(program, i) for i in program.roots)}"])


def loop_source(loop: Loop) -> str:
    """The operations of a loop over time: how a pair starts, every time after, and the results."""
    heads = {0: "the first time of x, y being under way", 1: "the first time of y, x being under way"}
    parts = [("the first time", loop.first), *((heads[k], r) for k, r in sorted(loop.late.items())),
             ("every time between", loop.body)]  # fmt: skip
    lines = [NOTE, "# times are counted from the end; c0, c1, .. are carried from one to the next", ""]
    for head, region in parts:
        names, values = ([f"c{k}" for k, _ in region.outs], [_name(region.program, i) for _, i in region.outs])
        lines += [f"## {head}", "", *_lines(region.program), f"{', '.join(names)} = {', '.join(values)}", ""]
    results = ", ".join(_name(loop.last.program, i) for i in loop.last.program.roots)
    lines += ["## the last time", "", *_lines(loop.last.program), f"return {results}"]
    return "\n".join(lines).replace("[0]", "[t]")  # the data of a step are of one time


def _lines(program: Program) -> list[str]:
    tape, lines = program.tape, list[str]()
    for side in (LEFT, RIGHT, PAIR):
        lines.append(f"# {HEADS[side]}")
        lines += [f"v{i} = {_line(program, i)}" for i in program.order if tape.sides[i] == side]
        lines.append("")
    return lines


def _name(program: Program, i: int) -> str:
    value = program.tape.value(i)
    return f"v{i}" if value is None else repr(value)


def _line(program: Program, i: int) -> str:
    op: Op = program.tape.ops[i]
    rule = LINES.get(op.kind) or _call("expectation" if op.kind in ("form", "expect", "moment", "formula") else op.kind)
    return rule(op, *(_name(program, a) for a in op.args))
