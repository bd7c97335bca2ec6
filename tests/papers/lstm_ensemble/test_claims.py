"The LSTM paper's claims: each measures what its rule says, in each set of classes by itself, or says why it cannot."

from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from musicmtl.core import generator
from musicmtl.papers.lstm_ensemble import claims
from musicmtl.papers.lstm_ensemble.claims import (
    BOTH,
    CLAIMS,
    CONTROLS,
    MISTAKES,
    PRINTED,
    SNIPPETS,
    View,
    comparisons,
    inflation,
    late_share,
    paper_values,
    peak,
    reported,
)
from musicmtl.papers.lstm_ensemble.experiment import BASE, GRID, SECOND, Protocol, Trial, scores
from musicmtl.study.board import balancer_rows, rival_rows
from musicmtl.study import (
    Board,
    NotTestable,
    Sample,
    claim_rows,
    claims_of,
    history_arrays,
    on_paper,
    published,
    switch_effects,
)

N, C = 1000, 20  # Songs: points of accuracy are shares of a thousand; classes: chance is 5 %
STEPS = 3000  # Of each made-up epoch: three are longer than the paper's ten


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

    def make(label, *shares, classes="10", seed=0, sure=0.9, **options):
        "`shares` in per cent; the label may end in a combination."
        variant, _, method = label.partition("_m") if label.startswith("ensemble") else (label, "", "")
        y = np.arange(N) % C
        order = generator("hard").permutation(N)  # no class is harder than others
        answers = np.stack([np.where(order < share * N / 100, y, y + 1) % C for share in shares])
        p = np.eye(C)[answers] * sure + (1 - sure) / C
        log_p = np.log(p)
        if method:  # two networks that agree, and m2; m0 of them is p
            log_p = np.stack([log_p, log_p, log_p], 2)
        options = {"group": np.arange(N) // 10, "classes": classes, **options}
        reading = make_reading(
            log_p.astype(np.float32), y, variant=variant, method=f"m{method}" if method else None, **options
        )
        arrays = {**reading.arrays, "step_s": np.full((len(shares), STEPS), 0.01)}
        return replace(reading, trial=replace(reading.trial, seed=seed), arrays=arrays)

    return make


def effect(claim, board, protocol="corrected", margin=None, place="10 classes"):
    "Of one margin, by default the only one."
    found = CLAIMS[claim](board, protocol)
    key = (margin, place) if margin else next(iter(found))
    assert margin or len(found) == 1
    return found[key].effect


# --- rules and functions -------------------------------------------------------------------------------------------


def test_every_claim_has_a_rule_and_a_function(board_of, monkeypatch, tmp_path):
    assert list(claims_of("lstm_ensemble")) == list(CLAIMS) == [f"S{i}" for i in range(1, 21)]
    assert set(CLAIMS) - set(BOTH) == {"S3", "S4", "S9", "S14", "S17", "S19"}
    monkeypatch.setattr(claims, "claim_times", partial(claims.claim_times, folder=tmp_path))  # none measured
    nothing = board_of([], ("10", "25"))
    rows = claim_rows("lstm_ensemble", "nothing", nothing, CLAIMS, BOTH, PRINTED)
    assert len(rows) == 20 + len(BOTH) and {row["verdict"] for row in rows} == {"not testable here"}
    of_time = {"S9", "S17", "S19"}
    assert all("not trained in this run" in row["reason"] for row in rows if row["claim"] not in of_time)
    assert all("no times on record" in row["reason"] for row in rows if row["claim"] in of_time)
    assert switch_effects(nothing, comparisons(nothing)).empty


def test_claims_of_a_run_are_tested_where_its_variants_were_trained(outcome):
    table = pd.read_csv(outcome.folder / "data/claims.csv", keep_default_na=False)
    assert set(table.claim) == set(CLAIMS) and set(table[table.protocol == "published"].claim) == set(BOTH)
    assert table.verdict.eq("not testable here").all()  # at smoke
    corrected = table[table.protocol == "corrected"].set_index("claim")
    trained = {"S4", "S8", "S10", "S15", "S16", "S20"}
    asked = corrected[~corrected.reason.str.contains("not trained in this run")]
    assert set(asked.index) - {"S9", "S17", "S19"} == trained
    why = "preset smoke trains|not three standard errors above chance|still falling|paper's ten epochs|no regularising"
    assert asked.loc[sorted(trained)].reason.str.contains(why).all()
    assert corrected.reason["S1"] == "needs corrected as_50_100_5, not trained in this run"


# --- accuracy ------------------------------------------------------------------------------------------------------


def test_the_grid_is_compared_at_equal_width(board_of, right):
    points = dict(zip(GRID, (40, 50, 44, 52, 20, 30, 50, 53, 56, 57), strict=True))  # 100 and 200 units in turn
    board = board_of([right(variant, share) for variant, share in points.items()])
    assert effect("S1", board, margin="gain", place="10 classes, 100 units") == pytest.approx((50 + 56) / 2 - 42)
    assert effect("S1", board, margin="gain", place="10 classes, 200 units") == pytest.approx((53 + 57) / 2 - 51)
    pairs = {place: sample.effect for (_, place), sample in CLAIMS["S2"](board, "corrected").items()}
    expected = {"β = 0 and 50": 26.5, "β = 0 and 100": 31.5, "β = 50 and 100": 5}
    assert pairs == {f"10 classes, {words}": pytest.approx(value) for words, value in expected.items()}


def test_ensembles_and_tasks_are_compared_with_the_baseline(board_of, right):
    shares = {BASE: 50, **dict(zip(SNIPPETS, (51, 52, 53, 56), strict=True))}
    shares |= dict(zip(SECOND, (51, 54, 51, 50), strict=True))
    board = board_of([right(label, share) for label, share in shares.items()])
    assert effect("S5", board, margin="mean") == pytest.approx(3)  # mean of 51, 52, 53, 56 over 50
    assert effect("S5", board, margin="four_m1") == pytest.approx(6)
    assert effect("S6", board) == pytest.approx(2)  # m1 over m0
    assert effect("S7", board) == pytest.approx(3)  # four over two
    assert effect("S11", board, margin="gain") == pytest.approx(1.5)  # 51.5 over 50
    assert effect("S11", board, margin="less") == pytest.approx(1.5)  # 53 over 51.5
    assert effect("S12", board) == pytest.approx(2)
    assert effect("S13", board, margin="difference", place="10 classes, auto-encoder") == pytest.approx(3)
    assert effect("S13", board, margin="difference", place="10 classes, binary task") == pytest.approx(-1)
    assert effect("S15", board) == pytest.approx(0)


def test_sets_of_classes_are_places_and_no_mean_is_taken(board_of, right):
    ten = [right(BASE, 90), right("feed_forward", 10)]
    twenty_five = [right(BASE, 50, classes="25"), right("feed_forward", 60, classes="25")]
    both, one = board_of([*ten, *twenty_five], ("10", "25")), board_of(ten, ("10", "25"))
    found = {place: sample.effect for (_, place), sample in CLAIMS["S16"](both, "corrected").items()}
    assert found == {"10 classes": pytest.approx(80), "25 classes": pytest.approx(-10)}
    assert list(CLAIMS["S16"](one, "corrected")) == [("gain", "10 classes")]


def test_variants_are_compared_over_their_common_seeds(board_of, right):
    readings = [right(BASE, 90, seed=0), right(BASE, 50, seed=1), right("feed_forward", 10, seed=1)]
    board = board_of(readings)
    assert effect("S16", board) == pytest.approx(40)
    assert CLAIMS["S16"](board, "corrected")["gain", "10 classes"].n == 1
    with pytest.raises(LookupError, match="no seed has all of as_100_100_10, feed_forward_10"):
        CLAIMS["S16"](board_of(readings[:1] + readings[2:]), "corrected")


def test_validation_and_test_are_other_songs(board_of, right):
    "Their draws are not those of each other, though here they are the same songs."
    difference = CLAIMS["S15"](board_of([right("ensemble_4_m1", 50)]), "corrected")["difference", "10 classes"]
    assert difference.effect == 0 and difference.values[:, 1:].std() > 1
    assert difference.n_groups == 100


# --- gates ---------------------------------------------------------------------------------------------------------


def test_a_network_that_guesses_is_not_compared(board_of, right):
    with pytest.raises(NotTestable, match=r"feed_forward_10: 6 ± .* is not three standard errors above chance \(5\)"):
        CLAIMS["S16"](board_of([right(BASE, 50), right("feed_forward", 6)]), "corrected")


def test_naming_the_most_frequent_class_is_chance(board_of, right):
    readings = [right(BASE, 50), right("feed_forward", 10)]
    for reading in readings:
        y = reading.arrays["y_test"].copy()
        y[: N // 2] = 0
        reading.arrays["y_test"] = y
    assert claims.chance_of(readings[0]) == pytest.approx(100 * (y == 0).mean())
    with pytest.raises(NotTestable, match="above chance"):
        CLAIMS["S16"](board_of(readings), "corrected")


@pytest.mark.parametrize("claim", ["S4", "S8", "S16", "S18", "S20"])
def test_a_training_that_was_still_falling_is_not_compared(board_of, right, claim):
    labels = {"feed_forward", "l2_1e-3_100", "ensemble_4_m0", "ensemble_4_m1", "m2_4", *SECOND}
    readings = [right(label, 10, 20, 30, 30, 30, 30) for label in labels]
    falling = right(BASE, 10, 15, 20, 25, 30, 35)
    with pytest.raises(NotTestable, match=rf"{BASE}_10: still falling, 20 % of"):
        CLAIMS[claim](board_of([*readings, falling]), "corrected")


def test_the_loss_that_has_to_settle_is_that_of_an_ensembles_networks(right):
    "The product of two that agree is surer than each of them."
    product, alone = right("ensemble_2_m1", 50), right(BASE, 50)
    np.testing.assert_allclose(product.learning_curve(), alone.learning_curve(), rtol=1e-5)
    assert product.errors("valid").double().mean() > product.learning_curve()[0] + 0.5


# --- curves, losses, times -----------------------------------------------------------------------------------------


def test_inflation_is_what_the_error_gains_after_its_lowest_point():
    assert inflation(None, {"error": np.array([[3.0, 1.0, 1.25], [1.0, 2.0, 3.0]])}).tolist() == [0.25, 2.0]


def test_peaks_are_counted_in_steps(board_of, right):
    board = board_of([right("l2_1e-3_100", 10, 20, 30, 40), right(BASE, 10, 40, 30, 20)])
    assert effect("S4", board) == pytest.approx(2 * STEPS)
    view = View(board, "corrected", "10", [0])
    assert view.by_epoch([BASE, "l2_1e-3_100"], peak).effect == pytest.approx(3 * STEPS)


def test_an_ensemble_that_keeps_its_error_regularises(board_of, right):
    base, m0 = right(BASE, 60, 40), right("ensemble_4_m0", 60, 60)
    board = board_of([base, m0, right("ensemble_4_m1", 60, 40)])
    inflated = float(np.diff(base.errors("valid").double().mean(1))[0])
    assert effect("S8", board, margin="m0") == pytest.approx(inflated)
    geometric = CLAIMS["S8"](board, "corrected")["geometric", "10 classes"]
    assert geometric.effect == pytest.approx(0, abs=1e-3)  # the same answers, and none is surer than another


def test_calibration_finds_the_power_of_a_product(right):
    "A product of two that agree is calibrated by the power that a network has, halved."
    product, alone = right("ensemble_4_m1", 60, 50), right(BASE, 60, 50)
    np.testing.assert_allclose(product.calibrated_errors(), alone.calibrated_errors(), atol=2e-2)
    assert product.calibrated_errors().mean() < alone.errors("valid").mean() < product.errors("valid").mean()


def test_no_song_is_judged_by_a_power_that_was_fitted_to_it(right):
    "The songs of one half of the artists are all named wrongly, which spoils the power of the other half."
    reading, spoilt = right(BASE, 60), right(BASE, 60)
    half = generator("halves", 100).permutation(100)[np.unique(reading.groups["valid"], return_inverse=True)[1]] % 2
    spoilt.arrays["y_valid"] = np.where(half == 0, (spoilt.arrays["y_valid"] + 2) % C, spoilt.arrays["y_valid"])
    before, after = reading.calibrated_errors()[0].numpy(), spoilt.calibrated_errors()[0].numpy()
    assert after[half == 1].mean() > before[half == 1].mean() + 0.1
    assert np.ptp(after[half == 1]) == pytest.approx(0, abs=0.05)  # their power says that nothing is known


def test_calibration_needs_two_artists(right):
    with pytest.raises(NotTestable, match="needs two artists"):
        right(BASE, 50, group=np.zeros(N, int)).calibrated_errors()


def test_what_was_not_done_cannot_be_undone(board_of, right):
    flat = [right(BASE, 60, 60), right("ensemble_4_m0", 60, 60), right("m2_4", 60, 50)]
    with pytest.raises(NotTestable, match="no regularising effect that m2 could undo"):
        CLAIMS["S20"](board_of(flat), "corrected")
    assert effect("S20", board_of([right(BASE, 60, 40), *flat[1:]])) > 0


def test_m2_is_asked_for_its_gain_and_its_peak(board_of, right):
    board = board_of([right("m2_4", 10, 20, 33, 33), right("ensemble_4_m0", 30, 30, 30, 30)])
    assert effect("S10", board, margin="gain") == pytest.approx(3)
    assert effect("S10", board, margin="peak") == pytest.approx(3 * STEPS / 800)


def test_a_training_shorter_than_ten_epochs_says_nothing_of_what_follows(board_of, right):
    readings = [right("m2_4", 10, 30, 33), right("ensemble_4_m0", 30, 30, 30)]
    readings += [with_losses(right(task, 30, 30, 30), [3.0, 2.0, 1.0]) for task in SECOND]
    for reading in readings:
        reading.arrays["step_s"] = reading.arrays["step_s"][:, :200]
    board = board_of(readings)
    with pytest.raises(NotTestable, match="600 steps; m2 gains 3.0 points over m0 and peaks after 600 steps"):
        CLAIMS["S10"](board, "corrected")
    with pytest.raises(NotTestable, match="after a third of it came 100 % of the auto-encoder's fall and 100 %"):
        CLAIMS["S14"](board, "corrected")


def with_losses(reading, losses):
    "A reading with these training losses of its secondary task, an epoch each."
    task = reading.trial.variant.partition("_")[0]
    history = pd.DataFrame([dict(epoch=e, step=e, task=task, loss=loss) for e, loss in enumerate(losses)])
    return replace(reading, arrays={**reading.arrays, **history_arrays(history)})


@pytest.mark.parametrize(
    "losses, late",
    [
        ([2.0, 1.0, 1.0, 1.0, 1.0, 1.0], 0.0),  # all of the fall lies in the first third
        ([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], 80.0),
        ([1.0, 1.0, 1.0, 1.0, 1.0, 2.0], np.nan),  # no fall at all
    ],
)
def test_late_share_of_a_fall(losses, late):
    steps = [dict(epoch=epoch, task="binary", loss=loss) for epoch, loss in enumerate(losses) for _ in range(3)]
    reading = SimpleNamespace(history=pd.DataFrame(steps), steps_per_epoch=3)
    assert late_share(reading, "binary", 6) == pytest.approx(late, nan_ok=True)


def test_the_binary_task_has_to_settle_and_the_auto_encoder_must_not(board_of, right):
    "Epochs of 3,000 steps: the paper's tenth ends in the third."
    falls = {"autoencoder": [2.0, 1.9, 1.8, 1.7, 1.6, 1.5], "binary": [2.0, 1.5, 1.02, 1.0, 1.0, 1.0]}
    readings = [with_losses(right(task, 10, 30, 30, 30, 30, 30), falls[task.partition("_")[0]]) for task in SECOND]
    board = board_of(readings)
    assert effect("S14", board, margin="autoencoder") == pytest.approx(60)
    assert effect("S14", board, margin="binary") == pytest.approx(2)


def test_times_are_those_of_the_bench(board_of, right, monkeypatch):
    "And width has to gain little besides."
    rounds = {("time", "β = 100"): Sample(np.full((5, 1), 2.5))}
    monkeypatch.setattr(claims, "claim_times", lambda study, claim: {"S3": rounds, "S9": {}}[claim])
    readings = [right(f"as_{beta}_{units}", 50 + units / 50) for beta in (0, 50, 100) for units in (100, 200)]
    board = board_of(readings)
    assert effect("S3", board, margin="time", place="β = 100") == 2.5
    assert effect("S3", board, margin="gain") == pytest.approx(2)
    assert CLAIMS["S9"](board, "corrected") == {}


# --- practices, and the paper's numbers ----------------------------------------------------------------------------


def test_practices_are_compared_where_both_sides_were_read(board_of, right):
    peaked = right(BASE, 60, 50, protocol=Protocol.corrected.with_("selection"))
    published = right(BASE, 70, protocol=Protocol.published)
    board = board_of([right(BASE, 50, 40), peaked, published])
    effects = switch_effects(board, comparisons(board)).set_index("switch")
    assert list(effects.index) == [MISTAKES["selection"], "All together"]
    assert effects.effect.tolist() == pytest.approx([10, 20]) and effects.trainings.tolist() == [1, 1]


def test_practices_on_the_same_songs_are_paired(board_of, right):
    both = [right("ensemble_4_m1", 50), right("ensemble_4_m1", 50, protocol=Protocol.corrected.with_("units"))]
    board = board_of(both)
    row = switch_effects(board, comparisons(board)).iloc[0]
    assert (row.switch, row.effect, row.low, row.high) == (MISTAKES["units"], 0, 0, 0)
    asked = list(comparisons(board))
    assert set(CONTROLS) <= {c.switch for c in asked if c.paired}
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
    assert beside(Protocol.published)[label[0], "test_accuracy"] == (65, "§6")  # of the network that the peak chose
    assert beside(Protocol.corrected)["m2_4_25", "accuracy"] == (29, "§4.2")
    assert beside(Protocol.published, target="artist") == beside(Protocol.published, sets={"5": None}) == {}


def test_every_rule_holds_on_the_papers_own_numbers():
    found = on_paper("lstm_ensemble", PRINTED).set_index(["claim", "place"])
    assert (found.distance >= 0).all()
    assert found.paper["S5"].tolist() == [2, 1] and found.paper["S16"].tolist() == [15, 7]
    assert found.paper["S15"].item() == 1 and found.paper["S17"].item() == 0
    assert found.paper["S9"].tolist() == pytest.approx([10, 10])  # 90 s of 70 to 90
    assert found.paper["S19"].item() == pytest.approx(100 * 8 / 92)


# --- controls, rivals, balancers -----------------------------------------------------------------------------------


def test_controls_say_what_snippets_add_to_several_networks(board_of, right, make_reading):
    whole = right("ensemble_4_m1", 53)
    whole = replace(whole, trial=replace(whole.trial, variant="whole_4"))
    board = board_of([right("ensemble_4_m1", 56), whole, right(BASE, 50), right("wide_4", 51)])
    effects = switch_effects(board, comparisons(board)).set_index("switch").effect
    assert effects.to_dict() == pytest.approx(
        {
            "Snippets instead of whole songs, m1": 3,
            "Four networks on whole songs instead of one": 3,
            "Four snippets instead of one wide network": 5,
            "A wide network instead of the baseline": 1,
        }
    )


def test_networks_are_compared_with_what_is_trivial_and_balancers_with_equal_weights(board_of, right, settings_of):
    shares = {"as_100_100": 50, "band_statistics": 60, "majority": 5, "autoencoder_1": 52, "autoencoder_upgrad": 55}
    answers = [(label, right("as_0_100", share, seed=s)) for label, share in shares.items() for s in (0, 1)]
    board = board_of([replace(r, trial=replace(r.trial, variant=label)) for label, r in answers])
    rows = {(row["network"], row["rival"]): row["verdict"] for row in rival_rows(board, claims.rivals(board))}
    assert rows["as_100_100_10", "band_statistics_10"] == "is below"
    assert rows["as_100_100_10", "majority_10"] == "beats"
    board.settings = replace(settings_of(), balancers=("upgrad",))
    gains = {(r["balancer"], r["against"]): r["effect"] for r in balancer_rows(board, claims.balanced(board))}
    expected = {("equal", "single task"): 2, ("upgrad", "equal"): 3, ("upgrad", "single task"): 5}
    assert gains == pytest.approx(expected)


def test_the_grid_at_each_width_rests_on_the_trainings_of_that_width(board_of, right):
    "Five at one width are not cut to the three of the other."
    readings = [right(v, 50, seed=s) for v in GRID for s in range(5 if v.endswith("_100") else 3)]
    found = CLAIMS["S1"](board_of(readings), "corrected")
    assert {place: sample.n for (_, place), sample in found.items()} == {
        "10 classes, 100 units": 5,
        "10 classes, 200 units": 3,
    }
