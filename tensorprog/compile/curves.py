"""Exponentials and smooth functions for the numba machine over positions: arrays over boxes, LANES inputs together."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

import numba
import numpy as np

from tensorprog.compile.arrays import NEAR
from tensorprog.compile.boxes import horner
from tensorprog.compile.coefficients import CUT, GROUP
from tensorprog.compile.machine import INLINE, STRICT
from tensorprog.compile.offsets import NDIM
from tensorprog.compile.rowwise import ACCEPTED, ORDERS
from tensorprog.compile.steps import LANES


@numba.njit(**INLINE)
def begin(box, sizes, side, row, wraps):
    """The flat position where row number ``row`` of a box begins, of the first or the second input."""
    y, z = row % box[NDIM + 1], row // box[NDIM + 1]
    if side == 0:
        return ((box[0] + z) * sizes[1] + box[1] + y) * sizes[2] + box[2]
    z, y = box[0] + z + box[2 * NDIM], box[1] + y + box[2 * NDIM + 1]
    if wraps:
        z, y = z % sizes[0], y % sizes[1]
    return (z * sizes[1] + y) * sizes[2] + box[2] + box[2 * NDIM + 2]


@numba.njit(**INLINE)
def turning(box, sizes, wraps):
    """How many positions of a row there are before the second one wraps round."""
    return max(0, min(box[NDIM + 2], sizes[2] - box[2 * NDIM + 2])) if wraps else box[NDIM + 2]


@numba.njit(**STRICT)
def exponential(reg, o, x, y, full):
    """exp(c + half), NaN where an error of ρ weighs too much in it; see ``arrays``."""
    for j in range(full):
        c = reg[x, j] * np.exp(reg[x, j] - reg[y, j])
        reg[o, j] = np.nan if 2.0 * NEAR * c * c > 1.0 else np.exp(reg[x, j] + reg[y, j])


@numba.njit(**STRICT)
def hyperbolic(reg, o, x, y, full, odd):
    """exp(−half) sinh c, or cosh c, in the same way."""
    for j in range(full):
        c = abs(reg[x, j])
        e = np.exp(c - reg[y, j])
        e = np.nan if 2.0 * NEAR * (c * e) * (c * e) > 1.0 else e
        if odd:
            reg[o, j] = -np.copysign(0.5, reg[x, j]) * e * np.expm1(-2.0 * c)
        else:
            reg[o, j] = 0.5 * (e + np.exp(-c - reg[y, j]))


@numba.njit(**STRICT)
def smooth(reg, o, x, y, box, shape, i, g, series, values, peaks, work, wraps):
    """reg[o] = E φ(u)ψ(v) of ρ = reg[x] reg[y], NaN where the series is too long; see ``rowwise``.

    Args:
        i, g: the number of the first input, and of the group of second inputs.
        series, values, peaks: see ``coefficients.Series``; inputs there are positions of inputs.
        work: numbers to write over.
    """
    first, second, count, t1, t2, top, levels, odd, squared = (
        series[0], series[1], series[2], series[3], series[4], series[5], series[8], series[9], series[10])  # fmt: skip
    width, turn = box[NDIM + 2], turning(box, shape[1], wraps)
    size1, size2 = shape[0, 0] * shape[0, 1] * shape[0, 2], shape[1, 0] * shape[1, 1] * shape[1, 2]
    for row in range(box[NDIM] * box[NDIM + 1]):
        p, q = begin(box, shape[0], 0, row, wraps), begin(box, shape[1], 1, row, wraps)
        for k in range(width):
            left = i * size1 + p + k
            right = (g * size2 + q + k - (shape[1, 2] if k >= turn else 0)) * LANES
            here, largest = (row * width + k) * LANES, 0.0
            for b in range(LANES):
                rho = min(1.0, max(-1.0, reg[x, here + b] * reg[y, here + b]))
                work[b] = rho
                work[LANES + b] = rho * rho if squared else rho
                work[2 * LANES + b] = rho if odd else 1.0
                largest = max(largest, abs(rho))
            size, level, peak = np.log(largest), 0, top + right // GROUP * len(ORDERS)
            lane, tails = left % GROUP, t1 + left // GROUP * len(ORDERS)
            while level < levels and not (
                (ORDERS[level] - odd) * size + values[tails + level, lane] + peaks[peak + level] <= CUT
            ):
                level += 1
            terms = int(ORDERS[min(level, levels - 1)]) >> squared
            horner(reg, o * reg.shape[1] + here, values, (first + left // GROUP * count) * GROUP + lane,
                   (second + right // GROUP * count) * GROUP + right % GROUP, terms, work)  # fmt: skip
            if level == levels:
                for b in range(LANES):
                    rest = (ORDERS[levels - 1] - odd) * np.log(abs(work[b])) + values[tails + levels - 1, lane]
                    rest += values[t2 + right // GROUP * len(ORDERS) + levels - 1, right % GROUP + b]
                    if not rest <= ACCEPTED:
                        reg[o, here + b] = np.nan
