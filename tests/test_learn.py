"""Batches, epochs, one training step, and trainings that are killed."""

import contextlib
import resource
import signal
import subprocess
import sys
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

from musicmtl import learn
from musicmtl.balance import Equal, GradNorm
from musicmtl.core import ParamsError, RunError
from musicmtl.learn import (
    Best,
    EpochBatches,
    Items,
    MultiTask,
    Plateau,
    StepTimes,
    Windows,
    fit,
    held_on,
    one_ahead,
    outputs,
)
from small_training import TASKS, Net, data, module


def assert_same_weights(ours, theirs):
    "To the last bit."
    for one, other in zip(ours.net.state_dict().values(), theirs.net.state_dict().values(), strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_windows_equal_plain_slices():
    windows = data()

    def cut(rows, starts, length):
        slices = zip(rows, starts, strict=True)
        return torch.stack([windows.maps[row, :, start : start + length] for row, start in slices])

    items = np.array([0, 5, 79])
    x, (y, _) = windows[items]
    torch.testing.assert_close(x[:, 0], cut(windows.rows[items], windows.starts[items], 12))
    assert y.tolist() == [0, 0, 1]  # windows 0, 5 and 79 are of maps 0, 2 and 39
    same = Windows(cut, windows.rows, windows.starts, 12)
    torch.testing.assert_close(same[np.arange(80)][0], windows[np.arange(80)][0])


def test_windows_refuses_targets_of_another_length():
    with pytest.raises(ParamsError, match="found 2, 2, 3"):
        Windows(torch.zeros(2, 4, 9), [0, 1], [0, 0], 5, (torch.zeros(3),))


@given(n=st.integers(1, 50), batch=st.integers(1, 20), epoch=st.integers(0, 5), drop=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_every_item_once(n, batch, epoch, drop):
    sampler, again = (EpochBatches(n, batch, seed=3, drop_last=drop) for _ in range(2))
    sampler.set_epoch(epoch)
    batches = list(sampler)
    items = np.concatenate(batches)
    assert len(batches) == len(sampler) and len(set(items.tolist())) == len(items)
    if not drop:
        assert sorted(items.tolist()) == list(range(n))
    again.set_epoch(epoch)
    np.testing.assert_array_equal(np.concatenate(list(again)), items)


def test_ranks_share_each_batch_without_overlap():
    whole = EpochBatches(64, 4, seed=1, steps=8)
    first, second = (EpochBatches(64, 4, seed=1, steps=8, rank=rank, world_size=2) for rank in range(2))
    assert len(first) == len(second) == len(whole) == 8
    np.testing.assert_array_equal(np.array(list(whole))[:, :2], list(first))
    np.testing.assert_array_equal(np.array(list(whole))[:, 2:], list(second))


def test_steps_beyond_the_data_go_round_again():
    batches = list(EpochBatches(10, 4, steps=7))
    assert len(batches) == 7 and all(len(batch) == 4 for batch in batches)


def test_history_holds_every_step(tmp_path):
    trained = fit(module(), data(), data(), epochs=3, batch_size=20, root=tmp_path, device="cpu")
    history = trained.history
    assert len(history) == 3 * 4 * 2 and set(history.task) == {"a", "b"} and history.norm.gt(0).all()
    np.testing.assert_allclose(history.groupby("step").weight.sum(), 2, rtol=1e-6)
    assert len(trained.valid_history) == 3 * 2


def test_validation_loss_is_the_mean_over_items(tmp_path):
    trained = fit(module(), data(), data(), epochs=1, batch_size=30, root=tmp_path, device="cpu")  # 80 is not 30 · n
    x, targets = data()[np.arange(80)]
    losses = trained.losses(trained(x), targets)
    np.testing.assert_allclose(trained.valid_history.loss, losses.detach(), rtol=1e-5)


def test_same_seed_same_numbers_and_another_seed_others(tmp_path):
    def history(name, seed):
        return fit(module(seed), data(), epochs=2, batch_size=20, root=tmp_path / name, device="cpu").history

    first = history("first", 0)
    pd.testing.assert_frame_equal(first, history("again", 0))
    assert not np.allclose(first.loss, history("other", 1).loss)


def test_finished_training_is_loaded_not_repeated(tmp_path):
    arguments = dict(train=data(), epochs=2, batch_size=20, root=tmp_path, device="cpu")
    trained = fit(module(), **arguments)
    written = (tmp_path / "final.ckpt").stat().st_mtime_ns
    torch.manual_seed(7)
    loaded = fit(MultiTask(Net(), TASKS, GradNorm(2, lr=0.01), lr=0.01), **arguments)  # other weights at first
    assert (tmp_path / "final.ckpt").stat().st_mtime_ns == written and not (tmp_path / "last.ckpt").exists()
    assert_same_weights(loaded, trained)
    pd.testing.assert_frame_equal(loaded.history, trained.history)


def test_a_folder_belongs_to_one_training(tmp_path):
    fit(module(), data(), epochs=1, batch_size=20, root=tmp_path, device="cpu")
    with pytest.raises(RunError, match="epochs: 1 there, 2 asked for"):
        fit(module(), data(), epochs=2, batch_size=20, root=tmp_path, device="cpu")


SLOW = """
import sys, time
sys.path.insert(0, sys.argv[1])
import torch
from musicmtl.learn import Windows, fit
from small_training import data, module

class Slow(Windows):
    def __getitem__(self, items):
        time.sleep(0.15)
        return super().__getitem__(items)

torch.set_num_threads(int(sys.argv[3]))
slow = data()
slow.__class__ = Slow
fit(module(), slow, epochs=6, batch_size=20, root=sys.argv[2], device="cpu")
"""


@pytest.mark.long
def test_killed_training_ends_with_the_same_numbers(tmp_path):
    "SIGKILL in the middle of training; a second start, in another process, ends as an undisturbed run."
    root, threads = tmp_path / "killed", str(torch.get_num_threads())
    process = subprocess.Popen([sys.executable, "-c", SLOW, Path(__file__).parent, root, threads])
    deadline = time.monotonic() + 120
    while not (root / "last.ckpt").exists() and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert (root / "last.ckpt").exists() and not (root / "final.ckpt").exists()
    resumed = fit(module(), data(), epochs=6, batch_size=20, root=root, device="cpu")
    whole = fit(module(), data(), epochs=6, batch_size=20, root=tmp_path / "whole", device="cpu")
    assert resumed.history.to_csv() == whole.history.to_csv()
    assert_same_weights(resumed, whole)


# Checkpoints that are damaged, and disks that are full


class Killed(Exception):
    pass


def dies_at(module, epoch):
    "Die when `epoch` has ended but for what comes after it."
    start = module.on_train_epoch_start

    def start_or_die():
        start()
        if module.current_epoch == epoch:
            raise Killed

    module.on_train_epoch_start = start_or_die
    return module


def stopped_in(root, epoch=3):
    "A training that died in an epoch."
    with pytest.raises(Killed):
        fit(dies_at(module(), epoch), data(), epochs=6, batch_size=20, root=root, device="cpu")


def torn(path, how):
    "A checkpoint as a disk may give it back; between its records there is room where a bit does no harm."
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        largest = max(archive.infolist(), key=record_size)
        with archive.open(largest) as record:
            content[content.index(record.read()) + largest.file_size // 2] ^= 1
    path.write_bytes({"cut": content[: len(content) // 2], "empty": b"", "flipped": content}[how])


def record_size(record):
    return record.file_size


@pytest.fixture(scope="module")
def whole_training(tmp_path_factory):
    root = tmp_path_factory.mktemp("whole")
    return fit(module(), data(), epochs=6, batch_size=20, root=root, device="cpu")


@pytest.mark.parametrize("how", ["cut", "empty", "flipped"])
def test_a_damaged_checkpoint_is_named_and_the_one_before_used(tmp_path, whole_training, how):
    stopped_in(tmp_path)
    assert (tmp_path / "previous.ckpt").exists()
    torn(tmp_path / "last.ckpt", how)
    with pytest.warns(UserWarning, match="last.ckpt is damaged .*; going on from the checkpoint before"):
        resumed = fit(module(), data(), epochs=6, batch_size=20, root=tmp_path, device="cpu")
    assert resumed.history.to_csv() == whole_training.history.to_csv()
    assert_same_weights(resumed, whole_training)
    torn(tmp_path / "final.ckpt", how)
    with pytest.warns(UserWarning, match="final.ckpt is damaged"):
        again = fit(module(), data(), epochs=6, batch_size=20, root=tmp_path, device="cpu")
    assert_same_weights(again, whole_training)


def test_a_damaged_checkpoint_does_not_take_the_place_of_the_whole_one_before(tmp_path):
    "Killed between the two renames of the first epoch after the damage."
    stopped_in(tmp_path)
    torn(tmp_path / "last.ckpt", "cut")
    whole = (tmp_path / "previous.ckpt").read_bytes()
    with pytest.warns(UserWarning, match="damaged"), pytest.raises(Killed):
        fit(dies_at(module(), 3), data(), epochs=6, batch_size=20, root=tmp_path, device="cpu")
    assert (tmp_path / "previous.ckpt").read_bytes() == whole


@contextlib.contextmanager
def files_of_at_most(n):
    "A disk that is full, as far as this process can see."
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (n, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_full_disk_is_a_sentence_and_loses_nothing(tmp_path, whole_training):
    "Room for the settings, but for no checkpoint."
    sizes = {"epochs": 6, "batch_size": 20, "root": tmp_path, "device": "cpu"}
    with (
        files_of_at_most(2000),
        pytest.raises(RunError, match=r"last.ckpt .*expected room for 0.0 MB.*nothing is lost"),
    ):
        fit(module(), data(), **sizes)
    assert [file.name for file in tmp_path.iterdir()] == ["settings.json"]
    assert_same_weights(fit(module(), data(), **sizes), whole_training)


def test_items_are_rows():
    x, (y,) = Items(torch.arange(12.0).reshape(6, 2), (torch.arange(6),))[np.array([4, 1])]
    assert x.tolist() == [[8.0, 9.0], [2.0, 3.0]] and y.tolist() == [4, 1]


@pytest.mark.parametrize("items", [[5, 0, 5], np.array([], int), [-1, 2], [True, False, False, True, False, True], 3])
def test_items_are_found_as_a_tensor_finds_them(items):
    rows = torch.randn(6, 4, 3).transpose(1, 2)
    x, (y,) = Items(rows, (rows[:, 0],))[items]
    torch.testing.assert_close((x, y), (rows[torch.as_tensor(items)], rows[torch.as_tensor(items), 0]))


# The learning rate that follows the validation loss


def drop(**kwargs):
    return Plateau(0.5, 0, **{"reductions": 3, **kwargs})


@pytest.mark.long
@pytest.mark.parametrize("restore", [True, False])
def test_plateau_survives_being_killed(tmp_path, restore):
    arguments = dict(train=data(), valid=data(), epochs=30, batch_size=20, device="cpu")

    def make():
        return module(balancer=Equal(2), lr=0.2)

    plateau = drop(restore=restore)
    whole = fit(make(), root=tmp_path / "whole", callbacks=[plateau], **arguments)
    assert 4 < len(plateau.rates) < 30, "the test needs a training that the schedule ends"
    for epoch in (2, len(plateau.rates) - 1):
        arguments["root"] = tmp_path / f"killed {epoch}"
        with pytest.raises(Killed):
            fit(dies_at(make(), epoch), callbacks=[drop(restore=restore)], **arguments)
        again = drop(restore=restore)
        resumed = fit(make(), callbacks=[again], **arguments)
        assert (again.rates, again.best_epoch, again.best) == (plateau.rates, plateau.best_epoch, plateau.best)
        pd.testing.assert_frame_equal(resumed.history, whole.history)
        assert_same_weights(resumed, whole)


def test_plateau_that_was_killed_after_its_last_epoch_trains_no_further(tmp_path, monkeypatch):
    arguments = dict(train=data(), valid=data(), epochs=30, batch_size=20, root=tmp_path, device="cpu")

    def die(self, trainer, module):
        raise Killed

    first, second = drop(), drop()
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Plateau, "on_train_end", die)
        fit(module(balancer=Equal(2), lr=0.2), callbacks=[first], **arguments)
    assert first.stopped and (tmp_path / "last.ckpt").exists()
    resumed = fit(module(balancer=Equal(2), lr=0.2), callbacks=[second], **arguments)
    assert second.rates == first.rates and len(resumed.valid_history) == 2 * len(first.rates)
    for name, value in resumed.net.state_dict().items():
        torch.testing.assert_close(value, first.best_state[name], rtol=0, atol=0)


def test_the_best_epoch_is_kept_whether_or_not_the_training_is_killed(tmp_path):
    arguments = dict(train=data(), valid=data(), batch_size=20, device="cpu")

    def from_third(module):
        return abs(module.current_epoch - 2)

    whole = fit(module(), root=tmp_path / "whole", epochs=5, callbacks=[Best(from_third)], **arguments)
    assert_same_weights(whole, fit(module(), root=tmp_path / "three", epochs=3, **arguments))
    with pytest.raises(Killed):
        fit(dies_at(module(), 3), root=tmp_path / "killed", epochs=5, callbacks=[Best(from_third)], **arguments)
    for folder in ("killed", "whole"):  # goes on; is read
        best = Best(from_third)
        assert_same_weights(fit(module(), root=tmp_path / folder, epochs=5, callbacks=[best], **arguments), whole)
        assert best.losses == [2, 1, 0, 1, 2] and best.epoch == 2


def test_the_validation_loss_says_which_epoch_is_best(tmp_path):
    best = Best()
    found = fit(module(), data(), data(), epochs=3, batch_size=20, device="cpu", root=tmp_path, callbacks=[best])
    assert best.losses == pytest.approx(found.valid_history.groupby("epoch").loss.sum().tolist())


def test_the_best_epoch_needs_a_number_to_be_judged_by(tmp_path):
    arguments = dict(epochs=2, batch_size=20, device="cpu")
    with pytest.raises(ParamsError, match="give `fit` a validation set"):
        fit(module(), data(), root=tmp_path / "none", callbacks=[Best()], **arguments)

    def falling(module):
        return -module.current_epoch

    best = Best(falling)
    fit(module(), data(), root=tmp_path / "falling", callbacks=[best], **arguments)
    assert best.losses == [0, -1] and best.epoch == 1 and best.settings == {"loss": "falling"}


@given(
    losses=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    patience=st.integers(0, 3),
    reductions=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_plateau_counts_like_a_loop(losses, patience, reductions):
    optimiser = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    class Trainer:
        optimizers, should_stop = [optimiser], False

    class Module:
        decay, valid_log, current_epoch, net = False, [], 0, torch.nn.Identity()

    plateau = Plateau(0.5, patience, reductions=reductions)
    plateau.on_train_start(Trainer, Module)
    best, bad, fell, rates, stopped = float("inf"), 0, 0, [], False
    for Module.current_epoch, loss in enumerate(losses):
        Module.valid_log.append([Module.current_epoch, float(loss)])
        plateau.on_train_epoch_end(Trainer, Module)
        rates.append(0.5**fell)
        best, bad = (loss, 0) if loss < best else (best, bad + 1)
        if bad > patience:
            fell, bad = fell + 1, 0
        stopped = fell > reductions
        assert Trainer.should_stop == stopped
        if stopped:
            break
    assert plateau.rates == rates and plateau.best == best == min(losses[: len(rates)])
    assert plateau.best_epoch == losses.index(best)


def test_plateau_refuses_what_cannot_work(tmp_path):
    with pytest.raises(ParamsError, match="factor: expected a number between 0 and 1, found 2"):
        Plateau(2)
    with pytest.raises(ParamsError, match="patience: expected epochs"):
        Plateau(patience=-1)
    arguments = dict(epochs=1, batch_size=20, root=tmp_path, device="cpu", callbacks=[Plateau()])
    with pytest.raises(ParamsError, match="decay=False"):
        fit(module(decay=True), data(), data(), **arguments)


def test_another_optimiser_is_used_and_remembered(tmp_path):
    sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)

    def make(optimizer=None):
        return MultiTask(Net(), TASKS, lr=0.1, weight_decay=0.01, optimizer=optimizer)

    optimiser = make(sgd).configure_optimizers()
    assert isinstance(optimiser, torch.optim.SGD) and optimiser.defaults["nesterov"]
    assert (optimiser.defaults["lr"], optimiser.defaults["weight_decay"]) == (0.1, 0.01)
    assert type(make().configure_optimizers()) is torch.optim.Adam
    fit(make(sgd), data(), epochs=1, batch_size=20, root=tmp_path, device="cpu")
    with pytest.raises(RunError, match="optimizer"):
        fit(make(), data(), epochs=1, batch_size=20, root=tmp_path, device="cpu")


def test_a_data_set_is_told_the_epoch_also_after_a_restart(tmp_path):
    class Drawn(Items):
        def __init__(self):
            super().__init__(*data()[np.arange(40)])
            self.seen = []

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __getitem__(self, items):
            self.seen.append(self.epoch)
            return super().__getitem__(items)

    arguments = dict(epochs=4, batch_size=20, root=tmp_path, device="cpu")
    first, second, valid = Drawn(), Drawn(), Drawn()
    with pytest.raises(Killed):
        fit(dies_at(module(), 2), first, valid, **arguments)
    fit(module(), second, valid, **arguments)
    assert sorted(set(first.seen)) == [0, 1] and second.seen == [2, 2, 3, 3]
    assert sorted(set(valid.seen)) == [0, 1, 2, 3]


# Batches that are made one ahead, and features that lie where the network is


def threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("one ahead")]


def one_by_one(make, parts):
    return map(make, parts)


def test_batches_made_ahead_are_those_made_one_by_one(tmp_path, monkeypatch):
    sizes = {"epochs": 3, "batch_size": 20, "device": "cpu"}
    ahead = fit(module(), data(), data(), root=tmp_path / "ahead", **sizes)
    read_ahead = outputs(torch.Tensor.contiguous, data(), batch_size=30)
    monkeypatch.setattr(learn, "one_ahead", one_by_one)
    plain = fit(module(), data(), data(), root=tmp_path / "plain", **sizes)
    pd.testing.assert_frame_equal(ahead.history, plain.history)
    pd.testing.assert_frame_equal(ahead.valid_history, plain.valid_history)
    assert_same_weights(ahead, plain)
    assert torch.equal(read_ahead, outputs(torch.Tensor.contiguous, data(), batch_size=30))


@pytest.mark.parametrize("n", [0, 1, 2, 7])
def test_the_next_is_made_while_one_is_used_and_no_more(n):
    made, used = [], []
    for number in one_ahead(lambda part: made.append(part) or part, range(n)):
        used.append(number)
        until = time.monotonic() + 10
        while len(made) < min(len(used) + 1, n) and time.monotonic() < until:
            time.sleep(0.001)
        assert made == list(range(min(len(used) + 1, n)))
    assert used == list(range(n)) and not threads()


def test_an_error_of_the_thread_is_raised_where_its_batch_is_due(tmp_path):
    class Broken(Windows):
        n = 0

        def __getitem__(self, items):
            self.n += 1
            if self.n == 3:
                raise OSError("the disk is gone")
            return super().__getitem__(items)

    broken, trained = data(), module()
    broken.__class__ = Broken
    with pytest.raises(OSError, match="the disk is gone"):
        fit(trained, broken, epochs=2, batch_size=20, root=tmp_path, device="cpu")
    assert len(trained.history) == 2 * 2 and not threads()


def test_a_training_that_ends_in_the_middle_leaves_no_thread(tmp_path):
    class Ends(MultiTask):
        def training_step(self, batch, batch_idx):
            if batch_idx == 1:
                raise Killed
            super().training_step(batch, batch_idx)

    with pytest.raises(Killed):
        fit(Ends(Net(), TASKS), data(), epochs=2, batch_size=20, root=tmp_path, device="cpu")
    assert not threads()
    batches = one_ahead(str, range(5))
    assert next(batches) == "0" and len(threads()) == 1
    batches.close()
    assert not threads()


def test_a_batch_for_a_gpu_is_pinned(monkeypatch):
    pinned = []
    monkeypatch.setattr(torch.cuda, "device", contextlib.nullcontext)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda x: pinned.append(x.shape) or x)
    batches = learn._Batches(data(), EpochBatches(80, 20), torch.device("cuda", 1))
    assert len(list(batches)) == 4 and pinned == 4 * [(20, 1, 6, 12), (20,), (20,)]


def test_features_move_to_a_device_that_has_room_and_a_warning_says_where_not(monkeypatch):
    windows, items = data(), Items(torch.arange(6.0).view(3, 2), [torch.arange(3)])
    assert held_on(windows, "meta").maps.device.type == "meta" and windows.maps.device.type == "cpu"
    assert torch.equal(held_on(items, "cpu")[[2, 0]][0], items[[2, 0]][0])
    from_files = Windows(lambda rows, starts, length: torch.zeros(len(rows), 1, length), [0], [0], 4)
    assert held_on(from_files, "meta") is from_files
    monkeypatch.setattr(learn, "_free_bytes", lambda device: 2 * items.x.nbytes)
    assert held_on(items, "meta").x.device.type == "meta"
    with pytest.warns(UserWarning, match="Windows: features of 0.0 GB do not fit into half of the memory .*on meta"):
        assert held_on(windows, "meta") is windows


@pytest.mark.parametrize("every", [3, 50])
def test_numbers_that_are_fetched_later_are_the_same(tmp_path, monkeypatch, every):
    sizes = {"epochs": 6, "batch_size": 20, "device": "cpu"}
    at_once = fit(module(), data(), data(), root=tmp_path / "at_once", **sizes)
    monkeypatch.setitem(learn._EVERY, "cpu", every)
    monkeypatch.setattr(MultiTask, "device", torch.device("cuda"))  # labels are counted before a batch is copied
    stopped_in(tmp_path / "later", 1)
    later = fit(module(), data(), data(), root=tmp_path / "later", **sizes)
    assert str(later.steps_log) == str(at_once.steps_log) and later.valid_log == at_once.valid_log[1:]
    assert_same_weights(later, at_once)


def test_a_divergence_that_is_seen_later_has_its_own_step(tmp_path, monkeypatch):
    monkeypatch.setitem(learn._EVERY, "cpu", 50)

    class Wild(MultiTask):
        def _record(self, losses, log, counts=None):
            later = self.current_epoch == 1 and len(self._steps) == 2
            super()._record(losses * torch.tensor([1, torch.inf]) if later else losses, log, counts)

    trained = Wild(Net(), TASKS, GradNorm(2))
    with pytest.raises(RunError, match=r"diverged at epoch 1, step 6: .* for b \(losses .*1 steps in a row"):
        fit(trained, data(), epochs=3, batch_size=20, root=tmp_path, device="cpu")
    assert len(trained.history) == 6 * 2
    assert torch.load(tmp_path / "last.ckpt")["epoch"] == 0


def test_a_training_on_one_gpu_takes_the_current_one(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 2)
    found, n = learn._machine("gpu", 1, 1, "auto", "32-true")
    assert found == {"accelerator": "gpu", "devices": [2], "precision": "32-true"} and n == 1
    assert learn._machine("cpu", 1, 1, "auto", "32-true")[0]["devices"] == 1


def test_steps_of_a_gpu_are_timed_in_its_queue(monkeypatch):
    class Event:
        clock, asked = 0.0, 0

        def __init__(self, enable_timing):
            assert enable_timing

        def record(self, stream):
            Event.clock += 20
            self.at, self.stream = Event.clock, stream

        def synchronize(self):
            Event.asked += 1

        def elapsed_time(self, end):  # ms
            return end.at - self.at

    monkeypatch.setattr(torch.cuda, "Event", Event)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: device)
    times = StepTimes()
    for device in ("cuda", "cuda", "cpu"):
        trained = torch.nn.Module()
        trained.device = torch.device(device)
        times.on_train_batch_start(None, trained, None, 0)
        times.on_train_batch_end(None, trained, None, None, 0)
    assert Event.asked == 0 and len(times.seconds) == 3 and times.seconds[1:] == [0.02, 0.02] and Event.asked == 2
    again = StepTimes()
    again.load_state_dict(times.state_dict())
    assert again.seconds == times.seconds


class Asked(TorchDispatchMode):
    "Counts what a GPU would have to be waited for."

    n = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.n += function._schema.name in ("aten::_local_scalar_dense", "aten::nonzero", "aten::equal")
        return function(*args, **(kwargs or {}))


def test_no_step_asks_for_a_number(tmp_path, monkeypatch):
    class Watched(MultiTask):
        def training_step(self, batch, batch_idx):
            with asked:
                super().training_step(batch, batch_idx)

    def train(root):
        fit(Watched(Net(), TASKS, optimizer=torch.optim.SGD), data(), epochs=2, batch_size=20, root=root, device="cpu")

    asked = Asked()
    train(tmp_path / "cpu")
    assert asked.n == 2 * 4  # whether there is a label
    asked = Asked()
    monkeypatch.setitem(learn._EVERY, "cpu", 50)
    monkeypatch.setattr(MultiTask, "device", torch.device("cuda"))
    train(tmp_path / "as_on_a_gpu")
    assert asked.n == 0
