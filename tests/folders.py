"""A folder of music as a user would have it, faulty files included."""

from pathlib import Path

import numpy as np
import pandas as pd
import soundfile as sf

from musicmtl.core import generator

SR = 16_000  # Hz
FAULTS = {  # File -> what a note says of it
    "cut.wav": "truncated",
    "text.mp3": "left out",
    "nan.wav": "NaN",
    "short.wav": "left out",
    "silent.wav": "silent",
}


def music(
    artist: int,
    song: int,
    seconds: float,
) -> np.ndarray:  # Samples at `SR`
    "Eight notes a second with sharp beginnings, on an artist's scale and in an artist's timbre."
    rng, length = generator("music", artist, song), SR // 8
    t = np.arange(length) / SR
    steps = 7 * artist % 12 + rng.choice([0, 3, 5, 7, 10], int(8 * seconds))
    frequencies = 110 * 2 ** (steps / 12 + artist % 3)
    decay, click = np.exp(-t * (8 + 6 * (artist % 5))), np.exp(-t * 200)
    notes = np.sin(2 * np.pi * frequencies[:, None] * t) * decay + 0.3 * rng.normal(size=(len(steps), length)) * click
    return (0.3 * notes).astype(np.float32).ravel()


def tags(artist: int, song: int) -> str:  # Separated by |
    "Four or five tags, each one of two."
    rng = generator("tags", artist, song)
    pairs = (("flute", "guitar"), ("fast", "slow"), ("loud", "soft"), ("rock", "classical"), ("drums", ""))
    return "|".join(pair[rng.integers(2)] for pair in pairs).strip("|")


def row(artist: int, song: int, file: str) -> dict:
    "A row of tracks.csv."
    names = {"artist": f"artist {artist}", "album": f"album {song // 2}", "title": f"song {artist} {song}"}
    return {
        "track_id": Path(file).stem,
        "path": file,
        **names,
        "language": "ab"[artist % 2],
        "tags": tags(artist, song),
    }


def write_folder(
    root: Path,  # Made
    *,
    artists: int = 8,
    songs: int = 4,  # Per artist
    seconds: float = 9.0,  # Of each song
) -> Path:
    "Songs with a tracks.csv, without faults."
    root.mkdir(parents=True)
    rows = []
    for artist in range(artists):
        for song in range(songs):
            file = f"{artist}-{song}.wav"
            sf.write(root / file, music(artist, song, seconds), SR)
            rows.append(row(artist, song, file))
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


def add_faults(
    root: Path,  # Written by `write_folder`
) -> Path:
    "Add a file of each kind in `FAULTS`."
    good, table = (root / "0-1.wav").read_bytes(), pd.read_csv(root / "tracks.csv")
    samples, _ = sf.read(root / "0-1.wav", dtype="float32")
    (root / "cut.wav").write_bytes(good[: len(good) // 3])
    (root / "text.mp3").write_text("these are not sounds\n" * 50)
    sf.write(root / "nan.wav", np.where(np.arange(len(samples)) == 7, np.nan, samples), SR, subtype="FLOAT")
    sf.write(root / "short.wav", samples[: SR // 5], SR)
    sf.write(root / "silent.wav", np.zeros_like(samples), SR)
    faulty = [row(1, 90 + number, file) for number, file in enumerate(FAULTS)]
    pd.concat([table, pd.DataFrame(faulty)]).to_csv(root / "tracks.csv", index=False)
    return root
