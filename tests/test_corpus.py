"The table is checked and cannot change; labels and splits follow from it alone."

import json
import pickle
import unicodedata

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.core import CorpusError, ParamsError
from musicmtl.corpus import COLUMNS, Corpus, Split, plain_text


def table(artists, **columns):
    rows = range(len(artists))
    ids, paths = [f"t{row}" for row in rows], [f"{row}.wav" for row in rows]
    return pd.DataFrame(dict(track_id=ids, path=paths, artist=artists, **columns))


def make(artists, **columns):
    return Corpus(table(artists, **columns), "root", name="made")


# ---- entry


@pytest.mark.parametrize(
    "column, value, expected",
    [
        ("path", "", "expected a path, found nothing"),
        ("path", None, "expected a path, found nothing"),
        ("path", "../x.wav", "stays inside it"),
        ("path", "../\udce9.wav", "stays inside it"),
        ("tags", ["\ud800"], "a list of texts"),
        ("track_id", "\udce9", "expected a text or whole number"),
        ("path", "/etc/x.wav", "stays inside it"),
        ("path", "a/../../x.wav", "stays inside it"),
        ("duration_s", 0.0, "positive number of seconds, found 0.0"),
        ("duration_s", float("inf"), "positive number of seconds, found inf"),
        ("duration_s", "30", "positive number of seconds, found '30'"),
        ("start_s", -0.5, "0 or more, found -0.5"),
        ("genres", "Rock", "list of texts, found 'Rock'"),
        ("tags", [1, 2], "list of texts, found (1, 2)"),
        ("instruments", {"a"}, "list of texts"),
        ("not_instruments", "oboe", "list of texts, found 'oboe'"),
        ("veteran", "yes", "true or false, found 'yes'"),
        ("split", "training", "one of 'train', 'valid', 'test', found 'training'"),
        ("artist", 7, "expected a text, found 7"),
        ("track_id", None, "text or whole number, found nothing"),
        ("track_id", 1.5, "text or whole number, found 1.5"),
    ],
)
def test_a_wrong_cell_is_named_with_file_row_and_column(column, value, expected):
    tracks = table(["a", "b", "c", "d"])
    if column not in tracks:
        tracks[column] = None
    tracks[column] = tracks[column].astype(object)
    tracks.at[2, column] = value
    with pytest.raises(CorpusError) as caught:
        Corpus(tracks, "root", name="made", source="tracks.csv")
    message = str(caught.value)
    assert message.startswith("tracks.csv: row 2") and f"column '{column}'" in message and expected in message


def test_duplicates_and_emptiness():
    with pytest.raises(CorpusError, match=r"corpus 'made': row 2 \(track_id 't0'\).*that of row 0"):
        Corpus(table(["a"] * 3).assign(track_id=["t0", "t1", "t0"]), "root", name="made")
    with pytest.raises(CorpusError, match="no tracks"):
        make([])


def test_missing_columns_are_null_and_unknown_ones_left_out():
    tracks = make(["a", "b"], colour=["red", "blue"]).table
    assert tuple(tracks.columns) == COLUMNS
    assert tracks["genre"].tolist() == [None, None] and tracks["duration_s"].isna().all()


def test_all_nulls_become_one():
    corpus = make([None, float("nan"), "", "  ", pd.NA, "x"])
    assert corpus.table["artist"].tolist() == [None] * 5 + ["x"]


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=20))
def test_text_has_one_form_whatever_it_was(text):
    form = plain_text(text)
    assert plain_text(form) == form and form == form.strip() and "  " not in form
    for same in (unicodedata.normalize("NFD", text), f" {text}\n", text.replace(" ", "\u00a0 "), f"\ufeff{text}\u200b"):
        assert plain_text(same) == form


def test_text_is_one_form_in_every_column_that_names_something():
    odd, even = "Beyonce\u0301\u200b ", "Beyonc\u00e9"
    single = ("artist", "album", "title", "genre", "language", "gender", "recording")
    several = ("genres", "tags", "instruments")
    corpus = make([odd], **{c: [odd] for c in single[1:]}, **{c: [[odd, even]] for c in several}).table
    assert all(corpus[column][0] == even for column in single if column != "title")
    assert all(corpus[column][0] == (even, even) for column in several)
    names = ["None", "NA", "nan", "null", "007", "1e5", "True", "-"]
    assert make(names).table["artist"].tolist() == names
    kept = pd.DataFrame(dict(track_id=["e\u0301", "\u00e9"], path=["e\u0301.wav", "\u00e9.wav"]))
    same = Corpus(kept, "root", name="made").table[["track_id", "path"]].to_numpy()
    assert same.tolist() == kept.to_numpy().tolist()  # keys, and names on a disk


@pytest.mark.parametrize(
    "value", [7, 7.5, True, b"Ada", ("Ada",), {"Ada"}, pd.Timestamp(0), np.int64(3), "Ada\ud800", 1j]
)
def test_what_is_no_text_is_refused_by_row_and_column(value):
    tracks = table(["a", "b", "c"]).astype(object)
    tracks.at[1, "artist"] = value
    with pytest.raises(CorpusError, match=r"row 1 \(track_id 't1'\), column 'artist': expected a text, found"):
        Corpus(tracks, "root", name="made")


def test_a_table_with_a_column_twice_is_refused():
    tracks = table(["a", "b"])
    tracks = pd.concat([tracks, tracks[["artist"]]], axis=1)
    with pytest.raises(CorpusError, match="corpus 'made': expected one column 'artist', found several"):
        Corpus(tracks, "root", name="made")
    with pytest.raises(CorpusError, match="expected a table, a pandas DataFrame, found dict"):
        Corpus({}, "root", name="made")


@pytest.mark.parametrize(
    "name", ["", " ", ".hidden", "..", "a/b", "a\\b", "a\nb", "a\0b", "x" * 101, "\udce9", None, 3]
)
def test_a_name_that_no_file_could_have_is_refused(name):
    for source in (None, "tracks.csv"):
        with pytest.raises(ParamsError, match="name: expected a text of 1 to 100 bytes"):
            Corpus(table(["a"]), "root", name=name, source=source)


def test_immutable():
    corpus = make(["a", "b"], tags=[["x"], ["y", "z"]])
    before = corpus.fingerprint
    tracks = corpus.table
    tracks["artist"] = "other"
    tracks.at[0, "track_id"] = "other"
    tracks.pop("title")
    assert corpus.table["artist"].tolist() == ["a", "b"] and isinstance(corpus.table["tags"][0], tuple)
    assert corpus.table["track_id"][0] == "t0" and "title" in corpus.table
    with pytest.raises(AttributeError):
        corpus.root = "x"
    assert Corpus(corpus.table, "root", name="made").fingerprint == before
    with pytest.raises(ValueError):
        corpus.split(by="track")["train"][0] = 5


def test_fingerprint_sees_every_column_and_not_the_place():
    base = make(["a", "b"], duration_s=[1.0, 2.0], tags=[["x"], None])
    assert Corpus(base.table, "/elsewhere", name="made", licence="CC").fingerprint == base.fingerprint
    assert Corpus(base.table, "root", name="other").fingerprint != base.fingerprint
    for column, value in dict(artist="z", duration_s=9.0, tags=("y",), split="train", start_s=0.1).items():
        tracks = base.table
        tracks.at[1, column] = value
        assert Corpus(tracks, "root", name="made").fingerprint != base.fingerprint, column
    assert base.subset([1, 0]).fingerprint != base.fingerprint  # splits are row numbers: order counts
    assert pickle.loads(pickle.dumps(base)).fingerprint == base.fingerprint


# Of two tables as they were before `not_instruments`: stores, splits and finished runs hold these.
@pytest.mark.parametrize(
    "columns, frozen",
    [
        ({}, "40d4067463b529c66bff5a25c1643824"),
        (
            dict(duration_s=[1.0, 2.0], genres=[["x", "y"], None], instruments=[["oboe"], []], veteran=[True, None]),
            "4c54f96506a5ab01b23c6722de441f75",
        ),
    ],
)
def test_a_corpus_without_absent_instruments_keeps_its_fingerprint(columns, frozen):
    base = make(["a", "b"], **columns)
    assert base.fingerprint == frozen == make(["a", "b"], not_instruments=[None, None], **columns).fingerprint
    # That nothing is known to be absent is not the same as that all other instruments are.
    seen = {make(["a", "b"], not_instruments=[absent, None], **columns).fingerprint for absent in ((), ("harp",))}
    assert len(seen) == 2 and base.fingerprint not in seen


def test_notes_stay_with_the_corpus_and_leave_its_fingerprint_alone():
    plain = make(["a", "a", "b"])
    noted = Corpus(plain.table, "root", name="made", notes=["2 files are left out", "2 files are left out"])
    assert noted.notes == ("2 files are left out",) and plain.notes == () and "1 note" in repr(noted)
    assert noted.fingerprint == plain.fingerprint
    assert noted.subset([1]).notes == noted.at_least("artist", 2)[0].notes == pickle.loads(pickle.dumps(noted)).notes
    again = noted.with_table(noted.table.assign(genre="x"), "genre is a guess")
    assert again.notes == ("2 files are left out", "genre is a guess") and again.root == noted.root
    for wrong in ("a sentence", [3]):
        with pytest.raises(ParamsError, match="notes: expected a sequence of sentences"):
            Corpus(plain.table, "root", name="made", notes=wrong)


# ---- parts and labels


def test_subset_keeps_the_order_asked_for():
    corpus = make(list("abcd"))
    assert corpus.subset([2, 0]).table["artist"].tolist() == ["c", "a"]
    assert corpus.subset(corpus.table["artist"] > "b").table["artist"].tolist() == ["c", "d"]
    with pytest.raises(CorpusError, match="no tracks left"):
        corpus.subset(np.zeros(4, bool))
    for wrong in ([0, 4], [-1], [1, 1], np.ones(3, bool), [0.5]):
        with pytest.raises(ParamsError, match="rows:"):
            corpus.subset(wrong)


def test_labels():
    corpus = make(
        ["b", "a", "b", None, "c"],
        genres=[["x", "y"], ["y"], None, [], ["y", "y"]],
        veteran=[True, False, True, None, True],
    )
    by_count, by_name = corpus.labels("artist"), corpus.labels("artist", order="name")
    assert by_count.classes == ("b", "a", "c") and by_count.counts.tolist() == [2, 1, 1]
    assert by_count.codes.tolist() == [0, 1, 0, -1, 2]
    assert by_name.classes == ("a", "b", "c") and by_name.codes.dtype == np.int64
    multi = corpus.labels("genres")
    assert multi.classes == ("y", "x") and multi.codes is None and multi.matrix.dtype == np.float32
    np.testing.assert_array_equal(multi.matrix, [[1, 1], [1, 0], [0, 0], [0, 0], [1, 0]])
    assert multi.counts.tolist() == [3, 1]
    assert corpus.labels("veteran").classes == ("True", "False")
    with pytest.raises(CorpusError, match="has no language"):
        corpus.labels("language")
    with pytest.raises(ParamsError, match="column: expected one of"):
        corpus.labels("colour")
    with pytest.raises(ParamsError, match="order"):
        corpus.labels("artist", order="size")


states = st.lists(st.lists(st.sampled_from([None, True, False]), min_size=3, max_size=3), min_size=2, max_size=8)


@settings(deadline=None, max_examples=30)
@given(states.filter(lambda tracks: any(True in track for track in tracks)), st.data())
def test_what_nobody_judged_is_unknown_in_every_subset(tracks, data):
    "What goes in as present, absent or unknown comes out so, whichever tracks are kept."
    names = np.array(["harp", "oboe", "tuba"])
    known = np.array(tracks, dtype=float)  # 1 present, 0 absent, NaN unknown
    present = [names[track == 1].tolist() for track in known]
    absent = [names[track == 0].tolist() for track in known]
    corpus = make([str(i) for i in range(len(known))], instruments=present, not_instruments=absent)
    rows = data.draw(st.lists(st.sampled_from(range(len(known))), min_size=1, unique=True))
    expected = known[rows]
    if not (expected == 1).any():
        return
    labels = corpus.subset(rows).labels("instruments", order="name")
    judged = np.isfinite(expected).any(0)
    assert labels.classes == tuple(names[judged])
    np.testing.assert_array_equal(labels.matrix, expected[:, judged])
    assert labels.counts.tolist() == (expected[:, judged] == 1).sum(0).tolist()


def test_a_contradiction_is_named():
    message = "row 1 .*column 'not_instruments': expected none of the track's instruments, found 'oboe'"
    with pytest.raises(CorpusError, match=message):
        make(["a", "b"], instruments=[["oboe"], ["harp", "oboe"]], not_instruments=[[], ["oboe"]])


def test_parts_share_the_instruments_that_are_known():
    "Stratified by labels with gaps: each part gets its share of what is known to be there."
    present = np.random.default_rng(0).random((120, 3)) < 0.3
    instruments = [np.array(["a", "b", "c"])[row].tolist() for row in present]
    corpus = make([str(i // 2) for i in range(120)], instruments=instruments, not_instruments=[[]] * 120)
    valid = corpus.split(fractions=(0.75, 0.25), stratify="instruments")["valid"]
    assert (abs(present[valid].sum(0) / present.sum(0) - 0.25) < 0.06).all() and abs(len(valid) - 30) <= 3


def test_at_least_says_what_it_left_out():
    corpus, left_out = make(["a"] * 3 + ["b"] * 2 + ["c"] + [None] * 2).at_least("artist", 2)
    assert corpus.table["artist"].tolist() == ["a"] * 3 + ["b"] * 2 and left_out == {"c": 1, None: 2}
    with pytest.raises(CorpusError, match="no artist has 9 tracks"):
        corpus.at_least("artist", 9)


# ---- splits

corpora = st.lists(st.sampled_from([*"abcdefghij", None]), min_size=6, max_size=60)
fractions = st.sampled_from([(0.85, 0.15), (0.5, 0.5), (0.7, 0.15, 0.15), (0.34, 0.33, 0.33), (0.2, 0.8)])


def groups_of(corpus, by):
    "What must not be divided, for each row."
    tracks, groups = corpus.table, []
    if by == "source":
        return groups_of_sources(tracks)
    for artist, album, track in zip(tracks["artist"], tracks["album"], tracks["track_id"], strict=True):
        if by == "album" and album:
            groups.append((artist, album))
        elif by == "artist" and artist:
            groups.append((artist,))
        else:
            groups.append(("track", track))
    return pd.Series(groups)


def groups_of_sources(tracks):
    "Sources, those of one artist together; the first row of each group stands for it."
    group = np.arange(len(tracks))
    for _ in group:
        for column in ("source", "artist"):
            known = tracks[column].notna()
            group[known] = pd.Series(group[known]).groupby(tracks[column][known].to_numpy()).transform("min")
    return pd.Series(group)


@settings(max_examples=80, deadline=None)
@given(
    corpora,
    fractions,
    st.sampled_from(["artist", "album", "source", "track"]),
    st.integers(0, 5),
    st.sampled_from([None, "genre"]),
)
def test_no_group_in_two_parts_and_nothing_lost(artists, fractions, by, seed, stratify):
    rows = range(len(artists))
    albums, genres = ["A" if row % 3 else None for row in rows], ["g" + "xyz"[row % 3] for row in rows]
    sources = [f"game {row % 7}" if row % 4 and row < 9 else None for row in rows]
    corpus = make(artists, album=albums, genre=genres, source=sources)
    group = groups_of(corpus, by)
    if group.nunique() < len(fractions):
        with pytest.raises(CorpusError):
            corpus.split(by=by, fractions=fractions, seed=seed)
        return
    parts = corpus.split(by=by, fractions=fractions, seed=seed, stratify=stratify).parts.values()
    assert sorted(np.concatenate(list(parts))) == list(rows)
    assert all(len(part) for part in parts)
    groups = [set(group[part]) for part in parts]
    assert sum(map(len, groups)) == len(set.union(*groups))


@settings(max_examples=80, deadline=None)
@given(corpora, fractions, st.integers(0, 5))
def test_fractions_hold_within_one_group(artists, fractions, seed):
    corpus = make(artists)
    sizes = groups_of(corpus, "artist").value_counts()
    if len(sizes) < 3 * len(fractions):
        return  # so few that the one group that each part must have decides
    for part, fraction in zip(corpus.split(fractions=fractions, seed=seed).parts.values(), fractions, strict=True):
        assert abs(len(part) - fraction * len(corpus)) <= sizes.max()


@settings(max_examples=40, deadline=None)
@given(
    corpora,
    st.integers(0, 5),
    st.sampled_from(["artist", "track", "window"]),
    st.sampled_from([None, "genre"]),
    st.randoms(),
)
def test_a_split_does_not_depend_on_the_order_of_rows(artists, seed, by, stratify, random):
    if by == "window":
        stratify = None
    corpus = make(artists, genre=["g" + "xy"[row % 2] for row in range(len(artists))])
    if groups_of(corpus, "artist").nunique() < 2:
        return
    order = list(range(len(corpus)))
    random.shuffle(order)
    n_windows = 3 if by == "window" else None

    def items_by_part(corpus):
        split, tracks, n = corpus.split(by=by, seed=seed, stratify=stratify, n_windows=n_windows), {}, n_windows or 1
        for part, items in split.parts.items():
            tracks[part] = set(zip(corpus.table["track_id"][items // n], items % n, strict=True))
        return tracks

    assert items_by_part(corpus) == items_by_part(corpus.subset(order))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["Ada", "ADA", "A\uff44a", "Bo", "Cy", "Di", None]),
            st.sampled_from("pqrstuvwxyz"),
            st.sampled_from([None, None, None, "one", "two"]),
        ),
        min_size=8,
        max_size=30,
    ),
    st.sampled_from(["artist", "album", "track"]),
    st.integers(0, 3),
    st.sampled_from([None, "genre"]),
)
def test_clips_of_a_file_recordings_and_spellings_are_never_divided(rows, by, seed, stratify):
    artists, files, recordings = zip(*rows, strict=True)
    paths = [f"./{file}.wav" if row % 2 else f"{file}.wav" for row, file in enumerate(files)]
    starts, genres = np.arange(len(rows), dtype=float), ["xy"[row % 2] for row in range(len(rows))]
    whole = dict(path=paths, start_s=starts, recording=recordings, genre=genres)
    corpus = Corpus(table(artists).assign(**whole), "root", name="made")
    try:
        sides = list(corpus.split(by=by, fractions=(0.5, 0.5), seed=seed, stratify=stratify).parts.values())
    except CorpusError:
        assert by != "track" or len(set(corpus.recordings())) == 1
        return
    folded = [unicodedata.normalize("NFKC", artist).casefold() if artist else None for artist in artists]
    for what in (files, recordings, corpus.recordings().tolist(), folded if by == "artist" else files):
        one, other = ({what[row] for row in side} - {None} for side in sides)
        assert not one & other


def test_clips_of_one_file_leave_the_groups_of_others_alone():
    plain = make([f"a{i // 3}" for i in range(60)])
    before = plain.split(seed=1)["valid"]
    cut = plain.table
    cut.loc[cut["artist"] == "a0", "path"] = "0.wav"
    cut["start_s"] = np.arange(60.0)
    np.testing.assert_array_equal(Corpus(cut, "root", name="made").split(seed=1)["valid"], before)


def test_the_seed_decides():
    corpus = make([f"a{i // 2}" for i in range(80)])
    first, again, other = (corpus.split(seed=seed)["valid"] for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert set(first) != set(other)


@pytest.mark.parametrize("by", ["artist", "track"])
def test_stratify_brings_each_class_into_each_part(by):
    rng = np.random.default_rng(0)
    artists, genres = [], []
    for genre, n_artists in enumerate([60, 30, 9, 4, 3]):  # the rarest has exactly one artist per part
        for artist in range(n_artists):
            n_tracks = int(rng.integers(1, 9))
            artists += [f"{genre}-{artist}"] * n_tracks
            genres += [f"g{genre}"] * n_tracks
    corpus, fractions, missed = make(artists, genre=genres), (0.7, 0.15, 0.15), 0
    genre_of = corpus.table["genre"]
    for seed in range(5):
        split = corpus.split(by=by, fractions=fractions, seed=seed, stratify="genre")
        for (part, rows), fraction in zip(split.parts.items(), fractions, strict=True):
            assert genre_of[rows].nunique() == 5, (seed, part)
            assert abs(len(rows) / len(corpus) - fraction) < 0.05
        plain = corpus.split(by="artist", fractions=fractions, seed=seed)
        missed += sum(genre_of[rows].nunique() < 5 for rows in plain.parts.values())
    assert missed  # without strata the rare class does get lost: the option makes a difference


@settings(max_examples=80, deadline=None)
@given(
    corpora,
    st.integers(2, 6),
    st.sampled_from(["artist", "album", "source", "track"]),
    st.integers(0, 5),
    st.sampled_from([None, "genre", "tags"]),
)
def test_folds_divide_no_group_lose_nothing_and_are_never_empty(artists, n_folds, by, seed, stratify):
    rows = range(len(artists))
    tags = [tuple("xyz"[: row % 4]) for row in rows]
    albums, genres = ["A" if row % 3 else None for row in rows], ["xyz"[row % 3] if row % 5 else None for row in rows]
    sources = [f"game {row % 7}" if row % 4 and row < 9 else None for row in rows]
    corpus = make(artists, album=albums, genre=genres, tags=tags, source=sources)
    group = groups_of(corpus, by)
    if group.nunique() < n_folds:
        with pytest.raises(CorpusError, match=f"{n_folds} folds need at least {n_folds} {by}s"):
            corpus.folds(by, n_folds, seed)
        return
    folds = corpus.folds(by, n_folds, seed, stratify)
    assert set(folds) == set(range(n_folds)) and len(folds) == len(corpus)
    assert pd.Series(folds).groupby(group).nunique().eq(1).all()
    order = np.random.default_rng(seed).permutation(len(corpus))
    assert corpus.subset(order).folds(by, n_folds, seed, stratify).tolist() == folds[order].tolist()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 9), min_size=3, max_size=12), st.integers(4, 6), st.integers(0, 3))
def test_folds_are_even_and_whoever_is_tested_was_trained_on(sizes, n_folds, seed):
    corpus = make([f"artist {i}" for i, n in enumerate(sizes) for _ in range(n)])
    if len(corpus) < n_folds:
        return
    folds, artist = corpus.folds("track", n_folds, seed, "artist"), corpus.labels("artist").codes
    for one in range(len(sizes)):
        held = np.bincount(folds[artist == one], minlength=n_folds)
        assert np.ptp(held) <= 1
        for fold in np.flatnonzero(held):
            assert held.sum() > held[fold] + held[(fold + 1) % n_folds]  # beside the test part and the validation


def test_other_seeds_give_other_folds():
    corpus = make([f"a{i // 2}" for i in range(80)])
    first, again, other = (corpus.folds(seed=seed) for seed in (1, 1, 2))
    assert first.tolist() == again.tolist() != other.tolist()


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(by="window"), "by: expected 'artist', 'album', 'source' or 'track'"),
        (dict(by="song"), "by: expected"),
        (dict(n_folds=1), "n_folds: expected a whole number of 2 or more, found 1"),
        (dict(n_folds=2.0), "n_folds"),
        (dict(seed="1"), "seed"),
        (dict(stratify="colour"), "column: expected one of"),
    ],
)
def test_wrong_arguments_of_folds(arguments, message):
    with pytest.raises(ParamsError, match=message):
        make(list("abcdefg")).folds(**arguments)


def test_windows_leak():
    split = make([f"a{i}" for i in range(50)]).split(by="window", n_windows=7, seed=3)
    train, valid = split["train"], split["valid"]
    assert len(train) + len(valid) == 350 and len(valid) == 52 and not set(train) & set(valid)
    assert len(set(valid // 7) & set(train // 7)) > 20
    assert "leaks" in Corpus.split.__doc__


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(by="song"), "by: expected"),
        (dict(fractions=(0.5, 0.6)), "fractions"),
        (dict(fractions=(1.0,)), "fractions"),
        (dict(fractions=(1.0, 0.0)), "fractions"),
        (dict(seed="1"), "seed"),
        (dict(by="window"), "n_windows"),
        (dict(n_windows=7), "n_windows"),
        (dict(by="window", n_windows=7, stratify="genre"), "stratify"),
        (dict(stratify="colour"), "column: expected one of"),
    ],
)
def test_wrong_arguments(arguments, message):
    with pytest.raises(ParamsError, match=message):
        make(["a", "b", "c"]).split(**arguments)


def test_too_few_groups_says_how_many():
    with pytest.raises(CorpusError, match="3 parts need at least 3 artists, found 2"):
        make(["a", "a", "b"]).split(fractions=(0.6, 0.2, 0.2))


def test_official():
    official = make(list("abcd"), split=["train", "test", None, "train"]).official
    assert {part: rows.tolist() for part, rows in official.parts.items()} == {"train": [0, 3], "test": [1]}
    with pytest.raises(CorpusError, match="no official split"):
        _ = make(["a"]).official


def test_save_and_load(tmp_path):
    corpus, path = make(list("abcdef")), tmp_path / "split.json"
    split = corpus.split(by="window", n_windows=4, seed=2)
    split.save(path)
    loaded = Split.load(path, corpus)
    assert (loaded.by, loaded.seed, loaded.n_windows) == ("window", 2, 4) and repr(loaded) == repr(split)
    for part in split.parts:
        np.testing.assert_array_equal(loaded[part], split[part])
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(CorpusError, match="another corpus"):
        Split.load(path, make(list("abcdeg")))
    path.write_text(json.dumps([1]))
    with pytest.raises(CorpusError, match="not a saved split"):
        Split.load(path)
    with pytest.raises(CorpusError, match="not a saved split"):
        Split.load(tmp_path / "none.json")
