"""Statistics of finite-width runs: standard errors, extrapolation in 1/n, the exponent of the error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import special

from tensorprog.given import number
from tensorprog.printing import Shown

FAMILY_ERROR = 1e-3
ROUNDING = 1e-10
STILL = 1e-8  # of the largest limit, by which runs that do not fluctuate may differ from it


@dataclass(frozen=True)
class Extrapolation:
    """Limits estimated from means at several widths by mean = limit + a/n, with standard errors."""

    limit: np.ndarray
    stderr: np.ndarray
    degrees: int

    def zscores(self, expected: np.ndarray) -> np.ndarray:
        """(estimate − expected)/stderr; 0 or infinite where nothing fluctuates."""
        difference = self.limit - expected
        scale = STILL / 10 * np.abs(expected).max(initial=0.0)
        still = self.stderr <= scale
        z = difference / np.where(still, 1.0, self.stderr)
        return np.where(still, np.where(np.abs(difference) <= 10 * scale, 0.0, np.inf), z)

    @property
    def threshold(self) -> float:
        """The |z| that all entries stay below with probability 1 − 10⁻³ when they are right; at least 4.

        The degrees of freedom are those of one width: the weights are estimated too, so the sum would be too many.
        """
        quantile = special.stdtrit(self.degrees, 1 - FAMILY_ERROR / (2 * max(1, self.limit.size)))
        return max(4.0, float(quantile))


def extrapolate(widths: list[int], samples: list[np.ndarray], variance: np.ndarray | None = None) -> Extrapolation:
    """Weighted least squares of mean_n = limit + a/n, entry by entry.

    Args:
        widths: two or more different widths (one: its mean is taken as it is).
        samples: per width an array (S, ...) of independent runs, S ≥ 2.
        variance: of the entries of one run, where it is known; else estimated at each width, which is
            biased for skewed entries, since runs that happen to be small then weigh more.

    Returns:
        The intercepts, with the standard errors that the runs' spread implies.
    """
    means = np.stack([s.mean(axis=0) for s in samples])
    spread = [s.var(axis=0, ddof=1) if variance is None else variance for s in samples]
    errors = np.stack([np.sqrt(v / len(s)) for v, s in zip(spread, samples, strict=True)])
    degrees = min(len(s) - 1 for s in samples)
    if len(widths) == 1:
        return Extrapolation(means[0], errors[0], degrees)
    x = (1 / np.asarray(widths, float)).reshape(-1, *([1] * (means.ndim - 1)))
    scale = errors.max(axis=0)
    still = scale <= 1e-150  # nothing fluctuates: the mean is the limit
    w = 1 / np.maximum(np.where(still, 1.0, errors / np.where(still, 1.0, scale)), 1e-6) ** 2
    s0, s1, s2 = w.sum(0), (w * x).sum(0), (w * x * x).sum(0)
    t0, t1 = (w * means).sum(0), (w * x * means).sum(0)
    determinant = s0 * s2 - s1**2
    limit = np.where(still, means[-1], (s2 * t0 - s1 * t1) / determinant)
    return Extrapolation(limit, np.where(still, 0.0, scale * np.sqrt(s2 / determinant)), degrees)


def errors(z: float) -> str:
    """A distance in standard errors, in words."""
    return f"{z:.1f} standard errors" if np.isfinite(z) else "apart, without any fluctuation,"


def bound(above: bool, fit: Extrapolation) -> str:
    """The largest distance that is by chance, in words."""
    return f"{'>' if above else '≤'} {fit.threshold:.2f} (bound at 99.9 % for all)"


def within(fit: Extrapolation, expected: np.ndarray) -> tuple[bool, str]:
    """Whether runs extrapolate to what is expected, and how far they are from it in words."""
    z = np.abs(fit.zscores(expected)).max()
    if np.isfinite(z):
        numbers = f"largest deviation of {expected.size} numbers" if expected.size > 1 else "deviation"
        detail = f"{numbers} {z:.2f} standard errors {bound(z > fit.threshold, fit)}"
    else:
        gap = np.abs(fit.limit - expected).max()
        detail = f"the runs do not fluctuate, and differ from it by up to {gap:.3g} (tolerance {STILL:g} of the limit)"
    return bool(z <= fit.threshold), detail


_WIDER = float(special.ndtri(1 - FAMILY_ERROR / 2) / special.ndtri(0.975))  # from a 95 % interval to 99.9 %


@dataclass(frozen=True, repr=False)
class Exponent(Shown):
    """The fitted p of error ~ n^p, with a 95 % confidence interval, and the errors it was fitted to.

    Where there is no exponent ``missing`` says why, and slope, low and high are nan.

    Attributes:
        slope: p.
        low, high: the ends of its 95 % interval.
        errors, stderrs: what it was fitted to, with standard errors.
        missing: why there is none; None where there is one.
    """

    slope: float
    low: float
    high: float
    errors: np.ndarray
    stderrs: np.ndarray
    missing: str | None = None

    def words(self, expected: float, tolerance: float) -> str:
        """The figures of ``verdict``: the fit, its intervals, and what is asked of them."""
        expected, tolerance = number(expected, "expected"), number(tolerance, "tolerance", 0)
        if self.missing is not None or self.verdict(expected, tolerance) is None:
            return f"fitted exponent {self}"
        low, high = self._wide
        meets = "meets" if self.compatible(expected, tolerance) else "does not meet"
        return f"fitted exponent {self}; [{low:+.3f}, {high:+.3f}] at 99.9 % {meets} {expected:g} ± {tolerance:g}"

    @property
    def _wide(self) -> tuple[float, float]:
        """The 99.9 % confidence interval."""
        low, high = (self.slope + _WIDER * (end - self.slope) for end in (self.low, self.high))
        return low, high

    def compatible(self, expected: float, tolerance: float) -> bool:
        """Whether the 99.9 % confidence interval meets expected ± tolerance: one false alarm in a thousand."""
        expected, tolerance = number(expected, "expected"), number(tolerance, "tolerance", 0)
        low, high = self._wide
        return bool(low <= expected + tolerance and high >= expected - tolerance)

    def verdict(self, expected: float, tolerance: float) -> bool | None:
        """``compatible``, or None without an exponent or where the 95 % interval is wider than 1 and meets anything."""
        compatible = self.compatible(expected, tolerance)
        return compatible if self.high - self.low <= 1 else None

    def text(self) -> str:
        """p with its 95 % interval, and the sizes."""
        return f"size ~ n^p, p = {self}; sizes {', '.join(measured(*pair) for pair in self.sizes)}"

    @property
    def sizes(self) -> list[tuple[float, float]]:
        """The errors it was fitted to, each with its standard error."""
        return [(float(e), float(s)) for e, s in zip(self.errors, self.stderrs, strict=True)]

    def __str__(self) -> str:
        if self.missing is not None:
            return f"none ({self.missing})"
        wide = "" if self.high - self.low <= 1 else ", too wide to decide: more widths or seeds"
        return f"{self.slope:+.3f} [{self.low:+.3f}, {self.high:+.3f}]{wide}"


def measured(value: float, error: float) -> str:
    """A size with its standard error.

    >>> measured(0.0123, 0.0004)
    '1.23e-02 ± 4e-04'
    """
    return f"{value:.2e} ± {error:.0e}"


def exponent(widths: list[int], deviations: list[np.ndarray], resamples: int = 1000, seed: int = 0) -> Exponent:
    """Fit log RMS deviation against log n; the interval is a bootstrap over runs, unbounded for a single run.

    Args:
        widths: two or more widths; there is no exponent at one, nor where a width has no run that is not 0.
        deviations: per width an array (S, ...) of (run − limit), on a common scale.
    """
    rows = [np.abs(np.asarray(d, float)).reshape(len(d), -1) for d in deviations]
    scales = np.array([r.max(initial=0.0) for r in rows])  # squares of very small and very large numbers are none
    missing = _missing(widths, scales)
    if missing is not None:
        with np.errstate(all="ignore"):
            rms = scales * np.array(
                [np.sqrt(np.mean((r / (s or 1.0)) ** 2)) for r, s in zip(rows, scales, strict=True)]
            )
        return Exponent(np.nan, np.nan, np.nan, rms, np.zeros(len(rows)), missing)
    squares = [((r / s) ** 2).mean(axis=1) for r, s in zip(rows, scales, strict=True)]
    rng = np.random.default_rng(seed)
    drawn = np.stack([s[rng.integers(len(s), size=(resamples, len(s)))].mean(axis=1) for s in squares])
    x, sizes = np.log(np.asarray(widths, float)), np.log(scales)
    rms = np.sqrt([s.mean() for s in squares])
    slope = float(_slope(x, np.log(rms) + sizes))
    low, high = -np.inf, np.inf
    if min(map(len, rows)) > 1:
        whole = drawn[:, drawn.all(axis=0)]  # a draw of runs that are all 0 has no logarithm
        low, high = np.quantile(_slope(x, np.log(whole) / 2 + sizes[:, None]), [0.025, 0.975])
    return Exponent(slope, float(low), float(high), rms * scales, np.sqrt(drawn).std(axis=1) * scales)


def _missing(widths: list[int], scales: np.ndarray) -> str | None:
    """Why there is no exponent."""
    if len(set(widths)) < 2:
        return f"one width, {widths[0]}, has no exponent: give two or more"
    for what, wrong in (("not finite", ~np.isfinite(scales)), ("0", scales == 0)):
        if wrong.any():
            where = (
                "every width"
                if wrong.all()
                else "width " + ", ".join(str(w) for w, bad in zip(widths, wrong, strict=True) if bad)
            )
            return f"it is {what} at {where}"
    return None


def vanish(deviations: list[np.ndarray], scale: float = 1.0) -> bool:
    """Whether deviations are 0 up to rounding at every width, so that they have no exponent."""
    return all(np.abs(d).max(initial=0.0) <= ROUNDING * scale for d in deviations)


def _slope(x: np.ndarray, y: np.ndarray) -> Any:
    centred = x - x.mean()
    return np.tensordot(centred, y, axes=1) / (centred**2).sum()
