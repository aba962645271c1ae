"""SGD unrolled into one program, exact at finite width (TP2b App. D.1, generalised).

With θ = n^(−1/2), parameters w_t = a_t w_0 − Σ_{s<t} c_{t,s} G_s, G_s the gradients that were used: every vector at
time t is x_t = x̂_t + θ δx_t, where x̂_t is its value with the parameters a_t w_0 (x_0 without weight decay), and

- g = Wh:  δg_t = a_t W_0 δh_t − Σ_s c_{t,s} χ_s σ_W² Σ_{g'=Wh'} dg'_s · Moment(h'_s h_t), roles swapped for Wᵀ;
- embedding: −Σ_s c_{t,s} χ_s σ_u² ⟨ξ_s,ξ⟩ dg_s;  bias: −Σ_s c_{t,s} χ_s σ_b² db_s;  readout: −Σ_s c_{t,s} χ_s σ_v x_s;
- Nonlin: ``Difference``, Σ ∂_iψ δx_i in the limit;
- f_t = f̂_t + σ_v Moment(v̂_t δx_t) + σ_v Moment(δv_t x_t), where f̂_t enters as an initial scalar.

In other parametrizations of the kernel regime θ = n^(A−1), with n^(−A) the size of the readout weights, and every
update has a factor n^(−p), p ≥ 0 (``parametrization.scaling``).  From A = 1 on, see ``feature``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import singledispatch
from typing import Any

import sympy as sp

from tensorprog.dsl.parameters import Parameter
from tensorprog.dsl.trace import Output, Trace
from tensorprog.errors import NoRuleError
from tensorprog.ir.axes import Reading
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import (
    Difference,
    InitMatrix,
    InitScalar,
    InitVector,
    Kept,
    MatMul,
    Moment,
    Nonlin,
    Var,
    slots_of,
    vector_slot,
)
from tensorprog.passes.backprop import Gradients, Tape
from tensorprog.passes.optimizer import SGD, Loss
from tensorprog.passes.scaling import Scaling
from tensorprog.passes.separate import apart_first
from tensorprog.printing import NameSymbol


@dataclass(frozen=True)
class Plan:
    """What is trained on what: inputs by number, ``schedule[t]`` the samples of step t.

    Attributes:
        steps: number of steps.
        tests: inputs whose outputs are followed over all times.
        schedule: the batch of each step.
        optimizer, loss: how.
        trained: names of the parameters that move.
        scaling: the powers of n of the parametrization.
        probes: times at which the gradients of the tests are written too, to follow their NTK.
        rates: factors of the learning rate of parameters, where they are not 1.
    """

    steps: int
    tests: tuple[int, ...]
    schedule: tuple[tuple[int, ...], ...]
    optimizer: SGD
    loss: Loss
    trained: frozenset[str]
    scaling: Scaling
    probes: tuple[int, ...] = ()
    rates: Mapping[str, sp.Expr] = field(default_factory=dict)

    @property
    def moving(self) -> dict[str, sp.Expr]:
        """The trained parameters whose updates matter in the limit, with the factors of their learning rates."""
        return {n: self.rate(n) for n in sorted(self.trained) if self.scaling.update.get(n, sp.S.Zero) == 0}

    @property
    def symbols(self) -> set[sp.Symbol]:
        """The hyperparameters of the run that are symbols."""
        o = self.optimizer
        read = (*map(o.rate, range(self.steps)), o.momentum, o.weight_decay, *self.rates.values())
        return self.loss.symbols.union(*(x.free_symbols for x in read))

    def rate(self, name: str) -> sp.Expr:
        """The factor of the learning rate of a parameter."""
        return self.rates.get(name, sp.S.One)


@dataclass
class Unrolled:
    """The program of a whole training run, and where to find things in it.

    Attributes:
        trace: the forward program at time 0, of all inputs.
        program: the whole run.
        f: output at (t, input, head).
        chi: loss derivative at (t, position in the batch, head).
        state: value at time t of a variable of the trace, for those that were needed.
        delta: its scaled change √n (x_t − x̂_t), where it moves.
        gradients: of the output (t, position in the batch, head).
        probes: gradients of the first output of a test, by (t, input).
        outputs0: the initial scalars f̂_t, by (t, input, head); t is 0 without weight decay.
        base: for weight decay, the value x̂_t of a variable.
        labels: the initial scalars y, by (input, head).
        theta: the scalar n^(−1/2), or what the parametrization says; 1 where changes are not small.
        powers: the scalars n^(−p), by p.
        biases0: the initial values of output biases, by name, where there is no f̂_0.
    """

    trace: Trace
    plan: Plan
    program: ProgramGraph
    theta: Var
    f: dict[tuple[int, int, int], Var] = field(default_factory=dict)
    chi: dict[tuple[int, int, int], Var] = field(default_factory=dict)
    state: dict[tuple[int, Var], Var] = field(default_factory=dict)
    delta: dict[tuple[int, Var], Var | None] = field(default_factory=dict)
    gradients: dict[tuple[int, int, int], Gradients] = field(default_factory=dict)
    probes: dict[tuple[int, int], Gradients] = field(default_factory=dict)
    outputs0: dict[tuple[int, int, int], Var] = field(default_factory=dict)
    base: dict[tuple[int, Var], Var] = field(default_factory=dict)
    labels: dict[tuple[int, int], Var] = field(default_factory=dict)
    powers: dict[sp.Rational, Var] = field(default_factory=dict)
    biases0: dict[str, Var] = field(default_factory=dict)

    def decay(self, t: int, name: str) -> sp.Expr:
        """a_t of a parameter."""
        return self.plan.optimizer.decay(t) if name in self.plan.trained else sp.S.One


def unroll_trace(trace: Trace, plan: Plan) -> Unrolled:
    """Write the training run that a plan describes as one program.

    Args:
        trace: the network traced on all inputs, tests and samples.
        plan: the run.
    """
    program: ProgramGraph = trace.program.copy()
    theta = program.append(program.fresh("θ"), InitScalar(sp.S.Zero))
    return write(Unroller(Unrolled(trace, plan, program, theta)))


def write(run: Unroller) -> Unrolled:
    """Emit all steps of a run, and the gradients of the tests at the probed times."""
    plan, trace = run.plan, run.trace
    for t in range(plan.steps):
        for i in dict.fromkeys((*plan.tests, *plan.schedule[t])):
            run.outputs(t, i)
        for position, i in enumerate(plan.schedule[t]):
            run.sample(t, position, i)
    for i in plan.tests:
        run.outputs(plan.steps, i)
        for t in plan.probes:
            tape = TimeTape(run, t, f"p{t}_")
            run.u.probes[t, i] = tape.backward(run.forward.items(), trace.heads[i][0], f"@{t}")
    return run.u


class Unroller:
    """Emits the run, time by time."""

    def __init__(self, u: Unrolled) -> None:
        self.u, self.plan, self.trace = u, u.plan, u.trace
        if u.trace.program.has_axes:
            raise apart_first()
        self.parameter: dict[Var, tuple[str, Parameter]] = {
            p.var: (n, p) for n, p in u.trace.parameters.items() if p.var is not None
        }
        for var, (name, _) in u.trace.embeddings.items():
            self.parameter[var] = (name, u.trace.parameters[name])
        self.forward = dict(u.trace.program)
        self.uses = {
            p.var: [(v, op) for v, op in self.forward.items() if isinstance(op, MatMul) and op.matrix == p.var]
            for p in u.trace.parameters.values()
        }
        self.emitter = TimeTape(self, 0, "t_")

    @property
    def theta(self) -> sp.Expr:
        """θ, or 1 where changes are not small."""
        return sp.S.One if self.plan.scaling.keeps_changes else self.emitter.ref(self.u.theta)

    def power(self, p: sp.Expr) -> sp.Expr:
        """n^(−p) as a scalar of the program with limit 0; 1 for p = 0."""
        if p == 0:
            return sp.S.One
        if p not in self.u.powers:
            self.u.powers[p] = self.u.program.append(self.u.program.fresh(f"n^(-{p})_"), InitScalar(sp.S.Zero))
        return self.emitter.ref(self.u.powers[p])

    # ---- one time step -----------------------------------------------------------------------------

    def outputs(self, t: int, i: int) -> None:
        """f_t of an input, all heads."""
        for k, output in enumerate(self.trace.heads[i]):
            if (t, i, k) not in self.u.f:
                self.u.f[t, i, k] = self._output(t, i, k, output)

    def _output(self, t: int, i: int, k: int, output: Output) -> Var:
        e = self.emitter
        total: sp.Expr = e.ref(self.output0(t, i, k))
        for r in output.readouts:
            dx, dv = self.delta(t, r.x), self.delta(t, r.v)
            if dx is not None:
                total += r.std * e.mean(e.ref(self.base(t, r.v)) * e.ref(dx))
            if dv is not None:
                total += r.std * e.mean(e.ref(dv) * e.ref(self.now(t, r.x)))
        return e.emit(Moment, total + self.bias_change(t, output), f"f{t}({self.label(i)}){self.head(i, k)}")

    def bias_change(self, t: int, output: Output) -> sp.Expr:
        """What the updates of output biases have added to an output."""
        total = sp.S.Zero
        for name, std in output.biases:
            for c, chi, j, l, _ in self.past(t, name):
                total -= c * std * sum(s for n, s in self.trace.heads[j][l].biases if n == name) * self.emitter.ref(chi)
        return total

    def output0(self, t: int, i: int, k: int) -> Var:
        """f̂_t(ξ), the output with the parameters a_t w_0, as an initial scalar."""
        time = t if self.plan.optimizer.decays else 0
        key = (time, i, k)
        if key not in self.u.outputs0:
            head = self.head(i, k)
            symbol = NameSymbol(f"f_0{'' if time == 0 else f'^{time}'}({self.label(i)}){head}",
                                f"f_0{'' if time == 0 else f'^{{({time})}}'}({self.label(i)}){head}")  # fmt: skip
            for r in self.trace.heads[i][k].readouts:
                self.base(t, r.x)
                self.base(t, r.v)
            start = symbol if self.starts_random(i, k) else sp.S.Zero
            self.u.outputs0[key] = self.u.program.append(f"f̂{time}({self.label(i)}){head}", InitScalar(start))
        return self.u.outputs0[key]

    def starts_random(self, i: int, k: int) -> bool:
        """Whether f_0 does not vanish in the limit."""
        output, initial = self.trace.heads[i][k], self.plan.scaling.initial
        names = [r.name for r in output.readouts if not r.trained or r.name in self.trace.random]
        names += [name for name, _ in output.biases]
        return any(initial.get(name, sp.S.Zero) == 0 for name in names)

    def sample(self, t: int, position: int, i: int) -> None:
        """χ and the gradients of one sample of the batch at time t."""
        heads = self.trace.heads[i]
        f = [self.u.f[t, i, k] for k in range(len(heads))]
        y = [self._label(i, k) for k in range(len(heads))] if self.plan.loss.uses_labels else []
        for k, output in enumerate(heads):
            name = f"χ{t}" + (f"_{position}" if len(self.plan.schedule[t]) > 1 else "") + self.head(i, k)
            chi = self.plan.loss.derivative(k, [self.emitter.ref(v) for v in f], [self.emitter.ref(v) for v in y])
            if chi is None:
                self.u.chi[t, position, k] = self.u.program.append(name, InitScalar(sp.Symbol(name, real=True)))
            else:
                self.u.chi[t, position, k] = self.emitter.emit(Moment, chi, name)
            tape = TimeTape(self, t, f"d{t}_")
            suffix = f"@{t}" + (f".{k}" if k else "")
            self.u.gradients[t, position, k] = tape.backward(self.forward.items(), output, suffix)

    def _label(self, i: int, k: int) -> Var:
        if (i, k) not in self.u.labels:
            name = f"y({self.label(i)}){self.head(i, k)}"
            self.u.labels[i, k] = self.u.program.append(name, InitScalar(NameSymbol(name, name)))
        return self.u.labels[i, k]

    def label(self, i: int) -> str:
        """The printed name of an input."""
        return self.trace.inputs[i][0].label

    def head(self, i: int, k: int) -> str:
        """A suffix for heads, where there are several."""
        return f".{k}" if len(self.trace.heads[i]) > 1 else ""

    def past(self, t: int, name: str) -> Iterator[tuple[sp.Expr, Var, int, int, tuple[int, int, int]]]:
        """(c_{t,s}/B, χ_s, sample, head, key) of every gradient that has moved a parameter before time t."""
        if name in self.plan.trained:
            size = self.power(self.plan.scaling.update.get(name, sp.S.Zero)) * self.plan.rate(name)
            for s in range(t):
                batch = self.plan.schedule[s]
                c = self.plan.optimizer.weight(t, s) * size / len(batch)
                for position, j in enumerate(batch):
                    for l in range(len(self.trace.heads[j])):
                        key = (s, position, l)
                        if c != 0:
                            yield c, self.u.chi[key], j, l, key

    # ---- values at time t -----------------------------------------------------------------------------

    def now(self, t: int, var: Var) -> Var:
        """x_t = x̂_t + θ δx_t."""
        if (t, var) not in self.u.state:
            base, delta, e = self.base(t, var), self.delta(t, var), self.emitter
            if delta is not None:
                kind = Nonlin if var.kind == "vector" else Moment
                base = e.emit(kind, e.ref(base) + self.theta * e.ref(delta), f"{var}@{t}")
            self.u.state[t, var] = base
        return self.u.state[t, var]

    def base(self, t: int, var: Var) -> Var:
        """x̂_t: the value with the parameters a_t w_0."""
        if not self.plan.optimizer.decays or t == 0:
            return var
        if (t, var) not in self.u.base:
            self.u.base[t, var] = rebase(self.forward[var], var, self, t)
        return self.u.base[t, var]

    def delta(self, t: int, var: Var) -> Var | None:
        """δx_t = √n (x_t − x̂_t); None where nothing has moved."""
        if t == 0:
            return None
        if (t, var) not in self.u.delta:
            self.u.delta[t, var] = change(self.forward[var], var, self, t)
        return self.u.delta[t, var]

    def update(self, t: int, matrix: Var, transpose: bool, x: Var) -> sp.Expr:
        """√n (a_t W_0 − W_t) x, or of the transpose: Σ_s c χ_s σ_W² Σ dg_s Moment(h_s x)."""
        name, parameter = self.parameter[matrix]
        e, terms = self.emitter, []
        for c, chi, _, _, key in self.past(t, name):
            for g, op in self.uses[matrix]:
                for d in self.u.gradients[key].of.get(g, ()):
                    h = self.now(key[0], op.x)
                    out, inside = (d, h) if op.transpose == transpose else (h, d)
                    moment = e.mean(e.ref(inside) * e.ref(x))
                    terms.append(c * parameter.std**2 * e.ref(chi) * moment * e.ref(out))
        return sp.Add(*terms)

    def initial_update(self, t: int, var: Var) -> sp.Expr:
        """√n (a_t v_0 − v_t) of an embedded vector, a bias or a readout vector."""
        if var not in self.parameter:
            return sp.S.Zero
        name, p = self.parameter[var]
        e, terms = self.emitter, []
        for c, chi, j, l, key in self.past(t, name):
            if p.kind == "readout":
                reads = [r for r in self.trace.heads[j][l].readouts if r.v == var and r.trained]
                terms += [c * r.std * e.ref(chi) * e.ref(self.now(key[0], r.x)) for r in reads]
                continue
            for other, d in self._initial_gradients(var, name, key):
                factor = p.std**2 if p.kind == "bias" else p.std**2 * self._gram(var, other)
                terms.append(c * factor * e.ref(chi) * e.ref(d))
        return sp.Add(*terms)

    def _initial_gradients(self, var: Var, name: str, key: tuple[int, int, int]) -> Iterator[tuple[Var, Var]]:
        embedded = self.trace.embeddings
        same = [v for v, (n, _) in embedded.items() if n == name] if var in embedded else [var]
        for other in same:
            for d in self.u.gradients[key].of.get(other, ()):
                yield other, d

    def _gram(self, a: Var, b: Var) -> sp.Expr:
        return self.trace.gram(self.trace.embeddings[a][1], self.trace.embeddings[b][1])


class TimeTape(Tape):
    """A backward pass at time t."""

    def __init__(self, unroller: Unroller, t: int, prefix: str) -> None:
        super().__init__(unroller.u.program, prefix)
        self.unroller, self.t = unroller, t

    def now(self, var: Var) -> Var:
        return self.unroller.now(self.t, var)

    def matmul(self, matrix: Var, transpose: bool, x: Var, name: str | None = None, by: Reading | None = None) -> Var:
        """W_t x = a_t W_0 x − θ Σ_s c χ_s σ_W² Σ dg_s Moment(h_s x)."""
        run, e = self.unroller, self.unroller.emitter
        expr = run.u.decay(self.t, run.parameter[matrix][0]) * e.ref(self.product(matrix, transpose, x, by))
        update = run.update(self.t, matrix, transpose, x)
        return e.emit(Nonlin, sp.expand_mul(expr - run.theta * update) if update != 0 else expr, name)


@singledispatch
def change(op: Any, var: Var, run: Unroller, t: int) -> Var | None:
    """δ of ``var := op`` at time t; register a rule for a new instruction."""
    raise NoRuleError(f"no unrolling rule for {type(op).__name__}: register one with tensorprog.passes.unroll.change")


@change.register
def _(op: InitScalar | InitMatrix | Kept, var: Var, run: Unroller, t: int) -> Var | None:
    return None


@change.register(InitVector)
def _(op: InitVector, var: Var, run: Unroller, t: int) -> Var | None:
    update = run.initial_update(t, var)
    return run.emitter.emit(Nonlin, -update, f"δ{var}@{t}") if update != 0 else None


@change.register(MatMul)
def _(op: MatMul, var: Var, run: Unroller, t: int) -> Var | None:
    e = run.emitter
    total = -run.update(t, op.matrix, op.transpose, run.now(t, op.x))
    delta = run.delta(t, op.x)
    if delta is not None:
        a = run.u.decay(t, run.parameter[op.matrix][0])
        total += a * e.ref(e.product(op.matrix, op.transpose, delta))
    return e.emit(Nonlin, total, f"δ{var}@{t}") if total != 0 else None


@change.register(Nonlin)
@change.register(Moment)
def _(op: Any, var: Var, run: Unroller, t: int) -> Var | None:
    e = run.emitter
    deltas = {s: run.delta(t, v) for s, v in slots_of(op).items()}
    moved = {s: d for s, d in deltas.items() if d is not None}
    if not moved:
        return None
    if _linear(op.body, list(moved)):
        expr = sp.Add(*(sp.diff(op.body, s) * e.ref(d) for s, d in moved.items()))
        return e.emit(type(op), expr, f"δ{var}@{t}")
    args, params = (tuple(run.base(t, v) for v in vs) for vs in (op.args, op.params))
    arg_deltas, param_deltas = (tuple(run.delta(t, v) for v in vs) for vs in (op.args, op.params))
    quotient = run.u.program.append(
        None, Difference(op.body, args, arg_deltas, params, param_deltas, run.u.theta), f"δ{var}@{t}_"
    )
    return quotient if isinstance(op, Nonlin) else e.emit(Moment, e.ref(quotient), f"δ{var}@{t}")


def _linear(body: sp.Expr, slots: list[sp.Symbol]) -> bool:
    """Whether a body is affine in the moved operands with constant coefficients."""
    return all(not sp.diff(body, s).atoms(type(vector_slot(0))) for s in slots)


@singledispatch
def rebase(op: Any, var: Var, run: Unroller, t: int) -> Var:
    """The value of ``var := op`` with the parameters a_t w_0."""
    return var


@rebase.register(InitVector)
def _(op: InitVector, var: Var, run: Unroller, t: int) -> Var:
    a = run.u.decay(t, run.parameter[var][0]) if var in run.parameter else sp.S.One
    return run.emitter.emit(Nonlin, a * run.emitter.ref(var), f"{var}~{t}")


@rebase.register(MatMul)
def _(op: MatMul, var: Var, run: Unroller, t: int) -> Var:
    x, e = run.base(t, op.x), run.emitter
    a = run.u.decay(t, run.parameter[op.matrix][0])
    product = var if x == op.x else e.product(op.matrix, op.transpose, x)
    return e.emit(Nonlin, a * e.ref(product), f"{var}~{t}")


@rebase.register(Nonlin)
@rebase.register(Moment)
def _(op: Any, var: Var, run: Unroller, t: int) -> Var:
    args, params = (tuple(run.base(t, v) for v in vs) for vs in (op.args, op.params))
    if (args, params) == (op.args, op.params):
        return var
    return run.u.program.append(None, type(op)(op.body, args, params), "b_")
