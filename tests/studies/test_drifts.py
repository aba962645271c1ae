"""The kernel's drift: exponents, phases, the numbers of a run written out, divergence."""

import numpy as np
import pytest
import torch

import tensorprog as tp
from tensorprog.studies import drift

mlp = tp.programs.mlp
X = np.random.default_rng(4).standard_normal((4, 3))
Y = np.array([1.0, -1.0, 0.5, -0.5])


@pytest.mark.slow
@pytest.mark.parametrize("phi", [tp.tanh, tp.relu])
def test_the_drift_shrinks_with_its_exponent(phi, tmp_path):
    study = drift(mlp(depth=2, phi=phi, sigma_b=0.3), times=(5, 20), widths=(32, 128, 512), seeds=8, out=tmp_path)
    assert study.passed and study.numbers["drift"].shape == (3, 2), study.text()
    assert (np.diff(study.numbers["drift"], axis=0) < 0).all() and study.numbers["lr"] > 0
    again = drift(mlp(depth=2, phi=phi, sigma_b=0.3), times=(5, 20), widths=(32, 128, 512), seeds=8, out=tmp_path)
    assert np.array_equal(again.numbers["drift"], study.numbers["drift"])
    assert all(p.stat().st_size > 500 for p in study.save(tmp_path))


def kernel(p, x, d):
    """The NTK of one hidden layer by autograd, at weights in NTK parametrization."""
    rows = []
    for xi in x:
        f = p[1] @ torch.tanh(1.4 * p[0] @ xi / d**0.5) / len(p[1]) ** 0.5
        rows.append(torch.cat([g.ravel() for g in torch.autograd.grad(f, p)]))
    return torch.stack(rows) @ torch.stack(rows).T


def test_the_drift_is_that_of_training_in_torch():
    from tensorprog.derivation.data import read_inputs
    from tensorprog.finite.trajectories import FiniteTraining

    net, n, x, y = mlp(depth=1, phi=tp.tanh, sigma_w=1.4), 16, torch.tensor(X), torch.tensor(Y)
    study = drift(net, X, Y, times=(3,), lr=0.4, widths=(n,), seeds=2)
    run = FiniteTraining(net, read_inputs(X, "X", "vectors"), Y, 3, tp.SGD(0.4), 4)
    squares = []
    for seed in (0, 1):
        drawn, _ = run.descent.draw(n, [seed])
        p = [torch.tensor(drawn[k][0], requires_grad=True) for k in ("U", "V")]
        before = kernel(p, x, 3)
        for _ in range(3):
            f = torch.tanh(1.4 * x @ p[0].T / 3**0.5) @ p[1] / n**0.5
            grads = torch.autograd.grad(((f - y) ** 2).mean() / 2, p)
            p = [(w - 0.4 * g).detach().requires_grad_() for w, g in zip(p, grads, strict=True)]
        squares.append(float(torch.linalg.norm(kernel(p, x, 3) - before) / torch.linalg.norm(before)) ** 2)
    assert study.numbers["drift"][0, 0] == pytest.approx(np.sqrt(np.mean(squares)), rel=1e-9)


@pytest.mark.slow
def test_deep_chaotic_networks_drift_more_than_shallow_ones():
    grid = {"sigma_w": [1.0, 2.2], "depth": [2, 8]}
    study = drift(mlp(phi=tp.tanh, sigma_b=0.3), grid=grid, times=(20,), widths=(48,), seeds=6)
    claim = next(c for c in study.claims if "chaos" in c.name)
    assert claim.passed, study.text()
    moved = study.numbers["drift"][..., 0, 0]
    assert moved[1, 1] > 3 * moved[0, 1]


def test_a_run_that_explodes_fails_in_words():
    study = drift(mlp(depth=2, phi=tp.relu), X, Y, times=(6,), lr=50.0, widths=(16, 32), seeds=2)
    assert study.passed is False and "diverges" in study.text() and "nan" in study.json()


BAD = {
    "times": (lambda: drift(mlp(), times=0), "times must be a list"),
    "a time": (lambda: drift(mlp(), times=[0]), "times must be"),
    "lr": (lambda: drift(mlp(), lr="a"), "lr must be"),
    "y": (lambda: drift(mlp(), X, Y[:, None, None]), "y must have shape"),
    "grid": (lambda: drift(mlp(), grid=3), "grid must map"),
    "a jump": (lambda: drift(mlp(phi=tp.sign)), "jump|delta"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(name):
    call, words = BAD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
