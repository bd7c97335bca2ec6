"Claims A1 to A13 on boards whose answer is known."

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr
from sklearn.metrics import f1_score

from musicmtl.core import generator
from musicmtl.metrics import macro_f1, micro_f1
from musicmtl.papers.agf import claims
from musicmtl.papers.agf.experiment import NetworkJob, Reading, scores
from musicmtl.papers.agf.model import SWITCHES, Protocol
from musicmtl.study import Board, claim_rows, claims_of, interval, switch_effects

CLASSES = ("Experimental", "Folk", "Pop")
Y = np.arange(60) % 3


class Corpus:
    def __len__(self):
        return 60

    def has(self, column):
        return True

    def recordings(self):
        return np.arange(60)

    def labels(self, column):
        if column == "artist":
            return SimpleNamespace(codes=np.arange(60) // 6)
        return SimpleNamespace(classes=CLASSES, codes=Y, counts=np.array([20, 20, 20]))


def history(first, noise=0.0):
    "Six epochs of two tasks; the first task's weight moves from one value to another."
    rng, epoch = generator("history", first, noise), np.repeat(np.arange(6), 10)
    weight = np.interp(np.arange(60), [0, 60], first) + noise * rng.normal(size=6)[epoch]
    tasks = {"epoch": np.tile(epoch, 2), "step": np.tile(np.arange(60), 2), "task": np.repeat(["genre", "mfcc"], 60)}
    return pd.DataFrame({**tasks, "weight": np.concatenate([weight, 2 - weight])})


def reading(label, seed=0, right=0.5, *, protocol=Protocol.corrected, first=(1, 1), noise=0.0, seconds=1.0, alpha=0.5):
    "A network that is right on a share of the items, the same items for the same share."
    job = NetworkJob(label, protocol, seed, alpha)
    hit = np.arange(60) < round(60 * right)
    order = generator("order", seed).permutation(60)
    predicted = np.where(hit[order], Y, (Y + 1) % 3)
    p = (0.8 * np.eye(3)[predicted] + 0.2 / 3)[None]
    train = np.repeat([0, 1, 2], [30, 20, 10])
    return Reading(job, Y, p, np.arange(60), train, train, np.zeros((60, 2)), history(first, noise), seconds)


def board_of(readings, target="genre"):
    data = SimpleNamespace(corpus=Corpus(), target=target, name="demo")
    return Board(readings, lambda r, **how: scores(data, None, r, **how), metric="micro_f1", data=data)


def effect(name, readings, target="genre"):
    values, n = claims.CLAIMS[name](board_of(readings, target), "corrected")
    return interval(values)[0], n


def seeds_of(label, rights, **more):
    return [reading(label, seed, right, **more) for seed, right in enumerate(rights)]


def test_every_claim_has_a_function():
    assert set(claims.CLAIMS) == set(claims_of("agf")) and set(claims.BOTH) < set(claims.CLAIMS)


def test_multitask_against_single_task_is_paired_over_common_seeds():
    readings = [*seeds_of("gradnorm_epoch", (0.6, 0.7, 0.9)), *seeds_of("single_task", (0.5, 0.5))]
    assert effect("A1", readings) == (pytest.approx(15), 2)


def test_every_alpha_counts_and_the_least_decides():
    readings = [*seeds_of("equal", (0.5,)), reading("gradnorm_epoch", 0, 0.8)]
    readings.append(reading("gradnorm_epoch", 0, 0.4, alpha=2.0))
    assert effect("A2", readings) == (pytest.approx(-10), 2)
    assert effect("A3", readings) == (pytest.approx(40), 2)


def test_one_alpha_is_no_sweep():
    with pytest.raises(LookupError, match="only one α"):
        effect("A3", [reading("gradnorm_epoch")])


def test_spread_over_initialisations():
    steady = [r for label in claims.OTHER_INITIALS for r in seeds_of(label, (0.5, 0.5, 0.5))]
    value, n = effect("A4", [*seeds_of("gradnorm_first", (0.3, 0.5, 0.7)), *steady])
    assert value == pytest.approx(20) and n == 3
    with pytest.raises(LookupError, match="needs at least 3 seeds, found 2"):
        effect("A4", [*seeds_of("gradnorm_first", (0.3, 0.5)), *steady])


def test_rough_curves_are_found_rough():
    rough = seeds_of("gradnorm_epoch", (0.5,) * 3, noise=0.3)
    calm = [r for label in ("gradnorm_log_classes", "gradnorm_ema") for r in seeds_of(label, (0.4, 0.45, 0.42))]
    assert effect("A5", [*rough, *calm])[0] > 0.1 and effect("A7", [*rough, *calm])[0] > 0.1


def test_smoother_slower_and_lower_is_one_claim():
    "The least of three standardised margins decides: here the scores', since curves differ alike in each seed."
    rough = seeds_of("gradnorm_epoch", (0.5,) * 3, noise=0.3)
    calm = seeds_of("gradnorm_log_classes", (0.4, 0.45, 0.35))
    lower = 50 - np.array([40, 45, 35])
    assert effect("A6", [*rough, *calm]) == (pytest.approx(lower.mean() / lower.std(ddof=1)), 3)
    rough = seeds_of("gradnorm_log_classes", (0.4,) * 3, noise=0.3)
    calm = seeds_of("gradnorm_epoch", (0.5, 0.55, 0.6))
    assert effect("A6", [*rough, *calm])[0] < 0


def test_the_genre_is_suppressed_and_overtakes_or_not():
    yes, no = ([*seeds_of("gradnorm_epoch", (0.5,) * 3, first=first)] for first in ((0.1, 1.6), (1.0, 0.5)))
    assert effect("A8", yes)[0] > 0 > effect("A8", no)[0]


def predicted_of(one):
    return one.p[0].argmax(1)


def test_more_windows_must_help_macro_f1_most():
    short, whole = reading("gradnorm_epoch", 0, 0.4), reading("gradnorm_epoch", 1, 0.6)
    short.trial = NetworkJob("gradnorm_epoch", Protocol.corrected, 0, windows=1)
    whole.trial = NetworkJob("gradnorm_epoch", Protocol.corrected, 0)
    macro, micro = (100 * (f1(Y, predicted_of(whole)) - f1(Y, predicted_of(short))) for f1 in (macro_f1, micro_f1))
    assert macro != pytest.approx(micro)
    assert effect("A9", [whole, short]) == (pytest.approx(min(macro, macro - micro)), 1)


def test_the_papers_score_is_for_genres():
    assert effect("A10", [reading("gradnorm_epoch", 0, 0.5)])[0] == pytest.approx(50 - 87.99)
    with pytest.raises(LookupError, match="for genres"):
        effect("A10", [reading("gradnorm_epoch")], target="artist")


def test_classes_by_size_and_looseness():
    one = reading("gradnorm_epoch", 0, 0.6)
    valid = f1_score(Y, predicted_of(one), average=None)
    assert effect("A11", [one]) == (pytest.approx(spearmanr([30, 20, 10], 1 - valid).statistic), 3)
    assert effect("A12", [one])[0] == pytest.approx(100 * (valid[[0, 2]].mean() - valid[1]))


def test_sharing_saves_time_and_costs_nothing():
    readings = [reading("equal", 0, 0.6, seconds=1.0), reading("separate", 0, 0.5, seconds=4.0)]
    assert effect("A13", readings) == (pytest.approx(10), 1)


def test_rank_correlation_ignores_what_is_not_known():
    a, b = np.array([1.0, 2, 3, np.nan]), np.array([10.0, 20, 30, 40])
    assert claims.rank_correlation(a, b) == pytest.approx(1) and np.isnan(claims.rank_correlation(a[2:], b[2:]))


def test_what_was_not_trained_is_said():
    rows = pd.DataFrame(claim_rows("agf", "demo", board_of([reading("equal")]), claims.CLAIMS, claims.BOTH))
    assert set(rows.verdict) == {"not testable here"} and len(rows) == 13 + len(claims.BOTH)
    assert rows.rule.str.contains("gradnorm_epoch|separate|gradnorm_first|α|loose|paper").all()


def test_each_mistake_alone_and_all_together():
    protocols = [Protocol.published, *(Protocol.corrected.with_(switch) for switch in SWITCHES)]
    readings = [reading("gradnorm_epoch", 0, 0.5)]
    readings += [reading("gradnorm_epoch", 0, 0.6 + 0.05 * i, protocol=p) for i, p in enumerate(protocols)]
    board = board_of(readings)
    effects = switch_effects(board, claims.comparisons(board)).query("metric == 'micro_f1'").set_index("switch").effect
    assert effects["All four together"] == pytest.approx(10)
    assert effects[list(claims.MISTAKES.values())].tolist() == pytest.approx([15, 20, 25, 30])


def test_only_the_split_over_windows_is_unpaired():
    paired = {c.switch: c.paired for c in claims.comparisons(None)}
    assert not paired["Split over windows"] and not paired["All four together"]
    assert paired["Softmax of γ as target"] and paired["Transposed spectrogram"]
