"""The gated recurrent unit (Cho et al. 2014) as ``torch.nn.GRU`` has it, for sequences of any length.

h_t = (1 − z) n + z h_{t−1} with gates r, z = σ(W h_{t−1} + U x_t + b) and n = tanh(U x_t + b + r (W h_{t−1} + c)), read
out at the last time.  With ``tied=False``, weights of its own for every time, and ``reset="before"`` kernels are exact.
"""

from typing import Any, Literal

import tensorprog as tp


@tp.network
def gru(net: tp.Net, x: tuple[tp.Datum, ...], *, layers: int = 1, sigma_w: Any = 1, sigma_u: Any = 1, sigma_b: Any = 0,
        sigma_v: Any = 1, tied: bool = True, reset: Literal["after", "before"] = "after") -> tp.Output:  # fmt: skip
    """``layers`` stacked layers, each reading the states of the one below."""
    states: Any = x
    for l in range(1, layers + 1):
        states = net.gru(("G", l), states, sigma_w, sigma_u, sigma_b, tied, reset)
    return net.readout("V", states[-1], std=sigma_v)
