"""Trivial rivals: statistics of bands, and the linear classifier that all of them share."""

import numpy as np
import pytest

from musicmtl.core import ParamsError, generator
from musicmtl.study.rivals import band_statistics, linear_rival, standardised

PARTS = {"train": np.arange(200), "valid": np.arange(200, 300), "test": np.arange(300, 400)}


class Maps:
    "A store of one feature whose maps are given."

    def __init__(self, maps):
        self.maps = maps

    def read(self, feature, row):
        return self.maps[row]


def test_band_statistics_are_means_and_deviations_over_time():
    maps = [generator("map", i).normal(size=(3, 50)).astype(np.float32) for i in range(2)]
    found = band_statistics(Maps(maps), "mel", np.array([1, 0]))
    expected = [np.r_[x.mean(1), x.std(1)] for x in (maps[1], maps[0])]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
    cut = band_statistics(Maps(maps), "mel", np.array([0]), np.array([10]), 5)
    np.testing.assert_allclose(cut[0], np.r_[maps[0][:, 10:15].mean(1), maps[0][:, 10:15].std(1)], rtol=1e-5, atol=1e-6)


def test_features_are_standardised_on_the_training_part_alone():
    x = generator("x").normal(3, 2, (400, 2))
    x[:, 1] = 7
    z = standardised(x, PARTS["train"])
    assert abs(z[PARTS["train"], 0].mean()) < 1e-9 and (z[:, 1] == 0).all()
    x[PARTS["test"]] += 100
    np.testing.assert_array_equal(standardised(x, PARTS["train"])[PARTS["train"]], z[PARTS["train"]])


def test_the_rival_never_sees_the_answers_of_the_test_part():
    rng = generator("rival")
    y = rng.integers(0, 3, 400)
    x = y[:, None] + rng.normal(size=(400, 4))
    p = linear_rival(x, y, PARTS)
    other = y.copy()
    other[PARTS["test"]] = rng.integers(0, 3, 100)
    np.testing.assert_array_equal(linear_rival(x, other, PARTS), p)
    np.testing.assert_allclose(p.sum(1), 1)
    assert (p.argmax(1) == y)[PARTS["test"]].mean() > 0.6


def test_noise_is_regularised_to_the_frequencies_of_the_classes():
    rng = generator("noise")
    y, x = (rng.random(400) < 0.8).astype(int), rng.normal(size=(400, 60))
    p = linear_rival(x, y, PARTS)
    assert abs(p[PARTS["test"], 1] - 0.8).max() < 0.15


def test_tags_have_a_classifier_each_and_one_that_is_never_there_keeps_its_frequency():
    rng = generator("tags")
    y = np.stack([rng.integers(0, 2, 400), np.zeros(400, int)], 1)
    p = linear_rival(y[:, :1] + rng.normal(0, 0.3, (400, 1)), y, PARTS)
    assert ((p[:, 0] > 0.5) == y[:, 0])[PARTS["test"]].mean() > 0.9 and (p[:, 1] == 0).all()


def test_a_class_without_training_items_gets_no_probability():
    y = np.r_[np.zeros(150, int), np.ones(150, int), np.full(100, 2)]
    order = {"train": np.arange(0, 300, 2), "valid": np.arange(1, 300, 2)}
    p = linear_rival(y[:, None].astype(float), y, order, n_classes=4)
    assert p.shape == (400, 4) and (p[:, 2:] == 0).all()


def test_answers_of_another_shape_are_refused():
    with pytest.raises(ParamsError, match=r"expected codes \[N\] or tags \[N, T\], found \(2, 2, 2\)"):
        linear_rival(np.zeros((2, 1)), np.zeros((2, 2, 2)), PARTS)
