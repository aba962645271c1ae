"""Mean-field theory of a layer map: fixed points, χ, depth scales (Poole et al. 2016; Schoenholz et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from tensorprog.studies.layer_map import SMALLEST, LayerMap, spectral_radius

STEPS, NEWTON = 40, 60
SMALL, LARGE = 1e-10, 1e12
RTOL = 1e-12
UNDECIDED = 1e-9  # |χ₁ − 1| below is the edge itself


@dataclass(frozen=True)
class MeanField:
    """What a layer does to covariances at its fixed points, over a grid of hyperparameters.

    Attributes:
        q: q*, of each variance, (k, ..); inf where it grows without end, 0 where it vanishes.
        slope: the derivative of the variance map at q*.
        chi: χ₁, the derivative of the correlation map at correlation 1.
        c: the fixed correlation c*, of each covariance.
        chi_c: χ there.
    """

    q: np.ndarray
    slope: np.ndarray
    chi: np.ndarray
    c: np.ndarray
    chi_c: np.ndarray

    @property
    def xi_q(self) -> np.ndarray:
        """The depth scale of variances, −1/log of the slope."""
        return depth_scale(self.slope)

    @property
    def xi_c(self) -> np.ndarray:
        """The depth scale of correlations, −1/log χ at c*."""
        return depth_scale(self.chi_c)


def depth_scale(chi: np.ndarray) -> np.ndarray:
    """ξ in χ^l = e^(−l/ξ); infinite from χ = 1 on."""
    with np.errstate(divide="ignore"):
        return np.where(chi < 1 - UNDECIDED, -1 / np.log(np.minimum(np.abs(chi), 1 - 1e-16)), np.inf)  # type: ignore[no-any-return]


def mean_field(layer: LayerMap, values: Mapping[str, Any], correlation: bool = True) -> MeanField:
    """Fixed points of a layer map and the derivatives there.

    Args:
        layer: the map.
        values: of its free hyperparameters, arrays that broadcast.
        correlation: whether c* is wanted too.
    """
    shape = np.broadcast_shapes(*(np.shape(v) for v in values.values()), ())
    flat = {k: np.broadcast_to(v, shape).ravel() for k, v in values.items()}
    q, slope = _variance(layer, flat, int(np.prod(shape)))
    ends = np.isfinite(q).all(axis=0)
    finite = np.where(np.isfinite(q), np.maximum(q, SMALLEST), LARGE)
    at_one = _equal(layer, finite)
    chi = spectral_radius(layer.step(finite, at_one, flat)[1])
    c, chi_c = np.where(ends, np.ones_like(at_one), np.nan), chi.copy()
    chaos = ends & (chi > 1 + UNDECIDED)
    if correlation and chaos.any():
        some = {k: v[chaos] for k, v in flat.items()}
        c[:, chaos], chi_c[chaos] = _correlation(layer, some, finite[:, chaos], at_one[:, chaos], chi[chaos])
    return MeanField(*(a.reshape((*a.shape[:-1], *shape)) for a in (q, slope, chi, c, chi_c)))


def _equal(layer: LayerMap, q: np.ndarray) -> np.ndarray:
    """Covariances of an input with itself: those of the same letter and copy, else in the order of the equations."""
    order = [next((k for k, v in enumerate(layer.variances) if v.family.head == e.family.head
                   and v.family.copy == e.family.copy and v.case.box == e.case.box), min(i, len(q) - 1))
             for i, e in enumerate(layer.covariances)]  # fmt: skip
    return q[order]


Step = Callable[[np.ndarray, np.ndarray, bool], tuple[np.ndarray, np.ndarray]]


def _newton(step: Step, x: np.ndarray, steps: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """So many steps of the map, then Newton's method, of points (k, G): where they end, and the derivative there.

    Args:
        step: of (points, which of the G they are, whether derivatives are wanted).
        x: where to start.
        steps: of the map, before.
    """
    x, moving = x.copy(), np.arange(x.shape[1])
    for k in range(steps + NEWTON):
        before = x[:, moving]
        now, jacobian = step(before, moving, k >= steps)
        new = now if k < steps else _better(before, now, jacobian)
        new = np.where(np.isfinite(new) & (np.abs(new) < LARGE), new, LARGE if k < steps else before)
        x[:, moving] = new
        moving = moving[(np.abs(new - before) > RTOL * np.abs(before)).any(axis=0)]
        if not len(moving):
            break
    return x, step(x, np.arange(x.shape[1]), True)[1]


def _better(x: np.ndarray, now: np.ndarray, jacobian: np.ndarray) -> np.ndarray:
    """A step of Newton's method for x = F(x); one of the map where that leads below 0."""
    one = np.eye(len(x))
    matrix = np.moveaxis(one[:, :, None] - jacobian, -1, 0)
    singular = ~np.isfinite(matrix).all(axis=(1, 2)) | (np.abs(np.linalg.det(np.nan_to_num(matrix))) < 1e-14)
    matrix = np.where(singular[:, None, None], one, matrix)
    new = x + np.linalg.solve(matrix, (now - x).T[..., None])[..., 0].T
    return np.where(new < 0, now, new)  # type: ignore[no-any-return]


def _some(values: Mapping[str, np.ndarray], rows: np.ndarray) -> dict[str, np.ndarray]:
    return {k: v[rows] for k, v in values.items()}


def _variance(layer: LayerMap, values: Mapping[str, Any], count: int) -> tuple[np.ndarray, np.ndarray]:
    """q* and its slope; inf where variances have no stable fixed point."""
    start = np.ones((len(layer.variances), count))
    q, jacobian = _newton(lambda x, rows, slopes: layer.step(x, None, _some(values, rows), slopes), start, STEPS)
    after, _ = layer.step(q, None, values, False)
    slope = spectral_radius(jacobian)
    fixed = (np.abs(after - q) <= 1e-9 * np.maximum(q, SMALL)).all(axis=0) & (q < LARGE / 10).all(axis=0)
    stable = slope <= 1 + UNDECIDED
    gone = (q < 1e-4).all(axis=0) & stable & (after <= q + SMALL).all(axis=0)  # at the edge like 1/depth
    return np.where(gone, 0.0, np.where(fixed & stable, q, np.inf)), slope


def _correlation(layer: LayerMap, values: Mapping[str, Any], q: np.ndarray, at_one: np.ndarray,
                 chi: np.ndarray) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """c* as a correlation, and χ there, where χ₁ > 1.

    E φ(u)φ(v) has a power series in the correlation without negative coefficients, so that the map is convex above 0:
    for χ₁ ≤ 1 its only fixed point is 1, else there is one below, which Newton's method reaches from 0.
    """

    def step(x: np.ndarray, rows: np.ndarray, slopes: bool) -> tuple[np.ndarray, np.ndarray]:
        return layer.step(q[:, rows], np.minimum(x, at_one[:, rows]), _some(values, rows), slopes)

    found, jacobian = _newton(step, 0.0 * at_one)
    found = np.minimum(found, at_one)
    after, _ = layer.step(q, found, values, False)
    there = (np.abs(after - found) <= 1e-9 * at_one).all(axis=0)
    c = np.where(there, found / at_one, 1.0)
    return c, np.where(there & (c < 1 - 1e-12).all(axis=0), spectral_radius(jacobian), chi)
