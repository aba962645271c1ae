"""What is lost where a covariance is taken for one of lower rank: the effect of the variances left out, as an error.

E f(u + √v ξ) with ξ a standard normal of its own is compared with E f(u) by second differences at ±REACH √v: they are
4 v E f'' and more for smooth f, and of the size of √v beside a jump, where it tells two jumps apart.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.expectations.quadrature.trapezoid import EPS, Problem
from tensorprog.functions import Fn, jumps

Array = Any
REACH = 2.0  # standard deviations of what was left out
ROUNDED = 8 * EPS  # of a correlation: what only rounding, or jumps, can tell from 0


def jumping(body: sp.Expr) -> bool:
    """Whether some function of a body jumps.

    >>> from tensorprog.functions import Relu, Step, X
    >>> jumping(Relu(X)), jumping(Relu(X) * Step(X))
    (False, True)
    """
    return any(jumps(type(f)) for f in body.atoms(Fn))


def left_out(problem: Problem, cov: Array, value: Array, integrate: Callable[[Problem], Array]) -> Array:
    """Bound of what the covariances (N, k, k) hold beyond those of the factor change, (N,).

    Args:
        problem: whose factor has the lower rank.
        cov: the covariances as they were given.
        value: E body(u) for the problem, (N,).
        integrate: gives E body(u) for a problem like it.

    >>> from tensorprog.functions import Step
    >>> u, v, v0 = *sp.symbols("u v", real=True), np.ones((1, 2, 1))
    >>> one = Problem(Step(u) * Step(v), (u, v), np.zeros((1, 2)), v0, {})
    >>> given = np.array([[[1, 1 - 1e-15], [1 - 1e-15, 1]]])
    >>> right = 1 / 4 + np.arcsin(given[0, 0, 1]) / (2 * np.pi)
    >>> shifted = lambda p: 0.5 - np.maximum(p.mean[:, 0] - p.mean[:, 1], 0) / np.sqrt(2 * np.pi)
    >>> bool(0.5 - right <= left_out(one, given, np.array([0.5]), shifted)[0] < 2e-7)
    True
    """
    rest = cov - problem.factor @ problem.factor.transpose(0, 2, 1)
    deviation = np.sqrt(np.einsum("nii->ni", cov))
    unit = np.where(deviation > 0, deviation, 1.0)
    rest = rest / (unit[:, :, None] * unit[:, None, :])
    least = 0.0 if jumping(problem.body) else ROUNDED
    rows = np.flatnonzero(np.abs(rest).max(axis=(1, 2)) > least)
    found = np.zeros(len(rest))
    if not len(rows):
        return found
    part = problem.take(rows)
    sizes, directions = np.linalg.eigh(rest[rows])
    for i in np.flatnonzero(np.abs(sizes).max(axis=0) > least):
        shift = REACH * np.sqrt(np.abs(sizes[:, i, None])) * directions[:, :, i] * deviation[rows]
        ends = [integrate(replace(part, mean=part.mean + sign * shift)) for sign in (1, -1)]
        found[rows] += np.abs(ends[0] + ends[1] - 2 * value[rows])
    return found
