"""An MLP over positions in the manner of MLP-Mixer (Tolstikhin et al. 2021): layers that mix positions, then channels.

A mixing of positions reads all of them with matrices W_{p,q} of their own, (α/√P) Σ_q W_{p,q} φ(h_q); the paper's are
numbers that all channels share, which have no limit at infinite width.
"""

from typing import Any

import numpy as np

import tensorprog as tp


@tp.network
def mixer(net: tp.Net, x: tp.Datum, *, blocks: int = 1, positions: Any = 4, phi: Any = tp.relu, sigma_w: Any = 1,
          sigma_v: Any = 1, alpha: Any = 1) -> tp.Output:  # fmt: skip
    """``blocks`` pairs of residual layers, for inputs of so many ``positions``."""
    h = net.embed("U", x, std=sigma_w)
    for l in range(1, blocks + 1):
        h = h + alpha * net.local(("P", l), phi(h), positions, sigma_w, padding="circular")
        h = h + alpha * net.dense(("C", l), phi(h), sigma_w)
    return net.readout("V", net.global_pool(phi(h)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Four patches with 3 channels."""
    return rng.standard_normal((count, 4, 3))
