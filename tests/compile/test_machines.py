"""The machines against the reference evaluator, against mpmath where that has lost the angle, and at the edges."""

import mpmath as mp
import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile.schedule import TILE

RNG = np.random.default_rng(0)
X, Y = RNG.normal(size=(TILE + 22, 6)), RNG.normal(size=(TILE + 12, 6))
CLOSED = ["relu", "erf", "gelu", "abs", "sin", "cos", "leaky_relu"]
BACKENDS = ["numba", "numpy"]


def net(phi, depth=3, **kw):
    return programs.mlp(phi=tp.NONLINEARITIES[phi], depth=depth, **{"sigma_w": 1.3, "sigma_b": 0.2, **kw})


def off(a, b):
    """The largest difference, relative to the size of the kernel."""
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("phi", CLOSED)
@pytest.mark.parametrize("sigma_b", [0.2, 0])
def test_both_kernels_in_one_pass_equal_the_reference(phi, backend, sigma_b):
    kernels = [tp.nngp(net(phi, sigma_b=sigma_b)), tp.ntk(net(phi, sigma_b=sigma_b))]
    for a, b in ((X, None), (X, Y)):
        for ours, kernel in zip(tp.gram(kernels, a, b, backend=backend), kernels, strict=True):
            assert off(ours, kernel(a, b)) < 1e-13


@pytest.mark.parametrize("phi", ["step", "sign"])
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("sigma_b", [0.2, 0])
def test_functions_with_jumps_have_their_nngp(phi, backend, sigma_b):
    K = tp.nngp(net(phi, sigma_b=sigma_b))
    assert off(K.gram(X, Y, backend=backend), K(X, Y)) < 1e-13


@pytest.mark.parametrize("phi, sigma_w", [("exp", 0.4), ("gauss", 1.4), ("tanh", 1.3)])
@pytest.mark.parametrize("sigma_b", [0.2, 0])
def test_other_functions_one_layer(phi, sigma_w, sigma_b):
    K = tp.nngp(net(phi, 1, sigma_w=sigma_w, sigma_b=sigma_b))
    assert off(K.gram(X, Y), K(X, Y)) < 1e-13


@pytest.mark.parametrize("make", [programs.residual_mlp, programs.tied_autoencoder, programs.mean_readout,
                                  programs.deep_linear, programs.tied_mlp])  # fmt: skip
@pytest.mark.parametrize("kw", [{}, {"sigma_w": 1.4}, {"sigma_w": 0.7, "phi": tp.erf}, {"phi": tp.gelu}], ids=str)
def test_the_rest_of_the_gallery(make, kw):
    if make is programs.deep_linear:
        kw = {key: value for key, value in kw.items() if key != "phi"}
    K, few = tp.ntk(make(**kw)), slice(4)
    assert off(K.gram(X[few], Y[few]), K(X[few], Y[few])) < 1e-13


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("phi", CLOSED)
@pytest.mark.parametrize("depth", [3, 8])
def test_single_precision(phi, depth, backend):
    K = tp.ntk(net(phi, depth))
    x = X.astype(np.float32)
    ours = K.gram(x, dtype=np.float32, backend=backend)
    assert ours.dtype == np.float32 and off(ours, K(x)) < 1e-6
    assert np.allclose(np.diag(ours), np.diag(K(x)), rtol=6e-8, atol=0)


def relu_ntk(x, y, depth, w2, b2):
    """The NTK of a relu network at 60 digits (Jacot et al. 2018)."""

    def dot(a, b):
        return mp.fsum(mp.mpf(float(s)) * mp.mpf(float(t)) for s, t in zip(a, b, strict=True)) / len(a)

    q1, q2, c = (w2 * dot(*p) + b2 for p in ((x, x), (y, y), (x, y)))
    theta = c
    for last in [False] * (depth - 1) + [True]:
        size = mp.sqrt(q1 * q2)
        angle = mp.acos(min(mp.mpf(1), c / size))
        v = size * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi)
        slope = (mp.pi - angle) / (2 * mp.pi)
        scale, shift = (1, 0) if last else (w2, b2)
        q1, q2, c = scale * q1 / 2 + shift, scale * q2 / 2 + shift, scale * v + shift
        theta = c + scale * slope * theta
    return theta


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("depth, w2, b2", [(1, 2, 0), (3, 2, 0), (3, mp.mpf("0.01"), 1), (30, 2, 0)])
def test_almost_parallel_inputs_keep_all_digits(backend, depth, w2, b2):
    x = np.stack([X[0], X[0] + 1e-3, X[0] + 1e-6 * X[1], X[0] * 2, X[0] + 1e-9 * X[1], X[0], -X[0], X[2]])
    K = tp.ntk(programs.mlp(phi=tp.relu, depth=depth, sigma_w=float(mp.sqrt(w2)), sigma_b=float(mp.sqrt(b2))))
    ours = K.gram(x, backend=backend)
    with mp.workdps(60):
        exact = np.array([[float(relu_ntk(a, b, depth, w2, b2)) for a in x] for b in x])
    assert np.abs(ours - exact).max() < 1e-13 * np.abs(exact).max()


@pytest.mark.parametrize("backend", BACKENDS)
def test_numbers_as_inputs_have_exact_angles(backend):
    x = np.array([[1.0], [2.0], [-0.5], [0.0], [1e-3]])
    K = tp.ntk(net("relu", 4))
    with mp.workdps(60):
        w2, b2 = mp.mpf("1.69"), mp.mpf("0.04")
        exact = np.array([[float(relu_ntk(a, b, 4, w2, b2)) for a in x] for b in x])
    assert np.abs(K.gram(x, backend=backend) / exact - 1).max() < 1e-13


@pytest.mark.parametrize("backend", BACKENDS)
def test_zero_inputs_without_bias(backend):
    x = np.vstack([X[:3], np.zeros((2, 6))])
    K = tp.ntk(net("relu", sigma_b=0))
    assert np.all(K.gram(x, backend=backend)[3:] == 0) and off(K.gram(x, x, backend=backend), K(x, x)) < 1e-13


def test_symmetric_to_the_last_bit_with_an_exact_diagonal():
    for phi in ("relu", "erf"):
        K = tp.ntk(net(phi, 10))
        ours = K.gram(RNG.normal(size=(300, 5)))
        assert np.array_equal(ours, ours.T)
    x = RNG.normal(size=(20, 5))
    q = 2 * np.einsum("nd,nd->n", x, x) / 5
    deep = tp.ntk(programs.mlp(depth=50)).gram(x)
    assert np.abs(np.diag(deep) / (q * 51 / 2) - 1).max() < 1e-14  # Θ(x,x) = (L + 1) Σ/2 at σ_w² = 2


def test_a_hundred_layers():
    K = tp.nngp(programs.mlp(depth=100))
    x = RNG.normal(size=(6, 4))
    with mp.workdps(60):
        q = [[mp.fsum(mp.mpf(s) * mp.mpf(t) for s, t in zip(a, b, strict=True)) * 2 / 4 for b in x] for a in x]
        for i in range(6):
            for j in range(6):
                size, rho = mp.sqrt(q[i][i] * q[j][j]), q[i][j] / mp.sqrt(q[i][i] * q[j][j])
                for _ in range(100):
                    angle = mp.acos(rho) if i != j else mp.mpf(0)
                    rho = (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / mp.pi
                assert abs(K.gram(x)[i, j] / float(size * rho / 2) - 1) < 1e-13


def test_hyperparameters_as_symbols():
    import sympy as sp

    s = sp.Symbol("sigma_w", positive=True)
    K = tp.ntk(programs.mlp(depth=2, sigma_w=s))
    assert off(K.gram(X, values={s: 1.2}), K(X, values={s: 1.2})) < 1e-13
    with pytest.raises(tp.DataError, match="no value for sigma_w"):
        K.gram(X)


def test_the_source_lists_every_operation_and_no_text_of_the_user():
    import sympy as sp

    s = sp.Symbol("evil__import__", positive=True)
    text = tp.ntk(programs.mlp(depth=2, sigma_w=s)).source({s: 1.0})
    assert "evil" not in text and "cosine(x[0], y[0])" in text and text.splitlines()[-1].startswith("return v")
    assert text.count("relu_gap(") > 2


@pytest.mark.filterwarnings("ignore:.*underflow:tensorprog.AccuracyWarning")  # tested in kernels/test_underflow
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("phi", ["step", "relu", "erf"])
@pytest.mark.parametrize("sigma_w", [0, 1e-200])
def test_weights_of_no_variance(phi, sigma_w, backend):
    import sympy as sp

    s = sp.Symbol("s", nonnegative=True)
    K = tp.nngp(programs.mlp(phi=tp.NONLINEARITIES[phi], depth=1, sigma_w=s))
    assert np.array_equal(K.gram(X[:4], values={s: sigma_w}, backend=backend), np.zeros((4, 4)))


@pytest.mark.parametrize("kernel", [tp.nngp, tp.ntk])
def test_sums_with_very_many_paths(kernel):
    """c' = w c + a c'' has as many paths as the Fibonacci numbers."""
    import sympy as sp

    s = sp.Symbol("s", positive=True)

    @tp.network
    def two_back(net, x, *, depth):
        a = b = net.embed("U", x)
        for layer in range(depth):
            a, b = net.dense(("W", layer), a, std=s) + net.dense(("A", layer), b, std=s), a
        return net.readout("V", a)

    for depth in (5, 60):
        K = kernel(two_back(depth=depth))
        assert off(K.gram(X[:3], values={s: 0.7}), K(X[:3], values={s: 0.7})) < 1e-14


@pytest.mark.slow
def test_what_numba_keeps_is_compiled_again_after_a_change_elsewhere(tmp_path):
    import os
    import shutil
    import subprocess
    import sys
    from pathlib import Path

    shutil.copytree(Path(tp.__file__).parent, tmp_path / "tensorprog", ignore=shutil.ignore_patterns("__pycache__"))
    script = """import os, tensorprog as tp
assert tp.__file__.startswith(os.getcwd())
print(tp.nngp(tp.programs.mlp(depth=1, phi=tp.erf)).gram([[1.0, 2.0], [2.0, 0.5]])[1, 0])"""
    path = tmp_path / "tensorprog" / "compile" / "schedule.py"

    def printed():
        environment = {**os.environ, "PYTHONPATH": str(tmp_path), "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
        done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=environment, capture_output=True)
        assert not done.returncode, done.stderr.decode()
        return done.stdout

    before = printed()
    text = path.read_text()
    assert text.count("enumerate(NAMES)") == 1
    path.write_text(text.replace("enumerate(NAMES)", "enumerate(NAMES, 1)"))
    assert printed() == before


@pytest.mark.filterwarnings("ignore:.*underflow:tensorprog.AccuracyWarning")  # tested in kernels/test_underflow
@pytest.mark.parametrize("backend", BACKENDS)
def test_weights_whose_powers_underflow(backend):
    K = tp.ntk(programs.mlp(depth=13, sigma_w=1e-20))
    assert np.all(K.gram(X[:4], backend=backend) == 0)
