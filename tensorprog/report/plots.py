"""Pictures, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tensorprog.errors import DataError
from tensorprog.finite.estimate import Exponent


def plot_errors(title: str, widths: list[int], errors: dict[str, Exponent], path: Path) -> None:
    """Error against width on log axes, with the n^(−1/2) line."""
    plot_exponents(title, widths, errors, path, "RMS relative error (bars: ±2 SE)")


def plot_exponents(
    title: str, widths: list[int], errors: dict[str, Exponent], path: Path, ylabel: str = "size (bars: ±2 SE)"
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
    figure.savefig(path)


_STYLE = {-0.5: "--", -0.75: "-.", -1.0: ":"}
_LABEL = {-0.5: r"$\propto n^{-1/2}$", -0.75: r"$\propto n^{-3/4}$", -1.0: r"$\propto n^{-1}$"}


def plot_trajectories(
    title: str, f: dict[int, np.ndarray], prediction: dict[int, np.ndarray], path: Path, inputs: int = 4
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
    figure.savefig(path)


def plot_coordinates(check: Any, path: Path) -> None:
    """The changes of features and outputs against width, a panel for each parametrization, a shade for each step."""
    names = list(dict.fromkeys(name for name, _ in check.sizes))
    moving = list(dict.fromkeys(quantity for _, quantity in check.sizes if quantity.startswith("Δ")))
    figure = Figure(figsize=(4.2 * len(names) + 0.6, 4.8), dpi=150, layout="constrained")
    panels: Any = figure.subplots(1, len(names), sharey=True, squeeze=False)
    n = np.array(check.widths, float)
    for axes, name in zip(panels[0], names, strict=True):
        for k, quantity in enumerate(moving):
            for t in range(1, check.steps + 1):
                size, error = (a[name, quantity][:, t] for a in (check.sizes, check.stderr))
                good = np.isfinite(size) & (size > 0)
                last = t == check.steps
                axes.errorbar(n[good], size[good], yerr=2 * error[good], fmt=f"{_MARKER[k % len(_MARKER)]}-", color=f"C{k}",
                              alpha=0.25 + 0.75 * t / check.steps, markersize=4, linewidth=1, capsize=2,
                              label=_fitted(check, name, quantity) if last else None)  # fmt: skip
        axes.set(xscale="log", yscale="log", xlabel="width n")
        axes.set_xticks(n, [f"{w}" for w in check.widths])
        axes.set_xticks([], minor=True)
        axes.set_title(name, fontsize=9)
        axes.legend(fontsize=7, loc="upper center", bbox_to_anchor=(0.5, -0.13))
    panels[0][0].set_ylabel("RMS change since t = 0 (bars: ±2 SE)")
    figure.suptitle(f"{check.title}: steps 1 (light) to {check.steps} (dark)", fontsize=8, wrap=True)
    figure.savefig(path)


_MARKER = "os^Dv"


def _fitted(check: Any, name: str, quantity: str) -> str:
    layer = quantity.removeprefix("Δx ") if quantity != "Δf" else ""
    what = f"Δx read by {layer}" if layer else "Δf"
    try:
        fit = check.exponent(name, quantity)
    except DataError:
        return what
    return f"{what}: $n^{{{fit.slope:.2f}}}$ [{fit.low:.2f}, {fit.high:.2f}]"
