"""NNGP and NTK Gram matrices together: compiled, by plain NumPy and by neural-tangents.  Run with ``make bench``.

    python benchmarks/gram.py [--quick] [--peer PYTHON]

``--quick``: N = 500 only.  ``--peer``: the interpreter of an environment with neural-tangents.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog import programs

REPEATS = 5
PEER = """
import sys, time, numpy as np, jax
jax.config.update("jax_enable_x64", sys.argv[4] == "float64")
from neural_tangents import stax
X = np.load(sys.argv[1]); depth = int(sys.argv[2]); phi = {"relu": stax.Relu, "erf": stax.Erf}[sys.argv[3]]
layers = [l for _ in range(depth) for l in (stax.Dense(1, W_std=2**0.5), phi())] + [stax.Dense(1)]
kernel = jax.jit(lambda x: stax.serial(*layers)[2](x, None, ("nngp", "ntk")))
jax.block_until_ready(kernel(X))
for _ in range(5):
    start = time.perf_counter(); jax.block_until_ready(kernel(X)); print(time.perf_counter() - start)
"""


def plain_relu(X: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The recursion of Jacot et al. written down in NumPy, arccos by arccos."""
    c = 2 * X @ X.T / X.shape[1]
    theta = c.copy()
    for layer in range(depth):
        size = np.sqrt(np.diag(c)[:, None] * np.diag(c)[None, :])
        angle = np.arccos(np.clip(c / size, -1, 1))
        value = size * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / (2 * np.pi)
        scale = 1 if layer == depth - 1 else 2
        c, theta = scale * value, scale * (value + theta * (np.pi - angle) / (2 * np.pi))
    return c, theta


def plain_erf(X: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """The same with erf (Williams 1996)."""
    c = 2 * X @ X.T / X.shape[1]
    theta = c.copy()
    for layer in range(depth):
        wide = 1 + 2 * np.diag(c)
        size = wide[:, None] * wide[None, :]
        value = 2 / np.pi * np.arcsin(2 * c / np.sqrt(size))
        slope = 4 / np.pi / np.sqrt(size - 4 * c * c)
        scale = 1 if layer == depth - 1 else 2
        c, theta = scale * value, scale * (value + theta * slope)
    return c, theta


PLAIN = {"relu": plain_relu, "erf": plain_erf}


def timed(call: Callable[[], Any]) -> list[float]:
    """Seconds of five calls after a first one."""
    call()
    seconds = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - start)
    return seconds


def peer(python: str, X: np.ndarray, depth: int, phi: str) -> list[float]:
    """Seconds of five calls of neural-tangents after its compilation."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "X.npy"
        np.save(path, X)
        command = [python, "-c", PEER, str(path), str(depth), phi, str(X.dtype)]
        return [float(s) for s in subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()]


def shown(seconds: list[float], ours: list[float]) -> str:
    """The median, and the ratio to ours with its range over the repetitions."""
    ratio = statistics.median(seconds) / statistics.median(ours)
    low, high = min(seconds) / max(ours), max(seconds) / min(ours)
    return f"{statistics.median(seconds):8.3f} ({ratio:4.1f}, {low:.1f}–{high:.1f})"


def main() -> None:
    """Print a table: seconds, and in brackets how many times as long as the compiled kernel."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--peer")
    options = parser.parse_args()
    print(
        "phi    depth    N    d  dtype    compiled (into out)   products alone        plain NumPy       neural-tangents"
    )
    for count in (500,) if options.quick else (2000, 8000):
        for dtype in (np.float64, np.float32):
            for phi in PLAIN:
                for depth in (3, 10):
                    for d in (784,) if options.quick else (100, 784):
                        row(phi, depth, count, d, dtype, options.peer)
    sequences(100 if options.quick else 500)


def row(phi: str, depth: int, count: int, d: int, dtype: Any, python: str | None) -> None:
    """One line of the table."""
    X = np.random.default_rng(0).normal(size=(count, d)).astype(dtype)
    net = programs.mlp(depth=depth, phi=tp.NONLINEARITIES[phi])
    kernels = [tp.nngp(net), tp.ntk(net)]
    out = [np.zeros((count, count), dtype) for _ in kernels]
    ours = timed(lambda: tp.gram(kernels, X, dtype=dtype))
    into = timed(lambda: tp.gram(kernels, X, dtype=dtype, out=out))
    others = [timed(lambda: X @ X.T), timed(lambda: PLAIN[phi](X, depth))]
    others += [peer(python, X, depth, phi)] if python else []
    columns = "  ".join(shown(o, ours) for o in others)
    print(f"{phi:<5} {depth:5} {count:5} {d:4}  {np.dtype(dtype)!s:7} {statistics.median(ours):7.3f} "
          f"({statistics.median(into):.3f})  {columns}", flush=True)  # fmt: skip


def sequences(size: int) -> None:
    """The RNN kernel of ``size`` sequences of that length, of half of it, and of mixed lengths."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(size, size, 10))
    ragged = [x[:t] for x, t in zip(X, rng.integers(2, size + 1, size=size), strict=True)]
    K = tp.ntk(programs.rnn())
    for name, data in (("equal", X), ("half as long", X[:, : size // 2]), ("ragged", ragged)):
        print(f"RNN NTK, {size} sequences, {name}: {statistics.median(timed(lambda data=data: K.gram(data))):.2f} s")


if __name__ == "__main__":
    sys.exit(main())
