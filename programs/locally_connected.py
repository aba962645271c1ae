"""The locally connected network: a convolutional one whose positions have weights of their own.

Flattened, its NNGP kernel is that of the convolutional network, and so is its NTK: positions p ≠ q, which tell the two
apart, are read by pooling only.
"""

from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.programs import chosen, per_layer


@tp.network
def locally_connected(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.relu, kernel: Any = 3,
                      pool: str = "global", sigma_w: Any = 1, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` layers; ``pool`` is ``"global"`` or ``"flatten"``."""
    w = per_layer("sigma_w", sigma_w, depth)
    z: Any = x
    for l in range(1, depth + 1):
        z = phi(net.local("U" if l == 1 else ("W", l), z, kernel, w[l - 1]))
    if chosen("pool", pool, "global", "flatten") == "flatten":
        return net.flatten("V", z, std=sigma_v)
    return net.readout("V", net.global_pool(z), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images of 3×3 pixels with 2 channels."""
    return rng.standard_normal((count, 3, 3, 2))
