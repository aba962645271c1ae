"""Making a case that fails as small as it can be while it still fails."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace

from tests.random_cases.case import Case, Line
from tests.random_cases.generate import pruned
from tests.random_cases.pieces import BY_TEXT

PARTS = "before", "loop", "after"
PLAIN = "1", "2", "0.5"


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float = 60.0) -> Case:
    """The smallest case that is found by making one change after another, as long as it still fails.

    Args:
        case: one that fails.
        fails: whether a case does so in the same way.
        seconds: of processor time after which what was found so far is returned.
    """
    start = time.process_time()
    moved = True
    while moved:
        moved = False
        for smaller in _smaller(case):
            if time.process_time() - start > seconds:
                return case
            if _valid(smaller) and _holds(fails, smaller):
                case, moved = smaller, True
                break
    return case


def _holds(fails: Callable[[Case], bool], case: Case) -> bool:
    try:
        return fails(case)
    except Exception:
        return False


def _valid(case: Case) -> bool:
    """Whether every variable is made before it is read."""
    try:
        case.network().trace([1] if case.over == "time" else [None]) if case.kind == "net" else case.program()
    except Exception:
        return False
    return True


def size(case: Case) -> tuple[int, int, int]:
    """What is made smaller: lines, numbers of the data, characters."""
    return len(case.lines), len(str(case.data)), len(case.text())


def _smaller(case: Case) -> Iterator[Case]:
    """Cases with one change, those that save most first."""
    yield from (c for c in (_pruned(c) for c in _changes(case)) if c != case and size(c) < size(case))


def _pruned(case: Case) -> Case:
    return pruned(case) if case.kind == "net" else case


def _changes(case: Case) -> Iterator[Case]:
    if case.loop:
        yield _straight(case)
    for part in PARTS:
        for i in reversed(range(len(getattr(case, part)))):
            yield from _without(case, part, i)
    yield from _fewer_data(case)
    if case.output is not None:
        plain = BY_TEXT["net.readout({key}, {0})", "v"]
        for a in case.output.args:
            yield replace(case, output=Line(("f",), plain, (a,), (), '"R"'), stds={**case.stds, '"R"': "1"})
    for key, std in case.stds.items():
        if std != "1":
            yield replace(case, stds={**case.stds, key: "1"})
    for part in PARTS:
        for i, line in enumerate(getattr(case, part)):
            yield from (_with(case, part, i, (other,)) for other in _simpler(line))


def _with(case: Case, part: str, i: int, lines: tuple[Line, ...]) -> Case:
    old = getattr(case, part)
    return replace(case, **{part: (*old[:i], *lines, *old[i + 1 :])})


def _without(case: Case, part: str, i: int) -> Iterator[Case]:
    """Without a line, whose result is replaced by one of its operands or of the variables before it."""
    line = getattr(case, part)[i]
    cut = _with(case, part, i, ())
    if case.kind == "program":
        yield cut
    if line.piece.result not in ("v", "s", "m"):
        return
    own = [a for a, kind in zip(line.args, line.piece.args, strict=False) if kind == line.piece.result]
    for name in dict.fromkeys(own):
        yield _renamed(cut, line.targets[0], name)


def _renamed(case: Case, old: str, new: str) -> Case:
    def other(line: Line) -> Line:
        return replace(line, args=tuple(new if a == old else a for a in line.args))

    parts = {part: tuple(map(other, getattr(case, part))) for part in PARTS}
    return replace(case, **parts, output=None if case.output is None else other(case.output))


def _straight(case: Case) -> Case:
    """Without the loop: its lines once."""
    keys = {line.key: f'"{line.key[2:-5]}l"' for line in case.loop if line.key.startswith("(")}

    def once(line: Line) -> Line:
        args = tuple("x" if a in ("x[0]", "x_t") else a for a in line.args)
        return replace(line, args=args, key=keys.get(line.key, line.key))

    data = [row[0] for row in case.data] if case.over == "time" else case.data
    lines = (*case.before, *case.loop, *case.after)
    stds = {keys.get(k, k): v for k, v in case.stds.items()}
    return replace(case, before=(), loop=(), after=tuple(map(once, lines)), over="", data=data, stds=stds)


def _fewer_data(case: Case) -> Iterator[Case]:
    """Fewer inputs, shorter ones, rounder ones."""
    rows = list(case.data)
    if len(rows) > 1:
        yield from (replace(case, data=rows[:i] + rows[i + 1 :]) for i in range(len(rows)))
    if case.over == "time":
        if len(rows[0]) > 1 if rows else False:
            yield replace(case, data=[row[:-1] for row in rows])
        return
    if rows and len(rows[0]) > 1:
        yield from (replace(case, data=[row[:k] + row[k + 1 :] for row in rows]) for k in range(len(rows[0])))
    for i, row in enumerate(rows):
        for k, entry in enumerate(row):
            for simple in (0.0, 1.0, round(entry, 0)):
                yield replace(case, data=[*rows[:i], [*row[:k], simple, *row[k + 1 :]], *rows[i + 1 :]])


def _simpler(line: Line) -> Iterator[Line]:
    """With other numbers and, where one shared matrix will do, other pieces."""
    for j, number in enumerate(line.numbers):
        if number not in PLAIN and not number.startswith("["):
            yield from (replace(line, numbers=(*line.numbers[:j], n, *line.numbers[j + 1 :])) for n in PLAIN)
