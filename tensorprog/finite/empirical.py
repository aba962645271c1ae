"""A network at width n: its outputs, gradients and empirical NTK from the program's own backward pass."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp

from tensorprog.derivation.data import Inputs, read_pair
from tensorprog.derivation.ntk import Term, ntk_terms
from tensorprog.dsl.network import Network, check_network
from tensorprog.dsl.trace import Output, Trace
from tensorprog.errors import DataError
from tensorprog.finite.execute import Values, execute
from tensorprog.finite.layerwise import layerwise_ntk
from tensorprog.finite.sample import check_settings, draw_parameter, normal
from tensorprog.functions import evaluate
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.hyper import symbol_values
from tensorprog.ir.instructions import Var
from tensorprog.kernels.outputs import chosen_outputs, one_output
from tensorprog.passes.backprop import Gradients, backprop
from tensorprog.passes.optimizer import among, trained_names
from tensorprog.progress import Progress, telling
from tensorprog.sgd.hypotheses import derivatives_of, refuse_unmet
from tensorprog.types import Data, HyperValues

Hyper = dict[sp.Symbol, float]


@dataclass(frozen=True)
class FiniteNetwork:
    """A network traced on given inputs, ready to run at any width.

    ``program`` includes the backward pass of every output; ``hyper`` holds the numbers of all symbols,
    inner products of the data among them.
    """

    trace: Trace
    program: ProgramGraph
    gradients: list[Gradients]
    inputs: Inputs
    hyper: Hyper

    @classmethod
    def of(cls, net: Network, inputs: Inputs, values: HyperValues | None = None) -> FiniteNetwork:
        """Trace a network on data."""
        trace = net.trace(inputs.lengths, [f"x[{i}]" for i in range(len(inputs))])
        program, gradients = backprop(trace)
        return cls(trace, program, gradients, inputs, hyper_values(trace, inputs, values))

    def draw(self, width: int, seeds: list[int], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Parameters and states at first: (S, n, n), embeddings (S, n, d), vectors (S, n), output biases (S, 1)."""
        shapes: dict[str, tuple[int, ...]] = {"matrix": (width, width), "embedding": (width, self.inputs.dimension)}
        drawn = {
            n: draw_parameter(n, p, shapes.get(p.kind, (width,)), seeds, self.hyper, dtype)
            for n, p in self.trace.parameters.items()
        }
        drawn |= {v.name: normal(seeds, v.name, (width,), dtype) for v in self.trace.states}
        biases = self.trace.trainable.keys() - self.trace.parameters.keys()
        drawn |= {n: normal(seeds, n, (1,), dtype) for n in sorted(biases)}
        return drawn

    def run(self, parameters: Mapping[str, np.ndarray]) -> Values:
        """All variables of the program, forward and backward, at these parameters."""
        return execute(self._run, self.initial(parameters), self.hyper)

    @functools.cached_property
    def _run(self) -> ProgramGraph:
        return dependent_products(self.program)

    def initial(self, parameters: Mapping[str, np.ndarray], overwrite: bool = False) -> Values:
        """The initial matrices and vectors of the program at these parameters; matrices scaled in place on request."""
        first = next(iter(parameters.values()))
        count = len(first)
        values: Values = {}
        for name, p in self.trace.parameters.items():
            if p.var is not None:
                w = parameters[name]
                std = 1.0 if p.kind == "readout" else float(evaluate(p.std, self.hyper))
                scale = np.asarray(std / np.sqrt(w.shape[-1]) if p.kind == "matrix" else std, w.dtype)
                values[p.var] = np.multiply(w, scale, out=w if overwrite and p.kind == "matrix" else None)
        for var, (name, datum) in self.trace.embeddings.items():
            u = parameters[name]
            xi = self.inputs[datum.owner][(datum.time or 1) - 1].astype(u.dtype)
            std = float(evaluate(self.trace.parameters[name].std, self.hyper))
            values[var] = u @ (xi * np.asarray(std / np.sqrt(xi.size), u.dtype))
        for var in self.trace.states:
            variance = self.program.op(var).covariance(var)  # type: ignore[union-attr]
            w = parameters[var.name]
            values[var] = w * np.asarray(np.sqrt(evaluate(variance, self.hyper)), w.dtype)
        width = next(v.shape[-1] for k, v in values.items() if k.kind == "vector")
        if "ones" in self.trace.program:
            values[self.trace.program.named("ones")] = np.ones((count, width), first.dtype)
        return values

    def outputs(self, values: Values, parameters: Mapping[str, np.ndarray]) -> np.ndarray:
        """f(ξ_i) for every seed and input, (S, N): std · v·x/√n summed over readouts, plus biases."""
        return np.stack([self.output(f, values, parameters) for f in self.trace.outputs], axis=-1)

    def output(
        self,
        f: Output,
        values: Values,
        parameters: Mapping[str, np.ndarray],
        at: Callable[[Var], Var] = lambda var: var,
        scale: Callable[[str], float] = lambda name: 1.0,
    ) -> np.ndarray:
        """One output for every seed, (S,): ``at`` gives the vectors to read, ``scale`` the factor of a parameter."""
        total: Any = 0.0
        for r in f.readouts:
            v, x = values[at(r.v)], values[at(r.x)]
            size = evaluate(r.std, self.hyper) * scale(r.name) / np.sqrt(x.shape[-1])
            total = total + size * np.sum(v * x, axis=-1)
        for name, std in f.biases:
            total = total + scale(name) * evaluate(std, self.hyper) * parameters[name][:, 0]
        return np.asarray(total)

    def ntk(self, values: Values, pairs: list[tuple[int, int]] | None = None) -> np.ndarray:
        """The empirical NTK (S, N, N); with ``pairs``, only those entries (and their mirrors) are computed."""
        n = len(self.trace.outputs)
        count = values[self.trace.outputs[0].readouts[0].x].shape[0]
        theta = np.zeros((count, n, n))
        memo: dict[tuple[Var, Var], np.ndarray] = {}
        upper = [(i, j) for i in range(n) for j in range(i, n)]
        for i, j in upper if pairs is None else pairs:
            terms = ntk_terms(self.trace, self.gradients, i, j)
            theta[:, i, j] = theta[:, j, i] = sum(self._term(t, values, memo) for t in terms)
        return theta

    def _term(self, term: Term, values: Values, memo: dict[tuple[Var, Var], np.ndarray]) -> Any:
        result = evaluate(term.factor, self.hyper)
        for pair in (term.gradient, term.activation):
            if pair is not None:
                if pair not in memo:
                    memo[pair] = np.einsum("sn,sn->s", values[pair[0]], values[pair[1]]) / values[pair[0]].shape[-1]
                result = result * memo[pair]
        return result


def hyper_values(trace: Trace, inputs: Inputs, values: HyperValues | None, extra: Iterable[sp.Symbol] = ()) -> Hyper:
    """Numbers for all symbols of a trace: the given ones, and the inner products of the data."""
    hyper = symbol_values(values, lambda: trace.symbols.union(extra))
    data = [inputs[i] for i in range(len(inputs))]
    for name, datum in trace.embeddings.values():
        for other_name, other in trace.embeddings.values():
            if name == other_name:
                a, b = data[datum.owner][(datum.time or 1) - 1], data[other.owner][(other.time or 1) - 1]
                hyper[trace.gram(datum, other)] = float(a @ b) / inputs.dimension
    return hyper


def empirical_ntk(
    net: Network,
    X1: Data,
    X2: Data | None = None,
    *,
    width: int,
    seed: int = 0,
    seeds: int | None = None,
    values: HyperValues | None = None,
    dtype: npt.DTypeLike = np.float64,
    trainable: Sequence[str] | None = None,
    outputs: int | Sequence[int] | None = None,
    progress: Progress = None,
) -> np.ndarray:
    """The NTK of one network of width n at initialization, from its own gradients (TP2b Eq. 99).

    Args:
        net: an architecture.
        X1: inputs: (N, d), (N, T, d) or a list of (T_i, d).
        X2: like X1; None for X1 with itself.
        width: n.
        seed: of the parameters.
        seeds: None for one network; S for S of them.
        values: numbers for hyperparameter symbols, by symbol or by name.
        dtype: to compute in, ``float64`` or ``float32``.
        trainable: names or kinds of the parameters that train, as for ``tp.ntk``; all when None.
        outputs: of a network with several: the number of one, or several numbers; None for all.
        progress: True for a bar, False for none; None for one where the work is long and somebody looks on.

    Returns:
        Array (N1, N2), or (S, N1, N2), float64; between several outputs two axes more, (.., outputs, outputs).

    Raises:
        DataError: bad inputs, a symbol without a value, or a result that is not finite.
        AssumptionError: a function that jumps, which has no derivative at width n.

    >>> import tensorprog as tp
    >>> tp.empirical_ntk(tp.programs.deep_linear(depth=1), [[1.0, 0.0]], width=64).shape
    (1, 1)
    """
    check_network(net)
    check_settings(width, seed, seeds, dtype)
    first, second = read_pair(X1, X2, net.form, dtype)
    chosen = [seed + s for s in range(seeds or 1)]
    lengths = [*first.groups, *(second.groups if second else ())]
    which = chosen_outputs(net, outputs, lengths)
    hyper = symbol_values(values, lambda: net.symbols)
    trained = None if trainable is None else _among(net, trainable, lengths)
    refuse_unmet(derivatives_of(net, lengths, trained), "the empirical NTK")
    run = functools.partial(
        layerwise_ntk, first=first, second=second, width=width, seeds=chosen, hyper=hyper, dtype=dtype, trained=trained
    )
    with telling(progress):
        if len(which) == 1:
            result = run(one_output(net, which[0]))
        else:
            result = _between_outputs(lambda k, l: run(net, heads=(k, l)), which, second is None)
    if not np.isfinite(result).all():
        raise DataError(
            f"the NTK of {net.name} is not finite on the data; check the scale of inputs and hyperparameters"
        )
    return result if seeds is not None else result[0]  # type: ignore[no-any-return]


def _among(net: Network, trainable: Sequence[str], lengths: Iterable[int | None]) -> frozenset[str]:
    """The parameters that are named, or of a kind that is, for inputs of some lengths."""
    traces = [net.trace([t]) for t in dict.fromkeys(lengths)]
    trained_names(traces[0], trainable)
    return frozenset().union(*(among(trace, trainable) or () for trace in traces))


def _between_outputs(run: Callable[[int, int], np.ndarray], which: list[int], symmetric: bool) -> np.ndarray:
    """The empirical NTK between outputs, (S, N1, N2, outputs, outputs)."""
    blocks: dict[tuple[int, int], np.ndarray] = {}
    for k in which:
        for l in which:
            mirrored = symmetric and (l, k) in blocks
            blocks[k, l] = np.swapaxes(blocks[l, k], 1, 2) if mirrored else run(k, l)
    return np.stack([np.stack([blocks[k, l] for l in which], axis=-1) for k in which], axis=-2)


def concatenate(a: Inputs, b: Inputs) -> Inputs:
    """The inputs of a followed by those of b.

    Raises:
        DataError: different feature dimensions.
    """
    if a.dimension != b.dimension:
        raise DataError(f"X has feature dimension {a.dimension} and X_test {b.dimension}; they must agree")
    groups: dict[Any, np.ndarray] = {}
    data: dict[Any, np.ndarray] = {}
    for t in sorted({*a.groups, *b.groups}, key=lambda t: (t is not None, t)):
        parts = [(x.data[t], x.groups[t] + start) for x, start in ((a, 0), (b, len(a))) if t in x.groups]
        data[t], groups[t] = (np.concatenate(column) for column in zip(*parts, strict=True))
    return replace(a, data=data, groups=groups)
