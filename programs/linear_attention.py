"""Linear attention (Katharopoulos et al. 2020): tokens weigh each other by ⟨φ(Q x[p]), φ(K x[q])⟩ without exponentials.

y[p] = Σ_q s[p,q] V x[q] / Σ_q s[p,q] with s[p,q] = ⟨φ(Q x[p]), φ(K x[q])⟩/n, averaged over tokens.
"""

from typing import Any

import numpy as np

import tensorprog as tp


@tp.network
def linear_attention(net: tp.Net, x: tp.Datum, *, depth: int = 1, phi: Any = tp.relu, tied: bool = True,
                     causal: bool = False, sigma_q: Any = 1, sigma_w: Any = 1,
                     sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` residual layers; ``tied`` is K = Q."""
    h: Any = net.embed("U", x)
    for l in range(1, depth + 1):
        z = net.layer_norm(h)
        q = net.dense(("Q", l), z, sigma_q)
        k = q if tied else net.dense(("K", l), z, sigma_q)
        a = net.normalised(net.scores(phi(q), phi(k)), causal)
        h = h + net.dense(("O", l), net.weighted(a, net.dense(("V", l), z, sigma_w)), sigma_w)
    return net.readout("R", net.global_pool(phi(h)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Three tokens with 4 features."""
    return rng.standard_normal((count, 3, 4))
