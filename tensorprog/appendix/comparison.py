"""``tp.compare``: the equations of two networks side by side, and what one has that the other has not."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.algebra import Poly, to_sympy
from tensorprog.derivation.data import read_pair
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.exact import products
from tensorprog.dsl.network import Network
from tensorprog.errors import DataError, NoRuleError, ProgramError, shortly
from tensorprog.kernels.methods import ntk
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.evaluate import numbers
from tensorprog.printing import Shown, text, to_html
from tensorprog.report.markup import box, table
from tensorprog.types import Data


@dataclass(frozen=True, repr=False)
class NewTerm(Shown):
    """A term of an equation of one network that the other has not.

    Attributes:
        of: 0 or 1, the network that has it.
        quantity: the equation that it stands in.
        term: the term.
        value: its value on the data; NaN without data.
    """

    of: int
    quantity: str
    term: str
    value: float

    def text(self) -> str:
        """Which network has it, where, and its value."""
        value = "" if np.isnan(self.value) else f"   = {self.value:.6g}"
        return f"only in {'ab'[self.of]}: {self.term}{value}"


@dataclass(frozen=True, repr=False)
class Comparison(Shown):
    """The equations of two kernels side by side.

    Attributes:
        names: the two networks.
        rows: of every quantity its name, both right sides ("" where there is none), and whether they are equal.
        new: terms that one has and the other has not.
        values: both kernels on the data; None without data.
    """

    names: tuple[str, str]
    rows: tuple[tuple[str, str, str, bool], ...]
    new: tuple[NewTerm, ...]
    values: tuple[float, float] | None = None

    @property
    def equal(self) -> bool:
        """Whether all equations of both are equal."""
        return all(same for *_, same in self.rows)

    def text(self) -> str:
        """What is equal, what differs, and the new terms with their values."""
        lines = [f"a: {self.names[0]}", f"b: {self.names[1]}", ""]
        alike = [name for name, _, _, same in self.rows if same]
        lines += [f"equal: {', '.join(alike)}"] if alike else []
        for name, left, right, same in self.rows:
            if not same:
                lines += ["", name, f"  a: {left or 'none'}", f"  b: {right or 'none'}"]
                lines += [f"  {n.text()}" for n in self.new if n.quantity == name]
        if self.values is not None:
            lines += ["", f"on the data: a {self.values[0]:.10g}, b {self.values[1]:.10g}"]
        return "\n".join(lines)


@to_html.register
def _(c: Comparison) -> str:
    rows = [(name, left, right, "equal" if same else "differs") for name, left, right, same in c.rows]
    new = [(f"only in {'ab'[n.of]}", n.quantity, n.term, f"{n.value:.6g}") for n in c.new]
    parts = [table(("", "a", "b", ""), rows), table(("", "equation", "term", "value"), new)]
    return box(f"a: {c.names[0]}, b: {c.names[1]}", *parts)


def compare(a: Network | DerivedKernel, b: Network | DerivedKernel, data: Data | None = None, *,
            lengths: Sequence[int] | None = None) -> Comparison:  # fmt: skip
    """Compare the equations of two networks: tied and untied weights, with and without skips, W and Wᵀ.

    Quantities of one printed name are compared as formulas in those before them; a term is new where the other
    equation has it not.

    Args:
        a, b: networks, for their NTKs, or kernels of one kind.
        data: two inputs x and x', to give every new term its value on; hyperparameters have to be numbers then.
        lengths: (T, T') of sequences, those of ``data`` or (3, 3) when None.

    Returns:
        The comparison.

    Raises:
        ProgramError: no networks or kernels.
        DataError: data of more or fewer than two inputs.

    >>> import tensorprog as tp
    >>> tied, untied = tp.programs.rnn(), tp.programs.rnn(tied=False)
    >>> compare(tied, untied).equal, compare(tied, untied, lengths=(2, 3)).equal
    (True, False)
    """
    pair = None if data is None else _two(data)
    if lengths is None and pair is not None and np.ndim(pair[0]) == 2 and _sequences(a):
        lengths = (len(pair[0]), len(pair[1]))
    first, second = _kernel(a, lengths), _kernel(b, lengths)
    derived = [k._derive() for k in (first, second)]
    values = [None if pair is None else _Values(k, d, pair) for k, d in zip((first, second), derived, strict=True)]
    named = [_equations(k, d) for k, d in zip((first, second), derived, strict=True)]
    order = list(dict.fromkeys([*named[0], *named[1]]))
    last = [k for k in order if k in ("Θ(x,x')", "K(x,x')")]
    rows: list[tuple[str, str, str, bool]] = []
    new: list[NewTerm] = []
    for name in [*(n for n in order if n not in last), *last]:
        sides = [side.get(name) for side in named]
        same = None not in sides and _terms(sides[0]).keys() == _terms(sides[1]).keys()
        left, right = ("" if p is None else _name(text(to_sympy(p))) for p in sides)
        rows.append((name, left, right, same))
        if not same:
            new += _new(name, sides, values)
    kernels = None if pair is None else (values[0].of(derived[0].poly), values[1].of(derived[1].poly))  # type: ignore[union-attr]
    return Comparison((repr(first.net), repr(second.net)), tuple(rows), tuple(new), kernels)


def _kernel(what: Any, lengths: Sequence[int] | None) -> DerivedKernel:
    if isinstance(what, Network):
        return ntk(what, lengths=lengths if what.takes_sequences else None)
    if isinstance(what, DerivedKernel):
        return what
    raise ProgramError(f"tp.compare takes two networks or kernels, got {shortly(what)}")


def _sequences(what: Any) -> bool:
    net = what if isinstance(what, Network) else getattr(what, "net", None)
    return isinstance(net, Network) and net.form == "sequences"


def _two(data: Any) -> tuple[np.ndarray, np.ndarray]:
    try:
        pair = [np.asarray(x, float) for x in data]
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"data are two inputs, x and x', as arrays: {error}") from error
    if len(pair) != 2:
        raise DataError(f"data are two inputs, x and x'; got {len(pair)}")
    return pair[0], pair[1]


INDEX = re.compile(r"\^\((\d+(?:,\d+){2,3})\)")


def _name(words: str) -> str:
    """A printed formula without layers that are but times, as where every time step has weights of its own.

    >>> _name("Σ^(2,2,2)(x,x) + E^(2,3,2,3)(x,x')")
    "Σ^(2,2)(x,x) + E^(2,3)(x,x')"
    """

    def short(m: re.Match[str]) -> str:
        index = m[1].split(",")
        layers, times = index[:-2], index[-2:]
        return (
            f"^({','.join(times)})"
            if layers in (times, times[:1]) and (len(layers) == 2 or times[0] == times[1])
            else m[0]
        )

    return INDEX.sub(short, words)


def _equations(kernel: Any, derived: Any) -> dict[str, Poly]:
    found = {_name(str(g.symbol)): g.definition for g in reachable([derived.poly]) if isinstance(g, Name)}
    return {**found, str(kernel.symbol): derived.poly}


def _terms(p: Poly | None) -> dict[str, Poly]:
    """The terms of an equation, as they print."""
    return {} if p is None else {_name(text(to_sympy(t := Poly({m: c})))): t for m, c in p.terms.items()}


def _new(name: str, sides: list[Poly | None], values: list[Any]) -> list[NewTerm]:
    terms = [_terms(p) for p in sides]
    return [NewTerm(k, name, words, float("nan") if values[k] is None else values[k].of(t))
            for k in (0, 1) for words, t in terms[k].items() if words not in terms[1 - k]]  # fmt: skip


class _Values:
    """Numbers of quantities of a kernel on two inputs."""

    def __init__(self, kernel: Any, derived: Any, pair: tuple[np.ndarray, np.ndarray]) -> None:
        if kernel.net.takes_axes:
            raise NoRuleError("values of terms over positions are not computed; leave out the data")
        one, other = read_pair([pair[0]], [pair[1]], kernel.net.form)
        sides = tuple(next(iter(x.data.values())) for x in (one, other) if x is not None)
        grams, _ = products(derived, sides)
        self.given = {**kernel._hyper(None), **{s: np.ravel(v)[0] for s, v in grams.items()}}

    def of(self, p: Poly) -> float:
        return float(np.ravel(numbers([p], self.given)[0])[0])
