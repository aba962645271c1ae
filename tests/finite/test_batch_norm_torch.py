"""Batch normalisation at width n against PyTorch's in training mode, on the same weights: outputs, gradients, NTK."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.layerwise import Layerwise, Piece

MEMBERS, FEATURES, WIDTH = 5, 3, 12
X = np.random.default_rng(1).standard_normal((2, MEMBERS, FEATURES))
PHI = {"relu": (tp.relu, torch.relu), "tanh": (tp.tanh, torch.tanh), "identity": (tp.identity, lambda x: x)}


@tp.network
def normed(net, x, *, phi=tp.relu, eps=1e-5):
    h = net.embed("U", x, std=1.2) + net.bias("b", std=0.4)
    h = h + net.dense("W", phi(net.batch_norm(h, eps)), std=1.3) + net.bias("c", std=0.5)
    return net.readout("V", phi(net.batch_norm(h, eps)), std=0.7, bias=0.2)


def normed_torch(p, x, phi, eps):
    """``x`` is (members, features); weights are N(0, 1)."""
    norm = torch.nn.BatchNorm1d(WIDTH, eps=eps, affine=False, track_running_stats=False).double().train()
    h = 1.2 * x @ p["U"].T / FEATURES**0.5 + 0.4 * p["b"]
    h = h + 1.3 * phi(norm(h)) @ p["W"].T / WIDTH**0.5 + 0.5 * p["c"]
    return 0.7 * phi(norm(h)) @ p["V"] / WIDTH**0.5 + 0.2 * p["V.bias"]


@pytest.mark.parametrize("eps", [1e-5, 0.5])
@pytest.mark.parametrize("name", PHI)
def test_outputs_and_gradients_of_every_member_equal_those_of_torch(name, eps):
    ours, theirs = PHI[name]
    net = normed(phi=ours, eps=eps)
    inputs = read_inputs(X, "X", net.form)
    kernel = Layerwise(net, inputs, None, {}, every_head=True)
    parameters = kernel.draw(WIDTH, [7])
    parameters |= {"V.bias": np.random.default_rng(3).standard_normal((1, 1))}
    weights = {n: torch.tensor(w[0], requires_grad=True) for n, w in parameters.items()}
    outputs = [normed_torch(weights, torch.tensor(x), theirs, eps) for x in X]
    rows = [torch.autograd.grad(f, list(weights.values()), retain_graph=True) for out in outputs for f in out.ravel()]
    J = np.stack([np.concatenate([g.numpy().ravel() for g in row]) for row in rows])
    wanted = (J @ J.T).reshape(2, MEMBERS, 2, MEMBERS).swapaxes(1, 2)
    program = kernel.programs[MEMBERS,]
    piece = Piece((MEMBERS,), np.arange(len(X)), inputs.data[MEMBERS,])
    f = program.outputs(piece, program.run(piece, parameters, {}), parameters)[0]
    np.testing.assert_allclose(f, [o.detach().numpy().ravel() for o in outputs], rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(kernel.outputs(parameters, {})[0], f, rtol=1e-12)
    found = kernel.between(parameters, {}, range(MEMBERS))[0]
    np.testing.assert_allclose(found, wanted, rtol=1e-9, atol=1e-9 * np.abs(wanted).max())


def test_without_eps_it_is_the_limit_of_small_ones():
    exact, small = (tp.empirical_ntk(normed(eps=eps), X, width=16) for eps in (0, 1e-9))
    assert np.abs(exact - small).max() < 1e-6 * np.abs(exact).max()
