"""Training at width n by moving the weights, all inputs as rows of one matrix product per layer.

The weights are kept in the units of the NTK parametrization, w̃ = n^(A_ntk − A) w̃_0 at the start, and a step of a
parameter with rows L_u, R_u of its uses u (``layerwise``) is

    G = rate · n^(C_ntk − C) Σ_b χ_b/B Σ_u ∂f/∂w,  ∂f/∂w = std/√(size of w) L_u ⊗ R_u,
    m ← μ m + G + λ w̃,  w̃ ← w̃ − η_t m  (with Nesterov's momentum η_t (G + λ w̃ + μ m)),

as torch.optim.SGD does.  It is the run that the unrolled program writes down, to float rounding.  A run ends where its
outputs explode: what comes after is nan.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import sympy as sp

from tensorprog.derivation.data import Inputs
from tensorprog.dsl.network import Network
from tensorprog.finite.execute import Values
from tensorprog.finite.families import Shared
from tensorprog.finite.layerwise import Layerwise, Piece, RowsProgram, Use, size
from tensorprog.finite.sample import at_once, normal
from tensorprog.functions import evaluate
from tensorprog.passes.parametrization import Parametrization
from tensorprog.passes.scaling import assign
from tensorprog.passes.unroll import Plan

MEMORY = 2**28
DIVERGED = 1e6
_NTK = {"embedding": (0.0, 0.0), "bias": (0.0, 0.0), "output bias": (0.0, 0.0),
        "matrix": (0.5, 1.0), "readout": (0.5, 1.0)}  # fmt: skip
Arrays = dict[str, np.ndarray]


class Descent:
    """SGD on networks of width n.

    Args:
        net: an architecture.
        inputs: N inputs, all of which are followed.
        y: labels of the first of them, (n_train, heads).
        plan: the run, with ``schedule[t]`` the samples of step t.
        hyper: numbers for hyperparameter symbols.
        parametrization: exponents; those of the NTK parametrization when None.
        subtract_start: whether outputs are f − f_0.
    """

    def __init__(self, net: Network, inputs: Inputs, y: np.ndarray, plan: Plan, hyper: Mapping[sp.Symbol, float],
                 parametrization: Parametrization | None = None, subtract_start: bool = False) -> None:  # fmt: skip
        self.inputs, self.y, self.plan, self.hyper = inputs, y, plan, hyper
        self.subtract_start = subtract_start
        lengths = list(dict.fromkeys(inputs.lengths))
        self.programs = {t: RowsProgram(net, t, hyper, True, plan.trained) for t in lengths}
        self.heads = len(self.programs[lengths[0]].heads)
        self.kernel = Layerwise(net, inputs, None, hyper, trained=plan.trained)
        self.kinds = {n: kind for p in self.programs.values() for n, kind in p.trace.trainable.items()}
        self.std = {n: std for p in self.programs.values() for n, std in p.std.items()}
        self.rates = {n: float(evaluate(r, hyper)) for n, r in plan.rates.items()}
        self.powers = dict.fromkeys(self.kinds, (0.0, 0.0))
        if parametrization is not None:
            layers = assign(net.trace(lengths), parametrization)
            for name, kind in self.kinds.items():
                (init, rate), layer = _NTK[kind], layers[name]
                self.powers[name] = init - float(layer.init), rate - float(layer.rate)

    def draw(self, width: int, seeds: list[int], dtype: Any = np.float64) -> tuple[Arrays, Arrays]:
        """w̃_0 by name, output biases (S, 1) among them, and the initial states of every input."""
        parameters = self.kernel.draw(width, seeds, dtype)
        biases = sorted(self.kinds.keys() - parameters.keys())
        parameters |= {n: normal(seeds, n, (1,), dtype) for n in biases}
        for name, (initial, _) in self.powers.items():
            if initial:
                parameters[name] *= np.asarray(float(width) ** initial, dtype)
        return parameters, self.kernel.states(width, seeds, dtype)

    def run(self, width: int, seeds: list[int], dtype: Any = np.float64) -> Iterator[tuple[np.ndarray, ...]]:
        """(f, χ, Θ, f̂) of some seeds at a time: (S, steps + 1, N, heads), (S, steps, B, heads), (S, probes, N, N).

        f̂, like f, are the outputs at the decayed initial weights a_t w_0; (S, 0), without any, if none decay.
        """
        step = at_once(self.numbers(width), width, dtype, MEMORY)
        for start in range(0, len(seeds), step):
            some = seeds[start : start + step]
            with np.errstate(over="ignore", invalid="ignore"):
                parameters, states = self.draw(width, some, dtype)
                offset = self._evaluate(parameters, states, ())[0] if self.subtract_start else np.zeros(1)
                decayed = self._decayed(parameters, states, offset)
                yield (*self._descend(width, parameters, states, offset), decayed)

    def numbers(self, width: int) -> int:
        """How many numbers a run of one seed holds."""
        vectors = sum(p.volume for p in self.programs.values()) * len(self.inputs)
        return vectors * width + 3 * sum(map(math.prod, self.kernel.shapes(width).values()))

    def _decayed(self, parameters: Arrays, states: Arrays, offset: np.ndarray) -> np.ndarray:
        """Outputs at a_t w_0, for all t."""
        o, count = self.plan.optimizer, len(next(iter(parameters.values())))
        if not o.decays:
            return np.zeros((count, 0))
        found = []
        for a, _ in o._numbers(self.plan.steps, self.hyper):
            scaled = {n: w * np.asarray(a, w.dtype) if n in self.plan.trained else w for n, w in parameters.items()}
            found.append(self._evaluate(scaled, states, ())[0] - offset)
        return np.stack(found, axis=1)

    def _descend(self, width: int, parameters: Arrays, states: Arrays, offset: np.ndarray) -> tuple[np.ndarray, ...]:
        plan, count, dtype = self.plan, len(next(iter(parameters.values()))), next(iter(parameters.values())).dtype
        n, batch_size = len(self.inputs), len(plan.schedule[0]) if plan.schedule else 0
        fs = np.full((count, plan.steps + 1, n, self.heads), np.nan, dtype)
        chis = np.full((count, plan.steps, batch_size, self.heads), np.nan, dtype)
        thetas = np.full((count, len(plan.probes), *[n if plan.probes else 0] * 2), np.nan)
        momentum: Arrays = {}
        alive = np.ones(count, bool)
        for t in range(plan.steps + 1):
            f, batch = self._evaluate(parameters, states, plan.schedule[t] if t < plan.steps else ())
            fs[alive, t] = (f - offset.astype(f.dtype))[alive]
            alive &= ~exploded(fs[:, t], fs[:, 0])
            if not alive.any():
                break
            if t in plan.probes:
                thetas[np.ix_(alive, np.array(plan.probes) == t)] = self._ntk(width, parameters, states)[alive, None]
            if t < plan.steps:
                chi = self._chi(f - offset.astype(f.dtype), plan.schedule[t])
                chis[alive, t] = chi[alive]
                self._step(t, width, parameters, momentum, self._gradient(batch, chi, plan.schedule[t]))
        return fs, chis, thetas

    def _evaluate(
        self, parameters: Arrays, states: Arrays, samples: Sequence[int]
    ) -> tuple[np.ndarray, list[tuple[Piece, Values]]]:
        """Outputs (S, N, heads), and the samples' variables with those of the backward pass."""
        w, chosen, batch = next(iter(parameters.values())), np.isin(np.arange(len(self.inputs)), samples), []
        f = np.empty((len(w), len(self.inputs), self.heads), w.dtype)
        for t, rows in self.inputs.groups.items():
            program = self.programs[t]
            for backward in (True, False):
                those = np.flatnonzero(chosen[rows] == backward)
                if len(those):
                    piece = Piece(t, rows[those], self.inputs.data[t][those], self.inputs.layout)
                    values = program.run(piece, parameters, states, None if backward else program.forward)
                    f[:, piece.rows] = program.outputs(piece, values, parameters)
                    if backward:
                        batch.append((piece, values))
        return f, batch

    def _chi(self, f: np.ndarray, samples: Sequence[int]) -> np.ndarray:
        """χ = ∂L/∂f of the samples, (S, B, heads)."""
        loss, rows = self.plan.loss, list(samples)
        fs, ys = ([a[..., rows, k] for k in range(f.shape[-1])] for a in (f, self.y.astype(f.dtype)))
        shape = (*f.shape[:1], len(rows))
        return np.stack([np.broadcast_to(loss.values(k, fs, ys, self.hyper), shape) for k in range(len(fs))], axis=-1)

    def _gradient(self, batch: list[tuple[Piece, Values]], chi: np.ndarray, samples: Sequence[int]) -> Arrays:
        """Σ_b χ_b/B ∂f/∂w of every trained parameter."""
        total: Arrays = {}
        place = {row: b for b, row in enumerate(samples)}
        for piece, values in batch:
            here = chi[:, [place[row] for row in piece.rows]] / len(samples)
            for k in range(chi.shape[-1]):
                weights = here[:, :, k, None].astype(chi.dtype)
                for name, uses in self.programs[piece.length].pairs(piece, values, k).items():
                    if name in self.plan.trained:
                        found = sum((_weighted(use, weights) for use in uses[1:]), _weighted(uses[0], weights))
                        factor = self.std[name] * self.rates.get(name, 1.0) / np.sqrt(size(uses[0]))
                        found *= np.asarray(factor, found.dtype)
                        total[name] = total[name] + found if name in total else found
        return total

    def _step(self, t: int, width: int, parameters: Arrays, momentum: Arrays, gradient: Arrays) -> None:
        o = self.plan.optimizer
        eta, mu, decay = (float(evaluate(x, self.hyper)) for x in (o.rate(t), o.momentum, o.weight_decay))
        for name in self.plan.trained & parameters.keys():
            w = parameters[name]
            move = gradient.get(name)
            move = np.zeros_like(w) if move is None else move.reshape(w.shape)
            if self.powers[name][1]:
                move *= np.asarray(float(width) ** self.powers[name][1], w.dtype)
            if decay:
                move += np.asarray(decay, w.dtype) * w
            if mu:
                kept = move + np.asarray(mu, w.dtype) * momentum[name] if name in momentum else move
                momentum[name], move = kept, move + np.asarray(mu, w.dtype) * kept if o.nesterov else kept
            w -= np.asarray(eta, w.dtype) * move

    def _ntk(self, width: int, parameters: Arrays, states: Arrays) -> np.ndarray:
        """Θ_t (S, N, N) of the parameters whose updates matter in the limit, in the units of O(1) vectors."""
        scaled = dict(parameters)
        for name, power in self.plan.scaling.initial.items():
            if power and self.kinds[name] == "readout":
                scaled[name] = parameters[name] * np.asarray(float(width) ** float(power), parameters[name].dtype)
        if not self.plan.moving:
            return np.zeros((len(next(iter(scaled.values()))), len(self.inputs), len(self.inputs)))
        return self.kernel(scaled, states, trained=self.plan.moving)


def exploded(now: np.ndarray, start: np.ndarray) -> np.ndarray:
    """Whether outputs (S, ..) are not finite, or 10⁶ times what they were at first, for each of S runs."""
    axes = tuple(range(1, now.ndim))
    largest = np.abs(now).max(axis=axes, initial=0.0)
    return ~(largest <= DIVERGED * np.maximum(1.0, np.abs(start).max(axis=axes, initial=0.0)))  # type: ignore[no-any-return]


def _weighted(use: Use, weights: np.ndarray) -> np.ndarray:
    """Σ_b weight_b L_b ⊗ R_b, (S, n, n'), or Σ_b weight_b L_b, (S, n)."""
    if isinstance(use, Shared):
        return use.summed(weights)
    left, right = use
    left = left * weights
    return left.sum(axis=1) if right is None else np.swapaxes(left, 1, 2) @ right
