"""Attention and layer norm at width n against PyTorch's, on the same weights: outputs, gradients, empirical NTK."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.layerwise import Layerwise, Piece

TOKENS, FEATURES, WIDTH = 4, 3, 12
X = np.random.default_rng(1).standard_normal((3, TOKENS, FEATURES))


@tp.network
def block(net, x, *, tied=True, causal=False, heads=1, flat=False, scale="1/n"):
    h, options = net.embed("U", x, std=1.2), {"tied": tied, "causal": causal, "std": 1.3, "std_q": 1.1, "std_v": 0.9}
    h = h + net.attention("A", net.layer_norm(h, 0.01), heads, scale, **options)
    h = h + net.dense("M", tp.relu(net.dense("N", net.rms_norm(h, 0.01), std=1.4)), std=0.7)
    return net.flatten("V", h) if flat else net.readout("V", net.global_pool(h))


def block_torch(p, x, tied, causal, heads, flat, scale="1/n"):
    """``x`` is (tokens, features); weights are N(0, 1)."""
    n = WIDTH
    h = 1.2 * x @ p["U"].T / FEATURES**0.5
    z, out = F.layer_norm(h, (n,), eps=0.01), 0
    for k in range(1, heads + 1):
        q = 1.1 * z @ p[f"Aq{k}"].T / n**0.5
        key = q if tied else 1.1 * z @ p[f"Ak{k}"].T / n**0.5
        v = 0.9 * z @ p[f"Av{k}"].T / n**0.5
        y = F.scaled_dot_product_attention(
            q[None], key[None], v[None], is_causal=causal, scale=1 / n if scale == "1/n" else n**-0.5
        )[0]
        out = out + 1.3 / heads**0.5 * y @ p[f"Ao{k}"].T / n**0.5
    h = h + out
    z = F.rms_norm(h, (n,), eps=0.01)
    h = h + 0.7 * torch.relu(1.4 * z @ p["N"].T / n**0.5) @ p["M"].T / n**0.5
    return (p["V"] * h).sum() / (n * TOKENS) ** 0.5 if flat else (p["V"] * h.mean(0)).sum() / n**0.5


@pytest.mark.parametrize(
    "options",
    [
        {"tied": True, "causal": False, "heads": 1, "flat": False},
        {"tied": True, "causal": True, "heads": 2, "flat": True},
        {"tied": False, "causal": True, "heads": 1, "flat": False},
        {"tied": False, "causal": False, "heads": 2, "flat": True},
        {"tied": False, "causal": True, "heads": 2, "flat": False, "scale": "1/sqrt(n)"},
        {"tied": False, "causal": False, "heads": 1, "flat": True, "scale": "1/sqrt(n)"},
    ],
    ids=["tied", "tied causal heads flat", "causal", "heads flat", "root causal heads", "root flat"],
)
def test_outputs_and_the_ntk_equal_those_of_torch(options):
    net = block(**options)
    inputs = read_inputs(X, "X", net.form)
    kernel = Layerwise(net, inputs, None, {})
    parameters = kernel.draw(WIDTH, [7], np.float64)
    weights = {name: torch.tensor(w[0], requires_grad=True) for name, w in parameters.items()}
    outputs = [block_torch(weights, torch.tensor(x), **options) for x in X]
    gradients = [torch.autograd.grad(f, list(weights.values()), retain_graph=True) for f in outputs]
    J = np.stack([np.concatenate([g.numpy().ravel() for g in row]) for row in gradients])
    program = kernel.programs[TOKENS,]
    piece = Piece((TOKENS,), np.arange(len(X)), inputs.data[TOKENS,])
    f = program.outputs(piece, program.run(piece, parameters, {}), parameters)[0, :, 0]
    np.testing.assert_allclose(f, [o.item() for o in outputs], rtol=1e-11)
    np.testing.assert_allclose(kernel(parameters, {})[0], J @ J.T, rtol=1e-11)


@tp.network
def one_head(net, x):
    return net.readout("V", net.global_pool(net.attention("A", net.embed("U", x), scale="1/sqrt(n)")))


def test_one_head_over_the_root_of_n_is_the_module_of_torch():
    n, net = WIDTH, one_head()
    inputs = read_inputs(X, "X", net.form)
    kernel = Layerwise(net, inputs, None, {})
    drawn = kernel.draw(n, [5], np.float64)
    p = {name: torch.tensor(w[0]) for name, w in drawn.items()}
    module = torch.nn.MultiheadAttention(n, 1, bias=False, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        module.in_proj_weight.copy_(torch.cat([p["Aq1"], p["Ak1"], p["Av1"]]) / n**0.5)
        module.out_proj.weight.copy_(p["Ao1"] / n**0.5)
    h = torch.tensor(X) @ p["U"].T / FEATURES**0.5
    outputs = module(h, h, h)[0].mean(1) @ p["V"] / n**0.5
    weights = [module.in_proj_weight, module.out_proj.weight]
    rows = [torch.autograd.grad(f, weights, retain_graph=True) for f in outputs]
    J = np.stack([np.concatenate([g.numpy().ravel() for g in row]) for row in rows]) / n**0.5
    program = kernel.programs[TOKENS,]
    piece = Piece((TOKENS,), np.arange(len(X)), inputs.data[TOKENS,])
    f = program.outputs(piece, program.run(piece, drawn, {}), drawn)[0, :, 0]
    np.testing.assert_allclose(f, outputs.detach().numpy(), rtol=1e-11)
    matrices = tp.empirical_ntk(net, X, width=n, seed=5, trainable=["Aq1", "Ak1", "Av1", "Ao1"])
    np.testing.assert_allclose(matrices, J @ J.T, rtol=1e-10)


def test_the_empirical_ntk_converges_to_the_limit():
    net = block(causal=True)
    limit = tp.ntk(net)(X[:2])
    found = np.stack([tp.empirical_ntk(net, X[:2], width=256, seed=s) for s in range(24)])
    error = found.std(axis=0) / np.sqrt(len(found))
    assert (np.abs(found.mean(axis=0) - limit) < 4 * error + 12 / 256 * np.abs(limit)).all()
