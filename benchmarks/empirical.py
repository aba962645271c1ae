"""Cost of the empirical NTK: the layerwise formula, its own matrix products, and contractions of Jacobians.

    python benchmarks/empirical.py [--full] [--peer PYTHON]

Run with ``make bench``; ``--full`` adds width 2048.  The Jacobians are those of torch, on equal parameters, and of
neural-tangents, compiled, on a network of the same shape (``make bench-peers``): its default, and what it recommends
for inputs that do not interact, with plain and with structured derivatives.  Seconds of CPU, one thread on every side,
all sides in turn in one run; medians of 5 rounds with the range of the ratio over the rounds.  In a round every side is
called once without being timed, so that none pays for the caches the one before left, and then as often as takes 0.1 s,
of which the median counts.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from peers import Peer, find_peer

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.layerwise import Layerwise

INPUTS, DIMENSION, DEPTH = 64, 16, 3
ROUNDS, LEAST = 5, 0.1  # seconds that a round of one side takes at least
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
ONE_XLA = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false"}
WAYS = {
    "neural-tangents": ("JACOBIAN_CONTRACTION", "None"),
    "neural-tangents vmapped": ("JACOBIAN_CONTRACTION", "0"),
    "neural-tangents vmapped structured": ("STRUCTURED_DERIVATIVES", "0"),
}  # its default, and what it recommends
SCRIPT = """
import sys, time, numpy as np, jax, neural_tangents as nt
from neural_tangents import stax
inputs, dimension, depth, width, dtype, way, axes = *map(int, sys.argv[1:5]), *sys.argv[5:8]
axes = None if axes == "None" else int(axes)
jax.config.update("jax_enable_x64", dtype == "float64")
layers = [l for _ in range(depth) for l in (stax.Dense(width, W_std=2**0.5), stax.Relu())] + [stax.Dense(1)]
init, apply, _ = stax.serial(*layers)
x = jax.numpy.asarray(np.random.default_rng(1).normal(size=(inputs, dimension)), dtype)
_, parameters = init(jax.random.PRNGKey(0), x.shape)
ntk_fn = nt.empirical_ntk_fn(apply, vmap_axes=axes, implementation=nt.NtkImplementation[way])
kernel = jax.jit(lambda x, p: ntk_fn(x, None, p))
jax.block_until_ready(kernel(x, parameters))
print("ready", flush=True)
for line in sys.stdin:
    start = time.process_time(); jax.block_until_ready(kernel(x, parameters))
    print(time.process_time() - start, flush=True)
"""


def timed(call: Callable[[], Any]) -> float:
    """Seconds of CPU of a call: the median of many, after one that does not count."""
    call()
    seconds: list[float] = []
    while sum(seconds) < LEAST:
        start = time.process_time()
        call()
        seconds.append(time.process_time() - start)
    return statistics.median(seconds)


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


def compare(width: int, dtype: Any, python: str | None) -> None:
    """One row of the table, after checking that both sides agree."""
    X = np.random.default_rng(1).normal(size=(INPUTS, DIMENSION))
    kernel = Layerwise(tp.programs.mlp(depth=DEPTH), read_inputs(X, "X", "vectors"), None, {})
    parameters = kernel.draw(width, [0], dtype)
    own, theirs = kernel(parameters, {})[0], jacobians(kernel, parameters)
    if np.abs(own - theirs()).max() > (1e-10 if dtype == np.float64 else 1e-4) * np.abs(own).max():
        raise SystemExit("the two empirical NTKs differ")
    calls = {"layerwise": lambda: kernel(parameters, {}), "products": products(kernel, parameters), "Jacobian": theirs}
    sides = {name: lambda call=call: timed(call) for name, call in calls.items()}
    peers = []
    for name, way in WAYS.items() if python else ():
        arguments = [*map(str, (INPUTS, DIMENSION, DEPTH, width)), np.dtype(dtype).name, *way]
        peers.append(Peer(python, SCRIPT, arguments, ONE_THREAD | ONE_XLA))
        sides[name] = peers[-1].seconds
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(ROUNDS):
        for name, side in sides.items():
            seconds[name].append(side())
    for peer in peers:
        peer.close()
    print(f"{width:6d} {np.dtype(dtype).name:8s}" + shown(seconds), flush=True)


def shown(seconds: dict[str, list[float]]) -> str:
    """Medians, and ratios to and of the layerwise formula round by round."""
    text = "".join(f"  {name} {statistics.median(s):.4f}" for name, s in seconds.items())
    for name, s in seconds.items():
        pairs = list(zip(seconds["layerwise"], s, strict=True))
        if name == "products":
            text += "; " + spread([a / b for a, b in pairs], 2) + " x its products"
        elif name != "layerwise":
            text += "; " + spread([b / a for a, b in pairs], 0) + f" x faster than {name}"
    return text


def spread(ratios: list[float], digits: int) -> str:
    """Median and range."""
    return f"{statistics.median(ratios):.{digits}f} ({min(ratios):.{digits}f} to {max(ratios):.{digits}f})"


def main() -> None:
    """Print a row for every width and precision as it comes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--peer")
    options = parser.parse_args()
    if any(os.environ.get(k) != v for k, v in ONE_THREAD.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], {**os.environ, **ONE_THREAD})
    python = find_peer(options.peer)
    print(f"relu, depth {DEPTH}, N = {INPUTS}; seconds of CPU")
    for width in (512, 2048) if options.full else (512,):
        for dtype in (np.float32, np.float64):
            compare(width, dtype, python)


if __name__ == "__main__":
    main()
