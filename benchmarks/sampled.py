"""Cost and accuracy of GRU and LSTM kernels by sampling: 20 sequences of length 10.  Run with ``make bench``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

import tensorprog as tp

COUNT, LENGTH, DIM = 20, 10, 5
SAMPLES, REFERENCE = 2**17, 2**20


@tp.network
def gru(net: Any, x: Any) -> Any:
    """A gated recurrent unit with biases."""
    return net.readout("V", net.gru("G", x, bias=0.5)[-1])


@tp.network
def lstm(net: Any, x: Any) -> Any:
    """A long short-term memory with biases."""
    return net.readout("V", net.lstm("L", x, bias=0.5)[-1])


def main(samples: int = SAMPLES, reference: int = REFERENCE) -> None:
    """Print times, claimed errors and the distance from a longer run, all relative to √(K(x,x) K(x',x'))."""
    X = np.random.default_rng(0).normal(size=(COUNT, LENGTH, DIM))
    for net in (gru(), lstm()):
        for kernel in (tp.nngp, tp.ntk):
            one(f"{net.name} {kernel.__name__}", lambda n, seed, k=kernel, m=net: k(m, samples=n, seed=seed), X,
                samples, reference)  # fmt: skip


def one(name: str, make: Callable[..., tp.Kernel], X: np.ndarray, samples: int, reference: int) -> None:
    """A line of the table."""
    wall, cpu = time.perf_counter(), time.process_time()
    found = make(samples, 0).account(X)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    longer = make(reference, 1).account(X)
    size = np.sqrt(np.outer(np.diag(longer.value), np.diag(longer.value)))
    claimed, distance = found.error / size, np.abs(found.value - longer.value) / size
    print(
        f"{name}: {samples} samples, {wall:.1f} s ({cpu:.1f} CPU s); claimed rms {np.sqrt(np.mean(claimed**2)):.1e}, "
        f"largest {claimed.max():.1e}; from {reference} samples rms {np.sqrt(np.mean(distance**2)):.1e}, "
        f"largest {distance.max():.1e}",
        flush=True,
    )


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
