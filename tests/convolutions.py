"""Networks over positions, each a second time in torch as a function of its N(0, 1) parameters and an image."""

import numpy as np
import sympy as sp
import torch
from torch.nn import functional as F

import tensorprog as tp

CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
POOL = {1: F.avg_pool1d, 2: F.avg_pool2d}


# ---- the same layers in torch: x is (channels, *sizes) ------------------------------------------------


def kernel_of(w, kernel, inputs):
    """Torch's weight (out, in, *kernel) from ours: (|w|, out, in) of hidden layers, (out, |w| in) of embeddings."""
    if w.ndim == 3:
        return w.permute(1, 2, 0).reshape(w.shape[1], inputs, *kernel)
    return w.reshape(len(w), *kernel, inputs).movedim(-1, 1)


def conv(w, x, kernel, std=1, stride=1, dilation=1, padding="same"):
    ndim = x.ndim - 1
    kernel = (kernel,) * ndim if isinstance(kernel, int) else kernel
    if padding != "valid":
        sides = [(dilation * ((k - 1) // 2), dilation * (k - 1 - (k - 1) // 2)) for k in reversed(kernel)]
        mode = "circular" if padding == "circular" else "constant"
        x = F.pad(x[None], [s for pair in sides for s in pair], mode=mode)[0]
    weight = kernel_of(w, kernel, len(x)) * std / np.sqrt(len(x) * np.prod(kernel))
    return CONV[ndim](x[None], weight, stride=stride, dilation=dilation)[0]


def local(w, x, kernel, std=1):
    """Patches by ``unfold``; ours is (P, |w|, out, in), or (P, out, |w| in) of an embedding."""
    a, b = kernel
    sides = [s for k in (b, a) for s in ((k - 1) // 2, k - 1 - (k - 1) // 2)]
    patches = F.unfold(F.pad(x, sides)[None], kernel)[0].reshape(len(x), a * b, -1)  # (in, |w|, P)
    w = w if w.ndim == 4 else w.reshape(*w.shape[:2], a * b, len(x)).transpose(1, 2)
    return (std * torch.einsum("pkoi,ikp->op", w, patches) / np.sqrt(len(x) * a * b)).reshape(-1, *x.shape[1:])


def dense(w, x, std=1):
    return std * torch.einsum("oi,i...->o...", w, x) / len(x) ** 0.5


def bias(b, x):
    return b.reshape(-1, *[1] * (x.ndim - 1))


def mean(x):
    return x.reshape(len(x), -1).mean(1)


def readout(v, x, std=1):
    return std * (v * x).sum() / len(x) ** 0.5


def flatten(v, x, std=1):
    """A linear layer on torch's flattening, channels first."""
    weight = v.T.reshape(1, -1) / v.numel() ** 0.5
    return std * F.linear(x.flatten(), weight)[0]


# ---- networks, each with its torch function of (parameters, image) --------------------------------------


@tp.network
def pooled(net, x, *, phi=tp.relu, kernel=3, padding="same"):
    h = net.conv("U", x, kernel, std=1.3, padding=padding) + net.bias("b", std=0.2)
    h = net.conv("W", phi(h), kernel, std=1.1, padding=padding) + net.bias("c", std=0.3)
    return net.readout("V", net.global_pool(phi(h)), std=0.9, bias=0.5)


def pooled_torch(p, x, kernel=3, padding="same"):
    h = torch.relu(conv(p["U"], x, kernel, 1.3, padding=padding) + 0.2 * bias(p["b"], x))
    h = torch.relu(conv(p["W"], h, kernel, 1.1, padding=padding) + 0.3 * bias(p["c"], x))
    return readout(p["V"], mean(h), 0.9)


@tp.network
def flattened(net, x, *, padding="same"):
    h = tp.erf(net.conv("U", x, 3, padding=padding))
    h = tp.tanh(net.conv("W", h, 2, stride=2, padding="valid", std=1.4))
    return net.flatten("V", h, std=1.2)


def flattened_torch(p, x, padding="same"):
    h = torch.erf(conv(p["U"], x, 3, padding=padding))
    return flatten(p["V"], torch.tanh(conv(p["W"], h, 2, 1.4, stride=2, padding="valid")), 1.2)


@tp.network
def strided(net, x):
    """Strides, dilations, pooling with overlap, skip connections, a matrix at all positions and after the pooling."""
    h = tp.tanh(net.conv("U", x, 3, stride=2))
    h = net.avg_pool(h, 3, stride=1, padding="same")
    g = tp.tanh(net.conv("W", h, 3, dilation=2, padding="circular", std=1.5)) + h
    g = tp.tanh(net.dense("D", g, std=1.2)) * net.bias("b")
    return net.readout("V", tp.tanh(net.dense("D", net.global_pool(g), std=1.2)))


def strided_torch(p, x):
    h = torch.tanh(conv(p["U"], x, 3, stride=2))
    h = POOL[x.ndim - 1](h[None], 3, stride=1, padding=1)[0]
    g = torch.tanh(conv(p["W"], h, 3, 1.5, dilation=2, padding="circular")) + h
    g = torch.tanh(dense(p["D"], g, 1.2)) * bias(p["b"], g)
    return readout(p["V"], torch.tanh(dense(p["D"], mean(g), 1.2)))


@tp.network
def untied(net, x):
    """Locally connected layers, then averages side by side, and two readouts."""
    h = tp.tanh(net.local("U", x, (3, 2), std=1.2) + net.bias("b"))
    h = net.local("L", h, (2, 3), std=1.4)
    return net.flatten("F", net.avg_pool(tp.erf(h), 2)) + net.readout("V", net.global_pool(h))


def untied_torch(p, x):
    h = torch.tanh(local(p["U"], x, (3, 2), 1.2) + bias(p["b"], x))
    h = local(p["L"], h, (2, 3), 1.4)
    return flatten(p["F"], F.avg_pool2d(torch.erf(h)[None], 2)[0]) + readout(p["V"], mean(h))


@tp.network
def pixels(net, x):
    """Embedded pixel by pixel; one kernel in two layers; the mean scales the positions."""
    h = net.embed("U", x, std=1.5)
    for _ in range(2):
        h = tp.tanh(net.conv("W", h, (1, 3), std=1.2)) + net.bias("b")
    return net.readout("V", net.global_pool(tp.nonlin(lambda a, m: a * sp.tanh(m), h, net.global_pool(h))))


def pixels_torch(p, x):
    h = dense(p["U"], x, 1.5)
    for _ in range(2):
        h = torch.tanh(conv(p["W"], h, (1, 3), 1.2)) + bias(p["b"], h)
    return readout(p["V"], mean(h * torch.tanh(bias(mean(h), h))))


SIGNAL, IMAGE, VOLUME = (7,), (4, 5), (3, 2, 3)
CASES = {
    "conv1d": (pooled(), pooled_torch, SIGNAL),
    "conv2d": (pooled(), pooled_torch, IMAGE),
    "conv3d": (pooled(), pooled_torch, VOLUME),
    "conv2d, valid": (pooled(kernel=2, padding="valid"), lambda p, x: pooled_torch(p, x, 2, "valid"), IMAGE),
    "conv1d, circular": (pooled(padding="circular"), lambda p, x: pooled_torch(p, x, 3, "circular"), SIGNAL),
    "conv2d, oblong": (pooled(kernel=(3, 2)), lambda p, x: pooled_torch(p, x, (3, 2)), IMAGE),
    "flatten, 1 axis": (flattened(), flattened_torch, SIGNAL),
    "flatten, 2 axes": (flattened(padding="circular"), lambda p, x: flattened_torch(p, x, "circular"), IMAGE),
    "strides, 1 axis": (strided(), strided_torch, (9,)),
    "strides, 2 axes": (strided(), strided_torch, (6, 7)),
    "untied": (untied(), untied_torch, IMAGE),
    "pixels": (pixels(), pixels_torch, IMAGE),
}


def assert_close(actual, expected, rtol=1e-9):
    assert np.shape(actual) == np.shape(expected)
    assert np.max(np.abs(np.asarray(actual) - expected)) <= rtol * np.max(np.abs(expected))
