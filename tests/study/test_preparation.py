"What can be used of a corpus, what is left out and why, and parts that do not leak."

import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from folders import FAULTS, add_faults, write_folder

from musicmtl.core import CorpusError, ParamsError, RunError
from musicmtl.corpus import Corpus
from musicmtl.features import FeatureBank
from musicmtl.loaders import load_corpus
from musicmtl.study import (
    PARTS,
    Data,
    bootstrap_groups,
    features_of,
    first_seconds,
    fold_items,
    frequent,
    name_in_tables,
    parts_in_words,
    require_classes,
    require_column,
    require_parts,
    require_tracks,
    several_albums,
    split_items,
    split_method,
    usable_tracks,
)


def corpus_of(artists, **columns):
    "A corpus with an artist per track (None: unknown)."
    n = len(artists)
    names = {"track_id": [f"t{i}" for i in range(n)], "path": [f"{i}.wav" for i in range(n)], "artist": artists}
    return Corpus(pd.DataFrame({**names, **columns}), ".", name="demo")


TWO = corpus_of(["a", "a", "b", "b", "b", None], genre=["x"] * 6, duration_s=[1.0, 2.0, 3.0, 4.0, 5.0, 6.0])


# --- what a study needs ----------------------------------------------------------------------------------------------


def test_a_column_without_values_is_refused():
    require_column(TWO, "artist")
    with pytest.raises(CorpusError, match="demo: no track has a value in column 'language', which is the target"):
        require_column(TWO, "language")
    with pytest.raises(CorpusError, match="'album', the second task"):
        require_column(TWO, "album", "the second task")


@pytest.mark.parametrize("column, found", [("genre", "'x' alone"), ("language", "0")])
def test_fewer_than_two_classes_are_refused(column, found):
    require_classes(TWO, "artist")
    with pytest.raises(CorpusError, match=f"demo: the task '{column}' needs at least two classes, found {found}"):
        require_classes(TWO, column, "task")


def test_fewer_than_ten_tracks_are_refused_with_the_last_reasons():
    require_tracks(10, TWO)
    with pytest.raises(CorpusError, match="demo: 9 of 6 songs can be used, a task needs 10: b; c; d"):
        require_tracks(9, TWO, ["a", "b", "c", "d"], items="songs", purpose="a task")


@pytest.mark.parametrize("part", PARTS)
def test_a_part_with_too_few_items_is_refused(part):
    parts = dict.fromkeys(PARTS, range(4))
    require_parts("demo", parts, least=4)
    with pytest.raises(CorpusError, match=f"demo: 11 clips leave fewer than four for {part}"):
        require_parts("demo", {**parts, part: range(3)}, least=4)
    with pytest.raises(CorpusError, match=f"demo: 8 songs leave fewer than two for {part}"):
        require_parts("demo", {name: items for name, items in parts.items() if name != part}, items="songs")


def test_rare_values_are_left_out_and_named():
    left, notes = frequent(TWO, "artist", 3)
    assert set(left.table.artist) == {"b"} and len(left) == 3
    assert notes == [
        "1 artist with fewer than three tracks is left out: a (2)",
        "1 track without artist is left out",
    ]
    everything, notes = frequent(TWO, "genre", 2)
    assert len(everything) == 6 and notes == []
    with pytest.raises(CorpusError, match="no artist has 4 tracks or more"):
        frequent(TWO, "artist", 4)


# --- features and tracks that can be used ----------------------------------------------------------------------------


def test_longer_tracks_are_cut():
    cut = first_seconds(TWO, 3.5)
    assert (
        cut.table.duration_s.tolist() == [1, 2, 3, 3.5, 3.5, 3.5]
        and cut.table.start_s.fillna(-1).tolist()[:3] == [-1] * 3
    )
    assert cut.table.start_s[3:].eq(0).all() and (cut.name, len(cut)) == (TWO.name, len(TWO))
    assert TWO.table.duration_s.max() == 6.0 and cut.fingerprint != TWO.fingerprint


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    root = tmp_path_factory.mktemp("preparation") / "music"
    return load_corpus("folder", add_faults(write_folder(root, artists=2, songs=3, seconds=3.0)))


def bank():
    return FeatureBank(16_000, 1024, 512, ["mel"])


def test_features_are_extracted_once_per_corpus_and_bank(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_CACHE", str(tmp_path))
    stores = [features_of(folder, bank()) for _ in range(2)] + [features_of(folder, bank(), duration_s=1.0)]
    assert stores[0].root == stores[1].root != stores[2].root
    assert len(list((tmp_path / "features").iterdir())) == 2
    assert stores[2].frames("mel").max() < stores[0].frames("mel").max()


def test_tracks_that_cannot_be_used_are_named_with_their_reason(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICMTL_CACHE", str(tmp_path))
    store = features_of(folder, bank())
    rows, notes = usable_tracks(folder, store, "mel", 20, "{} frames, a window needs 20".format)
    kept = set(folder.table.track_id.iloc[rows])
    assert kept == {f"{artist}-{song}" for artist in range(2) for song in range(3)} | {"silent"}
    for file, words in FAULTS.items():
        name = file.partition(".")[0]
        assert any(note.startswith(name) and words in note for note in notes), notes
    assert "short is left out: 7 frames, a window needs 20" in notes and len(notes) == len(FAULTS)


# --- parts -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target, split, given_parts, expected",
    [
        ("genre", "artist", False, "artist"),
        ("genre", "track", False, "track"),
        ("artist", "artist", False, "track"),
        ("genre", "artist", True, "given"),
        ("artist", "album", False, "album"),
        ("genre", "album", True, "given"),
        ("genre", "source", False, "track"),
    ],
)
def test_how_a_corpus_is_split(target, split, given_parts, expected):
    corpus = TWO.with_table(TWO.table.assign(album=["A", "B", "A", "A", "B", None]))
    assert split_method(corpus, target, split, given=given_parts) == expected


def test_without_artists_tracks_are_split():
    assert split_method(corpus_of([None, None]), "genre", "artist") == "track"
    assert split_method(TWO, "artist", "album") == "track"


@st.composite
def corpora(draw):
    "Artists with one to five tracks each, three genres over the artists, one to three items per track."
    sizes = draw(st.lists(st.integers(1, 5), min_size=9, max_size=20))
    artists = [f"artist {i}" for i, n in enumerate(sizes) for _ in range(n)]
    genres = [f"genre {i % 3}" for i, n in enumerate(sizes) for _ in range(n)]
    items = draw(st.lists(st.integers(1, 3), min_size=len(artists), max_size=len(artists)))
    return corpus_of(artists, genre=genres), np.repeat(np.arange(len(artists)), items)


@settings(max_examples=25)
@given(corpora(), st.sampled_from(["artist", "track"]), st.integers(0, 3))
def test_parts_keep_tracks_together_and_artists_apart(corpus_and_items, method, seed):
    corpus, track = corpus_and_items
    parts = split_items(corpus, track, method, target="genre", seed=seed)
    assert sorted(np.concatenate(list(parts.values()))) == list(range(len(track)))
    of_tracks = [set(track[items]) for items in parts.values()]
    assert sum(map(len, of_tracks)) == len(corpus)
    if method == "artist":
        artist = corpus.labels("artist").codes
        sides = [set(artist[list(tracks)]) for tracks in of_tracks]
        assert sum(map(len, sides)) == len(corpus.labels("artist"))
    again = split_items(corpus, track, method, target="genre", seed=seed)
    assert all(np.array_equal(parts[part], again[part]) for part in PARTS)


@settings(max_examples=25)
@given(corpora(), st.sampled_from(["artist", "track"]), st.integers(0, 3), st.integers(3, 6))
def test_over_all_folds_every_item_is_tested_once_and_validated_once(corpus_and_items, method, seed, n_folds):
    corpus, track = corpus_and_items
    rounds = [
        fold_items(corpus, track, method, target="genre", seed=seed, fold=fold, n_folds=n_folds)
        for fold in range(n_folds)
    ]
    for part in ("test", "valid"):
        assert sorted(np.concatenate([parts[part] for parts in rounds])) == list(range(len(track)))
    for fold, parts in enumerate(rounds):
        assert sorted(np.concatenate(list(parts.values()))) == list(range(len(track)))
        assert np.array_equal(parts["valid"], rounds[(fold + 1) % n_folds]["test"])
        column = corpus.table[method if method == "artist" else "track_id"]
        sides = [set(column.iloc[track[items]]) for items in parts.values()]
        assert sum(map(len, sides)) == column.nunique()


def test_the_corpus_own_parts_are_taken_as_they_are():
    track = np.array([0, 0, 1, 2, 3, 4, 5])
    own = TWO.with_table(TWO.table.assign(split=["train", "test", "valid", None, "train", "train"]))
    parts = split_items(own, track, "given", target="genre", seed=3)
    assert {part: items.tolist() for part, items in parts.items()} == {"train": [0, 1, 5, 6], "valid": [3], "test": [2]}
    some = TWO.with_table(TWO.table.assign(split=["train"] * 6))
    with pytest.raises(CorpusError, match="demo: the corpus' own parts lack valid, test"):
        split_items(some, track, "given", target=None, seed=0)
    with pytest.raises(CorpusError, match="no official split"):
        split_items(TWO, track, "given", target=None, seed=0)


def test_folds_that_cannot_be_are_refused():
    track = np.arange(6)
    with pytest.raises(CorpusError, match="5 folds need at least 5 artists, found 3"):
        fold_items(TWO, track, "artist", target=None, seed=0, fold=0)
    for fold, n_folds in ((5, 5), (-1, 5), (0, 2)):
        with pytest.raises(ParamsError, match="a number from 0 of at least 3 folds, found"):
            fold_items(TWO, track, "track", target=None, seed=0, fold=fold, n_folds=n_folds)


def test_artists_with_one_album_and_tracks_from_none_are_left_out():
    albums = TWO.with_table(TWO.table.assign(artist=[*"aabbb", "c"], album=["A", "B", "A", "A", None, "C"]))
    left, notes = several_albums(albums)
    assert left.table.artist.tolist() == ["a", "a"]
    assert notes == ["2 artists with fewer than 2 albums left out", "1 track without album or artist left out"]
    assert several_albums(left)[1] == []
    with pytest.raises(CorpusError, match="demo: no artist has 3 albums or more"):
        several_albums(albums, 3)


def test_parts_in_words():
    assert parts_in_words({"train": [1, 2], "valid": [3], "test": []}) == "2 to train, 1 to validate, 0 to test"


# --- groups ----------------------------------------------------------------------------------------------------------


def test_items_of_an_artist_are_drawn_together_unless_the_artist_is_the_answer():
    track = np.array([0, 0, 1, 2, 3, 5, 5])
    assert numbered(bootstrap_groups(TWO, track, "genre")) == [0, 0, 0, 1, 1, 2, 2]
    assert numbered(bootstrap_groups(TWO, track, "artist")) == [0, 0, 1, 2, 3, 4, 4]
    assert numbered(bootstrap_groups(corpus_of([None] * 6), track)) == [0, 0, 1, 2, 3, 4, 4]


def numbered(names):
    "Groups by the order in which they come."
    number = {name: i for i, name in enumerate(dict.fromkeys(names))}
    return [number[name] for name in names]


def test_a_group_has_the_same_name_in_every_part_of_a_corpus():
    whole, part = (bootstrap_groups(corpus, np.arange(len(corpus)), "genre") for corpus in (TWO, TWO.subset([2, 3, 5])))
    assert part.tolist() == whole[[2, 3, 5]].tolist()


@settings(max_examples=40)
@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=12), st.data())
def test_groups_are_those_of_artists_where_they_are_known(artists, data):
    track = np.array(data.draw(st.lists(st.integers(0, len(artists) - 1), min_size=1, max_size=20)))
    group = bootstrap_groups(corpus_of(artists), track, "genre")
    for one, other in zip(*np.triu_indices(len(track), 1), strict=True):
        known = artists[track[one]] is not None and artists[track[one]] == artists[track[other]]
        assert (group[one] == group[other]) == (known or track[one] == track[other])


def test_data_is_named_and_marked_by_its_corpus():
    data = Data(TWO, ("one note",))
    assert (data.name, data.fingerprint) == ("demo", TWO.fingerprint)
    assert data.fingerprint != Data(TWO.subset([0, 1]), ()).fingerprint


def test_notes_of_the_corpus_come_first_and_once():
    noted = TWO.with_table(TWO.table, "3 files are left out").subset([0, 1, 2])
    assert Data(noted, ("one note",)).notes == ("3 files are left out", "one note")
    assert Data(noted, ("one note", "task: 3 files are left out")).notes == ("one note", "task: 3 files are left out")


def test_two_folders_of_one_name_are_two_in_the_tables(tmp_path):
    tables, places = tmp_path / "data", [tmp_path / "a" / "music", tmp_path / "b" / "music"]
    first, second = (name_in_tables("music", place, tables) for place in places)
    assert first == "music" and re.fullmatch("music-[0-9a-f]{6}", second)
    assert [name_in_tables("music", place, tables) for place in places] == [first, second]
    assert name_in_tables("other", places[1], tables) == "other"
    (tmp_path / "link").symlink_to(tmp_path / "a", target_is_directory=True)
    places[0].mkdir(parents=True)
    assert name_in_tables("music", tmp_path / "link" / "music", tables) == "music"
    assert [file.name for file in tables.iterdir()] == ["corpora.json"]
    assert str(tmp_path) not in (tables / "corpora.json").read_text()
    assert Data(TWO, ()).called(second).name == second and Data(TWO, ()).name == "demo"
    (tables / "corpora.json").write_text("[1")
    with pytest.raises(
        RunError,
        match="corpora.json: expected a list of corpora .delete it to name them anew. in JSON, found something torn",
    ):
        name_in_tables("music", places[0], tables)
