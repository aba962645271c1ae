"""A convolutional network that weighs its channels by what they hold (Hu et al. 2018, squeeze and excitation).

z = φ(W ∗ z), then z ← e ⊙ z with e = σ(E φ(S z̄)), where z̄ is the average of z over positions.
"""

from typing import Any

import numpy as np

import tensorprog as tp


@tp.network
def squeeze_excite(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.relu, kernel: Any = 3, sigma_w: Any = 1,
                   sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` convolutions with squeeze and excitation."""
    z: Any = x
    for l in range(1, depth + 1):
        z = phi(net.conv("U" if l == 1 else ("W", l), z, kernel, sigma_w))
        z = net.squeeze_excite(("S", l), z, phi, sigma_w)
    return net.readout("V", net.global_pool(z), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Signals of 4 positions with 2 channels."""
    return rng.standard_normal((count, 4, 2))
