"""A tape on arrays of any library with the Array API: NumPy on tiles that stay in cache, torch, CuPy, JAX whole."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from math import pi
from typing import Any

import numpy as np

from tensorprog.compile.tape import Op, Tape
from tensorprog.expectations.atoms import variables
from tensorprog.expectations.closed.pairs import MEANS, find_pair
from tensorprog.expectations.law import Value
from tensorprog.expectations.numeric import expectation
from tensorprog.expectations.series.tabulated import MOMENT, tabulated
from tensorprog.functions import FAMILIES, Fn, X, jumps, member
from tensorprog.functions import evaluate as evaluate_expr

Array = Any
OPPOSITE = 0.3  # π − θ below which the V of relu is a series
STEEP = 1e4  # variance from which a smooth function is as steep as a jump, to single digits
LEAST = 1e-300  # of signed gaps, which have no −0
# 1 − |ρ| below which an angle is not had from ρ to 1e-13.  Near 1 a sum of hundreds of products has an error e of up to
# 10 roundings; where 1 − |ρ| = g it gives the angle one of e/√(2g), and 1/√(1 − ρ²) a relative one of e/(2g): that
# needs g ≥ √(NEAR/2).
NEAR = 1e-4


def run(tape: Tape, order: Sequence[int], known: Mapping[int, Array], keep: Sequence[int], xp: Any,
        near: tuple[float, float]) -> list[Array]:  # fmt: skip
    """Values of operations.

    Args:
        tape: the operations.
        order: those to run, each after its arguments.
        known: values of others.
        keep: those to return.
        xp: the array library.
        near: the least 1 − |ρ| of angles between hidden vectors, and between data; smaller ones come out NaN.
    """
    values, machine, kept = dict(known), Machine(xp, near), set(keep)
    last = {a: i for i in order for a in tape.ops[i].args}
    for i in order:
        if i not in values:
            op = tape.ops[i]
            values[i] = RULES[op.kind](machine, op, *(values[a] for a in op.args))
            for a in op.args:
                if last[a] == i and a not in kept and a in values:
                    del values[a]
    return [values[i] for i in keep]


class Machine:
    """The array library, the least gaps, and the angle computed last: the forms of φ and φ' share one."""

    def __init__(self, xp: Any, near: tuple[float, float]) -> None:
        self.xp, self.near = xp, near
        self.asin = getattr(xp, "asin", None) or xp.arcsin
        self._last: tuple[Any, Any] = (None, None)

    def once(self, key: Any, compute: Callable[[], Any]) -> Any:
        """The value computed last for this key."""
        if self._last[0] != key:
            self._last = (key, compute())
        return self._last[1]

    def least(self, gap: Array) -> Array:
        """A gap that rounding may have made negative, which would be read as ρ < 0; NaN stays."""
        return self.xp.where(gap < LEAST, gap * 0 + LEAST, gap)

    def unless(self, bad: Array, x: Array) -> Array:
        """x, NaN where ``bad``."""
        return self.xp.where(bad, x * 0 + float("nan"), x)


def _arc(m: Machine, op: Op, gap: Array) -> tuple[Array, Array]:
    """π − θ, and 1 − ρ of the relu's: 1 − (sin θ + (π − θ) cos θ)/π = gap − (sin θ − θ + θ gap)/π."""

    def compute() -> tuple[Array, Array]:
        flip = (gap < 0) | (gap > 1)  # ρ < 0
        small = m.xp.where(gap < 0, -gap, m.xp.where(gap > 1, 2 - gap, gap))
        small = m.unless(gap > 2 - m.near[0], small)  # 1 + ρ is lost in 1 − ρ
        bent = 2 * m.asin(m.xp.sqrt(small / 2))
        theta, plain = m.xp.where(flip, pi - bent, bent), m.xp.where(flip, 2 - small, small)
        sine = m.xp.sqrt(small * (2 - small))
        return m.xp.where(flip, bent, pi - bent), m.least(plain - (sine - theta + theta * plain) / pi)

    return m.once(op.args, compute)  # type: ignore[no-any-return]


def _relu(m: Machine, op: Op, gap: Array, s1: Array, w1: Array, s2: Array, w2: Array) -> Array:
    left, opened = _arc(m, op, gap)
    square = left * left  # of π − θ; (sin θ + (π − θ) cos θ)/π = ((π − θ)³/3 − (π − θ)⁵/30 + ..)/π
    tail = 1 / 3 - square * (1 / 30 - square * (1 / 840 - square * (1 / 45360 - square / 3991680)))
    return s1 * s2 * m.xp.where(left < OPPOSITE, left * square * tail / pi, 1 - opened)


def _step(m: Machine, op: Op, gap: Array, s1: Array, w1: Array, s2: Array, w2: Array) -> Array:
    return w1 * w2 * _arc(m, op, gap)[0]


def _apart(m: Machine, op: Op, unit: Array) -> Array:
    """The signed gap of two data, NaN where it is too small to be had from the cosine."""
    small = 1 - abs(unit)
    small = m.least(small)
    return m.unless(small < m.near[1], m.xp.where(unit < 0, -small, small))


def _gap(m: Machine, op: Op, c: Array, r1: Array, r2: Array) -> Array:
    gap = 1 - c * r1 * r2
    return m.unless((gap < m.near[0]) | (gap > 2 - m.near[0]), gap)


def _sine(m: Machine, op: Op, c: Array, r1: Array, r2: Array, steep: float) -> tuple[Array, Array]:
    """ρ and 1 − ρ²."""

    def compute() -> tuple[Array, Array]:
        rho = c * r1 * r2
        gap = 1 - abs(rho)
        rho = m.unless(gap < m.near[0], rho)
        return rho, gap * (1 + abs(rho))

    return m.once(op.args, compute)  # type: ignore[no-any-return]


def _rsq(m: Machine, op: Op, c: Array, r1: Array, r2: Array, steep: float) -> Array:
    """1/√(1 − ρ²); what is not ``steep`` is small where it is large."""
    square = _sine(m, op, c, r1, r2, steep)[1]
    return 1 / m.xp.sqrt(m.unless(square * square < (2 * m.near[0] if steep else 4 * m.near[0] * m.near[0]), square))


def _exp(m: Machine, op: Op, c: Array, half: Array) -> Array:
    """exp(c + half), NaN where an error of ρ weighs too much in it."""
    return _unless_steep(m, c, c - half, m.xp.exp(c + half))


def _sinh(m: Machine, op: Op, c: Array, half: Array) -> Array:
    """exp(−half) sinh c, written so that neither factor over- or underflows alone."""
    size = abs(c)
    value = -m.xp.sign(c) * 0.5 * m.xp.exp(size - half) * m.xp.expm1(-2 * size)
    return _unless_steep(m, size, size - half, value)


def _cosh(m: Machine, op: Op, c: Array, half: Array) -> Array:
    """exp(−half) cosh c."""
    return _unless_steep(m, c, abs(c) - half, (m.xp.exp(c - half) + m.xp.exp(-c - half)) / 2)


def _unless_steep(m: Machine, c: Array, exponent: Array, value: Array) -> Array:
    """NaN where c exp(exponent), what an error of ρ is multiplied by, is above 1/√(2 NEAR)."""
    slope = c * m.xp.exp(exponent)
    return m.unless(2 * m.near[0] * slope * slope > 1, value)


def _acute(m: Machine, op: Op, gap: Array) -> Array:
    """1 − |ρ| of a gap, signed or not."""
    size = m.unless(abs(gap) > 2 - m.near[0], abs(gap))
    return m.xp.where(size > 1, 2 - size, size)


MOVES = {"torch": "cpu", "cupy": "get"}  # what brings an array from a device


def host(x: Any) -> np.ndarray:
    """An array of any library as NumPy's."""
    library = type(x).__module__.partition(".")[0]
    if library in MOVES:
        x = getattr(x, MOVES[library])()
    try:
        return np.asarray(x)
    except RuntimeError:  # refused for an array on a device
        return np.from_dlpack(x, device="cpu")


class Unsure:
    """How often an expectation was known to few digits, in this process."""

    count = 0

    def value(self, found: Value) -> np.ndarray:
        """The value of an expectation, counted where its relative error is above 1e-10."""
        self.count += found.unsure
        return found.value


UNSURE = Unsure()


def _there(m: Machine, value: np.ndarray, args: Sequence[Array]) -> Array:
    """A value computed on the host, where its arguments are."""
    if m.xp is np:
        return value
    return m.xp.asarray(value, device=next((a.device for a in args if hasattr(a, "device")), None))


def _form(m: Machine, op: Op, *args: Array) -> Array:
    functions = [member(FAMILIES[name], order) for name, order in op.data]
    form = MEANS[functions[0]].formula if len(functions) == 1 else find_pair(*functions)
    assert form is not None
    on_host = list(map(host, args))
    with np.errstate(all="ignore"):
        value = form(*on_host)
        if len(functions) == 2:
            value = _unless_parallel(m, value, any(map(jumps, functions)), *on_host)
    return _there(m, value, args)


def _expect(m: Machine, op: Op, *args: Array) -> Array:
    body, us, names = op.data
    k, on_host = len(us), list(map(host, args))
    pairs = [(i, j) for i in range(k) for j in range(i, k)]

    def value(entries: list[np.ndarray]) -> np.ndarray:
        cov: list[list[Any]] = [[None] * k for _ in range(k)]
        for (i, j), entry in zip(pairs, entries, strict=False):
            cov[i][j] = cov[j][i] = entry
        mean, scalars = entries[len(pairs) :][:k], entries[len(pairs) + k :]
        return UNSURE.value(expectation(body, us, cov, mean, dict(zip(names, scalars, strict=True))))

    found = _where_known(value, on_host)
    jump = any(jumps(type(f)) for f in body.atoms(Fn))
    entry = dict(zip(pairs, on_host, strict=False))
    for i, j in combinations(range(k), 2):
        found = _unless_parallel(m, found, jump, entry[i, i], entry[j, j], entry[i, j])
    return _there(m, found, args)


def _where_known(f: Callable[[list[np.ndarray]], np.ndarray], args: list[np.ndarray]) -> np.ndarray:
    """f(args) where no argument is NaN, which stands for what is mended elsewhere; NaN elsewhere."""
    unknown = np.zeros((), bool)
    for a in args:
        unknown = unknown | np.isnan(a)
    if not unknown.any():
        return f(args)
    found, known = np.full(unknown.shape, np.nan), ~unknown
    if known.any():
        found[known] = f([np.broadcast_to(a, unknown.shape)[known] for a in args])
    return found


def _unless_parallel(
    m: Machine, value: np.ndarray, jump: bool, q1: np.ndarray, q2: np.ndarray, c: np.ndarray
) -> np.ndarray:
    """NaN where functions with jumps, or of variables so large that others act as jumps, need more than a covariance.

    Its angle θ has an error of ε/θ, and functions of slope 1 tell angles of 1/√q apart.
    """
    with np.errstate(all="ignore"):
        lost = np.maximum(1 - np.abs(c) / np.sqrt(q1 * q2), 0) < m.near[0]  # never where near is 0
        return np.where(lost if jump else lost & (np.minimum(q1, q2) > STEEP), np.nan, value)


def _moment(m: Machine, op: Op, q: Array) -> Array:
    """E φ(u) from the function's table, and where that is not good enough one by one."""
    flat = np.where(host(q) < 0, 0.0, host(q)).reshape(-1)  # negative by rounding
    value = tabulated(op.data, MOMENT).moment(flat)
    rest = np.isnan(value) & ~np.isnan(flat)
    if rest.any():
        value[rest] = UNSURE.value(expectation(op.data, (X,), [[flat[rest]]]))
    return _there(m, value.reshape(np.shape(host(q))), (q,))


def _smooth(m: Machine, op: Op, c: Array, r1: Array, r2: Array, q1: Array, q2: Array, *near: Array) -> Array:
    """E φ(u)ψ(v); given 1 − |ρ| too, to its digits where variances are large and ρ is near ±1."""
    (u, v), entries = variables(2), list(map(host, (q1, c, q2, *near)))
    none = (entries[0] < 0) | (entries[2] < 0)
    if np.any(none):  # by rounding: what has no variance has no covariance
        entries[:3] = np.maximum(entries[0], 0), np.where(none, 0.0, entries[1]), np.maximum(entries[2], 0)
    body = op.data[0].subs(X, u) * op.data[1].subs(X, v)

    def value(a: list[np.ndarray]) -> np.ndarray:
        return UNSURE.value(expectation(body, (u, v), [[a[0], a[1]], [a[1], a[2]]], gap=a[3] if near else None))

    found = _where_known(value, entries)
    return _there(
        m, found if near else _unless_parallel(m, found, False, entries[0], entries[2], entries[1]), (c, q1, q2)
    )


def _formula(m: Machine, op: Op, *args: Array) -> Array:
    expr, symbols = op.data
    return _there(m, evaluate_expr(expr, dict(zip(symbols, map(host, args), strict=True))), args)


def _safe(power: float) -> Callable[..., Array]:
    """x^power, and 0 at 0."""
    return lambda m, op, x: m.xp.where(x > 0, m.xp.where(x > 0, x, x * 0 + 1) ** power, x * 0)


RULES: dict[str, Callable[..., Array]] = {
    "const": lambda m, op: op.data,
    "lin": lambda m, op, a, x, b: a * x + b,
    "mul": lambda m, op, a, x, y: a * x * y,
    "fma": lambda m, op, z, a, x, y: z + a * x * y,
    "axpy": lambda m, op, z, a, x: z + a * x,
    "sqrt": lambda m, op, x: m.xp.sqrt(x),
    "rsqrt": _safe(-0.5),
    "recip": _safe(-1.0),
    "positive": lambda m, op, x: m.xp.where(x > 0, x * 0 + 1, x * 0),
    "relu": _relu,
    "step": _step,
    "relu gap": lambda m, op, gap, *scales: _arc(m, op, gap)[1],
    "apart": _apart,
    "gap": _gap,
    "plain": lambda m, op, gap: m.xp.where(gap < 0, 2 + gap, gap),
    "spread": lambda m, op, z, u, v: z + (u - v) * (u - v) / 2,
    "asin": lambda m, op, c, r1, r2, steep: m.asin(_sine(m, op, c, r1, r2, steep)[0]),
    "rsq": _rsq,
    "exp": _exp,
    "sinh": _sinh,
    "cosh": _cosh,
    "acute": _acute,
    "arctan": lambda m, op, c, r1, r2, square: np.arctan2(c * r1 * r2, np.sqrt(square)),
    "far exp": lambda m, op, c, half, far: np.exp(np.where(c < 0, far, half + c)),
    "far sinh": lambda m, op, c, far: np.sign(c) * np.exp(-far) * -np.expm1(-2 * abs(c)) / 2,
    "far cosh": lambda m, op, c, far: np.exp(-far) * (1 + np.exp(-2 * abs(c))) / 2,
    "erf square": lambda m, op, q: 2 / pi * np.arctan2(2 * q, np.sqrt(1 + 4 * q)),
    "form": _form,
    "expect": _expect,
    "moment": _moment,
    "smooth": _smooth,
    "near smooth": _smooth,
    "formula": _formula,
}
