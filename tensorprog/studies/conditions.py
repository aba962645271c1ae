"""Conditioning of the kernel with depth, and the variance of trained networks (Seleznova & Kutyniok 2021)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError, ProgramError, shortly
from tensorprog.given import count, number
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.progress import Progress, telling
from tensorprog.recursions.sizes import DEPTHS, SMALL
from tensorprog.studies.settings import at_points, said
from tensorprog.studies.study import Study
from tensorprog.studies.variances import chi_of
from tensorprog.verify import Claim

EXACT = 1e-8
WORDS = (
    "κ₁ = Θ(x,x) and κ₂ = Θ(x,x'). The source finds κ₁/κ₂ → 1 in the ordered phase, an ill-conditioned kernel, and "
    "growing in the "
    "chaotic one and at its edge."
)


def conditioning(net: Network, *, grid: Mapping[str, Sequence[Any]] | None = None, depths: Sequence[int] = range(1, 21),
                 correlation: float = 0.5, samples: int = 10, trained: str = "w",
                 progress: Progress = None) -> Study:  # fmt: skip
    """κ₁/κ₂, the condition number of the NTK, and the variance of trained networks, against depth.

    Of inputs with x·x = d that all have the same correlation. The variance of f at t = ∞ over initialisations is,
    with
    q = K(x,x), q' = K(x,x') of the NNGP and S samples (Theorem 5.3),

        (1 + A²/S)(q − q') + (A − 1)² q',   A = S/(κ₁/κ₂ + S − 1),

    exact for such inputs, which is claimed against the linear algebra of S + 1 of them.

    Args:
        net: an architecture of vectors with a depth.
        grid: values of one hyperparameter, a curve for each.
        depths: of the networks.
        correlation: of any two inputs, in [0, 1).
        samples: S, of the training set.
        trained: ``"w"`` for the NTK parametrization, ``"W"`` for κ as the source has it: hidden weights and readout
            alone, by W.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: kappa1, kappa2, ratio, condition and variance, (curves, depths).

    Raises:
        DataError, ProgramError, FoldError: settings that cannot be used; a network without a depth.
    """
    check_network(net)
    points, samples = list(at_points(net, grid, 1)), count(samples, "samples")
    rho = number(correlation, "correlation", 0)
    if rho >= 1:
        raise DataError(f"correlation must be below 1, got {shortly(correlation)}")
    if trained not in ("w", "W"):
        raise ProgramError(
            f"trained is 'w' (W = σ w, w is trained) or 'W' (W itself is trained), got {shortly(trained)}"
        )
    if isinstance(depths, str) or not isinstance(depths, Sequence) or not len(depths):
        raise DataError(f"depths must be a list of integers, got {shortly(depths)}")
    layers = [count(L, "depths") for L in depths]
    if net.form != "vectors" or not any(type(net.hyperparameters.get(k)) is int for k in DEPTHS):
        raise DataError(f"{net.name} does not take vectors, or has no depth ({', '.join(DEPTHS)})")
    found: list[np.ndarray] = []
    gap, chi = 0.0, []
    with telling(progress) as tell:
        for k, (_, here) in enumerate(points):
            kernels = _kernels(here, layers, rho, trained)
            found.append(np.stack([_statistics(*kappa, samples) for kappa in kernels], axis=1))
            gap = max(gap, *(_off(*kappa, samples) for kappa in kernels))
            chi.append(chi_of(here))
            tell(k + 1, len(points), "kernels")
    names = [said(p) or "the network as it is" for p, _ in points]
    of = dict(zip(("kappa1", "kappa2", "ratio", "condition", "variance"), np.swapaxes(found, 0, 1), strict=True))
    numbers = {"curves": names, "depths": layers, "chi": np.array(chi), "samples": samples, "correlation": rho, **of}
    claim = Claim("Theorem 5.3 is the linear algebra of equally correlated inputs", gap <= EXACT,
                  f"largest relative difference {gap:.1e} (tolerance {EXACT:.0e})")  # fmt: skip
    rows = [
        [name, f"{x:.3f}", str(layers[-1]), *(f"{of[k][i][-1]:.6g}" for k in of)]
        for i, (name, x) in enumerate(zip(names, chi, strict=True))
    ]
    title = f"conditioning of the NTK of {net!r}, correlation {rho:g}, {samples} samples, {trained} trained"
    claims = [claim, _claim_phases(numbers)]
    return Study(
        "conditioning",
        title,
        numbers,
        claims,
        [WORDS],
        ["curve", "χ₁", "depth", "κ₁", "κ₂", "κ₁/κ₂", "condition", "variance"],
        rows,
    )


def _kernels(net: Network, depths: Sequence[int], rho: float, trained: str) -> list[tuple[float, float, float, float]]:
    """κ₁, κ₂, q, q' at every depth."""
    X = np.sqrt(2) * np.array([[1.0, 0.0], [rho, np.sqrt(1 - rho * rho)]])
    name = next(k for k in DEPTHS if type(net.hyperparameters.get(k)) is int)

    def at(L: int) -> list[Kernel]:
        here = Network(net.fn, {**net.hyperparameters, name: L}, net.name)
        return [ntk(here, **_options(here, trained)), nngp(here)]

    folded = [k.recursion() for k in at(SMALL + 1)] if max(depths) > SMALL else []
    found = []
    for L in depths:
        theta, K = (R(X, L=L) for R in folded) if L > SMALL else (k(X) for k in at(L))  # recursions start above
        found.append((theta[0, 0], theta[0, 1], K[0, 0], K[0, 1]))
    return found


def _options(net: Network, trained: str) -> dict[str, Any]:
    """What is trained, and how fast, for hidden weights and readout by W."""
    if trained == "w":
        return {}
    stds = {p.kind: p.std for p in net.trace([None]).parameters.values() if p.kind in ("matrix", "readout")}
    return {"trainable": list(stds), "rates": {kind: std**-2 for kind, std in stds.items()}}


def _statistics(k1: float, k2: float, q: float, cross: float, samples: int) -> tuple[float, float, float, float, float]:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.divide(k1, k2)
        condition = np.divide(k1 + (samples - 1) * k2, k1 - k2)
    a = samples / (ratio + samples - 1)
    variance = (1 + a * a / samples) * (q - cross) + (a - 1) ** 2 * cross
    return k1, k2, float(ratio), float(condition), float(variance)


def _off(k1: float, k2: float, q: float, cross: float, samples: int) -> float:
    """The relative difference of the variance from that of f(x) − Θ(x,X) Θ(X,X)⁻¹ f(X), by solving."""
    one = np.ones(samples)
    theta, K = (np.full((samples, samples), b) + (a - b) * np.eye(samples) for a, b in ((k1, k2), (q, cross)))
    if not k1 - k2 > 1e-9 * k1:
        return 0.0  # nothing to solve
    w = np.linalg.solve(theta, k2 * one)
    exact = q - 2 * cross * w.sum() + w @ K @ w
    return abs(_statistics(k1, k2, q, cross, samples)[4] - exact) / max(q, 1e-300)


def _claim_phases(n: Mapping[str, Any]) -> Claim:
    """From the middle of the depths on, κ₁/κ₂ falls in order and grows in chaos."""
    name = "κ₁/κ₂ falls with depth in order and grows in chaos"
    half = len(n["depths"]) // 2
    told, right = 0, 0
    for chi, ratio in zip(n["chi"], n["ratio"], strict=True):
        if len(ratio) > 2 and np.isfinite(chi) and abs(chi - 1) > 0.05:
            told += 1
            right += bool((ratio[-1] > ratio[half]) == (chi > 1))
    if not told:
        return Claim(name, None, "no curve is in order or chaos by more than 0.05")
    return Claim(name, right == told, f"{right} of {told} curves, from depth {n['depths'][half]} to {n['depths'][-1]}")
