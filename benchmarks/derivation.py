"""Cost of deriving an NTK against depth and time, with fitted growth exponents.

Run with ``make bench``.  Each figure is the median of 5 derivations with an abstract φ, biases on.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import tensorprog as tp

REPEATS = 5
PHI = tp.abstract("phi")
CASES: dict[str, tuple[list[int], Callable[[int], tp.Kernel]]] = {
    "MLP, backprop, depth": ([25, 50, 100, 200], lambda n: tp.ntk(tp.programs.mlp(depth=n, phi=PHI, sigma_b=1))),
    "MLP, paths, depth": ([25, 50, 100, 200], lambda n: tp.ntk(tp.programs.mlp(depth=n, phi=PHI, sigma_b=1), "paths")),
    "RNN, backprop, T = T'": (
        [12, 25, 50, 100],
        lambda n: tp.ntk(tp.programs.rnn(phi=PHI, sigma_b=1, sigma_h=1), lengths=(n, n)),
    ),
    "RNN, paths, T = T'": (
        [12, 25, 50, 100],
        lambda n: tp.ntk(tp.programs.rnn(phi=PHI, sigma_b=1, sigma_h=1), "paths", lengths=(n, n)),
    ),
}


def seconds(make: Callable[[int], tp.Kernel], size: int) -> float:
    """Median time of a derivation."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        make(size)._derive()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def main() -> None:
    """Print a table of times and the exponent p of time ~ size^p."""
    for name, (sizes, make) in CASES.items():
        seconds(make, sizes[0])  # warm up
        times = [seconds(make, n) for n in sizes]
        p = np.polyfit(np.log(sizes), np.log(times), 1)[0]
        row = "  ".join(f"{n}: {t:.2f} s" for n, t in zip(sizes, times, strict=True))
        print(f"{name:<24} {row}   exponent {p:.2f}")


if __name__ == "__main__":
    main()
