"""The empirical NTK of many inputs from their activations and scaled gradients; no Jacobian is ever formed.

∂f/∂w of W = σ_W w/√n is σ_W Σ dg hᵀ/n over the uses g = Wh, so that with one row of D and H for each input

    Θ = Σ_W σ_W² Σ_{uses u, v} (D_u D_vᵀ/n) ∘ (H_u H_vᵀ/n),

and likewise for embeddings (H = ξ, d for n), biases and readouts (one factor only).  All inputs of one length are
rows of one execution of the program of a single input.  Over positions a gradient is a sum of such products, and is
made, some coordinates at a time, where that costs less than inner products of all positions (``families.gram``).
"""

from __future__ import annotations

import functools
import math
from collections import defaultdict
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.derivation.data import Inputs
from tensorprog.derivation.named import Layout
from tensorprog.derivation.ntk import rate
from tensorprog.derivation.outer import Pair
from tensorprog.dsl.network import Network
from tensorprog.dsl.trace import Datum, Output, Readout, Trace
from tensorprog.finite.execute import Groups, Values, execute, schedule
from tensorprog.finite.families import (
    At,
    Grid,
    Shared,
    embedded,
    gram,
    is_untied,
    read,
    shapes,
    side_by_side,
    unequal,
    unplaced,
    volume,
)
from tensorprog.finite.sample import MEMORY, at_once, draw_parameter, normal
from tensorprog.functions import evaluate
from tensorprog.ir.axes import Reading
from tensorprog.ir.dependent import dependent_products
from tensorprog.ir.graph import ProgramGraph
from tensorprog.ir.instructions import InitMatrix, InitVector, MatMul, Var
from tensorprog.ir.maps import Given
from tensorprog.passes.backprop import Gradients, Tape
from tensorprog.progress import telling

Array = Any
Parameters = Mapping[str, np.ndarray]
Use = Pair | Shared


@dataclass(frozen=True)
class Piece:
    """Inputs of one length, or of the same sizes: their places among all inputs and their vectors (N, T, d)."""

    length: Any
    rows: np.ndarray
    data: np.ndarray
    layout: Layout | None = None

    def matrix(self, of: Given, source: str) -> np.ndarray:
        """A matrix that is given with every input, (N, R, P)."""
        assert self.layout is not None
        given = self.layout.of(of.name, self.data)
        return of.matrix(given[..., 0] if of.pooled else given)


class RowsProgram:
    """The program of one input of a given length, run with many inputs as rows of its vectors.

    Args:
        net: an architecture.
        length: of the inputs, or the sizes of their positions; None for vectors.
        hyper: numbers for hyperparameter symbols.
        every_head: the gradients of all outputs, instead of those of the one that kernels are about.
        trained: the parameters whose gradients are wanted; all when None.
    """

    def __init__(
        self, net: Network, length: Any, hyper: Mapping[sp.Symbol, float], every_head: bool = False,
        trained: Container[str] | None = None,
    ) -> None:  # fmt: skip
        self.trace, self.hyper, self.trained = net.trace([length]), hyper, trained
        self.sizes = Grid({self.trace.inputs[0][0].label: length} if net.takes_axes else {})
        self.heads = self.trace.heads[0] if every_head else (self.trace.outputs[0],)
        program, self.gradients = _backward(self.trace, self.heads)
        self.program = dependent_products(program)
        given = {v for v, op in self.program if isinstance(op, InitMatrix | InitVector)}
        self.matrices = {p.var: n for n, p in self.trace.parameters.items() if p.kind == "matrix" and p.var}
        self.groups = schedule(self.program, given, list(self._wanted()))
        self.forward = schedule(self.program, given, [v for f in self.heads for r in f.readouts for v in (r.v, r.x)])
        self.std = {n: float(evaluate(p.std, hyper)) for n, p in self.trace.parameters.items()}
        self.volume = volume(self.program, self.sizes)
        self.biases = [[(n, float(evaluate(std, hyper))) for n, std in f.biases] for f in self.heads]
        self.std |= {n: 1.0 for biases in self.biases for n, _ in biases}  # each use has its own

    def _counts(self, name: str) -> bool:
        return self.trained is None or name in self.trained

    def _wanted(self) -> Iterator[Var]:
        """The outputs' vectors, and those behind the gradients of what is trained."""
        for f in self.heads:
            for r in f.readouts:
                yield from (r.v, r.x)
        for gradients in self.gradients:
            of = gradients.of
            for var, op in self.trace.program:
                if isinstance(op, MatMul) and var in of and self._counts(self.matrices[op.matrix]):
                    yield from (op.x, *of[var])
            yield from (d for uses in gradients.places.values() for _, d in uses)
            for var, (name, _) in self.trace.embeddings.items():
                yield from of.get(var, ()) if self._counts(name) else ()
            for name, p in self.trace.parameters.items():
                if p.kind == "bias" and p.var is not None and self._counts(name):
                    yield from of.get(p.var, ())

    def run(
        self, piece: Piece, parameters: Parameters, states: Mapping[str, np.ndarray], groups: Groups | None = None
    ) -> Values:
        """All variables, or those of some groups of the schedule, at these parameters."""
        scales = {var: self.std[n] / np.sqrt(parameters[n].shape[-1]) for var, n in self.matrices.items()}
        initial = self._initial(piece, parameters, states)
        groups = self.groups if groups is None else groups
        return execute(self.program, initial, self.hyper, None, scales, groups, Grid(self.sizes, piece.matrix))

    def outputs(self, piece: Piece, values: Values, parameters: Parameters) -> np.ndarray:
        """The outputs of the inputs, (S, N, heads)."""
        w = next(iter(parameters.values()))
        f = np.zeros((len(w), len(piece.rows), len(self.heads)), w.dtype)
        for k, head in enumerate(self.heads):
            for r in head.readouts:
                v, x = values[r.v], values[r.x]
                if self.sizes:
                    v, x = self._flat(v, None), self._flat(x, r.by)
                scale = np.asarray(float(evaluate(r.std, self.hyper)) / np.sqrt(x.shape[-1]), x.dtype)
                f[:, :, k] += scale * np.einsum("sbn,sbn->sb", *np.broadcast_arrays(v, x))
            for name, std in self.biases[k]:
                f[:, :, k] += np.asarray(std, w.dtype) * parameters[name]
        return f

    def share(self, r: Readout) -> float:
        """What an output made of outputs multiplies a readout by."""
        own = self.trace.parameters[r.name].std
        return 1.0 if r.std == own else float(evaluate(r.std / own, self.hyper)) if own != 0 else 0.0

    def _flat(self, x: Array, by: Reading | None) -> Array:
        """What a readout reads, (S, N, |w| n)."""
        return side_by_side(x, None if by is None else At.of(by, self.sizes))

    def shapes(self, width: int, inputs: Inputs) -> dict[str, tuple[int, ...]]:
        """Of the parameters, but for the seeds."""
        return shapes(self.trace, width, inputs, self.sizes)

    def pairs(self, piece: Piece, values: Values, head: int = 0) -> dict[str, list[Use]]:
        """The gradients of every parameter as outer products of rows, in the order of its uses.

        Of a use with rows L and R, ∂f/∂w is std/√(size of w) times L ⊗ R, or L alone where R is None.
        """
        found, count = self._pairs(piece, values, head), len(piece.rows)
        return {n: [_of_inputs(use, count) for use in uses] for n, uses in found.items()}

    def _initial(self, piece: Piece, parameters: Parameters, states: Mapping[str, np.ndarray]) -> Values:
        values: Values = {}
        for name, p in self.trace.parameters.items():
            w = parameters[name]
            if p.kind == "matrix" and p.var is not None:
                values[p.var] = w
            elif p.var is not None:
                vector = w if p.kind == "readout" else w * np.asarray(self.std[name], w.dtype)
                values[p.var] = vector[:, None] if w.ndim > 2 or not self.sizes else vector[:, None, None]
        for var, (name, datum) in self.trace.embeddings.items():
            u = parameters[name]
            xi = self._read(datum, piece).astype(u.dtype)
            xi *= np.asarray(self.std[name] / np.sqrt(xi.shape[-1]), u.dtype)
            values[var] = embedded(u, xi, datum) if self.sizes else np.swapaxes(u @ xi.T, 1, 2)
        for var, name in self.trace.states.items():
            variance = dict(self.program.op(var).cov).get(var, sp.S.Zero)  # type: ignore[union-attr]
            drawn = states[name][:, piece.rows]
            drawn = drawn[:, :, None] if self.sizes else drawn
            values[var] = drawn * np.asarray(np.sqrt(float(evaluate(variance, self.hyper))), drawn.dtype)
        if "ones" in self.trace.program:
            like = next(v for k, v in values.items() if k.kind == "vector")
            values[self.trace.program.named("ones")] = np.ones(
                (len(like), *[1] * (like.ndim - 2), like.shape[-1]), like.dtype
            )
        return values

    def _read(self, datum: Datum, piece: Piece) -> np.ndarray:
        """What is embedded of the inputs of a piece."""
        return read(datum, piece.data, self.sizes, piece.layout) if self.sizes else piece.data[:, (datum.time or 1) - 1]

    def _pairs(self, piece: Piece, values: Values, head: int) -> dict[str, list[Use]]:
        result: dict[str, list[Use]] = defaultdict(list)
        of = self.gradients[head].of
        for var, op in self.trace.program:
            if isinstance(op, MatMul) and self._counts(self.matrices[op.matrix]):
                for d in of.get(var, ()):
                    use = (values[d], values[op.x])
                    use = use[::-1] if op.transpose else use
                    at = None if op.by is None else At.of(op.by, self.sizes)
                    shared = Shared(*use, at, at is not None and not at.tied)
                    result[self.matrices[op.matrix]].append(shared if self.sizes else use)
        for var, (name, datum) in self.trace.embeddings.items():
            if var in of and self._counts(name):
                d = _sum(values, of[var])
                xi = self._read(datum, piece)[None].astype(d.dtype)
                result[name].append(Shared(d, xi, None, is_untied(datum)) if self.sizes else (d, xi))
        for name, p in self.trace.parameters.items():
            if p.kind == "bias" and p.var in of and self._counts(name):
                d = _sum(values, of[p.var])
                result[name].append((d[..., 0, :] if self.sizes else d, None))
            places = self.gradients[head].places
            for place, d in places.get(p.var, ()) if p.var is not None and self._counts(name) else ():
                found = unplaced(values[d], At.of(place.by, self.sizes), place.transpose)
                scale = np.asarray(np.sqrt(found.shape[-2]), found.dtype)  # of size n, as every vector of them
                result[name].append(((found * scale).reshape(*found.shape[:2], -1), None))
        for r in self.heads[head].readouts:
            if r.trained and self._counts(r.name):
                x = values[r.x]
                x, share = (self._flat(x, r.by) if self.sizes else x), self.share(r)
                result[r.name].append((x if share == 1 else x * np.asarray(share, x.dtype), None))
        for name, std in self.biases[head]:
            if not self._counts(name):
                continue
            result[name].append((np.full((1, 1, 1), std), None))
        return result


def _backward(trace: Trace, heads: Sequence[Output]) -> tuple[ProgramGraph, list[Gradients]]:
    """The program of one input extended by the backward pass of each of these outputs."""
    program: ProgramGraph = trace.program.copy()
    label = trace.inputs[0][0].label
    gradients = [
        Tape(program, f"d{k or ''}{label}_").backward(trace.program, f, f".{k}" if k else "")
        for k, f in enumerate(heads)
    ]
    return program, gradients


def _sum(values: Values, variables: tuple[Var, ...]) -> Array:
    return functools.reduce(np.add, (values[v] for v in variables))


def size(use: Use) -> int:
    """How many numbers L ⊗ R has."""
    return int(use[0].shape[-1] * (1 if use[1] is None else use[1].shape[-1]))


def _of_inputs(use: Use, count: int) -> Use:
    """One row for each input, also of a vector that is the same for all of them."""
    if isinstance(use, Shared):
        return use.rows(count)
    left, right = (x if x is None or x.shape[1] == count else np.repeat(x, count, axis=1) for x in use)
    return left, right


class Layerwise:
    """The empirical NTK of a network between two sets of inputs, at any parameters.

    Args:
        net: an architecture.
        first: the inputs of the rows.
        second: the inputs of the columns; None for the same ones.
        hyper: numbers for hyperparameter symbols.
        every_head: for kernels between any two outputs, instead of that of the one that kernels are about.
        trained: the parameters that count; all when None.
    """

    def __init__(self, net: Network, first: Inputs, second: Inputs | None, hyper: Mapping[sp.Symbol, float],
                 every_head: bool = False, trained: Container[str] | None = None) -> None:  # fmt: skip
        self.first, self.second, self.hyper = first, second, hyper
        self.inputs = len(first) + (len(second) if second is not None else 0)
        lengths = {*first.groups, *(second.groups if second is not None else ())}
        self.programs = {
            t: RowsProgram(net, t, hyper, every_head, trained) for t in sorted(lengths, key=lambda t: t or 0)
        }
        self.volume = max(p.volume for p in self.programs.values())

    def draw(self, width: int, seeds: list[int], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Parameters as they start, ~ N(0, 1) mostly: (S, n, n), embeddings (S, n, d), biases and readouts (S, n).

        Over positions they are families of such (``finite.families``).
        """
        parameters = {n: p for program in self.programs.values() for n, p in program.trace.parameters.items()}
        shapes = self.shapes(width)
        return {n: draw_parameter(n, p, shapes[n], seeds, self.hyper, dtype, width) for n, p in parameters.items()}

    def shapes(self, width: int) -> dict[str, tuple[int, ...]]:
        """The shape of every parameter, but for the seeds.

        Raises:
            DataError: a parameter has weights for every position, and inputs of different sizes.
        """
        found: dict[str, tuple[int, ...]] = {}
        for program in self.programs.values():
            for name, shape in program.shapes(width, self.first).items():
                if found.setdefault(name, shape) != shape:
                    raise unequal(name, self.programs)
        return found

    def states(self, width: int, seeds: list[int], dtype: Any = np.float64) -> dict[str, np.ndarray]:
        """Initial states ~ N(0, 1) of every input, (S, N, n)."""
        names = {n for program in self.programs.values() for n in program.trace.states.values()}
        labels = range(self.inputs)
        return {
            name: np.stack([normal(seeds, f"{name}(x[{i}])", (width,), dtype) for i in labels], axis=1)
            for name in sorted(names)
        }

    def __call__(
        self, parameters: Parameters, states: Mapping[str, np.ndarray], memory: int = MEMORY,
        trained: Container[str] | None = None, heads: tuple[int, int] = (0, 0),
    ) -> np.ndarray:  # fmt: skip
        """Θ (S, N1, N2) of all parameters or those ``trained``, from blocks of inputs that fit into ``memory``.

        A mapping of ``trained`` gives factors; ``heads`` are the outputs of the rows and of the columns.
        """
        if not parameters:  # a function of initial states alone
            drawn = next(iter(states.values()))
            return np.zeros((len(drawn), len(self.first), len(self.second or self.first)), drawn.dtype)
        w = next(iter(parameters.values()))
        left, right, fits = self._cut(parameters, memory)
        mirrored = right is left and heads[0] == heads[1]

        def pairs(piece: Piece, head: int) -> dict[str, list[Use]]:
            program = self.programs[piece.length]
            found = program.pairs(piece, program.run(piece, parameters, states), head)
            return {n: p for n, p in found.items() if trained is None or n in trained}

        @functools.lru_cache(maxsize=None if fits else 1)
        def column(k: int) -> dict[str, list[Use]]:
            return pairs(right[k], heads[1])

        theta = np.empty((len(w), len(self.first), len(self.second or self.first)))
        for i, a in enumerate(left):
            rows = column(i) if mirrored else pairs(a, heads[0])
            for k, b in enumerate(right[: i + 1] if mirrored else right):
                same = mirrored and i == k
                block = self._block(a, b, rows, rows if same else column(k), same, trained)
                if np.shape(block) == theta.shape:  # all there is
                    return block.astype(theta.dtype, copy=False)
                offset = 0 if right is left else len(self.first)
                theta[:, a.rows[:, None], b.rows - offset] = block
                if mirrored:
                    theta[:, b.rows[:, None], a.rows] = np.swapaxes(block, 1, 2)
        return theta

    def _cut(self, parameters: Parameters, memory: int) -> tuple[list[Piece], list[Piece], bool]:
        """The inputs of rows and columns in pieces that fit into memory, and whether all of them do together."""
        w = next(iter(parameters.values()))
        kinds = {n: p.kind for program in self.programs.values() for n, p in program.trace.parameters.items()}
        width = max(v.shape[-2 if kinds.get(n) == "embedding" else -1] for n, v in parameters.items())
        step = max(1, int(memory // (4 * self.volume * len(w) * width * w.itemsize)))
        left = list(_pieces(self.first, 0, step))
        right = left if self.second is None else list(_pieces(self.second, len(self.first), step))
        return left, right, self.inputs <= 2 * step

    def between(self, parameters: Parameters, states: Mapping[str, np.ndarray], heads: Sequence[int],
                trained: Container[str] | None = None, memory: int = MEMORY) -> np.ndarray:  # fmt: skip
        """Θ between some outputs, (S, N1, N2, heads, heads), all of them from one run of the inputs."""
        shape = (len(self.first), len(self.second or self.first), len(heads), len(heads))
        if not parameters:
            return np.zeros((len(next(iter(states.values()))), *shape))
        left, right, fits = self._cut(parameters, memory)

        def uses(piece: Piece) -> list[dict[str, list[Use]]]:
            program = self.programs[piece.length]
            values = program.run(piece, parameters, states)
            return [program.pairs(piece, values, k) for k in heads]

        @functools.lru_cache(maxsize=None if fits else 1)
        def column(k: int) -> list[dict[str, list[Use]]]:
            return uses(right[k])

        theta = np.empty((len(next(iter(parameters.values()))), *shape))
        offset = 0 if self.second is None else len(self.first)
        for n, a in enumerate(left):
            rows = column(n) if right is left else uses(a)
            for m, b in enumerate(right):
                columns = rows if a is b else column(m)
                for i, j in np.ndindex(len(heads), len(heads)):
                    block = self._block(a, b, rows[i], columns[j], a is b and i == j, trained)
                    theta[:, a.rows[:, None], b.rows - offset, i, j] = block
        return theta

    def outputs(self, parameters: Parameters, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """The outputs of the first inputs, (S, N, heads)."""
        parts = []
        for piece in _pieces(self.first, 0, len(self.first)):
            program = self.programs[piece.length]
            values = program.run(piece, parameters, states, program.forward)
            parts.append((piece.rows, program.outputs(piece, values, parameters)))
        found = np.empty((len(parts[0][1]), len(self.first), parts[0][1].shape[-1]))
        for rows, f in parts:
            found[:, rows] = f
        return found

    def _block(self, a: Piece, b: Piece, left: dict[str, list[Use]], right: dict[str, list[Use]], same: bool,
               trained: Container[str] | None) -> Array:  # fmt: skip
        program, common = self.programs[a.length], [n for n in left if n in right]
        total: Array = 0.0 if common else np.zeros((1, len(a.rows), len(b.rows)))
        for name in common:
            factor = program.std[name] ** 2 * float(evaluate(rate(name, trained), program.hyper)) / size(left[name][0])
            total = total + factor * gram(left[name], right[name], same)
        return (total + np.swapaxes(total, 1, 2)) / 2 if same else total


def _pieces(inputs: Inputs, offset: int, size: int) -> Iterator[Piece]:
    for length, rows in inputs.groups.items():
        for start in range(0, len(rows), size):
            chosen = slice(start, start + size)
            yield Piece(length, rows[chosen] + offset, inputs.data[length][chosen], inputs.layout)


def layerwise_ntk(
    net: Network, first: Inputs, second: Inputs | None, width: int, seeds: list[int],
    hyper: Mapping[sp.Symbol, float], dtype: Any, memory: int = MEMORY, heads: Sequence[int] | None = None,
    trained: Container[str] | None = None,
) -> np.ndarray:  # fmt: skip
    """The empirical NTK (S, N1, N2) of freshly drawn networks, some seeds at a time; between outputs if they are given,
    (S, N1, N2, outputs, outputs)."""
    kernel = Layerwise(net, first, second, hyper, heads is not None, trained)
    matrices = max(len(p.matrices) for p in kernel.programs.values())
    vectors = kernel.volume * kernel.inputs
    weights = max(matrices * width**2, sum(map(math.prod, kernel.shapes(width).values())))
    step = at_once(weights + vectors * width, width, dtype, memory)
    parts = []
    with telling() as tell:
        for start in range(0, len(seeds), step):
            some = seeds[start : start + step]
            drawn = kernel.draw(width, some, dtype), kernel.states(width, some, dtype)
            parts.append(kernel(*drawn, memory, trained) if heads is None else kernel.between(*drawn, heads, trained))
            tell(start + len(some), len(seeds), f"width {width}")
    return np.concatenate(parts)
