"""The empirical NTK against width: how fast it comes to its limit (Alemohammad et al. 2021, Figure 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.derivation.data import read_inputs
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError
from tensorprog.errors import folder as folder_of
from tensorprog.finite.estimate import Exponent, exponent, vanish
from tensorprog.finite.layerwise import Layerwise
from tensorprog.finite.runs import stream
from tensorprog.given import count
from tensorprog.kernels.methods import ntk
from tensorprog.progress import Progress, telling
from tensorprog.sgd.hypotheses import derivatives_of, refuse_unmet
from tensorprog.sgd.training import check_widths
from tensorprog.studies.settings import at_points, fingerprint, random_inputs, said
from tensorprog.studies.study import Study, measured
from tensorprog.types import Data
from tensorprog.verify import SLACK, Claim

EQUAL = 1e-12
WORDS = (
    "Distances are root mean squares over entries and networks, relative to the largest entry of the limit. The "
    "source finds "
    "lines of slope −1/2 with and without tied weights, and one limit for both."
)


@dataclass(frozen=True)
class Gram:
    """One network: Θ of all inputs, (N, N)."""

    theta: np.ndarray


def convergence(net: Network, X: Data | None = None, *, grid: Mapping[str, Sequence[Any]] | None = None,
                widths: Sequence[int] = (64, 128, 256, 512), seeds: int = 16, seed: int = 0,
                out: str | Path | None = None, progress: Progress = None) -> Study:  # fmt: skip
    """The distance of the empirical NTK from its limit against width, with the fitted exponent.

    Args:
        net: an architecture.
        X: inputs; three random ones, of ``seed``, when None.
        grid: values of one hyperparameter, a curve for each; when None both values of ``tied`` where the network has
            it, else the network as it is.
        widths, seeds: which networks.
        seed: of random inputs.
        out: a folder for the runs; an interrupted study resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: error and stderr (curves, widths), slope, low and high (curves,) with a 95 % interval, the
        limits; claims that the slope is −1/2, and of ``tied`` that both limits are equal (Theorem 3) for inputs of one
        length.

    Raises:
        DataError, ProgramError, AssumptionError: settings that cannot be used, functions that jump.
    """
    check_network(net)
    sizes, seeds = check_widths(widths), count(seeds, "seeds", 2)
    if len({*sizes}) < 2:
        raise DataError(f"an exponent needs two or more widths, got {list(sizes)}")
    if grid is None and isinstance(net.hyperparameters.get("tied"), bool):
        grid = {"tied": [True, False]}
    points = list(at_points(net, grid, 1))
    inputs = read_inputs(random_inputs(net, 3, seed) if X is None else X, "X", net.form)
    folder = None if out is None else folder_of(out)
    limits, fits, claims = [], [], []
    with telling(progress) as tell:
        for k, (point, here) in enumerate(points):
            refuse_unmet(derivatives_of(here, inputs.groups), "the NTK at finite width")
            limits.append(ntk(here)(random_inputs(net, 3, seed) if X is None else X))
            kernel = Layerwise(here, inputs, None, {})

            def run(width: int, some: list[int], kernel: Layerwise = kernel) -> list[Gram]:
                return [Gram(t) for t in kernel(kernel.draw(width, some), kernel.states(width, some))]

            path = None if folder is None else folder / f"convergence-{k}.jsonl"
            header = {"network": repr(here), "data": fingerprint(inputs)}
            records = stream(
                run, Gram, {"theta": limits[-1].shape}, _numbers(kernel), list(sizes), seeds, header, path, tell
            )
            gaps = [np.stack([records[w, s].theta for s in range(seeds)]) - limits[-1] for w in sizes]
            scale = float(np.abs(limits[-1]).max())
            fits.append(exponent(list(sizes), [g / scale for g in gaps]))
            claims.append(_claim(point, fits[-1], gaps, scale))
    names = [said(point) or "the network as it is" for point, _ in points]
    claims += _tied(grid, limits, inputs.groups)
    numbers = {"curves": names, "widths": sizes, "error": np.stack([f.errors for f in fits]),
               "stderr": np.stack([f.stderrs for f in fits]), "slope": [f.slope for f in fits],
               "low": [f.low for f in fits], "high": [f.high for f in fits], "limit": np.stack(limits)}  # fmt: skip
    rows = [[name, *(measured(*pair) for pair in f.sizes), str(f)] for name, f in zip(names, fits, strict=True)]
    title = f"convergence of the empirical NTK of {net!r}, {seeds} networks each"
    return Study(
        "convergence", title, numbers, claims, [WORDS], ["curve", *(f"n = {w}" for w in sizes), "exponent"], rows
    )


def _numbers(kernel: Layerwise) -> Any:
    def of(width: int) -> int:
        return sum(int(np.prod(s)) for s in kernel.shapes(width).values()) + kernel.volume * kernel.inputs * width

    return of


def _claim(point: Mapping[str, Any], fit: Exponent, gaps: list[np.ndarray], scale: float) -> Claim:
    name = "|Θ_n − Θ| ~ n^(−0.5)" + (f" with {said(point)}" if point else "")
    if vanish(gaps, scale):
        return Claim(name, None, "networks of every width have the limit itself, up to rounding")
    return Claim(name, fit.verdict(-0.5, SLACK), fit.words(-0.5, SLACK))


def _tied(grid: Any, limits: list[np.ndarray], lengths: Any) -> list[Claim]:
    if not grid or "tied" not in grid or len(limits) != 2:
        return []
    name = "one limit for tied and untied weights (Theorem 3)"
    if len(lengths) > 1:
        return [Claim(name, None, "told of sequences of one length; for others untied weights share nothing")]
    gap = float(np.abs(limits[0] - limits[1]).max() / np.abs(limits[0]).max())
    return [Claim(name, gap <= EQUAL, f"largest relative difference {gap:.1e} (tolerance {EQUAL:.0e})")]
