"""Derivatives of angles: ``limit.gap`` on dual numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.angles.gaps import Relation, gap, kink_degree, relation, stretch
from tensorprog.learn.duals import Dual
from tensorprog.limit.gap import Gaps, U

Array = Any
TOGETHER = 4 * np.finfo(float).eps  # 1 − |ρ| below this, had from a covariance, counts as |ρ| = 1
STEP = 3e-3  # of differences, relative to what is moved
STENCIL = {1: 8 / 12, -1: -8 / 12, 2: -1 / 12, -2: 1 / 12}


def resolved(t: Any) -> Any:
    """1 − |ρ| from a covariance, at rest where it is rounding alone."""
    return np.where(t > TOGETHER, t, t.value)


class DualGaps(Gaps):
    """1 − |ρ| of the variables of atoms with its derivatives.

    What functions other than a u + b|u| and a + b sign(u) make of an angle is differentiated by differences.  Nothing
    cancels in 1 − |ρ|, so that some ten digits of d(1 − |ρ|) are right; a kernel depends on √(1 − |ρ|), which is small
    where this is used, so that they are more digits of the kernel's derivative.
    """

    def _unknown(self, a: Dual, b: Dual, c: Dual) -> Relation:
        return relation(resolved(gap(a, b, c)), c, stretch(a, b))

    def _of_function(
        self, body: sp.Expr, scalars: Mapping[sp.Symbol, Dual], q1: Dual, q2: Dual, r: Relation
    ) -> Relation | None:
        if kink_degree(body, U) is not None and not any(d.moves for d in scalars.values()):
            return super()._of_function(body, scalars, q1, q2, r)
        path = Path(r.minus <= r.plus, (q1, q2, r.gap), r.stretch, list(scalars.values()))

        def at(k: int, h: float) -> Relation | None:
            first, second, t, e, *numbers = path.at(k, h)
            moved = Relation(np.where(path.positive, t, 2 - t), np.where(path.positive, 2 - t, t), e)
            return super(DualGaps, self)._of_function(
                body, dict(zip(scalars, numbers, strict=True)), first, second, moved
            )

        found, tangents = at(0, 0.0), []
        if found is None:
            return None
        for k in range(len(q1.tangents)):
            points = {n: at(k, n * path.step(k)) for n in STENCIL} if path.step(k) else {}
            if any(p is None for p in points.values()):
                return None
            tangents.append([_slope(c, path.step(k)) for c in zip(*points.values(), strict=True)] or [None] * 3)
        minus, plus, turn = zip(*tangents, strict=True)
        return Relation(Dual(found.minus, minus), Dual(found.plus, plus), Dual(found.stretch, turn))


class Path:
    """Variances, 1 − |ρ|, stretch and scalars as functions of one hyperparameter, to first order.

    All that is positive moves exponentially, so that it stays so.
    """

    def __init__(self, positive: Array, sizes: tuple[Dual, ...], turn: Dual, scalars: list[Dual]) -> None:
        self.positive, self.sizes, self.turn, self.scalars = positive, sizes, turn, scalars

    def at(self, k: int, h: float) -> list[Array]:
        """All of them at a distance h along hyperparameter k."""
        e = plain(self.turn)
        sizes = [plain(d) * np.exp(h * _rate(d, 0.0, k)) for d in self.sizes]
        scalars = [d.value + h * _tangent(d, k) for d in self.scalars]
        return [*sizes, e + (1 + e) * np.expm1(h * _rate(self.turn, 1.0, k)), *scalars]

    def step(self, k: int) -> float:
        """The distance that moves the fastest by some thousandths; 0 where nothing moves."""
        rates = [*(_rate(d, 0.0, k) for d in self.sizes), _rate(self.turn, 1.0, k)]
        rates += [_tangent(d, k) / (1 + np.abs(d.value)) for d in self.scalars]
        fastest = max(float(np.max(np.abs(r), initial=0.0)) for r in rates)
        return STEP / fastest if fastest else 0.0


def plain(x: Any) -> Array:
    """The value of what may be a dual number."""
    return x.value if isinstance(x, Dual) else x


def _tangent(x: Any, k: int) -> Array:
    tangent = x.tangents[k] if isinstance(x, Dual) else None
    return 0.0 if tangent is None else tangent


def _rate(x: Any, offset: float, k: int) -> Array:
    """d log(offset + x); 0 where that is not finite, as at zero variance."""
    with np.errstate(all="ignore"):
        rate = np.asarray(_tangent(x, k) / (offset + plain(x)))
    return np.where(np.isfinite(rate), rate, 0.0)


def _slope(points: tuple[Array, ...], step: float) -> Array:
    slope = sum(w * p for w, p in zip(STENCIL.values(), points, strict=True)) / step
    return np.where(np.isfinite(slope), slope, 0.0)
