"""Two recurrent networks that read a sequence forth and back (Schuster and Paliwal 1997), read out together.

f = V·(s_T + s'_1)/√n, or of the average over all times of s_t + s'_t.
"""

from typing import Any

import sympy as sp

import tensorprog as tp
from tensorprog.programs import chosen


@tp.network
def bidirectional_rnn(net: tp.Net, x: tuple[tp.Datum, ...], *, phi: Any = tp.relu, pool: str = "last",
                      sigma_w: Any = 1, sigma_u: Any = 1, sigma_b: Any = 0, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """``pool`` is ``"last"``, of what either network read last, or ``"mean"`` over times."""
    forth = net.rnn("F", x, phi, sigma_w, sigma_u, sigma_b)
    back = net.rnn("B", x, phi, sigma_w, sigma_u, sigma_b, reverse=True)
    if chosen("pool", pool, "last", "mean") == "last":
        return net.readout("V", forth[-1] + back[0], std=sigma_v)
    return net.readout("V", sum(forth[1:] + back, forth[0]) * sp.Rational(1, len(x)), std=sigma_v)
