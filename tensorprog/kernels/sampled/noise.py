"""Fresh standard Gaussians for the sampling of kernels: scrambled Sobol points, as long as they have dimensions."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

DIMENSIONS = 8192  # of Sobol points; later Gaussians are pseudo-random
CHUNK = 1024  # dimensions transformed at once


def sobol(dimensions: int, log2: int, rng: np.random.Generator) -> np.ndarray:
    """2^log2 scrambled Sobol points of the open cube, (2^log2, dimensions), under old and new versions of scipy."""
    from scipy.stats import qmc  # half a second to import, needed by few

    make: Any = qmc.Sobol
    try:
        engine = make(dimensions, scramble=True, rng=rng)
    except TypeError:  # before scipy 1.15
        engine = make(dimensions, scramble=True, seed=rng)
    return np.clip(engine.random_base2(log2), 2.0**-54, 1 - 2.0**-53)  # type: ignore[no-any-return]


class Noise:
    """Independent standard Gaussian samples (m,), row after row.

    Args:
        dimensions: how many rows will be asked for at most.
        log2: m = 2^log2.
        seed: of the scrambling.

    >>> noise = Noise(3, 10, (0, 1))
    >>> z = noise.take(3)
    >>> bool(np.abs(z @ z.T / 1024 - np.eye(3)).max() < 0.1)
    True
    """

    def __init__(self, dimensions: int, log2: int, seed: tuple[int, ...]) -> None:
        self.samples = 2**log2
        self._rng = np.random.default_rng(seed)
        count = min(dimensions, DIMENSIONS)
        self._points = sobol(count, log2, self._rng) if count else np.zeros((self.samples, 0))
        self._taken = 0

    def take(self, count: int) -> np.ndarray:
        """The next rows, (count, m)."""
        chosen = self._points[:, self._taken : self._taken + count]
        self._taken += count
        rows = special.ndtri(np.ascontiguousarray(chosen.T))
        missing = count - len(rows)
        return np.concatenate([rows, self._rng.standard_normal((missing, self.samples))]) if missing else rows
