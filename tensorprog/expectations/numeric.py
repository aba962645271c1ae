"""Value of E body(u), u Gaussian, with an error bound: reductions, then closed form, series or quadrature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import AccuracyError, DataError, NoRuleError
from tensorprog.expectations.bodies import kinks, parity
from tensorprog.expectations.closed.large import large_pair
from tensorprog.expectations.closed.pairs import CANCELLING, DEGREES, MEANS, find_pair
from tensorprog.expectations.closed.pieces import piecewise
from tensorprog.expectations.closed.soft import SOFT, soft_pair
from tensorprog.expectations.closed.tilted import tilted
from tensorprog.expectations.deltas import in_pieces, number, without_delta
from tensorprog.expectations.determinants import extreme, pair_factor, pivoted_factor
from tensorprog.expectations.law import SLACK, Law, Value, most, plus, times
from tensorprog.expectations.many.residual import left_out
from tensorprog.expectations.many.structured import structured
from tensorprog.expectations.plateaus import resolved
from tensorprog.expectations.quadrature.panels import panels
from tensorprog.expectations.quadrature.trapezoid import Problem, Result, late, one_feature, stretched, trapezoid
from tensorprog.expectations.rounding import rounding
from tensorprog.expectations.smooth import smooth_pair
from tensorprog.functions import (
    Fn,
    Step,
    from_sympy,
    has_deltas,
)  # fmt: skip

Array = Any
WEIGHT = sp.Dummy("weight", positive=True)
TINY = float(np.finfo(float).tiny)
FINE = 1e-6  # size below which quadrature would miss what it looks for


def expectation(
    body: sp.Expr,
    variables: tuple[sp.Symbol, ...],
    cov: list[list[Any]],
    mean: list[Any] | None = None,
    scalars: Mapping[sp.Symbol, Any] | None = None,
    rtol: float = 1e-12,
    atol: float = 1e-14,
    samples: int = 2**16,
    seed: int = 0,
    *,
    gap: Any = None,
    slack: float = SLACK,
) -> Value:
    """Compute the expectation of a function of jointly Gaussian variables.

    E body(u_1, …, u_k; s) with u ~ N(mean, cov).  Sums are taken apart, Dirac deltas integrated out,
    independent factors separated; what is left is a closed form (tabled, or polynomials, hard and soft steps as in
    relu, erf and gelu, times exponentials, sines, cosines and Gaussians),
    for smooth pairs a Mehler series or sums over localised remainders, a quadrature over one or two dimensions, or
    over more the closed form of polynomials times exponentials (``tilted``) or a rule of the module ``structured``.
    At zero variance a variable equals its mean, and step(0) = 0 except beside a delta, where it is 1/2; at |ρ| = 1
    the two variables are proportional, and nothing is regularised.

    Args:
        body: expression in ``variables`` and ``scalars``.
        variables: the Gaussian symbols.
        cov: k lists of k floats or arrays that broadcast together; only i ≤ j is read.
        mean: k floats or arrays; zeros if absent.
        scalars: values of other symbols, arrays that broadcast with the rest.
        rtol: tolerance of the quadrature, relative to E |body|.
        atol: absolute tolerance of the quadrature.
        samples: Sobol points in all, where three and more dimensions have no structure to use.
        seed: of their randomisations.
        gap: of two variables, 1 - ρ (or 1 - |ρ|) with ρ = cov[0][1]/√(cov[0][0] cov[1][1]), where the caller knows
            it better than the rounded covariance tells it: q1 q2 - c² is then q1 q2 gap (2 - gap).
        slack: how far the covariance may be from positive semidefinite, relative to the variances: 1e-9 allows for
            rounding; more where its entries are estimates. What is beyond is moved to the nearest that is.

    Returns:
        Value whose arrays have the broadcast shape of the entries that the body depends on.

    Raises:
        DataError: covariance not finite or not positive semidefinite; a gap that contradicts it or is not of two
            variables; delta of a variable of zero variance.
        NoRuleError: a delta of a non-affine argument, or an abstract function.
        AccuracyError: the error stays above 1e-9 of E |body|, or that of Sobol points above a fraction of it.

    Reference: see the modules ``closed_forms``, ``soft``, ``pieces``, ``smooth``, ``quadrature``, ``panels``,
    ``tilted`` and ``structured``.

    >>> from tensorprog.functions import Relu
    >>> u, v = sp.symbols("u v")
    >>> result = expectation(Relu(u) * Relu(v), (u, v), [[1.0, 1.0], [1.0, 1.0]])
    >>> float(result.value), result.method
    (0.5, 'closed form')
    """
    count = range(len(variables))
    law = Law(
        tuple(variables),
        {(i, j): np.asarray(cov[i][j], float) for i in count for j in count if i <= j},
        tuple(np.asarray(0.0 if mean is None else mean[i], float) for i in count),
        {s: np.asarray(a, float) for s, a in (scalars or {}).items()},
        rtol,
        atol,
        samples,
        seed,
        None if gap is None else np.asarray(gap, float),
        slack,
    )
    body = resolved(in_pieces(from_sympy(sp.sympify(body)), has_deltas), law.variables)
    return _expect(body, _validated(law))


def _validated(law: Law) -> Law:
    named = {f"cov[{i}][{j}]": a for (i, j), a in law.cov.items()}
    named |= {f"mean[{i}]": a for i, a in enumerate(law.mean)} | {str(s): a for s, a in law.scalars.items()}
    for name, a in named.items():
        if not np.all(np.isfinite(a)):
            raise DataError(f"{name} holds a NaN or an infinity; every entry must be finite")
    for i, u in enumerate(law.variables):
        if np.any(law.get(i, i) < 0):
            raise DataError(f"cov[{i}][{i}] = {np.min(law.get(i, i))} is negative; it is the variance of {u}")
    cov = dict(law.cov)
    for i, j in (key for key in cov if key[0] < key[1]):
        bound = most(cov[i, i], cov[j, j])
        allowed = most(*(np.maximum(cov[n, n], TINY) for n in (i, j)))  # a variance may have underflowed
        if np.any(np.abs(cov[i, j]) > allowed * (1 + law.slack)):
            raise DataError(
                f"cov[{i}][{j}] exceeds sqrt(cov[{i}][{i}] cov[{j}][{j}]) by up to "
                f"{np.max(np.abs(cov[i, j]) - bound):.3g}: the covariance is not positive semidefinite"
            )
        cov[i, j] = np.clip(cov[i, j], -bound, bound)
    if law.gap is not None:
        _consistent(law.gap, law)
    return replace(law, cov=cov)


def _consistent(gap: Array, law: Law) -> None:
    """Refuse a gap that is not 1 - ρ or 1 - |ρ|; at zero variance it may be anything finite."""
    if len(law.variables) != 2:
        raise DataError(f"gap is 1 - ρ of two variables, but there are {len(law.variables)}: leave it out")
    bound = most(law.get(0, 0), law.get(1, 1))
    off = np.where(bound > 0, np.abs(np.abs(law.get(0, 1)) - bound * np.abs(1 - gap)), 0.0)
    bad = (off > SLACK * bound) | (bound > 0) & ((gap < 0) | (gap > 2)) | ~np.isfinite(gap)
    if np.any(bad):
        worst = np.broadcast_to(gap, np.shape(bad))[bad][0]
        raise DataError(f"gap = {worst} is not 1 - cov[0][1]/sqrt(cov[0][0] cov[1][1]) in [0, 2]")


def _expect(body: sp.Expr, law: Law) -> Value:
    """Sum of the terms: those with a rule one by one, the others together by quadrature."""
    total, groups = Value(0.0, 0.0, ""), dict[Any, sp.Expr]()
    body = sp.expand(body, power_base=False, power_exp=False, log=False)
    for term in sp.Add.make_args(body):
        coefficient, rest = term.as_independent(*law.variables, as_Add=False)
        found = _direct(rest, law)
        if found is None:
            key = tuple(law.read(rest)), bool(kinks(rest, law.variables))
            groups[key] = groups.get(key, 0) + term
        elif coefficient != 0:
            factor = number(coefficient, law.scalars)
            total = plus(total, Value(factor * found.value, np.abs(factor) * found.error, found.method))
    for group in groups.values():
        few = len(law.read(group)) <= 2
        total = plus(total, _quadrature(group, law) if few else structured(group, law, _expect, _quadrature))
    return replace(total, value=np.asarray(total.value), error=np.asarray(total.error))


def _direct(body: sp.Expr, law: Law) -> Value | None:
    """The value of a product without quadrature of the whole, or None."""
    for rule in (_constant, _delta, _odd, _independent, _tabled, _piecewise, _exponential, _series):
        value = rule(body, law)
        if value is not None:
            return value
    return None


def _constant(body: sp.Expr, law: Law) -> Value | None:
    return None if law.read(body) else Value(number(body, law.scalars), 0.0, "closed form")


def _delta(body: sp.Expr, law: Law) -> Value | None:
    return without_delta(body, law, _expect)


def _odd(body: sp.Expr, law: Law) -> Value | None:
    if parity(body, law.variables) != -1 or not law.centred(body):
        return None
    return Value(np.zeros(law.shape(body)), 0.0, "odd")


def _independent(body: sp.Expr, law: Law) -> Value | None:
    """Product over blocks of variables that share no factor and have covariance 0 everywhere."""
    read = law.read(body)
    factors = sp.Mul.make_args(body)
    block = {i: {i} for i in read}
    linked = [law.read(f) for f in factors] + [[i, j] for i in read for j in read if np.any(law.get(i, j))]
    for together in linked:
        union = set().union(*(block[i] for i in together))
        block |= dict.fromkeys(union, union)
    sets = {min(s): s for s in block.values()}
    if len(sets) < 2:
        return None
    value = Value(1.0, 0.0, "")
    for members in sets.values():
        part = sp.Mul(*(f for f in factors if set(law.read(f)) & members))
        value = times(value, _expect(part, law.restrict(sorted(members))))
    return value


def _tabled(body: sp.Expr, law: Law) -> Value | None:
    """Closed form of φ(u), φ(u)ψ(u) or φ(u)ψ(v) with zero means."""
    classes: list[tuple[type[Fn], int]] = []
    for f in sp.Mul.make_args(body):
        base, power = f.as_base_exp()
        if not (isinstance(base, Fn) and base.args[0] in law.variables and power.is_Integer and power > 0):
            return None
        classes += [(type(base), law.variables.index(base.args[0]))] * min(int(power), 3)
    if len(classes) > 2 or not law.centred(body):
        return None
    if len(classes) == 1:
        form = MEANS.get(classes[0][0])
        return None if form is None else _closed(form.formula, (law.get(classes[0][1], classes[0][1]),))
    (first, i), (second, j) = classes
    if {first, second} <= DEGREES.keys() and np.any(extreme(law.get(i, i), law.get(j, j))):
        return _homogeneous(body, law, [(i, DEGREES[first]), (j, DEGREES[second])])
    if (large := large_pair(first, second, law, i, j)) is not None:
        return large
    pair, arguments = find_pair(first, second), (law.get(i, i), law.get(j, j), law.get(i, j), law.det(i, j))
    if pair is not None:
        found = _closed(pair, arguments)
        size = (
            np.sqrt(pair(*(arguments[:1] * 3), 0.0) * pair(*(arguments[1:2] * 3), 0.0)) if first in CANCELLING else 0.0
        )
        return replace(found, error=found.error + 4e-16 * size)
    return _soft(first, second, *arguments) if {first, second} <= SOFT.keys() else None


def _homogeneous(body: sp.Expr, law: Law, degrees: list[tuple[int, int]]) -> Value | None:
    """``_tabled`` of positively homogeneous functions, in powers of two in which no product over- or underflows."""
    units = {i: np.frexp(law.get(i, i))[1] // 2 for i, _ in degrees}
    cov = {key: np.ldexp(a, -sum(units.get(i, np.zeros((), int)) for i in key)) for key, a in law.cov.items()}
    found = _tabled(body, replace(law, cov=cov))
    if found is None:
        return None
    power = sum(degree * units[i] for i, degree in degrees)
    return replace(found, value=np.ldexp(found.value, power), error=np.ldexp(found.error, power))


def _soft(first: type[Fn], second: type[Fn], q1: Array, q2: Array, c: Array, det: Array) -> Value:
    """Mixed pairs of step, sign, relu, abs, erf and gelu; step(0) = 0 at zero variance."""
    one, two = SOFT[first], SOFT[second]
    value = soft_pair(one, two, q1, q2, c, det)
    for cls, q in ((first, q1), (second, q2)):
        value = np.where((q == 0) & (cls is Step), 0.0, value)
    return Value(value, 4e-16 * one.size(q1) * two.size(q2) + 4e-15 * np.abs(value), "closed form")


def _closed(formula: Callable[..., Array], arguments: tuple[Array, ...]) -> Value:
    with np.errstate(all="ignore"):
        value = formula(*arguments)
    return Value(value, 4e-15 * np.abs(value), "closed form")


def _piecewise(body: sp.Expr, law: Law) -> Value | None:
    """Closed form of f(u)g(v) with piecewise f, g; the entries where its terms cancel by quadrature."""
    pair = piecewise(body, law)
    if pair is None:
        return None
    found, scale = pair
    rtol = law.rtol / 5  # a bound is some thirty times the error, which quadrature keeps below 1e-14
    fine = np.broadcast_to(FINE * law.amplitude(body), np.shape(found.value)).reshape(-1)
    missed = np.flatnonzero(~(found.error.reshape(-1) <= law.atol * fine + rtol * np.abs(found.value).reshape(-1)))
    if len(missed):
        size = scale().reshape(-1)[missed]
        missed, size = (a[~(found.error.flat[missed] <= law.atol * fine[missed] + rtol * size)] for a in (missed, size))
    if not len(missed):
        return found
    unit = np.where(
        size > 0, np.clip(size, fine[missed], 1.0), fine[missed] / FINE
    )  # in which the tolerance is not coarse
    flat = replace(law.flat(law.read(body), np.shape(found.value), missed), scalars={WEIGHT: 1 / unit})
    rest = _quadrature(WEIGHT * body, flat)
    rest = replace(rest, value=rest.value * unit, error=rest.error * unit)
    better = ~(found.error.flat[missed] <= rest.error)
    found.value.flat[missed[better]], found.error.flat[missed[better]] = rest.value[better], rest.error[better]
    return replace(found, method=f"{found.method} + {rest.method}" if better.any() else found.method)


def _exponential(body: sp.Expr, law: Law) -> Value | None:
    """Closed form of polynomials times exponentials of three and more variables; the entries that cancel by structure.

    The size of terms without imaginary rates is that of E |body|.
    """
    read = law.read(body)
    found = tilted(body, law) if len(read) > 2 else None
    if found is None:
        return None
    value, error, size = found
    known = error <= np.maximum(SLACK * size, law.rtol * np.abs(value))
    missed = np.flatnonzero(~(known | (not known.all() and error <= law.atol * law.amplitude(body))).reshape(-1))
    if len(missed):
        rest = structured(body, law.flat(read, np.shape(value), missed), _expect, _quadrature)
        better = rest.error < error.flat[missed]
        value.flat[missed[better]], error.flat[missed[better]] = rest.value[better], rest.error[better]
    return Value(value, error, f"closed form + {rest.method}" if len(missed) and better.any() else "closed form")


def _series(body: sp.Expr, law: Law) -> Value | None:
    """Series, localised sums or interpolation of φ(u)ψ(v) with smooth φ, ψ and zero means."""
    return smooth_pair(body, law, _quadrature)


def _quadrature(body: sp.Expr, law: Law) -> Value:
    """Quadrature of a sum of terms that read the same variables, in units in which the tolerance is not coarse."""
    read = law.read(body)
    law = law.restrict(read)
    if WEIGHT not in body.free_symbols and np.any((unit := law.amplitude(body)) < 1):
        found = _quadrature(WEIGHT * body, replace(law, scalars={**law.scalars, WEIGHT: 1 / unit}))
        return replace(found, value=found.value * unit, error=found.error * unit)
    shape = law.shape(body)
    used = body.free_symbols & set(law.scalars)
    flat = {s: np.broadcast_to(law.scalars[s], shape).reshape(-1) for s in used}
    cov = {key: np.broadcast_to(a, shape).reshape(-1) for key, a in law.cov.items()}
    mean = np.stack([np.broadcast_to(m, shape).reshape(-1) for m in law.mean], axis=1)
    with np.errstate(all="ignore"):
        factor = (
            pivoted_factor(cov, len(read))
            if len(read) != 2
            else pair_factor(cov[0, 0], cov[1, 1], cov[0, 1], np.broadcast_to(law.det(0, 1), shape).reshape(-1))
        )
        problem = Problem(body, law.variables, mean, factor, flat)
        if not len(mean):
            return Value(np.zeros(shape), np.zeros(shape), "empty")
        _real(problem)
        result, method = _integrate(problem, law.rtol, law.atol)
        result = replace(result, error=result.error + rounding(problem))
        lost = _left_out(problem, cov, result, law)
    _check(result, body, cov, law.atol)
    return Value(result.value.reshape(shape), (result.error + lost).reshape(shape), method)


def _real(problem: Problem) -> None:
    """Refuse a function with no real values on a part of its arguments, which no rule could ever integrate."""
    z = [2 * np.sin(k * np.arange(1.0, 33.0))[None] for k in range(1, 1 + problem.factor.shape[2])]
    missing = np.isnan(problem.values(*z))
    worst = missing.sum(1).argmax()
    if missing[worst].sum() > 2:
        one = problem.take(slice(worst, worst + 1))
        at = ", ".join(f"{v} = {one.of(v, *z)[0, missing[worst].argmax()]:.3g}" for v in one.variables)
        raise AccuracyError(f"E {one.body} does not exist: at {at} the function is no real number")


def _left_out(problem: Problem, cov: Mapping[tuple[int, int], Array], result: Result, law: Law) -> Array:
    """The part of the error that a factor of fewer than three columns has left out of three or more variables."""
    count = range(problem.factor.shape[1])
    if len(count) <= max(2, problem.factor.shape[2]):
        return np.zeros(len(result.value))
    full = np.stack([np.stack([cov[min(i, j), max(i, j)] for j in count], -1) for i in count], 1)
    return left_out(problem, full, result.value, lambda p: _integrate(p, law.rtol, law.atol)[0].value)


def _integrate(problem: Problem, rtol: float, atol: float) -> tuple[Result, str]:
    """Quadrature of each entry over as many dimensions as it has, which may be fewer than others have."""
    own = np.maximum(1, (problem.factor.any(axis=1) * np.arange(1, problem.factor.shape[2] + 1)).max(axis=1))
    result, methods = Result(*np.zeros((3, len(own)))), dict[str, None]()
    for rank in np.unique(own):
        rows = np.flatnonzero(own == rank)
        part = problem.take(rows)
        found, method = _integrated(replace(part, factor=part.factor[:, :, :rank]), rtol, atol)
        result.value[rows], result.error[rows], result.scale[rows] = found.value, found.error, found.scale
        methods[method] = None
    return result, " + ".join(methods)


def _integrated(problem: Problem, rtol: float, atol: float) -> tuple[Result, str]:
    rank, kinked = problem.factor.shape[2], bool(kinks(problem.body, problem.variables))
    if rank > (2 if kinked else 4):
        raise NoRuleError(
            f"E {problem.body} has {rank} Gaussian dimensions{' and kinks' if kinked else ''}: only one- and "
            "two-dimensional expectations are computed, and three- or four-dimensional ones without kinks"
        )
    if kinked:
        return panels(problem, rtol, atol), "Gauss-Legendre panels"
    result = trapezoid(problem, rtol, atol)
    if rank > 2:
        return result, "trapezoid tensor"
    for rule in [stretched, panels] if one_feature(problem) else [panels]:
        rows = late(result, SLACK / 10 if rule is panels else rtol, atol)
        if len(rows):
            again = rule(problem.take(rows), rtol, atol)
            better = again.error < result.error[rows]
            result.value[rows[better]], result.error[rows[better]] = again.value[better], again.error[better]
            result.scale[rows[better]] = again.scale[better]
    return result, "trapezoid"


def _check(result: Result, body: sp.Expr, cov: Mapping[tuple[int, int], Array], atol: float) -> None:
    bad = ~(result.error <= np.maximum(atol, SLACK * result.scale)) | ~np.isfinite(result.value)
    if not bad.any():
        return
    worst = int(np.argmax(np.where(bad, np.nan_to_num(result.error, nan=np.inf), -1.0)))
    entry = ", ".join(f"cov[{i}][{j}] = {a[worst]:.6g}" for (i, j), a in cov.items())
    raise AccuracyError(
        f"E {body} reached an error of {result.error[worst]:.2g} only, for a size of "
        f"{result.scale[worst]:.2g}, at {entry}; the function may not be integrable, or be too steep"
    )
