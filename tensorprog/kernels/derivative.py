"""Kernels of derivatives of a network by its inputs, such as those of the residual of a differential equation."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.derivation.data import read_pair
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.exact import grams_of
from tensorprog.derivation.route import is_sampled
from tensorprog.errors import DataError, NoRuleError, ProgramError, shortly
from tensorprog.ir.hyper import symbol_values
from tensorprog.kernels.jets import Exponents, Jet, jets
from tensorprog.printing import Shown
from tensorprog.types import Data, HyperValues

HIGHEST = 6  # the order of a derivative by one input
BLOCK = 2**15  # pairs that are computed at once
Order = tuple[int, ...]
Operator = dict[Order, float]
WORDS = "an order is a tuple of input coordinates, () for f, (0,) for ∂f/∂x_0, (0, 0) for ∂²f/∂x_0²"


def _order(given: Any) -> Order:
    if not isinstance(given, tuple) or any(isinstance(k, bool) or not isinstance(k, int) or k < 0 for k in given):
        raise ProgramError(f"{WORDS}; got {shortly(given)}")
    if len(given) > HIGHEST:
        raise ProgramError(f"derivatives up to order {HIGHEST} are taken, got {shortly(given)}, of order {len(given)}")
    return tuple(sorted(given))


def _operator(given: Any) -> Operator:
    """A linear operator: the factor of each derivative."""
    if not isinstance(given, Mapping):
        return {_order(given): 1.0}
    found: Operator = {}
    for order, factor in given.items():
        if isinstance(factor, bool) or not isinstance(factor, (int, float, np.number)) or not math.isfinite(factor):
            raise ProgramError(
                f"the factor of the derivative {shortly(order)} must be a finite number, got {shortly(factor)}"
            )
        found[_order(order)] = found.get(_order(order), 0.0) + float(factor)
    if not found:
        raise ProgramError(f"an operator needs a derivative, such as {{(0, 0): 1, (1, 1): 1}}; {WORDS}")
    return found


def derivative(kernel: DerivedKernel, order: Any, other: Any = None) -> DerivativeKernel:
    r"""The kernel of derivatives of a network by its inputs, (L f, M f) for linear operators L and M.

    For the covariance or the tangent kernel K(x, x') of f it is L_x M_{x'} K(x, x'), by Taylor coefficients through
    the named equations, exact to rounding.

    Args:
        kernel: ``tp.ntk(net, ..)`` or ``tp.nngp(net, ..)`` of a network of vectors with one output.
        order: L.  A tuple of input coordinates: () is f, (0,) is ∂f/∂x_0, (0, 1) is ∂²f/∂x_0∂x_1; a mapping from such
            tuples to factors, {(0, 0): 1, (1, 1): 1} for the Laplacian in two dimensions; or a list of these, all of
            which are taken.
        other: M, by the second input; L when None.

    Returns:
        A kernel D with D(X1, X2) of shape (N1, N2), or (N1, N2, L's, M's) where one is a list.

    Raises:
        ProgramError: what is no order; no kernel of a network of vectors.

    >>> import tensorprog as tp
    >>> K = tp.nngp(tp.programs.mlp(depth=1, phi=tp.identity, sigma_w=1, sigma_b=0, sigma_v=1))  # x·x'/2
    >>> D = tp.derivative(K, [(), (0,)], (0,))
    >>> D([[1.0, 2.0]], [[3.0, 4.0]])[0, 0]  # by x'_0, and by x_0 and x'_0
    array([[0.5],
           [0.5]])
    """
    if not isinstance(kernel, DerivedKernel) or not callable(kernel):
        raise ProgramError(
            f"tp.derivative takes a kernel, tp.derivative(tp.ntk(net), (0, 0)), got {type(kernel).__name__} "
            f"{shortly(kernel)}"
        )
    if kernel.net.form != "vectors":
        raise ProgramError(f"derivatives by inputs are those of networks of single vectors; {kernel.net.name} is not")
    if hasattr(kernel, "which"):
        raise ProgramError("derivatives are those of one output: choose it, K[0]")
    sides = (order, order if other is None else other)
    several = any(isinstance(s, list) for s in sides)
    if any(isinstance(s, list) and not s for s in sides):
        raise ProgramError(f"a list of derivatives is empty; {WORDS}")
    left, right = ([_operator(o) for o in (s if isinstance(s, list) else [s])] for s in sides)
    return DerivativeKernel(kernel, left, right, several)


def gradient(kernel: DerivedKernel, X1: Data, X2: Data | None, values: HyperValues | None) -> np.ndarray:
    """∂K(x, x')/∂x, (N1, N2, d)."""
    derivative(kernel, ())  # refuses what has none
    d = read_pair(X1, X2, kernel.net.form)[0].dimension
    return derivative(kernel, [(k,) for k in range(d)], ())(X1, X2, values)[..., 0]


class DerivativeKernel(Shown):
    """The kernel between derivatives of a network by its inputs; made by ``tp.derivative``.

    Attributes:
        kernel: of the network itself.
        left, right: the operators of the first and of the second input, as factors by order.
    """

    def __init__(
        self, kernel: DerivedKernel, left: Sequence[Operator], right: Sequence[Operator], several: bool
    ) -> None:
        self.kernel, self.left, self.right, self._several = kernel, list(left), list(right), several

    def text(self) -> str:
        """The operators and the kernel."""
        sides = (", ".join(map(_words, s)) for s in (self.left, self.right))
        return f"{self.kernel!r} between {' and '.join(sides)}"

    def __call__(self, X1: Data, X2: Data | None = None, values: HyperValues | None = None) -> np.ndarray:
        """L_x M_x' K(X1[i], X2[j]), float64.

        Args:
            X1, X2, values: as for a kernel.

        Raises:
            DataError: a coordinate that the inputs do not have; a derivative that is infinite, as that of relu at equal
                inputs.
            NoRuleError: a kernel that is sampled; expectations whose derivatives are not known.
        """
        first, other = read_pair(X1, X2, self.kernel.net.form)
        hyper = symbol_values(values, lambda: self.kernel.net.symbols)
        if is_sampled(self.kernel, first, other, hyper):
            raise NoRuleError("a kernel that is sampled has no derivatives by inputs; use method='backprop'")
        a, b = (x.data[None][:, 0] for x in (first, other or first))
        highest = max((k for o in (*self.left, *self.right) for order in o for k in order), default=0)
        if highest >= a.shape[-1]:
            raise DataError(f"inputs have the coordinates 0 to {a.shape[-1] - 1}; there is no derivative by {highest}")
        d = self.kernel._derive()
        if d.trace.states:
            raise NoRuleError(
                f"{', '.join(sorted(set(d.trace.states.values())))}: what each input has of its own it "
                "shares with itself only; kernels jump there and have no derivatives; net.bias is shared by all"
            )
        rows = max(1, BLOCK // len(b))
        blocks = [self._block(d, a[s : s + rows], b, hyper) for s in range(0, len(a), rows)]
        result: np.ndarray = np.concatenate(blocks)
        return result if self._several else result[:, :, 0, 0]

    def _block(self, d: Derivation, a: np.ndarray, b: np.ndarray, hyper: Mapping[sp.Symbol, float]) -> np.ndarray:
        coordinates = sorted({k for o in (*self.left, *self.right) for order in o for k in order})
        left, right = ([{_exponents(o, coordinates): c for o, c in op.items()} for op in s]
                       for s in (self.left, self.right))  # fmt: skip
        kept = {(*e, *g) for e in _below(left) for g in _below(right)}
        values = {s: _gram([p.owner for p in pair], a, b, coordinates, kept) for s, pair in grams_of(d).items()}
        terms = jets([d.poly], {**hyper, **values}, kept)[0].terms
        result = np.zeros((len(a), len(b), len(left), len(right)))
        for k, first in enumerate(left):
            for l, second in enumerate(right):
                for e, x in first.items():
                    for g, y in second.items():
                        size = x * y * math.prod(map(math.factorial, (*e, *g)))
                        result[:, :, k, l] += size * terms.get((*e, *g), 0.0)
        if not np.all(np.isfinite(result)):
            raise DataError("a derivative of the kernel is not finite; check the scale of inputs and hyperparameters")
        return result


def _words(operator: Operator) -> str:
    shown = []
    for order, factor in operator.items():
        by = "".join(f"∂{k}" for k in order) + "f"
        shown.append(by if factor == 1 else f"{factor:g}·{by}")
    return " + ".join(shown)


def _exponents(order: Order, coordinates: Sequence[int]) -> Exponents:
    return tuple(order.count(k) for k in coordinates)


def _below(operators: Iterable[Mapping[Exponents, float]]) -> set[Exponents]:
    """The exponents of operators and all that are smaller."""
    found = {e for op in operators for e in op}
    new = found
    while new:
        new = {(*e[:i], n - 1, *e[i + 1 :]) for e in new for i, n in enumerate(e) if n} - found
        found = found | new
    return found


def _gram(owners: Sequence[int], a: np.ndarray, b: np.ndarray, coordinates: Sequence[int],
          kept: set[Exponents]) -> Jet:  # fmt: skip
    """⟨x + ε, y + η⟩/d of two inputs of a pair, where ε and η are along the coordinates."""
    dim, m = a.shape[-1], len(coordinates)
    sides = (a[:, None], b[None])
    x, y = (sides[o] for o in owners)
    terms: dict[Exponents, Any] = {(0,) * (2 * m): np.sum(x * y, axis=-1) / dim}
    for i, k in enumerate(coordinates):
        ex, ey = (_unit(o * m + i, 2 * m) for o in owners)
        for e, slope in ((ex, y[..., k] / dim), (ey, x[..., k] / dim)):
            terms[e] = terms[e] + slope if e in terms else slope
        both = tuple(p + q for p, q in zip(ex, ey, strict=True))
        terms[both] = np.array(1.0 / dim)
    return Jet({e: t for e, t in terms.items() if e in kept}, kept)


def _unit(k: int, size: int) -> Exponents:
    return tuple(int(i == k) for i in range(size))
