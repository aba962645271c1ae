"""The numba machine: a tape's rows in registers of a tile's width, one operation at a time along a row.

No code is generated: one compiled interpreter, cached on disk, runs every tape.  An operation works on a whole
row of a tile, so that reading the tape costs nothing beside the arithmetic, which the compiler vectorises.
Arithmetic is in double precision; inner products and results are single or double.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from math import pi
from typing import Any

import numba
import numpy as np

from tensorprog.compile.arrays import LEAST
from tensorprog.compile.mehler import smooth_row
from tensorprog.compile.schedule import NAMES, OPCODES, STRIP, TILE

LIN, MUL, FMA, AXPY, UNIT, RIGHT, FILL, ARC, ASIN, GAP, APART, SPREAD, PLAIN, COSINE, EXP, SINH, COSH, SMOOTH = map(
    OPCODES.get, NAMES
)
INLINE: dict[str, Any] = {"inline": "always", "error_model": "numpy", "fastmath": {"contract"}}
STRICT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}}

# asin(√z)/√z = 1 + z P(z) on [0, 1/4]: minimax coefficients, error 4e-18 (mpmath.chebyfit)
P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12 = (
    0.028757851367421566, -0.014851887071247204, 0.01740087944269402, 0.005457506718640358,
    0.01032281435018578, 0.011479177415184906, 0.013971212973552933, 0.017352392720869973,
    0.02237217294214989, 0.030381944138531247, 0.04464285714635543, 0.07499999999998433,
    0.16666666666666669)  # fmt: skip


@numba.njit(**INLINE)
def _asin(s, z):
    """asin s for z = s² ≤ 1/4."""
    p = (((((P0 * z + P1) * z + P2) * z + P3) * z + P4) * z + P5) * z + P6
    p = (((((p * z + P7) * z + P8) * z + P9) * z + P10) * z + P11) * z + P12
    return s + s * z * p


@numba.njit(**INLINE)
def arc_row(reg, o1, o2, o3, x, R, s2, w2, j0, w, s1, w1):
    """Of θ with 1 − cos θ = gap: the V of relu and of step, and 1 − ρ of relu's (see ``arrays``)."""
    for j in range(w):
        signed = reg[x, j]
        flip = (signed < 0.0) | (signed > 1.0)  # ρ < 0
        small = min(abs(signed), 2.0 - signed)  # 1 − |ρ|
        sine = np.sqrt(small * (2.0 - small))
        z = 0.5 * small if small < 0.5 else (1.0 - small) * (1.0 - small)
        half = _asin(np.sqrt(z), z)
        bent = 2.0 * half if small < 0.5 else pi / 2 - half
        theta = pi - bent if flip else bent
        gap = 2.0 - small if flip else small
        opened = gap - (sine - theta + theta * gap) * (1 / pi)
        reg[o1, j] = s1 * R[s2, j0 + j] * (1.0 - opened)
        reg[o2, j] = w1 * R[w2, j0 + j] * (bent if flip else pi - bent)
        reg[o3, j] = opened


@numba.njit(**INLINE)
def asin_row(reg, o1, o2, x, R, r2, j0, w, r1, near):
    """asin ρ and 1/√(1 − ρ²) of ρ = c r1 r2, NaN too near to |ρ| = 1."""
    for j in range(w):
        rho = reg[x, j] * r1 * R[r2, j0 + j]
        size = abs(rho)
        gap = 1.0 - size
        big = size > 0.5
        z = 0.5 * gap if big else size * size
        half = _asin(np.sqrt(z), z)
        gap = np.nan if gap < near else gap
        bent = (pi / 2 - 2.0 * half if big else half) + 0.0 * gap
        reg[o1, j] = bent if rho > 0.0 else -bent
        reg[o2, j] = 1.0 / np.sqrt(gap * (1.0 + size))


@numba.njit(**STRICT)
def execute(code, reg, S, G, gi, gj, R, i, j0, w, near, series, values, peaks, work):
    """Run instructions on one row of a tile: reg[:, :w] are the registers, S the numbers of row i."""
    for k in range(len(code)):
        op, o, x, y, z, a, b = (
            code[k, 0], code[k, 1], code[k, 3], code[k, 4], code[k, 5], S[code[k, 6]], S[code[k, 7]])  # fmt: skip
        if op == LIN:
            for j in range(w):
                reg[o, j] = a * reg[x, j] + b
        elif op == MUL:
            for j in range(w):
                reg[o, j] = a * reg[x, j] * reg[y, j]
        elif op == FMA:
            for j in range(w):
                reg[o, j] = reg[z, j] + a * reg[x, j] * reg[y, j]
        elif op == AXPY:
            for j in range(w):
                reg[o, j] = reg[z, j] + a * reg[x, j]
        elif op == UNIT:
            for j in range(w):
                reg[o, j] = G[x, gi, gj + j]
        elif op == RIGHT:
            for j in range(w):
                reg[o, j] = R[x, j0 + j]
        elif op == FILL:
            for j in range(w):
                reg[o, j] = a
        elif op == ARC:
            arc_row(reg, o, code[k, 2], code[k, 9], x, R, y, z, j0, w, a, b)
        elif op == ASIN:
            asin_row(reg, o, code[k, 2], x, R, y, j0, w, a, near[0])
        elif op == GAP:
            for j in range(w):
                c = 1.0 - a * reg[x, j] * R[y, j0 + j]
                reg[o, j] = np.nan if c < near[0] or c > 2.0 - near[0] else c
        elif op == APART:
            for j in range(w):
                c = max(1.0 - abs(reg[x, j]), LEAST)
                c = np.nan if c < near[1] else c
                reg[o, j] = -c if reg[x, j] < 0.0 else c
        elif op == PLAIN:
            for j in range(w):
                reg[o, j] = reg[x, j] + 2.0 if reg[x, j] < 0.0 else reg[x, j]
        elif op == COSINE:
            for j in range(w):
                reg[o, j] = -1.0 - reg[x, j] if reg[x, j] < 0.0 else 1.0 - reg[x, j]
        elif op == SPREAD:
            for j in range(w):
                c = a - R[y, j0 + j]
                reg[o, j] = reg[z, j] + 0.5 * c * c
        elif op == EXP:
            for j in range(w):
                reg[o, j] = np.exp(reg[x, j])
        elif op == SMOOTH:
            smooth_row(reg, o, x, R, y, j0, w, a, i, series[code[k, 9]], values, peaks, work)
        elif op == SINH:
            for j in range(w):
                c = abs(reg[x, j])
                reg[o, j] = -np.copysign(0.5, reg[x, j]) * np.exp(c - reg[y, j]) * np.expm1(-2.0 * c)
        elif op == COSH:
            for j in range(w):
                reg[o, j] = 0.5 * (np.exp(reg[x, j] - reg[y, j]) + np.exp(-reg[x, j] - reg[y, j]))


@numba.njit(**STRICT)
def store(strip, result, first, count, left, width, triangle, mirror):
    """Write a strip of rows, and its mirror image if asked for; how many entries are not numbers."""
    bad = 0
    for r in range(count):
        w = min(width, first + r - left) if triangle else width
        for j in range(w):
            result[first + r, left + j] = strip[r, j]
            bad += strip[r, j] != strip[r, j]
    if mirror:
        for j in range(min(width, first + count - 1 - left)):
            for r in range(max(0, left + j + 1 - first), count):
                result[left + j, first + r] = strip[r, j]
    return bad


@numba.njit(**STRICT)
def run_tiles(code, registers, roots, G, S, L, R, near, series, values, peaks, gi, gj, i0, i1, j0, j1, triangle,
              mirror, out, flags, start, step):  # fmt: skip
    """Every ``step``-th tile of a panel of every result; below the diagonal only for a ``triangle``.

    Args:
        code: instructions; ``registers`` of them hold results, ``roots`` those asked for.
        G: cosines between data, and other values per pair, whose entry (0, 0) belongs to the pair (gi, gj).
        S, L, R: numbers, what is known per first input (N1, k) and per second input (k, N2).
        near: the least 1 − |ρ| of angles between hidden vectors and of angles of data.
        series, values, peaks: of smooth functions, see ``coefficients.Series``.
        out: a tuple of (N1, N2) arrays.
        flags: set for a tile that has a result that is not a number.
        start: the first tile.
    """
    across = (j1 - j0 + TILE - 1) // TILE
    reg, work = np.empty((registers, TILE)), np.empty((3, TILE))
    strips = np.empty((len(roots), STRIP, TILE + 8))
    row = np.empty(len(S) + L.shape[1])
    row[: len(S)] = S
    for tile in range(start, len(flags), step):
        top, left = i0 + tile // across * TILE, j0 + tile % across * TILE
        bottom, right = min(top + TILE, i1), min(left + TILE, j1)
        for first in range(top, bottom if left < bottom or not triangle else top, STRIP):
            count = min(STRIP, bottom - first)
            for i in range(first, first + count):
                w = min(right, i) - left if triangle else right - left
                for k in range(L.shape[1]):
                    row[len(S) + k] = L[i, k]
                execute(code, reg, row, G, i - gi, left - gj, R, i, left, w, near, series, values, peaks, work)
                for k in range(len(roots)):
                    for j in range(w):
                        strips[k, i - first, j] = reg[roots[k], j]
            for k in range(len(roots)):
                flags[tile] |= store(strips[k], out[k], first, count, left, right - left, triangle, mirror) > 0
