"A store is whole or continued, names every broken file, and gives back what the bank computed."

import errno
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import warnings

import numpy as np
import pandas as pd
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tampering import FEATURES, MENDED, REFUSED, SR, make_bank, make_corpus, mel

from musicmtl.audio import LengthWarning, load_audio
from musicmtl.core import AudioError, CorpusError, ParamsError, RunError
from musicmtl.corpus import Corpus
from musicmtl.features import FeatureBank
from musicmtl.store import FeatureStore, StoreWarning, WaveBank, _claim, _digest, _stream_of, extract


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
def test_maps_on_a_device_give_the_same_windows_and_are_shared_while_somebody_has_them(store, feature):
    part = store.subset(store.ok[::-1])
    maps = part.maps(feature)
    held = maps.to("cpu")
    rng = np.random.default_rng(0)
    rows = rng.integers(0, len(part), 50)
    starts = rng.integers(0, part.frames(feature)[rows] - 7)
    torch.testing.assert_close(held(rows, starts, 7), part.gather(feature, rows, starts, 7), rtol=0, atol=0)
    torch.testing.assert_close(maps(rows, starts, 7), held(rows, starts, 7), rtol=0, atol=0)
    assert held.frames.nbytes == maps.nbytes and part.maps(feature).to("cpu") is held
    assert len(pickle.loads(pickle.dumps(part))._held) == 0
    with pytest.raises(ParamsError, match="is not inside track"):
        held(rows, starts + 10**6, 7)
    del held
    assert len(part._held) == 0
    with pytest.raises(ParamsError, match="feature"):
        store.maps("nothing")


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
def test_reading_keeps_no_file_open(store):
    opened = FeatureStore(store.root)
    before = len(os.listdir("/proc/self/fd"))
    for feature in FEATURES:
        opened.gather(feature, np.arange(10), np.zeros(10, int), 5)
    assert len(os.listdir("/proc/self/fd")) == before and len(opened._opened) == 9


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


class Deadly(FeatureBank):
    "SIGKILL meets the process at its first track."

    mark = None

    def forward(self, wave):
        if not os.path.exists(self.mark):
            os.mkdir(self.mark)
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(wave)


@pytest.mark.long
def test_a_worker_that_is_killed_is_replaced(corpus, store, tmp_path):
    bank = make_bank()
    bank.__class__, bank.mark = Deadly, str(tmp_path / "died")
    there = extract(corpus, bank, tmp_path / "s", n_jobs=2, shard_tracks=4)
    assert content(there.root) == content(store.root) and (tmp_path / "died").exists()


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


# ---- what a store was made from


def same(store, expected):
    return all(np.array_equal(a, b) for a, b in zip(mel(store), expected, strict=True))


def counting(bank):
    "The bank, and a list that grows with each track that it computes."
    computed = []
    bank.register_forward_pre_hook(lambda module, inputs: computed.append(inputs[0].shape[1]))
    return bank, computed


@pytest.fixture
def music(tmp_path):
    return make_corpus(tmp_path / "music", 6)


def replace(path):
    "Another sound of the same length under the same name, its time set back."
    before, wave = path.stat(), soundfile.read(path)[0]
    soundfile.write(path, wave[::-1], SR)
    assert path.stat().st_size == before.st_size
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def cut_off(path):
    path.write_bytes(path.read_bytes()[:9000])


def into_pipe(path):
    path.unlink()
    os.mkfifo(path)


CHANGES = {"replaced": replace, "cut off": cut_off, "removed": os.unlink, "a pipe now": into_pipe}


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_file_is_noticed_and_a_repaired_one_too(music, tmp_path, change):
    first = mel(extract(music, make_bank(), tmp_path / "s", shard_tracks=2))
    untouched, good = times(tmp_path / "s"), (music.root / "3.wav").read_bytes()
    CHANGES[change](music.path(3))
    with pytest.warns(StoreWarning, match="1 shard is extracted again; shard 00001: the file of track 't3'"):
        changed = extract(music, make_bank(), tmp_path / "s")
    whole = extract(music, make_bank(), tmp_path / "anew", shard_tracks=2)
    assert same(changed, mel(whole)) and not same(changed, first)
    assert content(changed.root) == content(whole.root)  # the past of a store leaves no trace
    after = times(tmp_path / "s")
    assert [number for number in untouched if untouched[number] != after[number]] == ["00001"]
    music.path(3).unlink(missing_ok=True)
    music.path(3).write_bytes(good)
    with pytest.warns(StoreWarning, match="t3"):
        assert same(extract(music, make_bank(), tmp_path / "s"), first)


def test_what_has_not_changed_is_not_computed_again(music, tmp_path):
    extract(music, make_bank(), tmp_path / "s", shard_tracks=2)
    for path in music.root.iterdir():
        os.utime(path, (0, 0))  # another time, the same bytes
    bank, computed = counting(make_bank())
    extract(music, bank, tmp_path / "s")
    assert computed == []


def test_digests_are_remembered_for_files_that_are_old_enough(music, tmp_path, monkeypatch):
    root = tmp_path / "s"
    extract(music, make_bank(), root)
    later = time.time() + 60
    monkeypatch.setattr("time.time", lambda: later)
    extract(music, make_bank(), root)
    read = []
    monkeypatch.setattr("musicmtl.store._digest", lambda path: read.append(path) or _digest(path))
    extract(music, make_bank(), root)
    assert {path.name for path in read} == {"index.parquet"}  # the joined one, which is read anyway
    (root / ".verified.json").write_text("torn")
    extract(music, make_bank(), root)
    assert len(read) > 10


def test_a_copied_folder_takes_over_equal_shards(music, tmp_path):
    first = extract(music, make_bank(), tmp_path / "s", shard_tracks=2)
    shutil.copytree(music.root, tmp_path / "copy")
    (tmp_path / "copy" / "5.wav").unlink()
    there = Corpus(music.table, tmp_path / "copy", name="made")
    bank, computed = counting(make_bank())
    data = tmp_path / "s" / "shards" / "00001" / "mel.npy"
    with open(data, "r+b") as file:  # damaged: not taken over
        file.seek(3000)
        file.write(b"1234")
    moved = extract(there, bank, tmp_path / "t", shard_tracks=2, donors=[tmp_path / "nothing", first.root])
    assert moved.ok.tolist() == [0, 1, 2, 3, 4] and len(computed) == 3
    assert content(moved.root) == content(extract(there, make_bank(), tmp_path / "anew", shard_tracks=2).root)


def test_an_open_store_refuses_shards_that_were_extracted_anew(music, tmp_path):
    store = extract(music, make_bank(), tmp_path / "s", shard_tracks=2)
    store.read("mel", 0)
    replace(music.path(0))
    replace(music.path(2))
    with pytest.warns(StoreWarning, match="2 shards"):
        extract(music, make_bank(), tmp_path / "s")
    for row in (0, 2):  # of a shard that was read before, and of one that was not
        with pytest.raises(RunError, match="open the store again"):
            store.read("mel", row)
    store.read("mel", 4)


def test_a_shard_that_was_copied_or_touched_is_still_the_same(music, tmp_path):
    store = extract(music, make_bank(), tmp_path / "s", shard_tracks=2)
    before, path = store.read("mel", 0), tmp_path / "s" / "shards" / "00000" / "mel.npy"
    os.utime(path, ns=(1, 1))
    np.testing.assert_array_equal(store.read("mel", 0), before)
    path.unlink()
    with pytest.raises(RunError, match="cannot be opened now"):
        store.read("mel", 0)


def test_a_file_cut_off_while_it_is_open_is_noticed(music, tmp_path, monkeypatch):
    store = extract(music, make_bank(), tmp_path / "s", shard_tracks=2)
    store.read("mel", 0)
    os.truncate(tmp_path / "s" / "shards" / "00000" / "mel.npy", 1000)
    monkeypatch.setattr("musicmtl.store._stamp", lambda path: store._opened["mel", 0][1])  # by luck the same
    with pytest.raises(RunError, match="found its end"):
        store.read("mel", 0)


# ---- damage


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    "A store of three shards, and what it holds."
    corpus = make_corpus(tmp_path_factory.mktemp("small"), 6)
    store = extract(corpus, make_bank(), tmp_path_factory.mktemp("store") / "s", shard_tracks=2)
    return corpus, store.root, mel(store)


@pytest.mark.filterwarnings("ignore::musicmtl.store.StoreWarning")
@pytest.mark.parametrize("damage", MENDED)
def test_damage_is_noticed_when_opened_and_mended_by_extract(small, tmp_path, damage):
    corpus, root, expected = small
    shutil.copytree(root, tmp_path / "s")
    MENDED[damage](tmp_path / "s")
    if not damage.startswith("the index"):  # which is made anew from the shards
        with pytest.raises(RunError, match="call extract again"):
            FeatureStore(tmp_path / "s")
    assert same(extract(corpus, make_bank(), tmp_path / "s"), expected)
    assert same(FeatureStore(tmp_path / "s"), expected)


@pytest.mark.parametrize("damage", REFUSED)
def test_a_manifest_that_cannot_be_is_refused_with_what_to_do(small, tmp_path, damage):
    corpus, root, _ = small
    shutil.copytree(root, tmp_path / "s")
    function, message = REFUSED[damage]
    function(tmp_path / "s")
    for call in (FeatureStore, lambda root: extract(corpus, make_bank(), root)):
        with pytest.raises(RunError, match=message):
            call(tmp_path / "s")


@pytest.mark.filterwarnings("ignore::musicmtl.store.StoreWarning")
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_byte_of_a_store_changes_in_silence(small, tmp_path_factory, data):
    corpus, root, expected = small
    files = sorted(str(file.relative_to(root)) for file in root.rglob("*") if file.is_file())
    name = data.draw(st.sampled_from(files))
    where = tmp_path_factory.mktemp("damaged") / "s"
    shutil.copytree(root, where)
    content = bytearray((where / name).read_bytes())
    at = data.draw(st.integers(0, len(content) - 1))
    content[at] ^= 1 << data.draw(st.integers(0, 7))
    before = (where / name).stat()
    (where / name).write_bytes(content)
    os.utime(where / name, ns=(before.st_atime_ns, before.st_mtime_ns))
    for call in (FeatureStore, lambda root: extract(corpus, make_bank(), root), FeatureStore):
        try:
            assert same(call(where), expected)
        except RunError as error:
            assert str(where) in str(error)
    shutil.rmtree(where)


def test_a_store_on_a_read_only_disk_can_be_read(small, tmp_path, monkeypatch):
    corpus, root, expected = small
    shutil.copytree(root, tmp_path / "s")
    (tmp_path / "s" / "index.parquet").unlink()

    def refuse(path):
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("musicmtl.store.atomic", refuse)
    before = content(tmp_path / "s")
    assert same(FeatureStore(tmp_path / "s"), expected) and same(extract(corpus, make_bank(), tmp_path / "s"), expected)
    assert content(tmp_path / "s") == before


def test_a_full_disk_is_a_sentence_and_the_same_call_continues(small, tmp_path):
    corpus, root, expected = small
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (5000, hard))  # Python ignores the signal, so that writing fails
    try:
        with pytest.raises(RunError, match=r"shards.*cannot be written \(File too large\)"):
            extract(corpus, make_bank(), tmp_path / "s", shard_tracks=2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list((tmp_path / "s" / "shards").iterdir()) == []
    assert same(extract(corpus, make_bank(), tmp_path / "s", shard_tracks=2), expected)
    assert content(tmp_path / "s") == content(root)


# ---- tracks that stop nothing


class Hostile(FeatureBank):
    "Throws something else at each track."

    thrown = (
        MemoryError(),
        RecursionError("deep"),
        UnicodeError("é\udce9\nsecond line"),
        OSError(5, "I/O"),
        KeyError("k"),
    )

    def forward(self, wave):
        number = round(float(wave.abs().amax()) * 10)
        if number:
            raise self.thrown[number - 1]
        return super().forward(wave)


def test_whatever_is_thrown_is_listed_and_tried_again(tmp_path):
    for number in range(6):
        soundfile.write(tmp_path / f"{number}.wav", np.full(SR, max(number * 0.1, 0.01)), SR)
    paths = [f"{number}.wav" for number in range(6)]
    corpus = Corpus(pd.DataFrame({"track_id": paths, "path": paths}), tmp_path, name="hostile")
    store = extract(corpus, Hostile(SR, 512, 256, "mel"), tmp_path / "s")
    assert store.ok.tolist() == [0]
    reasons = store.failed["reason"].tolist()
    kinds = ["MemoryError", "RecursionError", "UnicodeError", "OSError", "KeyError"]
    assert [reason.partition(":")[0] for reason in reasons] == kinds
    assert reasons[2] == r"UnicodeError: é\udce9 second line"
    with pytest.warns(StoreWarning, match="extracted again"):  # none of it was the file's fault
        again = extract(corpus, FeatureBank(SR, 512, 256, "mel"), tmp_path / "s")
    assert again.ok.tolist() == list(range(6))


def test_an_interrupt_goes_through_and_leaves_nothing_half_written(music, tmp_path, monkeypatch):
    def interrupt(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr("musicmtl.store.load_audio", interrupt)
    with pytest.raises(KeyboardInterrupt):
        extract(music, make_bank(), tmp_path / "s")
    assert list((tmp_path / "s" / "shards").iterdir()) == []


def test_what_is_no_file_is_never_opened(tmp_path):
    make_corpus(tmp_path / "a", 1)
    os.mkfifo(tmp_path / "a" / "pipe.wav")
    (tmp_path / "a" / "device.wav").symlink_to("/dev/zero")
    (tmp_path / "a" / "loop.wav").symlink_to("loop.wav")
    (tmp_path / "a" / "folder.wav").mkdir()
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "a" / "socket.wav"))
    latin = os.fsdecode(b"Beyonc\xe9.wav")
    shutil.copy(tmp_path / "a" / "0.wav", tmp_path / "a" / latin)
    paths = ["0.wav", "pipe.wav", "device.wav", "loop.wav", "folder.wav", "socket.wav", "x" * 300 + ".wav", "a\0b.wav"]
    paths += ["0.wav/x.wav", "gone.wav", latin]
    names = [path.encode("utf-8", "backslashreplace").decode() for path in paths]
    table = pd.DataFrame({"track_id": names, "path": pd.Series(paths, dtype=object)})
    corpus = Corpus(table, tmp_path / "a", name="no files")
    for _ in range(2):
        store = extract(corpus, make_bank(), tmp_path / "s", shard_tracks=4)
    assert set(store.ok) - {10} == {0} and store.failed["reason"].str.len().gt(0).all()
    reasons = dict(zip(store.failed["track_id"], store.failed["reason"], strict=True))
    for name in ("pipe.wav", "device.wav", "socket.wav"):
        assert reasons[name] == "is a device, a pipe or a socket, not a file"


def test_features_that_are_not_finite_are_refused(music, tmp_path):
    class Broken(WaveBank):
        def forward(self, wave):
            return {"wave": wave[:, None] / 0}

    store = extract(music, Broken(SR), tmp_path / "s")
    assert set(store.failed["reason"]) == {"wave is not finite"}


def test_what_is_noted_stands_in_the_index(music, tmp_path, monkeypatch):
    def load(path, sr, **options):
        if path.name == "3.wav":
            warnings.warn(LengthWarning(path, "promises 96 samples more than it holds"), stacklevel=2)
        return load_audio(path, sr, **options)

    monkeypatch.setattr("musicmtl.store.load_audio", load)
    store = extract(music, make_bank(), tmp_path / "s")
    assert store.index["note"].dropna().to_dict() == {3: "promises 96 samples more than it holds"}


# ---- long tracks


@pytest.mark.parametrize("bank", [make_bank(), WaveBank(SR, hop=160)], ids=["features", "wave"])
def test_a_long_track_is_read_in_parts_and_equals_the_whole(tmp_path, monkeypatch, bank):
    if "chroma_transposed" in bank.features:
        bank = FeatureBank(SR, 512, 256, ["mel", "mfcc", "chroma"], n_mels=24, n_mfcc=6)
    rng = np.random.default_rng(0)
    (tmp_path / "a").mkdir()
    for number, seconds in enumerate((25.3, 31)):
        wave = 0.3 * np.sin(np.cumsum(rng.normal(0.3, 0.05, int(seconds * 2 * SR))))
        soundfile.write(tmp_path / "a" / f"{number}.wav", wave, 2 * SR)
    cuts = {"start_s": [None, None, 3.0], "duration_s": [None, None, 21.0]}
    table = pd.DataFrame({"track_id": list("abc"), "path": ["0.wav", "1.wav", "1.wav"], **cuts})
    corpus = Corpus(table, tmp_path / "a", name="long")
    whole = extract(corpus, bank, tmp_path / "whole")
    monkeypatch.setattr("musicmtl.store._LONG_S", 20.0)
    monkeypatch.setattr("musicmtl.store._LONG_BYTES", 0)
    bank, computed = counting(bank)
    parts = extract(corpus, bank, tmp_path / "parts")
    assert computed == []
    pd.testing.assert_frame_equal(parts.index, whole.index)
    for row in range(3):
        for name in bank.features:
            np.testing.assert_allclose(parts.read(name, row), whole.read(name, row), rtol=1e-3, atol=2e-3)


def test_a_long_track_that_breaks_off_leaves_nothing_behind(tmp_path, monkeypatch):
    corpus = make_corpus(tmp_path / "a", 3)
    expected = mel(extract(corpus, make_bank(), tmp_path / "whole"))

    def breaks(path, sr):
        yield load_audio(path, sr)
        if path.name == "1.wav":
            raise AudioError(path, "breaks off")

    monkeypatch.setattr("musicmtl.store._LONG_S", 0.1)
    monkeypatch.setattr("musicmtl.store._LONG_BYTES", 0)
    monkeypatch.setattr("musicmtl.store.stream_audio", breaks)
    store = extract(corpus, FeatureBank(SR, 512, 256, "mel", n_mels=24), tmp_path / "s")
    assert store.failed["reason"].tolist() == ["breaks off"] and store.ok.tolist() == [0, 2]
    for row in store.ok:
        np.testing.assert_allclose(store.read("mel", row), expected[row], atol=1e-3)


def test_a_bank_that_changes_forward_does_not_inherit_stream():
    assert _stream_of(FeatureBank(SR, 512, 256, "mel")) and _stream_of(WaveBank(SR))
    assert _stream_of(Hostile(SR, 512, 256, "mel")) is None
    assert _stream_of(FeatureBank(SR, 512, 256, ["mel", "chroma_transposed"])) is None


# ---- a cluster that loses a worker


@pytest.mark.long
def test_a_cluster_of_processes_that_loses_one_gives_the_same_store(corpus, store, tmp_path):
    import joblib
    from dask.distributed import Client, LocalCluster

    def slowly(module, inputs):
        time.sleep(0.1)

    bank = make_bank()
    bank.register_forward_pre_hook(slowly)
    options = dict(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, silence_logs=50)
    with LocalCluster(**options) as cluster, Client(cluster) as client, joblib.parallel_config(backend="dask"):
        killer = threading.Thread(target=kill_when_there, args=(client, tmp_path / "s" / "shards"))
        killer.start()
        there = extract(corpus, bank, tmp_path / "s", shard_tracks=1)
        killer.join()
    two = extract(corpus, make_bank(), tmp_path / "local", shard_tracks=1)
    assert content(there.root) == content(two.root)


def kill_when_there(client, shards):
    "SIGKILL to a worker as soon as the first shard is finished."
    pids = client.run(os.getpid)
    deadline = time.monotonic() + 60
    while not (shards.is_dir() and any(not file.name.startswith(".") for file in shards.iterdir())):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(min(pids.values()), signal.SIGKILL)
