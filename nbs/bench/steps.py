"""Training steps of the five networks, for `steps.ipynb`: `python steps.py NETWORK SIZE KIND THREADS`.

KIND is `ours`, of the package that Python finds (this or an older one), or `plain`, a loop as published code has it.
Prints the first losses as JSON, then seconds per step for every line that it is sent.
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
    from musicmtl.papers.tagging.model import Crops, Musicnn
except ImportError:  # before there was a folder for each paper
    from musicmtl.papers.agf import SharedLayerNet
    from musicmtl.papers.artist_language import FiveBlockCNN
    from musicmtl.papers.lstm_ensemble import SegmentLSTM, binary_task, genre_task
    from musicmtl.papers.tagging import Crops, Musicnn

from musicmtl.balance import GradNorm, backward, fan_out
from musicmtl.learn import Items, MultiTask, Windows, fit
from musicmtl.tasks import classification, distribution, multilabel

N = 96  # Items of the made-up corpora
STEPS = 4  # Of an epoch; the first is not counted


def classes(n: int) -> torch.Tensor:
    return torch.randint(0, n, (N,))


def windows(bands: int, frames: int, length: int, targets: list) -> Windows:
    "Windows of made-up log-mel maps."
    return Windows(torch.randn(N, bands, frames), np.arange(N), np.zeros(N, int), length, targets)


def agf(mini: bool):
    tasks = [classification("genre", 16)] + [distribution(f"factor{k}", 40) for k in range(4)]
    targets = [classes(16)] + [torch.rand(N, 40).softmax(-1) for _ in range(4)]
    data = windows(128, 400, 322, targets)
    return SharedLayerNet((16, 40, 40, 40, 40), width_divisor=8 if mini else 1), tasks, GradNorm(5), data, 12


def artist_language(mini: bool):
    tasks = [classification("artist", 68), classification("language", 17)]
    data = windows(96, 200, 187, [classes(68), classes(17)])
    return FiveBlockCNN((68, 17), width_divisor=4 if mini else 1), tasks, GradNorm(2), data, 32


def lstm_ensemble(mini: bool):
    tasks = [genre_task(10), binary_task(10)]
    labels = classes(10)
    data = Items(torch.randn(N, 120, 25), (labels, torch.nn.functional.one_hot(labels, 10)))
    return SegmentLSTM(10, 50 if mini else 100, "binary"), tasks, GradNorm(2), data, 48


def tagging(mini: bool):
    data = Crops(torch.randn(N, 64000), [torch.randint(0, 2, (N, 50)).float()])
    return Musicnn(50, 13 if mini else 1), [multilabel("tags", 50)], None, data, 16


NETWORKS = {"agf": agf, "artist_language": artist_language, "lstm_ensemble": lstm_ensemble, "tagging": tagging}


def module_of(network: str, size: str):
    "A training ready to begin, its data and the size of a batch."
    torch.manual_seed(0)
    net, tasks, balancer, data, batch = NETWORKS[network](size == "mini")
    for part in net.modules():
        if isinstance(part, torch.nn.Dropout):
            part.p = 0.0  # first losses are compared
    return MultiTask(net, tasks, balancer, lr=1e-3, seed=0), data, batch


class Gaps(L.Callback):
    "Seconds from the end of each step to the end of the next, with everything between."

    def __init__(self):
        self.ends = []

    def on_train_batch_end(self, *_):
        self.ends.append(time.perf_counter())

    def seconds(self) -> float:
        return float(np.median(np.diff(self.ends)))


def ours(network: str, size: str):
    "Trains an epoch by `fit`."
    module, data, batch = module_of(network, size)
    first = copy.deepcopy(module)

    def epoch() -> float:
        gaps = Gaps()
        with tempfile.TemporaryDirectory() as folder:
            options = {"epochs": 1, "batch_size": batch, "steps_per_epoch": STEPS, "device": "cpu"}
            fit(copy.deepcopy(first), data, root=Path(folder) / "fit", callbacks=[gaps], **options)
        return gaps.seconds()

    x, targets = data[np.arange(batch)]
    logits = first.net(x)
    logits = [logits] if isinstance(logits, torch.Tensor) else logits
    losses = [task.loss(*pair).item() for task, *pair in zip(first.tasks, logits, targets, strict=True)]
    return losses, epoch


def as_written(net):
    "The network in its plain arrangement: layers as the paper lists them, none rearranged to be fast."
    if hasattr(net, "stacked"):
        net.stacked = False
    for layer in net.modules():
        if type(layer).__name__ == "VerticalConv":
            layer.forward = lambda mel, layer=layer: layer.relu(layer.bn(layer.conv(mel))).amax(2)
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


def balanced_as_published(losses, weights, W, optimiser):
    "Every task's gradient at W through the whole network, then the sum's (the published order of computation)."
    rows = [torch.autograd.grad(loss, W, retain_graph=True)[0].flatten() for loss in losses]
    norms = torch.stack([row.norm() for row in rows])
    (weights * torch.stack(losses)).sum().backward()
    optimiser.step()
    return norms


def plain(network: str, size: str):
    "Trains an epoch by a loop over a `DataLoader`."
    module, data, batch = module_of(network, size)
    net, tasks = as_written(module.net), module.tasks
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    loader = torch.utils.data.DataLoader(OneByOne(data), batch_size=batch, shuffle=True)
    weights = torch.ones(len(tasks))

    def losses_of(x, targets):
        logits = net(x)
        logits = [logits] if isinstance(logits, torch.Tensor) else logits
        return [task.loss(*pair) for task, *pair in zip(tasks, logits, targets, strict=True)]

    def step(x, targets):
        optimiser.zero_grad()
        losses = losses_of(x, targets)
        if len(tasks) > 1:
            balanced_as_published(losses, weights, net.shared_weight, optimiser)
        else:
            losses[0].backward()
            optimiser.step()
        return [loss.item() for loss in losses]

    def epoch() -> float:
        ends, batches = [], iter(loader)
        for _ in range(STEPS):
            try:
                x, targets = next(batches)
            except StopIteration:
                batches = iter(loader)
                x, targets = next(batches)
            step(x, targets)
            ends.append(time.perf_counter())
        return float(np.median(np.diff(ends)))

    return [loss.item() for loss in losses_of(*data[np.arange(batch)])], epoch


def profile(network: str, size: str, n: int):
    "The operations of a step that take the most time: a table of `n` rows."
    from musicmtl.study.bench import hot_spots

    module, data, batch = module_of(network, size)
    net, tasks, balancer = module.net, module.tasks, module.balancer
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    x, targets = data[np.arange(batch)]

    def step():
        optimiser.zero_grad()
        if len(tasks) == 1:
            tasks[0].loss(net(x), targets[0]).backward()
        else:
            fan = fan_out(net.shared(x), len(tasks))
            pairs = zip(tasks, net.heads(list(fan)), targets, strict=True)
            backward([task.loss(*pair) for task, *pair in pairs], fan, balancer, net.shared_weight)
        optimiser.step()

    return hot_spots(step, n=n)


def main(network: str, size: str, kind: str, threads: str):
    torch.set_num_threads(int(threads))
    warnings.simplefilter("ignore")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    losses, epoch = {"ours": ours, "plain": plain}[kind](network, size)
    print("LOSSES", json.dumps(losses), flush=True)
    for _ in sys.stdin:
        print("SECONDS", epoch(), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
