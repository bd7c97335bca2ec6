"""Verdicts on invented readings, effects against the scores that they compare, and the paper's numbers."""

from copy import copy
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from musicmtl.core import generator
from musicmtl.papers.artist_language.claims import (
    BOTH,
    CLAIMS,
    beside_chance,
    comparisons,
    gain_effects,
    l2_helps_languages,
    l3_label_counts_work_well,
    reported,
)
from musicmtl.papers.artist_language.experiment import LEAK, SPARSE, UNHEARD, Reading, Trial, scores
from musicmtl.papers.artist_language.model import Protocol
from musicmtl.study import Board, NotTestable, claim_rows, claims_of, switch_effects


def invented(data, skill, variant="multitask", protocol=Protocol.corrected, folds=1, seed=0, **trial):
    "Eighty segments of forty songs; the right class's score is larger by `skill`, and by a little luck."
    song, y, p = np.repeat(np.arange(40) % len(data.corpus), 2), {}, {}
    for task in data.tasks[:2]:
        n = len(data.corpus.labels(task))
        y[task] = np.repeat(np.arange(40), 2) % n
        z = generator("claims", task).normal(size=(80, n)) + (skill + 0.02 * seed) * np.eye(n)[y[task]]
        p[task] = np.exp(z) / np.exp(z).sum(1, keepdims=True)
    fold = np.repeat(np.arange(40) % folds, 2)
    return Reading(Trial(variant, protocol, seed, **trial), y, p, song, fold, None, None, None, 0.0)


def board_of(data, *readings):
    return Board(readings, partial(scores, data, None), metric="roc_auc", data=data)


@pytest.fixture(scope="module")
def helpful(data_of_singers):
    "A board on which everything helps by far."
    return boards(data_of_singers, {"artist": 1.0, "language": 1.0}, multitask=2.0, alpha=1.2, tasks=4.0, songs=1.2)


def boards(data, single, multitask, alpha, tasks, songs, n_seeds=3):
    "Trainings of known skill."
    readings = []
    for seed in range(n_seeds):
        invent = partial(invented, data, seed=seed)
        readings += [invent(skill, variant) for variant, skill in single.items()]
        readings += [invent(multitask), invent(alpha, alpha=1.0), invent(tasks, n_tasks=4), invent(songs, songs=2)]
    return board_of(data, *readings)


def verdicts(board):
    rows = pd.DataFrame(claim_rows("artist_language", "singers", board, CLAIMS, BOTH))
    return rows.set_index(["claim", "protocol"]).verdict


def test_claims_follow_their_rules(helpful):
    found = verdicts(helpful)
    assert found.xs("corrected", level="protocol").to_dict() == dict.fromkeys(CLAIMS, "holds")
    assert found.xs("published", level="protocol").to_dict() == dict.fromkeys(BOTH, "not testable here")
    assert set(claims_of("artist_language")) == set(CLAIMS)


def test_claims_fail_where_nothing_helps(data_of_singers):
    board = boards(data_of_singers, {"artist": 4.0, "language": 4.0}, 1.2, alpha=3.0, tasks=1.0, songs=4.0)
    assert verdicts(board).xs("corrected", level="protocol").to_dict() == dict.fromkeys(CLAIMS, "does not hold")


def test_folds_together_are_one_training(data_of_singers):
    invent = partial(invented, data_of_singers, folds=2)
    found = CLAIMS["L1"](board_of(data_of_singers, invent(2.0, "artist"), invent(3.0)), "corrected")
    assert {sample.n for sample in found.values()} == {1} and {sample.n_groups for sample in found.values()} == {24}
    rows = claim_rows(
        "artist_language", "singers", board_of(data_of_singers, invent(2.0, "artist"), invent(3.0)), CLAIMS
    )
    assert rows[0]["verdict"] == "one training"


def test_networks_at_chance_are_not_compared(data_of_singers):
    board = boards(data_of_singers, {"artist": 0.0, "language": 0.0}, 1.0, alpha=1.0, tasks=1.0, songs=1.0)
    with pytest.raises(NotTestable, match="artist, artist: .* above chance"):
        CLAIMS["L1"](board, "corrected")


def test_networks_that_were_still_learning_are_not_compared(data_of_singers):
    board = boards(data_of_singers, {"artist": 1.0, "language": 1.0}, 2.0, alpha=1.0, tasks=1.0, songs=1.0)
    assert CLAIMS["L1"](board, "corrected")
    for reading in board.readings("multitask"):
        reading.valid = pd.DataFrame({"epoch": range(20), "task": "artist", "loss": np.linspace(3, 1, 20)})
    with pytest.raises(NotTestable, match="artist, multitask: still falling"):
        CLAIMS["L1"](board, "corrected")


def test_each_rival_is_a_margin_in_average_precision(helpful):
    found = l3_label_counts_work_well(helpful, "corrected")
    assert set(found) == {("pr_auc", "Multi-task, α = 1")}
    assert all(sample.effect > 0 for sample in found.values())


def test_a_group_is_a_song_wherever_it_is_tested(data_of_singers):
    "Two trainings that tested different songs share the weights of those that both tested."
    first, other = (invented(data_of_singers, 1.0, seed=seed) for seed in (0, 1))
    kept = first.track < 3
    part = replace(first, y={k: v[kept] for k, v in first.y.items()}, p={k: v[kept] for k, v in first.p.items()})
    part = replace(part, track=first.track[kept], fold=first.fold[kept])
    assert scores(data_of_singers, None, part)["n_groups"] == 3 and scores(data_of_singers, None, other)["n_groups"] > 3


def test_no_language_no_claim_on_it():
    board = board_of(SimpleNamespace(second="album"))
    with pytest.raises(LookupError, match="the second task is the album"):
        l2_helps_languages(board, "corrected")


def test_label_counts_need_a_rival(data_of_singers):
    board = board_of(data_of_singers, invented(data_of_singers, 1.0))
    with pytest.raises(LookupError, match="no other α and no other balancer was run"):
        l3_label_counts_work_well(board, "corrected")


def test_the_paper_stands_beside_languages_alone():
    values = reported(SimpleNamespace(second="language"), Protocol.corrected)
    assert values["multitask_artist", "roc_auc"] == (74.88, "Table 1, multi-task I (artist)")
    assert values["artist", "pr_auc"][0] == values["language", "pr_auc"][0] == 39.78  # one baseline for two tasks
    assert len(values) == 8 and reported(SimpleNamespace(second="album"), Protocol.corrected) == {}


def test_reported_numbers_are_in_the_rows(outcome):
    table = outcome.tables["scores"]
    paper = table[table.paper_value.notna()]
    assert set(paper.variant) == {"artist", "language", "multitask_artist", "multitask_language"}
    assert set(paper.metric) == {"roc_auc", "pr_auc"}
    assert paper[(paper.variant == "multitask_artist") & (paper.metric == "roc_auc")].paper_value.eq(74.88).all()


def test_every_claim_of_a_run_has_a_verdict_or_a_reason(outcome):
    board = copy(outcome.board)
    board.settings = replace(board.settings, preset="mini")  # at smoke there are no verdicts
    rows = pd.DataFrame(claim_rows("artist_language", "singers", board, CLAIMS, BOTH))
    assert list(rows.claim) == ["L1", "L1", "L2", "L2", "L3", "L4"]
    tested = rows.verdict != "not testable here"
    assert rows.reindex(columns=["effect"]).effect.notna().eq(tested).all()
    assert rows[~tested].reason.str.contains("not trained in this run|above chance|still falling").all()


# Effects


@pytest.fixture(scope="module")
def switched(data_of_singers):
    invent = partial(invented, data_of_singers)
    protocols = {Protocol.corrected: 1.0, Protocol.published: 1.2, LEAK: 3.0, SPARSE: 0.9, UNHEARD: 0.2}
    readings = [invent(skill, protocol=protocol) for protocol, skill in protocols.items()]
    return board_of(data_of_singers, *readings, invent(0.5, "artist"), invent(0.7, "language"))


def test_switches_are_differences_of_scores(switched):
    effects = switch_effects(switched, comparisons(switched)).set_index(["switch", "metric"])

    def scored(protocol, metric="roc_auc"):
        return switched.sample("multitask", protocol.name, metric, task="artist")

    leak = effects.loc[("Segments of a song on both sides: artist", "roc_auc")]
    expected = (100 * (scored(LEAK) - scored(Protocol.corrected).unpaired())).estimate().ends()
    np.testing.assert_allclose(leak[["effect", "low", "high"]].astype(float), expected)
    sparse = effects.loc[("Two segments a minute, not twenty: artist", "pr_auc")]  # the same songs: paired
    expected = (100 * (scored(SPARSE, "pr_auc") - scored(Protocol.corrected, "pr_auc"))).estimate().ends()
    np.testing.assert_allclose(sparse[["effect", "low", "high"]].astype(float), expected)


def test_unheard_artists_have_no_effect_on_recognising_them(switched):
    switches = {comparison.switch for comparison in comparisons(switched)}
    assert "Artists never heard: language" in switches and "Artists never heard: artist" not in switches


def test_gains_stand_beside_the_papers(switched):
    effects = gain_effects(switched).set_index(["switch", "metric"])
    assert effects.effect["Artist, paper", "roc_auc"] == pytest.approx(4.43)
    assert effects.effect["Language, paper", "pr_auc"] == pytest.approx(8.69)
    own = 100 * (switched.sample("multitask", task="artist") - switched.sample("artist", task="artist"))
    assert effects.effect["Artist, corrected", "roc_auc"] == pytest.approx(own.effect)
    assert not [switch for switch, _ in effects.index if "published" in switch]  # no single tasks were trained there


def test_every_average_precision_has_chance_beside_it(outcome):
    found = beside_chance(outcome.board)
    assert found.chance.notna().all() and found.chance.between(0, 100).all()
    assert {"artist", "language", "multitask", "upgrad", "band_statistics", "untrained", "chance"} == (
        set(found.network) - {"equal", "gradnorm_epoch", "multitask_alpha_9"}
    )
    assert set(found[found.protocol == UNHEARD.name].task) == {"language"}


def test_no_networks_no_gains():
    board = board_of(SimpleNamespace(tasks=("artist", "album"), second="album"))
    assert gain_effects(board).empty
