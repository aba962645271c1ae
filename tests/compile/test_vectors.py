"""Directions of inputs as rows and numbers, at any scale and in any layout."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile import backends
from tensorprog.compile.machine import scale
from tensorprog.compile.vectors import Vectors

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


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_layout_of_inputs_in_memory_does_not_matter(dtype):
    X = RNG.normal(size=(40, 6)).astype(dtype)
    wide = np.zeros((40, 12), dtype)
    wide[:, ::2] = X
    net = programs.mlp(depth=2)
    expected = tp.gram(tp.ntk(net), X, dtype=dtype)
    for other in (np.asfortranarray(X), wide[:, ::2], X[::-1][::-1], X.astype(X.dtype.newbyteorder())):
        assert np.array_equal(tp.gram(tp.ntk(net), other, dtype=dtype), expected)


def test_single_inputs_are_read_as_they_are_and_double_ones_rounded():
    X = RNG.normal(size=(40, 6))
    K = tp.ntk(programs.mlp(depth=2))
    assert np.array_equal(K.gram(X, dtype=np.float32), K.gram(X.astype(np.float32), dtype=np.float32))
    with pytest.raises(tp.errors.DataError, match=r"X1\[0\] has entries of size 1e\+20"):
        K.gram(np.full((1, 2), 1e20, np.float32), dtype=np.float32)
