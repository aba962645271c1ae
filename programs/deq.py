"""The deep equilibrium network (Bai et al. 2019), iterated to a depth: z ← φ(W z + U ξ + b) from 0, f = V·z/√n.

One matrix in every step and the input in each of them; with σ_w below that where φ expands, z converges and so do its
kernels: the kernels at equilibrium are ``recursion().fixed_point``.
"""

from typing import Any

import tensorprog as tp


@tp.network
def deq(net: tp.Net, x: tp.Datum, *, depth: int = 5, phi: Any = tp.tanh, sigma_w: Any = 1, sigma_u: Any = 1,
        sigma_b: Any = 0, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` steps."""
    given = net.embed("U", x, std=sigma_u) + net.bias("b", std=sigma_b)
    z = phi(given)
    for _ in range(depth - 1):
        z = phi(net.dense("W", z, std=sigma_w) + given)
    return net.readout("V", z, std=sigma_v)
