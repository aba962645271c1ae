"""Cost of certifying SGD against the number of steps, and of finite-width runs against their matrix products.

Run with ``make bench``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import numpy as np

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.execute import schedule
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.ir.instructions import MatMul


def median(fn: Callable[[], object], repeats: int) -> float:
    """Median seconds of a call."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def certificates() -> None:
    """Certify an MLP of 3 hidden layers for growing numbers of steps."""
    net = tp.programs.mlp(depth=3, phi=tp.abstract("phi"), sigma_b=1)
    steps = [5, 10, 20, 40]

    def certify(t: int) -> None:
        if not tp.unroll(net, steps=t).certify().passed:
            raise SystemExit(f"the certificate of {t} steps failed")

    certify(2)
    times = [median(lambda t=t: certify(t), 3) for t in steps]  # type: ignore[misc]
    p = np.polyfit(np.log(steps), np.log(times), 1)[0]
    row = "  ".join(f"{t}: {s:.2f} s" for t, s in zip(steps, times, strict=True))
    print(f"certify, 3 hidden layers, steps   {row}   exponent {p:.2f}")


def finite_run(width: int = 4096, steps: int = 20) -> None:
    """A finite-width SGD run beside its matrix products alone, on the same matrices, interleaved."""
    rng = np.random.default_rng(0)
    net = tp.programs.mlp(depth=3, phi=tp.relu, sigma_b=0.5)
    inputs = read_inputs(rng.normal(size=(4, 8)), "X", "vectors")
    run = FiniteTraining(net, inputs, rng.normal(size=4), steps, tp.SGD(0.1))
    groups = [g for g in schedule(run.u.program, ()) if isinstance(g[0][1], MatMul)]
    whole, products = [], []
    for seed in range(5):
        parameters = run.finite.draw(width, [seed])
        W = parameters["W2"] / np.sqrt(width)
        vectors = {len(g): rng.normal(size=(1, width, len(g))) for g in groups}

        def multiply(W: np.ndarray = W, vectors: dict[int, np.ndarray] = vectors) -> None:
            for g in groups:
                (np.swapaxes(W, -1, -2) if g[0][1].transpose else W) @ vectors[len(g)]

        products.append(median(multiply, 1))
        whole.append(median(lambda p=parameters: run.execute(p, overwrite=True), 1))  # type: ignore[misc]
    ratios = [a / b for a, b in zip(whole, products, strict=True)]
    print(f"{steps} SGD steps at width {width}, 4 inputs: {statistics.median(whole):.2f} s, its "
          f"{sum(map(len, groups))} matrix products alone {statistics.median(products):.2f} s, ratio "
          f"{statistics.median(ratios):.2f} [{min(ratios):.2f}, {max(ratios):.2f}]")  # fmt: skip


if __name__ == "__main__":
    certificates()
    finite_run()
