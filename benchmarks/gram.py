"""NNGP and NTK Gram matrices together: compiled, by plain NumPy and by neural-tangents.  Run with ``make bench``.

    python benchmarks/gram.py [--full | --tiny] [--peer PYTHON] [--results FILE] [--write-docs]

Without ``--full``: N = 2000 only, d = 784, double precision, two minutes.  ``--full``: N = 2000 and 8000, d = 100 and
784, double and single precision, more than an hour.  ``--tiny``: all of it at sizes that take seconds.
A run begins its results file anew and adds every row as it comes, so that one that is interrupted leaves what it has;
``--write-docs`` makes the section of docs/performance.md and its plot from them.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from peers import ROOT, find_peer
from sides import PLAIN, THREADS, GramPeer, floor, saved
from tables import bound, write_docs

import tensorprog as tp
from tensorprog import programs

RESULTS = ROOT / "out" / "gram.json"
JUDGED = 20  # inputs whose pairs are compared with a dense rule
SLOW = 4000  # inputs from which plain NumPy, which has nothing to compile, is not warmed


@dataclass(frozen=True)
class Plan:
    """What is measured: every size with every d and dtype, in so many rounds; and the sizes of the other rows."""

    sizes: tuple[int, ...]
    ds: tuple[int, ...]
    dtypes: tuple[Any, ...]
    rounds: int
    tanh: int
    sequences: int
    memory: int

    def settings(self) -> list[tuple[str, int, int, int, Any]]:
        """(phi, depth, N, d, dtype), the leading case first."""
        each = product(self.ds, self.dtypes, self.sizes, PLAIN, (3, 10))
        return [(phi, depth, n, d, t) for d, t, n, phi, depth in each]


PLANS = {
    "quick": Plan((2000,), (784,), (np.float64,), 5, 500, 200, 2000),
    "full": Plan((8000, 2000), (784, 100), (np.float64, np.float32), 5, 500, 500, 8000),
    "tiny": Plan((60,), (5,), (np.float64, np.float32), 1, 20, 12, 300),
}


def once(call: Callable[[], Any]) -> float:
    """Seconds of one call, its result thrown away."""
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


def interleaved(sides: Mapping[str, Callable[[], float]], rounds: int,
                cold: Collection[str] = ()) -> dict[str, list[float]]:  # fmt: skip
    """Seconds of every side, in turn, after a first round of all but the ``cold`` that does not count."""
    for name, side in sides.items():
        if name not in cold:
            side()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(side())
    return seconds


def kernels_of(phi: str, depth: int) -> list[Any]:
    net = programs.mlp(depth=depth, phi=tp.NONLINEARITIES[phi])
    return [tp.nngp(net), tp.ntk(net)]


def gram_row(phi: str, depth: int, count: int, d: int, dtype: Any, python: str | None, rounds: int) -> dict[str, Any]:
    """All sides of one setting."""
    X = np.random.default_rng(0).normal(size=(count, d)).astype(dtype)
    kernels, out = kernels_of(phi, depth), [np.zeros((count, count), dtype) for _ in range(2)]
    space = np.zeros((2, count, count), dtype)
    sides = {
        "compiled": lambda: once(lambda: tp.gram(kernels, X, dtype=dtype)),
        "into out": lambda: once(lambda: tp.gram(kernels, X, dtype=dtype, out=out)),
        "floor": lambda: once(lambda: floor(X, depth, phi, space)),
    }
    sides["NumPy"] = lambda: once(lambda: PLAIN[phi](X, depth))
    peer = GramPeer(python, X, depth, phi) if python else None
    if peer:
        sides["neural-tangents"] = peer.seconds
    seconds = interleaved(sides, rounds, ["NumPy"] if count > SLOW else ())
    if peer:
        peer.close()
    return {"phi": phi, "depth": depth, "N": count, "d": d, "dtype": np.dtype(dtype).name, "seconds": seconds}


def tanh_row(python: str | None, count: int, rounds: int, depth: int = 3) -> dict[str, Any]:
    """tanh, NNGP and NTK: seconds, and the largest relative error on some pairs against a dense trapezoidal rule."""
    X, kernels = np.random.default_rng(0).normal(size=(count, 784)), kernels_of("tanh", depth)
    sides = {"compiled": lambda: once(lambda: tp.gram(kernels, X))}
    peer = GramPeer(python, X, depth, "tanh") if python else None
    found = {"compiled": np.stack(tp.gram(kernels, X))}
    if peer:
        sides["neural-tangents"] = peer.seconds
        found["neural-tangents"] = np.load(peer.path)
    seconds = interleaved(sides, rounds)
    if peer:
        peer.close()
    pairs = [(i, j) for i in range(JUDGED) for j in range(i + 1)]
    exact = {p: tanh_reference(*(2 * X[list(p)] @ X[list(p)].T / X.shape[1]).ravel()[[0, 3, 1]], depth) for p in pairs}
    errors = {name: max(float(abs(K[:, p[0], p[1]] / exact[p] - 1).max()) for p in pairs) for name, K in found.items()}
    return {"N": count, "depth": depth, "seconds": seconds, "errors": errors, "pairs": len(pairs)}


def tanh_reference(q1: float, q2: float, c: float, depth: int) -> np.ndarray:
    """NNGP and NTK of one pair at σ_w² = 2, expectations by the trapezoidal rule with 401² nodes."""
    z = np.linspace(-10, 10, 401)
    w = np.exp(-(z**2) / 2) * (z[1] - z[0]) / np.sqrt(2 * np.pi)

    def mean(f: Callable[[Any], Any], q1: float, q2: float, c: float) -> float:
        rho = min(c / np.sqrt(q1 * q2), 1.0)
        inner = f(np.sqrt(q2) * (rho * z[:, None] + np.sqrt(1 - rho**2) * z)) @ w
        return float(w @ (f(np.sqrt(q1) * z) * inner))

    theta = c
    for layer in range(depth):
        scale = 1 if layer == depth - 1 else 2
        slope = mean(lambda x: 1 / np.cosh(x) ** 2, q1, q2, c)
        q1, q2, c = (scale * mean(np.tanh, *law) for law in ((q1, q1, q1), (q2, q2, q2), (q1, q2, c)))
        theta = c + scale * slope * theta
    return np.array([c, theta])


def sequence_rows(size: int, rounds: int) -> dict[str, Any]:
    """The RNN kernel of ``size`` sequences of that length, of half of it, and of mixed lengths."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(size, size, 10))
    ragged = [x[:t] for x, t in zip(X, rng.integers(2, size + 1, size=size), strict=True)]
    net = programs.rnn()
    kernels = [tp.nngp(net), tp.ntk(net)]
    data = {"equal": X, "half as long": X[:, : size // 2], "ragged": ragged}
    sides = {name: lambda x=x: once(lambda: tp.gram(kernels, x)) for name, x in data.items()}
    return {"size": size, "seconds": interleaved(sides, rounds)}


def latency() -> list[float]:
    """Seconds of calls on ten inputs after the first."""
    X, kernels = np.random.default_rng(0).normal(size=(10, 784)), kernels_of("relu", 3)
    return interleaved({"call": lambda: once(lambda: tp.gram(kernels, X))}, 100)["call"]


def memory(depth: int, count: int, d: int = 784) -> dict[str, float]:
    """Peak bytes of a call in a process of its own, and those of its results and inputs."""
    command = [sys.executable, __file__, "--peak", str(depth), str(count), str(d)]
    peak = int(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {"depth": depth, "N": count, "d": d, "peak": peak, "results": 16 * count**2, "inputs": 8 * count * d}


def peak(depth: int, count: int, d: int) -> int:
    """Bytes by which the largest resident size exceeds the one before the call and its inputs."""
    kernels = kernels_of("relu", depth)
    tp.gram(kernels, np.eye(300))
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    tp.gram(kernels, np.random.default_rng(0).normal(size=(count, d)))
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def machine() -> dict[str, Any]:
    """Processor and libraries."""
    cpu = Path("/proc/cpuinfo")
    lines = cpu.read_text().splitlines() if cpu.exists() else []
    about = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    versions = {name: version(name) for name in ("numpy", "scipy", "numba")}
    return {"processor": about.get("model name", platform.processor()), "cores": os.cpu_count(),
            "wide": "avx512f" in about.get("flags", ""), "python": platform.python_version(), **versions}  # fmt: skip


def shown(name: str, seconds: Mapping[str, list[float]]) -> None:
    medians = "  ".join(f"{side} {statistics.median(s):.4f}" for side, s in seconds.items())
    print(f"{name}: {medians}", flush=True)


def main() -> None:
    """Print medians in seconds as they come."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", dest="plan", action="store_const", const="full", default="quick")
    parser.add_argument("--tiny", dest="plan", action="store_const", const="tiny")
    parser.add_argument("--peer")
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--write-docs", action="store_true")
    parser.add_argument("--peak", type=int, nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.peak:
        print(peak(*options.peak))
        return
    wanted = {name: str(THREADS) for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")}
    if any(os.environ.get(k) != v for k, v in wanted.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **wanted})
    python = find_peer(options.peer)
    options.results.unlink(missing_ok=True)
    try:
        measure(PLANS[options.plan], python, options.results)
    except KeyboardInterrupt:
        print(f"\ninterrupted; what was measured is in {options.results}")
    if options.write_docs and options.results.exists():
        write_docs(options.results)


def measure(plan: Plan, python: str | None, results: Path) -> None:
    """Every row of a plan, saved as it comes."""
    saved(results, {"machine": machine()})
    tanh = tanh_row(python, plan.tanh, plan.rounds)
    shown("tanh", tanh["seconds"])
    saved(results, {"tanh": tanh})
    sequences = sequence_rows(plan.sequences, plan.rounds)
    shown("RNN", sequences["seconds"])
    saved(results, {"sequences": sequences, "latency": latency()})
    used = [memory(depth, plan.memory) for depth in (3, 10)]
    print("peak memory over needed:", [round(m["peak"] / bound(m), 2) for m in used], flush=True)
    saved(results, {"memory": used})
    begin, settings = time.perf_counter(), plan.settings()
    for k, setting in enumerate(settings):
        row = gram_row(*setting, python, plan.rounds)
        name = f"{row['phi']} depth {row['depth']}, N = {row['N']}, d = {row['d']}, {row['dtype']}"
        shown(f"[{k + 1}/{len(settings)}, {time.perf_counter() - begin:.0f} s] {name}", row["seconds"])
        saved(results, {name: row})


if __name__ == "__main__":
    main()
