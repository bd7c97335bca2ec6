"""The tagging study as its users run it: on a folder of tagged recordings, on Miniature and on MagnaTagATune's layout."""

import json
import os
from dataclasses import replace
from functools import partial
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given
from hypothesis import strategies as st

from processes import ran

from musicmtl.core import CorpusError, ParamsError, RunError, generator
from musicmtl.study.experiment import claim_rows, interval
from musicmtl.metrics import average_precision, multilabel_recall, ranks, roc_auc
from musicmtl.papers.tagging import experiment as study
from musicmtl.papers.tagging.model import WINDOW, load_net, make_net, save_net
from musicmtl.papers.tagging.claims import (
    BOTH,
    CLAIMS,
    board_of,
    neighbour_table,
    notion_words,
    query_of,
    switch_effects,
)
from musicmtl.papers.tagging.metric import NOTIONS, cosine_matrix, published_recall
from musicmtl.papers.tagging.experiment import (
    KS,
    SWITCHES,
    Job,
    Protocol,
    Reading,
    Result,
    Trial,
    paper_values,
    recipe,
    scores,
)
from musicmtl.study.report import read_results
from musicmtl.study.runs import claims_of, published, resolve, settings_class
from musicmtl.magnatagatune import TAGS

OUT = "figures/data/tagging"


def settings(**given):
    return resolve(settings_class("tagging"), "tagging", {"n_jobs": 1, **given})


def sound(k, tags, seconds=6.5, sr=16000):
    "A clip whose tags can be heard: high or low, pulsed or not, loud or soft, with or without noise."
    rng, t = generator("sound", k), np.arange(int(seconds * sr)) / sr
    x = np.sin(2 * np.pi * (880 if "flute" in tags else 160) * (1 + 0.02 * rng.random()) * t)
    x *= (np.sin(2 * np.pi * (6 if "fast" in tags else 1.0) * t) > 0) if "drums" in tags else 1
    x = x + (0.5 if "rock" in tags else 0.01) * rng.normal(size=len(t))
    return ((0.4 if "loud" in tags else 0.05) * x).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Twelve artists with four tagged tracks each, one of them as text, one cut short, one silent, one too short, one without tags."
    root, rows = tmp_path_factory.mktemp("corpus") / "music", []
    root.mkdir()
    for a in range(12):
        for k in range(4):
            rng = generator("tags", a, k)
            tags = [
                x if rng.random() < 0.5 else y
                for x, y in (("flute", "guitar"), ("fast", "slow"), ("loud", "soft"), ("rock", "classical"))
            ]
            if rng.random() < 0.5:
                tags.append("drums")
            sf.write(root / f"{a}-{k}.wav", sound(10 * a + k, tags, 13.5 if k == 0 else 6.5), 16000)
            rows.append(
                dict(
                    track_id=f"{a}-{k}",
                    path=f"{a}-{k}.wav",
                    artist=f"artist {a}",
                    title=f"song {a} {k}",
                    tags="|".join(tags),
                )
            )
    (root / "text.mp3").write_text("these are not sounds\n" * 50)
    good = (root / "0-1.wav").read_bytes()
    (root / "cut.wav").write_bytes(good[: len(good) // 3])
    sf.write(root / "silent.wav", np.zeros(int(6.5 * 16000), np.float32), 16000)
    sf.write(root / "short.wav", sound(99, ["flute"], 4.0), 16000)
    sf.write(root / "plain.wav", sound(98, ["flute"]), 16000)
    rows += [
        dict(track_id=n, path=f, artist="artist 1", title=n, tags="" if n == "plain" else "flute|slow")
        for n, f in (
            ("text", "text.mp3"),
            ("cut", "cut.wav"),
            ("silent", "silent.wav"),
            ("short", "short.wav"),
            ("plain", "plain.wav"),
        )
    ]
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    "The study of preset smoke on the folder, as a process of its own."
    return ran("tagging", tmp_path_factory.mktemp("whole"), corpus="folder", root=folder, recording=folder / "3-0.wav")


def test_study_leaves_everything(whole):
    m = json.loads((whole / "manifest.json").read_text())
    assert m["status"] == "done" and m["parameters"]["corpus"] == "folder"
    t = pd.read_csv(whole / f"{OUT}.csv")
    assert {"published", "corrected", "corrected-mask", "corrected-norms"} == set(t.protocol)
    assert {
        "cnn1d",
        "fcn",
        "musicnn_0",
        "musicnn_8",
        "cnn2d_skeleton",
        "embed_linear_both",
        "embed_musicnn",
        "joint_gradnorm",
        "chance",
    } <= set(t.variant)
    assert set(t.metric) == {"roc_auc", "pr_auc", "parameters", "training_s", *(f"recall_at_{k}" for k in KS)}
    own = t[(t.variant != "chance") & ~t.metric.isin(["parameters", "training_s"])]
    assert (own.low <= own.value + 1e-9).all() and (own.value <= own.high + 1e-9).all()
    assert t[t.metric == "training_s"].value.isna().all()  # times stand apart
    names = {p.name for p in (whole / "figures" / "tagging").iterdir()}
    expected = (
        "table6_roc_auc",
        "table6_parameters",
        "table7",
        "table7_recall_8",
        "tags",
        "taggram",
        "taggram_recording",
        "neighbours",
        "tsne_genre",
        "notions_linear",
        "joint_roc_auc",
        "curves_tags",
        "switches_recall",
        "tables_time",
    )
    assert {f"music_{n}.png" for n in expected} <= names
    claims = pd.read_csv(whole / "figures/data/claims.csv")
    assert set(claims.claim) == {f"T{i}" for i in range(1, 8)} and set(
        claims[claims.protocol == "published"].claim
    ) == set(BOTH)
    assert (claims.verdict != "not testable here").eq(claims.effect.notna()).all()
    assert claims.set_index("claim").loc["T7", ["effect", "low", "high"]].tolist() == [0, 0, 0]
    assert read_results(whole / "figures/data").studies == ["tagging"]


def test_tables_agree(whole):
    "The macro score is the mean of the tags'; the whole embedding's recall stands in both tables; curves have the epochs of the preset."
    t, tags, curves = (pd.read_csv(whole / f"{OUT}{end}.csv") for end in ("", "_tags", "_curves"))
    macro = (
        t[(t.metric == "roc_auc") & (t.protocol == "corrected") & (t.variant != "chance")].set_index("variant").value
    )
    mean = tags[tags.protocol == "corrected"].groupby("variant").roc_auc.mean()
    pd.testing.assert_series_equal(macro.sort_index(), mean.loc[sorted(macro.index)], check_names=False, atol=1e-6)
    assert curves[(curves.variant == "cnn1d") & (curves.part == "valid")].epoch.max() == 2
    times = pd.read_csv(whole / f"{OUT}_time.csv")
    assert (times.training_s > 0).all() and "musicnn_8" not in set(times.variant)


def test_faulty_files_are_named_and_do_not_stop_the_study(whole):
    said = "\n".join(json.loads((whole / "manifest.json").read_text())["notes"])
    for track, why in (
        ("text", "left out"),
        ("cut", "truncated"),
        ("short", "a clip has 6"),
        ("silent", "is silent"),
        ("1 tracks", "without tags"),
    ):
        assert any(track in line and why in line for line in said.splitlines()), said


@pytest.fixture(scope="module")
def demo():
    P = settings()
    return P, study.prepare(P)


def test_nobody_hears_what_is_tested(demo, folder):
    P, prep = demo
    other = study.prepare(replace(P, corpus="folder", root=str(folder)))
    for p in (prep, other):
        artist = p.corpus.labels("artist").codes[p.clips.rows]
        train, valid, test, pool, leak = (set(p.parts[k]) for k in ("train", "valid", "test", "pool", "leak"))
        assert (
            train <= pool
            and not pool & (valid | test)
            and leak == pool | test
            and not train & valid
            and not valid & test
        )
        assert not set(artist[list(pool)]) & set(artist[list(test)])
    assert set(prep.parts["train"]) < set(prep.parts["pool"]) and prep.classes == TAGS
    long = [c for c, r in enumerate(other.clips.rows) if other.corpus.table.title[r].endswith(" 0")]
    assert (
        len(long) == 24 and len(other.clips) == len(other.corpus) + 12
    )  # two clips of each track that is twice as long
    assert (
        set(other.classes) == {"flute", "guitar", "fast", "slow", "loud", "soft", "rock", "classical", "drums"}
        and other.has_notions
    )


@pytest.mark.parametrize(
    "params,said",
    [
        (dict(corpus="folder"), "needs the folder that holds it"),
        (dict(corpus="folder", root="/does/not/exist"), "does not exist"),
        (dict(corpus="magnatagatune"), "needs the folder that holds it"),
    ],
)
def test_impossible_corpora_get_one_sentence(params, said):
    with pytest.raises((ParamsError, CorpusError), match=said) as e:
        study.prepare(settings(**params))
    assert "\n" not in str(e.value)


def test_folders_without_tags_or_with_rare_ones(folder, tmp_path):
    t = pd.read_csv(folder / "tracks.csv").iloc[:16]

    def prepare(rows):
        for p in rows.path:
            (tmp_path / p).exists() or os.link(folder / p, tmp_path / p)
        rows.to_csv(tmp_path / "tracks.csv", index=False)
        return study.prepare(settings(corpus="folder", root=str(tmp_path)))

    with pytest.raises(CorpusError, match="no track has tags"):
        prepare(t.drop(columns="tags"))
    with pytest.raises(CorpusError, match="no tag is on four tracks, found"):
        prepare(t.assign(tags=[f"tag {i}" for i in range(16)]))
    with pytest.raises(CorpusError, match="9 of 9 tracks can be used, a study needs 10"):
        prepare(t.iloc[:9])
    plain = prepare(
        t.assign(tags=["funk" if i % 2 else "soul|funk" for i in range(16)])
    )  # words that Table 5 does not have
    P = settings(corpus="folder", root=str(tmp_path))
    assert not plain.has_notions and not any(recipe(x.variant).disentangled for x in study.trials(P, plain))


def test_magnatagatune(tmp_path):
    "The published layout, a few clips a folder: the assignment's folders, and the pool of what the checkpoint was trained on."
    rows = []
    for f in "0123456789abcdef":
        (tmp_path / f).mkdir()
        for k in range(4):
            p = f"{f}/artist_{f}-album-0{k + 1}-song-0-29.wav"
            sf.write(tmp_path / p, sound(k, ["flute"] if k % 2 else ["rock"]), 16000)
            rows.append(
                {
                    "clip_id": f"{f}{k}",
                    "mp3_path": p,
                    **{t: int(t in (("flute", "slow") if k % 2 else ("rock", "fast"))) for t in TAGS},
                }
            )
    pd.DataFrame(rows).to_csv(tmp_path / "annotations_final.csv", sep="\t", index=False)
    prep = study.prepare(settings(corpus="magnatagatune", root=str(tmp_path)))
    assert {p: len(v) for p, v in prep.parts.items()} == dict(train=20, valid=4, test=4, pool=48, leak=52)
    wide = study.prepare(settings(corpus="magnatagatune", root=str(tmp_path), split="clean"))
    assert {p: len(wide.parts[p]) for p in ("train", "valid", "test")} == dict(train=48, valid=4, test=12)
    assert "the training clips alone" in wide.notes[-1]


def test_jobs_of_the_presets(demo):
    _, prep = demo
    for preset in ("smoke", "mini", "claims", "paper"):
        P = settings(preset=preset, **({"root": "mtt"} if preset == "paper" else {}))
        todo, asked = study.jobs(P, prep), study.trials(P, prep)
        names = [j.name for j in todo]
        assert len(names) == len(set(names)) and {t.job.name for t in asked} <= set(names)
        assert all(j.waits_for is None or names.index(j.waits_for.name) < names.index(j.name) for j in todo)
        if preset != "smoke":  # all that the report prints has a network under both protocols
            for p in ("published", "corrected"):
                assert {v for v, _ in paper_values()} <= {t.variant for t in asked if t.protocol.name == p}
    mini = study.trials(settings(preset="mini"), prep)
    assert len({t.protocol for t in mini}) == 2
    claims = study.trials(settings(preset="claims"), prep)
    assert {t.protocol.name for t in claims} == {"published", "corrected", *(f"corrected-{s}" for s in SWITCHES)}
    assert {t.seed for t in claims if t.protocol == Protocol.corrected and t.variant == "embed_cnn_both"} == {0, 1}


def test_switches_name_only_the_networks_that_they_change():
    def how(v, *off):
        return Trial(Protocol.corrected.with_(*off), v, 0).job.name

    assert how("cnn2d") == how("cnn2d", "mask", "norms", "recall") != how("cnn2d", "schedule")
    assert how("embed_cnn_track") == how("embed_cnn_track", "mask") and how("embed_cnn_both") != how(
        "embed_cnn_both", "mask"
    )
    assert how("musicnn_7") != how("musicnn_7", "norms") and how("musicnn_0") == how("musicnn_0", "norms")
    assert how("musicnn_8") == how("musicnn_8", *SWITCHES) and how("cnn1d_skeleton") == how("cnn1d_skeleton", *SWITCHES)
    assert {Protocol.corrected.with_(s).name for s in SWITCHES} == {f"corrected-{s}" for s in SWITCHES}
    with pytest.raises(ParamsError, match="found 'musicnn_9'"):
        replace(settings(), variants=("musicnn_9",))
    with pytest.raises(ParamsError, match="recording: expected a sound file, found none at gone.mp3"):
        study.prepare(settings(recording="gone.mp3"))
    with pytest.raises(ParamsError, match="norms: expected one of moving, kept, found 'frozen'"):
        Protocol(norms="frozen")


def test_schedules_are_the_reports_unless_a_preset_says_so():
    P = settings(preset="paper", root="mtt")

    def of(v, p):
        return study.schedule_of(P, Trial(p, v, 0).job)

    code, text = of("cnn2d", Protocol.published), of("cnn2d", Protocol.corrected)
    assert (code.lr, code.epochs, code.factor, code.patience, code.restore) == (1e-2, 30, 0.1, 2, False)
    assert (text.lr, text.factor, text.patience, text.reductions, text.restore) == (1e-2, 0.5, 30, 4, True)
    code, text = of("embed_cnn", Protocol.published), of("embed_cnn", Protocol.corrected)
    assert (code.lr, code.epochs, code.restore) == (1e-3, 5, False) and (
        text.factor,
        text.patience,
        text.reductions,
    ) == (0.5, 5, 2)
    skeleton = of("cnn1d_skeleton", Protocol.corrected)
    assert skeleton.nesterov and (skeleton.lr, skeleton.epochs) == (1e-3, 10)


def test_gradnorm_moves_in_short_runs(demo):
    for preset, clips in (("mini", 480), ("claims", 640)):
        P = settings(preset=preset)
        steps = P.metric_epochs * clips // P.triplets
        assert steps >= 200 and P.gradnorm_lr == pytest.approx(3 / steps, rel=0.01)


def trained(P, prep, root, *variants, protocol=Protocol.corrected):
    "Results of variants, one seed."
    todo = [Trial(protocol, v, 0).job for v in variants]
    todo = list(dict.fromkeys([j.waits_for for j in todo if j.waits_for] + todo))
    return study.train_all(prep, P, todo, root)


@pytest.fixture(scope="module")
def pretrained(demo, tmp_path_factory):
    P, prep = demo
    root = tmp_path_factory.mktemp("jobs")
    made = trained(P, prep, root, "musicnn_7", "musicnn_8", "embed_musicnn_disentangled")
    return root, {j.variant: r for j, r in made.items()}


def test_a_frozen_trunk_is_asked_once_and_stays_what_it_was(demo, pretrained):
    P, prep = demo
    root, made = pretrained
    net = load_net(root / "pretraining-text-0" / "net.pt")[0]
    vectors = study.load_vectors(prep, P, Job("pretraining", (("schedule", "text"),), 0), root)
    clips = prep.clips.of(prep.parts["valid"])
    starts = np.linspace(0, clips.shape[1] - WINDOW, P.places).astype(int)
    with torch.inference_mode():
        expected = net.shared(torch.stack([clips[3, s : s + WINDOW] for s in starts]))
    torch.testing.assert_close(vectors["valid"][3], expected, rtol=1e-4, atol=1e-4)
    seven = load_net(root / "musicnn_7-text-kept-0" / "net.pt")[0].state_dict()
    changed = {k for k, v in net.state_dict().items() if not torch.equal(v, seven[k])}
    assert changed == {"dense2.weight", "dense2.bias"}
    np.testing.assert_array_equal(made["musicnn_8"].said, made["pretraining"].said)
    assert len(made["musicnn_8"].step_s) == 0 and made["embed_musicnn_disentangled"].embedded.shape == (
        14,
        256 // P.embed_divisor,
    )


def test_same_seed_same_numbers_and_done_jobs_are_read(demo, tmp_path):
    P, prep = demo
    one, two = (trained(P, prep, tmp_path / d, "embed_linear_both", "joint_gradnorm") for d in "ab")
    for job, r in one.items():
        np.testing.assert_array_equal(r.embedded, two[job].embedded)
        np.testing.assert_array_equal(r.history.loss, two[job].history.loss)
    again = trained(P, prep, tmp_path / "a", "embed_linear_both")
    assert all(np.array_equal(r.step_s, one[j].step_s) for j, r in again.items())


def test_a_checkpoint_stands_for_the_pre_training(demo, tmp_path):
    P, prep = demo
    net = make_net("Musicnn", dict(width_divisor=32)).eval()
    save_net(net, tmp_path / "musicnn.pt", TAGS)
    given = replace(P, checkpoint=str(tmp_path / "musicnn.pt"))
    made = {j.variant: r for j, r in trained(given, prep, tmp_path / "jobs", "musicnn_8", "embed_musicnn").items()}
    assert len(made["pretraining"].step_s) == 0 and np.isfinite(made["embed_musicnn"].embedded).all()
    kept = load_net(tmp_path / "jobs" / "embed_musicnn-text-kept-0" / "net.pt")[0].state_dict()
    assert all(torch.equal(v, kept[k]) for k, v in net.state_dict().items() if k in kept)
    save_net(make_net("CNN1D", {}), tmp_path / "other.pt", TAGS)
    with pytest.raises(ParamsError, match="expected a Musicnn for the 50 tags of miniature, found CNN1D"):
        trained(replace(P, checkpoint=str(tmp_path / "other.pt")), prep, tmp_path / "more", "musicnn_8")
    with pytest.raises(RunError, match="expected a checkpoint, found no file"):
        trained(replace(P, checkpoint=str(tmp_path / "none.pt")), prep, tmp_path / "none", "musicnn_8")


def reading(said=None, embedded=None, Y=None, group=None, variant="cnn2d", protocol=Protocol.corrected, seed=0):
    n = len(said if said is not None else embedded)
    result = Result(Trial(protocol, variant, seed).job, said, embedded, 1, None, None, np.zeros(0))
    return Reading(Trial(protocol, variant, seed), result, Y, np.arange(n) if group is None else group)


@given(st.integers(0, 10_000), st.booleans())
def test_areas_are_those_of_the_metrics(seed, ties):
    rng = generator("areas", seed)
    Y, P = (rng.random((20, 6)) < 0.3).astype(np.float32), rng.random((20, 6))
    if ties:
        P = P.round(1)
    Y[:2] = [[0] * 6, [1] * 6]  # every tag is there and is not
    below, precision = ranks(Y, P)
    ones = np.ones((1, 20))
    assert study.macro_over(ones, below)[0] == pytest.approx(roc_auc(Y, P))
    assert study.macro_over(ones, precision)[0] == pytest.approx(average_precision(Y, P))


def test_intervals_bracket_the_sample_and_know_who_belongs_together():
    rng = generator("intervals")
    Y = (rng.random((120, 8)) < 0.25).astype(np.float32)
    P, E = 0.6 * Y + rng.random((120, 8)), np.c_[Y + 0.8 * rng.normal(size=Y.shape)]
    alone = scores(reading(P, E, Y))
    together = scores(
        reading(np.repeat(P[::4], 4, 0), np.repeat(E[::4], 4, 0), np.repeat(Y[::4], 4, 0), np.arange(120) // 4)
    )
    assert set(alone) == {"roc_auc", "pr_auc", *(f"recall_at_{k}" for k in KS)}
    for found in (alone, together):
        for metric in ("roc_auc", "pr_auc"):
            value, low, high = interval(found[metric])
            assert low < value < high

    def width(f):
        return np.subtract(*interval(f["roc_auc"])[:0:-1])

    assert width(together) > width(alone)


def test_recall_is_counted_as_the_protocol_says():
    rng = generator("recall")
    Y, E = (rng.random((30, 8)) < 0.3).astype(np.float32), rng.normal(size=(30, 8))
    S = cosine_matrix(E)
    for k in KS:
        for how, expected in (("excluded", multilabel_recall), ("counted", published_recall)):
            assert np.nanmean(study.query_recalls(Y, S, k, how)) == pytest.approx(expected(Y, S, k))
    same = np.ones((30, 8))  # all equally near: the code's K + 1 nearest are not those of the query
    a, b = (
        scores(reading(None, same, Y, variant="embed_cnn", protocol=p))
        for p in (Protocol.corrected, Protocol.corrected.with_("recall"))
    )
    assert b["recall_at_1"][0] > a["recall_at_1"][0]


def board(skill, protocol=Protocol.corrected, n=60):
    "Readings of variants whose answers are right to a given share."
    rng = generator("board")
    Y = (rng.random((6, len(TAGS))) < 0.12).astype(np.float32)[rng.integers(0, 6, n)]  # six kinds of clips

    def one(v, share):
        noise = generator("noise", v).normal(size=Y.shape)
        x = share * Y + (1 - share) * noise
        tags = recipe(v).kind == "tags"
        return reading(x if tags else None, None if tags else x, Y, variant=v, protocol=protocol)

    return board_of([one(v, s) for v, s in skill.items()], SimpleNamespace(parts={"test": np.arange(n)}))


def test_every_claim_has_a_rule_and_a_function():
    assert list(claims_of("tagging")) == list(CLAIMS) == [f"T{i}" for i in range(1, 8)]
    rows = claim_rows("tagging", "nothing", board({}), CLAIMS, BOTH)
    assert len(rows) == 7 + len(BOTH) and {r["verdict"] for r in rows} == {"not testable here"}
    assert switch_effects(board({})).empty


def test_claims_follow_the_scores():
    def of(b, id):
        return interval(CLAIMS[id](b, "corrected")[0])

    up = board(
        {
            "cnn1d": 0.7,
            "cnn1d_skeleton": 0.5,
            "cnn2d": 0.8,
            "cnn2d_skeleton": 0.75,
            "fcn": 0.8,
            "musicnn_0": 0.55,
            "musicnn_7": 0.65,
            "musicnn_8": 0.9,
        }
    )
    value, low, high = of(up, "T1")
    assert low > 0 and value == pytest.approx(
        min(100 * (up.scores(v)[0] - up.scores(f"{v}_skeleton")[0]) for v in ("cnn1d", "cnn2d"))
    )
    assert of(up, "T3")[1] > 0 and abs(of(up, "T2")[0]) < abs(100 * (up.scores("fcn")[0] - up.scores("musicnn_0")[0]))
    ways = ("", "_track", "_disentangled", "_both")
    nets = {
        f"embed_{n}{w}": s
        for n, each in (
            ("linear", (0.45, 0.7, 0.1, 0.3)),
            ("cnn", (0.2, 0.2, 0.5, 0.5)),
            ("musicnn", (0.6, 0.6, 0.8, 0.8)),
        )
        for w, s in zip(ways, each, strict=True)
    }
    b = board(nets)
    assert of(b, "T4")[1] > 0 and of(b, "T5")[1] > 0 and of(b, "T6")[1] > 0
    worse = board({**nets, "embed_musicnn_disentangled": 0.3, "embed_musicnn_both": 0.3})
    assert of(worse, "T5")[2] < 0
    same = board({"embed_linear_raw": 0.5, "embed_linear_unit": 0.5})
    twin = same.by["corrected", "embed_linear_raw"][0]
    same.by["corrected", "embed_linear_unit"][0].result.embedded = (
        3 * twin.result.embedded
    )  # other lengths, the same directions
    assert of(same, "T7") == (0, 0, 0) and of(board({"embed_linear_raw": 0.5, "embed_linear_unit": 0.9}), "T7")[0] > 0


def test_neighbours_and_words_of_a_query():
    classes = ("rock", "metal", "loud", "guitar", "slow")
    Y = np.array([[1, 0, 1, 1, 1], [1, 1, 0, 0, 0], [0, 0, 1, 1, 0], [0, 1, 0, 0, 1]], np.float32)
    assert query_of(Y, classes) == 0 and list(notion_words(Y, classes, "genre")) == ["rock", "rock", "none", "metal"]
    E = np.zeros((4, 8))  # a quarter a notion: near in genre is 1, in mood 2
    E[[0, 1], 0] = E[[0, 2], 2] = 1
    texts, shares, own = neighbour_table(reading(None, E, Y, variant="embed_cnn_both"), classes, 0, 1)
    assert own == ["rock", "loud", "guitar", "slow"] and texts[0] == ["rock, metal"] and texts[1] == ["loud"]
    assert shares[:2, 0].tolist() == [1, 1] and list(NOTIONS)[:2] == ["genre", "mood"]


def test_paper_values_are_all_taken_up_and_stand_beside_ours():
    own = published("tagging").dropna(subset="paper_value")
    assert sorted(v for v, _ in paper_values().values()) == sorted(own.paper_value.astype(float)) and len(own) == 79
    P, prep = settings(), SimpleNamespace(name="nothing", has_notions=True, classes=TAGS)
    Y = (generator("rows").random((20, len(TAGS))) < 0.3).astype(np.float32)
    some = [
        reading(Y if recipe(v).kind == "tags" else None, None if recipe(v).kind == "tags" else Y[:, :8], Y, variant=v)
        for v in dict.fromkeys(v for v, _ in paper_values())
    ]
    rows = pd.DataFrame(study.result_rows(P, prep, some, "x"))
    assert len(rows.dropna(subset="paper_value")) == len(own)


def test_dataset_can_be_sent_to_a_worker(demo):
    "Clips are read by row and sample in any process."
    import pickle

    _, prep = demo
    again = pickle.loads(pickle.dumps(prep.clips))
    assert (
        torch.equal(again[2, 50:90], prep.clips[2:3][0, 50:90])
        and torch.equal(again[1:3], prep.clips[1:3])
        and again.shape == prep.clips.shape
    )
    assert partial(again.of, [1])()[0, :5].shape == (5,)
