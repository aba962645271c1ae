"""Results that leave the range of a precision are errors on every machine, and never pass as infinities."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs

RNG = np.random.default_rng(0)
BACKENDS = pytest.mark.parametrize("backend", ["numba", "numpy"])


def linear(scale):
    return tp.nngp(programs.deep_linear(depth=2, sigma_w=scale))


@BACKENDS
def test_an_exponential_that_overflows(backend):
    K, X = tp.nngp(programs.mlp(phi=tp.exp, depth=1)), 30 * RNG.normal(size=(4, 3))
    for other in (X + 0.1, None):
        with pytest.raises(tp.DataError, match="not finite"):
            K.gram(X, other, backend=backend)


@BACKENDS
@pytest.mark.parametrize("dtype, scale", [("float32", 1e16), ("float64", 1e150)])
def test_products_that_overflow_the_precision_of_results(backend, dtype, scale):
    X, Y = RNG.normal(size=(5, 3)), RNG.normal(size=(4, 3))
    large, small = linear(1e3), linear(1)
    with np.errstate(over="raise"):
        for other in (None, scale * Y):
            with pytest.raises(tp.DataError, match=f"not finite in {dtype}"):
                large.gram(scale * X, other, dtype=dtype, backend=backend)
            assert np.isfinite(small.gram(scale * X, other, dtype=dtype, backend=backend)).all()


@BACKENDS
def test_only_the_diagonal_overflows(backend):
    X = np.diag([1e16, 1.0, 1.0])
    with pytest.raises(tp.DataError, match="not finite in float32"):
        linear(1e3).gram(X, dtype="float32", backend=backend)


@BACKENDS
def test_one_entry_in_many_overflows(backend):
    X, Y = np.zeros((700, 2)), np.zeros((900, 2))
    X[:, 0], Y[:, 1] = 1, 1
    X[600], Y[800] = (1, 1e16), (1, 1e16)
    with pytest.raises(tp.DataError, match="not finite in float32"):
        linear(1e3).gram(X, Y, dtype="float32", backend=backend)


@BACKENDS
def test_the_largest_results_of_a_precision_are_results(backend):
    largest = float(np.finfo(np.float32).max)
    X, scale = np.array([[1e16], [1.0]]), largest**0.25 / 1e8
    found = linear(0.999 * scale).gram(X, X.copy(), dtype="float32", backend=backend)
    assert np.isfinite(found).all() and found[0, 0] > 0.99 * largest
    with pytest.raises(tp.DataError, match="not finite in float32"):
        linear(1.001 * scale).gram(X, X.copy(), dtype="float32", backend=backend)


@BACKENDS
@pytest.mark.parametrize("lengths", [(8, 8, 8), (9, 7, 1), (300, 300, 299)])
def test_sequences_that_overflow(backend, lengths):
    X = [1e16 * RNG.normal(size=(t, 2)) for t in lengths]
    K = tp.nngp(programs.rnn(sigma_v=1e4))
    assert np.isfinite(K.gram(X, backend=backend)).all()
    for other in (None, [-x for x in X]):
        with pytest.raises(tp.DataError, match="not finite in float32"):
            K.gram(X, other, dtype="float32", backend=backend)


@BACKENDS
def test_states_that_grow_out_of_range(backend):
    K, X = tp.ntk(programs.rnn(sigma_w=1e3)), RNG.normal(size=(3, 120, 2))
    assert np.isfinite(K.gram(X[:, :40], backend=backend)).all()
    with pytest.raises((tp.DataError, tp.AccuracyError), match="not finite"):
        K.gram(X, backend=backend)
