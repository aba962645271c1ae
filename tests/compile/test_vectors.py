"""Directions of inputs as rows and numbers, at any scale, in any layout and precision."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile import backends
from tensorprog.compile.machine import scale
from tensorprog.compile.vectors import Vectors
from tensorprog.grams import compute
from tensorprog.grams.evaluator import lowered

RNG = np.random.default_rng(0)
LONG = np.longdouble


def cosines(x):
    x = x.astype(LONG)  # whose exponents have 15 bits
    size = np.sqrt((x * x).sum(axis=1))
    size[size == 0] = 1
    return x @ x.T / np.outer(size, size)


@pytest.mark.parametrize("function", [backends._scale, scale], ids=["NumPy", "numba"])
@pytest.mark.parametrize("dtype, size", [
    *((np.float64, s) for s in (1.0, 1e-140, 1e-280, 1e140)), *((np.float32, s) for s in (1.0, 1e-20, 1e-30, 1e15)),
])  # fmt: skip
@pytest.mark.parametrize("d", [1, 2, 50])
def test_products_of_rows_are_cosines(function, dtype, size, d):
    x = (RNG.normal(size=(30, d)) * size).astype(dtype)
    x[3] = 0
    x[4] *= 1e-3
    rows, numbers = Vectors(x[:, None]).rows(0, dtype)
    found = rows @ rows.T
    expected = cosines(x)
    assert function(found, numbers, numbers, 0.25) == (np.abs(found) > 0.25).sum()
    eps = np.finfo(dtype).eps
    assert np.abs(found - expected).max() < 6 * eps
    assert not found[3].any()
    if d == 1:
        assert set(np.unique(found)) == {-1.0, 0.0, 1.0}


def test_what_is_known_of_sequences_is_known_at_each_time():
    x = RNG.normal(size=(20, 3, 7)).astype(np.float32)
    vectors, double = Vectors(x), x.astype(float)
    assert np.allclose(vectors.squares(0, 2), (double[:, 0] * double[:, 2]).sum(axis=1), rtol=1e-14, atol=1e-14)
    for dtype, bound in ((np.float32, 1e-6), (np.float64, 1e-14)):
        (u, left), (v, right) = vectors.rows(1, dtype), vectors.rows(2, dtype)
        both = np.concatenate([double[:, 1], double[:, 2]])
        assert u.dtype == v.dtype == dtype
        assert np.abs((u @ v.T) * np.outer(left, right) - cosines(both)[:20, 20:]).max() < bound


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("d", [6, 50])
def test_the_layout_of_inputs_in_memory_does_not_matter(dtype, d):
    X = RNG.normal(size=(40, d)).astype(dtype)
    wide = np.zeros((40, 2 * d), dtype)
    wide[:, ::2] = X
    net = programs.mlp(depth=2)
    expected = tp.gram(tp.ntk(net), X, dtype=dtype)
    for other in (np.asfortranarray(X), wide[:, ::2], X[::-1][::-1], X.astype(X.dtype.newbyteorder())):
        assert np.array_equal(tp.gram(tp.ntk(net), other, dtype=dtype), expected)


def test_inputs_of_the_precision_asked_for_are_not_copied():
    K, single = tp.ntk(programs.mlp(depth=2)), RNG.normal(size=(40, 6)).astype(np.float32)
    for X in (single, single.astype(float)):
        for dtype in (np.float32, np.float64):
            job = compute._job((K,), X, None, None, dtype, None)
            assert np.shares_memory(job.first.data[None], X) == (X.dtype in (dtype, np.float64))
    rounded = K.gram(single.astype(float), dtype=np.float32)
    assert np.array_equal(K.gram(single, dtype=np.float32), rounded) and rounded.dtype == np.float32


def test_a_matrix_begun_in_one_precision_of_inputs_goes_on_in_another(tmp_path):
    K, X, path = tp.ntk(programs.mlp(depth=2)), RNG.normal(size=(70, 6)).astype(np.float32), tmp_path / "k.npy"
    K.gram(X, dtype=np.float32, block=32, path=path)
    before = path.with_name("k.npy.journal").read_bytes()
    K.gram(X.astype(float), dtype=np.float32, block=32, path=path)
    assert path.with_name("k.npy.journal").read_bytes() == before
    with pytest.raises(tp.DataError, match="inputs differ"):
        K.gram(X + 1e-3, dtype=np.float32, block=32, path=path)


@pytest.mark.parametrize("function", [backends._scale, scale], ids=["NumPy", "numba"])
def test_blocks_without_large_cosines_are_single(function):
    X = RNG.normal(size=(300, 784)).astype(np.float32)
    X[250] = X[20] + 1e-3
    a, program = Vectors(X[:, None]), lowered([tp.ntk(programs.mlp(depth=2))], (None, None), {})
    found, expected = backends._Cosines(program, a, a, function), cosines(X)
    for (i0, i1, j0, j1), dtype in (((0, 100, 0, 100), np.float32), ((200, 300, 0, 100), np.float64)):
        block = found((i0, i1, j0, j1), True, [(0, 0)])[0]
        own = np.arange(i0, i1)[:, None] == np.arange(j0, j1)
        assert block.dtype == dtype
        assert np.abs(np.where(own, 0, block - expected[i0:i1, j0:j1])).max() < (1e-7 if dtype == np.float32 else 1e-15)
    for other, phi in ((X[:, :50], tp.relu), (X + 0.3, tp.relu), (X, tp.tanh)):  # few blocks would be; checks in double
        side, program = Vectors(other[:, None]), lowered([tp.ntk(programs.mlp(depth=2, phi=phi))], (None, None), {})
        assert backends._Cosines(program, side, side, function).dtype == np.float64


@pytest.mark.parametrize("backend", ["numba", "numpy"])
@pytest.mark.parametrize("phi", [tp.relu, tp.erf])
def test_a_matrix_in_single_precision_is_near_that_in_double(phi, backend):
    X, Y = RNG.normal(size=(2, 300, 784)).astype(np.float32)
    X[7], X[8] = 0, Y[8]
    kernels = [f(programs.mlp(depth=3, phi=phi)) for f in (tp.nngp, tp.ntk)]
    for other in (None, Y):
        single, double = (tp.gram(kernels, X, other, dtype=t, backend=backend) for t in (np.float32, np.float64))
        for ours, expected in zip(single, double, strict=True):
            assert np.abs(ours - expected).max() < 2e-7 * np.abs(expected).max()


def test_single_inputs_whose_squares_overflow_are_named():
    K = tp.ntk(programs.mlp(depth=2))
    with pytest.raises(tp.errors.DataError, match=r"X1\[0\] has entries of size 1e\+20"):
        K.gram(np.full((1, 2), 1e20, np.float32), dtype=np.float32)
