"""Kernel statistics at initialisation, E Θ²/(E Θ)² (Seleznova & Kutyniok 2021, Figures 1, 2 and 7)."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.derivation.data import Inputs, read_inputs
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError, ProgramError, TensorProgramError, shortly
from tensorprog.errors import folder as folder_of
from tensorprog.finite.layerwise import Layerwise
from tensorprog.finite.runs import stream
from tensorprog.given import count, number
from tensorprog.programs import mlp
from tensorprog.progress import Progress, Tell, telling
from tensorprog.sgd.hypotheses import derivatives_of, refuse_unmet
from tensorprog.sgd.training import check_widths
from tensorprog.studies.exact_relu import relu_ratio
from tensorprog.studies.layer_map import LayerMap
from tensorprog.studies.mean_field import mean_field
from tensorprog.studies.settings import fingerprint, read_grid
from tensorprog.studies.study import Study, measured
from tensorprog.types import Data
from tensorprog.verify import Claim

ERRORS = 4.0  # standard errors that a mean may be off
TAILS = 0.1  # relative standard error of a ratio, by the exact law, up to which its estimate is near to normal
WORDS = (
    "E Θ²/(E Θ)² is 1 where the kernel is deterministic. The source finds it near 1 at any depth in the ordered "
    "phase, and "
    "growing exponentially with depth/width in the chaotic one."
)


@dataclass(frozen=True)
class Diagonal:
    """One network: Θ(x,x) of every input, (N,)."""

    theta: np.ndarray


def variance(net: Network, grid: Mapping[str, Sequence[Any]] | None = None, *, X: Data | None = None,
             widths: Sequence[int] = (32, 64, 128), seeds: int = 200, error: float | None = None, most: int = 20000,
             trained: str = "w", out: str | Path | None = None, progress: Progress = None) -> Study:  # fmt: skip
    """The spread of the kernel of finite networks as they start, E Θ(x,x)²/(E Θ(x,x))².

    Standard errors are those of the ratio of two means over the networks; the ratio has heavy tails in the chaotic
    phase,
    where few networks have most of E Θ², so that errors of few networks are too small: give ``error``.

    Args:
        net: an architecture.
        grid: values of up to two hyperparameters, such as ``{"sigma_w": [1, 2], "depth": [2, 8]}``; the network as
            it is when None.
        X: inputs, of which ratios are averaged; one with x·x = d when None.
        widths: of the networks.
        seeds: networks at each point.
        error: a standard error to reach by doubling the networks.
        most: networks to stop at then.
        trained: ``"w"``, all parameters are N(0, 1), as in the NTK parametrization, or ``"W"``, as in standard
            parametrization: gradients by W, which counts σ and widths otherwise.
        out: a folder for the runs; an interrupted study resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``numbers``: mean, ratio, stderr and networks, (grid.., widths), and where it is known ``exact``: of relu
        networks without biases, at every width.

    Raises:
        DataError, ProgramError: settings that cannot be used.
        AssumptionError: a function that jumps.

    Reference:
        Seleznova & Kutyniok 2021, Figures 1, 2 and 7; Hanin & Nica 2020.
    """
    check_network(net)
    given = read_grid(net, grid)
    sizes = check_widths(widths)
    seeds, most = count(seeds, "seeds", 2), count(most, "most", 2)
    bound = None if error is None else number(error, "error", 1e-6)
    if trained not in ("w", "W"):
        raise ProgramError(
            f"trained is 'w' (W = σ w, w is trained) or 'W' (W itself is trained), got {shortly(trained)}"
        )
    shape = tuple(len(v) for v in given.values())
    folder = None if out is None else folder_of(out)
    found = {
        k: np.zeros((*shape, len(sizes))) for k in ("mean", "ratio", "stderr", "networks", "exact", "exact_stderr")
    }
    chi = np.full(shape, np.nan)
    with telling(progress) as tell:
        for k, place in enumerate(np.ndindex(shape)):
            point = {n: v[i] for (n, v), i in zip(given.items(), place, strict=True)}
            here = Network(net.fn, {**net.hyperparameters, **point}, net.name)
            chi[place] = chi_of(here)
            sampled = Sampled(here, X, trained, folder, k)
            for j, n in enumerate(sizes):
                values = sampled.measure(n, seeds, bound, most, tell)
                found["mean"][*place, j], found["ratio"][*place, j], found["stderr"][*place, j] = ratio(values)
                found["networks"][*place, j] = len(values)
                exact = _exact(here, n, trained, sampled.inputs, len(values))
                found["exact"][*place, j], found["exact_stderr"][*place, j] = exact
    numbers = {"grid": given, "widths": sizes, **found, "chi": chi, "trained": trained}
    title = f"spread of the NTK at the start of {net!r}, {trained} trained, {seeds} networks each"
    claims = [_claim_exact(numbers), _claim_chaos(numbers, list(given)), _claim_error(numbers, bound)]
    return Study("variance", title, numbers, claims, [WORDS], *_table(numbers))


def ratio(theta: np.ndarray) -> tuple[float, float, float]:
    """The mean, E Θ²/(E Θ)² and its standard error, of (networks, N), averaged over N.

    >>> [round(x, 4) for x in ratio(np.array([[1.0], [3.0]]))]
    [2.0, 1.25, 0.25]
    """
    first, second = theta.mean(axis=0), (theta**2).mean(axis=0)
    pull = (theta**2 - second) / first**2 - 2 * second * (theta - first) / first**3
    spread = pull.mean(axis=1).std(ddof=1) / np.sqrt(len(theta))
    return float(first.mean()), float((second / first**2).mean()), float(spread)


class Sampled:
    """Θ(x,x) of networks of one architecture, kept on disk."""

    def __init__(self, net: Network, X: Data | None, trained: str, folder: Path | None, k: int) -> None:
        self.net, self.trained = net, trained
        self.inputs: Inputs = read_inputs(_unit(net) if X is None else X, "X", net.form)
        refuse_unmet(derivatives_of(net, self.inputs.groups), "the NTK at finite width")
        self.kernel = Layerwise(net, self.inputs, None, {})
        self.path = None if folder is None else folder / f"variance-{k}.jsonl"
        self.header = {"network": repr(net), "trained": trained, "data": fingerprint(self.inputs)}

    def measure(self, width: int, seeds: int, error: float | None, most: int, tell: Tell) -> np.ndarray:
        """(networks, N), as many as are asked for, or more until the ratio has its standard error."""
        shapes = {"theta": (len(self.inputs),)}
        while True:
            records = stream(self._run, Diagonal, shapes, self._numbers, [width], seeds, self.header, self._file(width),
                             tell)  # fmt: skip
            values = np.stack([records[width, s].theta for s in range(seeds)])
            if error is None or ratio(values)[2] <= error or 2 * seeds > most:
                return values
            seeds *= 2

    def _file(self, width: int) -> Path | None:
        return None if self.path is None else self.path.with_stem(f"{self.path.stem}-{width}")

    def _numbers(self, width: int) -> int:
        weights = sum(int(np.prod(s)) for s in self.kernel.shapes(width).values())
        return weights + self.kernel.volume * len(self.inputs) * width

    def _run(self, width: int, seeds: list[int]) -> list[Diagonal]:
        theta = self.kernel(
            self.kernel.draw(width, seeds), self.kernel.states(width, seeds), trained=self._rates(width)
        )
        return [Diagonal(np.diagonal(t).copy()) for t in theta]

    def _rates(self, width: int) -> dict[str, float] | None:
        """Factors of the squared gradients by W in the place of w, over n."""
        if self.trained == "w":
            return None
        program = next(iter(self.kernel.programs.values()))
        size = {"matrix": 1.0, "readout": 1.0, "embedding": self.inputs.dimension / width}
        return {name: size.get(kind, 1 / width) / program.std[name] ** 2 if program.std[name] else 0.0
                for name, kind in program.trace.trainable.items()}  # fmt: skip


def _unit(net: Network) -> Any:
    """One input with |x|²/d = 1, or a sequence of three such."""
    if net.form not in ("vectors", "sequences"):
        raise DataError(f"{net.name} takes neither vectors nor sequences: give inputs X")
    return [np.ones((3, 4))] if net.takes_sequences else np.ones((1, 4))


def chi_of(net: Network) -> float:
    """χ₁ where the network has one."""
    try:
        return float(mean_field(LayerMap(net), {"drive": 1.0}, correlation=False).chi)
    except TensorProgramError:
        return np.nan


def _exact(net: Network, width: int, trained: str, inputs: Inputs, networks: int) -> tuple[float, float]:
    """The exact ratio and the standard error of so many networks; nan where none is known."""
    h = net.hyperparameters
    numbers = [h.get(k) for k in ("sigma_w", "sigma_b", "sigma_v")]
    if net.fn is not mlp().fn or len(inputs) != 1 or str(h["phi"]) != "relu" or isinstance(h["sigma_w"], (list, tuple)):
        return np.nan, np.nan
    w, b, v = (float(x) for x in numbers)  # type: ignore[arg-type]
    if b != 0 or not np.isclose(np.mean(inputs[0] ** 2), 1):
        return np.nan, np.nan
    factors = (1.0, 1.0, 1.0) if trained == "w" else (inputs.dimension / width / w**2, w**-2, v**-2)
    return relu_ratio(networks, h["depth"], width, w, v, factors)


def _claim_exact(n: Mapping[str, Any]) -> Claim:
    name, known = "the ratio is the exact one of finite width", np.isfinite(n["exact"])
    if not known.any():
        return Claim(
            name, None, "known for relu networks of constant width without biases at one input with |x|²/d = 1"
        )
    told = known & (n["exact_stderr"] <= TAILS * n["exact"])
    if not told.any():
        return Claim(name, None, "tails are too heavy to tell with so few networks: give more seeds, or greater widths")
    z = np.abs(n["ratio"] - n["exact"])[told] / n["exact_stderr"][told]
    left = int(known.sum() - told.sum())
    detail = f"largest of {z.size} deviations {z.max():.2f} standard errors of the exact law (bound {ERRORS:g})"
    detail += f"; {left} have too heavy tails for so few networks" if left else ""
    return Claim(name, bool(z.max() <= ERRORS), detail)


def _claim_chaos(n: Mapping[str, Any], names: list[str]) -> Claim:
    """Between the least and the greatest depth, at every chaotic point."""
    name = "in chaos the spread grows with depth"
    if "depth" not in names or len(n["grid"]["depth"]) < 2:
        return Claim(name, None, "told of a grid of depths")
    axis, depths = names.index("depth"), n["grid"]["depth"]
    ends = [int(np.argmin(depths)), int(np.argmax(depths))]
    (low, high), (e0, e1) = (np.moveaxis(np.take(n[k], ends, axis), axis, 0) for k in ("ratio", "stderr"))
    chaos = np.moveaxis(np.take(n["chi"], ends[:1], axis), axis, 0)[0][..., None] > 1.02
    if not chaos.any():
        return Claim(name, None, "no point of the grid is chaotic")
    z = np.where(chaos, (high - low) / np.hypot(e0, e1), np.inf)
    said = f"E Θ²/(E Θ)² at depth {max(depths)} above that at {min(depths)}"
    detail = f"{said} by {z.min():.1f} standard errors or more (asked 2)"
    return Claim(name, bool(z.min() >= 2), detail)


def _claim_error(n: Mapping[str, Any], error: float | None) -> Claim:
    worst = float(np.max(n["stderr"]))
    if error is None:
        return Claim("the standard error is reached", None, f"none was asked for; the largest is {worst:.2g}")
    return Claim("the standard error is reached", worst <= error, f"largest {worst:.2g}, asked {error:g}")


def _table(n: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    rows = []
    for place in itertools.product(*(range(len(v)) for v in n["grid"].values())):
        at = [
            str(v[i]) if isinstance(v[i], int) else f"{float(v[i]):.4g}"
            for v, i in zip(n["grid"].values(), place, strict=True)
        ]
        for j, width in enumerate(n["widths"]):
            k = (*place, j)
            exact = measured(n["exact"][k], n["exact_stderr"][k]) if np.isfinite(n["exact"][k]) else "-"
            rows.append(
                [
                    *at,
                    str(width),
                    f"{n['chi'][place]:.3f}",
                    f"{n['mean'][k]:.4g}",
                    measured(n["ratio"][k], n["stderr"][k]),
                    exact,
                ]
            )
    return [*n["grid"], "width", "χ₁", "E Θ", "E Θ²/(E Θ)²", "exact ± its error"], rows
