"""What must agree with what, and how far apart it may be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tensorprog.errors import DataError
from tests.random_cases.case import Case
from tests.random_cases.paths import Outcome, Z, attempt

RTOL = 1e-8
ROUNDING = 1e-15

# a way that may refuse where the others answer, and by which errors
MAY_REFUSE: Mapping[str, tuple[str, ...]] = {
    "gram numba": ("NoRuleError",),
    "recursion": ("FoldError", "ProgramError"),
    "paths": ("AssumptionError",),
    "enumeration": ("AssumptionError",),
    "sgd": ("AssumptionError",),
    "sampled": ("NoRuleError", "AssumptionError"),
    "sampling": ("NoRuleError", "AssumptionError"),
    "simulated": ("NoRuleError", "AssumptionError"),
    "program": ("NoRuleError", "AssumptionError"),
    "layerwise": ("NoRuleError", "AssumptionError"),
}

# ways that compute exactly or not at all: where K(X) itself is an estimate they may say so
EXACT_ONLY: Mapping[str, tuple[str, ...]] = dict.fromkeys(
    ("paths", "enumeration", "sgd"), ("NoRuleError", "AccuracyError")
)


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
        return "\n".join(
            [*lines, *(f"# {w}: {f}".replace("\n", "\n#  ") for w, f in zip(self.ways, self.found, strict=True))]
        )


@dataclass
class Report:
    """What checks found."""

    faults: list[Fault] = field(default_factory=list)
    cases: Counter[str] = field(default_factory=Counter)
    compared: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)

    def add(self, other: Report) -> None:
        """Take over what another one found."""
        self.faults += other.faults
        self.cases += other.cases
        self.compared += other.compared
        self.skipped += other.skipped


def scale_of(value: Any) -> Any:
    """The size of each entry of a kernel, √(K_ii K_jj), by which entries are compared, and rounding where one is 0."""
    root = np.sqrt(np.abs(np.diag(value)))
    return np.maximum(np.outer(root, root), ROUNDING / RTOL * np.max(root, initial=0) ** 2)


def apart(a: Outcome, b: Outcome, rtol: float, scale: Any) -> bool:
    """Whether two values differ by more than the tolerance and what they say of their errors."""
    if not (np.isfinite(a.value).all() and np.isfinite(b.value).all()):
        return not np.array_equal(np.isfinite(a.value), np.isfinite(b.value))
    allowed, distance = rtol * np.maximum(scale, np.abs(a.value)) + 1e-300, np.abs(a.value - b.value)
    return bool((distance > allowed).any() and (distance > allowed + a.error + b.error).any())


@dataclass(frozen=True)
class Effort:
    """How much is compared.

    Attributes:
        every: all ways; else the dearer ones in turn.
        only: nothing but this pair (what, way), when a case is made smaller.
        seconds: of processor time that one way may take.
    """

    every: bool = False
    only: tuple[str, str] | None = None
    seconds: float = 60.0

    def wants(self, what: str, name: str, turn: bool = True) -> bool:
        """Whether this comparison is to be made."""
        return (what, name) == self.only if self.only else self.every or turn


SMALL = 1e-9  # of the size, beside standard errors
RARE = 1e-5  # of the size: below it a difference from samples without spread is no verdict, as of max(u, 5)


class Comparison:
    """One case: a reference and everything that is held against it."""

    def __init__(self, case: Case, what: str, name: str, way: Callable[[], Any], effort: Effort,
                 scale: Any = scale_of) -> None:  # fmt: skip
        self.effort, self.seconds = effort, effort.seconds
        self.case, self.what, self.name, self.report = case, what, name, Report()
        self.reference = attempt(way, self.seconds)
        self.scale = scale
        self.report.cases[what] += 1
        if self.reference.refusal is not None:
            self.report.skipped[f"{what}: {self.reference.reason}"] += 1
            if not self.reference.named and effort.wants(what, name):
                self.fault(name, self.reference)

    @property
    def nothing(self) -> bool:
        """Whether the reference took too long or broke, so that there is nothing to compare with."""
        return self.reference.refusal is not None and (self.reference.kind == "TooDear" or not self.reference.named)

    def fault(self, name: str, found: Outcome) -> None:
        """Note a disagreement."""
        self.report.faults.append(Fault(self.case, self.what, (self.name, name), (self.reference, found)))

    def hold(self, name: str, way: Callable[[], Any], turn: bool = True, rtol: float = RTOL) -> None:
        """Compare another way that promises the same digits, when it is its turn."""
        if self.nothing or not self.effort.wants(self.what, name, turn):
            return
        found = attempt(way, self.seconds)
        if found.overflow and self._no_number:
            self.report.skipped[f"{self.what} {name}: overflow, and no number to compare with"] += 1
        elif found.refusal is not None and not found.named:
            self.fault(name, found)
        elif self._may_refuse(name, found):
            self.report.skipped[f"{self.what} {name}: {found.reason}"] += 1
        elif (found.refusal is None) != (self.reference.refusal is None):
            self.fault(name, found)
        elif found.refusal is None:
            self.report.compared[f"{self.what} {name}"] += 1
            if apart(self.reference, found, rtol, self.scale(self.reference.value)):
                self.fault(name, found)

    def _may_refuse(self, name: str, found: Outcome) -> bool:
        if found.kind in (*MAY_REFUSE.get(name, ()), "TooDear"):
            return True
        return found.kind in EXACT_ONLY.get(name, ()) and self._estimated

    @property
    def _no_number(self) -> bool:
        return self.reference.refusal is None and not np.isfinite(self.reference.value).all()

    @property
    def _estimated(self) -> bool:
        """Whether the reference itself had to be estimated and says so."""
        return self.reference.refusal is None and bool(np.any(self.reference.error > RTOL * self._size))

    def hold_statistics(self, name: str, draw: Callable[[int], Any], turn: bool = True,
                        rounding: Callable[[], Any] | None = None,
                        larger: Callable[[], Any] | None = None) -> None:  # fmt: skip
        """Compare an estimate (value, standard error); a large deviation must repeat on more samples.

        ``rounding`` is what the last digit of every variable does to samples, which are compared to no more than that;
        ``larger`` the estimate at larger inputs, where events happen that are rare here.
        """
        if self.nothing or not self.effort.wants(self.what, name, turn):
            return
        if self.reference.refusal is not None:
            self._hold_refusal(name, draw)
            return
        if self.case.wild:
            self.report.skipped[f"{self.what} {name}: no usable standard errors where rare events matter"] += 1
            return
        for attempt_number in range(3):
            found = attempt(lambda k=attempt_number: draw(k), self.seconds)
            if found.refusal is not None:
                if found.kind in (*MAY_REFUSE[name], "TooDear"):
                    self.report.skipped[f"{self.what} {name}: {found.reason}"] += 1
                else:
                    self.fault(name, found)
                return
            if self._within(found):
                self.report.compared[f"{self.what} {name}"] += 1
                return
        if self._within(found, np.where(found.error <= SMALL * self._size, RARE, SMALL)):
            self.report.skipped[f"{self.what} {name}: equal samples have seen no rare event"] += 1
            return
        if larger is not None and self._unseen(found, larger):
            self.report.skipped[f"{self.what} {name}: samples of 0 have seen no rare event"] += 1
            return
        rounded = attempt(rounding, self.seconds) if rounding is not None else Outcome(0.0)
        if rounded.refusal is None and self._within(replace(found, stated=found.error + rounded.value)):
            self.report.skipped[f"{self.what} {name}: samples are rounded beside terms that cancel"] += 1
            return
        self.report.compared[f"{self.what} {name}"] += 1
        self.fault(name, found)

    def _hold_refusal(self, name: str, draw: Callable[[int], Any]) -> None:
        """Data are refused where there is no number: then there are no samples either.

        At a constant 0 a derivative that jumps there is a convention, which samples have and a limit has not.
        """
        constant = "variance 0" in str(self.reference.refusal)
        if isinstance(self.reference.refusal, DataError) and not constant and not self.case.wild:
            found = attempt(lambda: draw(0), self.seconds)
            self.report.compared[f"{self.what} {name}"] += 1
            if found.refusal is None and np.isfinite(found.value).all():
                self.fault(name, found)

    def _unseen(self, found: Outcome, larger: Callable[[], Any]) -> bool:
        """Whether samples are 0 throughout where the reference is that of an event too rare for them.

        Then it is small, and samples at larger inputs, where the event is not rare, are not 0.
        """
        reference = self.reference
        if not np.isfinite(reference.value).all() or not np.isfinite(found.value).all():
            return False
        value, error = np.broadcast_arrays(found.value, found.error)
        unit = max(1.0, float(np.max(np.abs(reference.value), initial=0.0)))
        blind = (value == 0) & (error == 0) & (np.abs(reference.value) <= RARE * unit)
        seen = replace(found, value=np.where(blind, reference.value, value))
        if not (blind.any() and self._within(seen)):
            return False
        there = attempt(larger, self.seconds)
        return there.refusal is None and bool((np.broadcast_to(there.value, value.shape)[blind] != 0).all())

    @property
    def _size(self) -> Any:
        return np.maximum(self.scale(self.reference.value), np.abs(self.reference.value))

    def _within(self, found: Outcome, small: Any = SMALL) -> bool:
        reference = self.reference
        if not np.isfinite(reference.value).all() or not np.isfinite(found.value).all():
            return False
        allowed, distance = Z * found.error + small * self._size, np.abs(found.value - reference.value)
        return bool((distance <= allowed).all() or (distance <= allowed + reference.error).all())


def two_widths(draw: Callable[[int, list[int]], Any], k: int) -> Any:
    """Two widths and the line in 1/n through them, with its standard error, and how far the line is from the wider.

    Args:
        draw: width and seeds ↦ array (S, ..).
        k: how often the result was doubted: networks are wider and more with it.
    """
    widths, count = ((64, 128), (128, 256), (256, 512))[k], (24, 64, 96)[k]
    seeds = [1000 * k + s for s in range(count)]
    with np.errstate(all="ignore"):
        runs = [np.asarray(draw(n, seeds)) for n in widths]
    means = [r.mean(0) for r in runs]
    errors = [r.std(0, ddof=1) / np.sqrt(count) for r in runs]
    line = 2 * means[1] - means[0]
    return line, np.hypot(2 * errors[1], errors[0]) + np.abs(means[1] - means[0]) / Z
