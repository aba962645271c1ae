"""The limit of feature learning: against an independent recursion, between its methods, and against finite widths."""

import numpy as np
import pytest
from scipy import stats

import tensorprog as tp
from tensorprog.derivation.data import read_inputs
from tensorprog.finite.direct import DirectTraining
from tensorprog.finite.estimate import extrapolate
from tensorprog.finite.trajectories import FiniteTraining
from tensorprog.passes.rates import Rates

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(3, 2)), np.array([1.0, -1.0, 0.5])
BOUND = stats.t.ppf(1 - 1e-5, 15)


def bind(net, steps, *, x=X, y=Y, lr=0.3, batch=1, parametrization=None, **options):
    return FiniteTraining(net, read_inputs(x, "X", net.form), y, steps, tp.SGD(lr, **options), batch,
                          chosen=Rates.of(parametrization=parametrization or tp.mup()))  # fmt: skip


# ---- linear networks, by a recursion of their own ----------------------------------------------------


class Wide:
    """An infinite matrix with entries N(0, σ²/n) on vectors given by coordinates in orthonormal Gaussians.

    W y = Σ ⟨e_k, y⟩ ε_k + Σ ⟨ε'_j, y⟩ e'_j, where W e_k has the new Gaussian ε_k and Wᵀ e'_j the new ε'_j.
    """

    def __init__(self, size, fresh_out, fresh_in):
        self.forward, self.backward = [], []
        self.size, self.fresh = size, {"out": fresh_out, "in": fresh_in}

    def _apply(self, y, own, other, fresh):
        rest = y.copy()
        for e, _ in own * 2:
            rest -= (rest @ e) * e
        if np.linalg.norm(rest) > 1e-13 * np.linalg.norm(y):
            own.append((rest / np.linalg.norm(rest), fresh()))
        return sum((e @ y) * eps for e, eps in own) + sum((eps @ y) * e for e, eps in other)

    def __matmul__(self, y):
        return self._apply(y, self.forward, self.backward, self.fresh["out"])

    def transposed(self, z):
        return self._apply(z, self.backward, self.forward, self.fresh["in"])


def space(size):
    """A supply of orthonormal Gaussians."""
    supply = iter(np.eye(size))
    return lambda: next(supply)


def linear_mup(x, y, steps, lr, depth, su, sw, sv, batch=1, size=400):
    """f_t of a deep linear network in µP: gradient descent in spaces of random variables."""
    n, d = x.shape
    fresh = [space(size) for _ in range(depth)]
    u = [fresh[0]() for _ in range(d)]
    first = [su * sum(x[i, k] * u[k] for k in range(d)) / np.sqrt(d) for i in range(n)]
    mats = [Wide(1.0, fresh[l + 1], fresh[l]) for l in range(depth - 1)]
    low = [[] for _ in mats]
    v, history = fresh[-1](), []

    def times(l, h, transpose=False):
        result = sw * (mats[l].transposed(h) if transpose else mats[l] @ h)
        for c, left, right in low[l]:
            result = result + (c * (left @ h) * right if transpose else c * (right @ h) * left)
        return result

    for t in range(steps + 1):
        hidden = []
        for i in range(n):
            hs = [first[i]]
            for l in range(depth - 1):
                hs.append(times(l, hs[-1]))
            hidden.append(hs)
        f = np.array([sv * (v @ hs[-1]) for hs in hidden])
        history.append(f)
        updates = []
        for j in [(t * batch + b) % n for b in range(batch)]:
            step, ds = lr * (f[j] - y[j]) / batch, [sv * v]
            for l in reversed(range(depth - 1)):
                ds.insert(0, times(l, ds[0], transpose=True))
            updates.append((j, step, ds))
        for j, step, ds in updates:
            for l in range(depth - 1):
                low[l].append((-step * sw**2, ds[l + 1], hidden[j][l]))
            first = [h - step * su**2 * (x[i] @ x[j]) / d * ds[0] for i, h in enumerate(first)]
            v = v - step * sv * hidden[j][-1]
    return np.array(history)


@pytest.mark.parametrize("batch", [1, 2])
@pytest.mark.parametrize("depth", [1, 2, 3])
def test_linear_networks_follow_an_independent_recursion(depth, batch):
    su, sw, sv, steps = 1.2, 0.9, 1.1, 10
    net = tp.programs.deep_linear(depth=depth, sigma_w=[su] + [sw] * (depth - 1), sigma_v=sv)
    run = bind(net, steps, lr=0.2, batch=batch)
    limit = run.limit()
    expected = linear_mup(X, Y, steps, 0.2, depth, su, sw, sv, batch)
    assert limit.method == "linear" and np.abs(expected[-1] - expected[0]).max() > 0.1
    assert np.abs(limit.f[:, :, 0] - expected).max() < 1e-10 and not limit.stderr.any()


def test_the_symbolic_limit_is_the_same():
    run = bind(tp.programs.deep_linear(depth=2, sigma_w=1.1), 3)
    np.testing.assert_allclose(run.limit("exact").f, run.limit("linear").f, atol=1e-12)
    np.testing.assert_allclose(run.limit("exact").kernel(3)[0], run.limit("linear").kernel(3)[0], atol=1e-12)


def test_a_quadratic_network_is_exact_too():
    run = bind(tp.programs.mlp(depth=1, phi=tp.polynomial(0, 1, 0.3)), 2, lr=0.05)
    exact, grid = run.limit("exact"), run.limit("quadrature")
    np.testing.assert_allclose(exact.f, grid.f, atol=1e-9)


# ---- methods against each other ------------------------------------------------------------------------

SETTINGS = {
    "one layer, tanh": (tp.programs.mlp(depth=1, phi=tp.tanh, sigma_w=1), "quadrature"),
    "one layer, erf and momentum": (tp.programs.mlp(depth=1, phi=tp.erf, sigma_w=1), "quadrature"),
    "two layers, linear": (tp.programs.deep_linear(depth=2), "linear"),
    "tied, linear": (tp.programs.rnn(phi=tp.identity), "linear"),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_sampling_agrees_with_the_exact_methods(name):
    net, method = SETTINGS[name]
    x = [RNG.normal(size=(t, 2)) for t in (2, 3, 2)] if net.takes_sequences else 0.35 * X
    options = {"momentum": 0.5} if "momentum" in name else {}
    run = bind(net, 4, x=x, lr=0.2, **options)
    exact, sampled = run.limit(), run.limit("sampling", samples=2**15)
    assert exact.method == method and sampled.stderr[1:].min() > 0
    assert (np.abs(exact.f - sampled.f) <= BOUND * sampled.stderr + 1e-9).all()
    assert sampled.stderr.max() < 0.01
    for t in (0, 4):
        (a, _), (b, error) = exact.kernel(t), sampled.kernel(t)
        assert (np.abs(a - b) <= BOUND * error + 1e-9).all()
    (a, _), (b, error) = exact.change(4), sampled.change(4)
    assert (np.abs(a - b) <= BOUND * error + 1e-9).all() and a.max() > 0.1


@pytest.mark.slow
def test_the_standard_errors_of_a_training_run_are_honest():
    """|f − limit| is below the 95 % bound of Student's t about 95 times in 100, also after several steps."""
    run = bind(tp.programs.deep_linear(depth=2), 4)
    exact = run.limit().f[4, 0, 0]
    hits, repeats = 0, 100
    for seed in range(repeats):
        sampled = run.limit("sampling", samples=2**10, seed=seed)
        hits += abs(sampled.f[4, 0, 0] - exact) <= stats.t.ppf(0.975, 15) * sampled.stderr[4, 0, 0]
    low, high = stats.binom.interval(0.999, repeats, 0.95)
    assert low <= hits <= high


def test_quadrature_says_how_wrong_it_is():
    relu = bind(tp.programs.mlp(depth=1, phi=tp.relu), 2)
    grid, sampled = relu.limit("quadrature"), relu.limit("sampling", samples=2**18)
    assert grid.stderr.max() > 1e-5 and relu.limit(samples=2**10).method == "sampling"
    assert np.abs(grid.f - sampled.f).max() < 20 * grid.stderr.max()
    with pytest.raises(tp.NoRuleError, match="matrix products"):
        bind(tp.programs.mlp(depth=2), 1).limit("quadrature")
    with pytest.raises(tp.NoRuleError, match="not linear"):
        relu.limit("linear")


# ---- what the user asks for ----------------------------------------------------------------------------


def test_the_unrolled_program_answers_symbolically():
    run = tp.unroll(tp.programs.mlp(depth=2, phi=tp.abstract("phi")), steps=2, parametrization=tp.mup())
    assert isinstance(run, tp.FeatureTraining) and run.f(0) == 0
    assert run.Z(1, "W2(x)") != run.Z(0, "W2(x)") and run.zdelta(1, "W2(x)").free_symbols
    with pytest.raises(tp.AssumptionError, match="no fixed kernel"):
        run.certify()
    with pytest.raises(tp.AssumptionError, match="no fixed kernel"):
        bind(tp.programs.mlp(depth=1), 1).kernel()
    with pytest.raises(tp.ProgramError, match="probes"):
        FiniteTraining(tp.programs.mlp(depth=1), read_inputs(X, "X", "vectors"), Y, 1, tp.SGD(0.1), probes=(0,),
                       chosen=Rates.of(parametrization=tp.mup()))  # fmt: skip
    kernel = tp.unroll(tp.programs.mlp(depth=2, phi=tp.abstract("phi")), steps=2, parametrization=tp.standard(c=1))
    assert kernel.certify().passed and not kernel.certify(kernel=tp.programs.mlp(depth=3)).passed


def test_features_and_layers_are_asked_for_by_name():
    limit = tp.feature_limit(tp.programs.mlp(depth=2, phi=tp.tanh), X, Y, X_test=X[:1] + 1, steps=2, samples=2**12)
    assert limit.layers == ["W2", "V"] and limit.f.shape == (3, 4, 1) and limit.method == "sampling"
    assert limit.kernel(2, "W2")[0].shape == (4, 4) and limit.change(0, "W2")[0].max() == 0
    with pytest.raises(tp.ProgramError, match="'W3'.*W2"):
        limit.kernel(1, "W3")
    with pytest.raises(tp.DataError, match="t must be an integer from 0 to 2, got 3"):
        limit.kernel(3)
    with pytest.raises(tp.NoRuleError, match="did you mean 'sampling'"):
        tp.feature_limit(tp.programs.mlp(), X, Y, method="samplin")
    with pytest.raises(tp.AssumptionError, match="kernel regime"):
        tp.feature_limit(tp.programs.mlp(), X, Y, parametrization=tp.ntk_parametrization())
    with pytest.raises(tp.DataError, match="diverges"):
        tp.feature_limit(tp.programs.mlp(depth=2), X, Y, steps=9, optimizer=tp.SGD(1e6), samples=2**8)


def test_quadrature_is_kept_where_sampling_is_further_off():
    net, three = tp.programs.mlp(depth=1, phi=tp.tanh), np.random.default_rng(0).normal(size=(3, 4))
    limit, exact, sampled = (
        tp.feature_limit(net, three, np.sign(three[:, 0]), steps=1, method=m) for m in ("auto", "exact", "sampling")
    )
    assert limit.method == "quadrature" and 1e-6 < limit.stderr.max() < sampled.stderr.max()
    assert np.abs(limit.f - exact.f).max() < limit.stderr.max() and "by quadrature" in repr(limit)
    assert "features move" in repr(limit.training)


# ---- finite widths -------------------------------------------------------------------------------------


SCHEMES = {"mup": tp.mup(), "ntk": tp.ntk_parametrization(), "standard": tp.standard(c=1), "shifted": tp.mup().shift(1)}
NETS = {
    "mlp": tp.programs.mlp(depth=2, phi=tp.tanh, sigma_b=0.3),
    "tied autoencoder": tp.programs.tied_autoencoder(phi=tp.tanh),
    "rnn": tp.programs.rnn(phi=tp.tanh, sigma_b=0.2),
    "residual": tp.programs.residual_mlp(depth=3, phi=tp.tanh),
}
SEQUENCES = [RNG.normal(size=(t, 2)) for t in (2, 3, 2)]


@pytest.mark.parametrize("which", SCHEMES)
@pytest.mark.parametrize("name", NETS)
def test_moving_the_weights_directly_is_the_same_run(name, which):
    net, which = NETS[name], SCHEMES[which]
    run = bind(net, 3, x=SEQUENCES if net.takes_sequences else X, batch=2, parametrization=which)
    unrolled = run.outputs(run.execute(run.finite.draw(96, [0, 1])))[..., 0]
    direct = DirectTraining(net, run.inputs, Y, which, tp.SGD(0.3), batch=2)
    f = np.stack([outputs for _, outputs in direct.run(96, [0, 1], 3)], axis=1)
    np.testing.assert_allclose(unrolled, f, rtol=1e-9, atol=1e-9 * np.abs(f).max())


@pytest.mark.parametrize("name", NETS)
def test_sampled_limits_are_those_of_finite_widths(name):
    """Means over seeds, extrapolated by a/n, of outputs and of squared features after three steps."""
    net, widths = NETS[name], [96, 192, 384]
    run = bind(net, 3, x=SEQUENCES if net.takes_sequences else X, lr=0.2)
    limit = run.limit("sampling", samples=2**15)
    var = limit._feature(3, 0, None)
    outputs, squares = [], []
    for n in widths:
        values = run.execute(run.finite.draw(n, list(range(64))))
        outputs.append(run.outputs(values)[:, 1:, :, 0])
        squares.append((values[var] ** 2).mean(axis=-1))
    fit = extrapolate(widths, outputs)
    z = (fit.limit - limit.f[1:, :, 0]) / np.hypot(fit.stderr, limit.stderr[1:, :, 0])
    assert np.abs(z).max() < fit.threshold and fit.stderr.max() < 0.03
    fit, (kernel, error) = extrapolate(widths, squares), limit.kernel(3)
    assert abs(fit.limit - kernel[0, 0]) < 4 * np.hypot(fit.stderr, error[0, 0])


def test_features_move_in_mup_and_freeze_in_the_ntk_parametrization(tmp_path):
    schemes = [tp.mup(), tp.ntk_parametrization()]
    net = tp.programs.mlp(depth=2, phi=tp.tanh)
    check = tp.coordinate_check(net, X, [2.0, -2.0, 1.0], schemes, widths=(64, 192, 576), steps=3, seeds=8)
    for layer in ("x W2", "x V"):
        for t in (1, 2, 3):
            assert check.exponent(tp.mup(), f"Δ{layer}", t).compatible(0.0, 0.05)
            frozen = check.exponent(tp.ntk_parametrization(), f"Δ{layer}", t)
            assert frozen.compatible(-0.5, 0.05) and not frozen.compatible(0.0, 0.1)
        assert all(check.exponent(s, layer).compatible(0.0, 0.02) for s in schemes)
    assert all(check.exponent(s, "Δf").compatible(0.0, 0.1) for s in schemes)
    assert check.plot(tmp_path / "check.png").stat().st_size > 10_000
    assert "Δx V" in check.text() and "mup()" in check.text()
    limit = tp.feature_limit(net, X, [2.0, -2.0, 1.0], steps=3, samples=2**14)
    moved = np.sqrt(np.mean(limit.change(3, "V")[0] ** 2))
    size, error = (a["mup()", "Δx V"][-1, -1] for a in (check.sizes, check.stderr))
    assert abs(size - moved) < 4 * error + 0.02 * moved
    with pytest.raises(tp.DataError, match="no .*W9"):
        check.exponent(tp.mup(), "Δx W9")
