"""Networks over positions at width n against PyTorch's convolutions and poolings: outputs, gradients, NTK."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite import families
from tensorprog.finite.descent import _weighted
from tensorprog.finite.empirical import FiniteNetwork
from tensorprog.finite.layerwise import Layerwise, Piece, size
from tests.convolutions import CASES, assert_close, flattened, pooled, untied

CHANNELS, WIDTH, SEEDS = 2, 16, [5, 6]


class Both:
    """One network on the same data and weights here and in torch."""

    def __init__(self, net, fn, sizes, dtype=np.float64):
        self.net, self.X = net, np.random.default_rng(3).standard_normal((3, *sizes, CHANNELS))
        self.inputs = read_inputs(self.X, "X", net.form)
        self.kernel = Layerwise(net, self.inputs, None, {})
        self.parameters = self.kernel.draw(WIDTH, SEEDS, dtype)
        biases = self.kernel.programs[sizes].trace.trainable.keys() - self.parameters.keys()
        self.parameters |= {n: np.full((len(SEEDS), 1), 0.7, dtype) for n in biases}
        self.runs = [self._torch(fn, k) for k in range(len(SEEDS))]

    def _torch(self, fn, k):
        p = {n: torch.tensor(w[k].astype(float), requires_grad=True) for n, w in self.parameters.items()}
        outputs, gradients = [], []
        for x in self.X:
            f = fn(p, torch.tensor(x).movedim(-1, 0)) + 0.5 * p.get("V.bias", torch.zeros(1))[0]
            found = torch.autograd.grad(f, list(p.values()))
            outputs.append(f.item())
            gradients.append({n: g.numpy() for n, g in zip(p, found, strict=True)})
        return np.array(outputs), gradients

    @property
    def torch_ntk(self):
        rows = [np.stack([np.concatenate([g.ravel() for g in of.values()]) for of in run]) for _, run in self.runs]
        return np.stack([J @ J.T for J in rows])


@pytest.fixture(scope="module", params=CASES)
def both(request):
    return Both(*CASES[request.param])


def test_outputs_of_all_inputs_equal_those_of_torch(both):
    ((sizes, data),) = both.inputs.data.items()
    piece, program = Piece(sizes, np.arange(3), data), both.kernel.programs[sizes]
    f = program.outputs(piece, program.run(piece, both.parameters, {}), both.parameters)
    assert_close(f[..., 0], np.stack([outputs for outputs, _ in both.runs]))


def test_gradients_of_every_parameter_equal_those_of_autograd(both):
    ((sizes, data),) = both.inputs.data.items()
    piece, program = Piece(sizes, np.arange(3), data), both.kernel.programs[sizes]
    pairs = program.pairs(piece, program.run(piece, both.parameters, {}))
    assert pairs.keys() == both.runs[0][1][0].keys()
    for name, uses in pairs.items():
        factor = program.std[name] / np.sqrt(size(uses[0]))
        for i in range(3):
            one = np.zeros((len(SEEDS), 3, 1))
            one[:, i] = factor
            found = sum(_weighted(use, one) for use in uses)
            for k, (_, gradients) in enumerate(both.runs):
                assert_close(found[k].reshape(gradients[i][name].shape), gradients[i][name])


def test_the_empirical_ntk_is_the_gram_matrix_of_torch_gradients(both):
    assert_close(both.kernel(both.parameters, {}), both.torch_ntk)


@pytest.mark.parametrize("looped", [-1e12, 1e12], ids=["products of positions", "gradients"])
def test_it_is_so_by_products_of_positions_and_by_gradients(both, looped, monkeypatch):
    monkeypatch.setattr(families, "LOOPED", looped)
    monkeypatch.setattr(families, "CHUNK", 1000)
    assert_close(both.kernel(both.parameters, {}), both.torch_ntk)


def test_so_is_the_sum_over_pairs_of_positions_of_one_program(both):
    finite = FiniteNetwork.of(both.net, both.inputs)
    values = finite.run(both.parameters)
    assert_close(finite.outputs(values, both.parameters), np.stack([outputs for outputs, _ in both.runs]))
    assert_close(finite.ntk(values), both.torch_ntk)


def test_float32_agrees_to_single_precision(both):
    (name,) = (n for n, case in CASES.items() if case[0] is both.net)
    single = Both(*CASES[name], dtype=np.float32)
    found = single.kernel(single.parameters, {})
    assert_close(found, single.torch_ntk, 1e-4)


# ---- tp.empirical_ntk ----------------------------------------------------------------------------


def test_the_kernel_of_freshly_drawn_networks_is_that_of_their_parameters(both):
    K = tp.empirical_ntk(both.net, both.X, width=WIDTH, seed=SEEDS[0], seeds=2)
    drawn = Layerwise(both.net, both.inputs, None, {}).draw(WIDTH, SEEDS)
    expected = both.kernel(drawn | {n: w for n, w in both.parameters.items() if n not in drawn}, {})
    assert_close(K, expected, 1e-13)


def test_images_of_different_sizes_have_one_kernel_and_its_blocks():
    rng, net = np.random.default_rng(0), pooled()
    X = [rng.standard_normal(shape) for shape in ((3, 4, 2), (5, 3, 2), (3, 4, 2))]
    K = tp.empirical_ntk(net, X, width=WIDTH, seed=2)
    assert_close(K, K.T, 1e-13)
    assert_close(tp.empirical_ntk(net, X[:1], X[1:], width=WIDTH, seed=2), K[:1, 1:], 1e-13)


@pytest.mark.parametrize("net, name", [(flattened(), "V"), (untied(), "U")], ids=lambda v: str(v))
def test_weights_for_every_position_need_inputs_of_one_size(net, name):
    X = [np.ones((4, 4, 2)), np.ones((6, 6, 2))]
    with pytest.raises(tp.DataError, match=f"{name} has weights for every position.* 4×4 and 6×6.*global_pool"):
        tp.empirical_ntk(net, X, width=4)


def test_a_window_that_does_not_fit_is_refused():
    with pytest.raises(tp.DataError, match="does not fit"):
        tp.empirical_ntk(pooled(padding="valid"), np.ones((2, 4, 4, 1)), width=4)


@pytest.mark.parametrize("net", [pooled(), flattened(), untied()], ids=str)
def test_the_mean_over_networks_approaches_the_limit(net):
    X = np.random.default_rng(1).standard_normal((2, 4, 4, 2))
    drawn = tp.empirical_ntk(net, X, width=256, seeds=24)
    K, error = tp.ntk(net)(X), drawn.std(axis=0, ddof=1) / 24**0.5
    assert (np.abs(drawn.mean(axis=0) - K) < 4 * error + 0.02 * np.abs(K)).all()
