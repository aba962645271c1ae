"""Compiled kernels of random networks against the reference evaluator, on both machines."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs

PHIS = ["relu", "erf", "gelu", "abs", "sin", "cos", "leaky_relu", "tanh", "gauss", "softplus"]
NETS = {
    programs.mlp: ("depth", "sigma_b", "sigma_v"), programs.residual_mlp: ("depth", "sigma_v"),
    programs.tied_mlp: ("depth", "sigma_u"), programs.mean_readout: ("depth",), programs.tied_autoencoder: ("sigma_u",),
    programs.rnn: ("layers", "sigma_b", "sigma_u", "sigma_h"),
}  # fmt: skip


def random_network(seed):
    rng = np.random.default_rng(seed)
    make = list(NETS)[seed % len(NETS)]
    scale = lambda: float(rng.choice([0, 1, round(rng.uniform(0.3, 1.6), 2)], p=[0.2, 0.2, 0.6]))  # noqa: E731
    sizes = {"depth": int(rng.integers(1, 5)), "layers": int(rng.integers(1, 3))}
    kw = {name: sizes[name] if name in sizes else scale() for name in NETS[make]}
    kw.update({name: 1.0 for name in ("sigma_v", "sigma_u") if kw.get(name) == 0})
    return make(phi=tp.NONLINEARITIES[str(rng.choice(PHIS))], sigma_w=scale() or 0.8, **kw), rng


@pytest.mark.parametrize("seed", range(36))
def test_compiled_kernels_equal_the_reference(seed):
    network, rng = random_network(seed)
    shape = (5, 3, 4) if network.takes_sequences else (5, 4)
    X = rng.normal(size=shape)
    X[1], X[2] = X[0], X[0] * 2
    K = tp.ntk(network)
    want = K(X)
    for backend in (None, "numpy"):
        ours = K.gram(X, backend=backend)
        assert np.abs(ours - want).max() < 1e-12 * np.abs(want).max()
