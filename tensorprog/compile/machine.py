"""The numba machine: a tape's rows in registers of a tile's width, one operation at a time along a row.

No code is generated: one compiled interpreter, cached on disk, runs every tape.  An operation works on a whole
row of a tile, so that reading the tape costs nothing beside the arithmetic, which the compiler vectorises.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from numba.extending import overload

from tensorprog.compile.schedule import OPCODES, STRIP, TILE

Array = Any
LIN, MUL, FMA, AXPY, GRAM, RIGHT, FILL, ARC, ASIN, EXP, SINH, COSH = (
    OPCODES[k] for k in "lin mul fma axpy gram right fill arc asin exp sinh cosh".split()
)
STRICT = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}

# asin(√z)/√z = 1 + z P(z) on [0, 1/4]: minimax coefficients, errors 4e-18 and 1e-9 (mpmath.chebyfit)
P64 = (0.028757851367421566, -0.014851887071247204, 0.01740087944269402, 0.005457506718640358,
       0.01032281435018578, 0.011479177415184906, 0.013971212973552933, 0.017352392720869973,
       0.02237217294214989, 0.030381944138531247, 0.04464285714635543, 0.07499999999998433,
       0.16666666666666669)  # fmt: skip
P32 = tuple(map(np.float32, (0.03369084720283012, 0.017149238357677253, 0.03110066273549457, 0.04459940152851218,
                             0.07500094543497424, 0.16666666337430908)))  # fmt: skip


def _series(z: Any) -> Any:
    """P(z)."""
    raise NotImplementedError


@overload(_series, inline="always")
def _series_of(z: Any) -> Any:
    if z == numba.float32:
        a0, a1, a2, a3, a4, a5 = P32

        def short(z: Any) -> Any:
            return ((((a0 * z + a1) * z + a2) * z + a3) * z + a4) * z + a5

        return short
    b0, b1, b2, b3, b4, b5, b6, b7, b8, b9, b10, b11, b12 = P64

    def long(z: Any) -> Any:
        high = (((((b0 * z + b1) * z + b2) * z + b3) * z + b4) * z + b5) * z + b6
        return (((((high * z + b7) * z + b8) * z + b9) * z + b10) * z + b11) * z + b12

    return long


@numba.njit(inline="always", **STRICT)
def arc_row(reg, o1, o2, x, R, s2, r2, w2, j0, w, s1, r1, w1, C):
    """V of relu and of step: √(q1 q2)(sin θ + (π − θ) cos θ)/2π and (π − θ)/2π, NaN too near to |ρ| = 1."""
    zero, half, one, two, quarter_turn, nan, near = C[0], C[1], C[2], C[3], C[4], C[5], C[6]
    for j in range(w):
        rho = reg[x, j] * r1 * R[r2, j0 + j]
        size = abs(rho)
        gap = one - size
        big = size > half
        z = half * gap if big else rho * rho
        s = np.sqrt(half * gap) if big else size
        a = s + s * z * _series(z)
        bent = quarter_turn - two * a if big else a
        angle = quarter_turn + (bent if rho > zero else -bent)
        angle = angle if gap > near else nan
        reg[o1, j] = s1 * R[s2, j0 + j] * (np.sqrt(gap * (one + size)) + angle * rho)
        reg[o2, j] = w1 * R[w2, j0 + j] * angle


@numba.njit(inline="always", **STRICT)
def _asin_row(reg, o1, o2, x, R, r2, j0, w, r1, C):
    """asin ρ and 1/√(1 − ρ²) of ρ = c r1 r2, NaN too near to |ρ| = 1."""
    zero, half, one, two, quarter_turn, nan, near = C[0], C[1], C[2], C[3], C[4], C[5], C[6]
    for j in range(w):
        rho = reg[x, j] * r1 * R[r2, j0 + j]
        size = abs(rho)
        gap = one - size
        big = size > half
        z = half * gap if big else rho * rho
        s = np.sqrt(half * gap) if big else size
        a = s + s * z * _series(z)
        bent = quarter_turn - two * a if big else a
        gap = gap if gap > near else nan
        bent = bent if gap > near else nan
        reg[o1, j] = bent if rho > zero else -bent
        reg[o2, j] = one / np.sqrt(gap * (one + size))


@numba.njit(cache=True, **STRICT)
def _execute(code, first, last, reg, S, G, gi, gj, R, j0, w, C):
    """Run code[first:last] on one row of a tile: reg[:, :w] are the registers, S the numbers of the row."""
    for k in range(first, last):
        op, o, x, y, z, a = code[k, 0], code[k, 1], code[k, 3], code[k, 4], code[k, 5], S[code[k, 6]]
        if op == LIN:
            b = S[code[k, 7]]
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
        elif op == GRAM:
            b = S[code[k, 7]]
            for j in range(w):
                reg[o, j] = a * (C[7] * G[x, gi, gj + j]) + b
        elif op == RIGHT:
            for j in range(w):
                reg[o, j] = R[x, j0 + j]
        elif op == FILL:
            for j in range(w):
                reg[o, j] = a
        elif op == ARC:
            arc_row(reg, o, code[k, 2], x, R, y, z, code[k, 9], j0, w, a, S[code[k, 7]], S[code[k, 8]], C)
        elif op == ASIN:
            _asin_row(reg, o, code[k, 2], x, R, y, j0, w, a, C)
        elif op == EXP:
            for j in range(w):
                reg[o, j] = np.exp(reg[x, j])
        elif op == SINH:
            for j in range(w):
                c = abs(reg[x, j])
                reg[o, j] = -np.copysign(C[1], reg[x, j]) * np.exp(c - reg[y, j]) * np.expm1(-C[3] * c)
        elif op == COSH:
            for j in range(w):
                reg[o, j] = C[1] * (np.exp(reg[x, j] - reg[y, j]) + np.exp(-reg[x, j] - reg[y, j]))


@numba.njit(cache=True, **STRICT)
def _store(strip, result, first, count, left, width, triangle):
    """Write a strip of rows, and its mirror image for a triangle; how many entries are not numbers."""
    bad = 0
    for r in range(count):
        w = min(width, first + r - left) if triangle else width
        row, target = strip[r], result[first + r]
        for j in range(w):
            target[left + j] = row[j]
            bad += row[j] != row[j]
    if triangle:
        for j in range(min(width, first + count - 1 - left)):
            target = result[left + j]
            for r in range(max(0, left + j + 1 - first), count):
                target[first + r] = strip[r, j]
    return bad


@numba.njit(cache=True, **STRICT)
def _tile(code, registers, roots, G, S, L, R, C, top, bottom, left, right, gi, gj, triangle, out):
    """One tile of every result; whether it has one that is not a number."""
    reg = np.empty((registers, TILE), R.dtype)
    strips = np.empty((len(roots), STRIP, TILE + 8), R.dtype)
    row = np.empty(len(S) + L.shape[1], S.dtype)
    row[: len(S)] = S
    bad = 0
    for first in range(top, bottom, STRIP):
        count = min(STRIP, bottom - first)
        for i in range(first, first + count):
            w = min(right, i) - left if triangle else right - left
            for k in range(L.shape[1]):
                row[len(S) + k] = L[i, k]
            _execute(code, 0, len(code), reg, row, G, i - gi, left - gj, R, left, w, C)
            for k in range(len(roots)):
                strips[k, i - first, :w] = reg[roots[k], :w]
        for k in range(len(roots)):
            bad += _store(strips[k], out[k], first, count, left, right - left, triangle)
    return bad > 0


@numba.njit(parallel=True, cache=True, **STRICT)
def run_panel(code, registers, roots, G, S, L, R, C, i0, i1, j0, j1, triangle, out):
    """Rows i0..i1 and columns j0..j1 of every result; below the diagonal only, and mirrored, for a ``triangle``.

    Args:
        code: instructions; ``registers`` of them hold results, ``roots`` those asked for.
        G: inner products of the panel, (products, i1 − i0, j1 − j0).
        S, L, R: numbers, what is known per first input (N1, k) and per second input (k, N2).
        C: constants of the arithmetic; the last is 1/d.
        out: a tuple of (N1, N2) arrays.

    Returns:
        For each tile whether it has a result that is not a number.
    """
    down, across = (i1 - i0 + TILE - 1) // TILE, (j1 - j0 + TILE - 1) // TILE
    flags = np.zeros(down * across, np.bool_)
    for tile in numba.prange(down * across):
        top, left = i0 + tile // across * TILE, j0 + tile % across * TILE
        bottom, right = min(top + TILE, i1), min(left + TILE, j1)
        if not triangle or left < bottom:
            flags[tile] = _tile(
                code, registers, roots, G, S, L, R, C, top, bottom, left, right, i0, j0, triangle, out
            )
    return flags.reshape(down, across)
