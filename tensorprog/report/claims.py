"""What a verification found: claims with verdicts, and the figures behind them."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from tensorprog.errors import DataError, shortly, writing
from tensorprog.finite.estimate import Exponent, Extrapolation, within
from tensorprog.given import file_path
from tensorprog.printing import Shown, to_html
from tensorprog.report import verdicts
from tensorprog.report.evidence import Evidence

ROUNDING = 1e-9
SLACK = 0.1  # of an exponent, beside its confidence interval


@dataclass(frozen=True, repr=False)
class Claim(Shown):
    """One thing that was checked; ``passed`` is None where it does not apply, with the reason as detail.

    Attributes:
        name, passed, detail: what is claimed; whether it holds, None where that could not be checked; the figures.
    """

    name: str
    passed: bool | None
    detail: str

    @property
    def verdict(self) -> str:
        """ok, FAILED or n/a."""
        return {True: "ok", False: "FAILED", None: "n/a"}[self.passed]

    def text(self) -> str:
        """The verdict, what was checked, and the figures."""
        return f"{self.verdict:<6} {self.name}  {self.detail}"


@dataclass(repr=False)
class Verification(Shown):
    """The claims checked for a network, with the figures behind them.

    Attributes:
        title, widths, seeds: of what was simulated.
        claims, errors, evidence: with verdicts; fitted exponents of errors by quantity; what the claims are about.
    """

    title: str
    claims: list[Claim] = field(default_factory=list)
    widths: list[int] = field(default_factory=list)
    seeds: int = 0
    errors: dict[str, Exponent] = field(default_factory=dict)
    evidence: Evidence | None = None

    @property
    def passed(self) -> bool:
        """Whether no claim failed."""
        return all(c.passed is not False for c in self.claims)

    def text(self) -> str:
        """A table of claims and verdicts."""
        width = max((len(c.name) for c in self.claims), default=0)
        rows = [f"  {c.verdict:<6} {c.name:<{width}}  {c.detail}" for c in self.claims]
        verdict = "all claims hold" if self.passed else "SOME CLAIM FAILED"
        return "\n".join([f"{self.title}: {verdict} ({self.runs})", *rows])

    @property
    def runs(self) -> str:
        """What was simulated."""
        return f"widths {', '.join(map(str, self.widths))}, {self.seeds} seeds each"

    def save(self, path: str | Path) -> Path:
        """Write the report (.html), the error plot (.png) or the claims (.txt) to a file.

        Raises:
            DataError: another ending, or a file that cannot be written.
        """
        path = file_path(path, "path")
        with writing(path):
            return self._save(path)

    def _save(self, path: Path) -> Path:
        if path.suffix == ".png":
            from tensorprog.report.plots import plot_errors

            plot_errors(self.title, self.widths, self.errors, path)
        elif path.suffix == ".txt":
            path.write_text(self.text() + "\n", encoding="utf-8")
        elif path.suffix == ".html":
            from tensorprog.report.html import page

            path.write_text(page(self), encoding="utf-8")
        else:
            raise DataError(
                f"cannot save a verification as {shortly(path.name)}; use a name ending in .html, .png or .txt"
            )
        return path


to_html.register(Claim, verdicts.claim)
to_html.register(Verification, verdicts.verification)


def claim_within(name: str, fit: Extrapolation, expected: np.ndarray, error: Any = 0.0) -> Claim:
    """Whether runs extrapolate to what is expected, whose own errors count too."""
    return Claim(name, *within(replace(fit, stderr=np.hypot(fit.stderr, error)), expected))
