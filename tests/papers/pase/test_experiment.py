"""The self-supervised study's experiment: who hears what, what is kept, and what a fault says."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from musicmtl.core import CorpusError, ParamsError, RunError, generator
from musicmtl.study.experiment import interval
from musicmtl.learn import EpochBatches, fit
from musicmtl.loaders import BALLROOM, MUSIC
from musicmtl.papers.pase import experiment as study
from musicmtl.papers.pase.model import WORKERS, Downstream, PASEPlus, load_encoder
from musicmtl.papers.pase.experiment import (
    ALL,
    BEST,
    SETS,
    SWITCHES,
    Clips,
    Encoder,
    Protocol,
    Reading,
    Settings,
    Trial,
    jobs,
    recipe,
    scores,
    spread,
    trials,
)
from musicmtl.study.runs import resolve, settings_class

TINY = dict(
    downstream_s=1.0,
    pool_clips=20,
    clip_s=1.0,
    emb_dim=8,
    width_divisor=32,
    epochs=2,
    batch_size=4,
    trials=2,
    head_epochs=4,
    tune_epochs=2,
    n_jobs=1,
)


def tones(artist, k, seconds, sr=16000):
    "A track that sounds like its artist: a chord of its own, in a rhythm."
    t, rng = np.arange(int(seconds * sr)) / sr, generator("tones", artist, k)
    chord = sum(np.sin(2 * np.pi * f * (1 + 0.01 * rng.normal()) * t) for f in (110 * 1.3**artist, 165 * 1.3**artist))
    return (
        0.2 * chord * (0.6 + 0.4 * np.sign(np.sin(2 * np.pi * (2 + artist) * t))) + 0.01 * rng.normal(size=len(t))
    ).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Four artists with five tracks of four seconds, and four that are at fault."
    root, rows = tmp_path_factory.mktemp("corpus") / "music", []
    root.mkdir()
    for a in range(4):
        for k in range(5):
            sf.write(root / f"{a}-{k}.wav", tones(a, k, 4.0), 16000)
            rows.append(dict(track_id=f"{a}-{k}", path=f"{a}-{k}.wav", artist=f"artist {a}"))
    sf.write(root / "short.wav", tones(0, 9, 0.5), 16000)
    sf.write(root / "silent.wav", np.zeros(4 * 16000, np.float32), 16000)
    sf.write(
        root / "nan.wav",
        np.where(np.arange(4 * 16000) == 7, np.nan, tones(1, 9, 4.0)).astype(np.float32),
        16000,
        subtype="FLOAT",
    )
    (root / "text.mp3").write_text("these are not sounds\n" * 50)
    rows += [
        dict(track_id=n, path=f, artist="artist 1")
        for n, f in (("short", "short.wav"), ("silent", "silent.wav"), ("nan", "nan.wav"), ("text", "text.mp3"))
    ]
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(scope="module")
def heard(folder):
    P = Settings(
        **TINY,
        corpus="folder",
        root=str(folder),
        cuts=2,
        variants=("paseplus_random", f"paseplus_equal_{ALL}", BEST),
        trained=("paseplus_supervised", f"{BEST}_finetuned"),
        budgets=(8,),
    )
    return P, study.prepare(P)


def test_faults_are_named_and_left_out(heard):
    _, prep = heard
    said = "\n".join(prep.notes)
    for line in (
        "short is left out: 0.50 s, a clip has 1",
        "nan is left out: holds NaN or infinite samples",
        "text is left out",
        "silent is silent",
        "silent clips are left out of pre-training",
    ):
        assert line in said, said
    used = set(prep.targets["artist"].corpus.table.track_id)
    assert "silent" in used and not used & {"short", "nan", "text"}


def test_silence_has_targets_and_an_embedding():
    "No frame is voiced, nothing is NaN."
    made = study.ClipBank(tuple(WORKERS))(torch.zeros(1, 16000))
    assert all(v.isfinite().all() for v in made.values()) and set(made) == {"wave", *WORKERS} - {"waveform"}
    np.testing.assert_allclose(made["prosody"][0, 3], np.log(65.41), atol=1e-3)
    assert PASEPlus(8, width_divisor=32).eval()(torch.zeros(1, 16000)).isfinite().all()


def test_a_clip_shorter_than_the_encoder_hears(folder):
    with pytest.raises(ParamsError, match="clip_s: expected whole frames of 10 ms, at least 0.148 s, found 0.1 s"):
        Settings(clip_s=0.1)
    with pytest.raises(
        ParamsError, match="wave: expected clips of at least the receptive field, 2370 samples, found 1600"
    ):
        PASEPlus(8, width_divisor=32)(torch.zeros(1, 1600))
    P = Settings(**{**TINY, "downstream_s": 9.0}, corpus="folder", root=str(folder))
    with pytest.raises(CorpusError, match="a task needs 10"):
        study.prepare(P)


def test_the_encoder_never_hears_what_is_tested(heard):
    "Under `corrected`; under `published` it does."
    P, prep = heard
    t = prep.targets["artist"]
    test = set(t.corpus.table.track_id[t.track[t.parts("artist", 0)["test"]]])
    of = {k: {n.partition(" from ")[0] for n in p.store.index.track_id} for k, p in prep.pools.items()}
    assert test and not test & of["train"] and test <= of["all"] | {"silent"}


def test_cuts_of_a_track_stay_together(heard):
    _, prep = heard
    t = prep.targets["artist"]
    assert len(t) == 2 * len(t.corpus) and t.by("artist") == t.by("track") == "track"  # artists are the answer
    parts = t.parts("artist", 0)
    for a, b in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not set(t.track[parts[a]]) & set(t.track[parts[b]])
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(t)))
    assert (t.start % 160 == 0).all() and (t.start + t.length <= t.store.frames("wave")[t.track]).all()


def test_artists_are_on_two_sides_only_where_it_is_published():
    prep = SimpleNamespace(
        t=study.make_target("ballroom", *study.open_tasks(Settings(**TINY))["ballroom"], Settings(**TINY))[0]
    )
    artist = prep.t.corpus.table.artist.to_numpy()
    for split, leaks in (("artist", False), ("track", True)):
        parts = prep.t.parts(split, 0)
        assert bool(set(artist[parts["train"]]) & set(artist[parts["test"]])) == leaks


@pytest.fixture(scope="module")
def whole(heard, tmp_path_factory):
    P, prep = heard
    root = tmp_path_factory.mktemp("whole")
    study.train_all(prep, P, root)
    return root


def test_all_trials_are_there(heard, whole):
    P, prep = heard
    readings = study.read_all(prep, P, whole)
    assert [r.job for r in readings] == trials(P, prep)
    labels = {(r.job.protocol.name, r.job.label) for r in readings}
    assert {
        ("corrected", f"{BEST}_artist"),
        ("published", f"{BEST}_artist"),
        ("corrected", f"{BEST}_finetuned_artist_labels_8"),
        ("corrected", "paseplus_supervised_artist"),
    } <= labels
    for r in readings:
        assert r.said.shape == ((2 if r.job.scenario == "frozen" else 1), len(r.y), 4) and np.allclose(
            r.said.sum(-1), 1, atol=1e-5
        )
        value, low, high = interval(scores(r)["macro_f1"])
        assert 0 <= low <= value <= high <= 1
        assert len(r.train) == (r.job.n or len(r.train)) and (r.losses is None) == (
            not r.job.encoder(prep).recipe.trained
        )
    rows = pd.DataFrame(study.result_rows(P, prep, readings, "x"))
    assert not rows.duplicated(["protocol", "variant", "seed", "metric"]).any() and rows.value.notna().sum() == len(
        rows
    )


def test_reweighting_starts_from_the_equal_run(heard, whole):
    P, prep = heard
    for pool in ("train", "all"):
        job = Encoder(recipe(BEST), pool, 0)
        equal, own = study.read_losses(whole, job.waits_for), study.read_losses(whole, job)
        np.testing.assert_allclose(own["weight"], np.tile(1 / equal["valid"].mean(0), (2, 1)), rtol=1e-5)


def test_fine_tuning_changes_the_encoder_and_freezing_does_not(heard, whole):
    P, prep = heard
    learner = next(l for l in jobs(P, prep)[1] if l.variant.endswith("_finetuned"))
    module = study.learner_module(prep, P, learner, whole)
    before, saved = (
        load_encoder(whole / learner.encoder.name / "encoder.pt").state_dict(),
        module.net.encoder.state_dict(),
    )
    for k, v in before.items():
        torch.testing.assert_close(v, saved[k])
    assert module.net.encoder.training
    for scenario, moves in (("finetuned", True), ("frozen", False)):
        net = Downstream(load_encoder(whole / learner.encoder.name / "encoder.pt"), 4, scenario).train()
        opt = torch.optim.Adam(net.parameters(), lr=0.01)
        net(torch.from_numpy(tones(0, 0, 1.0)).expand(2, -1)).square().sum().backward()
        opt.step()
        assert all(torch.equal(v, before[k]) for k, v in net.encoder.state_dict().items()) != moves


def test_a_checkpoint_of_another_encoder_is_refused(whole):
    f = next(whole.glob("paseplus_equal*/encoder.pt"))
    with pytest.raises(
        RunError,
        match=r"expected PASEPlus\(emb_dim=9, width_divisor=32\), found PASEPlus\(emb_dim=8, width_divisor=32\)",
    ):
        load_encoder(f, PASEPlus(9, width_divisor=32))


def test_killed_and_begun_again_it_ends_with_the_same_numbers(heard, whole, tmp_path):
    "SIGKILL while an encoder is trained."
    P, prep = heard
    code = (
        "import sys; from musicmtl.papers.pase.experiment import *\n"
        f"P = Settings(**{ {**TINY, 'epochs': 2}!r}, corpus='folder', root={P.root!r}, cuts=2, variants={P.variants!r}, protocol='corrected')\n"
        "train_all(prepare(P), P, sys.argv[1])"
    )
    p = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "TQDM_DISABLE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    until = time.time() + 120
    while not any(tmp_path.glob("paseplus_equal*/network/last.ckpt")):
        assert p.poll() is None and time.time() < until, p.communicate()
        time.sleep(0.01)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert not any(tmp_path.glob("paseplus_equal*/encoder.pt"))
    study.train_all(prep, replace(P, trained=(), budgets=(), protocol="corrected"), tmp_path)
    made = sorted(f.relative_to(tmp_path) for f in tmp_path.rglob("*.np[yz]"))
    assert len(made) >= 8
    for f in made:
        assert (tmp_path / f).read_bytes() == (whole / f).read_bytes(), f


def test_targets_kept_and_computed_on_the_way_teach_the_same(heard):
    P, prep = heard
    pool, job = prep.pools["train"], Encoder(recipe(f"paseplus_equal_{ALL}"), "train", 0)
    losses = {}
    for how in ("kept", "device"):
        Q = replace(P, targets=how)
        module = study.pretraining(pool, Q, job, None)
        clips = study.pool_clips(pool, pool.train, Q, list(WORKERS))
        x, y = module.on_after_batch_transfer(clips[np.arange(4)], 0)
        losses[how] = module.losses(module.net(x), y).detach()
    torch.testing.assert_close(losses["kept"], losses["device"], rtol=1e-4, atol=1e-5)


def test_half_precision_and_targets_on_the_device(heard, tmp_path):
    "As preset `paper` trains."
    P, prep = heard
    job = Encoder(recipe(f"paseplus_equal_{ALL}"), "train", 0)
    study.run_encoder(prep, replace(P, precision="bf16-mixed", targets="device", epochs=1), job, tmp_path)
    losses = study.read_losses(tmp_path, job)
    assert losses["valid"].shape == (1, 6) and np.isfinite(losses["valid"]).all()
    assert np.isfinite(np.load(next((tmp_path / job.name).glob("artist-*.npy")))).all()


def test_data_sets_in_their_published_layouts(tmp_path):
    "A folder each for AudioSet and Extended Ballroom; those that are not there are not asked for."
    for dance in sorted(BALLROOM):
        (tmp_path / "ballroom" / dance).mkdir(parents=True)
        for k in range(4):
            sf.write(
                tmp_path / "ballroom" / dance / f"{len(dance)}{ord(dance[0])}{k}.wav",
                tones(len(dance) % 5, k, 1.5),
                16000,
            )
    (tmp_path / "audioset").mkdir()
    lines = [f'clip{k}, 0.000, 10.000, "{MUSIC}"' for k in range(14)]
    (tmp_path / "audioset" / "balanced_train_segments.csv").write_text(
        "# YTID, start_seconds, end_seconds, positive_labels\n" + "\n".join(lines) + "\n"
    )
    for k in range(12):
        sf.write(tmp_path / "audioset" / f"clip{k}_0.wav", tones(k % 5, k, 2.0), 16000)
    with pytest.warns(UserWarning, match="2 of 14 clips of music are not in"):
        prep = study.prepare(Settings(**TINY, corpus="datasets", root=str(tmp_path)))
    assert list(prep.targets) == ["ballroom"] and prep.name == "datasets" and list(prep.pools) == ["train"]
    assert (
        len(prep.targets["ballroom"].classes) == 9 and prep.targets["ballroom"].by("artist") == "track"
    )  # its files name no artist
    assert len(prep.pools["train"].train) + len(prep.pools["train"].valid) == 12


def test_learning_rates_fall_as_stated(heard, tmp_path):
    "Encoder and workers from their own rate, as a power of what is left (PASE+'s schedule)."
    P, prep = heard
    Q = replace(P, lr=0.01, worker_lr=0.002, decay=0.9, steps_per_epoch=2, epochs=3)
    module = study.pretraining(prep.pools["train"], Q, Encoder(recipe("paseplus_equal_WLP"), "train", 0), None)
    rates = []
    module._record = lambda losses, log: rates.append([g["lr"] for g in module.optimizers().param_groups])
    clips = study.pool_clips(prep.pools["train"], prep.pools["train"].train, Q, ["waveform", "lps", "prosody"])
    fit(module, clips, epochs=3, steps_per_epoch=2, batch_size=4, root=tmp_path, device="cpu")
    np.testing.assert_allclose(rates, np.outer((1 - np.arange(6) / 6) ** 0.9, [0.01, 0.002]))


def test_cuts_are_drawn_anew_each_epoch_and_the_same_again(heard):
    _, prep = heard
    t = prep.targets["artist"]
    cut = Clips(t.store, t.track, t.start, t.length, crop=8000)
    sampler, seen = EpochBatches(len(cut), 4, data=cut), []
    for e in (0, 1, 0):
        sampler.set_epoch(e)
        seen.append(cut[np.arange(6)][0])
    assert torch.equal(seen[0], seen[2]) and not torch.equal(seen[0], seen[1]) and seen[0].shape == (6, 8000)


def test_scores_of_trials():
    "Mean over trials; the spread is theirs; a sure answer has no interval."
    y, group = np.tile(np.arange(4), 10), np.repeat(np.arange(10), 4)
    right, wrong = np.eye(4)[y], np.eye(4)[(y + 1) % 4]
    reading = Reading(Trial(Protocol.corrected, BEST, "ballroom", None, 0), np.stack([right, wrong]), y, group, y, None)
    assert interval(scores(reading)["macro_f1"]) == (0.5, 0.0, 1.0)
    assert spread(reading) == pytest.approx(np.std([1, 0], ddof=1))
    sure = replace(reading, said=right[None])
    assert interval(scores(sure)["macro_f1"]) == (1.0, 1.0, 1.0) and np.isnan(spread(sure))


def test_names():
    for w in ("equal", "reweighted", "gradnorm", "uncertainty"):
        for s in SETS:
            for z in ("", "_znorm"):
                assert recipe(f"paseplus_{w}_{s}{z}").name == f"paseplus_{w}_{s}{z}"
    assert Trial(Protocol.corrected, BEST, "fma", 40, 0).label == f"{BEST}_fma_labels_40"
    assert {p.name for p in Protocol.ends()} == {"published", "corrected"} and set(SWITCHES) == {"split", "pool"}
    for bad in (
        "pase",
        "paseplus_equal",
        "paseplus_equal_WLPX",
        "lstm_equal_WLP",
        "paseplus_best_WLP",
        "features_finetuned",
        "paseplus_random_finetuned",
    ):
        with pytest.raises(ParamsError, match="variant: expected"):
            study.scenario_of(bad)


@pytest.mark.parametrize(
    "params,said",
    [
        (dict(corpus="folder"), "root: corpus 'folder' needs the folder that holds it"),
        (dict(corpus="datasets"), "root: corpus 'datasets' needs the folder that holds it"),
        (dict(corpus="datasets", root="."), "expected at least one of the folders openmic, ballroom, fma, found none"),
        (dict(corpus="folder", root="/does/not/exist"), "does not exist"),
    ],
)
def test_impossible_corpora_get_one_sentence(tmp_path, params, said):
    if params.get("root") == ".":
        params["root"] = str(tmp_path)
    with pytest.raises((ParamsError, CorpusError), match=said) as e:
        study.prepare(Settings(**TINY, **params))
    assert "\n" not in str(e.value)


@pytest.mark.parametrize("preset", ["smoke", "mini", "claims", "paper"])
def test_presets_name_what_there_is(preset):
    P = resolve(settings_class("pase"), "pase", {"preset": preset})
    assert {BEST, "features", "paseplus_random"} <= set(P.variants) and f"{BEST}_finetuned" in P.trained
    assert (preset == "smoke") or {f"paseplus_{w}_{s}" for w in ("equal", "reweighted") for s in SETS} <= set(
        P.variants
    )
