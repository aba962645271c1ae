"""Kernels of long sequences by a loop over time, against the equations of every length."""

import mpmath as mp
import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.grams.sequences import SequenceEvaluator

RNG = np.random.default_rng(1)
NETS = [{}, {"sigma_b": 0.1, "sigma_w": 1.2}, {"layers": 2}, {"sigma_h": 1}, {"phi": tp.erf}, {"phi": tp.gelu}]


def sequences(d, *lengths):
    return [RNG.normal(size=(t, d)) for t in lengths]


def off(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("backend", [None, "numpy"])
@pytest.mark.parametrize("kw", NETS, ids=str)
def test_ragged_sequences_equal_the_derived_equations(kw, backend):
    X, Y = sequences(3, 5, 9, 9, 7), sequences(3, 8, 2, 8)
    X[2][:4] = X[1][:4]
    kernels = [tp.nngp(programs.rnn(**kw)), tp.ntk(programs.rnn(**kw))]
    for other in (None, Y):
        for ours, kernel in zip(tp.gram(kernels, X, other, backend=backend), kernels, strict=True):
            assert off(ours, kernel(X, other)) < 1e-13


def test_equal_lengths_untied_weights_and_a_function_without_closed_form():
    for kw in ({"tied": False}, {"phi": tp.tanh}):
        K, X = tp.ntk(programs.rnn(**kw)), RNG.normal(size=(3, 8, 2))
        assert off(K.gram(X), K(X)) < 1e-13
    ragged, K = sequences(2, 7, 9), tp.ntk(programs.rnn(tied=False))
    assert off(K.gram(ragged), K(ragged)) < 1e-13


def test_what_runs_as_a_loop():
    for kw in ({}, {"sigma_b": 0.1, "sigma_w": 1.2}, {"layers": 2}, {"phi": tp.erf}):
        assert SequenceEvaluator([tp.nngp(programs.rnn(**kw))], {}).ragged
    folded = tp.nngp(programs.rnn(phi=tp.leaky_relu(0.1))).recursion(over="lengths")
    x = RNG.normal(size=(3, 9, 2))
    loop = SequenceEvaluator([folded.at()], {})  # of equal lengths only
    assert not loop.ragged and off(folded.gram(x), folded.kernel(x)) < 1e-13


def test_a_function_whose_steps_cannot_be_looped_takes_the_long_way():
    K, X = tp.ntk(programs.rnn(phi=tp.leaky_relu(0.1))), RNG.normal(size=(3, 7, 2))
    assert off(K.gram(X), K(X)) < 1e-13


def test_short_sequences_beside_long_ones():
    K, X = tp.ntk(programs.rnn(sigma_b=0.1)), sequences(2, 1, 8, 3)
    assert off(K.gram(X), K(X)) < 1e-13


def rnn_relu_ntk(x, y):
    """The RNTK of one relu layer for numbers, at 40 digits: hand-written (Alemohammad et al. 2021), T ≤ T'."""
    q1 = q2 = c = theta = mp.mpf(0)
    for t in y[: len(y) - len(x)]:
        q2 = q2 / 2 + mp.mpf(float(t)) ** 2
    for s, t in zip(x, y[len(y) - len(x) :], strict=True):
        v, slope = relu_forms(q1, q2, c)
        s, t = mp.mpf(float(s)), mp.mpf(float(t))
        q1, q2, c = q1 / 2 + s * s, q2 / 2 + t * t, v + s * t
        theta = c + slope * theta
    v, slope = relu_forms(q1, q2, c)
    return v + slope * theta


def relu_forms(q1, q2, c):
    size = mp.sqrt(q1 * q2)
    angle = mp.acos(max(-1, min(1, c / size))) if size else mp.pi / 2
    return size * (mp.sin(angle) + (mp.pi - angle) * mp.cos(angle)) / (2 * mp.pi), (mp.pi - angle) / (2 * mp.pi)


def test_univariate_series_of_any_length_equal_the_recursion_by_hand():
    X = sequences(1, 40, 40, 27, 26, 8, 2)
    X[1][:7] = 2 * X[0][:7]  # proportional at first: the cosine is 1
    ours = tp.ntk(programs.rnn()).gram(X)
    with mp.workdps(40):
        for i in range(6):
            for j in range(i):
                assert abs(ours[i, j] / float(rnn_relu_ntk(X[i][:, 0], X[j][:, 0])) - 1) < 1e-13


def test_padding_in_front_is_not_seen():
    K, X = tp.ntk(programs.rnn(sigma_b=0.1)), sequences(2, 40, 12, 25)
    whole = K.gram(X)
    for i, j in ((0, 1), (1, 2), (0, 2)):
        assert abs(whole[i, j] / K.gram([X[i]], [X[j]])[0, 0] - 1) < 1e-14


def test_time_and_memory_do_not_grow_with_pairs_of_times():
    import tracemalloc

    K = tp.ntk(programs.rnn())
    peaks = []
    for length in (100, 400):
        X = RNG.normal(size=(60, length, 2))
        K.gram(X[:4])
        tracemalloc.start()
        K.gram(X)
        peaks.append(tracemalloc.get_traced_memory()[1] - 4 * X.nbytes)
        tracemalloc.stop()
    assert peaks[1] < peaks[0] + 400_000  # bytes beyond copies of the inputs
