"""The deep linear network f = V·W^L ... W² U ξ/√n: its kernels are polynomials, and depth only scales them."""

from typing import Any

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def deep_linear(net: tp.Net, x: tp.Datum, *, depth: int = 3, sigma_w: Any = 1, sigma_v: Any = 1) -> tp.Output:
    """``depth`` linear layers without nonlinearity."""
    w = per_layer("sigma_w", sigma_w, depth)
    h = net.embed("U", x, std=w[0])
    for l in range(2, depth + 1):
        h = net.dense(("W", l), h, std=w[l - 1])
    return net.readout("V", h, std=sigma_v)
