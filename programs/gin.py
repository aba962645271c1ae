"""The graph isomorphism network (Xu et al. 2019): h ← MLP((1 + ε) h_i + Σ_p A_ip h_p), read as the mean over nodes.

Inputs are {"nodes": (P, C) each, "A": (P, P) each}; with ``pool="node"`` also "node": weights (P,) of the nodes that
are read, such as 1 at one node and 0 elsewhere, for an output at a node.
"""

from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.programs import chosen


@tp.network
def gin(net: tp.Net, x: tp.Named, *, depth: int = 2, phi: Any = tp.relu, epsilon: Any = 0, pool: str = "global",
        sigma_w: Any = 1, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` rounds, each with two dense layers."""
    z: Any = None
    for l in range(1, depth + 1):
        h = net.embed("U", x["nodes"], std=sigma_w) if l == 1 else net.dense(("W", l, 1), z, std=sigma_w)
        h = (1 + epsilon) * h + net.aggregate(h, x["A"])
        z = phi(net.dense(("W", l, 2), phi(h), std=sigma_w))
    if chosen("pool", pool, "global", "node") == "node":
        return net.readout("V", net.weighted_pool(z, x["node"]), std=sigma_v)
    return net.readout("V", net.global_pool(z), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> dict[str, list[np.ndarray]]:
    """Random graphs of 4 and 5 nodes with 3 features."""
    edges = [np.triu(rng.random((4 + i % 2, 4 + i % 2)) < 0.5, 1).astype(float) for i in range(count)]
    return {"nodes": [rng.standard_normal((len(a), 3)) for a in edges], "A": [a + a.T for a in edges]}
