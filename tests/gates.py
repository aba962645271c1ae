"""Gated recurrent networks, written in the language."""

import tensorprog as tp


@tp.network
def lstm(net, x):
    state = cell = None
    for x_t in x:
        gates = {}
        for k in "ifog":
            h = net.embed("U" + k, x_t) + net.bias("b" + k, std=0.5)
            gates[k] = h if state is None else h + net.dense("W" + k, state)
        new = tp.sigmoid(gates["i"]) * tp.tanh(gates["g"])
        cell = new if cell is None else tp.sigmoid(gates["f"]) * cell + new
        state = tp.sigmoid(gates["o"]) * tp.tanh(cell)
    return net.readout("V", state)


@tp.network
def gru(net, x):
    state = None
    for x_t in x:

        def pre(k, read, x_t=x_t):
            h = net.embed("U" + k, x_t) + net.bias("b" + k, std=0.5)
            return h if read is None else h + net.dense("W" + k, read)

        update = tp.sigmoid(pre("z", state))
        reset = None if state is None else tp.sigmoid(pre("r", state)) * state
        new = tp.tanh(pre("h", reset))
        state = update * new if state is None else (1 - update) * state + update * new
    return net.readout("V", state)


@tp.network
def shared(net, x):
    """One matrix, transposed and not, below kinks."""
    T = net.weight("T")
    h = net.embed("U", x)
    h = T @ tp.sigmoid((h + T.T @ tp.tanh(h)) / 2 + net.bias("b"))
    return net.readout("V", T @ tp.leaky_relu()(h))
