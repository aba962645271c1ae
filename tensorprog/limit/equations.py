"""The ordered system of named scalar equations that a limit is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Set
from typing import Any, Protocol

import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, add_all, monomial, to_sympy
from tensorprog.expectations.atoms import Expect
from tensorprog.functions import Abs, Exp, Relu, Step
from tensorprog.ir.instructions import Var
from tensorprog.limit.positions import Along, At, Batched, Positional
from tensorprog.printing import NameSymbol

NOT_NEGATIVE = (Relu, Step, Abs, Exp)


class Name(Gen):
    """A named scalar, its definition, its kind (a key of ``HEADS``) and the two variables it is about."""

    __slots__ = ("about", "definition", "kind")

    def __init__(
        self, symbol: NameSymbol, definition: Poly, kind: str, about: tuple[Var | None, Var | None] = (None, None)
    ) -> None:
        super().__init__(symbol)
        self.definition, self.kind, self.about = definition, kind, about

    def made_of(self) -> tuple[Any, ...]:
        return self._symbol, self.definition, self.kind, self.about


class Namer(Protocol):
    """Chooses printed names; returns (text, latex), or None for a numbered one."""

    def __call__(self, kind: str, a: Var | None, b: Var | None) -> tuple[str, str] | None: ...


HEADS = {
    "cov": ("Σ", r"\Sigma"),
    "moment": ("E", r"\mathsf{E}"),
    "sums": ("E", r"\mathsf{E}"),  # E z z' of sums
    "cross": ("C", "C"),  # E z r' of a sum z and another vector
    "stream": ("D", "D"),  # E dz dz' of gradients of sums
    "mixed": ("B", "B"),  # E (Wᵀdh) dz'
    "theta": ("Θ", r"\Theta"),
    "value": ("m", "m"),
    "zdot": ("a", "a"),
}


def plain_names(kind: str, a: Var | None, b: Var | None) -> tuple[str, str] | None:
    """Names for a program written by hand: Σ(x,y), E(x,y), and scalars by their own names."""
    if a is None or (b is None and kind != "value"):
        return None
    if kind == "value":
        return a.name, rf"\mathring{{{sp.latex(sp.Symbol(a.name))}}}"
    head, tex = HEADS[kind]
    return f"{head}({a},{b})", rf"{tex}({sp.latex(sp.Symbol(a.name))},{sp.latex(sp.Symbol(str(b)))})"


class Equations:
    """Names with their definitions, in dependency order; equal definitions share one name."""

    def __init__(self, namer: Namer = plain_names) -> None:
        self.namer = namer
        self.names: list[Name] = []
        self._by_definition: dict[Poly, Poly] = {}
        self._named: dict[tuple[Poly, Any], Poly] = {}
        self._taken: dict[str, int] = {}
        self._elsewhere: dict[str, str] = {}

    def meanings(self) -> dict[str, str]:
        """Every name with its definition, as text."""
        return self._elsewhere | {str(n.symbol): repr(n.definition) for n in self.names}

    def avoid(self, meanings: dict[str, str]) -> None:
        """Give no name that means something else elsewhere."""
        self._elsewhere = dict(meanings)

    def define(self, p: Poly, kind: str, a: Var | None = None, b: Var | None = None) -> Poly:
        """A name for p; p itself when it is a number, one name or one symbol (for moments, one atom)."""
        if self._bare(p, kind, a, b):
            return p
        identity = getattr(self.namer, "identity", None)  # by default equal definitions share a name
        key = (p, None if identity is None else identity(kind, a, b))
        if key not in self._named:
            text, latex = self.namer(kind, a, b) or _numbered(kind, len(self.names))
            name = Name(self._symbol(text, latex, p), p, kind, (a, b))
            self.names.append(name)
            self._named[key] = monomial(name)
            self._by_definition.setdefault(p, self._named[key])
        return self._named[key]

    def _bare(self, p: Poly, kind: str, a: Var | None, b: Var | None) -> bool:
        bare = getattr(self.namer, "bare", None)  # a namer may have its own idea of what needs no name
        return simple(p, atoms=kind != "cov") if bare is None else bool(bare(p, kind, a, b))

    def lookup(self, p: Poly) -> Poly | None:
        """The name whose definition is p, if there is one."""
        return self._by_definition.get(p)

    def shortened(self, p: Poly, known: Poly) -> Poly:
        """p with a known quantity in the place of its definition, where it takes no more terms."""
        name = next((g for mono in known.terms for g, _ in mono), None)
        if not isinstance(name, Name) or known != monomial(name):
            return p
        other = known + p + name.definition.scale(-1)
        return other if len(other.terms) <= len(p.terms) else p

    def _symbol(self, text: str, latex: str, p: Poly) -> NameSymbol:
        while True:
            count = self._taken[text] = self._taken.get(text, 0) + 1
            name = text if count == 1 else f"{text}.{count}"
            if name not in self._elsewhere or self._elsewhere[name] == repr(p):
                return NameSymbol(name, latex if count == 1 else rf"{latex}_{{[{count}]}}")


def simple(p: Poly, atoms: bool) -> bool:
    """A number, one name, one symbol; for moments also one atom, the sum of one of these over positions, or a product
    of hyperparameters."""
    if len(p.terms) > 1:
        return False
    for mono, c in p.terms.items():
        gens = [g for g, _ in mono]
        single = c == 1 and len(mono) == 1 and mono[0][1] == 1
        if not (
            not mono
            or (single and isinstance(gens[0], (Name, Scalar)))
            or (atoms and single and isinstance(gens[0], (Expect, Batched)))
            or (atoms and summed(p))
            or (atoms and all(isinstance(g, Scalar) for g in gens))
        ):
            return False
    return True


def summed(p: Poly) -> bool:
    """Whether p is the sum over positions, of two inputs or of one, of something simple that is no sum itself."""
    gens = [g for mono in p.terms for g, _ in mono]
    g = gens[0] if len(gens) == 1 and p == monomial(gens[0]) else None
    if isinstance(g, At):
        return summed(g.inner)
    return isinstance(g, Along) and simple(g.inner, atoms=True) and not summed(g.inner)


def _numbered(kind: str, k: int) -> tuple[str, str]:
    head, tex = HEADS[kind]
    return f"{head}_{k}", f"{tex}_{{{k}}}"


def positive(p: Poly, known: dict[Gen, int | None]) -> bool:
    """Whether a polynomial in scalars is positive for all values of hyperparameters and data.

    Args:
        p: the polynomial.
        known: for generators judged before, 1 where they are positive, 0 where not negative, None where unknown.
    """
    return _sign(p, known) == 1


def _sign(p: Poly, known: dict[Gen, int | None]) -> int | None:
    signs = []
    for mono, c in p.terms.items():
        each = [_sign_of(g, known) if e % 2 else max(_sign_of(g, known) or 0, 0) for g, e in mono]
        signs.append(None if None in each or not c > 0 else min(each, default=1))  # type: ignore[type-var]
    return None if None in signs else max(signs, default=0)  # type: ignore[type-var]


def _sign_of(g: Gen, known: dict[Gen, int | None]) -> int | None:
    if g not in known:
        if isinstance(g, Name):
            known[g] = _sign(g.definition, known)
        elif isinstance(g, Expect):
            factors = [f.as_base_exp() for f in sp.Mul.make_args(g.body)]
            known[g] = 0 if all(e.is_even or type(b) in NOT_NEGATIVE for b, e in factors) else None
        elif isinstance(g, Scalar):
            symbol: Any = g.symbol
            norm = isinstance(symbol, NameSymbol) and symbol.is_norm
            known[g] = 1 if symbol.is_positive else 0 if norm or symbol.is_nonnegative else None
        else:
            known[g] = None
    return known[g]


def unfold(p: Poly, kinds: Set[str], most: int = 100_000) -> Poly:
    """p with the names of these kinds replaced by their definitions, as long as it has at most ``most`` terms."""
    while True:
        opened = add_all(_open(mono, c, kinds) for mono, c in p.terms.items())
        if opened == p or len(opened.terms) > most:
            return p
        p = opened


def _open(mono: Any, c: Any, kinds: Set[str]) -> Poly:
    result = Poly({(): c})
    for g, e in mono:
        result = result * (g.definition if isinstance(g, Name) and g.kind in kinds else monomial(g)) ** e
    return result


def children(g: Gen) -> Iterable[Poly]:
    """The polynomials that a generator's value depends on."""
    if isinstance(g, Name):
        return (g.definition,)
    if isinstance(g, Positional):
        return g.reads
    if isinstance(g, Expect):
        return (*g.cov, *g.mean, *(monomial(s) for s in g.scalars.values()))
    return g.args if isinstance(g, Apply) else ()


def reachable(polys: Iterable[Poly], stop: Callable[[Gen], bool] = lambda g: False) -> list[Gen]:
    """All generators that the polynomials depend on, in dependency order."""
    seen: set[Gen] = set()
    todo = [g for p in polys for m in p.terms for g, _ in m]
    while todo:
        g = todo.pop()
        if g not in seen:
            seen.add(g)
            if not stop(g):
                todo.extend(h for p in children(g) for m in p.terms for h, _ in m)
    return sorted(seen, key=lambda g: g.index)  # a generator is made after everything it depends on


def as_equations(polys: Iterable[Poly]) -> list[sp.Eq]:
    """The definitions needed for ``polys`` as sympy equations, in dependency order."""
    return [sp.Eq(g.symbol, to_sympy(g.definition), evaluate=False) for g in reachable(polys) if isinstance(g, Name)]
