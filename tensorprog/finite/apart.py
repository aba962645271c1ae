"""What networks over positions are checked against: the program with a vector for every position of their inputs."""

from __future__ import annotations

import functools
from dataclasses import replace

from tensorprog.derivation.data import Inputs, as_sequences
from tensorprog.errors import ProgramError
from tensorprog.finite.empirical import FiniteNetwork, hyper_values
from tensorprog.ir.axes import Axes
from tensorprog.ir.instructions import Var
from tensorprog.passes.backprop import backprop
from tensorprog.passes.separate import named, taken_apart
from tensorprog.types import HyperValues

MOST = 64  # positions of all inputs together; the program's limit has their squares as moments


class Apart:
    """The program of a network on data, position by position.

    Attributes:
        missing: why it is not made, in words; nothing where it is.
    """

    def __init__(self, finite: FiniteNetwork, values: HyperValues | None) -> None:
        self.finite, self.values = finite, values
        self.missing = self._why_not()

    def _why_not(self) -> str:
        count = sum(x.shape[0] * x.shape[1] for x in self.finite.inputs.data.values())
        if count > MOST:
            return (f"the inputs have {count} positions together, and programs with a vector for each are made for "
                    f"up to {MOST}")  # fmt: skip
        if len({datum.part for _, datum in self.finite.trace.embeddings.values()}) > 1:
            return "inputs of several arrays are not taken apart"
        try:
            self._made  # noqa: B018
        except ProgramError as error:
            return str(error)
        return ""

    @functools.cached_property
    def _made(self) -> tuple[FiniteNetwork, dict[tuple[Var, int | None], Var]]:
        trace, at = taken_apart(self.finite.trace, self.finite.sizes, self.finite.sizes.matrix)
        program, gradients = backprop(trace)
        inputs = self._sequences()
        whole = self.finite.trace
        chosen = self.finite.chosen.of_names(whole, named(trace, whole.trainable))
        hyper = hyper_values(trace, inputs, self.values, self.finite.hyper.keys())
        return FiniteNetwork(trace, program, gradients, inputs, hyper, chosen=chosen), at

    def _sequences(self) -> Inputs:
        """What is embedded of the inputs, position by position."""
        inputs = self.finite.inputs
        if inputs.layout is None:
            return as_sequences(inputs)
        (part,) = {datum.part for _, datum in self.finite.trace.embeddings.values()}
        data = {t: inputs.layout.of(part, x) for t, x in inputs.data.items()}
        dimension = next(iter(data.values())).shape[-1]
        return as_sequences(replace(inputs, data=data, dimension=dimension, layout=None))

    @property
    def traced(self) -> FiniteNetwork:
        """The network with a vector for every position, on the same inputs."""
        return self._made[0]

    def knows(self, var: Var) -> bool:
        """Whether a vector of the program, or each of a family, is a single vector here."""
        return any((var, p) in self._made[1] for p in (0, None))

    def of(self, var: Var) -> list[Var]:
        """The vectors of a family, position by position."""
        count = self.finite.positions(var)
        over = isinstance(self.finite.program.axes(var), Axes)
        return [self._made[1][var, p] for p in (range(count) if over else (None,))]
