"""Fresh standard Gaussians for the sampling of kernels: scrambled Sobol points for the first, which matter most."""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import special

from tensorprog.expectations.many.points import sobol_points

DIMENSIONS = 64  # of Sobol points: more do not help, later Gaussians are pseudo-random


class Noise:
    """Independent standard Gaussian samples (m,), row after row.

    Args:
        dimensions: how many rows will be asked for at most.
        log2: m = 2^log2.
        seed: of the scrambling.
        dtype: of the samples.
        drawn: what they are rounded to as they are drawn; ``dtype`` if absent.

    >>> noise = Noise(3, 10, (0, 1))
    >>> z = noise.take(3)
    >>> bool(np.abs(z @ z.T / 1024 - np.eye(3)).max() < 0.1)
    True
    """

    def __init__(self, dimensions: int, log2: int, seed: tuple[int, ...], dtype: Any = np.float64,
                 drawn: Any = None) -> None:  # fmt: skip
        self.samples, self.dtype = 2**log2, np.dtype(dtype)
        self._drawn = self.dtype if drawn is None else np.dtype(drawn)
        self._rng = np.random.Generator(np.random.SFC64(seed))
        count = min(dimensions, DIMENSIONS)
        self._points = sobol_points(count, log2, self._rng) if count else np.zeros((self.samples, 0))
        self._next = 0

    def take(self, count: int) -> np.ndarray:
        """The next rows, (count, m)."""
        chosen = self._points[:, self._next : self._next + count]
        self._next += count
        rows = special.ndtri(np.ascontiguousarray(chosen.T)).astype(self._drawn)
        missing = (count - len(rows), self.samples)
        rows = np.concatenate([rows, self._rng.standard_normal(missing, self._drawn)]) if missing[0] else rows
        return rows.astype(self.dtype, copy=False)

    def signs(self, count: int) -> np.ndarray:
        """Rows of independent random signs, (count, m)."""
        bits = np.unpackbits(np.frombuffer(self._rng.bytes(-(-count * self.samples // 8)), np.uint8))
        return 1 - 2 * bits[: count * self.samples].reshape(count, self.samples).astype(self.dtype)
