"""Tagged clips, settings and readings for the tests of the tagging study."""

import numpy as np
import pandas as pd
import soundfile as sf

from musicmtl.core import generator
from musicmtl.papers.tagging.experiment import Protocol, Reading, Settings, Trial
from musicmtl.study import resolve

SR = 16_000  # Hz
PAIRS = (("flute", "guitar"), ("fast", "slow"), ("loud", "soft"), ("rock", "classical"), ("drums", ""))


def smoke(**given) -> Settings:
    "Settings of preset smoke, or of another that is given."
    return resolve(Settings, "tagging", {"n_jobs": 1, **given})


def tags_of(artist, song) -> list[str]:
    "Four or five tags of Table 5, each one of two."
    rng = generator("tags", artist, song)
    chosen = [pair[rng.integers(2)] for pair in PAIRS]
    return [tag for tag in chosen if tag]


def sound(key, tags, seconds=6.5) -> np.ndarray:
    "A clip whose tags can be heard: high or low, pulsed or not, loud or soft, with or without noise."
    rng, t = generator("sound", key), np.arange(int(seconds * SR)) / SR
    x = np.sin(2 * np.pi * (880 if "flute" in tags else 160) * (1 + 0.02 * rng.random()) * t)
    if "drums" in tags:
        x = x * (np.sin(2 * np.pi * (6 if "fast" in tags else 1.0) * t) > 0)
    x = x + (0.5 if "rock" in tags else 0.01) * rng.normal(size=len(t))
    return ((0.4 if "loud" in tags else 0.05) * x).astype(np.float32)


def track(name, file, artist, tags) -> dict:
    "A row of tracks.csv."
    return {"track_id": name, "path": file, "artist": artist, "title": f"song {name}", "tags": "|".join(tags)}


def write_tagged_folder(root):
    "Twelve artists with four tagged tracks each, the first of them long enough for two clips."
    root.mkdir()
    rows = []
    for artist in range(12):
        for song in range(4):
            name, tags = f"{artist}-{song}", tags_of(artist, song)
            sf.write(root / f"{name}.wav", sound(10 * artist + song, tags, 13.5 if song == 0 else 6.5), SR)
            rows.append(track(name, f"{name}.wav", f"artist {artist}", tags))
    pd.DataFrame(rows).to_csv(root / "tracks.csv", index=False)
    return root


def write_magnatagatune(root):
    "The published layout, four clips per folder, with two of the fifty tags each."
    from musicmtl.papers.tagging.model import TAGS

    rows = []
    for folder in "0123456789abcdef":
        (root / folder).mkdir()
        for clip in range(4):
            path = f"{folder}/artist_{folder}-album-0{clip + 1}-song-0-29.wav"
            tags = ("flute", "slow") if clip % 2 else ("rock", "fast")
            sf.write(root / path, sound(clip, tags[:1]), SR)
            rows.append({"clip_id": f"{folder}{clip}", "mp3_path": path, **{tag: int(tag in tags) for tag in TAGS}})
    pd.DataFrame(rows).to_csv(root / "annotations_final.csv", sep="\t", index=False)
    return root


def reading(Y, *, variant="cnn2d", protocol=Protocol.corrected, seed=0, group=None, **answers) -> Reading:
    "A reading of given answers (probabilities, embeddings), each clip a group of its own."
    return Reading(Trial(protocol, variant, seed), Y, np.arange(len(Y)) if group is None else group, **answers)
