"Miniature: counts, label noise, determinism, and that what the world says is what the audio holds."
import json
import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from musicmtl import synth
from musicmtl.core import ParamsError
from musicmtl.synth import GENRES, LOOSE, MODES, SR, Size, genre_counts, miniature, render_track, score, world

SMALL = dict(base="smoke", duration_s=3.)


@pytest.fixture(scope="module")
def mini(): return world("mini")


# The world ------------------------------------------------------------------------------------------------------------------------

def test_mini_has_the_promised_counts(mini):
    assert len(mini.artists) >= 120 and len(mini.tracks) == 480 and mini.size.duration_s == 15
    counts = mini.tracks["genre"].value_counts()
    assert len(counts) == 16 and counts.to_dict() == genre_counts("mini")
    assert counts.max() == 30*counts.min()
    assert (mini.tracks.groupby("genre")["artist"].nunique() >= 3).all()
    assert (mini.genres["n_artists"] >= 3).all()
    assert set(mini.genres.loc[mini.genres["loose"], "genre"]) == set(LOOSE) == {"Pop", "Experimental"}
    assert mini.artists["artist"].is_unique and mini.tracks["track_id"].is_unique


@pytest.mark.parametrize("size,seed", [("smoke", 1), ("smoke", 2), ("mini", 3), ({"n_artists":150, "tracks_per_artist":5}, 1)])
def test_counts_hold_for_other_seeds_and_sizes(size, seed):
    w = world(size, seed)
    assert w.tracks["genre"].value_counts().to_dict() == genre_counts(size)
    for noise in (0, .1, .4):
        labels = w.labels(noise)
        assert labels.assign(artist=w.tracks["artist"]).groupby("genre")["artist"].nunique().min() >= 3


def test_smoke_is_small_but_long_enough_for_a_window():
    w = world("smoke")
    assert len(w.tracks) == 36 and w.size.duration_s >= 7.6 and len(w.genres) == 4 and (w.genres["n_artists"] >= 3).all()


def test_every_genre_is_a_complete_recipe():
    subgenres = [s for g in GENRES.values() for s in g.subgenres]
    assert len(subgenres) == len(set(subgenres)) and not set(subgenres) & set(GENRES)
    for g in GENRES.values():
        assert 4 <= len(g.subgenres) <= 6 and g.tempo[0] < g.tempo[1]
        for text,known in ((g.drums, synth.DRUMS), (g.comp, synth.INSTRUMENTS), (g.lead, synth.INSTRUMENTS), (g.mode, MODES),
                           (g.borrows, GENRES), (g.melody, synth._DENSITY)):
            assert set(synth._weights(text)[0] if text else ()) <= set(known), (g.name, text)


def test_artists_have_genres_of_their_own(mini):
    P = mini.factors["genre"]
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-9)
    assert np.median(np.sort(P, 1)[:, -2:].sum(1)) > .85
    own = [P[a, list(mini.genres["genre"]).index(g)] for a,g in zip(mini.tracks["artist_id"], mini.tracks["genre"], strict=True)]
    assert np.mean(own) > .5 # what an artist plays is what its distribution says


def test_factors_have_a_row_an_artist(mini):
    for x in mini.factors.values(): assert x.shape[0] == len(mini.artists) and np.isfinite(x).all()
    for x in mini.track_factors.values(): assert x.shape[0] == len(mini.tracks)
    np.testing.assert_allclose(mini.factors["subgenre"].sum(1), 1, rtol=1e-9)
    np.testing.assert_allclose(mini.factors["harmony"].sum(1), 1, rtol=1e-9)
    a = mini.tracks["artist_id"].to_numpy()
    np.testing.assert_allclose(mini.factors["timbre"][7], mini.track_factors["timbre"][a == 7].mean(0))


def test_subgenres_belong_to_their_genre_and_follow_habits(mini):
    for genre,genres in zip(mini.tracks["genre"], mini.tracks["subgenres"], strict=True):
        assert genres[0] == genre and set(genres[1:]) <= set(GENRES[genre].subgenres) and 1 <= len(genres) - 1 <= 3
        assert len(set(genres)) == len(genres)


# Labels ---------------------------------------------------------------------------------------------------------------------------

def test_label_noise_is_nested_and_keeps_counts(mini):
    true,before = mini.tracks["genre"].to_numpy(), np.zeros(480, bool)
    last = None
    for rate in (0., .05, .1, .2, .35, .5, .8):
        labels = mini.labels(rate)
        wrong = labels["wrong"].to_numpy()
        assert wrong.sum() == 2*round(rate*240)
        assert ((labels["genre"].to_numpy() != true) == wrong).all()
        assert (wrong >= before).all()
        if last is not None: assert (labels["genre"][before] == last["genre"][before]).all() # what was wrong stays wrong in the same way
        assert (np.sort(labels["genre"].to_numpy(str)) == np.sort(true.astype(str))).all()
        assert all(gs[0] == g for g,gs in zip(labels["genre"], labels["genres"], strict=True))
        before,last = wrong,labels


@pytest.mark.parametrize("noise", [-.1, 1.1, True, "much", float("nan")])
def test_impossible_rates_are_refused(mini, noise):
    with pytest.raises(ParamsError, match="label_noise"): mini.labels(noise)


@pytest.mark.parametrize("kwargs,word", [
    (dict(view="photos"), "view"), (dict(size="huge"), "size"), (dict(size={"n_artist":3}), "n_artist"),
    (dict(size={"n_artists":10}), "n_artists"),
    (dict(size={"duration_s":0}), "duration_s"), (dict(size={"genres":("Rock", "Polka")}), "genres"),
    (dict(seed=-1), "seed"), (dict(seed=.5), "seed"),
    (dict(n_jobs=0), "n_jobs")])
def test_wrong_parameters_are_named(tmp_path, kwargs, word):
    with pytest.raises(ParamsError, match=word): miniature(root=tmp_path, **kwargs)
    assert not list(tmp_path.iterdir())


def test_noise_and_view_do_not_change_where_the_audio_lies():
    a,b = (miniature(size="mini", label_noise=n, render=False) for n in (0., .3))
    assert a.root == b.root and a.fingerprint != b.fingerprint
    assert miniature(size="mini", seed=1, render=False).root != a.root and miniature(size={"duration_s":30}, render=False).root != a.root


def test_official_split_keeps_artists_together():
    corpus = miniature(size="mini", render=False)
    t = corpus.table
    assert (t.groupby("artist")["split"].nunique() == 1).all()
    assert {k:len(v) for k,v in corpus.official.parts.items()} == dict(train=384, valid=48, test=48)


# The audio ------------------------------------------------------------------------------------------------------------------------

def test_rendering_is_deterministic_in_any_order_and_process(tmp_path):
    corpus = miniature(size=SMALL, root=tmp_path/"a", n_jobs=1)
    there = [corpus.path(i) for i in range(len(corpus))]
    w = world(SMALL)
    for i in (17, 3): # alone, in another order
        with synth.atomic(tmp_path/f"{i}.wav") as tmp: sf.write(tmp, render_track(w, i), SR, subtype="PCM_16", format="WAV")
        assert (tmp_path/f"{i}.wav").read_bytes() == there[i].read_bytes()
    code = ("import sys, pathlib; from musicmtl.synth import _write, world; "
            "_write(world(dict(base='smoke', duration_s=3.)), [20, 5], pathlib.Path(sys.argv[1]))")
    subprocess.run([sys.executable, "-c", code, tmp_path/"b"], check=True)
    for i in (20, 5): assert (tmp_path/"b"/corpus.table["path"][i]).read_bytes() == there[i].read_bytes()


def test_an_interrupted_rendering_goes_on(tmp_path, monkeypatch):
    first = miniature(size=SMALL, root=tmp_path, n_jobs=1)
    bytes_of = {i:first.path(i).read_bytes() for i in range(len(first))}
    (tmp_path/"complete.json").unlink()
    for i in (4, 30): first.path(i).unlink()
    made,real = [], synth.render_track
    monkeypatch.setattr(synth, "render_track", lambda w, i: made.append(i) or real(w, i))
    again = miniature(size=SMALL, root=tmp_path, n_jobs=1)
    assert made == [4, 30] and all(again.path(i).read_bytes() == b for i,b in bytes_of.items())
    assert json.loads((tmp_path/"complete.json").read_text())["n_tracks"] == 36
    miniature(size=SMALL, root=tmp_path, n_jobs=1, label_noise=.3) # other labels, same audio
    assert made == [4, 30]
    with pytest.raises(ParamsError, match="another Miniature"): miniature(size=SMALL, seed=1, root=tmp_path)


@pytest.mark.parametrize("genre", GENRES)
def test_every_genre_sounds(mini, genre):
    i = int(np.flatnonzero(mini.tracks["style"] == genre)[0])
    x = render_track(mini, i)
    assert x.shape == (15*SR,) and x.dtype == np.float32 and np.isfinite(x).all()
    assert np.abs(x).max() <= 1
    rms = np.sqrt((x[:15*SR].reshape(15, SR)**2).mean(1))
    assert rms.min() > 10**(-60/20) and -32 < 20*np.log10(np.sqrt((x**2).mean())) < -6


def test_label_noise_and_neighbours_are_not_heard():
    "A track depends on the size, the seed and its number; the label of another cannot reach it."
    a = render_track(world(SMALL), 9)
    world(SMALL).labels(.3); render_track(world(SMALL), 8)
    assert (render_track(world(SMALL), 9) == a).all()


def _tempo_near(x, bpm):
    "Tempo within 15 % of `bpm` whose beats, eighths and sixteenths together are strongest in the spectral flux."
    frames = np.lib.stride_tricks.sliding_window_view(x, 1024)[::256]*np.hanning(1024).astype(np.float32)
    flux = np.maximum(np.diff(np.log1p(100*np.abs(np.fft.rfft(frames))), axis=0), 0).sum(1)
    grid,t = bpm*np.linspace(.85, 1.15, 121), np.arange(len(flux))*256/SR
    power = lambda m: np.abs(np.exp(-2j*np.pi*m*np.outer(grid/60, t))@(flux - flux.mean()))
    return grid[(power(1) + power(2) + power(4)).argmax()]


@pytest.mark.parametrize("drums", ["four", "rock", "hiphop", "train"])
def test_the_drums_keep_the_tempo(mini, drums):
    t = mini.tracks
    for i in np.flatnonzero((t["drums"] == drums) & (t["metre"] == 4) & (t["style"] != "Experimental"))[:3]:
        found = _tempo_near(render_track(mini, int(i)), t["tempo_bpm"][i])
        assert abs(found/t["tempo_bpm"][i] - 1) < .01, (i, found, t["tempo_bpm"][i])


def test_the_notes_are_in_the_key(mini):
    for i in range(0, 480, 7):
        t,notes = mini.tracks.iloc[i], score(mini, i)
        scale = {(t["key"] + s) % 12 for s in MODES[t["mode"]]}
        for part in ("comp", "bass") + (() if t["melody"] in ("rap", "speech") else ("lead",)):
            if part in notes and part != "bass": assert {p % 12 for p in notes[part][:, 2]} <= scale, (i, part)
        for part in set(notes) - {"drums"}:
            onset = notes[part][:, 0]
            assert (onset >= 0).all() and (notes[part][:, 1] > 0).all() and (0 < notes[part][:, 3]).all() and (notes[part][:, 3] <= 1).all()


def test_the_key_is_heard(mini):
    t = mini.tracks
    quiet = np.flatnonzero((t["drums"] == "none") & t["genre"].isin(["Classical", "Folk"]) & (t["style"] == t["genre"]))[:4]
    assert len(quiet) == 4
    hz = np.arange(1, 15*SR//2 + 1)/15
    pitch = np.rint(12*np.log2(hz/440) + 69).astype(int) % 12
    for i in quiet:
        power = np.abs(np.fft.rfft(render_track(mini, int(i)))[1:])**2
        heard = np.bincount(pitch, power*((hz > 60) & (hz < 1000)), minlength=12)
        scale = [(t["key"][i] + s) % 12 for s in MODES[t["mode"][i]]]
        assert heard[scale].sum() > .85*heard.sum(), (i, heard)


def test_coordinates_do_what_they_say():
    "Brightness raises the partials, the noise floor fills silence, tilt moves the spectral balance."
    ins = synth.INSTRUMENTS["piano"]
    tones = [synth._tone(np.random.default_rng(0), ins, 220., SR//2, (b, 0, 0, 0, 0), 0) for b in (-1.5, 1.5)]
    centroid = [(np.abs(np.fft.rfft(x))*np.arange(SR//4 + 1)).sum()/np.abs(np.fft.rfft(x)).sum() for x in tones]
    assert centroid[1] > 1.2*centroid[0]
    burst = np.zeros(2*SR, np.float32); burst[:SR//10] = np.sin(2*np.pi*440*np.arange(SR//10)/SR)
    record = lambda z: synth._record(np.random.default_rng(0), np.random.default_rng(1), burst, z, 0., False, -20)
    end = lambda x: np.sqrt((x[-SR//4:]**2).mean())
    assert end(record((0., 0., 2., -2.))) > 5*end(record((0., 0., -2., -2.)))
    late = lambda x: np.sqrt((x[SR//5:SR//2]**2).mean())
    assert late(record((0., 0., -3., 1.5))) > 2*late(record((0., 0., -3., -2.)))


def test_partials_stay_below_half_the_sample_rate():
    for hz in (60., 441., 2000., 6000.):
        for c in synth._cycles(synth.INSTRUMENTS["trumpet"], hz, 1., 0., 0):
            k = np.flatnonzero(np.abs(np.fft.rfft(c)) > 1e-3*np.abs(np.fft.rfft(c)).max())
            assert len(k) == 0 or k.max()*hz < SR/2


def test_size_is_checked_once_and_hashable():
    assert world(Size(12, 3, 8., ("Rock", "Electronic", "Hip-Hop", "Folk"), 2.)) is world("smoke")
