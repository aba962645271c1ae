"""E φ(u)ψ(v) of smooth functions with straight ends, such as tanh or softplus, at any variance and correlation.

φ = A + r where A has the ends of φ and a closed form, and r is localised: the trapezoid rule covers the support of r
only, however wide the Gaussian is, and nothing becomes steep as |ρ| → 1.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.closed.soft import Soft, soft_pair
from tensorprog.expectations.series.heat import PANELS, SIGMAS, flow
from tensorprog.expectations.series.mehler import Split
from tensorprog.functions import Fn, X, evaluate

Array = Any
EPS = float(np.finfo(float).eps)
REACHES = tuple(float(r) for r in range(8, 64, 2))
STEPS = (0.4, 0.28, 0.2, 0.14, 0.1)  # of the rule, in the unit of x or in standard deviations
BLOCK = 1 << 20  # values held together
ROWS = 1024  # entries summed together with a table
TABLED = 24  # pairs from which a table pays off
FINEST = 5  # how often the lattice of a table may be halved for a small slope


@dataclass(frozen=True)
class Local:
    """φ = soft + r, where r(x) is negligible for |x| > reach; STEPS[start] is the first step worth trying."""

    function: sp.Expr
    soft: Soft
    reach: float
    start: int = 0

    def rest(self, x: Array) -> Array:
        """r(x)."""
        if not (self.soft.g or self.soft.d or self.soft.a or self.soft.b):
            return np.where(np.abs(x) <= self.reach, evaluate(self.function, {X: x}), 0.0)
        value = np.broadcast_to(evaluate(self.function, {X: x}), np.shape(x)) - self.soft(x)
        return np.where(np.abs(x) <= self.reach, value, 0.0)


@lru_cache(maxsize=256)
def localised(function: sp.Expr, u: sp.Symbol) -> Local | None:
    """The decomposition of a product of table functions with straight ends, or None.

    >>> from tensorprog.functions import Tanh
    >>> localised(X * Tanh(X), X).soft, localised(Tanh(X), X).reach
    (Soft(a=0.0, b=0.0, g=0.0, d=1.0, t=0.5), 20.0)
    """
    function = function.subs(u, X)
    ends = [sp.expand(function.replace(lambda e: isinstance(e, Fn), lambda e, side=side: _end(e, side)))
            for side in (0, 1)]  # fmt: skip
    if any(e.free_symbols - {X} or not e.is_polynomial(X) or sp.degree(e, X) > 1 for e in ends):
        return None
    (b0, a0), (b1, a1) = ((float(e.coeff(X, 1)), float(e.coeff(X, 0))) for e in ends)
    soft = Soft((a0 + a1) / 2, (b0 + b1) / 2, (a1 - a0) / 2, (b1 - b0) / 2, 0.5)
    for reach in REACHES:
        local = Local(function, soft, reach)
        middle, rim = (np.abs(local.rest(x)) for x in (np.linspace(-4, 4, 65), reach * np.array([-1, -0.9, 0.9, 1])))
        if np.all(rim <= 1e-15 * middle.max() * reach):
            return replace(local, start=_first_step(local))
    return None


def _first_step(local: Local) -> int:
    """The first step at which the sum of r² agrees with that of double step to 1e-9, so that theirs to 1e-13 do."""
    for number, step in enumerate(STEPS):
        half = int(local.reach / step / 2)
        f = local.rest(step * np.arange(-2 * half, 2 * half + 1)) ** 2
        if abs(f.sum() - 2 * f[::2].sum()) <= 1e-9 * f.sum():
            return number
    return len(STEPS) - 1


def _end(f: Fn, side: int) -> sp.Expr:
    """The line that a table function approaches on one side; NaN, which is no polynomial, if it declares none."""
    if not f.family.ends:
        return sp.Symbol("none")
    return sp.diff(f.family.ends[side], X, f.order).subs(X, f.args[0])


def local_pair(parts: Split, q1: Array, q2: Array, c: Array, det: Array, rtol: float) -> tuple[Array, Array] | None:
    """E φ(u)ψ(v) with a bound, for flat arrays of zero-mean covariances, or None where an end is not straight.

    E φψ = E A A + E r A + E A r + E r r: closed; two trapezoid sums over the support of an r, of the conditional
    expectation of the A; and one over both supports.

    Args:
        parts: φ, ψ and their variables.
        q1, q2: variances > 0, (N,).
        c, det: covariance and q1 q2 - c², (N,).
        rtol: error that is small enough, relative to √(E φ² E ψ²)'s size.

    Returns:
        (value, error) of shape (N,).  The rule's error is the power 3/2 of the difference to the rule of double step,
        which the trapezoid rule squares.

    Reference: L. N. Trefethen, J. A. C. Weideman, The exponentially convergent trapezoidal rule, SIAM Review 2014.
    """
    first, second = localised(parts.first, parts.u), localised(parts.second, parts.v)
    if first is None or second is None:
        return None
    base, scale = soft_pair(first.soft, second.soft, q1, q2, c, det), first.soft.size(q1) * second.soft.size(q2)
    value, error = base.copy(), 4 * EPS * scale
    for own, other, law in ((first, second, (q1, c, det)), (second, first, (q2, c, det))):
        one, bound = _refined(_single, own, other, law, rtol)
        value, error = value + one, error + bound
    swap = q2 > q1
    for some, (own, other), wider, less in ((~swap, (first, second), q1, q2), (swap, (second, first), q2, q1)):
        rows = np.flatnonzero(some)
        done = np.zeros(len(rows), bool)
        if len(rows) >= TABLED:
            found, bound, done = _tabled(other, own, tuple(a[rows] for a in (less, c, det)), scale[rows], rtol)
            value[rows[done]] += found[done]
            error[rows[done]] += bound[done]
        rows = rows[~done]
        found, bound = _refined(_double, own, other, tuple(a[rows] for a in (wider, c, det)), rtol)
        value[rows] += found
        error[rows] += bound
    return value, error


def _tabled(own: Local, other: Local, law: tuple[Array, ...], scale: Array, rtol: float) -> tuple[Array, Array, Array]:
    """E r(u) r(v), q1 ≤ q2, by the tables of E[r(v) | u]; the last array tells which entries are good enough."""
    q1, c, det = law
    slope, variance, step = c / q1, det / q1, STEPS[max(own.start, other.start)]
    sums, spread = np.full((3, len(q1)), np.nan), np.zeros(len(q1))
    halved = np.maximum(0, np.ceil(np.log2(0.7 / np.maximum(np.abs(slope), 1e-9)))).astype(int)
    usable = (halved <= FINEST) & (variance < PANELS[-1])
    panel = np.searchsorted(PANELS, variance, side="right") - 1
    for number, half in sorted(set(zip(panel[usable].tolist(), halved[usable].tolist(), strict=True))):
        chosen = np.flatnonzero(usable & (panel == number) & (halved == half))
        chosen, fine = chosen[np.argsort(np.abs(slope[chosen]))], step / 2**half
        for start in range(0, len(chosen), ROWS):
            rows = chosen[start : start + ROWS]
            most = int(np.ceil(own.reach * np.abs(slope[rows]).max() / fine))
            inner, error = flow(other, fine, number, variance[rows], most)
            count = inner.shape[1] // 2
            x = fine * np.arange(-count, count + 1) / slope[rows, None]
            weight = fine / np.abs(slope[rows, None]) / np.sqrt(2 * np.pi * q1[rows, None])
            f = own.rest(x) * np.exp(-(x**2) / (2 * q1[rows, None])) * weight
            g = f * inner
            sums[:, rows] = g.sum(1), 2 * g[:, ::2].sum(1), np.abs(g).sum(1)
            spread[rows] = error * np.abs(f).sum(1)
    bound = _bound(*sums) + spread
    return sums[0], bound, bound <= rtol / 2 * (sums[2] + scale)


def _refined(rule: Any, own: Local, other: Local, law: tuple[Array, ...], rtol: float) -> tuple[Array, Array]:
    """Halve the steps until the bound is small, entry by entry."""
    count = len(law[0])
    value, error, active = np.zeros(count), np.full(count, np.inf), np.arange(count)
    for step in STEPS[max(own.start, other.start) :] if count else ():
        fine, coarse, size = rule(own, other, tuple(a[active] for a in law), step)
        bound = _bound(fine, coarse, size)
        value[active], error[active] = fine, bound
        active = active[~(bound <= _allowed(size, rtol))]
        if not len(active):
            break
    return value, error


def _bound(fine: Array, coarse: Array, size: Array) -> Array:
    gap = np.abs(fine - coarse)
    with np.errstate(all="ignore"):
        return np.where(gap > 0, gap * np.sqrt(gap / size), 0.0) + 32 * EPS * size


def _allowed(size: Array, rtol: float) -> Array:
    return np.maximum(rtol / 8, 64 * EPS) * size + 1e-300


def _nodes(reach: Array, step: Array) -> list[tuple[Array, Array]]:
    """Groups of entries and their nodes x = step k, |x| ≤ reach, (n, 2M + 1), M even."""
    most = np.maximum(2, 2 * np.ceil(reach / step / 2)).astype(int)
    level = np.ceil(np.log2(most) * 2).astype(int)
    groups = []
    for number in np.unique(level):
        rows = np.flatnonzero(level == number)
        k = np.arange(-most[rows].max(), most[rows].max() + 1)
        width = max(1, BLOCK // len(k))
        groups += [(part, step[part, None] * k) for part in np.split(rows, range(width, len(rows), width))]
    return groups


def _single(own: Local, other: Local, law: tuple[Array, ...], step: float) -> tuple[Array, Array, Array]:
    """E r(u) A(v): sums of a step and of its double, and E |r(u) A(v)|."""
    q1, c, det = law
    slope, variance = c / q1, det / q1
    width = np.sqrt(1 + variance / other.soft.t)
    h = step * np.minimum(1.0, np.minimum(np.sqrt(q1), 1 / np.maximum(np.abs(slope) / width, 1e-300)))
    out = np.empty((3, len(q1)))
    for rows, x in _nodes(np.minimum(own.reach, SIGMAS * np.sqrt(q1)), h):
        weight = h[rows, None] * np.exp(-(x**2) / (2 * q1[rows, None])) / np.sqrt(2 * np.pi * q1[rows, None])
        inner = other.soft.given(slope[rows, None] * x, variance[rows, None])
        f = weight * own.rest(x) * inner
        out[:, rows] = f.sum(1), 2 * f[:, ::2].sum(1), np.abs(f).sum(1)
    return out[0], out[1], out[2]


def _double(own: Local, other: Local, law: tuple[Array, ...], step: float) -> tuple[Array, Array, Array]:
    """E r(u) r(v), the inner integral over z in v = (c/q1) u + σ z: on a lattice of v where σ is not small."""
    q1, c, det = law
    slope, sigma = c / q1, np.sqrt(det / q1)
    h = step * np.minimum(1.0, np.minimum(np.sqrt(q1), 1 / np.maximum(np.abs(slope), 1e-300)))
    reach = np.minimum(own.reach, SIGMAS * np.sqrt(q1))
    out = np.empty((3, len(q1)))
    wide = sigma >= 1.0
    for kind in (True, False):
        chosen = np.flatnonzero(wide == kind)
        for part, x in _nodes(reach[chosen], h[chosen]):
            rows = chosen[part]
            weight = h[rows, None] * np.exp(-(x**2) / (2 * q1[rows, None])) / np.sqrt(2 * np.pi * q1[rows, None])
            f = weight * own.rest(x)
            inner = _on_lattice if kind else _on_normals
            for block in _cut(rows, x.shape[1]):
                fine, coarse, size = inner(other, slope[rows[block], None] * x[block], sigma[rows[block], None], step)
                g = f[block]
                out[:, rows[block]] = (g * fine).sum(1), 2 * (g * coarse)[:, ::2].sum(1), (np.abs(g) * size).sum(1)
    return out[0], out[1], out[2]


def _cut(rows: Array, nodes: int) -> list[slice]:
    width = max(1, BLOCK // (200 * nodes))
    return [slice(start, start + width) for start in range(0, len(rows), width)]


def _on_lattice(other: Local, mean: Array, sigma: Array, step: float) -> tuple[Array, Array, Array]:
    """E r(mean + σ z) over the lattice of v, whose spacing σ ≥ 1 allows."""
    count = 2 * int(np.ceil(other.reach / step / 2))
    y = step * np.arange(-count, count + 1)
    r = other.rest(y) * step / np.sqrt(2 * np.pi)
    density = (y - mean[..., None]) / sigma[..., None]
    density *= -0.5 * density
    np.exp(density, out=density)
    return density @ r / sigma, 2 * (density[..., ::2] @ r[::2]) / sigma, density @ np.abs(r) / sigma


def _on_normals(other: Local, mean: Array, sigma: Array, step: float) -> tuple[Array, Array, Array]:
    """E r(mean + σ z) over a lattice of z, for σ ≤ 1."""
    width = min(0.4, step / max(float(sigma.max()), 1e-300))
    count = 2 * int(np.ceil(SIGMAS / width / 2))
    z = width * np.arange(-count, count + 1)
    weight = width * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi)
    r = other.rest(mean[..., None] + sigma[..., None] * z)
    return r @ weight, 2 * (r[..., ::2] @ weight[::2]), np.abs(r) @ weight
