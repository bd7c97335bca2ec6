"Miniature: counts, label noise, determinism, and that what the world says is what the audio holds."

import json
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import soundfile as sf

from musicmtl import sound, synth
from musicmtl.core import ParamsError
from musicmtl.miniature.sound import INSTRUMENTS, SR
from musicmtl.miniature.world import (
    DANCES,
    GENRES,
    LOOSE,
    MODES,
    REGIONAL,
    SegmentsSize,
    Size,
    genre_counts,
    miniature,
    render_track,
    score,
    styles,
    world,
)

SMALL = dict(base="smoke", duration_s=3.0)


@pytest.fixture(scope="module")
def mini():
    return world("mini")


# The world ------------------------------------------------------------------------------------------------------------------------


def test_mini_has_the_promised_counts(mini):
    assert len(mini.artists) >= 120 and len(mini.tracks) == 480 and mini.size.duration_s == 15
    counts = mini.tracks["genre"].value_counts()
    assert len(counts) == 16 and counts.to_dict() == genre_counts("mini")
    assert counts.max() == 30 * counts.min()
    assert (mini.tracks.groupby("genre")["artist"].nunique() >= 3).all()
    assert (mini.genres["n_artists"] >= 3).all()
    assert set(mini.genres.loc[mini.genres["loose"], "genre"]) == set(LOOSE) == {"Pop", "Experimental"}
    assert mini.artists["artist"].is_unique and mini.tracks["track_id"].is_unique


@pytest.mark.parametrize(
    "size,seed", [("smoke", 1), ("smoke", 2), ("mini", 3), ({"n_artists": 150, "tracks_per_artist": 5}, 1)]
)
def test_counts_hold_for_other_seeds_and_sizes(size, seed):
    w = world(size, seed)
    assert w.tracks["genre"].value_counts().to_dict() == genre_counts(size)
    for noise in (0, 0.1, 0.4):
        labels = w.labels(noise)
        assert labels.assign(artist=w.tracks["artist"]).groupby("genre")["artist"].nunique().min() >= 3


def test_smoke_is_small_but_long_enough_for_a_window():
    w = world("smoke")
    assert (
        len(w.tracks) == 36 and w.size.duration_s >= 7.6 and len(w.genres) == 4 and (w.genres["n_artists"] >= 3).all()
    )


def test_every_genre_is_a_complete_recipe():
    subgenres = [s for g in GENRES.values() for s in g.subgenres]
    assert len(subgenres) == len(set(subgenres)) and not set(subgenres) & set(GENRES)
    for g in (*GENRES.values(), *DANCES.values()):
        assert 4 <= len(g.subgenres) <= 6 and g.tempo[0] < g.tempo[1]
        for text, known in (
            (g.drums, synth.DRUMS),
            (g.comp, sound.INSTRUMENTS),
            (g.lead, sound.INSTRUMENTS),
            (g.mode, MODES),
            (g.borrows, GENRES),
            (g.melody, synth._DENSITY),
        ):
            assert set(synth._weights(text)[0] if text else ()) <= set(known), (g.name, text)


def test_artists_have_genres_of_their_own(mini):
    P = mini.factors["genre"]
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-9)
    assert np.median(np.sort(P, 1)[:, -2:].sum(1)) > 0.85
    own = [
        P[a, list(mini.genres["genre"]).index(g)]
        for a, g in zip(mini.tracks["artist_id"], mini.tracks["genre"], strict=True)
    ]
    assert np.mean(own) > 0.5  # what an artist plays is what its distribution says


def test_factors_have_a_row_an_artist(mini):
    for x in mini.factors.values():
        assert x.shape[0] == len(mini.artists) and np.isfinite(x).all()
    for x in mini.track_factors.values():
        assert x.shape[0] == len(mini.tracks)
    np.testing.assert_allclose(mini.factors["subgenre"].sum(1), 1, rtol=1e-9)
    np.testing.assert_allclose(mini.factors["harmony"].sum(1), 1, rtol=1e-9)
    a = mini.tracks["artist_id"].to_numpy()
    np.testing.assert_allclose(mini.factors["timbre"][7], mini.track_factors["timbre"][a == 7].mean(0))


def test_subgenres_belong_to_their_genre_and_follow_habits(mini):
    for genre, genres in zip(mini.tracks["genre"], mini.tracks["subgenres"], strict=True):
        assert genres[0] == genre and set(genres[1:]) <= set(GENRES[genre].subgenres) and 1 <= len(genres) - 1 <= 3
        assert len(set(genres)) == len(genres)


# Labels ---------------------------------------------------------------------------------------------------------------------------


def test_label_noise_is_nested_and_keeps_counts(mini):
    true, before = mini.tracks["genre"].to_numpy(), np.zeros(480, bool)
    last = None
    for rate in (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8):
        labels = mini.labels(rate)
        wrong = labels["wrong"].to_numpy()
        assert wrong.sum() == 2 * round(rate * 240)
        assert ((labels["genre"].to_numpy() != true) == wrong).all()
        assert (wrong >= before).all()
        if last is not None:
            assert (
                labels["genre"][before] == last["genre"][before]
            ).all()  # what was wrong stays wrong in the same way
        assert (np.sort(labels["genre"].to_numpy(str)) == np.sort(true.astype(str))).all()
        assert all(gs[0] == g for g, gs in zip(labels["genre"], labels["genres"], strict=True))
        before, last = wrong, labels


@pytest.mark.parametrize("noise", [-0.1, 1.1, True, "much", float("nan")])
def test_impossible_rates_are_refused(mini, noise):
    with pytest.raises(ParamsError, match="label_noise"):
        mini.labels(noise)


@pytest.mark.parametrize(
    "kwargs,word",
    [
        (dict(view="photos"), "view"),
        (dict(size="huge"), "size"),
        (dict(size={"n_artist": 3}), "n_artist"),
        (dict(size={"n_artists": 10}), "n_artists"),
        (dict(size={"duration_s": 0}), "duration_s"),
        (dict(size={"genres": ("Rock", "Polka")}), "genres"),
        (dict(view="regional", size={"languages": ("Hindi", "Latin"), "n_artists": 8}), "languages"),
        (dict(view="regional", size={"n_artists": 60}), "four for each of 17"),
        (dict(view="regional", size=Size()), "RegionalSize"),
        (dict(view="regional", size="smoke", label_noise=0.1), "label_noise"),
        (dict(size=SegmentsSize()), "a Size"),
        (dict(view="segments", size={"n_styles": 31}), "n_styles"),
        (dict(view="segments", size={"imbalance": 2}), "imbalance"),
        (dict(view="segments", size={"n_artists": 250}), "share evenly"),
        (dict(view="segments", size={"languages": 2}), "languages"),
        (dict(view="openmic", size={"n_artists": 4, "tracks_per_artist": 9, "genres": ["Rock"]}), "genres"),
        (dict(view="openmic", size={"base": "smoke", "n_artists": 12}), "at least 40 tracks"),
        (dict(view="openmic", size={"genres": ["Rock", "Spoken"]}), "have chords and a melody"),
        (dict(view="openmic", size="smoke", label_noise=0.1), "label_noise"),
        (dict(view="ballroom", size={"genres": ["Tango", "Rock"]}), "names of DANCES"),
        (dict(view="ballroom", size={"imbalance": 2}), "imbalance"),
        (dict(view="ballroom", size={"n_artists": 100}), "9 dances can share evenly"),
        (dict(size={"genres": ["Tango", "Waltz"]}), "names of GENRES"),
        (dict(seed=-1), "seed"),
        (dict(seed=0.5), "seed"),
        (dict(n_jobs=0), "n_jobs"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, kwargs, word):
    with pytest.raises(ParamsError, match=word):
        miniature(root=tmp_path, **kwargs)
    assert not list(tmp_path.iterdir())


def test_noise_and_view_do_not_change_where_the_audio_lies():
    a, b = (miniature(size="mini", label_noise=n, render=False) for n in (0.0, 0.3))
    assert a.root == b.root and a.fingerprint != b.fingerprint
    assert (
        miniature(size="mini", seed=1, render=False).root != a.root
        and miniature(size={"duration_s": 30}, render=False).root != a.root
    )


def test_official_split_keeps_artists_together():
    corpus = miniature(size="mini", render=False)
    t = corpus.table
    assert (t.groupby("artist")["split"].nunique() == 1).all()
    assert {k: len(v) for k, v in corpus.official.parts.items()} == dict(train=384, valid=48, test=48)


# The audio ------------------------------------------------------------------------------------------------------------------------


def test_rendering_is_deterministic_in_any_order_and_process(tmp_path):
    corpus = miniature(size=SMALL, root=tmp_path / "a", n_jobs=1)
    there = [corpus.path(i) for i in range(len(corpus))]
    w = world(SMALL)
    for i in (17, 3):  # alone, in another order
        with synth.atomic(tmp_path / f"{i}.wav") as tmp:
            sf.write(tmp, render_track(w, i), SR, subtype="PCM_16", format="WAV")
        assert (tmp_path / f"{i}.wav").read_bytes() == there[i].read_bytes()
    code = (
        "import sys, pathlib; from musicmtl.miniature.world import _write, world; "
        "_write(world(dict(base='smoke', duration_s=3.)), [20, 5], pathlib.Path(sys.argv[1]))"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "b"], check=True)
    for i in (20, 5):
        assert (tmp_path / "b" / corpus.table["path"][i]).read_bytes() == there[i].read_bytes()


def test_an_interrupted_rendering_goes_on(tmp_path, monkeypatch):
    first = miniature(size=SMALL, root=tmp_path, n_jobs=1)
    bytes_of = {i: first.path(i).read_bytes() for i in range(len(first))}
    (tmp_path / "complete.json").unlink()
    for i in (4, 30):
        first.path(i).unlink()
    made, real = [], synth.render_track
    monkeypatch.setattr(synth, "render_track", lambda w, i: made.append(i) or real(w, i))
    again = miniature(size=SMALL, root=tmp_path, n_jobs=1)
    assert made == [4, 30] and all(again.path(i).read_bytes() == b for i, b in bytes_of.items())
    assert json.loads((tmp_path / "complete.json").read_text())["n_tracks"] == 36
    miniature(size=SMALL, root=tmp_path, n_jobs=1, label_noise=0.3)  # other labels, same audio
    assert made == [4, 30]
    with pytest.raises(ParamsError, match="another Miniature"):
        miniature(size=SMALL, seed=1, root=tmp_path)


@pytest.mark.parametrize("genre", GENRES)
def test_every_genre_sounds(mini, genre):
    i = int(np.flatnonzero(mini.tracks["style"] == genre)[0])
    x = render_track(mini, i)
    assert x.shape == (15 * SR,) and x.dtype == np.float32 and np.isfinite(x).all()
    assert np.abs(x).max() <= 1
    rms = np.sqrt((x[: 15 * SR].reshape(15, SR) ** 2).mean(1))
    assert rms.min() > 10 ** (-60 / 20) and -32 < 20 * np.log10(np.sqrt((x**2).mean())) < -6


def test_label_noise_and_neighbours_are_not_heard():
    "A track depends on the size, the seed and its number; the label of another cannot reach it."
    a = render_track(world(SMALL), 9)
    world(SMALL).labels(0.3)
    render_track(world(SMALL), 8)
    assert (render_track(world(SMALL), 9) == a).all()


def _tempo_near(x, bpm):
    "Tempo within 15 % of `bpm` whose beats, eighths and sixteenths together are strongest in the spectral flux."
    frames = np.lib.stride_tricks.sliding_window_view(x, 1024)[::256] * np.hanning(1024).astype(np.float32)
    flux = np.maximum(np.diff(np.log1p(100 * np.abs(np.fft.rfft(frames))), axis=0), 0).sum(1)
    grid, t = bpm * np.linspace(0.85, 1.15, 121), np.arange(len(flux)) * 256 / SR

    def power(m):
        return np.abs(np.exp(-2j * np.pi * m * np.outer(grid / 60, t)) @ (flux - flux.mean()))

    return grid[(power(1) + power(2) + power(4)).argmax()]


@pytest.mark.parametrize("drums", ["four", "rock", "hiphop", "train"])
def test_the_drums_keep_the_tempo(mini, drums):
    t = mini.tracks
    for i in np.flatnonzero((t["drums"] == drums) & (t["metre"] == 4) & (t["style"] != "Experimental"))[:3]:
        found = _tempo_near(render_track(mini, int(i)), t["tempo_bpm"][i])
        assert abs(found / t["tempo_bpm"][i] - 1) < 0.01, (i, found, t["tempo_bpm"][i])


def test_the_notes_are_in_the_key(mini):
    for i in range(0, 480, 7):
        t, notes = mini.tracks.iloc[i], score(mini, i)
        scale = {(t["key"] + s) % 12 for s in MODES[t["mode"]]}
        for part in ("comp", "bass") + (() if t["melody"] in ("rap", "speech") else ("lead",)):
            if part in notes and part != "bass":
                assert {p % 12 for p in notes[part][:, 2]} <= scale, (i, part)
        for part in set(notes) - {"drums"}:
            onset = notes[part][:, 0]
            assert (
                (onset >= 0).all()
                and (notes[part][:, 1] > 0).all()
                and (0 < notes[part][:, 3]).all()
                and (notes[part][:, 3] <= 1).all()
            )


def test_the_key_is_heard(mini):
    t = mini.tracks
    quiet = np.flatnonzero(
        (t["drums"] == "none") & t["genre"].isin(["Classical", "Folk"]) & (t["style"] == t["genre"])
    )[:4]
    assert len(quiet) == 4
    hz = np.arange(1, 15 * SR // 2 + 1) / 15
    pitch = np.rint(12 * np.log2(hz / 440) + 69).astype(int) % 12
    for i in quiet:
        power = np.abs(np.fft.rfft(render_track(mini, int(i)))[1:]) ** 2
        heard = np.bincount(pitch, power * ((hz > 60) & (hz < 1000)), minlength=12)
        scale = [(t["key"][i] + s) % 12 for s in MODES[t["mode"][i]]]
        assert heard[scale].sum() > 0.85 * heard.sum(), (i, heard)


def test_coordinates_do_what_they_say():
    "Brightness raises the partials, the noise floor fills silence, tilt moves the spectral balance."
    ins = sound.INSTRUMENTS["piano"]
    tones = [sound.tone(np.random.default_rng(0), ins, 220.0, SR // 2, (b, 0, 0, 0, 0)) for b in (-1.5, 1.5)]
    centroid = [(np.abs(np.fft.rfft(x)) * np.arange(SR // 4 + 1)).sum() / np.abs(np.fft.rfft(x)).sum() for x in tones]
    assert centroid[1] > 1.2 * centroid[0]
    burst = np.zeros(2 * SR, np.float32)
    burst[: SR // 10] = np.sin(2 * np.pi * 440 * np.arange(SR // 10) / SR)

    def record(z):
        return sound.record(np.random.default_rng(0), np.random.default_rng(1), burst, z, 0.0, False, -20)

    def end(x):
        return np.sqrt((x[-SR // 4 :] ** 2).mean())

    assert end(record((0.0, 0.0, 2.0, -2.0))) > 5 * end(record((0.0, 0.0, -2.0, -2.0)))

    def late(x):
        return np.sqrt((x[SR // 5 : SR // 2] ** 2).mean())

    assert late(record((0.0, 0.0, -3.0, 1.5))) > 2 * late(record((0.0, 0.0, -3.0, -2.0)))


def test_partials_stay_below_half_the_sample_rate():
    for hz in (60.0, 441.0, 2000.0, 6000.0):
        for c in sound._cycles(sound.INSTRUMENTS["trumpet"], hz, 1.0, 0.0, sound.VOWELS[0]):
            k = np.flatnonzero(np.abs(np.fft.rfft(c)) > 1e-3 * np.abs(np.fft.rfft(c)).max())
            assert len(k) == 0 or k.max() * hz < SR / 2


def test_size_is_checked_once_and_hashable():
    assert world(Size(12, 3, 8.0, ("Rock", "Electronic", "Hip-Hop", "Folk"), 2.0)) is world("smoke")


# What the fma view was before other views came ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size,key,fingerprint",
    [
        ("smoke", "2b01bb65cd8b7a6e", "51efc2e5a3550e2a3cc019a25dbf5477"),
        ("mini", "24a25a068b598bdf", "9a97668ae2ad438092c1dd96f637efdc"),
    ],
)
def test_fma_keeps_its_table_and_its_place(size, key, fingerprint):
    corpus = miniature(size=size, render=False)
    assert (corpus.root.name, corpus.fingerprint) == (key, fingerprint)


@pytest.mark.parametrize(
    "size,i,samples",
    [
        ("smoke", 0, [-0.0181, 0.1748, -0.0664, 0.2312, 0.2879, -0.0183, 0.1509, 0.066, -0.0413, 0.1419]),
        ("smoke", 17, [-0.2533, -0.526, -0.2625, -0.0324, 0.1009, -0.4583, -0.5626, -0.0437, 0.4537, -0.0872]),
        ("mini", 5, [0.0138, 0.0453, 0.0215, 0.0221, 0.1788, -0.1339, -0.0564, -0.1108, 0.1809, 0.1967]),
        ("mini", 300, [-0.0348, -0.2276, -0.0937, -0.2323, -0.0709, 0.171, -0.0023, -0.0556, -0.0701, -0.1714]),
    ],
)
def test_fma_keeps_its_sound(size, i, samples):
    "Frozen samples and not a hash of all: processors differ in the last bit of an exponential, nothing that is heard does."
    x = render_track(world(size), i)
    np.testing.assert_allclose(x[5000 :: len(x) // 10][:10], samples, atol=1e-4)


# Languages -------------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def regional():
    return world("mini", view="regional")


def test_regional_has_the_layout_of_the_paper(regional):
    t = miniature("regional", "mini", render=False).table
    assert len(t) == 340 and t["artist"].nunique() == 68 and set(t["language"]) == set(REGIONAL) and len(REGIONAL) == 17
    assert (t.groupby("language")["artist"].nunique() == 4).all() and (t.groupby("artist").size() == 5).all()
    people = t.drop_duplicates("artist")
    for column in ("gender", "veteran"):
        assert (people.groupby(["language", column]).size() == 2).all()
    assert t["genre"].isna().all() and t["split"].isna().all() and t["album"].notna().all()
    assert t.groupby("artist")["album"].nunique().max() <= 3
    assert (regional.tracks["lead"] == "voice").all() and (regional.tracks["melody"] == "sung").all()
    assert (regional.size.duration_s, world("paper", view="regional").size.duration_s) == (24, 120)


def test_the_band_does_not_name_language_or_artist(regional):
    homes = regional.artists.groupby("language")["home"]
    assert homes.nunique().min() >= 2 and (regional.artists["home"].value_counts() >= 13).all()
    band = regional.tracks.groupby(["style", "comp", "drums"])["artist"].nunique()
    assert band.median() > 1


def test_worlds_share_no_dice(regional, mini):
    worlds = mini, regional, *(world("mini", view=v) for v in ("segments", "openmic", "ballroom"))
    names = [n for w in worlds for n in set(w.artists["artist"][:60])]
    assert len(names) == len(set(names)) == 5 * 60


def test_songs_follow_their_language(regional):
    "Vowels, rhythm and mode of twenty songs together are those that the language says."
    first = []
    for k, language in regional.languages.iterrows():
        rows = np.flatnonzero(regional.tracks["artist_id"] // 4 == k)
        first += [language["modes"].startswith(regional.tracks["mode"][i] + ":") for i in rows]
        if k % 4:
            continue
        vowels = np.concatenate([score(regional, int(i))["lead"][:, 4] for i in rows]).astype(int)
        np.testing.assert_allclose(np.bincount(vowels, minlength=5) / len(vowels), language["use"], atol=0.07)
        heard = np.zeros(8)
        for i in rows[regional.tracks["metre"][rows] == 4]:
            t = regional.tracks.iloc[i]
            step = score(regional, int(i))["lead"][:, 0] / (60 / t["tempo_bpm"] / 4)
            heard += np.bincount((step.astype(int) % 16) // 2, minlength=8)  # a late eighth is late by less than a step
        assert np.corrcoef(heard, language["beats"])[0, 1] > 0.8, language["name"]
    assert abs(np.mean(first) - 0.8) < 0.1


def test_formants_and_consonants_are_heard():
    hz = np.arange(SR // 2 + 1)

    def spectrum(x):
        return np.abs(np.fft.rfft(x * np.hanning(SR))) ** 2

    voice = [
        spectrum(sound.tone(np.random.default_rng(0), sound.INSTRUMENTS["voice"], 110.0, SR, np.zeros(5), f))
        for f in ((300, 2300, 3000), (325, 700, 2700))
    ]
    front, back = (abs(hz - f) < 0.12 * f for f in (2300, 700))
    assert voice[0][front].sum() > 10 * voice[1][front].sum() and voice[1][back].sum() > 10 * voice[0][back].sum()
    for f in (1500, 6000):
        x = sound.consonants(np.random.default_rng(0), np.array([[0.5, 0.2, 60, 1, 0]]), SR, ((f, 0.1, 1.0),))
        assert np.flatnonzero(x).max() == SR // 2 - 1 and np.flatnonzero(x).min() > 0.39 * SR
        power = np.abs(np.fft.rfft(x)) ** 2
        assert power[abs(hz - f) < f / 2].sum() > 0.9 * power.sum()


def _sounds(w):
    "Mean, deviation and movement of a track's bands, [N, d]."
    edges, out = np.geomspace(100, SR / 2, 41), []
    bins = np.digitize(np.fft.rfftfreq(1024, 1 / SR), edges)
    sums = np.array([(bins == k) / max(1, (bins == k).sum()) for k in range(1, 41)])
    for i in range(len(w.tracks)):
        frames = np.lib.stride_tricks.sliding_window_view(render_track(w, i), 1024)[::512] * np.hanning(1024).astype(
            np.float32
        )
        x = np.log10(np.abs(np.fft.rfft(frames)) ** 2 @ sums.T + 1e-6)
        out.append(np.r_[x.mean(0), x.std(0), np.diff(x, axis=0).std(0)])
    return np.array(out)


def test_languages_are_heard_in_singers_that_were_never_heard():
    "A linear model knows a new singer's language, and which of a language's singers sings a new song, three standard errors above chance."
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    w = world(dict(base="smoke", languages=REGIONAL[:6], n_artists=24), view="regional")
    X, artist, song = _sounds(w), w.tracks["artist_id"].to_numpy(), np.arange(72) % 3
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.03, max_iter=500))

    def right(y, groups):  # Share of the held-out tracks that get their label
        return np.mean(
            [
                p
                for h in set(groups)
                for p in model.fit(X[groups != h], y[groups != h]).predict(X[groups == h]) == y[groups == h]
            ]
        )

    def above(p):
        return p + 3 * np.sqrt(p * (1 - p) / 72)

    assert above(1 / 6) < right(artist // 4, artist % 4) < 0.95
    assert above(1 / 4) < right(artist, song) < 0.95  # more than its language, which alone would be right once in four


# Styles ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size,n,classes", [("smoke", 48, (4, 6)), ("mini", 1020, (10, 25))])
@pytest.mark.parametrize("seed", range(3))
def test_segments_are_balanced(size, n, classes, seed):
    ten, more = (miniature(v, size, seed=seed, render=False) for v in ("segments", "segments25"))
    a, b = ten.labels("genre"), more.labels("genre")
    assert (len(a), len(b)) == classes and len(ten) == n
    assert (
        set(a.counts) == {n // classes[0]}
        and set(b.counts) == {n // classes[0] // 3}
        and set(b.classes) == set(styles(size))
    )
    for t, least in ((ten.table, 3), (more.table, 2)):
        assert (t.groupby("genre")["artist"].nunique() >= least).all()
    parent = {s: g.name for g in GENRES.values() for s in g.subgenres}
    t = more.table.merge(ten.table, on=["track_id", "path", "artist", "album", "title"], suffixes=("", "_ten"))
    assert len(t) == len(more) and (t["genre"].map(parent) == t["genre_ten"]).all()
    assert t.groupby("genre_ten")["genre"].nunique().max() > 1


@pytest.mark.parametrize("view", synth.VIEW_SIZES)
def test_every_size_of_a_view_is_valid(view):
    sizes = synth.VIEW_SIZES[view]
    assert list(sizes) == ["smoke", "mini", "claims", "paper"] and set(synth.VIEWS) == set(synth.VIEW_SIZES)
    for name in sizes:
        assert synth._size(name, sizes) == sizes[name]


def test_two_views_hear_the_same_audio():
    ten, more = (miniature(v, "smoke", render=False) for v in ("segments", "segments25"))
    assert ten.root == more.root != miniature(size="smoke", render=False).root
    noisy = miniature("segments25", "smoke", label_noise=0.5, render=False)
    assert (
        noisy.root == more.root and set(noisy.labels("genre").counts) == {4} and noisy.fingerprint != more.fingerprint
    )
    for t in (more.table, noisy.table):
        assert t["path"].tolist() == [f"audio/000/{i}.wav" for i in t["track_id"]]
    w = world("smoke", view="segments")
    assert (
        miniature("segments", "smoke", render=False).table["genre"] == w.tracks["genre"]
    ).all()  # nothing is wrong unless asked for


def test_styles_move_the_sound():
    "Tracks of one style lie nearer to each other than to those of the other styles of their genre, beyond what artists bring."
    w = world("mini", view="segments")
    x = np.c_[w.track_factors["timbre"], w.track_factors["spectral"]]
    x = x - np.array([w.artists.loc[a, list(synth.TIMBRE + synth.SPECTRAL)] for a in w.tracks["artist_id"]], float)
    style = np.array([s[1] for s in w.tracks["subgenres"]])
    within = np.mean([x[style == s].var(0).mean() for s in set(style)])
    between = np.mean([x[(w.tracks["genre"] == g).to_numpy()].var(0).mean() for g in w.size.genres])
    assert between > 1.2 * within


def test_smoke_tracks_hold_the_segments_that_a_study_needs():
    import librosa

    w, n = world("smoke", view="segments"), []
    for i in range(0, 48, 6):
        mel = librosa.feature.melspectrogram(y=render_track(w, i), sr=SR, n_fft=1024, hop_length=512, n_mels=64)
        envelope = librosa.onset.onset_strength(S=librosa.power_to_db(mel), sr=SR, hop_length=512)
        n.append(len(librosa.onset.onset_detect(onset_envelope=envelope, sr=SR, hop_length=512)))
    assert np.mean(np.array(n) >= 120) >= 0.75, n


@pytest.mark.parametrize(
    "view,key,fingerprint",
    [
        ("regional", "3ba18a1f270641c8", "1e1989a5dfcd11183b50e282b84170ef"),
        ("segments", "65ba7f5bc0a779bf", "3b51bb1300c10030b044a84f1b65f9c9"),
        ("segments25", "65ba7f5bc0a779bf", "31b7e69c5abdec3c9e1a7a6809e225cb"),
    ],
)
def test_the_worlds_before_instruments_and_dances_keep_their_tables_and_places(view, key, fingerprint):
    corpus = miniature(view, "mini", render=False)
    assert (corpus.root.name, corpus.fingerprint) == (key, fingerprint)


@pytest.mark.parametrize(
    "view,i,samples",
    [
        ("regional", 7, [0.0637, 0.304, -0.1433, 0.0247, 0.2276, -0.0143, -0.0602, 0.3597, -0.2312, -0.047]),
        ("segments", 11, [-0.0416, -0.0596, 0.0161, -0.0317, -0.1949, 0.1315, -0.1742, -0.0159, -0.205, 0.2296]),
    ],
)
def test_they_keep_their_sound(view, i, samples):
    x = render_track(world("smoke", view=view), i)
    np.testing.assert_allclose(x[5000 :: len(x) // 10][:10], samples, atol=1e-4)


# Instruments -----------------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def band():
    return world("mini", view="openmic")


@pytest.mark.parametrize("size,seed,least", [("mini", 0, 30), ("mini", 1, 30), ("claims", 0, 60), ("smoke", 0, 3)])
def test_every_instrument_is_known_to_play_often_enough(size, seed, least):
    w, corpus = world(size, seed, "openmic"), miniature("openmic", size, seed=seed, render=False)
    labels = corpus.labels("instruments", order="name")
    assert labels.classes == tuple(sorted(INSTRUMENTS)) and len(labels) == 20
    there, absent = (labels.matrix == 1).sum(0), (labels.matrix == 0).sum(0)
    assert there.min() >= least and absent.min() >= least and (labels.counts == there).all()
    truth = np.array([[n in x for n in labels.classes] for x in w.tracks["instruments"]])
    known = np.isfinite(labels.matrix)
    assert (labels.matrix[known] == truth[known]).all()  # no wrong labels
    judged = known.sum(1)
    assert judged.min() >= 1 and 2.5 < judged.mean() < 4.5  # of twenty
    if size != "smoke":
        heard = np.delete(truth.sum(0), labels.classes.index("bass"))
        assert heard.max() < 1.2 * heard.min()


def test_openmic_is_laid_out_as_openmic():
    corpus = miniature("openmic", "mini", render=False)
    t, labels = corpus.table, corpus.labels("instruments")
    assert len(t) == 600 and set(t["duration_s"]) == {10.0} and t["genre"].isna().all() and t["tags"].isna().all()
    assert (t.groupby("artist")["split"].nunique() == 1).all()
    assert {p: round(len(rows) / len(t), 2) for p, rows in corpus.official.parts.items()} == dict(
        train=0.57, valid=0.18, test=0.25
    )
    for rows in corpus.official.parts.values():  # each instrument is there, and is absent, in every part
        assert (labels.matrix[rows] == 1).any(0).all() and (labels.matrix[rows] == 0).any(0).all()


def test_instruments_do_not_name_genre_or_artist(band):
    t = band.tracks
    for name in INSTRUMENTS:
        mine = t[[name in x for x in t["instruments"]]]
        assert mine["genre"].nunique() >= 12 and mine["artist"].nunique() >= 25, name
    assert not set(t["melody"]) & {"sparse", "speech"} and set(t.loc[t["melody"] == "rap", "lead"]) <= {"voice"}
    assert (t["comp_style"] != "none").all()


def test_every_player_is_on_the_record(band):
    "Each instrument that a track names has notes in it, early enough to be heard."
    for i in range(0, 600, 5):
        t, notes = band.tracks.iloc[i], score(band, i)
        assert set(t["instruments"]) - {"drums"} == {t["lead"], t["comp"]} | (
            {"bass"} if t["bass"] != "none" else set()
        )
        for part in {"lead", "comp", "bass"} & set(notes):
            assert (notes[part][:, 0] < 9).sum() >= 2, (i, part)
        assert {"lead", "comp"} <= set(notes)


def test_instruments_are_heard_in_tracks_of_artists_that_were_never_heard():
    "A linear model ranks the tracks with an instrument above those without it, three standard errors above chance, and not perfectly."
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    w = world(dict(base="smoke", n_artists=48, tracks_per_artist=4, duration_s=4.0), view="openmic")
    X, artist = _sounds(w), w.tracks["artist_id"].to_numpy() % 4
    model, areas, variance = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500)), [], []
    for name in ("accordion", "flute", "saxophone", "voice", "cello", "strings"):
        y = np.array([name in x for x in w.tracks["instruments"]])
        score = np.empty(len(y))
        for h in range(4):
            score[artist == h] = model.fit(X[artist != h], y[artist != h]).decision_function(X[artist == h])
        areas.append(roc_auc_score(y, score))
        variance.append((len(y) + 1) / (12 * y.sum() * (~y).sum()))  # of the area where there is nothing to hear
    assert 0.5 + 3 * np.sqrt(np.mean(variance) / len(areas)) < np.mean(areas) < 0.95


# Dances ----------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size,each,n_dances", [("smoke", 9, 4), ("mini", 48, 9), ("claims", 100, 9), ("paper", 450, 9)]
)
def test_dances_are_balanced(size, each, n_dances):
    corpus = miniature("ballroom", size, render=False)
    labels = corpus.labels("genre")
    assert len(labels) == n_dances and set(labels.counts) == {each} and set(labels.classes) <= set(DANCES)
    t = corpus.table
    assert t.groupby("genre")["artist"].nunique().min() >= 3 and t.groupby("artist")["genre"].nunique().mean() > 1.5
    split = corpus.split(by="artist", fractions=(0.7, 0.15, 0.15), stratify="genre")
    for rows in split.parts.values():
        assert t["genre"][rows].nunique() == n_dances


def test_dances_differ_as_dances_do():
    w = world("mini", view="ballroom")
    t = w.tracks
    assert set(t.groupby("genre")["metre"].nunique()) == {1} and set(t.loc[t["metre"] == 3, "genre"]) == {
        "Waltz",
        "Viennese waltz",
    }
    for name, d in DANCES.items():
        assert t.loc[t["genre"] == name, "tempo_bpm"].between(*d.tempo).all(), name
    assert (t["style"] == t["genre"]).all()
    pattern = {d: frozenset(t.loc[t["genre"] == d, "drums"]) for d in DANCES}
    for slow, fast in (("Foxtrot", "Quickstep"), ("Waltz", "Viennese waltz")):
        assert pattern[slow] == pattern[fast]
        assert (
            replace(DANCES[slow], name=fast, tempo=DANCES[fast].tempo) == DANCES[fast]
        )  # the same bands play the same music
        assert t.loc[t["genre"] == slow, "tempo_bpm"].max() < t.loc[t["genre"] == fast, "tempo_bpm"].min()
    others = [pattern[d] for d in DANCES if d not in ("Quickstep", "Viennese waltz")]
    assert len(set().union(*others)) == sum(map(len, others))  # and no two others share a drum pattern
    np.testing.assert_allclose(w.factors["subgenre"].sum(1), 1, rtol=1e-9)


@pytest.mark.parametrize("dance", ["Foxtrot", "Quickstep", "Samba", "Tango"])
def test_a_dance_is_heard_at_its_tempo(dance):
    w = world("mini", view="ballroom")
    for i in np.flatnonzero(w.tracks["genre"] == dance)[:3]:
        found, expected = _tempo_near(render_track(w, int(i)), w.tracks["tempo_bpm"][i]), w.tracks["tempo_bpm"][i]
        assert abs(found / expected - 1) < 0.01, (i, found, expected)


@pytest.mark.parametrize("dance", DANCES)
def test_every_dance_sounds(dance):
    w = world("mini", view="ballroom")
    x = render_track(w, int(np.flatnonzero(w.tracks["genre"] == dance)[0]))
    assert x.shape == (12 * SR,) and np.isfinite(x).all() and np.abs(x).max() <= 1
    rms = np.sqrt((x.reshape(12, SR) ** 2).mean(1))
    assert rms.min() > 10 ** (-60 / 20) and -25 < 20 * np.log10(np.sqrt((x**2).mean())) < -10


@pytest.mark.parametrize("view", ["openmic", "ballroom"])
def test_a_new_view_is_rendered_like_the_others(tmp_path, view):
    size = dict(base="smoke", duration_s=1.0)
    corpus = miniature(view, size, root=tmp_path, n_jobs=2)
    i = len(corpus) - 1
    x, sr = sf.read(corpus.path(i), dtype="float32")
    np.testing.assert_allclose(x, render_track(world(size, view=view), i), atol=2**-15)
    assert sr == SR and all(corpus.path(k).is_file() for k in range(len(corpus)))


def test_a_size_may_come_from_a_yaml_file():
    a = world(dict(base="smoke", languages=["Hindi", "Tamil"], n_artists=8, genres=["Rock", "Folk"]), view="regional")
    assert a is world(
        dict(base="smoke", languages=("Hindi", "Tamil"), n_artists=8, genres=("Rock", "Folk")), view="regional"
    )
