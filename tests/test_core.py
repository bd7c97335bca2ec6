"""Files that are whole or absent, seeds that mean the same everywhere, and an import that costs nothing."""

import contextlib
import errno
import fcntl
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
import time

import joblib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from raters import die_at_first

from musicmtl.core import (
    AudioError,
    RunError,
    atomic,
    cache_dir,
    generator,
    locked,
    read_json,
    repo_root,
    save_tensors,
    side_by_side,
    stable_hash,
    sweep,
    workers,
)


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


def names(folder):
    return sorted(file.name for file in folder.iterdir())


LONG = [
    "x" * 250 + ".npz",
    "ü" * 124 + ".h",
    "." + "y" * 248,
    "a." + "b" * 250,
    "a\nb.csv",
    "$a b",
    os.fsdecode(b"Beyonc\xe9"),
]


@pytest.mark.parametrize("name", LONG)
def test_atomic_takes_every_name_that_the_disk_takes(tmp_path, name):
    (tmp_path / name).write_text("old")
    for _ in range(2):
        with atomic(tmp_path / name) as temporary:
            temporary.write_text("new")
            assert (tmp_path / name).read_text() == "old" or _
        with locked(tmp_path, file=name):
            pass
    assert names(tmp_path) == [name] and (tmp_path / name).read_text() == "new"


def test_a_temporary_file_is_hidden_and_keeps_the_suffix(tmp_path):
    with atomic(tmp_path / "table.csv") as temporary:
        temporary.write_text("a,b")
        assert temporary.name.startswith(".") and temporary.suffix == ".csv" and temporary.parent == tmp_path


def test_a_block_that_writes_nothing_is_an_error(tmp_path):
    (tmp_path / "x.npz").write_text("old")
    with (
        pytest.raises(FileNotFoundError, match=r"nothing was written.*x\.npz"),
        atomic(tmp_path / "x.npz") as temporary,
    ):
        temporary.with_name("elsewhere").write_text("new")
    assert (tmp_path / "x.npz").read_text() == "old"


def test_files_keep_the_rights_that_the_user_asked_for(tmp_path):
    (tmp_path / "plain").write_text("")
    with atomic(tmp_path / "x") as temporary:
        temporary.write_text("")
    assert (tmp_path / "x").stat().st_mode == (tmp_path / "plain").stat().st_mode


LIMITED = """
import resource, signal, sys
import numpy as np
from musicmtl.core import atomic
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
writers = {
    "a.txt": lambda file: file.write_text("x" * 10_000),
    "a.npy": lambda file: np.save(file, np.ones(10_000)),
}
for name, write in writers.items():
    try:
        with atomic(f"{sys.argv[1]}/{name}") as temporary:
            write(temporary)
    except OSError as error:
        print(error)
"""


def test_a_full_disk_names_the_file_and_leaves_the_old_one(tmp_path):
    for name in ("a.txt", "a.npy"):
        (tmp_path / name).write_text("old")
    ended = subprocess.run([sys.executable, "-c", LIMITED, tmp_path], capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr
    said = ended.stdout.splitlines()
    assert len(said) == 2 and all(
        str(tmp_path / name) in line for name, line in zip(("a.txt", "a.npy"), said, strict=True)
    )
    assert names(tmp_path) == ["a.npy", "a.txt"] and (tmp_path / "a.npy").read_text() == "old"


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EIO])
def test_an_error_of_the_disk_names_the_target_and_another_error_stays(tmp_path, code):
    with pytest.raises(OSError, match="x.csv") as caught, atomic(tmp_path / "x.csv"):
        raise OSError(code, os.strerror(code))
    assert caught.value.errno == code and names(tmp_path) == []
    with pytest.raises(FileNotFoundError, match="other.csv"), atomic(tmp_path / "x.csv"):
        open(tmp_path / "other.csv")


def test_a_folder_that_is_a_file_is_named(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(OSError, match="runs"), atomic(tmp_path / "runs" / "x.csv"):
        pass
    with pytest.raises(RunError, match="runs.*cannot be locked"), locked(tmp_path / "runs"):
        pass


# ---- temporary files of the living and the dead

WRITER = """
import sys
from musicmtl.core import temporary_beside
with temporary_beside(sys.argv[1]) as temporary:
    temporary.mkdir()
    (temporary / "half").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@contextlib.contextmanager
def writer(path, *before):
    "A process in the middle of writing; `before` is the beginning of its command line."
    command = [*before, sys.executable, "-c", WRITER, path]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "ready\n"
    yield process
    process.kill()
    process.communicate()


def may_unshare():
    return subprocess.run(["unshare", "-pf", "--mount-proc", "true"], capture_output=True).returncode == 0


@pytest.mark.parametrize("before", [(), ("unshare", "-pf", "--kill-child", "--mount-proc")], ids=["here", "container"])
def test_sweeping_takes_what_the_dead_left_and_nothing_of_the_living(tmp_path, before):
    if before and not may_unshare():
        pytest.skip("no right to make a process namespace")
    mine = tmp_path / ".mine.tmp"
    mine.write_text("a user's own hidden file")
    with writer(tmp_path / "deep" / "00001", *before) as process:
        alive = names(tmp_path / "deep")
        assert len(alive) == 2  # the folder and its lock
        sweep(tmp_path, deep=True)
        assert names(tmp_path / "deep") == alive
        process.kill()
        process.wait()
        deadline = time.monotonic() + 30
        while names(tmp_path / "deep") and time.monotonic() < deadline:  # the kernel ends the namespace in its own time
            sweep(tmp_path, deep=True)
    assert names(tmp_path / "deep") == [] and mine.exists()


def test_the_next_writer_of_a_file_removes_what_a_killed_one_left(tmp_path):
    with writer(tmp_path / "x.csv") as process:
        process.kill()
        process.wait()
    (tmp_path / ".y.0123456789ab.tmp.csv").write_text("of another file, without a lock, and young")
    with atomic(tmp_path / "x.csv") as temporary:
        temporary.write_text("whole")
    assert names(tmp_path) == [".y.0123456789ab.tmp.csv", "x.csv"]


def test_without_locks_age_decides(tmp_path, monkeypatch):
    def no_locks(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", no_locks)
    for name in (".x.0123456789ab.tmp.csv", ".x.0123456789ab.lock", ".z.0123456789ab.tmp"):
        (tmp_path / name).write_text("")
    sweep(tmp_path)
    assert len(names(tmp_path)) == 3
    two_days_ago = time.time() - 2 * 24 * 3600
    for file in tmp_path.iterdir():
        os.utime(file, (two_days_ago, two_days_ago))
    sweep(tmp_path)
    assert names(tmp_path) == []
    with pytest.warns(UserWarning, match="has no locks"), locked(tmp_path):
        pass
    with atomic(tmp_path / "x") as temporary:
        temporary.write_text("")
    assert names(tmp_path) == ["x"]


# ---- locks


def test_a_lock_keeps_threads_apart_and_nothing_is_lost(tmp_path):
    total = tmp_path / "total"
    total.write_text("0")

    def add():
        for _ in range(20):
            with locked(tmp_path, file="total", wait=60):
                total.write_text(str(int(total.read_text()) + 1))

    threads = [threading.Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert total.read_text() == "80" and names(tmp_path) == ["total"]


HOLDER = """
import os, sys, time
from musicmtl.core import locked
with locked(sys.argv[1]):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(60)
"""


def test_a_lock_ends_with_its_owner_though_a_child_lives_on(tmp_path):
    process = subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True)
    child = int(process.stdout.readline())
    try:
        with pytest.raises(RunError, match=r"in use by another process \(waited"), locked(tmp_path, wait=0.2):
            pass
        process.kill()
        process.wait()
        os.kill(child, 0)  # still there
        with locked(tmp_path):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


def test_waiting_for_a_lock_ends_when_it_is_given_back(tmp_path):
    taken = threading.Event()

    def hold():
        with locked(tmp_path):
            taken.set()
            time.sleep(0.2)

    thread = threading.Thread(target=hold)
    thread.start()
    taken.wait()
    with locked(tmp_path, wait=60):
        pass
    thread.join()


# ---- small files


@given(torn=st.binary(max_size=40) | st.text(max_size=40).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_a_torn_file_is_an_error_of_one_line(torn, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "torn.json"
    path.write_bytes(torn)
    try:
        assert isinstance(read_json(path), dict)
    except RunError as error:
        assert "torn.json" in str(error)


@pytest.mark.parametrize(
    "text, message",
    [
        ("[]", "an object in JSON, found list"),
        ("", "torn or else"),
        ("[" * 100_000, "torn or else"),
        ('{"n": true}', "field 'n': expected int, found True"),
        ('{"n": 1.0}', "field 'n': expected int, found 1.0"),
        ("{}", "field 'n': expected int, there is none"),
    ],
)
def test_what_a_small_file_should_have_held(tmp_path, text, message):
    (tmp_path / "mark.json").write_text(text)
    with pytest.raises(RunError, match=message):
        read_json(tmp_path / "mark.json", "mark", {"n": int})
    with pytest.raises(RunError, match="there is no mark"):
        read_json(tmp_path / "no.json", "mark")
    with pytest.raises(RunError, match="cannot be read"):
        read_json(tmp_path, "mark")


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


def test_tensors_on_a_full_disk_are_the_disks_own_error(tmp_path):
    import torch

    save_tensors(tmp_path / "net.pt", {"x": torch.ones(3)})
    limit = "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN); "
    limit += "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000)); "
    code = f"{limit}import torch; from musicmtl.core import save_tensors; save_tensors('net.pt', torch.ones(10_000))"
    answer = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert "File too large" in answer.stderr and "net.pt" in answer.stderr.splitlines()[-1]
    assert torch.load(tmp_path / "net.pt")["x"].tolist() == [1, 1, 1]
    assert [file.name for file in tmp_path.iterdir()] == ["net.pt"]


SLEEPERS = """
import time
from joblib import Parallel, delayed
from musicmtl.core import workers

Parallel(**workers(2))(delayed(time.sleep)(600) for _ in range(2))
"""


def test_workers_end_with_their_driver_in_the_middle_of_a_call():
    import psutil

    driver = subprocess.Popen([sys.executable, "-c", SLEEPERS])
    family, until = [], time.time() + 60
    while sum("popen_loky" in " ".join(child.cmdline()) for child in family) < 2:
        assert driver.poll() is None and time.time() < until
        time.sleep(0.1)
        family = psutil.Process(driver.pid).children(recursive=True)
    time.sleep(1)
    driver.kill()
    driver.wait()
    assert psutil.wait_procs(family, timeout=30)[1] == []


@pytest.mark.long
def test_calls_whose_worker_was_killed_are_made_again(tmp_path):
    calls = {k: (die_at_first, (tmp_path / str(k % 2), 10 * k)) for k in range(6)}
    assert dict(side_by_side(calls, 2, "tens are made")) == {k: 10 * k for k in range(6)}


def test_workers_that_keep_dying_are_a_sentence():
    calls = {0: (abs, (-1,)), 1: (os._exit, (1,))}
    with pytest.raises(RunError, match="workers die while numbers are made: expected results, found none"):
        list(side_by_side(calls, 2, "numbers are made"))


def test_an_error_of_a_call_is_its_own():
    with pytest.raises(ZeroDivisionError):
        list(side_by_side({0: (divmod, (1, 0)), 1: (divmod, (1, 1))}, 2, "numbers are made"))


@pytest.mark.parametrize(
    "cores, n_jobs, n_calls, processes, threads",
    [
        (2, -1, None, 2, 1),
        (64, -1, None, 64, 1),
        (64, -2, None, 63, 1),
        (1, -2, None, 1, 1),
        (64, 4, None, 4, 16),
        (2, 8, None, 8, 1),
        (64, 1, None, 1, 64),
        (64, -1, 5, 5, 12),
        (64, -1, 1, 2, 32),
        (2, 1, 100, 1, 2),
    ],
)
def test_workers_share_the_cores(monkeypatch, cores, n_jobs, n_calls, processes, threads):
    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    options = workers(n_jobs, n_calls)
    assert options["n_jobs"] == processes and options["initargs"] == (os.getpid(), threads)


def threads_of_libraries():
    import torch
    from threadpoolctl import threadpool_info

    return torch.get_num_threads(), {pool["num_threads"] for pool in threadpool_info()}


@pytest.mark.long
def test_libraries_of_a_worker_take_its_share_whatever_the_environment_says(monkeypatch):
    for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
        monkeypatch.setenv(name, "7")
    monkeypatch.setattr(joblib, "cpu_count", lambda: 4)
    found = joblib.Parallel(**workers(2))(joblib.delayed(threads_of_libraries)() for _ in range(2))
    assert found == [(2, {2})] * 2
