"""The Mehler series of smooth functions on whole arrays (B, P, Q), with as many terms as CHUNK neighbours need."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numba
import numpy as np
import sympy as sp

from tensorprog.compile.coefficients import CUT, WHOLE
from tensorprog.compile.rowwise import ACCEPTED, ORDERS
from tensorprog.expectations.series.tabulated import Tabulated, tabulated

Array = Any
OPTIONS: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}
CHUNK = 8  # entries of one p that take the same number of terms


def summed(functions: tuple[sp.Expr, sp.Expr], q1: Array, q2: Array, i: Array, j: Array, c: Array) -> Array:
    """E φ(u)ψ(v), NaN where the series is too long.

    Args:
        functions: φ and ψ, of X.
        q1, q2: variances of u and v for some inputs, (N, P) and (M, Q).
        i, j: which of these each pair is of, (B,).
        c: covariances, (B, P, Q).
    """
    one, two = map(tabulated, functions)
    want = one.parity or two.parity
    tails = [t.tails(q.ravel()).reshape(*q.shape, -1) for t, q in ((one, q1), (two, q2))]
    levels = max(map(_levels, tails))
    count = int(ORDERS[levels - 1]) // (2 if want else 1)
    first, second = (_terms(t, q, count, want) for t, q in ((one, q1), (two, q2)))
    roots = [np.where(q > 0, 1 / np.sqrt(q), 0.0) for q in (q1, q2)]
    out = np.empty(c.shape)
    series(c, *roots, first.swapaxes(1, 2).copy(), second, *tails, i, j, levels, want, ORDERS, CUT, ACCEPTED, out)
    return out


def _levels(tails: Array) -> int:
    """How many of the levels are worth having, whatever the correlation."""
    known = tails.reshape(-1, tails.shape[-1])
    done = np.flatnonzero(2 * np.where(known < np.inf, known, -np.inf).max(axis=0) <= WHOLE)
    return int(done[0]) + 1 if len(done) else tails.shape[-1]


def _terms(table: Tabulated, q: Array, count: int, want: int) -> Array:
    """Coefficients of the wanted parity, (N, K, P)."""
    if want == table.parity:
        table.coefficients(q, out := np.empty((len(q), count, q.shape[1])))
        return out
    table.coefficients(q, out := np.empty((len(q), 2 * count, q.shape[1])))
    return np.ascontiguousarray(out[:, want < 0 :: 2])


@numba.njit(**OPTIONS)
def series(c, r1, r2, first, second, t1, t2, i, j, levels, want, orders, cut, accepted, out):
    """out = Σ_m first[i,p,m] second[j,m,q] ρ^m of ρ = c r1 r2, or of every second power where there is a parity."""
    odd = 1 if want < 0 else 0
    rho, power, total = np.zeros(CHUNK), np.zeros(CHUNK), np.zeros(CHUNK)
    width = c.shape[2]
    for b in range(c.shape[0]):
        x, y = i[b], j[b]
        for p in range(c.shape[1]):
            for start in range(0, width, CHUNK):
                n, largest = min(CHUNK, width - start), 0.0
                for k in range(n):
                    value = min(1.0, max(-1.0, c[b, p, start + k] * r1[x, p] * r2[y, start + k]))
                    rho[k], power[k], total[k] = value, value if want == 0 else value * value, 0.0
                    largest = max(largest, abs(value))
                size, level = np.log(largest), 0
                while level < levels:
                    peak = -np.inf
                    for k in range(n):
                        peak = max(peak, t2[y, start + k, level])
                    if (orders[level] - odd) * size + t1[x, p, level] + peak <= cut:
                        break
                    level += 1
                terms = int(orders[min(level, levels - 1)]) // (1 if want == 0 else 2)
                for m in range(terms - 1, -1, -1):
                    a = first[x, p, m]
                    for k in range(n):
                        total[k] = total[k] * power[k] + a * second[y, m, start + k]
                for k in range(n):
                    out[b, p, start + k] = total[k] * (rho[k] if odd else 1.0)
                    if level == levels:
                        rest = (orders[levels - 1] - odd) * np.log(abs(rho[k])) + t1[x, p, levels - 1]
                        if not rest + t2[y, start + k, levels - 1] <= accepted:
                            out[b, p, start + k] = np.nan
