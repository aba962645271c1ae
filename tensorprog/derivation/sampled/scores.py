"""Kernels with random scores by sampling: the equations on all pairs of inputs at once, given drawn scores.

Scores are drawn for all inputs together, s_i = L_i w M_iᵀ with L Lᵀ and M Mᵀ the Gram matrices of rows and columns and
w of independent N(0, 1), so that every draw gives a Gram matrix.  Averages within the equations, over infinitely many
heads, are means over draws; what is conditional on scores is computed for every draw and averaged at the end.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly
from tensorprog.derivation.data import Inputs
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.over_positions import Pair, taken
from tensorprog.derivation.sampled.order import Order
from tensorprog.derivation.sampled.randomised import REPLICATES, Sampled, Sampling, mean_of, wanted
from tensorprog.dsl.network import Network
from tensorprog.errors import NoRuleError
from tensorprog.expectations.atoms import Expect
from tensorprog.ir.axes import Sizes
from tensorprog.limit.attended import few
from tensorprog.limit.equations import reachable
from tensorprog.limit.mixing import softmax, spread
from tensorprog.limit.positions import At, Contracted, Drawn, Mean, Positional, Soft
from tensorprog.progress import telling

SAMPLES = 2**14
MOST = 2**22  # samples in all, beyond which an rtol that is not met is given up
NUMBERS = 2**22  # that are held of one quantity at a time
Array = Any


def sampled_scores(net: Network, d: Derivation, first: Inputs, second: Inputs | None,
                   hyper: Mapping[sp.Symbol, float], how: Sampling) -> Sampled:  # fmt: skip
    """K(X1, X2) of a network with random scores.

    Args:
        net: an architecture.
        d: its kernel.
        first, second: inputs of one size; ``second`` is None for the first with themselves.
        hyper: numbers for hyperparameter symbols.
        how: samples, tolerance, seed.

    Raises:
        NoRuleError: inputs of several sizes.
        DataError: a value is not finite.
    """
    order = Order(net, first, second)
    if len(order.data) > 1:
        raise NoRuleError("kernels with random attention scores are sampled for inputs of one size; take them apart")
    sizes: Any
    ((sizes, data),) = order.data.items()
    draws = max(64, (how.samples or SAMPLES) // REPLICATES)
    if how.samples is None and how.rtol is not None:
        draws = max(draws, math.ceil(2 / how.rtol))
    count, found = REPLICATES, list[np.ndarray]()
    with telling() as tell:
        while len(found) < count:
            found.append(
                order.restore(Joint(d, data, sizes, first.layout, hyper, (how.seed, len(found)), draws).kernel())
            )  # type: ignore[arg-type]
            tell(len(found), count, "sampling")
            if len(found) == count:
                result = mean_of(found, draws)
                if how.samples is None and how.rtol is not None:
                    count = wanted(result, how.rtol, count, max(REPLICATES, MOST // draws))
    return result


class Joint(Pair):
    """All pairs of inputs of one size, given draws of scores.

    Args:
        d: the kernel.
        x: (N, P, C).
        sizes: of the positions.
        layout: the columns of named arrays.
        hyper: numbers for hyperparameter symbols.
        seed: of the draws.
        draws: how many.
    """

    def __init__(self, d: Derivation, x: np.ndarray, sizes: Sizes, layout: Any, hyper: Mapping[sp.Symbol, float],
                 seed: tuple[int, ...], draws: int) -> None:  # fmt: skip
        self.count = len(x)
        i, j = (k.ravel() for k in np.indices((self.count, self.count)))
        super().__init__(d, x[i], x[j], (sizes, sizes), layout)
        self.hyper, self.seed, self.draws = hyper, seed, draws
        self._laws: dict[tuple[Poly, Poly], int] = {}
        self._scores: dict[int, Array] = {}
        self._factors: dict[Poly, Array] = {}

    def kernel(self) -> np.ndarray:
        """The mean over draws, (N, N)."""
        kinds = [g for g in reachable([self.d.poly]) if isinstance(g, Drawn)]
        step = self._step() if kinds else self.draws
        total = np.zeros((self.count,) * 2)
        for start in range(0, self.draws, step):
            self.chunk, self.size = start, min(step, self.draws - start)
            self._scores.clear()
            (value,) = self.values([self.d.poly], self.hyper, None, lambda g, value: value)
            value = (
                np.broadcast_to(value, (self.size, self.count**2, 1, 1))
                if kinds
                else np.broadcast_to(value, (1, self.count**2, 1, 1))
            )
            total += value.mean(axis=0)[:, 0, 0].reshape(total.shape) * self.size
        return (total + total.T) / (2 * self.draws)

    def _step(self) -> int:
        return max(1, NUMBERS // (self.count**2 * self.sides[0].shape[1] ** 2))

    def positional(self, g: Positional, value: Callable[[Poly], Any], at: Any, atom: Any) -> Array:
        """The value of what runs over positions, (draws, N N, P, Q)."""
        if isinstance(g, At):
            return self._own(g, value(g.inner))
        if isinstance(g, Drawn):
            return self._of_point(self._drawn(g, value), g.point)
        if isinstance(g, Soft):
            n = self.sizes[g.point]
            s = spread(spread(np.asarray(value(g.inner), float), 0, g.axes.left.at(n)), 1, g.axes.right.at(n))
            return softmax(s, g.causal)
        if isinstance(g, Mean):
            found = np.asarray(value(g.inner), float)
            return found.mean(axis=0, keepdims=True) if found.ndim == 4 else found
        if isinstance(g, Contracted):
            return self._contracted(g, value)
        return super().positional(g, value, at, atom)

    def _gap(self, g: Expect, value: Callable[[Poly], Any]) -> Array | None:
        return None

    # ---- arrays of all pairs ---------------------------------------------------------------------------

    def _pairs(self, c: Array, rows: int, columns: int) -> Array:
        """(.., N, N, P, Q) of a quantity of pairs."""
        c = spread(spread(np.asarray(c, float), 0, (rows,)), 1, (columns,))
        c = (
            np.broadcast_to(c, (*c.shape[:-3], self.count**2, *c.shape[-2:]))
            if c.ndim > 2
            else np.broadcast_to(c, (self.count**2, *c.shape))
        )
        return c.reshape(*c.shape[:-3], self.count, self.count, *c.shape[-2:])

    def _own(self, g: At, c: Array) -> Array:
        """A quantity of two inputs, taken for each with itself."""
        c = np.asarray(c, float)
        if c.ndim < 3:
            return taken(g, c)
        c = np.broadcast_to(c, (*c.shape[:-3], self.count**2, *c.shape[-2:]))
        c = c.reshape(*c.shape[:-3], self.count, self.count, *c.shape[-2:])
        return self._of_point(taken(g, np.moveaxis(np.diagonal(c, axis1=-4, axis2=-3), -1, -3)), g.point)

    def _of_point(self, c: Array, point: int) -> Array:
        """A quantity of one input, (.., N, P, Q), at all pairs whose first or second it is."""
        c = np.broadcast_to(
            np.expand_dims(c, -3 if point == 0 else -4), (*c.shape[:-3], self.count, self.count, *c.shape[-2:])
        )
        return c.reshape(*c.shape[:-4], self.count**2, *c.shape[-2:])

    # ---- draws -----------------------------------------------------------------------------------------

    def _factor(self, p: Poly, value: Callable[[Poly], Any], positions: int) -> Array:
        """L with L Lᵀ the Gram matrix of all inputs and positions, (.., N, P, k)."""
        c = self._pairs(value(p), positions, positions)
        size = self.count * positions
        whole = np.moveaxis(c, -2, -3).reshape(*c.shape[:-4], size, size)
        values, vectors = np.linalg.eigh((whole + np.swapaxes(whole, -1, -2)) / 2)
        kept = np.any(values > 1e-14 * np.abs(values).max(initial=0.0), axis=tuple(range(values.ndim - 1)))
        found = vectors[..., kept] * np.sqrt(np.maximum(values[..., None, kept], 0))
        return found.reshape(*found.shape[:-2], self.count, positions, -1)

    def _drawn(self, g: Drawn, value: Callable[[Poly], Any]) -> Array:
        """Scores of all inputs, (draws, N, P, Q)."""
        if g.which not in self._scores:
            P, Q = (math.prod(a.at(self.sizes[g.point])) for a in (g.axes.left, g.axes.right))
            left, right = self._factor(g.rows, value, P), self._factor(g.columns, value, Q)
            rng = np.random.default_rng((*self.seed, 1, g.which, self.chunk))
            self._scores[g.which] = _scores(left, right, rng, self.size)
        return self._scores[g.which]

    def _contracted(self, g: Contracted, value: Callable[[Poly], Any]) -> Array:
        """The mean over draws, in parts; over da, which the gradient is linear in, it is taken exactly."""
        P, Q = (math.prod(a.at(self.sizes[0])) for a in (g.axes.left, g.axes.right))
        left, right = self._factor(g.rows, value, P), self._factor(g.columns, value, Q)
        inner = self._pairs(value(g.inner), *((P, P) if g.transpose else (Q, Q)))
        slopes = None
        if g.slope_rows is not None and g.slope_columns is not None:
            slopes = self._pairs(value(g.slope_rows), P, P), self._pairs(value(g.slope_columns), Q, Q)
        law = self._laws.setdefault((g.rows, g.columns), len(self._laws))
        total: Array = 0.0
        for k, size in self._parts(P * Q):
            s = _scores(left, right, np.random.default_rng((*self.seed, 2, law, k)), size)
            a = softmax(s, g.causal)
            total = total + _moment(a[:, :, None], np.swapaxes(a, -1, -2)[:, None], inner, slopes, g.transpose).sum(
                axis=0
            )
        return (total / self.draws).reshape(self.count**2, *total.shape[-2:])

    def _parts(self, numbers: int) -> Iterator[tuple[int, int]]:
        step = max(1, NUMBERS // (self.count**2 * numbers))
        return ((k, min(step, self.draws - k)) for k in range(0, self.draws, step))


def _scores(left: Array, right: Array, rng: np.random.Generator, draws: int) -> Array:
    """L_i w M_iᵀ, (draws, N, P, Q)."""
    w = rng.standard_normal((draws, left.shape[-1], right.shape[-1]))
    n = left.shape[-3]
    wide = left.reshape(*left.shape[:-3], -1, left.shape[-1]) @ w
    return wide.reshape(draws, n, -1, w.shape[-1]) @ np.swapaxes(right, -1, -2)


def _moment(a: Array, b: Array, c: Array, slopes: tuple[Array, Array] | None, transpose: bool) -> Array:
    """Σ a[p,q] C[q,t] b[t,r]; with slopes G, H the mean of the same with a (da − Σ a da) for a, over da.

    Args:
        a: weights of x, (.., P, Q).
        b: those of x', transposed.
        c: C; or D of Σ a[p,q] D[p,r] b[t,r] where ``transpose``.
        slopes: G over p and r, H over q and t: Cov(da[p,q], da'[r,t]) = G[p,r] H[q,t].
        transpose: see above.
    """
    up, low = np.swapaxes(a, -1, -2), np.swapaxes(b, -1, -2)
    if slopes is None:
        return up @ c @ low if transpose else a @ c @ b
    g, h = slopes
    if transpose:
        d = g * c
        return (
            h * (up @ d @ low) - up @ ((d @ low) * (a @ h)) - ((up @ d) * (h @ b)) @ low + up @ (d * (a @ h @ b)) @ low
        )
    return g * (a @ (h * c) @ b - ((a @ h) * (a @ c)) @ b - a @ ((h @ b) * (c @ b)) + (a @ h @ b) * (a @ c @ b))


def is_random(d: Derivation) -> bool:
    """Whether a kernel has averages over random scores."""
    return any(isinstance(g, (Mean, Contracted)) for g in reachable([d.poly]))


def is_drawn(d: Derivation, sizes: Iterable[Sizes]) -> bool:
    """Whether such averages are not exact at these sizes."""
    found = [g for g in reachable([d.poly]) if isinstance(g, (Mean, Contracted))]
    return any(isinstance(g, Mean) or not all(few(g, (n, n)) for n in sizes) for g in found)
