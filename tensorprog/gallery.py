"""The gallery, examined: what holds for every architecture of ``programs``, found by asking each of them.

``examine("mlp")`` derives, folds, certifies, simulates, trains and compiles one architecture with quick settings;
``text``, ``markdown`` and ``html`` make the table of what is covered.  A new file in ``programs`` has its row at once.
"""

from __future__ import annotations

import argparse
import html as escaping
import inspect
import math
import time
import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import sympy as sp
from sympy.printing.pretty.pretty_symbology import greek_unicode

from tensorprog.derivation.kernel_account import KernelAccount, scale_of
from tensorprog.dsl.network import Network
from tensorprog.dsl.nonlinearities import Nonlinearity, abstract
from tensorprog.errors import AccuracyWarning, DataError, TensorProgramError, writing
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import nngp, ntk
from tensorprog.kernels.recursion import Recursion
from tensorprog.lookup import blaming, builder
from tensorprog.programs import GALLERY
from tensorprog.report.claims import Claim, Verification
from tensorprog.sgd.training import unroll
from tensorprog.train import train
from tensorprog.verify import verify

WIDTHS, SEEDS, STEPS, INPUTS, MANY = (64, 128, 256), 24, 3, 3, 200
COMPILED = 1e-12  # of the largest entries of row and column: how far a compiled kernel may be off
START, END = "<!-- gallery -->", "<!-- end of gallery -->"
WORDS = {True: "yes", False: "NO", None: "–"}


class Subject:
    """An architecture under examination; what several questions need is computed once."""

    def __init__(self, name: str) -> None:
        self.build = builder(name)
        self.name = self.build.__name__
        self.file: dict[str, Any] = self.build.network.__globals__  # type: ignore[attr-defined]
        self.net: Network = self.build()
        with blaming(f"{self.net!r} cannot be traced"):
            self.net.takes_sequences  # noqa: B018

    def inputs(self, count: int, seed: int = 0) -> Any:
        """Random inputs: those of ``inputs(rng, count)`` of the architecture's file; else vectors, or sequences."""
        rng = np.random.default_rng(seed)
        own = self.file.get("inputs")
        if callable(own):
            with blaming(f"inputs(rng, {count}) beside {self.name}"):
                return own(rng, count)
        if not self.net.takes_sequences:
            return rng.standard_normal((count, 3))
        longest = self.net.fitting_length(3)
        lengths = [longest, self.net.fitting_length(longest - 1) if longest > 1 else longest]
        return [rng.standard_normal((lengths[i % 2], 3)) for i in range(count)]

    @cached_property
    def symbolic(self) -> Network:
        """With an unspecified φ, and symbols for numbers that have Greek names."""
        hyper: dict[str, Any] = {}
        for p in inspect.signature(self.build).parameters.values():
            if isinstance(p.default, Nonlinearity):
                hyper[p.name] = abstract("phi")
            elif p.name.partition("_")[0] in greek_unicode and not isinstance(p.default, bool):
                hyper[p.name] = sp.Symbol(p.name, positive=True)
        return self.build(**{k: v for k, v in hyper.items() if k in self.net.hyperparameters})  # type: ignore[no-any-return]

    @cached_property
    def kernel(self) -> Kernel:
        """The NTK."""
        return ntk(self.net)

    @cached_property
    def account(self) -> KernelAccount:
        """Values, errors and methods of the NTK."""
        return self.kernel.account(self.inputs(INPUTS))

    @cached_property
    def verification(self) -> Verification:
        """Derivations against each other and against networks of finite width."""
        return verify(self.net, self.inputs(INPUTS), WIDTHS, SEEDS)

    @cached_property
    def formulas(self) -> Kernel | Recursion:
        """What to print: the recursion of the symbolic network, or its equations where it has none."""
        kernel = ntk(self.symbolic)
        try:
            return kernel.recursion()
        except TensorProgramError:
            return kernel


# ---- the questions: one a column, each answered by a claim ----------------------------------------------


def _nngp(s: Subject) -> Claim:
    nngp(s.net)(s.inputs(INPUTS))  # is refused, with the reason, where the output is no Gaussian process
    return _together("NNGP", [c for c in s.verification.claims if "NNGP" in c.name])


def _ntk(s: Subject) -> Claim:
    return _together("NTK", [c for c in s.verification.claims if "NNGP" not in c.name])


def _together(name: str, claims: Sequence[Claim]) -> Claim:
    """One claim of several: those that failed, else those that hold, else those that do not apply."""
    for verdict in (False, True, None):
        shown = [f"{c.name}: {c.detail}" for c in claims if c.passed is verdict]
        if shown:
            return Claim(name, verdict, "; ".join(shown))
    return Claim(name, None, "nothing was checked")


def _folds(s: Subject) -> Claim:
    found = s.kernel.recursion()
    sizes = ", ".join(dict.fromkeys(name for size in found.proved for name, _ in size))
    return Claim(sizes, True, f"over {sizes}, derived again and compared at {len(found.proved)} sizes")


def _certify(s: Subject) -> Claim:
    found = unroll(s.net, 2).certify()
    unmet = "; ".join(map(str, found.hypotheses))
    detail = unmet or f"{sum(r.equal is True for r in found.rows)} of {len(found.rows)} changes of f equal −η χ K"
    return Claim("certify", found.passed, detail)


def _train(s: Subject) -> Claim:
    X = s.inputs(INPUTS)
    members = np.shape(X)[1:2] if s.net.takes_batches else ()
    labels = np.sign(np.random.default_rng(1).standard_normal((INPUTS, *members)))
    found = train(s.net, X, labels, steps=STEPS, times=[STEPS], widths=WIDTHS, seeds=SEEDS)
    detail = "; ".join([*map(str, found.hypotheses), *(f"{c.name}: {c.detail}" for c in found.claims)])
    return Claim("train", found.passed, detail)


def _compiled(s: Subject) -> Claim:
    X = s.inputs(INPUTS)
    value = s.kernel.gram(X)
    gap = float((np.abs(value - s.account.value) / scale_of(s.account.value)).max())
    return Claim("compiled", gap <= COMPILED, f"largest difference from the equations {gap:.0e} (bound {COMPILED:.0e})")


QUESTIONS: dict[str, Callable[[Subject], Claim]] = {
    "NNGP": _nngp, "NTK": _ntk, "recursion": _folds, "certify": _certify, "train": _train, "compiled": _compiled,
}  # fmt: skip
MEANING = {
    "NNGP": "the covariance of the outputs is that of finite networks",
    "NTK": "backpropagation, path sums and one SGD step give one formula; finite networks approach it like n^(−1/2)",
    "recursion": "the equations fold into indexed ones over these sizes",
    "certify": "two steps of SGD change f by −η χ K",
    "train": f"{STEPS} steps of finite networks follow kernel gradient descent",
    "compiled": "the compiled Gram matrix is that of the equations",
    "method": "how expectations are computed, and the error that the kernel states",
    "seconds": f"of CPU: to derive NNGP and NTK; NTK of {MANY} inputs, compiled",
}


def _ask(question: Callable[[Subject], Claim], name: str, s: Subject) -> Claim:
    """A claim; a refusal is one that does not apply, with its words as the reason."""
    try:
        return question(s)
    except TensorProgramError as error:
        return Claim(name, None, str(error))


# ---- the entries ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """What was found about one architecture.

    Attributes:
        name: of its file.
        summary: the first line of that file.
        claims: by column, with figures or the reason why it does not apply.
        account: the NTK of three inputs with its errors; None where it cannot be computed.
        seconds: of CPU, to derive NNGP and NTK and for the NTK of 200 inputs; nan where it is sampled.
        subject: the architecture itself.
    """

    name: str
    summary: str
    claims: dict[str, Claim]
    account: KernelAccount | None
    seconds: tuple[float, float]
    subject: Subject = field(repr=False, compare=False)

    @property
    def passed(self) -> bool:
        """Whether no claim failed."""
        return all(c.passed is not False for c in self.claims.values())

    def cells(self) -> list[str]:
        """The row of the table."""
        shown = [c.name if k == "recursion" and c.passed else WORDS[c.passed] for k, c in self.claims.items()]
        return [self.name, *shown, self.method, "; ".join(_two_digits(s) for s in self.seconds)]

    @property
    def method(self) -> str:
        """How expectations are computed, and the largest relative error that the NTK states."""
        if self.account is None:
            return WORDS[None]
        error = ("± " if self.account.statistical else "") + _power(float(self.account.relative.max()))
        return f"{', '.join(self.account.methods) or 'no expectations'}, {error}"


def examine(name: str) -> Entry:
    """Ask everything about one architecture: of the gallery, or of a file, named ``path.py:network``.

    Raises:
        ProgramError: no such architecture (the nearest name is suggested), or one that cannot be built.

    >>> found = examine("deep_linear")
    >>> found.passed, found.claims["recursion"].name, found.method
    (True, 'L', 'no expectations, 1e-14')
    """
    s = Subject(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # the table states the error
        derive = _seconds(lambda: _derive(s))
        claims = {k: _ask(question, k, s) for k, question in QUESTIONS.items()}
        account = _account(s)
        many = _seconds_of_many(s) if account is not None and not account.samples else math.nan
    summary = next(iter((s.file["__doc__"] or "").strip().splitlines()), "")
    return Entry(s.name, summary, claims, account, (derive, many), s)


def examine_all(names: Iterable[str] = ()) -> list[Entry]:
    """Ask everything about these architectures, about all when none is named."""
    return [examine(name) for name in names or sorted(GALLERY)]


def _derive(s: Subject) -> None:
    for kernel in (ntk, nngp):
        with suppress(TensorProgramError):  # the columns say why
            kernel(s.net)._derive()


def _account(s: Subject) -> KernelAccount | None:
    try:
        return s.account
    except TensorProgramError:  # the column NTK says why
        return None


def _seconds(work: Callable[[], Any]) -> float:
    start = time.process_time()
    work()
    return time.process_time() - start


def _seconds_of_many(s: Subject) -> float:
    X = s.inputs(MANY)
    try:
        s.kernel.gram(X)  # compiles, and derives every pair of lengths
    except TensorProgramError:  # the column compiled says why
        return math.nan
    return _seconds(lambda: s.kernel.gram(X))


def _two_digits(seconds: float) -> str:
    return f"{seconds:.1g}" if math.isfinite(seconds) else WORDS[None]


def _power(error: float) -> str:
    """An error, rounded up to a power of ten.

    >>> _power(3.1e-14), _power(0.0)
    ('1e-13', '0')
    """
    return f"1e{int(np.ceil(np.log10(error)))}" if error > 0 else "0"


# ---- the table ------------------------------------------------------------------------------------------

HEAD = ["architecture", *QUESTIONS, "method, error", "seconds"]


def text(entries: Sequence[Entry]) -> str:
    """The table for a terminal, and below it the reasons of what does not apply or failed."""
    rows = [HEAD, *(e.cells() for e in entries)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*lines, "", *(f"{name}, {column}: {why}" for name, column, why in reasons(entries))]).rstrip()


def reasons(entries: Sequence[Entry]) -> list[tuple[str, str, str]]:
    """(architecture, column, why) of every claim that does not apply or failed."""
    return [(e.name, k, c.detail) for e in entries for k, c in e.claims.items() if c.passed is not True]


def markdown(entries: Sequence[Entry], link: str = "{name}", why: bool = False) -> str:
    """The table in Markdown.

    Args:
        entries: the rows.
        link: what stands for an architecture, such as ``"[{name}](gallery/{name}.md)"``.
        why: whether the reasons of what does not apply or failed stand below.
    """
    rows = [[link.format(name=e.name), *e.cells()[1:]] for e in entries]
    table = [f"| {' | '.join(row)} |" for row in [HEAD, ["---"] * len(HEAD), *rows]]
    listed = [f"- {name}, {column}: {_escaped(detail)}" for name, column, detail in reasons(entries)] if why else []
    return "\n".join([*table, *([""] if listed else []), *listed])


def _escaped(detail: str) -> str:
    """Brackets are no links of Markdown."""
    return detail.replace("[", r"\[").replace("]", r"\]")


def html(entries: Sequence[Entry]) -> str:
    """The table as HTML, with the reason of every cell that is not ``yes`` as its title."""
    why = {(name, column): detail for name, column, detail in reasons(entries)}
    head = "".join(f'<th scope="col">{escaping.escape(h)}</th>' for h in HEAD)
    body = []
    for e in entries:
        first, *rest = (escaping.escape(cell) for cell in e.cells())
        cells = [f"<td{_title(why.get((e.name, k)))}>{c}</td>" for k, c in zip(HEAD[1:], rest, strict=True)]
        body.append(f'<tr><th scope="row">{first}</th>{"".join(cells)}</tr>')
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(body)}</tbody></table>"


def _title(reason: str | None) -> str:
    return f' title="{escaping.escape(reason)}"' if reason else ""


def write_between_markers(path: Path, table: str) -> None:
    """Put the table between ``<!-- gallery -->`` and ``<!-- end of gallery -->`` of a file.

    Raises:
        DataError: the file cannot be read or written, or lacks the markers.
    """
    with writing(path):
        before, start, rest = path.read_text(encoding="utf-8").partition(START)
        _, end, after = rest.partition(END)
        if not (start and end):
            raise DataError(f"{path} has no place for the table: write {START} and {END} on lines of their own")
        path.write_text(f"{before}{START}\n{table}\n{END}{after}", encoding="utf-8")


# ---- the command ----------------------------------------------------------------------------------------


def gallery_command(a: argparse.Namespace) -> int:
    """Examine the gallery and print what is covered; 1 when a claim failed."""
    entries = examine_all(a.networks)
    if a.write is not None:
        write_between_markers(a.write, markdown(entries, why=a.reasons))
        print(f"wrote {a.write}")
    else:
        print(markdown(entries, why=a.reasons) if a.markdown else html(entries) if a.html else text(entries))
    return 0 if all(e.passed for e in entries) else 1
