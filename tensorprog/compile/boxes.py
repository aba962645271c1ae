"""Rows of boxes for the numba machine over positions, LANES numbers at a time: written in vectors, since the compiler
finds none where it cannot tell that arrays are apart or indices not negative."""

# mypy: disable-error-code="no-untyped-def"
from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from tensorprog.compile.coefficients import GROUP
from tensorprog.compile.steps import LANES

VECTOR = ir.VectorType(ir.DoubleType(), LANES)


def _all(builder, number):
    """A number in all lanes."""
    one = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.Constant(ir.IntType(32), 0))
    return builder.shuffle_vector(one, one, ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES))


def _data(context, builder, array, value):
    return context.make_array(array)(context, builder, value).data


def _lanes(builder, data, at, step):
    """The address of LANES numbers, number ``step`` after ``at``."""
    place = builder.add(at, builder.mul(step, ir.Constant(step.type, LANES)))
    return builder.bitcast(builder.gep(data, [place]), VECTOR.as_pointer())


def _adder(taps):
    """An intrinsic: target.flat[t + j] = scale Σ_k source.flat[s_k + j] + shift for j < count LANES."""

    def add_rows(typing, target, t, source, s0, s1, s2, count, scale, shift):
        def code(context, builder, signature, args):
            into, data = (_data(context, builder, signature.args[n], args[n]) for n in (0, 2))
            factor, rest = _all(builder, args[7]), _all(builder, args[8])
            with cgutils.for_range(builder, args[6]) as loop:
                total = builder.load(_lanes(builder, data, args[3], loop.index), align=8)
                for k in range(1, taps):
                    more = builder.load(_lanes(builder, data, args[3 + k], loop.index), align=8)
                    total = builder.fadd(total, more)
                total = builder.fadd(builder.fmul(total, factor, flags=("contract",)), rest, flags=("contract",))
                builder.store(total, _lanes(builder, into, args[1], loop.index), align=8)
            return context.get_dummy_value()

        i, f = types.intp, types.float64
        return types.void(target, i, source, i, i, i, i, f, f), code

    return intrinsic(add_rows)


add_one, add_two, add_three = map(_adder, (1, 2, 3))


def _multiplier(more):
    """An intrinsic: target.flat[t + k] = (or +=) a left.flat[p + j] right.flat[q + k], k = j LANES + b, j < count."""

    def multiply(typing, target, t, left, p, right, q, count, a):
        def code(context, builder, signature, args):
            into, one, two = (_data(context, builder, signature.args[n], args[n]) for n in (0, 2, 4))
            with cgutils.for_range(builder, args[6]) as loop:
                number = builder.load(builder.gep(one, [builder.add(args[3], loop.index)]))
                factor = _all(builder, builder.fmul(number, args[7]))
                value = builder.load(_lanes(builder, two, args[5], loop.index), align=8)
                place = _lanes(builder, into, args[1], loop.index)
                value = builder.fmul(factor, value, flags=("contract",))
                if more:
                    value = builder.fadd(builder.load(place, align=8), value, flags=("contract",))
                builder.store(value, place, align=8)
            return context.get_dummy_value()

        i, f = types.intp, types.float64
        return types.void(target, i, left, i, right, i, i, f), code

    return intrinsic(multiply)


multiply, multiply_more = map(_multiplier, (False, True))


@intrinsic
def horner(typing, out, o, values, a, b, terms, work):
    """out.flat[o + k] = work[2 LANES + k] Σ_{m < terms} a_m b_mk work[LANES + k]^m for k < LANES.

    Positions are flat: a_m is values[a + m GROUP] and b_mk values[b + m GROUP + k].
    """

    def code(context, builder, signature, args):
        into, table, given = (_data(context, builder, signature.args[n], args[n]) for n in (0, 2, 6))
        word = args[5].type

        def lanes(data, at):
            return builder.bitcast(builder.gep(data, [at]), VECTOR.as_pointer())

        def row(start, m):
            return builder.add(start, builder.mul(m, ir.Constant(word, GROUP)))

        x = builder.load(lanes(given, ir.Constant(word, LANES)), align=8)
        total = cgutils.alloca_once_value(builder, ir.Constant(VECTOR, [0.0] * LANES))
        with cgutils.for_range(builder, args[5]) as loop:
            m = builder.sub(builder.sub(args[5], loop.index), ir.Constant(word, 1))
            first = _all(builder, builder.load(builder.gep(table, [row(args[3], m)])))
            second = builder.load(lanes(table, row(args[4], m)), align=8)
            term = builder.fmul(first, second, flags=("contract",))
            more = builder.fmul(builder.load(total), x, flags=("contract",))
            builder.store(builder.fadd(more, term, flags=("contract",)), total)
        result = builder.fmul(builder.load(total), builder.load(lanes(given, ir.Constant(word, 2 * LANES)), align=8))
        builder.store(result, lanes(into, args[1]), align=8)
        return context.get_dummy_value()

    i = types.intp
    return types.void(out, i, values, i, i, i, work), code
