"""Networks of batches at random: steps that layers of the language write, and the same by NumPy on drawn weights.

A network is a list of steps.  ``written`` writes them in the language, ``computed`` multiplies arrays.
"""

from __future__ import annotations

from typing import Any

import numpy as np

import tensorprog as tp

COVERS = {"net.batch_norm", "net.batch_norm(eps)"}
SAMPLED = ["tanh", "erf", "gelu"]  # beside those that have integrals
PHI = ["relu", "relu", "abs", "identity", *SAMPLED]
VALUES = {
    "relu": lambda x: np.maximum(x, 0),
    "abs": np.abs,
    "identity": lambda x: x,
    "tanh": np.tanh,
}
Step = tuple[Any, ...]


def random_steps(seed: int, exact: bool = False) -> list[Step]:
    """One to three blocks: normalised, a function, a dense layer, some with biases and some on a residual stream."""
    rng = np.random.default_rng(seed)
    steps: list[Step] = [("embed", "U", float(rng.choice([0.5, 1.0, 2.0])))]
    names = [name for name in PHI if not (exact and name in SAMPLED)]
    for layer in range(rng.integers(0, 3)):
        if rng.random() < 0.5:
            steps.append(("bias", f"b{layer}", 0.4))
        eps = float(rng.choice([0.0, 0.0, 0.2]))
        name, std = str(rng.choice(names)), float(rng.choice([0.7, 1.4]))
        steps.append(("residual" if rng.random() < 0.4 else "block", f"W{layer}", eps, name, std))
    return [*steps, ("last", "V", float(rng.choice([0.0, 0.1])), str(rng.choice(names)), 1.3)]


def written(steps: list[Step]) -> tp.Network:
    """The network in the language."""

    @tp.network
    def network(net, x):
        h: Any = x
        for kind, key, *given in steps:
            if kind == "embed":
                h = net.embed(key, h, std=given[0])
            elif kind == "bias":
                h = h + net.bias(key, std=given[0])
            else:
                eps, name, std = given
                z = tp.NONLINEARITIES[name](net.batch_norm(h, eps) if eps else net.batch_norm(h))
                if kind == "last":
                    return net.readout(key, z, std=std)
                h = net.dense(key, z, std=std) + (h if kind == "residual" else 0)
        raise AssertionError("a network ends with its readout")

    return network()


def computed(steps: list[Step], w: dict[str, np.ndarray], x: np.ndarray) -> np.ndarray:
    """The outputs of the members of one batch (B, d), with the weights of a draw, N(0, 1)."""
    h = x
    for kind, key, *given in steps:
        if kind == "embed":
            h = given[0] * h @ w[key].T / np.sqrt(h.shape[1])
        elif kind == "bias":
            h = h + given[0] * w[key]
        else:
            eps, name, std = given
            z = VALUES[name]((h - h.mean(axis=0)) / np.sqrt(h.var(axis=0) + eps))
            layer = std * z @ w[key].T / np.sqrt(h.shape[1])
            if kind == "last":
                return layer
            h = layer + (h if kind == "residual" else 0)
    raise AssertionError("a network ends with its readout")
