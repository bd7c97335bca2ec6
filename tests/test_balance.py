"Balancers against their slow definitions, and the fan against separate backward passes."

import copy
import gc
import math
import weakref
from contextlib import nullcontext
from datetime import timedelta
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn as nn
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from musicmtl import balance
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
    make_balancer,
    targets,
)
from musicmtl.core import ParamsError, generator, seed_everything
from musicmtl.ranks import averaged
from musicmtl.tasks import classification

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


# Tasks without labels


def uncertainty(k):
    return Uncertainty(k, lr=0.1)


def aggregate(name, k):
    from torchjd import aggregation

    return Aggregate(getattr(aggregation, f"{name}Weighting")(), k)


def gradnorm(initial, k):
    return GradNorm(k, lr=0.05, initial=initial, n_classes=[4] * k)


LEARNING = {
    **{f"gradnorm {initial}": partial(gradnorm, initial) for initial in ("epoch", "first", "log_classes", "ema")},
    "uncertainty": uncertainty,
    "average": DynamicWeightAverage,
}
GRAMIAN = {name: partial(aggregate, name) for name in ("MGDA", "UPGrad", "IMTLG", "AlignedMTL", "PCGrad", "GradVac")}
FIXED = {"equal": Equal, "static": lambda k: Static([0.5] * k), "reciprocal": lambda k: Reciprocal([[2.0] * k])}
EVERY = LEARNING | GRAMIAN | FIXED


def remembered(balancer, i):
    "What a balancer holds of task `i`."
    state = balancer.state_dict()
    kept = [state[name][i].item() for name in ("weights", "log_variances", "sum", "steps", "last") if name in state]
    return kept, state.get("adam", {}).get("state", {}).get(i), [state[x][i].item() for x in INITIAL if x in state]


INITIAL = ("initial", "average")
SIZES = st.sampled_from([1e-30, 1e-3, 1.0, 1e3, 1e30])


@st.composite
def courses(draw):
    "Steps of K tasks: which have labels, losses, gradients of very different sizes, first of an epoch or not."
    k, n = draw(st.integers(1, 5)), draw(st.integers(1, 30))
    size, shared_size = draw(SIZES), draw(st.booleans())
    rng = generator(draw(st.integers(0, 999)), "course")
    labelled = rng.random((n, k)) < rng.random(k)  # some tasks often, some seldom
    scale = size if shared_size else 10.0 ** rng.uniform(-30, 30, (n, k))
    losses = torch.from_numpy(rng.uniform(0.1, 2, (n, k)) * scale * labelled)
    rows = torch.from_numpy(rng.normal(size=(n, k, 7)) * (np.sqrt(scale) * labelled)[..., None])
    return [(mask, L, R @ R.T, t % 5 == 0) for t, (mask, L, R) in enumerate(zip(labelled, losses, rows, strict=True))]


def assert_share_kept(before, after, labelled, k):
    "Tasks with labels have together what they had, and all together K."
    labelled = torch.from_numpy(labelled)
    torch.testing.assert_close(after[labelled].sum(), before[labelled].sum(), rtol=1e-9, atol=1e-9)
    assert after.sum().item() == pytest.approx(k)


@pytest.mark.parametrize("name", LEARNING)
@given(course=courses())
@settings(max_examples=10)
def test_any_pattern_of_missing_labels_leaves_the_absent_untouched(name, course):
    k = len(course[0][0])
    balancer = LEARNING[name](k)
    for labelled, losses, products, new_epoch in course:
        before = [remembered(balancer, i) for i in range(k)]
        was, now = balancer.weights, balancer.update(losses, products, new_epoch)
        assert now.isfinite().all() and balancer.weights.equal(now)
        assert name == "average" or all(
            repr(remembered(balancer, i)) == repr(before[i]) for i in np.flatnonzero(~labelled)
        )
        if name.startswith("gradnorm"):
            assert_share_kept(was, now, labelled, k)
        elif name == "average":
            assert (now >= 0).all() and now.sum().item() == pytest.approx(k)
        else:
            assert (now > 0).all()
        assert math.isfinite(sum(sum(remembered(balancer, i)[2]) for i in range(k)))


@pytest.mark.parametrize("name", GRAMIAN | FIXED)
@given(course=courses())
@settings(max_examples=5)
def test_methods_of_the_gramian_are_finite_and_give_the_absent_nothing(name, course):
    k = len(course[0][0])
    balancer = EVERY[name](k)
    for labelled, losses, products, new_epoch in course:
        weights = balancer.update(losses, products, new_epoch)
        assert weights.isfinite().all() and weights.shape == (k,)
        if name in GRAMIAN:
            assert (weights[torch.from_numpy(~labelled)] == 0).all()
        if name == "MGDA" and labelled.any():
            assert weights.sum().item() == pytest.approx(1) and (weights >= 0).all()


@pytest.mark.parametrize("name", EVERY)
@given(seed=st.integers(0, 999), place=st.integers(0, 3))
@settings(max_examples=3)
def test_a_task_that_is_never_labelled_changes_nothing_for_the_others(name, seed, place):
    rng = generator(seed, "never")
    without, within = EVERY[name](3), EVERY[name](4)
    others = [i for i in range(4) if i != place]
    for t in range(20):
        labelled = rng.random(3) < 0.7
        losses = torch.from_numpy(rng.uniform(0.1, 2, 3) * labelled)
        rows = torch.from_numpy(rng.normal(size=(3, 7)) * labelled[:, None])
        wide, tall = torch.zeros(4).double(), torch.zeros(4, 7).double()
        wide[others], tall[others] = losses, rows
        torch.manual_seed(t)
        expected = without.update(losses, rows @ rows.T, t % 4 == 0)
        torch.manual_seed(t)
        weights = within.update(wide, tall @ tall.T, t % 4 == 0)
        torch.testing.assert_close(weights[others], expected, rtol=1e-6, atol=1e-9)
        assert name in GRAMIAN | FIXED or weights[place] == 1


@pytest.mark.parametrize("name", [*LEARNING, *(set(GRAMIAN) - {"PCGrad", "GradVac"})])  # these draw an order
@given(seed=st.integers(0, 999))
@settings(max_examples=3)
def test_the_order_of_tasks_does_not_matter(name, seed):
    rng = generator(seed, "order")
    order = rng.permutation(4)
    one, other = EVERY[name](4), EVERY[name](4)
    for t in range(20):
        labelled = rng.random(4) < 0.7
        losses = torch.from_numpy(rng.uniform(0.1, 2, 4) * labelled)
        rows = torch.from_numpy(rng.normal(size=(4, 7)) * labelled[:, None])
        weights = one.update(losses, rows @ rows.T, t % 4 == 0)
        permuted = other.update(losses[order], rows[order] @ rows[order].T, t % 4 == 0)
        torch.testing.assert_close(permuted, weights[order], rtol=1e-6, atol=1e-8)


@pytest.mark.parametrize("every", [2, 10, 50])
@pytest.mark.parametrize("name", LEARNING)
def test_labels_in_some_batches_only_do_not_change_where_weights_go(name, every):
    "Two tasks alike but for the share of batches that have labels."
    balancer = LEARNING[name](2)
    for t in range(600):
        present = torch.tensor([1.0, t % every == 0])
        weights = balancer.update(present, torch.diag(present), t % 7 == 0)
    torch.testing.assert_close(weights, torch.ones(2).double())


@pytest.mark.parametrize("initial, first", [("epoch", 3.0), ("first", 4.0), ("ema", 0.5 * 4 + 0.5 * 3)])
def test_the_initial_loss_is_that_of_the_first_batch_with_labels(initial, first):
    gradnorm = GradNorm(2, initial=initial, decay=0.5)
    steps = [(0.0, True), (4.0, False), (0.0, True), (0.0, False), (3.0, False), (2.5, False)]
    for loss, new_epoch in steps:
        gradnorm.step([1.0, loss], [1.0, loss], new_epoch)
    assert gradnorm.state_dict()["initial"].tolist() == [1, first]


def test_an_epoch_without_labels_is_skipped_by_the_average():
    whole, gaps = DynamicWeightAverage(3), DynamicWeightAverage(3)
    for losses in ([4.0, 1.0, 1.0], [2.0, 1.0, 1.0], [2.0, 1.0, 1.0]):
        expected = whole.update(losses := torch.tensor(losses), new_epoch=True)
        gaps.update(losses, new_epoch=True)
        gaps.update(losses * torch.tensor([1.0, 1, 0]))  # a batch without labels does not lower the mean
        for _ in range(2):
            weights = gaps.update(torch.zeros(3), new_epoch=True)  # nor does an epoch
    whole.update(losses, new_epoch=True)
    torch.testing.assert_close(weights, whole.weights)
    assert not torch.equal(weights, expected)


def test_a_step_without_any_labels_changes_nothing():
    for name, make in LEARNING.items():
        balancer = make(3)
        run_on(balancer, 3)
        before = balancer.state_dict()
        balancer.update(torch.zeros(3), torch.zeros(3, 3))
        assert repr(balancer.state_dict()) == repr(before), name


@pytest.mark.parametrize("name", ["gradnorm epoch", "MGDA", "UPGrad", "IMTLG"])
def test_a_head_cut_off_from_the_shared_layer_does_not_starve_the_others(name):
    "It has a loss, but sends no gradient."
    with_it, without = EVERY[name](3), EVERY[name](2)
    for t in range(30):
        rows = torch.randn(3, 7, dtype=torch.float64)
        rows[2] = 0
        losses = torch.rand(3) + 0.1
        weights = with_it.update(losses, rows @ rows.T, t == 0)
        expected = without.update(losses[:2], (rows @ rows.T)[:2, :2], t == 0)
    torch.testing.assert_close(weights[:2], expected)
    assert weights[2].item() == pytest.approx(1 if name.startswith("gradnorm") else expected.mean().item())


DEGENERATE = {
    "zero": torch.zeros(3, 3),
    "rank one": torch.tensor([1.0, 2, -3])[:, None] * torch.tensor([1.0, 2, -3]),
    "equal": torch.ones(3, 3),
    "negative eigenvalues": torch.ones(3, 3) - 1e-7 * torch.eye(3),
    "opposite": torch.tensor([[1.0, -1, 0], [-1, 1, 0], [0, 0, 1]]),
    "negative diagonal": torch.diag(torch.tensor([1.0, -1e-9, 1])),
}


@pytest.mark.parametrize("gramian", DEGENERATE.values(), ids=DEGENERATE)
def test_any_balancer_is_finite_for_a_degenerate_gramian(gramian):
    for name, make in EVERY.items():
        balancer = make(3)
        for t in range(4):
            assert balancer.update(torch.ones(3), gramian, t == 0).isfinite().all(), name


def test_methods_made_for_k_tasks_take_gaps():
    from torchjd.aggregation import ConstantWeighting, UPGradWeighting

    gramian = torch.diag(torch.tensor([1.0, 0.0, 1.0]))
    for weighting in (ConstantWeighting(torch.ones(3) / 3), UPGradWeighting(torch.ones(3) / 3)):
        weights = Aggregate(weighting).update(torch.tensor([1.0, 0.0, 1.0]), gramian)
        torch.testing.assert_close(weights, torch.tensor([1.0, 0, 1]).double() / 3)


@pytest.mark.parametrize("name", ["GradVac", "PCD", "SDMGrad"])
def test_methods_that_remember_do_so_for_each_combination_of_tasks(name):
    def run(balancer, steps):
        for t in steps:
            rng = torch.Generator().manual_seed(t)
            rows, losses = torch.randn(3, 7, generator=rng, dtype=torch.float64), torch.ones(3)
            if t % 3:
                rows[t % 2] = losses[t % 2] = 0
            torch.manual_seed(t)
            weights = balancer.update(losses, rows @ rows.T)
        return weights

    balancer, restored = aggregate(name, 3), aggregate(name, 3)
    run(balancer, range(8))
    restored.load_state_dict(balancer.state_dict())
    assert set(balancer.state_dict()["weighting"]) == {"all", "011", "101"}
    assert torch.equal(run(restored, range(8, 15)), run(balancer, range(8, 15)))


@pytest.mark.parametrize("name", LEARNING)
def test_states_of_before_tasks_could_be_left_out_still_load(name):
    balancer, old = LEARNING[name](K), LEARNING[name](K)
    run_on(balancer, 6)
    state = balancer.state_dict()
    state.pop("due", None)
    if "adam" in state:  # one tensor for all tasks
        parts = state["adam"]["state"]
        whole = {key: torch.cat([parts[i][key] for i in range(K)]) for key in ("exp_avg", "exp_avg_sq")}
        state["adam"] = {
            "state": {0: whole | {"step": parts[0]["step"]}},
            "param_groups": [state["adam"]["param_groups"][0] | {"params": [0]}],
        }
    if "steps" in state:
        state["steps"] = int(state["steps"][0])
    old.load_state_dict(state)
    assert torch.equal(run_on(old, 6, offset=6), run_on(balancer, 6, offset=6))
    fresh = DynamicWeightAverage(K)
    fresh.load_state_dict({"weights": torch.ones(K), "sum": torch.zeros(K), "steps": 0, "last": None})
    assert torch.equal(run_on(fresh, 9), run_on(DynamicWeightAverage(K), 9))


@pytest.mark.parametrize("k", [2, 3, 5, 9])
def test_with_all_labels_gradnorm_is_the_plain_algorithm_to_the_last_bit(k):
    gradnorm, w, first = GradNorm(k, lr=0.01, initial="first"), torch.ones(k).double(), None
    adam = torch.optim.Adam([w], lr=0.01, foreach=False)
    for _ in range(100):
        losses, norms = torch.rand(k).double() + 0.1, 3 * torch.rand(k).double()
        first = losses if first is None else first
        w.grad = (w.abs() * norms - targets(losses, first, w.abs() * norms, 0.5)).sign() * w.sign() * norms
        adam.step()
        w.mul_(k / w.sum())
        assert torch.equal(gradnorm.step(losses, norms), w)


# Numbers that are not finite


def overflow(make, init_scale=2.0**16, steps=14, wide=30):
    "Weights after each step of a training in half precision that overflows at first, and whether the step counted."
    seed_everything(2)
    layer, heads = nn.Linear(4, 8), nn.ModuleList(nn.Linear(8, 1) for _ in range(2))
    with torch.no_grad():
        heads[1].weight.mul_(wide)
    scaler, balancer, log = torch.amp.GradScaler("cpu", init_scale=init_scale), make(2), []
    optimiser = torch.optim.SGD([*layer.parameters(), *heads.parameters()], lr=1e-4)
    for t in range(steps):
        optimiser.zero_grad()
        before, network = repr(balancer.state_dict()), layer.weight.detach().clone()
        with torch.autocast("cpu", torch.float16):
            fan = fan_out(layer(torch.randn(16, 4)).relu(), 2)
            losses = [(head(h).float() - 1).square().mean() for head, h in zip(heads, fan, strict=True)]
        found = backward(losses, fan, balancer, layer.weight, t == 0, run=lambda total: scaler.scale(total).backward())
        scaler.step(optimiser)
        scaler.update()
        log.append((found["finite"], repr(balancer.state_dict()) == before, torch.equal(layer.weight, network)))
    return log, balancer


@pytest.mark.parametrize("name", ["gradnorm epoch", "gradnorm ema", *GRAMIAN])
def test_an_overflow_skips_the_update_as_it_skips_the_optimisers_step(name):
    log, balancer = overflow(EVERY[name])
    counted, unchanged, still = map(list, zip(*log, strict=True))
    assert counted[0] is False and counted[-1] is True
    for was_counted, is_unchanged, is_still in log:
        if not was_counted:
            assert is_unchanged and is_still
    if name == "gradnorm epoch":  # the epoch began at the first step that counted
        assert not unchanged[counted.index(True)] and (balancer.state_dict()["initial"] > 0).all()


def test_gradients_are_seen_without_the_scalers_factor():
    expected = [overflow(gradnorm, scale, 4, wide=1)[1].weights for gradnorm in [GradNorm] for scale in (1.0, 1024.0)]
    torch.testing.assert_close(*expected)


@pytest.mark.parametrize("name", [*LEARNING, *GRAMIAN])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_an_error_without_a_scaler(name, bad):
    net, (x, ys) = Net(), data()
    fan = fan_out(net.shared(x), K)
    with pytest.raises(ParamsError, match=r"losses: expected finite numbers.*\(task .*1"):
        backward(losses_of(net, fan, ys) * torch.tensor([1, bad, 1]), fan, EVERY[name](K), net.W)


def test_a_scaler_is_not_waited_for_without_end():
    balancer = Uncertainty(K)

    def step(factor=math.nan):
        net, (x, ys) = Net("linear"), data()
        fan = fan_out(net.shared(x), K)
        return backward(losses_of(net, fan, ys) * factor, fan, balancer, net.W, run=lambda total: total.backward())

    assert not any(step()["finite"] for _ in range(60)) and step(1)["finite"]
    with pytest.raises(ParamsError, match="101 steps in a row"):
        for _ in range(101):
            step()
    assert (balancer.weights - 1).abs().max() < 0.01


# On a GPU, the update is made when the weights are asked for


@pytest.fixture
def behind(monkeypatch):
    "Losses are taken to be on a device that is given work ahead."
    monkeypatch.setattr(balance, "_runs_behind", lambda losses: True)
    monkeypatch.setattr(balance, "_sent_to", lambda weights, like: weights.to(like))


def weights_of_steps(balancer, n=12):
    "Weights of each step, and the state in the end."
    net, log = Net(), []
    for t in range(n):
        x, ys = data()
        fan = fan_out(net.shared(x), K)
        log.append(backward(losses_of(net, fan, ys), fan, balancer, net.W, t % 4 == 0)["weights"])
    return torch.stack(log), balancer.state_dict()


@pytest.mark.parametrize("name", [*LEARNING, *GRAMIAN])
def test_an_update_made_later_gives_the_same_weights(name, monkeypatch, request):
    seed_everything(3)
    expected, state = weights_of_steps(EVERY[name](K))
    request.getfixturevalue("behind")
    seed_everything(3)
    found, later = weights_of_steps(EVERY[name](K))
    assert torch.equal(found, expected) and repr(later) == repr(state)


def test_an_update_waits_until_the_weights_are_asked_for(behind):
    balancer = GradNorm(K, lr=0.1)
    net, (x, ys) = Net(), data()
    fan = fan_out(net.shared(x), K)
    backward(losses_of(net, fan, ys), fan, balancer, net.W)
    assert balancer._later is not None and (balancer._weights == 1).all()
    assert copy.deepcopy(balancer).weights.ne(1).any() and balancer._later is None
    assert balancer.weights.ne(1).any()


@pytest.mark.parametrize("name", ["gradnorm epoch", "uncertainty"])
def test_what_is_not_finite_is_an_error_when_the_weights_are_asked_for(behind, name):
    balancer = EVERY[name](K)
    net, (x, ys) = Net(), data()
    fan = fan_out(net.shared(x), K)
    found = backward(losses_of(net, fan, ys) * torch.tensor([1, math.nan, 1]), fan, balancer, net.W)
    assert not found["finite"]
    with pytest.raises(ParamsError, match=r"losses: expected finite numbers.*\(task .*1"):
        list(balancer.weights)
    assert (balancer.weights == 1).all()  # said once


# Several processes


class Losses(nn.Module):
    "Losses and fan of a batch: what a data-parallel model may wrap."

    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, ys):
        fan = fan_out(self.net.shared(x), K)
        pairs = zip(ANSWERS, self.net.heads(fan), ys, strict=True)
        losses = [task.loss(logits, y, averaged) for task, logits, y in pairs]
        return torch.stack(losses), [fan]


ANSWERS = [classification("a", 5), classification("b", 5, [1, 2, 0.5, 1, 3]), classification("c", 5)]
GAPS = {"all": [range(8)] * 3, "some": [range(8), range(3), range(3, 7)]}  # items with labels for each task


def two_steps(make, labelled, rank=None):
    "Weights, Gramian and gradients after two steps; `rank` takes its half of the batch, in a data-parallel model."
    torch.manual_seed(1)
    net, balancer = Net("linear").double(), make()
    model, items = Losses(net), slice(None)
    if rank is not None:
        model, items = nn.parallel.DistributedDataParallel(model), slice(4 * rank, 4 * rank + 4)
    x, ys = data(dtype=torch.float64)
    for y, known in zip(ys, labelled, strict=True):
        y[[i for i in range(8) if i not in known]] = -1
    for _ in range(2):
        net.zero_grad()
        own = [y[items] for y in ys]
        losses, (fan,) = model(x[items], own)
        log = backward(losses, fan, balancer, net.W, True)
    return [balancer.weights, log["losses"], log.get("gramian", torch.zeros(())), *gradients_of(net)]


BALANCERS = {"gradnorm": partial(GradNorm, K, lr=0.1), "mgda": mgda, "uncertainty": partial(Uncertainty, K, lr=0.1)}
COMBINATIONS = [(name, gaps) for name in BALANCERS for gaps in GAPS]


def run_rank(rank, folder):
    "One of two processes; saves what `two_steps` gives for each balancer."
    import torch.distributed as dist

    meeting = f"file://{folder}/meeting"
    dist.init_process_group("gloo", rank=rank, world_size=2, init_method=meeting, timeout=timedelta(seconds=60))
    try:
        results = {(name, gaps): two_steps(BALANCERS[name], GAPS[gaps], rank) for name, gaps in COMBINATIONS}
        torch.save(results, f"{folder}/{rank}.pt")
    finally:
        dist.destroy_process_group()


@pytest.mark.long
def test_two_processes_agree_with_one(tmp_path):
    other = torch.multiprocessing.get_context("spawn").Process(target=run_rank, args=(1, tmp_path))
    other.start()
    try:
        run_rank(0, tmp_path)
    finally:
        other.join()
    assert other.exitcode == 0
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    for name, gaps in COMBINATIONS:
        assert torch.equal(first[name, gaps][0], second[name, gaps][0])
        assert_close(first[name, gaps], two_steps(BALANCERS[name], GAPS[gaps]))


WRONG = {
    "a head's weight": (lambda shared, heads: heads[0].weight, "does not depend on"),
    "a module": (lambda shared, heads: shared, r"as layer.weight, found the module Linear"),
    "a generator": (lambda shared, heads: shared.parameters(), r"list\(layer.parameters\(\)\), found a generator"),
    "a name": (lambda shared, heads: "shared.weight", "found a str"),
    "names": (lambda shared, heads: ["shared.weight"], "found a str among them"),
    "a head's weight among others": (lambda shared, heads: [shared.weight, heads[0].weight], r"one \[1, 6\] that"),
    "one twice": (lambda shared, heads: [shared.weight, shared.bias, shared.weight], "each tensor once"),
    "nothing": (lambda shared, heads: [], "at least one tensor, found none"),
    "a detached weight": (lambda shared, heads: shared.weight.detach(), r"\[6, 4\] without requires_grad"),
}


@pytest.mark.parametrize("balancer", ["gradnorm_epoch", "mgda"])
@pytest.mark.parametrize("wrong", WRONG)
def test_a_wrong_shared_weight_is_named(wrong, balancer):
    choose, words = WRONG[wrong]
    shared, heads = torch.nn.Linear(4, 6), torch.nn.ModuleList(torch.nn.Linear(6, 1) for _ in range(2))
    fan = fan_out(shared(torch.ones(3, 4)), 2)
    losses = [head(view).square().mean() for head, view in zip(heads, fan, strict=True)]
    with pytest.raises(ParamsError, match=words):
        backward(losses, fan, make_balancer(balancer, 2), choose(shared, heads))


@pytest.mark.parametrize("balancer", ["gradnorm_epoch", "mgda"])
@pytest.mark.parametrize("without", [(0, 1), (1,)])
def test_a_head_that_was_not_given_its_view_is_named(without, balancer):
    shared, heads = torch.nn.Linear(4, 6), torch.nn.ModuleList(torch.nn.Linear(6, 1) for _ in range(2))
    h = shared(torch.ones(3, 4))
    fan = fan_out(h, 2)
    losses = [head(h if k in without else fan[k]).square().mean() for k, head in enumerate(heads)]
    with pytest.raises(ParamsError, match=rf"head {without[0]} to be given its view fan\[{without[0]}\]"):
        backward(losses, fan, make_balancer(balancer, 2), shared.weight)


UNFIT = {
    "a fan that is a list": (lambda losses, h, fan: (losses, [h, h], Equal(2)), "what fan_out gave, found a list"),
    "a balancer's name": (
        lambda losses, h, fan: (losses, fan, "upgrad"),
        r"make_balancer\('equal', 2\), found 'upgrad'",
    ),
    "losses by name": (lambda losses, h, fan: ({"a": losses[0]}, fan, Equal(2)), "a list .*found a dict"),
    "numbers": (lambda losses, h, fan: ([losses[0], 1.0], fan, Equal(2)), r"tensors, found a float \(task 1\)"),
    "a loss per row": (lambda losses, h, fan: ([losses[0].expand(3), losses[1]], fan, Equal(2)), r"\[3\] \(task 0"),
    "detached losses": (lambda losses, h, fan: ([loss.detach() for loss in losses], fan, Equal(2)), "no_grad"),
}


@pytest.mark.parametrize("unfit", UNFIT)
def test_what_backward_cannot_take_is_named_and_changes_nothing(unfit):
    arguments, words = UNFIT[unfit]
    shared, heads = torch.nn.Linear(4, 6), torch.nn.ModuleList(torch.nn.Linear(6, 1) for _ in range(2))
    h = shared(torch.ones(3, 4))
    fan = fan_out(h, 2)
    losses = [head(view).square().mean() for head, view in zip(heads, fan, strict=True)]
    with pytest.raises(ParamsError, match=words):
        backward(*arguments(losses, h, fan))
    assert all(weight.grad is None for weight in [*shared.parameters(), *heads.parameters()])


@pytest.mark.parametrize("balancer", ["gradnorm_epoch", "mgda"])
def test_a_fan_of_a_step_before_is_named(balancer):
    shared, heads = torch.nn.Linear(4, 6), torch.nn.ModuleList(torch.nn.Linear(6, 1) for _ in range(2))
    fan, balancer = fan_out(shared(torch.ones(3, 4)), 2), make_balancer(balancer, 2)
    for again in (False, True):
        losses = [head(view).square().mean() for head, view in zip(heads, fan, strict=True)]
        with pytest.raises(ParamsError, match="a new one in each step") if again else nullcontext():
            backward(losses, fan, balancer, shared.weight)


def test_a_head_without_labels_may_ignore_its_view():
    shared, head = torch.nn.Linear(4, 6), torch.nn.Linear(6, 1)
    fan = fan_out(shared(torch.ones(3, 4)), 2)
    losses = [head(fan[0]).square().mean(), torch.zeros(())]
    assert backward(losses, fan, GradNorm(2), shared.weight)["gramian"][1, 1] == 0
