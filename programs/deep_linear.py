"""The deep linear network f = V·W^L ... W² U ξ/√n: its kernels are polynomials, and depth only scales them."""

from typing import Any

import tensorprog as tp


@tp.network
def deep_linear(net: Any, x: Any, *, depth: int = 3, sigma_w: Any = 1, sigma_v: Any = 1) -> Any:
    """``depth`` linear layers without nonlinearity."""
    h = net.embed("U", x, std=sigma_w)
    for l in range(2, depth + 1):
        h = net.dense(("W", l), h, std=sigma_w)
    return net.readout("V", h, std=sigma_v)
