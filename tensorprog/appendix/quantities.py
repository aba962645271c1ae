"""What the engine derives, by printed name: the values of all quantities of a kernel at random settings."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Gen, Poly, monomial
from tensorprog.appendix.plain_words import plain
from tensorprog.appendix.reading import read
from tensorprog.appendix.terms import Num, Quantity, written
from tensorprog.dsl.network import Network
from tensorprog.dsl.nonlinearities import NONLINEARITIES, Nonlinearity, declare
from tensorprog.errors import DataError, FoldError, NoRuleError, shortly
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Delta, Fn
from tensorprog.functions import from_sympy as as_members
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.evaluate import numbers
from tensorprog.printing import NameSymbol, inner
from tensorprog.recursions.folded import FoldedKernel
from tensorprog.recursions.folding import unroll
from tensorprog.recursions.sizes import DEPTHS
from tensorprog.recursions.straight import Ref, Store, Straight, leaf_name

Key = tuple[str, tuple[int, ...], tuple[str, str], int]  # letter, index, inputs, copy
LENGTHS = (3, 4)  # of the two sequences of a setting


@dataclass
class Setting:
    """Data and hyperparameters at random, and what the engine finds there.

    Attributes:
        grams: inner products of data by printed name.
        hyper: hyperparameters by name.
        values: quantities by key.
        kernel: the kernel.
        inputs: the two inputs.
    """

    grams: dict[str, float]
    hyper: dict[str, float]
    values: dict[Key, float]
    kernel: float
    inputs: tuple[np.ndarray, np.ndarray]


@dataclass
class Engine:
    """A kernel with all of its quantities.

    Attributes:
        kernel: the kernel, hyperparameters being symbols.
        sizes: L, T and T', as far as there are any.
        polys: the quantities by key.
        terms: of quantities that have an equation of their own, its terms.
        functions: bodies of expectations by printed name.
    """

    kernel: Any
    sizes: dict[str, int]
    polys: dict[Key, Poly]
    terms: dict[Key, Poly]
    value: Poly
    trace: Any
    limit: Any
    functions: dict[str, tuple[sp.Expr, tuple[sp.Symbol, ...]]] = field(default_factory=dict)

    @property
    def constants(self) -> dict[str, float]:
        """The hyperparameters that are numbers, by name."""
        given = self.kernel.net.hyperparameters.items()
        return {
            k: float(v) for k, v in given if k not in DEPTHS and not isinstance(v, bool) and _is_number(v) and v != 0
        }

    def settings(self, count: int, seed: int) -> list[Setting]:
        """Random settings."""
        rng = np.random.default_rng(seed)
        return [self._setting(rng) for _ in range(count)]

    def _setting(self, rng: np.random.Generator) -> Setting:
        symbols = sorted(self.kernel._symbols() or (), key=str)
        hyper = {s: float(rng.uniform(0.6, 1.5)) for s in symbols}
        times = [{d.time for d in data} for data in self.trace.inputs]
        x, y = (rng.standard_normal((max([t or 1 for t in ts] or [1]), 5)) for ts in times)
        sides = (x, y)
        grams = {
            f"⟨{a.label}{a.time or ''},{b.label}{b.time or ''}⟩": float(
                sides[a.owner][(a.time or 1) - 1] @ sides[b.owner][(b.time or 1) - 1] / 5
            )
            for a, b in itertools.product(itertools.chain(*self.trace.inputs), repeat=2)
        }
        if self.kernel.net.form not in ("vectors", "sequences"):  # named vectors
            grams = {str(inner(str(a), str(b))): grams[f"⟨{a.label}{a.time or ''},{b.label}{b.time or ''}⟩"]
                     for a, b in itertools.product(itertools.chain(*self.trace.inputs), repeat=2)}  # fmt: skip
        keys = list(self.polys)
        polys = [*self.polys.values(), self.value]
        given = {**hyper, **{NameSymbol(name): v for name, v in grams.items()}}
        found = [float(v) for v in numbers(polys, given)]
        values = dict(zip(keys, found, strict=False))
        named = {**self.constants, **{str(s): v for s, v in hyper.items()}}
        return Setting(grams, named, values, found[-1], sides)

    # ---- expectations ----------------------------------------------------------------------------

    def body(self, letter: str, functions: str, count: int) -> tuple[sp.Expr, tuple[sp.Symbol, ...]]:
        """The body of V[φ] or E[φ] and its variables."""
        known = self.functions.get(f"{letter}[{functions}]")
        us = sp.symbols("u1 u2", real=True)
        if known is not None and len(known[1]) == count:
            return known
        names = [n.strip() for n in functions.split(",")]
        if count == 1 and len(names) == 1 and letter == "E":
            return self._product(names[0], us[0]), us[:1]
        if letter != "V" or len(names) > 2:
            raise DataError(f"{letter}[{functions}] is no expectation that a claim can have")
        return self._product(names[0], us[0]) * self._product(names[-1], us[1]), us

    def _product(self, names: str, u: sp.Symbol) -> sp.Expr:
        return sp.Mul(*(self._function(n)(u) for n in names.split("·")))

    def _function(self, name: str) -> Any:
        stem, order = name.rstrip("'"), len(name) - len(name.rstrip("'"))
        phi = self.kernel.net.hyperparameters.get("phi")
        from_net = phi if stem in ("φ", "σ", "phi") and phi is not None else None
        found = from_net if from_net is not None else NAMED.get(stem)
        if found is None:
            raise DataError(
                f"the claim has a function {shortly(name)}; known are φ, that of the network, and {', '.join(NAMED)}"
            )
        u = sp.Symbol("u", real=True)
        body = as_members(sp.sympify(found(u)))
        for _ in range(order):
            body = sp.diff(body, u)
        return sp.Lambda(u, body)

    def expectation(self, letter: str, functions: str, law: tuple[float, ...]) -> float:
        """Its value; of V with one covariance (q, c, q')."""
        count = 1 if len(law) == 1 else 2
        body, us = self.body(letter, functions, count)
        cov = [[law[0]]] if count == 1 else [[law[0], law[1]], [law[1], law[2]]]
        return float(expectation(body, us, cov).value)


NAMED: dict[str, Any] = {**NONLINEARITIES, "delta": Delta, "δ": Delta}


@functools.cache
def wavy() -> Nonlinearity:
    """What stands for an abstract φ."""
    return declare("wavy", lambda x: sp.sin(x) + x / 2 + sp.cos(x) / 3)


def shown(key: Key) -> str:
    """A quantity as it prints."""
    return written(Quantity(key[0], tuple(Num(Fraction(i)) for i in key[1]), key[2], key[3]))


def key_of(q: Quantity) -> Key | None:
    """The key of a quantity with numbers for indices."""
    index = []
    for i in q.index:
        if not isinstance(i, Num) or i.value.denominator != 1:
            return None
        index.append(int(i.value))
    return q.head, tuple(index), q.pair, q.copy


def engine(kernel: Any, symbolic: set[str], index: set[tuple[str, int]] | None = None, indexed: bool = True) -> Engine:
    """The quantities of a kernel.

    Args:
        kernel: the kernel.
        symbolic: hyperparameters that the claim names, which become symbols.
        index: letters of the claimed quantities with the number of their indices, where those of folded equations are
            asked for; None for those that the kernel prints.
        indexed: whether there are indices that are no numbers, so that the claim is about other sizes too.
    """
    kernel = concrete(kernel, symbolic)
    if kernel.net.takes_axes:
        raise NoRuleError(f"claims about networks over positions are not read; {kernel.net.name} is one")
    if index is not None:
        return _folded(kernel, index, indexed) or _plain(kernel)
    return _plain(kernel)


def concrete(kernel: Any, symbolic: set[str]) -> Any:
    """The kernel of the network with symbols for these hyperparameters, and a function for an abstract one."""
    net = kernel.net
    given = dict(net.hyperparameters)
    for name, value in given.items():
        if name in symbolic and name not in DEPTHS and not isinstance(value, bool) and _is_number(value):
            given[name] = sp.Symbol(name, positive=True)
        if name == "phi" and _abstract(value):
            given[name] = wavy()
    return kernel if given == dict(net.hyperparameters) else kernel._of(Network(net.fn, given, net.name))


def _is_number(value: Any) -> bool:
    return isinstance(value, (int, float)) or bool(getattr(value, "is_number", False))


def _abstract(phi: Any) -> bool:
    u = sp.Symbol("u", real=True)
    body = sp.sympify(phi(u)) if callable(phi) else sp.S.Zero
    return any(f.family.definition is None and not f.family.pieces and f.family.numeric(f.order) is None
               for f in body.atoms(Fn))  # fmt: skip


def _plain(kernel: Any) -> Engine:
    """At the kernel's own size, by printed names."""
    d = kernel._derive()
    found, terms = {}, {}
    for g in reachable([d.poly]):
        if isinstance(g, Name):
            [rule] = read(plain(f"{g.symbol} = 0")) if "(" in str(g.symbol) else [None]
            key = key_of(rule.left) if rule is not None and isinstance(rule.left, Quantity) else None
            if key is not None:
                found[key], terms[key] = monomial(g), g.definition
    own = _kernel_key(kernel)
    found[own], terms[own] = d.poly, d.poly
    return Engine(kernel, _own_sizes(kernel), found, terms, d.poly, d.trace, d.limit, _functions([d.poly]))


def _own_sizes(kernel: Any) -> dict[str, int]:
    sizes = {} if kernel.lengths[0] is None else {"T": kernel.lengths[0], "T'": kernel.lengths[1]}
    depth = next((v for k, v in kernel.net.hyperparameters.items() if k in DEPTHS), None)
    return {**sizes, **({"L": depth} if type(depth) is int else {})}


def _kernel_key(kernel: Any) -> Key:
    return ("Θ" if kernel.kind == "ntk" else "K"), (), ("x", "x'"), 1


TRANSPOSED = ("Θ", "Ψ", "Φ")


def _folded(kernel: Any, index: set[tuple[str, int]], indexed: bool) -> Engine | None:
    """At sizes large enough for the indexed equations of the forms that are claimed; None where there are none."""
    forms: list[str | None] = [None]
    if kernel.kind == "ntk":
        claimed = {head for head, count in index if count}
        forms = [f for f, wanted in (("forward", claimed & {*TRANSPOSED}), ("sum", claimed - {*TRANSPOSED})) if wanted]
        forms = forms or ["sum"]
    short = kernel.net.takes_sequences and max((count for _, count in index), default=0) == 2
    found: dict[Key, Poly] = {}
    terms: dict[Key, Poly] = {}
    engine_ = None
    for form in forms:
        try:
            folded = FoldedKernel(kernel, form, "lengths" if short else None)
        except FoldError:
            return None
        own = _own_sizes(kernel)
        sizes = {"L": max(4 if not folded._over.lengths else 2, own.get("L", 1))} if folded._over.depth else {}
        if folded._over.lengths:
            sizes |= dict(zip(("T", "T'"), LENGTHS, strict=True))
        if not indexed:
            sizes = {k: own[k] for k in sizes}
        part = next(p for p in folded._parts if p.over.holds(sizes))
        try:
            straight = unroll(part.folded, sizes, folded._store)
        except FoldError:
            return None
        names, quantities, value = _as_names(straight)
        found |= quantities
        terms |= names
        net, lengths = folded._sized(tuple(sizes.items()), 2)
        kernel_ = kernel._of(net)
        trace = net.trace(lengths)
        own_key = _kernel_key(kernel)
        found[own_key] = value
        terms.setdefault(own_key, value)
        engine_ = Engine(kernel_, _all_sizes(sizes, kernel), found, terms, value, trace, None)
        engine_.functions |= _functions([value])
    return engine_


def _all_sizes(sizes: Mapping[str, int], kernel: Any) -> dict[str, int]:
    return {**_own_sizes(kernel), **sizes}


def _as_names(straight: Straight) -> tuple[dict[Key, Poly], dict[Key, Poly], Poly]:
    """Terms and names of the equations of one size."""
    names: dict[Ref, Poly] = {}
    store = Store()

    def leaf(g: Gen) -> Poly | None:
        return leaf_name(g, names)

    terms, found = {}, {}
    for r, p in straight.equations.items():
        definition = store.rebuild(p, leaf)
        key = ref_key(r)
        names[r] = monomial(Name(NameSymbol(shown(key)), definition, r.family.head))
        terms[key], found[key] = definition, names[r]
    return terms, found, store.rebuild(straight.kernel, leaf)


def ref_key(r: Ref) -> Key:
    """The key of a reference, as it prints."""
    l, t, l2, t2 = r.where
    layers = [] if l is None else [l] if l == l2 else [l, l2]
    times = [] if t is None else [t, t2]
    return r.family.head, tuple(int(i or 0) for i in (*layers, *times)), r.family.pair, r.family.copy


def _functions(polys: list[Poly]) -> dict[str, Any]:
    return {head_of(g, False): (g.body, g.variables) for g in reachable(polys) if isinstance(g, Expect)}
