"""Pictures, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullFormatter, NullLocator

from tensorprog.errors import DataError, shortly, writing
from tensorprog.finite.estimate import Exponent


def _save(figure: Figure, path: Any) -> None:
    if not isinstance(path, (str, Path)):
        raise DataError(f"a picture is saved to a path such as 'check.png', got {shortly(path)}")
    with writing(path):
        figure.savefig(path)


def plot_errors(title: str, widths: list[int], errors: dict[str, Exponent], path: str | Path) -> None:
    """Error against width on log axes, with the n^(−1/2) line."""
    _save(exponents_figure(title, widths, errors, ERRORS), path)


def plot_exponents(title: str, widths: list[int], errors: dict[str, Exponent], path: str | Path) -> None:
    """See ``exponents_figure``."""
    _save(exponents_figure(title, widths, errors), path)


ERRORS = "RMS relative error"


def exponents_figure(title: str, widths: list[int], errors: dict[str, Exponent], ylabel: str = "size") -> Figure:
    """Quantities against width on log axes, each with the line of slope −1/2, −3/4 or −1 nearest to its fit.

    Those that are named "what, t = .." share a panel for what they are; a colour is a time.
    """
    panels: dict[str, dict[str, Exponent]] = {}
    for name, fit in errors.items():
        what, _, time = name.partition(", ")
        panels.setdefault(what, {})[time] = fit
    figure = Figure(figsize=(1.2 + 4.9 * max(1, len(panels)), 5.2), dpi=150, layout="constrained")
    row: Any = figure.subplots(1, max(1, len(panels)), squeeze=False)[0]
    for axes, (what, fits) in zip(row, panels.items(), strict=False):
        axes.set_title(what, fontsize=10)
        for k, (time, fit) in enumerate(fits.items()):
            _with_its_line(axes, widths, fit, f"C{k}", time, 1.03 ** (k - (len(fits) - 1) / 2))
        axes.legend(title="fitted exponent [95 % interval]", title_fontsize=8, fontsize=8, frameon=False,
                    loc="upper center", bbox_to_anchor=(0.5, -0.14))  # fmt: skip
    for axes in row:
        _against_width(axes, widths)
        if errors:
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_locator(NullLocator())
    row[0].set_ylabel(f"{ylabel} (bars: ±2 SE)")
    figure.suptitle(title, fontsize=9, wrap=True)
    return figure


_STYLE = {-0.5: "--", -0.75: "-.", -1.0: ":"}
_LABEL = {-0.5: "n^(−1/2)", -0.75: "n^(−3/4)", -1.0: "n^(−1)"}


def _with_its_line(axes: Any, widths: list[int], fit: Exponent, colour: str, name: str, shift: float) -> None:
    """Sizes with their bars and the line nearest to their fit, in one colour; ``shift`` keeps bars apart."""
    if fit.missing is not None:
        axes.plot([], [], color=colour, label=f"{name}: {fit}")
        return
    n, slope = np.array(widths, float), min(_STYLE, key=lambda s: abs(s - fit.slope))
    label = f"{name}{': ' if name else ''}{fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}], line ∝ {_LABEL[slope]}"
    low = np.minimum(2 * fit.stderrs, 0.9 * fit.errors)
    axes.errorbar(n * shift, fit.errors, yerr=[low, 2 * fit.stderrs], fmt="o", markersize=4, capsize=3, color=colour,
                  label=label.replace("-", "−"))  # fmt: skip
    centre = np.exp(np.log(fit.errors * n**-slope).mean())
    axes.plot(n, centre * n**slope, _STYLE[slope], color=colour, linewidth=1, alpha=0.7)


def _against_width(axes: Any, widths: list[int]) -> None:
    axes.set(xscale="log", xlabel="width n")
    axes.set_xticks(widths, [f"{w}" for w in widths])
    axes.set_xticks([], minor=True)


Runs = dict[int, np.ndarray]


def plot_trajectories(title: str, f: Runs, prediction: Runs, path: str | Path) -> None:
    """See ``trajectories_figure``."""
    _save(trajectories_figure(title, f, prediction), path)


def trajectories_figure(title: str, f: Runs, prediction: Runs, inputs: int = 3) -> Figure:
    """Outputs over time at several widths, a column for each input, a shade for each width.

    Above, f_t at the smallest and the largest width: mean over seeds and a band of one standard deviation, which is
    that of f_0 mostly, and dashed the mean of what their predictions say.  Below, what each network is apart from its
    own prediction, at every width: the root mean square over seeds, both ways.
    """
    count = min(inputs, next(iter(f.values())).shape[2])
    rows = 2 if prediction else 1
    shades = {width: _SHADES(0.15 + 0.75 * k / max(1, len(f) - 1)) for k, width in enumerate(f)}
    figure = Figure(figsize=(3.7 * count + 1.2, 3.1 * rows + 0.8), dpi=150, layout="constrained")
    panels: Any = figure.subplots(rows, count, sharex=True, sharey="row", squeeze=False)
    for i in range(count):
        for width in dict.fromkeys((min(f), max(f))):
            _trajectory(panels[0][i], f[width][:, :, i, 0], shades[width], f"n = {width}")
            if width in prediction:
                mean = prediction[width][:, :, i, 0].mean(axis=0)
                panels[0][i].plot(mean, "--", color=shades[width], linewidth=1.2, label="its prediction")
        for width in prediction:
            apart = f[width][:, :, i, 0] - prediction[width][:, :, i, 0]
            _both_ways(panels[1][i], np.sqrt(np.mean(apart**2, axis=0)), shades[width], f"n = {width}")
        panels[0][i].set_title(f"input {i}", fontsize=9)
        panels[-1][i].set_xlabel("step t")
        panels[-1][i].xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0][0].set_ylabel("f: mean ± standard deviation", fontsize=9)
    if prediction:
        panels[1][0].set_ylabel("f − its own prediction: ± RMS", fontsize=9)
    for row in panels:
        row[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=8, wrap=True)
    return figure


def _trajectory(axes: Any, runs: np.ndarray, colour: Any, label: str) -> None:
    middle, half = runs.mean(axis=0), runs.std(axis=0, ddof=1)
    axes.fill_between(np.arange(len(middle)), middle - half, middle + half, color=colour, alpha=0.2, linewidth=0)
    axes.plot(middle, "o-", color=colour, markersize=3, linewidth=1.2, label=label)


def _both_ways(axes: Any, half: np.ndarray, colour: Any, label: str) -> None:
    axes.axhline(0, color="k", linewidth=1)
    axes.fill_between(np.arange(len(half)), -half, half, color=colour, alpha=0.1, linewidth=0)
    axes.plot(half, color=colour, linewidth=1.4, label=label)
    axes.plot(-half, color=colour, linewidth=1.4)


def plot_coordinates(check: Any, path: str | Path) -> None:
    """See ``coordinates_figure``."""
    _save(coordinates_figure(check), path)


def coordinates_figure(check: Any) -> Figure:
    """Sizes (top) and changes (bottom) against width, a column for each parametrization, a shade for each step."""
    names = list(dict.fromkeys(name for name, _ in check.sizes))
    quantities = list(dict.fromkeys(q for _, q in check.sizes if not q.startswith("Δ")))
    figure = Figure(figsize=(3.8 * len(names) + 0.8, 7.6), dpi=150, layout="constrained")
    panels: Any = figure.subplots(2, len(names), sharex=True, sharey="row", squeeze=False)
    n = np.array(check.widths, float)
    for column, name in zip(panels.T, names, strict=True):
        for axes, prefix in zip(column, ("", "Δ"), strict=True):
            for k, quantity in enumerate(quantities):
                _shaded(axes, check, (name, prefix + quantity), f"C{k}", _MARKER[k % len(_MARKER)])
            axes.set(xscale="log", yscale="log")
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.yaxis.set_minor_formatter(NullFormatter())
            axes.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
            axes.set_xticks(n, [f"{w}" for w in check.widths], fontsize=7)
            axes.set_xticks([], minor=True)
            axes.legend(fontsize=7, title="size ~ n^p at the last step, p [95 % interval]", title_fontsize=7)
        column[0].set_title(name, fontsize=9)
        column[1].set_xlabel("width n")
    panels[0][0].set_ylabel("RMS at time t (bars: ±2 SE)")
    panels[1][0].set_ylabel("RMS change since t = 0 (bars: ±2 SE)")
    figure.suptitle(f"{check.title}: steps 1 (light) to {check.steps} (dark)", fontsize=8, wrap=True)
    return figure


_MARKER = "os^Dv"


def _shaded(axes: Any, check: Any, key: tuple[str, str], colour: str, marker: str) -> None:
    n = np.array(check.widths, float)
    for t in range(1, check.steps + 1):
        size, error = check.sizes[key][:, t], check.stderr[key][:, t]
        good = np.isfinite(size) & (size > 0)
        axes.errorbar(n[good], size[good], yerr=2 * error[good], fmt=f"{marker}-", color=colour, markersize=4,
                      linewidth=1, capsize=2, alpha=0.25 + 0.75 * t / check.steps,
                      label=_fitted(check, key) if t == check.steps else None)  # fmt: skip


def _fitted(check: Any, key: tuple[str, str]) -> str:
    what = key[1].replace("x ", "x read by ")
    try:
        fit = check.exponent(*key)
    except DataError:
        return what
    return f"{what}: p = {fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}]"


def plot_against_limit(report: Any, path: str | Path) -> None:
    """See ``comparison_figure``."""
    _save(comparison_figure(report), path)


def comparison_figure(report: Any, inputs: int = 4) -> Figure:
    """f_t in the limit, with its standard errors, and the mean over seeds of every width; a panel for each input."""
    count = min(inputs, report.limit.f.shape[1])
    figure = Figure(figsize=(3.6 * count + 0.8, 4.4), dpi=150, layout="constrained")
    panels: Any = figure.subplots(1, count, squeeze=False)
    t = np.arange(report.steps + 1)
    for i, axes in enumerate(panels[0]):
        for k, (width, f) in enumerate(report.f.items()):
            rows = f[:, :, i, 0]
            error = 2 * rows.std(axis=0, ddof=1) / np.sqrt(len(rows))
            shift = 0.06 * (k - (len(report.f) - 1) / 2)
            axes.errorbar(t + shift, rows.mean(axis=0), yerr=error, fmt="o", markersize=3, capsize=2, linewidth=1,
                          color=_SHADES(0.15 + 0.75 * k / max(1, len(report.f) - 1)), label=f"n = {width}")  # fmt: skip
        f, error = report.limit.f[:, i, 0], report.limit.stderr[:, i, 0]
        axes.errorbar(t, f, yerr=2 * error, fmt="k-", linewidth=1, capsize=3, label="n = ∞", zorder=3)
        axes.set_title(f"input {i}" + (f", label {report.y[i, 0]:.3g}" if i < len(report.y) else ""), fontsize=9)
        axes.set_xlabel("step t")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    panels[0][0].set_ylabel("output f (bars: ±2 SE)")
    panels[0][0].legend(fontsize=7)
    figure.suptitle(report.title, fontsize=8, wrap=True)
    return figure


_SHADES = colormaps["viridis_r"]


def limit_figure(limit: Any, inputs: int = 6) -> Figure:
    """f_t of every input in the limit of a training run, with its errors."""
    figure = Figure(figsize=(6.4, 3.6), dpi=150, layout="constrained")
    axes: Any = figure.subplots()
    for i in range(min(inputs, limit.f.shape[1])):
        f, error = limit.f[:, i, 0], limit.stderr[:, i, 0]
        axes.errorbar(np.arange(len(f)), f, yerr=2 * error, fmt="o-", markersize=3, capsize=2, label=f"input {i}")
    axes.set(xlabel="step t", ylabel="f in the limit (bars: ±2 errors)")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.legend(fontsize=8)
    return figure


def spectrum_figure(values: np.ndarray, tolerance: float) -> Figure:
    """Eigenvalues in descending order on a log axis; those below the line cannot be told from 0."""
    figure = Figure(figsize=(6.4, 3.0), dpi=150, layout="constrained")
    axes: Any = figure.subplots()
    shown = np.maximum(values[::-1], 0.1 * tolerance)
    if shown.max(initial=0.0) > 0:
        axes.plot(np.arange(1, len(shown) + 1), shown, "o", markersize=4)
        axes.axhline(tolerance, color="gray", linestyle="--", linewidth=1, label="rounding")
        axes.set_yscale("log")
        axes.legend(fontsize=8)
    axes.set(xlabel="number", ylabel="eigenvalue")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    return figure
