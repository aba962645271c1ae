"""A network or program as a list of lines, which prints as Python and runs as printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import sympy as sp

import tensorprog as tp
from tests.random_cases.pieces import BY_TEXT, SYMBOLS, Piece, exponential

HEADER = "import numpy as np\nimport sympy as sp\nimport tensorprog as tp"
ASKED = 2


@dataclass(frozen=True)
class Line:
    """``targets = piece(args; numbers)``, with the key of its parameter."""

    targets: tuple[str, ...]
    piece: Piece
    args: tuple[str, ...] = ()
    numbers: tuple[str, ...] = ()
    key: str = ""

    def expression(
        self, stds: Mapping[str, str], template: str | None = None, args: Iterable[str] | None = None
    ) -> str:
        """The right-hand side."""
        given = self.args if args is None else args
        named = dict(zip("ab", self.numbers, strict=False))
        std = stds.get(self.key, "1")
        return (template or self.piece.text).format(*given, **named, key=self.key, std=std)

    def text(self, stds: Mapping[str, str]) -> str:
        """The line."""
        return f"{', '.join(self.targets)} = {self.expression(stds)}"


@dataclass(frozen=True)
class Case:
    """What a seed stands for.

    Attributes:
        kind: "net" or "program".
        before, loop, after: lines; those of the loop are repeated, and ``h`` is carried from one time to the next.
        over: "" for no loop, "depth" or "time".
        output: the line that is returned; None for a program.
        stds: by key, shared by all lines with the key.
        data: inputs, (N, d), or for a loop over time (N, T, d), as text of numbers.
        seed: what it was made from.
    """

    kind: str
    before: tuple[Line, ...]
    loop: tuple[Line, ...] = ()
    after: tuple[Line, ...] = ()
    over: str = ""
    output: Line | None = None
    stds: Mapping[str, str] = field(default_factory=dict)
    data: Any = ()
    seed: int = 0

    @property
    def lines(self) -> tuple[Line, ...]:
        """All of them, in order."""
        return (*self.before, *self.loop, *self.after, *(() if self.output is None else (self.output,)))

    @property
    def symbols(self) -> dict[sp.Symbol, float]:
        """The values of the symbols that occur."""
        numbers = [
            text for line in self.lines for text in (line.piece.text, *line.numbers, self.stds.get(line.key, ""))
        ]
        used = [name for name in SYMBOLS if any(name in _words(text) for text in numbers)]
        return {sp.Symbol(name, positive=True): SYMBOLS[name] for name in used}

    @property
    def wild(self) -> bool:
        """Whether rare events matter, by exponentials of Gaussians or scales of 1e6: standard errors say little."""
        huge = any("1e6" in (*line.numbers, self.stds.get(line.key)) for line in self.lines)
        return huge or any(line.piece.degree is exponential for line in self.lines)

    @property
    def X(self) -> np.ndarray:
        """The inputs."""
        return np.array(self.data, float)

    def text(self) -> str:
        """The definition as Python."""
        return "\n".join([*self._symbol_lines(), *(self._network() if self.kind == "net" else self._program())])

    def script(self) -> str:
        """All that is needed to see the numbers."""
        if self.kind == "program":
            return f"{HEADER}\n{self.text()}\nlim = tp.limit(p)"
        values = f", values={{{', '.join(f'{s}: {v}' for s, v in self.symbols.items())}}}" if self.symbols else ""
        rows = np.array2string(self.X, separator=", ", threshold=10**6).replace("\n", "")
        kernels = "tp.ntk(net())," if "net.average" in self.text() else "tp.nngp(net()), tp.ntk(net())"
        shown = f"X = {rows}\nfor K in {kernels}:\n    print(K(X{values}), K.gram(X{values}))"
        return f"{HEADER}\n{self.text()}\n{shown}"

    def _symbol_lines(self) -> list[str]:
        names = [str(s) for s in self.symbols]
        return [f'{name} = sp.Symbol("{name}", positive=True)' for name in names]

    def _network(self) -> list[str]:
        own = ", *, depth=2" if self.over == "depth" else ""
        head = {"": [], "depth": ["for l in range(1, depth + 1):"], "time": ["for l, x_t in enumerate(x):"]}[self.over]
        body = [line.text(self.stds) for line in self.before]
        body += [*head, *(f"    {line.text(self.stds)}" for line in self.loop)] if self.loop else []
        body += [line.text(self.stds) for line in self.after]
        body += [f"return {self.output.expression(self.stds)}"] if self.output else []
        return ["@tp.network", f"def net(net, x{own}):", *(f"    {text}" for text in body)]

    def _program(self) -> list[str]:
        return ["p = tp.Program()", *(line.text(self.stds) for line in self.before)]

    def run(self, world: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """What the text defines: with tensorprog, or with other meanings of the names tp, sp and np."""
        names = dict(world or {"tp": tp, "sp": sp, "np": np})
        exec(compile(self.text(), f"<case {self.seed}>", "exec"), names)
        return names

    def network(self) -> Any:
        """The network, with its defaults."""
        return self.run()["net"]()

    def program(self) -> tuple[tp.Program, dict[str, Any]]:
        """The program, and its variables by name in the order of the lines."""
        names = self.run()
        return names["p"], {t: names[t] for line in self.before for t in line.targets}

    @property
    def asked(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The names of the vectors and scalars of a program that are looked at: the last few."""
        kinds = self.kinds()
        vectors, scalars = ([n for n, k in kinds.items() if k == kind][-ASKED:] for kind in "vs")
        return tuple(vectors), tuple(scalars)

    def kinds(self) -> dict[str, str]:
        """v, s or m for each name of a program."""
        return {t: k for line in self.before for t, k in zip(line.targets, line.piece.result, strict=True)}


def _words(text: str) -> set[str]:
    return set("".join(ch if ch.isalnum() or ch == "_" else " " for ch in text).split())


# ---- the same thing, written otherwise --------------------------------------------------------------


def commuted(case: Case) -> Case:
    """With operands of sums and products in another order."""
    return _mapped(case, lambda line: replace(line, piece=_commute(line.piece)))


def _commute(piece: Piece) -> Piece:
    if piece.commuted is None:
        return piece
    return replace(piece, text=piece.commuted, commuted=piece.text, inline=piece.commuted)


def renamed(case: Case) -> Case:
    """With other names of parameters, in another alphabetical order."""
    flipped = str.maketrans("UEWMbcmnRVgByt", "zyxwvutsrqponl")

    def other(key: str) -> str:
        return (
            f'("Q{key[2:-5].translate(flipped)}", l)' if key.startswith("(") else f'"Q{key.translate(flipped)[1:-1]}"'
        )

    lines = _mapped(case, lambda line: replace(line, key=other(line.key) if line.key else ""))
    return replace(lines, stds={other(k): v for k, v in case.stds.items()})


def fused(case: Case) -> Case:
    """With chains of coordinatewise functions written by hand as one ``tp.nonlin`` each."""
    kept = set(case.asked[0]) if case.kind == "program" else _read(case.loop, case.after, case.output)
    before, leaves = _fuse(case.before, {}, case.stds, kept)
    loop, _ = _fuse(case.loop, leaves, case.stds, {"h"})
    after, _ = _fuse(case.after, leaves, case.stds, _read((), (), case.output))
    return replace(case, before=before, loop=loop, after=after)


def _read(*parts: Any) -> set[str]:
    lines = [line for part in parts if part is not None for line in (part if isinstance(part, tuple) else (part,))]
    return {a for line in lines for a in line.args} | {"h"}


def _fuse(lines: tuple[Line, ...], known: dict[str, Any], stds: Mapping[str, str],
          kept: set[str]) -> tuple[tuple[Line, ...], dict[str, Any]]:  # fmt: skip
    """Lines without those that are inlined; ``known`` says of earlier names whether they are scalars."""
    bodies: dict[str, tuple[str, tuple[str, ...]]] = {}  # of pending vectors: text and leaves
    kind: dict[str, str] = dict(known)
    result = []
    for line in lines:
        pure = line.piece.expression is not None and line.piece.result == "v"
        parts = [bodies.get(a, (a, (a,))) for a in line.args]
        if pure:
            text = line.expression(stds, line.piece.expression, [f"({body})" for body, _ in parts])
            leaves = tuple(dict.fromkeys(leaf for _, own in parts for leaf in own))
            bodies[line.targets[0]] = text, leaves
            kind[line.targets[0]] = "v"
            if line.targets[0] in kept:
                result.append(_together(line.targets[0], text, leaves, kind))
                del bodies[line.targets[0]]
        else:
            for a in line.args:
                if a in bodies:
                    result.append(_together(a, *bodies.pop(a), kind))
            result.append(line)
            kind.update(zip(line.targets, line.piece.result, strict=True))
    return tuple(result), kind


def _together(target: str, body: str, leaves: tuple[str, ...], kind: Mapping[str, str]) -> Line:
    vectors = [a for a in leaves if kind.get(a, "v") == "v"]
    scalars = [a for a in leaves if kind.get(a, "v") == "s"]
    given = f", params=[{', '.join(scalars)}]" if scalars else ""
    escaped = body.replace("{", "{{").replace("}", "}}")
    text = f"tp.nonlin(lambda {', '.join([*vectors, *scalars])}: {escaped}, {', '.join(vectors)}{given})"
    return Line((target,), Piece(text, "v" * len(vectors) + "s" * len(scalars)), (*vectors, *scalars))


def _mapped(case: Case, change: Any) -> Case:
    parts = {name: tuple(map(change, getattr(case, name))) for name in ("before", "loop", "after")}
    return replace(case, **parts, output=None if case.output is None else change(case.output))


def pieces_of(case: Case) -> Iterator[Piece]:
    """The rows of the table that it uses."""
    for line in case.lines:
        yield BY_TEXT[line.piece.text, line.piece.args]
