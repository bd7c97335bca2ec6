"""A training of a fraction of a second: a network of two heads on made-up windows. Processes of their own import it."""

import numpy as np
import torch

from musicmtl.balance import GradNorm
from musicmtl.learn import MultiTask, Windows
from musicmtl.tasks import classification

TASKS = [classification("a", 2), classification("b", 3)]


class Net(torch.nn.Module):
    "A shared convolution and two heads, with dropout."

    def __init__(self):
        super().__init__()
        self.first, self.drop = torch.nn.Conv1d(6, 8, 3), torch.nn.Dropout(0.3)
        self.out = torch.nn.ModuleList(torch.nn.Linear(8, n) for n in (2, 3))

    @property
    def shared_weight(self):
        return self.first.weight

    def shared(self, x):
        return torch.relu(self.first(x.squeeze(1)))

    def heads(self, views):
        return [out(self.drop(view).mean(2)) for out, view in zip(self.out, views, strict=True)]

    def forward(self, x):
        return self.heads([self.shared(x)] * 2)


def data():
    "Two windows of each of 40 maps."
    n = 40
    maps = torch.randn(n, 6, 20, generator=torch.Generator().manual_seed(0))
    loud = torch.arange(n) % 2
    maps[loud == 1, :2] += 1
    targets = loud.repeat_interleave(2), (torch.arange(n) % 3).repeat_interleave(2)
    return Windows(maps, np.arange(n).repeat(2), np.tile([0, 8], n), 12, targets)


def module(seed=0, balancer=None, lr=0.01, **kwargs):
    "The network with fresh weights, as `fit` takes it."
    torch.manual_seed(seed)
    return MultiTask(Net(), TASKS, balancer or GradNorm(2, lr=0.01), lr=lr, seed=seed, **kwargs)
