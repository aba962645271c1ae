"""What a program is held against: the means, second moments and scalars of its limit."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

import tensorprog as tp
from tests.random_cases import case as rewriting
from tests.random_cases import plain
from tests.random_cases.case import Case
from tests.random_cases.compare import ROUNDING, RTOL, Comparison, Effort, Report, two_widths

Array = Any
WIDTH = 24


def pairs(count: int) -> list[tuple[int, int]]:
    """i ≤ j."""
    return [(i, j) for i in range(count) for j in range(i, count)]


def derived(program: Any, variables: Mapping[str, Any], case: Case) -> tuple[Array, Callable[[], Array]]:
    """Means, covariances and scalars by the limit, with the errors it claims."""
    lim, values = tp.limit(program), case.symbols
    vectors, scalars = case.asked
    x = [variables[n] for n in vectors]
    questions = [lim.mean(v) for v in x] + [lim.cov(x[i], x[j]) for i, j in pairs(len(x))]
    questions += [lim.value(variables[n]) for n in scalars]
    errors = lambda: np.array([float(lim.account(q, values).error) for q in questions])  # noqa: E731
    return np.array([lim.evaluate(q, values) for q in questions]), errors


def of_text(case: Case, original: Case | None = None) -> tuple[Array, Any]:
    """The limit of the program as it is written; with what is asked of another way to write it."""
    return derived(*case.program(), original or case)


def canonical(case: Case) -> tuple[Array, Any]:
    """The limit of the canonical form."""
    program, variables = case.program()
    small, mapping = tp.canonicalize(program)
    return derived(small, {n: mapping[v.var] for n, v in variables.items() if v.var in mapping}, case)


def reread(case: Case) -> tuple[Array, Any]:
    """The limit of what is read from its JSON."""
    program, variables = case.program()
    return derived(tp.Program.from_json(program.to_json()), {n: v.var for n, v in variables.items()}, case)


def sampled(case: Case, seed: int, samples: int) -> tuple[Array, Array]:
    """The limit by its sampling interpreter, with standard errors."""
    program, variables = case.program()
    lim = tp.limit(program, method="sampling", samples=samples, seed=seed, values=case.symbols)
    vectors, scalars = case.asked
    x = [variables[n] for n in vectors]
    answers = [lim.mean(v) for v in x] + [lim.cov(x[i], x[j]) for i, j in pairs(len(x))]
    answers += [lim.value(variables[n]) for n in scalars]
    return np.array([float(a) for a in answers]), np.array([lim.stderr(a) for a in answers])


def simulated(case: Case, width: int, seeds: list[int]) -> Array:
    """The statistics of programs at finite width, (S, ..)."""
    return np.array([statistics(plain.variables(case, width, s), case) for s in seeds])


def statistics(values: Mapping[str, Any], case: Case) -> Array:
    """The same of arrays of one program at finite width."""
    vectors, scalars = case.asked
    x = [np.asarray(values[n], float) for n in vectors]
    means = [v.mean() for v in x]
    covariances = [np.mean(x[i] * x[j]) - means[i] * means[j] for i, j in pairs(len(x))]
    return np.array([*means, *covariances, *(values[n] for n in scalars)], float)


def scale(value: Array, case: Case) -> Array:
    """The sizes by which entries are compared: roots of second moments, and for scalars the largest of all."""
    n = len(case.asked[0])
    means, cov = value[:n], dict(zip(pairs(n), value[n : n + n * (n + 1) // 2], strict=True))
    root = np.sqrt(np.abs([cov[i, i] + means[i] ** 2 for i in range(n)]))
    size = np.array([*root, *(root[i] * root[j] for i, j in pairs(n))])
    most = np.max(np.abs(value), initial=1.0)
    return np.concatenate([np.maximum(size, ROUNDING / RTOL * most), np.full(len(value) - len(size), most)])


def finite(case: Case) -> tuple[Array, Array]:
    """Every variable at finite width as the package runs it, and by the text in NumPy on the same draws."""
    program, variables = case.program()
    run = tp.sample(program, width=WIDTH, seed=case.seed, values=case.symbols)
    ours = {n: run[v] for n, v in variables.items()}
    theirs = plain.on_draws(case, ours)
    names = [n for n, kind in case.kinds().items() if kind != "m"]
    return [np.atleast_1d(ours[n]) for n in names], [np.broadcast_to(theirs[n], np.shape(ours[n])) for n in names]


def check_program(case: Case, effort: Effort | None = None) -> Report:
    """All comparisons of a program."""
    effort, turn, report = effort or Effort(), case.seed % 6, Report()
    if effort.only is None or effort.only[0] == "limit":
        comparison = Comparison(case, "limit", "derived", lambda: of_text(case), effort, lambda v: scale(v, case))
        for k, (name, change) in enumerate(REWRITTEN.items()):
            rewritten = lambda change=change: of_text(change(case), case)  # noqa: E731
            comparison.hold(name, rewritten, name == "fused" or k == turn)
        comparison.hold("canonical", lambda: canonical(case), turn in (2, 5))
        comparison.hold("json", lambda: reread(case), turn == 3)
        comparison.hold_statistics("sampled", lambda k: _sampled(case, k))
        draw = lambda k: two_widths(lambda n, seeds: simulated(case, n, seeds), k)  # noqa: E731
        comparison.hold_statistics("simulated", draw, turn in (0, 3))
        report.add(comparison.report)
    if effort.only is None or effort.only[0] == "finite":
        run = Comparison(case, "finite", "NumPy", lambda: _joined(finite(case)[1]), effort, lambda v: 1 + np.abs(v))
        run.hold("sample", lambda: _joined(finite(case)[0]), rtol=1e-9)
        report.add(run.report)
    return report


def _joined(arrays: list[Array]) -> Array:
    return np.concatenate([np.ravel(a) / (np.max(np.abs(a), initial=0) or 1) for a in arrays])


def _sampled(case: Case, k: int) -> tuple[Array, Array]:
    """Samples, and an allowance for what is estimated on the samples themselves: an error of 1/m."""
    samples = 2 ** (13 + 3 * k)
    value, error = sampled(case, k, samples)
    return value, error + 48 / samples * scale(value, case)


REWRITTEN: Mapping[str, Callable[[Case], Case]] = {
    "fused": rewriting.fused,
    "renamed": rewriting.renamed,
    "commuted": rewriting.commuted,
}
