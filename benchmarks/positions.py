"""Gram matrices of images: compiled, by neural-tangents, and by a bare loop.  CPU time of all threads, divided by two.

    python benchmarks/positions.py [--tiny] [--peer PYTHON] [--rounds N]

3×3 convolutions, relu, depth 3, biases, NNGP and NTK of all pairs, double precision; global pooling and flatten.
Sides take turns in one run.  The bare loop is what is written down for this one network: roots, angles and running
sums of the entries that it needs, pair by pair.  Then how time grows with positions and with depth, other
nonlinearities, and the digits of scikit-learn where it is installed.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from math import log, pi
from pathlib import Path
from typing import Any

import numba
import numpy as np
from peers import Peer, find_peer

import tensorprog as tp
from tensorprog.compile.machine import _asin, _rsqrt, _wide

THREADS, SIGMA_W, SIGMA_B = 2, 2**0.5, 0.2
CASES = (("global", 8, 96), ("global", 16, 24), ("global", 32, 8), ("flatten", 8, 400), ("flatten", 16, 300),
         ("flatten", 32, 200))  # fmt: skip
TINY = (("global", 4, 9), ("flatten", 4, 9))
TARGETS = {("global", 16): 10, ("global", 32): 10, ("flatten", 8): 5, ("flatten", 16): 5, ("flatten", 32): 5}
PEER = """
import sys, time, numpy as np, jax
jax.config.update("jax_enable_x64", True)
from neural_tangents import stax
path, pool, b, w = sys.argv[1], sys.argv[2], float(sys.argv[3]), float(sys.argv[4])
X = np.load(path)
layers = [l for _ in range(3) for l in (stax.Conv(1, (3, 3), padding="SAME", W_std=w, b_std=b), stax.Relu())]
last = [stax.GlobalAvgPool() if pool == "global" else stax.Flatten(), stax.Dense(1, W_std=1.0)]
kernel = jax.jit(lambda x: stax.serial(*layers, *last)[2](x, None, ("nngp", "ntk")))
result = jax.block_until_ready(kernel(X))
np.save(path, np.stack([result.nngp, result.ntk]))
del result
print("ready", flush=True)
for line in sys.stdin:
    start = time.process_time(); jax.block_until_ready(kernel(X)); print(time.process_time() - start, flush=True)
"""
NUMBA: dict[str, Any] = {"nogil": True, "error_model": "numpy", "fastmath": {"contract"}, "cache": True}


@tp.network
def cnn(net, x, *, depth=3, phi=tp.relu, pool="global", sigma_w=SIGMA_W, sigma_b=SIGMA_B):  # type: ignore[no-untyped-def]
    """3×3 convolutions with biases; the mean of all positions is read, or each by weights of its own."""
    h = net.conv("W1", x, std=sigma_w) + net.bias("b1", std=sigma_b)
    for k in range(2, depth + 1):
        h = net.conv(f"W{k}", phi(h), std=sigma_w) + net.bias(f"b{k}", std=sigma_b)
    return net.readout("v", net.global_pool(phi(h))) if pool == "global" else net.flatten("v", phi(h))


def kernels(**how: Any) -> list[Any]:
    net = cnn(**how)
    return [tp.nngp(net), tp.ntk(net)]


class ImagePeer(Peer):
    """neural-tangents, compiled and waiting, and what it found."""

    def __init__(self, python: str, X: np.ndarray, pool: str) -> None:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "X.npy"
            np.save(path, X)
            arguments = [str(path), pool, str(SIGMA_B), str(SIGMA_W)]
            super().__init__(python, PEER, arguments, {"OMP_NUM_THREADS": str(THREADS)})
            self.found = np.load(path)


# ---- the bare loop -----------------------------------------------------------------------------------------


@numba.njit(**NUMBA)
def _window(a: Any, h: int, w: int, space: Any, out: Any, scale: float, shift: float) -> None:
    """out = scale Σ of 3×3 neighbours of a + shift, rows and then columns, 0 beyond the border."""
    _wide()
    for i in range(h):
        row, into, up, down = a[i, :w], space[i, :w], a[max(i - 1, 0), :w], a[min(i + 1, h - 1), :w]
        if 0 < i < h - 1:
            for j in range(w):
                into[j] = up[j] + row[j] + down[j]
        elif h == 1:
            into[:] = row
        else:
            other = down if i == 0 else up
            for j in range(w):
                into[j] = row[j] + other[j]
    for i in range(h):
        row, into = space[i, :w], out[i, :w]
        left, here, right = row[: w - 2], row[1 : w - 1], row[2:]
        middle = into[1 : w - 1]
        for j in range(w - 2):
            middle[j] = scale * (left[j] + here[j] + right[j]) + shift
        if w == 1:
            into[0] = scale * row[0] + shift
        else:
            into[0] = scale * (row[0] + row[1]) + shift
            into[w - 1] = scale * (row[w - 2] + row[w - 1]) + shift


@numba.njit(**NUMBA)
def _angles(c: Any, root: Any, other: Any, over: Any, under: Any, V: Any, D: Any) -> None:
    """V of relu and of its derivative along a row."""
    _wide()
    for j in range(len(c)):
        rho = c[j] * over[j] * under[j]
        size = min(abs(rho), 1.0)
        z = 0.5 * (1.0 - size) if size > 0.5 else size * size
        half = _asin(np.sqrt(z), z)
        bent = 2.0 * half if size > 0.5 else pi / 2 - half
        theta = pi - bent if rho < 0.0 else bent
        square = (1.0 - size) * (1.0 + size)
        V[j] = root[j] * other[j] * (square * _rsqrt(square) + (pi - theta) * rho) / (2 * pi)
        D[j] = (pi - theta) / (2 * pi)


@numba.njit(**NUMBA)
def _pair(x: Any, y: Any, rx: Any, ry: Any, ox: Any, oy: Any, same: bool, work: Any) -> tuple[float, float]:
    """NNGP and NTK of one pair: images (C, H, W), roots of variances and their reciprocals (depth, H, W)."""
    _wide()
    depth, H, W = rx.shape
    c, V, D, space, P = work[:depth], work[depth : 2 * depth], work[2 * depth : 3 * depth], work[-2], work[-1]
    nngp = ntk = 0.0
    weight = 1.0 / (H * W) if same else 1.0 / (H * W) ** 2
    for dy in range(0 if same else 1 - H, 1 if same else H):
        for dx in range(0 if same else 1 - W, 1 if same else W):
            py, px, h, w = max(0, -dy), max(0, -dx), H - abs(dy), W - abs(dx)
            qy, qx = py + dy, px + dx
            for i in range(h):
                into = V[depth - 1, i, :w]
                into[:] = 0.0
                for k in range(len(x)):
                    a, b = x[k, py + i, px : px + w], y[k, qy + i, qx : qx + w]
                    for j in range(w):
                        into[j] += a[j] * b[j]
            _window(V[depth - 1], h, w, space, c[0], SIGMA_W**2 / 9 / len(x), SIGMA_B**2)
            for k in range(depth):
                if k:
                    _window(V[k - 1], h, w, space, c[k], SIGMA_W**2 / 9, SIGMA_B**2)
                for i in range(h):
                    p, q = slice(px, px + w), slice(qx, qx + w)
                    _angles(c[k, i, :w], rx[k, py + i, p], ry[k, qy + i, q], ox[k, py + i, p], oy[k, qy + i, q],
                            V[k, i, :w], D[k, i, :w])  # fmt: skip
            for k in range(depth - 1, -1, -1):
                if k < depth - 1:
                    _window(P, h, w, space, P, SIGMA_W**2 / 9, 0.0)
                for i in range(h):
                    pi_, slope, cov, value = P[i, :w], D[k, i, :w], c[k, i, :w], V[k, i, :w]
                    part, total = 0.0, 0.0
                    for j in range(w):
                        pi_[j] = slope[j] * (weight if k == depth - 1 else pi_[j])
                        part += pi_[j] * cov[j]
                    if k == depth - 1:
                        for j in range(w):
                            total += value[j]
                    nngp, ntk = nngp + weight * total, ntk + part + weight * total
    return nngp, ntk


@numba.njit(**NUMBA)
def _bare(X: Any, roots: Any, over: Any, same: bool, work: Any, out: Any) -> None:
    for i in range(len(X)):
        for j in range(i + 1):
            out[0, i, j], out[1, i, j] = _pair(X[i], X[j], roots[i], roots[j], over[i], over[j], same, work)


def bare(X: np.ndarray, pool: str) -> np.ndarray:
    """NNGP and NTK of pairs on and below the diagonal."""
    count, H, W, channels = X.shape
    q = np.zeros((3, count, H, W))
    value = np.einsum("nhwc,nhwc->nhw", X, X) / channels
    for k in range(3):
        padded = np.pad(value, ((0, 0), (1, 1), (1, 1)))
        q[k] = SIGMA_W**2 / 9 * sum(padded[:, i : i + H, j : j + W] for i in range(3) for j in range(3)) + SIGMA_B**2
        value = q[k] / 2
    roots = np.ascontiguousarray(np.sqrt(q).swapaxes(0, 1))
    out = np.zeros((2, count, count))
    _bare(np.ascontiguousarray(np.moveaxis(X, -1, 1)), roots, 1 / roots, pool == "flatten", np.zeros((11, H, W)), out)
    return out


# ---- rows --------------------------------------------------------------------------------------------------


def cpu(call: Callable[[], Any]) -> float:
    """Seconds of CPU of one call, of all threads."""
    start = time.process_time()
    call()
    return time.process_time() - start


def row(pool: str, size: int, count: int, python: str | None, rounds: int) -> None:
    """All sides of one case: milliseconds of two threads per ordered pair."""
    X, of = np.random.default_rng(0).normal(size=(count, size, size, 3)), kernels(pool=pool)
    found = np.stack(tp.gram(of, X))
    peer = ImagePeer(python, X, pool) if python else None
    sides = {"compiled": lambda: cpu(lambda: tp.gram(of, X)), "bare loop": lambda: cpu(lambda: bare(X, pool))}
    errors = {"bare loop": bare(X, pool)}
    if peer:
        sides["neural-tangents"], errors["neural-tangents"] = peer.seconds, peer.found
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, side in sides.items():
            seconds[name].append(side() / THREADS / count**2 * 1e3)
    ours = statistics.median(seconds["compiled"])
    text = f"{pool:8}{size}×{size}, {count} images: {ours:.3g} ms"
    for name, found_there in errors.items():
        apart = np.abs(np.tril(found_there) - np.tril(found)).max() / np.abs(found).max()
        times = [a / b for a, b in zip(seconds[name], seconds["compiled"], strict=True)]
        text += f"; {name} {statistics.median(times):.2f} ({min(times):.2f}–{max(times):.2f}) times, apart {apart:.0e}"
    if peer:
        peer.close()
        text += f" (wanted {TARGETS[pool, size]})" if (pool, size) in TARGETS else ""
    print(text, flush=True)


def growth(rounds: int, sizes: tuple[int, int], depths: tuple[int, int]) -> None:
    """Exponents: of the time against positions, wanted 2 of global pooling and 1 of flatten, and against depth."""

    def median(count: int, size: int, **how: Any) -> float:
        X, of = np.random.default_rng(0).normal(size=(count, size, size, 1)), kernels(**how)
        tp.gram(of, X)
        return statistics.median(cpu(lambda: tp.gram(of, X)) for _ in range(rounds))

    small, large = sizes
    for pool, count in (("global", 8), ("flatten", 128)):
        first, second = (median(count, n, pool=pool) for n in sizes)
        print(f"{pool}: time ~ positions^{log(second / first) / (2 * log(large / small)):.2f}", flush=True)
    first, second = (median(8, small, depth=n) for n in depths)
    exponent = log(second / first) / log(depths[1] / depths[0])
    print(f"time ~ depth^{exponent:.2f} from {depths[0]} to {depths[1]}", flush=True)


def others(size: int, count: int) -> None:
    """Other nonlinearities at one size."""
    X = np.random.default_rng(0).normal(size=(count, size, size, 3))
    for phi in ("relu", "erf", "gelu", "tanh"):
        of = kernels(phi=tp.NONLINEARITIES[phi])
        tp.gram(of, X)
        taken = cpu(lambda of=of: tp.gram(of, X)) / THREADS / count**2 * 1e3  # type: ignore[misc]
        print(f"{phi}, global, {size}×{size}: {taken:.3g} ms", flush=True)


def digits(count: int) -> None:
    """The digits of scikit-learn, of which all are 1797."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        print("no scikit-learn: without the digits")
        return
    X, of = load_digits().data[:count].reshape(-1, 8, 8, 1) / 16, kernels()
    tp.gram(of, X[:9])
    start, taken = time.perf_counter(), cpu(lambda: tp.gram(of, X))
    whole = (1797 / len(X)) ** 2 * taken / THREADS
    seconds = time.perf_counter() - start
    print(f"{len(X)} digits: {seconds:.1f} s, {taken / THREADS:.1f} of CPU a thread; all: {whole:.0f}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tiny", action="store_true", help="sizes that take seconds")
    parser.add_argument("--peer", help="an interpreter with neural-tangents")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--all-digits", action="store_true", help="all 1797 digits, about two minutes")
    given = parser.parse_args()
    numba.set_num_threads(THREADS)
    python, rounds = find_peer(given.peer), 1 if given.tiny else given.rounds
    for pool, size, count in TINY if given.tiny else CASES:
        row(pool, size, count, python, rounds)
    growth(rounds, (4, 8) if given.tiny else (16, 32), (2, 4) if given.tiny else (4, 16))
    others(4 if given.tiny else 16, 9)
    digits(1797 if given.all_digits else 16 if given.tiny else 256)


if __name__ == "__main__":
    main()
