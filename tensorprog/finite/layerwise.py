"""The empirical NTK of many inputs from their activations and scaled gradients; no Jacobian is ever formed.

∂f/∂w of W = σ_W w/√n is σ_W Σ dg hᵀ/n over the uses g = Wh, so that with one row of D and H for each input

    Θ = Σ_W σ_W² Σ_{uses u, v} (D_u D_vᵀ/n) ∘ (H_u H_vᵀ/n),

and likewise for embeddings (H = ξ, d for n), biases and readouts (one factor only).  All inputs of one length are
rows of one execution of the program of a single input.
"""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.dsl.network import Network
from tensorprog.finite.execute import Values, execute, schedule
from tensorprog.finite.sample import MEMORY, draw_parameter, normal
from tensorprog.functions import evaluate
from tensorprog.ir.instructions import InitMatrix, InitVector, MatMul, Var
from tensorprog.kernels.data import Inputs
from tensorprog.kernels.outer import Pair, gram
from tensorprog.passes.backprop import backprop
from tensorprog.passes.optimizer import among

Array = Any
Parameters = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Piece:
    """Inputs of one length: their positions among all inputs and their vectors (N, T, d)."""

    length: int | None
    rows: np.ndarray
    data: np.ndarray


class RowsProgram:
    """The program of one input of a given length, run with many inputs as rows of its vectors."""

    def __init__(self, net: Network, length: int | None, hyper: Mapping[sp.Symbol, float]) -> None:
        self.trace, self.hyper = net.trace([length]), hyper
        self.program, (self.gradients,) = backprop(self.trace)
        given = {v for v, op in self.program if isinstance(op, InitMatrix | InitVector)}
        self.groups = schedule(self.program, given)
        self.std = {n: float(evaluate(p.std, hyper)) for n, p in self.trace.parameters.items()}
        self.biases = [(n, float(evaluate(std, hyper))) for n, std in self.trace.outputs[0].biases]
        self.std |= {n: 1.0 for n, _ in self.biases}  # each use has its own
        self.matrices = {p.var: n for n, p in self.trace.parameters.items() if p.kind == "matrix" and p.var}

    def pairs(self, piece: Piece, parameters: Parameters, states: Mapping[str, np.ndarray]) -> dict[str, list[Pair]]:
        """The gradients of every parameter as outer products of rows, in the order of its uses."""
        scales = {var: self.std[n] / np.sqrt(parameters[n].shape[-1]) for var, n in self.matrices.items()}
        initial = self._initial(piece, parameters, states)
        found = self._pairs(piece, execute(self.program, initial, self.hyper, None, scales, self.groups))
        count = len(piece.rows)
        return {n: [(_rows(l, count), None if r is None else _rows(r, count)) for l, r in p] for n, p in found.items()}

    def _initial(self, piece: Piece, parameters: Parameters, states: Mapping[str, np.ndarray]) -> Values:
        values: Values = {}
        for name, p in self.trace.parameters.items():
            w = parameters[name]
            if p.kind == "matrix" and p.var is not None:
                values[p.var] = w
            elif p.var is not None:
                values[p.var] = (w if p.kind == "readout" else w * np.asarray(self.std[name], w.dtype))[:, None]
        for var, (name, datum) in self.trace.embeddings.items():
            u = parameters[name]
            xi = piece.data[:, (datum.time or 1) - 1].astype(u.dtype)
            xi *= np.asarray(self.std[name] / np.sqrt(xi.shape[-1]), u.dtype)
            values[var] = np.swapaxes(u @ xi.T, 1, 2)
        for var, name in self.trace.states.items():
            variance = dict(self.program.op(var).cov).get(var, sp.S.Zero)  # type: ignore[union-attr]
            drawn = states[name][:, piece.rows]
            values[var] = drawn * np.asarray(np.sqrt(float(evaluate(variance, self.hyper))), drawn.dtype)
        if "ones" in self.trace.program:
            like = next(v for k, v in values.items() if k.kind == "vector")
            values[self.trace.program.named("ones")] = np.ones((len(like), 1, like.shape[-1]), like.dtype)
        return values

    def _pairs(self, piece: Piece, values: Values) -> dict[str, list[Pair]]:
        result: dict[str, list[Pair]] = defaultdict(list)
        of = self.gradients.of
        for var, op in self.trace.program:
            if isinstance(op, MatMul):
                for d in of.get(var, ()):
                    use = (values[d], values[op.x])
                    result[self.matrices[op.matrix]].append(use[::-1] if op.transpose else use)
        for var, (name, datum) in self.trace.embeddings.items():
            if var in of:
                d = _sum(values, of[var])
                result[name].append((d, piece.data[None, :, (datum.time or 1) - 1].astype(d.dtype)))
        for name, p in self.trace.parameters.items():
            if p.kind == "bias" and p.var in of:
                result[name].append((_sum(values, of[p.var]), None))
        for r in self.trace.outputs[0].readouts:
            if r.trained:
                result[r.name].append((values[r.x], None))
        for name, std in self.biases:
            result[name].append((np.full((1, 1, 1), std), None))
        return result


def _sum(values: Values, variables: tuple[Var, ...]) -> Array:
    return functools.reduce(np.add, (values[v] for v in variables))


def _rows(x: Array, count: int) -> Array:
    """One row for each input, also of a vector that is the same for all of them."""
    return x if x.shape[1] == count else np.repeat(x, count, axis=1)


class Layerwise:
    """The empirical NTK of a network between two sets of inputs, at any parameters.

    Args:
        net: an architecture.
        first: the inputs of the rows.
        second: the inputs of the columns; None for the same ones.
        hyper: numbers for hyperparameter symbols.
        trainable: names or kinds of the parameters that count; all when None.
    """

    def __init__(self, net: Network, first: Inputs, second: Inputs | None, hyper: Mapping[sp.Symbol, float],
                 trainable: Collection[str] | None = None) -> None:  # fmt: skip
        self.trainable = trainable
        self.first, self.second, self.hyper = first, second, hyper
        self.inputs = len(first) + (len(second) if second is not None else 0)
        lengths = {*first.groups, *(second.groups if second is not None else ())}
        self.programs = {t: RowsProgram(net, t, hyper) for t in sorted(lengths, key=lambda t: t or 0)}

    def draw(self, width: int, seeds: list[int], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Parameters as they start, ~ N(0, 1) mostly: (S, n, n), embeddings (S, n, d), biases and readouts (S, n)."""
        shapes = {"matrix": (width, width), "embedding": (width, self.first.dimension)}
        parameters = {n: p for program in self.programs.values() for n, p in program.trace.parameters.items()}
        return {
            n: draw_parameter(n, p, shapes.get(p.kind, (width,)), seeds, self.hyper, dtype)
            for n, p in parameters.items()
        }

    def states(self, width: int, seeds: list[int], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Initial states ~ N(0, 1) of every input, (S, N, n)."""
        names = {n for program in self.programs.values() for n in program.trace.states.values()}
        labels = range(self.inputs)
        return {
            name: np.stack([normal(seeds, f"{name}(x[{i}])", (width,), dtype) for i in labels], axis=1)
            for name in sorted(names)
        }

    def __call__(self, parameters: Parameters, states: Mapping[str, np.ndarray], memory: int = MEMORY) -> np.ndarray:
        """Θ (S, N1, N2): blocks of inputs whose vectors fit into ``memory`` bytes, against one another."""
        w = next(iter(parameters.values()))
        row = max(len(p.program) for p in self.programs.values()) * len(w) * w.shape[1] * w.itemsize
        size = max(1, int(memory // (4 * row)))
        left = list(_pieces(self.first, 0, size))
        right = left if self.second is None else list(_pieces(self.second, len(self.first), size))
        fits = self.inputs <= 2 * size

        @functools.lru_cache(maxsize=None if fits else 1)
        def column(k: int) -> dict[str, list[Pair]]:
            return self.programs[right[k].length].pairs(right[k], parameters, states)

        theta = np.empty((len(w), len(self.first), len(self.second or self.first)))
        for i, a in enumerate(left):
            rows = column(i) if right is left else self.programs[a.length].pairs(a, parameters, states)
            for k, b in enumerate(right[: i + 1] if right is left else right):
                same = right is left and i == k
                block = self._block(a, b, rows, rows if same else column(k), same)
                if np.shape(block) == theta.shape:  # all there is
                    return block.astype(theta.dtype, copy=False)
                offset = 0 if right is left else len(self.first)
                theta[:, a.rows[:, None], b.rows - offset] = block
                if right is left:
                    theta[:, b.rows[:, None], a.rows] = np.swapaxes(block, 1, 2)
        return theta

    def _block(self, a: Piece, b: Piece, left: dict[str, list[Pair]], right: dict[str, list[Pair]],
               same: bool) -> Array:  # fmt: skip
        std, trained = self.programs[a.length].std, among(self.programs[a.length].trace, self.trainable)
        total: Array = 0.0 if trained is None or trained & left.keys() else np.zeros((1, len(a.rows), len(b.rows)))
        for name in (n for n in left if n in right and (trained is None or n in trained)):
            l, r = left[name][0]
            size = l.shape[-1] * (1 if r is None else r.shape[-1])
            total = total + std[name] ** 2 / size * gram(left[name], right[name], same)
        return (total + np.swapaxes(total, 1, 2)) / 2 if same else total


def _pieces(inputs: Inputs, offset: int, size: int) -> Iterator[Piece]:
    for length, rows in inputs.groups.items():
        for start in range(0, len(rows), size):
            chosen = slice(start, start + size)
            yield Piece(length, rows[chosen] + offset, inputs.data[length][chosen])


def layerwise_ntk(
    net: Network, first: Inputs, second: Inputs | None, width: int, seeds: list[int],
    hyper: Mapping[sp.Symbol, float], dtype: Any, memory: int = MEMORY, trainable: Collection[str] | None = None,
) -> np.ndarray:  # fmt: skip
    """The empirical NTK (S, N1, N2) of freshly drawn networks, some seeds at a time."""
    kernel = Layerwise(net, first, second, hyper, trainable)
    matrices = max(len(p.matrices) for p in kernel.programs.values())
    vectors = max(len(p.program) for p in kernel.programs.values()) * kernel.inputs
    each = (matrices * width**2 + vectors * width) * np.dtype(dtype).itemsize
    size = max(1, int(memory // each))
    parts = []
    for start in range(0, len(seeds), size):
        some = seeds[start : start + size]
        parts.append(kernel(kernel.draw(width, some, dtype), kernel.states(width, some, dtype), memory))
    return np.concatenate(parts)
