"""The graph convolutional network (Kipf and Welling 2017): H^l = Â φ(H^{l−1}) W^l, averaged over nodes.

Inputs are {"nodes": features of the nodes, (P, C) each, "A": adjacency or weights of edges, (P, P) each, dense or
scipy.sparse}, of graphs of any sizes.  Â = D^(−1/2) (A + I) D^(−1/2) unless ``normalise`` or ``loops`` say otherwise.
"""

from typing import Any

import numpy as np

import tensorprog as tp


@tp.network
def gcn(net: tp.Net, x: tp.Named, *, depth: int = 2, phi: Any = tp.relu, normalise: Any = "symmetric", loops: float = 1,
        sigma_w: Any = 1, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``depth`` layers of one aggregation each."""
    z, A = net.embed("U", x["nodes"], std=sigma_w), x["A"]
    h = net.aggregate(z, A, normalise, loops)
    for l in range(2, depth + 1):
        h = net.aggregate(net.dense(("W", l), phi(h), std=sigma_w), A, normalise, loops)
    return net.readout("V", net.global_pool(phi(h)), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> dict[str, list[np.ndarray]]:
    """Random graphs of 4 and 5 nodes with 3 features."""
    edges = [np.triu(rng.random((4 + i % 2, 4 + i % 2)) < 0.5, 1).astype(float) for i in range(count)]
    return {"nodes": [rng.standard_normal((len(a), 3)) for a in edges], "A": [a + a.T for a in edges]}
