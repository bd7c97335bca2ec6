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
    fitted_powers,
    joined,
    recipe,
    scores,
    to_power,
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
    trained = [job.name for job in jobs if isinstance(job, experiment.Network)]
    assert "10-given-lstm-h100-b100-0" in trained and "25-given-lstm-h100-b100-0" in trained
    assert not any("artist" in job.name or "track" in job.name for job in jobs)
    arrays = jobs[0].result(data, settings, tmp_path)
    assert arrays["log_p_test"].shape == (2, 20, 10) and np.isfinite(arrays["log_p_test"]).all()
    assert len(set(jobs[0].groups(data, settings)["test"])) == 20  # no artists: every song for itself


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
    seeds = {}
    for t in asked:
        if t.protocol in (Protocol.corrected, Protocol.published) and t.variant not in ("majority", "band_statistics"):
            seeds.setdefault((t.protocol.name, t.label), set()).add(t.seed)
    assert min(map(len, seeds.values())) >= 3  # trainings behind every number
    labels = {label for protocol, label in seeds if protocol == "corrected"}
    main = (BASE, "l2_1e-3_100", "ensemble_2_m1", "ensemble_4_m1", "whole_4_m1", "wide_4", "autoencoder_1", "m2_4")
    assert {f"{variant}_10" for variant in (*main, "feed_forward", "untrained")} <= labels
    if preset == "mini":
        return
    sweep = (*experiment.GRID, *experiment.SECOND, "ensemble_4_m1", "whole_2_m0")
    assert {f"{variant}_{classes}" for variant in sweep for classes in ("10", "25")} <= labels
    assert all(len(seeds["corrected", f"{variant}_10"]) >= 5 for variant in main[:6])


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
    baseline, second = (experiment.Network("10", "artist", 0, recipe(v), 0) for v in (BASE, "binary_1"))
    assert [baseline.epochs(settings, n) for n in (33, 3)] == [25, 100]  # 4 steps per epoch; 1
    assert [second.epochs(settings, n) for n in (33, 3)] == [30, 100]


# --- readings ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["m0", "m1", "gm", "m2"])
def test_combinations_are_what_they_are_called(make_reading, method):
    z, theta = posteriors(3, 7, 4, 5), np.array([0.5, 1.0, 0.2, 0.3])
    p = np.exp(z)
    weighted = np.einsum("m,enmc->enc", theta, p)
    weighted /= weighted.sum(-1, keepdims=True)
    reading = make_reading(np.concatenate([z, np.log(weighted)[:, :, None].astype(np.float32)], 2), method=method)
    expected = {"m0": p.mean(2), "m1": p.prod(2), "gm": p.prod(2) ** 0.25, "m2": weighted}[method]
    normalised = expected / expected.sum(-1, keepdims=True)
    np.testing.assert_allclose(reading.answers("test").exp(), normalised, rtol=1e-4, atol=1e-6)
    np.testing.assert_allclose(reading.errors("test"), -reading.answers("test")[:, :, 0])
    if method == "gm":  # was never published
        assert torch.equal(reading.errors("test", "double_softmax"), reading.errors("test"))
        return
    taken_for_logits = torch.tensor({"m0": 4 * p.mean(2), "m1": p.prod(2), "m2": weighted}[method])
    published = -taken_for_logits.log_softmax(-1)[:, :, 0]
    np.testing.assert_allclose(reading.errors("test", "double_softmax"), published, rtol=1e-4)


def test_the_second_softmax_hides_how_wrong_an_ensemble_is(make_reading, settings_of):
    "Four networks that are sure of the wrong class."
    z = np.log(np.full((1, 6, 4, 5), 1e-6))
    z[..., 1] = np.log(1 - 4e-6)
    log_p = np.concatenate([z, np.log(np.exp(z).mean(2, keepdims=True))], 2).astype(np.float32)
    reading = make_reading(log_p, method="m1")
    assert float(reading.errors("valid").min()) > 50
    assert float(reading.errors("valid", "double_softmax").max()) < np.log(np.e + 4) + 1e-6
    published = make_reading(log_p, protocol=Protocol.corrected.with_("error"), method="m1")
    ours, theirs = (scores(None, settings_of(), r) for r in (reading, published))
    assert ours["log_loss"][0] > 50 and theirs["log_loss"][0] < 2
    assert ours["accuracy"][0] == theirs["accuracy"][0] == 0


@given(st.floats(0.3, 3.0), st.integers(0, 5))
def test_the_power_that_fits_is_found_whatever_the_networks_are_sure_of(power, seed):
    "Answers of which one in three is wrong, at any sharpness: to their power they are as sure as they are right."
    rng = generator("power", seed)
    named, miss = rng.integers(0, 4, 300), rng.integers(1, 4, 300)
    truth = torch.from_numpy(np.where(np.arange(300) % 3, named, (named + miss) % 4))
    log_p = torch.from_numpy(np.log(np.eye(4)[named] * 0.6 + 0.1))[None]  # 0.7 of what they name
    sharper, best = to_power(log_p, torch.tensor([power])), fitted_powers(log_p, truth)
    torch.testing.assert_close(fitted_powers(sharper, truth, 20.0) * power, best, rtol=2e-2, atol=2e-2)
    assert to_power(log_p, best).exp().max(-1).values.mean() == pytest.approx(2 / 3, abs=2e-2)


def test_a_product_is_not_stopped_for_being_too_sure(make_reading):
    "Four networks that agree grow surer faster than better: the raw loss of their product rises, calibrated it falls."
    y = generator("y").integers(0, 4, 300)
    answers = []
    for right, sure in ((50, 0.5), (60, 0.75), (70, 0.9), (80, 0.97)):
        named = np.where(np.arange(300) % 100 < right, y, (y + 1) % 4)
        answers.append(np.eye(4)[named] * (sure - 0.01) + (1 - sure) / 4 + 0.0025)
    log_p = np.log(np.stack([np.array(answers)] * 5, 2)).astype(np.float32)
    reading = make_reading(log_p, y, method="m1")
    assert reading.errors("valid").mean(1).argmin() == 0 and reading.epochs.tolist() == [3]


def test_a_peak_is_never_lower_than_what_the_lowest_loss_finds(make_reading, settings_of):
    for seed in range(5):
        log_p = np.log(generator("peak", seed).dirichlet(np.ones(4), (6, 40))).astype(np.float32)
        y = generator("y", seed).integers(0, 4, 40)
        peaked, lowest = (
            make_reading(log_p, y, protocol=protocol, variant=BASE)
            for protocol in (Protocol.corrected.with_("selection"), Protocol.corrected)
        )
        best = scores(None, settings_of(), peaked)["accuracy"][0]
        assert best >= scores(None, settings_of(), lowest, of="valid")["accuracy"][0]


# --- folds and seeds -----------------------------------------------------------------------------------------------


def test_folds_stand_behind_each_other_each_at_its_own_epoch(make_reading, settings_of):
    "One fold's network is best at its first epoch, the other's at its second, and is trained for an epoch more."
    y = np.arange(40) % 4
    good, bad = (np.log(np.eye(4)[named] * 0.8 + 0.05).astype(np.float32) for named in (y, (y + 1) % 4))
    folds = [make_reading(np.stack(log_p), y, variant=BASE) for log_p in ([good, bad], [bad, good, bad])]
    groups = {part: np.tile(names, 2) for part, names in folds[0].groups.items()}
    whole = replace(folds[0], arrays=joined([fold.arrays for fold in folds]), groups=groups)
    assert whole.epochs.tolist() == [0, 1] and len(whole.fold("test")) == 80
    assert scores(None, settings_of(), whole)["accuracy"][0] == pytest.approx(1)


def test_every_song_is_tested_once_over_all_folds(demo):
    data, settings = demo
    settings, songs = replace(settings, folds=3), data.sets["10"]
    jobs = trial().jobs(data, settings)
    parts = [job.parts(data, settings) for job in jobs]
    assert len({job.name for job in jobs}) == 3
    assert sorted(np.concatenate([part["test"] for part in parts])) == list(range(len(songs)))
    for part in parts:
        artists = [set(songs.segments.artist[rows]) for rows in part.values()]
        assert not artists[0] & artists[1] and not artists[0] & artists[2] and not artists[1] & artists[2]


def test_trainings_are_first_weights_of_one_division(demo):
    data, settings = demo
    first, second = (trial(seed=seed).job(data) for seed in (0, 1))
    assert first.parts(data, settings)["test"].tolist() == second.parts(data, settings)["test"].tolist()

    def weights(settings, seed):
        return list(recipe(BASE).module(4, settings, seed).net.parameters())

    assert not torch.equal(weights(settings, 0)[0], weights(settings, 1)[0])
    fixed = replace(settings, init_seed=7)
    assert all(map(torch.equal, weights(fixed, 0), weights(fixed, 1)))


@pytest.mark.parametrize("preset", ["mini", "claims"])
def test_networks_are_ordered_by_size_as_the_papers(settings_of, preset):
    settings = settings_of(preset=preset)
    ours, theirs = experiment.sizes(settings), experiment.sizes(replace(settings, width_divisor=1))
    in_the_papers_order = [ours[name] for name in sorted(theirs, key=theirs.get)]
    assert all(b >= 0.98 * a for a, b in zip(in_the_papers_order, in_the_papers_order[1:], strict=False))
    narrow, _ = recipe(BASE).build(10, 1000)
    assert narrow.lstm.weight_hh.shape[1] == experiment.LEAST_UNITS == 8


def test_a_balancer_that_needs_equal_losses_gets_those_of_the_equal_network(demo, tmp_path):
    data, settings = demo
    settings = replace(settings, balancers=("reciprocal",), later_epochs=2, epochs=2)
    stages = experiment.stages(data, settings)
    (waits,) = {job.recipe for job in stages["networks that need others"]}
    assert waits == recipe("autoencoder_reciprocal")
    job = trial("autoencoder_reciprocal").job(data)
    history = read_history(job.result(data, settings, tmp_path))
    assert (tmp_path / trial("autoencoder_1").job(data).name / "result.npz").exists()
    assert history.weight.nunique() > 1


# --- scores and tables ---------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_metrics_and_bracket_the_sample(make_reading, settings_of):
    y = generator("y").integers(0, 4, 80)
    log_p = posteriors(5, 80, 4)
    log_p[3, np.arange(80), y] += 2
    reading = make_reading(log_p, y, variant=BASE, group=np.arange(80) // 4)
    found = scores(None, settings_of(), reading)
    assert reading.epochs.tolist() == [3]
    assert found["accuracy"][0] == pytest.approx(accuracy(y, log_p[3].argmax(1)))
    assert found["macro_f1"][0] == pytest.approx(macro_f1(y, log_p[3].argmax(1)))
    p = np.exp(log_p[0])
    first = make_reading(log_p[:1], y, variant=BASE)
    assert scores(None, settings_of(), first)["log_loss"][0] == pytest.approx(log_loss(y, p / p.sum(1, keepdims=True)))
    assert found.pop("n_groups") == 20
    for metric, values in found.items():
        value, low, high = interval(values)
        assert low < value < high or "calibration_error" in metric  # noise adds to what is never below zero


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
    settings = settings_of()
    y = generator("y").integers(0, 4, 80)
    log_p = posteriors(5, 80, 4)
    log_p[3, np.arange(80), y] += 2
    stopped = make_reading(log_p, y, variant=BASE)
    peak = make_reading(log_p, y, Protocol.corrected.with_("selection"), variant=BASE)
    for reading in (stopped, peak):
        reading.arrays["y_test"] = (y + 1) % 4
    assert stopped.epochs.tolist() == peak.epochs.tolist() == [3]
    on_valid = scores(None, settings, stopped, of="valid")["accuracy"][0]
    assert scores(None, settings, peak)["accuracy"][0] == on_valid > scores(None, settings, stopped)["accuracy"][0]


@pytest.mark.parametrize("epochs, kept", [(40, 40), (41, 21), (100, 34)])
def test_curves_of_long_trainings_are_thinned_to_their_end(make_reading, epochs, kept):
    curves = experiment.curves(make_reading(posteriors(epochs, 6, 4), variant=BASE))
    at = curves[(curves.part == "valid") & (curves.quantity == "accuracy")].epoch
    assert len(at) == kept and at.iloc[-1] == epochs and at.diff().dropna().nunique() == 1


@pytest.mark.parametrize("split", ["artist", "track"])
def test_rivals_know_the_training_songs_only(demo, split, tmp_path):
    data, settings = demo
    songs = data.sets["10"]
    parts = songs.parts(split, 0)
    found = {
        kind: experiment.Rival("10", split, 0, kind, 0).train(data, settings, tmp_path)
        for kind in experiment.RIVALS[:3]
    }
    named = np.bincount(songs.segments.y[parts["train"]]).argmax()
    assert (found["majority"]["log_p_test"].argmax(-1) == named).all()
    for arrays in found.values():
        assert arrays["y_test"].tolist() == songs.segments.y[parts["test"]].tolist()
        np.testing.assert_allclose(np.exp(arrays["log_p_valid"]).sum(-1), 1, rtol=1e-4)
    shuffled = replace(songs.segments, y=songs.segments.y.copy())
    shuffled.y[parts["test"]] = 0
    blind = replace(data, sets={"10": replace(songs, segments=shuffled)})
    again = experiment.Rival("10", split, 0, "band_statistics", 0).train(blind, settings, tmp_path)
    np.testing.assert_array_equal(again["log_p_test"], found["band_statistics"]["log_p_test"])


def test_scores_of_a_folder(outcome):
    table = outcome.tables["scores"]
    # no split by artist where artists are named, and no number of the paper
    assert set(table.protocol) == {"published", "corrected", "corrected-selection", "corrected-error"}
    assert table.paper_value.isna().all()
    ensembles = {f"ensemble_4_{method}_5" for method in ("m0", "m1", "gm", "m2")}
    rivals = {f"{kind}_5" for kind in experiment.RIVALS[:3]}
    trained = {"as_100_100_5", "m2_4_5", "feed_forward_5", "autoencoder_gradnorm_epoch_5"}
    assert trained | rivals | ensembles <= set(table.variant)
    tested = {"calibrated_log_loss", "calibration_error", "calibrated_calibration_error"}
    of = table.groupby("protocol").metric.unique().map(set)
    assert of["corrected"] == {"accuracy", "log_loss", "macro_f1", *tested}
    assert of["published"] == {"accuracy", "log_loss", "macro_f1", "test_accuracy"}
    trained = table[~table.variant.str.startswith("majority") & ~table.metric.str.contains("calibration_error")]
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
    assert "ensemble_4_5" in set(table.variant) and not table.variant.str.contains("_m[012]_5|_gm_5").any()
    assert experiment.as_timed(recipe("ensemble_4")).kind == "snippets"  # without m2
    assert not table.duplicated(["protocol", "variant", "seed"]).any() and (table.seconds_per_step > 0).all()
