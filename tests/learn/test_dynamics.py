"""Training dynamics: against direct time stepping, an ODE solver, and networks of finite width."""

import numpy as np
import pytest
import sympy as sp
from scipy.linalg import expm

import tensorprog as tp
from tensorprog.finite.estimate import extrapolate
from tensorprog.learn.dynamics import Dynamics

rng = np.random.default_rng(0)
X, X_TEST = rng.normal(size=(7, 3)), rng.normal(size=(4, 3))
Y = rng.normal(size=(7, 2))
NET = tp.programs.mlp(depth=2, phi=tp.erf, sigma_w=1.3, sigma_b=0.4)
THETA, NNGP = tp.ntk(NET), tp.nngp(NET)


@pytest.fixture(scope="module", params=["ntk", "nngp"])
def kind(request):
    return request.param


@pytest.fixture(scope="module", params=[True, False], ids=["mean", "sum"])
def average(request):
    return request.param


@pytest.fixture(scope="module")
def dynamics(kind, average):
    return Dynamics.of(NET, X, Y, X_TEST, kind=kind, average=average)


def joint(kind):
    """The moving kernel of all inputs with the training inputs, and the covariance at the start."""
    both = np.concatenate([X, X_TEST])
    return (THETA if kind == "ntk" else NNGP)(both)[:, : len(X)], NNGP(both)


def stepped(kind, weight, rate, steps, f0, y):
    """f_{t+1} = f_t − η K (f_t − y) on all inputs, one step after the other."""
    K, _ = joint(kind)
    f = f0.copy()
    for _ in range(steps):
        f = f - rate * weight * K @ (f[: len(X)] - y)
    return f


def close(actual, expected, tolerance=1e-10):
    np.testing.assert_allclose(actual, expected, rtol=0, atol=tolerance * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize("steps", [0, 1, 2, 17, 400])
@pytest.mark.parametrize("fraction", [0.01, 0.4, 0.99])
def test_steps_equal_direct_time_stepping(dynamics, kind, average, steps, fraction):
    rate, weight = fraction * dynamics.max_rate, 1 / len(X) if average else 1.0
    f0 = np.random.default_rng(1).normal(size=(11, 2))
    train, test = dynamics.follow(steps, f0[:7], f0[7:], rate=rate)
    close(np.concatenate([train, test]), stepped(kind, weight, rate, steps, f0, Y))
    mean = np.concatenate([dynamics.mean(steps, rate), dynamics.test_mean(steps, rate)])
    close(mean, stepped(kind, weight, rate, steps, np.zeros((11, 2)), Y))


@pytest.mark.parametrize("steps", [1, 30])
def test_covariances_are_those_of_stepped_gaussian_starts(dynamics, kind, average, steps):
    rate, weight = 0.7 * dynamics.max_rate, 1 / len(X) if average else 1.0
    _, prior = joint(kind)
    map_ = stepped(kind, weight, rate, steps, np.eye(11), np.zeros((7, 11)))  # linear in the start
    expected = map_ @ prior @ map_.T
    close(dynamics.cov(steps, rate), expected[:7, :7])
    close(dynamics.test_cov(steps, rate), expected[7:, 7:])


@pytest.mark.parametrize("t", [0.0, 0.3, 5.0, 2e3])
def test_gradient_flow_is_the_matrix_exponential(dynamics, kind, average, t):
    K, prior = joint(kind)
    weight = 1 / len(X) if average else 1.0
    decay = expm(-weight * t * K[:7])
    A = K[7:] @ np.linalg.solve(K[:7], np.eye(7) - decay)
    close(dynamics.mean(t), Y - decay @ Y)
    close(dynamics.test_mean(t), A @ Y, 1e-9)
    close(dynamics.cov(t), decay @ prior[:7, :7] @ decay.T)
    full = np.block([-A, np.eye(4)])
    close(dynamics.test_cov(t), full @ prior @ full.T, 1e-9)


def test_infinite_time_is_kernel_regression(dynamics, kind):
    K, prior = joint(kind)
    close(dynamics.mean(np.inf), Y)
    close(dynamics.cov(np.inf), np.zeros((7, 7)))
    close(dynamics.test_mean(np.inf), K[7:] @ np.linalg.solve(K[:7], Y))
    close(dynamics.test_mean(np.inf, rate=0.9 * dynamics.max_rate), dynamics.test_mean(np.inf))
    if kind == "nngp":  # training the readout samples from the posterior
        close(dynamics.test_cov(np.inf), prior[7:, 7:] - K[7:] @ np.linalg.solve(K[:7], K[7:].T))


def test_samples_have_the_mean_and_the_covariance():
    d = Dynamics.of(NET, X, Y[:, 0], X_TEST)
    draws = d.sample(3.0, size=20000, seed=1)
    cov = d.test_cov(3.0)
    z = (draws.mean(0) - d.test_mean(3.0)) / np.sqrt(np.diag(cov) / len(draws))
    assert np.abs(z).max() < 4
    spread = np.sqrt((np.outer(np.diag(cov), np.diag(cov)) + cov**2) / len(draws))
    assert (np.abs(np.cov(draws.T) - cov) / spread).max() < 4


# ---- learning rates and early stopping -----------------------------------------------------------


def test_the_maximal_rate_is_where_steps_begin_to_grow(dynamics):
    below, above = (np.abs(dynamics.mean(20001, rate=r * dynamics.max_rate)).max() for r in (0.999, 1.001))
    assert below < 2 * np.abs(Y).max() and above > 1e5 * np.abs(Y).max()
    with pytest.raises(tp.DataError, match="largest stable learning rate"):
        dynamics.mean(np.inf, rate=1.001 * dynamics.max_rate)
    with pytest.raises(tp.AccuracyError, match="overflow.*largest stable"):
        dynamics.mean(10**6, rate=2 * dynamics.max_rate)


@pytest.mark.parametrize("spread", [False, True])
def test_early_stopping_finds_the_least_loss(spread):
    noisy = Y + 2 * np.random.default_rng(3).normal(size=Y.shape)
    d = Dynamics.of(NET, X, noisy, X_TEST)
    goal = 0.2 * THETA(X_TEST, X) @ np.linalg.solve(THETA(X), Y)

    def loss(t, rate=None):
        extra = 2 * np.trace(d.test_cov(t, rate)) if spread else 0.0
        return (np.sum((d.test_mean(t, rate) - goal) ** 2) + extra) / 8

    flow = d.early_stopping(goal, spread=spread)
    assert 0 < flow.time < np.inf and flow.loss == pytest.approx(loss(flow.time), rel=1e-9)
    assert all(flow.loss <= loss(t) + 1e-12 for t in np.geomspace(1e-3, 1e6, 300))
    rate = 0.05 * d.max_rate
    steps = d.early_stopping(goal, rate=rate, spread=spread)
    assert steps.time == round(steps.time) and steps.loss == pytest.approx(loss(steps.time, rate), rel=1e-9)
    assert all(steps.loss <= loss(t, rate) + 1e-12 for t in range(3000))
    assert d.early_stopping(goal, rate=rate, most=1, spread=spread).time <= 1


# ---- singular kernels and bad input --------------------------------------------------------------


def test_a_repeated_input_is_named_and_gives_numbers_all_the_same():
    twice = np.concatenate([X, X[2:3]])
    y = np.append(Y[:, 0], Y[2, 0] + 1)
    d = Dynamics.of(NET, twice, y, X_TEST)
    with pytest.warns(RuntimeWarning, match=r"rank 7 of 8; inputs that the kernel cannot tell apart: 2, 7"):
        train = d.mean(np.inf)
    close(train[[2, 7]], np.full(2, Y[2, 0] + 0.5))  # the mean of two labels of one input
    single = Dynamics.of(NET, X, Y[:, 0] + 0.5 * (np.arange(7) == 2), X_TEST)
    with pytest.warns(RuntimeWarning):
        close(d.test_mean(np.inf), single.test_mean(np.inf), 1e-8)
        late = d.test_mean(np.inf)
    for t in (1e6, 1e14, 1e18):  # nothing moves along the null direction, however long
        close(d.test_mean(t), late, 1e-8)
        close(d.mean(t)[[2, 7]], np.full(2, Y[2, 0] + 0.5), 1e-8)


def test_a_kernel_of_low_numerical_rank_settles():
    x = np.linspace(-1, 1, 150)[:, None]
    y = np.sign(x[:, 0]) + np.random.default_rng(5).normal(size=150)
    d = Dynamics.of(NET, x, y, x + 0.003, ensemble=False)
    assert 10 < d.spectrum.rank < 150
    with pytest.warns(RuntimeWarning, match="singular"):
        last = np.abs(d.test_mean(np.inf)).max()
    slowest = 1 / (d.spectrum.values[~d.spectrum.null][0] / 150)
    for t in np.geomspace(40 * slowest, 1e6 * slowest, 5):
        assert np.abs(d.test_mean(t)).max() == pytest.approx(last, rel=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([[1.0, 0.0]], [1.0]), "square"),
        (([[1.0, 2.0], [0.0, 1.0]], [1.0, 1.0]), "not symmetric"),
        (([[1.0, 2.0], [2.0, 1.0]], [1.0, 1.0]), "not positive semidefinite"),
        (([[1.0, np.nan], [np.nan, 1.0]], [1.0, 1.0]), "is nan"),
        (([[1.0]], [1.0, 2.0]), r"y must have shape \(1,\)"),
        (([[1.0]], [np.inf]), "not finite"),
        (([[1.0]], [1.0], [[1.0, 2.0]]), r"theta_test must be a matrix of shape \(any, 1\)"),
        (([[1.0]], ["a"]), "not an array of real numbers"),
        (([[1.0]], [1j]), "not an array of real numbers"),
        (([[1.0 + 0j]], [1.0]), "theta is not a matrix of real numbers"),
        (([[1.0]], np.zeros((1, 0))), r"y must have shape \(1,\)"),
        (([[1.0]], [1.0], [[1.0], [1.0]], [[1.0]], [[1.0], [1.0]], [[1.0, 0.0], [0.5, 1.0]]), "not symmetric"),
        ((np.zeros((0, 0)), []), "no inputs"),
    ],
)
def test_bad_matrices_are_refused(arguments, message):
    with pytest.raises(tp.DataError, match=message):
        Dynamics(*arguments)


def test_bad_times_and_missing_kernels_are_refused():
    d = Dynamics([[1.0]], [1.0])
    for bad in (-1.0, np.nan):
        with pytest.raises(tp.DataError, match="time must be at least 0"):
            d.mean(bad)
    with pytest.raises(tp.DataError, match="must be an integer"):
        d.mean(0.5, rate=0.1)
    for bad in (-0.1, "0.1", np.array([0.1])):
        with pytest.raises(tp.DataError, match="positive number"):
            d.mean(1, rate=bad)
    with pytest.raises(tp.DataError, match="most must be a time"):
        Dynamics([[1.0]], [1.0], [[1.0]]).early_stopping([1.0], most="a")
    with pytest.raises(tp.AssumptionError, match="theta_test: give it, or X_test to"):
        d.test_mean(1.0)
    with pytest.raises(tp.AssumptionError, match="nngp: give it, or ensemble=True to"):
        d.cov(1.0)
    with pytest.raises(tp.AssumptionError, match="nngp_test: give it, or ensemble=True and X_test to"):
        Dynamics([[1.0]], [1.0], [[1.0]], [[1.0]]).test_cov(1.0)
    with pytest.raises(tp.ProgramError, match="kind must be"):
        Dynamics.of(NET, X, Y, kind="sgd")


def test_a_network_without_random_readout_has_dynamics_without_covariance():
    net = tp.programs.mean_readout()
    with pytest.raises(tp.AssumptionError, match="no Gaussian process"):
        Dynamics.of(net, X, Y)
    d = Dynamics.of(net, X, Y, X_TEST, ensemble=False)
    for call in (d.mean, d.test_mean, lambda t: d.early_stopping(np.zeros((4, 2)))):
        with pytest.raises(tp.AssumptionError, match=r"readout is not random.*use follow\(t, f0\)"):
            call(2.0)
    f0 = np.random.default_rng(1).normal(size=(11, 2))
    train, test = d.follow(3, f0[:7], f0[7:], rate=0.1)
    both = np.concatenate([X, X_TEST])
    K, f = tp.ntk(net)(both)[:, :7], f0
    for _ in range(3):
        f = f - 0.1 / 7 * K @ (f[:7] - Y)
    close(np.concatenate([train, test]), f)


def test_shapes_of_targets_must_agree():
    d, goal = Dynamics.of(NET, X, Y[:, 0], X_TEST), np.ones(4)
    with pytest.raises(tp.DataError, match=r"y_test must have shape \(4,\) to go with y, got \(4, 1\)"):
        d.early_stopping(goal[:, None])
    with pytest.raises(tp.DataError, match=r"f0 must have shape \(7,\)"):
        d.follow(1.0, np.zeros((7, 1)))
    with pytest.raises(tp.DataError, match=r"f0_test must have shape \(4,\)"):
        d.follow(1.0, np.zeros(7), np.zeros((4, 2)))
    with pytest.raises(tp.DataError, match=r"y_test must have shape \(4, 2\)"):
        Dynamics.of(NET, X, Y, X_TEST).early_stopping(goal)


def test_diverging_steps_are_an_error_and_no_best_time():
    d = Dynamics.of(NET, X, Y[:, 0], X_TEST)
    rate = 2 * d.max_rate  # factors of −3
    for call in (d.mean, d.cov, d.test_cov):
        with pytest.raises(tp.AccuracyError, match="overflow"):
            call(400, rate)
    for spread in (False, True):
        best = d.early_stopping(np.ones(4), rate=rate, most=10**4, spread=spread)
        assert np.isfinite(best.loss) and best.time < 10


def test_matrices_of_different_kernels_are_refused():
    K, C, own = NNGP(X), NNGP(X_TEST, X), NNGP(X_TEST)
    d = Dynamics(K, Y, C, K, C, 0.01 * own)
    with pytest.raises(tp.DataError, match="not of one network"):
        d.test_cov(np.inf)


def test_data_of_networks_are_checked_by_name():
    with pytest.raises(tp.DataError, match="X has feature dimension 3 and X_test 2"):
        Dynamics.of(NET, X, Y, X_TEST[:, :2])
    with pytest.raises(tp.ProgramError, match=r"call it, mlp\(\)"):
        Dynamics.of(tp.programs.mlp, X, Y)

    @tp.network
    def two(net, x):
        h = tp.erf(net.embed("U", x))
        return net.readout("V", h), net.readout("V2", h, std=3)

    with pytest.raises(tp.ProgramError, match="two has 2 outputs"):
        Dynamics.of(two(), X, Y)


def test_networks_that_index_fixed_times():
    @tp.network
    def fifth(net, x):
        return net.readout("V", tp.erf(net.embed("U", x[4])))

    S = rng.normal(size=(5, 5, 2))
    d = Dynamics.of(fifth(), S[:3], Y[:3], S[3:])
    K = tp.ntk(fifth(), lengths=(5, 5))
    close(d.test_mean(np.inf), K(S[3:], S[:3]) @ np.linalg.solve(K(S[:3]), Y[:3]))


class Table:
    """What is no array of NumPy, with a method of a name that moves arrays of other libraries."""

    def __init__(self, x):
        self.x = x

    def get(self, key):
        raise KeyError(key)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.x, dtype)


def test_inputs_of_other_libraries():
    torch = pytest.importorskip("torch")
    expected = Dynamics.of(NET, X, Y, X_TEST).test_cov(2.0)
    close(Dynamics.of(NET, torch.tensor(X), torch.tensor(Y), torch.tensor(X_TEST)).test_cov(2.0), expected)
    frames = map(Table, (X, Y, X_TEST))
    close(Dynamics.of(NET, *frames).test_cov(2.0), expected)


def test_symbols_take_values_by_name():
    s = sp.Symbol("sigma_w", positive=True)
    net = tp.programs.mlp(depth=2, phi=tp.erf, sigma_w=s, sigma_b=0.4)
    d = Dynamics.of(net, X, Y, X_TEST, values={"sigma_w": 1.3})
    close(d.test_cov(2.0), Dynamics.of(NET, X, Y, X_TEST).test_cov(2.0))


def test_sequences_of_any_lengths():
    net = tp.programs.rnn(sigma_b=0.3)
    S = [rng.normal(size=(t, 2)) for t in (3, 1, 2, 3)]
    d = Dynamics.of(net, S[:3], Y[:3], S[3:])
    K = tp.ntk(net)
    close(d.test_mean(np.inf), K(S[3:], S[:3]) @ np.linalg.solve(K(S[:3]), Y[:3]))


# ---- networks of finite width --------------------------------------------------------------------


def against_training(widths, seeds, steps):
    """z-scores of mean and second moment of trained networks, extrapolated in 1/n, against the ensemble."""
    net = tp.programs.mlp(depth=1, phi=tp.erf, sigma_w=1.3, sigma_b=0.4)
    x, x_test, y = X[:3], X_TEST[:1], Y[:3, 0]
    d = Dynamics.of(net, x, y, x_test)
    rate = 0.5 * d.max_rate
    report = tp.train(net, x, y, X_test=x_test, steps=steps, optimizer=tp.SGD(rate), batch=3, widths=widths,
                      seeds=seeds, times=())  # fmt: skip
    f = [report.f[n][:, -1, :, 0] for n in widths]
    mean = np.append(d.mean(steps, rate), d.test_mean(steps, rate))
    variance = np.append(np.diag(d.cov(steps, rate)), np.diag(d.test_cov(steps, rate)))
    first = extrapolate(list(widths), f)
    second = extrapolate(list(widths), [(a - mean) ** 2 for a in f])
    return (first, mean), (second, variance)


def check(moments):
    for estimate, expected in moments:
        assert np.abs(estimate.zscores(expected)).max() < estimate.threshold, (estimate.limit, expected)
        assert (estimate.stderr < 0.25 * np.abs(expected).max()).all()  # the test can tell


def test_finite_networks_train_like_the_ensemble():
    check(against_training((64, 128), 400, 4))


@pytest.mark.slow
def test_finite_networks_train_like_the_ensemble_to_a_percent():
    moments = against_training((128, 256, 512), 6000, 6)
    check(moments)
    assert (moments[0][0].stderr < 0.02 * np.abs(moments[0][1]).max()).all()
