"""Sequences of any lengths, short ones and repeated ones among them, against the reference on random sets."""

import tracemalloc

import numpy as np
import pytest

import tensorprog as tp
from tensorprog import programs
from tensorprog.compile.loops import Loop, Side
from tensorprog.compile.rolling import Step
from tensorprog.compile.tape import PAIR, Tape
from tensorprog.grams import evaluator
from tensorprog.grams.sequences import SequenceEvaluator

RNG = np.random.default_rng(3)
NETS = {
    "relu": {},
    "relu with bias": {"sigma_b": 0.3, "sigma_w": 1.2},
    "relu, two layers": {"layers": 2, "sigma_b": (0.1, 0)},
    "relu, random states": {"sigma_h": 0.7},
    "erf": {"phi": tp.erf},
    "erf, two layers": {"phi": tp.erf, "layers": 2, "sigma_b": 0.2},
    "tanh": {"phi": tp.tanh, "sigma_b": 0.2},
    "abs": {"phi": tp.abs},
    "abs with bias": {"phi": tp.abs, "sigma_b": 0.1},
}


def drawn(rng, lengths, d):
    """Sequences, some of them repeated, zero at times, proportional and opposite to others."""
    X = [rng.normal(size=(t, d)) for t in lengths]
    for x in X:
        kind, y = rng.integers(6), X[rng.integers(len(X))]
        t = min(len(x), len(y))
        if kind < 3:
            x[-t:] = (1, -0.5, 2)[kind] * y[-t:]
        elif kind == 3:
            x[rng.integers(len(x)) :] = 0
    return X


def assert_equal(found, expected, rows, columns):
    """Up to 1e-12 √(K_ii K_jj)."""
    assert (np.abs(found - expected) <= 1e-12 * np.sqrt(np.outer(rows, columns))).all()


@pytest.mark.parametrize("kind", [tp.nngp, tp.ntk])
@pytest.mark.parametrize("name", NETS)
def test_random_ragged_sets_equal_the_reference(name, kind):
    rng, K = np.random.default_rng([len(name), kind is tp.ntk]), kind(programs.rnn(**NETS[name]))
    for d in (1, 3):
        few = rng.choice(np.arange(1, 13), 4, replace=False)  # lengths, each pair of which the reference derives
        X = drawn(rng, [12, 1, *rng.choice(few, 5)], d)
        Y = drawn(rng, [1, *rng.choice(few, 3)], d)
        whole, n = K(X + Y), len(X)
        own = np.diag(whole)
        for backend in ("numba", "numpy"):
            assert_equal(K.gram(X, backend=backend), whole[:n, :n], own[:n], own[:n])
            assert_equal(K.gram(X, Y, backend=backend), whole[:n, n:], own[:n], own[n:])


def test_one_short_sequence_keeps_the_loop():
    K, X = tp.ntk(programs.rnn()), [RNG.normal(size=(t, 2)) for t in (*range(60, 75), 1, 1)]
    K.gram(X)
    kept = [e for e in K._compiled.values() if isinstance(e, SequenceEvaluator)]
    assert len(kept) == 1 and not any(min(lengths) > 7 for lengths, _ in K._derived)
    assert np.abs(K.gram(X[-3:]) / K(X[-3:]) - 1).max() < 1e-13


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_pairs_of_one_step_each_beside_a_longer_one(backend):
    K = tp.ntk(programs.rnn(layers=2, sigma_b=0.3))
    X, Y = [RNG.normal(size=(t, 2)) for t in (1, 1, 1)], [RNG.normal(size=(t, 2)) for t in (1, 9)]
    Y[0][:] = 3 * X[1]
    assert np.abs(K.gram(X, Y, backend=backend) / K(X, Y) - 1).max() < 1e-13
    assert np.abs(K.gram(Y, X, backend=backend) / K(Y, X) - 1).max() < 1e-13
    assert np.abs(K.gram(X + Y, backend=backend) / K(X + Y) - 1).max() < 1e-13


@pytest.mark.parametrize("length", [8, 40])
@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_repeated_sequences_whose_angle_the_loop_loses(length, backend):
    X = RNG.normal(size=(4, length, 2))
    X[1], X[3] = X[0], -X[2]
    for kind in (tp.nngp, tp.ntk):
        K = kind(programs.rnn(phi=tp.abs, sigma_b=0.1))
        assert np.abs(K.gram(X, backend=backend) / K(X) - 1).max() < 1e-12
        assert np.abs(K.gram(X, X[:2], backend=backend) / K(X, X[:2]) - 1).max() < 1e-12


def test_repeated_sequences_too_long_for_the_reference_are_an_error():
    X = RNG.normal(size=(2, 1100, 1))
    X[1] = X[0]
    with pytest.raises(tp.AccuracyError, match=r"lengths \(1100, 1100\)"):
        tp.nngp(programs.rnn(phi=tp.abs, sigma_b=0.1)).gram(X)


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_a_kernel_that_reads_no_input(backend):
    net = programs.rnn(sigma_u=0, sigma_w=0, sigma_b=0.3)
    for K in (tp.nngp(net), tp.ntk(net)):
        for X in (RNG.normal(size=(3, 8, 2)), [RNG.normal(size=(t, 2)) for t in (8, 3, 1)]):
            assert np.abs(K.gram(X, backend=backend) / K(X) - 1).max() < 1e-14


def test_a_backend_that_does_not_know_an_operation_is_named(monkeypatch):
    X = RNG.normal(size=(3, 8, 2))
    K = tp.nngp(programs.rnn(phi=tp.relu6))
    assert np.abs(K.gram(X, backend="numpy") / K(X) - 1).max() < 1e-12
    with pytest.raises(tp.NoRuleError, match="leave out backend or pass 'numpy'"):
        K.gram(X, backend="numba")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert np.abs(tp.nngp(programs.rnn()).gram(X) / tp.nngp(programs.rnn())(X) - 1).max() < 1e-12
    with pytest.raises(tp.NoRuleError, match="needs numba"):
        tp.nngp(programs.rnn()).gram(X, backend="numba")
    with pytest.raises(tp.NoRuleError, match="unknown backend 'nmba'"):
        K.gram(X, backend="nmba")


def test_inputs_are_converted_to_single_precision():
    X = [RNG.normal(size=(t, 3)) for t in (12, 12, 9, 1)]
    K = tp.ntk(programs.rnn(sigma_b=0.1))
    rounded = K.gram([x.astype(np.float32).astype(float) for x in X])
    assert np.array_equal(K.gram(X, dtype="float32"), rounded.astype(np.float32))
    assert not np.array_equal(K.gram(X).astype(np.float32), rounded.astype(np.float32))


def peak(call):
    tracemalloc.start()
    call()
    bytes_ = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return bytes_


def test_one_long_sequence_takes_no_room_beside_short_ones():
    S = [RNG.normal(size=(200_000, 1)), *(RNG.normal(size=(4, 1)) for _ in range(1000))]
    assert peak(lambda: Side.of(S, len(S[0]))) < 6 * S[0].nbytes  # dense: 1001 times
    K, S = tp.nngp(programs.rnn()), [x[:2000] for x in S[:300]]
    K.gram(S[1:3] + [S[0][:8]])
    pairs = 8 * len(S) ** 2
    assert peak(lambda: K.gram(S)) < 12 * pairs + 20 * S[0].nbytes


def step(outs):
    """A step that gives, by number, what it carries (a number) or the cosine of its data ("unit")."""
    tape = Tape()
    known = [tape.add("carry", data=k, side=PAIR) for k in range(2)]
    known.append(tape.add("unit", data=((0, 0), (1, 0)), side=PAIR))
    return Step(tape, tuple((k, known[i]) for k, i in enumerate(outs)))


@pytest.mark.parametrize("threads", [0, 1])
def test_what_is_carried_on_as_it_is_may_change_its_place(threads):
    X = RNG.normal(size=(3, 5, 2))
    unit = X / np.linalg.norm(X, axis=-1, keepdims=True)
    side = Side.of(X, 5)
    loop = Loop(step([2, 2]), step([2, 0]), step([1, 0]), {}, {})
    found = loop.run(side, Side.of(X, 5), False, threads)
    for value, t in zip(found, (2, 3), strict=True):
        assert np.allclose(value, unit[:, t] @ unit[:, t].T, atol=1e-14)


def test_times_of_ragged_data():
    X = [RNG.normal(size=(t, 2)) for t in (5, 5, 3, 1)]
    side = Side.of(X, 6)
    assert [side.there(t) for t in range(6)] == [(0, 0), (0, 2), (2, 2), (2, 3), (3, 3), (3, 4)]
    assert np.array_equal(side.at(5), [x[-1] for x in X]) and np.array_equal(side.at(3), [x[-3] for x in X[:3]])
    assert np.array_equal(side.take(np.array([1, 0, 1])).sequences(), np.stack([X[1], X[0], X[1]]))
    units = side.directions(2, 4)
    assert (
        units.shape == (2, 3, 2)
        and not units[0, 2].any()
        and np.allclose(units[1, 2] * np.linalg.norm(X[2][0]), X[2][0])
    )


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_memory_of_nearly_equal_inputs_does_not_grow_with_their_dimension(backend):
    K, X = tp.nngp(programs.mlp()), np.abs(RNG.normal(size=(150, 3000)) * 0.02 + 1)
    K.gram(X[:5], dtype="float32", backend=backend)
    assert peak(lambda: K.gram(X, dtype="float32", block=150, memory=2**26, backend=backend)) < 2**26


@pytest.mark.parametrize("backend", ["numba", "numpy"])
def test_nearly_equal_inputs_of_many_tiles_are_all_mended(monkeypatch, backend):
    K, X, Y = tp.ntk(programs.mlp(depth=2)), *(1 + 1e-3 * RNG.normal(size=(n, 3)) for n in (300, 270))
    monkeypatch.setattr(evaluator, "PAIRS", 5000)
    monkeypatch.setattr(evaluator, "NUMBERS", 4000)
    for other in (None, Y):
        assert np.abs(K.gram(X, other, backend=backend) / K(X, other) - 1).max() < 1e-14


def test_memory_of_nearly_equal_sequences_does_not_grow_with_their_dimension():
    K = tp.nngp(programs.rnn())
    X = 1 + 1e-4 * RNG.normal(size=(150, 7, 1000))
    K.gram(X[:3, :, :2], backend="numpy")
    assert peak(lambda: K.gram(X, backend="numpy")) < 4 * X.nbytes
