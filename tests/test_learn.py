"""Batches, epochs, one training step, and trainings that are killed."""

import signal
import subprocess
import sys
import textwrap
import time
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl.balance import Equal, GradNorm
from musicmtl.core import ParamsError, RunError
from musicmtl.learn import EpochBatches, Items, MultiTask, Plateau, Windows, fit
from musicmtl.tasks import classification


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.drop = torch.nn.Conv1d(6, 8, 3), torch.nn.Dropout(0.3)
        self.out = torch.nn.ModuleList(torch.nn.Linear(8, n) for n in (2, 3))

    shared_weight = property(lambda self: self.first.weight)

    def shared(self, x):
        return torch.relu(self.first(x.squeeze(1)))

    def heads(self, views):
        return [o(self.drop(v).mean(2)) for o, v in zip(self.out, views, strict=True)]

    def forward(self, x):
        return self.heads([self.shared(x)] * 2)


def data(n=40):
    g = torch.Generator().manual_seed(0)
    maps = torch.randn(n, 6, 20, generator=g)
    y = torch.arange(n) % 2
    maps[y == 1, :2] += 1
    return Windows(
        maps,
        np.arange(n).repeat(2),
        np.tile([0, 8], n),
        12,
        (y.repeat_interleave(2), (torch.arange(n) % 3).repeat_interleave(2)),
    )


def module(seed=0, balancer=None, lr=0.01, **kwargs):
    torch.manual_seed(seed)
    return MultiTask(
        Net(),
        [classification("a", 2), classification("b", 3)],
        balancer or GradNorm(2, lr=0.01),
        lr=lr,
        seed=seed,
        **kwargs,
    )


def test_windows_equal_plain_slices():
    d = data()
    x, (y, _) = d[np.array([0, 5, 79])]
    for k, i in enumerate((0, 5, 79)):
        r, s = int(d.rows[i]), int(d.starts[i])
        torch.testing.assert_close(x[k, 0], d.maps[r, :, s : s + 12])
    same = Windows(
        lambda rows, starts, n: torch.stack([d.maps[r, :, s : s + n] for r, s in zip(rows, starts, strict=True)]),
        d.rows,
        d.starts,
        12,
    )
    torch.testing.assert_close(same[np.arange(80)][0], d[np.arange(80)][0])


def test_windows_refuses_targets_of_another_length():
    with pytest.raises(ParamsError, match="found 2, 2, 3"):
        Windows(torch.zeros(2, 4, 9), [0, 1], [0, 0], 5, (torch.zeros(3),))


@given(n=st.integers(1, 50), batch=st.integers(1, 20), epoch=st.integers(0, 5), drop=st.booleans())
@settings(max_examples=60, deadline=None)
def test_an_epoch_is_every_item_once(n, batch, epoch, drop):
    s = EpochBatches(n, batch, seed=3, drop_last=drop)
    s.set_epoch(epoch)
    batches = list(s)
    items = np.concatenate(batches)
    assert len(batches) == len(s) and len(set(items.tolist())) == len(items)
    if not drop:
        assert sorted(items.tolist()) == list(range(n))
    again = EpochBatches(n, batch, seed=3, drop_last=drop)
    again.set_epoch(epoch)
    assert all((a == b).all() for a, b in zip(batches, again, strict=True))


def test_ranks_share_an_epoch_without_overlap():
    whole = EpochBatches(64, 4, seed=1, steps=8)
    parts = [EpochBatches(64, 4, seed=1, steps=8, rank=r, world_size=2) for r in range(2)]
    got = sorted(tuple(b) for p in parts for b in p)
    assert got == sorted(tuple(b) for b in whole)


def test_steps_beyond_the_data_go_round_again():
    s = EpochBatches(10, 4, steps=7)
    batches = list(s)
    assert len(batches) == 7 and all(len(b) == 4 for b in batches)


def test_history_holds_every_step(tmp_path):
    m = fit(module(), data(), data(), epochs=3, batch_size=20, root=tmp_path, device="cpu")
    h = m.history
    assert len(h) == 3 * 4 * 2 and set(h.task) == {"a", "b"} and h.norm.gt(0).all()
    np.testing.assert_allclose(h.groupby("step").weight.sum(), 2, rtol=1e-6)
    assert len(m.valid_history) == 3 * 2


def test_same_seed_same_numbers_and_another_seed_others(tmp_path):
    a, b, c = (
        fit(module(s), data(), epochs=2, batch_size=20, root=tmp_path / n, device="cpu").history
        for n, s in (("a", 0), ("b", 0), ("c", 1))
    )
    pd.testing.assert_frame_equal(a, b)
    assert not np.allclose(a.loss, c.loss)


def test_finished_training_is_loaded_not_repeated(tmp_path):
    a = fit(module(), data(), epochs=2, batch_size=20, root=tmp_path, device="cpu")
    before = (tmp_path / "final.ckpt").stat().st_mtime_ns
    b = fit(
        module(7).__class__(Net(), a.tasks, GradNorm(2, lr=0.01), lr=0.01, seed=0),
        data(),
        epochs=2,
        batch_size=20,
        root=tmp_path,
        device="cpu",
    )
    assert (tmp_path / "final.ckpt").stat().st_mtime_ns == before and not (tmp_path / "last.ckpt").exists()
    for p, q in zip(a.net.parameters(), b.net.parameters(), strict=True):
        torch.testing.assert_close(p, q, rtol=0, atol=0)
    pd.testing.assert_frame_equal(a.history, b.history)


def test_a_folder_belongs_to_one_training(tmp_path):
    fit(module(), data(), epochs=1, batch_size=20, root=tmp_path, device="cpu")
    with pytest.raises(RunError, match="epochs: 1 there, 2 asked for"):
        fit(module(), data(), epochs=2, batch_size=20, root=tmp_path, device="cpu")


SCRIPT = textwrap.dedent("""
    import sys, time
    sys.path.insert(0, {here!r})
    from test_learn import *
    class Slow(Windows):
        def __getitem__(self, items): time.sleep({pause}); return super().__getitem__(items)
    d = data(); d.__class__ = Slow
    m = fit(module(), d, epochs=6, batch_size=20, root={root!r}, device="cpu")
    m.history.to_csv({root!r} + "/history.csv")
""")


def run_script(root, pause, here):
    return subprocess.Popen([sys.executable, "-c", SCRIPT.format(here=here, root=str(root), pause=pause)])


def test_killed_training_ends_with_the_same_numbers(tmp_path):
    "SIGKILL in the middle of training; the second start goes on and ends as an undisturbed run."
    from pathlib import Path

    here = str(Path(__file__).parent)
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    p = run_script(killed, 0.15, here)
    until = time.time() + 120
    while not (killed / "last.ckpt").exists() and time.time() < until and p.poll() is None:
        time.sleep(0.02)
    p.send_signal(signal.SIGKILL)
    p.wait()
    assert (killed / "last.ckpt").exists() and not (killed / "final.ckpt").exists()
    assert run_script(killed, 0, here).wait() == 0
    assert run_script(whole, 0, here).wait() == 0
    assert (killed / "history.csv").read_bytes() == (whole / "history.csv").read_bytes()


def test_items_are_rows():
    x, (y,) = Items(torch.arange(12.0).reshape(6, 2), (torch.arange(6),))[np.array([4, 1])]
    assert x.tolist() == [[8.0, 9.0], [2.0, 3.0]] and y.tolist() == [4, 1]


# The learning rate that follows the validation loss


class Killed(Exception):
    pass


def dies_at(module, epoch):
    "Die when `epoch` has ended but for what comes after it."
    start = module.on_train_epoch_start

    def maybe():
        start()
        if module.current_epoch == epoch:
            raise Killed

    module.on_train_epoch_start = maybe
    return module


def drop(**kwargs):
    return Plateau(0.5, 0, **{"reductions": 3, **kwargs})


@pytest.mark.parametrize("restore", [True, False])
def test_plateau_survives_being_killed(tmp_path, restore):
    how = dict(train=data(), valid=data(), epochs=30, batch_size=20, device="cpu")

    def make():
        return module(balancer=Equal(2), lr=0.2)

    whole = fit(make(), root=tmp_path / "whole", callbacks=[(a := drop(restore=restore))], **how)
    assert 4 < len(a.rates) < 30, "the test wants a training that the schedule ends"
    for when in (2, len(a.rates) - 1):
        again = dict(root=tmp_path / f"killed {when}", **how)
        with pytest.raises(Killed):
            fit(dies_at(make(), when), callbacks=[drop(restore=restore)], **again)
        m = fit(make(), callbacks=[(b := drop(restore=restore))], **again)
        assert a.rates == b.rates and a.best_epoch == b.best_epoch and a.best == b.best
        pd.testing.assert_frame_equal(whole.history, m.history)
        for p, q in zip(whole.net.state_dict().values(), m.net.state_dict().values(), strict=True):
            torch.testing.assert_close(p, q, rtol=0, atol=0)


def test_plateau_that_was_killed_after_its_last_epoch_trains_no_further(tmp_path, monkeypatch):
    how = dict(train=data(), valid=data(), epochs=30, batch_size=20, root=tmp_path, device="cpu")

    def die(self, trainer, module):
        raise Killed

    with monkeypatch.context() as m, pytest.raises(Killed):
        m.setattr(Plateau, "on_train_end", die)
        fit(module(balancer=Equal(2), lr=0.2), callbacks=[(a := drop())], **how)
    assert a.stopped and (tmp_path / "last.ckpt").exists()
    again = fit(module(balancer=Equal(2), lr=0.2), callbacks=[(b := drop())], **how)
    assert b.rates == a.rates and len(again.valid_history) == 2 * len(a.rates)
    for k, v in again.net.state_dict().items():
        torch.testing.assert_close(v, a.best_state[k], rtol=0, atol=0)


@given(
    losses=st.lists(st.integers(1, 6), min_size=1, max_size=40),
    patience=st.integers(0, 3),
    reductions=st.integers(0, 3),
)
@settings(max_examples=100, deadline=None)
def test_plateau_counts_like_a_loop(losses, patience, reductions):
    opt = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)

    class Trainer:
        optimizers, should_stop = [opt], False

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
    with pytest.raises(ParamsError, match="decay=False"):
        fit(
            module(decay=True),
            data(),
            data(),
            epochs=1,
            batch_size=20,
            root=tmp_path,
            device="cpu",
            callbacks=[Plateau()],
        )


def test_another_optimiser_is_used_and_remembered(tmp_path):
    sgd = partial(torch.optim.SGD, momentum=0.9, nesterov=True)

    def make(opt=None):
        return MultiTask(
            Net(), [classification("a", 2), classification("b", 3)], lr=0.1, weight_decay=0.01, optimizer=opt
        )

    opt = make(sgd).configure_optimizers()
    assert (
        isinstance(opt, torch.optim.SGD)
        and opt.defaults["nesterov"]
        and (opt.defaults["lr"], opt.defaults["weight_decay"]) == (0.1, 0.01)
    )
    assert type(make().configure_optimizers()) is torch.optim.Adam
    fit(make(sgd), data(), epochs=1, batch_size=20, root=tmp_path, device="cpu")
    with pytest.raises(RunError, match="optimizer"):
        fit(make(), data(), epochs=1, batch_size=20, root=tmp_path, device="cpu")


def test_a_data_set_is_told_the_epoch_also_after_a_restart(tmp_path):
    class Drawn(Items):
        def __init__(self):
            super().__init__(data()[np.arange(40)][0], data()[np.arange(40)][1])
            self.seen = []

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __getitem__(self, items):
            self.seen.append(self.epoch)
            return super().__getitem__(items)

    how = dict(epochs=4, batch_size=20, root=tmp_path, device="cpu")
    first, second, valid = Drawn(), Drawn(), Drawn()
    with pytest.raises(Killed):
        fit(dies_at(module(), 2), first, valid, **how)
    fit(module(), second, valid, **how)
    assert sorted(set(first.seen)) == [0, 1] and second.seen == [2, 2, 3, 3]
    assert sorted(set(valid.seen)) == [0, 1, 2, 3]
