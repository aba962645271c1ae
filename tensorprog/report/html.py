"""The report of a verification: one page that needs no network and no script.

What is claimed and whether it held comes first; then the numbers, the runs, the architecture with its picture, the
formulas, the coordinate distributions with the origin of every Ż, and everything needed to do it again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import inspect
import platform
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from tensorprog.dsl.parts import Parts
from tensorprog.errors import AssumptionError, DataError, NoRuleError, ProgramError
from tensorprog.finite.estimate import extrapolate
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp
from tensorprog.report.chart import convergence_chart, error_chart
from tensorprog.report.draw import draw
from tensorprog.report.mathml import equation, formula, prose
from tensorprog.report.origins import Row, distributions
from tensorprog.report.snippet import snippet
from tensorprog.report.style import STYLE

MOST_PAIRS, MOST_EQUATIONS, LONGEST = 28, 150, 4
WAYS = {"backprop": "backpropagation", "paths": "path sums", "sgd": "one SGD step"}
PACKAGES = ("tensorprog", "numpy", "scipy", "sympy", "mpmath", "networkx", "matplotlib")
POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


def page(v: Any) -> str:
    """The report of a verification as HTML.

    Args:
        v: a ``Verification`` made by ``tp.verify``.

    Raises:
        DataError: it was put together by hand and holds no evidence.
    """
    if v.evidence is None:
        raise DataError(
            "this verification holds no evidence; make it with tp.verify(net, inputs), for one output of several"
        )
    sections = [
        ("claims", "Claims", _claims(v)),
        ("numbers", "Four ways to one kernel", _numbers(v)),
        ("runs", "Runs", _runs(v)),
        ("architecture", "Architecture", _architecture(v)),
        ("formulas", "Formulas", _formulas(v)),
        ("z", "Coordinate distributions", _distributions(v)),
        ("again", "To do it again", _again(v)),
    ]
    links = "".join(f'<a href="#{key}">{escape(title)}</a>' for key, title, _ in sections[1:])
    body = "".join(f'<section id="{key}"><h2>{escape(title)}</h2>{text}</section>' for key, title, text in sections[1:])
    name = escape(v.evidence.net.name)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">'
        f"<title>{name}: {escape(_verdict(v))}</title><style>{STYLE}</style></head><body><main>"
        f'<header><p class="kind">Kernels of a network at infinite width, checked</p><h1>{name}</h1>'
        f'<p class="setting">{escape(repr(v.evidence.net))} on {escape(_shape(v.evidence))}; widths '
        f"{', '.join(map(str, v.widths))}, {v.seeds} networks of each</p>"
        f'<p class="verdict {"ok" if v.passed else "failed"}">{escape(_verdict(v))}</p>{sections[0][2]}'
        f'</header><nav aria-label="contents">{links}</nav>{body}</main></body></html>\n'
    )


def _verdict(v: Any) -> str:
    counted = [c for c in v.claims if c.passed is not None]
    failed = [c for c in counted if not c.passed]
    if failed:
        return f"{len(failed)} of {len(counted)} claims failed"
    return "the claim holds" if len(counted) == 1 else f"all {len(counted)} claims hold"


def _claims(v: Any) -> str:
    rows = (
        f'<li class="{c.verdict.lower().replace("/", "")}"><span class="badge">{escape(c.verdict)}</span>'
        f"<div><strong>{escape(c.name)}</strong><p>{escape(c.detail)}</p></div></li>"
        for c in v.claims
    )
    return f'<ul class="claims">{"".join(rows)}</ul>'


# ---- numbers and runs ----------------------------------------------------------------------------------


def _numbers(v: Any) -> str:
    e = v.evidence
    X = _data(e)
    accounts = {m: K.account(X, values=e.values) for m, K in e.kernels.items()}
    columns = {"sampling" if found.samples else WAYS[m]: found.value for m, found in accounts.items()}
    parts = ["<h3>Neural tangent kernel Θ</h3>", _kernel_table(v, "NTK", columns)]
    covariance = "sampling" if "sampling" in columns else "derived"
    if "NNGP" in e.runs:
        parts += ["<h3>Covariance of the outputs K</h3>", _kernel_table(v, "NNGP", {covariance: e.runs["NNGP"][0]})]
    if not e.kernels["backprop"].passes_gia_check:
        parts.append("<p>Path sums do not apply: the simple check of gradient independence fails for this network.</p>")
    return "".join(parts)


def _data(e: Any) -> Any:
    if e.net.form not in ("vectors", "sequences"):
        return e.given
    items = [e.data[i] for i in range(len(e.data))]
    return items if e.net.takes_sequences else np.concatenate(items)


def _kernel_table(v: Any, name: str, columns: dict[str, np.ndarray]) -> str:
    _, runs = v.evidence.runs[name]
    n = len(runs[0][0])
    pairs = [(i, j) for i in range(n) for j in range(i, n)]
    fit = extrapolate(v.widths, runs)
    last = runs[-1]
    errors = last.std(axis=0, ddof=1) / np.sqrt(len(last))
    head = ["inputs", *columns, "runs, n → ∞", f"runs, n = {v.widths[-1]}"]
    rows = [
        [f"x[{i}], x[{j}]", *(f"{c[i, j]:.8g}" for c in columns.values()),
         _measured(fit.limit[i, j], fit.stderr[i, j]), _measured(last.mean(axis=0)[i, j], errors[i, j])]
        for i, j in pairs[:MOST_PAIRS]
    ]  # fmt: skip
    note = "± is one standard error; n → ∞ fits mean = limit + a/n."
    if len(pairs) > MOST_PAIRS:
        note += f" The first {MOST_PAIRS} of {len(pairs)} pairs are shown."
    return _table(head, rows) + f'<p class="note">{note}</p>'


def _measured(mean: float, error: float) -> str:
    """A mean to the digits that its standard error leaves.

    >>> _measured(1.23456, 0.0321), _measured(2.5, 0.0)
    ('1.235 ± 0.032', '2.5 ± 0')
    """
    if not np.isfinite(error) or error <= 1e-12 * abs(mean):
        return f"{mean:.8g} ± {0 if np.isfinite(error) else '?'}"
    digits = max(0, 1 - int(np.floor(np.log10(error))))
    return f"{mean:.{digits}f} ± {error:.{digits}f}"


def _runs(v: Any) -> str:
    charts = [error_chart(v.widths, name, fit) for name, fit in v.errors.items()]
    charts += [convergence_chart(name, limit, runs, v.widths) for name, (limit, runs) in v.evidence.runs.items()]
    figures = "".join(f'<figure class="scroll" tabindex="0">{c.svg()}</figure>' for c in charts)
    caption = (
        f"{v.seeds} independent networks at each width; bars are ±2 standard errors. Where runs are compared "
        "with the limit, blue points are inputs with themselves and orange ones pairs of different inputs."
    )
    return f'<div class="charts">{figures}</div><p class="note">{caption}</p>'


# ---- the network ---------------------------------------------------------------------------------------


def _architecture(v: Any) -> str:
    e = v.evidence
    rows = [[k, str(value)] for k, value in e.net.hyperparameters.items()]
    rows += [[str(k), str(value)] for k, value in (e.values or {}).items()]
    fn = getattr(e.net, "whole", e.net).fn
    source = f'<pre tabindex="0"><code>{escape(_source(fn))}</code></pre>'
    table = _table(["hyperparameter", "value"], rows) if rows else "<p>It has no hyperparameters.</p>"
    return source + table + "<h3>Its program, forward and backward</h3>" + _picture(e)


def _source(fn: Any) -> str:
    try:
        return textwrap.dedent(inspect.getsource(fn)).strip()
    except (OSError, TypeError):
        return f"# the source of {getattr(fn, '__name__', fn)} is not available"


def _shortened(e: Any) -> list[int] | None:
    return [min(LONGEST, max(t for t in e.data.groups if t))] if e.net.takes_sequences else None


def _picture(e: Any) -> str:
    try:
        picture = draw(e.net, backprop=True, lengths=_shortened(e))
    except ProgramError as error:
        return f"<p>{escape(str(error))}</p>"
    return f'<figure class="scroll drawing" tabindex="0">{picture.svg}</figure>'


# ---- formulas ------------------------------------------------------------------------------------------


def _formulas(v: Any) -> str:
    e = v.evidence
    K = e.kernels["backprop"]
    at = f" for sequences of T = {K.lengths[0]} and T′ = {K.lengths[1]}" if e.net.takes_sequences else ""
    parts = [f"<h3>Neural tangent kernel{at}</h3>", _equations(K)]
    if K.passes_gia_check:
        parts += [f"<h3>Covariance of the outputs{at}</h3>", _equations(nngp(e.net))]
    else:
        parts += ["<h3>What assuming gradient independence would give, wrongly</h3>", _equations(K.under_gia)]
    return "".join(parts)


def _equations(K: Kernel) -> str:
    """The equations as LaTeX has them, and what is said about them."""
    lines, said = K._typeset()
    shown = [*lines[: MOST_EQUATIONS - 1], lines[-1]] if len(lines) > MOST_EQUATIONS else lines
    body = "".join(_eq(equation(line)) for line in shown)
    if len(shown) < len(lines):
        body += f'<p class="note">{len(lines) - len(shown)} equations before the last are left out.</p>'
    meanings = "".join(f"<li>{prose(m)}</li>" for m in said.meanings)
    notes = "".join(f"<p>{prose(note)}</p>" for note in said.notes)
    return f'<div class="equations">{body}</div><div class="legend">{notes}<ul>{meanings}</ul></div>'


def _eq(tex: str) -> str:
    """A formula that wraps between its terms and scrolls where one is too wide."""
    return f'<div class="eq" tabindex="0">{formula(tex, wraps=True)}</div>'


def _distributions(v: Any) -> str:
    e = v.evidence
    try:
        rows = list(distributions(e.net, _shortened(e)))
    except (AssumptionError, NoRuleError, ProgramError) as error:
        return f"<p>{escape(str(error))}</p>"
    text = (
        "<p>Each coordinate of a vector x behaves like the random variable Z<sup>x</sup>. A product W x gives "
        "a Gaussian Ẑ, and a correction Ż wherever Wᵀ has been used before and the two are correlated.</p>"
    )
    return text + '<div class="zs">' + "".join(map(_z_row, rows)) + "</div>"


def _z_row(r: Row) -> str:
    lines = "".join(f'<div class="origin">{_eq(line.tex)}<p>{escape(line.reason)}</p></div>' for line in r.lines)
    return (
        f'<div class="z"><div class="head"><strong>{escape(r.name)}</strong><span>{escape(r.how)}</span></div>'
        f"{_eq(r.z)}{lines}</div>"
    )


# ---- to do it again ------------------------------------------------------------------------------------


def _again(v: Any) -> str:
    e = v.evidence
    settings = [
        ["widths", ", ".join(map(str, v.widths))],
        ["seeds", f"0 to {v.seeds - 1} at every width"],
        ["inputs", _shape(e)],
        ["hash of program and data", e.fingerprint],
        ["hash of the data (SHA-256)", hashlib.sha256(b"".join(_rows(e))).hexdigest()[:16]],
    ]
    versions = [["Python", f"{platform.python_version()} on {platform.system()} {platform.machine()}"]]
    versions += [[name, _version(name)] for name in PACKAGES]
    command = (
        f"<p>The command:</p><pre tabindex=\"0\"><code>{escape(e.command)}</code></pre>" if e.command else ""
    ) + f'<p>In Python:</p><pre tabindex="0" class="python"><code>{escape(snippet(v))}</code></pre>'  # fmt: skip
    return command + _table(["setting", "value"], settings) + _table(["package", "version"], versions)


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "not installed as a package"


def _shape(e: Any) -> str:
    if isinstance(e.net.form, Parts):
        return f"{len(e.data)} inputs of the arrays {', '.join(e.net.form.uses)}"
    if e.net.form == "positions":
        sizes = ", ".join(dict.fromkeys("×".join(map(str, t)) for t in e.data.lengths))
        return f"{len(e.data)} inputs of sizes {sizes} with vectors of dimension {e.data.dimension}"
    if not e.net.takes_sequences:
        return f"{len(e.data)} vectors of dimension {e.data.dimension}"
    lengths = ", ".join(map(str, e.data.lengths))
    return f"{len(e.data)} sequences of lengths {lengths} and dimension {e.data.dimension}"


def _rows(e: Any) -> Iterator[bytes]:
    return (np.ascontiguousarray(e.data[i]).tobytes() for i in range(len(e.data)))


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    top = "".join(f'<th scope="col">{escape(h)}</th>' for h in head)
    body = "".join(
        f'<tr><th scope="row">{escape(row[0])}</th>' + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )
    return f'<div class="scroll" tabindex="0"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'
