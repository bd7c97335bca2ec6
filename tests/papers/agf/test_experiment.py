"The artist-group-factor experiment: what is left out, how it splits, what is trained, how it is scored."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from musicmtl.balance import GRADNORM, GradNorm
from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.learn import MultiTask
from musicmtl.papers.agf import experiment
from musicmtl.papers.agf.experiment import SINGLE, NetworkJob, Reading, RivalJob, Settings
from musicmtl.papers.agf.model import Protocol
from musicmtl.study import Results, Sample, bootstrap_groups, claims_of, draws, interval, resolve, run_jobs


def settings_of(**given):
    return resolve(Settings, "agf", {"n_jobs": 1, **given})


def tone(i, artist, seconds=9.0, sr=22050):
    "A track that sounds like its artist: a chord of its own, a little noise."
    t, rng = np.arange(int(seconds * sr)) / sr, generator("tone", i)
    chord = sum(np.sin(2 * np.pi * f * t * (1 + 0.01 * rng.normal())) for f in (110 * 1.3**artist, 165 * 1.3**artist))
    return (0.2 * chord + 0.02 * rng.normal(size=len(t))).astype(np.float32)


@pytest.fixture(scope="module")
def music(tmp_path_factory):
    "Eight artists with four tracks each, as a plain folder of tagged music would be."
    root, rows = tmp_path_factory.mktemp("corpus") / "music", []
    root.mkdir()
    for a in range(8):
        for k in range(4):
            sf.write(root / f"{a}-{k}.wav", tone(4 * a + k, a), 22050)
            rows.append(
                dict(track_id=f"{a}-{k}", path=f"{a}-{k}.wav", artist=f"artist {a}", album="one", title=f"song {k}")
            )
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture
def folder(music):
    "The same, its table put back afterwards."
    table = (music / "tracks.csv").read_bytes()
    yield music
    (music / "tracks.csv").write_bytes(table)


@pytest.fixture(scope="module")
def demo():
    "Settings and data of preset smoke, its tracks long enough for three windows."
    settings = replace(settings_of(), track_s=15.0)
    return settings, experiment.prepare(settings)


# --- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given,message",
    [
        (dict(corpus="folder"), "needs the folder that holds it"),
        (dict(corpus="folder", root="/does/not/exist"), "does not exist"),
        (dict(corpus="folder", root=__file__), "is no folder"),
        (dict(corpus="folder", target="genre"), "no track has a value in column 'genre'"),
    ],
)
def test_impossible_corpora_get_one_sentence(music, given, message):
    if "target" in given:
        given = {**given, "root": str(music)}
    with pytest.raises((ParamsError, CorpusError), match=message) as error:
        experiment.prepare(settings_of(**given))
    assert "\n" not in str(error.value)


def test_one_class_and_too_few_tracks(folder):
    table = pd.read_csv(folder / "tracks.csv")
    settings = settings_of(corpus="folder", root=str(folder))
    table[table.artist == "artist 1"].to_csv(folder / "tracks.csv", index=False)
    with pytest.raises(CorpusError, match="at least two classes, found 'artist 1' alone"):
        experiment.prepare(settings)
    table[table.title.isin(["song 0", "song 1"])].to_csv(folder / "tracks.csv", index=False)
    with pytest.raises(CorpusError, match="artist"):
        experiment.prepare(settings)


def test_a_folder_without_genres_has_artists_and_no_subgenres(music):
    data = experiment.prepare(settings_of(corpus="folder", root=str(music)))
    assert data.target == "artist" and len(data.corpus) == 32
    assert any("the task subgenres is left out" in note for note in data.notes)


# --- jobs ----------------------------------------------------------------------------------------------------------


def labels_of(jobs, protocol=Protocol.corrected):
    "How many trainings of each label under a protocol."
    found = {}
    for job in jobs:
        if job.protocol == protocol:
            found[job.label] = found.get(job.label, 0) + 1
    return found


@pytest.mark.parametrize("preset,main,side", [("claims", 5, 3), ("paper", 5, 3)])
def test_what_claims_rest_on(demo, preset, main, side):
    "Five trainings behind the main comparison, three behind all else that A1 to A13 ask of the corrected protocol."
    settings = resolve(Settings, "agf", {"preset": preset})
    jobs = experiment.network_jobs(demo[1], settings)
    assert len({job.name for job in jobs}) == len(jobs)
    found = labels_of(jobs)
    assert {found[name] for name in (*SINGLE, "equal", "gradnorm_epoch", "upgrad")} == {main}  # A1
    ends = {f"gradnorm_epoch_alpha_{alpha}" for alpha in (0, 2)}  # A2, A3
    others = {*GRADNORM, "uncertainty", "separate", "gradnorm_epoch_windows_1", *ends} - {"gradnorm_epoch"}  # A4 to A13
    assert {found[name] for name in others} == {side}
    for switch in ("split", "fit_on", "orientation", "target"):
        assert labels_of(jobs, Protocol.corrected.with_(switch)) == {"gradnorm_epoch": side}
    published = labels_of(jobs, Protocol.published)
    assert {published[name] for name in (*SINGLE, "gradnorm_epoch")} == {side}  # A1, A10 to A12
    if preset == "paper":
        assert {published[name] for name in ("equal", *ends)} == {side}  # A2
        assert ends < {label for label in found if "alpha" in label} and len(found) == 15
    assert set(claims_of("agf")) == {f"A{n}" for n in range(1, 14)}, "a new claim may need further jobs"


def test_epochs_are_as_long_as_claims_about_epochs_need():
    claims, mini = (settings_of(preset=preset) for preset in ("claims", "mini"))
    assert claims.steps_per_epoch >= 300 and claims.epochs >= 10
    assert mini.steps_per_epoch >= 100 and mini.epochs >= 10


@pytest.mark.parametrize("preset", ["smoke", "mini", "claims", "paper"])
def test_networks_are_ordered_by_size_as_in_the_paper(preset):
    ours, paper = (experiment.sizes(settings_of(preset=name)) for name in (preset, "paper"))
    assert paper == {"single_task": 3_809_040, "multi_task": 2_857_648, "separate": 2_859_312, "predictor": 1_328_144}
    if preset != "smoke":
        assert sorted(ours, key=ours.get) == sorted(paper, key=paper.get)


def test_further_variants_say_what_is_not_the_default(demo):
    named = ["separate", "gradnorm_epoch_windows_1", "equal_by_track"]
    settings = settings_of(side_variants=named, alphas=[1.5], published_variants=["gradnorm_epoch"])
    jobs = experiment.network_jobs(demo[1], settings)
    assert [job.label for job in jobs][-4:] == [*named, "gradnorm_epoch_alpha_1.5"]
    assert [(job.windows, job.by) for job in jobs[-4:]] == [(None, None), (1, None), (None, "track"), (None, None)]


@pytest.mark.parametrize(
    "given", [{"variants": "nobody"}, {"published_variants": "fast"}, {"side_variants": "equal_by_mood"},
              {"balancers": "fast"}, {"balancer": "upgard"}]
)  # fmt: skip
def test_unknown_variants_are_named(given):
    ((setting, name),) = given.items()
    how_many = "one" if setting == "balancer" else "some"
    with pytest.raises(ParamsError, match=f"^{setting}: expected {how_many} of .*found {name!r}$"):
        settings_of(**given)


def test_any_setting_can_be_given_by_hand(demo):
    given = {"seeds": "2", "alphas": "0,2", "variants": "single_task,equal", "lr": "0.01", "precision": "bf16-mixed"}
    settings = settings_of(preset="paper", balancer="upgrad", **given)
    assert settings.alphas == (0, 2) and settings.lr == 0.01 and settings.precision == "bf16-mixed"
    found = labels_of(experiment.network_jobs(demo[1], settings))
    assert {name: found[name] for name in ("single_task", "equal", "upgrad")} == dict.fromkeys(
        ("single_task", "equal", "upgrad"), 2
    )


def test_networks_share_factors_where_they_were_fitted_alike(demo):
    settings = settings_of(switches=["fit_on", "target"])
    stages = experiment.stages(demo[1], settings)
    factors = {job.factors.name for job in stages["networks"] if job.factors}
    assert {job.name for job in stages["artist group factors"]} == factors
    fitted = NetworkJob("equal", Protocol.corrected, 0).factors
    assert fitted == NetworkJob("gradnorm_epoch", Protocol.corrected, 0).factors
    assert fitted != NetworkJob("equal", Protocol.corrected.with_("fit_on"), 0).factors


# --- splits --------------------------------------------------------------------------------------------------------


def test_splits_leak_only_where_they_are_published(demo):
    settings, data = demo
    artist = data.corpus.labels("artist").codes
    corrected = experiment.cut_windows(data, settings, "artist")
    parts = [set(artist[corrected.track[part]]) for part in (corrected.train, corrected.valid, corrected.test)]
    assert all(parts) and len(set.union(*parts)) == sum(map(len, parts))
    leaky = experiment.cut_windows(data, settings, "window")
    assert set(leaky.track[leaky.train]) & set(leaky.track[leaky.valid])
    assert not set(leaky.train) & set(leaky.valid) and leaky.valid.tolist() == leaky.test.tolist()


def test_one_window_per_track_is_the_first_and_in_training_only(demo):
    settings, data = demo
    one, all_ = (experiment.cut_windows(data, settings, "artist", windows=windows) for windows in (1, None))
    assert (one.start[one.train] == 0).all() and len(one.train) == len(np.unique(all_.track[all_.train]))
    np.testing.assert_array_equal(one.valid, all_.valid)
    np.testing.assert_array_equal(one.test, all_.test)


def test_windows_that_choose_an_epoch_do_not_overlap(demo):
    settings, data = demo
    cut = experiment.cut_windows(data, settings, "artist")
    assert set(cut.start[cut.test]) == {0, 161, 322} and set(cut.start[cut.valid]) == {0, 322}


def test_every_track_is_tested_in_one_fold(demo):
    settings, data = replace(demo[0], folds=3), demo[1]
    jobs = [job for job in experiment.network_jobs(data, settings) if job.label == "equal"]
    assert len({job.name for job in jobs}) == 3 and {job.factors.fold for job in jobs} == {(n, 3) for n in range(3)}
    tested = [np.unique((cut := experiment.cut_windows(data, settings, **job.cut)).track[cut.test]) for job in jobs]
    assert sorted(np.concatenate(tested)) == list(range(len(data.corpus)))


def test_artists_with_several_albums_are_split_by_album(music):
    settings = settings_of(corpus="folder", root=str(music))
    corpus, _ = experiment.open_corpus(settings)
    assert experiment.by_of(corpus, settings) == "track"  # all have one
    table = corpus.table
    corpus = corpus.with_table(table.assign(album=[f"{i % 4 // 2}" for i in range(len(table))]))
    assert experiment.by_of(corpus, settings) == "album"
    parts = experiment.split_of(corpus, settings, "artist")
    records = (corpus.table.artist + corpus.table.album).to_numpy()
    assert not set(records[parts["train"]]) & set(records[parts["test"]])
    assert experiment.by_of(corpus, replace(settings, by="track")) == "track"


def test_sources_can_be_held_out(demo):
    settings, data = demo
    named = [f"source {code % 5}" for code in data.corpus.labels("artist").codes]
    corpus = data.corpus.with_table(data.corpus.table.assign(source=named))
    parts = experiment.split_of(corpus, replace(settings, by="source"), "artist")
    sources = [set(corpus.table.source.to_numpy()[rows]) for rows in parts.values()]
    assert len(set.union(*sources)) == sum(map(len, sources)) == 5
    with pytest.raises(CorpusError, match="column 'source'"):
        experiment.split_of(data.corpus, replace(settings, by="source"), "artist")


# --- training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(demo, tmp_path_factory):
    "Readings of a GradNorm network under both protocols."
    settings, data = demo
    only = ("gradnorm_epoch",)
    settings = replace(settings, variants=(*only, *SINGLE), balancers=(), published_variants=(*only, "single_task"))
    root = tmp_path_factory.mktemp("jobs")
    for jobs in experiment.stages(data, settings).values():
        run_jobs(jobs, data, settings, root)
    return experiment.read(data, settings, Results(data, settings, root))


def test_weights_add_up_and_move(trained):
    for reading in trained[:1]:
        weights = reading.history.pivot_table(index="step", columns="task", values="weight")
        np.testing.assert_allclose(weights.sum(axis=1), weights.shape[1], rtol=1e-5)
        assert reading.history.weight.std() > 0.01
        curve = experiment.weight_curve(reading.history)
        np.testing.assert_allclose(curve.groupby("epoch").weight.sum(), weights.shape[1], rtol=1e-5)


def test_the_published_predictor_is_read_at_its_best_epoch(demo, trained):
    settings, data = demo
    corrected, published = trained[0], next(r for r in trained if r.trial.protocol == Protocol.published)
    assert len(corrected.p) == 1 and len(published.p) == settings.predictor_epochs
    best = experiment.scores(data, settings, published)["micro_f1"][0]
    assert best == max((epoch.argmax(1) == published.y).mean() for epoch in published.p)


def test_both_phases_have_learning_curves(demo, trained):
    settings = demo[0]
    for reading in trained:
        if reading.curves is None:
            assert isinstance(reading.trial, RivalJob)
            continue
        lengths = reading.curves.groupby(["network", "part"]).loss.size()
        assert lengths["network"].tolist() == [settings.epochs] * 2
        if reading.trial.label != "single_task":
            assert lengths["predictor"].tolist() == [settings.predictor_epochs] * 2
    labels = [reading.trial.label for reading in trained]
    assert {*SINGLE, "gradnorm_epoch", "majority", "band_statistics", "untrained"} == set(labels)


def test_the_control_stands_on_the_single_task_network(trained):
    single, control = (next(r for r in trained if r.trial.label == label) for label in SINGLE)
    pd.testing.assert_frame_equal(single.history, control.history)
    assert single.y.tolist() == control.y.tolist() and not np.allclose(single.p, control.p)
    assert control.trial.network == single.trial and single.trial.network == single.trial


def test_the_published_single_task_network_is_read_at_its_best_epoch(demo, trained):
    published = [r for r in trained if r.trial.protocol == Protocol.published and r.trial.label == "single_task"]
    assert [len(r.p) for r in published] == [demo[0].epochs]


def test_the_map_has_whole_songs_and_knows_their_parts(demo, trained):
    data, one = demo[1], trained[0]
    cut = experiment.cut_windows(data, demo[0], "artist")
    assert one.hidden.shape[0] == len(one.part) == len(data.corpus)
    assert set(np.flatnonzero(one.part == 0)) == set(cut.track[cut.train])
    assert set(np.flatnonzero(one.part == 2)) == set(cut.track[cut.test])


def test_a_whole_song_is_heard_at_once(demo):
    def length(x):
        return torch.tensor([[float(x.shape[3])]])

    frames = demo[1].store.frames("mel")
    np.testing.assert_array_equal(experiment.over_songs(length, demo[1])[:, 0], frames)


def test_trainings_differ_in_where_they_start_and_share_their_split(demo, tmp_path):
    settings, data = demo
    one, other = (NetworkJob("single_task", Protocol.corrected, seed) for seed in (0, 1))
    first, again = (experiment.module_of(data, settings, job, tmp_path)[0].net for job in (one, other))
    assert not torch.equal(first.conv1.weight, again.conv1.weight)
    same = replace(settings, init_seed=7, order_seed=3)
    modules = [experiment.module_of(data, same, job, tmp_path)[0] for job in (one, other)]
    assert torch.equal(*(module.net.conv1.weight for module in modules)) and {m.seed for m in modules} == {3}
    assert experiment.split_of(data.corpus, settings, "artist")["test"].tolist() != (
        experiment.split_of(data.corpus, replace(settings, split_seed=5), "artist")["test"].tolist()
    )


def test_only_the_corrected_protocol_gives_weights_a_floor(demo, tmp_path):
    settings, data = demo
    floors = {}
    for protocol in (Protocol.corrected, Protocol.published):
        job = NetworkJob("gradnorm_epoch", protocol, 0)
        module, _ = experiment.module_of(data, settings, job, tmp_path)
        assert isinstance(module, MultiTask) and isinstance(module.balancer, GradNorm)
        floors[protocol.name] = module.balancer.floor
    assert floors == {"corrected": settings.floor, "published": None}


def test_a_floor_that_was_needed_is_said(demo, trained):
    held = replace(trained[0], clamped=4)
    with pytest.warns(UserWarning, match="in 4 of .* steps a weight was held at 0.05"):
        experiment.say_clamped(demo[0], [held])


def test_the_best_epoch_is_chosen_with_or_without_the_weights():
    module = SimpleNamespace(balancer=SimpleNamespace(weights=torch.tensor([0.5, 1.5])), valid_log=[[0, 2.0, 4.0]])
    assert experiment.weighted_loss(module) == pytest.approx(7)


def test_folds_are_read_as_one(trained):
    one, two = trained[0], replace(trained[0], clamped=2)
    both = experiment.joined([one, two])
    assert len(both.y) == both.p.shape[1] == len(both.track) == 2 * len(one.y) and both.clamped == 2 + one.clamped
    assert experiment.joined([one]) is one


def test_a_track_is_scored_by_the_mean_of_its_windows(demo, trained):
    settings, data = demo
    group, y, p = experiment.items_of(data, trained[0], "track")
    first = trained[0].track == trained[0].track.min()
    np.testing.assert_allclose(p[0, 0], trained[0].p[0, first].mean(0))
    assert y[0] == trained[0].y[first][0] and len(group) == len(np.unique(trained[0].track))


def test_draws_bracket_the_sample():
    y = generator("y").integers(0, 3, 200)
    p = np.eye(3)[np.where(generator("p").random(200) < 0.7, y, (y + 1) % 3)] * 0.8 + 0.05
    value, low, high = interval(experiment.epoch_scores(draws(20), np.arange(200) // 10, y, p)["micro_f1"])
    assert low < value < high and value == pytest.approx((y == p.argmax(1)).mean())


SIZES = (12, 9, 6, 4, 3, 2)  # Artists of each class


def heard(rng, sizes):
    "Made-up artists of four tracks: each is recognised as often as it happens to be; errors go to larger classes."
    share, n = np.array(sizes) / sum(sizes), sum(sizes)
    y, skill = np.repeat(np.arange(len(sizes)), sizes), rng.beta(1.2, 1.2, n)
    mistaken = rng.choice(len(sizes), (n, 4), p=share)
    called = np.where(rng.random((n, 4)) < skill[:, None], y[:, None], mistaken)
    return y.repeat(4), called.ravel(), np.arange(n).repeat(4)


def test_the_interval_of_macro_f1_covers():
    y, called, group = heard(generator("truth"), [400 * n for n in SIZES])
    truth = np.nanmean(experiment.f1_scores(experiment.confusions(y, called, 0 * group, len(SIZES))[0]))
    weights, covered, plain = draws(sum(SIZES)), [], []
    for world in range(150):
        y, called, group = heard(generator("world", world), SIZES)
        counts = np.tensordot(weights, experiment.confusions(y, called, group, len(SIZES)), 1)
        found = experiment.epoch_scores(weights, group, y, np.eye(len(SIZES))[called])["macro_f1"]
        for values, into in ((found, covered), (experiment.f1_scores(counts).mean(1), plain)):
            _, low, high = Sample(values, sum(SIZES)).estimate().ends()
            into.append(low <= truth <= high)
    assert np.mean(covered) >= 0.91 and np.mean(covered) > np.mean(plain)


def test_f1_of_weighted_items_is_that_of_items_repeated():
    counts = generator("counts").integers(0, 4, (5, 3, 3)).astype(float)
    np.testing.assert_allclose(experiment.f1_scores(0.01 * counts), experiment.f1_scores(counts))
    counts[0, 1] = 0
    assert np.isnan(experiment.f1_scores(counts)[0, 1]) and np.isfinite(experiment.f1_scores(counts)[0, [0, 2]]).all()


def test_an_artist_has_the_same_weight_whatever_else_is_in_the_test(demo):
    settings, data = demo
    names, artist = bootstrap_groups(data.corpus, np.arange(len(data.corpus)), data.target), data.corpus.table.artist
    assert names.tolist() == [f"artist {name}" for name in artist]
    alone = replace_track(data, np.flatnonzero(artist == artist[0]))
    both = replace_track(data, np.flatnonzero(np.isin(artist, artist.unique()[:2])))
    one, two = (experiment.scores(data, settings, reading) for reading in (alone, both))
    assert (one["n_groups"], two["n_groups"]) == (1, 2)
    first = (artist[both.track] == artist[0]).to_numpy()
    first_alone = two["micro_f1"][1:] * 0 + (both.p[0].argmax(1) == both.y)[first].mean()
    np.testing.assert_allclose(one["micro_f1"][1:], first_alone)
    weights = draws(np.unique(names[both.track]), data.name)
    right = [(both.p[0].argmax(1) == both.y)[names[both.track] == name] for name in np.unique(names[both.track])]
    expected = weights @ [r.sum() for r in right] / (weights @ [len(r) for r in right])
    np.testing.assert_allclose(two["micro_f1"], expected)


def test_tracks_are_drawn_where_the_artist_is_the_target(music):
    data = experiment.prepare(settings_of(corpus="folder", root=str(music)))
    names = bootstrap_groups(data.corpus, np.arange(len(data.corpus)), data.target)
    assert names.tolist() == [f"track {name}" for name in data.corpus.table.track_id]


def test_how_many_groups_is_no_score(trained):
    board = SimpleNamespace(all_scores=lambda reading, by: {"micro_f1": np.zeros(3), "n_groups": 2})
    metrics = [metric for _, metric, _ in experiment.rows(SimpleNamespace(board=board), trained[0])]
    assert metrics == ["micro_f1", "micro_f1_track"]


def replace_track(data, track):
    "A reading of these tracks, a window each, that calls every second one right."
    y = data.corpus.labels("genre").codes[track]
    n_classes = len(data.corpus.labels("genre").classes)
    p = np.eye(n_classes)[np.where(np.arange(len(y)) % 2, y, (y + 1) % n_classes)]
    return Reading(NetworkJob("equal", Protocol.corrected, 0), y, p[None], track)


def test_trivial_rivals_hear_what_the_networks_hear(demo, trained):
    settings, data = demo
    rivals = {
        r.trial.label: r for r in trained if isinstance(r.trial, RivalJob) and r.trial.protocol.name == "corrected"
    }
    assert set(rivals) == {*experiment.RIVALS} - {"pretrained"}
    for one in rivals.values():
        np.testing.assert_array_equal(one.track, trained[0].track)
        np.testing.assert_allclose(one.p.sum(2), 1, rtol=1e-5)
    cut = experiment.cut_windows(data, settings, "artist")
    counts = np.bincount(data.corpus.labels("genre").codes[cut.track[cut.train]]) + 0.5
    np.testing.assert_allclose(rivals["majority"].p[0, 0], counts / counts.sum(), rtol=1e-5)


def test_a_reading_keeps_what_a_job_has_found(demo):
    arrays = {"y": np.zeros(4, int), "p": np.ones((4, 2)) / 2, "track": np.arange(4), "seconds": 0.5}
    arrays |= {"train_y": np.zeros(2, int), "train_pred": np.zeros(2, int), "hidden": np.zeros((4, 3))}
    arrays |= {"part": np.zeros(2, int), "clamped": 3, "network_valid": np.array([2.0, 1.0])}
    arrays["p"] = arrays["p"][None]
    reading = experiment.read_job(NetworkJob("equal", Protocol.corrected, 0), arrays)
    assert isinstance(reading, Reading) and reading.p.shape == (1, 4, 2) and reading.seconds_per_step == 0.5
    assert reading.clamped == 3 and reading.curves.loss.tolist() == [2, 1]
