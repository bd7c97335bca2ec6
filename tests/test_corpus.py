"The table is checked and cannot change; labels and splits follow from it alone."

import json
import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.core import CorpusError, ParamsError
from musicmtl.corpus import COLUMNS, Corpus, Split


def table(artists, **columns):
    n = len(artists)
    return pd.DataFrame(
        dict(track_id=[f"t{i}" for i in range(n)], path=[f"{i}.wav" for i in range(n)], artist=artists, **columns)
    )


def make(artists, **columns):
    return Corpus(table(artists, **columns), "root", name="made")


# ---- entry


@pytest.mark.parametrize(
    "column, value, expected",
    [
        ("path", "", "expected a path, found nothing"),
        ("path", None, "expected a path, found nothing"),
        ("path", "../x.wav", "stays inside it"),
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
    t = table(["a", "b", "c", "d"])
    if column not in t:
        t[column] = None
    t[column] = t[column].astype(object)
    t.at[2, column] = value
    with pytest.raises(CorpusError) as e:
        Corpus(t, "root", name="made", source="tracks.csv")
    message = str(e.value)
    assert message.startswith("tracks.csv: row 2") and f"column '{column}'" in message and expected in message


def test_duplicates_and_emptiness():
    with pytest.raises(CorpusError, match=r"corpus 'made': row 2 \(track_id 't0'\).*that of row 0"):
        Corpus(table(["a"] * 3).assign(track_id=["t0", "t1", "t0"]), "root", name="made")
    with pytest.raises(CorpusError, match="no tracks"):
        make([])


def test_missing_columns_are_null_and_unknown_ones_left_out():
    c = make(["a", "b"], colour=["red", "blue"])
    assert tuple(c.table.columns) == COLUMNS
    assert c.table["genre"].tolist() == [None, None] and c.table["duration_s"].isna().all()


def test_all_nulls_become_one():
    c = make([None, float("nan"), "", "  ", pd.NA, "x"])
    assert c.table["artist"].tolist() == [None] * 5 + ["x"]


def test_immutable():
    c = make(["a", "b"], tags=[["x"], ["y", "z"]])
    before = c.fingerprint
    t = c.table
    t["artist"] = "other"
    t.drop(index=0, inplace=True)
    assert c.table["artist"].tolist() == ["a", "b"] and isinstance(c.table["tags"][0], tuple)
    with pytest.raises(AttributeError):
        c.root = "x"
    assert Corpus(c.table, "root", name="made").fingerprint == before
    with pytest.raises(ValueError):
        c.split(by="track")["train"][0] = 5


def test_fingerprint_sees_every_column_and_not_the_place():
    base = make(["a", "b"], duration_s=[1.0, 2.0], tags=[["x"], None])
    assert Corpus(base.table, "/elsewhere", name="made", licence="CC").fingerprint == base.fingerprint
    assert Corpus(base.table, "root", name="other").fingerprint != base.fingerprint
    for column, value in dict(artist="z", duration_s=9.0, tags=("y",), split="train", start_s=0.1).items():
        t = base.table
        t.at[1, column] = value
        assert Corpus(t, "root", name="made").fingerprint != base.fingerprint, column
    assert base.subset([1, 0]).fingerprint != base.fingerprint  # splits are row numbers: order counts
    assert pickle.loads(pickle.dumps(base)).fingerprint == base.fingerprint


# Of two tables as they were before `not_instruments`: stores, splits and finished runs carry these
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
    seen = {make(["a", "b"], not_instruments=[x, None], **columns).fingerprint for x in ((), ("harp",))}
    assert (
        len(seen) == 2 and base.fingerprint not in seen
    )  # that nothing is known to be absent is not the same as that all else is


# ---- parts and labels


def test_subset_keeps_the_order_asked_for():
    c = make(list("abcd"))
    assert c.subset([2, 0]).table["artist"].tolist() == ["c", "a"]
    assert c.subset(c.table["artist"] > "b").table["artist"].tolist() == ["c", "d"]
    with pytest.raises(CorpusError, match="no tracks left"):
        c.subset(np.zeros(4, bool))
    for wrong in ([0, 4], [-1], [1, 1], np.ones(3, bool), [0.5]):
        with pytest.raises(ParamsError, match="rows:"):
            c.subset(wrong)


def test_labels():
    c = make(
        ["b", "a", "b", None, "c"],
        genres=[["x", "y"], ["y"], None, [], ["y", "y"]],
        veteran=[True, False, True, None, True],
    )
    by_count, by_name = c.labels("artist"), c.labels("artist", order="name")
    assert (
        by_count.classes == ("b", "a", "c")
        and by_count.codes.tolist() == [0, 1, 0, -1, 2]
        and by_count.counts.tolist() == [2, 1, 1]
    )
    assert by_name.classes == ("a", "b", "c") and by_name.codes.dtype == np.int64
    multi = c.labels("genres")
    assert multi.classes == ("y", "x") and multi.codes is None and multi.matrix.dtype == np.float32
    np.testing.assert_array_equal(multi.matrix, [[1, 1], [1, 0], [0, 0], [0, 0], [1, 0]])
    assert multi.counts.tolist() == [3, 1]
    assert c.labels("veteran").classes == ("True", "False")
    with pytest.raises(CorpusError, match="has no language"):
        c.labels("language")
    with pytest.raises(ParamsError, match="column: expected one of"):
        c.labels("colour")
    with pytest.raises(ParamsError, match="order"):
        c.labels("artist", order="size")


states = st.lists(st.lists(st.sampled_from([None, True, False]), min_size=3, max_size=3), min_size=2, max_size=8)


@settings(deadline=None, max_examples=30)
@given(states.filter(lambda rows: any(True in r for r in rows)), st.data())
def test_what_nobody_judged_is_unknown_in_every_subset(known, data):
    "What goes in as present, absent or unknown comes out so, whichever tracks are kept."
    names = ("harp", "oboe", "tuba")
    c = make(
        [str(i) for i in range(len(known))],
        **{
            column: [[n for n, x in zip(names, r, strict=True) if x is is_there] for r in known]
            for column, is_there in (("instruments", True), ("not_instruments", False))
        },
    )
    rows = data.draw(st.lists(st.sampled_from(range(len(known))), min_size=1, unique=True))
    if not any(True in known[r] for r in rows):
        return
    labels = c.subset(rows).labels("instruments", order="name")
    expected = np.array([[{True: 1.0, False: 0.0, None: np.nan}[x] for x in known[r]] for r in rows])
    judged = np.isfinite(expected).any(0)
    assert labels.classes == tuple(n for n, j in zip(names, judged, strict=True) if j)
    np.testing.assert_array_equal(labels.matrix, expected[:, judged])
    assert labels.counts.tolist() == (expected[:, judged] == 1).sum(0).tolist()


def test_a_contradiction_is_named():
    with pytest.raises(
        CorpusError, match="row 1 .*column 'not_instruments': expected none of the track's instruments, found 'oboe'"
    ):
        make(["a", "b"], instruments=[["oboe"], ["harp", "oboe"]], not_instruments=[[], ["oboe"]])


def test_parts_share_the_instruments_that_are_known():
    "Stratified by labels with gaps: each part gets its share of what is known to be there."
    rng = np.random.default_rng(0)
    there = rng.random((120, 3)) < 0.3
    c = make(
        [str(i // 2) for i in range(120)],
        instruments=[[n for n, x in zip("abc", r, strict=True) if x] for r in there],
        not_instruments=[[]] * 120,
    )
    s = c.split(fractions=(0.75, 0.25), stratify="instruments")
    assert (abs(there[s["valid"]].sum(0) / there.sum(0) - 0.25) < 0.06).all() and abs(len(s["valid"]) - 30) <= 3


def test_at_least_says_what_it_left_out():
    c, left = make(["a"] * 3 + ["b"] * 2 + ["c"] + [None] * 2).at_least("artist", 2)
    assert c.table["artist"].tolist() == ["a"] * 3 + ["b"] * 2 and left == {"c": 1, None: 2}
    with pytest.raises(CorpusError, match="no artist has 9 tracks"):
        c.at_least("artist", 9)


# ---- splits

corpora = st.lists(st.sampled_from([*"abcdefghij", None]), min_size=6, max_size=60)
fractions = st.sampled_from([(0.85, 0.15), (0.5, 0.5), (0.7, 0.15, 0.15), (0.34, 0.33, 0.33), (0.2, 0.8)])


def groups_of(c, by):
    t = c.table
    key = [
        (a, b) if by == "album" and b else (a,) if by == "artist" and a else ("track", i)
        for a, b, i in zip(t["artist"], t["album"], t["track_id"], strict=True)
    ]
    return pd.Series(key)


@settings(max_examples=80, deadline=None)
@given(
    corpora,
    fractions,
    st.sampled_from(["artist", "album", "track"]),
    st.integers(0, 5),
    st.sampled_from([None, "genre"]),
)
def test_no_group_in_two_parts_and_nothing_lost(artists, fractions, by, seed, stratify):
    c = make(
        artists,
        album=["A" if i % 3 else None for i in range(len(artists))],
        genre=["g" + "xyz"[i % 3] for i in range(len(artists))],
    )
    group = groups_of(c, by)
    if group.nunique() < len(fractions):
        with pytest.raises(CorpusError):
            c.split(by=by, fractions=fractions, seed=seed)
        return
    s = c.split(by=by, fractions=fractions, seed=seed, stratify=stratify)
    assert sorted(np.concatenate(list(s.parts.values()))) == list(range(len(c)))
    assert all(len(p) for p in s.parts.values())
    sets = [set(group[p]) for p in s.parts.values()]
    assert sum(map(len, sets)) == len(set.union(*sets))


@settings(max_examples=80, deadline=None)
@given(corpora, fractions, st.integers(0, 5))
def test_fractions_hold_within_one_group(artists, fractions, seed):
    c = make(artists)
    sizes = groups_of(c, "artist").value_counts()
    if len(sizes) < 3 * len(fractions):
        return  # so few that the one group each part must have decides
    for p, f in zip(c.split(fractions=fractions, seed=seed).parts.values(), fractions, strict=True):
        assert abs(len(p) - f * len(c)) <= sizes.max()


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
    c = make(artists, genre=["g" + "xy"[i % 2] for i in range(len(artists))])
    if groups_of(c, "artist").nunique() < 2:
        return
    order = list(range(len(c)))
    random.shuffle(order)
    kw = dict(by=by, seed=seed, stratify=stratify, n_windows=3 if by == "window" else None)
    n, d = kw["n_windows"] or 1, c.subset(order)
    a, b = c.split(**kw), d.split(**kw)
    for part in a.parts:
        one, two = ({(t["track_id"][i // n], i % n) for i in s[part]} for t, s in ((c.table, a), (d.table, b)))
        assert one == two


def test_the_seed_decides():
    c = make([f"a{i // 2}" for i in range(80)])
    a, b, d = c.split(seed=1), c.split(seed=1), c.split(seed=2)
    np.testing.assert_array_equal(a["valid"], b["valid"])
    assert set(a["valid"]) != set(d["valid"])


@pytest.mark.parametrize("by", ["artist", "track"])
def test_stratify_brings_each_class_into_each_part(by):
    rng = np.random.default_rng(0)
    artists, genres = [], []
    for g, n_artists in enumerate([60, 30, 9, 4, 3]):  # the rarest has exactly one artist a part
        for a in range(n_artists):
            k = int(rng.integers(1, 9))
            artists += [f"{g}-{a}"] * k
            genres += [f"g{g}"] * k
    c = make(artists, genre=genres)
    for seed in range(5):
        s = c.split(by=by, fractions=(0.7, 0.15, 0.15), seed=seed, stratify="genre")
        for part, f in zip(s.parts, (0.7, 0.15, 0.15), strict=True):
            assert set(c.table["genre"][s[part]]) == {f"g{g}" for g in range(5)}, (seed, part)
            assert abs(len(s[part]) / len(c) - f) < 0.05
    missed = [
        p
        for seed in range(5)
        for p in c.split(by="artist", fractions=(0.7, 0.15, 0.15), seed=seed).parts.values()
        if c.table["genre"][p].nunique() < 5
    ]
    assert missed  # without strata the rare class does get lost: the option is worth having


def test_windows_leak():
    c = make([f"a{i}" for i in range(50)])
    s = c.split(by="window", n_windows=7, seed=3)
    assert len(s["train"]) + len(s["valid"]) == 350 and len(s["valid"]) == 52 and not set(s["train"]) & set(s["valid"])
    shared = set(s["valid"] // 7) & set(s["train"] // 7)
    assert len(shared) > 20
    assert "leaks" in Corpus.split.__doc__


@pytest.mark.parametrize(
    "kw, text",
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
def test_wrong_arguments(kw, text):
    with pytest.raises(ParamsError, match=text):
        make(["a", "b", "c"]).split(**kw)


def test_too_few_groups_says_how_many():
    with pytest.raises(CorpusError, match="3 parts need at least 3 artists, found 2"):
        make(["a", "a", "b"]).split(fractions=(0.6, 0.2, 0.2))


def test_official():
    c = make(list("abcd"), split=["train", "test", None, "train"])
    assert {k: v.tolist() for k, v in c.official.parts.items()} == {"train": [0, 3], "test": [1]}
    with pytest.raises(CorpusError, match="no official split"):
        _ = make(["a"]).official


def test_save_and_load(tmp_path):
    c = make(list("abcdef"))
    s = c.split(by="window", n_windows=4, seed=2)
    s.save(tmp_path / "s.json")
    r = Split.load(tmp_path / "s.json", c)
    assert (r.by, r.seed, r.n_windows) == ("window", 2, 4) and repr(r) == repr(s)
    for p in s.parts:
        np.testing.assert_array_equal(r[p], s[p])
    assert [p.name for p in tmp_path.iterdir()] == ["s.json"]
    with pytest.raises(CorpusError, match="another corpus"):
        Split.load(tmp_path / "s.json", make(list("abcdeg")))
    (tmp_path / "s.json").write_text(json.dumps([1]))
    with pytest.raises(CorpusError, match="not a saved split"):
        Split.load(tmp_path / "s.json")
    with pytest.raises(CorpusError, match="not a saved split"):
        Split.load(tmp_path / "none.json")
