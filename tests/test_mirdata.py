"Data sets of mirdata, and what is like them, become corpora; what is missing is said in one sentence."

import json
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import soundfile

from musicmtl.core import CorpusError, ParamsError
from musicmtl.loaders import load_corpus
from musicmtl.mirdata_corpus import from_mirdata


def sound(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.sin(np.arange(800) / 10), 8000)


def dataset(root, *tracks, **about):
    "What is like a data set of mirdata: a name, tracks, terms."
    objects = {}
    for k, attributes in enumerate(tracks):
        path = root / f"{k}.wav"
        sound(path)
        objects[f"t{k}"] = SimpleNamespace(**{"audio_path": str(path), **attributes})
    about = {"name": "some", "bibtex": None, "_license_info": None, **about}
    return SimpleNamespace(track_ids=list(objects), track=objects.get, **about)


# ---- what annotations mean


def column(root, name, **attributes):
    return from_mirdata(dataset(root, {"artist": "Ada", **attributes}), root).table[name].iloc[0]


@pytest.mark.parametrize(
    "value, genre, genres",
    [
        ("jazz", "jazz", ("jazz",)),
        (["jazz"], "jazz", ("jazz",)),
        (["jazz", "folk", "jazz"], None, ("jazz", "folk")),
        ({"genres": ["House"], "sub_genres": ["Deep House"]}, None, ("House", "Deep House")),
        (float("nan"), None, None),
        ("  ", None, None),
        ([], None, None),
    ],
)
def test_genres_in_every_form(tmp_path, value, genre, genres):
    assert column(tmp_path, "genre", genres=value) == genre
    assert column(tmp_path, "genres", genres=value) == genres
    assert column(tmp_path, "genres", genre=value) == genres


def test_instruments_by_name_and_by_confidence(tmp_path):
    assert column(tmp_path, "instruments", instrument="cello") == ("cello",)
    assert column(tmp_path, "instruments", instruments=["cello", "oboe"]) == ("cello", "oboe")
    scores = {"piano": 0.5, "banjo": 0.49, "voice": 1.0}
    assert column(tmp_path, "instruments", instruments=scores) == ("piano", "voice")
    assert column(tmp_path, "not_instruments", instruments=scores) == ("banjo",)


def test_artists_albums_titles_languages_tags(tmp_path):
    assert column(tmp_path, "artist", artist=None, artists=["Ada", "Ben"]) == "Ada, Ben"
    assert column(tmp_path, "artist", artist=None, singer_id=7) == "7"
    assert column(tmp_path, "album", release="Numbers") == "Numbers"
    assert column(tmp_path, "language", language="hindi") == "hindi"
    assert column(tmp_path, "tags", tags=["calm", "calm", "sad"]) == ("calm", "sad")


@pytest.mark.parametrize(
    "value, part",
    [
        ("train", "train"),
        ("split01_test", "test"),
        ("validation", "valid"),
        ("training", "train"),
        (3, None),
        ("", None),
        ("train and test", None),
    ],
)
def test_parts_of_a_split(tmp_path, value, part):
    assert column(tmp_path, "split", split=value) == part


def test_a_recording_of_several_is_chosen_by_its_name(tmp_path):
    paths = {"beats": "b.txt", "audio_mic": None, "audio_mix": str(tmp_path / "mix.wav")}
    paths["audio_hex"] = str(tmp_path / "hex.wav")
    for name in ("mix", "hex"):
        sound(tmp_path / f"{name}.wav")
    some = dataset(tmp_path, {"artist": "Ada", "audio_path": None, "_track_paths": paths, "get_path": paths.get})
    assert from_mirdata(some, tmp_path).table["path"].tolist() == ["mix.wav"]
    assert from_mirdata(some, tmp_path, audio="audio_hex").table["path"].tolist() == ["hex.wav"]


def test_terms_come_along(tmp_path):
    some = dataset(tmp_path, {"genre": "jazz"}, bibtex="@article{a,\n  title = {A}}\n", _license_info="CC0\n")
    corpus = from_mirdata(some, tmp_path)
    assert (corpus.name, corpus.licence, corpus.citation) == ("some", "CC0", "@article{a, title = {A}}")


def test_tracks_without_a_recording_are_counted(tmp_path):
    some = dataset(tmp_path, {"genre": "jazz"}, {"genre": "folk"}, {"genre": "folk", "audio_path": None})
    (tmp_path / "0.wav").unlink()
    corpus = from_mirdata(some, tmp_path)
    assert corpus.table["track_id"].tolist() == ["t1"]
    assert corpus.notes == ("2 of 3 tracks have no recording here",)
    (tmp_path / "1.wav").unlink()
    with pytest.raises(CorpusError, match="expected its recordings in .*, found none of 3; mirdata.initialize"):
        from_mirdata(some, tmp_path)


def test_a_data_set_without_labels_of_use_is_refused(tmp_path):
    with pytest.raises(CorpusError, match="expected annotations of artist, genres, instruments, tags, found none"):
        from_mirdata(dataset(tmp_path, {"title": "A", "tempo": 120}), tmp_path)


def test_annotations_that_are_not_on_the_disk_are_one_sentence(tmp_path):
    class Track:
        audio_path = "a.wav"

        @property
        def artist(self):
            raise FileNotFoundError("Metadata not found. Did you run .download()?")

    some = SimpleNamespace(name="some", track_ids=["a"], track=lambda name: Track())
    with pytest.raises(CorpusError, match="'mirdata:some': expected its index and annotations in .*Metadata not found"):
        from_mirdata(some, tmp_path)


# ---- mirdata itself


@pytest.fixture
def mirdata(tmp_path, monkeypatch):
    "mirdata, with the indexes of `tmp_path` in the place of those that it would download."
    found = pytest.importorskip("mirdata", reason="pip install musicmtl[mirdata]")
    monkeypatch.setattr("mirdata.core.Index.get_path", lambda index: str(tmp_path / "index.json"))
    return found


def index(root, tracks: dict, **more):
    "An index as mirdata's sample indexes are; sounds are made."
    root.joinpath("index.json").write_text(json.dumps({"version": "1.0", "tracks": tracks, **more}))
    for paths in tracks.values():
        sound(root / paths["audio"][0])


GTZAN = {
    f"{genre}.00000": {
        "audio": [f"gtzan_genre/genres/{genre}/{genre}.00000.wav", "5d3854fd8d4b01eeabafaa1111137daf"],
        "beats": [f"gtzan_tempo_beat-main/beats/gtzan_{genre}_00000.beats", "ca145c8b2f8f0853ffef38db8cc9d2c5"],
        "tempo": [f"gtzan_tempo_beat-main/tempo/gtzan_{genre}_00000.bpm", "5f1effc5917f4a95c89cd83c52fc2203"],
    }
    for genre in ("country", "hiphop")
}


def test_gtzan_by_its_sample_index(mirdata, tmp_path):
    index(tmp_path, GTZAN)
    corpus = load_corpus("mirdata:gtzan_genre", tmp_path, version="test")
    assert corpus.table["track_id"].tolist() == ["country.00000", "hiphop.00000"]
    assert corpus.table["genre"].tolist() == ["country", "hip-hop"]
    assert corpus.path(1) == tmp_path / "gtzan_genre/genres/hiphop/hiphop.00000.wav"
    assert corpus.name == "gtzan_genre" and "Tzanetakis" in corpus.citation and corpus.licence


def test_irmas_by_its_sample_index(mirdata, tmp_path):
    name = "IRMAS-TestingData-Part1/Part1/02 - And The Body Will Die-8"
    tracks = {"0189__2": {"audio": ["IRMAS-TrainingData/cla/[cla][cla]0189__2.wav", ""]}}
    tracks["0189__2"]["annotation"] = tracks["0189__2"]["audio"]
    tracks["1"] = {"audio": [f"{name}.wav", ""], "annotation": [f"{name}.txt", ""]}
    index(tmp_path, tracks)
    (tmp_path / f"{name}.txt").write_text("voi\t\ngel\t\n")
    table = load_corpus("mirdata:irmas", tmp_path).table.set_index("track_id")
    assert table["instruments"].to_dict() == {"0189__2": ("cla",), "1": ("voi", "gel")}
    assert table["split"].to_dict() == {"0189__2": "train", "1": "test"}


def test_medleydb_by_its_sample_index(mirdata, tmp_path):
    track = "AClassicEducation_NightOwl_STEM_08"
    paths = {"audio": [f"audio/{track}.wav", ""], "pitch": [f"pitch/{track}.csv", ""], "notes_pyin": ["n.csv", ""]}
    index(tmp_path, {track: paths})
    with pytest.raises(CorpusError, match="Metadata not found"):
        load_corpus("mirdata:medleydb_pitch", tmp_path)
    about = {"artist": "AClassicEducation", "title": "Night Owl", "genre": "Singer/Songwriter"}
    about["instrument"] = "male singer"
    (tmp_path / "medleydb_pitch_metadata.json").write_text(json.dumps({track: about}))
    row = load_corpus("mirdata:medleydb_pitch", tmp_path).table.iloc[0]
    assert row[["artist", "title", "genre"]].tolist() == ["AClassicEducation", "Night Owl", "Singer/Songwriter"]
    assert row["instruments"] == ("male singer",)


def test_an_index_that_was_not_downloaded_is_one_sentence(mirdata, tmp_path):
    with pytest.raises(CorpusError, match=r"This dataset's index must be downloaded.*download\(\) brings"):
        load_corpus("mirdata:gtzan_genre", tmp_path)


def test_names_options_and_folders_that_are_wrong(mirdata, tmp_path):
    with pytest.raises(ParamsError, match="'mirdata:gtzan': expected a data set of mirdata .*, gtzan_genre, "):
        load_corpus("mirdata:gtzan", tmp_path)
    with pytest.raises(ParamsError, match="version: .* has no version '9'"):
        load_corpus("mirdata:gtzan_genre", tmp_path, version="9")
    with pytest.raises(ParamsError, match="has no option 'valid'; it knows version, audio"):
        load_corpus("mirdata:gtzan_genre", tmp_path, valid=0.1)
    with pytest.raises(ParamsError, match="needs the folder that holds it, found None"):
        load_corpus("mirdata:gtzan_genre")
    with pytest.raises(CorpusError, match="none does not exist"):
        load_corpus("mirdata:gtzan_genre", tmp_path / "none")


def test_without_mirdata_the_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "mirdata", None)
    with pytest.raises(ParamsError, match=r"needs the package mirdata.*pip install 'musicmtl\[mirdata\]'"):
        load_corpus("mirdata:gtzan_genre", tmp_path)


def test_an_unknown_corpus_is_told_of_mirdata(tmp_path):
    with pytest.raises(ParamsError, match="magnatagatune.* or mirdata:<data set>, found 'gtzan'"):
        load_corpus("gtzan", tmp_path)


def test_mirdata_is_not_imported_by_others():
    code = "import sys, musicmtl.loaders; sys.exit('mirdata' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
