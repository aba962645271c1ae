"""Charts of finite-width runs as scenes: errors against width, and each kernel entry against its limit."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from tensorprog.finite.estimate import Exponent
from tensorprog.report.scene import ASCENT, DESCENT, Circle, Path, Scene, Shape, Style, Text

WIDTH, HEIGHT = 420.0, 270.0
LEFT, RIGHT, TOP, BOTTOM = 62.0, 14.0, 30.0, 44.0
SIZE = 10.0
MOST_ENTRIES = 6
_GRID = Style("faint", None, 0.35)


class _Axes:
    """A frame with x = width on a log axis, and y mapped by ``scale``."""

    def __init__(self, title: str, widths: Sequence[int], low: float, high: float, ylabel: str) -> None:
        self.scene = Scene(WIDTH, HEIGHT, title=title)
        self.low, self.high = low, high
        first, last = math.log(min(widths)), math.log(max(widths))
        pad = 0.12 * (last - first)
        self._x = (first - pad, last + pad)
        for w in widths:
            self.line((self.x(w), TOP), (self.x(w), HEIGHT - BOTTOM), _GRID)
            self.text(self.x(w), HEIGHT - BOTTOM + 15, f"{w}")
        self.text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, "width n")
        self.text(LEFT - 50, TOP - 13, ylabel, "start")

    def x(self, width: float) -> float:
        a, b = self._x
        return LEFT + (math.log(width) - a) / (b - a) * (WIDTH - LEFT - RIGHT)

    def y(self, value: float) -> float:
        return HEIGHT - BOTTOM - (value - self.low) / (self.high - self.low) * (HEIGHT - TOP - BOTTOM)

    def add(self, shape: Shape) -> None:
        self.scene.add([shape])

    def line(self, a: tuple[float, float], b: tuple[float, float], style: Style) -> None:
        self.add(Path((("M", a), ("L", b)), style))

    def text(self, x: float, y: float, string: str, anchor: str = "middle", colour: str = "faint") -> None:
        self.add(Text(x, y, string, SIZE, anchor, colour))

    def tick(self, value: float, label: str) -> None:
        y = self.y(value)
        self.line((LEFT, y), (WIDTH - RIGHT, y), _GRID)
        self.text(LEFT - 6, y + (ASCENT - DESCENT) / 2 * SIZE, label, "end")

    def point(self, x: float, low: float, middle: float, high: float, colour: str) -> None:
        """A dot with its error bar, cut where the frame ends."""
        low, high = max(low, self.low), min(high, self.high)
        self.line((x, self.y(low)), (x, self.y(high)), Style(colour, None, 1.4))
        self.add(Circle(x, self.y(middle), 3.0, Style(colour, colour, 1.0)))


def error_chart(widths: Sequence[int], name: str, fit: Exponent) -> Scene:
    """RMS error against width on log axes, with ±2 SE and the n^(−1/2) line."""
    log = np.log10
    centre = log(fit.errors).mean() + 0.5 * log(widths).mean()
    bars = [(log(max(e - 2 * s, e / 30)), log(e), log(e + 2 * s)) for e, s in zip(fit.errors, fit.stderrs, strict=True)]
    low = min([b[0] for b in bars] + [centre - 0.5 * log(max(widths))]) - 0.08
    high = max([b[2] for b in bars] + [centre - 0.5 * log(min(widths))]) + 0.08
    axes = _Axes(f"error of the {name} against width", widths, low, high, f"RMS relative error of the {name}")
    for decade in range(math.floor(low), math.ceil(high) + 1):
        for digit in (1, 2, 5):
            if low <= decade + log(digit) <= high:
                axes.tick(decade + log(digit), f"{digit * 10.0**decade:.3g}")
    ends = [(axes.x(w), axes.y(centre - 0.5 * log(w))) for w in (min(widths), max(widths))]
    axes.line(ends[0], ends[1], Style("faint", None, 1.4, dash=True))
    axes.text(WIDTH - RIGHT, TOP - 13, "dashed: ∝ n^(−1/2)", "end")
    for w, bar in zip(widths, bars, strict=True):
        axes.point(axes.x(w), *bar, "p")
    return axes.scene


def convergence_chart(name: str, limit: np.ndarray, runs: Sequence[np.ndarray], widths: Sequence[int]) -> Scene:
    """(mean of the runs − limit)/‖limit‖_max against width, with ±2 SE, for the first entries of a kernel."""
    scale = float(np.abs(limit).max()) or 1.0
    pairs = [(i, j) for i in range(len(limit)) for j in range(i, len(limit))][:MOST_ENTRIES]
    means = np.array([[(r[:, i, j].mean() - limit[i, j]) / scale for i, j in pairs] for r in runs])
    errors = np.array([[2 * r[:, i, j].std(ddof=1) / math.sqrt(len(r)) / scale for i, j in pairs] for r in runs])
    reach = float(np.max(np.abs(means) + errors)) * 1.06 or 1.0
    axes = _Axes(f"{name}: runs against the limit", widths, -reach, reach, f"{name}: (mean of runs − limit)/scale")
    step = 10.0 ** math.floor(math.log10(reach))
    step *= next(k for k in (0.25, 0.5, 1.0, 2.0, 5.0) if reach / (k * step) <= 3.5)
    for k in range(-int(reach / step), int(reach / step) + 1):
        axes.tick(k * step, f"{k * step:.3g}".replace("-", "−") if k else "0")
    axes.line((LEFT, axes.y(0)), (WIDTH - RIGHT, axes.y(0)), Style("ink", None, 1.2))
    for row, error, w in zip(means, errors, widths, strict=True):
        for k, (mean, e) in enumerate(zip(row, error, strict=True)):
            shift = (k - (len(pairs) - 1) / 2) * 5
            axes.point(axes.x(w) + shift, mean - e, mean, mean + e, "p" if pairs[k][0] == pairs[k][1] else "q")
    return axes.scene
