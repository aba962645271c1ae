"""How results look in a notebook: a form for every class that has more to show than its text.

Classes that stand above this room register theirs where they are defined, with what ``verdicts`` makes.
"""

from __future__ import annotations

from html import escape
from itertools import islice
from typing import Any

import sympy as sp

from tensorprog.algebra import to_sympy
from tensorprog.derivation.kernel_account import KernelAccount
from tensorprog.dsl.network import Network
from tensorprog.dsl.program import Handle, Mat, Scal, Vec
from tensorprog.errors import ProgramError
from tensorprog.finite.estimate import Exponent, measured
from tensorprog.finite.sample import Run
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.listing import definition
from tensorprog.limit.accounts import Account
from tensorprog.limit.accounts import measured as known
from tensorprog.limit.answers import Limit
from tensorprog.passes.parametrization import Classification, Parametrization
from tensorprog.printing import counted, latex, to_html
from tensorprog.report.draw import Drawing
from tensorprog.report.markup import (
    MOST,
    Markup,
    badge,
    box,
    chart,
    drawing,
    folded,
    maths,
    more,
    note,
    table,
    verdicts,
)
from tensorprog.sgd.certificate import Certificate, differing_terms
from tensorprog.sgd.feature_limit import FeatureLimit
from tensorprog.sgd.hypotheses import Hypothesis
from tensorprog.sgd.training import Training

LARGEST = 8  # inputs of a kernel matrix that is shown whole
WHAT = {Vec: "a vector", Mat: "a matrix", Scal: "a scalar"}


# ---- programs and networks -----------------------------------------------------------------------------


@to_html.register
def _(program: ProgramGraph) -> str:
    rows = [[var, definition(op)] for var, op in islice(program, MOST)]
    return box(
        f"program of {counted(len(program), 'instruction')}",
        drawing(program, len(program)) if rows else "",
        table([], rows),
        more(len(program) - len(rows)),
    )


@to_html.register
def _(handle: Handle) -> str:
    size = counted(len(handle.program), "instruction")
    what = f"{WHAT[type(handle)]} of a program of {size}: {definition(handle.program.op(handle.var))}"
    return box(handle, note(what))


@to_html.register
def _(net: Network) -> str:
    rows = [[k, v] for k, v in net.hyperparameters.items()]
    try:
        count = len(net.trace([net.fitting_length()] if net.takes_sequences else [None]).program)
    except ProgramError as error:
        return box(net, note(error))
    lengths = [net.fitting_length()] if net.takes_sequences else None
    inputs = "sequences of vectors" if net.takes_sequences else "vectors"
    return box(net, note(f"takes {inputs}"), table(["hyperparameter", "value"], rows) if rows else "",
               drawing(net, count, lengths=lengths))  # fmt: skip


@to_html.register
def _(picture: Drawing) -> str:
    return picture.svg


# ---- limits and kernels --------------------------------------------------------------------------------


@to_html.register
def _(lim: Limit) -> str:
    found = lim._interpreter.z
    shown = list(found.items())[:MOST]
    rows = [[maths(f"Z^{{{_tex(v)}}}") if v.kind == "vector" else v, maths(to_sympy(z))] for v, z in shown]
    equations = [[maths(e.lhs), maths(e.rhs)] for e in lim.equations[:MOST]]
    return box(
        f"limit of a program of {counted(len(lim.program), 'instruction')}",
        table(["variable", "limit"], rows),
        more(len(found) - len(shown)),
        table(["name", "equation"], equations) if equations else "",
        more(len(lim.equations) - len(equations)),
    )


def _tex(var: Any) -> str:
    return latex(sp.Symbol(var.name))


@to_html.register
def _(account: Account) -> str:
    rows = [[maths(a.atom), known(a.value), known(0.0, a.error).removeprefix("0 "), a.method] for a in account.atoms]
    return box(account.text().splitlines()[0], table(["expectation", "value", "error", "method"], rows, MOST))


@to_html.register
def _(account: KernelAccount) -> str:
    n, m = account.value.shape
    if max(n, m) > LARGEST:
        return box(account)
    cells = [[f"{account.value[i, j]:.8g} ± {account.error[i, j]:.1g}" for j in range(m)] for i in range(n)]
    head = ["", *(f"[:, {j}]" for j in range(m))]
    return box(account, table(head, [[f"[{i}]", *row] for i, row in enumerate(cells)]))


@to_html.register
def _(certificate: Certificate) -> str:
    words = {True: "equal", False: "NOT EQUAL", None: "derived"}
    rows = []
    for r in certificate.rows:
        sign = r"\neq" if r.equal is False else "="
        lines = [maths(r.symbol, sign, to_sympy(r.change) if r.formula is None else r.formula)]
        if r.equal is False and r.prediction is not None:
            lines += [Markup(f"<br/>{escape(line)}") for line in differing_terms(r.change, r.prediction)]
        rows.append([Markup(badge(r.equal, words)), Markup("".join(lines))])
    equations = table([], [[maths(e.lhs), maths(e.rhs)] for e in certificate.equations[:MOST]])
    verdict = badge(certificate.passed, {True: "passed", False: "FAILED", None: "not decided"})
    return box(
        certificate.title,
        verdicts((h.holds, h.name, h.detail) for h in certificate.hypotheses) if certificate.hypotheses else "",
        note(certificate.heading),
        table([], rows, MOST),
        folded("equations", equations),
        verdict=verdict,
    )


@to_html.register
def _(h: Hypothesis) -> str:
    return box(h.name, note(h.detail), verdict=badge(h.holds, {True: "met", False: "NOT MET", None: "assumed"}))


# ---- training ------------------------------------------------------------------------------------------


@to_html.register
def _(run: Training) -> str:
    title, *rest = run.text().splitlines()
    rows = [line.strip().partition(": ")[::2] for line in rest[:-1]]
    return box(title, table([], rows), note(rest[-1].strip()), drawing(run, len(run.program)))


@to_html.register
def _(limit: FeatureLimit) -> str:
    from tensorprog.report.plots import limit_figure

    steps, inputs, heads = limit.f.shape
    head = ["t", *(f"input {i}" for i in range(inputs))]
    rows = [[t if heads == 1 else f"{t}, output {k}", *(limit.shown(t, i, k) for i in range(inputs))]
            for t in range(steps) for k in range(heads)]  # fmt: skip
    title = limit.text().splitlines()[0]
    return box(title, chart(limit_figure(limit)), table(head, rows, MOST))


@to_html.register
def _(found: Classification) -> str:
    return box(f"{found.regime} (r = {found.r})", *(note(reason) for reason in found.reasons))


@to_html.register
def _(p: Parametrization) -> str:
    lines = p.text().splitlines()
    layers = [[x, x.a, x.b, x.c, line.partition(": ")[2]] for x, line in zip(p.layers(), lines[1:], strict=False)]
    rest = lines[1 + len(layers) :]
    return box(lines[0], table(["", "a", "b", "c", "weights"], layers), *(note(line.strip()) for line in rest))


# ---- numbers -------------------------------------------------------------------------------------------


@to_html.register
def _(run: Run) -> str:
    return box(run.title, table([], list(run.rows()), MOST))


@to_html.register
def _(fit: Exponent) -> str:
    sizes = ", ".join(measured(*pair) for pair in fit.sizes)
    return box(Markup(f"size ~ n<sup>p</sup>, p = {fit}"), note(f"sizes {sizes}"))


def spectrum(found: Any) -> str:
    """The eigenvalues of a kernel matrix, as a box; for ``learn``."""
    from tensorprog.report.plots import spectrum_figure

    title, *rest = found.text().splitlines()
    return box(title, *(note(line.strip()) for line in rest), chart(spectrum_figure(found.values, found.tolerance)))


def facts(found: Any) -> str:
    """The lines of a text as a box: the first is the title; one with a colon is a row of a table."""
    title, *rest = found.text().splitlines()
    rows = [line.strip().partition(": ")[::2] for line in rest]
    return box(title, table([], rows) if rows else "")


def dynamics(found: Any) -> str:
    """Training dynamics: what they are of, and the eigenvalues, each of which is the speed of a direction."""
    from tensorprog.report.plots import spectrum_figure

    title, *rest = found.text().splitlines()
    picture = chart(spectrum_figure(found.spectrum.values, found.spectrum.tolerance))
    return box(title, *(note(line.strip()) for line in rest), picture)
