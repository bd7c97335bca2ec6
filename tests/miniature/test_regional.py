"The `regional` view: a language is in the voice and nowhere else, and can be heard there."

import numpy as np
import pytest
from hearing import assert_samples, linear_model, statistics

from musicmtl.miniature import REGIONAL, miniature, render_track, score, world


@pytest.fixture(scope="module")
def regional():
    return world("mini", view="regional")


def test_the_layout_is_that_of_the_paper():
    table = miniature("regional", "paper", render=False).table
    assert len(table) == 340 and table["artist"].nunique() == 68
    assert set(table["language"]) == set(REGIONAL) and len(REGIONAL) == 17
    assert (table.groupby("language")["artist"].nunique() == 4).all() and (table.groupby("artist").size() == 5).all()
    people = table.drop_duplicates("artist")
    for column in ("gender", "veteran"):
        assert (people.groupby(["language", column]).size() == 2).all()
    assert world("paper", view="regional").size.duration_s == 120


def test_smaller_worlds_have_more_singers_of_each_language(regional):
    table = miniature("regional", "mini", render=False).table
    people = table.drop_duplicates("artist")
    assert (people.groupby("language").size() == 12).all() and people["language"].nunique() == 8
    for column in ("gender", "veteran"):
        assert (people.groupby(["language", column]).size() == 6).all()
    assert people.groupby(["language", "gender", "veteran"]).size().nunique() == 1  # neither gives the other away
    assert table["genre"].isna().all() and table["split"].isna().all()
    albums = table.groupby(["artist", "album"]).size()
    assert (albums == 2).all() and (albums.groupby("artist").size() == 5).all()
    assert (regional.tracks["lead"] == "voice").all() and (regional.tracks["melody"] == "sung").all()


def test_the_band_does_not_name_language_or_artist(regional):
    homes = regional.artists.groupby("language")["home"]
    assert homes.nunique().min() >= 2 and (regional.artists["home"].value_counts() >= 13).all()
    band = regional.tracks.groupby(["style", "comp", "drums"])["artist"].nunique()
    assert band.median() > 1


def syllables(regional, rows):
    "How often a syllable falls on each eighth of a bar, over the songs in four."
    heard = np.zeros(8)
    for i in rows[regional.tracks["metre"][rows] == 4]:
        step = score(regional, int(i))["lead"][:, 0] / (60 / regional.tracks["tempo_bpm"][i] / 4)
        heard += np.bincount((step.astype(int) % 16) // 2, minlength=8)  # a late eighth is late by less than a step
    return heard


def test_songs_follow_their_language(regional):
    "Vowels, rhythm and mode of a language's songs together are those that it says."
    in_first_mode = []
    for k, language in regional.languages.iterrows():
        rows = np.flatnonzero(regional.tracks["artist_id"] // regional.size.per_language == k)
        first = next(iter(language["modes"]))
        in_first_mode += (regional.tracks["mode"][rows] == first).tolist()
        if k % 4:
            continue
        vowels = np.concatenate([score(regional, int(i))["lead"][:, 4] for i in rows]).astype(int)
        np.testing.assert_allclose(np.bincount(vowels, minlength=5) / len(vowels), language["use"], atol=0.07)
        assert np.corrcoef(syllables(regional, rows), language["beats"])[0, 1] > 0.8, language["name"]
    assert abs(np.mean(in_first_mode) - 0.8) < 0.1


@pytest.fixture(scope="module")
def some():
    return world({"base": "smoke", "languages": REGIONAL[:6], "n_artists": 24}, view="regional")


@pytest.fixture(scope="module")
def heard(some):
    return statistics(some)


@pytest.mark.long
def test_languages_are_heard_in_singers_that_were_never_heard(some, heard):
    "A linear model knows a new singer's language, and which of a language's singers sings a new song."
    X, artist, song = heard, some.tracks["artist_id"].to_numpy(), np.arange(72) % 3
    model = linear_model(0.03)

    def right(labels, groups):  # Share of the held-out tracks that get their label
        hits = []
        for group in set(groups):
            fitted = model.fit(X[groups != group], labels[groups != group])
            hits += (fitted.predict(X[groups == group]) == labels[groups == group]).tolist()
        return np.mean(hits)

    def above(chance):  # three standard errors
        return chance + 3 * np.sqrt(chance * (1 - chance) / 72)

    assert above(1 / 6) < right(artist // 4, artist % 4) < 0.95
    assert above(1 / 4) < right(artist, song) < 0.95  # more than its language, which alone would be right once in four


def test_veterans_are_heard_in_singers_that_were_never_heard(some, heard):
    "A linear model knows a veteran by the sound, whatever the language: it was trained on singers of others."
    artist, veteran = some.tracks["artist_id"].to_numpy(), some.artists["veteran"].to_numpy()
    model, hits = linear_model(0.03), []
    for language in range(6):
        held = artist // 4 == language
        fitted = model.fit(heard[~held], veteran[artist[~held]])
        hits += (fitted.predict(heard[held]) == veteran[artist[held]]).tolist()
    assert np.mean(hits) > 0.5 + 3 * np.sqrt(0.25 / 72)


def test_it_keeps_its_table_and_its_place():
    corpus = miniature("regional", "mini", render=False)
    assert (corpus.root.name, corpus.fingerprint) == ("32c6ac508cd131e6", "acf3eb44c2b2f81a4f492ee5f33dfe26")


def test_it_keeps_its_sound():
    samples = [0.0644, 0.3077, -0.1442, 0.0237, 0.0813, -0.0144, -0.0608, 0.3522, -0.2053, -0.0935]
    assert_samples(render_track(world("smoke", view="regional"), 7), samples)
