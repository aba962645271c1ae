"""The MLP with batch norm before every nonlinearity: h^l = W^l φ(BN(h^{l−1})) + b^l (Ioffe and Szegedy 2015).

An input is a batch, and every member has an output that depends on all of them.
"""

from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def batchnorm_mlp(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.relu, sigma_w: Any = 1, sigma_b: Any = 0,
                  sigma_v: Any = 1, eps: Any = 0) -> tp.Output:  # fmt: skip
    """``depth`` nonlinear layers; ``eps`` is added to the variance that h is divided by."""
    w, b = per_layer("sigma_w", sigma_w, depth), per_layer("sigma_b", sigma_b, depth)
    h: Any = net.embed("U", x, std=w[0]) + net.bias("b1", std=b[0])
    for l in range(2, depth + 1):
        h = net.dense(("W", l), phi(net.batch_norm(h, eps)), std=w[l - 1]) + net.bias(("b", l), std=b[l - 1])
    return net.readout("V", phi(net.batch_norm(h, eps)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Batches of eight members with 5 features."""
    return rng.standard_normal((count, 8, 5))
