"""Where a body changes: the arguments of its functions, and the points at which these are small.

A rule whose nodes are farther apart than a function's argument needs cannot see what lies between them, and all its
levels agree on a value without it.  A *feature* is where an argument is near 0, or a base near its least modulus.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.functions import BUILT_IN, Fn, X, evaluate

Array = Any
START = 129  # nodes of the first grid
LIMIT = 4096  # nodes of the finest
ROUNDS = 64  # of halving a gap between nodes
SPACING = 1.5  # widest gap between nodes, in units of a function's argument, that cannot skip a feature
SATURATED = 8.0  # arguments of functions beyond which no feature is looked for
DISTANT = 64.0  # times the least modulus of a base, beyond which none is
BEYOND = 1e200  # arguments that are as good as infinite: their differences are numbers
SINGULAR = 1e-13  # gaps in which a base is 0
NARROW = 20.0  # features are this much narrower than a standard deviation before rules look for them


def arguments(body: sp.Expr, variables: tuple[sp.Symbol, ...]) -> tuple[dict[sp.Expr, None], dict[sp.Expr, None]]:
    """Arguments of functions that have a length scale, those in declared definitions included; bases of powers.

    >>> from tensorprog.functions import Relu, Tanh
    >>> x = sp.Symbol("x")
    >>> [list(part) for part in arguments(Relu(x) * Tanh(2 * x) / (1 + x**2), (x,))]
    [[2*x], [x**2 + 1]]
    """
    inner, bases = dict[sp.Expr, None](), dict[sp.Expr, None]()
    for f in sorted(body.atoms(sp.Function, sp.Pow), key=sp.default_sort_key):
        if isinstance(f, Fn):
            if not f.family.kinks:
                inner[f.args[0]] = None
            for own, found in zip(_own_arguments(type(f)), (inner, bases), strict=True):
                found |= {a.xreplace({X: f.args[0]}): None for a in own}
        elif isinstance(f, sp.log) or (f.is_Pow and not (f.exp.is_Integer and f.exp > 0)):
            bases[f.args[0]] = None
        elif not f.is_Pow:
            inner[f.args[0]] = None
    reads = set(variables)
    keep = lambda found: {a: None for a in found if a.free_symbols & reads}  # noqa: E731
    return keep(inner), keep(bases)


@lru_cache(maxsize=1024)
def _own_arguments(cls: type[Fn]) -> tuple[tuple[sp.Expr, ...], ...]:
    """Arguments and bases inside the definition or the pieces of a declared function, in ``X``."""
    family = cls.family
    if family.name in BUILT_IN:
        return (), ()
    own = [family.definition] if family.definition is not None else list(family.pieces)
    found = [arguments(sp.sympify(e), (X,)) for e in own]
    return tuple(tuple(dict.fromkeys(a for pair in found for a in pair[i])) for i in (0, 1))


@dataclass(frozen=True)
class Features:
    """Of an expression of one standard normal variable: points, ascending, and 1 / the least width.

    ``roots`` are changes of sign, to rounding; ``near`` other points where it is small.  ``slope`` is infinite where
    the grid did not resolve it.
    """

    roots: tuple[float, ...]
    near: tuple[float, ...]
    slope: float


def features(
    expr: sp.Expr, base: bool, variable: sp.Symbol, mean: float, deviation: float, scalars: Mapping[sp.Symbol, float],
    reach: float,
) -> Features:  # fmt: skip
    """Features of an argument (or a base) at u = mean + deviation z, |z| ≤ reach.

    >>> from tensorprog.functions import Tanh
    >>> x = sp.Symbol("x", real=True)
    >>> found = features(1000 * Tanh(x) - 500, False, x, 0.0, 1e4, {}, 9.0)
    >>> np.round(np.array(found.roots) * 1e4, 6), 7e6 < found.slope < 8e6
    (array([0.549306]), True)
    """
    used = tuple((s, v) for s, v in sorted(scalars.items(), key=lambda item: str(item[0])) if s in expr.free_symbols)
    return _features(expr, base, variable, float(mean), float(deviation), used, float(reach))


@lru_cache(maxsize=4096)
def _features(
    expr: sp.Expr, base: bool, variable: sp.Symbol, mean: float, deviation: float, scalars: Any, reach: float
) -> Features:
    def at(e: sp.Expr, z: Array) -> Array:
        with np.errstate(all="ignore"):
            return np.broadcast_to(evaluate(e, {**dict(scalars), variable: mean + deviation * z}), z.shape)

    inner, bases = arguments(expr, (variable,))
    own = [(expr, base), *((a, False) for a in inner), *((a, True) for a in bases)]
    z = np.linspace(-reach, reach, START)
    for _ in range(ROUNDS):
        gaps = np.any([_open(z, at(e, z), kind) for e, kind in own], axis=0) & (np.diff(z) > SINGULAR / 4)
        if not gaps.any() or len(z) > LIMIT:
            break
        z = np.sort(np.concatenate([z, (z[:-1] + z[1:])[gaps] / 2]))
    if len(z) > LIMIT:
        return Features((), (), np.inf)
    return _of_grid(lambda t: at(expr, t), z, base)


def _open(z: Array, y: Array, base: bool) -> Array:
    """Gaps between adjacent nodes in which an argument with these values may have a feature."""
    y = np.clip(y, -BEYOND, BEYOND)
    size, change = np.abs(y), np.abs(np.diff(y))
    low, crossing = np.minimum(size[1:], size[:-1]), (y[1:] < 0) != (y[:-1] < 0)
    dips = np.pad(_dips(size), 1) & (size > (0 if base else SATURATED))
    slopes = np.pad(change / np.diff(z), 1, mode="edge")
    drop = np.maximum(np.maximum(slopes[2:], slopes[:-2]), slopes[1:-1]) * np.diff(z)
    beside = (dips[1:] | dips[:-1]) & (drop > low / 2)  # a node may be far from the least value beside it
    if base:
        return beside | ~crossing & (low <= DISTANT * np.nanmin(size)) & (change > low)
    return beside | (crossing | (low < SATURATED)) & (change > SPACING)


def _dips(size: Array) -> Array:
    """Whether a node is a local minimum, for all but the first and the last."""
    return (size[1:-1] < size[:-2]) & (size[1:-1] <= size[2:])


def _of_grid(f: Callable[[Array], Array], z: Array, base: bool) -> Features:
    """Features of f on a grid that resolves it."""
    y = f(z)
    size, crossing, gap = np.abs(y), (y[1:] < 0) != (y[:-1] < 0), np.diff(z)
    low, least = np.minimum(size[1:], size[:-1]), np.nanmin(size)
    base &= gap.min() > SINGULAR and least > 0  # at a singular point there is no width
    far, level = (DISTANT * least, 2 * least) if base else (SATURATED, 1.0)
    with np.errstate(all="ignore"):
        slopes = np.abs(np.diff(np.clip(y, -BEYOND, BEYOND))) / gap / (low if base else 1.0)
    slope = np.nanmax(slopes[(low <= far) & ~(base & crossing)], initial=0.0)
    dips = _dips(size) & (size[1:-1] <= far)
    near = z[1:-1][dips]
    if not crossing.any() and not len(near):  # it saturates on one side alone
        near = z[1:][(size[1:] < level) != (size[:-1] < level)]
    return Features(_bisected(f, z, crossing), tuple(near.tolist()), float(slope))


def _bisected(f: Callable[[Array], Array], z: Array, crossing: Array) -> tuple[float, ...]:
    low, high = z[:-1][crossing], z[1:][crossing]
    start = f(low) < 0
    for _ in range(60):
        middle = (low + high) / 2
        left = (f(middle) < 0) == start
        low, high = np.where(left, middle, low), np.where(left, high, middle)
    return tuple(((low + high) / 2).tolist())
