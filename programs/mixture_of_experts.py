"""A soft mixture of experts (Jordan and Jacobs 1994): a tree of gates whose leaves are MLPs, m = σ(g) m_1 + σ(−g) m_2.

Gates g = G h are vectors, so that every coordinate chooses experts by itself.  A single gate ⟨w, h⟩/n for all of them
is 0 in the limit, where all experts weigh the same.
"""

from typing import Any

import tensorprog as tp


@tp.network
def mixture_of_experts(net: tp.Net, x: tp.Datum, *, levels: int = 1, phi: Any = tp.relu, sigma_w: Any = 1,
                       sigma_g: Any = 1, sigma_v: Any = 1) -> tp.Output:  # fmt: skip
    """2^``levels`` experts; sigma_g is the scale of the weights of gates."""
    h = net.embed("U", x)

    def mixed(level: int, node: int) -> Any:
        if level == levels:
            return net.dense(("M", node), phi(net.dense(("N", node), h, sigma_w)), sigma_w)
        g = net.dense(("G", node), h, sigma_g)
        return tp.sigmoid(g) * mixed(level + 1, 2 * node) + tp.sigmoid(-g) * mixed(level + 1, 2 * node + 1)

    return net.readout("V", phi(net.dense("O", mixed(0, 1), sigma_w)), std=sigma_v)
