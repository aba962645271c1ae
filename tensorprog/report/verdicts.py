"""How verifications, training runs and coordinate checks look in a notebook: verdicts, figures, and their picture."""

from __future__ import annotations

from typing import Any

from tensorprog.report.chart import convergence_chart, error_chart
from tensorprog.report.markup import MOST, badge, box, chart, note, pictures, table, verdicts

HOLDS = {True: "all claims hold", False: "SOME CLAIM FAILED", None: "nothing was compared"}


def claim(c: Any) -> str:
    """One claim."""
    return box("", verdicts([(c.passed, c.name, c.detail)]))


def verification(v: Any) -> str:
    """Claims, and the runs against the limit."""
    charts = [error_chart(v.widths, name, fit) for name, fit in v.errors.items() if fit.missing is None]
    runs = {} if v.evidence is None else v.evidence.runs
    charts += [convergence_chart(name, limit, found, v.widths) for name, (limit, found) in runs.items()]
    return box(
        v.title,
        note(v.runs),
        _claims(v),
        pictures(c.svg() for c in charts),
        verdict=badge(v.passed, HOLDS),
    )


def training(report: Any) -> str:
    """Claims, trajectories of all widths, and the exponents of their errors."""
    from tensorprog.report.plots import trajectories_figure

    figure = chart(trajectories_figure(report.title, report.f, report.prediction)) if report.f else ""
    return _report(report, figure)


def features(report: Any) -> str:
    """Claims, f_t at every width beside its limit, and the exponents of their distance."""
    from tensorprog.report.plots import comparison_figure

    head = ["t", "input", "n = ∞", *(f"n = {w}" for w in report.widths)]
    said = note(f"f, limit by {report.limit.how} and mean over seeds (± standard error):")
    figure = chart(comparison_figure(report)) if report.f else ""
    return _report(report, figure, said, table(head, report.rows(), MOST))


def _report(report: Any, figure: str, *more: str) -> str:
    from tensorprog.report.plots import exponents_figure

    sizes = [[name, *(f"{e:.2e} ± {s:.0e}" for e, s in fit.sizes)] for name, fit in report.named_errors.items()]
    exponents = exponents_figure("", report.widths, report.named_errors) if sizes else None
    return box(
        report.heading,
        verdicts((h.holds, h.name, h.detail) for h in report.hypotheses) if report.hypotheses else "",
        _claims(report),
        figure,
        "" if exponents is None else chart(exponents),
        table(["size (± standard error)", *(f"n = {w}" for w in report.widths)], sizes) if sizes else "",
        *more,
        verdict=badge(report.passed, HOLDS),
    )


def coordinates(check: Any) -> str:
    """Sizes with their exponents, and against width."""
    from tensorprog.report.plots import coordinates_figure

    ends = [f"at n = {check.widths[k]}" for k in (0, -1)]
    head = ["parametrization", "quantity", "p", *ends]
    return box(check.heading, table(head, check.rows(), MOST), *(note(n) for n in check.notes),
               chart(coordinates_figure(check)) if check.sizes else "")  # fmt: skip


def _claims(result: Any) -> str:
    return verdicts((c.passed, c.name, c.detail) for c in result.claims)
