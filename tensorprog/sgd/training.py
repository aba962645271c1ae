"""The limit of a training run: coordinate distributions along training, and the NTKTRAIN certificate.

Theorem to certify (TP2b Eq. 22): lim f_{t+1}(ξ) − f_t(ξ) = −η_t χ_t K(ξ, ξ_t).
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np
import sympy as sp

from tensorprog.algebra import Poly, add_all, to_sympy
from tensorprog.derivation.derivation import Length
from tensorprog.derivation.derived import DerivedKernel
from tensorprog.derivation.heads import KernelOfHeads, PathKernels, kernels_of
from tensorprog.derivation.names import NetworkNames
from tensorprog.dsl.network import Network, check_network
from tensorprog.dsl.trace import Trace
from tensorprog.errors import AssumptionError, DataError, ProgramError, integer, shortly
from tensorprog.given import MANY, flag, is_array
from tensorprog.ir.graph import ProgramGraph, Variable, as_var
from tensorprog.ir.instructions import Var
from tensorprog.limit.answers import Limit
from tensorprog.limit.equations import unfold
from tensorprog.limit.evaluate import same
from tensorprog.limit.master import Interpreter
from tensorprog.passes.decouple import decouple
from tensorprog.passes.feature import unroll_features
from tensorprog.passes.optimizer import SGD, Loss
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import ALL, Rates
from tensorprog.passes.scaling import scaling
from tensorprog.passes.separate import Separated
from tensorprog.passes.unroll import Plan, Unrolled, unroll_trace
from tensorprog.printing import NameSymbol, Shown, counted
from tensorprog.sgd.certificate import Certificate, Row
from tensorprog.sgd.hypotheses import Hypothesis, derivatives_of, outputs_of
from tensorprog.sgd.inputs import to_unroll
from tensorprog.types import LossChoice, Number, Pattern

KernelChoice: TypeAlias = DerivedKernel | Network | None
"""What a run is compared with: a kernel, a network, or None for the kernel of the run itself."""


class Training(Shown):
    """An unrolled training run and its limit.

    ``program`` is the NETSOR⊤⁺ program of the whole run; executed at width n it is the run.

    Attributes:
        net: the network.
    """

    def __init__(self, net: Network, unrolled: Unrolled) -> None:
        self.net, self._unrolled = net, unrolled

    @property
    def program(self) -> ProgramGraph:
        """The program of the whole run."""
        return self._unrolled.program

    @property
    def trace(self) -> Trace:
        """The forward program at time 0."""
        return self._unrolled.trace

    @property
    def plan(self) -> Plan:
        """What is trained on what."""
        return self._unrolled.plan

    @functools.cached_property
    def limit(self) -> Limit:
        """The limit of the program."""
        return Limit._of(self._interpreter)

    @functools.cached_property
    def _interpreter(self) -> Interpreter:
        return Interpreter(self.program, self._names)

    @functools.cached_property
    def _names(self) -> NetworkNames:
        return NetworkNames(self.trace, list(self._unrolled.gradients.values()))

    def f(self, t: int, test: int = 0, head: int = 0) -> sp.Expr:
        """lim f_t of a test input, a formula in f_0 and the χ's."""
        return to_sympy(self._f(t, test, head))

    def delta_f(self, t: int, test: int = 0, head: int = 0) -> sp.Expr:
        """lim f_{t+1} − f_t of a test input."""
        return to_sympy(self._change(self._interpreter, t, test, head))

    def Z(self, t: int, vector: Variable | str) -> sp.Expr:
        """Z of a vector of the trace at time t (by variable or by name)."""
        t, var, u = integer(t, "t", 0, self.plan.steps), self._var(vector), self._unrolled
        if (t, var) not in u.state and u.delta.get((t, var)) is not None:  # x_t = x̂_t + θ δx_t, and θ → 0
            held = u.base.get((t, var)) if self.plan.optimizer.decays else var
            if held is not None:
                return self._interpreter.Z(held)
        return self._interpreter.Z(self.at(t, var))

    def zdelta(self, t: int, vector: Variable | str) -> sp.Expr:
        """Z of the scaled change δx_t = √n (x_t − x_0) of a vector; 0 where it does not move."""
        t, var = integer(t, "t", 0, self.plan.steps), self._var(vector)
        if (t, var) not in self._unrolled.delta:
            self.at(t, vector)
        delta = self._unrolled.delta.get((t, var))
        return self._interpreter.Z(delta) if delta is not None else sp.S.Zero

    def at(self, t: int, vector: Variable | str) -> Var:
        """The variable of the program that holds a vector of the trace at time t.

        Raises:
            ProgramError: the run does not compute it (samples are only followed at their own step).
        """
        t, var = integer(t, "t", 0, self.plan.steps), self._var(vector)
        if t == 0:
            return var
        if (t, var) not in self._unrolled.state:
            delta = self._unrolled.delta.get((t, var), self)
            if delta is None:
                return self._unrolled.base.get((t, var), var)
            times = sorted(s for s, v in self._unrolled.state if v == var)
            raise ProgramError(f"the run does not hold {var} at time {t}; it holds it at {[0, *times]}")
        return self._unrolled.state[t, var]

    def _var(self, vector: Variable | str) -> Var:
        return self.trace.program.named(vector) if isinstance(vector, str) else as_var(vector)

    def _f(self, t: int, test: int, head: int) -> Poly:
        return self._value(self._interpreter, self._output(t, test, head))

    def _output(self, t: int, test: int, head: int) -> Var:
        t = integer(t, "t", 0, self.plan.steps)
        test = self.plan.tests[integer(test, "test", 0, len(self.plan.tests) - 1)]
        return self._unrolled.f[t, test, integer(head, "head", 0, len(self.trace.heads[test]) - 1)]

    def _change(self, limit: Interpreter, t: int, test: int, head: int) -> Poly:
        t = integer(t, "t", 0, self.plan.steps - 1)
        before, after = (self._value(limit, self._output(s, test, head)) for s in (t, t + 1))
        return after + before.scale(-1)

    @staticmethod
    def _value(limit: Interpreter, var: Var) -> Poly:
        """The limit of an output in terms of kernels and χ's: names of the program's own scalars are opened."""
        return unfold(limit.z[var], {"value", "zdot"}, most=2000)

    # ---- the certificate ---------------------------------------------------------------------------

    def certify(self, kernel: KernelChoice = None, gia: bool = False) -> Certificate:
        """Compare the derived change of f with kernel gradient descent, step by step, symbolically.

        Plain SGD is certified against −η_t Σ χ_t K(ξ, ξ_t)/B; momentum against the update it implies,
        −Σ_s (c_{t+1,s} − c_{t,s}) χ_s K(ξ, ξ_s)/B.  With weight decay there is no fixed kernel; the
        derived update is stated.

        Args:
            kernel: another network (or kernel of one) to predict with; None derives K of this one by
                path sums, independently of the unrolled program.
            gia: derive the change as if Wᵀ were independent of W, to show what that would give.

        Returns:
            The rows, printable, after the hypotheses of the theorem that the network lacks; ``.passed`` is the verdict.
        """
        limit = self._interpreter
        if flag(gia, "gia"):
            limit = Interpreter(decouple(self.program, lambda var, op: op.transpose), self._names)
        kernels: dict[tuple[int, int, int, int], Poly] = {}
        source = self._kernels(limit) if kernel is None else self._kernels_of(kernel)
        rows = []
        for t in range(self.plan.steps):
            for test in range(len(self.plan.tests)):
                for head in range(len(self.trace.heads[self.plan.tests[test]])):
                    rows.append(self._row(limit, t, test, head, source, kernels))
        printed = {self._kernel_name(*key): p for key, p in kernels.items()}
        return Certificate(self._title(gia), rows, printed, self._statement(), self._hypotheses())

    def _hypotheses(self) -> list[Hypothesis]:
        """What the theorem asks for and the network lacks; an output that diverges leaves a given χ_t as it is."""
        data = [self.trace.inputs[i] for i in dict.fromkeys((*self.plan.tests, *sum(self.plan.schedule, ())))]
        lengths: list[Length] = [x[0].time and len(x) for x in data]
        found = [*derivatives_of(self.net, lengths, self.plan.moving)]
        for h in outputs_of(self.net, lengths):
            given = h.holds is False and not self.plan.loss.uses_labels
            found.append(
                replace(h, holds=None, detail=f"{h.detail}; assumed is that χ_t stays bounded") if given else h
            )
        return found

    def _row(self, limit: Interpreter, t: int, test: int, head: int, source: Any, kernels: dict[Any, Poly]) -> Row:
        i = self.plan.tests[test]
        label = self.trace.inputs[i][0].label + (f".{head}" if len(self.trace.heads[i]) > 1 else "")
        symbol = NameSymbol(f"f{t + 1}({label}) − f{t}({label})", rf"f_{{{t + 1}}}({label}) - f_{{{t}}}({label})")
        change = self._change(limit, t, test, head)
        if self.plan.optimizer.decays:
            return Row(symbol, change, None, None, None)
        terms, formula = [], []
        for s in range(t + 1):
            weight = -self.plan.optimizer.increment(t, s) / len(self.plan.schedule[s])
            for position, j in enumerate(self.plan.schedule[s]):
                for l in range(len(self.trace.heads[j])):
                    key = (i, j, head, l)
                    if key not in kernels:
                        kernels[key] = source(*key)
                    chi = self._unrolled.chi[s, position, l]
                    terms.append(limit.algebra.from_sympy(weight, {}) * limit.z[chi] * kernels[key])
                    formula.append(weight * sp.Symbol(chi.name, real=True) * self._kernel_name(*key))
        prediction = add_all(terms)
        return Row(symbol, change, prediction, sp.Add(*formula), same(change, prediction))

    def _kernels(self, limit: Interpreter) -> KernelOfHeads:
        """(i, j, head, head') ↦ the NTK of the trained parameters, in a limit of the forward program."""
        return kernels_of(self.trace, self.plan.moving, limit)

    def _kernels_of(self, kernel: DerivedKernel | Network) -> KernelOfHeads:
        """The same for another network, on inputs of the same names."""
        net = kernel.net if isinstance(kernel, DerivedKernel) else kernel
        if not isinstance(net, Network):
            raise ProgramError(f"certify compares with a network or a kernel of one, got {shortly(kernel)}")
        lengths: list[Length] = [data[0].time and len(data) for data in self.trace.inputs]
        trace = net.trace(lengths, [data[0].label for data in self.trace.inputs])
        lost = self.trace.trainable.keys() - self.plan.moving
        trained = {n: self.plan.rate(n) for n in trace.trainable if n not in lost}
        return PathKernels(trace, Interpreter(trace.program, NetworkNames(trace, [])), trained)

    def _kernel_name(self, i: int, j: int, k: int, l: int) -> NameSymbol:
        a, b = (self.trace.inputs[n][0].label for n in (i, j))
        return NameSymbol(f"K({a},{b})" + (f".{k}{l}" if len(self.trace.heads[i]) > 1 else ""))

    def __repr__(self) -> str:
        return f"<{self.title}: {self.regime}, {len(self.program)} instructions>"

    @property
    def title(self) -> str:
        """The network, the number of steps and the optimizer."""
        return self._title(False)

    @property
    def regime(self) -> str:
        """``"features move"`` or ``"kernel regime"``."""
        return "features move" if isinstance(self, FeatureTraining) else "kernel regime"

    def text(self) -> str:
        """What is trained on what, and what to ask."""
        plan = self.plan
        tests = ", ".join(self.trace.inputs[i][0].label for i in plan.tests)
        samples = "; ".join(", ".join(self.trace.inputs[j][0].label for j in step) for step in plan.schedule)
        ask = ".f(t), .delta_f(t), .Z(t, vector)" + ("" if isinstance(self, FeatureTraining) else ", .certify()")
        rows = [f"{self.title}: {self.regime}", f"  trained: {', '.join(sorted(plan.trained))}",
                *([f"  rates: {dict(sorted(plan.rates.items()))}"] if plan.rates else []),
                f"  loss: {plan.loss.name}", f"  samples: {samples}", f"  followed: {tests}",
                f"  program: {counted(len(self.program), 'instruction')}", f"  ask {ask}"]  # fmt: skip
        return "\n".join(rows)

    def _title(self, gia: bool) -> str:
        wrong = ", if Wᵀ were independent of W (it is not)" if gia else ""
        return f"{self.net!r}, {counted(self.plan.steps, 'step')} of {self.plan.optimizer!r}{wrong}"

    def _statement(self) -> str:
        if self.plan.optimizer.decays:
            return "with weight decay no fixed kernel describes training; the derived changes of f:"
        if self.plan.optimizer.plain:
            return "f_{t+1}(ξ) − f_t(ξ) against −η_t Σ χ_t K(ξ, ξ_t)/B:"
        return "f_{t+1}(ξ) − f_t(ξ) against −Σ_s (c_{t+1,s} − c_{t,s}) Σ χ_s K(ξ, ξ_s)/B, c the momentum's weights:"


class FeatureTraining(Training):
    """An unrolled training run whose features move by O(1); no kernel describes it.

    Z^{f_t} and Z^{x_t} are exact where the nonlinearities are polynomials; ``tp.limit(run.program, "sampling", ..)``
    and ``"quadrature"`` (one hidden layer) answer for every nonlinearity, as does ``tp.feature_limit`` on data.

    >>> import tensorprog as tp
    >>> run = tp.unroll(tp.programs.deep_linear(depth=1), steps=1, parametrization=tp.mup(), loss="mse")
    >>> run.f(1), run.zdelta(1, "U(x)")
    (2*y(ξ0)*⟨x,ξ0⟩*eta, Z(V)*y(ξ0)*⟨x,ξ0⟩*eta)
    """

    def zdelta(self, t: int, vector: Variable | str) -> sp.Expr:
        """Z of the change x_t − x_0 of a vector, which is O(1)."""
        return self.Z(t, vector) - self.Z(0, vector)

    def certify(self, kernel: KernelChoice = None, gia: bool = False) -> Certificate:
        """Refused: features may move, so that no fixed kernel describes f."""
        raise AssumptionError(
            f"{self.net!r} trains with a readout that starts at 1/n or below, where features move and no fixed kernel "
            "describes f; ask for .limit, or for tp.feature_limit on data"
        )


def unroll(
    net: Network,
    steps: int,
    optimizer: SGD | None = None,
    batch: int = 1,
    loss: LossChoice | None = None,
    trainable: Sequence[Pattern] | None = None,
    tests: int = 1,
    lengths: Sequence[int] | Sequence[tuple[int, ...]] | None = None,
    parametrization: ParametrizationChoice | None = None,
    rates: Mapping[Pattern, Number] | None = None,
) -> Training:
    """Write a whole training run as one program (TP2b App. D.1).

    Args:
        net: an architecture.
        steps: number of SGD steps.
        optimizer: ``tp.SGD(lr, momentum, weight_decay)``; a symbolic learning rate η when None.
        batch: samples per step, all different, with weight 1/batch each.
        loss: None leaves χ_t = L'(f_t) a symbol; ``"mse"``, ``"logistic"`` or a function of (f, y).
        trainable: the parameters to train, as in ``tp.ntk``; None for all.
        tests: number of test inputs to follow.
        lengths: for sequences, the lengths of the tests followed by those of the samples; 3 when None.  Networks over
            positions are unrolled with a vector for every one, at given sizes such as [(3, 3), (3, 3)], small ones when
            None: what is certified is certified at these sizes.
        parametrization: ``"mup"``, ``"standard"``, ``tp.standard(c=1)``, ``tp.abc(..)``; that of the NTK when None.
        rates: factors of learning rates, as in ``tp.ntk``.

    Returns:
        The run: ``.program``, ``.delta_f(t, test)``, ``.Z(t, vector)``, ``.certify()``; a ``FeatureTraining``
        where the parametrization learns features.

    Raises:
        ProgramError: steps or batch below 1, an unknown parameter or loss, an unsupported optimizer.
        AssumptionError: the parametrization is not stable, with the layer and the exponent.

    >>> import tensorprog as tp
    >>> tp.unroll(tp.programs.mlp(depth=2, phi=tp.abstract("phi")), steps=2).certify().passed
    True
    """
    check_network(net)
    check_counts(steps=steps, batch=batch, tests=tests)
    count = tests + steps * batch
    labels = [*("x" + "'" * i for i in range(tests)), *(f"ξ{s}" for s in range(steps * batch))]
    net, shape = to_unroll(net, lengths, count)
    schedule = tuple(tuple(tests + t * batch + b for b in range(batch)) for t in range(steps))
    chosen = Rates.of(trainable, rates, parametrization)
    if isinstance(net, Separated) and chosen != ALL:
        trace = net.net.trace([None])
        chosen = chosen.check(trace).of_names(trace, net.named(trace.trainable))
    return plan_training(net, shape, labels, range(tests), schedule, optimizer, loss, chosen)


def check_counts(**counts: Any) -> None:
    """Refuse numbers of steps, samples or tests that are not positive integers.

    Raises:
        ProgramError: naming the one that is not.
    """
    for what, value in counts.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ProgramError(f"{what} must be a positive integer, got {shortly(value)}")
        if value > MANY:
            raise ProgramError(f"{what} must be at most {MANY}, got {value}")


def check_widths(widths: Any, least: int = 1) -> list[int]:
    """Widths, refused where they are no sequence of integers.

    Raises:
        DataError: saying what was given.
    """
    if not isinstance(widths, (Sequence, np.ndarray)) or isinstance(widths, str) or not is_array(widths):
        raise DataError(f"widths must be a sequence such as (64, 128, 256), got {shortly(widths)}")
    for w in widths:
        if isinstance(w, bool) or not isinstance(w, (int, np.integer)) or w < least:
            raise DataError(f"a width must be an integer of at least {least}, got {shortly(w)}")
    return [int(w) for w in widths]


def plan_training(
    net: Network,
    lengths: Sequence[Length],
    labels: Sequence[str],
    tests: Iterable[int],
    schedule: Sequence[Sequence[int]],
    optimizer: SGD | None = None,
    loss: LossChoice | None = None,
    chosen: Rates = ALL,
    probes: Sequence[int] = (),
) -> Training:
    """A training run on inputs of given lengths: which are tests, and which are the samples of each step."""
    trace = net.trace(lengths, labels)
    plan = make_plan(trace, tests, schedule, optimizer, loss, chosen, probes)
    if plan.scaling.keeps_changes:
        return FeatureTraining(net, unroll_features(trace, plan))
    return Training(net, unroll_trace(trace, plan))


def make_plan(
    trace: Trace,
    tests: Iterable[int],
    schedule: Sequence[Sequence[int]],
    optimizer: SGD | None = None,
    loss: LossChoice | None = None,
    chosen: Rates = ALL,
    probes: Sequence[int] = (),
) -> Plan:
    """The plan of a run, checked; of the trace, the parameters and the number of outputs matter."""
    optimizer = SGD(sp.Symbol("eta", positive=True)) if optimizer is None else optimizer
    if not isinstance(optimizer, SGD):
        raise ProgramError(f"unsupported optimizer {shortly(optimizer)}; use tp.SGD(lr, momentum, weight_decay)")
    for t in probes:
        if not 0 <= t <= len(schedule):
            raise ProgramError(f"probes must be times between 0 and {len(schedule)}, got {shortly(t)}")
    for t in range(len(schedule)):
        optimizer.rate(t)
    plan = Plan(
        steps=len(schedule),
        tests=tuple(tests),
        schedule=tuple(tuple(step) for step in schedule),
        optimizer=optimizer,
        loss=Loss(loss, len(trace.heads[0])),
        trained=chosen.check(trace).trained(trace),
        probes=tuple(probes),
        scaling=scaling(trace, chosen.parametrization),
        rates=chosen.with_learning_rates(trace, optimizer._rates),
    )
    if probes and plan.scaling.keeps_changes:
        raise ProgramError("probes follow the NTK, which is for parametrizations of the kernel regime")
    scheme = chosen.parametrization
    if optimizer.decays and scheme is not None and any(c != 0 for c in scheme.rates):
        raise ProgramError(
            f"weight decay with the learning rate η·n^(-c), c = {scheme.c}, depends on the width; "
            "give an equivalent parametrization with c = 0: parametrization.shift(c/2)"
        )
    return plan


def one_step_kernel(net: Network, lengths: Sequence[Length],
                    chosen: Rates = ALL) -> tuple[Trace, Interpreter, Poly]:  # fmt: skip
    """K(x, x') read off one SGD step on x': lim f_1(x) − f_0(x) at η = 1, χ = −1; K(x, x) for a single length."""
    labels = ["x", "x'"][: len(lengths)]

    def loss(f: Any, y: Any) -> Any:
        return -(f[0] if isinstance(f, tuple) else f)

    training = plan_training(net, lengths, labels, [0], [[len(lengths) - 1]], SGD(1), loss, chosen)
    change = training._change(training._interpreter, 0, 0, 0)
    return training.trace, training._interpreter, unfold(change, {"zdot"}, most=5000)
