"""What must agree with what, and how far apart it may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tests.random_cases import case as rewriting
from tests.random_cases import paths, plain
from tests.random_cases.case import Case
from tests.random_cases.paths import Outcome, attempt

RTOL = 1e-8
Z = 6.5  # of some 10^5 comparisons none should reach it; one that does is repeated on fresh and more samples

# a way that may refuse where the others answer, and by which errors
MAY_REFUSE: Mapping[str, tuple[str, ...]] = {
    "gram numba": ("NoRuleError",),
    "recursion": ("FoldError",),
    "paths": ("AssumptionError",),
    "enumeration": ("AssumptionError",),
    "sgd": ("AssumptionError",),
    "sampled": ("NoRuleError",),
    "simulated": ("NoRuleError",),
}


@dataclass(frozen=True)
class Fault:
    """Two ways that disagree."""

    case: Case
    what: str
    ways: tuple[str, str]
    found: tuple[Outcome, Outcome]

    @property
    def label(self) -> str:
        """Faults with one label are probably one fault."""
        kinds = [f.kind for f in self.found]
        return f"{self.what}: {self.ways[1]} {kinds[1]} against {self.ways[0]} {kinds[0]}"

    def __str__(self) -> str:
        lines = [f"# seed {self.case.seed}: {self.label}", self.case.script()]
        return "\n".join([*lines, *(f"# {w}: {f}".replace("\n", "\n#  ") for w, f in zip(self.ways, self.found))])


@dataclass
class Report:
    """What checks found."""

    faults: list[Fault] = field(default_factory=list)
    compared: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Take over what another one found."""
        self.faults += other.faults
        self.compared += other.compared
        self.skipped += other.skipped


def scale_of(value: Any) -> Any:
    """The size of each entry of a kernel, √(K_ii K_jj), by which entries are compared."""
    root = np.sqrt(np.abs(np.diag(value)))
    return np.outer(root, root)


def apart(a: Outcome, b: Outcome, rtol: float, scale: Any) -> bool:
    """Whether two values differ by more than the tolerance and what they say of their errors."""
    if not (np.isfinite(a.value).all() and np.isfinite(b.value).all()):
        return not np.array_equal(np.isfinite(a.value), np.isfinite(b.value))
    allowed = rtol * np.maximum(scale, np.abs(a.value)) + 5 * (a.error + b.error) + 1e-300
    return bool((np.abs(a.value - b.value) > allowed).any())


class Comparison:
    """One case: a reference and everything that is held against it."""

    def __init__(self, case: Case, what: str, name: str, way: Callable[[], Any], scale: Any = scale_of,
                 seconds: float = 60.0) -> None:  # fmt: skip
        self.seconds = seconds
        self.case, self.what, self.name, self.report = case, what, name, Report()
        self.reference = attempt(way, seconds)
        self.scale = scale
        if self.reference.refusal is not None:
            self.report.skipped[f"{what} {self.reference.kind}"] += 1
            if not self.reference.named:
                self.fault(name, self.reference)

    def fault(self, name: str, found: Outcome) -> None:
        """Note a disagreement."""
        self.report.faults.append(Fault(self.case, self.what, (self.name, name), (self.reference, found)))

    def hold(self, name: str, way: Callable[[], Any], rtol: float = RTOL, base: str = "") -> None:
        """Compare another way that promises the same digits."""
        if self.reference.kind == "TooDear":
            return
        found = attempt(way, self.seconds)
        allowed = MAY_REFUSE.get(base or name, ())
        if found.refusal is not None and not found.named:
            self.fault(name, found)
        elif found.refusal is not None and found.kind in (*allowed, "TooDear"):
            self.report.skipped[f"{self.what} {name} {found.kind}"] += 1
        elif (found.refusal is None) != (self.reference.refusal is None):
            self.fault(name, found)
        elif found.refusal is None:
            self.report.compared[f"{self.what} {name}"] += 1
            if apart(self.reference, found, rtol, self.scale(self.reference.value)):
                self.fault(name, found)

    def hold_statistics(self, name: str, draw: Callable[[int], Any]) -> None:
        """Compare an estimate (value, standard error, allowance); a large deviation must repeat on more samples."""
        if self.reference.refusal is not None:
            return
        for attempt_number in range(3):
            found = attempt(lambda k=attempt_number: draw(k), self.seconds)
            if found.refusal is not None:
                if found.kind in (*MAY_REFUSE[name], "TooDear"):
                    self.report.skipped[f"{self.what} {name} {found.kind}"] += 1
                else:
                    self.fault(name, found)
                return
            if self._within(found):
                self.report.compared[f"{self.what} {name}"] += 1
                return
        self.report.compared[f"{self.what} {name}"] += 1
        self.fault(name, found)

    def _within(self, found: Outcome) -> bool:
        reference = self.reference
        if not np.isfinite(reference.value).all() or not np.isfinite(found.value).all():
            return False
        small = 1e-9 * np.maximum(self.scale(reference.value), np.abs(reference.value))
        return bool((np.abs(found.value - reference.value) <= Z * found.error + 5 * reference.error + small).all())


# ---- networks ---------------------------------------------------------------------------------------


def check_network(case: Case, every: bool = False, seconds: float = 60.0) -> Report:
    """All comparisons of a network; without ``every``, the dearer ones in turn."""
    report = Report()
    for kind in ("nngp", "ntk"):
        report.add(_check_kernel(case, kind, every, seconds))
    return report


def _check_kernel(case: Case, kind: str, every: bool, seconds: float) -> Report:
    turn = case.seed % 6
    ways = paths.kernel_ways(case, kind)
    comparison = Comparison(case, kind, "K(X)", ways.pop("K(X)"), seconds=seconds)
    dear = {"blocks": 0, "two sets": 1, "reordered": 2, "recursion": 3, "enumeration": 4, "sgd": 5, "gram": 5}
    for name, way in ways.items():
        if name == "recursion" and case.over == "":
            continue
        if every or name not in dear or dear[name] == turn:
            comparison.hold(name, way)
    for k, (name, change) in enumerate(REWRITTEN.items()):
        if every or name == "fused" or k == turn:
            other = change(case)
            comparison.hold(name, lambda other=other: paths.kernel_ways(other, kind)["K(X)"]())
    if every or turn == 4:
        _hold_single(case, kind, comparison)
    if every or turn in (1, 3):
        comparison.hold_statistics("sampled", lambda k: _sampled(case, kind, k))
    if kind == "nngp" and (every or turn in (0, 2)):
        comparison.hold_statistics("simulated", lambda k: _simulated(lambda n, s: plain.kernel(case, n, s), case, k))
    return comparison.report


def _hold_single(case: Case, kind: str, comparison: Comparison) -> None:
    ours, exact = paths.single(case, kind)
    rounded = Comparison(case, kind, "K(X) of float32", exact, seconds=comparison.seconds)
    rounded.hold("gram float32", ours, rtol=1e-5)
    comparison.report.faults += rounded.report.faults
    comparison.report.compared += rounded.report.compared


REWRITTEN: Mapping[str, Callable[[Case], Case]] = {
    "fused": rewriting.fused,
    "renamed": rewriting.renamed,
    "commuted": rewriting.commuted,
}


def _sampled(case: Case, kind: str, k: int) -> Any:
    """Samples, and an allowance for the covariances that are estimated on the same samples: an error of 1/m."""
    samples = 2 ** (13 + 3 * k)
    value, error = paths.sampled(case, kind, k, samples)
    return value, error + 3 * 16 / samples * scale_of(value)


def _simulated(network: Callable[[int, int], Any], case: Case, k: int) -> Any:
    """Two widths and the line in 1/n through them, with its standard error, and how far the line is from the wider."""
    widths, seeds = ((64, 128), (128, 256), (256, 512))[k], (24, 64, 96)[k]
    with np.errstate(all="ignore"):
        runs = [np.array([network(n, 1000 * k + s) for s in range(seeds)]) for n in widths]
    means = [r.mean(0) for r in runs]
    errors = [r.std(0, ddof=1) / np.sqrt(seeds) for r in runs]
    line = 2 * means[1] - means[0]
    return line, np.hypot(2 * errors[1], errors[0]) + np.abs(means[1] - means[0]) / Z
