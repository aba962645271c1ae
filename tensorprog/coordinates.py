"""The coordinate check: how large features, outputs and their changes are, across widths and steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.derivation.data import read_inputs
from tensorprog.dsl.network import Network, check_network
from tensorprog.dsl.parameters import frozen_words
from tensorprog.errors import DataError, ProgramError, shortly
from tensorprog.finite.direct import DirectTraining
from tensorprog.finite.estimate import Exponent, exponent
from tensorprog.finite.sample import batches
from tensorprog.given import is_array
from tensorprog.passes.optimizer import SGD
from tensorprog.passes.parametrization import Parametrization, check_parametrization
from tensorprog.printing import Shown, to_html
from tensorprog.progress import Progress, Tell, telling
from tensorprog.report import verdicts
from tensorprog.sgd.feature_limit import features
from tensorprog.sgd.training import check_counts, check_widths
from tensorprog.types import Data, HyperValues, LossChoice

WIDTHS = (64, 128, 256, 512, 1024)


@dataclass(repr=False)
class CoordinateCheck(Shown):
    """Root mean squares over coordinates and inputs, by (parametrization, quantity).

    A quantity is ``"x W2"``, the features that the layer W2 reads, ``"Δx W2"``, their change since time 0, ``"f"``
    or ``"Δf"``.

    Attributes:
        title: the network and the optimizer.
        widths, steps: what was run.
        sizes, stderr: over seeds, (widths, steps + 1).
        samples: of every seed, (widths, seeds, steps + 1).
        notes: what a reader of the sizes should know, such as layers that are frozen.
    """

    title: str
    widths: list[int]
    steps: int
    sizes: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    stderr: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    samples: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    def exponent(self, parametrization: Parametrization | str, quantity: str, t: int | None = None) -> Exponent:
        """The fitted p of size ~ n^p at time t, the last when None, with a 95 % interval.

        Raises:
            DataError: an unknown parametrization, quantity or time, or the size is 0 or not finite at some width.
        """
        name = str(getattr(parametrization, "name", parametrization))
        fit = self._fit((name, quantity), t)
        if fit.missing is not None:
            raise DataError(f"{quantity} of {name} has no exponent: {fit.missing}")
        return fit

    def _fit(self, key: tuple[str, str], t: int | None = None) -> Exponent:
        if not isinstance(key[1], str) or key not in self.samples:
            raise DataError(f"no {key} in this check; it has {', '.join(map(str, self.samples))}")
        if t is not None and (isinstance(t, bool) or not isinstance(t, (int, np.integer)) or not 0 <= t <= self.steps):
            raise DataError(f"t must be a time between 0 and {self.steps}, got {shortly(t)}")
        rows = self.samples[key][:, :, self.steps if t is None else t]
        return exponent(self.widths, [r[:, None] for r in rows])

    def text(self) -> str:
        """Sizes at the smallest and largest width after the last step, and fitted exponents."""
        rows = [self.heading]
        for name, quantity, fit, *ends in self.rows():
            at = ", ".join(f"{end} at n = {self.widths[k]}" for k, end in zip((0, -1), ends, strict=True))
            rows.append(f"  {name:<24} {quantity:<8} p = {fit}   {at}")
        return "\n".join([*rows, *(f"  {note}" for note in self.notes)])

    @property
    def heading(self) -> str:
        """What was run, and what p is."""
        return f"{self.title}: sizes after {self.steps} steps ~ n^p, p with its 95 % interval"

    def rows(self) -> Iterator[tuple[str, str, str, str, str]]:
        """Parametrization, quantity, exponent, and the sizes at the smallest and the largest width."""
        for key, size in self.sizes.items():
            ends = [f"{size[k, -1]:.3g} ± {self.stderr[key][k, -1]:.1g}" for k in (0, -1)]
            yield key[0], key[1], str(self._fit(key)), ends[0], ends[1]

    def plot(self, path: str | Path) -> Path:
        """Draw the changes of all features and of f against width, one panel for each parametrization."""
        from tensorprog.report.plots import plot_coordinates

        plot_coordinates(self, path)
        return Path(path)


to_html.register(CoordinateCheck, verdicts.coordinates)


def coordinate_check(
    net: Network,
    X: Data,
    y: Data,
    parametrizations: Sequence[Parametrization],
    *,
    widths: Sequence[int] = WIDTHS,
    steps: int = 3,
    seeds: int = 8,
    optimizer: SGD | None = None,
    batch: int = 1,
    loss: LossChoice = "mse",
    values: HyperValues | None = None,
    progress: Progress = None,
) -> CoordinateCheck:
    """Train networks of several widths in several parametrizations and measure how much their coordinates move.

    Args:
        net: an architecture with one output.
        X: inputs, (N, d) or sequences.
        y: labels, (N,).
        parametrizations: stable or not.
        widths, seeds: which networks.
        steps: SGD steps; step t uses samples (t·batch + b) mod N.
        optimizer: plain SGD; its rate is multiplied by n^(−c); η = 1/2 when None.
        batch, loss, values, progress: as in ``train``.

    Returns:
        Sizes with standard errors, fitted exponents, ``.text()`` and ``.plot(path)``.

    Raises:
        DataError, ProgramError: bad data or settings.

    >>> import tensorprog as tp
    >>> check = coordinate_check(tp.programs.mlp(depth=1, phi=tp.tanh), [[1.0, 0.5]], [1.0], [tp.mup()],
    ...                          widths=(64, 256), steps=1)
    >>> abs(check.exponent(tp.mup(), "Δx V").slope) < 0.1
    True
    """
    check_network(net)
    check_counts(steps=steps, seeds=seeds)
    widths = check_widths(widths)
    if len(set(widths)) < 2 or seeds < 2:
        raise DataError(f"sizes are compared over two or more widths and seeds, got {list(widths)} and {seeds}")
    if not isinstance(parametrizations, Sequence) or not parametrizations:
        raise ProgramError(f"parametrizations must be a list such as [tp.mup()], got {shortly(parametrizations)}")
    for chosen in parametrizations:
        check_parametrization(chosen)
    inputs = read_inputs(X, "X", net.form)
    labels: Any = y
    if is_array(labels) and len(labels) != len(inputs):
        raise DataError(f"X has {len(inputs)} inputs and y {len(labels)} labels; they must agree")
    optimizer = SGD(0.5) if optimizer is None else optimizer
    check = CoordinateCheck(f"{net!r}, {optimizer!r}", sorted(set(widths)), steps)
    words = frozen_words(net.trace(inputs.lengths[:1]).parameters.items())
    if words is not None:
        check.notes.append(words)
    total = len(parametrizations) * len(check.widths) * seeds
    with telling(progress) as tell, np.errstate(over="ignore", invalid="ignore"):
        for k, chosen in enumerate(parametrizations):
            direct = DirectTraining(net, inputs, y, chosen, optimizer, batch, loss, values)
            _measure(check, chosen.name, direct, seeds, partial(_told, tell, k * len(check.widths) * seeds, total))
    return check


def _told(tell: Tell, before: int, total: int, done: int, what: str) -> None:
    tell(before + done, total, what)


def _measure(check: CoordinateCheck, name: str, direct: DirectTraining, seeds: int,
             tell: Callable[[int, str], None]) -> None:  # fmt: skip
    collected: dict[str, list[np.ndarray]] = {}
    for i, width in enumerate(check.widths):
        parts = []
        for batch in batches(direct.finite.numbers(width), width, 0, seeds, float):
            parts.append(_sizes(direct, width, batch, check.steps))
            tell(i * seeds + batch[-1] + 1, f"{name}, width {width}")
        for quantity in parts[0]:
            collected.setdefault(quantity, []).append(np.concatenate([p[quantity] for p in parts]))
    for quantity, rows in collected.items():
        samples = np.stack(rows)
        check.samples[name, quantity] = samples
        check.sizes[name, quantity] = samples.mean(axis=1)
        check.stderr[name, quantity] = samples.std(axis=1, ddof=1) / np.sqrt(seeds)


def _sizes(direct: DirectTraining, width: int, seeds: list[int], steps: int) -> dict[str, np.ndarray]:
    """RMS of every quantity, (S, steps + 1)."""
    reads = [features(direct.trace, i) for i in range(len(direct.finite.inputs))]
    rows: dict[str, list[np.ndarray]] = {}
    start: dict[str, np.ndarray] = {}
    for values, f in direct.run(width, seeds, steps):
        now = {
            f"x {layer}": np.concatenate([values[r[layer]].reshape(len(f), -1) for r in reads if layer in r], axis=-1)
            for layer in reads[0]
        }
        now["f"] = f
        for quantity, value in now.items():
            change = value - start.setdefault(quantity, value)
            for key, z in ((quantity, value), (f"Δ{quantity}", change)):
                rows.setdefault(key, []).append(np.sqrt(np.mean(z**2, axis=-1)))
    return {key: np.stack(value, axis=1) for key, value in rows.items()}
