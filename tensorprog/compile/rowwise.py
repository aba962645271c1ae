"""The Mehler series of smooth functions along a row of pairs, GROUP pairs at a time with as many terms as they need."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tensorprog.compile.coefficients import CUT, GROUP
from tensorprog.expectations.series.hermite import LEVELS

STRICT: dict[str, Any] = {"cache": True, "nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "_nrt": False}
ORDERS = np.array(LEVELS, np.float64)
ACCEPTED = float(np.log(1e-13))  # log of the largest remainder of a result, relative to (E φ² E ψ²)^½
LANES = ir.VectorType(ir.DoubleType(), GROUP)


@intrinsic
def horner(typing, out, o, values, a, b, terms, work, power, lead):
    """out[o + k] = work[lead + k] Σ_{m < terms} a_m b_mk work[power + k]^m for k < GROUP, in registers.

    Positions are flat: a_m is values[a + m GROUP] and b_mk values[b + m GROUP + k].
    """

    def code(context, builder, signature, args):
        data = {n: context.make_array(signature.args[n])(context, builder, args[n]).data for n in (0, 2, 6)}

        def lanes(array, position):
            return builder.bitcast(builder.gep(data[array], [position]), LANES.as_pointer())

        def scaled(m, start):
            return builder.add(start, builder.mul(m, ir.Constant(m.type, GROUP)))

        x = builder.load(lanes(6, args[7]), align=8)
        total = cgutils.alloca_once_value(builder, ir.Constant(LANES, [0.0] * GROUP))
        with cgutils.for_range(builder, args[5]) as loop:
            m = builder.sub(builder.sub(args[5], loop.index), ir.Constant(loop.index.type, 1))
            first = builder.load(builder.gep(data[2], [scaled(m, args[3])]))
            one = builder.insert_element(ir.Constant(LANES, ir.Undefined), first, ir.Constant(ir.IntType(32), 0))
            whole = builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), GROUP), [0] * GROUP))
            second = builder.load(lanes(2, scaled(m, args[4])), align=8)
            term = builder.fmul(whole, second, flags=("contract",))
            more = builder.fmul(builder.load(total), x, flags=("contract",))
            builder.store(builder.fadd(more, term, flags=("contract",)), total)
        result = builder.fmul(builder.load(total), builder.load(lanes(6, args[8]), align=8))
        builder.store(result, lanes(0, args[1]), align=8)
        return context.get_dummy_value()

    return types.void(out, o, values, a, b, terms, work, power, lead), code


@numba.njit(**STRICT)
def smooth_row(reg, o, x, r2, j0, w, r1, i, series, values, peaks, work):
    """E φ(u)ψ(v) of ρ = c r1 r2 for the pairs (i, j0 + j), NaN where the series is too long."""
    first, second, count, t1, t2, top, i_first, j_first, levels, odd, squared = (
        series[0], series[1], series[2], series[3], series[4], series[5], series[6], series[7], series[8],
        series[9], series[10])  # fmt: skip
    group, lane = (i - i_first) // GROUP, (i - i_first) % GROUP
    a, t1 = (first + group * count) * GROUP + lane, t1 + group * len(ORDERS)
    width = work.shape[1]
    for j in range(w):
        rho = reg[x, j] * r1 * reg[r2, j]
        rho = 1.0 if rho > 1.0 else rho
        rho = -1.0 if rho < -1.0 else rho
        work[0, j] = rho
        work[1, j] = rho * rho if squared else rho
        work[2, j] = rho if odd else 1.0
    for j in range(w, w + (-w) % GROUP):
        work[0, j] = work[1, j] = work[2, j] = 0.0
    for start in range(0, w, GROUP):
        group = (j0 + start - j_first) // GROUP
        largest = 0.0
        for j in range(start, start + GROUP):
            size = abs(work[0, j])
            largest = size if size > largest else largest
        size, level, peak = np.log(largest), 0, top + group * len(ORDERS)
        while level < levels and not (
            (ORDERS[level] - odd) * size + values[t1 + level, lane] + peaks[peak + level] <= CUT
        ):
            level += 1
        terms = int(ORDERS[min(level, levels - 1)]) >> squared
        b = (second + group * count) * GROUP
        horner(reg, o * width + start, values, a, b, terms, work, width + start, 2 * width + start)
        if level == levels:
            for j in range(start, min(start + GROUP, w)):
                rest = (ORDERS[levels - 1] - odd) * np.log(abs(work[0, j])) + values[t1 + levels - 1, lane]
                rest += values[t2 + group * len(ORDERS) + levels - 1, j - start]
                if not rest <= ACCEPTED:
                    reg[o, j] = np.nan
