"The `openmic` view: every instrument is heard, and some of what is heard is known."

import numpy as np
import pytest
from hearing import linear_model, statistics

from musicmtl.miniature import INSTRUMENTS, miniature, score, world


@pytest.fixture(scope="module")
def band():
    return world("mini", view="openmic")


@pytest.mark.long
@pytest.mark.parametrize("size, seed, least", [("mini", 0, 30), ("mini", 1, 30), ("claims", 0, 60), ("smoke", 0, 3)])
def test_every_instrument_is_known_to_play_often_enough(size, seed, least):
    tracks, corpus = world(size, seed, "openmic").tracks, miniature("openmic", size, seed=seed, render=False)
    labels = corpus.labels("instruments", order="name")
    assert labels.classes == tuple(sorted(INSTRUMENTS)) and len(labels) == 20
    there, absent = (labels.matrix == 1).sum(0), (labels.matrix == 0).sum(0)
    assert there.min() >= least and absent.min() >= least and (labels.counts == there).all()
    truth = np.array([[name in playing for name in labels.classes] for playing in tracks["instruments"]])
    known = np.isfinite(labels.matrix)
    assert (labels.matrix[known] == truth[known]).all()  # no wrong labels
    judged = known.sum(1)
    assert judged.min() >= 1 and 2.5 < judged.mean() < 4.5  # of twenty
    if size != "smoke":
        heard = np.delete(truth.sum(0), labels.classes.index("bass"))
        assert heard.max() < 1.2 * heard.min()


def test_it_is_laid_out_as_openmic():
    corpus = miniature("openmic", "mini", render=False)
    table, labels = corpus.table, corpus.labels("instruments")
    assert len(table) == 600 and set(table["duration_s"]) == {10.0}
    assert table["genre"].isna().all() and table["tags"].isna().all()
    assert (table.groupby("artist")["split"].nunique() == 1).all()
    shares = {part: round(len(rows) / len(table), 2) for part, rows in corpus.official.parts.items()}
    assert shares == dict(train=0.57, valid=0.18, test=0.25)
    for rows in corpus.official.parts.values():  # each instrument is there, and is absent, in every part
        assert (labels.matrix[rows] == 1).any(0).all() and (labels.matrix[rows] == 0).any(0).all()


def test_instruments_do_not_name_genre_or_artist(band):
    tracks = band.tracks
    for name in INSTRUMENTS:
        playing = tracks[[name in x for x in tracks["instruments"]]]
        assert playing["genre"].nunique() >= 12 and playing["artist"].nunique() >= 25, name
    assert not set(tracks["melody"]) & {"sparse", "speech"}
    assert set(tracks.loc[tracks["melody"] == "rap", "lead"]) <= {"voice"} and (tracks["comp_style"] != "none").all()


def test_every_player_is_on_the_record(band):
    "Each instrument that a track names has notes in it, early enough to be heard."
    for i in range(0, 600, 5):
        track, notes = band.tracks.iloc[i], score(band, i)
        bass = {"bass"} if track["bass"] != "none" else set()
        assert set(track["instruments"]) - {"drums"} == {track["lead"], track["comp"]} | bass
        assert {"lead", "comp"} <= set(notes)
        for part in {"lead", "comp", "bass"} & set(notes):
            assert (notes[part][:, 0] < 9).sum() >= 2, (i, part)


@pytest.mark.long
def test_instruments_are_heard_in_tracks_of_artists_that_were_never_heard():
    "A linear model ranks tracks with an instrument above others, three standard errors above chance, not perfectly."
    from sklearn.metrics import roc_auc_score

    size = {"base": "smoke", "n_artists": 48, "tracks_per_artist": 4, "duration_s": 4.0}
    some = world(size, view="openmic")
    X, fold = statistics(some), some.tracks["artist_id"].to_numpy() % 4
    model, areas, variances = linear_model(0.01), [], []
    for name in ("accordion", "flute", "saxophone", "voice", "cello", "strings"):
        plays = np.array([name in x for x in some.tracks["instruments"]])
        rank = np.empty(len(plays))
        for k in range(4):
            rank[fold == k] = model.fit(X[fold != k], plays[fold != k]).decision_function(X[fold == k])
        areas.append(roc_auc_score(plays, rank))
        variances.append((len(plays) + 1) / (12 * plays.sum() * (~plays).sum()))  # where there is nothing to hear
    assert 0.5 + 3 * np.sqrt(np.mean(variances) / len(areas)) < np.mean(areas) < 0.95
