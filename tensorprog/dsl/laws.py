"""Laws of the entries of weights: mean 0 and variance 1, by their values or by their quantiles."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tensorprog.errors import ProgramError, nearest, shortly
from tensorprog.printing import Shown
from tensorprog.types import Data

MOST = 4096  # values of a discrete law
CLOSE = 1e-3  # how far the moments of quantiles, found at so many points, may be from those of a law
POINTS = 2**16


def _unchanged(p: np.ndarray) -> np.ndarray:
    return p


@dataclass(frozen=True, repr=False)
class WeightLaw(Shown):
    """The law of the entries of a weight, of mean 0 and variance 1; ``tp.law`` makes it.

    Attributes:
        name: how it prints.
        values, weights: of a discrete law, its values and their probabilities; else nothing.
        quantile: p ↦ the value below which an entry lies with probability p.
    """

    name: str
    values: tuple[float, ...] = ()
    weights: tuple[float, ...] = ()
    quantile: Callable[[np.ndarray], np.ndarray] = field(default=_unchanged, compare=False)

    def text(self) -> str:
        """Its name."""
        return f"the law {self.name}, of mean 0 and variance 1"

    def entries(self, p: np.ndarray) -> np.ndarray:
        """Entries, from numbers of the unit interval."""
        if not self.values:
            return np.asarray(self.quantile(p), float)
        found = np.searchsorted(np.cumsum(self.weights)[:-1], p, side="right")
        return np.asarray(self.values)[found]  # type: ignore[no-any-return]


def _uniform(p: np.ndarray) -> np.ndarray:
    return math.sqrt(3) * (2 * p - 1)


NAMED = {
    "uniform": WeightLaw("uniform", quantile=_uniform),
    "rademacher": WeightLaw("rademacher", (-1.0, 1.0), (0.5, 0.5)),
}


def law(values: Data | None = None, weights: Data | None = None, *,
        quantile: Callable[[np.ndarray], np.ndarray] | None = None, name: str = "law") -> WeightLaw:  # fmt: skip
    """A law of the entries of weights: of some values, or by its quantiles; mean 0, and variance 1.

    Args:
        values: of a discrete law; they are divided by their standard deviation, since ``std`` is that of a weight.
        weights: their probabilities; equal ones when None.
        quantile: p ↦ the value below which an entry lies with probability p, of arrays, of mean 0 and variance 1.
        name: how it prints.

    Raises:
        ProgramError: neither or both, a mean that is not 0, or quantiles whose variance is not 1.

    >>> [round(v, 6) for v in law([-1, 0, 1], [0.25, 0.5, 0.25]).values]
    [-1.414214, 0.0, 1.414214]
    """
    if (values is None) == (quantile is None):
        raise ProgramError("tp.law takes values of a discrete law, or quantile=, a function of p")
    if not isinstance(name, str):
        raise ProgramError(f"the name of a law is a text, got {shortly(name)}")
    if quantile is not None:
        return _by_quantile(quantile, name)
    found = _numbers(values, "values")
    shares = np.full(len(found), 1 / len(found)) if weights is None else _numbers(weights, "weights")
    if len(shares) != len(found) or shares.min() < 0 or not math.isclose(shares.sum(), 1, rel_tol=1e-9):
        raise ProgramError(
            f"weights of tp.law are probabilities, one for each of {len(found)} values, got {shortly(weights)}"
        )
    shares = shares / shares.sum()
    mean, deviation = float(shares @ found), math.sqrt(float(shares @ found**2))
    if deviation == 0 or abs(mean) > 1e-9 * deviation:
        raise ProgramError(f"a law of weights has mean 0 and some spread; these values have mean {mean:g}")
    order = np.argsort(found)
    return WeightLaw(name, tuple((found[order] / deviation).tolist()), tuple(shares[order].tolist()))


def _numbers(given: Any, what: str) -> np.ndarray:
    try:
        found = np.asarray(given, float).ravel()
    except (TypeError, ValueError, OverflowError) as error:
        raise ProgramError(f"{what} of tp.law are numbers, got {shortly(given)}") from error
    if not 0 < len(found) <= MOST or not np.isfinite(found).all():
        raise ProgramError(f"{what} of tp.law are one to {MOST} finite numbers, got {shortly(given)}")
    return found


def _by_quantile(quantile: Any, name: str) -> WeightLaw:
    if not callable(quantile):
        raise ProgramError(f"quantile of tp.law is a function of p, got {shortly(quantile)}")
    p = (np.arange(POINTS) + 0.5) / POINTS
    try:
        x = np.asarray(quantile(p), float)
    except Exception as error:  # of a function that is not ours
        raise ProgramError(f"quantile of tp.law failed on an array of p: {error}") from error
    if x.shape != p.shape or not np.isfinite(x).all() or (np.diff(x) < 0).any():
        raise ProgramError("quantile of tp.law must give an ascending finite number for every p between 0 and 1")
    mean, square = float(x.mean()), float((x**2).mean())
    if abs(mean) > CLOSE or abs(square - mean**2 - 1) > CLOSE:
        raise ProgramError(f"a law of weights has mean 0 and variance 1; of these quantiles they are {mean:.4g} and "
                           f"{square - mean**2:.4g}")  # fmt: skip
    return WeightLaw(name, quantile=quantile)


def law_of(key: Any, given: Any) -> WeightLaw | None:
    """What ``law=`` means: None for Gaussian entries.

    Raises:
        ProgramError: no law, or an unknown name.
    """
    if given is None or (isinstance(given, str) and given in ("gaussian", "normal")):
        return None
    if isinstance(given, WeightLaw):
        return given
    if isinstance(given, str):
        if given not in NAMED:
            known: Sequence[str] = ["gaussian", *NAMED]
            raise ProgramError(
                f"unknown law {shortly(given)} of {shortly(key)}; {nearest(given, known)}; or give tp.law(..)"
            )
        return NAMED[given]
    raise ProgramError(
        f"law of {shortly(key)} is 'gaussian', 'uniform', 'rademacher' or tp.law(..), got {shortly(given)}"
    )
