"""Gated networks whose kernels are sampled."""

import tensorprog as tp


@tp.network
def lstm(net, x):
    return net.readout("V", net.lstm("L", x, bias=0.5)[-1])


@tp.network
def gru(net, x):
    return net.readout("V", net.gru("G", x, bias=0.5, reset="before")[-1])


@tp.network
def shared(net, x):
    """One matrix, transposed and not, below kinks."""
    T = net.weight("T")
    h = net.embed("U", x)
    h = T @ tp.sigmoid((h + T.T @ tp.tanh(h)) / 2 + net.bias("b"))
    return net.readout("V", T @ tp.leaky_relu()(h))
