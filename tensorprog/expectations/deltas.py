"""Dirac deltas in an expectation: conditioned on, after their derivatives have moved to the density and to the rest."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.errors import DataError, NoRuleError
from tensorprog.expectations.bodies import affine
from tensorprog.expectations.law import Law, Value, most, times
from tensorprog.expectations.quadrature.trapezoid import ROUNDING
from tensorprog.functions import FAMILIES, Fn, Sign, Step, X, evaluate, in_steps, is_delta, jumps, member

Array = Any
Rule = Callable[[sp.Expr, Law], Value]
MEET = (
    "where two functions jump at once, the product of their derivatives has no finite expectation: the NTK of a "
    "network with sign or step, or of the derivative of one with relu, is infinite at two inputs that are equal or "
    "parallel"
)
CONSTANT = "a function that jumps at 0, such as sign or step, has no derivative at a constant 0"


def in_pieces(body: sp.Expr, which: Callable[[type[Fn]], bool]) -> sp.Expr:
    """Write piecewise functions as steps times their pieces, and deltas."""
    for f in (f for f in body.atoms(Fn) if type(f) not in (Step, Sign) and which(type(f))):
        body = body.xreplace({f: in_steps(type(f)).subs(X, f.args[0])})
    return body


def number(expr: sp.Expr, scalars: Mapping[sp.Symbol, Array]) -> Array:
    with np.errstate(all="ignore"):
        return np.asarray(evaluate(expr, scalars), float)


def without_delta(body: sp.Expr, law: Law, expect: Rule) -> Value | None:
    """E δ^(k)(a) G by conditioning on a = 0; derivatives of the delta move to the density and to G."""
    if not any(is_delta(type(f)) for f in body.atoms(Fn)):
        return None
    law, factors = law.restrict(law.read(body)), sp.Mul.make_args(body)
    deltas = [f for f in factors if is_delta(type(f))]
    if not deltas:
        met = [f for f in body.atoms(Fn) if is_delta(type(f)) and _constant(f.args[0], law)]
        if met:
            raise DataError(f"E {body}: {met[0].args[0]} has variance 0, so its density at 0 is infinite: {CONSTANT}")
        raise NoRuleError(f"in {body} a Dirac delta must be a factor of its own, to the first power; {MEET}")
    delta = min(deltas, key=lambda f: (f.order, not _constant(f.args[0], law), sp.default_sort_key(f)))
    rest = sp.Mul(*(f for f in factors if f != delta))
    rest, argument = in_pieces(rest, jumps), delta.args[0]
    gradient, constant = affine(argument, law.variables)
    if not gradient or not any(gradient):
        raise NoRuleError(
            f"E {body}: {delta} needs an argument affine in {law.variables}, not constant: there is no rule for an "
            f"integral along the curve {argument} = 0, where a function jumps whose derivative this is; use a steep "
            "function that does not jump, such as tp.sigmoid(100 * a) for tp.step(a)"
        )
    slopes, gains, variance, centre = _moments(gradient, constant, law)
    if np.any((variance <= 0) & (centre == 0)):
        why = CONSTANT if law.given is None else f"it is 0 where {law.given} is, and {MEET}"
        raise DataError(f"E {body}: {argument} has variance 0, so its density at 0 is infinite: {why}")
    if delta.order:
        return _by_parts(delta, rest, law, gains, variance, centre, expect)
    pivot = next((i for i, s in slopes.items() if np.all(s != 0)), None)
    if pivot is None:
        raise NoRuleError(f"E {body}: every coefficient in the argument of {delta} is 0 somewhere")
    return _conditioned(rest, law, argument, pivot, gains, variance, centre, expect)


def _moments(
    gradient: Sequence[sp.Expr], constant: sp.Expr, law: Law
) -> tuple[dict[int, Array], list[Array], Array, Array]:
    """Of an affine argument: its slopes, covariances with the variables, variance and mean."""
    slopes = {i: number(g, law.scalars) for i, g in enumerate(gradient) if g != 0}
    gains = [sum(s * law.get(i, j) for j, s in slopes.items()) for i in range(len(gradient))]
    variance = sum(s * gains[i] for i, s in slopes.items())
    return slopes, gains, variance, number(constant, law.scalars) + sum(s * law.mean[i] for i, s in slopes.items())


def _constant(argument: sp.Expr, law: Law) -> bool:
    """Whether an affine argument is the constant 0 anywhere."""
    gradient, constant = affine(argument, law.variables)
    _, _, variance, centre = _moments(gradient or (), constant, law)
    return bool(gradient) and bool(np.any((variance <= 0) & (centre == 0)))


def _by_parts(
    delta: Fn, rest: sp.Expr, law: Law, gains: list[Array], variance: Array, centre: Array, expect: Rule
) -> Value:
    """E δ^(k)(a) G = E δ^(k-1)(a) [(a - m) G / V - Σ cov(a, u_i) ∂_i G / V]."""
    symbols = [sp.Dummy(f"g{i}") for i in law.variables]
    inverse, offset = sp.Dummy("inverse"), sp.Dummy("m")
    variance = np.where(variance > 0, variance, 1.0)
    values = {s: g / variance for s, g in zip(symbols, gains, strict=True)}
    scalars = {**law.scalars, **values, inverse: 1 / variance, offset: centre}
    argument = delta.args[0]
    moved = (argument - offset) * inverse * rest
    moved -= sum(s * sp.diff(rest, u) for s, u in zip(symbols, law.variables, strict=True))
    lower = member(FAMILIES["delta"], delta.order - 1)
    return expect(lower(argument) * moved, replace(law, scalars=scalars))


def _conditioned(
    rest: sp.Expr,
    law: Law,
    argument: sp.Expr,
    pivot: int,
    gains: list[Array],
    variance: Array,
    centre: Array,
    expect: Rule,
) -> Value:
    """Density of a at 0 times E [G | a = 0], where the pivot variable is eliminated through a = 0."""
    u = law.variables[pivot]
    keep = [i for i in range(len(law.variables)) if i != pivot]
    flat, variance = variance <= 0, np.where(variance > 0, variance, 1.0)  # of a constant, which is not 0
    single = argument.free_symbols & set(law.variables) == {u}
    solution = sp.expand(-(argument - sp.diff(argument, u) * u).expand() / sp.diff(argument, u))
    cov: dict[tuple[int, int], Array] = {}
    for a, i in enumerate(keep):
        exact = law.det(i, pivot) / np.where(flat, 1.0, law.get(pivot, pivot))
        cov[a, a] = exact if single else np.maximum(law.get(i, i) - gains[i] ** 2 / variance, 0.0)
    for a, b in combinations(range(len(keep)), 2):
        bound = most(cov[a, a], cov[b, b])
        raw = law.get(keep[a], keep[b]) - gains[keep[a]] * gains[keep[b]] / variance
        cov[a, b] = np.clip(raw, -bound, bound)
    mean = tuple(law.mean[i] - gains[i] * centre / variance for i in keep)
    inner = replace(law, variables=tuple(law.variables[i] for i in keep), cov=cov, mean=mean, gap=None, given=argument)
    density = np.where(flat, 0.0, np.exp(-(centre**2) / (2 * variance)) / np.sqrt(2 * np.pi * variance))
    value = expect(_half_step(rest.subs(u, solution)), inner)
    return times(Value(density, ROUNDING * density, ""), value)


def _half_step(body: sp.Expr) -> sp.Expr:
    """Write step as (1 + sign)/2, which is 1/2 at 0, the value that a delta at the jump sees."""
    return body.replace(Step, lambda x: (1 + Sign(x)) / 2)
