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
from musicmtl.study import Board, Outcome, claim_rows, claims_of, interval, published, switch_effects


def board(readings):
    data = SimpleNamespace(parts={"test": np.arange(60)}, classes=TAGS)
    return Board(readings, lambda reading, **how: scores(data, None, reading, **how), metric="roc_auc", data=data)


def answered(skills, protocol=Protocol.corrected):
    "Readings of variants whose answers are right to a given share, on clips of six kinds."
    rng = generator("board")
    Y = (rng.random((6, len(TAGS))) < 0.12).astype(np.float32)[rng.integers(0, 6, 60)]
    readings = []
    for variant, share in skills.items():
        answers = share * Y + (1 - share) * generator("noise", variant).normal(size=Y.shape)
        name = "probabilities" if recipe(variant).kind == "tags" else "embeddings"
        readings.append(reading(Y, variant=variant, protocol=protocol, **{name: answers}))
    return readings


def effect(board, claim):
    "Value, low, high."
    return interval(CLAIMS[claim](board, "corrected")[0])


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
    assert all(row["rule"].startswith(("needs ", "no embedding")) for row in rows)


def test_claims_of_question_2_follow_the_scores():
    skills = {"cnn1d": 0.7, "cnn1d_skeleton": 0.5, "cnn2d": 0.8, "cnn2d_skeleton": 0.75, "fcn": 0.8}
    skills |= {"musicnn_0": 0.55, "musicnn_7": 0.65, "musicnn_8": 0.9}
    found = board(answered(skills))
    value, low, _ = effect(found, "T1")
    gains = [found.scores(name)[0] - found.scores(f"{name}_skeleton")[0] for name in ("cnn1d", "cnn2d")]
    assert low > 0 and value == pytest.approx(100 * min(gains))
    assert effect(found, "T3")[1] > 0
    gap = 100 * (found.scores("fcn")[0] - found.scores("musicnn_0")[0])
    assert abs(effect(found, "T2")[0]) < abs(gap)


def test_claims_of_question_4_follow_the_scores():
    skills = dict(zip(rows_of("linear"), (0.45, 0.7, 0.1, 0.3), strict=True))
    skills |= dict(zip(rows_of("cnn"), (0.2, 0.2, 0.5, 0.5), strict=True))
    skills |= dict(zip(rows_of("musicnn"), (0.6, 0.6, 0.8, 0.8), strict=True))
    found = board(answered(skills))
    assert all(effect(found, claim)[1] > 0 for claim in ("T4", "T5", "T6"))
    worse = board(answered({**skills, "embed_musicnn_disentangled": 0.3, "embed_musicnn_both": 0.3}))
    assert effect(worse, "T5")[2] < 0


def test_normalisation_is_judged_by_pairs_alone():
    raw, unit = answered({"embed_linear_raw": 0.5, "embed_linear_unit": 0.9})
    assert effect(board([raw, unit]), "T7")[0] > 0
    unit.embeddings = 3 * raw.embeddings  # other lengths, the same directions
    assert effect(board([raw, unit]), "T7") == (0, 0, 0)


def test_normalisation_changes_nothing_in_a_run(outcome):
    assert effect(outcome.board, "T7") == (0, 0, 0)


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
    recalls = [
        found.scores("embed_cnn_disentangled", name, "recall", mean_over_k=True)[0]
        for name in (counted.name, "corrected")
    ]
    assert effects.effect["Masks as coded"] == pytest.approx(100 * (recalls[0] - recalls[1]))
