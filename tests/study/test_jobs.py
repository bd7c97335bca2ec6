"Jobs run side by side, each on one core, once; what they found survives its file, and a kill."

import contextlib
import io
import logging
import os
import signal
import sys
import time
import types
import warnings
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import psutil
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from joblib import parallel_config

from processes import fork
from raters import DATA, EIGHT, Fatal, Guess, Slow, run_slowly

from musicmtl.core import RunError, locked
from musicmtl.study import (
    CommonSettings,
    Job,
    Results,
    best_device,
    history_arrays,
    jobs_folder,
    kept_arrays,
    on_cluster,
    one_core,
    read_history,
    run_jobs,
)
from musicmtl.study.jobs import LOG_COLUMNS, training_log, write_log
from musicmtl.study.runs import open_run

JOBS = [Guess(*names) for names in EIGHT]


def settings(n_jobs=1):
    return CommonSettings(variants=("plain", "smart"), n_jobs=n_jobs)


def trained(root):
    "Names of the jobs that were trained, in order, and the processes that did it."
    lines = (root / "trained.txt").read_text().split("\n")[:-1]
    return [line.split()[0] for line in lines], {int(line.split()[1]) for line in lines}


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_jobs_run_once_each_on_one_core(n_jobs, tmp_path):
    threads = torch.get_num_threads()
    run_jobs(JOBS + JOBS[:3], DATA, settings(n_jobs), tmp_path)
    names, processes = trained(tmp_path)
    assert sorted(names) == sorted(job.name for job in JOBS) and torch.get_num_threads() == threads
    assert (os.getpid() in processes) == (n_jobs == 1)
    results = Results(DATA, settings(), tmp_path)
    assert all(results[job]["threads"] == 1 for job in JOBS)
    run_jobs(JOBS, DATA, settings(), tmp_path)  # all of them are there
    assert trained(tmp_path)[0] == names


def test_results_do_not_depend_on_how_many_jobs_run_side_by_side(tmp_path):
    for n_jobs in (1, 2):
        run_jobs(JOBS, DATA, settings(n_jobs), tmp_path / str(n_jobs))
    files = [file.relative_to(tmp_path / "1") for file in (tmp_path / "1").rglob("result.npz")]
    assert len(files) == len(JOBS)
    for file in files:
        assert (tmp_path / "1" / file).read_bytes() == (tmp_path / "2" / file).read_bytes()


@pytest.mark.long
@pytest.mark.parametrize("n_jobs", [1, 2])
def test_killed_in_the_middle_only_what_is_missing_is_trained(n_jobs, tmp_path):
    process = fork(run_slowly, tmp_path, n_jobs)
    wait_for(2, tmp_path, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.join()
    done = {file.parent.name for file in tmp_path.glob("*/result.npz")}
    before = len(trained(tmp_path)[0])
    run_jobs(JOBS, DATA, settings(), tmp_path)  # and the lock is gone with the process
    assert 2 <= len(done) < len(JOBS) and not set(trained(tmp_path)[0][before:]) & done
    run_jobs(JOBS, DATA, settings(), tmp_path / "undisturbed")
    for job in JOBS:
        file = job.folder(tmp_path / "undisturbed") / "result.npz"
        assert (job.folder(tmp_path) / "result.npz").read_bytes() == file.read_bytes()


def end_of(process):
    process.join(60)
    assert process.exitcode == 0


def wait_for(results, root, process):
    "Until so many results are there."
    until = time.time() + 60
    while len(list(root.glob("*/result.npz"))) < results:
        assert process.is_alive() and time.time() < until
        time.sleep(0.001)


def bytes_of(root):
    return {job.name: (job.folder(root) / "result.npz").read_bytes() for job in JOBS}


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    root = tmp_path_factory.mktemp("undisturbed")
    run_jobs(JOBS, DATA, settings(), root)
    return bytes_of(root)


@pytest.mark.long
def test_two_processes_share_the_jobs(undisturbed, tmp_path):
    for process in [fork(run_slowly, tmp_path, 1) for _ in range(2)]:
        end_of(process)
    names, processes = trained(tmp_path)
    assert sorted(names) == sorted(job.name for job in JOBS) and len(processes) == 2
    assert bytes_of(tmp_path) == undisturbed


def test_what_one_process_leaves_when_it_is_killed_another_takes_over(undisturbed, tmp_path):
    first, second = (fork(run_slowly, tmp_path, 1) for _ in range(2))
    wait_for(2, tmp_path, first)
    first.kill()
    end_of(second)
    assert bytes_of(tmp_path) == undisturbed


def test_what_is_claimed_comes_last_and_is_waited_for(undisturbed, tmp_path):
    with locked(JOBS[0].folder(tmp_path)):
        assert not JOBS[0].claim(DATA, settings(), tmp_path)
        process = fork(run_slowly, tmp_path, 1)
        wait_for(len(JOBS) - 1, tmp_path, process)
        assert not (JOBS[0].folder(tmp_path) / "result.npz").exists()
    end_of(process)
    assert trained(tmp_path)[0][-1] == JOBS[0].name and bytes_of(tmp_path) == undisturbed


def test_an_error_frees_the_job(tmp_path):
    class Broken(Guess):
        def train(self, data, settings, root):
            raise ZeroDivisionError

    job = Broken(*EIGHT[0])
    for _ in range(2):
        with pytest.raises(ZeroDivisionError):
            run_jobs([job], DATA, settings(), tmp_path)
    assert JOBS[0].claim(DATA, settings(), tmp_path) and not list(tmp_path.rglob(".*"))


@pytest.mark.long
def test_workers_end_with_their_driver(tmp_path):
    process = fork(run_slowly, tmp_path, 2)
    wait_for(1, tmp_path, process)
    workers = psutil.Process(process.pid).children(recursive=True)
    process.kill()
    assert len(workers) >= 2 and psutil.wait_procs(workers, timeout=120)[1] == []


@pytest.mark.long
def test_a_worker_that_dies_is_replaced(undisturbed, tmp_path, monkeypatch):
    jobs = [Fatal(*EIGHT[0]), *JOBS[1:]]
    run_jobs(jobs, DATA, settings(2), tmp_path)
    assert bytes_of(tmp_path) == undisturbed and (tmp_path / f"{jobs[0].name}.died").exists()
    monkeypatch.setattr("musicmtl.study.jobs._ATTEMPTS", 1)
    with pytest.raises(RunError, match="workers die while they train corrected-smart-7"):
        run_jobs([Fatal("smart", "corrected", 7, each_time=True)], DATA, settings(2), tmp_path)


def test_threads_of_one_process_train_one_at_a_time(tmp_path):
    class Drawing(Guess):
        def train(self, data, settings, root):
            torch.manual_seed(self.seed)
            time.sleep(0.01)
            return {"drawn": torch.rand(3).numpy()}

    jobs = [Drawing("plain", "corrected", seed) for seed in range(8)]
    with parallel_config(backend="threading"):
        run_jobs(jobs, DATA, settings(4), tmp_path)
    for job in jobs:
        torch.manual_seed(job.seed)
        np.testing.assert_array_equal(Results(DATA, settings(), tmp_path)[job]["drawn"], torch.rand(3).numpy())


@pytest.mark.long
def test_on_a_cluster_of_two_processes_of_which_one_is_killed(undisturbed, tmp_path, monkeypatch):
    distributed = pytest.importorskip("dask.distributed")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    options = {"threads_per_worker": 1, "dashboard_address": ":0", "silence_logs": logging.CRITICAL}
    with distributed.LocalCluster(n_workers=2, **options) as cluster, on_cluster(cluster.scheduler_address):
        run_jobs([Fatal(*names) if names == EIGHT[3] else Slow(*names) for names in EIGHT], DATA, settings(), tmp_path)
    assert (tmp_path / f"{JOBS[3].name}.died").exists() and bytes_of(tmp_path) == undisturbed
    names, processes = trained(tmp_path)
    assert len(processes) >= 2 and os.getpid() not in processes


def test_a_cluster_that_is_not_there_is_a_sentence(monkeypatch):
    pytest.importorskip("dask.distributed")
    monkeypatch.setattr("musicmtl.study.jobs._CONNECT_S", 0.2)
    for address in ("tcp://127.0.0.1:9", "nowhere", "spam://x"):
        with pytest.raises(RunError, match=f"expected a dask scheduler with workers at {address}"), on_cluster(address):
            pass
    monkeypatch.setitem(sys.modules, "dask.distributed", None)
    with pytest.raises(RunError, match=r"musicmtl\[scale\]"), on_cluster("tcp://127.0.0.1:9"):
        pass
    with on_cluster(None):
        pass


@pytest.mark.parametrize("quiet", [True, False])
def test_one_core_gives_the_others_back(quiet, monkeypatch):
    monkeypatch.setenv("TQDM_DISABLE", "0")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with pytest.raises(ZeroDivisionError), one_core(quiet):
            assert torch.get_num_threads() == 1 and os.environ["TQDM_DISABLE"] == ("1" if quiet else "0")
            raise ZeroDivisionError
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_several_gpus_are_dealt_out_in_turn(tmp_path, monkeypatch):
    taken = []

    class Taking(Guess):
        def train(self, data, settings, root):
            taken.append((self.seed, here[-1]))
            return super().train(data, settings, root)

    @contextlib.contextmanager
    def device(number):
        here.append(number)
        yield
        here.pop()

    here, jobs = [None], [Taking("plain", "corrected", seed) for seed in range(5)]
    monkeypatch.setattr(torch.cuda, "device", device)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    run_jobs(jobs, DATA, CommonSettings(device="gpu", n_jobs=1), tmp_path / "three")
    run_jobs(jobs, DATA, CommonSettings(device="cpu", n_jobs=1), tmp_path / "cpu")
    assert taken == [(0, 0), (1, 1), (2, 2), (3, 0), (4, 1), *((seed, None) for seed in range(5))] and here == [None]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    run_jobs(
        jobs, DATA, CommonSettings(device="auto"), tmp_path / "one"
    )  # one GPU: one after the other, in this process
    assert taken[10:] == [(seed, None) for seed in range(5)]


@pytest.mark.parametrize(
    "device, n_jobs, gpus, cores, expected",
    [
        ("cpu", -1, 8, 64, 64),
        ("gpu", -1, 8, 64, 8),
        ("auto", -1, 0, 2, 2),
        ("gpu", 16, 8, 64, 16),
        ("gpu", -2, 1, 64, 63),
    ],
)
def test_as_many_jobs_as_cores_or_gpus(device, n_jobs, gpus, cores, expected, tmp_path, monkeypatch):
    class Here:
        def __init__(self, n_jobs, initializer, initargs, return_as):
            assert n_jobs == expected and initargs[1] == max(1, cores // expected)

        def __call__(self, calls):
            return [True for _ in calls]

    monkeypatch.setattr(joblib, "cpu_count", lambda: cores)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr("musicmtl.study.jobs.Parallel", Here)
    jobs = [Guess("plain", "corrected", seed) for seed in range(100)]
    run_jobs(jobs, DATA, CommonSettings(device=device, n_jobs=n_jobs), tmp_path)


def test_results_are_read_when_they_are_first_asked_for(tmp_path):
    results = Results(DATA, settings(), tmp_path)
    assert not (tmp_path / "trained.txt").exists()
    tmp_path.mkdir(exist_ok=True)
    first = results[JOBS[0]]
    assert results[JOBS[0]] is first and trained(tmp_path)[0] == [JOBS[0].name]
    again = Results(DATA, settings(), tmp_path)[JOBS[0]]
    np.testing.assert_array_equal(again["predicted"], first["predicted"])
    assert trained(tmp_path)[0] == [JOBS[0].name]


def test_a_job_without_a_way_to_train_says_so(tmp_path):
    with pytest.raises(NotImplementedError):
        Job().train(DATA, settings(), tmp_path)


def test_kept_arrays_are_computed_once_and_need_no_pickle(tmp_path):
    file, calls = tmp_path / "deep" / "result.npz", []

    def compute():
        calls.append(1)
        return {"x": np.arange(3.0), "names": np.array(["a", "ä"])}

    first, second = kept_arrays(file, compute), kept_arrays(file, compute)
    assert len(calls) == 1 and first.keys() == second.keys()
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])
    with pytest.raises(ValueError, match="pickle"):
        kept_arrays(tmp_path / "objects.npz", lambda: {"x": np.array([{}], dtype=object)})


def test_a_damaged_file_is_noticed_whichever_byte_it_is(tmp_path):
    "A changed byte is either noticed, or makes no difference: names and times in the archive's directory."
    file, wanted = tmp_path / "result.npz", {"x": np.arange(3.0), "names": np.array(["a", "ä"])}
    kept_arrays(file, lambda: wanted)
    whole = file.read_bytes()
    for place in range(len(whole)):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << place % 8]) + whole[place + 1 :])
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*found a damaged file")
            found = kept_arrays(file, lambda: wanted)
        assert found.keys() == wanted.keys() and all((found[name] == wanted[name]).all() for name in wanted)


@pytest.mark.parametrize("torn", [b"", b"PK", b"no archive", "cut", "half", "array"])
def test_a_torn_result_is_trained_again_with_a_word(torn, tmp_path):
    file = JOBS[0].folder(tmp_path) / "result.npz"
    before = JOBS[0].result(DATA, settings(), tmp_path)
    whole = file.read_bytes()
    array = io.BytesIO()
    np.save(array, np.zeros(3))
    file.write_bytes({"cut": whole[:-1], "half": whole[: len(whole) // 2], "array": array.getvalue()}.get(torn, torn))
    with pytest.warns(UserWarning, match="result.npz: expected arrays, found a damaged file"):
        again = JOBS[0].result(DATA, settings(), tmp_path)
    np.testing.assert_array_equal(again["predicted"], before["predicted"])
    assert file.read_bytes() == whole and len(trained(tmp_path)[0]) == 2


def test_arrays_of_which_some_are_missing_leave_no_file(tmp_path):
    def compute():
        raise RuntimeError("in the middle")

    with pytest.raises(RuntimeError):
        kept_arrays(tmp_path / "result.npz", compute)
    assert not list(tmp_path.iterdir())


rows = st.tuples(st.integers(0, 9), st.integers(0, 99), st.sampled_from(["genre", "ä"]), st.floats(-1e3, 1e3))


@given(st.lists(rows, min_size=1, max_size=5), st.sampled_from(["history", "tuning"]))
def test_a_history_survives_the_file(tmp_path_factory, values, prefix):
    history = pd.DataFrame(values, columns=["epoch", "step", "task", "loss"])
    file = tmp_path_factory.getbasetemp() / "history.npz"
    np.savez(file, other=np.zeros(2), **history_arrays(history, prefix))
    with np.load(file, allow_pickle=False) as arrays:
        pd.testing.assert_frame_equal(read_history(dict(arrays), prefix), history)


def test_what_a_training_went_through_lies_beside_its_result(tmp_path):
    "A row per step and task, and per epoch and task of validation; nothing of what learnt in no steps."
    steps = {"epoch": [0, 0], "step": [0, 0], "task": ["genre", "mfcc"], "loss": [2.0, 3.0]}
    history = pd.DataFrame(steps | {"weight": [1.0, 0.5], "norm": [0.1, 0.2]})
    valid = pd.DataFrame({"epoch": [0], "task": ["genre"], "loss": [1.5]})
    write_log(history_arrays(history) | history_arrays(valid, "valid") | {"seconds": np.array(1.0)}, tmp_path)
    table = pd.read_csv(tmp_path / "log.csv")
    assert list(table.columns) == LOG_COLUMNS and list(table.part) == ["train", "train", "valid"]
    assert list(table.norm[:2]) == [0.1, 0.2] and list(table.loss) == [2.0, 3.0, 1.5] and table.step.isna()[2]
    write_log({"train": np.zeros(3), "x": np.zeros((2, 2))}, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()


def test_means_of_epochs_are_a_log_too():
    arrays = {"workers": np.array(["a", "b"]), "train": np.array([[1.0, 2.0], [3.0, 4.0]])}
    log = training_log(arrays | {"valid": arrays["train"] + 10, "weight": arrays["train"] / 10})
    train = log[log.part == "train"]
    assert list(zip(train.epoch, train.task, train.loss, train.weight, strict=True))[2] == (1, "a", 3.0, 0.3)
    assert list(log[log.part == "valid"].loss) == [11.0, 12.0, 13.0, 14.0]


class Writer:
    "Stands for TensorBoard's."

    def __init__(self, folder):
        self.folder = Path(folder)
        self.folder.mkdir()

    def __enter__(self):
        return self

    def __exit__(self, *error):
        pass

    def add_scalar(self, name, value, place):
        with open(self.folder / "events", "a") as file:
            file.write(f"{name} {value} {place}\n")


@pytest.mark.parametrize("installed", [True, False])
def test_tensorboard_gets_the_same_where_it_is_installed(installed, tmp_path, monkeypatch):
    fake = types.SimpleNamespace(SummaryWriter=Writer) if installed else None
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", fake)
    steps = {"epoch": [0, 3], "step": [7, 8], "task": ["genre", "genre"], "loss": [2.0, 3.0], "weight": [1.0, None]}
    for _ in range(2):  # written anew
        write_log(history_arrays(pd.DataFrame(steps)), tmp_path)
    assert (tmp_path / "log.csv").exists() and (tmp_path / "tensorboard").exists() == installed
    if installed:
        lines = (tmp_path / "tensorboard" / "events").read_text().splitlines()
        assert lines == ["train/loss/genre 2.0 7", "train/loss/genre 3.0 8", "train/weight/genre 1.0 7"]


def test_a_stage_tells_how_many_were_there_and_each_that_ends(tmp_path):
    told = []
    run_jobs(JOBS[:2], DATA, settings(), tmp_path, ended=told.append)
    run_jobs(JOBS[:3], DATA, settings(), tmp_path, ended=told.append)
    assert told == [0, 1, 1, 2, 1]


def test_runs_that_train_in_the_same_way_share_their_jobs(tmp_path):
    one, two, other = (
        CommonSettings(variants=("plain",)),
        CommonSettings(variants=("plain", "smart"), preset="mini", seeds=3),
        CommonSettings(batch_size=32),
    )
    folders = [jobs_folder(s, open_run("raters", s, tmp_path)) for s in (one, two, other)]
    assert folders[0] == folders[1] != folders[2]
    assert {folder.parent for folder in folders} == {tmp_path / "raters" / "jobs"}


def test_networks_are_evaluated_on_the_processor_unless_there_is_more():
    assert best_device(CommonSettings(device="cpu")) == "cpu"
    assert best_device(CommonSettings(device="auto")) == ("cuda" if torch.cuda.is_available() else "cpu")
