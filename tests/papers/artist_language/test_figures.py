"""Every figure of the study, and what each of them shows."""

from types import SimpleNamespace

import numpy as np
import pytest

from musicmtl.papers.artist_language.experiment import Settings
from musicmtl.papers.artist_language.figures import (
    NAMES,
    artist_groups,
    confusion_figure,
    effect_figures,
    score_table,
    score_variants,
    study,
    sweep_figure,
    task_curves,
)

FIGURES = {
    "gains",
    "switches",
    "roc",
    "precision_recall",
    "roc_auc",
    "roc_auc_song",
    "pr_auc",
    "pr_auc_song",
    "sweep",
    "sweep_roc",
    "unheard_pr_auc",
    "unheard_roc_auc",
    "weights_gradnorm_epoch",
    "mel",
    "confusion",
    "tsne_artist",
    "tsne_language",
}


def test_the_study_draws_every_figure(outcome):
    drawn = {}
    for function in study.figures:
        drawn |= function(outcome)
    assert set(drawn) == FIGURES


def test_variants_have_words_for_a_reader():
    words = {
        "multitask_artist": "Multi-task, artist",
        "multitask_language_alpha_0.25": "Multi-task, language, α = 0.25",
        "gradnorm_ema_artist": "GradNorm, L(0) moving average, artist",
        "multitask_artist_tasks_4": "Multi-task, artist, 4 tasks",
        "chance_album": "Chance, album",
    }
    assert {name: NAMES.label(name) for name in words} == words
    assert NAMES.colour("multitask_alpha_1") == NAMES.colour("multitask") != NAMES.colour("single_task")


def test_scores_are_in_the_order_of_the_settings(outcome):
    others = ("multitask", "equal", "gradnorm_epoch", "upgrad", "band_statistics", "untrained")
    order = [name for task in ("artist", "language") for name in (task, *(f"{other}_{task}" for other in others))]
    shown = list(dict.fromkeys(score_table(outcome).variant))
    assert shown == [*order, "chance_artist", "chance_language"]
    album = SimpleNamespace(tasks=("artist", "album"), second="album")
    settings = Settings(variants=("artist", "second", "multitask"))
    assert score_variants(album, settings) == ["artist", "multitask_artist", "album", "multitask_album"]


def test_curves_compare_the_networks_of_one_fold(outcome):
    y, systems = task_curves(outcome, "language")
    assert list(systems) == ["single_task", "multitask"]
    assert {p.shape for p in systems.values()} == {(len(y), 2)}


def test_artists_of_a_language_stand_together(outcome):
    data = outcome.data
    language = dict(zip(data.corpus.table.artist, data.corpus.table.language, strict=True))
    assert artist_groups(data) == [language[artist] for artist in data.corpus.labels("artist").classes]
    assert artist_groups(SimpleNamespace(unheard=False)) is None
    ax = confusion_figure(outcome)["confusion"]
    assert [tick.get_text() for tick in ax.get_yticklabels()] == ["language 0", "language 1"]


def test_the_sweep_marks_label_counts(outcome):
    ax = sweep_figure(outcome)["sweep"]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["1", "3", "9"]  # artists by languages, and around it
    assert any(np.allclose(line.get_xdata(), 3) for line in ax.lines)


@pytest.mark.parametrize("name,first", [("gains", "Artist, corrected"), ("switches", "80/10/10 by song: artist")])
def test_effects_are_named(outcome, name, first):
    ax = effect_figures(outcome)[name]
    assert ax.get_yticklabels()[0].get_text() == first


def test_what_was_not_run_is_not_drawn():
    board = SimpleNamespace(labels=lambda protocol: ["multitask", "artist"])
    data, settings = SimpleNamespace(tasks=("artist", "album")), SimpleNamespace(main_protocol="corrected")
    assert sweep_figure(SimpleNamespace(board=board, data=data, settings=settings)) == {}
