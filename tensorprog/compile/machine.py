"""The numba machine: a tape's rows in registers of a tile's width, one operation at a time along a row.

No code is generated: one compiled interpreter, cached on disk, runs every tape.  An operation works on a whole
row of a tile, so that reading the tape costs nothing beside the arithmetic, which the compiler vectorises.
Arithmetic is in double precision; inner products and results are single or double.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from math import pi
from pathlib import Path
from typing import Any
from zlib import crc32

import numba
import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba.core import types
from numba.extending import intrinsic

from tensorprog.compile import arrays, coefficients
from tensorprog.compile import rowwise as mehler
from tensorprog.compile import schedule as codes
from tensorprog.compile.arrays import LEAST
from tensorprog.compile.recompiling import compile_again
from tensorprog.compile.rowwise import smooth_row
from tensorprog.compile.schedule import NAMES, OPCODES, STRIP, TILE
from tensorprog.expectations.series import hermite

LIN, MUL, FMA, AXPY, UNIT, FILL, ARC, ASIN, GAP, APART, SPREAD, PLAIN, COSINE, EXP, SINH, COSH, SMOOTH = map(
    OPCODES.get, NAMES
)
LINE = 64  # bytes of a line of cache
WIDE = get_host_cpu_features().get("avx512f", False)
CHUNK = 32  # entries that a row is worked on at once, a part of its width
LARGEST = tuple(float(np.finfo(dtype).max) for dtype in (np.float32, np.float64))
PAD = 8  # entries after each row, so that rows do not compete for the same lines
INLINE: dict[str, Any] = {"inline": "always", "error_model": "numpy", "fastmath": {"contract"}}
# without reference counts: those of shared arrays would be fought over by the threads at every row
STRICT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "_nrt": False}

# numba keeps what it compiled until this file changes; these give it numbers and functions that are compiled in
SOURCES = [Path(str(module.__file__)).read_bytes() for module in (arrays, codes, coefficients, mehler, hermite)]
STAMP = crc32(b"".join(SOURCES))

# asin(√z)/√z = 1 + z P(z) on [0, 1/4]: minimax coefficients, error 4e-18 (mpmath.chebyfit)
P0, P1, P2, P3, P4, P5, P6, P7, P8, P9, P10, P11, P12 = (
    0.028757851367421566, -0.014851887071247204, 0.01740087944269402, 0.005457506718640358,
    0.01032281435018578, 0.011479177415184906, 0.013971212973552933, 0.017352392720869973,
    0.02237217294214989, 0.030381944138531247, 0.04464285714635543, 0.07499999999998433,
    0.16666666666666669)  # fmt: skip


@intrinsic  # type: ignore[untyped-decorator]
def _bits(typingctx, x):
    """The bits of a number."""
    return types.int64(x), lambda context, builder, signature, args: builder.bitcast(args[0], ir.IntType(64))


@intrinsic  # type: ignore[untyped-decorator]
def _number(typingctx, bits):
    """The number of these bits."""
    return types.float64(bits), lambda context, builder, signature, args: builder.bitcast(args[0], ir.DoubleType())


@intrinsic  # type: ignore[untyped-decorator]
def _wide(typingctx):
    """Let the compiler use vectors of 64 bytes in this function where there are some; by itself it takes 32."""

    def codegen(context, builder, signature, args):
        set.add(builder.function.attributes, '"prefer-vector-width"="512"')  # not among those that llvmlite names
        return context.get_dummy_value()

    return types.void(), codegen


@numba.njit(**INLINE)
def _rsqrt(x):
    """1/√x to two roundings, without the divider, which square roots and quotients wait for; 0·_rsqrt(0) is 0."""
    y, half = _number(0x5FE6EB50C7B537A9 - (_bits(x) >> 1)), 0.5 * x
    y = y * (1.5 - half * y * y)
    y = y * (1.5 - half * y * y)
    y = y * (1.5 - half * y * y)
    return y * (1.5 - half * y * y)


@numba.njit(**INLINE)
def _asin(s, z):
    """asin s for z = s² ≤ 1/4."""
    p = (((((P0 * z + P1) * z + P2) * z + P3) * z + P4) * z + P5) * z + P6
    p = (((((p * z + P7) * z + P8) * z + P9) * z + P10) * z + P11) * z + P12
    return s + s * z * p


@numba.njit(**INLINE)
def arc_row(reg, o1, o2, o3, x, s2, w2, w, s1, w1, near):
    """Of θ with 1 − cos θ = gap: the V of relu and of step, and 1 − ρ of relu's (see ``arrays``)."""
    for j in range(w):
        signed = reg[x, j]
        flip = (signed < 0.0) | (signed > 1.0)  # ρ < 0
        small = np.nan if signed > 2.0 - near else min(abs(signed), 2.0 - signed)  # 1 − |ρ|; near 2 it is lost
        square = small * (2.0 - small)
        sine = square * _rsqrt(square) if WIDE else np.sqrt(square)
        z = 0.5 * small if small < 0.5 else (1.0 - small) * (1.0 - small)
        half = _asin(np.sqrt(z), z)
        bent = 2.0 * half if small < 0.5 else pi / 2 - half
        theta = pi - bent if flip else bent
        gap = 2.0 - small if flip else small
        opened = gap - (sine - theta + theta * gap) * (1 / pi)
        opened = LEAST if opened < LEAST else opened  # what rounding made negative would be read as ρ < 0
        reg[o1, j] = s1 * reg[s2, j] * (1.0 - opened)
        reg[o2, j] = w1 * reg[w2, j] * (bent if flip else pi - bent)
        reg[o3, j] = opened


@numba.njit(**INLINE)
def asin_row(reg, o1, o2, x, r2, w, r1, near, steep):
    """asin ρ and 1/√(1 − ρ²) of ρ = c r1 r2, NaN too near to |ρ| = 1, a ``steep`` root from farther."""
    bound = np.sqrt(2.0 * near) if steep > 0.0 else 2.0 * near
    for j in range(w):
        rho = reg[x, j] * r1 * reg[r2, j]
        size = abs(rho)
        gap = 1.0 - size
        z = 0.5 * gap if size > 0.5 else size * size
        half = _asin(np.sqrt(z) if size > 0.5 else size, z)  # z of the smallest underflows
        bent = pi / 2 - 2.0 * half if size > 0.5 else half
        square = gap * (1.0 + size)
        steepness = _rsqrt(square)
        reg[o1, j] = np.copysign(np.nan if gap < near else bent, rho)
        reg[o2, j] = np.nan if square < bound else steepness


@numba.njit(**STRICT)
def execute(code, reg, S, G, gi, gj, i, left, w, near, series, values, peaks, work):
    """Run instructions on one row of a tile: reg[:, :w] are the registers, S what is known of its first input."""
    _wide()
    full = (w + CHUNK - 1) & -CHUNK  # entries beyond w are nobody's; what is left over of vectors costs more than they
    for k in range(len(code)):
        op, o, x, y, z, a, b = (
            code[k, 0], code[k, 1], code[k, 3], code[k, 4], code[k, 5], S[code[k, 6]], S[code[k, 7]])  # fmt: skip
        if op == LIN:
            for j in range(full):
                reg[o, j] = a * reg[x, j] + b
        elif op == MUL:
            for j in range(full):
                reg[o, j] = a * reg[x, j] * reg[y, j]
        elif op == FMA:
            for j in range(full):
                reg[o, j] = reg[z, j] + a * reg[x, j] * reg[y, j]
        elif op == AXPY:
            for j in range(full):
                reg[o, j] = reg[z, j] + a * reg[x, j]
        elif op == UNIT:
            for j in range(min(full, G.shape[2] - gj)):
                reg[o, j] = G[x, gi, gj + j]
        elif op == FILL:
            for j in range(full):
                reg[o, j] = a
        elif op == ARC:
            arc_row(reg, o, code[k, 2], code[k, 9], x, y, z, full, a, b, near[0])
        elif op == ASIN:
            asin_row(reg, o, code[k, 2], x, y, full, a, near[0], b)
        elif op == GAP:
            for j in range(full):
                c = 1.0 - a * reg[x, j] * reg[y, j]
                reg[o, j] = np.nan if c < near[0] or c > 2.0 - near[0] else c
        elif op == APART:
            for j in range(full):
                c = max(1.0 - abs(reg[x, j]), LEAST)
                c = np.nan if c < near[1] else c
                reg[o, j] = -c if reg[x, j] < 0.0 else c
        elif op == PLAIN:
            for j in range(full):
                reg[o, j] = reg[x, j] + 2.0 if reg[x, j] < 0.0 else reg[x, j]
        elif op == COSINE:
            for j in range(full):
                reg[o, j] = -1.0 - reg[x, j] if reg[x, j] < 0.0 else 1.0 - reg[x, j]
        elif op == SPREAD:
            for j in range(full):
                c = a - reg[y, j]
                reg[o, j] = reg[z, j] + 0.5 * c * c
        elif op == EXP:
            for j in range(full):
                c = reg[x, j] * np.exp(reg[x, j] - reg[y, j])
                reg[o, j] = np.nan if 2.0 * near[0] * c * c > 1.0 else np.exp(reg[x, j] + reg[y, j])
        elif op == SMOOTH:
            smooth_row(reg, o, x, y, left, w, a, i, series[code[k, 9]], values, peaks, work)
        elif op == SINH:
            for j in range(full):
                c = abs(reg[x, j])
                e = np.exp(c - reg[y, j])
                e = np.nan if 2.0 * near[0] * (c * e) * (c * e) > 1.0 else e
                reg[o, j] = -np.copysign(0.5, reg[x, j]) * e * np.expm1(-2.0 * c)
        elif op == COSH:
            for j in range(full):
                c = abs(reg[x, j])
                e = np.exp(c - reg[y, j])
                e = np.nan if 2.0 * near[0] * (c * e) * (c * e) > 1.0 else e
                reg[o, j] = 0.5 * (e + np.exp(-c - reg[y, j]))


def _vectors(context, builder, array, value, count):
    """Places of ``count`` entries beside each other in a C-contiguous array, by flat index."""
    entry = context.get_data_type(array.dtype)
    data, vector = context.make_array(array)(context, builder, value).data, ir.VectorType(entry, count)
    return vector, lambda at: builder.bitcast(builder.gep(data, [at]), vector.as_pointer())


def _line_writer(past):
    """An intrinsic: result.flat[at : at + LINE bytes] = values.flat[start : ...]; ``at`` begins a line if past."""

    def write_line(typingctx, result, at, values, start):
        count = LINE * 8 // result.dtype.bitwidth

        def codegen(context, builder, signature, args):
            wide, source = _vectors(context, builder, values, args[2], count)
            narrow, target = _vectors(context, builder, result, args[0], count)
            x = builder.load(source(args[3]), align=8)
            x = x if wide == narrow else builder.fptrunc(x, narrow)
            store = builder.store(x, target(args[1]), align=LINE if past else result.dtype.bitwidth // 8)
            if past:
                store.set_metadata("nontemporal", builder.module.add_metadata([ir.Constant(ir.IntType(32), 1)]))
            return context.get_dummy_value()

        return types.void(result, types.intp, values, types.intp), codegen

    return intrinsic(write_line)


_write_line, _write_line_past = _line_writer(False), _line_writer(True)


@intrinsic  # type: ignore[untyped-decorator]
def _turn_square(typingctx, values, at, width, turned, to, height):
    """Transpose 8×8 entries from values.flat[at], in rows of ``width``, to turned.flat[to], in rows of ``height``."""

    def codegen(context, builder, signature, args):
        _, source = _vectors(context, builder, values, args[0], 8)
        _, target = _vectors(context, builder, turned, args[3], 8)
        steps = [ir.Constant(args[1].type, k) for k in range(8)]
        rows = [builder.load(source(builder.add(args[1], builder.mul(k, args[2]))), align=8) for k in steps]
        masks = [ir.Constant(ir.VectorType(ir.IntType(32), 8), [8 * (k % 2) + k // 2 + half for k in range(8)])
                 for half in (0, 4)]  # fmt: skip
        for _ in range(3):  # a perfect shuffle each
            rows = [builder.shuffle_vector(rows[k], rows[k + 4], mask) for k in range(4) for mask in masks]
        for k, row in zip(steps, rows, strict=True):
            builder.store(row, target(builder.add(args[4], builder.mul(k, args[5]))), align=8)
        return context.get_dummy_value()

    return types.void(values, types.intp, types.intp, turned, types.intp, types.intp), codegen


@numba.njit(**STRICT)
def keep(reg, root, stack, k, r, left, w, limit):
    """stack[k, r, left : left + w] = reg[root, :w]; how many are beyond a limit or not numbers."""
    bad = 0
    for j in range(w):
        stack[k, r, left + j] = reg[root, j]
        bad += not abs(reg[root, j]) <= limit
    return bad


@numba.njit(**STRICT)
def turn(strip, turned, count, width):
    """Transpose the rows of a strip, 8 by 8."""
    wide, high = strip.shape[1], turned.shape[1]
    for j in range(0, width, 8):
        for r in range(0, count, 8):
            _turn_square(strip, r * wide + j, wide, turned, j * high + r, high)


@numba.njit(**STRICT)
def write(values, result, offset, i, count, j, width, start, stop):
    """result[i + r, j + k] = values[r, k], r < count, for max(0, start + r) ≤ k < min(width, stop + r).

    Args:
        offset: entries of the result before its first entry in its line; negative for writes into the cache.
    """
    size = LINE // result.itemsize
    for r in range(count):
        here, there = r * values.shape[1], (i + r) * result.shape[1] + j
        first, last = max(0, start + r), min(width, stop + r)
        head = min(last, first + (-(offset + there + first) & (size - 1))) if offset >= 0 else first
        body = head + max(0, last - head) // size * size
        for k in range(first, head):
            result[i + r, j + k] = values[r, k]
        if offset >= 0:
            for k in range(head, body, size):
                _write_line_past(result, there + k, values, here + k)
        else:
            for k in range(head, body, size):
                _write_line(result, there + k, values, here + k)
        for k in range(body, last):
            result[i + r, j + k] = values[r, k]


@numba.njit(**STRICT)
def scale(products, left, right, limit):
    """products[i, j] *= left[i] * right[j]; how many are then larger than the limit."""
    _wide()
    large = 0
    for i in range(products.shape[0]):
        a = left[i]
        for j in range(products.shape[1]):
            c = products[i, j] * (a * right[j])
            products[i, j] = c
            large += abs(c) > limit
    return large


@numba.njit(**STRICT)
def run_tiles(
    code, space, roots, G, S, L, R, near, series, values, peaks, gi, gj, i0, i1, j0, j1, triangle, mirrored, offsets,
    out, flags, start, step
):  # fmt: skip
    """Every ``step``-th tile of a panel of every result; below the diagonal only for a ``triangle``.

    Args:
        code: instructions; ``roots`` are the registers asked for.
        space: see ``workspace``.
        G: cosines between data, and other values per pair, whose entry (0, 0) belongs to the pair (gi, gj).
        S, L, R: numbers, what is known per first input (N1, k) and per second input (k, N2).
        near: the least 1 − |ρ| of angles between hidden vectors and of angles of data.
        series, values, peaks: of smooth functions, see ``coefficients.Series``.
        mirrored: write the transposed tiles too.
        offsets: of the results, see ``write``.
        out: a tuple of (N1, N2) arrays.
        flags: set for a tile that has a result that is not finite.
        start: the first tile.
    """
    reg, strips, turned, row, work = space
    tile, high = reg.shape[1] - PAD, strips.shape[1]
    across = (j1 - j0 + tile - 1) // tile
    limit = LARGEST[0] if out[0].itemsize == 4 else LARGEST[1]
    for k in range(len(S)):
        row[k] = S[k]
    for n in range(start, len(flags), step):
        top, left = i0 + n // across * tile, j0 + n % across * tile
        bottom, right = min(top + tile, i1), min(left + tile, j1)
        bad = 0
        for k in range(R.shape[0]):
            for j in range(right - left):
                reg[k, j] = R[k, left + j]
        for first in range(top, bottom if left < bottom or not triangle else top, high):
            count = min(high, bottom - first)
            for r in range(count):
                i = first + r
                w = min(right, i) - left if triangle else right - left
                for k in range(L.shape[1]):
                    row[len(S) + k] = L[i, k]
                execute(code, reg, row, G, i - gi, left - gj, i, left, w, near, series, values, peaks, work)
                for k in range(len(roots)):
                    bad += keep(reg, roots[k], strips, k, r, 0, w, limit)
            for k in range(len(roots)):
                w, stop = right - left, first - left if triangle else right
                write(strips[k], out[k], offsets[k], first, count, left, w, -count, stop)
                if mirrored:
                    w, after = min(w, stop + count), left + 1 - first if triangle else -w
                    turn(strips[k], turned, count, w)
                    write(turned, out[k], offsets[k], left, w, first, count, after, count)
        flags[n] = bad > 0


@numba.njit(**STRICT)
def gap_row(stack, U, V, t, i, left, w, near):
    """stack[0, i, left : left + w] = the signed gaps of the directions U[t, i] and V[t, :, j]; see ``vectors``."""
    d = U.shape[2]
    for j in range(w):
        stack[0, i, left + j] = 0.0
    for s in range(d):
        u = U[t, i, s]
        for j in range(w):
            stack[0, i, left + j] += u * V[t, s, left + j]
    for j in range(w):
        rho = stack[0, i, left + j]
        small = max(1.0 - abs(rho), LEAST)
        stack[0, i, left + j] = -small if rho < 0.0 else small
    for j in range(w if d > 1 else 0):  # of numbers they are exact
        if abs(stack[0, i, left + j]) < near:
            sign, total = -1.0 if stack[0, i, left + j] < 0.0 else 1.0, 0.0
            for s in range(d):
                c = U[t, i, s] - sign * V[t, s, left + j]
                total += c * c
            stack[0, i, left + j] = sign * max(0.5 * total, LEAST)


@numba.njit(**STRICT)
def run_steps(
    codes, roots, numbers, parts, U, V, L, R, near, series, values, peaks, stack, triangle, tile, space, start, step
):  # fmt: skip
    """Steps of a loop over time on every ``step``-th tile of all pairs: a tile takes them all while it is in cache.

    Args:
        codes, roots, numbers: of the programs of a step.
        parts: (time, program, first and last row, first and last column) in the order of time.
        U, V: directions of the data, (times, N1, d) and (times, d, N2).
        L, R: what is known per input, of each part, (parts, N1, k) and (parts, k, N2).
        near, series, values, peaks: see ``run_tiles``.
        stack: (·, N1, N2), signed gaps of data and what is carried.
        triangle: pairs below the diagonal only.
        tile: height and width of a tile.
    """
    reg, _, _, row, work = space
    high, wide = tile
    across = (stack.shape[2] + wide - 1) // wide
    for n in range(start, (stack.shape[1] + high - 1) // high * across, step):
        top, left = n // across * high, n % across * wide
        for m in range(len(parts)):
            t, program, r0, r1, c0, c1 = parts[m]
            a, b = max(left, c0), min(left + wide, c1)
            for k in range(R.shape[1]):
                for j in range(b - a):
                    reg[k, j] = R[m, k, a + j]
            for k in range(len(numbers[program])):
                row[k] = numbers[program][k]
            for i in range(max(top, r0), min(top + high, r1)):
                w = (min(b, i) if triangle else b) - a
                if w > 0:
                    for k in range(L.shape[2]):
                        row[len(numbers[program]) + k] = L[m, i, k]
                    gap_row(stack, U, V, t, i, a, w, near[0])
                    execute(codes[program], reg, row, stack, i, a, i, a, w, near, series, values, peaks, work)
                    for k in range(len(roots[program])):
                        keep(reg, roots[program][k], stack, k + 1, i, a, w, np.inf)


def workspace(roots: int, registers: int, numbers: int) -> tuple[np.ndarray, ...]:
    """Arrays of one thread: registers, strips of results and one of them transposed, the numbers of a row, ρ."""
    wide, high = TILE + PAD, STRIP + PAD
    shapes = (registers, wide), (roots, STRIP, wide), (wide, high), (numbers,), (3, wide)
    return tuple(np.empty(shape) for shape in shapes)


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _stamp():
    return STAMP


compile_again(_stamp, STAMP, list(globals().values()))
