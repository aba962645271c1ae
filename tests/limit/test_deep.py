"""Deep networks: nothing recurses as deep as they are."""

import sys

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.limit.deep import Nested

X = [[1.0, 0.0], [0.6, 0.8]]


def test_values_defined_by_others_do_not_recurse_deeply():
    fibonacci = Nested(lambda n: fibonacci(n - 1) + fibonacci(n - 2) if n > 1 else n)
    a, b = 0, 1
    for _ in range(3000):
        a, b = b, a + b
    assert fibonacci(3000) == a


def test_what_fails_below_is_raised_and_asked_again():
    def value(n):
        if n == 0 and not ready:
            raise KeyError(n)
        return 1 + nested(n - 1) if n else 0

    ready, nested = [], Nested(value)
    with pytest.raises(KeyError):
        nested(100)
    ready.append(True)
    assert nested(100) == 100


@pytest.mark.parametrize("method", ["backprop", "paths"])
def test_the_recursion_limit_is_not_raised(method):
    old, deep = sys.getrecursionlimit(), tp.programs.mlp(depth=300, phi=tp.relu)
    R = tp.ntk(tp.programs.mlp(phi=tp.relu)).recursion(form="forward")
    try:
        sys.setrecursionlimit(1000)
        np.testing.assert_allclose(tp.ntk(deep, method=method)(X), R(X, depth=300), rtol=1e-11)
        assert sys.getrecursionlimit() == 1000
    finally:
        sys.setrecursionlimit(old)


def test_a_thousand_folded_layers_cost_a_thousand_times_one():
    R = tp.nngp(tp.programs.mlp(phi=tp.relu)).recursion()
    np.testing.assert_allclose(R([[1.0]], depth=4000), [[1.0]], rtol=1e-10)
