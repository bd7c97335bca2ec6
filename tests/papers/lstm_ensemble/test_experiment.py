"""The LSTM study as its users run it: on a folder of recordings, on Miniature and on the Million Song Dataset's files."""

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import soundfile as sf
import torch
from hypothesis import given
from hypothesis import strategies as st

from processes import ran

from musicmtl.core import CorpusError, ParamsError, generator
from musicmtl.study.experiment import claim_rows, interval
from musicmtl.papers.lstm_ensemble import experiment as study
from musicmtl.papers.lstm_ensemble.claims import (
    BOTH,
    CLAIMS,
    board_of,
    inflation,
    late_share,
    step_draws,
    switch_effects,
)
from musicmtl.papers.lstm_ensemble.experiment import (
    BASE,
    PARTS,
    SWITCHES,
    Protocol,
    Reading,
    Result,
    Trial,
    early_stopped,
    recipe,
    scores,
)
from musicmtl.study.runs import claims_of, published, resolve, settings_class

OUT = "figures/data/lstm_ensemble"


def settings(**given):
    return resolve(settings_class("lstm_ensemble"), "lstm_ensemble", {"n_jobs": 1, **given})


def notes(k, artist, seconds=24.0, sr=22050):
    "A track with onsets: an artist's tones, eight a second, each with a sharp beginning."
    rng, n = generator("notes", artist, k), int(seconds * 8)
    length = sr // 8
    t = np.arange(length) / sr
    pitch = 110 * 2 ** ((7 * artist % 12 + rng.choice([0, 3, 5, 7, 10], n)) / 12 + artist % 3)
    tones = [
        np.sin(2 * np.pi * f * t) * np.exp(-t * (8 + 6 * artist)) + 0.3 * rng.normal(size=length) * np.exp(-t * 200)
        for f in pitch
    ]
    return (0.3 * np.concatenate(tones)).astype(np.float32)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    "Five artists with five tracks each, one of them as text, one cut short, one silent, and one with too few notes."
    root, rows = tmp_path_factory.mktemp("corpus") / "music", []
    root.mkdir()
    for a in range(5):
        for k in range(5):
            sf.write(root / f"{a}-{k}.wav", notes(k, a, 50.0 if k == 0 else 24.0), 22050)
            rows.append(
                dict(track_id=f"{a}-{k}", path=f"{a}-{k}.wav", artist=f"artist {a}", album="one", title=f"song {k}")
            )
    (root / "text.mp3").write_text("these are not sounds\n" * 50)
    good = (root / "0-1.wav").read_bytes()
    (root / "cut.wav").write_bytes(good[: len(good) // 3])
    sf.write(root / "silent.wav", np.zeros(24 * 22050, np.float32), 22050)
    sf.write(root / "short.wav", notes(9, 2, 5.0), 22050)
    rows += [
        dict(track_id=n, path=f, artist="artist 1", album="two", title=n)
        for n, f in (("text", "text.mp3"), ("cut", "cut.wav"), ("silent", "silent.wav"), ("short", "short.wav"))
    ]
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(scope="module")
def whole(folder, tmp_path_factory):
    "The study of preset smoke on the folder, as a process of its own."
    return ran("lstm_ensemble", tmp_path_factory.mktemp("whole"), corpus="folder", root=folder, cuts=2)


def test_study_leaves_everything(whole):
    m = json.loads((whole / "manifest.json").read_text())
    assert m["status"] == "done" and m["parameters"]["target"] is None and m["parameters"]["cuts"] == 2
    t = pd.read_csv(whole / f"{OUT}.csv")
    assert {"published", "corrected", "corrected-selection", "corrected-error"} == set(
        t.protocol
    )  # no split by artist where they are named
    assert {
        "as_100_100_5",
        "ensemble_4_m0_5",
        "ensemble_4_m1_5",
        "ensemble_4_m2_5",
        "m2_4_5",
        "feed_forward_5",
        "majority_5",
    } <= set(t.variant)
    assert set(t.metric) == {"accuracy", "log_loss", "macro_f1"} and t.paper_value.isna().all()  # artists are no genres
    own = t[~t.variant.str.startswith("majority")]
    assert (own.low <= own.value + 1e-9).all() and (own.value <= own.high + 1e-9).all()
    names = {p.name for p in (whole / "figures" / "lstm_ensemble").iterdir()}
    expected = (
        "fig02_as",
        "fig03_as",
        "fig03_curves",
        "fig04_curves",
        "fig06_ensembles",
        "fig07_ensemble",
        "fig08_m2",
        "fig11_tasks",
        "fig12_best",
        "accuracy",
    )
    assert {f"music_{n}_5{'_time' if n == 'fig03_as' else ''}.png" for n in expected} | {"music_switches.png"} <= names
    claims = pd.read_csv(whole / "figures/data/claims.csv")
    assert set(claims.claim) == {f"S{i}" for i in range(1, 21)} and set(
        claims[claims.protocol == "published"].claim
    ) == set(BOTH)
    assert (claims.verdict != "not testable here").eq(claims.effect.notna()).all() and claims.effect.notna().any()


def test_curves_belong_to_the_scores(whole):
    "What the table reports under `corrected-selection` is the highest point of the curve that stands beside it."
    t, c = pd.read_csv(whole / f"{OUT}.csv"), pd.read_csv(whole / f"{OUT}_curves.csv")
    peak = t[(t.protocol == "corrected-selection") & (t.metric == "accuracy")].set_index("variant").value
    curves = (
        c[(c.protocol == "corrected") & (c.part == "valid") & (c.quantity == "accuracy")].groupby("variant").value.max()
    )
    assert len(peak) > 8
    pd.testing.assert_series_equal(peak.sort_index(), curves.loc[sorted(peak.index)], check_names=False, atol=1e-6)


def test_faulty_files_are_named_and_do_not_stop_the_study(whole):
    said = "\n".join(json.loads((whole / "manifest.json").read_text())["notes"])
    for track, why in (
        ("text", "left out"),
        ("cut", "truncated"),
        ("short", "fewer than 120 segments"),
        ("silent", "fewer than 120 segments"),
    ):
        assert any(track in line and why in line for line in said.splitlines()), said


@pytest.fixture(scope="module")
def demo():
    P = settings()
    return P, study.prepare(P)


def test_splits_leak_only_where_they_are_published(demo):
    P, prep = demo
    for songs in prep.sets.values():
        for split, leaks in (("artist", False), ("track", True)):
            parts = songs.parts(split, 0)
            assert sorted(np.concatenate(list(parts.values()))) == list(range(len(songs)))
            by = {p: set(songs.data.artist[parts[p]]) for p in parts}
            assert bool(by["train"] & (by["valid"] | by["test"])) == leaks


def test_cuts_of_a_track_stay_together(folder):
    P = settings(corpus="folder", root=str(folder))
    one, two = (next(iter(study.prepare(replace(P, cuts=n)).sets.values())) for n in (1, 2))
    assert len(one) == len(one.corpus) == len(two.corpus) < len(two) == len(one) + 5  # the five that are twice as long
    assert one.by("artist") == "track"  # the artist is the answer
    parts = two.parts("artist", 0)
    assert not any(
        set(two.track[parts[a]]) & set(two.track[parts[b]])
        for a, b in (("train", "valid"), ("train", "test"), ("valid", "test"))
    )
    long = np.flatnonzero(two.track == 0)
    assert len(long) == 2 and (two.groups(long) == 0).all()


@pytest.mark.parametrize(
    "params,said",
    [
        (dict(corpus="folder"), "needs the folder that holds it"),
        (dict(corpus="folder", root="/does/not/exist"), "does not exist"),
        (dict(corpus="msd"), "needs the folder that holds it"),
        (dict(corpus="folder", target="genre"), "no track has a value in column 'genre'"),
    ],
)
def test_impossible_corpora_get_one_sentence(folder, params, said):
    if params.get("target"):
        params = {**params, "root": str(folder)}
    with pytest.raises((ParamsError, CorpusError), match=said) as e:
        study.prepare(settings(**params))
    assert "\n" not in str(e.value)


def test_one_artist_or_too_few_tracks(folder, tmp_path):
    t = pd.read_csv(folder / "tracks.csv")

    def prepare(rows):
        for p in rows.path:
            (tmp_path / p).exists() or os.link(folder / p, tmp_path / p)
        rows.to_csv(tmp_path / "tracks.csv", index=False)
        return study.prepare(settings(corpus="folder", root=str(tmp_path)))

    with pytest.raises(CorpusError, match="4 of 4 tracks can be used, a study needs 10"):
        prepare(t[(t.artist == "artist 2") & (t.title != "song 0")])
    with pytest.raises(CorpusError, match="no artist has 3 tracks"):
        prepare(t[t.title == "song 1"])


def test_an_unknown_variant_or_switch_is_refused():
    with pytest.raises(ParamsError, match="found 'ensemble_3'"):
        replace(settings(), variants=("ensemble_3",))
    with pytest.raises(ParamsError, match="found 'as_1.2.3_100'"):
        recipe("as_1.2.3_100")
    with pytest.raises(ParamsError, match="split: expected one of track, artist, found 'window'"):
        Protocol(split="window")
    assert {Protocol.corrected.with_(s).name for s in SWITCHES} == {f"corrected-{s}" for s in SWITCHES}


@pytest.fixture(scope="module")
def msd(tmp_path_factory):
    "The coursework's files with few songs; those of 25 classes have no labels for the test."
    root, rng = tmp_path_factory.mktemp("msd"), generator("msd")
    for c in (10, 25):
        for part, n in (("train", 100), ("valid", 50)):
            y = np.arange(n) % c
            x = rng.normal(size=(n, 3000)).astype(np.float32) + y[:, None] / 10
            np.savez(
                root / f"msd-{c}-genre-{part}.npz", inputs=x, targets=y, label_map=np.array([f"g{i}" for i in range(c)])
            )
        np.savez(root / f"msd-{c}-genre-test-inputs.npz", inputs=rng.normal(size=(20, 3000)).astype(np.float32))
    np.savez(root / "msd-10-genre-test-targets.npz", targets=np.arange(20) % 10)
    return root


def test_million_song_dataset(msd, tmp_path):
    P = replace(settings(corpus="msd", root=str(msd)), variants=(BASE,), variants_25=(BASE,), sample=30, epochs=2)
    prep = study.prepare(P)
    sizes = {c: {p: len(v) for p, v in s.parts("artist", 0).items()} for c, s in prep.sets.items()}
    assert sizes == {"10": dict(train=100, valid=50, test=20), "25": dict(train=100, valid=25, test=25)}
    assert any("25 classes" in n and "half of the validation" in n for n in prep.notes)
    parts = prep.sets["25"].parts("track", 3)
    assert not set(parts["valid"]) & set(parts["test"])
    todo = study.jobs(P, prep)
    assert [j.name for j in todo] == [
        "10-given-lstm-h100-b100-0",
        "25-given-lstm-h100-b100-0",
    ]  # published or corrected: the same networks
    r = study.run_job(prep, P, todo[0], tmp_path)
    assert r.said["test"].shape == (2, 20, 10) and np.isfinite(r.said["test"]).all()
    assert len(set(r.group["test"])) == 20  # no artists: every song for itself


def trial(variant=BASE, protocol=Protocol.corrected, **kw):
    return Trial(protocol, kw.pop("classes", "10"), variant, kw.pop("seed", 0), **kw)


def test_jobs_of_the_presets(demo):
    _, prep = demo
    for preset in ("smoke", "mini", "claims", "paper"):
        P = resolve(
            settings_class("lstm_ensemble"),
            "lstm_ensemble",
            {"preset": preset, **({"root": "msd"} if preset == "paper" else {})},
        )
        names, asked = [j.name for j in study.jobs(P, prep)], study.trials(P, prep)
        assert len(names) == len(set(names)) and {t.protocol.name for t in asked} >= {
            "published",
            "corrected",
            "corrected-selection",
        }
        assert len({(t.protocol, t.label, t.seed) for t in asked}) == len(asked)
        if preset == "smoke":
            continue
        labels = {t.label for t in asked if t.protocol == Protocol.corrected}
        assert {f"{v}_10" for v in study.GRID} <= labels and {
            f"{v}_10" for v in (*study.SECOND, "m2_4", "feed_forward", "text")
        } <= labels
        assert {f"{v}_25" for v in (*study.GRID, *study.SECOND, "ensemble_4_m1")} <= labels or preset == "mini"


def test_what_the_author_ran(demo):
    _, prep = demo

    def hidden(v, c, p):
        return trial(v, p, classes=c).job(prep).recipe.hidden

    assert [hidden("ensemble_4", c, Protocol.published) for c in ("10", "25")] == [100, 50]
    assert [hidden("binary_1", c, Protocol.published) for c in ("10", "25")] == [100, 200]
    assert hidden("ensemble_4", "25", Protocol.corrected) == 100
    assert trial("autoencoder_2", Protocol.published).job(prep) == trial("autoencoder_1", Protocol.published).job(prep)
    assert trial("autoencoder_2").job(prep) != trial("autoencoder_1").job(prep)
    free = (Protocol.corrected.with_("selection"), Protocol.corrected.with_("error"))
    assert all(trial(protocol=p).job(prep) == trial().job(prep) for p in free)


def test_a_job_is_the_same_twice_and_learns_as_its_recipe_says(demo, tmp_path):
    P, prep = demo
    job = trial("autoencoder_2").job(prep)
    a, b = (study.run_job(prep, P, job, tmp_path / n) for n in ("a", "b"))
    for p in PARTS:
        np.testing.assert_array_equal(a.said[p], b.said[p])
    pd.testing.assert_frame_equal(a.history, b.history)
    assert set(a.history.task) == {"genre", "autoencoder"} and set(
        a.history[a.history.task == "autoencoder"].weight
    ) == {2.0}
    assert a.step_s.shape == (P.later_epochs, a.history.step.nunique() // P.later_epochs) and (a.step_s > 0).all()
    assert step_draws(a)[0] == np.median(np.median(a.step_s, 1))


def reading(said, y=None, protocol=Protocol.corrected, method=None, variant="ensemble_4", group=None):
    "A reading of given log probabilities [E, n, C] or, of four networks and Σ θ·p, [E, n, 5, C]."
    y = np.zeros(said.shape[1], int) if y is None else y
    group = np.arange(len(y)) if group is None else group
    r = Result(
        SimpleNamespace(recipe=recipe(variant)),
        dict.fromkeys(PARTS, y),
        dict.fromkeys(PARTS, group),
        dict.fromkeys(PARTS, said),
        None,
        None,
    )
    return Reading(Trial(protocol, "10", variant, 0, method), r)


def posteriors(*shape):
    return np.log(generator("posteriors", shape).dirichlet(np.ones(shape[-1]), shape[:-1])).astype(np.float32)


def test_combinations_are_what_they_are_called():
    z = posteriors(3, 7, 4, 5)
    p, theta = np.exp(z), np.array([0.5, 1.0, 0.2, 0.3])
    said = np.concatenate([z, np.einsum("m,enmc->enc", theta, p)[:, :, None].astype(np.float32)], 2)
    for method, expected in (("m0", p.mean(2)), ("m1", p.prod(2)), ("m2", np.einsum("m,enmc->enc", theta, p))):
        r = reading(said, method=method)
        np.testing.assert_allclose(
            r.answers("test").exp(), expected / expected.sum(-1, keepdims=True), rtol=1e-4, atol=1e-6
        )
        wrong = {"m0": 4 * p.mean(2), "m1": p.prod(2), "m2": expected}[method]  # sums and products, taken for logits
        np.testing.assert_allclose(
            r.errors("test", "double_softmax"), -torch.tensor(wrong).log_softmax(-1)[:, :, 0], rtol=1e-4
        )
        np.testing.assert_allclose(r.errors("test"), -r.answers("test")[:, :, 0])


def test_the_second_softmax_hides_how_wrong_an_ensemble_is():
    "Four networks that are sure of the wrong class."
    z = np.log(np.full((1, 6, 4, 5), 1e-6))
    z[..., 1] = np.log(1 - 4e-6)
    said = np.concatenate([z, np.exp(z).mean(2, keepdims=True)], 2).astype(np.float32)
    r = reading(said, method="m1")
    assert (
        float(r.errors("valid").min()) > 50
        and float(r.errors("valid", "double_softmax").max()) < np.log(np.e + 4) + 1e-6
    )
    assert scores(r)["log_loss"][0] > 50
    as_published = reading(said, protocol=Protocol.corrected.with_("error"), method="m1")
    assert (
        scores(as_published)["log_loss"][0] < 2 and scores(as_published)["accuracy"][0] == scores(r)["accuracy"][0] == 0
    )


def test_curves_of_long_trainings_are_thinned_to_their_end():
    for epochs, kept in ((40, 40), (41, 21), (100, 34)):
        c = study.curves(reading(posteriors(epochs, 6, 4), variant=BASE))
        at = c[(c.part == "valid") & (c.quantity == "accuracy")].epoch
        assert len(at) == kept and at.iloc[-1] == epochs and at.diff().dropna().nunique() == 1


@given(st.lists(st.integers(0, 20), min_size=1, max_size=30), st.integers(1, 40))
def test_a_peak_is_never_lower_than_what_early_stopping_finds(hits, patience):
    accuracies = np.array(hits) / 20
    e = early_stopped(accuracies, patience)
    assert accuracies[e] <= accuracies.max() and accuracies[e] == accuracies[: e + 1].max()
    assert (
        accuracies[e + 1 : e + 1 + patience] <= accuracies[e]
    ).all()  # it stopped because nothing better came, or at the end
    if patience >= len(hits):
        assert e == accuracies.argmax()


def test_scores_bracket_the_sample_and_name_their_part():
    y = generator("y").integers(0, 4, 80)
    z = posteriors(5, 80, 4)
    z[3, np.arange(80), y] += 2
    r = reading(z, y, variant=BASE, group=np.arange(80) // 4)
    for values in scores(r, patience=10).values():
        value, low, high = interval(values)
        assert low < value < high
    r.result.y = {
        **r.result.y,
        "test": (y + 1) % 4,
    }  # test songs that are named wrongly when validation songs are named right
    assert r.epoch(10) == 3
    peak = reading(z, y, Protocol.corrected.with_("selection"), variant=BASE)
    peak.result.y = r.result.y
    assert scores(peak)["accuracy"][0] == scores(r, of="valid")["accuracy"][0] > scores(r)["accuracy"][0]


def test_every_claim_has_a_rule_and_a_function(demo):
    assert list(claims_of("lstm_ensemble")) == list(CLAIMS) == [f"S{i}" for i in range(1, 21)]
    P, prep = demo
    alone = board_of([], SimpleNamespace(sets={"10": None, "25": None}))
    rows = claim_rows("lstm_ensemble", "nothing", alone, CLAIMS, BOTH)
    assert len(rows) == 20 + len(BOTH) and {r["verdict"] for r in rows} == {"not testable here"}
    assert all("not trained in this run" in r["rule"] for r in rows)
    assert switch_effects(alone).empty


def test_claims_measure_what_they_say():
    curve = {"error": np.array([[3.0, 1.0, 1.25]])}
    assert inflation(curve)[0] == 0.25
    h = pd.DataFrame(
        [dict(epoch=e, task="binary", loss=v) for e, v in enumerate([2.0, 1.0, 1.0, 1.0, 1.0, 1.0]) for _ in range(3)]
    )
    assert late_share(SimpleNamespace(history=h), "binary")[0] == 0.0  # all of the fall lies in the first third
    h = h.assign(loss=np.repeat([2.0, 1.8, 1.6, 1.4, 1.2, 1.0], 3))
    assert late_share(SimpleNamespace(history=h), "binary")[0] == pytest.approx(80.0)


def test_a_claim_over_two_sets_is_their_mean():
    def pair(c, skill):
        y = np.zeros(40, int)

        def of(variant, share):
            return Reading(
                Trial(Protocol.corrected, c, variant, 0), reading(_sure(y, share), y, variant=variant).result
            )

        return [of(BASE, skill), of("feed_forward", 0.1)]

    both = board_of([*pair("10", 0.9), *pair("25", 0.5)], SimpleNamespace(sets={"10": None, "25": None}))
    one = board_of(pair("10", 0.9), SimpleNamespace(sets={"10": None, "25": None}))
    assert (
        interval(CLAIMS["S16"](both, "corrected")[0])[0] == pytest.approx(60.0)
        and CLAIMS["S16"](both, "corrected")[1] == 2
    )
    assert (
        interval(CLAIMS["S16"](one, "corrected")[0])[0] == pytest.approx(80.0)
        and CLAIMS["S16"](one, "corrected")[1] == 1
    )


def _sure(y, share):
    "One epoch of posteriors that are right for `share` of the songs."
    said = np.where(np.arange(len(y)) < share * len(y), y, (y + 1) % 4)
    return np.log(np.eye(4)[said] * 0.9 + 0.025)[None].astype(np.float32)


def test_paper_values_are_all_taken_up():
    own = published("lstm_ensemble").query("metric == 'accuracy'")
    assert sorted(v for v, _ in study.paper_values().values()) == sorted(own.paper_value.astype(float))
