"""Soft steps of variances whose products are no floating point numbers: they, and their widths, in powers of two."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from tensorprog.expectations.closed.pairs import ErfPrime, GeluPrime
from tensorprog.expectations.closed.soft import SOFT, soft_bumps, soft_pair, soft_slopes
from tensorprog.expectations.determinants import RANGE
from tensorprog.expectations.law import Law, Value
from tensorprog.functions import Fn

Array = Any
DERIVATIVES: dict[type[Fn], tuple[float, int, Callable[..., Array]]] = {  # width t, degree in (x, √t), E f'(u) f'(v)
    ErfPrime: (0.5, -1, soft_bumps),
    GeluPrime: (1.0, 0, soft_slopes),
}


def large_pair(first: type[Fn], second: type[Fn], law: Law, i: int, j: int) -> Value | None:
    """E first(u) second(v) where a variance is above 1e150; None for other functions and smaller variances.

    f_t(s x) = s^k f_{t/s²}(x) for all that ``soft`` knows.
    """
    if not np.any(np.maximum(law.get(i, i), law.get(j, j)) > RANGE):
        return None
    units = [np.maximum(0, np.frexp(law.get(k, k))[1] // 2) for k in (i, j)]
    part = law.restrict(sorted({i, j}))
    places = {
        k: units[0] if k == part.variables.index(law.variables[i]) else units[1] for k in range(len(part.variables))
    }
    part = replace(part, cov={(k, l): np.ldexp(a, -places[k] - places[l]) for (k, l), a in part.cov.items()})
    k, l = (part.variables.index(law.variables[n]) for n in (i, j))
    arguments = part.get(k, k), part.get(l, l), part.get(k, l), part.det(k, l)
    if {first, second} <= SOFT.keys():
        softs = [replace(SOFT[f], t=np.ldexp(SOFT[f].t, -2 * e)) for f, e in zip((first, second), units, strict=True)]
        value = soft_pair(softs[0], softs[1], *arguments)
        power = sum(e for s, e in zip(softs, units, strict=True) if s.d)
    elif first == second and first in DERIVATIVES:
        t, degree, formula = DERIVATIVES[first]
        value = formula(*(np.ldexp(t, -2 * e) for e in units), *arguments)
        power = degree * (units[0] + units[1])
    else:
        return None
    value = np.ldexp(value, power)
    return Value(value, 4e-16 * np.abs(value), "closed form")
