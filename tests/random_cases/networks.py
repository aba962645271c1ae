"""What a network is held against."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from tests.random_cases import case as rewriting
from tests.random_cases import paths, plain
from tests.random_cases.case import Case
from tests.random_cases.compare import Comparison, Effort, Report, scale_of, two_widths


def check_network(case: Case, effort: Effort | None = None) -> Report:
    """All comparisons of a network.

    The NTK holds the terms of the NNGP kernel, which is looked at by itself every other time and where there is no NTK.
    """
    effort, report = effort or Effort(), Report()
    only = effort.only[0] if effort.only else ""
    if not only or only.startswith("ntk"):
        report.add(_check_kernel(case, "ntk", effort))
    refused = any(reason.startswith("ntk: ") for reason in report.skipped)
    if only.startswith("nngp") or (not only and (effort.every or case.seed % 2 == 0 or refused)):
        report.add(_check_kernel(case, "nngp", effort))
    if not only or only == "finite":
        report.add(_check_finite(case, effort))
    return report


def _check_finite(case: Case, effort: Effort) -> Report:
    """One network of moderate width: outputs and derivatives of the package against autograd on the text."""
    comparison = Comparison(
        case, "finite", "autograd", lambda: paths.by_autograd(case), effort, lambda v: _norm(v, case)
    )
    for name in ("program", "layerwise"):
        comparison.hold(name, lambda name=name: paths.finite(case, name))
    return comparison.report


def _norm(value: Any, case: Case) -> Any:
    n = len(case.X)
    theta = value[n:].reshape(n, n)
    return np.concatenate([np.full(n, np.abs(value[:n]).max()), np.full(n * n, np.abs(theta).max())])


def _check_kernel(case: Case, kind: str, effort: Effort) -> Report:
    turn = case.seed % 6
    ways = paths.kernel_ways(case, kind)
    comparison = Comparison(case, kind, "K(X)", ways.pop("K(X)"), effort)
    for name, way in ways.items():
        if name != "recursion" or case.over:
            comparison.hold(name, way, turn in TURNS.get(name, (turn,)))
    for k, (name, change) in enumerate(REWRITTEN.items()):
        rewritten = lambda change=change: paths.kernel_ways(change(case), kind)["K(X)"]()  # noqa: E731
        comparison.hold(name, rewritten, name == "fused" or k == turn)
    larger = replace(case, data=(LARGER * case.X).tolist())
    for name, (draw, turns) in STATISTICS.items():
        rounding = (lambda: paths.rounding(case, kind)) if name == "sampled" else None
        comparison.hold_statistics(
            name,
            lambda k, draw=draw: draw(case, kind, k),
            turn in turns,
            rounding,
            lambda draw=draw: draw(larger, kind, 0)[0],
        )
    if effort.wants(f"{kind} single", "gram float32", turn == 4):
        ours, exact = paths.single(case, kind)
        rounded = Comparison(case, f"{kind} single", "K(X)", exact, effort)
        rounded.hold("gram float32", ours, rtol=SINGLE)
        comparison.report.add(rounded.report)
    return comparison.report


SINGLE = 1e-5  # inner products are rounded to 6e-8, which some layers and powers multiply
TURNS = {"blocks": (0,), "two sets": (1,), "reordered": (2,), "recursion": (3,), "paths": (1, 4), "enumeration": (4,),
         "sgd": (5,), "gram": (5,)}  # fmt: skip
SIMULATED: Mapping[str, Callable[[Case], Any]] = {
    "nngp": lambda case: lambda n, seeds: np.array([plain.kernel(case, n, s) for s in seeds]),
    "ntk": lambda case: lambda n, seeds: paths.empirical(case, n, seeds),
}
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


def _sampling(case: Case, kind: str, k: int) -> Any:
    """The same of the sampling kernels."""
    samples = 2 ** (13 + 3 * k)
    value, error = paths.sampling_kernel(case, kind, k, samples)
    return value, error + 3 * 16 / samples * scale_of(value)


def _simulated(case: Case, kind: str, k: int) -> Any:
    """The line through finite networks of two widths."""
    return two_widths(SIMULATED[kind](case), k)


LARGER = 100.0
STATISTICS = {"sampled": (_sampled, (1, 3, 5)), "sampling": (_sampling, (1, 5)), "simulated": (_simulated, (0, 2, 4))}
