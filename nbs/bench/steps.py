"""Training steps of the five networks, for `steps.ipynb`: `python steps.py NETWORK SIZE KIND [DEVICE]`.

KIND is `ours`, of the package that Python finds (this or an older one), or `plain`, a loop as published code has it.
Prints the first losses as JSON, then seconds per step for every line that it is sent, with as many
threads as the line says.
"""

import copy
import json
import logging
import sys
import tempfile
import time
import warnings
from pathlib import Path

import lightning as L
import numpy as np
import torch

try:
    from musicmtl.papers.agf.model import SharedLayerNet
    from musicmtl.papers.artist_language.model import FiveBlockCNN
    from musicmtl.papers.lstm_ensemble.model import SegmentLSTM, binary_task, genre_task
    from musicmtl.papers.pase.model import WORKERS, PASEPlus, Pretraining, PretrainNet
    from musicmtl.papers.tagging.model import Crops, Musicnn
except ImportError:  # before there was a folder for each paper
    from musicmtl.papers.agf import SharedLayerNet
    from musicmtl.papers.artist_language import FiveBlockCNN
    from musicmtl.papers.lstm_ensemble import SegmentLSTM, binary_task, genre_task
    from musicmtl.papers.pase import WORKERS, PASEPlus, Pretraining, PretrainNet
    from musicmtl.papers.tagging import Crops, Musicnn

from musicmtl.balance import Equal, GradNorm, backward, fan_out
from musicmtl.learn import Items, MultiTask, Windows, fit
from musicmtl.tasks import classification, distribution, multilabel

PAPERS = {"agf": 64, "pase": 16}  # Batches of the papers where a CPU is given less
N = 240  # Items of the made-up corpora
STEPS = {"cpu": 3, "cuda": 40}  # Of an epoch
FIRST = {"cpu": 1, "cuda": 10}  # Steps that are not counted


def classes(n: int) -> torch.Tensor:
    return torch.randint(0, n, (N,))


def windows(bands: int, frames: int, length: int, targets: list) -> Windows:
    "Windows of made-up log-mel maps."
    return Windows(torch.randn(N, bands, frames), np.arange(N), np.zeros(N, int), length, targets)


def agf(mini: bool, divisor: int = 4):
    tasks = [classification("genre", 16)] + [distribution(f"factor{k}", 40) for k in range(4)]
    targets = [classes(16)] + [torch.rand(N, 40).softmax(-1) for _ in range(4)]
    data = windows(128, 400, 322, targets)
    return SharedLayerNet((16, 40, 40, 40, 40), width_divisor=divisor if mini else 1), tasks, GradNorm(5), data, 12


def artist_language(mini: bool):
    tasks = [classification("artist", 68), classification("language", 17)]
    data = windows(96, 200, 187, [classes(68), classes(17)])
    return FiveBlockCNN((68, 17), width_divisor=4 if mini else 1), tasks, GradNorm(2), data, 32


def lstm_ensemble(mini: bool):
    tasks = [genre_task(10), binary_task(10)]
    labels = classes(10)
    data = Items(torch.randn(N, 120, 25), (labels, torch.nn.functional.one_hot(labels, 10)))
    return SegmentLSTM(10, 50 if mini else 100, "binary"), tasks, GradNorm(2), data, 48


def pase(mini: bool):
    "All six workers, cuts of a second; the waveform is its own target."
    net = PretrainNet(PASEPlus(*((64, 16) if mini else (512, 1))))
    targets = [torch.randn(N, n, 100) for name, n in WORKERS.items() if name != "waveform"]
    data = Items(0.1 * torch.randn(N, 16000), targets)
    return Pretraining(net, Equal(len(WORKERS)), lr=2e-3, worker_lr=1e-2), data, 8


def tagging(mini: bool):
    data = Crops(torch.randn(N, 64000), [torch.randint(0, 2, (N, 50)).float()])
    return Musicnn(50, 13 if mini else 1), [multilabel("tags", 50)], None, data, 16


def narrow_agf(mini: bool):
    "As preset mini was before the step became faster: a fourth of the width now costs what an eighth cost then."
    return agf(mini, divisor=8)


NETWORKS = {
    "agf": agf,
    "narrow_agf": narrow_agf,
    "artist_language": artist_language,
    "lstm_ensemble": lstm_ensemble,
    "pase": pase,
    "tagging": tagging,
}


def module_of(network: str, size: str, device: str = "cpu"):
    "A training ready to begin, its data and the size of a batch."
    torch.manual_seed(0)
    *made, data, batch = NETWORKS[network](size == "mini")
    batch = PAPERS.get(network, batch) if device == "cuda" else batch
    module = made[0] if network == "pase" else MultiTask(*made, lr=1e-3, seed=0)
    for part in module.net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # first losses are compared
    return module, data, batch


def first_losses(module, data, batch: int) -> list[float]:
    "Losses of all tasks for the first items."
    (x, targets), device = data[np.arange(batch)], next(module.net.parameters()).device
    x, targets = module.on_after_batch_transfer((x.to(device), [target.to(device) for target in targets]), 0)
    logits = module.net(x)
    logits = [logits] if isinstance(logits, torch.Tensor) else logits
    return [task.loss(*pair).item() for task, *pair in zip(module.tasks, logits, targets, strict=True)]


class Clock:
    "Seconds from the end of each step to the end of the next: their median, on a GPU (which runs behind) their mean."

    def __init__(self, device: str):
        self.device, self.n, self.ends = device, 0, []

    def step_ended(self):
        self.n += 1
        if self.device == "cpu":
            self.ends.append(time.perf_counter())
        elif self.n in (FIRST[self.device], STEPS[self.device]):
            torch.cuda.synchronize()
            self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        if self.device == "cpu":
            return float(np.median(np.diff(self.ends)))
        return (self.ends[1] - self.ends[0]) / (STEPS[self.device] - FIRST[self.device])


class Gaps(L.Callback):
    "A clock of `fit`'s steps, with everything between them."

    def __init__(self, device: str):
        self.clock = Clock(device)

    def on_train_batch_end(self, *_):
        self.clock.step_ended()


def ours(network: str, size: str, device: str):
    "Trains an epoch by `fit`."
    module, data, batch = module_of(network, size, device)
    first = copy.deepcopy(module)

    def epoch() -> float:
        gaps = Gaps(device)
        with tempfile.TemporaryDirectory() as folder:
            options = {"epochs": 1, "batch_size": batch, "steps_per_epoch": STEPS[device]}
            lightning = {"device": "gpu" if device == "cuda" else device, "callbacks": [gaps]}
            fit(copy.deepcopy(first), data, root=Path(folder) / "fit", **options, **lightning)
        return gaps.clock.seconds()

    return first_losses(first, data, batch), epoch


def as_written(net):
    "The network in its plain arrangement: layers as the paper lists them, none rearranged to be fast."
    if hasattr(net, "stacked"):
        net.stacked = False
    for layer in net.modules():
        if type(layer).__name__ == "VerticalConv":
            layer.forward = lambda mel, layer=layer: layer.relu(layer.bn(layer.conv(mel))).amax(2)
    if type(net).__name__ == "PretrainNet":
        from musicmtl.papers.pase import model

        model._plain_cpu = lambda x: False  # PyTorch's own operations
        model.gated_average = model.gated_average_loop
    return net


class OneByOne(torch.utils.data.Dataset):
    "Single items, as published code reads them."

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data)

    def __getitem__(self, item):
        x, targets = self.data[np.array([item])]
        return x[0], [target[0] for target in targets]


def balanced_as_published(losses, weights, W):
    "Every task's gradient at W through the whole network, then the sum's (the published order of computation)."
    rows = [torch.autograd.grad(loss, W, retain_graph=True)[0].flatten() for loss in losses]
    norms = torch.stack([row.norm() for row in rows])
    (weights * torch.stack(losses)).sum().backward()
    return norms


def steps_by_hand(module, optimiser):
    "A function that makes a step as published code does."
    net, tasks = module.net, module.tasks
    weights = torch.ones(len(tasks), device=next(net.parameters()).device)

    def step(x, targets):
        x, targets = module.on_after_batch_transfer((x, targets), 0)
        optimiser.zero_grad()
        logits = net(x)
        logits = [logits] if isinstance(logits, torch.Tensor) else logits
        losses = [task.loss(*pair) for task, *pair in zip(tasks, logits, targets, strict=True)]
        if isinstance(module.balancer, GradNorm):
            balanced_as_published(losses, weights, net.shared_weight)
        else:
            sum(losses).backward()
        optimiser.step()
        return [loss.item() for loss in losses]

    return step


def plain(network: str, size: str, device: str):
    "Trains an epoch by a loop over a `DataLoader`."
    module, data, batch = module_of(network, size, device)
    as_written(module.net)
    loader = torch.utils.data.DataLoader(OneByOne(data), batch_size=batch, shuffle=True, drop_last=True)
    first = first_losses(module, data, batch)
    module.to(device)
    step = steps_by_hand(module, torch.optim.Adam(module.net.parameters(), lr=1e-3))

    def epoch() -> float:
        clock, n = Clock(device), 0
        while n < STEPS[device]:
            for (x, targets), _ in zip(loader, range(STEPS[device] - n), strict=False):
                step(x.to(device), [target.to(device) for target in targets])
                clock.step_ended()
                n += 1
        return clock.seconds()

    return first, epoch


def profile(network: str, size: str, n: int, device: str = "cpu"):
    "The operations of a step that take the most time: a table of `n` rows."
    from musicmtl.study.bench import hot_spots

    module, data, batch = module_of(network, size, device)
    module.to(device)
    net, tasks, optimisers = module.net, module.tasks, module.configure_optimizers()
    optimisers = optimisers if isinstance(optimisers, (list, tuple)) else [optimisers]
    x, targets = data[np.arange(batch)]
    x, targets = module.on_after_batch_transfer((x.to(device), [target.to(device) for target in targets]), 0)

    def step():
        net.zero_grad()
        if len(tasks) == 1:
            tasks[0].loss(net(x), targets[0]).backward()
        else:
            fan = fan_out(net.shared(x), len(tasks))
            pairs = zip(tasks, net.heads(list(fan)), targets, strict=True)
            backward([task.loss(*pair) for task, *pair in pairs], fan, module.balancer, net.shared_weight)
        for optimiser in optimisers:
            optimiser.step()

    return hot_spots(step, n=n, device=device)


def main(network: str, size: str, kind: str, device: str = "cpu"):
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    losses, epoch = {"ours": ours, "plain": plain}[kind](network, size, device)
    print("LOSSES", json.dumps(losses), flush=True)
    for threads in sys.stdin:
        torch.set_num_threads(int(threads))
        print("SECONDS", epoch(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
