"""Cost of 10⁶ two-dimensional expectations, and of one over three to eight dimensions.  Run with ``make bench``."""

from __future__ import annotations

import statistics
import time

import numpy as np
import sympy as sp

from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Relu, Tanh


def main() -> None:
    """Print the tables of both."""
    pairs()
    structures()


def structures() -> None:
    """Print medians of 5 for the structures of three and more dimensions."""
    u = sp.symbols("u1:9", real=True)
    rng = np.random.default_rng(0)
    loads = rng.normal(size=(8, 3)) / 2
    general = rng.normal(size=(8, 11))
    general = general @ general.T
    general /= np.sqrt(np.outer(np.diag(general), np.diag(general)))
    equal, chain = np.full((8, 8), 0.5) + np.eye(8) / 2, 0.5 ** np.abs(np.subtract.outer(range(8), range(8)))
    wide = loads @ loads.T + np.eye(8)
    for name, cov in (("AR(1)", chain), ("equicorrelated", equal), ("rank 3 + diagonal", wide), ("general", general)):
        for phi in (Tanh, Relu):
            times = []
            for _ in range(5):
                start = time.process_time()
                value = expectation(sp.Mul(*(phi(x) for x in u)), u, cov.tolist())
                times.append(time.process_time() - start)
            print(
                f"k = 8, {name}, {phi.family.name}: {1000 * statistics.median(times):.1f} ms, {value.method}, "
                f"{float(value.value):.6g} ± {float(value.error):.1e}"
            )


def pairs() -> None:
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
