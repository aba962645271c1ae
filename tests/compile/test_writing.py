"""How the numba machine writes large results, and sums over paths from the inside out."""

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile import backends, horner, machine
from tensorprog.compile.arrays import run
from tensorprog.compile.horner import factored
from tensorprog.compile.schedule import TILE
from tensorprog.compile.tape import LEFT, PAIR, RIGHT, Tape
from tensorprog.grams.evaluator import Evaluator

RNG = np.random.default_rng(0)


def kernels(phi="relu", depth=3, **kw):
    net = programs.mlp(phi=tp.NONLINEARITIES[phi], depth=depth, **kw)
    return [tp.nngp(net), tp.ntk(net)]


def placed(shape, dtype, shift):
    """An array of −1 that begins ``shift`` entries after the start of a line of cache."""
    size = np.dtype(dtype).itemsize
    whole = np.full(shape[0] * shape[1] + 32, -1, dtype)
    start = (-whole.ctypes.data % 64) // size + shift
    return whole, whole[start : start + shape[0] * shape[1]].reshape(shape)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shift", [0, 3])
@pytest.mark.parametrize("past", [0, -1], ids=["past the cache", "into the cache"])
def test_rows_are_written_where_they_belong_and_nowhere_else(dtype, shift, past):
    values = RNG.normal(size=(20, 45)).astype(dtype).astype(float)
    for start, stop in ((-20, 45), (3, 45), (-20, 2), (3, 9)):
        whole, result = placed((31, 53), dtype, shift)
        machine.write(values, result, past if past < 0 else shift, 5, 20, 7, 43, start, stop)
        expected = np.full((31, 53), -1, dtype)
        for r in range(20):
            for k in range(max(0, start + r), min(43, stop + r)):
                expected[5 + r, 7 + k] = values[r, k]
        assert np.array_equal(result, expected)
        assert (whole == -1).sum() == whole.size - (expected != -1).sum()


def test_squares_are_transposed():
    values, turned = RNG.normal(size=(24, 40)), np.zeros((40, 32))
    machine.turn(values, turned, 24, 33)
    assert np.array_equal(turned[:33, :24], values.T[:33])


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("count", [1, 7, 301])
def test_results_past_the_cache_equal_those_in_it(monkeypatch, dtype, count):
    X, Y = RNG.normal(size=(count, 5)), RNG.normal(size=(TILE + 5, 5))
    for other in (None, Y):
        expected = tp.gram(kernels(), X, other, dtype=dtype)
        monkeypatch.setattr(backends, "CACHED", 0)
        found = tp.gram(kernels(), X, other, dtype=dtype)
        monkeypatch.undo()
        for a, b in zip(found, expected, strict=True):
            assert np.array_equal(a, b)


@pytest.mark.parametrize("phi, kw", [("relu", {}), ("erf", {}), ("sin", {}), ("relu", {"sigma_b": 0.3})])
def test_a_deep_ntk_reads_what_a_layer_gives_at_once(phi, kw):
    deep, deeper = (Evaluator(kernels(phi, depth, **kw), (None, None), {}).program.code for depth in (8, 16))
    assert deep.registers - len(deep.right) == deeper.registers - len(deeper.right) < 16


def test_sums_too_long_to_factor_stay_as_they_are(monkeypatch):
    X = RNG.normal(size=(40, 5))
    expected = tp.gram(kernels(depth=6), X)
    monkeypatch.setattr(horner, "LONGEST", 3)
    for a, b in zip(tp.gram(kernels(depth=6), X), expected, strict=True):
        assert np.abs(a / b - 1).max() < 1e-14


def test_factored_sums_have_the_same_value():
    t = Tape()
    left, right = t.add("gram", data=((0, 0), (0, 0)), side=LEFT), t.add("gram", data=((1, 0), (1, 0)), side=RIGHT)
    pairs = [t.add("carry", data=k, side=PAIR) for k in range(5)]
    a, b, x, y, z = pairs
    product = t.product([a, b], 3.0)
    whole = t.sum([(2.0, [x, a]), (0.5, [y, product, left]), (1.0, [z, product, right]), (-1.0, [a, a]), (4.0, [])])
    for roots in ((whole,), (whole, product), (whole, t.sum([(1.0, [whole, b]), (1.0, [b])]))):
        again = factored(t, roots)
        known = {i: RNG.normal() for i in (left, right, *pairs)}
        before, after = (run(t, t.ordered(r), dict(known), r, np, (0.0, 0.0)) for r in (roots, again))
        assert np.allclose(before, after, rtol=1e-14, atol=1e-14)


def test_products_named_by_backpropagation_are_not_needed():
    t = Tape()
    a, b, c, x, y, z, w = (t.add("carry", data=k, side=PAIR) for k in range(7))
    ab = t.product([a, b])
    whole = t.sum([(1.0, [z]), (1.0, [a, x]), (1.0, [ab, y]), (1.0, [t.product([ab, c]), w])])
    kinds = [t.ops[i].kind for i in t.ordered(factored(t, (whole,))) if t.ops[i].kind not in ("carry", "const")]
    assert kinds == ["fma", "fma", "fma"]
