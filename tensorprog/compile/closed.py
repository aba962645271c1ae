"""Closed forms of E φ(u)ψ(v) in operations: roots and reciprocals once per input, an angle per pair.

With ρ = c/√(q1 q2) = cos θ: ``relu`` gives √(q1 q2)(sin θ + (π − θ) cos θ)/2π, ``step`` (π − θ)/2π, both from
the gap 1 − ρ (see ``gaps``); ``asin`` and ``rsq`` give asin and 1/√(1 − x²) of x = c r1 r2.  Few pairs are so nearly
parallel that x does not tell its angle: for these the same values come from the gap too (``Tape.exact``), in positive
terms.  References: ``expectations.closed_forms``.
"""

from __future__ import annotations

from collections.abc import Callable
from math import pi, sqrt

from tensorprog.compile.cosines import gap
from tensorprog.compile.tape import Tape
from tensorprog.expectations.closed.pairs import ErfPrime, GeluPrime
from tensorprog.functions import Abs, Cos, Erf, Exp, Fn, Gauss, Gelu, Relu, Sign, Sin, Step, member

Inline = Callable[[Tape, int, int, int], int]
GaussPrime = member(Gauss.family, 1)
INLINE: dict[tuple[type[Fn], type[Fn]], Inline] = {}


def inline(first: type[Fn], second: type[Fn]) -> Callable[[Inline], Inline]:
    """Register the decorated ``form(tape, q1, q2, c)``, q1 per first and q2 per second input."""

    def add(form: Inline) -> Inline:
        INLINE[first, second] = form
        if first is not second:
            INLINE[second, first] = lambda t, q1, q2, c: form(t, q2, q1, c)
        return form

    return add


def _power(t: Tape, q: int, factor: float, shift: float, kind: str) -> int:
    """(factor q + shift) ↦ its ``sqrt``, ``rsqrt`` or ``recip``."""
    return t.add(kind, t.sum([(factor, [q]), (shift, [])]))


def _positive(t: Tape, q: int) -> int:
    """1 where a variance is positive, else 0: the same in all layers that scale it, 1 where a bias is added."""
    q = t.multiple(q)
    if t.ops[q].kind == "lin":
        a, x, b = t.ops[q].args
        if (t.value(b) or 0.0) > 0 and (t.value(a) or 0.0) > 0 and x in t.variances:
            return t.const(1.0)
    return t.add("positive", q)


def _roots(t: Tape, q1: int, q2: int, shift: float = 0.0) -> tuple[int, int]:
    return _power(t, q1, 1, shift, "rsqrt"), _power(t, q2, 1, shift, "rsqrt")


def _angle(t: Tape, q1: int, q2: int, c: int, shift: float = 0.0) -> tuple[int, int, int]:
    """c, 1/√(q1 + shift), 1/√(q2 + shift); a number that scales c is moved to what is known per input."""
    (r1, r2), (scale, c) = _roots(t, q1, q2, shift), t.scaled(c)
    return c, t.product([r1], scale), r2


def acute(t: Tape, q1: int, q2: int, c: int) -> int | None:
    """1 − |c|/√(q1 q2) as it is carried, None where c alone is known."""
    found = gap(t, q1, q2, c)
    return None if t.ops[found].kind == "gap" else t.add("acute", found)


def _square(t: Tape, q1: int, q2: int, c: int, shift: float) -> int | None:
    """1 − x² of x = c/√((q1 + s)(q2 + s)), s the shift, whose numerator is s (s + q1 + q2) + q1 q2 g (2 − g)."""
    near = acute(t, q1, q2, c)
    if near is None:
        return None
    p1, p2 = _power(t, q1, 1, shift, "recip"), _power(t, q2, 1, shift, "recip")
    rest = [(shift * shift, [p1, p2]), (shift, [q1, p1, p2]), (shift, [p1, q2, p2])] if shift else []
    return t.sum([*rest, (1.0, [q1, p1, q2, p2, near, t.sum([(-1.0, [near]), (2.0, [])])])])


def _det(t: Tape, q1: int, q2: int, c: int) -> int | None:
    """q1 q2 − c² by the angle, None where c alone is known."""
    near = acute(t, q1, q2, c)
    return None if near is None else t.product([q1, q2, near, t.sum([(-1.0, [near]), (2.0, [])])])


def _asin(t: Tape, q1: int, q2: int, c: int, shift: float, steep: bool = True) -> int:
    """asin c/√((q1 + shift)(q2 + shift)), to stand beside ``_rsq``."""
    angle, square = _angle(t, q1, q2, c, shift), _square(t, q1, q2, c, shift)
    value = t.add("asin", *angle, t.const(steep))
    if square is not None:
        t.exact[value] = t.add("arctan", *angle, square)
    return value


def _rsq(t: Tape, q1: int, q2: int, c: int, shift: float, steep: bool = True) -> int:
    """1/√(1 − c²/((q1 + shift)(q2 + shift))); ``steep`` unless its factors are the smaller the larger it is."""
    value = t.add("rsq", *_angle(t, q1, q2, c, shift), t.const(steep))
    square = _square(t, q1, q2, c, shift)
    if square is not None:
        t.exact[value] = t.add("rsqrt", square)
    return value


def _over_root(t: Tape, q1: int, q2: int, c: int, shift: float, scale: float = 1.0, steep: bool = True) -> int:
    """scale/√((q1 + shift)(q2 + shift) − c²)."""
    return t.product([*_roots(t, q1, q2, shift), _rsq(t, q1, q2, c, shift, steep)], scale)


def _hyperbolic(t: Tape, kind: str, q1: int, q2: int, c: int) -> int:
    """exp(−(q1 + q2)/2) sinh c or cosh c."""
    value, far = t.add(kind, c, t.sum([(0.5, [q1]), (0.5, [q2])])), _apart(t, q1, q2, c)
    if far is not None:
        t.exact[value] = t.add(f"far {kind}", c, far)
    return value


def _apart(t: Tape, q1: int, q2: int, c: int) -> int | None:
    """(q1 + q2)/2 − |c| by the angle, None where c alone is known."""
    near = acute(t, q1, q2, c)
    if near is None:
        return None
    s1, s2 = t.add("sqrt", q1), t.add("sqrt", q2)
    return t.add("spread", t.sum([(1.0, [s1, s2, near])]), s1, s2)


def _arc(t: Tape, kind: str, q1: int, q2: int, c: int) -> int:
    """A result of the angle: its gap, and scales per input that are 0 at zero variance; numbers are in the first's."""
    (a1, x1), (a2, x2) = t.scaled(q1), t.scaled(q2)
    first = t.product([t.add("sqrt", x1)], sqrt(a1) * sqrt(a2) / 2), t.product([_positive(t, q1)], 1 / (2 * pi))
    return t.add(kind, gap(t, q1, q2, c), *first, t.add("sqrt", x2), _positive(t, q2))


def relu_square(t: Tape, q: int) -> int:
    """E relu(u)²."""
    value = t.product([q], 0.5)
    t.variances.add(value)
    return value


@inline(Relu, Relu)
def relu_relu(t: Tape, q1: int, q2: int, c: int) -> int:
    value = _arc(t, "relu", q1, q2, c)
    t.gaps[value] = (relu_square(t, q1), relu_square(t, q2), _arc(t, "relu gap", q1, q2, c))
    return value


@inline(Step, Step)
def step_step(t: Tape, q1: int, q2: int, c: int) -> int:
    return _arc(t, "step", q1, q2, c)


@inline(Relu, Step)
def relu_step(t: Tape, q1: int, q2: int, c: int) -> int:
    root = _power(t, q1, 1 / (8 * pi), 0, "sqrt")
    positive = _positive(t, q2)
    return t.sum([(1, [root, positive]), (1, [root, *_roots(t, q1, q2), c])])


@inline(Sign, Sign)
def sign_sign(t: Tape, q1: int, q2: int, c: int) -> int:
    return t.product([_asin(t, q1, q2, c, 0.0)], 2 / pi)


@inline(Abs, Abs)
def abs_abs(t: Tape, q1: int, q2: int, c: int) -> int:
    """4 E relu(u)relu(v) − c, since |u| = 2 relu(u) − u."""
    return t.sum([(4, [relu_relu(t, q1, q2, c)]), (-1, [c])])


@inline(Erf, Erf)
def erf_erf(t: Tape, q1: int, q2: int, c: int) -> int:
    return t.product([_asin(t, q1, q2, c, 0.5)], 2 / pi)


@inline(ErfPrime, ErfPrime)
def erf_prime(t: Tape, q1: int, q2: int, c: int) -> int:
    return _over_root(t, q1, q2, c, 0.5, 2 / pi)


@inline(Exp, Exp)
def exp_exp(t: Tape, q1: int, q2: int, c: int) -> int:
    half = t.sum([(0.5, [q1]), (0.5, [q2])])
    value, far = t.add("exp", c, half), _apart(t, q1, q2, c)
    if far is not None:
        t.exact[value] = t.add("far exp", c, half, far)
    return value


@inline(Sin, Sin)
def sin_sin(t: Tape, q1: int, q2: int, c: int) -> int:
    return _hyperbolic(t, "sinh", q1, q2, c)


@inline(Cos, Cos)
def cos_cos(t: Tape, q1: int, q2: int, c: int) -> int:
    return _hyperbolic(t, "cosh", q1, q2, c)


@inline(Sin, Cos)
def sin_cos(t: Tape, q1: int, q2: int, c: int) -> int:
    return t.const(0.0)


@inline(Gauss, Gauss)
def gauss_gauss(t: Tape, q1: int, q2: int, c: int) -> int:
    return _over_root(t, q1, q2, c, 1.0)


def _gelu_inner(t: Tape, q1: int, q2: int, c: int) -> tuple[int, int]:
    """c², and c² (1/(1 + q1) + 1/(1 + q2))."""
    p1, p2 = _power(t, q1, 1, 1, "recip"), _power(t, q2, 1, 1, "recip")
    square = t.product([c, c])
    return square, t.sum([(1, [square, p1]), (1, [square, p2])])


@inline(Gelu, Gelu)
def gelu_gelu(t: Tape, q1: int, q2: int, c: int) -> int:
    root = _over_root(t, q1, q2, c, 1.0, 1 / (2 * pi), steep=False)
    square, inner = _gelu_inner(t, q1, q2, c)
    numerator = t.sum([(1, [inner]), (1, [q1, q2]), (-1, [square])])
    if (det := _det(t, q1, q2, c)) is not None:
        t.exact[numerator] = t.sum([(1, [inner]), (1, [det])])
    return t.sum([(0.25, [c]), (1 / (2 * pi), [c, _asin(t, q1, q2, c, 1.0, steep=False)]), (1, [numerator, root])])


@inline(GeluPrime, GeluPrime)
def gelu_prime(t: Tape, q1: int, q2: int, c: int) -> int:
    """The numerator of gelu less (1 + q1)(1 + q2) − c², which cancels, leaves that inner part less 1 + q1 + q2."""
    root = _over_root(t, q1, q2, c, 1.0, steep=False)
    p1, p2 = _power(t, q1, 1, 1, "recip"), _power(t, q2, 1, 1, "recip")
    rest = t.sum([(1, [_gelu_inner(t, q1, q2, c)[1]]), (-1, [q1]), (-1, [q2]), (-1, [])])
    if (det := _det(t, q1, q2, c)) is not None:
        t.exact[rest] = t.sum([(-1, []), (-1, [p1, q2]), (-1, [q1, p2]), (-1, [p1, det]), (-1, [p2, det])])
    slope = t.sum([(2, [p1]), (2, [p2]), (1, [t.product([rest, root]), root])])
    angle, scale = _asin(t, q1, q2, c, 1.0, steep=False), 1 / (2 * pi)
    return t.sum([(0.25, []), (scale, [angle]), (scale, [t.product([c, root]), slope])])


@inline(GaussPrime, GaussPrime)
def gauss_prime(t: Tape, q1: int, q2: int, c: int) -> int:
    """c/((1 + q1)(1 + q2) − c²)^{3/2}."""
    root = _over_root(t, q1, q2, c, 1.0)
    return t.product([t.product([c, root]), t.product([root, root])])


def _gelu_prime_square(t: Tape, q: int) -> int:
    """E gelu'(u)² = [π/2 + asin(q/(1 + q)) + q (5 q + 3)/((1 + q) (1 + 2 q)^{3/2})]/2π."""
    p, r = _power(t, q, 1, 1, "recip"), _power(t, q, 2, 1, "rsqrt")
    ratio = t.sum([(5, [t.product([q, r]), r]), (3, [r, r])])
    angle = t.add("erf square", t.product([q], 0.5))
    return t.sum([(0.25, []), (0.25, [angle]), (1 / (2 * pi), [t.product([q, p]), ratio, r])])


SQUARES: dict[tuple[type[Fn], type[Fn]], Callable[[Tape, int], int]] = {
    (Relu, Relu): relu_square,
    (Step, Step): lambda t, q: t.product([_positive(t, q)], 0.5),
    (Abs, Abs): lambda t, q: q,
    (Sign, Sign): _positive,
    (Erf, Erf): lambda t, q: t.add("erf square", q),
    (ErfPrime, ErfPrime): lambda t, q: t.product([_power(t, q, 4, 1, "rsqrt")], 4 / pi),
    (GeluPrime, GeluPrime): _gelu_prime_square,
    (Exp, Exp): lambda t, q: t.add("exp", q, q),
}
