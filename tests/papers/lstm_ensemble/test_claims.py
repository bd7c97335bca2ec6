"The LSTM paper's claims: each measures what its rule says, over seeds and sets of classes."

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from musicmtl.papers.lstm_ensemble.claims import (
    BOTH,
    CLAIMS,
    MISTAKES,
    SNIPPETS,
    View,
    by_epoch,
    comparisons,
    inflation,
    late_share,
    paper_values,
    peak,
    reported,
    step_draws,
)
from musicmtl.papers.lstm_ensemble.experiment import BASE, GRID, SECOND, Protocol, Trial, scores
from musicmtl.study import Board, claim_rows, claims_of, history_arrays, interval, published, switch_effects

N = 1000  # Songs: points of accuracy are shares of a thousand


@pytest.fixture
def board_of(settings_of):
    "A board of readings, of some sets of classes."

    def make(readings, sets=("10",)):
        data = SimpleNamespace(sets=dict.fromkeys(sets), target="genre")
        return Board(readings, partial(scores, data, settings_of()), metric="accuracy", data=data)

    return make


@pytest.fixture
def right(make_reading):
    "A reading that is right for a share of the songs at each of its epochs."

    def make(label, *shares, classes="10", seed=0, **options):
        "`shares` in per cent; the label may end in a combination."
        variant, _, method = label.partition("_m") if label.startswith("ensemble") else (label, "", "")
        y = np.zeros(N, int)
        answers = np.stack([np.arange(N) >= share * N / 100 for share in shares]).astype(int)
        log_p = np.log(np.eye(4)[answers] * 0.9 + 0.025).astype(np.float32)
        reading = make_reading(log_p, y, variant=variant, group=np.arange(N) // 10, classes=classes, **options)
        return replace(reading, trial=replace(reading.trial, variant=label, seed=seed))

    return make


def effect(claim, board, protocol="corrected"):
    values, _ = CLAIMS[claim](board, protocol)
    return interval(values)[0]


# --- rules and functions -------------------------------------------------------------------------------------------


def test_every_claim_has_a_rule_and_a_function(board_of):
    assert list(claims_of("lstm_ensemble")) == list(CLAIMS) == [f"S{i}" for i in range(1, 21)]
    assert set(CLAIMS) - set(BOTH) == {"S3", "S4", "S9", "S14", "S17", "S19"}
    nothing = board_of([], ("10", "25"))
    rows = claim_rows("lstm_ensemble", "nothing", nothing, CLAIMS, BOTH)
    assert len(rows) == 20 + len(BOTH) and {row["verdict"] for row in rows} == {"not testable here"}
    assert all("not trained in this run" in row["rule"] for row in rows)
    assert switch_effects(nothing, comparisons(nothing)).empty


def test_claims_of_a_run_are_tested_where_its_variants_were_trained(outcome):
    table = pd.read_csv(outcome.folder / "data/claims.csv")
    assert set(table.claim) == set(CLAIMS) and set(table[table.protocol == "published"].claim) == set(BOTH)
    assert table.verdict.eq("not testable here").all()  # at smoke
    assert table.rule.str.startswith("preset smoke").eq(table.effect.notna()).all()
    corrected = table[table.protocol == "corrected"].set_index("claim")
    tested = {"S4", "S8", "S10", "S15", "S16", "S20"}
    assert set(corrected.index[corrected.effect.notna()]) == tested
    assert corrected.rule["S1"] == "needs corrected as_50_100_5, not trained in this run"


# --- accuracy ------------------------------------------------------------------------------------------------------


def test_the_grid_is_compared_at_equal_width(board_of, right):
    points = dict(zip(GRID, (40, 50, 44, 52, 10, 20, 50, 53, 56, 57), strict=True))  # 100 and 200 units in turn
    board = board_of([right(variant, share) for variant, share in points.items()])
    assert effect("S1", board) == pytest.approx(min((50 + 56) / 2 - (40 + 44) / 2, (53 + 57) / 2 - (50 + 52) / 2))
    assert effect("S2", board) == pytest.approx((56 + 57) / 2 - (10 + 20) / 2)


def test_ensembles_and_tasks_are_compared_with_the_baseline(board_of, right):
    shares = {BASE: 50, **dict(zip(SNIPPETS, (51, 52, 53, 56), strict=True))}
    shares |= dict(zip(SECOND, (51, 54, 51, 50), strict=True))
    board = board_of([right(label, share) for label, share in shares.items()])
    assert effect("S5", board) == pytest.approx(3)  # mean of 51, 52, 53, 56 over 50
    assert effect("S6", board) == pytest.approx(2)  # m1 over m0
    assert effect("S7", board) == pytest.approx(3)  # four over two
    assert effect("S11", board) == pytest.approx(1.5)  # 51.5 over 50, and 53 over 51.5
    assert effect("S12", board) == pytest.approx(2)
    assert effect("S13", board) == pytest.approx(3)  # the auto-encoder's, with its sign
    assert effect("S15", board) == pytest.approx(0)


def test_m2_has_two_measures_of_which_the_larger_counts(board_of, right):
    late = board_of([right("m2_4", 10, 11, 30), right("ensemble_4_m0", 30)])
    assert effect("S10", late) == pytest.approx(3)  # thirds of the training
    better = board_of([right("m2_4", 60, 10, 10), right("ensemble_4_m0", 30)])
    assert effect("S10", better) == pytest.approx(30)


def test_a_claim_over_two_sets_is_their_mean(board_of, right):
    ten = [right(BASE, 90), right("feed_forward", 10)]
    twenty_five = [right(BASE, 50, classes="25"), right("feed_forward", 10, classes="25")]
    both, one = board_of([*ten, *twenty_five], ("10", "25")), board_of(ten, ("10", "25"))
    assert effect("S16", both) == pytest.approx(60) and CLAIMS["S16"](both, "corrected")[1] == 2
    assert effect("S16", one) == pytest.approx(80) and CLAIMS["S16"](one, "corrected")[1] == 1


def test_variants_are_compared_over_their_common_seeds(board_of, right):
    readings = [right(BASE, 90, seed=0), right(BASE, 50, seed=1), right("feed_forward", 10, seed=1)]
    board = board_of(readings)
    assert effect("S16", board) == pytest.approx(40) and CLAIMS["S16"](board, "corrected")[1] == 1
    with pytest.raises(LookupError, match="no seed has all of as_100_100_10, feed_forward_10"):
        CLAIMS["S16"](board_of(readings[:1] + readings[2:]), "corrected")


# --- curves, losses, times -----------------------------------------------------------------------------------------


def test_inflation_is_what_the_error_gains_after_its_lowest_point():
    assert inflation({"error": np.array([[3.0, 1.0, 1.25], [1.0, 2.0, 3.0]])}).tolist() == [0.25, 2.0]


def test_peaks_are_shares_of_the_training(board_of, right):
    board = board_of([right("l2_1e-3_100", 10, 20, 30, 40), right(BASE, 10, 40, 30, 20)])
    assert effect("S4", board) == pytest.approx(50)
    view = View(board, "corrected", "10", [0])
    assert by_epoch(view, [BASE, "l2_1e-3_100"], peak)[0] == pytest.approx((0.5 + 1) / 2)


@pytest.mark.parametrize(
    "losses, late",
    [
        ([2.0, 1.0, 1.0, 1.0, 1.0, 1.0], 0.0),  # all of the fall lies in the first third
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], 80.0),
    ],
)
def test_late_share_of_a_fall(losses, late):
    steps = [dict(epoch=epoch, task="binary", loss=loss) for epoch, loss in enumerate(losses) for _ in range(3)]
    reading = SimpleNamespace(history=pd.DataFrame(steps))
    assert late_share(reading, "binary")[0] == pytest.approx(late)


def timed(reading, seconds):
    "A reading whose epochs took these seconds per step."
    step_s = np.repeat(np.array(seconds)[:, None], 5, 1)
    step_s[:, 0] *= 100  # a median does not mind one slow step
    return replace(reading, arrays={**reading.arrays, "step_s": step_s})


def test_times_are_medians_and_relative(board_of, right):
    reading = timed(right(BASE, 50), [0.1, 0.2, 0.9])
    assert step_draws(reading)[0] == pytest.approx(0.2)
    tasks = dict(autoencoder_1=0.3, autoencoder_2=0.5, binary_1=0.2, binary_2=0.2)
    readings = [timed(right(label, 50), [seconds] * 3) for label, seconds in tasks.items()]
    assert effect("S17", board_of(readings)) == pytest.approx(100)
    snippets = [timed(right(f"ensemble_{M}_m1", 50), [0.15] * 3) for M in (2, 4)]
    assert effect("S9", board_of([*snippets, timed(right(BASE, 50), [0.2] * 3)])) == pytest.approx(25)


def test_width_has_to_cost_twice_and_gain_little(board_of, right):
    def board(seconds, points):
        readings = []
        for beta in (0, 50, 100):
            readings.append(timed(right(f"as_{beta}_100", 50), [0.1] * 3))
            readings.append(timed(right(f"as_{beta}_200", 50 + points), [seconds] * 3))
        return board_of(readings)

    assert effect("S3", board(0.25, 0.4)) == pytest.approx(0.5)  # 2.5 times; less than a point by 0.6
    assert effect("S3", board(0.25, 3)) == pytest.approx(-2)


def test_the_binary_task_has_to_settle_and_the_auto_encoder_must_not(board_of, right):
    falls = {"autoencoder": [2.0, 1.9, 1.8, 1.7, 1.6, 1.5], "binary": [2.0, 1.02, 1.0, 1.0, 1.0, 1.0]}
    readings = []
    for task, losses in falls.items():
        history = pd.DataFrame([dict(epoch=e, step=e, task=task, loss=v) for e, v in enumerate(losses)])
        for alpha in (1, 2):
            reading = right(f"{task}_{alpha}", 50)
            readings.append(replace(reading, arrays={**reading.arrays, **history_arrays(history)}))
    assert effect("S14", board_of(readings)) == pytest.approx(8)  # 80 - 10 and 10 - 2


# --- practices, and the paper's numbers ----------------------------------------------------------------------------


def test_practices_are_compared_where_both_sides_were_read(board_of, right):
    peaked = right(BASE, 60, 50, protocol=Protocol.corrected.with_("selection"))
    published = right(BASE, 70, protocol=Protocol.published)
    board = board_of([right(BASE, 50, 40), peaked, published])
    effects = switch_effects(board, comparisons(board)).set_index("switch")
    assert list(effects.index) == [MISTAKES["selection"], "All together"]
    assert effects.effect.tolist() == pytest.approx([10, 20])


def test_practices_on_the_same_songs_are_paired(board_of, right):
    both = [right("ensemble_4_m1", 50), right("ensemble_4_m1", 50, protocol=Protocol.corrected.with_("units"))]
    board = board_of(both)
    row = switch_effects(board, comparisons(board)).iloc[0]
    assert (row.switch, row.effect, row.low, row.high) == (MISTAKES["units"], 0, 0, 0)
    asked = list(comparisons(board))
    assert {c.switch for c in asked if not c.paired} == {MISTAKES["selection"], MISTAKES["split"], "All together"}
    assert {c.switch for c in asked if c.metric == "log_loss"} == {MISTAKES["error"]}


def test_paper_values_are_all_taken_up():
    accuracies = published("lstm_ensemble").query("metric == 'accuracy'")
    found = [value for values in paper_values().values() for value, _ in values.values()]
    assert sorted(found) == sorted(accuracies.paper_value.astype(float))


def test_the_paper_stands_beside_its_own_genres_only():
    def beside(protocol, **data):
        return reported(SimpleNamespace(**{"target": "genre", "sets": {"10": None, "25": None}, **data}), protocol)

    label = Trial(Protocol.published, "10", "ensemble_4", 0, "m1").label, "accuracy"
    assert beside(Protocol.published)[label] == (66, "§4.1")
    assert beside(Protocol.corrected)[label] == (65, "§6")  # the only number for test songs
    assert beside(Protocol.corrected)["m2_4_25", "accuracy"] == (29, "§4.2")
    assert beside(Protocol.published, target="artist") == beside(Protocol.published, sets={"5": None}) == {}
