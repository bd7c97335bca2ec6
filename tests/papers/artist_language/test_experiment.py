"""Corpora with and without languages, trials and folds, sides of segments, and scores against the metrics."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch

from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.metrics import average_precision, roc_auc
from musicmtl.musicnn import has_pretrained
from musicmtl.papers.artist_language import experiment
from musicmtl.papers.artist_language.experiment import (
    ALBUM_MATES,
    LEAK,
    UNHEARD,
    NetworkJob,
    Reading,
    Settings,
    BestEpochs,
    Trial,
    balancer,
    curves,
    cut_segments,
    first_fold,
    joined,
    of_chance,
    open_corpus,
    prepare,
    read,
    scores,
    second_task,
    sizes,
    stages,
    tasks_of,
    trials,
)
from musicmtl.papers.artist_language.model import Protocol, deal, unheard_artists
from musicmtl.study import Sample, history_arrays, interval, resolve

# Corpora


def test_albums_are_the_second_task_where_no_language_is_known(tmp_path, music, settings_of):
    root = music(tmp_path / "band", language=None)
    data = prepare(settings_of(root))
    assert data.tasks == ("artist", "album") and not data.unheard
    assert data.by == "song" and any("albums are the second task" in note for note in data.notes)
    assert len(data.corpus.labels("album")) == 12  # "album 0" of another artist is another album
    assert any("no artists are held out" in note for note in data.notes)
    found = trials(data, settings_of(root, preset="claims"))
    assert "album" in {trial.variant for trial in found}
    assert not [trial for trial in found if trial.protocol == UNHEARD or trial.n_tasks == 4]


def test_what_only_one_song_has_counts_as_unknown(tmp_path, music, settings_of):
    def album(language, artist, number):
        return None if number == 3 else f"album {number // 2}"

    corpus, _, notes = open_corpus(settings_of(music(tmp_path / "band", language=None, album=album)))
    assert len(corpus.labels("album")) == 6 and (corpus.labels("album").codes == -1).sum() == 12
    assert "6 songs have a value of album that no other song has; it counts as unknown" in notes


def test_albums_of_one_artist_each_are_no_second_task(tmp_path, music, settings_of):
    "Where most artists have one album, it is the artist in other words: what a song is for says more."
    names = {
        "album": lambda language, artist, n: "only",
        "tags": lambda language, artist, n: ("battle|boss", "town")[n % 2],
    }
    root = music(tmp_path / "games", language=None, **names)
    corpus, tasks, _ = open_corpus(settings_of(root))
    assert tasks == ("artist", "tags") and second_task(corpus) == "tags"
    data = prepare(settings_of(root))
    assert data.by == "song" and any("fewer than two artists have several albums" in note for note in data.notes)
    assert "24 songs remain; 6 classes of artist, 2 classes of tags" in data.notes  # the first tag of each
    assert data.turns == 5
    several, _, notes = open_corpus(settings_of(root, second="album"))
    assert (
        any("6 of 6 artists have a single album" in note for note in notes) and second_task(several, "album") == "album"
    )


def test_artists_with_few_songs_and_broken_files_are_named(tmp_path, music, song, settings_of):
    root = music(tmp_path / "band")
    table = pd.read_csv(root / "tracks.csv")
    (root / "0-0-0.wav").write_bytes((root / "0-0-0.wav").read_bytes()[:3000])
    for number in (0, 1, 2):
        sf.write(root / f"0-1-{number}.wav", song(0, 0, 0, 1.0), 16_000)
    table[~table.track_id.isin(["1-2-2", "1-2-3"])].to_csv(root / "tracks.csv", index=False)
    data = prepare(settings_of(root))
    notes = "\n".join(data.notes)
    assert "1 artist with fewer than three songs is left out: artist 12 (2)" in notes
    assert "0-0-0 is left out" in notes and "0-1-0 is left out: 32 frames, a segment needs 93" in notes
    assert "0-1-3 is left out: no other song of artist 01 can be used" in notes
    assert len(data.corpus) == 15 and "15 songs remain; 4 classes of artist, 2 classes of language" in notes


@pytest.mark.parametrize(
    "columns,parameters,message",
    [
        (
            dict(language=None, album=None),
            {},
            "no track has a value in column 'language' or in 'album', the second task",
        ),
        (dict(language=None), dict(second="language"), "no track has a value in column 'language', the second task"),
        (dict(artist=None), {}, "no track has a value in column 'artist', the first task"),
        (dict(artist=lambda *_: "one"), {}, "the task 'artist' needs at least two classes, found 'one' alone"),
        (dict(language=lambda *_: "one"), {}, "the task 'language' needs at least two classes, found 'one' alone"),
        (dict(artist=lambda language, artist, n: f"{artist}{n}{language}"), {}, "no artist has 3 tracks or more"),
    ],
)
def test_impossible_corpora_get_one_sentence(tmp_path, music, settings_of, columns, parameters, message):
    root = music(tmp_path / "band", artists=2, songs=3, **columns)
    with pytest.raises((ParamsError, CorpusError), match=message) as error:
        prepare(settings_of(root, **parameters))
    assert "\n" not in str(error.value)


def test_unknown_second_task(settings_of):
    with pytest.raises(ParamsError, match="second must be one of 'language', .* or nothing, found 'mood'"):
        settings_of("x", second="mood")
    with pytest.raises(
        ParamsError, match="rivals: expected some of band_statistics, untrained, pretrained, found 'chance'"
    ):
        settings_of("x", rivals=["chance"])


def test_settings_keep_the_names_of_runs_and_of_their_trained_networks():
    "Both are hashes of all fields: a changed default would orphan every finished run."
    from musicmtl.study import run_id, training_id

    smoke = resolve(Settings, "artist_language", {})
    assert (run_id("artist_language", smoke), training_id(smoke)) == ("c742d9f819", "4ea8df46f5a0c65f")


# Trials and jobs


def of_preset(settings_of, data, preset, **parameters):
    return trials(data, settings_of("x", preset=preset, **parameters))


@pytest.mark.parametrize("preset", ["smoke", "mini", "claims"])
def test_trials_of_the_presets(data_of_singers, settings_of, preset):
    labels = {(trial.protocol.name, trial.label) for trial in of_preset(settings_of, data_of_singers, preset)}
    assert {(end, variant) for end in ("published", "corrected") for variant in ("artist", "multitask")} <= labels
    assert {("corrected-leak", "multitask"), ("corrected-song", "multitask")} <= labels
    assert {("corrected-unheard", name) for name in ("language", "multitask", "untrained", "band_statistics")} <= labels
    assert ("corrected-sparse", "multitask") not in labels  # seven seconds have no more than two segments a piece
    names = [job.name for job in stages(data_of_singers, settings_of("x", preset=preset))["networks"]]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("installed", [True, False])
def test_public_weights_are_a_rival_where_they_are_installed(data_of_singers, settings_of, monkeypatch, installed):
    monkeypatch.setattr(experiment, "has_pretrained", lambda: installed)
    found = of_preset(settings_of, data_of_singers, "claims")
    named = {trial.protocol.name for trial in found if trial.variant == "pretrained"}
    assert named == ({"corrected", "corrected-unheard"} if installed else set())


def test_public_weights_hear_the_whole_song(data_of_singers, settings_of, monkeypatch, tmp_path):
    "Every segment of a song has the same answer; a song that cannot be decoded has one, too."
    songs = generator(0).normal(size=(len(data_of_singers.corpus), 200)).astype(np.float32)
    songs[0] = np.nan
    monkeypatch.setattr(experiment, "musicnn_embeddings", lambda corpus: songs)
    trial = Trial("pretrained", Protocol.corrected, 0)
    found = NetworkJob(trial, 0).train(data_of_singers, settings_of("x"), tmp_path)
    p = found["p_artist"]
    assert np.isfinite(p).all() and np.allclose(p.sum(1), 1)
    assert all(np.ptp(p[found["track"] == song], 0).max() == 0 for song in np.unique(found["track"]))


def test_three_trainings_behind_every_number_of_preset_claims(data_of_singers, settings_of):
    found = of_preset(settings_of, data_of_singers, "claims")
    sweeps = {"multitask_tasks_4", "multitask_songs_2", "multitask_alpha_3", "uncertainty", "upgrad", "gradnorm_epoch"}
    assert sweeps <= {trial.label for trial in found}
    trainings = {}
    for trial in found:
        trainings.setdefault((trial.protocol, trial.label), set()).add(trial.seed)
    without_seed = {"band_statistics", *(["pretrained"] if has_pretrained() else [])}
    assert {label for (_, label), seeds in trainings.items() if len(seeds) < 3} == without_seed
    main = [(Protocol.corrected, label) for label in ("artist", "language", "multitask")]
    main += [(UNHEARD, label) for label in ("language", "multitask")]
    assert {len(trainings[key]) for key in main} == {5}


def test_folds_test_every_song_of_whoever_has_several_albums(data_of_singers, settings_of):
    found = of_preset(settings_of, data_of_singers, "claims", folds=5)
    folds = {trial.protocol: set(of) for trial, of in found.items()}
    assert folds[Protocol.corrected] == folds[ALBUM_MATES] == set(range(5)) and folds[UNHEARD] == set(range(3))
    assert folds[LEAK] == folds[Protocol.published] == {0}
    for protocol, n in ((Protocol.corrected, 5), (ALBUM_MATES, 5), (UNHEARD, 3)):
        cuts = [cut_segments(data_of_singers, Trial("multitask", protocol, 0), fold) for fold in range(n)]
        tested = np.concatenate([np.unique(cut.track[cut.test]) for cut in cuts])
        assert sorted(tested) == list(range(24))


def test_trainings_share_the_split_and_differ_in_first_weights(data_of_singers, settings_of, tmp_path):
    trial, same = Trial("artist", Protocol.corrected, 0), Trial("artist", Protocol.corrected, 1)
    one, two = (cut_segments(data_of_singers, of) for of in (trial, same))
    assert np.array_equal(one.test, two.test) and np.array_equal(one.train, two.train)
    assert not np.array_equal(one.test, cut_segments(data_of_singers, trial, seed=1).test)


def test_published_alone_trains_every_variant(data_of_singers, settings_of):
    found = of_preset(settings_of, data_of_singers, "mini", protocol="published")
    assert {trial.protocol for trial in found} == {Protocol.published}
    assert {trial.variant for trial in found} == {"artist", "language", "multitask"}


# Sides


SPLITS = {"song": False, "album": False, "album_mates": False, "artist": False, "segment": True}


@pytest.mark.parametrize("split,both", SPLITS.items())
def test_songs_are_on_both_sides_only_where_it_leaks(data_of_singers, split, both):
    cut = cut_segments(data_of_singers, Trial("multitask", Protocol(split), 0))
    assert bool(set(cut.track[cut.train]) & set(cut.track[cut.test])) == both
    parts = [set(items) for items in (cut.train, cut.valid, cut.test)]
    assert all(parts) and len(set.union(*parts)) == sum(map(len, parts))


@pytest.mark.parametrize("split,both", {"album": False, "album_mates": True}.items())
def test_albums_are_on_both_sides_only_where_songs_are_held_out(data_of_singers, split, both):
    cut = cut_segments(data_of_singers, Trial("multitask", Protocol(split), 0))
    album = (data_of_singers.corpus.table.artist + data_of_singers.corpus.table.album).to_numpy()
    assert bool(set(album[cut.track[cut.train]]) & set(album[cut.track[cut.test]])) == both


def test_fewer_songs_of_every_artist(data_of_singers):
    cuts = [cut_segments(data_of_singers, Trial("multitask", Protocol.corrected, 0, songs=n)) for n in (None, 1)]
    full, two = cuts
    artist = data_of_singers.corpus.labels("artist").codes
    assert np.array_equal(full.test, two.test) and set(two.train) < set(full.train)
    songs = [np.bincount(artist[np.unique(cut.track[cut.train])]) for cut in cuts]
    assert songs[1].tolist() == np.minimum(songs[0], 1).tolist()


def test_weights_of_the_tasks(data_of_singers):
    def weights(variant="multitask", **trial):
        trial = Trial(variant, Protocol.corrected, 0, **trial)
        return balancer(trial, tasks_of(data_of_singers, trial)[0], settings).weights.tolist()

    settings = Settings()

    assert weights() == [1, 3] and weights(alpha=0.25) == [1, 0.25]  # 6 artists, 2 languages
    assert weights(n_tasks=4) == [1, 3, 1, 1] and weights("language") == [1]
    assert weights("gradnorm_ema") == weights("uncertainty") == weights("equal") == weights("upgrad") == [1, 1]
    settings = Settings(balancer="equal")
    assert weights() == [1, 1] and weights(alpha=0.25) == [1, 0.25]
    settings = Settings(task_weights=(2.0, 5.0))
    assert weights() == [2, 5]


def test_gradnorm_has_a_floor_but_not_as_published(data_of_singers):
    def floor(protocol):
        trial = Trial("gradnorm_epoch", protocol, 0)
        return balancer(trial, tasks_of(data_of_singers, trial)[0], Settings()).floor

    assert floor(Protocol.corrected) == floor(UNHEARD) == 0.05 and floor(Protocol.published) is None


# The epoch that is tested


class Epoch:
    "A module after an epoch, as far as a callback looks at it."

    def __init__(self, epoch, *losses):
        self.valid_log, self.net = [[epoch, *losses]], torch.nn.Linear(1, 1)
        torch.nn.init.constant_(self.net.weight, epoch)


def test_each_task_is_answered_by_its_own_best_epoch():
    best, again = BestEpochs(), BestEpochs()
    for epoch, losses in enumerate([(3.0, np.nan, 1.0), (2.0, np.nan, 1.5), (2.5, np.nan, 0.5)]):
        best.on_train_epoch_end(None, Epoch(epoch, *losses))
    assert {task: found[:2] for task, found in best.best.items()} == {0: (2.0, 1), 2: (0.5, 2)}
    assert best.best[0][2]["weight"].item() == 1
    again.load_state_dict(best.state_dict())
    assert again.best == best.best


def test_the_order_by_size_is_the_papers_at_every_preset():
    for preset in ("mini", "claims", "paper"):
        found = sizes(
            resolve(
                Settings,
                "artist_language",
                {"preset": preset, "root": "x"} if preset == "paper" else {"preset": preset},
            )
        )
        assert found["language"] < found["artist"] < found["multitask"]


# Readings


ALONE = dict.fromkeys(("balancers", "alphas", "side_variants", "switches", "rivals"), ()) | {"unheard": False}


def test_folds_are_joined_in_order(data_of_singers, settings_of):
    settings = replace(
        settings_of("x", preset="mini", folds=2, protocol="corrected"), seeds=2, variants=("artist",), **ALONE
    )

    class Made:
        def __getitem__(self, job):
            fold, seed = job.fold, job.trial.seed
            history = pd.DataFrame({"step": [0], "task": ["artist"], "loss": [float(fold)]})
            answers = {"y_artist": np.array([fold, seed]), "p_artist": np.eye(2)[[fold, seed]]}
            kept = {
                "track": np.array([fold, 9]),
                "embedding": np.full((1, 1), fold),
                "seconds": 1.0 + fold,
                "clamped": fold,
            }
            return {**answers, **kept, **history_arrays(history), **history_arrays(history, "valid")}

    first, second, *_, chance = read(data_of_singers, settings, Made())
    assert chance.trial.label == "chance" and np.all(chance.p["artist"] == 0.5)
    assert [reading.trial.seed for reading in (first, second)] == [0, 1] and first.n_folds == 2
    assert first.y["artist"].tolist() == [0, 0, 1, 0] and second.y["artist"].tolist() == [0, 1, 1, 1]
    assert first.p["artist"].argmax(1).tolist() == [0, 0, 1, 0]
    assert first.track.tolist() == [0, 9, 1, 9] and first.fold.tolist() == [0, 0, 1, 1]
    assert first.embedding[0, 0] == 0 and first.history.loss.tolist() == [0.0] and first.seconds_per_step == 1.5
    assert first.clamped == 1


def test_maps_are_kept_of_the_multitask_network_alone():
    def keeps(fold=0, variant="multitask", protocol=Protocol.corrected, **trial):
        return NetworkJob(Trial(variant, protocol, 0, **trial), fold).keeps_embedding

    assert keeps() and keeps(protocol=Protocol.published)
    assert not any([keeps(1), keeps(variant="artist"), keeps(alpha=1.0), keeps(protocol=LEAK)])


# Scores


def reading_of(y, p, song, fold=None, seed=0):
    fold = np.zeros(len(y), int) if fold is None else fold
    trial = Trial("multitask", Protocol.corrected, seed)
    return Reading(trial, {"artist": y}, {"artist": p}, song, fold, np.zeros((0, 0)), None, None, 0.0)


def softmax(z):
    return np.exp(z) / np.exp(z).sum(1, keepdims=True)


def invented(strength, folds=2, classes=5, per_song=4):
    "Every class has a song per fold, with some segments; the true class's score is larger by `strength`."
    song = np.repeat(np.arange(folds * classes), per_song)
    y, fold = song % classes, song // classes
    z = generator("invented", strength).normal(size=(len(y), classes)) + strength * np.eye(classes)[y]
    return reading_of(y, softmax(z), song, fold)


def score(reading, metric="roc_auc", data=None, task="artist"):
    return scores(data, None, reading, task)[metric]


@pytest.mark.parametrize("name,metric", [("roc_auc", roc_auc), ("pr_auc", average_precision)])
def test_scores_are_the_metrics_of_each_fold(name, metric):
    reading = invented(1.0)
    y, p, fold = reading.y["artist"], reading.p["artist"], reading.fold
    by_fold = [metric(y[fold == one], p[fold == one]) for one in (0, 1)]
    assert score(reading, name)[0] == pytest.approx(np.mean(by_fold))
    assert score(reading, name).shape == (1001,)


@pytest.mark.parametrize("name,metric", [("roc_auc", roc_auc), ("pr_auc", average_precision)])
def test_scores_by_song_are_those_of_mean_probabilities(name, metric):
    one = first_fold(invented(1.0))
    mean = np.stack([one.p["artist"][one.track == song].mean(0) for song in range(5)])
    assert score(one, f"{name}_song")[0] == pytest.approx(metric(np.arange(5), mean))


@pytest.mark.parametrize("metric", ["pr_auc", "pr_auc_song"])
def test_draws_are_centred_on_the_sample(metric):
    "Average precision depends on how frequent a class is; drawing classes more often would be off by far."
    values = score(invented(1.0, folds=3, classes=30), metric)
    low, high = interval(values)[1:]
    assert low < values[0] < high
    assert abs(values[1:].mean() - values[0]) < 0.1 * (high - low)


def test_draws_are_centred_where_classes_differ_in_size():
    "Large classes have the larger average precision; leaving out small ones that were not drawn would raise the mean."
    y = np.repeat(np.arange(6), [30, 20, 4, 2, 1, 1])
    z = generator("sizes").normal(size=(len(y), 6)) + 0.3 * np.eye(6)[y]
    values = score(reading_of(y, z, np.arange(len(y))), "pr_auc")
    assert values[0] == pytest.approx(average_precision(y, z))
    assert abs(values[1:].mean() - values[0]) < 0.15 * np.ptp(interval(values)[1:])


def test_intervals_cover_what_they_should():
    "Of 60 samples of songs from one world, about 95 % of the intervals hold the value of all of them."
    rng, n_classes, n_songs = generator("coverage"), 8, 240
    skill = rng.normal(1, 1, n_songs)  # of the network on each song
    y = np.arange(n_songs) % n_classes
    z = rng.normal(size=(n_songs, n_classes)) + skill[:, None] * np.eye(n_classes)[y]
    world, hits = score(reading_of(y, z, np.arange(n_songs)))[0], 0
    for seed in range(60):
        songs_of = [np.flatnonzero(y == c) for c in range(n_classes)]
        sample = np.concatenate([rng.choice(songs, 8, replace=False) for songs in songs_of])
        _, low, high = interval(score(reading_of(y[sample], z[sample], np.arange(len(sample)), seed=seed)))
        hits += low <= world <= high
    assert hits >= 51  # fewer than 85 % would be far off; sampling without replacement makes them conservative


def test_a_missing_label_is_not_judged():
    reading = invented(1.0)
    y = reading.y["artist"].copy()
    y[:4] = -1
    known = y >= 0
    rest = reading_of(y[known], reading.p["artist"][known], reading.track[known], reading.fold[known])
    assert score(replace(reading, y={"artist": y}))[0] == pytest.approx(score(rest)[0])


def test_better_networks_get_better_scores_and_paired_differences_are_narrower():
    plain = invented(0.8, 3, 20)
    z = np.log(plain.p["artist"]) + 0.5 * np.eye(20)[plain.y["artist"]]
    worse, better = score(plain), score(replace(plain, p={"artist": softmax(z)}))
    assert better[0] > worse[0] + 0.02

    worse, better = Sample(worse, 40), Sample(better, 40)
    assert (better - worse).estimate().of_groups < 0.8 * (better - worse.unpaired()).estimate().of_groups


def test_unheard_artists_are_drawn_as_wholes(data_of_singers):
    corpus = data_of_singers.corpus
    song = unheard_artists(corpus)[0]
    y, p = corpus.labels("language").codes[song], generator("p").random((len(song), 2))
    trial = Trial("language", UNHEARD, 0)
    reading = Reading(trial, {"language": y}, {"language": p}, song, np.zeros(len(y), int), None, None, None, 0.0)
    assert scores(data_of_singers, None, reading, "language")["n_groups"] == 2 < len(np.unique(song))


# The tables


def test_rows_of_a_whole_run(outcome):
    table = outcome.tables["scores"]
    held = table.metric == "clamped_steps"
    assert set(table[held].variant) == {"gradnorm_epoch"} and (table[held].value >= 0).all()
    table = table[~held]
    ends = {"published", "corrected", "corrected-leak", "corrected-song", "corrected-unheard"}
    assert set(table.corpus) == {"singers"} and set(table.protocol) == ends
    variants = {"artist", "language", "multitask_artist", "multitask_language", "gradnorm_epoch_language"}
    assert variants | {"multitask_artist_alpha_9", "upgrad_artist", "untrained_artist"} <= set(table.variant)
    assert set(table.metric) == {"roc_auc", "pr_auc", "roc_auc_song", "pr_auc_song"} and table.value.between(0, 1).all()
    own = table[~table.variant.str.startswith("chance")]
    assert (own.low <= own.value + 1e-6).all() and (own.value <= own.high + 1e-6).all()
    assert "24 songs remain; 6 classes of artist, 2 classes of language" in outcome.data.notes


def test_an_artist_who_was_never_heard_is_not_scored(outcome):
    table = outcome.tables["scores"]
    table = table[table.metric != "clamped_steps"]
    unheard = table[table.protocol == "corrected-unheard"]
    others = ("multitask", "chance", "equal", "gradnorm_epoch", "upgrad", "band_statistics", "untrained")
    assert set(unheard.variant) == {"language", *(f"{name}_language" for name in others)}


def test_chance_is_a_half_of_one_area_and_the_share_of_a_class_in_the_other(outcome):
    table = outcome.tables["scores"]
    chance = table[table.variant.str.startswith("chance")].set_index(["protocol", "variant", "metric"]).value
    assert chance.index.is_unique
    np.testing.assert_allclose(chance.xs("roc_auc", level="metric"), 0.5, atol=1e-6)
    assert chance["corrected", "chance_language", "pr_auc"] == pytest.approx(0.5)


def test_files_of_a_job_hold_what_a_reading_needs(outcome):
    trial = Trial("multitask", Protocol.corrected, 0)
    arrays = outcome.results[NetworkJob(trial)]
    reading = joined(trial, {0: arrays})
    cut = cut_segments(outcome.data, trial)
    assert reading.track.tolist() == cut.track[cut.test].tolist()
    assert reading.y["artist"].tolist() == outcome.data.corpus.labels("artist").codes[reading.track].tolist()
    np.testing.assert_allclose(reading.p["artist"].sum(1), 1, rtol=1e-5)
    assert len(reading.embedding) == len(outcome.data.corpus) and set(reading.history.task) == {"artist", "language"}


# Real recordings


def test_real_recordings_have_albums_as_the_second_task(data):
    settings = resolve(Settings, "artist_language", {"corpus": "folder", "root": str(data / "albums")})
    corpus, tasks, _ = open_corpus(settings)
    assert tasks == ("artist", "album") and len(corpus) > 50
    assert (corpus.table.artist.value_counts() >= 3).all()
    fold, artist = deal(corpus, "song"), corpus.labels("artist").codes
    assert all(set(artist[fold == held]) <= set(artist[fold != held]) for held in range(5))


def test_curves_have_both_parts_of_every_task_that_is_scored(outcome):
    for reading in outcome.readings:
        if (found := curves(reading)) is None:
            assert reading.trial.label in ("chance", "band_statistics", "untrained")
            continue
        assert set(found.network) == set(reading.recognised) and set(found.part) == {"train", "valid"}
        assert found.loss.notna().all() and (found.groupby(["network", "part"]).epoch.nunique() == 5).all()


def test_networks_stand_beside_what_is_trivial(outcome):
    table = outcome.tables["rivals"]
    own = table[table.study == "artist_language"]
    assert {"chance", "band_statistics", "untrained"} == set(own.rival)
    assert set(own.task) == {"artist", "language", "language, artists never heard"}
    balancers = outcome.tables["balancers"]
    assert {"static", "gradnorm_epoch", "upgrad"} <= set(balancers[balancers.study == "artist_language"].balancer)


def test_a_reading_of_chance_knows_nothing(outcome):
    reading = outcome.board.readings("multitask")[0]
    chance = of_chance(reading)
    assert all(np.ptp(p) == 0 for p in chance.p.values()) and np.array_equal(chance.track, reading.track)


def test_an_album_of_its_own_artist_alone_counts_as_unknown(tmp_path, music, settings_of):
    def album(language, artist, number):
        return f"album {number // 2}" if artist else "only"

    corpus, tasks, notes = open_corpus(settings_of(music(tmp_path / "band", language=None, album=album)))
    assert tasks == ("artist", "album") and len(corpus.labels("album")) == 8
    assert any("2 of 6 artists have a single album, which is the artist in other words: it counts" in n for n in notes)
