"""The artist-group-factor study as its users run it: papermill on whole corpora, killed, and fed with faults."""

import json
import signal
import time
from dataclasses import replace

import numpy as np
import pandas as pd
import psutil
import pytest
import soundfile as sf

from processes import finish, ran, start, the_run

from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.study.experiment import draws, interval
from musicmtl.papers.agf import experiment as agf_study
from musicmtl.papers.agf.model import SWITCHES, Protocol
from musicmtl.study.runs import resolve, settings_class

OUT = "figures/data/agf.csv"


def kill_when(p, seen):
    "SIGKILL to the process and all its children as soon as `seen()` is true."
    until = time.time() + 300
    while not seen():
        assert p.poll() is None and time.time() < until, f"ended before it could be killed: {p.communicate()}"
        time.sleep(0.01)
    for child in [*psutil.Process(p.pid).children(recursive=True), psutil.Process(p.pid)]:
        try:
            child.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            pass
    p.wait()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    "An undisturbed run of preset smoke."
    home = tmp_path_factory.mktemp("whole")
    ran("agf", home)
    return home


def test_study_leaves_everything(whole):
    r = the_run(whole, "agf")
    m = json.loads((r / "manifest.json").read_text())
    assert m["status"] == "done" and m["parameters"]["preset"] == "smoke" and m["wall_s"] > 0
    assert (r / "executed.ipynb").exists()
    t = pd.read_csv(r / OUT)
    assert set(t.protocol) == {"published", "corrected"} and {
        "single_task",
        "equal",
        "gradnorm_epoch",
        "majority",
    } <= set(t.variant)
    f1 = t[t.metric.str.contains("f1")]
    assert f1.value.between(0, 1).all() and (t.low.dropna() <= t.value[t.low.notna()] + 1e-9).all()
    paper = t[t.paper_value.notna()]
    assert set(paper.metric) == {"log_loss", "micro_f1", "macro_f1"} and set(paper.variant) == {"gradnorm_epoch"}
    names = {p.name for p in (r / "figures" / "agf").iterdir()}
    assert {
        "mel.png",
        "confusion.png",
        "weights_epoch_calm.png",
        "weights_log_classes.png",
        "tsne.png",
        "tsne_3d.html",
    } <= names
    claims = pd.read_csv(r / "figures/data/claims.csv")
    assert set(claims.claim) == {f"A{i}" for i in range(1, 14)}
    assert (claims.verdict != "not testable here").eq(claims.effect.notna()).all()


def test_weights_add_up_and_start_at_one(whole):
    w = pd.read_csv(the_run(whole, "agf") / "figures/data/agf_weights.csv")
    np.testing.assert_allclose(
        w.groupby(["protocol", "variant", "seed", "epoch"]).weight.sum(), w.task.nunique(), rtol=1e-5
    )
    assert w.weight.std() > 0.01


def test_a_run_that_is_done_is_not_run_again(whole):
    before = (the_run(whole, "agf") / "executed.ipynb").stat().st_mtime_ns
    code, out, err = finish(start("agf", whole))
    assert code == 0 and "done" in out
    assert (the_run(whole, "agf") / "executed.ipynb").stat().st_mtime_ns == before


def test_killed_twice_ends_with_the_same_numbers(whole, tmp_path):
    "SIGKILL in the middle of extraction, then in the middle of training."
    p = start("agf", tmp_path)
    kill_when(p, lambda: any((tmp_path / "cache").glob("features/*/shards/*")))
    p = start("agf", tmp_path)
    kill_when(p, lambda: any((tmp_path / "runs").glob("agf/jobs/*/*/network/last.ckpt")))
    code, _, err = finish(start("agf", tmp_path))
    assert code == 0, err
    for name in ("agf.csv", "agf_weights.csv"):
        assert (the_run(tmp_path, "agf") / "figures/data" / name).read_bytes() == (
            the_run(whole, "agf") / "figures/data" / name
        ).read_bytes()


def tone(i, artist, seconds=9.0, sr=22050):
    "A track that sounds like its artist: a chord of its own, a little noise."
    t, rng = np.arange(int(seconds * sr)) / sr, generator("tone", i)
    chord = sum(np.sin(2 * np.pi * f * t * (1 + 0.01 * rng.normal())) for f in (110 * 1.3**artist, 165 * 1.3**artist))
    return (0.2 * chord + 0.02 * rng.normal(size=len(t))).astype(np.float32)


@pytest.fixture
def folder(tmp_path):
    "Eight artists with four tracks each, as a plain folder of tagged music would be."
    root, rows = tmp_path / "music", []
    root.mkdir()
    for a in range(8):
        for k in range(4):
            sf.write(root / f"{a}-{k}.wav", tone(4 * a + k, a), 22050)
            rows.append(
                dict(track_id=f"{a}-{k}", path=f"{a}-{k}.wav", artist=f"artist {a}", album="one", title=f"song {k}")
            )
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


def test_faulty_files_are_named_and_do_not_stop_the_study(folder, tmp_path):
    t = pd.read_csv(folder / "tracks.csv")
    good = (folder / "0-0.wav").read_bytes()
    (folder / "0-0.wav").write_bytes(good[: len(good) // 3])
    (folder / "text.mp3").write_text("these are not sounds\n" * 50)
    sf.write(folder / "silent.wav", np.zeros(9 * 22050, np.float32), 22050)
    sf.write(folder / "short.wav", tone(99, 3, 0.2), 22050)
    more = [
        dict(track_id=n, path=f, artist=f"artist {a}", album="two", title=n)
        for a, (n, f) in enumerate((("text", "text.mp3"), ("silent", "silent.wav"), ("short", "short.wav")))
    ]
    pd.concat([t, pd.DataFrame(more)]).to_csv(folder / "tracks.csv", index=False)
    home = tmp_path / "home"
    code, _, err = finish(start("agf", home, corpus="folder", root=folder))
    assert code == 0, err
    notes = "\n".join(json.loads((the_run(home, "agf") / "manifest.json").read_text())["notes"])
    for track, why in (("0-0", "truncated"), ("text", "text"), ("short", "frames"), ("silent", "silent")):
        assert any(track in line and why in line for line in notes.splitlines()), notes
    assert "subgenres" in notes
    index = pd.concat([pd.read_parquet(f) for f in (home / "cache" / "features").glob("*/index.parquet")]).set_index(
        "track_id"
    )
    assert index.status["text"] == "failed" and index.status["silent"] == "ok" and index.silent["silent"]
    scores = pd.read_csv(the_run(home, "agf") / OUT)
    assert set(scores.corpus) == {"music"}


@pytest.mark.parametrize(
    "params,said",
    [
        (dict(corpus="folder"), "needs the folder that holds it"),
        (dict(corpus="folder", root="/does/not/exist"), "does not exist"),
        (dict(corpus="folder", target="genre"), "no track has a value in column 'genre'"),
    ],
)
def test_impossible_corpora_get_one_sentence(folder, params, said):
    if params == dict(corpus="folder", target="genre"):
        params = {**params, "root": str(folder)}
    P = resolve(settings_class("agf"), "agf", params)
    with pytest.raises((ParamsError, CorpusError), match=said) as e:
        agf_study.prepare(P)
    assert "\n" not in str(e.value)


def test_one_class_and_too_few_tracks(folder):
    t = pd.read_csv(folder / "tracks.csv")
    P = resolve(settings_class("agf"), "agf", dict(corpus="folder", root=str(folder)))
    t[t.artist == "artist 1"].to_csv(folder / "tracks.csv", index=False)
    with pytest.raises(CorpusError, match="at least two classes, found 'artist 1' alone"):
        agf_study.prepare(P)
    t[t.title.isin(["song 0", "song 1"])].to_csv(folder / "tracks.csv", index=False)
    with pytest.raises(CorpusError, match="artist"):
        agf_study.prepare(P)


def test_papermill_alone_is_as_strict(tmp_path):
    import papermill

    from musicmtl.core import repo_root

    nb = repo_root() / "nbs" / "studies" / "agf.ipynb"
    with pytest.raises(papermill.PapermillExecutionError, match="unknown name 'sede'"):
        papermill.execute_notebook(nb, tmp_path / "out.ipynb", dict(sede=1), cwd=str(nb.parent), progress_bar=False)


def test_jobs_of_a_run():
    P = resolve(settings_class("agf"), "agf", {"preset": "mini"})
    names = {(j.protocol.name, j.label) for j in agf_study.jobs(P)}
    assert {("corrected", f"gradnorm_{i}") for i in ("epoch", "first", "log_classes", "ema")} <= names
    assert {(Protocol.corrected.with_(s).name, "gradnorm_epoch") for s in SWITCHES} <= names
    assert ("published", "gradnorm_epoch") in names


def test_splits_leak_only_where_they_are_published():
    P = replace(
        resolve(settings_class("agf"), "agf", {}), track_s=15.0
    )  # three windows a track; those of smoke hold one
    prep = agf_study.prepare(P)
    artist = prep.corpus.labels("artist").codes
    corrected = agf_study.cut_windows(prep, P, Protocol.corrected, 0)
    assert not set(artist[corrected.track[corrected.train]]) & set(artist[corrected.track[corrected.valid]])
    leaky = agf_study.cut_windows(prep, P, Protocol.published, 0)
    assert set(leaky.track[leaky.train]) & set(leaky.track[leaky.valid])
    assert not set(leaky.train) & set(leaky.valid)


def test_draws_are_paired_and_bracket_the_sample():
    y = generator("y").integers(0, 3, 200)
    p = np.eye(3)[np.where(generator("p").random(200) < 0.7, y, (y + 1) % 3)] * 0.8 + 0.05
    group = np.arange(200) // 10
    w = draws(20, seed=0)
    assert (w.sum(1) == 20).all() and (w[0] == 1).all()
    c = np.tensordot(w, agf_study.confusions(y, p.argmax(1), group, 3), 1)
    value, low, high = interval(np.trace(c, axis1=1, axis2=2) / c.sum((1, 2)))
    assert low < value < high and value == pytest.approx((y == p.argmax(1)).mean())
    assert (draws(20, seed=0) == w).all() and (draws(20, seed=1) != w).any()
