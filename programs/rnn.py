"""The recurrent network of the RNTK paper (Alemohammad et al. 2021), for sequences of any length.

h^{l,t} = W^l s^{l,t−1} + U^l s^{l−1,t} + b^l, s^{l,t} = φ(h^{l,t}), f = V·s^{L,T}/√n, with s^{0,t} = x_t and
s^{l,0} ~ N(0, σ_h²).

In the gallery h is what φ is applied to; the paper writes h for the state s, hence the name σ_h.
"""

from typing import Any

import tensorprog as tp
from tensorprog.programs import check_tied, per_layer


@tp.network
def rnn(net: tp.Net, x: tuple[tp.Datum, ...], *, layers: int = 1, phi: Any = tp.relu, sigma_w: Any = 1,
        sigma_u: Any = 1, sigma_b: Any = 0, sigma_h: Any = 0, sigma_v: Any = 1,
        tied: bool = True) -> tp.Output:  # fmt: skip
    """``layers`` stacked recurrent layers; ``tied=False`` gives every time step its own weights."""
    check_tied(tied)
    w, u, b, s = (per_layer(n, value, layers) for n, value in
                  [("sigma_w", sigma_w), ("sigma_u", sigma_u), ("sigma_b", sigma_b), ("sigma_h", sigma_h)])  # fmt: skip
    state = {l: net.state(("h", l), std=s[l - 1]) for l in range(1, layers + 1) if s[l - 1] != 0}
    for t, x_t in enumerate(x, start=1):
        below = x_t
        for l in range(1, layers + 1):
            index = (() if layers == 1 else (l,)) + (() if tied else (t,))
            layer = net.embed if l == 1 else net.dense
            h = layer(("U", *index), below, std=u[l - 1]) + net.bias(("b", *index), std=b[l - 1])
            if l in state:
                h = net.dense(("W", *index), state[l], std=w[l - 1]) + h
            below = state[l] = phi(h)
    return net.readout("V", below, std=sigma_v)
