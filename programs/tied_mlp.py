"""The weight-tied MLP: one matrix in every layer, h^l = W φ(h^{l−1}) + b, h¹ = U ξ + b, f = V·φ(h^L)/√n.

It is an RNN that sees its input once.  Its NTK is that of the MLP with independent layers.
"""

from typing import Any

import tensorprog as tp


@tp.network
def tied_mlp(net: tp.Net, x: tp.Datum, *, depth: int = 3, phi: Any = tp.relu, sigma_w: Any = 1, sigma_u: Any = 1,
             sigma_b: Any = 0, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` nonlinear layers that share the matrix W and the bias b."""
    b = net.bias("b", std=sigma_b)
    h = net.embed("U", x, std=sigma_u) + b
    for _ in range(depth - 1):
        h = net.dense("W", phi(h), std=sigma_w) + b
    return net.readout("V", phi(h), std=sigma_v)
