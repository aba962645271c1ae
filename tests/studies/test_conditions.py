"""κ, condition numbers and Theorem 5.3 against the recursions of the source written out, to 1e-8."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.studies import conditioning

mlp = tp.programs.mlp


def erf_kappa(depth, w2, b2, rho):
    """κ₁ and κ₂ of hidden weights and readout, and q̂, q̂' of the last layer, by q, q̂, p (Eq. 5-9, corrected)."""

    def V(c, q):
        return 2 / np.pi * np.arcsin(2 * c / (1 + 2 * q))

    def dV(c, q):
        return 4 / np.pi / np.sqrt((1 + 2 * q) ** 2 - 4 * c * c)

    q, c = [w2 + b2], [w2 * rho + b2]
    for _ in range(depth - 1):
        q.append(w2 * V(q[-1], q[-1]) + b2)
        c.append(w2 * V(c[-1], q[-2]) + b2)
    found = []
    for s in (q, c):
        hat = [V(x, y) for x, y in zip(s, q, strict=True)]
        total, p = hat[-1], dV(s[-1], q[-1])  # the readout; p of the last hidden layer
        for l in range(depth - 2, -1, -1):
            total += hat[l] * p
            p *= w2 * dV(s[l], q[l])
        found += [total, hat[-1]]
    return found[0], found[2], found[1], found[3]


@pytest.mark.parametrize("depth", [1, 6])
def test_kappa_is_that_of_the_source(depth):
    n = conditioning(
        mlp(phi=tp.erf, sigma_w=1.5, sigma_b=0.3), depths=[depth], correlation=0.4, samples=6, trained="W"
    ).numbers
    k1, k2, q, cross = erf_kappa(depth, 2.25, 0.09, 0.4)
    assert n["kappa1"][0, 0] == pytest.approx(k1, rel=1e-9) and n["kappa2"][0, 0] == pytest.approx(k2, rel=1e-9)
    theta = np.full((7, 7), k2) + (k1 - k2) * np.eye(7)
    K = np.full((7, 7), cross) + (q - cross) * np.eye(7)
    row = np.append(
        -np.linalg.solve(theta[:6, :6], theta[:6, 6]), 1.0
    )  # f_∞(x) = f_0(x) − Θ(x,X) Θ⁻¹ f_0(X) + what y says
    assert n["variance"][0, 0] == pytest.approx(row @ K @ row, rel=1e-8)
    assert n["condition"][0, 0] == pytest.approx(np.linalg.cond(theta[:6, :6]), rel=1e-8)


@pytest.mark.slow
def test_the_kernel_is_ill_conditioned_in_order_and_well_in_chaos(tmp_path):
    study = conditioning(mlp(phi=tp.erf, sigma_b=0.3), grid={"sigma_w": [0.8, 2.0]}, depths=[2, 4, 8])
    assert study.passed and all(c.passed for c in study.claims), study.text()
    ratio = study.numbers["ratio"]
    assert abs(ratio[0, -1] - 1) < 0.1 and ratio[1, -1] > 1.5
    assert all(p.stat().st_size > 500 for p in study.save(tmp_path))


def test_the_variance_is_that_of_the_ensemble():
    """Of the ensemble of trained networks, by the dynamics of the package, at t = ∞."""
    net, rho, samples = mlp(depth=2, phi=tp.tanh, sigma_b=0.2), 0.5, 3
    X = 2 * (np.sqrt(1 - rho) * np.eye(4) + (np.sqrt(1 + 3 * rho) - np.sqrt(1 - rho)) / 4)
    np.testing.assert_allclose(X @ X.T / 4, rho + (1 - rho) * np.eye(4), atol=1e-12)
    theta, K = tp.ntk(net)(X), tp.nngp(net)(X)
    row = np.append(-np.linalg.solve(theta[:3, :3], theta[:3, 3]), 1.0)
    n = conditioning(net, depths=[2], correlation=rho, samples=samples).numbers
    assert n["variance"][0, 0] == pytest.approx(row @ K @ row, rel=1e-8)


BAD = {
    "correlation": (lambda: conditioning(mlp(), correlation=1.0), "below 1"),
    "depths": (lambda: conditioning(mlp(), depths=3), "depths must be a list"),
    "a depth": (lambda: conditioning(mlp(), depths=[0]), "depths must be"),
    "trained": (lambda: conditioning(mlp(), trained="x"), "trained is 'w'"),
    "sequences": (lambda: conditioning(tp.programs.rnn()), "does not take vectors"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_be_used_is_named(name):
    call, words = BAD[name]
    with pytest.raises(tp.TensorProgramError, match=words):
        call()
