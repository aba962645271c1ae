"""One thread of BLAS while several of our own work, and as many as before afterwards."""

import numpy as np
import pytest
from threadpoolctl import threadpool_info, threadpool_limits

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile.blas import _OneThread, one_thread


def threads():
    return {info["num_threads"] for info in threadpool_info() if info["user_api"] == "blas"}


@pytest.fixture
def two():
    with threadpool_limits(2, user_api="blas"):
        if threads() != {2}:
            pytest.skip("this BLAS keeps its number of threads")
        yield


def test_the_first_sets_the_limit_and_the_last_restores_it(two):
    first, second = one_thread, one_thread
    with first:
        assert threads() == {1}
        with second:
            assert threads() == {1}
        assert threads() == {1}  # one of two users has left
    assert threads() == {2}


def test_an_error_inside_restores_the_limit(two):
    with pytest.raises(ValueError, match="inside"), one_thread:
        raise ValueError("inside")
    assert threads() == {2}


def test_threads_that_overlap_without_nesting(two):
    limit = _OneThread()
    limit.__enter__()
    limit.__enter__()
    limit.__exit__(None, None, None)
    assert threads() == {1}
    limit.__exit__(None, None, None)
    assert threads() == {2}


def test_a_gram_matrix_leaves_the_limit_as_it_was(two):
    import numba

    before = numba.get_num_threads()
    X = np.random.default_rng(0).normal(size=(600, 3))
    K = tp.nngp(programs.mlp())
    try:
        numba.set_num_threads(min(2, numba.config.NUMBA_NUM_THREADS))
        whole = K.gram(X)
    finally:
        numba.set_num_threads(before)
    assert threads() == {2} and np.array_equal(whole, whole.T)
