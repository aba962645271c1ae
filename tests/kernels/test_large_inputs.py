"""Kernels of inputs so large that smooth functions are steps, or products of variances no floats: right or refused."""

import numpy as np
import pytest
import sympy as sp
from mpmath import mp, mpf

import tensorprog as tp
from tensorprog.expectations.numeric import expectation
from tensorprog.functions import Tanh

X = np.array([[1.0, 0.0, 0.5], [0.6, 0.8, -0.3], [-1.0, 1e-17, -0.5], [1.0, 1e-9, 0.5]])
U = sp.Symbol("u", real=True)
WAYS = pytest.mark.parametrize("compute", [lambda K, x: K(x), lambda K, x: K.gram(x)], ids=["K", "gram"])
SCALES = [1e12, 1e25, 1e50, 1e75, 1e100, 1e120, 1e150]


def erf_ntk(x, y, same):
    """Depth 1, σ_w = √2, in 60 digits from the vectors: E erf erf + 2 ⟨x,y⟩/d E erf'erf'."""
    with mp.workdps(60):
        x, y = [mpf(float(a)) for a in x], [mpf(float(a)) for a in y]
        q, p, c = (2 * sum(a * b for a, b in zip(u, v, strict=True)) / 3 for u, v in ((x, x), (y, y), (x, y)))
        det = 1 + 2 * (q + p) + 4 * (0 if same else q * p - c * c)
        return float(2 / mp.pi * mp.atan2(2 * c, mp.sqrt(det)) + c * 4 / mp.pi / mp.sqrt(det))


@WAYS
@pytest.mark.parametrize("scale", SCALES)
def test_the_ntk_of_erf_at_any_size_also_of_nearly_parallel_inputs(compute, scale):
    x = X * scale
    want = [[erf_ntk(a, b, i == j) for j, b in enumerate(x)] for i, a in enumerate(x)]
    assert compute(tp.ntk(tp.programs.mlp(depth=1, phi=tp.erf)), x) == pytest.approx(np.array(want), rel=1e-9)


@WAYS
@pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("scale", SCALES[:1] + SCALES[2:])
def test_gelu_of_large_inputs_is_relu(compute, kernel, scale):
    """At inputs of size s the two differ by 1/s, and for the NTK of pairs at an angle θ by 1/(s θ)."""
    found = compute(kernel(tp.programs.mlp(depth=2, phi=tp.gelu)), X[:3] * scale) / scale / scale
    want = kernel(tp.programs.mlp(depth=2, phi=tp.relu))(X[:3])
    assert found == pytest.approx(want, rel=1e-11)


@WAYS
@pytest.mark.parametrize("scale", SCALES[1:4])
def test_tanh_of_large_inputs_is_a_sign_whose_derivative_is_a_delta(compute, scale):
    """Depth 1: 2 asin(ρ)/π + c 2/(π √det); of one input 1 + q (4/3)/√(2πq), its peak 1/√q wide."""
    x = X * scale
    found = compute(tp.ntk(tp.programs.mlp(depth=1, phi=tp.tanh)), x)
    q = 2 * np.einsum("nd,nd->n", x, x) / 3
    assert np.diag(found) == pytest.approx(1 + q * (4 / 3) / np.sqrt(2 * np.pi * q), rel=1e-12)
    with mp.workdps(60):
        a, b = ([mpf(float(v)) for v in row] for row in X[[0, 3]])
        p, r, c = (sum(s * t for s, t in zip(u, v, strict=True)) for u, v in ((a, a), (b, b), (a, b)))
        cot = c / mp.sqrt(p * r - c * c)
        want = float(2 / mp.pi * (mp.atan(cot) + cot))
    assert found[0, 3] == pytest.approx(want, rel=1e-9)
    assert found == pytest.approx(found.T, rel=1e-12)


@WAYS
def test_variances_whose_products_are_no_floats_are_named(compute):
    for kernel in (tp.nngp, tp.ntk):
        with pytest.raises(tp.AccuracyError, match=r"E tanh\(u1\)\*tanh\(u2\) at variances up to 8.*scale the inputs"):
            compute(kernel(tp.programs.mlp(depth=2, phi=tp.tanh)), X[:2] * 1e100)


@WAYS
@pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("phi", ["relu", "abs"])
@pytest.mark.parametrize("scale", [1e-150, 1e-100, 1e100, 1e150])
def test_homogeneous_networks_scale_exactly(compute, kernel, phi, scale):
    K = kernel(tp.programs.mlp(depth=3, phi=getattr(tp, phi)))
    assert compute(K, X * scale) / scale / scale == pytest.approx(compute(K, X), rel=1e-12)


@pytest.mark.parametrize("q", [1e6, 1e16, 1e24, 1e40, 1e80, 1e160, 1e300])
def test_one_narrow_feature_is_integrated_at_its_own_width(q):
    """∫ tanh'² = 4/3 and ∫ x² tanh'² = π²/9 − 2/3, so that E tanh'² = (4/3 − (π²/9 − 2/3)/2q + ..)/√(2πq)."""
    found = expectation(Tanh(U).diff(U) ** 2, (U,), [[q]])
    want = (4 / 3 - (np.pi**2 / 9 - 2 / 3) / (2 * q)) / np.sqrt(2 * np.pi * q)
    assert float(found.value) == pytest.approx(want, rel=1e-12)
    assert float(found.error) < 1e-11 * want


def test_a_feature_beside_zero_is_not_skipped():
    found = expectation(1 / sp.cosh(U - 7) ** 2, (U,), [[1e8]])
    assert float(found.value) == pytest.approx(
        2 / np.sqrt(2 * np.pi * 1e8) * (1 - (49 + np.pi**2 / 12) / 2e8), rel=1e-9
    )
