"Trainings in which some batches, some epochs or whole tasks have no labels, and trainings whose numbers overflow."

import math
import warnings

import lightning as L
import numpy as np
import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from musicmtl.balance import DynamicWeightAverage, Equal, GradNorm, Uncertainty
from musicmtl.core import ParamsError, RunError
from musicmtl.learn import Items, MultiTask, Plateau, fit
from musicmtl.tasks import classification, distribution, multilabel, regression

N, B = 48, 8
TASKS = [classification("genre", 2), multilabel("tags", 3), regression("year", 1)]


class Net(nn.Module):
    "A shared layer and a head per task, each with weights of its own seed."

    def __init__(self, tasks):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 6)
        self.tops = nn.ModuleList()
        for task in tasks:
            torch.manual_seed(len(task.name))
            self.tops.append(nn.Linear(6, task.n_out))

    @property
    def shared_weight(self):
        return self.layer.weight

    def shared(self, x):
        return self.layer(x).tanh()

    def heads(self, views):
        return [top(view) for top, view in zip(self.tops, views, strict=True)]

    def forward(self, x):
        return self.heads([self.shared(x)] * len(self.tops))


def items():
    "All items labelled for all tasks."
    rng = torch.Generator().manual_seed(1)
    x = torch.randn(N, 4, generator=rng)
    return x, [(x[:, 0] > 0).long(), (x[:, :3] > 0).float(), x[:, 3:]]


def erased(targets, labelled):
    "Targets, missing where `labelled` [N] is False."
    missing = [torch.full_like(target, -1 if target.dtype == torch.long else math.nan) for target in targets]
    masks = [labelled.view(-1, *[1] * (target.ndim - 1)) for target in targets]
    return [torch.where(*all_of) for all_of in zip(masks, targets, missing, strict=True)]


def train(root, targets, balancer=None, tasks=TASKS, epochs=2, valid=True, **options):
    x, data = items()[0], Items(items()[0], targets)
    module = MultiTask(Net(tasks), tasks, balancer, lr=0.01, weight_decay=0.1)
    arguments = dict(epochs=epochs, batch_size=B, root=root, device="cpu") | options
    return fit(module, data, Items(x, targets) if valid else None, **arguments)


@pytest.mark.parametrize("make", [Equal, lambda k: GradNorm(k, lr=0.01), Uncertainty, DynamicWeightAverage])
def test_a_task_without_labels_trains_the_others_as_if_it_were_not_there(make, tmp_path):
    targets = items()[1]
    targets[2] = torch.full_like(targets[2], math.nan)
    three = train(tmp_path / "three", targets, make(3), epochs=3)
    two = train(tmp_path / "two", targets[:2], make(2), TASKS[:2], epochs=3)
    of_both = three.history[three.history.task != "year"].reset_index(drop=True)
    np.testing.assert_allclose(of_both[["loss", "weight"]], two.history[["loss", "weight"]], rtol=1e-5)
    year = three.history[three.history.task == "year"]
    assert year.loss.isna().all() and year.norm.isna().all() and (year.weight == 1).all()
    torch.testing.assert_close(three.net.layer.weight, two.net.layer.weight)
    torch.testing.assert_close(three.net.tops[2].weight, Net(TASKS).tops[2].weight, atol=0.2, rtol=0)  # decay alone
    assert three.valid_history.query("task == 'year'").loss.isna().all() and not two.valid_history.loss.isna().any()


def test_a_batch_without_any_labels_leaves_the_network_as_it_is(tmp_path):
    "Neither momentum nor weight decay move it."
    nothing = erased(items()[1], torch.zeros(N, dtype=torch.bool))
    for balancer in (Equal(3), GradNorm(3), Uncertainty(3)):
        module = train(tmp_path / type(balancer).__name__, nothing, balancer)
        for one, other in zip(module.net.parameters(), Net(TASKS).parameters(), strict=True):
            assert torch.equal(one, other)
        assert module.history.loss.isna().all() and module.valid_history.loss.isna().all()
        assert balancer.weights.tolist() == [1, 1, 1]
    alone = train(tmp_path / "alone", nothing[:1], tasks=TASKS[:1])
    assert torch.equal(alone.net.layer.weight, Net(TASKS[:1]).layer.weight)


def test_a_weight_moves_in_batches_with_labels_only(tmp_path):
    labelled = torch.arange(N) % 13 == 0
    targets = items()[1]
    targets[2] = erased(targets, labelled)[2]
    module = train(tmp_path, targets, GradNorm(3, lr=0.02), epochs=4)
    year = module.history[module.history.task == "year"]
    labels, weights = year.loss.notna().to_numpy(), year.weight.to_numpy()
    moves = weights[1:] != weights[:-1]
    assert 0.3 < labels.mean() < 0.7 and moves[labels[:-1]].all() and not moves[~labels[:-1]].any()
    np.testing.assert_allclose(module.history.groupby("step").weight.sum(), 3, rtol=1e-6)


def test_validation_is_a_mean_over_labelled_items(tmp_path):
    rng = torch.Generator().manual_seed(2)
    targets = erased(items()[1], torch.rand(N, generator=rng) < 0.3)
    targets[1][torch.rand(targets[1].shape, generator=rng) < 0.3] = math.nan  # single tags
    module = train(tmp_path, targets, batch_size=7)
    losses = module.losses(module(items()[0]), targets)
    np.testing.assert_allclose(module.valid_history.loss[-3:], losses.detach(), rtol=1e-5)


TARGETS = {
    "classification": (classification("a", 3), torch.tensor([0, -1, 2, 1]), 3),
    "weighted": (classification("a", 3, [1, 0, 0.5]), torch.tensor([0, -1, 2, 1]), 3),
    "answers": (classification("a", 3, answers=2), torch.tensor([[0, -1], [-1, -1], [2, 1], [1, -1]]), 2),
    "distribution": (distribution("a", 2), torch.tensor([[0.5, 0.5], [1, math.nan], [0, 1], [0.2, 0.8]]), 3),
    "multilabel": (multilabel("a", 2), torch.tensor([[0, 1], [1, math.nan], [math.nan] * 2, [0, 0]]), 2.5),
    "regression": (regression("a", 2), torch.tensor([[0, 9], [1, math.nan], [math.nan] * 2, [0, 0]]), 2.5),
    "absolute": (regression("a", 2, error="absolute"), torch.full((4, 2), math.nan), 0),
}


@pytest.mark.parametrize("task, target, expected", TARGETS.values(), ids=TARGETS)
def test_labelled_items_are_counted(task, target, expected):
    assert task.n_labelled(target).item() == expected and task.n_labelled(target[:0]).item() == 0
    mass = task.mass(target).item()
    assert mass == (1.5 if task.class_weights else expected)
    nothing = torch.full_like(target, -1 if task.kind == "classification" else math.nan)
    assert task.mass(nothing) == task.n_labelled(nothing) == 0
    logits = torch.randn(*target.shape, 3) if task.kind == "classification" else torch.randn(target.shape)
    parts = [(task.loss(logits[i], target[i]), task.mass(target[i])) for i in (slice(2), slice(2, 4))]
    if task.answers == 1 and expected:  # losses of parts, weighed by mass, are the loss of the whole
        whole = sum(loss * mass for loss, mass in parts) / sum(mass for _, mass in parts)
        torch.testing.assert_close(whole.float(), task.loss(logits, target))
    assert task.scores(nothing, task.predict(logits)) == {}


def test_plateau_looks_at_tasks_with_labels_only(tmp_path):
    targets = items()[1]
    targets[2] = torch.full_like(targets[2], math.nan)
    plateau = Plateau(patience=3)
    train(tmp_path / "some", targets, callbacks=[plateau])
    assert math.isfinite(plateau.best) and plateau.best_epoch == 1
    nothing = erased(targets, torch.zeros(N, dtype=torch.bool))
    with pytest.raises(ParamsError, match="Plateau: expected labels in the validation set"):
        train(tmp_path / "none", nothing, callbacks=[Plateau()])


@pytest.mark.parametrize("make", [Equal, GradNorm, Uncertainty, DynamicWeightAverage])
def test_a_divergence_is_an_error_that_names_task_and_step(make, tmp_path):
    targets = items()[1]
    targets[2][20] = 1e25  # its square is beyond single precision
    with pytest.raises(RunError, match=r"diverged at epoch 0, step \d: .* for year"):
        train(tmp_path, targets, make(3))
    targets[2][20] = 1.0
    alone = Items(items()[0], [targets[2] * 1e30])
    module = MultiTask(Net(TASKS[2:]), TASKS[2:])
    with pytest.raises(RunError, match="for year"):
        fit(module, alone, epochs=1, batch_size=B, root=tmp_path / "alone", device="cpu")


def test_a_validation_that_diverges_is_an_error(tmp_path):
    x, targets = items()
    wild = [*targets[:2], targets[2] * 1e30]
    module = MultiTask(Net(TASKS), TASKS)
    with pytest.raises(RunError, match="validation after epoch 0: the loss of year is inf"):
        fit(module, Items(x, targets), Items(x, wild), epochs=1, batch_size=B, root=tmp_path, device="cpu")


def half_precision(module, targets, epochs, tmp_path):
    "Lightning's 16-mixed with a scaler, which its Trainer offers on GPUs only."
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**24)
    plugin = MixedPrecision("16-mixed", "cpu", scaler)
    data = Items(items()[0], targets)
    batches = [data[np.arange(start, start + B)] for start in range(0, N, B)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's, on loaders without workers
        trainer = L.Trainer(
            max_epochs=epochs,
            accelerator="cpu",
            plugins=plugin,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            default_root_dir=tmp_path,
        )
        trainer.fit(module, torch.utils.data.DataLoader(batches, batch_size=None))
    return scaler.get_scale()


@pytest.mark.parametrize("make", [Equal, lambda k: GradNorm(k, lr=0.01), Uncertainty])
def test_half_precision_goes_on_after_its_first_overflows(make, tmp_path):
    module = MultiTask(Net(TASKS), TASKS, make(3), lr=0.01)
    before = module.net.layer.weight.detach().clone()
    scale = half_precision(module, items()[1], 4, tmp_path)
    assert 1 < scale < 2.0**24 and not torch.equal(module.net.layer.weight, before)
    assert module.history.weight.gt(0).all() and module.net.layer.weight.isfinite().all()
    if isinstance(module.balancer, GradNorm):
        norms = module.history.norm.to_numpy().reshape(-1, 3)
        skipped = ~np.isfinite(norms).all(1)
        weights = module.history.weight.to_numpy().reshape(-1, 3)
        assert skipped[0] and not skipped[-1] and (weights[: skipped.argmin() + 1] == 1).all()
        assert norms[~skipped].max() < 100  # free of the scaler's factor


def test_half_precision_that_never_recovers_is_an_error(tmp_path):
    x, targets = items()
    module = MultiTask(Net(TASKS), TASKS, GradNorm(3))
    with pytest.raises(RunError, match="for genre, tags, year .*51 steps in a row"):
        with torch.no_grad():
            module.net.layer.weight.fill_(math.nan)
        half_precision(module, targets, 20, tmp_path)
