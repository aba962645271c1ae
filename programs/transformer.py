"""The pre-norm transformer (Vaswani et al. 2017, Xiong et al. 2020), averaged over tokens.

h ← h + Att(LN(h)), h ← h + M φ(N LN(h)); with K = Q scores divided by n converge to σ_q² E x[p] x[q], and attention
weighs tokens by how alike they are.  With scale="1/sqrt(n)", tied=False, heads="infinite" kernels average over scores.
"""

from typing import Any

import numpy as np

import tensorprog as tp


@tp.network
def transformer(net: tp.Net, x: tp.Datum, *, depth: int = 1, heads: Any = 1, phi: Any = tp.relu, tied: bool = True,
                causal: bool = False, scale: Any = "1/n", sigma_w: Any = 1, sigma_q: Any = 1, sigma_v: Any = 1,
                eps: Any = 0) -> tp.Output:  # fmt: skip
    """``depth`` blocks of attention and of an MLP, on a residual stream."""
    h: Any = net.embed("U", x)
    for l in range(1, depth + 1):
        h = h + net.attention(("A", l), net.layer_norm(h, eps), heads, scale, tied, causal, std_q=sigma_q)
        h = h + net.dense(("M", l), phi(net.dense(("N", l), net.layer_norm(h, eps), sigma_w)), sigma_w)
    return net.readout("V", net.global_pool(net.layer_norm(h, eps)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> np.ndarray:
    """Three tokens with 4 features."""
    return rng.standard_normal((count, 3, 4))
