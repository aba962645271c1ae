"""W and Wᵀ in one forward pass: f = V·φ(Wᵀ φ(W U ξ))/√n, an autoencoder with tied weights.

Z of Wᵀφ(Wx) is a Gaussian plus σ_w² E[φ'(Ẑ^{Wx})] Z^x: treating Wᵀ as independent of W would lose that.
"""

from typing import Any

import tensorprog as tp


@tp.network
def tied_autoencoder(net: tp.Net, x: tp.Datum, *, phi: Any = tp.erf, sigma_w: Any = 1, sigma_u: Any = 1,
                     sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """One encoding layer and its transpose."""
    W = net.weight("W", std=sigma_w)
    code = phi(W @ net.embed("U", x, std=sigma_u))
    return net.readout("V", phi(W.T @ code), std=sigma_v)
