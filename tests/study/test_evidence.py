"Draws know what belongs together, and their intervals cover as often as they say."

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from musicmtl.core import generator
from musicmtl.study import DRAWS, as_row, draws, interval, over_seeds, resampled, shuffled


@given(n=st.integers(1, 40), seed=st.integers(0, 5))
def test_draws_are_bootstrap_samples(n, seed):
    weights = draws(n, seed)
    assert weights.shape == (1 + DRAWS, n) and (weights[0] == 1).all()
    assert (weights.sum(1) == n).all() and weights.min() >= 0
    assert (draws(n, seed) == weights).all()


def test_other_seeds_draw_other_samples():
    assert (draws(20, 0) != draws(20, 1)).any()


def test_intervals_cover_as_often_as_they_say():
    "Means of 40 normal numbers, 200 times: the 95 % interval holds the truth in about 95 % of them."
    weights, covered = draws(40, 0) / 40, 0
    for trial in range(200):
        _, low, high = interval(weights @ generator("coverage", trial).normal(size=40))
        covered += low <= 0 <= high
    assert 178 <= covered <= 199  # 190 expected, four standard errors to each side; percentiles are a little narrow


def test_an_interval_is_of_the_draws_and_its_value_of_the_sample():
    values = np.concatenate([[7.0], np.arange(DRAWS)])
    assert interval(values) == (7.0, pytest.approx(0.025 * (DRAWS - 1)), pytest.approx(0.975 * (DRAWS - 1)))
    values[1::2] = np.nan  # draws in which nothing could be computed
    assert np.isfinite(interval(values)).all()
    assert as_row((1.0, 0.5, 2.0)) == {"effect": 1.0, "low": 0.5, "high": 2.0}


def test_variants_are_paired_over_seeds():
    "Two variants that differ by a constant for every seed differ by it in every draw."
    values = generator("seeds").normal(size=(4, 1 + DRAWS))
    np.testing.assert_allclose(over_seeds(values + 0.3) - over_seeds(values), 0.3)
    assert over_seeds(values)[0] == pytest.approx(values[:, 0].mean())


def test_one_seed_is_its_own_mean():
    values = generator("one").normal(size=(1, 1 + DRAWS))
    np.testing.assert_array_equal(over_seeds(values), values[0])


def test_more_seeds_narrow_the_interval_by_the_root_of_their_number():
    "Where all that varies is the seed."
    value = generator("widths").normal(size=400)
    widths = [np.ptp(interval(over_seeds(np.repeat(value[:n, None], 1 + DRAWS, 1)))[1:]) for n in (4, 100, 400)]
    assert widths[2] == pytest.approx(widths[1] / 2, rel=0.2) and widths[0] > widths[1]


def test_shuffled_keeps_the_sample_and_the_interval():
    values = generator("shuffle").normal(size=1 + DRAWS)
    assert interval(shuffled(values)) == interval(values)
    assert abs(np.corrcoef(shuffled(values)[1:], values[1:])[0, 1]) < 0.2


def test_a_resampled_statistic_is_one_of_pairs():
    x = np.arange(6.0)
    found = resampled(lambda a, b: (a - b).mean(), x + 2, x)
    np.testing.assert_allclose(found, 2)
    assert found.shape == (1 + DRAWS,) and np.ptp(resampled(np.mean, x)) > 0
