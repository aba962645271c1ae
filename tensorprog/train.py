"""Training wide networks beside their kernel prediction: trajectories, errors, drift of the kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.dsl.network import Network
from tensorprog.errors import DataError
from tensorprog.finite.empirical import concatenate
from tensorprog.finite.estimate import Exponent, exponent
from tensorprog.finite.runs import stream
from tensorprog.finite.training import FiniteTraining, Trajectory, diverges
from tensorprog.functions import Fn, Sign, Step
from tensorprog.ir.instructions import Nonlin
from tensorprog.kernels.data import read_inputs
from tensorprog.passes.optimizer import SGD
from tensorprog.verify import WIDTHS, Claim


@dataclass
class TrainingReport:
    """Finite-width training against kernel gradient descent.

    Attributes:
        widths, steps: what was run.
        f: outputs (S, steps + 1, N, heads) by width; the first inputs are the training inputs.
        prediction: the same from kernel gradient descent with the same f_0 and the realised χ_t; empty
            with weight decay.
        own: the same with the prediction's own χ_t.
        errors: fitted exponents of RMS ``|f_t − prediction|`` and of the kernel's drift, by (what, t).
        claims: the verdicts.
    """

    title: str
    widths: list[int]
    seeds: int
    steps: int
    f: dict[int, np.ndarray] = field(default_factory=dict)
    prediction: dict[int, np.ndarray] = field(default_factory=dict)
    own: dict[int, np.ndarray] = field(default_factory=dict)
    errors: dict[tuple[str, int], Exponent] = field(default_factory=dict)
    claims: list[Claim] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether no claim failed."""
        return all(c.passed is not False for c in self.claims)

    def text(self) -> str:
        """A table of claims, and of errors by width."""
        rows = [f"{self.title} (widths {', '.join(map(str, self.widths))}, {self.seeds} seeds each)"]
        rows += [f"  {c.verdict:<6} {c.name}  {c.detail}" for c in self.claims]
        for (what, t), fit in self.errors.items():
            sizes = ", ".join(f"{e:.2e} ± {s:.0e}" for e, s in zip(fit.errors, fit.stderrs, strict=True))
            rows.append(f"  {what}, t = {t}: {sizes}")
        return "\n".join(rows)

    def __str__(self) -> str:
        return self.text()

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``trajectories.png``, ``errors.png`` and ``verdict.txt`` into a folder."""
        from tensorprog.report.plots import plot_exponents, plot_trajectories

        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        paths = [folder / name for name in ("trajectories.png", "errors.png", "verdict.txt")]
        plot_trajectories(self.title, self.f, self.prediction, paths[0])
        named = {f"{what}, t = {t}": fit for (what, t), fit in self.errors.items()}
        plot_exponents(self.title, self.widths, named, paths[1])
        paths[2].write_text(self.text() + "\n")
        return paths


def train(
    net: Network,
    X: Any,
    y: Any,
    *,
    steps: int = 10,
    optimizer: SGD | None = None,
    batch: int = 1,
    loss: Any = "mse",
    X_test: Any = None,
    trainable: Sequence[str] | None = None,
    widths: Sequence[int] = WIDTHS,
    seeds: int = 16,
    times: Sequence[int] | None = None,
    values: Mapping[Any, Any] | None = None,
    out: str | Path | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> TrainingReport:
    """Train networks of several widths by SGD and compare with kernel gradient descent (TP2b Eq. 22).

    The networks are trained by running the unrolled program, exactly.  The prediction starts at their f_0
    and uses the limiting kernel and the realised χ_t.  Its error shrinks like n^(−1/2), the fluctuation of
    the kernel at initialization.  For the kernel's drift during training see ``drift_exponent``.

    Args:
        net: an architecture.
        X: training inputs, (N, d) or sequences.
        y: labels, (N,) or (N, outputs).
        steps: SGD steps; step t uses samples (t·batch + b) mod N.
        optimizer: ``tp.SGD(..)``; learning rate 1/2 when None.
        batch: samples per step.
        loss: ``"mse"``, ``"logistic"`` or a function of (f, y).
        X_test: inputs to follow besides X.
        trainable: names or kinds of parameters; None for all.
        widths, seeds: which networks.
        times: at which t to fit exponents; 1, 3 and 10 as far as they occur when None.
        values: numbers for hyperparameters that are symbols.
        out: a folder for ``training.jsonl``; an interrupted series resumes from it.
        progress: called with (done, total, what).

    Returns:
        Trajectories, predictions, fitted exponents with 95 % intervals, verdicts.

    Raises:
        DataError, ProgramError: bad data, labels or settings.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or steps < 1:
        raise DataError(f"steps must be a positive integer, got {steps!r}")
    inputs = read_inputs(X, "X", net.takes_sequences)
    if np.ndim(y) and len(y) != len(inputs):
        raise DataError(f"X has {len(inputs)} inputs and y {len(y)} labels; they must agree")
    if X_test is not None:
        inputs = concatenate(inputs, read_inputs(X_test, "X_test", net.takes_sequences), net.takes_sequences)
    chosen = sorted(set(times if times is not None else (t for t in (1, 3, 10) if t <= steps)))
    if any(not 1 <= t <= steps for t in chosen):
        raise DataError(f"times must lie between 1 and {steps}, got {list(chosen)}")
    if len(set(widths)) < 2 or seeds < 2:
        raise DataError(f"training is compared over two or more widths and seeds, got {list(widths)} and {seeds}")
    run = FiniteTraining(net, inputs, y, steps, optimizer or SGD(0.5), batch, loss, trainable, (0, *chosen), values)
    report = TrainingReport(f"{net!r}, {run.training.plan.optimizer!r}", sorted(widths), seeds, steps)
    header = {"network": repr(net), "run": _fingerprint(run)}
    path = Path(out) / "training.jsonl" if out is not None else None
    records = stream(run.run, Trajectory, run.u.program, report.widths, seeds, header, path, progress)
    _compare(report, run, {w: [records[w, s] for s in range(seeds)] for w in report.widths}, chosen)
    return report


def _fingerprint(run: FiniteTraining) -> str:
    digest = hashlib.sha256(str(run.u.program).encode())
    digest.update(repr(sorted((str(k), v) for k, v in run.finite.hyper.items())).encode())
    digest.update(run.y.tobytes())
    for i in range(len(run.inputs)):
        digest.update(run.inputs[i].tobytes())
    return digest.hexdigest()[:16]


def _compare(
    report: TrainingReport, run: FiniteTraining, records: dict[int, list[Trajectory]], times: list[int]
) -> None:
    decays = run.training.plan.optimizer.decays
    report.f = {w: np.stack([r.f for r in rows]) for w, rows in records.items()}
    diverged = [w for w in report.widths if diverges(report.f[w])]
    if diverged:
        detail = f"|f| explodes at width {', '.join(map(str, diverged))}; lower the learning rate"
        report.claims.append(Claim("training is stable", False, detail))
        return
    for w, rows in records.items():
        if not decays:
            report.prediction[w] = run.predict(report.f[w][:, 0], np.stack([r.chi for r in rows]))
            report.own[w] = run.predict(report.f[w][:, 0])
    if decays:
        report.claims.append(Claim("f = kernel gradient descent", None, "with weight decay there is no fixed kernel"))
    slope = drift_exponent(run)
    for k, t in enumerate(times, start=1):
        if not decays:
            gaps = [report.f[w][:, t] - report.prediction[w][:, t] for w in report.widths]
            _error_claim(report, t, exponent(report.widths, gaps))
        drifts = [_drift(records[w], k) for w in report.widths]
        _drift_claim(report, t, exponent(report.widths, drifts), slope)


def drift_exponent(run: FiniteTraining) -> float:
    """The p of ‖Θ_t − Θ_0‖ ~ n^p.

    The change of order θ = n^(−1/2) is an expectation odd in the readout v.  It is 0 when v is random and read once,
    which leaves its fluctuation and the change of order θ², both n^(−1).  A gradient with jumps changes by O(1) at
    the nθ coordinates that cross them, with random signs: √(nθ)/n = n^(−3/4).  Otherwise p = −1/2.
    """
    if not run.training.trace.passes_gia_check:
        return -0.5
    bodies = (op.body for _, op in run.u.program if isinstance(op, Nonlin))
    jumps = any(isinstance(f, (Step, Sign)) for body in bodies for f in body.atoms(Fn))
    return -0.75 if jumps else -1.0


def _error_claim(report: TrainingReport, t: int, fit: Exponent) -> None:
    report.errors["|f − prediction|", t] = fit
    name = f"|f − prediction| ~ n^(-0.5) at t = {t}"
    report.claims.append(Claim(name, fit.compatible(-0.5, 0.1), f"fitted exponent {fit}"))


def _drift_claim(report: TrainingReport, t: int, fit: Exponent, asymptotic: float) -> None:
    """The theorem asks for n^(−1/2) or faster; small widths can still be far from the asymptotic exponent."""
    report.errors["kernel drift", t] = fit
    detail = f"fitted exponent {fit}, {asymptotic:g} as n grows"
    name = f"kernel drift at most ~ n^(-0.5) at t = {t}"
    report.claims.append(Claim(name, fit.slope < -0.5 or fit.compatible(-0.5, 0.1), detail))


def _drift(rows: list[Trajectory], k: int) -> np.ndarray:
    """‖Θ_t − Θ_0‖/‖Θ_0‖ of every run, (S, 1)."""
    return np.array([[np.linalg.norm(r.ntk[k] - r.ntk[0]) / np.linalg.norm(r.ntk[0])] for r in rows])
