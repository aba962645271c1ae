"""Kernels of a network: derived once per pair of sequence lengths, printed, and computed on data."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly, Scalar, to_sympy
from tensorprog.dsl.network import Datum, Network, Trace
from tensorprog.errors import AssumptionError, DataError, ProgramError
from tensorprog.kernels.data import Inputs, read_inputs, symbol_values
from tensorprog.limit.equations import as_equations, reachable
from tensorprog.limit.evaluate import numbers
from tensorprog.limit.master import Limit
from tensorprog.printing import NameSymbol, latex, text

Length = int | None
BLOCK_BYTES = 2**27


@dataclass(frozen=True)
class Derivation:
    """A kernel between inputs of given lengths: the value ``poly`` in the equations of ``limit``."""

    trace: Trace
    limit: Limit
    poly: Poly


Derive = Callable[[Network, Sequence[Length]], Derivation]


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
    ) -> None:
        self.net, self.kind, self.method, self.assume_gia = net, kind, method, assume_gia
        self._derive, self._derive_under_gia = derive, derive_under_gia
        self.lengths = self._lengths(lengths)
        self._derived: dict[Any, Derivation] = {}
        self.compiled: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: what was derived and compiled is left behind."""
        return {**self.__dict__, "_derived": {}, "compiled": {}}

    def _lengths(self, lengths: Sequence[Length] | None) -> tuple[Length, Length]:
        if not self.net.takes_sequences:
            if lengths is not None and any(t is not None for t in lengths):
                raise ProgramError(f"{self.net.name} takes single vectors; leave out lengths={tuple(lengths)}")
            return (None, None)
        if lengths is None:
            return (3, 3)
        if len(lengths) != 2 or not all(isinstance(t, int) and t >= 1 for t in lengths):
            raise ProgramError(f"lengths must be two positive integers (T, T'), got {lengths!r}")
        return (lengths[0], lengths[1])

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
        return Kernel(self.net, self.kind, self.method, self._derive_under_gia, lengths, assume_gia=True)

    @property
    def symbol(self) -> NameSymbol:
        """The printed name of the kernel's value."""
        a, b = (data[0].label for data in self.derive().trace.inputs)
        head, tex = ("K", "K") if self.kind == "nngp" else ("Θ", r"\Theta")
        return NameSymbol(f"{head}({a},{b})", f"{tex}({a},{b})")

    @property
    def equations(self) -> list[sp.Eq]:
        """The named equations in dependency order; the last one is the kernel."""
        d = self.derive()
        return [*as_equations([d.poly]), sp.Eq(self.symbol, to_sympy(d.poly), evaluate=False)]

    def text(self) -> str:
        """The equations as text, one a line, with the meaning of V and ⟨·,·⟩."""
        return "\n".join([*self._header(), "", *(f"  {e.lhs} = {text(e.rhs)}" for e in self.equations)])

    def latex(self) -> str:
        r"""The equations as a LaTeX ``align*`` environment."""
        lines = [rf"{latex(e.lhs)} &= {latex(e.rhs)}" for e in self.equations]
        return "\\begin{align*}\n" + " \\\\\n".join(lines) + "\n\\end{align*}"

    def _repr_latex_(self) -> str:
        return self.latex()

    def __repr__(self) -> str:
        return f"<{self.kind.upper()} of {self.net!r} by {self.method}>"

    def _header(self) -> list[str]:
        lengths = "" if self.lengths[0] is None else f", T = {self.lengths[0]}, T' = {self.lengths[1]}"
        lines = [
            f"{self.kind.upper()} of {self.net!r}{lengths}, by {self.method}",
            "V[φ](q,c,q') = E φ(u)φ(u'), (u,u') ~ N(0, [[q,c],[c,q']]); E[φ](q) = E φ(u), u ~ N(0, q); ⟨x,x'⟩ = x·x'/d",
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
            values: numbers for hyperparameters that are symbols, by symbol.

        Returns:
            Array (N1, N2), float64.

        Raises:
            DataError: NaN or infinite data, empty sequences, different feature dimensions, a symbol
                without a value.
        """
        first = read_inputs(X1, "X1", self.net.takes_sequences)
        second = first if X2 is None else read_inputs(X2, "X2", self.net.takes_sequences)
        if first.dimension != second.dimension:
            raise DataError(f"X1 has feature dimension {first.dimension} and X2 {second.dimension}; they must agree")
        K = np.empty((len(first), len(second)))
        hyper = symbol_values(values)
        for t1, rows in first.groups.items():
            for t2, columns in second.groups.items():
                if X2 is None and (t1 or 0) > (t2 or 0):
                    continue
                block = self._block(first, t1, rows, second, t2, columns, hyper)
                K[np.ix_(rows, columns)] = block
                if X2 is None:
                    K[np.ix_(columns, rows)] = block.T
        if X2 is None:
            self._symmetrise(K, first, hyper)
        return K

    def _block(self, a: Inputs, t1: Length, rows: Any, b: Inputs, t2: Length, columns: Any, hyper: Any) -> np.ndarray:
        d = self.derive((t1, t2))
        needed = _grams(d)
        width = max(1, int(BLOCK_BYTES / (8 * len(columns) * (1 + len(reachable([d.poly]))))))
        parts = []
        for start in range(0, len(rows), width):
            chunk = rows[start : start + width]
            side = (a.data[t1][start : start + width], b.data[t2])
            grams = {s: _gram(side, x, y) for s, (x, y) in needed.items()}
            value = numbers([d.poly], {**hyper, **grams})[0]
            parts.append(np.broadcast_to(value, (len(chunk), len(columns))))
        return np.concatenate(parts)

    def gram(self, X1: Any, X2: Any = None, **options: Any) -> Any:
        """The Gram matrix by the compiled kernel: see ``tp.gram`` for the options.

        >>> import tensorprog as tp
        >>> K = tp.ntk(tp.programs.mlp(depth=2))
        >>> K.gram([[1.0, 0.0]], [[0.6, 0.8]], dtype="float32").round(3)
        array([[0.772]], dtype=float32)
        """
        from tensorprog.kernels.compute import gram  # reads this module

        return gram(self, X1, X2, **options)

    def source(self, values: Mapping[Any, Any] | None = None) -> str:
        """The compiled kernel as text: the operations per input and those per pair, for the printed lengths.

        >>> import tensorprog as tp
        >>> print(tp.nngp(tp.programs.deep_linear(depth=1)).source().splitlines()[-1])
        return v7
        """
        from tensorprog.compile.text import source
        from tensorprog.kernels.matrices import Evaluator  # reads this module

        return source(Evaluator([self], self.lengths, symbol_values(values)).program)

    def on_pairs(self, a: np.ndarray, b: np.ndarray, lengths: tuple[Length, Length], hyper: Any) -> np.ndarray:
        """K(a[p], b[p]) of pairs of inputs.

        Args:
            a, b: (P, T, d) and (P, T', d); T = 1 for vectors.
            lengths: (T, T'), or (None, None).
            hyper: numbers for hyperparameters, by symbol.
        """
        d = self.derive(lengths)
        grams = {s: _pair_gram(a, b, x, y) for s, (x, y) in _grams(d).items()}
        return np.broadcast_to(numbers([d.poly], {**hyper, **grams})[0], len(a))

    def _symmetrise(self, K: np.ndarray, inputs: Inputs, hyper: Any) -> None:
        """Mirror the lower triangle and set the diagonal, exactly, from each input with itself."""
        K[:] = np.tril(K) + np.tril(K, -1).T
        for t, rows in inputs.groups.items():
            d = self.derive((t, t), same=True)
            x = inputs.data[t]
            grams = {s: _own(x, p, q) for s, (p, q) in _grams(d).items()}
            K[rows, rows] = numbers([d.poly], {**hyper, **grams})[0]


def _grams(d: Derivation) -> dict[sp.Symbol, tuple[Datum, Datum]]:
    scalars = {g.symbol for g in reachable([d.poly]) if isinstance(g, Scalar)}
    return {s: pair for s, pair in d.trace.grams.items() if s in scalars}


def _gram(side: tuple[np.ndarray, np.ndarray], p: Datum, q: Datum) -> np.ndarray:
    """ξ·ξ'/d of all pairs: a column for the first input with itself, a row for the second, else a matrix."""
    if p.owner == q.owner:
        own = _own(side[p.owner], p, q)
        return own[:, None] if p.owner == 0 else own[None, :]
    a, b = side[p.owner][:, _at(p)], side[q.owner][:, _at(q)]
    with np.errstate(over="ignore"):
        cross = a @ b.T / a.shape[-1]
        own = np.einsum("nd,nd->n", a, a) / a.shape[-1]
    for i, j in np.argwhere(np.abs(cross - own[:, None]) <= 1e-10 * own[:, None]):
        if np.array_equal(a[i], b[j]):  # equal vectors: to the last digit, since angles near 0 amplify rounding
            cross[i, j] = own[i]
    return cross  # type: ignore[no-any-return]


def _pair_gram(a: np.ndarray, b: np.ndarray, p: Datum, q: Datum) -> np.ndarray:
    """ξ·ξ'/d of pairs; that of one input with itself for equal vectors, to the last digit."""
    x, y = ((a, b)[d.owner][:, _at(d)] for d in (p, q))
    with np.errstate(over="ignore"):
        return np.einsum("nd,nd->n", x, y) / x.shape[-1]  # type: ignore[no-any-return]


def _own(x: np.ndarray, p: Datum, q: Datum) -> np.ndarray:
    with np.errstate(over="ignore"):
        return np.einsum("nd,nd->n", x[:, _at(p)], x[:, _at(q)]) / x.shape[-1]  # type: ignore[no-any-return]


def _at(d: Datum) -> int:
    return 0 if d.time is None else d.time - 1
