"""The kernel's drift in training, ‖Θ_t − Θ_0‖/‖Θ_0‖ (Seleznova & Kutyniok 2021, Figures 3, 4 and 8 to 11)."""

from __future__ import annotations

import hashlib
import itertools
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.derivation.data import read_inputs
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError, shortly
from tensorprog.errors import folder as folder_of
from tensorprog.finite.estimate import Exponent, exponent, vanish
from tensorprog.finite.runs import stream
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.given import count, number
from tensorprog.kernels.methods import ntk
from tensorprog.passes.optimizer import SGD
from tensorprog.progress import Progress, Tell, telling
from tensorprog.sgd.training import check_widths
from tensorprog.studies.settings import at_points, fingerprint, random_inputs, read_grid, said
from tensorprog.studies.study import Study, measured
from tensorprog.studies.variances import chi_of
from tensorprog.train import drift_exponent
from tensorprog.types import Data
from tensorprog.verify import SLACK, Claim

SAMPLES = 8
WORDS = (
    "Full-batch gradient descent on the mean of (f − y)²/2; a run that explodes has no drift. The source finds "
    "small drift at any "
    "depth in the ordered phase, and drift that grows with depth in the chaotic one, less at greater widths."
)


@dataclass(frozen=True)
class Moved:
    """One run: the drift at the times looked at (P,), and the loss there (P,)."""

    drift: np.ndarray
    loss: np.ndarray


def drift(net: Network, X: Data | None = None, y: Data | None = None, *,
          grid: Mapping[str, Sequence[Any]] | None = None, times: Sequence[int] = (10, 100),
          lr: float | None = None, momentum: float = 0.0, widths: Sequence[int] = (64, 128, 256), seeds: int = 8,
          seed: int = 0, out: str | Path | None = None, progress: Progress = None) -> Study:  # fmt: skip
    """How far the kernel of finite networks moves in training, ‖Θ_t − Θ_0‖/‖Θ_0‖ (Frobenius).

    Args:
        net: an architecture.
        X, y: training inputs, (N, d) or sequences, and labels, (N,); random ones, of ``seed``, when None.
        grid: values of up to two hyperparameters, such as ``{"sigma_w": [1, 2], "depth": [2, 6]}``.
        times: steps after which the kernel is looked at.
        lr: learning rate; when None 1/λ, λ the largest eigenvalue of Θ/N in the limit at any point of the grid, so
            that no point diverges in the limit.
        momentum: of the descent.
        widths, seeds: which networks.
        seed: of random data.
        out: a folder for the runs; an interrupted study resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: drift and stderr (grid.., widths, times), loss, chi; exponents of the drift in the width,
        claimed to be −1 for smooth functions and −3/4 for those with kinks, or faster.

    Raises:
        DataError, ProgramError, AssumptionError: settings that cannot be used, functions that jump.
    """
    check_network(net)
    sizes, seeds = check_widths(widths), count(seeds, "seeds", 2)
    if not isinstance(times, (list, tuple)) or not times:
        raise DataError(f"times must be a list of steps, got {shortly(times)}")
    looked = sorted({count(t, "times") for t in times})
    given, points = read_grid(net, grid), list(at_points(net, grid))
    data = random_inputs(net, SAMPLES, seed) if X is None else X
    inputs = read_inputs(data, "X", net.form)
    labels = np.sign(np.random.default_rng([seed, 1]).standard_normal(len(inputs))) if y is None else y
    folder = None if out is None else folder_of(out)
    shape = tuple(len(v) for v in given.values())
    found: dict[str, list[Any]] = {"drift": [], "stderr": [], "loss": [], "chi": []}
    claims = []
    with telling(progress) as tell:
        eta = _rate([here for _, here in points], data, len(inputs)) if lr is None else number(lr, "lr", 0)
        for k, (point, here) in enumerate(points):
            path = None if folder is None else folder / f"drift-{k}.jsonl"
            run = FiniteTraining(here, inputs, labels, looked[-1], SGD(eta, momentum), len(inputs), probes=(0, *looked))
            runs = _runs(run, looked, list(sizes), seeds, path, tell)
            moved = np.stack([[r.drift for r in runs[w]] for w in sizes])
            found["drift"].append(np.sqrt(np.mean(moved**2, axis=1)))
            found["stderr"].append(np.stack([_error(m) for m in moved]))
            found["loss"].append(np.stack([[r.loss for r in runs[w]] for w in sizes]).mean(axis=1))
            found["chi"].append(chi_of(here))
            claims.append(_claim(point, run, list(sizes), moved[:, :, 0], looked[0]))
    numbers = {"grid": given, "widths": sizes, "times": looked, "lr": eta,
               **{k: np.reshape(np.stack(v), (*shape, *np.shape(v[0]))) for k, v in found.items()}}  # fmt: skip
    claims.append(_claim_chaos(numbers))
    title = f"drift of the NTK of {net!r} in training, lr = {eta:.3g}, {seeds} networks each"
    return Study("drift", title, numbers, claims, [WORDS], *_table(numbers))


def _rate(nets: list[Network], X: Any, samples: int) -> float:
    return float(min(samples / np.linalg.eigvalsh(ntk(net)(X))[-1] for net in nets))


def _runs(run: FiniteTraining, looked: list[int], widths: list[int], seeds: int, path: Path | None,
          tell: Tell) -> dict[int, list[Moved]]:  # fmt: skip
    def train(width: int, some: list[int]) -> list[Moved]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # that it diverges: the drift is nan, and is said to be
            trajectories = run.run(width, some)
        found = []
        for r in trajectories:
            moved = np.linalg.norm(r.ntk[1:] - r.ntk[0], axis=(1, 2)) / np.linalg.norm(r.ntk[0])
            found.append(Moved(moved, ((r.f[looked, : len(run.y)] - run.y) ** 2).mean(axis=(1, 2)) / 2))
        return found

    shapes = {"drift": (len(looked),), "loss": (len(looked),)}
    y = hashlib.sha256(run.y.tobytes()).hexdigest()[:16]
    header = {
        "network": repr(run.net),
        "data": fingerprint(run.inputs),
        "labels": y,
        "times": looked,
        "run": str(run.plan.optimizer),
    }
    records = stream(train, Moved, shapes, run.descent.numbers, widths, seeds, header, path, tell)
    return {w: [records[w, s] for s in range(seeds)] for w in widths}


def _error(moved: np.ndarray) -> np.ndarray:
    """The standard error of a root mean square over networks, (P,)."""
    square = moved**2
    size = np.sqrt(square.mean(axis=0))
    return square.std(axis=0, ddof=1) / np.sqrt(len(moved)) / (2 * np.where(size > 0, size, 1.0))  # type: ignore[no-any-return]


def _fit(widths: list[int], moved: np.ndarray) -> Exponent | None:
    good = np.isfinite(moved).all() and len({*widths}) > 1 and not vanish(list(moved))
    return exponent(widths, list(moved[..., None])) if good else None


def _claim(point: Mapping[str, Any], run: FiniteTraining, widths: list[int], moved: np.ndarray, t: int) -> Claim:
    """Of the drift after t steps, (widths, networks)."""
    expected = drift_exponent(run)
    name = f"drift at most ~ n^({max(-0.5, expected):g}) at t = {t}" + (f" with {said(point)}" if point else "")
    if not np.isfinite(moved).all():
        return Claim(name, False, "training diverges at some width; lower the learning rate")
    fit = _fit(widths, moved)
    if fit is None:
        return Claim(name, None, "it needs two widths or more, and a kernel that moves")
    bound = max(-0.5, expected)
    words = f"fitted exponent {fit}; {expected:g} as n grows"
    return Claim(name, True if fit.slope < bound else fit.verdict(bound, SLACK), words)


def _claim_chaos(n: Mapping[str, Any]) -> Claim:
    name, names = "in chaos the drift grows with depth", list(n["grid"])
    if "depth" not in names or len(n["grid"]["depth"]) < 2:
        return Claim(name, None, "told of a grid of depths")
    axis, depths = names.index("depth"), n["grid"]["depth"]
    ends = [int(np.argmin(depths)), int(np.argmax(depths))]
    (low, high), (e0, e1) = (np.moveaxis(np.take(n[k], ends, axis), axis, 0)[..., -1] for k in ("drift", "stderr"))
    chaos = np.moveaxis(np.take(n["chi"], ends[:1], axis), axis, 0)[0][..., None] > 1.02
    if not chaos.any():
        return Claim(name, None, "no point of the grid is chaotic")
    z = np.where(chaos, (high - low) / np.hypot(e0, e1), np.inf)
    detail = (
        f"drift at depth {max(depths)} above that at {min(depths)} by {np.min(z):.1f} standard errors or more (asked 2)"
    )
    return Claim(name, bool(np.min(z) >= 2), detail)


def _table(n: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for place in itertools.product(*(range(len(v)) for v in n["grid"].values())):
        at = [f"{float(v[i]):.4g}" for v, i in zip(n["grid"].values(), place, strict=True)]
        for j, width in enumerate(n["widths"]):
            cells = [measured(d, e) for d, e in zip(n["drift"][place][j], n["stderr"][place][j], strict=True)]
            rows.append([*at, str(width), f"{n['chi'][place]:.3f}", *cells, f"{n['loss'][place][j][-1]:.3g}"])
    return [*n["grid"], "width", "χ₁", *(f"drift, t = {t}" for t in n["times"]), "loss"], rows
