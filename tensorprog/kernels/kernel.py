"""Kernels of a network: derived once per pair of sequence lengths, printed, and computed on data."""

from __future__ import annotations

import functools
from collections.abc import Callable, Container, Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar, to_sympy
from tensorprog.compile.lower import lower
from tensorprog.compile.tape import Tape
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.errors import AssumptionError, ProgramError
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.hyper import symbol_values
from tensorprog.kernels.accounts import SAMPLING, KernelAccount, warn
from tensorprog.kernels.data import Inputs, read_pair
from tensorprog.kernels.exact import at, exact_account, grams_of, values
from tensorprog.kernels.legend import legend
from tensorprog.kernels.recursions.rewrite import shortened
from tensorprog.kernels.route import How, is_sampled
from tensorprog.kernels.sampled.estimate import sampled_gram
from tensorprog.kernels.typeset import (
    ATOM,
    GRAM,
    LINEAR,
    QUANTITY,
    SCALAR,
    TEX,
    TEXT,
    Line,
    Style,
    as_latex,
    as_text,
    for_notebooks,
    terms,
)
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.evaluate import Atom
from tensorprog.limit.master import Limit
from tensorprog.printing import NameSymbol

if TYPE_CHECKING:
    from tensorprog.kernels.recursions.recursion import Recursion

Length = int | None


@dataclass(frozen=True)
class Derivation:
    """A kernel between inputs of given lengths: the value ``poly`` in the equations of ``limit``."""

    trace: Trace
    limit: Limit
    poly: Poly


Derive = Callable[[Network, Sequence[Length]], Derivation]


class Trains(Protocol):
    """What is trained: the factors of the parameters of a trace, None where all are 1, and words for it."""

    @property
    def words(self) -> str: ...

    def of(self, trace: Trace) -> dict[str, sp.Expr] | None: ...


class Kernel:
    """A limiting kernel K(x, x') of a network, as formulas and as numbers.

    ``K.equations`` lists the named equations; ``K(X1, X2)`` is the Gram matrix.
    """

    def __init__(
        self,
        net: Network,
        kind: str,
        method: str,
        derive: Derive,
        lengths: Sequence[Length] | None = None,
        derive_under_gia: Derive | None = None,
        assume_gia: bool = False,
        derive_straight: Derive | None = None,
        how: How | None = None,
        trained: Trains | None = None,
    ) -> None:
        self.net, self.kind, self.method, self.assume_gia = net, kind, method, assume_gia
        self.how, self.trained = how or How("exact"), trained
        self.chosen: dict[Any, bool] = {}
        self._derive, self._derive_under_gia = derive, derive_under_gia
        self.derive_straight = derive_straight or derive  # what recursions are folded from: every layer named
        self.lengths = self._lengths(lengths)
        self._derived: dict[Any, Derivation] = {}
        self.compiled: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: what was derived and compiled is left behind."""
        return {**self.__dict__, "_derived": {}, "compiled": {}, "chosen": {}}

    def _lengths(self, lengths: Sequence[Length] | None) -> tuple[Length, Length]:
        if not self.net.takes_sequences:
            if lengths is not None and not (isinstance(lengths, Sequence) and all(t is None for t in lengths)):
                raise ProgramError(f"{self.net.name} takes single vectors; leave out lengths={lengths!r}")
            return (None, None)
        if lengths is None:
            return (self.net.fitting_length(),) * 2
        if (
            not isinstance(lengths, Sequence)
            or len(lengths) != 2
            or not all(isinstance(t, int) and t >= 1 for t in lengths)
        ):
            raise ProgramError(f"lengths must be two positive integers (T, T'), got {lengths!r}")
        return (lengths[0], lengths[1])

    def of(self, net: Network) -> Kernel:
        """The same kernel of another network, such as this one with more layers."""
        made = copy(self)
        made.net, made._derived, made.compiled, made.chosen = net, {}, {}, {}
        return made

    def derive_at(self, net: Network, lengths: Sequence[Length]) -> Derivation:
        """The same derivation for another network, such as this one with more layers."""
        return self._derive(net, lengths)

    # ---- formulas --------------------------------------------------------------------------------

    def derive(self, lengths: tuple[Length, Length] | None = None, same: bool = False) -> Derivation:
        """The derivation for two inputs of these lengths; for one input with itself when ``same``."""
        lengths = lengths or self.lengths
        key = (lengths, same)
        if key not in self._derived:
            self._derived[key] = self._derive(self.net, lengths[:1] if same else lengths)
        return self._derived[key]

    @property
    def passes_gia_check(self) -> bool:
        """Whether the simple GIA check holds (TP2b; the readout vector is random, centred, used once)."""
        return self.derive().trace.passes_gia_check

    @property
    def under_gia(self) -> Kernel:
        """The kernel that assuming gradient independence would give; wrong when the check fails."""
        if self._derive_under_gia is None:
            raise AssumptionError("under_gia is defined for tp.ntk(net, method='backprop')")
        lengths = self.lengths if self.net.takes_sequences else None
        derive = self._derive_under_gia
        return Kernel(self.net, self.kind, self.method, derive, lengths, assume_gia=True, trained=self.trained)

    @property
    def symbol(self) -> NameSymbol:
        """The printed name of the kernel's value."""
        a, b = (data[0].label for data in self.derive().trace.inputs)
        head, tex = ("K", "K") if self.kind == "nngp" else ("Θ", r"\Theta")
        return NameSymbol(f"{head}({a},{b})", f"{tex}({a},{b})")

    @property
    def equations(self) -> list[sp.Eq]:
        """The named equations in dependency order; the last one is the kernel."""
        found = [sp.Eq(g.symbol, to_sympy(p), evaluate=False) for g, p in self._named()]
        return [*found, sp.Eq(self.symbol, to_sympy(self.derive().poly), evaluate=False)]

    def text(self) -> str:
        """The equations as text, with the meaning of V, E and ⟨·,·⟩."""
        return "\n".join([*self._header(), "", as_text(self._lines(TEXT))])

    def latex(self, closed: bool = False) -> str:
        r"""The equations as a LaTeX ``align*`` environment (amsmath).

        Args:
            closed: add the closed form of every V and E that has one.
        """
        return as_latex(self._lines(TEX), self._legend(TEX, closed))

    def _lines(self, style: Style) -> list[Line]:
        d = self.derive()
        show = functools.partial(_show, grams=d.trace.grams, style=style)
        last = Line(style.expr(self.symbol), terms(d.poly, style, show))
        return [*(Line(style.expr(g.symbol), terms(p, style, show)) for g, p in self._named()), last]

    def _named(self) -> list[tuple[Gen, Poly]]:
        """The quantities that the kernel needs, in dependency order, with their definitions."""
        return list(shortened((g, g.definition) for g in reachable([self.derive().poly]) if isinstance(g, Name)))

    def _legend(self, style: Style, closed: bool = False) -> list[str]:
        d = self.derive()
        return legend([g for g in reachable([d.poly]) if isinstance(g, Expect)], style, closed, grams=bool(grams_of(d)))

    def recursion(self, form: str | None = None, over: str | Sequence[str] | None = None) -> Recursion:
        """The kernel for every depth and all lengths: its equations folded into indexed ones.

        The equations are derived at small sizes, folded, and the fold is checked at larger sizes by deriving
        again and comparing equation by equation.

        Args:
            form: of an NTK: ``"sum"``, Θ = Σ_l Π^l Σ^l, or ``"forward"``, Θ^{l+1} = Θ^l Σ̇^{l+1} + Σ^{l+1}.
            over: the sizes: the name of the hyperparameter that counts layers, ``"lengths"``, or both; all that
                the network has when None.

        Raises:
            FoldError: the network has no such size, or its equations do not repeat; shows the first that differ.

        >>> import tensorprog as tp
        >>> R = tp.ntk(tp.programs.mlp(phi=tp.relu)).recursion(form="forward")
        >>> X = [[1.0, 0.0], [0.6, 0.8]]
        >>> R(X, depth=200).round(3)
        array([[100.5  ,  26.805],
               [ 26.805, 100.5  ]])
        """
        from tensorprog.kernels.recursions.recursion import Recursion  # reads this module

        return Recursion(self, form, over)

    def _repr_latex_(self) -> str:
        return for_notebooks(self.latex())

    def __repr__(self) -> str:
        return f"<{self.kind.upper()} of {self.net!r} by {self.method}{self._training}>"

    @property
    def _training(self) -> str:
        return "" if self.trained is None else self.trained.words

    def _header(self) -> list[str]:
        lengths = "" if self.lengths[0] is None else f", T = {self.lengths[0]}, T' = {self.lengths[1]}"
        lines = [
            f"{self.kind.upper()} of {self.net!r}{lengths}, by {self.method}{self._training}",
            *self._legend(TEXT),
        ]
        if self.kind == "ntk":
            passes = self.passes_gia_check
            if self.assume_gia and not passes:
                note = "gradient independence was assumed, which is wrong here"
            elif self.method in ("backprop", "sgd") and not self.assume_gia:
                note = "every ZDot was computed, none assumed away"
            else:
                note = "gradient independence holds"
            lines.append(f"simple GIA check: {'passes' if passes else 'FAILS'}; {note}")
        return lines

    # ---- numbers ---------------------------------------------------------------------------------

    def __call__(self, X1: Any, X2: Any = None, values: Mapping[Any, Any] | None = None) -> np.ndarray:
        """The Gram matrix K(X1[i], X2[j]).

        Args:
            X1: inputs: (N, d) vectors, (N, T, d) sequences, or a list of (T_i, d) sequences.
            X2: like X1; None for X1 with itself, which gives a symmetric matrix whose diagonal compares
                each input with itself (an RNN's initial state is then the same vector on both sides).
            values: numbers for hyperparameters that are symbols, by symbol or by name.

        Returns:
            Array (N1, N2), float64.

        Raises:
            DataError: NaN or infinite data, empty sequences, different feature dimensions, a symbol
                without a value.

        Warns:
            AccuracyWarning: the relative error of an entry is above 1e-9.
        """
        found = self.found(*read_pair(X1, X2, self.net.takes_sequences), self._hyper(values))
        warn(found, repr(self), self.advice(found))
        return found.value

    def account(self, X1: Any, X2: Any = None, values: Mapping[Any, Any] | None = None) -> KernelAccount:
        """K(X1, X2) with an error for each entry and the methods behind it; arguments as for a call.

        >>> import tensorprog as tp
        >>> K = tp.nngp(tp.programs.mlp(depth=1), method="sampling", samples=2**13)
        >>> found = K.account([[1.0, 0.0]])
        >>> bool(abs(found.value - 0.5) < 6 * found.error), found.statistical
        (True, True)
        """
        return self.found(*read_pair(X1, X2, self.net.takes_sequences), self._hyper(values), accounted=True)

    def _hyper(self, values: Mapping[Any, Any] | None) -> dict[sp.Symbol, float]:
        return symbol_values(values, self._symbols)

    def _symbols(self) -> set[sp.Symbol] | None:
        """The symbols of the network, and those of the rates of its parameters."""
        rates = self.trained.of(self.derive().trace) if self.trained is not None else None
        found = self.net.symbols
        return None if found is None else found.union(*(r.free_symbols for r in (rates or {}).values()))

    def advice(self, found: KernelAccount) -> str:
        """How to get more digits."""
        if found.samples:
            call = f"tp.{self.kind}(net, rtol={found.relative.max() / 10:.0e})"
            return f"for more digits use {call} or samples= above {found.samples}"
        if found.statistical and self.how.route != "sampling":
            return f"for more digits use tp.{self.kind}(net, method='sampling', rtol=..)"
        return "these are all the digits there are"

    def found(self, first: Inputs, other: Inputs | None, hyper: Mapping[sp.Symbol, float],
              accounted: bool = False) -> KernelAccount:  # fmt: skip
        """The account of K(X1, X2); of small errors only if ``accounted``, else 0."""
        if is_sampled(self, first, other, hyper):
            drawn = sampled_gram(
                self.net,
                self.kind,
                first,
                other,
                hyper,
                self.how.sampling,
                self.trained.of if self.trained is not None else None,
            )
            return KernelAccount(drawn.value, drawn.stderr, True, (SAMPLING,), drawn.samples)
        return exact_account(self, first, other, hyper, accounted)

    def gram(self, X1: Any, X2: Any = None, **options: Any) -> Any:
        """The Gram matrix by the compiled kernel: see ``tp.gram`` for the options.

        >>> import tensorprog as tp
        >>> K = tp.ntk(tp.programs.mlp(depth=2))
        >>> K.gram([[1.0, 0.0]], [[0.6, 0.8]], dtype="float32").round(3)
        array([[0.772]], dtype=float32)
        """
        from tensorprog.kernels.gram.compute import gram  # reads this module

        return gram(self, X1, X2, **options)

    def source(self, values: Mapping[Any, Any] | None = None, lengths: Sequence[int] | None = None) -> str:
        """The compiled kernel as text: the operations per input and those per pair.

        Args:
            values: numbers for hyperparameters that are symbols, by symbol or by name.
            lengths: (T, T') of sequences, those of the kernel when None; long ones run a loop over time.

        >>> import tensorprog as tp
        >>> print(tp.nngp(tp.programs.deep_linear(depth=1)).source().splitlines()[-1])
        return v7
        """
        from tensorprog.kernels.gram.compute import source  # reads this module

        return source(self, lengths, values)

    def lower(self, tape: Tape, lengths: tuple[Length, Length], hyper: Mapping[sp.Symbol, float],
              same: bool = False) -> int:  # fmt: skip
        """The kernel between inputs of these lengths, or of one with itself, as an operation of a tape."""
        d = self.derive(lengths, same)
        grams = {s: ((p.owner, at(p)), (q.owner, at(q))) for s, (p, q) in d.trace.grams.items()}
        return lower(tape, [d.poly], grams, hyper)[0]

    def on_pairs(self, a: np.ndarray, b: np.ndarray, lengths: tuple[Length, Length], hyper: Any,
                 atom: Atom | None = None) -> np.ndarray:  # fmt: skip
        """K(a[p], b[p]) of pairs of inputs.

        Args:
            a, b: (P, T, d) and (P, T', d); T = 1 for vectors.
            lengths: (T, T'), or (None, None).
            hyper: numbers for hyperparameters, by symbol.
            atom: see ``limit.evaluate.numbers``.
        """
        return np.broadcast_to(values(self.derive(lengths), (a, b), hyper, atom), len(a))


def _show(g: Gen, grams: Container[sp.Symbol], style: Style) -> tuple[int, str]:
    if isinstance(g, Scalar):
        return (GRAM, style.expr(g.symbol)) if g.symbol in grams else (SCALAR, "")
    kind = ATOM if isinstance(g, Expect) else LINEAR if isinstance(g, Name) and g.kind == "theta" else QUANTITY
    return kind, style.expr(g.symbol)
