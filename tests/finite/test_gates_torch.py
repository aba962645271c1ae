"""Gated recurrent layers at width n against torch.nn.GRU and torch.nn.LSTM, on the same weights."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.layerwise import Layerwise, Piece

TIMES, FEATURES, WIDTH = 4, 3, 10
X = np.random.default_rng(2).standard_normal((3, TIMES, FEATURES))
STD, STD_U, BIAS = 1.3, 0.8, 0.4


@tp.network
def recurrent(net, x, *, layer="gru", layers=1, both=False):
    read = getattr(net, layer)
    states = x
    for l in range(1, layers + 1):
        states = read(("G", l), states, STD, STD_U, BIAS)
    if both:
        back = read("B", x, STD, STD_U, BIAS, reverse=True)
        states = [h + b for h, b in zip(states, back, strict=True)]
    total = states[0] + 2 * states[-1]
    return net.readout("V", total)


GATES = {"gru": "rzn", "lstm": "ifgo"}


def module_of(layer, key, p, inputs):
    """The module of torch with the weights that a layer was drawn with."""
    stem, index = key
    module = getattr(torch.nn, layer.upper())(inputs, WIDTH, batch_first=True, dtype=torch.float64)
    named = lambda letter: [p[f"{letter}{stem}{g}{index}"] for g in GATES[layer]]  # noqa: E731
    hidden = [torch.zeros(WIDTH, dtype=torch.float64)] * len(GATES[layer])
    if layer == "gru":
        hidden = [*hidden[:2], BIAS * p[f"c{stem}n{index}"]]
    return module, {
        "weight_ih_l0": torch.cat(named("U")) * STD_U / inputs**0.5,
        "weight_hh_l0": torch.cat(named("W")) * STD / WIDTH**0.5,
        "bias_ih_l0": torch.cat(named("b")) * BIAS,
        "bias_hh_l0": torch.cat(hidden),
    }


def by_torch(p, x, layer, layers, both):
    states = x[None]
    for l in range(1, layers + 1):
        module, weights = module_of(layer, ("G", l), p, states.shape[-1])
        states = torch.func.functional_call(module, weights, (states,))[0]
    if both:
        module, weights = module_of(layer, ("B", ""), p, FEATURES)
        states = states + torch.func.functional_call(module, weights, (x[None].flip(1),))[0].flip(1)
    return p["V"] @ (states[0, 0] + 2 * states[0, -1]) / WIDTH**0.5


@pytest.mark.parametrize("layer", GATES)
@pytest.mark.parametrize(("layers", "both"), [(1, False), (2, False), (1, True)], ids=["one", "two", "bidirectional"])
def test_outputs_and_the_ntk_equal_those_of_torch(layer, layers, both):
    net = recurrent(layer=layer, layers=layers, both=both)
    inputs = read_inputs(X, "X", net.form)
    kernel = Layerwise(net, inputs, None, {})
    parameters = kernel.draw(WIDTH, [7], np.float64)
    weights = {name: torch.tensor(w[0], requires_grad=True) for name, w in parameters.items()}
    outputs = [by_torch(weights, torch.tensor(x), layer, layers, both) for x in X]
    gradients = [torch.autograd.grad(f, list(weights.values()), retain_graph=True) for f in outputs]
    J = np.stack([np.concatenate([g.numpy().ravel() for g in row]) for row in gradients])
    program = kernel.programs[TIMES]
    piece = Piece(TIMES, np.arange(len(X)), inputs.data[TIMES])
    f = program.outputs(piece, program.run(piece, parameters, {}), parameters)[0, :, 0]
    np.testing.assert_allclose(f, [o.item() for o in outputs], rtol=1e-11, atol=1e-13)
    np.testing.assert_allclose(kernel(parameters, {})[0], J @ J.T, rtol=1e-11, atol=1e-12)
