"""Expectations over three and more Gaussian dimensions, by the structure of their covariance.

Variables of zero variance and proportional ones go first.  What is left is taken apart into products of functions
of one variable each: trees of variables by transfer matrices, low rank plus diagonal by a trapezoid rule in the
few common variables, both with kinks.  Other bodies have a tensor rule up to four smooth dimensions, and scrambled
Sobol points beyond, whose error is statistical.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import AccuracyError
from tensorprog.expectations.bodies import affine, kinks
from tensorprog.expectations.law import Law, Value
from tensorprog.expectations.many.factors import Found, Product, factor
from tensorprog.expectations.many.integrated import integrated
from tensorprog.expectations.many.lowrank import lowrank_expectation, splittings
from tensorprog.expectations.many.markov import find_tree, tree_expectation
from tensorprog.expectations.many.residual import REACH, jumping
from tensorprog.expectations.many.sobol import Estimate, conditioned, pivoted, plain
from tensorprog.expectations.quadrature.trapezoid import ROUNDING
from tensorprog.expectations.semidefinite import semidefinite
from tensorprog.expectations.symmetry import renamed
from tensorprog.functions import Fn, evaluate

Array = Any
ACCURATE = 1e-9  # relative error up to which a quadrature counts; beyond it points are drawn
POOR = 0.25  # relative standard error from which on points are no answer
EQUAL = 4e-16  # 1 - |ρ| up to which two variables are one
TWINS = 2e-15  # up to which the correlations of two such variables with others are the same
SMOOTH_RANK = 4
Rule = Callable[[sp.Expr, Law], Value]
Instead = dict[sp.Symbol, sp.Expr]


def structured(body: sp.Expr, law: Law, expect: Rule, quadrature: Rule) -> Value:
    """E body(u) over three or more variables, entry by entry.

    Args:
        body: a sum that no closed form or factorisation took further.
        law: the law of the variables; entries that broadcast.
        expect: the dispatcher, for what a reduction leaves.
        quadrature: the rules for up to two dimensions, or four where the body is smooth.

    Returns:
        Value; its method names Sobol where the error is statistical, ``sobol.ERRORS`` standard errors.

    Raises:
        DataError: the covariance is not positive semidefinite.
        AccuracyError: the standard error is above 0.1 of E |body|.

    >>> from tensorprog.expectations.numeric import expectation
    >>> from tensorprog.functions import Step
    >>> u = sp.symbols("u1:4", real=True)
    >>> orthant = expectation(sp.Mul(*map(Step, u)), u, [[1, 0.5, 0.5], [0, 1, 0.5], [0, 0, 1]])
    >>> round(float(orthant.value), 13), orthant.method
    (0.25, 'low rank plus diagonal')
    """
    reduced = {t: integrated(t, law) for t in sp.Add.make_args(body)}
    if any(reduced.values()):
        left = sp.Add(*(t for t, found in reduced.items() if found is None))
        parts = [expect(*found) for found in reduced.values() if found is not None]
        parts += [structured(left, law, expect, quadrature)] if left != 0 else []
        return Value(sum(p.value for p in parts), sum(p.error for p in parts), _methods(parts))
    shape = law.shape(body)
    with np.errstate(all="ignore"):
        found = [_entry(*renamed(body, entry), expect, quadrature) for entry in _entries(body, law, shape)]
    if not found:
        return Value(np.zeros(shape), np.zeros(shape), "empty")
    value, error = (np.array([float(getattr(v, a)) for v in found]).reshape(shape) for a in ("value", "error"))
    return Value(value, error, _methods(found))


def _methods(values: list[Value]) -> str:
    return " + ".join(dict.fromkeys(m for v in values for m in v.method.split(" + ") if m))


def _entries(body: sp.Expr, law: Law, shape: tuple[int, ...]) -> Iterator[Law]:
    """The laws of the single entries of an array, of the variables that the body reads."""
    law = law.restrict(law.read(body))
    scalars = {s: a for s, a in law.scalars.items() if s in body.free_symbols}
    for index in np.ndindex(shape):
        at = lambda a, index=index: np.broadcast_to(a, shape)[index]  # noqa: E731
        yield replace(
            law,
            cov={key: at(a) for key, a in law.cov.items()},
            mean=tuple(at(m) for m in law.mean),
            scalars={s: at(a) for s, a in scalars.items()},
        )


def _entry(body: sp.Expr, law: Law, expect: Rule, quadrature: Rule) -> Value:
    given = _matrix(law)
    cov = semidefinite(given, law.slack, law.variables, body)
    if cov is not given:
        count = range(len(cov))
        law = replace(law, cov={(i, j): np.asarray(cov[i, j]) for i in count for j in count if i <= j})
    smaller = _reduced(law, cov)
    if smaller is not None:
        return _shorter(body, *smaller, expect)
    lifted = _lifted(body, law, cov)
    if lifted is not None:
        return expect(*lifted)
    deviation = np.sqrt(np.diag(cov))
    correlation = cov / np.outer(deviation, deviation)
    np.fill_diagonal(correlation, 1.0)
    rank = pivoted(correlation)[2]
    if rank <= 2:
        return quadrature(body, law)
    values: list[Value] = []
    rest = sp.S.Zero
    for term in sp.Add.make_args(body):
        value = _by_structure(term, law, correlation)
        if value is None:
            rest += term
        else:
            values.append(value)
    if rest != 0 and rank <= SMOOTH_RANK and not kinks(rest, law.variables):
        with suppress(AccuracyError):
            values.append(quadrature(rest, law))
            rest = sp.S.Zero
    if rest != 0:
        values.append(_by_points(rest, law, correlation))
    return Value(sum(v.value for v in values), sum(v.error for v in values), _methods(values))


def _matrix(law: Law) -> Array:
    count = range(len(law.variables))
    return np.array([[float(law.get(i, j)) for j in count] for i in count])


def _reduced(law: Law, cov: Array) -> tuple[Instead, Law, dict[sp.Symbol, float]] | None:
    """What stands for variables of zero variance and those proportional to an earlier one; None if there are none.

    Also the law of the others, and the standard deviations that are left out where |ρ| < 1.
    """
    deviation, keep = np.sqrt(np.diag(cov)), list[int]()
    instead: Instead = {}
    lost: dict[sp.Symbol, float] = {}
    for j, u in enumerate(law.variables):
        if deviation[j] == 0:
            instead[u] = sp.Float(law.mean[j])
            continue
        twin = next((i for i in keep if _proportional(cov, deviation, i, j)), None)
        if twin is None:
            keep.append(j)
            continue
        slope = np.sign(cov[twin, j]) * deviation[j] / deviation[twin]
        offset = law.mean[j] - slope * law.mean[twin]
        exact = sp.Integer(int(slope)) if abs(slope) == 1 else sp.Float(slope)
        instead[u] = exact * law.variables[twin] + (sp.Float(offset) if offset else 0)
        gap = 1 - abs(cov[twin, j]) / (deviation[twin] * deviation[j])
        lost |= {u: float(deviation[j] * np.sqrt(2 * gap))} if gap > 0 else {}
    if not instead:
        return None
    return instead, law.restrict(keep) if keep else law.restrict([0]), lost


def _proportional(cov: Array, deviation: Array, i: int, j: int) -> bool:
    """Whether variable j is a multiple of i, as its covariances with all others are too.

    Those of u_j - u_i with others may be √(1 - ρ) of their size.
    """
    if abs(cov[i, j]) < (1 - EQUAL) * deviation[i] * deviation[j]:
        return False
    off = cov[j] / deviation[j] - np.sign(cov[i, j]) * cov[i] / deviation[i]
    return bool(np.all(np.abs(off) <= TWINS * deviation))


def _shorter(body: sp.Expr, instead: Instead, law: Law, lost: dict[sp.Symbol, float], expect: Rule) -> Value:
    """E body of fewer variables, with what was left out beside jumps as a part of the error."""
    value = expect(body.xreplace(instead), law)
    if not jumping(body):
        return value
    for u, deviation in lost.items():
        ends = [
            expect(body.xreplace(instead | {u: instead[u] + sp.Float(sign * REACH * deviation)}), law).value
            for sign in (1, -1)
        ]
        value = replace(value, error=value.error + np.abs(ends[0] + ends[1] - 2 * value.value))
    return value


def _lifted(body: sp.Expr, law: Law, cov: Array) -> tuple[sp.Expr, Law] | None:
    """With one variable for every affine argument of several, if that makes a product of a body or fewer variables."""
    arguments: dict[sp.Expr, tuple[sp.Symbol, tuple[sp.Expr, ...], sp.Expr]] = {}
    for f in sorted(body.atoms(Fn), key=sp.default_sort_key):
        argument = f.args[0]
        gradient, rest = affine(argument, law.variables)
        if gradient and len(law.read(argument)) > 1 and argument not in arguments:
            arguments[argument] = (sp.Dummy(f"a{len(arguments)}", real=True), gradient, rest)
    if not arguments:
        return None
    new = body.xreplace({a: d for a, (d, _, _) in arguments.items()})
    still = law.read(new)
    variables = [law.variables[i] for i in still] + [d for d, _, _ in arguments.values()]
    if len(variables) >= len(law.variables) and not all(_separate(t, tuple(variables)) for t in sp.Add.make_args(new)):
        return None
    rows, means = [np.eye(len(cov))[i] for i in still], [float(law.mean[i]) for i in still]
    for _, gradient, rest in arguments.values():
        rows.append(np.array([float(evaluate(g, law.scalars)) for g in gradient]))
        means.append(rows[-1] @ np.array(law.mean, float) + float(evaluate(rest, law.scalars)))
    lifted = _congruent(np.array(rows), cov)
    count = range(len(variables))
    entries = {(i, j): np.asarray(lifted[i, j]) for i in count for j in count if i <= j}
    return new, replace(law, variables=tuple(variables), cov=entries, mean=tuple(map(np.asarray, means)))


def _congruent(a: Array, cov: Array) -> Array:
    """a C aᵀ, where variances that are rounding only are 0 and correlations at most 1."""
    result = a @ cov @ a.T
    sizes = np.einsum("ij,jk,ik->i", np.abs(a), np.abs(cov), np.abs(a))
    deviation = np.sqrt(np.where(np.diag(result) > ROUNDING * sizes, np.diag(result), 0.0))
    bound = np.outer(deviation, deviation)
    result = np.clip((result + result.T) / 2, -bound, bound)
    np.fill_diagonal(result, deviation**2)
    return result


def _separate(term: sp.Expr, variables: tuple[sp.Symbol, ...]) -> dict[sp.Symbol, sp.Expr] | None:
    """The factors of a product by the variable they read; None where one reads several."""
    factors = dict.fromkeys(variables, sp.S.One)
    for f in sp.Mul.make_args(term):
        read = [u for u in variables if u in f.free_symbols]
        if len(read) > 1:
            return None
        for u in read:
            factors[u] *= f
    return factors


def _product(term: sp.Expr, law: Law, correlation: Array) -> tuple[float, Product] | None:
    """The coefficient of a term, and its factors as functions of standard normals."""
    coefficient, rest = term.as_independent(*law.variables, as_Add=False)
    factors = _separate(rest, law.variables)
    if factors is None:
        return None
    used = [i for i, u in enumerate(law.variables) if factors[u] != 1]
    functions = [
        factor(factors[u], u, float(law.mean[i]), float(np.sqrt(law.get(i, i))), law.scalars)
        for i, u in enumerate(law.variables)
        if i in used
    ]
    return float(evaluate(coefficient, law.scalars)), Product(tuple(functions), correlation[np.ix_(used, used)])


def _by_structure(term: sp.Expr, law: Law, correlation: Array) -> Value | None:
    """A product over a tree, or over variables of low rank plus diagonal; None if it is neither."""
    found = _product(term, law, correlation)
    if found is None:
        return None
    coefficient, product = found
    tolerance = law.atol / max(abs(coefficient), 1e-300)
    for method, result in _structures(product, law.rtol, tolerance):
        if result is not None and result.error <= max(tolerance, ACCURATE * result.scale):
            return Value(coefficient * result.value, abs(coefficient) * result.error, method)
    return None


def _structures(product: Product, rtol: float, atol: float) -> Iterator[tuple[str, Found | None]]:
    tree = find_tree(product.correlation)
    if tree is not None:
        yield "transfer matrices", tree_expectation(product, tree, rtol, atol)
    for loadings, diagonal in splittings(product.correlation):
        yield "low rank plus diagonal", lowrank_expectation(product, loadings, diagonal, rtol, atol)


def _by_points(body: sp.Expr, law: Law, correlation: Array) -> Value:
    """Scrambled Sobol points: conditioned on the sides of the kinks for products, plain for other bodies."""
    values, whole = [], sp.S.Zero
    for term in sp.Add.make_args(body):
        found = _product(term, law, correlation) if kinks(term, law.variables) else None
        if found is None:
            whole += term
            continue
        coefficient, product = found
        result = conditioned(product, law.samples, law.seed)
        values.append(_judged(term, result, coefficient, "conditioned Sobol points"))
    if whole != 0:
        triangle, order, rank = pivoted(correlation)
        deviation = np.sqrt([float(law.get(i, i)) for i in order])

        def integrand(z: Array) -> Array:
            x = z @ triangle.T * deviation
            point = {law.variables[i]: float(law.mean[i]) + x[:, n] for n, i in enumerate(order)}
            return np.broadcast_to(evaluate(whole, {**law.scalars, **point}), len(z))

        values.append(_judged(whole, plain(integrand, rank, law.samples, law.seed), 1.0, "Sobol points"))
    return Value(sum(v.value for v in values), sum(v.error for v in values), _methods(values))


def _judged(body: sp.Expr, result: Estimate, coefficient: float, method: str) -> Value:
    if not result.stderr <= POOR * result.scale or not np.isfinite(result.value):
        raise AccuracyError(
            f"E {body}: random points give {result.value:.3g} with a standard error of {result.stderr:.2g} for a size "
            f"of {result.scale:.2g}; the function may not be integrable, or needs more samples"
        )
    found = result.found()
    return Value(coefficient * found.value, abs(coefficient) * found.error, method)
