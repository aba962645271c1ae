"""Pictures, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure

from tensorprog.errors import DataError, writing
from tensorprog.finite.estimate import Exponent


def _save(figure: Figure, path: Any) -> None:
    if not isinstance(path, (str, Path)):
        raise DataError(f"a picture is saved to a path such as 'check.png', got {path!r}")
    with writing(path):
        figure.savefig(path)


def plot_errors(title: str, widths: list[int], errors: dict[str, Exponent], path: str | Path) -> None:
    """Error against width on log axes, with the n^(−1/2) line."""
    plot_exponents(title, widths, errors, path, "RMS relative error (bars: ±2 SE)")


def plot_exponents(
    title: str, widths: list[int], errors: dict[str, Exponent], path: str | Path, ylabel: str = "size (bars: ±2 SE)"
) -> None:
    """Quantities against width on log axes, each with the line of slope −1/2, −3/4 or −1 nearest to its fit."""
    figure = Figure(figsize=(7.2, 5.4), dpi=150, layout="constrained")
    axes: Any = figure.subplots()
    n = np.array(widths, float)
    slopes = set()
    for name, fit in errors.items():
        label = f"{name}: exponent {fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}]"
        axes.errorbar(n, fit.errors, yerr=2 * fit.stderrs, fmt="o", capsize=3, label=label)
        slope = min(_STYLE, key=lambda s: abs(s - fit.slope))
        slopes.add(slope)
        centre = np.exp(np.log(fit.errors * n**-slope).mean())
        axes.plot(n, centre * n**slope, _STYLE[slope], color="gray", linewidth=1)
    for slope in sorted(slopes, reverse=True):
        axes.plot([], [], _STYLE[slope], color="gray", linewidth=1, label=_LABEL[slope])
    axes.set(xscale="log", yscale="log" if errors else "linear", xlabel="width n", ylabel=ylabel)
    axes.set_xticks(n, [f"{w}" for w in widths])
    axes.set_xticks([], minor=True)
    axes.set_title(title, fontsize=9, wrap=True)
    if errors:
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.14), ncols=2)
    _save(figure, path)


_STYLE = {-0.5: "--", -0.75: "-.", -1.0: ":"}
_LABEL = {-0.5: r"$\propto n^{-1/2}$", -0.75: r"$\propto n^{-3/4}$", -1.0: r"$\propto n^{-1}$"}


def plot_trajectories(
    title: str, f: dict[int, np.ndarray], prediction: dict[int, np.ndarray], path: str | Path, inputs: int = 4
) -> None:
    """f_t of one network at the smallest and at the largest width, with the prediction over it."""
    figure = Figure(figsize=(9.6, 4.2), dpi=150, layout="constrained")
    panels: Any = figure.subplots(1, 2, sharey=True)
    for axes, width in zip(panels, (min(f), max(f)), strict=True):
        run = f[width][0, :, :inputs, 0]
        t = np.arange(len(run))
        for i in range(run.shape[1]):
            axes.plot(t, run[:, i], "o-", markersize=3, linewidth=1, label=f"input {i}")
            if width in prediction:
                axes.plot(t, prediction[width][0, :, i, 0], "k--", linewidth=0.9)
        axes.set_title(f"width {width}", fontsize=9)
        axes.set_xlabel("step t")
    if prediction:
        panels[0].plot([], [], "k--", linewidth=0.9, label="kernel prediction")
    panels[0].set_ylabel("output f")
    panels[0].legend(fontsize=7)
    figure.suptitle(title, fontsize=8, wrap=True)
    _save(figure, path)


def plot_coordinates(check: Any, path: str | Path) -> None:
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
            axes.set_xticks(n, [f"{w}" for w in check.widths], fontsize=7)
            axes.set_xticks([], minor=True)
            axes.legend(fontsize=7, title="size ~ $n^p$ at the last step", title_fontsize=7)
        column[0].set_title(name, fontsize=9)
        column[1].set_xlabel("width n")
    panels[0][0].set_ylabel("RMS at time t (bars: ±2 SE)")
    panels[1][0].set_ylabel("RMS change since t = 0 (bars: ±2 SE)")
    figure.suptitle(f"{check.title}: steps 1 (light) to {check.steps} (dark)", fontsize=8, wrap=True)
    _save(figure, path)


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


def plot_against_limit(title: str, report: Any, path: str | Path, inputs: int = 4) -> None:
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
    panels[0][0].set_ylabel("output f (bars: ±2 SE)")
    panels[0][0].legend(fontsize=7)
    figure.suptitle(title, fontsize=8, wrap=True)
    _save(figure, path)


_SHADES = colormaps["viridis_r"]
