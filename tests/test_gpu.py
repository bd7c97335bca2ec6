"On a GPU, the same trainings find the same numbers as on the CPU."

import importlib.util

import lightning as L
import numpy as np
import pytest
import torch

from musicmtl.balance import Aggregate, GradNorm, Uncertainty
from musicmtl.core import repo_root
from musicmtl.learn import Items, MultiTask, fit
from musicmtl.tasks import classification

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
STEPS = 6


@pytest.fixture(scope="module")
def made():
    "The trainings that nbs/bench measures."
    file = repo_root() / "nbs" / "bench" / "steps.py"
    spec = importlib.util.spec_from_file_location("steps", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def trained(module, data, batch, root, device):
    "In double precision, so that nothing but an error can grow from step to step."
    options = {"epochs": 1, "batch_size": batch, "steps_per_epoch": STEPS, "device": device, "precision": "64-true"}
    return fit(module, data, data, root=root / device, **options)


@pytest.mark.parametrize("network", ["agf", "artist_language", "lstm_ensemble", "pase", "tagging"])
def test_a_training_is_that_of_the_cpu(network, made, tmp_path):
    found = {}
    for device in ("cpu", "gpu"):
        module, data, batch = made.module_of(network, "mini")
        found[device] = trained(module, data, batch, tmp_path, device)
    here, there = (found[device].history for device in ("cpu", "gpu"))
    assert len(here) == STEPS * len(found["cpu"].tasks)
    for column in ("loss", "weight", "norm"):
        np.testing.assert_allclose(there[column], here[column], rtol=1e-6, equal_nan=True)
    np.testing.assert_allclose(found["gpu"].valid_history.loss, found["cpu"].valid_history.loss, rtol=1e-6)


@pytest.mark.parametrize("network", ["agf", "artist_language", "lstm_ensemble", "pase", "tagging"])
def test_the_first_losses_are_those_of_the_cpu(network, made):
    "In single precision, with TF32's ten bits where PyTorch uses it."
    module, data, batch = made.module_of(network, "mini")
    expected = made.first_losses(module, data, batch)
    np.testing.assert_allclose(made.first_losses(module.to("cuda"), data, batch), expected, rtol=2e-3)


class Shared(torch.nn.Module):
    "A shared layer with three heads."

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer, self.ends = torch.nn.Linear(8, 6), torch.nn.ModuleList(torch.nn.Linear(6, 3) for _ in range(3))

    @property
    def shared_weight(self):
        return self.layer.weight

    def shared(self, x):
        return self.layer(x).relu()

    def heads(self, views):
        return [end(view) for end, view in zip(self.ends, views, strict=True)]

    def forward(self, x):
        return self.heads([self.shared(x)] * 3)


TASKS = [classification(f"task {k}", 3) for k in range(3)]


def items():
    "64 of them, with three labels; half lack the third."
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (3, 64), generator=rng)
    labels[2, ::2] = -1
    return Items(torch.randn(64, 8, generator=rng), list(labels))


def mgda():
    from torchjd.aggregation import MGDAWeighting

    return Aggregate(MGDAWeighting(), 3)


BALANCERS = {
    "GradNorm, epoch": lambda: GradNorm(3),
    "GradNorm, ema": lambda: GradNorm(3, initial="ema", alpha=1.5, lr=0.05),
    "uncertainty": lambda: Uncertainty(3, lr=0.05),
    "MGDA": mgda,
}


@pytest.mark.parametrize("name", list(BALANCERS))
def test_a_balancer_on_a_gpu_is_that_of_the_cpu(name, tmp_path):
    found = {}
    for device in ("cpu", "gpu"):
        module = MultiTask(Shared(), TASKS, BALANCERS[name](), lr=1e-2)
        options = {"epochs": 3, "batch_size": 8, "device": device}
        found[device] = fit(module, items(), root=tmp_path / device, **options)
    here, there = (found[device].history for device in ("cpu", "gpu"))
    assert here.weight.nunique() > 10
    for column in ("loss", "weight", "norm"):
        np.testing.assert_allclose(there[column], here[column], rtol=1e-3, atol=1e-5, equal_nan=True)
    states = [found[device].balancer.state_dict() for device in ("cpu", "gpu")]
    first, second = (state.get("weights", state.get("log_variances")) for state in states)
    np.testing.assert_allclose(second.cpu(), first.cpu(), rtol=1e-3, atol=1e-5)


def test_a_training_stopped_on_a_gpu_goes_on(tmp_path):
    "Cut in its last epoch and continued, it has the numbers of one that was not cut."

    def training(root, callbacks=()):
        module = MultiTask(Shared(), TASKS, GradNorm(3), lr=1e-2)
        return fit(module, items(), root=root, epochs=3, batch_size=8, device="gpu", callbacks=callbacks)

    class Cut(L.Callback):
        def on_train_epoch_start(self, trainer, module):
            if trainer.current_epoch == 2:
                raise InterruptedError

    whole = training(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        training(tmp_path / "cut", [Cut()])
    again = training(tmp_path / "cut")
    for column in ("loss", "weight", "norm"):
        np.testing.assert_allclose(again.history[column], whole.history[column], rtol=1e-5)
