"""Networks over positions, and the same with a vector for every position: a loop where the other has an index.

A network is a list of steps.  ``over_axes`` writes them with the layers that read positions; ``unrolled`` knows
embeddings, dense layers, biases and readouts only, and finds what a window reads by counting.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import sympy as sp

import tensorprog as tp

# what the steps below use of ``net``, each with every option, and the layers that are not drawn here
COVERS = {
    *(f"net.{kind}{option}" for kind in ("conv", "local", "conv_transpose")
      for option in ("", "(kernel)", "(std)", "(stride)", "(dilation)", "(padding)", "(initial)")),
    "net.avg_pool", "net.avg_pool(kernel)", "net.avg_pool(stride)", "net.avg_pool(padding)", "net.global_pool",
    "net.crop", "net.crop(before)", "net.crop(after)", "net.pad", "net.pad(before)", "net.pad(after)",
    "net.beside", "net.beside(axis)", "net.bias(like)", "net.at",
    "net.flatten", "net.flatten(std)", "net.flatten(bias)", "net.flatten(initial)",
}  # fmt: skip
HERE = "tests/kernels/test_positions.py"
ELSEWHERE = {
    "net.weighted_pool": HERE, "net.weighted_pool(normalise)": HERE,
    "net.embed(law)": "tests/kernels/test_laws.py", "net.bias(law)": "tests/kernels/test_laws.py",
}  # fmt: skip
PHI = ["relu", "erf", "tanh", "sin", "abs_", "sigmoid", "gelu"]
PADDINGS = ["same", "valid", "circular"]
Step = tuple[Any, ...]


@dataclass(frozen=True)
class Stack:
    """The steps of a network, for inputs of some sizes."""

    sizes: tuple[int, ...]
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        return f"{'×'.join(map(str, self.sizes))}: " + "; ".join(" ".join(map(str, s)) for s in self.steps)


def by_name(name: str) -> Any:
    return tp.NONLINEARITIES[name.rstrip("_")]


# ---- by layers that read positions ---------------------------------------------------------------------


def over_axes(stack: Stack) -> tp.Network:
    @tp.network
    def network(net, x):
        return _run(net, x, stack.steps)

    return network()


def _run(net, h, steps):
    for i, (kind, *given) in enumerate(steps):
        h = LAYERS[kind](net, h, *given) if kind != "residual" else h + _run(net, h, given[0])
        assert i or not isinstance(h, tp.Datum)
    return h


def _conv(kind):
    def layer(net, h, key, kernel, stride, dilation, padding, std, initial=None):
        given = {"stride": stride, "dilation": dilation, "padding": padding, "initial": initial}
        return getattr(net, kind)(key, h, kernel, std, **given)

    return layer


LAYERS = {
    "conv": _conv("conv"),
    "local": _conv("local"),
    "conv_transpose": _conv("conv_transpose"),
    "embed": lambda net, h, key, std: net.embed(key, h, std),
    "dense": lambda net, h, key, std: net.dense(key, h, std),
    "bias": lambda net, h, key, std: h + net.bias(key, std),
    "bias_at": lambda net, h, key, std: h + net.bias(key, std, like=h),
    "phi": lambda net, h, name: by_name(name)(h),
    "gate": lambda net, h, key, name: by_name(name)(net.dense(key, h)) * h,
    "avg_pool": lambda net, h, kernel, stride, padding: net.avg_pool(h, kernel, stride=stride, padding=padding),
    "crop": lambda net, h, before, after: net.crop(h, before, after),
    "pad": lambda net, h, before, after: net.pad(h, before, after),
    "beside": lambda net, h, axis: net.beside(h, 2 * h, axis=axis),
    "global": lambda net, h, key, std: net.readout(key, net.global_pool(h), std),
    "at": lambda net, h, key, place, std: net.readout(key, net.at(h, place), std),
    "flatten": lambda net, h, key, std, bias=0, initial=None: net.flatten(key, h, std, bias, initial),
}


# ---- by a loop -----------------------------------------------------------------------------------------


def unrolled(stack: Stack) -> tp.Network:
    @tp.network
    def network(net, x):
        data = dict(zip(_grid(stack.sizes), x, strict=True))
        return Loop(net).run(data, stack.sizes, stack.steps)[0]

    return network()


def _grid(sizes: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*map(range, sizes))


class Loop:
    """A family as a dictionary of vectors by position; what is absent is left out."""

    def __init__(self, net: Any) -> None:
        self.net = net

    def run(self, h: Any, sizes: tuple[int, ...], steps: tuple[Step, ...]) -> tuple[Any, tuple[int, ...]]:
        for kind, *given in steps:
            if kind == "residual":
                branch, _ = self.run(h, sizes, given[0])
                h = {p: h[p] + branch[p] for p in h}
            else:
                h, sizes = getattr(self, kind)(h, sizes, *given)
        return h, sizes

    def apply(self, key, v, std, initial=None):
        layer = self.net.embed if isinstance(v, tp.Datum) else self.net.dense
        return layer(key, v, std, initial)

    def terms(self, sizes, kernel, stride, dilation, padding):
        """What every position of a convolution reads: (position, offset, position that is read)."""
        spans = [(kernel - 1) * dilation + 1] * len(sizes)
        if padding == "valid":
            out, shift = tuple((n - s) // stride + 1 for n, s in zip(sizes, spans, strict=True)), 0
        else:
            out, shift = tuple(-(-n // stride) for n in sizes), (kernel - 1) // 2
        for p in _grid(out):
            for k in _grid((kernel,) * len(sizes)):
                q = tuple(stride * i + dilation * (j - shift) for i, j in zip(p, k, strict=True))
                if padding == "circular":
                    q = tuple(i % n for i, n in zip(q, sizes, strict=True))
                if all(0 <= i < n for i, n in zip(q, sizes, strict=True)):
                    yield out, p, k, q

    def weighted(self, h, out, reads, key, std, kernel, ndim, initial=None):
        scale = std / sp.sqrt(kernel**ndim)
        found = {p: [] for p in _grid(out)}
        for p, k, q, own in reads:
            if q in h:
                found[p].append(self.apply((key, *own, *k), h[q], scale, initial))
        nothing = 0 * next(iter(v[0] for v in found.values() if v))
        return {p: sum(v[1:], v[0]) if v else nothing for p, v in found.items()}, out

    def conv(self, h, sizes, key, kernel, stride, dilation, padding, std, initial=None, local=False):
        terms = list(self.terms(sizes, kernel, stride, dilation, padding))
        reads = [(p, k, q, p if local else ()) for _, p, k, q in terms]
        return self.weighted(h, terms[0][0], reads, key, std, kernel, len(sizes), initial)

    def local(self, h, sizes, *given):
        return self.conv(h, sizes, *given, local=True)

    def conv_transpose(self, h, sizes, key, kernel, stride, dilation, padding, std, initial=None):
        span = (kernel - 1) * dilation + 1
        large = tuple((n - 1) * stride + span if padding == "valid" else n * stride for n in sizes)
        reads = [(q, k, p, ()) for _, p, k, q in self.terms(large, kernel, stride, dilation, padding)]
        return self.weighted(h, large, reads, key, std, kernel, len(sizes), initial)

    def embed(self, h, sizes, key, std):
        return {p: self.net.embed(key, v, std) for p, v in h.items()}, sizes

    def dense(self, h, sizes, key, std):
        return {p: self.net.dense(key, v, std) for p, v in h.items()}, sizes

    def bias(self, h, sizes, key, std):
        return {p: v + self.net.bias(key, std) for p, v in h.items()}, sizes

    def bias_at(self, h, sizes, key, std):
        return {p: v + self.net.bias((key, *p), std) for p, v in h.items()}, sizes

    def phi(self, h, sizes, name):
        return {p: by_name(name)(v) for p, v in h.items()}, sizes

    def gate(self, h, sizes, key, name):
        return {p: by_name(name)(self.net.dense(key, v)) * v for p, v in h.items()}, sizes

    def avg_pool(self, h, sizes, kernel, stride, padding):
        terms = list(self.terms(sizes, kernel, stride, 1, padding))
        out, found = terms[0][0], {}
        for _, p, _, q in terms:
            found[p] = found[p] + h[q] if p in found else h[q]
        return {p: v * sp.Rational(1, kernel ** len(sizes)) for p, v in found.items()}, out

    def moved(self, h, sizes, ahead, out):
        shifted = {tuple(i + a for i, a in zip(p, ahead, strict=True)): v for p, v in h.items()}
        nothing = 0 * next(iter(h.values()))
        return {p: shifted.get(p, nothing) for p in _grid(out)}, out

    def crop(self, h, sizes, before, after):
        return self.pad(h, sizes, -before, -after)

    def pad(self, h, sizes, before, after):
        return self.moved(h, sizes, (before,) * len(sizes), tuple(n + before + after for n in sizes))

    def beside(self, h, sizes, axis):
        out = tuple(2 * n if i == axis else n for i, n in enumerate(sizes))
        second = {tuple(i + sizes[axis] if a == axis else i for a, i in enumerate(p)): 2 * v for p, v in h.items()}
        return h | second, out

    def flatten(self, h, sizes, key, std, bias=0, initial=None):
        scale, found = std / sp.sqrt(len(h)), list(h.items())
        parts = [
            self.net.readout((key, *p), v, scale, bias if i == 0 else 0, initial) for i, (p, v) in enumerate(found)
        ]
        return sum(parts[1:], parts[0]), ()

    def at(self, h, sizes, key, place, std):
        place = tuple(p % n for p, n in zip(place, sizes, strict=True))
        return self.net.readout(key, h[place], std), ()

    def getattr_global(self, h, sizes, key, std):
        parts = list(h.values())
        return self.net.readout(key, sum(parts[1:], parts[0]) * sp.Rational(1, len(h)), std), ()


setattr(Loop, "global", Loop.getattr_global)


# ---- at random -----------------------------------------------------------------------------------------


def random_stack(seed: int, depth: int = 2) -> Stack:
    """Steps drawn by a seed, for inputs of one or two axes."""
    rng = np.random.default_rng(seed)
    sizes = [(4,), (5,), (6,), (2, 3), (3, 3)][rng.integers(5)]
    steps, now = [], sizes
    for layer in range(depth):
        found, now = _layer(rng, layer, now)
        steps += found
    std = int(rng.integers(1, 3))
    at = ("at", "V", tuple(-1 if i else 0 for i in range(len(now))), std)
    last = [("global", "V", std), ("flatten", "V", std), ("flatten", "V", std, 1, 0), at][rng.integers(4)]
    return Stack(sizes, (*steps, last))


def _layer(rng, layer, now):
    steps, first = [], layer == 0
    name = PHI[rng.integers(len(PHI))]
    kind = rng.choice(["conv"] * 4 + ["local"] * 2 + ["dense"] + ["conv_transpose"] * (max(now) < 4))
    if kind == "dense":
        steps.append(("embed" if first else "dense", f"W{layer}", 1))
    else:
        kernel = int(rng.integers(1, min(3, *now) + 1)) if min(now) > 1 else 1
        stride, dilation = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        padding = PADDINGS[rng.integers(3)]
        if padding == "valid" and (kernel - 1) * dilation + 1 > min(now):
            padding = "same"
        steps.append((kind, f"W{layer}", kernel, stride, dilation, padding, sp.sqrt(2)))
        now = _after(kind, now, kernel, stride, dilation, padding)
    if rng.random() < 0.6:
        steps.append((["bias", "bias_at"][rng.integers(2)], f"b{layer}", sp.Rational(1, 2)))
    extra = rng.choice(["", "", "crop", "pad", "beside", "residual", "gate"])
    steps.append(("phi", name))
    if extra == "crop" and min(now) > 2:
        steps.append(("crop", 1, 0))
        now = tuple(n - 1 for n in now)
    elif extra == "pad" and max(now) < 4:
        steps.insert(int(rng.integers(1, len(steps) + 1)), ("pad", 1, 0))
        now = tuple(n + 1 for n in now)
    elif extra == "beside" and max(now) < 4:
        steps.append(("beside", 0))
        now = (2 * now[0], *now[1:])
    elif extra == "residual":
        kind, initial = ["conv", "local", "conv_transpose"][rng.integers(3)], [None, 0][rng.integers(2)]
        steps.append(("residual", ((kind, f"R{layer}", 2, 1, 1, "same", 1, initial),)))
    elif extra == "gate":
        steps[-1] = ("gate", f"G{layer}", name)
    if rng.random() < 0.4 and min(now) > 1:
        padding = PADDINGS[rng.integers(3)]
        stride = int(rng.integers(1, 3))
        steps.append(("avg_pool", 2, stride, padding))
        now = _after("avg_pool", now, 2, stride, 1, padding)
    return steps, now


def _after(kind, now, kernel, stride, dilation, padding):
    span = (kernel - 1) * dilation + 1
    if kind == "conv_transpose":
        return tuple((n - 1) * stride + span if padding == "valid" else n * stride for n in now)
    return tuple((n - span) // stride + 1 if padding == "valid" else -(-n // stride) for n in now)
