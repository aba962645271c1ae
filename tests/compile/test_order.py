"""The order in which a tape runs: complete, each operation after its operands, few values waiting, and soon found."""

import time

import numpy as np
import pytest

import tensorprog as tp
from tensorprog.compile.tape import PAIR, Tape
from tensorprog.derivation.compiling import COMPILING
from tensorprog.grams.evaluator import lowered


def pooled(length):
    """The readout of the mean state of an RNN, whose kernel reads the covariances of all pairs of times."""

    @tp.network
    def mean_state(net, x):
        s, total, T = None, None, 0
        for x_t in x:
            h = net.embed("U", x_t) + net.bias("b", std=0.1)
            s = tp.relu(h if s is None else h + net.dense("W", s))
            total = s if total is None else total + s
            T += 1
        return net.readout("V", total / T)

    return lowered([tp.ntk(mean_state())], (length, length), {})


def random_tape(seed):
    rng = np.random.default_rng(seed)
    tape = Tape()
    made = [tape.gram((0, t), (1, s)) for t in range(3) for s in range(3)]
    for _ in range(60):
        a, b, c = (int(made[k]) for k in rng.integers(0, len(made), 3))
        made.append(tape.add("fma", a, tape.const(float(rng.normal())), b, c))
    return tape, [made[-1], made[int(rng.integers(len(made)))]]


@pytest.mark.parametrize("seed", range(20))
def test_every_operation_comes_once_and_after_its_operands(seed):
    tape, roots = random_tape(seed)
    order = tape.ordered(roots)
    assert sorted(order) == tape.needed(roots)
    place = {i: n for n, i in enumerate(order)}
    assert all(place[a] < place[i] for i in order for a in tape.ops[i].args)


def waiting(tape, order, roots):
    """The most values per pair that are still read later."""
    last = {a: n for n, i in enumerate(order) for a in (*tape.ops[i].args, i)} | dict.fromkeys(roots, len(order))
    live, most = set(), 0
    for n, i in enumerate(order):
        live = {a for a in live if last[a] >= n} | ({i} if tape.sides[i] == PAIR else set())
        most = max(most, len(live))
    return most


def test_inner_products_are_read_when_they_are_needed():
    program = pooled(6)
    order = program.tape.ordered(program.roots)
    first = {i: n for n, i in reversed(list(enumerate(order)))}
    units = [first[i] for i in order if program.tape.ops[i].kind == "unit"]
    assert max(units) > len(order) / 2
    assert waiting(program.tape, order, program.roots) <= waiting(program.tape, sorted(order), program.roots)


def test_finding_the_order_takes_a_time_proportional_to_the_operations():
    found = {}
    for length in (10, 30):
        program = pooled(length)
        spent = []
        for _ in range(5):  # the least of them is that of a machine which does nothing else
            start = time.process_time()
            count = len(program.tape.ordered(program.roots))
            spent.append(time.process_time() - start)
        found[length] = min(spent) / count
    assert found[30] < 4 * found[10] + 1e-5


def test_gram_matrices_of_pooled_networks_equal_the_kernel():
    X = np.random.default_rng(0).standard_normal((4, 8, 3))

    @tp.network
    def mean_state(net, x):
        states = []
        for x_t in x:
            h = net.embed("U", x_t)
            states.append(tp.relu(h + net.dense("W", states[-1]) if states else h))
        return net.readout("V", sum(states[1:], states[0]) / len(states))

    K = tp.ntk(mean_state())
    want = K(X)
    assert np.abs(K.gram(X) - want).max() < 1e-13 * want.max()


def test_garbage_is_collected_again_after_compiling():
    import gc

    assert gc.isenabled()
    with COMPILING, COMPILING:
        assert not gc.isenabled()
    assert gc.isenabled()
    gc.disable()
    try:
        with COMPILING:
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_sum_that_is_asked_for_again_is_the_same_operation():
    tape = Tape()
    a, b = (tape.gram((0, t), (1, t)) for t in range(2))
    terms = [(2.0, [a, b]), (0.5, [a]), (1.0, [])]
    first = tape.sum(terms)
    count = len(tape.ops)
    assert tape.sum(iter(terms)) == first and len(tape.ops) == count
    assert tape.sum([(2.0, [a, b]), (0.5, [b]), (1.0, [])]) != first
