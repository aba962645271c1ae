"""``tp.derivation``: the argument behind a kernel, a program or a training run, section by section."""

from __future__ import annotations

import functools
import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly, to_sympy
from tensorprog.appendix.document import DerivationDocument, Section, Statement
from tensorprog.appendix.lines import Limits, Names, grouped, instruction
from tensorprog.appendix.origins_in_code import traced_with_lines
from tensorprog.derivation.derivation import Derivation
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.names import NetworkNames
from tensorprog.derivation.ntk import Term, ntk_terms, sum_terms
from tensorprog.dsl.network import Network
from tensorprog.errors import AssumptionError, FoldError, NoRuleError, ProgramError, TensorProgramError, shortly
from tensorprog.expectations.atoms import Expect, head_of
from tensorprog.expectations.closed.printed import Q2, C, Q, closed_form
from tensorprog.expectations.lawful import Lawful
from tensorprog.expectations.quadrature.nodes import legendre
from tensorprog.export.standalone import one_layer
from tensorprog.functions import evaluate
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import MatMul
from tensorprog.kernels.kernel import Kernel
from tensorprog.kernels.methods import ntk
from tensorprog.kernels.recursion import Recursion
from tensorprog.limit.equations import Name, reachable
from tensorprog.limit.evaluate import same
from tensorprog.limit.master import Interpreter
from tensorprog.passes.backprop import backprop
from tensorprog.printing import latex, text
from tensorprog.report.origins import Called
from tensorprog.report.subject import subject
from tensorprog.report.tikz import math
from tensorprog.sgd.hypotheses import derivatives
from tensorprog.sgd.training import Training

PROVED = 2  # how many sizes of a proof are checked once more


def derivation(what: Any) -> DerivationDocument:
    r"""The derivation of a kernel as a document: the argument, not only the result.

    The network as a program with backward pass, Z of every vector with the reason for every Ż, the covariances, the
    kernel as a sum over pairs of uses of parameters, the induction over layers and times, closed forms, and what the
    theorems assume. ``D.text()``, ``D.latex()`` (a file that compiles with amsmath), ``D.html()``, and in notebooks;
    ``D.check(digits=30)`` checks every line on its own.

    Args:
        what: a network (its NTK), a kernel, a program, or an unrolled training run.

    Returns:
        The document.

    Raises:
        ProgramError: something else.

    Reference:
        Yang and Littwin, Tensor Programs IIb (2021): Definition B.3, Theorem B.4, Equations (99) and (100).

    >>> import tensorprog as tp
    >>> D = derivation(tp.programs.mlp(depth=2))
    >>> print(D.check())  # doctest: +ELLIPSIS
    all of ... lines hold to 30 digits at random points
    """
    found = _derived(what)
    found._question = derivation, what
    return found


def _derived(what: Any) -> DerivationDocument:
    if isinstance(what, Network):
        what = ntk(what)
    if isinstance(what, DerivedKernel):
        return _Argument(what).document()
    if isinstance(what, Training):
        return _run(what)
    if isinstance(what, ProgramGraph):
        limit = Interpreter(what)
        return DerivationDocument(f"The limit of a program of {len(what)} instructions", [
            _program_section("Program", list(what), {}, Names()), _limits_section(limit, [v for v, _ in what], Names()),
            _assumptions_of_program()])  # fmt: skip
    raise ProgramError(f"tp.derivation takes a network, a kernel, a program or a training run, got {shortly(what)}")


def _run(run: Training) -> DerivationDocument:
    limit = run._interpreter
    program = list(run.program)
    certificate = Section("What the run certifies", [line.strip() for line in run.certify().text().splitlines()])
    own = _program_section("Program of the run", program, {}, Names())
    limits = _limits_section(limit, [v for v, _ in program], Names())
    sections = [own, limits, certificate, _assumptions_of_program()]
    return DerivationDocument(f"Training {run.net!r}, unrolled", sections)


def _program_section(title: str, rows: list[Any], where: dict[Any, str], names: Names) -> Section:
    found = (instruction(v, op, where.get(v, ""), names) for v, op in rows)
    return Section(title, statements=grouped([s for s in found if s is not None]))


def _limits_section(limit: Interpreter, variables: list[Any], names: Names) -> Section:
    lines = Limits(limit, names)
    words = [
        "Ẑ of a product W x is Gaussian with Cov(Ẑ(W x), Ẑ(W y)) = Var W · E Z(x) Z(y), independent of the Ẑ of Wᵀ, of "
        "other matrices and of initial vectors; Ż(W x) = Var W Σ_y E[∂Z(x)/∂Ẑ(Wᵀ y)] Z(y) over earlier uses of Wᵀ "
        "(Definition B.3 of Tensor Programs IIb)."
    ]
    return Section("Limits Z of the vectors", words, grouped([s for v in variables for s in lines.about(v)]))


def _assumptions_of_program() -> Section:
    return Section("Assumptions", [*MASTER])


MASTER = (
    "Theorem B.4 of Tensor Programs IIb (the NETSOR⊤⁺ Master Theorem): averages over coordinates converge almost "
    "surely to expectations over Z.",
    "Its Assumption B.8: functions are pseudo-Lipschitz (their weak derivatives are polynomially bounded), and "
    "functions of scalars alone are continuous.",
    "For functions that jump: rank stability instead (remark after Assumption B.8; Tensor Programs III), and the mean "
    "derivatives by Stein's lemma (Remark B.6, with σ_W² C in place of C).",
)


class _Argument:
    """The document of a kernel."""

    def __init__(self, kernel: Any) -> None:
        self.kernel: Kernel = kernel
        self.net: Network = kernel.net
        self.d: Derivation = kernel._derive()
        self.ntk = kernel.kind == "ntk"

    def document(self) -> DerivationDocument:
        what = "neural tangent kernel" if self.ntk else "NNGP kernel"
        try:
            parts = [*self.programs(), self.covariances(), *([self.pairs()] if self.ntk else [])]
        except AssumptionError as error:  # such as batches, whose gradients are derived in a way of their own
            words = [f"The vectors of this network are not listed one by one: {error}."]
            parts = [Section("Limits Z of the vectors (Ż included)", words), self.covariances()]
        sections = [self.architecture(), *parts]
        sections += [*self.induction(), self.closed_forms(), self.assumptions(), *self.without_gia()]
        return DerivationDocument(f"The {what} of {self.net!r}", sections)

    # ---- the network -----------------------------------------------------------------------------

    @functools.cached_property
    def traced(self) -> Any:
        """The network on one input, with the lines that its instructions come from."""
        lengths = [self.net.fitting_length() if self.net.takes_sequences else None]
        return traced_with_lines(self.net, lengths * (2 if self.net.takes_axes else 1))

    def architecture(self) -> Section:
        words = [" ".join((self.net.fn.__doc__ or "").split())]
        module = sys.modules.get(self.net.fn.__module__)
        words += [" ".join(p.split()) for p in ((getattr(module, "__doc__", "") or "").split("\n\n"))] if (
            self.net.fn.__module__.startswith("tensorprog.programs")) else []  # fmt: skip
        found = []
        for name, p in self.traced[0].parameters.items():
            law = {"matrix": f"n×n, entries N(0, {text(p.std**2)}/n)"}.get(
                p.kind, f"entries of standard deviation {text(p.std)}"
            )
            found.append(Statement(str(name), f"{name}: {p.kind}, {law}", rf"{math(str(name))}", f"{p.kind}, {law}"))
        return Section("The architecture", [w for w in words if w], grouped(found))

    def programs(self) -> list[Section]:
        trace, lines = self.traced
        names = NetworkNames(trace, [])
        where = {}
        for var, _ in trace.program:
            place = names.place(var) if var.kind == "vector" else None
            said = [f"layer {place.layer}"] if place is not None and place.layer is not None else []
            said += [f"time {place.time}"] if place is not None and place.time is not None else []
            said += ["indexed by position"] if var.kind == "vector" and trace.program.axes(var) is not None else []
            said += [f"line {lines[var]}"] if var in lines else []
            where[var] = ", ".join(said)
        if trace.batched:
            raise NoRuleError(
                f"the argument behind {self.net.name} has no backward program: kernels between members of batches are "
                "derived forward; tp.unroll(net, ..).certify() derives one of a small batch"
            )
        forward = list(trace.program)
        program, gradients = backprop(trace)
        limit = Interpreter(program, NetworkNames(trace, gradients))
        called = self._called(limit)
        found = [_program_section("The NETSOR⊤⁺ program", forward, where, called)]
        if not self.ntk:
            return [*found, _limits_section(limit, [v for v, _ in forward], called)]
        known = {v for v, _ in forward}
        back = [(v, op) for v, op in program if v not in known]
        found.append(_program_section("The backward program, dx = √n ∂f/∂x", back, {}, called))
        return [*found, _limits_section(limit, [v for v, _ in program], called)]

    def _called(self, limit: Interpreter, inputs: int = 1) -> Names:
        """Names as in the drawing of the network, where it can be drawn."""
        try:
            if self.net.takes_sequences:
                lengths = [self.net.fitting_length()] if inputs == 1 else [t or 1 for t in self.kernel.lengths]
                s = subject(self.net, backprop=True, lengths=lengths, reduced=False)
            else:
                s = subject(self.net, backprop=True, inputs=inputs, reduced=False)
        except TensorProgramError:
            return Names()
        drawn = {str(v): s.name(k) for v, k in s.kept.items() if v.kind == "vector"}
        for _, op in s.program:
            if isinstance(op, MatMul):
                drawn.setdefault(str(op.matrix), s.matrix(op).removesuffix("ᵀ"))
        return Names(drawn, Called(s, limit).latex)

    # ---- covariances -----------------------------------------------------------------------------

    def covariances(self) -> Section:
        """The named equations: printed as the recursion where they fold, checked one by one."""
        silent = []
        for g in reachable([self.d.poly]):
            if isinstance(g, Name):
                line = f"{g.symbol} = {text(to_sympy(g.definition))}"
                silent.append(Statement(str(g.symbol), line, f"{latex(g.symbol)} = {latex(to_sympy(g.definition))}", "",
                                        (str(g.symbol), g.definition), self._equation))  # fmt: skip
        head = f"{self.kernel.symbol} = {text(to_sympy(self.d.poly))}"
        silent.append(Statement(str(self.kernel.symbol), head, latex(self.kernel.symbol), "", self.d.poly, self._value))
        if self.recursion is not None:
            words = ["The covariances that are needed; equal steps are told once, in the induction below."]
            return Section("Covariances", words, silent=silent)
        return Section("Covariances", [], silent=silent, formulas=[(_body(self.kernel.text()), self.kernel.latex())])

    @functools.cached_property
    def _again(self) -> dict[str, Poly]:
        """The quantities by name, derived again from the start."""
        d = self.kernel._derive_at(self.net, self.kernel.lengths if not self.net.takes_axes else (None, None))
        return {str(g.symbol): g.definition for g in reachable([d.poly]) if isinstance(g, Name)}

    def _equation(self, s: Statement, digits: int) -> bool:
        """A covariance from the Z's that it is of."""
        name, claimed = s.right
        if name not in self._again:
            return False
        if self.net.takes_axes:  # one quantity may stand for arrays of either input: as it prints, and then as numbers
            return text(to_sympy(self._again[name])) == text(to_sympy(claimed))
        return same(self._again[name], claimed)

    def _value(self, s: Statement, digits: int) -> bool:
        """The kernel by path sums, which is another derivation, or where these do not apply by one step of SGD."""
        other = self._otherwise()
        return other is None or _alike(other, s.right)

    def _otherwise(self) -> Poly | None:
        lengths = [t or 1 for t in self.kernel.lengths] if self.net.takes_sequences else None
        if not self.ntk or self.kernel._trained is not None:
            return self.kernel._derive_at(self.net, self.kernel.lengths).poly
        for method in ("paths", "sgd"):
            try:
                return ntk(self.net, method, lengths)._derive().poly
            except (TensorProgramError, NotImplementedError):
                continue
        return None

    # ---- pairs of uses ---------------------------------------------------------------------------

    def pairs(self) -> Section:
        """The NTK as a sum over pairs of uses of parameters, and which pairs vanish."""
        trace = self.d.trace
        program, gradients = backprop(trace)
        limit = Interpreter(program, NetworkNames(trace, gradients))
        j, names = len(trace.inputs) - 1, self._called(limit, len(trace.inputs))
        found: list[Statement] = []
        vanishing: list[Statement] = []
        trained = self.kernel._trained.moving(trace) if self.kernel._trained is not None else None
        for t in ntk_terms(trace, gradients, 0, j, trained=trained):
            dead = t.gradient is not None and not limit.correlated(*t.gradient)
            line = self._pair(t, limit, dead, names)
            (vanishing if dead else found).append(line)
        whole = list(ntk_terms(trace, gradients, 0, j, limit.correlated, trained))
        name, said = str(self.kernel.symbol), f"{self.kernel.symbol} is the sum of these"
        total = Statement(name, said, latex(self.kernel.symbol), "", (whole, limit), self._total)
        words = [
            "By Equations (99) and (100) the kernel is the sum, over pairs of uses of a parameter, of factor · E dg "
            "dg' · E h h'."
        ]
        if vanishing:
            words.append(f"{len(vanishing)} pairs vanish: their gradients are uncorrelated.")
        return Section(
            "The kernel as a sum over pairs of uses", words, [*grouped(found), *grouped(vanishing)], silent=[total]
        )

    def _pair(self, t: Term, limit: Interpreter, dead: bool, names: Names) -> Statement:
        parts = [] if t.factor == 1 else [text(t.factor)]
        tex = [] if t.factor == 1 else [latex(t.factor)]
        for pair in (t.gradient, t.activation):
            if pair is not None:
                a, b = map(names, pair)
                parts.append(f"E Z({a}) Z({b})")
                tex.append(rf"\mathsf{{E}} Z^{{{math(a)}}} Z^{{{math(b)}}}")
        said = " · ".join(parts) or "1"
        reason = ""
        if dead and t.gradient is not None:
            said, reason = f"{said} = 0", self._uncorrelated(t.gradient, limit)
            tex.append("= 0")
        check = self._vanishes if dead else None
        return Statement(said, said, r" \, ".join(tex) or "1", reason, (t, limit), check)

    def _uncorrelated(self, pair: tuple[Any, Any], limit: Interpreter) -> str:
        blocks = [{g.block for g in limit.z[v].support} for v in pair]
        places = [limit.system.namer.place(v) for v in pair]  # type: ignore[attr-defined]
        if not blocks[0] & blocks[1]:
            return "the two gradients have no random variable in common"
        times = [p.time for p in places if p is not None and p.time is not None]
        if len(times) == 2:
            return f"the gradients at times {times[0]} and {times[1]} are not as far from the ends of their sequences"
        return "each is linear in centred variables that are independent of those of the other"

    def _vanishes(self, s: Statement, digits: int) -> bool:
        t, limit = s.right
        zx, zy = (limit.z[v] for v in t.gradient)
        return not limit.expect(zx * zy) if limit.spatial is None else not limit.moment(*t.gradient)

    def _total(self, s: Statement, digits: int) -> bool:
        terms, limit = s.right
        return _alike(sum_terms(iter(terms), limit), self.d.poly)

    # ---- the induction ---------------------------------------------------------------------------

    @functools.cached_property
    def recursion(self) -> Recursion | None:
        try:
            none = self.kernel._how.route == "sampling" or self.d.trace.has_laws
            return None if none else Recursion(self.kernel, over=one_layer(self.net))
        except (FoldError, NoRuleError, TensorProgramError):
            return None

    def induction(self) -> Iterator[Section]:
        R = self.recursion
        if R is None:
            return
        proved = ", ".join("(" + ", ".join(f"{k} = {v}" for k, v in s) + ")" for s in R.proved)
        words = ["Base and step: equations of one form, with the ranges of the indices for which they hold.",
                 f"They were found at small sizes, and derived again and compared one by one at {proved}."]  # fmt: skip
        if R.excluded:
            small = ("(" + ", ".join(f"{k} = {v}" for k, v in s) + ")" for s in sorted(R.excluded))
            words.append(f"They do not hold at {', '.join(small)} and below.")
        silent = [Statement(str(s), f"the fold at {dict(s)}", "", "", (R, s), self._fold) for s in R.proved[-PROVED:]]
        formulas = [(_body(R.text()), R.latex())]
        yield Section("The induction over layers and times", words, silent=silent, formulas=formulas)

    def _fold(self, s: Statement, digits: int) -> bool:
        R, sizes = s.right
        part = next(p for p in R._parts if p.over.holds(dict(sizes)))
        return bool(R._agrees(part.folded, sizes, 2))

    # ---- closed forms ----------------------------------------------------------------------------

    def closed_forms(self) -> Section:
        found: dict[str, Statement] = {}
        for g in reachable([self.d.poly]):
            if isinstance(g, Expect) and not isinstance(g, Lawful) and not any(g.mean):
                form = closed_form(g.body, g.variables)
                arguments = "q" if len(g.mean) == 1 else "q, c, q'"
                if form is not None and (len(g.mean) == 2 or head_of(g, False).startswith("E")):
                    head = f"{head_of(g, False)}({arguments})"
                    tex = rf"{head_of(g, True)}[{arguments}] = {latex(form)}"
                    found.setdefault(head, Statement(head, f"{head} = {text(form)}", tex, "", (g, form), _closed))
        return Section("Closed forms", statements=list(found.values()))

    # ---- assumptions -----------------------------------------------------------------------------

    def assumptions(self) -> Section:
        trace = self.d.trace
        words = [*MASTER]
        if self.ntk:
            passes = trace.passes_gia_check
            conditions = ("the simple GIA check (Tensor Programs II; Appendix D of IIb): the readout vector is (i) "
                          "drawn independently of all else, (ii) centred, (iii) used at the output alone")  # fmt: skip
            words.append(f"{conditions}: {'passes' if passes else 'FAILS'}. No Ż was assumed away: each was computed.")
            length = self.net.fitting_length() if self.net.takes_sequences else None
            if not self.net.takes_axes:
                words += [h.text() for h in derivatives(self.net, length)]
            words.append("Theorem 5.3 of Tensor Programs IIb, with Setup 5.2: f in NTK parametrization, one step of "
                         "SGD changes f by −η χ times this kernel.")  # fmt: skip
        return Section("Assumptions", words)

    def without_gia(self) -> Iterator[Section]:
        """What the assumption of gradient independence would give, where it fails."""
        if self.ntk and not self.d.trace.passes_gia_check and self.kernel._derive_under_gia is not None:
            other = self.kernel.under_gia
            words = [
                "Gradient independence does not hold. Assuming it drops every Ż of the backward pass, and gives wrongly"
            ]
            yield Section(
                "Under the gradient independence assumption", words, formulas=[(_body(other.text()), other.latex())]
            )


def _alike(p: Poly, q: Poly) -> bool:
    """Whether two quantities are equal; as they print where arrays of one input stand for those of two."""
    try:
        return same(p, q)
    except ValueError:
        return text(to_sympy(p)) == text(to_sympy(q))


def _body(printed: str) -> str:
    """The equations of what a kernel prints, without its head."""
    return printed.split("\n\n", 1)[-1]


def _closed(s: Statement, digits: int) -> bool:
    """A closed form against Gauss-Legendre quadrature in polar coordinates, at three covariances."""
    g, form = s.right
    rng = np.random.default_rng(3)
    for _ in range(3):
        q, p = rng.uniform(0.3, 1.5, 2)
        c = float(rng.uniform(-0.9, 0.9) * np.sqrt(q * p))
        point = {Q: q, C: c, Q2: p}
        value = float(sp.N(form.subs(point), 20))
        found = _polar(g, q, c, p)
        if found is not None and abs(value - found) > 1e-10 * max(1.0, abs(found)):
            return False
    return True


def _polar(g: Expect, q: float, c: float, p: float) -> float | None:
    """E of a body whose functions have their kinks at 0, in polar coordinates between those lines."""
    if any(str(f.func).startswith("delta") for f in g.body.atoms(sp.Function)):
        return None
    if len(g.mean) == 1:
        c, p = q, q
    angle = np.arccos(np.clip(c / np.sqrt(q * p), -1, 1))
    breaks = np.unique(np.mod([0, np.pi / 2, 3 * np.pi / 2, angle + np.pi / 2, angle - np.pi / 2], 2 * np.pi))
    edges = [*breaks, breaks[0] + 2 * np.pi]
    x, w = legendre(40)
    x, w = 2 * x - 1, 2 * w
    t = np.concatenate([(a + b) / 2 + (b - a) / 2 * x for a, b in itertools.pairwise(edges)])
    wt = np.concatenate([(b - a) / 2 * w for a, b in itertools.pairwise(edges)])
    r = np.concatenate([k + (1 + x) / 2 for k in range(10)])
    wr = np.tile(w / 2, 10) * r * np.exp(-(r**2) / 2) / (2 * np.pi)
    u = np.sqrt(q) * np.outer(r, np.cos(t))
    v = np.sqrt(p) * np.outer(r, np.cos(t - angle))
    values = evaluate(g.body, dict(zip(g.variables, (u, v), strict=False)))
    return float(np.einsum("i,ij,j->", wr, np.broadcast_to(values, u.shape), wt))
