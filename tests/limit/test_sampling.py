"""The sampling interpreter: against the exact limit, against simulation, honest standard errors."""

from itertools import pairwise

import numpy as np
import pytest
import sympy as sp
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from scipy import stats

import tensorprog as tp
from tensorprog.dsl.parts import Parts
from tensorprog.finite.estimate import extrapolate
from tests.gallery import DEAR

BOUND = stats.t.ppf(1 - 1e-5, 15)  # of 16 randomisations; 1e-5 for the many numbers that are compared


def agree(estimate, exact):
    """Whether a sampled answer is compatible with an exact one."""
    return abs(estimate - exact) <= BOUND * estimate.stderr + 1e-9 * (1 + abs(exact))


def network_program(name, **hyper):
    """The forward and backward program of a gallery network on two inputs, with numbers for its data."""
    from tensorprog.derivation.data import read_inputs
    from tensorprog.finite.empirical import FiniteNetwork

    net = tp.programs.GALLERY[name](**hyper)
    rng = np.random.default_rng(0)
    data = rng.normal(size=(2, 4))
    if isinstance(net.form, Parts):
        data = {part: rng.normal(size=(2, 4)) for part in net.form.vectors}
    elif net.takes_sequences:
        data = [rng.normal(size=(3, 4)), rng.normal(size=(2, 4))]
    return FiniteNetwork.of(net, read_inputs(data, "X", net.form))


OVER_POSITIONS = {name for name, net in tp.programs.GALLERY.items() if net().takes_axes}


@pytest.mark.parametrize("name", sorted(OVER_POSITIONS))
def test_limits_over_positions_are_not_sampled(name):
    net = tp.programs.GALLERY[name]()
    with pytest.raises(tp.AssumptionError, match="limits by sampling are not taken over positions"):
        tp.limit(net.trace([None, None]).program, method="sampling")


NAMES = sorted(set(tp.programs.GALLERY) - OVER_POSITIONS)


@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in DEAR)) for n in NAMES])
def test_the_gallery_has_the_exact_moments(name):
    finite = network_program(name)
    sampled = tp.limit(finite.program, method="sampling", samples=2**17, values=finite.hyper)
    exact = tp.limit(finite.program)
    vectors = [v for v, _ in finite.program if v.kind == "vector"]
    for x, y in pairwise(vectors):
        expected = exact.evaluate(exact.E(lambda a, b: a * b, x, y), finite.hyper)
        assert agree(sampled.E(lambda a, b: a * b, x, y), expected), (x, y)


def gate_program():
    """A gated unit: a nonlinearity of a product, which no formula covers."""
    p = tp.Program()
    W, U = p.matrix("W"), p.matrix("U", variance=1.5)
    x, h = p.gaussian("x h", [[1, 0.3], [0.3, 1]])
    gate = tp.nonlin(lambda a: tp.sigmoid(a), W @ h)
    candidate = tp.nonlin(lambda g, a, b: tp.relu(g * a + b), gate, U @ h, x)
    new = tp.nonlin(lambda g, a, b: g * a + (1 - g) * b, gate, candidate, h)
    back = W.T @ new
    m = tp.moment(lambda a, b: tp.tanh(a * b), back, h)
    return p, [new, back, candidate], m


def test_a_gated_unit_has_no_formula_and_agrees_with_simulation():
    p, vectors, m = gate_program()
    exact = tp.limit(p)
    account = exact.account(exact.E(lambda a: a**2, vectors[0]))
    assert account.statistical
    sampled = tp.limit(p, method="sampling", samples=2**19)
    widths = [256, 512, 1024]
    runs = [tp.sample(p, n, seeds=48) for n in widths]
    assert abs(account.value - sampled.E(lambda a: a**2, vectors[0])) <= account.error + 4 * sampled.stderr(
        sampled.E(lambda a: a**2, vectors[0])
    )
    for v in vectors:
        fit = extrapolate(widths, [(r[v] ** 2).mean(axis=1) for r in runs])
        estimate = sampled.E(lambda a: a**2, v)
        assert abs(fit.limit - estimate) <= 4 * np.hypot(fit.stderr, estimate.stderr)
    fit = extrapolate(widths, [r[m] for r in runs])
    assert abs(fit.limit - sampled.value(m)) <= 4 * np.hypot(fit.stderr, sampled.value(m).stderr)


@pytest.mark.slow
def test_a_gated_unit_agrees_with_simulation_at_width_8192():
    p, vectors, m = gate_program()
    sampled = tp.limit(p, method="sampling", samples=2**19)
    run = tp.sample(p, 8192, seeds=16)  # the bias of order 1/n is far below the noise of order n^(-1/2)

    def compatible(values, estimate):
        error = np.hypot(values.std(ddof=1) / np.sqrt(len(values)), estimate.stderr)
        return abs(values.mean() - estimate) <= 4 * error

    for v in vectors:
        assert compatible((run[v] ** 2).mean(axis=1), sampled.E(lambda a: a**2, v))
    assert compatible(run[m], sampled.value(m))


def test_auto_says_what_was_sampled():
    p, vectors, _ = gate_program()
    lim = tp.limit(p, method="auto", samples=2**14)
    x = p.named("x")
    assert lim.E(lambda a: a**2, x).method == "exact" and lim.E(lambda a: a**2, x) == 1
    assert lim.E(lambda a: a**2, vectors[0]).method == "sampled"


def test_standard_errors_are_honest():
    """|estimate − limit| is below the 95 % bound of Student's t about 95 times in 100."""
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y = W.T @ tp.step(W @ x)
    hits, repeats = 0, 200
    for seed in range(repeats):
        estimate = tp.limit(p, method="sampling", samples=2**12, seed=seed).cov(x, y)
        hits += abs(estimate - 1 / np.sqrt(2 * np.pi)) <= stats.t.ppf(0.975, 15) * estimate.stderr
    low, high = stats.binom.interval(0.999, repeats, 0.95)
    assert low <= hits <= high


@settings(max_examples=15, deadline=None, derandomize=True, database=None, phases=[Phase.generate],
          suppress_health_check=[HealthCheck.too_slow])  # fmt: skip
@given(st.lists(st.tuples(st.sampled_from(["W", "Wt", "relu", "step", "tanh", "sum"]), st.integers(0, 9)), min_size=3,
                max_size=7))  # fmt: skip
def test_random_programs_keep_the_adjoint_identity(instructions):
    """E Z^x Z^{Wᵀy} = E Z^{Wx} Z^y holds sample by sample, whatever was estimated."""
    p = tp.Program()
    W = p.matrix("W", variance=0.8)
    vectors = p.gaussian("a b", [[1, 0.5], [0.5, 1.5]], mean=[0, 0.25])
    rules = {
        "W": lambda v: W @ v,
        "Wt": lambda v: W.T @ v,
        "relu": tp.relu,
        "step": tp.step,
        "tanh": tp.tanh,
        "sum": lambda v: v + vectors[0] / 2,
    }
    for name, i in instructions:
        vectors.append(rules[name](vectors[-1 - i % len(vectors)]))
    x, y = vectors[-1], vectors[-2]
    Wx, Wty = W @ x, W.T @ y
    lim = tp.limit(p, method="sampling", samples=2**15)
    left, right = lim.E(lambda a, b: a * b, x, Wty), lim.E(lambda a, b: a * b, Wx, y)
    assert abs(left - right) <= BOUND * np.hypot(left.stderr, right.stderr) + 1e-6


def test_memory_is_bounded_and_changes_nothing():
    p, vectors, _ = gate_program()
    held = tp.limit(p, method="sampling", samples=2**14)
    redrawn = tp.limit(p, method="sampling", samples=2**14, memory=3 * 8 * 13 * 2**10)
    assert redrawn._cache is None and held._cache is not None
    assert held.samples == redrawn.samples
    assert held.E(lambda a: a**2, vectors[0]) == redrawn.E(lambda a: a**2, vectors[0])


def test_dependent_vectors_share_their_gaussians():
    p = tp.Program()
    W, x = p.matrix("W"), p.vector("x")
    y, z = W @ x, W @ (2 * x)
    lim = tp.limit(p, method="sampling", samples=2**12)
    assert abs(lim.E(lambda a, b: (b - 2 * a) ** 2, y, z)) < 1e-20


@pytest.mark.parametrize(
    ("options", "error", "culprit"),
    [
        ({"samples": 0}, tp.DataError, "samples"),
        ({"samples": 1.5}, tp.DataError, "samples"),
        ({"seed": -1}, tp.DataError, "seed"),
        ({"method": "samplin"}, tp.NoRuleError, "did you mean 'sampling'"),
    ],
)
def test_bad_options_are_refused(options, error, culprit):
    p = tp.Program()
    p.vector("x")
    with pytest.raises(error, match=culprit):
        tp.limit(p, **{"method": "sampling", **options})


def test_a_symbol_needs_a_value():
    p = tp.Program()
    c = sp.Symbol("c")
    x = p.vector("x", variance=c)
    with pytest.raises(tp.DataError, match="c"):
        tp.limit(p, method="sampling").mean(x)
    assert abs(tp.limit(p, method="sampling", values={c: 2.0}).cov(x, x) - 2) < 0.01


@pytest.mark.parametrize("order", [("x", "q", "x + q"), ("x + q", "x", "q"), ("q", "x + q", "x")])
def test_rounding_does_not_decide_signs_of_products_that_cancel(order):
    p = tp.Program()
    W, x, q = p.matrix("W"), p.vector("x"), p.vector("q")
    made = {"x": lambda: W @ x, "q": lambda: W @ q, "x + q": lambda: W @ (x + q)}
    y = {name: made[name]() for name in order}
    m = tp.moment(lambda a: a**2, tp.sign(y["x + q"] - y["x"] - y["q"]))
    assert tp.limit(p, "sampling", samples=2**10).value(m) == 0 == tp.limit(p).value(m)
    assert tp.sample(p, width=64)[m] == 0
