"""Exponents of convergence, the limit of tied and untied weights, resuming."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.studies import convergence

rnn, mlp = tp.programs.rnn, tp.programs.mlp
SMALL = {"widths": (32, 64, 128), "seeds": 24}


def test_the_recurrent_kernel_comes_to_one_limit_with_tied_and_untied_weights(tmp_path):
    study = convergence(rnn(phi=tp.erf, sigma_b=0.3), **SMALL, out=tmp_path)
    assert study.passed and len(study.claims) == 3, study.text()
    assert study.numbers["error"].shape == (2, 3) and (np.diff(study.numbers["error"]) < 0).all()
    lines = [p.read_text() for p in sorted(tmp_path.glob("*.jsonl"))]
    again = convergence(rnn(phi=tp.erf, sigma_b=0.3), **SMALL, out=tmp_path)
    assert [p.read_text() for p in sorted(tmp_path.glob("*.jsonl"))] == lines and len(lines) == 2
    assert np.array_equal(again.numbers["error"], study.numbers["error"])
    assert all(p.stat().st_size > 500 for p in study.save(tmp_path))


def test_the_distance_is_that_of_the_kernels():
    net, X = mlp(depth=1, phi=tp.tanh), np.eye(2)
    study = convergence(net, X, widths=(16, 32), seeds=3)
    limit = tp.ntk(net)(X)
    runs = tp.empirical_ntk(net, X, width=32, seeds=3)
    expected = np.sqrt(np.mean((runs - limit) ** 2)) / np.abs(limit).max()
    assert study.numbers["error"][0, 1] == pytest.approx(expected, rel=1e-10)


def test_a_wrong_limit_is_noticed(monkeypatch):
    from tensorprog.studies import convergences

    monkeypatch.setattr(convergences, "ntk", lambda net: lambda X: 1.5 * tp.ntk(net)(X))
    study = convergence(mlp(depth=1, phi=tp.tanh), **SMALL)
    assert study.passed is False


BAD = {
    "one width": (lambda: convergence(mlp(), widths=(8,)), "two or more widths"),
    "a grid": (lambda: convergence(mlp(), grid={"depth": 3}), "must be a list"),
    "two of a grid": (lambda: convergence(mlp(), grid={"depth": [3], "sigma_w": [1]}), "at most 1"),
    "seeds": (lambda: convergence(mlp(), seeds=1), "seeds must be"),
    "seed": (lambda: convergence(mlp(), seed=-1), "seed must be"),
    "a jump": (lambda: convergence(mlp(phi=tp.sign)), "jumps"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(name):
    call, words = BAD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
