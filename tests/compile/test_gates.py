"""Compiled kernels of networks whose vectors are multiplied by functions of vectors that no input enters."""

import numpy as np
import pytest

import tensorprog as tp

GATES = {
    "step": tp.step,
    "exp": tp.exp,
    "sigmoid": tp.sigmoid,
    "relu": tp.relu,
    "erf": tp.erf,
    "square": lambda m: m * m,
}
PHIS = {"relu": tp.relu, "erf": tp.erf, "tanh": tp.tanh, "abs": tp.abs, "sin": tp.sin}
X = np.random.default_rng(0).standard_normal((6, 4))
KERNELS = {"state": tp.ntk, "bias": tp.nngp}  # the NTK of a trained vector under a step is infinite


def gated(gate, phi, source, depth=2, std=1.0, offset=0.0):
    """depth layers, each multiplied by a gate of its own, and a state added where ``offset`` is not 0."""

    @tp.network
    def net_(net, x):
        h = net.embed("U", x)
        for layer in range(depth):
            g = gate(getattr(net, source)(("m", layer), std=std))
            h = net.dense(("W", layer), phi(h) * g)
            h = h + net.state(("c", layer), std=offset) if offset else h
        return net.readout("V", phi(h))

    return net_()


def agree(kernel, X, tolerance=1e-10):
    want = kernel(X)
    size = np.abs(want).max()
    for backend in ("numpy", None):
        assert np.abs(kernel.gram(X, backend=backend) - want).max() < tolerance * size
    assert np.abs(kernel.gram(X, block=4) - want).max() < tolerance * size
    assert np.abs(kernel.gram(X, X[:2] + 0.1) - kernel(X, X[:2] + 0.1)).max() < tolerance * size
    assert np.abs(kernel.gram(X, dtype="float32") - want).max() < 2e-5 * size


@pytest.mark.parametrize("source", KERNELS)
@pytest.mark.parametrize("gate", GATES)
def test_gram_equals_the_kernel_for_every_gate(gate, source):
    for phi in ("relu", "erf"):
        net = gated(GATES[gate], PHIS[phi], source)
        agree(tp.nngp(net), X)
        agree(KERNELS[source](net), X)


@pytest.mark.parametrize("seed", range(24))
def test_gram_equals_the_kernel_for_random_gates(seed):
    rng = np.random.default_rng(seed)
    gate, phi = (str(rng.choice(list(d))) for d in (GATES, PHIS))
    std, offset = float(rng.choice([0.3, 1.0, 1.7])), float(rng.choice([0.0, 0.5]))
    source = str(rng.choice(["state", "bias"]))
    net = gated(GATES[gate], PHIS[phi], source, int(rng.integers(1, 4)), std, offset)
    Y = rng.standard_normal((5, 3))
    Y[1], Y[2], Y[3] = -Y[0], 2 * Y[0], Y[0] + 1e-9
    agree(KERNELS[source](net), Y, 1e-10)


def test_the_value_of_a_gate_by_states_is_the_closed_form():
    """E step(m) = ½ for each input's own state: the covariance is V/4, the variances V/2, so ρ is half of it."""
    net = gated(tp.step, tp.relu, "state", depth=1)
    q = np.einsum("id,id->i", X, X) / 4
    scale = np.sqrt(np.outer(q, q))

    def arc(rho):
        rho = np.clip(rho, -1, 1)
        return (np.sqrt(1 - rho**2) + (np.pi - np.arccos(rho)) * rho) / (2 * np.pi)

    c = scale * arc(X @ X.T / 4 / scale) / 4
    size = np.sqrt(np.outer(q, q)) / 4
    want = size * arc(c / size)
    np.fill_diagonal(want, q / 8)
    assert np.abs(tp.nngp(net).gram(X) - want).max() < 1e-13


def test_angles_behind_a_gate_keep_their_digits_for_almost_parallel_inputs():
    """A shared gate scales covariance and variances alike: 1 − ρ is that of the layer below, and step has its angle."""

    @tp.network
    def stepped(net, x, *, gate):
        h = tp.relu(net.embed("U", x))
        return net.readout("V", tp.step(net.dense("W", h * tp.exp(net.bias("m")) if gate else h)))

    x = np.array([[1.0, 0.5, -0.3]])
    both = np.concatenate([x, x + 1e-7 * np.array([[0.2, -1.0, 0.4]])])
    plain, kernel = (tp.nngp(stepped(gate=gate)) for gate in (False, True))
    for found in (kernel.gram(both), kernel.gram(both, backend="numpy"), kernel(both)):
        assert np.abs(found - plain(both)).max() < 2e-15
    assert 1e-9 < 0.5 - plain(both)[0, 1] < 1e-7
