"""The network whose gradient independence fails: f = Σ_α x_α/√n, √n times the mean coordinate.

The backward pass starts from a constant vector instead of a random one, so Wᵀdh is correlated with the
forward pass: its Ż is σ_w² E[φ''(h)] φ(h^{l−1}), which the gradient independence assumption would drop.

Unless E φ(h^L) = 0, f itself grows like √n and has no limit.  The NTK has one, and tells how f changes as long as the
derivative of the loss stays bounded: under squared loss only where E φ(h^L) = 0, or where f_0 is subtracted.
"""

from typing import Any

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def mean_readout(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.relu, sigma_w: Any = 1) -> tp.Output:
    """An MLP of ``depth`` nonlinear layers read out by its mean coordinate."""
    w = per_layer("sigma_w", sigma_w, depth)
    h = net.embed("U", x, std=w[0])
    for l in range(2, depth + 1):
        h = net.dense(("W", l), phi(h), std=w[l - 1])
    return net.average(phi(h))
