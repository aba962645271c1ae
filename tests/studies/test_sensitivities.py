"""∇_{x_t} Θ(x, x') against autograd through the recursion written out, and against what homogeneity says."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.studies import sensitivity
from tensorprog.studies.sensitivities import gradient_by_inputs

rnn, mlp = tp.programs.rnn, tp.programs.mlp
RNG = np.random.default_rng(3)
A, B = RNG.standard_normal((5, 4, 2)), RNG.standard_normal((5, 4, 2))


def erf_rntk(x, y, w2, u2, b2):
    """Θ of a one-layer erf RNN with tied weights, for sequences of one length (Alemohammad et al. 2021, Eq. 11-19)."""

    def V(q1, c, q2):
        return 2 / np.pi * torch.asin(2 * c / torch.sqrt((1 + 2 * q1) * (1 + 2 * q2)))

    def dV(q1, c, q2):
        return 4 / np.pi / torch.sqrt((1 + 2 * q1) * (1 + 2 * q2) - 4 * c * c)

    grams = [(x * x).sum(-1) / x.shape[-1], (x * y).sum(-1) / x.shape[-1], (y * y).sum(-1) / x.shape[-1]]
    s = [u2 * g[0] + b2 for g in grams]
    theta = s[1]
    for t in range(1, len(x)):
        before = s
        pairs = [(before[0],) * 3, tuple(before), (before[2],) * 3]
        s = [w2 * V(*p) + u2 * g[t] + b2 for p, g in zip(pairs, grams, strict=True)]
        theta = s[1] + w2 * dV(*before) * theta
    return V(*s) + dV(*s) * theta


def test_derivatives_are_those_of_autograd():
    kernel = tp.ntk(rnn(phi=tp.erf, sigma_w=1.3, sigma_u=0.8, sigma_b=0.4))
    gradient, value, _ = gradient_by_inputs(kernel, A, B)
    for p in range(5):
        x, y = torch.tensor(A[p], requires_grad=True), torch.tensor(B[p])
        expected = erf_rntk(x, y, 1.69, 0.64, 0.16)
        (slope,) = torch.autograd.grad(expected, x)
        assert value[p] == pytest.approx(expected.item(), rel=1e-12)
        np.testing.assert_allclose(gradient[p], slope.numpy(), atol=1e-10)


@pytest.mark.parametrize("net", [rnn(phi=tp.relu, sigma_w=1.2), rnn(phi=tp.relu, layers=2)], ids=["one", "two"])
def test_a_homogeneous_kernel_is_the_sum_of_its_derivatives(net):
    gradient, value, _ = gradient_by_inputs(tp.ntk(net), A, B)
    np.testing.assert_allclose((gradient * A).sum(axis=(1, 2)), value, rtol=1e-9)


def test_the_study_says_where_relu_listens():
    grid = {"sigma_w": [1.0, 2**0.5, 2.0]}
    study = sensitivity(rnn(phi=tp.relu), grid=grid, length=8, pairs=60)
    s = study.numbers["sensitivity"]
    assert study.passed and s.shape == (3, 8), study.text()
    assert s[0, -1] > 2 * s[0, 0] and s[2, 0] > 2 * s[2, -1]  # below √2 to the last times, above to the first
    assert s[1].max() < 2 * s[1].min()


def test_vectors_have_one_time(tmp_path):
    study = sensitivity(mlp(phi=tp.tanh), A[:, 0], B[:, 0])
    assert study.passed and study.numbers["sensitivity"].tolist() == [[1.0]]
    assert all(p.stat().st_size > 500 for p in study.save(tmp_path))


@pytest.mark.slow
def test_derivatives_by_all_times_take_a_few_times_the_kernel():
    x, y = RNG.standard_normal((2, 400, 20, 2))
    assert min(gradient_by_inputs(tp.ntk(rnn(phi=tp.relu)), x, y)[2] for _ in range(3)) < 8


BAD = {
    "one side": (lambda: sensitivity(rnn(), A), "both X and X2"),
    "other numbers": (lambda: sensitivity(rnn(), A, B[:3]), "as many inputs"),
    "positions": (lambda: sensitivity(tp.programs.cnn()), "neither vectors nor sequences"),
    "length": (lambda: sensitivity(rnn(), length=0), "length must be"),
    "grid": (lambda: sensitivity(rnn(), grid={"a": [1]}), "no hyperparameter 'a'"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(name):
    call, words = BAD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
