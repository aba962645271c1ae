"""Exact derivatives of kernels by their hyperparameters: forward mode through the named equations.

The only rule that is not the chain rule is that of a Gaussian expectation V = E f(u), u ~ N(m, Σ):

    dV = Σ_i E[∂_i f] dm_i + ½ Σ_ij E[∂_i ∂_j f] dΣ_ij.

Where f is homogeneous of degree p in u_i, as with relu (1) and step (0), ½ E[∂_i² f] would be an integral over a Dirac
mass, singular where |ρ| = 1; Euler's relation u_i ∂_i f = p f gives for two centred variables instead

    dV = Σ_i p_i V/(2 q_i) dq_i + E[∂_1 ∂_2 f] (dc − c dq_1/(2 q_1) − c dq_2/(2 q_2)),

whose bracket is √(q_1 q_2) dρ.  A variance of 0 and |ρ| = 1 are extremes, so their derivatives vanish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Apply, Gen, Poly, Scalar
from tensorprog.errors import DataError
from tensorprog.expectations.atoms import Expect, variables
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Abs, Fn, Relu, Sign, Step, evaluate
from tensorprog.kernels.data import Inputs, read_inputs, symbol_values
from tensorprog.kernels.gram import between, own
from tensorprog.kernels.kernel import BLOCK_BYTES, Derivation, Kernel, grams_of
from tensorprog.limit.equations import reachable
from tensorprog.limit.evaluate import evaluate_all

Array = Any
HOMOGENEOUS: dict[type[Fn], int] = {Relu: 1, Abs: 1, Step: 0, Sign: 0}
TOGETHER = 4 * np.finfo(float).eps  # 1 − ρ² below this counts as |ρ| = 1


@dataclass(frozen=True)
class Dual:
    """A value with its derivatives; None for a derivative that is 0."""

    value: Array
    tangents: tuple[Array | None, ...]

    def __add__(self, other: Dual) -> Dual:
        pairs = zip(self.tangents, other.tangents, strict=True)
        return Dual(self.value + other.value, tuple(_plus(a, b) for a, b in pairs))

    def __mul__(self, other: Dual) -> Dual:
        pairs = zip(self.tangents, other.tangents, strict=True)
        mixed = (_plus(_scaled(a, other.value), _scaled(b, self.value)) for a, b in pairs)
        return Dual(self.value * other.value, tuple(mixed))

    def __pow__(self, n: int) -> Dual:
        slope = n * self.value ** (n - 1)
        return Dual(self.value**n, tuple(_scaled(t, slope) for t in self.tangents))


def _plus(a: Array | None, b: Array | None) -> Array | None:
    return b if a is None else a if b is None else a + b


def _scaled(tangent: Array | None, factor: Array) -> Array | None:
    return None if tangent is None else tangent * factor


def _chain(value: Array, count: int, parts: Sequence[tuple[Array, Dual]]) -> Dual:
    """The Dual of a function with these partial derivatives."""
    tangents: list[Array | None] = [None] * count
    for partial, argument in parts:
        tangents = [_plus(t, _scaled(a, partial)) for t, a in zip(tangents, argument.tangents, strict=True)]
    return Dual(value, tuple(tangents))


def duals(polys: Sequence[Poly], values: Mapping[sp.Symbol, Array], by: Sequence[sp.Symbol]) -> list[Dual]:
    """Values of polynomials with their derivatives by the symbols ``by``.

    Raises:
        DataError: a symbol has no value, or a result is not finite.
    """
    nothing = (None,) * len(by)

    def leaf(g: Gen, value: Any) -> Dual:
        if isinstance(g, Scalar):
            slopes = (sp.diff(g.symbol, s) for s in by)
            return Dual(evaluate(g.symbol, values), tuple(evaluate(d, values) if d != 0 else None for d in slopes))
        if isinstance(g, Expect):
            return _atom(g, value, len(by))
        assert isinstance(g, Apply)
        return _function(g, [value(a) for a in g.args], len(by))

    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is refused below
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
    parts = [(evaluate(sp.diff(body, u), at), a) for u, a in zip(us, arguments, strict=True) if _moves(a)]
    return _chain(evaluate(body, at), count, parts)


def _moves(a: Dual) -> bool:
    return any(t is not None for t in a.tangents)


# ---- expectations --------------------------------------------------------------------------------


def _atom(g: Expect, value: Any, count: int) -> Dual:
    k, us = len(g.mean), g.variables
    cov = {(i, j): value(g.entry(i, j)) for i, j in combinations_with_replacement(range(k), 2)}
    mean = [value(m) for m in g.mean]
    scalars = {s: value(Poly({((h, 1),): 1})) for s, h in g.scalars.items()}
    numbers = [[cov[min(i, j), max(i, j)].value for j in range(k)] for i in range(k)]
    centre = [m.value for m in mean] if any(g.mean) else None
    at = {s: d.value for s, d in scalars.items()}

    def mean_of(body: sp.Expr) -> Array:
        return expectation(body, us, numbers, centre, at).value if body != 0 else 0.0

    total = mean_of(g.body)
    if k <= 2 and centre is None and not any(map(_moves, scalars.values())):
        degrees = [degree(g.body, u) for u in us]
        if all(p is not None for p in degrees):
            return _homogeneous(g.body, us, cov, total, degrees, at, count)  # type: ignore[arg-type]
    parts = [(mean_of(sp.diff(g.body, u)), m) for u, m in zip(us, mean, strict=True) if _moves(m)]
    parts += [(mean_of(sp.diff(g.body, s)), d) for s, d in scalars.items() if _moves(d)]
    for (i, j), entry in cov.items():
        if _moves(entry):
            parts.append(((0.5 if i == j else 1.0) * mean_of(sp.diff(g.body, us[i], us[j])), entry))
    return _chain(total, count, parts)


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


def _homogeneous(
    body: sp.Expr, us: tuple[sp.Symbol, ...], cov: Mapping[tuple[int, int], Dual], total: Array, degrees: list[int],
    scalars: Mapping[sp.Symbol, Array], count: int,
) -> Dual:  # fmt: skip
    """The rule for one or two centred variables in each of which the body is homogeneous."""
    q = [cov[i, i] for i in range(len(us))]
    half = [0.5 * _inverse(d.value) for d in q]
    parts = [(p * total * h, d) for p, h, d in zip(degrees, half, q, strict=True) if p and _moves(d)]
    if len(us) == 2:
        c = cov[0, 1]
        slope = _cross(sp.diff(body, *us), us, q[0].value, q[1].value, c.value, scalars)
        parts.append((slope, c))
        parts += [(-slope * c.value * h, d) for h, d in zip(half, q, strict=True)]
    return _chain(total, count, parts)


def _inverse(q: Array) -> Array:
    return np.where(np.asarray(q) > 0, 1 / np.where(np.asarray(q) > 0, q, 1.0), 0.0)


def _cross(body: sp.Expr, us: tuple[sp.Symbol, ...], q1: Array, q2: Array, c: Array, scalars: Any) -> Array:
    """E body where |ρ| < 1, and 0 where the correlation cannot move."""
    a, b, x, *rest = np.broadcast_arrays(q1, q2, c, *scalars.values())
    free = a * b - x**2 > TOGETHER * a * b
    result = np.zeros(free.shape)
    if body != 0 and free.any():
        some = [[a[free], x[free]], [x[free], b[free]]]
        at = {s: r[free] for s, r in zip(scalars, rest, strict=True)}
        result[free] = expectation(body, us, some, None, at).value
    return result


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

    >>> import tensorprog as tp
    >>> s = sp.Symbol("s", positive=True)
    >>> K = tp.nngp(tp.programs.mlp(depth=1, sigma_w=s))
    >>> value, slope = gram_with_gradient(K, [[1.0]], [s], {s: 3.0})
    >>> value, slope  # s²/2 and s
    (array([[4.5]]), array([[[3.]]]))
    """
    inputs = read_inputs(X, "X", kernel.net.takes_sequences)
    hyper = symbol_values(values)
    result = np.zeros((1 + len(by), len(inputs), len(inputs)))
    for t1, rows in inputs.groups.items():
        for t2, columns in inputs.groups.items():
            if (t1 or 0) <= (t2 or 0):
                block = _block(kernel.derive((t1, t2)), inputs.data[t1], inputs.data[t2], hyper, by)
                result[:, rows[:, None], columns] = block
                result[:, columns[:, None], rows] = np.swapaxes(block, 1, 2)
    result = np.tril(result) + np.swapaxes(np.tril(result, -1), 1, 2)
    for position, row in enumerate(_diagonals(kernel, inputs, hyper, by)):
        np.fill_diagonal(result[position], row)
    return result[0], np.moveaxis(result[1:], 0, -1)


def diagonal(kernel: Kernel, X: Any, values: Mapping[Any, Any]) -> np.ndarray:
    """K(x, x) of every input, (N,)."""
    inputs = read_inputs(X, "X", kernel.net.takes_sequences)
    return _diagonals(kernel, inputs, symbol_values(values), ())[0]  # type: ignore[no-any-return]


def _diagonals(kernel: Kernel, inputs: Inputs, hyper: Any, by: Sequence[sp.Symbol]) -> np.ndarray:
    result = np.zeros((1 + len(by), len(inputs)))
    for t, rows in inputs.groups.items():
        d = kernel.derive((t, t), same=True)
        grams = {s: own(inputs.data[t], p, q) for s, (p, q) in grams_of(d).items()}
        result[:, rows] = _stack(duals([d.poly], {**hyper, **grams}, by)[0], (len(rows),))
    return result


def _block(d: Derivation, a: np.ndarray, b: np.ndarray, hyper: Any, by: Sequence[sp.Symbol]) -> np.ndarray:
    needed, parts = grams_of(d), []
    size = max(1, int(BLOCK_BYTES / (8 * len(b) * (1 + len(by)) * (1 + len(reachable([d.poly]))))))
    for start in range(0, len(a), size):
        side = a[start : start + size], b
        grams = {s: between(side, x, y) for s, (x, y) in needed.items()}
        parts.append(_stack(duals([d.poly], {**hyper, **grams}, by)[0], (len(side[0]), len(b))))
    return np.concatenate(parts, axis=1)


def _stack(d: Dual, shape: tuple[int, ...]) -> np.ndarray:
    return np.stack([np.broadcast_to(0.0 if a is None else a, shape) for a in (d.value, *d.tangents)])
