"""NTKTRAIN on one page: what it claims, what it refuses, what it writes."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.studies import ntktrain

SMALL = {"widths": (32, 64, 128), "seeds": 8, "steps": 3}


@pytest.mark.slow
def test_the_certificate_and_the_networks_agree(tmp_path):
    study = ntktrain(tp.programs.mlp(depth=2, phi=tp.tanh, sigma_b=0.3), **SMALL, out=tmp_path)
    assert study.passed and study.claims[0].passed, study.text()
    assert np.shape(study.numbers["f"][0]) == np.shape(study.numbers["prediction"][0]) == (8, 4, 3)
    assert all(p.stat().st_size > 500 for p in study.save(tmp_path))
    assert (tmp_path / "training.jsonl").exists()


@pytest.mark.slow
def test_a_readout_that_is_no_random_vector_is_said_first():
    study = ntktrain(tp.programs.mean_readout(phi=tp.relu), **SMALL)
    assert study.passed is False and any("diverges like √n" in c.detail for c in study.claims)


@pytest.mark.parametrize("y", [3, [[1.0]] * 3])
def test_labels_that_cannot_be_used_are_named(y):
    with pytest.raises(tp.TensorProgramError, match="y must have shape"):
        ntktrain(tp.programs.mlp(), np.eye(3), y)
