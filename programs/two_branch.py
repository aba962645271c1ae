"""The two-branch network of operator learning (DeepONet, Lu et al. 2021): f(u, y) = Σ_α v_α b_α(u) t_α(y)/√n.

Inputs are {"u": a function at d points, (N, d), "y": where its image is asked for, (N, d')}.
"""

from typing import Any

import numpy as np

import tensorprog as tp
from tensorprog.programs import per_layer


@tp.network
def two_branch(net: tp.Net, x: tp.Named, *, depth: int = 2, phi: Any = tp.relu, sigma_w: Any = 1,
               sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """Two MLPs of ``depth`` layers, the branch net of u and the trunk net of y, multiplied by coordinates."""
    w = per_layer("sigma_w", sigma_w, depth)
    ends: list[Any] = []
    for side in ("u", "y"):
        h = net.embed(f"U_{side}", x[side], std=w[0])
        for l in range(2, depth + 1):
            h = net.dense((f"W_{side}", l), phi(h), std=w[l - 1])
        ends.append(h)
    return net.readout("V", ends[0] * phi(ends[1]), std=sigma_v)


def inputs(rng: np.random.Generator, count: int) -> dict[str, np.ndarray]:
    """Functions at 5 points and points of 2 coordinates."""
    return {"u": rng.standard_normal((count, 5)), "y": rng.standard_normal((count, 2))}
