"""The multilayer perceptron: depth hidden layers, with or without biases.

h¹ = U ξ + b¹, h^l = W^l φ(h^{l−1}) + b^l, f = V·φ(h^L)/√n  (Jacot et al. 2018; NTK parametrization).
"""

from typing import Any

import sympy as sp

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def mlp(net: tp.Net, x: tp.Datum, *, depth: int = 3, phi: Any = tp.relu, sigma_w: Any = sp.sqrt(2), sigma_b: Any = 0,
        sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` nonlinear layers; sigma_w and sigma_b are numbers or one per layer."""
    w, b = per_layer("sigma_w", sigma_w, depth), per_layer("sigma_b", sigma_b, depth)
    h = net.embed("U", x, std=w[0]) + net.bias(("b", 1), std=b[0])
    for l in range(2, depth + 1):
        h = net.dense(("W", l), phi(h), std=w[l - 1]) + net.bias(("b", l), std=b[l - 1])
    return net.readout("V", phi(h), std=sigma_v)
