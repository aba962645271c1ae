"""A derived kernel, as the rooms above use it: derived once per pair of lengths, lowered onto tapes, evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any, Self

import numpy as np
import sympy as sp

from tensorprog.compile.lower import lower
from tensorprog.compile.tape import Tape
from tensorprog.derivation.compiling import COMPILING
from tensorprog.derivation.data import Inputs
from tensorprog.derivation.derivation import Derivation, Derive, Length, derived
from tensorprog.derivation.exact import at, exact_account, values
from tensorprog.derivation.kernel_account import SAMPLING, KernelAccount
from tensorprog.derivation.named import Layout
from tensorprog.derivation.over_members import members_account
from tensorprog.derivation.over_positions import over_positions
from tensorprog.derivation.route import How, is_sampled
from tensorprog.derivation.sampled.randomised import Sampled, sampled_gram
from tensorprog.derivation.sampled.scores import sampled_scores
from tensorprog.derivation.underflow import ADVICE, UNDERFLOW, scales_of, with_underflow
from tensorprog.dsl.network import Network, refuse_lengths
from tensorprog.errors import NoRuleError, ProgramError, shortly
from tensorprog.limit.evaluate import Atom
from tensorprog.passes.rates import Rates


class DerivedKernel:
    """A limiting kernel of a network as equations and numbers; ``kernels.kernel.Kernel`` adds what users ask.

    Args:
        net: an architecture.
        kind: "ntk" or "nngp".
        method: the name of the derivation.
        derive: (network, lengths) ↦ derivation.
        lengths: of sequences, those that are printed.
        derive_under_gia: the derivation that assumes gradient independence.
        assume_gia: whether ``derive`` does.
        derive_straight: the derivation with every layer named, which recursions are folded from.
        how: whether numbers are sampled.
        trained: what is trained, and how fast; None for everything at rate 1.
        derive_by_paths: the derivation by path sums, whose equations run forward only.
        derive_stepwise: the derivation with moments taken step by step, which running sums are folded from.
        derive_layered: that with sums and rescaled vectors named, which norms and attention are folded from.
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
        trained: Rates | None = None,
        derive_by_paths: Derive | None = None,
        derive_stepwise: Derive | None = None,
        derive_layered: Derive | None = None,
    ) -> None:
        self.net, self.kind, self.method, self._assume_gia = net, kind, method, assume_gia
        self._how, self._trained = how or How("exact"), trained
        self._chosen: dict[Any, bool] = {}
        self._derive_by_method, self._derive_under_gia = derive, derive_under_gia
        self._derive_straight = derive_straight or derive
        self._derive_stepwise = derive_stepwise or self._derive_straight
        self._derive_layered = derive_layered or self._derive_straight
        self._derive_by_paths = derive_by_paths
        self.lengths = self._lengths(lengths)
        self._derived: dict[Any, Derivation] = {}
        self._compiled: dict[Any, Any] = {}

    def __getstate__(self) -> dict[str, Any]:
        """For pickling: what was derived and compiled is left behind."""
        return {**self.__dict__, "_derived": {}, "_compiled": {}, "_chosen": {}}

    def _lengths(self, lengths: Sequence[Length] | None) -> tuple[Length, Length]:
        if not self.net.takes_sequences:
            if lengths is not None and not (isinstance(lengths, Sequence) and all(t is None for t in lengths)):
                refuse_lengths(self.net, f"lengths={lengths!r}")
            return (None, None)
        if lengths is None:
            return (self.net.fitting_length(),) * 2
        if (
            not isinstance(lengths, Sequence)
            or len(lengths) != 2
            or not all(isinstance(t, int) and t >= 1 for t in lengths)
        ):
            raise ProgramError(f"lengths must be two positive integers (T, T'), got {shortly(lengths)}")
        return (lengths[0], lengths[1])

    def _of(self, net: Network) -> Self:
        """The same kernel of another network, such as this one with more layers."""
        return self._with(net=net)

    def _by_paths(self) -> Self | None:
        """The same kernel by equations that run forward only; None where there are none."""
        if self._derive_by_paths is None or not self.passes_gia_check:
            return None
        return self._with(method="paths", _derive_by_method=self._derive_by_paths)

    def _with(self, **attributes: Any) -> Self:
        made = copy(self)
        made.__dict__.update(attributes, _derived={}, _compiled={}, _chosen={})
        return made

    @property
    def _has_laws(self) -> bool:
        """Whether weights of the network are not Gaussian."""
        key = "laws", self.lengths[:1]
        if key not in self._chosen:
            self._chosen[key] = self.net.trace(self.lengths[:1]).has_laws
        return self._chosen[key]

    def _derive_at(self, net: Network, lengths: Sequence[Length]) -> Derivation:
        """The same derivation for another network, such as this one with more layers."""
        return derived(self._derive_by_method, net, lengths)

    def _derive(self, lengths: tuple[Length, Length] | None = None, same: bool = False) -> Derivation:
        """The derivation for two inputs of these lengths; for one input with itself when ``same``.

        Inputs with positions are always two: one with itself has pairs of positions as any other.
        """
        if self.net.takes_axes:
            lengths, same = (None, None), False  # equations of any sizes
        lengths = lengths or self.lengths
        key = (lengths, same)
        if key not in self._derived:
            with COMPILING:
                self._derived[key] = derived(self._derive_by_method, self.net, lengths[:1] if same else lengths)
        return self._derived[key]

    @property
    def passes_gia_check(self) -> bool:
        """Whether the simple GIA check holds (TP2b; the readout vector is random, centred, used once)."""
        return self._derive().trace.passes_gia_check

    def _symbols(self) -> set[sp.Symbol] | None:
        """The symbols of the network, and those of the rates of its parameters."""
        rates = self._trained.moving(self._derive().trace) if self._trained is not None else None
        found = self.net.symbols
        return None if found is None else found.union(*(r.free_symbols for r in (rates or {}).values()))

    def _advice(self, found: KernelAccount) -> str:
        """How to get more digits."""
        if UNDERFLOW in found.methods:
            return ADVICE
        if found.samples:
            call = f"tp.{self.kind}(net, rtol={found.relative.max() / 10:.0e})"
            return f"for more digits use {call} or samples= above {found.samples}"
        if found.statistical and self._how.route != "sampling":
            return f"for more digits use tp.{self.kind}(net, method='sampling', rtol=..)"
        return "these are all the digits there are"

    def _found(self, first: Inputs, other: Inputs | None, hyper: Mapping[sp.Symbol, float],
              accounted: bool = False) -> KernelAccount:  # fmt: skip
        """The account of K(X1, X2); of small errors only if ``accounted``, else 0."""
        if self.net.takes_batches:
            return members_account(self._derive(), first, other, hyper, self._how)
        if is_sampled(self, first, other, hyper):
            drawn = self._sampled(first, other, hyper)
            account = KernelAccount(drawn.value, drawn.stderr, True, (SAMPLING,), drawn.samples)
        else:
            account = exact_account(self._derive, first, other, hyper, accounted)
        return with_underflow(account, first, other, scales_of(self.net, hyper))

    def _sampled(self, first: Inputs, other: Inputs | None, hyper: Mapping[sp.Symbol, float]) -> Sampled:
        """K(X1, X2) by sampling."""
        if self.net.takes_axes:
            return sampled_scores(self.net, self._derive(), first, other, hyper, self._how.sampling)
        trained = self._trained.moving if self._trained is not None else None
        return sampled_gram(self.net, self.kind, first, other, hyper, self._how.sampling, trained)

    def _lower(self, tape: Tape, lengths: tuple[Length, Length], hyper: Mapping[sp.Symbol, float],
              same: bool = False) -> int:  # fmt: skip
        """The kernel between inputs of these lengths, or of one with itself, as an operation of a tape."""
        d = self._derive(lengths, same)
        if d.trace.has_laws:
            raise NoRuleError(f"{self!r} has weights that are not Gaussian, whose integrals are not compiled; use K(X)")
        grams = {s: ((p.owner, at(p)), (q.owner, at(q))) for s, (p, q) in d.trace.grams.items()}
        return lower(tape, [d.poly], grams, hyper)[0]

    def _on_pairs(self, a: np.ndarray, b: np.ndarray, lengths: tuple[Any, Any], hyper: Any,
                 atom: Atom | None = None, layout: Layout | None = None) -> np.ndarray:  # fmt: skip
        """K(a[p], b[p]) of pairs of inputs.

        Args:
            a, b: (P, T, d) and (P, T', d); T = 1 for vectors.
            lengths: (T, T'), the sizes of positions, or (None, None).
            hyper: numbers for hyperparameters, by symbol.
            atom: see ``limit.evaluate.numbers``.
            layout: of named arrays over positions.
        """
        if self.net.takes_axes:
            return over_positions(self._derive(), a, b, lengths, hyper, atom, layout)
        return np.broadcast_to(values(self._derive(lengths), (a, b), hyper, atom), len(a))
