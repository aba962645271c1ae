"""Equations of one size, one after the other."""

from __future__ import annotations

import re
from typing import Any

from tensorprog.algebra import Apply, Gen, Poly, Scalar
from tensorprog.dsl.trace import Datum
from tensorprog.expectations.atoms import Expect
from tensorprog.export.integrals import Integrals
from tensorprog.export.phrases import ATOM, Phrase, Speller, identifier, without_code
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.positions import At
from tensorprog.recursions.rewrite import shortened

INDEXED = re.compile(r"(?P<head>.+?)(?:\^\((?P<index>[\d,]+)\))?\((?P<pair>[^()]*)\)(?:\.(?P<copy>\d+))?")


def one_by_one(kernel: Any, speller: Speller, integrals: Integrals) -> list[str]:
    """The statements of a function of x1 and x2."""
    lines = []
    if kernel.net.form == "sequences":
        lengths = f"({kernel.lengths[0]}, {kernel.lengths[1]})"
        lines = [f"if (x1.shape[-2], x2.shape[-2]) != {lengths}:",
                 f'    raise ValueError("this code is for sequences of lengths {lengths}")']  # fmt: skip
    return [*lines, *Writer(kernel._derive(), speller, integrals).lines()]


def variable(name: str) -> str:
    """Sigma12_2 of Σ^(2)(x,x')."""
    found = INDEXED.fullmatch(name)
    if found is None:
        return identifier(name)
    pair = "".join(str(1 + "'".count("'") * label.endswith("'")) for label in found["pair"].split(","))
    parts = [f"{identifier(found['head'])}{pair}", *(found["index"] or "").split(","), found["copy"] or ""]
    return "_".join(p for p in parts if p)


class Writer:
    """Writes the equations that a derivation needs."""

    def __init__(self, derivation: Any, speller: Speller, integrals: Integrals) -> None:
        self.d, self.speller, self.integrals = derivation, speller, integrals
        self.names: dict[Gen, str] = {}

    def lines(self) -> list[str]:
        """Assignments and the return."""
        found = self.assignments([self.d.poly])
        return [*found, f"return {self.phrase(self.d.poly)[0]}{self._tensor(self.d.poly)}"]

    def assignments(self, polys: list[Poly], within: bool = False) -> list[str]:
        """The equations that values need, those of one input with itself only if ``within``."""
        gens = reachable(polys, lambda g: isinstance(g, At) and not within)
        named = [(g, g.definition) for g in gens if isinstance(g, Name)]
        found = []
        for g, p in shortened(named):
            self.names[g] = self._fresh(variable(str(g.symbol)))
            found.append(f"{self.names[g]} = {self.phrase(p)[0]}{self._tensor(p)}")
        return found

    def _fresh(self, name: str) -> str:
        while name in self.names.values():
            name += "_"
        return name

    def _tensor(self, p: Poly) -> str:
        """Makes an array of what is a number."""
        constant = all(type(g) is Scalar and g.symbol not in self.d.trace.grams for m in p.terms for g, _ in m)
        grams = self.d.trace.grams.values()
        return f" + 0 * {self.dot(*next(iter(grams)))}" if constant and grams else ""

    def phrase(self, p: Poly) -> Phrase:
        """A polynomial."""
        return self.speller.poly(p, self.leaf)

    def leaf(self, g: Gen) -> Phrase:
        """A generator."""
        if isinstance(g, Name):
            return self.names[g], ATOM
        if isinstance(g, Expect):
            return self.integrals.call(g, self.phrase, self.leaf)
        if isinstance(g, Apply):
            return self.speller.apply(g, self.leaf)
        if type(g) is Scalar:
            return self.scalar(g)
        raise without_code(g)

    def scalar(self, g: Scalar) -> Phrase:
        """A hyperparameter, an inner product of data, or a formula in them."""
        grams = self.d.trace.grams
        if g.symbol in grams:
            return self.dot(*grams[g.symbol]), ATOM
        held = {s: self.dot(*grams[s]) for s in g.symbol.free_symbols & grams.keys()}
        return Speller(self.speller.module, {**self.speller.symbols, **held}).expr(g.symbol)

    def dot(self, p: Datum, q: Datum) -> str:
        """⟨ξ,ξ'⟩."""
        return f"dot({_datum(p)}, {_datum(q)})"


def _datum(p: Datum) -> str:
    x = f"x{p.owner + 1}"
    if p.part is not None:
        return f'{x}["{p.part}"]'
    return x if p.time is None else f"{x}[..., {p.time - 1}, :]"
