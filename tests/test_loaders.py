"Corpora come out as they were published; whatever is wrong is said in one sentence."

import csv
import json
import sys
import types
import warnings
from collections import Counter

import mutagen
import mutagen.id3
import numpy as np
import pytest
import soundfile

from musicmtl.core import CorpusError, ParamsError
from musicmtl.loaders import BALLROOM, BALLROOM_DROPPED, load_corpus


def sound(path, seconds=0.5, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".opus":
        soundfile.write(path, np.sin(np.arange(int(48000 * seconds)) / 20), 48000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, np.sin(np.arange(int(16000 * seconds)) / 10), 16000, format=path.suffix[1:].upper())
    if not tags:
        return
    if path.suffix.lower() == ".wav":
        f = mutagen.File(path)
        f.add_tags()
        for k, v in tags.items():
            f.tags.add(getattr(mutagen.id3, dict(artist="TPE1", album="TALB", title="TIT2", genre="TCON")[k])(text=v))
    else:
        f = mutagen.File(path, easy=True)
        if f.tags is None:
            f.add_tags()
        for k, v in tags.items():
            f[k] = v
    f.save()


# ---- folder: tags


def test_tags_of_every_format(tmp_path):
    for s in ("wav", "flac", "ogg", "opus", "mp3"):
        sound(tmp_path / f"{s}.{s}", artist=f"Ärtist {s}", album="Album", title=f"Title {s}", genre="Folk")
    t = load_corpus("folder", tmp_path).table.set_index("path")
    assert len(t) == 5
    for p, row in t.iterrows():
        s = p.split(".")[1]
        assert (row["artist"], row["album"], row["title"], row["genre"]) == (
            f"Ärtist {s}",
            "Album",
            f"Title {s}",
            "Folk",
        )
        assert abs(row["duration_s"] - 0.5) < 0.1  # the length in an mp3's header counts whole frames
    assert t["genres"].isna().all()


def test_what_is_walked(tmp_path):
    for p in ("b/two.FLAC", "a/one.wav", "c.Au", ".hidden.wav", ".git/x.wav", "a/.trash/y.wav"):
        sound(tmp_path / p)
    (tmp_path / "a" / "words.txt").write_text("no")
    (tmp_path / "broken.mp3").write_text("not music")
    (tmp_path / "empty.ogg").write_bytes(b"")
    c = load_corpus("folder", tmp_path)
    assert c.table["path"].tolist() == ["a/one.wav", "b/two.FLAC", "broken.mp3", "c.Au", "empty.ogg"]
    assert c.name == tmp_path.name and all(c.path(i).is_file() for i in range(5))
    unknown = c.table.set_index("path").loc[["broken.mp3", "c.Au", "empty.ogg"], ["artist", "title", "genre"]]
    assert unknown.isna().all().all()


def test_several_genres_become_a_list(tmp_path):
    sound(tmp_path / "a.flac", genre=["Rock", "Punk"])
    sound(tmp_path / "b.flac", genre=["Folk"])
    sound(tmp_path / "c.flac")
    t = load_corpus("folder", tmp_path).table
    assert t["genre"].tolist() == ["Rock", "Folk", None] and t["genres"].tolist() == [("Rock", "Punk"), ("Folk",), None]


def test_a_file_name_that_is_no_text_is_still_a_track(tmp_path):
    if sys.platform != "linux":
        pytest.skip("names are bytes on Linux alone")
    sound(tmp_path / "a.wav")
    (tmp_path / "a.wav").rename(tmp_path / b"\xe9.wav".decode("utf-8", "surrogateescape"))
    c = load_corpus("folder", tmp_path)
    assert c.path(0).is_file() and c.table["track_id"][0].encode("utf-8") and c.fingerprint


# ---- folder: table


def test_table(tmp_path):
    (tmp_path / "tracks.csv").write_text(
        "\ufefftrack_id,path,artist,duration_s,tags,veteran,licence,colour\n"
        "1,a.wav,None,1.5,x | y,true,CC BY,red\n2,b.wav,NA,,,False,CC0,\n",
        encoding="utf-8",
    )
    c = load_corpus("folder", tmp_path, corpus_name="mine")
    t = c.table
    assert t["track_id"].tolist() == ["1", "2"] and t["artist"].tolist() == ["None", "NA"]  # names, not gaps
    assert t["duration_s"][0] == 1.5 and np.isnan(t["duration_s"][1])
    assert t["tags"].tolist() == [("x", "y"), None] and t["veteran"].tolist() == [True, False]
    assert c.name == "mine" and c.licence == "CC BY; CC0" and "colour" not in t


@pytest.mark.parametrize(
    "text, error",
    [
        ("artist\nA\n", "tracks.csv: expected a column 'path', found artist"),
        ("", "tracks.csv: not a readable table"),
        ("path\n", "tracks.csv: no tracks"),
        ("path,artist\na.wav,A\n,B\n", r"tracks.csv: row 1.*column 'path': expected a path, found nothing"),
        ("path\na.wav\na.wav\n", "row 1 .*track_id of its own, found that of row 0"),
        (
            "path,start_s\na.wav,soon\n",
            "row 0 .*column 'start_s': expected a number of seconds, 0 or more, found 'soon'",
        ),
        ("path,veteran\na.wav,maybe\n", "column 'veteran': expected true or false, found 'maybe'"),
        ("path\n../a.wav\n", "stays inside it, found '../a.wav'"),
    ],
)
def test_a_wrong_table_is_named(tmp_path, text, error):
    (tmp_path / "tracks.csv").write_text(text)
    with pytest.raises(CorpusError, match=error):
        load_corpus("folder", tmp_path)


def test_a_table_says_what_is_absent(tmp_path):
    (tmp_path / "tracks.csv").write_text(
        "path,instruments,not_instruments\na.wav,oboe | harp,tuba\nb.wav,tuba,\nc.wav,,\n"
    )
    labels = load_corpus("folder", tmp_path).labels("instruments", order="name")
    assert labels.classes == ("harp", "oboe", "tuba")
    np.testing.assert_array_equal(
        labels.matrix, [[1, 1, 0], [np.nan, np.nan, 1], [np.nan] * 3]
    )  # empty is not "all others are absent"


def test_albums(data):
    c = load_corpus("folder", data / "albums")
    with open(data / "albums" / "tracks.csv", encoding="utf-8") as f:
        rows = list(csv.DictReader(f))
    counts = Counter(r["artist"] for r in rows)
    assert c.name == "albums" and len(c) == len(rows) == 117 and c.table["artist"].nunique() == len(counts) == 16
    assert c.table["duration_s"].tolist() == [float(r["duration_s"]) for r in rows]
    assert all(c.path(i).is_file() for i in range(len(c)))
    kept, left = c.at_least("artist", 3)
    assert len(kept) == 106 and kept.table["artist"].nunique() == 8
    assert left == {a: n for a, n in counts.items() if n < 3}
    assert round(kept.labels("artist").counts.max() / len(kept), 3) == 0.387
    s = kept.split(by="track", fractions=(0.7, 0.15, 0.15), stratify="artist")
    assert all(kept.table["artist"][s[p]].nunique() == 8 for p in s.parts)


# ---- regional


def test_a_plain_folder_with_languages(tmp_path):
    rows = [
        "path,artist,language,gender,veteran",
        "a.wav,Ada,Hindi,female,1",
        "b.wav,Ben,Khasi & Jaintia,male,0",
        "c.wav,Cy,Hindi,,",
    ]
    (tmp_path / "tracks.csv").write_text("\n".join(rows))
    c = load_corpus("folder", tmp_path)
    assert c.labels("artist").classes == ("Ada", "Ben", "Cy") and c.labels("language").classes == (
        "Hindi",
        "Khasi & Jaintia",
    )
    assert c.table["gender"].tolist() == ["female", "male", None] and c.table["veteran"].tolist() == [True, False, None]


def test_labels_from_folders(tmp_path):
    for p in (
        "Hindi_3/Ada_12_f_1/Rain_1.wav",
        "Hindi_3/Ada_12_f_1/Rain.flac",
        "Hindi_3/Ben de_la_C_13_MALE_modern/La_Luna_2.ogg",
        "Khasi & Jaintia_6/K.S. Cy_25_m_veteran/3.mp3",
        "Old_North_7/Di_26_female_0/_x_1999.opus",
        "Hindi_3/Ada_12_f_1/.hidden.wav",
    ):
        sound(tmp_path / p)
    (tmp_path / "Hindi_3" / "words.txt").write_text("no")
    (tmp_path / "Empty_9").mkdir()
    c = load_corpus("regional", tmp_path)
    t = c.table.set_index("path")
    assert c.name == "regional" and len(c) == 5 and all(c.path(i).is_file() for i in range(5))
    columns = ["language", "artist", "gender", "veteran", "title"]
    assert t.loc["Hindi_3/Ada_12_f_1/Rain_1.wav", columns].tolist() == ["Hindi", "Ada", "female", True, "Rain"]
    assert t.loc["Hindi_3/Ada_12_f_1/Rain.flac", columns].tolist() == ["Hindi", "Ada", "female", True, "Rain"]
    assert t.loc["Hindi_3/Ben de_la_C_13_MALE_modern/La_Luna_2.ogg", columns].tolist() == [
        "Hindi",
        "Ben de_la_C",
        "male",
        False,
        "La_Luna",
    ]
    assert t.loc["Khasi & Jaintia_6/K.S. Cy_25_m_veteran/3.mp3", columns].tolist() == [
        "Khasi & Jaintia",
        "K.S. Cy",
        "male",
        True,
        "3",
    ]
    assert t.loc["Old_North_7/Di_26_female_0/_x_1999.opus", columns].tolist() == [
        "Old_North",
        "Di",
        "female",
        False,
        "_x_1999",
    ]
    assert t["genre"].isna().all() and (abs(t["duration_s"] - 0.5) < 0.1).all()


def test_numbers_of_gender_stay_numbers(tmp_path):
    for p in ("Hindi_0/Ada_0_0_0/a.wav", "Hindi_0/Ben_1_1_1/b.wav"):
        sound(tmp_path / p)
    assert load_corpus("regional", tmp_path).table["gender"].tolist() == ["0", "1"]
    sound(tmp_path / "Hindi_0" / "Cy_2_m_1" / "c.wav")
    with pytest.raises(CorpusError, match="all genders as words or all as numbers, found 0, 1, male"):
        load_corpus("regional", tmp_path)


@pytest.mark.parametrize(
    "paths, error",
    [
        ((), "no audio file"),
        (("song.wav",), "song.wav: expected <Language>_<id>/.*found a file in a folder above that of an artist"),
        (("Hindi_3/song.wav",), "Hindi_3/song.wav: .*a folder above"),
        (("Hindi_3/Ada_12_f_1/live/song.wav",), "live/song.wav: .*a folder below"),
        (("Hindi/Ada_12_f_1/song.wav",), "Hindi: expected a folder <Language>_<id>, found 'Hindi'"),
        (("Hindi_x/Ada_12_f_1/song.wav",), "expected a folder <Language>_<id>, found 'Hindi_x'"),
        (
            ("Hindi_3/Ada_12_x_1/song.wav",),
            "Hindi_3/Ada_12_x_1: expected a folder <Artist>_<id>_<gender: m, f, .*found 'Ada_12_x_1'",
        ),
        (("Hindi_3/Ada_12_f/song.wav",), "found 'Ada_12_f'"),
        (("Hindi_3/Ada_12_f_2/song.wav",), "veteran: 0, 1, veteran or modern>, found 'Ada_12_f_2'"),
        (("Hindi_3/12_f_1/song.wav",), "found '12_f_1'"),
        (
            ("Hindi_3/Ada_12_f_1/a.wav", "Tamil_4/Ada_12_f_1/b.wav"),
            "Tamil_4/Ada_12_f_1: .* every artist, found the name .Ada. of .*Ada_12_f_1 again",
        ),
        (
            ("Hindi_3/Ada_12_f_1/a.wav", "Tamil_4/Ben_12_m_1/b.wav"),
            "every artist, found the id '12' of .*Hindi_3/Ada_12_f_1 again",
        ),
        (("Hindi_3/Ada_12_f_0/a.wav", "Hindi_3/Ada_12_f_1/b.wav"), "every artist, found the name 'Ada'"),
        (
            ("Hindi_3/Ada_12_f_1/a.wav", "Tamil_3/Ben_13_m_1/b.wav"),
            "Tamil_3: .* every language, found the id '3' of .*Hindi_3 again",
        ),
        (("Hindi_3/Ada_12_f_1/a.wav", "Hindi_4/Ben_13_m_1/b.wav"), "every language, found the name 'Hindi'"),
    ],
)
def test_wrong_folders_are_named(tmp_path, paths, error):
    for p in paths:
        sound(tmp_path / p)
    with pytest.raises(CorpusError, match=error):
        load_corpus("regional", tmp_path)


# ---- FMA


@pytest.fixture(scope="module")
def fma_rows(data):
    "The metadata read with nothing but the csv module: rows as dicts of (group, name)."
    with open(data / "fma_metadata" / "tracks.csv", encoding="utf-8", newline="") as f:
        rows = list(csv.reader(f))
    keys = list(zip(rows[0], rows[1], strict=True))
    return [{**dict(zip(keys, r, strict=True)), "id": r[0]} for r in rows[3:]]


@pytest.mark.parametrize(
    "subset, inside", [("small", {"small"}), ("medium", {"small", "medium"}), ("large", {"small", "medium", "large"})]
)
def test_real_metadata(data, fma_rows, subset, inside):
    c = load_corpus("fma", data / "fma_metadata", subset=subset, check_files=False)
    rows = [r for r in fma_rows if r["set", "subset"] in inside]
    t = c.table
    assert len(c) == len(rows) == dict(small=58, medium=194, large=682)[subset]
    assert t["track_id"].tolist() == [r["id"] for r in rows]
    assert t["artist"].tolist() == [r["artist", "name"] or None for r in rows]
    assert t["genre"].tolist() == [r["track", "genre_top"] or None for r in rows]
    assert t["title"].tolist() == [r["track", "title"] or None for r in rows]
    names = dict(training="train", validation="valid", test="test")
    assert t["split"].tolist() == [names[r["set", "split"]] for r in rows]
    with open(data / "fma_metadata" / "genres.csv", encoding="utf-8") as f:
        titles = {r["genre_id"]: r["title"] for r in csv.DictReader(f)}
    for got, r in zip(t["genres"], rows, strict=True):
        ids = [x.strip() for x in r["track", "genres_all"].strip("[]").split(",") if x.strip()]
        assert list(got or ()) == [titles[i] for i in ids]
    assert t["path"][0] == "000/000002.mp3" and t["path"].str.fullmatch(r"\d{3}/\d{6}\.mp3").all()
    assert all(
        p.split("/")[1].startswith(p[:3]) and int(p[4:10]) == int(i)
        for p, i in zip(t["path"], t["track_id"], strict=True)
    )


def test_real_official_split_keeps_artists_apart(data):
    c = load_corpus("fma", data / "fma_metadata", subset="large", check_files=False)
    s = c.official
    sets = [set(c.table["artist"][s[p]]) for p in s.parts]
    assert len(s.parts) == 3 and sum(map(len, sets)) == len(set.union(*sets))


HEAD = """\
,album,artist,set,set,track,track,track,track,track
,title,name,split,subset,genre_top,genres_all,language_code,tags,title
track_id,,,,,,,,,
"""


def layout(root, *rows, head=HEAD):
    meta = root / "fma_metadata"
    meta.mkdir(parents=True)
    (meta / "tracks.csv").write_text(head + "".join(r + "\n" for r in rows))
    (meta / "genres.csv").write_text("genre_id,#tracks,parent,title,top_level\n12,1,0,Rock,12\n25,1,12,Punk,12\n")
    return root


def row(i, subset="small", split="training", genres="[12]", tags="[]"):
    return f'{i},Live,Ada,{split},{subset},Rock,"{genres}",en,"{tags}",Go'


def test_published_layout(tmp_path):
    root = layout(
        tmp_path, row(2), row(99134), row(140, "medium"), row(108925, "medium"), row(155, "large"), row(133297)
    )
    for place in ("fma_large", "fma_medium"):  # the smallest folder that holds the subset is taken
        sound(root / place / "000" / "000002.mp3")
        c = load_corpus("fma", root, subset="small")
        assert c.path(0) == root / place / "000" / "000002.mp3" and c.table["track_id"].tolist() == ["2"]
    assert load_corpus("fma", root).table["track_id"].tolist() == ["2", "140"]
    moved = load_corpus("fma", root, audio_root=str(root / "fma_large"))
    assert (
        moved.path(0).parent.parent == root / "fma_large" and moved.fingerprint == load_corpus("fma", root).fingerprint
    )
    with pytest.raises(CorpusError, match="no folder of clips, expected .*elsewhere"):
        load_corpus("fma", root, audio_root=root / "elsewhere")


@pytest.mark.parametrize(
    "rows, error",
    [
        (
            [row(2), row(3, genres="[12, 99]")],
            "tracks.csv: row 1, column 'track.genres_all': genre 99 is not in genres.csv",
        ),
        ([row(2, genres="12;25")], "row 0, column 'track.genres_all': expected a list, found '12;25'"),
        ([row(2, split="dev")], "column 'split': expected one of 'train', 'valid', 'test', found 'dev'"),
        ([row("x2")], "column 'track_id': expected a number, found 'x2'"),
        ([row(2, "large")], "no track of subset 'medium'"),
        ([row(2), row(2)], "row 1 .*found that of row 0"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, rows, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("fma", layout(tmp_path, *rows), check_files=False)


def test_wrong_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no metadata, expected .*fma_metadata"):
        load_corpus("fma", tmp_path)
    flat = "track_id,title\n2,Go\n3,Stay\n"
    with pytest.raises(CorpusError, match="three header rows"):
        load_corpus("fma", layout(tmp_path / "a", head=flat), check_files=False)
    less = HEAD.replace("genre_top", "genre")
    with pytest.raises(CorpusError, match="expected a column track.genre_top"):
        load_corpus("fma", layout(tmp_path / "b", head=less), check_files=False)
    root = layout(tmp_path / "c", row(2))
    (root / "fma_metadata" / "genres.csv").unlink()
    with pytest.raises(CorpusError, match="genres.csv: missing"):
        load_corpus("fma", root, check_files=False)


# ---- OpenMIC

NAMES = ["accordion", "banjo", "bass", "cello"]
RELEVANCE = "sample_key,instrument,relevance,num_responses\n"


def openmic(
    root, train=("000001_0", "000002_10", "000003_0", "000004_0"), test=("000009_0",), labels="", flat=False, names=None
):
    parts = root if flat else root / "partitions"
    (root / "audio").mkdir(parents=True)
    parts.mkdir(exist_ok=True)
    for part, keys in (("train", train), ("test", test)):
        (parts / f"split01_{part}.csv").write_text("".join(k + "\n" for k in keys))
    (root / "class-map.json").write_text(json.dumps({n: i for i, n in enumerate(NAMES)} if names is None else names))
    if labels is not None:
        (root / "openmic-2018-aggregated-labels.csv").write_text(RELEVANCE + labels)
    return root


def test_the_real_partitions(data):
    c = load_corpus("openmic", data / "openmic", check_files=False)
    keys = {p: (data / "openmic" / f"split01_{p}.csv").read_text().split() for p in ("train", "test")}
    t, s = c.table, c.official
    assert len(keys["train"]) == 14915 and len(keys["test"]) == 5085 and not set(keys["train"]) & set(keys["test"])
    assert t["track_id"].tolist() == keys["train"] + keys["test"] and t["track_id"].is_unique
    assert {p: len(rows) for p, rows in s.parts.items()} == dict(train=11186, valid=3729, test=5085)
    assert t["track_id"][s["test"]].tolist() == keys["test"]
    assert (t["path"] == [f"audio/{k[:3]}/{k}.ogg" for k in t["track_id"]]).all() and set(t["duration_s"]) == {10.0}
    assert not c.has("instruments") and t["not_instruments"].isna().all()
    again, other = (load_corpus("openmic", data / "openmic", check_files=False, seed=k) for k in (0, 1))
    assert again.fingerprint == c.fingerprint and len(other.official["valid"]) == 3729
    assert len(set(other.official["valid"]) & set(s["valid"])) < 1500  # another seed, another quarter
    whole = load_corpus("openmic", data / "openmic", check_files=False, valid=0)
    assert {p: len(rows) for p, rows in whole.official.parts.items()} == dict(train=14915, test=5085)
    assert len(json.loads((data / "openmic" / "class-map.json").read_text())) == 20


def test_labels_with_gaps(tmp_path):
    "Relevance of a half and more is present; the last of two rows counts; what has no row is unknown."
    rows = "000001_0,banjo,0.5,3\n000001_0,cello,0.49,3\n000002_10,bass,0.1,3\n000002_10,bass,0.9,4\n000009_0,accordion,0,1\n"
    c = load_corpus("openmic", openmic(tmp_path, labels=rows), valid=0)
    m = c.labels("instruments", order="name").matrix
    np.testing.assert_array_equal(
        m, [[np.nan, 1, np.nan, 0], [np.nan, np.nan, 1, np.nan], *[[np.nan] * 4] * 2, [0, *[np.nan] * 3]]
    )
    assert c.table["instruments"].tolist()[:3] == [("banjo",), ("bass",), ()]


def test_table_and_arrays_say_the_same(tmp_path):
    rng = np.random.default_rng(0)
    keys = [f"{i:06d}_0" for i in range(30)]
    y, mask = rng.random((30, 4)).round(2), rng.random((30, 4)) < 0.4
    rows = "".join(f"{k},{n},{y[i, j]},3\n" for i, k in enumerate(keys) for j, n in enumerate(NAMES) if mask[i, j])
    a = load_corpus("openmic", openmic(tmp_path / "a", keys[:20], keys[20:], rows))
    b = openmic(tmp_path / "b", keys[:20], keys[20:], None, flat=True)
    np.savez(
        b / "openmic-2018.npz", X=np.zeros((30, 10, 128), np.int8), Y_true=y, Y_mask=mask, sample_key=np.array(keys)
    )
    b = load_corpus("openmic", b)
    assert a.fingerprint == b.fingerprint
    known = np.where(mask, y >= 0.5, np.nan)
    np.testing.assert_array_equal(a.labels("instruments", order="name").matrix, known)


def test_validation_keeps_artists_together_and_shares_instruments(tmp_path):
    rng = np.random.default_rng(1)
    keys = [f"{i:06d}_0" for i in range(1200)]
    there = rng.random((1200, 4)) < 0.3
    rows = "".join(f"{k},{n},{float(there[i, j])},3\n" for i, k in enumerate(keys) for j, n in enumerate(NAMES))
    root = openmic(tmp_path, keys[:960], keys[960:], rows)
    (root / "openmic-2018-metadata.csv").write_text(
        "sample_key,artist_name,album_title,track_title\n"
        + "".join(f"{k},A{i // 3},,T\n" for i, k in enumerate(keys) if i != 7)
    )
    c = load_corpus("openmic", root)
    t, s = c.table, c.official
    assert (
        t["artist"][:2].tolist() == ["A0", "A0"]
        and t["artist"][7] is None
        and t["album"].isna().all()
        and t["title"][0] == "T"
    )
    assert (t[:960].groupby("artist")["split"].nunique() == 1).all() and set(s["test"]) == set(range(960, 1200))
    assert abs(len(s["valid"]) / 960 - 0.25) < 0.02  # whole artists, and instruments before numbers of clips
    assert (abs(there[s["valid"]].sum(0) / there[:960].sum(0) - 0.25) < 0.03).all()


@pytest.mark.parametrize(
    "change, error",
    [
        (
            dict(labels="000001_0,kazoo,1,3\n"),
            "aggregated-labels.csv: row 0, column 'instrument': expected one of class-map.json, found 'kazoo'",
        ),
        (
            dict(labels="000001_0,banjo,yes,3\n"),
            "row 0, column 'relevance': expected a number from 0 to 1, found 'yes'",
        ),
        (dict(labels="000001_0,banjo,1.5,3\n"), "expected a number from 0 to 1, found '1.5'"),
        (dict(labels=None), "no labels, expected .*aggregated-labels.csv or openmic-2018.npz"),
        (
            dict(train=("000001_0", "song.ogg")),
            "split01_train.csv: row 1: expected a sample key as '000046_3840', found 'song.ogg'",
        ),
        (
            dict(test=("000001_0",)),
            "split01_test.csv: expected no clip of the training partition, found 1, the first '000001_0'",
        ),
        (dict(train=("000001_0",) * 2), "row 1 .*found that of row 0"),
        (dict(names={"banjo": 0, "bass": 2}), "class-map.json: expected instruments numbered from 0, found"),
        (dict(names=["banjo"]), "expected instruments numbered from 0"),
    ],
)
def test_wrong_openmic_files_are_named(tmp_path, change, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("openmic", openmic(tmp_path, **change))


def test_wrong_openmic_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no list of instruments, expected .*class-map.json"):
        load_corpus("openmic", tmp_path)
    a = openmic(tmp_path / "a")
    (a / "partitions" / "split01_test.csv").unlink()
    with pytest.raises(CorpusError, match="no partition 'test', expected .*split01_test.csv or "):
        load_corpus("openmic", a)
    b = openmic(tmp_path / "b")
    (b / "audio").rmdir()
    with pytest.raises(CorpusError, match="no folder of clips"):
        load_corpus("openmic", b)
    assert len(load_corpus("openmic", b, check_files=False)) == 5
    (b / "class-map.json").write_text("{")
    with pytest.raises(CorpusError, match="class-map.json: not readable as JSON"):
        load_corpus("openmic", b)
    (b / "class-map.json").unlink()
    c = openmic(tmp_path / "c")
    (c / "openmic-2018-aggregated-labels.csv").write_text("key,instrument,relevance\n")
    with pytest.raises(CorpusError, match="expected a column 'sample_key', found key, instrument"):
        load_corpus("openmic", c)
    (c / "openmic-2018-aggregated-labels.csv").unlink()
    (c / "openmic-2018-metadata.csv").write_text("sample_key,artist\n")
    for arrays, error in (
        (
            dict(sample_key=np.array(["a"], object), Y_true=np.zeros((1, 4)), Y_mask=np.ones((1, 4), bool)),
            "without pickled objects",
        ),
        (dict(sample_key=np.array(["a"]), Y_true=np.zeros((1, 4))), "expected arrays sample_key, Y_true and Y_mask"),
        (
            dict(sample_key=np.array(["a"]), Y_true=np.zeros((1, 4)), Y_mask=np.zeros((1, 3), bool)),
            r"expected Y_true and Y_mask of \[1, 4\], found \[1, 4\] and \[1, 3\]",
        ),
    ):
        np.savez(c / "openmic-2018.npz", **arrays)
        with pytest.raises(CorpusError, match=error):
            load_corpus("openmic", c)
    (c / "openmic-2018.npz").write_bytes(b"PK\x03\x04 torn")
    with pytest.raises(CorpusError, match="openmic-2018.npz: expected arrays"):
        load_corpus("openmic", c)
    (c / "openmic-2018-aggregated-labels.csv").write_text(RELEVANCE)
    with pytest.raises(CorpusError, match="metadata.csv: expected a column 'artist_name', found sample_key, artist"):
        load_corpus("openmic", c)


# ---- Extended Ballroom


def ballroom(root, *dances, xml=None):
    for k, d in enumerate(dances or (*BALLROOM, *BALLROOM_DROPPED)):
        for j in range(2):
            (root / d).mkdir(parents=True, exist_ok=True)
            (root / d / f"{100 * k + j}.mp3").write_bytes(b"")
    if xml:
        (root / "extendedballroom_v1.1.xml").write_text(xml)
    return root


def test_nine_of_thirteen_dances(tmp_path):
    from musicmtl.miniature import DANCES

    assert len(BALLROOM) == 9 and len(BALLROOM_DROPPED) == 4 and set(BALLROOM.values()) == set(DANCES)
    c = load_corpus("ballroom", ballroom(tmp_path))
    assert (
        len(c) == 18
        and set(c.labels("genre").counts) == {2}
        and c.labels("genre", order="name").classes == tuple(sorted(DANCES))
    )
    assert not c.has("artist") and not any(p.split("/")[0] in BALLROOM_DROPPED for p in c.table["path"])
    assert c.table.set_index("path").loc["Viennesewaltz/101.mp3", ["track_id", "genre"]].tolist() == [
        "101",
        "Viennese waltz",
    ]


def test_what_the_xml_knows(tmp_path):
    xml = '<d><Chacha><song id="0" artist="Ada" album="Steps" title="Go" bpm="128" hash="x"/><song id="77" artist="Ben"/></Chacha></d>'
    c = load_corpus(
        "ballroom", ballroom(tmp_path / "extendedballroom_v1.1", xml=xml).parent
    )  # the folder above will do
    t = c.table.set_index("track_id")
    assert t.loc["0", ["artist", "album", "title"]].tolist() == ["Ada", "Steps", "Go"] and t.loc["1", "artist"] is None
    assert c.root.name == "extendedballroom_v1.1" and "77" not in t.index  # in the list, not in the folder


def test_wrong_ballrooms_are_named(tmp_path):
    some = [d for d in BALLROOM if d not in ("Jive", "Tango")]
    with pytest.raises(CorpusError, match="audio files of nine dances in .*, found none of Jive, Tango"):
        load_corpus("ballroom", ballroom(tmp_path / "a", *some))
    with pytest.raises(CorpusError, match="Polka/0.mp3: expected <dance>/<id>.mp3, the dance one of Chacha, Foxtrot"):
        load_corpus("ballroom", ballroom(tmp_path / "b", "Polka"))
    with pytest.raises(CorpusError, match="Tango/old/0.mp3: expected <dance>/<id>.mp3"):
        load_corpus("ballroom", ballroom(tmp_path / "c", "Tango/old"))
    with pytest.raises(CorpusError, match="extendedballroom_v1.1.xml: not readable as XML"):
        load_corpus("ballroom", ballroom(tmp_path / "d", xml="<d><Chacha>"))
    (tmp_path / "e").mkdir()
    with pytest.raises(CorpusError, match="found none of Cha cha, Foxtrot"):
        load_corpus("ballroom", tmp_path / "e")


# ---- AudioSet

LISTED = "# made\n# YTID, start_seconds, end_seconds, positive_labels\n"


def audioset(root, rows, *files, head=LISTED):
    root.mkdir(exist_ok=True)
    for p in files:
        (root / p).parent.mkdir(parents=True, exist_ok=True)
        (root / p).write_bytes(b"")
    (root / "balanced_train_segments.csv").write_text(head + "".join(r + "\n" for r in rows))
    return root


def test_clips_go_by_many_names(tmp_path):
    names = [
        "a_30.wav",
        "b_30.000.flac",
        "c_30000.ogg",
        "d_30_40.mp3",
        "x/e_30.000_40.000.wav",
        "f_30000_40000.wav",
        "g.wav",
        "Yh.wav",
        "Yi_30.000.wav",
        "Y_-j_30_40.wav",
    ]
    ids = [*"abcdefghi", "_-j"]
    rows = [f'{i}, 30.000, 40.000, "/m/04rlf,/m/0342h"' for i in ids] + ['k, 30.000, 40.000, "/m/09x0r"']
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        c = load_corpus("audioset", audioset(tmp_path, rows, *names, "k_30.wav"))
    t = c.table
    assert dict(zip(t["track_id"], t["path"], strict=True)) == {f"{i}_30": n for i, n in zip(ids, names, strict=True)}
    assert set(t["duration_s"]) == {10.0} and t["start_s"].isna().all() and set(t["tags"]) == {("/m/04rlf", "/m/0342h")}


def test_missing_clips_are_counted(tmp_path):
    rows = [f'{i}, 0.000, 10.000, "/m/04rlf"' for i in "abc"] + ['d, 0.000, 10.000, "/m/09x0r"']
    with pytest.warns(UserWarning, match="corpus 'audioset': 2 of 3 clips of music are not in .*clips"):
        c = load_corpus("audioset", audioset(tmp_path, rows, "clips/b_0.wav"), audio_root=tmp_path / "clips")
    assert c.table["track_id"].tolist() == ["b_0"] and c.path(0) == tmp_path / "clips" / "b_0.wav"
    (tmp_path / "clips" / "b_0.wav").unlink()
    with pytest.raises(CorpusError, match="no file of any of 3 clips of music in .*, expected names as 'a_0.wav'"):
        load_corpus("audioset", tmp_path, audio_root=tmp_path / "clips")


@pytest.mark.parametrize(
    "rows, head, error",
    [
        (
            ['a, 0, 10, "/m/04rlf"', "b, zero, 10, x"],
            LISTED,
            "segments.csv: row 1: expected YTID, .*, found 'b, zero, 10, x'",
        ),
        (['a, 10, 0, "/m/04rlf"'], LISTED, "row 0: expected YTID"),
        (["a, 0, 10"], LISTED, "row 0: expected YTID"),
        (["a, 0, 10, /m/04rlf, more"], LISTED, "row 0: expected YTID"),
        (['a, 0, 10, "/m/09x0r"'], LISTED, "no segment with the label /m/04rlf"),
        (
            ["a,0,10,x"],
            "",
            "expected a comment '# YTID, start_seconds, end_seconds, positive_labels' above the segments",
        ),
        (["a,0,10,x"], "# id, start, end, labels\n", "above the segments, found 'id, start, end, labels'"),
        ([], "", "expected a comment"),
    ],
)
def test_wrong_segments_are_named(tmp_path, rows, head, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("audioset", audioset(tmp_path, rows, "a.wav", head=head))


def test_wrong_audioset_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no table of segments, expected .*balanced_train_segments.csv"):
        load_corpus("audioset", tmp_path)
    root = audioset(tmp_path, ['a, 0, 10, "/m/04rlf"'])
    with pytest.raises(CorpusError, match="no folder of clips, expected .*elsewhere"):
        load_corpus("audioset", root, audio_root=root / "elsewhere")


# ---- the call itself


@pytest.mark.parametrize(
    "name, options, error",
    [
        (
            "fmaa",
            {},
            "name: expected one of audioset, ballroom, fma, folder, magnatagatune, miniature, openmic, regional, found 'fmaa'",
        ),
        ("openmic", dict(valid=1.0), "valid: expected a share from 0 to below 1, found 1.0"),
        ("ballroom", dict(dances=9), "corpus 'ballroom' has no option 'dances'; it knows none"),
        ("audioset", dict(segments=3), "segments: expected str, found 3"),
        ("fma", dict(size=1), "corpus 'fma' has no option 'size'; it knows subset, audio_root, check_files"),
        ("fma", dict(check_files=1), "check_files: expected bool, found 1"),
        ("fma", dict(subset="tiny"), "subset: expected one of small, medium, large, found 'tiny'"),
        ("regional", dict(view="songs"), "corpus 'regional' has no option 'view'; it knows none"),
        ("folder", dict(corpus_name=3), r"corpus_name: expected str \| None, found 3"),
        ("miniature", dict(seed=1.5), "seed: expected int, found 1.5"),
        ("miniature", dict(seed=True), "seed: expected int, found True"),
        ("miniature", dict(label_noise="much"), "label_noise: expected float"),
    ],
)
def test_wrong_options(tmp_path, name, options, error):
    root = tmp_path if name != "miniature" else None
    with pytest.raises(ParamsError, match=error):
        load_corpus(name, root, **options)


def test_wrong_roots(tmp_path):
    for name in ("audioset", "ballroom", "fma", "folder", "magnatagatune", "openmic", "regional"):
        with pytest.raises(ParamsError, match="needs the folder that holds it, found None"):
            load_corpus(name)
        with pytest.raises(CorpusError, match="nowhere does not exist"):
            load_corpus(name, tmp_path / "nowhere")
    with pytest.raises(ParamsError, match="root: expected a folder, found 3"):
        load_corpus("folder", 3)
    with pytest.raises(CorpusError, match="neither a tracks.csv nor any audio file"):
        load_corpus("folder", tmp_path)


def test_miniature_gets_its_options(monkeypatch, tmp_path):
    seen = []
    stand_in = types.SimpleNamespace(miniature=lambda *args, **kw: seen.append((args, kw)) or "corpus")
    monkeypatch.setitem(sys.modules, "musicmtl.synth", stand_in)
    assert load_corpus("miniature") == "corpus"
    load_corpus("miniature", tmp_path, view="openmic", size="smoke", seed=3, label_noise=0)
    assert seen == [
        (("fma", "mini"), dict(seed=0, label_noise=None, root=None, n_jobs=2)),
        (("openmic", "smoke"), dict(seed=3, label_noise=0, root=tmp_path, n_jobs=2)),
    ]
