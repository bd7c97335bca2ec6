"""Resident memory of a long job against the hours of sound that it has worked through.

Run as a script in a process of its own: `python tests/memory.py extract HOURS FOLDER`, `tag`, `load` or `stream`; it
prints a line of JSON per measurement.
"""

import json
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import soundfile as sf

from musicmtl.core import generator

SR = 22_050  # Hz
MINUTES = 30  # Of each track


def write_music(path: Path, minutes: float, seed: int) -> None:
    "A stereo file of noise and a tone that moves, written in blocks."
    rng, block = generator("memory", seed), np.arange(10 * SR) / SR
    with sf.SoundFile(path, "w", SR, 2) as file:
        for k in range(round(minutes * 6)):
            hz = 110 * 2 ** ((seed + k) % 36 / 12)
            x = 0.3 * np.sin(2 * np.pi * hz * block) + 0.05 * rng.standard_normal(len(block))
            file.write(np.stack([x, 0.5 * x], 1).astype(np.float32))


def write_tracks(folder: Path, hours: float) -> None:
    "Tracks of half an hour, and one of three hours first where there is room for it."
    folder.mkdir(parents=True, exist_ok=True)
    long = 180 if hours >= 6 else 0
    lengths = [long] * bool(long) + [MINUTES] * round((hours * 60 - long) / MINUTES)
    for number, minutes in enumerate(lengths):
        path = folder / f"{number:03d}.wav"
        if not path.exists():
            write_music(path, minutes, number)


class Watch:
    "Says how much memory the process has, with the hours of sound that `hours()` reports."

    def __init__(self, what: str, hours, every_s: float = 0.5):
        self.what, self.hours, self.every_s, self.ended = what, hours, every_s, threading.Event()
        self.thread = threading.Thread(target=self._look, daemon=True)

    def say(self) -> None:
        mebibytes = psutil.Process().memory_info().rss / 2**20
        print(json.dumps({"what": self.what, "hours": round(self.hours(), 4), "mib": round(mebibytes, 1)}), flush=True)

    def _look(self) -> None:
        while not self.ended.wait(self.every_s):
            self.say()

    def __enter__(self):
        self.say()
        self.thread.start()
        return self

    def __exit__(self, *error):
        self.ended.set()
        self.thread.join()
        self.say()


def extract_hours(hours: float, folder: Path) -> None:
    "Features of so many hours of music, in one process."
    from musicmtl import store
    from musicmtl.features import FeatureBank
    from musicmtl.loaders import load_corpus

    write_tracks(folder / "music", hours)
    corpus = load_corpus("folder", folder / "music")
    bank = FeatureBank(SR, 1024, 512, ["mel", "mfcc"])
    root = folder / f"store{time.time_ns()}"

    def worked():
        files = root.rglob("mel.npy")
        return sum(file.stat().st_size for file in files) / (4 * 128) * 512 / SR / 3600

    with Watch("extract", worked, 2.0):
        found = store.extract(corpus, bank, root, shard_tracks=4)
    assert len(found.ok) == len(corpus), found.failed.reason.tolist()


def long_file(folder: Path, hours: float) -> Path:
    "One file of so many hours."
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"long{hours:g}.wav"
    if not path.exists():
        write_music(path, 60 * hours, 1)
    return path


def tag_hours(hours: float, folder: Path) -> None:
    "Tags of a long file."
    from musicmtl.papers.tagging import CNN1D, Tagger
    from musicmtl.papers.tagging import tagger as module

    path, heard = long_file(folder, hours), [0]
    stream = module.stream_audio

    def counting(*args, **settings):
        for block in stream(*args, **settings):
            heard[0] += len(block)
            yield block

    module.stream_audio = counting
    with Watch("tag", lambda: heard[0] / 16_000 / 3600):
        Tagger(CNN1D()).tag(path)


def stream_hours(hours: float, folder: Path) -> None:
    "Blocks of a long file."
    from musicmtl.audio import stream_audio

    path, heard = long_file(folder, hours), [0]
    with Watch("stream", lambda: heard[0] / 16_000 / 3600, 0.2):
        for block in stream_audio(path, 16_000):
            heard[0] += len(block)


if __name__ == "__main__":
    task, hours, folder = sys.argv[1:]
    {"extract": extract_hours, "tag": tag_hours, "stream": stream_hours}[task](float(hours), Path(folder))
