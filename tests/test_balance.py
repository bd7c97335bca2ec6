"Balancers against their slow definitions, and the fan against separate backward passes."

import copy
import math
import os

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
        return nn.Sequential(
            nn.Conv2d(4, 6, 3), nn.BatchNorm2d(6), nn.ELU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(24, 5)
        )

    def shared(self, x):
        if self.kind == "conv":
            return F.elu(F.max_pool2d(self.layer(x[:, None]), (2, 1)))
        return self.layer(x)[0][:, -1] if self.kind == "lstm" else F.elu(self.layer(x.mean(1)))

    def heads(self, views):
        return [b(h) for b, h in zip(self.branches, views, strict=True)]

    @property
    def W(self):
        return (
            [w for n, w in self.layer.named_parameters() if "weight" in n] if self.kind == "lstm" else self.layer.weight
        )


def data(n=8, k=K, dtype=torch.float32, seed=0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(n, 12, 10, generator=g, dtype=torch.float64).to(dtype), [
        torch.randint(0, 5, (n,), generator=g) for _ in range(k)
    ]


def loss_list(net, views, ys):  # the tasks differ in size, so that their norms do
    return [10.0**i * F.cross_entropy(o, y) / 10 for i, (o, y) in enumerate(zip(net.heads(views), ys, strict=True))]


def losses_of(net, views, ys):
    return torch.stack(loss_list(net, views, ys))


def separate(net, losses):  # K backward passes through everything
    W = net.W if isinstance(net.W, list) else [net.W]
    return torch.stack([torch.cat([g.flatten() for g in torch.autograd.grad(L, W, retain_graph=True)]) for L in losses])


# --- the fan -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["conv", "linear", "lstm"])
def test_fan_catches_what_separate_passes_find_and_changes_nothing(kind):
    net = Net(kind).double()
    x, ys = data(dtype=torch.float64)
    losses = losses_of(net, [net.shared(x)] * K, ys)
    rows = separate(net, losses)
    losses.sum().backward()
    plain = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    fan = fan_out(net.shared(x), K).watch(net.W, keep=True)
    losses_of(net, fan, ys).sum().backward()
    for a, p in zip(plain, net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, a)
    torch.testing.assert_close(fan.shared_gradients(), rows)
    torch.testing.assert_close(gramian(fan.shared_gradients()), rows @ rows.T)
    assert [g.shape for g in fan.gradients()] == [fan[0].shape] * K


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
    assert len(fan) == K and all(v is h for v in fan)
    with pytest.raises(ParamsError, match="frozen"):
        fan.watch(net.W)
    with pytest.raises(ParamsError, match="whole number"):
        fan_out(h, 0)


def test_fan_frees_its_graph_without_the_garbage_collector():
    import gc
    import weakref

    net, (x, _) = Net(), data()
    gc.disable()
    try:
        fan = fan_out(net.shared(x), K).watch(net.W)
        ref = weakref.ref(fan[0])
        del fan
        assert ref() is None  # never went backward
    finally:
        gc.enable()


# --- GradNorm ------------------------------------------------------------------------------------------------------


def train(kind, dtype, step, steps=20, per_epoch=7):
    torch.manual_seed(3)
    net = Net(kind).to(dtype)
    opt = torch.optim.Adam(net.parameters(), 1e-2)
    weights = []
    for t in range(steps):
        x, ys = data(dtype=dtype, seed=t)
        opt.zero_grad()
        weights.append(step(net, x, ys, t % per_epoch == 0))
        opt.step()
    return torch.stack(weights), [p.detach().clone() for p in net.parameters()]


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

    a, p = train("conv", dtype, ours)
    b, q = train("conv", dtype, published)
    assert (a[-1] - 1).abs().max() > 0.1  # the weights did move
    assert (a - b).abs().max() <= 1e-5
    if dtype == torch.float32:
        return  # a bias before a batch norm has no gradient but rounding, which Adam makes large
    for u, v in zip(p, q, strict=True):
        torch.testing.assert_close(u, v, atol=1e-8, rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.15, 0.5, 1.5])
def test_slow_learner_gets_the_larger_target(alpha):
    norms = torch.tensor([0.2, 3.0, 1.0])
    t = targets(torch.tensor([0.9, 0.5, 0.1]), torch.ones(3), norms, alpha)
    assert t[0] > t[1] > t[2]
    torch.testing.assert_close(
        targets(torch.tensor([0.9, 0.5, 0.1]), torch.ones(3), norms, 0.0), norms.mean().expand(3)
    )


@pytest.mark.parametrize("initial", ["epoch", "first", "log_classes", "ema"])
def test_slow_learner_gains_weight_and_the_sum_stays(initial):
    g = GradNorm(2, lr=0.01, initial=initial, n_classes=[8, 8])
    for t in range(40):
        w = g.step([2.0, 2 * 0.9**t], [1.0, 1.0], new_epoch=t == 0)
        assert w.sum().item() == pytest.approx(2)
    assert w[0] > 1.05


def test_initial_losses():
    epochs = [[4.0, 2.0], [3.0, 1.0], [2.0, 1.0]], [[1.0, 0.5], [0.5, 0.25]]
    seen = {}
    for name in ("epoch", "first", "log_classes", "ema"):
        g, seen[name] = GradNorm(2, initial=name, n_classes=(16, 40), decay=0.5), []
        for epoch in epochs:
            for t, L in enumerate(epoch):
                g.step(L, [1.0, 1.0], t == 0)
                seen[name].append(g.state_dict()["initial"].tolist())
    assert seen["epoch"] == [[4, 2]] * 3 + [[1, 0.5]] * 2
    assert seen["first"] == [[4, 2]] * 5
    assert seen["log_classes"][0] == pytest.approx([math.log(16), math.log(40)])
    m = [((4 + 3) / 2 + 2) / 2, ((2 + 1) / 2 + 1) / 2]  # the average after the first epoch
    assert seen["ema"] == [[4, 2]] * 3 + [pytest.approx([(m[0] + 1) / 2, (m[1] + 0.5) / 2])] * 2


def test_weights_of_a_step_are_those_before_the_update():
    net, (x, ys) = Net(), data()
    g = GradNorm(K, lr=0.1)
    fan = fan_out(net.shared(x), K)
    log = backward(losses_of(net, fan, ys), fan, g, net.W, True)
    ours = [p.grad.clone() for p in net.parameters()]
    assert log["weights"].tolist() == [1] * K != g.weights.tolist()
    net.zero_grad()
    losses_of(net, [net.shared(x)] * K, ys).sum().backward()
    for a, p in zip(ours, net.parameters(), strict=True):
        torch.testing.assert_close(a, p.grad)


def test_norms_are_unweighted_also_for_negative_and_zero_weights():
    net, (x, ys) = Net().double(), data(dtype=torch.float64)
    rows = separate(net, losses_of(net, [net.shared(x)] * K, ys))
    g = GradNorm(K)
    g._weights.copy_(torch.tensor([-0.5, 0.0, 3.5]))
    fan = fan_out(net.shared(x), K)
    G = backward(losses_of(net, fan, ys), fan, g, net.W)["gramian"]
    expected = rows @ rows.T
    expected[1] = expected[:, 1] = 0
    torch.testing.assert_close(G, expected)
    assert g.weights.isfinite().all() and g.weights.sum().item() == pytest.approx(K)


@pytest.mark.parametrize("name", ["epoch", "first", "ema"])
def test_a_task_without_labels_has_no_initial_loss(name):
    g = GradNorm(2, initial=name, lr=0.01)
    g.step([0.0, 1.0], [0.0, 1.0], True)  # nothing labelled for the first task
    g.step([2.0, 1.0], [1.0, 1.0])
    w = g.step([0.0, 1.0], [0.0, 1.0], True)
    assert w.isfinite().all() and (g.state_dict()["initial"] > 0).all()
    assert GradNorm(2).step([0.0, 0.0], [0.0, 0.0], True).tolist() == [1, 1]


def run_on(balancer, steps, offset=0):
    out = []
    for t in range(offset, offset + steps):
        g = torch.Generator().manual_seed(t)
        rows = torch.randn(K, 7, generator=g, dtype=torch.float64)
        out.append(balancer.update(torch.rand(K, generator=g) + 0.1, rows @ rows.T, t % 4 == 0))
    return torch.stack(out)


def mgda():
    from torchjd.aggregation import MGDAWeighting

    return Aggregate(MGDAWeighting())


@pytest.mark.parametrize(
    "make",
    [
        lambda: Equal(K),
        lambda: Static([1.0, 2.0, 3.0]),
        lambda: DynamicWeightAverage(K),
        lambda: Uncertainty(K, lr=0.1),
        mgda,
        *(
            lambda i=i: GradNorm(K, lr=0.05, initial=i, n_classes=[4, 5, 6])
            for i in ("epoch", "first", "log_classes", "ema")
        ),
    ],
)
def test_a_restored_balancer_goes_on_identically(make, tmp_path):
    a = make()
    run_on(a, 6)
    torch.save(a.state_dict(), tmp_path / "state.pt")
    expected = run_on(a, 9, offset=6)
    b = make()
    b.load_state_dict(torch.load(tmp_path / "state.pt"))
    assert torch.equal(run_on(b, 9, offset=6), expected)


def test_a_saved_state_does_not_change_with_later_steps():
    for b in (GradNorm(K), Uncertainty(K), DynamicWeightAverage(K)):
        run_on(b, 3)
        state = b.state_dict()
        before = copy.deepcopy(state)
        run_on(b, 3)
        assert repr(state) == repr(before)


# --- the others ----------------------------------------------------------------------------------------------------


def test_fixed_weights():
    assert Equal(2).weights.tolist() == [1, 1]
    w = Static([1, 0.5]).weights
    w[0] = 9  # a copy
    assert Static([1, 0.5]).weights.tolist() == [1, 0.5]
    assert Reciprocal([[1.0, 4.0], [3.0, 4.0]]).weights.tolist() == [0.5, 0.25]
    assert Reciprocal([[1.0, 4.0], [3.0, 4.0]], normalize="mean1").weights.mean().item() == 1


def test_uncertainty_is_the_gradient_of_its_objective():
    L, s = torch.tensor([3.0, 0.2, 1.0]), torch.zeros(K, dtype=torch.float64, requires_grad=True)
    adam, u = torch.optim.Adam([s], 0.05), Uncertainty(K, lr=0.05)
    for _ in range(10):
        adam.zero_grad()
        (torch.exp(-s) * L + s).sum().backward()
        adam.step()
        torch.testing.assert_close(u.update(L), torch.exp(-s).detach())


def test_dynamic_weight_average_by_hand():
    d, means = DynamicWeightAverage(2, temperature=0.5), []
    for epoch in range(4):
        rows = torch.rand(3, 2, dtype=torch.float64) + epoch
        for t, L in enumerate(rows):
            w = d.update(L, new_epoch=t == 0)
            expected = 2 * (means[-1] / means[-2] / 0.5).softmax(0) if epoch > 1 else torch.ones(2).double()
            torch.testing.assert_close(w, expected)
        means.append(rows.mean(0))


def test_dynamic_weight_average_is_in_force_from_the_first_batch_of_an_epoch():
    net, (x, ys), d = Net(), data(), DynamicWeightAverage(K)
    for L in ([4.0, 4.0, 4.0], [1.0, 2.0, 4.0]):
        d.update(torch.tensor(L), new_epoch=True)
    fan = fan_out(net.shared(x), K)
    log = backward(losses_of(net, fan, ys), fan, d, new_epoch=True)
    torch.testing.assert_close(log["weights"], K * torch.tensor([0.125, 0.25, 0.5]).double().softmax(0))


@pytest.mark.parametrize(
    "name", [f"{n}Weighting" for n in ("UPGrad", "DualProj", "MGDA", "IMTLG", "AlignedMTL", "PCGrad")]
)
def test_aggregate_equals_torchjds_own_backward(name):
    import torchjd.aggregation as agg
    from torchjd.autojac import jac_to_grad, mtl_backward

    if name in ("UPGradWeighting", "DualProjWeighting"):
        pytest.importorskip("quadprog", reason="needs torchjd[quadprog_projector]")
    net = Net().double()
    x, ys = data(dtype=torch.float64)
    torch.manual_seed(0)  # PCGrad draws an order
    h = net.shared(x)
    mtl_backward(loss_list(net, [h] * K, ys), features=h)
    jac_to_grad(net.layer.parameters(), getattr(agg, name.removesuffix("Weighting"))())
    expected = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    torch.manual_seed(0)
    fan = fan_out(net.shared(x), K)
    log = backward(losses_of(net, fan, ys), fan, Aggregate(getattr(agg, name)()), list(net.layer.parameters()))
    for a, p in zip(expected, net.parameters(), strict=True):
        torch.testing.assert_close(p.grad, a, atol=1e-7, rtol=1e-5)
    assert log["total"].item() == pytest.approx((log["weights"] * log["losses"]).sum().item())


@pytest.mark.parametrize("make", [lambda: GradNorm(K), mgda])
def test_loss_scaling_is_taken_out(make):
    net, (x, ys) = Net(), data()
    logs = []
    for scale in (1.0, 1024.0):
        net.zero_grad()
        fan = fan_out(net.shared(x), K)
        logs.append(backward(losses_of(net, fan, ys), fan, make(), net.W, run=lambda t, s=scale: (t * s).backward()))
    for key in ("gramian", "weights", "total"):
        torch.testing.assert_close(logs[0][key], logs[1][key])


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
    for args, message in wrong:
        with pytest.raises(ParamsError, match=message):
            backward(*args)


# --- several processes ---------------------------------------------------------------------------------------------


def _rank(rank, port, folder):
    import torch.distributed as dist

    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=2)
    out = {}
    for name, balancer in (("gradnorm", GradNorm(K, lr=0.1)), ("mgda", mgda())):
        torch.manual_seed(1)
        net = Net("linear").double()
        model = nn.parallel.DistributedDataParallel(_Losses(net))
        x, ys = data(dtype=torch.float64)
        half = slice(4 * rank, 4 * rank + 4)
        for _ in range(2):
            net.zero_grad()
            losses, fan = model(x[half], [y[half] for y in ys])
            log = backward(losses, fan[0], balancer, net.W, True)
        out[name] = dict(
            weights=balancer.weights, gramian=log["gramian"], grads=[p.grad.clone() for p in net.parameters()]
        )
    torch.save(out, os.path.join(folder, f"{rank}.pt"))
    dist.destroy_process_group()


class _Losses(nn.Module):
    def __init__(self, net):
        super().__init__()
        self.net = net

    def forward(self, x, ys):
        fan = fan_out(self.net.shared(x), K)
        return losses_of(self.net, fan, ys), [fan]


def test_two_processes_agree_with_one(tmp_path):
    import socket

    import torch.multiprocessing as mp

    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    mp.spawn(_rank, (port, str(tmp_path)), nprocs=2)
    a, b = (torch.load(tmp_path / f"{r}.pt") for r in (0, 1))
    for name, balancer in (("gradnorm", GradNorm(K, lr=0.1)), ("mgda", mgda())):
        torch.manual_seed(1)
        net = Net("linear").double()
        x, ys = data(dtype=torch.float64)
        for _ in range(2):
            net.zero_grad()
            fan = fan_out(net.shared(x), K)
            log = backward(losses_of(net, fan, ys), fan, balancer, net.W, True)
        assert torch.equal(a[name]["weights"], b[name]["weights"])
        torch.testing.assert_close(a[name]["weights"], balancer.weights)
        torch.testing.assert_close(a[name]["gramian"], log["gramian"])
        for u, p in zip(a[name]["grads"], net.parameters(), strict=True):
            torch.testing.assert_close(u, p.grad)
