"""An MLP of gated linear units (Dauphin et al. 2017, Shazeer 2020): z^l = φ(G^l z^{l−1}) ⊙ H^l z^{l−1}, f = V·z^L/√n.

φ = ``tp.sigmoid`` is GLU, ``tp.silu`` SwiGLU, ``tp.relu`` ReGLU, ``tp.gelu`` GeGLU.
"""

from typing import Any

import tensorprog as tp


@tp.network
def glu_mlp(net: tp.Net, x: tp.Datum, *, depth: int = 2, phi: Any = tp.silu, sigma_w: Any = 1, sigma_g: Any = 1,
            sigma_b: Any = 0, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` layers; sigma_g is the scale of the weights of gates, sigma_b that of all biases."""
    z: Any = x
    for l in range(1, depth + 1):
        z = net.glu(("W", l), z, phi, sigma_w, sigma_g, sigma_b)
    return net.readout("V", z, std=sigma_v)
