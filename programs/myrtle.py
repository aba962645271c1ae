"""A deep convolutional network with average pooling, after Myrtle (Shankar et al. 2020).

Every block has so many 3×3 convolutions and then averages over 2×2 windows; what is left is averaged over positions.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

import tensorprog as tp


@tp.network
def myrtle(net: tp.Net, x: tp.Datum, *, blocks: Sequence[int] = (1, 1, 1), phi: Any = tp.relu, sigma_w: Any = 1,
           sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``blocks`` are the numbers of convolutions; Myrtle-5, 7 and 10 have (2, 1, 1), (2, 2, 2) and (3, 3, 3)."""
    z: Any = x
    for i, count in enumerate(blocks, start=1):
        for l in range(1, count + 1):
            z = phi(net.conv(("W", i, l), z, kernel=3, std=sigma_w))
        z = net.avg_pool(z, kernel=2) if i < len(blocks) else z
    return net.readout("V", net.global_pool(z), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Images of 4×4 pixels with 2 channels."""
    return rng.standard_normal((count, 4, 4, 2))
