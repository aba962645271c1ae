"""What tracing an architecture gives: data, outputs, and one program with its parameters named."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, NoReturn

import networkx as nx
import sympy as sp

from tensorprog.dsl.decimals import exact
from tensorprog.dsl.parameters import Parameter
from tensorprog.dsl.parts import Parts
from tensorprog.dsl.program import Program
from tensorprog.dsl.refusals import NotAnArray
from tensorprog.errors import ProgramError, shortly
from tensorprog.ir.axes import Axes, Reading
from tensorprog.ir.instructions import Var
from tensorprog.ir.random_scores import are_random
from tensorprog.printing import NameSymbol, Shown, counted, inner


class NeedsSequence(ProgramError):
    """The network iterates over its input, so its inputs are sequences."""


class NeedsAxes(ProgramError):
    """The network reads positions of its input, so its inputs are images, signals or graphs.

    Args:
        words: what to say.
        parts: the names of the arrays that have positions, where an input has several.
    """

    def __init__(self, words: str, parts: frozenset[str | None] = frozenset()) -> None:
        super().__init__(words)
        self.parts = parts


class NeedsNames(ProgramError):
    """The network reads its input by name, so its inputs are dictionaries of arrays."""


class SequenceLengthError(ProgramError):
    """The network is not made for sequences of this length."""


@dataclass(frozen=True)
class Datum(NotAnArray):
    """One input vector ξ ∈ R^d: the ``time``-th of input number ``owner`` (None when not a sequence).

    ``axes`` are those of an input with positions; ``by`` is what a position of its patches reads, and ``mixes`` are
    sums over positions that its embedding is taken through.  ``part`` is its name where an input has several arrays.
    """

    _WHAT = "an input of the network"

    owner: int
    label: str
    time: int | None = None
    axes: Axes | None = None
    by: Reading | None = None
    mixes: tuple[Reading, ...] = ()
    part: str | None = None

    def __str__(self) -> str:
        name = self.label if self.time is None else f"{self.label}{self.time}"
        if self.part is not None:
            name = self.part + self.label[1:] if self.label.startswith("x") else f"{self.part}_{self.label}"
        return "·".join([name, *(str(r.map) for r in (self.by, *self.mixes) if r is not None)])

    def _instead(self, name: str) -> str:
        return 'net.embed("U", x) first; a sum of embeddings by one matrix embeds the sum'

    def _no_operator(self, *other: Any) -> NoReturn:
        self._refuse(f"arithmetic with {self}")

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = _no_operator
    __pow__ = __rpow__ = __neg__ = __pos__ = __abs__ = __matmul__ = __rmatmul__ = _no_operator

    def __iter__(self) -> Iterator[Datum]:
        raise NeedsSequence(f"the network iterates over its input {self.label}: give sequences, of shape (T, d)")

    def __len__(self) -> int:
        return len(list(iter(self)))

    def __getitem__(self, index: Any) -> Datum:
        if isinstance(index, str):
            raise NeedsNames(f"the network reads {self}[{shortly(index)}]: give dictionaries of named arrays")
        return list(iter(self))[index]  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Readout:
    """One term std·v·x/√n of an output; ``trained`` is False for the constant vector of an average.

    ``of_input``: the average of an embedding that nothing else reads, (1/√n) Σ_α u_α·ξ/√d, which is a readout of the
    input: Σ_α u_α/√n is N(0, 1) and trains as a vector of its own does.
    """

    name: str
    v: Var
    x: Var
    std: sp.Expr
    trained: bool = True
    by: Reading | None = None  # over positions, (1/√|w|) Σ_k v_k·x[m_k]/√n
    of_input: bool = False


@dataclass(frozen=True, repr=False)
class Output(NotAnArray):
    """The scalar output f(ξ): a sum of readouts and of trained output biases; f + g, f − g, c f and f/c are outputs."""

    _WHAT = "an output of the network"

    readouts: tuple[Readout, ...] = ()
    biases: tuple[tuple[str, sp.Expr], ...] = ()
    factors: frozenset[sp.Symbol] = frozenset()  # symbols it was multiplied by, which a std of 0 forgets

    def __add__(self, other: Any) -> Output:
        if other == 0:
            return self
        if not isinstance(other, Output):
            raise ProgramError(f"outputs can be added to outputs only, got {shortly(other)}")
        return Output(self.readouts + other.readouts, self.biases + other.biases, self.factors | other.factors)

    __radd__ = __add__

    def __neg__(self) -> Output:
        return self * -1

    def __sub__(self, other: Any) -> Output:
        return self + (-other if isinstance(other, Output) else other)

    def __rsub__(self, other: Any) -> Output:
        return -self + other

    def __mul__(self, factor: Any) -> Output:
        if isinstance(factor, NotAnArray):
            self._refuse(f"{self}·({factor})")
        c = exact(factor, f"the factor of the output {self}")
        readouts = tuple(replace(r, std=c * r.std) for r in self.readouts)
        biases = tuple((name, c * std) for name, std in self.biases)
        return Output(readouts, biases, self.factors.union(c.free_symbols))

    __rmul__ = __mul__

    def __truediv__(self, divisor: Any) -> Output:
        if isinstance(divisor, NotAnArray):
            self._refuse(f"{self}/({divisor})")
        c = exact(divisor, f"the divisor of the output {self}")
        if c == 0:
            raise ProgramError(f"the output {self} cannot be divided by 0")
        return self * (1 / c)

    def __repr__(self) -> str:
        terms = [f"{r.name}·{r.x.name}/√n" for r in self.readouts] + [name for name, _ in self.biases]
        return " + ".join(terms) or "0"

    def _instead(self, name: str) -> str:
        return 'net.readout("V", h) last; outputs are returned, added, subtracted, and multiplied by numbers'

    def _no_operator(self, *other: Any) -> NoReturn:
        self._refuse(f"arithmetic with {self}")

    __rtruediv__ = __pow__ = __rpow__ = __pos__ = __abs__ = __matmul__ = __rmatmul__ = _no_operator


@dataclass(repr=False)
class Trace(Shown):
    """A network traced on some inputs: one program, with the parameters and outputs named.

    Attributes:
        program: the forward program of all inputs.
        heads: the outputs of each input, one or several.
        outputs: of each input the one that kernels are about, the first unless chosen otherwise.
        inputs: the data vectors of each input, in time order.
        parameters: by name.
        embeddings: which datum and parameter each embedded vector came from.
        grams: normalised inner products ⟨ξ,ξ'⟩ = ξ·ξ'/d by symbol, those that were asked for.
        states: untrained initial vectors.
        ends: of each input, the length of the program when its network had been traced.
        parts: what inputs of named arrays consist of.
        ones: the constant vector 1 over axes, where one was needed.
        placed: whether inputs have positions.
        batched: the axes whose positions are members of a batch, each with outputs of its own.
        vectors: data by the symbols that stand for them, where weights are not Gaussian.
        narrow: layers whose rank is a share of the width below 1, with that share.
        bias_stds: the scale of every output bias, which outputs made of outputs multiply.
        called: what layers named, by name: its letters and its indices.
        met: how often each input met layers without a name.
    """

    program: Program = field(default_factory=Program)
    heads: list[tuple[Output, ...]] = field(default_factory=list)
    outputs: list[Output] = field(default_factory=list)
    inputs: list[tuple[Datum, ...]] = field(default_factory=list)
    parameters: dict[str, Parameter] = field(default_factory=dict)
    embeddings: dict[Var, tuple[str, Datum]] = field(default_factory=dict)
    grams: dict[sp.Symbol, tuple[Datum, Datum]] = field(default_factory=dict)
    states: dict[Var, str] = field(default_factory=dict)
    ends: list[int] = field(default_factory=list)
    parts: Parts = field(default_factory=Parts)
    ones: dict[Axes, Var] = field(default_factory=dict)
    placed: bool = False
    batched: set[Axes] = field(default_factory=set)
    bias_stds: dict[str, sp.Expr] = field(default_factory=dict)
    narrow: dict[str, float] = field(default_factory=dict)
    vectors: dict[sp.Symbol, Datum] = field(default_factory=dict)
    called: dict[str, tuple[str, tuple[int, ...]]] = field(default_factory=dict)
    met: dict[tuple[str, str], int] = field(default_factory=dict)
    _symbols: dict[tuple[Datum, Datum], sp.Symbol] = field(default_factory=dict, repr=False, compare=False)

    def text(self) -> str:
        """What was traced, its parameters, and the program."""
        heads = counted(len(self.heads[0]) if self.heads else 0, "output")
        rows = [f"  {name}: {kind}" for name, kind in self.trainable.items()]
        head = f"a network on {counted(len(self.inputs), 'input')}, {heads}, {counted(len(rows), 'parameter')}"
        return "\n".join([head, *rows, self.program.text()])

    def parts_behind(self, var: Var) -> frozenset[str | None]:
        """The names of the arrays that a vector depends on."""
        self.program.op(var)  # refuses what is not defined here
        behind = nx.ancestors(self.program.graph, var) | {var}
        return frozenset(datum.part for v, (_, datum) in self.embeddings.items() if v in behind)

    def gram(self, a: Datum, b: Datum) -> sp.Symbol:
        """The symbol of a·b/d."""
        if not (isinstance(a, Datum) and isinstance(b, Datum)):
            raise ProgramError(
                f"inner products are of two inputs, as trace.inputs lists them, got {shortly(a)} and {shortly(b)}"
            )
        if (a.owner, a.time or 0) > (b.owner, b.time or 0):
            a, b = b, a
        if (a, b) not in self._symbols:
            symbol = self._symbols[a, b] = inner(str(a), str(b))
            self.grams[symbol] = (a, b)
        return self._symbols[a, b]

    def vector(self, datum: Datum) -> sp.Symbol:
        """The symbol that stands for a datum itself, where more than its inner products matters."""
        symbol = NameSymbol(f"ξ({datum})", rf"\xi({datum})")
        self.vectors[symbol] = datum
        return symbol

    def covariance(self, a: Var, b: Var) -> sp.Expr:
        """σ_u² ⟨ξ,ξ'⟩ of two data embedded by one matrix."""
        if not all(isinstance(v, Var) and v in self.embeddings for v in (a, b)):
            raise ProgramError(
                "a covariance is of two embedded vectors, as trace.embeddings lists them, got "
                f"{shortly(a)}, {shortly(b)}"
            )
        (name, x), (_, y) = self.embeddings[a], self.embeddings[b]
        std = self.parameters[name].std
        return self.gram(x, y) if std == 1 else std**2 * self.gram(x, y)

    @property
    def symbols(self) -> set[sp.Symbol]:
        """The hyperparameters that are symbols; inner products of data are not among them."""
        stds = [p.std for p in self.parameters.values()]
        stds += [std for heads in self.heads for f in heads for _, std in f.biases]
        stds += [r.std for heads in self.heads for f in heads for r in f.readouts]
        factors = (f.factors for heads in self.heads for f in heads)
        return self.program.symbols.union(*(std.free_symbols for std in stds), *factors)

    @property
    def trainable(self) -> dict[str, str]:
        """The kind of every trainable parameter by name; output biases are among them."""
        biases = (name for heads in self.heads for f in heads for name, _ in f.biases)
        return {name: p.kind for name, p in self.parameters.items()} | dict.fromkeys(biases, "output bias")

    @property
    def has_laws(self) -> bool:
        """Whether weights have other laws than the Gaussian."""
        return any(p.law is not None for p in self.parameters.values())

    @property
    def random(self) -> frozenset[str]:
        """The parameters that start at random."""
        started = {name for name, p in self.parameters.items() if p.start is not None}
        return frozenset(self.trainable.keys() - started)

    @property
    def is_mixture(self) -> bool:
        """Whether outputs are Gaussian given random scores only: attention over √n with finitely many heads."""
        return are_random(self.program, {r.x for heads in self.heads for f in heads for r in f.readouts})

    @property
    def passes_gia_check(self) -> bool:
        """The simple GIA check: every readout vector is random and centred, or 0, and read by the readout only."""
        read = {v for _, op in self.program for v in op.operands}
        readouts = [r for heads in self.heads for f in heads for r in f.readouts]
        return all((r.trained and r.v not in read) or (r.of_input and r.x not in read) for r in readouts)
