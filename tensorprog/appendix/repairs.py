"""Simple changes of a claim, tried one after the other: the slips that people make."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fractions import Fraction
from typing import Any

from tensorprog.appendix.terms import Gram, Mean, Node, Num, Op, Quantity, Sym, addends, mapped, walk, written
from tensorprog.errors import DataError
from tensorprog.recursions.sizes import DEPTHS

Close = Callable[[float, float], bool]
FACTORS: dict[str, float] = {"2": 2, "1/2": 0.5, "4": 4, "1/4": 0.25, "π": 3.141592653589793, "1/π": 0.3183098861837907,
           "2π": 6.283185307179586, "1/(2π)": 0.15915494309189535, "-1": -1.0}  # fmt: skip
ONE, TWO = Num(Fraction(1)), Num(Fraction(2))


def guesses(right: Node, env: Mapping[str, int], names: Iterable[str]) -> Iterator[tuple[str, Node]]:
    """Changed right sides, in words: powers, indices, functions, pairs, factors, terms.

    Args:
        right: the claimed formula.
        env: the indices that are free in it.
        names: hyperparameters, or the arguments of a closed form.
    """
    names = list(names)
    yield from _powers(right)
    yield from _shifts(right)
    yield from _functions(right)
    yield from _pairs(right)
    yield from _swapped(right, names)
    for name, value in FACTORS.items():
        number = Num(Fraction(value).limit_denominator(10**15))
        for i, term in enumerate(terms := addends(right)):
            changed = [*terms[:i], Op("mul", (number, term)), *terms[i + 1 :]]
            yield f"a factor {name} in {written(term)}", _sum(changed)
    for name, power in itertools.product(names, (2, 1, 4)):
        word = shown_name(name) + {1: "", 2: "²", 4: "⁴"}[power]
        factor = Op("pow", (Sym(name), Num(Fraction(power))))
        yield f"a missing {word}, of a bias", Op("add", (right, factor))
        for i, term in enumerate(terms := addends(right)):
            changed = [*terms[:i], Op("mul", (factor, term)), *terms[i + 1 :]]
            yield f"a factor {word} in {written(term)}", _sum(changed)
            changed = [*terms[:i], Op("div", (term, factor)), *terms[i + 1 :]]
            yield f"no factor {word} in {written(term)}", _sum(changed)
    for i, term in enumerate(terms := addends(right)):
        if len(terms) > 1:
            yield f"no term {written(term)}", _sum([*terms[:i], *terms[i + 1 :]])


def shown_name(name: str) -> str:
    """σ_w of sigma_w."""
    return name.replace("sigma", "σ").replace("alpha", "α").replace("beta", "β")


def _sum(parts: list[Node]) -> Node:
    return parts[0] if len(parts) == 1 else Op("add", tuple(parts))


def _places(n: Node, wanted: Callable[[Node], bool]) -> list[Node]:
    return list(dict.fromkeys(m for m in walk(n) if wanted(m)))


def _replaced(n: Node, old: Node, new: Node) -> Node:
    return mapped(n, lambda m: new if m == old else None)


def _powers(right: Node) -> Iterator[tuple[str, Node]]:
    """σ² for σ, and σ for σ²."""
    squares = _places(right, lambda m: isinstance(m, Op) and m.kind == "pow" and isinstance(m.parts[0], Sym))
    inside = {m.parts[0] for m in squares}
    indices = {s for m in walk(right) for i in _indices(m) for s in walk(i)}
    for symbol in _places(right, lambda m: isinstance(m, Sym) and m not in inside and m not in indices):
        yield (
            f"{shown_name(symbol.name)}² for {shown_name(symbol.name)}",
            _replaced(right, symbol, Op("pow", (symbol, TWO))),
        )
    for square in squares:
        yield f"{shown_name(square.parts[0].name)} for {written(square)}", _replaced(right, square, square.parts[0])


def _indices(m: Node) -> tuple[Node, ...]:
    return (
        m.index
        if isinstance(m, Quantity)
        else tuple(t for t in m.times if t is not None)
        if isinstance(m, Gram)
        else ()
    )


def _shifts(right: Node) -> Iterator[tuple[str, Node]]:
    """An index shifted by one, all indices of a kind or one."""
    for q in _places(right, lambda m: isinstance(m, (Quantity, Gram)) and bool(_indices(m))):
        own = _indices(q)
        for by in (1, -1):
            for chosen in [(i,) for i in range(len(own))] + ([tuple(range(len(own)))[-2:]] if len(own) > 1 else []):
                index = tuple(_plus(i, by) if k in chosen else i for k, i in enumerate(own))
                new = (
                    Quantity(q.head, index, q.pair, q.copy) if isinstance(q, Quantity) else Gram(q.labels, index)  # type: ignore[arg-type]
                )
                yield f"{written(new)} for {written(q)}", _replaced(right, q, new)


def _plus(n: Node, by: int) -> Node:
    if isinstance(n, Num):
        return Num(n.value + by)
    if isinstance(n, Op) and n.kind == "add":
        numbers = [p for p in n.parts if _number(p) is not None]
        total = sum((_number(p) or Fraction(0) for p in numbers), Fraction(by))
        rest = [p for p in n.parts if _number(p) is None]
        return _sum([*rest, *([_signed(total)] if total else [])])
    return Op("add", (n, _signed(Fraction(by))))


def _number(p: Node) -> Fraction | None:
    if isinstance(p, Num):
        return p.value
    return -p.parts[0].value if isinstance(p, Op) and p.kind == "neg" and isinstance(p.parts[0], Num) else None


def _signed(total: Fraction) -> Node:
    return Num(total) if total > 0 else Op("neg", (Num(-total),))


DERIVED = {"relu": "step", "step": "relu"}


def _functions(right: Node) -> Iterator[tuple[str, Node]]:
    """φ' for φ, and φ for φ'."""
    for m in _places(right, lambda m: isinstance(m, Mean)):
        f = m.functions
        for new in dict.fromkeys((DERIVED.get(f, f + "'"), f[:-1] if f.endswith("'") else f + "'")):
            changed = Mean(m.letter, new, m.args)
            yield f"{new} for {f} in {written(m)}", _replaced(right, m, changed)


def _pairs(right: Node) -> Iterator[tuple[str, Node]]:
    """Other inputs: Σ(x,x') for Σ(x',x')."""
    for q in _places(right, lambda m: isinstance(m, Quantity)):
        for pair in (("x", "x'"), ("x", "x"), ("x'", "x'")):
            if pair != q.pair:
                new = Quantity(q.head, q.index, pair, q.copy)
                yield f"{written(new)} for {written(q)}", _replaced(right, q, new)


def _swapped(right: Node, names: list[str]) -> Iterator[tuple[str, Node]]:
    """One symbol for another, everywhere or in one place."""
    found = [
        m for m in _places(right, lambda m: isinstance(m, Sym)) if m.name not in ("l", "t", "τ", "L", "T", "T'", "π")
    ]
    for symbol, name in itertools.product(found, names):
        if shown_name(name) != shown_name(symbol.name):
            words = f"{shown_name(name)} for {shown_name(symbol.name)}"
            yield words, _replaced(right, symbol, Sym(name))
            for k in range(_count(right, symbol)):
                yield f"{words} in one place", _replaced_once(right, symbol, Sym(name), k)


def _count(n: Node, wanted: Node) -> int:
    return sum(m == wanted for m in walk(n))


def _replaced_once(n: Node, old: Node, new: Node, place: int) -> Node:
    seen = itertools.count()
    return mapped(n, lambda m: (new if next(seen) == place else m) if m == old else None)


# ---- by numbers alone ----------------------------------------------------------------------------


def of_numbers(
    claimed: list[float], derived: list[float], hyper: Sequence[Mapping[str, float]], close: Close
) -> list[str]:
    """Factors and summands that make claimed numbers right."""
    found = []
    candidates: dict[str, list[float]] = {k: [v] * len(claimed) for k, v in FACTORS.items()}
    for name in hyper[0]:
        word = shown_name(name)
        candidates |= {word: [h[name] for h in hyper], f"{word}²": [h[name] ** 2 for h in hyper],
                       f"1/{word}": [1 / h[name] for h in hyper],
                       f"1/{word}²": [h[name] ** -2 for h in hyper]}  # fmt: skip
    for word, values in candidates.items():
        if all(close(c * v, d) for c, v, d in zip(claimed, values, derived, strict=True)):
            found.append(f"a factor {word}")
        elif all(close(c + v, d) for c, v, d in zip(claimed, values, derived, strict=True)):
            found.append(f"a missing {word}" + (", of a bias" if word.endswith("²") else ""))
    return found


def of_function(call: Callable[..., float], settings: list[Any], derived: list[float], fixed: Mapping[str, Any],
                close: Close) -> list[str]:  # fmt: skip
    """Changes of the arguments of a claimed function that make it right."""

    def holds(changes: list[dict[str, Any]], scale: float = 1.0) -> bool:
        try:
            return all(close(call(s, c, scale), d) for s, c, d in zip(settings, changes, derived, strict=True))
        except DataError:
            return False

    found = []
    random = [n for n in fixed if n in settings[0].hyper and not _is_size(n, fixed)]
    for name in random:
        word = shown_name(name)
        if holds([{name: s.hyper[name] ** 2} for s in settings]):
            found.append(f"{word}² for {word}")
        if holds([{name: s.hyper[name] ** 0.5} for s in settings]):
            found.append(f"{word} for {word}²")
        for other in settings[0].hyper:
            if other != name and holds([{name: s.hyper[other]} for s in settings]):
                found.append(f"{shown_name(other)} for {word}")
    for name, value in fixed.items():
        if name not in random and _is_size(name, fixed):
            found += [f"an index shifted by one: {name} {by:+d}" for by in (1, -1)
                      if holds([{name: value + by}] * len(settings))]  # fmt: skip
    d = settings[0].inputs[0].shape[-1]
    for words, scale in (("1/d on inner products of the data", 1 / d), ("a factor d on inner products", float(d)),
                         ("a factor 2 on inner products", 2.0), ("a factor 1/2 on inner products", 0.5)):  # fmt: skip
        if holds([{}] * len(settings), scale):
            found.append(words)
    return found


def _is_size(name: str, fixed: Mapping[str, Any]) -> bool:
    """Whether a hyperparameter counts layers."""
    return name in DEPTHS and type(fixed[name]) is int
