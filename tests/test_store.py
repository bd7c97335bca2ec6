"A store is whole or continued, names every broken file, and gives back what the bank computed."

import json
import os
import pickle
import signal
import subprocess
import sys
import time

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch

from musicmtl.audio import load_audio
from musicmtl.core import CorpusError, ParamsError, RunError
from musicmtl.corpus import Corpus
from musicmtl.features import FeatureBank
from musicmtl.store import FeatureStore, _claim, extract

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


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return make_corpus(tmp_path_factory.mktemp("audio"))


@pytest.fixture(scope="module")
def store(corpus, tmp_path_factory):
    return extract(corpus, make_bank(), tmp_path_factory.mktemp("store") / "s", shard_tracks=4)


def content(root):
    "Every file of a store and its bytes; without the note of when files were last checked, which holds their times."
    files = (file for file in sorted(root.rglob("*")) if file.is_file() and file != root / ".verified.json")
    return {str(file.relative_to(root)): file.read_bytes() for file in files}


def times(root):
    "When each finished shard was written."
    finished = (folder for folder in (root / "shards").iterdir() if not folder.name.startswith("."))
    return {folder.name: folder.stat().st_mtime_ns for folder in finished}


# ---- what is in it


def test_reads_back_what_the_bank_computes(corpus, store):
    bank = make_bank()
    for row in range(len(corpus)):
        wave = load_audio(corpus.path(row), SR)
        for name, x in bank(torch.from_numpy(wave)[None]).items():
            np.testing.assert_allclose(store.read(name, row), x[0].numpy(), rtol=0, atol=1e-4 * float(x.abs().max()))
            assert store.frames(name)[row] == x.shape[-1]
    assert (store.frames("mel") == 1 + store.index["seconds"] * SR // 256).all()
    assert (store.frames("chroma_transposed") == 257).all()


def test_index(corpus, store):
    index = store.index
    assert index["track_id"].tolist() == corpus.table["track_id"].tolist()
    assert index["row"].tolist() == list(range(10))
    assert index["shard"].tolist() == [0] * 4 + [1] * 4 + [2] * 2
    assert index["position"].tolist() == [0, 1, 2, 3] * 2 + [0, 1]
    assert (index["status"] == "ok").all() and index["reason"].isna().all() and not index["silent"].any()
    assert store.ok.tolist() == list(range(10)) and len(store.failed) == 0


@pytest.mark.parametrize("feature", FEATURES)
def test_gather_equals_reading_one_by_one(store, feature):
    rng = np.random.default_rng(1)
    rows = rng.integers(0, 10, 200)
    starts = rng.integers(0, store.frames(feature)[rows] - 20)
    x = store.gather(feature, rows, starts, 20)
    assert x.dtype == torch.float32 and x.shape == (200, store.read(feature, 0).shape[0], 20)
    for window, row, start in zip(x, rows, starts, strict=True):
        np.testing.assert_array_equal(window, store.read(feature, row)[:, start : start + 20])


def test_what_is_read_is_a_copy(store):
    before = store.read("mel", 0).copy()
    store.gather("mel", [0], [0], 5).zero_()
    store.read("mel", 0)[:] = 0
    np.testing.assert_array_equal(store.read("mel", 0), before)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (("pitch", [0], [0], 5), "feature: expected one of mel"),
        (("mel", [0], [-1], 5), "is not inside track 't0'"),
        (("mel", [0, 1], [0, 36], 5), "window 36 to 41 is not inside track 't1'"),
        (("mel", [10], [0], 5), "rows: expected 0 to 9"),
        (("mel", [0, 1], [0], 5), "equally long"),
        (("mel", [0.0], [0], 5), "whole numbers"),
        (("mel", [], [], 5), "at least one"),
        (("mel", [0], [0], 0), "length"),
    ],
)
def test_impossible_windows(store, arguments, message):
    with pytest.raises(ParamsError, match=message):
        store.gather(*arguments)


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
def test_mapping_keeps_no_file_open(store):
    opened = FeatureStore(store.root)
    before = len(os.listdir("/proc/self/fd"))
    for feature in FEATURES:
        opened.gather(feature, np.arange(10), np.zeros(10, int), 5)
    assert len(os.listdir("/proc/self/fd")) == before and len(opened._maps) == 9


def test_numpy_reads_the_files_too(store):
    x = np.load(store.root / "shards" / "00001" / "mel.npy", mmap_mode="r")
    assert x.shape == (store.frames("mel")[4:8].sum(), 24)
    np.testing.assert_array_equal(x[:5].T, store.gather("mel", [4], [0], 5)[0])


# ---- broken files


def test_faults_are_named_and_stop_nothing(tmp_path):
    audio = tmp_path / "a"
    good = make_corpus(audio, 3)
    good_bytes, noise = (audio / "0.wav").read_bytes(), np.random.default_rng(0).bytes(4000)
    (audio / "corrupt.wav").write_bytes(b"RIFF" + noise)
    (audio / "truncated.wav").write_bytes(good_bytes[: len(good_bytes) // 3])
    (audio / "text.mp3").write_text("not music " * 500)
    (audio / "empty.ogg").write_bytes(b"")
    soundfile.write(audio / "silent.wav", np.zeros(SR), SR)
    soundfile.write(audio / "short.wav", np.ones(SR // 5) * 0.1, SR)
    names = "corrupt.wav 0.wav truncated.wav text.mp3 silent.wav 1.wav empty.ogg short.wav missing.wav 2.wav".split()
    corpus = Corpus(pd.DataFrame(dict(track_id=names, path=names)), good.root, name="faults")
    store = extract(corpus, make_bank(), tmp_path / "s", min_duration_s=0.5, shard_tracks=3)
    assert [names[row] for row in store.ok] == ["0.wav", "silent.wav", "1.wav", "2.wav"]
    assert store.index["track_id"][store.index["silent"]].tolist() == ["silent.wav"]
    reason = dict(zip(store.failed["track_id"], store.failed["reason"], strict=True))
    assert len(reason) == 6 and all(isinstance(text, str) and text for text in reason.values())
    assert "0.2 s" in reason["short.wav"] and "0.5 s" in reason["short.wav"]
    assert len(set(reason.values())) >= 4, reason  # each for its own reason
    assert np.isfinite(store.read("mel", 4)).all()
    whole = extract(good, make_bank(), tmp_path / "whole")
    for row, good_row in ((1, 0), (5, 1), (9, 2)):
        np.testing.assert_array_equal(store.read("mel", row), whole.read("mel", good_row))
    for row in (0, 2):  # track 1 stands between two failures: nobody may read into its frames
        with pytest.raises(ParamsError, match="has no features"):
            store.read("mel", row)
        with pytest.raises(ParamsError, match="is not inside track"):
            store.gather("mel", [row], [0], 1)


def test_a_shard_of_failures_alone(tmp_path):
    corpus = make_corpus(tmp_path / "a", 4)
    for i in (0, 1):
        (tmp_path / "a" / f"{i}.wav").write_text("no")
    store = extract(corpus, make_bank(), tmp_path / "s", shard_tracks=2)
    assert store.ok.tolist() == [2, 3] and store.gather("mel", [2, 3], [0, 0], 4).shape == (2, 24, 4)


# ---- what is read


def test_cuts_follow_the_corpus(tmp_path):
    t = np.arange(4 * SR) / SR
    (tmp_path / "a").mkdir()
    soundfile.write(tmp_path / "a" / "x.wav", 0.5 * np.sin(2 * np.pi * np.where(t < 2, 300, 2000) * t), SR)
    rows = dict(track_id=list("abcd"), path="x.wav", start_s=[0.0, 2.5, 1.0, None], duration_s=[1.5, 1.5, 0.5, 9.0])
    corpus = Corpus(pd.DataFrame(rows), tmp_path / "a", name="cuts")
    free = extract(corpus, make_bank(), tmp_path / "s1")
    assert free.index["seconds"].tolist() == [1.5, 1.5, 0.5, 4.0]  # without a start, duration_s only describes the file
    low, high = (int(free.read("mel", row).mean(1).argmax()) for row in (0, 1))
    assert low < high
    fixed = extract(corpus, make_bank(), tmp_path / "s2", duration_s=1.0)
    assert fixed.index["seconds"].tolist()[:2] == [1.0, 1.0] and fixed.ok.tolist() == [0, 1, 3]
    assert "expected 1 s" in fixed.failed["reason"][0]
    long = extract(corpus, make_bank(), tmp_path / "s3", duration_s=5.0)
    assert len(long.ok) == 0 and long.failed["reason"].notna().all()


# ---- parallel, killed, continued


def test_the_number_of_processes_changes_nothing(corpus, store, tmp_path):
    two = extract(corpus, make_bank(), tmp_path / "s", n_jobs=2, shard_tracks=4)
    assert content(two.root) == content(store.root)


def test_on_a_dask_cluster(corpus, store, tmp_path):
    import joblib
    from dask.distributed import Client, LocalCluster

    cluster = LocalCluster(n_workers=1, threads_per_worker=2, processes=False, dashboard_address=None)
    with cluster, Client(cluster), joblib.parallel_config(backend="dask"):
        there = extract(corpus, make_bank(), tmp_path / "s", shard_tracks=4)
    assert content(there.root) == content(store.root)


SLOW = """
import pickle, sys, time
from musicmtl.store import extract

with open(sys.argv[1], "rb") as file:
    corpus, bank = pickle.load(file)

def slowly(module, inputs):
    time.sleep(0.1)

bank.register_forward_pre_hook(slowly)
extract(corpus, bank, sys.argv[2], shard_tracks=4)
"""


def start_slowly(corpus, root):
    "A process that extracts into `root`, a tenth of a second per track; it starts fast, as all it needs comes pickled."
    pickled = root.with_suffix(".pickle")
    pickled.write_bytes(pickle.dumps((corpus, make_bank())))
    return subprocess.Popen([sys.executable, "-c", SLOW, pickled, root])


def wait_for(path, process):
    "Until `path` exists; fails where the process ends or two minutes pass before."
    deadline = time.monotonic() + 120
    while not path.exists():
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)


def test_killed_and_continued(corpus, store, tmp_path):
    root = tmp_path / "s"
    process = start_slowly(corpus, root)
    wait_for(root / "shards" / "00000", process)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    done = times(root)
    assert 1 <= len(done) < 3 and not (root / "index.parquet").exists()
    with pytest.raises(RunError, match="call extract again"):
        FeatureStore(root)
    again = extract(corpus, make_bank(), root, shard_tracks=4)
    assert {number: written for number, written in times(root).items() if number in done} == done
    assert content(again.root) == content(store.root)  # nothing is left over either


def test_finished_shards_are_never_rewritten(corpus, tmp_path):
    root = tmp_path / "s"
    extract(corpus, make_bank(), root, shard_tracks=4)
    before = times(root)
    extract(corpus, make_bank(), root, shard_tracks=3)  # keeps its own
    assert times(root) == before


def test_a_slower_process_throws_its_shard_away(corpus, tmp_path):
    target = tmp_path / "shards" / "00000"
    with _claim(target) as slow:
        (slow / "x").write_text("second")
        with _claim(target) as fast:
            (fast / "x").write_text("first")
    assert (target / "x").read_text() == "first" and list(target.parent.iterdir()) == [target]


def test_two_processes_at_once(corpus, store, tmp_path):
    root = tmp_path / "s"
    process = start_slowly(corpus, root)
    wait_for(root / "manifest.json", process)
    extract(corpus, make_bank(), root, shard_tracks=4)
    assert process.wait() == 0 and content(root) == content(store.root)


@pytest.mark.parametrize(
    "change, message",
    [
        (dict(bank=dict(n_mels=20)), "bank.n_mels is 24 there, 20 was asked for"),
        (dict(bank=dict(top_db=None)), "bank.top_db is 80.0 there, None was asked for"),
        (dict(duration_s=1.0), "duration_s is None there, 1.0 was asked for"),
        (dict(rows=[0, 1]), "corpus.tracks is 10 there, 2 was asked for"),
    ],
)
def test_another_configuration_is_refused(corpus, store, change, message):
    before = content(store.root)
    part = corpus.subset(change.pop("rows")) if "rows" in change else corpus
    with pytest.raises(RunError, match=message):
        extract(part, make_bank(**change.pop("bank", {})), store.root, **change)
    assert content(store.root) == before


def test_opening(corpus, store, tmp_path):
    assert len(FeatureStore(store.root, corpus=corpus, bank=make_bank())) == 10
    with pytest.raises(RunError, match="corpus.fingerprint"):
        FeatureStore(store.root, corpus=corpus.subset(np.arange(10)[::-1]))
    with pytest.raises(RunError, match="no feature store there"):
        FeatureStore(tmp_path)
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="not empty and not a feature store"):
        extract(corpus, make_bank(), tmp_path)
    assert json.loads((store.root / "manifest.json").read_text())["bank"] == make_bank().config
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(store)).read("mel", 3), store.read("mel", 3))


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(duration_s=0), "duration_s"),
        (dict(min_duration_s="1"), "min_duration_s"),
        (dict(shard_tracks=0), "shard_tracks"),
    ],
)
def test_wrong_arguments(corpus, tmp_path, arguments, message):
    with pytest.raises(ParamsError, match=message):
        extract(corpus, make_bank(), tmp_path / "s", **arguments)
    assert not (tmp_path / "s").exists()


def test_missing_audio_is_said_before_any_work(corpus, tmp_path):
    def elsewhere(root):
        return Corpus(corpus.table, root, name="made")

    with pytest.raises(CorpusError, match="does not exist"):
        extract(elsewhere(tmp_path / "no"), make_bank(), tmp_path / "s")
    with pytest.raises(CorpusError, match="none of its 10 files"):
        extract(elsewhere(tmp_path), make_bank(), tmp_path / "s")
    assert not (tmp_path / "s").exists()
