"""The report's numbers, its seven claims, and what its practices are worth."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from tagged import reading, smoke

from musicmtl.core import generator
from musicmtl.papers.tagging.claims import BOTH, CLAIMS, comparisons, paper_values
from musicmtl.papers.tagging.experiment import ALONE, TAGGERS, Protocol, recipe, rows_of, scores
from musicmtl.papers.tagging.figures import study
from musicmtl.papers.tagging.model import TAGS
from musicmtl.study import Board, NotTestable, Outcome, claim_rows, claims_of, published, switch_effects


def board(readings):
    data = SimpleNamespace(parts={"test": np.arange(60)}, classes=TAGS)
    return Board(readings, lambda reading, **how: scores(data, None, reading, **how), metric="roc_auc", data=data)


def answered(skills, protocol=Protocol.corrected, seed=0, steps=3870):
    "Readings of variants whose answers are right to a given share, on clips of twenty kinds."
    rng = generator("board")
    Y = (rng.random((20, len(TAGS))) < 0.12).astype(np.float32)[np.arange(60) % 20]
    readings = []
    for variant, share in skills.items():
        answers = share * Y + (1 - share) * generator("noise", variant, seed).normal(size=Y.shape)
        name = "probabilities" if recipe(variant).kind == "tags" else "embeddings"
        given = {name: answers, "step_s": np.ones(steps)}
        readings.append(reading(Y, variant=variant, protocol=protocol, seed=seed, **given))
    return readings


def thrice(skills, **given):
    "Three trainings of each."
    return board([one for seed in range(3) for one in answered(skills, seed=seed, **given)])


def ends(board, claim):
    "Value, low, high of every margin."
    return {key: sample.estimate().ends() for key, sample in CLAIMS[claim](board, "corrected").items()}


def verdicts(board):
    rows = claim_rows("tagging", "nothing", board, CLAIMS)
    return {row["claim"]: row["verdict"] for row in rows}


def test_paper_values_are_all_taken_up_and_stand_beside_ours(tmp_path):
    own = published("tagging").dropna(subset="paper_value")
    assert sorted(value for value, _ in paper_values().values()) == sorted(own.paper_value.astype(float))
    assert len(own) == 79
    Y = (generator("rows").random((20, len(TAGS))) < 0.3).astype(np.float32)
    readings = []
    for variant in dict.fromkeys(variant for variant, _ in paper_values()):
        answers = {"probabilities": Y} if recipe(variant).kind == "tags" else {"embeddings": Y[:, :8]}
        readings.append(reading(Y, variant=variant, **answers))
    given = replace(study, read=lambda data, settings, results: readings)
    data, run = SimpleNamespace(name="nothing", classes=TAGS), SimpleNamespace(id="x")
    rows = pd.DataFrame(Outcome(given, data, smoke(), run, tmp_path).score_rows()).dropna(subset="paper_value")
    assert len(rows) == len(own)


def test_every_claim_has_a_rule_and_a_function():
    assert list(claims_of("tagging")) == list(CLAIMS) == [f"T{i}" for i in range(1, 8)]
    rows = claim_rows("tagging", "nothing", board([]), CLAIMS, BOTH)
    assert len(rows) == 7 + len(BOTH) and {row["verdict"] for row in rows} == {"not testable here"}
    assert all(row["reason"].startswith(("needs ", "no embedding")) for row in rows)


QUESTION_2 = {"cnn1d": 0.7, "cnn1d_skeleton": 0.5, "cnn2d": 0.8, "cnn2d_skeleton": 0.6, "fcn": 0.8}
QUESTION_2 |= {"musicnn_0": 0.4, "musicnn_7": 0.65, "musicnn_8": 0.9, "musicnn_scratch": 0.5}
QUESTION_4 = dict(zip(rows_of("linear"), (0.64, 0.8, 0.5, 0.57), strict=True))
QUESTION_4 |= dict(zip(rows_of("cnn"), (0.5, 0.5, 0.62, 0.62), strict=True))
QUESTION_4 |= dict(zip(rows_of("musicnn"), (0.68, 0.68, 0.9, 0.9), strict=True))


def test_claims_of_question_2_follow_the_scores():
    found = thrice(QUESTION_2)
    gains = ends(found, "T1")
    for net in ("cnn1d", "cnn2d"):
        difference = found.sample(net).effect - found.sample(f"{net}_skeleton").effect
        assert gains[net][0] == pytest.approx(100 * difference) and gains[net][1] > 0
    assert min(low for _, low, _ in ends(found, "T3").values()) > 0
    gap = 100 * (found.sample("fcn").effect - found.sample("musicnn_0").effect)
    assert ends(found, "T2")["musicnn_0"][0] == pytest.approx(gap)
    assert verdicts(found) | {"T1": "holds", "T2": "does not hold", "T3": "holds"} == verdicts(found)


def test_claims_of_question_4_follow_the_scores():
    found = thrice(QUESTION_4)
    assert all(low > 0 for claim in ("T4", "T5") for _, low, _ in ends(found, claim).values())
    assert all(effect > 0 for effect, _, _ in ends(found, "T6").values())
    assert len(ends(found, "T6")) == 8 and len(ends(found, "T5")) == 3 and len(ends(found, "T4")) == 4
    worse = thrice({**QUESTION_4, "embed_musicnn_disentangled": 0.55})
    assert ends(worse, "T5")["musicnn", "alone"][2] < 0 < ends(worse, "T5")["musicnn", "with track regularisation"][1]
    assert verdicts(worse)["T5"] == "does not hold"


def test_a_schedule_that_was_cut_short_says_nothing_of_it():
    with pytest.raises(NotTestable, match="400 steps, .* 3,870"):
        CLAIMS["T1"](thrice(QUESTION_2, steps=400), "corrected")


def test_taggers_at_chance_are_not_compared():
    with pytest.raises(NotTestable, match="above chance"):
        CLAIMS["T2"](thrice({**QUESTION_2, "fcn": 0.0}), "corrected")


def test_a_claim_on_smaller_networks_needs_them_to_be_smaller():
    readings = [one for seed in range(2) for one in answered(QUESTION_2, seed=seed)]
    for one in readings:
        one.n_parameters = 900 if one.trial.variant == "cnn2d" else 1000
    with pytest.raises(NotTestable, match="not the smaller one"):
        CLAIMS["T2"](board(readings), "corrected")


def test_retraining_is_judged_where_pre_training_helps():
    with pytest.raises(NotTestable, match="not better than none"):
        CLAIMS["T3"](thrice({**QUESTION_2, "musicnn_scratch": 0.99}), "corrected")


def test_embeddings_have_to_beat_what_needs_no_training():
    readings = [one for seed in range(3) for one in answered(QUESTION_4, seed=seed)]
    near = readings[0].Y + 0.01 * generator("trivial").normal(size=readings[0].Y.shape)
    readings.append(reading(readings[0].Y, variant="band_statistics", embeddings=near))
    with pytest.raises(NotTestable, match="below the lower bound of a trivial rival"):
        CLAIMS["T4"](board(readings), "corrected")


def test_statistics_of_the_mel_bands_stand_in_the_table(outcome):
    table = outcome.tables["scores"]
    own = table[table.variant == "band_statistics"]
    assert (
        {"recall_at_1", "recall_at_8", "roc_auc"} <= set(own.metric)
        and own.value.between(0, 1).all()
        and own.low.notna().all()
    )
    assert "n_groups" not in set(table.metric)


def history(losses):
    return pd.DataFrame({"epoch": np.arange(len(losses)), "task": "tags", "loss": losses})


def test_taggers_that_learnt_nothing_or_go_on_learning_are_not_compared():
    readings = [one for seed in range(3) for one in answered(QUESTION_2, seed=seed)]
    found = board(readings)
    parts = {"test": np.arange(60), "train": np.arange(60), "valid": np.arange(60)}
    found.data = SimpleNamespace(parts=parts, classes=TAGS, Y=readings[0].Y)
    for losses, words in (
        ([0.9, 0.8, 0.8, 0.8, 0.8, 0.8], "constant answer"),
        (np.linspace(0.4, 0.1, 11), "still falling"),
    ):
        for one in readings:
            one.valid_history = history(losses)
        with pytest.raises(NotTestable, match=words):
            CLAIMS["T2"](found, "corrected")
    for one in readings:  # the assignment's schedule may fall still: the claim is that it is cut short
        late = one.trial.variant.endswith("skeleton")
        one.valid_history = history(np.linspace(0.4, 0.1, 11) if late else [0.4, 0.1, 0.1, 0.1, 0.1, 0.1])
    assert set(CLAIMS["T1"](found, "corrected")) == {"cnn1d", "cnn2d"}


def test_normalisation_is_judged_by_pairs_alone():
    raw, unit = answered({"embed_linear_raw": 0.5, "embed_linear_unit": 0.9})
    assert ends(board([raw, unit]), "T7")["difference", "K = 1, linear"][0] > 0
    unit.embeddings = 3 * raw.embeddings  # other lengths, the same directions
    assert set(ends(board([raw, unit]), "T7").values()) == {(0, 0, 0)}


def test_normalisation_changes_nothing_in_a_run(outcome):
    assert set(ends(outcome.board, "T7").values()) == {(0, 0, 0)}


def test_practices_are_compared_where_both_sides_were_trained():
    assert switch_effects(board([]), comparisons(board([]))).empty
    asked = comparisons(board([]))
    assert {(one.switch, one.variant) for one in asked if one.switch == "Schedule as coded"} == {
        ("Schedule as coded", variant) for variant in ALONE["schedule"]
    }
    assert all((one.metric == "roc_auc") == (one.variant in TAGGERS) for one in asked)
    counted = Protocol.corrected.with_("mask")
    readings = answered({"embed_cnn_disentangled": 0.6, "musicnn_8": 0.5, "musicnn_8_leak": 0.8})
    found = board([*readings, *answered({"embed_cnn_disentangled": 0.3}, counted)])
    effects = switch_effects(found, comparisons(found)).set_index("switch")
    assert set(effects.index) == {"Masks as coded", "Pre-trained on the test"}
    assert effects.effect["Masks as coded"] < 0 < effects.effect["Pre-trained on the test"]
    recalls = [found.sample("embed_cnn_disentangled", name, "recall").effect for name in (counted.name, "corrected")]
    assert effects.effect["Masks as coded"] == pytest.approx(100 * (recalls[0] - recalls[1]))
