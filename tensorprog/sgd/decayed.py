"""Training with weight decay in the limit: the kernels between a network at a w_0 and one at b w_0.

The weights are w_t = a_t w_0 − Σ_s c_{t,s} G_s, where the G_s are small, so that with f̂_t the network at a_t w_0

    lim f_t(ξ) = f̂_t(ξ) − Σ_{s<t} c_{t,s} Σ_b χ_{s,b} Θ_{a_t,a_s}(ξ, ξ_{s,b})/B,   lim Θ_t = Θ_{a_t,a_t},
    Θ_{a,b}(ξ, ξ') = lim ⟨∇f(ξ; a w_0), ∇f(ξ'; b w_0)⟩.

Only what is trained decays.  For one hidden layer without biases and a homogeneous φ, Θ_{a,b} = a b Θ_{1,1}.
"""

from __future__ import annotations

import functools
from collections.abc import Container, Iterator, Mapping
from dataclasses import replace
from itertools import chain

import numpy as np
import sympy as sp

from tensorprog.derivation.data import Inputs
from tensorprog.derivation.derivation import Derivation, Length
from tensorprog.derivation.heads import matrix_of_heads
from tensorprog.derivation.ntk import Term, body_terms, output_terms, sum_terms
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Trace
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitScalar, Var
from tensorprog.limit.master import Interpreter
from tensorprog.passes.backprop import Gradients
from tensorprog.passes.optimizer import SGD, Loss
from tensorprog.passes.scaling import scaling
from tensorprog.passes.unroll import Plan, TimeTape, Unrolled, Unroller

LEFT, RIGHT = sp.symbols("a_left a_right", positive=True)


class _Factors(SGD):
    """Weights that are a w_0 at time 1 and b w_0 at time 2."""

    def __init__(self) -> None:
        super().__init__(0, weight_decay=1)

    def decay(self, t: int) -> sp.Expr:
        return (sp.S.One, LEFT, RIGHT)[t]


class _Decayed(Unroller):
    """The program with decayed initial weights, to which no update has been added."""

    def past(self, t: int, name: str) -> Iterator[tuple[sp.Expr, Var, int, int, tuple[int, int, int]]]:
        return iter(())


class DecayedKernels:
    """(i, j, k, l) ↦ Θ_{a,b} of output k of input i and output l of input j, as formulas in a and b."""

    def __init__(self, trace: Trace, trained: frozenset[str], moving: Container[str]) -> None:
        plan = Plan(0, (), (), _Factors(), Loss(None, len(trace.heads[0])), trained, scaling(trace, None))
        program: ProgramGraph = trace.program.copy()
        theta = program.append(program.fresh("θ"), InitScalar(sp.S.Zero))
        self.trace, self.moving = trace, moving
        self.run = _Decayed(Unrolled(trace, plan, program, theta))
        last, heads = len(trace.heads) - 1, range(len(trace.heads[0]))
        self.gradients = {(t, k): self._gradients(t, i, k) for t, i in ((1, 0), (2, last)) for k in heads}
        for t, i in ((1, 0), (2, last)):
            for f in trace.heads[i]:
                for r in f.readouts:
                    self.run.base(t, r.x)
        self.limit = Interpreter(program)

    def _gradients(self, t: int, i: int, k: int) -> Gradients:
        tape = TimeTape(self.run, t, f"p{t}_")
        return tape.backward(self.run.forward.items(), self.trace.heads[i][k], f"@{t}" + (f".{k}" if k else ""))

    def derivation(self, k: int, l: int) -> Derivation:
        """Θ_{a,b} between output k of the first input and output l of the last."""
        last = len(self.trace.heads) - 1
        body = body_terms(self.trace, self.gradients[1, k], self.gradients[2, l], self.moving)
        outputs = output_terms(self.trace.heads[0][k], self.trace.heads[last][l], self.moving)
        terms = (self._at_their_times(term) for term in chain(body, outputs))
        return Derivation(self.trace, self.limit, sum_terms(terms, self.limit))

    def _at_their_times(self, term: Term) -> Term:
        gradient, activation = (pair and self._pair(*pair) for pair in (term.gradient, term.activation))
        return replace(term, gradient=gradient, activation=activation)

    def _pair(self, x: Var, y: Var) -> tuple[Var, Var]:
        return self._held(1, x), self._held(2, y)

    def _held(self, t: int, var: Var) -> Var:
        return self.run.base(t, var) if var in self.run.forward else var


class DecayedNTK:
    """Θ_{a,b} on data, (N, heads, N, heads), for any two factors.

    Args:
        net: an architecture.
        inputs: N inputs.
        trained: the parameters that decay.
        moving: those whose updates matter in the limit.
        hyper: numbers for hyperparameter symbols.
    """

    def __init__(self, net: Network, inputs: Inputs, trained: frozenset[str], moving: Container[str],
                 hyper: Mapping[sp.Symbol, float]) -> None:  # fmt: skip
        self.net, self.inputs, self.hyper = net, inputs, hyper
        self.trained, self.moving = trained, moving
        self._known: dict[tuple[float, float], np.ndarray] = {}

    def __call__(self, a: float, b: float) -> np.ndarray:
        """⟨∇f(ξ_i; a w_0), ∇f(ξ_j; b w_0)⟩ in the limit."""
        if (a, b) not in self._known:
            hyper = {**self.hyper, LEFT: a, RIGHT: b}
            self._known[a, b] = matrix_of_heads(self.inputs, self._derive, hyper, symmetric=a == b)
        return self._known[a, b]

    @functools.cache  # noqa: B019  (one run, few pairs of lengths)
    def _source(self, lengths: tuple[Length, ...]) -> DecayedKernels:
        return DecayedKernels(self.net.trace(lengths), self.trained, self.moving)

    @functools.cache  # noqa: B019
    def _derive(self, lengths: tuple[Length, ...], k: int, l: int) -> Derivation:
        return self._source(lengths).derivation(k, l)
