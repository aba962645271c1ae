"""The order of the methods for E φ(u)ψ(v) of smooth functions and zero means: series, localised sums, interpolation.

Many pairs go by the Mehler series; what it does not certify (variances above 20 near |ρ| = 1) by trapezoid sums over
localised remainders; very many of those by interpolation between such sums; what is left by quadrature.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import AccuracyError
from tensorprog.expectations.determinants import RANGE
from tensorprog.expectations.law import Law, Value
from tensorprog.expectations.series.chebyshev import chebyshev
from tensorprog.expectations.series.localised import local_pair
from tensorprog.expectations.series.mehler import mehler, split

Array = Any
Fallback = Callable[[sp.Expr, Law], Value]
FEW = 64  # pairs up to which the coefficients of a series do not pay off
WIDE = 16.0  # variance up to which the series is short, and the quadrature of few pairs quick
REPEATED = 4  # pairs per variance from which the series pays off at larger variances


def smooth_pair(body: sp.Expr, law: Law, fallback: Fallback) -> Value | None:
    """E φ(u)ψ(v), or None where the body is something else or the quadrature of few pairs is as good.

    Args:
        body: the product.
        law: of all variables.
        fallback: quadrature of a body under a law.
    """
    shape = law.shape(body)
    if split(body, law.variables) is None or not law.centred(body):
        return None
    i, j = law.read(body)
    q1, q2, c = law.get(i, i), law.get(j, j), np.broadcast_to(law.get(i, j), shape)
    if (most := float(np.max(np.maximum(q1, q2), initial=0.0))) > RANGE:
        raise AccuracyError(
            f"E {body} at variances up to {most:.3g}: products of those above {RANGE:g} leave the range of float64; "
            "scale the inputs down, or the weights of the layers before this function"
        )
    wide = np.broadcast_to(np.maximum(q1, q2) > WIDE, shape)
    if np.prod(shape) <= FEW and not wide.any():
        return None
    pair = law.variables[i], law.variables[j]
    if np.prod(shape) > REPEATED * (q1.size + q2.size) or not wide.any():
        value, error = mehler(body, pair, q1, q2, c, law.atol)
    else:  # 1024 coefficients of every variance would cost more than the sums
        value, error, rows = np.zeros(shape), np.full(shape, np.inf), np.flatnonzero(~wide)
        easy = law.flat((i, j), shape, rows)
        value.flat[rows], error.flat[rows] = mehler(
            body, pair, easy.get(0, 0), easy.get(1, 1), easy.get(0, 1), law.atol
        )
    found = Value(value, error, "Mehler series")
    return _completed(found, _late(found, law, 1), lambda rows: _beyond(body, law.flat((i, j), shape, rows), fallback))


def _late(found: Value, law: Law, factor: float) -> Array:
    return np.flatnonzero(~(found.error <= law.atol + factor * law.rtol * np.abs(found.value)))


def _completed(found: Value, rows: Array, rule: Callable[[Array], Value]) -> Value:
    """The entries ``rows`` by another rule where its bound is smaller; the method names those in use."""
    if not len(rows):
        return found
    rest, value, error = rule(rows), np.array(found.value), np.array(found.error)
    better = ~(error.flat[rows] <= rest.error)
    value.flat[rows[better]], error.flat[rows[better]] = rest.value[better], rest.error[better]
    kept = [found.method] * bool(np.sum(better) < value.size) + [rest.method] * bool(better.any())
    return Value(value, error, " + ".join(dict.fromkeys(m for k in kept for m in k.split(" + "))))


def _beyond(body: sp.Expr, law: Law, fallback: Fallback) -> Value:
    """Flat entries that the series misses."""
    q1, q2, c = law.get(0, 0), law.get(1, 1), law.get(0, 1)
    value, error = np.zeros(len(c)), np.full(len(c), np.inf)

    def rule(q1: Array, q2: Array, c: Array) -> tuple[Array, Array]:
        cov, mean = {(0, 0): q1, (0, 1): c, (1, 1): q2}, (np.zeros(()), np.zeros(()))
        found = _one_by_one(body, replace(law, cov=cov, mean=mean, gap=None, rtol=law.rtol / 4), fallback)
        return found.value, found.error

    if np.all(q1 > 0) and np.all(q2 > 0):
        with suppress(AccuracyError):  # beyond the range asked for, where the quadrature may fail
            value, error = chebyshev(rule, (body, law.variables, law.rtol, law.atol), q1, q2, c, law.rtol)
    found = Value(value, error, "Chebyshev interpolation")
    return _completed(found, _late(found, law, 4), lambda n: _one_by_one(body, law.flat((0, 1), c.shape, n), fallback))


def _one_by_one(body: sp.Expr, law: Law, fallback: Fallback) -> Value:
    """Localised sums, where the functions have straight ends; else quadrature."""
    q1, q2, c, parts = law.get(0, 0), law.get(1, 1), law.get(0, 1), split(body, law.variables)
    value, error = np.zeros(len(c)), np.full(len(c), np.inf)
    rows = np.flatnonzero((q1 > 0) & (q2 > 0))
    assert parts is not None
    sums = local_pair(parts, q1[rows], q2[rows], c[rows], law.det(0, 1)[rows], law.rtol)
    if sums is not None:
        value[rows], error[rows] = sums
    missed = np.flatnonzero(~np.isfinite(error))
    return _completed(
        Value(value, error, "localised trapezoid"), missed, lambda n: fallback(body, law.flat((0, 1), c.shape, n))
    )
