"Sounds and small networks for the tests of Musicnn and of the tagging study."

import torch

from musicmtl.musicnn import SR, WINDOW, Musicnn


def music(clips=2, samples=WINDOW, seed=0):
    "Chords under noise [clips, samples]."
    random = torch.Generator().manual_seed(seed)
    hz = 110 * 2 ** (torch.randint(0, 36, (clips, 3), generator=random) / 12)
    t = torch.arange(samples) / SR
    chords = 0.2 * torch.sin(2 * torch.pi * hz[..., None] * t).sum(1)
    return chords + 0.05 * torch.randn(clips, samples, generator=random)


def n_trained(net):
    return sum(weight.numel() for weight in net.parameters() if weight.requires_grad)


def tiny():
    return Musicnn(width_divisor=16)


def random_norms(net):
    "Batch norms as after a training."
    for module in net.modules():
        if hasattr(module, "running_mean"):
            torch.nn.init.normal_(module.running_mean, std=0.3)
            torch.nn.init.uniform_(module.running_var, 0.5, 2)
            torch.nn.init.uniform_(module.weight, 0.5, 1.5)
            torch.nn.init.normal_(module.bias, std=0.3)
    return net.eval()
