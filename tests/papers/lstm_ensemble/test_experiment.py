"The LSTM experiment: what is left out, how songs are divided, what is trained, how it is read and scored."

import os
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.metrics import accuracy, log_loss, macro_f1
from musicmtl.papers.lstm_ensemble import experiment
from musicmtl.papers.lstm_ensemble.experiment import (
    BASE,
    READ_PARTS,
    Protocol,
    Trial,
    early_stopped,
    recipe,
    scores,
)
from musicmtl.study import interval, read_history


@pytest.fixture(scope="module")
def demo(settings_of):
    "Data and settings of preset smoke."
    settings = settings_of()
    return experiment.prepare(settings), settings


def trial(variant=BASE, protocol=Protocol.corrected, classes="10", seed=0, method=None):
    return Trial(protocol, classes, variant, seed, method)


def posteriors(*shape):
    return np.log(generator("posteriors", shape).dirichlet(np.ones(shape[-1]), shape[:-1])).astype(np.float32)


# --- what cannot be ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "given, message",
    [
        (dict(corpus="folder"), "needs the folder that holds it"),
        (dict(corpus="folder", root="/does/not/exist"), "does not exist"),
        (dict(corpus="msd"), "needs the folder that holds it"),
        (dict(corpus="msd", root="/does/not/exist"), "does not exist"),
        (dict(corpus="folder", target="genre"), "no track has a value in column 'genre'"),
    ],
)
def test_impossible_corpora_get_one_sentence(music, settings_of, given, message):
    if "target" in given:
        given = {**given, "root": str(music)}
    with pytest.raises((ParamsError, CorpusError), match=message) as error:
        experiment.prepare(settings_of(**given))
    assert "\n" not in str(error.value)


def test_one_artist_or_too_few_tracks(music, settings_of, tmp_path):
    table = pd.read_csv(music / "tracks.csv")

    def prepare(rows):
        for path in rows.path:
            if not (tmp_path / path).exists():
                os.link(music / path, tmp_path / path)
        rows.to_csv(tmp_path / "tracks.csv", index=False)
        return experiment.prepare(settings_of(corpus="folder", root=str(tmp_path)))

    with pytest.raises(CorpusError, match="4 of 4 tracks can be used, a study needs 10"):
        prepare(table[(table.artist == "artist 2") & (table.title != "song 0")])
    with pytest.raises(CorpusError, match="no artist has 3 tracks"):
        prepare(table[table.title == "song 1"])


@pytest.mark.parametrize("variant", ["ensemble_3", "as_1.2.3_100", "autoencoder_1.2.3", "l2_-_100", "lstm", ""])
def test_an_unknown_variant_is_refused(settings_of, variant):
    with pytest.raises(ParamsError, match=f"variant: expected a name such as .* found {variant!r}"):
        recipe(variant)
    with pytest.raises(ParamsError, match=f"found {variant!r}"):
        replace(settings_of(), variants_25=(variant,))


def test_an_unknown_switch_is_refused_and_each_can_be_turned_alone():
    with pytest.raises(ParamsError, match="split: expected one of track, artist, found 'window'"):
        Protocol(split="window")
    assert [Protocol.corrected.with_(s).name for s in Protocol.switches] == [
        f"corrected-{s}" for s in Protocol.switches
    ]


# --- songs ---------------------------------------------------------------------------------------------------------


def test_faulty_tracks_are_named_and_left_out(outcome):
    lines = outcome.data.notes
    for track, reason in (
        ("text", "left out"),
        ("cut", "truncated"),
        ("short", "fewer than 120 segments"),
        ("silent", "fewer than 120 segments"),
    ):
        assert any(track in line and reason in line for line in lines), lines
    kept = set(outcome.data.corpus.table.track_id)
    assert len(kept) == 25 and not kept & {"text", "cut", "short", "silent"}
    manifest = outcome.run.manifest
    assert manifest["status"] == "done" and manifest["notes"] == list(lines)
    assert manifest["parameters"]["target"] is None and manifest["parameters"]["cuts"] == 2


def test_splits_leak_only_where_they_are_published(demo):
    data, _ = demo
    for songs in data.sets.values():
        for split, leaks in (("artist", False), ("track", True)):
            parts = songs.parts(split, 0)
            assert sorted(np.concatenate(list(parts.values()))) == list(range(len(songs)))
            artists = {part: set(songs.segments.artist[parts[part]]) for part in parts}
            assert set(songs.groups(parts["test"])) == {f"artist {name}" for name in artists["test"]}
            assert bool(artists["train"] & (artists["valid"] | artists["test"])) == leaks


def test_cuts_of_a_track_stay_together(music, settings_of, outcome):
    (once,) = experiment.prepare(settings_of(corpus="folder", root=str(music))).sets.values()
    (twice,) = outcome.data.sets.values()
    assert len(once) == len(once.corpus) == len(twice.corpus)
    assert len(twice) == len(once) + 5  # the five that are twice as long
    assert once.possible_split("artist") == "track"  # the artist is the answer
    tracks = [set(twice.track[rows]) for rows in twice.parts("artist", 0).values()]
    assert sum(map(len, tracks)) == len(set.union(*tracks)) == 25
    both = np.flatnonzero(twice.track == 0)
    assert (
        len(both) == 2 and (twice.groups(both) == f"track {twice.corpus.table.track_id[0]}").all()
    )  # two cuts, one recording


@pytest.fixture(scope="module")
def msd(tmp_path_factory):
    "The coursework's files with few songs; those of 25 classes have no labels for the test."
    root, rng = tmp_path_factory.mktemp("msd"), generator("msd")
    for n_classes in (10, 25):
        names = np.array([f"g{i}" for i in range(n_classes)])
        for part, n in (("train", 100), ("valid", 50)):
            y = np.arange(n) % n_classes
            x = rng.normal(size=(n, 3000)).astype(np.float32) + y[:, None] / 10
            np.savez(root / f"msd-{n_classes}-genre-{part}.npz", inputs=x, targets=y, label_map=names)
        x = rng.normal(size=(20, 3000)).astype(np.float32)
        np.savez(root / f"msd-{n_classes}-genre-test-inputs.npz", inputs=x)
    np.savez(root / "msd-10-genre-test-targets.npz", targets=np.arange(20) % 10)
    return root


def test_million_song_dataset(msd, settings_of, tmp_path):
    settings = settings_of(corpus="msd", root=str(msd), variants=[BASE], variants_25=[BASE])
    settings = replace(settings, sample=30, epochs=2)
    data = experiment.prepare(settings)
    sizes = {
        name: {part: len(rows) for part, rows in songs.parts("artist", 0).items()} for name, songs in data.sets.items()
    }
    assert sizes == {"10": dict(train=100, valid=50, test=20), "25": dict(train=100, valid=25, test=25)}
    assert any("25 classes" in note and "half of the validation" in note for note in data.notes)
    parts = data.sets["25"].parts("track", 3)
    assert not set(parts["valid"]) & set(parts["test"])
    jobs = experiment.stages(data, settings)["networks"]  # published or corrected: the same networks
    assert [job.name for job in jobs] == ["10-given-lstm-h100-b100-0", "25-given-lstm-h100-b100-0"]
    arrays = jobs[0].result(data, settings, tmp_path)
    assert arrays["log_p_test"].shape == (2, 20, 10) and np.isfinite(arrays["log_p_test"]).all()
    assert len(set(jobs[0].groups(data)["test"])) == 20  # no artists: every song for itself


# --- jobs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("preset", ["smoke", "mini", "claims", "paper"])
def test_jobs_of_the_presets(demo, settings_of, preset):
    data, _ = demo
    settings = settings_of(preset=preset, **({"root": "msd"} if preset == "paper" else {}))
    jobs, asked = experiment.stages(data, settings)["networks"], experiment.trials(data, settings)
    names = [job.name for job in jobs]
    assert len(names) == len(set(names))
    assert {t.protocol.name for t in asked} >= {"published", "corrected", "corrected-selection"}
    assert len({(t.protocol, t.label, t.seed) for t in asked}) == len(asked)
    if preset == "smoke":
        return
    labels = {t.label for t in asked if t.protocol == Protocol.corrected}
    expected = (*experiment.GRID, *experiment.SECOND, "m2_4", "feed_forward", "text")
    assert {f"{variant}_10" for variant in expected} <= labels
    expected = (*experiment.GRID, *experiment.SECOND, "ensemble_4_m1")
    assert {f"{variant}_25" for variant in expected} <= labels or preset == "mini"


def test_one_protocol_alone_and_seeds_of_main_variants(demo, settings_of):
    data, _ = demo
    settings = replace(settings_of(protocol="published", seed=5), seeds=3, main_variants=("as_0_100",))
    asked = experiment.trials(data, settings)
    assert {t.protocol for t in asked} == {Protocol.published}
    seeds = {variant: {t.seed for t in asked if t.variant == variant} for variant in ("as_0_100", BASE)}
    assert seeds == {"as_0_100": {5, 6, 7}, BASE: {5}}


def test_mistakes_are_made_alone_where_they_change_something(demo, settings_of):
    data, _ = demo
    settings = replace(settings_of(), published_variants=("as_100_100", "ensemble_4"))

    def protocols(variant, classes):
        asked = experiment.trials(data, settings)
        return {t.protocol.name for t in asked if (t.variant, t.classes) == (variant, classes)}

    always = {"corrected", "corrected-selection"}
    assert protocols("as_0_100", "10") == always
    assert protocols(BASE, "10") == {*always, "published", "corrected-split"}
    wide = {*always, "published", "corrected-split", "corrected-error", "corrected-units"}
    assert protocols("ensemble_4", "25") == wide
    assert protocols("ensemble_4", "10") == wide - {"corrected-units"}


def test_what_the_author_ran(demo):
    data, _ = demo

    def hidden(variant, classes, protocol):
        return trial(variant, protocol, classes).job(data).recipe.hidden

    assert [hidden("ensemble_4", classes, Protocol.published) for classes in ("10", "25")] == [100, 50]
    assert [hidden("binary_1", classes, Protocol.published) for classes in ("10", "25")] == [100, 200]
    assert hidden("ensemble_4", "25", Protocol.corrected) == 100
    two, one = (trial(variant, Protocol.published).job(data) for variant in ("autoencoder_2", "autoencoder_1"))
    assert two == one and trial("autoencoder_2").job(data) != trial("autoencoder_1").job(data)
    other_readings = (Protocol.corrected.with_("selection"), Protocol.corrected.with_("error"))
    assert all(trial(protocol=protocol).job(data) == trial().job(data) for protocol in other_readings)


def test_a_job_is_the_same_twice_and_learns_as_its_recipe_says(demo, tmp_path):
    data, settings = demo
    job = trial("autoencoder_2").job(data)
    first, again = (job.result(data, settings, tmp_path / name) for name in ("first", "again"))
    for part in READ_PARTS:
        np.testing.assert_array_equal(first[f"log_p_{part}"], again[f"log_p_{part}"])
    history = read_history(first)
    pd.testing.assert_frame_equal(history, read_history(again))
    assert set(history.task) == {"genre", "autoencoder"}
    assert set(history[history.task == "autoencoder"].weight) == {2.0}
    steps = history.step.nunique() // settings.later_epochs
    assert first["step_s"].shape == (settings.later_epochs, steps) and (first["step_s"] > 0).all()


def test_least_steps_make_short_epochs_more(settings_of):
    settings = replace(settings_of(), least_steps=100, batch_size=8, epochs=4, later_epochs=30)
    baseline, second = (experiment.Network("10", recipe(v), "artist", 0) for v in (BASE, "binary_1"))
    assert [baseline.epochs(settings, n) for n in (33, 3)] == [25, 100]  # 4 steps per epoch; 1
    assert [second.epochs(settings, n) for n in (33, 3)] == [30, 100]


# --- readings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["m0", "m1", "m2"])
def test_combinations_are_what_they_are_called(make_reading, method):
    z, theta = posteriors(3, 7, 4, 5), np.array([0.5, 1.0, 0.2, 0.3])
    p = np.exp(z)
    weighted = np.einsum("m,enmc->enc", theta, p)
    reading = make_reading(np.concatenate([z, weighted[:, :, None].astype(np.float32)], 2), method=method)
    expected = {"m0": p.mean(2), "m1": p.prod(2), "m2": weighted}[method]
    normalised = expected / expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(reading.answers("test").exp(), normalised, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reading.errors("test"), -reading.answers("test")[:, :, 0])
    taken_for_logits = torch.tensor({"m0": 4 * p.mean(2), "m1": p.prod(2), "m2": weighted}[method])
    published = -taken_for_logits.log_softmax(-1)[:, :, 0]
    np.testing.assert_allclose(reading.errors("test", "double_softmax"), published, rtol=1e-4)


def test_the_second_softmax_hides_how_wrong_an_ensemble_is(make_reading, settings_of):
    "Four networks that are sure of the wrong class."
    z = np.log(np.full((1, 6, 4, 5), 1e-6))
    z[..., 1] = np.log(1 - 4e-6)
    log_p = np.concatenate([z, np.exp(z).mean(2, keepdims=True)], 2).astype(np.float32)
    reading = make_reading(log_p, method="m1")
    assert float(reading.errors("valid").min()) > 50
    assert float(reading.errors("valid", "double_softmax").max()) < np.log(np.e + 4) + 1e-6
    published = make_reading(log_p, protocol=Protocol.corrected.with_("error"), method="m1")
    ours, theirs = (scores(None, settings_of(), r) for r in (reading, published))
    assert ours["log_loss"][0] > 50 and theirs["log_loss"][0] < 2
    assert ours["accuracy"][0] == theirs["accuracy"][0] == 0


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(1, 40))
def test_a_peak_is_never_lower_than_what_early_stopping_finds(hits, patience):
    accuracies = np.array(hits) / 20
    at = early_stopped(accuracies, patience)
    assert accuracies[at] <= accuracies.max() and accuracies[at] == accuracies[: at + 1].max()
    later = accuracies[at + 1 : at + 1 + patience]
    assert (later <= accuracies[at]).all()  # it stopped because nothing better came, or at the end
    if patience >= len(hits):
        assert at == accuracies.argmax()


# --- scores and tables ---------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_metrics_and_bracket_the_sample(make_reading, settings_of):
    y = generator("y").integers(0, 4, 80)
    log_p = posteriors(5, 80, 4)
    log_p[3, np.arange(80), y] += 2
    reading = make_reading(log_p, y, variant=BASE, group=np.arange(80) // 4)
    found = scores(None, replace(settings_of(), patience=10), reading)
    assert reading.epoch(10) == 3
    assert found["accuracy"][0] == pytest.approx(accuracy(y, log_p[3].argmax(1)))
    assert found["macro_f1"][0] == pytest.approx(macro_f1(y, log_p[3].argmax(1)))
    p = np.exp(log_p[0])
    first = make_reading(log_p[:1], y, variant=BASE)
    assert scores(None, settings_of(), first)["log_loss"][0] == pytest.approx(log_loss(y, p / p.sum(1, keepdims=True)))
    assert found.pop("n_groups") == 20
    for values in found.values():
        value, low, high = interval(values)
        assert low < value < high


def test_an_artist_has_the_same_weight_in_every_test(make_reading, settings_of):
    "Of two tests that share artists 3 and 7: how much these two weigh beside each other in each draw."

    def weight(artist, artists):
        "Share of the songs of one artist, who is the only one whose songs are recognised."
        group = np.repeat(artists, 5)
        log_p = np.log(np.eye(2)[(group != artist).astype(int)] * 0.8 + 0.1)[None].astype(np.float32)
        found = scores(None, settings_of(), make_reading(log_p, variant=BASE, group=group))
        assert found["n_groups"] == len(artists)
        return found["accuracy"]

    many, few = range(20), (9, 7, 3)
    beside = [weight(3, artists) / weight(7, artists) for artists in (many, few)]
    np.testing.assert_allclose(*beside, rtol=1e-5)
    assert beside[0][1:].std() > 0.5


def test_each_protocol_is_scored_on_its_own_part(make_reading, settings_of):
    "Test songs that are named wrongly when validation songs are named right."
    settings = replace(settings_of(), patience=10)
    y = generator("y").integers(0, 4, 80)
    log_p = posteriors(5, 80, 4)
    log_p[3, np.arange(80), y] += 2
    stopped = make_reading(log_p, y, variant=BASE)
    peak = make_reading(log_p, y, Protocol.corrected.with_("selection"), variant=BASE)
    for reading in (stopped, peak):
        reading.arrays["y_test"] = (y + 1) % 4
    assert stopped.epoch(10) == peak.epoch(10) == 3
    on_valid = scores(None, settings, stopped, of="valid")["accuracy"][0]
    assert scores(None, settings, peak)["accuracy"][0] == on_valid > scores(None, settings, stopped)["accuracy"][0]


@pytest.mark.parametrize("epochs, kept", [(40, 40), (41, 21), (100, 34)])
def test_curves_of_long_trainings_are_thinned_to_their_end(make_reading, epochs, kept):
    curves = experiment.curves(make_reading(posteriors(epochs, 6, 4), variant=BASE))
    at = curves[(curves.part == "valid") & (curves.quantity == "accuracy")].epoch
    assert len(at) == kept and at.iloc[-1] == epochs and at.diff().dropna().nunique() == 1


def test_majority_is_that_of_the_training_songs(demo):
    songs = demo[0].sets["10"]
    for protocol, part in ((Protocol.corrected, "test"), (Protocol.published, "valid")):
        parts = songs.parts(protocol.split, 0)
        named = np.bincount(songs.segments.y[parts["train"]]).argmax()
        found = experiment.majority(songs, protocol, 0)
        assert found["accuracy"] == np.mean(songs.segments.y[parts[part]] == named)


def test_scores_of_a_folder(outcome):
    table = outcome.tables["scores"]
    # no split by artist where artists are named, and no number of the paper
    assert set(table.protocol) == {"published", "corrected", "corrected-selection", "corrected-error"}
    assert table.paper_value.isna().all()
    ensembles = {f"ensemble_4_{method}_5" for method in ("m0", "m1", "m2")}
    assert {"as_100_100_5", "m2_4_5", "feed_forward_5", "majority_5", *ensembles} <= set(table.variant)
    assert set(table.metric) == {"accuracy", "log_loss", "macro_f1"}
    trained = table[~table.variant.str.startswith("majority")]
    assert (trained.low <= trained.value + 1e-9).all() and (trained.value <= trained.high + 1e-9).all()


def test_curves_belong_to_the_scores(outcome):
    "What the table reports under `corrected-selection` is the highest point of the curve that stands beside it."
    table, curves = outcome.tables["scores"], outcome.tables["curves"]
    peak = table[(table.protocol == "corrected-selection") & (table.metric == "accuracy")].set_index("variant").value
    on_valid = (curves.protocol == "corrected") & (curves.part == "valid") & (curves.quantity == "accuracy")
    highest = curves[on_valid].groupby("variant").value.max()
    assert len(peak) > 8
    pd.testing.assert_series_equal(peak.sort_index(), highest.loc[sorted(peak.index)], check_names=False, atol=1e-6)


def test_times_have_a_row_per_network_and_protocol(outcome):
    table = outcome.tables["time"]
    assert "ensemble_4_5" in set(table.variant) and not table.variant.str.contains("_m[012]_5").any()
    assert not table.duplicated(["protocol", "variant", "seed"]).any() and (table.seconds_per_step > 0).all()
