"""Training at width n by moving the weights themselves: any abc-parametrization, stable or not, one SGD step at a time.

The weights are kept as W = σ n^(−ref) w̃ with the exponents of the NTK parametrization, so that the traced program runs
them: a layer starts at w̃ ~ N(0, n^(2(ref − A))), and a step adds −η χ n^(ref − C) σ ∂f/∂W to w̃.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from tensorprog.derivation.data import Inputs
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Readout
from tensorprog.errors import DataError, ProgramError, shortly
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.execute import Values
from tensorprog.finite.families import At, Shared, is_untied, side_by_side, unplaced
from tensorprog.finite.trajectories import read_labels
from tensorprog.functions import evaluate
from tensorprog.ir.instructions import MatMul, Var
from tensorprog.passes.optimizer import SGD, Loss
from tensorprog.passes.parametrization import Parametrization
from tensorprog.passes.scaling import assign
from tensorprog.sgd.training import check_counts

_REFERENCE = {"embedding": 0.0, "bias": 0.0, "matrix": 0.5, "readout": 0.5, "output bias": 0.0}


class DirectTraining:
    """Plain SGD on networks of width n.

    Args:
        net: an architecture with one output.
        inputs: the training inputs, followed by inputs that are only followed.
        y: labels, (N,).
        parametrization: exponents.
        optimizer: without momentum and weight decay; its learning rate is multiplied by n^(−c).
        batch, loss, values: as in ``FiniteTraining``.
    """

    def __init__(
        self,
        net: Network,
        inputs: Inputs,
        y: Any,
        parametrization: Parametrization,
        optimizer: SGD,
        batch: int = 1,
        loss: Any = "mse",
        values: Mapping[Any, Any] | None = None,
    ) -> None:
        self.finite = FiniteNetwork.of(net, inputs, values)
        self.trace = self.finite.trace
        if len(self.trace.heads[0]) > 1:
            raise ProgramError(f"{net.name} has {len(self.trace.heads[0])} outputs; this needs a network with one")
        if not isinstance(optimizer, SGD) or not optimizer.plain:
            raise ProgramError(f"{shortly(optimizer)}: only plain SGD, tp.SGD(lr), moves the weights directly")
        self.y, self.batch, self.optimizer = read_labels(y, len(inputs)), batch, optimizer
        if self.y.shape[1] != 1:
            raise DataError(f"{net.name} has one output, but y has {self.y.shape[1]} columns")
        check_counts(batch=batch)
        if batch > len(self.y):
            raise DataError(f"a batch of {batch} needs as many samples, there are {len(self.y)}")
        self.loss, self.layers = Loss(loss, 1), assign(self.trace, parametrization)
        self.kinds = self.trace.trainable

    def run(self, width: int, seeds: list[int], steps: int) -> Iterator[tuple[Values, np.ndarray]]:
        """All variables of the program, and the outputs (S, N), at times 0 .. steps."""
        parameters = self.finite.draw(width, seeds)
        for name in self.kinds:
            parameters[name] *= float(width) ** self._exponent(name, "init")
        for t in range(steps + 1):
            values = self.finite.run(parameters)
            f = self.finite.outputs(values, parameters)
            yield values, f
            if t < steps:
                self._step(parameters, values, f, t)

    def _exponent(self, name: str, which: str) -> float:
        """ref − A, or ref − C, of a parameter."""
        return _REFERENCE[self.kinds[name]] - float(getattr(self.layers[name], which))

    def _step(self, parameters: dict[str, np.ndarray], values: Values, f: np.ndarray, t: int) -> None:
        samples = [(t * self.batch + b) % len(self.y) for b in range(self.batch)]
        rate = float(evaluate(self.optimizer.rate(t), self.finite.hyper)) / self.batch
        width = values[self.trace.outputs[0].readouts[0].x].shape[-1]
        for j in samples:
            chi = self.loss.values(0, [f[:, j]], [self.y[j, 0]], self.finite.hyper)
            for name, gradient in self._gradients(j, values):
                size = rate * float(width) ** self._exponent(name, "rate")
                parameters[name] -= size * chi.reshape(-1, *[1] * (gradient.ndim - 1)) * gradient

    def _gradients(self, j: int, values: Values) -> Iterator[tuple[str, np.ndarray]]:
        """σ ∂f/∂W of output j, parameter by parameter and use by use."""
        hyper, output, of = self.finite.hyper, self.trace.outputs[j], self.finite.gradients[j].of
        names = {p.var: name for name, p in self.trace.parameters.items() if p.var is not None}
        for r in output.readouts:
            x = values[r.x]
            if self.finite.sizes:
                x = self._at_positions(x, r)
            yield r.name, float(evaluate(r.std, hyper)) * x
        for name, std in output.biases:
            yield name, np.full((len(values[output.readouts[0].x]), 1), float(evaluate(std, hyper)))
        for var, uses in self.finite.gradients[j].places.items():
            for place, d in uses:
                found = unplaced(values[d], self.finite.at(place.by), place.transpose) / np.sqrt(values[d].shape[-1])
                yield names[var], self._std(names[var]) * found
        for var, parts in of.items():
            for d in parts:
                yield from self._of_vector(var, values[d] / np.sqrt(values[d].shape[-1]), values, names)

    def _of_vector(self, var: Var, d: np.ndarray, values: Values, names: dict[Var, str]) -> Iterator[Any]:
        """What ∂f/∂x = d of one vector says about the parameter that made it."""
        op = self.trace.program.op(var)
        if isinstance(op, MatMul):
            left, right = (values[op.x], d) if op.transpose else (d, values[op.x])
            name = names[op.matrix]
            at = None if op.by is None else self.finite.at(op.by)
            yield name, self._std(name) * self._outer(left, right, at, at is not None and not at.tied)
        elif var in self.trace.embeddings:
            name, datum = self.trace.embeddings[var]
            xi = self.finite.read(datum)
            yield name, self._std(name) / np.sqrt(xi.shape[-1]) * self._outer(d, xi[None], None, is_untied(datum))
        elif var in names and self.kinds[names[var]] == "bias":
            yield names[var], self._std(names[var]) * (d[:, 0] if self.finite.sizes else d)

    def _outer(self, left: np.ndarray, right: np.ndarray, at: At | None, own: bool) -> np.ndarray:
        """L ⊗ R, added up over positions where there are such."""
        if not self.finite.sizes:
            return left[:, :, None] * right[:, None, :]  # type: ignore[no-any-return]
        use = Shared(left[:, None], right[:, None], at, own)
        return use.summed(np.ones((len(left), 1, 1), left.dtype))  # type: ignore[no-any-return]

    def _at_positions(self, x: np.ndarray, r: Readout) -> np.ndarray:
        """What a readout multiplies, at each position that it reads."""
        if r.by is None:
            return x[:, 0]
        side = side_by_side(x, self.finite.at(r.by)).reshape(len(x), -1, x.shape[-1])
        return side / np.sqrt(side.shape[1])  # type: ignore[no-any-return]

    def _std(self, name: str) -> float:
        return float(evaluate(self.trace.parameters[name].std, self.finite.hyper))
