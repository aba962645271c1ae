"""Loops over whole arrays (B, P, Q) for kernels over positions: angles and what relu and step make of them, windows."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from math import pi
from pathlib import Path
from zlib import crc32

import numba
import numpy as np

from tensorprog.compile import machine
from tensorprog.compile.arrays import OPPOSITE
from tensorprog.compile.machine import STRICT, _asin, _wide
from tensorprog.compile.recompiling import compile_again

SOURCES = [Path(str(machine.__file__)).read_bytes()]
STAMP = crc32(b"".join(SOURCES), machine.STAMP)


@numba.njit(**STRICT)
def gaps(c, r1, r2, out, near):
    """out = 1 − |c| r1 r2, 0 where rounding makes it negative; how many are below ``near``.

    Args:
        c, out: (B, P, Q).
        r1, r2: one over the roots of variances, 0 for those that are 0, (B, P) and (B, Q).
    """
    _wide()
    few = 0
    for b in range(c.shape[0]):
        for p in range(c.shape[1]):
            r = r1[b, p]
            for q in range(c.shape[2]):
                g = 1.0 - abs(c[b, p, q]) * (r * r2[b, q])
                g = 0.0 if g < 0.0 else g
                few += g < near
                out[b, p, q] = g
    return few


@numba.njit(**STRICT)
def arcs(gap, c, s1, s2, relu, step):
    """E relu(u) relu(v) and E step(u) step(v), given 1 − |ρ|, whose sign is that of c.

    With φ the angle of gap, √(q1 q2) (sin φ + (π − φ) cos φ)/2π for ρ > 0, √(q1 q2) (sin φ − φ cos φ)/2π for ρ < 0.

    Args:
        gap, c, relu, step: (B, P, Q).
        s1, s2: roots of variances, (B, P) and (B, Q).
    """
    _wide()
    for b in range(c.shape[0]):
        for p in range(c.shape[1]):
            s, there = s1[b, p] * (0.5 / pi), 0.5 / pi if s1[b, p] > 0.0 else 0.0
            for q in range(c.shape[2]):
                g = gap[b, p, q]
                z = 0.5 * g if g < 0.5 else (1.0 - g) * (1.0 - g)
                half = _asin(np.sqrt(z), z)
                angle = 2.0 * half if g < 0.5 else pi / 2 - half
                sine = np.sqrt(g * (2.0 - g))
                square = angle * angle  # (sin φ − φ cos φ) = φ³/3 − φ⁵/30 + ..
                tail = 1 / 3 - square * (1 / 30 - square * (1 / 840 - square * (1 / 45360 - square / 3991680)))
                apart = angle * square * tail if angle < OPPOSITE else sine - angle * (1.0 - g)
                opposite = c[b, p, q] < 0.0
                relu[b, p, q] = s * s2[b, q] * (apart if opposite else apart + pi * (1.0 - g))
                step[b, p, q] = (there if s2[b, q] > 0.0 else 0.0) * (angle if opposite else pi - angle)


@numba.njit(**STRICT)
def windows(c, out, left, right, scale, transposed):
    """out[b,p,q] += scale Σ_k c[b, left[k,p], right[k,q]]; transposed, out[b, left[k,p], right[k,q]] += scale c[b,p,q].

    Entries of ``left`` and ``right`` are −1 where nothing is read.
    """
    _wide()
    for b in range(c.shape[0]):
        for p in range(left.shape[1]):
            for k in range(left.shape[0]):
                m, q = left[k, p], 0
                while m >= 0 and q < right.shape[1]:
                    n = right[k, q]
                    if n < 0:
                        q += 1
                        continue
                    stop = q + 1  # positions beside each other that read positions beside each other
                    while stop < right.shape[1] and right[k, stop] == n + stop - q:
                        stop += 1
                    if transposed:
                        for j in range(stop - q):
                            out[b, m, n + j] += scale * c[b, p, q + j]
                    else:
                        for j in range(stop - q):
                            out[b, p, q + j] += scale * c[b, m, n + j]
                    q = stop


@numba.njit(**STRICT)
def along_first(c, out, reads, scale, transposed):
    """out[b,p,q] += scale Σ_k c[b, reads[k,p], q], or transposed out[b, reads[k,p], q] += scale c[b,p,q]."""
    _wide()
    for b in range(c.shape[0]):
        for k in range(reads.shape[0]):
            for p in range(reads.shape[1]):
                m = reads[k, p]
                s, t = (p, m) if transposed else (m, p)
                if m >= 0:
                    for q in range(c.shape[2]):
                        out[b, t, q] += scale * c[b, s, q]


@numba.njit(**STRICT)
def along_last(c, out, reads, scale, transposed):
    """The same of q."""
    for b in range(c.shape[0]):
        for p in range(c.shape[1]):
            for k in range(reads.shape[0]):
                for q in range(reads.shape[1]):
                    m = reads[k, q]
                    s, t = (q, m) if transposed else (m, q)
                    if m >= 0:
                        out[b, p, t] += scale * c[b, p, s]


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def _stamp():
    return STAMP


compile_again(_stamp, STAMP, list(globals().values()))
