"""Cost of 10⁶ two-dimensional expectations by closed form and by Mehler series.  Run with ``make bench``."""

from __future__ import annotations

import statistics
import time

import numpy as np
import sympy as sp

from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Relu, Tanh


def main() -> None:
    """Print medians of 5 for 1000 × 1000 pairs, q in [0.1, 10], correlations uniform in (-1, 1)."""
    u, v = sp.symbols("u1 u2", real=True)
    rng = np.random.default_rng(0)
    q1, q2 = rng.uniform(0.1, 10, (1000, 1)), rng.uniform(0.1, 10, (1, 1000))
    c = rng.uniform(-1, 1, (1000, 1000)) * np.sqrt(q1 * q2)
    for phi in (Relu, Tanh):
        times = []
        for _ in range(6):
            start = time.perf_counter()
            value = expectation(phi(u) * phi(v), (u, v), [[q1, c], [c, q2]])
            times.append(time.perf_counter() - start)
        bound = float(np.max(value.error))
        print(
            f"10^6 pairs of {phi.family.name}: {statistics.median(times[1:]):.2f} s, {value.method}, bound {bound:.1e}"
        )


if __name__ == "__main__":
    main()
