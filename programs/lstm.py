"""Long short-term memory (Hochreiter and Schmidhuber 1997) as ``torch.nn.LSTM`` has it, for sequences of any length.

c_t = f c_{t−1} + i g, h_t = o φ(c_t) with i, f, o = σ(W h_{t−1} + U x_t + b) and g = tanh(W h_{t−1} + U x_t + b), read
out at the last time.  With ``tied=False``, weights of its own for each time, and φ = ``tp.identity`` kernels are exact.
"""

from typing import Any

import tensorprog as tp


@tp.network
def lstm(net: tp.Net, x: tuple[tp.Datum, ...], *, layers: int = 1, phi: Any = tp.tanh, sigma_w: Any = 1,
         sigma_u: Any = 1, sigma_b: Any = 0, sigma_v: Any = 1, tied: bool = True) -> tp.Output:  # fmt: skip
    """``layers`` stacked layers, each reading the states of the one below."""
    states: Any = x
    for l in range(1, layers + 1):
        states = net.lstm(("L", l), states, sigma_w, sigma_u, sigma_b, tied, phi)
    return net.readout("V", states[-1], std=sigma_v)
