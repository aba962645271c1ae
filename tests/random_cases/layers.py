"""Networks over tokens, graphs and times at random: norms, attention, gates and recurrences in any order.

A network is a list of steps.  ``written`` writes them in the language; ``Plain`` multiplies PyTorch tensors.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

import tensorprog as tp

# what the steps use of ``net``, each with every option
OPTIONS = {
    "layer_norm": "eps", "rms_norm": "eps", "attention": "heads scale tied causal std std_q std_v", "concat": "",
    "scores": "scale", "softmax": "causal", "normalised": "causal", "weighted": "",
    "rnn": "phi std std_u bias tied reverse start", "gru": "std std_u bias tied reset reverse start",
    "lstm": "std std_u bias tied phi reverse start", "glu": "phi std std_g bias", "squeeze_excite": "phi std",
    "aggregate": "normalise loops",
}  # fmt: skip
COVERS = {f"net.{name}" for name in OPTIONS} | {f"net.{n}({o})" for n, os in OPTIONS.items() for o in os.split()}
PHI = ["relu", "erf", "tanh", "sin", "abs", "sigmoid"]
GATED = {"rnn", "gru", "lstm", "both_ways"}
Step = tuple[Any, ...]


@dataclass(frozen=True)
class Layers:
    """The steps of a network; ``form`` is "tokens", "graph" or "times"."""

    form: str
    count: int
    steps: tuple[Step, ...]

    def __repr__(self) -> str:
        return f"{self.form} × {self.count}: " + "; ".join(" ".join(map(str, s)) for s in self.steps)

    @property
    def names(self) -> set[str]:
        """The kinds of steps, at any depth, and what they are given in words."""
        return _words(self.steps)


def _words(steps: Any) -> set[str]:
    if isinstance(steps, tuple):
        return set().union(*map(_words, steps))
    return {steps} if isinstance(steps, str) else set()


# ---- at random -----------------------------------------------------------------------------------------


def random_layers(seed: int, form: str = "") -> Layers:
    """The network of a seed: two to four steps between an embedding and a readout."""
    rng = np.random.default_rng((11, seed))
    form = form or str(rng.choice(["tokens", "tokens", "tokens", "graph", "times"]))
    steps: list[Step] = [("embed", "U", _of(rng, 0.7, 1.3))]
    steps += [("bias", "b", 0.4)] if rng.random() < 0.5 else []
    steps += [("aggregate", "mean", 0.5)] if form == "graph" else []
    for layer in range(int(rng.integers(2, 5))):
        steps += _some(rng, form, str(layer))
    last = ["last", "mean"] if form == "times" else ["global", "flatten", "at"]
    return Layers(form, int(rng.integers(2, 4)), (*steps, (_of(rng, *last), "V", 1.2)))


def _of(rng: np.random.Generator, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


def _some(rng: np.random.Generator, form: str, l: str) -> list[Step]:
    kinds = ["layer_norm", "rms_norm", "glu", "concat", "dense", "phi"]
    if form == "times":
        kinds = [*kinds, "rnn", "gru", "lstm", "both_ways"]
    else:
        kinds = [*kinds, "attention", "attention", "attention", "scored", "squeeze_excite", "conv", "pool", "mean_gate"]
    kinds += ["aggregate", "aggregate"] if form == "graph" else []
    kind = _of(rng, *kinds)
    made = [_step(rng, kind, l)]
    if kind in ("attention", "glu", "conv", "dense") and rng.random() < 0.5:
        first = [("layer_norm", 0.1)] if rng.random() < 0.5 else []
        return [("residual", (*first, *made))]
    if kind in ("dense", "conv", "aggregate", "concat", "layer_norm") and rng.random() < 0.6:
        made.append(("phi", _of(rng, *PHI)))
    return made


def _step(rng: np.random.Generator, kind: str, l: str) -> Step:
    flag = lambda: bool(rng.random() < 0.5)  # noqa: E731
    phi, std = _of(rng, *PHI), _of(rng, 0.8, 1.4)
    if kind in ("layer_norm", "rms_norm"):
        return kind, _of(rng, 0, 0.1)
    if kind == "attention":
        scale = _of(rng, "1/n", "1/n", "1/n", "1/n", "1/sqrt(n)")
        return kind, f"A{l}", _of(rng, 1, 2), scale, scale == "1/n" and flag(), flag(), std, _of(rng, 0.7, 1.5), 0.9
    if kind == "scored":
        return kind, f"S{l}", _of(rng, "softmax", "normalised"), flag(), flag(), _of(rng, "1/n", "1/n", "1/sqrt(n)")
    if kind == "glu":
        return kind, f"G{l}", phi, std, _of(rng, None, 0.6), _of(rng, 0, 0.3)
    if kind in ("squeeze_excite", "concat", "mean_gate"):
        return kind, f"E{l}", phi, std
    if kind == "dense":
        return kind, f"W{l}", std
    if kind == "conv":
        return kind, f"C{l}", _of(rng, "same", "circular"), std
    if kind == "pool":
        return (kind,)
    if kind == "phi":
        return kind, phi
    if kind == "aggregate":
        return kind, _of(rng, "none", "mean", "symmetric"), _of(rng, 0, 1.0)
    if kind == "both_ways":
        return kind, f"R{l}", _of(rng, "rnn", "gru"), std
    given = {"std": std, "std_u": _of(rng, 1, 0.7), "bias": _of(rng, 0, 0.3), "tied": flag(), "reverse": flag()}
    own = {"rnn": {"phi": phi}, "lstm": {"phi": _of(rng, "identity", "tanh")},
           "gru": {"reset": _of(rng, "before", "after")}}[kind]  # fmt: skip
    return kind, f"R{l}", flag(), tuple((given | own).items())


def inputs(case: Layers, count: int = 3) -> Any:
    """Inputs for it."""
    rng = np.random.default_rng((12, case.count))
    X = rng.standard_normal((count, case.count, 3))
    if case.form != "graph":
        return X
    A = rng.random((count, case.count, case.count))
    return {"x": list(X), "A": list(A + A.transpose(0, 2, 1))}


# ---- in the language -----------------------------------------------------------------------------------


def written(case: Layers) -> tp.Network:
    """The network."""

    @tp.network
    def network(net, x):
        h, A = (x["x"], x["A"]) if case.form == "graph" else (x, None)
        return _run(_Written(net, A, case.form == "times"), h, case.steps)

    return network()


def _run(layers: Any, h: Any, steps: tuple[Step, ...]) -> Any:
    for kind, *given in steps:
        h = layers.add(h, _run(layers, h, given[0])) if kind == "residual" else getattr(layers, kind)(h, *given)
    return h


def by_name(name: str) -> Any:
    return tp.identity if name == "identity" else tp.NONLINEARITIES[name]


class _Written:
    def __init__(self, net: Any, A: Any, times: bool) -> None:
        self.net, self.A, self.times = net, A, times

    def each(self, layer, *hs):
        return [layer(*v) for v in zip(*hs, strict=True)] if self.times else layer(*hs)

    def add(self, a, b):
        return self.each(lambda u, v: u + v, a, b)

    def embed(self, h, key, std):
        return self.each(lambda v: self.net.embed(key, v, std), h)

    def bias(self, h, key, std):
        return self.each(lambda v: v + self.net.bias(key, std), h)

    def dense(self, h, key, std):
        return self.each(lambda v: self.net.dense(key, v, std), h)

    def phi(self, h, name):
        return self.each(by_name(name), h)

    def layer_norm(self, h, eps):
        return self.each(lambda v: self.net.layer_norm(v, eps), h)

    def rms_norm(self, h, eps):
        return self.each(lambda v: self.net.rms_norm(v, eps), h)

    def glu(self, h, key, name, std, std_g, bias):
        return self.each(lambda v: self.net.glu(key, v, by_name(name), std, std_g, bias), h)

    def concat(self, h, key, name, std):
        return self.each(lambda v: self.net.dense(key, self.net.concat(by_name(name)(v), v), std), h)

    def attention(self, h, key, heads, scale, tied, causal, std, std_q, std_v):
        return self.net.attention(key, h, heads, scale, tied, causal, std, std_q, std_v)

    def scored(self, h, key, weights, tied, causal, scale):
        q = self.net.dense(f"{key}q", h)
        if scale == "1/n":  # positive, so that they may be normalised
            q = tp.sigmoid(q)
            k = q if tied else tp.sigmoid(self.net.dense(f"{key}k", h))
            a = getattr(self.net, weights)(self.net.scores(q, k), causal=causal)
        else:
            a = self.net.softmax(self.net.scores(q, self.net.dense(f"{key}k", h), scale), causal=causal)
        return self.net.weighted(a, h)

    def squeeze_excite(self, h, key, name, std):
        return self.net.squeeze_excite(key, h, by_name(name), std)

    def conv(self, h, key, padding, std):
        return self.net.conv(key, h, 2, std, padding=padding)

    def pool(self, h):
        return self.net.avg_pool(h, 2, stride=1, padding="same")

    def mean_gate(self, h, key, name, std):
        return h * by_name(name)(self.net.dense(key, self.net.global_pool(h), std))

    def aggregate(self, h, normalise, loops):
        return self.net.aggregate(h, self.A, normalise, loops)

    def _recurrent(self, kind, h, key, start, given):
        given = dict(given)
        given |= {"phi": by_name(given["phi"])} if "phi" in given else {}
        if start:
            first = self.net.state(f"{key}h", 0.8)
            given["start"] = (first, self.net.state(f"{key}c", 0.8)) if kind == "lstm" else first
        return getattr(self.net, kind)(key, h, **given)

    def rnn(self, h, *given):
        return self._recurrent("rnn", h, *given)

    def gru(self, h, *given):
        return self._recurrent("gru", h, *given)

    def lstm(self, h, *given):
        return self._recurrent("lstm", h, *given)

    def both_ways(self, h, key, kind, std):
        layer = getattr(self.net, kind)
        there, back = layer(f"{key}f", h), layer(f"{key}b", h, reverse=True)
        return self.each(lambda a, b: self.net.dense(f"{key}o", self.net.concat(a, b), std), there, back)

    def last(self, h, key, std):
        return self.net.readout(key, h[-1], std)

    def mean(self, h, key, std):
        return self.net.readout(key, sum(h[1:], h[0]) / len(h), std)

    def at(self, h, key, std):
        return self.net.readout(key, self.net.at(h, -1), std)

    def flatten(self, h, key, std):
        return self.net.flatten(key, h, std)


setattr(_Written, "global", lambda self, h, key, std: self.net.readout(key, self.net.global_pool(h), std))


# ---- by tensors ----------------------------------------------------------------------------------------


class Plain:
    """The same on one input, (T, d), with weights by name; h is (T, n)."""

    def __init__(self, w: dict[str, Any], label: str, A: Any = None) -> None:
        import torch

        self.t, self.w, self.label, self.A = torch, w, label, A

    def fn(self, name):
        t = self.t
        return {"relu": t.relu, "erf": t.erf, "tanh": t.tanh, "sin": t.sin, "abs": t.abs, "sigmoid": t.sigmoid,
                "identity": lambda x: x}[name]  # fmt: skip

    def add(self, a, b):
        return a + b

    def embed(self, h, key, std):
        return std * h @ self.w[key].T / math.sqrt(h.shape[-1])

    def bias(self, h, key, std):
        return h + std * self.w[key]

    def dense(self, h, key, std=1.0):
        return std * h @ self.w[key].T / math.sqrt(h.shape[-1])

    def phi(self, h, name):
        return self.fn(name)(h)

    def layer_norm(self, h, eps):
        u = h - h.mean(-1, keepdim=True)
        return u / self.t.sqrt((u**2).mean(-1, keepdim=True) + eps)

    def rms_norm(self, h, eps):
        return h / self.t.sqrt((h**2).mean(-1, keepdim=True) + eps)

    def glu(self, h, key, name, std, std_g, bias):
        gate, value = self.dense(h, f"{key}g", std if std_g is None else std_g), self.dense(h, f"{key}v", std)
        if bias:
            gate, value = gate + bias * self.w[f"b{key}g"], value + bias * self.w[f"b{key}v"]
        return self.fn(name)(gate) * value

    def _two(self, a, b, key, std):
        return self.dense(a, f"{key}.1", std / math.sqrt(2)) + self.dense(b, f"{key}.2", std / math.sqrt(2))

    def concat(self, h, key, name, std):
        return self._two(self.fn(name)(h), h, key, std)

    def _weights(self, e, causal):
        e = self.t.tril(e) if causal else e
        return e / e.sum(1, keepdim=True)

    def attention(self, h, key, heads, scale, tied, causal, std, std_q, std_v):
        out, n = 0, h.shape[1]
        for i in range(1, heads + 1):
            q = self.dense(h, f"{key}q{i}", std_q)
            k = q if tied else self.dense(h, f"{key}k{i}", std_q)
            s = q @ k.T / (n if scale == "1/n" else math.sqrt(n))
            y = self._weights(self.t.exp(s), causal) @ self.dense(h, f"{key}v{i}", std_v)
            out = out + self.dense(y, f"{key}o{i}", std / math.sqrt(heads))
        return out

    def scored(self, h, key, weights, tied, causal, scale):
        q, n = self.dense(h, f"{key}q"), h.shape[1]
        if scale != "1/n":
            return self._weights(self.t.exp(q @ self.dense(h, f"{key}k").T / math.sqrt(n)), causal) @ h
        q = self.t.sigmoid(q)
        k = q if tied else self.t.sigmoid(self.dense(h, f"{key}k"))
        s = q @ k.T / n
        return self._weights(self.t.exp(s) if weights == "softmax" else s, causal) @ h

    def squeeze_excite(self, h, key, name, std):
        inner = self.fn(name)(self.dense(h.mean(0), f"{key}s", std))
        return h * self.t.sigmoid(self.dense(inner, f"{key}e", std))

    def conv(self, h, key, padding, std):
        after = h[:1] if padding == "circular" else 0 * h[:1]
        w, scale = self.w[key], std / math.sqrt(2 * h.shape[1])
        return scale * (h @ w[0].T + self.t.cat([h[1:], after]) @ w[1].T)

    def pool(self, h):
        return (h + self.t.cat([h[1:], 0 * h[:1]])) / 2

    def mean_gate(self, h, key, name, std):
        return h * self.fn(name)(self.dense(h.mean(0), key, std))

    def aggregate(self, h, normalise, loops):
        A = self.A + loops * self.t.eye(len(self.A), dtype=h.dtype)
        d = A.sum(1)
        scale = {"none": 1.0, "mean": 1 / d[:, None], "symmetric": 1 / self.t.sqrt(d[:, None] * d[None])}[normalise]
        return (scale * A) @ h

    def _times(self, h, key, start, given, cells=1):
        """Rows in the order in which they are read, a function of names, and what is there before the first."""
        given = dict(given)
        order = range(len(h))[::-1] if given.get("reverse") else range(len(h))
        first = [0.8 * self.w[f"{key}{c}({self.label})"] if start else None for c in "hc"[:cells]]
        b, std, std_u = given.get("bias", 0), given.get("std", 1), given.get("std_u", 1)

        def reads(gate, p, letter="b"):
            g = gate if given.get("tied", True) else f"{gate}_{p + 1}"
            u = self.dense(h[p], f"U{key}{g}", std_u) if letter == "b" else 0
            return u + (b * self.w[f"{letter}{key}{g}"] if b else 0)

        def recurs(gate, p, s):
            g = gate if given.get("tied", True) else f"{gate}_{p + 1}"
            return 0 if s is None else self.dense(s, f"W{key}{g}", std)

        return order, reads, recurs, first, given

    def _stack(self, found):
        return self.t.stack([found[p] for p in range(len(found))])

    def rnn(self, h, key, start=False, options=(("phi", "tanh"),)):
        order, reads, recurs, (s,), given = self._times(h, key, start, options)
        found = {}
        for p in order:
            s = found[p] = self.fn(given["phi"])(reads("", p) + recurs("", p, s))
        return self._stack(found)

    def gru(self, h, key, start=False, options=()):
        order, reads, recurs, (s,), given = self._times(h, key, start, options)
        sigmoid, found = self.t.sigmoid, {}
        for p in order:
            z, r = (sigmoid(reads(g, p) + recurs(g, p, s)) for g in "zr") if self._has(key, "r", p, given) else (
                sigmoid(reads("z", p) + recurs("z", p, s)), 0)  # fmt: skip
            if given.get("reset", "after") == "before":
                n = self.t.tanh(reads("n", p) + (0 if s is None else recurs("n", p, r * s)))
            else:
                n = self.t.tanh(reads("n", p) + r * (recurs("n", p, s) + reads("n", p, "c")))
            s = found[p] = (1 - z) * n + (0 if s is None else z * s)
        return self._stack(found)

    def _has(self, key, gate, p, given):
        return f"U{key}{gate if given.get('tied', True) else f'{gate}_{p + 1}'}" in self.w

    def lstm(self, h, key, start, options):
        order, reads, recurs, (s, c), given = self._times(h, key, start, options, 2)
        sigmoid, found = self.t.sigmoid, {}
        for p in order:
            i, g, o = (
                f(reads(x, p) + recurs(x, p, s)) for x, f in (("i", sigmoid), ("g", self.t.tanh), ("o", sigmoid))
            )
            c = i * g + (0 if c is None else sigmoid(reads("f", p) + recurs("f", p, s)) * c)
            s = found[p] = o * self.fn(given["phi"])(c)
        return self._stack(found)

    def both_ways(self, h, key, kind, std):
        phi = {"phi": "tanh"}
        there = getattr(self, kind)(h, f"{key}f", False, tuple(phi.items()))
        back = getattr(self, kind)(h, f"{key}b", False, tuple((phi | {"reverse": True}).items()))
        return self._two(there, back, f"{key}o", std)

    def _read(self, x, key, std):
        return std * (self.w[key] * x).sum() / math.sqrt(x.numel())

    def last(self, h, key, std):
        return self._read(h[-1], key, std)

    at = last

    def flatten(self, h, key, std):
        return self._read(h, key, std)

    def mean(self, h, key, std):
        return self._read(h.mean(0), key, std)


setattr(Plain, "global", Plain.mean)


def by_autograd(case: Layers, X: Any, arrays: dict[str, np.ndarray], states: set[str]) -> tuple[Any, Any]:
    """Outputs (N,) and products of gradients (N, N)."""
    import torch

    w = {k: torch.tensor(a, dtype=torch.float64, requires_grad=k not in states) for k, a in arrays.items()}
    trained, outputs, gradients = [a for k, a in w.items() if k not in states], [], []
    xs = X["x"] if case.form == "graph" else X
    for i, x in enumerate(xs):
        A = torch.tensor(X["A"][i]) if case.form == "graph" else None
        f = _run(Plain(w, f"x[{i}]", A), torch.tensor(x), case.steps)
        found = torch.autograd.grad(f, trained, allow_unused=True)
        pairs = zip(found, trained, strict=True)
        gradients.append(torch.cat([(torch.zeros_like(a) if g is None else g).ravel() for g, a in pairs]))
        outputs.append(float(f.detach()))
    G = torch.stack(gradients)
    return np.array(outputs), (G @ G.T).numpy()
