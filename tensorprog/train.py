"""Training wide networks beside their kernel prediction: trajectories, errors, drift of the kernel."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.derivation.data import Inputs, read_inputs
from tensorprog.dsl.network import Network, check_network
from tensorprog.errors import DataError, listed, shortly, writing
from tensorprog.errors import folder as folder_of
from tensorprog.finite.empirical import concatenate
from tensorprog.finite.estimate import ROUNDING, Exponent, exponent, measured, vanish
from tensorprog.finite.runs import stream
from tensorprog.finite.trajectories import FiniteTraining, Trajectory, divergence
from tensorprog.functions import Fn, jumps
from tensorprog.given import MANY, flag, is_array
from tensorprog.ir.instructions import Nonlin
from tensorprog.passes.optimizer import SGD
from tensorprog.passes.parametrization import Parametrization, ParametrizationChoice, mup
from tensorprog.passes.rates import Rates
from tensorprog.printing import Shown, to_html
from tensorprog.progress import Progress, telling
from tensorprog.report import verdicts
from tensorprog.report.claims import SLACK, Claim
from tensorprog.sgd.feature_limit import FeatureLimit
from tensorprog.sgd.hypotheses import Hypothesis, derivatives_of, outputs_on_data, refuse_unmet
from tensorprog.sgd.training import check_widths
from tensorprog.types import Data, HyperValues, LossChoice, Number, Pattern
from tensorprog.verify import WIDTHS

KNOWN = 0.2  # of the distance from the limit: the error of the limit itself must be below


@dataclass(repr=False)
class TrainingReport(Shown):
    """Finite-width training against kernel gradient descent.

    Attributes:
        title: the network and how it was trained.
        seeds: of each width.
        widths, steps: what was run.
        f: outputs (S, steps + 1, N, heads) by width; the first inputs are the training inputs.
        prediction: the same in the limit from the same f_0 and the realised χ_t: kernel gradient descent, with weight
            decay from the same f̂_t by the kernels between decayed networks.
        own: the same with the prediction's own χ_t.
        errors: fitted exponents of RMS ``|f_t − prediction|`` and of the kernel's drift, by (what, t).
        claims: the verdicts.
        hypotheses: what the theorem asks for and the network lacks; then nothing is compared.
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
    hypotheses: list[Hypothesis] = field(default_factory=list)

    @property
    def passed(self) -> bool | None:
        """Whether no claim failed; None where a hypothesis is not met and nothing was compared."""
        return None if self.hypotheses else all(c.passed is not False for c in self.claims)

    @property
    def heading(self) -> str:
        """What was run."""
        return f"{self.title} (widths {', '.join(map(str, self.widths))}, {self.seeds} seeds each)"

    @property
    def named_errors(self) -> dict[str, Exponent]:
        """The fitted exponents by what and when."""
        return {f"{what}, t = {t}": fit for (what, t), fit in self.errors.items()}

    def text(self) -> str:
        """A table of claims, and of errors by width."""
        rows = [self.heading]
        rows += [f"  {h}" for h in self.hypotheses]
        rows += [f"  {c.text()}" for c in self.claims]
        for name, fit in self.named_errors.items():
            rows.append(f"  {name}: {', '.join(measured(*pair) for pair in fit.sizes)}")
        return "\n".join(rows)

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``trajectories.png``, ``errors.png`` and ``verdict.txt`` into a folder.

        Raises:
            DataError: the folder cannot be made or written, or its name ends as a file's does.
        """
        from tensorprog.report.plots import plot_exponents, plot_trajectories

        folder = folder_of(folder)
        paths = [folder / name for name in ("trajectories.png", "errors.png", "verdict.txt")]
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            plot_trajectories(self.title, self.f, self.prediction, paths[0])
            plot_exponents(self.title, self.widths, self.named_errors, paths[1])
            paths[2].write_text(self.text() + "\n")
        return paths


@dataclass(repr=False)
class FeatureReport(TrainingReport):
    """Finite-width training against its infinite-width limit, where features are learned.

    Attributes:
        limit: f_t in the limit with standard errors, features and their kernels.
        y: the labels.
    """

    limit: FeatureLimit = field(kw_only=True)
    y: np.ndarray = field(kw_only=True)

    def text(self) -> str:
        """The claims, and f_t of every input in the limit and at each width, with standard errors."""
        rows = [super().text(), f"  f, limit by {self.limit.how} and mean over seeds (± standard error):"]
        rows.append("   t input " + "".join(f"{name:>22}" for name in ("n = ∞", *(f"n = {w}" for w in self.widths))))
        rows += [f"  {t:>2} {i:>5} " + "".join(f"{cell:>22}" for cell in cells) for t, i, *cells in self.rows()]
        return "\n".join(rows)

    def rows(self) -> Iterator[tuple[int, int, *tuple[str, ...]]]:
        """t, the input, and f_t in the limit and at every width, with standard errors."""
        for t, i in np.ndindex(self.steps + 1, self.limit.f.shape[1]):
            runs = [f[:, t, i, 0] for f in self.f.values()]
            means = [f"{f.mean():+.5f} ± {f.std(ddof=1) / np.sqrt(self.seeds):.0e}" for f in runs]
            yield t, i, self.limit.shown(t, i), *means

    def save(self, folder: str | Path) -> list[Path]:
        """Write ``trajectories.png``, ``errors.png`` and ``verdict.txt`` into a folder."""
        from tensorprog.report.plots import plot_against_limit

        paths = super().save(folder)
        plot_against_limit(self, paths[0])
        return paths


to_html.register(TrainingReport, verdicts.training)
to_html.register(FeatureReport, verdicts.features)


def train(
    net: Network,
    X: Data,
    y: Data,
    *,
    steps: int = 10,
    optimizer: SGD | None = None,
    batch: int = 1,
    loss: LossChoice = "mse",
    X_test: Data | None = None,
    trainable: Sequence[Pattern] | None = None,
    rates: Mapping[Pattern, Number] | None = None,
    widths: Sequence[int] = WIDTHS,
    seeds: int = 16,
    times: Sequence[int] | None = None,
    values: HyperValues | None = None,
    parametrization: ParametrizationChoice | None = None,
    subtract_start: bool = False,
    method: str = "auto",
    samples: int = 2**16,
    out: str | Path | None = None,
    progress: Progress = None,
) -> TrainingReport:
    """Train networks of several widths by SGD and compare with kernel gradient descent (TP2b Eq. 22).

    The networks are trained by moving their weights, exactly.  The prediction starts at their f_0
    and uses the limiting kernel and the realised χ_t.  Its error shrinks like n^(−1/2), the fluctuation of
    the kernel at initialization.  For the kernel's drift during training see ``drift_exponent``.  With weight decay the
    prediction and the drift are those that ``kernels.decayed`` derives.

    What the theorem asks of the network is checked first: where outputs diverge, the networks are trained and nothing
    is compared (``.hypotheses``, ``.passed`` is None); where a derivative is no function they cannot be trained.

    Args:
        net: an architecture.
        X: training inputs, (N, d) or sequences.
        y: labels, (N,) or (N, outputs).
        steps: SGD steps; step t uses samples (t·batch + b) mod N.
        optimizer: ``tp.SGD(..)``; learning rate 1/2 when None.
        batch: samples per step.
        loss: ``"mse"``, ``"logistic"`` or a function of (f, y).
        X_test: inputs to follow besides X.
        trainable, rates: which parameters train, and factors of their learning rates, as in ``tp.ntk``.
        widths, seeds: which networks.
        times: at which t to fit exponents; 1, 3 and 10 as far as they occur when None.
        values: numbers for hyperparameters that are symbols, by symbol or by name.
        parametrization: ``"mup"``, ``"standard"``, ``tp.standard(c=1)``, ``tp.abc(..)``; that of the NTK when None.
            Where it learns features, the comparison is with the limit of the run itself, a ``FeatureReport``.
        subtract_start: train f − f_0 in the place of f, which starts at 0 where f_0 may diverge.
        method, samples: of that limit; see ``FeatureLimit``.
        out: a folder for ``training.jsonl``; an interrupted series resumes from it.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        Trajectories, predictions, fitted exponents with 95 % intervals, verdicts.

    Raises:
        DataError, ProgramError: bad data, labels or settings.
        AssumptionError: a parametrization that is not stable, with the layer and the exponent; a trained function
            that jumps.
    """
    if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= MANY:
        raise DataError(f"steps must be a positive integer of at most {MANY}, got {shortly(steps)}")
    widths = check_widths(widths)
    if isinstance(seeds, bool) or not isinstance(seeds, (int, np.integer)) or seeds > MANY:
        raise DataError(f"seeds must be an integer, got {shortly(seeds)}")
    subtract_start = flag(subtract_start, "subtract_start")
    which = Rates.of(trainable, rates, parametrization)
    scheme = which.parametrization
    inputs = _read(net, X, y, X_test)
    asked = [t for t in (1, 3, 10) if t <= steps] if times is None else listed(times, "times", "steps")
    if not all(isinstance(t, (int, np.integer)) and 1 <= t <= steps for t in asked):
        raise DataError(f"times must lie between 1 and {steps}, got {asked}")
    chosen = sorted({int(t) for t in asked})
    if len(set(widths)) < 2 or seeds < 2:
        raise DataError(f"training is compared over two or more widths and seeds, got {list(widths)} and {seeds}")
    probes = () if scheme is not None and scheme.keeps_changes else (0, *chosen)
    optimizer = SGD(0.5) if optimizer is None else optimizer
    run = FiniteTraining(net, inputs, y, steps, optimizer, batch, loss, which, probes, values, subtract_start)
    lacking = _lacking(run)
    title = f"{net!r}, {run.plan.optimizer!r}{which.words}"
    header = {"network": repr(net), "run": _fingerprint(run, scheme)}
    path = folder_of(out) / "training.jsonl" if out is not None else None
    chosen_widths = sorted(set(widths))
    with telling(progress) as tell:
        limit = run.limit(method, samples) if run.plan.scaling.keeps_changes else None
        records = stream(run.run, Trajectory, run.shapes, run.descent.numbers, chosen_widths, seeds, header, path, tell)
    rows = {w: [records[w, s] for s in range(seeds)] for w in chosen_widths}
    if limit is not None:
        features = FeatureReport(title, chosen_widths, seeds, steps, limit=limit, y=run.y)
        _compare_with_limit(features, rows, chosen, -float(run.plan.scaling.error))
        return features
    report = TrainingReport(title, chosen_widths, seeds, steps, hypotheses=lacking)
    _compare(report, run, rows, chosen)
    return report


def _lacking(run: FiniteTraining) -> list[Hypothesis]:
    """What the theorem asks for and the network lacks, with which it can be trained nevertheless."""
    refuse_unmet(derivatives_of(run.net, run.inputs.groups, run.plan.trained), "training")
    return [] if run.subtract_start else outputs_on_data(run.net, run.inputs, run.hyper)


def feature_limit(
    net: Network,
    X: Data,
    y: Data,
    *,
    parametrization: ParametrizationChoice | None = None,
    steps: int = 10,
    optimizer: SGD | None = None,
    batch: int = 1,
    loss: LossChoice = "mse",
    X_test: Data | None = None,
    trainable: Sequence[Pattern] | None = None,
    rates: Mapping[Pattern, Number] | None = None,
    values: HyperValues | None = None,
    method: str = "auto",
    samples: int = 2**16,
    seed: int = 0,
    progress: Progress = None,
) -> FeatureLimit:
    """The infinite-width limit of a training run that learns features (Yang & Hu 2021).

    Args:
        net, X, y, steps, optimizer, batch, loss, X_test, trainable, rates, values: as in ``train``.
        parametrization: one that learns features; ``tp.mup()`` when None.
        method: ``"linear"``, ``"quadrature"``, ``"sampling"``, ``"exact"`` or ``"auto"``; see ``FeatureLimit``.
        samples, seed: of sampling.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        ``.f`` and ``.stderr`` (steps + 1, N, outputs), ``.kernel(t, layer)``, ``.change(t, layer)``, ``.method``.

    Raises:
        DataError, ProgramError: bad data or settings.
        AssumptionError: the parametrization does not learn features, with the layer and the exponent.

    >>> import tensorprog as tp
    >>> limit = feature_limit(tp.programs.deep_linear(depth=2), [[1.0]], [1.0], steps=3, optimizer=tp.SGD(0.25))
    >>> limit.method, [round(float(f), 6) for f in limit.f[:, 0, 0]]
    ('linear', [0.0, 0.75, 0.997086, 1.00046])
    """
    inputs = _read(net, X, y, X_test)
    optimizer = SGD(0.5) if optimizer is None else optimizer
    chosen = Rates.of(trainable, rates, mup() if parametrization is None else parametrization)
    run = FiniteTraining(net, inputs, y, steps, optimizer, batch, loss, chosen, (), values)
    with telling(progress):
        return run.limit(method, samples, seed)


def _read(net: Network, X: Data, y: Any, X_test: Data | None) -> Inputs:
    check_network(net)
    inputs = read_inputs(X, "X", net.form)
    if is_array(y) and len(y) != len(inputs):
        raise DataError(f"X has {len(inputs)} inputs and y {len(y)} labels; they must agree")
    if X_test is not None:
        inputs = concatenate(inputs, read_inputs(X_test, "X_test", net.form))
    return inputs


def _fingerprint(run: FiniteTraining, scheme: Parametrization | None) -> str:
    plan, o = run.plan, run.plan.optimizer
    rates = [str(o.rate(t)) for t in range(plan.steps)]
    settings = (plan.schedule, rates, str(o.momentum), str(o.weight_decay), o.nesterov, str(plan.loss),
                sorted(plan.trained), plan.probes, run.subtract_start,
                sorted((str(k), v) for k, v in run.hyper.items()))  # fmt: skip
    digest = hashlib.sha256(str(run.trace.program).encode())
    digest.update(repr(settings).encode())
    digest.update(run.y.tobytes())
    if scheme is not None:
        digest.update(repr(plan.scaling).encode())
    if plan.rates:
        digest.update(repr(sorted((n, str(r)) for n, r in plan.rates.items())).encode())
    for i in range(len(run.inputs)):
        digest.update(run.inputs[i].tobytes())
    return digest.hexdigest()[:16]


def _compare(
    report: TrainingReport, run: FiniteTraining, records: dict[int, list[Trajectory]], times: list[int]
) -> None:
    report.f = {w: np.stack([r.f for r in rows]) for w, rows in records.items()}
    if report.hypotheses or _refuse_divergence(report):
        return
    for w, rows in records.items():
        start = np.stack([r.start for r in rows]) if run.plan.optimizer.decays else report.f[w][:, 0]
        report.prediction[w] = run.predict(start, np.stack([r.chi for r in rows]))
        report.own[w] = run.predict(start)
    slope, rate = drift_exponent(run), -float(run.plan.scaling.error)
    for k, t in enumerate(times, start=1):
        gaps = [report.f[w][:, t] - report.prediction[w][:, t] for w in report.widths]
        _error_claim(report, t, gaps, rate)
        drifts = [_drift(records[w], k) for w in report.widths]
        _drift_claim(report, t, drifts, run.drift(t), slope)


def _compare_with_limit(
    report: FeatureReport, records: dict[int, list[Trajectory]], times: list[int], rate: float
) -> None:
    """|f_n − f_∞| shrinks like n^(−1/2), the fluctuation of means over n coordinates."""
    report.f = {w: np.stack([r.f for r in rows]) for w, rows in records.items()}
    if _refuse_divergence(report):
        return
    for t in times:
        fit = exponent(report.widths, [report.f[w][:, t] - report.limit.f[t] for w in report.widths])
        report.errors["|f − limit|", t] = fit
        error = float(np.sqrt(np.mean(report.limit.stderr[t] ** 2)))
        name, detail, most = f"|f − limit| ~ n^({rate:g}) at t = {t}", fit.words(rate, SLACK), KNOWN * fit.errors.min()
        known = error < most
        if not known:
            detail += f"; the limit's error {error:.1e} is not below {most:.1e} ({KNOWN:g} of the least |f − limit|), "
            detail += "too large to tell: raise samples"
        report.claims.append(Claim(name, fit.verdict(rate, SLACK) if known else None, detail))


def _refuse_divergence(report: TrainingReport) -> bool:
    ends = {w: end for w in report.widths if (end := divergence(report.f[w])) is not None}
    if ends:
        where = ", ".join(f"{w} (step {end})" for w, end in ends.items())
        detail = f"|f| explodes at width {where}, where the run ends; lower the learning rate"
        report.claims.append(Claim("training is stable", False, detail))
    return bool(ends)


def drift_exponent(run: FiniteTraining) -> float:
    """The p of ‖Θ_t − Θ_0‖ ~ n^p.

    Features move by n^(−r), r = 1/2 in the NTK parametrization.  The kernel's change of that order is an expectation
    odd in the readout v.  It is 0 when v is random and read once, which leaves its fluctuation, n^(−r−1/2), and the
    change of second order, n^(−2r).  A gradient with jumps changes by O(1) at the n^(1−r) coordinates that cross them,
    with random signs: n^((1−r)/2)/n, which is n^(−3/4) for r = 1/2.
    """
    r = float(run.plan.scaling.r)
    if not run.trace.passes_gia_check:
        return -r
    bodies = (op.body for p in run.descent.programs.values() for _, op in p.program if isinstance(op, Nonlin))
    jumping = any(jumps(type(f)) for body in bodies for f in body.atoms(Fn))
    smooth = min(2 * r, r + 0.5)
    return -min(smooth, (1 + r) / 2) if jumping else -smooth


def _error_claim(report: TrainingReport, t: int, gaps: list[np.ndarray], rate: float) -> None:
    name = f"|f − prediction| ~ n^({rate:g}) at t = {t}"
    scale = max(float(np.abs(report.f[w]).max()) for w in report.widths)
    if vanish(gaps, scale):
        report.claims.append(Claim(f"f = prediction at t = {t}", True, _rounding(gaps, scale, "|f|")))
        return
    fit = report.errors["|f − prediction|", t] = exponent(report.widths, gaps)
    report.claims.append(Claim(name, fit.verdict(rate, SLACK), fit.words(rate, SLACK)))


def _drift_claim(report: TrainingReport, t: int, drifts: list[np.ndarray], limit: float, asymptotic: float) -> None:
    """The theorem asks for n^(−1/2) or faster; small widths can still be far from the asymptotic exponent.

    With weight decay the drift has a limit, and the claim is about the distance from it.
    """
    gaps, bound = [d - limit for d in drifts], max(-0.5, asymptotic)
    if vanish(gaps):
        detail = _rounding(gaps, 1.0, "‖Θ_0‖")
        detail = f"the kernel does not move at any width: {detail}" if limit == 0 else detail
        report.claims.append(Claim(f"kernel drift = {limit:.4g} at t = {t}", True, detail))
        return
    fit = exponent(report.widths, gaps)
    if limit:
        report.errors[f"|kernel drift − {limit:.4g}|", t] = fit
        name = f"kernel drift − {limit:.4g} at most ~ n^({bound:g}) at t = {t}"
        more = f"{limit:.4g} by weight decay, {drifts[-1].mean():.4g} at width {report.widths[-1]}"
    else:
        report.errors["kernel drift", t] = fit
        name = f"kernel drift at most ~ n^({bound:g}) at t = {t}"
        more = f"{asymptotic:g} as n grows"
    below = f"fitted exponent {fit.slope:+.3f} < {bound:g} (95 % interval [{fit.low:+.3f}, {fit.high:+.3f}])"
    words = below if fit.slope < bound else fit.words(bound, SLACK)
    report.claims.append(Claim(name, fit.slope < bound or fit.verdict(bound, SLACK), f"{words}; {more}"))


def _rounding(gaps: list[np.ndarray], scale: float, of: str) -> str:
    largest = max(float(np.abs(g).max(initial=0.0)) for g in gaps) / (scale or 1.0)
    return f"equal up to rounding at every width, {largest:.1e} ≤ {ROUNDING:.0e} of {of}"


def _drift(rows: list[Trajectory], k: int) -> np.ndarray:
    """‖Θ_t − Θ_0‖/‖Θ_0‖ of every run, (S, 1); 0 for kernels that are 0."""
    pairs = [(np.linalg.norm(r.ntk[k] - r.ntk[0]), np.linalg.norm(r.ntk[0])) for r in rows]
    return np.array([[change / size if change else 0.0] for change, size in pairs])
