"""The wide residual network (Zagoruyko and Komodakis 2016) without batch norm: stages of blocks, each of half the size.

A block is s(h) + α W² ∗ φ(W¹ ∗ φ(h)), with s the identity, or a convolution of one position where a stage begins;
α = 1/√(number of blocks) keeps depth stable.
"""

from typing import Any

import numpy as np
import sympy as sp

import tensorprog as tp


@tp.network
def wide_resnet(net: tp.Net, x: tp.Datum, *, stages: int = 2, blocks: int = 1, phi: Any = tp.relu, sigma_w: Any = 1,
                sigma_v: Any = 1, alpha: Any = None) -> tp.Output:  # fmt: skip
    """``stages`` of ``blocks``: 3 of them with 4 blocks each are WRN-28."""
    alpha = 1 / sp.sqrt(stages * blocks) if alpha is None else alpha
    h = net.conv("U", x, 3, sigma_w)
    for s in range(1, stages + 1):
        for b in range(1, blocks + 1):
            stride = 2 if s > 1 and b == 1 else 1
            z = phi(net.conv(("W", s, b, 1), phi(h), 3, sigma_w, stride=stride))
            shortcut = net.conv(("S", s), h, 1, stride=stride) if stride > 1 else h
            h = shortcut + alpha * net.conv(("W", s, b, 2), z, 3, sigma_w)
    return net.readout("V", net.global_pool(phi(h)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images of 4×4 pixels with 2 channels."""
    return rng.standard_normal((count, 4, 4, 2))
