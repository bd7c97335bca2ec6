"""Words and colours of the tagging study, and its figures."""

from dataclasses import replace
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from tagged import reading

from musicmtl.core import CorpusError
from musicmtl.papers.tagging.claims import NAMES, paper_values
from musicmtl.papers.tagging.experiment import EMBEDDINGS, KS, RECIPES, TAGGERS, heard_artists, overlap
from musicmtl.papers.tagging.figures import (
    TAG_FIGURE,
    areas_by_tag,
    best_embedding,
    neighbour_table,
    notion_words,
    overlap_figure,
    own_recalls,
    query_of,
    recall_figures,
    reported_recalls,
    table7_figure,
    study,
    taggram_figures,
)
from musicmtl.papers.tagging.metric import NOTIONS, tag_notions


def test_variants_have_words_and_share_the_colour_of_their_network():
    assert NAMES.label("cnn1d_skeleton") == "1D-CNN, Nesterov momentum" and NAMES.label("embed_cnn") == "CNN embedding"
    assert NAMES.label("embed_cnn_disentangled") == "CNN embedding, disentangled"
    assert NAMES.colour("embed_cnn_disentangled") == NAMES.colour("embed_cnn") == NAMES.colour("joint_metric")
    assert NAMES.label("joint_gradnorm_epoch") == "Joint, GradNorm, L(0) per epoch"
    assert NAMES.label("joint_equal") == "Joint, equal weights" and NAMES.label("joint_upgrad") == "Joint, UPGrad"
    assert NAMES.label("untrained_cnn") == "Untrained CNN embedding"
    assert NAMES.colour("joint_gradnorm_first") == NAMES.colour("gradnorm_first")


def test_every_variant_has_words_of_its_own():
    variants = [name for name, recipe in RECIPES.items() if recipe.kind != "pool"]
    words = [NAMES.label(name) for name in variants]
    assert len(set(words)) == len(words) and not any("_" in text for text in words)


def test_neighbours_and_words_of_a_query():
    classes = ("rock", "metal", "loud", "guitar", "slow")
    Y = np.array([[1, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 0, 1]], np.float32)
    assert query_of(Y, classes) == 0 and list(notion_words(Y, classes, "genre")) == ["rock", "rock", "none", "metal"]
    E = np.zeros((4, 8))  # a quarter per notion: near in genre is 1, in mood 2
    E[[0, 1], 0] = E[[0, 2], 2] = 1
    texts, shares, own = neighbour_table(reading(Y, variant="embed_cnn_both", embeddings=E), classes, 0, 1)
    assert own == ["rock", "loud", "guitar", "slow"] and texts[0] == ["rock, metal"] and texts[1] == ["loud"]
    assert shares[:2, 0].tolist() == [1, 1] and list(NOTIONS)[:2] == ["genre", "mood"]


def test_table_7_is_the_reports():
    table, values = reported_recalls(), paper_values()
    assert list(table.index) == [NAMES.label(name) for name in EMBEDDINGS]
    for name in EMBEDDINGS:
        for k in KS:
            assert table.loc[NAMES.label(name), f"K = {k}"] == pytest.approx(values[name, f"recall_at_{k}"][0] / 100)


def test_figures_show_what_the_tables_have(outcome, monkeypatch):
    recalls, source = own_recalls(outcome, "corrected")
    scores = outcome.tables["scores"]
    row = scores[(scores.variant == "embed_linear") & (scores.metric == "recall_at_2")]
    assert recalls.loc["Linear embedding", "K = 2"] == row.value.iloc[0] and source == ""
    assert {"Mel statistics", "Untrained Linear embedding"} <= set(recalls.index)  # What needs no training, below
    monkeypatch.setattr(outcome, "settings", replace(outcome.settings, corpus="miniature"))
    rows = [label.get_text() for label in table7_figure(outcome)["table7"][0].get_yticklabels()]
    assert rows[:12] == list(reported_recalls().index) and "Mel statistics" in rows[12:]
    areas, _ = areas_by_tag(outcome)
    assert set(areas.columns) == {*set(TAG_FIGURE) & set(outcome.settings.variants), "notion", "clips"}
    positives = outcome.tables["tags"].query("protocol == 'corrected'").groupby("tag").positives.first()
    assert areas.clips.tolist() == positives[areas.index].tolist() and areas.clips.min() > 0
    assert areas.notion.tolist() == sorted(tag_notions(areas.index)) == sorted(areas.notion)
    assert best_embedding(outcome).trial.variant == "embed_linear_disentangled"


def test_table_7_of_other_music_has_the_rows_that_were_trained(outcome, monkeypatch):
    assert outcome.settings.corpus == "folder"
    rows = [label.get_text() for label in table7_figure(outcome)["table7"][0].get_yticklabels()]
    trained = [label for label in reported_recalls().index if label in own_recalls(outcome, "corrected")[0].index]
    assert rows[: len(trained)] == trained and not set(rows[len(trained) :]) & set(reported_recalls().index)
    assert len(trained) < len(EMBEDDINGS)
    scores = outcome.tables["scores"]
    scores = scores[scores.variant.isin(["embed_linear", "embed_musicnn"])]
    monkeypatch.setattr(outcome, "tables", {**outcome.tables, "scores": scores})
    assert recall_figures(outcome) == {}
    plt.close("all")


def test_a_given_recording_has_a_taggram(outcome):
    figures = taggram_figures(outcome)
    assert set(figures) == {"taggram", "taggram_recording"}
    assert "“3-0”" in figures["taggram_recording"].get_title(loc="left")
    assert len(figures["taggram_recording"].get_yticklabels()) == len(outcome.data.classes)
    plt.close("all")


def test_what_was_trained_has_its_figures(outcome):
    names = []
    for function in study.figures:
        if function.__name__ != "map_figures":  # slow, and drawn by every run
            names += function(outcome)
            plt.close("all")
    expected = {"table6_roc_auc", "table6_pr_auc", "table6_parameters", "table7", "tags", "neighbours", "tables_time"}
    expected |= {f"table7_recall_{k}" for k in KS} | {"notions_linear", "curves_tags", "taggram", "taggram_recording"}
    expected |= {"joint_roc_auc", "joint_recall_at_1", "switches_tags", "switches_recall"}
    assert set(names) == expected and len(names) == len(set(names))


def test_what_was_not_trained_has_no_figure(outcome, monkeypatch):
    "Tables without rows and a board without readings give no figures, and no error."
    from musicmtl.study import Board

    empty = {name: table.iloc[:0] for name, table in outcome.tables.items()}
    monkeypatch.setattr(outcome, "tables", empty)
    monkeypatch.setattr(outcome, "board", Board([], None, data=outcome.data, settings=outcome.settings))
    found = [list(function(outcome)) for function in study.figures]
    assert found == [[]] * len(found)
    plt.close("all")


@pytest.mark.parametrize(
    "corpus, shown", [("miniature", True), ("magnatagatune", True), ("commons", False), ("miniature_long", False)]
)
def test_the_public_lists_are_shown_beside_what_is_like_them(corpus, shown):
    figures = overlap_figure(SimpleNamespace(of_corpus=corpus))
    assert set(figures) == ({"overlap"} if shown else set())
    (own,) = [function for function in study.figures if function.__name__ == "overlap_figure"]
    for ax in own(SimpleNamespace(of_corpus=corpus)).values():
        assert ax.get_title("left") == "MagnaTagATune's public splits"  # of no run's corpus
    plt.close("all")


def test_every_tagger_can_be_told_apart():
    colours = [NAMES.colour(name) for name, recipe in TAGGERS.items() if not recipe.leak]
    assert len(set(colours)) == len(colours)


def test_what_is_said_of_the_public_lists_is_in_them(data):
    folder = data / "magnatagatune"
    if not (folder / "train_list_pub.txt").is_file():
        pytest.skip(f"{folder} holds no lists of MagnaTagATune")
    pd.testing.assert_frame_equal(heard_artists(folder), overlap())
    with pytest.raises(CorpusError, match="expected a list of clips, found none"):
        heard_artists(data)
