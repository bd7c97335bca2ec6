"""Files that are whole or absent, seeds that mean the same everywhere, and an import that costs nothing."""

import json
import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from musicmtl.core import AudioError, RunError, atomic, cache_dir, generator, repo_root, stable_hash


def test_atomic_keeps_the_old_file_when_writing_fails(tmp_path):
    path = tmp_path / "a" / "x.txt"
    with atomic(path) as temporary:
        temporary.write_text("old")
    with pytest.raises(KeyError), atomic(path) as temporary:
        temporary.write_text("half")
        raise KeyError
    assert path.read_text() == "old"
    assert [file.name for file in path.parent.iterdir()] == ["x.txt"]


def test_atomic_leaves_nothing_under_the_final_name_when_killed(tmp_path):
    code = (
        "import os, signal\nfrom musicmtl.core import atomic\n"
        f"with atomic({str(tmp_path / 'x.txt')!r}) as temporary:\n"
        "    temporary.write_text('half')\n    os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -9
    assert not (tmp_path / "x.txt").exists()


def test_stable_hash_is_the_same_in_another_process():
    code = "from musicmtl.core import stable_hash; print(stable_hash(0, 'artist', (1, 2.5)))"
    other = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONHASHSEED": "1"},
    )
    assert int(other.stdout) == stable_hash(0, "artist", (1, 2.5))


def test_generators_are_independent_by_name():
    draws = [generator(0, "track", i).normal(size=1000) for i in range(3)]
    corr = np.corrcoef(draws)
    assert np.abs(corr[np.triu_indices(3, 1)]).max() < 0.15


def test_audio_error_survives_pickling():
    error = pickle.loads(pickle.dumps(AudioError("a.ogg", "file is empty")))
    assert (error.path, error.reason, str(error)) == ("a.ogg", "file is empty", "a.ogg: file is empty")


def test_repo_root_and_cache(tmp_path, monkeypatch):
    assert (repo_root() / "settings.ini").is_file()
    with pytest.raises(RunError, match="no musicmtl checkout"):
        repo_root(tmp_path)
    monkeypatch.setenv("MUSICMTL_CACHE", str(tmp_path / "c"))
    assert cache_dir("a", "b") == tmp_path / "c" / "a" / "b" and (tmp_path / "c" / "a" / "b").is_dir()


ABSENT = {  # libraries that an import must not load; imported in this order, in one process
    "musicmtl": "torch numpy pandas matplotlib librosa sklearn",
    "musicmtl.features": "librosa torchaudio sklearn matplotlib",
    "musicmtl.viz": "matplotlib seaborn plotly openTSNE",
    "musicmtl.papers.agf": "librosa sklearn faiss matplotlib lightning",
}


@pytest.fixture(scope="module")
def loaded():
    "Module -> the libraries of `ABSENT` that are loaded after its import."
    code = (
        "import importlib, json, sys\n"
        "loaded = {}\n"
        f"for module, absent in {ABSENT!r}.items():\n"
        "    importlib.import_module(module)\n"
        "    loaded[module] = [name for name in absent.split() if name in sys.modules]\n"
        "print(json.dumps(loaded))"
    )
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout)


@pytest.mark.parametrize("module", ABSENT)
def test_import_loads_no_heavy_library(loaded, module):
    assert loaded[module] == []
