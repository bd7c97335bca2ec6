"A board finds what was trained, computes each score once, and compares what can be compared."

from types import SimpleNamespace

import numpy as np
import pytest

from raters import DATA, SONGS, TRUTH, Guess, gain, scores

from musicmtl.core import generator
from musicmtl.study import (
    DRAWS,
    Balanced,
    Board,
    Comparison,
    NotTrained,
    Rivalry,
    balancer_rows,
    common_seeds,
    difference,
    protocol_name,
    rival_rows,
    switch_effects,
)


def reading(label, seed=0, protocol="corrected", skill=0.5):
    "A rater's answers, right with a given chance; the same items are easy for all."
    right = generator("easy", seed).random(200) < skill
    trial = Guess(label, protocol, seed)
    return SimpleNamespace(trial=trial, predicted=np.where(right, TRUTH, (TRUTH + 1) % 4))


def board_of(*readings):
    asked = []

    def score(reading, by="item"):
        asked.append((reading.trial.label, reading.trial.seed, by))
        return scores(DATA, None, reading, by)

    return Board(readings, score, metric="accuracy"), asked


TWO = [reading(label, seed, skill=skill) for label, skill in (("plain", 0.5), ("smart", 0.7)) for seed in (0, 1)]


def test_a_board_knows_what_was_trained():
    board, asked = board_of(*TWO, reading("smart", protocol="published"))
    assert ("corrected", "plain") in board and ("published", "plain") not in board
    assert board.labels("corrected") == ["plain", "smart"] and board.labels("published") == ["smart"]
    assert board.seeds(("corrected", "plain"), ("corrected", "smart")) == [0, 1]
    assert board.seeds(("corrected", "smart"), ("published", "smart")) == [0]
    assert [r.trial.seed for r in board.readings("smart", seeds=[1])] == [1]
    assert repr(board) == "Board(5 readings of 3 variants)" and asked == []


def test_a_score_is_computed_once_for_each_way_to_ask():
    board, asked = board_of(*TWO)
    first = board.sample("smart")
    np.testing.assert_array_equal(board.sample("smart").values, first.values)
    assert first.values.shape == (2, 1 + DRAWS) and asked == [("smart", 0, "item"), ("smart", 1, "item")]
    assert board.sample("smart", by="song").effect != first.effect and len(asked) == 4
    one = board.sample("smart", seeds=[1])
    assert one.effect == np.mean(board.readings("smart", seeds=[1])[0].predicted == TRUTH)
    assert first.effect == pytest.approx((one.effect + board.sample("smart", seeds=[0]).effect) / 2)
    assert len(asked) == 4 and first.n_groups == 20 and (first.n, one.n) == (2, 1)


def test_what_has_no_items_is_measured_by_training():
    board, asked = board_of(*TWO)
    found = board.measured("smart", "corrected", lambda reading: reading.trial.seed + 3.0)
    np.testing.assert_array_equal(found.values, [[3.0], [4.0]])
    assert found.n_groups == 0 and asked == []


def test_what_was_not_trained_is_a_key_error():
    board, _ = board_of(*TWO)
    for ask in (board.sample, board.readings):
        with pytest.raises(KeyError):
            ask("absent")
    with pytest.raises(KeyError):
        board.seeds(("published", "plain"))


def test_seeds_in_common():
    board, _ = board_of(reading("plain", 0), reading("plain", 1), reading("smart", 1), reading("late", 2))
    assert common_seeds(board, "corrected", "plain", "smart") == [1]
    with pytest.raises(LookupError, match="no seed has all of plain, late"):
        common_seeds(board, "corrected", "plain", "late")
    with pytest.raises(KeyError):
        common_seeds(board, "corrected", "plain", "absent")


def test_a_protocol_has_a_name_or_is_one():
    assert protocol_name(SimpleNamespace(protocol=SimpleNamespace(name="corrected-split"))) == "corrected-split"
    assert protocol_name(SimpleNamespace(protocol="published")) == "published"


def test_effects_are_over_the_seeds_that_both_sides_have():
    easy = [reading("smart", seed, "published", 0.9) for seed in (1, 2)]
    board, _ = board_of(*TWO, *easy)
    found = switch_effects(board, [Comparison("Tested on what was rated", "smart", "accuracy", "published")])
    (row,) = found.itertuples()
    expected = 100 * (board.sample("smart", "published", seeds=[1]) - board.sample("smart", seeds=[1]))
    assert (row.effect, row.low, row.high) == expected.estimate().ends() and row.trainings == 1
    assert (row.switch, row.variant, row.metric) == ("Tested on what was rated", "smart", "accuracy") and row.low > 0


def test_what_was_not_trained_is_not_compared():
    board, _ = board_of(*TWO, reading("smart", 5, "published"))
    columns = ["switch", "variant", "metric", "effect", "low", "high", "trainings"]
    for comparison in (
        Comparison("absent", "absent", "accuracy", "published"),
        Comparison("no seed in common", "smart", "accuracy", "published"),
        Comparison("absent", "smart", "accuracy", "corrected", against_variant="absent"),
    ):
        found = switch_effects(board, [comparison])
        assert found.empty and list(found) == columns


def test_paired_differences_are_narrower():
    "Both sides are tested on the same items, which are easy or hard for both."
    board, _ = board_of(reading("plain", skill=0.5), reading("smart", skill=0.55))
    sides = dict(variant="smart", metric="accuracy", protocol="corrected", against_variant="plain")
    comparisons = [Comparison(name, paired=paired, **sides) for name, paired in (("paired", True), ("other", False))]
    found = switch_effects(board, comparisons).set_index("switch")
    width = found.high - found.low
    assert found.effect["paired"] == found.effect["other"] > 0 and width["paired"] < 0.5 * width["other"]


def test_a_comparison_has_a_scale_and_a_way_to_ask():
    board, _ = board_of(reading("plain", skill=0.5), reading("smart", skill=0.8))
    sides = dict(variant="smart", metric="accuracy", protocol="corrected", against_variant="plain")
    points, nats, songs = (
        switch_effects(board, [Comparison("s", **sides, **more)]).effect.item()
        for more in ({}, {"scale": 1.0}, {"how": {"by": "song"}})
    )
    assert points == pytest.approx(100 * nats) and songs != points
    one, two = (
        np.bincount(SONGS, r.predicted == TRUTH) > 5 for r in (*board.readings("smart"), *board.readings("plain"))
    )
    assert songs == pytest.approx(100 * (one.mean() - two.mean()))


def test_a_claim_function_takes_a_board():
    board, _ = board_of(*TWO)
    (sample,) = gain(board, "corrected").values()
    assert sample.n == 2 and sample.effect == pytest.approx(20, abs=10)


def test_a_network_is_compared_with_the_rival_of_the_same_training_or_with_its_mean():
    one = reading("majority", 5, skill=0.2)
    board, _ = board_of(*TWO, one)
    paired = difference(board, "smart", "plain", "accuracy", scale=100)
    assert paired.n == 2 and paired.effect == pytest.approx(20, abs=8)
    against_one = difference(board, "smart", "majority", "accuracy")
    expected = board.sample("smart").values - board.sample("majority").values.mean(0)
    np.testing.assert_allclose(against_one.values, expected)
    with pytest.raises(NotTrained):
        difference(board, "smart", "untrained", "accuracy")


def test_rivals_say_who_is_beaten_and_leave_out_what_was_not_trained():
    board, _ = board_of(*TWO, reading("majority", skill=0.2))
    rows = rival_rows(board, [Rivalry("rating", "accuracy", ("smart", "plain"), ("majority", "untrained"))])
    assert [(row["network"], row["rival"]) for row in rows] == [("smart", "majority"), ("plain", "majority")]
    smart = rows[0]
    assert smart["verdict"] == "beats" and smart["low"] > 0 and smart["trainings"] == 2
    assert smart["value"] - smart["rival_value"] == pytest.approx(smart["effect"])
    turned = rival_rows(board, [Rivalry("rating", "accuracy", ("smart",), ("majority",), scale=-1.0)])
    assert turned[0]["verdict"] == "is below"
    (once,) = rival_rows(
        board_of(TWO[2], reading("majority"))[0], [Rivalry("r", "accuracy", ("smart",), ("majority",))]
    )
    assert once["verdict"] == "one training"


def test_balancers_are_compared_with_equal_weights_and_with_a_single_task():
    board, _ = board_of(*TWO, *(reading("alone", seed, skill=0.3) for seed in (0, 1)))
    labels = {"equal": "plain", "uncertainty": "smart", "mgda": "not trained"}
    rows = balancer_rows(board, [Balanced("rating", "accuracy", labels, single="alone")])
    found = {(row["balancer"], row["against"]): row["effect"] for row in rows}
    assert set(found) == {("equal", "single task"), ("uncertainty", "equal"), ("uncertainty", "single task")}
    both = found["equal", "single task"] + found["uncertainty", "equal"]
    assert both == pytest.approx(found["uncertainty", "single task"])
