"""Exact derivatives of kernels by their hyperparameters: forward mode through the named equations.

The only rule that is not the chain rule is that of a Gaussian expectation V = E f(u), u ~ N(m, Σ).  Where f is smooth

    dV = Σ_i E[∂_i f] dm_i + ½ Σ_ij E[∂_i ∂_j f] dΣ_ij,

and where it has kinks or jumps, whose second derivatives would be integrals over Dirac masses, with Σ_ii = q_i,

    dV = Σ_i E[∂_i f] dm_i + Σ_i E[(u_i − m_i) ∂_i f] dq_i/(2 q_i) + Σ_{i<j} √(q_i q_j) E[∂_i ∂_j f] dρ_ij.

Where f is homogeneous of degree p in a centred u_i, as with relu (1) and step (0), E[u_i ∂_i f] = p V by Euler.

Near |ρ| = 1 a covariance has lost the angle θ, so that d(1 − |ρ|) is carried beside 1 − |ρ|, by the same code, on dual
numbers.

All derivatives by hyperparameters are finite.  E step(u)step(v) = (π − θ)/2π too, whose derivative by the inputs is
infinite at θ = 0, has a finite one: dθ = O(θ).  |ρ| = 1 is an extreme, so its derivative vanishes; so does that of a
variance σ² by σ = 0, where K may have a corner at σ = 0, as |σ|, or a jump, with step: 0 is the mean of both sides.
The NTK of functions with jumps is infinite at θ = 0 and refused.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar, monomial
from tensorprog.derivation.data import Inputs, read_inputs
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.exact import BLOCK_BYTES, products
from tensorprog.derivation.route import is_sampled
from tensorprog.errors import DataError, NoRuleError
from tensorprog.expectations.angles.gaps import NEAR, gap
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.expectations.bodies import kinks
from tensorprog.expectations.lawful import Lawful
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Abs, Fn, Relu, Sign, Step, evaluate
from tensorprog.ir.hyper import symbol_values
from tensorprog.kernels.kernel import Kernel
from tensorprog.learn.angles import DualGaps, resolved
from tensorprog.learn.duals import Dual, chain, inverse
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import evaluate_all, expected
from tensorprog.limit.gap import Gaps

Array = Any
Valued = Callable[[Poly], Dual]
HOMOGENEOUS: dict[type[Fn], int] = {Relu: 1, Abs: 1, Step: 0, Sign: 0}
LEVEL = 1e-8  # variances closer than this are set equal between jumps: an error of (difference)²/θ


def duals(polys: Sequence[Poly], values: Mapping[sp.Symbol, Array], by: Sequence[sp.Symbol], gaps: Gaps) -> list[Dual]:
    """Values of polynomials with their derivatives by the symbols ``by``.

    Raises:
        DataError: a symbol has no value, or a result is not finite.
    """
    nothing = (None,) * len(by)

    def leaf(g: Gen, value: Valued) -> Dual:
        if isinstance(g, Scalar):
            slopes = (sp.diff(g.symbol, s) for s in by)
            return Dual(evaluate(g.symbol, values), (evaluate(d, values) if d != 0 else None for d in slopes))
        if isinstance(g, Lawful):
            raise NoRuleError(f"{g} is an integral over weights that are not Gaussian; its derivatives are not derived")
        if isinstance(g, Expect):
            return _atom(g, value, gaps, len(by))
        assert isinstance(g, Apply)
        return _function(g, [value(a) for a in g.args], len(by))

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite is refused below
        results: list[Dual] = evaluate_all(polys, leaf, lambda c: Dual(float(c), nothing))
    for p, r in zip(polys, results, strict=True):
        if not all(np.all(np.isfinite(a)) for a in (r.value, *r.tangents) if a is not None):
            raise DataError(f"{p} or a derivative of it is not finite; check the scale of inputs and hyperparameters")
    return results


def _function(g: Apply, arguments: list[Dual], count: int) -> Dual:
    """A function of deterministic arguments."""
    lambda_ = isinstance(g.fn, sp.Lambda)
    us = g.fn.variables if lambda_ else variables(1)
    body = g.fn.expr if lambda_ else g.fn(us[0])
    at = dict(zip(us, (a.value for a in arguments), strict=True))
    parts = [(evaluate(sp.diff(body, u), at), a) for u, a in zip(us, arguments, strict=True) if a.moves]
    return chain(evaluate(body, at), count, parts)


# ---- expectations --------------------------------------------------------------------------------


class Atom:
    """An expectation with the laws of its variables as dual numbers."""

    def __init__(self, g: Expect, value: Valued, t: Dual | None) -> None:
        k = range(len(g.mean))
        self.g, self.gap = g, t
        self.cov = {(i, j): value(g.entry(i, j)) for i in k for j in k if i <= j}
        self.mean = [value(m) for m in g.mean]
        self.scalars = {s: value(monomial(h)) for s, h in g.scalars.items()}
        self.value = expected(g, lambda p: value(p).value, None if t is None else t.value).value

    def mean_of(self, body: sp.Expr, where: Array | None = None, level: bool = False) -> Array:
        """E body; 0 but ``where``; of variances set equal where they nearly are, if ``level``."""
        k = range(len(self.mean))
        columns = [*(self._level() if level else [d.value for d in self.cov.values()])]
        columns += [d.value for d in (*self.mean, *self.scalars.values())]
        columns += [] if self.gap is None else [self.gap.value]
        if where is not None:
            where, *columns = np.broadcast_arrays(where, *columns)
            columns = [c[where] for c in columns]
        if body == 0 or (where is not None and not where.any()):
            return 0.0
        entries = iter(columns)
        cov = {key: next(entries) for key in self.cov}
        mean, at = [next(entries) for _ in k], {s: next(entries) for s in self.scalars}
        numbers = [[cov[min(i, j), max(i, j)] for j in k] for i in k]
        centre = mean if any(self.g.mean) else None
        found = expectation(body, self.g.variables, numbers, centre, at, gap=next(entries, None)).value
        if where is None:
            return found
        result = np.zeros(where.shape)
        result[where] = found
        return result

    def _level(self) -> list[Array]:
        """Covariances, q1 = q2 where both that and ρ = 1 are nearly so: jumps in u1 and u2 then meet, if they do."""
        values = [d.value for d in self.cov.values()]
        if self.gap is None:
            return values
        (q1, c, q2), t = values, self.gap.value
        close, q = (t < NEAR) & (np.abs(q1 - q2) <= LEVEL * q2), np.sqrt(q1) * np.sqrt(q2)
        return [np.where(close, new, old) for new, old in ((q, q1), (np.copysign(q * (1 - t), c), c), (q, q2))]

    def correlation(self, i: int, j: int) -> tuple[Any, Array]:
        """ρ_ij, and where it can move."""
        q1, q2, c = self.cov[i, i], self.cov[j, j], self.cov[i, j]
        t: Any = resolved(gap(q1, q2, c)) if self.gap is None else self.gap
        rho = c * _inverse_root(q1) * _inverse_root(q2)
        near = np.where(c >= 0, 1 - t, t - 1)
        return np.where(t < NEAR, near, rho), (t > 0) & (q1 > 0) & (q2 > 0)


def _inverse_root(q: Dual) -> Dual:
    root = inverse(np.sqrt(q.value))
    return chain(root, len(q.tangents), [(-0.5 * root**3, q)])


def _atom(g: Expect, value: Valued, gaps: Gaps, count: int) -> Dual:
    atom, us = Atom(g, value, gaps(g, value)), g.variables
    parts = [(atom.mean_of(sp.diff(g.body, u)), m) for u, m in zip(us, atom.mean, strict=True) if m.moves]
    parts += [(atom.mean_of(sp.diff(g.body, s)), d) for s, d in atom.scalars.items() if d.moves]
    parts += (_by_scale if kinks(g.body, us) else _by_covariance)(atom)
    return chain(atom.value, count, parts)


def _by_covariance(atom: Atom) -> list[tuple[Array, Dual]]:
    """½ E[∂_i ∂_j f] for dΣ_ij."""
    body, us = atom.g.body, atom.g.variables
    return [((0.5 if i == j else 1.0) * atom.mean_of(sp.diff(body, us[i], us[j])), d)
            for (i, j), d in atom.cov.items() if d.moves]  # fmt: skip


def _by_scale(atom: Atom) -> list[tuple[Array, Dual]]:
    """E[(u_i − m_i) ∂_i f]/(2 q_i) for dq_i, and √(q_i q_j) E[∂_i ∂_j f] for dρ_ij."""
    body, us, cov = atom.g.body, atom.g.variables, atom.cov
    parts = []
    for i, u in enumerate(us):
        q = cov[i, i]
        p = None if atom.g.mean[i] else degree(body, u)
        if q.moves and p != 0:
            slope = p * atom.value if p else _radial(atom, i)
            parts.append((slope * inverse(q.value) / 2, q))
    for i, j in combinations(range(len(us)), 2):
        rho, free = atom.correlation(i, j)
        if rho.moves:
            size = np.sqrt(cov[i, i].value) * np.sqrt(cov[j, j].value)
            parts.append((size * atom.mean_of(sp.diff(body, us[i], us[j]), free), rho))
    return parts


def _radial(atom: Atom, i: int) -> Array:
    """E[(u_i − m_i) ∂_i f]."""
    u, free = atom.g.variables[i], atom.cov[i, i].value > 0
    slope = sp.diff(atom.g.body, u)
    moment = atom.mean_of(u * slope, free, level=True)
    return moment - atom.mean[i].value * atom.mean_of(slope, free, level=True) if atom.g.mean[i] else moment


def degree(body: sp.Expr, u: sp.Symbol) -> int | None:
    """The p with u ∂f/∂u = p f almost everywhere; None where no rule gives one.

    >>> u = sp.Symbol("u")
    >>> degree(u * Relu(u) ** 2 * Step(u), u), degree(Relu(u - 1), u)
    (3, None)
    """
    total = 0
    for factor in sp.Mul.make_args(body):
        if not factor.has(u):
            continue
        base, power = factor.as_base_exp()
        own = 1 if base == u else HOMOGENEOUS.get(type(base)) if base.args == (u,) else None
        if own is None or not power.is_Integer or power < 0:
            return None
        total += own * int(power)
    return total


# ---- Gram matrices -------------------------------------------------------------------------------


def gram_with_gradient(
    kernel: Kernel, X: Any, by: Sequence[sp.Symbol], values: Mapping[Any, Any]
) -> tuple[np.ndarray, np.ndarray]:
    """K(X, X) and its derivatives by hyperparameters.

    Args:
        kernel: the kernel of a network with symbols among its hyperparameters.
        X: inputs, as for ``kernel(X)``.
        by: P symbols.
        values: numbers for all symbols.

    Returns:
        K, (N, N), and ∂K/∂s, (N, N, P).

    Raises:
        NoRuleError: derivatives of a kernel that is sampled.

    >>> import tensorprog as tp
    >>> s = sp.Symbol("s", positive=True)
    >>> K = tp.nngp(tp.programs.mlp(depth=1, sigma_w=s))
    >>> value, slope = gram_with_gradient(K, [[1.0]], [s], {s: 3.0})
    >>> value, slope  # s²/2 and s
    (array([[4.5]]), array([[[3.]]]))
    """
    inputs = read_inputs(X, "X", kernel.net.form)
    hyper = symbol_values(values, lambda: kernel.net.symbols)
    if is_sampled(kernel, inputs, None, hyper):
        return _sampled(kernel, inputs, by, hyper)
    result = np.zeros((1 + len(by), len(inputs), len(inputs)))
    for t1, rows in inputs.groups.items():
        for t2, columns in inputs.groups.items():
            if (t1 or 0) <= (t2 or 0):
                block = _block(kernel._derive((t1, t2)), inputs.data[t1], inputs.data[t2], hyper, by)
                result[:, rows[:, None], columns] = block
                if t1 != t2:
                    result[:, columns[:, None], rows] = np.swapaxes(block, 1, 2)
    result = np.tril(result) + np.swapaxes(np.tril(result, -1), 1, 2)
    for position, row in enumerate(_diagonals(kernel, inputs, hyper, by)):
        np.fill_diagonal(result[position], row)
    return result[0], np.moveaxis(result[1:], 0, -1)


def _sampled(kernel: Kernel, inputs: Inputs, by: Sequence[sp.Symbol], hyper: Any) -> tuple[np.ndarray, np.ndarray]:
    if by:
        raise NoRuleError(
            f"{kernel!r} is sampled and has no derivatives by {', '.join(map(str, by))}; fix these, with "
            "ranges='fixed' or optimizer=None, or insist on expectations with method='backprop' ('forward' of an NNGP)"
        )
    value = kernel._found(inputs, None, hyper).value
    return value, np.zeros((*value.shape, 0))


def diagonal(kernel: Kernel, X: Any, values: Mapping[Any, Any]) -> np.ndarray:
    """K(x, x) of every input, (N,)."""
    inputs = read_inputs(X, "X", kernel.net.form)
    hyper = symbol_values(values, lambda: kernel.net.symbols)
    if is_sampled(kernel, inputs, None, hyper):
        return kernel._found(inputs, None, hyper).value.diagonal()
    return _diagonals(kernel, inputs, hyper, ())[0]  # type: ignore[no-any-return]


def _diagonals(kernel: Kernel, inputs: Inputs, hyper: Any, by: Sequence[sp.Symbol]) -> np.ndarray:
    result = np.zeros((1 + len(by), len(inputs)))
    for t, rows in inputs.groups.items():
        d = kernel._derive((t, t), same=True)
        result[:, rows] = _stack(_dual(d, (inputs.data[t],), hyper, by), (len(rows),))
    return result


def _block(d: Derivation, a: np.ndarray, b: np.ndarray, hyper: Any, by: Sequence[sp.Symbol]) -> np.ndarray:
    size = max(1, int(BLOCK_BYTES / (8 * len(b) * (1 + len(by)) * (1 + len(reachable([d.poly]))))))
    sides = ((a[start : start + size, None], b[None]) for start in range(0, len(a), size))
    return np.concatenate([_stack(_dual(d, s, hyper, by), (len(s[0]), len(b))) for s in sides], axis=1)


def _dual(d: Derivation, sides: Sequence[np.ndarray], hyper: Any, by: Sequence[sp.Symbol]) -> Dual:
    grams, data = products(d, sides)
    return duals([d.poly], {**hyper, **grams}, by, DualGaps(d.limit.structure, data))[0]


def _stack(d: Dual, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.broadcast_to(0.0 if a is None else a, shape) for a in (d.value, *d.tangents)])
