"""The pictures of studies, made from their numbers alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from matplotlib.figure import Figure

Numbers = Mapping[str, Any]
ASIDE: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "frameon": False}
DOTS: dict[str, Any] = {"fmt": "o-", "markersize": 3, "capsize": 2, "linewidth": 1}


def _figure(title: str, columns: int, height: float = 4.2) -> tuple[Figure, Any]:
    figure = Figure(figsize=(4.6 * columns, height), dpi=130, layout="constrained")
    figure.suptitle(title, fontsize=8, wrap=True)
    return figure, figure.subplots(1, columns, squeeze=False)[0]


_PANELS = {"q": "q*", "chi": "χ₁", "c": "c*", "xi_c": "ξ_c"}


def phase(title: str, n: Numbers) -> Figure:
    """χ₁, q*, c* and ξ_c over the grid, with the line χ₁ = 1 dashed."""
    if not n["grid"]:
        return _point(title, n)
    draw = _along if len(n["grid"]) == 1 else _maps
    return draw(title, n)


def _point(title: str, n: Numbers) -> Figure:
    figure, (axes,) = _figure(title, 1)
    names = ["slope", "chi", "chi_c"]
    axes.bar(["F'(q*)", "χ₁", "χ at c*"], [float(np.max(n[k])) for k in names], width=0.5)
    axes.axhline(1, color="k", linestyle="--", linewidth=1)
    axes.set_ylabel("derivative at the fixed point")
    return figure


def _along(title: str, n: Numbers) -> Figure:
    figure, panels = _figure(title, len(_PANELS))
    ((name, x),) = n["grid"].items()
    for axes, (key, label) in zip(panels, _PANELS.items(), strict=True):
        for row in np.atleast_2d(n[key]):
            axes.plot(x, np.where(np.isfinite(row), row, np.nan), "o-", markersize=3)
        axes.set(xlabel=name, title=label)
        if key in ("q", "xi_c"):
            axes.set_yscale("symlog", linthresh=1e-2)
    panels[1].axhline(1, color="k", linestyle="--", linewidth=1)
    return figure


def _maps(title: str, n: Numbers) -> Figure:
    figure, panels = _figure(title, len(_PANELS))
    (first, x), (second, y) = n["grid"].items()
    for axes, (key, label) in zip(panels, _PANELS.items(), strict=True):
        shown = np.asarray(n[key], float)
        shown = shown[0] if shown.ndim == 3 else shown
        shown = np.where(np.isfinite(shown), shown, np.nan)
        if key in ("q", "xi_c"):
            shown, label = np.log10(np.maximum(shown, 1e-3)), f"log₁₀ {label}"
        limits = {"vmin": 0, "vmax": 2, "cmap": "RdBu_r"} if key == "chi" else {"cmap": "viridis"}
        mesh = axes.pcolormesh(x, y, shown.T, shading="nearest", rasterized=True, **limits)
        figure.colorbar(mesh, ax=axes)
        chi = np.asarray(n["chi"])
        if chi.min() < 1 < chi.max() and min(chi.shape) > 1:
            axes.contour(x, y, chi.T, [1.0], colors="k", linestyles="--", linewidths=1.2)
        axes.set(xlabel=first, title=label)
    panels[0].set_ylabel(second)
    return figure


def critical(title: str, n: Numbers) -> Figure:
    """The line χ₁ = 1, order below and chaos above."""
    figure, (axes,) = _figure(title, 1)
    by = n["by"]
    x = next(iter(n["grid"].values()), [0.0])
    axes.plot(x, np.asarray(n[by], float) ** 2, "ko-", markersize=4)
    axes.set(xlabel=next(iter(n["grid"]), "the network as it is"), ylabel=f"{by}² at χ₁ = 1")
    axes.annotate("chaos", (0.05, 0.93), xycoords="axes fraction")
    axes.annotate("order", (0.85, 0.05), xycoords="axes fraction")
    return figure


def variance(title: str, n: Numbers) -> Figure:
    """The ratio minus 1 against depth and against depth/width where there are depths, else against width."""
    grid, widths = dict(n["grid"]), list(n["widths"])
    excess, error = np.asarray(n["ratio"]) - 1, np.asarray(n["stderr"])
    deep = "depth" in grid
    figure, panels = _figure(title, 2 if deep else 1)
    names = list(grid)
    if deep:
        k = names.index("depth")
        excess, error = (np.moveaxis(a, k, -1) for a in (excess, error))  # (other.., widths, depth)
        x = np.asarray(grid.pop("depth"), float)
    else:
        x = np.asarray(widths, float)
        excess, error = (a.reshape(*a.shape[:-1], 1, a.shape[-1]) for a in (excess, error))
    exact = np.asarray(n["exact"], float) - 1
    exact = np.moveaxis(exact, names.index("depth"), -1) if deep else exact.reshape(excess.shape)
    for number, place in enumerate(np.ndindex(excess.shape[:-1])):
        at = ", ".join(f"{name} = {float(v[i]):.3g}" for (name, v), i in zip(grid.items(), place, strict=False))
        label = ", ".join([t for t in (at, f"n = {widths[place[-1]]}" if deep else "") if t])
        for axes, by in zip(panels, (1.0, widths[place[-1]]) if deep else (1.0,), strict=False):
            axes.errorbar(x / by, excess[place], yerr=2 * error[place], fmt="o-", markersize=3, capsize=2, linewidth=1,
                          color=f"C{number % 10}", label=label)  # fmt: skip
            axes.plot(x / by, exact[place], "k:", linewidth=1)
    for axes, what in zip(panels, ("depth L", "L/n") if deep else ("width n",), strict=False):
        axes.set(yscale="log", xlabel=what)
        if not deep:
            axes.set_xscale("log")
    panels[0].set_ylabel("E Θ²/(E Θ)² − 1 (bars: ±2 SE; dotted: exact)")
    panels[0].legend(fontsize=7)
    return figure


def convergence(title: str, n: Numbers) -> Figure:
    """Distances against width on log axes, each with its fit, and a line of slope −1/2."""
    figure, (axes,) = _figure(title, 1, 4.6)
    widths = np.asarray(n["widths"], float)
    error, bars = np.asarray(n["error"], float), np.asarray(n["stderr"], float)
    for k, name in enumerate(n["curves"]):
        label = f"{name}: {n['slope'][k]:.2f} [{n['low'][k]:.2f}, {n['high'][k]:.2f}]".replace("-", "−")
        axes.errorbar(
            widths * 1.02**k, error[k], yerr=2 * bars[k], fmt="o-", markersize=4, capsize=3, linewidth=1, label=label
        )
    axes.plot(
        widths, np.exp(np.log(error * np.sqrt(widths)).mean()) / np.sqrt(widths), "k--", linewidth=1, label="∝ n^(−1/2)"
    )
    _log_widths(axes, widths)
    axes.set_ylabel("|Θ_n − Θ|, relative RMS (bars: ±2 SE)")
    axes.legend(title="exponent [95 % interval]", title_fontsize=8, fontsize=8)
    return figure


def _log_widths(axes: Any, widths: np.ndarray) -> None:
    axes.set(xscale="log", yscale="log", xlabel="width n")
    axes.set_xticks(widths, [f"{w:g}" for w in widths])
    axes.set_xticks([], minor=True)


def drift(title: str, n: Numbers) -> Figure:
    """The drift against width, and at the greatest width against depth, or what else the grid has."""
    grid, widths, times = n["grid"], np.asarray(n["widths"], float), n["times"]
    moved, bars = np.asarray(n["drift"], float), np.asarray(n["stderr"], float)
    figure, panels = _figure(title, 2 if grid else 1, 4.6)
    places = list(np.ndindex(moved.shape[:-2]))
    for k, place in enumerate(places):
        at = ", ".join(f"{name} = {float(v[i]):.3g}" for (name, v), i in zip(grid.items(), place, strict=True))
        for j, (t, style) in enumerate(zip(times, ("o-", "s--", "^:", "v-."), strict=False)):
            colour = f"C{k % 10}" if grid else f"C{j}"
            label = ", ".join(filter(None, (at, f"t = {t}")))
            size, bar = moved[place][:, j], 2 * bars[place][:, j]
            panels[0].errorbar(widths, size, yerr=bar, color=colour, label=label, **{**DOTS, "fmt": style})
    with np.errstate(invalid="ignore"):
        for power, style in ((-1.0, ":"), (-0.75, "-.")):
            scale = np.exp(np.nanmean(np.log(moved.reshape(-1, *moved.shape[-2:])[0, :, 0] * widths**-power)))
            panels[0].plot(
                widths, scale * widths**power, f"k{style}", linewidth=1, label=f"∝ n^({power:g})".replace("-", "−")
            )
    _log_widths(panels[0], widths)
    panels[0].set_ylabel("‖Θ_t − Θ_0‖/‖Θ_0‖ (bars: ±2 SE)")
    panels[0].legend(fontsize=6, **ASIDE)
    if grid:
        _over_grid(panels[1], grid, moved[..., -1, -1], bars[..., -1, -1], f"n = {widths[-1]:g}, t = {times[-1]}")
    return figure


def _over_grid(axes: Any, grid: Mapping[str, Any], value: np.ndarray, bars: np.ndarray, title: str) -> None:
    """Along the last hyperparameter of a grid, a line for each value of the first."""
    names = list(grid)
    x = np.asarray(grid[names[-1]], float)
    for k, place in enumerate(np.ndindex(value.shape[:-1])):
        label = ", ".join(f"{names[0]} = {float(grid[names[0]][i]):.3g}" for i in place)
        axes.errorbar(
            x, value[place], yerr=2 * bars[place], fmt="o-", markersize=4, capsize=2, color=f"C{k}", label=label or None
        )
    axes.set(xlabel=names[-1], yscale="log", title=title)
    if len(names) > 1:
        axes.legend(fontsize=7)


def sensitivity(title: str, n: Numbers) -> Figure:
    """s(t)/max s(t) against time, a line for each curve."""
    figure, (axes,) = _figure(title, 1)
    for k, (name, mean, error) in enumerate(zip(n["curves"], n["sensitivity"], n["stderr"], strict=True)):
        t = np.arange(1, len(mean) + 1)
        axes.errorbar(
            t,
            mean,
            yerr=2 * np.asarray(error),
            fmt="o-",
            markersize=3,
            capsize=2,
            linewidth=1,
            color=f"C{k}",
            label=name,
        )
    axes.set(xlabel="time t", ylabel="s(t)/max s(t) (bars: ±2 SE)", ylim=(0, None))
    axes.legend(fontsize=7)
    return figure


def ntktrain(title: str, n: Numbers) -> Figure:
    """f_t of one network of the least and of the greatest width beside its prediction, and sizes against width."""
    figure, panels = _figure(title, 3, 4.4)
    widths = np.asarray(n["widths"], float)
    ends = sorted({0, len(widths) - 1})
    for axes, k in zip(panels, ends, strict=False):
        f = np.asarray(n["f"][k], float)[0]
        for i in range(min(3, f.shape[1])):
            axes.plot(f[:, i], "o-", markersize=3, linewidth=1, color=f"C{i}", label=f"input {i}")
            if len(n["prediction"]) > k:
                axes.plot(np.asarray(n["prediction"][k], float)[0, :, i], "--", color=f"C{i}", linewidth=1.2)
        axes.set(xlabel="step t", ylabel="f (dashed: kernel gradient descent)", title=f"one network, n = {widths[k]:g}")
        axes.legend(fontsize=7)
    for k, (name, fit) in enumerate(n["exponents"].items()):
        label = f"{name}: {fit['slope']:.2f} [{fit['low']:.2f}, {fit['high']:.2f}]".replace("-", "−")
        bars = 2 * np.asarray(fit["stderr"])
        panels[2].errorbar(widths * 1.02**k, fit["size"], yerr=bars, color=f"C{k}", label=label, **DOTS)
    _log_widths(panels[2], widths)
    panels[2].set_ylabel("size (bars: ±2 SE)")
    if n["exponents"]:
        panels[2].legend(fontsize=6, title="exponent [95 % interval]", title_fontsize=6, **ASIDE)
    return figure


def conditioning(title: str, n: Numbers) -> Figure:
    """κ₁/κ₂, the condition number and the variance after training against depth."""
    figure, panels = _figure(title, 3, 3.8)
    quantities = {"ratio": "κ₁/κ₂", "condition": "condition number", "variance": "variance of trained networks"}
    for axes, (key, label) in zip(panels, quantities.items(), strict=True):
        for k, (name, values, chi) in enumerate(zip(n["curves"], n[key], n["chi"], strict=True)):
            said = f"{name}, χ₁ = {float(chi):.3g}"
            axes.plot(
                n["depths"], np.asarray(values, float), "o-", markersize=3, linewidth=1, color=f"C{k}", label=said
            )
        axes.set(xlabel="depth L", title=label, yscale="log")
    panels[0].legend(fontsize=7)
    return figure


def ucr(title: str, n: Numbers) -> Figure:
    """Test accuracies by data set, a bar for each kernel; lines are what equally good settings reach."""
    sets = n["sets"]
    figure, (axes,) = _figure(title, 1, 4.2)
    figure.set_figwidth(2 + 1.6 * len(sets))
    methods = list(next(iter(sets.values()))["kernels"])
    for k, method in enumerate(methods):
        at = np.arange(len(sets)) + (k - (len(methods) - 1) / 2) * 0.2
        low, value, high = (
            100 * np.array([s["kernels"][method][w] for s in sets.values()]) for w in ("low", "accuracy", "high")
        )
        axes.bar(at, value, 0.18, color=f"C{k}", label=method)
        axes.vlines(at, low, high, color="k", linewidth=1.5)
    axes.set_xticks(range(len(sets)), list(sets), fontsize=8)
    axes.set(ylabel="test accuracy in % (lines: equally good settings)", ylim=(0, 100))
    axes.legend(fontsize=7, **ASIDE)
    return figure


PICTURES: dict[str, Callable[[str, Numbers], Figure]] = {
    "phase": phase,
    "critical": critical,
    "variance": variance,
    "conditioning": conditioning,
    "convergence": convergence,
    "drift": drift,
    "sensitivity": sensitivity,
    "ntktrain": ntktrain,
    "ucr": ucr,
}
