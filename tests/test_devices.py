"Several processes that train one network: the numbers of one process, whoever starts them and whatever ends them."

import os
import signal
import subprocess
import sys
import time

import numpy as np
import psutil
import pytest
import torch
from joblib import Parallel, delayed
from hypothesis import given, settings
from hypothesis import strategies as st
from torchjd import aggregation

from musicmtl import ranks
from musicmtl.balance import (
    Aggregate,
    DynamicWeightAverage,
    Equal,
    GradNorm,
    Reciprocal,
    Static,
    Uncertainty,
)
from musicmtl.core import ParamsError, RunError
from musicmtl.learn import EpochBatches, EpochOutputs, Items, MultiTask, Plateau, fit
from musicmtl.tasks import classification, multilabel, regression

TASKS = [
    classification("genre", 3, class_weights=(1.0, 2.0, 0.5)),
    multilabel("moods", 4),
    regression("tempo", 2),
    classification("answers", 4, answers=2),
]


class Net(torch.nn.Module):
    "Four heads, and a layer that nothing uses."

    def __init__(self):
        super().__init__()
        self.first, self.second = torch.nn.Linear(10, 12), torch.nn.Linear(12, 8)
        self.out = torch.nn.ModuleList(torch.nn.Linear(8, n) for n in (3, 4, 2, 8))
        self.unused = torch.nn.Linear(3, 3)

    @property
    def shared_weight(self):
        return self.first.weight

    def shared(self, x):
        return torch.tanh(self.second(torch.tanh(self.first(x))))

    def heads(self, views):
        *others, answers = [out(view) for out, view in zip(self.out, views, strict=True)]
        return [*others, answers.unflatten(1, (2, 4))]

    def forward(self, x):
        return self.heads([self.shared(x)] * 4)


def items(n=130):
    "Items of which each task knows some: the genres are all among the last ones, and one answer of two is rare."
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(n, 10, generator=rng)
    genre, answers = torch.randint(0, 3, (n,), generator=rng), torch.randint(0, 4, (n, 2), generator=rng)
    moods, tempo = torch.rand(n, 4, generator=rng).round(), torch.randn(n, 2, generator=rng)
    genre[:90], tempo[::3] = -1, float("nan")
    answers[torch.rand(n, generator=rng) < 0.6, 1] = -1
    moods[torch.rand(n, 4, generator=rng) < 0.4] = float("nan")
    return Items(x, (genre, moods, tempo, answers))


def part(data, rows):
    "Some of the items."
    return Items(data.x[rows], [target[rows] for target in data.targets])


BALANCERS = {
    "equal": lambda: Equal(4),
    "static": lambda: Static([1, 2, 0.5, 0.1]),
    "reciprocal": lambda: Reciprocal([[1.0, 2, 3, 4]]),
    "dwa": lambda: DynamicWeightAverage(4),
    "uncertainty": lambda: Uncertainty(4, 0.05),
    "gradnorm epoch": lambda: GradNorm(4, 0.5, 0.05, "epoch"),
    "gradnorm first": lambda: GradNorm(4, 0.5, 0.05, "first"),
    "gradnorm classes": lambda: GradNorm(4, 0.5, 0.05, "log_classes", n_classes=[3, 4, 2, 4]),
    "gradnorm ema": lambda: GradNorm(4, 0.5, 0.05, "ema"),
    "upgrad": lambda: Aggregate(aggregation.UPGradWeighting()),
    "mgda": lambda: Aggregate(aggregation.MGDAWeighting()),
    "pcgrad": lambda: Aggregate(aggregation.PCGradWeighting()),
    "random": lambda: Aggregate(aggregation.RandomWeighting()),
}


def trained(root, devices, balancer=None, valid=None, callbacks=(), **kwargs):
    "Twenty steps of batches that two processes cannot halve."
    torch.manual_seed(0)
    module = MultiTask(Net(), TASKS, balancer or Equal(4), lr=0.01, seed=3)
    sizes = {"epochs": 4, "batch_size": 25, **kwargs}
    return fit(module, items(), valid, root=root, device="cpu", devices=devices, callbacks=callbacks, **sizes)


def assert_close(one, other):
    "Networks, histories and balancers of two trainings, to 1e-5."
    for ours, theirs in zip(one.net.parameters(), other.net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)
    for name in ("loss", "weight", "norm"):
        np.testing.assert_allclose(one.history[name], other.history[name], rtol=0, atol=2e-5, equal_nan=True)
    np.testing.assert_allclose(one.valid_history.loss, other.valid_history.loss, rtol=0, atol=1e-5)
    torch.testing.assert_close(one.balancer.weights, other.balancer.weights, rtol=0, atol=1e-5)


@pytest.mark.long
@pytest.mark.parametrize("name", BALANCERS)
def test_two_processes_do_the_steps_of_one(tmp_path, name):
    valid = part(items(), slice(0, 51))
    one, two = (trained(tmp_path / str(n), n, BALANCERS[name](), valid) for n in (1, 2))
    assert len(two.history) == 20 * 4 and len(two.valid_history) == 4 * 4
    assert_close(one, two)
    assert not list((tmp_path / "2").glob("*.pkl"))


@pytest.mark.long
def test_labels_that_are_all_in_one_process_count_as_in_one(tmp_path):
    "Batches in order: the genres, in the last items only, are always in the second process's part."

    class InOrder(Items):
        def __getitem__(self, rows):
            return super().__getitem__(np.sort(rows))

    def make(n):
        torch.manual_seed(0)
        data = items()
        data.__class__ = InOrder
        module = MultiTask(Net(), TASKS, GradNorm(4, 0.5, 0.05), lr=0.01, seed=3)
        options = {"epochs": 3, "batch_size": 130, "root": tmp_path / str(n), "device": "cpu", "devices": n}
        return fit(module, data, part(data, [0, 1, 128, 129]), **options)

    one, two = make(1), make(2)
    assert one.history.query("task == 'genre'").loss.notna().all()
    assert_close(one, two)


@pytest.mark.long
def test_plateau_and_outputs_are_the_same_with_fewer_validation_items_than_processes(tmp_path):
    found = []
    for n in (1, 2):
        plateau, watch = Plateau(0.5, 0, reductions=2), EpochOutputs(items().x[:7], first_logits)
        options = {"epochs": 12, "callbacks": [plateau, watch]}
        found.append((trained(tmp_path / str(n), n, valid=part(items(), [125]), **options), plateau, watch))
    (one, plateau, watch), (two, other, seen) = found
    assert_close(one, two)
    assert (other.rates, other.best_epoch, other.stopped) == (plateau.rates, plateau.best_epoch, plateau.stopped)
    np.testing.assert_allclose(seen.outputs, watch.outputs, atol=1e-5)


def first_logits(net, x):
    return net(x)[0]


@given(n=st.integers(1, 300), batch=st.integers(1, 70), processes=st.integers(1, 9), shuffle=st.booleans())
@settings(max_examples=80)
def test_the_parts_of_a_batch_are_the_batch(n, batch, processes, shuffle):
    options = {"shuffle": shuffle, "drop_last": shuffle, "seed": 5}
    whole = list(EpochBatches(n, batch, **options))
    of_ranks = [list(EpochBatches(n, batch, rank=r, world_size=processes, **options)) for r in range(processes)]
    assert {len(parts) for parts in of_ranks} == {len(whole)}
    for index, items_of_batch in enumerate(whole):
        np.testing.assert_array_equal(np.concatenate([parts[index] for parts in of_ranks]), items_of_batch)


# Who ends, and how


class Killed(Items):
    "The second process is killed in the third epoch."

    def __getitem__(self, rows):
        self.reads = getattr(self, "reads", 0) + 1
        if self.reads == 13 and os.environ.get("LOCAL_RANK") == "1":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().__getitem__(rows)


@pytest.mark.long
def test_one_process_killed_ends_all_and_the_next_call_goes_on_to_the_same_numbers(tmp_path):
    whole, data, root = trained(tmp_path / "whole", 2, GradNorm(4, 0.5, 0.05)), items(), tmp_path / "killed"
    data.__class__ = Killed
    torch.manual_seed(0)
    module = MultiTask(Net(), TASKS, GradNorm(4, 0.5, 0.05), lr=0.01, seed=3)
    with pytest.raises(RunError, match="one of them was killed.*goes on from the last checkpoint"):
        fit(module, data, epochs=4, batch_size=25, root=root, device="cpu", devices=2)
    assert (root / "last.ckpt").exists() and not (root / "final.ckpt").exists()
    resumed = trained(root, 2, GradNorm(4, 0.5, 0.05))
    assert resumed.history.to_csv() == whole.history.to_csv()
    for ours, theirs in zip(resumed.net.parameters(), whole.net.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    assert sorted(file.name for file in root.iterdir()) == ["final.ckpt", "settings.json"]


def fail_or_wait():
    if os.environ["LOCAL_RANK"] == "1":
        raise RunError("the second process has failed")
    time.sleep(600)


@pytest.mark.long
def test_an_error_of_one_process_ends_the_others(tmp_path):
    with pytest.raises(RunError, match="the second process has failed"):
        ranks.launch(2, 1, tmp_path, fail_or_wait)


def alone(code, *args, **env):
    "A process that runs some code."
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.Popen(command, env={**os.environ, **env}, text=True, stdout=subprocess.PIPE)


FOR_EVER = """
import pathlib, sys, time
from musicmtl.ranks import launch

def wait(folder):
    import os
    (folder / os.environ["LOCAL_RANK"]).touch()
    time.sleep(600)

launch(2, 1, folder := pathlib.Path(sys.argv[1]), wait, folder)
"""


@pytest.mark.long
def test_no_process_trains_on_when_its_caller_is_killed(tmp_path):
    caller, deadline = alone(FOR_EVER, tmp_path), time.monotonic() + 120
    while not all((tmp_path / rank).exists() for rank in "01") and time.monotonic() < deadline:
        time.sleep(0.02)
    children = psutil.Process(caller.pid).children(recursive=True)
    caller.kill()
    caller.communicate()
    assert len(children) >= 2 and not psutil.wait_procs(children, timeout=60)[1]


@pytest.mark.parametrize(
    "arguments, match",
    [
        ({"devices": 0}, "devices: expected a number of them or auto, found 0"),
        ({"devices": 2, "strategy": "fsdp"}, "strategy: expected one of auto, ddp"),
        ({"devices": 2, "num_nodes": 0}, "num_nodes: expected a number of machines"),
        ({"devices": 40}, "batch_size: expected an item for each of 40 devices, found 25"),
        ({"devices": 1, "num_nodes": 2}, "NODE_RANK, MASTER_ADDR, MASTER_PORT not found"),
    ],
)
def test_devices_that_cannot_be_are_refused(tmp_path, arguments, match):
    with pytest.raises(ParamsError, match=match):
        trained(tmp_path, **arguments)


# Launchers


def test_launchers_are_understood(monkeypatch):
    assert ranks.team(4) == ranks.Team(4)
    with monkeypatch.context() as env:
        for name, value in {"NODE_RANK": 1, "MASTER_ADDR": "first", "MASTER_PORT": 29500}.items():
            env.setenv(name, str(value))
        found = ranks.team(4, 2)
        assert (found.host, found.hosts, found.address, list(found.own)) == (1, 2, "first", [4, 5, 6, 7])
    with monkeypatch.context() as env:
        torchrun = {"TORCHELASTIC_RUN_ID": "x", "RANK": 3, "WORLD_SIZE": 4, "MASTER_ADDR": "first"}
        for name, value in {**torchrun, "MASTER_PORT": 29500}.items():
            env.setenv(name, str(value))
        found = ranks.team(2, 2)
        assert list(found.own) == [3] and found.variables(3, 1)["NODE_RANK"] == "1"
        with pytest.raises(ParamsError, match="multiple of the 4 processes"):
            ranks.team(1)


def test_a_batch_script_of_slurm_is_no_task(monkeypatch):
    slurm = {"SLURM_JOB_ID": 1, "SLURM_JOB_NAME": "x", "SLURM_NTASKS": 2, "SLURM_PROCID": 0, "SLURM_NODELIST": "n[1-2]"}
    for name, value in slurm.items():
        monkeypatch.setenv(name, str(value))
    assert ranks.team(2, 2).hosts == 2 and ranks.team(2, 2).address == "n1"
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "1")
    assert ranks.team(2).hosts == 1


HOST = """
import os, pathlib, sys
from musicmtl.ranks import hosting, launch

def mean(folder, number):
    import os, torch
    from musicmtl.ranks import averaged

    rank = int(os.environ["NODE_RANK"])
    torch.distributed.init_process_group("gloo", rank=rank, world_size=2)
    value = averaged(torch.tensor([rank + number]))
    (folder / f"{number}-{rank}.txt").write_text(str(value.item()))

folder = pathlib.Path(sys.argv[1])
with hosting(1, 2) as helped:
    if helped:
        helped.serve()
    else:
        for number in (1, 2):
            launch(1, 2, folder, mean, folder, number)
print("host", os.environ["NODE_RANK"], "has ended")
"""


@pytest.mark.long
def test_a_second_machine_serves_the_first_until_that_ends(tmp_path):
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(ranks._free_port())}
    hosts = [alone(HOST, tmp_path, NODE_RANK=number, **place) for number in ("1", "0")]
    assert [host.communicate(timeout=300)[0] for host in hosts] == ["host 1 has ended\n", "host 0 has ended\n"]
    found = {file.name: file.read_text() for file in tmp_path.iterdir()}
    assert found == {"1-0.txt": "1.5", "1-1.txt": "1.5", "2-0.txt": "2.5", "2-1.txt": "2.5"}


@pytest.mark.long
def test_joblib_has_processes_of_its_own_after_a_training_on_two(tmp_path):
    x, y = torch.randn(16, 4), torch.randint(0, 3, (16,))
    task = classification("a", 3)
    fit(
        MultiTask(torch.nn.Linear(4, 3), [task]),
        Items(x, (y,)),
        epochs=1,
        batch_size=8,
        device="cpu",
        devices=2,
        root=tmp_path,
    )
    assert Parallel(n_jobs=2)(delayed(abs)(-i) for i in range(4)) == [0, 1, 2, 3]
