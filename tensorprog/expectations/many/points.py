"""Scrambled Sobol points, from every scipy that the package allows."""

from __future__ import annotations

import functools
import inspect

import numpy as np


def sobol_points(dimensions: int, log2: int, rng: np.random.Generator) -> np.ndarray:
    """2^log2 scrambled Sobol points of the open unit cube, (2^log2, dimensions).

    Strictly inside (0, 1), so that quantiles of them are finite.

    >>> sobol_points(2, 3, np.random.default_rng(0)).shape
    (8, 2)
    """
    from scipy.stats import qmc  # half a second to import, needed by few

    points = qmc.Sobol(dimensions, scramble=True, **{_keyword(): rng}).random_base2(log2)
    return np.clip(points, 2.0**-54, 1 - 2.0**-53)


@functools.cache
def _keyword() -> str:
    """``rng`` since scipy 1.15, ``seed`` before."""
    from scipy.stats import qmc

    return "rng" if "rng" in inspect.signature(qmc.Sobol).parameters else "seed"
