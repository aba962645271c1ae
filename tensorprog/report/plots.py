"""Pictures, drawn without a display."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from tensorprog.finite.estimate import Exponent


def plot_errors(title: str, widths: list[int], errors: dict[str, Exponent], path: Path) -> None:
    """Error against width on log axes, with the n^(−1/2) line."""
    figure = Figure(figsize=(6.4, 4.4), dpi=150, layout="constrained")
    axes: Any = figure.subplots()
    n = np.array(widths, float)
    for name, fit in errors.items():
        label = f"{name}: exponent {fit.slope:.2f} [{fit.low:.2f}, {fit.high:.2f}]"
        axes.errorbar(n, fit.errors, yerr=2 * fit.stderrs, fmt="o", capsize=3, label=label)
        centre = np.exp(np.log(fit.errors * np.sqrt(n)).mean())
        axes.plot(n, centre / np.sqrt(n), "--", color="gray", linewidth=1)
    axes.plot([], [], "--", color="gray", linewidth=1, label=r"$\propto n^{-1/2}$")
    scale = "log" if errors else "linear"
    axes.set(xscale="log", yscale=scale, xlabel="width n", ylabel="RMS relative error (bars: ±2 SE)")
    axes.set_xticks(n, [f"{w}" for w in widths])
    axes.set_xticks([], minor=True)
    axes.set_title(title, fontsize=9, wrap=True)
    axes.legend(fontsize=8)
    figure.savefig(path)
