"""Random programs with W, Wᵀ, Moments and kinked functions: the adjoint identity, and limit = simulation."""

import math
from collections import Counter
from functools import lru_cache
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, assume, given, settings
from hypothesis import strategies as st

import tensorprog as tp
from tensorprog import errors
from tensorprog.finite import sample as sample_module
from tensorprog.finite.estimate import extrapolate

UNARY = {
    "relu": lambda a: tp.relu(a),
    "step": lambda a: tp.step(a),
    "abs": lambda a: tp.abs(a),
    "sign": lambda a: tp.sign(a),
    "leaky": lambda a: tp.leaky_relu(0.2)(a),
    "erf": lambda a: tp.erf(a),
    "sin": lambda a: tp.sin(a),
    "tanh": lambda a: tp.tanh(a),
    "square": lambda a: a**2 / 2,
}
BINARY = {
    "sum": lambda a, b: a + b / 2,
    "difference": lambda a, b: a - b,
    "gate": lambda a, b: a * tp.step(b),
    "product": lambda a, b: a * b / 2,
}
DISCARDED = Counter()

index = st.integers(0, 100)
instruction = st.one_of(
    st.tuples(st.just("matmul"), st.sampled_from("WV"), st.booleans(), index),
    st.tuples(st.just("matmul"), st.just("W"), st.booleans(), index),
    st.tuples(st.just("unary"), st.sampled_from(sorted(UNARY)), index),
    st.tuples(st.just("binary"), st.sampled_from(sorted(BINARY)), index, index),
    st.tuples(st.just("moment"), index, index),
)
programs = st.lists(instruction, min_size=3, max_size=7)


def build(instructions):
    """The program of a list of instructions, with all of its vectors."""
    p = tp.Program()
    matrices = {"W": p.matrix("W"), "V": p.matrix("V", variance=0.75)}
    vectors = list(p.gaussian("a b", [[1, 0.5], [0.5, 1.5]], mean=[0, 0.25]))
    for kind, *rest in instructions:
        if kind == "matmul":
            name, transpose, i = rest
            W = matrices[name].T if transpose else matrices[name]
            vectors.append(W @ vectors[-1 - i % len(vectors)])
        elif kind == "unary":
            name, i = rest
            vectors.append(tp.nonlin(UNARY[name], vectors[-1 - i % len(vectors)]))
        elif kind == "binary":
            name, i, j = rest
            a, b = (vectors[-1 - k % len(vectors)] for k in (i, j))
            vectors.append(tp.nonlin(BINARY[name], a, b))
        else:
            i, j = rest
            a, b = (vectors[-1 - k % len(vectors)] for k in (i, j))
            m = tp.moment(lambda x, y: x * y, a, b)
            vectors.append(tp.nonlin(lambda x, s: tp.tanh(x) * (1 + s / 4), a, params=[m]))
    return p, matrices, vectors


def computable(question):
    """The value of a question; programs with atoms that cannot be computed are discarded and counted."""
    try:
        value = question()
    except (errors.NoRuleError, errors.AccuracyError):
        DISCARDED["not computable"] += 1
        assume(False)
    DISCARDED["kept"] += 1
    return value


def check_adjoint(instructions):
    p, matrices, vectors = build(instructions)
    pairs = [(W, x, y, W @ x, W.T @ y) for W in matrices.values() for x, y in pairwise(vectors)]
    lim = tp.limit(p)

    def both(W, x, y, Wx, Wty):
        accounts = [lim.account(lim.E(lambda a, b: a * b, u, v)) for u, v in ((x, Wty), (Wx, y))]
        if any(a.statistical for a in accounts):
            raise errors.AccuracyError("an identity to 1e-8 needs more than an estimate")
        return [a.value for a in accounts]

    for pair in pairs:
        left, right = computable(lambda pair=pair: both(*pair))
        assert abs(left - right) <= 1e-8 * (1 + abs(left)), (str(p), pair, left, right)


@lru_cache(maxsize=12)
def drawn(seeds, name, shape, dtype):
    draws = DRAW(list(seeds), name, shape, dtype)
    draws.flags.writeable = False
    return draws


def draw(seeds, name, shape, dtype):
    """The draws of W and V, which are the same in all programs, are kept from one to the next."""
    return (
        drawn(tuple(seeds), name, shape, dtype)
        if len(shape) == 2 and len(seeds) <= 12
        else DRAW(seeds, name, shape, dtype)
    )


DRAW = sample_module.normal


def moments(p, vectors, width, seed, seeds):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sample_module, "normal", draw)
        run = tp.sample(p, width, seed=seed, seeds=seeds)
    return np.stack([(run[x] * run[y]).mean(axis=-1) for x, y in pairwise(vectors)], axis=-1)


def check_simulation(instructions):
    p, _, vectors = build(instructions)
    lim = tp.limit(p)
    expected = computable(
        lambda: np.array([lim.evaluate(lim.E(lambda a, b: a * b, x, y)) for x, y in pairwise(vectors)])
    )
    widths = [256, 512, 1024]
    for attempt, seeds in enumerate((12, 48)):  # a rare large deviation must repeat on fresh and longer runs
        samples = [moments(p, vectors, n, 1000 * attempt, seeds) for n in widths]
        z = np.abs(extrapolate(widths, samples).zscores(expected))
        if z.max() <= 4:
            return
    raise AssertionError(f"{p}\n|z| = {z}\nexpected {expected}\nlast width {samples[-1].mean(axis=0)}")


def config(examples):
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow],
    )


@config(50)
@given(programs)
def test_adjoint_identity(instructions):
    """E Z^x Z^{Wᵀy} = E Z^{Wx} Z^y."""
    check_adjoint(instructions)


@config(50)
@given(programs)
def test_limit_is_what_simulation_shows(instructions):
    check_simulation(instructions)


@pytest.mark.slow
@config(500)
@given(programs)
def test_adjoint_identity_on_many_programs(instructions):
    check_adjoint(instructions)


@pytest.mark.slow
@config(500)
@given(programs)
def test_limit_is_what_simulation_shows_on_many_programs(instructions):
    check_simulation(instructions)


def test_jumps_inside_functions():
    """E b f(sign b) is 2 f(1) times the density at 0 for odd f: the chain rule at the jump would give f'(0)."""
    p = tp.Program()
    b = p.vector("b", variance=1.5)
    z = tp.tanh(tp.sign(b))
    expected = np.tanh(1.0) * np.sqrt(2 * 1.5 / np.pi)
    lim = tp.limit(p)
    assert abs(lim.evaluate(lim.E(lambda x, y: x * y, b, z)) - expected) < 1e-14


def test_a_delta_kills_a_function_that_vanishes_where_it_stands():
    """(step·tanh)' = δ·tanh + step·tanh', and tanh(0) = 0; softplus(0) = log 2 stays."""
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y, z = (W.T @ tp.nonlin(lambda a, f=f: tp.step(a) * f(a), W @ x) for f in (tp.tanh, tp.softplus))
    lim = tp.limit(p)
    assert str(lim.cov(x, y)) == "E[step·tanh'](1)"
    expected = np.log(2) / np.sqrt(2 * np.pi) + lim.evaluate(lim.E(lambda a: tp.step(a) * tp.sigmoid(a), x))
    assert abs(lim.evaluate(lim.cov(x, z)) - expected) < 1e-12


def test_step_of_its_own_transpose():
    """lim (1/n)⟨x, Wᵀ step(Wx)⟩ = 1/√(2π): the derivative of a jump is a Dirac mass, not 0."""
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y = W.T @ tp.step(W @ x)
    m = tp.moment(lambda a, b: a * b, x, y)
    assert abs(tp.limit(p).evaluate(tp.limit(p).value(m)) - 1 / np.sqrt(2 * np.pi)) < 1e-14
    widths = [256, 512, 1024]
    samples = [tp.sample(p, n, seeds=64)[m] for n in widths]
    assert abs(extrapolate(widths, samples).zscores(np.array(1 / np.sqrt(2 * np.pi)))) <= 4


def test_most_random_programs_are_kept():
    """Discarding must stay the exception, or the tests above would say little."""
    check_adjoint([("matmul", "W", False, 0)])
    assert DISCARDED["kept"] > 4 * DISCARDED["not computable"]


# ---- exact against sampled ------------------------------------------------------------------------


def check_sampling(instructions):
    """E Z^x Z^y of consecutive vectors, exactly and by samples."""
    p, _, vectors = build(instructions)
    exact = tp.limit(p)
    pairs = list(pairwise(vectors))
    expected = computable(lambda: [exact.account(exact.E(lambda a, b: a * b, x, y)) for x, y in pairs])
    for attempt, samples in enumerate((2**14, 2**17)):  # a rare large deviation must repeat on fresh and more samples
        sampled = tp.limit(p, method="sampling", samples=samples, seed=attempt)
        found = [sampled.E(lambda a, b: a * b, x, y) for x, y in pairs]
        spread = [np.hypot(s.stderr, a.error / 4) for s, a in zip(found, expected, strict=True)]
        z = [
            abs(s - a.value) / (e + 1e-9 * (1 + abs(a.value))) for s, a, e in zip(found, expected, spread, strict=True)
        ]
        if max(z) <= 4:
            return
    raise AssertionError(f"{p}\n|z| = {z}\nexpected {[a.value for a in expected]}\nsampled {found}")


@config(25)
@given(programs)
def test_samples_agree_with_the_exact_limit(instructions):
    check_sampling(instructions)


@pytest.mark.slow
@config(300)
@given(programs)
def test_samples_agree_with_the_exact_limit_on_many_programs(instructions):
    check_sampling(instructions)


def test_sign_of_a_variable_that_may_be_0():
    """sign(step(b)) = sign(relu(b)) = step(b): their squares are not 1."""
    p = tp.Program()
    b = p.vector("b", variance=1.5, mean=0.25)
    vectors = tp.sign(tp.step(b)), tp.sign(tp.relu(b))
    lim = tp.limit(p)
    positive = (1 + math.erf(0.25 / math.sqrt(3))) / 2
    for v in vectors:
        assert abs(lim.evaluate(lim.mean(v)) - positive) < 1e-13
        assert abs(lim.evaluate(lim.E(lambda a: a**2, v)) - positive) < 1e-13
