"""Cost of the empirical NTK: the layerwise formula, its own matrix products, and contractions of Jacobians.

Run with ``make bench``; ``--full`` adds width 2048.  The Jacobians are those of torch, on equal parameters and
interleaved with ours, and of neural-tangents by default, compiled, on a network of the same shape.
(``make bench-peers``).  Medians of 5.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

import tensorprog as tp
from tensorprog.finite.layerwise import Layerwise
from tensorprog.kernels.data import read_inputs

INPUTS, DIMENSION, DEPTH = 64, 16, 3
PEER = Path(os.environ.get("PEERS", ".venv-peers")) / "bin" / "python"
SCRIPT = """
import sys, time, numpy as np, jax, neural_tangents as nt
from neural_tangents import stax
inputs, dimension, depth, width, dtype = *map(int, sys.argv[1:5]), sys.argv[5]
jax.config.update("jax_enable_x64", dtype == "float64")
layers = [l for _ in range(depth) for l in (stax.Dense(width, W_std=2**0.5), stax.Relu())] + [stax.Dense(1)]
init, apply, _ = stax.serial(*layers)
x = jax.numpy.asarray(np.random.default_rng(1).normal(size=(inputs, dimension)), dtype)
_, parameters = init(jax.random.PRNGKey(0), x.shape)
kernel = jax.jit(lambda x, p: nt.empirical_ntk_fn(apply)(x, None, p))
jax.block_until_ready(kernel(x, parameters))
for _ in range(5):
    start = time.process_time(); jax.block_until_ready(kernel(x, parameters)); print(time.process_time() - start)
"""


def neural_tangents(width: int, dtype: Any) -> str:
    """Seconds of CPU of neural-tangents, or what is missing."""
    if not PEER.exists():
        return "(no neural-tangents: make bench-peers)"
    command = [str(PEER), "-c", SCRIPT, *map(str, (INPUTS, DIMENSION, DEPTH, width)), np.dtype(dtype).name]
    printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    return f"{statistics.median(map(float, printed.split())):.4f}"


def products(kernel: Layerwise, parameters: dict[str, np.ndarray]) -> Callable[[], None]:
    """Only the matrix products of the formula: forward, backward, and two Gram matrices for each matrix."""
    u, v = parameters["U"][0], parameters["V"][0]
    rng = np.random.default_rng(0)
    rows = [rng.normal(size=(INPUTS, len(v))).astype(v.dtype) for _ in range(2)]
    columns = [np.ascontiguousarray(r.T) for r in rows]
    x = kernel.first.data[None][:, 0].astype(v.dtype)
    matrices = [w[0] for n, w in parameters.items() if n.startswith("W")]

    def run() -> None:
        u @ x.T, x @ x.T, rows[0] @ rows[0].T, rows[1] @ rows[1].T  # embedding and readout
        for w in matrices:
            w @ columns[0], w.T @ columns[1], rows[0] @ rows[0].T, rows[1] @ rows[1].T

    return run


def jacobians(kernel: Layerwise, parameters: dict[str, np.ndarray]) -> Callable[[], np.ndarray]:
    """The same kernel as a contraction of the Jacobians of all inputs, by torch.func."""
    p = {n: torch.tensor(w[0]) for n, w in parameters.items()}
    x = torch.tensor(kernel.first.data[None][:, 0]).to(p["U"].dtype)

    def f(p: dict[str, Any], x: Any) -> Any:
        h = 2**0.5 * p["U"] @ x / x.shape[0] ** 0.5
        for l in range(2, DEPTH + 1):
            h = 2**0.5 * p[f"W{l}"] @ torch.relu(h) / h.shape[0] ** 0.5
        return p["V"] @ torch.relu(h) / h.shape[0] ** 0.5

    def run() -> np.ndarray:
        jacobian = torch.func.vmap(torch.func.jacrev(f), (None, 0))(p, x)
        return sum(j.flatten(1) @ j.flatten(1).T for j in jacobian.values()).numpy()  # type: ignore[no-any-return]

    return run


def compare(width: int, dtype: Any) -> None:
    """One row of the table, after checking that both sides agree."""
    X = np.random.default_rng(1).normal(size=(INPUTS, DIMENSION))
    kernel = Layerwise(tp.programs.mlp(depth=DEPTH), read_inputs(X, "X", False), None, {})
    parameters = kernel.draw(width, [0], dtype)
    sides = [lambda: kernel(parameters, {}), products(kernel, parameters), jacobians(kernel, parameters)]
    ours, _, theirs = (side() for side in sides)
    if np.abs(ours[0] - theirs).max() > (1e-10 if dtype == np.float64 else 1e-4) * np.abs(theirs).max():
        raise SystemExit("the two empirical NTKs differ")
    seconds: list[list[float]] = [[], [], []]
    for _ in range(5):
        for side, record in zip(sides, seconds, strict=True):
            start = time.process_time()
            side()
            record.append(time.process_time() - start)
    a, b, c = (statistics.median(s) for s in seconds)
    times = f"{a:9.4f} {b:9.4f} {c:9.4f}"
    peer = neural_tangents(width, dtype)
    faster = f"{float(peer) / a:.0f}x" if peer[0].isdigit() else ""
    ratios = f"{a / b:5.2f}x products   {c / a:4.0f}x {faster:>5} faster"
    print(f"{width:6d} {np.dtype(dtype).name:8s} {times} {peer:>9}   {ratios}")


if __name__ == "__main__":
    print(f"relu, depth {DEPTH}, N = {INPUTS}; seconds of CPU")
    print(" width dtype    layerwise  products  Jacobian  neural-tangents")
    for width in (512, 2048) if "--full" in sys.argv else (512,):
        for dtype in (np.float32, np.float64):
            compare(width, dtype)
