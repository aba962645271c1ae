"""Claimed formulas as trees: quantities at indices, inner products of data, expectations, sums and arithmetic."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any

Node = Any  # one of the classes below


@dataclass(frozen=True)
class Num:
    """A rational number."""

    value: Fraction


@dataclass(frozen=True)
class Sym:
    """A hyperparameter, an index, a size, or an argument of a closed form."""

    name: str


@dataclass(frozen=True)
class Quantity:
    """Σ^(l,t,t')(x,x'), with the number of its copy."""

    head: str
    index: tuple[Node, ...]
    pair: tuple[str, str]
    copy: int = 1


@dataclass(frozen=True)
class Gram:
    """⟨x_t,x'_t'⟩: labels and indices, None of single vectors."""

    labels: tuple[str, str]
    times: tuple[Node | None, Node | None]


@dataclass(frozen=True)
class Mean:
    """V[φ](..) or E[φ](..): letter, functions, and covariances."""

    letter: str
    functions: str
    args: tuple[Node, ...]


@dataclass(frozen=True)
class Op:
    """``add``, ``mul``, ``div``, ``pow``, ``neg`` or a function, of parts."""

    kind: str
    parts: tuple[Node, ...]


@dataclass(frozen=True)
class Sum:
    """Σ over an index from lowest to highest."""

    index: str
    low: Node
    high: Node
    body: Node


@dataclass(frozen=True)
class Rule:
    """left = right for indices in ranges (index, lowest, highest); ``text`` as it was claimed."""

    left: Node
    right: Node
    ranges: tuple[tuple[str, Node, Node], ...] = ()
    text: str = ""


def children(n: Node) -> tuple[Node, ...]:
    """The parts of a tree."""
    if isinstance(n, Quantity):
        return n.index
    if isinstance(n, Gram):
        return tuple(t for t in n.times if t is not None)
    if isinstance(n, Mean):
        return n.args
    if isinstance(n, Op):
        return n.parts
    return (n.low, n.high, n.body) if isinstance(n, Sum) else ()


def walk(n: Node) -> Iterator[Node]:
    """All parts of a tree."""
    yield n
    for c in children(n):
        yield from walk(c)


def mapped(n: Node, change: Callable[[Node], Node | None]) -> Node:
    """A tree with parts replaced where ``change`` gives something."""
    found = change(n)
    if found is not None:
        return found
    if isinstance(n, Quantity):
        return replace(n, index=tuple(mapped(i, change) for i in n.index))
    if isinstance(n, Gram):
        a, b = (None if t is None else mapped(t, change) for t in n.times)
        return replace(n, times=(a, b))
    if isinstance(n, Mean):
        return replace(n, args=tuple(mapped(a, change) for a in n.args))
    if isinstance(n, Op):
        return replace(n, parts=tuple(mapped(p, change) for p in n.parts))
    if isinstance(n, Sum):
        return Sum(n.index, *(mapped(p, change) for p in (n.low, n.high, n.body)))
    return n


def addends(n: Node) -> list[Node]:
    """The terms of a sum."""
    if isinstance(n, Op) and n.kind == "add":
        return [t for p in n.parts for t in addends(p)]
    return [n]


def relabelled(n: Node, to: tuple[str, str], labels: tuple[str, str]) -> Node:
    """A tree about the two inputs ``labels``, taken for two others: sizes and shifts of time follow."""
    table = dict(zip(labels, to, strict=True))
    size = {labels[0]: "T", labels[1]: "T'"}

    def change(m: Node) -> Node | None:
        if isinstance(m, Quantity):
            index = tuple(mapped(i, change) for i in m.index)
            a, b = (table.get(x, x) for x in m.pair)
            return replace(m, index=index, pair=(a, b))
        if isinstance(m, Gram):
            first, second = (_other(x, table) for x in m.labels)
            t, t2 = (None if i is None else mapped(i, change) for i in m.times)
            return Gram((first, second), (t, t2))
        if isinstance(m, Sym) and m.name in ("T", "T'"):
            return Sym(size[table[labels[m.name == "T'"]]])
        if isinstance(m, Sym) and m.name == "τ":
            return Num(Fraction(0)) if to[0] == to[1] else Op("neg", (m,)) if to == labels[::-1] else None
        return None

    return mapped(n, change)


def _other(label: str, table: dict[str, str]) -> str:
    """The label of a datum of another input: u' for u."""
    owner = "x" + "'" * label.count("'")
    return label.rstrip("'") + "'" * table.get(owner, owner).count("'")


def written(n: Node, above: int = 0) -> str:
    """A tree as text."""
    if isinstance(n, Num):
        return str(n.value)
    if isinstance(n, Sym):
        return n.name
    if isinstance(n, Quantity):
        index = ",".join(written(i).replace(" ", "") for i in n.index)
        copy = f".{n.copy}" if n.copy > 1 else ""
        return f"{n.head}{f'^({index})' if index else ''}({n.pair[0]},{n.pair[1]}){copy}"
    if isinstance(n, Gram):
        a, b = (f"{x}{'' if t is None else _subscript(t)}" for x, t in zip(n.labels, n.times, strict=True))
        return f"⟨{a},{b}⟩"
    if isinstance(n, Mean):
        return f"{n.letter}[{n.functions}]({', '.join(map(written, n.args))})"
    if isinstance(n, Sum):
        return f"Σ_({n.index}={written(n.low)}..{written(n.high)}) {written(n.body, 2)}"
    return _operation(n, above)


def _subscript(t: Node) -> str:
    text = written(t).replace(" ", "")
    return text if text.isdecimal() else f"_{text}" if text.isalpha() else f"_({text})"


def _operation(n: Op, above: int) -> str:
    if n.kind == "add":
        text = " + ".join(written(p, 1) for p in n.parts).replace("+ -", "- ")
        return f"({text})" if above > 1 else text
    if n.kind == "neg":
        return f"-{written(n.parts[0], 2)}"
    if n.kind == "mul":
        text = "·".join(written(p, 2) for p in n.parts)
        return f"({text})" if above > 2 else text
    if n.kind == "div":
        text = f"{written(n.parts[0], 2)}/{written(n.parts[1], 3)}"
        return f"({text})" if above > 2 else text
    if n.kind == "pow":
        exponent = written(n.parts[1], 3)
        power = {"2": "²", "3": "³"}.get(exponent, f"^{exponent}")
        return f"{written(n.parts[0], 3)}{power}"
    return f"{n.kind}({', '.join(map(written, n.parts))})"
