"The `segments` views: balanced genres, balanced styles, and one audio for both."

import numpy as np
import pytest
from hearing import assert_samples

from musicmtl.miniature import GENRES, SR, miniature, render_track, styles, world
from musicmtl.miniature.world import COORDINATES


@pytest.mark.parametrize("size, n, classes", [("smoke", 48, (4, 6)), ("mini", 1020, (10, 25))])
@pytest.mark.parametrize("seed", range(3))
def test_genres_and_styles_are_balanced(size, n, classes, seed):
    ten, more = (miniature(view, size, seed=seed, render=False) for view in ("segments", "segments25"))
    genres, finer = ten.labels("genre"), more.labels("genre")
    assert (len(genres), len(finer)) == classes and len(ten) == n
    assert set(genres.counts) == {n // classes[0]} and set(finer.counts) == {n // classes[0] // 3}
    assert set(finer.classes) == set(styles(size))
    for table, least in ((ten.table, 3), (more.table, 2)):
        assert (table.groupby("genre")["artist"].nunique() >= least).all()
    parent = {style: genre.name for genre in GENRES.values() for style in genre.subgenres}
    same = ["track_id", "path", "artist", "album", "title"]
    both = more.table.merge(ten.table, on=same, suffixes=("", "_ten"))
    assert len(both) == len(more) and (both["genre"].map(parent) == both["genre_ten"]).all()
    assert both.groupby("genre_ten")["genre"].nunique().max() > 1


def test_two_views_hear_the_same_audio():
    ten, more = (miniature(view, "smoke", render=False) for view in ("segments", "segments25"))
    assert ten.root == more.root != miniature(size="smoke", render=False).root
    noisy = miniature("segments25", "smoke", label_noise=0.5, render=False)
    assert noisy.root == more.root and noisy.fingerprint != more.fingerprint
    assert set(noisy.labels("genre").counts) == {4}
    for table in (more.table, noisy.table):
        assert table["path"].tolist() == [f"audio/000/{i}.wav" for i in table["track_id"]]


def test_nothing_is_wrong_unless_asked_for():
    true = world("smoke", view="segments").tracks["genre"]
    assert (miniature("segments", "smoke", render=False).table["genre"] == true).all()


def test_styles_move_the_sound():
    "Tracks of a style lie nearer to each other than to those of the genre's others, beyond what artists bring."
    mini = world("mini", view="segments")
    own = mini.artists[list(COORDINATES)].to_numpy(float)[mini.tracks["artist_id"]]
    x = np.c_[mini.track_factors["timbre"], mini.track_factors["spectral"]] - own
    style, genre = mini.tracks["subgenres"].str[1].to_numpy(), mini.tracks["genre"].to_numpy()
    within = np.mean([x[style == name].var(0).mean() for name in set(style)])
    between = np.mean([x[genre == name].var(0).mean() for name in mini.size.genres])
    assert between > 1.2 * within


def test_smoke_tracks_hold_the_segments_that_a_study_needs():
    import librosa

    smoke, counts = world("smoke", view="segments"), []
    for i in range(0, 48, 6):
        mel = librosa.feature.melspectrogram(y=render_track(smoke, i), sr=SR, n_fft=1024, hop_length=512, n_mels=64)
        envelope = librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=SR, hop_length=512)
        counts.append(len(librosa.onset.onset_detect(onset_envelope=envelope, sr=SR, hop_length=512)))
    assert np.mean(np.array(counts) >= 120) >= 0.75, counts


@pytest.mark.parametrize(
    "view, fingerprint",
    [("segments", "3b51bb1300c10030b044a84f1b65f9c9"), ("segments25", "31b7e69c5abdec3c9e1a7a6809e225cb")],
)
def test_they_keep_their_tables_and_places(view, fingerprint):
    corpus = miniature(view, "mini", render=False)
    assert (corpus.root.name, corpus.fingerprint) == ("65ba7f5bc0a779bf", fingerprint)


def test_they_keep_their_sound():
    samples = [-0.0416, -0.0596, 0.0161, -0.0317, -0.1949, 0.1315, -0.1742, -0.0159, -0.205, 0.2296]
    assert_samples(render_track(world("smoke", view="segments"), 11), samples)
