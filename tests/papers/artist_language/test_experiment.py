"""The artist and language study as its users run it: papermill on whole corpora, folders of music with and without languages."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from processes import ran

from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.study.experiment import claim_rows, interval
from musicmtl.metrics import average_precision, roc_auc
from musicmtl.papers.artist_language import experiment as study
from musicmtl.papers.artist_language.model import Protocol
from musicmtl.papers.artist_language.experiment import Job, Result, Settings
from musicmtl.study.runs import claims_of, resolve

OUT = "figures/data/artist_language.csv"


def song(artist, language, k, seconds=7.0, sr=16_000):
    "An artist is a pitch, a language a rhythm, a song a little noise."
    t, rng = np.arange(int(seconds * sr)) / sr, generator("song", artist, k)
    tone = sum(np.sin(2 * np.pi * 110 * 1.2**artist * (1 + 0.01 * rng.normal()) * h * t) / h for h in (1, 2, 3))
    return (
        0.2 * tone * (1 + 0.8 * np.sin(2 * np.pi * (2 + 3 * language) * t)) + 0.03 * rng.normal(size=len(t))
    ).astype(np.float32)


def music(root, languages=2, artists=3, songs=4, **columns):
    "A folder of singers with a tracks.csv; `columns` replace or add functions of (language, artist, song)."
    root.mkdir()
    given = {
        "artist": lambda l, a, k: f"artist {l}{a}",
        "language": lambda l, a, k: f"language {l}",
        "album": lambda l, a, k: f"album {k // 2}",
        "title": lambda l, a, k: f"song {k}",
        **columns,
    }
    rows = []
    for l in range(languages):
        for a in range(artists):
            for k in range(songs):
                name = f"{l}-{a}-{k}"
                sf.write(root / f"{name}.wav", song(artists * l + a, l, k), 16_000)
                rows.append(dict(track_id=name, path=f"{name}.wav", **{c: f(l, a, k) for c, f in given.items() if f}))
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(scope="module")
def folder(tmp_path_factory):  # all that the study can ask for
    return music(
        tmp_path_factory.mktemp("singers") / "singers",
        gender=lambda l, a, k: "fm"[a % 2],
        veteran=lambda l, a, k: a == 0,
    )


@pytest.fixture(scope="module")
def prep(folder):
    return study.prepare(settings(folder))


def settings(root, **changes):
    return resolve(Settings, "artist_language", {"corpus": "folder", "root": str(root), "n_jobs": 1, **changes})


# The whole study


def test_study_leaves_everything(folder, tmp_path):
    r = ran("artist_language", tmp_path, corpus="folder", root=folder)
    m = json.loads((r / "manifest.json").read_text())
    assert m["status"] == "done" and "24 songs remain; 6 classes of artist, 2 classes of language" in m["notes"]
    t = pd.read_csv(r / OUT)
    assert set(t.corpus) == {"singers"} and set(t.protocol) == {
        "published",
        "corrected",
        "corrected-leak",
        "corrected-sparse",
        "corrected-unheard",
    }
    assert {
        "artist",
        "language",
        "multitask_artist",
        "multitask_language",
        "multitask_artist_alpha_1",
        "gradnorm_ema_language",
    } <= set(t.variant)
    assert set(t.metric) == {"roc_auc", "pr_auc", "roc_auc_song", "pr_auc_song"} and t.value.between(0, 1).all()
    own = t[~t.variant.str.startswith("chance")]
    assert (own.low <= own.value + 1e-6).all() and (own.value <= own.high + 1e-6).all()
    chance = t[t.variant.str.startswith("chance")].set_index(["protocol", "variant", "metric"]).value
    np.testing.assert_allclose(chance.xs("roc_auc", level="metric"), 0.5, atol=1e-6)
    assert chance["corrected", "chance_language", "pr_auc"] == pytest.approx(0.5)
    assert not t[(t.protocol == "corrected-unheard") & t.variant.str.contains("artist")].size
    paper = t[t.paper_value.notna()]
    assert set(paper.variant) == {"artist", "language", "multitask_artist", "multitask_language"} and set(
        paper.metric
    ) == {"roc_auc", "pr_auc"}
    assert paper[(paper.variant == "multitask_artist") & (paper.metric == "roc_auc")].paper_value.eq(74.88).all()
    claims = pd.read_csv(r / "figures/data/claims.csv")
    assert list(claims.claim) == ["L1", "L1", "L2", "L2", "L3", "L4"]
    assert (claims.verdict != "not testable here").eq(claims.effect.notna()).all() and claims.effect.notna().any()
    names = {
        p.name.removeprefix("singers_").removesuffix(".png") for p in (r / "figures" / "artist_language").iterdir()
    }
    assert names == {
        "gains",
        "switches",
        "roc",
        "precision_recall",
        "roc_auc",
        "roc_auc_song",
        "pr_auc",
        "pr_auc_song",
        "sweep",
        "weights_gradnorm_ema",
        "mel",
        "confusion",
        "tsne_artist",
        "tsne_language",
    }


# Corpora


def test_albums_are_the_second_task_where_no_language_is_known(tmp_path):
    root = music(tmp_path / "band", language=None)
    p = study.prepare(settings(root))
    assert p.tasks == ("artist", "album") and not p.unheard
    assert len(p.corpus.labels("album")) == 12  # "album 0" of another artist is another album
    assert any("no artists are held out" in n for n in p.notes)
    todo = study.jobs(settings(root, preset="mini"), p)
    assert not [j for j in todo if "unheard" in j.protocol.name or j.tasks == 4] and "album" in {
        j.variant for j in todo
    }
    with pytest.raises(LookupError, match="the second task is the album"):
        study._l2(study.board_of([], p), "corrected")


def test_what_only_one_song_has_is_not_asked_for(tmp_path):
    root = music(tmp_path / "band", language=None, album=lambda l, a, k: None if k == 3 else f"album {k // 2}")
    p = study.prepare(settings(root))
    assert len(p.corpus.labels("album")) == 6 and (p.corpus.labels("album").codes == -1).sum() == 12
    assert any("6 songs have a value of album that no other song has" in n for n in p.notes)


def test_artists_with_few_songs_and_broken_files_are_named(tmp_path):
    root = music(tmp_path / "band")
    t = pd.read_csv(root / "tracks.csv")
    (root / "0-0-0.wav").write_bytes((root / "0-0-0.wav").read_bytes()[:3000])
    sf.write(root / "0-1-0.wav", song(0, 0, 0, 1.0), 16_000)
    t[~t.track_id.isin(["1-2-2", "1-2-3"])].to_csv(root / "tracks.csv", index=False)
    notes = "\n".join(study.prepare(settings(root)).notes)
    assert "1 artists with fewer than 3 songs are left out: artist 12 (2)" in notes
    assert "0-0-0 is left out" in notes and "0-1-0 is left out: 63 frames, a segment needs 187" in notes


@pytest.mark.parametrize(
    "columns,params,said",
    [
        (dict(language=None, album=None), {}, "no track has a value in column 'language' or in album, the second task"),
        (dict(language=None), dict(second="language"), "no track has a value in column 'language', the second task"),
        (dict(artist=None), {}, "no track has an artist, which is the first task"),
        (dict(artist=lambda l, a, k: "one"), {}, "the task 'artist' needs at least two classes, found 1"),
        (dict(language=lambda l, a, k: "one"), {}, "the task 'language' needs at least two classes, found 1"),
        (dict(artist=lambda l, a, k: f"{a}{k}{l}"), {}, "no artist has 3 tracks or more"),
    ],
)
def test_impossible_corpora_get_one_sentence(tmp_path, columns, params, said):
    root = music(tmp_path / "band", artists=2, songs=3, **columns)
    with pytest.raises((ParamsError, CorpusError), match=said) as e:
        study.prepare(settings(root, **params))
    assert "\n" not in str(e.value)


def test_unknown_second_task():
    with pytest.raises(ParamsError, match="second must be one of 'language', 'album' or nothing, found 'genre'"):
        settings("x", second="genre")


# Jobs


def test_jobs_of_the_presets(prep):
    def of(preset):
        return study.jobs(settings("x", preset=preset), prep)

    for preset in ("smoke", "mini", "claims"):
        names = [j.name for j in of(preset)]
        assert len(names) == len(set(names))
        labels = {(j.protocol.name, j.label) for j in of(preset)}
        assert {(p, v) for p in ("published", "corrected") for v in ("artist", "multitask")} <= labels
        assert {
            ("corrected-leak", "multitask"),
            ("corrected-sparse", "multitask"),
            ("corrected-unheard", "language"),
        } <= labels
    assert {"multitask_tasks_4", "multitask_songs_2", "multitask_alpha_0.25", "uncertainty"} <= {
        j.label for j in of("claims")
    }
    assert {j.fold for j in of("claims")} == set(range(5)) and {
        j.fold for j in of("claims") if j.protocol.split == "artist"
    } == set(range(4))
    only = study.jobs(settings("x", preset="mini", protocol="published"), prep)
    assert {j.protocol.name for j in only} == {"published"} and "gradnorm_ema" in {j.variant for j in only}


@pytest.mark.parametrize("split,both", [("song", False), ("fold", False), ("artist", False), ("segment", True)])
def test_songs_are_on_both_sides_only_where_it_leaks(prep, split, both):
    c = study.cut_segments(prep, Job("multitask", Protocol(split), 0))
    assert bool(set(c.track[c.train]) & set(c.track[c.test])) == both
    assert len(c.train) and len(c.test) and not set(c.train) & set(c.test)


def test_fewer_songs_of_every_artist(prep):
    full, two = (study.cut_segments(prep, Job("multitask", Protocol.corrected, 0, songs=n)) for n in (None, 2))
    artist = prep.corpus.labels("artist").codes
    assert np.array_equal(full.test, two.test) and set(two.train) < set(full.train)
    assert np.bincount(artist[np.unique(two.track[two.train])]).tolist() == [2] * 6


def test_weights_of_the_tasks(prep):
    def weights(**job):
        j = Job(job.pop("variant", "multitask"), Protocol.corrected, 0, **job)
        return study.balancer(j, study.tasks_of(prep, j)[0], 1e-3).weights.tolist()

    assert weights() == [1, 3] and weights(alpha=0.25) == [1, 0.25]  # 6 artists, 2 languages
    assert weights(tasks=4) == [1, 3, 1, 1] and weights(variant="language") == [1]
    assert weights(variant="gradnorm_ema") == weights(variant="uncertainty") == [1, 1]


# Scores


def result(y, p, song, fold=None, split="fold", seed=0):
    fold = np.zeros(len(y), int) if fold is None else fold
    return Result(
        Job("multitask", Protocol(split), seed), {"artist": y}, {"artist": p}, song, fold, np.zeros((0, 0)), None, 0.0
    )


def invented(strength, folds=2, classes=5, per=4):
    "Every class has a song a fold, with `per` segments; the true class's score is larger by `strength`."
    song = np.repeat(np.arange(folds * classes), per)
    y, fold = song % classes, song // classes
    z = generator("invented", strength).normal(size=(len(y), classes)) + strength * np.eye(classes)[y]
    return result(y, np.exp(z) / np.exp(z).sum(1, keepdims=True), song, fold)


def test_scores_are_the_metrics_of_each_fold():
    r = invented(1.0)
    s = study.scores(r, None)
    for name, metric in (("roc_auc", roc_auc), ("pr_auc", average_precision)):
        assert s[name][0] == pytest.approx(
            np.mean([metric(r.y["artist"][r.fold == f], r.p["artist"][r.fold == f]) for f in (0, 1)])
        )
    by_song = study.scores(r, None, by="song")
    mean = np.stack([r.p["artist"][r.track == i].mean(0) for i in range(5)])
    first = replace(
        r,
        **{k: v[r.fold == 0] for k, v in (("track", r.track), ("fold", r.fold))},
        y={"artist": r.y["artist"][r.fold == 0]},
        p={"artist": r.p["artist"][r.fold == 0]},
    )
    assert study.scores(first, None, by="song")["roc_auc"][0] == pytest.approx(roc_auc(np.arange(5), mean))
    assert by_song["roc_auc"].shape == (1001,)


@pytest.mark.parametrize("by", ["segment", "song"])
def test_draws_are_centred_on_the_sample(by):
    "Average precision depends on how frequent a class is; a bootstrap that makes drawn classes more frequent would be off by far."
    v = study.scores(invented(1.0, folds=3, classes=30), None, by=by)["pr_auc"]
    low, high = interval(v)[1:]
    assert low < v[0] < high
    assert abs(v[1:].mean() - v[0]) < 0.1 * (high - low)


def test_draws_are_centred_where_classes_differ_in_size():
    "Large classes have the larger average precision; leaving out small ones that were not drawn would raise the mean."
    y = np.repeat(np.arange(6), [30, 20, 4, 2, 1, 1])
    z = generator("sizes").normal(size=(len(y), 6)) + 0.3 * np.eye(6)[y]
    v = study.scores(result(y, z, np.arange(len(y))), None)["pr_auc"]
    assert v[0] == pytest.approx(average_precision(y, z))
    assert abs(v[1:].mean() - v[0]) < 0.15 * np.ptp(interval(v)[1:])


def test_intervals_cover_what_they_should():
    "Of 60 samples of songs from one world, about 95 % of the intervals hold the value of all of them."
    rng, C, S = generator("coverage"), 8, 240
    skill = rng.normal(1, 1, S)  # of the network on each song
    y = np.arange(S) % C
    z = rng.normal(size=(S, C)) + skill[:, None] * np.eye(C)[y]
    world, hits = study.scores(result(y, z, np.arange(S)), None)["roc_auc"][0], 0
    for k in range(60):
        pick = np.concatenate([rng.choice(np.flatnonzero(y == c), 8, replace=False) for c in range(C)])
        v = study.scores(result(y[pick], z[pick], np.arange(len(pick)), seed=k), None)["roc_auc"]
        hits += interval(v)[1] <= world <= interval(v)[2]
    assert hits >= 51  # fewer than 85 % would be far off; sampling without replacement makes them conservative


def test_a_missing_label_is_not_judged():
    r = invented(1.0)
    y = r.y["artist"].copy()
    y[:4] = -1
    got = study.scores(replace(r, y={"artist": y}), None)["roc_auc"][0]
    keep = y >= 0
    assert got == pytest.approx(
        study.scores(result(y[keep], r.p["artist"][keep], r.track[keep], r.fold[keep]), None)["roc_auc"][0]
    )


def test_better_networks_get_better_scores_and_paired_differences_are_narrower():
    a, b = invented(0.8, 3, 20), invented(0.8, 3, 20)
    z = np.log(a.p["artist"]) + 0.5 * np.eye(20)[a.y["artist"]]
    b = replace(b, p={"artist": np.exp(z) / np.exp(z).sum(1, keepdims=True)})
    sa, sb = (study.scores(r, None)["roc_auc"] for r in (a, b))
    assert sb[0] > sa[0] + 0.02

    def width(v):
        return np.ptp(interval(v)[1:])

    assert width(sb - sa) < 0.8 * width(sb - np.concatenate([sa[:1], sa[1:][::-1]]))


def test_unheard_artists_are_drawn_as_wholes(prep):
    lang = prep.corpus.labels("language").codes
    song = np.flatnonzero(study.unheard_artists(prep.corpus))
    y = lang[song]
    p = generator("p").random((len(song), 2))
    r = Result(
        Job("language", Protocol("artist"), 0),
        {"language": y},
        {"language": p},
        song,
        np.zeros(len(y), int),
        None,
        None,
        0.0,
    )
    v = study.scores(r, prep, "language")["roc_auc"]
    assert len(np.unique(v[np.isfinite(v)].round(12))) <= 3  # two artists: one, the other, or both


def test_folds_are_joined_in_order(prep):
    made = [
        Result(
            Job("artist", Protocol.corrected, s, f),
            {"artist": np.array([f])},
            {"artist": np.eye(2)[[f % 2]]},
            np.array([f]),
            np.array([f]),
            np.full((1, 1), f),
            None,
            1.0 + f,
        )
        for s in (0, 1)
        for f in (0, 1)
    ]
    a, b = study.joined(made)
    assert (
        a.y["artist"].tolist() == [0, 1]
        and a.folds == 2
        and a.embedding[0, 0] == 0
        and a.seconds_per_step == 1.5
        and b.job.seed == 1
    )


# Claims


def test_claims_follow_their_rules(prep):
    "Invented results in which everything helps by far."
    tasks = {t: len(prep.corpus.labels(t)) for t in ("artist", "language")}

    def made(label, strength, **job):
        n, parts = 40, {}
        song = np.repeat(np.arange(n), 2)
        for t, c in tasks.items():
            y = song % c
            z = generator("claims", t).normal(size=(len(y), c)) + strength * np.eye(c)[y]
            parts[t] = y, np.exp(z) / np.exp(z).sum(1, keepdims=True)
        return Result(
            Job(label, Protocol.corrected, 0, **job),
            {t: v[0] for t, v in parts.items()},
            {t: v[1] for t, v in parts.items()},
            song,
            np.zeros(len(song), int),
            None,
            None,
            0.0,
        )

    rs = [
        made("artist", 0.2),
        made("language", 0.2),
        made("multitask", 1.0),
        made("multitask", 0.3, alpha=1.0),
        made("multitask", 3.0, tasks=4),
        made("multitask", 0.3, songs=2),
    ]
    board = study.board_of(rs, prep)
    rows = pd.DataFrame(claim_rows("artist_language", "singers", board, study.CLAIMS, study.BOTH)).set_index(
        ["claim", "protocol"]
    )
    assert (
        rows.loc[[("L1", "corrected"), ("L2", "corrected"), ("L3", "corrected"), ("L4", "corrected")]].verdict
        == "holds"
    ).all()
    assert (rows.xs("published", level="protocol").verdict == "not testable here").all()
    assert set(claims_of("artist_language")) == set(study.CLAIMS)


# Real recordings


def test_real_recordings_have_albums_as_the_second_task(data):
    P = resolve(Settings, "artist_language", {"corpus": "folder", "root": str(data / "albums")})
    corpus, tasks, _ = study.open_corpus(P)
    assert tasks == ("artist", "album") and len(corpus) > 50
    assert set(corpus.table.artist.value_counts() >= 3) == {True}
    fold = study.leave_one_song_out(corpus)
    artist = corpus.labels("artist").codes
    assert all(set(artist[fold == f]) <= set(artist[fold != f]) for f in range(5))
