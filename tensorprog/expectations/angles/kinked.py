"""The angle of F(z1) and F(z2) for continuous F with kinks, from the angle of z1 and z2.

With G_i(x) = F(s_i x)/|F(s_i x)| and unit Gaussians x, y of angle θ, 1 - E G1(x)G2(y) is the sum of a radial and of an
angular part, both nonnegative where z1 and z2 are close, so that neither cancels:

    1 - ρ' = E (G1(x) - G2(x))²/2 + ∫_0^θ sin t · E G1'(x)G2'(x cos t + y sin t) dt.

Reference: R. Price, IRE Trans. Inf. Theory 4 (1958) 69, dE f(x)g(y)/dρ = E f'(x)g'(y), for the second.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import AccuracyError, NoRuleError
from tensorprog.expectations.angles.gaps import CLOSE, Relation
from tensorprog.expectations.bodies import affine, kinks, parity
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.functions import Fn, evaluate, has_deltas, is_delta

Array = Any
REACH = 12.0  # standard deviations
GRID = np.linspace(-REACH, REACH, 9)
AROUND = np.array([-32.0, -8.0, -2.0, -0.5, 0.0, 0.5, 2.0, 8.0, 32.0])  # where panels end around a kink, in units of z
AGREE = 1e-11  # how far two orders of the radial rule may differ, relative to E F²
CHUNK = 256
Body = tuple[sp.Expr, sp.Expr, sp.Symbol]  # F, F' and their variable


def kinked_relation(body: sp.Expr, u: sp.Symbol, q1: Array, q2: Array, r: Relation) -> Relation | None:
    """The relation of F(z1) and F(z2); arguments as in ``gaps.function_relation``.

    Returns:
        The relation, or None where F jumps, has kinks in no finite number of known points, or grows too fast.

    >>> from tensorprog.functions import HardTanh
    >>> u, one = sp.Symbol("u"), np.ones(1)
    >>> found = kinked_relation(HardTanh(u), u, one, one, Relation(1e-20 * one, 2 * one, 0 * one))
    >>> bool(1.2e-20 < found.minus[0] < 1.4e-20)  # 1e-20 E φ'²/E φ²
    True
    """
    slope, points = sp.diff(body, u), _points(body, u)
    jumps = any(is_delta(type(f)) or has_deltas(type(f)) for f in slope.atoms(Fn))
    if points is None or jumps:
        return None
    sign, constant = parity(body, (u,)), (q1 == 0) | (q2 == 0)  # F at 0, which no angle changes
    turning = Relation(*(np.where(constant, alike, own) for alike, own in zip((0.0, 2.0, 0.0), r, strict=True)))
    turned = (turning.minus > turning.plus) & (sign == 0)  # then G2(-x) takes the place of G2(x)
    found = [np.empty_like(r.minus) for _ in range(2)]
    for start in range(0, len(r.minus), CHUNK):
        rows = slice(start, start + CHUNK)
        side = np.where(turned[rows], -1.0, 1.0)
        radial = _radial((body, slope, u), points, np.sqrt(q1[rows]), np.sqrt(q2[rows]), r.stretch[rows], side)
        angular = None if radial is None else _angular(slope, u, q1[rows], q2[rows], turning, rows, side)
        if radial is None or angular is None:
            return None
        turned_by = np.divide(angular, radial[2], out=np.zeros_like(angular), where=radial[2] > 0)
        found[0][rows], found[1][rows] = radial[0] + turned_by, radial[1]
    small, stretched = found
    other = 2 - small
    swap = (sign == -1) & (turning.minus > turning.plus)
    return Relation(np.where(swap, other, small), np.where(swap, small, other), stretched)


def _points(body: sp.Expr, u: sp.Symbol) -> Array | None:
    """Where F has kinks, or None where that is not a list of numbers."""
    lines = [affine(e, (u,)) for e in kinks(body, (u,))]
    if not lines or not all(a and a[0].is_number and b.is_number for a, b in lines):
        return None
    return np.array([float(-b / a[0]) for a, b in lines])


def _radial(f: Body, points: Array, s1: Array, s2: Array, e: Array, side: Array) -> tuple[Array, Array, Array] | None:
    """E (G1 - G2)²/2, |F1|/|F2| - 1 and |F1||F2|; None where the panels do not resolve F."""
    results = [_radial_by(f, points, s1, s2, e, side, order) for order in (12, 20)]
    coarse, fine = results
    if not np.all(np.abs(coarse[2] - fine[2]) <= AGREE * fine[2]) or not np.all(fine[3]):
        return None
    return fine[:3]


def _radial_by(
    f: Body, points: Array, s1: Array, s2: Array, e: Array, side: Array, order: int
) -> tuple[Array, Array, Array, Array]:
    body, _, u = f
    x, weight = _panels(points, s1, s2 * side, order)
    s1, s2, side = s1[:, None], s2[:, None], side[:, None]
    first, second = (np.broadcast_to(evaluate(body, {u: s * x}), x.shape) for s in (s1, side * s2))
    difference = _difference(f, points, x, s1, s2, e[:, None], side, first - second)
    mean = second + difference / 2
    norms = [np.sqrt(np.sum(weight * g**2, axis=1)) for g in (second + difference, second)]
    product, total = norms[0] * norms[1], norms[0] + norms[1]
    some = product > 0  # else there is no angle: ρ' is 0, and the stretch not finite where |F2| = 0
    with np.errstate(divide="ignore", invalid="ignore"):
        longer = 2 * np.sum(weight * mean * difference, axis=1) / total
        apart = (difference * total[:, None] / 2 - mean * longer[:, None]) / product[:, None]
        minus, stretched = np.where(some, np.sum(weight * apart**2, axis=1) / 2, 1.0), longer / norms[1]
    ends = np.maximum(first[:, [0, -1]] ** 2, second[:, [0, -1]] ** 2).max(axis=1) * np.exp(-(REACH**2) / 2)
    return minus, stretched, product, ~some | (ends <= 1e-18 * product)


def _panels(points: Array, s1: Array, s2: Array, order: int) -> tuple[Array, Array]:
    """Nodes and weights of the unit Gaussian, (N, M), on panels that end at the kinks of F(s1 x) and F(s2 x)."""
    around = np.broadcast_to((points[:, None] + AROUND).ravel(), (len(s1), points.size * AROUND.size))
    near = [
        np.divide(around, s[:, None], out=np.full(around.shape, REACH), where=s[:, None] != 0)  # s = 0: a constant
        for s in (s1, s2)
    ]
    edges = np.clip(np.hstack([*near, np.broadcast_to(GRID, (len(s1), len(GRID)))]), -REACH, REACH)
    edges.sort(axis=1)
    node, weight = legendre(order)
    width = np.diff(edges, axis=1)[..., None]
    x = edges[:, :-1, None] + width * node
    density = np.exp(-(x**2) / 2) / np.sqrt(2 * np.pi)
    return x.reshape(len(s1), -1), (width * weight * density).reshape(len(s1), -1)


def _difference(
    f: Body,
    points: Array,
    x: Array,
    s1: Array,
    s2: Array,
    e: Array,
    side: Array,
    d: Array,
) -> Array:
    """F(s1 x) - F(s2 x): ∫ σ x F'(σ x) d log σ from s2 to s1 where these are close and no kink lies between."""
    _, slope, u = f
    close = (np.abs(e) < CLOSE) & (side > 0)
    stretching = np.log1p(np.where(close, e, 0.0))
    total = np.zeros_like(d)
    for node, weight in zip(*legendre(6), strict=True):
        z = s2 * np.exp(stretching * node) * x
        total = total + weight * z * evaluate(slope, {u: z})
    apart = np.zeros(x.shape, bool)
    for k in points:
        apart |= (s1 * x > k) != (s2 * x > k)
    return np.where(close & ~apart, stretching * total, d)


def _angular(slope: sp.Expr, u: sp.Symbol, q1: Array, q2: Array, r: Relation, rows: slice, side: Array) -> Array | None:
    """∫_0^θ sin t · E F1'(x)F2'(x cos t + y sin t) dt, with nodes around t = |e|, where kinks of both begin to meet."""
    theta = Relation(r.gap, 2 - r.gap, 0.0).angle[rows]
    scale = np.maximum(np.abs(np.log1p(r.stretch[rows])), theta / 100)
    node, weight = legendre(24)
    longest = np.arcsinh(np.divide(theta, scale, out=np.zeros_like(theta), where=scale > 0))[:, None]
    w = longest * node
    t = scale[:, None] * np.sinh(w)
    v, bound = sp.Dummy(real=True), (np.sqrt(q1) * np.sqrt(q2))[:, None]
    cov = [[q1[:, None], bound * np.cos(t)], [None, q2[:, None]]]
    pair = slope * slope.xreplace({u: v})
    gap = 2 * np.sin(t / 2) ** 2
    total = np.zeros_like(theta)
    for chosen, body in ((side > 0, pair), (side < 0, slope * -slope.xreplace({u: -v}))):
        if chosen.any():
            try:
                law = [[None if a is None else a[chosen] for a in row] for row in cov]
                found = expectation(body, (u, v), law, gap=gap[chosen])
            except (AccuracyError, NoRuleError):
                return None
            inner = np.sin(t) * scale[:, None] * np.cosh(w) * longest * weight
            total[chosen] = np.sum(inner[chosen] * found.value * bound[chosen], axis=1)
    return total
