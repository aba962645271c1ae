"""Random networks and programs from a seed."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from tests.random_cases.case import Case, Line
from tests.random_cases.pieces import HIGHEST, POOLS, TABLE, WILD, Piece

INPUTS = 4  # at most
MATMULS = "Mat.__matmul__", "Mat.apply", "net.dense", "net.dense(std)", "net.dense(initial)"
TRIES = 40  # at a line
Degrees = dict[str, float]


class _Writer:
    """Lines written one after another, with what is known of their variables."""

    def __init__(self, rng: np.random.Generator, place: str) -> None:
        self.rng, self.place = rng, place
        self.lines: list[Line] = []
        self.kind: dict[str, str] = {}
        self.degree: Degrees = {}
        self.stds: dict[str, str] = {}
        self.fed: dict[str, float] = {}  # of matrices: the highest degree of what they multiplied
        self.owner: dict[str, str] = {}  # key of a matrix variable
        self.count: dict[str, int] = {}
        self.loop = ""
        self.tip = ""  # the vector that the next line is to read
        self.loose = ""  # a variable that no line reads yet
        self.products = 0
        self.seen: dict[str, frozenset[str]] = {}  # the Gaussians that a vector is a function of
        self.curved: set[str] = set()  # vectors that are not affine in Gaussians
        self.dear = int(rng.choice([0, 1, 2, 3], p=[0.3, 0.5, 0.15, 0.05]))  # functions of several Gaussians to come

    # ---- choosing ----------------------------------------------------------------------------------

    def pick(self, items: Any, weights: Any) -> Any:
        weights = np.array(weights, float)
        return items[int(self.rng.choice(len(items), p=weights / weights.sum()))]

    def number(self, pool: str) -> str:
        texts, weights = zip(*POOLS[pool], strict=True)
        return str(self.pick(texts, weights))

    def rows(self, results: str, data: bool = False) -> list[Piece]:
        """The rows whose result is one of these kinds and for which there are variables."""
        have = set(self.kind.values()) | ({"x"} if data else set())
        return [
            p for p in TABLE if self.place in p.place.split() and p.result in results.split() and set(p.args) <= have
        ]

    def variable(self, kind: str, curved: bool = True) -> str:
        """One of the kind, the later the likelier; without ``curved``, mostly an affine function of Gaussians."""
        names = [n for n, k in self.kind.items() if k == kind]
        affine = [n for n in names if n not in self.curved]
        if not curved and affine and self.rng.random() < 0.7:
            names = affine
        return str(self.pick(names, 2.0 ** np.minimum(np.arange(len(names)), 8)))

    def key(self, piece: Piece) -> str:
        """The key of a parameter: a new one, or one that is in use, so that parameters are shared."""
        stem = piece.keyed
        known = [k for k in self.stds if k.startswith((f'"{stem}', f'("{stem}'))]
        single = "{std}" not in piece.text
        if stem in "UEWMbcV" and self.place == "net" and known and self.rng.random() < 0.35:
            return str(self.rng.choice(known))
        n = self.count[stem] = self.count.get(stem, 0) + 1
        name = f"{stem}_{n}" if n > 1 else stem
        if stem == "g":
            return f'"{name}a {name}b"'
        key = f'("{name}", l)' if self.loop and self.rng.random() < 0.6 else f'"{name}"'
        self.stds[key] = "1" if single else self.number("std")
        return key

    # ---- writing -----------------------------------------------------------------------------------

    def write(self, piece: Piece, target: str | None = None, args: Any = None, data: str = "") -> Line | None:
        """Add a line; None where its result would grow too fast."""
        mixed = piece.expression is None or piece.linear
        given = tuple(args or (data if k == "x" else self.variable(k, mixed) for k in piece.args))
        degrees = [self.degree[a] for a in given if self.kind.get(a) == "v"]
        degree = piece.degree(*degrees) if degrees else 1.0
        if degree > HIGHEST and degree != WILD:
            return None
        if not self._afford(piece, given):
            return None
        numbers = tuple(self.number(pool) for pool in piece.numbers)
        key = self.key(piece) if piece.keyed else ""
        if piece.covers[0] in MATMULS:
            degree = self._multiplied(key or self.owner[given[0]], degrees[-1])
        targets = (target,) if target else tuple(self.fresh(k) for k in piece.result)
        line = Line(targets, piece, given, numbers, key)
        self.lines.append(line)
        self._note(piece, given, targets)
        for t, k in zip(targets, piece.result, strict=True):
            self.kind.pop(t, None)
            self.kind[t], self.degree[t] = k, degree
            if k == "m":
                self.owner[t] = key or t
        return line

    def _afford(self, piece: Piece, given: tuple[str, ...]) -> bool:
        """Functions of several Gaussians cost integrals of twice as many variables: a case has few of them."""
        several = len(self._gaussians(given)) > 1 and piece.result in ("v", "s") and piece.expression is not None
        dear = int(several and not piece.linear) + int(piece.hard)
        if dear > self.dear or len(self._gaussians(given)) > 2 + (self.dear > 1):
            return dear == 0 and not several
        self.dear -= dear
        return True

    def _gaussians(self, given: tuple[str, ...]) -> frozenset[str]:
        return frozenset().union(*(self.seen.get(a, frozenset()) for a in given))

    def _note(self, piece: Piece, given: tuple[str, ...], targets: tuple[str, ...]) -> None:
        fresh = piece.expression is None and "net.bias" not in piece.text
        affine = fresh or (piece.linear and not any(a in self.curved for a in given))
        for t in targets:
            self.curved.discard(t)
            if not affine:
                self.curved.add(t)
            one = affine and (fresh or len(self._gaussians(given)) > 1)
            self.seen[t] = frozenset([t + str(len(self.lines))]) if one else self._gaussians(given)

    def _multiplied(self, owner: str, degree: float) -> float:
        """A MatMul is Gaussian, plus multiples of what its transpose has multiplied."""
        self.products += 1
        self.fed[owner] = max(1.0, degree, self.fed.get(owner, 1.0))
        return self.fed[owner]

    def fresh(self, kind: str) -> str:
        n = self.count[kind + "#"] = self.count.get(kind + "#", 0) + 1
        return f"{ {'v': 'h', 's': 'k', 'm': 'A', 'f': 'f'}[kind] }{n}"

    def some(self, count: int, results: str = "v s m", data: str = "", products: int = 3) -> None:
        """So many random lines."""
        for _ in range(count):
            rows = self.rows(results, bool(data))
            if self.products >= products:
                rows = [p for p in rows if "Mat." not in "".join(p.covers) and "net.dense" not in "".join(p.covers)]
            if self.loop:  # an initial variable within a loop would be a new one of the same name
                rows = [p for p in rows if p.keyed not in ("m", "n")]
            self.line(rows, data)

    def line(self, rows: list[Piece], data: str) -> None:
        """One line, which reads the tip or what is loose, so that most of what is written matters in the end."""
        for attempt in range(TRIES):
            if attempt == TRIES // 2:
                self.loose = ""
            kind, gate = self.kind.get(self.loose, ""), self.rng.random() < 0.4
            fit = [p for p in rows if p.args.count(kind) > (kind == "v")] if kind else rows
            if kind == "v" and gate:  # a function of what is loose comes first
                fit = [p for p in rows if (p.args, p.result) == ("v", "v") and not p.linear and p.expression]
            piece = self.pick(fit or rows, [p.weight for p in fit or rows])
            given = (self.loose,) if kind == "v" and piece.args == "v" else self.operands(piece, data)
            written = self.write(piece, None, given)
            if written is not None:
                self.after(written, given)
                return

    def after(self, line: Line, given: tuple[str, ...]) -> None:
        """What the next line is to read."""
        piece, target, loose = line.piece, line.targets[-1], self.loose
        self.loose = "" if loose in given else loose
        if piece.result[0] == "v" and "v" in piece.args and given != (loose,):
            self.tip = target
        else:
            self.loose = target
        if "m" in piece.args and not self.loose and self.rng.random() < 0.5:
            self.loose = given[0]  # the same matrix once more

    def operands(self, piece: Piece, data: str) -> tuple[str, ...]:
        """Variables for a piece: the tip and what is loose before others."""
        mixed = piece.expression is None or piece.linear
        given = [data if k == "x" else self.variable(k, mixed) for k in piece.args]
        places = [i for i, k in enumerate(piece.args) if k == "v"]
        self.rng.shuffle(places)
        kind = self.kind.get(self.loose, "")
        if kind and kind in piece.args:
            given[places.pop() if kind == "v" else piece.args.index(kind)] = self.loose
        likely = 0.8 if mixed or self.tip not in self.curved else 0.4
        if places and self.rng.random() < likely:
            given[places.pop()] = self.tip
        return tuple(given)

    def block(self, start: int) -> tuple[Line, ...]:
        return tuple(self.lines[start:])


def network(seed: int) -> Case:
    """The network of a seed."""
    rng = np.random.default_rng([1, seed])
    w = _Writer(rng, "net")
    over = str(rng.choice(["", "depth", "time"], p=[0.7, 0.15, 0.15]))
    named = {p.covers[0]: p for p in TABLE if "net" in p.place and p.covers}
    datum = "x" if over != "time" else "x[0]"
    first = "net.embed(std)" if over != "time" or rng.random() < 0.3 else "net.state(std)"
    made = w.write(named[first], "h" if over else None, data=datum)
    assert made is not None
    w.tip = made.targets[0]
    w.some(int(rng.integers(0, 3 if over else 4)), data=datum)
    before, loop, start = w.block(0), (), len(w.lines)
    if over:
        before, loop = _looped(w, over, start)
        start = len(w.lines)
    w.some(int(rng.integers(1, 3 if over else 5)), "v s" if over else "v s m")
    after = w.block(start)
    rows = w.rows("f")
    piece = w.pick(rows, [p.weight for p in rows])
    other = w.loose if w.kind.get(w.loose) == "v" else w.variable("v")
    output = w.write(piece, None, (w.tip, other)[: len(piece.args)])
    assert output is not None
    return pruned(Case("net", before, loop, after, over, output, w.stds, _inputs(rng, over), seed))


def pruned(case: Case) -> Case:
    """Without the lines that the output does not read."""
    needed = {*(case.output.args if case.output else ()), *(("h",) if case.loop else ())}
    parts = {}
    for name in ("after", "loop", "before"):
        kept = []
        for line in reversed(getattr(case, name)):
            if needed & set(line.targets):
                needed |= set(line.args)
                kept.append(line)
        parts[name] = tuple(reversed(kept))
    return replace(case, **parts)


def _looped(w: _Writer, over: str, start: int) -> tuple[tuple[Line, ...], tuple[Line, ...]]:
    """The lines before the loop, and those in it, of which the last carries h."""
    before = tuple(w.lines)
    outside = dict(w.kind)
    w.loop, w.products = over, 0
    data = "x_t" if over == "time" else "x"
    w.tip = "h"
    w.some(int(w.rng.integers(0, 3)), "v s", data, products=1)
    dense = next(p for p in TABLE if p.covers[:1] == ("net.dense(std)",))
    made = w.write(dense, None, (w.tip,))
    if over == "time":
        embed = next(p for p in TABLE if p.covers[:1] == ("net.embed(std)",))
        drive = w.write(embed, None, data=data)
        total = next(p for p in TABLE if p.text == "{0} + {1}" and p.args == "vv")
        assert made and drive
        made = w.write(total, None, (made.targets[0], drive.targets[0]))
    assert made is not None
    phi = w.pick(["tp.relu({0})", "tp.erf({0})", "tp.tanh({0})", "tp.sin({0})", "tp.abs({0})"], [4, 3, 2, 1, 1])
    w.write(next(p for p in TABLE if p.text == phi and p.args == "v"), "h", made.targets)
    loop = w.block(start)
    w.loop, w.products = "", 2
    w.kind = {**outside, "h": "v"}
    w.tip, w.loose = "h", ""
    return before, loop


def _inputs(rng: np.random.Generator, over: str) -> Any:
    """A few inputs: some equal, parallel, opposite or zero, some in one dimension."""
    n, d = int(rng.choice([2, 3, INPUTS], p=[0.7, 0.2, 0.1])), int(rng.choice([1, 2, 3], p=[0.15, 0.45, 0.4]))
    shape = (n, d) if over != "time" else (n, int(rng.integers(1, 4)), d)
    X = rng.normal(size=shape).round(2)
    what = str(rng.choice(["plain", "equal", "parallel", "opposite", "zero"], p=[0.4, 0.15, 0.15, 0.15, 0.15]))
    X[-1] = {"plain": X[-1], "equal": X[0], "parallel": 2 * X[0], "opposite": -X[0], "zero": 0 * X[0]}[what]
    return X.tolist()


def program(seed: int) -> Case:
    """The program of a seed."""
    rng = np.random.default_rng([2, seed])
    w = _Writer(rng, "program")
    initial = [p for p in TABLE if p.place == "program"]
    for kind in ("v", "m", "s"):
        rows = [p for p in initial if p.result[0] == kind]
        if kind != "s" or rng.random() < 0.4:
            w.write(rows[int(rng.integers(len(rows)))])
    for piece in initial:
        if rng.random() < 0.12:
            w.write(piece)
    w.tip = next(t for t in reversed(w.kind) if w.kind[t] == "v")
    w.some(int(rng.integers(3, 8)))
    return Case("program", tuple(w.lines), stds=w.stds, seed=seed)
