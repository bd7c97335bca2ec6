"Tagged clips: what is said of a clip follows from what is heard in it; MagnaTagATune is read as it was published."

import warnings

import numpy as np
import pytest
import soundfile as sf

from musicmtl import synth, tagatune
from musicmtl.core import CorpusError, ParamsError
from musicmtl.loaders import MAGNATAGATUNE_NO_AUDIO, load_corpus
from musicmtl.miniature.sound import SR
from musicmtl.miniature.world import miniature, render_track, world
from musicmtl.miniature.tagatune import (
    AGREE,
    FACTS,
    LISTENERS,
    RECIPES,
    SPLITS,
    TAGS,
    WORDS,
    TagatuneSize,
    by_folder,
    facts,
    parts_by_folder,
    said,
    tag_matrix,
    track_numbers,
)


@pytest.fixture(scope="module")
def mini():
    return world("mini", view="tagatune")


@pytest.fixture(scope="module")
def spectra(mini):
    "Mean, deviation and movement of 40 bands of the first clip of every track, [336, 120]."
    edges = np.geomspace(60, SR / 2, 41)
    bins = np.digitize(np.fft.rfftfreq(2048, 1 / SR), edges)
    bands, window, out = (
        np.array([(bins == k) / max(1, (bins == k).sum()) for k in range(1, 41)]).T,
        np.hanning(2048).astype(np.float32),
        [],
    )
    for i in range(0, len(mini.tracks), 2):
        x = np.log10(
            np.abs(np.fft.rfft(np.lib.stride_tricks.sliding_window_view(render_track(mini, i), 2048)[::1024] * window))
            ** 2
            @ bands
            + 1e-6
        )
        out.append(np.r_[x.mean(0), x.std(0), np.diff(x, axis=0).std(0)])
    return np.array(out)


# The tags --------------------------------------------------------------------------------------------------------------------------


def test_tags_have_the_published_order():
    assert len(TAGS) == len(set(TAGS)) == 50
    assert TAGS[:5] == ("guitar", "classical", "slow", "techno", "strings") and TAGS[-4:] == (
        "country",
        "metal",
        "female voice",
        "choral",
    )
    assert (
        tuple(WORDS) == TAGS
        and {f for f, _ in WORDS.values()} == set(FACTS)
        and all(0 < r < 1 for _, r in WORDS.values())
    )


def test_what_is_not_heard_is_not_said(mini):
    y, true = said(mini, 0), facts(mini.tracks)
    for c, (tag, (fact, _)) in enumerate(WORDS.items()):
        assert not y[true[fact].to_numpy() == 0, c].any(), tag
    assert ((true >= 0) & (true <= 1)).all().all()


@pytest.mark.parametrize("tag", ["sitar", "drums", "vocal", "choir", "rock"])
def test_tags_come_as_often_as_two_listeners_agree(mini, tag):
    "Over the clips for which the fact is plain, within four standard errors of the binomial's share."
    fact, q = WORDS[tag]
    plain = facts(mini.tracks)[fact].to_numpy() == 1
    y = said(mini, 0)[plain, TAGS.index(tag)]
    p = 1 - (1 - q) ** LISTENERS - LISTENERS * q * (1 - q) ** (LISTENERS - 1)
    assert AGREE == 2 and abs(y.mean() - p) < 4 * np.sqrt(p * (1 - p) / len(y))


def test_synonyms_are_given_on_their_own(mini):
    "Given the fact, one word says nothing of the other."
    true, y = facts(mini.tracks), said(mini, 0)
    for a, b in (
        ("vocal", "vocals"),
        ("female", "woman"),
        ("male", "man"),
        ("no vocals", "no voice"),
        ("beat", "beats"),
    ):
        plain = true[WORDS[a][0]].to_numpy() == 1
        u, v = (y[plain, TAGS.index(t)].astype(float) for t in (a, b))
        assert WORDS[a][0] == WORDS[b][0] and abs(np.corrcoef(u, v)[0, 1]) < 4 / np.sqrt(len(u)) and not (u == v).all()


def test_more_noise_keeps_what_was_said(mini):
    ys = [said(mini, n) for n in (0, 0.01, 0.05, 0.2, 0.5)]
    for less, more in zip(ys[:-1], ys[1:], strict=True):
        assert more[less].all() and more.sum() > less.sum()
    for bad in (-0.1, 0.6, True, "much", float("nan")):
        with pytest.raises(ParamsError, match="label_noise: expected a probability"):
            said(mini, bad)
    a, b = (miniature("tagatune", "smoke", label_noise=n, render=False) for n in (0.0, 0.2))
    assert a.root == b.root and a.fingerprint != b.fingerprint


# The world -------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
def test_every_tag_can_be_learnt_and_tested(seed):
    corpus = miniature("tagatune", "mini", seed=seed, render=False)
    y, s = tag_matrix(corpus), corpus.official
    assert len(corpus) == 672 and len(s["test"]) >= 95 and len(s["train"]) >= 475
    assert y[s["train"]].sum(0).min() >= 8 and y[s["valid"]].sum(0).min() >= 1 and y[s["test"]].sum(0).min() >= 1
    assert 4 < y.sum(1).mean() < 7 and y.mean(0).max() < 0.4


def test_clips_of_a_track_and_an_artist_stay_together(mini):
    corpus = miniature("tagatune", "mini", render=False)
    t, n = corpus.table, track_numbers(corpus)
    assert len(set(n)) == 336 and set(np.bincount(n)) == {2} and (n == mini.tracks["track"]).all()
    folder = t["path"].str[0]
    assert (
        (folder.groupby(t["artist"]).nunique() == 1).all()
        and (mini.tracks["folder"] == folder).all()
        and t["path"].is_unique
    )
    for part in corpus.official.parts.values():
        assert set(mini.tracks["style"][part]) == set(RECIPES)
    assert set(t["duration_s"]) == {8.0} and t["genre"].isna().all() and t["instruments"].isna().all()


def test_clips_of_a_track_differ_in_what_is_heard(mini):
    t = mini.tracks
    assert 0.2 < (t.groupby("track")["sounds"].nunique() > 1).mean() < 0.7
    for c in ("tempo_bpm", "style", "artist", "level_db", "gender"):
        assert (t.groupby("track")[c].nunique() == 1).all()
    alone = t[t["style"] == "recital"]
    assert (alone["sounds"].map(len) == 1).all() and alone["lead"].nunique() >= 7
    assert t["sounds"].map(len).min() >= 1


def test_all_that_sounds_has_notes(mini):
    for i in range(0, 672, 9):
        t = mini.tracks.iloc[i]
        notes = tagatune._notes(tagatune._whole(mini.size, mini.seed), int(t["track"]), int(t["clip"]))
        for part, x in notes.items():
            if part == "drums":
                continue
            assert len(x) > 1 and (x[:, 0] >= 0).all() and (x[:, 1] > 0).all() and (x[:, :2].sum(1) <= 8 + 1e-9).all()
            assert ("bass" if part == "bass" else t[part]) in t["sounds"]
        assert ("drums" in t["sounds"]) == bool(set(notes["drums"]) - {"shaker"})


def test_a_track_goes_on_where_its_last_clip_ended():
    w = world("mini", view="tagatune")
    whole = tagatune._whole(w.size, w.seed)
    for n in range(0, 60, 7):
        notes = synth.score(whole, n)["comp"] if "comp" in synth.score(whole, n) else synth.score(whole, n)["lead"]
        cuts = [tagatune._cut(notes, a, a + 8) for a in (0, 8)]
        assert sum(x[:, 1].sum() for x in cuts) == pytest.approx(
            np.clip(np.minimum(notes[:, :2].sum(1), 16) - notes[:, 0], 0, None).sum(), rel=0.02
        )


def test_this_world_shares_no_dice_with_the_others(mini):
    others = [world("mini", view=v) for v in ("fma", "regional", "segments", "openmic", "ballroom")] + [
        world("mini", 1, "tagatune")
    ]
    names = set(mini.artists["artist"])
    for w in others:
        assert not names & set(w.artists["artist"])


@pytest.mark.parametrize(
    "size,word",
    [
        (dict(folders="0123"), "c and d among them"),
        (dict(folders="ccd"), "different letters"),
        (dict(folders=7), "different letters"),
        (dict(clips_per_track=0), "1 or more"),
        (dict(genres=("opera", "Rock")), "two or more names of RECIPES"),
        (dict(n_artists=30), "three for each of 16"),
        (dict(clips=2), "clips_per_track"),
        (synth.Size(), "TagatuneSize"),
    ],
)
def test_wrong_sizes_are_named(size, word):
    with pytest.raises(ParamsError, match=word):
        world(size, view="tagatune")


def test_sizes():
    counts = {k: s.n_artists * s.tracks_per_artist * s.clips_per_track for k, s in tagatune.TAGATUNE_SIZES.items()}
    assert (
        counts == dict(smoke=42, mini=672, claims=1536, paper=26_880)
        and synth.VIEW_SIZES["tagatune"] is tagatune.TAGATUNE_SIZES
    )
    for name, s in tagatune.TAGATUNE_SIZES.items():
        assert synth._size(name, tagatune.TAGATUNE_SIZES) == s
    assert world(TagatuneSize(), view="tagatune") is world("mini", view="tagatune")
    claims = miniature("tagatune", "claims", render=False)
    y = tag_matrix(claims)
    for split in SPLITS:
        for rows in by_folder(claims, split).parts.values():
            assert y[rows].sum(0).min() >= 1
    assert claims.table["split"].isna().mean() == pytest.approx(9 / 16, abs=0.02)


def test_the_module_is_brought_by_its_name(tmp_path):
    import subprocess
    import sys

    code = "from musicmtl.miniature.world import miniature, VIEWS; assert 'tagatune' not in VIEWS; print(len(miniature('tagatune', 'smoke', render=False)))"
    assert (
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip() == "42"
    )


# The audio -------------------------------------------------------------------------------------------------------------------------


def test_clips_are_rendered_like_tracks(tmp_path):
    size = dict(base="smoke", duration_s=1.0)
    corpus = miniature("tagatune", size, root=tmp_path, n_jobs=2)
    assert all(corpus.path(k).is_file() for k in range(len(corpus)))
    for i in (41, 3):
        x, sr = sf.read(corpus.path(i), dtype="float32")
        np.testing.assert_allclose(x, render_track(world(size, view="tagatune"), i), atol=2**-15)
        assert sr == SR and x.shape == (SR,)


@pytest.mark.parametrize("style", RECIPES)
def test_every_style_sounds_at_its_level(mini, style):
    for i in np.flatnonzero(mini.tracks["style"] == style)[[0, -1]]:
        x = render_track(mini, int(i))
        assert x.shape == (8 * SR,) and x.dtype == np.float32 and np.isfinite(x).all() and np.abs(x).max() <= 1
        heard = 20 * np.log10(np.sqrt((x**2).mean()))
        assert -2 < heard - mini.tracks["level_db"][i] < 0.1  # the loudest are limited


def test_frozen_samples(mini):
    "What a clip of this version sounds like."
    got = np.concatenate([render_track(mini, i)[5000 :: 8 * SR // 5][:5] for i in (0, 400)])
    np.testing.assert_allclose(
        got, [-0.1356, -0.2174, -0.2957, 0.086, -0.0668, -0.0032, -0.0024, 0.1064, 0.0317, 0.0504], atol=1e-4
    )


@pytest.mark.parametrize(
    "size,key,fingerprint",
    [
        ("smoke", "497d8a78d8bfcc96", "4f1bd09f254899a044cbe440c3e05b96"),
        ("mini", "1c0b3b7f04ab2c7f", "e2c7774da5b4a672406a6ecf1ec6634e"),
    ],
)
def test_frozen_tables(size, key, fingerprint):
    corpus = miniature("tagatune", size, render=False)
    assert (corpus.root.name, corpus.fingerprint) == (key, fingerprint)


def _auc(spectra, y, train, test):
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=300)).fit(spectra[train], y[train])
    return roc_auc_score(y[test], model.decision_function(spectra[test]))


def test_tags_are_heard_in_artists_that_were_never_heard(mini, spectra):
    "A linear model on mean spectra is far from chance and far from perfect, and each kind of tag is heard by itself."
    y, part = said(mini)[::2], np.array(parts_by_folder(mini.tracks["folder"][::2], [True] * 336), object)
    train, test = part == "train", part != "train"
    area = {t: _auc(spectra, y[:, c], train, test) for c, t in enumerate(TAGS)}
    assert 0.75 < np.mean(list(area.values())) < 0.95
    for tag in ("techno", "choir", "female", "male", "drums", "loud", "sitar", "harpsichord", "slow"):
        assert area[tag] > 0.7, (tag, area[tag])


# MagnaTagATune ---------------------------------------------------------------------------------------------------------------------

MORE = ("foreign", "duet")  # of the 138 other tags


def mtt(root, rows, *, files=None, columns=(MORE[0], *TAGS, MORE[1]), suffix=".mp3"):
    "Rows (id, path, tags) as annotations_final.csv; empty files for all or for `files`."
    root.mkdir(parents=True, exist_ok=True)
    head = ["clip_id", *columns, "mp3_path"]
    lines = [head, *([i, *(str(int(c in tags)) for c in columns), p] for i, p, tags in rows)]
    (root / "annotations_final.csv").write_text("\n".join("\t".join(f'"{x}"' for x in line) for line in lines) + "\n")
    for p in (p for _, p, _ in rows) if files is None else files:
        (root / p).parent.mkdir(parents=True, exist_ok=True)
        (root / p).with_suffix(suffix).write_bytes(b"")
    return root


CLIPS = [
    (str(10 + k), f"{f}/ann_lee-day-0{k % 9 + 1}-song__{f}-{29 * k}-{29 * k + 29}.mp3", tags)
    for k, (f, tags) in enumerate(
        [
            *((f, ("harp", "foreign")) for f in "0123456789abcdef"),
            ("0", ()),
            ("c", ("duet",)),
            ("d", ("choral", "guitar")),
        ]
    )
]


@pytest.mark.parametrize("split,counts", [("homework", (5, 1, 2)), ("folder", (13, 2, 4)), ("clean", (12, 1, 4))])
def test_splits_by_folder(tmp_path, split, counts):
    c = load_corpus("magnatagatune", mtt(tmp_path, CLIPS), split=split)
    assert {p: len(rows) for p, rows in c.official.parts.items()} == dict(
        zip(("train", "valid", "test"), counts, strict=True)
    )
    assert c.table["split"].notna().all()
    whole = load_corpus("magnatagatune", tmp_path, split=split, all_clips=True)
    assert len(whole) == 19 and [len(x) for x in whole.official.parts.values()] == list(counts)
    assert {p: len(rows) for p, rows in by_folder(whole, split).parts.items()} == {
        p: len(rows) for p, rows in c.official.parts.items()
    }


def test_what_the_names_say(tmp_path):
    rows = [
        (
            "2",
            "f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-30-59.mp3",
            ("classical", "opera", "foreign"),
        ),
        ("6", "f/american_bach_soloists-j_s__bach_solo_cantatas-01-bwv54__i_aria-146-175.mp3", ()),
        ("7", "f/american_bach_soloists-j_s__bach_solo_cantatas-02-x-y-0-29.mp3", ("metal",)),
        ("8", "d/noise.mp3", ("weird",)),
    ]
    c = load_corpus("magnatagatune", mtt(tmp_path, rows), split="folder")
    t = c.table
    assert t.loc[0, ["track_id", "artist"]].tolist() == ["2", "american_bach_soloists"]
    assert t.loc[0, ["album", "title"]].tolist() == ["j_s__bach_solo_cantatas", "01-bwv54__i_aria"]
    assert (
        t["tags"].tolist() == [("classical", "opera"), (), ("metal",), ("weird",)]
        and t["title"][2] == "02-x-y"
        and t["artist"][3] is None
    )
    assert track_numbers(c.subset([0, 1, 2])).tolist() == [0, 0, 1]
    with pytest.raises(CorpusError, match="row 3: expected an artist and a title"):
        track_numbers(c)
    assert tag_matrix(c)[2].nonzero()[0].tolist() == [47] and tag_matrix(c).shape == (4, 50)


def test_files_may_lie_in_mp3_and_be_of_another_kind(tmp_path):
    a = load_corpus("magnatagatune", mtt(tmp_path / "a", CLIPS, suffix=".wav"), split="folder")
    assert set(a.table["path"].str[-4:]) == {".wav"} and a.path(0).is_file()
    b = mtt(tmp_path / "b", CLIPS, files=["mp3/" + p for _, p, _ in CLIPS])
    c = load_corpus("magnatagatune", b, split="folder")
    assert c.root == b / "mp3" and c.path(3).is_file()
    (b / "mp3").rename(tmp_path / "elsewhere")
    assert load_corpus("magnatagatune", b, split="folder", audio_root=str(tmp_path / "elsewhere")).path(3).is_file()
    assert len(load_corpus("magnatagatune", b, split="folder", check_files=False)) == 19


def test_missing_and_empty_clips(tmp_path):
    rows = [*CLIPS, *((str(900 + k), p, ("rock",)) for k, p in enumerate(MAGNATAGATUNE_NO_AUDIO))]
    root = mtt(tmp_path, rows, files=[p for _, p, _ in CLIPS[2:]])
    with pytest.warns(UserWarning, match="corpus 'magnatagatune': 2 of 19 clips are not in"):
        c = load_corpus("magnatagatune", root, split="folder")
    assert len(c) == 17 and not set(c.table["track_id"]) & {"900", "901", "902"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_corpus("magnatagatune", root, split="folder", check_files=False)) == 19


@pytest.mark.parametrize(
    "rows,more,error",
    [
        (
            CLIPS,
            dict(columns=TAGS[:-1]),
            "annotations_final.csv: expected a column 'choral' in a table divided by tabs, found 51: clip_id, guitar",
        ),
        ([], {}, "no clips under the header"),
        ([CLIPS[0], CLIPS[0]], {}, "row 1, column 'clip_id': expected each clip once, found '10' again"),
        ([CLIPS[0], ("99", *CLIPS[0][1:])], {}, "row 1, column 'mp3_path': expected each clip once, found '0/ann_lee"),
        (
            [("1", "g/a-b-01-c-0-29.mp3", ())],
            {},
            "row 0, column 'mp3_path': expected <0 to f>/<artist.*found 'g/a-b-01-c-0-29.mp3'",
        ),
        ([("1", "../a-b-01-c-0-29.mp3", ())], dict(files=()), "expected <0 to f>"),
        ([CLIPS[3]], {}, "no clip in the split 'homework'"),
        (CLIPS, dict(files=["0/other.mp3"]), "expected the files of 8 clips in the folders 0 to f of .*, found none"),
        (CLIPS, dict(suffix=".npy"), r"found arrays \(.npy\), which hold no rate"),
    ],
)
def test_wrong_magnatagatune_files_are_named(tmp_path, rows, more, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("magnatagatune", mtt(tmp_path, rows, **more))


def test_wrong_magnatagatune_tables(tmp_path):
    with pytest.raises(CorpusError, match="no annotations, expected .*annotations_final.csv"):
        load_corpus("magnatagatune", tmp_path)
    path = mtt(tmp_path, CLIPS) / "annotations_final.csv"
    text = path.read_text()
    path.write_text(text.replace("\t", ","))
    with pytest.raises(CorpusError, match="expected a column 'clip_id' in a table divided by tabs"):
        load_corpus("magnatagatune", tmp_path)
    path.write_text(text.replace('"0"', '"yes"', 1))
    with pytest.raises(CorpusError, match="row 0, column 'guitar': expected 0 or 1, found 'yes'"):
        load_corpus("magnatagatune", tmp_path)
    path.write_text("")
    with pytest.raises(CorpusError, match="not a readable table"):
        load_corpus("magnatagatune", tmp_path)
    path.write_text(text)
    with pytest.raises(CorpusError, match="no folder of clips, expected .*nowhere"):
        load_corpus("magnatagatune", tmp_path, audio_root=tmp_path / "nowhere")
    with pytest.raises(ParamsError, match="split: expected one of homework, folder, clean, found 'album'"):
        load_corpus("magnatagatune", tmp_path, split="album")


def test_miniature_can_be_read_as_magnatagatune(tmp_path):
    made = miniature("tagatune", dict(base="smoke", duration_s=1.0), root=tmp_path, n_jobs=1)
    t = made.table
    mtt(tmp_path, list(zip(t["track_id"], t["path"], t["tags"], strict=True)), files=())
    read = load_corpus("magnatagatune", tmp_path)
    assert (tag_matrix(read) == tag_matrix(made)).all() and read.table["split"].tolist() == t["split"].tolist()
    assert (track_numbers(read) == track_numbers(made)).all() and [read.path(i) for i in range(42)] == [
        made.path(i) for i in range(42)
    ]


@pytest.mark.parametrize(
    "split,counts",
    [("homework", (6206, 1529, 1339)), ("folder", (18_706, 1825, 5329)), ("clean", (15_247, 1529, 4332))],
)
def test_counts_of_the_real_annotations(data, split, counts):
    root = data / "magnatagatune"
    if not (root / "annotations_final.csv").is_file():
        pytest.skip(f"no {root}/annotations_final.csv: MagnaTagATune's annotations cannot be checked")
    c = load_corpus("magnatagatune", root, split=split, check_files=False)
    assert tuple(len(c.official[p]) for p in ("train", "valid", "test")) == counts
