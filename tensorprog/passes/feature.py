"""SGD that learns features, unrolled into one program that is exact at finite width (Yang & Hu 2021).

With readout weights n^(−G) v and dx = n^G ∂f/∂x, every vector of the network is recomputed at every time:

- W_t y = a_t W_0 y − Σ_s c_{t,s} χ_s σ_W² n^(−p) Σ_{g=Wh} dg_s · Moment(h_s y), roles swapped for Wᵀ;
- embedding: U_t ξ = a_t U_0 ξ − Σ_s c_{t,s} χ_s σ_u² n^(−p) ⟨ξ_s,ξ⟩ dg_s;  biases likewise, without ⟨ξ_s,ξ⟩;
- readout: v_t = a_t v_0 − Σ_s c_{t,s} χ_s σ_v n^(−p) x_s,  f_t = σ_v n^(1−G) Moment(v_t x_t).

The powers p ≥ 0 are those of ``scaling``, 0 for the layers that decide r = 0; in µP all are 0 and G = 1.
"""

from __future__ import annotations

from functools import singledispatch
from typing import Any

import sympy as sp

from tensorprog.dsl.trace import Output, Trace
from tensorprog.errors import NoRuleError
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitMatrix, InitScalar, InitVector, Kept, MatMul, Moment, Nonlin, Var
from tensorprog.passes.unroll import Plan, TimeTape, Unrolled, Unroller, write
from tensorprog.printing import NameSymbol


def unroll_features(trace: Trace, plan: Plan) -> Unrolled:
    """Write a training run whose features move by O(1) as one program.

    Args:
        trace: the network traced on all inputs.
        plan: the run; its scaling has θ = 1.
    """
    program: ProgramGraph = trace.program.copy()
    theta = program.append(program.fresh("θ"), InitScalar(sp.S.One))
    return write(FeatureUnroller(Unrolled(trace, plan, program, theta)))


class FeatureUnroller(Unroller):
    """Emits the run with x_t itself in place of x̂_t + θ δx_t."""

    def now(self, t: int, var: Var) -> Var:
        """x_t."""
        if (t, var) not in self.u.state:
            self.u.state[t, var] = advance(self.forward[var], var, self, t)
        return self.u.state[t, var]

    def _output(self, t: int, i: int, k: int, output: Output) -> Var:
        e = self.emitter
        terms = [r.std * e.mean(e.ref(self.now(t, r.v)) * e.ref(self.now(t, r.x))) for r in output.readouts]
        total = self.power(self.plan.scaling.output) * sp.Add(*terms)
        for name, std in output.biases:
            total += std * self.u.decay(t, name) * e.ref(self._output_bias(name))
        return e.emit(Moment, total + self.bias_change(t, output), f"f{t}({self.label(i)}){self.head(i, k)}")

    def _output_bias(self, name: str) -> Var:
        if name not in self.u.biases0:
            vanishes = self.plan.scaling.initial[name] > 0
            start = sp.S.Zero if vanishes else NameSymbol(f"{name}_0")
            self.u.biases0[name] = self.u.program.append(self.u.program.fresh(f"{name}_"), InitScalar(start))
        return self.u.biases0[name]


@singledispatch
def advance(op: Any, var: Var, run: FeatureUnroller, t: int) -> Var:
    """The value of ``var := op`` at time t; register a rule for a new instruction."""
    raise NoRuleError(f"no rule to train through {type(op).__name__}: register one with "
                      "tensorprog.passes.feature.advance")  # fmt: skip


@advance.register(InitMatrix)
@advance.register(InitScalar)
@advance.register(Kept)
def _(op: Any, var: Var, run: FeatureUnroller, t: int) -> Var:
    return var


@advance.register(InitVector)
def _(op: InitVector, var: Var, run: FeatureUnroller, t: int) -> Var:
    e, expr = run.emitter, run.emitter.ref(var)
    if var in run.parameter:
        name = run.parameter[var][0]
        expr *= run.power(run.plan.scaling.initial.get(name, sp.S.Zero)) * run.u.decay(t, name)
    return e.emit(Nonlin, expr - run.initial_update(t, var), f"{var}@{t}")


@advance.register(MatMul)
def _(op: MatMul, var: Var, run: FeatureUnroller, t: int) -> Var:
    if t == 0:
        return var
    return TimeTape(run, t, f"W_0 {op.x}@{t}_").matmul(op.matrix, op.transpose, run.now(t, op.x), name=f"{var}@{t}")


@advance.register(Nonlin)
@advance.register(Moment)
def _(op: Any, var: Var, run: FeatureUnroller, t: int) -> Var:
    args, params = (tuple(run.now(t, v) for v in vs) for vs in (op.args, op.params))
    if (args, params) == (op.args, op.params):
        return var
    name = f"{var}@{t}"
    return run.u.program.append(name if name not in run.u.program else None, type(op)(op.body, args, params))
