"""E r(m + σ z) of a localised function on a lattice of m, for any σ, by Chebyshev interpolation in σ².

As a function of (m, σ²) this is the heat flow of r.  With a table of it, the double sum over two supports becomes a
single one: the lattice is that of the conditional mean m = (c/q1) u, whatever the pair.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

Array = Any
PANELS = (0.0, 1 / 64, 1 / 16, 1 / 4, 1.0, 4.0, 16.0, 64.0, 256.0, 1024.0)  # of σ²
ORDER = 32
SIGMAS = 9.0
FEWEST = 128  # nodes of a table on each side of 0
FINE = 0.1  # step of the sums that fill the table
ROUNDING = 1.6e-14  # of an interpolated value, as a fraction of the largest coefficient


@lru_cache(maxsize=128)
def heat(local: Any, step: float, panel: int, most: int) -> tuple[Array, float]:
    """Chebyshev coefficients in σ² on a panel, (ORDER, 2M + 1) for m = step k, |k| ≤ M ≤ ``most``, and their error."""
    low, high = PANELS[panel], PANELS[panel + 1]
    node = np.cos(np.pi * (np.arange(ORDER) + 0.5) / ORDER)
    sigma = np.sqrt((low + high) / 2 + (high - low) / 2 * node)
    count = 2 * int(np.ceil(min((local.reach + SIGMAS * np.sqrt(high)) / step, most) / 2))
    mean = step * np.arange(-count, count + 1)
    values = np.stack([_normals(local, mean, s) if s < 1 else _lattice(local, mean, s) for s in sigma])
    transform = np.polynomial.chebyshev.chebvander(node, ORDER - 1).T * np.where(np.arange(ORDER) > 0, 2, 1)[:, None]
    coefficients = transform @ values / ORDER
    return coefficients, 2 * float(np.abs(coefficients[-2:]).max()) + ROUNDING * float(np.abs(coefficients).max())


def _normals(local: Any, mean: Array, sigma: float) -> Array:
    z = 2 * FINE * np.arange(-int(SIGMAS / FINE / 2), int(SIGMAS / FINE / 2) + 1)
    return local.rest(mean[:, None] + sigma * z) @ (2 * FINE * np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi))


def _lattice(local: Any, mean: Array, sigma: float) -> Array:
    y = FINE * np.arange(-int(local.reach / FINE), int(local.reach / FINE) + 1)
    density = np.exp(-(((y - mean[:, None]) / sigma) ** 2) / 2) / (sigma * np.sqrt(2 * np.pi))
    return density @ (FINE * local.rest(y))


def flow(local: Any, step: float, panel: int, variance: Array, most: int) -> tuple[Array, float]:
    """E r(m + σ z) at the variances σ² of a panel, (N, 2M + 1) for m = step k, |k| ≤ M ≤ ``most``, and its error."""
    low, high = PANELS[panel], PANELS[panel + 1]
    coefficients, error = heat(local, step, panel, max(FEWEST, 1 << most.bit_length()))
    count = coefficients.shape[1] // 2
    half = min(count, most + most % 2)
    unit = np.clip((2 * variance - low - high) / (high - low), -1, 1)
    kept = coefficients[:, count - half : count + half + 1]
    return np.polynomial.chebyshev.chebvander(unit, ORDER - 1) @ kept, error
