"Balancers against their slow definitions, and the fan against separate backward passes."

import copy
import gc
import math
import weakref
from datetime import timedelta
from functools import partial

import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F

from musicmtl.balance import (
    Aggregate,
    DynamicWeightAverage,
    Equal,
    GradNorm,
    PublishedGradNorm,
    Reciprocal,
    Static,
    Uncertainty,
    backward,
    fan_out,
    gramian,
    targets,
)
from musicmtl.core import ParamsError

K = 3


class Net(nn.Module):
    "A shared layer and K branches; `kind` says what the shared layer is."

    def __init__(self, kind="conv", k=K):
        super().__init__()
        self.kind = kind
        self.layer = {
            "conv": nn.Conv2d(1, 4, 3, padding=1),
            "linear": nn.Linear(10, 8),
            "lstm": nn.LSTM(10, 8, batch_first=True),
        }[kind]
        self.branches = nn.ModuleList(self.branch() for _ in range(k))

    def branch(self):
        if self.kind != "conv":
            return nn.Sequential(nn.Linear(8, 6), nn.ELU(), nn.Linear(6, 5))
        pooled = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5))
        return nn.Sequential(nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ELU(), pooled)

    def shared(self, x):
        if self.kind == "conv":
            return F.elu(F.max_pool2d(self.layer(x[:, None]), (2, 1)))
        return self.layer(x)[0][:, -1] if self.kind == "lstm" else F.elu(self.layer(x.mean(1)))

    def heads(self, views):
        return [branch(view) for branch, view in zip(self.branches, views, strict=True)]

    @property
    def W(self):
        if self.kind != "lstm":
            return self.layer.weight
        return [parameter for name, parameter in self.layer.named_parameters() if "weight" in name]


def data(dtype=torch.float32, seed=0):
    "Eight items, and their classes for K tasks."
    rng = torch.Generator().manual_seed(seed)
    x = torch.randn(8, 12, 10, generator=rng, dtype=torch.float64).to(dtype)
    return x, [torch.randint(0, 5, (8,), generator=rng) for _ in range(K)]


def loss_list(net, views, ys):
    "A loss per task; they differ in size, so that their norms do."
    losses = [F.cross_entropy(logits, y) for logits, y in zip(net.heads(views), ys, strict=True)]
    return [10.0**i * loss / 10 for i, loss in enumerate(losses)]


def losses_of(net, views, ys):
    return torch.stack(loss_list(net, views, ys))


def separate(net, losses):
    "Gradients at W by K backward passes through everything."
    rows = []
    for loss in losses:
        parts = torch.autograd.grad(loss, net.W, retain_graph=True)
        rows.append(torch.cat([part.flatten() for part in parts]))
    return torch.stack(rows)


def gradients_of(net):
    return [parameter.grad.clone() for parameter in net.parameters()]


def assert_close(ours, theirs, **tolerance):
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, **tolerance)


# The fan


@pytest.mark.parametrize("kind", ["conv", "linear", "lstm"])
def test_fan_catches_what_separate_passes_find_and_changes_nothing(kind):
    net = Net(kind).double()
    x, ys = data(dtype=torch.float64)
    losses = losses_of(net, [net.shared(x)] * K, ys)
    rows = separate(net, losses)
    losses.sum().backward()
    plain = gradients_of(net)
    net.zero_grad()
    fan = fan_out(net.shared(x), K).watch(net.W, keep=True)
    losses_of(net, fan, ys).sum().backward()
    assert_close(gradients_of(net), plain)
    torch.testing.assert_close(fan.shared_gradients(), rows)
    torch.testing.assert_close(gramian(fan.shared_gradients()), rows @ rows.T)
    assert [gradient.shape for gradient in fan.gradients()] == [fan[0].shape] * K


def test_a_head_without_a_loss_has_a_zero_row():
    net, (x, ys) = Net(), data()
    fan = fan_out(net.shared(x), K).watch(net.W)
    losses_of(net, fan, ys)[[0, 2]].sum().backward()
    assert (fan.shared_gradients()[1] == 0).all() and (fan.shared_gradients()[[0, 2]].norm(dim=1) > 0).all()


def test_fan_without_gradients_is_the_output_itself():
    net, (x, _) = Net(), data()
    with torch.no_grad():
        h = net.shared(x)
    fan = fan_out(h, K)
    assert len(fan) == K and all(view is h for view in fan)
    with pytest.raises(ParamsError, match="frozen"):
        fan.watch(net.W)
    with pytest.raises(ParamsError, match="whole number"):
        fan_out(h, 0)


def test_fan_frees_its_graph_without_the_garbage_collector():
    net, (x, _) = Net(), data()
    gc.disable()
    try:
        fan = fan_out(net.shared(x), K).watch(net.W)
        view = weakref.ref(fan[0])
        del fan
        assert view() is None  # never went backward
    finally:
        gc.enable()


# GradNorm


def train(kind, dtype, step, steps=20, per_epoch=7):
    torch.manual_seed(3)
    net = Net(kind).to(dtype)
    optimiser = torch.optim.Adam(net.parameters(), 1e-2)
    weights = []
    for t in range(steps):
        x, ys = data(dtype=dtype, seed=t)
        optimiser.zero_grad()
        weights.append(step(net, x, ys, t % per_epoch == 0))
        optimiser.step()
    return torch.stack(weights), [parameter.detach().clone() for parameter in net.parameters()]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("textbook", [False, True])
def test_gradnorm_equals_the_published_order_over_twenty_steps(dtype, textbook):
    fast, slow = GradNorm(K, lr=0.01), PublishedGradNorm(K, lr=0.01, textbook=textbook, dtype=dtype)

    def ours(net, x, ys, new):
        fan = fan_out(net.shared(x), K)
        backward(losses_of(net, fan, ys), fan, fast, net.W, new)
        return fast.weights

    def published(net, x, ys, new):
        slow.backward(losses_of(net, [net.shared(x)] * K, ys), net.W, new)
        return slow.weights.detach().double().clone()

    weights, net = train("conv", dtype, ours)
    expected_weights, expected_net = train("conv", dtype, published)
    assert (weights[-1] - 1).abs().max() > 0.1  # the weights did move
    assert (weights - expected_weights).abs().max() <= 1e-5
    if (
        dtype == torch.float64
    ):  # in float32, the gradient of a bias before a batch norm is rounding, which Adam enlarges
        assert_close(net, expected_net, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.15, 0.5, 1.5])
def test_slow_learner_gets_the_larger_target(alpha):
    losses, norms = torch.tensor([0.9, 0.5, 0.1]), torch.tensor([0.2, 3.0, 1.0])
    slow, middle, fast = targets(losses, torch.ones(3), norms, alpha)
    assert slow > middle > fast
    torch.testing.assert_close(targets(losses, torch.ones(3), norms, 0.0), norms.mean().expand(3))


@pytest.mark.parametrize("initial", ["epoch", "first", "log_classes", "ema"])
def test_slow_learner_gains_weight_and_the_sum_stays(initial):
    gradnorm = GradNorm(2, lr=0.01, initial=initial, n_classes=[8, 8])
    for t in range(40):
        weights = gradnorm.step([2.0, 2 * 0.9**t], [1.0, 1.0], new_epoch=t == 0)
        assert weights.sum().item() == pytest.approx(2)
    assert weights[0] > 1.05


def test_initial_losses():
    epochs = [[4.0, 2.0], [3.0, 1.0], [2.0, 1.0]], [[1.0, 0.5], [0.5, 0.25]]
    seen = {}
    for name in ("epoch", "first", "log_classes", "ema"):
        gradnorm, seen[name] = GradNorm(2, initial=name, n_classes=(16, 40), decay=0.5), []
        for epoch in epochs:
            for t, losses in enumerate(epoch):
                gradnorm.step(losses, [1.0, 1.0], t == 0)
                seen[name].append(gradnorm.state_dict()["initial"].tolist())
    assert seen["epoch"] == [[4, 2]] * 3 + [[1, 0.5]] * 2
    assert seen["first"] == [[4, 2]] * 5
    assert seen["log_classes"][0] == pytest.approx([math.log(16), math.log(40)])
    average = [((4 + 3) / 2 + 2) / 2, ((2 + 1) / 2 + 1) / 2]  # after the first epoch
    assert seen["ema"] == [[4, 2]] * 3 + [pytest.approx([(average[0] + 1) / 2, (average[1] + 0.5) / 2])] * 2


def test_weights_of_a_step_are_those_before_the_update():
    net, (x, ys) = Net(), data()
    gradnorm = GradNorm(K, lr=0.1)
    fan = fan_out(net.shared(x), K)
    log = backward(losses_of(net, fan, ys), fan, gradnorm, net.W, True)
    ours = gradients_of(net)
    assert log["weights"].tolist() == [1] * K != gradnorm.weights.tolist()
    net.zero_grad()
    losses_of(net, [net.shared(x)] * K, ys).sum().backward()
    assert_close(ours, gradients_of(net))


def test_norms_are_unweighted_also_for_negative_and_zero_weights():
    net, (x, ys) = Net().double(), data(dtype=torch.float64)
    rows = separate(net, losses_of(net, [net.shared(x)] * K, ys))
    gradnorm = GradNorm(K)
    gradnorm._weights.copy_(torch.tensor([-0.5, 0.0, 3.5]))
    fan = fan_out(net.shared(x), K)
    found = backward(losses_of(net, fan, ys), fan, gradnorm, net.W)["gramian"]
    expected = rows @ rows.T
    expected[1] = expected[:, 1] = 0
    torch.testing.assert_close(found, expected)
    assert gradnorm.weights.isfinite().all() and gradnorm.weights.sum().item() == pytest.approx(K)


@pytest.mark.parametrize("name", ["epoch", "first", "ema"])
def test_a_task_without_labels_has_no_initial_loss(name):
    gradnorm = GradNorm(2, initial=name, lr=0.01)
    gradnorm.step([0.0, 1.0], [0.0, 1.0], True)  # nothing labelled for the first task
    gradnorm.step([2.0, 1.0], [1.0, 1.0])
    weights = gradnorm.step([0.0, 1.0], [0.0, 1.0], True)
    assert weights.isfinite().all() and (gradnorm.state_dict()["initial"] > 0).all()
    assert GradNorm(2).step([0.0, 0.0], [0.0, 0.0], True).tolist() == [1, 1]


def run_on(balancer, steps, offset=0):
    "Weights of each step, on losses and gradients drawn by the step's number."
    weights = []
    for t in range(offset, offset + steps):
        rng = torch.Generator().manual_seed(t)
        rows = torch.randn(K, 7, generator=rng, dtype=torch.float64)
        weights.append(balancer.update(torch.rand(K, generator=rng) + 0.1, rows @ rows.T, t % 4 == 0))
    return torch.stack(weights)


def mgda():
    from torchjd.aggregation import MGDAWeighting

    return Aggregate(MGDAWeighting())


def gradnorm_from(initial):
    return partial(GradNorm, K, lr=0.05, initial=initial, n_classes=[4, 5, 6])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Equal(K),
        lambda: Static([1.0, 2.0, 3.0]),
        lambda: DynamicWeightAverage(K),
        lambda: Uncertainty(K, lr=0.1),
        mgda,
        *map(gradnorm_from, ("epoch", "first", "log_classes", "ema")),
    ],
)
def test_a_restored_balancer_goes_on_identically(make, tmp_path):
    balancer = make()
    run_on(balancer, 6)
    torch.save(balancer.state_dict(), tmp_path / "state.pt")
    expected = run_on(balancer, 9, offset=6)
    restored = make()
    restored.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(run_on(restored, 9, offset=6), expected)


@pytest.mark.parametrize("make", [GradNorm, Uncertainty, DynamicWeightAverage])
def test_a_saved_state_does_not_change_with_later_steps(make):
    balancer = make(K)
    run_on(balancer, 3)
    state = balancer.state_dict()
    before = copy.deepcopy(state)
    run_on(balancer, 3)
    assert repr(state) == repr(before) != repr(balancer.state_dict())


# The others


def test_fixed_weights():
    assert Equal(2).weights.tolist() == [1, 1]
    static = Static([1, 0.5])
    static.weights[0] = 9  # a copy
    assert static.weights.tolist() == [1, 0.5]
    assert Reciprocal([[1.0, 4.0], [3.0, 4.0]]).weights.tolist() == [0.5, 0.25]
    assert Reciprocal([[1.0, 4.0], [3.0, 4.0]], normalize="mean1").weights.mean().item() == 1


def test_uncertainty_is_the_gradient_of_its_objective():
    losses, s = torch.tensor([3.0, 0.2, 1.0]), torch.zeros(K, dtype=torch.float64, requires_grad=True)
    adam, uncertainty = torch.optim.Adam([s], 0.05), Uncertainty(K, lr=0.05)
    for _ in range(10):
        adam.zero_grad()
        (torch.exp(-s) * losses + s).sum().backward()
        adam.step()
        torch.testing.assert_close(uncertainty.update(losses), torch.exp(-s).detach())


def test_dynamic_weight_average_by_hand():
    balancer, means = DynamicWeightAverage(2, temperature=0.5), []
    for epoch in range(4):
        batches = torch.rand(3, 2, dtype=torch.float64) + epoch
        for t, losses in enumerate(batches):
            weights = balancer.update(losses, new_epoch=t == 0)
            expected = 2 * (means[-1] / means[-2] / 0.5).softmax(0) if epoch > 1 else torch.ones(2).double()
            torch.testing.assert_close(weights, expected)
        means.append(batches.mean(0))


def test_dynamic_weight_average_is_in_force_from_the_first_batch_of_an_epoch():
    net, (x, ys), balancer = Net(), data(), DynamicWeightAverage(K)
    for losses in ([4.0, 4.0, 4.0], [1.0, 2.0, 4.0]):
        balancer.update(torch.tensor(losses), new_epoch=True)
    fan = fan_out(net.shared(x), K)
    log = backward(losses_of(net, fan, ys), fan, balancer, new_epoch=True)
    torch.testing.assert_close(log["weights"], K * torch.tensor([0.125, 0.25, 0.5]).double().softmax(0))


@pytest.mark.parametrize("name", ["UPGrad", "DualProj", "MGDA", "IMTLG", "AlignedMTL", "PCGrad"])
def test_aggregate_equals_torchjds_own_backward(name):
    from torchjd import aggregation
    from torchjd.autojac import jac_to_grad, mtl_backward

    if name in ("UPGrad", "DualProj"):
        pytest.importorskip("quadprog", reason="needs torchjd[quadprog_projector]")
    net = Net().double()
    x, ys = data(dtype=torch.float64)
    torch.manual_seed(0)  # PCGrad draws an order
    h = net.shared(x)
    mtl_backward(loss_list(net, [h] * K, ys), features=h)
    jac_to_grad(net.layer.parameters(), getattr(aggregation, name)())
    expected = gradients_of(net)
    net.zero_grad()
    torch.manual_seed(0)
    fan, balancer = fan_out(net.shared(x), K), Aggregate(getattr(aggregation, f"{name}Weighting")())
    log = backward(losses_of(net, fan, ys), fan, balancer, list(net.layer.parameters()))
    assert_close(gradients_of(net), expected, atol=1e-7, rtol=1e-5)
    assert log["total"].item() == pytest.approx((log["weights"] * log["losses"]).sum().item())


@pytest.mark.parametrize("make", [lambda: GradNorm(K), mgda])
def test_loss_scaling_is_taken_out(make):
    net, (x, ys) = Net(), data()

    def scaled(total):
        (1024 * total).backward()

    logs = []
    for run in (torch.Tensor.backward, scaled):
        net.zero_grad()
        fan = fan_out(net.shared(x), K)
        logs.append(backward(losses_of(net, fan, ys), fan, make(), net.W, run=run))
    for name in ("gramian", "weights", "total"):
        torch.testing.assert_close(logs[0][name], logs[1][name])


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: GradNorm(0), "n_tasks"),
        (lambda: GradNorm(2, alpha=-0.1), "alpha"),
        (lambda: GradNorm(2, lr="x"), "lr"),
        (lambda: GradNorm(2, initial="last"), "initial: .*found 'last'"),
        (lambda: GradNorm(2, initial="log_classes"), "n_classes"),
        (lambda: GradNorm(2, decay=1), "decay"),
        (lambda: GradNorm(2, initial="log_classes", n_classes=[3]), "n_classes"),
        (lambda: GradNorm(2).step([1.0, math.nan], [1.0, 1.0]), "losses: expected finite"),
        (lambda: GradNorm(2).step([1.0, -1.0], [1.0, 1.0]), "losses: expected numbers >= 0"),
        (lambda: GradNorm(2).step([1.0, 1.0, 1.0], [1.0, 1.0]), r"losses: .*\(2\), found shape \[3\]"),
        (lambda: GradNorm(2).step([1.0, 1.0], [1.0, -1.0]), "norms"),
        (lambda: GradNorm(2).update([1.0, 1.0]), "gramian"),
        (lambda: GradNorm(2).load_state_dict({}), "state of GradNorm"),
        (lambda: Static([[1.0]]), "weights"),
        (lambda: Static([1.0, math.inf]), "weights: expected finite"),
        (lambda: Reciprocal([[0.0, 1.0]]), "positive"),
        (lambda: Reciprocal([1.0, 2.0]), "epochs × tasks"),
        (lambda: Uncertainty(2).update(torch.tensor([math.inf, 1.0])), "losses"),
        (lambda: DynamicWeightAverage(2, temperature=0), "temperature"),
        (lambda: Aggregate("upgrad"), "weighting"),
        (lambda: mgda().update(torch.ones(2), torch.eye(3)), "gramian"),
        (lambda: mgda().update(torch.ones(2), torch.full((2, 2), math.nan)), "gramian: expected finite"),
    ],
)
def test_errors_name_what_is_wrong(call, message):
    with pytest.raises(ParamsError, match=message):
        call()


def test_backward_errors():
    net, (x, ys) = Net(), data()
    fan = fan_out(net.shared(x), K)
    losses = losses_of(net, fan, ys)
    wrong = [
        ((losses[:2], fan, Equal(K)), "losses"),
        ((losses, fan, Equal(2)), "balancer"),
        ((losses, fan, GradNorm(K)), "W:"),
        ((losses, fan, mgda()), "W:"),
    ]
    for arguments, message in wrong:
        with pytest.raises(ParamsError, match=message):
            backward(*arguments)


# Several processes


class Losses(nn.Module):
    "Losses and fan of a batch: what a data-parallel model may wrap."

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, ys):
        fan = fan_out(self.net.shared(x), K)
        return losses_of(self.net, fan, ys), [fan]


def two_steps(make, rank=None):
    "Weights, Gramian and gradients after two steps; `rank` takes its half of the batch, in a data-parallel model."
    torch.manual_seed(1)
    net, balancer = Net("linear").double(), make()
    model, items = Losses(net), slice(None)
    if rank is not None:
        model, items = nn.parallel.DistributedDataParallel(model), slice(4 * rank, 4 * rank + 4)
    x, ys = data(dtype=torch.float64)
    for _ in range(2):
        net.zero_grad()
        losses, (fan,) = model(x[items], [y[items] for y in ys])
        log = backward(losses, fan, balancer, net.W, True)
    return [balancer.weights, log["gramian"], *gradients_of(net)]


BALANCERS = {"gradnorm": partial(GradNorm, K, lr=0.1), "mgda": mgda}


def run_rank(rank, folder):
    "One of two processes; saves what `two_steps` gives for each balancer."
    import torch.distributed as dist

    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=meeting, timeout=timedelta(seconds=60))
    try:
        results = {name: two_steps(make, rank) for name, make in BALANCERS.items()}
        torch.save(results, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_two_processes_agree_with_one(tmp_path):
    other = torch.multiprocessing.get_context("spawn").Process(target=run_rank, args=(1, tmp_path))
    other.start()
    try:
        run_rank(0, tmp_path)
    finally:
        other.join()
    assert other.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, make in BALANCERS.items():
        assert torch.equal(first[name][0], second[name][0])
        assert_close(first[name], two_steps(make))
