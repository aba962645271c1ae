"""The residual MLP: x^l = x^{l−1} + α W^l φ(x^{l−1}), x¹ = U ξ, f = V·φ(x^L)/√n."""

from typing import Any

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def residual_mlp(net: tp.Net, x: tp.Datum, *, depth: int = 3, phi: Any = tp.relu, sigma_w: Any = 1, sigma_v: Any = 1,
                 alpha: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` layers, all but the first residual, with branch scale ``alpha``."""
    w = per_layer("sigma_w", sigma_w, depth)
    h = net.embed("U", x, std=w[0])
    for l in range(2, depth + 1):
        h = h + alpha * net.dense(("W", l), phi(h), std=w[l - 1])
    return net.readout("V", phi(h), std=sigma_v)
