"The artist-group-factor experiment: what is left out, how it splits, what is trained, how it is scored."

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.papers.agf import experiment
from musicmtl.papers.agf.experiment import NetworkJob, Reading, Settings
from musicmtl.papers.agf.model import SWITCHES, Protocol
from musicmtl.study import Results, bootstrap_groups, draws, interval, resolve, run_jobs


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


def test_jobs_of_a_run(demo):
    settings = resolve(Settings, "agf", {"preset": "mini"})
    jobs = experiment.network_jobs(demo[1], settings)
    names = {(job.protocol.name, job.label) for job in jobs}
    assert {("corrected", f"gradnorm_{initial}") for initial in ("epoch", "first", "log_classes", "ema")} <= names
    assert {(Protocol.corrected.with_(switch).name, "gradnorm_epoch") for switch in SWITCHES} <= names
    assert ("published", "gradnorm_epoch") in names
    assert len({job.name for job in jobs}) == len(jobs)


def test_gradnorm_moves_in_short_runs():
    "Its learning rate is 3/(number of steps), at least 1e-3, in every preset but `paper`."
    for preset in ("mini", "claims"):
        settings = settings_of(preset=preset)
        steps = settings.epochs * settings.steps_per_epoch
        assert steps >= 300 and settings.epochs >= 10
        assert settings.gradnorm_lr == pytest.approx(max(3 / steps, 1e-3))


def test_further_variants_say_what_is_not_the_default(demo):
    settings = settings_of(side_variants=["separate", "gradnorm_epoch_windows_1"], alphas=[1.5])
    labels = [job.label for job in experiment.network_jobs(demo[1], settings)]
    assert labels[-3:] == ["separate", "gradnorm_epoch_windows_1", "gradnorm_epoch_alpha_1.5"]


def test_networks_share_factors_where_they_were_fitted_alike(demo):
    settings = settings_of(switches=True)
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
    corrected = experiment.cut_windows(data, settings, "artist", 0)
    assert not set(artist[corrected.track[corrected.train]]) & set(artist[corrected.track[corrected.valid]])
    leaky = experiment.cut_windows(data, settings, "window", 0)
    assert set(leaky.track[leaky.train]) & set(leaky.track[leaky.valid])
    assert not set(leaky.train) & set(leaky.valid)


def test_one_window_per_track_is_the_first_and_in_training_only(demo):
    settings, data = demo
    one, all_ = (experiment.cut_windows(data, settings, "artist", 0, windows) for windows in (1, None))
    assert (one.start[one.train] == 0).all() and len(one.train) == len(np.unique(all_.track[all_.train]))
    np.testing.assert_array_equal(one.valid, all_.valid)


# --- training ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained(demo, tmp_path_factory):
    "Readings of a GradNorm network under both protocols."
    settings, data = demo
    settings = replace(settings, variants=("gradnorm_epoch",), published_variants=("gradnorm_epoch",))
    root = tmp_path_factory.mktemp("jobs")
    for jobs in experiment.stages(data, settings).values():
        run_jobs(jobs, data, settings, root)
    return experiment.read(data, settings, Results(data, settings, root))


def test_weights_add_up_and_move(trained):
    for reading in trained:
        weights = reading.history.pivot_table(index="step", columns="task", values="weight")
        np.testing.assert_allclose(weights.sum(axis=1), weights.shape[1], rtol=1e-5)
        assert reading.history.weight.std() > 0.01
        curve = experiment.weight_curve(reading.history)
        np.testing.assert_allclose(curve.groupby("epoch").weight.sum(), weights.shape[1], rtol=1e-5)


def test_the_published_predictor_is_read_at_its_best_epoch(demo, trained):
    settings, data = demo
    corrected, published = trained
    assert len(corrected.p) == 1 and len(published.p) == settings.predictor_epochs
    best = experiment.scores(data, settings, published)["micro_f1"][0]
    assert best == max((epoch.argmax(1) == published.y).mean() for epoch in published.p)


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
    return Reading(NetworkJob("equal", Protocol.corrected, 0), y, p[None], track, *[None] * 5)


def test_majority_is_scored_by_the_corpus_frequencies(demo):
    data, n = demo[1], len(demo[1].corpus)
    found = experiment.majority(data, data.corpus.labels("genre").codes)
    counts = data.corpus.labels("genre").counts
    assert found["micro_f1"] == pytest.approx(counts.max() / n)
    share = counts / n
    assert found["log_loss"] == pytest.approx(-(share * np.log(share)).sum())


def test_a_reading_keeps_what_a_job_has_found(demo):
    arrays = {"y": np.zeros(4, int), "p": np.ones((4, 2)) / 2, "track": np.arange(4), "seconds": 0.5}
    arrays |= {"train_y": np.zeros(2, int), "train_pred": np.zeros(2, int), "hidden": np.zeros((4, 3))}
    reading = experiment.read_job(NetworkJob("equal", Protocol.corrected, 0), arrays)
    assert isinstance(reading, Reading) and reading.p.shape == (1, 4, 2) and reading.seconds_per_step == 0.5
