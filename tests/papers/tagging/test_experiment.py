"""The tagging experiment: corpora and parts, jobs and schedules, trainings, scores and tables."""

import os
import pickle
import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given
from hypothesis import strategies as st
from tagged import SR, reading, smoke, sound, track, write_magnatagatune

from musicmtl.core import CorpusError, ParamsError, RunError, generator
from musicmtl.metrics import average_precision, fold_ranks, multilabel_recall, ranks, roc_auc
from musicmtl.papers.tagging.claims import REPORT_STEPS, paper_values
from musicmtl.papers.tagging.experiment import (
    EMBEDDINGS,
    KS,
    PAIRS,
    RECIPES,
    SWITCHES,
    NetworkJob,
    Protocol,
    VectorJob,
    clip_corpus,
    fresh,
    learning,
    macro_over,
    mean_by_tag,
    network_job,
    prepare,
    pretraining,
    protocols_of,
    query_recalls,
    recipe,
    schedule_of,
    scores,
    sizes,
    stages,
    steps_of,
    tasks_of,
    trials,
)
from musicmtl.papers.tagging.metric import NOTIONS, MetricTask, cosine_matrix, published_recall
from musicmtl.papers.tagging.model import FRAMES, TAGS, tag_scores
from musicmtl.papers.tagging.tagger import load_net, make_net, save_net
from musicmtl.study import interval, published


@pytest.fixture(scope="module")
def settings():
    return smoke()


@pytest.fixture(scope="module")
def data(settings):
    return prepare(settings)


# Corpora


def test_nobody_hears_what_is_tested(data, settings, folder):
    of_folder = prepare(replace(settings, corpus="folder", root=str(folder)))
    for one in (data, of_folder):
        artist = one.corpus.labels("artist").codes[one.clips.rows]
        train, valid, test, pool, leak = (set(one.parts[part]) for part in ("train", "valid", "test", "pool", "leak"))
        assert not train & valid and not valid & test
        assert train <= pool and not pool & (valid | test) and leak == pool | test
        assert not set(artist[list(pool)]) & set(artist[list(test)])
    assert set(data.parts["train"]) < set(data.parts["pool"]) and data.classes == TAGS


def test_a_long_track_of_a_folder_gives_several_clips(settings, folder):
    data = prepare(replace(settings, corpus="folder", root=str(folder)))
    long = [clip for clip, row in enumerate(data.clips.rows) if data.corpus.table.title[row].endswith("-0")]
    assert len(long) == 24 and len(data.clips) == len(data.corpus) + 12
    words = {"flute", "guitar", "fast", "slow", "loud", "soft", "rock", "classical", "drums"}
    assert set(data.classes) == words and data.has_notions


def test_what_cannot_be_used_is_named_and_does_not_stop_the_study(settings, folder, tmp_path):
    table = pd.read_csv(folder / "tracks.csv")
    for name in table.path:
        os.link(folder / name, tmp_path / name)
    faults = ("text.mp3", "cut.wav", "silent.wav", "short.wav", "plain.wav")
    (tmp_path / "text.mp3").write_text("these are not sounds\n" * 50)
    good = (folder / "0-1.wav").read_bytes()
    (tmp_path / "cut.wav").write_bytes(good[: len(good) // 3])
    sf.write(tmp_path / "silent.wav", np.zeros(int(6.5 * SR), np.float32), SR)
    sf.write(tmp_path / "short.wav", sound(99, ["flute"], 4.0), SR)
    sf.write(tmp_path / "plain.wav", sound(98, ["flute"]), SR)
    rows = [track(file.partition(".")[0], file, "artist 1", ["flute", "slow"]) for file in faults]
    rows[-1]["tags"] = ""
    pd.concat([table, pd.DataFrame(rows)]).to_csv(tmp_path / "tracks.csv", index=False)
    data = prepare(replace(settings, corpus="folder", root=str(tmp_path)))
    for name, why in (
        ("text", "left out"),
        ("cut", "truncated"),
        ("short", "4.00 s, a clip has 6"),
        ("silent", "is silent"),
        ("1 tracks", "without tags"),
    ):
        assert any(name in note and why in note for note in data.notes), data.notes
    assert len(data.corpus) == 49  # the silent one stays


@pytest.mark.parametrize(
    "given, message",
    [
        ({"corpus": "magnatagatune"}, "root: corpus 'magnatagatune' needs the folder that holds it"),
        ({"size": "huge"}, "size: expected one of smoke, mini, claims, paper, found 'huge'"),
        ({"recording": "gone.mp3"}, "recording: expected a sound file, found none at gone.mp3"),
    ],
)
def test_what_is_impossible_gets_one_sentence(settings, given, message):
    with pytest.raises(ParamsError, match=re.escape(message)) as error:
        prepare(replace(settings, **given))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "given, message",
    [
        ({"variants": ("musicnn_9",)}, "variant: expected one of .*, found 'musicnn_9'"),
        ({"clip_s": 2.5}, "clip_s: expected at least 3 s, found 2.5"),
        ({"places": 0}, "places: expected 1 or more, found 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings, given, message):
    with pytest.raises(ParamsError, match=message):
        replace(settings, **given)


def test_folders_without_tags_or_with_rare_ones(settings, folder, tmp_path):
    table = pd.read_csv(folder / "tracks.csv").iloc[:16]
    settings = replace(settings, corpus="folder", root=str(tmp_path))

    def prepared(rows):
        for name in rows.path:
            if not (tmp_path / name).exists():
                os.link(folder / name, tmp_path / name)
        rows.to_csv(tmp_path / "tracks.csv", index=False)
        return prepare(settings)

    with pytest.raises(CorpusError, match="no track has a value in column 'tags', which this study is about"):
        prepared(table.drop(columns="tags"))
    with pytest.raises(CorpusError, match="no tag is on four tracks, found"):
        prepared(table.assign(tags=[f"tag {i}" for i in range(16)]))
    with pytest.raises(CorpusError, match="9 of 9 tracks can be used, a study needs 10"):
        prepared(table.iloc[:9])
    unknown = table.assign(tags=["funk" if i % 2 else "soul|funk" for i in range(16)])  # words Table 5 does not have
    data = prepared(unknown)
    masked = [trial.job for trial in trials(data, settings) if recipe(trial.variant).disentangled]
    assert not data.has_notions and {job.recipe.kind for job in masked} == {"joint"}
    assert not any(getattr(task, "disentangled", False) for job in masked for task in tasks_of(data, job))


def test_genres_take_the_place_of_tags_where_a_folder_has_none(settings, folder, tmp_path):
    table = pd.read_csv(folder / "tracks.csv").drop(columns="tags")
    for name in table.path:
        if (folder / name).exists():
            os.link(folder / name, tmp_path / name)
    genre = table.groupby("artist").ngroup() % 2
    table.assign(genre=[("rock", "pop")[n] for n in genre]).to_csv(tmp_path / "tracks.csv", index=False)
    data = prepare(settings := replace(settings, corpus="folder", root=str(tmp_path), folds=3))
    assert data.classes == ("pop", "rock") and (data.Y.sum(1) == 1).all()
    assert "no track has tags: genres take their place" in data.notes
    table.assign(genres=[("rock|loud", "pop")[n] for n in genre]).to_csv(tmp_path / "tracks.csv", index=False)
    assert prepare(settings).classes == ("loud", "pop", "rock")
    with pytest.raises(CorpusError, match="nor a genre in its place.*found artist, title of"):
        table.to_csv(tmp_path / "tracks.csv", index=False)
        prepare(settings)


def test_parts_that_give_no_triplet_are_refused_before_anything_is_trained(settings, folder, tmp_path):
    table = pd.read_csv(folder / "tracks.csv").assign(tags="loud")  # which all clips have
    for name in table.path:
        if (folder / name).exists():
            os.link(folder / name, tmp_path / name)
    table.to_csv(tmp_path / "tracks.csv", index=False)
    expected = "expected a tag that two of the .* clips to train have and one has not, found none: more artists"
    with pytest.raises(CorpusError, match=expected):
        prepare(replace(settings, corpus="folder", root=str(tmp_path)))


def test_magnatagatune(settings, tmp_path):
    "The assignment's folders, and the pool of what the checkpoint was trained on."
    write_magnatagatune(tmp_path)
    settings = replace(settings, corpus="magnatagatune", root=str(tmp_path))
    sizes = {part: len(clips) for part, clips in prepare(settings).parts.items()}
    assert sizes == dict(train=20, valid=4, test=4, pool=48, leak=52)
    wide = prepare(replace(settings, split="clean"))
    assert {part: len(wide.parts[part]) for part in ("train", "valid", "test")} == dict(train=48, valid=4, test=12)
    assert "the training clips alone" in wide.notes[-1]


def test_artists_of_the_test_are_left_out_of_the_training_where_folders_share_them(settings, tmp_path):
    write_magnatagatune(tmp_path)
    table = pd.read_csv(tmp_path / "annotations_final.csv", sep="\t")
    for folder in "0d":  # one artist in a training folder and in the test's
        for path in table.mp3_path[table.mp3_path.str.startswith(f"{folder}/")][:2]:
            (tmp_path / path).rename(tmp_path / path.replace(f"artist_{folder}-", "both-"))
            table.loc[table.mp3_path == path, "mp3_path"] = path.replace(f"artist_{folder}-", "both-")
    table.to_csv(tmp_path / "annotations_final.csv", sep="\t", index=False)
    data = prepare(replace(settings, corpus="magnatagatune", root=str(tmp_path)))
    strict, loose = (data.divisions[split][0] for split in ("strict", "loose"))
    artist = data.corpus.table.artist.to_numpy()[data.clips.rows]
    assert data.is_loose and "both" in set(artist[loose["train"]]) and "both" in set(artist[strict["test"]])
    for part in ("train", "valid", "pool"):
        assert not set(artist[strict[part]]) & set(artist[strict["test"]])
    np.testing.assert_array_equal(strict["test"], loose["test"])
    assert any("2 training clips are left out" in note for note in data.notes)
    names = {trial.job.name for trial in trials(data, replace(settings, variants=("cnn1d",), balancers=()))}
    assert {"cnn1d-text-strict-0", "cnn1d-code-loose-0"} <= names


def test_all_tracks_of_a_folder_are_tested_once_over_its_folds(settings, folder):
    data = prepare(replace(settings, corpus="folder", root=str(folder), folds=4))
    tested = np.sort(np.concatenate([parts["test"] for parts in data.divisions["strict"]]))
    np.testing.assert_array_equal(tested, np.arange(len(data.clips)))
    artist = data.corpus.labels("artist").codes[data.clips.rows]
    for parts in data.divisions["strict"]:
        assert not set(artist[parts["train"]]) & set(artist[parts["test"]])
    with pytest.raises(ParamsError, match="folds: miniature is divided by its folders"):
        replace(settings, folds=4)


def test_neighbours_are_tested_by_the_same_network_and_of_other_tracks():
    Y = np.tile(np.eye(4, dtype=np.float32), (6, 1))  # 24 clips of four kinds
    E = np.tile(np.eye(4), (6, 1)) + 0.01 * generator("folds").normal(size=(24, 4))
    fold, track = np.arange(24) // 12, np.arange(24)
    E[fold == 1] = np.roll(E[fold == 1], 1, 1)  # another network's axes
    of_folds = replace(reading(Y, variant="embed_cnn", embeddings=E), fold=fold, track=track)
    assert scores(None, None, of_folds)["recall_at_1"][0] == 1
    assert scores(None, None, replace(of_folds, fold=None))["recall_at_1"][0] < 1
    twins = replace(of_folds, track=np.arange(24) % 12 // 2)  # two kinds a track: one's own has another tag
    assert "recall_at_8" in scores(None, None, twins)
    own = replace(of_folds, embeddings=np.repeat(np.eye(12), 2, 0), Y=np.repeat(np.eye(12), 2, 0), fold=None)
    own = replace(own, track=np.arange(24) // 2)  # clips of one track have all in common
    published = replace(own, trial=replace(own.trial, protocol=Protocol.corrected.with_("recall")))
    assert scores(None, None, own)["recall_at_1"][0] == 0 and scores(None, None, published)["recall_at_1"][0] == 1


def test_a_leak_is_asked_for_where_something_can_leak(data, settings):
    wanted = replace(settings, variants=("musicnn_8", "musicnn_8_leak"))
    assert "musicnn_8_leak" in {trial.variant for trial in trials(data, wanted)}
    given = replace(wanted, checkpoint="musicnn.pth")
    assert "musicnn_8_leak" not in {trial.variant for trial in trials(data, given)}


def test_clips_can_be_sent_to_a_worker(data):
    "They are read by row and sample in any process."
    again = pickle.loads(pickle.dumps(data.clips))
    assert torch.equal(again[2, 50:90], data.clips[2:3][0, :, 50:90])
    assert torch.equal(again[1:3], data.clips[1:3]) and again.shape == data.clips.shape
    assert torch.equal(again.of([1])[0, :5], data.clips[1, :5])


# Jobs


def test_recipes_are_the_rows_of_table_7():
    rows = [(row.net, row.disentangled, row.track) for row in EMBEDDINGS.values()]
    nets = ("LinearEmbedding", "CNNEmbedding", "MusicnnEmbedding")
    assert sorted(rows) == sorted((net, d, t) for net in nets for d in (False, True) for t in (False, True))
    plain = [name for name, row in EMBEDDINGS.items() if not row.normalize]
    linear = ["embed_linear", "embed_linear_track", "embed_linear_disentangled", "embed_linear_both"]
    assert plain == [*linear, "embed_cnn", "embed_musicnn"]
    for raw, unit in (("embed_cnn_raw", "embed_cnn_unit"), ("embed_musicnn_raw", "embed_musicnn_unit")):
        assert replace(PAIRS[raw], normalize=True) == PAIRS[unit] and PAIRS[raw].double
    assert all(row.up_to == 5 for name, row in RECIPES.items() if name.startswith("embed_musicnn"))


@pytest.mark.parametrize("preset", ["smoke", "mini", "claims", "paper"])
def test_every_trial_of_a_preset_has_a_job_that_comes_after_what_it_waits_for(data, preset):
    settings = smoke(preset=preset, **({"root": "mtt"} if preset == "paper" else {}))
    asked, jobs = list(trials(data, settings)), [job for stage in stages(data, settings).values() for job in stage]
    names = [job.name for job in jobs]
    assert len(names) == len(set(names)) and {trial.job.name for trial in asked} <= set(names)
    for place, job in enumerate(jobs):
        waits_for = [job.waits_for] if isinstance(job, NetworkJob) and job.waits_for else []
        if isinstance(job, NetworkJob) and job.on_vectors:
            waits_for.append(VectorJob.of(job))
        if isinstance(job, VectorJob):
            waits_for.append(pretraining(job))
        assert all(names.index(other.name) < place for other in waits_for)
    printed, of = {variant for variant, _ in paper_values()}, {p: set() for p in Protocol.ends()}
    for trial in (trial for trial in asked if trial.protocol in of):
        of[trial.protocol].add(trial.variant)
    longest = {"cnn2d_skeleton", "embed_cnn_track", "embed_cnn_both"}
    left_out = {"mini": longest, "claims": set(), "paper": set()}
    if preset in left_out:
        assert printed - of[Protocol.corrected] == left_out[preset]
    if preset == "paper":
        assert printed <= of[Protocol.published]
    assert {"chance", "band_statistics"} <= of[Protocol.corrected]


def test_no_stage_waits_for_itself_and_quick_jobs_are_last(data):
    at_once, vectors, waiting = stages(data, smoke(preset="claims")).values()
    assert not any(job.recipe.waits for job in at_once) and all(job.recipe.waits for job in waiting)
    assert {job.seed for job in vectors} == set(range(5))
    is_slow = [job.recipe.net not in ("CNN1D", "LinearEmbedding") and job.recipe.kind != "rival" for job in at_once]
    assert is_slow[0] and is_slow == sorted(is_slow, reverse=True)
    assert waiting[-1].on_vectors and not waiting[0].on_vectors


def test_seeds_and_single_mistakes_are_those_of_the_preset(data):
    mini = list(trials(data, smoke(preset="mini")))
    assert {trial.protocol for trial in mini} == set(Protocol.ends())
    claims = list(trials(data, smoke(preset="claims")))
    alone = {f"corrected-{switch}" for switch in SWITCHES if switch != "split"}  # Miniature's folders share no artists
    assert {trial.protocol.name for trial in claims} == {"published", "corrected", *alone}
    linear = [trial for trial in claims if trial.variant == "embed_linear_both"]
    assert {trial.seed for trial in linear if trial.protocol == Protocol.corrected} == set(range(5))
    assert {trial.seed for trial in linear if trial.protocol == Protocol.published} == set(range(3))
    fewest = {}
    for trial in claims:
        fewest.setdefault((trial.protocol, trial.variant), []).append(trial.seed)
    few = {variant for (_, variant), seeds in fewest.items() if len(seeds) < 3}
    assert {"band_statistics"} <= few <= {"band_statistics", "pretrained"}  # in which nothing is drawn
    one = list(trials(data, smoke(protocol="published")))
    assert {trial.protocol for trial in one} == {Protocol.published}


def test_switches_name_only_the_networks_that_they_change():
    def name(variant, *turned):
        return network_job(variant, Protocol.corrected.with_(*turned), 0).name

    assert name("cnn2d") == name("cnn2d", "mask", "norms", "recall") != name("cnn2d", "schedule")
    assert name("embed_cnn_track") == name("embed_cnn_track", "mask")
    assert name("embed_cnn_both") != name("embed_cnn_both", "mask")
    assert name("musicnn_7") != name("musicnn_7", "norms") and name("musicnn_0") == name("musicnn_0", "norms")
    assert name("embed_linear") != name("embed_linear", "passes") and name("joint_equal") == name(
        "joint_equal", "passes"
    )
    assert name("fcn") != name("fcn", "init") and name("embed_linear") == name("embed_linear", "init")
    for untouched in ("musicnn_8", "cnn1d_skeleton", "untrained_cnn"):
        assert name(untouched) == name(untouched, *SWITCHES)
    assert network_job("musicnn_8", Protocol.published, 0, is_loose=True).name == "musicnn_8-loose-0"
    assert {Protocol.corrected.with_(switch).name for switch in SWITCHES} == {f"corrected-{s}" for s in SWITCHES}
    with pytest.raises(ParamsError, match="norms: expected one of moving, kept, found 'frozen'"):
        Protocol(norms="frozen")


def test_schedules_are_the_reports_unless_a_preset_says_so():
    settings = smoke(preset="paper", root="mtt")

    def schedule(variant, protocol):
        return schedule_of(settings, network_job(variant, protocol, 0))

    code, text = schedule("cnn2d", Protocol.published), schedule("cnn2d", Protocol.corrected)
    assert (code.lr, code.epochs, code.factor, code.patience, code.restore) == (1e-2, 30, 0.1, 2, False)
    assert (text.lr, text.factor, text.patience, text.reductions, text.restore) == (1e-2, 0.5, 30, 4, True)
    code, text = schedule("embed_cnn", Protocol.published), schedule("embed_cnn", Protocol.corrected)
    assert (code.lr, code.epochs, code.restore) == (1e-3, 5, False)
    assert (text.factor, text.patience, text.reductions) == (0.5, 5, 2)
    skeleton = schedule("cnn1d_skeleton", Protocol.corrected)
    assert skeleton.nesterov and (skeleton.lr, skeleton.epochs) == (1e-3, 10)
    joint = schedule("joint_equal", Protocol.corrected)
    assert (joint.lr, joint.patience) == (1e-3, 5)


def test_variants_that_are_compared_have_the_same_number_of_steps_at_most():
    settings = smoke(preset="claims")

    def steps(variant, protocol):
        job = network_job(variant, protocol, 0)
        return steps_of(settings, job) * schedule_of(settings, job).epochs

    for variant, wanted in (("cnn2d", 750), ("embed_cnn_both", 420), ("musicnn_0", 300), ("joint_upgrad", 420)):
        assert steps(variant, Protocol.published) == steps(variant, Protocol.corrected) == wanted
    for protocol in Protocol.ends():
        assert steps("cnn1d_skeleton", protocol) == steps("cnn2d_skeleton", protocol) == REPORT_STEPS
    assert steps_of(smoke(preset="paper", root="mtt"), network_job("cnn2d", Protocol.corrected, 0)) is None


@pytest.mark.parametrize("preset", ["mini", "claims", "paper"])
def test_networks_have_the_reports_order_by_size(preset):
    settings = smoke(preset=preset, root="mtt" if preset == "paper" else None)
    found = sizes(replace(settings, linear_dim=256))  # 74 million numbers in the report
    order = ("1D-CNN", "FCN", "2D-CNN", "Musicnn-0")
    assert [found[name] for name in order] == sorted(found[name] for name in order)
    assert found["CNN embedding"] < found["Linear embedding"]
    printed = published("tagging").query("metric == 'parameters'").set_index("variant").paper_value.astype(int)
    if preset == "paper":
        assert [found[name] for name in order[:3]] == [printed[name] for name in order[:3]]
        assert found["Musicnn-0"] - printed["Musicnn-0"] == 10_050  # the report leaves out the last layer


@pytest.mark.parametrize("preset", ["mini", "claims"])
def test_embeddings_keep_64_dimensions_a_notion_and_no_layer_is_narrower_than_eight(preset):
    settings = smoke(preset=preset)
    assert settings.emb_dim == settings.linear_dim == 256 and settings.triplets >= 32
    for variant in ("cnn1d", "cnn2d", "fcn", "musicnn_scratch", "embed_cnn", "embed_musicnn", "joint_equal"):
        net = fresh(settings, recipe(variant), 50)
        assert min(module.out_channels for module in net.modules() if hasattr(module, "out_channels")) >= 8


@pytest.mark.parametrize("preset", ["mini", "claims"])
def test_gradnorm_moves_in_short_runs(preset):
    settings = smoke(preset=preset)
    assert settings.metric_steps >= 200 and settings.gradnorm_lr == pytest.approx(3 / settings.metric_steps, rel=0.1)


# Trainings


def results(data, settings, root, *variants):
    "Arrays of variants under the corrected protocol, the first seed."
    jobs = {variant: network_job(variant, Protocol.corrected, 0) for variant in variants}
    return {variant: job.result(data, settings, root) for variant, job in jobs.items()}


@pytest.fixture(scope="module")
def pretrained(data, settings, tmp_path_factory):
    root = tmp_path_factory.mktemp("jobs")
    return root, results(data, settings, root, "pretraining", "musicnn_7", "musicnn_8", "embed_musicnn_disentangled")


def test_a_frozen_trunk_is_asked_once_and_stays_what_it_was(data, settings, pretrained):
    root, found = pretrained
    net = load_net(root / "pretraining-text-0" / "net.pt")[0]
    vectors = VectorJob((), 0).result(data, settings, root)
    clips = data.clips.of(data.parts["valid"])
    starts = np.linspace(0, clips.shape[1] - FRAMES, settings.places).astype(int)
    with torch.inference_mode():
        expected = net.shared(torch.stack([clips[3, start : start + FRAMES] for start in starts]))
    torch.testing.assert_close(torch.from_numpy(vectors["valid"][3]), expected, rtol=1e-4, atol=1e-4)
    seven = load_net(root / "musicnn_7-text-kept-0" / "net.pt")[0].state_dict()
    changed = {key for key, tensor in net.state_dict().items() if not torch.equal(tensor, seven[key])}
    assert changed == {"dense2.weight", "dense2.bias"}
    np.testing.assert_array_equal(found["musicnn_8"]["probabilities"], found["pretraining"]["probabilities"])
    assert len(found["musicnn_8"]["step_s"]) == 0
    assert found["embed_musicnn_disentangled"]["embeddings"].shape == (14, settings.emb_dim)


@pytest.mark.long
def test_same_seed_same_numbers_and_done_jobs_are_read(data, settings, tmp_path):
    variants = ("embed_linear_both", "joint_gradnorm_epoch")
    one, two = (results(data, settings, tmp_path / name, *variants) for name in "ab")
    for variant in variants:
        for array in ("embeddings", "history_loss", "valid_loss"):
            np.testing.assert_array_equal(one[variant][array], two[variant][array])
    again = results(data, settings, tmp_path / "a", "embed_linear_both")
    np.testing.assert_array_equal(again["embed_linear_both"]["step_s"], one["embed_linear_both"]["step_s"])


def test_a_checkpoint_stands_for_the_pre_training(data, settings, tmp_path):
    net = make_net("Musicnn", dict(width_divisor=32)).eval()
    save_net(net, tmp_path / "musicnn.pt", TAGS)
    given = replace(settings, checkpoint=str(tmp_path / "musicnn.pt"))
    found = results(data, given, tmp_path / "jobs", "pretraining", "musicnn_8", "embed_musicnn")
    assert len(found["pretraining"]["step_s"]) == 0 and np.isfinite(found["embed_musicnn"]["embeddings"]).all()
    kept = load_net(tmp_path / "jobs" / "embed_musicnn-text-kept-together-0" / "net.pt")[0].state_dict()
    assert all(torch.equal(tensor, kept[key]) for key, tensor in net.state_dict().items() if key in kept)
    save_net(make_net("CNN1D", {}), tmp_path / "other.pt", TAGS)
    with pytest.raises(ParamsError, match="expected a Musicnn for the 50 tags of miniature, found CNN1D"):
        results(data, replace(settings, checkpoint=str(tmp_path / "other.pt")), tmp_path / "more", "musicnn_8")
    with pytest.raises(RunError, match="expected a checkpoint, found no file"):
        results(data, replace(settings, checkpoint=str(tmp_path / "none.pt")), tmp_path / "none", "musicnn_8")


# Scores


@given(st.integers(0, 10_000), st.booleans())
def test_areas_are_those_of_the_metrics(seed, ties):
    rng = generator("areas", seed)
    Y, probabilities = (rng.random((20, 6)) < 0.3).astype(np.float32), rng.random((20, 6))
    if ties:
        probabilities = probabilities.round(1)
    Y[:2] = [[0] * 6, [1] * 6]  # every tag is there and is not
    below, precision = ranks(Y, probabilities)
    ones = np.ones((1, 20))
    assert macro_over(ones, below)[0] == pytest.approx(roc_auc(Y, probabilities))
    assert macro_over(ones, precision)[0] == pytest.approx(average_precision(Y, probabilities))


def test_intervals_bracket_the_sample_and_know_who_belongs_together():
    rng = generator("intervals")
    Y = (rng.random((120, 8)) < 0.25).astype(np.float32)
    probabilities, embeddings = 0.6 * Y + rng.random((120, 8)), Y + 0.8 * rng.normal(size=Y.shape)
    answers = {"probabilities": probabilities, "embeddings": embeddings}
    alone = scores(None, None, reading(Y, **answers))
    fours = {name: np.repeat(values[::4], 4, 0) for name, values in answers.items()}
    together = scores(None, None, reading(np.repeat(Y[::4], 4, 0), group=np.arange(120) // 4, **fours))
    assert set(alone) == {"roc_auc", "pr_auc", "n_groups", "recall", *(f"recall_at_{k}" for k in KS)}
    for found in (alone, together):
        for metric in ("roc_auc", "pr_auc"):
            value, low, high = interval(found[metric])
            assert low < value < high
    widths = [np.subtract(*interval(found["roc_auc"])[:0:-1]) for found in (alone, together)]
    assert widths[1] > widths[0]


def test_recall_is_counted_as_the_protocol_says():
    rng = generator("recall")
    Y, E = (rng.random((30, 8)) < 0.3).astype(np.float32), rng.normal(size=(30, 8))
    similarity = cosine_matrix(E)
    for counting, expected in (("excluded", multilabel_recall), ("counted", published_recall)):
        found = query_recalls(Y, similarity, KS, counting)
        for k in KS:
            assert np.nanmean(found[k]) == pytest.approx(expected(Y, similarity, k))
    same = np.ones((30, 8))  # all equally near: the code's K + 1 nearest are not those of the query
    corrected, counted = (
        scores(None, None, reading(Y, variant="embed_cnn", protocol=protocol, embeddings=same))
        for protocol in (Protocol.corrected, Protocol.corrected.with_("recall"))
    )
    assert counted["recall_at_1"][0] > corrected["recall_at_1"][0]


def test_recall_of_a_notion_is_that_of_its_tags_by_its_quarter(data):
    rng = generator("notions")
    Y, E = (rng.random((30, 50)) < 0.3).astype(np.float32), rng.normal(size=(30, 16))
    moods = [i for i, tag in enumerate(TAGS) if tag in NOTIONS["mood"]]
    asked = reading(Y, variant="embed_cnn", embeddings=E)
    for block, columns in ((False, slice(None)), (True, slice(4, 8))):
        found = scores(data, None, asked, notion="mood", block=block)
        expected = multilabel_recall(Y[:, moods], cosine_matrix(E[:, columns]), 2)
        assert found["recall_at_2"][0] == pytest.approx(expected)
    every = scores(data, None, asked)
    np.testing.assert_allclose(every["recall"], np.mean([every[f"recall_at_{k}"] for k in KS], 0))


def test_clips_are_ranked_within_their_fold(data):
    "Two networks, each right in its fold, one of which thinks little of everything."
    Y = np.array([[1, 0], [0, 1], [1, 0], [0, 1]], np.float32)
    p = np.array([[0.9, 0.8], [0.7, 0.9], [0.2, 0.1], [0.1, 0.2]])
    asked = replace(reading(Y, variant="cnn1d", probabilities=p), fold=np.array([0, 0, 1, 1]))
    assert scores(data, None, asked)["roc_auc"][0] == 1
    assert scores(data, None, replace(asked, fold=None))["roc_auc"][0] == 0.75


# Rivals


def test_public_weights_hear_a_clip_and_not_its_track(data):
    rows, starts = np.array([3, 3, 5]), np.array([0, 125, 250])
    clips = clip_corpus(data.corpus, SimpleNamespace(rows=rows, starts=starts), 6.0)
    table = data.corpus.table
    assert clips.table.path.tolist() == table.path[rows].tolist() and clips.table.track_id.is_unique
    begin = table.start_s.fillna(0.0).to_numpy()[rows]
    np.testing.assert_allclose(clips.table.start_s - begin, [0, 2, 4])
    assert (clips.table.duration_s == 6).all()


@pytest.mark.parametrize("labels, embeds", [("tags", True), ("artist", False)])
def test_the_album_effect_is_not_asked_of_neighbours(labels, embeds):
    "With parts of albums on both sides fewer tracks of an artist are tested at once, so fewer neighbours can be found."
    settings = smoke(labels=labels, switches=("split",), corpus="commons", root="x")
    tried = {name: protocols_of(settings, name, is_loose=True) for name in ("fcn", "embed_linear")}
    loose = Protocol.corrected.with_("split")
    assert loose in tried["fcn"] and (loose in tried["embed_linear"]) == embeds
    assert (Protocol.published in protocols_of(settings, "untrained_linear", is_loose=True)) == embeds


def test_a_tags_areas_are_the_means_of_its_clips():
    "Whichever way they are counted where there is one fold; NaN where no clip has the tag."
    rng = generator("areas")
    Y, p = (rng.random((40, 50)) < 0.3).astype(np.float32), rng.random((40, 50))
    Y[:, 0] = 0
    found = mean_by_tag(fold_ranks(Y, p))
    np.testing.assert_allclose(found, tag_scores(Y, p)[["roc_auc", "pr_auc"]].T, atol=1e-6)


# Tables


def test_a_run_scores_all_that_it_trained(outcome):
    table = outcome.tables["scores"]
    alone = {"corrected-mask", "corrected-norms", "corrected-passes", "corrected-split"}
    assert {"published", "corrected", *alone} == set(table.protocol)
    assert set(table.variant) == {*outcome.settings.trained} >= {"chance", "band_statistics", "joint_gradnorm_epoch"}
    counts = {"parameters", "training_s", "clamped_steps"}
    assert set(table.metric) == {"roc_auc", "pr_auc", "recall", *(f"recall_at_{k}" for k in KS), *counts}
    own = table[(table.variant != "chance") & ~table.metric.isin(counts)]
    assert (own.low <= own.value + 1e-9).all() and (own.value <= own.high + 1e-9).all()
    assert table[table.metric == "training_s"].value.isna().all()  # times stand apart


def test_tables_agree(outcome):
    "The macro score is the mean of the tags'; curves have the epochs of the preset; only what was trained has a time."
    table, tags, curves = (outcome.tables[name] for name in ("scores", "tags", "curves"))
    areas = table[(table.metric == "roc_auc") & (table.protocol == "corrected") & (table.variant != "chance")]
    macro = areas.set_index("variant").value.sort_index()
    mean = tags[tags.protocol == "corrected"].groupby("variant").roc_auc.mean()
    pd.testing.assert_series_equal(macro, mean.loc[macro.index], check_names=False, atol=1e-6)
    assert curves[(curves.variant == "cnn1d") & (curves.part == "valid")].epoch.tolist() == [1, 2] * 2
    times = outcome.tables["time"]
    assert (times.training_s > 0).all() and "musicnn_8" not in set(times.variant)


def test_recall_by_notion_is_of_the_notions_that_the_test_has(outcome):
    notions = outcome.tables["notions"]
    assert set(notions.notion) <= set(NOTIONS) and set(notions.part) == {"whole", "block"}
    embeddings = [name for name in outcome.settings.trained if recipe(name).embeds]
    assert set(notions.variant) == set(embeddings) and set(notions.protocol) == {"published", "corrected"}
    assert (notions.low <= notions.value).all() and (notions.value <= notions.high).all()


def test_curves_of_embeddings_begin_where_nothing_is_learnt():
    "Triplets of embeddings that are all alike cost the margin, and λ of it again with the track term."
    history = pd.DataFrame({"epoch": [0, 0, 1], "task": "metric", "loss": [0.4, 0.2, 0.1]})
    for variant, start in (("embed_linear", 0.4), ("embed_linear_track", 0.6)):
        curves = learning(reading(np.zeros((4, 2)), variant=variant, history=history, valid_history=history))
        for part in ("train", "valid"):
            assert curves[curves.part == part].loss.tolist() == pytest.approx([start, 0.3, 0.1])
    z = torch.ones(1, 4, 8)
    assert float(MetricTask(disentangled=False).loss(z, torch.zeros(1, dtype=torch.long))) == pytest.approx(0.6)
