"""A network at width n: its outputs, gradients and empirical NTK from the program's own backward pass."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import sympy as sp

from tensorprog.derivation.data import Inputs, read_pair
from tensorprog.derivation.ntk import Term, ntk_terms
from tensorprog.dsl.network import Network, check_network
from tensorprog.dsl.trace import Datum, Output, Trace
from tensorprog.errors import DataError
from tensorprog.finite.execute import Values, execute
from tensorprog.finite.families import NONE, At, Grid, embedded, is_untied, read, shapes, side_by_side, volume
from tensorprog.finite.layerwise import layerwise_ntk
from tensorprog.finite.sample import check_settings, draw_parameter, normal
from tensorprog.functions import evaluate
from tensorprog.given import flag
from tensorprog.ir.axes import Axes, Reading, Sizes
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.hyper import symbol_values
from tensorprog.ir.instructions import MatMul, Var
from tensorprog.ir.maps import Given
from tensorprog.kernels.outputs import chosen_outputs, one_output
from tensorprog.limit.mixing import shared
from tensorprog.passes.backprop import Gradients, backprop
from tensorprog.passes.parametrization import ParametrizationChoice
from tensorprog.passes.rates import ALL, Rates
from tensorprog.progress import Progress, telling
from tensorprog.sgd.hypotheses import derivatives_of, refuse_unmet
from tensorprog.types import Data, HyperValues, Number, Pattern

Hyper = dict[sp.Symbol, float]


@dataclass(frozen=True)
class FiniteNetwork:
    """A network traced on given inputs, ready to run at any width.

    ``program`` includes the backward pass of every output; ``hyper`` holds the numbers of all symbols,
    inner products of the data among them. Vectors are arrays (S, n). Where inputs have positions, ``sizes`` has
    theirs by label, vectors are (S, P, n), P = 1 for one without positions, and inner products (P, Q), in ``grams``.
    """

    trace: Trace
    program: ProgramGraph
    gradients: list[Gradients]
    inputs: Inputs
    hyper: Hyper
    sizes: Grid = field(default_factory=lambda: NONE)
    grams: dict[sp.Symbol, np.ndarray] = field(default_factory=dict)
    chosen: Rates = ALL

    @classmethod
    def of(cls, net: Network, inputs: Inputs, values: HyperValues | None = None, chosen: Rates = ALL) -> FiniteNetwork:
        """Trace a network on data."""
        trace = net.trace(inputs.lengths, [f"x[{i}]" for i in range(len(inputs))])
        program, gradients = backprop(trace)
        labels = [data[0].label for data in trace.inputs]
        owner = {label: i for i, label in enumerate(labels)}
        sizes = NONE
        if net.takes_axes:
            sizes = Grid(dict(zip(labels, inputs.lengths, strict=True)), lambda of, x: _given(of, inputs, owner[x]))
        rates = (chosen.moving(trace) or {}).values()
        hyper = hyper_values(trace, inputs, values, {s for r in rates for s in r.free_symbols})
        return cls(trace, program, gradients, inputs, hyper, sizes, chosen=chosen)

    def draw(self, width: int, seeds: list[int], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Parameters and states at first: (S, n, n), embeddings (S, n, d), vectors (S, n), output biases (S, 1).

        Over positions they are families of such (``finite.families``).
        """
        of = shapes(self.trace, width, self.inputs, self.sizes)
        drawn = {
            n: draw_parameter(n, p, of[n], seeds, self.hyper, dtype, width) for n, p in self.trace.parameters.items()
        }
        drawn |= {v.name: normal(seeds, v.name, (width,), dtype) for v in self.trace.states}
        biases = self.trace.trainable.keys() - self.trace.parameters.keys()
        drawn |= {n: normal(seeds, n, (1,), dtype) for n in sorted(biases)}
        return drawn

    def positions(self, var: Var) -> int:
        """How many positions a vector has, 1 for one without."""
        axes = self.program.axes(var)
        return math.prod(axes.at(self.sizes[axes.source])) if isinstance(axes, Axes) else 1

    def numbers(self, width: int) -> int:
        """How many numbers a run of one seed holds."""
        weights = shapes(self.trace, width, self.inputs, self.sizes).values()
        return volume(self.program, self.sizes) * width + sum(map(math.prod, weights))

    def run(self, parameters: Mapping[str, np.ndarray], only: Collection[Var] | None = None) -> Values:
        """The variables of the program, forward and backward, at these parameters; ``only`` some and what they read."""
        return execute(self._run, self.initial(parameters), self.hyper, only, sizes=self.sizes)

    @functools.cached_property
    def used(self) -> set[Var]:
        """What outputs and kernel read: a branch that neither depends on may overflow."""
        found = {v for f in self.trace.outputs for r in f.readouts for v in (r.v, r.x)}
        for g in self.gradients:
            found |= {d for uses in g.of.values() for d in uses} | {d for uses in g.places.values() for _, d in uses}
            found |= {op.x for var, op in self.trace.program if isinstance(op, MatMul) and g.of.get(var)}
        return found

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
                found = np.multiply(w, scale, out=w if overwrite and p.kind == "matrix" else None)
                values[p.var] = self._spread(found) if p.kind != "matrix" else found
        for var, (name, datum) in self.trace.embeddings.items():
            u = parameters[name]
            xi = self.read(datum).astype(u.dtype)
            std = float(evaluate(self.trace.parameters[name].std, self.hyper))
            xi *= np.asarray(std / np.sqrt(xi.shape[-1]), u.dtype)
            values[var] = embedded(u, xi, datum) if self.sizes else u @ xi
        for var in self.trace.states:
            variance = self.program.op(var).covariance(var)  # type: ignore[union-attr]
            w = parameters[var.name]
            values[var] = self._spread(w * np.asarray(np.sqrt(evaluate(variance, self.hyper)), w.dtype))
        width = next(v.shape[-1] for k, v in values.items() if k.kind == "vector")
        if "ones" in self.trace.program:
            values[self.trace.program.named("ones")] = self._spread(np.ones((count, width), first.dtype))
        return values

    def _spread(self, x: np.ndarray) -> np.ndarray:
        """A vector (S, n), with an axis for positions where there are such."""
        return x[:, None] if self.sizes and x.ndim == 2 else x

    def read(self, datum: Datum) -> np.ndarray:
        """What is embedded of an input, (d,), at every position (P, d), or of its patches (P, |w| d)."""
        data = self.inputs[datum.owner]
        return read(datum, data, self.sizes, self.inputs.layout) if self.sizes else data[(datum.time or 1) - 1]

    def at(self, by: Reading) -> At:
        """A map, for these inputs."""
        return At.of(by, self.sizes)

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
            if self.sizes:
                v, x = v.reshape(len(v), -1), side_by_side(x, None if r.by is None else self.at(r.by))
            size = evaluate(r.std, self.hyper) * scale(r.name) / np.sqrt(x.shape[-1])
            total = total + size * np.sum(v * x, axis=-1)
        for name, std in f.biases:
            total = total + scale(name) * evaluate(std, self.hyper) * parameters[name][:, 0]
        return np.asarray(total)

    def ntk(self, values: Values, pairs: list[tuple[int, int]] | None = None) -> np.ndarray:
        """The empirical NTK (S, N, N); with ``pairs``, only those entries (and their mirrors) are computed."""
        n = len(self.trace.outputs)
        count, width = (values[self.trace.outputs[0].readouts[0].x].shape[k] for k in (0, -1))
        trained = self.chosen.at(self.trace, width)
        theta = np.zeros((count, n, n))
        memo: dict[tuple[Var, Var], np.ndarray] = {}
        upper = [(i, j) for i in range(n) for j in range(i, n)]
        for i, j in upper if pairs is None else pairs:
            terms = ntk_terms(self.trace, self.gradients, i, j, trained=trained)
            theta[:, i, j] = theta[:, j, i] = sum(self._term(t, values, memo) for t in terms)
        return theta

    def _term(self, term: Term, values: Values, memo: dict[tuple[Var, Var], np.ndarray]) -> Any:
        if self.sizes:
            return self._sum_of_positions(term, values)
        result = evaluate(term.factor, self.hyper)
        for pair in (term.gradient, term.activation):
            if pair is not None:
                if pair not in memo:
                    memo[pair] = np.einsum("sn,sn->s", values[pair[0]], values[pair[1]]) / values[pair[0]].shape[-1]
                result = result * memo[pair]
        return result

    def _sum_of_positions(self, term: Term, values: Values) -> np.ndarray:
        """Σ_{p,q} of a term's products of inner products, of arrays (S, P, Q)."""
        for symbol in term.factor.free_symbols & self.trace.grams.keys() - self.grams.keys():
            self.grams[symbol] = self._gram(*self.trace.grams[symbol])
        result = np.asarray(evaluate(term.factor, {**self.hyper, **self.grams}))
        if term.gradient is not None:
            result = result * self._products(term.gradient, values)
        if term.activation is not None or term.by is not None:
            found = self._products(term.activation, values) if term.activation else np.ones((1, 1, 1))
            if term.by is not None:
                found = shared(term.by.map, term.transpose, found, self._read(term))
            result = result * found
        return np.sum(result, axis=(-2, -1)) if result.ndim else result

    def _products(self, pair: tuple[Var, Var], values: Values) -> np.ndarray:
        """Inner products of all positions, divided by n."""
        a, b = (values[v] for v in pair)
        return a @ np.swapaxes(b, 1, 2) / a.shape[-1]  # type: ignore[no-any-return]

    def _read(self, term: Term) -> tuple[Sizes, Sizes]:
        """The sizes of what the map of a term reads, of both inputs."""
        pair = term.activation or term.gradient
        assert pair is not None and term.by is not None
        first, second = (self.program.axes(v) for v in pair)
        if term.by.axes is None or first is None or second is None:
            return (), ()
        a, b = (Axes(x.source, term.by.axes.maps).at(self.sizes[x.source]) for x in (first, second))
        return a, b

    def _gram(self, a: Datum, b: Datum) -> np.ndarray:
        """Inner products of what is embedded of two inputs, for all positions (P, Q)."""
        xi, other = self.read(a), self.read(b)
        found = xi @ other.T / xi.shape[-1]
        return found * np.eye(len(xi)) if is_untied(a) else found


def _given(of: Given, inputs: Inputs, i: int) -> np.ndarray:
    """A matrix that is given with an input, (R, P)."""
    assert inputs.layout is not None
    given = inputs.layout.of(of.name, inputs[i])
    return of.matrix(given[..., 0] if of.pooled else given)


def hyper_values(trace: Trace, inputs: Inputs, values: HyperValues | None, extra: Iterable[sp.Symbol] = ()) -> Hyper:
    """Numbers for all symbols of a trace: the given ones, and the inner products of the data."""
    hyper = symbol_values(values, lambda: trace.symbols.union(extra))
    if trace.program.has_axes:
        return hyper
    data = [inputs[i] for i in range(len(inputs))]
    hyper |= {s: data[datum.owner][(datum.time or 1) - 1] for s, datum in trace.vectors.items()}
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
    trainable: Sequence[Pattern] | None = None,
    rates: Mapping[Pattern, Number] | None = None,
    parametrization: ParametrizationChoice | None = None,
    outputs: int | Sequence[int] | None = None,
    trace: bool = False,
    progress: Progress = None,
) -> np.ndarray:
    """The NTK of one network of width n at initialization, from its own gradients (TP2b Eq. 99).

    Args:
        net: an architecture.
        X1: inputs: (N, d), (N, T, d) or a list of (T_i, d); (N, H, W, C) or a list of (H_i, W_i, C) where the network
            reads positions.
        X2: like X1; None for X1 with itself.
        width: n.
        seed: of the parameters.
        seeds: None for one network; S for S of them.
        values: numbers for hyperparameter symbols, by symbol or by name.
        dtype: to compute in, ``float64`` or ``float32``.
        trainable, rates, parametrization: which parameters train, and how fast, as for ``tp.ntk``; terms that vanish in
            the limit have their powers of n.
        outputs: of a network with several: the number of one, or several numbers; None for all.
        trace: the sum over these outputs, each with itself, instead of all pairs of them.
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
    trained = _factors(Rates.of(trainable, rates, parametrization), net, lengths, width)
    hyper = symbol_values(values, lambda: _symbols(net, trained))
    refuse_unmet(derivatives_of(net, lengths, trained), "the empirical NTK")
    run = functools.partial(
        layerwise_ntk, first=first, second=second, width=width, seeds=chosen, hyper=hyper, dtype=dtype, trained=trained
    )
    with telling(progress):
        if len(which) == 1 or flag(trace, "trace"):
            result = np.sum([run(one_output(net, k)) for k in which], axis=0)
        else:
            result = run(net, heads=which)
    if not np.isfinite(result).all():
        raise DataError(
            f"the NTK of {net.name} is not finite on the data; check the scale of inputs and hyperparameters"
        )
    return result if seeds is not None else result[0]  # type: ignore[no-any-return]


def _factors(chosen: Rates, net: Network, lengths: Iterable[Any], width: int) -> dict[str, sp.Expr] | None:
    """What trains, with the factors of learning rates, for inputs of some lengths; None for all of it at 1."""
    if chosen == ALL:
        return None
    traces = [net.trace([t]) for t in dict.fromkeys(lengths)]
    chosen.check(traces[0])
    found: dict[str, sp.Expr] = {}
    for trace in traces:
        found |= chosen.at(trace, width) or {}
    return found


def _symbols(net: Network, trained: Mapping[str, sp.Expr] | None) -> set[sp.Symbol] | None:
    """The symbols of a network, and those of the rates of its parameters."""
    known = net.symbols
    return None if known is None else known.union(*(r.free_symbols for r in (trained or {}).values()))


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
