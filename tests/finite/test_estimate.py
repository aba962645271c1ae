"""Extrapolation in 1/n and the exponent of the error, on synthetic runs whose truth is known."""

import numpy as np
import pytest
from scipy import stats

from tensorprog.finite.estimate import FAMILY_ERROR, Exponent, Extrapolation, exponent, extrapolate

WIDTHS = [64, 128, 256]
REPEATS = 400


def runs(rng, widths, count, limit, slope, noise):
    """Per width (count, *shape) values limit + slope/n + noise(n)·N(0, 1)."""
    shape = np.broadcast_shapes(np.shape(limit), np.shape(slope))
    return [limit + slope / n + noise(n) * rng.standard_normal((count, *shape)) for n in widths]


def within_binomial_limits(hits, p, level=0.999):
    low, high = stats.binom.interval(level, len(hits), p)
    return low <= np.count_nonzero(hits) <= high


def inside(fit, truth):
    """Which 95 % intervals contain the truth."""
    return np.abs(fit.limit - truth) <= stats.t.ppf(0.975, fit.degrees) * fit.stderr


# ---- the limit -----------------------------------------------------------------------------------


def test_the_limit_of_a_straight_line_in_1_over_n_is_exact():
    limit, slope = np.array([[1.0, -2.0], [0.0, 5.0]]), np.array([[3.0, 0.0], [-7.0, 40.0]])
    wiggle = np.array([1.0, -1.0]).reshape(2, 1, 1)  # averages out exactly
    fit = extrapolate([32, 64, 256], [limit + slope / n + wiggle / n for n in (32, 64, 256)])
    assert fit.limit == pytest.approx(limit, abs=1e-12)
    assert (fit.stderr > 0).all()


def test_the_limit_is_recovered_where_the_last_mean_is_far_off():
    samples = runs(np.random.default_rng(0), WIDTHS, 50, np.array([2.0]), np.array([100.0]), lambda n: 0.5 / np.sqrt(n))
    fit = extrapolate(WIDTHS, samples)
    assert samples[-1].mean() > 2.3
    assert abs(fit.zscores(np.array([2.0]))[0]) < 3


@pytest.mark.parametrize("count", [24, 100])
@pytest.mark.parametrize("noise", [lambda n: 1 / np.sqrt(n), lambda n: 1.0, lambda n: 8 / n], ids=["-1/2", "0", "-1"])
def test_95_percent_intervals_cover_the_limit_95_percent_of_the_time(count, noise):
    samples = runs(np.random.default_rng(1), WIDTHS, count, np.full(REPEATS, 1.5), 2.0, noise)
    assert within_binomial_limits(inside(extrapolate(WIDTHS, samples), 1.5), 0.95)


def test_intervals_cover_when_there_are_more_parameters_to_average_over():
    widths = [32, 64, 128, 256, 512]
    samples = runs(np.random.default_rng(2), widths, 200, np.zeros(REPEATS), -1.0, lambda n: 3 / np.sqrt(n))
    z = extrapolate(widths, samples).zscores(np.zeros(REPEATS))
    assert abs(z.mean()) < 3.3 / np.sqrt(REPEATS)
    low, high = np.sqrt(stats.chi2.ppf([0.0005, 0.9995], REPEATS) / REPEATS)
    assert low < np.sqrt((z**2).mean()) < high


def test_standard_errors_do_not_depend_on_the_unit():
    samples = runs(np.random.default_rng(3), WIDTHS, 16, np.ones(5), 1.0, lambda n: 1 / np.sqrt(n))
    fit, tiny = extrapolate(WIDTHS, samples), extrapolate(WIDTHS, [1e-30 * s for s in samples])
    assert tiny.limit == pytest.approx(1e-30 * fit.limit, rel=1e-12)
    assert tiny.stderr == pytest.approx(1e-30 * fit.stderr, rel=1e-12)
    assert tiny.zscores(np.full(5, 1e-30)) == pytest.approx(fit.zscores(np.ones(5)), rel=1e-6)


def test_a_wrong_limit_of_tiny_numbers_is_seen():
    samples = runs(np.random.default_rng(4), WIDTHS, 16, np.ones(5), 1.0, lambda n: 1 / np.sqrt(n))
    fit = extrapolate(WIDTHS, [1e-12 * s for s in samples])
    assert (np.abs(fit.zscores(np.full(5, 2e-12))) > fit.threshold).all()


def test_known_variances_remove_the_bias_of_skewed_entries():
    rng = np.random.default_rng(5)
    samples = [rng.standard_normal((32, REPEATS)) ** 2 for _ in WIDTHS]  # products of outputs of variance 1
    known = extrapolate(WIDTHS, samples, variance=np.full(REPEATS, 2.0)).zscores(np.ones(REPEATS))
    estimated = extrapolate(WIDTHS, samples).zscores(np.ones(REPEATS))
    assert abs(known.mean()) < 3.3 / np.sqrt(REPEATS)
    assert estimated.mean() < -0.2


def test_runs_of_one_width_give_their_mean():
    sample = np.random.default_rng(6).standard_normal((10, 2, 3))
    fit = extrapolate([64], [sample])
    assert np.array_equal(fit.limit, sample.mean(axis=0))
    assert fit.stderr == pytest.approx(sample.std(axis=0, ddof=1) / np.sqrt(10), rel=1e-12)
    assert fit.degrees == 9


# ---- entries that do not fluctuate -----------------------------------------------------------------


def test_entries_that_do_not_fluctuate_have_no_standard_error():
    samples = runs(np.random.default_rng(7), WIDTHS, 8, np.zeros(3), 0.0, lambda n: 1 / np.sqrt(n))
    for s in samples:
        s[:, 1] = 0.25
    fit = extrapolate(WIDTHS, samples)
    assert fit.limit[1] == 0.25 and fit.stderr[1] == 0
    assert fit.zscores(np.array([0.0, 0.25, 0.0]))[1] == 0
    assert np.isinf(fit.zscores(np.array([0.0, 0.26, 0.0]))[1])
    assert np.isfinite(fit.zscores(np.array([0.0, 0.26, 0.0]))[[0, 2]]).all()


def test_runs_that_all_vanish_have_limit_zero():
    fit = extrapolate(WIDTHS, [np.zeros((4, 2))] * 3)
    assert np.array_equal(fit.limit, np.zeros(2)) and np.array_equal(fit.zscores(np.zeros(2)), np.zeros(2))


def test_an_entry_that_fluctuates_at_some_widths_only_stays_finite():
    samples = [np.zeros((4, 1)), np.array([[1.0], [-1.0], [1.0], [-1.0]]), np.array([[1.0], [-1.0], [0.0], [0.0]])]
    fit = extrapolate(WIDTHS, samples)
    assert np.isfinite(fit.limit).all() and np.isfinite(fit.stderr).all()


# ---- the threshold -----------------------------------------------------------------------------------


def test_the_threshold_is_four_or_more_and_grows_with_the_numbers_tested():
    def threshold(size, degrees):
        return Extrapolation(np.zeros(size), np.ones(size), degrees).threshold

    assert threshold(1, 10**6) == 4
    assert 4 < threshold(100, 10**6) < threshold(1000, 10**6) < threshold(1000, 30) < threshold(1000, 5)
    assert threshold(1000, 10**6) == pytest.approx(stats.norm.isf(FAMILY_ERROR / 2000), rel=1e-4)


@pytest.mark.parametrize(
    ("widths", "count", "size"), [(WIDTHS, 24, 20), ([64, 128], 8, 50), ([32, 64, 128, 256], 32, 100)]
)
def test_right_families_are_refused_with_the_stated_probability_at_most(widths, count, size):
    families = 2000
    samples = runs(np.random.default_rng(8), widths, count, np.ones(families * size), 1.0, lambda n: 1 / np.sqrt(n))
    fit = extrapolate(widths, samples)
    family = Extrapolation(fit.limit[:size], fit.stderr[:size], fit.degrees)
    worst = np.abs(fit.zscores(np.ones(families * size))).reshape(families, size).max(axis=1)
    assert np.count_nonzero(worst > family.threshold) <= stats.binom.ppf(0.999, families, FAMILY_ERROR)


def test_one_wrong_entry_of_many_is_refused():
    samples = runs(np.random.default_rng(9), WIDTHS, 24, np.ones(100), 1.0, lambda n: 1 / np.sqrt(n))
    fit, expected = extrapolate(WIDTHS, samples), np.ones(100)
    assert np.abs(fit.zscores(expected)).max() < fit.threshold
    expected[37] = 1.5
    assert np.abs(fit.zscores(expected)).argmax() == 37
    assert np.abs(fit.zscores(expected)).max() > fit.threshold


# ---- the exponent --------------------------------------------------------------------------------


def deviations(rng, widths, count, size, power):
    return [float(n) ** power * rng.standard_normal((count, size)) for n in widths]


@pytest.mark.parametrize("power", [-0.5, -1.0])
def test_the_exponent_is_recovered(power):
    widths = [64, 128, 256, 512]
    fit = exponent(widths, deviations(np.random.default_rng(10), widths, 400, 6, power))
    assert fit.low < power < fit.high
    assert fit.slope == pytest.approx(power, abs=0.02)
    assert fit.errors == pytest.approx([n**power for n in widths], rel=0.1)
    assert (
        fit.compatible(power, 0.0) and not fit.compatible(power - 0.25, 0.1) and not fit.compatible(power + 0.25, 0.1)
    )


@pytest.mark.parametrize("power", [-0.5, -1.0])
def test_intervals_of_the_exponent_cover_it(power):
    rng = np.random.default_rng(11)
    fits = [exponent(WIDTHS, deviations(rng, WIDTHS, 60, 3, power), resamples=400) for _ in range(REPEATS)]
    assert within_binomial_limits([f.low <= power <= f.high for f in fits], 0.95)


def test_the_exponent_of_an_exact_power_law_is_exact():
    fit = exponent([10, 100, 1000], [np.full((5, 2), n**-0.5) for n in (10, 100, 1000)])
    assert (fit.slope, fit.low, fit.high) == pytest.approx((-0.5, -0.5, -0.5), abs=1e-12)
    assert fit.stderrs == pytest.approx(np.zeros(3), abs=1e-12)


def test_the_exponent_is_the_same_every_time():
    data = deviations(np.random.default_rng(12), WIDTHS, 8, 3, -0.5)
    assert str(exponent(WIDTHS, data)) == str(exponent(WIDTHS, data))


def test_an_exponent_prints_with_its_interval():
    fit = Exponent(-0.5, -0.625, -0.375, np.ones(1), np.ones(1))
    assert str(fit) == "-0.500 [-0.625, -0.375]"


def test_an_interval_that_would_meet_anything_decides_nothing():
    errors = np.ones(3)
    assert Exponent(-0.5, -0.9, -0.1, errors, errors).verdict(-0.5, 0.1) is True
    assert Exponent(0.3, 0.2, 0.4, errors, errors).verdict(-0.5, 0.1) is False
    wide = Exponent(0.2, -0.6, 2.0, errors, errors)
    assert wide.compatible(-0.5, 0.1) and wide.verdict(-0.5, 0.1) is None
    assert "too wide to decide" in str(wide)


# ---- where there is no exponent --------------------------------------------------------------------


def test_what_has_no_exponent_says_why_and_decides_nothing():
    ones, zeros, wild = np.ones((4, 1)), np.zeros((4, 1)), np.full((4, 1), np.inf)
    for widths, rows, words in [
        ([8, 16], [zeros, zeros], "it is 0 at every width"),
        ([8, 16, 32], [ones, zeros, ones], "it is 0 at width 16"),
        ([8, 16], [ones, wild], "it is not finite at width 16"),
        ([8], [ones], "one width, 8, has no exponent"),
        ([8, 8], [ones, ones], "one width, 8, has no exponent"),
    ]:
        fit = exponent(widths, rows)
        assert fit.missing is not None and words in str(fit) and "nan" not in str(fit)
        assert fit.verdict(-0.5, 0.1) is None and not fit.compatible(-0.5, 0.1)


def test_some_runs_of_0_leave_an_exponent():
    rng = np.random.default_rng(0)
    rows = [n**-0.5 * rng.standard_normal((12, 3)) for n in WIDTHS]
    for r in rows:
        r[:6] = 0
    fit = exponent(WIDTHS, rows)
    assert fit.missing is None and np.isfinite([fit.slope, fit.low, fit.high]).all() and fit.low < fit.slope < fit.high


@pytest.mark.parametrize("size", [1e-200, 1e200])
def test_sizes_whose_squares_are_no_numbers_have_exponents(size):
    rng = np.random.default_rng(0)
    rows = [n**-0.5 * rng.standard_normal((50, 4)) for n in WIDTHS]
    fit, scaled = exponent(WIDTHS, rows), exponent(WIDTHS, [size * r for r in rows])
    assert (scaled.slope, scaled.low, scaled.high) == pytest.approx((fit.slope, fit.low, fit.high), abs=1e-9)
    assert scaled.errors / size == pytest.approx(fit.errors, rel=1e-12)


def test_a_single_run_has_no_interval():
    fit = exponent(WIDTHS, [np.full((1, 1), n**-0.5) for n in WIDTHS])
    assert fit.slope == pytest.approx(-0.5) and (fit.low, fit.high) == (-np.inf, np.inf)
    assert fit.verdict(-0.5, 0.1) is None
