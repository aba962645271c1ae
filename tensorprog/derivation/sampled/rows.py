"""A network's program on many inputs at once in the limit: samples of the coordinates of every vector.

The vectors of all inputs are rows (N, m) of samples of one jointly distributed coordinate.  Products with a matrix are
conditioned on all earlier ones of the same matrix (``fields``), so that one run samples the law of all inputs.

Where the simple GIA check holds, gradients are odd in the readout vectors and everything before them is even.  Moments
of one odd factor vanish in the limit: products in the backward pass are independent of the forward ones, scalars
with an odd body are 0, and both are set, not sampled.  Gradients are linear in their Gaussians then, and kernels read
second moments of them, so that random signs, whose squares have no spread, take the place of Gaussians.
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.derivation.outer import Pair
from tensorprog.derivation.sampled.matrices import Field, Span, correction
from tensorprog.derivation.sampled.noise import Noise
from tensorprog.dsl.network import Network
from tensorprog.errors import NoRuleError
from tensorprog.functions import evaluate
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.instructions import InitMatrix, InitScalar, InitVector, Kept, MatMul, Moment, Nonlin, Var, slots_of
from tensorprog.limit.sampling import kept
from tensorprog.passes.backprop import Gradients, backprop

DRAWN = (InitMatrix, InitScalar, InitVector, Kept, MatMul, Moment, Nonlin)  # the instructions that can be sampled
Values = dict[Var, Any]
Parity = dict[Var, bool]


@dataclass
class Law:
    """What the programs of all lengths share: fresh noise, matrices, embeddings, biases and readout vectors.

    Attributes:
        noise: of this randomisation.
        basis: orthonormal rows that span all data vectors, (r, d).
    """

    noise: Noise
    basis: np.ndarray
    fields: dict[Any, Field] = field(default_factory=dict)
    vectors: dict[str, np.ndarray] = field(default_factory=dict)
    start: Span = field(default_factory=Span)

    def vector(self, name: str, rows: int = 1, signs: bool = False) -> np.ndarray:
        """Standard Gaussian rows that belong to a name, or random signs."""
        if name not in self.vectors:
            self.vectors[name] = (self.noise.signs if signs else self.noise.take)(rows)
        return self.vectors[name]

    def field_of(self, name: str, transpose: bool, odd: bool | None) -> Field:
        """The field of one orientation of a matrix, for the forward pass or for ``odd`` vectors."""
        fresh = self.noise.signs if odd else self.noise.take
        return self.fields.setdefault((name, transpose, odd), Field(fresh, self.start))


class RowsLimit:
    """The program of one input of a given length, and its backward pass for an NTK."""

    def __init__(self, net: Network, length: int | None, hyper: Mapping[sp.Symbol, float], backward: bool) -> None:
        self.trace, self.hyper, self.length = net.trace([length]), hyper, length
        program, gradients = backprop(self.trace) if backward else (self.trace.program, [Gradients()])
        self.program = dependent_products(program)
        self.gradients = gradients[0]
        self.std = {n: float(evaluate(p.std, hyper)) for n, p in self.trace.parameters.items()}
        self.spread = {n: math.sqrt(evaluate(p.variance, hyper)) for n, p in self.trace.parameters.items()}
        self.biases = [(n, float(evaluate(std, hyper))) for n, std in self.trace.outputs[0].biases]
        self.std |= {n: 1.0 for n, _ in self.biases}
        self.names = {p.var: n for n, p in self.trace.parameters.items() if p.var is not None}
        readouts = {r.v for r in self.trace.outputs[0].readouts}
        self.parity = (parity(self.program, readouts) if self.trace.passes_gia_check else None) or {}
        self.last = self._last_uses()

    def products(self) -> int:
        """How many products with matrices there are."""
        return sum(isinstance(op, MatMul) for _, op in self.program)

    def vectors(self) -> int:
        """How many vectors a run holds at once at most, all of the backward pass counted."""
        return sum(v.kind == "vector" for v in self.kept) + 4 * self.products() + 16

    def run(self, data: np.ndarray, law: Law) -> Values:
        """Samples of the vectors that kernels read, for inputs (N, T, d)."""
        values: Values = {}
        uses: dict[Any, list[tuple[Any, Any]]] = defaultdict(list)
        for var, op in self.program:
            if isinstance(op, InitMatrix):
                continue
            if isinstance(op, InitVector):
                values[var] = self._initial(var, op, data, law)
            elif isinstance(op, MatMul):
                values[var] = self._product(op, values[op.x], law, uses, self.parity.get(op.x))
            else:
                values[var] = self._pointwise(var, op, values, law.noise)
            for v in self.last.get(var, ()):
                values.pop(v, None)
        return values

    def _initial(self, var: Var, op: InitVector, data: np.ndarray, law: Law) -> Any:
        if var in self.trace.embeddings:
            name, datum = self.trace.embeddings[var]
            xi = self.spread[name] / np.sqrt(data.shape[-1]) * data[:, (datum.time or 1) - 1] @ law.basis.T
            return xi.astype(law.noise.dtype) @ law.vector(name, len(law.basis))
        mean, variance = float(evaluate(op.mean, self.hyper)), float(evaluate(op.covariance(var), self.hyper))
        if var in self.trace.states:
            return mean + math.sqrt(variance) * law.noise.take(len(data))
        if not variance:
            return np.full((1, law.noise.samples), mean, law.noise.dtype)
        return mean + math.sqrt(variance) * law.vector(var.name, signs=self.parity.get(var, False))

    def _product(self, op: MatMul, x: Any, law: Law, uses: Any, odd: bool | None) -> Any:
        name = self.names[op.matrix]
        z = law.field_of(name, op.transpose, odd).product(x, (self.length, op.x))
        uses[name, op.transpose, odd].append((x, z))
        opposite = uses.get((name, not op.transpose, odd))
        whole = z + correction(np.broadcast_to(x, _tallest(x, opposite)), opposite) if opposite else z
        return self.spread[name] * whole

    def _pointwise(self, var: Var, op: Any, values: Values, noise: Noise) -> Any:
        if isinstance(op, InitScalar):
            return np.reshape(float(evaluate(op.value, self.hyper)), (1, 1))
        if isinstance(op, Kept):
            return kept(values[op.x], float(evaluate(op.rate, self.hyper)))
        if not isinstance(op, Nonlin | Moment):
            raise NoRuleError(f"kernels by sampling have no rule for {type(op).__name__}")
        if isinstance(op, Moment) and self.parity.get(var):
            return np.zeros((1, 1))
        point = {s: values[v].astype(noise.dtype, copy=False) for s, v in slots_of(op).items()}
        result = np.asarray(evaluate(op.body, {**self.hyper, **point}), noise.dtype)
        shape = np.broadcast_shapes((1, 1), result.shape, *(values[v].shape for v in op.operands))
        result = np.broadcast_to(result, (shape[0], noise.samples))
        return result.mean(axis=1, keepdims=True, dtype=float) if isinstance(op, Moment) else result

    # ---- what kernels read -----------------------------------------------------------------------

    @functools.cached_property
    def kept(self) -> set[Var]:
        """The variables that kernels read."""
        of = self.gradients.of
        used = {r.x for r in self.trace.outputs[0].readouts} | {d for ds in of.values() for d in ds}
        return used | {op.x for var, op in self.trace.program if isinstance(op, MatMul) and var in of}

    def _last_uses(self) -> dict[Var, list[Var]]:
        """What can be forgotten after each instruction."""
        last = {v: var for var, op in self.program for v in op.operands}
        result: dict[Var, list[Var]] = defaultdict(list)
        for v, var in last.items():
            if v.kind == "vector" and v not in self.kept:
                result[var].append(v)
        return result

    def outputs(self, values: Values, chosen: Container[str] | None = None) -> dict[str, list[Pair]]:
        """The trained readouts (all, or those ``chosen``) and output biases of the output, by name."""
        result: dict[str, list[Pair]] = defaultdict(list)
        for r in self.trace.outputs[0].readouts:
            if r.trained and (chosen is None or r.name in chosen):
                own: Any = self.trace.parameters[r.name].std
                share = 1.0 if r.std == own or own == 0 else float(evaluate(r.std / own, self.hyper))
                result[r.name].append((values[r.x][None] * np.asarray(share, values[r.x].dtype), None))
            name = self.trace.embeddings[r.x][0] if r.of_input else ""
            if chosen is not None and name in chosen and self.std[name]:  # of the input, itself one of the coordinates
                share = float(evaluate(r.std, self.hyper)) / self.std[name]
                result[name].append((values[r.x][None] * np.asarray(share, values[r.x].dtype), None))
        for name, std in self.biases:
            result[name].append((np.full((1, 1, 1), std), None))
        return result

    def pairs(self, data: np.ndarray, values: Values) -> dict[str, list[Pair]]:
        """The gradients of every parameter as outer products of rows, in the order of its uses."""
        result, of = self.outputs(values), self.gradients.of
        for var, op in self.trace.program:
            if isinstance(op, MatMul):
                for d in of.get(var, ()):
                    use = (values[d][None], values[op.x][None])
                    result[self.names[op.matrix]].append(use[::-1] if op.transpose else use)
        for var, (name, datum) in self.trace.embeddings.items():
            if var in of:
                result[name].append((self._sum(values, var), data[None, :, (datum.time or 1) - 1]))
        for name, p in self.trace.parameters.items():
            if p.kind == "bias" and p.var in of:
                result[name].append((self._sum(values, p.var), None))
        return result

    def _sum(self, values: Values, var: Var) -> Any:
        return functools.reduce(np.add, (values[v] for v in self.gradients.of[var]))[None]


def _tallest(x: Any, uses: list[tuple[Any, Any]]) -> tuple[int, ...]:
    return np.broadcast_shapes(x.shape, *(y.shape for y, _ in uses))


def parity(program: Any, readouts: set[Var]) -> Parity | None:
    """Which variables change sign with all readout vectors, the others staying as they are; None if some do neither.

    >>> import tensorprog as tp
    >>> trace = tp.programs.mlp(depth=2).trace([None])
    >>> program, _ = backprop(trace)
    >>> odd = parity(program, {r.v for r in trace.outputs[0].readouts})
    >>> [v.name for v in odd if odd[v]][:1], odd[program.named("x2")]
    (['V'], False)
    """
    odd: Parity = {}
    for var, op in program:
        if isinstance(op, Nonlin | Moment):
            signs = {s: -s for s, v in slots_of(op).items() if odd[v]}
            flipped = op.body.xreplace(signs)
            if flipped == op.body:
                odd[var] = False
            elif flipped == -op.body or sp.expand(flipped + op.body) == 0:
                odd[var] = True
            else:
                return None
        else:
            odd[var] = odd[op.x] if isinstance(op, MatMul) else var in readouts
    return odd
