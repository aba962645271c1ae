"""Scrambled Sobol points from scipy's old and new signatures."""

import numpy as np
from scipy.stats import qmc

from tensorprog.expectations.many import points
from tensorprog.expectations.many.points import sobol_points


def test_points_are_spread_evenly_and_strictly_inside():
    x = sobol_points(3, 8, np.random.default_rng(0))
    assert x.shape == (256, 3) and x.min() > 0 and x.max() < 1
    for column in np.sort(x, axis=0).T:  # one point in each of the 256 equal parts
        assert np.array_equal(np.floor(column * 256), np.arange(256))


def test_scipy_that_calls_the_generator_seed_gives_the_same_points(monkeypatch):
    new, old = sobol_points(2, 4, np.random.default_rng(5)), qmc.Sobol
    word = points._keyword()

    class Renamed(old):
        def __init__(self, d, *, scramble=True, seed=None):
            super().__init__(d, scramble=scramble, **{word: seed})

    monkeypatch.setattr(qmc, "Sobol", Renamed)
    points._keyword.cache_clear()
    try:
        assert np.array_equal(sobol_points(2, 4, np.random.default_rng(5)), new)
    finally:
        points._keyword.cache_clear()
