"Genres, artists, tracks and labels of the common world; sizes and views."

from dataclasses import dataclass, replace

import numpy as np
import pytest
import soundfile as sf

from musicmtl.core import ParamsError
from musicmtl.miniature import (
    DANCES,
    GENRES,
    INSTRUMENTS,
    VIEWS,
    Genre,
    RegionalSize,
    SegmentsSize,
    Size,
    TagatuneSize,
    View,
    add_view,
    genre_counts,
    genres_of,
    miniature,
    render_track,
    world,
)
from musicmtl.miniature.score import BASS_PATTERNS, COMP_STYLES, DRUMS, MELODIES
from musicmtl.miniature.tagatune import PLAYERS, RECIPES
from musicmtl.miniature.world import MODES, apportion, size_of, titles

COMMON = ("fma", "regional", "segments", "openmic", "ballroom")


@pytest.fixture(scope="module")
def mini():
    return world("mini")


# Genres -------------------------------------------------------------------------------------------------------------


def test_every_recipe_is_complete():
    for recipe in (*GENRES.values(), *DANCES.values(), *RECIPES.values()):
        assert 4 <= len(recipe.subgenres) <= 6 and recipe.tempo[0] < recipe.tempo[1], recipe.name
        for choice, known in (
            (recipe.drums, DRUMS),
            (recipe.comp, PLAYERS),
            (recipe.lead, PLAYERS),
            (recipe.comp_style, COMP_STYLES),
            (recipe.melody, MELODIES),
            (recipe.bass, BASS_PATTERNS),
            (recipe.mode, MODES),
            (recipe.borrows, GENRES),
        ):
            assert set(choice) <= set(known) and all(weight > 0 for weight in choice.values()), (recipe.name, choice)
        assert set(recipe.metre) <= {3, 4, 5, 7} and bool(recipe.borrows) == (recipe.borrowing > 0)


def test_genres_and_dances_need_no_other_instruments():
    for recipe in (*GENRES.values(), *DANCES.values()):
        assert set(recipe.comp) | set(recipe.lead) <= set(INSTRUMENTS), recipe.name


def test_subgenres_have_names_of_their_own():
    subgenres = [name for genre in GENRES.values() for name in genre.subgenres]
    assert len(subgenres) == len(set(subgenres)) and not set(subgenres) & set(GENRES)


def test_two_genres_are_loose():
    assert {name for name, genre in GENRES.items() if genre.loose} == {"Pop", "Experimental"}


def test_a_table_of_genres_is_read_as_it_stands():
    table = {"Polka": {"tempo": [100, 120], "drums": "march", "lead": {"accordion": 2, "voice": 1}, "comp": "tuba"}}
    table["Polka"] |= {"timbre": {"grit": 0.5}, "metre": 2}
    read = genres_of(table, {"share": 3, "subgenres": ["Fast", "Slow"]})["Polka"]
    assert read == Genre(
        "Polka",
        3,
        (100, 120),
        {"march": 1},
        {"tuba": 1},
        {"accordion": 2, "voice": 1},
        ("Fast", "Slow"),
        metre={2: 1},
        timbre=(0, 0, 0.5, 0, 0),
    )
    with pytest.raises(TypeError, match="costume"):
        genres_of({"Polka": {**table["Polka"], "costume": "red"}}, {"share": 3, "subgenres": ["Fast", "Slow"]})


# Sizes --------------------------------------------------------------------------------------------------------------


def test_a_size_is_checked_once_and_hashable():
    assert world(Size(12, 3, 8.0, ("Rock", "Electronic", "Hip-Hop", "Folk"), 2.0)) is world("smoke")


def test_a_size_may_come_from_a_yaml_file():
    lists = {"base": "smoke", "languages": ["Hindi", "Tamil"], "n_artists": 8, "genres": ["Rock", "Folk"]}
    tuples = {name: tuple(value) if isinstance(value, list) else value for name, value in lists.items()}
    assert world(lists, view="regional") is world(tuples, view="regional")


@pytest.mark.parametrize("view", VIEWS)
def test_every_size_of_a_view_is_valid(view):
    sizes = VIEWS[view].sizes
    assert list(sizes) == ["smoke", "mini", "claims", "paper"]
    for name in sizes:
        assert size_of(name, sizes) == sizes[name]


@pytest.mark.parametrize("total, least", [(3, 0), (17, 0), (17, 3), (100, 3)])
def test_apportioned_numbers_add_up(total, least):
    counts = apportion([8.0, 4.0, 2.0, 1.0, 1.0], total, least)
    assert counts.sum() == total and counts.min() >= least and (np.diff(counts) <= 0).all()


@pytest.mark.parametrize(
    "arguments, word",
    [
        (dict(view="photos"), "view: expected one of fma, regional, segments, segments25, openmic, ballroom, tagatune"),
        (dict(size="huge"), "size"),
        (dict(size={"n_artist": 3}), "n_artist"),
        (dict(size={"n_artists": 10}), "n_artists"),
        (dict(size={"duration_s": 0}), "duration_s"),
        (dict(size={"genres": ("Rock", "Polka")}), "genres"),
        (dict(size={"genres": ["Tango", "Waltz"]}), "names of GENRES"),
        (dict(size=SegmentsSize()), "a Size"),
        (dict(view="regional", size=Size()), "RegionalSize"),
        (dict(view="regional", size={"languages": ("Hindi", "Latin"), "n_artists": 8}), "languages"),
        (dict(view="regional", size={"n_artists": 60}), "four, eight, twelve ... for each of 8"),
        (dict(view="regional", size="smoke", label_noise=0.1), "label_noise"),
        (dict(view="segments", size={"n_styles": 31}), "n_styles"),
        (dict(view="segments", size={"imbalance": 2}), "imbalance"),
        (dict(view="segments", size={"n_artists": 250}), "share evenly"),
        (dict(view="segments", size={"languages": 2}), "languages"),
        (dict(view="openmic", size={"n_artists": 4, "tracks_per_artist": 9, "genres": ["Rock"]}), "genres"),
        (dict(view="openmic", size={"base": "smoke", "n_artists": 12}), "at least 40 tracks"),
        (dict(view="openmic", size={"genres": ["Rock", "Spoken"]}), "have chords and a melody"),
        (dict(view="openmic", size="smoke", label_noise=0.1), "label_noise"),
        (dict(view="ballroom", size={"genres": ["Tango", "Rock"]}), "names of DANCES"),
        (dict(view="ballroom", size={"imbalance": 2}), "imbalance"),
        (dict(view="ballroom", size={"n_artists": 100}), "9 dances can share evenly"),
        (dict(seed=-1), "seed"),
        (dict(seed=0.5), "seed"),
        (dict(n_jobs=0), "n_jobs"),
    ],
)
def test_wrong_parameters_are_named(tmp_path, arguments, word):
    with pytest.raises(ParamsError, match=word):
        miniature(root=tmp_path, **arguments)
    assert not list(tmp_path.iterdir())


# The world ----------------------------------------------------------------------------------------------------------


def test_mini_has_the_promised_counts(mini):
    assert len(mini.artists) >= 120 and len(mini.tracks) == 480 and mini.size.duration_s == 15
    counts = mini.tracks["genre"].value_counts()
    assert len(counts) == 16 and counts.to_dict() == genre_counts(mini.size)
    assert counts.max() == 30 * counts.min()
    assert (mini.tracks.groupby("genre")["artist"].nunique() >= 3).all()
    assert (mini.genres["n_artists"] >= 3).all()
    assert set(mini.genres.loc[mini.genres["loose"], "genre"]) == {"Pop", "Experimental"}
    assert mini.artists["artist"].is_unique and mini.tracks["track_id"].is_unique


@pytest.mark.parametrize(
    "size, seed", [("smoke", 1), ("smoke", 2), ("mini", 3), ({"n_artists": 150, "tracks_per_artist": 5}, 1)]
)
def test_counts_hold_for_other_seeds_and_sizes(size, seed):
    some = world(size, seed)
    assert some.tracks["genre"].value_counts().to_dict() == genre_counts(some.size)
    for noise in (0, 0.1, 0.4):
        labels = some.labels(noise).assign(artist=some.tracks["artist"])
        assert labels.groupby("genre")["artist"].nunique().min() >= 3


def test_artists_have_genres_of_their_own(mini):
    P = mini.factors["genre"]
    np.testing.assert_allclose(P.sum(1), 1, rtol=1e-9)
    assert np.median(np.sort(P, 1)[:, -2:].sum(1)) > 0.85
    column = {genre: k for k, genre in enumerate(mini.genres["genre"])}
    own = P[mini.tracks["artist_id"], mini.tracks["genre"].map(column)]
    assert own.mean() > 0.5  # what an artist plays is what its distribution says


def test_factors_have_a_row_per_artist(mini):
    for x in mini.factors.values():
        assert x.shape[0] == len(mini.artists) and np.isfinite(x).all()
    for x in mini.track_factors.values():
        assert x.shape[0] == len(mini.tracks)
    np.testing.assert_allclose(mini.factors["subgenre"].sum(1), 1, rtol=1e-9)
    np.testing.assert_allclose(mini.factors["harmony"].sum(1), 1, rtol=1e-9)
    of_artist_7 = mini.tracks["artist_id"] == 7
    np.testing.assert_allclose(mini.factors["timbre"][7], mini.track_factors["timbre"][of_artist_7].mean(0))


def test_subgenres_belong_to_their_genre_and_follow_habits(mini):
    for genre, genres in zip(mini.tracks["genre"], mini.tracks["subgenres"], strict=True):
        assert genres[0] == genre and set(genres[1:]) <= set(GENRES[genre].subgenres) and 1 <= len(genres) - 1 <= 3
        assert len(set(genres)) == len(genres)


def test_worlds_share_no_dice():
    worlds = [world("mini", view=view) for view in COMMON]
    names = [name for some in worlds for name in set(some.artists["artist"][:60])]
    assert len(names) == len(set(names)) == 5 * 60


# Labels -------------------------------------------------------------------------------------------------------------


def test_label_noise_is_nested_and_keeps_counts(mini):
    true, before, last = mini.tracks["genre"].to_numpy(), np.zeros(480, bool), None
    for rate in (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.8):
        labels = mini.labels(rate)
        wrong = labels["wrong"].to_numpy()
        assert wrong.sum() == 2 * round(rate * 240)
        assert ((labels["genre"].to_numpy() != true) == wrong).all()
        assert (wrong >= before).all()
        if last is not None:  # what was wrong stays wrong in the same way
            assert (labels["genre"][before] == last["genre"][before]).all()
        assert (np.sort(labels["genre"].to_numpy(str)) == np.sort(true.astype(str))).all()
        assert all(genres[0] == genre for genre, genres in zip(labels["genre"], labels["genres"], strict=True))
        before, last = wrong, labels


@pytest.mark.parametrize("noise", [-0.1, 1.1, True, "much", float("nan")])
def test_impossible_rates_are_refused(mini, noise):
    with pytest.raises(ParamsError, match="label_noise"):
        mini.labels(noise)


# A view of one's own ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class MarchSize(Size):
    "Marches: their own recipe, dice and sound."

    n_artists: int = 6
    tracks_per_artist: int = 2
    duration_s: float = 1.0
    genres: tuple = ("Quick march", "Slow march")
    imbalance: float = 1.0

    recipes = {
        name: replace(DANCES["Tango"], name=name, tempo=tempo)
        for name, tempo in (("Quick march", (110, 120)), ("Slow march", (60, 70)))
    }
    recipes_name = "MARCHES"
    spread = {**Size.spread, "genre": 0.0}

    def stream(self, seed):
        return "marches", seed

    def adapt_tracks(self, stream, artists, tracks):
        return [track | {"lead": "trumpet"} for track in tracks]


def marches(world, label_noise):
    return titles(world).assign(genre=world.labels(label_noise)["genre"])


def test_a_view_of_ones_own_is_added(tmp_path, monkeypatch):
    monkeypatch.setitem(VIEWS, "marches", None)  # forgotten after the test
    add_view("marches", View(marches, {"mini": MarchSize(), "large": MarchSize(60)}, label_noise=0.5))
    corpus = miniature("marches", root=tmp_path, n_jobs=1)
    own = world(view="marches")
    assert len(corpus) == 12 and set(corpus.table["genre"]) == {"Quick march", "Slow march"}
    assert (corpus.table["genre"] != own.tracks["genre"]).sum() == 6 and set(own.tracks["lead"]) == {"trumpet"}
    assert len(world("large", view="marches").tracks) == 120
    x, _ = sf.read(corpus.path(3), dtype="float32")
    np.testing.assert_allclose(x, render_track(own, 3), atol=2**-15)
    with pytest.raises(ParamsError, match="two or more names of MARCHES, found .'Rock', 'Folk'."):
        world({"genres": ("Rock", "Folk")}, view="marches")


@pytest.mark.parametrize("sizes", [{}, {"smoke": Size()}, {"mini": Size(), "paper": RegionalSize()}])
def test_a_view_has_sizes_of_one_kind(sizes):
    with pytest.raises(ParamsError, match="sizes: expected 'mini' and others, all of one kind"):
        add_view("mixed", View(marches, sizes))
    assert "mixed" not in VIEWS


def test_kinds_of_worlds_differ_in_what_they_say():
    kinds = {type(view.sizes["mini"]) for view in VIEWS.values()}
    assert len({kind().stream(0) for kind in kinds}) == len(kinds) == 6 and TagatuneSize in kinds
