"""The convolutional network: h^1 = U ∗ x + b¹, h^l = W^l ∗ φ(h^{l−1}) + b^l, averaged over positions or flattened.

Inputs are signals (N, L, C), images (N, H, W, C) or volumes; σ_w is the scale of a whole window.
"""

from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.programs import chosen, per_layer


@tp.network
def cnn(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.relu, kernel: Any = 3, padding: str = "same",
        pool: str = "global", sigma_w: Any = 1, sigma_b: Any = 0, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` convolutions; ``pool`` is ``"global"`` or ``"flatten"``."""
    w, b = per_layer("sigma_w", sigma_w, depth), per_layer("sigma_b", sigma_b, depth)
    z: Any = x
    for l in range(1, depth + 1):
        h = net.conv("U" if l == 1 else ("W", l), z, kernel, w[l - 1], padding=padding)
        z = phi(h + net.bias(("b", l), std=b[l - 1]))
    if chosen("pool", pool, "global", "flatten") == "flatten":
        return net.flatten("V", z, std=sigma_v)
    return net.readout("V", net.global_pool(z), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images of 4×4 pixels with 2 channels."""
    return rng.standard_normal((count, 4, 4, 2))
