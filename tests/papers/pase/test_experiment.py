"""The self-supervised study's experiment: which clips are used for what, what is kept, and what a fault says."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from musicmtl.core import CorpusError, ParamsError, RunError, generator
from musicmtl.learn import EpochBatches, fit
from musicmtl.loaders import BALLROOM, MUSIC
from musicmtl.papers.pase import experiment
from musicmtl.papers.pase.experiment import (
    ALL,
    BEST,
    SETS,
    SWITCHES,
    WEIGHTINGS,
    Encoder,
    Probe,
    Protocol,
    Reading,
    Settings,
    Trial,
    prepare,
    read,
    recipe,
    scenario_of,
    scores,
    spread,
    stages,
    trials,
)
from musicmtl.papers.pase.model import SCALES, WORKERS, Downstream, PASEPlus, _orders, load_encoder, train_heads
from musicmtl.study import Results, interval, kept_arrays, one_core, resolve, run_id, run_jobs, training_id

TINY = {
    "openmic_s": 1.0,
    "ballroom_s": 1.0,
    "fma_s": 1.0,
    "folder_s": 1.0,
    "pool_clips": 18,
    "valid_clips": 2,
    "clip_s": 1.0,
    "emb_dim": 8,
    "width_divisor": 32,
    "epochs": 2,
    "batch_size": 4,
    "trials": 2,
    "head_rounds": 4,
    "tune_rounds": 2,
    "n_jobs": 1,
}
EQUAL = Encoder(recipe(f"paseplus_equal_{ALL}"), "train", 0)


def tones(artist, track, seconds, sr=16000):
    "A track that sounds like its artist: a chord of its own, in a rhythm of its own."
    time, rng = np.arange(int(seconds * sr)) / sr, generator("tones", artist, track)
    chord = 0
    for hz in (110 * 1.3**artist, 165 * 1.3**artist):
        chord = chord + np.sin(2 * np.pi * hz * (1 + 0.01 * rng.normal()) * time)
    beats = 0.6 + 0.4 * np.sign(np.sin(2 * np.pi * (2 + artist) * time))
    return (0.2 * chord * beats + 0.01 * rng.normal(size=len(time))).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Four artists with five tracks of four seconds, and tracks that are at fault."
    root, rows = tmp_path_factory.mktemp("corpus") / "music", []
    root.mkdir()
    for artist in range(4):
        for track in range(5):
            name = f"{artist}-{track}"
            sf.write(root / f"{name}.wav", tones(artist, track, 4.0), 16000)
            rows.append({"track_id": name, "path": f"{name}.wav", "artist": f"artist {artist}"})
    sf.write(root / "short.wav", tones(0, 9, 0.5), 16000)
    sf.write(root / "silent.wav", np.zeros(4 * 16000, np.float32), 16000)
    sf.write(root / "rare.wav", tones(5, 9, 4.0), 16000)
    rows += [{"track_id": name, "path": f"{name}.wav", "artist": "artist 1"} for name in ("short", "silent")]
    rows.append({"track_id": "rare", "path": "rare.wav", "artist": "artist 5"})
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(scope="module")
def settings(folder):
    return Settings(
        **TINY,
        corpus="folder",
        root=str(folder),
        cuts=2,
        variants=("untrained", f"paseplus_equal_{ALL}", BEST),
        trained=("paseplus_supervised", f"{BEST}_finetuned"),
        budgets=(8,),
    )


@pytest.fixture(scope="module")
def data(settings):
    return prepare(settings)


@pytest.fixture(scope="module")
def root(data, settings, tmp_path_factory):
    "Folder of all jobs, done."
    root = tmp_path_factory.mktemp("jobs")
    for words, jobs in stages(data, settings).items():
        run_jobs(jobs, data, settings, root, words)
    return root


# Settings


def test_names():
    for weighting in WEIGHTINGS:
        for workers in SETS:
            for targets in ("", "_raw", "_unit"):
                name = f"paseplus_{weighting}_{workers}{targets}"
                assert recipe(name).name == name and scenario_of(name) == ("frozen", recipe(name))
    assert Trial(Protocol.corrected, BEST, "fma", 40, 0).label == f"{BEST}_fma_labels_40"
    assert {protocol.name for protocol in Protocol.ends()} == {"published", "corrected"}
    assert set(SWITCHES) == {"split", "pool"}


@pytest.mark.parametrize(
    "variant",
    [
        "pase",
        "paseplus_equal",
        "paseplus_equal_WLPX",
        "lstm_equal_WLP",
        "paseplus_best_WLP",
        "features_finetuned",
        "untrained_finetuned",
    ],
)
def test_variants_that_stand_for_nothing(variant):
    with pytest.raises(ParamsError, match="variant: expected"):
        scenario_of(variant)
    with pytest.raises(ParamsError, match="variant: expected"):
        Settings(trained=(variant,))


def test_a_clip_shorter_than_what_the_encoder_sees(folder):
    with pytest.raises(ParamsError, match="clip_s: expected whole frames of 10 ms, at least 0.148 s, found 0.1 s"):
        Settings(clip_s=0.1)
    with pytest.raises(ParamsError, match="crop_s: expected whole frames of 10 ms, at least 0.148 s, found 0.205 s"):
        Settings(crop_s=0.205)
    message = "wave: expected clips of at least the receptive field, 2370 samples, found 1600"
    with pytest.raises(ParamsError, match=message):
        PASEPlus(8, width_divisor=32)(torch.zeros(1, 1600))
    with pytest.raises(CorpusError, match="a task needs 10"):
        prepare(Settings(**{**TINY, "folder_s": 9.0}, corpus="folder", root=str(folder)))


@pytest.mark.parametrize("preset", ["smoke", "mini", "claims", "paper"])
def test_presets_name_what_there_is(preset):
    settings = resolve(Settings, "pase", {"preset": preset})
    assert {BEST, "features", "untrained"} <= set(settings.frozen)
    assert "paseplus_supervised" in settings.trained
    assert (f"{BEST}_finetuned" in settings.trained) == (preset != "mini")  # which has no time for it
    every = {f"paseplus_{weighting}_{workers}" for weighting in ("equal", "reweighted") for workers in SETS}
    if preset in ("claims", "paper"):
        assert every <= set(settings.frozen)
        assert settings.seeds >= 3 and {"gradnorm_ema", "uncertainty", "upgrad"} <= set(settings.balancers)
        assert settings.epochs * settings.steps_per_epoch >= 2000


def test_the_run_of_the_committed_tables_keeps_its_name():
    "The hash of all settings: a field that is renamed, or gets another default, gives the tables another run."
    assert run_id("pase", resolve(Settings, "pase", {"preset": "smoke"})) == "4a510fed32"


def test_networks_are_shared_by_runs_that_train_alike():
    "Another seed of the split draws other clips; other variants and other numbers of trainings do not."
    base = Settings(**TINY)
    assert training_id(base) == training_id(replace(base, variants=("features",), trained=("pase_supervised",)))
    assert training_id(base) == training_id(replace(base, seed=1)) != training_id(replace(base, split_seed=1))


@pytest.mark.parametrize(
    "params, message",
    [
        ({"corpus": "datasets"}, "root: corpus 'datasets' needs the folder that holds it"),
        (
            {"corpus": "datasets", "root": "."},
            "expected at least one of the folders openmic, ballroom, fma, found none",
        ),
    ],
)
def test_impossible_data_sets_get_one_sentence(tmp_path, params, message):
    if params.get("root") == ".":
        params = {**params, "root": str(tmp_path)}
    with pytest.raises((ParamsError, CorpusError), match=message) as error:
        prepare(Settings(**TINY, **params))
    assert "\n" not in str(error.value)


# Clips


def test_silence_has_targets_and_an_embedding():
    "No frame is voiced, nothing is NaN."
    found = experiment.ClipBank(tuple(WORKERS))(torch.zeros(1, 16000))
    assert all(x.isfinite().all() for x in found.values()) and set(found) == {"wave", *WORKERS} - {"waveform"}
    np.testing.assert_allclose(found["prosody"][0, 3], np.log(65.41), atol=1e-3)
    assert PASEPlus(8, width_divisor=32).eval()(torch.zeros(1, 16000)).isfinite().all()


def test_what_is_left_out_is_noted(data):
    notes = "\n".join(data.notes)
    for words in (
        "short is left out: 0.50 s, a clip has 1",
        "silent is silent",
        "silent clips are left out of pre-training",
        "with fewer than three tracks is left out: artist 5 (1)",
    ):
        assert words in notes, notes
    used = set(data.targets["artist"].corpus.table.track_id)
    assert "silent" in used and not used & {"short", "rare"}


def test_the_encoder_never_hears_what_is_tested(data):
    "Under `corrected`; under `published` it does."
    target = data.targets["artist"]
    test = set(target.corpus.table.track_id[target.track[target.parts("artist")["test"]]])
    heard = {}
    for name, pool in data.pools.items():
        heard[name] = {track.partition(" from ")[0] for track in pool.store.index.track_id}
    assert test and not test & heard["train"] and test <= heard["all"] | {"silent"}
    assert [data.pool_of(protocol) for protocol in Protocol.ends()] == ["all", "train"]


def test_artists_are_told_apart_on_albums_that_were_not_heard(data):
    "Wherever each artist has three, so that no part need be without them."
    target = data.targets["artist"]
    table = target.corpus.table.sort_values(["artist", "track_id"])
    number = table.groupby("artist").cumcount()
    for n, by in ((2, "track"), (3, "album")):
        albums = (table.artist + " " + (number % n).astype(str)).sort_index()
        known = replace(target, corpus=target.corpus.with_table(target.corpus.table.assign(album=albums)))
        assert known.split_by("artist") == by and known.split_by("track") == "track"
    heard = {part: set(albums.to_numpy()[known.track[clips]]) for part, clips in known.parts("artist").items()}
    assert sum(map(len, heard.values())) == len(set.union(*heard.values())) == 12
    assert target.split_by("artist") == "track"


@pytest.fixture(scope="module")
def commons(folder, tmp_path_factory):
    "The folder's tracks, of which two cuts, each a track of an artist of its own, share a genre; half have none."
    root, rows = tmp_path_factory.mktemp("commons") / "music", []
    root.mkdir()
    for artist in range(18):
        for track in range(2):
            name = f"{artist}-{track}"
            sf.write(root / f"{name}.wav", tones(artist % 4, track, 4.0), 16000)
            genre = {"genre": f"genre {artist % 2}"} if artist < 12 else {}
            rows.append({"track_id": name, "path": f"{name}.wav", "artist": f"artist {artist}", **genre})
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.mark.long
def test_genres_of_recordings_are_tested_in_folds_and_never_heard(commons, monkeypatch, tmp_path):
    "Whole artists at a time, until every track has been tested once; pre-training hears artists without a genre."
    plain = experiment.load_corpus
    monkeypatch.setattr(experiment, "load_corpus", lambda name, *how, **more: plain("folder", *how, **more))
    settings = Settings(**TINY, corpus="commons", root=str(commons), cuts=2, folds=3, protocol="corrected")
    data = prepare(settings)
    target = data.targets["genre"]
    tested = [target.parts("artist", fold)["test"] for fold in range(3)]
    assert sorted(np.concatenate(tested)) == list(range(len(target))) and len(target) == 48
    artists = [set(target.corpus.table.artist.iloc[target.track[test]]) for test in tested]
    assert not artists[0] & artists[1] and not artists[1] & artists[2]
    heard = {track.partition("-")[0] for track in data.pools["train"].store.index.track_id}
    assert heard == {str(artist) for artist in range(12, 18)}
    for words, jobs in stages(data, replace(settings, variants=("untrained",), balancer="equal")).items():
        run_jobs(jobs, data, settings, tmp_path, words)
    readings = read(
        data, replace(settings, variants=("untrained",), balancer="equal"), Results(data, settings, tmp_path)
    )
    for reading in readings:
        assert reading.probabilities.shape[1:] == (48, 2)
        assert (reading.y == target.answers[target.tested("artist")]).all()


def test_cuts_of_a_track_stay_together(data):
    target = data.targets["artist"]
    assert len(target) == 2 * len(target.corpus)
    assert target.split_by("artist") == target.split_by("track") == "track"  # Artists are the answer
    parts = target.parts("artist")
    for part, other in (("train", "valid"), ("train", "test"), ("valid", "test")):
        assert not set(target.track[parts[part]]) & set(target.track[parts[other]])
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(target)))
    assert (target.start % 160 == 0).all()
    assert (target.start + target.length <= target.store.frames("wave")[target.track]).all()


def test_artists_are_on_two_sides_only_where_it_is_published():
    settings = Settings(**TINY)
    dances, _ = experiment.make_target("ballroom", experiment.open_sources(settings)["ballroom"], settings)
    artist = dances.corpus.table.artist.to_numpy()[dances.track]
    for split, leaks in (("artist", False), ("track", True)):
        parts = dances.parts(split)
        assert bool(set(artist[parts["train"]]) & set(artist[parts["test"]])) == leaks


def test_cuts_are_drawn_anew_each_epoch_and_the_same_again(data):
    target = data.targets["artist"]
    cut = target.clips(crop=8000)
    sampler, waves = EpochBatches(len(cut), 4, data=cut), []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        waves.append(cut[np.arange(6)][0])
    assert torch.equal(waves[0], waves[2]) and not torch.equal(waves[0], waves[1]) and waves[0].shape == (6, 8000)


def test_data_sets_in_their_published_layouts(tmp_path):
    "A folder each for AudioSet and Extended Ballroom; those that are not there are not asked for."
    for dance in sorted(BALLROOM):
        (tmp_path / "ballroom" / dance).mkdir(parents=True)
        for track in range(4):
            file = tmp_path / "ballroom" / dance / f"{len(dance)}{ord(dance[0])}{track}.wav"
            sf.write(file, tones(len(dance) % 5, track, 1.5), 16000)
    (tmp_path / "audioset").mkdir()
    lines = ["# YTID, start_seconds, end_seconds, positive_labels"]
    lines += [f'clip{clip}, 0.000, 10.000, "{MUSIC}"' for clip in range(14)]
    (tmp_path / "audioset" / "unbalanced_train_segments.csv").write_text("\n".join(lines) + "\n")
    for clip in range(12):
        sf.write(tmp_path / "audioset" / f"clip{clip}_0.wav", tones(clip % 5, clip, 2.0), 16000)
    few = Settings(**{**TINY, "pool_clips": 10}, corpus="datasets", root=str(tmp_path))
    with pytest.warns(UserWarning, match="2 of 14 clips of music are not in"):
        data = prepare(few)
    enough = "expected 20 clips to pre-train and validate on, found fewer: unbalanced_train_segments.csv has 12 clips"
    with pytest.warns(UserWarning, match="2 of 14"), pytest.raises(CorpusError, match=enough):
        prepare(replace(few, pool_clips=18))
    with pytest.raises(CorpusError, match="no table of segments, expected .*balanced_train_segments.csv"):
        prepare(replace(few, segments="balanced_train_segments.csv"))
    assert list(data.targets) == ["ballroom"] and data.name == "datasets" and list(data.pools) == ["train"]
    dances = data.targets["ballroom"]
    assert len(dances.classes) == 9 and dances.split_by("artist") == "track"  # Its files name no artist
    assert len(data.pools["train"].train) + len(data.pools["train"].valid) == 12


# Pre-training


def test_targets_kept_and_computed_on_the_way_teach_the_same(data, settings):
    pool, losses = data.pools["train"], {}
    for targets in ("kept", "device"):
        how = replace(settings, targets=targets)
        module = experiment.pretraining(data, how, EQUAL, None)
        clips = experiment.pool_clips(pool, how, EQUAL, "train")
        x, y = module.on_after_batch_transfer(clips[np.arange(4)], 0)
        losses[targets] = module.losses(module.net(x), y).detach()
    torch.testing.assert_close(losses["kept"], losses["device"], rtol=1e-4, atol=1e-5)


def test_targets_of_a_cut_are_those_of_the_clip(data, settings):
    "Whether kept or computed on the device; the clips that validate have theirs from the store."
    pool, cuts = data.pools["train"], replace(settings, chunk_s=0.5)
    found = {}
    for targets in ("kept", "device"):
        how = replace(cuts, targets=targets)
        pool, _ = experiment.make_pool(experiment.cut_clips(*_places(data, settings)), how)
        module = experiment.pretraining(replace(data, pools={"train": pool}), how, EQUAL, None)
        clips = experiment.pool_clips(pool, how, EQUAL, "train")
        found[targets] = module.on_after_batch_transfer(clips[np.arange(4)], 0)
        assert set(WORKERS) - {"waveform"} <= set(pool.valid_store.features)
        x, given = experiment.pool_clips(pool, how, EQUAL, "valid")[np.arange(2)]
        assert x.shape == (2, 16000) and len(given) == 5
    torch.testing.assert_close(found["kept"][0], found["device"][0])
    torch.testing.assert_close(found["kept"][1], found["device"][1], rtol=1e-3, atol=1e-3)


def _places(data, settings):
    "Arguments of `cut_clips` for the folder's tracks."
    target = data.targets["artist"]
    return target.corpus, target.store.frames("wave") / 16000, np.arange(len(target.corpus)), settings


def test_half_precision_and_targets_on_the_device(data, settings, tmp_path):
    "As preset `paper` trains."
    how = replace(settings, precision="bf16-mixed", targets="device", epochs=1)
    found = EQUAL.result(data, how, tmp_path)
    assert found["valid"].shape == (1, 6) and np.isfinite(found["valid"]).all()
    assert np.isfinite(found["embedding_artist"]).all()


def test_learning_rates_fall_as_stated(data, settings, tmp_path):
    "Encoder and workers from their own rate, as a power of what is left (PASE+'s schedule)."
    job = Encoder(recipe("paseplus_equal_WLP"), "train", 0)
    module = experiment.pretraining(data, replace(settings, lr=0.01, worker_lr=0.002, decay=0.9), job, None)
    rates = []
    module._record = lambda losses, log, counts: rates.append(
        [group["lr"] for group in module.optimizers().param_groups]
    )
    clips = experiment.pool_clips(data.pools["train"], settings, job, "train")
    fit(module, clips, epochs=3, steps_per_epoch=2, batch_size=4, root=tmp_path, device="cpu")
    np.testing.assert_allclose(rates, np.outer((1 - np.arange(6) / 6) ** 0.9, [0.01, 0.002]))


def test_reweighting_starts_from_the_equal_run(data, settings, root):
    for pool in ("train", "all"):
        job = Encoder(recipe(BEST), pool, 0)
        equal, own = (which.result(data, settings, root) for which in (job.waits_for, job))
        np.testing.assert_allclose(own["weight"], np.tile(1 / equal["valid"].mean(0), (2, 1)), rtol=1e-5)


def test_a_checkpoint_of_another_encoder_is_refused(root):
    message = r"expected PASEPlus\(emb_dim=9, width_divisor=32\), found PASEPlus\(emb_dim=8, width_divisor=32\)"
    with pytest.raises(RunError, match=message):
        load_encoder(EQUAL.weights_file(root), PASEPlus(9, width_divisor=32))


# Jobs


@pytest.mark.long
def test_a_job_that_needs_another_does_it_first(data, settings, root, tmp_path):
    "Asked for alone, a probe of a re-weighted encoder trains both encoders, to the same arrays."
    probe = Probe(Encoder(recipe(BEST), "train", 0), "artist", "artist", None)
    with one_core(quiet=True):  # as in the study: sums over threads would round in another order
        found = probe.result(data, settings, tmp_path)
    assert {file.parent.name for file in tmp_path.glob("*/result.npz")} == {
        probe.name,
        probe.encoder.name,
        probe.encoder.waits_for.name,
    }
    np.testing.assert_array_equal(found["probabilities"], probe.result(data, settings, root)["probabilities"])


def test_what_is_kept_of_a_job_is_read_and_not_made_again(data, settings, root, monkeypatch):
    for jobs in stages(data, settings).values():
        for job in jobs:
            monkeypatch.setattr(type(job), "train", None)
            assert job.result(data, settings, root).keys() == kept_arrays(job.folder(root) / "result.npz", None).keys()


def test_stages_are_in_an_order_that_can_be_done(data, settings):
    found = stages(data, settings)
    assert list(found) == ["encoders", "encoders, re-weighted", "encoders that learn a task", "linear layers"]
    encoders = set(found["encoders"])
    assert {job.waits_for for job in found["encoders, re-weighted"]} <= encoders
    encoders |= set(found["encoders, re-weighted"])
    tuned = [job for job in found["encoders that learn a task"] if job.variant.endswith("_finetuned")]
    assert tuned and {job.encoder for job in tuned + found["linear layers"]} <= encoders


def test_protocols_share_jobs_that_their_difference_does_not_reach(data, settings):
    "Artists are split by track under both, so only the pool differs, and a supervised encoder hears no pool."
    published, corrected = (Trial(protocol, BEST, "artist", None, 0) for protocol in Protocol.ends())
    assert [job.encoder.pool for trial in (published, corrected) for job in trial.jobs(data, settings)] == [
        "all",
        "train",
    ]
    supervised = [replace(trial, variant="paseplus_supervised") for trial in (published, corrected)]
    assert supervised[0].jobs(data, settings) == supervised[1].jobs(data, settings)


def test_fine_tuning_changes_the_encoder_and_freezing_does_not(data, settings, root):
    learners = stages(data, settings)["encoders that learn a task"]
    learner = next(job for job in learners if job.variant.endswith("_finetuned"))
    file = learner.encoder.weights_file(root)
    before, module = load_encoder(file).state_dict(), experiment.learner_module(data, settings, learner, root)
    for name, value in module.net.encoder.state_dict().items():
        torch.testing.assert_close(value, before[name])
    assert module.net.encoder.training
    for scenario, moves in (("finetuned", True), ("frozen", False)):
        net = Downstream(load_encoder(file), 4, scenario).train()
        optimizer = torch.optim.Adam(net.parameters(), lr=0.01)
        net(torch.from_numpy(tones(0, 0, 1.0)).expand(2, -1)).square().sum().backward()
        optimizer.step()
        same = all(torch.equal(value, before[name]) for name, value in net.encoder.state_dict().items())
        assert same != moves


# Readings


def test_all_trials_are_read(data, settings, root):
    readings = read(data, settings, Results(data, settings, root))
    assert [reading.trial for reading in readings] == trials(data, settings)
    labels = {(reading.trial.protocol.name, reading.trial.label) for reading in readings}
    assert (
        len(labels) == len(readings)
        and {
            ("corrected", f"{BEST}_artist"),
            ("published", f"{BEST}_artist"),
            ("corrected", f"{BEST}_finetuned_artist_labels_8"),
            ("corrected", "paseplus_supervised_artist"),
        }
        <= labels
    )
    target, parts = data.targets["artist"], data.targets["artist"].parts("artist")
    for reading in readings:
        trial = reading.trial
        n_trials = {"frozen": settings.trials, "constant": 1}.get(trial.scenario, settings.tune_trials)
        assert reading.probabilities.shape == (n_trials, len(parts["test"]), 4)
        np.testing.assert_allclose(reading.probabilities.sum(-1), 1, atol=1e-5)
        assert (reading.y == target.answers[parts["test"]]).all()
        assert len(reading.train) == (trial.n or len(parts["train"]))
        if trial.scenario == "constant":
            assert not reading.learning_curves()
            continue
        assert (reading.losses is None) != trial.encoder(data).recipe.pretrained
        rounds = settings.head_rounds if trial.scenario == "frozen" else settings.tune_rounds
        assert [[len(train), len(valid)] for _, train, valid in reading.curves] == [[rounds, rounds]]
        assert reading.losses is None or set(reading.explained()) == set(reading.losses["workers"])
        value, low, high = interval(scores(data, settings, reading)["macro_f1"])
        assert 0 <= low <= value <= high <= 1


@pytest.mark.parametrize("protocol, learning", [("published", True), ("both", False)])
def test_published_encoders_that_learn_are_trained_where_asked_for(data, settings, protocol, learning):
    "Under `published` alone all of `trained`; beside `corrected` those of `published_trained`."
    supervised = Trial(Protocol.published, "paseplus_supervised", "artist", None, 0)
    assert (supervised in trials(data, replace(settings, protocol=protocol))) == learning
    more = replace(settings, protocol="both", published_trained=("paseplus_supervised",))
    assert supervised in trials(data, more)


def test_encoders_learn_in_as_many_steps_at_every_budget(data, settings, root):
    steps = {}
    for job in stages(data, settings)["encoders that learn a task"]:
        if job.variant == "paseplus_supervised":
            kept = torch.load(job.folder(root) / "network" / "final.ckpt", weights_only=False)
            steps[job.n] = kept["global_step"]
    n = len(data.targets["artist"].parts("artist")["train"])
    assert steps == dict.fromkeys((None, 8), settings.tune_rounds * (n // settings.tune_batch))


def test_linear_layers_learn_in_as_many_steps_at_every_budget(data, settings, root, monkeypatch):
    asked, settings = {}, replace(settings, head_batch=8)

    def trained(task, train, valid, **options):
        asked[len(train[0])] = options["steps_per_epoch"]
        return train_heads(task, train, valid, **options)

    monkeypatch.setattr(experiment, "train_heads", trained)
    for n in (None, 8):
        Probe(EQUAL, "artist", "artist", n).train(data, settings, root)
    n = len(data.targets["artist"].parts("artist")["train"])
    assert asked == {n: n // 8, 8: n // 8} and n // 8 > 1


@pytest.mark.parametrize("n", [5, 20, 40])
def test_few_clips_are_seen_more_often(n):
    batches = _orders(0, 3, 2, n, 20, 4)
    assert batches.shape == (4, 3, min(n, 20))
    for trial in range(3):
        seen = np.bincount(batches[:, trial].flatten(), minlength=n)
        assert seen.max() - seen.min() <= 1 and (batches[0, trial].unique().numel() == min(n, 20))


def test_an_epoch_of_heads_is_what_it_was_where_all_clips_are_used():
    order = np.stack([generator(1, "order", trial, 3).permutation(50) for trial in range(2)])
    assert torch.equal(_orders(1, 2, 3, 50, 20, 2)[1], torch.from_numpy(order[:, 20:40]))


@pytest.mark.parametrize("scale", SCALES)
def test_a_worker_that_says_the_mean_explains_nothing(data, settings, tmp_path, scale):
    "The loss of a constant answer by hand, and the encoder's own losses beside it."
    job = Encoder(replace(EQUAL.recipe, scale=scale), "train", 0)
    module = experiment.pretraining(data, settings, job, tmp_path)
    clips = experiment.pool_clips(data.pools["train"], settings, job, "valid")
    found = dict(zip([task.name for task in module.tasks], experiment.constant_losses(module, clips, 1), strict=True))
    wave, given = clips[np.arange(len(clips))]
    assert found["waveform"] == pytest.approx(float(wave.abs().mean()), rel=1e-5)
    mean, unit = module.stats["mfcc"]
    error = (given[2] - mean[:, None]) / (1 if scale == "raw" else unit[:, None])
    assert found["mfcc"] == pytest.approx(float(error.square().mean()), rel=1e-4)


def test_what_workers_explain_and_how_losses_fell():
    "R² by epoch; curves are those of what trained the encoder last."
    losses = {
        "workers": np.array(["lps", "mfcc"]),
        "constant": np.array([2.0, 4.0]),
        "valid": np.array([[2.0, 5.0], [1.0, 1.0]]),
        "weight": np.array([[1.0, 2.0]] * 2),
    }
    trial = Trial(Protocol.corrected, BEST, "ballroom", None, 0)
    reading = Reading(trial, np.zeros((1, 2, 2)), np.arange(2), np.array(["a", "b"]), np.arange(2), losses)
    assert {worker: list(share) for worker, share in reading.explained().items()} == {
        "lps": [0.0, 0.5],
        "mfcc": [-0.25, 0.75],
    }
    assert [list(curve) for curve in reading.learning_curves()] == [[10.0, 12.0, 3.0]]  # Constant answers, two epochs
    tuned = replace(trial, variant=f"{BEST}_finetuned")
    layers = replace(reading, curves=(("encoder and layer", [2.0, 1.0], [1.0, 0.5]),))
    assert replace(layers, trial=tuned).learning_curves() == [[1.0, 0.5]]
    assert [list(curve) for curve in layers.learning_curves()] == [[10.0, 12.0, 3.0]]  # A layer trains no encoder
    assert replace(reading, losses=None).learning_curves() == []


def test_scores_of_trials():
    "Mean over trials; the spread is theirs; a sure answer has no interval."
    y, group = np.tile(np.arange(4), 10), np.repeat([f"artist {i}" for i in range(10)], 4)
    right, wrong = np.eye(4)[y], np.eye(4)[(y + 1) % 4]
    trial = Trial(Protocol.corrected, BEST, "ballroom", None, 0)
    reading = Reading(trial, np.stack([right, wrong]), y, group, y, None)
    assert interval(scores(None, None, reading)["macro_f1"]) == (0.5, 0.5, 0.5)
    assert scores(None, None, reading)["n_groups"] == 10
    assert spread(reading) == pytest.approx(np.std([1, 0], ddof=1))
    sure = replace(reading, probabilities=right[None])
    assert interval(scores(None, None, sure)["macro_f1"]) == (1.0, 1.0, 1.0) and np.isnan(spread(sure))


def test_an_artist_weighs_the_same_in_every_test():
    "Whoever else is tested, in whichever order."
    trial = Trial(Protocol.corrected, BEST, "ballroom", None, 0)

    def weights(*names):
        n = len(names)
        reading = Reading(trial, np.zeros((1, n, 2)), np.zeros(n, int), np.array(names), np.arange(n), None)
        return experiment.clip_weights(reading)

    one, other = weights("a", "b", "b", "c"), weights("c", "d", "a")
    assert np.array_equal(one[:, 1], one[:, 2])
    np.testing.assert_allclose(one[:, 0] / one[:, 3], other[:, 2] / other[:, 0])


def test_answers_at_random(data):
    "By chance a class is named rightly as often as it occurs."
    target, parts = data.targets["artist"], data.targets["artist"].parts("artist")
    assert experiment.at_random(target, parts) == pytest.approx(1 / len(target.classes))
    y = np.array([[1, 0], [1, np.nan], [0, 1], [np.nan, 0]])
    several = SimpleNamespace(answers=y, several=True, classes=("a", "b"))
    both = {"train": np.arange(4), "test": np.arange(4)}
    assert experiment.at_random(several, both) == pytest.approx((2 / 3 + 1 / 3) / 2)


def test_a_constant_answer(data):
    "The most frequent class of the training clips; by hand."
    target, parts = data.targets["artist"], data.targets["artist"].parts("artist")
    train, y = target.answers[parts["train"]], target.answers[parts["test"]]
    named = np.bincount(train).argmax()
    precision = (y == named).mean()
    assert experiment.constant(target, parts) == pytest.approx(2 * precision / (1 + precision) / len(set(y)))


@pytest.mark.parametrize("preset", ["mini", "claims", "commons"])
def test_weights_of_gradnorm_can_move_as_far_in_every_preset(preset):
    "Its rate times the steps is 3, as in the other studies."
    settings = resolve(Settings, "pase", {"preset": preset, "root": "music"})
    steps = settings.epochs * settings.steps_per_epoch
    assert steps >= 2000 and settings.gradnorm_lr * steps == pytest.approx(3, rel=0.1)


def test_l0_from_classes_is_refused_where_workers_have_none():
    with pytest.raises(ParamsError, match="workers predict features"):
        Settings(balancers=("gradnorm_log_classes",))
