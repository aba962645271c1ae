"""One case by its seed: made, checked, and made smaller where it fails."""

from __future__ import annotations

import time
import traceback
import warnings
from typing import Any

from tests.random_cases import generate, hold_layers
from tests.random_cases.case import Case
from tests.random_cases.compare import Effort, Fault, Report
from tests.random_cases.networks import check_network
from tests.random_cases.programs import check_program
from tests.random_cases.shrink import shrink


def made(kind: str, seed: int) -> Case:
    """The case of a seed."""
    return generate.network(seed) if kind == "net" else generate.program(seed)


def check(case: Case, effort: Effort | None = None) -> Report:
    """All comparisons of a case."""
    with warnings.catch_warnings():  # each way listens for itself
        warnings.simplefilter("ignore")
        return check_network(case, effort) if case.kind == "net" else check_program(case, effort)


def smallest(fault: Fault, seconds: float = 40.0) -> Fault:
    """The same fault in a smaller case."""
    effort = Effort(only=(fault.what, fault.ways[1]), seconds=5.0)
    found = [fault]

    def fails(case: Case) -> bool:
        same = [f for f in check(case, effort).faults if f.label == fault.label]
        found.extend(same[:1])
        return bool(same)

    shrink(fault.case, fails, seconds)
    return found[-1]


def examine(kind: str, seed: int, seconds: float = 15.0, smaller: float = 40.0) -> dict[str, Any]:
    """What was compared and refused, and the faults with their smallest cases."""
    start = time.process_time()
    report = check(made(kind, seed), Effort(seconds=seconds))
    first = {fault.label: fault for fault in reversed(report.faults)}
    faults = [{"label": f.label, "text": str(smallest(f, smaller))} for f in first.values()]
    counts = {name: dict(getattr(report, name)) for name in ("cases", "compared", "skipped")}
    return {"kind": kind, "seed": seed, "seconds": round(time.process_time() - start, 3), **counts, "faults": faults}


def task(arguments: tuple[str, int, float]) -> dict[str, Any]:
    """``examine`` in one argument; what goes wrong in the checks themselves is a fault too."""
    kind, seed, seconds = arguments
    if kind == "layers":
        return hold_layers.record(seed, seconds)
    try:
        return examine(kind, seed, seconds)
    except Exception:
        text = f"# seed {seed}\n{made(kind, seed).script()}\n{traceback.format_exc()}"
        faults = [{"label": f"{kind}: the check itself failed", "text": text}]
        return {"kind": kind, "seed": seed, "seconds": 0, "cases": {}, "compared": {}, "skipped": {}, "faults": faults}
