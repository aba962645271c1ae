"""The numba machine over positions: one offset of pairs of positions at a time, LANES pairs of inputs together.

A register holds an array over the box of an offset: entry (t, b) is that of the t-th position of the first input and
of the second input number b of a group.  Windows are sums of shifted boxes, axis by axis.
"""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from pathlib import Path
from zlib import crc32

import numba
import numpy as np

from tensorprog.compile import boxes as rows
from tensorprog.compile import curves, machine, offsets, steps
from tensorprog.compile.arrays import LEAST, NEAR
from tensorprog.compile.boxes import add_one, add_three, add_two, multiply, multiply_more
from tensorprog.compile.curves import begin, exponential, hyperbolic, smooth, turning
from tensorprog.compile.machine import INLINE, STRICT, _wide, arc_row, asin_row
from tensorprog.compile.offsets import NDIM
from tensorprog.compile.recompiling import compile_again
from tensorprog.compile.steps import CONSTANT, DATA_PART, LANES, OPCODES, WINDOWED

(
    LIN,
    MUL,
    FMA,
    AXPY,
    FILL,
    SAME,
    DATA,
    FIRST,
    SECOND,
    OUTER,
    WINDOW,
    NEAR_GAP,
    GAP,
    ARC,
    ASIN,
    EXP,
    SINH,
    COSH,
    SMOOTH,
    SUM,
) = map(OPCODES.get, steps.NAMES)
CHUNK = 32
FOLD = 8 * LANES
TRUE = 1e-9  # how far the parts of a variance may be from its sum
SOURCES = [Path(str(module.__file__)).read_bytes() for module in (machine, offsets, steps, rows, curves)]
STAMP = crc32(b"".join(SOURCES), machine.STAMP)


@numba.njit(**STRICT)
def slide(source, s, target, t, outer, given, made, inner, start, gap, taps, wraps, a, b):
    """target[o, i, :] = a Σ_k source[o, i + start + gap k, :] + b, rows of ``inner`` LANES, absent ones 0.

    Args:
        s, t: where source and target begin in their arrays.
    """
    _wide()
    row = inner * LANES
    for _ in range(outer):
        low, high = max(0, -start), min(made, given - start - gap * (taps - 1))  # where all are there
        if high > low:
            at, first, span = t + low * row, s + (low + start) * row, (high - low) * inner
            if taps == 1:
                add_one(target, at, source, first, 0, 0, span, a, b)
            elif taps == 2:
                add_two(target, at, source, first, first + gap * row, 0, span, a, b)
            else:
                add_three(target, at, source, first, first + gap * row, first + 2 * gap * row, span, a, b)
            for k in range(3, taps):
                add_scaled(target, at, source, first + k * gap * row, span, a)
        for i in range(made):
            if low <= i < high:
                continue
            before = -1
            count = 0
            for k in range(taps):
                y = i + start + gap * k
                if wraps:
                    y %= given
                if 0 <= y < given:
                    count += 1
                    if count == 2:
                        add_two(target, t + i * row, source, before, s + y * row, 0, inner, a, b)
                    elif count > 2:
                        add_scaled(target, t + i * row, source, s + y * row, inner, a)
                    before = s + y * row
            if count == 1:
                add_one(target, t + i * row, source, before, 0, 0, inner, a, b)
            elif count == 0:
                for j in range(row):
                    target.flat[t + i * row + j] = b
        s, t = s + given * row, t + made * row


@numba.njit(**STRICT)
def add_scaled(target, t, source, s, inner, a):
    """target[t + j] += a source[s + j]."""
    for j in range(inner * LANES):
        target.flat[t + j] += a * source.flat[s + j]


@numba.njit(**STRICT)
def jump(source, s, target, t, outer, given, made, inner, start, stride, gap, taps, transposed, a, b):
    """The same with a stride: target[o, i, :] = a Σ_k source[o, stride i + start + gap k, :] + b, or transposed."""
    _wide()
    row = inner * LANES
    for j in range(outer * made * row):
        target.flat[t + j] = b
    for _ in range(outer):
        for i in range(given if transposed else made):
            for k in range(taps):
                y = stride * i + start + gap * k
                if transposed and 0 <= y < made:
                    add_scaled(target, t + y * row, source, s + i * row, inner, a)
                elif not transposed and 0 <= y < given:
                    add_scaled(target, t + i * row, source, s + y * row, inner, a)
        s, t = s + given * row, t + made * row


@numba.njit(**STRICT)
def window(reg, o, x, space, boxes, along, wraps, a, b):
    """reg[o] = a · the sum over a window of reg[x], axis by axis, + b."""
    given, made, transposed = boxes[along[0]], boxes[along[1]], along[2] == 1
    size, wide = reg.shape[1], space.shape[1]
    axes, outer, k = 0, 1, 0
    for axis in range(NDIM):
        axes += along[3 + 4 * axis] * along[4 + 4 * axis] > 1 or given[NDIM + axis] != made[NDIM + axis]
    if axes == 0:
        add_one(reg, o * size, reg, x * size, 0, 0, given[NDIM] * given[NDIM + 1] * given[NDIM + 2], a, b)
    source, s = reg, x * size
    for axis in range(NDIM):
        taps, stride, gap, begin = along[3 + 4 * axis], along[4 + 4 * axis], along[5 + 4 * axis], along[6 + 4 * axis]
        n, m = given[NDIM + axis], made[NDIM + axis]
        if taps * stride > 1 or n != m:
            inner = 1
            for later in range(axis + 1, NDIM):
                inner *= given[NDIM + later]
            k += 1
            target, t = (reg, o * size) if k == axes else (space, k * wide)
            scale, shift = (a, b) if k == axes else (1.0, 0.0)
            if transposed:
                start = stride * given[axis] + begin - made[axis]
            else:
                start = stride * made[axis] + begin - given[axis]
            if stride == 1:
                start = -start - gap * (taps - 1) if transposed else start
                slide(source, s, target, t, outer, n, m, inner, start, gap, taps, wraps, scale, shift)
            else:
                jump(source, s, target, t, outer, n, m, inner, start, stride, gap, taps, transposed, scale, shift)
            source, s = target, t
        outer *= m


@numba.njit(**INLINE)
def _place(axis, i, box, sizes, wraps):
    """The position of the second input that belongs to i of the first along an axis, −1 for an absent one."""
    j = i + box[2 * NDIM + axis]
    if wraps:
        j %= sizes[axis]
    return j if 0 <= j < sizes[axis] else -1


@numba.njit(**STRICT)
def apart(
    reg, t, lane, box, boxes, r1, r2, parts, scales, first, last, windows, shapes, L, R, bases, channels, wraps, at
):
    """1 − ρ and 1 + ρ of one entry of a covariance from its parts, in terms that are not negative; see ``cosines``.

    Args:
        t, lane, box: the entry.
        r1, r2: one over the roots of its variances.
        first, last: its parts.
        at: integers to write over.
    """
    minus, plus, one, two = 0.0, 0.0, 0.0, 0.0
    for axis in range(NDIM - 1, -1, -1):
        at[axis] = box[axis] + t % box[NDIM + axis]
        t //= box[NDIM + axis]
    for n in range(first, last):
        kind, row, k1, k2, which, level = (
            parts[n, 0], parts[n, 1], parts[n, 2], parts[n, 3], parts[n, 4], parts[n, 5])  # fmt: skip
        scale = np.sqrt(scales[n] / channels if kind & DATA_PART else scales[n])
        here, sizes = boxes[level], shapes[level]
        along = windows[max(which, 0)]
        n0 = along[3] if kind & WINDOWED else 1
        n1 = along[7] if kind & WINDOWED else 1
        n2 = along[11] if kind & WINDOWED else 1
        for tap in range(n0 * n1 * n2):
            k = tap
            p = q = flat = 0
            both_p = both_q = True
            for axis in range(NDIM):
                rest = n1 * n2 if axis == 0 else n2 if axis == 1 else 1
                m, k = k // rest, k % rest
                i, j = at[axis], _place(axis, at[axis], box, shapes[parts[n, 6], 1], wraps)
                if kind & WINDOWED:
                    stride, gap, begin = along[4 + 4 * axis], along[5 + 4 * axis], along[6 + 4 * axis]
                    i, j = stride * i + begin + gap * m, stride * j + begin + gap * m
                if wraps:
                    i, j = i % sizes[0, axis], j % sizes[1, axis]
                both_p &= 0 <= i < sizes[0, axis]
                both_q &= 0 <= j < sizes[1, axis]
                p, q = p * sizes[0, axis] + i, q * sizes[1, axis] + j
                flat = flat * here[NDIM + axis] + i - here[axis]
            if kind & CONSTANT:
                u, v = scale * r1 if both_p else 0.0, scale * r2 if both_q else 0.0
                minus, plus = minus + 0.5 * (u - v) ** 2, plus + 0.5 * (u + v) ** 2
                one, two = one + u * u, two + v * v
            elif kind & DATA_PART:
                wide, high = sizes[0, 0] * sizes[0, 1] * sizes[0, 2], sizes[1, 0] * sizes[1, 1] * sizes[1, 2]
                for c in range(channels):
                    u = scale * r1 * L[bases[0, 0] + c * wide + p] if both_p else 0.0
                    v = scale * r2 * R[bases[0, 1] + c * high + q, lane] if both_q else 0.0
                    minus, plus = minus + 0.5 * (u - v) ** 2, plus + 0.5 * (u + v) ** 2
                    one, two = one + u * u, two + v * v
            else:
                u = scale * r1 * L[bases[k1, 0] + p] if both_p else 0.0
                v = scale * r2 * R[bases[k2, 1] + q, lane] if both_q else 0.0
                g = 0.0
                if both_p and both_q and u * v != 0.0 and row >= 0:
                    g = reg[row, flat * LANES + lane]
                far = 2.0 - g if g >= 0.0 else -g
                g = g if g >= 0.0 else 2.0 + g
                square = 0.5 * (u - v) ** 2
                minus, plus = minus + square + u * v * g, plus + square + u * v * far
                one, two = one + u * u, two + v * v
    known = abs(one - 1.0) < TRUE and abs(two - 1.0) < TRUE
    return minus if known else np.nan, plus if known else np.nan


@numba.njit(**STRICT)
def near_gaps(reg, o, x, y, count, box, boxes, k1, k2, parts, scales, first, last, windows, shapes, L, R, bases,
              channels, wraps, lanes, at):  # fmt: skip
    """reg[o] = 1 − ρ of ρ = reg[x] reg[y], signed, from the parts of the covariance where it is near ±1."""
    _wide()
    few = 0
    for j in range((count * LANES + CHUNK - 1) & -CHUNK):
        g = 1.0 - reg[x, j] * reg[y, j]
        few += (g < NEAR) | (g > 2.0 - NEAR)
        reg[o, j] = g
    if few == 0:
        return
    sizes = shapes[parts[first, 6]]
    for t in range(count):
        for lane in range(lanes):
            g = reg[o, t * LANES + lane]
            if g < NEAR or g > 2.0 - NEAR:
                p = q = 0
                rest, span = t, count
                for axis in range(NDIM):
                    span //= box[NDIM + axis]
                    i, rest = box[axis] + rest // span, rest % span
                    p, q = p * sizes[0, axis] + i, q * sizes[1, axis] + _place(axis, i, box, sizes[1], wraps)
                r1, r2 = L[bases[k1, 0] + p], R[bases[k2, 1] + q, lane]
                minus, plus = apart(reg, t, lane, box, boxes, r1, r2, parts, scales, first, last, windows, shapes, L, R,
                                    bases, channels, wraps, at)  # fmt: skip
                found = max(minus, LEAST) if g < NEAR else -max(plus, LEAST)
                reg[o, t * LANES + lane] = found


@numba.njit(**STRICT)
def spread(reg, o, box, shape, a, L, R, one, two, wraps, more):
    """reg[o] = (or +=) a · L · R of what is known per first and per second input; −1 for what is not there."""
    _wide()
    width, size = box[NDIM + 2], o * reg.shape[1]
    for row in range(box[NDIM] * box[NDIM + 1]):
        p, q = begin(box, shape[0], 0, row, wraps), begin(box, shape[1], 1, row, wraps)
        turn = turning(box, shape[1], wraps)
        for piece in range(2):
            i, j = (0, turn) if piece == 0 else (turn, width)
            t, at = size + (row * width + i) * LANES, (two + q + i - piece * shape[1, 2]) * LANES
            if j <= i:
                continue
            if two < 0:
                for k in range(j - i):
                    for b in range(LANES):
                        reg.flat[t + k * LANES + b] = a * L[one + p + i + k]
            elif one < 0:
                add_one(reg, t, R, at, 0, 0, j - i, a, 0.0)
            elif more:
                multiply_more(reg, t, L, one + p + i, R, at, j - i, a)
            else:
                multiply(reg, t, L, one + p + i, R, at, j - i, a)


@numba.njit(**STRICT)
def total(reg, x, count, out, k, rest, part, a):
    """out[k, b] += a Σ_t reg[x, (t, b)], with what rounding left of the sums before; ``part`` is written over."""
    _wide()
    for j in range(FOLD):
        part[j] = 0.0
    full = count * LANES // FOLD * FOLD
    for j in range(0, full, FOLD):
        for b in range(FOLD):
            part[b] += reg[x, j + b]
    for j in range(full, count * LANES):
        part[j - full] += reg[x, j]
    for j in range(LANES, FOLD):
        part[j % LANES] += part[j]
    for b in range(LANES):
        new = a * part[b] + rest[k, b]
        old = out[k, b]
        out[k, b] = old + new
        rest[k, b] = new - (out[k, b] - old)


@numba.njit(**STRICT)
def run_offset(code, numbers, parts, scales, windows, shapes, here, bases, channels, wraps, L, R, lanes, i, g, series,
               values, peaks, reg, space, at, out, rest):  # fmt: skip
    """Add the totals of one first input with a group of second inputs over one offset to ``out``, (roots, LANES).

    Args:
        code, numbers, parts, scales, windows: see ``steps.Code``.
        shapes, here: of levels their sizes, and their boxes.
        bases: where arrays of what is known per input begin.
        channels: of the data.
        wraps: whether borders are circular.
        L, R: what is known per input, (·,) and (·, LANES), one array after the other.
        lanes: how many inputs there are in the group.
        i, g, series, values, peaks: of smooth functions, see ``curves.smooth``.
        reg, space, at, rest: see ``workspace``.
    """
    _wide()
    for k in range(len(code)):
        op, o, x, y, z, level, m = code[k, 0], code[k, 1], code[k, 4], code[k, 5], code[k, 6], code[k, 9], code[k, 10]
        a, b = numbers[code[k, 7]], numbers[code[k, 8]]
        box, shape = here[level], shapes[level]
        count = box[NDIM] * box[NDIM + 1] * box[NDIM + 2]
        full = (count * LANES + CHUNK - 1) & -CHUNK
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
        elif op == FILL:
            for j in range(full):
                reg[o, j] = a
        elif op == SAME:
            c = 1.0 if box[2 * NDIM] == 0 and box[2 * NDIM + 1] == 0 and box[2 * NDIM + 2] == 0 else 0.0
            for j in range(full):
                reg[o, j] = c
        elif op == DATA:
            wide, high = shape[0, 0] * shape[0, 1] * shape[0, 2], shape[1, 0] * shape[1, 1] * shape[1, 2]
            for c in range(channels):
                spread(reg, o, box, shape, 1.0 / channels, L, R, bases[0, 0] + c * wide, bases[0, 1] + c * high, wraps,
                       c > 0)  # fmt: skip
        elif op == FIRST:
            spread(reg, o, box, shape, 1.0, L, R, bases[m, 0], -1, wraps, False)
        elif op == SECOND:
            spread(reg, o, box, shape, 1.0, L, R, -1, bases[m, 1], wraps, False)
        elif op == OUTER:
            spread(reg, o, box, shape, a, L, R, bases[m, 0], bases[code[k, 11], 1], wraps, False)
        elif op == WINDOW:
            window(reg, o, x, space, here, windows[m], wraps, a, b)
        elif op == NEAR_GAP:
            near_gaps(reg, o, x, y, count, box, here, code[k, 2], code[k, 3], parts, scales, m, code[k, 11], windows,
                      shapes, L, R, bases, channels, wraps, lanes, at)  # fmt: skip
        elif op == GAP:
            for j in range(full):
                c = 1.0 - reg[x, j] * reg[y, j]
                reg[o, j] = np.nan if c < NEAR or c > 2.0 - NEAR else c
        elif op == ARC:
            arc_row(reg, o, code[k, 2], code[k, 3], x, y, z, full, a, b, NEAR)
        elif op == ASIN:
            asin_row(reg, o, code[k, 2], x, y, full, a, NEAR, b)
        elif op == EXP:
            exponential(reg, o, x, y, full)
        elif op in (SINH, COSH):
            hyperbolic(reg, o, x, y, full, op == SINH)
        elif op == SMOOTH:
            smooth(reg, o, x, y, box, shape, i, g, series[m], values, peaks, space[0], wraps)
        elif op == SUM:
            total(reg, x, count, out, m, rest, space[0], a)


@numba.njit(**STRICT)
def run_rows(code, numbers, parts, scales, windows, shapes, boxes, which, bases, channels, wraps, L, R, lanes, g,
             series, values, peaks, start, stop, reg, space, at, rest, out):  # fmt: skip
    """The totals of first inputs start..stop with a group of second inputs over some offsets, (rows, roots, LANES)."""
    for i in range(start, stop):
        rest[:] = 0.0
        out[i - start] = 0.0
        for n in which:
            run_offset(code, numbers, parts, scales, windows, shapes, boxes[n], bases, channels, wraps, L[i], R, lanes,
                       i, g, series, values, peaks, reg, space, at, out[i - start], rest)  # fmt: skip


def workspace(registers: int, positions: int, roots: int) -> tuple[np.ndarray, ...]:
    """Arrays of one thread: registers of which the last is 1, sums along some axes, a position, what rounding left."""
    size = (positions * LANES + CHUNK - 1 & -CHUNK) + CHUNK
    reg = np.zeros((registers, max(size, FOLD)))
    reg[-1] = 1.0
    return reg, np.zeros((NDIM, max(size, FOLD))), np.zeros(NDIM, np.int64), np.zeros((roots, LANES))


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _stamp():
    return STAMP


compile_again(_stamp, STAMP, list(globals().values()))
