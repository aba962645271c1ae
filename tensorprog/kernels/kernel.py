"""Kernels of a network: derived once per pair of sequence lengths, printed, and computed on data."""

from __future__ import annotations

import functools
from collections.abc import Container, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Gen, Poly, Scalar, to_sympy
from tensorprog.derivation.data import read_pair
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.exact import grams_of
from tensorprog.derivation.indices import Indices
from tensorprog.derivation.kernel_account import KernelAccount, warn
from tensorprog.derivation.sampled.scores import is_random
from tensorprog.dsl.parts import Parts
from tensorprog.errors import AssumptionError, DataError, FoldError, shortly
from tensorprog.expectations.atoms import Expect
from tensorprog.export.standalone import standalone
from tensorprog.formulas.arguments import once, short
from tensorprog.formulas.legend import legend, said
from tensorprog.formulas.typeset import (
    ATOM,
    GRAM,
    LINEAR,
    QUANTITY,
    SCALAR,
    TEX,
    TEXT,
    Line,
    Said,
    Show,
    Style,
    as_latex,
    as_text,
    for_notebooks,
    terms,
)
from tensorprog.given import flag
from tensorprog.grams.compute import gram, known_options, source
from tensorprog.ir.hyper import symbol_values
from tensorprog.kernels.derivative import gradient
from tensorprog.kernels.recursion import Recursion
from tensorprog.limit.equations import Name, reachable
from tensorprog.printing import NameSymbol
from tensorprog.progress import Progress, telling
from tensorprog.recursions.rewrite import shortened
from tensorprog.types import Data, HyperValues

MIXTURE = {  # what is said of attention over √n with finitely many heads
    "nngp": "outputs are a mixture of Gaussians, one for each value of the random scores: this is their covariance",
    "ntk": "an average over random scores, which move by O(1) in training: no constant kernel describes it",
}


class Kernel(DerivedKernel):
    """A limiting kernel K(x, x') of a network, as formulas and as numbers.

    ``K.equations`` lists the named equations; ``K(X1, X2)`` is the Gram matrix.
    """

    # ---- formulas --------------------------------------------------------------------------------

    @property
    def under_gia(self) -> Kernel:
        """The kernel that assuming gradient independence would give; wrong when the check fails."""
        if self._derive_under_gia is None:
            raise AssumptionError("under_gia is defined for tp.ntk(net, method='backprop')")
        lengths = self.lengths if self.net.takes_sequences else None
        derive = self._derive_under_gia
        return Kernel(self.net, self.kind, self.method, derive, lengths, assume_gia=True, trained=self._trained)

    @property
    def symbol(self) -> sp.Symbol:
        """The printed name of the kernel's value."""
        a, b = (data[0].label for data in self._derive().trace.inputs)
        head, tex = ("K", "K") if self.kind == "nngp" else ("Θ", r"\Theta")
        return NameSymbol(f"{head}({a},{b})", f"{tex}({a},{b})")

    @property
    def equations(self) -> list[sp.Eq]:
        """The named equations in dependency order; the last one is the kernel."""
        indices, other = self._indices(TEXT), self._indices(TEX)
        if indices is not None and other is not None:
            found = [indices.equation(self.symbol if g is None else g.symbol, g, p, other) for g, p in self._all()]
            return [e for e in found if e.lhs != e.rhs]  # of x and x', taken for one input
        return [sp.Eq(self.symbol if g is None else g.symbol, to_sympy(p), evaluate=False) for g, p in self._all()]

    def text(self) -> str:
        """The equations as text, with the meaning of V, E, ⟨·,·⟩ and of positions."""
        return "\n".join([*self._header(), "", as_text(self._lines(TEXT))])

    def latex(self, closed: bool = False) -> str:
        r"""The equations as a LaTeX ``align*`` environment (amsmath), and a paragraph that says what is in them.

        Equations for (x,x), (x,x') and (x',x') that differ in their arguments only are written once.

        Args:
            closed: add the closed form of every V and E that has one.
        """
        return as_latex(*self._typeset(flag(closed, "closed")))

    def _typeset(self, closed: bool = False) -> tuple[list[Line], Said]:
        """What ``latex`` prints: equations, and what is said about them."""
        d = self._derive()
        show = functools.partial(_show_once, grams=d.trace.grams, timed=self.net.takes_sequences)
        a, b = (data[0].label for data in d.trace.inputs)
        lines, notes = once(self._lines(TEX, show), a, b)
        atoms = [g for g in reachable([d.poly]) if isinstance(g, Expect)]
        long = [g for g in atoms if short(g, self.net.takes_sequences) is None]
        indices = self._indices(TEX)
        about = [] if indices is None else indices.said()
        return lines, said(atoms, long, closed, bool(grams_of(d)), notes, about)

    def _lines(self, style: Style, show: Show | None = None) -> list[Line]:
        indices = self._indices(style)
        show = show or functools.partial(_show, grams=self._derive().trace.grams, style=style)
        lines = []
        for g, p in self._all():
            left = style.expr(self.symbol if g is None else g.symbol)
            lines.append(Line(left, terms(p, style, show)) if indices is None else indices.line(left, g, p))
        return [line for line in lines if line.terms != [("+", (line.left,))]]  # of x and x', taken for one input

    def _indices(self, style: Style) -> Indices | None:
        """How quantities with positions print; None where there are none."""
        d = self._derive()
        if d.limit.spatial is None:
            return None
        leaf = functools.partial(_show, grams=d.trace.grams, style=style)
        return Indices(d, leaf, lambda g: None if short(g, False) is None else g.cov[len(g.cov) // 2], style)

    def _all(self) -> list[tuple[Gen | None, Poly]]:
        """All equations, the kernel's last."""
        return [*self._named(), (None, self._derive().poly)]

    def _named(self) -> list[tuple[Gen | None, Poly]]:
        """The quantities that the kernel needs, in dependency order, with their definitions."""
        return list(shortened((g, g.definition) for g in reachable([self._derive().poly]) if isinstance(g, Name)))

    def _legend(self) -> list[str]:
        d, indices = self._derive(), self._indices(TEXT)
        atoms = [g for g in reachable([d.poly]) if isinstance(g, Expect)]
        compact = indices is not None and all(short(g, False) is not None for g in atoms)
        return [*legend(atoms, compact, bool(grams_of(d))), *([] if indices is None else indices.said())]

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
        if self.net.takes_axes and is_random(self._derive()):
            raise FoldError(
                f"{self.net.name} has averages over random scores, whose equations are not folded; K(X) is computed "
                "at any depth"
            )
        if self._has_laws:
            raise FoldError(
                f"{self.net.name} has weights that are not Gaussian, whose integrals no recursion holds; use K(X)"
            )
        return Recursion(self, form, over)

    def _repr_latex_(self) -> str:
        return for_notebooks(self.latex())

    def __repr__(self) -> str:
        return f"<{self.kind.upper()} of {self.net!r} by {self.method}{self._training}>"

    @property
    def _training(self) -> str:
        return "" if self._trained is None else self._trained.words

    def _header(self) -> list[str]:
        single = self.lengths[0] is None or isinstance(self.net.form, Parts)
        lengths = "" if single else f", T = {self.lengths[0]}, T' = {self.lengths[1]}"
        lines = [
            f"{self.kind.upper()} of {self.net!r}{lengths}, by {self.method}{self._training}",
            *self._legend(),
            *([MIXTURE[self.kind]] if self._derive().trace.is_mixture else []),
        ]
        if self.kind == "ntk":
            passes = self.passes_gia_check
            if self._assume_gia and not passes:
                note = "gradient independence was assumed, which is wrong here"
            elif self.method in ("backprop", "sgd") and not self._assume_gia:
                note = "every ZDot was computed, none assumed away"
            else:
                note = "gradient independence holds"
            lines.append(f"simple GIA check: {'passes' if passes else 'FAILS'}; {note}")
        return lines

    # ---- numbers ---------------------------------------------------------------------------------

    def __call__(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None, *,
                 progress: Progress = None) -> np.ndarray:  # fmt: skip
        """The Gram matrix K(X1[i], X2[j]).

        Args:
            X1: inputs: (N, d) vectors, (N, T, d) sequences, or a list of (T_i, d) sequences.
            X2: like X1; None for X1 with itself, which gives a symmetric matrix whose diagonal compares
                each input with itself (an RNN's initial state is then the same vector on both sides).
            values: numbers for hyperparameters that are symbols, by symbol or by name.
            progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

        Returns:
            Array (N1, N2), float64.

        Raises:
            DataError: NaN or infinite data, empty sequences, different feature dimensions, a symbol
                without a value.

        Warns:
            AccuracyWarning: the relative error of an entry is above 1e-9.
        """
        with telling(progress):
            found = self._found(*read_pair(X1, X2, self.net.form), self._hyper(values))
        warn(found, repr(self), self._advice(found))
        return found.value

    def account(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None, *,
                progress: Progress = None) -> KernelAccount:  # fmt: skip
        """K(X1, X2) with an error for each entry and the methods behind it; arguments as for a call.

        >>> import tensorprog as tp
        >>> K = tp.nngp(tp.programs.mlp(depth=1), method="sampling", samples=2**13)
        >>> found = K.account([[1.0, 0.0]])
        >>> bool(abs(found.value - 0.5) < 6 * found.error), found.statistical
        (True, True)
        """
        with telling(progress):
            return self._found(*read_pair(X1, X2, self.net.form), self._hyper(values), accounted=True)

    def _hyper(self, values: HyperValues | None) -> dict[sp.Symbol, float]:
        return symbol_values(values, self._symbols)

    def gram(self, X1: Data, X2: Data | None = None, **options: Any) -> Any:
        """The Gram matrix by the compiled kernel: see ``tp.gram`` for the options.

        >>> import tensorprog as tp
        >>> K = tp.ntk(tp.programs.mlp(depth=2))
        >>> K.gram([[1.0, 0.0]], [[0.6, 0.8]], dtype="float32").round(3)
        array([[0.772]], dtype=float32)
        """
        return gram(self, X1, X2, **known_options("Kernel.gram", options))

    def grad(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None) -> np.ndarray:
        """∂K(x, x')/∂x at x = X1[i], x' = X2[j], (N1, N2, d), x' held fixed; ``tp.derivative`` gives any other.

        Args:
            X1, X2, values: as for a call.

        Raises:
            ProgramError, DataError, NoRuleError: as for ``tp.derivative``.

        >>> import tensorprog as tp
        >>> K = tp.nngp(tp.programs.mlp(depth=1, phi=tp.identity, sigma_w=1, sigma_b=0, sigma_v=1))  # x·x'/2
        >>> K.grad([[1.0, 2.0]], [[3.0, 4.0]])
        array([[[1.5, 2. ]]])
        """
        return gradient(self, X1, X2, values)

    def source(self, language: str | HyperValues | None = None, values: HyperValues | None = None,
               lengths: Sequence[int] | None = None) -> str:  # fmt: skip
        """The kernel as code: a standalone file in a language, or without one what is compiled.

        A standalone file imports nothing of this package.  Its function ``ntk(x1, x2, ..)`` or ``nngp`` takes two
        different inputs, and the numbers of the network and its depth as keyword arguments; equations repeat in loops
        where they fold.  Expectations without a closed form are quadratures for variances up to 16, less for functions
        that grow like exp, as their docstrings say; beyond, the file raises a ValueError (NaN where jax traces), and
        K(X) has the digits.  What is compiled is text to read: the operations per input and those per pair.

        Args:
            language: ``"numpy"``, ``"torch"`` or ``"jax"``; None for what is compiled.
            values: numbers for hyperparameters that are symbols, by symbol or name; of a file its defaults.
            lengths: (T, T') of sequences that are compiled, the kernel's own when None; long ones run a loop over time.

        Raises:
            DataError: an unknown language, or lengths that do not fit.
            NoRuleError: the kernel has no code in a language, such as one of expectations of many variables; says why.

        >>> import tensorprog as tp
        >>> K = tp.nngp(tp.programs.deep_linear(depth=1))
        >>> print(K.source().splitlines()[-1])
        return v6
        >>> K.source("numpy").splitlines()[-1].strip()
        'return sigma_v**2 * E12[depth]'
        """
        if isinstance(language, Mapping):
            language, values = None, language
        if language is None:
            return source(self, lengths, values)
        if lengths is not None:
            raise DataError(
                f"a standalone file takes sequences as the kernel does; leave out lengths={shortly(lengths)}"
            )
        return standalone(self, language, self._hyper(values))


def _show_once(g: Gen, grams: Container[sp.Symbol], timed: bool) -> tuple[int, str]:
    """In LaTeX, expectations by one entry of their covariance."""
    written = short(g, timed) if isinstance(g, Expect) else None
    return _show(g, grams, TEX) if written is None else (ATOM, written)


def _show(g: Gen, grams: Container[sp.Symbol], style: Style) -> tuple[int, str]:
    if isinstance(g, Scalar):
        return (GRAM, style.expr(g.symbol)) if g.symbol in grams else (SCALAR, "")
    kind = ATOM if isinstance(g, Expect) else LINEAR if isinstance(g, Name) and g.kind == "theta" else QUANTITY
    return kind, style.expr(g.symbol)
