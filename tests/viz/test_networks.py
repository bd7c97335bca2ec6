"Networks: every parameter once, shapes in the order of the calls, nothing changed by looking."

import matplotlib.colors
import pytest
import torch
from drawings import assert_drawn_alike
from torch import nn

from musicmtl import viz

SMALL = viz.architecture_table(nn.Sequential(nn.Linear(4, 3), nn.ReLU()), (2, 4))
FIGURES = dict(small=lambda: viz.architecture(SMALL))


@pytest.mark.parametrize("name", FIGURES)
def test_a_figure_is_the_same_file_every_time_and_its_style_does_not_leak(name, tmp_path):
    assert_drawn_alike(FIGURES[name], tmp_path)


class Branched(nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1))
        self.shared = nn.Conv2d(1, 4, 3, padding=1)

        def branch():
            return nn.Sequential(nn.Conv2d(4, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1))

        self.branches = nn.ModuleList([branch(), branch()])
        self.rnn = nn.LSTM(8, 5, batch_first=True)
        self.unused = nn.Linear(2, 2)

    def forward(self, x):
        h = self.shared(x) * self.scale
        outs = [b(h).flatten(2).transpose(1, 2) for b in self.branches]
        return [self.rnn(o)[0] for o in outs]


def test_architecture_table_counts_every_parameter_once_and_changes_nothing():
    net = Branched().train()
    net.branches[1][0].weight = net.branches[0][0].weight  # tied
    state = {k: v.clone() for k, v in net.state_dict().items()}
    for depth in (None, 1, 2):
        table = viz.architecture_table(net, (2, 1, 10, 10), depth=depth)
        assert table.parameters.sum() == sum(p.numel() for p in net.parameters())
    table = viz.architecture_table(net, torch.zeros(2, 1, 10, 10)).set_index("layer")
    assert (
        table.output["shared"] == "4×10×10" and table.output["branches.0.0"] == "8×8×8" and table.output["rnn"] == "1×5"
    )
    assert table.output["unused"] == "" and table.parameters["shared"] == 4 * 9 + 4
    assert net.training and net.branches[0][1].training
    assert all(torch.equal(v, state[k]) for k, v in net.state_dict().items())
    assert not any(m._forward_hooks for m in net.modules())


def test_rows_come_in_the_order_of_the_calls_and_a_second_call_changes_no_shape():
    class Backwards(nn.Module):
        def __init__(self):
            super().__init__()
            self.last, self.first = nn.Linear(3, 2), nn.Linear(4, 3)

        def forward(self, x):
            self.first(x.new_zeros(5, 4))
            return self.last(self.first(x.reshape(1, -1, 4)))

    table = viz.architecture_table(Backwards(), (2, 4))
    assert table.layer.tolist() == ["first", "last"] and table.output.tolist() == ["3", "2×2"]


def test_parameters_that_are_used_twice_count_once():
    net = Branched()
    before = viz.n_parameters(net)
    net.branches[1][0].weight = net.branches[0][0].weight
    assert before - viz.n_parameters(net) == 8 * 4 * 3 * 3


def test_architecture_draws_lanes_side_by_side():
    ax = viz.architecture(viz.architecture_table(Branched(), (2, 1, 10, 10)), lanes="branches")
    at = {t.get_text(): t.get_position() for t in ax.texts}
    (xa, ya), (xb, yb) = at["branches.0.0"], at["branches.1.0"]
    assert ya == yb and xb > xa and at["rnn"][1] > ya
    assert any("not called" in t for t in at)


def test_a_lane_has_the_colour_of_its_task():
    class Lanes(nn.Module):
        def __init__(self):
            super().__init__()
            self.heads = nn.ModuleDict({"genre": nn.Linear(2, 2), "other": nn.Linear(2, 2)})

        def forward(self, x):
            return [head(x) for head in self.heads.values()]

    ax = viz.architecture(viz.architecture_table(Lanes(), (1, 2)), lanes="heads")
    edges = [matplotlib.colors.to_hex(patch.get_edgecolor()) for patch in ax.patches[:2]]
    assert edges == [viz.colour("genre").lower(), "#444444"]
