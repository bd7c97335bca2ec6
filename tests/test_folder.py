"A folder of music as people have it: what can be decoded is taken, all else is said, and nothing else is opened."

import os
import socket
import sys
import unicodedata
import warnings
from pathlib import Path

import mutagen
import numpy as np
import pytest
import soundfile
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.core import CorpusError, ParamsError
from musicmtl.folder import AUDIO_SUFFIXES, RESERVED, FolderWarning, file_tags, folder_name, listing, load_folder
from musicmtl.loaders import LOADERS, load_corpus
from musicmtl.miniature import miniature

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="names are bytes, and links links, on Linux")


def sound(path, pitch=10, **tags):
    "A short file; another pitch, other bytes."
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = {".oga": "OGG", ".aif": "AIFF", ".mp2": "MP3"}.get(path.suffix.lower(), path.suffix[1:].upper())
    soundfile.write(path, 0.1 * np.sin(np.arange(4000) / pitch), 16000, format=kind)
    if tags:
        file = mutagen.File(path, easy=True)
        file.update(tags)
        file.save()
    return path


def load(root, **options):
    "Without a warning."
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FolderWarning)
        return load_corpus("folder", root, **options)


def note(corpus, words):
    "The one note with these words."
    (found,) = [note for note in corpus.notes if words in note]
    return found


# ---- what is taken, what is left out


def test_what_libsndfile_can_decode_is_taken(tmp_path):
    kinds = "wav flac ogg oga mp3 mp2 au aiff aif caf w64 rf64 voc".split()
    for number, kind in enumerate(kinds):
        sound(tmp_path / f"{kind}.{kind.upper() if number % 2 else kind}", 10 + number)
    corpus = load_corpus("folder", tmp_path)
    assert len(corpus) == len(kinds) and not any("left out" in note for note in corpus.notes)
    assert ".raw" not in AUDIO_SUFFIXES and ".opus" in AUDIO_SUFFIXES


def test_what_is_left_out_is_counted_by_kind_and_missed_music_is_a_warning(tmp_path):
    sound(tmp_path / "a.wav")
    for name in ("b.m4a", "c.M4A", "d.wma", "cover.jpg", "words", ".DS_Store", "._a.wav", "__MACOSX/a.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\0\0\x20ftypM4A ")
    with pytest.warns(FolderWarning, match="left out: 2 .m4a, 1 .wma") as caught:
        corpus = load_corpus("folder", tmp_path)
    assert len(caught) == 1 and "jpg" not in str(caught[0].message)
    assert corpus.table["path"].tolist() == ["a.wav"] and "3 notes" in repr(corpus)
    assert "with ffmpeg" in note(corpus, ".m4a") and "1 .jpg, 1 without ending (not sound)" in note(corpus, ".jpg")
    assert note(corpus, "hidden") == "left out: 3 hidden files or folders"


def test_nothing_is_opened_that_is_no_file(tmp_path):
    "Reading from the pipe would last for ever, reading the device would have no end."
    sound(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "pipe.wav")
    (tmp_path / "device.wav").symlink_to("/dev/zero")
    (tmp_path / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "gone.wav").symlink_to("nowhere.wav")
    (tmp_path / "folder.wav").mkdir()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "s.wav"))
        corpus = load(tmp_path)
    assert corpus.table["path"].tolist() == ["a.wav"]
    assert note(corpus, "device") == "left out: 3 pipes, sockets or devices: device.wav, pipe.wav, s.wav"
    assert note(corpus, "nowhere") == "left out: 2 links that lead nowhere: gone.wav, loop.wav"


def test_links_are_followed_once_and_never_upwards(tmp_path):
    root = tmp_path / "music"
    sound(root / "z" / "a.wav")
    sound(tmp_path / "other" / "b.wav", 11)
    for link, target in {"a link": "z", "other": "../other", "round": ".", "up": "..", "top": "/"}.items():
        (root / link).symlink_to(target)
    (tmp_path / "other" / "back").symlink_to(root)
    (root / "b again.wav").symlink_to("../other/b.wav")
    corpus = load(root)
    assert corpus.table["path"].tolist() == ["b again.wav", "other/b.wav", "z/a.wav"]
    assert "left out: 5 links to folders that are listed or hold this one" in note(corpus, "links to folders")
    assert corpus.recordings().tolist() == [0, 0, 1]


def test_sound_that_was_rendered_here_is_never_taken_for_music(tmp_path):
    sound(tmp_path / "music" / "a.wav")
    miniature("fma", "smoke", root=tmp_path / "music" / "rendered")
    with pytest.warns(FolderWarning, match="1 folder of sound that musicmtl has rendered: rendered"):
        assert load_corpus("folder", tmp_path / "music").table.path.tolist() == ["a.wav"]
    with pytest.raises(CorpusError, match="holds sound that musicmtl has rendered; take it out with `python -m"):
        load(tmp_path / "music" / "rendered")


def test_what_cannot_be_read_is_said(tmp_path, monkeypatch):
    for path in ("a.wav", "closed.wav", "locked/b.wav"):
        sound(tmp_path / path)
    scandir, access = os.scandir, os.access

    def no_entry(path):
        if Path(path).name == "locked":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", no_entry)  # whoever tests as root may read everything
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "closed.wav" and access(path, mode))
    with pytest.warns(FolderWarning, match="1 folder that cannot be read: locked.*1 file that cannot be read: closed"):
        assert len(load_corpus("folder", tmp_path)) == 1
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(CorpusError, match="neither a tracks.csv nor any audio file .*2 files that cannot be read"):
        load_corpus("folder", tmp_path)


names = st.binary(min_size=1, max_size=12).filter(lambda name: not set(name) & {0, 47} and name not in (b".", b".."))


@settings(max_examples=12, deadline=None)
@given(st.lists(names, min_size=1, max_size=6, unique=True))
def test_any_name_on_disk_becomes_a_track_with_an_id_of_its_own(tmp_path_factory, stems):
    "Bytes that are no text, line breaks, quotes, blanks: the path leads to the file, the id is text."
    root = tmp_path_factory.mktemp("names")
    for number, stem in enumerate(stems):
        Path(os.fsdecode(os.fsencode(root) + b"/n" + stem + b".wav")).write_bytes(b"RIFF" + bytes([number]) * 40)
    corpus = load(root)
    assert len(corpus) == len(stems) and all(corpus.path(row).is_file() for row in range(len(corpus)))
    for track in corpus.table["track_id"]:
        assert track.encode() and not set(track) & set("\n\r\0\t\x1b")
    assert corpus.fingerprint == load(root).fingerprint


# ---- artists from folders


def library(root, *paths, **tagged):
    "Sound at each path; tags of an artist where `tagged` has the file's stem."
    for number, path in enumerate(paths):
        artist = tagged.get(Path(path).stem)
        sound(root / path, 10 + number, **({"artist": artist} if artist else {}))
    return load(root)


def artists(corpus):
    return dict(zip(corpus.table["path"], corpus.table["artist"], strict=True))


def test_an_artist_without_tags_has_the_name_of_the_folder_and_the_corpus_says_so(tmp_path):
    corpus = library(tmp_path, "Ada/Numbers/01 One.ogg", "Ada/Numbers/CD 2/02 Two.ogg", "Ben_B/Waves/x.ogg", "y.ogg")
    assert artists(corpus) == {
        "Ada/Numbers/01 One.ogg": "Ada",
        "Ada/Numbers/CD 2/02 Two.ogg": "Ada",
        "Ben_B/Waves/x.ogg": "Ben B",
        "y.ogg": None,
    }
    assert corpus.table["album"].tolist() == ["Numbers", "Numbers", "Waves", None]
    said = "3 files have no artist in the tags and the artist of the folder (Artist/Album/Title): Ada (2), Ben B (1)"
    assert note(corpus, "of the folder") == said


def test_tags_say_which_folder_is_the_artist_and_are_never_replaced(tmp_path):
    paths = "Folk/ADA/a.ogg", "Folk/Ada/b.ogg", "Jazz/Ben/c.ogg", "Jazz/Various Artists/d.ogg", "Jazz/Cleo/e.ogg"
    corpus = library(tmp_path, *paths, a="Ada", c="Ben")
    assert list(artists(corpus).values()) == ["Ada", "Ada", "Ben", "Cleo", None]
    assert "(.../Artist/Title): Ada (1), Cleo (1)" in note(corpus, "of the folder")
    other = library(tmp_path / "other", "Ada/a.ogg", "Ben/b.ogg", "Cleo/c.ogg", a="Zoe")
    assert list(artists(other).values()) == ["Zoe", None, None]
    assert "2 files without artist are in folders of no one layout" in note(other, "no one layout")


def test_three_of_four_files_make_a_layout_and_the_others_are_its_artists_or_nobodys(tmp_path):
    paths = [f"{artist}/{artist} live/{n}.ogg" for artist in ("Ada", "Ben", "Cleo") for n in range(2)]
    corpus = library(tmp_path, *paths, "Ada/a.ogg", "backup/b.ogg")
    assert artists(corpus)["Ada/a.ogg"] == "Ada" and artists(corpus)["backup/b.ogg"] is None
    assert corpus.table.set_index("path").album["Ada/a.ogg"] is None
    sound(tmp_path / "one more" / "c.ogg", 30)
    assert not load(tmp_path).has("artist")


@pytest.mark.parametrize(
    "paths",
    [
        ("blues/a.ogg", "jazz/b.ogg", "Hip-Hop/c.ogg"),
        ("2019/a.ogg", "2020/b.ogg", "2021/c.ogg"),
        ("Ada/a.ogg", "mixes/Ben/b.ogg", "one/two/three/c.ogg"),
        ("rip/a.ogg", "rip/b.ogg"),
        ("a/b/c/d.ogg", "e/f/g/h.ogg"),
    ],
    ids=["genres", "years", "no one layout", "one folder", "deep"],
)
def test_folders_that_may_be_anything_name_no_artist(tmp_path, paths):
    corpus = library(tmp_path, *paths)
    assert not corpus.has("artist")
    assert f"{len(paths)} files without artist are in folders of no one layout" in note(corpus, "no one layout")


# ---- songs that are there twice


def test_files_with_the_same_bytes_are_never_on_two_sides(tmp_path):
    for number in range(12):
        sound(tmp_path / f"{number:02d}.wav", 10 + number)
    for number in range(0, 12, 3):
        (tmp_path / f"copy of {number}.wav").write_bytes((tmp_path / f"{number:02d}.wav").read_bytes())
    (tmp_path / "longer.wav").write_bytes((tmp_path / "00.wav").read_bytes() + b"\0")
    same_ends = bytearray((tmp_path / "00.wav").read_bytes() + bytes(200_000))
    (tmp_path / "one.wav").write_bytes(same_ends)
    same_ends[100_000] = 1
    (tmp_path / "two.wav").write_bytes(same_ends)
    for name in ("empty.ogg", "also empty.ogg"):
        (tmp_path / name).write_bytes(b"")
    corpus = load(tmp_path)
    assert "4 songs are there twice, byte for byte" in note(corpus, "twice")
    assert "copy of 0.wav (as 00.wav)" in note(corpus, "twice")
    track, songs = corpus.table["track_id"].tolist(), corpus.recordings()
    assert len(corpus) == 21 and len(set(songs)) == 17
    assert songs[track.index("copy of 3.wav")] == songs[track.index("03.wav")]
    for seed in range(10):
        for by in ("artist", "album", "track"):
            parts = corpus.split(by=by, fractions=(0.5, 0.25, 0.25), seed=seed).parts.values()
            assert sum(len(set(songs[rows])) for rows in parts) == 17


def test_rows_of_a_table_that_name_one_sound_stay_together_and_contradictions_are_said(tmp_path):
    sound(tmp_path / "a.wav")
    for name in ("b.wav", "c.wav"):
        (tmp_path / name).write_bytes((tmp_path / "a.wav").read_bytes())
    sound(tmp_path / "d.wav", 20)
    (tmp_path / "tracks.csv").write_text(
        "track_id,path,artist,start_s,duration_s,recording\n"
        "1,a.wav,Ada,,,\n2,b.wav,Ben,,,live\n3,./a.wav,,,,\n4,c.wav,Ada,0,1,\n5,d.wav,Eve,,,live\n6,d.wav,Eve,1,1,\n"
    )
    corpus = load_corpus("folder", tmp_path)
    assert note(corpus, "twice").startswith("2 songs are there twice") and "differ in artist" in note(corpus, "twice")
    assert corpus.recordings().tolist() == [0] * 6  # the table says that a and d are one recording
    with pytest.raises(CorpusError, match="2 parts need at least 2 tracks, found 1"):
        corpus.split(by="track")


@settings(max_examples=15, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["Beyonc\u00e9", "Beyonce\u0301", " Beyonc\u00e9 ", "BEYONCÉ", "Ada", "ADA\u200b", "Bo", "Cy"]
            ),
            st.integers(0, 5),
        ),
        min_size=8,
        max_size=30,
    ),
    st.integers(0, 3),
)
def test_no_spelling_and_no_copy_of_a_song_is_on_two_sides(tmp_path_factory, songs, seed):
    root = tmp_path_factory.mktemp("spelled")
    lines = [f"{row}.wav,{artist}" for row, (artist, _) in enumerate(songs)]
    for row, (_, content) in enumerate(songs):
        (root / f"{row}.wav").write_bytes(bytes([content]) * 40)
    (root / "tracks.csv").write_text("\n".join(["path,artist", *lines]), encoding="utf-8")
    corpus = load(root)
    artist = [unicodedata.normalize("NFC", name).replace("\u200b", "").strip().casefold() for name, _ in songs]
    try:
        parts = corpus.split(seed=seed, fractions=(0.6, 0.4)).parts.values()
    except CorpusError:
        return  # all of it hangs together
    for what in (artist, [content for _, content in songs]):
        sides = [{what[row] for row in rows} for rows in parts]
        assert not sides[0] & sides[1]


# ---- tags


class Hostile:
    "What a damaged file can make of mutagen."

    info = type("info", (), {"length": float("inf")})

    def __init__(self, tags):
        self.tags = tags


@pytest.mark.parametrize(
    "values, artist",
    [
        (["Ada\0Ben"], ["Ada Ben"]),
        (["  ", "Ada\nLee\t"], ["Ada Lee"]),
        ([b"Beyonc\xc3\xa9"], ["Beyoncé"]),
        (b"Ada", ["Ada"]),
        ([7, None], ["7", "None"]),
        (["x" * 100_000, "Ada"], ["Ada"]),
        (["Ada\ud800"], ["Ada?"]),
    ],
)
def test_values_of_tags_are_text(tmp_path, monkeypatch, values, artist):
    monkeypatch.setattr(mutagen, "File", lambda path, easy: Hostile({"artist": values}))
    assert file_tags(sound(tmp_path / "a.wav")) == {"artist": artist}
    assert load_corpus("folder", tmp_path).table["artist"].tolist() == [artist[0]]


@pytest.mark.parametrize("error", [ValueError, KeyError, MemoryError, RecursionError, mutagen.MutagenError])
def test_tags_that_cannot_be_read_are_counted_and_the_artist_is_nobody(tmp_path, monkeypatch, error):
    def fail(path, easy):
        raise error("damaged")

    for number in range(4):
        sound(tmp_path / f"{number}.wav", 10 + number)
    monkeypatch.setattr(mutagen, "File", fail)
    corpus = load_corpus("folder", tmp_path)
    assert f"of 4 files, 0.wav ({error.__name__})" in note(corpus, "tags that cannot be read")
    assert corpus.table["artist"].isna().all() and not corpus.has("artist") and file_tags(tmp_path / "0.wav") == {}
    assert [len(rows) for rows in corpus.split(fractions=(0.5, 0.5)).parts.values()] == [2, 2]  # each on its own


def test_damaged_files_of_all_kinds_are_tracks_without_an_artist(tmp_path):
    heads = {"mp3": b"ID3\x04\0\0\x7f\x7f\x7f\x7f", "flac": b"fLaC\0\0\0\x22", "ogg": b"OggS", "aiff": b"FORM"}
    for kind, head in heads.items():
        (tmp_path / f"a.{kind}").write_bytes(head + b"\xff" * 200)
    corpus = load(tmp_path)
    assert len(corpus) == 4 and corpus.table["artist"].tolist() == [None] * 4


def test_spellings_of_an_artist_are_said(tmp_path):
    (tmp_path / "tracks.csv").write_text("path,artist\na.wav,Beyoncé\nb.wav,BEYONCÉ\nc.wav,Ada\n", encoding="utf-8")
    corpus = load(tmp_path)
    assert corpus.labels("artist").classes == ("Ada", "BEYONCÉ", "Beyoncé")
    assert "BEYONCÉ / Beyoncé" in note(corpus, "spelled")


# ---- the table


def test_what_a_table_leaves_out_is_said(tmp_path):
    for number, name in enumerate(("a.wav", "b.wav", "c.wav")):
        sound(tmp_path / name, 10 + number)
    (tmp_path / "tracks.csv").write_text("\ufeffPath,Track ID,ARTIST,mood\na.wav,1,NA,sad\n\nx.wav,007,None,\n")
    corpus = load(tmp_path)
    assert corpus.table[["track_id", "artist"]].to_numpy().tolist() == [["1", "NA"], ["007", "None"]]
    assert note(corpus, "mood") == "columns of tracks.csv that are not read: mood"
    assert note(corpus, "not there") == "files of tracks.csv that are not there: 1, x.wav"
    assert note(corpus, "without a row") == "left out: 2 audio files without a row, b.wav, c.wav"
    (tmp_path / "d.m4a").write_bytes(b"ftypM4A")
    assert "1 .m4a (sound that cannot be decoded" in note(load(tmp_path), ".m4a")


def test_paths_of_a_table_are_found_in_the_form_that_the_disk_has(tmp_path):
    sound(tmp_path / "Beyonce\u0301" / "Crazy.wav")
    sound(tmp_path / "e.wav", 11).rename(os.fsdecode(os.fsencode(tmp_path) + b"/\xe9.wav"))
    (tmp_path / "tracks.csv").write_text("path\nBeyonc\u00e9\\Crazy.wav\n\\xe9.wav\n", encoding="utf-8")
    corpus = load(tmp_path)
    assert all(corpus.path(row).is_file() for row in range(2)) and corpus.notes == ()


@pytest.mark.parametrize(
    "text, error",
    [
        ("path,Path\na.wav,b.wav\n", "expected one column 'path', found 2"),
        ("path,start_s\na.wav,1_000\n", "0 or more, found '1_000'"),
        ("path,start_s\na.wav,nan\n", "0 or more, found 'nan'"),
        ("path,start_s\na.wav,inf\n", "0 or more, found 'inf'"),
        ("path,duration_s\na.wav,1e999\n", "found '1e999'"),
        ("path;artist\na.wav;Ada\n", "expected a column 'path', found path;artist"),
        ('path,artist\na.wav,"Ada\n', "tracks.csv: line 2"),
    ],
)
def test_a_table_is_read_as_meant_or_refused(tmp_path, text, error):
    (tmp_path / "tracks.csv").write_text(text)
    with pytest.raises(CorpusError, match=error):
        load_corpus("folder", tmp_path)


def test_a_table_that_is_no_file_is_never_opened(tmp_path):
    sound(tmp_path / "a.wav")
    os.mkfifo(tmp_path / "tracks.csv")
    with pytest.raises(CorpusError, match="tracks.csv: expected a file, found a pipe"):
        load_corpus("folder", tmp_path)


# ---- the name


@settings(max_examples=100, deadline=None)
@given(st.binary(min_size=1, max_size=250).filter(lambda name: not set(name) & {0, 47}))
def test_a_name_can_begin_the_name_of_any_file(raw):
    name = folder_name(Path("/nowhere", os.fsdecode(raw)))
    assert name == name.strip() and 0 < len(name.encode()) <= 80 and name.casefold() not in RESERVED
    assert all(sign.isalnum() or sign in "_ -" for sign in name.replace("\u0300", "")) or unicodedata.normalize(
        "NFC", name
    )


def test_names_of_other_corpora_are_not_taken(tmp_path):
    assert set(LOADERS) <= set(RESERVED)
    for name in ("miniature", "Miniature", "fma", "A$AP", "A&AP", "a\nb", "..x", "x" * 250):
        corpus = load_folder(sound(tmp_path / name / "a.wav").parent)
        assert corpus.name != name and corpus.name == load_folder(tmp_path / name).name
    assert folder_name("/m/A$AP") != folder_name("/m/A&AP")
    assert folder_name("/m/My Música-2") == "My Música-2"
    for wrong in ("miniature", "FMA", "a/b", "", "..", "x" * 101, "a\nb"):
        with pytest.raises(ParamsError, match="name: expected"):
            load_corpus("folder", tmp_path / "fma", corpus_name=wrong)


def test_files_without_text_in_their_names_are_listed(tmp_path):
    sound(tmp_path / "a.wav")
    assert listing(tmp_path).paths == ["a.wav"] and listing(tmp_path).notes == []
