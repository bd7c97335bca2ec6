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
from musicmtl.loaders import BALLROOM, BALLROOM_DROPPED, MAGNATAGATUNE_NO_AUDIO, load_corpus
from musicmtl.magnatagatune import TAGS, by_folder, tag_matrix, track_numbers


FRAMES = dict(artist="TPE1", album="TALB", title="TIT2", genre="TCON")


def sound(path, seconds=0.5, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".opus":
        soundfile.write(path, np.sin(np.arange(int(48000 * seconds)) / 20), 48000, format="OGG", subtype="OPUS")
    else:
        soundfile.write(path, np.sin(np.arange(int(16000 * seconds)) / 10), 16000, format=path.suffix[1:].upper())
    if not tags:
        return
    if path.suffix.lower() == ".wav":
        file = mutagen.File(path)
        file.add_tags()
        for name, value in tags.items():
            file.tags.add(getattr(mutagen.id3, FRAMES[name])(text=value))
    else:
        file = mutagen.File(path, easy=True)
        if file.tags is None:
            file.add_tags()
        for name, value in tags.items():
            file[name] = value
    file.save()


# ---- folder: tags


def test_tags_of_every_format(tmp_path):
    for kind in ("wav", "flac", "ogg", "opus", "mp3"):
        sound(tmp_path / f"{kind}.{kind}", artist=f"Ärtist {kind}", album="Album", title=f"Title {kind}", genre="Folk")
    table = load_corpus("folder", tmp_path).table.set_index("path")
    assert len(table) == 5
    for path, row in table.iterrows():
        kind = path.split(".")[1]
        found = row[["artist", "album", "title", "genre"]].tolist()
        assert found == [f"Ärtist {kind}", "Album", f"Title {kind}", "Folk"]
        assert abs(row["duration_s"] - 0.5) < 0.1  # the length in an mp3's header counts whole frames
    assert table["genres"].isna().all()


def test_what_is_walked(tmp_path):
    for path in ("b/two.FLAC", "a/one.wav", "c.Au", ".hidden.wav", ".git/x.wav", "a/.trash/y.wav"):
        sound(tmp_path / path)
    (tmp_path / "a" / "words.txt").write_text("no")
    (tmp_path / "broken.mp3").write_text("not music")
    (tmp_path / "empty.ogg").write_bytes(b"")
    corpus = load_corpus("folder", tmp_path)
    assert corpus.table["path"].tolist() == ["a/one.wav", "b/two.FLAC", "broken.mp3", "c.Au", "empty.ogg"]
    assert corpus.name == tmp_path.name and all(corpus.path(i).is_file() for i in range(5))
    unknown = corpus.table.set_index("path").loc[["broken.mp3", "c.Au", "empty.ogg"], ["artist", "title", "genre"]]
    assert unknown.isna().all().all()


def test_several_genres_become_a_list(tmp_path):
    sound(tmp_path / "a.flac", genre=["Rock", "Punk"])
    sound(tmp_path / "b.flac", genre=["Folk"])
    sound(tmp_path / "c.flac")
    table = load_corpus("folder", tmp_path).table
    assert table["genre"].tolist() == ["Rock", "Folk", None] and table["genres"].tolist() == [
        ("Rock", "Punk"),
        ("Folk",),
        None,
    ]


def test_a_file_name_that_is_no_text_is_still_a_track(tmp_path):
    if sys.platform != "linux":
        pytest.skip("names are bytes on Linux alone")
    sound(tmp_path / "a.wav")
    (tmp_path / "a.wav").rename(tmp_path / b"\xe9.wav".decode("utf-8", "surrogateescape"))
    corpus = load_corpus("folder", tmp_path)
    assert corpus.path(0).is_file() and corpus.table["track_id"][0].encode("utf-8") and corpus.fingerprint


# ---- folder: table


def test_table(tmp_path):
    (tmp_path / "tracks.csv").write_text(
        "\ufefftrack_id,path,artist,duration_s,tags,veteran,licence,colour\n"
        "1,a.wav,None,1.5,x | y,true,CC BY,red\n2,b.wav,NA,,,False,CC0,\n",
        encoding="utf-8",
    )
    corpus = load_corpus("folder", tmp_path, corpus_name="mine")
    table = corpus.table
    assert table["track_id"].tolist() == ["1", "2"] and table["artist"].tolist() == ["None", "NA"]  # names, not gaps
    assert table["duration_s"][0] == 1.5 and np.isnan(table["duration_s"][1])
    assert table["tags"].tolist() == [("x", "y"), None] and table["veteran"].tolist() == [True, False]
    assert corpus.name == "mine" and corpus.licence == "CC BY; CC0" and "colour" not in table


@pytest.mark.parametrize(
    "text, error",
    [
        ("artist\nA\n", "tracks.csv: expected a column 'path', found artist"),
        ("", "tracks.csv: empty"),
        ("path\n", "tracks.csv: no rows under the header"),
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
    corpus = load_corpus("folder", data / "albums")
    with open(data / "albums" / "tracks.csv", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    counts = Counter(row["artist"] for row in rows)
    assert (
        corpus.name.startswith("albums-")  # a folder, which does not pass for the corpus
        and len(corpus) == len(rows) == 117
        and corpus.table["artist"].nunique() == len(counts) == 16
    )
    assert corpus.table["duration_s"].tolist() == [float(row["duration_s"]) for row in rows]
    assert all(corpus.path(i).is_file() for i in range(len(corpus)))
    kept, left = corpus.at_least("artist", 3)
    assert len(kept) == 106 and kept.table["artist"].nunique() == 8
    assert left == {artist: n for artist, n in counts.items() if n < 3}
    assert round(kept.labels("artist").counts.max() / len(kept), 3) == 0.387
    split = kept.split(by="track", fractions=(0.7, 0.15, 0.15), stratify="artist")
    assert all(kept.table["artist"][rows].nunique() == 8 for rows in split.parts.values())


def write_commons(root, rows, columns="path,artist,album,title,genre,function_tags,sung_language,licence,source"):
    "A made-up copy of `commons`; sounds that cannot be told apart are one recording, so each has its own pitch."
    for number, row in enumerate(rows):
        file = root / row.split(",")[0]
        file.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(file, np.sin(np.arange(8000) * (number + 1) / 20), 16_000)
    (root / "tracks.csv").write_text("\n".join([columns, *rows]), encoding="utf-8")
    return root


COMMONS = [
    "a/1.ogg,Ada,Day,One,orchestral,battle|boss,,CC0,the game",
    "a/2.ogg,Ada,Night,Two,orchestral,,,CC BY 4.0,the game",
    "b/1.ogg,Ben,Day,Three,orchestral,town,,CC0,the game",
    "c/1.ogg,Cy,Sea,Four,song,,English,CC0,an archive",
    "c/2.ogg,Cy,Sea,Five,,,English,CC0,a label",
    "d/1.ogg,Di,,Six,song,,Hungarian,CC0,a label",
]


def test_commons_has_artists_sources_genres_and_what_music_is_for(tmp_path):
    corpus = load_corpus("commons", write_commons(tmp_path, COMMONS))
    table = corpus.table
    assert (corpus.name, corpus.licence) == ("commons", "CC BY 4.0; CC0") and "ATTRIBUTION.md" in corpus.citation
    assert table.tags.tolist() == [("battle", "boss"), None, ("town",), None, None, None]
    assert table.language.tolist()[3:] == ["English", "English", "Hungarian"]
    assert table.source.nunique() == 3 and all(corpus.path(row).is_file() for row in range(6))
    words = "artist and source are confounded: 3 of 4 artists have one source each"
    assert corpus.notes == (f"{words}; 3 of 3 tracks of orchestral are from the game",)
    split = corpus.split(by="source", fractions=(0.5, 0.5))
    assert sorted(part.tolist() for part in split.parts.values()) == [[0, 1, 2], [3, 4, 5]]  # Cy has two sources


def test_commons_keeps_who_has_enough_tracks(tmp_path):
    root = write_commons(tmp_path, COMMONS)
    artists = load_corpus("commons", root, least_tracks=2)
    assert artists.table.artist.unique().tolist() == ["Ada", "Cy"]
    assert artists.notes[-1] == "4 of 6 tracks are kept: artist with at least 2 of them"
    assert len(load_corpus("commons", root, least_tracks=2, by="genre")) == 5
    with pytest.raises(ParamsError, match="column: expected one of"):
        load_corpus("commons", root, least_tracks=2, by="mood")
    with pytest.raises(CorpusError, match="no artist has 9 tracks or more"):
        load_corpus("commons", root, least_tracks=9)


@pytest.mark.parametrize("name", ["albums", "commons"])
def test_a_folder_that_is_no_such_collection_is_refused(tmp_path, name):
    with pytest.raises(CorpusError, match=f"corpus '{name}': no table of tracks, expected .*tracks.csv"):
        load_corpus(name, tmp_path)
    write_commons(tmp_path, ["a.ogg,Ada,Day"], "path,artist,album")
    with pytest.raises(CorpusError, match="expected columns artist, album and source, found none of source"):
        load_corpus(name, tmp_path)


def test_the_real_commons_and_albums(data):
    if not (data / "commons" / "tracks.csv").is_file():
        pytest.skip("MUSICMTL_DATA holds no commons/tracks.csv")
    commons, albums = (load_corpus(name, data / name) for name in ("commons", "albums"))
    assert (len(commons), commons.table.artist.nunique(), len(albums)) == (446, 70, 117)
    assert [commons.table[column].notna().sum() for column in ("genre", "tags", "language")] == [121, 177, 13]
    assert "artist and source are confounded: 64 of 70 artists" in commons.notes[0]
    assert "orchestral are from Debian wesnoth" in commons.notes[0]
    often = load_corpus("commons", data / "commons", least_tracks=6)
    assert often.table.artist.nunique() == 42
    genres = load_corpus("commons", data / "commons", least_tracks=2, by="genre")
    folds = genres.folds("source", stratify="genre")
    assert len(genres) == 121 and genres.table.assign(fold=folds).groupby("source").fold.nunique().eq(1).all()


# ---- regional


def test_a_plain_folder_with_languages(tmp_path):
    rows = [
        "path,artist,language,gender,veteran",
        "a.wav,Ada,Hindi,female,1",
        "b.wav,Ben,Khasi & Jaintia,male,0",
        "c.wav,Cy,Hindi,,",
    ]
    (tmp_path / "tracks.csv").write_text("\n".join(rows))
    corpus = load_corpus("folder", tmp_path)
    assert corpus.labels("artist").classes == ("Ada", "Ben", "Cy") and corpus.labels("language").classes == (
        "Hindi",
        "Khasi & Jaintia",
    )
    assert corpus.table["gender"].tolist() == ["female", "male", None] and corpus.table["veteran"].tolist() == [
        True,
        False,
        None,
    ]


def test_labels_from_folders(tmp_path):
    for path in (
        "Hindi_3/Ada_12_f_1/Rain_1.wav",
        "Hindi_3/Ada_12_f_1/Rain.flac",
        "Hindi_3/Ben de_la_C_13_MALE_modern/La_Luna_2.ogg",
        "Khasi & Jaintia_6/K.S. Cy_25_m_veteran/3.mp3",
        "Old_North_7/Di_26_female_0/_x_1999.opus",
        "Hindi_3/Ada_12_f_1/.hidden.wav",
    ):
        sound(tmp_path / path)
    (tmp_path / "Hindi_3" / "words.txt").write_text("no")
    (tmp_path / "Empty_9").mkdir()
    corpus = load_corpus("regional", tmp_path)
    table = corpus.table.set_index("path")
    assert corpus.name == "regional" and len(corpus) == 5 and all(corpus.path(i).is_file() for i in range(5))
    columns = ["language", "artist", "gender", "veteran", "title"]
    assert table.loc["Hindi_3/Ada_12_f_1/Rain_1.wav", columns].tolist() == ["Hindi", "Ada", "female", True, "Rain"]
    assert table.loc["Hindi_3/Ada_12_f_1/Rain.flac", columns].tolist() == ["Hindi", "Ada", "female", True, "Rain"]
    assert table.loc["Hindi_3/Ben de_la_C_13_MALE_modern/La_Luna_2.ogg", columns].tolist() == [
        "Hindi",
        "Ben de_la_C",
        "male",
        False,
        "La_Luna",
    ]
    assert table.loc["Khasi & Jaintia_6/K.S. Cy_25_m_veteran/3.mp3", columns].tolist() == [
        "Khasi & Jaintia",
        "K.S. Cy",
        "male",
        True,
        "3",
    ]
    assert table.loc["Old_North_7/Di_26_female_0/_x_1999.opus", columns].tolist() == [
        "Old_North",
        "Di",
        "female",
        False,
        "_x_1999",
    ]
    assert table["genre"].isna().all() and (abs(table["duration_s"] - 0.5) < 0.1).all()


def test_names_of_folders_have_one_form(tmp_path):
    sound(tmp_path / "Hindi_3" / "Be\u0301la_1_m_0" / "Cafe\u0301_1.wav")
    row = load_corpus("regional", tmp_path).table.iloc[0]
    assert (row["artist"], row["title"]) == ("B\u00e9la", "Caf\u00e9") and (tmp_path / row["path"]).is_file()
    sound(tmp_path / "Hindi_3" / "B\u00e9la_2_m_0" / "b.wav")
    with pytest.raises(CorpusError, match="every artist, found the name 'B\u00e9la' of"):
        load_corpus("regional", tmp_path)


def test_numbers_of_gender_stay_numbers(tmp_path):
    for path in ("Hindi_0/Ada_0_0_0/a.wav", "Hindi_0/Ben_1_1_1/b.wav"):
        sound(tmp_path / path)
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
    for path in paths:
        sound(tmp_path / path)
    with pytest.raises(CorpusError, match=error):
        load_corpus("regional", tmp_path)


# ---- FMA


@pytest.fixture(scope="module")
def fma_rows(data):
    "The metadata read with nothing but the csv module: rows as dicts of (group, name)."
    with open(data / "fma_metadata" / "tracks.csv", encoding="utf-8", newline="") as file:
        groups, names, _, *rows = csv.reader(file)
    keys = list(zip(groups, names, strict=True))
    return [{**dict(zip(keys, row, strict=True)), "id": row[0]} for row in rows]


@pytest.fixture(scope="module")
def fma_titles(data):
    "Number of a genre -> its title."
    with open(data / "fma_metadata" / "genres.csv", encoding="utf-8") as file:
        return {row["genre_id"]: row["title"] for row in csv.DictReader(file)}


SUBSETS = dict(small={"small"}, medium={"small", "medium"}, large={"small", "medium", "large"})


@pytest.mark.parametrize("subset, n_tracks", [("small", 58), ("medium", 194), ("large", 682)])
def test_real_metadata(data, fma_rows, fma_titles, subset, n_tracks):
    table = load_corpus("fma", data / "fma_metadata", subset=subset, check_files=False).table
    rows = [row for row in fma_rows if row["set", "subset"] in SUBSETS[subset]]
    assert len(table) == len(rows) == n_tracks
    assert table["track_id"].tolist() == [row["id"] for row in rows]
    for column, key in (
        ("artist", ("artist", "name")),
        ("genre", ("track", "genre_top")),
        ("title", ("track", "title")),
    ):
        assert table[column].tolist() == [row[key] or None for row in rows]
    parts = dict(training="train", validation="valid", test="test")
    assert table["split"].tolist() == [parts[row["set", "split"]] for row in rows]
    for found, row in zip(table["genres"], rows, strict=True):
        numbers = row["track", "genres_all"].strip("[]").split(",")
        assert list(found or ()) == [fma_titles[number.strip()] for number in numbers if number.strip()]


def test_real_paths_are_made_from_numbers(data):
    table = load_corpus("fma", data / "fma_metadata", subset="large", check_files=False).table
    assert table["path"][0] == "000/000002.mp3" and table["path"].str.fullmatch(r"\d{3}/\d{6}\.mp3").all()
    for path, number in zip(table["path"], table["track_id"], strict=True):
        folder, name = path.split("/")
        assert name.startswith(folder) and int(name[:6]) == int(number)


def test_real_official_split_keeps_artists_apart(data):
    corpus = load_corpus("fma", data / "fma_metadata", subset="large", check_files=False)
    sets = [set(corpus.table["artist"][rows]) for rows in corpus.official.parts.values()]
    assert len(sets) == 3 and sum(map(len, sets)) == len(set.union(*sets))


HEAD = """\
,album,artist,set,set,track,track,track,track,track
,title,name,split,subset,genre_top,genres_all,language_code,tags,title
track_id,,,,,,,,,
"""


def layout(root, *rows, head=HEAD):
    meta = root / "fma_metadata"
    meta.mkdir(parents=True)
    (meta / "tracks.csv").write_text(head + "".join(line + "\n" for line in rows))
    (meta / "genres.csv").write_text("genre_id,#tracks,parent,title,top_level\n12,1,0,Rock,12\n25,1,12,Punk,12\n")
    return root


def row(number, subset="small", split="training", genres="[12]", tags="[]"):
    return f'{number},Live,Ada,{split},{subset},Rock,"{genres}",en,"{tags}",Go'


def test_published_layout(tmp_path):
    root = layout(
        tmp_path, row(2), row(99134), row(140, "medium"), row(108925, "medium"), row(155, "large"), row(133297)
    )
    for place in ("fma_large", "fma_medium"):  # the smallest folder that holds the subset is taken
        sound(root / place / "000" / "000002.mp3")
        corpus = load_corpus("fma", root, subset="small")
        assert corpus.path(0) == root / place / "000" / "000002.mp3" and corpus.table["track_id"].tolist() == ["2"]
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
            "tracks.csv: line 5, column 'track.genres_all': genre 99 is not in genres.csv",
        ),
        ([row(2, genres="12;25")], "line 4, column 'track.genres_all': expected a list, found '12;25'"),
        ([row(2, split="dev")], "line 4, column 'set.split': expected one of training, validation, test, found 'dev'"),
        ([row("x2")], "line 4, column 'track_id': expected a number of at most six digits, found 'x2'"),
        ([row(2, "large")], "no track of subset 'medium'"),
        ([row(2), row(2)], "line 5, column 'track_id': expected each once, found '2' of line 4 again"),
    ],
)
def test_wrong_metadata_is_named(tmp_path, rows, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("fma", layout(tmp_path, *rows), check_files=False)


@pytest.mark.parametrize(
    "genres, error",
    [
        ("12,Rock\n12,Pop\n25,Punk\n", "line 3, column 'genre_id': expected each once, found '12' of line 2 again"),
        ("12,Rock\n012,Pop\n25,Punk\n", "line 3, column 'genre_id': expected each once, found '12' of line 2 again"),
        ("12,Rock\n25,Rock\n", "line 3, column 'title': expected each once, found 'Rock' of line 2 again"),
        ("12,Rock\n25,\n", "line 3, column 'title': expected the title of a genre, found nothing"),
        ("1.5,Rock\n", "line 2, column 'genre_id': expected a number of at most six digits, found '1.5'"),
        ("25,Punk\n12,Pop\n", "tracks.csv: line 4, column 'genre': expected a title of genres.csv, found 'Rock'"),
    ],
)
def test_genres_that_contradict(tmp_path, genres, error):
    root = layout(tmp_path, row(2))
    (root / "fma_metadata" / "genres.csv").write_text("genre_id,title\n" + genres)
    with pytest.raises(CorpusError, match=error):
        load_corpus("fma", root, check_files=False)


def test_names_that_look_like_nothing_are_names(tmp_path):
    names = ["NA", "None", "nan", "null", "007", "1e5", "TRUE", "inf"]
    lines = [f"{k},{name},{name},training,small,Rock,[12],{name},\"['{name}']\",{name}" for k, name in enumerate(names)]
    table = load_corpus("fma", layout(tmp_path, *lines), check_files=False).table
    for column in ("artist", "album", "title", "language"):
        assert table[column].tolist() == names
    assert table["tags"].tolist() == [(name,) for name in names]
    assert table["track_id"].tolist() == list("01234567")


def test_wrong_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no metadata, expected .*fma_metadata"):
        load_corpus("fma", tmp_path)
    flat = "track_id,title\n2,Go\n3,Stay\n"
    with pytest.raises(CorpusError, match="expected a column 'track_id' in a header of 3 lines, found track_id.2.3"):
        load_corpus("fma", layout(tmp_path / "a", head=flat), check_files=False)
    less = HEAD.replace("genre_top", "genre")
    with pytest.raises(CorpusError, match="expected a column 'track.genre_top' in a header of 3 lines"):
        load_corpus("fma", layout(tmp_path / "b", head=less), check_files=False)
    root = layout(tmp_path / "c", row(2))
    (root / "fma_metadata" / "genres.csv").unlink()
    with pytest.raises(CorpusError, match="genres.csv: missing"):
        load_corpus("fma", root, check_files=False)


# ---- OpenMIC

NAMES = ["accordion", "banjo", "bass", "cello"]
RELEVANCE = "sample_key,instrument,relevance,num_responses\n"
ONE_LABEL = "000001_0,banjo,1,3\n"


def openmic(
    root,
    train=("000001_0", "000002_10", "000003_0", "000004_0"),
    test=("000009_0",),
    labels=ONE_LABEL,
    flat=False,
    names=None,
):
    parts = root if flat else root / "partitions"
    (root / "audio").mkdir(parents=True)
    parts.mkdir(exist_ok=True)
    for part, keys in (("train", train), ("test", test)):
        (parts / f"split01_{part}.csv").write_text("".join(key + "\n" for key in keys))
    numbers = {name: number for number, name in enumerate(NAMES)} if names is None else names
    (root / "class-map.json").write_text(json.dumps(numbers))
    if labels is not None:
        (root / "openmic-2018-aggregated-labels.csv").write_text(RELEVANCE + labels)
    return root


@pytest.mark.long
def test_the_real_partitions(data):
    def read(**options):
        return load_corpus("openmic", data / "openmic", check_files=False, **options)

    corpus = read()
    train, test = ((data / "openmic" / f"split01_{part}.csv").read_text().split() for part in ("train", "test"))
    table, split = corpus.table, corpus.official
    assert len(train) == 14915 and len(test) == 5085 and not set(train) & set(test)
    assert table["track_id"].tolist() == train + test and table["track_id"].is_unique
    assert {part: len(rows) for part, rows in split.parts.items()} == dict(train=11186, valid=3729, test=5085)
    assert table["track_id"][split["test"]].tolist() == test and set(table["duration_s"]) == {10.0}
    assert (table["path"] == [f"audio/{key[:3]}/{key}.ogg" for key in table["track_id"]]).all()
    assert not corpus.has("instruments") and table["not_instruments"].isna().all()
    again, other, whole = read(seed=0), read(seed=1), read(valid=0)
    assert again.fingerprint == corpus.fingerprint and len(other.official["valid"]) == 3729
    assert len(set(other.official["valid"]) & set(split["valid"])) < 1500  # another seed, another quarter
    assert {part: len(rows) for part, rows in whole.official.parts.items()} == dict(train=14915, test=5085)
    assert len(json.loads((data / "openmic" / "class-map.json").read_text())) == 20


def test_labels_with_gaps(tmp_path):
    "Relevance of a half and more is present; the last of two rows counts, which is said; no row: unknown."
    rows = "000001_0,banjo,0.5,3\n000001_0,cello,0.49,3\n"
    rows += "000002_10,bass,0.1,3\n000002_10,bass,0.9,4\n000009_0,accordion,0,1\n"
    with pytest.warns(
        UserWarning, match="1 judgements contradict .* bass in 000002_10, in line 5.; the last row counts"
    ):
        corpus = load_corpus("openmic", openmic(tmp_path, labels=rows), valid=0)
    assert "the last row counts, as in the published arrays" in corpus.notes[0]
    assert "aggregated-labels.csv: no labels of 2 of 5 clips" in corpus.notes[1]
    known = corpus.labels("instruments", order="name").matrix
    gap = np.nan
    expected = [[gap, 1, gap, 0], [gap, gap, 1, gap], [gap] * 4, [gap] * 4, [0, gap, gap, gap]]
    np.testing.assert_array_equal(known, expected)
    assert corpus.table["instruments"].tolist()[:3] == [("banjo",), ("bass",), ()]


def relevance_rows(keys, relevance, mask):
    lines = [
        f"{key},{name},{float(relevance[row, column])},3\n"
        for row, key in enumerate(keys)
        for column, name in enumerate(NAMES)
        if mask[row, column]
    ]
    return "".join(lines)


def test_table_and_arrays_say_the_same(tmp_path):
    rng = np.random.default_rng(0)
    keys = [f"{i:06d}_0" for i in range(30)]
    relevance, mask = rng.random((30, 4)).round(2), rng.random((30, 4)) < 0.4
    rows = relevance_rows(keys, relevance, mask)
    by_table = load_corpus("openmic", openmic(tmp_path / "a", keys[:20], keys[20:], rows))
    root = openmic(tmp_path / "b", keys[:20], keys[20:], None, flat=True)
    arrays = dict(X=np.zeros((30, 10, 128), np.int8), Y_true=relevance, Y_mask=mask, sample_key=np.array(keys))
    np.savez(root / "openmic-2018.npz", **arrays)
    assert by_table.fingerprint == load_corpus("openmic", root).fingerprint
    known = np.where(mask, relevance >= 0.5, np.nan)
    np.testing.assert_array_equal(by_table.labels("instruments", order="name").matrix, known)


def test_validation_keeps_artists_together_and_shares_instruments(tmp_path):
    rng = np.random.default_rng(1)
    keys = [f"{i:06d}_0" for i in range(1200)]
    there = rng.random((1200, 4)) < 0.3
    root = openmic(tmp_path, keys[:960], keys[960:], relevance_rows(keys, there, np.ones((1200, 4), bool)))
    lines = [f"{key},A{i // 3},,T\n" for i, key in enumerate(keys) if i != 7]
    head = "sample_key,artist_name,album_title,track_title\n"
    (root / "openmic-2018-metadata.csv").write_text(head + "".join(lines))
    corpus = load_corpus("openmic", root)
    table, split = corpus.table, corpus.official
    assert table["artist"][:2].tolist() == ["A0", "A0"] and table["artist"][7] is None
    assert table["album"].isna().all() and table["title"][0] == "T"
    assert (table[:960].groupby("artist")["split"].nunique() == 1).all()
    assert set(split["test"]) == set(range(960, 1200))
    assert abs(len(split["valid"]) / 960 - 0.25) < 0.02  # whole artists, and instruments before numbers of clips
    assert (abs(there[split["valid"]].sum(0) / there[:960].sum(0) - 0.25) < 0.03).all()


@pytest.mark.parametrize(
    "change, error",
    [
        (
            dict(labels="000001_0,kazoo,1,3\n"),
            "aggregated-labels.csv: line 2, column 'instrument': expected one of class-map.json, found 'kazoo'",
        ),
        (
            dict(labels="000001_0,banjo,yes,3\n"),
            "line 2, column 'relevance': expected a number from 0 to 1, found 'yes'",
        ),
        (dict(labels="000001_0,banjo,1.5,3\n"), "expected a number from 0 to 1, found '1.5'"),
        (dict(labels=None), "no labels, expected .*aggregated-labels.csv or openmic-2018.npz"),
        (
            dict(train=("000001_0", "song.ogg")),
            "split01_train.csv: line 2, column 'sample_key': expected a sample key as '000046_3840', found 'song.ogg'",
        ),
        (
            dict(test=("000001_0",)),
            "split01_test.csv: expected no clip of the training partition, found 1, the first '000001_0'",
        ),
        (dict(train=("000001_0",) * 2), "line 2, column 'sample_key': expected each once, found '000001_0' of line 1"),
        (dict(names={"banjo": 0, "bass": 2}), "class-map.json: expected instruments numbered from 0, found"),
        (dict(names=["banjo"]), "expected instruments numbered from 0"),
    ],
)
def test_wrong_openmic_files_are_named(tmp_path, change, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("openmic", openmic(tmp_path, **change))


@pytest.mark.parametrize("written", [str, "{:02d}".format], ids=["text", "padded"])
def test_numbers_of_instruments_may_be_text(tmp_path, written):
    names = {f"i{number:02d}": written(number) for number in range(12)}
    root = openmic(tmp_path, labels=None, names=names)
    keys, relevance = np.array([b"000001_0", b"000009_0"]), np.zeros((2, 12))
    relevance[:, 2] = 1
    np.savez(root / "openmic-2018.npz", sample_key=keys, Y_true=relevance, Y_mask=np.ones((2, 12), bool))
    corpus = load_corpus("openmic", root, valid=0)
    assert corpus.table["instruments"].tolist() == [("i02",), (), (), (), ("i02",)]
    assert "openmic-2018.npz: no labels of 3 of 5 clips" in corpus.notes


def test_labels_and_metadata_of_other_clips(tmp_path):
    root = openmic(tmp_path, labels="000099_0,banjo,1,3\n")
    found = "expected labels of the 5 clips, found 1 others, the first '000099_0'"
    with pytest.raises(CorpusError, match=f"aggregated-labels.csv: {found}"):
        load_corpus("openmic", root)
    (root / "openmic-2018-aggregated-labels.csv").write_text(RELEVANCE + ONE_LABEL + "000099_0,banjo,1,3\n")
    notes = load_corpus("openmic", root, valid=0).notes
    assert "openmic-2018-aggregated-labels.csv: labels of 1 clips that are not in the corpus" in notes
    assert any(note.startswith("no openmic-2018-metadata.csv: artists are not known") for note in notes)
    metadata, head = root / "openmic-2018-metadata.csv", "sample_key,artist_name,album_title,track_title\n"
    metadata.write_text(head + "000099_0,Ada,,\n")
    with pytest.raises(CorpusError, match="metadata.csv: expected metadata of the 5 clips"):
        load_corpus("openmic", root)
    metadata.write_text(head + "000001_0,Ada,,\n000001_0,Ada,,\n000002_10,NA,,\n")
    assert load_corpus("openmic", root, valid=0).table["artist"].tolist() == ["Ada", "NA", None, None, None]
    metadata.write_text(head + "000001_0,Ada,,\n000001_0,Ben,,\n")
    with pytest.raises(
        CorpusError, match="line 3, column 'sample_key': expected each once, found '000001_0' of line 2"
    ):
        load_corpus("openmic", root)


def test_wrong_openmic_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no list of instruments, expected .*class-map.json"):
        load_corpus("openmic", tmp_path)
    one = openmic(tmp_path / "one")
    (one / "partitions" / "split01_test.csv").unlink()
    with pytest.raises(CorpusError, match="no partition 'test', expected .*split01_test.csv or "):
        load_corpus("openmic", one)
    other = openmic(tmp_path / "other")
    (other / "audio").rmdir()
    with pytest.raises(CorpusError, match="no folder of clips"):
        load_corpus("openmic", other)
    assert len(load_corpus("openmic", other, check_files=False)) == 5
    (other / "class-map.json").write_text("{")
    with pytest.raises(CorpusError, match="class-map.json: expected JSON, found it damaged or cut short"):
        load_corpus("openmic", other)


def test_wrong_openmic_tables(tmp_path):
    root = openmic(tmp_path)
    (root / "openmic-2018-aggregated-labels.csv").write_text("key,instrument,relevance\n")
    with pytest.raises(
        CorpusError, match="expected a column 'sample_key' in a table divided by commas, found key, instrument"
    ):
        load_corpus("openmic", root)
    (root / "openmic-2018-aggregated-labels.csv").write_text(RELEVANCE)
    with pytest.raises(CorpusError, match="aggregated-labels.csv: no rows under the header"):
        load_corpus("openmic", root)
    (root / "openmic-2018-aggregated-labels.csv").write_text(RELEVANCE + ONE_LABEL)
    (root / "openmic-2018-metadata.csv").write_text("sample_key,artist\n")
    with pytest.raises(
        CorpusError,
        match="metadata.csv: expected a column 'artist_name' in a table divided by commas, found sample_key, artist",
    ):
        load_corpus("openmic", root)


KEY, ZEROS = np.array(["000001_0"]), np.zeros((1, 4))


@pytest.mark.parametrize(
    "arrays, error",
    [
        (
            dict(sample_key=KEY.astype(object), Y_true=ZEROS, Y_mask=ZEROS == 0),
            "'sample_key': expected numbers or text, found pickled objects, .*aggregated-labels.csv beside it",
        ),
        (dict(sample_key=KEY, Y_true=ZEROS), "array 'Y_mask': expected to be there, found only sample_key, Y_true"),
        (
            dict(sample_key=KEY, Y_true=ZEROS, Y_mask=np.zeros((1, 3), bool)),
            r"expected Y_true and Y_mask of \[1, 4\], found \[1, 4\] and \[1, 3\]",
        ),
        (None, "openmic-2018.npz: expected an .npz archive, found it damaged or cut short"),
        (
            dict(sample_key=KEY, Y_true=ZEROS + 2, Y_mask=ZEROS == 0),
            "'Y_true', row 0: expected numbers from 0 to 1, found 2",
        ),
        (
            dict(sample_key=KEY, Y_true=ZEROS * np.nan, Y_mask=ZEROS == 0),
            "'Y_true', row 0: expected numbers from 0 to 1",
        ),
        (dict(sample_key=KEY, Y_true=ZEROS, Y_mask=ZEROS + 2), "'Y_mask', row 0: expected 0 and 1 alone, found 2"),
        (dict(sample_key=np.array([3]), Y_true=ZEROS, Y_mask=ZEROS), "'sample_key', row 0: expected a name, found 3"),
        (
            dict(sample_key=KEY.repeat(2), Y_true=np.zeros((2, 4)), Y_mask=np.zeros((2, 4))),
            "'sample_key', row 1: expected a sample key as '000046_3840', each once, found '000001_0'",
        ),
    ],
)
def test_wrong_openmic_arrays(tmp_path, arrays, error):
    root = openmic(tmp_path, labels=None)
    if arrays is None:
        (root / "openmic-2018.npz").write_bytes(b"PK\x03\x04 torn")
    else:
        np.savez(root / "openmic-2018.npz", **arrays)
    with pytest.raises(CorpusError, match=error):
        load_corpus("openmic", root)


# ---- Extended Ballroom


def ballroom(root, *dances, xml=None):
    for k, dance in enumerate(dances or (*BALLROOM, *BALLROOM_DROPPED)):
        for j in range(2):
            (root / dance).mkdir(parents=True, exist_ok=True)
            (root / dance / f"{100 * k + j}.mp3").write_bytes(b"")
    if xml:
        (root / "extendedballroom_v1.1.xml").write_text(xml)
    return root


def test_nine_of_thirteen_dances(tmp_path):
    from musicmtl.miniature import DANCES

    assert len(BALLROOM) == 9 and len(BALLROOM_DROPPED) == 4 and set(BALLROOM.values()) == set(DANCES)
    corpus = load_corpus("ballroom", ballroom(tmp_path))
    assert len(corpus) == 18 and set(corpus.labels("genre").counts) == {2} and not corpus.has("artist")
    assert corpus.labels("genre", order="name").classes == tuple(sorted(DANCES))
    assert not {path.split("/")[0] for path in corpus.table["path"]} & set(BALLROOM_DROPPED)
    waltz = corpus.table.set_index("path").loc["Viennesewaltz/101.mp3"]
    assert waltz[["track_id", "genre"]].tolist() == ["101", "Viennese waltz"]


def test_what_the_xml_knows(tmp_path):
    songs = '<song id="0" artist="Ada" album="Steps" title="Go" bpm="128" hash="x"/><song id="77" artist="Ben"/>'
    root = ballroom(tmp_path / "extendedballroom_v1.1", xml=f"<d><Chacha>{songs}</Chacha></d>")
    corpus = load_corpus("ballroom", root.parent)  # the folder above will do
    table = corpus.table.set_index("track_id")
    assert table.loc["0", ["artist", "album", "title"]].tolist() == ["Ada", "Steps", "Go"]
    assert table.loc["1", "artist"] is None
    assert corpus.root.name == "extendedballroom_v1.1" and "77" not in table.index  # in the list, not in the folder


@pytest.mark.parametrize(
    "songs, error",
    [
        (
            '<song id="0" artist="Ada"/><song id="0" artist="Ben"/>',
            "expected songs with an id of their own, found '0' aga",
        ),
        ('<song artist="Ada"/>', "expected songs with an id of their own, found ''"),
        ("", "found no song"),
        ('<song id="9999" artist="Ada"/>', "expected metadata of the 18 clips, found 1 others"),
    ],
)
def test_songs_in_the_xml_that_contradict(tmp_path, songs, error):
    root = ballroom(tmp_path, xml=f"<d><Chacha>{songs}</Chacha></d>")
    with pytest.raises(CorpusError, match=f"extendedballroom_v1.1.xml: .*{error}"):
        load_corpus("ballroom", root)


def test_wrong_ballrooms_are_named(tmp_path):
    some = [dance for dance in BALLROOM if dance not in ("Jive", "Tango")]
    with pytest.raises(CorpusError, match="audio files of nine dances in .*, found none of Jive, Tango"):
        load_corpus("ballroom", ballroom(tmp_path / "a", *some))
    with pytest.raises(CorpusError, match="Polka/0.mp3: expected <dance>/<id>.mp3, the dance one of Chacha, Foxtrot"):
        load_corpus("ballroom", ballroom(tmp_path / "b", "Polka"))
    with pytest.raises(CorpusError, match="Tango/old/0.mp3: expected <dance>/<id>.mp3"):
        load_corpus("ballroom", ballroom(tmp_path / "c", "Tango/old"))
    with pytest.raises(CorpusError, match="extendedballroom_v1.1.xml: expected XML, found it damaged or cut short"):
        load_corpus("ballroom", ballroom(tmp_path / "d", xml="<d><Chacha>"))
    (tmp_path / "e").mkdir()
    with pytest.raises(CorpusError, match="found none of Cha cha, Foxtrot"):
        load_corpus("ballroom", tmp_path / "e")


# ---- AudioSet

LISTED = "# made\n# YTID, start_seconds, end_seconds, positive_labels\n"


def audioset(root, rows, *paths, head=LISTED):
    root.mkdir(exist_ok=True)
    for path in paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(b"")
    (root / "balanced_train_segments.csv").write_text(head + "".join(row + "\n" for row in rows))
    return root


NAMES_OF_CLIPS = {
    "a": "a_30.wav",
    "b": "b_30.000.flac",
    "c": "c_30000.ogg",
    "d": "d_30_40.mp3",
    "e": "x/e_30.000_40.000.wav",
    "f": "f_30000_40000.wav",
    "g": "g.wav",
    "h": "Yh.wav",
    "i": "Yi_30.000.wav",
    "_-j": "Y_-j_30_40.wav",
}


def test_clips_go_by_many_names(tmp_path):
    rows = [f'{video}, 30.000, 40.000, "/m/04rlf,/m/0342h"' for video in NAMES_OF_CLIPS]
    rows.append('k, 30.000, 40.000, "/m/09x0r"')
    root = audioset(tmp_path, rows, *NAMES_OF_CLIPS.values(), "k_30.wav")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = load_corpus("audioset", root).table
    expected = {f"{video}_30": path for video, path in NAMES_OF_CLIPS.items()}
    assert dict(zip(table["track_id"], table["path"], strict=True)) == expected
    assert set(table["duration_s"]) == {10.0} and table["start_s"].isna().all()
    assert set(table["tags"]) == {("/m/04rlf", "/m/0342h")}


def test_missing_clips_are_counted(tmp_path):
    rows = [f'{video}, 0.000, 10.000, "/m/04rlf"' for video in "abc"] + ['d, 0.000, 10.000, "/m/09x0r"']
    with pytest.warns(UserWarning, match="corpus 'audioset': 2 of 3 clips of music are not in .*clips"):
        corpus = load_corpus("audioset", audioset(tmp_path, rows, "clips/b_0.wav"), audio_root=tmp_path / "clips")
    assert corpus.table["track_id"].tolist() == ["b_0"] and corpus.path(0) == tmp_path / "clips" / "b_0.wav"
    (tmp_path / "clips" / "b_0.wav").unlink()
    with pytest.raises(CorpusError, match="no file of any of 3 clips of music in .*, expected names as 'a_0.wav'"):
        load_corpus("audioset", tmp_path, audio_root=tmp_path / "clips")


@pytest.mark.parametrize(
    "rows, head, error",
    [
        (
            ['a, 0, 10, "/m/04rlf"', "b, zero, 10, x"],
            LISTED,
            "segments.csv: line 4, column 'start_seconds': expected a number, 0 or more, found 'zero'",
        ),
        (['a, 10, 0, "/m/04rlf"'], LISTED, "line 3, column 'end_seconds': expected more than 10, found 0"),
        (["a, 0, 10"], LISTED, "line 3: expected 4 cells, as there are columns, found 3"),
        (["a, 0, 10, /m/04rlf, more"], LISTED, "line 3: expected 4 cells, as there are columns, found 5"),
        (['a, 0, 10, "/m/09x0r"'], LISTED, "no segment with the label /m/04rlf"),
        (
            ["a,0,10,x"],
            "",
            "expected a comment '# YTID, start_seconds, end_seconds, positive_labels' above the segments",
        ),
        (["a,0,10,x"], "# id, start, end, labels\n", "above the segments, found 'id, start, end, labels'"),
        ([], "", "segments.csv: empty"),
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


# ---- MagnaTagATune

OTHERS = ("foreign", "duet")  # of the 138 other tags


def mtt(root, rows, *, paths=None, columns=(OTHERS[0], *TAGS, OTHERS[1]), suffix=".mp3"):
    "Rows (id, path, tags) as annotations_final.csv; empty files for all or for `paths`."
    root.mkdir(parents=True, exist_ok=True)
    lines = [["clip_id", *columns, "mp3_path"]]
    lines += [[number, *("1" if tag in tags else "0" for tag in columns), path] for number, path, tags in rows]
    text = ["\t".join(f'"{cell}"' for cell in line) for line in lines]
    (root / "annotations_final.csv").write_text("\n".join(text) + "\n")
    for path in [path for _, path, _ in rows] if paths is None else paths:
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).with_suffix(suffix).write_bytes(b"")
    return root


def clip(k, folder, *tags):
    start = 29 * k
    return str(10 + k), f"{folder}/ann_lee-day-0{k % 9 + 1}-song__{folder}-{start}-{start + 29}.mp3", tags


CLIPS = [clip(k, folder, "harp", "foreign") for k, folder in enumerate("0123456789abcdef")]
CLIPS += [clip(16, "0"), clip(17, "c", "duet"), clip(18, "d", "choral", "guitar")]


@pytest.mark.parametrize("split, counts", [("homework", (5, 1, 2)), ("folder", (13, 2, 4)), ("clean", (12, 1, 4))])
def test_splits_by_folder(tmp_path, split, counts):
    corpus = load_corpus("magnatagatune", mtt(tmp_path, CLIPS), split=split)
    expected = dict(zip(("train", "valid", "test"), counts, strict=True))
    assert {part: len(rows) for part, rows in corpus.official.parts.items()} == expected
    assert corpus.table["split"].notna().all()
    whole = load_corpus("magnatagatune", tmp_path, split=split, all_clips=True)
    assert len(whole) == 19
    for parts in (whole.official.parts, by_folder(whole, split).parts):
        assert {part: len(rows) for part, rows in parts.items()} == expected


def test_what_the_names_say(tmp_path):
    bach = "f/american_bach_soloists-j_s__bach_solo_cantatas"
    rows = [
        ("2", f"{bach}-01-bwv54__i_aria-30-59.mp3", ("classical", "opera", "foreign")),
        ("6", f"{bach}-01-bwv54__i_aria-146-175.mp3", ()),
        ("7", f"{bach}-02-x-y-0-29.mp3", ("metal",)),
        ("8", "d/noise.mp3", ("weird",)),
    ]
    corpus = load_corpus("magnatagatune", mtt(tmp_path, rows), split="folder")
    table = corpus.table
    assert table.loc[0, ["track_id", "artist"]].tolist() == ["2", "american_bach_soloists"]
    assert table.loc[0, ["album", "title"]].tolist() == ["j_s__bach_solo_cantatas", "01-bwv54__i_aria"]
    assert table["tags"].tolist() == [("classical", "opera"), (), ("metal",), ("weird",)]
    assert table["title"][2] == "02-x-y" and table["artist"][3] is None
    assert track_numbers(corpus.subset([0, 1, 2])).tolist() == [0, 0, 1]
    with pytest.raises(CorpusError, match="row 3: expected an artist and a title"):
        track_numbers(corpus)
    assert tag_matrix(corpus)[2].nonzero()[0].tolist() == [47] and tag_matrix(corpus).shape == (4, 50)


def test_clips_may_lie_in_mp3_and_be_of_another_kind(tmp_path):
    waves = load_corpus("magnatagatune", mtt(tmp_path / "a", CLIPS, suffix=".wav"), split="folder")
    assert set(waves.table["path"].str[-4:]) == {".wav"} and waves.path(0).is_file()
    root = mtt(tmp_path / "b", CLIPS, paths=[f"mp3/{path}" for _, path, _ in CLIPS])
    corpus = load_corpus("magnatagatune", root, split="folder")
    assert corpus.root == root / "mp3" and corpus.path(3).is_file()
    elsewhere = tmp_path / "elsewhere"
    (root / "mp3").rename(elsewhere)
    assert load_corpus("magnatagatune", root, split="folder", audio_root=str(elsewhere)).path(3).is_file()
    assert len(load_corpus("magnatagatune", root, split="folder", check_files=False)) == 19


def test_missing_and_empty_clips(tmp_path):
    empty = [(str(900 + k), path, ("rock",)) for k, path in enumerate(MAGNATAGATUNE_NO_AUDIO)]
    root = mtt(tmp_path, CLIPS + empty, paths=[path for _, path, _ in CLIPS[2:]])
    with pytest.warns(UserWarning, match="corpus 'magnatagatune': 2 of 19 clips are not in"):
        corpus = load_corpus("magnatagatune", root, split="folder")
    assert len(corpus) == 17 and not set(corpus.table["track_id"]) & {"900", "901", "902"}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(load_corpus("magnatagatune", root, split="folder", check_files=False)) == 19


NO_COLUMN = "expected a column 'choral' in a table divided by tabs, found 51: clip_id, guitar"


@pytest.mark.parametrize(
    "rows, options, error",
    [
        (CLIPS, dict(columns=TAGS[:-1]), f"annotations_final.csv: {NO_COLUMN}"),
        ([], {}, "annotations_final.csv: no rows under the header"),
        ([CLIPS[0], CLIPS[0]], {}, "line 3, column 'clip_id': expected each once, found '10' of line 2 again"),
        ([CLIPS[0], ("99", *CLIPS[0][1:])], {}, "line 3, column 'mp3_path': expected each once, found '0/ann_lee"),
        (
            [("1", "g/a-b-01-c-0-29.mp3", ())],
            {},
            "line 2, column 'mp3_path': expected <0 to f>/<artist.*found 'g/a-b-01-c-0-29.mp3'",
        ),
        ([("1", "../a-b-01-c-0-29.mp3", ())], dict(paths=()), "expected <0 to f>"),
        ([CLIPS[3]], {}, "no clip in the split 'homework'"),
        (CLIPS, dict(paths=["0/other.mp3"]), "expected the files of 8 clips in the folders 0 to f of .*, found none"),
        (CLIPS, dict(suffix=".npy"), r"found arrays \(.npy\), which hold no rate"),
    ],
)
def test_wrong_magnatagatune_files_are_named(tmp_path, rows, options, error):
    with pytest.raises(CorpusError, match=error):
        load_corpus("magnatagatune", mtt(tmp_path, rows, **options))


@pytest.mark.parametrize(
    "change, error",
    [
        (("\t", ","), "line 1: expected a row divided by tabs, found otherwise"),
        (('"0"', '"yes"', 1), "line 2, column 'guitar': expected 0 or 1, found 'yes'"),
        (None, "annotations_final.csv: empty"),
    ],
)
def test_wrong_magnatagatune_tables(tmp_path, change, error):
    path = mtt(tmp_path, CLIPS) / "annotations_final.csv"
    path.write_text(path.read_text().replace(*change) if change else "")
    with pytest.raises(CorpusError, match=error):
        load_corpus("magnatagatune", tmp_path)


def test_wrong_magnatagatune_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no annotations, expected .*annotations_final.csv"):
        load_corpus("magnatagatune", tmp_path)
    mtt(tmp_path, CLIPS)
    with pytest.raises(CorpusError, match="no folder of clips, expected .*nowhere"):
        load_corpus("magnatagatune", tmp_path, audio_root=tmp_path / "nowhere")
    with pytest.raises(ParamsError, match="split: expected one of homework, folder, clean, found 'album'"):
        load_corpus("magnatagatune", tmp_path, split="album")


def test_miniature_can_be_read_as_magnatagatune(tmp_path):
    size = {"base": "smoke", "duration_s": 1.0}
    clips = load_corpus("miniature", tmp_path, view="tagatune", size=size, n_jobs=1)
    table = clips.table
    mtt(tmp_path, list(zip(table["track_id"], table["path"], table["tags"], strict=True)), paths=())
    read = load_corpus("magnatagatune", tmp_path)
    assert (tag_matrix(read) == tag_matrix(clips)).all() and (track_numbers(read) == track_numbers(clips)).all()
    assert read.table["split"].tolist() == table["split"].tolist()
    assert [read.path(i) for i in range(42)] == [clips.path(i) for i in range(42)]


# ---- the call itself

KNOWN = "albums, audioset, ballroom, commons, fma, folder, magnatagatune, miniature, openmic, regional"


@pytest.mark.parametrize(
    "name, options, error",
    [
        ("fmaa", {}, f"name: expected one of {KNOWN} or mirdata:<data set>, found 'fmaa'"),
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
    calls = []
    stand_in = types.SimpleNamespace(miniature=lambda *args, **options: calls.append((args, options)) or "corpus")
    monkeypatch.setitem(sys.modules, "musicmtl.miniature", stand_in)
    assert load_corpus("miniature") == "corpus"
    load_corpus("miniature", tmp_path, view="openmic", size="smoke", seed=3, label_noise=0)
    assert calls == [
        (("fma", "mini"), dict(seed=0, label_noise=None, root=None, n_jobs=-1)),
        (("openmic", "smoke"), dict(seed=3, label_noise=0, root=tmp_path, n_jobs=-1)),
    ]
