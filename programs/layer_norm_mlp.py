"""The MLP with layer norm before every nonlinearity: h^l = W^l φ(LN(h^{l−1})) + b^l (Ba et al. 2016)."""

from typing import Any

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def layer_norm_mlp(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.relu, sigma_w: Any = 1, sigma_b: Any = 0,
                   sigma_v: Any = 1, eps: Any = 0) -> tp.Output:  # fmt: skip
    """``depth`` nonlinear layers; ``eps`` is added to the variance that h is divided by."""
    w, b = per_layer("sigma_w", sigma_w, depth), per_layer("sigma_b", sigma_b, depth)
    h: Any = net.embed("U", x, std=w[0]) + net.bias("b1", std=b[0])
    for l in range(2, depth + 1):
        z = phi(net.layer_norm(h, eps))
        h = net.dense(("W", l), z, std=w[l - 1]) + net.bias(("b", l), std=b[l - 1])
    return net.readout("V", phi(net.layer_norm(h, eps)), std=sigma_v)
