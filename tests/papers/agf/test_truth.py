"The experiment against known truth: recovery of what artists are like, and readings judged by true labels."

from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import spearmanr

from musicmtl.core import generator
from musicmtl.papers.agf import truth
from musicmtl.papers.agf.experiment import NetworkJob, Reading, prepare
from musicmtl.papers.agf.model import Protocol
from musicmtl.study import DRAWS, Board, resolve


@pytest.fixture(scope="module")
def demo():
    settings = resolve(truth.Settings, "agf_truth", {"n_jobs": 1})
    return settings, prepare(settings)


def test_what_is_recovered_is_far_from_chance_and_noise_is_not():
    x = generator("artists").normal(size=(40, 3))
    similar, noise = truth.similarity(x + 0.3 * generator("error").normal(size=x.shape)), generator("noise")
    artists = list(range(40))
    found = truth.recovery(similar, truth.similarity(x), artists, shuffles=50)
    assert found["low"] <= found["effect"] <= found["high"] and found["effect"] > found["chance_high"] + 0.3
    chance = truth.recovery(truth.similarity(noise.normal(size=x.shape)), truth.similarity(x), artists, shuffles=50)
    assert abs(chance["effect"]) < 0.2 and chance["low"] < 0 < chance["high"]


def test_weighted_agreement_is_that_of_artists_repeated():
    x = generator("artists").normal(size=(12, 3))
    a, b = truth.similarity(x), truth.similarity(x + generator("error").normal(size=x.shape))
    weights = generator("weights").integers(0, 4, (3, 12))
    i, j = np.triu_indices(12, 1)
    for row, found in zip(weights, truth.agreement(a, b, weights.astype(float)), strict=True):
        times = row[i] * row[j]
        assert found == pytest.approx(spearmanr(a[i, j].repeat(times), b[i, j].repeat(times)).statistic)


def test_every_factor_meets_its_rivals(demo):
    table = truth.recoveries(demo[1], demo[0])
    assert set(table.made[table.factor == "mfcc"]) == {"corrected", "published", "raw"}
    assert set(table.made[table.factor == "subgenres"]) == {"corrected", "published"}


def test_wrong_labels_train_and_true_ones_judge(demo):
    settings, data = demo
    noisy = truth.with_noise(data, settings, 0.5)
    wrong = noisy.corpus.table.genre != truth.world(settings.world_size, 0).tracks.genre
    assert wrong.any() and noisy.store is data.store
    tracks = np.arange(len(data.corpus))
    reading = Reading(NetworkJob("equal", Protocol.corrected, 0), tracks * 0, None, tracks, *[None] * 5)
    true = truth.world(settings.world_size, 0).tracks.genre.to_numpy()
    classes = noisy.corpus.labels("genre").classes
    assert [classes[c] for c in truth.with_truth(noisy, reading, true).y] == true.tolist()


def test_a_gain_that_grows_with_the_noise_has_its_trend():
    settings = truth.Settings(rates=(0.0, 0.2, 0.4))
    readings = []
    for rate in settings.rates:
        for label, score in (("single_task_two_phase", 0.5), ("gradnorm_epoch", 0.5 + 0.5 * rate)):
            for seed in (0, 1):
                trial = truth.NoisyTrial(rate, NetworkJob(label, Protocol.corrected, seed))
                readings.append(SimpleNamespace(trial=trial, score=score + 0.1 * seed))

    def scores(reading):
        return {metric: np.full(1 + DRAWS, reading.score) for metric in ("micro_f1", "macro_f1")} | {"n_groups": 8}

    board = Board(readings, scores, metric="micro_f1")
    slope = truth.trend(board, settings)
    np.testing.assert_allclose(slope.values, 10 * 0.5)
    gained = truth.gains(board, settings)
    assert slope.n == 2 and (gained.trainings == 2).all()
    assert gained[gained.variant == "gain"].effect.max() == pytest.approx(0.2)
