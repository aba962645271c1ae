"""What Gram matrices are compared with: plain NumPy, neural-tangents in a process of its own, and a bare loop."""

from __future__ import annotations

import json
import tempfile
from concurrent.futures import ThreadPoolExecutor
from math import pi
from pathlib import Path
from typing import Any

import numba
import numpy as np
from peers import Peer
from scipy.linalg.blas import get_blas_funcs

from tensorprog.compile.blas import one_thread
from tensorprog.compile.machine import _asin, _rsqrt, _wide

THREADS, TILE = 2, 128
PEER = """
import json, sys, time, numpy as np, jax
path, depth, phi, dtype = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
jax.config.update("jax_enable_x64", dtype == "float64")
import jax.numpy as jnp
from neural_tangents import stax
X = np.load(path)
tanh = lambda: stax.ElementwiseNumerical(jnp.tanh, deg=25)
Phi = {"relu": stax.Relu, "erf": stax.Erf, "tanh": tanh}[phi]
layers = [l for _ in range(depth) for l in (stax.Dense(1, W_std=2**0.5), Phi())] + [stax.Dense(1)]
kernel = jax.jit(lambda x: stax.serial(*layers)[2](x, None, ("nngp", "ntk")))
result = jax.block_until_ready(kernel(X))
if phi == "tanh":
    np.save(path, np.stack([result.nngp, result.ntk]))
del result
print("ready", flush=True)
for line in sys.stdin:
    start = time.perf_counter(); jax.block_until_ready(kernel(X)); print(time.perf_counter() - start, flush=True)
"""


class GramPeer(Peer):
    """neural-tangents, compiled and waiting: ``seconds()`` of one more call."""

    def __init__(self, python: str, X: np.ndarray, depth: int, phi: str) -> None:
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "X.npy"
        np.save(self.path, X)
        settings = {"OMP_NUM_THREADS": str(THREADS)}
        super().__init__(python, PEER, [str(self.path), str(depth), phi, str(X.dtype)], settings)

    def close(self) -> None:
        super().close()
        self.folder.cleanup()


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


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)
def _bare_relu(C: Any, Z: Any, depth: int, first: int, step: int) -> None:
    _wide()
    angle, slope = np.empty(TILE), np.empty(TILE)
    for i in range(first, len(C), step):
        for left in range(0, i, TILE):
            w = min(TILE, i - left)
            for j in range(w):
                angle[j] = C[i, left + j]
                slope[j] = angle[j]
            for _ in range(depth):
                for j in range(w):
                    rho = angle[j]
                    size = abs(rho)
                    z = 0.5 * (1.0 - size) if size > 0.5 else size * size
                    half = _asin(np.sqrt(z), z)
                    bent = 2.0 * half if size > 0.5 else pi / 2 - half
                    theta = pi - bent if rho < 0.0 else bent
                    square = (1.0 - size) * (1.0 + size)
                    angle[j] = (square * _rsqrt(square) + (pi - theta) * rho) / pi
                    slope[j] = angle[j] + slope[j] * (pi - theta) / pi
            for j in range(w):
                C[i, left + j] = angle[j]
                Z[i, left + j] = slope[j]


@numba.njit(nogil=True, error_model="numpy", fastmath={"contract"}, cache=True)
def _bare_erf(C: Any, Z: Any, depth: int, first: int, step: int) -> None:
    _wide()
    angle, slope = np.empty(TILE), np.empty(TILE)
    for i in range(first, len(C), step):
        for left in range(0, i, TILE):
            w = min(TILE, i - left)
            for j in range(w):
                angle[j] = C[i, left + j]
                slope[j] = angle[j]
            for _ in range(depth):
                for j in range(w):
                    rho = 0.8 * angle[j]
                    size = abs(rho)
                    z = 0.5 * (1.0 - size) if size > 0.5 else size * size
                    half = _asin(np.sqrt(z), z)
                    bent = pi / 2 - 2.0 * half if size > 0.5 else half
                    angle[j] = (2 / pi) * (bent if rho > 0.0 else -bent)
                    slope[j] = angle[j] + slope[j] * _rsqrt((1.0 - size) * (1.0 + size))
            for j in range(w):
                C[i, left + j] = angle[j]
                Z[i, left + j] = slope[j]


BARE = {"relu": _bare_relu, "erf": _bare_erf}


def floor(X: np.ndarray, depth: int, phi: str, space: np.ndarray) -> None:
    """What no program avoids: a symmetric product of the inputs, and per pair and layer an inverse sine and roots.

    Written for this network alone, without its variances; each pair once, NNGP and NTK written below the diagonals of
    ``space`` (2, N, N).
    """
    unit = X / np.linalg.norm(X, axis=1)[:, None]
    get_blas_funcs("syrk", (unit,))(1.0, unit.T, c=space[0].T, trans=1, lower=0, overwrite_c=1)
    with one_thread, ThreadPoolExecutor(THREADS) as pool:
        list(pool.map(lambda first: BARE[phi](*space, depth, first, THREADS), range(THREADS)))


def saved(path: Path, rows: dict[str, Any]) -> None:
    """Results by name, beside those of earlier runs."""
    path.parent.mkdir(exist_ok=True)
    old = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps({**old, **rows}, indent=1))
