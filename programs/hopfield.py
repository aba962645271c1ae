"""A Hopfield network (Ramsauer et al. 2021) whose patterns are the rows of a random matrix: h ← h + α Wᵀ φ(W h).

With φ = Φ' a step goes along the gradient of Σ Φ(W h); W and Wᵀ stand in one forward pass, so that Ż is not 0.
"""

from typing import Any

import tensorprog as tp


@tp.network
def hopfield(net: tp.Net, x: tp.Datum, *, steps: int = 1, phi: Any = tp.relu, alpha: Any = 1, sigma_w: Any = 1,
             sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``steps`` retrievals with step size ``alpha``."""
    W = net.weight("W", std=sigma_w)
    h: Any = net.embed("U", x)
    for _ in range(steps):
        h = h + alpha * (W.T @ phi(W @ h))
    return net.readout("V", phi(h), std=sigma_v)
