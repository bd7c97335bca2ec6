"Jobs run side by side, each on one core, once; what they found survives its file, and a kill."

import os
import signal
import time

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from processes import fork
from raters import DATA, EIGHT, Guess, run_slowly

from musicmtl.core import RunError, locked
from musicmtl.study import (
    CommonSettings,
    Job,
    Results,
    best_device,
    history_arrays,
    jobs_folder,
    kept_arrays,
    one_core,
    read_history,
    run_jobs,
)
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


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_killed_in_the_middle_only_what_is_missing_is_trained(n_jobs, tmp_path):
    process = fork(run_slowly, tmp_path, n_jobs)
    until = time.time() + 60
    while len(list(tmp_path.glob("*/result.npz"))) < 2:
        assert process.is_alive() and time.time() < until
        time.sleep(0.001)
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


def test_a_folder_in_use_is_refused(tmp_path):
    with locked(tmp_path), pytest.raises(RunError, match="in use by another process"):
        run_jobs(JOBS, DATA, settings(), tmp_path)
    run_jobs(JOBS[:1], DATA, settings(), tmp_path)
    with pytest.raises(ZeroDivisionError), locked(tmp_path):
        raise ZeroDivisionError
    with locked(tmp_path):  # an error frees it, too
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
