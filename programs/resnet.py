"""The residual convolutional network: x^l = x^{l−1} + α W^l ∗ φ(x^{l−1}), with α = 1/√L, which keeps depth stable.

With α = 1 the variance of a position is multiplied at every layer; with 1/√L, for L branches, it stays of order 1.
"""

from typing import Any

import numpy as np
import sympy as sp

import tensorprog as tp


@tp.network
def resnet(net: tp.Net, x: tp.Datum, *, depth: int = 3, phi: Any = tp.relu, kernel: Any = 3, sigma_w: Any = 1,
           sigma_v: Any = 1, alpha: Any = None) -> tp.Output:  # fmt: skip
    """One convolution and ``depth`` − 1 residual ones; ``alpha`` is 1/√(depth − 1) unless it is given."""
    if alpha is None:
        alpha = 1 / sp.sqrt(max(1, depth - 1))
    h = net.conv("U", x, kernel, sigma_w)
    for l in range(2, depth + 1):
        h = h + alpha * net.conv(("W", l), phi(h), kernel, sigma_w)
    return net.readout("V", net.global_pool(phi(h)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images of 4×4 pixels with 2 channels."""
    return rng.standard_normal((count, 4, 4, 2))
