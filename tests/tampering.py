"""A small feature store, and what can be done to its files."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import soundfile

from musicmtl.corpus import Corpus
from musicmtl.features import FeatureBank
from musicmtl.store import extract

SR = 8000
FEATURES = ["mel", "mfcc", "chroma_transposed"]  # the last has another number of frames


def make_bank(**changes):
    return FeatureBank(SR, 512, 256, FEATURES, **{**dict(n_mels=24, n_mfcc=6), **changes})


def make_corpus(folder, n=10):
    rng = np.random.default_rng(0)
    folder.mkdir(exist_ok=True)
    for i in range(n):
        t = np.arange(int(SR * (1 + 0.25 * (i % 4)))) / SR
        tone = 0.4 * np.sin(2 * np.pi * (200 + 40 * i) * t) + 0.05 * rng.normal(size=len(t))
        soundfile.write(folder / f"{i}.wav", tone, SR)
    tracks = pd.DataFrame(dict(track_id=[f"t{i}" for i in range(n)], path=[f"{i}.wav" for i in range(n)]))
    return Corpus(tracks, folder, name="made")


def mel(store):
    return [store.read("mel", row) if row in store.ok else None for row in range(len(store))]


def swap(root):
    a, b = root / "shards" / "00000", root / "shards" / "00001"
    a.rename(root / "x")
    b.rename(a)
    (root / "x").rename(b)


def edit(**changes):
    def change(root):
        path = root / "manifest.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


def change_index(name, function):
    def change(root):
        function(pd.read_parquet(root / name)).to_parquet(root / name, index=False)

    return change


MENDED = {  # done to a store; `extract` gives what was there before
    "a shard is gone": lambda root: shutil.rmtree(root / "shards" / "00001"),
    "a feature is gone": lambda root: (root / "shards" / "00001" / "mel.npy").unlink(),
    "a feature is cut off": lambda root: os.truncate(root / "shards" / "00001" / "mel.npy", 500),
    "a feature is longer": lambda root: os.truncate(root / "shards" / "00001" / "mel.npy", 50_000),
    "a feature is another's": lambda root: shutil.copy(
        root / "shards" / "00000" / "mfcc.npy", root / "shards" / "00001" / "mfcc.npy"
    ),
    "a shard is another's": lambda root: (
        shutil.rmtree(root / "shards" / "00001"),
        shutil.copytree(root / "shards" / "00000", root / "shards" / "00001"),
    ),
    "two shards change places": swap,
    "a shard is a file": lambda root: (
        shutil.rmtree(root / "shards" / "00001"),
        (root / "shards" / "00001").write_text(""),
    ),
    "a seal is gone": lambda root: (root / "shards" / "00001" / "seal.json").unlink(),
    "a seal is a list": lambda root: (root / "shards" / "00001" / "seal.json").write_text("[]"),
    "a seal is empty": lambda root: (root / "shards" / "00001" / "seal.json").write_text("{}"),
    "the index is gone": lambda root: (root / "index.parquet").unlink(),
    "the index is empty": lambda root: (root / "index.parquet").write_bytes(b""),
    "the index has other rows": change_index("index.parquet", lambda table: table.iloc[::-1]),
    "the index has another value": change_index("index.parquet", lambda table: table.assign(frames_mel=20)),
    "a shard's index has another value": change_index(
        "shards/00001/index.parquet", lambda table: table.assign(frames_mel=20)
    ),
    "the index's mark is torn": lambda root: (root / "index.json").write_text('{"shards'),
    "shards of another size": edit(shard_tracks=3),
}
REFUSED = {
    "manifest: another version's": (edit(format=99), "format 99, expected 2; delete the folder"),
    "manifest: an older version's": (edit(format=1), "format 1, expected 2; delete the folder"),
    "manifest: text for a number": (edit(shard_tracks="4"), "expected int, found '4'; delete the folder"),
    "manifest: zero": (edit(shard_tracks=0), "shard_tracks: expected a whole number"),
    "manifest: too few tracks": (edit(corpus={"tracks": -1}), "tracks: expected a whole number"),
    "manifest: no corpus": (edit(corpus=None), "field 'corpus': expected dict"),
    "manifest: no features": (edit(bank={}), "bank.features: expected names"),
    "manifest: torn": (lambda root: os.truncate(root / "manifest.json", 100), "delete the folder"),
    "manifest: a list": (lambda root: (root / "manifest.json").write_text("[]"), "found list; delete the folder"),
    "manifest: gone": (lambda root: (root / "manifest.json").unlink(), "no manifest.json"),
}


def small_store(folder: Path) -> tuple:  # Corpus, bank, root of the store, what it holds
    "A store of three shards."
    folder.mkdir(parents=True)
    corpus, bank = make_corpus(folder / "music", 6), make_bank()
    store = extract(corpus, bank, folder / "s", shard_tracks=2)
    return corpus, bank, store.root, mel(store)


def flipped_bytes(root: Path, seed: int, count: int) -> list[Callable]:
    "Functions that change one byte of a store each, anywhere."
    files = sorted(file.relative_to(root) for file in root.rglob("*") if file.is_file())
    rng, damages = np.random.default_rng(seed), []
    for _ in range(count):
        name = files[rng.integers(len(files))]
        at, bits = int(rng.integers((root / name).stat().st_size)), 1 << int(rng.integers(8))

        def damage(copy, name=name, at=at, bits=bits):
            content = bytearray((copy / name).read_bytes())
            content[at] ^= bits
            (copy / name).write_bytes(content)

        damages.append(damage)
    return damages
