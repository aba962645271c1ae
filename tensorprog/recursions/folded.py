"""Recursions: the indexed equations of a kernel, for every depth and every length.

``recursion(K)`` derives K at small sizes, folds the equations into indexed ones, and proves the fold at larger sizes by
deriving there and comparing equation by equation.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Self

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.compile.compiled import Program
from tensorprog.compile.tape import LEFT, Tape
from tensorprog.compile.vectors import Vectors
from tensorprog.derivation.data import Inputs, by_lengths, read_pair
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.kernel_account import KernelAccount
from tensorprog.derivation.route import refuse_expanding
from tensorprog.derivation.underflow import warn_of_underflow
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.errors import DataError, FoldError, ProgramError, nearest, shortly
from tensorprog.formulas.typeset import for_notebooks
from tensorprog.given import flag
from tensorprog.ir.hyper import symbol_values
from tensorprog.limit.evaluate import same
from tensorprog.recursions.fixed import fixed_point
from tensorprog.recursions.folding import Folded, fold, unroll
from tensorprog.recursions.indexed import Printer
from tensorprog.recursions.layered import period
from tensorprog.recursions.lettering import lettered
from tensorprog.recursions.proving import at, compare
from tensorprog.recursions.ranges import Sizes
from tensorprog.recursions.sized import SizedKernel, append
from tensorprog.recursions.sizes import ANY, SMALL, Growing, Over, form_of, over_of, refuse_growing
from tensorprog.recursions.straight import Store, Straight, read, variables_of
from tensorprog.recursions.writing import LAYERED, STEPWISE, WAYS, Way, straight
from tensorprog.types import Data, HyperValues

BLOCK_BYTES = 2**27
DEEPEST = 10**6  # layers, whose equations are written out as operations


@dataclass(frozen=True)
class Part:
    """Folded equations, the sizes that they are over, and the small ones at which and below which they do not hold."""

    over: Over
    folded: Folded
    excluded: frozenset[Sizes]


class FoldedKernel:
    """A kernel as indexed equations with base cases and ranges: see ``Kernel.recursion``.

    Attributes:
        kernel: the kernel it was folded from.
        net: its network.
        form: "sum", Σ_l Π^l Σ^l, or "forward", Θ^{l+1} = Θ^l Σ̇^{l+1} + Σ^{l+1}.
        proved: the sizes at which the equations were derived again and compared.
        excluded: small sizes at which and below which they do not hold, whatever the sizes not named.

    The indexed equations of two inputs (``_parts``), in single assignment, are what evaluation and compilers read. They
    are one part, or two where only equal lengths share weights: one for T = T' and one for T ≠ T'.
    """

    def __init__(self, kernel: Any, form: str | None = None, over: Any = None) -> None:
        self.kernel = kernel
        self.net: Network = kernel.net
        self.form = form_of(kernel.kind, form, self.net.takes_batches)
        self._over = over_of(self.net, over)
        refuse_expanding(*self._sized(self._over.larger(2)[0], 2), kernel.kind == "ntk")
        self._store = Store()
        self._read: dict[tuple[Sizes, int, str], Straight] = {}
        self._derived: dict[tuple[Sizes, int, str], Derivation] = {}
        self._most: dict[str, dict[Sizes, int]] = defaultdict(dict)
        self.proved: list[Sizes] = []
        self.excluded: set[Sizes] = set()
        self._parts = self._fold(self.form, 2)
        self._others: dict[tuple[str | None, int], tuple[Part, ...]] = {(self.form, 2): self._parts}
        self._programs: dict[int, Any] = {}
        self._at: dict[Any, SizedKernel] = {}
        shown = [(p.over.related, lettered(p.folded, self._store)) for p in self._parts]
        self._printer = Printer(shown, kernel, self._over.depth)

    def __deepcopy__(self, memo: Any) -> Self:
        return self  # it answers the same questions in the same way for ever

    def __reduce__(self) -> Any:
        """For pickling: the kernel, to be folded again."""
        over = [k for k in (self._over.depth, "lengths" if self._over.lengths else None) if k]
        return type(self), (self.kernel, self.form, over)

    # ---- finding -----------------------------------------------------------------------------------

    @property
    def _folded(self) -> Folded:
        """The indexed equations of two inputs; of two parts those for T = T'."""
        return self._parts[0].folded

    def _fold(self, form: str | None, inputs: int) -> tuple[Part, ...]:
        """One fold for all sizes, or one for equal and one for different lengths, or of moments taken step by step."""
        scalars = any(var.kind == "scalar" for var, _ in self._traces[-1].program)  # of norms and attention
        ways: tuple[Sequence[Way], ...]
        ways = (LAYERED, WAYS) if scalars else (WAYS, LAYERED) if self.net.takes_axes else (WAYS,)
        try:
            return (self._first_part(form, inputs, ways),)
        except Growing:
            raise
        except FoldError as error:
            if apart := self._over.parts(inputs):
                return tuple(self._part(over, form, inputs) for over in apart)
            if self.net.takes_axes or not (deeper := self._over.stepwise()):
                raise
            for over, some in ((deeper, STEPWISE), (self._over, LAYERED)):
                with suppress(FoldError):
                    return (self._part(over, form, inputs, some),)
            raise error from None

    def _first_part(self, form: str | None, inputs: int, ways: Sequence[Sequence[Way]]) -> Part:
        """The fold by the first of some kinds of equations that repeat; the error of the first where none do."""
        failure: FoldError | None = None
        for some in ways:
            try:
                return self._part(self._over, form, inputs, some)
            except FoldError as error:
                failure = failure or error
        assert failure is not None
        raise failure

    def _part(self, over: Over, form: str | None, inputs: int, ways: Sequence[Way] = WAYS) -> Part:
        """The fold that holds down to the smallest sizes."""
        failure, best = None, None
        for s in over.examples(inputs):  # before any is read, which takes longer
            if (s, inputs, ways[0].by) not in self._read:
                self._derivation(s, inputs, ways[0].by)
        for way in ways:
            if way.anchored and best is not None:
                break
            try:
                systems = {s: self._straight(s, form, inputs, way) for s in over.examples(inputs)}
                folded = fold(systems, self._store, way.anchored, way.by == "stepwise")
                fails = self._prove(folded, form, inputs, way, over)
            except FoldError as error:
                failure = failure or error
                continue
            if best is None or len(fails) < len(best[1]):
                best = folded, fails
            if not fails:
                break
        if best is None:
            assert failure is not None
            raise failure
        excluded = frozenset(tuple((k, v) for k, v in s if v <= SMALL) for s in best[1])
        self.excluded |= excluded
        return Part(over, best[0], excluded)

    def _prove(self, folded: Folded, form: str | None = None, inputs: int = 2, way: Way = WAYS[0],
              over: Over | None = None) -> set[Sizes]:  # fmt: skip
        """Derive at larger sizes and compare every equation with the folded ones; the kernel at smaller sizes too.

        Returns:
            The smaller sizes at which the fold does not hold.

        Raises:
            FoldError: an equation differs; names it.
        """
        form, over = form or self.form, over or self._parts[0].over
        larger = over.larger(inputs)
        for s in larger:
            compare(self._straight(s, form, inputs, way), unroll(folded, dict(s), self._store), s)
        if not self._agrees(folded, larger[0], inputs):
            raise FoldError(f"the folded equations do not give the kernel at {at(larger[0])}")
        agree = {s: self._agrees(folded, s, inputs) for s in over.smaller(inputs)}
        self.proved = sorted({*self.proved, *larger, *(s for s, holds in agree.items() if holds)})
        return {s for s, holds in agree.items() if not holds}

    def _agrees(self, folded: Folded, sizes: Sizes, inputs: int) -> bool:
        """Whether the kernel, derived by its own method, is that of the folded equations, all names unfolded."""
        try:
            mine = unroll(folded, dict(sizes), self._store).poly()
        except FoldError:  # the ranges do not reach down to this size
            return False
        return same(self._value(sizes, inputs), mine)

    def _straight(self, sizes: Sizes, form: str | None, inputs: int, way: Way) -> Straight:
        key = (sizes, inputs, way.by)
        if key not in self._read:  # every form starts from it
            self._read[key] = read(self._derivation(*key), self._store, self._period if way.by == "layered" else 0)
            del self._derived[key]
        form = None if self.net.takes_batches else form  # derived forward, and not linear in what is transposed
        return straight(self._read[key], self._store, form, way)

    def _derivation(self, sizes: Sizes, inputs: int, by: str) -> Derivation:
        """The derivation at one size, which waits until it is read."""
        key = (sizes, inputs, by)
        if key not in self._derived:
            self._derived[key] = getattr(self.kernel, f"_derive_{by}")(*self._sized(sizes, inputs))
            self._most[by][sizes] = variables_of(self._derived[key])
            refuse_growing(self.net.name, self._most[by])
        return self._derived[key]

    @cached_property
    def _traces(self) -> list[Trace]:
        """The network on one input, with some layers and with one more."""
        given = dict(self._over.larger(1)[0])
        sizes = [tuple({k: depth if k == "L" else v for k, v in given.items()}.items()) for depth in (3, 4)]
        return [net.trace(lengths) for net, lengths in (self._sized(s, 1) for s in sizes)]

    @cached_property
    def _period(self) -> int:
        """How many instructions of one input one more layer has."""
        return period(*self._traces)

    def _value(self, sizes: Sizes, inputs: int) -> Poly:
        """The kernel by its own method of derivation, untouched."""
        net, lengths = self._sized(sizes, inputs)
        return self.kernel._derive_at(net, lengths).poly  # type: ignore[no-any-return]

    def _sized(self, sizes: Sizes, inputs: int) -> tuple[Network, list[int | None]]:
        given = dict(sizes)
        own: list[int | None] = list(self.kernel.lengths)
        lengths = [given["T"], given.get("T'")][:inputs] if "T" in given else own[:inputs]
        net = self._kernel_at(given).net
        try:
            net.trace(lengths)
        except ProgramError as error:
            raise FoldError(
                f"{self.net.name} cannot be built with {at(sizes)}: {error}; a recursion needs hyperparameters that "
                "fit every size: one number or one symbol instead of one per layer"
            ) from error
        return net, lengths

    # ---- formulas ----------------------------------------------------------------------------------

    @property
    def equations(self) -> list[sp.Eq]:
        """The indexed equations; the last one is the kernel."""
        return [equation for equation, _ in self.rules]

    @property
    def rules(self) -> list[tuple[sp.Eq, tuple[Any, ...]]]:
        """The equations with the ranges (index, lowest, highest) of the indices they hold for."""
        return list(self._printer.rules())

    def text(self) -> str:
        """The recursion as text."""
        return self._printer.text()

    def latex(self, closed: bool = False) -> str:
        """The recursion as a LaTeX ``align*`` environment (amsmath); ``closed`` puts in closed forms of V."""
        return self._printer.latex(flag(closed, "closed"))

    def _repr_latex_(self) -> str:
        return for_notebooks(self.latex())

    def __repr__(self) -> str:
        form = f", {self.form} form" if self.form else ""
        kind, count = self.kernel.kind.upper(), sum(len(p.folded.cases) for p in self._parts)
        return f"<recursion of the {kind} of {self.net.name}{form}: {count} equations>"

    # ---- numbers -----------------------------------------------------------------------------------

    def __call__(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None, **depth: int) -> np.ndarray:
        """The Gram matrix at any depth and any lengths, without deriving there.

        Args:
            X1: inputs, as for a kernel: (N, d), (N, T, d) or a list of (T_i, d).
            X2: like X1; None for X1 with itself.
            values: numbers for hyperparameters that are symbols, by symbol or by name.
            depth: the network's number of layers, by its own name, such as ``depth=1000``, or ``L=1000``.

        Returns:
            Array (N1, N2), float64.

        Raises:
            DataError: data or values that cannot be used.
            ProgramError: an unknown or impossible size.
        """
        layers = self._depth(depth)
        if self.net.takes_axes:
            return self._kernel_at(layers)(X1, X2, values)  # type: ignore[no-any-return]
        first, other = read_pair(X1, X2, self.net.form)
        second, hyper = first if other is None else other, symbol_values(values, lambda: self.net.symbols)

        def block(t1: int | None, t2: int | None) -> np.ndarray:
            mirrored = other is None and t1 == t2
            return self._block(first.data[t1], second.data[t2], {**layers, **_lengths(t1, t2)}, hyper, mirrored)

        K = by_lengths(first, other, block)
        if other is None:
            self._symmetrise(K, first, layers, hyper)
        warn_of_underflow(K, self, first, other, hyper)
        return K

    def fixed_point(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None,
                    rtol: float = 1e-9) -> np.ndarray:  # fmt: skip
        """The kernel at infinite depth, as of a deep equilibrium network; arguments as for a call.

        Args:
            rtol: the error to reach, relative to the largest entry; ``fixed_point_account`` states it by entry.

        Raises:
            AssumptionError: the recursion does not contract, so that it has no fixed point.
            AccuracyError: it contracts too slowly for ``rtol``.

        >>> import tensorprog as tp
        >>> R = tp.nngp(tp.programs.mlp(phi=tp.relu, sigma_w=1, sigma_b=1)).recursion()
        >>> R.fixed_point([[1.0]])  # q = q/2 + 1 before the last relu
        array([[1.]])
        """
        return self.fixed_point_account(X1, X2, values, rtol).value

    def fixed_point_account(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None,
                            rtol: float = 1e-9) -> KernelAccount:  # fmt: skip
        """``fixed_point`` with the error of each entry and the measured contraction."""
        if self._over.depth is None:
            raise ProgramError("a fixed point is one in depth, and this recursion is over lengths only")
        self(X1, X2, values, L=SMALL + 1)  # what is wrong with data or values is said before divergence is blamed
        return fixed_point(lambda depth: self(X1, X2, values, L=depth), rtol)

    def at(self, **depth: int) -> SizedKernel:
        """The recursion at a depth: what ``tp.gram`` computes like a kernel derived there, at any lengths.

        Args:
            depth: as for a call; the network's own number of layers when it is not given.

        Raises:
            ProgramError: an unknown or impossible size.

        >>> import tensorprog as tp
        >>> net = tp.programs.mlp(phi=tp.relu)
        >>> deep = [kernel(net).recursion().at(depth=1000) for kernel in (tp.nngp, tp.ntk)]
        >>> K, Θ = tp.gram(deep, [[1.0, 0.0], [0.6, 0.8]])
        >>> Θ.round(3)
        array([[500.5  , 127.141],
               [127.141, 500.5  ]])
        """
        layers = self._depth(depth)
        if self.net.takes_axes:  # whose numbers come from the kernel itself
            return self._kernel_at(layers)  # type: ignore[no-any-return]
        key = tuple(layers.items())
        if key not in self._at:
            self._at[key] = SizedKernel(self, layers)
        return self._at[key]

    def _depth(self, given: Mapping[str, int]) -> dict[str, int]:
        name = self._over.depth
        if name is not None and "L" in given and name not in given:
            given = {name if k == "L" else k: v for k, v in given.items()}
        for key in given:
            if key != name:
                raise ProgramError(f"this recursion has no size {shortly(key)}; {nearest(key, [name] if name else [])}")
        if name is None:
            return {}
        layers = given.get(name, self.net.hyperparameters[name])
        if isinstance(layers, bool) or not isinstance(layers, (int, np.integer)) or layers < 1:
            raise ProgramError(f"{name} must be a positive integer, got {shortly(layers)}")
        if layers > DEEPEST:
            raise ProgramError(f"{name} must be at most {DEEPEST}, got {layers}; R.fixed_point(X) is infinitely deep")
        return {"L": int(layers)}

    def _block(self, x: np.ndarray, y: np.ndarray, sizes: dict[str, int], hyper: Any, mirrored: bool) -> np.ndarray:
        """All pairs, or those below the diagonal, by the compiled equations, and by the kernel derived at this size
        where they lose an angle."""
        K = np.zeros((len(x), len(y)))
        i, j = np.tril_indices(len(x), -1) if mirrored else np.indices(K.shape).reshape(2, -1)
        if not len(i):
            return K
        program = self._program(sizes, 2, hyper)
        size = max(1, BLOCK_BYTES // (8 * len(program.order)))
        parts = [program.on_list(x[i[k : k + size]], y[j[k : k + size]])[0] for k in range(0, len(i), size)]
        value = np.concatenate(parts)
        rest = ~np.isfinite(value)
        if rest.any():
            kernel = self.at(**{k: v for k, v in sizes.items() if k == "L"})
            value[rest] = kernel._on_pairs(x[i[rest]], y[j[rest]], (sizes.get("T"), sizes.get("T'")), hyper)
        K[i, j] = value
        return K

    def _program(self, sizes: dict[str, int], inputs: int, hyper: Any) -> Program:
        """The equations at sizes as a program; the last one for each number of inputs is kept."""
        key = (tuple(sizes.items()), tuple(hyper.items()))
        if self._programs.get(inputs, (None,))[0] != key:
            tape = Tape()
            root = append(tape, *self._system(sizes, inputs), hyper)
            self._programs[inputs] = key, Program(tape, (root,))
        return self._programs[inputs][1]  # type: ignore[no-any-return]

    def _symmetrise(self, K: np.ndarray, inputs: Inputs, layers: dict[str, int], hyper: Any) -> None:
        """Mirror the lower triangle, and set the diagonal from each input with itself."""
        K[:] = np.tril(K) + np.tril(K, -1).T
        for t, rows in inputs.groups.items():
            program = self._program({**layers, **dict(list(_lengths(t, t).items())[:1])}, 1, hyper)
            K[rows, rows] = program.per_input(Vectors(inputs.data[t]), LEFT)[program.roots[0]]
        if not np.isfinite(K).all():
            raise DataError("the value of the kernel is not finite; check the scale of inputs and hyperparameters")

    def _system(self, sizes: dict[str, int], inputs: int) -> tuple[Folded, dict[str, int]]:
        """The equations of one or two inputs to evaluate at sizes, and the sizes they know.

        They go forward, which holds a few values only, whatever form is printed.

        Raises:
            ProgramError: the recursion does not hold there.
        """
        form = None if self.form is None else "forward"
        if (form, inputs) not in self._others:
            self._others[form, inputs] = self._fold(form, inputs)
        if self._over.lengths is False and "T" in sizes:
            self._check_lengths(sizes)
            sizes = {k: v for k, v in sizes.items() if k == "L"}
        part = next(p for p in self._others[form, inputs] if p.over.holds(sizes))
        self._check_excluded(sizes, part)
        return part.folded, sizes

    def _kernel_at(self, layers: Mapping[str, int]) -> Any:
        """The kernel itself, of the network with so many layers."""
        hyper = {**self.net.hyperparameters, **({self._over.depth: layers["L"]} if self._over.depth else {})}
        return self.kernel._of(Network(self.net.fn, hyper, self.net.name))

    def _check_excluded(self, sizes: Mapping[str, int], part: Part) -> None:
        for small in self.excluded if part.over.related == ANY else part.excluded:
            if all(sizes.get(k, v + 1) <= v for k, v in small):
                raise ProgramError(
                    f"this recursion does not hold at {at(small)} and below; use the kernel itself there"
                )

    def _check_lengths(self, sizes: Mapping[str, int]) -> None:
        lengths = [sizes["T"], sizes.get("T'", sizes["T"])]
        if lengths != list(self.kernel.lengths):
            raise ProgramError(
                f"this recursion was folded over {self._over.depth} only, at lengths {self.kernel.lengths}; "
                f"the data have {tuple(lengths)}"
            )


def _lengths(t1: int | None, t2: int | None) -> dict[str, int]:
    return {} if t1 is None or t2 is None else {"T": t1, "T'": t2}
