"""The gated architectures of the gallery as torch functions of their N(0, 1) parameters."""

import torch


def embed(p, key, x, std):
    return std * p[key] @ x / x.shape[0] ** 0.5


dense = readout = embed
GATES = {"gru": "rzn", "lstm": "ifgo"}


def by_module(layer, p, stem, index, states, sigma_w, sigma_u, sigma_b, phi=torch.tanh):
    """The states of torch.nn.GRU or torch.nn.LSTM with these weights, for states of shape (T, inputs)."""
    width, inputs = p["V"].shape[-1], states.shape[-1]
    module = getattr(torch.nn, layer.upper())(inputs, width, dtype=torch.float64)
    zero = torch.zeros(width, dtype=torch.float64)

    def stacked(letter, scale):
        return torch.cat([scale * p[f"{letter}{stem}{g}{index}"] if scale else zero for g in GATES[layer]])

    hidden = [zero] * len(GATES[layer])
    if layer == "gru" and sigma_b:
        hidden = [*hidden[:2], sigma_b * p[f"c{stem}n{index}"]]
    weights = {
        "weight_ih_l0": stacked("U", sigma_u / inputs**0.5),
        "weight_hh_l0": stacked("W", sigma_w / width**0.5)
        if len(states) > 1
        else torch.zeros_like(module.weight_hh_l0),
        "bias_ih_l0": stacked("b", sigma_b),
        "bias_hh_l0": torch.cat(hidden),
    }
    return torch.func.functional_call(module, weights, (states,))[0]


def gru(p, x, i, phi, *, layers=1, sigma_w=1, sigma_u=1, sigma_b=0, sigma_v=1):
    states = x
    for l in range(1, layers + 1):
        states = by_module("gru", p, "G", l, states, sigma_w, sigma_u, sigma_b)
    return readout(p, "V", states[-1], sigma_v)


def lstm(p, x, i, phi, *, layers=1, sigma_w=1, sigma_u=1, sigma_b=0, sigma_v=1):
    states = x
    for l in range(1, layers + 1):
        states = by_module("lstm", p, "L", l, states, sigma_w, sigma_u, sigma_b)
    return readout(p, "V", states[-1], sigma_v)


def bidirectional_rnn(p, x, i, phi, *, pool="last", sigma_w=1, sigma_u=1, sigma_b=0, sigma_v=1):
    def read(key, sequence):
        states = []
        for x_t in sequence:
            h = embed(p, f"U{key}", x_t, sigma_u) + (sigma_b * p[f"b{key}"] if sigma_b else 0)
            states.append(phi(h + dense(p, f"W{key}", states[-1], sigma_w) if states else h))
        return states

    forth, back = read("F", x), read("B", x.flip(0))
    mean = (sum(forth[1:], forth[0]) + sum(back[1:], back[0])) / len(x)
    return readout(p, "V", forth[-1] + back[-1] if pool == "last" else mean, sigma_v)


def glu_mlp(p, x, i, phi, *, depth=2, sigma_w=1, sigma_g=1, sigma_b=0, sigma_v=1):
    z = x
    for l in range(1, depth + 1):
        g, v = (dense(p, f"W{part}{l}", z, s) + (sigma_b * p[f"bW{part}{l}"] if sigma_b else 0)
                for part, s in (("g", sigma_g), ("v", sigma_w)))  # fmt: skip
        z = phi(g) * v
    return readout(p, "V", z, sigma_v)


def mixture_of_experts(p, x, i, phi, *, levels=1, sigma_w=1, sigma_g=1, sigma_v=1):
    h = embed(p, "U", x, 1)

    def mixed(level, node):
        if level == levels:
            return dense(p, f"M{node}", phi(dense(p, f"N{node}", h, sigma_w)), sigma_w)
        share = torch.sigmoid(dense(p, f"G{node}", h, sigma_g))
        return share * mixed(level + 1, 2 * node) + (1 - share) * mixed(level + 1, 2 * node + 1)

    return readout(p, "V", phi(dense(p, "O", mixed(0, 1), sigma_w)), sigma_v)


def deq(p, x, i, phi, *, depth=5, sigma_w=1, sigma_u=1, sigma_b=0, sigma_v=1):
    given = embed(p, "U", x, sigma_u) + (sigma_b * p["b"] if sigma_b else 0)
    z = torch.zeros_like(given)
    for k in range(depth):
        z = phi(given + (dense(p, "W", z, sigma_w) if k else 0))
    return readout(p, "V", z, sigma_v)


def hopfield(p, x, i, phi, *, steps=1, alpha=1, sigma_w=1, sigma_v=1):
    h = embed(p, "U", x, 1)
    for _ in range(steps):
        h = h + alpha * dense({"W": p["W"].T}, "W", phi(dense(p, "W", h, sigma_w)), sigma_w)
    return readout(p, "V", phi(h), sigma_v)


ARCHITECTURES = [gru, lstm, bidirectional_rnn, glu_mlp, mixture_of_experts, deq, hopfield]
CASES = [  # (architecture, nonlinearity, hyperparameters)
    ("gru", None, {"sigma_w": 1.3, "sigma_u": 0.8, "sigma_b": 0.4, "sigma_v": 1.1}),
    ("gru", None, {"layers": 2}),
    ("lstm", None, {"sigma_w": 1.3, "sigma_u": 0.8, "sigma_b": 0.4, "sigma_v": 1.1}),
    ("bidirectional_rnn", "tanh", {"sigma_w": 1.3, "sigma_u": 0.8, "sigma_b": 0.4}),
    ("bidirectional_rnn", "relu", {"pool": "mean"}),
    ("glu_mlp", "gelu", {"sigma_w": 1.3, "sigma_g": 0.8, "sigma_b": 0.4}),
    ("mixture_of_experts", "relu", {"levels": 2, "sigma_w": 1.3, "sigma_g": 0.8}),
    ("deq", "tanh", {"depth": 3, "sigma_w": 0.7, "sigma_b": 0.4}),
    ("hopfield", "erf", {"steps": 2, "alpha": 0.5, "sigma_w": 1.1}),
]
