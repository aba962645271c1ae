"""What a training program needs of a parametrization: the powers of n by which parameters start and move."""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from tensorprog.dsl.trace import Trace
from tensorprog.errors import AssumptionError, ProgramError
from tensorprog.passes.parametrization import HALF, Classification, Layer, Parametrization, check_parametrization


@dataclass(frozen=True)
class Scaling:
    """The powers of n in a training run that is written with O(1) vectors; p stands for the factor n^(−p).

    Attributes:
        theta: changes x_t − x_0 are θ δx_t with θ = n^(−theta); 0 where they are kept whole.
        update: of every trained parameter.
        initial: what starts smaller than in the NTK parametrization's network: readouts, output biases.
        output: of the whole output.
        r: features move by n^(−r).
    """

    theta: sp.Rational
    update: dict[str, sp.Rational]
    initial: dict[str, sp.Rational]
    output: sp.Rational
    r: sp.Rational

    @property
    def keeps_changes(self) -> bool:
        """Whether vectors are x_t and not x_0 + θ δx_t, as r = 0 needs: the readout starts at 1/n or below."""
        return bool(self.theta == 0)

    @property
    def error(self) -> sp.Rational:
        """The p of |finite width − limit| ~ n^(−p): 1/2, unless something that vanishes in the limit does so slower.

        That is an update of a layer, or in the kernel regime the change of f of third order, n^(1 − A − 3r): the
        second is odd in the readout.
        """
        slow = [p for p in (self.theta and 3 * self.r - self.theta, *self.update.values()) if p > 0]
        return min([HALF, *slow])


def scaling(trace: Trace, parametrization: Parametrization | None) -> Scaling:
    """The powers of n for a network's parameters, by name.

    With A = A_{L+1} < 1, θ = n^(A−1), and the powers are those by which updates are smaller than in the kernel
    regime with r = 1 − A; from A = 1 on, dx = n^G ∂f/∂x and the powers are r_l.

    Raises:
        AssumptionError: the parametrization is unstable or trivial, with the layer and the exponent.
    """
    if parametrization is None:
        return Scaling(HALF, dict.fromkeys(trace.trainable, sp.S.Zero), {}, sp.S.Zero, HALF)
    chosen = parametrization
    check_parametrization(chosen)
    layers = assign(trace, chosen)
    r = _check(trace, chosen).r
    last = chosen.layers(sum(p.kind == "matrix" for p in trace.parameters.values()))[-1]
    theta = max(sp.S.Zero, 1 - last.init)
    gradient = min(last.init, last.rate)
    offset = {
        "input": gradient - theta,
        "hidden": gradient - 1 - theta,
        "readout": -1 if theta else -gradient,
        "output bias": 0,
    }
    update = {name: x.rate + offset[x.role] for name, x in layers.items()}
    start = HALF if theta else gradient
    offset_initial = {"readout": start, "output bias": sp.S.Zero}
    initial = {name: x.init - offset_initial[x.role] for name, x in layers.items() if x.role in offset_initial}
    return Scaling(theta, update, initial, sp.S.Zero if theta else gradient - 1, r)


def assign(trace: Trace, parametrization: Parametrization) -> dict[str, Layer]:
    """The layer that each trainable parameter of a network is, by name.

    Raises:
        ProgramError: an output that averages coordinates, or another number of hidden matrices than of exponents.
    """
    matrices = [name for name, p in trace.parameters.items() if p.kind == "matrix"]
    layers = parametrization.layers(len(matrices))
    result = {}
    for name, p in trace.parameters.items():
        number = {"embedding": 0, "bias": 0, "readout": -1}.get(p.kind)
        result[name] = layers[1 + matrices.index(name) if number is None else number]
    a, b = parametrization.output_bias
    for name, kind in trace.trainable.items():
        if kind == "output bias":
            result[name] = Layer(len(layers), kind, a, b, parametrization.rates[-1])
    fixed = not all(r.trained for heads in trace.heads for f in heads for r in f.readouts)
    if fixed and layers[-1].init != HALF:
        raise ProgramError(
            f"{parametrization.name} needs a readout that is trained; net.average, and net.readout of an input, have "
            "the fixed weights 1/√n, which is for readouts of that size only: use net.readout of a vector"
        )
    return result


def _check(trace: Trace, parametrization: Parametrization) -> Classification:
    verdict = parametrization.classify(sum(p.kind == "matrix" for p in trace.parameters.values()))
    if verdict.regime in ("unstable", "trivial"):
        advice = "see its .text(); tp.mup() learns features, tp.ntk_parametrization() is a kernel regime"
        raise AssumptionError("\n  ".join([f"{parametrization.name} is {verdict.regime}:", *verdict.reasons, advice]))
    return verdict
