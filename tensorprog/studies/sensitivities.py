"""Sensitivity of a kernel to each time step, by exact derivatives (Alemohammad et al. 2021, Figure 3)."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensorprog.derivation.data import read_inputs
from tensorprog.derivation.exact import at, grams_of, products, values
from tensorprog.derivation.route import is_sampled
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError, NoRuleError
from tensorprog.given import count
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import ntk
from tensorprog.learn.angles import DualGaps
from tensorprog.learn.derivatives import duals
from tensorprog.progress import Progress, telling
from tensorprog.studies.settings import at_points, said
from tensorprog.studies.study import Study, measured
from tensorprog.types import Data
from tensorprog.verify import Claim

H, DIFFERENCE = 1e-5, 1e-6
WORDS = (
    "s(t)/max s(t), means over pairs. The source finds a nearly constant sensitivity of relu at σ_w = √2, to last "
    "times below "
    "and to first times above it; of erf any change of σ_w leads to last times."
)


def sensitivity(net: Network, X: Data | None = None, X2: Data | None = None, *,
                grid: Mapping[str, Sequence[Any]] | None = None, length: int = 10, dimension: int = 1,
                pairs: int = 100, seed: int = 0, progress: Progress = None) -> Study:  # fmt: skip
    """How much the NTK of two sequences changes with the input at each time, s(t) = ‖∇_{x_t} Θ(x, x')‖.

    By the chain rule through the named equations, with ∂Θ/∂⟨x_s, x'_t⟩ and ∂Θ/∂⟨x_s, x_t⟩ exact.

    Args:
        net: an architecture that takes sequences, or vectors, which have one time.
        X, X2: pairs of inputs of one length, x of the first with x' of the second; random ones when None.
        grid: values of one hyperparameter, a curve for each.
        length, dimension, pairs: of the random ones, whose entries are N(0, 1).
        seed: of them.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: sensitivity and stderr (curves, T), means over pairs of s(t)/max s(t), and gradient (curves,
        pairs, T, d).

    Raises:
        DataError, ProgramError: settings that cannot be used.
        NoRuleError: a network whose kernel is sampled, or is over positions.
    """
    check_network(net)
    length, dimension, pairs = count(length, "length"), count(dimension, "dimension"), count(pairs, "pairs", 2)
    if net.form not in ("vectors", "sequences"):
        raise NoRuleError(f"{net.name} takes neither vectors nor sequences; its kernel has no times")
    points = list(at_points(net, grid, 1))
    a, b = _sides(net, X, X2, length, dimension, pairs, count(seed, "seed", 0))
    curves, errors, gradients, claims = [], [], [], []
    with telling(progress) as tell:
        for k, (point, here) in enumerate(points):
            kernel = ntk(here)
            gradient, value, ratio = gradient_by_inputs(kernel, a, b)
            size = np.linalg.norm(gradient, axis=-1)
            share = size / np.maximum(size.max(axis=1, keepdims=True), 1e-300)
            curves.append(share.mean(axis=0))
            errors.append(share.std(axis=0, ddof=1) / np.sqrt(len(share)))
            gradients.append(gradient)
            claims.append(_claim(kernel, point, a, b, gradient, value, ratio))
            tell(k + 1, len(points), said(point) or "derivatives")
    names = [said(point) or "the network as it is" for point, _ in points]
    numbers = {
        "curves": names,
        "sensitivity": np.stack(curves),
        "stderr": np.stack(errors),
        "gradient": np.stack(gradients),
    }
    rows = [
        [str(t + 1), *(measured(c[t], e[t]) for c, e in zip(curves, errors, strict=True))] for t in range(a.shape[1])
    ]
    title = f"sensitivity of the NTK of {net!r} to each of {a.shape[1]} times, {len(a)} pairs"
    return Study("sensitivity", title, numbers, claims, [WORDS], ["t", *names], rows)


def gradient_by_inputs(kernel: Kernel, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """∂K(a_p, b_p)/∂a_p (P, T, d) and K (P,), and how many times longer than K alone it took.

    Raises:
        NoRuleError: a kernel that is sampled.
    """
    lengths = (a.shape[1], b.shape[1]) if kernel.net.takes_sequences else (None, None)
    if is_sampled(kernel, read_inputs(a if lengths[0] else a[:, 0], "X", kernel.net.form), None, {}):
        raise NoRuleError(f"{kernel!r} is sampled and has no derivatives by its inputs")
    d = kernel._derive(lengths)
    start = time.process_time()
    values(d, (a, b), {})
    middle = time.process_time()
    grams, data = products(d, (a, b))
    mine = {s: pair for s, pair in grams_of(d).items() if any(p.owner == 0 for p in pair)}
    found = duals([d.poly], grams, list(mine), DualGaps(d.limit.structure, data))[0]
    gradient, sides = np.zeros(a.shape), (a, b)
    for pair, slope in zip(mine.values(), found.tangents, strict=True):
        for p, q in (pair, pair[::-1]):
            if p.owner == 0 and slope is not None:
                other = sides[q.owner][:, at(q)] / a.shape[-1]
                gradient[:, at(p)] += np.broadcast_to(slope, (len(a),))[:, None] * other
    ratio = (time.process_time() - middle) / max(middle - start, 1e-9)
    return gradient, np.broadcast_to(found.value, (len(a),)), ratio


def _sides(
    net: Network, X: Any, X2: Any, length: int, dimension: int, pairs: int, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs of every pair, (P, T, d)."""
    if (X is None) != (X2 is None):
        raise DataError("give both X and X2, the two inputs of every pair, or neither")
    if X is None:
        rng = np.random.default_rng(seed)
        return rng.standard_normal((pairs, length if net.takes_sequences else 1, dimension)), rng.standard_normal(
            (pairs, length if net.takes_sequences else 1, dimension)
        )
    sides = [read_inputs(x, name, net.form) for x, name in ((X, "X"), (X2, "X2"))]
    if any(len(s.groups) != 1 for s in sides) or len(sides[0]) != len(sides[1]) or len(sides[0]) < 2:
        raise DataError("X and X2 must hold as many inputs, two or more, those of each of one length")
    a, b = (next(iter(s.data.values())) for s in sides)
    if a.shape[-1] != b.shape[-1]:
        raise DataError(f"X and X2 must have the same dimension, got {a.shape[-1]} and {b.shape[-1]}")
    return a.astype(float), b.astype(float)


def _claim(kernel: Kernel, point: Mapping[str, Any], a: np.ndarray, b: np.ndarray, gradient: np.ndarray,
           value: np.ndarray, ratio: float) -> Claim:  # fmt: skip
    """Along a random direction the derivative is the difference of kernels."""
    name = "derivatives are those of differences" + (f" with {said(point)}" if point else "")
    direction = np.random.default_rng(0).standard_normal(a.shape)
    lengths = (a.shape[1], b.shape[1]) if kernel.net.takes_sequences else (None, None)
    up, down = (values(kernel._derive(lengths), (a + s * H * direction, b), {}) for s in (1, -1))
    gap = np.abs((up - down) / (2 * H) - (gradient * direction).sum(axis=(1, 2)))
    scale = np.abs(gradient * direction).sum(axis=(1, 2)) + np.abs(value)
    worst = float(np.quantile(gap / scale, 0.9))
    detail = f"nine of ten pairs within {worst:.1e} of the sum of terms (tolerance {DIFFERENCE:.0e})"
    detail += f"; {ratio:.1f} times the kernel's own time"
    return Claim(name, worst <= DIFFERENCE, detail)
