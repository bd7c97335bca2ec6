"Corpora come out as they were published; whatever is wrong is said in one sentence."
import csv
import sys
import types
from collections import Counter

import mutagen
import mutagen.id3
import numpy as np
import pytest
import soundfile

from musicmtl.core import CorpusError, ParamsError
from musicmtl.loaders import load_corpus


def sound(path, seconds=.5, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".opus":
        soundfile.write(path, np.sin(np.arange(int(48000*seconds))/20), 48000, format="OGG", subtype="OPUS")
    else: soundfile.write(path, np.sin(np.arange(int(16000*seconds))/10), 16000, format=path.suffix[1:].upper())
    if not tags: return
    if path.suffix.lower() == ".wav":
        f = mutagen.File(path)
        f.add_tags()
        for k,v in tags.items(): f.tags.add(getattr(mutagen.id3, dict(artist="TPE1", album="TALB", title="TIT2", genre="TCON")[k])(text=v))
    else:
        f = mutagen.File(path, easy=True)
        if f.tags is None: f.add_tags()
        for k,v in tags.items(): f[k] = v
    f.save()


# ---- folder: tags

def test_tags_of_every_format(tmp_path):
    for s in ("wav", "flac", "ogg", "opus", "mp3"):
        sound(tmp_path/f"{s}.{s}", artist=f"Ärtist {s}", album="Album", title=f"Title {s}", genre="Folk")
    t = load_corpus("folder", tmp_path).table.set_index("path")
    assert len(t) == 5
    for p,row in t.iterrows():
        s = p.split(".")[1]
        assert (row["artist"], row["album"], row["title"], row["genre"]) == (f"Ärtist {s}", "Album", f"Title {s}", "Folk")
        assert abs(row["duration_s"]-.5) < .1 # the length in an mp3's header counts whole frames
    assert t["genres"].isna().all()


def test_what_is_walked(tmp_path):
    for p in ("b/two.FLAC", "a/one.wav", "c.Au", ".hidden.wav", ".git/x.wav", "a/.trash/y.wav"): sound(tmp_path/p)
    (tmp_path/"a"/"words.txt").write_text("no")
    (tmp_path/"broken.mp3").write_text("not music")
    (tmp_path/"empty.ogg").write_bytes(b"")
    c = load_corpus("folder", tmp_path)
    assert c.table["path"].tolist() == ["a/one.wav", "b/two.FLAC", "broken.mp3", "c.Au", "empty.ogg"]
    assert c.name == tmp_path.name and all(c.path(i).is_file() for i in range(5))
    unknown = c.table.set_index("path").loc[["broken.mp3", "c.Au", "empty.ogg"], ["artist", "title", "genre"]]
    assert unknown.isna().all().all()


def test_several_genres_become_a_list(tmp_path):
    sound(tmp_path/"a.flac", genre=["Rock", "Punk"])
    sound(tmp_path/"b.flac", genre=["Folk"])
    sound(tmp_path/"c.flac")
    t = load_corpus("folder", tmp_path).table
    assert t["genre"].tolist() == ["Rock", "Folk", None] and t["genres"].tolist() == [("Rock", "Punk"), ("Folk",), None]


def test_a_file_name_that_is_no_text_is_still_a_track(tmp_path):
    if sys.platform != "linux": pytest.skip("names are bytes on Linux alone")
    sound(tmp_path/"a.wav")
    (tmp_path/"a.wav").rename(tmp_path/b"\xe9.wav".decode("utf-8", "surrogateescape"))
    c = load_corpus("folder", tmp_path)
    assert c.path(0).is_file() and c.table["track_id"][0].encode("utf-8") and c.fingerprint


# ---- folder: table

def test_table(tmp_path):
    (tmp_path/"tracks.csv").write_text("\ufefftrack_id,path,artist,duration_s,tags,veteran,licence,colour\n"
                                       "1,a.wav,None,1.5,x | y,true,CC BY,red\n2,b.wav,NA,,,False,CC0,\n", encoding="utf-8")
    c = load_corpus("folder", tmp_path, corpus_name="mine")
    t = c.table
    assert t["track_id"].tolist() == ["1", "2"] and t["artist"].tolist() == ["None", "NA"] # names, not gaps
    assert t["duration_s"][0] == 1.5 and np.isnan(t["duration_s"][1])
    assert t["tags"].tolist() == [("x", "y"), None] and t["veteran"].tolist() == [True, False]
    assert c.name == "mine" and c.licence == "CC BY; CC0" and "colour" not in t


@pytest.mark.parametrize("text, error", [
    ("artist\nA\n", "tracks.csv: expected a column 'path', found artist"),
    ("", "tracks.csv: not a readable table"),
    ("path\n", "tracks.csv: no tracks"),
    ("path,artist\na.wav,A\n,B\n", r"tracks.csv: row 1.*column 'path': expected a path, found nothing"),
    ("path\na.wav\na.wav\n", "row 1 .*track_id of its own, found that of row 0"),
    ("path,start_s\na.wav,soon\n", "row 0 .*column 'start_s': expected a number of seconds, 0 or more, found 'soon'"),
    ("path,veteran\na.wav,maybe\n", "column 'veteran': expected true or false, found 'maybe'"),
    ("path\n../a.wav\n", "stays inside it, found '../a.wav'"),
])
def test_a_wrong_table_is_named(tmp_path, text, error):
    (tmp_path/"tracks.csv").write_text(text)
    with pytest.raises(CorpusError, match=error): load_corpus("folder", tmp_path)


def test_albums(data):
    c = load_corpus("folder", data/"albums")
    with open(data/"albums"/"tracks.csv", encoding="utf-8") as f: rows = list(csv.DictReader(f))
    counts = Counter(r["artist"] for r in rows)
    assert c.name == "albums" and len(c) == len(rows) == 117 and c.table["artist"].nunique() == len(counts) == 16
    assert c.table["duration_s"].tolist() == [float(r["duration_s"]) for r in rows]
    assert all(c.path(i).is_file() for i in range(len(c)))
    kept,left = c.at_least("artist", 3)
    assert len(kept) == 106 and kept.table["artist"].nunique() == 8
    assert left == {a: n for a,n in counts.items() if n < 3}
    assert round(kept.labels("artist").counts.max()/len(kept), 3) == .387
    s = kept.split(by="track", fractions=(.7, .15, .15), stratify="artist")
    assert all(kept.table["artist"][s[p]].nunique() == 8 for p in s.parts)


# ---- regional

def test_a_plain_folder_with_languages(tmp_path):
    rows = ["path,artist,language,gender,veteran", "a.wav,Ada,Hindi,female,1", "b.wav,Ben,Khasi & Jaintia,male,0", "c.wav,Cy,Hindi,,"]
    (tmp_path/"tracks.csv").write_text("\n".join(rows))
    c = load_corpus("folder", tmp_path)
    assert c.labels("artist").classes == ("Ada", "Ben", "Cy") and c.labels("language").classes == ("Hindi", "Khasi & Jaintia")
    assert c.table["gender"].tolist() == ["female", "male", None] and c.table["veteran"].tolist() == [True, False, None]


def test_labels_from_folders(tmp_path):
    for p in ("Hindi_3/Ada_12_f_1/Rain_1.wav", "Hindi_3/Ada_12_f_1/Rain.flac", "Hindi_3/Ben de_la_C_13_MALE_modern/La_Luna_2.ogg",
              "Khasi & Jaintia_6/K.S. Cy_25_m_veteran/3.mp3", "Old_North_7/Di_26_female_0/_x_1999.opus", "Hindi_3/Ada_12_f_1/.hidden.wav"):
        sound(tmp_path/p)
    (tmp_path/"Hindi_3"/"words.txt").write_text("no")
    (tmp_path/"Empty_9").mkdir()
    c = load_corpus("regional", tmp_path)
    t = c.table.set_index("path")
    assert c.name == "regional" and len(c) == 5 and all(c.path(i).is_file() for i in range(5))
    columns = ["language", "artist", "gender", "veteran", "title"]
    assert t.loc["Hindi_3/Ada_12_f_1/Rain_1.wav", columns].tolist() == ["Hindi", "Ada", "female", True, "Rain"]
    assert t.loc["Hindi_3/Ada_12_f_1/Rain.flac", columns].tolist() == ["Hindi", "Ada", "female", True, "Rain"]
    assert t.loc["Hindi_3/Ben de_la_C_13_MALE_modern/La_Luna_2.ogg", columns].tolist() == ["Hindi", "Ben de_la_C", "male", False, "La_Luna"]
    assert t.loc["Khasi & Jaintia_6/K.S. Cy_25_m_veteran/3.mp3", columns].tolist() == ["Khasi & Jaintia", "K.S. Cy", "male", True, "3"]
    assert t.loc["Old_North_7/Di_26_female_0/_x_1999.opus", columns].tolist() == ["Old_North", "Di", "female", False, "_x_1999"]
    assert t["genre"].isna().all() and (abs(t["duration_s"] - .5) < .1).all()


def test_numbers_of_gender_stay_numbers(tmp_path):
    for p in ("Hindi_0/Ada_0_0_0/a.wav", "Hindi_0/Ben_1_1_1/b.wav"): sound(tmp_path/p)
    assert load_corpus("regional", tmp_path).table["gender"].tolist() == ["0", "1"]
    sound(tmp_path/"Hindi_0"/"Cy_2_m_1"/"c.wav")
    with pytest.raises(CorpusError, match="all genders as words or all as numbers, found 0, 1, male"): load_corpus("regional", tmp_path)


@pytest.mark.parametrize("paths, error", [
    ((), "no audio file"),
    (("song.wav",), "song.wav: expected <Language>_<id>/.*found a file in a folder above that of an artist"),
    (("Hindi_3/song.wav",), "Hindi_3/song.wav: .*a folder above"),
    (("Hindi_3/Ada_12_f_1/live/song.wav",), "live/song.wav: .*a folder below"),
    (("Hindi/Ada_12_f_1/song.wav",), "Hindi: expected a folder <Language>_<id>, found 'Hindi'"),
    (("Hindi_x/Ada_12_f_1/song.wav",), "expected a folder <Language>_<id>, found 'Hindi_x'"),
    (("Hindi_3/Ada_12_x_1/song.wav",), "Hindi_3/Ada_12_x_1: expected a folder <Artist>_<id>_<gender: m, f, .*found 'Ada_12_x_1'"),
    (("Hindi_3/Ada_12_f/song.wav",), "found 'Ada_12_f'"),
    (("Hindi_3/Ada_12_f_2/song.wav",), "veteran: 0, 1, veteran or modern>, found 'Ada_12_f_2'"),
    (("Hindi_3/12_f_1/song.wav",), "found '12_f_1'"),
    (("Hindi_3/Ada_12_f_1/a.wav", "Tamil_4/Ada_12_f_1/b.wav"), "Tamil_4/Ada_12_f_1: .* every artist, found the name .Ada. of .*Ada_12_f_1 again"),
    (("Hindi_3/Ada_12_f_1/a.wav", "Tamil_4/Ben_12_m_1/b.wav"), "every artist, found the id '12' of .*Hindi_3/Ada_12_f_1 again"),
    (("Hindi_3/Ada_12_f_0/a.wav", "Hindi_3/Ada_12_f_1/b.wav"), "every artist, found the name 'Ada'"),
    (("Hindi_3/Ada_12_f_1/a.wav", "Tamil_3/Ben_13_m_1/b.wav"), "Tamil_3: .* every language, found the id '3' of .*Hindi_3 again"),
    (("Hindi_3/Ada_12_f_1/a.wav", "Hindi_4/Ben_13_m_1/b.wav"), "every language, found the name 'Hindi'"),
])
def test_wrong_folders_are_named(tmp_path, paths, error):
    for p in paths: sound(tmp_path/p)
    with pytest.raises(CorpusError, match=error): load_corpus("regional", tmp_path)


# ---- FMA

@pytest.fixture(scope="module")
def fma_rows(data):
    "The metadata read with nothing but the csv module: rows as dicts of (group, name)."
    with open(data/"fma_metadata"/"tracks.csv", encoding="utf-8", newline="") as f: rows = list(csv.reader(f))
    keys = list(zip(rows[0], rows[1], strict=True))
    return [{**dict(zip(keys, r, strict=True)), "id": r[0]} for r in rows[3:]]


@pytest.mark.parametrize("subset, inside", [("small", {"small"}), ("medium", {"small", "medium"}), ("large", {"small", "medium", "large"})])
def test_real_metadata(data, fma_rows, subset, inside):
    c = load_corpus("fma", data/"fma_metadata", subset=subset, check_files=False)
    rows = [r for r in fma_rows if r["set", "subset"] in inside]
    t = c.table
    assert len(c) == len(rows) == dict(small=58, medium=194, large=682)[subset]
    assert t["track_id"].tolist() == [r["id"] for r in rows]
    assert t["artist"].tolist() == [r["artist", "name"] or None for r in rows]
    assert t["genre"].tolist() == [r["track", "genre_top"] or None for r in rows]
    assert t["title"].tolist() == [r["track", "title"] or None for r in rows]
    names = dict(training="train", validation="valid", test="test")
    assert t["split"].tolist() == [names[r["set", "split"]] for r in rows]
    with open(data/"fma_metadata"/"genres.csv", encoding="utf-8") as f: titles = {r["genre_id"]: r["title"] for r in csv.DictReader(f)}
    for got,r in zip(t["genres"], rows, strict=True):
        ids = [x.strip() for x in r["track", "genres_all"].strip("[]").split(",") if x.strip()]
        assert list(got or ()) == [titles[i] for i in ids]
    assert t["path"][0] == "000/000002.mp3" and t["path"].str.fullmatch(r"\d{3}/\d{6}\.mp3").all()
    assert all(p.split("/")[1].startswith(p[:3]) and int(p[4:10]) == int(i) for p,i in zip(t["path"], t["track_id"], strict=True))


def test_real_official_split_keeps_artists_apart(data):
    c = load_corpus("fma", data/"fma_metadata", subset="large", check_files=False)
    s = c.official
    sets = [set(c.table["artist"][s[p]]) for p in s.parts]
    assert len(s.parts) == 3 and sum(map(len, sets)) == len(set.union(*sets))


HEAD = """\
,album,artist,set,set,track,track,track,track,track
,title,name,split,subset,genre_top,genres_all,language_code,tags,title
track_id,,,,,,,,,
"""


def layout(root, *rows, head=HEAD):
    meta = root/"fma_metadata"
    meta.mkdir(parents=True)
    (meta/"tracks.csv").write_text(head + "".join(r + "\n" for r in rows))
    (meta/"genres.csv").write_text("genre_id,#tracks,parent,title,top_level\n12,1,0,Rock,12\n25,1,12,Punk,12\n")
    return root


def row(i, subset="small", split="training", genres="[12]", tags="[]"):
    return f'{i},Live,Ada,{split},{subset},Rock,"{genres}",en,"{tags}",Go'


def test_published_layout(tmp_path):
    root = layout(tmp_path, row(2), row(99134), row(140, "medium"), row(108925, "medium"), row(155, "large"), row(133297))
    for place in ("fma_large", "fma_medium"): # the smallest folder that holds the subset is taken
        sound(root/place/"000"/"000002.mp3")
        c = load_corpus("fma", root, subset="small")
        assert c.path(0) == root/place/"000"/"000002.mp3" and c.table["track_id"].tolist() == ["2"]
    assert load_corpus("fma", root).table["track_id"].tolist() == ["2", "140"]
    moved = load_corpus("fma", root, audio_root=str(root/"fma_large"))
    assert moved.path(0).parent.parent == root/"fma_large" and moved.fingerprint == load_corpus("fma", root).fingerprint
    with pytest.raises(CorpusError, match="no folder of clips, expected .*elsewhere"): load_corpus("fma", root, audio_root=root/"elsewhere")


@pytest.mark.parametrize("rows, error", [
    ([row(2), row(3, genres="[12, 99]")], "tracks.csv: row 1, column 'track.genres_all': genre 99 is not in genres.csv"),
    ([row(2, genres="12;25")], "row 0, column 'track.genres_all': expected a list, found '12;25'"),
    ([row(2, split="dev")], "column 'split': expected one of 'train', 'valid', 'test', found 'dev'"),
    ([row("x2")], "column 'track_id': expected a number, found 'x2'"),
    ([row(2, "large")], "no track of subset 'medium'"),
    ([row(2), row(2)], "row 1 .*found that of row 0"),
])
def test_wrong_metadata_is_named(tmp_path, rows, error):
    with pytest.raises(CorpusError, match=error): load_corpus("fma", layout(tmp_path, *rows), check_files=False)


def test_wrong_layouts(tmp_path):
    with pytest.raises(CorpusError, match="no metadata, expected .*fma_metadata"): load_corpus("fma", tmp_path)
    flat = "track_id,title\n2,Go\n3,Stay\n"
    with pytest.raises(CorpusError, match="three header rows"): load_corpus("fma", layout(tmp_path/"a", head=flat), check_files=False)
    less = HEAD.replace("genre_top", "genre")
    with pytest.raises(CorpusError, match="expected a column track.genre_top"):
        load_corpus("fma", layout(tmp_path/"b", head=less), check_files=False)
    root = layout(tmp_path/"c", row(2))
    (root/"fma_metadata"/"genres.csv").unlink()
    with pytest.raises(CorpusError, match="genres.csv: missing"): load_corpus("fma", root, check_files=False)


# ---- the call itself

@pytest.mark.parametrize("name, options, error", [
    ("fmaa", {}, "name: expected one of fma, folder, miniature, regional, found 'fmaa'"),
    ("fma", dict(size=1), "corpus 'fma' has no option 'size'; it knows subset, audio_root, check_files"),
    ("fma", dict(check_files=1), "check_files: expected bool, found 1"),
    ("fma", dict(subset="tiny"), "subset: expected one of small, medium, large, found 'tiny'"),
    ("regional", dict(view="songs"), "corpus 'regional' has no option 'view'; it knows none"),
    ("folder", dict(corpus_name=3), r"corpus_name: expected str \| None, found 3"),
    ("miniature", dict(seed=1.5), "seed: expected int, found 1.5"),
    ("miniature", dict(seed=True), "seed: expected int, found True"),
    ("miniature", dict(label_noise="much"), "label_noise: expected float"),
])
def test_wrong_options(tmp_path, name, options, error):
    root = tmp_path if name != "miniature" else None
    with pytest.raises(ParamsError, match=error): load_corpus(name, root, **options)


def test_wrong_roots(tmp_path):
    for name in ("fma", "folder", "regional"):
        with pytest.raises(ParamsError, match="needs the folder that holds it, found None"): load_corpus(name)
        with pytest.raises(CorpusError, match="nowhere does not exist"): load_corpus(name, tmp_path/"nowhere")
    with pytest.raises(ParamsError, match="root: expected a folder, found 3"): load_corpus("folder", 3)
    with pytest.raises(CorpusError, match="neither a tracks.csv nor any audio file"): load_corpus("folder", tmp_path)


def test_miniature_gets_its_options(monkeypatch, tmp_path):
    seen = []
    stand_in = types.SimpleNamespace(miniature=lambda *args, **kw: seen.append((args, kw)) or "corpus")
    monkeypatch.setitem(sys.modules, "musicmtl.synth", stand_in)
    assert load_corpus("miniature") == "corpus"
    load_corpus("miniature", tmp_path, view="openmic", size="smoke", seed=3, label_noise=0)
    assert seen == [(("fma", "mini"), dict(seed=0, label_noise=None, root=None, n_jobs=2)),
                    (("openmic", "smoke"), dict(seed=3, label_noise=0, root=tmp_path, n_jobs=2))]
