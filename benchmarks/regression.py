"""Kernel ridge regression with the NTK of a relu MLP by conjugate gradients: time, residual, memory.

    python benchmarks/regression.py [--count N] [--dim D] [--alpha A]

Targets are noisy values of a smooth function of standard Gaussian inputs.  Printed: seconds, CPU time of all threads
divided by two, products with K, the relative residual (entries of K in double precision), the largest memory of the
process, and the R² on 500 new inputs.
"""

from __future__ import annotations

import argparse
import resource
import time

import numpy as np

import tensorprog as tp
from tensorprog.learn import NTKRegressor


def main() -> None:
    """One fit and one prediction."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--dim", type=int, default=10)
    parser.add_argument("--alpha", type=float, default=1e-2)
    given = parser.parse_args()
    rng = np.random.default_rng(0)
    X = rng.standard_normal((given.count + 500, given.dim))
    f = np.sin(X[:, 0]) + X[:, 1] * X[:, 2] / 2
    y = f + 0.1 * rng.standard_normal(len(f))
    model = NTKRegressor(tp.programs.mlp(depth=2, sigma_b=0.1), alpha=given.alpha, solver="cg", progress=tell)
    start, wall = time.process_time(), time.perf_counter()
    model.fit(X[: given.count], y[: given.count])
    taken, wall = time.process_time() - start, time.perf_counter() - wall
    print(f"N = {given.count}, d = {given.dim}, alpha = {given.alpha:g}: {wall:.0f} s, {taken / 2:.0f} s of CPU / 2")
    print(f"{model.iterative_.iterations} products with K, relative residual {model.iterative_.residual:.1e}")
    print(f"R^2 on 500 new inputs: {model.score(X[given.count :], f[given.count :]):.4f}")
    print(f"memory at most {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def tell(done: int, total: int, what: str) -> None:
    """A line now and then."""
    if done % 20 == 0:
        print(f"{what}: {done} of {total}", flush=True)


if __name__ == "__main__":
    main()
