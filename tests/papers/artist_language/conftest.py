"""Folders of made-up singers, and the study run on one of them."""

import numpy as np
import pandas as pd
import pytest
import soundfile as sf

from musicmtl.core import generator
from musicmtl.papers.artist_language.experiment import Settings, prepare
from musicmtl.papers.artist_language.figures import study
from musicmtl.study import resolve


def sung(artist, language, number, seconds=7.0, sr=16_000):
    "An artist is a pitch, a language a rhythm, a song a little noise."
    t, rng = np.arange(int(seconds * sr)) / sr, generator("song", artist, number)
    pitch = 2 * np.pi * 110 * 1.2**artist * (1 + 0.01 * rng.normal())
    tone = sum(np.sin(pitch * harmonic * t) / harmonic for harmonic in (1, 2, 3))
    rhythm = 1 + 0.8 * np.sin(2 * np.pi * (2 + 3 * language) * t)
    return (0.2 * tone * rhythm + 0.03 * rng.normal(size=len(t))).astype(np.float32)


COLUMNS = {  # functions of language, artist, song
    "artist": lambda language, artist, number: f"artist {language}{artist}",
    "language": lambda language, artist, number: f"language {language}",
    "album": lambda language, artist, number: f"album {number // 2}",
    "title": lambda language, artist, number: f"song {number}",
}


def sung_folder(root, languages=2, artists=3, songs=4, **columns):
    "A folder of singers with a tracks.csv; `columns` replace or add functions, None removes one."
    root.mkdir()
    functions = {name: function for name, function in {**COLUMNS, **columns}.items() if function}
    rows = []
    for language, artist, number in np.ndindex(languages, artists, songs):
        name = f"{language}-{artist}-{number}"
        sf.write(root / f"{name}.wav", sung(artists * language + artist, language, number), 16_000)
        known = {column: function(language, artist, number) for column, function in functions.items()}
        rows.append({"track_id": name, "path": f"{name}.wav", **known})
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


@pytest.fixture(autouse=True)
def _cache_of_its_own(tmp_path, monkeypatch):
    "Features are found by a corpus' table, not by its files, so each test has a cache of its own."
    monkeypatch.setenv("MUSICMTL_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="session")
def song():
    "(artist, language, number, seconds) -> samples."
    return sung


@pytest.fixture(scope="session")
def music():
    "(root, languages, artists, songs, **columns) -> root."
    return sung_folder


@pytest.fixture(scope="session")
def settings_of():
    "(root, **parameters) -> `Settings`."

    def resolved(root, **parameters):
        return resolve(Settings, "artist_language", {"corpus": "folder", "root": str(root), "n_jobs": 1, **parameters})

    return resolved


@pytest.fixture(scope="session")
def singers(tmp_path_factory):
    "A folder with all that the study can ask for."
    return sung_folder(
        tmp_path_factory.mktemp("singers") / "singers",
        gender=lambda language, artist, number: "fm"[artist % 2],
        veteran=lambda language, artist, number: artist == 0,
    )


@pytest.fixture(scope="session")
def data_of_singers(singers, settings_of, tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSICMTL_CACHE", str(tmp_path_factory.mktemp("cache")))
        return prepare(settings_of(singers))


@pytest.fixture(scope="session")
def outcome(singers, data_of_singers, settings_of, tmp_path_factory):
    "The whole study on the singers, its tables saved."
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MUSICMTL_RUNS", str(tmp_path_factory.mktemp("runs")))
        found = study.run(data_of_singers, settings_of(singers))
        found.save()
        return found
